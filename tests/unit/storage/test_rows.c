/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "storage/rows.h"

#include <errno.h>

static struct ap_rows *rows_of(struct ap_push *push)
{
    struct ap_error err = {0};
    struct ap_rows *rows = ap_rows_new(push, "payload", 7, push->start_ns, &err);

    assert_non_null(rows);
    return rows;
}

static uint32_t series_of(struct ap_profile *profile, uint32_t pid, const char *comm, const char *exe)
{
    struct ap_series series = {
        .pid = pid, .comm = ap_strings_id(profile->strings, comm), .exe = ap_strings_id(profile->strings, exe)};
    uint32_t index;

    assert_int_equal(ap_profile_add_series(profile, &series, &index), 0);
    return index;
}

static struct ap_push *small_push(uint64_t sequence)
{
    struct ap_push *push = fx_push("agent", sequence, FX_START + 30000000, "host");
    struct ap_profile *profile = fx_profile(push, AP_KIND_CPU);
    uint32_t a = series_of(profile, 10, "a", "/bin/a"), b = series_of(profile, 11, "b", "");
    uint32_t one = fx_stack(profile, "main;one"), two = fx_stack(profile, "main;two;k:sys");

    ap_profile_add_sample_at(profile, b, two, 3, 1, 10);
    ap_profile_add_sample_at(profile, a, two, 60, 2, 20);
    ap_profile_add_sample_at(profile, a, one, 0, 3, 30);
    ap_profile_add_sample_at(profile, b, one, 3, 4, 40);
    return push;
}

/* Samples by kind, series, time and stack; slots counted from the second, not from the batch. */
static void test_order(void **state)
{
    (void)state;
    struct ap_rows *rows = rows_of(small_push(1));
    uint64_t total = 0;

    assert_int_equal(rows->sample_cnt, 4);
    assert_int_equal(rows->stack_cnt, 4); /* each under two thread names */
    assert_int_equal(rows->frame_cnt, 6); /* four functions, two threads */
    /* Two of processes, the same without pids, the batch's own. */
    assert_int_equal(rows->series_cnt, 5);
    for (size_t i = 0; i < rows->sample_cnt; i++) {
        const struct ap_row_sample *sample = &rows->samples[i], *before = i > 0 ? sample - 1 : NULL;

        total += sample->value;
        assert_int_equal(rows->series[sample->series_row].hash, sample->series);
        assert_int_equal(rows->stacks[sample->stack_row].hash, sample->stack);
        assert_non_null(ap_rows_series(rows, sample->series));
        assert_non_null(ap_rows_stack(rows, sample->stack));
        if (before != NULL)
            assert_true(before->series < sample->series ||
                        (before->series == sample->series &&
                         (before->t_s < sample->t_s || before->slot < sample->slot ||
                          (before->slot == sample->slot && before->stack < sample->stack))));
        if (sample->value == 20) { /* 30 ms and 60 slots of 20 ms */
            assert_int_equal(sample->t_s, FX_START / FX_SEC + 1);
            assert_int_equal(sample->slot, 11);
        }
    }
    assert_int_equal(total, 100);
    assert_int_equal(ap_rows_sample_cnt(rows), 4);
    assert_true(ap_rows_sz(rows) > 200);
    ap_rows_free(rows);
}

static void test_labels(void **state)
{
    (void)state;
    struct ap_rows *rows = rows_of(small_push(1));
    const struct ap_row_series *series = NULL;

    for (size_t i = 0; i < rows->series_cnt; i++)
        if (rows->series[i].cnt == 5)
            series = &rows->series[i];
    assert_non_null(series);
    const struct ap_row_label *labels = rows->labels + series->first;
    assert_string_equal(labels[0].name, "agent");
    assert_string_equal(labels[1].name, "comm");
    assert_string_equal(labels[1].value, "a");
    assert_string_equal(labels[2].name, "exe");
    assert_string_equal(labels[3].name, "host");
    assert_string_equal(labels[4].name, "pid");
    assert_string_equal(labels[4].value, "10");
    const struct ap_row_series *coarse = ap_rows_series(rows, series->coarse);
    assert_non_null(coarse);
    assert_int_equal(coarse->cnt, 4);
    assert_int_equal(coarse->coarse, coarse->hash);
    assert_int_equal(ap_rows_series(rows, rows->batch_series)->cnt, 2);
    ap_rows_free(rows);
}

