/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/rows.h"

#include "core/buf.h"
#include "core/clock.h"
#include "model/locks.h"
#include "model/syscalls.h"
#include "model/table.h"
#include "storage/order.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Longest text of one frame or label set that is hashed: bounded by the batch itself, this only by mistake. */
#define KEY_SZ (1u << 30)
/* How far ahead of the server's clock a batch may begin: clocks are wrong, days as partitions are dear. */
#define AHEAD_MAX_NS (24ULL * 3600 * AP_NS_PER_SEC)
/* DateTime of the tables: 32 bits of seconds. */
#define SECONDS_MAX UINT32_MAX
/* Longest decimal number with terminator. */
#define NUMBER_SZ 11

#define SLOTS_PER_SEC (AP_NS_PER_SEC / AP_PUSH_SLOT_NS)

struct text { /* of a string */
    uint64_t hash;
    uint32_t len;
    bool known;
};

struct pair { /* a profile's stack under a thread name */
    uint32_t stack, comm, row;
};

/* What only building needs. */
struct builder {
    struct ap_rows *rows;
    struct ap_buf key;
    struct ap_table frames, stacks, series; /* by identity, over all profiles */
    size_t frame_cap, stack_cap, stack_frame_cap, series_cap, label_cap;
    struct ap_row_label *base; /* labels of all series: the batch's and agent, by name */
    size_t base_cnt;
    size_t text_len, text_cap;

    /* of the profile at hand */
    const struct ap_profile *profile;
    struct text *texts;     /* of strings by id, once they are asked for */
    uint64_t *mapping_hash; /* of mappings, 0 = not asked for */
    uint64_t *frame_hash;
    bool *frame_stored;
    struct ap_table pair_table;
    struct pair *pairs;
    size_t pair_cnt, pair_cap;
    uint32_t *series_row;
    /* of all samples: rows before the tables were ordered */
    uint32_t *sample_series, *sample_stack;
};

/* ---- Arrays and order ---- */

static int grow(void *array_ptr, size_t *cap, size_t need, size_t item_sz)
{
    void **array = array_ptr;
    size_t want = *cap < 64 ? 64 : *cap * 2;

    if (need <= *cap)
        return 0;
    if (want < need)
        want = need;
    void *grown = reallocarray(*array, want, item_sz);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *cap = want;
    return 0;
}

/* Orders rows of `row_sz` bytes that begin with their hash; `ret_place`: new index of each, the caller's. */
static int order_by_hash(void *rows_ptr, size_t cnt, size_t row_sz, uint32_t **ret_place)
{
    char **rows = rows_ptr;
    struct ap_order *items = malloc((2 * cnt + 1) * sizeof(*items));
    uint32_t *place = malloc((cnt + 1) * sizeof(*place));
    char *sorted = malloc(cnt * row_sz + 1);

    if (items == NULL || place == NULL || sorted == NULL) {
        free(items);
        free(place);
        free(sorted);
        return -ENOMEM;
    }
    for (size_t i = 0; i < cnt; i++) {
        memcpy(&items[i].key, *rows + i * row_sz, sizeof(items[i].key));
        items[i].index = (uint32_t)i;
    }
    ap_order(items, items + cnt, cnt);
    for (size_t i = 0; i < cnt; i++) {
        memcpy(sorted + i * row_sz, *rows + items[i].index * row_sz, row_sz);
        place[items[i].index] = (uint32_t)i;
    }
    free(items);
    free(*rows);
    *rows = sorted;
    *ret_place = place;
    return 0;
}

/* ---- Frames and stacks ---- */

static void key_text(struct ap_buf *key, const char *text, uint32_t len)
{
    ap_buf_append(key, &len, sizeof(len));
    if (len > 0)
        ap_buf_append(key, text, len);
}

static struct text text_of(const char *str)
{
    size_t len = strlen(str);

    return (struct text){.hash = len > 0 ? XXH3_64bits(str, len) : 0, .len = (uint32_t)len, .known = true};
}

/* Of a string of the profile; each is hashed once. */
static const struct text *text_at(struct builder *b, uint32_t id)
{
    struct text *text = &b->texts[id];

    if (!text->known)
        *text = text_of(ap_profile_str(b->profile, id));
    return text;
}

