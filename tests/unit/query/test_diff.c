/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Comparison from batches to answer. How good the test itself is, is measured in test_stat.c. */
#include "../storage/fixture.h"

#include "query/query.h"
#include "query/span.h"

#include <errno.h>
#include <math.h>

/* A steady program from FX_START on, in batches of 5 s: each 200 ms belong to one of 40 functions. From `change_s` on
 * function 2 is `boost` as likely as before. */
static void steady(struct ap_storage *storage, uint64_t seed, uint64_t seconds, uint64_t change_s, double boost,
                   uint8_t kind)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;

    for (uint64_t t = 0; t < seconds; t += 5) {
        struct ap_push *push = fx_push("a", t / 5 + 1, FX_START + t * FX_SEC, "h");
        struct ap_profile *profile = fx_profile(push, kind);
        uint32_t stacks[40], series = fx_series(profile, "app", 1, "", "");

        for (unsigned i = 0; i < 40; i++) {
            char text[64];

            (void)snprintf(text, sizeof(text), "main;group%u;f%u", i % 5, i);
            stacks[i] = fx_stack(profile, text);
        }
        for (unsigned burst = 0; burst < 25; burst++) {
            double sum = 0, at;
            unsigned f = 0;

            for (unsigned i = 0; i < 40; i++)
                sum += 1.0 / (i + 1) * (i == 2 && t >= change_s ? boost : 1);
            at = (double)fx_below(&state, 1 << 30) / (1 << 30) * sum;
            for (double seen = 0; f < 39; f++) {
                seen += 1.0 / (f + 1) * (f == 2 && t >= change_s ? boost : 1);
                if (seen > at)
                    break;
            }
            for (unsigned i = 0; i < 10; i++) {
                uint64_t value = kind == AP_KIND_CPU ? 20000000 : 1000 + (uint64_t)(1e6 / (1 + fx_below(&state, 1000)));

                assert_int_equal(ap_profile_add_sample_at(profile, series, stacks[f], burst * 10 + i, 1, value), 0);
            }
        }
        assert_false(fx_commit(storage, push));
    }
}

static struct ap_selector window(uint8_t kind, uint64_t from_s, uint64_t to_s)
{
    return (struct ap_selector){.kind = kind, .from_ns = FX_START + from_s * FX_SEC, .to_ns = FX_START + to_s * FX_SEC};
}

static struct ap_diff_answer diff(struct ap_storage *storage, struct ap_selector before, struct ap_selector after,
                                  size_t limit)
{
    struct ap_query *query = ap_query_new(storage);
    struct ap_diff_answer answer;
    struct ap_error err;

    if (ap_query_diff(query, &before, &after, limit, &answer, &err) != 0)
        fail_msg("%s", err.text);
    ap_query_free(query);
    return answer;
}

static unsigned significant(const struct ap_diff_answer *answer)
{
    unsigned cnt = 0;

    for (size_t i = 0; i < answer->row_cnt; i++) {
        assert_true(answer->rows[i].p_value >= 0 && answer->rows[i].p_value <= 1);
        assert_true(!answer->rows[i].significant || cnt == i); /* these come first */
        cnt += answer->rows[i].significant;
    }
    return cnt;
}

/* Two halves of the same run: none of 60 comparisons may name a function (see test_stat.c for the rate). */
static void test_steady(void **state)
{
    unsigned alarms = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct ap_storage *storage = fx_open(0);
        uint8_t kind = seed % 2 == 0 ? AP_KIND_CPU : AP_KIND_OFFCPU;

        steady(storage, seed, 240, 240, 1, kind);
        struct ap_diff_answer answer = diff(storage, window(kind, 0, 120), window(kind, 120, 240), 1000);
        assert_int_equal(answer.before.samples, 6000);
        assert_int_equal(answer.after.samples, 6000);
        assert_int_equal(answer.before.batches, 24);
        assert_string_equal(answer.before.source, "memory");
        alarms += significant(&answer);
        ap_diff_answer_done(&answer);
        ap_storage_free(storage);
    }
    assert_int_equal(alarms, 0);
}

