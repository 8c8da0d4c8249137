/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The server with real storage, asked over a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"
#include "core/clock.h"
#include "storage/storage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
    struct ap_storage *storage;
    struct ap_query *query;
    struct ap_api *api;
    atomic_int asked; /* for authorization */
    atomic_bool write;
    int status;
    char what[64], peer[64];
};

static int authorize(void *ctx, const char *authorization, bool write, const char *what, const char *peer)
{
    struct fixture *fixture = ctx;

    atomic_fetch_add(&fixture->asked, 1);
    atomic_store(&fixture->write, write);
    (void)snprintf(fixture->what, sizeof(fixture->what), "%s", what);
    (void)snprintf(fixture->peer, sizeof(fixture->peer), "%s", peer);
    return authorization != NULL ? 200 : fixture->status;
}

static void audit(void *ctx, const char *what, const char *peer, const char *detail)
{
    (void)ctx;
    (void)what;
    (void)peer;
    (void)detail;
}

static void metrics(void *ctx, struct ap_out *out)
{
    (void)ctx;
    ap_out_str(out, "one 1\n");
}

static int ready(void *ctx, struct ap_error *err)
{
    struct fixture *fixture = ctx;

    return ap_storage_ready(fixture->storage, err);
}

static int import(void *ctx, struct ap_push *push, struct ap_error *err)
{
    (void)ctx;
    ap_push_free(push);
    return ap_error_set(err, -ENOSPC, "the disk is full");
}

static int recent(void *ctx, const struct ap_selector *selector, size_t limit, struct ap_batches_answer *ret,
                  struct ap_error *err)
{
    struct fixture *fixture = ctx;

    return ap_query_batches(fixture->query, selector, limit, ret, err);
}

static void health(void *ctx, struct ap_out *out)
{
    (void)ctx;
    ap_out_str(out, ",\"more\":1");
}

static const struct ap_api_ops ops = {authorize, audit, metrics, ready, import, recent, health};

static int setup(void **state)
{
    const struct ap_storage_opts storage = {.kind = AP_STORAGE_MEMORY, .memory_sz = 1 << 20};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct ap_error err;

    assert_non_null(fixture);
    fixture->status = 200;
    fixture->storage = ap_storage_open(&storage, &err);
    assert_non_null(fixture->storage);
    fixture->query = ap_query_new(fixture->storage);
    const struct ap_api_opts opts = {
        .listen = "127.0.0.1:0", .workers = 2, .query = fixture->query, .ops = &ops, .ctx = fixture};
    fixture->api = ap_api_new(&opts, &err);
    if (fixture->api == NULL)
        fail_msg("%s", err.text);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    assert_null(ap_api_free(fixture->api));
    ap_query_free(fixture->query);
    ap_storage_free(fixture->storage);
    free(fixture);
    return 0;
}

static int dial(const struct fixture *fixture)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)ap_api_port(fixture->api)),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    return connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ? fd : (close(fd), -1);
}

/* The answer to one request, whose connection is closed after it. */
static void ask(const struct fixture *fixture, const char *head, char answer[65536])
{
    int fd = dial(fixture);
    size_t len = 0;
    ssize_t got;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, head, strlen(head)), strlen(head));
    assert_int_equal(write(fd, "Host: x\r\nConnection: close\r\n\r\n", 30), 30);
    while ((got = read(fd, answer + len, 65535 - len)) > 0)
        len += (size_t)got;
    answer[len] = '\0';
    close(fd);
}

static void test_endpoints(void **state)
{
    static const struct {
        const char *request, *status, *text;
    } cases[] = {
        {"GET /healthz HTTP/1.1\r\n", "200", "ok\n"},
        {"GET /readyz HTTP/1.1\r\n", "200", "ready\n"},
        {"GET /metrics HTTP/1.1\r\n", "200", "one 1\n"},
        {"GET /api/health HTTP/1.1\r\n", "200", ",\"more\":1}"},
        {"GET /api/top HTTP/1.1\r\n", "200", "\"functions\":[]"},
        {"GET /api/labels/host/values HTTP/1.1\r\n", "200", "\"values\":[]"},
        {"GET /api/flamegraph HTTP/1.1\r\n", "200", "\"samples\":0"},
        {"GET /api/gone HTTP/1.1\r\n", "404", "not_found"},
        {"GET / HTTP/1.1\r\n", "404", "/api/"},
        {"DELETE /api/top HTTP/1.1\r\n", "405", "Allow: GET"},
    };
    char answer[65536];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask(*state, cases[i].request, answer);
        if (strncmp(answer + 9, cases[i].status, 3) != 0 || strstr(answer, cases[i].text) == NULL)
            fail_msg("%s: %s", cases[i].request, answer);
        assert_non_null(strstr(answer, "X-Content-Type-Options: nosniff"));
    }
}

