/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Profiles out in other formats, and in. */
#include "api/internal.h"

#include "core/clock.h"
#include "format/format.h"
#include "format/import.h"
#include "format/json.h"
#include "model/window.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Who imported batches come from, and where, when nothing says so. */
#define IMPORT_AGENT "import"
#define IMPORT_HOST  "import"

static const struct {
    const char *name;
    enum ap_format format;
    const char *type;
} exports[] = {
    {"json", AP_FORMAT_JSON, "application/json"},
    {"collapsed", AP_FORMAT_COLLAPSED, "text/plain; charset=utf-8"},
    {"pprof", AP_FORMAT_PPROF, "application/vnd.google.protobuf+gzip"},
    {"speedscope", AP_FORMAT_SPEEDSCOPE, "application/json"},
    {"svg", AP_FORMAT_SVG, "image/svg+xml"},
};
#define EXPORT_CNT (sizeof(exports) / sizeof(exports[0]))

int ap_api_get_export(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api_params *params = &request->params;
    struct ap_provenance provenance = {0};
    struct ap_capture *capture = NULL;
    size_t i = 0;
    int r;

    while (i < EXPORT_CNT && (request->wildcard == NULL || strcmp(request->wildcard, exports[i].name) != 0))
        i++;
    if (i == EXPORT_CNT)
        return ap_error_set(err, -ENOENT, "'%.64s' is no format: use json, collapsed, pprof, speedscope or svg",
                            request->wildcard != NULL ? request->wildcard : "");
    r = ap_api_params_finish(params, AP_KIND_CPU, AP_WINDOW_NS, err);
    if (r == 0)
        r = ap_query_capture(request->api->query, &params->selector, &capture, &provenance, err);
    if (r != 0)
        return r;
    if (capture->profile_cnt == 0 || !ap_format_supports(exports[i].format, capture->profiles[0])) {
        ap_capture_free(capture);
        return ap_error_set(err, -ENOENT, "there are no stacks of kind %s in this range: only json can show the rest",
                            ap_event_kind_name(params->selector.kind));
    }
    request->type = exports[i].type;
    request->active_content = exports[i].format == AP_FORMAT_SVG;
    (void)snprintf(request->disposition, sizeof(request->disposition), "%s; filename=\"aperture.%s%s\"",
                   exports[i].format == AP_FORMAT_SVG ? "inline" : "attachment",
                   ap_event_kind_name(params->selector.kind), ap_format_ending(exports[i].format));
    r = ap_format_write(exports[i].format, capture, 0, request->out);
    ap_capture_free(capture);
    return r;
}

/* ---- Import --------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *type;
    enum ap_import_format format;
} import_types[] = {
    {"application/json", AP_IMPORT_JSON},
    {"application/vnd.google.protobuf+gzip", AP_IMPORT_PPROF},
    {"application/vnd.google.protobuf", AP_IMPORT_PPROF},
    {"application/x-protobuf", AP_IMPORT_PPROF},
    {"application/protobuf", AP_IMPORT_PPROF},
    {"application/gzip", AP_IMPORT_ANY},
    {"application/x-gzip", AP_IMPORT_ANY},
    {"application/octet-stream", AP_IMPORT_ANY},
    {"application/x-www-form-urlencoded", AP_IMPORT_ANY}, /* what curl --data-binary says when nothing is said */
    {"text/plain", AP_IMPORT_ANY},
};

static int choose_import(const struct ap_api_request *request, enum ap_import_format *ret_format, struct ap_error *err)
{
    *ret_format = AP_IMPORT_ANY;
    if (request->params.format != NULL)
        return ap_import_format_from_name(request->params.format, ret_format, err);
    if (request->content_type == NULL)
        return 0;
    for (size_t i = 0; i < sizeof(import_types) / sizeof(import_types[0]); i++) {
        if (ap_api_is_type(request->content_type, import_types[i].type)) {
            *ret_format = import_types[i].format;
            return 0;
        }
    }
    return ap_error_set(err, -ENOTSUP,
                        "'%.64s' cannot be imported: send application/json, application/x-protobuf "
                        "(pprof), text/plain (collapsed) or application/octet-stream",
                        request->content_type);
}

