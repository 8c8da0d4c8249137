/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/format.h"

#include "format/names.h"
#include "model/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A label is a name of the profile with one of five endings, and no byte of it takes more room than before. */
#define LABELS_SZ (5 * (size_t)AP_PROFILE_STRINGS_SZ + (1u << 20))
/* Longest line in labels: thread name, "[truncated]", frames. */
#define LINE_LABELS_MAX (AP_STACK_FRAMES_MAX + 2)
/* One label while it is put together. */
#define LABEL_SZ_MAX ((size_t)AP_PROFILE_STRINGS_SZ + 16)

/* The call tree once more, with nodes merged that read the same: what differs only in module, or in
 * characters that cannot be written, is one line of the output. */
struct line_node {
    uint32_t parent, label;
    uint64_t count, value; /* of stacks that end here */
};

struct lines {
    struct line_node *nodes; /* [0] stands for the root, which is not written */
    uint32_t node_cnt, node_cap;
    struct ap_table index; /* (parent, label) to node */
    struct ap_strings *labels;
    struct ap_buf label; /* scratch */
};

static const char *suffix_of(const struct ap_tree_node *node)
{
    if (node->waker)
        return "_[w]";
    if (node->kind == AP_FRAME_KERNEL)
        return "_[k]";
    if (node->inlined)
        return "_[i]";
    return node->kind == AP_FRAME_JIT ? "_[j]" : "";
}

/* Id of the node's text as it stands in a line. 0 or negative errno. */
static int label_of(struct lines *lines, const char *name, const char *suffix, uint32_t *ret_label)
{
    struct ap_buf *label = &lines->label;

    ap_buf_reset(label);
    while (*name != '\0') {
        uint32_t cp;
        size_t len = ap_utf8_next(name, &cp);

        if (ap_utf8_is_unsafe(cp))
            ap_buf_char(label, '?');
        else if (cp == ';')
            ap_buf_char(label, ':');
        else
            ap_buf_append(label, name, len);
        name += len;
    }
    ap_buf_str(label, suffix);
    return label->error != 0 ? label->error : ap_strings_add(lines->labels, label->data, label->len, ret_label);
}

static int append_node(struct lines *lines, uint32_t parent, uint32_t label)
{
    if (lines->node_cnt == lines->node_cap) {
        uint64_t want = lines->node_cap == 0 ? 256 : (uint64_t)lines->node_cap * 2;
        struct line_node *nodes = want > UINT32_MAX ? NULL : reallocarray(lines->nodes, want, sizeof(*lines->nodes));

        if (nodes == NULL)
            return -ENOMEM;
        lines->nodes = nodes;
        lines->node_cap = (uint32_t)want;
    }
    lines->nodes[lines->node_cnt++] = (struct line_node){.parent = parent, .label = label};
    return 0;
}

/* Finds or makes the node that reads like `node` below `parent`, and credits it. */
static int add_node(struct lines *lines, uint32_t parent, const struct ap_profile *profile,
                    const struct ap_tree_node *node, uint32_t *ret_line)
{
    size_t pos = SIZE_MAX;
    uint32_t label, i;
    int r;

    r = label_of(lines, ap_name_or_unknown(ap_profile_str(profile, node->name)), suffix_of(node), &label);
    if (r != 0)
        return r;
    uint64_t hash = ap_table_mix((uint64_t)parent << 32 | label);
    while ((i = ap_table_next(&lines->index, hash, &pos)) != AP_TABLE_NONE)
        if (lines->nodes[i].parent == parent && lines->nodes[i].label == label)
            break;
    if (i == AP_TABLE_NONE) {
        i = lines->node_cnt;
        r = ap_table_reserve(&lines->index);
        if (r == 0)
            r = append_node(lines, parent, label);
        if (r != 0)
            return r;
        ap_table_put(&lines->index, hash, i);
    }
    lines->nodes[i].count += node->self_count;
    lines->nodes[i].value += node->self;
    *ret_line = i;
    return 0;
}

/* Takes the tree in its own order, depth first, so that the lines come out in an order that the content
 * decides. */
static int add_tree(struct lines *lines, const struct ap_tree *tree)
{
    const struct ap_tree_node *nodes = tree->nodes;
    uint32_t path[LINE_LABELS_MAX + 1] = {0}; /* line node by depth */
    uint32_t i = 0;
    int r = append_node(lines, 0, 0);

    while (r == 0) {
        if (nodes[i].first_child != 0) {
            i = nodes[i].first_child;
        } else {
            while (i != 0 && nodes[i].next_sibling == 0)
                i = nodes[i].parent;
            if (i == 0)
                break;
            i = nodes[i].next_sibling;
        }
        if (nodes[i].depth > LINE_LABELS_MAX)
            return -EINVAL;
        r = add_node(lines, path[nodes[i].depth - 1], tree->profile, &nodes[i], &path[nodes[i].depth]);
    }
    return r;
}

static void write_lines(const struct lines *lines, uint8_t kind, struct ap_out *out)
{
    uint32_t labels[LINE_LABELS_MAX];

    for (uint32_t i = 1; i < lines->node_cnt && ap_out_error(out) == 0; i++) {
        const struct line_node *node = &lines->nodes[i];
        uint64_t weight = kind == AP_KIND_CPU ? node->count : node->value / 1000 + (node->value % 1000 >= 500);
        unsigned cnt = 0;

        if (node->count == 0 && (kind == AP_KIND_CPU || node->value == 0))
            continue;
        for (uint32_t j = i; j != 0 && cnt < LINE_LABELS_MAX; j = lines->nodes[j].parent)
            labels[cnt++] = lines->nodes[j].label;
        while (cnt-- > 0) {
            ap_out_str(out, ap_strings_get(lines->labels, labels[cnt]));
            ap_out_char(out, cnt > 0 ? ';' : ' ');
        }
        ap_out_printf(out, "%" PRIu64 "\n", weight);
    }
}

int ap_collapsed_write(const struct ap_profile *profile, struct ap_out *out)
{
    struct ap_tree *tree = ap_tree_new(profile);
    struct lines lines = {.labels = ap_strings_new(LABELS_SZ)};
    int r = -ENOMEM;

    ap_buf_init(&lines.label, LABEL_SZ_MAX);
    if (tree != NULL && lines.labels != NULL)
        r = add_tree(&lines, tree);
    ap_tree_free(tree);
    if (r == 0) {
        write_lines(&lines, profile->kind, out);
        r = ap_out_error(out);
    }
    ap_table_done(&lines.index);
    ap_strings_free(lines.labels);
    ap_buf_done(&lines.label);
    free(lines.nodes);
    return r;
}
