/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/internal.h"

#include <errno.h>
#include <string.h>

static void check(const char *data, size_t len, const char *service)
{
    const char *got = NULL;
    size_t got_len = 99;

    assert_int_equal(ap_rpc_health_parse(data, len, &got, &got_len), 0);
    assert_int_equal(got_len, strlen(service));
    assert_memory_equal(got, service, got_len);
}

static void test_requests(void **state)
{
    (void)state;
    check(NULL, 0, "");
    check("\x0a\0", 2, "");
    check("\x0a\3abc", 5, "abc");
    check("\x0a\1x\x0a\1y", 6, "y");             /* the last one counts */
    check("\x10\x80\1\x0a\1x\x1a\2zz", 10, "x"); /* fields of later versions */
    check("\x19"
          "12345678\x0a\1x\x25"
          "1234",
          17, "x");
}

static void test_damaged(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } bad[] = {
        {"\x0a", 1},
        {"\x0a\2x", 3},
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 11},
        {"\x80", 1},
        {"\x0b", 1},
        {"\x0c", 1},
        {"\x0f", 1},
        {"\x10", 1},
        {"\x19"
         "1234567",
         8},
        {"\x1d"
         "123",
         4},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 11},
    };
    const char *service;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ap_rpc_health_parse(bad[i].data, bad[i].len, &service, &len), -EBADMSG);
}

static void test_answers(void **state)
{
    uint8_t data[AP_RPC_HEALTH_SZ];

    (void)state;
    ap_rpc_health_write(true, data);
    assert_memory_equal(data, "\x08\1", 2);
    ap_rpc_health_write(false, data);
    assert_memory_equal(data, "\x08\2", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_answers),
    };

    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
