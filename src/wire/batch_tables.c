/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Locks, system calls and accounts of a batch. */
#include "model/locks.h"
#include "model/syscalls.h"
#include "wire/batch.h"
#include "wire/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Losses that a newer agent may know beyond ours: more are no list of reasons. */
#define LOSSES_MAX 64

/* The counts are the profile's own. NULL for an empty one. */
static Aperture__V1__Histogram *put_histogram(struct ap_arena *arena, const struct ap_histogram *histogram)
{
    Aperture__V1__Histogram *ret;

    if (histogram->cnt == 0)
        return NULL;
    ret = ap_arena_alloc(arena, sizeof(*ret));
    if (ret == NULL)
        return NULL;
    aperture__v1__histogram__init(ret);
    ret->first = histogram->first;
    ret->n_counts = histogram->cnt;
    ret->counts = histogram->counts;
    return ret;
}

static void put_side(const struct ap_lock_side *side, Aperture__V1__LockSide *ret)
{
    aperture__v1__lock_side__init(ret);
    ret->series = side->series;
    ret->stack = side->stack;
    ret->count = side->count;
    ret->total_ns = side->total_ns;
    ret->max_ns = side->max_ns;
}

/* NULL when the arena refuses. */
static Aperture__V1__LockSide **put_sides(struct ap_arena *arena, const struct ap_lock_side *sides, uint32_t cnt)
{
    Aperture__V1__LockSide **ret = ap_arena_rows(arena, cnt, sizeof(Aperture__V1__LockSide *));
    Aperture__V1__LockSide *rows = ap_arena_rows(arena, cnt, sizeof(*rows));

    for (uint32_t i = 0; ret != NULL && rows != NULL && i < cnt; i++) {
        put_side(&sides[i], &rows[i]);
        ret[i] = &rows[i];
    }
    return ret;
}

static Aperture__V1__LockPair **put_pairs(struct ap_arena *arena, const struct ap_lock_pair *pairs, uint32_t cnt)
{
    Aperture__V1__LockPair **ret = ap_arena_rows(arena, cnt, sizeof(Aperture__V1__LockPair *));
    Aperture__V1__LockPair *rows = ap_arena_rows(arena, cnt, sizeof(*rows));

    for (uint32_t i = 0; ret != NULL && rows != NULL && i < cnt; i++) {
        aperture__v1__lock_pair__init(&rows[i]);
        rows[i].waiter = pairs[i].waiter;
        rows[i].waker = pairs[i].waker;
        rows[i].count = pairs[i].count;
        rows[i].total_ns = pairs[i].total_ns;
        rows[i].max_ns = pairs[i].max_ns;
        ret[i] = &rows[i];
    }
    return ret;
}

static void put_lock(struct ap_arena *arena, const struct ap_lock_row *row, Aperture__V1__Lock *ret)
{
    aperture__v1__lock__init(ret);
    ret->process = row->process;
    ret->pid = row->pid;
    ret->comm = row->comm;
    ret->address = row->address;
    ret->symbol = row->symbol;
    ret->type = row->type;
    ret->kernel = row->kernel;
    ret->waits = row->waits;
    ret->total_ns = row->total_ns;
    ret->max_ns = row->max_ns;
    ret->timeouts = row->timeouts;
    ret->interrupted = row->interrupted;
    ret->retried = row->retried;
    ret->timeout_ns = row->timeout_ns;
    ret->interrupted_ns = row->interrupted_ns;
    ret->in_flight = row->in_flight;
    ret->in_flight_ns = row->in_flight_ns;
    ret->histogram = put_histogram(arena, &row->histogram);
    ret->n_waiters = row->waiter_cnt;
    ret->waiters = put_sides(arena, row->waiters, row->waiter_cnt);
    ret->n_wakers = row->waker_cnt;
    ret->wakers = put_sides(arena, row->wakers, row->waker_cnt);
    ret->n_pairs = row->pair_cnt;
    ret->pairs = put_pairs(arena, row->pairs, row->pair_cnt);
}

