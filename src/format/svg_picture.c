/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/clock.h"
#include "format/names.h"
#include "format/svg.h"
#include "format/svg_viewer_css.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define SVG_MIN_PX   0.1 /* narrower nodes are left to the viewer */
#define SVG_BOX_PX   1.0 /* narrower nodes share one path per kind and have no label */
#define SVG_LABEL_PX 24.0
#define SVG_CELL_PX  7.25 /* advance of 12 px monospace fonts, the widest of the usual ones */

/* By enum ap_frame_kind. Checked for colour blindness and, over all shades, for a label contrast of 4.6:1. */
static const uint32_t palette_light[AP_SVG_CODE_KINDS] = {0x8D9094, 0xD68E4E, 0x5884DC, 0xA7F1D7, 0xFBEA83, 0xEBA7EB};
static const uint32_t palette_dark[AP_SVG_CODE_KINDS] = {0xAFB4BC, 0xE7B679, 0x679AF4, 0x009E6C, 0x9CA046, 0xCF76B9};
/* Wakers have an edge too, so that nobody depends on the hue. */
static const uint32_t waker_light = 0x42D78C, waker_dark = 0xABEDBF, waker_edge = 0x0B4A2B;

static const char *const kind_labels[AP_SVG_KINDS] = {"unresolved", "native", "kernel", "jit",  "interpreted",
                                                      "gpu",        "thread", "mark",   "waker"};

