/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Bearer tokens and what each may do. Tokens are kept as SHA-256 and compared in constant time. */
#ifndef APERTURE_AGGREGATOR_AUTH_H
#define APERTURE_AGGREGATOR_AUTH_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

#define AP_AUTH_TOKENS_MAX  1024
#define AP_AUTH_TOKEN_SZ    513       /* with terminator */
#define AP_AUTH_NAME_SZ     65        /* likewise */
#define AP_AUTH_FILE_SZ     (1 << 20) /* longest token file */
#define AP_AUTH_TOKEN_SHORT 16        /* shorter tokens are taken, with a warning */

enum ap_auth_result {
    AP_AUTH_OK = 0,
    AP_AUTH_MISSING = 1, /* no "Bearer TOKEN" */
    AP_AUTH_UNKNOWN = 2, /* no such token */
    AP_AUTH_SCOPE = 3,   /* the token may only read */
};
#define AP_AUTH_RESULT_CNT 4

struct ap_auth; /* opaque; any thread */

/* `token` (may read and write, named "token") and `file` (lines "TOKEN read|write [NAME]") may each be NULL; with both
 * NULL everybody may do everything. NULL with words: a file that cannot be read, that others may read or change, or
 * with a line that is not understood. */
struct ap_auth *ap_auth_new(const char *token, const char *file, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_auth *ap_auth_free(struct ap_auth *auth);

/* Reads the file again. 0, or a negative errno with words; then the tokens from before stay. */
int ap_auth_reload(struct ap_auth *auth, struct ap_error *err);

/* True when there are no tokens: everybody may do everything. */
bool ap_auth_is_open(const struct ap_auth *auth);
/* Number of tokens, and how many are shorter than AP_AUTH_TOKEN_SHORT. */
size_t ap_auth_cnt(struct ap_auth *auth, size_t *ret_short);

/* What the value of an Authorization header (NULL = none) may do; `write` asks for the write scope, which includes
 * read. `ret_name` gets the token's name, "-" where no token was recognised. */
enum ap_auth_result ap_auth_check(struct ap_auth *auth, const char *authorization, bool write,
                                  char ret_name[AP_AUTH_NAME_SZ]);
/* "ok", "no token" ... for log lines and answers. */
const char *ap_auth_result_text(enum ap_auth_result result);

#endif
