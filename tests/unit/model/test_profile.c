/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/locks.h"
#include "model/profile.h"
#include "model/syscalls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t str(struct ap_profile *profile, const char *text)
{
    return ap_strings_id(profile->strings, text);
}

static uint32_t frame(struct ap_profile *profile, const struct ap_frame *row)
{
    uint32_t index = UINT32_MAX;

    assert_int_equal(ap_profile_add_frame(profile, row, &index), 0);
    return index;
}

static void test_zero_rows(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t index = 99;

    (void)state;
    assert_non_null(profile);
    assert_int_equal(profile->kind, AP_KIND_CPU);
    assert_int_equal(profile->mapping_cnt, 1);
    assert_int_equal(profile->frame_cnt, 1);
    assert_int_equal(profile->stack_cnt + profile->series_cnt + profile->sample_cnt, 0);
    assert_int_equal(ap_profile_add_mapping(profile, &(struct ap_mapping){0}, &index), 0);
    assert_int_equal(index, 0);
    assert_int_equal(frame(profile, &(struct ap_frame){0}), 0);
    assert_int_equal(ap_profile_total_count(profile), 0);
    assert_int_equal(ap_profile_total_value(profile), 0);
    assert_string_equal(ap_profile_str(profile, 0), "");
    assert_null(ap_profile_free(profile));
    assert_null(ap_profile_free(NULL));
}

static void test_frames_by_content(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t mapping, name = str(profile, "main"), other = str(profile, "other");

    (void)state;
    assert_int_equal(ap_profile_add_mapping(profile, &(struct ap_mapping){.path = name}, &mapping), 0);
    const struct ap_frame base = {
        .kind = AP_FRAME_NATIVE, .function = name, .file = other, .line = 7, .mapping = mapping, .offset = 16};
    uint32_t index = frame(profile, &base);
    struct ap_frame rows[8] = {base, base, base, base, base, base, base, base};

    rows[0].kind = AP_FRAME_JIT;
    rows[1].inlined = true;
    rows[2].function = other;
    rows[3].file = 0;
    rows[4].line = 8;
    rows[5].mapping = 0;
    rows[6].offset = 17;
    rows[7].waker = true;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(frame(profile, &rows[i]), index + 1 + i);
    assert_int_equal(frame(profile, &base), index);
    assert_int_equal(profile->frame_cnt, 10);

    /* What lies between the fields is no content. */
    struct ap_frame dirty;
    memset(&dirty, 0xa5, sizeof(dirty));
    dirty.kind = base.kind;
    dirty.inlined = false;
    dirty.waker = false;
    dirty.function = base.function;
    dirty.file = base.file;
    dirty.line = base.line;
    dirty.mapping = base.mapping;
    dirty.offset = base.offset;
    assert_int_equal(frame(profile, &dirty), index);
    ap_profile_free(profile);
}

static void test_mappings_by_content(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_mapping row = {.path = str(profile, "/bin/app"), .build_id = {1, 2, 3}, .build_id_len = 3};
    uint32_t first, index;

    (void)state;
    assert_int_equal(ap_profile_add_mapping(profile, &row, &first), 0);
    row.build_id[7] = 9; /* past the length: not part of the id */
    assert_int_equal(ap_profile_add_mapping(profile, &row, &index), 0);
    assert_int_equal(index, first);
    row.build_id[2] = 4;
    assert_int_equal(ap_profile_add_mapping(profile, &row, &index), 0);
    assert_int_not_equal(index, first);
    row.start = 4096;
    assert_int_equal(ap_profile_add_mapping(profile, &row, &index), 0);
    assert_int_equal(index, first + 2);
    row.build_id_len = AP_BUILD_ID_MAX + 1;
    assert_int_equal(ap_profile_add_mapping(profile, &row, &index), -EINVAL);
    ap_profile_free(profile);
}