/* Path and build id of a mapping. */
static uint64_t mapping_hash(struct builder *b, uint32_t index)
{
    const struct ap_mapping *mapping = &b->profile->mappings[index];
    struct {
        uint64_t path;
        uint32_t path_len, build_id_len;
        uint8_t build_id[AP_BUILD_ID_MAX + 4];
    } key = {0};

    if (b->mapping_hash[index] != 0)
        return b->mapping_hash[index];
    const struct text *path = text_at(b, mapping->path);
    key.path = path->hash;
    key.path_len = path->len;
    key.build_id_len = mapping->build_id_len;
    memcpy(key.build_id, mapping->build_id, mapping->build_id_len);
    b->mapping_hash[index] = XXH3_64bits(&key, sizeof(key));
    return b->mapping_hash[index];
}

static uint64_t hash_frame(const struct ap_row_frame *row, const struct text *function, const struct text *file,
                           uint64_t mapping)
{
    const uint64_t key[6] = {(uint64_t)row->line << 32 | (uint64_t)row->flags << 8 | row->kind,
                             row->offset,
                             function->hash,
                             file->hash,
                             (uint64_t)function->len << 32 | file->len,
                             mapping};

    return XXH3_64bits(key, sizeof(key));
}

static struct ap_row_frame frame_row(struct builder *b, uint32_t index)
{
    const struct ap_profile *profile = b->profile;
    const struct ap_frame *frame = &profile->frames[index];
    const struct ap_mapping *mapping = &profile->mappings[frame->mapping];
    struct ap_row_frame row = {
        .offset = frame->offset,
        .line = frame->line,
        .kind = frame->kind,
        .flags = (uint8_t)((frame->inlined ? AP_ROW_INLINED : 0) | (frame->waker ? AP_ROW_WAKER : 0)),
        .build_id_len = mapping->build_id_len,
        .function = ap_profile_str(profile, frame->function),
        .file = ap_profile_str(profile, frame->file),
        .module = ap_profile_str(profile, mapping->path),
    };

    memcpy(row.build_id, mapping->build_id, mapping->build_id_len);
    row.hash = hash_frame(&row, text_at(b, frame->function), text_at(b, frame->file), mapping_hash(b, frame->mapping));
    return row;
}

static int store_frame(struct builder *b, const struct ap_row_frame *row)
{
    struct ap_rows *rows = b->rows;
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&b->frames, row->hash, &pos)) != AP_TABLE_NONE) {
        if (rows->frames[i].hash == row->hash)
            return 0;
    }
    int r = grow(&rows->frames, &b->frame_cap, rows->frame_cnt + 1, sizeof(*row));
    if (r == 0)
        r = ap_table_reserve(&b->frames);
    if (r != 0)
        return r;
    ap_table_put(&b->frames, row->hash, (uint32_t)rows->frame_cnt);
    rows->frames[rows->frame_cnt++] = *row;
    return 0;
}

/* The frame that a thread name becomes. It has no mapping. */
static struct ap_row_frame process_frame(const char *comm)
{
    const struct text name = text_of(comm), none = {0};
    struct ap_row_frame row = {.kind = AP_FRAME_PROCESS, .function = comm, .file = "", .module = ""};

    row.hash = hash_frame(&row, &name, &none, 0);
    return row;
}

static uint64_t hash_stack(const uint64_t *frames, uint32_t cnt, bool truncated)
{
    return XXH3_64bits_withSeed(frames, cnt * sizeof(*frames), truncated);
}

/* Stores the frames of the profile's stack that are not yet, and writes their hashes. */
static int stack_hashes(struct builder *b, const struct ap_stack *stack, uint64_t *hashes)
{
    for (uint32_t i = 0; i < stack->frame_cnt; i++) {
        uint32_t index = b->profile->stack_frames[stack->first + i];

        if (!b->frame_stored[index]) {
            struct ap_row_frame row = frame_row(b, index);
            int r = store_frame(b, &row);

            if (r != 0)
                return r;
            b->frame_hash[index] = row.hash;
            b->frame_stored[index] = true;
        }
        hashes[i] = b->frame_hash[index];
    }
    return 0;
}

