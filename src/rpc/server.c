/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/server.h"

#include "core/clock.h"
#include "rpc/accept.h"
#include "rpc/internal.h"
#include "rpc/tls.h"

#include <assert.h>
#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 8
/* Calls that gRPC may hand over before it is asked for more. */
#define WAITING_MAX 64
/* Silent connections: how soon a new one must have shaken hands, when the other side is asked whether it lives, how
 * soon it must answer, and when one without calls is closed. */
#define HANDSHAKE_MS         10000
#define KEEPALIVE_MS         30000
#define KEEPALIVE_TIMEOUT_MS 20000
#define IDLE_MS              600000
/* Clients that ask more often than this, more than a few times, are cut off. */
#define PING_INTERVAL_MS 10000
/* How long replies may take to leave once no call is in progress any more. */
#define DRAIN_NS (200 * 1000000ULL)
/* Longest status message; it travels as metadata. */
#define STATUS_MESSAGE_SZ 2048

#define ADDRESS "external:aperture"
#define HEALTH  "/grpc.health.v1.Health/Check"

/* How gRPC takes over connections that somebody else accepted. Its C API has no function for that (the one of
 * grpc_posix.h is for plain text alone), so this is what grpc++'s ExternalConnectionAcceptor calls: an object of the
 * abstract class grpc_core::TcpServerFdHandler, whose table (Itanium C++ ABI) begins with two destructors. Unchanged
 * since gRPC 1.22. */
struct handover {
    const struct handover_table *table;
};

struct handover_table {
    void (*destroy[2])(struct handover *handover);
    void (*handle)(struct handover *handover, int listener_fd, int fd, grpc_byte_buffer *pending);
};

enum event { EVENT_NEW, EVENT_RECEIVED, EVENT_SENT, EVENT_CLOSED, EVENT_CNT, EVENT_SHUTDOWN };

/* What travels through gRPC's queue. */
struct tag {
    struct ap_rpc_call *call;
    enum event event;
};

struct ap_rpc_call {
    struct ap_rpc_server *server;
    struct ap_rpc_call *prev, *next; /* in server->live, under its lock */
    struct tag tags[EVENT_CNT];
    atomic_uint refs; /* the event or owner that carries it forward, and EVENT_CLOSED */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    const struct ap_rpc_method *method;
    grpc_byte_buffer *payload;
    grpc_slice request;
    size_t held_sz; /* its part of server->held_sz */
    char *peer;
    atomic_uint *slots; /* the count of calls that it is part of; NULL = none */
    int closed_early;   /* written by gRPC before EVENT_CLOSED */
    atomic_bool cancelled;
    atomic_uint_fast64_t until_ns; /* when waiting for the other side ends; 0 = does not wait for it */
};

enum state { STATE_SERVING, STATE_STOPPING, STATE_STOPPED };

struct ap_rpc_server {
    const struct ap_rpc_method *methods;
    size_t method_cnt;
    void *ctx;
    ap_rpc_authorize authorize;
    uint64_t exchange_ns;
    struct ap_rpc_acceptor *acceptor;
    struct handover *handover; /* gRPC's own */
    grpc_server *core;
    grpc_completion_queue *queue;
    pthread_t threads[THREADS_MAX];
    unsigned thread_cnt;
    struct tag shutdown_tag;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ap_rpc_call *live; /* calls that began and have not ended */
    enum state state;
    bool core_down; /* EVENT_SHUTDOWN came */

    atomic_bool serving;
    atomic_uint waiting;                 /* calls that gRPC may hand over */
    atomic_uint in_progress, open_calls; /* bounded by AP_RPC_CALLS_MAX, AP_RPC_OPEN_CALLS_MAX */
    atomic_size_t held_sz;
    atomic_uint_fast64_t calls, refused_auth, refused_busy, refused_size, timed_out;
};

static void count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* Calls ------------------------------------------------------------------------------------------------------------ */

