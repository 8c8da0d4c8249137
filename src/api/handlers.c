/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Endpoints that ask src/query, and the server's own. */
#include "api/internal.h"

#include "core/clock.h"
#include "format/json.h"
#include "model/locks.h"
#include "model/syscalls.h"
#include "model/window.h"

#include <errno.h>
#include <string.h>

/* What is asked about when no time is given. */
/* The same for heatmaps: as many columns as a screen shows. */
#define HEATMAP_NS (600 * AP_NS_PER_SEC)
/* Groups of a timeline. */
#define GROUPS_DEFAULT 10
#define GROUPS_MAX     1000
/* Label sets of /api/series. */
#define SERIES_DEFAULT 1000
#define SLOTS          (AP_NS_PER_SEC / AP_PUSH_SLOT_NS)

/* ---- The server's own ----------------------------------------------------------------------------------------------
 */

int ap_api_get_healthz(struct ap_api_request *request, struct ap_error *err)
{
    (void)err;
    ap_out_str(request->out, "ok\n");
    return 0;
}

int ap_api_get_readyz(struct ap_api_request *request, struct ap_error *err)
{
    int r = request->api->ops->ready(request->api->ctx, err);

    if (r != 0) {
        ap_api_request_fail(request, MHD_HTTP_SERVICE_UNAVAILABLE, "not_ready",
                            err->text[0] != '\0' ? err->text : strerror(-r));
        return 0;
    }
    ap_out_str(request->out, "ready\n");
    return 0;
}

int ap_api_get_metrics(struct ap_api_request *request, struct ap_error *err)
{
    (void)err;
    request->api->ops->metrics(request->api->ctx, request->out);
    return 0;
}

int ap_api_get_health(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api *api = request->api;
    uint64_t now_ns = request->params.now_ns;
    int r = api->ops->ready(api->ctx, err);
    struct ap_api_stats stats;

    ap_api_stats(api, &stats);
    ap_out_char(request->out, '{');
    ap_json_key_str(request->out, "status", r == 0 ? "ok" : "degraded");
    if (r != 0)
        ap_json_next_str(request->out, "reason", err->text[0] != '\0' ? err->text : strerror(-r));
    ap_json_next_str(request->out, "version", APERTURE_VERSION);
    ap_json_next_u64(request->out, "now_ns", now_ns);
    ap_json_next_u64(request->out, "uptime_ns", now_ns > api->started_ns ? now_ns - api->started_ns : 0);
    ap_out_str(request->out, ",\"http\":{");
    ap_json_key_u64(request->out, "connections", stats.connections);
    ap_json_next_u64(request->out, "requests", stats.requests);
    ap_json_next_u64(request->out, "errors_4xx", stats.errors_4xx);
    ap_json_next_u64(request->out, "errors_5xx", stats.errors_5xx);
    ap_json_next_u64(request->out, "refused_auth", stats.refused_auth);
    ap_json_next_u64(request->out, "refused_busy", stats.refused_busy);
    ap_json_next_u64(request->out, "refused_size", stats.refused_size);
    ap_json_next_u64(request->out, "refused_slow", stats.refused_slow);
    ap_out_char(request->out, '}');
    api->ops->health(api->ctx, request->out);
    ap_out_str(request->out, "}\n");
    return 0;
}

/* ---- Stacks --------------------------------------------------------------------------------------------------------
 */

/* {"kind":..,"unit":..,"from_ns":..,"to_ns":.., */
static void open_answer(struct ap_api_request *request)
{
    ap_out_char(request->out, '{');
    ap_api_write_selector(&request->params.selector, request->params.now_ns, request->out);
    ap_out_char(request->out, ',');
}

/* ,"provenance":{...}} */
static void close_answer(struct ap_api_request *request, const struct ap_provenance *provenance)
{
    ap_out_str(request->out, ",\"provenance\":");
    ap_api_write_provenance(provenance, request->out);
    ap_out_str(request->out, "}\n");
}

static size_t or_default(uint64_t value, size_t def)
{
    return value != 0 ? (size_t)value : def;
}

static bool is_cut(const struct ap_tree_answer *tree)
{
    for (size_t i = 0; i < tree->node_cnt; i++)
        if (tree->nodes[i].truncated)
            return true;
    return false;
}

