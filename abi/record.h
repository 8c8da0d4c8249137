/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Records that BPF programs send to the agent through the ring buffer, and the counters they keep. Shared by
 * both sides: fixed width, native byte order, no pointers, the variable part last. A record is never stored
 * or sent on. */
#ifndef APERTURE_ABI_RECORD_H
#define APERTURE_ABI_RECORD_H

#include <linux/types.h>

/* Raised whenever a layout below changes; the agent refuses records of another version. */
#define AP_RECORD_VERSION 2

enum ap_record_type {
    AP_RECORD_CPU = 1,     /* a sample: what runs */
    AP_RECORD_OFFCPU = 2,  /* a wait that ended, or had not at the end of the recording */
    AP_RECORD_WAKER = 3,   /* who ended the wait of another task; comes before that one's AP_RECORD_OFFCPU */
    AP_RECORD_SYSCALL = 4, /* a slow system call */
    AP_RECORD_LOCK = 5,    /* first wait of a row of the lock table: its stack */
    AP_RECORD_RELEASE = 6, /* first time that a stack released waiters */
    AP_RECORD_TYPE_CNT = 7,
};

#define AP_COMM_SZ 16 /* TASK_COMM_LEN, include/linux/sched.h */

/* Frames kept of each half. Kernel: PERF_MAX_STACK_DEPTH (include/uapi/linux/perf_event.h), its callchains
 * are never longer by default. User: AP_STACK_FRAMES_MAX of the model. Both fit the 32 KiB that a per-CPU
 * value may have. */
#define AP_KERNEL_FRAMES_MAX 127
#define AP_USER_FRAMES_MAX   512
/* Words of the user stack from its top on that travel with the addresses: enough for the frames of a C library
 * without frame pointers (glibc's pthread_cond_wait and what it calls take about 40). */
#define AP_STACK_WORDS_MAX 64

/* User frames kept of a task while it is off the CPU: every task has its own room for them. */
#define AP_BLOCKED_FRAMES_MAX 128

enum ap_record_flags {
    AP_RECORD_KERNEL_TRUNCATED = 1 << 0,
    AP_RECORD_USER_TRUNCATED = 1 << 1,
    AP_RECORD_KERNEL_THREAD = 1 << 2, /* no user half by nature */
    AP_RECORD_IN_FLIGHT = 1 << 3,     /* had not ended when the recording did */
    AP_RECORD_BEFORE = 1 << 4,        /* began before the recording: counted from its start, no user half */
    AP_RECORD_COMPAT = 1 << 5,        /* system call: 32-bit */
};

enum ap_task_state {
    AP_STATE_INTERRUPTIBLE = 0,
    AP_STATE_UNINTERRUPTIBLE = 1,
    AP_STATE_PREEMPTED = 2, /* runnable: waits for a CPU */
    AP_STATE_CNT = 3,
};

/* All kinds share one layout; what a kind has no use for is zero. */
struct ap_record {
    __u16 version;
    __u16 type; /* enum ap_record_type */
    __u32 flags;
    __u64 time_ns;  /* CLOCK_MONOTONIC: of the sample, or the end of what is measured */
    __u32 pid, tid; /* in the agent's pid namespace; 0 = not visible there */
    __u32 ns_pid;   /* process id in the task's own (innermost) pid namespace */
    __u32 host_pid; /* process id in the initial pid namespace */
    __u32 host_tid;
    __u32 cpu;
    __u16 kernel_cnt; /* addresses that follow, kernel ones first, each half leaf first */
    __u16 user_cnt;
    __u32 word_cnt;        /* words of the user stack that follow the addresses */
    char comm[AP_COMM_SZ]; /* of the thread, NUL-terminated */
    __u64 duration_ns;     /* offcpu, syscall */
    __u64 object;          /* lock: address; syscall: return value */
    __u64 key;             /* lock, release: of the row in the kernel's table; offcpu, waker: joins the two */
    __u32 number;          /* offcpu: enum ap_task_state; syscall: number; lock: futex operation or LCB_F flags;
                              waker: host_tid of the task that was woken */
    __u32 reserved;
    __u64 sp, bp; /* user registers at the leaf; given with words */
    __u64 fp;     /* where the chain of frame pointers starts behind the user half's first address: bp, or where it was
                     found to be saved; 0 = there is no chain */
    /* __u64 addrs[kernel_cnt + user_cnt] follow, then __u64 words[word_cnt] */
};

