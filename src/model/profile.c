/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/profile.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "model/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct ap_profile_index {
    struct ap_table mappings, frames, stacks, series, samples;
    uint32_t mapping_cap, frame_cap, stack_cap, stack_frame_cap, series_cap, sample_cap;
    uint64_t total_count, total_value;
    bool unlisted; /* rows were adopted: none of them is in the tables yet */
};

const char *ap_frame_kind_name(uint8_t kind)
{
    switch (kind) {
    case AP_FRAME_NATIVE:
        return "native";
    case AP_FRAME_KERNEL:
        return "kernel";
    case AP_FRAME_JIT:
        return "jit";
    case AP_FRAME_INTERPRETED:
        return "interpreted";
    case AP_FRAME_GPU:
        return "gpu";
    case AP_FRAME_PROCESS:
        return "process";
    case AP_FRAME_MARK:
        return "mark";
    default:
        return "unknown";
    }
}

const char *ap_event_kind_name(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "cpu";
    case AP_KIND_OFFCPU:
        return "offcpu";
    case AP_KIND_LOCK:
        return "lock";
    case AP_KIND_SYSCALL:
        return "syscall";
    case AP_KIND_GPU:
        return "gpu";
    default:
        return "unknown";
    }
}

/* The array with room for `need` rows in total, never more than `max`. NULL with *ret_error set on failure,
 * and the array stays as it was. */
static void *grow(void *rows, uint32_t *cap, uint64_t need, uint32_t max, size_t row_sz, int *ret_error)
{
    uint64_t want = *cap == 0 ? 64 : (uint64_t)*cap * 2;

    if (rows != NULL && need <= *cap)
        return rows;
    if (need > max) {
        *ret_error = -ENOSPC;
        return NULL;
    }
    if (want < need)
        want = need;
    if (want > max)
        want = max;
    void *grown = reallocarray(rows, want, row_sz);
    if (grown == NULL)
        *ret_error = -ENOMEM;
    else
        *cap = (uint32_t)want;
    return grown;
}

struct ap_profile *ap_profile_new(uint8_t kind)
{
    struct ap_profile *profile = calloc(1, sizeof(*profile));
    uint32_t index;

    if (profile == NULL)
        return NULL;
    profile->kind = kind;
    profile->index = calloc(1, sizeof(*profile->index));
    profile->strings = ap_strings_new(AP_PROFILE_STRINGS_SZ);
    if (profile->index == NULL || profile->strings == NULL)
        return ap_profile_free(profile);
    /* Trees need these two names: taken now, a full string table cannot refuse them later. */
    if (ap_strings_id(profile->strings, "all") == 0 || ap_strings_id(profile->strings, "[truncated]") == 0)
        return ap_profile_free(profile);
    if (ap_profile_add_mapping(profile, &(struct ap_mapping){0}, &index) != 0 ||
        ap_profile_add_frame(profile, &(struct ap_frame){0}, &index) != 0)
        return ap_profile_free(profile);
    return profile;
}

static void unlist(struct ap_profile_index *index)
{
    ap_table_done(&index->mappings);
    ap_table_done(&index->frames);
    ap_table_done(&index->stacks);
    ap_table_done(&index->series);
    ap_table_done(&index->samples);
}

struct ap_profile *ap_profile_free(struct ap_profile *profile)
{
    if (profile == NULL)
        return NULL;
    if (profile->index != NULL) {
        unlist(profile->index);
        free(profile->index);
    }
    ap_syscalls_free(profile->syscalls);
    ap_locks_free(profile->locks);
    ap_strings_free(profile->strings);
    free(profile->mappings);
    free(profile->frames);
    free(profile->stacks);
    free(profile->stack_frames);
    free(profile->series);
    free(profile->samples);
    free(profile);
    return NULL;
}

static bool is_string(const struct ap_profile *profile, uint32_t id)
{
    return id < ap_strings_count(profile->strings);
}

static uint64_t mapping_hash(const struct ap_mapping *mapping)
{
    /* Packed by hand: padding inside the struct must not reach the hash. */
    uint64_t key[8] = {mapping->path, mapping->build_id_len, mapping->start, mapping->limit, mapping->file_off};

    memcpy(&key[5], mapping->build_id, mapping->build_id_len);
    return XXH3_64bits(key, sizeof(key));
}

