/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* From batches that have been read to batches that are stored: a bounded queue and one thread that commits what has
 * gathered. A batch is answered after the commit that holds it. While storage is away nothing is taken; it is tried
 * again, less and less often, until it answers. */
#ifndef APERTURE_AGGREGATOR_INGEST_H
#define APERTURE_AGGREGATOR_INGEST_H

#include "aggregator/metrics.h"
#include "aggregator/ring.h"
#include "core/error.h"
#include "storage/storage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most batches that wait, however small. */
#define AP_INGEST_BATCHES_MAX 65536
/* A queue that holds as many rows does not wait for the interval between commits. */
#define AP_INGEST_EAGER_ROWS 100000
/* Small commits begin at least twice as far apart as the last one took, up to this. */
#define AP_INGEST_INTERVAL_MAX_NS 500000000ULL
/* Between attempts while storage is away; doubled from one to the next. */
#define AP_INGEST_BACKOFF_MIN_NS 100000000ULL
#define AP_INGEST_BACKOFF_MAX_NS 5000000000ULL
/* How often an idle aggregator asks whether storage is still there. */
#define AP_INGEST_PROBE_NS 5000000000ULL
/* With less room than this on its disk storage is away before a commit fails half way: merges need room too. */
#define AP_INGEST_DISK_FREE_MIN (16ULL << 20)
/* Longest pause that a sender is asked for, when the queue is full. */
#define AP_INGEST_PAUSE_MAX_MS 2000

struct ap_ingest; /* opaque; any thread */

struct ap_ingest_opts {
    struct ap_storage *storage; /* borrowed */
    struct ap_ring *ring;       /* borrowed; gets what was stored, and what could not be */
    struct ap_metrics *metrics; /* borrowed */
    const char *disk;           /* borrowed; a folder on the disk that storage writes to, NULL = none */
    uint64_t queue_sz;          /* most bytes of batches that wait */
    uint64_t interval_ns;       /* small commits begin at least this far apart: each becomes files on a disk */
    void (*on_ready)(void *ctx, bool ready); /* may be NULL; storage went away or came back. Not called concurrently */
    void *ctx;
};

/* Starts the thread. NULL with words. */
struct ap_ingest *ap_ingest_new(const struct ap_ingest_opts *opts, struct ap_error *err);
/* Stops without a deadline when that was not done. Accepts NULL. Returns NULL. */
struct ap_ingest *ap_ingest_free(struct ap_ingest *ingest);

/* A batch and whoever waits for it. */
struct ap_ingest_item {
    struct ap_rows *rows;        /* owned once submitted */
    struct ap_ring_batch *batch; /* likewise */
    struct ap_account account;   /* of all its kinds, for the counters */
    void *ctx;
    /* Called once, on the committing thread: 0 (stored, or there before), -ECANCELED, -ESHUTDOWN, or what the commit
     * said, with words. */
    void (*done)(void *ctx, int rc, bool duplicate, const char *words);
    bool (*cancelled)(void *ctx); /* may be NULL; asked before the commit: nobody waits any more */
};

/* Whether a batch of `sz` bytes would be taken now: 0, or as ap_ingest_submit(). To ask before it is decoded. */
int ap_ingest_admit(struct ap_ingest *ingest, size_t sz, struct ap_error *err);
/* Queues a batch. 0: done() will be called. Else nothing was taken over: -EBUSY (the queue is full), -EAGAIN or -ENOSPC
 * (storage is away: what it said), -ESHUTDOWN, -ENOMEM; with words. */
int ap_ingest_submit(struct ap_ingest *ingest, const struct ap_ingest_item *item, struct ap_error *err);

/* How long a sender should wait before its next batch, by how full the queue is: 0 up to half. */
uint32_t ap_ingest_pause_ms(struct ap_ingest *ingest);
/* 0, or why storage does not answer (with words). */
int ap_ingest_ready(struct ap_ingest *ingest, struct ap_error *err);
/* True once anything was committed. */
bool ap_ingest_has_stored(struct ap_ingest *ingest);

/* Takes nothing more, commits what waits, ends the thread. False when that was not done by `deadline_ns` (monotonic):
 * then the object must not be freed. */
bool ap_ingest_stop(struct ap_ingest *ingest, uint64_t deadline_ns);

struct ap_ingest_stats {
    uint64_t batches, bytes, rows;     /* waiting or being committed */
    uint64_t max_batches, max_bytes;   /* bounds of them */
    uint64_t stored_batches, away_cnt; /* since the start: stored; times that storage went away */
    bool ready;
};
void ap_ingest_stats(struct ap_ingest *ingest, struct ap_ingest_stats *ret_stats);

#endif
