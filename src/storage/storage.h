/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Where profiles are kept: one interface, three implementations (memory, chDB in this process, a ClickHouse server)
 * that give the same answers. Above it nobody writes SQL; below it nobody knows of gRPC or HTTP.
 *
 * Any number of threads may ask; commits come from one thread at a time. */
#ifndef APERTURE_STORAGE_STORAGE_H
#define APERTURE_STORAGE_STORAGE_H

#include "core/error.h"
#include "model/answer.h"
#include "model/push.h"
#include "model/selector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ap_storage_kind {
    AP_STORAGE_MEMORY = 0,
    AP_STORAGE_CHDB = 1,
    AP_STORAGE_CLICKHOUSE = 2,
};

struct ap_storage_opts {
    enum ap_storage_kind kind;
    const char *data_dir;     /* chDB: its files; chDB and ClickHouse: the journal of commits */
    const char *chdb_library; /* path of libchdb.so, NULL = beside the program, then as the system finds it */
    const char *endpoint, *database, *user, *password; /* ClickHouse: "http://host:8123", ... */
    uint64_t memory_sz;                                /* memory: most bytes kept; oldest batches go first, counted */
    uint64_t retention_ns[AP_CAPTURE_PROFILES_MAX];    /* of raw rows, by kind; 0 = 7 days */
    uint64_t retention_1m_ns, retention_1h_ns;         /* of roll-ups; 0 = 30 and 400 days */
    /* chDB and ClickHouse: unpacks what the journal kept of a batch (ap_wire_batch_decode: storage knows no wire). */
    struct ap_push *(*decode)(const void *payload, size_t payload_sz, struct ap_error *err);
};

struct ap_storage; /* opaque */

/* Opens and migrates: makes what is missing, refuses what is newer than this program. NULL with words that say what to
 * do. A ClickHouse server that cannot be reached is no error: every call answers -EAGAIN until it can be. */
struct ap_storage *ap_storage_open(const struct ap_storage_opts *opts, struct ap_error *err);
/* Finishes nothing: what was not committed is lost. Accepts NULL. Returns NULL. */
struct ap_storage *ap_storage_free(struct ap_storage *storage);

/* "memory", "chdb", "clickhouse" */
const char *ap_storage_name(const struct ap_storage *storage);
/* 0 when it answers now, else negative errno with words. */
int ap_storage_ready(struct ap_storage *storage, struct ap_error *err);
/* The statements that make the schema, as text for people; `cluster` NULL = one server. 0 or negative errno. */
struct ap_out;
int ap_storage_print_schema(const struct ap_storage_opts *opts, const char *cluster, struct ap_out *out);

/* ---- Commit --------------------------------------------------------------------------------------------------------
 */

/* The rows that a batch becomes: hashes computed, text collected. Made on any thread, without storage. */
struct ap_rows; /* opaque */
/* `push` is taken over on success. `payload`: the batch as it came (compressed), copied: it is what a journal replays.
 * NULL with words: -EINVAL (what the batch says of itself cannot be), -ENOMEM. */
struct ap_rows *ap_rows_new(struct ap_push *push, const void *payload, size_t payload_sz, uint64_t received_ns,
                            struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_rows *ap_rows_free(struct ap_rows *rows);
/* Rows of samples, and bytes of memory, for those who gather groups. */
size_t ap_rows_sample_cnt(const struct ap_rows *rows);
size_t ap_rows_sz(const struct ap_rows *rows);

/* Most sample rows in one commit: they go into one part of the table, so that all of them are there or none is. */
#define AP_COMMIT_ROWS_MAX    500000
#define AP_COMMIT_BATCHES_MAX 4096

/* Stores a group of batches (borrowed). `ret_duplicate`: per batch, whether it was there before (then it is not stored
 * again). 0: all are stored and will be there after a crash. Else nothing may be acknowledged: -EAGAIN (unreachable or
 * slow), -ENOSPC (disk full), -EIO; with words. The caller may come again with the same batches, in any group: each is
 * stored once. */
int ap_storage_commit(struct ap_storage *storage, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate,
                      struct ap_error *err);

/* ---- Ask -----------------------------------------------------------------------------------------------------------
 */

/* Selectors here have their regular expressions resolved (query/scope.h): only AP_MATCH_EQUAL and NOT_EQUAL, or a set
 * of values. `function` is not looked at. */
struct ap_value_set {
    const char *label;
    bool negative;             /* none of the values */
    const char *const *values; /* at most AP_VALUE_SET_MAX */
    size_t value_cnt;
};
#define AP_VALUE_SET_MAX 10000

struct ap_storage_scope {
    uint8_t kind; /* enum ap_event_kind; 0 = every kind where that makes sense */
    uint64_t from_ns, to_ns;
    const struct ap_value_set *sets; /* all must hold */
    size_t set_cnt;
};

/* Answers of all functions below: 0, or -EAGAIN (unreachable), -ETIMEDOUT, -E2BIG (a bound; the words say how to
 * narrow), -EIO, -ENOMEM; with words. Results are the caller's to free. */

/* Sums by stack; from the roll-up that fits a long range when no label needs the raw rows. `source` as in
 * ap_provenance. At most AP_STACK_SUMS_MAX. */
#define AP_STACK_SUMS_MAX (4u << 20)
struct ap_stack_sums {
    uint64_t *stacks, *counts, *values; /* owned; by stack */
    size_t cnt;
    const char *source;
};
void ap_stack_sums_done(struct ap_stack_sums *sums);
int ap_storage_stacks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                      struct ap_error *err);