void ap_batch_put_locks(struct ap_arena *arena, const struct ap_profile *profile, Aperture__V1__Profile *ret)
{
    const struct ap_locks *locks = profile->locks;

    ret->folded = locks->folded;
    ret->n_locks = locks->row_cnt;
    ret->locks = ap_arena_rows(arena, locks->row_cnt, sizeof(Aperture__V1__Lock *));
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < locks->row_cnt; i++) {
        ret->locks[i] = ap_arena_alloc(arena, sizeof(Aperture__V1__Lock));
        if (ret->locks[i] != NULL)
            put_lock(arena, locks->rows[i], ret->locks[i]);
    }
}

static void put_syscall(struct ap_arena *arena, const struct ap_profile *profile, const struct ap_syscall_row *row,
                        Aperture__V1__Syscall *ret)
{
    char name[AP_SYSCALL_NAME_SZ];

    aperture__v1__syscall__init(ret);
    ret->process = row->process;
    ret->pid = row->pid;
    ret->comm = row->comm;
    ret->number = row->number;
    ret->abi = row->abi;
    ret->count = row->count;
    ret->total_ns = row->total_ns;
    ret->max_ns = row->max_ns;
    ret->in_flight = row->in_flight;
    ret->in_flight_max_ns = row->in_flight_max_ns;
    ret->histogram = put_histogram(arena, &row->histogram);
    AP_COLUMN(arena, ret, errors, row->error_cnt);
    AP_COLUMN(arena, ret, error_counts, row->error_cnt);
    ret->name = ap_message_text(arena, row->name != 0 ? ap_profile_str(profile, row->name)
                                                      : ap_syscall_name(row->abi, row->number, name));
    for (uint32_t i = 0; ap_arena_error(arena) == 0 && i < row->error_cnt; i++) {
        ret->errors[i] = row->errors[i].error;
        ret->error_counts[i] = row->errors[i].count;
    }
}

void ap_batch_put_syscalls(struct ap_arena *arena, const struct ap_profile *profile, Aperture__V1__Profile *ret)
{
    const struct ap_syscalls *syscalls = profile->syscalls;

    ret->folded = syscalls->folded;
    ret->n_syscalls = syscalls->row_cnt;
    ret->syscalls = ap_arena_rows(arena, syscalls->row_cnt, sizeof(Aperture__V1__Syscall *));
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < syscalls->row_cnt; i++) {
        ret->syscalls[i] = ap_arena_alloc(arena, sizeof(Aperture__V1__Syscall));
        if (ret->syscalls[i] != NULL)
            put_syscall(arena, profile, syscalls->rows[i], ret->syscalls[i]);
    }
}

Aperture__V1__Account *ap_batch_put_account(struct ap_arena *arena, const struct ap_account *account)
{
    Aperture__V1__Account *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__account__init(ret);
    ret->expected = account->expected;
    ret->delivered = account->delivered;
    AP_COLUMN(arena, ret, losses, AP_LOSS_REASON_CNT);
    if (ret->losses == NULL)
        return NULL;
    memcpy(ret->losses, account->losses, sizeof(account->losses));
    ret->idle = account->idle;
    ret->out_of_scope = account->out_of_scope;
    ret->below_min = account->below_min;
    ret->below_min_ns = account->below_min_ns;
    ret->folded = account->folded;
    ret->unmatched = account->unmatched;
    return ret;
}

/* Sums that are held to 63 bits, as those of samples are: readers may add them up. */
struct sums {
    uint64_t count, ns;
};

static bool add(uint64_t *sum, uint64_t value)
{
    return !__builtin_add_overflow(*sum, value, sum) && *sum <= AP_PROFILE_TOTAL_MAX;
}

static bool get_string(const struct ap_batch_strings *strings, uint32_t index, uint32_t *ret_id)
{
    if (index >= strings->cnt)
        return false;
    *ret_id = strings->ids[index];
    return true;
}