static bool mapping_equal(const struct ap_mapping *a, const struct ap_mapping *b)
{
    return a->path == b->path && a->start == b->start && a->limit == b->limit && a->file_off == b->file_off &&
           a->build_id_len == b->build_id_len && memcmp(a->build_id, b->build_id, a->build_id_len) == 0;
}

/* Index of the equal row that is listed, AP_TABLE_NONE without one; so do the next ones. */
static uint32_t find_mapping(const struct ap_profile *profile, const struct ap_mapping *mapping, uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&profile->index->mappings, hash, &pos)) != AP_TABLE_NONE)
        if (mapping_equal(&profile->mappings[i], mapping))
            break;
    return i;
}

static uint64_t frame_hash(const struct ap_frame *frame)
{
    const uint64_t key[4] = {(uint64_t)frame->function << 32 | (uint64_t)frame->waker << 9 |
                                 (uint64_t)frame->inlined << 8 | frame->kind,
                             (uint64_t)frame->file << 32 | frame->line, frame->mapping, frame->offset};

    return XXH3_64bits(key, sizeof(key));
}

static bool frame_equal(const struct ap_frame *a, const struct ap_frame *b)
{
    return a->offset == b->offset && a->function == b->function && a->mapping == b->mapping && a->line == b->line &&
           a->file == b->file && a->kind == b->kind && a->inlined == b->inlined && a->waker == b->waker;
}

static uint32_t find_frame(const struct ap_profile *profile, const struct ap_frame *frame, uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&profile->index->frames, hash, &pos)) != AP_TABLE_NONE)
        if (frame_equal(&profile->frames[i], frame))
            break;
    return i;
}

static uint64_t stack_hash(const uint32_t *frames, uint32_t cnt, bool truncated)
{
    /* A frame's index stands for its kind, build id, offset and name, so equal indices are equal stacks. */
    XXH128_hash_t wide = XXH3_128bits_withSeed(frames, cnt * sizeof(*frames), truncated);

    return wide.low64 ^ wide.high64;
}

static uint32_t find_stack(const struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, bool truncated,
                           uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&profile->index->stacks, hash, &pos)) != AP_TABLE_NONE) {
        const struct ap_stack *stack = &profile->stacks[i];

        if (stack->frame_cnt == cnt && stack->truncated == truncated &&
            memcmp(&profile->stack_frames[stack->first], frames, cnt * sizeof(*frames)) == 0)
            break;
    }
    return i;
}

static uint64_t series_hash(const struct ap_series *series)
{
    const uint64_t key[2] = {(uint64_t)series->pid << 32 | series->comm,
                             (uint64_t)series->exe << 32 | series->container};

    return XXH3_64bits(key, sizeof(key));
}

static uint32_t find_series(const struct ap_profile *profile, const struct ap_series *series, uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&profile->index->series, hash, &pos)) != AP_TABLE_NONE) {
        const struct ap_series *row = &profile->series[i];

        if (row->pid == series->pid && row->comm == series->comm && row->exe == series->exe &&
            row->container == series->container)
            break;
    }
    return i;
}

static uint64_t sample_hash(uint32_t series, uint32_t stack, uint32_t slot)
{
    return ap_table_mix(ap_table_mix((uint64_t)series << 32 | stack) ^ slot);
}

static uint32_t find_sample(const struct ap_profile *profile, uint32_t series, uint32_t stack, uint32_t slot,
                            uint64_t hash)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&profile->index->samples, hash, &pos)) != AP_TABLE_NONE)
        if (profile->samples[i].series == series && profile->samples[i].stack == stack &&
            profile->samples[i].slot == slot)
            break;
    return i;
}

/* Lists a row unless an equal one is: of equal rows only the first is ever found, and a table of many equal ones would
 * be slow. */
static int list_row(struct ap_table *table, uint32_t found, uint64_t hash, uint32_t index)
{
    int r;

    if (found != AP_TABLE_NONE)
        return 0;
    r = ap_table_reserve(table);
    if (r == 0)
        ap_table_put(table, hash, index);
    return r;
}

static int list_mapping(struct ap_profile *profile, uint32_t i)
{
    uint64_t hash = mapping_hash(&profile->mappings[i]);

    return list_row(&profile->index->mappings, find_mapping(profile, &profile->mappings[i], hash), hash, i);
}