/* What the columns do not say, as a JSON object. */
static int write_columns(struct ap_api_request *request, const struct ap_tree_answer *tree)
{
    struct ap_out *out;
    struct ap_buf meta;
    int r;

    ap_buf_init(&meta, 1u << 20);
    out = ap_out_new_buf(&meta);
    if (out == NULL)
        return -ENOMEM;
    ap_out_char(out, '{');
    ap_api_write_selector(&request->params.selector, request->params.now_ns, out);
    ap_out_printf(out, ",\"truncated\":%s,\"provenance\":", is_cut(tree) ? "true" : "false");
    ap_api_write_provenance(&tree->provenance, out);
    ap_out_char(out, '}');
    r = ap_out_flush(out);
    if (r == 0)
        r = ap_api_columns_write(tree, meta.data, meta.len, request->out);
    ap_out_free(out);
    ap_buf_done(&meta);
    request->type = AP_API_COLUMNS_TYPE;
    return r;
}

/* The format that was asked for, by parameter or by the Accept header. */
static int choose_format(const struct ap_api_request *request, bool *ret_binary, struct ap_error *err)
{
    const char *format = request->params.format;

    *ret_binary = false;
    if (format == NULL) {
        *ret_binary = ap_api_accept_weight(request->accept, AP_API_COLUMNS_TYPE) >
                      ap_api_accept_weight(request->accept, "application/json");
        return 0;
    }
    *ret_binary = strcmp(format, "binary") == 0;
    if (!*ret_binary && strcmp(format, "json") != 0)
        return ap_error_set(err, -EINVAL, "format: '%.64s' is neither json nor binary", format);
    return 0;
}

int ap_api_get_flamegraph(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_tree_answer tree = {0};
    bool binary = false;
    int r = choose_format(request, &binary, err);

    if (r == 0)
        r = ap_api_params_finish(params, AP_KIND_CPU, AP_WINDOW_NS, err);
    if (r == 0)
        r = ap_query_tree(request->api->query, &params->selector, (const char *const *)params->path, params->path_cnt,
                          or_default(params->max_nodes, AP_QUERY_NODES_DEFAULT), &tree, err);
    if (r != 0)
        return r;
    if (binary) {
        r = write_columns(request, &tree);
    } else {
        open_answer(request);
        ap_out_printf(request->out, "\"nodes\":%zu,\"truncated\":%s,\"root\":", tree.node_cnt,
                      is_cut(&tree) ? "true" : "false");
        r = ap_api_write_tree(&tree, request->out);
        close_answer(request, &tree.provenance);
    }
    ap_tree_answer_done(&tree);
    return r;
}

int ap_api_get_top(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_functions_answer answer = {0};
    int r = ap_api_params_finish(params, AP_KIND_CPU, AP_WINDOW_NS, err);

    if (r == 0)
        r = ap_query_functions(request->api->query, &params->selector,
                               or_default(params->limit, AP_QUERY_LIMIT_DEFAULT), &answer, err);
    if (r != 0)
        return r;
    open_answer(request);
    ap_api_write_functions(&answer, request->out);
    close_answer(request, &answer.provenance);
    ap_functions_answer_done(&answer);
    return 0;
}

static int check_body(const struct ap_api_request *request, struct ap_error *err)
{
    if (request->content_type == NULL || ap_api_is_type(request->content_type, "application/json"))
        return 0;
    return ap_error_set(err, -ENOTSUP, "the body must be JSON: Content-Type: application/json");
}

int ap_api_post_aggregate(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_aggregate_answer answer = {0};
    int r = check_body(request, err);

    if (r == 0 && request->body.len > 0)
        r = ap_api_params_set_json(params, request->body.data, request->body.len, NULL, NULL, err);
    if (r == 0)
        r = ap_api_params_finish(params, AP_KIND_CPU, AP_WINDOW_NS, err);
    if (r == 0)
        r = ap_query_aggregate(request->api->query, &params->selector,
                               or_default(params->limit, AP_QUERY_LIMIT_DEFAULT), (size_t)params->max_nodes, &answer,
                               err);
    if (r != 0)
        return r;
    open_answer(request);
    ap_api_write_functions(&answer.functions, request->out);
    if (params->selector.kind == AP_KIND_LOCK)
        ap_api_write_lock_rows(&answer, request->out);
    if (params->selector.kind == AP_KIND_SYSCALL)
        ap_api_write_syscall_rows(&answer, request->out);
    if (params->max_nodes != 0) {
        ap_out_str(request->out, ",\"root\":");
        r = ap_api_write_tree(&answer.tree, request->out);
    }
    close_answer(request, &answer.functions.provenance);
    ap_aggregate_answer_done(&answer);
    return r;
}

