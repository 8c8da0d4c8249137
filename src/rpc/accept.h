/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Accepts connections for a gRPC server, on a thread of its own, with a bound.
 *
 * gRPC 1.51 could listen itself, but stops for good when accept(2) fails once, say because the process has no
 * descriptor left (CVE-2023-4785), and it takes as many connections as come. */
#ifndef APERTURE_RPC_ACCEPT_H
#define APERTURE_RPC_ACCEPT_H

#include "core/error.h"
#include "rpc/address.h"

#include <stdint.h>

/* Sockets that one name may listen on ("localhost" has two addresses). */
#define AP_RPC_LISTENERS_MAX 8

struct ap_rpc_acceptor; /* opaque */

/* Takes a connected socket over. Called on the acceptor's thread. */
typedef void (*ap_rpc_accepted)(void *ctx, int fd);
/* Called on the acceptor's thread about once a second. */
typedef void (*ap_rpc_tick)(void *ctx);

/* Binds and listens; connections wait in the kernel until ap_rpc_acceptor_start(). A socket file that nobody serves any
 * more is replaced. NULL with words: the address is in use, is not ours, needs privileges ... */
struct ap_rpc_acceptor *ap_rpc_acceptor_new(const struct ap_rpc_address *address, struct ap_error *err);

/* Starts the thread. 0 or a negative errno with words. */
int ap_rpc_acceptor_start(struct ap_rpc_acceptor *acceptor, ap_rpc_accepted accepted, ap_rpc_tick tick, void *ctx,
                          struct ap_error *err);

/* Ends the thread and closes the sockets; removes the socket file. May be called again. Not on its own thread. */
void ap_rpc_acceptor_stop(struct ap_rpc_acceptor *acceptor);

/* Stops and frees. Accepts NULL. Returns NULL. */
struct ap_rpc_acceptor *ap_rpc_acceptor_free(struct ap_rpc_acceptor *acceptor);

/* The port that is listened on; 0 for a socket file. */
unsigned ap_rpc_acceptor_port(const struct ap_rpc_acceptor *acceptor);

/* Connections closed at once because there were too many. Any thread. */
uint64_t ap_rpc_acceptor_refused(const struct ap_rpc_acceptor *acceptor);

#endif
