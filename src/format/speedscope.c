/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* speedscope's file format, one "sampled" profile: https://www.speedscope.app/file-format-schema.json */
#include "format/format.h"

#include "format/json.h"
#include "format/names.h"
#include "model/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* What speedscope takes for one function: it merges frames by their index alone. */
struct entry {
    uint32_t name, file, module; /* string ids */
    uint32_t line;               /* 0 = unknown, or not the same for all frames of it */
    uint8_t kind;
    bool waker;
};

struct entries {
    const struct ap_profile *profile;
    struct entry *rows;
    uint32_t cnt, cap;
    struct ap_table index;
    uint32_t *of_frame;  /* by frame of the profile */
    uint32_t *of_series; /* by series: the entry of its thread name */
    uint32_t truncated;  /* entry of "[truncated]" */
};

static bool same(const struct entry *a, const struct entry *b)
{
    return a->name == b->name && a->file == b->file && a->module == b->module && a->kind == b->kind &&
           a->waker == b->waker;
}

/* Index of an equal entry, made when there is none. 0 or -ENOMEM. */
static int add(struct entries *entries, const struct entry *entry, uint32_t *ret_index)
{
    uint64_t hash = ap_table_mix(ap_table_mix((uint64_t)entry->name << 32 | entry->file) ^
                                 ((uint64_t)entry->module << 9 | (uint64_t)entry->kind << 1 | entry->waker));
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&entries->index, hash, &pos)) != AP_TABLE_NONE) {
        if (!same(&entries->rows[i], entry))
            continue;
        if (entries->rows[i].line != entry->line)
            entries->rows[i].line = 0;
        *ret_index = i;
        return 0;
    }
    if (entries->cnt == entries->cap) {
        uint32_t cap = entries->cap == 0 ? 256 : entries->cap * 2;
        struct entry *rows = reallocarray(entries->rows, cap, sizeof(*rows));

        if (rows == NULL)
            return -ENOMEM;
        entries->rows = rows;
        entries->cap = cap;
    }
    if (ap_table_reserve(&entries->index) != 0)
        return -ENOMEM;
    entries->rows[entries->cnt] = *entry;
    ap_table_put(&entries->index, hash, entries->cnt);
    *ret_index = entries->cnt++;
    return 0;
}

static int collect(struct entries *entries)
{
    const struct ap_profile *profile = entries->profile;
    int r;

    entries->of_frame = calloc((size_t)profile->frame_cnt + 1, sizeof(*entries->of_frame));
    entries->of_series = calloc((size_t)profile->series_cnt + 1, sizeof(*entries->of_series));
    if (entries->of_frame == NULL || entries->of_series == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < profile->series_cnt; i++) {
        r = add(entries, &(struct entry){.name = profile->series[i].comm, .kind = AP_FRAME_PROCESS},
                &entries->of_series[i]);
        if (r != 0)
            return r;
    }
    for (uint32_t i = 1; i < profile->frame_cnt; i++) {
        const struct ap_frame *frame = &profile->frames[i];
        const struct entry entry = {
            .name = frame->function,
            .file = frame->file,
            .module = profile->mappings[frame->mapping].path,
            .line = frame->line,
            .kind = frame->kind,
            .waker = frame->waker,
        };

        r = add(entries, &entry, &entries->of_frame[i]);
        if (r != 0)
            return r;
    }
    return add(entries, &(struct entry){.name = ap_strings_id(profile->strings, "[truncated]"), .kind = AP_FRAME_MARK},
               &entries->truncated);
}

/* Members that speedscope does not know it ignores. */
static void write_entry(const struct entries *entries, const struct entry *entry, struct ap_out *out)
{
    const char *file = ap_profile_str(entries->profile, entry->file != 0 ? entry->file : entry->module);

    ap_out_str(out, "{\"name\":");
    ap_out_json_str(out, ap_name_or_unknown(ap_profile_str(entries->profile, entry->name)), false);
    if (file[0] != '\0')
        ap_json_next_str(out, "file", file);
    if (entry->line != 0)
        ap_json_next_u64(out, "line", entry->line);
    if (entry->waker)
        ap_out_str(out, ",\"waker\":true");
    ap_json_next_str(out, "kind", ap_frame_kind_name(entry->kind));
    ap_out_char(out, '}');
}

/* Outermost first. */
static void write_stack(const struct entries *entries, const struct ap_sample *sample, struct ap_out *out)
{
    const struct ap_stack *stack = &entries->profile->stacks[sample->stack];
    const uint32_t *frames = &entries->profile->stack_frames[stack->first];

    ap_out_printf(out, "[%" PRIu32, entries->of_series[sample->series]);
    if (stack->truncated)
        ap_out_printf(out, ",%" PRIu32, entries->truncated);
    for (uint32_t i = stack->frame_cnt; i > 0; i--)
        ap_out_printf(out, ",%" PRIu32, entries->of_frame[frames[i - 1]]);
    ap_out_char(out, ']');
}

static void write_document(const struct ap_capture *capture, const struct entries *entries, struct ap_out *out)
{
    const struct ap_profile *profile = entries->profile;
    const struct ap_account *account = ap_capture_account(capture, profile);
    const char *kind = ap_event_kind_name(profile->kind);

    ap_out_str(out, "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\"");
    ap_json_next_str(out, "exporter", "aperture@" APERTURE_VERSION);
    ap_json_next_str(out, "name", kind);
    ap_json_next_u64(out, "activeProfileIndex", 0);
    ap_out_str(out, ",\"shared\":{\"frames\":[");
    for (uint32_t i = 0; i < entries->cnt && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_entry(entries, &entries->rows[i], out);
    }
    ap_out_str(out, "]},\"profiles\":[{\"type\":\"sampled\"");
    ap_json_next_str(out, "name", kind);
    ap_json_next_str(out, "unit", "nanoseconds");
    ap_json_next_u64(out, "startValue", 0);
    ap_json_next_u64(out, "endValue", ap_profile_total_value(profile));
    ap_out_str(out, ",\"samples\":[");
    for (uint32_t i = 0; i < profile->sample_cnt && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_stack(entries, &profile->samples[i], out);
    }
    ap_out_str(out, "],\"weights\":[");
    for (uint32_t i = 0; i < profile->sample_cnt && ap_out_error(out) == 0; i++)
        ap_out_printf(out, "%s%" PRIu64, i > 0 ? "," : "", profile->samples[i].value);
    ap_out_str(out, "]}],\"aperture\":{");
    ap_json_key_u64(out, "expected", account != NULL ? account->expected : 0);
    ap_json_next_u64(out, "delivered", account != NULL ? account->delivered : 0);
    ap_out_str(out, ",\"losses\":{");
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        ap_json_key_u64(out, ap_loss_name(i), account != NULL ? account->losses[i] : 0);
    }
    ap_out_str(out, "}}}\n");
}

int ap_speedscope_write(const struct ap_capture *capture, const struct ap_profile *profile, struct ap_out *out)
{
    struct entries entries = {.profile = profile};
    int r = collect(&entries);

    if (r == 0) {
        write_document(capture, &entries, out);
        r = ap_out_error(out);
    }
    ap_table_done(&entries.index);
    free(entries.rows);
    free(entries.of_frame);
    free(entries.of_series);
    return r;
}
