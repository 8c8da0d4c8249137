/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Flamegraph as one SVG file: a static picture that any renderer shows, the exact data of every node, and a
 * viewer (svg/viewer.js) that takes over where scripts run.
 *
 * Every name in a profile is hostile. Text enters the file in two ways only: ap_out_xml_str for what is seen,
 * and svg_json_str (JSON escapes, then XML escapes on top) for what the viewer reads. */
#include "core/clock.h"
#include "core/map.h"
#include "core/parse.h"
#include "format/format.h"
#include "format/names.h"
#include "format/svg_viewer_css.h"
#include "format/svg_viewer_js.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SVG_WIDTH      1200
#define SVG_MARGIN     16
#define SVG_CHART      (SVG_WIDTH - 2 * SVG_MARGIN)
#define SVG_ROW        18
#define SVG_CHART_TOP  128
#define SVG_FOOT       44
#define SVG_MIN_PX     0.1 /* narrower nodes are left to the viewer */
#define SVG_BOX_PX     1.0 /* narrower nodes share one path per kind and have no label */
#define SVG_LABEL_PX   24.0
#define SVG_CELL_PX    7.25 /* advance of 12 px monospace fonts, the widest of the usual ones */
#define SVG_SHADES     7
#define SVG_CODE_KINDS 6 /* frame kinds that are code: 0 .. AP_FRAME_GPU */
#define SVG_WAKER      8 /* what the picture takes a waker's frames for, beside enum ap_frame_kind */
#define SVG_KINDS      9
#define SVG_TEXT_SZ    4096
#define SVG_NAME_CELLS 3000 /* longest name that the data block keeps */
#define SVG_UNRESOLVED 100  /* rows of the diagnosis in the data block */

/* What the viewer needs to know of a frame; nodes that agree in all of it share one. No padding: it is a map
 * key. */
struct svg_frame {
    uint32_t name, module, file, line; /* string ids */
    uint32_t kind, flags;              /* SVG_INLINED and SVG_OF_WAKER */
};

enum { SVG_INLINED = 1, SVG_OF_WAKER = 2 };

struct svg_writer {
    const struct ap_capture *capture;
    const struct ap_account *account; /* of the profile */
    const struct ap_tree *tree;
    const struct ap_profile *profile;
    struct ap_out *out;

    struct ap_buf json_buf; /* one JSON string on its way to the XML escape */
    struct ap_out *json;

    bool by_count;      /* no values: widths are samples */
    double scale;       /* px per unit of weight */
    double *start;      /* per node: weight left of it */
    uint32_t *frame_of; /* per node: index into `frames` */
    struct svg_frame *frames;
    uint32_t frame_cnt;
    uint32_t *string_of; /* per string id: index in the data block + 1, 0 = not used */
    uint32_t *strings;   /* string ids in data block order */
    uint32_t string_cnt, string_ids;
    uint64_t kind_self[SVG_KINDS]; /* weight by frame kind */
    bool has_kind[SVG_KINDS], has_inlined;
};

/* By enum ap_frame_kind. Checked for colour blindness and, over all shades, for a label contrast of 4.6:1. */
static const uint32_t palette_light[SVG_CODE_KINDS] = {0x8D9094, 0xD68E4E, 0x5884DC, 0xA7F1D7, 0xFBEA83, 0xEBA7EB};
static const uint32_t palette_dark[SVG_CODE_KINDS] = {0xAFB4BC, 0xE7B679, 0x679AF4, 0x009E6C, 0x9CA046, 0xCF76B9};
/* Wakers have an edge too, so that nobody depends on the hue. */
static const uint32_t waker_light = 0x42D78C, waker_dark = 0xABEDBF, waker_edge = 0x0B4A2B;

static const char *const kind_labels[SVG_KINDS] = {"unresolved", "native", "kernel", "jit",  "interpreted",
                                                   "gpu",        "thread", "mark",   "waker"};

/* ---- text ---- */

/* Bytes of the well-formed UTF-8 sequence at `s`, 1 for a byte that starts none; *ret_cells is its width on
 * screen. */
