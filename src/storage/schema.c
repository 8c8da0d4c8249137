/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/schema.h"

#include "core/clock.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#define DAY_S             UINT64_C(86400)
#define DAY_NS            (DAY_S * AP_NS_PER_SEC)
#define RAW_DEFAULT_NS    (7 * DAY_NS)
#define MINUTE_DEFAULT_NS (30 * DAY_NS)
#define HOUR_DEFAULT_NS   (400 * DAY_NS)

#define T    "DateTime('UTC')"
#define ZSTD "ZSTD(1)"
/* Numbers that mostly need few of their bits: a quarter of the bytes, and read five times as fast. */
#define T64_ZSTD "T64, ZSTD(1)"

/* Stored by hour and stack: neighbours agree in everything but series, time and slot, which are narrow. See
 * docs/storage.md for the layouts that were measured. */
static const struct ap_col_def samples[AP_SAMPLES_COLS] = {
    {"kind", AP_COL_U8, NULL, ZSTD},   {"series", AP_COL_U64, NULL, ZSTD}, {"t", AP_COL_U32, T, T64_ZSTD},
    {"slot", AP_COL_U8, NULL, ZSTD},   {"stack", AP_COL_U64, NULL, ZSTD},  {"count", AP_COL_U64, NULL, T64_ZSTD},
    {"value", AP_COL_U64, NULL, ZSTD},
};

static const struct ap_col_def rollup[AP_ROLLUP_COLS] = {
    {"kind", AP_COL_U8, NULL, ZSTD},   {"series", AP_COL_U64, NULL, ZSTD},    {"t", AP_COL_U32, T, "Delta, " ZSTD},
    {"stack", AP_COL_U64, NULL, ZSTD}, {"count", AP_COL_U64, NULL, T64_ZSTD}, {"value", AP_COL_U64, NULL, ZSTD},
};

static const struct ap_col_def stacks[AP_STACKS_COLS] = {
    {"hash", AP_COL_U64, NULL, ZSTD},
    {"day", AP_COL_U16, "Date", ZSTD},
    {"truncated", AP_COL_U8, NULL, ZSTD},
    {"frames", AP_COL_U64S, NULL, ZSTD},
};

static const struct ap_col_def frames[AP_FRAMES_COLS] = {
    {"hash", AP_COL_U64, NULL, ZSTD},      {"day", AP_COL_U16, "Date", ZSTD}, {"kind", AP_COL_U8, NULL, ZSTD},
    {"flags", AP_COL_U8, NULL, ZSTD},      {"line", AP_COL_U32, NULL, ZSTD},  {"offset", AP_COL_U64, NULL, ZSTD},
    {"function", AP_COL_TEXT, NULL, ZSTD}, {"file", AP_COL_TEXT, NULL, ZSTD}, {"module", AP_COL_TEXT, NULL, ZSTD},
    {"build_id", AP_COL_TEXT, NULL, ZSTD},
};

static const struct ap_col_def series[AP_SERIES_COLS] = {
    {"hash", AP_COL_U64, NULL, ZSTD},
    {"day", AP_COL_U16, "Date", ZSTD},
    {"names", AP_COL_TEXTS, NULL, ZSTD},
    {"texts", AP_COL_TEXTS, NULL, ZSTD},
};

