/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Keeps batches in memory, the newest that fit. For tests, and when nothing else is there. */
#include "storage/memory.h"

#include "core/strings.h"
#include "model/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_DEFAULT_SZ ((size_t)256 << 20)
/* Distinct values of a label that one timeline looks at, in bytes. */
#define GROUPS_SZ ((size_t)64 << 20)
#define OTHER     "(other)"

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

/* ---- Life ---- */

static void memory_close(void *engine)
{
    struct ap_memory *memory = engine;

    for (size_t i = 0; i < memory->cnt; i++)
        ap_mem_batch_free(&memory->dict, memory->batches[(memory->first + i) & (memory->cap - 1)]);
    free((void *)memory->batches);
    ap_map_done(&memory->keys);
    ap_dict_done(&memory->dict);
    pthread_rwlock_destroy(&memory->lock);
    free(memory);
}

/* Commits must not wait for ever while questions come one upon another. */
static int init_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    int r = pthread_rwlockattr_init(&attr);

    if (r == 0)
        r = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    if (r == 0)
        r = pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    return -r;
}

static int memory_open(const struct ap_storage_opts *opts, void **ret_engine, struct ap_error *err)
{
    struct ap_memory *memory = calloc(1, sizeof(*memory));

    if (memory == NULL)
        return no_memory(err);
    if (init_lock(&memory->lock) != 0) {
        free(memory);
        return no_memory(err);
    }
    ap_dict_init(&memory->dict);
    ap_map_init(&memory->keys, SIZE_MAX);
    memory->max_sz = opts->memory_sz != 0 ? opts->memory_sz : MEMORY_DEFAULT_SZ;
    *ret_engine = memory;
    return 0;
}

static int memory_ready(void *engine, struct ap_error *err)
{
    (void)engine;
    (void)err;
    return 0;
}

static void memory_stats(void *engine, struct ap_storage_stats *stats)
{
    struct ap_memory *memory = engine;

    pthread_rwlock_rdlock(&memory->lock);
    stats->dropped_batches = memory->dropped;
    stats->sample_rows = memory->sample_rows;
    stats->disk_bytes = 0;
    pthread_rwlock_unlock(&memory->lock);
}

/* ---- Commit ---- */

static int make_place(struct ap_memory *memory)
{
    size_t cap = memory->cap == 0 ? 64 : memory->cap * 2;
    struct ap_mem_batch **batches;

    if (memory->cnt < memory->cap)
        return 0;
    batches = calloc(cap, sizeof(*batches));
    if (batches == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < memory->cnt; i++)
        batches[i] = memory->batches[(memory->first + i) & (memory->cap - 1)];
    free((void *)memory->batches);
    memory->batches = batches;
    memory->cap = cap;
    memory->first = 0;
    return 0;
}

static int add(struct ap_memory *memory, const struct ap_rows *rows)
{
    struct ap_mem_batch *batch;

    if (make_place(memory) != 0)
        return -ENOMEM;
    batch = ap_mem_batch_new(&memory->dict, rows);
    if (batch == NULL)
        return -ENOMEM;
    if (ap_map_put(&memory->keys, batch->key, batch->key_len, batch) != 0) {
        ap_mem_batch_free(&memory->dict, batch);
        return -ENOMEM;
    }
    memory->batches[(memory->first + memory->cnt++) & (memory->cap - 1)] = batch;
    memory->batches_sz += batch->sz;
    memory->sample_rows += batch->sample_cnt;
    return 0;
}

static void drop_oldest(struct ap_memory *memory)
{
    struct ap_mem_batch *batch = memory->batches[memory->first];

    memory->first = (memory->first + 1) & (memory->cap - 1);
    memory->cnt--;
    memory->dropped++;
    memory->batches_sz -= batch->sz;
    memory->sample_rows -= batch->sample_cnt;
    ap_map_remove(&memory->keys, batch->key, batch->key_len);
    ap_mem_batch_free(&memory->dict, batch);
}

static int memory_commit(void *engine, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate,
                         struct ap_error *err)
{
    struct ap_memory *memory = engine;
    int r = 0;

    pthread_rwlock_wrlock(&memory->lock);
    for (size_t i = 0; i < cnt && r == 0; i++) {
        uint8_t key[AP_MEM_KEY_SZ];
        size_t len = ap_mem_key(rows[i]->push, key);

        ret_duplicate[i] = ap_map_get(&memory->keys, key, len) != NULL;
        if (!ret_duplicate[i])
            r = add(memory, rows[i]);
        while (memory->cnt > 0 && memory->batches_sz + memory->dict.sz > memory->max_sz)
            drop_oldest(memory);
    }
    pthread_rwlock_unlock(&memory->lock);
    return r != 0 ? no_memory(err) : 0;
}

