/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/storage.h"

#include "core/clock.h"
#include "storage/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct ap_storage {
    const struct ap_storage_ops *ops;
    void *engine;
    _Atomic uint64_t flushes_ok, flushes_failed, rows, flush_ns, duplicates;
};

static const struct ap_storage_ops *ops_of(enum ap_storage_kind kind)
{
    switch (kind) {
    case AP_STORAGE_MEMORY:
        return &ap_storage_memory_ops;
    case AP_STORAGE_CHDB:
        return &ap_storage_chdb_ops;
    case AP_STORAGE_CLICKHOUSE:
        return &ap_storage_clickhouse_ops;
    }
    return NULL;
}

struct ap_storage *ap_storage_open(const struct ap_storage_opts *opts, struct ap_error *err)
{
    const struct ap_storage_ops *ops = ops_of(opts->kind);

    if (ops == NULL) {
        ap_error_set(err, -EINVAL, "there is no storage of kind %d", (int)opts->kind);
        return NULL;
    }
    struct ap_storage *storage = calloc(1, sizeof(*storage));
    if (storage == NULL) {
        ap_error_errno(err, -ENOMEM, "storage");
        return NULL;
    }
    storage->ops = ops;
    if (ops->open(opts, &storage->engine, err) != 0) {
        free(storage);
        return NULL;
    }
    return storage;
}

struct ap_storage *ap_storage_free(struct ap_storage *storage)
{
    if (storage == NULL)
        return NULL;
    storage->ops->close(storage->engine);
    free(storage);
    return NULL;
}

const char *ap_storage_name(const struct ap_storage *storage)
{
    return storage->ops->name;
}

int ap_storage_ready(struct ap_storage *storage, struct ap_error *err)
{
    return storage->ops->ready(storage->engine, err);
}

int ap_storage_print_schema(const struct ap_storage_opts *opts, const char *cluster, struct ap_out *out)
{
    const struct ap_storage_ops *ops = ops_of(opts->kind);

    if (ops == NULL || ops->print_schema == NULL)
        return -EINVAL;
    int r = ops->print_schema(opts, cluster, out);
    return r != 0 ? r : ap_out_error(out);
}

/* ---- Commit ---- */

int ap_storage_commit(struct ap_storage *storage, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate,
                      struct ap_error *err)
{
    uint64_t begin_ns = ap_clock_monotonic_ns(), samples = 0, duplicates = 0;

    for (size_t i = 0; i < cnt; i++)
        samples += rows[i]->sample_cnt;
    /* One batch may have more by itself: it is taken alone. */
    if (cnt > AP_COMMIT_BATCHES_MAX || (cnt > 1 && samples > AP_COMMIT_ROWS_MAX))
        return ap_error_set(err, -E2BIG, "%zu batches with %" PRIu64 " sample rows in one commit; at most %d and %d",
                            cnt, samples, AP_COMMIT_BATCHES_MAX, AP_COMMIT_ROWS_MAX);
    if (cnt == 0)
        return 0;
    int r = storage->ops->commit(storage->engine, rows, cnt, ret_duplicate, err);
    atomic_fetch_add(&storage->flush_ns, ap_clock_monotonic_ns() - begin_ns);
    if (r != 0) {
        atomic_fetch_add(&storage->flushes_failed, 1);
        return r;
    }
    for (size_t i = 0; i < cnt; i++) {
        if (ret_duplicate[i]) {
            duplicates++;
            samples -= rows[i]->sample_cnt;
        }
    }
    atomic_fetch_add(&storage->flushes_ok, 1);
    atomic_fetch_add(&storage->rows, samples);
    atomic_fetch_add(&storage->duplicates, duplicates);
    return 0;
}

void ap_storage_stats(struct ap_storage *storage, struct ap_storage_stats *ret_stats)
{
    struct ap_storage_stats stats = {
        .flushes_ok = storage->flushes_ok,
        .flushes_failed = storage->flushes_failed,
        .rows = storage->rows,
        .flush_ns = storage->flush_ns,
        .duplicates = storage->duplicates,
    };

    storage->ops->stats(storage->engine, &stats);
    *ret_stats = stats;
}

/* ---- Ask ---- */

/* The scope with its end given; what cannot be asked is an error. */
static int check_scope(const struct ap_storage_scope *scope, struct ap_storage_scope *ret_scope, struct ap_error *err)
{
    *ret_scope = *scope;
    if (ret_scope->to_ns == 0)
        ret_scope->to_ns = ap_clock_realtime_ns();
    if (scope->from_ns >= ret_scope->to_ns)
        return ap_error_set(err, -EINVAL, "the range ends before it begins");
    for (size_t i = 0; i < scope->set_cnt; i++) {
        if (scope->sets[i].value_cnt > AP_VALUE_SET_MAX)
            return ap_error_set(err, -E2BIG, "label %s is matched against %zu values; at most %d", scope->sets[i].label,
                                scope->sets[i].value_cnt, AP_VALUE_SET_MAX);
    }
    return 0;
}

