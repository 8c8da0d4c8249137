/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What client and server share: status codes and transport security. gRPC's C core is used in this folder alone.
 *
 * fork(): a process with clients or servers may fork, when the child leaves them alone (it runs other code, or exec; it
 * closes the descriptors it inherits, so that connections end with their owner). gRPC's own handlers for fork(2) would
 * stop every thread first: they are off unless the environment has GRPC_ENABLE_FORK_SUPPORT=1, which must not be set.
 *
 * Proxies of the environment (http_proxy) are not used. */
#ifndef APERTURE_RPC_RPC_H
#define APERTURE_RPC_RPC_H

/* The codes of gRPC that we use (grpc/status.h has the same numbers). */
enum ap_rpc_status {
    AP_RPC_OK = 0,
    AP_RPC_CANCELLED = 1,
    AP_RPC_UNKNOWN = 2,
    AP_RPC_INVALID_ARGUMENT = 3,
    AP_RPC_DEADLINE_EXCEEDED = 4,
    AP_RPC_NOT_FOUND = 5,
    AP_RPC_PERMISSION_DENIED = 7,
    AP_RPC_RESOURCE_EXHAUSTED = 8,
    AP_RPC_FAILED_PRECONDITION = 9,
    AP_RPC_OUT_OF_RANGE = 11,
    AP_RPC_UNIMPLEMENTED = 12,
    AP_RPC_INTERNAL = 13,
    AP_RPC_UNAVAILABLE = 14,
    AP_RPC_UNAUTHENTICATED = 16,
};

/* "OK", "INVALID_ARGUMENT" ...; "UNKNOWN" for others. */
const char *ap_rpc_status_name(int status);

/* Files in PEM form; NULL = not used. A client needs none for the system's own authorities. */
struct ap_rpc_tls {
    const char *ca;   /* authorities that the other side's certificate must come from; on a server: mutual TLS */
    const char *cert; /* own certificate chain */
    const char *key;  /* own private key */
};

/* Longest message either side takes: a batch of DESIGN 5's bounds compresses to far less. */
#define AP_RPC_MESSAGE_SZ (64u << 20)

#endif