/* Both windows: what is said of one alone, what is said of both, and the newest half hour beside the one before. */
static int diff_windows(struct ap_api_params *params, struct ap_api_params *before, struct ap_api_params *after,
                        struct ap_error *err)
{
    bool timed = params->has_from || params->has_since || params->has_to;
    uint64_t range_ns;
    int r = 0;

    if ((before->has_from || before->has_since || before->has_to) && params->has_baseline)
        return ap_error_set(err, -EINVAL, "give either \"before\" with times or baseline_from and baseline_to");
    /* What is said of both goes before what each says. */
    for (size_t i = 0; r == 0 && i < params->selector.matcher_cnt; i++) {
        const struct ap_matcher *matcher = &params->selector.matchers[i];

        r = ap_selector_match(&before->selector, matcher->label, matcher->op, matcher->value, err);
        if (r == 0)
            r = ap_selector_match(&after->selector, matcher->label, matcher->op, matcher->value, err);
    }
    if (r == 0 && params->selector.function != NULL) {
        if (before->selector.function == NULL)
            r = ap_selector_function(&before->selector, params->selector.function, params->selector.function_regex,
                                     err);
        if (r == 0 && after->selector.function == NULL)
            r = ap_selector_function(&after->selector, params->selector.function, params->selector.function_regex, err);
    }
    if (timed && !after->has_from && !after->has_since && !after->has_to) {
        after->selector.from_ns = params->selector.from_ns;
        after->selector.to_ns = params->selector.to_ns;
        after->has_from = params->has_from;
        after->has_since = params->has_since;
        after->has_to = params->has_to;
    }
    if (r == 0)
        r = ap_api_params_finish(after, params->selector.kind != 0 ? params->selector.kind : AP_KIND_CPU,
                                 AP_WINDOW_NS / 2, err);
    if (r != 0)
        return r;
    if (params->has_baseline) {
        before->selector.from_ns = params->baseline_from_ns;
        before->selector.to_ns = params->baseline_to_ns;
        before->has_from = params->baseline_from_ns != 0;
        before->has_to = params->baseline_to_ns != 0;
    }
    /* As long as the window after it, and ending where that begins. */
    range_ns = (after->selector.to_ns != 0 ? after->selector.to_ns : after->now_ns) - after->selector.from_ns;
    if (!before->has_to && !before->has_from && !before->has_since) {
        before->selector.to_ns = after->selector.from_ns;
        before->has_to = true;
    }
    return ap_api_params_finish(before, after->selector.kind, range_ns, err);
}

int ap_api_post_diff(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params, before, after;
    struct ap_diff_answer answer = {0};
    int r = check_body(request, err);

    ap_api_params_init(&before, AP_API_SELECTOR, params->now_ns);
    ap_api_params_init(&after, AP_API_SELECTOR, params->now_ns);
    if (r == 0 && request->body.len > 0)
        r = ap_api_params_set_json(params, request->body.data, request->body.len, &before, &after, err);
    if (r == 0)
        r = diff_windows(params, &before, &after, err);
    if (r == 0 && before.selector.kind != after.selector.kind)
        r = ap_error_set(err, -EINVAL, "both sides of a diff are of one kind");
    if (r == 0)
        r = ap_query_diff(request->api->query, &before.selector, &after.selector,
                          or_default(params->limit, AP_QUERY_LIMIT_DEFAULT), &answer, err);
    ap_api_params_done(&before);
    ap_api_params_done(&after);
    if (r != 0)
        return r;
    ap_api_write_diff(&answer, request->out);
    ap_diff_answer_done(&answer);
    return 0;
}

/* ---- Time ----------------------------------------------------------------------------------------------------------
 */

