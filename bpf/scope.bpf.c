/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* What every kind of capture shares: the ring buffers, the processes of --pid and the cgroup of --cgroup; and the
 * programs that keep the processes up to date. */
#include "scope.bpf.h"
#include "abi/record.h"
#include "kernel.bpf.h"

/* --children: a child of a target is a target from its first instruction on. */
SEC("raw_tp/sched_process_fork")
int scope_fork(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *parent = (struct task_struct *)ctx->args[0];
    struct task_struct *child = (struct task_struct *)ctx->args[1];
    __u32 id;
    __u8 one = 1;

    if (BPF_CORE_READ(child, tgid) == BPF_CORE_READ(parent, tgid))
        return 0; /* a thread */
    id = process_id(parent);
    if (!id || !bpf_map_lookup_elem(&targets, &id))
        return 0;
    id = pid_in_agent_ns(BPF_CORE_READ(child, thread_pid), BPF_CORE_READ(child, tgid));
    if (id && guarded_update(&targets, &id, &one, BPF_ANY))
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
    id = process_id(task);
    if (id)
        guarded_delete(&targets, &id);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
