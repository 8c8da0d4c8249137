/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/ask.h"

#include "core/buf.h"
#include "rpc/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define METHOD_SZ 64

const char *const ap_cli_formats[] = {"table", "json", "csv", NULL};

int ap_cli_options(const struct ap_options_spec *spec, struct ap_cli_ask *ask, int argc, char **argv, int *ret_first,
                   struct ap_error *err)
{
    int first = argc, rc = ap_options_parse(spec, ask, sizeof(*ask), argc, argv, &first, err);

    if (rc == AP_OPTIONS_EXIT)
        return AP_CLI_OK;
    if (rc < 0)
        return AP_CLI_USAGE;
    if (ret_first)
        *ret_first = first;
    return -1;
}

/* Several values of one label: any of them, as a regular expression of quoted texts. */
static int match_any(struct ap_selector *selector, const char *label, const struct ap_option_list *list,
                     struct ap_error *err)
{
    struct ap_buf text;
    const char *c;
    size_t i;
    int rc;

    if (!list->cnt)
        return 0;
    if (list->cnt == 1)
        return ap_selector_match(selector, label, AP_MATCH_EQUAL, list->items[0], err);
    ap_buf_init(&text, AP_SELECTOR_TEXT_SZ);
    for (i = 0; i < list->cnt; i++) {
        if (i)
            ap_buf_char(&text, '|');
        for (c = list->items[i]; *c; c++) {
            if (strchr("\\^$.[]|()?*+{}", *c))
                ap_buf_char(&text, '\\');
            ap_buf_char(&text, *c);
        }
    }
    rc = text.error ? ap_error_set(err, text.error, "too many values")
                    : ap_selector_match(selector, label, AP_MATCH_REGEX, text.data, err);
    ap_buf_done(&text);
    return rc;
}

static int match_labels(struct ap_selector *selector, const struct ap_cli_ask *ask, struct ap_error *err)
{
    char *equals;
    size_t i;
    int rc = 0;

    for (i = 0; !rc && i < ask->labels.cnt; i++) {
        equals = strchr(ask->labels.items[i], '=');
        if (!equals)
            return ap_error_set(err, -EINVAL, "--label: \"%s\" has no value: write NAME=VALUE", ask->labels.items[i]);
        *equals = '\0';
        rc = ap_selector_match(selector, ask->labels.items[i], AP_MATCH_EQUAL, equals + 1, err);
        *equals = '=';
    }
    if (rc)
        return ap_error_prefix(err, "--label");
    for (i = 0; !rc && i < ask->matches.cnt; i++)
        rc = ap_selector_parse(selector, ask->matches.items[i], err);
    return rc ? ap_error_prefix(err, "--match") : 0;
}

static int take_scope(struct ap_selector *selector, const struct ap_cli_ask *ask, struct ap_error *err)
{
    const struct {
        const char *label;
        const struct ap_option_list *list;
    } lists[] = {{"host", &ask->hosts},
                 {"service", &ask->services},
                 {"comm", &ask->comms},
                 {"pid", &ask->pids},
                 {"container", &ask->containers}};
    size_t i;
    int rc = 0;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        rc = match_any(selector, lists[i].label, lists[i].list, err);
        if (rc)
            return ap_error_prefix(err, "--%s", lists[i].label);
    }
    rc = match_labels(selector, ask, err);
    if (rc)
        return rc;
    if (ask->function && ask->function_regex)
        return ap_error_set(err, -EINVAL, "--function and --function-regex exclude each other");
    if (ask->function)
        rc = ap_selector_function(selector, ask->function, false, err);
    else if (ask->function_regex)
        rc = ap_selector_function(selector, ask->function_regex, true, err);
    return rc;
}

static int take_times(struct ap_selector *selector, const struct ap_cli_ask *ask, uint64_t now_ns, uint64_t default_ns,
                      struct ap_error *err)
{
    const char *from = ask->from ? ask->from : ask->since;
    int rc;

    if (ask->from && ask->since)
        return ap_error_set(err, -EINVAL, "--since and --from are the same: give one of them");
    selector->to_ns = now_ns;
    if (ask->to) {
        rc = ap_selector_time(ask->to, now_ns, &selector->to_ns, err);
        if (rc)
            return ap_error_prefix(err, "--to");
    }
    selector->from_ns = selector->to_ns > default_ns && default_ns ? selector->to_ns - default_ns : 0;
    if (from) {
        rc = ap_selector_time(from, now_ns, &selector->from_ns, err);
        if (rc)
            return ap_error_prefix(err, ask->from ? "--from" : "--since");
    }
    if (selector->from_ns >= selector->to_ns)
        return ap_error_set(err, -EINVAL, "the range ends before it begins: --since or --from must lie before --to");
    return 0;
}

static int take_kind(struct ap_selector *selector, const struct ap_cli_ask *ask, struct ap_error *err)
{
    const char *kind = ask->event_type ? ask->event_type : ask->kind;
    int rc = 0;

    if (ask->event_type && ask->kind)
        return ap_error_set(err, -EINVAL, "--event-type and --kind are the same: give one of them");
    if (kind)
        rc = ap_selector_kind(kind, &selector->kind, err);
    return rc ? ap_error_prefix(err, ask->kind ? "--kind" : "--event-type") : 0;
}

int ap_cli_selector(const struct ap_cli_ask *ask, uint8_t default_kind, uint64_t now_ns, uint64_t default_ns,
                    struct ap_selector *ret_selector, struct ap_error *err)
{
    struct ap_selector selector = {.kind = default_kind};
    int rc = take_kind(&selector, ask, err);

    if (!rc)
        rc = take_times(&selector, ask, now_ns, default_ns, err);
    if (!rc)
        rc = take_scope(&selector, ask, err);
    if (rc) {
        ap_selector_done(&selector);
        return rc;
    }
    *ret_selector = selector;
    return 0;
}

int ap_cli_call(const struct ap_cli_ask *ask, const char *method, const struct ap_buf *request, struct ap_buf *ret_data,
                struct ap_error *err)
{
    const struct ap_rpc_client_opts opts = {
        .endpoint = ask->endpoint, .tls = {ask->tls_ca, ask->tls_cert, ask->tls_key}, .token = ask->token};
    struct ap_rpc_client *client;
    char path[METHOD_SZ];
    int status;

    client = ap_rpc_client_new(&opts, err);
    if (!client)
        return ap_error_prefix(err, "--endpoint");
    snprintf(path, sizeof(path), "/aperture.v1.Aggregator/%s", method);
    status = ap_rpc_client_call(client, path, request->data, request->len, ask->timeout_ns, ret_data, err);
    ap_rpc_client_free(client);
    return status == AP_RPC_OK ? 0 : -EIO;
}
