/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* Off-CPU time: from a task's switch-out to its switch-in. The user half of the stack is taken at switch-out, the
 * kernel half when the wait turned out to be long enough: a task that does not run keeps its kernel stack. Keyed by
 * task, so that migration between CPUs does not matter. */
#include "abi/record.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"
#include "stack.bpf.h"

#define TASK_NOLOAD 0x0400 /* include/linux/sched.h: TASK_IDLE is uninterruptible without being counted as load */

/* A task that has been seen to leave a CPU. */
struct blocked {
    __u64 start_ns; /* 0 = it runs, or this wait was not chosen */
    __u64 wake_ns;  /* of the first wake-up whose waker was recorded */
    __u64 switches; /* its context switches at switch-out: it has not run since when they are the same */
    __u64 ran_ns;   /* its CPU time at switch-out */
    __u64 born_ns;  /* its start: another task may get its number */
    struct ap_record head;
    __u64 words[AP_STACK_WORDS_MAX];
    __u64 frames[AP_BLOCKED_FRAMES_MAX];
};

/* By thread id of the initial pid namespace. Entries go with their tasks. The agent sets the size by the number of
 * threads of the machine. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct blocked);
} tasks SEC(".maps");

const volatile struct ap_offcpu_config offcpu = {};

/* Start of the recording, written by the agent: what began before it counts from here. */
__u64 begin_ns = 0;

/* What a new entry is made of. */
static struct blocked empty;

/* enum ap_task_state of a task that leaves the CPU, negative when it leaves for good. */
static __always_inline int state_of(struct task_struct *task, bool preempt, __u64 told)
{
    __u64 state = told;

    if (preempt)
        return AP_STATE_PREEMPTED;
    if (!offcpu.has_state) {
        if (bpf_core_field_exists(((struct task_struct *)NULL)->__state))
            state = BPF_CORE_READ(task, __state);
        else
            state = BPF_CORE_READ((struct task_struct___old *)task, state);
    }
    if (state & TASK_REPORT_DEAD)
        return -1;
    if (!state)
        return AP_STATE_PREEMPTED; /* it yielded */
    return (state & TASK_UNINTERRUPTIBLE) && !(state & TASK_NOLOAD) ? AP_STATE_UNINTERRUPTIBLE : AP_STATE_INTERRUPTIBLE;
}

static __always_inline struct blocked *enter_task(struct task_struct *task, __u32 tid)
{
    struct blocked *entry = bpf_map_lookup_elem(&tasks, &tid);

    if (entry)
        return entry;
    guarded_update(&tasks, &tid, &empty, BPF_NOEXIST);
    entry = bpf_map_lookup_elem(&tasks, &tid);
    if (entry) {
        entry->born_ns = BPF_CORE_READ(task, start_time);
        fill_head(&entry->head, task, AP_RECORD_OFFCPU, 0);
    }
    return entry;
}

/* Puts the record of a wait together. `task` does not run. Returns its size, 0 when something is wrong. */
static __always_inline __u64 fill_wait(struct record_scratch *rec, const struct blocked *entry,
                                       struct task_struct *task, __u64 start, __u64 now, bool same_stack)
{
    __u64 user_sz = 0;
    long kernel_sz = 0;

    if (same_stack)
        kernel_sz = bpf_get_task_stack(task, rec->addrs, AP_KERNEL_FRAMES_MAX * 8, 0);
    if (kernel_sz < 0)
        kernel_sz = 0;
    kernel_sz &= KERNEL_ADDRS_MASK;
    if (entry) {
        rec->head = entry->head;
        rec->head.key = entry->wake_ns;
        bpf_probe_read_kernel_str(rec->head.comm, sizeof(rec->head.comm), &task->comm);
        user_sz = entry->head.user_cnt * 8;
        if (user_sz > sizeof(entry->frames))
            return 0; /* cannot happen; bounds it for the verifier */
        bpf_probe_read_kernel((char *)rec->addrs + kernel_sz, user_sz, entry->frames);
    } else {
        fill_head(&rec->head, task, AP_RECORD_OFFCPU, now);
        rec->head.flags |= AP_RECORD_BEFORE;
    }
    rec->head.time_ns = same_stack ? now : bpf_ktime_get_ns(); /* behind its waker, also when the end is long ago */
    rec->head.cpu = bpf_get_smp_processor_id();
    rec->head.duration_ns = now - start;
    rec->head.kernel_cnt = kernel_sz / 8;
    if (kernel_sz >= (long)config.max_stack * 8)
        rec->head.flags |= AP_RECORD_KERNEL_TRUNCATED;
    return finish_record(rec, kernel_sz + user_sz, entry ? entry->words : rec->words);
}