/* Identities are of content: not of indices, nor of what else is in the batch. */
static void test_identities(void **state)
{
    (void)state;
    struct ap_push *push = fx_push("agent", 2, FX_START, "host");
    struct ap_profile *profile = fx_profile(push, AP_KIND_CPU);

    ap_strings_id(profile->strings, "something else first");
    fx_frame(profile, "other", AP_FRAME_NATIVE);
    uint32_t b = series_of(profile, 11, "b", ""), two = fx_stack(profile, "main;two;k:sys");
    ap_profile_add_sample_at(profile, b, two, 3, 1, 10);
    struct ap_rows *rows = rows_of(push), *others = rows_of(small_push(1));
    assert_int_equal(rows->stack_cnt, 1);
    assert_int_equal(rows->frame_cnt, 4); /* "other" is of no stack */
    assert_non_null(ap_rows_stack(others, rows->stacks[0].hash));
    assert_non_null(ap_rows_series(others, rows->samples[0].series));
    for (size_t i = 0; i < rows->frame_cnt; i++)
        assert_non_null(ap_rows_frame(others, rows->frames[i].hash));
    ap_rows_free(rows);
    ap_rows_free(others);
}

static void test_tables(void **state)
{
    (void)state;
    struct ap_push *push = fx_push("agent", 1, FX_START, "host");
    struct ap_profile *profile = fx_profile(push, AP_KIND_LOCK);
    uint32_t a = series_of(profile, 10, "thread", "/bin/a"), stack = fx_stack(profile, "main;lock");

    profile->locks = ap_locks_new();
    struct ap_lock_row *row = ap_locks_row(profile->locks, 1, 0x10, false);
    row->pid = 10;
    row->comm = ap_strings_id(profile->strings, "process");
    ap_lock_row_add(row, a, stack, 0, AP_LOCK_NO_STACK, 1, 5, 5);
    struct ap_rows *rows = rows_of(push);
    /* No samples, but a side's stack. */
    assert_int_equal(rows->sample_cnt, 0);
    assert_int_equal(rows->stack_cnt, 1);
    assert_int_equal(ap_rows_stack_hash(rows, 0, a, stack), rows->stacks[0].hash);
    assert_int_equal(ap_rows_stack_hash(rows, 0, 0, AP_LOCK_NO_STACK), 0);
    const struct ap_row_series *series = ap_rows_series(rows, rows->table_series[0][0]);
    assert_int_equal(series->cnt, 5); /* with the executable of the pid */
    assert_string_equal(rows->labels[series->first + 1].value, "process");
    assert_string_equal(rows->labels[series->first + 2].value, "/bin/a");
    ap_rows_free(rows);
}

static void refused(struct ap_push *push, uint64_t received_ns, const char *words)
{
    struct ap_error err = {0};

    assert_null(ap_rows_new(push, "", 0, received_ns, &err));
    assert_int_equal(err.code, -EINVAL);
    assert_non_null(strstr(err.text, words));
    ap_push_free(push); /* still ours */
}

static void test_refused(void **state)
{
    (void)state;
    struct ap_push *push = small_push(1);

    push->duration_ns = AP_PUSH_DURATION_MAX + 1;
    refused(push, 0, "covers");
    push = small_push(1);
    push->start_ns = 0;
    refused(push, 0, "cannot be");
    push = small_push(1);
    push->start_ns = UINT64_MAX;
    refused(push, 0, "cannot be");
    refused(small_push(1), FX_START - 100 * 3600 * FX_SEC, "future");
    push = small_push(1);
    push->capture->profiles[0]->samples[0].slot = UINT32_MAX;
    refused(push, 0, "slots");
    push = small_push(1);
    push->capture->profiles[0]->slot_ns = UINT64_MAX;
    refused(push, 0, "slots");
    assert_null(ap_rows_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),  cmocka_unit_test(test_labels),  cmocka_unit_test(test_identities),
        cmocka_unit_test(test_tables), cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