static void test_who_is_asked(void **state)
{
    struct fixture *fixture = *state;
    struct ap_api_stats stats;
    char answer[65536];

    ask(fixture, "GET /healthz HTTP/1.1\r\n", answer);
    assert_int_equal(atomic_load(&fixture->asked), 0);
    fixture->status = 401;
    ask(fixture, "GET /api/top?limit=1 HTTP/1.1\r\n", answer);
    assert_non_null(strstr(answer, "401 Unauthorized"));
    assert_non_null(strstr(answer, "WWW-Authenticate: Bearer"));
    assert_int_equal(atomic_load(&fixture->asked), 1);
    assert_false(atomic_load(&fixture->write));
    assert_string_equal(fixture->what, "GET /api/top");
    assert_memory_equal(fixture->peer, "127.0.0.1:", 10);
    fixture->status = 403;
    ask(fixture, "POST /api/import HTTP/1.1\r\nContent-Length: 0\r\n", answer);
    assert_non_null(strstr(answer, "403 Forbidden"));
    assert_true(atomic_load(&fixture->write));
    ask(fixture, "GET /api/top HTTP/1.1\r\nAuthorization: x\r\n", answer);
    assert_non_null(strstr(answer, "200 OK"));
    ap_api_stats(fixture->api, &stats);
    assert_int_equal(stats.requests, 4);
    assert_int_equal(stats.refused_auth, 2);
    assert_int_equal(stats.errors_4xx, 2);
    assert_int_equal(stats.errors_5xx, 0);
}

static void test_stop(void **state)
{
    struct fixture *fixture = *state;
    int idle = dial(fixture), fd;
    uint64_t start_ns = ap_clock_monotonic_ns();
    char byte;

    ap_api_stop(fixture->api, AP_NS_PER_SEC);
    assert_true(ap_clock_monotonic_ns() - start_ns < AP_NS_PER_SEC); /* nothing was in progress */
    assert_true(read(idle, &byte, 1) <= 0);
    fd = dial(fixture);
    assert_int_equal(fd, -1);
    ap_api_stop(fixture->api, AP_NS_PER_SEC);
    close(idle);
}

static void test_what_cannot_start(void **state)
{
    struct fixture *fixture = *state;
    struct ap_api_opts opts = {.query = fixture->query, .ops = &ops, .ctx = fixture};
    char taken[32];
    struct {
        const char *listen, *cert, *key, *ui, *words;
    } cases[] = {
        {taken, NULL, NULL, NULL, "another program has this port"},
        {"localhost", NULL, NULL, NULL, "ADDRESS:PORT"},
        {"::1:0", NULL, NULL, NULL, "brackets"},
        {"192.0.2.1:0", NULL, NULL, NULL, "does not have that address"},
        {"127.0.0.1:0", "/nonexistent", NULL, NULL, "both a certificate and its key"},
        {"127.0.0.1:0", "/nonexistent", "/nonexistent", NULL, "cannot read the certificate"},
        {"127.0.0.1:0", NULL, NULL, "/nonexistent", "cannot serve the folder"},
    };

    (void)snprintf(taken, sizeof(taken), "127.0.0.1:%u", ap_api_port(fixture->api));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_error err = {0};

        opts.listen = cases[i].listen;
        opts.tls_cert = cases[i].cert;
        opts.tls_key = cases[i].key;
        opts.ui_dir = cases[i].ui;
        assert_null(ap_api_new(&opts, &err));
        assert_true(err.code < 0);
        if (strstr(err.text, cases[i].words) == NULL)
            fail_msg("\"%s\" says nothing of %s", err.text, cases[i].words);
    }
    assert_null(ap_api_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_endpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_start, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
