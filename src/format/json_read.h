/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the codecs and the API: JSON text of unknown origin as a flat list of tokens. 8 bytes a token and nothing
 * else, so that what a document costs in memory is bounded by AP_JSON_TOKENS_MAX whatever it says; a value and all that
 * is in it is stepped over at once. */
#ifndef APERTURE_FORMAT_JSON_READ_H
#define APERTURE_FORMAT_JSON_READ_H

#include "core/buf.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds; what is past them is refused with -E2BIG. */
#define AP_JSON_TOKENS_MAX (16u << 20)
#define AP_JSON_DEPTH_MAX  2048 /* the agent's own documents nest up to 1,030 */

/* No such token. */
#define AP_JSON_NONE UINT32_MAX

struct ap_json_token {
    uint32_t pos;  /* where it begins in the text */
    uint32_t next; /* token after this value and everything in it */
};

/* Token 0 is the value of the whole text. Behind an object's token stand its members, each a string and a value; behind
 * an array's its items. */
struct ap_json_doc {
    const char *text; /* borrowed */
    size_t len;
    struct ap_json_token *tokens; /* owned */
    uint32_t token_cnt;
};

/* Checks the whole text and fills in `ret`. 0, -EINVAL (not JSON: what and at which byte), -E2BIG (longer than
 * UINT32_MAX or past a bound) or -ENOMEM; with words. */
int ap_json_doc_init(struct ap_json_doc *ret, const char *text, size_t len, struct ap_error *err);
/* Accepts a zeroed struct. */
void ap_json_doc_done(struct ap_json_doc *doc);

/* '{', '[', '"', '0' (a number), 't', 'f' or 'n'; '\0' for AP_JSON_NONE. */
char ap_json_type(const struct ap_json_doc *doc, uint32_t token);
/* Value of the object's first member of that name; AP_JSON_NONE when there is none, or `object` is no object. */
uint32_t ap_json_member(const struct ap_json_doc *doc, uint32_t object, const char *name);

/* Steps over the items of an array: start with AP_JSON_NONE; AP_JSON_NONE ends it, or `array` is no array. */
uint32_t ap_json_next_item(const struct ap_json_doc *doc, uint32_t array, uint32_t item);
/* Likewise over the names of an object's members; the value of a name is the token after it. */
uint32_t ap_json_next_name(const struct ap_json_doc *doc, uint32_t object, uint32_t name);

/* Text of a string, emptied into `ret` (initialised by the caller), NUL-terminated. NULs in it and half surrogates
 * become U+FFFD. 0, -EINVAL (no string), -ENOSPC or -ENOMEM. */
int ap_json_text(const struct ap_json_doc *doc, uint32_t token, struct ap_buf *ret);
/* A whole number that is not negative. 0, -EINVAL or -ERANGE. */
int ap_json_u64(const struct ap_json_doc *doc, uint32_t token, uint64_t *ret);

#endif
