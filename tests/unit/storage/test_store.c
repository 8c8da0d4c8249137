/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The same questions to memory and to another store get the same answers; commits survive what may happen.
 *
 * APERTURE_CHDB_LIBRARY names the embedded store's library, APERTURE_TEST_CLICKHOUSE a server's address. Each step runs
 * in a process of its own: that is what a crash ends, and the embedded store allows one data folder a process. */
#include "made.h"

#include "core/clock.h"
#include "core/out.h"
#include "storage/engine.h"
#include "storage/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY_NS (86400ULL * AP_NS_PER_SEC)

/* Shared by a test and its children. */
struct shared {
    char data_dir[256], database[64];
    enum ap_store_step step;
    unsigned nth;
    uint64_t duplicates, batches, samples, value, minute, hour;
};

static struct shared *shared;
static bool have_store;
static unsigned test_nr;

/* Without one there is nothing to test. */
static void need_store(void)
{
    if (!have_store)
        skip();
}

typedef void (*step_fn)(void);

/* Runs a step in a process of its own; its exit status. */
static int run(step_fn fn)
{
    int status = 0;

    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(120);
        fn();
        fflush(NULL);
        _exit(0); /* the embedded store's threads are not waited for */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct ap_storage_opts options(void)
{
    const char *server = getenv("APERTURE_TEST_CLICKHOUSE");

    struct ap_storage_opts opts = {
        .kind = server != NULL ? AP_STORAGE_CLICKHOUSE : AP_STORAGE_CHDB,
        .data_dir = shared->data_dir,
        .chdb_library = getenv("APERTURE_CHDB_LIBRARY"),
        .endpoint = server,
        .database = shared->database,
        .decode = made_decode,
        .retention_1m_ns = 40 * 365 * DAY_NS, /* the batches are of 2023 */
        .retention_1h_ns = 40 * 365 * DAY_NS,
    };

    for (unsigned kind = 0; kind < AP_CAPTURE_PROFILES_MAX; kind++)
        opts.retention_ns[kind] = 40 * 365 * DAY_NS;
    return opts;
}

static struct ap_storage *open_store(void)
{
    struct ap_storage_opts opts = options();
    struct ap_error err = {0};
    struct ap_storage *storage = ap_storage_open(&opts, &err);

    MADE_CHECK(storage != NULL, "%s", err.text);
    return storage;
}

static struct ap_storage *open_memory(void)
{
    struct ap_storage_opts opts = {.kind = AP_STORAGE_MEMORY, .memory_sz = 1ull << 30};
    struct ap_error err = {0};
    struct ap_storage *storage = ap_storage_open(&opts, &err);

    MADE_CHECK(storage != NULL, "%s", err.text);
    return storage;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    const char *library = getenv("APERTURE_CHDB_LIBRARY");

    have_store = getenv("APERTURE_TEST_CLICKHOUSE") != NULL || (library != NULL && access(library, R_OK) == 0);
    if (!have_store)
        return 0;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    snprintf(shared->data_dir, sizeof(shared->data_dir), "%s/aperture-test-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(shared->data_dir));
    snprintf(shared->database, sizeof(shared->database), "test_%d_%u", (int)getpid(), test_nr++);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (shared == NULL)
        return 0;
    nftw(shared->data_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    munmap(shared, sizeof(*shared));
    shared = NULL;
    return 0;
}

/* ---- The same answers ---- */

/* A few agents over a few hours, some of them around midnight (the tests' day ends 1 h 46 min 40 s after MADE_START).
 */
static size_t make_specs(struct made_spec *specs, size_t max)
{
    static const uint64_t starts[] = {0, 5, 61, 3600, 6398, 6403, 20000, 30001};
    size_t n = 0;

    for (uint32_t agent = 0; agent < 6; agent++) {
        for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]) && n < max; i++)
            specs[n++] = (struct made_spec){
                .agent = agent,
                .samples = 60,
                .epoch = 7,
                .sequence = i + 1,
                .start_ns = MADE_START + starts[i] * MADE_SEC + agent * 123456789ULL,
                .duration_ns = 4 * MADE_SEC + 500000000,
            };
    }
    return n;
}

static void compare(struct ap_storage *memory, struct ap_storage *store, const char *name,
                    const struct ap_storage_scope *scope)
{
    struct ap_buf expected, got;

    ap_buf_init(&expected, 1 << 28);
    ap_buf_init(&got, 1 << 28);
    made_dump(memory, scope, &expected);
    made_dump(store, scope, &got);
    if (expected.len != got.len || memcmp(expected.data, got.data, got.len) != 0) {
        size_t at = 0, line = 0;

        while (at < expected.len && at < got.len && expected.data[at] == got.data[at]) {
            if (expected.data[at++] == '\n')
                line = at;
        }
        MADE_CHECK(false, "%s: memory says\n%.*s\nthe store says\n%.*s", name,
                   (int)(strcspn(expected.data + line, "\n")), expected.data + line,
                   (int)(strcspn(got.data + line, "\n")), got.data + line);
    }
    ap_buf_done(&expected);
    ap_buf_done(&got);
}