static size_t utf8_step(const unsigned char *s, unsigned *ret_cells)
{
    size_t len = s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC2 ? 2 : 1;
    uint32_t cp = s[0];

    *ret_cells = 1;
    if (s[0] < 0x80 || s[0] >= 0xF5)
        return 1;
    cp &= len == 2 ? 0x1F : len == 3 ? 0x0F : 0x07;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 1;
        cp = cp << 6 | (s[i] & 0x3F);
    }
    if ((cp >= 0x1100 && cp < 0x1160) || (cp >= 0x2E80 && cp < 0xA4D0) || (cp >= 0xAC00 && cp < 0xD7A4) ||
        (cp >= 0xF900 && cp < 0xFB00) || (cp >= 0xFE30 && cp < 0xFE70) || (cp >= 0xFF00 && cp < 0xFF61) ||
        (cp >= 0x1F300 && cp < 0x1FA00) || cp >= 0x20000)
        *ret_cells = 2;
    return len;
}

/* Controls that reorder the text around them, so that a name could pose as another: U+202A..E and U+2066..9.
 */
static bool is_bidi_control(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;

    return u[0] == 0xE2 &&
           ((u[1] == 0x80 && u[2] >= 0xAA && u[2] <= 0xAE) || (u[1] == 0x81 && u[2] >= 0xA6 && u[2] <= 0xA9));
}

/* Copies at most `cells` columns of `str`, between characters, with an ellipsis when something was cut. */
static const char *cut_text(char buf[SVG_TEXT_SZ], const char *str, size_t cells)
{
    size_t used = 0, len = 0, fit = 0;

    while (str[len]) {
        unsigned width;
        size_t step = utf8_step((const unsigned char *)str + len, &width);

        if (used + width > cells || len + step > SVG_TEXT_SZ - 4) {
            memcpy(buf + fit, "\xE2\x80\xA6", 4);
            return buf;
        }
        memcpy(buf + len, is_bidi_control(str + len) ? "\xEF\xBF\xBD" : str + len, step);
        used += width;
        len += step;
        if (used < cells) /* leaves the last column to the ellipsis */
            fit = len;
    }
    buf[len] = '\0';
    return buf;
}

static void svg_text(struct svg_writer *w, const char *str, size_t cells)
{
    char buf[SVG_TEXT_SZ];

    ap_out_xml_str(w->out, cut_text(buf, str, cells));
}

/* JSON string inside XML text: '<' becomes \u003c, then & > " ' become entities. */
static void svg_json_str(struct svg_writer *w, const char *str)
{
    char buf[SVG_TEXT_SZ];

    ap_buf_reset(&w->json_buf);
    ap_out_json_str(w->json, cut_text(buf, str, SVG_NAME_CELLS), true);
    if (ap_out_flush(w->json) == 0 && w->json_buf.data)
        ap_out_xml_str(w->out, w->json_buf.data);
}

/* "12,345" */
static const char *count_text(char buf[AP_FORMAT_SZ], uint64_t n)
{
    char *p = buf + AP_FORMAT_SZ - 1;
    int digits = 0;

    *p = '\0';
    do {
        if (digits && digits % 3 == 0)
            *--p = ',';
        *--p = (char)('0' + n % 10);
        n /= 10;
        digits++;
    } while (n);
    return p;
}

static const char *percent_text(char buf[AP_FORMAT_SZ], uint64_t part, uint64_t whole)
{
    double percent = whole ? 100.0 * (double)part / (double)whole : 0.0;

    if (part && percent < 0.01)
        snprintf(buf, AP_FORMAT_SZ, "<0.01 %%");
    else
        snprintf(buf, AP_FORMAT_SZ, "%.*f %%", percent < 10.0 && part ? 2 : 1, percent);
    return buf;
}

/* ---- tree ---- */

static uint64_t node_weight(const struct svg_writer *w, uint32_t i)
{
    return w->by_count ? w->tree->nodes[i].count : w->tree->nodes[i].value;
}

static uint64_t node_self(const struct svg_writer *w, uint32_t i)
{
    return w->by_count ? w->tree->nodes[i].self_count : w->tree->nodes[i].self;
}

static double node_px(const struct svg_writer *w, uint32_t i)
{
    return (double)node_weight(w, i) * w->scale;
}

/* Preorder successor, 0 at the end; `enter` = false passes over what hangs below. */
static uint32_t next_node(const struct ap_tree *tree, uint32_t i, bool enter)
{
    const struct ap_tree_node *nodes = tree->nodes;

    if (enter && nodes[i].first_child)
        return nodes[i].first_child;
    while (i && !nodes[i].next_sibling)
        i = nodes[i].parent;
    return i ? nodes[i].next_sibling : 0;
}

