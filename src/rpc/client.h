/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A gRPC client of unary methods: one connection, blocking calls with a deadline. */
#ifndef APERTURE_RPC_CLIENT_H
#define APERTURE_RPC_CLIENT_H

#include "core/buf.h"
#include "core/error.h"
#include "rpc/rpc.h"

#include <stddef.h>
#include <stdint.h>

struct ap_rpc_client; /* opaque; one call at a time, from any thread */

struct ap_rpc_client_opts {
    const char *endpoint;  /* "http://host:50051", "https://host:50051", "unix:/path" */
    struct ap_rpc_tls tls; /* of https: ca NULL = the system's authorities */
    const char *token;     /* sent as "authorization: Bearer TOKEN"; NULL = none */
};

/* Connects on the first call. NULL with words: an endpoint that cannot be understood, files of TLS. */
struct ap_rpc_client *ap_rpc_client_new(const struct ap_rpc_client_opts *opts, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_rpc_client *ap_rpc_client_free(struct ap_rpc_client *client);

/* Calls `method` ("/aperture.v1.Aggregator/Push") and waits, at most `timeout_ns`. AP_RPC_OK with the answer in
 * `ret_data` (initialised by the caller, emptied first); else the status, with words that name the endpoint and say
 * what helps (connection refused, wrong token, certificate not trusted ...). */
int ap_rpc_client_call(struct ap_rpc_client *client, const char *method, const void *data, size_t len,
                       uint64_t timeout_ns, struct ap_buf *ret_data, struct ap_error *err);
/* Ends a call that waits in another thread: it returns AP_RPC_CANCELLED; so do later ones. */
void ap_rpc_client_cancel(struct ap_rpc_client *client);

#endif
