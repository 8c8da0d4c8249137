/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

/* A server that is none of ours: answers each connection with a text and hangs up, or keeps it open. */
struct stranger {
    int fd;
    unsigned port;
    const char *text;
    bool silent;
    pthread_t thread;
};

static void *stranger_run(void *arg)
{
    struct stranger *stranger = (struct stranger *)arg;
    int kept[64], cnt = 0, fd;
    char buf[512];

    while (cnt < 64 && (fd = accept(stranger->fd, NULL, NULL)) >= 0) {
        if (!stranger->silent) {
            /* A connection that gRPC opened and then forgot must not hold up the others. */
            struct timeval patience = {.tv_usec = 100000};

            (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
            (void)!recv(fd, buf, sizeof(buf), 0);
            (void)!send(fd, stranger->text, strlen(stranger->text), MSG_NOSIGNAL);
            (void)shutdown(fd, SHUT_WR);
        }
        kept[cnt++] = fd;
    }
    while (cnt > 0)
        (void)close(kept[--cnt]);
    return NULL;
}

static void stranger_start(struct stranger *stranger, const char *text)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t len = sizeof(name);

    *stranger = (struct stranger){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .text = text, .silent = !text};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(stranger->fd, (struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(stranger->fd, 64), 0);
    assert_int_equal(getsockname(stranger->fd, (struct sockaddr *)&name, &len), 0);
    stranger->port = ntohs(name.sin_port);
    assert_int_equal(pthread_create(&stranger->thread, NULL, stranger_run, stranger), 0);
}

static void stranger_end(struct stranger *stranger)
{
    (void)shutdown(stranger->fd, SHUT_RDWR);
    assert_int_equal(pthread_join(stranger->thread, NULL), 0);
    (void)close(stranger->fd);
}

static int call_endpoint(const char *endpoint, uint64_t timeout_ns, struct ap_error *err)
{
    struct ap_rpc_client_opts opts = {.endpoint = endpoint};
    struct ap_rpc_client *client = ap_rpc_client_new(&opts, err);
    struct ap_buf buf;

    if (!client)
        fail_msg("%s", err->text);
    ap_buf_init(&buf, 100);
    int status = ap_rpc_client_call(client, ECHO, "x", 1, timeout_ns, &buf, err);
    ap_buf_done(&buf);
    ap_rpc_client_free(client);
    return status;
}

static void test_nobody_there(void **state)
{
    struct ap_error err = {0};
    struct stranger stranger;
    char endpoint[64];

    (void)state;
    stranger_start(&stranger, "");
    stranger_end(&stranger); /* a port that nobody has */
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "cannot reach http://127.0.0.1:");
    ASSERT_SAYS(err, "connection refused; is aperture-aggregator running there?");
    assert_int_equal(err.code, -ECONNREFUSED);
    assert_int_equal(call_endpoint("http://no-such-host.invalid:1", LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the host \"no-such-host.invalid\" cannot be found");
    assert_int_equal(call_endpoint("unix:/no/such/socket", LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "there is no such socket");
}

static void test_somebody_else_there(void **state)
{
    struct ap_error err = {0};
    struct stranger stranger;
    char endpoint[64];

    (void)state;
    stranger_start(&stranger, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "a server of HTTP/1 answers, not one of gRPC");
    (void)snprintf(endpoint, sizeof(endpoint), "https://localhost:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server does not speak TLS; try http://");
    stranger_end(&stranger);

    stranger_start(&stranger, "220 mail.example ESMTP\r\n");
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "somebody answers, but not in gRPC");
    stranger_end(&stranger);

    stranger_start(&stranger, "");
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, LONG_NS, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server hangs up at once");
    stranger_end(&stranger);
}

static void test_silence(void **state)
{
    struct ap_error err = {0};
    struct stranger stranger;
    char endpoint[64];

    (void)state;
    stranger_start(&stranger, NULL);
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", stranger.port);
    assert_int_equal(call_endpoint(endpoint, SHORT_NS, &err), AP_RPC_DEADLINE_EXCEEDED);
    ASSERT_SAYS(err, "cannot reach http://127.0.0.1:");
    stranger_end(&stranger);
}

static void test_options(void **state)
{
    static const struct {
        struct ap_rpc_client_opts opts;
        const char *words;
    } bad[] = {
        {{.endpoint = "127.0.0.1:1"}, "begins with http://"},
        {{.endpoint = "http://a", .token = ""}, "the token is empty"},
        {{.endpoint = "http://a", .token = "a\nb"}, "cannot be sent"},
        {{.endpoint = "http://a", .tls = {.ca = "/ca"}}, "for https:// only"},
        {{.endpoint = "https://a", .tls = {.ca = "/no/such/ca"}}, "cannot read /no/such/ca: No such file"},
        {{.endpoint = "https://a", .tls = {.ca = "/dev/zero"}}, "larger than 4 MiB"},
        {{.endpoint = "https://a", .tls = {.cert = "/c"}}, "needs its private key"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ap_error err = {0};

        assert_null(ap_rpc_client_new(&bad[i].opts, &err));
        ASSERT_SAYS(err, bad[i].words);
        assert_true(err.code < 0);
    }
}

static void test_server_comes_back(void **state)
{
    struct ap_error err = {0};
    char listen[64];
    struct site site, next = {0};

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", ap_rpc_server_port(site.server));
    for (int i = 0; i < 3; i++) {
        struct ap_rpc_server_opts opts = site_opts(&next);

        ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
        site_end(i == 0 ? &site : &next);
        /* Many failures must not make it try less often. */
        for (int k = 0; k < 20; k++)
            assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_UNAVAILABLE);
        opts.listen = listen;
        site_start_with(&next, &opts);
        uint64_t start = ap_clock_monotonic_ns();
        ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
        assert_true(ap_clock_monotonic_ns() - start < 5 * AP_NS_PER_SEC);
    }
    ap_rpc_client_free(client);
    site_end(&next);
}

static void test_restart_between_calls(void **state)
{
    struct ap_error err = {0};
    char listen[64];
    struct site site, next = {0};

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", ap_rpc_server_port(site.server));
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    site_end(&site);
    struct ap_rpc_server_opts opts = site_opts(&next);
    opts.listen = listen;
    site_start_with(&next, &opts);
    /* The client did not look while the server was away; at most one call fails. */
    int status = call_text(client, ECHO, "", NULL, &err);
    assert_true(status == AP_RPC_OK || status == AP_RPC_UNAVAILABLE);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    ap_rpc_client_free(client);
    site_end(&next);
}

static void test_cancel_before(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    ap_rpc_client_cancel(client);
    ap_rpc_client_cancel(client);
    assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_CANCELLED);
    assert_string_equal(err.text, "cancelled");
    ap_rpc_client_free(client);
    site_end(&site);
}

