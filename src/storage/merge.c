/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/merge.h"

#include "core/map.h"
#include "model/locks.h"
#include "model/syscalls.h"
#include "model/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Real sides kept of a lock: two places are for AP_LOCK_OTHERS and AP_LOCK_UNKNOWN. */
#define SIDES_KEPT (AP_LOCK_SIDES_MAX - 2)

/* Sides of one lock in one role, from all batches. */
struct sides {
    struct ap_merge_side *rows;
    size_t cnt, cap;
    struct ap_table table; /* by stack */
};

struct pairs {
    struct ap_merge_pair *rows;
    size_t cnt, cap;
    struct ap_table table;
};

/* What is known of a row of the result besides the row. */
struct gathered {
    void *row; /* struct ap_lock_row or ap_syscall_row; the key */
    uint64_t newest_ns;
    struct sides waiters, wakers;
    struct pairs pairs;
};

struct ap_merge {
    struct ap_profile *profile;
    struct ap_map gathered; /* row to struct gathered */
};

static int grow(void **rows, size_t *cap, size_t need, size_t row_sz)
{
    size_t want = *cap == 0 ? 8 : *cap * 2;
    void *grown;

    if (need <= *cap)
        return 0;
    grown = reallocarray(*rows, want, row_sz);
    if (grown == NULL)
        return -ENOMEM;
    *rows = grown;
    *cap = want;
    return 0;
}

struct ap_merge *ap_merge_new(uint8_t kind)
{
    struct ap_merge *merge = calloc(1, sizeof(*merge));

    if (merge == NULL)
        return NULL;
    ap_map_init(&merge->gathered, SIZE_MAX); /* as many as the table has rows, which is bounded */
    merge->profile = ap_profile_new(kind);
    if (merge->profile == NULL)
        return ap_merge_free(merge);
    if (kind == AP_KIND_LOCK)
        merge->profile->locks = ap_locks_new();
    else
        merge->profile->syscalls = ap_syscalls_new(merge->profile->strings);
    if (merge->profile->locks == NULL && merge->profile->syscalls == NULL)
        return ap_merge_free(merge);
    return merge;
}

static void gathered_free(struct gathered *gathered)
{
    free(gathered->waiters.rows);
    free(gathered->wakers.rows);
    free(gathered->pairs.rows);
    ap_table_done(&gathered->waiters.table);
    ap_table_done(&gathered->wakers.table);
    ap_table_done(&gathered->pairs.table);
    free(gathered);
}

struct ap_merge *ap_merge_free(struct ap_merge *merge)
{
    struct gathered *gathered;
    size_t pos = 0;

    if (merge == NULL)
        return NULL;
    while ((gathered = ap_map_next(&merge->gathered, &pos)) != NULL)
        gathered_free(gathered);
    ap_map_done(&merge->gathered);
    ap_profile_free(merge->profile);
    free(merge);
    return NULL;
}

/* What was gathered for a row of the result, made on first use. NULL when out of memory. */
static struct gathered *gathered_of(struct ap_merge *merge, void *row)
{
    struct gathered *gathered = ap_map_get(&merge->gathered, &row, sizeof(row));

    if (gathered != NULL)
        return gathered;
    gathered = calloc(1, sizeof(*gathered));
    if (gathered == NULL)
        return NULL;
    gathered->row = row;
    if (ap_map_put(&merge->gathered, &gathered->row, sizeof(row), gathered) != 0) {
        free(gathered);
        return NULL;
    }
    return gathered;
}

/* Never 0, which tables take for "several". */
static uint64_t identity(const char *host, uint32_t pid, const char *comm)
{
    uint64_t hash = XXH3_64bits_withSeed(host, strlen(host) + 1, pid);

    hash = XXH3_64bits_withSeed(comm, strlen(comm) + 1, hash);
    return hash != 0 ? hash : 1;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Locks ---- */

static int add_side(struct sides *sides, const struct ap_merge_side *side)
{
    uint64_t hash = ap_table_mix(side->stack);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&sides->table, hash, &pos)) != AP_TABLE_NONE) {
        struct ap_merge_side *row = &sides->rows[i];

        if (row->stack != side->stack)
            continue;
        row->count += side->count;
        row->total_ns += side->total_ns;
        row->max_ns = larger(row->max_ns, side->max_ns);
        return 0;
    }
    if (grow((void **)&sides->rows, &sides->cap, sides->cnt + 1, sizeof(*sides->rows)) != 0 ||
        ap_table_reserve(&sides->table) != 0)
        return -ENOMEM;
    ap_table_put(&sides->table, hash, (uint32_t)sides->cnt);
    sides->rows[sides->cnt++] = *side;
    return 0;
}

