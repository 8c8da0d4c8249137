/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "api/http.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Longer names are not compared: nobody means them. */
#define NEAREST_SZ 64

void ap_api_pairs_done(struct ap_api_pairs *pairs)
{
    for (size_t i = 0; i < pairs->cnt; i++) {
        free(pairs->rows[i].name);
        free(pairs->rows[i].value);
    }
    free(pairs->rows);
    *pairs = (struct ap_api_pairs){0};
}

/* Takes both texts over, also on failure. */
static int add_owned(struct ap_api_pairs *pairs, char *name, char *value, struct ap_error *err)
{
    struct ap_api_pair *rows = NULL;

    if (name != NULL && value != NULL && pairs->cnt < AP_API_PAIRS_MAX)
        rows = reallocarray(pairs->rows, pairs->cnt + 1, sizeof(*rows));
    if (rows == NULL) {
        free(name);
        free(value);
        if (pairs->cnt >= AP_API_PAIRS_MAX)
            return ap_error_set(err, -E2BIG, "more than %d parameters", AP_API_PAIRS_MAX);
        return ap_error_set(err, -ENOMEM, "out of memory");
    }
    pairs->rows = rows;
    pairs->rows[pairs->cnt++] = (struct ap_api_pair){name, value};
    return 0;
}

int ap_api_pairs_add(struct ap_api_pairs *pairs, const char *name, const char *value, struct ap_error *err)
{
    return add_owned(pairs, strdup(name), strdup(value), err);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes `len` bytes. The caller's text; NULL with words. */
static char *decode(const char *text, size_t len, bool plus, struct ap_error *err)
{
    char *ret = malloc(len + 1), *to = ret;

    if (ret == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < len; i++) {
        if (plus && text[i] == '+') {
            *to++ = ' ';
        } else if (text[i] != '%') {
            *to++ = text[i];
        } else if (i + 2 < len && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0 &&
                   (text[i + 1] != '0' || text[i + 2] != '0')) {
            *to++ = (char)((unsigned)hex(text[i + 1]) << 4 | (unsigned)hex(text[i + 2]));
            i += 2;
        } else {
            ap_error_set(err, -EINVAL, "the address has a %% that is not followed by two hexadecimal digits, or %%00");
            free(ret);
            return NULL;
        }
    }
    *to = '\0';
    return ret;
}

static int split_pairs(const char *query, struct ap_api_pairs *pairs, struct ap_error *err)
{
    while (*query != '\0') {
        size_t len = strcspn(query, "&"), name_len = strcspn(query, "=&");
        char *name, *value;
        int r;

        if (len > 0) {
            size_t skip = name_len < len ? name_len + 1 : len;

            name = decode(query, name_len, true, err);
            value = name != NULL ? decode(query + skip, len - skip, true, err) : NULL;
            if (value == NULL) {
                free(name);
                return err != NULL ? err->code : -EINVAL;
            }
            r = add_owned(pairs, name, value, err);
            if (r != 0)
                return r;
        }
        query += len + (query[len] == '&');
    }
    return 0;
}

int ap_api_split_uri(const char *uri, char **ret_path, struct ap_api_pairs *ret_pairs, struct ap_error *err)
{
    struct ap_api_pairs pairs = {0};
    size_t len = strcspn(uri, "?#");
    struct ap_error words;
    char *path;
    int r;

    if (uri[0] != '/')
        return ap_error_set(err, -EINVAL, "the address of a request begins with /");
    if (err == NULL)
        err = &words;
    path = decode(uri, len, false, err);
    if (path == NULL)
        return err->code;
    r = uri[len] == '?' ? split_pairs(uri + len + 1, &pairs, err) : 0;
    if (r != 0) {
        free(path);
        ap_api_pairs_done(&pairs);
        return r;
    }
    *ret_path = path;
    *ret_pairs = pairs;
    return 0;
}

/* The next item of a list with commas: its first word in `ret_item` of length *ret_len, its weight. False at the end.
 */
static bool next_item(const char **list, const char **ret_item, size_t *ret_len, unsigned *ret_weight)
{
    const char *p = *list + strspn(*list, ", \t");
    size_t len = strcspn(p, ",");
    const char *end = p + len, *q;

    if (*p == '\0')
        return false;
    *list = end;
    *ret_item = p;
    *ret_len = strcspn(p, ";, \t");
    *ret_weight = 1000;
    for (q = p + *ret_len; q < end; q++) {
        if ((*q == 'q' || *q == 'Q') && q[1] == '=') {
            double weight = strtod(q + 2, NULL);

            *ret_weight = weight <= 0 ? 0 : weight >= 1 ? 1000 : (unsigned)(weight * 1000);
            break;
        }
    }
    return true;
}

unsigned ap_api_accept_weight(const char *accept, const char *type)
{
    size_t type_len = strlen(type), family = strcspn(type, "/") + 1, len;
    unsigned best = 0, exact = 0, weight;
    const char *item;

    if (accept == NULL || accept[strspn(accept, ", \t")] == '\0')
        return 1000;
    /* The more precise range counts, whatever the weights say. */
    while (next_item(&accept, &item, &len, &weight)) {
        unsigned precision = 0;

        if (len == type_len && strncasecmp(item, type, len) == 0)
            precision = 3;
        else if (len == family + 1 && item[len - 1] == '*' && strncasecmp(item, type, family) == 0)
            precision = 2;
        else if (len == 3 && strncmp(item, "*/*", 3) == 0)
            precision = 1;
        if (precision > exact || (precision == exact && precision != 0 && weight > best)) {
            exact = precision;
            best = weight;
        }
    }
    return best;
}

static unsigned encoding_weight(const char *accept_encoding, const char *name)
{
    unsigned best = 0, weight;
    bool exact = false;
    const char *item;
    size_t len;

    while (accept_encoding != NULL && next_item(&accept_encoding, &item, &len, &weight)) {
        if (len == strlen(name) && strncasecmp(item, name, len) == 0) {
            best = weight;
            exact = true;
        } else if (!exact && len == 1 && *item == '*') {
            best = weight;
        }
    }
    return best;
}

static const char *const encodings[] = {
    [AP_API_IDENTITY] = NULL,
    [AP_API_ZSTD] = "zstd",
    [AP_API_GZIP] = "gzip",
    [AP_API_DEFLATE] = "deflate",
};

const char *ap_api_encoding_name(enum ap_api_encoding encoding)
{
    return encodings[encoding];
}

bool ap_api_accepts_encoding(const char *accept_encoding, const char *name)
{
    return encoding_weight(accept_encoding, name) > 0;
}

enum ap_api_encoding ap_api_choose_encoding(const char *accept_encoding)
{
    enum ap_api_encoding best = AP_API_IDENTITY;
    unsigned best_weight = 0;

    for (unsigned i = AP_API_ZSTD; i <= AP_API_DEFLATE; i++) {
        unsigned weight = encoding_weight(accept_encoding, encodings[i]);

        if (weight > best_weight) {
            best_weight = weight;
            best = (enum ap_api_encoding)i;
        }
    }
    return best;
}

bool ap_api_is_type(const char *content_type, const char *type)
{
    size_t len = strlen(type);

    return content_type != NULL && strncasecmp(content_type, type, len) == 0 &&
           (content_type[len] == '\0' || strchr("; \t", content_type[len]) != NULL);
}

/* Insertions, deletions and replacements that make one text the other. */
static unsigned distance(const char *a, const char *b)
{
    size_t b_len = strlen(b);
    unsigned row[NEAREST_SZ + 1];

    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = change < row[j] ? change : row[j];
        }
    }
    return row[b_len];
}

const char *ap_api_nearest(const char *name, const char *const *names, size_t cnt)
{
    size_t len = strlen(name);
    const char *best = NULL;
    unsigned least = len / 2 + 2;

    for (size_t i = 0; i < cnt && len < NEAREST_SZ; i++) {
        unsigned changes = distance(name, names[i]);

        if (changes < least) {
            least = changes;
            best = names[i];
        }
    }
    return best;
}
