/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/regex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"

#include <errno.h>

static int match(const char *pattern, bool anchored, const char *text)
{
    struct ap_error err;
    struct ap_regex *regex = ap_regex_new(pattern, anchored, &err);
    int r;

    assert_non_null(regex);
    r = ap_regex_match(regex, text, &err);
    assert_null(ap_regex_free(regex));
    return r;
}

static void test_match(void **state)
{
    (void)state;
    assert_int_equal(match("web.*", true, "web-1"), 1);
    assert_int_equal(match("web", true, "web-1"), 0);
    assert_int_equal(match("eb", true, "web"), 0);
    assert_int_equal(match("a|web", true, "web"), 1); /* both ends hold for every alternative */
    assert_int_equal(match("a|web", true, "webb"), 0);
    assert_int_equal(match("", true, ""), 1);
    assert_int_equal(match(".*", true, ""), 1);
    assert_int_equal(match("ma.n$", false, "std::main"), 1);
    assert_int_equal(match("^ma", false, "std::main"), 0);
    assert_int_equal(match("(?i)MAIN", false, "std::main"), 1);
    assert_int_equal(match("\xc3\xbc+", true, "\xc3\xbc\xc3\xbc"), 1);
    assert_int_equal(match("a.b", true, "a\xff\x62"), 0); /* not UTF-8: no harm */
    assert_int_equal(match("a", false, "\xff\xfe a"), 1);
    assert_null(ap_regex_free(NULL));
}

static void assert_refused(const char *pattern, const char *words)
{
    struct ap_error err;

    assert_null(ap_regex_new(pattern, true, &err));
    assert_int_equal(err.code, -EINVAL);
    assert_non_null(strstr(err.text, words));
    assert_null(ap_regex_new(pattern, true, NULL));
}

static void test_wrong(void **state)
{
    char deep[1001];

    (void)state;
    assert_refused("(", "missing closing parenthesis");
    assert_refused("a)", "at character 2");
    assert_refused("[z-a]", "range out of order");
    assert_refused("*", "quantifier");
    assert_refused("\\C", "\\C");
    assert_refused("\xff", "UTF-8");
    assert_refused("((a{1,1000}){1,1000}){1,1000}", "too large");
    memset(deep, '(', 500);
    memset(deep + 500, ')', 500);
    deep[1000] = '\0';
    assert_refused(deep, "too deeply nested");
}

/* Patterns that other engines hang on. */
static void test_expensive(void **state)
{
    static const char *const patterns[] = {"(a+)+$",      "(a|a)*b",         "(.*)*x",
                                           "(a*)*(b*)*c", "(?:a?){30}a{30}", "^(([a-z])+.)+[A-Z]([a-z])+$"};
    char text[5000];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 2] = '!';
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct ap_error err = {0};
        struct ap_regex *regex = ap_regex_new(patterns[i], true, &err);
        uint64_t begin = ap_clock_monotonic_ns();
        int r;

        assert_non_null(regex);
        r = ap_regex_match(regex, text, &err);
        assert_true(r == -EINVAL || r == 0); /* some are seen through */
        if (r != 0)
            assert_non_null(strstr(err.text, "too expensive"));
        assert_true(ap_clock_monotonic_ns() - begin < AP_NS_PER_SEC);
        ap_regex_free(regex);
    }
    /* recursion without end */
    struct ap_regex *regex = ap_regex_new("(?R)?a", false, NULL);
    if (regex != NULL)
        assert_true(ap_regex_match(regex, text, NULL) >= -EINVAL);
    ap_regex_free(regex);
}

/* Each match is cheap enough, all together are not. */
static void test_budget(void **state)
{
    struct ap_regex *regex = ap_regex_new("(.*)(.*)x", false, NULL);
    struct ap_error err;
    uint64_t begin = ap_clock_monotonic_ns();
    char text[300];
    int r = 0;

    (void)state;
    assert_non_null(regex);
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (unsigned i = 0; i < 100000000 && r == 0; i++)
        r = ap_regex_match(regex, text, &err);
    assert_int_equal(r, -EINVAL);
    assert_true(ap_clock_monotonic_ns() - begin < 60 * AP_NS_PER_SEC);
    ap_regex_free(regex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_expensive),
        cmocka_unit_test(test_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
