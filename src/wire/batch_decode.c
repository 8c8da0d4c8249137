/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/batch.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA 1

/* Frame flags, as the .proto file has them. */
#define FRAME_INLINED 1u
#define FRAME_WAKER   2u

/* What the rows of one profile are made with. */
struct reader {
    struct ap_profile *profile;
    struct ap_batch_strings strings;
    struct ap_profile_tables tables;
    struct ap_error *err;
};

/* Rows for a column of `cnt` elements; NULL for none, or without memory. */
static void *new_rows(size_t cnt, size_t size)
{
    return cnt != 0 ? calloc(cnt, size) : NULL;
}

static int no_memory(struct ap_error *err, const char *what, size_t cnt)
{
    return ap_error_errno(err, -ENOMEM, "%zu %s", cnt, what);
}

/* True when the `n` columns have the same length, at most `max`; says so otherwise. */
static bool columns(const struct reader *in, const char *what, size_t max, const size_t *lengths, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (lengths[i] != lengths[0]) {
            ap_error_set(in->err, -EINVAL, "%s: columns of %zu and %zu rows", what, lengths[0], lengths[i]);
            return false;
        }
    }
    if (lengths[0] > max) {
        ap_error_set(in->err, -E2BIG, "%s: %zu rows, at most %zu are taken", what, lengths[0], max);
        return false;
    }
    return true;
}

#define COLUMNS(in, what, max, ...)                                                                                    \
    columns(in, what, max, (const size_t[]){__VA_ARGS__}, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t))

/* Ids of the profile for what a message names by index, in place. */
static int map_strings(const struct reader *in, const char *what, uint32_t *indices, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        if (indices[i] >= in->strings.cnt)
            return ap_error_set(in->err, -EINVAL, "%s %zu: there is no string %u", what, i, indices[i]);
        indices[i] = in->strings.ids[indices[i]];
    }
    return 0;
}

static int get_strings(struct reader *in, const Aperture__V1__Profile *from, struct ap_arena *arena)
{
    size_t cnt = from->n_strings;
    uint32_t *ids;

    if (cnt > UINT32_MAX)
        return ap_error_set(in->err, -E2BIG, "%zu strings", cnt);
    if (cnt > 0 && from->strings[0].len != 0)
        return ap_error_set(in->err, -EINVAL, "string 0 is not empty");
    ids = ap_arena_alloc(arena, (cnt + 1) * sizeof(*ids));
    if (ids == NULL)
        return ap_error_errno(in->err, ap_arena_error(arena), "%zu strings", cnt);
    ids[0] = 0;
    for (size_t i = 1; i < cnt; i++) {
        int r =
            ap_strings_add(in->profile->strings, (const char *)from->strings[i].data, from->strings[i].len, &ids[i]);

        if (r != 0)
            return ap_error_set(in->err, r == -ENOSPC ? -E2BIG : r, "no room for string %zu of %zu", i, cnt);
    }
    in->strings = (struct ap_batch_strings){.ids = ids, .cnt = cnt != 0 ? cnt : 1};
    return 0;
}

static int get_mappings(struct reader *in, const Aperture__V1__Mappings *from)
{
    struct ap_profile_tables *tables = &in->tables;
    size_t cnt = from != NULL ? from->n_path : 0;

    if (from != NULL && !COLUMNS(in, "mappings", AP_PROFILE_MAPPINGS_MAX, cnt, from->n_build_id, from->n_start,
                                 from->n_limit, from->n_file_offset))
        return in->err->code;
    tables->mapping_cnt = cnt != 0 ? (uint32_t)cnt : 1; /* the zero row may be left out with all others */
    tables->mappings = new_rows(tables->mapping_cnt, sizeof(*tables->mappings));
    if (tables->mappings == NULL)
        return no_memory(in->err, "mappings", cnt);
    if (cnt == 0)
        return 0;
    int r = map_strings(in, "mapping", from->path, cnt);
    for (size_t i = 0; r == 0 && i < cnt; i++) {
        struct ap_mapping *row = &tables->mappings[i];
        const ProtobufCBinaryData *build_id = &from->build_id[i];

        if (build_id->len > AP_BUILD_ID_MAX)
            return ap_error_set(in->err, -EINVAL, "mapping %zu: a build id of %zu bytes", i, build_id->len);
        row->path = from->path[i];
        row->start = from->start[i];
        row->limit = from->limit[i];
        row->file_off = from->file_offset[i];
        row->build_id_len = (uint8_t)build_id->len;
        if (build_id->len != 0)
            memcpy(row->build_id, build_id->data, build_id->len);
    }
    return r;
}