static void call_free(struct ap_rpc_call *call)
{
    if (call->call)
        grpc_call_unref(call->call);
    grpc_byte_buffer_destroy(call->payload);
    grpc_slice_unref(call->request);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    gpr_free(call->peer);
    free(call);
}

static void release_request(struct ap_rpc_call *call)
{
    grpc_slice_unref(call->request);
    call->request = grpc_empty_slice();
    atomic_fetch_sub(&call->server->held_sz, call->held_sz);
    call->held_sz = 0;
}

static void live_add(struct ap_rpc_call *call)
{
    struct ap_rpc_server *server = call->server;

    (void)pthread_mutex_lock(&server->lock);
    call->next = server->live;
    if (call->next)
        call->next->prev = call;
    server->live = call;
    (void)pthread_mutex_unlock(&server->lock);
}

/* The last one ends the call. */
static void call_unref(struct ap_rpc_call *call)
{
    struct ap_rpc_server *server = call->server;

    if (atomic_fetch_sub(&call->refs, 1) != 1)
        return;
    release_request(call);
    if (call->slots)
        atomic_fetch_sub(call->slots, 1);
    (void)pthread_mutex_lock(&server->lock);
    if (call->next)
        call->next->prev = call->prev;
    if (call->prev)
        call->prev->next = call->next;
    else
        server->live = call->next;
    if (!server->live)
        (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->lock);
    call_free(call);
}

/* Lets gRPC hand over one more call. False when out of memory. */
static bool call_wait(struct ap_rpc_server *server)
{
    struct ap_rpc_call *call = (struct ap_rpc_call *)calloc(1, sizeof(*call));

    if (!call)
        return false; /* the next tick tries again */
    call->server = server;
    call->request = grpc_empty_slice();
    for (int i = 0; i < EVENT_CNT; i++)
        call->tags[i] = (struct tag){call, (enum event)i};
    atomic_init(&call->refs, 1);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    atomic_fetch_add(&server->waiting, 1);
    if (grpc_server_request_call(server->core, &call->call, &call->details, &call->metadata, server->queue,
                                 server->queue, &call->tags[EVENT_NEW]) != GRPC_CALL_OK) {
        atomic_fetch_sub(&server->waiting, 1);
        call_free(call);
        return false;
    }
    return true;
}

static void start(struct ap_rpc_call *call, const grpc_op *ops, size_t cnt, enum event event)
{
    grpc_call_error rc = grpc_call_start_batch(call->call, ops, cnt, &call->tags[event], NULL);

    /* The operations are right and each is started once: gRPC has no other reason to refuse them. */
    assert(rc == GRPC_CALL_OK);
    (void)rc;
}

void ap_rpc_reply(struct ap_rpc_call *call, int status, const char *message, const void *data, size_t len)
{
    struct ap_rpc_server *server = call->server;
    grpc_byte_buffer *payload = NULL;
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t cnt = 1;

    if (status == AP_RPC_OK && len > AP_RPC_MESSAGE_SZ) {
        count(&server->refused_size);
        status = AP_RPC_RESOURCE_EXHAUSTED;
        message = "the answer is too long: ask for less";
    }
    if (status == AP_RPC_OK) {
        payload = ap_rpc_message_new(data, len);
        ops[cnt].op = GRPC_OP_SEND_MESSAGE;
        ops[cnt++].data.send_message.send_message = payload;
    }
    /* `message` may lie in the request. */
    const char *text = status != AP_RPC_OK && message ? message : "";
    grpc_slice details = grpc_slice_from_copied_buffer(text, strnlen(text, STATUS_MESSAGE_SZ));
    release_request(call);
    ops[cnt].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[cnt].data.send_status_from_server.status = (grpc_status_code)status;
    ops[cnt++].data.send_status_from_server.status_details = &details;
    atomic_store(&call->until_ns, ap_clock_monotonic_ns() + server->exchange_ns);
    start(call, ops, cnt, EVENT_SENT); /* from here on the call may be gone */
    grpc_slice_unref(details);
    grpc_byte_buffer_destroy(payload);
}