/* ---- Scopes ---- */

int ap_mem_scope_init(struct ap_mem_scope *ms, const struct ap_storage_scope *scope)
{
    *ms = (struct ap_mem_scope){.scope = scope, .values = calloc(scope->set_cnt + 1, sizeof(*ms->values))};
    if (ms->values == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < scope->set_cnt; i++)
        ap_map_init(&ms->values[i], AP_VALUE_SET_MAX);
    for (size_t i = 0; i < scope->set_cnt; i++) {
        for (size_t v = 0; v < scope->sets[i].value_cnt; v++) {
            const char *value = scope->sets[i].values[v];

            if (ap_map_put(&ms->values[i], value, strlen(value), (void *)(uintptr_t)value) != 0) {
                ap_mem_scope_done(ms);
                return -ENOMEM;
            }
        }
    }
    return 0;
}

void ap_mem_scope_done(struct ap_mem_scope *ms)
{
    for (size_t i = 0; ms->values != NULL && i < ms->scope->set_cnt; i++)
        ap_map_done(&ms->values[i]);
    free(ms->values);
    *ms = (struct ap_mem_scope){0};
}

static const char *label_of(const struct ap_dict_series *series, const char *name)
{
    for (uint32_t i = 0; i < series->cnt; i++)
        if (strcmp(series->labels[i].name, name) == 0)
            return series->labels[i].value;
    return "";
}

bool ap_mem_scope_matches(const struct ap_mem_scope *ms, const struct ap_dict_series *series, bool batch_only)
{
    for (size_t i = 0; i < ms->scope->set_cnt; i++) {
        const struct ap_value_set *set = &ms->scope->sets[i];
        const char *value;

        if (batch_only && ap_storage_label_of_process(set->label))
            continue;
        value = label_of(series, set->label);
        if ((ap_map_get(&ms->values[i], value, strlen(value)) != NULL) == set->negative)
            return false;
    }
    return true;
}

int ap_mem_each_sample(const struct ap_memory *memory, const struct ap_mem_scope *ms, ap_mem_sample_fn fn, void *ctx)
{
    int r = 0;

    for (size_t i = 0; i < memory->cnt && r == 0; i++) {
        const struct ap_mem_batch *batch = ap_memory_batch(memory, i);
        const struct ap_dict_series *series = NULL;
        bool matches = false;

        if (batch->sample_cnt == 0 || batch->last_ns < ms->scope->from_ns || batch->first_ns >= ms->scope->to_ns)
            continue;
        for (size_t s = 0; s < batch->sample_cnt && r == 0; s++) {
            const struct ap_mem_sample *sample = &batch->samples[s];

            if (!ap_mem_scope_kind(ms, sample->kind) || !ap_mem_scope_time(ms, sample->t_ns))
                continue;
            if (sample->series != series) { /* samples of one series stand together */
                series = sample->series;
                matches = ap_mem_scope_matches(ms, series, false);
            }
            if (matches)
                r = fn(ctx, sample);
        }
    }
    return r;
}

/* ---- Sums by stack ---- */

struct sum {
    uint64_t stack, count, value;
};

struct stack_sums {
    struct ap_table table;
    struct sum *rows;
    size_t cnt, cap;
};

static int add_stack(void *ctx, const struct ap_mem_sample *sample)
{
    struct stack_sums *sums = ctx;
    uint64_t hash = ap_table_mix(sample->stack);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&sums->table, hash, &pos)) < sums->cnt) {
        if (sums->rows[i].stack != sample->stack)
            continue;
        sums->rows[i].count += sample->count;
        sums->rows[i].value += sample->value;
        return 0;
    }
    if (sums->cnt == AP_STACK_SUMS_MAX)
        return -E2BIG;
    if (sums->cnt == sums->cap) {
        size_t cap = sums->cap == 0 ? 1024 : sums->cap * 2;
        struct sum *rows = reallocarray(sums->rows, cap, sizeof(*rows));

        if (rows == NULL)
            return -ENOMEM;
        sums->rows = rows;
        sums->cap = cap;
    }
    if (ap_table_reserve(&sums->table) != 0)
        return -ENOMEM;
    ap_table_put(&sums->table, hash, (uint32_t)sums->cnt);
    sums->rows[sums->cnt++] = (struct sum){.stack = sample->stack, .count = sample->count, .value = sample->value};
    return 0;
}