static int add_pair(struct pairs *pairs, const struct ap_merge_pair *pair)
{
    uint64_t hash = ap_table_mix(ap_table_mix(pair->waiter) ^ pair->waker);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&pairs->table, hash, &pos)) != AP_TABLE_NONE) {
        struct ap_merge_pair *row = &pairs->rows[i];

        if (row->waiter != pair->waiter || row->waker != pair->waker)
            continue;
        row->count += pair->count;
        row->total_ns += pair->total_ns;
        row->max_ns = larger(row->max_ns, pair->max_ns);
        return 0;
    }
    if (grow((void **)&pairs->rows, &pairs->cap, pairs->cnt + 1, sizeof(*pairs->rows)) != 0 ||
        ap_table_reserve(&pairs->table) != 0)
        return -ENOMEM;
    ap_table_put(&pairs->table, hash, (uint32_t)pairs->cnt);
    pairs->rows[pairs->cnt++] = *pair;
    return 0;
}

static struct ap_lock_row *lock_row(struct ap_merge *merge, const struct ap_merge_lock *lock)
{
    bool several = !lock->kernel && lock->pid == 0 && lock->comm[0] == '\0';
    uint64_t process = several ? 0 : identity(lock->host, lock->pid, lock->comm);
    uint64_t address = lock->address;
    struct ap_strings *strings = merge->profile->strings;
    struct ap_lock_row *row;

    /* Where it has a symbol that is its name, and the address only where it lay in one run. */
    if (lock->symbol[0] != '\0')
        address = XXH3_64bits(lock->symbol, strlen(lock->symbol)) | 1ULL << 63;
    row = ap_locks_row(merge->profile->locks, process, address, lock->kernel);
    if (row == NULL)
        return NULL;
    if (row->process != 0) { /* past a bound of the table it may be the one of "several processes" */
        row->pid = lock->pid;
        row->comm = ap_strings_id(strings, lock->comm);
        row->host = ap_strings_id(strings, lock->host);
    }
    if (row->address == address && lock->symbol[0] != '\0')
        row->symbol = ap_strings_id(strings, lock->symbol);
    return row;
}

int ap_merge_lock(struct ap_merge *merge, const struct ap_merge_lock *lock)
{
    struct ap_lock_row *row = lock_row(merge, lock);
    struct gathered *gathered = row != NULL ? gathered_of(merge, row) : NULL;
    int r;

    if (gathered == NULL)
        return -ENOMEM;
    r = ap_histogram_merge(&row->histogram, &lock->histogram);
    for (uint32_t i = 0; r == 0 && i < lock->waiter_cnt; i++)
        r = add_side(&gathered->waiters, &lock->waiters[i]);
    for (uint32_t i = 0; r == 0 && i < lock->waker_cnt; i++)
        r = add_side(&gathered->wakers, &lock->wakers[i]);
    for (uint32_t i = 0; r == 0 && i < lock->pair_cnt; i++)
        r = add_pair(&gathered->pairs, &lock->pairs[i]);
    if (r != 0)
        return r;
    if (lock->type > row->type) /* one that a stack told over one that none did */
        row->type = lock->type;
    row->waits += lock->waits;
    row->total_ns += lock->total_ns;
    row->max_ns = larger(row->max_ns, lock->max_ns);
    row->timeouts += lock->timeouts;
    row->interrupted += lock->interrupted;
    row->retried += lock->retried;
    row->timeout_ns += lock->timeout_ns;
    row->interrupted_ns += lock->interrupted_ns;
    if (lock->start_ns > gathered->newest_ns) {
        gathered->newest_ns = lock->start_ns;
        row->in_flight = row->in_flight_ns = 0;
    }
    if (lock->start_ns == gathered->newest_ns) {
        row->in_flight += lock->in_flight;
        row->in_flight_ns += lock->in_flight_ns;
    }
    return 0;
}

