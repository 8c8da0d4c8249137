/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Tables that BPF programs aggregate in and the agent empties. Each exists twice: programs fill the one that
 * `generation` names; the agent switches over, waits until no program can still be writing to the other one, and
 * empties that. Nothing is lost and nothing is counted twice. */
#ifndef APERTURE_ABI_TABLES_H
#define APERTURE_ABI_TABLES_H

#include "abi/histogram.h"
#include "abi/record.h"

#include <linux/types.h>

#define AP_GENERATIONS 2

/* System calls
 * -------------------------------------------------------------------------------------------------------- */

/* Rows of each table; the agent switches over when half are used, so that the other half takes what comes meanwhile. */
#define AP_SYSCALL_TABLE_ROWS 8192
#define AP_SYSCALL_ERROR_ROWS 8192
/* A row is shared by the CPUs of equal number modulo this: fewer of them wait for each other's cache lines. */
#define AP_SYSCALL_SHARDS 8
/* Rows that every CPU has to itself in front of the table: found and counted without a hash and without atomic
 * operations. Process and number have two places; who comes when others have them is counted in the table. Most of one
 * CPU, a power of two, and most of all CPUs together unless there are so many that the least takes more. */
#define AP_SYSCALL_OWN_ROWS_MAX 256
#define AP_SYSCALL_OWN_ROWS_MIN 8
#define AP_SYSCALL_OWN_ROWS_ALL 4096
/* Numbers that have a row of their own when the table is full; the last one takes all others. */
#define AP_SYSCALL_OTHER_ROWS 512

struct ap_syscall_key {
    __u32 host_pid;
    __u16 number;
    __u8 abi; /* enum ap_syscall_abi of the model: 0 native, 1 compat, 2 x32 */
    __u8 shard;
};

struct ap_syscall_stats {
    __u64 total_ns, max_ns;
    __u64 start_time; /* of the process, CLOCK_MONOTONIC: tells a number's next bearer apart */
    __u32 pid;        /* in the agent's pid namespace */
    __u32 reserved;
    char comm[AP_COMM_SZ]; /* of the process when the row was made */
    __u32 buckets[AP_HISTOGRAM_BUCKETS];
};

/* A CPU's own row; it is free while all of the key is zero. */
struct ap_syscall_own_row {
    struct ap_syscall_key key;
    struct ap_syscall_stats stats;
};

/* What found no room in the table, by number. */
struct ap_syscall_other {
    __u64 total_ns, max_ns;
    __u64 buckets[AP_HISTOGRAM_BUCKETS];
};

struct ap_syscall_error_key {
    __u32 host_pid;
    __u16 number;
    __u8 abi;
    __u8 shard;
    __u32 error;
};

#define AP_ERRNO_ROWS 4096 /* MAX_ERRNO, include/linux/err.h, and zero */

struct ap_syscall_config {
    __u64 min_ns;   /* --min-latency */
    __u32 own_rows; /* of each CPU */
    __u8 stacks;    /* --stacks */
    __u8 reserved[3];
};

/* Locks
 * -------------------------------------------------------------------------------------------------------- */

#define AP_LOCK_TABLE_ROWS 8192
/* Stacks of which the agent has the record already. */
#define AP_LOCK_SEEN_STACKS 16384
/* Threads that can be inside a futex call, or have been, on kernels without task storage (before 5.12). */
#define AP_LOCK_THREADS_MAX 16384

enum ap_lock_outcome {
    AP_LOCK_ACQUIRED = 0,
    AP_LOCK_TIMED_OUT = 1,
    AP_LOCK_INTERRUPTED = 2,
    AP_LOCK_RETRY = 3, /* the value had changed before the wait began, or another error */
    AP_LOCK_OUTCOMES = 4,
};

struct ap_lock_key {
    __u64 waiter; /* hash of the waiter's stack, process and name: key of its AP_RECORD_LOCK */
    __u64 waker;  /* the same of who ended the wait: key of its AP_RECORD_RELEASE. 0 = nobody known */
    __u64 address;
    __u32 host_pid;  /* 0 = a kernel lock */
    __u32 operation; /* futex command, or the kernel's LCB_F flags */
};

struct ap_lock_stats {
    __u64 count[AP_LOCK_OUTCOMES], total_ns[AP_LOCK_OUTCOMES];
    __u64 max_ns;                        /* of AP_LOCK_ACQUIRED */
    __u32 buckets[AP_HISTOGRAM_BUCKETS]; /* likewise */
};

/* Kinds of futex calls as the agent sees them; FUTEX_* of include/uapi/linux/futex.h, and two system calls. */
#define AP_FUTEX_LOCK_PI         6
#define AP_FUTEX_WAIT_REQUEUE_PI 11
#define AP_FUTEX_LOCK_PI2        13

/* LCB_F_* of include/trace/events/lock.h */
#define AP_LCB_SPIN   (1u << 0)
#define AP_LCB_READ   (1u << 1)
#define AP_LCB_WRITE  (1u << 2)
#define AP_LCB_RT     (1u << 3)
#define AP_LCB_PERCPU (1u << 4)
#define AP_LCB_MUTEX  (1u << 5)

#endif
