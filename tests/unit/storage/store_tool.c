/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A store at the end of a pipe, for tests that stop servers, fill disks and kill this program: store_tool [DATA_DIR]
 *
 * Reads lines: "commit FIRST COUNT SAMPLES" (batches FIRST .. FIRST + COUNT - 1, one group), "count" (samples stored,
 * from samples and from roll-ups), "batches", "ready". Answers each with one line: "ok ..." or "error CODE WORDS".
 * APERTURE_TEST_CLICKHOUSE names a server; without it the store is the embedded one. Without DATA_DIR it is memory. */
#include "made.h"

#include "core/clock.h"
#include "storage/engine.h"
#include "storage/store.h"

#include <inttypes.h>
#include <string.h>

#define DAY_NS (86400ULL * AP_NS_PER_SEC)

static void answer_error(int r, const struct ap_error *err)
{
    printf("error %d ", -r);
    for (const char *c = err->text; *c != '\0'; c++)
        putchar(*c == '\n' ? ' ' : *c);
    putchar('\n');
}

static void do_commit(struct ap_storage *storage, uint64_t first, size_t cnt, uint32_t samples)
{
    struct ap_rows **rows = calloc(cnt, sizeof(struct ap_rows *));
    bool *duplicate = calloc(cnt, sizeof(*duplicate));
    struct ap_error err = {0};
    size_t duplicates = 0;

    for (size_t i = 0; i < cnt; i++) {
        const struct made_spec spec = {.agent = 1,
                                       .samples = samples,
                                       .epoch = 1,
                                       .sequence = first + i,
                                       .start_ns = MADE_START + (first + i) * 7 * MADE_SEC,
                                       .duration_ns = 5 * MADE_SEC};

        rows[i] = made_rows(&spec);
    }
    int r = ap_storage_commit(storage, rows, cnt, duplicate, &err);
    for (size_t i = 0; i < cnt; i++) {
        duplicates += duplicate[i];
        ap_rows_free(rows[i]);
    }
    if (r != 0)
        answer_error(r, &err);
    else
        printf("ok %zu\n", duplicates);
    free(rows);
    free(duplicate);
}

static int count_events(struct ap_storage *storage, uint64_t from_ns, uint64_t to_ns, uint64_t *ret_count,
                        struct ap_error *err)
{
    const struct ap_storage_scope scope = {.kind = AP_KIND_CPU, .from_ns = from_ns, .to_ns = to_ns};
    struct ap_stack_sums sums = {0};
    int r = ap_storage_stacks(storage, &scope, &sums, err);

    *ret_count = 0;
    for (size_t i = 0; i < sums.cnt; i++)
        *ret_count += sums.counts[i];
    ap_stack_sums_done(&sums);
    return r;
}

static void do_count(struct ap_storage *storage)
{
    const char *const nobody[] = {"nobody"};
    const struct ap_value_set pid = {.label = "pid", .negative = true, .values = nobody, .value_cnt = 1};
    const struct ap_storage_scope raw = {
        .kind = AP_KIND_CPU, .from_ns = 1, .to_ns = MADE_START + 30 * DAY_NS, .sets = &pid, .set_cnt = 1};
    struct ap_stack_sums sums = {0};
    struct ap_error err = {0};
    uint64_t rolled = 0, count = 0;
    int r = count_events(storage, MADE_START - DAY_NS, MADE_START + 30 * DAY_NS, &rolled, &err);

    /* A question about processes is answered from samples. */
    if (r == 0)
        r = ap_storage_stacks(storage, &raw, &sums, &err);
    for (size_t i = 0; r == 0 && i < sums.cnt; i++)
        count += sums.counts[i];
    if (r != 0)
        answer_error(r, &err);
    else
        printf("ok %" PRIu64 " %" PRIu64 "\n", count, rolled);
    ap_stack_sums_done(&sums);
}

static void do_batches(struct ap_storage *storage)
{
    const struct ap_storage_scope all = {.from_ns = 1, .to_ns = MADE_START + 30 * DAY_NS};
    struct ap_provenance sums = {0};
    struct ap_error err = {0};
    int r = ap_storage_account(storage, &all, &sums, &err);

    if (r != 0)
        answer_error(r, &err);
    else
        printf("ok %" PRIu64 "\n", sums.batches);
}

static void do_ready(struct ap_storage *storage)
{
    struct ap_error err = {0};
    int r = ap_storage_ready(storage, &err);

    if (r != 0)
        answer_error(r, &err);
    else
        printf("ok\n");
}

int main(int argc, char **argv)
{
    const char *server = getenv("APERTURE_TEST_CLICKHOUSE");
    struct ap_error err = {0};
    char line[256];

    struct ap_storage_opts opts = {
        .kind = argc < 2         ? AP_STORAGE_MEMORY
                : server != NULL ? AP_STORAGE_CLICKHOUSE
                                 : AP_STORAGE_CHDB,
        .data_dir = argc < 2 ? NULL : argv[1],
        .memory_sz = UINT64_C(1) << 30,
        .chdb_library = getenv("APERTURE_CHDB_LIBRARY"),
        .endpoint = server,
        .decode = made_decode,
        .retention_1m_ns = 40 * 365 * DAY_NS,
        .retention_1h_ns = 40 * 365 * DAY_NS,
    };
    for (unsigned kind = 0; kind < AP_CAPTURE_PROFILES_MAX; kind++)
        opts.retention_ns[kind] = 40 * 365 * DAY_NS;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct ap_storage *storage = ap_storage_open(&opts, &err);
    if (storage == NULL) {
        answer_error(err.code, &err);
        return 1;
    }
    printf("ok open\n");
    while (fgets(line, sizeof(line), stdin) != NULL) {
        char *rest = line + strcspn(line, " \n");
        bool more = *rest == ' ';

        *rest++ = '\0';
        if (strcmp(line, "commit") == 0 && more) {
            uint64_t first = strtoull(rest, &rest, 10);
            size_t cnt = strtoull(rest, &rest, 10);

            do_commit(storage, first, cnt, (uint32_t)strtoul(rest, &rest, 10));
        } else if (strcmp(line, "count") == 0) {
            do_count(storage);
        } else if (strcmp(line, "batches") == 0) {
            do_batches(storage);
        } else if (strcmp(line, "ready") == 0) {
            do_ready(storage);
        } else {
            printf("error 22 what?\n");
        }
    }
    ap_storage_free(storage);
    return 0;
}