/* A wait has ended. `same_stack`: the task has not run since, so its kernel stack is that of the wait. */
static __always_inline void report(const struct blocked *entry, struct task_struct *task, __u64 start, __u64 now,
                                   bool same_stack)
{
    __u64 duration = now - start;
    struct record_scratch *rec;

    counter_add(AP_COUNTER_FIRED, 1);
    if (duration < offcpu.min_ns) {
        counter_add(AP_COUNTER_BELOW_MIN, 1);
        counter_add(AP_COUNTER_BELOW_MIN_NS, duration);
        return;
    }
    rec = enter_scratch();
    if (!rec) {
        counter_add(AP_COUNTER_NO_SCRATCH, 1);
        return;
    }
    counter_add(send_record(rec, fill_wait(rec, entry, task, start, now, same_stack)) ? AP_COUNTER_SENT
                                                                                      : AP_COUNTER_RING_FULL,
                1);
    leave_scratch(rec);
}

/* The switch-in was not told (some virtual machines hide the switches away from tasks of their host's agents): the task
 * has run for what its CPU time has grown by, so the wait ended that long ago. Its kernel stack is not known any more.
 */
static __always_inline void report_late(const struct blocked *entry, struct task_struct *task, __u64 now)
{
    __u64 ran = BPF_CORE_READ(task, se.sum_exec_runtime) - entry->ran_ns, waited = now - entry->start_ns;

    report(entry, task, entry->start_ns, ran < waited ? now - ran : entry->start_ns, false);
}

/* `task` is the current one. */
static __always_inline void switch_out(void *ctx, struct task_struct *task, int state, __u64 now, const bool deep)
{
    __u32 tid = task->pid;
    struct blocked *entry;
    __u64 size = 0;

    if (state < 0) {
        entry = bpf_map_lookup_elem(&tasks, &tid);
        if (entry && entry->start_ns)
            report_late(entry, task, now);
        guarded_delete(&tasks, &tid);
        return;
    }
    if (!in_scope(task))
        return;
    entry = enter_task(task, tid);
    if (!entry) {
        counter_add(AP_COUNTER_FIRED, 1);
        counter_add(AP_COUNTER_MAP_FULL, 1);
        return;
    }
    if (entry->start_ns)
        report_late(entry, task, now);
    entry->start_ns = 0;
    if (offcpu.sample_every > 1 && bpf_get_prandom_u32() % offcpu.sample_every)
        return;
    entry->wake_ns = 0;
    entry->switches = task->nvcsw + task->nivcsw;
    entry->ran_ns = task->se.sum_exec_runtime;
    entry->head.number = state;
    entry->head.flags &= AP_RECORD_KERNEL_THREAD;
    entry->head.word_cnt = 0;
    if (!entry->head.flags)
        size = deep ? capture_user_deep(ctx, NULL, &entry->head, entry->words, entry->frames, AP_BLOCKED_FRAMES_MAX)
                    : capture_user_plain(ctx, &entry->head, entry->frames, AP_BLOCKED_FRAMES_MAX);
    entry->head.user_cnt = size / 8;
    entry->start_ns = now;
}

/* True when the wait of a task without an entry is worth a record: it is older than the recording. */
static __always_inline bool is_old(struct task_struct *task)
{
    return BPF_CORE_READ(task, start_time) < begin_ns && !config.filter_cgroup && in_scope_by_name(task);
}

static __always_inline void switch_in(struct task_struct *task, __u64 now)
{
    __u32 tid = task->pid;
    struct blocked *entry = bpf_map_lookup_elem(&tasks, &tid);
    __u64 start = entry ? entry->start_ns : begin_ns;

    if (!start || (!entry && !is_old(task)))
        return;
    if (entry)
        entry->start_ns = 0;
    else
        enter_task(task, tid); /* not taken for old again */
    report(entry, task, start, now, true);
}

