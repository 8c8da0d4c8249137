/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Finds out why a connection does not come about, by trying it step by step: what gRPC says about it helps nobody. */
#ifndef APERTURE_RPC_PROBE_H
#define APERTURE_RPC_PROBE_H

#include "core/error.h"
#include "rpc/address.h"
#include "rpc/rpc.h"

/* Longest time that a probe takes, name resolution not included. */
#define AP_RPC_PROBE_NS (2 * 1000000000ULL)

/* Connects to the address, speaks TLS there as `tls` says (files; of https), then the first words of HTTP/2. Blocks.
 * 0 when nothing was wrong this time; else a negative errno with words that say what, without naming the endpoint:
 * "connection refused; is ... running there?". Any thread. */
int ap_rpc_probe(const struct ap_rpc_address *address, const struct ap_rpc_tls *tls, struct ap_error *err);

/* Whether somebody listens at that port of the loopback address "127.0.0.1" or "::1". Does not block. Any thread. */
bool ap_rpc_probe_loopback(const char *literal, uint16_t port);

#endif
