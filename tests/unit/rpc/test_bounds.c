/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The server's bounds, met by callers that our own client does not let happen: spoken to through gRPC itself. */
#include "fixture.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>

#define CHANNELS 5

struct raw_call {
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *answer;
    grpc_status_code status;
    grpc_slice details;
};

struct raw {
    grpc_channel *channels[CHANNELS];
    grpc_completion_queue *queue;
};

static void raw_open(struct raw *raw, const struct site *site)
{
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .value.integer = 1};
    grpc_channel_args args = {1, &arg};
    grpc_channel_credentials *credentials;
    char target[64];

    grpc_init();
    arg.key = (char *)(uintptr_t)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL; /* a connection each */
    credentials = grpc_insecure_credentials_create();
    (void)snprintf(target, sizeof(target), "ipv4:127.0.0.1:%u", ap_rpc_server_port(site->server));
    for (int i = 0; i < CHANNELS; i++)
        raw->channels[i] = grpc_channel_create(target, credentials, &args);
    grpc_channel_credentials_release(credentials);
    raw->queue = grpc_completion_queue_create_for_next(NULL);
}

static void raw_close(struct raw *raw)
{
    for (int i = 0; i < CHANNELS; i++)
        grpc_channel_destroy(raw->channels[i]);
    grpc_completion_queue_shutdown(raw->queue);
    while (grpc_completion_queue_next(raw->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(raw->queue);
    grpc_shutdown();
}

enum manners { POLITE, SENDS_NO_END, TAKES_NO_ANSWER };

/* `request` NULL: half-closes without one. */
static struct raw_call *raw_start_as(enum manners manners, struct raw *raw, int channel, const char *method,
                                     grpc_byte_buffer *request)
{
    struct raw_call *call = (struct raw_call *)calloc(1, sizeof(*call));
    grpc_op ops[6] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE},
                      {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}, {.op = GRPC_OP_SEND_MESSAGE}};

    call->details = grpc_empty_slice();
    call->request = request;
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->call =
        grpc_channel_create_call(raw->channels[channel], NULL, 0, raw->queue, grpc_slice_from_static_string(method),
                                 NULL, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    ops[2].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[3].data.recv_message.recv_message = &call->answer;
    ops[4].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[4].data.recv_status_on_client.status = &call->status;
    ops[4].data.recv_status_on_client.status_details = &call->details;
    ops[5].data.send_message.send_message = request;
    size_t cnt = request ? 6 : 5;
    if (manners == TAKES_NO_ANSWER)
        ops[3] = ops[--cnt];
    if (manners == SENDS_NO_END)
        ops[1] = ops[--cnt];
    assert_int_equal(grpc_call_start_batch(call->call, ops, cnt, call, NULL), GRPC_CALL_OK);
    return call;
}

static struct raw_call *raw_start(struct raw *raw, int channel, const char *method, grpc_byte_buffer *request)
{
    return raw_start_as(POLITE, raw, channel, method, request);
}

/* Calls make progress only while somebody waits for them; none is expected to end here. */
static void raw_progress(struct raw *raw)
{
    gpr_timespec soon = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(10, GPR_TIMESPAN));

    assert_int_equal(grpc_completion_queue_next(raw->queue, soon, NULL).type, GRPC_QUEUE_TIMEOUT);
}

/* The status of the next call to end. */
static int raw_next(struct raw *raw, char words[256])
{
    grpc_event event = grpc_completion_queue_next(raw->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    struct raw_call *call = (struct raw_call *)event.tag;
    int status = (int)call->status;
    size_t len = GRPC_SLICE_LENGTH(call->details);

    if (words)
        (void)snprintf(words, 256, "%.*s", (int)len, (const char *)GRPC_SLICE_START_PTR(call->details));
    grpc_call_unref(call->call);
    grpc_byte_buffer_destroy(call->request);
    grpc_byte_buffer_destroy(call->answer);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    free(call);
    return status;
}

static grpc_byte_buffer *bytes(const void *data, size_t len, grpc_compression_algorithm compression)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)data, len);
    grpc_byte_buffer *buffer = grpc_raw_compressed_byte_buffer_create(&slice, 1, compression);

    grpc_slice_unref(slice);
    return buffer;
}

static void test_too_many_calls(void **state)
{
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    char words[256], health[256];
    struct site site;
    struct raw raw;

    (void)state;
    site_start(&site);
    raw_open(&raw, &site);
    for (unsigned i = 0; i < AP_RPC_CALLS_MAX; i++)
        (void)raw_start(&raw, (int)(i / (AP_RPC_STREAMS_MAX - 6)), HANG, bytes("x", 1, GRPC_COMPRESS_NONE));
    while (site_hanging(&site) < AP_RPC_CALLS_MAX)
        raw_progress(&raw);
    ap_rpc_server_stats(site.server, &stats);
    assert_int_equal(stats.in_progress, AP_RPC_CALLS_MAX);
    assert_int_equal(stats.refused_busy, 0);
    (void)raw_start(&raw, CHANNELS - 1, HANG, bytes("x", 1, GRPC_COMPRESS_NONE));
    assert_int_equal(raw_next(&raw, words), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(words, "too many calls are in progress"));
    struct ap_rpc_client *client = site_client(&site);
    assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_RESOURCE_EXHAUSTED);
    ASSERT_STATUS(call_text(client, HEALTH, "", health, &err), AP_RPC_OK, err);
    ap_rpc_server_stats(site.server, &stats);
    assert_int_equal(stats.refused_busy, 2);
    assert_int_equal(site_release(&site, false), AP_RPC_CALLS_MAX);
    for (unsigned i = 0; i < AP_RPC_CALLS_MAX; i++)
        assert_int_equal(raw_next(&raw, NULL), GRPC_STATUS_OK);
    WAIT_FOR((ap_rpc_server_stats(site.server, &stats), stats.in_progress == 0));
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    ap_rpc_client_free(client);
    raw_close(&raw);
    site_end(&site);
}

