/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: the tables, and the statements that make them on each kind of server. */
#ifndef APERTURE_STORAGE_SCHEMA_H
#define APERTURE_STORAGE_SCHEMA_H

#include "core/out.h"
#include "storage/block.h"
#include "storage/storage.h"

#include <stdbool.h>

/* What a server can do. */
struct ap_sql_features {
    uint32_t version; /* year without century * 100 + release: 1816, 2607 */
    /* From AP_SQL_FULL on: column codecs, TTL by expression, tokens against double inserts into ordinary tables. An
     * older one gets a column `grp` in the tables that are inserted into once, and no roll-ups. */
    bool full;
    bool embedded; /* chDB */
};
#define AP_SQL_FULL 2208

/* Version of the schema; a database with a newer one is refused. */
#define AP_SCHEMA_VERSION 1

enum ap_store_table {
    AP_TABLE_SAMPLES = 0,
    AP_TABLE_SAMPLES_1M = 1,
    AP_TABLE_SAMPLES_1H = 2,
    AP_TABLE_STACKS = 3,
    AP_TABLE_FRAMES = 4,
    AP_TABLE_SERIES = 5,
    AP_TABLE_LOCKS = 6,
    AP_TABLE_SYSCALLS = 7,
    AP_TABLE_BATCHES = 8,
    AP_TABLE_SERIES_1H = 9, /* which series have samples in which hour */
    AP_TABLE_CNT = 10,
};

/* Columns by index, as blocks are filled. */
enum {
    AP_SAMPLES_KIND,
    AP_SAMPLES_SERIES,
    AP_SAMPLES_T,
    AP_SAMPLES_SLOT,
    AP_SAMPLES_STACK,
    AP_SAMPLES_COUNT,
    AP_SAMPLES_VALUE,
    AP_SAMPLES_COLS
};
enum {
    AP_ROLLUP_KIND,
    AP_ROLLUP_SERIES,
    AP_ROLLUP_T,
    AP_ROLLUP_STACK,
    AP_ROLLUP_COUNT,
    AP_ROLLUP_VALUE,
    AP_ROLLUP_COLS
};
enum { AP_STACKS_HASH, AP_STACKS_DAY, AP_STACKS_TRUNCATED, AP_STACKS_FRAMES, AP_STACKS_COLS };
enum {
    AP_FRAMES_HASH,
    AP_FRAMES_DAY,
    AP_FRAMES_KIND,
    AP_FRAMES_FLAGS,
    AP_FRAMES_LINE,
    AP_FRAMES_OFFSET,
    AP_FRAMES_FUNCTION,
    AP_FRAMES_FILE,
    AP_FRAMES_MODULE,
    AP_FRAMES_BUILD_ID,
    AP_FRAMES_COLS
};
enum { AP_SERIES_HASH, AP_SERIES_DAY, AP_SERIES_NAMES, AP_SERIES_TEXTS, AP_SERIES_COLS };
enum {
    AP_LOCKS_T,
    AP_LOCKS_START_NS,
    AP_LOCKS_SERIES,
    AP_LOCKS_HOST,
    AP_LOCKS_PID,
    AP_LOCKS_COMM,
    AP_LOCKS_ADDRESS,
    AP_LOCKS_SYMBOL,
    AP_LOCKS_TYPE,
    AP_LOCKS_KERNEL,
    AP_LOCKS_WAITS,
    AP_LOCKS_TOTAL_NS,
    AP_LOCKS_MAX_NS,
    AP_LOCKS_TIMEOUTS,
    AP_LOCKS_INTERRUPTED,
    AP_LOCKS_RETRIED,
    AP_LOCKS_TIMEOUT_NS,
    AP_LOCKS_INTERRUPTED_NS,
    AP_LOCKS_IN_FLIGHT,
    AP_LOCKS_IN_FLIGHT_NS,
    AP_LOCKS_BUCKETS,
    AP_LOCKS_BUCKET_COUNTS,
    /* sides: role 0 waiters, 1 wakers */
    AP_LOCKS_SIDE_ROLE,
    AP_LOCKS_SIDE_STACK,
    AP_LOCKS_SIDE_COUNT,
    AP_LOCKS_SIDE_TOTAL_NS,
    AP_LOCKS_SIDE_MAX_NS,
    AP_LOCKS_PAIR_WAITER,
    AP_LOCKS_PAIR_WAKER,
    AP_LOCKS_PAIR_COUNT,
    AP_LOCKS_PAIR_TOTAL_NS,
    AP_LOCKS_PAIR_MAX_NS,
    AP_LOCKS_COLS
};
enum {
    AP_SYSCALLS_T,
    AP_SYSCALLS_START_NS,
    AP_SYSCALLS_SERIES,
    AP_SYSCALLS_HOST,
    AP_SYSCALLS_PID,
    AP_SYSCALLS_COMM,
    AP_SYSCALLS_ABI,
    AP_SYSCALLS_NUMBER,
    AP_SYSCALLS_NAME,
    AP_SYSCALLS_COUNT,
    AP_SYSCALLS_TOTAL_NS,
    AP_SYSCALLS_MAX_NS,
    AP_SYSCALLS_IN_FLIGHT,
    AP_SYSCALLS_IN_FLIGHT_MAX_NS,
    AP_SYSCALLS_BUCKETS,
    AP_SYSCALLS_BUCKET_COUNTS,
    AP_SYSCALLS_ERRORS,
    AP_SYSCALLS_ERROR_COUNTS,
    AP_SYSCALLS_COLS
};
enum {
    AP_BATCHES_T,
    AP_BATCHES_AGENT,
    AP_BATCHES_EPOCH,
    AP_BATCHES_SEQUENCE,
    AP_BATCHES_SERIES,
    AP_BATCHES_START_NS,
    AP_BATCHES_DURATION_NS,
    AP_BATCHES_RECEIVED_NS,
    AP_BATCHES_BYTES,
    AP_BATCHES_VERSION,
    AP_BATCHES_HOST,
    AP_BATCHES_KERNEL,
    AP_BATCHES_ARCH,
    AP_BATCHES_EVENT,
    AP_BATCHES_CPUS_ONLINE,
    AP_BATCHES_FREQUENCY,
    AP_BATCHES_CPU_NS,
    AP_BATCHES_OTHER_CPU_NS,
    AP_BATCHES_BPF_RUN_NS,
    AP_BATCHES_BPF_RUN_CNT,
    AP_BATCHES_RSS_PEAK,
    AP_BATCHES_BPF_MEMORY,
    AP_BATCHES_SPOOL_BYTES,
    AP_BATCHES_SPOOL_DROPPED_BATCHES,
    AP_BATCHES_SPOOL_DROPPED_EVENTS,
    AP_BATCHES_LEFT_KINDS,
    AP_BATCHES_LEFT_REASONS,
    AP_BATCHES_KINDS,
    AP_BATCHES_EVENTS,
    AP_BATCHES_TOTALS,
    AP_BATCHES_EXPECTED,
    AP_BATCHES_DELIVERED,
    AP_BATCHES_LOSSES,
    AP_BATCHES_IDLE,
    AP_BATCHES_OUT_OF_SCOPE,
    AP_BATCHES_BELOW_MIN,
    AP_BATCHES_BELOW_MIN_NS,
    AP_BATCHES_FOLDED,
    AP_BATCHES_UNMATCHED,
    AP_BATCHES_COLS
};

