/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The newest batches, in memory, bounded by bytes: for Query and live views, and for questions while nothing is stored
 * yet. A batch is what came (compressed) and a row that sums it up. */
#ifndef APERTURE_AGGREGATOR_RING_H
#define APERTURE_AGGREGATOR_RING_H

#include "core/error.h"
#include "model/answer.h"
#include "model/push.h"
#include "model/selector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most batches, however small; and most rows of one answer. */
#define AP_RING_BATCHES_MAX (1u << 20)
#define AP_RING_LIMIT       100
#define AP_RING_LIMIT_MAX   10000

struct ap_ring; /* opaque; any thread */

/* Holds batches of at most `max_sz` bytes together, with what sums them up. NULL when out of memory. */
struct ap_ring *ap_ring_new(uint64_t max_sz);
/* Accepts NULL. Returns NULL. */
struct ap_ring *ap_ring_free(struct ap_ring *ring);

/* One batch, shared between the ring and those who put it in or read it. */
struct ap_ring_batch; /* opaque; never changes */
/* What is kept of `push` and the bytes that it came as, both copied. NULL when out of memory. */
struct ap_ring_batch *ap_ring_batch_new(const struct ap_push *push, const void *payload, size_t payload_sz,
                                        uint64_t received_ns);
/* Accepts NULL. Returns NULL. */
struct ap_ring_batch *ap_ring_batch_unref(struct ap_ring_batch *batch);
const struct ap_batch_row *ap_ring_batch_row(const struct ap_ring_batch *batch);
const void *ap_ring_batch_payload(const struct ap_ring_batch *batch, size_t *ret_sz);
/* Bytes that are equal for equal (agent, epoch, sequence); the batch's. */
const void *ap_ring_batch_key(const struct ap_ring_batch *batch, size_t *ret_len);

/* Adds the batch (the caller keeps its own reference); the oldest make room. False when it is there already, larger
 * than the ring, or memory is short: the last two are counted as dropped. */
bool ap_ring_add(struct ap_ring *ring, struct ap_ring_batch *batch);
/* Whether that batch is there. */
bool ap_ring_has(struct ap_ring *ring, const char *agent_id, uint64_t epoch, uint64_t sequence);

/* Rows of the batches that the selector matches, newest first; `limit` 0 = AP_RING_LIMIT. A batch matches by time,
 * kind, `agent` and its own labels. 0; -EINVAL for what a batch has no single value of (pid, comm, exe, container,
 * function) and for expressions that cannot be compiled; -E2BIG (limit); -ENOMEM; with words. */
int ap_ring_query(struct ap_ring *ring, const struct ap_selector *selector, size_t limit,
                  struct ap_batches_answer *ret_answer, struct ap_error *err);

/* References to the batches that overlap [from, to) and hold `kind` (0 = any), newest first, at most `max`; the caller
 * gives each back and frees the array. 0 or -ENOMEM. */
int ap_ring_batches(struct ap_ring *ring, uint8_t kind, uint64_t from_ns, uint64_t to_ns, size_t max,
                    struct ap_ring_batch ***ret_batches, size_t *ret_cnt);

struct ap_ring_stats {
    uint64_t batches, bytes, max_bytes; /* now */
    uint64_t added, dropped;            /* since the start */
};
void ap_ring_stats(struct ap_ring *ring, struct ap_ring_stats *ret_stats);

#endif
