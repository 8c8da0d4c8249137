/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Which tasks a capture is about (--pid with descendants, --cgroup, --comm), and their ids in the agent's pid
 * namespace. One place for every event kind: the maps `targets`, `cgroups` and `rings` are created once by scope.bpf.c
 * and shared by all objects, the counters are each object's own. */
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

struct ring {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20); /* the agent sets the size: it depends on the number of CPUs */
};

/* One ring buffer for each AP_RING_GROUP_CPUS CPUs; made by the agent. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, AP_RINGS_MAX);
    __type(key, __u32);
    __array(values, struct ring);
} rings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, AP_COUNTER_CNT);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

/* How many operations of ours are under way on this CPU that take locks inside the kernel: changes of maps, output to
 * ring buffers. The programs that watch the kernel's own locks must leave those alone, or they would wait for a lock
 * that their own CPU holds. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} guard SEC(".maps");

static __always_inline void guard_add(__u64 n)
{
    __u32 zero = 0;
    __u64 *value = bpf_map_lookup_elem(&guard, &zero);

    if (value)
        __sync_fetch_and_add(value, n);
}

static __always_inline bool guard_held(void)
{
    __u32 zero = 0;
    volatile __u64 *value = bpf_map_lookup_elem(&guard, &zero);

    return value && *value;
}

static __always_inline long guarded_update(void *map, const void *key, const void *value, __u64 flags)
{
    long rc;

    guard_add(1);
    rc = bpf_map_update_elem(map, key, value, flags);
    guard_add(-1);
    return rc;
}

static __always_inline long guarded_delete(void *map, const void *key)
{
    long rc;

    guard_add(1);
    rc = bpf_map_delete_elem(map, key);
    guard_add(-1);
    return rc;
}

static __always_inline void counter_add(__u32 index, __u64 n)
{
    __u64 *value = bpf_map_lookup_elem(&counters, &index);

    if (value)
        __sync_fetch_and_add(value, n); /* per CPU, but tracepoint programs can be preempted by the next one */
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

/* Process id of a task in the agent's pid namespace; 0 when it is not visible there. */
static __always_inline __u32 process_id(struct task_struct *task)
{
    __u32 tgid = BPF_CORE_READ(task, tgid);

    if (!config.pid_ns_inum)
        return tgid;
    return pid_in_agent_ns(BPF_CORE_READ(task, group_leader, thread_pid), tgid);
}

/* True when --pid and --comm take `task` into the capture. */
static __always_inline bool in_scope_by_name(struct task_struct *task)
{
    char comm[AP_COMM_SZ] __attribute__((aligned(8)));
    __u32 pid;

    if (config.filter_pid) {
        pid = process_id(task);
        if (!bpf_map_lookup_elem(&targets, &pid))
            return false;
    }
    if (config.comm_cnt) {
        read_comm(task, comm);
        if (comm_matches(comm))
            return true;
        read_comm(BPF_CORE_READ(task, group_leader), comm);
        return comm_matches(comm);
    }
    return true;
}

/* The same with --cgroup, which the kernel tells of the current task only. */
static __always_inline bool in_scope(struct task_struct *task)
{
    if (config.filter_cgroup && bpf_current_task_under_cgroup(&cgroups, 0) != 1)
        return false;
    return in_scope_by_name(task);
}

#endif
