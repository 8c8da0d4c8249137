/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/group.h"

#include "model/syscalls.h"
#include "storage/group_tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- Chunks ---- */

static uint64_t chunk_key(const struct ap_group *group, enum ap_store_table table, uint32_t day, uint32_t number)
{
    const uint64_t parts[3] = {group->id, (uint64_t)table << 32 | day, number};

    return XXH3_64bits(parts, sizeof(parts));
}

void ap_chunks_init(struct ap_chunks *chunks, const struct ap_group *group, enum ap_store_table table, ap_chunk_fn fn,
                    void *ctx)
{
    *chunks = (struct ap_chunks){.group = group, .table = table, .fn = fn, .ctx = ctx};
    ap_table_block_init(&chunks->block, table, group->features);
}

void ap_chunks_done(struct ap_chunks *chunks)
{
    ap_block_done(&chunks->block);
}

int ap_chunks_flush(struct ap_chunks *chunks, struct ap_error *err)
{
    struct ap_block *block = &chunks->block;

    if (block->error != 0)
        return ap_error_errno(err, block->error == -ENOSPC ? -E2BIG : block->error, "rows for the table %s",
                              ap_table_def(chunks->table)->name);
    if (block->row_cnt == 0)
        return 0;
    uint64_t key =
        ap_table_def(chunks->table)->once ? chunk_key(chunks->group, chunks->table, chunks->day, chunks->number) : 0;
    block->grp_value = key;
    int r = chunks->fn(chunks->ctx, chunks->table, block, chunks->day, key, err);
    ap_block_reset(block);
    chunks->number++;
    return r;
}

int ap_chunks_day(struct ap_chunks *chunks, uint32_t day, struct ap_error *err)
{
    if (chunks->block.row_cnt > 0 && (chunks->day != day || chunks->block.row_cnt >= AP_COMMIT_ROWS_MAX)) {
        int r = ap_chunks_flush(chunks, err);

        if (r != 0)
            return r;
    }
    if (chunks->day != day)
        chunks->number = 0;
    chunks->day = day;
    return 0;
}

/* ---- Names: series, frames, stacks ---- */

static void put_series(struct ap_block *block, const struct ap_rows *rows, const struct ap_row_series *series,
                       uint16_t day)
{
    const struct ap_row_label *labels = rows->labels + series->first;

    ap_block_number(block, AP_SERIES_HASH, series->hash);
    ap_block_number(block, AP_SERIES_DAY, day);
    for (uint32_t i = 0; i < series->cnt; i++) {
        ap_block_item_text(block, AP_SERIES_NAMES, labels[i].name, strlen(labels[i].name));
        ap_block_item_text(block, AP_SERIES_TEXTS, labels[i].value, strlen(labels[i].value));
    }
    ap_block_array_end(block, AP_SERIES_NAMES);
    ap_block_array_end(block, AP_SERIES_TEXTS);
    ap_block_row_end(block);
}

static void put_frame(struct ap_block *block, const struct ap_row_frame *frame, uint16_t day)
{
    ap_block_number(block, AP_FRAMES_HASH, frame->hash);
    ap_block_number(block, AP_FRAMES_DAY, day);
    ap_block_number(block, AP_FRAMES_KIND, frame->kind);
    ap_block_number(block, AP_FRAMES_FLAGS, frame->flags);
    ap_block_number(block, AP_FRAMES_LINE, frame->line);
    ap_block_number(block, AP_FRAMES_OFFSET, frame->offset);
    ap_block_text(block, AP_FRAMES_FUNCTION, frame->function, strlen(frame->function));
    ap_block_text(block, AP_FRAMES_FILE, frame->file, strlen(frame->file));
    ap_block_text(block, AP_FRAMES_MODULE, frame->module, strlen(frame->module));
    ap_block_text(block, AP_FRAMES_BUILD_ID, frame->build_id, frame->build_id_len);
    ap_block_row_end(block);
}

static void put_stack(struct ap_block *block, const struct ap_rows *rows, const struct ap_row_stack *stack,
                      uint16_t day)
{
    ap_block_number(block, AP_STACKS_HASH, stack->hash);
    ap_block_number(block, AP_STACKS_DAY, day);
    ap_block_number(block, AP_STACKS_TRUNCATED, stack->truncated);
    for (uint32_t i = 0; i < stack->cnt; i++)
        ap_block_item(block, AP_STACKS_FRAMES, rows->stack_frames[stack->first + i]);
    ap_block_array_end(block, AP_STACKS_FRAMES);
    ap_block_row_end(block);
}

/* One of the three, of all batches. */
static int name_chunks(const struct ap_group *group, enum ap_store_table table, ap_chunk_fn fn, void *ctx,
                       struct ap_error *err)
{
    struct ap_chunks chunks;
    int r = 0;

    ap_chunks_init(&chunks, group, table, fn, ctx);
    chunks.day = group->today;
    for (size_t b = 0; b < group->cnt && r == 0; b++) {
        const struct ap_rows *rows = group->rows[b];

        for (size_t i = 0; table == AP_TABLE_SERIES && i < rows->series_cnt; i++) {
            if (ap_known_add(group->series, rows->series[i].hash))
                put_series(&chunks.block, rows, &rows->series[i], group->today);
        }
        for (size_t i = 0; table == AP_TABLE_FRAMES && i < rows->frame_cnt; i++) {
            if (ap_known_add(group->frames, rows->frames[i].hash))
                put_frame(&chunks.block, &rows->frames[i], group->today);
        }
        for (size_t i = 0; table == AP_TABLE_STACKS && i < rows->stack_cnt; i++) {
            if (ap_known_add(group->stacks, rows->stacks[i].hash))
                put_stack(&chunks.block, rows, &rows->stacks[i], group->today);
        }
        r = ap_chunks_day(&chunks, group->today, err);
    }
    if (r == 0)
        r = ap_chunks_flush(&chunks, err);
    ap_chunks_done(&chunks);
    return r;
}

/* ---- Whole ---- */

int ap_group_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    int r = name_chunks(group, AP_TABLE_SERIES, fn, ctx, err);

    if (r == 0)
        r = name_chunks(group, AP_TABLE_FRAMES, fn, ctx, err);
    if (r == 0)
        r = name_chunks(group, AP_TABLE_STACKS, fn, ctx, err);
    if (r == 0)
        r = ap_group_sample_chunks(group, fn, ctx, err);
    if (r == 0)
        r = ap_group_lock_chunks(group, fn, ctx, err);
    if (r == 0)
        r = ap_group_syscall_chunks(group, fn, ctx, err);
    if (r == 0)
        r = ap_group_batch_chunks(group, fn, ctx, err);
    return r;
}

void ap_group_kind_count(const struct ap_profile *profile, const struct ap_account *account,
                         struct ap_kind_count *ret_count)
{
    bool calls = profile->syscalls != NULL;

    *ret_count = (struct ap_kind_count){
        .kind = profile->kind,
        .events = calls ? ap_syscalls_count(profile->syscalls) : ap_profile_total_count(profile),
        .value = calls ? ap_syscalls_total_ns(profile->syscalls) : ap_profile_total_value(profile),
        .lost = ap_account_lost(account),
    };
}
