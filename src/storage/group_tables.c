/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Locks, system calls and the batches themselves as blocks. All of them belong to the moment at which their batch
 * begins. */
#include "storage/group_tables.h"

#include "core/clock.h"
#include "model/locks.h"
#include "model/syscalls.h"
#include "storage/merge.h"
#include "storage/order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DAY_S 86400u

/* A batch, as its rows need it. */
struct batch {
    const struct ap_rows *rows;
    uint32_t t_s, day;
    const char *host;
};

typedef void (*put_fn)(struct ap_block *block, const struct batch *batch, unsigned profile, size_t row);
typedef size_t (*count_fn)(const struct ap_profile *profile);

static void put_str(struct ap_block *block, size_t col, const char *text)
{
    ap_block_text(block, col, text, strlen(text));
}

/* The batches in the order of their days, so that the rows of a day are one run. */
static struct ap_order *by_day(const struct ap_group *group)
{
    struct ap_order *order = malloc((2 * group->cnt + 1) * sizeof(*order));

    if (order == NULL)
        return NULL;
    for (size_t i = 0; i < group->cnt; i++) {
        order[i].key = group->rows[i]->push->start_ns / AP_NS_PER_SEC / DAY_S;
        order[i].index = (uint32_t)i;
    }
    ap_order(order, order + group->cnt, group->cnt);
    return order;
}

static struct batch batch_of(const struct ap_rows *rows)
{
    uint32_t t_s = (uint32_t)(rows->push->start_ns / AP_NS_PER_SEC);
    const char *host = ap_push_label_value(rows->push, "host");

    return (struct batch){.rows = rows, .t_s = t_s, .day = t_s / DAY_S, .host = host != NULL ? host : ""};
}

static int put_batch_rows(struct ap_chunks *chunks, const struct batch *batch, count_fn count, put_fn put,
                          struct ap_error *err)
{
    const struct ap_capture *capture = batch->rows->push->capture;
    unsigned profile_cnt = count != NULL ? capture->profile_cnt : 1;

    for (unsigned p = 0; p < profile_cnt; p++) {
        size_t cnt = count != NULL ? count(capture->profiles[p]) : 1;

        for (size_t i = 0; i < cnt; i++) {
            int r = ap_chunks_day(chunks, batch->day, err);

            if (r != 0)
                return r;
            put(&chunks->block, batch, p, i);
            ap_block_row_end(&chunks->block);
        }
    }
    return 0;
}

/* `count` NULL: one row a batch. */
static int table_chunks(const struct ap_group *group, enum ap_store_table table, count_fn count, put_fn put,
                        ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    struct ap_order *order = by_day(group);
    struct ap_chunks chunks;
    int r = 0;

    if (order == NULL)
        return ap_error_errno(err, -ENOMEM, "rows of a group");
    ap_chunks_init(&chunks, group, table, fn, ctx);
    for (size_t b = 0; b < group->cnt && r == 0; b++) {
        const struct batch batch = batch_of(group->rows[order[b].index]);

        r = put_batch_rows(&chunks, &batch, count, put, err);
    }
    if (r == 0)
        r = ap_chunks_flush(&chunks, err);
    ap_chunks_done(&chunks);
    free(order);
    return r;
}

static void put_histogram(struct ap_block *block, size_t buckets, size_t counts, const struct ap_histogram *histogram)
{
    for (unsigned i = 0; i < histogram->cnt; i++) {
        if (histogram->counts[i] == 0)
            continue;
        ap_block_item(block, buckets, histogram->first + i);
        ap_block_item(block, counts, histogram->counts[i]);
    }
    ap_block_array_end(block, buckets);
    ap_block_array_end(block, counts);
}

/* ---- Locks ---- */

static size_t lock_cnt(const struct ap_profile *profile)
{
    return profile->locks != NULL ? profile->locks->row_cnt : 0;
}