struct shared {
    struct ap_rpc_client *client;
    atomic_int failed;
};

static void *share_run(void *arg)
{
    struct shared *shared = (struct shared *)arg;
    char answer[256];

    for (int i = 0; i < 50; i++)
        if (call_text(shared->client, ECHO, "text", answer, NULL) != AP_RPC_OK || strcmp(answer, "text") != 0)
            atomic_fetch_add(&shared->failed, 1);
    return NULL;
}

static void test_threads_share_a_client(void **state)
{
    struct shared shared;
    pthread_t threads[4];
    struct site site;

    (void)state;
    site_start(&site);
    shared.client = site_client(&site);
    atomic_init(&shared.failed, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, share_run, &shared), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&shared.failed), 0);
    ap_rpc_client_free(shared.client);
    site_end(&site);
}

static void test_status_names(void **state)
{
    (void)state;
    assert_string_equal(ap_rpc_status_name(AP_RPC_OK), "OK");
    assert_string_equal(ap_rpc_status_name(AP_RPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(ap_rpc_status_name(AP_RPC_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
    assert_string_equal(ap_rpc_status_name(99), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_there),      cmocka_unit_test(test_somebody_else_there),
        cmocka_unit_test(test_silence),           cmocka_unit_test(test_options),
        cmocka_unit_test(test_server_comes_back), cmocka_unit_test(test_restart_between_calls),
        cmocka_unit_test(test_cancel_before),     cmocka_unit_test(test_threads_share_a_client),
        cmocka_unit_test(test_status_names),
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
