/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cutter {
    const struct ap_tree *tree;
    const uint32_t *roots; /* nodes that the path names; taken together as the answer's root */
    uint32_t root_cnt;

    uint32_t *heap; /* nodes whose parent is kept, and whose heavier siblings are; the heaviest first */
    uint32_t heap_cnt, heap_cap;
    uint8_t *kept; /* by node */

    struct ap_tree_answer answer;
    uint32_t *source; /* by node of the answer: the tree's, or NO_SOURCE */
    size_t node_cap, string_cap;
    uint32_t *strings; /* string id of the profile to the answer's, plus one */
    uint32_t cut_name; /* in the answer, plus one */
};

/* Of the root of several, and of what stands for the cut. */
#define NO_SOURCE UINT32_MAX

/* ---- Path ---- */

/* The nodes that a path names. */
struct found {
    uint32_t *nodes;
    uint32_t cnt, cap;
};

static int find_one(struct found *found, uint32_t node)
{
    if (found->cnt == found->cap) {
        uint32_t cap = found->cap == 0 ? 16 : found->cap * 2;
        uint32_t *nodes = reallocarray(found->nodes, cap, sizeof(*nodes));

        if (nodes == NULL)
            return -ENOMEM;
        found->nodes = nodes;
        found->cap = cap;
    }
    found->nodes[found->cnt++] = node;
    return 0;
}

/* Goes from nodes to their children of this name. */
static int descend(const struct ap_tree *tree, const char *name, struct found *found)
{
    struct found next = {0};
    int r = 0;

    for (uint32_t i = 0; i < found->cnt && r == 0; i++)
        for (uint32_t n = tree->nodes[found->nodes[i]].first_child; n != 0 && r == 0; n = tree->nodes[n].next_sibling)
            if (strcmp(ap_profile_str(tree->profile, tree->nodes[n].name), name) == 0)
                r = find_one(&next, n);
    free(found->nodes);
    *found = next;
    return r;
}

static int find_path(const struct ap_tree *tree, const char *const *path, size_t path_cnt, struct found *found,
                     struct ap_error *err)
{
    int r = find_one(found, 0);

    for (size_t i = 0; i < path_cnt && r == 0; i++) {
        r = descend(tree, path[i], found);
        if (r == 0 && found->cnt == 0) {
            ap_error_set(err, -ENOENT, "there is no \"%.200s\" at place %zu of the path", path[i], i + 1);
            return -ENOENT;
        }
    }
    if (r != 0)
        ap_error_set(err, r, "out of memory");
    return r;
}

/* ---- What is kept ---- */

/* Which of two nodes goes first. By index where values are equal, so that the answer does not depend on chance. */
static bool heavier(const struct cutter *c, uint32_t a, uint32_t b)
{
    uint64_t va = c->tree->nodes[a].value, vb = c->tree->nodes[b].value;

    return va != vb ? va > vb : a < b;
}

static int push(struct cutter *c, uint32_t node)
{
    uint32_t i;

    if (c->heap_cnt == c->heap_cap) {
        uint32_t cap = c->heap_cap == 0 ? 1024 : c->heap_cap * 2;
        uint32_t *heap = reallocarray(c->heap, cap, sizeof(*heap));

        if (heap == NULL)
            return -ENOMEM;
        c->heap = heap;
        c->heap_cap = cap;
    }
    for (i = c->heap_cnt++; i > 0 && heavier(c, node, c->heap[(i - 1) / 2]); i = (i - 1) / 2)
        c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = node;
    return 0;
}

/* Takes the first node out of the heap, which is not empty. */
static uint32_t pop(struct cutter *c)
{
    uint32_t top = c->heap[0], last = c->heap[--c->heap_cnt], i = 0;

    for (;;) {
        uint32_t child = 2 * i + 1;

        if (child >= c->heap_cnt)
            break;
        if (child + 1 < c->heap_cnt && heavier(c, c->heap[child + 1], c->heap[child]))
            child++;
        if (!heavier(c, c->heap[child], last))
            break;
        c->heap[i] = c->heap[child];
        i = child;
    }
    c->heap[i] = last;
    return top;
}

/* Keeps nodes, heaviest first, while there is room. A kept node with children brings one for what is cut below it,
 * until the last of them is kept: so keeping one more costs none, one or two places and never frees any. (Several roots
 * share that child in the end; counted for each it costs a few places.) */
