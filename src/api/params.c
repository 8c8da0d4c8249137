/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "api/params.h"

#include "core/parse.h"
#include "format/json_read.h"
#include "model/push.h"
#include "query/query.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest text in a JSON body. */
#define TEXT_SZ (64u << 10)

struct def {
    const char *name;
    uint32_t group;
    bool repeated;
    int (*set)(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err);
};

static int set_kind(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    if (params->selector.kind != 0)
        return ap_error_set(err, -EINVAL, "%s: kind and event_type are the same, give one of them", name);
    return ap_selector_kind(value, &params->selector.kind, err);
}

static int set_moment(struct ap_api_params *params, const char *name, const char *value, uint64_t *ret,
                      struct ap_error *err)
{
    int r = ap_selector_time(value, params->now_ns, ret, err);

    if (r != 0)
        ap_error_prefix(err, "%s", name);
    return r;
}

static int set_from(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    params->has_from = true;
    return set_moment(params, name, value, &params->selector.from_ns, err);
}

static int set_to(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    params->has_to = true;
    return set_moment(params, name, value, &params->selector.to_ns, err);
}

static int set_since(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    params->has_since = true;
    return set_moment(params, name, value, &params->selector.from_ns, err);
}

static int set_label(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    if (strncmp(name, "label.", 6) == 0)
        name += 6;
    return ap_selector_match(&params->selector, name, AP_MATCH_EQUAL, value, err);
}

static int set_match(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    int r = ap_selector_parse(&params->selector, value, err);

    if (r != 0)
        ap_error_prefix(err, "%s", name);
    return r;
}

static int set_function(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    if (params->selector.function != NULL)
        return ap_error_set(err, -EINVAL, "%s: give either function or function_regex", name);
    return ap_selector_function(&params->selector, value, strcmp(name, "function_regex") == 0, err);
}

static int set_number(const char *name, const char *value, uint64_t max, uint64_t *ret, struct ap_error *err)
{
    uint64_t number;
    int r = ap_parse_u64(value, &number, err);

    if (r != 0)
        return ap_error_prefix(err, "%s", name);
    if (number == 0 || number > max)
        return ap_error_set(err, -EINVAL, "%s: %" PRIu64 " is not between 1 and %" PRIu64, name, number, max);
    *ret = number;
    return 0;
}

static int set_limit(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    return set_number(name, value, AP_QUERY_LIMIT_MAX, &params->limit, err);
}

static int set_max_nodes(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    return set_number(name, value, AP_QUERY_NODES_MAX, &params->max_nodes, err);
}

static int set_length(const char *name, const char *value, uint64_t *ret, struct ap_error *err)
{
    int r = ap_parse_duration(value, ret, err);

    if (r != 0)
        ap_error_prefix(err, "%s", name);
    return r;
}

static int set_step(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    int r = set_length(name, value, &params->step_ns, err);

    if (r == 0 && (params->step_ns == 0 || params->step_ns % AP_PUSH_SLOT_NS != 0))
        return ap_error_set(err, -EINVAL, "%s: '%s' is not a multiple of 20ms", name, value);
    return r;
}

static int set_duration(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    return set_length(name, value, &params->duration_ns, err);
}

static int set_period(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    return set_length(name, value, &params->period_ns, err);
}

static int set_time(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    return set_moment(params, name, value, &params->time_ns, err);
}

static int set_baseline_from(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    params->has_baseline = true;
    return set_moment(params, name, value, &params->baseline_from_ns, err);
}

static int set_baseline_to(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    params->has_baseline = true;
    return set_moment(params, name, value, &params->baseline_to_ns, err);
}

static int set_text(char **ret, const char *value, struct ap_error *err)
{
    free(*ret);
    *ret = strdup(value);
    return *ret != NULL ? 0 : ap_error_set(err, -ENOMEM, "out of memory");
}

static int set_by(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    if (!ap_label_name_valid(value))
        return ap_error_set(err, -EINVAL, "%s: '%.64s' is not a label", name, value);
    return set_text(&params->by, value, err);
}

static int set_source(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    if (strcmp(value, "memory") != 0 && strcmp(value, "storage") != 0)
        return ap_error_set(err, -EINVAL, "%s: '%.64s' is neither memory nor storage", name, value);
    return set_text(&params->source, value, err);
}

static int set_format(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    (void)name;
    return set_text(&params->format, value, err);
}

static int add_path(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    char **path = NULL, *copy = NULL;

    if (params->path_cnt == AP_API_PATH_MAX)
        return ap_error_set(err, -E2BIG, "%s: more than %d names", name, AP_API_PATH_MAX);
    path = reallocarray(params->path, params->path_cnt + 1, sizeof(*path));
    if (path != NULL) {
        params->path = path;
        copy = strdup(value);
    }
    if (copy == NULL)
        return ap_error_set(err, -ENOMEM, "out of memory");
    params->path[params->path_cnt++] = copy;
    return 0;
}

