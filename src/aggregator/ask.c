/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/ask.h"

#include "aggregator/replay.h"
#include "core/clock.h"
#include "model/window.h"
#include "wire/ask.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct job {
    enum ap_ask_method method;
    struct ap_rpc_call *call;
};

struct ap_askers {
    struct ap_askers_opts opts;
    pthread_t threads[AP_ASK_THREADS_MAX];
    unsigned thread_cnt;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job jobs[AP_ASK_QUEUE_MAX]; /* a ring: oldest at `first` */
    size_t first, cnt;
    bool stopping;
    pthread_mutex_t replaying; /* one at a time unpacks the ring buffer */
};

int ap_ask_rpc_status(int rc)
{
    switch (rc) {
    case 0:
        return AP_RPC_OK;
    case -EINVAL:
        return AP_RPC_INVALID_ARGUMENT;
    case -ENOENT:
        return AP_RPC_NOT_FOUND;
    case -EAGAIN:
    case -ESHUTDOWN:
        return AP_RPC_UNAVAILABLE;
    case -ETIMEDOUT:
        return AP_RPC_DEADLINE_EXCEEDED;
    case -E2BIG: /* asking again does not help, asking for less does */
        return AP_RPC_OUT_OF_RANGE;
    case -ENOMEM:
    case -ENOSPC:
        return AP_RPC_RESOURCE_EXHAUSTED;
    case -ECANCELED:
        return AP_RPC_CANCELLED;
    default:
        return AP_RPC_INTERNAL;
    }
}

/* ---- One question ---- */

static int check_limit(uint32_t *limit, uint32_t def, uint32_t max, const char *name, struct ap_error *err)
{
    if (*limit > max)
        return ap_error_set(err, -EINVAL, "%s %u: at most %u", name, *limit, max);
    if (!*limit)
        *limit = def;
    return 0;
}

static int decode(const void *data, size_t len, struct ap_ask *ask, struct ap_error *err)
{
    int rc = ap_wire_ask_decode(data, len, ask, err);

    if (rc)
        return rc == -E2BIG ? -EINVAL : rc;
    return 0;
}

static int ask_query(struct ap_askers *askers, const void *data, size_t len, struct ap_buf *ret, struct ap_error *err)
{
    struct ap_batches_answer answer = {0};
    struct ap_ask ask = {0};
    int rc = decode(data, len, &ask, err);

    if (!rc)
        rc = check_limit(&ask.limit, AP_RING_LIMIT, AP_RING_LIMIT_MAX, "limit", err);
    if (!rc)
        rc = ap_ring_query(askers->opts.ring, &ask.selector, ask.limit, &answer, err);
    if (!rc)
        rc = ap_wire_batches_encode(&answer, ret);
    ap_batches_answer_done(&answer);
    ap_ask_done(&ask);
    return rc;
}

static int ask_storage(struct ap_askers *askers, const void *data, size_t len, struct ap_buf *ret, struct ap_error *err)
{
    struct ap_stacks_answer answer = {0};
    struct ap_ask ask = {0};
    int rc = decode(data, len, &ask, err);

    if (!rc)
        rc = check_limit(&ask.limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "limit", err);
    if (!rc)
        rc = ap_query_stacks(askers->opts.query, &ask.selector, ask.limit, &answer, err);
    if (!rc)
        rc = ap_wire_stacks_encode(&answer, ret);
    ap_stacks_answer_done(&answer);
    ap_ask_done(&ask);
    return rc;
}

/* Whether the ring buffer should answer: storage has nothing of that time, or was never there. */
static bool nothing_stored(const struct ap_askers *askers, int rc, uint64_t batches)
{
    return rc ? rc == -EAGAIN && !ap_ingest_has_stored(askers->opts.ingest) : !batches;
}

/* Asks the ring buffer by way of `ask`, which fills in the answer. 1 when there is nothing in it. */
static int from_ring(struct ap_askers *askers, uint8_t kind, uint64_t from_ns, uint64_t to_ns,
                     int (*ask)(struct ap_query *query, void *ctx, struct ap_error *err), void *ctx,
                     struct ap_error *err)
{
    struct ap_storage *storage;
    struct ap_query *query;
    struct ap_error own;
    int rc = 1;

    pthread_mutex_lock(&askers->replaying);
    storage = ap_replay(askers->opts.ring, kind, from_ns, to_ns, &own);
    if (!storage && own.code) {
        rc = ap_error_set(err, own.code, "%s", own.text);
    } else if (storage) {
        query = ap_query_new(storage);
        rc = query ? ask(query, ctx, err) : ap_error_set(err, -ENOMEM, "out of memory");
        ap_query_free(query);
    }
    ap_storage_free(storage);
    pthread_mutex_unlock(&askers->replaying);
    return rc;
}