static void test_foreign_ids_refused(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t index = 77, bad = (uint32_t)ap_strings_count(profile->strings), series, stack;

    (void)state;
    assert_int_equal(ap_profile_add_mapping(profile, &(struct ap_mapping){.path = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_frame(profile, &(struct ap_frame){.function = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_frame(profile, &(struct ap_frame){.file = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_frame(profile, &(struct ap_frame){.mapping = 1}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.comm = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.exe = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.container = bad}, &index), -EINVAL);
    assert_int_equal(ap_profile_add_stack(profile, (const uint32_t[]){0, 1}, 2, false, &index), -EINVAL);
    assert_int_equal(index, 77);
    assert_int_equal(ap_profile_add_sample(profile, 0, 0, 1, 1), -EINVAL);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){0}, &series), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, 0, 1, 1), -EINVAL);
    assert_int_equal(ap_profile_add_stack(profile, (const uint32_t[]){0}, 1, false, &stack), 0);
    assert_int_equal(ap_profile_add_sample(profile, series + 1, stack, 1, 1), -EINVAL);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, 1, 1), 0);
    ap_profile_free(profile);
}

static void test_stack_lengths(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t frames[AP_STACK_FRAMES_MAX + 1] = {0}, whole, cut, again;

    (void)state;
    assert_int_equal(ap_profile_add_stack(profile, frames, 0, false, &whole), -EINVAL);
    assert_int_equal(ap_profile_add_stack(profile, frames, AP_STACK_FRAMES_MAX + 1, false, &whole), -EINVAL);
    assert_int_equal(profile->stack_cnt, 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, AP_STACK_FRAMES_MAX, false, &whole), 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, AP_STACK_FRAMES_MAX, true, &cut), 0);
    assert_int_not_equal(whole, cut);
    assert_true(profile->stacks[cut].truncated);
    assert_int_equal(ap_profile_add_stack(profile, frames, AP_STACK_FRAMES_MAX, false, &again), 0);
    assert_int_equal(again, whole);
    assert_int_equal(ap_profile_add_stack(profile, frames, AP_STACK_FRAMES_MAX - 1, false, &again), 0);
    assert_int_equal(again, 2);
    assert_int_equal(profile->stack_frame_cnt, 3 * AP_STACK_FRAMES_MAX - 1);
    ap_profile_free(profile);
}

static void test_outer_marks(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_OFFCPU);
    struct ap_frame code = {.kind = AP_FRAME_NATIVE}, mark = {.kind = AP_FRAME_MARK};
    struct ap_frame woken = {.kind = AP_FRAME_MARK, .waker = true};
    uint32_t c, m, w, stack;

    (void)state;
    assert_int_equal(ap_profile_add_frame(profile, &code, &c), 0);
    assert_int_equal(ap_profile_add_frame(profile, &mark, &m), 0);
    assert_int_equal(ap_profile_add_frame(profile, &woken, &w), 0);
    const struct {
        uint32_t frames[4], cnt, marks;
    } cases[] = {
        {{c}, 1, 0}, {{m}, 1, 0}, {{c, m}, 2, 1}, {{c, m, m}, 3, 2}, {{m, m}, 2, 1}, {{m, c}, 2, 0}, {{c, w, m}, 3, 1},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ap_profile_add_stack(profile, cases[i].frames, cases[i].cnt, false, &stack), 0);
        assert_int_equal(ap_stack_marks(profile, &profile->stacks[stack]), cases[i].marks);
    }
    ap_profile_free(profile);
}

