/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>

static void assert_collapsed(struct ap_capture *capture, const char *expected)
{
    char *text = fixture_render(AP_FORMAT_COLLAPSED, capture, NULL);

    assert_string_equal(text, expected);
    free(text);
    ap_capture_free(capture);
}

static void test_cpu_counts_samples(void **state)
{
    (void)state;
    assert_collapsed(fixture_rich(AP_KIND_CPU), "app;_start;main;fib;fib;fib;add_[i] 7\n"
                                                "app;_start;main;write;ksys_write_[k] 3\n"
                                                "app;[truncated];libc.so.6+0x1600 1\n"
                                                "vm thread;Foo::bar_[j] 4\n"
                                                "vm thread;[truncated];fib 1\n");
}

static void test_others_in_microseconds(void **state)
{
    (void)state;
    assert_collapsed(fixture_rich(AP_KIND_OFFCPU), "app;_start;main;fib;fib;fib;add_[i] 70707\n"
                                                   "app;_start;main;write;ksys_write_[k] 30303\n"
                                                   "app;[truncated];libc.so.6+0x1600 10101\n"
                                                   "vm thread;Foo::bar_[j] 40404\n"
                                                   "vm thread;[truncated];fib 0\n");
}

static void test_wakers_have_a_suffix(void **state)
{
    (void)state;
    assert_collapsed(fixture_wakers(AP_KIND_OFFCPU),
                     "waiter;[interruptible];main;work;schedule_[k] 5000\n"
                     "waiter;[interruptible];main;work;schedule_[k];[woken by]_[w];work_[w];waker_[w] 30000\n");
}

static void test_rounding(void **state)
{
    static const uint64_t values[] = {499, 500, 1499, 1500, 999999};
    struct ap_capture *capture = fixture_capture(AP_KIND_LOCK);
    struct ap_profile *p = capture->profiles[0];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        uint32_t f = fixture_frame(p, name, AP_FRAME_NATIVE, 0, 0, false, "", 0);

        fixture_sample(p, &(struct ap_series){.comm = ap_strings_id(p->strings, "t")}, &f, 1, false, 1, values[i]);
    }
    assert_collapsed(capture, "t;e 1000\nt;d 2\nt;c 1\nt;b 1\nt;a 0\n");
}

static void test_equal_lines_are_one(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    uint32_t one = fixture_mapping(p, "/one", 0, 0), two = fixture_mapping(p, "/two", 0, 0);
    const uint32_t frames[] = {
        fixture_frame(p, "f", AP_FRAME_NATIVE, one, 1, false, "x.c", 1),
        fixture_frame(p, "f", AP_FRAME_NATIVE, one, 2, false, "x.c", 2),   /* other line */
        fixture_frame(p, "f", AP_FRAME_NATIVE, two, 1, false, "", 0),      /* other module */
        fixture_frame(p, "f", AP_FRAME_INTERPRETED, two, 1, false, "", 0), /* other kind */
        fixture_frame(p, "f", AP_FRAME_KERNEL, two, 1, false, "", 0),      /* reads differently */
        fixture_frame(p, "g;h", AP_FRAME_NATIVE, one, 1, false, "", 0),
        fixture_frame(p, "g:h", AP_FRAME_NATIVE, one, 1, false, "", 0), /* the same once ';' is replaced */
    };
    uint32_t leaf = fixture_frame(p, "leaf", AP_FRAME_NATIVE, one, 9, false, "", 0);

    (void)state;
    for (uint32_t i = 0; i < 7; i++) {
        struct ap_series series = fixture_series(p, i, "t", "", "");
        const uint32_t stack[] = {leaf, frames[i]};

        fixture_sample(p, &series, stack, 2, false, 1, 1);
    }
    assert_collapsed(capture, "t;f;leaf 4\nt;f_[k];leaf 1\nt;g:h;leaf 2\n");
}

static void test_hostile_names(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    struct ap_series series = fixture_series(p, 1, "a;b\n", "", ""), nameless = fixture_series(p, 1, "", "", "");
    const uint32_t frames[] = {
        fixture_frame(p, "x\033[0m;y z 7", AP_FRAME_NATIVE, 0, 0, false, "", 0),
        fixture_frame(p, "caf\xc3\xa9\xff", AP_FRAME_NATIVE, 0, 0, false, "", 0),
        fixture_frame(p, "\x7f\xc2\x85\t", AP_FRAME_NATIVE, 0, 0, false, "", 0), 0, /* the zero row: no name at all */
    };

    (void)state;
    fixture_sample(p, &series, frames, 4, false, 2, 2);
    fixture_sample(p, &nameless, frames, 1, false, 1, 1);
    assert_collapsed(capture, "a:b?;[unknown];???;caf\xc3\xa9?;x?[0m:y z 7 2\n[unknown];x?[0m:y z 7 1\n");
}

static void test_truncated_inside_marks(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    struct ap_series series = fixture_series(p, 1, "t", "", "");
    uint32_t f = fixture_frame(p, "f", AP_FRAME_NATIVE, 0, 1, false, "", 0);
    uint32_t mark = fixture_frame(p, "[preempted]", AP_FRAME_MARK, 0, 0, false, "", 0);

    (void)state;
    fixture_sample(p, &series, (const uint32_t[]){f, mark}, 2, true, 3, 3);
    assert_collapsed(capture, "t;[preempted];[truncated];f 3\n");
}

static void test_deepest_stack(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    uint32_t frames[AP_STACK_FRAMES_MAX];
    struct ap_series series = fixture_series(p, 1, "t", "", "");
    struct ap_buf expected;

    (void)state;
    ap_buf_init(&expected, 8192);
    ap_buf_str(&expected, "t;[truncated]");
    for (unsigned i = 0; i < AP_STACK_FRAMES_MAX; i++) {
        frames[i] = fixture_frame(p, "f", AP_FRAME_NATIVE, 0, i, false, "", 0);
        ap_buf_str(&expected, ";f");
    }
    ap_buf_str(&expected, " 9\n");
    fixture_sample(p, &series, frames, AP_STACK_FRAMES_MAX, true, 9, 9);
    assert_collapsed(capture, expected.data);
    ap_buf_done(&expected);
}

static void test_empty(void **state)
{
    (void)state;
    assert_collapsed(fixture_capture(AP_KIND_CPU), "");
}

static void test_sink_error_comes_back(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 3, 2000);
    size_t room = 5000;
    struct ap_out *out = ap_out_new(fixture_full_disk, &room);

    (void)state;
    assert_int_equal(ap_format_write(AP_FORMAT_COLLAPSED, capture, 0, out), -ENOSPC);
    ap_out_free(out);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_counts_samples),
        cmocka_unit_test(test_others_in_microseconds),
        cmocka_unit_test(test_wakers_have_a_suffix),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_equal_lines_are_one),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_truncated_inside_marks),
        cmocka_unit_test(test_deepest_stack),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_sink_error_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
