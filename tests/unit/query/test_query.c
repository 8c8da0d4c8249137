/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../storage/fixture.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "query/gather.h"
#include "query/query.h"

#include <errno.h>

struct fixture {
    struct ap_storage *storage;
    struct ap_query *query;
};

static struct ap_selector selector(uint8_t kind, const char *labels)
{
    struct ap_selector s = {.kind = kind, .from_ns = FX_START, .to_ns = FX_START + 60 * FX_SEC};

    assert_int_equal(ap_selector_parse(&s, labels, NULL), 0);
    return s;
}

static struct ap_selector filtered(uint8_t kind, const char *function, bool regex)
{
    struct ap_selector s = selector(kind, "");

    assert_int_equal(ap_selector_function(&s, function, regex, NULL), 0);
    return s;
}

static void add_lock(struct ap_push *push, uint64_t address, const char *waiter, const char *waker, uint8_t type,
                     uint64_t ns)
{
    struct ap_profile *profile = fx_profile(push, AP_KIND_LOCK);
    uint32_t series = fx_series(profile, "app", 1, "", "");
    struct ap_lock_row *row;

    if (profile->locks == NULL)
        profile->locks = ap_locks_new();
    row = ap_locks_row(profile->locks, 1, address, false);
    row->pid = 1;
    row->comm = ap_strings_id(profile->strings, "app");
    row->type = type;
    row->waits = 4;
    row->total_ns = ns;
    row->max_ns = ns / 2;
    row->timeouts = 1;
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(ns / 4), 4), 0);
    assert_int_equal(
        ap_lock_row_add(row, series, fx_stack(profile, waiter), AP_LOCK_UNKNOWN, AP_LOCK_NO_STACK, 1, ns / 8, 1), 0);
    assert_int_equal(ap_lock_row_add(row, series, fx_stack(profile, waiter), series, fx_stack(profile, waker), 3,
                                     ns - ns / 8, ns / 2),
                     0);
    assert_int_equal(ap_profile_add_sample(profile, series, fx_stack(profile, waiter), 4, ns), 0);
}

