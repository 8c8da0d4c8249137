/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A gRPC server of unary methods: bytes in, bytes and a status out. Handlers may answer later, from any thread. */
#ifndef APERTURE_RPC_SERVER_H
#define APERTURE_RPC_SERVER_H

#include "core/error.h"
#include "rpc/rpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ap_rpc_server; /* opaque; every function may be called from any thread */
struct ap_rpc_call;   /* one call in progress; whoever has it answers it once */

/* Called on one of the server's threads. Must not wait for long; the call is answered by ap_rpc_reply(), here or later.
 */
typedef void (*ap_rpc_handler)(void *ctx, struct ap_rpc_call *call);

struct ap_rpc_method {
    const char *path; /* "/aperture.v1.Aggregator/Push" */
    ap_rpc_handler handler;
    bool open;  /* anybody may call it: health checks */
    bool write; /* needs the write scope, else read */
};

/* Asked for each call of a method that is not open: `authorization` is the metadata's value, NULL when absent.
 * AP_RPC_OK, AP_RPC_UNAUTHENTICATED or AP_RPC_PERMISSION_DENIED. Called on the server's threads. */
typedef int (*ap_rpc_authorize)(void *ctx, const char *authorization, bool write, const char *method, const char *peer);

/* Calls that are in progress at once, over all connections; those past it are answered RESOURCE_EXHAUSTED. */
#define AP_RPC_CALLS_MAX 1024

struct ap_rpc_server_opts {
    const char *listen;                  /* "127.0.0.1:50051", "[::1]:0", "unix:/path" */
    struct ap_rpc_tls tls;               /* cert NULL = plain text */
    const struct ap_rpc_method *methods; /* borrowed */
    size_t method_cnt;
    unsigned threads;           /* 0 = one per CPU, at most 8 */
    void *ctx;                  /* for handlers and authorize */
    ap_rpc_authorize authorize; /* NULL = everybody may */
};

/* Listens and serves, also grpc.health.v1.Health/Check (SERVING for "" and every service of the methods, until
 * stopped). NULL with words: the address is in use, a file of TLS cannot be read ... */
struct ap_rpc_server *ap_rpc_server_new(const struct ap_rpc_server_opts *opts, struct ap_error *err);
/* The port that it got, when port 0 was asked for. */
unsigned ap_rpc_server_port(const struct ap_rpc_server *server);
/* What Health/Check answers from now on: NOT_SERVING while storage is away. */
void ap_rpc_server_set_serving(struct ap_rpc_server *server, bool serving);
/* Takes no new calls; waits for those in progress, at most `grace_ns`, then cancels them (handlers still answer, into
 * the void). Returns when no call is left. */
void ap_rpc_server_stop(struct ap_rpc_server *server, uint64_t grace_ns);
/* Stops at once when that was not done. Accepts NULL. Returns NULL. */
struct ap_rpc_server *ap_rpc_server_free(struct ap_rpc_server *server);

struct ap_rpc_server_stats {
    uint64_t calls, refused_auth, refused_busy, refused_size, in_progress;
};
void ap_rpc_server_stats(struct ap_rpc_server *server, struct ap_rpc_server_stats *ret_stats);

/* The request's bytes, contiguous; valid until the reply. */
const void *ap_rpc_request(struct ap_rpc_call *call, size_t *ret_len);
/* "ipv4:127.0.0.1:40000"; valid until the reply. */
const char *ap_rpc_peer(const struct ap_rpc_call *call);
/* True once the caller has gone away or its deadline has passed. */
bool ap_rpc_cancelled(const struct ap_rpc_call *call);
/* Answers and gives the call up. `data` is copied; with a status other than OK only `message` (may be NULL) is sent. */
void ap_rpc_reply(struct ap_rpc_call *call, int status, const char *message, const void *data, size_t len);

#endif