static int compare_sums(const void *pa, const void *pb)
{
    const struct sum *a = pa, *b = pb;

    return a->stack < b->stack ? -1 : a->stack > b->stack;
}

static int write_sums(struct stack_sums *sums, struct ap_stack_sums *ret_sums)
{
    struct ap_stack_sums result = {
        .stacks = calloc(sums->cnt + 1, sizeof(uint64_t)),
        .counts = calloc(sums->cnt + 1, sizeof(uint64_t)),
        .values = calloc(sums->cnt + 1, sizeof(uint64_t)),
        .source = "memory",
    };

    if (result.stacks == NULL || result.counts == NULL || result.values == NULL) {
        ap_stack_sums_done(&result);
        return -ENOMEM;
    }
    if (sums->cnt > 1)
        qsort(sums->rows, sums->cnt, sizeof(*sums->rows), compare_sums);
    for (size_t i = 0; i < sums->cnt; i++) {
        result.stacks[i] = sums->rows[i].stack;
        result.counts[i] = sums->rows[i].count;
        result.values[i] = sums->rows[i].value;
    }
    result.cnt = sums->cnt;
    *ret_sums = result;
    return 0;
}

static int memory_stacks(void *engine, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                         struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct stack_sums sums = {0};
    struct ap_mem_scope ms;
    int r = ap_mem_scope_init(&ms, scope);

    if (r != 0)
        return no_memory(err);
    pthread_rwlock_rdlock(&memory->lock);
    r = ap_mem_each_sample(memory, &ms, add_stack, &sums);
    pthread_rwlock_unlock(&memory->lock);
    if (r == 0)
        r = write_sums(&sums, ret_sums);
    ap_mem_scope_done(&ms);
    ap_table_done(&sums.table);
    free(sums.rows);
    if (r == -E2BIG)
        return ap_error_set(err, r, "more than %u different stacks: narrow the time or the labels", AP_STACK_SUMS_MAX);
    return r != 0 ? no_memory(err) : 0;
}

/* ---- Stacks ---- */

/* Places of what was copied into a profile, by address in the dictionary. */
struct copier {
    struct ap_profile *profile;
    struct ap_table frames;
    struct place {
        const struct ap_dict_frame *frame;
        uint32_t index;
    } * places;
    size_t cnt, cap;
};

static int intern(struct ap_profile *profile, const char *text, uint32_t *ret_id)
{
    return ap_strings_add(profile->strings, text, strlen(text), ret_id);
}

static int add_frame(struct ap_profile *profile, const struct ap_row_frame *row, uint32_t *ret_index)
{
    struct ap_mapping mapping = {.build_id_len = row->build_id_len};
    struct ap_frame frame = {
        .kind = row->kind,
        .inlined = (row->flags & AP_ROW_INLINED) != 0,
        .waker = (row->flags & AP_ROW_WAKER) != 0,
        .line = row->line,
        .offset = row->offset,
    };
    int r = intern(profile, row->module, &mapping.path);

    memcpy(mapping.build_id, row->build_id, row->build_id_len);
    if (r == 0 && (mapping.path != 0 || mapping.build_id_len != 0))
        r = ap_profile_add_mapping(profile, &mapping, &frame.mapping);
    if (r == 0)
        r = intern(profile, row->function, &frame.function);
    if (r == 0)
        r = intern(profile, row->file, &frame.file);
    return r != 0 ? r : ap_profile_add_frame(profile, &frame, ret_index);
}

static int copy_frame(struct copier *copier, const struct ap_dict_frame *frame, uint32_t *ret_index)
{
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    while ((i = ap_table_next(&copier->frames, frame->row.hash, &pos)) < copier->cnt) {
        if (copier->places[i].frame == frame) {
            *ret_index = copier->places[i].index;
            return 0;
        }
    }
    if (copier->cnt == copier->cap) {
        size_t cap = copier->cap == 0 ? 1024 : copier->cap * 2;
        struct place *places = reallocarray(copier->places, cap, sizeof(*places));

        if (places == NULL)
            return -ENOMEM;
        copier->places = places;
        copier->cap = cap;
    }
    r = ap_table_reserve(&copier->frames);
    if (r == 0)
        r = add_frame(copier->profile, &frame->row, ret_index);
    if (r != 0)
        return r;
    ap_table_put(&copier->frames, frame->row.hash, (uint32_t)copier->cnt);
    copier->places[copier->cnt++] = (struct place){.frame = frame, .index = *ret_index};
    return 0;
}