static void add_syscall(struct ap_push *push, uint32_t number, const char *name, uint64_t count, uint64_t ns)
{
    struct ap_profile *profile = fx_profile(push, AP_KIND_SYSCALL);
    struct ap_syscall_row *row;

    if (profile->syscalls == NULL)
        profile->syscalls = ap_syscalls_new(profile->strings);
    row = ap_syscalls_row(profile->syscalls, 1, 1, "app", AP_SYSCALL_NATIVE, number);
    row->name = ap_strings_id(profile->strings, name);
    row->count = count;
    row->total_ns = ns;
    row->max_ns = ns;
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(ns), count), 0);
    assert_int_equal(ap_syscall_row_error(row, ENOENT, 2), 0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    static const char *const hosts[] = {"one", "two"};

    f->storage = fx_open(0);
    f->query = ap_query_new(f->storage);
    assert_non_null(f->query);
    for (unsigned h = 0; h < 2; h++) {
        for (uint64_t i = 1; i <= 4; i++) {
            struct ap_push *push = fx_push(hosts[h], i, FX_START + i * 5 * FX_SEC, hosts[h]);
            struct ap_profile *cpu = fx_profile(push, AP_KIND_CPU);

            push->capture->accounts[0] =
                (struct ap_account){.expected = 11, .delivered = 10, .losses = {[AP_LOSS_RING_FULL] = 1}};
            fx_sample(cpu, "app", "main;parse;read_line", (uint32_t)i, 4, 40);
            fx_sample(cpu, "app", "main;parse", (uint32_t)i, 1, 10);
            fx_sample(cpu, "app", "main;write;k:sys_write", (uint32_t)i + 50, 3, 30);
            fx_sample(cpu, "idle", "main;sleep", (uint32_t)i + 50, 2, 20);
            add_lock(push, 0x10, "main;take_cache_lock", "main;drop", AP_LOCK_CONDVAR, 8000);
            add_lock(push, 0x20, "main;take_small_lock", "main;drop", AP_LOCK_MUTEX, 800);
            add_syscall(push, 0, "read", 10, 5000);
            add_syscall(push, 257, "openat", 5, 9000);
            assert_false(fx_commit(f->storage, push));
        }
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    ap_query_free(f->query);
    assert_null(ap_query_free(NULL));
    ap_storage_free(f->storage);
    free(f);
    return 0;
}

static void test_capture(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_capture *capture;
    struct ap_provenance provenance;

    assert_int_equal(ap_query_capture(f->query, &s, &capture, &provenance, NULL), 0);
    assert_int_equal(capture->profile_cnt, 1);
    const struct ap_profile *profile = capture->profiles[0];
    assert_int_equal(profile->kind, AP_KIND_CPU);
    assert_int_equal(profile->sample_cnt, 4);
    assert_int_equal(ap_profile_total_count(profile), 80);
    assert_int_equal(ap_profile_total_value(profile), 800);
    assert_int_equal(profile->period_ns, 10);
    assert_int_equal(profile->start_ns, FX_START);
    assert_int_equal(profile->duration_ns, 60 * FX_SEC);
    assert_int_equal(capture->accounts[0].expected, 88);
    assert_int_equal(provenance.samples, 80);
    assert_int_equal(provenance.value, 800);
    assert_int_equal(provenance.account.losses[AP_LOSS_RING_FULL], 8);
    assert_int_equal(provenance.batches, 8);
    assert_int_equal(provenance.newest_ns, FX_START + 25 * FX_SEC);
    assert_string_equal(provenance.source, "memory");
    ap_capture_free(capture);

    s.from_ns = 0; /* the beginning: where there is something */
    assert_int_equal(ap_query_capture(f->query, &s, &capture, &provenance, NULL), 0);
    assert_int_equal(ap_profile_total_count(capture->profiles[0]), 80);
    assert_true(capture->profiles[0]->start_ns > FX_START && capture->profiles[0]->start_ns <= FX_START + 6 * FX_SEC);
    assert_true(capture->profiles[0]->duration_ns < 25 * FX_SEC);
    ap_capture_free(capture);

    s.from_ns = FX_START + 50 * FX_SEC; /* nothing there */
    assert_int_equal(ap_query_capture(f->query, &s, &capture, &provenance, NULL), 0);
    assert_int_equal(capture->profiles[0]->sample_cnt, 0);
    assert_int_equal(provenance.samples, 0);
    assert_int_equal(provenance.newest_ns, 0);
    ap_capture_free(capture);
}

static uint64_t count_of(struct fixture *f, const struct ap_selector *s)
{
    struct ap_functions_answer answer;
    uint64_t count;
    struct ap_error err;

    if (ap_query_functions(f->query, s, 0, &answer, &err) != 0)
        fail_msg("%s", err.text);
    count = answer.provenance.samples;
    ap_functions_answer_done(&answer);
    return count;
}

static void test_filters(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *function;
        bool regex;
        uint64_t count;
    } cases[] = {
        {"parse", false, 40}, {"read_line", false, 32}, {"READ", false, 0}, {"main", false, 80}, {"^s", true, 40},
        {"e$", true, 64},     {"sys_|sleep", true, 40}, {"app", false, 0}, /* a thread's name is no function */
        {"", false, 80},      {"", true, 80},
    };
    struct ap_selector s;
    struct ap_error err;
    struct ap_functions_answer answer;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        s = filtered(AP_KIND_CPU, cases[i].function, cases[i].regex);
        uint64_t count = count_of(f, &s);

        if (count != cases[i].count)
            fail_msg("%s: %u", cases[i].function, (unsigned)count);
        ap_selector_done(&s);
    }
    s = filtered(AP_KIND_CPU, "(", true);
    assert_int_equal(ap_query_functions(f->query, &s, 0, &answer, &err), -EINVAL);
    assert_non_null(strstr(err.text, "parenthesis"));
    ap_selector_done(&s);
    s = selector(AP_KIND_CPU, "host=\"one\"");
    assert_int_equal(count_of(f, &s), 40);
    ap_selector_done(&s);
    s = selector(AP_KIND_CPU, "host=~\"t.*\",comm!=\"idle\"");
    assert_int_equal(count_of(f, &s), 32);
    ap_selector_done(&s);
}