static int compare_sides(const void *pa, const void *pb)
{
    const struct ap_merge_side *a = pa, *b = pb;
    bool a_real = a->stack > AP_MERGE_REST, b_real = b->stack > AP_MERGE_REST;

    if (a_real != b_real) /* what stands for none or for many comes last */
        return a_real ? -1 : 1;
    if (a->total_ns != b->total_ns)
        return a->total_ns > b->total_ns ? -1 : 1;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return a->stack < b->stack ? -1 : a->stack > b->stack;
}

/* The sides of a row of the result, and which stack each stands for. */
struct chosen {
    struct ap_lock_side *sides;
    uint64_t stacks[AP_LOCK_SIDES_MAX];
    uint32_t cnt;
};

static void add_to(struct ap_lock_side *to, const struct ap_merge_side *from)
{
    to->count += from->count;
    to->total_ns += from->total_ns;
    to->max_ns = larger(to->max_ns, from->max_ns);
}

/* Index of what stands for the stack; AP_MERGE_OTHERS and AP_MERGE_UNKNOWN are made on first use. */
static uint32_t place_of(struct chosen *chosen, uint64_t stack)
{
    for (uint32_t i = 0; i < chosen->cnt; i++)
        if (chosen->stacks[i] == stack)
            return i;
    if (stack != AP_MERGE_UNKNOWN && stack != AP_MERGE_OTHERS)
        return place_of(chosen, AP_MERGE_OTHERS);
    chosen->stacks[chosen->cnt] = stack;
    chosen->sides[chosen->cnt] = (struct ap_lock_side){
        .series = stack == AP_MERGE_UNKNOWN ? AP_LOCK_UNKNOWN : AP_LOCK_OTHERS, .stack = AP_LOCK_NO_STACK};
    return chosen->cnt++;
}

/* Keeps the longest sides that are stored; the others become one. `sides` is sorted here. */
static int choose_sides(struct sides *sides, const struct ap_table *loaded, const uint64_t *stacks,
                        const uint32_t *stack, const uint32_t *series, struct chosen *ret_chosen)
{
    struct chosen chosen = {.sides = calloc(AP_LOCK_SIDES_MAX, sizeof(*chosen.sides))};
    uint32_t kept = 0;

    if (chosen.sides == NULL)
        return -ENOMEM;
    if (sides->cnt > 1)
        qsort(sides->rows, sides->cnt, sizeof(*sides->rows), compare_sides);
    for (size_t i = 0; i < sides->cnt; i++) {
        const struct ap_merge_side *side = &sides->rows[i];
        uint32_t at = AP_TABLE_NONE;
        size_t pos = SIZE_MAX;

        if (side->stack > AP_MERGE_REST && kept < SIDES_KEPT && stacks != NULL)
            while ((at = ap_table_next(loaded, ap_table_mix(side->stack), &pos)) != AP_TABLE_NONE)
                if (stacks[at] == side->stack)
                    break;
        if (at == AP_TABLE_NONE || stack[at] == UINT32_MAX) {
            add_to(&chosen.sides[place_of(&chosen, side->stack > AP_MERGE_REST ? AP_MERGE_OTHERS : side->stack)], side);
            continue;
        }
        chosen.stacks[chosen.cnt] = side->stack;
        chosen.sides[chosen.cnt] = (struct ap_lock_side){.series = series[at], .stack = stack[at]};
        add_to(&chosen.sides[chosen.cnt++], side);
        kept++;
    }
    *ret_chosen = chosen;
    return 0;
}

static int compare_pairs(const void *pa, const void *pb)
{
    const struct ap_lock_pair *a = pa, *b = pb;

    if (a->total_ns != b->total_ns)
        return a->total_ns > b->total_ns ? -1 : 1;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    if (a->waiter != b->waiter)
        return a->waiter < b->waiter ? -1 : 1;
    return a->waker < b->waker ? -1 : a->waker > b->waker;
}