/* The outermost frame is the thread name, which becomes the series. */
static int copy_stack(struct copier *copier, const struct ap_dict_stack *stack, uint32_t *ret_stack,
                      uint32_t *ret_series)
{
    uint32_t frames[AP_STACK_FRAMES_MAX];
    struct ap_series series = {0};
    uint32_t cnt = stack->cnt - 1;
    int r = 0;

    for (uint32_t i = 0; i < cnt && r == 0; i++)
        r = copy_frame(copier, stack->frames[i], &frames[i]);
    if (r == 0)
        r = intern(copier->profile, stack->frames[cnt]->row.function, &series.comm);
    if (r == 0)
        r = ap_profile_add_series(copier->profile, &series, ret_series);
    return r != 0 ? r : ap_profile_add_stack(copier->profile, frames, cnt, stack->truncated, ret_stack);
}

/* Under the lock. */
static int load_locked(const struct ap_memory *memory, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                       uint32_t *ret_stack, uint32_t *ret_series)
{
    struct copier copier = {.profile = profile};
    int r = 0;

    for (size_t i = 0; i < cnt && r == 0; i++) {
        const struct ap_dict_stack *stack = ap_dict_find_stack(&memory->dict, stacks[i]);

        ret_stack[i] = ret_series[i] = UINT32_MAX;
        if (stack != NULL && stack->cnt > 1)
            r = copy_stack(&copier, stack, &ret_stack[i], &ret_series[i]);
    }
    ap_table_done(&copier.frames);
    free(copier.places);
    return r;
}

static int load_error(struct ap_error *err, int r)
{
    if (r == -ENOSPC)
        return ap_error_set(err, -E2BIG, "too many stacks for one answer: narrow the time or the labels");
    return r != 0 ? no_memory(err) : 0;
}

static int memory_load_stacks(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                              uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    struct ap_memory *memory = engine;
    int r;

    pthread_rwlock_rdlock(&memory->lock);
    r = load_locked(memory, stacks, cnt, profile, ret_stack, ret_series);
    pthread_rwlock_unlock(&memory->lock);
    return load_error(err, r);
}

static int load_for_merge(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                          uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    return load_error(err, load_locked(engine, stacks, cnt, profile, ret_stack, ret_series));
}

/* ---- Timeline ---- */

struct bucket {
    uint64_t t_ns, count, value;
    uint32_t group;
};

struct timeline {
    uint64_t step_ns;
    const char *label;
    struct ap_strings *names; /* values of the label */
    uint64_t *sums, *counts;  /* by name */
    size_t sum_cap;
    uint32_t *group_of; /* by name, once groups are chosen */
    struct ap_table table;
    struct bucket *buckets;
    size_t bucket_cnt, bucket_cap;
};

static int name_of(struct timeline *timeline, const struct ap_mem_sample *sample, uint32_t *ret_name)
{
    const char *value = timeline->label != NULL ? label_of(sample->series, timeline->label) : "";
    int r = ap_strings_add(timeline->names, value, strlen(value), ret_name);

    return r == -ENOSPC ? -E2BIG : r;
}

static int add_group(void *ctx, const struct ap_mem_sample *sample)
{
    struct timeline *timeline = ctx;
    uint32_t name;
    int r = name_of(timeline, sample, &name);

    if (r != 0)
        return r;
    if (name >= timeline->sum_cap) {
        size_t cap = timeline->sum_cap == 0 ? 64 : timeline->sum_cap * 2;
        uint64_t *sums = reallocarray(timeline->sums, cap, sizeof(*sums));

        if (sums == NULL)
            return -ENOMEM;
        timeline->sums = sums;
        uint64_t *counts = reallocarray(timeline->counts, cap, sizeof(*counts));
        if (counts == NULL)
            return -ENOMEM;
        timeline->counts = counts;
        memset(sums + timeline->sum_cap, 0, (cap - timeline->sum_cap) * sizeof(*sums));
        memset(counts + timeline->sum_cap, 0, (cap - timeline->sum_cap) * sizeof(*counts));
        timeline->sum_cap = cap;
    }
    timeline->sums[name] += sample->value;
    timeline->counts[name] += sample->count;
    return 0;
}

