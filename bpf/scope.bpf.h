/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Which tasks a capture is about (--pid with descendants, --cgroup, --comm), and their ids in the agent's pid
 * namespace. One place for every event kind. */
#ifndef APERTURE_BPF_SCOPE_H
#define APERTURE_BPF_SCOPE_H

#include "abi/record.h"
#include "kernel.bpf.h"

const volatile struct ap_bpf_config config = {};

/* Process ids in scope, as the agent's pid namespace numbers them. Preallocated, which 5.10 demands of maps that
 * perf_event programs use; the agent makes it small when nobody asked for --pid. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, AP_TARGETS_MAX);
    __type(key, __u32);
    __type(value, __u8);
} targets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} cgroups SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, AP_COUNTER_CNT);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

static __always_inline void counter_add(__u32 index, __u64 n)
{
    __u64 *value = bpf_map_lookup_elem(&counters, &index);

    if (value)
        *value += n; /* per CPU, and a sampler does not interrupt itself */
}

/* Number of `pid` at one level; 0 when it cannot be read. */
static __always_inline int pid_number_at(struct pid *pid, __u32 level, __u32 *inum)
{
    struct pid_namespace *ns = NULL;
    const char *entry;
    int nr = 0;

    entry = (const char *)pid + bpf_core_field_offset(struct pid, numbers) +
            (size_t)level * bpf_core_type_size(struct upid);
    bpf_probe_read_kernel(&nr, sizeof(nr), entry + bpf_core_field_offset(struct upid, nr));
    if (inum) {
        bpf_probe_read_kernel(&ns, sizeof(ns), entry + bpf_core_field_offset(struct upid, ns));
        *inum = ns ? BPF_CORE_READ(ns, ns.inum) : 0;
    }
    return nr;
}

/* Number of a task or process in the agent's pid namespace; 0 when it is not visible there. */
static __always_inline __u32 pid_in_agent_ns(struct pid *pid, __u32 host_nr)
{
    __u32 level, inum, i;
    int nr;

    if (!config.pid_ns_inum)
        return host_nr;
    level = BPF_CORE_READ(pid, level);
    for (i = 0; i < AP_PID_NS_LEVELS; i++) {
        if (i > level)
            break;
        nr = pid_number_at(pid, i, &inum);
        if (inum == config.pid_ns_inum)
            return nr;
    }
    return 0;
}

static __always_inline bool comm_matches(const char *comm)
{
    const __u64 *have = (const __u64 *)comm;
    __u32 i;

    for (i = 0; i < AP_COMM_FILTERS_MAX; i++) {
        const volatile __u64 *want = (const volatile __u64 *)config.comms[i];

        if (i >= config.comm_cnt)
            break;
        if (have[0] == want[0] && have[1] == want[1])
            return true;
    }
    return false;
}

/* Copies a comm so that bytes past its NUL are zero: names are then compared as two words. */
static __always_inline void read_comm(struct task_struct *task, char *comm)
{
    __builtin_memset(comm, 0, AP_COMM_SZ);
    bpf_probe_read_kernel_str(comm, AP_COMM_SZ, &task->comm);
}

/* True when the current task belongs to the capture. `pid`: its process id in the agent's namespace. */
static __always_inline bool in_scope(struct task_struct *task, __u32 pid)
{
    char comm[AP_COMM_SZ] __attribute__((aligned(8)));

    if (config.filter_pid && !bpf_map_lookup_elem(&targets, &pid))
        return false;
    if (config.filter_cgroup && bpf_current_task_under_cgroup(&cgroups, 0) != 1)
        return false;
    if (config.comm_cnt) {
        read_comm(task, comm);
        if (comm_matches(comm))
            return true;
        read_comm(BPF_CORE_READ(task, group_leader), comm);
        return comm_matches(comm);
    }
    return true;
}

/* A child of a target is a target from its first instruction on. */
SEC("raw_tp/sched_process_fork")
int scope_fork(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *parent = (struct task_struct *)ctx->args[0];
    struct task_struct *child = (struct task_struct *)ctx->args[1];
    struct pid *pid;
    __u32 id;
    __u8 one = 1;

    if (BPF_CORE_READ(child, tgid) == BPF_CORE_READ(parent, tgid))
        return 0; /* a thread */
    pid = BPF_CORE_READ(parent, group_leader, thread_pid);
    id = pid_in_agent_ns(pid, BPF_CORE_READ(parent, tgid));
    if (!id || !bpf_map_lookup_elem(&targets, &id))
        return 0;
    pid = BPF_CORE_READ(child, thread_pid);
    id = pid_in_agent_ns(pid, BPF_CORE_READ(child, tgid));
    if (id && bpf_map_update_elem(&targets, &id, &one, BPF_ANY))
        counter_add(AP_COUNTER_TARGETS_FULL, 1);
    return 0;
}

/* Takes the number out when the last thread is gone: it may be given to a stranger next. */
SEC("raw_tp/sched_process_exit")
int scope_exit(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx->args[0];
    __u32 id;

    if (BPF_CORE_READ(task, signal, live.counter))
        return 0;
    id = pid_in_agent_ns(BPF_CORE_READ(task, group_leader, thread_pid), BPF_CORE_READ(task, tgid));
    if (id)
        bpf_map_delete_elem(&targets, &id);
    return 0;
}

#endif