static void add_pair_to(struct ap_lock_pair *to, uint64_t count, uint64_t total_ns, uint64_t max_ns)
{
    to->count += count;
    to->total_ns += total_ns;
    to->max_ns = larger(to->max_ns, max_ns);
}

/* Pairs of the sides that were chosen: the longest, and the rest as one. */
static int choose_pairs(const struct pairs *pairs, struct chosen *waiters, struct chosen *wakers,
                        struct ap_lock_row *row)
{
    struct ap_lock_pair *matrix = calloc((size_t)AP_LOCK_SIDES_MAX * AP_LOCK_SIDES_MAX, sizeof(*matrix));
    struct ap_lock_pair *kept = calloc(AP_LOCK_PAIRS_MAX, sizeof(*kept));
    struct ap_lock_pair rest = {.waiter = AP_LOCK_REST, .waker = AP_LOCK_REST};
    size_t cnt = 0;

    if (matrix == NULL || kept == NULL) {
        free(matrix);
        free(kept);
        return -ENOMEM;
    }
    for (size_t i = 0; i < pairs->cnt; i++) {
        const struct ap_merge_pair *pair = &pairs->rows[i];
        struct ap_lock_pair *to = &rest;

        if (pair->waiter != AP_MERGE_REST) {
            uint32_t waiter = place_of(waiters, pair->waiter), waker = place_of(wakers, pair->waker);

            to = &matrix[waiter * AP_LOCK_SIDES_MAX + waker];
            to->waiter = waiter;
            to->waker = waker;
        }
        add_pair_to(to, pair->count, pair->total_ns, pair->max_ns);
    }
    for (size_t i = 0; i < (size_t)AP_LOCK_SIDES_MAX * AP_LOCK_SIDES_MAX; i++)
        if (matrix[i].count > 0 || matrix[i].total_ns > 0)
            matrix[cnt++] = matrix[i];
    if (cnt > 1)
        qsort(matrix, cnt, sizeof(*matrix), compare_pairs);
    for (size_t i = 0; i < cnt; i++) {
        if (i < AP_LOCK_PAIRS_MAX - 1)
            kept[row->pair_cnt++] = matrix[i];
        else
            add_pair_to(&rest, matrix[i].count, matrix[i].total_ns, matrix[i].max_ns);
    }
    if (rest.count > 0 || rest.total_ns > 0)
        kept[row->pair_cnt++] = rest;
    free(matrix);
    row->pairs = kept;
    return 0;
}

/* Stacks of all sides, each once. */
struct wanted {
    uint64_t *stacks;
    size_t cnt, cap;
    struct ap_table table;
    uint32_t *stack, *series; /* in the profile */
};

static int want_sides(struct wanted *wanted, const struct sides *sides)
{
    for (size_t i = 0; i < sides->cnt; i++) {
        uint64_t stack = sides->rows[i].stack, hash = ap_table_mix(stack);
        size_t pos = SIZE_MAX;
        uint32_t at = AP_TABLE_NONE;

        if (stack <= AP_MERGE_REST)
            continue;
        while (wanted->stacks != NULL && (at = ap_table_next(&wanted->table, hash, &pos)) != AP_TABLE_NONE)
            if (wanted->stacks[at] == stack)
                break;
        if (at != AP_TABLE_NONE)
            continue;
        if (grow((void **)&wanted->stacks, &wanted->cap, wanted->cnt + 1, sizeof(*wanted->stacks)) != 0 ||
            ap_table_reserve(&wanted->table) != 0)
            return -ENOMEM;
        ap_table_put(&wanted->table, hash, (uint32_t)wanted->cnt);
        wanted->stacks[wanted->cnt++] = stack;
    }
    return 0;
}

static int finish_lock(struct gathered *gathered, const struct wanted *wanted)
{
    struct ap_lock_row *row = gathered->row;
    struct chosen waiters = {0}, wakers = {0};
    int r = choose_sides(&gathered->waiters, &wanted->table, wanted->stacks, wanted->stack, wanted->series, &waiters);

    if (r == 0)
        r = choose_sides(&gathered->wakers, &wanted->table, wanted->stacks, wanted->stack, wanted->series, &wakers);
    if (r == 0)
        r = choose_pairs(&gathered->pairs, &waiters, &wakers, row);
    if (r != 0) {
        free(waiters.sides);
        free(wakers.sides);
        return r;
    }
    if (row->symbol != 0) /* until now the key */
        row->address = 0;
    row->waiters = waiters.sides;
    row->waiter_cnt = waiters.cnt;
    row->wakers = wakers.sides;
    row->waker_cnt = wakers.cnt;
    return 0;
}

