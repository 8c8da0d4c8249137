/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/client.h"

#include "core/log.h"
#include "core/parse.h"
#include "rpc/address.h"
#include "rpc/internal.h"
#include "rpc/probe.h"
#include "rpc/tls.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* How soon gRPC tries again by itself. A call that finds the channel failed does not wait for that: see channel_get().
 */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   5000
/* While a call waits: how often the server is asked whether it lives, and how soon it must answer. */
#define KEEPALIVE_MS         20000
#define KEEPALIVE_TIMEOUT_MS 10000
/* Longest metadata of an answer; its status message is part of it. */
#define METADATA_SZ (16 << 10)

#define BEARER "Bearer "

struct ap_rpc_client {
    struct ap_rpc_address address;
    char *endpoint;
    char *authorization;   /* "Bearer TOKEN"; NULL = none */
    struct ap_rpc_tls tls; /* names of files, owned; for the words */
    grpc_channel_credentials *credentials;
    grpc_completion_queue *queue;
    pthread_mutex_t turn; /* held throughout a call */
    grpc_channel *channel;

    pthread_mutex_t lock; /* what cancelling needs */
    grpc_call *call;
    bool cancelled;
};

/* What a call leaves. */
struct answer {
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *payload;
    grpc_status_code status;
    grpc_slice details;
    const char *debug; /* gRPC's own account of the error */
};

/* Beginning and end ------------------------------------------------------------------------------------------------ */

static int copy_text(const char *text, char **ret_text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy)
        return -ENOMEM;
    *ret_text = copy;
    return 0;
}

static int set_token(struct ap_rpc_client *client, const char *token, struct ap_error *err)
{
    size_t len = strlen(token);

    client->authorization = (char *)malloc(sizeof(BEARER) + len);
    if (!client->authorization)
        return ap_error_set(err, -ENOMEM, "out of memory");
    memcpy(client->authorization, BEARER, sizeof(BEARER) - 1);
    memcpy(client->authorization + sizeof(BEARER) - 1, token, len + 1);
    if (len == 0 || !grpc_header_nonbin_value_is_legal(grpc_slice_from_static_string(client->authorization)))
        return ap_error_set(err, -EINVAL,
                            "the token is empty or has characters that cannot be sent (printable ASCII "
                            "can)");
    return 0;
}

static int make_credentials(struct ap_rpc_client *client, struct ap_error *err)
{
    struct ap_rpc_tls files = client->tls;
    struct ap_rpc_pem pem;

    if (!client->address.tls) {
        client->credentials = grpc_insecure_credentials_create();
        return 0;
    }
    if (!files.ca)
        files.ca = AP_RPC_SYSTEM_CA;
    int rc = ap_rpc_pem_load(&files, &pem, err);
    if (rc < 0)
        return client->tls.ca || rc != -ENOENT ? rc : ap_error_prefix(err, "no authorities are named (--tls-ca), and");
    grpc_ssl_pem_key_cert_pair pair = {pem.key, pem.cert};
    client->credentials = grpc_ssl_credentials_create_ex(pem.ca, pem.cert ? &pair : NULL, NULL, NULL);
    ap_rpc_pem_done(&pem);
    if (!client->credentials)
        return ap_error_set(err, -EINVAL, "gRPC does not take the certificates");
    return 0;
}

static int begin(struct ap_rpc_client *client, const struct ap_rpc_client_opts *opts, struct ap_error *err)
{
    char *ca = NULL, *cert = NULL, *key = NULL;

    int rc = ap_rpc_parse_endpoint(opts->endpoint, &client->address, err);
    if (rc < 0)
        return rc;
    rc = copy_text(opts->endpoint, &client->endpoint);
    if (rc == 0)
        rc = copy_text(opts->tls.ca, &ca);
    if (rc == 0)
        rc = copy_text(opts->tls.cert, &cert);
    if (rc == 0)
        rc = copy_text(opts->tls.key, &key);
    client->tls = (struct ap_rpc_tls){ca, cert, key};
    if (rc < 0)
        return ap_error_set(err, rc, "out of memory");
    if (!client->address.tls && (ca || cert || key))
        return ap_error_set(err, -EINVAL, "%s: files of TLS are for https:// only", opts->endpoint);
    if (opts->token)
        rc = set_token(client, opts->token, err);
    if (rc == 0)
        rc = make_credentials(client, err);
    if (rc == 0)
        client->queue = grpc_completion_queue_create_for_next(NULL);
    return rc;
}