static void write_points(const struct ap_points *points, struct ap_out *out)
{
    size_t at = 0;

    ap_out_str(out, "\"series\":[");
    for (size_t group = 0; group < points->group_cnt && ap_out_error(out) == 0; group++) {
        size_t end = at;

        while (end < points->point_cnt && points->points[end].group == group)
            end++;
        ap_out_str(out, group > 0 ? ",{\"name\":" : "{\"name\":");
        ap_out_json_str(out, points->groups[group], false);
        ap_out_str(out, ",\"t_ns\":[");
        for (size_t i = at; i < end; i++)
            ap_out_printf(out, "%s%llu", i > at ? "," : "", (unsigned long long)points->points[i].t_ns);
        ap_out_str(out, "],\"count\":[");
        for (size_t i = at; i < end; i++)
            ap_out_printf(out, "%s%llu", i > at ? "," : "", (unsigned long long)points->points[i].count);
        ap_out_str(out, "],\"value\":[");
        for (size_t i = at; i < end; i++)
            ap_out_printf(out, "%s%llu", i > at ? "," : "", (unsigned long long)points->points[i].value);
        ap_out_str(out, "]}");
        at = end;
    }
    ap_out_char(out, ']');
}

int ap_api_get_timeline(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    size_t groups = or_default(params->limit, GROUPS_DEFAULT);
    struct ap_provenance provenance = {0};
    struct ap_points points = {0};
    uint64_t step_ns = 0;
    int r = ap_api_params_finish(params, AP_KIND_CPU, AP_WINDOW_NS, err);

    if (r == 0 && groups > GROUPS_MAX)
        r = ap_error_set(err, -EINVAL, "limit: a timeline has at most %d series", GROUPS_MAX);
    if (r == 0)
        r = ap_query_timeline(request->api->query, &params->selector, params->step_ns, params->by, groups, &points,
                              &step_ns, &provenance, err);
    if (r != 0)
        return r;
    open_answer(request);
    ap_json_key_u64(request->out, "step_ns", step_ns);
    ap_json_next_str(request->out, "by", params->by != NULL ? params->by : "");
    ap_out_char(request->out, ',');
    write_points(&points, request->out);
    close_answer(request, &provenance);
    ap_points_done(&points);
    return 0;
}

/* One column a second, of the seconds in which anything happened. */
static void write_columns_of_slots(const struct ap_points *points, struct ap_out *out)
{
    ap_out_str(out, "\"columns\":[");
    for (size_t i = 0; i < points->point_cnt && ap_out_error(out) == 0;) {
        uint64_t second = points->points[i].t_ns / AP_NS_PER_SEC, counts[SLOTS] = {0};

        ap_out_str(out, i > 0 ? ",{" : "{");
        for (; i < points->point_cnt && points->points[i].t_ns / AP_NS_PER_SEC == second; i++)
            counts[points->points[i].t_ns % AP_NS_PER_SEC / AP_PUSH_SLOT_NS] += points->points[i].count;
        ap_json_key_u64(out, "t_ns", second * AP_NS_PER_SEC);
        ap_out_str(out, ",\"counts\":[");
        for (unsigned slot = 0; slot < SLOTS; slot++)
            ap_out_printf(out, "%s%llu", slot > 0 ? "," : "", (unsigned long long)counts[slot]);
        ap_out_str(out, "]}");
    }
    ap_out_char(out, ']');
}

int ap_api_get_heatmap(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_provenance provenance = {0};
    struct ap_points points = {0};
    int r = ap_api_params_finish(params, AP_KIND_CPU, HEATMAP_NS, err);

    if (r == 0)
        r = ap_query_heatmap(request->api->query, &params->selector, &points, &provenance, err);
    if (r != 0)
        return r;
    open_answer(request);
    ap_json_key_u64(request->out, "slot_ns", AP_PUSH_SLOT_NS);
    ap_out_char(request->out, ',');
    write_columns_of_slots(&points, request->out);
    close_answer(request, &provenance);
    ap_points_done(&points);
    return 0;
}

/* ---- Locks, system calls -------------------------------------------------------------------------------------------
 */

