/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Where a server listens and a client connects: read from text. */
#ifndef APERTURE_RPC_ADDRESS_H
#define APERTURE_RPC_ADDRESS_H

#include "core/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

/* Longest host name (RFC 1035), with its terminator. */
#define AP_RPC_HOST_SZ 256
/* Longest path of a socket, with its terminator. */
#define AP_RPC_PATH_SZ sizeof(((struct sockaddr_un *)NULL)->sun_path)
/* Longest target that ap_rpc_target() writes: every byte of the path as %XX. */
#define AP_RPC_TARGET_SZ 512

/* Port when an endpoint names none. */
#define AP_RPC_PORT 50051

struct ap_rpc_address {
    bool local;   /* a socket in the file system: only `path` counts */
    bool tls;     /* https:// */
    bool literal; /* `host` is a numeric address */
    bool ipv6;    /* ... of IPv6 */
    uint16_t port;
    char host[AP_RPC_HOST_SZ]; /* without brackets */
    char path[AP_RPC_PATH_SZ];
};

/* "127.0.0.1:50051", "[::1]:0", "localhost:50051", "unix:/path". 0 or -EINVAL with words. */
int ap_rpc_parse_listen(const char *text, struct ap_rpc_address *ret_address, struct ap_error *err);

/* "http://host:50051", "https://host", "unix:/path". 0 or -EINVAL with words. */
int ap_rpc_parse_endpoint(const char *text, struct ap_rpc_address *ret_address, struct ap_error *err);

/* The address as gRPC's name resolution takes it: "ipv4:127.0.0.1:50051", "dns:///host:50051", "unix:/path". */
void ap_rpc_target(const struct ap_rpc_address *address, char ret_target[AP_RPC_TARGET_SZ]);

#endif