static void same_answers(void)
{
    static const char *const workers[] = {"worker", "it's"}, *const hosts[] = {"host-1"},
                             *const services[] = {"back\\slash", "tab\tand\nline"}, *const none[] = {""},
                             *const pids[] = {"101", "200"};
    const struct ap_value_set comm = {.label = "comm", .values = workers, .value_cnt = 2};
    const struct ap_value_set host = {.label = "host", .values = hosts, .value_cnt = 1};
    const struct ap_value_set not_host = {.label = "host", .negative = true, .values = hosts, .value_cnt = 1};
    const struct ap_value_set service = {.label = "service", .values = services, .value_cnt = 2};
    const struct ap_value_set no_zone = {.label = "zone", .values = none, .value_cnt = 1};
    const struct ap_value_set zone = {.label = "zone", .negative = true, .values = none, .value_cnt = 1};
    const struct ap_value_set pid = {.label = "pid", .values = pids, .value_cnt = 2};
    const struct ap_value_set nobody = {.label = "host", .values = NULL, .value_cnt = 0};
    const struct ap_value_set two[] = {not_host, comm}, both[] = {zone, pid};
    const uint64_t from = MADE_START, hour = 3600 * MADE_SEC;
    const struct {
        const char *name;
        struct ap_storage_scope scope;
    } cases[] = {
        {"all", {.from_ns = 0, .to_ns = from + 24 * hour}},
        {"cpu", {.kind = AP_KIND_CPU, .from_ns = from, .to_ns = from + 24 * hour}},
        {"lock", {.kind = AP_KIND_LOCK, .from_ns = from, .to_ns = from + 24 * hour}},
        {"syscall", {.kind = AP_KIND_SYSCALL, .from_ns = from, .to_ns = from + 24 * hour}},
        {"gpu", {.kind = AP_KIND_GPU, .from_ns = from, .to_ns = from + 24 * hour}},
        {"seconds", {.kind = AP_KIND_CPU, .from_ns = from + 1, .to_ns = from + 3 * MADE_SEC + 30000001}},
        {"slot", {.kind = AP_KIND_CPU, .from_ns = from + 40000000, .to_ns = from + 60000000}},
        {"less than a slot", {.kind = AP_KIND_CPU, .from_ns = from + 40000001, .to_ns = from + 40000002}},
        {"minutes", {.kind = AP_KIND_CPU, .from_ns = from + 2 * MADE_SEC, .to_ns = from + 4000 * MADE_SEC + 1}},
        {"midnight", {.from_ns = from + 6399 * MADE_SEC, .to_ns = from + 6404 * MADE_SEC}},
        {"hours", {.kind = AP_KIND_CPU, .from_ns = from + 1234567890, .to_ns = from + 8 * hour + 1301 * MADE_SEC}},
        {"comm", {.from_ns = from, .to_ns = from + 24 * hour, .sets = &comm, .set_cnt = 1}},
        {"host", {.from_ns = from, .to_ns = from + 24 * hour, .sets = &host, .set_cnt = 1}},
        {"not host, comm", {.from_ns = from, .to_ns = from + 24 * hour, .sets = two, .set_cnt = 2}},
        {"service", {.from_ns = from, .to_ns = from + 24 * hour, .sets = &service, .set_cnt = 1}},
        {"no zone", {.from_ns = from, .to_ns = from + 24 * hour, .sets = &no_zone, .set_cnt = 1}},
        {"zone and pid", {.from_ns = from, .to_ns = from + 24 * hour, .sets = both, .set_cnt = 2}},
        {"nobody", {.from_ns = from, .to_ns = from + 24 * hour, .sets = &nobody, .set_cnt = 1}},
        {"long ago", {.from_ns = 1, .to_ns = from - hour}},
    };
    struct made_spec specs[64];
    size_t cnt = make_specs(specs, 64);
    struct ap_storage *memory = open_memory(), *store = open_store();

    made_commit(memory, specs, cnt);
    /* In several groups. */
    made_commit(store, specs, 1);
    made_commit(store, specs + 1, cnt / 2);
    made_commit(store, specs + 1 + cnt / 2, cnt - 1 - cnt / 2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        compare(memory, store, cases[i].name, &cases[i].scope);
    ap_storage_free(memory);
    ap_storage_free(store);
}

static void test_same_answers(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(same_answers), 0);
}