static bool svg_empty(const struct ap_svg_writer *w)
{
    return w->scale <= 0.0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* ---- colours ---- */

/* Moves the HSL lightness of `rgb` by `percent` points: towards white or black, hue and saturation unchanged.
 */
static uint32_t shade_colour(uint32_t rgb, int percent)
{
    int c[3] = {(int)(rgb >> 16 & 255), (int)(rgb >> 8 & 255), (int)(rgb & 255)};
    int high = c[0], low = c[0], sum, room;

    for (int i = 1; i < 3; i++) {
        high = c[i] > high ? c[i] : high;
        low = c[i] < low ? c[i] : low;
    }
    sum = high + low;
    room = percent > 0 ? 510 - sum : sum;
    for (int i = 0; i < 3 && room > 0; i++) {
        int span = percent > 0 ? 255 - c[i] : c[i];

        c[i] += span * percent * 510 / (100 * room);
        c[i] = c[i] < 0 ? 0 : c[i] > 255 ? 255 : c[i];
    }
    return (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | (uint32_t)c[2];
}

static void svg_palette(struct ap_svg_writer *w, const uint32_t palette[AP_SVG_CODE_KINDS], uint32_t waker,
                        const char *scope)
{
    bool wakers = w->has_kind[AP_SVG_WAKER];

    for (unsigned kind = 0; kind < AP_SVG_CODE_KINDS; kind++) {
        for (int shade = 0; shade < AP_SVG_SHADES; shade++)
            ap_out_printf(w->out, "%s.k%us%d{fill:#%06x}", scope, kind, shade,
                          shade_colour(palette[kind], shade - AP_SVG_SHADES / 2));
    }
    for (int shade = 0; wakers && shade < AP_SVG_SHADES; shade++)
        ap_out_printf(w->out, "%s.k%ds%d{fill:#%06x;stroke:#%06x}", scope, AP_SVG_WAKER, shade,
                      shade_colour(waker, shade - AP_SVG_SHADES / 2), waker_edge);
    ap_out_char(w->out, '\n');
}

void ap_svg_style(struct ap_svg_writer *w)
{
    ap_out_str(w->out, "<style><![CDATA[\n");
    ap_out_write(w->out, svg_viewer_css, sizeof(svg_viewer_css) - 1);
    svg_palette(w, palette_light, waker_light, "");
    ap_out_str(w->out, "@media (prefers-color-scheme:dark){\n");
    svg_palette(w, palette_dark, waker_dark, ".ap:not([data-theme=light]) ");
    ap_out_str(w->out, "}\n");
    svg_palette(w, palette_dark, waker_dark, ".ap[data-theme=dark] ");
    ap_out_str(w->out, "]]></style>\n"
                       "<defs><pattern id=\"ap-hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
                       "patternTransform=\"rotate(45)\"><rect class=\"hatch-a\" width=\"6\" height=\"6\" "
                       "fill=\"#eceef1\"/><rect class=\"hatch-b\" width=\"2.5\" height=\"6\" fill=\"#b9bec6\"/>"
                       "</pattern></defs>\n");
}

/* Class names that colour a node: kind and shade, or the neutral ones. */
static void svg_class(struct ap_svg_writer *w, const struct ap_tree_node *node)
{
    unsigned kind = ap_svg_kind(node);

    if (node->parent == 0 && node->depth == 0)
        ap_out_str(w->out, "kr");
    else if (!ap_svg_is_code(kind))
        ap_out_str(w->out, kind == AP_FRAME_MARK ? "km" : "kp");
    else
        ap_out_printf(w->out, "k%us%u", kind, ap_svg_shade(w, node->module));
    if (node->inlined)
        ap_out_str(w->out, " inl");
}

/* ---- header and footer of the picture ---- */

const char *ap_svg_title(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "CPU time";
    case AP_KIND_OFFCPU:
        return "Off-CPU time";
    case AP_KIND_LOCK:
        return "Lock wait time";
    case AP_KIND_SYSCALL:
        return "Time in system calls";
    case AP_KIND_GPU:
        return "GPU time";
    default:
        return "Profile";
    }
}

static void svg_line_open(struct ap_svg_writer *w, const char *id, const char *cls, int y)
{
    ap_out_printf(w->out, "<text id=\"%s\" class=\"%s\" x=\"%d\" y=\"%d\" font-size=\"%d\" fill=\"%s\">", id, cls,
                  AP_SVG_MARGIN, y, strcmp(cls, "st-title") ? 12 : 16, strcmp(cls, "st-muted") ? "#1a1d21" : "#5a616b");
}

static void svg_subtitle(struct ap_svg_writer *w)
{
    const struct ap_agent_info *agent = &w->capture->agent;
    const struct ap_tree_node *root = &w->tree->nodes[0];
    time_t seconds = (time_t)(w->profile->start_ns / AP_NS_PER_SEC);
    char num[AP_FORMAT_SZ], date[64] = "";
    struct tm tm;

    svg_line_open(w, "ap-sub", "st-muted", 48);
    if (agent->host[0]) {
        ap_svg_text(w, agent->host, 64);
        ap_out_str(w->out, " · ");
    }
    if (w->profile->start_ns && gmtime_r(&seconds, &tm) && strftime(date, sizeof(date), "%F %T UTC", &tm))
        ap_out_printf(w->out, "%s · ", date);
    if (w->profile->duration_ns)
        ap_out_printf(w->out, "%s · ", ap_format_duration(num, w->profile->duration_ns));
    if (agent->frequency && w->profile->kind == AP_KIND_CPU) {
        ap_out_printf(w->out, "%" PRIu64 " Hz", agent->frequency);
        if (agent->cpus_online)
            ap_out_printf(w->out, " on %" PRIu32 " CPU%s", agent->cpus_online, agent->cpus_online == 1 ? "" : "s");
        if (agent->event[0]) {
            ap_out_str(w->out, " (");
            ap_svg_text(w, agent->event, 32);
            ap_out_char(w->out, ')');
        }
        ap_out_str(w->out, " · ");
    }
    ap_out_printf(w->out, "%s %s%s", ap_svg_count(num, root->count), ap_svg_unit(w), root->count == 1 ? "" : "s");
    if (root->value)
        ap_out_printf(w->out, " · %s in total", ap_format_duration(num, root->value));
    ap_out_str(w->out, "</text>\n");
}

/* The reasons of one sort that have a count: "missed 15, ring_full 30". */
static void svg_reasons(struct ap_svg_writer *w, bool samples, const char *open)
{
    const char *sep = open;
    char num[AP_FORMAT_SZ];

    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (!w->account->losses[i] || ap_loss_is_sample(i) != samples)
            continue;
        ap_out_str(w->out, sep);
        ap_out_xml_str(w->out, ap_loss_name(i));
        ap_out_printf(w->out, " %s", ap_svg_count(num, w->account->losses[i]));
        sep = ", ";
    }
}