static uint64_t side_stack(const struct ap_rows *rows, unsigned profile, const struct ap_lock_side *side)
{
    if (side->stack == AP_LOCK_NO_STACK)
        return side->series == AP_LOCK_OTHERS ? AP_MERGE_OTHERS : AP_MERGE_UNKNOWN;
    return ap_rows_stack_hash(rows, profile, side->series, side->stack);
}

static void put_sides(struct ap_block *block, const struct ap_rows *rows, unsigned profile,
                      const struct ap_lock_side *sides, uint32_t cnt, uint8_t role)
{
    for (uint32_t i = 0; i < cnt; i++) {
        ap_block_item(block, AP_LOCKS_SIDE_ROLE, role);
        ap_block_item(block, AP_LOCKS_SIDE_STACK, side_stack(rows, profile, &sides[i]));
        ap_block_item(block, AP_LOCKS_SIDE_COUNT, sides[i].count);
        ap_block_item(block, AP_LOCKS_SIDE_TOTAL_NS, sides[i].total_ns);
        ap_block_item(block, AP_LOCKS_SIDE_MAX_NS, sides[i].max_ns);
    }
}

static void put_pairs(struct ap_block *block, const struct ap_rows *rows, unsigned profile,
                      const struct ap_lock_row *row)
{
    for (uint32_t i = 0; i < row->pair_cnt; i++) {
        const struct ap_lock_pair *pair = &row->pairs[i];
        bool rest = pair->waiter >= row->waiter_cnt || pair->waker >= row->waker_cnt;

        ap_block_item(block, AP_LOCKS_PAIR_WAITER,
                      rest ? AP_MERGE_REST : side_stack(rows, profile, &row->waiters[pair->waiter]));
        ap_block_item(block, AP_LOCKS_PAIR_WAKER,
                      rest ? AP_MERGE_REST : side_stack(rows, profile, &row->wakers[pair->waker]));
        ap_block_item(block, AP_LOCKS_PAIR_COUNT, pair->count);
        ap_block_item(block, AP_LOCKS_PAIR_TOTAL_NS, pair->total_ns);
        ap_block_item(block, AP_LOCKS_PAIR_MAX_NS, pair->max_ns);
    }
}

static void put_lock(struct ap_block *block, const struct batch *batch, unsigned p, size_t i)
{
    const struct ap_profile *profile = batch->rows->push->capture->profiles[p];
    const struct ap_lock_row *row = profile->locks->rows[i];

    ap_block_number(block, AP_LOCKS_T, batch->t_s);
    ap_block_number(block, AP_LOCKS_START_NS, batch->rows->push->start_ns);
    ap_block_number(block, AP_LOCKS_SERIES, batch->rows->table_series[p][i]);
    put_str(block, AP_LOCKS_HOST, batch->host);
    ap_block_number(block, AP_LOCKS_PID, row->pid);
    put_str(block, AP_LOCKS_COMM, ap_profile_str(profile, row->comm));
    ap_block_number(block, AP_LOCKS_ADDRESS, row->address);
    put_str(block, AP_LOCKS_SYMBOL, ap_profile_str(profile, row->symbol));
    ap_block_number(block, AP_LOCKS_TYPE, row->type);
    ap_block_number(block, AP_LOCKS_KERNEL, row->kernel);
    ap_block_number(block, AP_LOCKS_WAITS, row->waits);
    ap_block_number(block, AP_LOCKS_TOTAL_NS, row->total_ns);
    ap_block_number(block, AP_LOCKS_MAX_NS, row->max_ns);
    ap_block_number(block, AP_LOCKS_TIMEOUTS, row->timeouts);
    ap_block_number(block, AP_LOCKS_INTERRUPTED, row->interrupted);
    ap_block_number(block, AP_LOCKS_RETRIED, row->retried);
    ap_block_number(block, AP_LOCKS_TIMEOUT_NS, row->timeout_ns);
    ap_block_number(block, AP_LOCKS_INTERRUPTED_NS, row->interrupted_ns);
    ap_block_number(block, AP_LOCKS_IN_FLIGHT, row->in_flight);
    ap_block_number(block, AP_LOCKS_IN_FLIGHT_NS, row->in_flight_ns);
    put_histogram(block, AP_LOCKS_BUCKETS, AP_LOCKS_BUCKET_COUNTS, &row->histogram);
    put_sides(block, batch->rows, p, row->waiters, row->waiter_cnt, 0);
    put_sides(block, batch->rows, p, row->wakers, row->waker_cnt, 1);
    put_pairs(block, batch->rows, p, row);
    for (size_t col = AP_LOCKS_SIDE_ROLE; col < AP_LOCKS_COLS; col++)
        ap_block_array_end(block, col);
}

