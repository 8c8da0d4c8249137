/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What becomes of a request between its arrival and its answer. */
#include "api/internal.h"

#include "core/clock.h"
#include "core/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ap_api_request_unref(struct ap_api_request *request)
{
    if (request == NULL || atomic_fetch_sub(&request->refs, 1) > 1)
        return;
    ap_buf_done(&request->body);
    atomic_fetch_sub(&request->api->bodies, request->body_counted);
    atomic_fetch_sub(&request->api->answers, request->held);
    ap_api_sink_free(request->sink);
    ap_api_params_done(&request->params);
    ap_api_pairs_done(&request->pairs);
    if (request->ready != NULL)
        MHD_destroy_response(request->ready);
    free(request->data);
    free(request->uri);
    free(request->path);
    free(request->wildcard);
    free(request->accept);
    free(request->accept_encoding);
    free(request->content_type);
    free(request);
}

static void drop_answer(struct ap_api_request *request)
{
    free(request->data);
    request->data = NULL;
    request->len = 0;
    atomic_fetch_sub(&request->api->answers, request->held);
    request->held = 0;
    request->encoding = AP_API_IDENTITY;
    request->disposition[0] = '\0';
    request->active_content = false;
}

void ap_api_request_fail(struct ap_api_request *request, int status, const char *code, const char *message)
{
    struct ap_buf buf;
    struct ap_out *out;

    drop_answer(request);
    request->status = status;
    request->type = "application/json";
    request->retry = status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE;
    ap_buf_init(&buf, (size_t)AP_JSON_CHAR_SZ * AP_ERROR_TEXT_SZ + 256);
    out = ap_out_new_buf(&buf);
    if (out == NULL)
        return; /* the status alone says enough */
    ap_out_str(out, "{\"error\":{\"code\":");
    ap_out_json_str(out, code, false);
    ap_out_str(out, ",\"message\":");
    ap_out_json_str(out, message, false);
    ap_out_str(out, "}}\n");
    if (ap_out_flush(out) == 0) {
        request->data = buf.data;
        request->len = buf.len;
        buf.data = NULL;
    }
    ap_out_free(out);
    free(buf.data);
}

/* How what went wrong below is told to clients. */
static const struct {
    int error, status;
    const char *code;
} failures[] = {
    {-EINVAL, MHD_HTTP_BAD_REQUEST, "invalid_argument"},
    {-E2BIG, MHD_HTTP_BAD_REQUEST, "too_large"},
    {-ENOENT, MHD_HTTP_NOT_FOUND, "not_found"},
    {-EMEDIUMTYPE, MHD_HTTP_NOT_ACCEPTABLE, "not_acceptable"},
    {-ENOTSUP, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"},
    {-EAGAIN, MHD_HTTP_SERVICE_UNAVAILABLE, "unavailable"},
    {-ENOSPC, MHD_HTTP_SERVICE_UNAVAILABLE, "storage_full"},
    {-ENOMEM, MHD_HTTP_SERVICE_UNAVAILABLE, "out_of_memory"},
    {-ETIMEDOUT, MHD_HTTP_GATEWAY_TIMEOUT, "timeout"},
};

static void fail_with(struct ap_api_request *request, int error, const struct ap_error *err)
{
    const char *words = err->text[0] != '\0' ? err->text : strerror(-error);

    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        if (failures[i].error == error) {
            ap_api_request_fail(request, failures[i].status, failures[i].code, words);
            return;
        }
    }
    ap_api_request_fail(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal", words);
}

/* Takes the finished answer out of the sink. 0 or negative errno with words. */
static int take_answer(struct ap_api_request *request, struct ap_error *err)
{
    int r = ap_api_sink_take(request->sink, &request->data, &request->len, &request->encoding);

    switch (r) {
    case 0:
        request->held = request->len;
        return 0;
    case -E2BIG:
        return ap_error_set(err, -EIO, "the answer is longer than %u MiB: ask for a shorter range or fewer rows",
                            AP_API_ANSWER_SZ >> 20);
    case -EAGAIN:
        return ap_error_set(err, r, "too many large answers at once: come again in a moment");
    default:
        return ap_error_errno(err, r, "cannot write the answer");
    }
}

static bool accepts_some(const char *accept, const char *types)
{
    char type[128];

    while (*types != '\0') {
        size_t len = strcspn(types, ","), name_len = strcspn(types, ";,");

        (void)snprintf(type, sizeof(type), "%.*s", (int)(name_len < len ? name_len : len), types);
        if (ap_api_accept_weight(accept, type) > 0)
            return true;
        types += len + (types[len] == ',');
    }
    return false;
}

static int prepare(struct ap_api_request *request, struct ap_error *err)
{
    const struct ap_api_route *route = request->route;
    size_t type_len = strcspn(route->types, ",");

    if (!accepts_some(request->accept, route->types))
        return ap_error_set(err, -EMEDIUMTYPE, "this endpoint answers with %s, which the Accept header excludes",
                            route->types);
    /* The first of the types, which is static text when it is the only one. */
    request->type = route->types[type_len] == '\0' ? route->types : "application/json";
    ap_api_params_init(&request->params, route->params, ap_clock_realtime_ns());
    return ap_api_params_set_all(&request->params, &request->pairs, err);
}

void ap_api_request_run(struct ap_api_request *request)
{
    struct ap_error err = {0};
    int r;

    request->sink = ap_api_sink_new(ap_api_choose_encoding(request->accept_encoding), AP_API_ANSWER_SZ,
                                    &request->api->answers, AP_API_ANSWERS_SZ);
    if (request->sink == NULL) {
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out_of_memory", "out of memory");
        return;
    }
    request->out = ap_api_sink_out(request->sink);
    request->status = MHD_HTTP_OK;
    r = prepare(request, &err);
    if (r == 0)
        r = request->route->handle(request, &err);
    if (r == 0 && request->status < MHD_HTTP_BAD_REQUEST)
        r = take_answer(request, &err);
    if (r != 0)
        fail_with(request, r, &err);
    request->sink = ap_api_sink_free(request->sink);
    request->out = NULL;
    ap_api_params_done(&request->params);
    ap_buf_done(&request->body);
    atomic_fetch_sub(&request->api->bodies, request->body_counted);
    request->body_counted = 0;
}

/* ---- Sending -------------------------------------------------------------------------------------------------------
 */

#define CSP_NOTHING "default-src 'none'; frame-ancestors 'none'"
/* An exported flamegraph brings its own script: it runs in an origin of its own, where it can reach nothing. */
#define CSP_SANDBOX                                                                                                    \
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; sandbox allow-scripts; "               \
    "frame-ancestors 'none'"

static void header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value);
}