static int add_bucket(void *ctx, const struct ap_mem_sample *sample)
{
    struct timeline *timeline = ctx;
    uint64_t t_ns = sample->t_ns / timeline->step_ns * timeline->step_ns, hash;
    uint32_t name, i, group;
    size_t pos = SIZE_MAX;
    int r = name_of(timeline, sample, &name);

    if (r != 0)
        return r;
    group = timeline->group_of[name];
    hash = ap_table_mix(ap_table_mix(t_ns) + group);
    while ((i = ap_table_next(&timeline->table, hash, &pos)) < timeline->bucket_cnt) {
        struct bucket *bucket = &timeline->buckets[i];

        if (bucket->t_ns != t_ns || bucket->group != group)
            continue;
        bucket->count += sample->count;
        bucket->value += sample->value;
        return 0;
    }
    if (timeline->bucket_cnt == AP_POINTS_MAX)
        return -E2BIG;
    if (timeline->bucket_cnt == timeline->bucket_cap) {
        size_t cap = timeline->bucket_cap == 0 ? 1024 : timeline->bucket_cap * 2;
        struct bucket *buckets = reallocarray(timeline->buckets, cap, sizeof(*buckets));

        if (buckets == NULL)
            return -ENOMEM;
        timeline->buckets = buckets;
        timeline->bucket_cap = cap;
    }
    if (ap_table_reserve(&timeline->table) != 0)
        return -ENOMEM;
    ap_table_put(&timeline->table, hash, (uint32_t)timeline->bucket_cnt);
    timeline->buckets[timeline->bucket_cnt++] =
        (struct bucket){.t_ns = t_ns, .group = group, .count = sample->count, .value = sample->value};
    return 0;
}

static int compare_groups(const void *pa, const void *pb, void *ctx)
{
    const struct timeline *timeline = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

    if (timeline->sums[a] != timeline->sums[b])
        return timeline->sums[a] > timeline->sums[b] ? -1 : 1;
    if (timeline->counts[a] != timeline->counts[b])
        return timeline->counts[a] > timeline->counts[b] ? -1 : 1;
    return strcmp(ap_strings_get(timeline->names, a), ap_strings_get(timeline->names, b));
}

/* Names the groups of the answer, largest first, and tells each name's. */
static int choose_groups(struct timeline *timeline, size_t group_max, struct ap_points *points)
{
    size_t cnt = ap_strings_count(timeline->names), kept = 0;
    uint32_t *order = calloc(cnt, sizeof(*order));

    timeline->group_of = calloc(cnt, sizeof(*timeline->group_of));
    if (order == NULL || timeline->group_of == NULL) {
        free(order);
        return -ENOMEM;
    }
    /* The name "" is always in the table, but perhaps no sample has it. */
    for (uint32_t i = 0; i < cnt && i < timeline->sum_cap; i++)
        if (timeline->counts[i] > 0 || timeline->sums[i] > 0)
            order[kept++] = i;
    if (kept > 1)
        qsort_r(order, kept, sizeof(*order), compare_groups, timeline);
    points->groups = calloc(kept + 1, sizeof(*points->groups));
    for (size_t i = 0; points->groups != NULL && i < kept && i <= group_max; i++) {
        points->groups[i] = strdup(i < group_max ? ap_strings_get(timeline->names, order[i]) : OTHER);
        if (points->groups[i] == NULL)
            break;
        points->group_cnt++;
    }
    for (size_t i = 0; i < kept; i++)
        timeline->group_of[order[i]] = (uint32_t)(i < group_max ? i : group_max);
    free(order);
    return points->groups != NULL && points->group_cnt == (kept <= group_max ? kept : group_max + 1) ? 0 : -ENOMEM;
}

static int compare_buckets(const void *pa, const void *pb)
{
    const struct bucket *a = pa, *b = pb;

    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    return a->t_ns < b->t_ns ? -1 : a->t_ns > b->t_ns;
}

static int write_points(struct timeline *timeline, struct ap_points *points)
{
    points->points = calloc(timeline->bucket_cnt + 1, sizeof(*points->points));
    if (points->points == NULL)
        return -ENOMEM;
    if (timeline->bucket_cnt > 1)
        qsort(timeline->buckets, timeline->bucket_cnt, sizeof(*timeline->buckets), compare_buckets);
    for (size_t i = 0; i < timeline->bucket_cnt; i++) {
        const struct bucket *from = &timeline->buckets[i];

        points->points[i] =
            (struct ap_point){.t_ns = from->t_ns, .group = from->group, .count = from->count, .value = from->value};
    }
    points->point_cnt = timeline->bucket_cnt;
    return 0;
}

