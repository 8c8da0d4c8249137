/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>
#include <jansson.h>

static json_t *document(struct ap_capture *capture)
{
    json_error_t error;
    size_t len;
    char *text = fixture_render(AP_FORMAT_JSON, capture, &len);
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL)
        fail_msg("%s at %d", error.text, error.position);
    free(text);
    return root;
}

static json_int_t num(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value != NULL ? value : "(absent)";
}

static json_t *child(const json_t *node, size_t i)
{
    return json_array_get(json_object_get(node, "children"), i);
}

/* Every node: value is self plus children, and the children stand in order. */
static void assert_sums(const json_t *node)
{
    const json_t *children = json_object_get(node, "children");
    json_int_t value = num(node, "self"), last = -1;

    assert_true(json_is_array(children));
    for (size_t i = 0; i < json_array_size(children); i++) {
        const json_t *c = json_array_get(children, i);

        assert_true(last < 0 || num(c, "value") <= last);
        last = num(c, "value");
        value += last;
        assert_sums(c);
    }
    assert_int_equal(value, num(node, "value"));
}

static void test_document(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    json_t *root, *agent, *profile, *losses, *row;

    (void)state;
    capture->accounts[0].idle = 100;
    capture->accounts[0].out_of_scope = 7;
    capture->agent.cpu_ns = 12345;
    capture->agent.bpf_run_ns = 1000;
    capture->agent.bpf_run_cnt = 10;
    capture->agent.rss_peak_bytes = 1 << 20;
    capture->agent.bpf_memory_bytes = 2 << 20;
    capture->profiles[capture->profile_cnt++] = ap_profile_new(AP_KIND_OFFCPU);
    root = document(capture);
    assert_int_equal(num(root, "schema"), 1);
    agent = json_object_get(root, "agent");
    assert_string_equal(text_of(agent, "version"), "0.1.0");
    assert_string_equal(text_of(agent, "host"), "host-7");
    assert_string_equal(text_of(agent, "kernel"), "6.18.0");
    assert_string_equal(text_of(agent, "arch"), "x86_64");
    assert_string_equal(text_of(agent, "event"), "cpu-clock");
    assert_int_equal(num(agent, "frequency_hz"), 99);
    assert_int_equal(num(agent, "cpus"), 2);
    assert_int_equal(num(agent, "cpu_ns"), 12345);
    assert_int_equal(num(agent, "bpf_run_ns"), 1000);
    assert_int_equal(num(agent, "bpf_run_count"), 10);
    assert_int_equal(num(agent, "rss_peak_bytes"), 1 << 20);
    assert_int_equal(num(agent, "bpf_memory_bytes"), 2 << 20);
    assert_int_equal(json_array_size(json_object_get(root, "profiles")), 2);
    profile = json_array_get(json_object_get(root, "profiles"), 0);
    assert_string_equal(text_of(profile, "kind"), "cpu");
    assert_string_equal(text_of(profile, "unit"), "nanoseconds");
    assert_int_equal(num(profile, "start_ns"), 1790000000123456789);
    assert_int_equal(num(profile, "duration_ns"), 10000000000);
    assert_int_equal(num(profile, "period_ns"), 10101010);
    assert_int_equal(num(profile, "samples"), 16);
    profile = json_array_get(json_object_get(root, "profiles"), 1);
    assert_string_equal(text_of(profile, "kind"), "offcpu");
    assert_int_equal(num(profile, "samples"), 0);
    assert_int_equal(json_array_size(json_object_get(json_object_get(profile, "root"), "children")), 0);
    assert_int_equal(num(root, "expected"), 20);
    assert_int_equal(num(root, "delivered"), 16);
    assert_int_equal(num(root, "idle"), 100);
    assert_int_equal(num(root, "out_of_scope"), 7);
    losses = json_object_get(root, "losses");
    assert_int_equal(json_object_size(losses), AP_LOSS_REASON_CNT);
    assert_int_equal(num(losses, "ring_full"), 3);
    assert_int_equal(num(losses, "missed"), 1);
    assert_int_equal(num(losses, "sideband"), 0);
    row = json_array_get(json_object_get(root, "unresolved"), 0);
    assert_string_equal(text_of(row, "module"), "/usr/lib/libc.so.6");
    assert_string_equal(text_of(row, "reason"), "stripped");
    assert_string_equal(text_of(row, "help"), ap_unresolved_help(AP_UNRESOLVED_STRIPPED));
    assert_int_equal(num(row, "frames"), 1);
    assert_int_equal(num(row, "samples"), 1);
    assert_int_equal(num(root, "frames_total"), 80);
    assert_int_equal(num(root, "frames_unresolved"), 1);
    json_decref(root);
    ap_capture_free(capture);
}

