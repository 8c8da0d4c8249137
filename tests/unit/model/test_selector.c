/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/selector.h"

#include "model/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SEC 1000000000ULL
#define NOW (1790000000ULL * SEC)

static void assert_matcher(const struct ap_selector *selector, size_t i, const char *label, uint8_t op,
                           const char *value)
{
    assert_true(i < selector->matcher_cnt);
    assert_string_equal(selector->matchers[i].label, label);
    assert_int_equal(selector->matchers[i].op, op);
    assert_string_equal(selector->matchers[i].value, value);
}

static void test_text(void **state)
{
    struct ap_selector selector = {0};

    (void)state;
    assert_int_equal(ap_selector_parse(&selector, "host=\"a\",comm!=\"x\",service=~\"web.*\"", NULL), 0);
    assert_int_equal(selector.matcher_cnt, 3);
    assert_matcher(&selector, 0, "host", AP_MATCH_EQUAL, "a");
    assert_matcher(&selector, 1, "comm", AP_MATCH_NOT_EQUAL, "x");
    assert_matcher(&selector, 2, "service", AP_MATCH_REGEX, "web.*");
    assert_int_equal(ap_selector_parse(&selector, " { pid !~ '1|2' , _x = `a\\d\"`, } ", NULL), 0);
    assert_int_equal(selector.matcher_cnt, 5);
    assert_matcher(&selector, 3, "pid", AP_MATCH_NOT_REGEX, "1|2");
    assert_matcher(&selector, 4, "_x", AP_MATCH_EQUAL, "a\\d\"");
    assert_int_equal(ap_selector_parse(&selector, "a=\"q\\\"\\\\d\\n\\t, }\"", NULL), 0);
    assert_matcher(&selector, 5, "a", AP_MATCH_EQUAL, "q\"\\d\n\t, }");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ap_selector_parse(&selector, (const char *[]){"", "{}", "  "}[i], NULL), 0);
    assert_int_equal(selector.matcher_cnt, 6);
    ap_selector_done(&selector);
    assert_int_equal(selector.matcher_cnt, 0);
}

