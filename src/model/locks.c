/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/locks.h"

#include "model/table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ap_locks_index {
    struct ap_table table; /* row to its place in `rows` */
    size_t row_cap;
    size_t shared_cnt; /* rows of address 0 that were made past the bound */
};

const char *ap_lock_type_name(uint8_t type)
{
    switch (type) {
    case AP_LOCK_FUTEX:
        return "futex";
    case AP_LOCK_MUTEX:
        return "mutex";
    case AP_LOCK_RWLOCK:
        return "rwlock";
    case AP_LOCK_PI_MUTEX:
        return "pi_mutex";
    case AP_LOCK_SPIN:
        return "spin";
    case AP_LOCK_RT_MUTEX:
        return "rt_mutex";
    case AP_LOCK_PERCPU_RW:
        return "percpu_rwsem";
    case AP_LOCK_CONDVAR:
        return "condvar";
    case AP_LOCK_SEMAPHORE:
        return "semaphore";
    case AP_LOCK_BARRIER:
        return "barrier";
    case AP_LOCK_JOIN:
        return "join";
    case AP_LOCK_ONCE:
        return "once";
    case AP_LOCK_PARK:
        return "park";
    default:
        return "unknown";
    }
}

bool ap_lock_type_is_contention(uint8_t type)
{
    return type < AP_LOCK_CONDVAR;
}

struct ap_locks *ap_locks_new(void)
{
    struct ap_locks *locks = calloc(1, sizeof(*locks));

    if (locks == NULL)
        return NULL;
    locks->index = calloc(1, sizeof(*locks->index));
    return locks->index != NULL ? locks : ap_locks_free(locks);
}

static void row_free(struct ap_lock_row *row)
{
    ap_histogram_done(&row->histogram);
    free(row->waiters);
    free(row->wakers);
    free(row->pairs);
    free(row);
}

struct ap_locks *ap_locks_free(struct ap_locks *locks)
{
    if (locks == NULL)
        return NULL;
    for (size_t i = 0; i < locks->row_cnt; i++)
        row_free(locks->rows[i]);
    free(locks->rows);
    if (locks->index != NULL)
        ap_table_done(&locks->index->table);
    free(locks->index);
    free(locks);
    return NULL;
}

static uint64_t row_hash(uint64_t process, uint64_t address, bool kernel)
{
    return ap_table_mix(ap_table_mix(process) ^ address ^ (uint64_t)kernel << 63);
}

static struct ap_lock_row *find(const struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel)
{
    uint64_t hash = row_hash(process, address, kernel);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&locks->index->table, hash, &pos)) != AP_TABLE_NONE) {
        struct ap_lock_row *row = locks->rows[i];

        if (row->process == process && row->address == address && row->kernel == kernel)
            return row;
    }
    return NULL;
}

static struct ap_lock_row *append(struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel)
{
    struct ap_locks_index *index = locks->index;
    struct ap_lock_row *row;

    if (locks->row_cnt == index->row_cap) {
        size_t cap = index->row_cap == 0 ? 64 : index->row_cap * 2;
        struct ap_lock_row **rows = reallocarray(locks->rows, cap, sizeof(struct ap_lock_row *));

        if (rows == NULL)
            return NULL;
        locks->rows = rows;
        index->row_cap = cap;
    }
    if (ap_table_reserve(&index->table) != 0)
        return NULL;
    row = calloc(1, sizeof(*row));
    if (row == NULL)
        return NULL;
    row->process = process;
    row->address = address;
    row->kernel = kernel;
    ap_table_put(&index->table, row_hash(process, address, kernel), (uint32_t)locks->row_cnt);
    locks->rows[locks->row_cnt++] = row;
    return row;
}

struct ap_lock_row *ap_locks_row(struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel)
{
    struct ap_locks_index *index = locks->index;
    struct ap_lock_row *row = find(locks, process, address, kernel);

    if (row != NULL)
        return row;
    if (locks->row_cnt - index->shared_cnt < AP_LOCK_ROWS_MAX)
        return append(locks, process, address, kernel);
    row = find(locks, process, 0, kernel);
    if (row == NULL && index->shared_cnt >= AP_LOCK_PROCESS_ROWS_MAX) {
        process = 0;
        row = find(locks, 0, 0, kernel);
    }
    if (row == NULL) { /* two more than the bound at most: those of process 0, of the kernel and of the others */
        row = append(locks, process, 0, kernel);
        index->shared_cnt += row != NULL;
    }
    locks->folded += row != NULL;
    return row;
}

