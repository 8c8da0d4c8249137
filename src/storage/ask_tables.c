/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Locks and system calls: added up by the server as far as it can, then merged as every implementation does. */
#include "model/syscalls.h"
#include "storage/ask.h"
#include "storage/merge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Most rows of one of the queries below. */
#define ROWS_MAX (1u << 20)

/* Locks with a symbol are the same wherever it lay. */
#define LOCK_BY     "host, pid, comm, kernel, symbol, addr"
#define LOCK_KEY    "host, pid, comm, kernel, symbol, if(symbol = '', address, toUInt64(0)) AS addr"
#define SYSCALL_KEY "host, pid, comm, abi, number, name"

/* Text of one row, terminated. */
struct texts {
    char *items[3];
    size_t cnt;
};

static const char *take_text(struct texts *texts, struct ap_rowbin *in)
{
    char *text = ap_ask_text(in);

    if (text != NULL)
        texts->items[texts->cnt++] = text;
    return text;
}

static void texts_done(struct texts *texts)
{
    for (size_t i = 0; i < texts->cnt; i++)
        free(texts->items[i]);
    texts->cnt = 0;
}

struct asking {
    struct ap_store *store;
    const struct ap_storage_scope *scope;
    struct ap_merge *merge;
};

/* Reads one row and merges it. 0, -ENOMEM or -EIO. */
typedef int (*read_fn)(struct asking *asking, struct ap_rowbin *in);

/* "SELECT columns FROM table clause WHERE scope GROUP BY by". */
struct sums {
    enum ap_store_table table;
    const char *columns, *clause, *by;
    /* NULL, or what is selected from that once more, and by what it is grouped. */
    const char *outer, *outer_by;
};

static int ask(struct asking *asking, const struct sums *sums, read_fn read, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    size_t cnt = 0;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    if (sums->outer != NULL)
        ap_buf_printf(&sql, "SELECT %s FROM (", sums->outer);
    ap_buf_printf(&sql, "SELECT %s FROM %s.%s %s WHERE 1", sums->columns, asking->store->database,
                  ap_table_def(sums->table)->name, sums->clause);
    ap_sql_starts(&sql, asking->scope);
    ap_sql_series(&sql, asking->store->database, asking->scope, false);
    ap_buf_printf(&sql, " GROUP BY %s", sums->by);
    if (sums->outer != NULL)
        ap_buf_printf(&sql, ") GROUP BY %s", sums->outer_by);
    ap_buf_printf(&sql, " LIMIT %u", ROWS_MAX + 1);
    int r = ap_store_query(asking->store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        if (cnt++ == ROWS_MAX) {
            r = ap_ask_too_many(err, "rows", ROWS_MAX);
            break;
        }
        r = read(asking, &result.in);
        if (r == 0 && result.in.bad)
            r = -EIO;
        if (r != 0)
            r = r == -EIO ? ap_store_bad_answer(err) : ap_error_errno(err, r, "answer");
    }
    ap_sql_result_done(&result);
    return r;
}

/* Two arrays: buckets and their counts. 0 or -ENOMEM. */
static int read_histogram(struct ap_rowbin *in, struct ap_histogram *histogram)
{
    uint64_t buckets[AP_HISTOGRAM_BUCKETS], counts[AP_HISTOGRAM_BUCKETS];
    size_t cnt = ap_ask_array(in, sizeof(uint16_t), buckets, AP_HISTOGRAM_BUCKETS);
    int r = 0;

    ap_ask_array(in, sizeof(uint64_t), counts, AP_HISTOGRAM_BUCKETS);
    for (size_t i = 0; i < cnt && i < AP_HISTOGRAM_BUCKETS && !in->bad && r == 0; i++) {
        if (buckets[i] < AP_HISTOGRAM_BUCKETS)
            r = ap_histogram_add(histogram, (uint32_t)buckets[i], counts[i]);
    }
    return r;
}

/* ---- Locks ---- */

static int read_lock_key(struct ap_rowbin *in, struct texts *texts, struct ap_merge_lock *lock)
{
    lock->host = take_text(texts, in);
    lock->pid = ap_rowbin_u32(in);
    lock->comm = take_text(texts, in);
    lock->kernel = ap_rowbin_u8(in) != 0;
    lock->symbol = take_text(texts, in);
    lock->address = ap_rowbin_u64(in);
    lock->type = ap_rowbin_u8(in);
    return lock->host != NULL && lock->comm != NULL && lock->symbol != NULL ? 0 : -ENOMEM;
}