static void test_text_that_is_refused(void **state)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"host", "one of = != =~ !~ is missing at its end"},
        {"host=", "a value in quotes is missing"},
        {"host=a", "character 6: a value in quotes expected, not 'a'"},
        {"host=\"a", "the closing quote"},
        {"host=\"a\\", "\\\\"},
        {"a=\"b\",c=\"\\.\"", "character 10"},
        {"{a=\"b\"", ", or }"},
        {"a=\"b\"}", "character 6"},
        {"{a=\"b\"} x", "character 9"},
        {"a=\"b\" c=\"d\"", "a comma expected"},
        {"=\"b\"", "character 1: a label's name"},
        {"1a=\"b\"", "character 1"},
        {"a-b=\"b\"", "character 1"},
        {",", "character 1"},
        {"a==\"b\"", "character 3"},
        {"a~\"b\"", "character 2"},
    };
    struct ap_selector selector = {0};
    struct ap_error err;

    (void)state;
    assert_int_equal(ap_selector_match(&selector, "host", AP_MATCH_EQUAL, "kept", NULL), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        err = (struct ap_error){0};
        assert_int_equal(ap_selector_parse(&selector, rows[i].text, &err), -EINVAL);
        if (strstr(err.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_int_equal(selector.matcher_cnt, 1);
    }
    ap_selector_done(&selector);
}

static void test_bounds(void **state)
{
    struct ap_selector selector = {0};
    char text[AP_SELECTOR_TEXT_SZ + 8], quoted[AP_SELECTOR_TEXT_SZ + 16];

    (void)state;
    memset(text, 'x', sizeof(text));
    text[AP_SELECTOR_TEXT_SZ] = '\0';
    assert_int_equal(ap_selector_match(&selector, "a", AP_MATCH_EQUAL, text, NULL), -E2BIG);
    assert_int_equal(ap_selector_function(&selector, text, false, NULL), -E2BIG);
    snprintf(quoted, sizeof(quoted), "a=\"%s\"", text);
    assert_int_equal(ap_selector_parse(&selector, quoted, NULL), -E2BIG);
    assert_int_equal(ap_selector_match(&selector, text, AP_MATCH_EQUAL, "", NULL), -EINVAL);
    text[AP_SELECTOR_TEXT_SZ - 1] = '\0';
    snprintf(quoted, sizeof(quoted), "a=\"%s\"", text);
    assert_int_equal(ap_selector_parse(&selector, quoted, NULL), 0);
    assert_int_equal(ap_selector_function(&selector, text, false, NULL), 0);
    assert_int_equal(ap_selector_match(&selector, "a", 4, "", NULL), -EINVAL);
    for (size_t i = selector.matcher_cnt; i < AP_SELECTOR_MATCHERS_MAX; i++)
        assert_int_equal(ap_selector_match(&selector, "a", AP_MATCH_EQUAL, "", NULL), 0);
    assert_int_equal(ap_selector_match(&selector, "a", AP_MATCH_EQUAL, "", NULL), -E2BIG);
    ap_selector_done(&selector);
}

static void test_copy(void **state)
{
    struct ap_selector selector = {.kind = AP_KIND_LOCK, .from_ns = 1, .to_ns = 2}, copy;

    (void)state;
    assert_int_equal(ap_selector_parse(&selector, "host=\"a\",x!~\"b\"", NULL), 0);
    assert_int_equal(ap_selector_function(&selector, "f.*", true, NULL), 0);
    assert_int_equal(ap_selector_copy(&selector, &copy), 0);
    ap_selector_done(&selector);
    assert_int_equal(copy.kind, AP_KIND_LOCK);
    assert_int_equal(copy.from_ns, 1);
    assert_int_equal(copy.to_ns, 2);
    assert_matcher(&copy, 1, "x", AP_MATCH_NOT_REGEX, "b");
    assert_string_equal(copy.function, "f.*");
    assert_true(copy.function_regex);
    assert_int_equal(ap_selector_function(&copy, "", true, NULL), 0);
    assert_null(copy.function);
    assert_false(copy.function_regex);
    ap_selector_done(&copy);
}

static void test_kinds(void **state)
{
    struct ap_error err = {0};
    uint8_t kind = 99;

    (void)state;
    assert_int_equal(ap_selector_kind("cpu", &kind, &err), 0);
    assert_int_equal(kind, AP_KIND_CPU);
    assert_int_equal(ap_selector_kind("syscall", &kind, &err), 0);
    assert_int_equal(kind, AP_KIND_SYSCALL);
    assert_int_equal(ap_selector_kind("unknown", &kind, &err), -EINVAL);
    assert_int_equal(ap_selector_kind("CPU", &kind, &err), -EINVAL);
    assert_int_equal(ap_selector_kind("", &kind, &err), -EINVAL);
    assert_non_null(strstr(err.text, "offcpu"));
    assert_int_equal(kind, AP_KIND_SYSCALL);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } rows[] = {
        {"now", NOW},
        {"0", 0},
        {"1790000000", NOW},
        {"1790000000.5", NOW + SEC / 2},
        {"0.1234567899", 123456789},
        {"15m", NOW - 900 * SEC},
        {"2h ago", NOW - 7200 * SEC},
        {"1h30m  ago", NOW - 5400 * SEC},
        {"1.5s", NOW - 1500000000},
        {"30 ago", NOW - 30 * SEC},
        {"1970-01-01T00:00:00Z", 0},
        {"2026-09-21T14:13:20Z", NOW},
        {"2026-09-21t14:13:20z", NOW},
        {"2026-09-21 14:13:20.000000001Z", NOW + 1},
        {"2026-09-21T16:13:20.25+02:00", NOW + SEC / 4},
        {"2026-09-21T08:43:20-05:30", NOW},
        {"2026-09-21T14:13:20-00:00", NOW},
        {"2024-02-29T23:59:60Z", 1709251200 * SEC},
        {"2000-03-01T00:00:00Z", 951868800 * SEC},
        {"2554-07-21T23:34:33Z", 18446744073 * SEC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ap_error err = {0};
        uint64_t ns = 7;

        if (ap_selector_time(rows[i].text, NOW, &ns, &err) != 0 || ns != rows[i].ns)
            fail_msg("%s: %" PRIu64 " %s", rows[i].text, ns, err.text);
    }
}

/* Every day of 400 years, against libc. */
static void test_calendar(void **state)
{
    uint64_t ns;

    (void)state;
    for (int64_t day = 0; day < 146097; day++) {
        time_t seconds = (time_t)(day * 86400 + 86399);
        struct tm tm;
        char text[64];

        assert_non_null(gmtime_r(&seconds, &tm));
        assert_true(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
        assert_int_equal(ap_selector_time(text, NOW, &ns, NULL), 0);
        assert_int_equal(ns, (uint64_t)seconds * SEC);
    }
}

static void test_times_that_are_refused(void **state)
{
    static const struct {
        const char *text;
        int r;
    } rows[] = {
        {"", -EINVAL},
        {"yesterday", -EINVAL},
        {"now ", -EINVAL},
        {"ago", -EINVAL},
        {" ago", -EINVAL},
        {"-5", -EINVAL},
        {"1.", -EINVAL},
        {"1790000000x", -EINVAL},
        {"15mago", -EINVAL},
        {"2026-09-21", -EINVAL},
        {"2026-09-21T14:13Z", -EINVAL},
        {"2026-09-21T14:13:20", -EINVAL},
        {"2026-09-21T14:13:20.Z", -EINVAL},
        {"2026-09-21T14:13:20Zx", -EINVAL},
        {"2026-09-21T14:13:20+0200", -EINVAL},
        {"2026-09-21T14:13:20+24:00", -EINVAL},
        {"2026-02-29T00:00:00Z", -EINVAL},
        {"2100-02-29T00:00:00Z", -EINVAL},
        {"2026-13-01T00:00:00Z", -EINVAL},
        {"2026-00-01T00:00:00Z", -EINVAL},
        {"2026-01-00T00:00:00Z", -EINVAL},
        {"2026-01-01T24:00:00Z", -EINVAL},
        {"2026-01-01T00:60:00Z", -EINVAL},
        {"2026-01-01T00:00:61Z", -EINVAL},
        {"1969-12-31T23:59:59Z", -ERANGE},
        {"0000-01-01T00:00:00Z", -ERANGE},
        {"1970-01-01T00:00:00+00:01", -ERANGE},
        {"2554-07-21T23:34:34Z", -ERANGE},
        {"9999-12-31T23:59:59Z", -ERANGE},
        {"1790000000000", -ERANGE}, /* milliseconds */
        {"99999999999999999999999", -ERANGE},
        {"100000d", -ERANGE},
        {"999999999d", -ERANGE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ap_error err = {0};
        uint64_t ns = 7;
        int r = ap_selector_time(rows[i].text, NOW, &ns, &err);

        if (r != rows[i].r || ns != 7 || err.code != r || err.text[0] == '\0')
            fail_msg("%s: %d %" PRIu64 " %s", rows[i].text, r, ns, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),     cmocka_unit_test(test_text_that_is_refused),
        cmocka_unit_test(test_bounds),   cmocka_unit_test(test_copy),
        cmocka_unit_test(test_kinds),    cmocka_unit_test(test_times),
        cmocka_unit_test(test_calendar), cmocka_unit_test(test_times_that_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
