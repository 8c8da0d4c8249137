/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/parse.h"

#include <errno.h>
#include <string.h>

#define UNTOUCHED 0xABCDEF

struct good {
    const char *text;
    uint64_t value;
};

struct bad {
    const char *text;
    int code;
};

typedef int (*parse_fn)(const char *text, uint64_t *ret, struct ap_error *err);

static void check_good(parse_fn parse, const struct good *cases, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        struct ap_error err = {0};
        uint64_t value = UNTOUCHED;

        if (parse(cases[i].text, &value, &err) != 0)
            fail_msg("'%s' was refused: %s", cases[i].text, err.text);
        if (value != cases[i].value)
            fail_msg("'%s' became %lu, not %lu", cases[i].text, value, cases[i].value);
    }
}

static void check_bad(parse_fn parse, const struct bad *cases, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        struct ap_error err = {0};
        uint64_t value = UNTOUCHED;

        if (parse(cases[i].text, &value, &err) != cases[i].code || err.code != cases[i].code)
            fail_msg("'%s': got %d, not %d", cases[i].text, err.code, cases[i].code);
        assert_int_equal(value, UNTOUCHED);
        assert_non_null(strstr(err.text, cases[i].text));
        assert_int_equal(parse(cases[i].text, &value, NULL), cases[i].code);
    }
}

#define CHECK(check, parse, cases) check(parse, cases, sizeof(cases) / sizeof((cases)[0]))

static void test_good_durations(void **state)
{
    (void)state;
    static const struct good cases[] = {
        {"0", 0},
        {"0s", 0},
        {"30", 30000000000},
        {"1.5", 1500000000},
        {"1ns", 1},
        {"7us", 7000},
        {"250ms", 250000000},
        {"1s", 1000000000},
        {"1.5s", 1500000000},
        {"2m", 120000000000},
        {"1h", 3600000000000},
        {"1d", 86400000000000},
        {"1h30m", 5400000000000},
        {"1d2h3m4s5ms6us7ns", 93784005006007},
        {"30m1h", 5400000000000},
        {"0.25h", 900000000000},
        {"007s", 7000000000},
        {"0.000000001s", 1},
        {"0.0000000019s", 1},
        {"0.1234567891234567891234567s", 123456789},
        {"1.9ns", 1},
        {"18446744073709551615ns", UINT64_MAX},
        {"18446744073.709551615s", UINT64_MAX},
        {"213503d", 213503ULL * 86400 * 1000000000},
    };

    CHECK(check_good, ap_parse_duration, cases);
}

static void test_bad_durations(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"", -EINVAL},
        {" ", -EINVAL},
        {"-1s", -EINVAL},
        {"+1s", -EINVAL},
        {"5x", -EINVAL},
        {"5S", -EINVAL},
        {"5sec", -EINVAL},
        {"s", -EINVAL},
        {"1s2", -EINVAL},
        {"1 s", -EINVAL},
        {" 1s", -EINVAL},
        {"1s ", -EINVAL},
        {"1s,2s", -EINVAL},
        {"nan", -EINVAL},
        {"inf", -EINVAL},
        {"1e3", -EINVAL},
        {"1e3s", -EINVAL},
        {"0x10", -EINVAL},
        {".5s", -EINVAL},
        {"5.s", -EINVAL},
        {"5.", -EINVAL},
        {".", -EINVAL},
        {"1..5s", -EINVAL},
        {"1.5.5s", -EINVAL},
        {"\xC2\xB5s", -EINVAL},
        {"1\xC2\xB5s", -EINVAL},
        {"99999999999999999h", -ERANGE},
        {"99999999999999999999999999", -ERANGE},
        {"18446744073709551616ns", -ERANGE},
        {"18446744073709551615ns1ns", -ERANGE},
        {"18446744073.709551616s", -ERANGE},
        {"213504d", -ERANGE},
        {"9999999999999999999999x", -EINVAL},
        {"99999999999999999h1x", -EINVAL},
    };

    CHECK(check_bad, ap_parse_duration, cases);
}

static void test_good_sizes(void **state)
{
    (void)state;
    static const struct good cases[] = {
        {"0", 0},
        {"1", 1},
        {"4096", 4096},
        {"17B", 17},
        {"1K", 1024},
        {"1k", 1024},
        {"1KB", 1024},
        {"1KiB", 1024},
        {"1kib", 1024},
        {"64M", 64 << 20},
        {"64MB", 64 << 20},
        {"64MiB", 64 << 20},
        {"1.5G", 1610612736},
        {"3GiB", 3221225472},
        {"2T", 2199023255552},
        {"0.5K", 512},
        {"0.0001K", 0},
        {"18446744073709551615", UINT64_MAX},
        {"16777215T", 16777215ULL << 40},
    };

    CHECK(check_good, ap_parse_size, cases);
}