/* Function 2 has 8 % of the time, then 30 %. */
static void test_change(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct ap_storage *storage = fx_open(0);
        bool found = false;

        steady(storage, seed, 1200, 600, 5, AP_KIND_CPU);
        struct ap_diff_answer answer = diff(storage, window(AP_KIND_CPU, 0, 600), window(AP_KIND_CPU, 600, 1200), 1000);
        assert_true(significant(&answer) >= 1);
        for (size_t i = 0; i < answer.row_cnt; i++) {
            const struct ap_function_change *row = &answer.rows[i];

            assert_true(row->self_before <= row->total_before && row->self_after <= row->total_after);
            if (strcmp(row->function, "main") == 0) {
                assert_true(row->total_change == 0.0 && row->p_value == 1.0);
                assert_int_equal(row->total_before, answer.before.value);
            }
            if (strcmp(row->function, "f2") != 0)
                continue;
            assert_true(row->significant);
            assert_true(row->self_change > 0.15 && row->self_change < 0.3);
            assert_true(fabs(row->self_change - ((double)row->self_after / (double)answer.after.value -
                                                 (double)row->self_before / (double)answer.before.value)) < 1e-9);
            assert_int_equal(row->self_before, row->total_before);
            found = true;
        }
        assert_true(found);
        ap_diff_answer_done(&answer);
        /* the other way round it is as significant and has the other sign */
        answer = diff(storage, window(AP_KIND_CPU, 600, 1200), window(AP_KIND_CPU, 0, 600), 3);
        assert_int_equal(answer.row_cnt, 3);
        assert_true(answer.rows[0].significant);
        ap_diff_answer_done(&answer);
        ap_storage_free(storage);
    }
}

/* Data that fills a small part of both windows, as after a short recording. */
static void test_short(void **state)
{
    struct ap_storage *storage = fx_open(0);

    (void)state;
    steady(storage, 3, 120, 60, 1e6, AP_KIND_CPU); /* then nothing but f2 */
    struct ap_diff_answer answer =
        diff(storage, (struct ap_selector){.kind = AP_KIND_CPU, .from_ns = 0, .to_ns = FX_START + 60 * FX_SEC},
             window(AP_KIND_CPU, 60, 1800), 10);
    assert_true(significant(&answer) >= 2);
    assert_true(answer.rows[0].significant);
    ap_diff_answer_done(&answer);
    ap_storage_free(storage);
}

/* Imported profiles have no times of their own: how steady they are is not known, and nothing is called significant. */
static void test_without_times(void **state)
{
    struct ap_storage *storage = fx_open(0);

    (void)state;
    for (uint64_t i = 0; i < 2; i++) {
        struct ap_push *push = fx_push("import", i + 1, FX_START + i * 100 * FX_SEC, "h");

        fx_sample(fx_profile(push, AP_KIND_CPU), "app", "main;a", 0, i == 0 ? 90000 : 10000, i == 0 ? 90000 : 10000);
        fx_sample(fx_profile(push, AP_KIND_CPU), "app", "main;b", 0, i == 0 ? 10000 : 90000, i == 0 ? 10000 : 90000);
        assert_false(fx_commit(storage, push));
    }
    struct ap_diff_answer answer = diff(storage, window(AP_KIND_CPU, 0, 50), window(AP_KIND_CPU, 50, 200), 10);
    assert_int_equal(significant(&answer), 0);
    assert_int_equal(answer.row_cnt, 3);
    assert_true(fabs(answer.rows[0].self_change) > 0.79);
    assert_true(answer.rows[0].p_value == 1.0);
    ap_diff_answer_done(&answer);
    ap_storage_free(storage);
}

static void test_empty_side(void **state)
{
    struct ap_storage *storage = fx_open(0);

    (void)state;
    steady(storage, 3, 60, 60, 1, AP_KIND_CPU);
    struct ap_diff_answer answer = diff(storage, window(AP_KIND_CPU, 1000, 1100), window(AP_KIND_CPU, 0, 60), 10);
    assert_int_equal(significant(&answer), 0);
    assert_int_equal(answer.row_cnt, 10);
    assert_int_equal(answer.before.samples, 0);
    assert_int_equal(answer.rows[0].self_before, 0);
    ap_diff_answer_done(&answer);
    answer = diff(storage, window(AP_KIND_CPU, 1000, 1100), window(AP_KIND_CPU, 2000, 2060), 10);
    assert_int_equal(answer.row_cnt, 0);
    ap_diff_answer_done(&answer);
    ap_storage_free(storage);
}

