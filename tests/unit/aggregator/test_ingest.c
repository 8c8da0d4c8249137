/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/ingest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "batch.h"

/* What became of batches: how many by outcome. */
struct outcome {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned stored, duplicates, failed;
    int last_rc;
    char words[256];
    pthread_mutex_t *gate; /* held by the test: done() waits for it */
    bool cancel;
};

static struct ap_error err;
static struct ap_metrics metrics;
static struct ap_storage *storage;
static struct ap_ring *ring;
static struct outcome outcome = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void done(void *ctx, int rc, bool duplicate, const char *words)
{
    struct outcome *out = ctx;

    if (out->gate) {
        pthread_mutex_lock(out->gate);
        pthread_mutex_unlock(out->gate);
    }
    pthread_mutex_lock(&out->lock);
    out->stored += !rc && !duplicate;
    out->duplicates += !rc && duplicate;
    out->failed += rc != 0;
    out->last_rc = rc;
    (void)snprintf(out->words, sizeof(out->words), "%s", words ? words : "");
    pthread_cond_broadcast(&out->wake);
    pthread_mutex_unlock(&out->lock);
}

static bool cancelled(void *ctx)
{
    const struct outcome *out = ctx;

    return out->cancel;
}

static void wait_for(unsigned cnt)
{
    pthread_mutex_lock(&outcome.lock);
    while (outcome.stored + outcome.duplicates + outcome.failed < cnt)
        pthread_cond_wait(&outcome.wake, &outcome.lock);
    pthread_mutex_unlock(&outcome.lock);
}

static int submit(struct ap_ingest *ingest, const char *agent, uint64_t sequence, unsigned samples)
{
    struct ap_push *push = make_push(agent, sequence, ap_clock_realtime_ns() - 5 * AP_NS_PER_SEC, samples, 10);
    struct ap_ingest_item item = {.ctx = &outcome, .done = done, .cancelled = cancelled};
    int rc;

    item.account = ap_capture_total(push->capture);
    item.batch = ap_ring_batch_new(push, "payload", 7, 1);
    assert_non_null(item.batch);
    item.rows = ap_rows_new(push, "payload", 7, ap_clock_realtime_ns(), &err);
    if (!item.rows)
        fail_msg("%s", err.text);
    rc = ap_ingest_submit(ingest, &item, &err);
    if (rc) {
        ap_rows_free(item.rows);
        ap_ring_batch_unref(item.batch);
    }
    return rc;
}

static struct ap_ingest *start(uint64_t queue_sz)
{
    const struct ap_storage_opts opts = {.kind = AP_STORAGE_MEMORY, .memory_sz = 256 << 20};
    struct ap_ingest_opts ingest = {.metrics = &metrics, .queue_sz = queue_sz};

    storage = ap_storage_open(&opts, &err);
    ring = ap_ring_new(1 << 20);
    assert_non_null(storage);
    assert_non_null(ring);
    memset(&metrics, 0, sizeof(metrics));
    outcome.stored = outcome.duplicates = outcome.failed = 0;
    outcome.gate = NULL;
    outcome.cancel = false;
    ingest.storage = storage;
    ingest.ring = ring;
    return ap_ingest_new(&ingest, &err);
}

static void end(struct ap_ingest *ingest)
{
    ap_ingest_free(ingest);
    ap_ring_free(ring);
    ap_storage_free(storage);
}

static void stores_once(void **state)
{
    struct ap_ingest *ingest = start(64 << 20);
    struct ap_ingest_stats stats;
    struct ap_ring_stats in_ring;

    (void)state;
    assert_int_equal(ap_ingest_ready(ingest, &err), 0);
    assert_false(ap_ingest_has_stored(ingest));
    for (uint64_t i = 1; i <= 100; i++)
        assert_int_equal(submit(ingest, "a", i, 3), 0);
    for (uint64_t i = 1; i <= 100; i++)
        assert_int_equal(submit(ingest, "a", i, 3), 0);
    wait_for(200);
    assert_int_equal(outcome.stored, 100);
    assert_int_equal(outcome.duplicates, 100);
    assert_true(ap_ingest_has_stored(ingest));
    ap_ingest_stats(ingest, &stats);
    assert_int_equal(stats.batches, 0);
    assert_int_equal(stats.bytes, 0);
    assert_int_equal(stats.rows, 0);
    assert_int_equal(stats.stored_batches, 100);
    ap_ring_stats(ring, &in_ring);
    assert_int_equal(in_ring.batches, 100);
    assert_int_equal(metrics.push_events, 300);
    assert_int_equal(metrics.losses[AP_LOSS_RING_FULL], 300);
    assert_int_equal(metrics.flush_rows, 300);
    assert_int_equal(metrics.flushes_failed, 0);
    end(ingest);
}

