/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/pusher.h"

#include "core/clock.h"
#include "core/log.h"
#include "rpc/client.h"
#include "wire/push.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PUSH_METHOD     "/aperture.v1.Aggregator/Push"
#define RESPONSE_SZ     4096
#define MACHINE_ID_PATH "/etc/machine-id"
#define MACHINE_ID_SZ   64
/* Mixed into the hash, so that the id tells nothing about ids that others derive. */
#define MACHINE_ID_SALT "aperture-agent"

struct ap_pusher {
    struct ap_pusher_opts opts;
    struct ap_spool *spool;
    struct ap_rpc_client *client;
    pthread_t encoder, sender;
    bool has_encoder, has_sender;

    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t work;  /* something to encode or to send, or the end */
    pthread_cond_t idle;  /* something was sent, refused or failed */
    struct ap_push *queue[AP_PUSHER_QUEUE_MAX];
    unsigned queue_first, queue_cnt;
    bool encoding, stop;
    bool failing; /* the last call failed: said once */
    struct ap_error last_error;
    struct ap_pusher_stats stats;
};

static uint64_t events_of(const struct ap_push *push)
{
    uint64_t events = 0;
    unsigned i;

    for (i = 0; i < push->capture->profile_cnt; i++)
        events += push->capture->accounts[i].delivered;
    return events;
}

/* Until `work` is signalled or the time has come; with the lock. */
static void wait_until(struct ap_pusher *pusher, pthread_cond_t *cond, uint64_t deadline_ns)
{
    struct timespec at = {(time_t)(deadline_ns / AP_NS_PER_SEC), (long)(deadline_ns % AP_NS_PER_SEC)};

    pthread_cond_timedwait(cond, &pusher->lock, &at);
}

/* ---- Encoder: model to bytes to disk
 * --------------------------------------------------------------------------------- */

static void encode_one(struct ap_pusher *pusher, struct ap_push *push)
{
    struct ap_spool_stats spool;
    struct ap_error err = {0};
    struct ap_spool_id id;
    struct ap_buf data;
    int rc;

    ap_spool_stats(pusher->spool, &spool);
    push->spool_bytes = spool.bytes;
    pthread_mutex_lock(&pusher->lock);
    push->spool_dropped_batches = spool.dropped_batches + pusher->stats.unencoded_batches;
    push->spool_dropped_events = spool.dropped_events + pusher->stats.unencoded_events;
    pthread_mutex_unlock(&pusher->lock);

    ap_buf_init(&data, AP_WIRE_BATCH_SZ);
    rc = ap_wire_batch_encode(push, &data, &err);
    if (rc) {
        ap_log_warn("a batch of %" PRIu64 " events is dropped: %s", events_of(push), err.text);
        pthread_mutex_lock(&pusher->lock);
        pusher->stats.unencoded_batches++;
        pusher->stats.unencoded_events += events_of(push);
        pthread_mutex_unlock(&pusher->lock);
    } else {
        rc = ap_spool_add(pusher->spool, data.data, data.len, events_of(push), &id);
        if (rc)
            ap_log_warn("a batch of %" PRIu64 " events is dropped: cannot write it to %s: %s", events_of(push),
                        ap_spool_dir(pusher->spool), strerror(-rc));
    }
    ap_buf_done(&data);
}

static void *encode_all(void *ctx)
{
    struct ap_pusher *pusher = ctx;
    struct ap_push *push;

    pthread_mutex_lock(&pusher->lock);
    for (;;) {
        while (!pusher->queue_cnt && !pusher->stop)
            pthread_cond_wait(&pusher->work, &pusher->lock);
        if (!pusher->queue_cnt)
            break;
        push = pusher->queue[pusher->queue_first];
        pusher->queue_first = (pusher->queue_first + 1) % AP_PUSHER_QUEUE_MAX;
        pusher->queue_cnt--;
        pusher->encoding = true;
        pthread_mutex_unlock(&pusher->lock);
        encode_one(pusher, push);
        ap_push_free(push);
        pthread_mutex_lock(&pusher->lock);
        pusher->encoding = false;
        pthread_cond_broadcast(&pusher->work);
        pthread_cond_broadcast(&pusher->idle);
    }
    pthread_mutex_unlock(&pusher->lock);
    return NULL;
}