static const struct ap_col_def locks[AP_LOCKS_COLS] = {
    {"t", AP_COL_U32, T, "Delta, " ZSTD},
    {"start_ns", AP_COL_U64, NULL, ZSTD},
    {"series", AP_COL_U64, NULL, ZSTD},
    {"host", AP_COL_TEXT, NULL, ZSTD},
    {"pid", AP_COL_U32, NULL, ZSTD},
    {"comm", AP_COL_TEXT, NULL, ZSTD},
    {"address", AP_COL_U64, NULL, ZSTD},
    {"symbol", AP_COL_TEXT, NULL, ZSTD},
    {"type", AP_COL_U8, NULL, ZSTD},
    {"kernel", AP_COL_U8, NULL, ZSTD},
    {"waits", AP_COL_U64, NULL, ZSTD},
    {"total_ns", AP_COL_U64, NULL, ZSTD},
    {"max_ns", AP_COL_U64, NULL, ZSTD},
    {"timeouts", AP_COL_U64, NULL, ZSTD},
    {"interrupted", AP_COL_U64, NULL, ZSTD},
    {"retried", AP_COL_U64, NULL, ZSTD},
    {"timeout_ns", AP_COL_U64, NULL, ZSTD},
    {"interrupted_ns", AP_COL_U64, NULL, ZSTD},
    {"in_flight", AP_COL_U64, NULL, ZSTD},
    {"in_flight_ns", AP_COL_U64, NULL, ZSTD},
    {"buckets", AP_COL_U16S, NULL, ZSTD},
    {"bucket_counts", AP_COL_U64S, NULL, ZSTD},
    {"side_role", AP_COL_U8S, NULL, ZSTD},
    {"side_stack", AP_COL_U64S, NULL, ZSTD},
    {"side_count", AP_COL_U64S, NULL, ZSTD},
    {"side_total_ns", AP_COL_U64S, NULL, ZSTD},
    {"side_max_ns", AP_COL_U64S, NULL, ZSTD},
    {"pair_waiter", AP_COL_U64S, NULL, ZSTD},
    {"pair_waker", AP_COL_U64S, NULL, ZSTD},
    {"pair_count", AP_COL_U64S, NULL, ZSTD},
    {"pair_total_ns", AP_COL_U64S, NULL, ZSTD},
    {"pair_max_ns", AP_COL_U64S, NULL, ZSTD},
};

static const struct ap_col_def syscalls[AP_SYSCALLS_COLS] = {
    {"t", AP_COL_U32, T, "Delta, " ZSTD},  {"start_ns", AP_COL_U64, NULL, ZSTD},
    {"series", AP_COL_U64, NULL, ZSTD},    {"host", AP_COL_TEXT, NULL, ZSTD},
    {"pid", AP_COL_U32, NULL, ZSTD},       {"comm", AP_COL_TEXT, NULL, ZSTD},
    {"abi", AP_COL_U8, NULL, ZSTD},        {"number", AP_COL_U32, NULL, ZSTD},
    {"name", AP_COL_TEXT, NULL, ZSTD},     {"count", AP_COL_U64, NULL, ZSTD},
    {"total_ns", AP_COL_U64, NULL, ZSTD},  {"max_ns", AP_COL_U64, NULL, ZSTD},
    {"in_flight", AP_COL_U64, NULL, ZSTD}, {"in_flight_max_ns", AP_COL_U64, NULL, ZSTD},
    {"buckets", AP_COL_U16S, NULL, ZSTD},  {"bucket_counts", AP_COL_U64S, NULL, ZSTD},
    {"errors", AP_COL_U32S, NULL, ZSTD},   {"error_counts", AP_COL_U64S, NULL, ZSTD},
};