/* The array with room for one more row, which may be the array itself. NULL when out of memory. */
static void *room(void *rows, uint32_t cnt, size_t row_sz)
{
    /* It grows whenever the count is a power of two, so the capacity need not be kept. */
    if (cnt != 0 && (cnt < 2 || (cnt & (cnt - 1)) != 0))
        return rows;
    return reallocarray(rows, cnt == 0 ? 2 : (size_t)cnt * 2, row_sz);
}

static uint32_t find_side(const struct ap_lock_side *sides, uint32_t cnt, uint32_t series, uint32_t stack)
{
    uint32_t i = 0;

    while (i < cnt && (sides[i].series != series || sides[i].stack != stack))
        i++;
    return i;
}

/* The side of (series, stack), made when new, with nothing added. 0 or -ENOMEM. */
static int side(struct ap_lock_side **sides, uint32_t *cnt, uint32_t series, uint32_t stack, uint32_t *ret_side)
{
    uint32_t i;

    if (stack == AP_LOCK_NO_STACK)
        series = AP_LOCK_UNKNOWN;
    i = find_side(*sides, *cnt, series, stack);
    /* The last two places are for those that are always taken in. */
    if (i == *cnt && stack != AP_LOCK_NO_STACK && *cnt >= AP_LOCK_SIDES_MAX - 2) {
        series = AP_LOCK_OTHERS;
        stack = AP_LOCK_NO_STACK;
        i = find_side(*sides, *cnt, series, stack);
    }
    if (i == *cnt) {
        struct ap_lock_side *rows = room(*sides, *cnt, sizeof(**sides));

        if (rows == NULL)
            return -ENOMEM;
        *sides = rows;
        rows[(*cnt)++] = (struct ap_lock_side){.series = series, .stack = stack};
    }
    *ret_side = i;
    return 0;
}

static uint32_t find_pair(const struct ap_lock_row *row, uint32_t waiter, uint32_t waker)
{
    uint32_t i = 0;

    while (i < row->pair_cnt && (row->pairs[i].waiter != waiter || row->pairs[i].waker != waker))
        i++;
    return i;
}

static struct ap_lock_pair *pair_of(struct ap_lock_row *row, uint32_t waiter, uint32_t waker)
{
    uint32_t i = find_pair(row, waiter, waker);

    if (i == row->pair_cnt && row->pair_cnt >= AP_LOCK_PAIRS_MAX - 1) {
        waiter = waker = AP_LOCK_REST;
        i = find_pair(row, waiter, waker);
    }
    if (i == row->pair_cnt) {
        struct ap_lock_pair *pairs = room(row->pairs, row->pair_cnt, sizeof(*row->pairs));

        if (pairs == NULL)
            return NULL;
        row->pairs = pairs;
        pairs[row->pair_cnt++] = (struct ap_lock_pair){.waiter = waiter, .waker = waker};
    }
    return &row->pairs[i];
}

static void add_to_side(struct ap_lock_side *s, uint64_t count, uint64_t total_ns, uint64_t max_ns)
{
    s->count += count;
    s->total_ns += total_ns;
    if (max_ns > s->max_ns)
        s->max_ns = max_ns;
}

int ap_lock_row_add(struct ap_lock_row *row, uint32_t waiter_series, uint32_t waiter_stack, uint32_t waker_series,
                    uint32_t waker_stack, uint64_t count, uint64_t total_ns, uint64_t max_ns)
{
    uint32_t waiter_cnt = row->waiter_cnt, waker_cnt = row->waker_cnt, waiter, waker;
    struct ap_lock_pair *pair = NULL;

    if (side(&row->waiters, &row->waiter_cnt, waiter_series, waiter_stack, &waiter) == 0 &&
        side(&row->wakers, &row->waker_cnt, waker_series, waker_stack, &waker) == 0)
        pair = pair_of(row, waiter, waker);
    if (pair == NULL) {
        row->waiter_cnt = waiter_cnt;
        row->waker_cnt = waker_cnt;
        return -ENOMEM;
    }
    add_to_side(&row->waiters[waiter], count, total_ns, max_ns);
    add_to_side(&row->wakers[waker], count, total_ns, max_ns);
    pair->count += count;
    pair->total_ns += total_ns;
    if (max_ns > pair->max_ns)
        pair->max_ns = max_ns;
    return 0;
}