/* ---- Sender: disk to server
 * ------------------------------------------------------------------------------------------ */

/* True when no server will ever take this very batch. */
static bool is_final(int status)
{
    return status == AP_RPC_INVALID_ARGUMENT || status == AP_RPC_OUT_OF_RANGE;
}

static void succeeded(struct ap_pusher *pusher, const struct ap_wire_push_response *response)
{
    pthread_mutex_lock(&pusher->lock);
    pusher->stats.sent++;
    pusher->stats.duplicates += response->duplicate;
    if (pusher->failing)
        ap_log_warn("batches reach %s again", pusher->opts.endpoint);
    pusher->failing = false;
    pthread_cond_broadcast(&pusher->idle);
    pthread_mutex_unlock(&pusher->lock);
}

static void failed(struct ap_pusher *pusher, int status, const struct ap_error *err)
{
    pthread_mutex_lock(&pusher->lock);
    if (!pusher->stop || status != AP_RPC_CANCELLED) {
        pusher->stats.failures++;
        pusher->last_error = *err;
        if (is_final(status))
            ap_log_warn("%s refuses a batch, which is dropped: %s", pusher->opts.endpoint, err->text);
        else if (!pusher->failing)
            ap_log_warn("%s; batches are kept in %s until it works", err->text, ap_spool_dir(pusher->spool));
        pusher->failing = pusher->failing || !is_final(status);
    }
    pthread_cond_broadcast(&pusher->idle);
    pthread_mutex_unlock(&pusher->lock);
}

/* Sends one batch. AP_RPC_OK, or the status; `ret_pause_ns`: how long the server wants us to wait. */
static int send_one(struct ap_pusher *pusher, const struct ap_spool_id *id, const struct ap_buf *batch,
                    uint64_t *ret_pause_ns)
{
    struct ap_wire_push_response response = {0};
    struct ap_buf request, answer;
    struct ap_error err = {0};
    int status;

    ap_buf_init(&request, AP_RPC_MESSAGE_SZ);
    ap_buf_init(&answer, RESPONSE_SZ);
    if (ap_wire_push_request_encode(pusher->opts.agent_id, id->epoch, id->sequence, batch->data, batch->len,
                                    &request)) {
        ap_error_set(&err, -ENOMEM, "out of memory");
        status = AP_RPC_RESOURCE_EXHAUSTED;
    } else {
        status = ap_rpc_client_call(pusher->client, PUSH_METHOD, request.data, request.len, AP_PUSHER_TIMEOUT_NS,
                                    &answer, &err);
    }
    if (status == AP_RPC_OK && ap_wire_push_response_decode(answer.data, answer.len, &response, &err))
        status = AP_RPC_INTERNAL;
    ap_buf_done(&request);
    ap_buf_done(&answer);
    if (status == AP_RPC_OK) {
        ap_spool_remove(pusher->spool, id);
        succeeded(pusher, &response);
        *ret_pause_ns = response.pause_ms * 1000000ULL;
    } else {
        if (is_final(status))
            ap_spool_refuse(pusher->spool, id);
        failed(pusher, status, &err);
    }
    return status;
}

/* Waits before the next try; ends early at the end. */
static void pause_for(struct ap_pusher *pusher, uint64_t pause_ns)
{
    uint64_t until = ap_clock_monotonic_ns() + pause_ns;

    pthread_mutex_lock(&pusher->lock);
    while (!pusher->stop && ap_clock_monotonic_ns() < until)
        wait_until(pusher, &pusher->work, until);
    pthread_mutex_unlock(&pusher->lock);
}

static uint64_t jittered(uint64_t ns, unsigned *seed)
{
    return ns / 2 + ns / 2 * (uint64_t)rand_r(seed) / RAND_MAX;
}

