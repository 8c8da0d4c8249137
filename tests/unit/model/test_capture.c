/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/capture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        assert_true(strlen(ap_loss_name(i)) > 0 && strlen(ap_loss_help(i)) > 20);
        assert_null(strchr(ap_loss_help(i), '\n'));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(ap_loss_name(i), ap_loss_name(j));
    }
    for (unsigned i = 0; i < AP_UNRESOLVED_REASON_CNT; i++) {
        assert_true(strlen(ap_unresolved_name(i)) > 0 && strlen(ap_unresolved_help(i)) > 20);
        assert_null(strchr(ap_unresolved_help(i), '\n'));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(ap_unresolved_name(i), ap_unresolved_name(j));
    }
    assert_string_equal(ap_loss_name(AP_LOSS_RING_FULL), "ring_full");
    assert_string_equal(ap_unresolved_name(AP_UNRESOLVED_FILE_GONE), "file_gone");
    assert_string_equal(ap_loss_name(1000), "unknown");
    assert_string_equal(ap_unresolved_name(1000), "unknown");
    assert_non_null(ap_loss_help(1000));
    assert_non_null(ap_unresolved_help(1000));
}

static void test_only_missing_samples_are_lost(void **state)
{
    struct ap_account account = {0};

    (void)state;
    assert_int_equal(ap_account_lost(&account), 0);
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        account.losses[i] = 1u << i;
    assert_int_equal(ap_account_lost(&account), (1u << AP_LOSS_RING_FULL) + (1u << AP_LOSS_MISSED) +
                                                    (1u << AP_LOSS_TABLE_FULL) + (1u << AP_LOSS_BAD_RECORD) +
                                                    (1u << AP_LOSS_NO_SCRATCH) + (1u << AP_LOSS_MAP_FULL));
    assert_false(ap_loss_is_sample(AP_LOSS_REASON_CNT));
}

/* Every number of an account is a u64: filled one by one, sums must show in each. */
static void test_accounts_add_up(void **state)
{
    struct ap_capture *capture = ap_capture_new();
    uint64_t numbers[sizeof(struct ap_account) / sizeof(uint64_t)];
    struct ap_account total;

    (void)state;
    capture->profiles[capture->profile_cnt++] = ap_profile_new(AP_KIND_CPU);
    capture->profiles[capture->profile_cnt++] = ap_profile_new(AP_KIND_LOCK);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        numbers[i] = 100 + i;
    memcpy(&capture->accounts[0], numbers, sizeof(numbers));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        numbers[i] = 1000 * i;
    memcpy(&capture->accounts[1], numbers, sizeof(numbers));
    total = ap_capture_total(capture);
    memcpy(numbers, &total, sizeof(numbers));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        assert_int_equal(numbers[i], 100 + i + 1000 * i);
    assert_ptr_equal(ap_capture_account(capture, capture->profiles[1]), &capture->accounts[1]);
    assert_null(ap_capture_account(capture, NULL));
    assert_null(ap_capture_free(capture));
    assert_null(ap_capture_free(NULL));
}

static void test_rows_merge_and_sort(void **state)
{
    struct ap_capture *capture = ap_capture_new();

    (void)state;
    ap_capture_unresolved(capture, "libx.so", AP_UNRESOLVED_STRIPPED, 2, 10);
    ap_capture_unresolved(capture, "libx.so", AP_UNRESOLVED_PERMISSION, 1, 90);
    ap_capture_unresolved(capture, "liby.so", AP_UNRESOLVED_STRIPPED, 1, 50);
    ap_capture_unresolved(capture, "libx.so", AP_UNRESOLVED_STRIPPED, 3, 60);
    ap_capture_unresolved(capture, "(other)", AP_UNRESOLVED_NONE, 1, 1000);
    ap_capture_unresolved(capture, NULL, AP_UNRESOLVED_JIT, 1, 1);
    ap_capture_unresolved_sort(capture);
    assert_int_equal(capture->unresolved_cnt, 5);
    assert_string_equal(capture->unresolved[0].module, "libx.so");
    assert_int_equal(capture->unresolved[0].samples, 90);
    assert_int_equal(capture->unresolved[1].samples, 70);
    assert_int_equal(capture->unresolved[1].frames, 5);
    assert_string_equal(capture->unresolved[2].module, "liby.so");
    assert_string_equal(capture->unresolved[3].module, "");
    assert_string_equal(capture->unresolved[4].module, "(other)"); /* last, whatever its weight */
    ap_capture_free(capture);
}

static void test_bound_sums_the_rest(void **state)
{
    struct ap_capture *capture = ap_capture_new();
    uint64_t samples = 0, frames = 0, expected = 0;

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < AP_CAPTURE_UNRESOLVED_MAX + 100; i++) {
            char module[32];

            snprintf(module, sizeof(module), "lib%u.so", i);
            ap_capture_unresolved(capture, module, AP_UNRESOLVED_STRIPPED, 1, i);
            expected += i;
        }
        ap_capture_unresolved_sort(capture);
        assert_int_equal(capture->unresolved_cnt, AP_CAPTURE_UNRESOLVED_MAX);
    }
    for (unsigned i = 0; i < capture->unresolved_cnt; i++) {
        samples += capture->unresolved[i].samples;
        frames += capture->unresolved[i].frames;
    }
    assert_int_equal(samples, expected);
    assert_int_equal(frames, 2 * (AP_CAPTURE_UNRESOLVED_MAX + 100));
    assert_string_equal(capture->unresolved[AP_CAPTURE_UNRESOLVED_MAX - 1].module, "(other)");
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_only_missing_samples_are_lost),
        cmocka_unit_test(test_accounts_add_up),
        cmocka_unit_test(test_rows_merge_and_sort),
        cmocka_unit_test(test_bound_sums_the_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
