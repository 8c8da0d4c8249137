/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "api/internal.h"

#include "core/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* Memory of a connection at libmicrohttpd: room for a request's head and an answer's. */
#define CONNECTION_SZ (2 * (size_t)AP_API_HEADER_SZ)
#define BACKLOG       1024
#define WORKERS_MAX   16
#define THREADS_MAX   4
/* Threads and queues of the other lanes. */
#define QUICK_THREADS  1
#define IMPORT_THREADS 2
#define IMPORTS_MAX    32
/* How often clients that are too slow are looked for. */
#define WATCH_NS AP_NS_PER_SEC
/* Certificates and keys. */
#define PEM_SZ (1u << 20)
/* What follows a refusal is read and thrown away up to this: clients that are still sending would not see the answer.
 */
#define DRAIN_SZ AP_API_BODY_SZ

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* ---- Requests ------------------------------------------------------------------------------------------------------
 */

static void *on_uri(void *ctx, const char *uri, struct MHD_Connection *connection)
{
    struct ap_api *api = ctx;
    struct ap_api_request *request = calloc(1, sizeof(*request));

    if (request == NULL)
        return NULL;
    request->api = api;
    request->connection = connection;
    atomic_init(&request->refs, 1);
    request->uri = strdup(uri);
    if (request->uri == NULL) {
        free(request);
        return NULL;
    }
    return request;
}

static void name_peer(struct ap_api_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;

    if (info != NULL && info->client_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)info->client_addr;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        port = ntohs(in->sin_port);
    } else if (info != NULL && info->client_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)info->client_addr;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        port = ntohs(in6->sin6_port);
    }
    (void)snprintf(request->peer, sizeof(request->peer), "%s:%u", host, port);
}

static const char *header_of(const struct ap_api_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* False when out of memory. */
static bool copy_header(const struct ap_api_request *request, const char *name, char **ret)
{
    const char *value = header_of(request, name);

    *ret = value != NULL ? strdup(value) : NULL;
    return value == NULL || *ret != NULL;
}

/* The request is in progress from here on: stopping waits for it. */
static void enter(struct ap_api_request *request)
{
    struct ap_api *api = request->api;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    request->peer_connection = info != NULL ? info->socket_context : NULL;
    pthread_mutex_lock(&api->lock);
    request->next = api->active;
    if (request->next != NULL)
        request->next->prev = request;
    api->active = request;
    pthread_mutex_unlock(&api->lock);
    atomic_fetch_add(&api->requests, 1);
}

static void leave(struct ap_api_request *request)
{
    struct ap_api *api = request->api;

    pthread_mutex_lock(&api->lock);
    if (request->prev != NULL)
        request->prev->next = request->next;
    else if (api->active == request)
        api->active = request->next;
    if (request->next != NULL)
        request->next->prev = request->prev;
    if (request->peer_connection != NULL) /* idle, then another head */
        request->peer_connection->deadline_ns = ap_clock_monotonic_ns() + 2 * AP_API_TIMEOUT_S * AP_NS_PER_SEC;
    pthread_cond_broadcast(&api->changed);
    pthread_mutex_unlock(&api->lock);
}

/* Another site's page may make a browser send us a request; it may not change anything here. */
static bool is_foreign(const struct ap_api_request *request)
{
    const char *origin = header_of(request, "Origin"), *host = header_of(request, "Host");
    const char *authority = origin != NULL ? strstr(origin, "://") : NULL;

    return origin != NULL && (authority == NULL || host == NULL || strcasecmp(authority + 3, host) != 0);
}

/* Refuses, or finds nothing wrong: then status stays 0. */
static void authorize(struct ap_api_request *request)
{
    struct ap_api *api = request->api;
    int status = api->ops->authorize(api->ctx, header_of(request, "Authorization"), request->route->write,
                                     request->what, request->peer);

    if (status == MHD_HTTP_UNAUTHORIZED)
        ap_api_request_fail(request, status, "unauthenticated",
                            "a token is needed that is known here: Authorization: Bearer TOKEN");
    else if (status != MHD_HTTP_OK)
        ap_api_request_fail(request, MHD_HTTP_FORBIDDEN, "permission_denied",
                            "this token may not do that: the write scope is needed");
}

static void refuse_method(struct ap_api_request *request, unsigned allow)
{
    ap_api_request_fail(request, MHD_HTTP_METHOD_NOT_ALLOWED, "method_not_allowed",
                        allow == AP_API_POST ? "this endpoint takes POST" : "this endpoint takes GET");
    request->allow = allow;
}

static void find_route(struct ap_api_request *request, const char *method)
{
    bool post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || request->head;
    unsigned allow;

    request->route = ap_api_find_route(request->path,
                                       post  ? AP_API_POST
                                       : get ? AP_API_GET
                                             : 0,
                                       &request->wildcard, &allow);
    if (request->route != NULL)
        return;
    if (allow == 0 && strncmp(request->path, "/api/", 5) != 0 && strcmp(request->path, "/api") != 0) {
        allow = AP_API_GET;
        if (get) {
            ap_api_files_answer(request);
            return;
        }
    }
    if (allow == 0) {
        ap_api_request_fail(request, MHD_HTTP_NOT_FOUND, "not_found", "there is no such endpoint");
    } else if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0) {
        request->status = MHD_HTTP_NO_CONTENT;
        request->allow = allow;
    } else {
        refuse_method(request, allow);
    }
}

