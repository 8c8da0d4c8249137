/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/cache.h"

#include "model/graft.h"
#include "model/table.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a row with its share of the profile's hash tables. */
#define FRAME_SZ   (sizeof(struct ap_frame) + sizeof(struct ap_table_slot) * 2)
#define STACK_SZ   (sizeof(struct ap_stack) + sizeof(struct entry) + sizeof(struct ap_table_slot) * 4)
#define MAPPING_SZ (sizeof(struct ap_mapping) + sizeof(struct ap_table_slot) * 2)
/* Of a string: entry, table and text, whose length nobody tells. Demangled names are about this long. */
#define STRING_SZ 160

struct entry {
    uint64_t hash;
    uint32_t stack, series;
};

/* A dictionary that only grows. */
struct generation {
    struct ap_profile *profile;
    struct ap_table table; /* hash to entry */
    struct entry *entries;
    size_t entry_cnt, entry_cap;
};

struct ap_cache {
    struct ap_storage *storage;
    size_t max_sz;
    pthread_rwlock_t lock;
    struct generation young, old; /* old.profile NULL: none yet */
    uint64_t hits, misses, not_stored, evicted, refused;
};

static int generation_init(struct generation *generation)
{
    *generation = (struct generation){.profile = ap_profile_new(AP_KIND_CPU)};
    return generation->profile != NULL ? 0 : -ENOMEM;
}

static void generation_done(struct generation *generation)
{
    ap_profile_free(generation->profile);
    ap_table_done(&generation->table);
    free(generation->entries);
    *generation = (struct generation){0};
}

static size_t generation_sz(const struct generation *generation)
{
    const struct ap_profile *profile = generation->profile;

    if (profile == NULL)
        return 0;
    return ap_strings_count(profile->strings) * STRING_SZ + profile->mapping_cnt * MAPPING_SZ +
           profile->frame_cnt * FRAME_SZ + profile->stack_frame_cnt * sizeof(*profile->stack_frames) +
           generation->entry_cnt * STACK_SZ;
}

static const struct entry *find(const struct generation *generation, uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&generation->table, hash, &pos)) != AP_TABLE_NONE)
        if (generation->entries[i].hash == hash)
            return &generation->entries[i];
    return NULL;
}

struct ap_cache *ap_cache_new(struct ap_storage *storage, size_t max_sz)
{
    struct ap_cache *cache = calloc(1, sizeof(*cache));

    if (cache == NULL)
        return NULL;
    cache->storage = storage;
    cache->max_sz = max_sz;
    if (generation_init(&cache->young) != 0 || pthread_rwlock_init(&cache->lock, NULL) != 0) {
        generation_done(&cache->young);
        free(cache);
        return NULL;
    }
    return cache;
}

struct ap_cache *ap_cache_free(struct ap_cache *cache)
{
    if (cache == NULL)
        return NULL;
    generation_done(&cache->young);
    generation_done(&cache->old);
    pthread_rwlock_destroy(&cache->lock);
    free(cache);
    return NULL;
}

/* Copies one stack that `graft` can reach into the generation behind it. */
static int keep(struct generation *generation, struct ap_graft *graft, uint64_t hash, uint32_t stack, uint32_t series)
{
    struct entry entry = {.hash = hash};
    int r;

    if (generation->entry_cnt == generation->entry_cap) {
        size_t cap = generation->entry_cap == 0 ? 1024 : generation->entry_cap * 2;
        struct entry *entries = reallocarray(generation->entries, cap, sizeof(*entries));

        if (entries == NULL)
            return -ENOMEM;
        generation->entries = entries;
        generation->entry_cap = cap;
    }
    r = ap_table_reserve(&generation->table);
    if (r == 0)
        r = ap_graft_stack(graft, stack, &entry.stack);
    if (r == 0)
        r = ap_graft_series(graft, series, &entry.series);
    if (r != 0)
        return r;
    ap_table_put(&generation->table, hash, (uint32_t)generation->entry_cnt);
    generation->entries[generation->entry_cnt++] = entry;
    return 0;
}