/* The time that all profiles together cover, and their labels. */
static int fill_push(struct ap_push *push, const struct ap_api_request *request, struct ap_error *err)
{
    const struct ap_selector *selector = &request->params.selector;
    const struct ap_capture *capture = push->capture;
    uint64_t end_ns = 0;
    int r;

    push->start_ns = UINT64_MAX;
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        const struct ap_profile *profile = capture->profiles[i];

        if (profile->start_ns < push->start_ns)
            push->start_ns = profile->start_ns;
    }
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        uint64_t ends_ns = 0;

        if (__builtin_add_overflow(capture->profiles[i]->start_ns, capture->profiles[i]->duration_ns, &ends_ns))
            ends_ns = UINT64_MAX;
        end_ns = ends_ns > end_ns ? ends_ns : end_ns;
    }
    push->duration_ns = end_ns - push->start_ns;
    if (push->duration_ns == 0)
        push->duration_ns = AP_NS_PER_SEC;
    if (push->duration_ns > AP_PUSH_DURATION_MAX)
        push->duration_ns = AP_PUSH_DURATION_MAX;
    r = ap_push_label(push, "host", capture->agent.host[0] != '\0' ? capture->agent.host : IMPORT_HOST, err);
    for (size_t i = 0; r == 0 && i < selector->matcher_cnt; i++)
        r = ap_push_label(push, selector->matchers[i].label, selector->matchers[i].value, err);
    return r;
}

static void write_imported(struct ap_api_request *request, const struct ap_push *push)
{
    struct ap_out *out = request->out;

    ap_out_char(out, '{');
    ap_json_key_str(out, "agent_id", push->agent_id);
    ap_out_printf(out, ",\"epoch\":\"%" PRIu64 "\"", push->epoch);
    ap_json_next_u64(out, "sequence", push->sequence);
    ap_json_next_u64(out, "start_ns", push->start_ns);
    ap_json_next_u64(out, "duration_ns", push->duration_ns);
    ap_out_str(out, ",\"labels\":");
    ap_api_write_labels(push->labels, push->label_cnt, out);
    ap_out_str(out, ",\"profiles\":[");
    for (unsigned i = 0; i < push->capture->profile_cnt; i++) {
        const struct ap_profile *profile = push->capture->profiles[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "kind", ap_event_kind_name(profile->kind));
        ap_json_next_u64(out, "samples", ap_profile_total_count(profile));
        ap_json_next_u64(out, "value", ap_profile_total_value(profile));
        ap_out_char(out, '}');
    }
    ap_out_str(out, "]}\n");
}

int ap_api_post_import(struct ap_api_request *request, struct ap_error *err)
{
    struct ap_api *api = request->api;
    const struct ap_api_params *params = &request->params;
    const struct ap_import_opts opts = {
        .kind = params->selector.kind,
        .start_ns = params->time_ns != 0 ? params->time_ns : params->now_ns - AP_NS_PER_SEC,
        .duration_ns = params->duration_ns,
        .period_ns = params->period_ns,
    };
    enum ap_import_format format;
    struct ap_push *push;
    int r = choose_import(request, &format, err);

    if (r != 0)
        return r;
    push = ap_push_new();
    if (push == NULL)
        return -ENOMEM;
    ap_capture_free(push->capture);
    push->capture = ap_import(format, request->body.data, request->body.len, &opts, err);
    r = push->capture != NULL ? fill_push(push, request, err) : err->code;
    if (r != 0) {
        ap_push_free(push);
        return r;
    }
    (void)snprintf(push->agent_id, sizeof(push->agent_id), IMPORT_AGENT);
    push->epoch = api->started_ns;
    push->sequence = atomic_fetch_add(&api->import_sequence, 1) + 1;
    write_imported(request, push); /* before it is given away */
    r = api->ops->import(api->ctx, push, err);
    if (r == 0)
        api->ops->audit(api->ctx, request->what, request->peer, "imported a profile");
    return r;
}