static void test_samples_add_up(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_OFFCPU);
    uint32_t series, other, stack;

    (void)state;
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = 1}, &series), 0);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = 2}, &other), 0);
    assert_int_equal(ap_profile_add_stack(profile, (const uint32_t[]){0}, 1, false, &stack), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, 2, 500), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, 1, 7), 0);
    assert_int_equal(ap_profile_add_sample(profile, other, stack, 1, 1), 0);
    assert_int_equal(profile->sample_cnt, 2);
    assert_int_equal(profile->samples[0].count, 3);
    assert_int_equal(profile->samples[0].value, 507);
    assert_int_equal(ap_profile_total_count(profile), 4);
    assert_int_equal(ap_profile_total_value(profile), 508);

    /* Sums never wrap: what does not fit is refused whole. */
    assert_int_equal(ap_profile_add_sample(profile, other, stack, 1, UINT64_MAX), -ENOSPC);
    assert_int_equal(ap_profile_add_sample(profile, other, stack, AP_PROFILE_TOTAL_MAX, 1), -ENOSPC);
    assert_int_equal(ap_profile_total_count(profile), 4);
    assert_int_equal(ap_profile_total_value(profile), 508);
    assert_int_equal(profile->samples[1].count, 1);
    assert_int_equal(ap_profile_add_sample(profile, other, stack, AP_PROFILE_TOTAL_MAX - 4, AP_PROFILE_TOTAL_MAX - 508),
                     0);
    assert_int_equal(ap_profile_add_sample(profile, other, stack, 0, 1), -ENOSPC);
    ap_profile_free(profile);
}

static void test_many_rows_stay_found(void **state)
{
    enum { CNT = 50000 };
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t series, index;

    (void)state;
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = 1}, &series), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 1; i <= CNT; i++) {
            assert_int_equal(frame(profile, &(struct ap_frame){.offset = i}), i);
            const uint32_t frames[2] = {i, i - 1};
            assert_int_equal(ap_profile_add_stack(profile, frames, 2, i % 2, &index), 0);
            assert_int_equal(index, i - 1);
            assert_int_equal(ap_profile_add_sample(profile, series, index, 1, i), 0);
        }
    }
    assert_int_equal(profile->frame_cnt, CNT + 1);
    assert_int_equal(profile->stack_cnt, CNT);
    assert_int_equal(profile->sample_cnt, CNT);
    assert_int_equal(ap_profile_total_count(profile), 2 * CNT);
    assert_int_equal(ap_profile_total_value(profile), (uint64_t)CNT * (CNT + 1));
    for (uint32_t i = 0; i < CNT; i++) {
        const struct ap_stack *stack = &profile->stacks[i];

        assert_int_equal(profile->stack_frames[stack->first], i + 1);
        assert_int_equal(profile->stack_frames[stack->first + 1], i);
        assert_int_equal(profile->samples[i].value, 2 * (i + 1));
    }
    ap_profile_free(profile);
}

static void test_tables_are_freed_with_it(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_SYSCALL);

    (void)state;
    profile->syscalls = ap_syscalls_new(profile->strings);
    profile->locks = ap_locks_new();
    assert_non_null(ap_syscalls_row(profile->syscalls, 1, 1, "sh", AP_SYSCALL_NATIVE, 1));
    assert_non_null(ap_locks_row(profile->locks, 1, 64, false));
    ap_profile_free(profile);
}

static void test_bounds_refuse(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t index = 0;

    (void)state;
    for (uint32_t i = 0; i < AP_PROFILE_SERIES_MAX; i++)
        assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = i}, &index), 0);
    assert_int_equal(index, AP_PROFILE_SERIES_MAX - 1);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = AP_PROFILE_SERIES_MAX}, &index),
                     -ENOSPC);
    assert_int_equal(profile->series_cnt, AP_PROFILE_SERIES_MAX);
    assert_int_equal(ap_profile_add_series(profile, &(struct ap_series){.pid = 5}, &index), 0);
    assert_int_equal(index, 5); /* known rows are still found in a full table */

    for (uint32_t i = 1; i < AP_PROFILE_MAPPINGS_MAX; i++)
        assert_int_equal(ap_profile_add_mapping(profile, &(struct ap_mapping){.start = i}, &index), 0);
    assert_int_equal(ap_profile_add_mapping(profile, &(struct ap_mapping){.start = AP_PROFILE_MAPPINGS_MAX}, &index),
                     -ENOSPC);
    assert_int_equal(profile->mapping_cnt, AP_PROFILE_MAPPINGS_MAX);
    ap_profile_free(profile);
}