/* Content-Length, 0 when it is not said, UINT64_MAX when it cannot be read. */
static uint64_t content_length(const struct ap_api_request *request)
{
    const char *text = header_of(request, "Content-Length");
    char *end;

    if (text == NULL)
        return 0;
    errno = 0;
    unsigned long long len = strtoull(text, &end, 10);
    return errno != 0 || *end != '\0' ? UINT64_MAX : len;
}

/* What can be said before the body comes. Leaves status 0 when nothing is wrong so far. */
static void check_head(struct ap_api_request *request, const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *coding = header_of(request, "Content-Encoding");
    struct ap_error err;
    bool stopping;

    pthread_mutex_lock(&request->api->lock);
    stopping = request->api->stopping;
    pthread_mutex_unlock(&request->api->lock);
    (void)snprintf(request->what, sizeof(request->what), "%.16s %.200s", method, request->uri);
    if (info != NULL && info->header_size > AP_API_HEADER_SZ) {
        ap_api_request_fail(request, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large",
                            "request line and headers are longer than 16 KiB");
        request->close = true;
        return;
    }
    if (ap_api_split_uri(request->uri, &request->path, &request->pairs, &err) != 0) {
        ap_api_request_fail(request, MHD_HTTP_BAD_REQUEST, "invalid_argument", err.text);
        return;
    }
    (void)snprintf(request->what, sizeof(request->what), "%.16s %.200s", method, request->path);
    if (stopping) {
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping", "the server is being stopped");
        request->close = true;
        return;
    }
    find_route(request, method);
    if (request->route == NULL)
        return;
    if (!request->route->open)
        authorize(request);
    if (request->status == 0 && request->route->method == AP_API_POST && is_foreign(request))
        ap_api_request_fail(request, MHD_HTTP_FORBIDDEN, "cross_origin", "requests of other sites' pages are refused");
    if (request->status == 0 && request->route->body_max != 0 && coding != NULL &&
        strcasecmp(coding, "identity") != 0 &&
        (strcasecmp(coding, "gzip") != 0 || request->route->lane != AP_API_LANE_IMPORT))
        ap_api_request_fail(request, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                            "bodies in this Content-Encoding are not understood");
}