static void test_filter(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_selector before = window(AP_KIND_CPU, 0, 60), after = window(AP_KIND_CPU, 60, 120);

    (void)state;
    steady(storage, 3, 120, 120, 1, AP_KIND_CPU);
    assert_int_equal(ap_selector_function(&before, "f1", false, NULL), 0);
    assert_int_equal(ap_selector_function(&after, "^f1$|^f2$", true, NULL), 0);
    struct ap_diff_answer answer = diff(storage, before, after, 100);
    for (size_t i = 0; i < answer.row_cnt; i++) {
        if (strcmp(answer.rows[i].function, "f2") == 0)
            assert_true(answer.rows[i].self_before == 0 && answer.rows[i].self_after > 0);
        if (strcmp(answer.rows[i].function, "f12") == 0)
            assert_true(answer.rows[i].self_before > 0 && answer.rows[i].self_after == 0);
        assert_string_not_equal(answer.rows[i].function, "f3");
    }
    ap_diff_answer_done(&answer);
    ap_selector_done(&before);
    ap_selector_done(&after);
    ap_storage_free(storage);
}

static void test_refused(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_query *query = ap_query_new(storage);
    struct ap_selector cpu = window(AP_KIND_CPU, 0, 60), lock = window(AP_KIND_LOCK, 0, 60), none = window(0, 0, 60),
                       reversed = window(AP_KIND_CPU, 60, 0);
    struct ap_diff_answer answer;
    struct ap_error err;

    (void)state;
    assert_int_equal(ap_query_diff(query, &cpu, &lock, 10, &answer, &err), -EINVAL);
    assert_non_null(strstr(err.text, "cpu cannot be compared with lock"));
    assert_int_equal(ap_query_diff(query, &cpu, &none, 10, &answer, &err), -EINVAL);
    assert_int_equal(ap_query_diff(query, &cpu, &reversed, 10, &answer, &err), -EINVAL);
    assert_int_equal(ap_query_diff(query, &cpu, &cpu, 1000000, &answer, &err), -EINVAL);
    ap_query_free(query);
    ap_storage_free(storage);
}

/* ---- Parts of time (query/span.h) ---- */

static void test_step(void **state)
{
    (void)state;
    assert_int_equal(ap_span_step(1, 300), 20000000);
    assert_int_equal(ap_span_step(60 * FX_SEC, 300), 200000000);
    assert_int_equal(ap_span_step(3600 * FX_SEC, 300), 15 * FX_SEC);
    assert_int_equal(ap_span_step(86400 * FX_SEC, 300), 300 * FX_SEC);
    assert_int_equal(ap_span_step(7 * 86400 * FX_SEC, 300), 3600 * FX_SEC);
    for (uint64_t range = 1; range < UINT64_MAX / 3; range *= 3) {
        uint64_t step = ap_span_step(range, 300);

        assert_int_equal(step % AP_PUSH_SLOT_NS, 0);
        assert_true(range / step <= 300);
    }
    assert_true(ap_span_step(UINT64_MAX, 300) >= UINT64_MAX / 300);
}

static void test_parts(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_storage_scope scope = {.kind = AP_KIND_CPU, .from_ns = 0, .to_ns = FX_START * 2};
    struct ap_span_parts parts;
    uint64_t from, to;

    (void)state;
    assert_int_equal(ap_span_parts(storage, &scope, &parts, NULL), 0); /* nothing */
    assert_int_equal(parts.cnt, 1);
    assert_int_equal(parts.at[0], 0);
    assert_int_equal(parts.at[1], scope.to_ns);
    steady(storage, 1, 160, 160, 1, AP_KIND_CPU);
    assert_int_equal(ap_span_parts(storage, &scope, &parts, NULL), 0);
    assert_int_equal(parts.cnt, AP_STAT_PARTS);
    assert_int_equal(parts.at[0], 0);
    assert_int_equal(parts.at[AP_STAT_PARTS], scope.to_ns);
    for (unsigned i = 1; i < AP_STAT_PARTS; i++) { /* 10 s each */
        int64_t off = (int64_t)(parts.at[i] - FX_START - i * 10 * FX_SEC);

        assert_true(parts.at[i] > parts.at[i - 1]);
        assert_true(off >= -2 * (int64_t)FX_SEC && off <= 2 * (int64_t)FX_SEC);
    }
    assert_int_equal(ap_span_narrow(storage, &scope, &from, &to, NULL), 0);
    assert_true(from <= FX_START && from + 2 * FX_SEC >= FX_START);
    assert_true(to >= FX_START + 159 * FX_SEC && to <= FX_START + 162 * FX_SEC);
    ap_storage_free(storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steady),        cmocka_unit_test(test_change),     cmocka_unit_test(test_short),
        cmocka_unit_test(test_without_times), cmocka_unit_test(test_empty_side), cmocka_unit_test(test_filter),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_step),       cmocka_unit_test(test_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
