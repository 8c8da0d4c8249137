/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define PERIOD     10000000ULL /* 100 Hz */
#define RESOLUTION 10000000ULL

static uint64_t missed(const struct ap_cpu_ticks *cpus, size_t cnt)
{
    return ap_account_missed(cpus, cnt, PERIOD, RESOLUTION);
}

static void every_tick_came(void **state)
{
    const struct ap_cpu_ticks cpus[] = {{.periods = 100, .fired = 100}, {.periods = 100, .fired = 101, .idle = 50}};

    (void)state;
    assert_int_equal(missed(cpus, 2), 0);
}

static void a_busy_cpu_that_was_throttled(void **state)
{
    const struct ap_cpu_ticks cpus[] = {{.periods = 100, .fired = 60}};

    (void)state;
    assert_int_equal(missed(cpus, 1), 40);
}

static void a_sleeping_cpu_loses_nothing(void **state)
{
    const struct ap_cpu_ticks asleep[] = {{.periods = 100, .fired = 0, .idle_ns = 100 * PERIOD}};
    /* half idle without ticks, half busy with all of them; the idle time is cut off by the resolution */
    const struct ap_cpu_ticks half[] = {{.periods = 100, .fired = 50, .idle_ns = 49 * PERIOD}};
    /* idle ticks that came are not given twice */
    const struct ap_cpu_ticks both[] = {{.periods = 100, .fired = 60, .idle = 20, .idle_ns = 40 * PERIOD}};

    (void)state;
    assert_int_equal(missed(asleep, 1), 0);
    assert_int_equal(missed(half, 1), 0);
    assert_int_equal(missed(both, 1), 100 - 60 - (40 + 2 - 20));
}

static void scope_shares_what_was_missed(void **state)
{
    /* 80 busy ticks, a quarter of them in scope: a quarter of the 20 missing ones counts */
    const struct ap_cpu_ticks cpus[] = {{.periods = 100, .fired = 80, .out_of_scope = 60}};
    /* a CPU without any tick counts by the share of the others */
    const struct ap_cpu_ticks silent[] = {{.periods = 100, .fired = 100, .out_of_scope = 50}, {.periods = 10}};

    (void)state;
    assert_int_equal(missed(cpus, 1), 5);
    assert_int_equal(missed(silent, 2), 5);
}

static void nothing_at_all(void **state)
{
    const struct ap_cpu_ticks dead[] = {{.periods = 30}};

    (void)state;
    assert_int_equal(missed(NULL, 0), 0);
    assert_int_equal(missed(dead, 1), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tick_came),
        cmocka_unit_test(a_busy_cpu_that_was_throttled),
        cmocka_unit_test(a_sleeping_cpu_loses_nothing),
        cmocka_unit_test(scope_shares_what_was_missed),
        cmocka_unit_test(nothing_at_all),
    };

    return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
