/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the model and its codecs: open addressing table from a hash to a u32 row index. The rows live
 * with the owner, who compares them; the table keeps half of the hash beside each index so that most misses
 * and every growth stay off the rows. */
#ifndef APERTURE_MODEL_TABLE_H
#define APERTURE_MODEL_TABLE_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define AP_TABLE_NONE UINT32_MAX
/* A table of more slots could not be addressed by the 32 bits of hash that it keeps. */
#define AP_TABLE_SLOTS_MAX (1ull << 31)

struct ap_table_slot {
    uint32_t hash;
    uint32_t index_plus1; /* 0 = free */
};

struct ap_table {
    struct ap_table_slot *slots;
    size_t slot_cnt; /* power of two, or 0 */
    size_t used;
};

static inline void ap_table_done(struct ap_table *table)
{
    free(table->slots);
    table->slots = NULL;
    table->slot_cnt = table->used = 0;
}

static inline uint32_t ap_table_fold(uint64_t hash)
{
    return (uint32_t)(hash ^ (hash >> 32));
}

/* Spreads a 64-bit key that is its own content (murmur3's finaliser). */
static inline uint64_t ap_table_mix(uint64_t key)
{
    key ^= key >> 33;
    key *= 0xff51afd7ed558ccdULL;
    key ^= key >> 33;
    key *= 0xc4ceb9fe1a85ec53ULL;
    return key ^ (key >> 33);
}

/* Walks the rows whose hash equals `hash`: start with *pos = SIZE_MAX; AP_TABLE_NONE ends it. */
static inline uint32_t ap_table_next(const struct ap_table *table, uint64_t hash, size_t *pos)
{
    uint32_t fold = ap_table_fold(hash);

    if (table->slot_cnt == 0)
        return AP_TABLE_NONE;
    size_t mask = table->slot_cnt - 1;
    for (size_t i = (*pos == SIZE_MAX ? fold : *pos + 1) & mask;; i = (i + 1) & mask) {
        const struct ap_table_slot *slot = &table->slots[i];

        if (slot->index_plus1 == 0)
            return AP_TABLE_NONE;
        if (slot->hash == fold) {
            *pos = i;
            return slot->index_plus1 - 1;
        }
    }
}

/* Inserts without looking for an equal row. Needs ap_table_reserve() before. */
static inline void ap_table_put(struct ap_table *table, uint64_t hash, uint32_t index)
{
    uint32_t fold = ap_table_fold(hash);
    size_t mask = table->slot_cnt - 1, i = fold & mask;

    while (table->slots[i].index_plus1 != 0)
        i = (i + 1) & mask;
    table->slots[i] = (struct ap_table_slot){.hash = fold, .index_plus1 = index + 1};
    table->used++;
}

/* Makes room for one more row. 0 or -ENOMEM. */
static inline int ap_table_reserve(struct ap_table *table)
{
    if (table->slot_cnt != 0 && table->used < table->slot_cnt - table->slot_cnt / 4)
        return 0;
    size_t slot_cnt = table->slot_cnt == 0 ? 64 : table->slot_cnt * 2;
    if (slot_cnt > AP_TABLE_SLOTS_MAX)
        return -ENOMEM;
    struct ap_table_slot *slots = calloc(slot_cnt, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < table->slot_cnt; i++) {
        if (table->slots[i].index_plus1 == 0)
            continue;
        size_t j = table->slots[i].hash & (slot_cnt - 1);

        while (slots[j].index_plus1 != 0)
            j = (j + 1) & (slot_cnt - 1);
        slots[j] = table->slots[i];
    }
    free(table->slots);
    table->slots = slots;
    table->slot_cnt = slot_cnt;
    return 0;
}

#endif
