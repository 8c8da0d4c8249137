/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/error.h"

#include <errno.h>
#include <string.h>

static void test_set_records_and_returns(void **state)
{
    (void)state;
    struct ap_error err = {0};

    assert_int_equal(ap_error_set(&err, -ENOENT, "no %s in %d places", "luck", 3), -ENOENT);
    assert_int_equal(err.code, -ENOENT);
    assert_string_equal(err.text, "no luck in 3 places");

    assert_int_equal(ap_error_set(&err, -EPERM, "later"), -EPERM);
    assert_int_equal(err.code, -EPERM);
    assert_string_equal(err.text, "later");
}

static void test_null_passes_the_code_on(void **state)
{
    (void)state;
    assert_int_equal(ap_error_set(NULL, -EPERM, "x"), -EPERM);
    assert_int_equal(ap_error_errno(NULL, -ENOENT, "x"), -ENOENT);
    assert_int_equal(ap_error_prefix(NULL, "x"), 0);
}

static void test_errno_appends_system_text(void **state)
{
    (void)state;
    struct ap_error err = {0};

    errno = EBUSY;
    assert_int_equal(ap_error_errno(&err, -ENOENT, "cannot open %s", "f"), -ENOENT);
    assert_string_equal(err.text, "cannot open f: No such file or directory");
    assert_int_equal(err.code, -ENOENT);
    assert_int_equal(errno, EBUSY);
}

static void test_prefix(void **state)
{
    (void)state;
    struct ap_error err = {0};

    ap_error_set(&err, -EIO, "bad block");
    assert_int_equal(ap_error_prefix(&err, "disk %d", 7), -EIO);
    assert_string_equal(err.text, "disk 7: bad block");
    assert_int_equal(ap_error_prefix(&err, "host"), -EIO);
    assert_string_equal(err.text, "host: disk 7: bad block");
}

static void test_arguments_may_be_the_text_itself(void **state)
{
    (void)state;
    struct ap_error err = {0};

    ap_error_set(&err, -EIO, "inner");
    ap_error_set(&err, -EIO, "[%s|%s]", err.text, err.text);
    assert_string_equal(err.text, "[inner|inner]");
    ap_error_prefix(&err, "%s", err.text);
    assert_string_equal(err.text, "[inner|inner]: [inner|inner]");
}

static void test_long_texts_are_cut(void **state)
{
    (void)state;
    static char longer[AP_ERROR_TEXT_SZ * 2];
    struct ap_error err = {0};

    memset(longer, 'a', sizeof(longer) - 1);
    ap_error_set(&err, -EIO, "%s", longer);
    assert_int_equal(strlen(err.text), AP_ERROR_TEXT_SZ - 1);

    ap_error_prefix(&err, "front");
    assert_int_equal(strlen(err.text), AP_ERROR_TEXT_SZ - 1);
    assert_memory_equal(err.text, "front: aaa", 10);

    ap_error_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), AP_ERROR_TEXT_SZ - 1);

    ap_error_errno(&err, -ENOENT, "%s", longer);
    assert_int_equal(strlen(err.text), AP_ERROR_TEXT_SZ - 1);
    assert_int_equal(err.code, -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_records_and_returns),          cmocka_unit_test(test_null_passes_the_code_on),
        cmocka_unit_test(test_errno_appends_system_text),        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_arguments_may_be_the_text_itself), cmocka_unit_test(test_long_texts_are_cut),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
