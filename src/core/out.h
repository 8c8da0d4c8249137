/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Buffered output stream with a sticky error: what the codecs in src/format write to. Memory use is constant. */
#ifndef APERTURE_CORE_OUT_H
#define APERTURE_CORE_OUT_H

#include "core/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes `len` > 0 bytes, all of them. 0 or a negative errno, which becomes the stream's sticky error. */
typedef int (*ap_out_fn)(void *ctx, const void *data, size_t len);

struct ap_out; /* opaque */

/* Stream into a function; `ctx` is borrowed and must outlive the stream. NULL when out of memory. */
struct ap_out *ap_out_new(ap_out_fn fn, void *ctx);

/* Stream into a file descriptor (borrowed; EINTR and short writes handled). NULL when out of memory. */
struct ap_out *ap_out_new_fd(int fd);

/* Stream that appends to `buf` (borrowed). NULL when out of memory. */
struct ap_out *ap_out_new_buf(struct ap_buf *buf);

/* Frees without flushing. Accepts NULL. Returns NULL. */
struct ap_out *ap_out_free(struct ap_out *out);

/* Hands everything buffered to the sink. 0 or the sticky error. */
int ap_out_flush(struct ap_out *out);

/* First failure so far (negative errno), or 0. Once set, writes do nothing. */
int ap_out_error(const struct ap_out *out);

/* Bytes accepted so far. */
uint64_t ap_out_total(const struct ap_out *out);

void ap_out_write(struct ap_out *out, const void *data, size_t len);
void ap_out_str(struct ap_out *out, const char *str);
void ap_out_char(struct ap_out *out, char c);
void ap_out_printf(struct ap_out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes a JSON string with its quotes: control characters escaped, bytes that are not UTF-8 replaced by U+FFFD,
 * '<' written as \u003c when `html` (so that the text may stand inside a <script> element). NULL writes "". */
void ap_out_json_str(struct ap_out *out, const char *str, bool html);

/* Writes text for an XML element or attribute: & < > " ' escaped, characters that XML 1.0 forbids and bytes that are
 * not UTF-8 replaced by U+FFFD. */
void ap_out_xml_str(struct ap_out *out, const char *str);

#endif