/* Accounts stand in arrays with one item for each kind; losses with AP_LOSS_REASON_CNT. */
static const struct ap_col_def batches[AP_BATCHES_COLS] = {
    {"t", AP_COL_U32, T, "Delta, " ZSTD},
    {"agent", AP_COL_TEXT, NULL, ZSTD},
    {"epoch", AP_COL_U64, NULL, ZSTD},
    {"sequence", AP_COL_U64, NULL, ZSTD},
    {"series", AP_COL_U64, NULL, ZSTD},
    {"start_ns", AP_COL_U64, NULL, ZSTD},
    {"duration_ns", AP_COL_U64, NULL, ZSTD},
    {"received_ns", AP_COL_U64, NULL, ZSTD},
    {"bytes", AP_COL_U64, NULL, ZSTD},
    {"version", AP_COL_TEXT, NULL, ZSTD},
    {"host", AP_COL_TEXT, NULL, ZSTD},
    {"kernel", AP_COL_TEXT, NULL, ZSTD},
    {"arch", AP_COL_TEXT, NULL, ZSTD},
    {"event", AP_COL_TEXT, NULL, ZSTD},
    {"cpus_online", AP_COL_U32, NULL, ZSTD},
    {"frequency", AP_COL_U64, NULL, ZSTD},
    {"cpu_ns", AP_COL_U64, NULL, ZSTD},
    {"other_cpu_ns", AP_COL_U64, NULL, ZSTD},
    {"bpf_run_ns", AP_COL_U64, NULL, ZSTD},
    {"bpf_run_cnt", AP_COL_U64, NULL, ZSTD},
    {"rss_peak_bytes", AP_COL_U64, NULL, ZSTD},
    {"bpf_memory_bytes", AP_COL_U64, NULL, ZSTD},
    {"spool_bytes", AP_COL_U64, NULL, ZSTD},
    {"spool_dropped_batches", AP_COL_U64, NULL, ZSTD},
    {"spool_dropped_events", AP_COL_U64, NULL, ZSTD},
    {"left_kinds", AP_COL_U8S, NULL, ZSTD},
    {"left_reasons", AP_COL_TEXTS, NULL, ZSTD},
    {"kinds", AP_COL_U8S, NULL, ZSTD},
    {"events", AP_COL_U64S, NULL, ZSTD},
    {"totals", AP_COL_U64S, NULL, ZSTD},
    {"expected", AP_COL_U64S, NULL, ZSTD},
    {"delivered", AP_COL_U64S, NULL, ZSTD},
    {"losses", AP_COL_U64S, NULL, ZSTD},
    {"idle", AP_COL_U64S, NULL, ZSTD},
    {"out_of_scope", AP_COL_U64S, NULL, ZSTD},
    {"below_min", AP_COL_U64S, NULL, ZSTD},
    {"below_min_ns", AP_COL_U64S, NULL, ZSTD},
    {"folded", AP_COL_U64S, NULL, ZSTD},
    {"unmatched", AP_COL_U64S, NULL, ZSTD},
};

static const struct ap_col_def series_1h[AP_SERIES_1H_COLS] = {
    {"kind", AP_COL_U8, NULL, ZSTD},
    {"t", AP_COL_U32, T, "Delta, " ZSTD},
    {"series", AP_COL_U64, NULL, ZSTD},
};

#define ROLLUP_ENGINE "SummingMergeTree((count, value))"
/* As samples, so that both are made in one pass. */
#define ROLLUP_ORDER "(kind, toStartOfHour(t), stack, series, t)"
#define BY_DAY       "toYYYYMMDD(t)"
#define BY_MONTH     "toYYYYMM(day)"

