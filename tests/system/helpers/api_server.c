/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The HTTP API over memory storage, for tests: prints one line of JSON with its port, serves until SIGTERM or the end
 * of its standard input, then prints its counters. --routes: prints the endpoints and their parameters instead. */
#include "api/internal.h"
#include "core/clock.h"
#include "core/parse.h"
#include "query/query.h"
#include "storage/storage.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct server {
    struct ap_storage *storage;
    struct ap_query *query;
    _Atomic(struct ap_api *) api;   /* NULL until it has started: requests come before */
    const char *token, *read_token; /* NULL = everybody may */
    uint64_t delay_ns;              /* of /api/batches */
    uint64_t grace_ns;
    atomic_bool unready;
    atomic_uint audited;
    pthread_mutex_t commit;
};

static bool is_token(const char *authorization, const char *token)
{
    return authorization != NULL && token != NULL && strncmp(authorization, "Bearer ", 7) == 0 &&
           strcmp(authorization + 7, token) == 0;
}

static int authorize(void *ctx, const char *authorization, bool write, const char *what, const char *peer)
{
    const struct server *server = ctx;

    if (what[0] == '\0' || strchr(peer, ':') == NULL)
        abort();
    if (server->token == NULL || is_token(authorization, server->token))
        return 200;
    if (!is_token(authorization, server->read_token))
        return 401;
    return write ? 403 : 200;
}

static void audit(void *ctx, const char *what, const char *peer, const char *detail)
{
    struct server *server = ctx;

    (void)what;
    (void)peer;
    (void)detail;
    atomic_fetch_add(&server->audited, 1);
}

static void metrics(void *ctx, struct ap_out *out)
{
    const struct server *server = ctx;
    struct ap_api *api = atomic_load(&server->api);
    struct ap_api_stats stats = {0};

    if (api != NULL)
        ap_api_stats(api, &stats);
    ap_out_printf(out, "# TYPE aperture_http_requests_total counter\naperture_http_requests_total %" PRIu64 "\n",
                  stats.requests);
}

static int ready(void *ctx, struct ap_error *err)
{
    struct server *server = ctx;

    if (atomic_load(&server->unready))
        return ap_error_set(err, -EAGAIN, "storage cannot be reached");
    return ap_storage_ready(server->storage, err);
}

static int import(void *ctx, struct ap_push *push, struct ap_error *err)
{
    struct server *server = ctx;
    struct ap_rows *rows = ap_rows_new(push, "", 0, ap_clock_realtime_ns(), err);
    bool duplicate;
    int r;

    if (rows == NULL) {
        ap_push_free(push);
        return err->code;
    }
    pthread_mutex_lock(&server->commit);
    r = ap_storage_commit(server->storage, &rows, 1, &duplicate, err);
    pthread_mutex_unlock(&server->commit);
    ap_rows_free(rows);
    return r;
}

static int recent(void *ctx, const struct ap_selector *selector, size_t limit, struct ap_batches_answer *ret,
                  struct ap_error *err)
{
    struct server *server = ctx;
    struct timespec delay = {(time_t)(server->delay_ns / AP_NS_PER_SEC), (long)(server->delay_ns % AP_NS_PER_SEC)};

    if (server->delay_ns > 0)
        nanosleep(&delay, NULL);
    return ap_query_batches(server->query, selector, limit, ret, err);
}

static void health(void *ctx, struct ap_out *out)
{
    const struct server *server = ctx;

    ap_out_printf(out, ",\"storage\":{\"name\":\"%s\"}", ap_storage_name(server->storage));
}

static const struct ap_api_ops ops = {
    .authorize = authorize,
    .audit = audit,
    .metrics = metrics,
    .ready = ready,
    .import = import,
    .recent = recent,
    .health = health,
};

static void print_routes(void)
{
    for (size_t i = 0; i < ap_api_route_cnt; i++) {
        const struct ap_api_route *route = &ap_api_routes[i];
        const char *names[AP_API_NAMES_MAX];
        size_t cnt = ap_api_params_names(route->params, names);

        printf("%s{\"path\":\"%s\",\"method\":\"%s\",\"open\":%s,\"write\":%s,\"types\":\"%s\",\"params\":[",
               i > 0 ? "," : "[", route->path, route->method == AP_API_POST ? "post" : "get",
               route->open ? "true" : "false", route->write ? "true" : "false", route->types);
        for (size_t j = 0; j < cnt; j++)
            printf("%s\"%s\"", j > 0 ? "," : "", names[j]);
        printf("]}");
    }
    printf("]\n");
}