int ap_locks_restore(struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel,
                     struct ap_lock_row **ret_row)
{
    struct ap_locks_index *index = locks->index;
    bool shared = locks->row_cnt - index->shared_cnt >= AP_LOCK_ROWS_MAX;
    struct ap_lock_row *row;

    if (find(locks, process, address, kernel) != NULL)
        return -EEXIST;
    if (shared && index->shared_cnt >= AP_LOCK_PROCESS_ROWS_MAX + 2)
        return -ENOSPC;
    row = append(locks, process, address, kernel);
    if (row == NULL)
        return -ENOMEM;
    index->shared_cnt += shared;
    *ret_row = row;
    return 0;
}

/* True for what side() can have made: so many, and each of the two special ones once. */
static bool sides_valid(const struct ap_lock_side *sides, uint32_t cnt)
{
    uint32_t own = 0, unknown = 0, others = 0;

    for (uint32_t i = 0; i < cnt; i++) {
        bool special = sides[i].series == AP_LOCK_UNKNOWN || sides[i].series == AP_LOCK_OTHERS;

        if (special != (sides[i].stack == AP_LOCK_NO_STACK))
            return false;
        own += !special;
        unknown += sides[i].series == AP_LOCK_UNKNOWN;
        others += sides[i].series == AP_LOCK_OTHERS;
        if (own > AP_LOCK_SIDES_MAX - 2 || unknown > 1 || others > 1)
            return false;
    }
    return true;
}

static bool pairs_valid(const struct ap_lock_pair *pairs, uint32_t cnt, uint32_t waiter_cnt, uint32_t waker_cnt)
{
    uint32_t own = 0, rest = 0;

    for (uint32_t i = 0; i < cnt; i++) {
        bool special = pairs[i].waiter == AP_LOCK_REST && pairs[i].waker == AP_LOCK_REST;

        if (!special && (pairs[i].waiter >= waiter_cnt || pairs[i].waker >= waker_cnt))
            return false;
        own += !special;
        rest += special;
        if (own > AP_LOCK_PAIRS_MAX - 1 || rest > 1)
            return false;
    }
    return true;
}

/* A copy with the room that room() expects behind `cnt` rows. NULL when out of memory. */
static void *copy_rows(const void *rows, uint32_t cnt, size_t row_sz)
{
    size_t cap = 2;
    void *copy;

    while (cap < cnt)
        cap *= 2;
    copy = calloc(cap, row_sz);
    if (copy != NULL && cnt != 0)
        memcpy(copy, rows, cnt * row_sz);
    return copy;
}

int ap_lock_row_restore(struct ap_lock_row *row, const struct ap_lock_side *waiters, uint32_t waiter_cnt,
                        const struct ap_lock_side *wakers, uint32_t waker_cnt, const struct ap_lock_pair *pairs,
                        uint32_t pair_cnt)
{
    struct ap_lock_side *waiter_rows, *waker_rows;
    struct ap_lock_pair *pair_rows;

    assert(row->waiters == NULL && row->wakers == NULL && row->pairs == NULL);
    if (!sides_valid(waiters, waiter_cnt) || !sides_valid(wakers, waker_cnt) ||
        !pairs_valid(pairs, pair_cnt, waiter_cnt, waker_cnt))
        return -EINVAL;
    waiter_rows = copy_rows(waiters, waiter_cnt, sizeof(*waiters));
    waker_rows = copy_rows(wakers, waker_cnt, sizeof(*wakers));
    pair_rows = copy_rows(pairs, pair_cnt, sizeof(*pairs));
    if (waiter_rows == NULL || waker_rows == NULL || pair_rows == NULL) {
        free(waiter_rows);
        free(waker_rows);
        free(pair_rows);
        return -ENOMEM;
    }
    row->waiters = waiter_rows;
    row->wakers = waker_rows;
    row->pairs = pair_rows;
    row->waiter_cnt = waiter_cnt;
    row->waker_cnt = waker_cnt;
    row->pair_cnt = pair_cnt;
    return 0;
}

