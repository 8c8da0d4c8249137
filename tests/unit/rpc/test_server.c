/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define TOKEN_READ  "reader"
#define TOKEN_WRITE "writer"

static void test_echo(void **state)
{
    static const size_t sizes[] = {0, 1, 4500, 65536, 20u << 20};
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    struct ap_buf buf;
    struct site site;

    (void)state;
    site_start(&site);
    assert_true(ap_rpc_server_port(site.server) > 0);
    struct ap_rpc_client *client = site_client(&site);
    uint8_t *data = (uint8_t *)malloc(sizes[4]);
    for (size_t i = 0; i < sizes[4]; i++)
        data[i] = (uint8_t)(i * 7 + i / 1000);
    ap_buf_init(&buf, AP_RPC_MESSAGE_SZ);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ASSERT_STATUS(ap_rpc_client_call(client, ECHO, data, sizes[i], LONG_NS, &buf, &err), AP_RPC_OK, err);
        assert_int_equal(buf.len, sizes[i]);
        assert_true(buf.len == 0 || memcmp(buf.data, data, buf.len) == 0);
    }
    WAIT_FOR((ap_rpc_server_stats(site.server, &stats), stats.in_progress == 0));
    assert_int_equal(stats.calls, 5);
    assert_int_equal(stats.refused_auth + stats.refused_busy + stats.refused_size + stats.refused_connections, 0);
    assert_int_equal(site.peers_seen, 5);
    ap_buf_done(&buf);
    free(data);
    ap_rpc_client_free(client);
    site_end(&site);
}

struct caller {
    struct site *site;
    int failed;
};

static void *call_later(void *arg)
{
    struct caller *caller = (struct caller *)arg;
    struct ap_rpc_client *client = site_client(caller->site);
    char answer[256], text[32];

    for (int i = 0; i < 50; i++) {
        (void)snprintf(text, sizeof(text), "%p %d", arg, i);
        caller->failed |= call_text(client, LATER, text, answer, NULL) != AP_RPC_OK || strcmp(answer, text) != 0;
    }
    ap_rpc_client_free(client);
    return NULL;
}

static void test_answers_later_from_other_threads(void **state)
{
    struct caller callers[4];
    pthread_t threads[4];
    struct site site;

    (void)state;
    site_start(&site);
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){.site = &site};
        assert_int_equal(pthread_create(&threads[i], NULL, call_later, &callers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].failed, 0);
    }
    site_end(&site);
}

static void test_statuses(void **state)
{
    static const char statuses[] = {AP_RPC_CANCELLED,           AP_RPC_UNKNOWN,        AP_RPC_INVALID_ARGUMENT,
                                    AP_RPC_NOT_FOUND,           AP_RPC_OUT_OF_RANGE,   AP_RPC_RESOURCE_EXHAUSTED,
                                    AP_RPC_PERMISSION_DENIED,   AP_RPC_UNAVAILABLE,    AP_RPC_INTERNAL,
                                    AP_RPC_FAILED_PRECONDITION, AP_RPC_UNAUTHENTICATED};
    struct ap_error err = {0};
    struct site site;

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    for (size_t i = 0; i < sizeof(statuses); i++) {
        char text[2] = {statuses[i], '\0'};

        assert_int_equal(call_text(client, FAIL, text, NULL, &err), statuses[i]);
        ASSERT_SAYS(err, "as you wish");
        ASSERT_SAYS(err, "http://127.0.0.1:");
        assert_true(err.code < 0);
    }
    assert_int_equal(call_text(client, "/test.Echo/Nothing", "", NULL, &err), AP_RPC_UNIMPLEMENTED);
    ASSERT_SAYS(err, "/test.Echo/Nothing");
    assert_int_equal(call_text(client, "/", "", NULL, &err), AP_RPC_UNIMPLEMENTED);
    assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK);
    ap_rpc_client_free(client);
    site_end(&site);
}