struct ap_rpc_client *ap_rpc_client_new(const struct ap_rpc_client_opts *opts, struct ap_error *err)
{
    struct ap_rpc_client *client = (struct ap_rpc_client *)calloc(1, sizeof(*client));

    if (!client) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    ap_rpc_core_begin();
    (void)pthread_mutex_init(&client->turn, NULL);
    (void)pthread_mutex_init(&client->lock, NULL);
    if (begin(client, opts, err) < 0)
        return ap_rpc_client_free(client);
    return client;
}

struct ap_rpc_client *ap_rpc_client_free(struct ap_rpc_client *client)
{
    if (!client)
        return NULL;
    if (client->channel)
        grpc_channel_destroy(client->channel);
    if (client->queue) {
        grpc_completion_queue_shutdown(client->queue);
        while (grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
               GRPC_QUEUE_SHUTDOWN)
            ;
        grpc_completion_queue_destroy(client->queue);
    }
    if (client->credentials)
        grpc_channel_credentials_release(client->credentials);
    if (client->authorization)
        explicit_bzero(client->authorization, strlen(client->authorization));
    free(client->authorization);
    free(client->endpoint);
    free((char *)(uintptr_t)client->tls.ca);
    free((char *)(uintptr_t)client->tls.cert);
    free((char *)(uintptr_t)client->tls.key);
    (void)pthread_mutex_destroy(&client->turn);
    (void)pthread_mutex_destroy(&client->lock);
    free(client);
    ap_rpc_core_end();
    return NULL;
}

/* The target to connect to: localhost is settled here, for c-ares 1.18, which gRPC asks for names, leaks memory over
 * it. */
static void pick_target(const struct ap_rpc_client *client, char ret_target[AP_RPC_TARGET_SZ])
{
    struct ap_rpc_address address = client->address;

    if (!address.local && strcasecmp(address.host, "localhost") == 0) {
        address.literal = true;
        address.ipv6 = !ap_rpc_probe_loopback("127.0.0.1", address.port) && ap_rpc_probe_loopback("::1", address.port);
        (void)snprintf(address.host, sizeof(address.host), "%s", address.ipv6 ? "::1" : "127.0.0.1");
    }
    ap_rpc_target(&address, ret_target);
}

static grpc_channel *channel_new(const struct ap_rpc_client *client)
{
    char target[AP_RPC_TARGET_SZ], authority[AP_RPC_HOST_SZ + 16];
    grpc_arg args[] = {
        ap_rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, AP_RPC_MESSAGE_SZ),
        ap_rpc_arg_int(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        ap_rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, METADATA_SZ),
        ap_rpc_arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_FIRST_MS),
        ap_rpc_arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS),
        ap_rpc_arg_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS), /* longest that connecting may take */
        ap_rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        ap_rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        ap_rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        ap_rpc_arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        ap_rpc_arg_int(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        ap_rpc_arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        ap_rpc_arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
        ap_rpc_arg_string(GRPC_ARG_PRIMARY_USER_AGENT_STRING, "aperture/" APERTURE_VERSION),
        ap_rpc_arg_string(GRPC_ARG_DEFAULT_AUTHORITY, authority),
    };
    grpc_channel_args all = {sizeof(args) / sizeof(args[0]), args};

    pick_target(client, target);
    (void)snprintf(authority, sizeof(authority), client->address.ipv6 ? "[%s]:%u" : "%s:%u",
                   client->address.local ? "localhost" : client->address.host, client->address.port);
    return grpc_channel_create(target, client->credentials, &all);
}

/* A channel that failed to connect would fail further calls without trying, until its own time to try again has come.
 * Our callers choose when to try again: each call after a failure begins with a new channel. */
static grpc_channel *channel_get(struct ap_rpc_client *client)
{
    if (client->channel &&
        grpc_channel_check_connectivity_state(client->channel, 0) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
        grpc_channel_destroy(client->channel);
        client->channel = NULL;
    }
    if (!client->channel)
        client->channel = channel_new(client);
    return client->channel;
}

/* Words ------------------------------------------------------------------------------------------------------------ */