uint64_t ap_lock_row_waited_ns(const struct ap_lock_row *row)
{
    return row->total_ns + row->in_flight_ns + row->timeout_ns + row->interrupted_ns;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_rows(const void *pa, const void *pb)
{
    const struct ap_lock_row *a = *(struct ap_lock_row *const *)pa, *b = *(struct ap_lock_row *const *)pb;
    bool contention = ap_lock_type_is_contention(a->type);
    int order;

    if (contention != ap_lock_type_is_contention(b->type))
        return contention ? -1 : 1;
    order = compare_u64(ap_lock_row_waited_ns(b), ap_lock_row_waited_ns(a));
    if (order == 0)
        order = compare_u64(b->waits, a->waits);
    if (order == 0)
        order = compare_u64(a->pid, b->pid);
    if (order == 0)
        order = compare_u64(a->process, b->process);
    if (order == 0)
        order = compare_u64(a->address, b->address);
    return order != 0 ? order : (int)a->kernel - (int)b->kernel;
}

struct sortable_side {
    struct ap_lock_side side;
    uint32_t place; /* before sorting */
};

static int compare_sides(const void *pa, const void *pb)
{
    const struct sortable_side *a = pa, *b = pb;
    int order = compare_u64(b->side.total_ns, a->side.total_ns);

    if (order == 0)
        order = compare_u64(b->side.count, a->side.count);
    return order != 0 ? order : compare_u64(a->place, b->place);
}

/* Sorts and tells where each side has gone. */
static void sort_sides(struct ap_lock_side *sides, uint32_t cnt, uint32_t moved[AP_LOCK_SIDES_MAX])
{
    struct sortable_side sorted[AP_LOCK_SIDES_MAX];

    for (uint32_t i = 0; i < cnt; i++)
        sorted[i] = (struct sortable_side){sides[i], i};
    qsort(sorted, cnt, sizeof(sorted[0]), compare_sides);
    for (uint32_t i = 0; i < cnt; i++) {
        sides[i] = sorted[i].side;
        moved[sorted[i].place] = i;
    }
}

static int compare_pairs(const void *pa, const void *pb)
{
    const struct ap_lock_pair *a = pa, *b = pb;
    int order = compare_u64(b->total_ns, a->total_ns);

    if (order == 0)
        order = compare_u64(b->count, a->count);
    if (order == 0)
        order = compare_u64(a->waiter, b->waiter);
    return order != 0 ? order : compare_u64(a->waker, b->waker);
}

static void sort_row(struct ap_lock_row *row)
{
    uint32_t waiters[AP_LOCK_SIDES_MAX], wakers[AP_LOCK_SIDES_MAX];

    sort_sides(row->waiters, row->waiter_cnt, waiters);
    sort_sides(row->wakers, row->waker_cnt, wakers);
    for (uint32_t i = 0; i < row->pair_cnt; i++) {
        struct ap_lock_pair *pair = &row->pairs[i];

        if (pair->waiter == AP_LOCK_REST)
            continue;
        pair->waiter = waiters[pair->waiter];
        pair->waker = wakers[pair->waker];
    }
    if (row->pair_cnt > 1)
        qsort(row->pairs, row->pair_cnt, sizeof(*row->pairs), compare_pairs);
}

void ap_locks_sort(struct ap_locks *locks)
{
    struct ap_table *table = &locks->index->table;

    for (size_t i = 0; i < locks->row_cnt; i++)
        sort_row(locks->rows[i]);
    if (locks->row_cnt < 2)
        return;
    qsort(locks->rows, locks->row_cnt, sizeof(struct ap_lock_row *), compare_rows);
    /* The places have changed; the table keeps its size. */
    memset(table->slots, 0, table->slot_cnt * sizeof(*table->slots));
    table->used = 0;
    for (size_t i = 0; i < locks->row_cnt; i++) {
        const struct ap_lock_row *row = locks->rows[i];

        ap_table_put(table, row_hash(row->process, row->address, row->kernel), (uint32_t)i);
    }
}

void ap_locks_keep(struct ap_locks *locks, bool (*fits)(void *ctx, const struct ap_lock_row *row), void *ctx)
{
    size_t cnt = 0;

    for (size_t i = 0; i < locks->row_cnt; i++) {
        if (fits(ctx, locks->rows[i]))
            locks->rows[cnt++] = locks->rows[i];
        else
            row_free(locks->rows[i]);
    }
    locks->row_cnt = cnt;
}