/* Stores a stack under a thread name and tells its row. */
static int store_stack(struct builder *b, uint32_t stack_index, uint32_t comm, uint32_t *ret_row)
{
    const struct ap_stack *stack = &b->profile->stacks[stack_index];
    struct ap_rows *rows = b->rows;
    const struct ap_row_frame process = process_frame(ap_profile_str(b->profile, comm));
    uint64_t hashes[AP_STACK_FRAMES_MAX + 1];
    uint32_t i, cnt = stack->frame_cnt + 1;
    size_t pos = SIZE_MAX;
    int r = stack_hashes(b, stack, hashes);

    if (r == 0)
        r = store_frame(b, &process);
    if (r != 0)
        return r;
    hashes[cnt - 1] = process.hash;
    uint64_t hash = hash_stack(hashes, cnt, stack->truncated);
    while ((i = ap_table_next(&b->stacks, hash, &pos)) != AP_TABLE_NONE) {
        if (rows->stacks[i].hash == hash) {
            *ret_row = i;
            return 0;
        }
    }
    r = grow(&rows->stacks, &b->stack_cap, rows->stack_cnt + 1, sizeof(*rows->stacks));
    if (r == 0)
        r = grow(&rows->stack_frames, &b->stack_frame_cap, rows->stack_frame_cnt + cnt, sizeof(*hashes));
    if (r == 0)
        r = ap_table_reserve(&b->stacks);
    if (r != 0)
        return r;
    if (rows->stack_frame_cnt + cnt > UINT32_MAX)
        return -E2BIG;
    memcpy(rows->stack_frames + rows->stack_frame_cnt, hashes, cnt * sizeof(*hashes));
    *ret_row = (uint32_t)rows->stack_cnt++;
    rows->stacks[*ret_row] = (struct ap_row_stack){
        .hash = hash, .first = (uint32_t)rows->stack_frame_cnt, .cnt = cnt, .truncated = stack->truncated};
    rows->stack_frame_cnt += cnt;
    ap_table_put(&b->stacks, hash, *ret_row);
    return 0;
}

/* The row of a profile's stack under the thread name of a series, stored on first use. */
static int stack_row(struct builder *b, uint32_t series, uint32_t stack, uint32_t *ret_row)
{
    uint32_t i, comm = b->profile->series[series].comm;
    uint64_t hash = ap_table_mix((uint64_t)comm << 32 | stack);
    size_t pos = SIZE_MAX;

    while ((i = ap_table_next(&b->pair_table, hash, &pos)) != AP_TABLE_NONE) {
        if (b->pairs[i].stack == stack && b->pairs[i].comm == comm) {
            *ret_row = b->pairs[i].row;
            return 0;
        }
    }
    int r = grow(&b->pairs, &b->pair_cap, b->pair_cnt + 1, sizeof(*b->pairs));
    if (r == 0)
        r = ap_table_reserve(&b->pair_table);
    if (r == 0)
        r = store_stack(b, stack, comm, ret_row);
    if (r != 0)
        return r;
    ap_table_put(&b->pair_table, hash, (uint32_t)b->pair_cnt);
    b->pairs[b->pair_cnt++] = (struct pair){.stack = stack, .comm = comm, .row = *ret_row};
    return 0;
}

/* ---- Series ---- */

static int compare_labels(const void *a, const void *b)
{
    const struct ap_row_label *left = a, *right = b;

    return strcmp(left->name, right->name);
}

static int make_base(struct builder *b)
{
    const struct ap_push *push = b->rows->push;

    b->base = calloc(push->label_cnt + 1, sizeof(*b->base));
    if (b->base == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < push->label_cnt; i++) {
        if (push->labels[i].value[0] != '\0')
            b->base[b->base_cnt++] = (struct ap_row_label){push->labels[i].name, push->labels[i].value};
    }
    b->base[b->base_cnt++] = (struct ap_row_label){"agent", push->agent_id};
    qsort(b->base, b->base_cnt, sizeof(*b->base), compare_labels);
    return 0;
}

/* Stores the label set of the batch with `cnt` labels of its own (by name, none empty). Text is borrowed; that of
 * `number` (a label's value) is copied when the series is new. */