static int errno_of(int status)
{
    switch (status) {
    case AP_RPC_CANCELLED:
        return -ECANCELED;
    case AP_RPC_INVALID_ARGUMENT:
    case AP_RPC_OUT_OF_RANGE:
    case AP_RPC_FAILED_PRECONDITION:
        return -EINVAL;
    case AP_RPC_DEADLINE_EXCEEDED:
        return -ETIMEDOUT;
    case AP_RPC_NOT_FOUND:
        return -ENOENT;
    case AP_RPC_PERMISSION_DENIED:
    case AP_RPC_UNAUTHENTICATED:
        return -EACCES;
    case AP_RPC_RESOURCE_EXHAUSTED:
        return -EAGAIN;
    case AP_RPC_UNIMPLEMENTED:
        return -ENOSYS;
    case AP_RPC_UNAVAILABLE:
        return -ECONNREFUSED;
    default:
        return -EIO;
    }
}

/* Why there is no connection. `details` are gRPC's words, for what happens once and not again. */
static void unavailable_words(const struct ap_rpc_client *client, const char *details, struct ap_error *err)
{
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(client->channel, 0);

    if (state == GRPC_CHANNEL_READY) {
        ap_error_set(err, -ECONNREFUSED, "%s: %s", client->endpoint, details);
        return;
    }
    int rc = ap_rpc_probe(&client->address, client->address.tls ? &client->tls : NULL, err);
    if (rc < 0)
        ap_error_prefix(err, "cannot reach %s", client->endpoint);
    else
        ap_error_set(err, -ECONNREFUSED, "lost the connection to %s: %s", client->endpoint, details);
}

static void words(const struct ap_rpc_client *client, const char *method, int status, const char *details,
                  uint64_t timeout_ns, struct ap_error *err)
{
    const char *at = client->endpoint;
    int code = errno_of(status);
    char time[AP_FORMAT_SZ];

    switch (status) {
    case AP_RPC_UNAUTHENTICATED:
        if (client->authorization)
            ap_error_set(err, code, "%s does not accept this token: %s", at, details);
        else
            ap_error_set(err, code, "%s wants a token (APERTURE_AUTH_TOKEN): %s", at, details);
        return;
    case AP_RPC_PERMISSION_DENIED:
        ap_error_set(err, code, "%s does not allow this with this token: %s", at, details);
        return;
    case AP_RPC_UNIMPLEMENTED:
        ap_error_set(err, code, "%s does not know %s (%s); is it an aperture-aggregator of this version?", at, method,
                     details);
        return;
    case AP_RPC_DEADLINE_EXCEEDED:
        if (grpc_channel_check_connectivity_state(client->channel, 0) == GRPC_CHANNEL_READY)
            ap_error_set(err, code, "no answer from %s within %s", at, ap_format_duration(time, timeout_ns));
        else
            ap_error_set(err, code, "cannot reach %s within %s", at, ap_format_duration(time, timeout_ns));
        return;
    case AP_RPC_CANCELLED:
        ap_error_set(err, code, "%s ended the call: %s", at, details);
        return;
    case AP_RPC_UNAVAILABLE:
        unavailable_words(client, details, err);
        return;
    default:
        ap_error_set(err, code, "%s: %s (%s)", at, details, ap_rpc_status_name(status));
        return;
    }
}

/* Calls ------------------------------------------------------------------------------------------------------------ */

static int say_cancelled(struct ap_error *err)
{
    ap_error_set(err, -ECANCELED, "cancelled");
    return AP_RPC_CANCELLED;
}

/* Makes the call known to ap_rpc_client_cancel(). False when that was called before. */
static bool call_publish(struct ap_rpc_client *client, grpc_call *call)
{
    (void)pthread_mutex_lock(&client->lock);
    bool go = !client->cancelled;
    client->call = go ? call : NULL;
    (void)pthread_mutex_unlock(&client->lock);
    return go;
}

static bool was_cancelled(struct ap_rpc_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    bool cancelled = client->cancelled;
    (void)pthread_mutex_unlock(&client->lock);
    return cancelled;
}

/* Sends the request and waits for everything that comes back. */
static void exchange(struct ap_rpc_client *client, grpc_call *call, const void *data, size_t len, struct answer *answer)
{
    grpc_byte_buffer *payload = ap_rpc_message_new(data, len);
    grpc_metadata authorization = {.key = grpc_slice_from_static_string("authorization")};
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_MESSAGE}, {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE}, {.op = GRPC_OP_RECV_STATUS_ON_CLIENT},
    };

    if (client->authorization) {
        authorization.value = grpc_slice_from_copied_string(client->authorization);
        ops[0].data.send_initial_metadata.count = 1;
        ops[0].data.send_initial_metadata.metadata = &authorization;
    }
    ops[1].data.send_message.send_message = payload;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &answer->initial;
    ops[4].data.recv_message.recv_message = &answer->payload;
    ops[5].data.recv_status_on_client.trailing_metadata = &answer->trailing;
    ops[5].data.recv_status_on_client.status = &answer->status;
    ops[5].data.recv_status_on_client.status_details = &answer->details;
    ops[5].data.recv_status_on_client.error_string = &answer->debug;
    grpc_call_error rc = grpc_call_start_batch(call, ops, 6, call, NULL);
    if (rc == GRPC_CALL_OK) {
        (void)grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    } else {
        answer->status = GRPC_STATUS_INTERNAL;
        answer->details = grpc_slice_from_static_string(grpc_call_error_to_string(rc));
    }
    if (client->authorization)
        grpc_slice_unref(authorization.value);
    grpc_byte_buffer_destroy(payload);
}

