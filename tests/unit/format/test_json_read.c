/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void assert_text(const struct ap_json_doc *doc, uint32_t token, const char *wanted)
{
    struct ap_buf buf;

    ap_buf_init(&buf, 1000);
    assert_int_equal(ap_json_text(doc, token, &buf), 0);
    assert_string_equal(buf.data, wanted);
    ap_buf_done(&buf);
}

static void test_values(void **state)
{
    static const char text[] =
        " {\"a\" : [1, -2.5e+3, true,\tfalse , null, \"x\", {}, []],\"b\":{\"c\":18446744073709551615},"
        "\"n\":18446744073709551616, \"f\":1.0, \"a\":7}\n";
    static const char types[] = "00tfn\"{[";
    struct ap_json_doc doc;
    uint32_t array, item = AP_JSON_NONE, name = AP_JSON_NONE;
    unsigned cnt = 0;
    uint64_t number = 99;

    (void)state;
    assert_int_equal(ap_json_doc_init(&doc, text, strlen(text), NULL), 0);
    array = ap_json_member(&doc, 0, "a"); /* the first of two */
    assert_int_equal(ap_json_type(&doc, array), '[');
    while ((item = ap_json_next_item(&doc, array, item)) != AP_JSON_NONE)
        assert_int_equal(ap_json_type(&doc, item), types[cnt++]);
    assert_int_equal(cnt, 8);
    cnt = 0;
    while ((name = ap_json_next_name(&doc, 0, name)) != AP_JSON_NONE)
        cnt++;
    assert_int_equal(cnt, 5);
    assert_int_equal(ap_json_u64(&doc, ap_json_member(&doc, ap_json_member(&doc, 0, "b"), "c"), &number), 0);
    assert_true(number == UINT64_MAX);
    assert_int_equal(ap_json_u64(&doc, ap_json_member(&doc, 0, "n"), &number), -ERANGE);
    assert_int_equal(ap_json_u64(&doc, ap_json_member(&doc, 0, "f"), &number), -EINVAL);
    assert_int_equal(ap_json_u64(&doc, array, &number), -EINVAL);
    assert_true(number == UINT64_MAX);
    assert_int_equal(ap_json_member(&doc, 0, "c"), AP_JSON_NONE);
    assert_int_equal(ap_json_member(&doc, array, "a"), AP_JSON_NONE);
    assert_int_equal(ap_json_member(&doc, AP_JSON_NONE, "a"), AP_JSON_NONE);
    assert_int_equal(ap_json_next_item(&doc, 0, AP_JSON_NONE), AP_JSON_NONE);
    assert_int_equal(ap_json_type(&doc, AP_JSON_NONE), '\0');
    ap_json_doc_done(&doc);
    ap_json_doc_done(&doc);
}

static void test_text(void **state)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"\"\"", ""},
        {"\"a\\n\\t\\\"\\\\\\/\\b\\f\\r\"", "a\n\t\"\\/\b\f\r"},
        {"\"\\u0041\\u00e9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac"},
        {"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!"},
        {"\"\\ud83d\"", "\xef\xbf\xbd"},
        {"\"\\ude00\\u0000x\"", "\xef\xbf\xbd\xef\xbf\xbdx"},
        {"\"\\ud83d\\u0041\"", "\xef\xbf\xbd"
                               "A"},
        {"\"\xff\"", "\xff"}, /* bytes stay what they are */
    };
    struct ap_json_doc doc;
    struct ap_buf tiny;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ap_json_doc_init(&doc, cases[i].json, strlen(cases[i].json), NULL), 0);
        assert_text(&doc, 0, cases[i].text);
        ap_json_doc_done(&doc);
    }
    assert_int_equal(ap_json_doc_init(&doc, "[\"abcdef\",1]", 12, NULL), 0);
    ap_buf_init(&tiny, 3);
    assert_int_equal(ap_json_text(&doc, 1, &tiny), -ENOSPC);
    assert_int_equal(ap_json_text(&doc, 2, &tiny), -EINVAL);
    ap_buf_done(&tiny);
    ap_json_doc_done(&doc);
}

static void test_what_is_not_json(void **state)
{
    static const char *const cases[] = {
        "",         " ",          "x",     "{",      "}",         "[1",   "[1,]",     "[,1]",      "{\"a\"}",
        "{\"a\":}", "{a:1}",      "{1:1}", "[1}",    "{\"a\":1]", "\"a",  "\"\\x\"",  "\"\\u12\"", "\"\n\"",
        "01",       "1.",         ".5",    "+1",     "1e",        "--1",  "nul",      "truex",     "1 2",
        "[] []",    "{\"a\":1,}", "[1 2]", "\"a\"b", "{\"a\" 1}", "\"\\", "\"\\u123", "-",         "[\"a\":1]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i]);
        char *exact = malloc(len + 1); /* so that reading on is seen */
        struct ap_json_doc doc = {.token_cnt = 77};
        struct ap_error err = {0};

        memcpy(exact, cases[i], len);
        if (ap_json_doc_init(&doc, exact, len, &err) != -EINVAL)
            fail_msg("taken: %s", cases[i]);
        assert_non_null(strstr(err.text, "not JSON"));
        assert_int_equal(doc.token_cnt, 77);
        free(exact);
    }
}

static void test_bounds(void **state)
{
    size_t len = 40u << 20;
    char *text = malloc(len);
    struct ap_json_doc doc;
    struct ap_error err;

    (void)state;
    if (text == NULL) {
        fail();
        return;
    }
    memset(text, '[', AP_JSON_DEPTH_MAX);
    memset(text + AP_JSON_DEPTH_MAX, ']', AP_JSON_DEPTH_MAX);
    assert_int_equal(ap_json_doc_init(&doc, text, 2 * AP_JSON_DEPTH_MAX, &err), 0);
    assert_int_equal(doc.token_cnt, AP_JSON_DEPTH_MAX);
    ap_json_doc_done(&doc);
    memset(text, '[', len);
    assert_int_equal(ap_json_doc_init(&doc, text, len, &err), -E2BIG);
    assert_non_null(strstr(err.text, "nested"));
    for (size_t i = 1; i < len; i += 2)
        memcpy(text + i, "1,", i + 1 < len ? 2 : 1);
    assert_int_equal(ap_json_doc_init(&doc, text, len, &err), -E2BIG);
    assert_non_null(strstr(err.text, "values"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_what_is_not_json),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
