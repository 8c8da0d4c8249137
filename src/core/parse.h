/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The one place where durations, sizes, counts and rates are read from text. */
#ifndef APERTURE_CORE_PARSE_H
#define APERTURE_CORE_PARSE_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

/* Duration in ns: one or more NUMBER UNIT with units ns, us, ms, s, m, h, d ("1h30m", "1.5s", "250ms"); a bare number
 * means seconds. 0, -EINVAL (not a duration; the text says what is accepted) or -ERANGE (past UINT64_MAX). */
int ap_parse_duration(const char *text, uint64_t *ret_ns, struct ap_error *err);

/* Size in bytes: NUMBER with optional unit B, K, M, G, T (also KiB.. and KB.., all powers of 1024), fractions allowed.
 * 0, -EINVAL, -ERANGE. */
int ap_parse_size(const char *text, uint64_t *ret_bytes, struct ap_error *err);

/* Decimal unsigned integer, the whole text. 0, -EINVAL, -ERANGE. */
int ap_parse_u64(const char *text, uint64_t *ret_value, struct ap_error *err);

/* Longest text the formatters below write, with terminator. */
#define AP_FORMAT_SZ 32

/* Readable forms into `buf` (at least AP_FORMAT_SZ bytes), which is returned: "1.50 s", "12.3 ms", "1h05m"; "64.2 MiB".
 */
char *ap_format_duration(char *buf, uint64_t ns);
char *ap_format_size(char *buf, uint64_t bytes);

#endif
