/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the memory engine lists: labels, series, batches, agents, accounts. */
#include "storage/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

/* True when the batch, or its account, belongs to the scope. */
static bool batch_matches(const struct ap_mem_scope *ms, const struct ap_mem_batch *batch)
{
    return ap_mem_scope_time(ms, batch->start_ns) && ap_mem_batch_has(batch, ms->scope->kind) &&
           ap_mem_scope_matches(ms, batch->series, true);
}

/* ---- Label sets ---- */

/* Distinct label sets, in no order. */
struct found {
    struct ap_map series; /* by address */
    bool with_batches;    /* those of batches themselves too */
};

static int find_one(struct found *found, const struct ap_dict_series *series)
{
    /* The set lives longer than the map: its hash is the key. */
    return ap_map_put(&found->series, &series->hash, sizeof(series->hash), (void *)(uintptr_t)series);
}

static int find_of_sample(void *ctx, const struct ap_mem_sample *sample)
{
    return find_one(ctx, sample->series);
}

static int find_in_batch(struct found *found, const struct ap_mem_scope *ms, const struct ap_mem_batch *batch)
{
    int r = 0;

    if (!ap_mem_scope_time(ms, batch->start_ns))
        return 0;
    for (size_t i = 0; ap_mem_scope_kind(ms, AP_KIND_LOCK) && i < batch->lock_cnt && r == 0; i++)
        if (ap_mem_scope_matches(ms, batch->locks[i].series, false))
            r = find_one(found, batch->locks[i].series);
    for (size_t i = 0; ap_mem_scope_kind(ms, AP_KIND_SYSCALL) && i < batch->syscall_cnt && r == 0; i++)
        if (ap_mem_scope_matches(ms, batch->syscalls[i].series, false))
            r = find_one(found, batch->syscalls[i].series);
    if (r == 0 && found->with_batches && ap_mem_batch_has(batch, ms->scope->kind) &&
        ap_mem_scope_matches(ms, batch->series, false))
        r = find_one(found, batch->series);
    return r;
}

/* Under the lock. The map of `found` is the caller's also after a failure. */
static int find_series(const struct ap_memory *memory, const struct ap_storage_scope *scope, struct found *found)
{
    struct ap_mem_scope ms;
    int r = ap_mem_scope_init(&ms, scope);

    if (r != 0)
        return r;
    r = ap_mem_each_sample(memory, &ms, find_of_sample, found);
    for (size_t i = 0; i < memory->cnt && r == 0; i++)
        r = find_in_batch(found, &ms, ap_memory_batch(memory, i));
    ap_mem_scope_done(&ms);
    return r;
}

/* ---- Text lists ---- */

static int compare_texts(const void *pa, const void *pb)
{
    return strcmp(*(char *const *)pa, *(char *const *)pb);
}

/* Collects text, each once. */
struct collector {
    struct ap_map map; /* text to itself */
    size_t max;
};

static int collect(struct collector *collector, const char *text)
{
    size_t len = strlen(text);

    if (ap_map_get(&collector->map, text, len) != NULL)
        return 0;
    if (collector->map.cnt == collector->max)
        return -E2BIG;
    return ap_map_put(&collector->map, text, len, (void *)(uintptr_t)text);
}

/* Writes what was collected, by text. */
static int write_texts(const struct collector *collector, struct ap_texts *ret_texts)
{
    struct ap_texts texts = {.items = calloc(collector->map.cnt + 1, sizeof(*texts.items))};
    size_t pos = 0;
    const char *text;

    if (texts.items == NULL)
        return -ENOMEM;
    while ((text = ap_map_next(&collector->map, &pos)) != NULL) {
        texts.items[texts.cnt] = strdup(text);
        if (texts.items[texts.cnt] == NULL) {
            ap_texts_done(&texts);
            return -ENOMEM;
        }
        texts.cnt++;
    }
    if (texts.cnt > 1)
        qsort((void *)texts.items, texts.cnt, sizeof(*texts.items), compare_texts);
    *ret_texts = texts;
    return 0;
}

/* Names of labels, or with `label` its values. */
static int list_texts(struct ap_memory *memory, const struct ap_storage_scope *scope, const char *label, size_t max,
                      struct ap_texts *ret_texts, struct ap_error *err)
{
    struct found found = {.with_batches = true};
    struct collector collector = {.max = max};
    const struct ap_dict_series *series;
    size_t pos = 0;
    int r;

