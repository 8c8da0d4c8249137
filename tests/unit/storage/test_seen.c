/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/known.h"
#include "storage/seen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void test_ranges(void **state)
{
    (void)state;
    struct ap_seen seen;

    ap_seen_init(&seen);
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 5), AP_SEEN_UNKNOWN);
    assert_false(ap_seen_has(&seen, "a", 1));
    assert_int_equal(ap_seen_load(&seen, "a", 1, 0, 0, 0), 0); /* the table has nothing */
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 5), AP_SEEN_NO);
    for (uint64_t s = 1; s <= 10; s++)
        assert_int_equal(ap_seen_add(&seen, "a", 1, s), 0);
    ap_seen_add(&seen, "a", 1, 12);
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 5), AP_SEEN_YES);
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 11), AP_SEEN_NO);
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 12), AP_SEEN_YES);
    ap_seen_add(&seen, "a", 1, 11); /* joins both */
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 11), AP_SEEN_YES);
    assert_int_equal(ap_seen_ask(&seen, "a", 1, 13), AP_SEEN_NO);
    assert_int_equal(ap_seen_ask(&seen, "a", 2, 5), AP_SEEN_UNKNOWN);
    assert_int_equal(ap_seen_ask(&seen, "b", 1, 5), AP_SEEN_UNKNOWN);
    ap_seen_done(&seen);
}

/* Past the bound of ranges the lowest are forgotten, and said to be unknown rather than new. */
static void test_many_ranges(void **state)
{
    (void)state;
    struct ap_seen seen;

    ap_seen_init(&seen);
    ap_seen_load(&seen, "a", 1, 0, 0, 0);
    for (uint64_t s = 0; s < 3 * AP_SEEN_RANGES_MAX; s++)
        ap_seen_add(&seen, "a", 1, 10 + 2 * s);
    assert_int_equal(seen.forgotten, 2 * AP_SEEN_RANGES_MAX);
    for (uint64_t s = 0; s < 3 * AP_SEEN_RANGES_MAX; s++) {
        bool kept = s >= 2 * AP_SEEN_RANGES_MAX;

        assert_int_equal(ap_seen_ask(&seen, "a", 1, 10 + 2 * s), kept ? AP_SEEN_YES : AP_SEEN_UNKNOWN);
        assert_int_equal(ap_seen_ask(&seen, "a", 1, 11 + 2 * s),
                         s + 1 >= 2 * AP_SEEN_RANGES_MAX ? AP_SEEN_NO : AP_SEEN_UNKNOWN);
    }
    /* From below. */
    for (uint64_t s = 3 * AP_SEEN_RANGES_MAX; s-- > 0;)
        ap_seen_add(&seen, "b", 1, 10 + 2 * s);
    assert_int_equal(ap_seen_ask(&seen, "b", 1, 10), AP_SEEN_YES);
    ap_seen_done(&seen);
}

static void test_load(void **state)
{
    (void)state;
    struct ap_seen seen;

    ap_seen_init(&seen);
    ap_seen_load(&seen, "whole", 1, 3, 12, 10);
    assert_int_equal(ap_seen_ask(&seen, "whole", 1, 3), AP_SEEN_YES);
    assert_int_equal(ap_seen_ask(&seen, "whole", 1, 12), AP_SEEN_YES);
    assert_int_equal(ap_seen_ask(&seen, "whole", 1, 2), AP_SEEN_NO);
    ap_seen_load(&seen, "holes", 1, 3, 12, 5);
    assert_int_equal(ap_seen_ask(&seen, "holes", 1, 7), AP_SEEN_UNKNOWN);
    assert_int_equal(ap_seen_ask(&seen, "holes", 1, 13), AP_SEEN_NO);
    /* What is here knows more than the table did. */
    ap_seen_load(&seen, "whole", 1, 0, 0, 0);
    assert_int_equal(ap_seen_ask(&seen, "whole", 1, 5), AP_SEEN_YES);
    ap_seen_done(&seen);
}

static void test_many_epochs(void **state)
{
    (void)state;
    struct ap_seen seen;
    char agent[32];

    ap_seen_init(&seen);
    for (unsigned i = 0; i < AP_SEEN_EPOCHS_MAX + 3; i++) {
        snprintf(agent, sizeof(agent), "agent-%u", i);
        ap_seen_load(&seen, agent, i, 0, 0, 0);
        if (i % 1000 == 0)
            assert_true(ap_seen_has(&seen, "agent-0", 0)); /* in use, so it stays */
    }
    assert_int_equal(seen.epochs.cnt, AP_SEEN_EPOCHS_MAX);
    assert_int_equal(seen.forgotten, 3);
    assert_true(ap_seen_has(&seen, "agent-0", 0));
    assert_false(ap_seen_has(&seen, "agent-1", 1));
    ap_seen_done(&seen);
}

static void test_known(void **state)
{
    (void)state;
    struct ap_known known = {0};

    assert_true(ap_known_add(&known, 1));
    assert_false(ap_known_add(&known, 1));
    assert_true(ap_known_add(&known, 0)); /* no identity: always new */
    assert_true(ap_known_add(&known, 0));
    for (uint64_t i = 2; i <= AP_KNOWN_MAX; i++)
        assert_true(ap_known_add(&known, i * 0x9e3779b97f4a7c15));
    assert_int_equal(known.cnt, AP_KNOWN_MAX);
    assert_int_equal(known.forgotten, 0);
    assert_true(ap_known_add(&known, 3));
    assert_int_equal(known.forgotten, 1);
    assert_int_equal(known.cnt, 1);
    ap_known_reset(&known);
    assert_true(ap_known_add(&known, 3));
    ap_known_done(&known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),      cmocka_unit_test(test_many_ranges), cmocka_unit_test(test_load),
        cmocka_unit_test(test_many_epochs), cmocka_unit_test(test_known),
    };

    return cmocka_run_group_tests_name("seen", tests, NULL, NULL);
}