/* At most 64 * 2: see ap_api_params.given. */
static const struct def defs[] = {
    {"kind", AP_API_KIND, false, set_kind},
    {"event_type", AP_API_KIND, false, set_kind},
    {"from", AP_API_TIME, false, set_from},
    {"to", AP_API_TIME, false, set_to},
    {"since", AP_API_TIME, false, set_since},
    {"host", AP_API_LABELS, false, set_label},
    {"service", AP_API_LABELS, false, set_label},
    {"comm", AP_API_LABELS, false, set_label},
    {"pid", AP_API_LABELS, false, set_label},
    {"exe", AP_API_LABELS, false, set_label},
    {"container", AP_API_LABELS, false, set_label},
    {"agent", AP_API_LABELS, false, set_label},
    {"label.NAME", AP_API_LABELS, true, set_label},
    {"match", AP_API_MATCH, true, set_match},
    {"function", AP_API_FUNCTION, false, set_function},
    {"function_regex", AP_API_FUNCTION, false, set_function},
    {"max_nodes", AP_API_NODES, false, set_max_nodes},
    {"path", AP_API_PATH, true, add_path},
    {"limit", AP_API_LIMIT, false, set_limit},
    {"step", AP_API_STEP, false, set_step},
    {"by", AP_API_BY, false, set_by},
    {"source", AP_API_SOURCE, false, set_source},
    {"baseline_from", AP_API_BASELINE, false, set_baseline_from},
    {"baseline_to", AP_API_BASELINE, false, set_baseline_to},
    {"format", AP_API_FORMAT, false, set_format},
    {"time", AP_API_IMPORT, false, set_time},
    {"duration", AP_API_IMPORT, false, set_duration},
    {"period", AP_API_IMPORT, false, set_period},
};
#define DEF_CNT (sizeof(defs) / sizeof(defs[0]))
_Static_assert(DEF_CNT <= AP_API_NAMES_MAX, "names fit");

void ap_api_params_init(struct ap_api_params *params, uint32_t allowed, uint64_t now_ns)
{
    *params = (struct ap_api_params){.allowed = allowed, .now_ns = now_ns};
}

void ap_api_params_done(struct ap_api_params *params)
{
    ap_selector_done(&params->selector);
    free(params->by);
    free(params->source);
    free(params->format);
    for (size_t i = 0; i < params->path_cnt; i++)
        free(params->path[i]);
    free(params->path);
    *params = (struct ap_api_params){0};
}

size_t ap_api_params_names(uint32_t allowed, const char *ret[AP_API_NAMES_MAX])
{
    size_t cnt = 0;

    for (size_t i = 0; i < DEF_CNT; i++)
        if ((defs[i].group & allowed) != 0)
            ret[cnt++] = defs[i].name;
    return cnt;
}

static int unknown(const struct ap_api_params *params, const char *name, struct ap_error *err)
{
    const char *names[AP_API_NAMES_MAX], *nearest;
    size_t cnt = ap_api_params_names(params->allowed, names);

    if (cnt == 0)
        return ap_error_set(err, -EINVAL, "unknown parameter '%.64s': this endpoint takes none", name);
    nearest = ap_api_nearest(name, names, cnt);
    if (nearest == NULL)
        nearest = names[0];
    return ap_error_set(err, -EINVAL, "unknown parameter '%.64s': did you mean %s?", name, nearest);
}

int ap_api_params_set(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err)
{
    bool own_label = strncmp(name, "label.", 6) == 0;

    for (size_t i = 0; i < DEF_CNT; i++) {
        const struct def *def = &defs[i];
        uint64_t bit = UINT64_C(1) << (i % 64);

        if ((def->group & params->allowed) == 0 || strcmp(own_label ? "label.NAME" : name, def->name) != 0)
            continue;
        if (!def->repeated && (params->given[i / 64] & bit) != 0)
            return ap_error_set(err, -EINVAL, "parameter '%s' is given twice", name);
        params->given[i / 64] |= bit;
        return def->set(params, name, value, err);
    }
    return unknown(params, name, err);
}

int ap_api_params_set_all(struct ap_api_params *params, const struct ap_api_pairs *pairs, struct ap_error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < pairs->cnt; i++)
        r = ap_api_params_set(params, pairs->rows[i].name, pairs->rows[i].value, err);
    return r;
}

/* ---- JSON bodies --------------------------------------------------------------------------------------------------
 */

struct body {
    struct ap_json_doc doc;
    struct ap_buf name, value; /* scratch */
    struct ap_error *err;
};

static int too_long(const struct body *body, int rc)
{
    if (rc == -ENOMEM)
        return ap_error_set(body->err, rc, "out of memory");
    return ap_error_set(body->err, -EINVAL, "a text in the body of more than %u bytes", TEXT_SZ);
}