static int choose(struct cutter *c, size_t max_nodes)
{
    const struct ap_tree_node *nodes = c->tree->nodes;
    size_t used = 1;
    int r = 0;

    for (uint32_t i = 0; i < c->root_cnt && r == 0; i++) {
        uint32_t first = nodes[c->roots[i]].first_child;

        used += first != 0;
        r = first != 0 ? push(c, first) : 0;
    }
    while (r == 0 && c->heap_cnt > 0) {
        uint32_t n = pop(c);
        size_t cost = 1 + (size_t)(nodes[n].first_child != 0) - (size_t)(nodes[n].next_sibling == 0);

        if (used + cost > max_nodes)
            break;
        used += cost;
        c->kept[n] = 1;
        if (nodes[n].first_child != 0)
            r = push(c, nodes[n].first_child);
        if (r == 0 && nodes[n].next_sibling != 0)
            r = push(c, nodes[n].next_sibling);
    }
    return r;
}

/* ---- Answer ---- */

static int add_string(struct cutter *c, const char *text, uint32_t *ret_index)
{
    struct ap_tree_answer *answer = &c->answer;

    if (answer->string_cnt == c->string_cap) {
        size_t cap = c->string_cap == 0 ? 256 : c->string_cap * 2;
        char **strings = reallocarray((void *)answer->strings, cap, sizeof(*strings));

        if (strings == NULL)
            return -ENOMEM;
        answer->strings = strings;
        c->string_cap = cap;
    }
    answer->strings[answer->string_cnt] = strdup(text);
    if (answer->strings[answer->string_cnt] == NULL)
        return -ENOMEM;
    *ret_index = (uint32_t)answer->string_cnt++;
    return 0;
}

/* The answer's string of a string id of the profile. */
static int string_of(struct cutter *c, uint32_t id, uint32_t *ret_index)
{
    int r = 0;

    if (c->strings[id] == 0) {
        uint32_t index;

        r = add_string(c, ap_profile_str(c->tree->profile, id), &index);
        if (r == 0)
            c->strings[id] = index + 1;
    }
    if (r == 0)
        *ret_index = c->strings[id] - 1;
    return r;
}

static int append(struct cutter *c, const struct ap_answer_node *node, uint32_t source)
{
    struct ap_tree_answer *answer = &c->answer;

    if (answer->node_cnt == c->node_cap) {
        size_t cap = c->node_cap == 0 ? 1024 : c->node_cap * 2;
        struct ap_answer_node *nodes = reallocarray(answer->nodes, cap, sizeof(*nodes));

        if (nodes == NULL)
            return -ENOMEM;
        answer->nodes = nodes;
        uint32_t *sources = reallocarray(c->source, cap, sizeof(*sources));
        if (sources == NULL)
            return -ENOMEM;
        c->source = sources;
        c->node_cap = cap;
    }
    c->source[answer->node_cnt] = source;
    answer->nodes[answer->node_cnt++] = *node;
    return 0;
}

static int append_node(struct cutter *c, uint32_t parent, uint32_t source)
{
    const struct ap_tree_node *from = &c->tree->nodes[source];
    struct ap_answer_node node = {
        .parent = parent,
        .line = from->line,
        .kind = from->kind,
        .inlined = from->inlined,
        .waker = from->waker,
        .value = from->value,
        .self = from->self,
        .count = from->count,
    };
    int r = string_of(c, from->name, &node.name);

    if (r == 0)
        r = string_of(c, from->module, &node.module);
    if (r == 0)
        r = string_of(c, from->file, &node.file);
    return r != 0 ? r : append(c, &node, source);
}

/* What was cut below one node of the answer. */
struct cut {
    uint64_t value, count;
    bool any;
};

static int append_cut(struct cutter *c, uint32_t parent, const struct cut *cut)
{
    struct ap_answer_node node = {.parent = parent,
                                  .kind = AP_FRAME_MARK,
                                  .truncated = true,
                                  .value = cut->value,
                                  .self = cut->value,
                                  .count = cut->count};
    int r = 0;

    if (c->cut_name == 0) {
        r = add_string(c, AP_TREE_CUT, &node.name);
        c->cut_name = node.name + 1;
    }
    node.name = c->cut_name - 1;
    if (r == 0)
        r = string_of(c, 0, &node.module); /* "" */
    node.file = node.module;
    return r != 0 ? r : append(c, &node, NO_SOURCE);
}

/* Sums up the children of a node that are not kept: those after the first such one. A single leaf is kept after all
 * when it may take the place of what would stand for it. */