static int read_lock_sums(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_lock lock = {0};
    struct texts texts = {0};
    int r = read_lock_key(in, &texts, &lock);

    lock.waits = ap_rowbin_u64(in);
    lock.total_ns = ap_rowbin_u64(in);
    lock.max_ns = ap_rowbin_u64(in);
    lock.timeouts = ap_rowbin_u64(in);
    lock.interrupted = ap_rowbin_u64(in);
    lock.retried = ap_rowbin_u64(in);
    lock.timeout_ns = ap_rowbin_u64(in);
    lock.interrupted_ns = ap_rowbin_u64(in);
    if (r == 0)
        r = read_histogram(in, &lock.histogram);
    if (r == 0 && !in->bad)
        r = ap_merge_lock(asking->merge, &lock);
    ap_histogram_done(&lock.histogram);
    texts_done(&texts);
    return r;
}

/* Waits in flight at one moment. */
static int read_lock_flights(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_lock lock = {0};
    struct texts texts = {0};
    int r = read_lock_key(in, &texts, &lock);

    lock.start_ns = ap_rowbin_u64(in);
    lock.in_flight = ap_rowbin_u64(in);
    lock.in_flight_ns = ap_rowbin_u64(in);
    if (r == 0 && !in->bad)
        r = ap_merge_lock(asking->merge, &lock);
    texts_done(&texts);
    return r;
}

static int read_lock_side(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_lock lock = {0};
    struct texts texts = {0};
    int r = read_lock_key(in, &texts, &lock);
    bool waker = ap_rowbin_u8(in) != 0;
    struct ap_merge_side side = {.stack = ap_rowbin_u64(in)};

    side.count = ap_rowbin_u64(in);
    side.total_ns = ap_rowbin_u64(in);
    side.max_ns = ap_rowbin_u64(in);
    if (waker) {
        lock.wakers = &side;
        lock.waker_cnt = 1;
    } else {
        lock.waiters = &side;
        lock.waiter_cnt = 1;
    }
    if (r == 0 && !in->bad)
        r = ap_merge_lock(asking->merge, &lock);
    texts_done(&texts);
    return r;
}

static int read_lock_pair(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_lock lock = {0};
    struct texts texts = {0};
    int r = read_lock_key(in, &texts, &lock);
    struct ap_merge_pair pair = {.waiter = ap_rowbin_u64(in)};

    pair.waker = ap_rowbin_u64(in);
    pair.count = ap_rowbin_u64(in);
    pair.total_ns = ap_rowbin_u64(in);
    pair.max_ns = ap_rowbin_u64(in);
    lock.pairs = &pair;
    lock.pair_cnt = 1;
    if (r == 0 && !in->bad)
        r = ap_merge_lock(asking->merge, &lock);
    texts_done(&texts);
    return r;
}

static int ask_locks(struct asking *asking, struct ap_error *err)
{
    static const struct sums sums = {
        .table = AP_TABLE_LOCKS,
        .columns = LOCK_KEY ", max(type), sum(waits), sum(total_ns), max(max_ns), sum(timeouts), sum(interrupted), "
                            "sum(retried), sum(timeout_ns), sum(interrupted_ns), sumMap(buckets, bucket_counts)",
        .clause = "",
        .by = LOCK_BY,
    };
    /* Those of the newest batch count. */
    static const struct sums flights = {
        .table = AP_TABLE_LOCKS,
        .columns = LOCK_KEY ", start_ns AS s, max(type) AS most, sum(in_flight) AS f, sum(in_flight_ns) AS f_ns",
        .clause = "",
        .by = LOCK_BY ", s",
        .outer = LOCK_BY ", max(most), max(s), argMax(f, s), argMax(f_ns, s)",
        .outer_by = LOCK_BY,
    };
    static const struct sums sides = {
        .table = AP_TABLE_LOCKS,
        .columns = LOCK_KEY ", toUInt8(0), role, stack, sum(side_n), sum(side_sum), max(side_most)",
        .clause = "ARRAY JOIN side_role AS role, side_stack AS stack, side_count AS side_n, side_total_ns AS "
                  "side_sum, side_max_ns AS side_most",
        .by = LOCK_BY ", role, stack",
    };
    static const struct sums pairs = {
        .table = AP_TABLE_LOCKS,
        .columns = LOCK_KEY ", toUInt8(0), waiter, waker, sum(pair_n), sum(pair_sum), max(pair_most)",
        .clause = "ARRAY JOIN pair_waiter AS waiter, pair_waker AS waker, pair_count AS pair_n, pair_total_ns AS "
                  "pair_sum, pair_max_ns AS pair_most",
        .by = LOCK_BY ", waiter, waker",
    };
    int r = ask(asking, &sums, read_lock_sums, err);

    if (r == 0)
        r = ask(asking, &flights, read_lock_flights, err);
    if (r == 0)
        r = ask(asking, &sides, read_lock_side, err);
    if (r == 0)
        r = ask(asking, &pairs, read_lock_pair, err);
    return r;
}

/* ---- System calls ---- */