enum { AP_SERIES_1H_KIND, AP_SERIES_1H_T, AP_SERIES_1H_SERIES, AP_SERIES_1H_COLS };

struct ap_table_def {
    const char *name;
    const struct ap_col_def *cols;
    size_t col_cnt;     /* without `grp` */
    const char *engine; /* MergeTree family, with arguments */
    const char *day;    /* expression of the partition */
    const char *order_by;
    const char *shard; /* expression: which shard of a cluster a row lives on */
    bool once;         /* rows must not be inserted twice (the others replace themselves) */
    bool full_only;    /* a roll-up */
};
const struct ap_table_def *ap_table_def(enum ap_store_table table);

/* Starts a block for the table. With `grp` on servers that need it, as last column. */
void ap_table_block_init(struct ap_block *block, enum ap_store_table table, const struct ap_sql_features *features);

/* True when `name` may stand for a database or cluster in SQL: 1..64 of [A-Za-z0-9_], no digit first. */
bool ap_sql_name_valid(const char *name);

/* How the tables are spread: NULL = on the server asked. */
struct ap_schema_place {
    const char *database, *cluster;
};
/* The statements of this version, in order; `i` counts up from 0 until false. Appended to `ret`. */
bool ap_schema_statement(const struct ap_schema_place *place, const struct ap_sql_features *features,
                         const struct ap_storage_opts *opts, unsigned i, struct ap_buf *ret);
/* How long samples of a kind are kept, seconds; of kind 0 the longest of all. */
uint64_t ap_schema_raw_retention_s(const struct ap_storage_opts *opts, uint8_t kind);
/* Appends the expression of a table's TTL. */
void ap_schema_ttl_text(const struct ap_storage_opts *opts, enum ap_store_table table, struct ap_buf *ret);
/* Longest time that a table keeps rows, seconds. */
uint64_t ap_schema_retention_s(const struct ap_storage_opts *opts, enum ap_store_table table);

#endif
