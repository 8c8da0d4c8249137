/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/dict.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a map's slot, at the load that maps have on average. */
#define SLOT_SZ 64

void ap_dict_init(struct ap_dict *dict)
{
    *dict = (struct ap_dict){0};
    /* Bounded by the bytes of the batches that use them. */
    ap_map_init(&dict->texts, SIZE_MAX);
    ap_map_init(&dict->frames, SIZE_MAX);
    ap_map_init(&dict->stacks, SIZE_MAX);
    ap_map_init(&dict->series, SIZE_MAX);
}

void ap_dict_done(struct ap_dict *dict)
{
    ap_map_done_values(&dict->texts);
    ap_map_done_values(&dict->frames);
    ap_map_done_values(&dict->stacks);
    ap_map_done_values(&dict->series);
}

/* ---- Text ---- */

static size_t text_sz(const struct ap_dict_text *text)
{
    return sizeof(*text) + text->len + 1 + SLOT_SZ;
}

struct ap_dict_text *ap_dict_text(struct ap_dict *dict, const char *str)
{
    size_t len = strlen(str);
    struct ap_dict_text *text = ap_map_get(&dict->texts, str, len);

    if (text == NULL) {
        text = malloc(sizeof(*text) + len + 1);
        if (text == NULL)
            return NULL;
        text->users = 0;
        text->len = len;
        memcpy(text->text, str, len + 1);
        if (ap_map_put(&dict->texts, text->text, len, text) != 0) {
            free(text);
            return NULL;
        }
        dict->sz += text_sz(text);
    }
    text->users++;
    return text;
}

void ap_dict_text_unref(struct ap_dict *dict, struct ap_dict_text *text)
{
    if (text == NULL || --text->users > 0)
        return;
    dict->sz -= text_sz(text);
    ap_map_remove(&dict->texts, text->text, text->len);
    free(text);
}

/* ---- Frames ---- */

static void frame_unref(struct ap_dict *dict, struct ap_dict_frame *frame)
{
    if (--frame->users > 0)
        return;
    ap_dict_text_unref(dict, frame->function);
    ap_dict_text_unref(dict, frame->file);
    ap_dict_text_unref(dict, frame->module);
    dict->sz -= sizeof(*frame) + SLOT_SZ;
    ap_map_remove(&dict->frames, &frame->row.hash, sizeof(frame->row.hash));
    free(frame);
}

static struct ap_dict_frame *frame_ref(struct ap_dict *dict, const struct ap_rows *rows, uint64_t hash)
{
    struct ap_dict_frame *frame = ap_map_get(&dict->frames, &hash, sizeof(hash));
    const struct ap_row_frame *row;

    if (frame != NULL) {
        frame->users++;
        return frame;
    }
    row = ap_rows_frame(rows, hash);
    frame = row != NULL ? calloc(1, sizeof(*frame)) : NULL;
    if (frame == NULL)
        return NULL;
    frame->row = *row;
    frame->function = ap_dict_text(dict, row->function);
    frame->file = ap_dict_text(dict, row->file);
    frame->module = ap_dict_text(dict, row->module);
    if (frame->function == NULL || frame->file == NULL || frame->module == NULL ||
        ap_map_put(&dict->frames, &frame->row.hash, sizeof(hash), frame) != 0) {
        ap_dict_text_unref(dict, frame->function);
        ap_dict_text_unref(dict, frame->file);
        ap_dict_text_unref(dict, frame->module);
        free(frame);
        return NULL;
    }
    frame->row.function = frame->function->text;
    frame->row.file = frame->file->text;
    frame->row.module = frame->module->text;
    dict->sz += sizeof(*frame) + SLOT_SZ;
    frame->users = 1;
    return frame;
}

/* ---- Stacks ---- */

static size_t stack_sz(const struct ap_dict_stack *stack)
{
    return sizeof(*stack) + stack->cnt * sizeof(*stack->frames) + SLOT_SZ;
}