static int finish_locks(struct ap_merge *merge, ap_merge_load_fn load, void *engine, struct ap_error *err)
{
    struct wanted wanted = {0};
    struct gathered *gathered;
    int r = 0;

    /* In the table's order, not the map's, so that the profile is always the same. */
    for (size_t i = 0; r == 0 && i < merge->profile->locks->row_cnt; i++) {
        gathered = gathered_of(merge, merge->profile->locks->rows[i]);
        r = gathered == NULL ? -ENOMEM : want_sides(&wanted, &gathered->waiters);
        if (r == 0)
            r = want_sides(&wanted, &gathered->wakers);
    }
    wanted.stack = calloc(wanted.cnt + 1, sizeof(*wanted.stack));
    wanted.series = calloc(wanted.cnt + 1, sizeof(*wanted.series));
    if (r != 0 || wanted.stack == NULL || wanted.series == NULL)
        r = ap_error_set(err, -ENOMEM, "out of memory");
    else if (wanted.cnt > 0)
        r = load(engine, wanted.stacks, wanted.cnt, merge->profile, wanted.stack, wanted.series, err);
    for (size_t i = 0; r == 0 && i < merge->profile->locks->row_cnt; i++)
        if (finish_lock(gathered_of(merge, merge->profile->locks->rows[i]), &wanted) != 0)
            r = ap_error_set(err, -ENOMEM, "out of memory");
    free(wanted.stacks);
    free(wanted.stack);
    free(wanted.series);
    ap_table_done(&wanted.table);
    return r;
}

/* ---- System calls ---- */

int ap_merge_syscall(struct ap_merge *merge, const struct ap_merge_syscall *syscall)
{
    struct ap_strings *strings = merge->profile->strings;
    struct ap_syscall_row *row =
        ap_syscalls_row(merge->profile->syscalls, identity(syscall->host, syscall->pid, syscall->comm), syscall->pid,
                        syscall->comm, syscall->abi, syscall->number);
    struct gathered *gathered = row != NULL ? gathered_of(merge, row) : NULL;
    int r;

    if (gathered == NULL)
        return -ENOMEM;
    if (row->process != 0)
        row->host = ap_strings_id(strings, syscall->host);
    if (row->number == syscall->number && syscall->name[0] != '\0')
        row->name = ap_strings_id(strings, syscall->name);
    r = ap_histogram_merge(&row->histogram, &syscall->histogram);
    for (uint32_t i = 0; r == 0 && i < syscall->error_cnt; i++)
        r = ap_syscall_row_error(row, syscall->errors[i].error, syscall->errors[i].count);
    if (r != 0)
        return r;
    row->count += syscall->count;
    row->total_ns += syscall->total_ns;
    row->max_ns = larger(row->max_ns, syscall->max_ns);
    if (syscall->start_ns > gathered->newest_ns) {
        gathered->newest_ns = syscall->start_ns;
        row->in_flight = row->in_flight_max_ns = 0;
    }
    if (syscall->start_ns == gathered->newest_ns) {
        row->in_flight += syscall->in_flight;
        row->in_flight_max_ns = larger(row->in_flight_max_ns, syscall->in_flight_max_ns);
    }
    return 0;
}

int ap_merge_finish(struct ap_merge *merge, ap_merge_load_fn load, void *engine, struct ap_profile **ret_profile,
                    struct ap_error *err)
{
    int r = 0;

    if (merge->profile->locks != NULL) {
        r = finish_locks(merge, load, engine, err);
        if (r != 0)
            return r;
        ap_locks_sort(merge->profile->locks);
    } else {
        ap_syscalls_sort(merge->profile->syscalls);
    }
    *ret_profile = merge->profile;
    merge->profile = NULL;
    return 0;
}