static void svg_account(struct ap_svg_writer *w)
{
    const struct ap_account *account = w->account;
    uint64_t lost = ap_account_lost(account), known = account->delivered + lost;
    char a[AP_FORMAT_SZ], b[AP_FORMAT_SZ], c[AP_FORMAT_SZ];

    svg_line_open(w, "ap-account", "st-text", 70);
    ap_out_str(w->out, ap_event_heading(w->profile->kind));
    if (account->expected || known || !w->tree->nodes[0].count) {
        ap_out_printf(w->out, ": expected %s = delivered %s + lost %s", ap_svg_count(a, account->expected),
                      ap_svg_count(b, account->delivered), ap_svg_count(c, lost));
        if (lost) {
            ap_out_str(w->out, " (");
            ap_out_xml_str(w->out, ap_svg_percent(a, lost, account->expected));
            ap_out_char(w->out, ')');
        }
        svg_reasons(w, true, " — ");
        if (known != account->expected)
            ap_out_printf(
                w->out, " · the account is off by %s",
                ap_svg_count(a, known > account->expected ? known - account->expected : account->expected - known));
    } else {
        ap_out_printf(w->out, ", expected number unknown: %s", ap_svg_count(a, w->tree->nodes[0].count));
        svg_reasons(w, true, " · lost in this capture: ");
    }
    if (account->below_min)
        ap_out_printf(w->out, " · %s shorter than --min-block left out, %s together",
                      ap_svg_count(a, account->below_min), ap_format_duration(b, account->below_min_ns));
    svg_reasons(w, false, " · also noted: ");
    ap_out_str(w->out, "</text>\n");
}

static void svg_unresolved(struct ap_svg_writer *w)
{
    const struct ap_capture *capture = w->capture;
    char num[AP_FORMAT_SZ], share[AP_FORMAT_SZ];

    svg_line_open(w, "ap-unresolved", "st-text", 88);
    ap_svg_percent(share, capture->frames_unresolved, capture->frames_total);
    ap_out_str(w->out, "Unresolved frames: ");
    ap_out_xml_str(w->out, share);
    if (capture->frames_unresolved)
        ap_out_printf(w->out, " (%s of", ap_svg_count(num, capture->frames_unresolved));
    else
        ap_out_str(w->out, " (of");
    ap_out_printf(w->out, " %s)", ap_svg_count(num, capture->frames_total));
    for (unsigned i = 0; i < capture->unresolved_cnt && i < 3; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_str(w->out, i ? ", " : " — mostly ");
        ap_svg_text(w, base_name(row->module ? row->module : "?"), 32);
        ap_out_str(w->out, ": ");
        ap_out_xml_str(w->out, ap_unresolved_name(row->reason));
    }
    ap_out_str(w->out, "</text>\n");
}

