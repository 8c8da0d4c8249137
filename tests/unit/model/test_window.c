/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define S   1000000000ULL
#define NOW (1000000 * S)

static void of_sums(void **state)
{
    struct ap_selector one = {0};

    (void)state;
    ap_window_default(&one, NOW);
    assert_int_equal(one.from_ns, NOW - 3600 * S);
    assert_int_equal(one.to_ns, NOW);
    one = (struct ap_selector){.from_ns = 5};
    ap_window_default(&one, NOW);
    assert_int_equal(one.from_ns, 5);
    assert_int_equal(one.to_ns, NOW);
    one = (struct ap_selector){.to_ns = 7200 * S};
    ap_window_default(&one, NOW);
    assert_int_equal(one.from_ns, 3600 * S);
    assert_int_equal(one.to_ns, 7200 * S);
    one = (struct ap_selector){.to_ns = 7};
    ap_window_default(&one, NOW);
    assert_int_equal(one.from_ns, 0);
}

static void of_comparisons(void **state)
{
    struct ap_selector before = {.kind = 1}, after = {0};

    (void)state;
    ap_window_default_diff(&before, &after, NOW);
    assert_int_equal(after.kind, 1);
    assert_int_equal(after.from_ns, NOW - 1800 * S);
    assert_int_equal(after.to_ns, NOW);
    assert_int_equal(before.from_ns, NOW - 3600 * S);
    assert_int_equal(before.to_ns, NOW - 1800 * S);

    /* as long as the other, and before it */
    before = (struct ap_selector){0};
    after = (struct ap_selector){.kind = 2, .from_ns = 500 * S, .to_ns = 600 * S};
    ap_window_default_diff(&before, &after, NOW);
    assert_int_equal(before.kind, 2);
    assert_int_equal(before.from_ns, 400 * S);
    assert_int_equal(before.to_ns, 500 * S);

    /* what is given stays */
    before = (struct ap_selector){.from_ns = 100 * S, .to_ns = 110 * S};
    ap_window_default_diff(&before, &after, NOW);
    assert_int_equal(before.from_ns, 100 * S);
    assert_int_equal(before.to_ns, 110 * S);
}

/* Two label sets are compared over the same time. */
static void of_label_sets(void **state)
{
    struct ap_selector before = {0}, after = {0};

    (void)state;
    assert_int_equal(ap_selector_match(&before, "host", AP_MATCH_EQUAL, "a", NULL), 0);
    assert_int_equal(ap_selector_match(&after, "host", AP_MATCH_EQUAL, "b", NULL), 0);
    ap_window_default_diff(&before, &after, NOW);
    assert_int_equal(before.from_ns, after.from_ns);
    assert_int_equal(before.to_ns, NOW);
    ap_selector_done(&before);
    assert_int_equal(ap_selector_match(&before, "host", AP_MATCH_EQUAL, "b", NULL), 0);
    ap_window_default_diff(&before, &after, NOW);
    assert_int_equal(before.to_ns, after.from_ns);
    ap_selector_done(&before);
    ap_selector_done(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_sums),
        cmocka_unit_test(of_comparisons),
        cmocka_unit_test(of_label_sets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
