/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Hash map from byte strings to pointers, open addressing, with a declared maximum. Not thread-safe. */
#ifndef APERTURE_CORE_MAP_H
#define APERTURE_CORE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct ap_map_slot; /* internal */

struct ap_map {
    struct ap_map_slot *slots;
    size_t cap;     /* slots allocated, a power of two, or 0 */
    size_t cnt;     /* live entries */
    size_t max;     /* `cnt` never exceeds this */
    uint64_t fulls; /* puts refused because `max` was reached */
};

/* Empty map of at most `max` entries; allocates nothing yet. */
void ap_map_init(struct ap_map *map, size_t max);

/* Frees the table, not keys or values. Accepts a zeroed struct. */
void ap_map_done(struct ap_map *map);

/* The same with free() on every value, in which the keys may lie. */
void ap_map_done_values(struct ap_map *map);

/* Value of the key, or NULL. */
void *ap_map_get(const struct ap_map *map, const void *key, size_t key_len);

/* Inserts or replaces. `key` is borrowed: it must stay valid and unchanged while the entry lives (usually it lies
 * inside `value`; on replacement the new key pointer is taken). `value` must not be NULL.
 * 0, -ENOSPC (max reached, counted in `fulls`) or -ENOMEM. */
int ap_map_put(struct ap_map *map, const void *key, size_t key_len, void *value);

/* Removes the entry and returns its value, or NULL when there was none. */
void *ap_map_remove(struct ap_map *map, const void *key, size_t key_len);

/* Iterates: start with *pos = 0; returns the next value and advances, or NULL at the end. Removing the entry just
 * returned is not allowed during the walk. */
void *ap_map_next(const struct ap_map *map, size_t *pos);

#endif
