/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* CPU sampler: runs on every period of a perf event on each CPU and sends one record with both stack halves.
 */
#include "abi/record.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"
#include "stack.bpf.h"

/* The agent sets the size before load (it depends on the number of CPUs). */
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 20);
} records SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct stack_scratch);
} scratch SEC(".maps");

/* Bytes waiting in the ring buffer from which on the agent is woken; below it comes by itself on its timer,
 * which saves a wake-up per sample. */
const volatile __u64 wakeup_bytes = 0;

static __always_inline void fill_head(struct ap_cpu_record *head, struct task_struct *task, __u32 pid, __u64 ids)
{
    struct pid *thread = BPF_CORE_READ(task, thread_pid);
    struct pid *leader = BPF_CORE_READ(task, group_leader, thread_pid);
    __u32 level = BPF_CORE_READ(leader, level);

    head->version = AP_RECORD_VERSION;
    head->type = AP_RECORD_CPU;
    head->flags = BPF_CORE_READ(task, flags) & PF_KTHREAD ? AP_RECORD_KERNEL_THREAD : 0;
    head->time_ns = bpf_ktime_get_ns();
    head->cgroup_id = bpf_get_current_cgroup_id();
    head->pid = pid;
    head->tid = pid ? pid_in_agent_ns(thread, (__u32)ids) : 0;
    head->host_pid = ids >> 32;
    head->ns_pid = level ? pid_number_at(leader, level, NULL) : head->host_pid;
    head->cpu = bpf_get_smp_processor_id();
    bpf_get_current_comm(head->comm, sizeof(head->comm));
}

static __always_inline __u32 take_sample(struct bpf_perf_event_data *ctx, const bool deep)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    __u64 ids = bpf_get_current_pid_tgid(), flags;
    struct stack_scratch *rec;
    __u32 zero = 0, pid;
    __u64 size;

    if (!(__u32)ids)
        return AP_COUNTER_IDLE; /* only the idle tasks have number 0 */
    pid = pid_in_agent_ns(BPF_CORE_READ(task, group_leader, thread_pid), ids >> 32);
    if (!in_scope(task, pid))
        return AP_COUNTER_OUT_OF_SCOPE;
    rec = bpf_map_lookup_elem(&scratch, &zero);
    if (!rec)
        return AP_COUNTER_NO_SCRATCH;
    fill_head(&rec->head, task, pid, ids);
    size = capture_stack(ctx, rec, deep);
    barrier_var(size); /* one register, so that the verifier sees what was checked */
    if (size > sizeof(*rec))
        return AP_COUNTER_NO_SCRATCH; /* cannot happen; bounds the size for the verifier */
    flags = bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) >= wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
    if (bpf_ringbuf_output(&records, rec, size, flags))
        return AP_COUNTER_RING_FULL;
    return AP_COUNTER_SENT;
}

static __always_inline int sample(struct bpf_perf_event_data *ctx, const bool deep)
{
    __u64 start = bpf_ktime_get_ns();

    counter_add(AP_COUNTER_FIRED, 1);
    counter_add(take_sample(ctx, deep), 1);
    counter_add(AP_COUNTER_RUN_NS, bpf_ktime_get_ns() - start);
    return 0;
}

/* One of the two is loaded. */
SEC("perf_event")
int cpu_sample(struct bpf_perf_event_data *ctx)
{
    return sample(ctx, false);
}

SEC("perf_event")
int cpu_sample_deep(struct bpf_perf_event_data *ctx)
{
    return sample(ctx, true);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
