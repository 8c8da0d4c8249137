/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the store takes and answers: bench-store DATA_DIR [ROWS], with 0 rows what is there is asked again.
 *
 * Commits ROWS (100 million) CPU samples of the shape below, in groups of half a million from 20 agents, and prints
 * rows a second, bytes a row, the time of a flamegraph's query, and memory; and, beside it, what the embedded store
 * takes of the same columns without anything of ours around it. */
#include "storage/store.h"
#include "core/clock.h"
#include "storage/engine.h"
#include "storage/group.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* 200 series on 20 hosts over 24 hours; 20,000 stacks of about 20 frames that branch like a call tree, used as Zipf's
 * law says: a profile of `perf record` on a busy service has 2 to 3 stacks a frame. */
#define AGENTS         20
#define PROCESSES      10
#define STACKS         20000
#define FRAMES         8000
#define DEPTH          64
#define GROUP_ROWS     500000
#define HOURS          24
#define ROWS_DEFAULT   100000000ull
#define QUERIES        30
#define CEILING_GROUPS 20
/* Bytes that a sample takes in a batch on the wire, about: the journal keeps them. */
#define PAYLOAD_PER_SAMPLE 3

static uint64_t state = 88172645463325252ull;

static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint32_t below(uint32_t limit)
{
    return (uint32_t)((rnd() >> 32) * limit >> 32);
}

static uint32_t zipf(void)
{
    double u = (double)(rnd() >> 11) / 9007199254740992.0;
    uint32_t stack = (uint32_t)exp(u * log(STACKS + 1)) - 1;

    return stack < STACKS ? stack : STACKS - 1;
}

static void check(int r, const struct ap_error *err)
{
    if (r == 0)
        return;
    fprintf(stderr, "bench-store: %s\n", err->text);
    exit(1);
}

/* CPU time of this thread: what others do on the machine is not in it. */
static uint64_t own_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * AP_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static double seconds(uint64_t since_ns)
{
    return (double)(ap_clock_monotonic_ns() - since_ns) / 1e9;
}

static void put_frames(struct ap_profile *profile)
{
    char name[80];

    for (uint32_t i = 0; i < FRAMES; i++) {
        struct ap_mapping mapping = {.build_id_len = 20};
        struct ap_frame frame = {.kind = AP_FRAME_NATIVE, .line = i % 3000, .offset = i * 64ull};
        uint32_t index;

        snprintf(name, sizeof(name), "/usr/lib/x86_64-linux-gnu/libservice%u.so.%u", i % 40, i % 40);
        mapping.path = ap_strings_id(profile->strings, name);
        memset(mapping.build_id, (int)(i % 40), sizeof(mapping.build_id));
        ap_profile_add_mapping(profile, &mapping, &frame.mapping);
        snprintf(name, sizeof(name), "service::module%u::Handler<Request%u>::process_item", i % 200, i);
        frame.function = ap_strings_id(profile->strings, name);
        snprintf(name, sizeof(name), "src/module%u/handler.cc", i % 200);
        frame.file = ap_strings_id(profile->strings, name);
        ap_profile_add_frame(profile, &frame, &index);
    }
}

/* The same stacks on every host: the services are the same. */
static void put_stacks(struct ap_profile *profile)
{
    uint64_t kept = state;

    state = 1234567;
    static uint32_t frames[STACKS][DEPTH], depths[STACKS];

    for (uint32_t i = 0; i < STACKS; i++) {
        uint32_t parent = i > 0 ? below(i) : 0, index, stack[DEPTH];
        /* Outermost first: what it shares with another stack, then frames of its own. */
        uint32_t depth = i > 0 ? 5 + below(depths[parent] - 4) : 0;

        memcpy(frames[i], frames[parent], depth * sizeof(stack[0]));
        for (uint32_t own = i > 0 ? 1 + below(6) : 15; own > 0 && depth < DEPTH; own--)
            frames[i][depth++] = 1 + below(FRAMES);
        depths[i] = depth;
        for (uint32_t f = 0; f < depth; f++)
            stack[f] = frames[i][depth - 1 - f];
        ap_profile_add_stack(profile, stack, depth, false, &index);
    }
    state = kept;
}