    ap_map_init(&found.series, SIZE_MAX);
    ap_map_init(&collector.map, SIZE_MAX);
    pthread_rwlock_rdlock(&memory->lock);
    r = find_series(memory, scope, &found);
    while (r == 0 && (series = ap_map_next(&found.series, &pos)) != NULL)
        for (uint32_t i = 0; i < series->cnt && r == 0; i++)
            if (label == NULL || strcmp(series->labels[i].name, label) == 0)
                r = collect(&collector, label == NULL ? series->labels[i].name : series->labels[i].value);
    if (r == 0)
        r = write_texts(&collector, ret_texts);
    pthread_rwlock_unlock(&memory->lock);
    ap_map_done(&found.series);
    ap_map_done(&collector.map);
    if (r == -E2BIG)
        return ap_error_set(err, r, "more than %zu %s%s: narrow the time or the labels", max,
                            label == NULL ? "labels" : "values of ", label == NULL ? "" : label);
    return r != 0 ? no_memory(err) : 0;
}

int ap_memory_labels(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_texts *ret_names,
                     struct ap_error *err)
{
    return list_texts(engine, scope, NULL, max, ret_names, err);
}

int ap_memory_label_values(void *engine, const struct ap_storage_scope *scope, const char *label, size_t max,
                           struct ap_texts *ret_values, struct ap_error *err)
{
    return list_texts(engine, scope, label, max, ret_values, err);
}

/* ---- Series ---- */

/* Labels by name, without `agent` when that has a place of its own. 0 or -ENOMEM. */
static int copy_labels(const struct ap_dict_series *series, bool agent, struct ap_label **ret_labels, size_t *ret_cnt)
{
    struct ap_label *labels = calloc(series->cnt + 1, sizeof(*labels));
    size_t cnt = 0;

    for (uint32_t i = 0; labels != NULL && i < series->cnt; i++) {
        if (!agent && strcmp(series->labels[i].name, "agent") == 0)
            continue;
        labels[cnt].name = strdup(series->labels[i].name);
        labels[cnt].value = strdup(series->labels[i].value);
        cnt++;
        if (labels[cnt - 1].name == NULL || labels[cnt - 1].value == NULL) {
            ap_labels_free(labels, cnt);
            return -ENOMEM;
        }
    }
    if (labels == NULL)
        return -ENOMEM;
    *ret_labels = labels;
    *ret_cnt = cnt;
    return 0;
}

static int compare_series(const void *pa, const void *pb)
{
    const struct ap_series_row *a = pa, *b = pb;

    for (size_t i = 0; i < a->label_cnt && i < b->label_cnt; i++) {
        int order = strcmp(a->labels[i].name, b->labels[i].name);

        if (order == 0)
            order = strcmp(a->labels[i].value, b->labels[i].value);
        if (order != 0)
            return order;
    }
    return a->label_cnt < b->label_cnt ? -1 : a->label_cnt > b->label_cnt;
}

int ap_memory_series(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_series_rows *ret_rows,
                     struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct found found = {0};
    struct ap_series_rows rows = {0};
    const struct ap_dict_series *series;
    size_t pos = 0;
    int r;

    ap_map_init(&found.series, max);
    pthread_rwlock_rdlock(&memory->lock);
    r = find_series(memory, scope, &found);
    if (r == 0)
        rows.rows = calloc(found.series.cnt + 1, sizeof(*rows.rows));
    if (r == 0 && rows.rows == NULL)
        r = -ENOMEM;
    while (r == 0 && (series = ap_map_next(&found.series, &pos)) != NULL) {
        r = copy_labels(series, true, &rows.rows[rows.cnt].labels, &rows.rows[rows.cnt].label_cnt);
        rows.cnt += r == 0;
    }
    pthread_rwlock_unlock(&memory->lock);
    ap_map_done(&found.series);
    if (r != 0) {
        ap_series_rows_done(&rows);
        if (r == -ENOSPC)
            return ap_error_set(err, -E2BIG, "more than %zu series: narrow the time or the labels", max);
        return no_memory(err);
    }
    if (rows.cnt > 1)
        qsort(rows.rows, rows.cnt, sizeof(*rows.rows), compare_series);
    *ret_rows = rows;
    return 0;
}

