/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/memory_batch.h"

#include "core/clock.h"
#include "model/locks.h"
#include "model/syscalls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t ap_mem_key(const struct ap_push *push, uint8_t key[AP_MEM_KEY_SZ])
{
    size_t len = strlen(push->agent_id);

    memcpy(key, &push->epoch, sizeof(push->epoch));
    memcpy(key + sizeof(push->epoch), &push->sequence, sizeof(push->sequence));
    memcpy(key + 2 * sizeof(uint64_t), push->agent_id, len);
    return 2 * sizeof(uint64_t) + len;
}

struct builder {
    struct ap_dict *dict;
    const struct ap_rows *rows;
    struct ap_mem_batch *batch;
    bool failed; /* out of memory */
};

/* Zeroed memory that is counted. Nothing wanted is no failure. */
static void *take(struct builder *b, size_t cnt, size_t sz)
{
    void *rows = cnt > 0 ? calloc(cnt, sz) : NULL;

    if (cnt > 0 && rows == NULL)
        b->failed = true;
    else
        b->batch->sz += cnt * sz;
    return rows;
}

/* Text of the dictionary, held by the batch. */
static const char *hold(struct builder *b, const char *str)
{
    struct ap_mem_batch *batch = b->batch;
    struct ap_dict_text *text;

    if (str[0] == '\0')
        return "";
    if (batch->text_cnt == batch->text_cap) {
        size_t cap = batch->text_cap == 0 ? 64 : batch->text_cap * 2;
        struct ap_dict_text **texts = reallocarray((void *)batch->texts, cap, sizeof(*texts));

        if (texts == NULL) {
            b->failed = true;
            return "";
        }
        batch->texts = texts;
        batch->sz += (cap - batch->text_cap) * sizeof(*texts);
        batch->text_cap = cap;
    }
    text = ap_dict_text(b->dict, str);
    if (text == NULL) {
        b->failed = true;
        return "";
    }
    batch->texts[batch->text_cnt++] = text;
    return text->text;
}

static const struct ap_dict_series *series_of(const struct builder *b, uint64_t hash)
{
    return ap_map_get(&b->dict->series, &hash, sizeof(hash)); /* held since hold_all() */
}

/* Holds all stacks and label sets. */
static void hold_all(struct builder *b)
{
    struct ap_mem_batch *batch = b->batch;

    batch->stacks = take(b, b->rows->stack_cnt, sizeof(*batch->stacks));
    batch->all_series = take(b, b->rows->series_cnt, sizeof(*batch->all_series));
    for (size_t i = 0; i < b->rows->stack_cnt && !b->failed; i++) {
        batch->stacks[i] = ap_dict_stack(b->dict, b->rows, &b->rows->stacks[i]);
        b->failed = batch->stacks[i] == NULL;
        batch->stack_cnt += !b->failed;
    }
    for (size_t i = 0; i < b->rows->series_cnt && !b->failed; i++) {
        batch->all_series[i] = ap_dict_series(b->dict, b->rows, &b->rows->series[i]);
        b->failed = batch->all_series[i] == NULL;
        batch->series_cnt += !b->failed;
    }
}

static void copy_samples(struct builder *b)
{
    struct ap_mem_batch *batch = b->batch;
    uint64_t hash = 0;

    batch->samples = take(b, b->rows->sample_cnt, sizeof(*batch->samples));
    batch->first_ns = UINT64_MAX;
    for (size_t i = 0; i < b->rows->sample_cnt && !b->failed; i++) {
        const struct ap_row_sample *from = &b->rows->samples[i];
        struct ap_mem_sample *sample = &batch->samples[i];

        *sample = (struct ap_mem_sample){
            .series = i > 0 && from->series == hash ? batch->samples[i - 1].series : series_of(b, from->series),
            .stack = from->stack,
            .count = from->count,
            .value = from->value,
            .t_ns = from->t_s * AP_NS_PER_SEC + from->slot * AP_PUSH_SLOT_NS,
            .kind = from->kind,
        };
        hash = from->series;
        if (sample->t_ns < batch->first_ns)
            batch->first_ns = sample->t_ns;
        if (sample->t_ns > batch->last_ns)
            batch->last_ns = sample->t_ns;
        batch->sample_cnt++;
    }
}

static void copy_histogram(struct builder *b, const struct ap_histogram *from, struct ap_histogram *to)
{
    if (ap_histogram_merge(to, from) != 0)
        b->failed = true;
    b->batch->sz += to->cnt * sizeof(*to->counts);
}

static const char *host_of(const struct builder *b, const struct ap_profile *profile, uint32_t host)
{
    const char *label = ap_push_label_value(b->rows->push, "host");

    return host != 0 ? ap_profile_str(profile, host) : label != NULL ? label : "";
}

static uint64_t side_stack(const struct builder *b, unsigned p, const struct ap_lock_side *side)
{
    if (side->stack == AP_LOCK_NO_STACK)
        return side->series == AP_LOCK_OTHERS ? AP_MERGE_OTHERS : AP_MERGE_UNKNOWN;
    return ap_rows_stack_hash(b->rows, p, side->series, side->stack);
}