static int authorize(void *ctx, const char *authorization, bool write, const char *method, const char *peer)
{
    (void)ctx;
    assert_true(method[0] == '/' && strncmp(peer, "ipv4:127.0.0.1:", 15) == 0);
    if (authorization && strcmp(authorization, "Bearer " TOKEN_WRITE) == 0)
        return AP_RPC_OK;
    if (authorization && strcmp(authorization, "Bearer " TOKEN_READ) == 0)
        return write ? AP_RPC_PERMISSION_DENIED : AP_RPC_OK;
    return AP_RPC_UNAUTHENTICATED;
}

static int call_with(const struct site *site, const char *token, const char *method, struct ap_error *err)
{
    struct ap_rpc_client *client = site_client_with(site, "http://127.0.0.1", NULL, token);
    int status = call_text(client, method, "x", NULL, err);

    ap_rpc_client_free(client);
    return status;
}

static void test_tokens(void **state)
{
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);

    (void)state;
    opts.authorize = authorize;
    site_start_with(&site, &opts);
    assert_int_equal(call_with(&site, NULL, ECHO, &err), AP_RPC_UNAUTHENTICATED);
    ASSERT_SAYS(err, "wants a token (APERTURE_AUTH_TOKEN)");
    assert_int_equal(call_with(&site, "wrong", ECHO, &err), AP_RPC_UNAUTHENTICATED);
    ASSERT_SAYS(err, "does not accept this token");
    assert_null(strstr(err.text, "wrong"));
    assert_int_equal(call_with(&site, TOKEN_READ, ECHO, &err), AP_RPC_OK);
    assert_int_equal(call_with(&site, TOKEN_READ, WRITE, &err), AP_RPC_PERMISSION_DENIED);
    ASSERT_SAYS(err, "does not allow this with this token");
    assert_int_equal(call_with(&site, TOKEN_WRITE, WRITE, &err), AP_RPC_OK);
    assert_int_equal(call_with(&site, NULL, OPEN, &err), AP_RPC_OK);
    assert_int_equal(call_with(&site, NULL, "/unknown", &err), AP_RPC_UNIMPLEMENTED);
    ap_rpc_server_stats(site.server, &stats);
    assert_int_equal(stats.refused_auth, 3);
    site_end(&site);
}

static int health(struct ap_rpc_client *client, const char *service, struct ap_error *err)
{
    char request[128], answer[256] = "";

    request[0] = 0x0A;
    request[1] = (char)strlen(service);
    (void)snprintf(request + 2, sizeof(request) - 2, "%s", service);
    int status = call_text(client, HEALTH, *service ? request : "", answer, err);
    return status == AP_RPC_OK ? 100 + answer[1] : status;
}

static void test_health(void **state)
{
    struct ap_error err = {0};
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);

    (void)state;
    opts.authorize = authorize; /* health needs no token */
    site_start_with(&site, &opts);
    struct ap_rpc_client *client = site_client(&site);
    assert_int_equal(health(client, "", &err), 101);
    assert_int_equal(health(client, "test.Echo", &err), 101);
    assert_int_equal(health(client, "test.Ech", &err), AP_RPC_NOT_FOUND);
    assert_int_equal(health(client, "test.Echo/Echo", &err), AP_RPC_NOT_FOUND);
    ap_rpc_server_set_serving(site.server, false);
    assert_int_equal(health(client, "", &err), 102);
    assert_int_equal(health(client, "test.Echo", &err), 102);
    ap_rpc_server_set_serving(site.server, true);
    assert_int_equal(health(client, "", &err), 101);
    assert_int_equal(call_text(client, HEALTH, "\x0a\x7fshort", NULL, &err), AP_RPC_INVALID_ARGUMENT);
    ap_rpc_client_free(client);
    site_end(&site);
}

/* A call in another thread. */
struct background {
    struct ap_rpc_client *client;
    const char *method;
    uint64_t timeout_ns;
    int status;
    struct ap_error err;
    pthread_t thread;
};

static void *background_run(void *arg)
{
    struct background *background = (struct background *)arg;
    struct ap_buf buf;

    ap_buf_init(&buf, 100);
    background->status = ap_rpc_client_call(background->client, background->method, "x", 1, background->timeout_ns,
                                            &buf, &background->err);
    ap_buf_done(&buf);
    return NULL;
}

