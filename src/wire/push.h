/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches as bytes: proto/aperture/v1/batch.proto in a zstd frame. */
#ifndef APERTURE_WIRE_PUSH_H
#define APERTURE_WIRE_PUSH_H

#include "core/buf.h"
#include "core/error.h"
#include "model/push.h"

#include <stddef.h>
#include <stdint.h>

/* Limits of what is taken: compressed, and unpacked (stated by the frame and held to while unpacking). Tables are bound
 * by model/profile.h. */
#define AP_WIRE_BATCH_SZ    (32u << 20)
#define AP_WIRE_UNPACKED_SZ (256u << 20)

/* Appends the batch (compressed) to `ret`. The push's numbers (agent_id, epoch, sequence) are not in it: they are in
 * the request around it. 0, -E2BIG (past a limit above; the caller splits or drops it), -ENOMEM; with words. */
int ap_wire_batch_encode(const struct ap_push *push, struct ap_buf *ret, struct ap_error *err);
/* A batch from outside: everything in it is checked. The caller's, without its numbers; NULL with words: -EINVAL
 * (malformed: what and where), -E2BIG (past a limit), -ENOMEM. Any thread. */
struct ap_push *ap_wire_batch_decode(const void *data, size_t len, struct ap_error *err);

/* The request around it. `batch` is appended as it is. 0, -ENOMEM. */
int ap_wire_push_request_encode(const char *agent_id, uint64_t epoch, uint64_t sequence, const void *batch,
                                size_t batch_len, struct ap_buf *ret);
struct ap_wire_push_request {
    char agent_id[AP_PUSH_AGENT_ID_SZ];
    uint64_t epoch, sequence;
    const void *batch; /* into the decoded bytes */
    size_t batch_len;
};
/* 0 or -EINVAL with words (also: an agent id or numbers that cannot be). */
int ap_wire_push_request_decode(const void *data, size_t len, struct ap_wire_push_request *ret, struct ap_error *err);

struct ap_wire_push_response {
    bool duplicate;
    uint32_t pause_ms;
};
int ap_wire_push_response_encode(const struct ap_wire_push_response *response, struct ap_buf *ret);
int ap_wire_push_response_decode(const void *data, size_t len, struct ap_wire_push_response *ret, struct ap_error *err);

#endif