static void test_tree(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    json_t *document_root = document(capture), *node;

    (void)state;
    node = json_object_get(json_array_get(json_object_get(document_root, "profiles"), 0), "root");
    assert_sums(node);
    assert_string_equal(text_of(node, "name"), "all");
    assert_string_equal(text_of(node, "kind"), "mark");
    assert_null(json_object_get(node, "module"));
    assert_int_equal(num(node, "samples"), 16);
    assert_int_equal(json_array_size(json_object_get(node, "children")), 2);
    node = child(node, 0);
    assert_string_equal(text_of(node, "name"), "app");
    assert_string_equal(text_of(node, "kind"), "process");
    node = child(node, 0);
    assert_string_equal(text_of(node, "name"), "_start");
    assert_string_equal(text_of(node, "module"), "/usr/bin/app");
    assert_null(json_object_get(node, "file"));
    assert_null(json_object_get(node, "line"));
    node = child(node, 0);
    assert_string_equal(text_of(node, "name"), "main");
    assert_string_equal(text_of(node, "file"), "/src/app.c");
    assert_null(json_object_get(node, "line")); /* two lines met here */
    assert_null(json_object_get(node, "inlined"));
    node = child(child(child(child(node, 0), 0), 0), 0);
    assert_string_equal(text_of(node, "name"), "add");
    assert_true(json_is_true(json_object_get(node, "inlined")));
    assert_int_equal(num(node, "line"), 9);
    assert_int_equal(num(node, "self"), 70707070);
    assert_int_equal(num(node, "samples"), 7);
    assert_int_equal(json_array_size(json_object_get(node, "children")), 0);
    json_decref(document_root);
    ap_capture_free(capture);
}

static void test_wakers(void **state)
{
    struct ap_capture *capture = fixture_wakers(AP_KIND_OFFCPU);
    json_t *root = document(capture);
    const json_t *node = json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "root");

    (void)state;
    for (unsigned i = 0; i < 5; i++) { /* waiter, [interruptible], main, work, schedule */
        node = child(node, 0);
        assert_null(json_object_get(node, "waker"));
    }
    assert_int_equal(num(node, "self"), 5000000);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const names[] = {"[woken by]", "work", "waker"};

        node = child(node, 0);
        assert_string_equal(text_of(node, "name"), names[i]);
        assert_true(json_is_true(json_object_get(node, "waker")));
    }
    json_decref(root);
    ap_capture_free(capture);
}