static const char *node_str(const struct svg_writer *w, uint32_t id)
{
    return ap_profile_str(w->profile, id);
}

/* What a raw event of the profile is called. */
static const char *unit_name(const struct svg_writer *w)
{
    return ap_event_word(w->profile->kind);
}

/* The kind as the picture has it: wakers are one, whatever their code is; a mark stays a mark. */
static unsigned picture_kind(const struct ap_tree_node *node)
{
    if (node->waker && node->kind != AP_FRAME_MARK)
        return SVG_WAKER;
    return node->kind <= AP_FRAME_MARK ? node->kind : AP_FRAME_UNKNOWN;
}

static bool is_code(unsigned kind)
{
    return kind < SVG_CODE_KINDS || kind == SVG_WAKER;
}

static bool svg_empty(const struct svg_writer *w)
{
    return w->scale <= 0.0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

/* Neighbouring modules of one kind should differ a little, and always in the same way. */
static unsigned module_shade(const struct svg_writer *w, uint32_t module)
{
    uint32_t hash = 2166136261u;

    if (!module)
        return SVG_SHADES / 2;
    for (const char *p = node_str(w, module); *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    return (hash ^ hash >> 15) % SVG_SHADES;
}

static void take_string(struct svg_writer *w, uint32_t id)
{
    if (id >= w->string_ids)
        id = 0;
    if (w->string_of[id])
        return;
    w->strings[w->string_cnt++] = id;
    w->string_of[id] = w->string_cnt;
}

static uint32_t string_index(const struct svg_writer *w, uint32_t id)
{
    return w->string_of[id < w->string_ids ? id : 0] - 1;
}

/* Finds or adds the frame of a node. 0 or -ENOMEM. */
static int take_frame(struct svg_writer *w, struct ap_map *map, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    struct svg_frame *slot = &w->frames[w->frame_cnt], *found;
    int r;

    *slot = (struct svg_frame){
        .name = node->name,
        .module = node->module,
        .file = node->file,
        .line = node->line,
        .kind = picture_kind(node),
        .flags = (node->inlined ? SVG_INLINED : 0) | (node->waker ? SVG_OF_WAKER : 0),
    };
    found = ap_map_get(map, slot, sizeof(*slot));
    if (!found) {
        r = ap_map_put(map, slot, sizeof(*slot), slot);
        if (r < 0)
            return r;
        found = slot;
        w->frame_cnt++;
        take_string(w, slot->name);
        take_string(w, slot->module);
        take_string(w, slot->file);
    }
    w->frame_of[i] = (uint32_t)(found - w->frames);
    return 0;
}

/* One walk that fills what the rest of the file reads per node. 0 or -ENOMEM. */
static int svg_collect(struct svg_writer *w)
{
    const struct ap_tree *tree = w->tree;
    struct ap_map map;
    uint32_t i = 0;
    int r = 0;

    ap_map_init(&map, tree->node_cnt);
    w->string_cnt = 0;
    take_string(w, 0);
    do {
        const struct ap_tree_node *node = &tree->nodes[i];
        double left = w->start[i];
        uint32_t owner = i;

        r = take_frame(w, &map, i);
        if (r < 0)
            break;
        /* A waker stands below the wait that it ended: the time is the wait's. */
        while (tree->nodes[owner].waker && tree->nodes[owner].parent)
            owner = tree->nodes[owner].parent;
        w->kind_self[picture_kind(&tree->nodes[owner])] += node_self(w, i);
        w->has_kind[picture_kind(node)] |= i != 0;
        w->has_inlined |= node->inlined;
        for (uint32_t c = node->first_child; c; c = tree->nodes[c].next_sibling) {
            w->start[c] = left;
            left += (double)node_weight(w, c);
        }
        i = next_node(tree, i, true);
    } while (i);
    ap_map_done(&map);
    return r;
}

static void svg_done(struct svg_writer *w)
{
    ap_out_free(w->json);
    ap_buf_done(&w->json_buf);
    free(w->start);
    free(w->frame_of);
    free(w->frames);
    free(w->string_of);
    free(w->strings);
}

/* 0 or -ENOMEM; svg_done() in either case. */
static int svg_init(struct svg_writer *w, const struct ap_capture *capture, const struct ap_tree *tree,
                    struct ap_out *out)
{
    const struct ap_tree_node *root = &tree->nodes[0];
    static const struct ap_account none;
    size_t nodes = tree->node_cnt;
    uint64_t total;

    *w = (struct svg_writer){.capture = capture, .tree = tree, .profile = tree->profile, .out = out};
    w->account = ap_capture_account(capture, tree->profile);
    if (!w->account)
        w->account = &none;
    ap_buf_init(&w->json_buf, 8 * SVG_TEXT_SZ);
    w->json = ap_out_new_buf(&w->json_buf);
    w->by_count = root->value == 0;
    total = w->by_count ? root->count : root->value;
    w->scale = total ? SVG_CHART / (double)total : 0.0;
    w->string_ids = (uint32_t)ap_strings_count(w->profile->strings);
    if (!w->string_ids)
        w->string_ids = 1;
    w->start = calloc(nodes, sizeof(*w->start));
    w->frame_of = calloc(nodes, sizeof(*w->frame_of));
    w->frames = calloc(nodes, sizeof(*w->frames));
    w->string_of = calloc(w->string_ids, sizeof(*w->string_of));
    w->strings = calloc(w->string_ids, sizeof(*w->strings));
    if (!w->json || !w->start || !w->frame_of || !w->frames || !w->string_of || !w->strings)
        return -ENOMEM;
    return svg_collect(w);
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

static void svg_palette(struct svg_writer *w, const uint32_t palette[SVG_CODE_KINDS], uint32_t waker, const char *scope)
{
    bool wakers = w->has_kind[SVG_WAKER];

    for (unsigned kind = 0; kind < SVG_CODE_KINDS; kind++) {
        for (int shade = 0; shade < SVG_SHADES; shade++)
            ap_out_printf(w->out, "%s.k%us%d{fill:#%06x}", scope, kind, shade,
                          shade_colour(palette[kind], shade - SVG_SHADES / 2));
    }
    for (int shade = 0; wakers && shade < SVG_SHADES; shade++)
        ap_out_printf(w->out, "%s.k%ds%d{fill:#%06x;stroke:#%06x}", scope, SVG_WAKER, shade,
                      shade_colour(waker, shade - SVG_SHADES / 2), waker_edge);
    ap_out_char(w->out, '\n');
}

static void svg_style(struct svg_writer *w)
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
static void svg_class(struct svg_writer *w, const struct ap_tree_node *node)
{
    unsigned kind = picture_kind(node);

    if (node->parent == 0 && node->depth == 0)
        ap_out_str(w->out, "kr");
    else if (!is_code(kind))
        ap_out_str(w->out, kind == AP_FRAME_MARK ? "km" : "kp");
    else
        ap_out_printf(w->out, "k%us%u", kind, module_shade(w, node->module));
    if (node->inlined)
        ap_out_str(w->out, " inl");
}

/* ---- header and footer of the picture ---- */

static const char *title_text(uint8_t kind)
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

static void svg_line_open(struct svg_writer *w, const char *id, const char *cls, int y)
{
    ap_out_printf(w->out, "<text id=\"%s\" class=\"%s\" x=\"%d\" y=\"%d\" font-size=\"%d\" fill=\"%s\">", id, cls,
                  SVG_MARGIN, y, strcmp(cls, "st-title") ? 12 : 16, strcmp(cls, "st-muted") ? "#1a1d21" : "#5a616b");
}

static void svg_subtitle(struct svg_writer *w)
{
    const struct ap_agent_info *agent = &w->capture->agent;
    const struct ap_tree_node *root = &w->tree->nodes[0];
    time_t seconds = (time_t)(w->profile->start_ns / AP_NS_PER_SEC);
    char num[AP_FORMAT_SZ], date[64] = "";
    struct tm tm;

    svg_line_open(w, "ap-sub", "st-muted", 48);
    if (agent->host[0]) {
        svg_text(w, agent->host, 64);
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
            svg_text(w, agent->event, 32);
            ap_out_char(w->out, ')');
        }
        ap_out_str(w->out, " · ");
    }
    ap_out_printf(w->out, "%s %s%s", count_text(num, root->count), unit_name(w), root->count == 1 ? "" : "s");
    if (root->value)
        ap_out_printf(w->out, " · %s in total", ap_format_duration(num, root->value));
    ap_out_str(w->out, "</text>\n");
}

/* The reasons of one sort that have a count: "missed 15, ring_full 30". */
static void svg_reasons(struct svg_writer *w, bool samples, const char *open)
{
    const char *sep = open;
    char num[AP_FORMAT_SZ];

    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (!w->account->losses[i] || ap_loss_is_sample(i) != samples)
            continue;
        ap_out_str(w->out, sep);
        ap_out_xml_str(w->out, ap_loss_name(i));
        ap_out_printf(w->out, " %s", count_text(num, w->account->losses[i]));
        sep = ", ";
    }
}

static void svg_account(struct svg_writer *w)
{
    const struct ap_account *account = w->account;
    uint64_t lost = ap_account_lost(account), known = account->delivered + lost;
    char a[AP_FORMAT_SZ], b[AP_FORMAT_SZ], c[AP_FORMAT_SZ];

    svg_line_open(w, "ap-account", "st-text", 70);
    ap_out_str(w->out, ap_event_heading(w->profile->kind));
    if (account->expected || known || !w->tree->nodes[0].count) {
        ap_out_printf(w->out, ": expected %s = delivered %s + lost %s", count_text(a, account->expected),
                      count_text(b, account->delivered), count_text(c, lost));
        if (lost) {
            ap_out_str(w->out, " (");
            ap_out_xml_str(w->out, percent_text(a, lost, account->expected));
            ap_out_char(w->out, ')');
        }
        svg_reasons(w, true, " — ");
        if (known != account->expected)
            ap_out_printf(
                w->out, " · the account is off by %s",
                count_text(a, known > account->expected ? known - account->expected : account->expected - known));
    } else {
        ap_out_printf(w->out, ", expected number unknown: %s", count_text(a, w->tree->nodes[0].count));
        svg_reasons(w, true, " · lost in this capture: ");
    }
    if (account->below_min)
        ap_out_printf(w->out, " · %s shorter than --min-block left out, %s together", count_text(a, account->below_min),
                      ap_format_duration(b, account->below_min_ns));
    svg_reasons(w, false, " · also noted: ");
    ap_out_str(w->out, "</text>\n");
}

static void svg_unresolved(struct svg_writer *w)
{
    const struct ap_capture *capture = w->capture;
    char num[AP_FORMAT_SZ], share[AP_FORMAT_SZ];

    svg_line_open(w, "ap-unresolved", "st-text", 88);
    percent_text(share, capture->frames_unresolved, capture->frames_total);
    ap_out_str(w->out, "Unresolved frames: ");
    ap_out_xml_str(w->out, share);
    if (capture->frames_unresolved)
        ap_out_printf(w->out, " (%s of", count_text(num, capture->frames_unresolved));
    else
        ap_out_str(w->out, " (of");
    ap_out_printf(w->out, " %s)", count_text(num, capture->frames_total));
    for (unsigned i = 0; i < capture->unresolved_cnt && i < 3; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_str(w->out, i ? ", " : " — mostly ");
        svg_text(w, base_name(row->module ? row->module : "?"), 32);
        ap_out_str(w->out, ": ");
        ap_out_xml_str(w->out, ap_unresolved_name(row->reason));
    }
    ap_out_str(w->out, "</text>\n");
}

static void svg_footer(struct svg_writer *w, int y)
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
        ap_out_xml_str(w->out, percent_text(share, cost, duration));
        ap_out_str(w->out, " of one CPU");
    }
    if (agent->rss_peak_bytes)
        ap_out_printf(w->out, " · peak memory %s", ap_format_size(num, agent->rss_peak_bytes));
    if (agent->bpf_memory_bytes)
        ap_out_printf(w->out, " + %s BPF", ap_format_size(num, agent->bpf_memory_bytes));
    ap_out_str(w->out, " · Aperture ");
    svg_text(w, agent->version, 32);
    if (agent->kernel[0]) {
        ap_out_str(w->out, " · Linux ");
        svg_text(w, agent->kernel, 48);
        ap_out_char(w->out, ' ');
        svg_text(w, agent->arch, 16);
    }
    ap_out_str(w->out, "</text>\n");
}

