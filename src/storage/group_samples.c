/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Samples of a group in the order of the table, and their roll-ups. The server would sort, too, but it compares five
 * columns where one number does: stacks and series are few, so that their ranks, the hour and the time within it fit
 * into 64 bits. */
#include "model/table.h"
#include "storage/group_tables.h"
#include "storage/order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define DAY_S       86400u
#define HOUR_S      3600u
#define MINUTE_S    60u
#define TIME_BITS   18 /* second within the hour, slot within the second */
#define MINUTE_BITS 6

/* ---- Ranks ---- */

/* Distinct identities and their places in order. */
struct ranks {
    struct ap_table table;
    uint64_t *keys;
    uint32_t *rank; /* of each key, once ranked */
    size_t cnt, cap;
};

static void ranks_done(struct ranks *ranks)
{
    ap_table_done(&ranks->table);
    free(ranks->keys);
    free(ranks->rank);
}

/* Tells the key's index, added when it is new. */
static int ranks_add(struct ranks *ranks, uint64_t key, uint32_t *ret_index)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&ranks->table, key, &pos)) != AP_TABLE_NONE) {
        if (ranks->keys[i] == key) {
            *ret_index = i;
            return 0;
        }
    }
    if (ranks->cnt == ranks->cap) {
        size_t cap = ranks->cap == 0 ? 1024 : ranks->cap * 2;
        uint64_t *keys = reallocarray(ranks->keys, cap, sizeof(*keys));

        if (keys == NULL)
            return -ENOMEM;
        ranks->keys = keys;
        ranks->cap = cap;
    }
    if (ranks->cnt >= UINT32_MAX - 1 || ap_table_reserve(&ranks->table) != 0)
        return -ENOMEM;
    *ret_index = (uint32_t)ranks->cnt;
    ap_table_put(&ranks->table, key, *ret_index);
    ranks->keys[ranks->cnt++] = key;
    return 0;
}

static int ranks_rank(struct ranks *ranks)
{
    struct ap_order *order = malloc((2 * ranks->cnt + 1) * sizeof(*order));

    ranks->rank = malloc((ranks->cnt + 1) * sizeof(*ranks->rank));
    if (order == NULL || ranks->rank == NULL) {
        free(order);
        return -ENOMEM;
    }
    for (size_t i = 0; i < ranks->cnt; i++)
        order[i] = (struct ap_order){.key = ranks->keys[i], .index = (uint32_t)i};
    ap_order(order, order + ranks->cnt, ranks->cnt);
    for (size_t i = 0; i < ranks->cnt; i++)
        ranks->rank[order[i].index] = (uint32_t)i;
    free(order);
    return 0;
}

static unsigned bits_for(size_t cnt)
{
    return cnt <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(cnt - 1);
}

/* ---- Sorting ---- */

struct sorting {
    const struct ap_group *group;
    struct ranks stacks, series, coarse, hours; /* hours: day, kind and hour */
    uint32_t **stack_of, **series_of;           /* of each batch: its row to the group's */
    uint32_t *coarse_of;                        /* of each of `series` */
    struct ap_row_sample *samples;              /* of all batches */
    size_t cnt;
    struct ap_order *order; /* 2 * cnt */
};

static void sorting_done(struct sorting *s)
{
    ranks_done(&s->stacks);
    ranks_done(&s->series);
    ranks_done(&s->coarse);
    ranks_done(&s->hours);
    for (size_t b = 0; b < s->group->cnt; b++) {
        free(s->stack_of != NULL ? s->stack_of[b] : NULL);
        free(s->series_of != NULL ? s->series_of[b] : NULL);
    }
    free(s->stack_of);
    free(s->series_of);
    free(s->coarse_of);
    free(s->samples);
    free(s->order);
}

static uint64_t hour_key(const struct ap_row_sample *sample)
{
    return (uint64_t)(sample->t_s / DAY_S) << 16 | (uint64_t)sample->kind << 8 | sample->t_s % DAY_S / HOUR_S;
}