/* ---- Accounts ---- */

int ap_memory_account(void *engine, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                      struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct ap_provenance sums = {.source = "memory"};
    struct ap_mem_scope ms;

    if (ap_mem_scope_init(&ms, scope) != 0)
        return no_memory(err);
    pthread_rwlock_rdlock(&memory->lock);
    for (size_t i = 0; i < memory->cnt; i++) {
        const struct ap_mem_batch *batch = ap_memory_batch(memory, i);

        if (!batch_matches(&ms, batch))
            continue;
        sums.batches++;
        if (batch->start_ns + batch->duration_ns > sums.newest_ns)
            sums.newest_ns = batch->start_ns + batch->duration_ns;
        for (unsigned k = 0; k < batch->kind_cnt; k++) {
            if (!ap_mem_scope_kind(&ms, batch->kinds[k].sums.kind))
                continue;
            ap_account_add(&sums.account, &batch->kinds[k].account);
            sums.samples += batch->kinds[k].sums.events;
            sums.value += batch->kinds[k].sums.value;
        }
    }
    pthread_rwlock_unlock(&memory->lock);
    ap_mem_scope_done(&ms);
    *ret_sums = sums;
    return 0;
}

/* ---- Batches and agents ---- */

/* Batches of the scope, oldest first. The caller's array; under the lock. */
static int matching_batches(const struct ap_memory *memory, const struct ap_storage_scope *scope,
                            const struct ap_mem_batch ***ret_batches, size_t *ret_cnt)
{
    const struct ap_mem_batch **batches = calloc(memory->cnt + 1, sizeof(*batches));
    struct ap_mem_scope ms;
    size_t cnt = 0;

    if (batches == NULL || ap_mem_scope_init(&ms, scope) != 0) {
        free((void *)batches);
        return -ENOMEM;
    }
    for (size_t i = 0; i < memory->cnt; i++)
        if (batch_matches(&ms, ap_memory_batch(memory, i)))
            batches[cnt++] = ap_memory_batch(memory, i);
    ap_mem_scope_done(&ms);
    *ret_batches = batches;
    *ret_cnt = cnt;
    return 0;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* Newest first. */
static int compare_batches(const void *pa, const void *pb)
{
    const struct ap_mem_batch *a = *(const struct ap_mem_batch *const *)pa;
    const struct ap_mem_batch *b = *(const struct ap_mem_batch *const *)pb;
    int order = compare_u64(b->start_ns, a->start_ns);

    if (order == 0)
        order = strcmp(a->agent_id, b->agent_id);
    if (order == 0)
        order = compare_u64(b->epoch, a->epoch);
    return order != 0 ? order : compare_u64(b->sequence, a->sequence);
}

static int write_batch(const struct ap_mem_batch *batch, struct ap_batch_row *row)
{
    *row = (struct ap_batch_row){
        .agent_id = strdup(batch->agent_id),
        .epoch = batch->epoch,
        .sequence = batch->sequence,
        .start_ns = batch->start_ns,
        .duration_ns = batch->duration_ns,
        .received_ns = batch->received_ns,
        .bytes = batch->bytes,
        .kind_cnt = batch->kind_cnt,
    };
    for (unsigned k = 0; k < batch->kind_cnt; k++)
        row->kinds[k] = batch->kinds[k].sums;
    if (row->agent_id == NULL)
        return -ENOMEM;
    return copy_labels(batch->series, false, &row->labels, &row->label_cnt);
}

int ap_memory_batches(void *engine, const struct ap_storage_scope *scope, size_t limit,
                      struct ap_batches_answer *ret_answer, struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct ap_batches_answer answer = {0};
    const struct ap_mem_batch **batches = NULL;
    size_t cnt = 0;
    int r;

    pthread_rwlock_rdlock(&memory->lock);
    answer.dropped = memory->dropped;
    r = matching_batches(memory, scope, &batches, &cnt);
    if (r == 0 && cnt > 1)
        qsort((void *)batches, cnt, sizeof(*batches), compare_batches);
    if (cnt > limit)
        cnt = limit;
    if (r == 0)
        answer.rows = calloc(cnt + 1, sizeof(*answer.rows));
    if (answer.rows == NULL)
        r = -ENOMEM;
    for (size_t i = 0; i < cnt && r == 0; i++) {
        answer.row_cnt++;
        r = write_batch(batches[i], &answer.rows[i]);
    }
    pthread_rwlock_unlock(&memory->lock);
    free((void *)batches);
    if (r != 0) {
        ap_batches_answer_done(&answer);
        return no_memory(err);
    }
    *ret_answer = answer;
    return 0;
}

/* By agent, then newest first. */
static int compare_by_agent(const void *pa, const void *pb)
{
    const struct ap_mem_batch *a = *(const struct ap_mem_batch *const *)pa;
    const struct ap_mem_batch *b = *(const struct ap_mem_batch *const *)pb;
    int order = strcmp(a->agent_id, b->agent_id);

    return order != 0 ? order : compare_batches(pa, pb);
}

static void add_kind(struct ap_agent_row *row, const struct ap_kind_count *sums)
{
    unsigned k = 0;

    while (k < row->kind_cnt && row->kinds[k].kind != sums->kind)
        k++;
    if (k == AP_CAPTURE_PROFILES_MAX)
        return;
    if (k == row->kind_cnt)
        row->kinds[row->kind_cnt++] = (struct ap_kind_count){.kind = sums->kind};
    row->kinds[k].events += sums->events;
    row->kinds[k].value += sums->value;
    row->kinds[k].lost += sums->lost;
}

static int compare_kinds(const void *pa, const void *pb)
{
    const struct ap_kind_count *a = pa, *b = pb;

    return (int)a->kind - (int)b->kind;
}

/* An agent's row from its batches, newest first. */
static int write_agent(const struct ap_mem_batch *const *batches, size_t cnt, struct ap_agent_row *row)
{
    const struct ap_mem_batch *newest = batches[0];

    *row = (struct ap_agent_row){
        .agent_id = strdup(newest->agent_id),
        .info = newest->info,
        .epoch = newest->epoch,
        .sequence = newest->sequence,
        .first_ns = newest->start_ns,
        .batches = cnt,
        .spool_bytes = newest->spool_bytes,
        .spool_dropped_batches = newest->spool_dropped_batches,
        .spool_dropped_events = newest->spool_dropped_events,
        .left_out_cnt = newest->left_out_cnt,
    };
    if (newest->left_out_cnt > 0)
        memcpy(row->left_out, newest->left_out, newest->left_out_cnt * sizeof(*row->left_out));
    for (size_t i = 0; i < cnt; i++) {
        if (batches[i]->start_ns < row->first_ns)
            row->first_ns = batches[i]->start_ns;
        if (batches[i]->start_ns + batches[i]->duration_ns > row->last_ns)
            row->last_ns = batches[i]->start_ns + batches[i]->duration_ns;
        for (unsigned k = 0; k < batches[i]->kind_cnt; k++)
            add_kind(row, &batches[i]->kinds[k].sums);
    }
    qsort(row->kinds, row->kind_cnt, sizeof(*row->kinds), compare_kinds);
    if (row->agent_id == NULL)
        return -ENOMEM;
    return copy_labels(newest->series, false, &row->labels, &row->label_cnt);
}

int ap_memory_agents(void *engine, const struct ap_storage_scope *scope, struct ap_agents_answer *ret_answer,
                     struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct ap_agents_answer answer = {0};
    const struct ap_mem_batch **batches = NULL;
    size_t cnt = 0, first = 0;
    int r;

    pthread_rwlock_rdlock(&memory->lock);
    r = matching_batches(memory, scope, &batches, &cnt);
    if (r == 0 && cnt > 1)
        qsort((void *)batches, cnt, sizeof(*batches), compare_by_agent);
    if (r == 0)
        answer.rows = calloc(cnt + 1, sizeof(*answer.rows));
    if (answer.rows == NULL)
        r = -ENOMEM;
    for (size_t i = 1; i <= cnt && r == 0; i++) {
        if (i < cnt && strcmp(batches[i]->agent_id, batches[first]->agent_id) == 0)
            continue;
        r = write_agent(&batches[first], i - first, &answer.rows[answer.row_cnt]);
        answer.row_cnt++;
        first = i;
    }
    pthread_rwlock_unlock(&memory->lock);
    free((void *)batches);
    if (r != 0) {
        ap_agents_answer_done(&answer);
        return no_memory(err);
    }
    *ret_answer = answer;
    return 0;
}