static int get_frames(struct reader *in, const Aperture__V1__Frames *from)
{
    struct ap_profile_tables *tables = &in->tables;
    size_t cnt = from != NULL ? from->n_kind : 0;

    if (from != NULL && !COLUMNS(in, "frames", AP_PROFILE_FRAMES_MAX, cnt, from->n_flags, from->n_function,
                                 from->n_file, from->n_line, from->n_mapping, from->n_offset))
        return in->err->code;
    tables->frame_cnt = cnt != 0 ? (uint32_t)cnt : 1;
    tables->frames = new_rows(tables->frame_cnt, sizeof(*tables->frames));
    if (tables->frames == NULL)
        return no_memory(in->err, "frames", cnt);
    if (cnt == 0)
        return 0;
    int r = map_strings(in, "function of frame", from->function, cnt);
    if (r == 0)
        r = map_strings(in, "file of frame", from->file, cnt);
    for (size_t i = 0; r == 0 && i < cnt; i++) {
        if (from->kind[i] > AP_FRAME_MARK || from->flags[i] > (FRAME_INLINED | FRAME_WAKER))
            return ap_error_set(in->err, -EINVAL, "frame %zu: kind %u and flags %u are unknown", i, from->kind[i],
                                from->flags[i]);
        tables->frames[i] = (struct ap_frame){
            .kind = (uint8_t)from->kind[i],
            .inlined = (from->flags[i] & FRAME_INLINED) != 0,
            .waker = (from->flags[i] & FRAME_WAKER) != 0,
            .function = from->function[i],
            .file = from->file[i],
            .line = from->line[i],
            .mapping = from->mapping[i],
            .offset = from->offset[i],
        };
    }
    return r;
}

static int get_stacks(struct reader *in, const Aperture__V1__Stacks *from)
{
    struct ap_profile_tables *tables = &in->tables;
    size_t cnt = from != NULL ? from->n_length : 0, frame_cnt = from != NULL ? from->n_frames : 0, first = 0;

    if (from == NULL)
        return 0;
    if (!COLUMNS(in, "stacks", AP_PROFILE_STACKS_MAX, cnt, from->n_truncated))
        return in->err->code;
    if (frame_cnt > AP_PROFILE_STACK_FRAMES_MAX)
        return ap_error_set(in->err, -E2BIG, "stacks of %zu frames together", frame_cnt);
    tables->stack_cnt = (uint32_t)cnt;
    tables->stack_frame_cnt = (uint32_t)frame_cnt;
    tables->stacks = new_rows(cnt, sizeof(*tables->stacks));
    tables->stack_frames = new_rows(frame_cnt, sizeof(*tables->stack_frames));
    if ((cnt != 0 && tables->stacks == NULL) || (frame_cnt != 0 && tables->stack_frames == NULL))
        return no_memory(in->err, "stacks", cnt);
    for (size_t i = 0; i < cnt; i++) {
        /* How many there may be is for ap_profile_adopt() to say; here the sum must not wrap. */
        if (from->truncated[i] > 1 || from->length[i] > frame_cnt - first)
            return ap_error_set(in->err, -EINVAL, "stack %zu: %u frames, of which %zu are there", i, from->length[i],
                                frame_cnt - first);
        tables->stacks[i] = (struct ap_stack){
            .first = (uint32_t)first, .frame_cnt = from->length[i], .truncated = from->truncated[i] != 0};
        first += from->length[i];
    }
    if (first != frame_cnt)
        return ap_error_set(in->err, -EINVAL, "stacks: %zu frames belong to none", frame_cnt - first);
    if (frame_cnt != 0)
        memcpy(tables->stack_frames, from->frames, frame_cnt * sizeof(*tables->stack_frames));
    return 0;
}