/* Kinds in the picture with their share of self time. */
static void svg_legend(struct svg_writer *w)
{
    static const uint8_t order[] = {AP_FRAME_NATIVE, AP_FRAME_KERNEL,  AP_FRAME_JIT, AP_FRAME_INTERPRETED,
                                    AP_FRAME_GPU,    AP_FRAME_UNKNOWN, SVG_WAKER,    AP_FRAME_MARK};
    uint64_t total = node_weight(w, 0);
    char share[AP_FORMAT_SZ];
    double x = SVG_MARGIN;

    ap_out_str(w->out, "<g font-size=\"12\" fill=\"#5a616b\">\n");
    for (size_t i = 0; i < sizeof(order); i++) {
        unsigned kind = order[i];
        bool code = kind < SVG_CODE_KINDS; /* has a share */

        if (!w->has_kind[kind])
            continue;
        if (is_code(kind))
            ap_out_printf(w->out, "<rect class=\"k%us%d\"", kind, SVG_SHADES / 2);
        else
            ap_out_str(w->out, "<rect class=\"km\" fill=\"url(#ap-hatch)\"");
        ap_out_printf(w->out, " x=\"%.0f\" y=\"101\" width=\"12\" height=\"12\" rx=\"2\"/>", x);
        ap_out_printf(w->out, "<text class=\"st-muted\" x=\"%.0f\" y=\"111\">%s", x + 17, kind_labels[kind]);
        if (code) {
            ap_out_char(w->out, ' ');
            ap_out_xml_str(w->out, percent_text(share, w->kind_self[kind], total));
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
static void svg_tip(struct svg_writer *w, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    const char *module = node_str(w, node->module);
    char num[AP_FORMAT_SZ];

    ap_out_str(w->out, "<title>");
    svg_text(w, node_str(w, node->name), 400);
    if (module[0]) {
        ap_out_str(w->out, " (");
        svg_text(w, base_name(module), 100);
        ap_out_char(w->out, ')');
    }
    ap_out_printf(w->out, " — %s%s %s%s, ", node->waker && node->kind != AP_FRAME_MARK ? "waker of " : "",
                  count_text(num, node->count), unit_name(w), node->count == 1 ? "" : "s");
    if (node->value)
        ap_out_printf(w->out, "%s, ", ap_format_duration(num, node->value));
    ap_out_xml_str(w->out, percent_text(num, node_weight(w, i), node_weight(w, 0)));
    ap_out_str(w->out, "</title>");
}

static void svg_box(struct svg_writer *w, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    double x = SVG_MARGIN + w->start[i] * w->scale, width = node_px(w, i);
    int y = SVG_CHART_TOP + node->depth * SVG_ROW;
    double drawn = width > 3.0 ? width - 0.8 : width;
    unsigned kind = picture_kind(node);
    /* keeps the edge inside the box */
    double inset = (node->inlined || kind == SVG_WAKER) && drawn > 3.0 ? 0.5 : 0.0;

    ap_out_str(w->out, "<g>");
    svg_tip(w, i);
    ap_out_str(w->out, "<rect class=\"");
    svg_class(w, node);
    ap_out_printf(w->out, "\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"", x + inset, y + inset,
                  drawn - 2 * inset, SVG_ROW - 1 - 2 * inset);
    if (node->inlined && inset > 0)
        ap_out_str(w->out, " stroke=\"#2b2f36\" stroke-dasharray=\"3 2\"");
    if (kind == AP_FRAME_MARK && i)
        ap_out_str(w->out, " fill=\"url(#ap-hatch)\"");
    else if (!is_code(kind))
        ap_out_str(w->out, " fill=\"#e3e6ea\"");
    ap_out_str(w->out, "/>");
    if (width >= SVG_LABEL_PX) {
        ap_out_printf(w->out, "<text class=\"%s\" x=\"%.2f\" y=\"%d\">", is_code(kind) ? "lab" : "st-text", x + 4,
                      y + 13);
        svg_text(w, node_str(w, node->name), (size_t)((width - 7) / SVG_CELL_PX));
        ap_out_str(w->out, "</text>");
    }
    ap_out_str(w->out, "</g>\n");
}

/* Slivers of one kind as one path: thousands of elements would only slow the reader down. */
static void svg_slivers(struct svg_writer *w, unsigned kind)
{
    const struct ap_tree *tree = w->tree;
    bool open = false;

    for (uint32_t i = next_node(tree, 0, true); i;) {
        const struct ap_tree_node *node = &tree->nodes[i];
        double width = node_px(w, i);

        if (width >= SVG_MIN_PX && width < SVG_BOX_PX && picture_kind(node) == kind) {
            if (!open && is_code(kind))
                ap_out_printf(w->out, "<path class=\"k%us%d\" d=\"", kind, SVG_SHADES / 2);
            else if (!open)
                ap_out_str(w->out, "<path class=\"kp\" fill=\"#e3e6ea\" d=\"");
            open = true;
            ap_out_printf(w->out, "M%.2f %dh%.2fv%dh-%.2fz", SVG_MARGIN + w->start[i] * w->scale,
                          SVG_CHART_TOP + node->depth * SVG_ROW, width, SVG_ROW - 1, width);
        }
        i = next_node(tree, i, width >= SVG_MIN_PX);
    }
    if (open)
        ap_out_str(w->out, "\"/>\n");
}

static void svg_chart(struct svg_writer *w)
{
    ap_out_str(w->out, "<g class=\"mono\" font-family=\"'JetBrains Mono',ui-monospace,Menlo,Consolas,'DejaVu Sans "
                       "Mono',monospace\" font-size=\"12\" fill=\"#0b0d10\">\n");
    for (uint32_t i = 0;;) {
        double width = node_px(w, i);

        if (width >= SVG_BOX_PX)
            svg_box(w, i);
        i = next_node(w->tree, i, width >= SVG_BOX_PX);
        if (!i)
            break;
    }
    for (unsigned kind = 0; kind < SVG_KINDS; kind++)
        svg_slivers(w, kind);
    ap_out_str(w->out, "</g>\n");
}

/* Deepest row that the picture shows. */
static int svg_rows(const struct svg_writer *w)
{
    int rows = 1;

    if (svg_empty(w))
        return 8;
    for (uint32_t i = next_node(w->tree, 0, true); i;) {
        bool seen = node_px(w, i) >= SVG_MIN_PX;

        if (seen && w->tree->nodes[i].depth + 1 > rows)
            rows = w->tree->nodes[i].depth + 1;
        i = next_node(w->tree, i, seen);
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

static void svg_no_samples(struct svg_writer *w)
{
    int y = SVG_CHART_TOP + 60;

    ap_out_printf(w->out,
                  "<g text-anchor=\"middle\"><rect class=\"empty\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"124\" "
                  "rx=\"6\" fill=\"none\" stroke=\"#c9ced6\" stroke-dasharray=\"6 4\"/>"
                  "<text id=\"ap-empty\" class=\"st-title\" x=\"%d\" y=\"%d\" font-size=\"16\" fill=\"#1a1d21\">"
                  "No %ss</text><text id=\"ap-empty-why\" class=\"st-muted\" x=\"%d\" y=\"%d\" font-size=\"12\" "
                  "fill=\"#5a616b\">",
                  SVG_MARGIN, SVG_CHART_TOP, SVG_CHART, SVG_WIDTH / 2, y, unit_name(w), SVG_WIDTH / 2, y + 24);
    if (ap_account_lost(w->account))
        ap_out_printf(w->out, "Every %s that was expected got lost: see the account above.", unit_name(w));
    else
        ap_out_str(w->out, empty_text(w->profile->kind));
    ap_out_str(w->out, "</text></g>\n");
}

/* ---- data ---- */

static void svg_losses(struct svg_writer *w)
{
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        ap_out_printf(w->out, "%s\"%s\":%" PRIu64, i ? "," : "\"losses\":{", ap_loss_name(i), w->account->losses[i]);
    ap_out_char(w->out, '}');
}

static void svg_json_field(struct svg_writer *w, const char *key, const char *text)
{
    ap_out_printf(w->out, ",\"%s\":", key);
    svg_json_str(w, text);
}

/* Totals for programs that read the file. */
static void svg_metadata(struct svg_writer *w)
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
static void svg_diagnosis(struct svg_writer *w)
{
    const struct ap_capture *capture = w->capture;
    const char *sep = "";

    ap_out_str(w->out, "\"losses\":[");
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (!w->account->losses[i])
            continue;
        ap_out_printf(w->out, "%s[", sep);
        svg_json_str(w, ap_loss_name(i));
        ap_out_printf(w->out, ",%" PRIu64 ",%d,", w->account->losses[i], ap_loss_is_sample(i));
        svg_json_str(w, ap_loss_help(i));
        ap_out_char(w->out, ']');
        sep = ",";
    }
    ap_out_str(w->out, "],\n\"unresolved\":[");
    for (unsigned i = 0; i < capture->unresolved_cnt && i < SVG_UNRESOLVED; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_str(w->out, i ? ",[" : "[");
        svg_json_str(w, row->module ? row->module : "");
        ap_out_char(w->out, ',');
        svg_json_str(w, ap_unresolved_name(row->reason));
        ap_out_printf(w->out, ",%" PRIu64 ",%" PRIu64 ",", row->frames, row->samples);
        svg_json_str(w, ap_unresolved_help(row->reason));
        ap_out_char(w->out, ']');
    }
    ap_out_printf(w->out, "],\n\"unresolved_rows\":%u,", capture->unresolved_cnt);
}

static void svg_info(struct svg_writer *w, bool constant)
{
    ap_out_printf(w->out,
                  "<script type=\"application/json\" id=\"ap-info\">{\"schema\":1,\"unit\":\"%s\",\"by_count\":%d,"
                  "\"period\":%" PRIu64 ",\n",
                  unit_name(w), w->by_count, constant ? w->profile->period_ns : 0);
    svg_diagnosis(w);
    ap_out_str(w->out, "\n\"strings\":[");
    for (uint32_t i = 0; i < w->string_cnt; i++) {
        if (i)
            ap_out_str(w->out, ",\n");
        svg_json_str(w, node_str(w, w->strings[i]));
    }
    ap_out_str(w->out, "],\n\"frames\":[");
    for (uint32_t i = 0; i < w->frame_cnt; i++) {
        const struct svg_frame *f = &w->frames[i];

        ap_out_printf(w->out, "%s[%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%u]",
                      i ? "," : "", string_index(w, f->name), string_index(w, f->module), string_index(w, f->file),
                      f->line, f->kind, f->flags, module_shade(w, f->module));
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
static void svg_column(struct svg_writer *w, enum svg_column column, const char *id)
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
        i = next_node(w->tree, i, true);
    } while (i);
    ap_out_str(w->out, "]</script>\n");
}

/* Counts and self values of all nodes; totals are their sums. */
static void svg_data(struct svg_writer *w)
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

static void svg_head(struct svg_writer *w, int height)
{
    char num[AP_FORMAT_SZ];

    ap_out_printf(w->out,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"ap\" width=\"%d\" height=\"%d\" "
                  "viewBox=\"0 0 %d %d\" role=\"group\" aria-labelledby=\"ap-name\" aria-describedby=\"ap-desc\" "
                  "font-family=\"Inter,system-ui,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',sans-serif\">\n"
                  "<title id=\"ap-name\">%s flamegraph",
                  SVG_WIDTH, height, SVG_WIDTH, height, title_text(w->profile->kind));
    if (w->capture->agent.host[0]) {
        ap_out_str(w->out, " — ");
        svg_text(w, w->capture->agent.host, 64);
    }
    ap_out_printf(w->out, "</title>\n<desc id=\"ap-desc\">Flamegraph of %s %s%s",
                  count_text(num, w->tree->nodes[0].count), unit_name(w), w->tree->nodes[0].count == 1 ? "" : "s");
    ap_out_printf(w->out, " in %s call paths. Width is %s; a box stands below its caller.</desc>\n",
                  count_text(num, w->tree->node_cnt - 1), w->by_count ? "their number" : "time");
}

static void svg_picture(struct svg_writer *w, int height)
{
    ap_out_str(w->out, "<g id=\"ap-static\">\n<rect class=\"bg\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    svg_line_open(w, "ap-title", "st-title", 28);
    ap_out_printf(w->out, "%s</text>\n", title_text(w->profile->kind));
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

int ap_svg_write(const struct ap_capture *capture, const struct ap_tree *tree, struct ap_out *out)
{
    struct svg_writer w;
    int height, r;

    if (!tree->node_cnt)
        return -EINVAL;
    r = svg_init(&w, capture, tree, out);
    if (r < 0) {
        svg_done(&w);
        return r;
    }
    height = SVG_CHART_TOP + svg_rows(&w) * SVG_ROW + SVG_FOOT;
    svg_head(&w, height);
    svg_metadata(&w);
    svg_style(&w);
    svg_picture(&w, height);
    svg_data(&w);
    ap_out_str(out, "<script><![CDATA[\n");
    ap_out_write(out, svg_viewer_js, sizeof(svg_viewer_js) - 1);
    ap_out_str(out, "]]></script>\n</svg>\n");
    r = ap_out_error(w.json);
    svg_done(&w);
    if (r < 0)
        return r;
    return ap_out_flush(out);
}
