/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/api: pieces of HTTP that need no connection. */
#ifndef APERTURE_API_HTTP_H
#define APERTURE_API_HTTP_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

/* Pairs of one query string; more are refused. */
#define AP_API_PAIRS_MAX 256

struct ap_api_pair {
    char *name, *value; /* owned */
};

struct ap_api_pairs {
    struct ap_api_pair *rows; /* owned */
    size_t cnt;
};
void ap_api_pairs_done(struct ap_api_pairs *pairs);
/* Adds copies. 0, -E2BIG or -ENOMEM; with words. */
int ap_api_pairs_add(struct ap_api_pairs *pairs, const char *name, const char *value, struct ap_error *err);

/* Splits "/a%20b?x=1&y=%2B" into the decoded path (the caller's) and pairs. '+' is a blank in pairs. 0, -EINVAL (broken
 * escapes, NUL bytes, a path that does not begin with '/'), -E2BIG or -ENOMEM; with words. */
int ap_api_split_uri(const char *uri, char **ret_path, struct ap_api_pairs *ret_pairs, struct ap_error *err);

/* Weight (0..1000) that an Accept header gives to a media type ("application/json"); 1000 without a header (NULL). */
unsigned ap_api_accept_weight(const char *accept, const char *type);

enum ap_api_encoding {
    AP_API_IDENTITY = 0,
    AP_API_ZSTD = 1,
    AP_API_GZIP = 2,
    AP_API_DEFLATE = 3,
};
/* The encoding that an Accept-Encoding header (NULL = none) likes best, ours first among equals. */
enum ap_api_encoding ap_api_choose_encoding(const char *accept_encoding);
/* The same question for one encoding by name, for files that are there compressed already. */
bool ap_api_accepts_encoding(const char *accept_encoding, const char *name);
/* "zstd", "gzip" ...; NULL for identity. */
const char *ap_api_encoding_name(enum ap_api_encoding encoding);

/* True when a Content-Type header names that media type, whatever its parameters. */
bool ap_api_is_type(const char *content_type, const char *type);

/* The one of `names` that takes fewest changes to become `name`; NULL when all are far from it. */
const char *ap_api_nearest(const char *name, const char *const *names, size_t cnt);

#endif
