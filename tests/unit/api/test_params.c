/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/params.h"
#include "core/clock.h"
#include "model/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NOW_NS  (UINT64_C(1795000000) * AP_NS_PER_SEC)
#define HOUR_NS (3600 * AP_NS_PER_SEC)
#define ALL     (AP_API_SELECTOR | AP_API_NODES | AP_API_PATH | AP_API_LIMIT | AP_API_STEP | AP_API_BY)

static void set(struct ap_api_params *params, const char *name, const char *value)
{
    struct ap_error err;

    if (ap_api_params_set(params, name, value, &err) != 0)
        fail_msg("%s=%s: %s", name, value, err.text);
}

static void test_selector(void **state)
{
    struct ap_api_params params;

    (void)state;
    ap_api_params_init(&params, ALL, NOW_NS);
    set(&params, "event_type", "offcpu");
    set(&params, "from", "2h ago");
    set(&params, "to", "1794999000.5");
    set(&params, "host", "a");
    set(&params, "label.team", "blue");
    set(&params, "label.zone", "");
    set(&params, "match", "{comm=~\"x.*\",pid!=\"1\"}");
    set(&params, "match", "exe=\"/bin/x\"");
    set(&params, "function_regex", "^f$");
    set(&params, "limit", "7");
    set(&params, "max_nodes", "9");
    set(&params, "step", "1s");
    set(&params, "by", "comm");
    set(&params, "path", "app");
    set(&params, "path", "main");
    assert_int_equal(ap_api_params_finish(&params, AP_KIND_CPU, HOUR_NS, NULL), 0);
    assert_int_equal(params.selector.kind, AP_KIND_OFFCPU);
    assert_int_equal(params.selector.from_ns, NOW_NS - 2 * HOUR_NS);
    assert_int_equal(params.selector.to_ns, UINT64_C(1794999000500000000));
    assert_int_equal(params.selector.matcher_cnt, 6);
    assert_string_equal(params.selector.matchers[1].label, "team");
    assert_true(params.selector.function_regex);
    assert_int_equal(params.limit, 7);
    assert_int_equal(params.max_nodes, 9);
    assert_int_equal(params.step_ns, AP_NS_PER_SEC);
    assert_string_equal(params.by, "comm");
    assert_int_equal(params.path_cnt, 2);
    assert_string_equal(params.path[1], "main");
    ap_api_params_done(&params);
}

static void test_defaults(void **state)
{
    struct ap_api_params params;

    (void)state;
    ap_api_params_init(&params, ALL, NOW_NS);
    assert_int_equal(ap_api_params_finish(&params, AP_KIND_CPU, HOUR_NS, NULL), 0);
    assert_int_equal(params.selector.kind, AP_KIND_CPU);
    assert_int_equal(params.selector.from_ns, NOW_NS - HOUR_NS);
    assert_int_equal(params.selector.to_ns, 0);
    ap_api_params_done(&params);

    ap_api_params_init(&params, ALL, NOW_NS);
    set(&params, "to", "3h ago"); /* the hour before that */
    assert_int_equal(ap_api_params_finish(&params, 0, HOUR_NS, NULL), 0);
    assert_int_equal(params.selector.from_ns, NOW_NS - 4 * HOUR_NS);
    ap_api_params_done(&params);

    ap_api_params_init(&params, ALL, NOW_NS);
    assert_int_equal(ap_api_params_finish(&params, 0, 0, NULL), 0); /* everything */
    assert_int_equal(params.selector.from_ns, 0);
    assert_int_equal(params.selector.kind, 0);
    ap_api_params_done(&params);
}

static void test_wrong(void **state)
{
    static const struct {
        const char *name, *value, *word;
    } cases[] = {
        {"kind", "x", "offcpu"},       {"from", "x", "from"},        {"limit", "0", "limit"},
        {"limit", "100001", "limit"},  {"limit", "1.5", "limit"},    {"max_nodes", "", "max_nodes"},
        {"max_nodes", "1048577", "1"}, {"step", "0", "20ms"},        {"step", "30ms", "20ms"},
        {"step", "x", "step"},         {"by", "a b", "a b"},         {"match", "{", "match"},
        {"label.", "x", "label"},      {"label.a-b", "x", "a-b"},    {"limits", "1", "did you mean limit?"},
        {"", "", "unknown"},           {"source", "memory", "know"}, {"baseline_to", "1h", "unknown"},
    };
    struct ap_api_params params;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_error err = {0};

        ap_api_params_init(&params, ALL, NOW_NS);
        if (ap_api_params_set(&params, cases[i].name, cases[i].value, &err) != -EINVAL)
            fail_msg("%s=%s was taken", cases[i].name, cases[i].value);
        if (strstr(err.text, cases[i].word) == NULL)
            fail_msg("\"%s\" says nothing of %s", err.text, cases[i].word);
        ap_api_params_done(&params);
    }
}