static void refuse_size(struct ap_api_request *request)
{
    char text[128];
    size_t max = request->route->body_max;

    if (max == 0)
        (void)snprintf(text, sizeof(text), "this endpoint takes no body");
    else
        (void)snprintf(text, sizeof(text), "the body is longer than %zu KiB", max >> 10);
    ap_api_request_fail(request, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large", text);
}

static enum MHD_Result on_head(struct ap_api_request *request, const char *method)
{
    uint64_t len = content_length(request);

    request->phase = AP_API_BODY;
    request->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    name_peer(request);
    /* Copies: a job may outlive its connection. */
    if (!copy_header(request, "Accept", &request->accept) ||
        !copy_header(request, "Accept-Encoding", &request->accept_encoding) ||
        !copy_header(request, "Content-Type", &request->content_type))
        return MHD_NO;
    enter(request);
    if (request->peer_connection != NULL) {
        uint64_t late = (AP_API_TIMEOUT_S + (len > AP_API_BODY_SZ ? AP_API_BODY_SZ : len) / AP_API_RATE_MIN);

        pthread_mutex_lock(&request->api->lock);
        request->peer_connection->deadline_ns = ap_clock_monotonic_ns() + late * AP_NS_PER_SEC;
        pthread_mutex_unlock(&request->api->lock);
    }
    check_head(request, method);
    if (request->status == 0 && len > request->route->body_max)
        refuse_size(request);
    ap_buf_init(&request->body, request->route != NULL ? request->route->body_max : 0);
    request->discard = request->status != 0;
    /* Nor is a body asked for, or a very long one waited for; libmicrohttpd closes the connection then. */
    if (request->discard && (len > DRAIN_SZ || (len > 0 && header_of(request, "Expect") != NULL))) {
        request->close = true;
        return ap_api_request_send(request);
    }
    return MHD_YES;
}

static enum MHD_Result on_body(struct ap_api_request *request, const char *data, size_t len)
{
    struct ap_api *api = request->api;

    if (request->discard) {
        request->discarded += len; /* chunked bodies say no length before */
        return request->discarded > AP_API_BODY_SZ ? MHD_NO : MHD_YES;
    }
    if (atomic_fetch_add(&api->bodies, len) + len > AP_API_BODIES_SZ) {
        atomic_fetch_sub(&api->bodies, len);
        atomic_fetch_add(&api->refused_busy, 1);
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                            "too many large bodies at once: come again in a moment");
    } else {
        request->body_counted += len;
        if (ap_buf_append(&request->body, data, len) == -ENOSPC)
            refuse_size(request);
        else if (request->body.error != 0)
            ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "out_of_memory", "out of memory");
    }
    if (request->status != 0) {
        request->discard = true;
        ap_buf_done(&request->body);
        ap_buf_init(&request->body, 0);
        atomic_fetch_sub(&api->bodies, request->body_counted);
        request->body_counted = 0;
    }
    return MHD_YES;
}

/* There is an answer: its connection goes on, unless the server has stopped waiting. */
static void finish_job(struct ap_api_request *request)
{
    struct ap_api *api = request->api;

    pthread_mutex_lock(&api->lock);
    if (!request->abandoned) {
        request->done = true;
        MHD_resume_connection(request->connection);
    }
    pthread_mutex_unlock(&api->lock);
    ap_api_request_unref(request);
}

static void run_job(struct ap_api_request *request)
{
    ap_api_request_run(request);
    finish_job(request);
}

static enum MHD_Result submit(struct ap_api_request *request)
{
    struct ap_api *api = request->api;
    int r;

    if (request->route->lane == AP_API_LANE_NOW) {
        ap_api_request_run(request);
        return ap_api_request_send(request);
    }
    /* Suspended first: the job may be done before push returns. */
    pthread_mutex_lock(&api->lock);
    if (request->peer_connection != NULL)
        request->peer_connection->deadline_ns = 0;
    request->phase = AP_API_QUEUED;
    request->queued = true;
    atomic_fetch_add(&request->refs, 1);
    MHD_suspend_connection(request->connection);
    pthread_mutex_unlock(&api->lock);
    r = ap_api_jobs_push(api->lanes[request->route->lane], request);
    if (r == 0)
        return MHD_YES;
    atomic_fetch_add(&api->refused_busy, 1);
    if (r == -EBUSY)
        ap_api_request_fail(request, MHD_HTTP_TOO_MANY_REQUESTS, "too_many_requests",
                            "too many requests of this address are waiting: come again in a moment");
    else
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                            "too many requests are waiting: come again in a moment");
    finish_job(request);
    return MHD_YES;
}

/* A suspended connection goes on. */
static enum MHD_Result on_resume(struct ap_api_request *request)
{
    struct ap_api *api = request->api;
    bool done, abandoned;