/* Value of a member as the query string would have it. */
static int scalar_text(struct body *body, uint32_t token)
{
    uint32_t pos = body->doc.tokens[token].pos;
    size_t len;
    int r;

    switch (ap_json_type(&body->doc, token)) {
    case '"':
        r = ap_json_text(&body->doc, token, &body->value);
        return r == 0 ? 0 : too_long(body, r);
    case '0':
    case 't':
    case 'f':
        ap_buf_reset(&body->value);
        for (len = 0; pos + len < body->doc.len && strchr(" \t\r\n,]}", body->doc.text[pos + len]) == NULL; len++)
            ap_buf_char(&body->value, body->doc.text[pos + len]);
        return body->value.error == 0 ? 0 : too_long(body, body->value.error);
    default:
        return ap_error_set(body->err, -EINVAL, "member '%.64s' of the body is neither text nor a number",
                            body->name.data);
    }
}

static int set_member(struct body *body, struct ap_api_params *params, uint32_t value)
{
    uint32_t item = AP_JSON_NONE;
    int r = 0;

    if (ap_json_type(&body->doc, value) == 'n') /* null: not given */
        return 0;
    if (ap_json_type(&body->doc, value) != '[') {
        r = scalar_text(body, value);
        return r == 0 ? ap_api_params_set(params, body->name.data, body->value.data, body->err) : r;
    }
    while (r == 0 && (item = ap_json_next_item(&body->doc, value, item)) != AP_JSON_NONE) {
        r = scalar_text(body, item);
        if (r == 0)
            r = ap_api_params_set(params, body->name.data, body->value.data, body->err);
    }
    return r;
}

/* The members of "labels". */
static int set_labels(struct body *body, struct ap_api_params *params, uint32_t object)
{
    uint32_t name = AP_JSON_NONE;
    int r = 0;

    if (ap_json_type(&body->doc, object) != '{')
        return ap_error_set(body->err, -EINVAL, "member 'labels' of the body is no object");
    while (r == 0 && (name = ap_json_next_name(&body->doc, object, name)) != AP_JSON_NONE) {
        r = ap_json_text(&body->doc, name, &body->value);
        ap_buf_reset(&body->name);
        ap_buf_printf(&body->name, "label.%s", r == 0 ? body->value.data : "");
        if (r != 0 || body->name.error != 0)
            return too_long(body, r != 0 ? r : body->name.error);
        r = scalar_text(body, name + 1);
        if (r == 0)
            r = ap_api_params_set(params, body->name.data, body->value.data, body->err);
    }
    return r;
}

static int set_object(struct body *body, struct ap_api_params *params, uint32_t object, struct ap_api_params *before,
                      struct ap_api_params *after)
{
    uint32_t name = AP_JSON_NONE;
    int r = 0;

    if (ap_json_type(&body->doc, object) != '{')
        return ap_error_set(body->err, -EINVAL, "the body is no JSON object, or one of its members should be one");
    while (r == 0 && (name = ap_json_next_name(&body->doc, object, name)) != AP_JSON_NONE) {
        r = ap_json_text(&body->doc, name, &body->name);
        if (r != 0)
            return too_long(body, r);
        if (strcmp(body->name.data, "labels") == 0 && (params->allowed & AP_API_LABELS) != 0)
            r = set_labels(body, params, name + 1);
        else if (before != NULL && strcmp(body->name.data, "before") == 0)
            r = set_object(body, before, name + 1, NULL, NULL);
        else if (after != NULL && strcmp(body->name.data, "after") == 0)
            r = set_object(body, after, name + 1, NULL, NULL);
        else
            r = set_member(body, params, name + 1);
    }
    return r;
}

int ap_api_params_set_json(struct ap_api_params *params, const char *text, size_t len, struct ap_api_params *before,
                           struct ap_api_params *after, struct ap_error *err)
{
    struct body body = {.err = err};
    int r = ap_json_doc_init(&body.doc, text, len, err);

    if (r != 0)
        return ap_error_prefix(err, "body");
    ap_buf_init(&body.name, TEXT_SZ);
    ap_buf_init(&body.value, TEXT_SZ);
    r = set_object(&body, params, 0, before, after);
    ap_buf_done(&body.name);
    ap_buf_done(&body.value);
    ap_json_doc_done(&body.doc);
    return r;
}

int ap_api_params_finish(struct ap_api_params *params, uint8_t kind, uint64_t range_ns, struct ap_error *err)
{
    struct ap_selector *selector = &params->selector;

    if (params->has_since && params->has_from)
        return ap_error_set(err, -EINVAL, "since and from are the same, give one of them");
    if (selector->kind == 0)
        selector->kind = kind;
    if (!params->has_from && !params->has_since && range_ns != 0) {
        uint64_t to_ns = params->has_to ? selector->to_ns : params->now_ns;

        selector->from_ns = to_ns > range_ns ? to_ns - range_ns : 0;
    }
    if (params->has_to && selector->to_ns == 0) /* 0 would mean now */
        selector->to_ns = 1;
    if (selector->to_ns != 0 && selector->from_ns >= selector->to_ns)
        return ap_error_set(err, -EINVAL, "the range is empty: it begins at or after its end");
    if (selector->to_ns == 0 && selector->from_ns > params->now_ns)
        return ap_error_set(err, -EINVAL, "the range begins in the future");
    return 0;
}
