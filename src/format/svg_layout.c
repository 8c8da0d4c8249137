/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/map.h"
#include "format/names.h"
#include "format/svg.h"

#include <errno.h>
#include <stdlib.h>

uint64_t ap_svg_weight(const struct ap_svg_writer *w, uint32_t i)
{
    return w->by_count ? w->tree->nodes[i].count : w->tree->nodes[i].value;
}

static uint64_t node_self(const struct ap_svg_writer *w, uint32_t i)
{
    return w->by_count ? w->tree->nodes[i].self_count : w->tree->nodes[i].self;
}

double ap_svg_px(const struct ap_svg_writer *w, uint32_t i)
{
    return (double)ap_svg_weight(w, i) * w->scale;
}

uint32_t ap_svg_next(const struct ap_tree *tree, uint32_t i, bool enter)
{
    const struct ap_tree_node *nodes = tree->nodes;

    if (enter && nodes[i].first_child)
        return nodes[i].first_child;
    while (i && !nodes[i].next_sibling)
        i = nodes[i].parent;
    return i ? nodes[i].next_sibling : 0;
}

const char *ap_svg_str(const struct ap_svg_writer *w, uint32_t id)
{
    return ap_profile_str(w->profile, id);
}

const char *ap_svg_unit(const struct ap_svg_writer *w)
{
    return ap_event_word(w->profile->kind);
}

unsigned ap_svg_kind(const struct ap_tree_node *node)
{
    if (node->waker && node->kind != AP_FRAME_MARK)
        return AP_SVG_WAKER;
    return node->kind <= AP_FRAME_MARK ? node->kind : AP_FRAME_UNKNOWN;
}

bool ap_svg_is_code(unsigned kind)
{
    return kind < AP_SVG_CODE_KINDS || kind == AP_SVG_WAKER;
}

unsigned ap_svg_shade(const struct ap_svg_writer *w, uint32_t module)
{
    uint32_t hash = 2166136261u;

    if (!module)
        return AP_SVG_SHADES / 2;
    for (const char *p = ap_svg_str(w, module); *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    return (hash ^ hash >> 15) % AP_SVG_SHADES;
}

static void take_string(struct ap_svg_writer *w, uint32_t id)
{
    if (id >= w->string_ids)
        id = 0;
    if (w->string_of[id])
        return;
    w->strings[w->string_cnt++] = id;
    w->string_of[id] = w->string_cnt;
}

uint32_t ap_svg_string_index(const struct ap_svg_writer *w, uint32_t id)
{
    return w->string_of[id < w->string_ids ? id : 0] - 1;
}

/* Finds or adds the frame of a node. 0 or -ENOMEM. */
static int take_frame(struct ap_svg_writer *w, struct ap_map *map, uint32_t i)
{
    const struct ap_tree_node *node = &w->tree->nodes[i];
    struct ap_svg_frame *slot = &w->frames[w->frame_cnt], *found;
    int r;

    *slot = (struct ap_svg_frame){
        .name = node->name,
        .module = node->module,
        .file = node->file,
        .line = node->line,
        .kind = ap_svg_kind(node),
        .flags = (node->inlined ? AP_SVG_INLINED : 0) | (node->waker ? AP_SVG_OF_WAKER : 0),
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

/* One walk that fills in all that is kept per node. 0 or -ENOMEM. */
static int svg_collect(struct ap_svg_writer *w)
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
        w->kind_self[ap_svg_kind(&tree->nodes[owner])] += node_self(w, i);
        w->has_kind[ap_svg_kind(node)] |= i != 0;
        w->has_inlined |= node->inlined;
        for (uint32_t c = node->first_child; c; c = tree->nodes[c].next_sibling) {
            w->start[c] = left;
            left += (double)ap_svg_weight(w, c);
        }
        i = ap_svg_next(tree, i, true);
    } while (i);
    ap_map_done(&map);
    return r;
}

void ap_svg_done(struct ap_svg_writer *w)
{
    ap_out_free(w->json);
    ap_buf_done(&w->json_buf);
    free(w->start);
    free(w->frame_of);
    free(w->frames);
    free(w->string_of);
    free(w->strings);
}

int ap_svg_init(struct ap_svg_writer *w, const struct ap_capture *capture, const struct ap_tree *tree,
                struct ap_out *out)
{
    const struct ap_tree_node *root = &tree->nodes[0];
    static const struct ap_account none;
    size_t nodes = tree->node_cnt;
    uint64_t total;

    *w = (struct ap_svg_writer){.capture = capture, .tree = tree, .profile = tree->profile, .out = out};
    w->account = ap_capture_account(capture, tree->profile);
    if (!w->account)
        w->account = &none;
    ap_buf_init(&w->json_buf, 8 * AP_SVG_TEXT_SZ);
    w->json = ap_out_new_buf(&w->json_buf);
    w->by_count = root->value == 0;
    total = w->by_count ? root->count : root->value;
    w->scale = total ? AP_SVG_CHART / (double)total : 0.0;
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