/* The tables that three samples over two stacks need, made by hand; `profile` has the strings. */
static struct ap_profile_tables tables_of(struct ap_profile *profile)
{
    struct ap_profile_tables t = {
        .mappings = calloc(2, sizeof(*t.mappings)),
        .frames = calloc(4, sizeof(*t.frames)),
        .stacks = calloc(2, sizeof(*t.stacks)),
        .stack_frames = calloc(3, sizeof(*t.stack_frames)),
        .series = calloc(1, sizeof(*t.series)),
        .samples = calloc(4, sizeof(*t.samples)),
        .mapping_cnt = 2,
        .frame_cnt = 4,
        .stack_cnt = 2,
        .stack_frame_cnt = 3,
        .series_cnt = 1,
        .sample_cnt = 4,
    };

    assert_true(t.mappings && t.frames && t.stacks && t.stack_frames && t.series && t.samples);
    t.mappings[1] = (struct ap_mapping){.path = str(profile, "/bin/app"), .build_id_len = 1, .build_id = {7}};
    t.frames[1] = (struct ap_frame){.kind = AP_FRAME_NATIVE, .function = str(profile, "main"), .mapping = 1};
    t.frames[2] = (struct ap_frame){.kind = AP_FRAME_NATIVE, .function = str(profile, "leaf"), .mapping = 1};
    t.frames[3] = t.frames[2]; /* equal rows do no harm */
    t.stack_frames[0] = 2;
    t.stack_frames[1] = t.stack_frames[2] = 1;
    t.stacks[0] = (struct ap_stack){.first = 0, .frame_cnt = 2};
    t.stacks[1] = (struct ap_stack){.first = 2, .frame_cnt = 1, .truncated = true};
    t.series[0] = (struct ap_series){.pid = 10, .comm = str(profile, "app")};
    t.samples[0] = (struct ap_sample){.stack = 0, .count = 1, .value = 10};
    t.samples[1] = (struct ap_sample){.stack = 1, .count = 2, .value = 20};
    t.samples[2] = (struct ap_sample){.stack = 1, .slot = 3, .count = 4, .value = 40};
    t.samples[3] = (struct ap_sample){.stack = 0, .count = 8, .value = 80};
    return t;
}

static void test_adopted_rows_are_found(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_profile_tables tables;
    uint32_t index = 99;

    (void)state;
    assert_non_null(profile);
    tables = tables_of(profile);
    assert_int_equal(ap_profile_adopt(profile, &tables, NULL), 0);
    assert_null(tables.samples);
    assert_int_equal(ap_profile_total_count(profile), 15);
    assert_int_equal(ap_profile_total_value(profile), 150);
    /* The first add makes what finds them; of equal ones the first is found. */
    assert_int_equal(ap_profile_add_sample_at(profile, 0, 1, 3, 1, 5), 0);
    assert_int_equal(ap_profile_add_sample(profile, 0, 0, 1, 5), 0);
    assert_int_equal(profile->sample_cnt, 4);
    assert_int_equal(profile->samples[0].count, 2);
    assert_int_equal(profile->samples[2].count, 5);
    assert_int_equal(ap_profile_total_value(profile), 160);
    assert_int_equal(ap_profile_add_mapping(profile, &profile->mappings[1], &index), 0);
    assert_int_equal(index, 1);
    assert_int_equal(frame(profile, &profile->frames[3]), 2);
    assert_int_equal(frame(profile, &(struct ap_frame){.offset = 5}), 4);
    assert_int_equal(ap_profile_add_stack(profile, (const uint32_t[]){2, 1}, 2, false, &index), 0);
    assert_int_equal(index, 0);
    assert_int_equal(ap_profile_add_stack(profile, (const uint32_t[]){2, 1}, 2, true, &index), 0);
    assert_int_equal(index, 2);
    assert_int_equal(ap_profile_add_series(profile, &profile->series[0], &index), 0);
    assert_int_equal(index, 0);
    assert_int_equal(ap_profile_add_sample(profile, 0, 2, 1, 1), 0);
    assert_int_equal(profile->sample_cnt, 5);
    ap_profile_free(profile);
}