struct ap_dict_stack *ap_dict_stack(struct ap_dict *dict, const struct ap_rows *rows, const struct ap_row_stack *row)
{
    struct ap_dict_stack *stack = ap_map_get(&dict->stacks, &row->hash, sizeof(row->hash));

    if (stack != NULL) {
        stack->users++;
        return stack;
    }
    stack = malloc(sizeof(*stack) + row->cnt * sizeof(*stack->frames));
    if (stack == NULL)
        return NULL;
    *stack = (struct ap_dict_stack){.hash = row->hash, .users = 1, .truncated = row->truncated};
    for (; stack->cnt < row->cnt; stack->cnt++) {
        stack->frames[stack->cnt] = frame_ref(dict, rows, rows->stack_frames[row->first + stack->cnt]);
        if (stack->frames[stack->cnt] == NULL)
            break;
    }
    if (stack->cnt < row->cnt || ap_map_put(&dict->stacks, &stack->hash, sizeof(stack->hash), stack) != 0) {
        while (stack->cnt > 0)
            frame_unref(dict, stack->frames[--stack->cnt]);
        free(stack);
        return NULL;
    }
    dict->sz += stack_sz(stack);
    return stack;
}

void ap_dict_stack_unref(struct ap_dict *dict, struct ap_dict_stack *stack)
{
    if (stack == NULL || --stack->users > 0)
        return;
    dict->sz -= stack_sz(stack);
    ap_map_remove(&dict->stacks, &stack->hash, sizeof(stack->hash));
    for (uint32_t i = 0; i < stack->cnt; i++)
        frame_unref(dict, stack->frames[i]);
    free(stack);
}

const struct ap_dict_stack *ap_dict_find_stack(const struct ap_dict *dict, uint64_t hash)
{
    return ap_map_get(&dict->stacks, &hash, sizeof(hash));
}

/* ---- Label sets ---- */

static size_t series_block_sz(uint32_t cnt)
{
    return sizeof(struct ap_dict_series) + cnt * (sizeof(struct ap_row_label) + 2 * sizeof(struct ap_dict_text *));
}

static void drop_labels(struct ap_dict *dict, struct ap_dict_series *series)
{
    for (uint32_t i = 0; i < 2 * series->cnt; i++)
        ap_dict_text_unref(dict, series->texts[i]);
}

struct ap_dict_series *ap_dict_series(struct ap_dict *dict, const struct ap_rows *rows, const struct ap_row_series *row)
{
    struct ap_dict_series *series = ap_map_get(&dict->series, &row->hash, sizeof(row->hash));
    bool all = true;

    if (series != NULL) {
        series->users++;
        return series;
    }
    series = calloc(1, series_block_sz(row->cnt));
    if (series == NULL)
        return NULL;
    *series = (struct ap_dict_series){.hash = row->hash, .users = 1, .cnt = row->cnt};
    series->labels = (struct ap_row_label *)(series + 1);
    series->texts = (struct ap_dict_text **)(void *)(series->labels + row->cnt);
    for (uint32_t i = 0; i < row->cnt && all; i++) {
        struct ap_dict_text *name = ap_dict_text(dict, rows->labels[row->first + i].name);
        struct ap_dict_text *value = ap_dict_text(dict, rows->labels[row->first + i].value);

        series->texts[2 * (size_t)i] = name;
        series->texts[2 * (size_t)i + 1] = value;
        all = name != NULL && value != NULL;
        if (all)
            series->labels[i] = (struct ap_row_label){.name = name->text, .value = value->text};
    }
    if (!all || ap_map_put(&dict->series, &series->hash, sizeof(series->hash), series) != 0) {
        drop_labels(dict, series);
        free(series);
        return NULL;
    }
    dict->sz += series_block_sz(series->cnt) + SLOT_SZ;
    return series;
}

void ap_dict_series_unref(struct ap_dict *dict, struct ap_dict_series *series)
{
    if (series == NULL || --series->users > 0)
        return;
    dict->sz -= series_block_sz(series->cnt) + SLOT_SZ;
    ap_map_remove(&dict->series, &series->hash, sizeof(series->hash));
    drop_labels(dict, series);
    free(series);
}
