/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Flamegraph as one SVG file: a static picture that any renderer shows, the exact data of every node, and a
 * viewer (svg/viewer.js) that takes over where scripts run.
 *
 * Every name in a profile is hostile. Text enters the file in two ways only: ap_svg_text for what is
 * seen, and ap_svg_json_str (JSON escapes, then XML escapes on top) for what the viewer reads. */
#include "format/svg.h"
#include "format/svg_viewer_js.h"

#include <errno.h>
#include <inttypes.h>

#define SVG_UNRESOLVED 100 /* rows of the diagnosis in the data block */

/* ---- data ---- */

static void svg_losses(struct ap_svg_writer *w)
{
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        ap_out_printf(w->out, "%s\"%s\":%" PRIu64, i ? "," : "\"losses\":{", ap_loss_name(i), w->account->losses[i]);
    ap_out_char(w->out, '}');
}

static void svg_json_field(struct ap_svg_writer *w, const char *key, const char *text)
{
    ap_out_printf(w->out, ",\"%s\":", key);
    ap_svg_json_str(w, text);
}

/* Totals for programs that read the file. */
static void svg_metadata(struct ap_svg_writer *w)
{
    const struct ap_capture *capture = w->capture;
    const struct ap_account *account = w->account;
    const struct ap_agent_info *agent = &capture->agent;
    const struct ap_tree_node *root = &w->tree->nodes[0];

    ap_out_printf(w->out,
                  "<metadata id=\"ap-meta\">{\"schema\":1,\"total_samples\":%" PRIu64 ",\"total_value\":%" PRIu64
                  ",\"unit\":\"ns\",\"expected\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"lost\":%" PRIu64 ",",
                  root->count, root->value, account->expected, account->delivered, ap_account_lost(account));
    svg_losses(w);
    ap_out_printf(w->out,
                  ",\"idle\":%" PRIu64 ",\"out_of_scope\":%" PRIu64 ",\"frames_total\":%" PRIu64
                  ",\"frames_unresolved\":%" PRIu64 ",\"start_ns\":%" PRIu64 ",\"duration_ns\":%" PRIu64
                  ",\"period_ns\":%" PRIu64 ",\"nodes\":%" PRIu32 ",\"max_depth\":%u,\"below_min\":%" PRIu64
                  ",\"below_min_ns\":%" PRIu64 ",\"folded\":%" PRIu64 ",\"unmatched\":%" PRIu64,
                  account->idle, account->out_of_scope, capture->frames_total, capture->frames_unresolved,
                  w->profile->start_ns, w->profile->duration_ns, w->profile->period_ns, w->tree->node_cnt,
                  (unsigned)w->tree->max_depth, account->below_min, account->below_min_ns, account->folded,
                  account->unmatched);
    svg_json_field(w, "kind", ap_event_kind_name(w->profile->kind));
    svg_json_field(w, "host", agent->host);
    svg_json_field(w, "version", agent->version);
    svg_json_field(w, "kernel", agent->kernel);
    svg_json_field(w, "arch", agent->arch);
    svg_json_field(w, "event", agent->event);
    ap_out_printf(w->out,
                  ",\"cpus_online\":%" PRIu32 ",\"frequency\":%" PRIu64 ",\"agent_cpu_ns\":%" PRIu64
                  ",\"bpf_run_ns\":%" PRIu64 ",\"bpf_run_cnt\":%" PRIu64 ",\"rss_peak_bytes\":%" PRIu64
                  ",\"bpf_memory_bytes\":%" PRIu64 "}</metadata>\n",
                  agent->cpus_online, agent->frequency, agent->cpu_ns, agent->bpf_run_ns, agent->bpf_run_cnt,
                  agent->rss_peak_bytes, agent->bpf_memory_bytes);
}

/* What the account panel of the viewer lists. */
static void svg_diagnosis(struct ap_svg_writer *w)
{
    const struct ap_capture *capture = w->capture;
    const char *sep = "";

    ap_out_str(w->out, "\"losses\":[");
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (!w->account->losses[i])
            continue;
        ap_out_printf(w->out, "%s[", sep);
        ap_svg_json_str(w, ap_loss_name(i));
        ap_out_printf(w->out, ",%" PRIu64 ",%d,", w->account->losses[i], ap_loss_is_sample(i));
        ap_svg_json_str(w, ap_loss_help(i));
        ap_out_char(w->out, ']');
        sep = ",";
    }
    ap_out_str(w->out, "],\n\"unresolved\":[");
    for (unsigned i = 0; i < capture->unresolved_cnt && i < SVG_UNRESOLVED; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_str(w->out, i ? ",[" : "[");
        ap_svg_json_str(w, row->module ? row->module : "");
        ap_out_char(w->out, ',');
        ap_svg_json_str(w, ap_unresolved_name(row->reason));
        ap_out_printf(w->out, ",%" PRIu64 ",%" PRIu64 ",", row->frames, row->samples);
        ap_svg_json_str(w, ap_unresolved_help(row->reason));
        ap_out_char(w->out, ']');
    }
    ap_out_printf(w->out, "],\n\"unresolved_rows\":%u,", capture->unresolved_cnt);
}