static void add_headers(const struct ap_api_request *request, struct MHD_Response *response)
{
    char number[16];

    header(response, "X-Content-Type-Options", "nosniff");
    header(response, "Referrer-Policy", "no-referrer");
    header(response, "X-Frame-Options", "DENY");
    header(response, "Cross-Origin-Resource-Policy", "same-origin");
    if (request->ready == NULL) {
        header(response, "Cache-Control", "no-store");
        header(response, "Content-Security-Policy", request->active_content ? CSP_SANDBOX : CSP_NOTHING);
        header(response, "Vary", "Accept, Accept-Encoding");
        if (request->type != NULL)
            header(response, "Content-Type", request->type);
    }
    if (request->encoding != AP_API_IDENTITY)
        header(response, "Content-Encoding", ap_api_encoding_name(request->encoding));
    if (request->disposition[0] != '\0')
        header(response, "Content-Disposition", request->disposition);
    if (request->status == MHD_HTTP_UNAUTHORIZED)
        header(response, "WWW-Authenticate", "Bearer realm=\"aperture\"");
    if (request->allow != 0)
        header(response, "Allow",
               request->allow == (AP_API_GET | AP_API_POST) ? "GET, HEAD, POST, OPTIONS"
               : request->allow == AP_API_POST              ? "POST, OPTIONS"
                                                            : "GET, HEAD, OPTIONS");
    if (request->retry) {
        (void)snprintf(number, sizeof(number), "%d", AP_API_RETRY_S);
        header(response, "Retry-After", number);
    }
    if (request->close)
        header(response, "Connection", "close");
}

static void count(struct ap_api *api, int status)
{
    if (status >= MHD_HTTP_INTERNAL_SERVER_ERROR)
        atomic_fetch_add(&api->errors_5xx, 1);
    else if (status >= MHD_HTTP_BAD_REQUEST)
        atomic_fetch_add(&api->errors_4xx, 1);
    if (status == MHD_HTTP_UNAUTHORIZED || status == MHD_HTTP_FORBIDDEN)
        atomic_fetch_add(&api->refused_auth, 1);
    else if (status == MHD_HTTP_CONTENT_TOO_LARGE || status == MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE)
        atomic_fetch_add(&api->refused_size, 1);
}

/* Until when the client must have taken an answer of that many bytes. */
static void set_deadline(struct ap_api_request *request, uint64_t len)
{
    struct ap_api *api = request->api;

    if (request->peer_connection == NULL)
        return;
    pthread_mutex_lock(&api->lock);
    request->peer_connection->deadline_ns =
        ap_clock_monotonic_ns() + (AP_API_TIMEOUT_S + len / AP_API_RATE_MIN) * AP_NS_PER_SEC;
    pthread_mutex_unlock(&api->lock);
}

enum MHD_Result ap_api_request_send(struct ap_api_request *request)
{
    struct MHD_Response *response = request->ready;
    enum MHD_Result r;

    request->phase = AP_API_ANSWERED;
    if (response == NULL) {
        response = MHD_create_response_from_buffer(request->len, request->data, MHD_RESPMEM_MUST_FREE);
        if (response == NULL)
            return MHD_NO;
        request->data = NULL;
    }
    add_headers(request, response);
    count(request->api, request->status);
    set_deadline(request, request->len);
    r = MHD_queue_response(request->connection, (unsigned)request->status, response);
    MHD_destroy_response(response);
    request->ready = NULL;
    return r;
}
