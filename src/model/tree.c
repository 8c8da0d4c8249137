/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/tree.h"

#include "model/functions.h"
#include "model/table.h"

#include <stdlib.h>
#include <string.h>

/* Function number of the "[truncated]" node: no real function has it, their bound is far below. */
#define FUNCTION_TRUNCATED UINT32_MAX

struct builder {
    const struct ap_profile *profile;
    struct ap_tree *tree;
    struct ap_functions functions;
    uint32_t *keys; /* beside each node: its comm (children of the root) or function number */
    uint32_t node_cap;
    struct ap_table index; /* (parent, key) to node */
    uint32_t truncated;    /* string id */
};

/* Appends a node without linking it; children are linked when all are known. 0 or -ENOMEM. */
static int append_node(struct builder *b, const struct ap_tree_node *node, uint32_t key)
{
    struct ap_tree *tree = b->tree;

    if (tree->node_cnt == b->node_cap) {
        if (b->node_cap == UINT32_MAX)
            return -ENOMEM;
        uint64_t want = b->node_cap == 0 ? 256 : (uint64_t)b->node_cap * 2;
        if (want > UINT32_MAX)
            want = UINT32_MAX;
        void *nodes = reallocarray(tree->nodes, want, sizeof(*tree->nodes));
        if (nodes == NULL)
            return -ENOMEM;
        tree->nodes = nodes;
        void *keys = reallocarray(b->keys, want, sizeof(*b->keys));
        if (keys == NULL)
            return -ENOMEM;
        b->keys = keys;
        b->node_cap = (uint32_t)want;
    }
    b->keys[tree->node_cnt] = key;
    tree->nodes[tree->node_cnt++] = *node;
    if (node->depth > tree->max_depth)
        tree->max_depth = node->depth;
    return 0;
}

/* Child of `parent` with this key, made from `model` when new. 0 or -ENOMEM. */
static int child(struct builder *b, uint32_t parent, uint32_t key, const struct ap_tree_node *model, uint32_t *ret_node)
{
    uint64_t hash = ap_table_mix((uint64_t)parent << 32 | key);
    struct ap_tree *tree = b->tree;
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    while ((i = ap_table_next(&b->index, hash, &pos)) != AP_TABLE_NONE) {
        struct ap_tree_node *node = &tree->nodes[i];

        if (node->parent != parent || b->keys[i] != key)
            continue;
        if (node->file != model->file)
            node->file = node->line = 0;
        else if (node->line != model->line)
            node->line = 0;
        *ret_node = i;
        return 0;
    }
    r = ap_table_reserve(&b->index);
    if (r != 0)
        return r;
    struct ap_tree_node node = *model;
    node.parent = parent;
    node.depth = (uint16_t)(tree->nodes[parent].depth + 1);
    i = tree->node_cnt;
    r = append_node(b, &node, key);
    if (r != 0)
        return r;
    ap_table_put(&b->index, hash, i);
    *ret_node = i;
    return 0;
}

/* The node of a frame below `*node`, which it becomes. 0 or -ENOMEM. */
static int add_frame(struct builder *b, uint32_t index, uint32_t *node)
{
    const struct ap_frame *frame = &b->profile->frames[index];
    const struct ap_tree_node model = {
        .name = frame->function,
        .module = ap_functions_module(b->profile, frame),
        .file = frame->file,
        .line = frame->line,
        .kind = frame->kind,
        .inlined = frame->inlined,
        .waker = frame->waker,
    };

    return child(b, *node, b->functions.of_frame[index], &model, node);
}

/* Adds one sample's path, outermost frame first, and credits its last node. */
static int add_sample(struct builder *b, const struct ap_sample *sample)
{
    const struct ap_profile *profile = b->profile;
    const struct ap_stack *stack = &profile->stacks[sample->stack];
    uint32_t comm = profile->series[sample->series].comm, node = 0;
    uint32_t i = stack->frame_cnt, inside = i - ap_stack_marks(profile, stack);
    int r;

    r = child(b, 0, comm, &(struct ap_tree_node){.name = comm, .kind = AP_FRAME_PROCESS}, &node);
    while (r == 0 && i > inside)
        r = add_frame(b, profile->stack_frames[stack->first + --i], &node);
    if (r == 0 && stack->truncated)
        r = child(b, node, FUNCTION_TRUNCATED, &(struct ap_tree_node){.name = b->truncated, .kind = AP_FRAME_MARK},
                  &node);
    while (r == 0 && i > 0)
        r = add_frame(b, profile->stack_frames[stack->first + --i], &node);
    if (r != 0)
        return r;
    b->tree->nodes[node].self += sample->value;
    b->tree->nodes[node].self_count += sample->count;
    return 0;
}