static struct ap_push *make_push(unsigned agent)
{
    struct ap_push *push = ap_push_new();
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    char text[32];

    snprintf(push->agent_id, sizeof(push->agent_id), "agent-%u", agent);
    snprintf(text, sizeof(text), "host-%u", agent);
    ap_push_label(push, "host", text, NULL);
    push->epoch = 1;
    profile->slot_ns = AP_PUSH_SLOT_NS;
    put_frames(profile);
    put_stacks(profile);
    for (uint32_t p = 0; p < PROCESSES; p++) {
        /* Of one name: stacks are shared by processes as they are by hosts. */
        struct ap_series series = {.pid = 1000 + p, .comm = ap_strings_id(profile->strings, "service")};
        uint32_t index;

        ap_profile_add_series(profile, &series, &index);
    }
    push->capture->profiles[0] = profile;
    push->capture->profile_cnt = 1;
    return push;
}

/* New samples in a push that was used before. */
static void refill(struct ap_push *push, uint64_t start_ns, uint64_t duration_ns, uint32_t cnt)
{
    struct ap_profile *profile = push->capture->profiles[0];

    push->sequence++;
    push->start_ns = start_ns;
    push->duration_ns = duration_ns;
    profile->samples = reallocarray(profile->samples, cnt, sizeof(*profile->samples));
    profile->sample_cnt = cnt;
    for (uint32_t i = 0; i < cnt; i++) {
        uint32_t n = below(20) == 0 ? 2 : 1;

        profile->samples[i] = (struct ap_sample){
            .series = below(PROCESSES),
            .stack = zipf(),
            .slot = below((uint32_t)(duration_ns / AP_PUSH_SLOT_NS)),
            .count = n,
            .value = n * 10101010ull,
        };
    }
}

struct bench {
    struct ap_storage *storage;
    struct ap_push *pushes[AGENTS];
    uint64_t start_ns, end_ns, rows;
    double rows_s, commit_s, own_s, cpu_s;
};

static void make_group(struct bench *bench, uint64_t from_ns, uint64_t duration_ns, struct ap_rows **rows)
{
    static char payload[GROUP_ROWS / AGENTS * PAYLOAD_PER_SAMPLE];
    struct ap_error err = {0};

    for (unsigned a = 0; a < AGENTS; a++)
        refill(bench->pushes[a], from_ns, duration_ns < AP_PUSH_DURATION_MAX ? duration_ns : AP_PUSH_DURATION_MAX,
               GROUP_ROWS / AGENTS);
    uint64_t begin = own_ns();
    for (unsigned a = 0; a < AGENTS; a++) {
        rows[a] = ap_rows_new(bench->pushes[a], payload, sizeof(payload), from_ns + duration_ns, &err);
        check(rows[a] != NULL ? 0 : err.code, &err);
    }
    bench->rows_s += (double)(own_ns() - begin) / 1e9;
}

static void free_group(struct ap_rows **rows)
{
    for (unsigned a = 0; a < AGENTS; a++) {
        rows[a]->push = NULL; /* used again */
        ap_rows_free(rows[a]);
    }
}

static void commit_all(struct bench *bench, uint64_t rows_wanted)
{
    uint64_t groups = rows_wanted / GROUP_ROWS, duration_ns = (bench->end_ns - bench->start_ns) / groups;

    for (uint64_t g = 0; g < groups; g++) {
        struct ap_rows *rows[AGENTS];
        bool duplicate[AGENTS];
        struct ap_error err = {0};

        make_group(bench, bench->start_ns + g * duration_ns, duration_ns, rows);
        uint64_t begin = ap_clock_monotonic_ns(), own = own_ns();
        check(ap_storage_commit(bench->storage, rows, AGENTS, duplicate, &err), &err);
        bench->commit_s += seconds(begin);
        bench->own_s += (double)(own_ns() - own) / 1e9;
        for (unsigned a = 0; a < AGENTS; a++)
            bench->rows += rows[a]->sample_cnt;
        free_group(rows);
        if (g % 20 == 19)
            fprintf(stderr, "%" PRIu64 " M rows, %.2f M/s\n", bench->rows / 1000000,
                    (double)bench->rows / bench->commit_s / 1e6);
    }
}