/* Under the write lock: gives the old generation up when the young one is full. */
static int make_room(struct ap_cache *cache)
{
    struct generation fresh;

    if (generation_sz(&cache->young) < cache->max_sz / 2)
        return 0;
    if (generation_init(&fresh) != 0)
        return -ENOMEM;
    cache->evicted += cache->old.entry_cnt;
    generation_done(&cache->old);
    cache->old = cache->young;
    cache->young = fresh;
    return 0;
}

/* Under the write lock: adds to the young generation what of `stacks` it lacks. Nothing that goes wrong here matters to
 * the question. */
static void remember(struct ap_cache *cache, const struct ap_profile *from, const uint64_t *stacks, size_t cnt,
                     const uint32_t *stack, const uint32_t *series)
{
    struct ap_graft graft = {0};

    for (size_t i = 0; i < cnt; i++) {
        if (stack[i] == UINT32_MAX || find(&cache->young, stacks[i]) != NULL)
            continue;
        if (make_room(cache) != 0) {
            cache->refused++;
            continue;
        }
        if (graft.to != cache->young.profile) {
            ap_graft_done(&graft);
            if (ap_graft_init(&graft, from, cache->young.profile) != 0) {
                cache->refused++;
                continue;
            }
        }
        if (keep(&cache->young, &graft, stacks[i], stack[i], series[i]) != 0)
            cache->refused++;
    }
    ap_graft_done(&graft);
}

/* What one call works with. */
struct load {
    const uint64_t *stacks;
    size_t cnt;
    struct ap_profile *profile;
    uint32_t *stack, *series;

    uint64_t *missing; /* of stacks: those that neither generation has */
    size_t missing_cnt;
    struct ap_profile *fetched;
    uint32_t *fetched_stack, *fetched_series;
    size_t old_cnt; /* found in the old generation only */
    bool again;     /* the cache has given up what was found in it before */
};

/* Under the read lock. */
static int find_missing(struct ap_cache *cache, struct load *load)
{
    load->missing_cnt = load->old_cnt = 0;
    for (size_t i = 0; i < load->cnt; i++) {
        if (find(&cache->young, load->stacks[i]) != NULL)
            continue;
        if (find(&cache->old, load->stacks[i]) != NULL)
            load->old_cnt++;
        else
            load->missing[load->missing_cnt++] = load->stacks[i];
    }
    return 0;
}

/* Under the read lock: copies all in order. What was fetched stands in the order of `missing`. */
static int copy_all(struct ap_cache *cache, struct load *load)
{
    struct ap_graft young = {0}, old = {0}, fetched = {0};
    size_t next = 0;
    int r = ap_graft_init(&young, cache->young.profile, load->profile);

    if (r == 0 && cache->old.profile != NULL)
        r = ap_graft_init(&old, cache->old.profile, load->profile);
    if (r == 0 && load->fetched != NULL)
        r = ap_graft_init(&fetched, load->fetched, load->profile);
    for (size_t i = 0; r == 0 && i < load->cnt; i++) {
        const struct entry *entry;
        struct ap_graft *graft;
        uint32_t stack, series;

        if (next < load->missing_cnt && load->missing[next] == load->stacks[i]) {
            graft = &fetched;
            stack = load->fetched_stack[next];
            series = load->fetched_series[next++];
        } else if ((entry = find(&cache->young, load->stacks[i])) != NULL) {
            graft = &young;
            stack = entry->stack;
            series = entry->series;
        } else if ((entry = find(&cache->old, load->stacks[i])) != NULL) {
            graft = &old;
            stack = entry->stack;
            series = entry->series;
        } else {
            load->again = true;
            break;
        }
        load->stack[i] = load->series[i] = UINT32_MAX;
        if (stack == UINT32_MAX)
            continue;
        r = ap_graft_stack(graft, stack, &load->stack[i]);
        if (r == 0)
            r = ap_graft_series(graft, series, &load->series[i]);
    }
    ap_graft_done(&young);
    ap_graft_done(&old);
    ap_graft_done(&fetched);
    return r;
}

