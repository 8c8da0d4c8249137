/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/push.h"

#include "core/clock.h"
#include "wire/push.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A call whose batch is on its way. */
struct waiting {
    struct ap_push_intake *intake;
    struct ap_rpc_call *call;
    uint64_t received_ns; /* monotonic */
};

enum ap_push_status ap_push_outcome(int rc, bool duplicate)
{
    switch (rc) {
    case 0:
        return duplicate ? AP_PUSH_DUPLICATE : AP_PUSH_OK;
    case -EINVAL:
        return AP_PUSH_BAD_BATCH;
    case -E2BIG:
        return AP_PUSH_TOO_LARGE;
    case -EBUSY:
        return AP_PUSH_QUEUE_FULL;
    case -EAGAIN:
    case -ETIMEDOUT:
        return AP_PUSH_AWAY;
    case -ENOSPC:
        return AP_PUSH_DISK_FULL;
    case -ENOMEM:
        return AP_PUSH_NO_MEMORY;
    case -ESHUTDOWN:
        return AP_PUSH_STOPPING;
    case -ECANCELED:
        return AP_PUSH_CANCELLED;
    default:
        return AP_PUSH_FAILED;
    }
}

/* The senders' rule (aggregator.proto): INVALID_ARGUMENT is never sent again, the rest is, later. */
int ap_push_rpc_status(int rc)
{
    switch (rc) {
    case 0:
        return AP_RPC_OK;
    case -EINVAL:
    case -E2BIG:
        return AP_RPC_INVALID_ARGUMENT;
    case -EBUSY:
    case -ENOSPC:
    case -ENOMEM:
        return AP_RPC_RESOURCE_EXHAUSTED;
    case -ECANCELED:
        return AP_RPC_CANCELLED;
    default:
        return AP_RPC_UNAVAILABLE;
    }
}

static void answer(struct ap_push_intake *intake, struct ap_rpc_call *call, uint64_t received_ns,
                   enum ap_push_status outcome, int rc, bool duplicate, const char *words)
{
    struct ap_wire_push_response response = {.duplicate = duplicate};
    struct ap_buf buf;

    ap_buf_init(&buf, 256);
    if (!rc) {
        response.pause_ms = ap_ingest_pause_ms(intake->ingest);
        rc = ap_wire_push_response_encode(&response, &buf);
        words = rc ? "out of memory" : NULL; /* it is stored; sent again it is a duplicate */
    }
    /* counted before the sender can know */
    ap_count(&intake->metrics->pushes[outcome], 1);
    ap_duration_add(&intake->metrics->push_duration, ap_clock_monotonic_ns() - received_ns);
    ap_rpc_reply(call, ap_push_rpc_status(rc), words, buf.data, buf.len);
    ap_buf_done(&buf);
}

static void call_done(void *ctx, int rc, bool duplicate, const char *words)
{
    struct waiting *waiting = ctx;

    answer(waiting->intake, waiting->call, waiting->received_ns, ap_push_outcome(rc, duplicate), rc, duplicate, words);
    free(waiting);
}

static bool call_cancelled(void *ctx)
{
    const struct waiting *waiting = ctx;

    return ap_rpc_cancelled(waiting->call);
}

/* Makes what is queued out of a push, which is taken over in any case. */
static int prepare(struct ap_push *push, const void *payload, size_t payload_sz, struct ap_ingest_item *ret_item,
                   struct ap_error *err)
{
    uint64_t now_ns = ap_clock_realtime_ns();
    struct ap_ingest_item item = {
        .account = ap_capture_total(push->capture),
        .batch = ap_ring_batch_new(push, payload, payload_sz, now_ns),
    };

    if (item.batch)
        item.rows = ap_rows_new(push, payload, payload_sz, now_ns, err);
    else
        ap_error_set(err, -ENOMEM, "out of memory");
    if (!item.rows) {
        ap_ring_batch_unref(item.batch);
        ap_push_free(push);
        return err->code;
    }
    *ret_item = item;
    return 0;
}

static struct ap_push *decode(const struct ap_wire_push_request *request, struct ap_error *err)
{
    struct ap_push *push = ap_wire_batch_decode(request->batch, request->batch_len, err);

    if (!push)
        return NULL;
    memcpy(push->agent_id, request->agent_id, sizeof(push->agent_id));
    push->epoch = request->epoch;
    push->sequence = request->sequence;
    return push;
}

/* While storage is away the ring buffer still shows what comes: each batch is read for that once. 0 or why it will
 * never be taken. */