static int add_names(struct sorting *s, size_t b)
{
    const struct ap_rows *rows = s->group->rows[b];
    uint32_t *stack_of = malloc((rows->stack_cnt + 1) * sizeof(*stack_of));
    uint32_t *series_of = malloc((rows->series_cnt + 1) * sizeof(*series_of));
    int r = 0;

    s->stack_of[b] = stack_of;
    s->series_of[b] = series_of;
    if (stack_of == NULL || series_of == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < rows->stack_cnt && r == 0; i++)
        r = ranks_add(&s->stacks, rows->stacks[i].hash, &stack_of[i]);
    for (size_t i = 0; i < rows->series_cnt && r == 0; i++)
        r = ranks_add(&s->series, rows->series[i].hash, &series_of[i]);
    return r;
}

/* All samples one after another, as rows of the group's names. */
static int gather(struct sorting *s)
{
    const struct ap_group *group = s->group;
    uint64_t last_hour = UINT64_MAX;
    uint32_t hour;
    int r = 0;

    for (size_t b = 0; b < group->cnt; b++)
        s->cnt += group->rows[b]->sample_cnt;
    if (s->cnt >= UINT32_MAX)
        return -E2BIG;
    s->samples = malloc((s->cnt + 1) * sizeof(*s->samples));
    s->order = malloc((2 * s->cnt + 1) * sizeof(*s->order));
    s->stack_of = calloc(group->cnt + 1, sizeof(uint32_t *));
    s->series_of = calloc(group->cnt + 1, sizeof(uint32_t *));
    if (s->samples == NULL || s->order == NULL || s->stack_of == NULL || s->series_of == NULL)
        return -ENOMEM;
    for (size_t b = 0, n = 0; b < group->cnt && r == 0; b++) {
        const struct ap_rows *rows = group->rows[b];

        r = add_names(s, b);
        for (size_t i = 0; i < rows->sample_cnt && r == 0; i++, n++) {
            s->samples[n] = rows->samples[i];
            s->samples[n].stack_row = s->stack_of[b][rows->samples[i].stack_row];
            s->samples[n].series_row = s->series_of[b][rows->samples[i].series_row];
            if (hour_key(&s->samples[n]) != last_hour) {
                last_hour = hour_key(&s->samples[n]);
                r = ranks_add(&s->hours, last_hour, &hour);
            }
        }
    }
    return r;
}

/* The coarse form of each series of the group. */
static int add_coarse(struct sorting *s)
{
    int r = 0;

    s->coarse_of = calloc(s->series.cnt + 1, sizeof(*s->coarse_of));
    if (s->coarse_of == NULL)
        return -ENOMEM;
    for (size_t b = 0; b < s->group->cnt; b++) {
        const struct ap_rows *rows = s->group->rows[b];

        for (size_t i = 0; i < rows->series_cnt && r == 0; i++)
            r = ranks_add(&s->coarse, rows->series[i].coarse, &s->coarse_of[s->series_of[b][i]]);
    }
    return r;
}

static int rank_all(struct sorting *s)
{
    int r = ranks_rank(&s->stacks);

    if (r == 0)
        r = ranks_rank(&s->series);
    if (r == 0)
        r = ranks_rank(&s->coarse);
    return r == 0 ? ranks_rank(&s->hours) : r;
}

/* Rank of a sample's hour; samples of one come in runs. */
static uint32_t hour_of(const struct sorting *s, const struct ap_row_sample *sample, uint64_t *last, uint32_t *rank)
{
    uint64_t key = hour_key(sample);
    size_t pos = SIZE_MAX;
    uint32_t i;

    if (key == *last)
        return *rank;
    while ((i = ap_table_next(&s->hours.table, key, &pos)) != AP_TABLE_NONE && s->hours.keys[i] != key)
        ;
    *last = key;
    *rank = s->hours.rank[i];
    return *rank;
}

/* Orders by hour, stack, series (or its coarse form) and time (or minute). When the ranks need too many bits the time
 * goes without: the server puts it right. */