static void svg_footer(struct ap_svg_writer *w, int y)
{
    const struct ap_agent_info *agent = &w->capture->agent;
    uint64_t duration = w->profile->duration_ns, cost = agent->cpu_ns + agent->bpf_run_ns;
    char num[AP_FORMAT_SZ], share[AP_FORMAT_SZ];

    svg_line_open(w, "ap-foot", "st-muted", y);
    ap_out_printf(w->out, "Agent cost: %s CPU", ap_format_duration(num, agent->cpu_ns));
    if (agent->bpf_run_ns)
        ap_out_printf(w->out, " + %s in BPF", ap_format_duration(num, agent->bpf_run_ns));
    if (agent->bpf_run_cnt)
        ap_out_printf(w->out, " (%s a run)", ap_format_duration(num, agent->bpf_run_ns / agent->bpf_run_cnt));
    if (duration) {
        ap_out_str(w->out, " = ");
        ap_out_xml_str(w->out, ap_svg_percent(share, cost, duration));
        ap_out_str(w->out, " of one CPU");
    }
    if (agent->rss_peak_bytes)
        ap_out_printf(w->out, " · peak memory %s", ap_format_size(num, agent->rss_peak_bytes));
    if (agent->bpf_memory_bytes)
        ap_out_printf(w->out, " + %s BPF", ap_format_size(num, agent->bpf_memory_bytes));
    ap_out_str(w->out, " · Aperture ");
    ap_svg_text(w, agent->version, 32);
    if (agent->kernel[0]) {
        ap_out_str(w->out, " · Linux ");
        ap_svg_text(w, agent->kernel, 48);
        ap_out_char(w->out, ' ');
        ap_svg_text(w, agent->arch, 16);
    }
    ap_out_str(w->out, "</text>\n");
}

/* Kinds in the picture with their share of self time. */
static void svg_legend(struct ap_svg_writer *w)
{
    static const uint8_t order[] = {AP_FRAME_NATIVE, AP_FRAME_KERNEL,  AP_FRAME_JIT, AP_FRAME_INTERPRETED,
                                    AP_FRAME_GPU,    AP_FRAME_UNKNOWN, AP_SVG_WAKER, AP_FRAME_MARK};
    uint64_t total = ap_svg_weight(w, 0);
    char share[AP_FORMAT_SZ];
    double x = AP_SVG_MARGIN;

    ap_out_str(w->out, "<g font-size=\"12\" fill=\"#5a616b\">\n");
    for (size_t i = 0; i < sizeof(order); i++) {
        unsigned kind = order[i];
        bool code = kind < AP_SVG_CODE_KINDS; /* has a share */

        if (!w->has_kind[kind])
            continue;
        if (ap_svg_is_code(kind))
            ap_out_printf(w->out, "<rect class=\"k%us%d\"", kind, AP_SVG_SHADES / 2);
        else
            ap_out_str(w->out, "<rect class=\"km\" fill=\"url(#ap-hatch)\"");
        ap_out_printf(w->out, " x=\"%.0f\" y=\"101\" width=\"12\" height=\"12\" rx=\"2\"/>", x);
        ap_out_printf(w->out, "<text class=\"st-muted\" x=\"%.0f\" y=\"111\">%s", x + 17, kind_labels[kind]);
        if (code) {
            ap_out_char(w->out, ' ');
            ap_out_xml_str(w->out, ap_svg_percent(share, w->kind_self[kind], total));
        }
        ap_out_str(w->out, "</text>\n");
        x += 40 + 6.4 * (double)(strlen(kind_labels[kind]) + (code ? strlen(share) + 1 : 0));
    }
    if (w->has_inlined)
        ap_out_printf(w->out,
                      "<rect class=\"inl-key\" x=\"%.1f\" y=\"101.5\" width=\"11\" height=\"11\" rx=\"2\" "
                      "fill=\"none\" "
                      "stroke=\"#5a616b\" stroke-dasharray=\"3 2\"/><text class=\"st-muted\" x=\"%.0f\" y=\"111\">"
                      "inlined</text>\n",
                      x + 0.5, x + 17);
    ap_out_str(w->out, "</g>\n");
}

/* ---- the chart ---- */