static int list_frame(struct ap_profile *profile, uint32_t i)
{
    uint64_t hash = frame_hash(&profile->frames[i]);

    return list_row(&profile->index->frames, find_frame(profile, &profile->frames[i], hash), hash, i);
}

static int list_stack(struct ap_profile *profile, uint32_t i)
{
    const struct ap_stack *stack = &profile->stacks[i];
    const uint32_t *frames = &profile->stack_frames[stack->first];
    uint64_t hash = stack_hash(frames, stack->frame_cnt, stack->truncated);

    return list_row(&profile->index->stacks, find_stack(profile, frames, stack->frame_cnt, stack->truncated, hash),
                    hash, i);
}

static int list_series(struct ap_profile *profile, uint32_t i)
{
    uint64_t hash = series_hash(&profile->series[i]);

    return list_row(&profile->index->series, find_series(profile, &profile->series[i], hash), hash, i);
}

static int list_sample(struct ap_profile *profile, uint32_t i)
{
    const struct ap_sample *sample = &profile->samples[i];
    uint64_t hash = sample_hash(sample->series, sample->stack, sample->slot);

    return list_row(&profile->index->samples, find_sample(profile, sample->series, sample->stack, sample->slot, hash),
                    hash, i);
}

/* Puts adopted rows into the tables, before the first row is added to them. 0 or -ENOMEM. */
static int list_adopted(struct ap_profile *profile)
{
    int r = 0;

    if (!profile->index->unlisted)
        return 0;
    for (uint32_t i = 0; r == 0 && i < profile->mapping_cnt; i++)
        r = list_mapping(profile, i);
    for (uint32_t i = 0; r == 0 && i < profile->frame_cnt; i++)
        r = list_frame(profile, i);
    for (uint32_t i = 0; r == 0 && i < profile->stack_cnt; i++)
        r = list_stack(profile, i);
    for (uint32_t i = 0; r == 0 && i < profile->series_cnt; i++)
        r = list_series(profile, i);
    for (uint32_t i = 0; r == 0 && i < profile->sample_cnt; i++)
        r = list_sample(profile, i);
    if (r != 0)
        unlist(profile->index);
    profile->index->unlisted = r != 0;
    return r;
}

int ap_profile_add_mapping(struct ap_profile *profile, const struct ap_mapping *mapping, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    uint64_t hash;
    uint32_t i;
    int r;

    if (mapping->build_id_len > AP_BUILD_ID_MAX || !is_string(profile, mapping->path))
        return -EINVAL;
    r = list_adopted(profile);
    if (r != 0)
        return r;
    hash = mapping_hash(mapping);
    i = find_mapping(profile, mapping, hash);
    if (i != AP_TABLE_NONE) {
        *ret_index = i;
        return 0;
    }
    void *rows = grow(profile->mappings, &index->mapping_cap, (uint64_t)profile->mapping_cnt + 1,
                      AP_PROFILE_MAPPINGS_MAX, sizeof(*profile->mappings), &r);
    if (rows == NULL)
        return r;
    profile->mappings = rows;
    r = ap_table_reserve(&index->mappings);
    if (r != 0)
        return r;
    i = profile->mapping_cnt++;
    profile->mappings[i] = *mapping;
    ap_table_put(&index->mappings, hash, i);
    *ret_index = i;
    return 0;
}

int ap_profile_add_frame(struct ap_profile *profile, const struct ap_frame *frame, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    uint64_t hash = frame_hash(frame);
    uint32_t i;
    int r;

    if (!is_string(profile, frame->function) || !is_string(profile, frame->file) ||
        frame->mapping >= profile->mapping_cnt)
        return -EINVAL;
    r = list_adopted(profile);
    if (r != 0)
        return r;
    i = find_frame(profile, frame, hash);
    if (i != AP_TABLE_NONE) {
        *ret_index = i;
        return 0;
    }
    void *rows = grow(profile->frames, &index->frame_cap, (uint64_t)profile->frame_cnt + 1, AP_PROFILE_FRAMES_MAX,
                      sizeof(*profile->frames), &r);
    if (rows == NULL)
        return r;
    profile->frames = rows;
    r = ap_table_reserve(&index->frames);
    if (r != 0)
        return r;
    i = profile->frame_cnt++;
    profile->frames[i] = *frame;
    ap_table_put(&index->frames, hash, i);
    *ret_index = i;
    return 0;
}