    pthread_mutex_lock(&api->lock);
    done = request->done;
    abandoned = request->abandoned;
    pthread_mutex_unlock(&api->lock);
    if (abandoned) {
        static const char text[] =
            "{\"error\":{\"code\":\"stopping\",\"message\":\"the server was stopped before the answer was ready\"}}\n";
        struct MHD_Response *response =
            MHD_create_response_from_buffer(sizeof(text) - 1, (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
        enum MHD_Result r = MHD_NO;

        /* The job still writes to the request: nothing of it is touched. */
        if (response != NULL) {
            (void)MHD_add_response_header(response, "Content-Type", "application/json");
            (void)MHD_add_response_header(response, "Connection", "close");
            (void)MHD_add_response_header(response, "Retry-After", "1");
            atomic_fetch_add(&api->errors_5xx, 1);
            r = MHD_queue_response(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, response);
            MHD_destroy_response(response);
        }
        return r;
    }
    return done ? ap_api_request_send(request) : MHD_YES;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *data_len, void **ret_request)
{
    struct ap_api_request *request = *ret_request;

    (void)ctx;
    (void)connection;
    (void)url;
    (void)version;
    if (request == NULL)
        return MHD_NO; /* out of memory */
    if (request->phase == AP_API_NEW)
        return on_head(request, method);
    if (*data_len > 0) {
        size_t len = *data_len;

        *data_len = 0;
        return on_body(request, data, len);
    }
    if (request->phase == AP_API_QUEUED)
        return on_resume(request);
    if (request->phase == AP_API_ANSWERED)
        return MHD_YES;
    return request->status != 0 ? ap_api_request_send(request) : submit(request);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    struct ap_api_request *done = *request;

    (void)ctx;
    (void)connection;
    (void)code;
    if (done == NULL)
        return;
    leave(done);
    *request = NULL;
    ap_api_request_unref(done);
}

/* ---- Connections ---------------------------------------------------------------------------------------------------
 */

/* With authorities, a client without a certificate from them does not get past the handshake. */
static void demand_certificate(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    gnutls_session_t session = info != NULL ? info->tls_session : NULL;

    if (session == NULL)
        return;
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert(session, NULL, 0);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct ap_api *api = ctx;
    struct ap_api_connection *entry = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

        if (api->mutual_tls)
            demand_certificate(connection);
        entry = calloc(1, sizeof(*entry));
        if (entry == NULL)
            return; /* it has only libmicrohttpd's own timeout then */
        entry->fd = info != NULL ? info->connect_fd : -1;
        entry->deadline_ns = ap_clock_monotonic_ns() + AP_API_TIMEOUT_S * AP_NS_PER_SEC;
        pthread_mutex_lock(&api->lock);
        entry->next = api->connections;
        if (entry->next != NULL)
            entry->next->prev = entry;
        api->connections = entry;
        api->connection_cnt++;
        pthread_mutex_unlock(&api->lock);
        *socket_context = entry;
    } else if (entry != NULL) {
        pthread_mutex_lock(&api->lock);
        if (entry->prev != NULL)
            entry->prev->next = entry->next;
        else
            api->connections = entry->next;
        if (entry->next != NULL)
            entry->next->prev = entry->prev;
        api->connection_cnt--;
        pthread_mutex_unlock(&api->lock);
        *socket_context = NULL;
        free(entry);
    }
}

/* Cuts off clients that are past their deadline: libmicrohttpd's timeout ends with every byte. */
static void *watch(void *arg)
{
    struct ap_api *api = arg;

    pthread_mutex_lock(&api->lock);
    while (!api->end_watch) {
        uint64_t now_ns = ap_clock_monotonic_ns(), next_ns = now_ns + WATCH_NS;
        struct timespec next = {(time_t)(next_ns / AP_NS_PER_SEC), (long)(next_ns % AP_NS_PER_SEC)};

        for (struct ap_api_connection *entry = api->connections; entry != NULL; entry = entry->next) {
            if (entry->deadline_ns == 0 || entry->deadline_ns > now_ns)
                continue;
            shutdown(entry->fd, SHUT_RDWR);
            entry->deadline_ns = 0;
            atomic_fetch_add(&api->refused_slow, 1);
        }
        pthread_cond_timedwait(&api->changed, &api->lock, &next);
    }
    pthread_mutex_unlock(&api->lock);
    return NULL;
}

/* ---- Start and stop ------------------------------------------------------------------------------------------------
 */

/* "HOST:PORT", "[ADDRESS]:PORT", ":PORT". 0 or -EINVAL with words. */
static int split_listen(const char *listen_on, char host[256], char port[8], struct ap_error *err)
{
    const char *colon = strrchr(listen_on, ':'), *start = listen_on, *end = colon;

    if (colon == NULL || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) || strtoul(colon + 1, NULL, 10) > 65535)
        return ap_error_set(err, -EINVAL, "'%s' is no address to listen on: use ADDRESS:PORT, as 127.0.0.1:9090",
                            listen_on);
    if (*start == '[' && end > start && end[-1] == ']') {
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start)) != NULL) {
        return ap_error_set(err, -EINVAL, "'%s': write an IPv6 address in brackets, as [::1]:9090", listen_on);
    }
    (void)snprintf(host, 256, "%.*s", (int)(end - start), start);
    (void)snprintf(port, 8, "%s", colon + 1);
    return 0;
}