static int store_series(struct builder *b, const struct ap_row_label *own, size_t cnt, const char *number,
                        uint32_t *ret_row)
{
    struct ap_rows *rows = b->rows;
    size_t first = rows->label_cnt, pos = SIZE_MAX;
    uint32_t i;
    int r = grow(&rows->labels, &b->label_cap, first + b->base_cnt + cnt, sizeof(*rows->labels));

    if (r == 0)
        r = grow(&rows->series, &b->series_cap, rows->series_cnt + 1, sizeof(*rows->series));
    if (r == 0)
        r = ap_table_reserve(&b->series);
    if (r != 0)
        return r;
    memcpy(rows->labels + first, b->base, b->base_cnt * sizeof(*own));
    if (cnt > 0) {
        memcpy(rows->labels + first + b->base_cnt, own, cnt * sizeof(*own));
        qsort(rows->labels + first, b->base_cnt + cnt, sizeof(*own), compare_labels);
    }
    ap_buf_reset(&b->key);
    for (size_t l = first; l < first + b->base_cnt + cnt; l++) {
        key_text(&b->key, rows->labels[l].name, (uint32_t)strlen(rows->labels[l].name));
        key_text(&b->key, rows->labels[l].value, (uint32_t)strlen(rows->labels[l].value));
    }
    if (b->key.error != 0)
        return b->key.error;
    uint64_t hash = XXH3_64bits(b->key.data, b->key.len);
    while ((i = ap_table_next(&b->series, hash, &pos)) != AP_TABLE_NONE) {
        if (rows->series[i].hash == hash) {
            *ret_row = i;
            return 0;
        }
    }
    for (size_t l = first; l < first + b->base_cnt + cnt; l++) {
        if (rows->labels[l].value == number) /* the text lies on the caller's stack */
            rows->labels[l].value = memcpy(rows->text + b->text_len, number, strlen(number) + 1);
    }
    b->text_len += number != NULL ? strlen(number) + 1 : 0;
    *ret_row = (uint32_t)rows->series_cnt++;
    rows->series[*ret_row] =
        (struct ap_row_series){.hash = hash, .first = (uint32_t)first, .cnt = (uint32_t)(b->base_cnt + cnt)};
    rows->label_cnt += b->base_cnt + cnt;
    ap_table_put(&b->series, hash, *ret_row);
    return 0;
}

/* A series and, without its pid (the last of its own labels, when there is one), its coarse form. */
static int store_both(struct builder *b, const struct ap_row_label *own, size_t cnt, const char *number,
                      uint32_t *ret_row)
{
    uint32_t coarse;
    int r = store_series(b, own, number != NULL ? cnt - 1 : cnt, NULL, &coarse);

    if (r != 0)
        return r;
    b->rows->series[coarse].coarse = b->rows->series[coarse].hash;
    *ret_row = coarse;
    if (number == NULL)
        return 0;
    r = store_series(b, own, cnt, number, ret_row);
    if (r == 0)
        b->rows->series[*ret_row].coarse = b->rows->series[coarse].hash;
    return r;
}

static int process_series(struct builder *b, uint32_t pid, const char *comm, const char *exe, const char *container,
                          uint64_t *ret_hash, uint32_t *ret_row)
{
    struct ap_row_label own[4];
    char number[NUMBER_SZ];
    uint32_t row;
    size_t cnt = 0;

    snprintf(number, sizeof(number), "%" PRIu32, pid);
    if (comm[0] != '\0')
        own[cnt++] = (struct ap_row_label){"comm", comm};
    if (container[0] != '\0')
        own[cnt++] = (struct ap_row_label){"container", container};
    if (exe[0] != '\0')
        own[cnt++] = (struct ap_row_label){"exe", exe};
    if (pid != 0)
        own[cnt++] = (struct ap_row_label){"pid", number};
    int r = store_both(b, own, cnt, pid != 0 ? number : NULL, &row);
    if (r != 0)
        return r;
    *ret_hash = b->rows->series[row].hash;
    if (ret_row != NULL)
        *ret_row = row;
    return 0;
}

static int profile_series(struct builder *b, unsigned p)
{
    const struct ap_profile *profile = b->profile;
    uint64_t *hashes = calloc((size_t)profile->series_cnt + 1, sizeof(*hashes));

    b->rows->series_hash[p] = hashes;
    b->series_row = calloc((size_t)profile->series_cnt + 1, sizeof(*b->series_row));
    if (hashes == NULL || b->series_row == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < profile->series_cnt; i++) {
        const struct ap_series *series = &profile->series[i];
        int r =
            process_series(b, series->pid, ap_profile_str(profile, series->comm), ap_profile_str(profile, series->exe),
                           ap_profile_str(profile, series->container), &hashes[i], &b->series_row[i]);

        if (r != 0)
            return r;
    }
    return 0;
}

/* Index of the profile's first series of each pid. */
static int series_by_pid(const struct ap_profile *profile, struct ap_table *table)
{
    for (uint32_t i = 0; i < profile->series_cnt; i++) {
        uint64_t hash = ap_table_mix(profile->series[i].pid);
        size_t pos = SIZE_MAX;
        uint32_t j;

        while ((j = ap_table_next(table, hash, &pos)) != AP_TABLE_NONE) {
            if (profile->series[j].pid == profile->series[i].pid)
                break;
        }
        if (j != AP_TABLE_NONE)
            continue;
        int r = ap_table_reserve(table);
        if (r != 0)
            return r;
        ap_table_put(table, hash, i);
    }
    return 0;
}