static void background_start(struct background *background, const struct site *site, uint64_t timeout_ns)
{
    *background = (struct background){.client = site_client(site), .method = HANG, .timeout_ns = timeout_ns};
    assert_int_equal(pthread_create(&background->thread, NULL, background_run, background), 0);
}

static void background_end(struct background *background)
{
    assert_int_equal(pthread_join(background->thread, NULL), 0);
    ap_rpc_client_free(background->client);
}

static void test_cancel(void **state)
{
    struct background background;
    struct ap_error err = {0};
    struct site site;

    (void)state;
    site_start(&site);
    background_start(&background, &site, LONG_NS);
    WAIT_FOR(site_hanging(&site) == 1);
    assert_int_equal(site_release(&site, true), 0); /* not cancelled yet */
    ap_rpc_client_cancel(background.client);
    WAIT_FOR(site_release(&site, true) == 1); /* the handler sees it */
    assert_int_equal(pthread_join(background.thread, NULL), 0);
    assert_int_equal(background.status, AP_RPC_CANCELLED);
    assert_int_equal(background.err.code, -ECANCELED);
    assert_int_equal(call_text(background.client, ECHO, "", NULL, &err), AP_RPC_CANCELLED);
    ap_rpc_client_free(background.client);
    site_end(&site);
}

static void test_deadline(void **state)
{
    struct background background;
    struct site site;

    (void)state;
    site_start(&site);
    background_start(&background, &site, SHORT_NS);
    WAIT_FOR(site_release(&site, true) == 1);
    background_end(&background);
    assert_int_equal(background.status, AP_RPC_DEADLINE_EXCEEDED);
    ASSERT_SAYS(background.err, "no answer from http://127.0.0.1:");
    ASSERT_SAYS(background.err, "within 100");
    site_end(&site);
}

static void *stop_run(void *arg)
{
    struct site *site = (struct site *)arg;

    ap_rpc_server_stop(site->server, LONG_NS);
    return NULL;
}

static void test_stop_waits_for_calls(void **state)
{
    struct background background;
    struct ap_error err = {0};
    pthread_t stopper, other;
    struct site site;

    (void)state;
    site_start(&site);
    background_start(&background, &site, LONG_NS);
    WAIT_FOR(site_hanging(&site) == 1);
    struct ap_rpc_client *late = site_client(&site);
    assert_int_equal(pthread_create(&stopper, NULL, stop_run, &site), 0);
    assert_int_equal(pthread_create(&other, NULL, stop_run, &site), 0); /* waits for the first */
    WAIT_FOR(call_text(late, ECHO, "", NULL, &err) == AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "connection refused; is aperture-aggregator running there?");
    assert_int_equal(site_release(&site, false), 1);
    background_end(&background);
    ASSERT_STATUS(background.status, AP_RPC_OK, background.err);
    assert_int_equal(pthread_join(stopper, NULL), 0);
    assert_int_equal(pthread_join(other, NULL), 0);
    ap_rpc_client_free(late);
    site_end(&site);
}

static void *release_cancelled(void *arg)
{
    struct site *site = (struct site *)arg;

    WAIT_FOR(site_release(site, true) == 1);
    return NULL;
}

static void test_stop_cancels_calls_that_hang(void **state)
{
    struct background background;
    pthread_t releaser;
    struct site site;

    (void)state;
    site_start(&site);
    background_start(&background, &site, LONG_NS);
    WAIT_FOR(site_hanging(&site) == 1);
    assert_int_equal(pthread_create(&releaser, NULL, release_cancelled, &site), 0);
    uint64_t start = ap_clock_monotonic_ns();
    ap_rpc_server_stop(site.server, SHORT_NS);
    uint64_t took = ap_clock_monotonic_ns() - start;
    assert_true(took >= SHORT_NS && took < LONG_NS / 3);
    assert_int_equal(pthread_join(releaser, NULL), 0);
    background_end(&background);
    assert_true(background.status == AP_RPC_CANCELLED || background.status == AP_RPC_UNAVAILABLE);
    site_end(&site);
}

