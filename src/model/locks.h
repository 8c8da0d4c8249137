/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Waits for locks by lock: who waited where, and who released it where. */
#ifndef APERTURE_MODEL_LOCKS_H
#define APERTURE_MODEL_LOCKS_H

#include "model/histogram.h"
#include "model/profile.h"

#include <stddef.h>
#include <stdint.h>

/* Bounds. A lock past the first one joins the process's row of address 0 ("other locks"); a process past the second one
 * the row of process 0 and address 0. What does not fit into a row joins its side AP_LOCK_OTHERS and its pair
 * AP_LOCK_REST. Nothing is dropped. */
#define AP_LOCK_ROWS_MAX         65536
#define AP_LOCK_PROCESS_ROWS_MAX 16384 /* more, for rows of "other locks" */
#define AP_LOCK_SIDES_MAX        32    /* waiters, and wakers, of one lock, with AP_LOCK_OTHERS and AP_LOCK_UNKNOWN */
#define AP_LOCK_PAIRS_MAX        64    /* combinations of the two, with AP_LOCK_REST */
#define AP_LOCK_NO_STACK         UINT32_MAX
/* What stands for the series of a side without a stack. */
#define AP_LOCK_UNKNOWN UINT32_MAX       /* nobody known */
#define AP_LOCK_OTHERS  (UINT32_MAX - 1) /* the sum of what did not fit */
/* What stands for both indices of a pair. */
#define AP_LOCK_REST UINT32_MAX /* the sum of what did not fit */

/* What kind of wait it is, told by the functions on the waiter's stack; kernel locks say it themselves. */
enum ap_lock_type {
    AP_LOCK_FUTEX = 0, /* user space, not told apart */
    AP_LOCK_MUTEX = 1,
    AP_LOCK_RWLOCK = 2,
    AP_LOCK_PI_MUTEX = 3,
    AP_LOCK_SPIN = 4,      /* kernel */
    AP_LOCK_RT_MUTEX = 5,  /* kernel */
    AP_LOCK_PERCPU_RW = 6, /* kernel */
    /* waits for an event rather than for a lock: shown apart */
    AP_LOCK_CONDVAR = 16,
    AP_LOCK_SEMAPHORE = 17,
    AP_LOCK_BARRIER = 18,
    AP_LOCK_JOIN = 19, /* for the end of a thread */
    AP_LOCK_ONCE = 20,
    AP_LOCK_PARK = 21, /* a runtime's thread put aside until there is something to do: Java, Go, Rust */
};

/* "mutex", "condvar" ... as used in JSON and tables. */
const char *ap_lock_type_name(uint8_t type);
/* True for mutexes and the like: contention. False for waits for an event: condition variables, semaphores, barriers,
 * joins. */
bool ap_lock_type_is_contention(uint8_t type);

struct ap_lock_side {
    uint32_t series, stack; /* of the profile; stack AP_LOCK_NO_STACK: AP_LOCK_UNKNOWN or AP_LOCK_OTHERS */
    uint64_t count, total_ns, max_ns;
};

struct ap_lock_pair {
    uint32_t waiter, waker; /* indices in the lock's waiters and wakers; both AP_LOCK_REST for the rest */
    uint64_t count, total_ns, max_ns;
};

struct ap_lock_row {
    uint64_t process; /* identity that the caller chose; 0 = the kernel */
    uint32_t pid;     /* in the agent's pid namespace; 0 = not visible there, or a kernel lock */
    uint32_t comm;    /* string id: process name */
    uint32_t host;    /* string id; 0 = this machine */
    uint64_t address; /* in the process or the kernel; 0 = several that did not fit */
    uint32_t symbol;  /* string id of the global variable there, "name+0x10" inside one; 0 = unknown */
    uint8_t type;     /* enum ap_lock_type */
    bool kernel;
    uint64_t waits;    /* that ended with the lock or a wake-up */
    uint64_t total_ns; /* of those */
    uint64_t max_ns;
    uint64_t timeouts, interrupted, retried; /* ETIMEDOUT; EINTR; EAGAIN (had changed before the wait began) */
    uint64_t timeout_ns, interrupted_ns;     /* time until then; not in total_ns */
    uint64_t in_flight, in_flight_ns;      /* waits that had not ended at the end, and their time so far; in neither */
    struct ap_histogram histogram;         /* of waits */
    struct ap_lock_side *waiters, *wakers; /* owned; by total_ns, largest first, once sorted */
    struct ap_lock_pair *pairs;            /* owned; likewise */
    uint32_t waiter_cnt, waker_cnt, pair_cnt;
};