static void test_tree(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_tree_answer answer;
    struct ap_error err;

    assert_int_equal(ap_query_tree(f->query, &s, NULL, 0, 0, &answer, NULL), 0);
    assert_int_equal(answer.node_cnt, 10);
    assert_int_equal(answer.nodes[0].value, 800);
    assert_int_equal(answer.provenance.samples, 80);
    ap_tree_answer_done(&answer);
    assert_int_equal(ap_query_tree(f->query, &s, (const char *const[]){"app", "main", "parse"}, 3, 2, &answer, NULL),
                     0);
    assert_int_equal(answer.node_cnt, 2);
    assert_int_equal(answer.nodes[0].value, 400);
    assert_int_equal(answer.nodes[0].self, 80);
    assert_int_equal(answer.provenance.samples, 40);
    assert_int_equal(answer.provenance.value, 400);
    ap_tree_answer_done(&answer);
    assert_int_equal(ap_query_tree(f->query, &s, (const char *const[]){"x"}, 1, 0, &answer, &err), -ENOENT);
    assert_int_equal(ap_query_tree(f->query, &s, NULL, 0, AP_QUERY_NODES_MAX + 1, &answer, &err), -EINVAL);
    s.kind = 0;
    assert_int_equal(ap_query_tree(f->query, &s, NULL, 0, 0, &answer, &err), -EINVAL);
    assert_non_null(strstr(err.text, "which kind"));
}

static void test_functions(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_functions_answer answer;

    assert_int_equal(ap_query_functions(f->query, &s, 2, &answer, NULL), 0);
    assert_int_equal(answer.function_total, 6);
    assert_int_equal(answer.row_cnt, 2);
    assert_string_equal(answer.rows[0].function, "read_line");
    assert_string_equal(answer.rows[0].module, "/app");
    assert_int_equal(answer.rows[0].self, 320);
    assert_int_equal(answer.rows[0].self_count, 32);
    assert_string_equal(answer.rows[1].function, "sys_write");
    assert_int_equal(answer.rows[1].kind, AP_FRAME_KERNEL);
    ap_functions_answer_done(&answer);
    assert_int_equal(ap_query_functions(f->query, &s, AP_QUERY_LIMIT_MAX + 1, &answer, NULL), -EINVAL);
}

static void test_stacks(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_stacks_answer answer;

    assert_int_equal(ap_query_stacks(f->query, &s, 3, &answer, NULL), 0);
    assert_int_equal(answer.stack_total, 4);
    assert_int_equal(answer.row_cnt, 3);
    assert_int_equal(answer.rows[0].value, 320);
    assert_int_equal(answer.rows[0].count, 32);
    assert_int_equal(answer.rows[0].function_cnt, 4);
    assert_string_equal(answer.rows[0].functions[0], "app");
    assert_string_equal(answer.rows[0].functions[1], "main");
    assert_string_equal(answer.rows[0].functions[3], "read_line");
    assert_string_equal(answer.rows[2].functions[0], "idle");
    ap_stacks_answer_done(&answer);
}

