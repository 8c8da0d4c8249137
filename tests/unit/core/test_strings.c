/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/strings.h"
#include "exhaust.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void test_empty_string_is_zero(void **state)
{
    (void)state;
    struct ap_strings *strings = ap_strings_new(100);
    uint32_t id = 9;

    assert_non_null(strings);
    assert_int_equal(ap_strings_count(strings), 1);
    assert_string_equal(ap_strings_get(strings, 0), "");
    assert_int_equal(ap_strings_id(strings, ""), 0);
    assert_int_equal(ap_strings_id(strings, NULL), 0);
    assert_int_equal(ap_strings_add(strings, NULL, 0, &id), 0);
    assert_int_equal(id, 0);
    assert_int_equal(ap_strings_count(strings), 1);
    assert_int_equal(ap_strings_refused(strings), 0);
    assert_null(ap_strings_free(strings));
    assert_null(ap_strings_free(NULL));
}

static void test_equal_strings_share_an_id(void **state)
{
    (void)state;
    struct ap_strings *strings = ap_strings_new(100);
    uint32_t id = 0;

    assert_int_equal(ap_strings_id(strings, "one"), 1);
    assert_int_equal(ap_strings_id(strings, "two"), 2);
    assert_int_equal(ap_strings_id(strings, "one"), 1);
    assert_int_equal(ap_strings_add(strings, "twofold", 3, &id), 0);
    assert_int_equal(id, 2);
    assert_int_equal(ap_strings_add(strings, "on\0e", 4, &id), 0);
    assert_int_equal(id, 3);
    assert_string_equal(ap_strings_get(strings, 3), "on");
    assert_int_equal(ap_strings_add(strings, "\0abc", 4, &id), 0);
    assert_int_equal(id, 0);
    assert_int_equal(ap_strings_count(strings), 4);
    assert_string_equal(ap_strings_get(strings, 4), "");
    assert_string_equal(ap_strings_get(strings, UINT32_MAX), "");
    ap_strings_free(strings);
}

static void test_bound(void **state)
{
    (void)state;
    struct ap_strings *strings = ap_strings_new(8);
    uint32_t id = 77;

    assert_int_equal(ap_strings_add(strings, "abc", 3, &id), 0); /* 4 of 8 bytes */
    assert_int_equal(id, 1);
    id = 77;
    assert_int_equal(ap_strings_add(strings, "wxyz", 4, &id), -ENOSPC);
    assert_int_equal(id, 77);
    assert_int_equal(ap_strings_id(strings, "wxyz"), 0);
    assert_int_equal(ap_strings_refused(strings), 2);
    assert_int_equal(ap_strings_id(strings, "xyz"), 2); /* exactly full */
    assert_int_equal(ap_strings_id(strings, "q"), 0);
    assert_int_equal(ap_strings_refused(strings), 3);
    assert_int_equal(ap_strings_id(strings, "abc"), 1); /* known ones still answered */
    assert_int_equal(ap_strings_count(strings), 3);
    ap_strings_free(strings);

    strings = ap_strings_new(0);
    assert_int_equal(ap_strings_id(strings, "a"), 0);
    assert_int_equal(ap_strings_id(strings, ""), 0);
    assert_int_equal(ap_strings_refused(strings), 1);
    ap_strings_free(strings);
}

static void test_many_stay_stable(void **state)
{
    (void)state;
    struct ap_strings *strings = ap_strings_new(10 << 20);
    const char *early = NULL;
    char text[32];

    for (uint32_t i = 1; i <= 50000; i++) {
        (void)snprintf(text, sizeof(text), "symbol_%u", i);
        assert_int_equal(ap_strings_id(strings, text), i);
        if (i == 1)
            early = ap_strings_get(strings, 1);
    }
    assert_ptr_equal(ap_strings_get(strings, 1), early);
    for (uint32_t i = 1; i <= 50000; i++) {
        (void)snprintf(text, sizeof(text), "symbol_%u", i);
        assert_string_equal(ap_strings_get(strings, i), text);
        assert_int_equal(ap_strings_id(strings, text), i);
    }
    assert_int_equal(ap_strings_count(strings), 50001);
    ap_strings_free(strings);
}

static void test_longer_than_a_chunk(void **state)
{
    (void)state;
    static char text[200000];
    struct ap_strings *strings = ap_strings_new(1 << 20);

    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(ap_strings_id(strings, "short"), 1);
    assert_int_equal(ap_strings_id(strings, text), 2);
    assert_int_equal(ap_strings_id(strings, "after"), 3);
    assert_string_equal(ap_strings_get(strings, 2), text);
    assert_string_equal(ap_strings_get(strings, 1), "short");
    assert_string_equal(ap_strings_get(strings, 3), "after");
    ap_strings_free(strings);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct exhaust exhaust;
    uint32_t id = 77;

    if (EXHAUST_SKIP)
        skip();
    exhaust_begin(&exhaust, 0);
    struct ap_strings *none = ap_strings_new(100);
    exhaust_end(&exhaust);
    assert_null(none);

    struct ap_strings *strings = ap_strings_new(1 << 20);
    exhaust_begin(&exhaust, 0);
    int rc = ap_strings_add(strings, "abc", 3, &id);
    uint32_t empty = ap_strings_id(strings, "abc");
    exhaust_end(&exhaust);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(id, 77);
    assert_int_equal(empty, 0);
    assert_int_equal(ap_strings_refused(strings), 2);
    assert_int_equal(ap_strings_count(strings), 1);
    assert_int_equal(ap_strings_id(strings, "abc"), 1);
    ap_strings_free(strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_string_is_zero),
        cmocka_unit_test(test_equal_strings_share_an_id),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_many_stay_stable),
        cmocka_unit_test(test_longer_than_a_chunk),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("strings", tests, NULL, NULL);
}
