/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Records that BPF programs send to the agent through the ring buffer, and the counters they keep. Shared by
 * both sides: fixed width, native byte order, no pointers, the variable part last. A record is never stored
 * or sent on. */
#ifndef APERTURE_ABI_RECORD_H
#define APERTURE_ABI_RECORD_H

#include <linux/types.h>

/* Raised whenever a layout below changes; the agent refuses records of another version. */
#define AP_RECORD_VERSION 1

enum ap_record_type {
    AP_RECORD_CPU = 1,
};

#define AP_COMM_SZ 16 /* TASK_COMM_LEN, include/linux/sched.h */

/* Frames kept of each half. Kernel: PERF_MAX_STACK_DEPTH (include/uapi/linux/perf_event.h), its callchains
 * are never longer by default. User: AP_STACK_FRAMES_MAX of the model. Both fit the 32 KiB that a per-CPU
 * value may have. */
#define AP_KERNEL_FRAMES_MAX 127
#define AP_USER_FRAMES_MAX   512

enum ap_record_flags {
    AP_RECORD_KERNEL_TRUNCATED = 1 << 0,
    AP_RECORD_USER_TRUNCATED = 1 << 1,
    AP_RECORD_KERNEL_THREAD = 1 << 2, /* no user half by nature */
};

struct ap_cpu_record {
    __u16 version;
    __u16 type; /* enum ap_record_type */
    __u32 flags;
    __u64 time_ns;   /* CLOCK_MONOTONIC */
    __u64 cgroup_id; /* of the v2 hierarchy */
    __u32 pid, tid;  /* in the agent's pid namespace; 0 = not visible there */
    __u32 ns_pid;    /* process id in the task's own (innermost) pid namespace */
    __u32 host_pid;  /* process id in the initial pid namespace */
    __u32 cpu;
    __u16 kernel_cnt; /* addresses that follow, kernel ones first, each half leaf first */
    __u16 user_cnt;
    char comm[AP_COMM_SZ]; /* of the thread, NUL-terminated */
    /* __u64 addrs[kernel_cnt + user_cnt] follow */
};

#define AP_CPU_RECORD_HEAD_SZ 64
_Static_assert(sizeof(struct ap_cpu_record) == AP_CPU_RECORD_HEAD_SZ, "record head must not change unnoticed");

/* Indices of the per-CPU counters; each counts invocations of the sampler unless it says otherwise. */
enum ap_counter {
    AP_COUNTER_FIRED = 0,        /* all invocations: sum of the next five */
    AP_COUNTER_IDLE = 1,         /* the CPU was idle */
    AP_COUNTER_OUT_OF_SCOPE = 2, /* excluded by --pid, --cgroup or --comm */
    AP_COUNTER_SENT = 3,         /* put into the ring buffer */
    AP_COUNTER_RING_FULL = 4,    /* no room in the ring buffer */
    AP_COUNTER_NO_SCRATCH = 5,   /* another sampler was using this CPU's scratch record */
    AP_COUNTER_RUN_NS = 6,       /* time spent in the sampler, ns */
    AP_COUNTER_TARGETS_FULL = 7, /* child processes of --pid that did not fit the target map */
    AP_COUNTER_CNT = 8,
};

/* --pid: most processes in scope at once, descendants included. */
#define AP_TARGETS_MAX 65536
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
    char comms[AP_COMM_FILTERS_MAX][AP_COMM_SZ];
};

#endif