static void test_too_long(void **state)
{
    size_t len = AP_RPC_MESSAGE_SZ + 1;
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    struct ap_buf buf;
    char words[256];
    struct site site;
    struct raw raw;
    char *data = (char *)calloc(1, len);

    (void)state;
    site_start(&site);
    raw_open(&raw, &site);
    (void)raw_start(&raw, 0, ECHO, bytes(data, len, GRPC_COMPRESS_NONE));
    assert_int_equal(raw_next(&raw, words), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(words, "longer than 64 MiB"));
    ap_rpc_server_stats(site.server, &stats);
    assert_int_equal(stats.refused_size, 1);
    struct ap_rpc_client *client = site_client(&site);
    ap_buf_init(&buf, 10);
    assert_int_equal(ap_rpc_client_call(client, ECHO, data, len, LONG_NS, &buf, &err), AP_RPC_RESOURCE_EXHAUSTED);
    ASSERT_SAYS(err, "at most 64 MiB");
    assert_int_equal(ap_rpc_client_call(client, ECHO, data, 11, LONG_NS, &buf, &err), AP_RPC_RESOURCE_EXHAUSTED);
    ASSERT_SAYS(err, "no room for the answer");
    assert_int_equal(ap_rpc_client_call(client, ECHO, data, 10, LONG_NS, &buf, &err), AP_RPC_OK);
    ap_buf_done(&buf);
    ap_rpc_client_free(client);
    raw_close(&raw);
    site_end(&site);
    free(data);
}

static void test_no_request(void **state)
{
    struct site site;
    struct raw raw;
    char words[256];

    (void)state;
    site_start(&site);
    raw_open(&raw, &site);
    (void)raw_start(&raw, 0, ECHO, NULL);
    assert_int_equal(raw_next(&raw, words), GRPC_STATUS_INVALID_ARGUMENT);
    assert_string_equal(words, "no request came");
    raw_close(&raw);
    site_end(&site);
}

/* Who may not call does not make the server hold what it sends. */
static int nobody(void *ctx, const char *authorization, bool write, const char *method, const char *peer)
{
    (void)ctx, (void)authorization, (void)write, (void)method, (void)peer;
    return AP_RPC_UNAUTHENTICATED;
}

static void test_refused_before_the_request_is_read(void **state)
{
    size_t len = 32u << 20;
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);
    struct ap_rpc_server_stats stats;
    struct raw raw;
    char *data = (char *)calloc(1, len);

    (void)state;
    opts.authorize = nobody;
    site_start_with(&site, &opts);
    raw_open(&raw, &site);
    for (int i = 0; i < 4; i++) {
        (void)raw_start(&raw, 0, ECHO, bytes(data, len, GRPC_COMPRESS_NONE));
        assert_int_equal(raw_next(&raw, NULL), GRPC_STATUS_UNAUTHENTICATED);
    }
    ap_rpc_server_stats(site.server, &stats);
    assert_int_equal(stats.refused_auth, 4);
    raw_close(&raw);
    site_end(&site);
    free(data);
}

static void test_callers_that_stop_in_the_middle(void **state)
{
    size_t len = 32u << 20;
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    struct raw raw;
    char *data = (char *)calloc(1, len);
    char words[256];

    (void)state;
    opts.exchange_ns = SHORT_NS;
    site_start_with(&site, &opts);
    raw_open(&raw, &site);
    (void)raw_start_as(SENDS_NO_END, &raw, 0, ECHO, NULL);
    assert_int_equal(raw_next(&raw, words), GRPC_STATUS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(words, "took too long"));
    struct raw_call *call = raw_start_as(TAKES_NO_ANSWER, &raw, 1, ECHO, bytes(data, len, GRPC_COMPRESS_NONE));
    do {
        raw_progress(&raw); /* it does not learn that it was cut off, for it does not read */
        ap_rpc_server_stats(site.server, &stats);
    } while (stats.timed_out < 2);
    WAIT_FOR((ap_rpc_server_stats(site.server, &stats), stats.in_progress == 0));
    (void)grpc_call_cancel(call->call, NULL);
    assert_int_equal(raw_next(&raw, words), GRPC_STATUS_CANCELLED);
    struct ap_rpc_client *client = site_client(&site);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    ap_rpc_client_free(client);
    raw_close(&raw);
    site_end(&site);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_many_calls),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_no_request),
        cmocka_unit_test(test_refused_before_the_request_is_read),
        cmocka_unit_test(test_callers_that_stop_in_the_middle),
    };

    return cmocka_run_group_tests_name("bounds", tests, NULL, NULL);
}
