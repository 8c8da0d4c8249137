/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct token {
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char name[AP_AUTH_NAME_SZ];
    bool write, brief;
};

struct tokens {
    struct token *rows; /* AP_AUTH_TOKENS_MAX */
    size_t cnt;
};

struct ap_auth {
    pthread_rwlock_t lock; /* of `tokens` */
    struct tokens tokens;
    char *token, *file; /* owned; NULL = none */
};

static int add_token(struct tokens *tokens, const char *text, bool write, const char *name, struct ap_error *err)
{
    struct token *row = &tokens->rows[tokens->cnt];
    size_t len = strlen(text), i;

    if (tokens->cnt == AP_AUTH_TOKENS_MAX)
        return ap_error_set(err, -E2BIG, "more than %d tokens", AP_AUTH_TOKENS_MAX);
    if (!len || len >= AP_AUTH_TOKEN_SZ)
        return ap_error_set(err, -EINVAL, "a token has 1 to %d bytes", AP_AUTH_TOKEN_SZ - 1);
    for (i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return ap_error_set(err, -EINVAL, "a token has visible ASCII characters only");
    if (strlen(name) >= AP_AUTH_NAME_SZ)
        return ap_error_set(err, -EINVAL, "the name is longer than %d bytes", AP_AUTH_NAME_SZ - 1);
    *row = (struct token){.write = write, .brief = len < AP_AUTH_TOKEN_SHORT};
    SHA256((const unsigned char *)text, len, row->digest);
    snprintf(row->name, sizeof(row->name), "%s", name);
    for (i = 0; i < tokens->cnt; i++)
        if (!memcmp(tokens->rows[i].digest, row->digest, sizeof(row->digest)))
            return ap_error_set(err, -EINVAL, "the token is there twice (first as \"%s\")", tokens->rows[i].name);
    tokens->cnt++;
    return 0;
}

/* One line: "TOKEN read|write [NAME]", blank, or a comment. */
static int add_line(struct tokens *tokens, char *line, unsigned number, struct ap_error *err)
{
    static const char blanks[] = " \t\r\n";
    char *rest = NULL, *text = strtok_r(line, blanks, &rest), *scope, *name, fallback[32];

    if (!text || *text == '#')
        return 0;
    scope = strtok_r(NULL, blanks, &rest);
    name = strtok_r(NULL, blanks, &rest);
    if (!scope || (strcmp(scope, "read") && strcmp(scope, "write")))
        return ap_error_set(err, -EINVAL, "after the token stands what it may do: read or write");
    if (name && *name == '#')
        name = NULL;
    else if (name && (rest = strtok_r(NULL, blanks, &rest)) && *rest != '#')
        return ap_error_set(err, -EINVAL, "there is more than TOKEN read|write [NAME]");
    snprintf(fallback, sizeof(fallback), "line-%u", number);
    return add_token(tokens, text, !strcmp(scope, "write"), name ? name : fallback, err);
}

/* Tokens are secrets: others must neither read the file nor put tokens of their own into it. The group may read it, as
 * files that container managers mount allow. */
static int check_file(int fd, struct ap_error *err)
{
    struct stat st;

    if (fstat(fd, &st))
        return ap_error_errno(err, -errno, "cannot read it");
    if (!S_ISREG(st.st_mode))
        return ap_error_set(err, -EINVAL, "it is no ordinary file");
    if (st.st_size > AP_AUTH_FILE_SZ)
        return ap_error_set(err, -E2BIG, "it is longer than %d bytes", AP_AUTH_FILE_SZ);
    if (st.st_mode & (S_IWGRP | S_IRWXO))
        return ap_error_set(err, -EPERM, "other users may read or change it (mode %o): chmod 600",
                            (unsigned)(st.st_mode & 07777));
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return ap_error_set(err, -EPERM, "it belongs to user %u, not to the one that runs this program",
                            (unsigned)st.st_uid);
    return 0;
}

static int read_lines(FILE *file, struct tokens *tokens, struct ap_error *err)
{
    char *line = NULL;
    unsigned number = 0;
    size_t cap = 0;
    int rc = 0;

    while (!rc && getline(&line, &cap, file) > 0) {
        rc = add_line(tokens, line, ++number, err);
        if (rc)
            ap_error_prefix(err, "line %u", number);
    }
    if (!rc && ferror(file))
        rc = ap_error_errno(err, -EIO, "cannot read it");
    if (line)
        explicit_bzero(line, cap);
    free(line);
    return rc;
}

static int read_file(const char *path, struct tokens *tokens, struct ap_error *err)
{
    size_t before = tokens->cnt;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;
    FILE *file;

    if (fd < 0)
        return ap_error_errno(err, -errno, "token file %s", path);
    rc = check_file(fd, err);
    file = rc ? NULL : fdopen(fd, "r");
    if (!file) {
        if (!rc)
            rc = ap_error_set(err, -ENOMEM, "out of memory");
        close(fd);
    } else {
        rc = read_lines(file, tokens, err);
        (void)fclose(file);
    }
    if (!rc && tokens->cnt == before)
        rc = ap_error_set(err, -EINVAL, "there is no token in it");
    if (rc)
        ap_error_prefix(err, "token file %s", path);
    return rc;
}

static int load(const struct ap_auth *auth, struct tokens *ret_tokens, struct ap_error *err)
{
    struct tokens tokens = {0};
    int rc = 0;

    tokens.rows = (struct token *)calloc(AP_AUTH_TOKENS_MAX + 1, sizeof(*tokens.rows));
    if (!tokens.rows)
        return ap_error_set(err, -ENOMEM, "out of memory");
    if (auth->token)
        rc = add_token(&tokens, auth->token, true, "token", err);
    if (!rc && auth->file)
        rc = read_file(auth->file, &tokens, err);
    if (rc)
        free(tokens.rows);
    else
        *ret_tokens = tokens;
    return rc;
}

struct ap_auth *ap_auth_new(const char *token, const char *file, struct ap_error *err)
{
    struct ap_auth *auth = (struct ap_auth *)calloc(1, sizeof(*auth));

    if (!auth || pthread_rwlock_init(&auth->lock, NULL)) {
        free(auth);
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    auth->token = token ? strdup(token) : NULL;
    auth->file = file ? strdup(file) : NULL;
    if ((token && !auth->token) || (file && !auth->file)) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return ap_auth_free(auth);
    }
    return load(auth, &auth->tokens, err) ? ap_auth_free(auth) : auth;
}

struct ap_auth *ap_auth_free(struct ap_auth *auth)
{
    if (!auth)
        return NULL;
    free(auth->tokens.rows);
    if (auth->token)
        explicit_bzero(auth->token, strlen(auth->token));
    free(auth->token);
    free(auth->file);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
    return NULL;
}

int ap_auth_reload(struct ap_auth *auth, struct ap_error *err)
{
    struct tokens tokens, before;
    int rc = load(auth, &tokens, err);

    if (rc)
        return rc;
    pthread_rwlock_wrlock(&auth->lock);
    before = auth->tokens;
    auth->tokens = tokens;
    pthread_rwlock_unlock(&auth->lock);
    free(before.rows);
    return 0;
}

bool ap_auth_is_open(const struct ap_auth *auth)
{
    return !auth->token && !auth->file;
}

size_t ap_auth_cnt(struct ap_auth *auth, size_t *ret_short)
{
    size_t cnt, brief = 0, i;

    pthread_rwlock_rdlock(&auth->lock);
    cnt = auth->tokens.cnt;
    for (i = 0; i < cnt; i++)
        brief += auth->tokens.rows[i].brief;
    pthread_rwlock_unlock(&auth->lock);
    *ret_short = brief;
    return cnt;
}

/* The token of "Bearer TOKEN", or NULL. */
static const char *bearer(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7))
        return NULL;
    authorization += 7;
    while (*authorization == ' ')
        authorization++;
    return *authorization ? authorization : NULL;
}

