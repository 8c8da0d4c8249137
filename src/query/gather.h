/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Brings together what a question is about: sums by stack from storage, the stacks behind them, and the filter by
 * function. */
#ifndef APERTURE_QUERY_GATHER_H
#define APERTURE_QUERY_GATHER_H

#include "core/error.h"
#include "model/selector.h"
#include "query/cache.h"
#include "storage/storage.h"

#include <stdint.h>

struct ap_query {
    struct ap_storage *storage; /* borrowed */
    struct ap_cache *cache;     /* owned */
};

/* Functions by name: which of a profile's strings fit is found out once for each. */
struct ap_filter; /* opaque */
/* `ret_filter` NULL when the selector has none. 0, -EINVAL (the expression), -ENOMEM; with words. */
int ap_filter_new(const struct ap_selector *selector, struct ap_filter **ret_filter, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_filter *ap_filter_free(struct ap_filter *filter);
/* Whether the text fits, or a function on the stack of the profile, which is always the same one: 1, 0, -EINVAL (too
 * expensive an expression), -ENOMEM; with words. Without a filter everything fits. */
int ap_filter_text(struct ap_filter *filter, const char *text, struct ap_error *err);
int ap_filter_stack(struct ap_filter *filter, const struct ap_profile *profile, uint32_t stack, struct ap_error *err);

/* Name of the mark that stands for stacks that storage does not have any more, and of the thread above it. */
#define AP_NOT_STORED        "[stack not stored]"
#define AP_NOT_STORED_THREAD "[unknown]"

/* Adds stacks to a profile as ap_cache_load() does; those that are not stored become the mark, and those that the
 * filter leaves out UINT32_MAX. */
int ap_gather_stacks(struct ap_query *query, const uint64_t *stacks, size_t cnt, struct ap_filter *filter,
                     struct ap_profile *profile, uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);

/* Adds everything that the scope and the filter match to a profile, as samples. `ret_source` as in ap_provenance. */
int ap_gather(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
              struct ap_profile *profile, const char **ret_source, struct ap_error *err);

/* Sums over everything that the scope and the filter match. `scratch`: a profile to add the stacks to, the same for all
 * calls with one filter. */
int ap_gather_sums(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
                   struct ap_profile *scratch, uint64_t *ret_count, uint64_t *ret_value, struct ap_error *err);

#endif
