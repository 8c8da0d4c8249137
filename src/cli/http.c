/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/http.h"

#include "core/clock.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 9090
#define BASE_SZ      1024
#define HEADER_SZ    8192
/* Most of an error's body that is looked at. */
#define ERROR_BODY_SZ (64u << 10)

struct transfer {
    CURL *curl;
    struct ap_out *out;
    struct ap_buf error_body;
    int out_error;
};

int ap_cli_http_param(struct ap_buf *text, bool first, const char *name, const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    const unsigned char *c;

    ap_buf_printf(text, "%c%s=", first ? '?' : '&', name);
    for (c = (const unsigned char *)value; *c; c++) {
        if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("-._~", *c)) {
            ap_buf_char(text, (char)*c);
        } else {
            ap_buf_char(text, '%');
            ap_buf_char(text, hex[*c >> 4]);
            ap_buf_char(text, hex[*c & 15]);
        }
    }
    return text->error;
}

int ap_cli_http_time(struct ap_buf *text, bool first, const char *name, uint64_t ns)
{
    char value[64];

    snprintf(value, sizeof(value), "%llu.%09llu", (unsigned long long)(ns / AP_NS_PER_SEC),
             (unsigned long long)(ns % AP_NS_PER_SEC));
    return ap_cli_http_param(text, first, name, value);
}

/* All conditions as one selector text. */
static void add_matchers(struct ap_buf *text, const struct ap_selector *selector)
{
    static const char *const ops[] = {"=", "!=", "=~", "!~"};
    struct ap_buf match;
    const char *c;
    size_t i;

    ap_buf_init(&match, AP_CLI_URL_SZ);
    for (i = 0; i < selector->matcher_cnt; i++) {
        ap_buf_printf(&match, "%s%s%s\"", i ? "," : "", selector->matchers[i].label, ops[selector->matchers[i].op]);
        for (c = selector->matchers[i].value; *c; c++) {
            if (*c == '"' || *c == '\\')
                ap_buf_char(&match, '\\');
            if (*c == '\n')
                ap_buf_str(&match, "\\n");
            else
                ap_buf_char(&match, *c);
        }
        ap_buf_char(&match, '"');
    }
    if (match.len)
        ap_cli_http_param(text, false, "match", match.data);
    if (match.error && !text->error)
        text->error = match.error;
    ap_buf_done(&match);
}

int ap_cli_http_question(const struct ap_selector *selector, struct ap_buf *ret_text)
{
    ap_cli_http_time(ret_text, true, "from", selector->from_ns);
    ap_cli_http_time(ret_text, false, "to", selector->to_ns);
    if (selector->kind)
        ap_cli_http_param(ret_text, false, "kind", ap_event_kind_name(selector->kind));
    add_matchers(ret_text, selector);
    if (selector->function)
        ap_cli_http_param(ret_text, false, selector->function_regex ? "function_regex" : "function",
                          selector->function);
    return ret_text->error;
}

/* "http://HOST:9090" from "http://HOST:50051"; or --http-endpoint without its last slash. 0 or -EINVAL with words. */
static int base_url(const struct ap_cli_ask *ask, char base[BASE_SZ], struct ap_error *err)
{
    const char *url = ask->http_endpoint ? ask->http_endpoint : ask->endpoint, *host, *colon;
    size_t len;

    if (strncmp(url, "http://", 7) && strncmp(url, "https://", 8))
        return ap_error_set(err, -EINVAL, "\"%s\" is no address: write http://HOST:PORT or https://HOST:PORT", url);
    host = strstr(url, "://") + 3;
    len = strlen(url);
    while (len && url[len - 1] == '/')
        len--;
    if (!ask->http_endpoint) {
        colon = strrchr(host, ':');
        if (colon && !strchr(colon, ']'))
            len = (size_t)(colon - url);
    }
    if (snprintf(base, BASE_SZ, ask->http_endpoint ? "%.*s" : "%.*s:%d", (int)len, url, DEFAULT_PORT) >= BASE_SZ)
        return ap_error_set(err, -EINVAL, "the address of the aggregator is too long");
    return 0;
}

