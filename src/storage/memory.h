/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the memory engine: what its files share. */
#ifndef APERTURE_STORAGE_MEMORY_H
#define APERTURE_STORAGE_MEMORY_H

#include "core/map.h"
#include "storage/engine.h"
#include "storage/memory_batch.h"

#include <pthread.h>

struct ap_memory {
    pthread_rwlock_t lock; /* all below */
    struct ap_dict dict;
    struct ap_map keys;            /* batches by what names them */
    struct ap_mem_batch **batches; /* owned; a ring, oldest first */
    size_t first, cnt, cap;        /* cap: a power of two */
    size_t batches_sz, max_sz;     /* the dictionary counts its own bytes */
    uint64_t dropped, sample_rows;
};

/* The `i`th batch, from the oldest. */
static inline const struct ap_mem_batch *ap_memory_batch(const struct ap_memory *memory, size_t i)
{
    return memory->batches[(memory->first + i) & (memory->cap - 1)];
}

/* A scope ready to be matched against many label sets. */
struct ap_mem_scope {
    const struct ap_storage_scope *scope;
    struct ap_map *values; /* owned; by set: its values */
};
int ap_mem_scope_init(struct ap_mem_scope *ms, const struct ap_storage_scope *scope);
void ap_mem_scope_done(struct ap_mem_scope *ms);
/* `batch_only` as for ap_storage_scope_matches(). */
bool ap_mem_scope_matches(const struct ap_mem_scope *ms, const struct ap_dict_series *series, bool batch_only);
static inline bool ap_mem_scope_kind(const struct ap_mem_scope *ms, uint8_t kind)
{
    return ms->scope->kind == 0 || ms->scope->kind == kind;
}
static inline bool ap_mem_scope_time(const struct ap_mem_scope *ms, uint64_t t_ns)
{
    return t_ns >= ms->scope->from_ns && t_ns < ms->scope->to_ns;
}

/* Calls `fn` for every sample of the scope; ends with the first result that is not 0. Under the lock. */
typedef int (*ap_mem_sample_fn)(void *ctx, const struct ap_mem_sample *sample);
int ap_mem_each_sample(const struct ap_memory *memory, const struct ap_mem_scope *ms, ap_mem_sample_fn fn, void *ctx);

/* Of the engine's functions, those in memory_lists.c. */
int ap_memory_labels(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_texts *ret_names,
                     struct ap_error *err);
int ap_memory_label_values(void *engine, const struct ap_storage_scope *scope, const char *label, size_t max,
                           struct ap_texts *ret_values, struct ap_error *err);
int ap_memory_series(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_series_rows *ret_rows,
                     struct ap_error *err);
int ap_memory_account(void *engine, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                      struct ap_error *err);
int ap_memory_batches(void *engine, const struct ap_storage_scope *scope, size_t limit,
                      struct ap_batches_answer *ret_answer, struct ap_error *err);
int ap_memory_agents(void *engine, const struct ap_storage_scope *scope, struct ap_agents_answer *ret_answer,
                     struct ap_error *err);

#endif