static void test_bad_sizes(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"", -EINVAL},
        {"M", -EINVAL},
        {"-1M", -EINVAL},
        {"1 M", -EINVAL},
        {"1MM", -EINVAL},
        {"1Mi", -EINVAL},
        {"1P", -EINVAL},
        {"1M1K", -EINVAL},
        {"1.M", -EINVAL},
        {".5M", -EINVAL},
        {"1e3", -EINVAL},
        {"0x10", -EINVAL},
        {"18446744073709551616", -ERANGE},
        {"16777216T", -ERANGE},
        {"16777215.99999999999999999T1", -EINVAL},
        {"99999999999999999999999Q", -EINVAL},
    };

    CHECK(check_bad, ap_parse_size, cases);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"0", 0}, {"42", 42}, {"010", 10}, {"18446744073709551615", UINT64_MAX}, {"000000000000000000000000000001", 1},
    };
    static const struct bad bad[] = {
        {"", -EINVAL},
        {"-1", -EINVAL},
        {"+1", -EINVAL},
        {" 1", -EINVAL},
        {"1 ", -EINVAL},
        {"1.0", -EINVAL},
        {"1k", -EINVAL},
        {"0x1", -EINVAL},
        {"1e3", -EINVAL},
        {"18446744073709551616", -ERANGE},
        {"99999999999999999999999999", -ERANGE},
        {"99999999999999999999999999z", -EINVAL},
    };

    CHECK(check_good, ap_parse_u64, good);
    CHECK(check_bad, ap_parse_u64, bad);
}

static void test_null_is_refused(void **state)
{
    (void)state;
    uint64_t value = UNTOUCHED;
    struct ap_error err = {0};

    assert_int_equal(ap_parse_duration(NULL, &value, &err), -EINVAL);
    assert_int_equal(ap_parse_size(NULL, &value, &err), -EINVAL);
    assert_int_equal(ap_parse_u64(NULL, &value, &err), -EINVAL);
    assert_int_equal(value, UNTOUCHED);
}

static void test_messages_say_what_is_accepted(void **state)
{
    (void)state;
    struct ap_error err = {0};
    uint64_t value;

    ap_parse_duration("soon", &value, &err);
    assert_non_null(strstr(err.text, "1h30m"));
    ap_parse_size("big", &value, &err);
    assert_non_null(strstr(err.text, "64M"));
    ap_parse_u64("18446744073709551616", &value, &err);
    assert_non_null(strstr(err.text, "18446744073709551615"));
}

static void test_format_duration(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "0 ns"},
        {1, "1 ns"},
        {999, "999 ns"},
        {1000, "1.00 us"},
        {12345, "12.3 us"},
        {999499, "999 us"},
        {999500, "1.00 ms"},
        {9994999, "9.99 ms"},
        {9995000, "10.0 ms"},
        {12300000, "12.3 ms"},
        {250000000, "250 ms"},
        {1500000000, "1.50 s"},
        {59940000000, "59.9 s"},
        {59950000000, "1m00s"},
        {65000000000, "1m05s"},
        {3599499999999, "59m59s"},
        {3599500000000, "1h00m"},
        {3900000000000, "1h05m"},
        {86369999999999, "23h59m"},
        {86370000000000, "1d00h"},
        {183600000000000, "2d03h"},
        {UINT64_MAX, "213504d00h"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char buf[AP_FORMAT_SZ];
        assert_ptr_equal(ap_format_duration(buf, cases[i].ns), buf);
        assert_string_equal(buf, cases[i].text);
    }
}

static void test_format_size(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {1536, "1.50 KiB"},
        {1023 * 1024, "1023 KiB"},
        {1048575, "1.00 MiB"},
        {67318579, "64.2 MiB"},
        {1ULL << 30, "1.00 GiB"},
        {5ULL << 40, "5.00 TiB"},
        {3ULL << 50, "3.00 PiB"},
        {UINT64_MAX, "16.0 EiB"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char buf[AP_FORMAT_SZ];
        assert_ptr_equal(ap_format_size(buf, cases[i].bytes), buf);
        assert_string_equal(buf, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_durations),
        cmocka_unit_test(test_bad_durations),
        cmocka_unit_test(test_good_sizes),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_null_is_refused),
        cmocka_unit_test(test_messages_say_what_is_accepted),
        cmocka_unit_test(test_format_duration),
        cmocka_unit_test(test_format_size),
    };

    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
