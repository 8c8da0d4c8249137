/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The ring buffer's batches as a storage of their own, for questions while nothing is stored yet. */
#ifndef APERTURE_AGGREGATOR_REPLAY_H
#define APERTURE_AGGREGATOR_REPLAY_H

#include "aggregator/ring.h"
#include "core/error.h"
#include "storage/storage.h"

#include <stdint.h>

/* Most memory that unpacked batches may take; the newest are taken. */
#define AP_REPLAY_SZ (256ULL << 20)

/* A memory store with the batches that overlap [from, to) and hold `kind` (0 = any). The caller's; NULL with code 0 in
 * `err` when there are none, else NULL with words. */
struct ap_storage *ap_replay(struct ap_ring *ring, uint8_t kind, uint64_t from_ns, uint64_t to_ns,
                             struct ap_error *err);

#endif