int ap_group_lock_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    return table_chunks(group, AP_TABLE_LOCKS, lock_cnt, put_lock, fn, ctx, err);
}

/* ---- System calls ---- */

static size_t syscall_cnt(const struct ap_profile *profile)
{
    return profile->syscalls != NULL ? profile->syscalls->row_cnt : 0;
}

static void put_syscall(struct ap_block *block, const struct batch *batch, unsigned p, size_t i)
{
    const struct ap_profile *profile = batch->rows->push->capture->profiles[p];
    const struct ap_syscall_row *row = profile->syscalls->rows[i];

    ap_block_number(block, AP_SYSCALLS_T, batch->t_s);
    ap_block_number(block, AP_SYSCALLS_START_NS, batch->rows->push->start_ns);
    ap_block_number(block, AP_SYSCALLS_SERIES, batch->rows->table_series[p][i]);
    put_str(block, AP_SYSCALLS_HOST, batch->host);
    ap_block_number(block, AP_SYSCALLS_PID, row->pid);
    put_str(block, AP_SYSCALLS_COMM, ap_profile_str(profile, row->comm));
    ap_block_number(block, AP_SYSCALLS_ABI, row->abi);
    ap_block_number(block, AP_SYSCALLS_NUMBER, row->number);
    put_str(block, AP_SYSCALLS_NAME, ap_profile_str(profile, row->name));
    ap_block_number(block, AP_SYSCALLS_COUNT, row->count);
    ap_block_number(block, AP_SYSCALLS_TOTAL_NS, row->total_ns);
    ap_block_number(block, AP_SYSCALLS_MAX_NS, row->max_ns);
    ap_block_number(block, AP_SYSCALLS_IN_FLIGHT, row->in_flight);
    ap_block_number(block, AP_SYSCALLS_IN_FLIGHT_MAX_NS, row->in_flight_max_ns);
    put_histogram(block, AP_SYSCALLS_BUCKETS, AP_SYSCALLS_BUCKET_COUNTS, &row->histogram);
    for (uint32_t e = 0; e < row->error_cnt; e++) {
        ap_block_item(block, AP_SYSCALLS_ERRORS, row->errors[e].error);
        ap_block_item(block, AP_SYSCALLS_ERROR_COUNTS, row->errors[e].count);
    }
    ap_block_array_end(block, AP_SYSCALLS_ERRORS);
    ap_block_array_end(block, AP_SYSCALLS_ERROR_COUNTS);
}

int ap_group_syscall_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    return table_chunks(group, AP_TABLE_SYSCALLS, syscall_cnt, put_syscall, fn, ctx, err);
}

/* ---- Batches ---- */