const void *ap_rpc_request(struct ap_rpc_call *call, size_t *ret_len)
{
    *ret_len = GRPC_SLICE_LENGTH(call->request);
    return GRPC_SLICE_START_PTR(call->request);
}

const char *ap_rpc_peer(const struct ap_rpc_call *call)
{
    return call->peer;
}

bool ap_rpc_cancelled(const struct ap_rpc_call *call)
{
    return atomic_load_explicit(&call->cancelled, memory_order_acquire);
}

/* Health ----------------------------------------------------------------------------------------------------------- */

/* Whether some method belongs to the service: "/SERVICE/Method". */
static bool knows_service(const struct ap_rpc_server *server, const char *service, size_t len)
{
    for (size_t i = 0; i < server->method_cnt; i++) {
        const char *path = server->methods[i].path;

        if (strlen(path) > len + 1 && memcmp(path + 1, service, len) == 0 && path[len + 1] == '/')
            return true;
    }
    return len == 0;
}

static void check_health(void *ctx, struct ap_rpc_call *call)
{
    struct ap_rpc_server *server = call->server;
    const char *service;
    size_t len, service_len;
    const void *data = ap_rpc_request(call, &len);
    uint8_t answer[AP_RPC_HEALTH_SZ];

    (void)ctx;
    if (ap_rpc_health_parse(data, len, &service, &service_len) < 0) {
        ap_rpc_reply(call, AP_RPC_INVALID_ARGUMENT, "not a HealthCheckRequest", NULL, 0);
    } else if (!knows_service(server, service, service_len)) {
        ap_rpc_reply(call, AP_RPC_NOT_FOUND, "no such service here", NULL, 0);
    } else {
        ap_rpc_health_write(atomic_load(&server->serving), answer);
        ap_rpc_reply(call, AP_RPC_OK, NULL, answer, sizeof(answer));
    }
}

static const struct ap_rpc_method health_method = {.path = HEALTH, .handler = check_health, .open = true};

/* What a call goes through ----------------------------------------------------------------------------------------- */

static const struct ap_rpc_method *find_method(const struct ap_rpc_server *server, grpc_slice path)
{
    size_t len = GRPC_SLICE_LENGTH(path);
    const uint8_t *text = GRPC_SLICE_START_PTR(path);

    for (size_t i = 0; i < server->method_cnt; i++)
        if (strlen(server->methods[i].path) == len && memcmp(server->methods[i].path, text, len) == 0)
            return &server->methods[i];
    if (len == strlen(HEALTH) && memcmp(HEALTH, text, len) == 0)
        return &health_method;
    return NULL;
}

/* The value of "authorization", for the caller to wipe and gpr_free(); NULL when there is none. */
static char *find_authorization(const grpc_metadata_array *metadata)
{
    for (size_t i = 0; i < metadata->count; i++)
        if (grpc_slice_str_cmp(metadata->metadata[i].key, "authorization") == 0)
            return grpc_slice_to_c_string(metadata->metadata[i].value);
    return NULL;
}

static int authorize(struct ap_rpc_call *call, const char **ret_message)
{
    struct ap_rpc_server *server = call->server;
    const struct ap_rpc_method *method = call->method;

    if (method->open || !server->authorize)
        return AP_RPC_OK;
    char *value = find_authorization(&call->metadata);
    int status = server->authorize(server->ctx, value, method->write, method->path, call->peer);
    if (status != AP_RPC_OK) {
        count(&server->refused_auth);
        *ret_message = status == AP_RPC_PERMISSION_DENIED ? "the token does not allow this call"
                       : value                            ? "the token is not known here"
                                                          : "a token is needed: authorization: Bearer TOKEN";
    }
    if (value)
        explicit_bzero(value, strlen(value));
    gpr_free(value);
    return status;
}