/* 0, -EINVAL (buckets that do not exist, sums past 63 bits) or -ENOMEM. */
static int get_histogram(const Aperture__V1__Histogram *from, struct ap_histogram *ret)
{
    struct ap_histogram view;
    uint64_t total = 0;

    if (from == NULL || from->n_counts == 0)
        return 0;
    if (from->first >= AP_HISTOGRAM_BUCKETS || from->n_counts > AP_HISTOGRAM_BUCKETS - from->first)
        return -EINVAL;
    for (size_t i = 0; i < from->n_counts; i++)
        if (!add(&total, from->counts[i]))
            return -EINVAL;
    view =
        (struct ap_histogram){.counts = from->counts, .first = (uint16_t)from->first, .cnt = (uint16_t)from->n_counts};
    return ap_histogram_merge(ret, &view);
}

static bool get_sides(Aperture__V1__LockSide *const *from, size_t cnt, const struct ap_profile *profile,
                      struct ap_lock_side ret[AP_LOCK_SIDES_MAX])
{
    struct sums sums = {0};

    if (cnt > AP_LOCK_SIDES_MAX)
        return false;
    for (size_t i = 0; i < cnt; i++) {
        const Aperture__V1__LockSide *side = from[i];

        if (side->stack != AP_LOCK_NO_STACK &&
            (side->stack >= profile->stack_cnt || side->series >= profile->series_cnt))
            return false;
        if (!add(&sums.count, side->count) || !add(&sums.ns, side->total_ns))
            return false;
        ret[i] = (struct ap_lock_side){
            .series = side->series,
            .stack = side->stack,
            .count = side->count,
            .total_ns = side->total_ns,
            .max_ns = side->max_ns,
        };
    }
    return true;
}

static bool get_pairs(Aperture__V1__LockPair *const *from, size_t cnt, struct ap_lock_pair ret[AP_LOCK_PAIRS_MAX])
{
    struct sums sums = {0};

    if (cnt > AP_LOCK_PAIRS_MAX)
        return false;
    for (size_t i = 0; i < cnt; i++) {
        if (!add(&sums.count, from[i]->count) || !add(&sums.ns, from[i]->total_ns))
            return false;
        ret[i] = (struct ap_lock_pair){
            .waiter = from[i]->waiter,
            .waker = from[i]->waker,
            .count = from[i]->count,
            .total_ns = from[i]->total_ns,
            .max_ns = from[i]->max_ns,
        };
    }
    return true;
}

/* The sides of a row that has none. 0, -EINVAL or -ENOMEM. */
static int get_row_sides(const Aperture__V1__Lock *from, const struct ap_profile *profile, struct ap_lock_row *row)
{
    struct ap_lock_side waiters[AP_LOCK_SIDES_MAX], wakers[AP_LOCK_SIDES_MAX];
    struct ap_lock_pair pairs[AP_LOCK_PAIRS_MAX];

    if (!get_sides(from->waiters, from->n_waiters, profile, waiters) ||
        !get_sides(from->wakers, from->n_wakers, profile, wakers) || !get_pairs(from->pairs, from->n_pairs, pairs))
        return -EINVAL;
    return ap_lock_row_restore(row, waiters, (uint32_t)from->n_waiters, wakers, (uint32_t)from->n_wakers, pairs,
                               (uint32_t)from->n_pairs);
}

static bool get_lock_sums(const Aperture__V1__Lock *from, struct sums *sums, struct ap_lock_row *row)
{
    row->waits = from->waits;
    row->total_ns = from->total_ns;
    row->max_ns = from->max_ns;
    row->timeouts = from->timeouts;
    row->interrupted = from->interrupted;
    row->retried = from->retried;
    row->timeout_ns = from->timeout_ns;
    row->interrupted_ns = from->interrupted_ns;
    row->in_flight = from->in_flight;
    row->in_flight_ns = from->in_flight_ns;
    return add(&sums->count, row->waits) && add(&sums->count, row->timeouts) && add(&sums->count, row->interrupted) &&
           add(&sums->count, row->retried) && add(&sums->count, row->in_flight) && add(&sums->ns, row->total_ns) &&
           add(&sums->ns, row->timeout_ns) && add(&sums->ns, row->interrupted_ns) && add(&sums->ns, row->in_flight_ns);
}