/* Appends what is known to be new. */
static int append_stack(struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, bool truncated, uint64_t hash)
{
    struct ap_profile_index *index = profile->index;
    int r;

    void *pool = grow(profile->stack_frames, &index->stack_frame_cap, (uint64_t)profile->stack_frame_cnt + cnt,
                      AP_PROFILE_STACK_FRAMES_MAX, sizeof(*profile->stack_frames), &r);
    if (pool == NULL)
        return r;
    profile->stack_frames = pool;
    void *rows = grow(profile->stacks, &index->stack_cap, (uint64_t)profile->stack_cnt + 1, AP_PROFILE_STACKS_MAX,
                      sizeof(*profile->stacks), &r);
    if (rows == NULL)
        return r;
    profile->stacks = rows;
    r = ap_table_reserve(&index->stacks);
    if (r != 0)
        return r;
    profile->stacks[profile->stack_cnt] =
        (struct ap_stack){.first = profile->stack_frame_cnt, .frame_cnt = cnt, .truncated = truncated};
    memcpy(&profile->stack_frames[profile->stack_frame_cnt], frames, cnt * sizeof(*frames));
    profile->stack_frame_cnt += cnt;
    ap_table_put(&index->stacks, hash, profile->stack_cnt++);
    return 0;
}

int ap_profile_add_stack(struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, bool truncated,
                         uint32_t *ret_index)
{
    uint64_t hash;
    uint32_t i;
    int r;

    if (cnt == 0 || cnt > AP_STACK_FRAMES_MAX)
        return -EINVAL;
    for (i = 0; i < cnt; i++)
        if (frames[i] >= profile->frame_cnt)
            return -EINVAL;
    r = list_adopted(profile);
    if (r != 0)
        return r;
    hash = stack_hash(frames, cnt, truncated);
    i = find_stack(profile, frames, cnt, truncated, hash);
    if (i == AP_TABLE_NONE) {
        i = profile->stack_cnt;
        r = append_stack(profile, frames, cnt, truncated, hash);
    }
    if (r == 0)
        *ret_index = i;
    return r;
}

int ap_profile_add_series(struct ap_profile *profile, const struct ap_series *series, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    uint64_t hash = series_hash(series);
    uint32_t i;
    int r;

    if (!is_string(profile, series->comm) || !is_string(profile, series->exe) || !is_string(profile, series->container))
        return -EINVAL;
    r = list_adopted(profile);
    if (r != 0)
        return r;
    i = find_series(profile, series, hash);
    if (i != AP_TABLE_NONE) {
        *ret_index = i;
        return 0;
    }
    void *rows = grow(profile->series, &index->series_cap, (uint64_t)profile->series_cnt + 1, AP_PROFILE_SERIES_MAX,
                      sizeof(*profile->series), &r);
    if (rows == NULL)
        return r;
    profile->series = rows;
    r = ap_table_reserve(&index->series);
    if (r != 0)
        return r;
    i = profile->series_cnt++;
    profile->series[i] = *series;
    ap_table_put(&index->series, hash, i);
    *ret_index = i;
    return 0;
}

/* Index of the sample of (series, stack, slot), with zero sums when new. */
static int sample_row(struct ap_profile *profile, uint32_t series, uint32_t stack, uint32_t slot, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    uint64_t hash = sample_hash(series, stack, slot);
    uint32_t i;
    int r;

    r = list_adopted(profile);
    if (r != 0)
        return r;
    i = find_sample(profile, series, stack, slot, hash);
    if (i != AP_TABLE_NONE) {
        *ret_index = i;
        return 0;
    }
    void *rows = grow(profile->samples, &index->sample_cap, (uint64_t)profile->sample_cnt + 1, AP_PROFILE_SAMPLES_MAX,
                      sizeof(*profile->samples), &r);
    if (rows == NULL)
        return r;
    profile->samples = rows;
    r = ap_table_reserve(&index->samples);
    if (r != 0)
        return r;
    i = profile->sample_cnt++;
    profile->samples[i] = (struct ap_sample){.series = series, .stack = stack, .slot = slot};
    ap_table_put(&index->samples, hash, i);
    *ret_index = i;
    return 0;
}

int ap_profile_add_sample(struct ap_profile *profile, uint32_t series, uint32_t stack, uint64_t count, uint64_t value)
{
    return ap_profile_add_sample_at(profile, series, stack, 0, count, value);
}