static void svg_info(struct ap_svg_writer *w, bool constant)
{
    ap_out_printf(w->out,
                  "<script type=\"application/json\" id=\"ap-info\">{\"schema\":1,\"unit\":\"%s\",\"by_count\":%d,"
                  "\"period\":%" PRIu64 ",\n",
                  ap_svg_unit(w), w->by_count, constant ? w->profile->period_ns : 0);
    svg_diagnosis(w);
    ap_out_str(w->out, "\n\"strings\":[");
    for (uint32_t i = 0; i < w->string_cnt; i++) {
        if (i)
            ap_out_str(w->out, ",\n");
        ap_svg_json_str(w, ap_svg_str(w, w->strings[i]));
    }
    ap_out_str(w->out, "],\n\"frames\":[");
    for (uint32_t i = 0; i < w->frame_cnt; i++) {
        const struct ap_svg_frame *f = &w->frames[i];

        ap_out_printf(w->out, "%s[%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%u]",
                      i ? "," : "", ap_svg_string_index(w, f->name), ap_svg_string_index(w, f->module),
                      ap_svg_string_index(w, f->file), f->line, f->kind, f->flags, ap_svg_shade(w, f->module));
    }
    ap_out_str(w->out, "]}</script>\n");
}

enum svg_column {
    SVG_COLUMN_DEPTH,
    SVG_COLUMN_FRAME,
    SVG_COLUMN_COUNT,
    SVG_COLUMN_VALUE,
};

/* One number per node in preorder. A column has an element of its own because XML readers limit a text to 10
 * MB. */
static void svg_column(struct ap_svg_writer *w, enum svg_column column, const char *id)
{
    uint32_t i = 0;

    ap_out_printf(w->out, "<script type=\"application/json\" id=\"%s\">[", id);
    do {
        const struct ap_tree_node *node = &w->tree->nodes[i];
        uint64_t n = column == SVG_COLUMN_DEPTH   ? node->depth
                     : column == SVG_COLUMN_FRAME ? w->frame_of[i]
                     : column == SVG_COLUMN_COUNT ? node->self_count
                                                  : node->self;

        ap_out_printf(w->out, i ? ",%" PRIu64 : "%" PRIu64, n);
        i = ap_svg_next(w->tree, i, true);
    } while (i);
    ap_out_str(w->out, "]</script>\n");
}

/* Counts and self values of all nodes; totals are their sums. */
static void svg_data(struct ap_svg_writer *w)
{
    bool constant = w->profile->period_ns > 0;

    for (uint32_t i = 0; constant && i < w->tree->node_cnt; i++) {
        const struct ap_tree_node *node = &w->tree->nodes[i];
        uint64_t value;

        constant = !__builtin_mul_overflow(node->self_count, w->profile->period_ns, &value) && value == node->self;
    }
    svg_info(w, constant);
    svg_column(w, SVG_COLUMN_DEPTH, "ap-depth");
    svg_column(w, SVG_COLUMN_FRAME, "ap-frame");
    svg_column(w, SVG_COLUMN_COUNT, "ap-count");
    if (!constant)
        svg_column(w, SVG_COLUMN_VALUE, "ap-value");
}

/* ---- document ---- */

static void svg_head(struct ap_svg_writer *w, int height)
{
    char num[AP_FORMAT_SZ];

    ap_out_printf(w->out,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"ap\" width=\"%d\" height=\"%d\" "
                  "viewBox=\"0 0 %d %d\" role=\"group\" aria-labelledby=\"ap-name\" aria-describedby=\"ap-desc\" "
                  "font-family=\"Inter,system-ui,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif\">\n"
                  "<title id=\"ap-name\">%s flamegraph",
                  AP_SVG_WIDTH, height, AP_SVG_WIDTH, height, ap_svg_title(w->profile->kind));
    if (w->capture->agent.host[0]) {
        ap_out_str(w->out, " — ");
        ap_svg_text(w, w->capture->agent.host, 64);
    }
    ap_out_printf(w->out, "</title>\n<desc id=\"ap-desc\">Flamegraph of %s %s%s",
                  ap_svg_count(num, w->tree->nodes[0].count), ap_svg_unit(w), w->tree->nodes[0].count == 1 ? "" : "s");
    ap_out_printf(w->out, " in %s call paths. Width is %s; a box stands below its caller.</desc>\n",
                  ap_svg_count(num, w->tree->node_cnt - 1), w->by_count ? "their number" : "time");
}

int ap_svg_write(const struct ap_capture *capture, const struct ap_tree *tree, struct ap_out *out)
{
    struct ap_svg_writer w;
    int height, r;

    if (!tree->node_cnt)
        return -EINVAL;
    r = ap_svg_init(&w, capture, tree, out);
    if (r < 0) {
        ap_svg_done(&w);
        return r;
    }
    height = AP_SVG_CHART_TOP + ap_svg_rows(&w) * AP_SVG_ROW + AP_SVG_FOOT;
    svg_head(&w, height);
    svg_metadata(&w);
    ap_svg_style(&w);
    ap_svg_picture(&w, height);
    svg_data(&w);
    ap_out_str(out, "<script><![CDATA[\n");
    ap_out_write(out, svg_viewer_js, sizeof(svg_viewer_js) - 1);
    ap_out_str(out, "]]></script>\n</svg>\n");
    r = ap_out_error(w.json);
    ap_svg_done(&w);
    if (r < 0)
        return r;
    return ap_out_flush(out);
}