static const struct ap_merge_side *copy_sides(struct builder *b, unsigned p, const struct ap_lock_side *from,
                                              uint32_t cnt)
{
    struct ap_merge_side *sides = take(b, cnt, sizeof(*sides));

    for (uint32_t i = 0; i < cnt && !b->failed; i++)
        sides[i] = (struct ap_merge_side){
            .stack = side_stack(b, p, &from[i]),
            .count = from[i].count,
            .total_ns = from[i].total_ns,
            .max_ns = from[i].max_ns,
        };
    return sides;
}

static const struct ap_merge_pair *copy_pairs(struct builder *b, const struct ap_lock_row *from,
                                              const struct ap_merge_side *waiters, const struct ap_merge_side *wakers)
{
    struct ap_merge_pair *pairs = take(b, from->pair_cnt, sizeof(*pairs));

    for (uint32_t i = 0; i < from->pair_cnt && !b->failed; i++) {
        const struct ap_lock_pair *pair = &from->pairs[i];
        bool rest = pair->waiter >= from->waiter_cnt || pair->waker >= from->waker_cnt;

        pairs[i] = (struct ap_merge_pair){
            .waiter = rest ? AP_MERGE_REST : waiters[pair->waiter].stack,
            .waker = rest ? AP_MERGE_REST : wakers[pair->waker].stack,
            .count = pair->count,
            .total_ns = pair->total_ns,
            .max_ns = pair->max_ns,
        };
    }
    return pairs;
}

static void copy_lock(struct builder *b, unsigned p, const struct ap_profile *profile, size_t i)
{
    const struct ap_lock_row *from = profile->locks->rows[i];
    struct ap_mem_lock *lock = &b->batch->locks[b->batch->lock_cnt++];

    lock->series = series_of(b, b->rows->table_series[p][i]);
    lock->row = (struct ap_merge_lock){
        .host = hold(b, host_of(b, profile, from->host)),
        .comm = hold(b, ap_profile_str(profile, from->comm)),
        .symbol = hold(b, ap_profile_str(profile, from->symbol)),
        .start_ns = b->batch->start_ns,
        .address = from->address,
        .pid = from->pid,
        .type = from->type,
        .kernel = from->kernel,
        .waits = from->waits,
        .total_ns = from->total_ns,
        .max_ns = from->max_ns,
        .timeouts = from->timeouts,
        .interrupted = from->interrupted,
        .retried = from->retried,
        .timeout_ns = from->timeout_ns,
        .interrupted_ns = from->interrupted_ns,
        .in_flight = from->in_flight,
        .in_flight_ns = from->in_flight_ns,
        .waiter_cnt = from->waiter_cnt,
        .waker_cnt = from->waker_cnt,
        .pair_cnt = from->pair_cnt,
    };
    copy_histogram(b, &from->histogram, &lock->row.histogram);
    lock->row.waiters = copy_sides(b, p, from->waiters, from->waiter_cnt);
    lock->row.wakers = copy_sides(b, p, from->wakers, from->waker_cnt);
    if (!b->failed)
        lock->row.pairs = copy_pairs(b, from, lock->row.waiters, lock->row.wakers);
}

static void copy_syscall(struct builder *b, unsigned p, const struct ap_profile *profile, size_t i)
{
    const struct ap_syscall_row *from = profile->syscalls->rows[i];
    struct ap_mem_syscall *syscall = &b->batch->syscalls[b->batch->syscall_cnt++];
    struct ap_merge_error *errors = take(b, from->error_cnt, sizeof(*errors));

    syscall->series = series_of(b, b->rows->table_series[p][i]);
    syscall->row = (struct ap_merge_syscall){
        .host = hold(b, host_of(b, profile, from->host)),
        .comm = hold(b, ap_profile_str(profile, from->comm)),
        .name = hold(b, ap_profile_str(profile, from->name)),
        .start_ns = b->batch->start_ns,
        .pid = from->pid,
        .number = from->number,
        .abi = from->abi,
        .count = from->count,
        .total_ns = from->total_ns,
        .max_ns = from->max_ns,
        .in_flight = from->in_flight,
        .in_flight_max_ns = from->in_flight_max_ns,
        .errors = errors,
        .error_cnt = errors != NULL ? from->error_cnt : 0,
    };
    for (uint32_t e = 0; e < syscall->row.error_cnt; e++)
        errors[e] = (struct ap_merge_error){.error = from->errors[e].error, .count = from->errors[e].count};
    copy_histogram(b, &from->histogram, &syscall->row.histogram);
}