static bool wait_for_batch(struct ap_pusher *pusher)
{
    struct ap_spool_stats spool;
    bool go_on;

    pthread_mutex_lock(&pusher->lock);
    for (;;) {
        ap_spool_stats(pusher->spool, &spool);
        if (pusher->stop || spool.batches)
            break;
        pthread_cond_wait(&pusher->work, &pusher->lock);
    }
    go_on = !pusher->stop;
    pthread_mutex_unlock(&pusher->lock);
    return go_on;
}

static void *send_all(void *ctx)
{
    unsigned seed = (unsigned)ap_clock_realtime_ns() ^ (unsigned)getpid();
    uint64_t backoff_ns = AP_PUSHER_BACKOFF_MIN_NS, pause_ns;
    struct ap_pusher *pusher = ctx;
    struct ap_spool_id id;
    struct ap_buf batch;
    int status;

    ap_buf_init(&batch, AP_WIRE_BATCH_SZ);
    while (wait_for_batch(pusher)) {
        if (ap_spool_oldest(pusher->spool, &id, &batch)) {
            pause_for(pusher, AP_PUSHER_BACKOFF_MIN_NS);
            continue;
        }
        pause_ns = 0;
        status = send_one(pusher, &id, &batch, &pause_ns);
        if (status == AP_RPC_OK || is_final(status)) {
            backoff_ns = AP_PUSHER_BACKOFF_MIN_NS;
        } else {
            ap_spool_sync(pusher->spool); /* it may have to outlive us */
            pause_ns = jittered(backoff_ns, &seed);
            backoff_ns = backoff_ns * 2 < AP_PUSHER_BACKOFF_MAX_NS ? backoff_ns * 2 : AP_PUSHER_BACKOFF_MAX_NS;
        }
        if (pause_ns)
            pause_for(pusher, pause_ns < AP_PUSHER_PAUSE_MAX_NS ? pause_ns : AP_PUSHER_PAUSE_MAX_NS);
    }
    ap_buf_done(&batch);
    return NULL;
}

/* ---- Owner
 * ----------------------------------------------------------------------------------------------------------- */

static int start_threads(struct ap_pusher *pusher, struct ap_error *err)
{
    int rc = pthread_create(&pusher->encoder, NULL, encode_all, pusher);

    pusher->has_encoder = !rc;
    if (!rc) {
        rc = pthread_create(&pusher->sender, NULL, send_all, pusher);
        pusher->has_sender = !rc;
    }
    return rc ? ap_error_errno(err, -rc, "cannot start a thread") : 0;
}

struct ap_pusher *ap_pusher_new(const struct ap_pusher_opts *opts, struct ap_error *err)
{
    const struct ap_rpc_client_opts client = {.endpoint = opts->endpoint, .tls = opts->tls, .token = opts->token};
    struct ap_pusher *pusher = calloc(1, sizeof(*pusher));
    pthread_condattr_t monotonic;