static size_t receive(char *data, size_t size, size_t cnt, void *ctx)
{
    struct transfer *transfer = ctx;
    size_t len = size * cnt, room;
    long status = 0;

    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400) {
        room = ERROR_BODY_SZ - transfer->error_body.len;
        ap_buf_append(&transfer->error_body, data, len < room ? len : room);
        return len;
    }
    ap_out_write(transfer->out, data, len);
    transfer->out_error = ap_out_error(transfer->out);
    return transfer->out_error ? 0 : len;
}

/* The server's own words from {"error":{"code","message"}}. */
static int explain_status(long status, const struct ap_buf *body, const char *base, struct ap_error *err)
{
    json_t *document = body->len ? json_loadb(body->data, body->len, 0, NULL) : NULL;
    const char *message = json_string_value(json_object_get(json_object_get(document, "error"), "message"));

    if (message)
        ap_error_set(err, -EIO, "%s answers: %s (%ld)", base, message, status);
    else if (status == 404)
        ap_error_set(err, -ENOENT, "%s does not know this request: is that the HTTP address of an aggregator?", base);
    else
        ap_error_set(err, -EIO, "%s answers with status %ld", base, status);
    json_decref(document);
    return err->code;
}

static int explain_failure(CURLcode rc, const char *detail, const char *base, struct ap_error *err)
{
    const char *text = *detail ? detail : curl_easy_strerror(rc);

    if (rc == CURLE_COULDNT_CONNECT)
        return ap_error_set(err, -ECONNREFUSED,
                            "cannot reach %s: %s. Is aperture-aggregator running there? --http-endpoint says where its "
                            "HTTP address is",
                            base, text);
    return ap_error_set(err, -EIO, "cannot talk to %s: %s", base, text);
}

static struct curl_slist *headers_of(const struct ap_cli_ask *ask, const char *content_type)
{
    struct curl_slist *headers = NULL;
    char text[HEADER_SZ];

    if (ask->token) {
        snprintf(text, sizeof(text), "Authorization: Bearer %s", ask->token);
        headers = curl_slist_append(headers, text);
    }
    if (content_type) {
        snprintf(text, sizeof(text), "Content-Type: %s", content_type);
        headers = curl_slist_append(headers, text);
    }
    return curl_slist_append(headers, "Expect:"); /* no round trip before a body */
}

static void set_up(struct transfer *transfer, const struct ap_cli_ask *ask, const char *url, FILE *upload, char *detail)
{
    CURL *curl = transfer->curl;

    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "aperture-cli/" APERTURE_VERSION);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(ask->timeout_ns / 1000000));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    if (ask->tls_ca)
        curl_easy_setopt(curl, CURLOPT_CAINFO, ask->tls_ca);
    if (ask->tls_cert)
        curl_easy_setopt(curl, CURLOPT_SSLCERT, ask->tls_cert);
    if (ask->tls_key)
        curl_easy_setopt(curl, CURLOPT_SSLKEY, ask->tls_key);
    if (upload) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_READDATA, upload);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, -1L); /* in chunks: its length need not be known */
    }
}

int ap_cli_http(const struct ap_cli_ask *ask, const char *path, FILE *upload, const char *content_type,
                struct ap_out *out, struct ap_error *err)
{
    struct transfer transfer = {.curl = curl_easy_init(), .out = out};
    char base[BASE_SZ], detail[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = headers_of(ask, content_type);
    long status = 0;
    char *url = NULL;
    CURLcode code;
    int rc;

    ap_buf_init(&transfer.error_body, ERROR_BODY_SZ);
    rc = base_url(ask, base, err);
    if (!rc && (!transfer.curl || asprintf(&url, "%s%s", base, path) < 0))
        rc = ap_error_set(err, -ENOMEM, "out of memory");
    if (!rc) {
        set_up(&transfer, ask, url, upload, detail);
        curl_easy_setopt(transfer.curl, CURLOPT_HTTPHEADER, headers);
        code = curl_easy_perform(transfer.curl);
        curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
        if (transfer.out_error)
            rc = ap_error_errno(err, transfer.out_error, "cannot write the answer");
        else if (status >= 400) /* also when it closed on us before it had read everything */
            rc = explain_status(status, &transfer.error_body, base, err);
        else if (code != CURLE_OK)
            rc = explain_failure(code, detail, base, err);
    }
    free(url);
    curl_slist_free_all(headers);
    curl_easy_cleanup(transfer.curl);
    ap_buf_done(&transfer.error_body);
    return rc;
}