/* What a pointer that rests on a frame shows without scripts, and what a screen reader says. */
static void svg_tip(struct ap_svg_writer *w, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    const char *module = ap_svg_str(w, node->module);
    char num[AP_FORMAT_SZ];

    ap_out_str(w->out, "<title>");
    ap_svg_text(w, ap_svg_str(w, node->name), 400);
    if (module[0]) {
        ap_out_str(w->out, " (");
        ap_svg_text(w, base_name(module), 100);
        ap_out_char(w->out, ')');
    }
    ap_out_printf(w->out, " — %s%s %s%s, ", node->waker && node->kind != AP_FRAME_MARK ? "waker of " : "",
                  ap_svg_count(num, node->count), ap_svg_unit(w), node->count == 1 ? "" : "s");
    if (node->value)
        ap_out_printf(w->out, "%s, ", ap_format_duration(num, node->value));
    ap_out_xml_str(w->out, ap_svg_percent(num, ap_svg_weight(w, i), ap_svg_weight(w, 0)));
    ap_out_str(w->out, "</title>");
}

static void svg_box(struct ap_svg_writer *w, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    double x = AP_SVG_MARGIN + w->start[i] * w->scale, width = ap_svg_px(w, i);
    int y = AP_SVG_CHART_TOP + node->depth * AP_SVG_ROW;
    double drawn = width > 3.0 ? width - 0.8 : width;
    unsigned kind = ap_svg_kind(node);
    /* keeps the edge inside the box */
    double inset = (node->inlined || kind == AP_SVG_WAKER) && drawn > 3.0 ? 0.5 : 0.0;

    ap_out_str(w->out, "<g>");
    svg_tip(w, i);
    ap_out_str(w->out, "<rect class=\"");
    svg_class(w, node);
    ap_out_printf(w->out, "\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"", x + inset, y + inset,
                  drawn - 2 * inset, AP_SVG_ROW - 1 - 2 * inset);
    if (node->inlined && inset > 0)
        ap_out_str(w->out, " stroke=\"#2b2f36\" stroke-dasharray=\"3 2\"");
    if (kind == AP_FRAME_MARK && i)
        ap_out_str(w->out, " fill=\"url(#ap-hatch)\"");
    else if (!ap_svg_is_code(kind))
        ap_out_str(w->out, " fill=\"#e3e6ea\"");
    ap_out_str(w->out, "/>");
    if (width >= SVG_LABEL_PX) {
        ap_out_printf(w->out, "<text class=\"%s\" x=\"%.2f\" y=\"%d\">", ap_svg_is_code(kind) ? "lab" : "st-text",
                      x + 4, y + 13);
        ap_svg_text(w, ap_svg_str(w, node->name), (size_t)((width - 7) / SVG_CELL_PX));
        ap_out_str(w->out, "</text>");
    }
    ap_out_str(w->out, "</g>\n");
}

/* Slivers of one kind as one path: thousands of elements would only slow the reader down. */
static void svg_slivers(struct ap_svg_writer *w, unsigned kind)
{
    const struct ap_tree *tree = w->tree;
    bool open = false;

    for (uint32_t i = ap_svg_next(tree, 0, true); i;) {
        const struct ap_tree_node *node = &tree->nodes[i];
        double width = ap_svg_px(w, i);

        if (width >= SVG_MIN_PX && width < SVG_BOX_PX && ap_svg_kind(node) == kind) {
            if (!open && ap_svg_is_code(kind))
                ap_out_printf(w->out, "<path class=\"k%us%d\" d=\"", kind, AP_SVG_SHADES / 2);
            else if (!open)
                ap_out_str(w->out, "<path class=\"kp\" fill=\"#e3e6ea\" d=\"");
            open = true;
            ap_out_printf(w->out, "M%.2f %dh%.2fv%dh-%.2fz", AP_SVG_MARGIN + w->start[i] * w->scale,
                          AP_SVG_CHART_TOP + node->depth * AP_SVG_ROW, width, AP_SVG_ROW - 1, width);
        }
        i = ap_svg_next(tree, i, width >= SVG_MIN_PX);
    }
    if (open)
        ap_out_str(w->out, "\"/>\n");
}

