/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/profile.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "model/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct ap_profile_index {
    struct ap_table mappings, frames, stacks, series, samples;
    uint32_t mapping_cap, frame_cap, stack_cap, stack_frame_cap, series_cap, sample_cap;
    uint64_t total_count, total_value;
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

struct ap_profile *ap_profile_free(struct ap_profile *profile)
{
    if (profile == NULL)
        return NULL;
    if (profile->index != NULL) {
        ap_table_done(&profile->index->mappings);
        ap_table_done(&profile->index->frames);
        ap_table_done(&profile->index->stacks);
        ap_table_done(&profile->index->series);
        ap_table_done(&profile->index->samples);
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

static bool mapping_equal(const struct ap_mapping *a, const struct ap_mapping *b)
{
    return a->path == b->path && a->start == b->start && a->limit == b->limit && a->file_off == b->file_off &&
           a->build_id_len == b->build_id_len && memcmp(a->build_id, b->build_id, a->build_id_len) == 0;
}

int ap_profile_add_mapping(struct ap_profile *profile, const struct ap_mapping *mapping, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    /* Packed by hand: padding inside the struct must not reach the hash. */
    uint64_t key[8] = {mapping->path, mapping->build_id_len, mapping->start, mapping->limit, mapping->file_off};
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    if (mapping->build_id_len > AP_BUILD_ID_MAX || !is_string(profile, mapping->path))
        return -EINVAL;
    memcpy(&key[5], mapping->build_id, mapping->build_id_len);
    uint64_t hash = XXH3_64bits(key, sizeof(key));
    while ((i = ap_table_next(&index->mappings, hash, &pos)) < profile->mapping_cnt) {
        if (mapping_equal(&profile->mappings[i], mapping)) {
            *ret_index = i;
            return 0;
        }
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

static bool frame_equal(const struct ap_frame *a, const struct ap_frame *b)
{
    return a->offset == b->offset && a->function == b->function && a->mapping == b->mapping && a->line == b->line &&
           a->file == b->file && a->kind == b->kind && a->inlined == b->inlined && a->waker == b->waker;
}

int ap_profile_add_frame(struct ap_profile *profile, const struct ap_frame *frame, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    const uint64_t key[4] = {(uint64_t)frame->function << 32 | (uint64_t)frame->waker << 9 |
                                 (uint64_t)frame->inlined << 8 | frame->kind,
                             (uint64_t)frame->file << 32 | frame->line, frame->mapping, frame->offset};
    uint64_t hash = XXH3_64bits(key, sizeof(key));
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    if (!is_string(profile, frame->function) || !is_string(profile, frame->file) ||
        frame->mapping >= profile->mapping_cnt)
        return -EINVAL;
    while ((i = ap_table_next(&index->frames, hash, &pos)) < profile->frame_cnt) {
        if (frame_equal(&profile->frames[i], frame)) {
            *ret_index = i;
            return 0;
        }
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

int ap_profile_add_stack(struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, bool truncated,
                         uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    if (cnt == 0 || cnt > AP_STACK_FRAMES_MAX)
        return -EINVAL;
    for (i = 0; i < cnt; i++)
        if (frames[i] >= profile->frame_cnt)
            return -EINVAL;
    /* A frame's index stands for its kind, build id, offset and name, so equal indices are equal stacks. */
    XXH128_hash_t wide = XXH3_128bits_withSeed(frames, cnt * sizeof(*frames), truncated);
    uint64_t hash = wide.low64 ^ wide.high64;
    while ((i = ap_table_next(&index->stacks, hash, &pos)) < profile->stack_cnt) {
        const struct ap_stack *stack = &profile->stacks[i];

        if (stack->frame_cnt == cnt && stack->truncated == truncated &&
            memcmp(&profile->stack_frames[stack->first], frames, cnt * sizeof(*frames)) == 0) {
            *ret_index = i;
            return 0;
        }
    }
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
    i = profile->stack_cnt++;
    profile->stacks[i] = (struct ap_stack){.first = profile->stack_frame_cnt, .frame_cnt = cnt, .truncated = truncated};
    memcpy(&profile->stack_frames[profile->stack_frame_cnt], frames, cnt * sizeof(*frames));
    profile->stack_frame_cnt += cnt;
    ap_table_put(&index->stacks, hash, i);
    *ret_index = i;
    return 0;
}

int ap_profile_add_series(struct ap_profile *profile, const struct ap_series *series, uint32_t *ret_index)
{
    struct ap_profile_index *index = profile->index;
    const uint64_t key[2] = {(uint64_t)series->pid << 32 | series->comm,
                             (uint64_t)series->exe << 32 | series->container};
    uint64_t hash = XXH3_64bits(key, sizeof(key));
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    if (!is_string(profile, series->comm) || !is_string(profile, series->exe) || !is_string(profile, series->container))
        return -EINVAL;
    while ((i = ap_table_next(&index->series, hash, &pos)) < profile->series_cnt) {
        const struct ap_series *row = &profile->series[i];

        if (row->pid == series->pid && row->comm == series->comm && row->exe == series->exe &&
            row->container == series->container) {
            *ret_index = i;
            return 0;
        }
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
    uint64_t hash = ap_table_mix(ap_table_mix((uint64_t)series << 32 | stack) ^ slot);
    size_t pos = SIZE_MAX;
    uint32_t i;
    int r;

    while ((i = ap_table_next(&index->samples, hash, &pos)) < profile->sample_cnt) {
        if (profile->samples[i].series == series && profile->samples[i].stack == stack &&
            profile->samples[i].slot == slot) {
            *ret_index = i;
            return 0;
        }
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