/* One of the places for calls in progress. */
static bool take_slot(struct ap_rpc_call *call)
{
    struct ap_rpc_server *server = call->server;
    atomic_uint *slots = call->method->open ? &server->open_calls : &server->in_progress;
    unsigned max = call->method->open ? AP_RPC_OPEN_CALLS_MAX : AP_RPC_CALLS_MAX;

    if (atomic_fetch_add(slots, 1) >= max) {
        atomic_fetch_sub(slots, 1);
        count(&server->refused_busy);
        return false;
    }
    call->slots = slots;
    return true;
}

static int admit(struct ap_rpc_call *call, const char **ret_message)
{
    struct ap_rpc_server *server = call->server;

    call->method = find_method(server, call->details.method);
    if (!call->method) {
        *ret_message = "no such method here";
        return AP_RPC_UNIMPLEMENTED;
    }
    int status = authorize(call, ret_message);
    if (status != AP_RPC_OK)
        return status;
    if (!take_slot(call)) {
        *ret_message = "too many calls are in progress: come back later";
        return AP_RPC_RESOURCE_EXHAUSTED;
    }
    return AP_RPC_OK;
}

/* Only now is the request asked for: callers that may not call do not make us hold what they send. */
static void on_new(struct ap_rpc_call *call)
{
    grpc_op closed = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE};
    const char *message = NULL;

    count(&call->server->calls);
    live_add(call);
    atomic_fetch_add(&call->refs, 1);
    closed.data.recv_close_on_server.cancelled = &call->closed_early;
    start(call, &closed, 1, EVENT_CLOSED);

    call->peer = grpc_call_get_peer(call->call);
    int status = admit(call, &message);
    if (status != AP_RPC_OK) {
        ap_rpc_reply(call, status, message, NULL, 0);
        return;
    }
    atomic_store(&call->until_ns, ap_clock_monotonic_ns() + call->server->exchange_ns);
    receive.data.recv_message.recv_message = &call->payload;
    start(call, &receive, 1, EVENT_RECEIVED);
}

/* Reads the payload into one piece, within the bounds. */
static int read_request(struct ap_rpc_call *call, const char **ret_message)
{
    struct ap_rpc_server *server = call->server;

    if (!call->payload) {
        *ret_message = "no request came";
        return AP_RPC_INVALID_ARGUMENT;
    }
    int rc = ap_rpc_message_read(call->payload, AP_RPC_MESSAGE_SZ, &call->request);
    grpc_byte_buffer_destroy(call->payload);
    call->payload = NULL;
    if (rc == -EMSGSIZE) {
        count(&server->refused_size);
        *ret_message = "the request is longer than 64 MiB";
        return AP_RPC_RESOURCE_EXHAUSTED;
    }
    if (rc == -ENOTSUP) {
        *ret_message = "requests may be compressed with gzip or deflate only";
        return AP_RPC_UNIMPLEMENTED;
    }
    if (rc < 0) {
        *ret_message = "the compressed request is damaged";
        return AP_RPC_INVALID_ARGUMENT;
    }
    call->held_sz = GRPC_SLICE_LENGTH(call->request);
    if (atomic_fetch_add(&server->held_sz, call->held_sz) + call->held_sz > AP_RPC_REQUESTS_SZ) {
        count(&server->refused_busy);
        *ret_message = "requests in progress hold too much memory: come back later";
        return AP_RPC_RESOURCE_EXHAUSTED;
    }
    return AP_RPC_OK;
}

static void on_received(struct ap_rpc_call *call)
{
    const char *message = NULL;

    atomic_store(&call->until_ns, 0);
    int status = read_request(call, &message);
    if (status == AP_RPC_OK)
        call->method->handler(call->server->ctx, call);
    else
        ap_rpc_reply(call, status, message, NULL, 0);
}

static void on_shutdown(struct ap_rpc_server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    server->core_down = true;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->lock);
}