static void test_adopted_rows_are_checked(void **state)
{
    (void)state;
    for (int i = 0;; i++) {
        struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
        struct ap_error err = {0};
        struct ap_profile_tables t;
        int want = -EINVAL;

        assert_non_null(profile);
        t = tables_of(profile);
        switch (i) {
        case 0:
            t.mappings[0].start = 1;
            break;
        case 1:
            t.frames[0].line = 1;
            break;
        case 2:
            t.mappings[1].path = 1000;
            break;
        case 3:
            t.mappings[1].build_id_len = AP_BUILD_ID_MAX + 1;
            break;
        case 4:
            t.frames[1].function = 1000;
            break;
        case 5:
            t.frames[1].file = 1000;
            break;
        case 6:
            t.frames[1].mapping = 2;
            break;
        case 7:
            t.stacks[0].frame_cnt = 0;
            break;
        case 8:
            t.stacks[0].frame_cnt = AP_STACK_FRAMES_MAX + 1;
            break;
        case 9:
            t.stacks[1].frame_cnt = 2;
            break;
        case 10:
            t.stacks[1].first = UINT32_MAX;
            break;
        case 11:
            t.stack_frames[2] = 4;
            break;
        case 12:
            t.series[0].container = 1000;
            break;
        case 13:
            t.samples[3].series = 1;
            break;
        case 14:
            t.samples[3].stack = 2;
            break;
        case 15:
            t.samples[3].count = INT64_MAX;
            want = -ENOSPC;
            break;
        case 16:
            t.samples[2].value = t.samples[3].value = UINT64_MAX;
            want = -ENOSPC;
            break;
        case 17:
            t.series_cnt = AP_PROFILE_SERIES_MAX + 1;
            want = -ENOSPC;
            break;
        default:
            ap_profile_tables_done(&t);
            ap_profile_free(profile);
            return;
        }
        if (ap_profile_adopt(profile, &t, &err) != want || err.text[0] == '\0')
            fail_msg("case %d: %d %s", i, err.code, err.text);
        assert_int_equal(profile->frame_cnt, 1);
        assert_non_null(t.samples);
        assert_int_equal(frame(profile, &(struct ap_frame){0}), 0);
        ap_profile_tables_done(&t);
        ap_profile_free(profile);
    }
}

static void test_kind_names(void **state)
{
    static const char *const frames[] = {"unknown", "native", "kernel", "jit", "interpreted", "gpu", "process", "mark"};
    static const char *const events[] = {"unknown", "cpu", "offcpu", "lock", "syscall", "gpu"};

    (void)state;
    for (uint8_t i = 0; i < 8; i++)
        assert_string_equal(ap_frame_kind_name(i), frames[i]);
    for (uint8_t i = 0; i < 6; i++)
        assert_string_equal(ap_event_kind_name(i), events[i]);
    assert_string_equal(ap_frame_kind_name(255), "unknown");
    assert_string_equal(ap_event_kind_name(255), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_rows),
        cmocka_unit_test(test_frames_by_content),
        cmocka_unit_test(test_mappings_by_content),
        cmocka_unit_test(test_foreign_ids_refused),
        cmocka_unit_test(test_stack_lengths),
        cmocka_unit_test(test_outer_marks),
        cmocka_unit_test(test_samples_add_up),
        cmocka_unit_test(test_many_rows_stay_found),
        cmocka_unit_test(test_tables_are_freed_with_it),
        cmocka_unit_test(test_bounds_refuse),
        cmocka_unit_test(test_adopted_rows_are_found),
        cmocka_unit_test(test_adopted_rows_are_checked),
        cmocka_unit_test(test_kind_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