static int compare_siblings(const void *pa, const void *pb, void *ctx)
{
    const struct ap_tree *tree = ctx;
    const struct ap_tree_node *a = &tree->nodes[*(const uint32_t *)pa];
    const struct ap_tree_node *b = &tree->nodes[*(const uint32_t *)pb];
    int order;

    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    order = strcmp(ap_profile_str(tree->profile, a->name), ap_profile_str(tree->profile, b->name));
    if (order == 0)
        order = strcmp(ap_profile_str(tree->profile, a->module), ap_profile_str(tree->profile, b->module));
    if (order == 0)
        order = (int)a->kind - (int)b->kind;
    if (order == 0)
        order = (int)a->inlined - (int)b->inlined;
    return order != 0 ? order : (int)a->waker - (int)b->waker;
}

/* Links each node to its children, in order. `first` (node_cnt + 1 zeroes) and `order` are scratch. */
static void link_children(struct ap_tree *tree, uint32_t *first, uint32_t *order)
{
    struct ap_tree_node *nodes = tree->nodes;
    uint32_t cnt = tree->node_cnt;

    /* Counting sort by parent: first[p] ends up as the place of the first child of p in `order`. */
    for (uint32_t i = 1; i < cnt; i++)
        first[nodes[i].parent]++;
    for (uint32_t i = 0, sum = 0; i <= cnt; i++) {
        sum += first[i];
        first[i] = sum;
    }
    for (uint32_t i = cnt; i-- > 1;)
        order[--first[nodes[i].parent]] = i;
    for (uint32_t p = 0; p < cnt; p++) {
        uint32_t children = first[p + 1] - first[p];

        if (children == 0)
            continue;
        if (children > 1)
            qsort_r(&order[first[p]], children, sizeof(*order), compare_siblings, tree);
        nodes[p].first_child = order[first[p]];
        for (uint32_t i = first[p]; i + 1 < first[p + 1]; i++)
            nodes[order[i]].next_sibling = order[i + 1];
    }
}

/* Sums what was called into the callers and orders siblings. 0 or -ENOMEM. */
static int finish(struct ap_tree *tree)
{
    uint32_t *first = calloc((size_t)tree->node_cnt + 1, sizeof(*first));
    uint32_t *order = calloc(tree->node_cnt, sizeof(*order));

    if (first == NULL || order == NULL) {
        free(first);
        free(order);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < tree->node_cnt; i++) {
        tree->nodes[i].value = tree->nodes[i].self;
        tree->nodes[i].count = tree->nodes[i].self_count;
    }
    /* A parent always stands before its children, so one pass from the end carries all the way up. */
    for (uint32_t i = tree->node_cnt; i-- > 1;) {
        struct ap_tree_node *parent = &tree->nodes[tree->nodes[i].parent];

        parent->value += tree->nodes[i].value;
        parent->count += tree->nodes[i].count;
    }
    link_children(tree, first, order);
    free(first);
    free(order);
    return 0;
}

struct ap_tree *ap_tree_new(const struct ap_profile *profile)
{
    struct builder b = {.profile = profile};
    int r;

    b.tree = calloc(1, sizeof(*b.tree));
    if (b.tree == NULL)
        return NULL;
    b.tree->profile = profile;
    b.truncated = ap_strings_id(profile->strings, "[truncated]");
    r = ap_functions_init(&b.functions, profile, true);
    if (r == 0) {
        const struct ap_tree_node root = {.name = ap_strings_id(profile->strings, "all"), .kind = AP_FRAME_MARK};

        r = append_node(&b, &root, 0);
    }
    for (uint32_t i = 0; r == 0 && i < profile->sample_cnt; i++)
        r = add_sample(&b, &profile->samples[i]);
    ap_functions_done(&b.functions);
    ap_table_done(&b.index);
    free(b.keys);
    if (r == 0)
        r = finish(b.tree);
    return r == 0 ? b.tree : ap_tree_free(b.tree);
}

struct ap_tree *ap_tree_free(struct ap_tree *tree)
{
    if (tree != NULL)
        free(tree->nodes);
    free(tree);
    return NULL;
}