static void handle(struct ap_rpc_server *server, const struct tag *tag, bool success)
{
    struct ap_rpc_call *call = tag->call;

    switch (tag->event) {
    case EVENT_NEW:
        atomic_fetch_sub(&server->waiting, 1);
        if (!success) { /* the server stops */
            call_free(call);
            return;
        }
        (void)call_wait(server);
        on_new(call);
        return;
    case EVENT_RECEIVED:
        on_received(call);
        return;
    case EVENT_CLOSED:
        if (call->closed_early)
            atomic_store_explicit(&call->cancelled, true, memory_order_release);
        call_unref(call);
        return;
    case EVENT_SENT:
        call_unref(call);
        return;
    case EVENT_SHUTDOWN:
        on_shutdown(server);
        return;
    case EVENT_CNT:
        return;
    }
}

static void *serve(void *arg)
{
    struct ap_rpc_server *server = (struct ap_rpc_server *)arg;

    for (;;) {
        grpc_event event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type == GRPC_OP_COMPLETE)
            handle(server, (const struct tag *)event.tag, event.success != 0);
    }
}

/* On the acceptor's thread ----------------------------------------------------------------------------------------- */

static void take_connection(void *ctx, int fd)
{
    struct ap_rpc_server *server = (struct ap_rpc_server *)ctx;

    server->handover->table->handle(server->handover, -1, fd, NULL);
}

/* Cuts off callers that stopped in the middle, and makes up for a lack of memory. */
static void tick(void *ctx)
{
    struct ap_rpc_server *server = (struct ap_rpc_server *)ctx;
    uint64_t now = ap_clock_monotonic_ns();

    (void)pthread_mutex_lock(&server->lock);
    for (struct ap_rpc_call *call = server->live; call; call = call->next) {
        uint64_t until = atomic_load(&call->until_ns);

        if (until == 0 || now < until)
            continue;
        atomic_store(&call->until_ns, 0);
        count(&server->timed_out);
        (void)grpc_call_cancel_with_status(call->call, GRPC_STATUS_DEADLINE_EXCEEDED,
                                           "the other side took too long to send or to take its message", NULL);
    }
    (void)pthread_mutex_unlock(&server->lock);
    while (atomic_load(&server->waiting) < WAITING_MAX && call_wait(server))
        ;
}

/* Beginning and end ------------------------------------------------------------------------------------------------ */

static void *arg_copy(void *value)
{
    return value;
}

static void arg_destroy(void *value)
{
    (void)value;
}

static int arg_compare(void *a, void *b)
{
    return (a > b) - (a < b);
}

static grpc_server *make_core(struct ap_rpc_server *server)
{
    static const grpc_arg_pointer_vtable borrowed = {arg_copy, arg_destroy, arg_compare};
    grpc_resource_quota *quota = grpc_resource_quota_create("aperture-rpc");
    grpc_arg args[] = {
        /* Sizes are checked here, to be counted, and compressed requests inflated here, within the bound. */
        ap_rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1),
        ap_rpc_arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        ap_rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, AP_RPC_METADATA_SZ),
        ap_rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, AP_RPC_STREAMS_MAX),
        ap_rpc_arg_int(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
        ap_rpc_arg_int(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS),
        ap_rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        ap_rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        ap_rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        ap_rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        ap_rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_INTERVAL_MS),
        ap_rpc_arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
        {.type = GRPC_ARG_POINTER},
        {.type = GRPC_ARG_POINTER},
    };
    size_t cnt = sizeof(args) / sizeof(args[0]);
    grpc_channel_args all = {cnt, args};

    grpc_resource_quota_resize(quota, AP_RPC_REQUESTS_SZ);
    args[cnt - 2].key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA;
    args[cnt - 2].value.pointer.p = quota;
    args[cnt - 2].value.pointer.vtable = grpc_resource_quota_arg_vtable();
    args[cnt - 1].key = (char *)(uintptr_t)ADDRESS;
    args[cnt - 1].value.pointer.p = (void *)&server->handover;
    args[cnt - 1].value.pointer.vtable = &borrowed;
    grpc_server *core = grpc_server_create(&all, NULL);
    grpc_resource_quota_unref(quota);
    return core;
}