int ap_profile_add_sample_at(struct ap_profile *profile, uint32_t series, uint32_t stack, uint32_t slot, uint64_t count,
                             uint64_t value)
{
    struct ap_profile_index *index = profile->index;
    uint32_t i = 0;
    int r;

    if (series >= profile->series_cnt || stack >= profile->stack_cnt)
        return -EINVAL;
    /* Bounding the sums here spares every reader the overflow: trees, tables and pprof's int64. */
    if (count > AP_PROFILE_TOTAL_MAX - index->total_count || value > AP_PROFILE_TOTAL_MAX - index->total_value)
        return -ENOSPC;
    r = sample_row(profile, series, stack, slot, &i);
    if (r != 0)
        return r;
    profile->samples[i].count += count;
    profile->samples[i].value += value;
    index->total_count += count;
    index->total_value += value;
    return 0;
}

uint32_t ap_stack_marks(const struct ap_profile *profile, const struct ap_stack *stack)
{
    const uint32_t *frames = &profile->stack_frames[stack->first];
    const struct ap_frame *frame;
    uint32_t cnt = 0;

    while (cnt + 1 < stack->frame_cnt) {
        frame = &profile->frames[frames[stack->frame_cnt - 1 - cnt]];
        if (frame->kind != AP_FRAME_MARK || frame->waker)
            break;
        cnt++;
    }
    return cnt;
}

void ap_profile_tables_done(struct ap_profile_tables *tables)
{
    free(tables->mappings);
    free(tables->frames);
    free(tables->stacks);
    free(tables->stack_frames);
    free(tables->series);
    free(tables->samples);
    *tables = (struct ap_profile_tables){0};
}

static int check_bounds(const struct ap_profile_tables *t, struct ap_error *err)
{
    const struct {
        const char *what;
        uint32_t cnt, max;
    } tables[] = {
        {"mappings", t->mapping_cnt, AP_PROFILE_MAPPINGS_MAX},
        {"frames", t->frame_cnt, AP_PROFILE_FRAMES_MAX},
        {"stacks", t->stack_cnt, AP_PROFILE_STACKS_MAX},
        {"frames of stacks", t->stack_frame_cnt, AP_PROFILE_STACK_FRAMES_MAX},
        {"series", t->series_cnt, AP_PROFILE_SERIES_MAX},
        {"samples", t->sample_cnt, AP_PROFILE_SAMPLES_MAX},
    };

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        if (tables[i].cnt > tables[i].max)
            return ap_error_set(err, -ENOSPC, "%u %s: at most %u are taken", tables[i].cnt, tables[i].what,
                                tables[i].max);
    if (t->mapping_cnt == 0 || !mapping_equal(&t->mappings[0], &(struct ap_mapping){0}))
        return ap_error_set(err, -EINVAL, "mapping 0 is not the one that stands for none");
    if (t->frame_cnt == 0 || !frame_equal(&t->frames[0], &(struct ap_frame){0}))
        return ap_error_set(err, -EINVAL, "frame 0 is not the one that stands for none");
    return 0;
}

static int check_frames(const struct ap_profile_tables *t, size_t string_cnt, struct ap_error *err)
{
    for (uint32_t i = 0; i < t->mapping_cnt; i++) {
        if (t->mappings[i].path >= string_cnt)
            return ap_error_set(err, -EINVAL, "mapping %u: there is no string %u", i, t->mappings[i].path);
        if (t->mappings[i].build_id_len > AP_BUILD_ID_MAX)
            return ap_error_set(err, -EINVAL, "mapping %u: a build id of %u bytes", i, t->mappings[i].build_id_len);
    }
    for (uint32_t i = 0; i < t->frame_cnt; i++) {
        const struct ap_frame *frame = &t->frames[i];

        if (frame->function >= string_cnt || frame->file >= string_cnt)
            return ap_error_set(err, -EINVAL, "frame %u: there is no string %u", i,
                                frame->function >= string_cnt ? frame->function : frame->file);
        if (frame->mapping >= t->mapping_cnt)
            return ap_error_set(err, -EINVAL, "frame %u: there is no mapping %u", i, frame->mapping);
    }
    return 0;
}