static void copy_tables(struct builder *b)
{
    const struct ap_capture *capture = b->rows->push->capture;
    size_t locks = 0, syscalls = 0;

    for (unsigned p = 0; p < capture->profile_cnt; p++) {
        const struct ap_profile *profile = capture->profiles[p];

        locks += profile->locks != NULL ? profile->locks->row_cnt : 0;
        syscalls += profile->locks == NULL && profile->syscalls != NULL ? profile->syscalls->row_cnt : 0;
    }
    b->batch->locks = take(b, locks, sizeof(*b->batch->locks));
    b->batch->syscalls = take(b, syscalls, sizeof(*b->batch->syscalls));
    for (unsigned p = 0; p < capture->profile_cnt; p++) {
        const struct ap_profile *profile = capture->profiles[p];

        for (size_t i = 0; profile->locks != NULL && i < profile->locks->row_cnt && !b->failed; i++)
            copy_lock(b, p, profile, i);
        for (size_t i = 0;
             profile->locks == NULL && profile->syscalls != NULL && i < profile->syscalls->row_cnt && !b->failed; i++)
            copy_syscall(b, p, profile, i);
    }
}

static void copy_capture(struct builder *b)
{
    const struct ap_push *push = b->rows->push;
    const struct ap_capture *capture = push->capture;
    struct ap_mem_batch *batch = b->batch;

    memcpy(batch->agent_id, push->agent_id, sizeof(batch->agent_id));
    batch->epoch = push->epoch;
    batch->sequence = push->sequence;
    batch->start_ns = push->start_ns;
    batch->duration_ns = push->duration_ns;
    batch->received_ns = b->rows->received_ns;
    batch->bytes = b->rows->payload_sz;
    batch->spool_bytes = push->spool_bytes;
    batch->spool_dropped_batches = push->spool_dropped_batches;
    batch->spool_dropped_events = push->spool_dropped_events;
    batch->info = capture->agent;
    batch->series = series_of(b, b->rows->batch_series);
    batch->left_out = take(b, capture->left_out_cnt, sizeof(*batch->left_out));
    if (batch->left_out != NULL) {
        memcpy(batch->left_out, capture->left_out, capture->left_out_cnt * sizeof(*batch->left_out));
        batch->left_out_cnt = capture->left_out_cnt;
    }
    for (unsigned p = 0; p < capture->profile_cnt; p++) {
        const struct ap_profile *profile = capture->profiles[p];
        struct ap_mem_kind *kind = &batch->kinds[batch->kind_cnt++];

        kind->account = capture->accounts[p];
        kind->sums = (struct ap_kind_count){
            .kind = profile->kind,
            .events = ap_profile_total_count(profile),
            .value = ap_profile_total_value(profile),
            .lost = ap_account_lost(&capture->accounts[p]),
        };
        if (profile->syscalls != NULL) { /* counted without stacks */
            kind->sums.events = ap_syscalls_count(profile->syscalls);
            kind->sums.value = ap_syscalls_total_ns(profile->syscalls);
        }
    }
}

struct ap_mem_batch *ap_mem_batch_new(struct ap_dict *dict, const struct ap_rows *rows)
{
    struct builder b = {.dict = dict, .rows = rows, .batch = calloc(1, sizeof(*b.batch))};
    uint8_t key[AP_MEM_KEY_SZ];

    if (b.batch == NULL)
        return NULL;
    b.batch->sz = sizeof(*b.batch);
    b.batch->key_len = ap_mem_key(rows->push, key);
    b.batch->key = take(&b, b.batch->key_len, 1);
    if (!b.failed) {
        memcpy(b.batch->key, key, b.batch->key_len);
        hold_all(&b);
    }
    if (!b.failed)
        copy_capture(&b);
    if (!b.failed)
        copy_samples(&b);
    if (!b.failed)
        copy_tables(&b);
    return b.failed ? ap_mem_batch_free(dict, b.batch) : b.batch;
}

struct ap_mem_batch *ap_mem_batch_free(struct ap_dict *dict, struct ap_mem_batch *batch)
{
    if (batch == NULL)
        return NULL;
    for (size_t i = 0; i < batch->lock_cnt; i++) {
        struct ap_merge_lock *row = &batch->locks[i].row;

        ap_histogram_done(&row->histogram);
        free((void *)(uintptr_t)row->waiters);
        free((void *)(uintptr_t)row->wakers);
        free((void *)(uintptr_t)row->pairs);
    }
    for (size_t i = 0; i < batch->syscall_cnt; i++) {
        ap_histogram_done(&batch->syscalls[i].row.histogram);
        free((void *)(uintptr_t)batch->syscalls[i].row.errors);
    }
    for (size_t i = 0; i < batch->stack_cnt; i++)
        ap_dict_stack_unref(dict, batch->stacks[i]);
    for (size_t i = 0; i < batch->series_cnt; i++)
        ap_dict_series_unref(dict, batch->all_series[i]);
    for (size_t i = 0; i < batch->text_cnt; i++)
        ap_dict_text_unref(dict, batch->texts[i]);
    free(batch->samples);
    free(batch->locks);
    free(batch->syscalls);
    free((void *)batch->stacks);
    free((void *)batch->all_series);
    free((void *)batch->texts);
    free(batch->left_out);
    free(batch->key);
    free(batch);
    return NULL;
}

bool ap_mem_batch_has(const struct ap_mem_batch *batch, uint8_t kind)
{
    for (unsigned i = 0; i < batch->kind_cnt; i++)
        if (batch->kinds[i].sums.kind == kind)
            return true;
    return kind == 0;
}
