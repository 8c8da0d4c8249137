/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/cpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void one_range(void **state)
{
    struct ap_cpus cpus;
    size_t i;

    (void)state;
    assert_int_equal(ap_cpus_parse("0-3\n", &cpus), 0);
    assert_int_equal(cpus.cnt, 4);
    assert_int_equal(cpus.end, 4);
    for (i = 0; i < AP_CPUS_MAX; i++)
        assert_int_equal(cpus.has[i], i < 4);
}

static void gaps_and_single_cpus(void **state)
{
    static const bool wanted[12] = {true, true, [5] = true, [8] = true, [9] = true, [10] = true};
    struct ap_cpus cpus;
    size_t i;

    (void)state;
    assert_int_equal(ap_cpus_parse("0-1,5,8-10", &cpus), 0);
    assert_int_equal(cpus.cnt, 6);
    assert_int_equal(cpus.end, 11);
    for (i = 0; i < 12; i++)
        assert_int_equal(cpus.has[i], wanted[i]);
    /* no CPU 0, as after it was taken offline */
    assert_int_equal(ap_cpus_parse("7\n", &cpus), 0);
    assert_int_equal(cpus.cnt, 1);
    assert_int_equal(cpus.end, 8);
    assert_false(cpus.has[0]);
}

static void each_cpu_counts_once(void **state)
{
    struct ap_cpus cpus;

    (void)state;
    assert_int_equal(ap_cpus_parse("4-6,0-5,5\n", &cpus), 0);
    assert_int_equal(cpus.cnt, 7);
    assert_int_equal(cpus.end, 7);
}

static void the_highest_number(void **state)
{
    struct ap_cpus cpus;

    (void)state;
    assert_int_equal(ap_cpus_parse("8191", &cpus), 0);
    assert_int_equal(cpus.end, AP_CPUS_MAX);
    assert_int_equal(ap_cpus_parse("0-8191", &cpus), 0);
    assert_int_equal(cpus.cnt, AP_CPUS_MAX);
    assert_int_equal(ap_cpus_parse("8192", &cpus), -EINVAL);
    assert_int_equal(ap_cpus_parse("0-8192", &cpus), -EINVAL);
    assert_int_equal(ap_cpus_parse("18446744073709551616", &cpus), -EINVAL);
}

static void no_list(void **state)
{
    static const char *const bad[] = {
        "",     "\n",   "a",    "-1",  "0-",    "-",   "3-1", "0,",  "0,\n", ",0",  "0,,1", "0--1",    "0-1-",
        "0 -1", " 0-1", "0-1 ", "0;1", "0-1,x", "0x1", "+1",  "1.5", "0\n1", "0-a", "1,-2", "0-1:1/2", "0\n\n",
    };
    struct ap_cpus cpus;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (ap_cpus_parse(bad[i], &cpus) != -EINVAL)
            fail_msg("taken as a list: \"%s\"", bad[i]);
}

static void online_here(void **state)
{
    struct ap_error err = {0};
    struct ap_cpus cpus;

    (void)state;
    assert_int_equal(ap_cpus_online(&cpus, &err), 0);
    assert_int_equal(cpus.cnt, sysconf(_SC_NPROCESSORS_ONLN));
    assert_true(cpus.has[sched_getcpu()]);
}

static void idle_lines(void **state)
{
    static struct ap_cpus_idle idle;

    (void)state;
    assert_true(ap_cpus_idle_line("cpu3 10 20 30 400 5 6 7 8 9 10\n", &idle));
    assert_true(idle.has[3]);
    assert_int_equal(idle.idle_ns[3], 405 * AP_CPUS_IDLE_RESOLUTION_NS);
    assert_true(ap_cpus_idle_line("cpu8191 1 1 1 1 1 1\n", &idle));
    assert_true(idle.has[8191]);
    assert_false(ap_cpus_idle_line("cpu8192 1 1 1 1 1 1\n", &idle));
    assert_false(ap_cpus_idle_line("intr 1 2 3 4 5 6 7\n", &idle));
    assert_false(ap_cpus_idle_line("cpu1 1 2 3\n", &idle));
    assert_false(ap_cpus_idle_line("", &idle));
    assert_false(idle.has[1]);
    /* the sum over all CPUs is no CPU's line, though its first number looks like one */
    assert_false(ap_cpus_idle_line("cpu  2 20 30 400 5 6 7 8 9 10\n", &idle));
    assert_false(idle.has[2]);
}

static void idle_here(void **state)
{
    static struct ap_cpus_idle idle;
    struct ap_error err = {0};
    struct ap_cpus cpus;
    size_t i;

    (void)state;
    assert_int_equal(ap_cpus_online(&cpus, &err), 0);
    assert_int_equal(ap_cpus_idle(&idle), 0);
    for (i = 0; i < AP_CPUS_MAX; i++)
        assert_int_equal(idle.has[i], cpus.has[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_range),
        cmocka_unit_test(gaps_and_single_cpus),
        cmocka_unit_test(each_cpu_counts_once),
        cmocka_unit_test(the_highest_number),
        cmocka_unit_test(no_list),
        cmocka_unit_test(online_here),
        cmocka_unit_test(idle_lines),
        cmocka_unit_test(idle_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
