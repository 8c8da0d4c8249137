/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/batch.h"
#include "wire/frame.h"
#include "wire/message.h"
#include "wire/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Frame flags, as the .proto file has them. */
#define FRAME_INLINED 1u
#define FRAME_WAKER   2u

static void put_strings(struct ap_arena *arena, const struct ap_profile *profile, Aperture__V1__Profile *ret)
{
    size_t cnt = ap_strings_count(profile->strings);

    AP_COLUMN(arena, ret, strings, cnt);
    for (size_t i = 1; ret->strings != NULL && i < cnt; i++) {
        const char *text = ap_profile_str(profile, (uint32_t)i);

        ret->strings[i].len = strlen(text);
        ret->strings[i].data = ap_arena_alloc(arena, ret->strings[i].len);
        if (ret->strings[i].data == NULL)
            return;
        memcpy(ret->strings[i].data, text, ret->strings[i].len);
    }
}

static Aperture__V1__Mappings *put_mappings(struct ap_arena *arena, const struct ap_profile *profile)
{
    Aperture__V1__Mappings *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__mappings__init(ret);
    AP_COLUMN(arena, ret, path, profile->mapping_cnt);
    AP_COLUMN(arena, ret, build_id, profile->mapping_cnt);
    AP_COLUMN(arena, ret, start, profile->mapping_cnt);
    AP_COLUMN(arena, ret, limit, profile->mapping_cnt);
    AP_COLUMN(arena, ret, file_offset, profile->mapping_cnt);
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < profile->mapping_cnt; i++) {
        const struct ap_mapping *mapping = &profile->mappings[i];

        ret->path[i] = mapping->path;
        ret->start[i] = mapping->start;
        ret->limit[i] = mapping->limit;
        ret->file_offset[i] = mapping->file_off;
        ret->build_id[i].len = mapping->build_id_len;
        ret->build_id[i].data = ap_arena_alloc(arena, mapping->build_id_len);
        if (ret->build_id[i].data != NULL)
            memcpy(ret->build_id[i].data, mapping->build_id, mapping->build_id_len);
    }
    return ret;
}

static Aperture__V1__Frames *put_frames(struct ap_arena *arena, const struct ap_profile *profile)
{
    Aperture__V1__Frames *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__frames__init(ret);
    AP_COLUMN(arena, ret, kind, profile->frame_cnt);
    AP_COLUMN(arena, ret, flags, profile->frame_cnt);
    AP_COLUMN(arena, ret, function, profile->frame_cnt);
    AP_COLUMN(arena, ret, file, profile->frame_cnt);
    AP_COLUMN(arena, ret, line, profile->frame_cnt);
    AP_COLUMN(arena, ret, mapping, profile->frame_cnt);
    AP_COLUMN(arena, ret, offset, profile->frame_cnt);
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < profile->frame_cnt; i++) {
        const struct ap_frame *frame = &profile->frames[i];

        ret->kind[i] = frame->kind;
        ret->flags[i] = (frame->inlined ? FRAME_INLINED : 0) | (frame->waker ? FRAME_WAKER : 0);
        ret->function[i] = frame->function;
        ret->file[i] = frame->file;
        ret->line[i] = frame->line;
        ret->mapping[i] = frame->mapping;
        ret->offset[i] = frame->offset;
    }
    return ret;
}

static Aperture__V1__Stacks *put_stacks(struct ap_arena *arena, const struct ap_profile *profile)
{
    Aperture__V1__Stacks *ret = ap_arena_alloc(arena, sizeof(*ret));
    size_t frame_cnt = 0;

    for (uint32_t i = 0; i < profile->stack_cnt; i++)
        frame_cnt += profile->stacks[i].frame_cnt;
    if (ret == NULL)
        return NULL;
    aperture__v1__stacks__init(ret);
    AP_COLUMN(arena, ret, length, profile->stack_cnt);
    AP_COLUMN(arena, ret, truncated, profile->stack_cnt);
    AP_COLUMN(arena, ret, frames, frame_cnt);
    frame_cnt = 0;
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < profile->stack_cnt; i++) {
        const struct ap_stack *stack = &profile->stacks[i];

        ret->length[i] = stack->frame_cnt;
        ret->truncated[i] = stack->truncated;
        memcpy(&ret->frames[frame_cnt], &profile->stack_frames[stack->first], stack->frame_cnt * sizeof(*ret->frames));
        frame_cnt += stack->frame_cnt;
    }
    return ret;
}