/* After another start nothing is different. */
static void same_answers_again(void)
{
    const struct ap_storage_scope all = {.from_ns = 0, .to_ns = MADE_START + 24 * 3600 * MADE_SEC};
    struct made_spec specs[64];
    size_t cnt = make_specs(specs, 64);
    struct ap_storage *memory = open_memory(), *store = open_store();

    made_commit(memory, specs, cnt);
    MADE_CHECK(made_commit(store, specs, cnt) == cnt, "all of them were there");
    compare(memory, store, "all", &all);
    ap_storage_free(memory);
    ap_storage_free(store);
}

static void commit_all(void)
{
    struct made_spec specs[64];
    size_t cnt = make_specs(specs, 64);
    struct ap_storage *store = open_store();

    MADE_CHECK(made_commit(store, specs, cnt) == 0, "none was there");
    MADE_CHECK(made_commit(store, specs, cnt) == cnt, "all were there");
    ap_storage_free(store);
}

static void test_start_again(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(commit_all), 0);
    assert_int_equal(run(same_answers_again), 0);
}

/* ---- Duplicates ---- */

static void duplicates(void)
{
    struct made_spec spec = {.agent = 1, .samples = 10, .epoch = 1, .start_ns = MADE_START, .duration_ns = MADE_SEC};
    struct ap_storage *store = open_store();
    struct made_spec same[3], gaps[200];

    spec.sequence = 1;
    same[0] = same[1] = same[2] = spec;
    same[2].epoch = 2;
    MADE_CHECK(made_commit(store, same, 3) == 1, "one of them twice");
    MADE_CHECK(made_commit(store, same, 3) == 3, "all known");
    /* More holes than are kept: the table is asked. */
    for (unsigned i = 0; i < 200; i++) {
        gaps[i] = spec;
        gaps[i].samples = 1;
        gaps[i].sequence = 10 + 2 * i;
    }
    MADE_CHECK(made_commit(store, gaps, 200) == 0, "new");
    MADE_CHECK(made_commit(store, gaps, 200) == 200, "all known");
    for (unsigned i = 0; i < 200; i++)
        gaps[i].sequence++;
    MADE_CHECK(made_commit(store, gaps, 200) == 0, "the holes");
    MADE_CHECK(made_commit(store, gaps, 200) == 200, "all known");
    ap_storage_free(store);
}

static void duplicates_after_start(void)
{
    struct made_spec spec = {.agent = 1, .samples = 1, .epoch = 1, .start_ns = MADE_START, .duration_ns = MADE_SEC};
    struct ap_storage *store = open_store();
    size_t known = 0;

    for (unsigned i = 1; i <= 500; i++) {
        spec.sequence = i;
        known += made_commit(store, &spec, 1);
    }
    /* 1 and 10 .. 409. */
    MADE_CHECK(known == 401, "%zu", known);
    ap_storage_free(store);
}

static void test_duplicates(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(duplicates), 0);
    assert_int_equal(run(duplicates_after_start), 0);
}

/* ---- Crashes ---- */

/* Two agents around midnight. */
static size_t crash_specs(struct made_spec *specs)
{
    static const uint64_t starts[] = {0, 6390, 6398, 6403};
    size_t n = 0;

    for (uint32_t agent = 1; agent <= 2; agent++) {
        for (unsigned i = 0; i < 4; i++)
            specs[n++] = (struct made_spec){.agent = agent,
                                            .samples = 20,
                                            .epoch = 7,
                                            .sequence = i + 1,
                                            .start_ns = MADE_START + starts[i] * MADE_SEC,
                                            .duration_ns = 4 * MADE_SEC};
    }
    return n;
}

static void crash(void)
{
    struct made_spec specs[8];
    size_t cnt = crash_specs(specs);
    struct ap_storage *store = open_store();

    made_commit(store, specs, 1);
    ap_store_set_crash(ap_storage_engine(store), shared->step, shared->nth);
    made_commit(store, specs + 1, cnt - 1);
    _exit(98); /* there are fewer steps */
}

static void after_crash(void)
{
    const struct ap_storage_scope all = {.from_ns = 0, .to_ns = MADE_START + 24 * 3600 * MADE_SEC};
    const struct ap_storage_scope cpu = {
        .kind = AP_KIND_CPU, .from_ns = MADE_START + 5, .to_ns = MADE_START + 12 * 3600 * MADE_SEC};
    struct made_spec specs[8];
    size_t cnt = crash_specs(specs);
    struct ap_storage *memory = open_memory(), *store = open_store();

    /* The agents come again, in other groups. */
    made_commit(store, specs + cnt / 2, cnt - cnt / 2);
    made_commit(store, specs, cnt / 2);
    made_commit(memory, specs, cnt);
    compare(memory, store, "after a crash", &all);
    compare(memory, store, "after a crash", &cpu);
    ap_storage_free(memory);
    ap_storage_free(store);
}