static int table_row_series(struct builder *b, const struct ap_table *pids, uint32_t pid, uint32_t comm,
                            uint64_t *ret_hash)
{
    const struct ap_profile *profile = b->profile;
    const char *exe = "", *container = "";
    size_t pos = SIZE_MAX;
    uint32_t i;

    while (pid != 0 && (i = ap_table_next(pids, ap_table_mix(pid), &pos)) != AP_TABLE_NONE) {
        if (profile->series[i].pid == pid) {
            exe = ap_profile_str(profile, profile->series[i].exe);
            container = ap_profile_str(profile, profile->series[i].container);
            break;
        }
    }
    return process_series(b, pid, ap_profile_str(profile, comm), exe, container, ret_hash, NULL);
}

/* Series of the rows of a lock or system call table. */
static int table_series(struct builder *b, unsigned p)
{
    const struct ap_profile *profile = b->profile;
    size_t cnt = profile->locks != NULL      ? profile->locks->row_cnt
                 : profile->syscalls != NULL ? profile->syscalls->row_cnt
                                             : 0;
    struct ap_table pids = {0};
    uint64_t *hashes = calloc(cnt + 1, sizeof(*hashes));

    if (hashes == NULL)
        return -ENOMEM;
    b->rows->table_series[p] = hashes;
    int r = cnt > 0 ? series_by_pid(profile, &pids) : 0;
    for (size_t i = 0; i < cnt && r == 0; i++) {
        uint32_t pid = profile->locks != NULL ? profile->locks->rows[i]->pid : profile->syscalls->rows[i]->pid;
        uint32_t comm = profile->locks != NULL ? profile->locks->rows[i]->comm : profile->syscalls->rows[i]->comm;

        r = table_row_series(b, &pids, pid, comm, &hashes[i]);
    }
    ap_table_done(&pids);
    return r;
}

/* ---- Samples ---- */

static int store_side(struct builder *b, const struct ap_lock_side *side)
{
    uint32_t row;

    if (side->stack == AP_LOCK_NO_STACK)
        return 0;
    return stack_row(b, side->series, side->stack, &row);
}

static int lock_stacks(struct builder *b)
{
    const struct ap_locks *locks = b->profile->locks;
    int r = 0;

    for (size_t i = 0; i < locks->row_cnt && r == 0; i++) {
        const struct ap_lock_row *row = locks->rows[i];

        for (uint32_t s = 0; s < row->waiter_cnt && r == 0; s++)
            r = store_side(b, &row->waiters[s]);
        for (uint32_t s = 0; s < row->waker_cnt && r == 0; s++)
            r = store_side(b, &row->wakers[s]);
    }
    return r;
}

static int profile_samples(struct builder *b, struct ap_error *err)
{
    const struct ap_profile *profile = b->profile;
    struct ap_rows *rows = b->rows;

    for (uint32_t i = 0; i < profile->sample_cnt; i++) {
        const struct ap_sample *sample = &profile->samples[i];
        uint64_t after_ns;

        if (__builtin_mul_overflow(sample->slot, profile->slot_ns, &after_ns) || after_ns > AP_PUSH_DURATION_MAX)
            return ap_error_set(err, -EINVAL, "a sample lies %u slots of %" PRIu64 " ns after the batch's beginning",
                                sample->slot, profile->slot_ns);
        uint64_t at = (rows->push->start_ns + after_ns) / AP_PUSH_SLOT_NS;
        size_t n = rows->sample_cnt;
        int r = stack_row(b, sample->series, sample->stack, &b->sample_stack[n]);
        if (r != 0)
            return r;
        b->sample_series[n] = b->series_row[sample->series];
        rows->samples[n] = (struct ap_row_sample){
            .count = sample->count,
            .value = sample->value,
            .t_s = (uint32_t)(at / SLOTS_PER_SEC),
            .slot = (uint8_t)(at % SLOTS_PER_SEC),
            .kind = profile->kind,
        };
        rows->sample_cnt++;
    }
    return 0;
}