static const struct ap_table_def tables[AP_TABLE_CNT] = {
    [AP_TABLE_SAMPLES] = {"samples", samples, AP_SAMPLES_COLS, "MergeTree", BY_DAY,
                          "(kind, toStartOfHour(t), stack, series, t, slot)", "series", true, false},
    [AP_TABLE_SAMPLES_1M] = {"samples_1m", rollup, AP_ROLLUP_COLS, ROLLUP_ENGINE, BY_DAY, ROLLUP_ORDER, "series", true,
                             true},
    [AP_TABLE_SAMPLES_1H] = {"samples_1h", rollup, AP_ROLLUP_COLS, ROLLUP_ENGINE, BY_DAY, ROLLUP_ORDER, "series", true,
                             true},
    [AP_TABLE_STACKS] = {"stacks", stacks, AP_STACKS_COLS, "ReplacingMergeTree(day)", BY_MONTH, "hash", "hash", false,
                         false},
    [AP_TABLE_FRAMES] = {"frames", frames, AP_FRAMES_COLS, "ReplacingMergeTree(day)", BY_MONTH, "hash", "hash", false,
                         false},
    [AP_TABLE_SERIES] = {"series", series, AP_SERIES_COLS, "ReplacingMergeTree(day)", BY_MONTH, "hash", "hash", false,
                         false},
    [AP_TABLE_LOCKS] = {"locks", locks, AP_LOCKS_COLS, "MergeTree", BY_DAY, "(toStartOfHour(t), host, pid, address, t)",
                        "series", true, false},
    [AP_TABLE_SYSCALLS] = {"syscalls", syscalls, AP_SYSCALLS_COLS, "MergeTree", BY_DAY,
                           "(toStartOfHour(t), host, pid, number, t)", "series", true, false},
    [AP_TABLE_BATCHES] = {"batches", batches, AP_BATCHES_COLS, "MergeTree", BY_DAY, "(agent, epoch, sequence)",
                          "cityHash64(agent)", true, false},
    [AP_TABLE_SERIES_1H] = {"series_1h", series_1h, AP_SERIES_1H_COLS, "ReplacingMergeTree", BY_DAY,
                            "(kind, t, series)", "series", false, false},
};

const struct ap_table_def *ap_table_def(enum ap_store_table table)
{
    return &tables[table];
}

/* The tables with `grp` for old servers: the same columns and one more. */
static const struct ap_col_def grp = {"grp", AP_COL_U64, NULL, NULL};

void ap_table_block_init(struct ap_block *block, enum ap_store_table table, const struct ap_sql_features *features)
{
    const struct ap_table_def *def = &tables[table];

    ap_block_init(block, def->cols, def->col_cnt);
    block->grp = def->once && !features->full ? &grp : NULL;
}

bool ap_sql_name_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > 64 || isdigit((unsigned char)name[0]))
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len;
}

/* ---- Retention ---- */

/* Tables count seconds until 2106; what is kept longer than this would be past that, and gone. */
#define RETENTION_MAX_S (UINT64_C(50) * 365 * DAY_S)

static uint64_t seconds_of(uint64_t ns, uint64_t def_ns)
{
    uint64_t s = (ns != 0 ? ns : def_ns) / AP_NS_PER_SEC;

    return s < RETENTION_MAX_S ? s : RETENTION_MAX_S;
}

static uint64_t raw_retention_s(const struct ap_storage_opts *opts, unsigned kind)
{
    return seconds_of(kind < AP_CAPTURE_PROFILES_MAX ? opts->retention_ns[kind] : 0, RAW_DEFAULT_NS);
}

static uint64_t raw_retention_max_s(const struct ap_storage_opts *opts)
{
    uint64_t max = 0;

    for (unsigned kind = AP_KIND_CPU; kind <= AP_KIND_GPU; kind++) {
        if (raw_retention_s(opts, kind) > max)
            max = raw_retention_s(opts, kind);
    }
    return max;
}

uint64_t ap_schema_raw_retention_s(const struct ap_storage_opts *opts, uint8_t kind)
{
    return kind != 0 ? raw_retention_s(opts, kind) : raw_retention_max_s(opts);
}

uint64_t ap_schema_retention_s(const struct ap_storage_opts *opts, enum ap_store_table table)
{
    uint64_t minute = seconds_of(opts->retention_1m_ns, MINUTE_DEFAULT_NS);
    uint64_t hour = seconds_of(opts->retention_1h_ns, HOUR_DEFAULT_NS);
    uint64_t max = raw_retention_max_s(opts);

    switch (table) {
    case AP_TABLE_SAMPLES_1M:
        return minute;
    case AP_TABLE_SAMPLES_1H:
        return hour;
    case AP_TABLE_LOCKS:
        return raw_retention_s(opts, AP_KIND_LOCK);
    case AP_TABLE_SYSCALLS:
        return raw_retention_s(opts, AP_KIND_SYSCALL);
    case AP_TABLE_STACKS:
    case AP_TABLE_FRAMES:
    case AP_TABLE_SERIES:
        /* As long as anything may name them, and a day more: they are stored again once a day. */
        max = minute > max ? minute : max;
        max = hour > max ? hour : max;
        return max + 2 * DAY_S;
    case AP_TABLE_SERIES_1H:
        return hour > max ? hour : max;
    case AP_TABLE_SAMPLES:
    case AP_TABLE_BATCHES:
    case AP_TABLE_CNT:
        break;
    }
    return max;
}