static void sort(struct sorting *s, bool coarse)
{
    unsigned series_bits = bits_for(coarse ? s->coarse.cnt : s->series.cnt), stack_bits = bits_for(s->stacks.cnt);
    unsigned time_bits = coarse ? MINUTE_BITS : TIME_BITS;
    bool timed = bits_for(s->hours.cnt) + stack_bits + series_bits + time_bits <= 64;
    uint64_t last = UINT64_MAX;
    uint32_t hour = 0;

    for (size_t i = 0; i < s->cnt; i++) {
        const struct ap_row_sample *sample = &s->samples[i];
        uint32_t series =
            coarse ? s->coarse.rank[s->coarse_of[sample->series_row]] : s->series.rank[sample->series_row];
        uint64_t key = hour_of(s, sample, &last, &hour);

        key = key << stack_bits | s->stacks.rank[sample->stack_row];
        key = key << series_bits | series;
        if (timed && coarse)
            key = key << MINUTE_BITS | sample->t_s % HOUR_S / MINUTE_S;
        else if (timed)
            key = key << TIME_BITS | sample->t_s % HOUR_S << 6 | sample->slot;
        s->order[i] = (struct ap_order){.key = key, .index = (uint32_t)i};
    }
    ap_order(s->order, s->order + s->cnt, s->cnt);
}

/* ---- Samples ---- */

static const struct ap_row_sample *sample_at(const struct sorting *s, size_t i)
{
    return &s->samples[s->order[i].index];
}

/* Columns of rows first .. first + cnt - 1, at once. */
static void put_samples(struct ap_block *block, const struct sorting *s, size_t first, size_t cnt)
{
    uint8_t *kind = ap_block_numbers(block, AP_SAMPLES_KIND, cnt);
    uint64_t *series = ap_block_numbers(block, AP_SAMPLES_SERIES, cnt);
    uint32_t *t = ap_block_numbers(block, AP_SAMPLES_T, cnt);
    uint8_t *slot = ap_block_numbers(block, AP_SAMPLES_SLOT, cnt);
    uint64_t *stack = ap_block_numbers(block, AP_SAMPLES_STACK, cnt);
    uint64_t *count = ap_block_numbers(block, AP_SAMPLES_COUNT, cnt);
    uint64_t *value = ap_block_numbers(block, AP_SAMPLES_VALUE, cnt);

    if (block->error != 0)
        return;
    for (size_t i = 0; i < cnt; i++) {
        const struct ap_row_sample *sample = sample_at(s, first + i);

        kind[i] = sample->kind;
        series[i] = sample->series;
        t[i] = sample->t_s;
        slot[i] = sample->slot;
        stack[i] = sample->stack;
        count[i] = sample->count;
        value[i] = sample->value;
    }
    block->row_cnt += cnt;
}

static int sample_chunks(const struct sorting *s, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    struct ap_chunks chunks;
    size_t first = 0;
    int r = 0;

    ap_chunks_init(&chunks, s->group, AP_TABLE_SAMPLES, fn, ctx);
    while (first < s->cnt && r == 0) {
        uint32_t day = sample_at(s, first)->t_s / DAY_S;
        size_t cnt = 1;

        while (first + cnt < s->cnt && cnt < AP_COMMIT_ROWS_MAX && sample_at(s, first + cnt)->t_s / DAY_S == day)
            cnt++;
        r = ap_chunks_day(&chunks, day, err);
        put_samples(&chunks.block, s, first, cnt);
        if (r == 0)
            r = ap_chunks_flush(&chunks, err);
        first += cnt;
    }
    ap_chunks_done(&chunks);
    return r;
}

/* ---- Which series in which hour ---- */

static int hour_chunks(const struct sorting *s, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    struct ap_chunks chunks;
    uint64_t last_series = 0, last_hour = UINT64_MAX;
    int r = 0;

    ap_chunks_init(&chunks, s->group, AP_TABLE_SERIES_1H, fn, ctx);
    /* In the batches' own order, where a series is one run. */
    for (size_t i = 0; i < s->cnt && r == 0; i++) {
        const struct ap_row_sample *sample = &s->samples[i];
        const uint64_t key[2] = {sample->series, hour_key(sample)};

        if (key[0] == last_series && key[1] == last_hour)
            continue;
        last_series = key[0];
        last_hour = key[1];
        if (!ap_known_add(s->group->hours, XXH3_64bits(key, sizeof(key))))
            continue;
        ap_block_number(&chunks.block, AP_SERIES_1H_KIND, sample->kind);
        ap_block_number(&chunks.block, AP_SERIES_1H_T, sample->t_s - sample->t_s % HOUR_S);
        ap_block_number(&chunks.block, AP_SERIES_1H_SERIES, sample->series);
        ap_block_row_end(&chunks.block);
    }
    r = ap_chunks_flush(&chunks, err);
    ap_chunks_done(&chunks);
    return r;
}

/* ---- Roll-ups ---- */