/* Asks storage for what is missing. */
static int fetch(struct ap_cache *cache, struct load *load, struct ap_error *err)
{
    ap_profile_free(load->fetched);
    load->fetched = ap_profile_new(load->profile->kind);
    if (load->fetched == NULL)
        return ap_error_set(err, -ENOMEM, "out of memory");
    return ap_storage_load_stacks(cache->storage, load->missing, load->missing_cnt, load->fetched, load->fetched_stack,
                                  load->fetched_series, err);
}

/* Under the write lock: keeps what was fetched, saves from the old generation what was used. */
static void learn(struct ap_cache *cache, struct load *load)
{
    if (load->missing_cnt > 0)
        remember(cache, load->fetched, load->missing, load->missing_cnt, load->fetched_stack, load->fetched_series);
    cache->misses += load->missing_cnt;
    for (size_t i = 0; i < load->missing_cnt; i++)
        cache->not_stored += load->fetched_stack[i] == UINT32_MAX;
    cache->hits += load->cnt - load->missing_cnt;
    if (load->old_cnt > 0) /* from the asker's profile: the generations may have moved on since */
        remember(cache, load->profile, load->stacks, load->cnt, load->stack, load->series);
}

static int load_all(struct ap_cache *cache, struct load *load, struct ap_error *err)
{
    int r;

    pthread_rwlock_rdlock(&cache->lock);
    find_missing(cache, load);
    pthread_rwlock_unlock(&cache->lock);
    for (unsigned round = 0;; round++) {
        load->again = false;
        r = load->missing_cnt > 0 ? fetch(cache, load, err) : 0;
        if (r != 0)
            return r;
        pthread_rwlock_rdlock(&cache->lock);
        r = copy_all(cache, load);
        if (r == 0 && load->again && round == 0)
            find_missing(cache, load);
        pthread_rwlock_unlock(&cache->lock);
        if (r != 0)
            return ap_error_set(err, r == -ENOSPC ? -E2BIG : r,
                                r == -ENOSPC ? "too many stacks for one answer: narrow the time or the labels"
                                             : "out of memory");
        if (!load->again)
            break;
        if (round > 0) { /* others turn the cache over while we ask: go without it */
            memcpy(load->missing, load->stacks, load->cnt * sizeof(*load->missing));
            load->missing_cnt = load->cnt;
        }
    }
    pthread_rwlock_wrlock(&cache->lock);
    learn(cache, load);
    pthread_rwlock_unlock(&cache->lock);
    return 0;
}

int ap_cache_load(struct ap_cache *cache, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                  uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    struct load load = {.stacks = stacks, .cnt = cnt, .profile = profile};
    int r;

    if (cnt == 0)
        return 0;
    load.missing = calloc(cnt, sizeof(*load.missing));
    load.fetched_stack = calloc(cnt, sizeof(*load.fetched_stack));
    load.fetched_series = calloc(cnt, sizeof(*load.fetched_series));
    load.stack = calloc(cnt, sizeof(*load.stack));
    load.series = calloc(cnt, sizeof(*load.series));
    if (load.missing == NULL || load.fetched_stack == NULL || load.fetched_series == NULL || load.stack == NULL ||
        load.series == NULL)
        ap_error_set(err, r = -ENOMEM, "out of memory");
    else
        r = load_all(cache, &load, err);
    if (r == 0) {
        memcpy(ret_stack, load.stack, cnt * sizeof(*ret_stack));
        memcpy(ret_series, load.series, cnt * sizeof(*ret_series));
    }
    free(load.missing);
    free(load.fetched_stack);
    free(load.fetched_series);
    free(load.stack);
    free(load.series);
    ap_profile_free(load.fetched);
    return r;
}

void ap_cache_stats(struct ap_cache *cache, struct ap_cache_stats *ret_stats)
{
    pthread_rwlock_rdlock(&cache->lock);
    *ret_stats = (struct ap_cache_stats){
        .hits = cache->hits,
        .misses = cache->misses,
        .not_stored = cache->not_stored,
        .evicted = cache->evicted,
        .refused = cache->refused,
        .stacks = cache->young.entry_cnt + cache->old.entry_cnt,
        .sz = generation_sz(&cache->young) + generation_sz(&cache->old),
    };
    pthread_rwlock_unlock(&cache->lock);
}
