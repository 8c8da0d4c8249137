/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Puts samples and process events, which come through different rings, into one order of time. */
#ifndef APERTURE_AGENT_BATCH_H
#define APERTURE_AGENT_BATCH_H

#include "abi/record.h"
#include "agent/sideband.h"

#include <stddef.h>
#include <stdint.h>

/* Most bytes of samples, and of process events, held at once; what does not fit waits in its ring or is
 * counted. */
#define AP_BATCH_SAMPLES_SZ (8u << 20)
#define AP_BATCH_EVENTS_SZ  (64u << 20)

struct ap_batch; /* opaque */

/* NULL when out of memory. */
struct ap_batch *ap_batch_new(void);
/* Accepts NULL. Returns NULL. */
struct ap_batch *ap_batch_free(struct ap_batch *batch);

/* Copies a checked record in. 0, or -ENOSPC: play the batch first. */
int ap_batch_add_sample(struct ap_batch *batch, const void *record, size_t len);

/* Copies an event in. 0, -ENOSPC or -ENOMEM: it is lost. */
int ap_batch_add_event(struct ap_batch *batch, const struct ap_process_event *event);

typedef void (*ap_batch_sample_fn)(void *ctx, const struct ap_record *record);
typedef void (*ap_batch_event_fn)(void *ctx, const struct ap_process_event *event);

/* Hands everything over in order of time (events before samples of the same instant) and empties the batch.
 */
void ap_batch_play(struct ap_batch *batch, ap_batch_sample_fn on_sample, ap_batch_event_fn on_event, void *ctx);

#endif
