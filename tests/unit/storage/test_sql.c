/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/clock.h"
#include "storage/backend.h"
#include "storage/sql.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define HOUR (3600 * AP_NS_PER_SEC)
#define MIN  (60 * AP_NS_PER_SEC)

static const struct ap_sql_features full = {.version = 2607, .full = true}, old = {.version = 1816};

/* A plan's pieces follow each other without a gap from the first slot to the last. */
static void check_plan(const struct ap_storage_scope *scope, const struct ap_sql_plan *plan)
{
    struct ap_slots all = ap_slots_of(scope->from_ns, scope->to_ns);
    uint64_t at = all.from;

    for (unsigned i = 0; i < plan->cnt; i++) {
        const struct ap_sql_piece *piece = &plan->pieces[i];
        uint64_t step = piece->table == AP_TABLE_SAMPLES_1H   ? 3600 * 50
                        : piece->table == AP_TABLE_SERIES_1H  ? 3600 * 50
                        : piece->table == AP_TABLE_SAMPLES_1M ? 60 * 50
                                                              : 1;

        assert_int_equal(piece->slots.from, at);
        assert_true(piece->slots.from < piece->slots.to);
        assert_int_equal(piece->slots.from % step, 0);
        assert_int_equal(piece->slots.to % step, 0);
        at = piece->slots.to;
    }
    if (all.from < all.to)
        assert_int_equal(at, all.to);
    else
        assert_int_equal(plan->cnt, 0);
}

static struct ap_sql_plan plan_of(const struct ap_storage_scope *scope, const struct ap_sql_features *features,
                                  uint64_t step_ns, const char *label, uint64_t raw_since)
{
    const struct ap_sql_wish wish = {.step_ns = step_ns, .label = label, .raw_since = raw_since};

    return ap_sql_plan(scope, features, &wish);
}

static void test_plans(void **state)
{
    (void)state;
    const uint64_t base = 1700000000 / 3600 * HOUR;
    uint64_t seed = 42;

    for (unsigned i = 0; i < 20000; i++) {
        struct ap_storage_scope scope = {.kind = 1};
        uint64_t numbers[3];

        for (unsigned n = 0; n < 3; n++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            numbers[n] = seed >> 20;
        }
        scope.from_ns =
            base + numbers[0] % (2 * HOUR) / (numbers[2] % 3 == 0 ? MIN : 1) * (numbers[2] % 3 == 0 ? MIN : 1);
        scope.to_ns = scope.from_ns + 1 + numbers[1] % (i % 2 == 0 ? 12 * HOUR : 10 * MIN);
        struct ap_sql_plan plan = plan_of(&scope, &full, 0, NULL, seed % 2 == 0 ? 0 : ap_slots_of(base + HOUR, 0).from);
        check_plan(&scope, &plan);
        plan = plan_of(&scope, &full, 60 * AP_NS_PER_SEC, "comm", 0);
        check_plan(&scope, &plan);
        for (unsigned p = 0; p < plan.cnt; p++)
            assert_int_not_equal(plan.pieces[p].table, AP_TABLE_SAMPLES_1H);
        plan = plan_of(&scope, &old, 0, NULL, UINT64_MAX);
        check_plan(&scope, &plan);
        assert_string_equal(plan.source, "raw");
        plan = ap_sql_plan_series(&scope);
        check_plan(&scope, &plan);
    }
}

static void test_sources(void **state)
{
    (void)state;
    const char *const one[] = {"1"};
    const struct ap_value_set pid = {.label = "pid", .values = one, .value_cnt = 1};
    struct ap_storage_scope scope = {.kind = 1, .from_ns = 10 * HOUR, .to_ns = 34 * HOUR};

    assert_string_equal(plan_of(&scope, &full, 0, NULL, 0).source, "1h");
    assert_int_equal(plan_of(&scope, &full, 0, NULL, 0).cnt, 1);
    assert_string_equal(plan_of(&scope, &full, 60 * AP_NS_PER_SEC, NULL, 0).source, "1m");
    assert_string_equal(plan_of(&scope, &full, 20000000, NULL, 0).source, "raw");
    assert_string_equal(plan_of(&scope, &full, 0, "pid", 0).source, "raw");
    scope.from_ns++;
    assert_int_equal(plan_of(&scope, &full, 0, NULL, 0).cnt, 2);          /* most of an hour of samples, hours */
    assert_int_equal(plan_of(&scope, &full, 0, NULL, UINT64_MAX).cnt, 3); /* samples are gone: minutes in between */
    scope.sets = &pid;
    scope.set_cnt = 1;
    assert_string_equal(plan_of(&scope, &full, 0, NULL, 0).source, "raw");
    scope.set_cnt = 0;
    scope.to_ns = scope.from_ns + 20 * MIN;
    assert_string_equal(plan_of(&scope, &full, 0, NULL, 0).source, "raw");
    assert_string_equal(plan_of(&scope, &full, 0, NULL, UINT64_MAX).source, "1m");
    scope.from_ns--;
    scope.to_ns--;
    assert_string_equal(plan_of(&scope, &full, 0, NULL, 0).source, "1m");
}

