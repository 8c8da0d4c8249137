/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* rpc-echo LISTEN [token TOKEN] [tls CERT KEY [CA]]: a server of src/rpc to be called by other programs' clients.
 * /test.Echo/Echo answers with the request, Later does so from another thread, Hang when the caller has gone, Peer with
 * the caller's address, Stats (open) with counts. "port N" on stdout says that it is ready; SIGTERM stops it, with half
 * a second of grace. */
#include "core/clock.h"
#include "rpc/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define GRACE_NS (AP_NS_PER_SEC / 2)

struct site {
    struct ap_rpc_server *server;
    const char *token;
    atomic_bool ends;
    pthread_mutex_t lock;
    struct ap_rpc_call *hanging[AP_RPC_CALLS_MAX];
    unsigned hanging_cnt;
};

static void echo(void *ctx, struct ap_rpc_call *call)
{
    size_t len;
    const void *data = ap_rpc_request(call, &len);

    (void)ctx;
    ap_rpc_reply(call, AP_RPC_OK, NULL, data, len);
}

static void *reply_later(void *arg)
{
    (void)usleep(2000);
    echo(NULL, (struct ap_rpc_call *)arg);
    return NULL;
}

static void later(void *ctx, struct ap_rpc_call *call)
{
    pthread_attr_t attr;
    pthread_t thread;

    (void)ctx;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, 256 << 10);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, reply_later, call) != 0)
        ap_rpc_reply(call, AP_RPC_RESOURCE_EXHAUSTED, "no thread", NULL, 0);
    (void)pthread_attr_destroy(&attr);
}

static void hang(void *ctx, struct ap_rpc_call *call)
{
    struct site *site = (struct site *)ctx;

    (void)pthread_mutex_lock(&site->lock);
    site->hanging[site->hanging_cnt++] = call; /* the server has no more calls than there is room */
    (void)pthread_mutex_unlock(&site->lock);
}

/* Gives up the calls whose callers have gone. */
static void *reap(void *arg)
{
    struct site *site = (struct site *)arg;

    while (!atomic_load(&site->ends)) {
        unsigned kept = 0;

        (void)usleep(5000);
        (void)pthread_mutex_lock(&site->lock);
        for (unsigned i = 0; i < site->hanging_cnt; i++) {
            if (ap_rpc_cancelled(site->hanging[i]))
                ap_rpc_reply(site->hanging[i], AP_RPC_CANCELLED, NULL, NULL, 0);
            else
                site->hanging[kept++] = site->hanging[i];
        }
        site->hanging_cnt = kept;
        (void)pthread_mutex_unlock(&site->lock);
    }
    return NULL;
}

static void peer(void *ctx, struct ap_rpc_call *call)
{
    const char *text = ap_rpc_peer(call);

    (void)ctx;
    ap_rpc_reply(call, AP_RPC_OK, NULL, text, strlen(text));
}

static void stats(void *ctx, struct ap_rpc_call *call)
{
    struct site *site = (struct site *)ctx;
    struct ap_rpc_server_stats now;
    char text[512];

    ap_rpc_server_stats(site->server, &now);
    int len = snprintf(text, sizeof(text),
                       "{\"calls\":%lu,\"refused_auth\":%lu,\"refused_busy\":%lu,\"refused_size\":%lu,"
                       "\"refused_connections\":%lu,\"timed_out\":%lu,\"in_progress\":%lu}",
                       (unsigned long)now.calls, (unsigned long)now.refused_auth, (unsigned long)now.refused_busy,
                       (unsigned long)now.refused_size, (unsigned long)now.refused_connections,
                       (unsigned long)now.timed_out, (unsigned long)now.in_progress);
    ap_rpc_reply(call, AP_RPC_OK, NULL, text, (size_t)len);
}

static int authorize(void *ctx, const char *authorization, bool write, const char *method, const char *from)
{
    const struct site *site = (const struct site *)ctx;
    static const char bearer[] = "Bearer ";

    (void)write, (void)method, (void)from;
    if (!site->token)
        return AP_RPC_OK;
    if (!authorization || strncmp(authorization, bearer, sizeof(bearer) - 1) != 0)
        return AP_RPC_UNAUTHENTICATED;
    return strcmp(authorization + sizeof(bearer) - 1, site->token) == 0 ? AP_RPC_OK : AP_RPC_UNAUTHENTICATED;
}

int main(int argc, char **argv)
{
    static const struct ap_rpc_method methods[] = {
        {.path = "/test.Echo/Echo", .handler = echo},
        {.path = "/test.Echo/Later", .handler = later},
        {.path = "/test.Echo/Hang", .handler = hang},
        {.path = "/test.Echo/Peer", .handler = peer},
        {.path = "/test.Echo/Stats", .handler = stats, .open = true},
    };
    static struct site site = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct ap_rpc_server_opts opts = {.listen = argc > 1 ? argv[1] : "",
                                      .methods = methods,
                                      .method_cnt = sizeof(methods) / sizeof(methods[0]),
                                      .ctx = &site,
                                      .authorize = authorize};
    struct ap_error err = {0};
    struct rlimit limit;
    pthread_t reaper;
    sigset_t signals;
    int signum;

    for (int i = 2; i + 1 < argc; i++) {
        if (strcmp(argv[i], "token") == 0) {
            site.token = argv[++i];
        } else if (strcmp(argv[i], "tls") == 0 && i + 2 < argc) {
            opts.tls = (struct ap_rpc_tls){.cert = argv[i + 1], .key = argv[i + 2], .ca = argv[i + 3]};
            break;
        }
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before there are threads */
    site.server = ap_rpc_server_new(&opts, &err);
    if (!site.server || pthread_create(&reaper, NULL, reap, &site) != 0) {
        (void)fprintf(stderr, "rpc-echo: %s\n", err.text);
        return 1;
    }
    printf("port %u\n", ap_rpc_server_port(site.server));
    (void)fflush(stdout);
    (void)sigwait(&signals, &signum);
    ap_rpc_server_stop(site.server, GRACE_NS);
    atomic_store(&site.ends, true);
    (void)pthread_join(reaper, NULL);
    ap_rpc_server_free(site.server);
    return 0;
}