    if (!pusher) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    pusher->opts = *opts;
    pthread_mutex_init(&pusher->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pusher->work, &monotonic);
    pthread_cond_init(&pusher->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pusher->client = ap_rpc_client_new(&client, err);
    if (pusher->client)
        pusher->spool = ap_spool_open(opts->spool_dir, opts->spool_sz, ap_clock_realtime_ns(), err);
    if (!pusher->client || !pusher->spool || start_threads(pusher, err))
        return ap_pusher_free(pusher);
    return pusher;
}

void ap_pusher_add(struct ap_pusher *pusher, struct ap_push *push)
{
    bool full;

    snprintf(push->agent_id, sizeof(push->agent_id), "%s", pusher->opts.agent_id);
    pthread_mutex_lock(&pusher->lock);
    full = pusher->queue_cnt == AP_PUSHER_QUEUE_MAX;
    if (full) {
        pusher->stats.unencoded_batches++;
        pusher->stats.unencoded_events += events_of(push);
    } else {
        pusher->queue[(pusher->queue_first + pusher->queue_cnt++) % AP_PUSHER_QUEUE_MAX] = push;
        pthread_cond_broadcast(&pusher->work);
    }
    pthread_mutex_unlock(&pusher->lock);
    if (full) {
        ap_log_warn("a batch of %" PRIu64 " events is dropped: %s is too slow", events_of(push),
                    ap_spool_dir(pusher->spool));
        ap_push_free(push);
    }
}

void ap_pusher_stats(struct ap_pusher *pusher, struct ap_pusher_stats *ret_stats)
{
    pthread_mutex_lock(&pusher->lock);
    *ret_stats = pusher->stats;
    pthread_mutex_unlock(&pusher->lock);
    ap_spool_stats(pusher->spool, &ret_stats->spool);
}

int ap_pusher_flush(struct ap_pusher *pusher, uint64_t timeout_ns, struct ap_error *err)
{
    uint64_t deadline = ap_clock_monotonic_ns() + timeout_ns;
    struct ap_spool_stats spool;
    bool done;

    pthread_mutex_lock(&pusher->lock);
    for (;;) {
        ap_spool_stats(pusher->spool, &spool);
        done = !pusher->queue_cnt && !pusher->encoding && !spool.batches;
        if (done || ap_clock_monotonic_ns() >= deadline)
            break;
        wait_until(pusher, &pusher->idle, deadline);
    }
    if (!done)
        ap_error_set(err, -ETIMEDOUT,
                     "%" PRIu64 " batches were not sent and are kept in %s; the next run with this --aggregator sends "
                     "them%s%s",
                     spool.batches + pusher->queue_cnt, ap_spool_dir(pusher->spool),
                     pusher->last_error.code ? ". The last failure: " : "",
                     pusher->last_error.code ? pusher->last_error.text : "");
    pthread_mutex_unlock(&pusher->lock);
    return done ? 0 : -ETIMEDOUT;
}

struct ap_pusher *ap_pusher_free(struct ap_pusher *pusher)
{
    if (!pusher)
        return NULL;
    pthread_mutex_lock(&pusher->lock);
    pusher->stop = true;
    pthread_cond_broadcast(&pusher->work);
    pthread_mutex_unlock(&pusher->lock);
    if (pusher->has_encoder)
        pthread_join(pusher->encoder, NULL); /* it writes what it has first */
    if (pusher->client)
        ap_rpc_client_cancel(pusher->client);
    if (pusher->has_sender)
        pthread_join(pusher->sender, NULL);
    ap_rpc_client_free(pusher->client);
    ap_spool_close(pusher->spool);
    pthread_cond_destroy(&pusher->work);
    pthread_cond_destroy(&pusher->idle);
    pthread_mutex_destroy(&pusher->lock);
    free(pusher);
    return NULL;
}

void ap_pusher_default_id(char *ret_id)
{
    char machine[MACHINE_ID_SZ] = "", salted[MACHINE_ID_SZ + sizeof(MACHINE_ID_SALT)], host[AP_PUSH_AGENT_ID_SZ] = "";
    FILE *file = fopen(MACHINE_ID_PATH, "re");
    bool known = file && fgets(machine, MACHINE_ID_SZ, file) && machine[0] != '\n';
    char *c;

    if (file)
        fclose(file);
    if (known) {
        machine[strcspn(machine, "\n")] = '\0';
        snprintf(salted, sizeof(salted), "%s%s", machine, MACHINE_ID_SALT);
        snprintf(ret_id, AP_PUSH_AGENT_ID_SZ, "host-%016" PRIx64, (uint64_t)XXH3_64bits(salted, strlen(salted)));
        return;
    }
    if (gethostname(host, sizeof(host) - 1) || !host[0])
        snprintf(host, sizeof(host), "unknown");
    for (c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._:-", *c))
            *c = '-';
    snprintf(ret_id, AP_PUSH_AGENT_ID_SZ, "%s", host);
}