int ap_storage_stacks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                      struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->stacks(storage->engine, &checked, ret_sums, err);
}

int ap_storage_load_stacks(struct ap_storage *storage, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                           uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    if (cnt == 0)
        return 0;
    return storage->ops->load_stacks(storage->engine, stacks, cnt, profile, ret_stack, ret_series, err);
}

int ap_storage_timeline(struct ap_storage *storage, const struct ap_storage_scope *scope, uint64_t step_ns,
                        const char *label, size_t group_max, struct ap_points *ret_points, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    if (r != 0)
        return r;
    if (step_ns == 0 || step_ns % AP_PUSH_SLOT_NS != 0)
        return ap_error_set(err, -EINVAL, "the step of a timeline must be a multiple of %llu ns", AP_PUSH_SLOT_NS);
    return storage->ops->timeline(storage->engine, &checked, step_ns, label, group_max, ret_points, err);
}

int ap_storage_labels(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t max,
                      struct ap_texts *ret_names, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->labels(storage->engine, &checked, max, ret_names, err);
}

int ap_storage_label_values(struct ap_storage *storage, const struct ap_storage_scope *scope, const char *label,
                            size_t max, struct ap_texts *ret_values, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->label_values(storage->engine, &checked, label, max, ret_values, err);
}

int ap_storage_series(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t max,
                      struct ap_series_rows *ret_rows, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->series(storage->engine, &checked, max, ret_rows, err);
}

int ap_storage_locks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                     struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->locks(storage->engine, &checked, ret_profile, err);
}

int ap_storage_syscalls(struct ap_storage *storage, const struct ap_storage_scope *scope,
                        struct ap_profile **ret_profile, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->syscalls(storage->engine, &checked, ret_profile, err);
}

int ap_storage_account(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                       struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->account(storage->engine, &checked, ret_sums, err);
}

int ap_storage_batches(struct ap_storage *storage, const struct ap_storage_scope *scope, size_t limit,
                       struct ap_batches_answer *ret_answer, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->batches(storage->engine, &checked, limit, ret_answer, err);
}

int ap_storage_agents(struct ap_storage *storage, const struct ap_storage_scope *scope,
                      struct ap_agents_answer *ret_answer, struct ap_error *err)
{
    struct ap_storage_scope checked;
    int r = check_scope(scope, &checked, err);

    return r != 0 ? r : storage->ops->agents(storage->engine, &checked, ret_answer, err);
}

/* ---- Results ---- */

void ap_stack_sums_done(struct ap_stack_sums *sums)
{
    free(sums->stacks);
    free(sums->counts);
    free(sums->values);
    *sums = (struct ap_stack_sums){0};
}

void ap_points_done(struct ap_points *points)
{
    for (size_t i = 0; i < points->group_cnt; i++)
        free(points->groups[i]);
    free(points->groups);
    free(points->points);
    *points = (struct ap_points){0};
}

void ap_texts_done(struct ap_texts *texts)
{
    for (size_t i = 0; i < texts->cnt; i++)
        free(texts->items[i]);
    free(texts->items);
    *texts = (struct ap_texts){0};
}

void ap_series_rows_done(struct ap_series_rows *rows)
{
    for (size_t i = 0; i < rows->cnt; i++) {
        for (size_t l = 0; l < rows->rows[i].label_cnt; l++) {
            free(rows->rows[i].labels[l].name);
            free(rows->rows[i].labels[l].value);
        }
        free(rows->rows[i].labels);
    }
    free(rows->rows);
    *rows = (struct ap_series_rows){0};
}

/* ---- Shared by implementations ---- */

void *ap_storage_engine(struct ap_storage *storage)
{
    return storage->engine;
}

bool ap_storage_label_of_process(const char *label)
{
    return strcmp(label, "pid") == 0 || strcmp(label, "comm") == 0 || strcmp(label, "exe") == 0 ||
           strcmp(label, "container") == 0;
}

static const char *label_value(const struct ap_row_label *labels, size_t label_cnt, const char *name)
{
    for (size_t i = 0; i < label_cnt; i++) {
        if (strcmp(labels[i].name, name) == 0)
            return labels[i].value;
    }
    return "";
}

bool ap_storage_scope_matches(const struct ap_storage_scope *scope, const struct ap_row_label *labels, size_t label_cnt,
                              bool batch_only)
{
    for (size_t i = 0; i < scope->set_cnt; i++) {
        const struct ap_value_set *set = &scope->sets[i];
        bool found = false;

        if (batch_only && ap_storage_label_of_process(set->label))
            continue;
        const char *value = label_value(labels, label_cnt, set->label);
        for (size_t v = 0; v < set->value_cnt && !found; v++)
            found = strcmp(set->values[v], value) == 0;
        if (found == set->negative)
            return false;
    }
    return true;
}