static grpc_server_credentials *make_credentials(const struct ap_rpc_tls *tls, struct ap_error *err)
{
    struct ap_rpc_pem pem;

    if (!tls->cert && !tls->key && !tls->ca)
        return grpc_insecure_server_credentials_create();
    if (!tls->cert) {
        ap_error_set(err, -EINVAL, "TLS needs a certificate and its private key");
        return NULL;
    }
    if (ap_rpc_pem_load(tls, &pem, err) < 0)
        return NULL;
    grpc_ssl_pem_key_cert_pair pair = {pem.key, pem.cert};
    grpc_server_credentials *credentials = grpc_ssl_server_credentials_create_ex(
        pem.ca, &pair, 1,
        pem.ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        NULL);
    ap_rpc_pem_done(&pem);
    if (!credentials)
        ap_error_set(err, -EINVAL, "gRPC does not take the certificate %s", tls->cert);
    return credentials;
}

static unsigned pick_threads(unsigned asked)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned cnt = asked > 0 ? asked : cpus > 0 ? (unsigned)cpus : 1;

    return cnt > THREADS_MAX ? THREADS_MAX : cnt;
}

static int start_threads(struct ap_rpc_server *server, unsigned cnt, struct ap_error *err)
{
    for (; server->thread_cnt < cnt; server->thread_cnt++) {
        int rc = -pthread_create(&server->threads[server->thread_cnt], NULL, serve, server);

        if (rc < 0)
            return ap_error_errno(err, rc, "cannot start a thread");
        (void)pthread_setname_np(server->threads[server->thread_cnt], "rpc-serve");
    }
    return 0;
}

static int begin(struct ap_rpc_server *server, const struct ap_rpc_server_opts *opts, struct ap_error *err)
{
    struct ap_rpc_address address;

    int rc = ap_rpc_parse_listen(opts->listen, &address, err);
    if (rc < 0)
        return rc;
    grpc_server_credentials *credentials = make_credentials(&opts->tls, err);
    if (!credentials)
        return -EINVAL;
    server->acceptor = ap_rpc_acceptor_new(&address, err);
    if (server->acceptor) {
        server->queue = grpc_completion_queue_create_for_next(NULL);
        server->core = make_core(server);
        grpc_server_register_completion_queue(server->core, server->queue, NULL);
        (void)grpc_server_add_http2_port(server->core, ADDRESS, credentials); /* 0 here: there is no port */
        if (!server->handover)
            rc = ap_error_set(err, -EINVAL, "gRPC does not take %s",
                              opts->tls.cert ? opts->tls.cert : "connections from outside");
    }
    grpc_server_credentials_release(credentials);
    if (!server->acceptor)
        return -EADDRINUSE;
    if (rc < 0)
        return rc;
    grpc_server_start(server->core);
    while (atomic_load(&server->waiting) < WAITING_MAX && call_wait(server))
        ;
    rc = start_threads(server, pick_threads(opts->threads), err);
    if (rc == 0)
        rc = ap_rpc_acceptor_start(server->acceptor, take_connection, tick, server, err);
    return rc;
}

struct ap_rpc_server *ap_rpc_server_new(const struct ap_rpc_server_opts *opts, struct ap_error *err)
{
    struct ap_rpc_server *server = (struct ap_rpc_server *)calloc(1, sizeof(*server));
    pthread_condattr_t attr;

    if (!server) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    ap_rpc_core_begin();
    server->methods = opts->methods;
    server->method_cnt = opts->method_cnt;
    server->ctx = opts->ctx;
    server->authorize = opts->authorize;
    server->exchange_ns = opts->exchange_ns > 0 ? opts->exchange_ns : AP_RPC_EXCHANGE_NS;
    server->shutdown_tag = (struct tag){NULL, EVENT_SHUTDOWN};
    atomic_init(&server->serving, true);
    (void)pthread_mutex_init(&server->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (begin(server, opts, err) < 0)
        return ap_rpc_server_free(server);
    return server;
}

unsigned ap_rpc_server_port(const struct ap_rpc_server *server)
{
    return ap_rpc_acceptor_port(server->acceptor);
}

void ap_rpc_server_set_serving(struct ap_rpc_server *server, bool serving)
{
    atomic_store(&server->serving, serving);
}

static struct timespec at(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / AP_NS_PER_SEC), .tv_nsec = (long)(ns % AP_NS_PER_SEC)};
}