static int get_series(struct reader *in, const Aperture__V1__Series *from)
{
    struct ap_profile_tables *tables = &in->tables;
    size_t cnt = from != NULL ? from->n_pid : 0;

    if (from == NULL)
        return 0;
    if (!COLUMNS(in, "series", AP_PROFILE_SERIES_MAX, cnt, from->n_comm, from->n_exe, from->n_container))
        return in->err->code;
    tables->series_cnt = (uint32_t)cnt;
    tables->series = new_rows(cnt, sizeof(*tables->series));
    if (cnt != 0 && tables->series == NULL)
        return no_memory(in->err, "series", cnt);
    int r = map_strings(in, "comm of series", from->comm, cnt);
    if (r == 0)
        r = map_strings(in, "exe of series", from->exe, cnt);
    if (r == 0)
        r = map_strings(in, "container of series", from->container, cnt);
    for (size_t i = 0; r == 0 && i < cnt; i++)
        tables->series[i] = (struct ap_series){
            .pid = from->pid[i], .comm = from->comm[i], .exe = from->exe[i], .container = from->container[i]};
    return r;
}

static int get_samples(struct reader *in, const Aperture__V1__Samples *from, uint64_t slot_ns)
{
    struct ap_profile_tables *tables = &in->tables;
    size_t cnt = from != NULL ? from->n_series : 0;
    uint64_t slot_max = slot_ns != 0 ? AP_PUSH_DURATION_MAX / slot_ns : 0;
    uint32_t last = 0;

    if (slot_ns > AP_PUSH_DURATION_MAX)
        return ap_error_set(in->err, -EINVAL, "slots of more than an hour");
    if (from == NULL)
        return 0;
    if (!COLUMNS(in, "samples", AP_PROFILE_SAMPLES_MAX, cnt, from->n_stack, from->n_count, from->n_value,
                 slot_ns != 0 ? from->n_slot : cnt))
        return in->err->code;
    if (slot_ns == 0 && from->n_slot != 0)
        return ap_error_set(in->err, -EINVAL, "samples: they have slots without a length");
    tables->sample_cnt = (uint32_t)cnt;
    tables->samples = new_rows(cnt, sizeof(*tables->samples));
    if (cnt != 0 && tables->samples == NULL)
        return no_memory(in->err, "samples", cnt);
    for (size_t i = 0; i < cnt; i++)
        tables->samples[i] = (struct ap_sample){
            .series = from->series[i],
            .stack = from->stack[i],
            .slot = slot_ns != 0 ? from->slot[i] : 0,
            .count = from->count[i],
            .value = from->value[i],
        };
    for (size_t i = 0; i < cnt; i++)
        if (tables->samples[i].slot > last)
            last = tables->samples[i].slot;
    if (last > slot_max)
        return ap_error_set(in->err, -EINVAL, "samples: slot %u is more than an hour after the first", last);
    return 0;
}

static int get_rows(struct reader *in, const Aperture__V1__Profile *from, struct ap_arena *arena)
{
    int r = get_strings(in, from, arena);

    if (r == 0)
        r = get_mappings(in, from->mappings);
    if (r == 0)
        r = get_frames(in, from->frames);
    if (r == 0)
        r = get_stacks(in, from->stacks);
    if (r == 0)
        r = get_series(in, from->series);
    if (r == 0)
        r = get_samples(in, from->samples, from->slot_ns);
    if (r == 0)
        r = ap_profile_adopt(in->profile, &in->tables, in->err);
    ap_profile_tables_done(&in->tables);
    return r == -ENOSPC ? -E2BIG : r;
}

static int get_profile(const Aperture__V1__Profile *from, struct ap_arena *arena, struct ap_push *push,
                       struct ap_error *err)
{
    struct ap_capture *capture = push->capture;
    unsigned place = capture->profile_cnt;
    struct reader in = {.err = err};
    int r;

