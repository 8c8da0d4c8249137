/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "batch.h"

static struct ap_error err;

/* Adds a batch with a payload of `sz` bytes; true when it was taken. */
static bool add(struct ap_ring *ring, const char *agent, uint64_t sequence, uint64_t start_s, size_t sz)
{
    struct ap_push *push = make_push(agent, sequence, start_s * AP_NS_PER_SEC, 5, 10);
    char *payload = calloc(1, sz + 1);
    struct ap_ring_batch *batch;
    bool added;

    assert_non_null(payload);
    batch = ap_ring_batch_new(push, payload, sz, 99);
    assert_non_null(batch);
    added = ap_ring_add(ring, batch);
    ap_ring_batch_unref(batch);
    ap_push_free(push);
    free(payload);
    return added;
}

/* Sequences of the batches that a selector in text matches, newest first. */
static void expect(struct ap_ring *ring, const char *text, uint64_t from_s, uint64_t to_s, uint8_t kind,
                   const char *sequences)
{
    struct ap_selector selector = {.kind = kind, .from_ns = from_s * AP_NS_PER_SEC, .to_ns = to_s * AP_NS_PER_SEC};
    struct ap_batches_answer answer;
    char got[128] = "";

    assert_int_equal(ap_selector_parse(&selector, text, &err), 0);
    assert_int_equal(ap_ring_query(ring, &selector, 0, &answer, &err), 0);
    for (size_t i = 0; i < answer.row_cnt; i++)
        (void)sprintf(got + strlen(got), "%s%d", i ? " " : "", (int)answer.rows[i].sequence);
    assert_string_equal(got, sequences);
    ap_batches_answer_done(&answer);
    ap_selector_done(&selector);
}

static void expect_refused(struct ap_ring *ring, const char *text, size_t limit, int rc)
{
    struct ap_batches_answer answer;
    struct ap_selector selector = {0};

    assert_int_equal(ap_selector_parse(&selector, text, &err), 0);
    assert_int_equal(ap_ring_query(ring, &selector, limit, &answer, &err), rc);
    assert_true(err.text[0]);
    ap_selector_done(&selector);
}

static void selects(void **state)
{
    struct ap_ring *ring = ap_ring_new(1 << 20);

    (void)state;
    expect(ring, "", 0, 0, 0, "");
    assert_true(add(ring, "a", 1, 100, 100));
    assert_true(add(ring, "b", 2, 101, 100));
    assert_true(add(ring, "a", 3, 102, 100));
    assert_false(add(ring, "a", 3, 102, 100)); /* it is there */
    expect(ring, "", 0, 0, 0, "3 2 1");
    expect(ring, "", 0, 0, AP_KIND_CPU, "3 2 1");
    expect(ring, "", 0, 0, AP_KIND_LOCK, "");
    expect(ring, "", 101, 0, 0, "3 2");
    expect(ring, "", 101, 102, 0, "2");
    expect(ring, "", 0, 100, 0, "");
    expect(ring, "agent=\"a\"", 0, 0, 0, "3 1");
    expect(ring, "agent!=\"a\"", 0, 0, 0, "2");
    expect(ring, "service=~\"[bc]\"", 0, 0, 0, "2");
    expect(ring, "service!~\"b|c\",host=\"h1\"", 0, 0, 0, "3 1");
    expect(ring, "host=\"h2\"", 0, 0, 0, "");
    expect(ring, "zone=\"\"", 0, 0, 0, "3 2 1");
    expect(ring, "zone=~\".+\"", 0, 0, 0, "");
    expect_refused(ring, "comm=\"x\"", 0, -EINVAL);
    expect_refused(ring, "pid=\"1\"", 0, -EINVAL);
    expect_refused(ring, "service=~\"(\"", 0, -EINVAL);
    expect_refused(ring, "", AP_RING_LIMIT_MAX + 1, -E2BIG);
    ap_ring_free(ring);
    ap_ring_free(NULL);
}

static void rows(void **state)
{
    struct ap_ring *ring = ap_ring_new(1 << 20);
    struct ap_selector selector = {0};
    struct ap_batches_answer answer;
    const struct ap_batch_row *row;

    (void)state;
    for (uint64_t i = 1; i <= 200; i++)
        assert_true(add(ring, "a", i, 100 + i, 10 + i));
    assert_int_equal(ap_ring_query(ring, &selector, 2, &answer, &err), 0);
    assert_int_equal(answer.row_cnt, 2);
    assert_int_equal(answer.dropped, 0);
    row = &answer.rows[0];
    assert_string_equal(row->agent_id, "a");
    assert_int_equal(row->epoch, 7);
    assert_int_equal(row->sequence, 200);
    assert_int_equal(row->start_ns, 300 * AP_NS_PER_SEC);
    assert_int_equal(row->duration_ns, AP_NS_PER_SEC);
    assert_int_equal(row->received_ns, 99);
    assert_int_equal(row->bytes, 210);
    assert_int_equal(row->label_cnt, 2);
    assert_string_equal(row->labels[0].name, "host");
    assert_int_equal(row->kind_cnt, 1);
    assert_int_equal(row->kinds[0].kind, AP_KIND_CPU);
    assert_int_equal(row->kinds[0].events, 5);
    assert_int_equal(row->kinds[0].value, 50);
    assert_int_equal(row->kinds[0].lost, 3);
    ap_batches_answer_done(&answer);
    assert_int_equal(ap_ring_query(ring, &selector, 0, &answer, &err), 0);
    assert_int_equal(answer.row_cnt, AP_RING_LIMIT);
    ap_batches_answer_done(&answer);
    ap_ring_free(ring);
}

static void makes_room(void **state)
{
    struct ap_ring *ring = ap_ring_new(100000);
    struct ap_ring_batch **batches;
    struct ap_ring_stats stats;
    size_t cnt, sz;

    (void)state;
    for (uint64_t i = 1; i <= 20; i++)
        assert_true(add(ring, "a", i, i, 20000));
    ap_ring_stats(ring, &stats);
    assert_int_equal(stats.batches, 4);
    assert_int_equal(stats.added, 20);
    assert_int_equal(stats.dropped, 16);
    assert_true(stats.bytes > 80000 && stats.bytes <= stats.max_bytes);
    expect(ring, "", 0, 0, 0, "20 19 18 17");
    assert_false(add(ring, "a", 21, 1, 100001)); /* larger than all of it */
    ap_ring_stats(ring, &stats);
    assert_int_equal(stats.batches, 4);
    assert_int_equal(stats.dropped, 17);
    assert_true(add(ring, "a", 1, 1, 10)); /* what was dropped may come again */

    /* What was taken out stays while the ring moves on. */
    assert_int_equal(ap_ring_batches(ring, 0, 0, UINT64_MAX, 3, &batches, &cnt), 0);
    assert_int_equal(cnt, 3);
    for (uint64_t i = 30; i < 40; i++)
        assert_true(add(ring, "a", i, i, 20000));
    assert_int_equal(ap_ring_batch_row(batches[0])->sequence, 1);
    assert_non_null(ap_ring_batch_payload(batches[1], &sz));
    assert_int_equal(sz, 20000);
    for (size_t i = 0; i < cnt; i++)
        ap_ring_batch_unref(batches[i]);
    free((void *)batches);
    ap_ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selects),
        cmocka_unit_test(rows),
        cmocka_unit_test(makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
