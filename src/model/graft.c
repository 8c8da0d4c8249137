/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/graft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ap_graft_init(struct ap_graft *graft, const struct ap_profile *from, struct ap_profile *to)
{
    *graft = (struct ap_graft){.from = from, .to = to, .string_cnt = (uint32_t)ap_strings_count(from->strings)};
    graft->strings = calloc(graft->string_cnt, sizeof(*graft->strings));
    graft->mappings = calloc(from->mapping_cnt, sizeof(*graft->mappings));
    graft->frames = calloc(from->frame_cnt, sizeof(*graft->frames));
    if (graft->strings == NULL || graft->mappings == NULL || graft->frames == NULL) {
        ap_graft_done(graft);
        return -ENOMEM;
    }
    return 0;
}

void ap_graft_done(struct ap_graft *graft)
{
    free(graft->strings);
    free(graft->mappings);
    free(graft->frames);
    *graft = (struct ap_graft){0};
}

int ap_graft_string(struct ap_graft *graft, uint32_t string, uint32_t *ret_string)
{
    if (string >= graft->string_cnt)
        return -EINVAL;
    if (graft->strings[string] == 0) {
        const char *text = ap_strings_get(graft->from->strings, string);
        uint32_t id;
        int r = ap_strings_add(graft->to->strings, text, strlen(text), &id);

        if (r != 0)
            return r;
        graft->strings[string] = id + 1;
    }
    *ret_string = graft->strings[string] - 1;
    return 0;
}

static int graft_mapping(struct ap_graft *graft, uint32_t mapping, uint32_t *ret_mapping)
{
    if (mapping >= graft->from->mapping_cnt)
        return -EINVAL;
    if (graft->mappings[mapping] == 0) {
        struct ap_mapping row = graft->from->mappings[mapping];
        uint32_t index;
        int r = ap_graft_string(graft, row.path, &row.path);

        if (r == 0)
            r = ap_profile_add_mapping(graft->to, &row, &index);
        if (r != 0)
            return r;
        graft->mappings[mapping] = index + 1;
    }
    *ret_mapping = graft->mappings[mapping] - 1;
    return 0;
}

int ap_graft_frame(struct ap_graft *graft, uint32_t frame, uint32_t *ret_frame)
{
    if (frame >= graft->from->frame_cnt)
        return -EINVAL;
    if (graft->frames[frame] == 0) {
        struct ap_frame row = graft->from->frames[frame];
        uint32_t index;
        int r = ap_graft_string(graft, row.function, &row.function);

        if (r == 0)
            r = ap_graft_string(graft, row.file, &row.file);
        if (r == 0)
            r = graft_mapping(graft, row.mapping, &row.mapping);
        if (r == 0)
            r = ap_profile_add_frame(graft->to, &row, &index);
        if (r != 0)
            return r;
        graft->frames[frame] = index + 1;
    }
    *ret_frame = graft->frames[frame] - 1;
    return 0;
}

int ap_graft_stack(struct ap_graft *graft, uint32_t stack, uint32_t *ret_stack)
{
    uint32_t frames[AP_STACK_FRAMES_MAX];
    const struct ap_stack *row;

    if (stack >= graft->from->stack_cnt)
        return -EINVAL;
    row = &graft->from->stacks[stack];
    for (uint32_t i = 0; i < row->frame_cnt; i++) {
        int r = ap_graft_frame(graft, graft->from->stack_frames[row->first + i], &frames[i]);

        if (r != 0)
            return r;
    }
    return ap_profile_add_stack(graft->to, frames, row->frame_cnt, row->truncated, ret_stack);
}

int ap_graft_series(struct ap_graft *graft, uint32_t series, uint32_t *ret_series)
{
    struct ap_series row;
    int r;

    if (series >= graft->from->series_cnt)
        return -EINVAL;
    row = graft->from->series[series];
    r = ap_graft_string(graft, row.comm, &row.comm);
    if (r == 0)
        r = ap_graft_string(graft, row.exe, &row.exe);
    if (r == 0)
        r = ap_graft_string(graft, row.container, &row.container);
    return r != 0 ? r : ap_profile_add_series(graft->to, &row, ret_series);
}