static void test_aggregate_locks(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_LOCK, "host=\"one\"");
    struct ap_aggregate_answer answer;

    assert_int_equal(ap_query_aggregate(f->query, &s, 0, 0, &answer, NULL), 0);
    assert_int_equal(answer.tree.node_cnt, 0);
    assert_int_equal(answer.syscall_cnt, 0);
    assert_int_equal(answer.lock_cnt, 2);
    assert_int_equal(answer.functions.provenance.samples, 32);
    assert_int_equal(answer.functions.provenance.value, 35200);
    const struct ap_lock_answer_row *row = &answer.locks[0]; /* by time, whatever it is */
    assert_string_equal(row->type, "condvar");
    assert_string_equal(row->host, "one");
    assert_string_equal(row->comm, "app");
    assert_string_equal(row->symbol, "");
    assert_string_equal(row->top_waiter, "take_cache_lock");
    assert_string_equal(row->top_waker, "drop"); /* not the unknown ones */
    assert_int_equal(row->address, 0x10);
    assert_int_equal(row->waits, 16);
    assert_int_equal(row->total_ns, 32000);
    assert_int_equal(row->max_ns, 4000);
    assert_int_equal(row->timeouts, 4);
    assert_true(row->p50_ns > 1700 && row->p50_ns < 2300);
    assert_int_equal(row->p99_ns, 4000); /* of 16, the largest */
    ap_aggregate_answer_done(&answer);
    assert_int_equal(ap_query_aggregate(f->query, &s, 1, 100, &answer, NULL), 0);
    assert_int_equal(answer.lock_cnt, 1);
    assert_int_equal(answer.functions.row_cnt, 1);
    assert_int_equal(answer.functions.function_total, 3);
    assert_int_equal(answer.tree.node_cnt, 5);
    assert_int_equal(answer.tree.provenance.samples, 32);
    ap_aggregate_answer_done(&answer);
    ap_selector_done(&s);

    s = filtered(AP_KIND_LOCK, "small", false);
    assert_int_equal(ap_query_aggregate(f->query, &s, 0, 0, &answer, NULL), 0);
    assert_int_equal(answer.lock_cnt, 2); /* of both hosts */
    assert_int_equal(answer.locks[0].address, 0x20);
    assert_int_equal(answer.functions.provenance.samples, 32);
    ap_aggregate_answer_done(&answer);
    ap_selector_done(&s);
}

static void test_aggregate_syscalls(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_SYSCALL, "host=\"two\"");
    struct ap_aggregate_answer answer;

    assert_int_equal(ap_query_aggregate(f->query, &s, 0, 10, &answer, NULL), 0);
    assert_int_equal(answer.syscall_cnt, 2);
    assert_string_equal(answer.syscalls[0].name, "openat");
    assert_string_equal(answer.syscalls[0].host, "two");
    assert_int_equal(answer.syscalls[0].number, 257);
    assert_int_equal(answer.syscalls[0].count, 20);
    assert_int_equal(answer.syscalls[0].errors, 8);
    assert_int_equal(answer.syscalls[0].total_ns, 36000);
    assert_int_equal(answer.functions.provenance.samples, 60);
    assert_int_equal(answer.functions.provenance.value, 56000);
    ap_aggregate_answer_done(&answer);
    ap_selector_done(&s);
    s = filtered(AP_KIND_SYSCALL, "^re", true); /* calls by their name */
    assert_int_equal(ap_query_aggregate(f->query, &s, 0, 0, &answer, NULL), 0);
    assert_int_equal(answer.syscall_cnt, 2);
    assert_string_equal(answer.syscalls[0].name, "read");
    ap_aggregate_answer_done(&answer);
    ap_selector_done(&s);
}

