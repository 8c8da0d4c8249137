/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../storage/fixture.h"

#include "model/graft.h"

#include <errno.h>

static void test_copy(void **state)
{
    struct ap_profile *from = ap_profile_new(AP_KIND_CPU), *to = ap_profile_new(AP_KIND_CPU);
    uint32_t a = fx_stack(from, "main;work;k:sys_read"), b = fx_stack(from, "main;work"), stack, again, series;
    uint32_t app = fx_series(from, "app", 7, "/bin/app", "c0ffee");
    struct ap_graft graft;

    (void)state;
    fx_stack(to, "other;main"); /* so that indices differ */
    assert_int_equal(ap_graft_init(&graft, from, to), 0);
    assert_int_equal(ap_graft_stack(&graft, a, &stack), 0);
    assert_int_equal(ap_graft_stack(&graft, a, &again), 0);
    assert_int_equal(stack, again);
    assert_int_equal(stack, fx_stack(to, "main;work;k:sys_read"));
    assert_int_equal(ap_graft_stack(&graft, b, &stack), 0);
    assert_int_equal(stack, fx_stack(to, "main;work"));
    assert_int_equal(to->stack_cnt, 3);
    assert_int_equal(ap_graft_series(&graft, app, &series), 0);
    assert_int_equal(series, fx_series(to, "app", 7, "/bin/app", "c0ffee"));
    assert_int_equal(ap_graft_stack(&graft, 2, &stack), -EINVAL);
    assert_int_equal(ap_graft_series(&graft, 9, &series), -EINVAL);
    assert_int_equal(ap_graft_frame(&graft, 1000, &stack), -EINVAL);
    assert_int_equal(ap_graft_string(&graft, 1000, &stack), -EINVAL);
    assert_int_equal(ap_graft_frame(&graft, 0, &stack), 0); /* the zero row */
    assert_int_equal(stack, 0);
    ap_graft_done(&graft);
    ap_graft_done(&graft);
    ap_profile_free(from);
    ap_profile_free(to);
}

static void test_truncated(void **state)
{
    struct ap_profile *from = ap_profile_new(AP_KIND_CPU), *to = ap_profile_new(AP_KIND_CPU);
    uint32_t frame = fx_frame(from, "f", AP_FRAME_NATIVE), stack, copy;
    struct ap_graft graft;

    (void)state;
    assert_int_equal(ap_profile_add_stack(from, &frame, 1, true, &stack), 0);
    assert_int_equal(ap_graft_init(&graft, from, to), 0);
    assert_int_equal(ap_graft_stack(&graft, stack, &copy), 0);
    assert_true(to->stacks[copy].truncated);
    ap_graft_done(&graft);
    ap_profile_free(from);
    ap_profile_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_truncated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
