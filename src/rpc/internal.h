/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What client.c and server.c share of gRPC's core: its life, and messages as bytes. */
#ifndef APERTURE_RPC_INTERNAL_H
#define APERTURE_RPC_INTERNAL_H

#include "rpc/rpc.h"

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts gRPC and sends its log to ap_log_debug(). Counted: each call is answered by one of ap_rpc_core_end(), which
 * ends gRPC's own threads with the last. Any thread. */
void ap_rpc_core_begin(void);
void ap_rpc_core_end(void);

/* gRPC's time `ns` from now; UINT64_MAX is for ever. */
gpr_timespec ap_rpc_after(uint64_t ns);

/* Channel arguments. */
grpc_arg ap_rpc_arg_int(const char *key, int value);
grpc_arg ap_rpc_arg_string(const char *key, const char *value);

/* The message in one piece, decompressed when the sender compressed it (gzip, deflate): at most `max` bytes. gRPC would
 * inflate without a bound. 0, or -EMSGSIZE (longer), -EBADMSG (damaged), -ENOTSUP (another compression), -ENOMEM. On
 * success *ret_slice is the caller's to unref; the buffer stays the caller's in any case. Any thread. */
int ap_rpc_message_read(grpc_byte_buffer *buffer, size_t max, grpc_slice *ret_slice);

/* The bytes as a message, copied; the caller destroys it. */
grpc_byte_buffer *ap_rpc_message_new(const void *data, size_t len);

/* grpc.health.v1.HealthCheckRequest: the name of the service it asks for ("" = the server), which lies in `data`. 0 or
 * -EBADMSG. */
int ap_rpc_health_parse(const void *data, size_t len, const char **ret_service, size_t *ret_len);

/* HealthCheckResponse, `AP_RPC_HEALTH_SZ` bytes. */
#define AP_RPC_HEALTH_SZ 2
void ap_rpc_health_write(bool serving, uint8_t ret_data[AP_RPC_HEALTH_SZ]);

#endif
