/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: what one batch becomes in the tables. Text points into the batch, which the rows own. */
#ifndef APERTURE_STORAGE_ROWS_H
#define APERTURE_STORAGE_ROWS_H

#include "storage/storage.h"

/* A stored stack has its thread name as outermost frame (AP_FRAME_PROCESS), so that sums by stack are sums by thread
 * name too: call trees need no other key.
 *
 * Identities (DESIGN 5): a frame's is xxh3-64 over kind, flags, line, offset, and the lengths and xxh3-64 of function,
 * file, and module with build id; a stack's over the frames' from leaf to thread name and the truncation mark; a
 * series' over the lengths and bytes of its sorted labels. 64 bits: with 10 million stacks two collide with a chance of
 * 3 in a million. */
struct ap_row_frame {
    uint64_t hash, offset;
    uint32_t line;
    uint8_t kind, flags; /* enum ap_frame_kind; AP_ROW_INLINED | AP_ROW_WAKER */
    uint8_t build_id_len;
    uint8_t build_id[AP_BUILD_ID_MAX];
    const char *function, *file, *module;
};
#define AP_ROW_INLINED 1
#define AP_ROW_WAKER   2

struct ap_row_stack {
    uint64_t hash;
    uint32_t first, cnt; /* in ap_rows.stack_frames: hashes, leaf first, thread name last */
    bool truncated;
};

struct ap_row_label {
    const char *name, *value;
};

/* Labels of a series: those of the batch, agent, and pid, comm, exe, container where they are not empty. By name. */
struct ap_row_series {
    uint64_t hash;
    uint32_t first, cnt; /* in ap_rows.labels */
    uint64_t coarse;     /* identity of the same set without pid, also among `series`: what roll-ups have */
};

struct ap_row_sample {
    uint64_t series, stack, count, value;
    uint32_t series_row, stack_row; /* the same two in ap_rows.series and stacks */
    uint32_t t_s;                   /* seconds since the epoch */
    uint8_t slot;                   /* of AP_PUSH_SLOT_NS within that second */
    uint8_t kind;                   /* enum ap_event_kind */
};

struct ap_rows {
    struct ap_push *push; /* owned; locks, system calls and accounts are read from it */
    void *payload;        /* owned */
    size_t payload_sz;
    uint64_t received_ns;

    struct ap_row_sample *samples; /* of all kinds; by kind, series, time, stack */
    size_t sample_cnt;
    struct ap_row_stack *stacks; /* each once, by hash */
    uint64_t *stack_frames;
    size_t stack_cnt, stack_frame_cnt;
    struct ap_row_frame *frames; /* each once, by hash */
    size_t frame_cnt;
    struct ap_row_series *series; /* each once, by hash */
    struct ap_row_label *labels;
    size_t series_cnt, label_cnt;
    char *text; /* owned: what had to be written anew (numbers of processes) */

    /* Of the batch's profiles, by index of their series: identity. */
    uint64_t *series_hash[AP_CAPTURE_PROFILES_MAX];
    /* Of the batch's profiles, by row of their lock or system call table: identity of the row's series, which is among
     * `series`: the batch's labels, agent, pid and comm of the row, and exe and container of the profile's first series
     * of that pid (none for pid 0). Labels of such tables are matched against it. */
    uint64_t *table_series[AP_CAPTURE_PROFILES_MAX];
    /* The batch's own labels and agent, also among `series`: what its account and the batch itself are matched by. */
    uint64_t batch_series;
    uint64_t *frame_hash[AP_CAPTURE_PROFILES_MAX]; /* private to rows.c: of lock profiles, by frame */
};

/* When things are: a sample at its slot; tables of locks and system calls, accounts and batches at the batch's start
 * (ap_push.start_ns). They are in a range [from, to) when that moment is. */

/* The series of a row, by its identity; NULL when it is not of this batch. */
const struct ap_row_series *ap_rows_series(const struct ap_rows *rows, uint64_t hash);
/* The stack, likewise; `stacks`, `series` and `frames` are ordered by hash. */
const struct ap_row_stack *ap_rows_stack(const struct ap_rows *rows, uint64_t hash);
const struct ap_row_frame *ap_rows_frame(const struct ap_rows *rows, uint64_t hash);

/* Identity of a profile's stack under the thread name of a series; 0 when `stack` is AP_LOCK_NO_STACK. It is
 * among ap_rows.stacks when a sample or a lock's side has it. */
uint64_t ap_rows_stack_hash(const struct ap_rows *rows, unsigned profile, uint32_t series, uint32_t stack);

#endif