static void put_agent(struct ap_block *block, const struct ap_push *push)
{
    const struct ap_agent_info *info = &push->capture->agent;

    put_str(block, AP_BATCHES_VERSION, info->version);
    put_str(block, AP_BATCHES_HOST, info->host);
    put_str(block, AP_BATCHES_KERNEL, info->kernel);
    put_str(block, AP_BATCHES_ARCH, info->arch);
    put_str(block, AP_BATCHES_EVENT, info->event);
    ap_block_number(block, AP_BATCHES_CPUS_ONLINE, info->cpus_online);
    ap_block_number(block, AP_BATCHES_FREQUENCY, info->frequency);
    ap_block_number(block, AP_BATCHES_CPU_NS, info->cpu_ns);
    ap_block_number(block, AP_BATCHES_OTHER_CPU_NS, info->other_cpu_ns);
    ap_block_number(block, AP_BATCHES_BPF_RUN_NS, info->bpf_run_ns);
    ap_block_number(block, AP_BATCHES_BPF_RUN_CNT, info->bpf_run_cnt);
    ap_block_number(block, AP_BATCHES_RSS_PEAK, info->rss_peak_bytes);
    ap_block_number(block, AP_BATCHES_BPF_MEMORY, info->bpf_memory_bytes);
    ap_block_number(block, AP_BATCHES_SPOOL_BYTES, push->spool_bytes);
    ap_block_number(block, AP_BATCHES_SPOOL_DROPPED_BATCHES, push->spool_dropped_batches);
    ap_block_number(block, AP_BATCHES_SPOOL_DROPPED_EVENTS, push->spool_dropped_events);
    for (unsigned i = 0; i < push->capture->left_out_cnt; i++) {
        const struct ap_left_out *left = &push->capture->left_out[i];

        ap_block_item(block, AP_BATCHES_LEFT_KINDS, left->kind);
        ap_block_item_text(block, AP_BATCHES_LEFT_REASONS, left->reason, strlen(left->reason));
    }
    ap_block_array_end(block, AP_BATCHES_LEFT_KINDS);
    ap_block_array_end(block, AP_BATCHES_LEFT_REASONS);
}

static void put_account(struct ap_block *block, const struct ap_profile *profile, const struct ap_account *account)
{
    struct ap_kind_count count;

    ap_group_kind_count(profile, account, &count);
    ap_block_item(block, AP_BATCHES_KINDS, count.kind);
    ap_block_item(block, AP_BATCHES_EVENTS, count.events);
    ap_block_item(block, AP_BATCHES_TOTALS, count.value);
    ap_block_item(block, AP_BATCHES_EXPECTED, account->expected);
    ap_block_item(block, AP_BATCHES_DELIVERED, account->delivered);
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        ap_block_item(block, AP_BATCHES_LOSSES, account->losses[i]);
    ap_block_item(block, AP_BATCHES_IDLE, account->idle);
    ap_block_item(block, AP_BATCHES_OUT_OF_SCOPE, account->out_of_scope);
    ap_block_item(block, AP_BATCHES_BELOW_MIN, account->below_min);
    ap_block_item(block, AP_BATCHES_BELOW_MIN_NS, account->below_min_ns);
    ap_block_item(block, AP_BATCHES_FOLDED, account->folded);
    ap_block_item(block, AP_BATCHES_UNMATCHED, account->unmatched);
}

static void put_batch(struct ap_block *block, const struct batch *batch, unsigned p, size_t i)
{
    const struct ap_push *push = batch->rows->push;

    (void)p;
    (void)i;
    ap_block_number(block, AP_BATCHES_T, batch->t_s);
    put_str(block, AP_BATCHES_AGENT, push->agent_id);
    ap_block_number(block, AP_BATCHES_EPOCH, push->epoch);
    ap_block_number(block, AP_BATCHES_SEQUENCE, push->sequence);
    ap_block_number(block, AP_BATCHES_SERIES, batch->rows->batch_series);
    ap_block_number(block, AP_BATCHES_START_NS, push->start_ns);
    ap_block_number(block, AP_BATCHES_DURATION_NS, push->duration_ns);
    ap_block_number(block, AP_BATCHES_RECEIVED_NS, batch->rows->received_ns);
    ap_block_number(block, AP_BATCHES_BYTES, batch->rows->payload_sz);
    put_agent(block, push);
    for (unsigned k = 0; k < push->capture->profile_cnt; k++)
        put_account(block, push->capture->profiles[k], &push->capture->accounts[k]);
    for (size_t col = AP_BATCHES_KINDS; col < AP_BATCHES_COLS; col++)
        ap_block_array_end(block, col);
}

int ap_group_batch_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err)
{
    return table_chunks(group, AP_TABLE_BATCHES, NULL, put_batch, fn, ctx, err);
}