static int get_tables(struct ap_api_request *request, uint8_t kind, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    size_t limit = or_default(params->limit, AP_QUERY_LIMIT_DEFAULT), total;
    struct ap_provenance provenance = {0};
    struct ap_capture *capture = NULL;
    const struct ap_profile *profile;
    int r = ap_api_params_finish(params, kind, AP_WINDOW_NS, err);

    if (r == 0)
        r = ap_query_capture(request->api->query, &params->selector, &capture, &provenance, err);
    if (r != 0)
        return r;
    profile = capture->profile_cnt > 0 ? capture->profiles[0] : NULL;
    ap_out_char(request->out, '{');
    ap_api_write_selector(&params->selector, params->now_ns, request->out);
    if (kind == AP_KIND_LOCK) {
        total = profile != NULL && profile->locks != NULL ? profile->locks->row_cnt : 0;
        ap_json_next_u64(request->out, "lock_total", total);
        if (total > 0)
            ap_json_locks(profile, limit, request->out);
        else
            ap_out_str(request->out, ",\"locks\":[]");
    } else {
        total = profile != NULL && profile->syscalls != NULL ? profile->syscalls->row_cnt : 0;
        ap_json_next_u64(request->out, "syscall_total", total);
        if (total > 0)
            ap_json_syscalls(profile, limit, request->out);
        else
            ap_out_str(request->out, ",\"syscalls\":[]");
    }
    close_answer(request, &provenance);
    ap_capture_free(capture);
    return 0;
}

int ap_api_get_locks(struct ap_api_request *request, struct ap_error *err)
{
    return get_tables(request, AP_KIND_LOCK, err);
}

int ap_api_get_syscalls(struct ap_api_request *request, struct ap_error *err)
{
    return get_tables(request, AP_KIND_SYSCALL, err);
}

/* ---- What there is -------------------------------------------------------------------------------------------------
 */

int ap_api_get_series(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_series_rows rows = {0};
    int r = ap_api_params_finish(params, 0, AP_WINDOW_NS, err);

    if (r == 0)
        r = ap_query_series(request->api->query, &params->selector, or_default(params->limit, SERIES_DEFAULT), &rows,
                            err);
    if (r != 0)
        return r;
    open_answer(request);
    ap_out_str(request->out, "\"series\":[");
    for (size_t i = 0; i < rows.cnt; i++) {
        if (i > 0)
            ap_out_char(request->out, ',');
        ap_api_write_labels(rows.rows[i].labels, rows.rows[i].label_cnt, request->out);
    }
    ap_out_str(request->out, "]}\n");
    ap_series_rows_done(&rows);
    return 0;
}

int ap_api_get_labels(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_texts names = {0};
    int r = ap_api_params_finish(&request->params, 0, AP_WINDOW_NS, err);

    if (r == 0)
        r = ap_query_labels(request->api->query, &request->params.selector, &names, err);
    if (r != 0)
        return r;
    ap_api_write_texts("labels", &names, request->out);
    ap_texts_done(&names);
    return 0;
}

int ap_api_get_label_values(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_texts values = {0};
    int r = ap_api_params_finish(&request->params, 0, AP_WINDOW_NS, err);

    if (r == 0 && (request->wildcard == NULL || !ap_label_name_valid(request->wildcard)))
        r = ap_error_set(err, -EINVAL, "'%.64s' is not a label", request->wildcard != NULL ? request->wildcard : "");
    if (r == 0)
        r = ap_query_label_values(request->api->query, &request->params.selector, request->wildcard, &values, err);
    if (r != 0)
        return r;
    ap_api_write_texts("values", &values, request->out);
    ap_texts_done(&values);
    return 0;
}

int ap_api_get_agents(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_agents_answer answer = {0};
    int r = ap_api_params_finish(&request->params, 0, 0, err);

    if (r == 0)
        r = ap_query_agents(request->api->query, &request->params.selector, &answer, err);
    if (r != 0)
        return r;
    ap_api_write_agents(&answer, request->params.now_ns, request->out);
    ap_agents_answer_done(&answer);
    return 0;
}

int ap_api_get_batches(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    size_t limit = or_default(params->limit, AP_QUERY_LIMIT_DEFAULT);
    struct ap_batches_answer answer = {0};
    int r = ap_api_params_finish(params, 0, 0, err);

    if (r == 0 && params->source != NULL && strcmp(params->source, "storage") == 0)
        r = ap_query_batches(request->api->query, &params->selector, limit, &answer, err);
    else if (r == 0)
        r = request->api->ops->recent(request->api->ctx, &params->selector, limit, &answer, err);
    if (r != 0)
        return r;
    ap_api_write_batches(&answer, request->out);
    ap_batches_answer_done(&answer);
    return 0;
}
