/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What a request to the HTTP API is made of: a line with its address, a line with a header, and a body. */
#include "api/http.h"
#include "api/params.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_headers(const char *text)
{
    if (ap_api_accept_weight(text, "application/json") > 1000)
        abort();
    (void)ap_api_choose_encoding(text);
    (void)ap_api_accepts_encoding(text, "br");
    (void)ap_api_is_type(text, "application/json");
}

static void check_body(const char *text, size_t len)
{
    struct ap_api_params params, before, after;
    struct ap_error err = {0};

    ap_api_params_init(&params, UINT32_MAX, 1795000000000000000);
    ap_api_params_init(&before, AP_API_SELECTOR, 1795000000000000000);
    ap_api_params_init(&after, AP_API_SELECTOR, 1795000000000000000);
    if (ap_api_params_set_json(&params, text, len, &before, &after, &err) != 0 && err.text[0] == '\0')
        abort();
    ap_api_params_done(&params);
    ap_api_params_done(&before);
    ap_api_params_done(&after);
}

static void check_uri(const char *uri)
{
    struct ap_api_pairs pairs = {0};
    struct ap_api_params params;
    struct ap_error err = {0};
    char *path = NULL;

    if (ap_api_split_uri(uri, &path, &pairs, &err) != 0) {
        if (err.text[0] == '\0' || path != NULL)
            abort();
        return;
    }
    ap_api_params_init(&params, UINT32_MAX, 1795000000000000000);
    if (ap_api_params_set_all(&params, &pairs, &err) == 0)
        (void)ap_api_params_finish(&params, 1, 3600000000000, &err);
    ap_api_params_done(&params);
    ap_api_pairs_done(&pairs);
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *header, *body;

    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    header = memchr(text, '\n', size);
    body = header != NULL ? memchr(header + 1, '\n', size - (size_t)(header + 1 - text)) : NULL;
    if (header != NULL)
        *header++ = '\0';
    if (body != NULL) {
        *body++ = '\0';
        check_body(body, size - (size_t)(body - text));
    }
    check_uri(text);
    if (header != NULL)
        check_headers(header);
    free(text);
    return 0;
}
