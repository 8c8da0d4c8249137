/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/api: where an answer is written to. It is compressed on the way and kept until it can be sent. */
#ifndef APERTURE_API_SINK_H
#define APERTURE_API_SINK_H

#include "api/http.h"
#include "core/buf.h"
#include "core/out.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Shorter answers are sent as they are: compressing them costs more than their bytes. */
#define AP_API_COMPRESS_SZ 1024

struct ap_api_sink; /* opaque */

/* `held`: bytes of all sinks together, counted up with every byte kept and never down: the owner of the data does that
 * when it lets it go. `max`, `held_max`: bounds of this answer and of `held`. NULL when out of memory. */
struct ap_api_sink *ap_api_sink_new(enum ap_api_encoding encoding, size_t max, atomic_size_t *held, size_t held_max);
/* Gives back what it counted when the data was not taken. Accepts NULL. Returns NULL. */
struct ap_api_sink *ap_api_sink_free(struct ap_api_sink *sink);

/* What answers are written to; owned by the sink. */
struct ap_out *ap_api_sink_out(struct ap_api_sink *sink);
/* Forgets what was written, and compresses no more. */
void ap_api_sink_reset(struct ap_api_sink *sink);
/* Finishes and hands over the bytes (the caller's to free; NULL when there are none) and their encoding. 0, -E2BIG
 * (past `max`), -EAGAIN (past `held_max`), -ENOMEM, or what a writer reported. */
int ap_api_sink_take(struct ap_api_sink *sink, char **ret_data, size_t *ret_len, enum ap_api_encoding *ret_encoding);

#endif
