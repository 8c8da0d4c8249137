/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Stacks that storage has told of, kept for the next question: they never change. Two generations: what is used moves
 * to the young one; when that has grown to half of the bound the old one is given up and the young one takes its place.
 */
#ifndef APERTURE_QUERY_CACHE_H
#define APERTURE_QUERY_CACHE_H

#include "core/error.h"
#include "model/profile.h"
#include "storage/storage.h"

#include <stddef.h>
#include <stdint.h>

/* Of both generations together, without what the tables' growth leaves free. */
#define AP_CACHE_SZ ((size_t)256 << 20)

struct ap_cache; /* opaque */

struct ap_cache_stats {
    uint64_t hits, misses; /* stacks found; asked of storage */
    uint64_t not_stored;   /* of these, unknown there too */
    uint64_t evicted;      /* stacks given up to make room */
    uint64_t refused;      /* stacks that a bound kept out */
    size_t stacks, sz;     /* now */
};

/* `storage` is borrowed and must outlive it. NULL when out of memory. */
struct ap_cache *ap_cache_new(struct ap_storage *storage, size_t max_sz);
/* Accepts NULL. Returns NULL. */
struct ap_cache *ap_cache_free(struct ap_cache *cache);

/* As ap_storage_load_stacks(): adds stacks to `profile`, in the order of `stacks`, so that the same question always
 * makes the same profile. 0, -ENOSPC (a bound of the profile), or what storage says; with words. Any thread. */
int ap_cache_load(struct ap_cache *cache, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                  uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);

void ap_cache_stats(struct ap_cache *cache, struct ap_cache_stats *ret_stats);

#endif