void ap_schema_ttl_text(const struct ap_storage_opts *opts, enum ap_store_table table, struct ap_buf *ret)
{
    uint64_t all = ap_schema_retention_s(opts, table);

    if (table == AP_TABLE_STACKS || table == AP_TABLE_FRAMES || table == AP_TABLE_SERIES) {
        ap_buf_printf(ret, "day + toIntervalDay(%" PRIu64 ")", (all + DAY_S - 1) / DAY_S);
        return;
    }
    if (table != AP_TABLE_SAMPLES) {
        ap_buf_printf(ret, "t + toIntervalSecond(%" PRIu64 ")", all);
        return;
    }
    bool same = true;
    for (unsigned kind = AP_KIND_CPU; kind <= AP_KIND_GPU; kind++)
        same = same && raw_retention_s(opts, kind) == all;
    if (same) { /* worked out for every row of every insert: the shorter the better */
        ap_buf_printf(ret, "t + toIntervalSecond(%" PRIu64 ")", all);
        return;
    }
    ap_buf_str(ret, "t + toIntervalSecond(multiIf(");
    for (unsigned kind = AP_KIND_CPU; kind <= AP_KIND_GPU; kind++)
        ap_buf_printf(ret, "kind = %u, %" PRIu64 ", ", kind, raw_retention_s(opts, kind));
    ap_buf_printf(ret, "%" PRIu64 "))", all);
}

/* ---- Statements ---- */

static void put_columns(const struct ap_table_def *def, const struct ap_sql_features *features, struct ap_buf *ret)
{
    for (size_t c = 0; c < def->col_cnt; c++) {
        const struct ap_col_def *col = &def->cols[c];

        ap_buf_printf(ret, "    %s %s", col->name, ap_col_sql_type(col));
        if (features->full && col->codec != NULL)
            ap_buf_printf(ret, " CODEC(%s)", col->codec);
        ap_buf_str(ret, c + 1 < def->col_cnt ? ",\n" : "");
    }
    if (def->once && !features->full)
        ap_buf_str(ret, ",\n    grp UInt64");
    ap_buf_char(ret, '\n');
}

/* "MergeTree" as "ReplicatedMergeTree('path', '{replica}')", with what else is in its brackets. */
static void put_engine(const struct ap_table_def *def, const struct ap_schema_place *place, struct ap_buf *ret)
{
    if (place->cluster == NULL) {
        ap_buf_str(ret, def->engine);
        return;
    }
    size_t name_len = strcspn(def->engine, "(");
    ap_buf_printf(ret, "Replicated%.*s('/clickhouse/tables/{shard}/%s/%s_local', '{replica}'", (int)name_len,
                  def->engine, place->database, def->name);
    if (def->engine[name_len] == '(')
        ap_buf_printf(ret, ", %s", def->engine + name_len + 1);
    else
        ap_buf_char(ret, ')');
}

static void put_settings(const struct ap_table_def *def, const struct ap_schema_place *place,
                         const struct ap_sql_features *features, struct ap_buf *ret)
{
    ap_buf_printf(ret, "\nSETTINGS index_granularity = %d", def->once ? 8192 : 1024);
    if (!features->full)
        return;
    /* What is acknowledged must be there after a power failure. */
    ap_buf_str(ret, ", fsync_after_insert = 1, fsync_part_directory = 1");
    /* Parts of one size come in one after another: merging ten at a time instead of five writes each row less often. */
    if (features->embedded)
        ap_buf_str(ret, ", merge_selector_base = 10");
    if (def->once && place->cluster == NULL)
        ap_buf_str(ret, ", non_replicated_deduplication_window = 1000");
    else if (def->once)
        ap_buf_str(ret, ", replicated_deduplication_window = 10000");
}

