/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Steps through text of unknown origin, one character at a time. Shared by the output stream and the log. */
#ifndef APERTURE_CORE_TEXT_H
#define APERTURE_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AP_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Most bytes that one character becomes in JSON. */
#define AP_JSON_CHAR_SZ 6

/* Length of the UTF-8 character at `str` (not at its end), or 0 when the byte there starts none: overlong
 * forms, surrogates and values past U+10FFFF are refused. Never reads past the terminator. */
size_t ap_utf8_len(const char *str);

/* Writes the JSON form of the character at `*str` (not at its end) to `ret` and steps past it; '<' becomes
 * \u003c when `html`. Returns the bytes written, at most AP_JSON_CHAR_SZ. */
size_t ap_json_step(const char **str, bool html, char ret[AP_JSON_CHAR_SZ + 1]);

#endif