static void test_pairs_that_contradict(void **state)
{
    static const char *const cases[][4] = {
        {"limit", "1", "limit", "1"},   {"kind", "cpu", "event_type", "cpu"},
        {"host", "a", "host", "b"},     {"function", "a", "function_regex", "b"},
        {"since", "1h", "from", "1h"},  {"from", "1h", "to", "2h"},
        {"from", "1h", "to", "1h ago"}, {"by", "host", "by", "comm"},
    };
    struct ap_api_params params;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_error err = {0};
        int r;

        ap_api_params_init(&params, ALL, NOW_NS);
        r = ap_api_params_set(&params, cases[i][0], cases[i][1], &err);
        assert_int_equal(r, 0);
        r = ap_api_params_set(&params, cases[i][2], cases[i][3], &err);
        if (r == 0)
            r = ap_api_params_finish(&params, 0, HOUR_NS, &err);
        assert_int_equal(r, -EINVAL);
        assert_true(err.text[0] != '\0');
        ap_api_params_done(&params);
    }
    ap_api_params_init(&params, ALL, NOW_NS);
    set(&params, "from", "2200-01-01T00:00:00Z");
    assert_int_equal(ap_api_params_finish(&params, 0, HOUR_NS, NULL), -EINVAL);
    ap_api_params_done(&params);
}

static void test_bounds(void **state)
{
    struct ap_api_params params;
    struct ap_error err;
    char name[32];
    int r = 0;

    (void)state;
    ap_api_params_init(&params, ALL, NOW_NS);
    for (int i = 0; i < AP_API_PATH_MAX; i++)
        set(&params, "path", "x");
    assert_int_equal(ap_api_params_set(&params, "path", "x", &err), -E2BIG);
    for (int i = 0; i < 40 && r == 0; i++) {
        (void)snprintf(name, sizeof(name), "label.l%d", i);
        r = ap_api_params_set(&params, name, "x", &err);
    }
    assert_int_equal(r, -E2BIG);
    assert_int_equal(params.selector.matcher_cnt, AP_SELECTOR_MATCHERS_MAX);
    ap_api_params_done(&params);
}

static void test_json(void **state)
{
    static const char text[] = "{\"kind\":\"lock\",\"from\":1794990000,\"labels\":{\"team\":\"bl\\u0075e\",\"n\":7},"
                               "\"match\":[\"a=\\\"1\\\"\",\"b!=\\\"2\\\"\"],\"path\":\"x\",\"limit\":5,\"to\":null,"
                               "\"before\":{\"host\":\"h\"},\"after\":{}}";
    struct ap_api_params params, before, after;
    struct ap_error err;

    (void)state;
    ap_api_params_init(&params, ALL, NOW_NS);
    ap_api_params_init(&before, AP_API_SELECTOR, NOW_NS);
    ap_api_params_init(&after, AP_API_SELECTOR, NOW_NS);
    if (ap_api_params_set_json(&params, text, strlen(text), &before, &after, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(params.selector.kind, AP_KIND_LOCK);
    assert_int_equal(params.selector.from_ns, UINT64_C(1794990000) * AP_NS_PER_SEC);
    assert_int_equal(params.selector.matcher_cnt, 4);
    assert_string_equal(params.selector.matchers[0].value, "blue");
    assert_string_equal(params.selector.matchers[1].value, "7");
    assert_int_equal(params.selector.matchers[3].op, AP_MATCH_NOT_EQUAL);
    assert_int_equal(params.path_cnt, 1);
    assert_int_equal(before.selector.matcher_cnt, 1);
    assert_int_equal(after.selector.matcher_cnt, 0);
    ap_api_params_done(&params);
    ap_api_params_done(&before);
    ap_api_params_done(&after);
}

static void test_wrong_json(void **state)
{
    static const char *const cases[] = {
        "",
        "[]",
        "7",
        "{\"limit\":{}}",
        "{\"limit\":[[1]]}",
        "{\"kinds\":\"cpu\"}",
        "{",
        "{\"a\":1}",
        "{\"labels\":7}",
        "{\"labels\":{\"x\":{}}}",
        "{\"before\":{}}",
        "{\"limit\":1.5}",
        "{\"limit\":1,\"limit\":2}",
    };
    struct ap_api_params params;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_error err = {0};

        ap_api_params_init(&params, ALL, NOW_NS);
        if (ap_api_params_set_json(&params, cases[i], strlen(cases[i]), NULL, NULL, &err) != -EINVAL)
            fail_msg("taken: %s", cases[i]);
        assert_true(err.text[0] != '\0');
        ap_api_params_done(&params);
    }
}

static void test_names(void **state)
{
    const char *names[AP_API_NAMES_MAX];

    (void)state;
    assert_int_equal(ap_api_params_names(AP_API_LIMIT, names), 1);
    assert_string_equal(names[0], "limit");
    assert_int_equal(ap_api_params_names(0, names), 0);
    assert_true(ap_api_params_names(UINT32_MAX, names) > 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selector),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_wrong),      cmocka_unit_test(test_pairs_that_contradict),
        cmocka_unit_test(test_bounds),     cmocka_unit_test(test_json),
        cmocka_unit_test(test_wrong_json), cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