static void test_timeline(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_provenance provenance;
    struct ap_points points;
    struct ap_error err;
    uint64_t step;

    assert_int_equal(ap_query_timeline(f->query, &s, 0, NULL, 0, &points, &step, &provenance, NULL), 0);
    assert_int_equal(step, 200000000); /* 60 s in 300 buckets */
    assert_int_equal(points.group_cnt, 1);
    assert_string_equal(points.groups[0], "");
    assert_int_equal(provenance.samples, 80);
    assert_int_equal(provenance.value, 800);
    assert_int_equal(provenance.batches, 8);
    ap_points_done(&points);

    assert_int_equal(ap_query_timeline(f->query, &s, 10 * FX_SEC, "host", 1, &points, &step, &provenance, NULL), 0);
    assert_int_equal(step, 10 * FX_SEC);
    assert_int_equal(points.group_cnt, 2);
    assert_string_equal(points.groups[0], "one");
    assert_string_equal(points.groups[1], "(other)");
    assert_int_equal(points.point_cnt, 6);
    assert_int_equal(points.points[0].t_ns, FX_START);
    assert_int_equal(points.points[0].count, 10);
    assert_int_equal(points.points[1].count, 20);
    assert_int_equal(points.points[5].group, 1);
    ap_points_done(&points);

    s.from_ns = 0;
    assert_int_equal(ap_query_timeline(f->query, &s, 0, NULL, 0, &points, &step, &provenance, NULL), 0);
    assert_true(step <= 100000000); /* of the 17 s in which there is something */
    assert_int_equal(provenance.samples, 80);
    ap_points_done(&points);

    assert_int_equal(ap_query_timeline(f->query, &s, 5, NULL, 0, &points, &step, &provenance, &err), -EINVAL);
    assert_non_null(strstr(err.text, "multiple of 20 ms"));
    assert_int_equal(ap_query_timeline(f->query, &s, 0, "a b", 0, &points, &step, &provenance, &err), -EINVAL);
    assert_int_equal(ap_query_timeline(f->query, &s, 0, "host", 100000, &points, &step, &provenance, &err), -EINVAL);
}

static void test_timeline_of_functions(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = filtered(AP_KIND_CPU, "parse", false);
    struct ap_provenance provenance;
    struct ap_points points;
    struct ap_error err;
    uint64_t step;

    assert_int_equal(ap_query_timeline(f->query, &s, 5 * FX_SEC, NULL, 0, &points, &step, &provenance, NULL), 0);
    assert_int_equal(points.group_cnt, 1);
    assert_int_equal(points.point_cnt, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(points.points[i].t_ns, FX_START + (i + 1) * 5 * FX_SEC);
        assert_int_equal(points.points[i].count, 10);
        assert_int_equal(points.points[i].value, 100);
    }
    assert_int_equal(provenance.samples, 40);
    ap_points_done(&points);
    assert_int_equal(ap_query_timeline(f->query, &s, 0, NULL, 0, &points, &step, &provenance, NULL), 0);
    assert_int_equal(step, FX_SEC);
    ap_points_done(&points);
    assert_int_equal(ap_query_timeline(f->query, &s, 0, "host", 0, &points, &step, &provenance, &err), -EINVAL);
    assert_int_equal(ap_query_timeline(f->query, &s, AP_PUSH_SLOT_NS, NULL, 0, &points, &step, &provenance, &err),
                     -E2BIG);
    ap_selector_done(&s);
    s = filtered(AP_KIND_CPU, "nowhere", false);
    assert_int_equal(ap_query_timeline(f->query, &s, 0, NULL, 0, &points, &step, &provenance, NULL), 0);
    assert_int_equal(points.group_cnt, 0);
    assert_int_equal(points.point_cnt, 0);
    ap_points_done(&points);
    ap_selector_done(&s);
}

static void test_heatmap(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(AP_KIND_CPU, "");
    struct ap_provenance provenance;
    struct ap_points points;
    struct ap_error err;

    assert_int_equal(ap_query_heatmap(f->query, &s, &points, &provenance, NULL), 0);
    assert_int_equal(points.point_cnt, 8);
    assert_int_equal(points.points[0].t_ns, FX_START + 5 * FX_SEC + AP_PUSH_SLOT_NS);
    assert_int_equal(points.points[0].count, 10);
    assert_int_equal(points.points[1].t_ns, FX_START + 5 * FX_SEC + 51 * AP_PUSH_SLOT_NS);
    assert_int_equal(provenance.samples, 80);
    ap_points_done(&points);
    s.to_ns = s.from_ns + AP_HEATMAP_RANGE_MAX + 1;
    assert_int_equal(ap_query_heatmap(f->query, &s, &points, &provenance, &err), -E2BIG);
    s = filtered(AP_KIND_CPU, "parse", false);
    assert_int_equal(ap_query_heatmap(f->query, &s, &points, &provenance, &err), -EINVAL);
    ap_selector_done(&s);
}