static void test_crash(void **state)
{
    (void)state;
    need_store();
    bool more = true;

    for (unsigned i = 0; more; i++) {
        /* The journal; each insert in turn; all of them; the end. */
        tear_down(NULL);
        set_up(NULL);
        shared->step = i == 0 ? AP_STEP_JOURNAL : i == 1 ? AP_STEP_INSERTED : i == 2 ? AP_STEP_RETIRED : AP_STEP_INSERT;
        shared->nth = i - 2;
        int status = run(crash);
        assert_true(status == 99 || status == 98);
        more = status == 99;
        assert_int_equal(run(after_crash), 0);
        assert_true(i < 40);
    }
}

/* ---- Others ---- */

static void ready(void)
{
    struct ap_storage *store = open_store();
    struct ap_storage_stats stats = {0};
    struct ap_error err = {0};
    struct made_spec spec = {
        .samples = 100, .epoch = 1, .sequence = 1, .start_ns = MADE_START, .duration_ns = MADE_SEC};

    MADE_CHECK(ap_storage_ready(store, &err) == 0, "%s", err.text);
    made_commit(store, &spec, 1);
    ap_storage_stats(store, &stats);
    MADE_CHECK(stats.flushes_ok == 1 && stats.sample_rows > 100 && stats.disk_bytes > 1000 && stats.rows > 100,
               "%lu flushes, %lu rows, %lu bytes", stats.flushes_ok, stats.sample_rows, stats.disk_bytes);
    ap_storage_free(store);
}

static void test_ready(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(ready), 0);
}

/* Retention that changes is applied, and nothing is lost by opening again. */
static void other_retention(void)
{
    struct ap_storage_opts opts = options();
    struct ap_error err = {0};
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    opts.retention_ns[AP_KIND_LOCK] = 1234512345 * MADE_SEC;
    opts.retention_1m_ns = 1543215432 * MADE_SEC;
    struct ap_storage *storage = ap_storage_open(&opts, &err);
    MADE_CHECK(storage != NULL, "%s", err.text);
    struct ap_store *store = ap_storage_engine(storage);
    ap_buf_init(&sql, 1 << 16);
    ap_buf_printf(&sql,
                  "SELECT toUInt64(sum(position(create_table_query, '1234512345') > 0)), toUInt64(sum(position("
                  "create_table_query, '1543215432') > 0)) FROM system.tables WHERE database = '%s'",
                  store->database);
    MADE_CHECK(ap_store_query(store, &sql, &result, &err) == 0, "%s", err.text);
    uint64_t locks = ap_rowbin_u64(&result.in), minutes = ap_rowbin_u64(&result.in);
    /* samples and locks; samples_1m */
    MADE_CHECK(!store->features.full || (locks == 2 && minutes == 1), "%lu %lu", locks, minutes);
    ap_sql_result_done(&result);
    ap_buf_done(&sql);
    ap_storage_free(storage);
}

static void test_retention(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(ready), 0);
    assert_int_equal(run(other_retention), 0);
}

static void too_new(void)
{
    struct ap_storage *storage = open_store();
    struct ap_store *store = ap_storage_engine(storage);
    struct ap_storage_opts opts = options();
    struct ap_error err = {0};
    char sql[200];

    snprintf(sql, sizeof(sql), "INSERT INTO %s.schema_versions (version, program, applied) SELECT 9999, 'x', now()",
             store->database);
    MADE_CHECK(store->ops->exec(store->backend, sql, &err) == 0, "%s", err.text);
    ap_storage_free(storage);
    storage = ap_storage_open(&opts, &err);
    MADE_CHECK(storage == NULL && strstr(err.text, "9999") != NULL, "%s", err.text);
}

static void test_too_new(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(too_new), 0);
}

static void bad_names(void)
{
    struct ap_storage_opts opts = options();
    struct ap_error err = {0};

    opts.database = "x; DROP TABLE y";
    MADE_CHECK(ap_storage_open(&opts, &err) == NULL && err.code == -EINVAL, "%s", err.text);
}

static void test_bad_names(void **state)
{
    (void)state;
    need_store();
    assert_int_equal(run(bad_names), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_start_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_duplicates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_crash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ready, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_retention, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_new, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_names, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