static int check_stacks(const struct ap_profile_tables *t, size_t string_cnt, struct ap_error *err)
{
    for (uint32_t i = 0; i < t->stack_cnt; i++) {
        const struct ap_stack *stack = &t->stacks[i];

        if (stack->frame_cnt == 0 || stack->frame_cnt > AP_STACK_FRAMES_MAX)
            return ap_error_set(err, -EINVAL, "stack %u: %u frames, not 1 to %u", i, stack->frame_cnt,
                                AP_STACK_FRAMES_MAX);
        if (stack->first > t->stack_frame_cnt || stack->frame_cnt > t->stack_frame_cnt - stack->first)
            return ap_error_set(err, -EINVAL, "stack %u: its frames are not there", i);
    }
    for (uint32_t i = 0; i < t->stack_frame_cnt; i++)
        if (t->stack_frames[i] >= t->frame_cnt)
            return ap_error_set(err, -EINVAL, "frame %u of the stacks: there is no frame %u", i, t->stack_frames[i]);
    for (uint32_t i = 0; i < t->series_cnt; i++) {
        const struct ap_series *series = &t->series[i];

        if (series->comm >= string_cnt || series->exe >= string_cnt || series->container >= string_cnt)
            return ap_error_set(err, -EINVAL, "series %u: there is no such string", i);
    }
    return 0;
}

static int sum_samples(const struct ap_profile_tables *t, uint64_t *ret_count, uint64_t *ret_value,
                       struct ap_error *err)
{
    unsigned __int128 count = 0, value = 0;

    for (uint32_t i = 0; i < t->sample_cnt; i++) {
        const struct ap_sample *sample = &t->samples[i];

        if (sample->series >= t->series_cnt)
            return ap_error_set(err, -EINVAL, "sample %u: there is no series %u", i, sample->series);
        if (sample->stack >= t->stack_cnt)
            return ap_error_set(err, -EINVAL, "sample %u: there is no stack %u", i, sample->stack);
        count += sample->count;
        value += sample->value;
    }
    if (count > AP_PROFILE_TOTAL_MAX || value > AP_PROFILE_TOTAL_MAX)
        return ap_error_set(err, -ENOSPC, "the samples' %s is past 63 bits",
                            count > AP_PROFILE_TOTAL_MAX ? "count" : "value");
    *ret_count = (uint64_t)count;
    *ret_value = (uint64_t)value;
    return 0;
}

int ap_profile_adopt(struct ap_profile *profile, struct ap_profile_tables *tables, struct ap_error *err)
{
    size_t string_cnt = ap_strings_count(profile->strings);
    struct ap_profile_index *index = profile->index;
    uint64_t count = 0, value = 0;
    int r;

    assert(profile->mapping_cnt == 1 && profile->frame_cnt == 1 && profile->stack_cnt == 0 &&
           profile->series_cnt == 0 && profile->sample_cnt == 0);
    r = check_bounds(tables, err);
    if (r == 0)
        r = check_frames(tables, string_cnt, err);
    if (r == 0)
        r = check_stacks(tables, string_cnt, err);
    if (r == 0)
        r = sum_samples(tables, &count, &value, err);
    if (r != 0)
        return r;
    unlist(index);
    free(profile->mappings);
    free(profile->frames);
    profile->mappings = tables->mappings;
    profile->frames = tables->frames;
    profile->stacks = tables->stacks;
    profile->stack_frames = tables->stack_frames;
    profile->series = tables->series;
    profile->samples = tables->samples;
    profile->mapping_cnt = index->mapping_cap = tables->mapping_cnt;
    profile->frame_cnt = index->frame_cap = tables->frame_cnt;
    profile->stack_cnt = index->stack_cap = tables->stack_cnt;
    profile->stack_frame_cnt = index->stack_frame_cap = tables->stack_frame_cnt;
    profile->series_cnt = index->series_cap = tables->series_cnt;
    profile->sample_cnt = index->sample_cap = tables->sample_cnt;
    index->total_count = count;
    index->total_value = value;
    index->unlisted = true;
    *tables = (struct ap_profile_tables){0};
    return 0;
}

const char *ap_profile_str(const struct ap_profile *profile, uint32_t id)
{
    return ap_strings_get(profile->strings, id);
}

uint64_t ap_profile_total_count(const struct ap_profile *profile)
{
    return profile->index->total_count;
}

uint64_t ap_profile_total_value(const struct ap_profile *profile)
{
    return profile->index->total_value;
}
