/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A ClickHouse server over HTTP: statements in the body, data of inserts in Native format with the statement in the
 * address. https://clickhouse.com/docs/interfaces/http */
#include "storage/backend.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Longest address of a request: the statement of an insert with its settings. */
#define URL_SZ (64u << 10)
/* Longest user or password. */
#define SECRET_SZ 1024

struct clickhouse {
    char *endpoint; /* without a slash at its end */
    struct curl_slist *headers;
    struct ap_turns turns;
    CURL *conns[AP_SQL_PARALLEL];
};

/* ---- One request ---- */

static size_t take_answer(char *data, size_t size, size_t cnt, void *ctx)
{
    return ap_buf_append(ctx, data, size * cnt) == 0 ? size * cnt : 0;
}

static int curl_failed(const struct clickhouse *ch, CURLcode code, CURL *conn, struct ap_error *err)
{
    double connected = 0;

    curl_easy_getinfo(conn, CURLINFO_CONNECT_TIME, &connected);
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
        return ap_error_errno(err, -ENOMEM, "request to the ClickHouse server");
    case CURLE_WRITE_ERROR:
        return ap_error_set(err, -E2BIG, "the answer has more than %u bytes: narrow the question", AP_SQL_RESULT_SZ);
    case CURLE_OPERATION_TIMEDOUT:
        if (connected > 0)
            return ap_error_set(err, -ETIMEDOUT, "the ClickHouse server at %s did not answer in time", ch->endpoint);
        break;
    default:
        break;
    }
    return ap_error_set(err, -EAGAIN, "the ClickHouse server at %s cannot be reached: %s", ch->endpoint,
                        curl_easy_strerror(code));
}

struct request {
    const char *url, *body;
    size_t body_sz;
    unsigned timeout_s;
    const char *doing; /* for messages */
};

/* Posts the body, appends what is answered to `ret`. */
static int post(const struct clickhouse *ch, CURL *conn, const struct request *request, struct ap_buf *ret,
                struct ap_error *err)
{
    long status = 0;

