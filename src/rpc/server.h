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

/* Calls that are in progress at once, over all connections; those past it are answered RESOURCE_EXHAUSTED. Open methods
 * have a bound of their own: a busy server is still healthy. */
#define AP_RPC_CALLS_MAX      1024
#define AP_RPC_OPEN_CALLS_MAX 64
/* Calls in progress on one connection; the client's side holds further ones back (HTTP/2's concurrent streams). */
#define AP_RPC_STREAMS_MAX 256
/* Connections at once; fewer when the process may not have that many descriptors (7/8 of RLIMIT_NOFILE go to
 * connections at most). Those past it are closed at once. */
#define AP_RPC_CONNECTIONS_MAX 65536
/* Bytes of requests that calls in progress hold; those past it are answered RESOURCE_EXHAUSTED. The same again is what
 * gRPC's own buffers may take over all connections before it closes some. */
#define AP_RPC_REQUESTS_SZ (512u << 20)
/* Longest metadata of a call. */
#define AP_RPC_METADATA_SZ (16u << 10)
/* How long a caller may take to send its request, and again to take the answer; then it is cut off. */
#define AP_RPC_EXCHANGE_NS (60 * 1000000000ULL)

struct ap_rpc_server_opts {
    const char *listen;                  /* "127.0.0.1:50051", "[::1]:0", "unix:/path" */
    struct ap_rpc_tls tls;               /* cert NULL = plain text */
    const struct ap_rpc_method *methods; /* borrowed */
    size_t method_cnt;
    unsigned threads;           /* 0 = one per CPU, at most 8 */
    void *ctx;                  /* for handlers and authorize */
    ap_rpc_authorize authorize; /* NULL = everybody may */
    uint64_t exchange_ns;       /* 0 = AP_RPC_EXCHANGE_NS; kept to the second */
};

/* Listens and serves, also grpc.health.v1.Health/Check (SERVING for "" and every service of the methods, until
 * stopped). The caller frees it. NULL with words: the address is in use, a file of TLS cannot be read ... Connections
 * are bounded by the soft limit of RLIMIT_NOFILE at this moment: raise it before. */
struct ap_rpc_server *ap_rpc_server_new(const struct ap_rpc_server_opts *opts, struct ap_error *err);
/* The port that it got, when port 0 was asked for. */
unsigned ap_rpc_server_port(const struct ap_rpc_server *server);
/* What Health/Check answers from now on: NOT_SERVING while storage is away. */
void ap_rpc_server_set_serving(struct ap_rpc_server *server, bool serving);
/* Takes no new calls (health says NOT_SERVING to those that still get through); waits for those in progress, at most
 * `grace_ns`, then cancels them (handlers still answer, into the void). Returns when no call is left. Not from a
 * handler. */
void ap_rpc_server_stop(struct ap_rpc_server *server, uint64_t grace_ns);
/* Stops at once when that was not done. Accepts NULL. Returns NULL. */
struct ap_rpc_server *ap_rpc_server_free(struct ap_rpc_server *server);

struct ap_rpc_server_stats {
    uint64_t calls;               /* began, refused ones among them */
    uint64_t refused_auth;        /* by authorize */
    uint64_t refused_busy;        /* past AP_RPC_CALLS_MAX, AP_RPC_OPEN_CALLS_MAX or AP_RPC_REQUESTS_SZ */
    uint64_t refused_size;        /* request or answer longer than AP_RPC_MESSAGE_SZ */
    uint64_t refused_connections; /* past AP_RPC_CONNECTIONS_MAX */
    uint64_t timed_out;           /* cut off after exchange_ns */
    uint64_t in_progress;         /* now */
};
void ap_rpc_server_stats(struct ap_rpc_server *server, struct ap_rpc_server_stats *ret_stats);

/* The request's bytes, contiguous; valid until the reply. Requests compressed by gRPC (gzip, deflate) arrive here as
 * they were before. */
const void *ap_rpc_request(struct ap_rpc_call *call, size_t *ret_len);
/* "ipv4:127.0.0.1:40000"; valid until the reply. */
const char *ap_rpc_peer(const struct ap_rpc_call *call);
/* True once the caller has gone away or its deadline has passed. */
bool ap_rpc_cancelled(const struct ap_rpc_call *call);
/* Answers and gives the call up. `data` is copied; with a status other than OK only `message` (may be NULL) is sent. */
void ap_rpc_reply(struct ap_rpc_call *call, int status, const char *message, const void *data, size_t len);

#endif