static void test_lists(void **state)
{
    struct fixture *f = *state;
    struct ap_selector s = selector(0, "host=~\"o.*\"");
    struct ap_batches_answer batches;
    struct ap_agents_answer agents;
    struct ap_series_rows series;
    struct ap_texts texts;
    struct ap_error err;

    assert_int_equal(ap_query_batches(f->query, &s, 3, &batches, NULL), 0);
    assert_int_equal(batches.row_cnt, 3);
    assert_string_equal(batches.rows[0].agent_id, "one");
    assert_int_equal(batches.rows[0].sequence, 4);
    assert_int_equal(batches.rows[0].kind_cnt, 3);
    ap_batches_answer_done(&batches);
    assert_int_equal(ap_query_agents(f->query, &s, &agents, NULL), 0);
    assert_int_equal(agents.row_cnt, 1);
    assert_int_equal(agents.rows[0].batches, 4);
    ap_agents_answer_done(&agents);
    assert_int_equal(ap_query_labels(f->query, &s, &texts, NULL), 0);
    assert_int_equal(texts.cnt, 4);
    assert_string_equal(texts.items[1], "comm");
    ap_texts_done(&texts);
    assert_int_equal(ap_query_label_values(f->query, &s, "comm", &texts, NULL), 0);
    assert_int_equal(texts.cnt, 2);
    assert_string_equal(texts.items[1], "idle");
    ap_texts_done(&texts);
    assert_int_equal(ap_query_label_values(f->query, &s, "com m", &texts, &err), -EINVAL);
    assert_int_equal(ap_query_series(f->query, &s, 0, &series, NULL), 0);
    assert_int_equal(series.cnt, 2);
    ap_series_rows_done(&series);
    ap_selector_done(&s);
}

/* Sums may name stacks that storage has no more: they stay in the totals, under a mark. */
static void test_not_stored(void **state)
{
    struct fixture *f = *state;
    struct ap_query query = {.storage = f->storage, .cache = ap_cache_new(f->storage, AP_CACHE_SZ)};
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_storage_scope scope = {.kind = AP_KIND_CPU, .from_ns = FX_START, .to_ns = FX_START + 60 * FX_SEC};
    struct ap_selector s = filtered(AP_KIND_CPU, "main", false);
    struct ap_stack_sums sums;
    struct ap_filter *filter;
    uint64_t stacks[3];
    uint32_t stack[3], series[3];

    assert_int_equal(ap_storage_stacks(f->storage, &scope, &sums, NULL), 0);
    stacks[0] = 1;
    stacks[1] = sums.stacks[0];
    stacks[2] = UINT64_MAX;
    assert_int_equal(ap_gather_stacks(&query, stacks, 3, NULL, profile, stack, series, NULL), 0);
    assert_int_equal(stack[0], stack[2]);
    assert_int_not_equal(stack[0], stack[1]);
    const struct ap_frame *frame = &profile->frames[profile->stack_frames[profile->stacks[stack[0]].first]];
    assert_int_equal(frame->kind, AP_FRAME_MARK);
    assert_string_equal(ap_profile_str(profile, frame->function), "[stack not stored]");
    assert_string_equal(ap_profile_str(profile, profile->series[series[0]].comm), "[unknown]");
    /* with a filter they are nobody's */
    assert_int_equal(ap_filter_new(&s, &filter, NULL), 0);
    assert_int_equal(ap_gather_stacks(&query, stacks, 3, filter, profile, stack, series, NULL), 0);
    assert_int_equal(stack[0], UINT32_MAX);
    assert_int_not_equal(stack[1], UINT32_MAX);
    assert_null(ap_filter_free(filter));
    ap_selector_done(&s);
    ap_stack_sums_done(&sums);
    ap_profile_free(profile);
    ap_cache_free(query.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_stacks),
        cmocka_unit_test(test_aggregate_locks),
        cmocka_unit_test(test_aggregate_syscalls),
        cmocka_unit_test(test_timeline),
        cmocka_unit_test(test_timeline_of_functions),
        cmocka_unit_test(test_heatmap),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_not_stored),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
