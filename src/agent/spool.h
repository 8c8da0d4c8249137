/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches on their way to the aggregator, kept on disk until they are acknowledged: one file each, named by epoch and
 * sequence, so that they are sent in order, also after a restart of the agent or a reboot. */
#ifndef APERTURE_AGENT_SPOOL_H
#define APERTURE_AGENT_SPOOL_H

#include "core/buf.h"
#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

/* Most batches waiting; with --spool-size whatever is reached first. */
#define AP_SPOOL_BATCHES_MAX 65536

struct ap_spool; /* opaque; any thread */

/* What names a waiting batch. */
struct ap_spool_id {
    uint64_t epoch, sequence;
};

struct ap_spool_stats {
    uint64_t batches, bytes;                  /* waiting */
    uint64_t dropped_batches, dropped_events; /* given up: the spool was full, or the server refused them for ever */
    uint64_t dropped_full, dropped_refused, dropped_damaged; /* of dropped_batches, by reason */
};

/* Opens `dir`, made when it is missing (mode 0700), and takes over what an earlier run left there. One spool has one
 * process: -EBUSY. Damaged files are removed and counted. `max_sz`: bytes. The epoch of new batches is `now_ns` (since
 * the clock's epoch), or one more than the newest found. NULL with words that name the directory. */
struct ap_spool *ap_spool_open(const char *dir, uint64_t max_sz, uint64_t now_ns, struct ap_error *err);
/* What waits stays on disk. Accepts NULL. Returns NULL. */
struct ap_spool *ap_spool_close(struct ap_spool *spool);

/* Adds a batch (copied) that holds `events` events, behind all others; the oldest go when there is no room. 0 with its
 * id, -E2BIG (larger than the whole spool: dropped and counted), or the disk's negative errno (likewise). */
int ap_spool_add(struct ap_spool *spool, const void *data, size_t len, uint64_t events, struct ap_spool_id *ret_id);

/* Reads the oldest batch into `ret_data` (emptied first). 0, -ENOENT (nothing waits), -ENOMEM. A batch that turns out
 * damaged is dropped, counted, and the next one is tried. */
int ap_spool_oldest(struct ap_spool *spool, struct ap_spool_id *ret_id, struct ap_buf *ret_data);
/* The batch was acknowledged. Unknown ids are ignored: it may have been dropped meanwhile. */
void ap_spool_remove(struct ap_spool *spool, const struct ap_spool_id *id);
/* The server will never take it: dropped and counted. */
void ap_spool_refuse(struct ap_spool *spool, const struct ap_spool_id *id);
/* Makes what waits survive a loss of power; cheap when that was done. */
void ap_spool_sync(struct ap_spool *spool);

void ap_spool_stats(struct ap_spool *spool, struct ap_spool_stats *ret_stats);
const char *ap_spool_dir(const struct ap_spool *spool);

#endif
