/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Call trees small enough to send: the heaviest nodes, and for what was cut below a node one child with its sum. */
#ifndef APERTURE_QUERY_TREE_H
#define APERTURE_QUERY_TREE_H

#include "core/error.h"
#include "model/answer.h"
#include "model/tree.h"

#include <stddef.h>

/* Name of the child that stands for what was cut. */
#define AP_TREE_CUT "[truncated]"

/* Fills in strings and nodes of an answer (its provenance is left alone): the subtree at `path` (names from below the
 * root; several siblings of one name are taken together, as one root with the children of all), of at most `max_nodes`
 * nodes (2 at least) with those that stand for what was cut. A node is kept only with its parent, and before every
 * lighter one. value = self + the children's values holds for each. What is cut is never a single leaf: that would save
 * nothing.
 * 0, -ENOENT (no such path), -ENOMEM; with words. Any thread. */
int ap_tree_cut(const struct ap_tree *tree, const char *const *path, size_t path_cnt, size_t max_nodes,
                struct ap_tree_answer *ret_answer, struct ap_error *err);

#endif