/* What gathers while the thread is held up goes into one commit, and the same batch twice into two. */
static void groups(void **state)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct ap_ingest *ingest = start(64 << 20);

    (void)state;
    outcome.gate = &gate;
    pthread_mutex_lock(&gate);
    assert_int_equal(submit(ingest, "a", 1, 1), 0);
    while (!ap_counted(&metrics.flushes_ok)) /* the thread waits in done() soon */
        sched_yield();
    for (uint64_t i = 2; i <= 50; i++)
        assert_int_equal(submit(ingest, "a", i, 1), 0);
    pthread_mutex_unlock(&gate);
    wait_for(50);
    assert_int_equal(metrics.flushes_ok, 2);
    assert_int_equal(outcome.stored, 50);

    pthread_mutex_lock(&gate);
    assert_int_equal(submit(ingest, "b", 1, 1), 0);
    while (ap_counted(&metrics.flushes_ok) < 3)
        sched_yield();
    assert_int_equal(submit(ingest, "b", 2, 1), 0);
    assert_int_equal(submit(ingest, "b", 2, 1), 0);
    pthread_mutex_unlock(&gate);
    wait_for(53);
    assert_int_equal(metrics.flushes_ok, 5);
    assert_int_equal(outcome.duplicates, 1);
    end(ingest);
}

static void full_queue(void **state)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct ap_ingest *ingest = start(1 << 20);
    struct ap_ingest_stats stats;
    unsigned taken = 0;
    int rc;

    (void)state;
    assert_int_equal(ap_ingest_pause_ms(ingest), 0);
    outcome.gate = &gate;
    pthread_mutex_lock(&gate);
    while (!(rc = submit(ingest, "a", taken + 1, 100)))
        taken++;
    assert_int_equal(rc, -EBUSY);
    assert_non_null(strstr(err.text, "queue is full"));
    assert_int_equal(ap_ingest_admit(ingest, 1 << 20, &err), -EBUSY);
    ap_ingest_stats(ingest, &stats);
    assert_in_range(stats.batches, taken - 1, taken); /* one may be on its way out, before the gate */
    assert_true(stats.bytes <= stats.max_bytes && stats.bytes > stats.max_bytes / 2);
    assert_in_range(ap_ingest_pause_ms(ingest), 1, AP_INGEST_PAUSE_MAX_MS);
    pthread_mutex_unlock(&gate);
    wait_for(taken);
    assert_int_equal(ap_ingest_admit(ingest, 1 << 30, &err), 0); /* alone even that */
    assert_int_equal(ap_ingest_pause_ms(ingest), 0);
    end(ingest);
}

/* What nobody waits for any more is not stored: its sender has to send it again. */
static void cancels(void **state)
{
    struct ap_ingest *ingest = start(1 << 20);

    (void)state;
    outcome.cancel = true;
    assert_int_equal(submit(ingest, "a", 1, 1), 0);
    wait_for(1);
    assert_int_equal(outcome.last_rc, -ECANCELED);
    outcome.cancel = false;
    assert_int_equal(submit(ingest, "a", 1, 1), 0);
    wait_for(2);
    assert_int_equal(outcome.stored, 1);
    end(ingest);
}

static void stops(void **state)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    struct ap_ingest *ingest = start(64 << 20);

    (void)state;
    outcome.gate = &gate;
    pthread_mutex_lock(&gate);
    for (uint64_t i = 1; i <= 20; i++)
        assert_int_equal(submit(ingest, "a", i, 1), 0);
    assert_false(ap_ingest_stop(ingest, ap_clock_monotonic_ns() + 10000000)); /* it is held up */
    assert_int_equal(submit(ingest, "a", 21, 1), -ESHUTDOWN);
    assert_int_equal(ap_ingest_admit(ingest, 1, &err), -ESHUTDOWN);
    assert_int_equal(ap_ingest_ready(ingest, &err), -ESHUTDOWN);
    pthread_mutex_unlock(&gate);
    assert_true(ap_ingest_stop(ingest, ap_clock_monotonic_ns() + 20 * AP_NS_PER_SEC));
    assert_int_equal(outcome.stored, 20); /* what was taken is stored */
    end(ingest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_once), cmocka_unit_test(groups), cmocka_unit_test(full_queue),
        cmocka_unit_test(cancels),     cmocka_unit_test(stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