/* Descriptor or negative errno with words. */
static int listen_at(const struct addrinfo *info, const char *listen_on, struct ap_error *err)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, zero = 0;
    int r = fd < 0 ? -errno : 0;

    if (r == 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (info->ai_family == AF_INET6) /* [::] takes IPv4 as well */
            (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
        if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
            r = -errno;
    }
    if (r == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    if (r == -EADDRINUSE)
        return ap_error_set(err, r, "cannot listen on %s: another program has this port; stop it or choose another",
                            listen_on);
    if (r == -EACCES)
        return ap_error_set(err, r, "cannot listen on %s: ports below 1024 need more rights", listen_on);
    if (r == -EADDRNOTAVAIL)
        return ap_error_set(err, r, "cannot listen on %s: this machine does not have that address", listen_on);
    return ap_error_errno(err, r, "cannot listen on %s", listen_on);
}

static int open_listener(struct ap_api *api, const char *listen_on, struct ap_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } address = {0};
    socklen_t len = sizeof(address);
    char host[256] = "", port[8] = "";
    int r = split_listen(listen_on, host, port, err);

    if (r != 0)
        return r;
    r = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
    if (r != 0)
        return ap_error_set(err, -EINVAL, "cannot listen on %s: %s", listen_on, gai_strerror(r));
    r = listen_at(list, listen_on, err);
    freeaddrinfo(list);
    if (r < 0)
        return r;
    api->listen_fd = r;
    if (getsockname(api->listen_fd, &address.any, &len) != 0)
        return ap_error_errno(err, -errno, "cannot listen on %s", listen_on);
    api->port = ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port);
    return 0;
}

/* Text of a PEM file, the caller's; NULL with words. */
static char *read_pem(const char *path, const char *what, struct ap_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct ap_buf buf;
    ssize_t len = fd < 0 ? -1 : 1;
    int code;

    ap_buf_init(&buf, PEM_SZ);
    while (len > 0) {
        void *room = ap_buf_reserve(&buf, 4096);

        len = room != NULL ? read(fd, room, 4096) : -1;
        if (len > 0)
            buf.len += (size_t)len;
    }
    code = buf.error != 0 ? buf.error : -errno;
    if (fd >= 0)
        close(fd);
    if (len == 0) {
        ap_buf_char(&buf, '\0');
        return buf.data;
    }
    ap_error_errno(err, code, "cannot read the %s \"%s\"", what, path);
    ap_buf_done(&buf);
    return NULL;
}

struct pem {
    char *cert, *key, *ca;
};

/* libmicrohttpd says nothing but no; this says why. */
static int check_pem(const struct pem *pem, const struct ap_api_opts *opts, struct ap_error *err)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t cert = {(unsigned char *)pem->cert, (unsigned)strlen(pem->cert)};
    gnutls_datum_t key = {(unsigned char *)pem->key, (unsigned)strlen(pem->key)};
    int r = gnutls_certificate_allocate_credentials(&credentials);

    if (r < 0)
        return ap_error_set(err, -ENOMEM, "out of memory");
    r = gnutls_certificate_set_x509_key_mem(credentials, &cert, &key, GNUTLS_X509_FMT_PEM);
    if (r < 0) {
        gnutls_certificate_free_credentials(credentials);
        return ap_error_set(err, -EINVAL, "certificate \"%s\" with key \"%s\": %s", opts->tls_cert, opts->tls_key,
                            gnutls_strerror(r));
    }
    if (pem->ca != NULL) {
        gnutls_datum_t ca = {(unsigned char *)pem->ca, (unsigned)strlen(pem->ca)};

        r = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
    }
    gnutls_certificate_free_credentials(credentials);
    if (pem->ca != NULL && r <= 0)
        return ap_error_set(err, -EINVAL, "authorities \"%s\": no certificate in it", opts->tls_ca);
    return 0;
}