static void svg_chart(struct ap_svg_writer *w)
{
    ap_out_str(w->out, "<g class=\"mono\" font-family=\"'JetBrains Mono',ui-monospace,Menlo,Consolas,'DejaVu Sans "
                       "Mono',monospace\" font-size=\"12\" fill=\"#0b0d10\">\n");
    for (uint32_t i = 0;;) {
        double width = ap_svg_px(w, i);

        if (width >= SVG_BOX_PX)
            svg_box(w, i);
        i = ap_svg_next(w->tree, i, width >= SVG_BOX_PX);
        if (!i)
            break;
    }
    for (unsigned kind = 0; kind < AP_SVG_KINDS; kind++)
        svg_slivers(w, kind);
    ap_out_str(w->out, "</g>\n");
}

int ap_svg_rows(const struct ap_svg_writer *w)
{
    int rows = 1;

    if (svg_empty(w))
        return 8;
    for (uint32_t i = ap_svg_next(w->tree, 0, true); i;) {
        bool seen = ap_svg_px(w, i) >= SVG_MIN_PX;

        if (seen && w->tree->nodes[i].depth + 1 > rows)
            rows = w->tree->nodes[i].depth + 1;
        i = ap_svg_next(w->tree, i, seen);
    }
    return rows;
}

static const char *empty_text(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "Nothing ran on a CPU in this capture, or the filters left everything out. Try a longer capture or "
               "fewer filters.";
    case AP_KIND_OFFCPU:
        return "Nothing was off the CPU for as long as --min-block asks. Try a longer capture or a lower threshold.";
    case AP_KIND_LOCK:
        return "Nothing waited for a lock in this capture, or the filters left everything out.";
    case AP_KIND_SYSCALL:
        return "No system call was slow enough for its stack to be recorded.";
    default:
        return "Nothing that was measured lasted long enough to be recorded. Try a longer capture or a lower "
               "threshold.";
    }
}

static void svg_no_samples(struct ap_svg_writer *w)
{
    int y = AP_SVG_CHART_TOP + 60;

    ap_out_printf(w->out,
                  "<g text-anchor=\"middle\"><rect class=\"empty\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"124\" "
                  "rx=\"6\" fill=\"none\" stroke=\"#c9ced6\" stroke-dasharray=\"6 4\"/>"
                  "<text id=\"ap-empty\" class=\"st-title\" x=\"%d\" y=\"%d\" font-size=\"16\" fill=\"#1a1d21\">"
                  "No %ss</text><text id=\"ap-empty-why\" class=\"st-muted\" x=\"%d\" y=\"%d\" font-size=\"12\" "
                  "fill=\"#5a616b\">",
                  AP_SVG_MARGIN, AP_SVG_CHART_TOP, AP_SVG_CHART, AP_SVG_WIDTH / 2, y, ap_svg_unit(w), AP_SVG_WIDTH / 2,
                  y + 24);
    if (ap_account_lost(w->account))
        ap_out_printf(w->out, "Every %s that was expected got lost: see the account above.", ap_svg_unit(w));
    else
        ap_out_str(w->out, empty_text(w->profile->kind));
    ap_out_str(w->out, "</text></g>\n");
}

/* ---- all of it ---- */

void ap_svg_picture(struct ap_svg_writer *w, int height)
{
    ap_out_str(w->out, "<g id=\"ap-static\">\n<rect class=\"bg\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    svg_line_open(w, "ap-title", "st-title", 28);
    ap_out_printf(w->out, "%s</text>\n", ap_svg_title(w->profile->kind));
    svg_subtitle(w);
    svg_account(w);
    svg_unresolved(w);
    if (svg_empty(w)) {
        svg_no_samples(w);
    } else {
        svg_legend(w);
        svg_chart(w);
    }
    svg_footer(w, height - 16);
    ap_out_str(w->out, "</g>\n");
}