static int read_syscall_key(struct ap_rowbin *in, struct texts *texts, struct ap_merge_syscall *call)
{
    call->host = take_text(texts, in);
    call->pid = ap_rowbin_u32(in);
    call->comm = take_text(texts, in);
    call->abi = ap_rowbin_u8(in);
    call->number = ap_rowbin_u32(in);
    call->name = take_text(texts, in);
    return call->host != NULL && call->comm != NULL && call->name != NULL ? 0 : -ENOMEM;
}

static int read_errors(struct ap_rowbin *in, struct ap_merge_error **ret_errors, uint32_t *ret_cnt)
{
    uint64_t *numbers = calloc(2 * (AP_ERRNO_MAX + 1), sizeof(*numbers));
    uint64_t *counts = numbers != NULL ? numbers + AP_ERRNO_MAX + 1 : NULL;
    struct ap_merge_error *errors = calloc(AP_ERRNO_MAX + 1, sizeof(*errors));

    if (numbers == NULL || errors == NULL) {
        free(numbers);
        free(errors);
        return -ENOMEM;
    }
    size_t cnt = ap_ask_array(in, sizeof(uint32_t), numbers, AP_ERRNO_MAX);
    ap_ask_array(in, sizeof(uint64_t), counts, AP_ERRNO_MAX);
    for (size_t i = 0; i < cnt && i < AP_ERRNO_MAX; i++)
        errors[i] = (struct ap_merge_error){.error = (uint32_t)numbers[i], .count = counts[i]};
    free(numbers);
    *ret_errors = errors;
    *ret_cnt = (uint32_t)(cnt < AP_ERRNO_MAX ? cnt : AP_ERRNO_MAX);
    return 0;
}

static int read_syscall_sums(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_syscall call = {0};
    struct ap_merge_error *errors = NULL;
    struct texts texts = {0};
    int r = read_syscall_key(in, &texts, &call);

    call.count = ap_rowbin_u64(in);
    call.total_ns = ap_rowbin_u64(in);
    call.max_ns = ap_rowbin_u64(in);
    if (r == 0)
        r = read_histogram(in, &call.histogram);
    if (r == 0)
        r = read_errors(in, &errors, &call.error_cnt);
    call.errors = errors;
    if (r == 0 && !in->bad)
        r = ap_merge_syscall(asking->merge, &call);
    ap_histogram_done(&call.histogram);
    free(errors);
    texts_done(&texts);
    return r;
}

static int read_syscall_flights(struct asking *asking, struct ap_rowbin *in)
{
    struct ap_merge_syscall call = {0};
    struct texts texts = {0};
    int r = read_syscall_key(in, &texts, &call);

    call.start_ns = ap_rowbin_u64(in);
    call.in_flight = ap_rowbin_u64(in);
    call.in_flight_max_ns = ap_rowbin_u64(in);
    if (r == 0 && !in->bad)
        r = ap_merge_syscall(asking->merge, &call);
    texts_done(&texts);
    return r;
}

static int ask_syscalls(struct asking *asking, struct ap_error *err)
{
    static const struct sums sums = {
        .table = AP_TABLE_SYSCALLS,
        .columns = SYSCALL_KEY ", sum(count), sum(total_ns), max(max_ns), sumMap(buckets, bucket_counts), "
                               "sumMap(errors, error_counts)",
        .clause = "",
        .by = SYSCALL_KEY,
    };
    static const struct sums flights = {
        .table = AP_TABLE_SYSCALLS,
        .columns = SYSCALL_KEY ", start_ns AS s, sum(in_flight) AS f, max(in_flight_max_ns) AS f_max",
        .clause = "",
        .by = SYSCALL_KEY ", s",
        .outer = SYSCALL_KEY ", max(s), argMax(f, s), argMax(f_max, s)",
        .outer_by = SYSCALL_KEY,
    };
    int r = ask(asking, &sums, read_syscall_sums, err);

    return r != 0 ? r : ask(asking, &flights, read_syscall_flights, err);
}

/* ---- Whole ---- */

static int ask_table(struct ap_store *store, const struct ap_storage_scope *scope, uint8_t kind,
                     struct ap_profile **ret_profile, struct ap_error *err)
{
    struct asking asking = {.store = store, .scope = scope, .merge = ap_merge_new(kind)};
    int r = asking.merge != NULL ? 0 : ap_error_errno(err, -ENOMEM, "answer");

    if (r == 0)
        r = kind == AP_KIND_LOCK ? ask_locks(&asking, err) : ask_syscalls(&asking, err);
    if (r == 0)
        r = ap_merge_finish(asking.merge, ap_ask_load_stacks, store, ret_profile, err);
    ap_merge_free(asking.merge);
    return r;
}

int ap_ask_locks(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                 struct ap_error *err)
{
    return ask_table(engine, scope, AP_KIND_LOCK, ret_profile, err);
}

int ap_ask_syscalls(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                    struct ap_error *err)
{
    return ask_table(engine, scope, AP_KIND_SYSCALL, ret_profile, err);
}