static int read_pems(const struct ap_api_opts *opts, struct pem *pem, struct ap_error *err)
{
    if (opts->tls_cert == NULL && opts->tls_key == NULL && opts->tls_ca == NULL)
        return 0;
    if (opts->tls_cert == NULL || opts->tls_key == NULL)
        return ap_error_set(err, -EINVAL, "TLS needs both a certificate and its key");
    pem->cert = read_pem(opts->tls_cert, "certificate", err);
    pem->key = pem->cert != NULL ? read_pem(opts->tls_key, "key", err) : NULL;
    if (pem->key != NULL && opts->tls_ca != NULL)
        pem->ca = read_pem(opts->tls_ca, "authorities", err);
    if (pem->key == NULL || (opts->tls_ca != NULL && pem->ca == NULL))
        return err != NULL ? err->code : -EINVAL;
    return check_pem(pem, opts, err);
}

static void free_pems(struct pem *pem)
{
    free(pem->cert);
    if (pem->key != NULL)
        explicit_bzero(pem->key, strlen(pem->key));
    free(pem->key);
    free(pem->ca);
}

__attribute__((format(printf, 2, 0))) static void on_message(void *ctx, const char *fmt, va_list args)
{
    struct ap_api *api = ctx;

    if (!atomic_load(&api->serving))
        (void)vsnprintf(api->mhd_message, sizeof(api->mhd_message), fmt, args);
}

static unsigned clamp(long value, unsigned max)
{
    return value < 1 ? 1 : value > (long)max ? max : (unsigned)value;
}

static int start_daemon(struct ap_api *api, struct pem *pem, struct ap_error *err)
{
    unsigned threads = clamp(sysconf(_SC_NPROCESSORS_ONLN) / 2, THREADS_MAX);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, pem->cert},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, pem->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
        {pem->ca != NULL ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, pem->ca},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem pool[] = {{MHD_OPTION_THREAD_POOL_SIZE, threads, NULL}, {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};

    api->tls = pem->cert != NULL;
    api->mutual_tls = pem->ca != NULL;
    api->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG |
            (api->tls ? MHD_USE_TLS : 0),
        0, NULL, NULL, on_request, api, MHD_OPTION_EXTERNAL_LOGGER, on_message, api, MHD_OPTION_LISTEN_SOCKET,
        api->listen_fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)AP_API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)AP_API_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_SZ, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, api, MHD_OPTION_NOTIFY_COMPLETED, on_completed, api,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, api, MHD_OPTION_ARRAY, threads > 1 ? pool : none, MHD_OPTION_ARRAY,
        api->tls ? tls : none, MHD_OPTION_END);
    if (api->daemon == NULL)
        return ap_error_set(err, -EINVAL, "cannot start the HTTP server: %s",
                            api->mhd_message[0] != '\0' ? api->mhd_message : "libmicrohttpd refuses");
    atomic_store(&api->serving, true);
    api->listen_fd = -1; /* libmicrohttpd's now */
    return 0;
}

static int start_lanes(struct ap_api *api, unsigned workers, struct ap_error *err)
{
    const struct {
        unsigned threads;
        size_t max;
    } lanes[AP_API_LANE_CNT] = {
        [AP_API_LANE_QUICK] = {QUICK_THREADS, AP_API_JOBS_MAX},
        [AP_API_LANE_QUERY] = {workers != 0 ? workers : clamp(2 * sysconf(_SC_NPROCESSORS_ONLN), WORKERS_MAX),
                               AP_API_JOBS_MAX},
        [AP_API_LANE_IMPORT] = {IMPORT_THREADS, IMPORTS_MAX},
    };

    for (unsigned i = AP_API_LANE_QUICK; i < AP_API_LANE_CNT; i++) {
        api->lanes[i] = ap_api_jobs_new(lanes[i].threads, lanes[i].max, run_job, err);
        if (api->lanes[i] == NULL)
            return err != NULL ? err->code : -ENOMEM;
    }
    int r = pthread_create(&api->watch, NULL, watch, api);
    if (r != 0)
        return ap_error_errno(err, -r, "cannot start a thread of the HTTP server");
    api->watch_started = true;
    return 0;
}

struct ap_api *ap_api_new(const struct ap_api_opts *opts, struct ap_error *err)
{
    struct ap_api *api = calloc(1, sizeof(*api));
    pthread_condattr_t attr;
    struct pem pem = {0};
    int r = 0;

