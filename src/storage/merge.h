/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: merges the tables of many batches, locks and system calls, into one. The result does not
 * depend on the order in which rows come, so that every implementation gives the same answer. */
#ifndef APERTURE_STORAGE_MERGE_H
#define APERTURE_STORAGE_MERGE_H

#include "core/error.h"
#include "model/histogram.h"
#include "model/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands for the stack of a side: nobody known; the sum of what did not fit. And of both sides of a pair: the sum
 * of the pairs that did not fit. */
#define AP_MERGE_UNKNOWN 0
#define AP_MERGE_OTHERS  1
#define AP_MERGE_REST    2

struct ap_merge_side {
    uint64_t stack; /* identity, or one of the above */
    uint64_t count, total_ns, max_ns;
};

struct ap_merge_pair {
    uint64_t waiter, waker; /* stacks as above */
    uint64_t count, total_ns, max_ns;
};

/* A row of one batch. Everything is borrowed. */
struct ap_merge_lock {
    const char *host, *comm, *symbol; /* "" = none */
    uint64_t start_ns;                /* of the batch */
    uint64_t address;
    uint32_t pid;
    uint8_t type; /* enum ap_lock_type */
    bool kernel;
    uint64_t waits, total_ns, max_ns, timeouts, interrupted, retried, timeout_ns, interrupted_ns, in_flight,
        in_flight_ns;
    struct ap_histogram histogram;
    const struct ap_merge_side *waiters, *wakers;
    const struct ap_merge_pair *pairs;
    uint32_t waiter_cnt, waker_cnt, pair_cnt;
};

struct ap_merge_error {
    uint32_t error;
    uint64_t count;
};

struct ap_merge_syscall {
    const char *host, *comm, *name;
    uint64_t start_ns;
    uint32_t pid, number;
    uint8_t abi;
    uint64_t count, total_ns, max_ns, in_flight, in_flight_max_ns;
    struct ap_histogram histogram;
    const struct ap_merge_error *errors;
    uint32_t error_cnt;
};

struct ap_merge; /* opaque */

/* A merge into a new profile of kind AP_KIND_LOCK or AP_KIND_SYSCALL. NULL when out of memory. */
struct ap_merge *ap_merge_new(uint8_t kind);
/* With its profile, if that was not taken. Accepts NULL. Returns NULL. */
struct ap_merge *ap_merge_free(struct ap_merge *merge);

/* Adds a row: sums up, with the same host, pid and name of process, and symbol, or address where there is none (system
 * calls: ABI and number). Waits and calls in flight are those of the newest batch. 0 or -ENOMEM. */
int ap_merge_lock(struct ap_merge *merge, const struct ap_merge_lock *lock);
int ap_merge_syscall(struct ap_merge *merge, const struct ap_merge_syscall *syscall);

/* Loads stacks as the engine's load_stacks() does. */
typedef int (*ap_merge_load_fn)(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                                uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);
/* Chooses the sides and pairs to keep (the longest), loads their stacks and sorts. The profile is the caller's. 0,
 * -ENOMEM, or what `load` says; with words. */
int ap_merge_finish(struct ap_merge *merge, ap_merge_load_fn load, void *engine, struct ap_profile **ret_profile,
                    struct ap_error *err);

#endif