static int show_only(struct ap_push_intake *intake, const struct ap_wire_push_request *request, struct ap_error *err)
{
    struct ap_ring_batch *batch;
    struct ap_error own = {0};
    struct ap_push *push;

    if (ap_ring_has(intake->ring, request->agent_id, request->epoch, request->sequence))
        return 0;
    push = decode(request, &own);
    if (!push)
        return own.code == -ENOMEM ? 0 : ap_error_set(err, own.code, "%s", own.text);
    batch = ap_ring_batch_new(push, request->batch, request->batch_len, ap_clock_realtime_ns());
    if (batch)
        ap_ring_add(intake->ring, batch);
    ap_ring_batch_unref(batch);
    ap_push_free(push);
    return 0;
}

static int submit_call(struct ap_push_intake *intake, struct ap_rpc_call *call, uint64_t received_ns,
                       const struct ap_wire_push_request *request, struct ap_error *err)
{
    struct ap_ingest_item item = {0};
    struct waiting *waiting;
    struct ap_push *push;
    int rc, never;

    /* Cheap first: what would be refused anyway is not unpacked. */
    rc = ap_ingest_admit(intake->ingest, request->batch_len, err);
    if (rc && rc != -EBUSY && rc != -ESHUTDOWN) {
        never = show_only(intake, request, err);
        return never ? never : rc;
    }
    if (rc)
        return rc;
    push = decode(request, err);
    rc = push ? prepare(push, request->batch, request->batch_len, &item, err) : err->code;
    if (rc)
        return rc;
    waiting = malloc(sizeof(*waiting));
    if (waiting) {
        *waiting = (struct waiting){.intake = intake, .call = call, .received_ns = received_ns};
        item.ctx = waiting;
        item.done = call_done;
        item.cancelled = call_cancelled;
        rc = ap_ingest_submit(intake->ingest, &item, err);
    } else {
        rc = ap_error_set(err, -ENOMEM, "out of memory");
    }
    if (rc) {
        free(waiting);
        ap_rows_free(item.rows);
        ap_ring_batch_unref(item.batch);
    }
    return rc;
}

void ap_push_serve(struct ap_push_intake *intake, struct ap_rpc_call *call)
{
    uint64_t received_ns = ap_clock_monotonic_ns();
    struct ap_wire_push_request request;
    struct ap_error err = {0};
    const void *data;
    size_t len;
    int rc;

    data = ap_rpc_request(call, &len);
    rc = ap_wire_push_request_decode(data, len, &request, &err);
    if (rc) {
        answer(intake, call, received_ns, rc == -EINVAL ? AP_PUSH_BAD_REQUEST : ap_push_outcome(rc, false), rc, false,
               err.text);
        return;
    }
    rc = submit_call(intake, call, received_ns, &request, &err);
    if (rc)
        answer(intake, call, received_ns, ap_push_outcome(rc, false), rc, false, err.text);
}

/* ---- Import ---- */

struct import {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct ap_error err;
    bool finished;
};

static void import_done(void *ctx, int rc, bool duplicate, const char *words)
{
    struct import *import = ctx;

    (void)duplicate;
    pthread_mutex_lock(&import->lock);
    if (rc)
        ap_error_set(&import->err, rc, "%s", words ? words : "it could not be stored");
    import->finished = true;
    pthread_cond_signal(&import->wake);
    pthread_mutex_unlock(&import->lock);
}

static int wait_for_import(struct import *import, struct ap_error *err)
{
    pthread_mutex_lock(&import->lock);
    while (!import->finished)
        pthread_cond_wait(&import->wake, &import->lock);
    pthread_mutex_unlock(&import->lock);
    if (import->err.code)
        return ap_error_set(err, import->err.code, "%s", import->err.text);
    return 0;
}

static int import_push(struct ap_push_intake *intake, struct ap_push *push, struct ap_error *err)
{
    struct import import = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    struct ap_ingest_item item = {0};
    struct ap_buf payload;
    int rc;

    ap_buf_init(&payload, AP_WIRE_BATCH_SZ);
    rc = ap_wire_batch_encode(push, &payload, err);
    if (rc)
        ap_push_free(push);
    else
        rc = prepare(push, payload.data, payload.len, &item, err);
    ap_buf_done(&payload);
    if (rc)
        return rc;

    item.ctx = &import;
    item.done = import_done;
    rc = ap_ingest_submit(intake->ingest, &item, err);
    if (!rc)
        return wait_for_import(&import, err);
    ap_rows_free(item.rows);
    ap_ring_batch_unref(item.batch);
    return rc;
}

int ap_push_import(struct ap_push_intake *intake, struct ap_push *push, struct ap_error *err)
{
    int rc = import_push(intake, push, err);

    ap_count(rc ? &intake->metrics->imports_failed : &intake->metrics->imports_ok, 1);
    return rc;
}