static __always_inline int on_switch(__u64 *ctx, const bool deep)
{
    struct task_struct *prev = (struct task_struct *)ctx[1], *next = (struct task_struct *)ctx[2];
    __u64 now = bpf_ktime_get_ns();

    if (prev->pid)
        switch_out(ctx, prev, state_of(prev, ctx[0], offcpu.has_state ? ctx[3] : 0), now, deep);
    if (next->pid)
        switch_in(next, now);
    return 0;
}

/* One of the two is loaded. */
SEC("tp_btf/sched_switch")
int offcpu_switch(__u64 *ctx)
{
    return on_switch(ctx, false);
}

SEC("tp_btf/sched_switch")
int offcpu_switch_deep(__u64 *ctx)
{
    return on_switch(ctx, true);
}

/* --waker: the current task wakes `task`, or an interrupt that it is not to blame for does. */
static __always_inline int on_waking(__u64 *ctx, const bool deep)
{
    struct task_struct *task = (struct task_struct *)ctx[0];
    __u32 tid = BPF_CORE_READ(task, pid);
    struct blocked *entry = bpf_map_lookup_elem(&tasks, &tid);
    __u64 now = bpf_ktime_get_ns();
    struct record_scratch *rec;

    if (!entry || !entry->start_ns || entry->wake_ns || now - entry->start_ns < offcpu.min_ns)
        return 0;
    rec = enter_scratch();
    if (!rec) {
        counter_add(AP_COUNTER_WAKER_LOST, 1);
        return 0;
    }
    fill_head(&rec->head, (struct task_struct *)bpf_get_current_task(), AP_RECORD_WAKER, now);
    rec->head.key = now;
    rec->head.number = tid;
    if (send_record(rec, capture_stack(ctx, NULL, rec, true, deep)))
        entry->wake_ns = now;
    else
        counter_add(AP_COUNTER_WAKER_LOST, 1);
    leave_scratch(rec);
    return 0;
}

SEC("tp_btf/sched_waking")
int offcpu_waking(__u64 *ctx)
{
    return on_waking(ctx, false);
}

SEC("tp_btf/sched_waking")
int offcpu_waking_deep(__u64 *ctx)
{
    return on_waking(ctx, true);
}

/* Forgets a task whose last switch was not told. */
SEC("raw_tp/sched_process_free")
int offcpu_forget(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx->args[0];
    __u32 tid = BPF_CORE_READ(task, pid);
    struct blocked *entry = bpf_map_lookup_elem(&tasks, &tid);

    if (!entry || entry->born_ns != BPF_CORE_READ(task, start_time))
        return 0;
    if (entry->start_ns)
        counter_add(AP_COUNTER_UNMATCHED, 1); /* nor when its last wait ended */
    guarded_delete(&tasks, &tid);
    return 0;
}

/* End of the recording, when nothing is recorded any more: writes the waits that go on into the iterator's file. */
SEC("iter/task")
int offcpu_in_flight(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    __u64 now = bpf_ktime_get_ns(), start, size;
    struct record_scratch *rec;
    struct blocked *entry;
    bool same = true;
    __u32 tid;

    if (!task)
        return 0;
    tid = BPF_CORE_READ(task, pid);
    entry = bpf_map_lookup_elem(&tasks, &tid);
    if (!entry && (!offcpu.report_unseen || BPF_CORE_READ(task, flags) & PF_KTHREAD || !is_old(task)))
        return 0;
    start = entry ? entry->start_ns : begin_ns;
    if (!start || now - start < offcpu.min_ns)
        return 0;
    if (entry)
        same = BPF_CORE_READ(task, nvcsw) + BPF_CORE_READ(task, nivcsw) == entry->switches;
    rec = enter_scratch();
    if (!rec) {
        counter_add(AP_COUNTER_FIRED, 1);
        counter_add(AP_COUNTER_NO_SCRATCH, 1);
        return 0;
    }
    size = fill_wait(rec, entry, task, start, now, same);
    rec->head.flags |= AP_RECORD_IN_FLIGHT;
    barrier_var(size);
    if (size <= sizeof(*rec))
        bpf_seq_write(ctx->meta->seq, rec, size);
    leave_scratch(rec);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