struct aggregate {
    struct ap_ask ask;
    struct ap_aggregate_answer answer;
};

static int run_aggregate(struct ap_query *query, void *ctx, struct ap_error *err)
{
    struct aggregate *run = ctx;
    struct ap_aggregate_answer answer = {0};
    int rc;

    rc = ap_query_aggregate(query, &run->ask.selector, run->ask.limit, run->ask.max_nodes, &answer, err);
    if (rc)
        return rc;
    ap_aggregate_answer_done(&run->answer);
    run->answer = answer;
    return 0;
}

static int ask_aggregate(struct ap_askers *askers, const void *data, size_t len, struct ap_buf *ret,
                         struct ap_error *err)
{
    struct aggregate run = {0};
    const struct ap_selector *selector = &run.ask.selector;
    int rc = decode(data, len, &run.ask, err), ring;

    if (!rc)
        rc = check_limit(&run.ask.limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "limit", err);
    if (!rc)
        rc = check_limit(&run.ask.max_nodes, 0, AP_QUERY_NODES_MAX, "max_nodes", err);
    if (!rc) {
        ap_window_default(&run.ask.selector, ap_clock_realtime_ns());
        rc = run_aggregate(askers->opts.query, &run, err);
        if (nothing_stored(askers, rc, run.answer.functions.provenance.batches)) {
            ring = from_ring(askers, selector->kind, selector->from_ns, selector->to_ns, run_aggregate, &run, err);
            rc = ring == 1 ? rc : ring;
        }
    }
    if (!rc)
        rc = ap_wire_aggregate_encode(&run.answer, ret);
    ap_aggregate_answer_done(&run.answer);
    ap_ask_done(&run.ask);
    return rc;
}

struct diff {
    struct ap_ask_diff ask;
    struct ap_diff_answer answer;
};

static int run_diff(struct ap_query *query, void *ctx, struct ap_error *err)
{
    struct diff *run = ctx;
    struct ap_diff_answer answer = {0};
    int rc = ap_query_diff(query, &run->ask.before, &run->ask.after, run->ask.limit, &answer, err);

    if (rc)
        return rc;
    ap_diff_answer_done(&run->answer);
    run->answer = answer;
    return 0;
}

static int ask_diff(struct ap_askers *askers, const void *data, size_t len, struct ap_buf *ret, struct ap_error *err)
{
    struct diff run = {0};
    const struct ap_selector *before = &run.ask.before, *after = &run.ask.after;
    int rc = ap_wire_ask_diff_decode(data, len, &run.ask, err), ring;
    uint64_t from_ns, to_ns;

    rc = rc == -E2BIG ? -EINVAL : rc;
    if (!rc)
        rc = check_limit(&run.ask.limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "limit", err);
    if (!rc) {
        ap_window_default_diff(&run.ask.before, &run.ask.after, ap_clock_realtime_ns());
        rc = run_diff(askers->opts.query, &run, err);
        if (nothing_stored(askers, rc, run.answer.before.batches + run.answer.after.batches)) {
            from_ns = before->from_ns < after->from_ns ? before->from_ns : after->from_ns;
            to_ns = before->to_ns > after->to_ns ? before->to_ns : after->to_ns;
            ring = from_ring(askers, 0, from_ns, to_ns, run_diff, &run, err);
            rc = ring == 1 ? rc : ring;
        }
    }
    if (!rc)
        rc = ap_wire_diff_encode(&run.answer, ret);
    ap_diff_answer_done(&run.answer);
    ap_ask_diff_done(&run.ask);
    return rc;
}

static int ask_one(struct ap_askers *askers, const struct job *job, struct ap_buf *ret, struct ap_error *err)
{
    static int (*const methods[AP_ASK_METHOD_CNT])(struct ap_askers *, const void *, size_t, struct ap_buf *,
                                                   struct ap_error *) = {
        [AP_ASK_QUERY] = ask_query,
        [AP_ASK_QUERY_STORAGE] = ask_storage,
        [AP_ASK_AGGREGATE] = ask_aggregate,
        [AP_ASK_DIFF] = ask_diff,
    };
    const void *data;
    size_t len;

    if (ap_rpc_cancelled(job->call))
        return ap_error_set(err, -ECANCELED, "the call was cancelled while it waited");
    data = ap_rpc_request(job->call, &len);
    return methods[job->method](askers, data, len, ret, err);
}