static void profile_done(struct builder *b)
{
    free(b->frame_hash);
    free(b->frame_stored);
    free(b->texts);
    free(b->mapping_hash);
    free(b->series_row);
    free(b->pairs);
    ap_table_done(&b->pair_table);
    b->frame_hash = NULL;
    b->frame_stored = NULL;
    b->texts = NULL;
    b->mapping_hash = NULL;
    b->series_row = NULL;
    b->pairs = NULL;
    b->pair_cnt = b->pair_cap = 0;
}

static int add_profile(struct builder *b, unsigned p, struct ap_error *err)
{
    const struct ap_profile *profile = b->rows->push->capture->profiles[p];

    b->profile = profile;
    b->frame_hash = calloc((size_t)profile->frame_cnt + 1, sizeof(*b->frame_hash));
    b->frame_stored = calloc((size_t)profile->frame_cnt + 1, sizeof(*b->frame_stored));
    b->texts = calloc(ap_strings_count(profile->strings) + 1, sizeof(*b->texts));
    b->mapping_hash = calloc((size_t)profile->mapping_cnt + 1, sizeof(*b->mapping_hash));
    int r =
        b->frame_hash != NULL && b->frame_stored != NULL && b->texts != NULL && b->mapping_hash != NULL ? 0 : -ENOMEM;
    if (r == 0)
        r = profile_series(b, p);
    if (r == 0)
        r = profile_samples(b, err);
    if (r == 0 && profile->locks != NULL)
        r = lock_stacks(b);
    if (r == 0)
        r = table_series(b, p);
    if (r == 0 && profile->locks != NULL) {
        b->rows->frame_hash[p] = b->frame_hash;
        b->frame_hash = NULL;
    }
    profile_done(b);
    return r;
}

static unsigned bits_for(uint64_t max)
{
    return max == 0 ? 0 : 64 - (unsigned)__builtin_clzll(max);
}

static int sort_key_bits(const struct builder *b, unsigned *ret_stack, unsigned *ret_time, unsigned *ret_series)
{
    *ret_stack = bits_for(b->rows->stack_cnt);
    *ret_time = bits_for(AP_PUSH_DURATION_MAX / AP_PUSH_SLOT_NS + 1);
    *ret_series = bits_for(b->rows->series_cnt);
    /* by kind too: 0..255 */
    return *ret_stack + *ret_time + *ret_series + 8 <= 64 ? 0 : -E2BIG;
}

/* Orders the samples by kind, series, time and stack, and adds up those that agree in all of them. */
static int order_samples(struct builder *b, const uint32_t *series_place, const uint32_t *stack_place)
{
    struct ap_rows *rows = b->rows;
    size_t cnt = rows->sample_cnt, n = 0;
    uint64_t first_slot = rows->push->start_ns / AP_PUSH_SLOT_NS;
    unsigned stack_bits, time_bits, series_bits;
    int r = sort_key_bits(b, &stack_bits, &time_bits, &series_bits);

    if (r != 0)
        return r;
    struct ap_order *items = malloc((2 * cnt + 1) * sizeof(*items));
    struct ap_row_sample *sorted = malloc((cnt + 1) * sizeof(*sorted));
    if (items == NULL || sorted == NULL) {
        free(items);
        free(sorted);
        return -ENOMEM;
    }
    for (size_t i = 0; i < cnt; i++) {
        struct ap_row_sample *sample = &rows->samples[i];
        uint32_t series = series_place[b->sample_series[i]], stack = stack_place[b->sample_stack[i]];
        uint64_t at = (uint64_t)sample->t_s * SLOTS_PER_SEC + sample->slot - first_slot;

        sample->series = rows->series[series].hash;
        sample->stack = rows->stacks[stack].hash;
        sample->series_row = series;
        sample->stack_row = stack;
        items[i].key = (((uint64_t)sample->kind << series_bits | series) << time_bits | at) << stack_bits | stack;
        items[i].index = (uint32_t)i;
    }
    ap_order(items, items + cnt, cnt);
    for (size_t i = 0; i < cnt; i++) {
        const struct ap_row_sample *sample = &rows->samples[items[i].index];

        if (i > 0 && items[i].key == items[i - 1].key) {
            sorted[n - 1].count += sample->count;
            sorted[n - 1].value += sample->value;
        } else {
            sorted[n++] = *sample;
        }
    }
    free(items);
    free(rows->samples);
    rows->samples = sorted;
    rows->sample_cnt = n;
    return 0;
}