static int take_payload(const struct ap_rpc_client *client, grpc_byte_buffer *payload, struct ap_buf *ret_data,
                        struct ap_error *err)
{
    grpc_slice slice;
    int rc = payload ? ap_rpc_message_read(payload, AP_RPC_MESSAGE_SZ, &slice) : -EBADMSG;

    if (rc < 0) {
        ap_error_errno(err, rc, "%s: the answer cannot be read", client->endpoint);
        return AP_RPC_INTERNAL;
    }
    ap_buf_reset(ret_data);
    rc = ap_buf_append(ret_data, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
    grpc_slice_unref(slice);
    if (rc < 0) {
        ap_error_errno(err, rc, "%s: there is no room for the answer", client->endpoint);
        return AP_RPC_RESOURCE_EXHAUSTED;
    }
    return AP_RPC_OK;
}

static int finish(struct ap_rpc_client *client, const char *method, struct answer *answer, uint64_t timeout_ns,
                  struct ap_buf *ret_data, struct ap_error *err)
{
    int status = (int)answer->status;

    if (status == AP_RPC_OK)
        return take_payload(client, answer->payload, ret_data, err);
    if (was_cancelled(client))
        return say_cancelled(err);
    char *details = grpc_slice_to_c_string(answer->details);
    ap_log_debug("%s%s: %s: %s", client->endpoint, method, ap_rpc_status_name(status),
                 answer->debug ? answer->debug : details);
    words(client, method, status, *details ? details : "no reason given", timeout_ns, err);
    gpr_free(details);
    return status;
}

static int call_locked(struct ap_rpc_client *client, const char *method, const void *data, size_t len,
                       uint64_t timeout_ns, struct ap_buf *ret_data, struct ap_error *err)
{
    struct answer answer = {.status = GRPC_STATUS_UNKNOWN, .details = grpc_empty_slice()};
    grpc_slice path = grpc_slice_from_copied_string(method);
    grpc_call *call = grpc_channel_create_call(channel_get(client), NULL, 0, client->queue, path, NULL,
                                               ap_rpc_after(timeout_ns), NULL);
    int status = AP_RPC_CANCELLED;

    grpc_slice_unref(path);
    grpc_metadata_array_init(&answer.initial);
    grpc_metadata_array_init(&answer.trailing);
    if (call_publish(client, call)) {
        exchange(client, call, data, len, &answer);
        (void)call_publish(client, NULL);
        status = finish(client, method, &answer, timeout_ns, ret_data, err);
    } else {
        (void)say_cancelled(err);
    }
    grpc_byte_buffer_destroy(answer.payload);
    grpc_metadata_array_destroy(&answer.initial);
    grpc_metadata_array_destroy(&answer.trailing);
    grpc_slice_unref(answer.details);
    gpr_free((void *)(uintptr_t)answer.debug);
    grpc_call_unref(call);
    return status;
}

int ap_rpc_client_call(struct ap_rpc_client *client, const char *method, const void *data, size_t len,
                       uint64_t timeout_ns, struct ap_buf *ret_data, struct ap_error *err)
{
    ap_buf_reset(ret_data);
    if (len > AP_RPC_MESSAGE_SZ) {
        ap_error_set(err, -EMSGSIZE, "a message may have at most %u MiB", AP_RPC_MESSAGE_SZ >> 20);
        return AP_RPC_RESOURCE_EXHAUSTED;
    }
    (void)pthread_mutex_lock(&client->turn);
    int status = call_locked(client, method, data, len, timeout_ns, ret_data, err);
    (void)pthread_mutex_unlock(&client->turn);
    return status;
}

void ap_rpc_client_cancel(struct ap_rpc_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    client->cancelled = true;
    if (client->call)
        (void)grpc_call_cancel(client->call, NULL);
    (void)pthread_mutex_unlock(&client->lock);
}
