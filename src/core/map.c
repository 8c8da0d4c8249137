/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FIRST_CAP 16

/* Linear probing; removal shifts entries back instead of leaving tombstones, so lookups never slow down with
 * age. */
struct ap_map_slot {
    uint64_t hash;
    const void *key;
    size_t key_len;
    void *value; /* NULL = free slot */
};

static uint64_t hash_key(const void *key, size_t key_len)
{
    return key_len > 0 ? XXH3_64bits(key, key_len) : 0;
}

void ap_map_init(struct ap_map *map, size_t max)
{
    *map = (struct ap_map){.max = max};
}

void ap_map_done(struct ap_map *map)
{
    if (!map)
        return;
    free(map->slots);
    *map = (struct ap_map){.max = map->max};
}

/* Slot that holds the key, or the free slot where it would go. The table is never full. */
static struct ap_map_slot *find(const struct ap_map *map, uint64_t hash, const void *key, size_t key_len)
{
    size_t mask = map->cap - 1;

    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct ap_map_slot *slot = &map->slots[i];

        if (!slot->value)
            return slot;
        if (slot->hash == hash && slot->key_len == key_len && (key_len == 0 || memcmp(slot->key, key, key_len) == 0))
            return slot;
    }
}

void *ap_map_get(const struct ap_map *map, const void *key, size_t key_len)
{
    if (map->cnt == 0)
        return NULL;
    return find(map, hash_key(key, key_len), key, key_len)->value;
}

static int grow(struct ap_map *map)
{
    size_t cap = map->cap ? map->cap * 2 : FIRST_CAP;
    if (cap < map->cap)
        return -ENOMEM;

    struct ap_map_slot *slots = (struct ap_map_slot *)calloc(cap, sizeof(*slots));
    if (!slots)
        return -ENOMEM;

    for (size_t i = 0; i < map->cap; i++) {
        if (!map->slots[i].value)
            continue;
        size_t pos = map->slots[i].hash & (cap - 1);
        while (slots[pos].value)
            pos = (pos + 1) & (cap - 1);
        slots[pos] = map->slots[i];
    }
    free(map->slots);
    map->slots = slots;
    map->cap = cap;
    return 0;
}

int ap_map_put(struct ap_map *map, const void *key, size_t key_len, void *value)
{
    uint64_t hash = hash_key(key, key_len);
    struct ap_map_slot *slot = map->cap ? find(map, hash, key, key_len) : NULL;

    if (!slot || !slot->value) {
        if (map->cnt >= map->max) {
            map->fulls++;
            return -ENOSPC;
        }
        if (!slot || map->cnt >= map->cap / 4 * 3) {
            int rc = grow(map);
            if (rc)
                return rc;
            slot = find(map, hash, key, key_len);
        }
        map->cnt++;
    }
    *slot = (struct ap_map_slot){.hash = hash, .key = key, .key_len = key_len, .value = value};
    return 0;
}

/* Closes the gap at `hole`: every later entry of the run that may live nearer to its home moves back. */
static void close_gap(struct ap_map *map, size_t hole)
{
    size_t mask = map->cap - 1;

    for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        size_t home = map->slots[i].hash & mask;

        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* its home lies behind the gap */
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole] = (struct ap_map_slot){0};
}

void *ap_map_remove(struct ap_map *map, const void *key, size_t key_len)
{
    if (map->cnt == 0)
        return NULL;

    struct ap_map_slot *slot = find(map, hash_key(key, key_len), key, key_len);
    void *value = slot->value;

    if (value) {
        map->cnt--;
        close_gap(map, (size_t)(slot - map->slots));
    }
    return value;
}

void *ap_map_next(const struct ap_map *map, size_t *pos)
{
    while (*pos < map->cap) {
        void *value = map->slots[(*pos)++].value;

        if (value)
            return value;
    }
    return NULL;
}

void ap_map_done_values(struct ap_map *map)
{
    size_t pos = 0;
    void *value;

    while ((value = ap_map_next(map, &pos)))
        free(value);
    ap_map_done(map);
}