#define AP_RECORD_HEAD_SZ 120
_Static_assert(sizeof(struct ap_record) == AP_RECORD_HEAD_SZ, "record head must not change unnoticed");

/* Indices of the per-CPU counters. Each program family has its own; events mean runs of the sampler, waits or calls. */
enum ap_counter {
    AP_COUNTER_FIRED = 0,         /* cpu: all invocations, the sum of the next five. Others: events seen in scope */
    AP_COUNTER_IDLE = 1,          /* the CPU was idle */
    AP_COUNTER_OUT_OF_SCOPE = 2,  /* excluded by --pid, --cgroup or --comm */
    AP_COUNTER_SENT = 3,          /* put into the ring buffer, or into a table */
    AP_COUNTER_RING_FULL = 4,     /* no room in the ring buffer */
    AP_COUNTER_NO_SCRATCH = 5,    /* another one was using this CPU's scratch record */
    AP_COUNTER_RUN_NS = 6,        /* time spent in the sampler, ns */
    AP_COUNTER_TARGETS_FULL = 7,  /* child processes of --pid that did not fit the target map */
    AP_COUNTER_MAP_FULL = 8,      /* no room in a table */
    AP_COUNTER_BELOW_MIN = 9,     /* shorter than the minimum */
    AP_COUNTER_BELOW_MIN_NS = 10, /* their time, ns */
    AP_COUNTER_UNMATCHED = 11,    /* ended, but began before the recording */
    AP_COUNTER_WAKER_LOST = 12,   /* wakers of whom no record could be sent */
    AP_COUNTER_CNT = 13,
};

/* --pid: most processes in scope at once, descendants included. */
#define AP_TARGETS_MAX 65536
/* CPUs that share a ring buffer: its producers take a lock. */
#define AP_RING_GROUP_CPUS 16
#define AP_RINGS_MAX       64

/* --comm: most names, compared in the kernel. */
#define AP_COMM_FILTERS_MAX 8
/* Deepest pid namespace that is searched for the agent's own: MAX_PID_NS_LEVEL,
 * include/linux/pid_namespace.h. */
#define AP_PID_NS_LEVELS 32

/* Set before load; the verifier removes the code of whatever is off. */
struct ap_bpf_config {
    __u32 pid_ns_inum;  /* inode of the agent's pid namespace; 0 = the initial one */
    __u32 max_stack;    /* kernel.perf_event_max_stack: where bpf_get_stack() cuts */
    __u32 comm_cnt;     /* names in `comms` */
    __u8 filter_pid;    /* only processes in the target map */
    __u8 filter_cgroup; /* only tasks under the cgroup in the cgroup map */
    __u8 reserved[2];
    __u64 wakeup_bytes; /* waiting in a ring buffer from which on the agent is woken; below it comes by itself on its
                           timer, which saves a wake-up per record */
    char comms[AP_COMM_FILTERS_MAX][AP_COMM_SZ];
};

/* Of the off-CPU programs, set before load. */
struct ap_offcpu_config {
    __u64 min_ns;       /* --min-block */
    __u32 sample_every; /* --sample-every: one wait in so many is kept */
    __u8 has_state;     /* sched_switch tells the state that a task leaves with (5.18) */
    __u8 report_unseen; /* tasks that never ran during the recording are worth reporting */
    __u8 reserved[2];
};

#endif