/* Adds stored stacks to a profile: `ret_stack[i]` and `ret_series[i]` (thread name only) are the rows of `stacks[i]` in
 * it, UINT32_MAX when it is not stored (any more). */
int ap_storage_load_stacks(struct ap_storage *storage, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                           uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);

/* Sums over time, by the values of a label. `step_ns`: a multiple of AP_PUSH_SLOT_NS; buckets begin at multiples of it
 * since the epoch. `label` NULL = one group "". At most AP_POINTS_MAX points; the `group_max` groups with the largest
 * sums, the rest in a group named "(other)". */
#define AP_POINTS_MAX (1u << 20)
struct ap_point {
    uint64_t t_ns; /* beginning of the bucket */
    uint32_t group;
    uint64_t count, value;
};
struct ap_points {
    char **groups; /* owned; by sum, largest first */
    size_t group_cnt;
    struct ap_point *points; /* owned; by group, then time; empty buckets are absent */
    size_t point_cnt;
};
void ap_points_done(struct ap_points *points);
int ap_storage_timeline(struct ap_storage *storage, const struct ap_storage_scope *scope, uint64_t step_ns,
                        const char *label, size_t group_max, struct ap_points *ret_points, struct ap_error *err);

/* Text lists: label names in use, or the values of one (by text). At most `max`, then -E2BIG. */
struct ap_texts {
    char **items; /* owned */
    size_t cnt;
};
void ap_texts_done(struct ap_texts *texts);
int ap_storage_labels(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t max,
                      struct ap_texts *ret_names, struct ap_error *err);
int ap_storage_label_values(struct ap_storage *storage, const struct ap_storage_scope *scope, const char *label,
                            size_t max, struct ap_texts *ret_values, struct ap_error *err);
/* Distinct label sets, each with all its labels. */
struct ap_series_row {
    struct ap_label *labels; /* owned; by name */
    size_t label_cnt;
};
struct ap_series_rows {
    struct ap_series_row *rows; /* owned */
    size_t cnt;
};
void ap_series_rows_done(struct ap_series_rows *rows);
int ap_storage_series(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t max,
                      struct ap_series_rows *ret_rows, struct ap_error *err);

/* Locks, or system calls, merged over the range: by host, process (pid and comm) and lock (symbol, with address 0, or
 * address where it has none) or call. Waits and calls in flight are those of the newest batch. A profile of that kind
 * with its table (sorted), stacks and series; the caller's. */
int ap_storage_locks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                     struct ap_error *err);
int ap_storage_syscalls(struct ap_storage *storage, const struct ap_storage_scope *scope,
                        struct ap_profile **ret_profile, struct ap_error *err);

/* Accounts of the batches in the range and scope->kind, added up (labels other than those of batches are not looked
 * at); how many, and where the newest ends. */
int ap_storage_account(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                       struct ap_error *err);
/* Batches, newest first; agents with their newest state. Label sets over host, service, agent and the agents' own
 * labels. */
int ap_storage_batches(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t limit,
                       struct ap_batches_answer *ret_answer, struct ap_error *err);
int ap_storage_agents(struct ap_storage *storage, const struct ap_storage_scope *scope,
                      struct ap_agents_answer *ret_answer, struct ap_error *err);

/* Numbers for /metrics and the settings page. */
struct ap_storage_stats {
    uint64_t flushes_ok, flushes_failed, rows, flush_ns; /* since the start */
    uint64_t duplicates, dropped_batches;                /* dropped: memory only */
    uint64_t disk_bytes, sample_rows;                    /* now; 0 = not known */
};
void ap_storage_stats(struct ap_storage *storage, struct ap_storage_stats *ret_stats);

#endif
