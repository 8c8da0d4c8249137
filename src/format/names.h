/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the codecs: reading names that may hold anything, and the words for events. */
#ifndef APERTURE_FORMAT_NAMES_H
#define APERTURE_FORMAT_NAMES_H

#include "core/text.h"
#include "model/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AP_UTF8_BAD UINT32_MAX

/* Length of the character at `s` (not at its terminating NUL), with its code point in *ret_cp. Bytes that are
 * not UTF-8 are answered one at a time as AP_UTF8_BAD. */
static inline size_t ap_utf8_next(const char *s, uint32_t *ret_cp)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t len = p[0] < 0x80 ? 1 : ap_utf8_len(s);

    if (len <= 1) {
        *ret_cp = len == 1 ? p[0] : AP_UTF8_BAD;
        return 1;
    }
    *ret_cp = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++)
        *ret_cp = *ret_cp << 6 | (p[i] & 0x3f);
    return len;
}

/* True for what must not reach a terminal or a line of text: controls (C0, DEL, C1), line and paragraph
 * separators, marks that reorder text, and bytes that are not UTF-8. */
static inline bool ap_utf8_is_unsafe(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x2028 || cp == 0x2029 || (cp >= 0x202a && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069) || cp == AP_UTF8_BAD;
}

/* What stands where a function or thread has no name at all. */
static inline const char *ap_name_or_unknown(const char *name)
{
    return name[0] != '\0' ? name : "[unknown]";
}

/* What one event of a kind is called. */
static inline const char *ap_event_word(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "sample";
    case AP_KIND_OFFCPU:
    case AP_KIND_LOCK:
        return "wait";
    case AP_KIND_SYSCALL:
        return "call";
    default:
        return "event";
    }
}

/* The same for many, as a heading. */
static inline const char *ap_event_heading(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "Samples";
    case AP_KIND_OFFCPU:
    case AP_KIND_LOCK:
        return "Waits";
    case AP_KIND_SYSCALL:
        return "Calls";
    default:
        return "Events";
    }
}

#endif