/* Each profile has its account; the top level has their sums, and what could not be recorded. */
static void test_accounts(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    json_t *root, *account, *row;

    (void)state;
    capture->profiles[capture->profile_cnt++] = ap_profile_new(AP_KIND_OFFCPU);
    capture->accounts[1] = (struct ap_account){.expected = 100,
                                               .delivered = 90,
                                               .losses = {[AP_LOSS_RING_FULL] = 4, [AP_LOSS_MAP_FULL] = 6},
                                               .out_of_scope = 5,
                                               .below_min = 70,
                                               .below_min_ns = 12345,
                                               .folded = 8,
                                               .unmatched = 9};
    capture->left_out_cnt = 1;
    capture->left_out[0].kind = AP_KIND_LOCK;
    snprintf(capture->left_out[0].reason, sizeof(capture->left_out[0].reason), "no \"tracepoint\"");
    root = document(capture);
    account = json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "account");
    assert_int_equal(num(account, "expected"), 20);
    assert_int_equal(num(account, "below_min"), 0);
    account = json_object_get(json_array_get(json_object_get(root, "profiles"), 1), "account");
    assert_int_equal(num(account, "expected"), 100);
    assert_int_equal(num(account, "delivered"), 90);
    assert_int_equal(num(account, "idle"), 0);
    assert_int_equal(num(account, "out_of_scope"), 5);
    assert_int_equal(num(account, "below_min"), 70);
    assert_int_equal(num(account, "below_min_ns"), 12345);
    assert_int_equal(num(account, "folded"), 8);
    assert_int_equal(num(account, "unmatched"), 9);
    assert_int_equal(num(json_object_get(account, "losses"), "map_full"), 6);
    assert_int_equal(num(root, "expected"), 120);
    assert_int_equal(num(root, "delivered"), 106);
    assert_int_equal(num(json_object_get(root, "losses"), "ring_full"), 7);
    assert_int_equal(num(json_object_get(root, "losses"), "map_full"), 6);
    row = json_array_get(json_object_get(root, "left_out"), 0);
    assert_string_equal(text_of(row, "kind"), "lock");
    assert_string_equal(text_of(row, "reason"), "no \"tracepoint\"");
    json_decref(root);
    ap_capture_free(capture);
}

static void test_hostile_names(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 11, 200);
    json_t *root;

    (void)state;
    memset(capture->agent.host, 0xff, sizeof(capture->agent.host) - 1);
    ap_capture_unresolved(capture, fixture_hostile[5], AP_UNRESOLVED_JIT, 1, 1);
    root = document(capture);
    assert_sums(json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "root"));
    json_decref(root);
    ap_capture_free(capture);

    /* What is valid text comes back as it was. */
    capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    uint32_t f = fixture_frame(p, "\"\\\n\033<b>caf\xc3\xa9", AP_FRAME_NATIVE, 0, 0, false, "", 0);
    fixture_sample(p, &(struct ap_series){.comm = ap_strings_id(p->strings, "t")}, &f, 1, false, 1, 1);
    root = document(capture);
    assert_string_equal(
        text_of(child(child(json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "root"), 0), 0),
                "name"),
        "\"\\\n\033<b>caf\xc3\xa9");
    json_decref(root);
    ap_capture_free(capture);
}

static void test_deepest_stack(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    uint32_t frames[AP_STACK_FRAMES_MAX];
    json_t *root, *node;
    unsigned depth = 0;

    (void)state;
    for (unsigned i = 0; i < AP_STACK_FRAMES_MAX; i++)
        frames[i] = fixture_frame(p, "f", AP_FRAME_NATIVE, 0, i, false, "", 0);
    fixture_sample(p, &(struct ap_series){.comm = ap_strings_id(p->strings, "t")}, frames, AP_STACK_FRAMES_MAX, true, 2,
                   5);
    root = document(capture);
    node = json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "root");
    for (; node != NULL; node = child(node, 0)) {
        assert_int_equal(num(node, "value"), 5);
        depth++;
    }
    assert_int_equal(depth, AP_STACK_FRAMES_MAX + 3);
    json_decref(root);
    ap_capture_free(capture);
}

static void test_no_profile_and_broken_sink(void **state)
{
    struct ap_capture *capture = ap_capture_new();
    size_t room = 100;
    json_t *root = document(capture);
    struct ap_out *out;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(root, "profiles")), 0);
    json_decref(root);
    ap_capture_free(capture);

    capture = fixture_random(AP_KIND_CPU, 3, 500);
    out = ap_out_new(fixture_full_disk, &room);
    assert_int_equal(ap_format_write(AP_FORMAT_JSON, capture, 0, out), -ENOSPC);
    ap_out_free(out);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_wakers),
        cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_deepest_stack),
        cmocka_unit_test(test_no_profile_and_broken_sink),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