static void answer_job(struct ap_askers *askers, const struct job *job)
{
    uint64_t begin_ns = ap_clock_monotonic_ns();
    struct ap_error err = {0};
    struct ap_buf buf;
    int rc;

    ap_buf_init(&buf, AP_RPC_MESSAGE_SZ);
    rc = ask_one(askers, job, &buf, &err);
    if (buf.error == -ENOSPC)
        rc = ap_error_set(&err, -E2BIG, "the answer is longer than %u bytes: ask for less (limit, max_nodes)",
                          AP_RPC_MESSAGE_SZ);
    if (rc && !err.text[0])
        ap_error_errno(&err, rc, "the question could not be answered");
    ap_duration_add(&askers->opts.metrics->asks[job->method], ap_clock_monotonic_ns() - begin_ns);
    if (rc)
        ap_count(&askers->opts.metrics->ask_errors[job->method], 1);
    ap_rpc_reply(job->call, ap_ask_rpc_status(rc), rc ? err.text : NULL, rc ? NULL : buf.data, rc ? 0 : buf.len);
    ap_buf_done(&buf);
}

/* ---- The threads ---- */

static void *run(void *arg)
{
    struct ap_askers *askers = arg;
    struct job job;

    pthread_mutex_lock(&askers->lock);
    for (;;) {
        while (!askers->cnt && !askers->stopping)
            pthread_cond_wait(&askers->wake, &askers->lock);
        if (askers->stopping)
            break;
        job = askers->jobs[askers->first];
        askers->first = (askers->first + 1) % AP_ASK_QUEUE_MAX;
        askers->cnt--;
        pthread_mutex_unlock(&askers->lock);
        answer_job(askers, &job);
        pthread_mutex_lock(&askers->lock);
    }
    pthread_mutex_unlock(&askers->lock);
    return NULL;
}

struct ap_askers *ap_askers_new(const struct ap_askers_opts *opts, struct ap_error *err)
{
    struct ap_askers *askers = calloc(1, sizeof(*askers));
    long want = sysconf(_SC_NPROCESSORS_ONLN);
    int rc;

    if (!askers || pthread_mutex_init(&askers->lock, NULL) || pthread_mutex_init(&askers->replaying, NULL) ||
        pthread_cond_init(&askers->wake, NULL)) {
        free(askers);
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    askers->opts = *opts;
    want = want < AP_ASK_THREADS_MIN ? AP_ASK_THREADS_MIN : want;
    want = want > AP_ASK_THREADS_MAX ? AP_ASK_THREADS_MAX : want;
    while (askers->thread_cnt < (unsigned)want) {
        rc = pthread_create(&askers->threads[askers->thread_cnt], NULL, run, askers);
        if (rc) {
            ap_error_errno(err, -rc, "cannot start a thread");
            return ap_askers_free(askers);
        }
        askers->thread_cnt++;
    }
    return askers;
}

void ap_askers_stop(struct ap_askers *askers)
{
    struct job job;

    pthread_mutex_lock(&askers->lock);
    askers->stopping = true;
    pthread_cond_broadcast(&askers->wake);
    while (askers->cnt) {
        job = askers->jobs[askers->first];
        askers->first = (askers->first + 1) % AP_ASK_QUEUE_MAX;
        askers->cnt--;
        pthread_mutex_unlock(&askers->lock);
        ap_rpc_reply(job.call, AP_RPC_UNAVAILABLE, "the aggregator is being stopped", NULL, 0);
        pthread_mutex_lock(&askers->lock);
    }
    pthread_mutex_unlock(&askers->lock);
}

struct ap_askers *ap_askers_free(struct ap_askers *askers)
{
    if (!askers)
        return NULL;
    ap_askers_stop(askers);
    while (askers->thread_cnt)
        pthread_join(askers->threads[--askers->thread_cnt], NULL);
    pthread_cond_destroy(&askers->wake);
    pthread_mutex_destroy(&askers->replaying);
    pthread_mutex_destroy(&askers->lock);
    free(askers);
    return NULL;
}

void ap_askers_serve(struct ap_askers *askers, enum ap_ask_method method, struct ap_rpc_call *call)
{
    bool stopping, taken;

    pthread_mutex_lock(&askers->lock);
    stopping = askers->stopping;
    taken = !stopping && askers->cnt < AP_ASK_QUEUE_MAX;
    if (taken) {
        askers->jobs[(askers->first + askers->cnt++) % AP_ASK_QUEUE_MAX] = (struct job){.method = method, .call = call};
        pthread_cond_signal(&askers->wake);
    }
    pthread_mutex_unlock(&askers->lock);
    if (taken)
        return;
    if (!stopping)
        ap_count(&askers->opts.metrics->ask_refused, 1);
    ap_rpc_reply(call, stopping ? AP_RPC_UNAVAILABLE : AP_RPC_RESOURCE_EXHAUSTED,
                 stopping ? "the aggregator is being stopped" : "too many questions wait: come again later", NULL, 0);
}

size_t ap_askers_waiting(struct ap_askers *askers)
{
    size_t cnt;

    pthread_mutex_lock(&askers->lock);
    cnt = askers->cnt;
    pthread_mutex_unlock(&askers->lock);
    return cnt;
}