    if (api == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    api->listen_fd = -1;
    api->query = opts->query;
    api->ops = opts->ops;
    api->ctx = opts->ctx;
    api->started_ns = ap_clock_realtime_ns();
    pthread_mutex_init(&api->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&api->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (opts->ui_dir != NULL) {
        api->ui_dir = realpath(opts->ui_dir, NULL);
        if (api->ui_dir == NULL)
            r = ap_error_errno(err, -errno, "cannot serve the folder \"%s\"", opts->ui_dir);
    }
    if (r == 0)
        r = read_pems(opts, &pem, err);
    if (r == 0)
        r = open_listener(api, opts->listen, err);
    if (r == 0)
        r = start_lanes(api, opts->workers, err);
    if (r == 0)
        r = start_daemon(api, &pem, err);
    free_pems(&pem);
    return r == 0 ? api : ap_api_free(api);
}

unsigned ap_api_port(const struct ap_api *api)
{
    return api->port;
}

/* Waits until no request is in progress. */
static void wait_idle(struct ap_api *api, uint64_t grace_ns)
{
    uint64_t end_ns = ap_clock_monotonic_ns() + grace_ns;
    struct timespec end = {(time_t)(end_ns / AP_NS_PER_SEC), (long)(end_ns % AP_NS_PER_SEC)};

    pthread_mutex_lock(&api->lock);
    while (api->active != NULL && ap_clock_monotonic_ns() < end_ns)
        pthread_cond_timedwait(&api->changed, &api->lock, &end);
    pthread_mutex_unlock(&api->lock);
}

/* Lets go of jobs: their connections are answered without them. */
static void abandon(struct ap_api *api)
{
    struct ap_api_request *request;

    pthread_mutex_lock(&api->lock);
    for (request = api->active; request != NULL; request = request->next) {
        if (!request->queued || request->done || request->abandoned)
            continue;
        request->abandoned = true;
        MHD_resume_connection(request->connection);
    }
    pthread_mutex_unlock(&api->lock);
    for (unsigned i = AP_API_LANE_QUICK; i < AP_API_LANE_CNT; i++)
        while (api->lanes[i] != NULL && (request = ap_api_jobs_take(api->lanes[i])) != NULL)
            ap_api_request_unref(request);
}

/* How long the answers of abandoned requests may take to be sent. */
#define FAREWELL_NS (AP_NS_PER_SEC / 2)

void ap_api_stop(struct ap_api *api, uint64_t grace_ns)
{
    MHD_socket fd = MHD_INVALID_SOCKET;
    bool stopped;

    pthread_mutex_lock(&api->lock);
    stopped = api->stopped;
    api->stopped = api->stopping = true;
    pthread_mutex_unlock(&api->lock);
    if (stopped || api->daemon == NULL)
        return;
    fd = MHD_quiesce_daemon(api->daemon);
    if (fd != MHD_INVALID_SOCKET)
        close(fd);
    wait_idle(api, grace_ns);
    abandon(api);
    wait_idle(api, FAREWELL_NS);
    MHD_stop_daemon(api->daemon);
    api->daemon = NULL;
}

struct ap_api *ap_api_free(struct ap_api *api)
{
    if (api == NULL)
        return NULL;
    ap_api_stop(api, 0);
    for (unsigned i = AP_API_LANE_QUICK; i < AP_API_LANE_CNT; i++)
        ap_api_jobs_free(api->lanes[i]);
    if (api->watch_started) {
        pthread_mutex_lock(&api->lock);
        api->end_watch = true;
        pthread_cond_broadcast(&api->changed);
        pthread_mutex_unlock(&api->lock);
        pthread_join(api->watch, NULL);
    }
    if (api->listen_fd >= 0)
        close(api->listen_fd);
    pthread_cond_destroy(&api->changed);
    pthread_mutex_destroy(&api->lock);
    free(api->ui_dir);
    free(api);
    return NULL;
}

void ap_api_stats(struct ap_api *api, struct ap_api_stats *ret_stats)
{
    *ret_stats = (struct ap_api_stats){
        .requests = atomic_load(&api->requests),
        .errors_4xx = atomic_load(&api->errors_4xx),
        .errors_5xx = atomic_load(&api->errors_5xx),
        .refused_auth = atomic_load(&api->refused_auth),
        .refused_busy = atomic_load(&api->refused_busy),
        .refused_size = atomic_load(&api->refused_size),
        .refused_slow = atomic_load(&api->refused_slow),
    };
    pthread_mutex_lock(&api->lock);
    ret_stats->connections = api->connection_cnt;
    pthread_mutex_unlock(&api->lock);
}
