/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Where in time the data of a scope lies: steps for timelines, parts of equal size for comparisons. */
#ifndef APERTURE_QUERY_SPAN_H
#define APERTURE_QUERY_SPAN_H

#include "core/error.h"
#include "query/stat.h"
#include "storage/storage.h"

#include <stdint.h>

/* The smallest step of 20, 40, 100 ... ms, 1, 2, 5 ... s, and so on to whole days, of which `range_ns` has at most
 * `bucket_max`. */
uint64_t ap_span_step(uint64_t range_ns, uint64_t bucket_max);

/* Narrows [from, to) to where samples are, to within a hundredth of what is left. An empty scope stays as it is. 0 or
 * what storage says. */
int ap_span_narrow(struct ap_storage *storage, const struct ap_storage_scope *scope, uint64_t *ret_from_ns,
                   uint64_t *ret_to_ns, struct ap_error *err);

/* Moments that cut [from, to) into parts with about the same number of events each; at[0] is from, at[part_cnt] is to.
 * Fewer parts when events lie in fewer places; one when there are none. */
struct ap_span_parts {
    uint64_t at[AP_STAT_PARTS + 1];
    unsigned cnt;
};
int ap_span_parts(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_span_parts *ret_parts,
                  struct ap_error *err);

#endif
