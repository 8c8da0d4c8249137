/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint32_t add_frame(struct ap_profile *profile, const char *name, const char *module, uint8_t kind, bool inlined,
                          uint32_t line)
{
    struct ap_mapping mapping = {.path = ap_strings_id(profile->strings, module)};
    struct ap_frame row = {
        .kind = kind, .inlined = inlined, .function = ap_strings_id(profile->strings, name), .line = line};
    uint32_t index;

    assert_int_equal(ap_profile_add_mapping(profile, &mapping, &row.mapping), 0);
    assert_int_equal(ap_profile_add_frame(profile, &row, &index), 0);
    return index;
}

static void sample(struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, uint64_t count, uint64_t value)
{
    uint32_t series, stack;

    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = 1}, &series), 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, cnt, false, &stack), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, count, value), 0);
}

static void assert_row(const struct ap_profile *profile, const struct ap_top *top, uint32_t i, const char *name,
                       uint64_t self, uint64_t total, uint64_t total_count)
{
    assert_true(i < top->row_cnt);
    assert_string_equal(ap_profile_str(profile, top->rows[i].name), name);
    assert_int_equal(top->rows[i].self, self);
    assert_int_equal(top->rows[i].total, total);
    assert_int_equal(top->rows[i].total_count, total_count);
}

static void test_empty(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_top *top = ap_top_new(profile);

    (void)state;
    assert_non_null(top);
    assert_int_equal(top->row_cnt, 0);
    assert_null(ap_top_free(top));
    assert_null(ap_top_free(NULL));
    ap_profile_free(profile);
}

static void test_recursion_counts_once(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t m = add_frame(profile, "main", "app", AP_FRAME_NATIVE, false, 1);
    uint32_t fib = add_frame(profile, "fib", "app", AP_FRAME_NATIVE, false, 5);
    uint32_t fib2 = add_frame(profile, "fib", "app", AP_FRAME_NATIVE, false, 6); /* another line, same function */

    (void)state;
    sample(profile, (const uint32_t[]){fib, fib2, fib, fib2, m}, 5, 2, 100);
    sample(profile, (const uint32_t[]){fib2, m}, 2, 1, 7);
    sample(profile, (const uint32_t[]){m}, 1, 4, 40);
    struct ap_top *top = ap_top_new(profile);
    assert_int_equal(top->row_cnt, 2);
    assert_row(profile, top, 0, "fib", 107, 107, 3);
    assert_row(profile, top, 1, "main", 40, 147, 7);
    assert_int_equal(top->rows[0].self_count, 3);
    assert_int_equal(top->rows[1].self_count, 4);
    ap_top_free(top);
    ap_profile_free(profile);
}

static void test_functions_by_kind_name_module(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t a = add_frame(profile, "read", "libc", AP_FRAME_NATIVE, false, 0);
    uint32_t b = add_frame(profile, "read", "libc", AP_FRAME_NATIVE, true, 0); /* inlined copy: same function */
    uint32_t c = add_frame(profile, "read", "other", AP_FRAME_NATIVE, false, 0);
    uint32_t d = add_frame(profile, "read", "libc", AP_FRAME_JIT, false, 0);

    (void)state;
    sample(profile, (const uint32_t[]){a, b}, 2, 1, 10);
    sample(profile, (const uint32_t[]){b}, 1, 1, 20);
    sample(profile, (const uint32_t[]){c, d}, 2, 1, 5);
    struct ap_top *top = ap_top_new(profile);
    assert_int_equal(top->row_cnt, 3);
    assert_row(profile, top, 0, "read", 30, 30, 2);
    assert_row(profile, top, 1, "read", 5, 5, 1);
    assert_string_equal(ap_profile_str(profile, top->rows[1].module), "other");
    assert_row(profile, top, 2, "read", 0, 5, 1);
    assert_int_equal(top->rows[2].kind, AP_FRAME_JIT);
    ap_top_free(top);
    ap_profile_free(profile);
}

static void test_order(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t a = add_frame(profile, "a", "m", AP_FRAME_NATIVE, false, 0);
    uint32_t b = add_frame(profile, "b", "m", AP_FRAME_NATIVE, false, 0);
    uint32_t c = add_frame(profile, "c", "m", AP_FRAME_NATIVE, false, 0);
    uint32_t d = add_frame(profile, "d", "m", AP_FRAME_NATIVE, false, 0);
    uint64_t sum = 0;

    (void)state;
    sample(profile, (const uint32_t[]){c}, 1, 1, 10);
    sample(profile, (const uint32_t[]){b}, 1, 1, 10);
    sample(profile, (const uint32_t[]){d, a}, 2, 1, 9);
    sample(profile, (const uint32_t[]){a, d}, 2, 1, 9);
    sample(profile, (const uint32_t[]){a, b}, 2, 1, 1);
    struct ap_top *top = ap_top_new(profile);
    assert_row(profile, top, 0, "a", 10, 19, 3);
    assert_row(profile, top, 1, "b", 10, 11, 2);
    assert_row(profile, top, 2, "c", 10, 10, 1);
    assert_row(profile, top, 3, "d", 9, 18, 2);
    for (uint32_t i = 0; i < top->row_cnt; i++)
        sum += top->rows[i].self;
    assert_int_equal(sum, ap_profile_total_value(profile));
    ap_top_free(top);
    ap_profile_free(profile);
}

/* The wait's own leaf has the time, not the thread that ended it. */
static void test_wakers_are_no_rows(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_OFFCPU);
    uint32_t m = add_frame(profile, "main", "app", AP_FRAME_NATIVE, false, 1);
    uint32_t wait = add_frame(profile, "schedule", "[kernel]", AP_FRAME_KERNEL, false, 0);
    uint32_t stack[5] = {0, 0, 0, wait, m};
    struct ap_top *top;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        static const char *const names[] = {"other", "main", "[woken by]"};
        static const uint8_t kinds[] = {AP_FRAME_PROCESS, AP_FRAME_NATIVE, AP_FRAME_MARK};
        struct ap_frame row = profile->frames[m];

        row.kind = kinds[i];
        row.function = ap_strings_id(profile->strings, names[i]);
        row.waker = true;
        assert_int_equal(ap_profile_add_frame(profile, &row, &stack[i]), 0);
    }
    sample(profile, stack, 5, 2, 100);
    sample(profile, stack + 3, 2, 1, 10);
    top = ap_top_new(profile);
    assert_int_equal(top->row_cnt, 2);
    assert_row(profile, top, 0, "schedule", 110, 110, 3);
    assert_row(profile, top, 1, "main", 0, 110, 3);
    ap_top_free(top);
    sample(profile, stack, 3, 1, 5); /* nothing but a waker: nobody else has the time */
    top = ap_top_new(profile);
    assert_int_equal(top->row_cnt, 4);
    assert_row(profile, top, 1, "other", 5, 5, 1);
    ap_top_free(top);
    ap_profile_free(profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_recursion_counts_once),
        cmocka_unit_test(test_wakers_are_no_rows),
        cmocka_unit_test(test_functions_by_kind_name_module),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