static void test_stop_does_not_wait_for_connections(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    uint64_t start = ap_clock_monotonic_ns();
    ap_rpc_server_stop(site.server, LONG_NS);
    assert_true(ap_clock_monotonic_ns() - start < LONG_NS / 3);
    ap_rpc_server_stop(site.server, LONG_NS); /* again */
    site_end(&site);
    ap_rpc_client_free(client);
}

static void test_addresses(void **state)
{
    static const struct {
        const char *listen, *words;
    } bad[] = {
        {"nonsense", "HOST:PORT"},
        {"192.0.2.1:0", "this host does not have that address"}, /* of documentation */
        {"no-such-host.invalid:0", "cannot listen on no-such-host.invalid"},
        {"unix:/no/such/folder/socket", "cannot listen on /no/such/folder/socket"},
    };
    struct site site = {0}, second = {0};
    char listen[64];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ap_rpc_server_opts opts = site_opts(&site);
        struct ap_error err = {0};

        opts.listen = bad[i].listen;
        assert_null(ap_rpc_server_new(&opts, &err));
        ASSERT_SAYS(err, bad[i].words);
        assert_true(err.code < 0);
    }
    site_start(&site);
    struct ap_rpc_server_opts opts = site_opts(&second);
    struct ap_error err = {0};
    (void)snprintf(listen, sizeof(listen), "127.0.0.1:%u", ap_rpc_server_port(site.server));
    opts.listen = listen;
    assert_null(ap_rpc_server_new(&opts, &err));
    ASSERT_SAYS(err, "the address is in use; does another program run there?");
    ASSERT_SAYS(err, listen);
    site_end(&site);
    site_start_with(&second, &opts); /* free again at once */
    site_end(&second);
}

static void test_ipv6_and_names(void **state)
{
    struct ap_error err = {0};
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof(name)) == 0;

    (void)state;
    (void)close(fd);
    opts.listen = ipv6 ? "[::1]:0" : "localhost:0";
    site_start_with(&site, &opts);
    struct ap_rpc_client *client = site_client_with(&site, ipv6 ? "http://[::1]" : "http://localhost", NULL, NULL);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    ap_rpc_client_free(client);
    client = site_client_with(&site, "http://localhost", NULL, NULL);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    ap_rpc_client_free(client);
    site_end(&site);
}

static void test_unix_socket(void **state)
{
    struct site site = {0}, second = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);
    struct ap_rpc_client_opts client_opts = {0};
    struct ap_error err = {0};
    char path[128], listen[160];
    struct stat st;

    (void)state;
    dir_make(site.dir);
    (void)snprintf(listen, sizeof(listen), "unix:%s", in_dir(path, site.dir, "a socket"));
    opts.listen = client_opts.endpoint = listen;
    site_start_with(&site, &opts);
    struct ap_rpc_client *client = ap_rpc_client_new(&client_opts, &err);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    assert_int_equal(site.peers_seen, 1);
    opts.ctx = &second;
    assert_null(ap_rpc_server_new(&opts, &err));
    ASSERT_SAYS(err, "is in use");
    site_end(&site);
    assert_int_equal(lstat(path, &st), -1); /* removed */
    assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "there is no such socket; is aperture-aggregator running?");

    /* A socket whose server was killed is replaced; a file is not. */
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(name.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    (void)close(fd);
    assert_int_equal(call_text(client, ECHO, "", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "connection refused");
    site_start_with(&second, &opts);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    site_end(&second);
    write_file(site.dir, "a socket", "precious");
    assert_null(ap_rpc_server_new(&opts, &err));
    assert_int_equal(lstat(path, &st), 0);
    ap_rpc_client_free(client);
    dir_remove(site.dir);
}

static int connect_fd(int fd, unsigned port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, (struct sockaddr *)&name, sizeof(name));
}