static int get_lock(const Aperture__V1__Lock *from, const struct ap_batch_strings *strings, struct ap_profile *profile,
                    struct sums *sums, struct ap_error *err)
{
    struct ap_lock_row *row;
    int r;

    r = ap_locks_restore(profile->locks, from->process, from->address, from->kernel, &row);
    if (r == -EEXIST)
        return ap_error_set(err, -EINVAL, "it is there twice");
    if (r != 0)
        return ap_error_set(err, r == -ENOSPC ? -E2BIG : r, r == -ENOSPC ? "more locks than are taken" : "no memory");
    row->pid = from->pid;
    if (!get_string(strings, from->comm, &row->comm) || !get_string(strings, from->symbol, &row->symbol))
        return ap_error_set(err, -EINVAL, "there is no such string");
    if (from->type > UINT8_MAX)
        return ap_error_set(err, -EINVAL, "there is no type %u", from->type);
    row->type = (uint8_t)from->type;
    if (!get_lock_sums(from, sums, row))
        return ap_error_set(err, -EINVAL, "sums past 63 bits");
    r = get_histogram(from->histogram, &row->histogram);
    if (r != 0)
        return ap_error_set(err, r, r == -EINVAL ? "its histogram is not one" : "no memory");
    r = get_row_sides(from, profile, row);
    return r == 0 ? 0 : ap_error_set(err, r, r == -EINVAL ? "waiters and wakers that cannot be" : "no memory");
}

int ap_batch_get_locks(const Aperture__V1__Profile *from, const struct ap_batch_strings *strings,
                       struct ap_profile *profile, struct ap_error *err)
{
    struct sums sums = {0};

    profile->locks = ap_locks_new();
    if (profile->locks == NULL)
        return ap_error_errno(err, -ENOMEM, "locks");
    profile->locks->folded = from->folded;
    for (size_t i = 0; i < from->n_locks; i++) {
        int r = get_lock(from->locks[i], strings, profile, &sums, err);

        if (r != 0) {
            ap_error_prefix(err, "lock %zu", i);
            return r;
        }
    }
    return 0;
}

/* 0, -EINVAL or -ENOMEM. */
static int get_errors(const Aperture__V1__Syscall *from, struct ap_syscall_row *row)
{
    uint32_t before = 0;
    uint64_t sum = 0;

    if (from->n_errors != from->n_error_counts)
        return -EINVAL;
    for (size_t i = 0; i < from->n_errors; i++) {
        if (from->errors[i] <= before || from->errors[i] > AP_ERRNO_MAX || !add(&sum, from->error_counts[i]))
            return -EINVAL;
        before = from->errors[i];
    }
    if (from->n_errors == 0)
        return 0;
    row->errors = calloc(from->n_errors, sizeof(*row->errors));
    if (row->errors == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < from->n_errors; i++)
        row->errors[i] = (struct ap_syscall_error){.error = from->errors[i], .count = from->error_counts[i]};
    row->error_cnt = (uint32_t)from->n_errors;
    return 0;
}

static int get_name(const Aperture__V1__Syscall *from, struct ap_profile *profile, struct ap_syscall_row *row,
                    struct ap_error *err)
{
    int r;

    if (strlen(from->name) >= AP_SYSCALL_NAME_SZ)
        return ap_error_set(err, -EINVAL, "a name of %zu bytes", strlen(from->name));
    r = ap_strings_add(profile->strings, from->name, strlen(from->name), &row->name);
    return r == 0 ? 0 : ap_error_set(err, r == -ENOSPC ? -E2BIG : r, "no room for its name");
}

