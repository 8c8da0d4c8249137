/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Unary calls a second through src/rpc, server and clients in one process: bench-rpc [SECONDS [BYTES]]. Each client is
 * a thread with a connection of its own and one call at a time; the last line has the time of a call, measured alone.
 */
#include "core/buf.h"
#include "core/clock.h"
#include "core/parse.h"
#include "rpc/client.h"
#include "rpc/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_NS     (10 * AP_NS_PER_SEC)
#define CLIENTS_MAX 64
#define DEFAULT_SZ  4500 /* a small batch */
#define METHOD      "/bench.Echo/Push"

struct load {
    char endpoint[64];
    const void *data;
    size_t len;
    uint64_t end_ns;
    atomic_uint_fast64_t calls, failed;
};

/* What the aggregator does on a server's thread is much the same: look, hand on, answer a few bytes. */
static void answer(void *ctx, struct ap_rpc_call *call)
{
    size_t len;
    const void *data = ap_rpc_request(call, &len);

    (void)ctx;
    ap_rpc_reply(call, AP_RPC_OK, NULL, data, len < 8 ? len : 8);
}

static void *run_client(void *arg)
{
    struct load *load = (struct load *)arg;
    struct ap_rpc_client_opts opts = {.endpoint = load->endpoint};
    struct ap_rpc_client *client = ap_rpc_client_new(&opts, NULL);
    struct ap_buf buf;

    ap_buf_init(&buf, AP_RPC_MESSAGE_SZ);
    while (client && ap_clock_monotonic_ns() < load->end_ns) {
        int status = ap_rpc_client_call(client, METHOD, load->data, load->len, CALL_NS, &buf, NULL);

        atomic_fetch_add(status == AP_RPC_OK ? &load->calls : &load->failed, 1);
    }
    ap_buf_done(&buf);
    ap_rpc_client_free(client);
    return NULL;
}

static void measure(struct load *load, unsigned clients, double seconds)
{
    pthread_t threads[CLIENTS_MAX];
    uint64_t start = ap_clock_monotonic_ns(), cpu = ap_clock_cpu_ns();
    unsigned started = 0;

    atomic_store(&load->calls, 0);
    atomic_store(&load->failed, 0);
    load->end_ns = start + (uint64_t)(seconds * 1e9);
    while (started < clients && pthread_create(&threads[started], NULL, run_client, load) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL);
    double took = (double)(ap_clock_monotonic_ns() - start) / 1e9;
    double calls = (double)atomic_load(&load->calls);
    printf("%2u clients  %8.0f calls/s  %6.1f us CPU a call (both sides)  %.0f MB/s  %lu failed\n", started,
           calls / took, (double)(ap_clock_cpu_ns() - cpu) / 1e3 / (calls > 0 ? calls : 1),
           calls * (double)load->len / took / 1e6, (unsigned long)atomic_load(&load->failed));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const unsigned clients[] = {1, 4, 16, 64};
    static const struct ap_rpc_method methods[] = {{.path = METHOD, .handler = answer}};
    struct ap_rpc_server_opts opts = {.listen = "127.0.0.1:0", .methods = methods, .method_cnt = 1};
    struct ap_error err = {0};
    struct load load = {.len = DEFAULT_SZ};
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;

    if (argc > 2)
        load.len = strtoul(argv[2], NULL, 10);
    void *data = calloc(1, load.len + 1);
    struct ap_rpc_server *server = data ? ap_rpc_server_new(&opts, &err) : NULL;
    if (!server) {
        (void)fprintf(stderr, "bench-rpc: %s\n", err.text);
        free(data);
        return 1;
    }
    load.data = data;
    (void)snprintf(load.endpoint, sizeof(load.endpoint), "http://127.0.0.1:%u", ap_rpc_server_port(server));
    printf("requests of %zu bytes, answers of 8\n", load.len);
    for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++)
        measure(&load, clients[i], seconds);
    ap_rpc_server_free(server);
    free(data);
    return 0;
}