static Aperture__V1__Series *put_series(struct ap_arena *arena, const struct ap_profile *profile)
{
    Aperture__V1__Series *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__series__init(ret);
    AP_COLUMN(arena, ret, pid, profile->series_cnt);
    AP_COLUMN(arena, ret, comm, profile->series_cnt);
    AP_COLUMN(arena, ret, exe, profile->series_cnt);
    AP_COLUMN(arena, ret, container, profile->series_cnt);
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < profile->series_cnt; i++) {
        ret->pid[i] = profile->series[i].pid;
        ret->comm[i] = profile->series[i].comm;
        ret->exe[i] = profile->series[i].exe;
        ret->container[i] = profile->series[i].container;
    }
    return ret;
}

static Aperture__V1__Samples *put_samples(struct ap_arena *arena, const struct ap_profile *profile)
{
    Aperture__V1__Samples *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__samples__init(ret);
    AP_COLUMN(arena, ret, series, profile->sample_cnt);
    AP_COLUMN(arena, ret, stack, profile->sample_cnt);
    AP_COLUMN(arena, ret, count, profile->sample_cnt);
    AP_COLUMN(arena, ret, value, profile->sample_cnt);
    if (profile->slot_ns != 0)
        AP_COLUMN(arena, ret, slot, profile->sample_cnt);
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < profile->sample_cnt; i++) {
        const struct ap_sample *sample = &profile->samples[i];

        ret->series[i] = sample->series;
        ret->stack[i] = sample->stack;
        ret->count[i] = sample->count;
        ret->value[i] = sample->value;
        if (profile->slot_ns != 0)
            ret->slot[i] = sample->slot;
    }
    return ret;
}

static Aperture__V1__Profile *put_profile(struct ap_arena *arena, const struct ap_profile *profile,
                                          const struct ap_account *account)
{
    Aperture__V1__Profile *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__profile__init(ret);
    ret->kind = (Aperture__V1__Kind)profile->kind;
    ret->period_ns = profile->period_ns;
    ret->slot_ns = profile->slot_ns;
    put_strings(arena, profile, ret);
    ret->mappings = put_mappings(arena, profile);
    ret->frames = put_frames(arena, profile);
    ret->stacks = put_stacks(arena, profile);
    ret->series = put_series(arena, profile);
    ret->samples = put_samples(arena, profile);
    ret->account = ap_batch_put_account(arena, account);
    if (profile->locks != NULL)
        ap_batch_put_locks(arena, profile, ret);
    if (profile->syscalls != NULL)
        ap_batch_put_syscalls(arena, profile, ret);
    return ret;
}

static Aperture__V1__Agent *put_agent(struct ap_arena *arena, const struct ap_push *push)
{
    const struct ap_agent_info *info = &push->capture->agent;
    Aperture__V1__Agent *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__agent__init(ret);
    ret->version = ap_message_text(arena, info->version);
    ret->host = ap_message_text(arena, info->host);
    ret->kernel = ap_message_text(arena, info->kernel);
    ret->arch = ap_message_text(arena, info->arch);
    ret->event = ap_message_text(arena, info->event);
    ret->cpus_online = info->cpus_online;
    ret->frequency = info->frequency;
    ret->cpu_ns = info->cpu_ns;
    ret->other_cpu_ns = info->other_cpu_ns;
    ret->bpf_run_ns = info->bpf_run_ns;
    ret->bpf_run_count = info->bpf_run_cnt;
    ret->rss_peak_bytes = info->rss_peak_bytes;
    ret->bpf_memory_bytes = info->bpf_memory_bytes;
    ret->spool_bytes = push->spool_bytes;
    ret->spool_dropped_batches = push->spool_dropped_batches;
    ret->spool_dropped_events = push->spool_dropped_events;
    return ret;
}

/* Small messages that stand in a list: makes the row in the list, initialised; NULL when the arena refuses. */
#define NEW_ROW(arena, list, i, init)                                                                                  \
    __extension__({                                                                                                    \
        (list)[i] = ap_arena_alloc(arena, sizeof(*(list)[i]));                                                         \
        if ((list)[i] != NULL)                                                                                         \
            init((list)[i]);                                                                                           \
        (list)[i];                                                                                                     \
    })

static void put_labels(struct ap_arena *arena, const struct ap_push *push, Aperture__V1__Batch *ret)
{
    AP_COLUMN(arena, ret, labels, push->label_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < push->label_cnt; i++) {
        Aperture__V1__Label *row = NEW_ROW(arena, ret->labels, i, aperture__v1__label__init);

        if (row == NULL)
            return;
        row->name = ap_message_text(arena, push->labels[i].name);
        row->value = ap_message_text(arena, push->labels[i].value);
    }
}