static int order_rows(struct builder *b)
{
    struct ap_rows *rows = b->rows;
    uint32_t *series = NULL, *stacks = NULL, *frames = NULL;
    int r = order_by_hash(&rows->series, rows->series_cnt, sizeof(*rows->series), &series);

    if (r == 0)
        r = order_by_hash(&rows->stacks, rows->stack_cnt, sizeof(*rows->stacks), &stacks);
    if (r == 0)
        r = order_by_hash(&rows->frames, rows->frame_cnt, sizeof(*rows->frames), &frames);
    if (r == 0)
        r = order_samples(b, series, stacks);
    free(series);
    free(stacks);
    free(frames);
    return r;
}

/* ---- Whole ---- */

static int check_push(const struct ap_push *push, uint64_t received_ns, struct ap_error *err)
{
    if (push->duration_ns > AP_PUSH_DURATION_MAX)
        return ap_error_set(err, -EINVAL, "the batch covers %" PRIu64 " ns; at most %llu are taken", push->duration_ns,
                            AP_PUSH_DURATION_MAX);
    if (push->start_ns / AP_NS_PER_SEC + AP_PUSH_DURATION_MAX / AP_NS_PER_SEC >= SECONDS_MAX || push->start_ns == 0)
        return ap_error_set(err, -EINVAL, "the batch begins %" PRIu64 " ns after 1970: that cannot be", push->start_ns);
    if (received_ns != 0 && push->start_ns > received_ns && push->start_ns - received_ns > AHEAD_MAX_NS)
        return ap_error_set(
            err, -EINVAL, "the batch begins %" PRIu64 " s in the future: check the clocks of the agent's host and here",
            (uint64_t)((push->start_ns - received_ns) / AP_NS_PER_SEC));
    for (unsigned p = 0; p < push->capture->profile_cnt; p++) {
        if (push->capture->profiles[p]->kind == 0)
            return ap_error_set(err, -EINVAL, "a profile of the batch has no kind");
    }
    return 0;
}

static int reserve(struct builder *b)
{
    const struct ap_capture *capture = b->rows->push->capture;
    size_t samples = 1, numbers = 1;

    for (unsigned p = 0; p < capture->profile_cnt; p++) {
        const struct ap_profile *profile = capture->profiles[p];

        samples += profile->sample_cnt;
        numbers += profile->series_cnt + (profile->locks != NULL ? profile->locks->row_cnt : 0) +
                   (profile->syscalls != NULL ? profile->syscalls->row_cnt : 0);
    }
    b->rows->samples = malloc(samples * sizeof(*b->rows->samples));
    b->sample_series = malloc(samples * sizeof(*b->sample_series));
    b->sample_stack = malloc(samples * sizeof(*b->sample_stack));
    b->rows->text = malloc(numbers * NUMBER_SZ); /* in place for good: rows point into it */
    return b->rows->samples != NULL && b->sample_series != NULL && b->sample_stack != NULL && b->rows->text != NULL
               ? 0
               : -ENOMEM;
}

static int build(struct builder *b, struct ap_error *err)
{
    const struct ap_capture *capture = b->rows->push->capture;
    uint32_t row;
    int r = reserve(b);

    if (r == 0)
        r = make_base(b);
    if (r == 0)
        r = store_both(b, NULL, 0, NULL, &row);
    if (r == 0)
        b->rows->batch_series = b->rows->series[row].hash;
    for (unsigned p = 0; p < capture->profile_cnt && r == 0; p++)
        r = add_profile(b, p, err);
    if (r == 0)
        r = order_rows(b);
    return r;
}

static void builder_done(struct builder *b)
{
    ap_buf_done(&b->key);
    ap_table_done(&b->frames);
    ap_table_done(&b->stacks);
    ap_table_done(&b->series);
    free(b->base);
    free(b->sample_series);
    free(b->sample_stack);
}

struct ap_rows *ap_rows_new(struct ap_push *push, const void *payload, size_t payload_sz, uint64_t received_ns,
                            struct ap_error *err)
{
    struct ap_error none;
    struct builder b = {0};