    curl_easy_reset(conn); /* the connection itself stays */
    curl_easy_setopt(conn, CURLOPT_URL, request->url);
    curl_easy_setopt(conn, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(conn, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(conn, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(conn, CURLOPT_CONNECTTIMEOUT, (long)AP_SQL_CONNECT_S);
    curl_easy_setopt(conn, CURLOPT_TIMEOUT, (long)request->timeout_s);
    curl_easy_setopt(conn, CURLOPT_HTTPHEADER, ch->headers);
    curl_easy_setopt(conn, CURLOPT_POST, 1L);
    curl_easy_setopt(conn, CURLOPT_POSTFIELDS, request->body);
    curl_easy_setopt(conn, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_sz);
    curl_easy_setopt(conn, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(conn, CURLOPT_WRITEDATA, ret);
    CURLcode code = curl_easy_perform(conn);
    if (code != CURLE_OK)
        return curl_failed(ch, code, conn, err);
    curl_easy_getinfo(conn, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        return 0;
    if (ret->len == 0)
        return ap_error_set(err, status == 503 || status == 502 || status == 504 ? -EAGAIN : -EIO,
                            "%s: the server at %s answers with HTTP status %ld", request->doing, ch->endpoint, status);
    return ap_sql_exception(err, request->doing, ret->data, ret->len);
}

/* What every statement runs with: all of it known to old servers. */
static void put_settings(struct ap_buf *url, const struct clickhouse *ch, unsigned timeout_s)
{
    ap_buf_printf(url,
                  "%s/?wait_end_of_query=1&default_format=RowBinary&max_execution_time=%u&max_query_size=134217728"
                  "&max_ast_elements=10000000&max_expanded_ast_elements=10000000&distributed_product_mode=global"
                  "&insert_distributed_sync=1",
                  ch->endpoint, timeout_s);
}

static int statement(struct clickhouse *ch, const char *sql, unsigned timeout_s, struct ap_buf *ret,
                     struct ap_error *err)
{
    char doing[AP_SQL_HEAD_SZ];
    struct ap_buf url;

    ap_buf_init(&url, URL_SZ);
    put_settings(&url, ch, timeout_s);
    ap_sql_head(sql, doing);
    int r = url.error;
    if (r != 0) {
        ap_error_errno(err, r, "%s", doing);
    } else {
        /* A second more than the server has: its own words are better. */
        const struct request request = {
            .url = url.data, .body = sql, .body_sz = strlen(sql), .timeout_s = timeout_s + 1, .doing = doing};
        unsigned turn = ap_turns_take(&ch->turns);

        r = post(ch, ch->conns[turn], &request, ret, err);
        ap_turns_give(&ch->turns, turn);
    }
    ap_buf_done(&url);
    return r;
}

static int clickhouse_exec(void *backend, const char *sql, struct ap_error *err)
{
    struct ap_buf answer;

    ap_buf_init(&answer, AP_SQL_RESULT_SZ);
    int r = statement(backend, sql, AP_SQL_INSERT_S, &answer, err);
    ap_buf_done(&answer);
    return r;
}

static void release(void *owner)
{
    ap_buf_done(owner);
    free(owner);
}

static int clickhouse_query(void *backend, const char *sql, unsigned timeout_s, struct ap_sql_result *ret_result,
                            struct ap_error *err)
{
    struct ap_buf *answer = calloc(1, sizeof(*answer));

    if (answer == NULL)
        return ap_error_errno(err, -ENOMEM, "query");
    ap_buf_init(answer, AP_SQL_RESULT_SZ);
    int r = statement(backend, sql, timeout_s, answer, err);
    if (r != 0) {
        release(answer);
        return r;
    }
    const uint8_t *data = (const uint8_t *)answer->data;
    *ret_result = (struct ap_sql_result){
        .in = {.at = data, .end = data != NULL ? data + answer->len : NULL},
        .owner = answer,
        .release = release,
    };
    return 0;
}

/* ---- Inserts ---- */

static void put_insert(struct ap_buf *url, const char *table, const struct ap_block *block, const char *token,
                       const struct ap_sql_features *features)
{
    /* One block, so one part. */
    ap_buf_str(url, "&max_insert_block_size=16777216&min_insert_block_size_rows=16777216"
                    "&min_insert_block_size_bytes=17179869184");
    if (features->full)
        ap_buf_str(url, "&max_insert_threads=1&input_format_parallel_parsing=0&async_insert=0");
    if (features->full && token != NULL)
        ap_buf_printf(url, "&insert_deduplicate=1&insert_deduplication_token=%s", token);
    ap_buf_printf(url, "&query=INSERT%%20INTO%%20%s%%20(", table);
    for (size_t c = 0; c < block->col_cnt; c++)
        ap_buf_printf(url, "%s%s", c > 0 ? "," : "", block->defs[c].name);
    if (block->grp != NULL)
        ap_buf_printf(url, ",%s", block->grp->name);
    ap_buf_str(url, ")%20FORMAT%20Native");
}

static int clickhouse_insert(void *backend, const char *table, const struct ap_block *block, const char *token,
                             const struct ap_sql_features *features, struct ap_error *err)
{
    struct clickhouse *ch = backend;
    struct ap_buf url, body, answer;
    char doing[AP_SQL_HEAD_SZ];

    snprintf(doing, sizeof(doing), "insert into %s", table);
    ap_buf_init(&url, URL_SZ);
    ap_buf_init(&body, 2ull * AP_BLOCK_COL_SZ);
    ap_buf_init(&answer, AP_SQL_RESULT_SZ);
    put_settings(&url, ch, AP_SQL_INSERT_S);
    put_insert(&url, table, block, token, features);
    int r = ap_block_native(block, &body);
    if (r == 0)
        r = url.error;
    if (r != 0) {
        ap_error_errno(err, r == -ENOSPC ? -E2BIG : r, "%s", doing);
    } else {
        const struct request request = {
            .url = url.data, .body = body.data, .body_sz = body.len, .timeout_s = AP_SQL_INSERT_S, .doing = doing};
        unsigned turn = ap_turns_take(&ch->turns);

        r = post(ch, ch->conns[turn], &request, &answer, err);
        ap_turns_give(&ch->turns, turn);
    }
    ap_buf_done(&url);
    ap_buf_done(&body);
    ap_buf_done(&answer);
    return r;
}

/* ---- Whole ---- */

static void clickhouse_close(void *backend)
{
    struct clickhouse *ch = backend;

    if (ch == NULL)
        return;
    for (unsigned i = 0; i < AP_SQL_PARALLEL; i++)
        curl_easy_cleanup(ch->conns[i]);
    curl_slist_free_all(ch->headers);
    ap_turns_done(&ch->turns);
    free(ch->endpoint);
    free(ch);
}

/* Nothing that would end a header. */
static bool is_header_text(const char *text)
{
    return strlen(text) <= SECRET_SZ && strpbrk(text, "\r\n") == NULL;
}

static int add_header(struct clickhouse *ch, const char *name, const char *value, struct ap_error *err)
{
    char line[SECRET_SZ + 64];

    if (value == NULL || value[0] == '\0')
        return 0;
    if (!is_header_text(value))
        return ap_error_set(err, -EINVAL, "the ClickHouse user or password is too long, or has a line break in it");
    snprintf(line, sizeof(line), "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(ch->headers, line);
    if (longer == NULL)
        return ap_error_errno(err, -ENOMEM, "ClickHouse");
    ch->headers = longer;
    return 0;
}

static int set_up(struct clickhouse *ch, const struct ap_storage_opts *opts, struct ap_error *err)
{
    size_t len = opts->endpoint != NULL ? strlen(opts->endpoint) : 0;

    if (len == 0 || (strncmp(opts->endpoint, "http://", 7) != 0 && strncmp(opts->endpoint, "https://", 8) != 0) ||
        strpbrk(opts->endpoint, "?# \r\n") != NULL)
        return ap_error_set(err, -EINVAL, "\"%s\" is no address of a ClickHouse server: http://HOST:8123",
                            opts->endpoint != NULL ? opts->endpoint : "");
    while (opts->endpoint[len - 1] == '/')
        len--;
    ch->endpoint = strndup(opts->endpoint, len);
    /* No "Expect: 100-continue": old servers let it wait. */
    ch->headers = curl_slist_append(NULL, "Expect:");
    if (ch->endpoint == NULL || ch->headers == NULL)
        return ap_error_errno(err, -ENOMEM, "ClickHouse");
    int r = add_header(ch, "X-ClickHouse-User", opts->user, err);
    if (r == 0)
        r = add_header(ch, "X-ClickHouse-Key", opts->password, err);
    for (unsigned i = 0; i < AP_SQL_PARALLEL && r == 0; i++) {
        ch->conns[i] = curl_easy_init();
        if (ch->conns[i] == NULL)
            r = ap_error_errno(err, -ENOMEM, "ClickHouse");
    }
    return r;
}

static int clickhouse_open(const struct ap_storage_opts *opts, void **ret_backend, struct ap_error *err)
{
    struct clickhouse *ch = calloc(1, sizeof(*ch));

    if (ch == NULL)
        return ap_error_errno(err, -ENOMEM, "ClickHouse");
    ap_turns_init(&ch->turns);
    /* Counted by curl itself; never undone, as others in this process may use it. */
    int r = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? set_up(ch, opts, err)
                                                              : ap_error_set(err, -EIO, "libcurl cannot be used");
    if (r != 0) {
        clickhouse_close(ch);
        return r;
    }
    *ret_backend = ch;
    return 0;
}

const struct ap_backend_ops ap_backend_clickhouse = {
    .open = clickhouse_open,
    .close = clickhouse_close,
    .exec = clickhouse_exec,
    .query = clickhouse_query,
    .insert = clickhouse_insert,
};