static uint64_t after(uint64_t ns)
{
    uint64_t now = ap_clock_monotonic_ns();

    return ns > (uint64_t)INT64_MAX - now ? (uint64_t)INT64_MAX : now + ns;
}

/* Waits until gRPC is down, at most until `grace_ns` have passed; when no call is left, only as long as the last
 * replies may take to leave, not for what connections have to say to each other. */
static void wait_calls(struct ap_rpc_server *server, uint64_t grace_ns)
{
    uint64_t end = after(grace_ns);
    bool waits = true;

    (void)pthread_mutex_lock(&server->lock);
    while (!server->core_down && waits) {
        bool calls = server->live != NULL;
        struct timespec until = at(calls ? end : after(DRAIN_NS));
        bool late = pthread_cond_timedwait(&server->changed, &server->lock, &until) == ETIMEDOUT;

        waits = !late || (!calls && server->live);
    }
    (void)pthread_mutex_unlock(&server->lock);
}

static void end_core(struct ap_rpc_server *server, uint64_t grace_ns)
{
    grpc_server_shutdown_and_notify(server->core, server->queue, &server->shutdown_tag);
    /* Without threads of ours nothing began; the tag comes all the same. */
    if (server->thread_cnt == 0) {
        grpc_completion_queue_shutdown(server->queue);
        (void)serve(server);
    } else {
        wait_calls(server, grace_ns);
        grpc_server_cancel_all_calls(server->core);
        (void)pthread_mutex_lock(&server->lock);
        while (!server->core_down || server->live)
            (void)pthread_cond_wait(&server->changed, &server->lock);
        (void)pthread_mutex_unlock(&server->lock);
        grpc_completion_queue_shutdown(server->queue);
    }
    while (server->thread_cnt > 0)
        (void)pthread_join(server->threads[--server->thread_cnt], NULL);
    grpc_server_destroy(server->core);
    grpc_completion_queue_destroy(server->queue);
}

void ap_rpc_server_stop(struct ap_rpc_server *server, uint64_t grace_ns)
{
    (void)pthread_mutex_lock(&server->lock);
    bool first = server->state == STATE_SERVING;
    if (first)
        server->state = STATE_STOPPING;
    while (!first && server->state != STATE_STOPPED)
        (void)pthread_cond_wait(&server->changed, &server->lock);
    (void)pthread_mutex_unlock(&server->lock);
    if (!first)
        return;

    ap_rpc_server_set_serving(server, false);
    if (server->acceptor)
        ap_rpc_acceptor_stop(server->acceptor);
    if (server->core)
        end_core(server, grace_ns);
    (void)pthread_mutex_lock(&server->lock);
    server->state = STATE_STOPPED;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->lock);
}

struct ap_rpc_server *ap_rpc_server_free(struct ap_rpc_server *server)
{
    if (!server)
        return NULL;
    ap_rpc_server_stop(server, 0);
    (void)ap_rpc_acceptor_free(server->acceptor);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
    ap_rpc_core_end();
    return NULL;
}

void ap_rpc_server_stats(struct ap_rpc_server *server, struct ap_rpc_server_stats *ret_stats)
{
    *ret_stats = (struct ap_rpc_server_stats){
        .calls = atomic_load(&server->calls),
        .refused_auth = atomic_load(&server->refused_auth),
        .refused_busy = atomic_load(&server->refused_busy),
        .refused_size = atomic_load(&server->refused_size),
        .refused_connections = ap_rpc_acceptor_refused(server->acceptor),
        .timed_out = atomic_load(&server->timed_out),
        .in_progress = atomic_load(&server->in_progress) + atomic_load(&server->open_calls),
    };
}