/* No byte of a caller's text stands in a statement but as hex digits. */
static void test_hostile(void **state)
{
    (void)state;
    const char *const values[] = {"'); DROP TABLE x; --", "\\'", "a\nb", ""};
    const struct ap_value_set sets[] = {
        {.label = "it's", .values = values, .value_cnt = 4},
        {.label = "`x`", .negative = true, .values = values, .value_cnt = 1},
        {.label = "none", .values = NULL, .value_cnt = 0},
    };
    const struct ap_storage_scope scope = {.kind = 1, .from_ns = 1, .to_ns = HOUR, .sets = sets, .set_cnt = 3};
    struct ap_buf sql;

    ap_buf_init(&sql, 1 << 20);
    ap_sql_series(&sql, "db", &scope, false);
    assert_string_equal(
        sql.data,
        " AND series IN (SELECT hash FROM db.series WHERE 1 AND hex(texts[indexOf(names, unhex('69742773'))]) IN "
        "('27293B2044524F50205441424C4520783B202D2D', '5C27', '610A62', '') AND hex(texts[indexOf(names, "
        "unhex('607860'))]) NOT IN ('27293B2044524F50205441424C4520783B202D2D') AND 0)");
    ap_buf_done(&sql);
}

static void test_slots(void **state)
{
    (void)state;
    struct ap_buf sql;

    ap_buf_init(&sql, 1 << 20);
    ap_sql_slots(&sql, &(struct ap_slots){.from = 100, .to = 150});
    assert_string_equal(sql.data, " AND t >= toDateTime(2) AND t < toDateTime(3)");
    ap_buf_reset(&sql);
    ap_sql_slots(&sql, &(struct ap_slots){.from = 101, .to = 151});
    assert_string_equal(sql.data, " AND t >= toDateTime(2) AND (t > toDateTime(2) OR slot >= 1) AND t <= toDateTime(3) "
                                  "AND (t < toDateTime(3) OR slot < 1)");
    ap_buf_done(&sql);
    struct ap_slots slots = ap_slots_of(20000000, 20000001);
    assert_int_equal(slots.from, 1);
    assert_int_equal(slots.to, 2);
    slots = ap_slots_of(20000001, UINT64_MAX);
    assert_int_equal(slots.from, 2);
}

static void test_exceptions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int r;
    } cases[] = {
        {"Code: 159. DB::Exception: Timeout exceeded", -ETIMEDOUT},
        {"Code: 241. DB::Exception: Memory limit exceeded", -E2BIG},
        {"Code: 243. DB::Exception: Cannot reserve 1 MB, not enough space", -ENOSPC},
        {"Code: 75. DB::ErrnoException: Cannot write to file, errno: 28, strerror: No space left on device", -ENOSPC},
        {"Code: 252. DB::Exception: Too many parts", -EAGAIN},
        {"Code: 516. DB::Exception: default: Authentication failed", -EACCES},
        {"Code: 62, e.displayText() = DB::Exception: Syntax error", -EIO},
        {"no code at all", -EIO},
        {"", -EIO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_error err = {0};

        assert_int_equal(ap_sql_exception(&err, "insert", cases[i].text, strlen(cases[i].text)), cases[i].r);
        assert_non_null(strstr(err.text, cases[i].text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans), cmocka_unit_test(test_sources),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_slots), cmocka_unit_test(test_exceptions),
    };

    return cmocka_run_group_tests_name("sql", tests, NULL, NULL);
}
