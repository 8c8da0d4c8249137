/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"

#include <time.h>

static void test_monotonic_never_goes_back(void **state)
{
    (void)state;
    uint64_t last = ap_clock_monotonic_ns();

    for (int i = 0; i < 1000; i++) {
        uint64_t now = ap_clock_monotonic_ns();
        assert_true(now >= last);
        last = now;
    }
}

static void test_monotonic_counts_ns(void **state)
{
    (void)state;
    struct timespec pause = {.tv_nsec = 20000000};
    uint64_t before = ap_clock_monotonic_ns();

    assert_int_equal(nanosleep(&pause, NULL), 0);
    uint64_t passed = ap_clock_monotonic_ns() - before;
    assert_in_range(passed, 20000000, 10 * AP_NS_PER_SEC);
}

static void test_realtime_agrees_with_time(void **state)
{
    (void)state;
    time_t before = time(NULL);
    uint64_t now = ap_clock_realtime_ns();

    /* time() may lag by a tick */
    assert_in_range(now / AP_NS_PER_SEC, (uint64_t)before - 1, (uint64_t)time(NULL) + 1);
}

static void test_cpu_time_grows_with_work_only(void **state)
{
    (void)state;
    struct timespec pause = {.tv_nsec = 200000000};
    uint64_t before = ap_clock_cpu_ns();

    assert_int_equal(nanosleep(&pause, NULL), 0);
    assert_true(ap_clock_cpu_ns() - before < 100000000);

    before = ap_clock_cpu_ns();
    uint64_t start = ap_clock_monotonic_ns();
    while (ap_clock_cpu_ns() - before < 5000000)
        assert_true(ap_clock_monotonic_ns() - start < 60 * AP_NS_PER_SEC);
}

static void test_offset_joins_the_clocks(void **state)
{
    (void)state;
    int64_t offset = ap_clock_realtime_offset_ns();
    int64_t off = (int64_t)(ap_clock_monotonic_ns() + (uint64_t)offset - ap_clock_realtime_ns());

    /* far wider than any reading takes, far narrower than a mix-up of clocks or units */
    assert_true(off > -1000000000 && off < 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_never_goes_back), cmocka_unit_test(test_monotonic_counts_ns),
        cmocka_unit_test(test_realtime_agrees_with_time), cmocka_unit_test(test_cpu_time_grows_with_work_only),
        cmocka_unit_test(test_offset_joins_the_clocks),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