static void put_diagnosis(struct ap_arena *arena, const struct ap_capture *capture, Aperture__V1__Batch *ret)
{
    AP_COLUMN(arena, ret, left_out, capture->left_out_cnt);
    for (unsigned i = 0; ap_arena_error(arena) == 0 && i < capture->left_out_cnt; i++) {
        Aperture__V1__LeftOut *row = NEW_ROW(arena, ret->left_out, i, aperture__v1__left_out__init);

        if (row == NULL)
            return;
        row->kind = (Aperture__V1__Kind)capture->left_out[i].kind;
        row->reason = ap_message_text(arena, capture->left_out[i].reason);
    }
    AP_COLUMN(arena, ret, unresolved, capture->unresolved_cnt);
    for (unsigned i = 0; ap_arena_error(arena) == 0 && i < capture->unresolved_cnt; i++) {
        const struct ap_unresolved_row *from = &capture->unresolved[i];
        Aperture__V1__Unresolved *row = NEW_ROW(arena, ret->unresolved, i, aperture__v1__unresolved__init);

        if (row == NULL)
            return;
        row->module = ap_message_text(arena, from->module);
        row->reason = from->reason;
        row->frames = from->frames;
        row->samples = from->samples;
    }
    ret->frames_total = capture->frames_total;
    ret->frames_unresolved = capture->frames_unresolved;
}

static int check_push(const struct ap_push *push, struct ap_error *err)
{
    const char *host = ap_push_label_value(push, "host");

    if (host == NULL || host[0] == '\0')
        return ap_error_set(err, -EINVAL, "the batch has no label host");
    if (push->duration_ns > AP_PUSH_DURATION_MAX)
        return ap_error_set(err, -E2BIG, "the batch covers more than an hour");
    for (unsigned i = 0; i < push->capture->profile_cnt; i++) {
        const struct ap_profile *profile = push->capture->profiles[i];

        if (profile->slot_ns != 0 && profile->start_ns != push->start_ns)
            return ap_error_set(err, -EINVAL, "the slots of the %s profile begin at another time than the batch",
                                ap_event_kind_name(profile->kind));
    }
    return 0;
}

/* The messages, packed: free() *ret_data. */
static int pack(const Aperture__V1__Batch *batch, void **ret_data, size_t *ret_len, struct ap_error *err)
{
    size_t len = aperture__v1__batch__get_packed_size(batch);
    void *data;

    if (len > AP_WIRE_UNPACKED_SZ)
        return ap_error_set(err, -E2BIG, "a batch of %zu MiB: the largest has %u MiB", len >> 20,
                            AP_WIRE_UNPACKED_SZ >> 20);
    data = malloc(len + 1);
    if (data == NULL)
        return ap_error_errno(err, -ENOMEM, "a batch of %zu bytes", len);
    *ret_len = aperture__v1__batch__pack(batch, data);
    *ret_data = data;
    return 0;
}

int ap_wire_batch_encode(const struct ap_push *push, struct ap_buf *ret, struct ap_error *err)
{
    Aperture__V1__Batch batch = APERTURE__V1__BATCH__INIT;
    const struct ap_capture *capture = push->capture;
    struct ap_arena arena;
    void *data = NULL;
    size_t len = 0;
    int r = check_push(push, err);

    if (r != 0)
        return r;
    ap_arena_init(&arena, AP_BATCH_MESSAGES_SZ);
    batch.schema = 1;
    batch.start_unix_ns = push->start_ns;
    batch.duration_ns = push->duration_ns;
    batch.agent = put_agent(&arena, push);
    put_labels(&arena, push, &batch);
    put_diagnosis(&arena, capture, &batch);
    AP_COLUMN(&arena, &batch, profiles, capture->profile_cnt);
    for (unsigned i = 0; ap_arena_error(&arena) == 0 && i < capture->profile_cnt; i++)
        batch.profiles[i] = put_profile(&arena, capture->profiles[i], &capture->accounts[i]);
    r = ap_arena_error(&arena);
    if (r != 0)
        ap_error_set(err, r, "a batch that needs more than %zu MiB as messages, or than there is",
                     AP_BATCH_MESSAGES_SZ >> 20);
    else
        r = pack(&batch, &data, &len, err);
    ap_arena_done(&arena);
    if (r == 0)
        r = ap_frame_pack(data, len, AP_WIRE_BATCH_SZ, ret, err);
    free(data);
    return r;
}
