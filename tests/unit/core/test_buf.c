/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/buf.h"
#include "exhaust.h"

#include <errno.h>
#include <string.h>

static void test_appends(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 1000);
    assert_null(buf.data);
    assert_int_equal(ap_buf_append(&buf, "abc", 2), 0);
    assert_int_equal(ap_buf_str(&buf, "cd"), 0);
    assert_int_equal(ap_buf_char(&buf, 'e'), 0);
    assert_int_equal(ap_buf_printf(&buf, "%d-%s", 42, "x"), 0);
    assert_string_equal(buf.data, "abcde42-x");
    assert_int_equal(buf.len, 9);
    assert_int_equal(buf.error, 0);
    ap_buf_done(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
}

static void test_done_accepts_null_and_zeroed(void **state)
{
    (void)state;
    struct ap_buf buf = {0};

    ap_buf_done(NULL);
    ap_buf_done(&buf);
    ap_buf_done(&buf);
}

static void test_empty_append_terminates(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 0);
    assert_int_equal(ap_buf_append(&buf, NULL, 0), 0);
    assert_string_equal(buf.data, "");
    assert_int_equal(ap_buf_printf(&buf, "%s", ""), 0);
    assert_int_equal(ap_buf_char(&buf, 'a'), -ENOSPC);
    ap_buf_done(&buf);
}

static void test_max_is_exact(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 5);
    assert_int_equal(ap_buf_str(&buf, "12345"), 0);
    assert_int_equal(ap_buf_append(&buf, "", 0), 0);
    assert_int_equal(ap_buf_char(&buf, '6'), -ENOSPC);
    assert_string_equal(buf.data, "12345");
    ap_buf_done(&buf);

    ap_buf_init(&buf, 5);
    assert_int_equal(ap_buf_str(&buf, "123456"), -ENOSPC);
    assert_int_equal(buf.len, 0);
    ap_buf_done(&buf);

    ap_buf_init(&buf, 5);
    assert_int_equal(ap_buf_printf(&buf, "%d", 12345), 0);
    assert_int_equal(ap_buf_printf(&buf, "%d", 6), -ENOSPC);
    assert_string_equal(buf.data, "12345");
    ap_buf_done(&buf);
}

static void test_error_is_sticky_until_reset(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 4);
    assert_int_equal(ap_buf_str(&buf, "abc"), 0);
    assert_int_equal(ap_buf_str(&buf, "toolong"), -ENOSPC);
    assert_int_equal(ap_buf_char(&buf, 'd'), -ENOSPC); /* would fit */
    assert_int_equal(ap_buf_append(&buf, "", 0), -ENOSPC);
    assert_int_equal(ap_buf_printf(&buf, "d"), -ENOSPC);
    assert_null(ap_buf_reserve(&buf, 1));
    assert_int_equal(buf.error, -ENOSPC);
    assert_string_equal(buf.data, "abc");

    ap_buf_reset(&buf);
    assert_int_equal(buf.error, 0);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    assert_int_equal(ap_buf_str(&buf, "wxyz"), 0);
    assert_string_equal(buf.data, "wxyz");
    ap_buf_done(&buf);
}

static void test_reset_before_use(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 1);
    ap_buf_reset(&buf);
    assert_null(buf.data);
}

static void test_grows_past_the_first_allocation(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 100000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(ap_buf_printf(&buf, "%05d,", i), 0);
    assert_int_equal(buf.len, 60000);
    assert_true(buf.cap <= 100001);
    for (int i = 0; i < 10000; i++) {
        char wanted[16];
        (void)snprintf(wanted, sizeof(wanted), "%05d,", i);
        assert_memory_equal(buf.data + (size_t)i * 6, wanted, 6);
    }
    ap_buf_done(&buf);
}

static void test_binary_contents(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 10);
    assert_int_equal(ap_buf_append(&buf, "a\0b", 3), 0);
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "a\0b\0", 4);
    ap_buf_done(&buf);
}

static void test_reserve(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 8);
    assert_int_equal(ap_buf_str(&buf, "ab"), 0);
    char *room = (char *)ap_buf_reserve(&buf, 6);
    assert_non_null(room);
    assert_int_equal(buf.len, 2);
    assert_string_equal(buf.data, "ab");
    for (int i = 0; i < 6; i++)
        room[i] = "cdefgh"[i];
    buf.len += 6;
    assert_string_equal(buf.data, "abcdefgh");
    assert_null(ap_buf_reserve(&buf, 1));
    assert_int_equal(buf.error, -ENOSPC);
    ap_buf_done(&buf);
}

static void test_lengths_do_not_wrap(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, SIZE_MAX);
    assert_int_equal(ap_buf_str(&buf, "abc"), 0);
    assert_null(ap_buf_reserve(&buf, SIZE_MAX - 1));
    assert_int_equal(buf.error, -ENOSPC);
    ap_buf_reset(&buf);
    assert_null(ap_buf_reserve(&buf, SIZE_MAX));
    assert_int_equal(buf.error, -ENOMEM);
    ap_buf_done(&buf);
}

static void test_out_of_memory_keeps_contents(void **state)
{
    (void)state;
    struct exhaust exhaust;
    struct ap_buf buf;
    static char big[1 << 16];

    if (EXHAUST_SKIP)
        skip();
    ap_buf_init(&buf, SIZE_MAX);
    assert_int_equal(ap_buf_str(&buf, "kept"), 0);
    exhaust_begin(&exhaust, 0);
    int rc = ap_buf_append(&buf, big, sizeof(big));
    int next = ap_buf_char(&buf, 'x');
    exhaust_end(&exhaust);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(next, -ENOMEM);
    assert_string_equal(buf.data, "kept");
    ap_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_done_accepts_null_and_zeroed),
        cmocka_unit_test(test_empty_append_terminates),
        cmocka_unit_test(test_max_is_exact),
        cmocka_unit_test(test_error_is_sticky_until_reset),
        cmocka_unit_test(test_reset_before_use),
        cmocka_unit_test(test_grows_past_the_first_allocation),
        cmocka_unit_test(test_binary_contents),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_lengths_do_not_wrap),
        cmocka_unit_test(test_out_of_memory_keeps_contents),
    };

    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