/* One row of a roll-up: a sample that has its kind, stack and coarse series. */
struct sum {
    const struct ap_row_sample *sample;
    uint64_t count, value;
    uint32_t t_s;
};

/* Neighbours that agree in all but the time within the step become one. */
static size_t sum_up(const struct sorting *s, uint32_t step_s, struct sum *sums)
{
    size_t n = 0;

    for (size_t i = 0; i < s->cnt; i++) {
        const struct ap_row_sample *sample = sample_at(s, i);
        uint32_t t_s = sample->t_s - sample->t_s % step_s;
        struct sum *sum = &sums[n > 0 ? n - 1 : 0];

        if (n == 0 || sum->t_s != t_s || sum->sample->stack_row != sample->stack_row ||
            s->coarse_of[sum->sample->series_row] != s->coarse_of[sample->series_row] ||
            sum->sample->kind != sample->kind) {
            sums[n] = (struct sum){.sample = sample, .t_s = t_s};
            sum = &sums[n++];
        }
        sum->count += sample->count;
        sum->value += sample->value;
    }
    return n;
}

static void put_sums(struct ap_block *block, const struct sorting *s, const struct sum *sums, size_t cnt)
{
    uint8_t *kind = ap_block_numbers(block, AP_ROLLUP_KIND, cnt);
    uint64_t *series = ap_block_numbers(block, AP_ROLLUP_SERIES, cnt);
    uint32_t *t = ap_block_numbers(block, AP_ROLLUP_T, cnt);
    uint64_t *stack = ap_block_numbers(block, AP_ROLLUP_STACK, cnt);
    uint64_t *count = ap_block_numbers(block, AP_ROLLUP_COUNT, cnt);
    uint64_t *value = ap_block_numbers(block, AP_ROLLUP_VALUE, cnt);

    if (block->error != 0)
        return;
    for (size_t i = 0; i < cnt; i++) {
        kind[i] = sums[i].sample->kind;
        series[i] = s->coarse.keys[s->coarse_of[sums[i].sample->series_row]];
        t[i] = sums[i].t_s;
        stack[i] = sums[i].sample->stack;
        count[i] = sums[i].count;
        value[i] = sums[i].value;
    }
    block->row_cnt += cnt;
}

static int rollup_chunks(const struct sorting *s, enum ap_store_table table, uint32_t step_s, struct sum *sums,
                         ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    size_t all = sum_up(s, step_s, sums), first = 0;
    struct ap_chunks chunks;
    int r = 0;

    ap_chunks_init(&chunks, s->group, table, fn, ctx);
    while (first < all && r == 0) {
        uint32_t day = sums[first].t_s / DAY_S;
        size_t cnt = 1;

        while (first + cnt < all && cnt < AP_COMMIT_ROWS_MAX && sums[first + cnt].t_s / DAY_S == day)
            cnt++;
        r = ap_chunks_day(&chunks, day, err);
        put_sums(&chunks.block, s, sums + first, cnt);
        if (r == 0)
            r = ap_chunks_flush(&chunks, err);
        first += cnt;
    }
    ap_chunks_done(&chunks);
    return r;
}

static int both_rollups(struct sorting *s, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    struct sum *sums = malloc((s->cnt + 1) * sizeof(*sums));

    if (sums == NULL)
        return ap_error_errno(err, -ENOMEM, "roll-ups of a group");
    sort(s, true);
    int r = rollup_chunks(s, AP_TABLE_SAMPLES_1M, MINUTE_S, sums, fn, ctx, err);
    if (r == 0)
        r = rollup_chunks(s, AP_TABLE_SAMPLES_1H, HOUR_S, sums, fn, ctx, err);
    free(sums);
    return r;
}

/* ---- Whole ---- */

int ap_group_sample_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    struct sorting s = {.group = group};
    int r = gather(&s);

    if (r == 0)
        r = add_coarse(&s);
    if (r == 0)
        r = rank_all(&s);
    if (r != 0) {
        sorting_done(&s);
        return ap_error_errno(err, r, "samples of a group");
    }
    r = hour_chunks(&s, fn, ctx, err);
    if (r == 0) {
        sort(&s, false);
        r = sample_chunks(&s, fn, ctx, err);
    }
    if (r == 0 && group->features->full)
        r = both_rollups(&s, fn, ctx, err);
    sorting_done(&s);
    return r;
}
