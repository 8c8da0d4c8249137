/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/backend.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

/* Longest of the server's words that is passed on. */
#define WORDS_MAX 1000

/* ClickHouse's error codes: src/Common/ErrorCodes.cpp. */
static int errno_of_code(long code)
{
    switch (code) {
    case 159: /* TIMEOUT_EXCEEDED */
        return -ETIMEDOUT;
    case 243: /* NOT_ENOUGH_SPACE */
        return -ENOSPC;
    case 158: /* TOO_MANY_ROWS */
    case 241: /* MEMORY_LIMIT_EXCEEDED */
    case 307: /* TOO_MANY_BYTES */
    case 396: /* TOO_MANY_ROWS_OR_BYTES */
        return -E2BIG;
    case 164: /* READONLY */
    case 192: /* UNKNOWN_USER */
    case 193: /* WRONG_PASSWORD */
    case 194: /* REQUIRED_PASSWORD */
    case 497: /* ACCESS_DENIED */
    case 516: /* AUTHENTICATION_FAILED */
        return -EACCES;
    case 202: /* TOO_MANY_SIMULTANEOUS_QUERIES */
    case 209: /* SOCKET_TIMEOUT */
    case 210: /* NETWORK_ERROR */
    case 242: /* TABLE_IS_READ_ONLY */
    case 252: /* TOO_MANY_PARTS */
    case 279: /* ALL_CONNECTION_TRIES_FAILED */
    case 285: /* TOO_FEW_LIVE_REPLICAS */
    case 286: /* UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE */
    case 319: /* UNKNOWN_STATUS_OF_INSERT */
    case 999: /* KEEPER_EXCEPTION */
        return -EAGAIN;
    default:
        return -EIO;
    }
}

/* What the system said when the disk is full: in words of errno, or of the C++ library. */
static bool is_disk_full(const char *text)
{
    return strstr(text, "No space left on device") != NULL || strstr(text, "errno: 28,") != NULL ||
           strstr(text, "Not enough space") != NULL || strstr(text, "Cannot reserve") != NULL;
}

int ap_sql_exception(struct ap_error *err, const char *doing, const char *text, size_t len)
{
    char words[WORDS_MAX + 1];
    size_t n = len < WORDS_MAX ? len : WORDS_MAX;

    memcpy(words, text, n);
    words[n] = '\0';
    while (n > 0 && isspace((unsigned char)words[n - 1]))
        words[--n] = '\0';
    const char *code = strstr(words, "Code: ");
    int r = errno_of_code(code != NULL ? strtol(code + strlen("Code: "), NULL, 10) : 0);
    if (r == -EIO && is_disk_full(words))
        r = -ENOSPC;
    return ap_error_set(err, r, "%s: %s", doing, words);
}

void ap_sql_head(const char *sql, char ret[AP_SQL_HEAD_SZ])
{
    size_t len = strcspn(sql, "(\n");

    if (len >= AP_SQL_HEAD_SZ)
        len = AP_SQL_HEAD_SZ - 1;
    memcpy(ret, sql, len);
    ret[len] = '\0';
}

/* ---- Turns ---- */

void ap_turns_init(struct ap_turns *turns)
{
    *turns = (struct ap_turns){0};
    pthread_mutex_init(&turns->lock, NULL);
    pthread_cond_init(&turns->freed, NULL);
}

void ap_turns_done(struct ap_turns *turns)
{
    pthread_cond_destroy(&turns->freed);
    pthread_mutex_destroy(&turns->lock);
}

unsigned ap_turns_take(struct ap_turns *turns)
{
    unsigned i = 0;

    pthread_mutex_lock(&turns->lock);
    for (;;) {
        for (i = 0; i < AP_SQL_PARALLEL && turns->busy[i]; i++)
            ;
        if (i < AP_SQL_PARALLEL)
            break;
        pthread_cond_wait(&turns->freed, &turns->lock);
    }
    turns->busy[i] = true;
    pthread_mutex_unlock(&turns->lock);
    return i;
}

void ap_turns_give(struct ap_turns *turns, unsigned turn)
{
    pthread_mutex_lock(&turns->lock);
    turns->busy[turn] = false;
    pthread_cond_signal(&turns->freed);
    pthread_mutex_unlock(&turns->lock);
}
