/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* String interning: equal strings share one id. Ids count up from 0, which is always "". Not thread-safe. */
#ifndef APERTURE_CORE_STRINGS_H
#define APERTURE_CORE_STRINGS_H

#include <stddef.h>
#include <stdint.h>

struct ap_strings; /* opaque */

/* Table of at most `max_bytes` of text (terminators included). NULL when out of memory. */
struct ap_strings *ap_strings_new(size_t max_bytes);

/* Accepts NULL. Returns NULL. */
struct ap_strings *ap_strings_free(struct ap_strings *strings);

/* Interns `len` bytes (copied; an embedded NUL ends the text). 0 with *ret_id set, or -ENOSPC, -ENOMEM. */
int ap_strings_add(struct ap_strings *strings, const char *str, size_t len, uint32_t *ret_id);

/* Interns a NUL-terminated string; NULL counts as "". When the table is full or memory is short the id of "" is
 * returned and the refusal is counted (ap_strings_refused). */
uint32_t ap_strings_id(struct ap_strings *strings, const char *str);

/* Text of an id, owned by the table and stable until it is freed; "" for an id never handed out. */
const char *ap_strings_get(const struct ap_strings *strings, uint32_t id);

size_t ap_strings_count(const struct ap_strings *strings);     /* distinct strings, "" included */
uint64_t ap_strings_refused(const struct ap_strings *strings); /* adds turned away by the bound */

#endif
