/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: what an implementation of storage.h provides. The functions mean what their namesakes there
 * say; `engine` is what open() made. storage.c counts commits, checks arguments and clears results, so that each may
 * rely on: scopes with from < to and to_ns given, outputs written on success only. */
#ifndef APERTURE_STORAGE_ENGINE_H
#define APERTURE_STORAGE_ENGINE_H

#include "core/out.h"
#include "storage/rows.h"
#include "storage/storage.h"

struct ap_storage_ops {
    const char *name;
    int (*open)(const struct ap_storage_opts *opts, void **ret_engine, struct ap_error *err);
    void (*close)(void *engine);
    int (*ready)(void *engine, struct ap_error *err);
    /* NULL: there is no schema to print. */
    int (*print_schema)(const struct ap_storage_opts *opts, const char *cluster, struct ap_out *out);

    int (*commit)(void *engine, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate, struct ap_error *err);

    int (*stacks)(void *engine, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                  struct ap_error *err);
    int (*load_stacks)(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                       uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);
    int (*timeline)(void *engine, const struct ap_storage_scope *scope, uint64_t step_ns, const char *label,
                    size_t group_max, struct ap_points *ret_points, struct ap_error *err);
    int (*labels)(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_texts *ret_names,
                  struct ap_error *err);
    int (*label_values)(void *engine, const struct ap_storage_scope *scope, const char *label, size_t max,
                        struct ap_texts *ret_values, struct ap_error *err);
    int (*series)(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_series_rows *ret_rows,
                  struct ap_error *err);
    int (*locks)(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                 struct ap_error *err);
    int (*syscalls)(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                    struct ap_error *err);
    int (*account)(void *engine, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                   struct ap_error *err);
    int (*batches)(void *engine, const struct ap_storage_scope *scope, size_t limit,
                   struct ap_batches_answer *ret_answer, struct ap_error *err);
    int (*agents)(void *engine, const struct ap_storage_scope *scope, struct ap_agents_answer *ret_answer,
                  struct ap_error *err);
    /* Of the numbers: dropped_batches, disk_bytes, sample_rows; the rest is storage.c's. */
    void (*stats)(void *engine, struct ap_storage_stats *stats);
};

extern const struct ap_storage_ops ap_storage_memory_ops;     /* memory.c */
extern const struct ap_storage_ops ap_storage_chdb_ops;       /* store.c over chdb.c */
extern const struct ap_storage_ops ap_storage_clickhouse_ops; /* store.c over clickhouse.c */

/* Shared by implementations. */

/* What open() made: for tests of an implementation's own parts. */
void *ap_storage_engine(struct ap_storage *storage);

/* True when a series with these labels (by name) is in all sets of the scope; `batch_only`: labels that batches as a
 * whole do not have (pid, comm, exe, container) are not looked at. */
bool ap_storage_scope_matches(const struct ap_storage_scope *scope, const struct ap_row_label *labels, size_t label_cnt,
                              bool batch_only);
/* True for pid, comm, exe, container: labels that tell apart the series of one batch. */
bool ap_storage_label_of_process(const char *label);

#endif