static int get_syscall(const Aperture__V1__Syscall *from, const struct ap_batch_strings *strings,
                       struct ap_profile *profile, struct sums *sums, struct ap_error *err)
{
    struct ap_syscall_row like = {.process = from->process, .pid = from->pid, .number = from->number}, *row;
    int r;

    if (!get_string(strings, from->comm, &like.comm))
        return ap_error_set(err, -EINVAL, "there is no string %u", from->comm);
    if (from->abi > AP_SYSCALL_X32)
        return ap_error_set(err, -EINVAL, "there is no ABI %u", from->abi);
    like.abi = (uint8_t)from->abi;
    r = ap_syscalls_restore(profile->syscalls, &like, &row);
    if (r == -EEXIST)
        return ap_error_set(err, -EINVAL, "it is there twice");
    if (r != 0)
        return ap_error_set(err, r == -ENOSPC ? -E2BIG : r, r == -ENOSPC ? "more calls than are taken" : "no memory");
    row->count = from->count;
    row->total_ns = from->total_ns;
    row->max_ns = from->max_ns;
    row->in_flight = from->in_flight;
    row->in_flight_max_ns = from->in_flight_max_ns;
    if (!add(&sums->count, row->count) || !add(&sums->count, row->in_flight) || !add(&sums->ns, row->total_ns))
        return ap_error_set(err, -EINVAL, "sums past 63 bits");
    r = get_histogram(from->histogram, &row->histogram);
    if (r != 0)
        return ap_error_set(err, r, r == -EINVAL ? "its histogram is not one" : "no memory");
    r = get_errors(from, row);
    if (r != 0)
        return ap_error_set(err, r, r == -EINVAL ? "errors that cannot be" : "no memory");
    return get_name(from, profile, row, err);
}

int ap_batch_get_syscalls(const Aperture__V1__Profile *from, const struct ap_batch_strings *strings,
                          struct ap_profile *profile, struct ap_error *err)
{
    struct sums sums = {0};

    profile->syscalls = ap_syscalls_new(profile->strings);
    if (profile->syscalls == NULL)
        return ap_error_errno(err, -ENOMEM, "system calls");
    profile->syscalls->folded = from->folded;
    for (size_t i = 0; i < from->n_syscalls; i++) {
        int r = get_syscall(from->syscalls[i], strings, profile, &sums, err);

        if (r != 0) {
            ap_error_prefix(err, "system call %zu", i);
            return r;
        }
    }
    return 0;
}

int ap_batch_get_account(const Aperture__V1__Account *from, struct ap_account *ret, struct ap_error *err)
{
    struct ap_account account = {0};
    uint64_t sum = 0;
    bool valid;

    if (from == NULL) {
        *ret = account;
        return 0;
    }
    if (from->n_losses > LOSSES_MAX)
        return ap_error_set(err, -EINVAL, "an account of %zu losses", from->n_losses);
    account.expected = from->expected;
    account.delivered = from->delivered;
    account.idle = from->idle;
    account.out_of_scope = from->out_of_scope;
    account.below_min = from->below_min;
    account.below_min_ns = from->below_min_ns;
    account.folded = from->folded;
    account.unmatched = from->unmatched;
    /* Together, so that every sum that a reader makes of them fits. */
    valid = add(&sum, from->expected) && add(&sum, from->delivered) && add(&sum, from->idle) &&
            add(&sum, from->out_of_scope) && add(&sum, from->below_min) && add(&sum, from->below_min_ns) &&
            add(&sum, from->folded) && add(&sum, from->unmatched);
    for (size_t i = 0; valid && i < from->n_losses; i++) {
        /* What a newer agent lost for a reason unknown here still shows: expected stays above delivered. */
        if (i < AP_LOSS_REASON_CNT)
            account.losses[i] = from->losses[i];
        valid = add(&sum, from->losses[i]);
    }
    if (!valid)
        return ap_error_set(err, -EINVAL, "an account of sums past 63 bits");
    *ret = account;
    return 0;
}