/* ---- Small commits ---- */

static int compare_doubles(const void *a, const void *b);

/* One batch of a few seconds at a time, as a lone agent sends them: how long an acknowledgement takes. */
static void commit_small(struct bench *bench, const char *name)
{
    double took[QUERIES];

    for (unsigned i = 0; i < QUERIES; i++) {
        struct ap_error err = {0};
        bool duplicate = false;

        refill(bench->pushes[0], bench->start_ns + i * 5 * AP_NS_PER_SEC, 5 * AP_NS_PER_SEC, 500);
        struct ap_rows *rows = ap_rows_new(bench->pushes[0], "", 0, 0, &err);
        check(rows != NULL ? 0 : err.code, &err);
        uint64_t begin = ap_clock_monotonic_ns();
        check(ap_storage_commit(bench->storage, &rows, 1, &duplicate, &err), &err);
        took[i] = seconds(begin);
        rows->push = NULL;
        ap_rows_free(rows);
    }
    qsort(took, QUERIES, sizeof(took[0]), compare_doubles);
    printf("one batch of 500 samples%s: p50 %.0f ms, p99 %.0f ms to the acknowledgement\n", name,
           took[QUERIES / 2] * 1e3, took[QUERIES * 99 / 100] * 1e3);
}

/* What it costs that an acknowledged batch survives a power failure. */
static void set_fsync(struct bench *bench, bool on)
{
    static const enum ap_store_table tables[] = {AP_TABLE_SAMPLES, AP_TABLE_SAMPLES_1M, AP_TABLE_SAMPLES_1H,
                                                 AP_TABLE_BATCHES};
    struct ap_store *store = ap_storage_engine(bench->storage);
    struct ap_error err = {0};
    char sql[200];

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        snprintf(sql, sizeof(sql),
                 "ALTER TABLE aperture.%s MODIFY SETTING fsync_after_insert = %d, fsync_part_directory = %d",
                 ap_table_def(tables[i])->name, on, on);
        check(store->ops->exec(store->backend, sql, &err), &err);
    }
}

/* ---- The ceiling ---- */

static void keep_block(const struct ap_block *from, struct ap_block *to, const struct ap_sql_features *features)
{
    ap_table_block_init(to, AP_TABLE_SAMPLES, features);
    for (size_t c = 0; c < from->col_cnt; c++)
        ap_buf_append(&to->cols[c].data, from->cols[c].data.data, from->cols[c].data.len);
    to->row_cnt = from->row_cnt;
}

static int keep_samples(void *ctx, enum ap_store_table table, struct ap_block *block, uint32_t day, uint64_t key,
                        struct ap_error *err)
{
    static const struct ap_sql_features features = {.full = true};
    struct ap_block *kept = ctx;

    (void)day;
    (void)key;
    (void)err;
    if (table == AP_TABLE_SAMPLES && kept->row_cnt == 0)
        keep_block(block, kept, &features);
    return 0;
}

static double ceiling(struct bench *bench)
{
    struct ap_store *store = ap_storage_engine(bench->storage);
    struct ap_known known[4] = {0};
    struct ap_rows *rows[AGENTS];
    struct ap_block block = {0};
    struct ap_error err = {0};

    make_group(bench, bench->start_ns, 400 * AP_NS_PER_SEC, rows);
    const struct ap_group group = {
        .id = 1,
        .rows = rows,
        .cnt = AGENTS,
        .features = &store->features,
        .stacks = &known[0],
        .frames = &known[1],
        .series = &known[2],
        .hours = &known[3],
    };
    check(ap_group_chunks(&group, keep_samples, &block, &err), &err);
    free_group(rows);
    check(store->ops->exec(store->backend,
                           "CREATE TABLE aperture.ceiling (kind UInt8, series UInt64, t DateTime('UTC'), slot UInt8, "
                           "stack UInt64, count UInt64, value UInt64) ENGINE = MergeTree ORDER BY (kind, series, t)",
                           &err),
          &err);
    uint64_t begin = ap_clock_monotonic_ns();
    for (unsigned i = 0; i < CEILING_GROUPS; i++)
        check(store->ops->insert(store->backend, "aperture.ceiling", &block, NULL, &store->features, &err), &err);
    double took = seconds(begin);
    double rate = (double)block.row_cnt * CEILING_GROUPS / took;
    check(store->ops->exec(store->backend, "DROP TABLE aperture.ceiling SYNC", &err), &err);
    ap_block_done(&block);
    for (unsigned i = 0; i < 4; i++)
        ap_known_done(&known[i]);
    return rate;
}

