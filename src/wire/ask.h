/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Questions and answers of proto/aperture/v1/aggregator.proto as bytes. Encoders append to `ret` and return 0 or
 * -ENOMEM; decoders check everything: 0, -EINVAL, -E2BIG or -ENOMEM with words, and what they fill in is the caller's
 * to free. */
#ifndef APERTURE_WIRE_ASK_H
#define APERTURE_WIRE_ASK_H

#include "core/buf.h"
#include "core/error.h"
#include "model/answer.h"
#include "model/selector.h"

#include <stddef.h>
#include <stdint.h>

/* Of Query, QueryStorage and Aggregate (max_nodes is of the last). */
struct ap_ask {
    struct ap_selector selector;
    uint32_t limit, max_nodes;
};
struct ap_ask_diff {
    struct ap_selector before, after;
    uint32_t limit;
};
void ap_ask_done(struct ap_ask *ask);
void ap_ask_diff_done(struct ap_ask_diff *ask);

/* The three requests have the same fields with the same numbers (max_nodes: 3). */
int ap_wire_ask_encode(const struct ap_ask *ask, struct ap_buf *ret);
int ap_wire_ask_decode(const void *data, size_t len, struct ap_ask *ret, struct ap_error *err);
int ap_wire_ask_diff_encode(const struct ap_ask_diff *ask, struct ap_buf *ret);
int ap_wire_ask_diff_decode(const void *data, size_t len, struct ap_ask_diff *ret, struct ap_error *err);

int ap_wire_batches_encode(const struct ap_batches_answer *answer, struct ap_buf *ret);
int ap_wire_batches_decode(const void *data, size_t len, struct ap_batches_answer *ret, struct ap_error *err);
int ap_wire_stacks_encode(const struct ap_stacks_answer *answer, struct ap_buf *ret);
int ap_wire_stacks_decode(const void *data, size_t len, struct ap_stacks_answer *ret, struct ap_error *err);
int ap_wire_aggregate_encode(const struct ap_aggregate_answer *answer, struct ap_buf *ret);
int ap_wire_aggregate_decode(const void *data, size_t len, struct ap_aggregate_answer *ret, struct ap_error *err);
int ap_wire_diff_encode(const struct ap_diff_answer *answer, struct ap_buf *ret);
int ap_wire_diff_decode(const void *data, size_t len, struct ap_diff_answer *ret, struct ap_error *err);

#endif