    err = err != NULL ? err : &none;
    err->code = 0;
    if (check_push(push, received_ns, err) != 0)
        return NULL;
    struct ap_rows *rows = calloc(1, sizeof(*rows));
    if (rows == NULL) {
        ap_error_errno(err, -ENOMEM, "rows of a batch");
        return NULL;
    }
    rows->push = push;
    rows->received_ns = received_ns;
    rows->payload = malloc(payload_sz + 1);
    rows->payload_sz = payload_sz;
    b.rows = rows;
    ap_buf_init(&b.key, KEY_SZ);
    int r = rows->payload != NULL ? build(&b, err) : -ENOMEM;
    builder_done(&b);
    if (r != 0) {
        if (err->code == 0)
            ap_error_errno(err, r, "rows of a batch");
        rows->push = NULL; /* still the caller's */
        return ap_rows_free(rows);
    }
    if (payload_sz > 0)
        memcpy(rows->payload, payload, payload_sz);
    return rows;
}

struct ap_rows *ap_rows_free(struct ap_rows *rows)
{
    if (rows == NULL)
        return NULL;
    for (unsigned p = 0; p < AP_CAPTURE_PROFILES_MAX; p++) {
        free(rows->series_hash[p]);
        free(rows->table_series[p]);
        free(rows->frame_hash[p]);
    }
    ap_push_free(rows->push);
    free(rows->payload);
    free(rows->samples);
    free(rows->stacks);
    free(rows->stack_frames);
    free(rows->frames);
    free(rows->series);
    free(rows->labels);
    free(rows->text);
    free(rows);
    return NULL;
}

size_t ap_rows_sample_cnt(const struct ap_rows *rows)
{
    return rows->sample_cnt;
}

size_t ap_rows_sz(const struct ap_rows *rows)
{
    const struct ap_capture *capture = rows->push->capture;
    size_t sz = sizeof(*rows) + rows->payload_sz + rows->sample_cnt * sizeof(*rows->samples) +
                rows->stack_cnt * sizeof(*rows->stacks) + rows->stack_frame_cnt * sizeof(*rows->stack_frames) +
                rows->frame_cnt * sizeof(*rows->frames) + rows->series_cnt * sizeof(*rows->series) +
                rows->label_cnt * sizeof(*rows->labels);

    for (unsigned p = 0; p < capture->profile_cnt; p++) {
        const struct ap_profile *profile = capture->profiles[p];

        sz += profile->sample_cnt * sizeof(*profile->samples) + profile->stack_cnt * sizeof(*profile->stacks) +
              profile->stack_frame_cnt * sizeof(*profile->stack_frames) +
              profile->frame_cnt * (sizeof(*profile->frames) + 64 /* text, about */) +
              profile->series_cnt * sizeof(*profile->series);
        if (profile->locks != NULL)
            sz += profile->locks->row_cnt * sizeof(struct ap_lock_row);
        if (profile->syscalls != NULL)
            sz += profile->syscalls->row_cnt * sizeof(struct ap_syscall_row);
    }
    return sz;
}

/* The row of `hash` among rows of `row_sz` bytes that begin with their hash and are ordered by it. */
static const void *find_row(const void *rows, size_t cnt, size_t row_sz, uint64_t hash)
{
    const char *base = rows;
    size_t low = 0, high = cnt;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint64_t here;

        memcpy(&here, base + middle * row_sz, sizeof(here));
        if (here == hash)
            return base + middle * row_sz;
        if (here < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct ap_row_series *ap_rows_series(const struct ap_rows *rows, uint64_t hash)
{
    return find_row(rows->series, rows->series_cnt, sizeof(*rows->series), hash);
}

const struct ap_row_stack *ap_rows_stack(const struct ap_rows *rows, uint64_t hash)
{
    return find_row(rows->stacks, rows->stack_cnt, sizeof(*rows->stacks), hash);
}

const struct ap_row_frame *ap_rows_frame(const struct ap_rows *rows, uint64_t hash)
{
    return find_row(rows->frames, rows->frame_cnt, sizeof(*rows->frames), hash);
}

uint64_t ap_rows_stack_hash(const struct ap_rows *rows, unsigned profile, uint32_t series, uint32_t stack)
{
    if (stack == AP_LOCK_NO_STACK || rows->frame_hash[profile] == NULL)
        return 0;
    const struct ap_profile *of = rows->push->capture->profiles[profile];
    const struct ap_stack *row = &of->stacks[stack];
    const struct ap_row_frame process = process_frame(ap_profile_str(of, of->series[series].comm));
    uint64_t hashes[AP_STACK_FRAMES_MAX + 1];

    for (uint32_t i = 0; i < row->frame_cnt; i++)
        hashes[i] = rows->frame_hash[profile][of->stack_frames[row->first + i]];
    hashes[row->frame_cnt] = process.hash;
    return hash_stack(hashes, row->frame_cnt + 1, row->truncated);
}