/* Until SIGTERM, or nobody holds the other end of standard input; SIGUSR1 makes it unready. */
static void serve(struct server *server)
{
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
    struct signalfd_siginfo info;
    sigset_t set;
    char byte;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
    while (poll(fds, 2, -1) > 0) {
        if (fds[0].revents != 0 && read(STDIN_FILENO, &byte, 1) <= 0)
            return;
        if (fds[1].revents == 0 || read(fds[1].fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        if (info.ssi_signo == SIGTERM)
            return;
        atomic_store(&server->unready, true);
    }
}

static void print_stats(struct server *server, uint64_t stop_ns)
{
    struct ap_api_stats stats;

    ap_api_stats(server->api, &stats);
    printf("{\"stop_ns\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"errors_4xx\":%" PRIu64 ",\"errors_5xx\":%" PRIu64
           ",\"refused_auth\":%" PRIu64 ",\"refused_busy\":%" PRIu64 ",\"refused_size\":%" PRIu64
           ",\"refused_slow\":%" PRIu64 ",\"audited\":%u}\n",
           stop_ns, stats.requests, stats.errors_4xx, stats.errors_5xx, stats.refused_auth, stats.refused_busy,
           stats.refused_size, stats.refused_slow, atomic_load(&server->audited));
    fflush(stdout);
}

static int usage(const char *words)
{
    fprintf(stderr, "api-server: %s\n", words);
    return 2;
}

static int run(struct server *server, struct ap_api_opts *opts)
{
    const struct ap_storage_opts storage = {.kind = AP_STORAGE_MEMORY, .memory_sz = 1u << 30};
    struct ap_error err = {0};
    uint64_t start_ns;

    server->storage = ap_storage_open(&storage, &err);
    if (server->storage == NULL)
        return usage(err.text);
    server->query = ap_query_new(server->storage);
    opts->query = server->query;
    opts->ops = &ops;
    opts->ctx = server;
    server->api = ap_api_new(opts, &err);
    if (server->api == NULL) {
        fprintf(stderr, "api-server: %s\n", err.text);
        ap_query_free(server->query);
        ap_storage_free(server->storage);
        return 1;
    }
    printf("{\"port\":%u}\n", ap_api_port(server->api));
    fflush(stdout);
    serve(server);
    start_ns = ap_clock_monotonic_ns();
    ap_api_stop(server->api, server->grace_ns);
    print_stats(server, ap_clock_monotonic_ns() - start_ns);
    ap_api_free(server->api);
    ap_query_free(server->query);
    ap_storage_free(server->storage);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},     {"ui", required_argument, NULL, 'u'},
        {"tls-cert", required_argument, NULL, 'c'},   {"tls-key", required_argument, NULL, 'k'},
        {"tls-ca", required_argument, NULL, 'a'},     {"token", required_argument, NULL, 't'},
        {"read-token", required_argument, NULL, 'r'}, {"delay", required_argument, NULL, 'd'},
        {"workers", required_argument, NULL, 'w'},    {"grace", required_argument, NULL, 'g'},
        {"routes", no_argument, NULL, 'R'},           {0},
    };
    struct server server = {.grace_ns = 4 * AP_NS_PER_SEC, .commit = PTHREAD_MUTEX_INITIALIZER};
    struct ap_api_opts opts = {.listen = "127.0.0.1:0"};
    struct rlimit files;
    sigset_t set;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t number = 0;

        if ((option == 'd' || option == 'g') && ap_parse_duration(optarg, &number, NULL) != 0)
            return usage("not a duration");
        switch (option) {
        case 'l':
            opts.listen = optarg;
            break;
        case 'u':
            opts.ui_dir = optarg;
            break;
        case 'c':
            opts.tls_cert = optarg;
            break;
        case 'k':
            opts.tls_key = optarg;
            break;
        case 'a':
            opts.tls_ca = optarg;
            break;
        case 't':
            server.token = optarg;
            break;
        case 'r':
            server.read_token = optarg;
            break;
        case 'd':
            server.delay_ns = number;
            break;
        case 'g':
            server.grace_ns = number;
            break;
        case 'w':
            opts.workers = (unsigned)atoi(optarg);
            break;
        case 'R':
            print_routes();
            return 0;
        default:
            return usage("unknown option");
        }
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads start: they inherit it */
    signal(SIGPIPE, SIG_IGN);
    return run(&server, &opts);
}