    if (from->kind < (int)AP_KIND_CPU || from->kind > (int)AP_KIND_GPU)
        return ap_error_set(err, -EINVAL, "there is no kind %d", from->kind);
    for (unsigned i = 0; i < place; i++)
        if (capture->profiles[i]->kind == (uint8_t)from->kind)
            return ap_error_set(err, -EINVAL, "there are two of kind %s", ap_event_kind_name((uint8_t)from->kind));
    in.profile = capture->profiles[place] = ap_profile_new((uint8_t)from->kind);
    if (in.profile == NULL)
        return ap_error_errno(err, -ENOMEM, "a profile");
    capture->profile_cnt++;
    in.profile->start_ns = push->start_ns;
    in.profile->duration_ns = push->duration_ns;
    in.profile->period_ns = from->period_ns;
    in.profile->slot_ns = from->slot_ns;
    if (from->n_locks != 0 && in.profile->kind != AP_KIND_LOCK)
        return ap_error_set(err, -EINVAL, "locks in a profile of kind %s", ap_event_kind_name(in.profile->kind));
    if (from->n_syscalls != 0 && in.profile->kind != AP_KIND_SYSCALL)
        return ap_error_set(err, -EINVAL, "system calls in a profile of kind %s", ap_event_kind_name(in.profile->kind));
    r = get_rows(&in, from, arena);
    if (r == 0 && in.profile->kind == AP_KIND_LOCK)
        r = ap_batch_get_locks(from, &in.strings, in.profile, err);
    if (r == 0 && in.profile->kind == AP_KIND_SYSCALL)
        r = ap_batch_get_syscalls(from, &in.strings, in.profile, err);
    if (r == 0)
        r = ap_batch_get_account(from->account, &capture->accounts[place], err);
    return r;
}

/* The agent's texts have places of fixed size. */
static int get_text(const char *text, char *to, size_t size, const char *what, struct ap_error *err)
{
    if (strlen(text) >= size)
        return ap_error_set(err, -E2BIG, "%s has %zu bytes: at most %zu are taken", what, strlen(text), size - 1);
    memcpy(to, text, strlen(text) + 1);
    return 0;
}

static int get_agent(const Aperture__V1__Agent *from, struct ap_push *push, struct ap_error *err)
{
    struct ap_agent_info *info = &push->capture->agent;
    int r;

    if (from == NULL)
        return ap_error_set(err, -EINVAL, "the agent does not say what it is");
    info->cpus_online = from->cpus_online;
    info->frequency = from->frequency;
    info->cpu_ns = from->cpu_ns;
    info->other_cpu_ns = from->other_cpu_ns;
    info->bpf_run_ns = from->bpf_run_ns;
    info->bpf_run_cnt = from->bpf_run_count;
    info->rss_peak_bytes = from->rss_peak_bytes;
    info->bpf_memory_bytes = from->bpf_memory_bytes;
    push->spool_bytes = from->spool_bytes;
    push->spool_dropped_batches = from->spool_dropped_batches;
    push->spool_dropped_events = from->spool_dropped_events;
    r = get_text(from->version, info->version, sizeof(info->version), "the agent's version", err);
    if (r == 0)
        r = get_text(from->host, info->host, sizeof(info->host), "the agent's host", err);
    if (r == 0)
        r = get_text(from->kernel, info->kernel, sizeof(info->kernel), "the agent's kernel", err);
    if (r == 0)
        r = get_text(from->arch, info->arch, sizeof(info->arch), "the agent's architecture", err);
    if (r == 0)
        r = get_text(from->event, info->event, sizeof(info->event), "the agent's event", err);
    return r;
}

static int get_labels(const Aperture__V1__Batch *batch, struct ap_push *push, struct ap_error *err)
{
    const char *host;

    for (size_t i = 0; i < batch->n_labels; i++) {
        const Aperture__V1__Label *label = batch->labels[i];
        int r;

        if (ap_push_label_value(push, label->name) != NULL)
            return ap_error_set(err, -EINVAL, "label %s is there twice", label->name);
        r = ap_push_label(push, label->name, label->value, err);
        if (r != 0)
            return r;
    }
    host = ap_push_label_value(push, "host");
    if (host == NULL || host[0] == '\0')
        return ap_error_set(err, -EINVAL, "there is no label host");
    return 0;
}