static int memory_timeline(void *engine, const struct ap_storage_scope *scope, uint64_t step_ns, const char *label,
                           size_t group_max, struct ap_points *ret_points, struct ap_error *err)
{
    struct ap_memory *memory = engine;
    struct timeline timeline = {.step_ns = step_ns, .label = label, .names = ap_strings_new(GROUPS_SZ)};
    struct ap_points points = {0};
    struct ap_mem_scope ms = {0};
    int r = timeline.names != NULL ? ap_mem_scope_init(&ms, scope) : -ENOMEM;

    if (group_max == 0)
        group_max = 1;
    if (r == 0) {
        pthread_rwlock_rdlock(&memory->lock);
        r = ap_mem_each_sample(memory, &ms, add_group, &timeline);
        if (r == 0)
            r = choose_groups(&timeline, group_max, &points);
        if (r == 0)
            r = ap_mem_each_sample(memory, &ms, add_bucket, &timeline);
        pthread_rwlock_unlock(&memory->lock);
    }
    if (r == 0)
        r = write_points(&timeline, &points);
    ap_mem_scope_done(&ms);
    ap_strings_free(timeline.names);
    ap_table_done(&timeline.table);
    free(timeline.sums);
    free(timeline.counts);
    free(timeline.group_of);
    free(timeline.buckets);
    if (r == 0) {
        *ret_points = points;
        return 0;
    }
    ap_points_done(&points);
    if (r == -E2BIG)
        return ap_error_set(err, r, "more than %u points: take longer steps, or narrow the time or the labels",
                            AP_POINTS_MAX);
    return no_memory(err);
}

/* ---- Tables ---- */

static int merge_batch(struct ap_merge *merge, const struct ap_mem_batch *batch, const struct ap_mem_scope *ms,
                       uint8_t kind)
{
    int r = 0;

    for (size_t i = 0; kind == AP_KIND_LOCK && r == 0 && i < batch->lock_cnt; i++)
        if (ap_mem_scope_matches(ms, batch->locks[i].series, false))
            r = ap_merge_lock(merge, &batch->locks[i].row);
    for (size_t i = 0; kind == AP_KIND_SYSCALL && r == 0 && i < batch->syscall_cnt; i++)
        if (ap_mem_scope_matches(ms, batch->syscalls[i].series, false))
            r = ap_merge_syscall(merge, &batch->syscalls[i].row);
    return r;
}

static int merge_tables(struct ap_memory *memory, const struct ap_storage_scope *scope, uint8_t kind,
                        struct ap_profile **ret_profile, struct ap_error *err)
{
    struct ap_merge *merge = ap_merge_new(kind);
    struct ap_mem_scope ms = {0};
    int r = merge != NULL ? ap_mem_scope_init(&ms, scope) : -ENOMEM;

    if (r == 0) {
        pthread_rwlock_rdlock(&memory->lock);
        for (size_t i = 0; i < memory->cnt && r == 0; i++)
            if (ap_mem_scope_time(&ms, ap_memory_batch(memory, i)->start_ns))
                r = merge_batch(merge, ap_memory_batch(memory, i), &ms, kind);
        if (r != 0)
            no_memory(err);
        else
            r = ap_merge_finish(merge, load_for_merge, memory, ret_profile, err);
        pthread_rwlock_unlock(&memory->lock);
    } else {
        no_memory(err);
    }
    ap_mem_scope_done(&ms);
    ap_merge_free(merge);
    return r;
}

static int memory_locks(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                        struct ap_error *err)
{
    return merge_tables(engine, scope, AP_KIND_LOCK, ret_profile, err);
}

static int memory_syscalls(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                           struct ap_error *err)
{
    return merge_tables(engine, scope, AP_KIND_SYSCALL, ret_profile, err);
}

const struct ap_storage_ops ap_storage_memory_ops = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .ready = memory_ready,
    .commit = memory_commit,
    .stacks = memory_stacks,
    .load_stacks = memory_load_stacks,
    .timeline = memory_timeline,
    .labels = ap_memory_labels,
    .label_values = ap_memory_label_values,
    .series = ap_memory_series,
    .locks = memory_locks,
    .syscalls = memory_syscalls,
    .account = ap_memory_account,
    .batches = ap_memory_batches,
    .agents = ap_memory_agents,
    .stats = memory_stats,
};