/* ---- Questions ---- */

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return left < right ? -1 : left > right;
}

static void ask(struct bench *bench, const char *name, const struct ap_storage_scope *scope, bool raw)
{
    struct ap_store *store = ap_storage_engine(bench->storage);
    double took[QUERIES];
    struct ap_stack_sums sums = {0};
    struct ap_error err = {0};
    uint64_t count = 0;
    size_t stacks = 0;
    char source[8] = "";

    store->features.full = !raw; /* roll-ups are of full servers */
    uint64_t cpu = ap_clock_cpu_ns();
    for (unsigned i = 0; i < QUERIES; i++) {
        uint64_t begin = ap_clock_monotonic_ns();

        check(ap_storage_stacks(bench->storage, scope, &sums, &err), &err);
        took[i] = seconds(begin);
        count = 0;
        stacks = sums.cnt;
        for (size_t s = 0; s < sums.cnt; s++)
            count += sums.counts[s];
        snprintf(source, sizeof(source), "%s", sums.source);
        ap_stack_sums_done(&sums);
    }
    store->features.full = true;
    cpu = (ap_clock_cpu_ns() - cpu) / QUERIES;
    qsort(took, QUERIES, sizeof(took[0]), compare_doubles);
    printf("%-34s from %-3s: p50 %4.0f ms, p99 %4.0f ms, %4.0f ms of CPU time (%zu stacks, %" PRIu64 " events)\n", name,
           source, took[QUERIES / 2] * 1e3, took[QUERIES * 99 / 100] * 1e3, (double)cpu / 1e6, stacks, count);
}

static void ask_all(struct bench *bench)
{
    const char *const hosts[] = {"host-7"}, *const pids[] = {"1003"};
    const struct ap_value_set sets[] = {{.label = "host", .values = hosts, .value_cnt = 1},
                                        {.label = "pid", .values = pids, .value_cnt = 1}};
    uint64_t middle = bench->start_ns + 12 * 3600 * AP_NS_PER_SEC, second = AP_NS_PER_SEC;
    struct ap_storage_scope all = {.kind = AP_KIND_CPU, .from_ns = bench->start_ns, .to_ns = bench->end_ns};
    struct ap_storage_scope odd = {
        .kind = AP_KIND_CPU, .from_ns = bench->start_ns + 1234 * second, .to_ns = bench->end_ns - 4321 * second};
    struct ap_storage_scope quarter = {
        .kind = AP_KIND_CPU, .from_ns = middle + 7 * second, .to_ns = middle + 907 * second};
    struct ap_storage_scope one = all, one_quarter = quarter;

    one.sets = one_quarter.sets = sets;
    one.set_cnt = one_quarter.set_cnt = 2;
    ask(bench, "24 h", &all, false);
    ask(bench, "24 h, odd edges", &odd, false);
    ask(bench, "24 h, all sample rows", &all, true);
    ask(bench, "24 h, one series", &one, false);
    ask(bench, "24 h, one series, sample rows", &one, true);
    ask(bench, "15 min", &quarter, false);
    ask(bench, "15 min, sample rows", &quarter, true);
    ask(bench, "15 min, one series", &one_quarter, false);
}

/* ---- Sizes ---- */

static void print_sizes(struct bench *bench)
{
    struct ap_store *store = ap_storage_engine(bench->storage);
    struct ap_sql_result result = {0};
    struct ap_error err = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, 1 << 16);
    ap_buf_str(&sql, "SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts WHERE active AND "
                     "database = 'aperture' GROUP BY table ORDER BY table");
    check(ap_store_query(store, &sql, &result, &err), &err);
    while (ap_rowbin_more(&result.in)) {
        size_t len;
        const char *name = ap_rowbin_text(&result.in, &len);
        uint64_t rows = ap_rowbin_u64(&result.in), bytes = ap_rowbin_u64(&result.in), parts = ap_rowbin_u64(&result.in);

        printf("  %-16.*s %10" PRIu64 " rows, %8.1f MB, %5.2f bytes/row, %" PRIu64 " parts\n", (int)len, name, rows,
               (double)bytes / 1e6, (double)bytes / (double)(rows > 0 ? rows : 1), parts);
    }
    ap_sql_result_done(&result);
    ap_buf_done(&sql);
}

