/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Questions over storage: call trees, functions, changes, time series, heatmaps, locks, system calls. Results are plain
 * data (model/answer.h), the caller's to free.
 *
 * All functions: any thread; 0, or -EINVAL (the selector: words say what is wrong), -EAGAIN (storage cannot be
 * reached), -ETIMEDOUT, -E2BIG (a bound; words say how to narrow), -EIO, -ENOMEM; with words. Answers are written on
 * success only. A limit of 0 is the default; one past its maximum is -EINVAL.
 *
 * Values of different kinds do not add up: all but the lists (batches, agents, labels, series) need selector->kind. The
 * function filter chooses stacks; locks by what waited for them or ended the wait, system calls by their own name;
 * lists do not look at it. Stacks that are not stored any more stand under a mark "[stack not stored]", so that totals
 * stay exact; with a function filter they are left out. */
#ifndef APERTURE_QUERY_QUERY_H
#define APERTURE_QUERY_QUERY_H

#include "core/error.h"
#include "model/answer.h"
#include "model/selector.h"
#include "storage/storage.h"

#include <stddef.h>
#include <stdint.h>

#define AP_QUERY_NODES_DEFAULT 16384
#define AP_QUERY_NODES_MAX     (1u << 20)
#define AP_QUERY_LIMIT_DEFAULT 100
#define AP_QUERY_LIMIT_MAX     100000
#define AP_QUERY_LABELS_MAX    4096 /* names of labels */

#define AP_TIMELINE_BUCKETS          300 /* aimed at when no step is given */
#define AP_TIMELINE_FUNCTION_BUCKETS 120 /* most, with a function filter: each is asked for by itself */
#define AP_TIMELINE_GROUPS_DEFAULT   20
#define AP_TIMELINE_GROUPS_MAX       1000
#define AP_HEATMAP_RANGE_MAX         (3600ULL * 1000000000ULL)

struct ap_query; /* opaque: storage, and a cache of stacks (bounded, query/cache.h) */

/* `storage` is borrowed and must outlive it. NULL when out of memory. */
struct ap_query *ap_query_new(struct ap_storage *storage);
/* Accepts NULL. Returns NULL. */
struct ap_query *ap_query_free(struct ap_query *query);

/* What the selector matches as one profile, for exporters and trees: stacks with sums, series by thread name. The
 * caller's capture with one profile and its account. Kinds lock and syscall bring their tables. */
int ap_query_capture(struct ap_query *query, const struct ap_selector *selector, struct ap_capture **ret_capture,
                     struct ap_provenance *ret_provenance, struct ap_error *err);

/* Call tree of at most `max_nodes` nodes (2 at least), the heaviest; what is cut is explicit (ap_answer_node.truncated,
 * query/tree.h). `path`: the names of the nodes from below the root (a thread name) down to the one whose subtree is
 * wanted, NULL = all: so that what was cut below a node can be asked for. -ENOENT when there is no such node. */
int ap_query_tree(struct ap_query *query, const struct ap_selector *selector, const char *const *path, size_t path_cnt,
                  size_t max_nodes, struct ap_tree_answer *ret_answer, struct ap_error *err);
int ap_query_functions(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                       struct ap_functions_answer *ret_answer, struct ap_error *err);
int ap_query_stacks(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                    struct ap_stacks_answer *ret_answer, struct ap_error *err);
/* Functions, locks or system calls (at most `limit` of each), and with max_nodes > 0 the tree, of one scan. */
int ap_query_aggregate(struct ap_query *query, const struct ap_selector *selector, size_t limit, size_t max_nodes,
                       struct ap_aggregate_answer *ret_answer, struct ap_error *err);
/* Functions by how their share of all time changed; the test is described in query/diff.h. */
int ap_query_diff(struct ap_query *query, const struct ap_selector *before, const struct ap_selector *after,
                  size_t limit, struct ap_diff_answer *ret_answer, struct ap_error *err);

/* Sums over time by label (NULL = all in one). `step_ns` 0 = chosen for about AP_TIMELINE_BUCKETS buckets in the range
 * or, when that has no beginning, where there is something; else a multiple of AP_PUSH_SLOT_NS. With a function filter:
 * not by label, and at most AP_TIMELINE_FUNCTION_BUCKETS. */
int ap_query_timeline(struct ap_query *query, const struct ap_selector *selector, uint64_t step_ns, const char *label,
                      size_t group_max, struct ap_points *ret_points, uint64_t *ret_step_ns,
                      struct ap_provenance *ret_provenance, struct ap_error *err);
/* Counts in slots of AP_PUSH_SLOT_NS: one group, at most an hour. */
int ap_query_heatmap(struct ap_query *query, const struct ap_selector *selector, struct ap_points *ret_points,
                     struct ap_provenance *ret_provenance, struct ap_error *err);

int ap_query_batches(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                     struct ap_batches_answer *ret_answer, struct ap_error *err);
int ap_query_agents(struct ap_query *query, const struct ap_selector *selector, struct ap_agents_answer *ret_answer,
                    struct ap_error *err);
int ap_query_labels(struct ap_query *query, const struct ap_selector *selector, struct ap_texts *ret_names,
                    struct ap_error *err);
int ap_query_label_values(struct ap_query *query, const struct ap_selector *selector, const char *label,
                          struct ap_texts *ret_values, struct ap_error *err);
int ap_query_series(struct ap_query *query, const struct ap_selector *selector, size_t max,
                    struct ap_series_rows *ret_rows, struct ap_error *err);

/* The cache of stacks, for /metrics. */
struct ap_query_stats {
    uint64_t cache_hits, cache_misses, cache_evicted; /* stacks, since the start */
    uint64_t cached, cached_bytes;                    /* now */
};
void ap_query_stats(struct ap_query *query, struct ap_query_stats *ret_stats);

#endif