static int get_diagnosis(const Aperture__V1__Batch *batch, struct ap_capture *capture, struct ap_error *err)
{
    int r;

    if (batch->n_left_out > AP_CAPTURE_PROFILES_MAX || batch->n_unresolved > AP_CAPTURE_UNRESOLVED_MAX)
        return ap_error_set(err, -E2BIG, "%zu kinds left out and %zu modules without names: at most %d and %d",
                            batch->n_left_out, batch->n_unresolved, AP_CAPTURE_PROFILES_MAX, AP_CAPTURE_UNRESOLVED_MAX);
    for (size_t i = 0; i < batch->n_left_out; i++) {
        struct ap_left_out *row = &capture->left_out[i];

        if (batch->left_out[i]->kind < (int)AP_KIND_CPU || batch->left_out[i]->kind > (int)AP_KIND_GPU)
            return ap_error_set(err, -EINVAL, "what was left out: there is no kind %d", batch->left_out[i]->kind);
        row->kind = (uint8_t)batch->left_out[i]->kind;
        r = get_text(batch->left_out[i]->reason, row->reason, sizeof(row->reason), "why a kind was left out", err);
        if (r != 0)
            return r;
        capture->left_out_cnt++;
    }
    for (size_t i = 0; i < batch->n_unresolved; i++) {
        const Aperture__V1__Unresolved *row = batch->unresolved[i];

        if (row->reason > UINT8_MAX)
            return ap_error_set(err, -EINVAL, "frames without names: there is no reason %u", row->reason);
        ap_capture_unresolved(capture, row->module, (uint8_t)row->reason, row->frames, row->samples);
    }
    capture->frames_total = batch->frames_total;
    capture->frames_unresolved = batch->frames_unresolved;
    return 0;
}

static int get_batch(const Aperture__V1__Batch *batch, struct ap_arena *arena, struct ap_push *push,
                     struct ap_error *err)
{
    int r;

    if (batch->schema != SCHEMA)
        return ap_error_set(err, -EINVAL, "schema %u: this version takes %u", batch->schema, SCHEMA);
    if (batch->start_unix_ns == 0 || batch->start_unix_ns > (uint64_t)INT64_MAX - 2 * AP_PUSH_DURATION_MAX)
        return ap_error_set(err, -EINVAL, "it begins at no time that can be");
    if (batch->duration_ns > AP_PUSH_DURATION_MAX)
        return ap_error_set(err, -EINVAL, "it covers more than an hour");
    if (batch->n_profiles > AP_CAPTURE_PROFILES_MAX)
        return ap_error_set(err, -E2BIG, "%zu profiles", batch->n_profiles);
    push->start_ns = batch->start_unix_ns;
    push->duration_ns = batch->duration_ns;
    r = get_agent(batch->agent, push, err);
    if (r == 0)
        r = get_labels(batch, push, err);
    if (r == 0)
        r = get_diagnosis(batch, push->capture, err);
    for (size_t i = 0; r == 0 && i < batch->n_profiles; i++) {
        r = get_profile(batch->profiles[i], arena, push, err);
        if (r != 0)
            ap_error_prefix(err, "profile %zu", i);
    }
    return r;
}

static struct ap_push *decode(const void *data, size_t len, struct ap_error *err)
{
    const Aperture__V1__Batch *batch;
    struct ap_push *push = NULL;
    struct ap_arena arena;
    int r;

    ap_arena_init(&arena, AP_BATCH_MESSAGES_SZ);
    batch = ap_message_unpack(&aperture__v1__batch__descriptor, data, len, "the batch", &arena, err);
    if (batch != NULL) {
        push = ap_push_new();
        r = push != NULL ? get_batch(batch, &arena, push, err) : ap_error_errno(err, -ENOMEM, "a batch");
        if (r != 0) {
            err->code = r;
            ap_error_prefix(err, "the batch is refused");
            push = ap_push_free(push);
        }
    }
    ap_arena_done(&arena);
    return push;
}

struct ap_push *ap_wire_batch_decode(const void *data, size_t len, struct ap_error *err)
{
    struct ap_error unread;
    struct ap_push *push;
    size_t plain_len = 0;
    void *plain = NULL;

    if (err == NULL)
        err = &unread;
    if (len > AP_WIRE_BATCH_SZ) {
        ap_error_set(err, -E2BIG, "a batch of %zu bytes: the largest has %u", len, AP_WIRE_BATCH_SZ);
        return NULL;
    }
    if (ap_frame_unpack(data, len, AP_WIRE_UNPACKED_SZ, &plain, &plain_len, err) != 0)
        return NULL;
    push = decode(plain, plain_len, err);
    free(plain);
    return push;
}
