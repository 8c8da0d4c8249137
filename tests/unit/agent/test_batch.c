/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 3
#define MANY   5000

struct sample {
    struct ap_record head;
    uint64_t addrs[FRAMES];
};

/* What came out, in order: "s" or "e", time, and the number it was given. */
struct seen {
    char kind;
    uint64_t time_ns;
    uint32_t nr;
};

struct log {
    size_t cnt;
    struct seen seen[2 * MANY];
};

static void on_sample(void *ctx, const struct ap_record *record)
{
    const struct sample *sample = (const struct sample *)record;
    struct log *log = ctx;

    assert_int_equal((uintptr_t)record % sizeof(uint64_t), 0);
    assert_int_equal(sample->addrs[0], sample->head.pid);
    assert_int_equal(sample->addrs[FRAMES - 1], ~(uint64_t)sample->head.pid);
    log->seen[log->cnt++] = (struct seen){'s', record->time_ns, record->pid};
}

static void on_event(void *ctx, const struct ap_process_event *event)
{
    struct log *log = ctx;
    char wanted[32];

    (void)snprintf(wanted, sizeof(wanted), "/path/%u", event->pid);
    assert_string_equal(event->path, event->pid ? wanted : "");
    assert_int_equal(event->file_off, ~(uint64_t)event->pid);
    log->seen[log->cnt++] = (struct seen){'e', event->time_ns, event->pid};
}

static int add_sample(struct ap_batch *batch, uint64_t time_ns, uint32_t nr)
{
    struct sample sample = {.head = {.time_ns = time_ns, .pid = nr, .user_cnt = FRAMES}};

    sample.addrs[0] = nr;
    sample.addrs[FRAMES - 1] = ~(uint64_t)nr;
    return ap_batch_add_sample(batch, &sample, sizeof(sample));
}

/* Number 0 has no path. The path's memory is gone when the event is played. */
static int add_event(struct ap_batch *batch, uint64_t time_ns, uint32_t nr)
{
    char path[32];
    const struct ap_process_event event = {
        .time_ns = time_ns, .pid = nr, .file_off = ~(uint64_t)nr, .path = nr ? path : NULL};
    int rc;

    (void)snprintf(path, sizeof(path), "/path/%u", nr);
    rc = ap_batch_add_event(batch, &event);
    memset(path, '#', sizeof(path));
    return rc;
}

static void expect(struct ap_batch *batch, const struct seen *wanted, size_t cnt)
{
    static struct log log;
    size_t i;

    log.cnt = 0;
    ap_batch_play(batch, on_sample, on_event, &log);
    assert_int_equal(log.cnt, cnt);
    for (i = 0; i < cnt; i++) {
        assert_int_equal(log.seen[i].kind, wanted[i].kind);
        assert_int_equal(log.seen[i].time_ns, wanted[i].time_ns);
        assert_int_equal(log.seen[i].nr, wanted[i].nr);
    }
}

static void nothing(void **state)
{
    struct ap_batch *batch = ap_batch_new();

    (void)state;
    assert_non_null(batch);
    expect(batch, NULL, 0);
    expect(batch, NULL, 0);
    assert_null(ap_batch_free(batch));
    assert_null(ap_batch_free(NULL));
}

static void one_order_of_two_sources(void **state)
{
    static const struct seen wanted[] = {
        {'e', 5, 1}, {'s', 10, 2}, {'e', 15, 0}, {'s', 20, 4}, {'s', 30, 5}, {'e', UINT64_MAX, 6},
    };
    struct ap_batch *batch = ap_batch_new();

    (void)state;
    assert_int_equal(add_sample(batch, 30, 5), 0);
    assert_int_equal(add_sample(batch, 10, 2), 0);
    assert_int_equal(add_event(batch, UINT64_MAX, 6), 0);
    assert_int_equal(add_event(batch, 5, 1), 0);
    assert_int_equal(add_sample(batch, 20, 4), 0);
    assert_int_equal(add_event(batch, 15, 0), 0);
    expect(batch, wanted, 6);
    expect(batch, NULL, 0); /* played once */
    ap_batch_free(batch);
}

static void equal_times(void **state)
{
    static const struct seen wanted[] = {
        {'e', 7, 11}, {'e', 7, 12}, {'e', 7, 13}, {'s', 7, 1}, {'s', 7, 2}, {'s', 7, 3},
    };
    struct ap_batch *batch = ap_batch_new();

    (void)state;
    assert_int_equal(add_sample(batch, 7, 1), 0);
    assert_int_equal(add_event(batch, 7, 11), 0);
    assert_int_equal(add_sample(batch, 7, 2), 0);
    assert_int_equal(add_event(batch, 7, 12), 0);
    assert_int_equal(add_event(batch, 7, 13), 0);
    assert_int_equal(add_sample(batch, 7, 3), 0);
    expect(batch, wanted, 6);
    ap_batch_free(batch);
}

