/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/text.h"

#include <stdio.h>
#include <string.h>

static void test_utf8_valid(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        {"a", 1},
        {"\x7F", 1},
        {"\xC2\x80", 2},
        {"\xDF\xBF", 2},
        {"\xE0\xA0\x80", 3},
        {"\xED\x9F\xBF", 3},
        {"\xEE\x80\x80", 3},
        {"\xEF\xBF\xBF", 3},
        {"\xF0\x90\x80\x80", 4},
        {"\xF4\x8F\xBF\xBF", 4},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(ap_utf8_len(cases[i].text), cases[i].len);
}

static void test_utf8_invalid(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\x80",             /* tail without head */
        "\xBF",             /**/
        "\xC0\x80",         /* overlong NUL */
        "\xC1\xBF",         /* overlong */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* surrogate */
        "\xED\xBF\xBF",     /* surrogate */
        "\xF4\x90\x80\x80", /* past U+10FFFF */
        "\xF5\x80\x80\x80", /* past U+10FFFF */
        "\xFF",             /* never used */
        "\xC2",             /* cut by the end */
        "\xC2z",
        "\xE2\x82",
        "\xE2\x82z",
        "\xF0\x9F\x98",
        "\xF0\x9F\x98z",
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (ap_utf8_len(cases[i]) != 0)
            fail_msg("case %zu was taken for UTF-8", i);
    }
}

/* Every code point, encoded here, is accepted with its length; surrogates are not. */
static void test_utf8_all_code_points(void **state)
{
    (void)state;
    for (uint32_t cp = 1; cp <= 0x10FFFF; cp++) {
        char s[5] = {0};
        size_t len;

        if (cp < 0x80) {
            len = 1;
            s[0] = (char)cp;
        } else if (cp < 0x800) {
            len = 2;
            s[0] = (char)(0xC0 | cp >> 6);
        } else if (cp < 0x10000) {
            len = 3;
            s[0] = (char)(0xE0 | cp >> 12);
        } else {
            len = 4;
            s[0] = (char)(0xF0 | cp >> 18);
        }
        for (size_t i = 1; i < len; i++)
            s[i] = (char)(0x80 | (cp >> (6 * (len - 1 - i)) & 0x3F));
        if (ap_utf8_len(s) != (cp >= 0xD800 && cp <= 0xDFFF ? 0 : len))
            fail_msg("wrong length for U+%04X", cp);
    }
}

static void check_json(const char *text, bool html, const char *wanted)
{
    char all[256] = "";
    size_t used = 0;

    while (*text) {
        char step[AP_JSON_CHAR_SZ + 1];
        size_t len = ap_json_step(&text, html, step);

        assert_int_equal(strlen(step), len);
        assert_true(len <= AP_JSON_CHAR_SZ);
        assert_true(used + len < sizeof(all));
        memcpy(all + used, step, len + 1);
        used += len;
    }
    assert_string_equal(all, wanted);
}

static void test_json_step(void **state)
{
    (void)state;
    check_json("plain \xC3\xA9 \xF0\x9F\x98\x80", false, "plain \xC3\xA9 \xF0\x9F\x98\x80");
    check_json("\"\\/", false, "\\\"\\\\/");
    check_json("\n\r\t\b\f\x01\x1F\x7F", false, "\\n\\r\\t\\u0008\\u000c\\u0001\\u001f\\u007f");
    check_json("<b>&", false, "<b>&");
    check_json("<b>&", true, "\\u003cb>&");
    check_json("a\xFF\xC3", false, "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_valid),
        cmocka_unit_test(test_utf8_invalid),
        cmocka_unit_test(test_utf8_all_code_points),
        cmocka_unit_test(test_json_step),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