static void print_memory(const char *when)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0 || strncmp(line, "VmHWM:", 6) == 0)
            printf("%s %.5s %ld MB\n", when, line, strtol(line + 6, NULL, 10) / 1024);
    }
    if (file != NULL)
        fclose(file);
}

static void optimize(struct bench *bench)
{
    struct ap_store *store = ap_storage_engine(bench->storage);
    struct ap_error err = {0};

    check(store->ops->exec(store->backend, "OPTIMIZE TABLE aperture.samples FINAL", &err), &err);
    check(store->ops->exec(store->backend, "OPTIMIZE TABLE aperture.samples_1m FINAL", &err), &err);
    check(store->ops->exec(store->backend, "OPTIMIZE TABLE aperture.samples_1h FINAL", &err), &err);
}

static struct ap_push *no_decode(const void *payload, size_t payload_sz, struct ap_error *err)
{
    (void)payload;
    (void)payload_sz;
    ap_error_set(err, -22, "nothing to decode");
    return NULL;
}

static void fill(struct bench *bench, uint64_t rows)
{
    printf("plain inserts of the same columns: %.2f M rows/s\n", ceiling(bench) / 1e6);
    commit_small(bench, "");
    set_fsync(bench, false);
    commit_small(bench, " without fsync of parts");
    set_fsync(bench, true);
    bench->rows_s = 0;
    uint64_t cpu = ap_clock_cpu_ns();
    /* making samples up is part of it, but not of what is reported */
    commit_all(bench, rows);
    bench->cpu_s = (double)(ap_clock_cpu_ns() - cpu) / 1e9;
    printf("rows of batches: %.2f M samples/s on one core\n", (double)bench->rows / bench->rows_s / 1e6);
    printf("committed: %" PRIu64 " rows in %.1f s: %.2f M/s; CPU seconds: %.1f in all, %.1f making rows, %.1f in the "
           "committing thread\n",
           bench->rows, bench->commit_s, (double)bench->rows / bench->commit_s / 1e6, bench->cpu_s, bench->rows_s,
           bench->own_s);
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct ap_error err = {0};
    uint64_t rows = argc > 2 ? strtoull(argv[2], NULL, 10) : ROWS_DEFAULT;

    if (argc < 2) {
        fprintf(stderr, "usage: bench-store DATA_DIR [ROWS]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const struct ap_storage_opts opts = {
        .kind = AP_STORAGE_CHDB,
        .data_dir = argv[1],
        .chdb_library = getenv("APERTURE_CHDB_LIBRARY"),
        .decode = no_decode,
    };
    bench.storage = ap_storage_open(&opts, &err);
    check(bench.storage != NULL ? 0 : err.code, &err);
    print_memory("opened:");
    /* Yesterday, from midnight: one partition. */
    bench.start_ns = (ap_clock_realtime_ns() / (86400 * AP_NS_PER_SEC) - 1) * 86400 * AP_NS_PER_SEC;
    bench.end_ns = bench.start_ns + HOURS * 3600 * AP_NS_PER_SEC;
    for (unsigned a = 0; a < AGENTS; a++)
        bench.pushes[a] = make_push(a);
    if (rows > 0)
        fill(&bench, rows);
    print_memory("committed:");
    print_sizes(&bench);
    ask_all(&bench);
    uint64_t begin = ap_clock_monotonic_ns();
    optimize(&bench);
    printf("merged into one part a table in %.0f s:\n", seconds(begin));
    print_sizes(&bench);
    ask_all(&bench);
    print_memory("asked:");
    ap_storage_free(bench.storage);
    for (unsigned a = 0; a < AGENTS; a++)
        ap_push_free(bench.pushes[a]);
    return 0;
}