/* Takes all descriptors below `end`; at most 128. Returns how many those were. */
static int fill(int fds[128], int end)
{
    int cnt = 0;

    while (cnt < 128 && (fds[cnt] = dup(STDIN_FILENO)) >= 0) {
        if (fds[cnt] >= end) {
            (void)close(fds[cnt]);
            break;
        }
        cnt++;
    }
    return cnt;
}

/* Connections that come when there are few descriptors left are refused and counted; those that come when there are
 * none wait. The server lives through both. */
static void test_descriptors_run_out(void **state)
{
    struct rlimit limit, low;
    struct ap_rpc_server_stats stats;
    struct ap_error err = {0};
    struct site site;
    int fillers[128], sockets[2];

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 128; /* 96 for connections */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site), *later = site_client(&site);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
    for (int i = 0; i < 2; i++)
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    int cnt = fill(fillers, 96);
    assert_int_equal(connect_fd(sockets[0], ap_rpc_server_port(site.server)), 0);
    WAIT_FOR((ap_rpc_server_stats(site.server, &stats), stats.refused_connections == 1));
    cnt += fill(fillers + cnt, 128);
    assert_int_equal(connect_fd(sockets[1], ap_rpc_server_port(site.server)), 0);
    ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err); /* who was there before is served */
    assert_int_equal(call_text(later, ECHO, "", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "Too many open files");
    while (cnt > 0)
        (void)close(fillers[--cnt]);
    ASSERT_STATUS(call_text(later, ECHO, "", NULL, &err), AP_RPC_OK, err); /* newcomers too, when there is room again */
    ap_rpc_client_free(later);
    ap_rpc_client_free(client);
    for (int i = 0; i < 2; i++)
        (void)close(sockets[i]);
    site_end(&site);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void test_stop_with_silent_connections(void **state)
{
    struct site site;
    int fds[20];

    (void)state;
    site_start(&site);
    for (int i = 0; i < 20; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect_fd(fds[i], ap_rpc_server_port(site.server)), 0);
        if (i % 2)
            assert_int_equal(send(fds[i], "PRI * HTTP/2.0\r\n", 16, MSG_NOSIGNAL), 16);
        if (i % 4 == 0)
            assert_int_equal(send(fds[i], "\x16\x03\x01GET / garbage\0\xff", 18, MSG_NOSIGNAL), 18);
    }
    uint64_t start = ap_clock_monotonic_ns();
    site_end(&site);
    assert_true(ap_clock_monotonic_ns() - start < LONG_NS / 3);
    for (int i = 0; i < 20; i++)
        (void)close(fds[i]);
}

static void test_many_lives(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    for (int i = 0; i < 10; i++) {
        site_start(&site);
        struct ap_rpc_client *client = site_client(&site);
        ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
        if (i % 2)
            ap_rpc_client_free(client);
        site_end(&site);
        if (i % 2 == 0)
            ap_rpc_client_free(client);
    }
    assert_null(ap_rpc_server_free(NULL));
    assert_null(ap_rpc_client_free(NULL));
}

/* The agent forks a worker that never executes another program. */
static void test_fork(void **state)
{
    struct ap_error err = {0};
    struct site site;
    int status;

    (void)state;
    site_start(&site);
    struct ap_rpc_client *client = site_client(&site);
    for (int i = 0; i < 5; i++) {
        ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
        pid_t pid = fork();
        if (pid == 0) {
            for (int fd = 3; fd < 256; fd++)
                (void)close(fd);
            char *memory = (char *)malloc(100000);
            memset(memory, 1, 100000);
            _exit(memory[99999] == 1 ? 7 : 0);
        }
        ASSERT_STATUS(call_text(client, ECHO, "", NULL, &err), AP_RPC_OK, err);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    ap_rpc_client_free(client);
    site_end(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_answers_later_from_other_threads),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_stop_waits_for_calls),
        cmocka_unit_test(test_stop_cancels_calls_that_hang),
        cmocka_unit_test(test_stop_does_not_wait_for_connections),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_ipv6_and_names),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_descriptors_run_out),
        cmocka_unit_test(test_stop_with_silent_connections),
        cmocka_unit_test(test_many_lives),
        cmocka_unit_test(test_fork),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
