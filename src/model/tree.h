/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Call tree and function totals of a profile. */
#ifndef APERTURE_MODEL_TREE_H
#define APERTURE_MODEL_TREE_H

#include "model/profile.h"

/* A node is one function called along one path. Children of a node are merged by (kind, inlined, waker, name, module).
 * Node 0 is the root, "all". Below it stands one AP_FRAME_PROCESS node per thread name, below those the outermost
 * frames. A truncated stack hangs below an AP_FRAME_MARK node "[truncated]" under its thread name, or under its outer
 * marks (ap_stack_marks). */
struct ap_tree_node {
    uint32_t name;   /* string id in the profile; the root's is "all" */
    uint32_t module; /* string id of the mapping's path, 0 = none */
    uint32_t file;   /* string id, 0 = unknown */
    uint32_t line;   /* 0 = unknown or not the same for all samples here */
    uint8_t kind;    /* enum ap_frame_kind; the root is AP_FRAME_MARK */
    bool inlined;
    bool waker;                                 /* of the thread that ended the wait above, not called from there */
    uint16_t depth;                             /* root 0 */
    uint32_t parent, first_child, next_sibling; /* node indices; 0 = none (the root is nobody's child) */
    uint64_t value, self;                       /* ns or the kind's unit: with and without what was called */
    uint64_t count, self_count;                 /* the same in raw events */
};

struct ap_tree {
    const struct ap_profile *profile; /* borrowed: must outlive the tree */
    struct ap_tree_node *nodes;
    uint32_t node_cnt;
    uint16_t max_depth;
};

/* Builds the tree; siblings are ordered by value, largest first, then by name. Interns "all" and "[truncated]" in the
 * profile's strings. NULL when out of memory or past UINT32_MAX nodes. */
struct ap_tree *ap_tree_new(const struct ap_profile *profile);
/* Accepts NULL. Returns NULL. */
struct ap_tree *ap_tree_free(struct ap_tree *tree);

struct ap_top_row {
    uint32_t name, module; /* string ids */
    uint8_t kind;
    uint64_t self, total;             /* value; a function counts once per stack however often it recurs */
    uint64_t self_count, total_count; /* raw events */
};

struct ap_top {
    struct ap_top_row *rows; /* by self, largest first, then total, then name */
    uint32_t row_cnt;
};

/* Self and total of every function (by kind, name, module). Frames of wakers are no rows: what waited is the wait's own
 * leaf. NULL when out of memory. */
struct ap_top *ap_top_new(const struct ap_profile *profile);
/* Accepts NULL. Returns NULL. */
struct ap_top *ap_top_free(struct ap_top *top);

#endif
