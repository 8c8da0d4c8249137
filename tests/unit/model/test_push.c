/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/push.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_labels_are_sorted_and_once(void **state)
{
    struct ap_push *push = ap_push_new();

    (void)state;
    assert_non_null(push);
    assert_non_null(push->capture);
    assert_null(ap_push_label_value(push, "host"));
    assert_int_equal(ap_push_label(push, "service", "web", NULL), 0);
    assert_int_equal(ap_push_label(push, "host", "a", NULL), 0);
    assert_int_equal(ap_push_label(push, "_zone2", "", NULL), 0);
    assert_int_equal(ap_push_label(push, "host", "b", NULL), 0);
    assert_int_equal(push->label_cnt, 3);
    assert_string_equal(push->labels[0].name, "_zone2");
    assert_string_equal(push->labels[1].name, "host");
    assert_string_equal(push->labels[2].name, "service");
    assert_string_equal(ap_push_label_value(push, "host"), "b");
    assert_string_equal(ap_push_label_value(push, "_zone2"), "");
    assert_null(ap_push_label_value(push, "servic"));
    ap_push_free(push);
    ap_push_free(NULL);
}

static void test_labels_that_are_refused(void **state)
{
    static const char *const names[] = {"",    "1a",   "a-b", "a b",       "caf\xc3\xa9", "a.b",
                                        "pid", "comm", "exe", "container", "agent",       "kind"};
    struct ap_push *push = ap_push_new();
    struct ap_error err;
    char text[AP_PUSH_LABEL_VALUE_SZ + 1];

    (void)state;
    assert_non_null(push);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        err = (struct ap_error){0};
        assert_int_equal(ap_push_label(push, names[i], "x", &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        assert_non_null(strstr(err.text, names[i]));
    }
    assert_int_equal(ap_push_label(push, "a", "\xff", &err), -EINVAL);
    memset(text, 'x', sizeof(text));
    text[AP_PUSH_LABEL_VALUE_SZ] = '\0';
    assert_int_equal(ap_push_label(push, "a", text, &err), -E2BIG);
    text[AP_PUSH_LABEL_VALUE_SZ - 1] = '\0';
    assert_int_equal(ap_push_label(push, "a", text, &err), 0);
    text[AP_PUSH_LABEL_NAME_SZ] = '\0';
    assert_int_equal(ap_push_label(push, text, "a", &err), -E2BIG);
    text[AP_PUSH_LABEL_NAME_SZ - 1] = '\0';
    assert_int_equal(ap_push_label(push, text, "a", &err), 0);
    assert_int_equal(push->label_cnt, 2);
    ap_push_free(push);
}

static void test_labels_are_bounded(void **state)
{
    struct ap_push *push = ap_push_new();
    char name[32];

    (void)state;
    assert_non_null(push);
    for (int i = 0; i < AP_PUSH_LABELS_MAX; i++) {
        snprintf(name, sizeof(name), "l%d", i);
        assert_int_equal(ap_push_label(push, name, name, NULL), 0);
    }
    assert_int_equal(ap_push_label(push, "one_more", "", NULL), -E2BIG);
    assert_int_equal(ap_push_label(push, "l0", "again", NULL), 0);
    assert_int_equal(push->label_cnt, AP_PUSH_LABELS_MAX);
    assert_string_equal(ap_push_label_value(push, "l0"), "again");
    assert_string_equal(ap_push_label_value(push, "l63"), "l63");
    ap_push_free(push);
}

static void test_agent_ids(void **state)
{
    char text[AP_PUSH_AGENT_ID_SZ + 1];

    (void)state;
    assert_true(ap_push_agent_id_valid("host-1.example.org:a_b"));
    assert_true(ap_push_agent_id_valid("x"));
    assert_false(ap_push_agent_id_valid(""));
    assert_false(ap_push_agent_id_valid("a b"));
    assert_false(ap_push_agent_id_valid("a/b"));
    assert_false(ap_push_agent_id_valid("caf\xc3\xa9"));
    memset(text, 'x', sizeof(text));
    text[AP_PUSH_AGENT_ID_SZ] = '\0';
    assert_false(ap_push_agent_id_valid(text));
    text[AP_PUSH_AGENT_ID_SZ - 1] = '\0';
    assert_true(ap_push_agent_id_valid(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_are_sorted_and_once),
        cmocka_unit_test(test_labels_that_are_refused),
        cmocka_unit_test(test_labels_are_bounded),
        cmocka_unit_test(test_agent_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