static void add_cut(struct cutter *c, uint32_t source, bool alone, struct cut *cut)
{
    const struct ap_tree_node *nodes = c->tree->nodes;
    uint32_t n = nodes[source].first_child;

    while (n != 0 && c->kept[n])
        n = nodes[n].next_sibling;
    if (alone && n != 0 && nodes[n].next_sibling == 0 && nodes[n].first_child == 0) {
        c->kept[n] = 1;
        return;
    }
    for (; n != 0; n = nodes[n].next_sibling) {
        cut->value += nodes[n].value;
        cut->count += nodes[n].count;
        cut->any = true;
    }
}

/* Appends the children of the answer's node `parent`: those of the given nodes of the tree. */
static int append_children(struct cutter *c, uint32_t parent, const uint32_t *sources, uint32_t source_cnt)
{
    const struct ap_tree_node *nodes = c->tree->nodes;
    uint32_t one = 0, *several = source_cnt > 1 ? calloc(source_cnt, sizeof(*several)) : NULL;
    uint32_t *next = source_cnt > 1 ? several : &one; /* by source, its child that comes next */
    struct cut cut = {0};
    int r = next != NULL ? 0 : -ENOMEM;

    for (uint32_t i = 0; i < source_cnt && r == 0; i++) {
        add_cut(c, sources[i], source_cnt == 1, &cut);
        next[i] = nodes[sources[i]].first_child;
    }
    while (r == 0) {
        uint32_t best = source_cnt;

        for (uint32_t i = 0; i < source_cnt; i++)
            if (next[i] != 0 && c->kept[next[i]] && (best == source_cnt || heavier(c, next[i], next[best])))
                best = i;
        if (cut.any && (best == source_cnt || nodes[next[best]].value < cut.value)) {
            cut.any = false;
            r = append_cut(c, parent, &cut);
            continue;
        }
        if (best == source_cnt)
            break;
        r = append_node(c, parent, next[best]);
        next[best] = nodes[next[best]].next_sibling;
    }
    free(several);
    return r;
}

/* Appends level by level: what was appended is the queue of what is to be followed. */
static int write_answer(struct cutter *c)
{
    uint32_t heaviest = c->roots[0];
    int r;

    for (uint32_t i = 1; i < c->root_cnt; i++)
        if (heavier(c, c->roots[i], heaviest))
            heaviest = c->roots[i];
    r = append_node(c, 0, heaviest);
    for (uint32_t i = 0; i < c->root_cnt && r == 0; i++) {
        const struct ap_tree_node *from = &c->tree->nodes[c->roots[i]];

        if (c->roots[i] == heaviest)
            continue;
        c->answer.nodes[0].value += from->value;
        c->answer.nodes[0].self += from->self;
        c->answer.nodes[0].count += from->count;
    }
    if (r == 0)
        r = append_children(c, 0, c->roots, c->root_cnt);
    for (uint32_t i = 1; i < c->answer.node_cnt && r == 0; i++) {
        uint32_t source = c->source[i]; /* the array grows meanwhile */

        if (source != NO_SOURCE && c->tree->nodes[source].first_child != 0)
            r = append_children(c, i, &source, 1);
    }
    return r;
}

int ap_tree_cut(const struct ap_tree *tree, const char *const *path, size_t path_cnt, size_t max_nodes,
                struct ap_tree_answer *ret_answer, struct ap_error *err)
{
    struct cutter c = {.tree = tree};
    struct found found = {0};
    int r = find_path(tree, path, path_cnt, &found, err);

    if (r == 0) {
        c.roots = found.nodes;
        c.root_cnt = found.cnt;
        c.kept = calloc(tree->node_cnt, sizeof(*c.kept));
        c.strings = calloc(ap_strings_count(tree->profile->strings), sizeof(*c.strings));
        r = c.kept != NULL && c.strings != NULL ? choose(&c, max_nodes < 2 ? 2 : max_nodes) : -ENOMEM;
        if (r == 0)
            r = write_answer(&c);
        if (r != 0)
            ap_error_set(err, r, "out of memory");
    }
    free(found.nodes);
    free(c.heap);
    free(c.kept);
    free(c.strings);
    free(c.source);
    if (r != 0) {
        ap_tree_answer_done(&c.answer);
        return r;
    }
    c.answer.provenance = ret_answer->provenance;
    *ret_answer = c.answer;
    return 0;
}