struct ap_locks {
    struct ap_lock_row **rows; /* owned */
    size_t row_cnt;
    uint64_t folded;              /* rows that were asked for but joined "other locks" */
    struct ap_locks_index *index; /* private */
};

/* NULL when out of memory. */
struct ap_locks *ap_locks_new(void);
/* Accepts NULL. Returns NULL. */
struct ap_locks *ap_locks_free(struct ap_locks *locks);

/* The row of (process, address, kernel), made or shared as the bounds say; a new one has only these three set. It stays
 * where it is until ap_locks_free(). NULL without memory. */
struct ap_lock_row *ap_locks_row(struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel);

/* Adds `count` waits of `total_ns` together to the sides and their pair. A stack of AP_LOCK_NO_STACK: nobody known,
 * whatever its series. Only the sides: the row's own sums are the caller's. 0 or -ENOMEM (nothing is added then). */
int ap_lock_row_add(struct ap_lock_row *row, uint32_t waiter_series, uint32_t waiter_stack, uint32_t waker_series,
                    uint32_t waker_stack, uint64_t count, uint64_t total_ns, uint64_t max_ns);

/* A row as it was sent or stored: made where there is none, without folding. 0 with *ret_row (as of ap_locks_row()),
 * -EEXIST, -ENOSPC (more rows than ap_locks_row() ever makes) or -ENOMEM. */
int ap_locks_restore(struct ap_locks *locks, uint64_t process, uint64_t address, bool kernel,
                     struct ap_lock_row **ret_row);
/* Gives a row that has none its sides and pairs (copied). Series and stacks are the caller's to check. 0, -EINVAL (more
 * than ap_lock_row_add() ever makes, a side that is half of a special one, a pair of sides that are not there) or
 * -ENOMEM; nothing is given then. */
int ap_lock_row_restore(struct ap_lock_row *row, const struct ap_lock_side *waiters, uint32_t waiter_cnt,
                        const struct ap_lock_side *wakers, uint32_t waker_cnt, const struct ap_lock_pair *pairs,
                        uint32_t pair_cnt);

/* Orders rows: contention first, then by total time (with in_flight_ns, timeout_ns and interrupted_ns); sides and pairs
 * by time, with the pairs' indices kept right. Rows may still be asked for after it. */
void ap_locks_sort(struct ap_locks *locks);
/* Leaves only the rows that `fits` says yes to. After it no rows may be asked for. */
void ap_locks_keep(struct ap_locks *locks, bool (*fits)(void *ctx, const struct ap_lock_row *row), void *ctx);
/* All time of a row that somebody waited, also when it did not end with the lock. */
uint64_t ap_lock_row_waited_ns(const struct ap_lock_row *row);

/* Tells the type of a user-space wait from the names of the innermost frames on the waiter's stack (C libraries, C++,
 * Rust, Go, the JVM); AP_LOCK_FUTEX when no name tells. */
uint8_t ap_lock_type_of_stack(const struct ap_profile *profile, uint32_t stack);

/* The frame of a stack that a reader means by "where": the innermost user frame that is not part of the C library, the
 * loader or a lock primitive (std::mutex::lock ...); on a stack that ends inside a lock of the kernel the function
 * behind that; else the innermost user frame; else the innermost frame that is not a mark. Index of the frame in
 * profile->frames, 0 when there is none. */
uint32_t ap_lock_site(const struct ap_profile *profile, uint32_t stack);

#endif