static void put_table(const struct ap_table_def *def, const struct ap_schema_place *place,
                      const struct ap_sql_features *features, const struct ap_storage_opts *opts, struct ap_buf *ret)
{
    ap_buf_printf(ret, "CREATE TABLE IF NOT EXISTS %s.%s%s", place->database, def->name,
                  place->cluster != NULL ? "_local" : "");
    if (place->cluster != NULL)
        ap_buf_printf(ret, " ON CLUSTER %s", place->cluster);
    ap_buf_str(ret, "\n(\n");
    put_columns(def, features, ret);
    ap_buf_str(ret, ")\nENGINE = ");
    put_engine(def, place, ret);
    ap_buf_printf(ret, "\nPARTITION BY %s\nORDER BY %s", def->day, def->order_by);
    if (features->full) {
        ap_buf_str(ret, "\nTTL ");
        ap_schema_ttl_text(opts, (enum ap_store_table)(def - tables), ret);
    }
    put_settings(def, place, features, ret);
}

static void put_distributed(const char *name, const char *shard, const struct ap_schema_place *place,
                            struct ap_buf *ret)
{
    ap_buf_printf(ret,
                  "CREATE TABLE IF NOT EXISTS %s.%s ON CLUSTER %s AS %s.%s_local\n"
                  "ENGINE = Distributed('%s', '%s', '%s_local', %s)",
                  place->database, name, place->cluster, place->database, name, place->cluster, place->database, name,
                  shard);
}

/* The version of the schema, one row a migration. */
static void put_versions(const struct ap_schema_place *place, struct ap_buf *ret)
{
    ap_buf_printf(ret, "CREATE TABLE IF NOT EXISTS %s.schema_versions%s", place->database,
                  place->cluster != NULL ? "_local" : "");
    if (place->cluster != NULL)
        ap_buf_printf(ret, " ON CLUSTER %s", place->cluster);
    ap_buf_printf(ret, "\n(\n    version UInt32,\n    program String,\n    applied %s\n)\nENGINE = ", T);
    if (place->cluster != NULL)
        ap_buf_printf(ret, "ReplicatedMergeTree('/clickhouse/tables/{shard}/%s/schema_versions_local', '{replica}')",
                      place->database);
    else
        ap_buf_str(ret, "MergeTree");
    ap_buf_str(ret, "\nPARTITION BY tuple()\nORDER BY version\nSETTINGS index_granularity = 8192");
}

bool ap_schema_statement(const struct ap_schema_place *place, const struct ap_sql_features *features,
                         const struct ap_storage_opts *opts, unsigned i, struct ap_buf *ret)
{
    bool spread = place->cluster != NULL;
    unsigned per_table = spread ? 2 : 1;

    if (i == 0) {
        ap_buf_printf(ret, "CREATE DATABASE IF NOT EXISTS %s", place->database);
        if (spread)
            ap_buf_printf(ret, " ON CLUSTER %s", place->cluster);
        return true;
    }
    unsigned nth = (i - 1) / per_table;
    if (nth > AP_TABLE_CNT)
        return false;
    bool distributed = spread && (i - 1) % per_table == 1;
    if (nth == 0 && distributed)
        put_distributed("schema_versions", "version", place, ret);
    else if (nth == 0)
        put_versions(place, ret);
    else if (distributed)
        put_distributed(tables[nth - 1].name, tables[nth - 1].shard, place, ret);
    else if (features->full || !tables[nth - 1].full_only)
        put_table(&tables[nth - 1], place, features, opts, ret);
    return true;
}