/* Many, with few distinct times: the order of equals must survive any sort. */
static void stable(void **state)
{
    static struct log log;
    struct ap_batch *batch = ap_batch_new();
    uint32_t i;

    (void)state;
    for (i = 1; i <= MANY; i++) {
        assert_int_equal(add_sample(batch, i % 7, i), 0);
        assert_int_equal(add_event(batch, i % 5, i), 0);
    }
    log.cnt = 0;
    ap_batch_play(batch, on_sample, on_event, &log);
    assert_int_equal(log.cnt, 2 * MANY);
    for (i = 1; i < log.cnt; i++) {
        const struct seen *a = &log.seen[i - 1], *b = &log.seen[i];

        assert_true(a->time_ns <= b->time_ns);
        if (a->time_ns == b->time_ns && a->kind == b->kind)
            assert_true(a->nr < b->nr);
        if (a->time_ns == b->time_ns && a->kind != b->kind)
            assert_int_equal(a->kind, 'e');
    }
    ap_batch_free(batch);
}

/* Any length, not only multiples of eight, keeps the next record aligned. */
static void odd_lengths(void **state)
{
    struct sample sample = {.head = {.time_ns = 1, .pid = 9}, .addrs = {9, 0, ~9ULL}};
    char padded[sizeof(sample) + 7] = {0};
    struct ap_batch *batch = ap_batch_new();
    static struct log log;
    size_t more;

    (void)state;
    memcpy(padded, &sample, sizeof(sample));
    for (more = 0; more < 8; more++)
        assert_int_equal(ap_batch_add_sample(batch, padded, sizeof(sample) + more), 0);
    log.cnt = 0;
    ap_batch_play(batch, on_sample, on_event, &log); /* checks the alignment */
    assert_int_equal(log.cnt, 8);
    ap_batch_free(batch);
}

static void count_sample(void *ctx, const struct ap_record *record)
{
    (void)record;
    ++*(size_t *)ctx;
}

static void count_event(void *ctx, const struct ap_process_event *event)
{
    (void)event;
    ++*(size_t *)ctx;
}

static void full_of_samples(void **state)
{
    static char
        record[AP_RECORD_HEAD_SZ + (AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX) * sizeof(uint64_t)];
    struct ap_batch *batch = ap_batch_new();
    size_t cnt = 0, played, round;

    (void)state;
    for (round = 0; round < 3; round++) {
        for (cnt = 0; !ap_batch_add_sample(batch, record, sizeof(record)); cnt++)
            ;
        assert_int_equal(ap_batch_add_sample(batch, record, sizeof(record)), -ENOSPC);
        assert_true(cnt >= AP_BATCH_SAMPLES_SZ / sizeof(record) - 1);
        assert_true(cnt * sizeof(record) <= AP_BATCH_SAMPLES_SZ);
        assert_int_equal(add_event(batch, 1, 1), 0); /* events have room of their own */
        played = 0;
        ap_batch_play(batch, count_sample, count_event, &played);
        assert_int_equal(played, cnt + 1);
    }
    ap_batch_free(batch);
}

static void full_of_events(void **state)
{
    char *path = malloc(1 << 20);
    struct ap_process_event event = {.time_ns = 1, .path = path};
    struct ap_batch *batch = ap_batch_new();
    size_t cnt, played = 0, round;
    int rc = 0;

    (void)state;
    assert_non_null(path);
    memset(path, 'p', 1 << 20);
    path[(1 << 20) - 1] = '\0';
    for (round = 0; round < 2; round++) {
        for (cnt = 0; cnt < 1000; cnt++) {
            rc = ap_batch_add_event(batch, &event);
            if (rc)
                break;
        }
        assert_int_equal(rc, -ENOSPC);
        assert_in_range(cnt, 60, 64);
        assert_int_equal(add_sample(batch, 1, 1), 0);
        played = 0;
        ap_batch_play(batch, count_sample, count_event, &played);
        assert_int_equal(played, cnt + 1);
    }
    free(path);
    ap_batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),        cmocka_unit_test(one_order_of_two_sources),
        cmocka_unit_test(equal_times),    cmocka_unit_test(stable),
        cmocka_unit_test(odd_lengths),    cmocka_unit_test(full_of_samples),
        cmocka_unit_test(full_of_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