enum ap_auth_result ap_auth_check(struct ap_auth *auth, const char *authorization, bool write,
                                  char ret_name[AP_AUTH_NAME_SZ])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    const char *token = bearer(authorization);
    enum ap_auth_result result = AP_AUTH_UNKNOWN;
    size_t found = SIZE_MAX, i;

    snprintf(ret_name, AP_AUTH_NAME_SZ, "-");
    if (ap_auth_is_open(auth))
        return AP_AUTH_OK;
    if (!token)
        return AP_AUTH_MISSING;

    SHA256((const unsigned char *)token, strnlen(token, AP_AUTH_TOKEN_SZ), digest);
    pthread_rwlock_rdlock(&auth->lock);
    for (i = 0; i < auth->tokens.cnt; i++) /* all of them, wherever the match is */
        if (!CRYPTO_memcmp(auth->tokens.rows[i].digest, digest, sizeof(digest)))
            found = i;
    if (found != SIZE_MAX) {
        const struct token *row = &auth->tokens.rows[found];

        memcpy(ret_name, row->name, AP_AUTH_NAME_SZ);
        result = write && !row->write ? AP_AUTH_SCOPE : AP_AUTH_OK;
    }
    pthread_rwlock_unlock(&auth->lock);
    return result;
}

const char *ap_auth_result_text(enum ap_auth_result result)
{
    switch (result) {
    case AP_AUTH_OK:
        return "ok";
    case AP_AUTH_MISSING:
        return "no bearer token";
    case AP_AUTH_UNKNOWN:
        return "unknown token";
    case AP_AUTH_SCOPE:
        return "the token may only read";
    }
    return "?";
}
