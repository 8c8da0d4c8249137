/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the wire codecs: bytes in a zstd frame. */
#ifndef APERTURE_WIRE_FRAME_H
#define APERTURE_WIRE_FRAME_H

#include "core/buf.h"
#include "core/error.h"

#include <stddef.h>

/* Appends one frame that states its content size, of at most `max` bytes. 0, -E2BIG (past `max`, or the buffer's own
 * maximum) or -ENOMEM; with words. */
int ap_frame_pack(const void *data, size_t len, size_t max, struct ap_buf *ret, struct ap_error *err);

/* Unpacks the one frame in `data`. What it says of its size is not believed: never more than `max` bytes are made. 0
 * with *ret_data (free() it) and *ret_len, -EINVAL (not one frame, or damaged), -E2BIG, -ENOMEM; with words. */
int ap_frame_unpack(const void *data, size_t len, size_t max, void **ret_data, size_t *ret_len, struct ap_error *err);

#endif
