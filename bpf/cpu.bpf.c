/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* CPU sampler: runs on every period of a perf event on each CPU and sends one record with both stack halves.
 */
#include "abi/record.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"
#include "stack.bpf.h"

static __always_inline __u32 take_sample(struct bpf_perf_event_data *ctx, __u64 now, const bool deep)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct record_scratch *rec;
    bool sent;

    if (!(__u32)bpf_get_current_pid_tgid())
        return AP_COUNTER_IDLE; /* only the idle tasks have number 0 */
    if (!in_scope(task))
        return AP_COUNTER_OUT_OF_SCOPE;
    rec = enter_scratch();
    if (!rec)
        return AP_COUNTER_NO_SCRATCH;
    fill_head(&rec->head, task, AP_RECORD_CPU, now);
    sent = send_record(rec, capture_stack(ctx, &ctx->regs, rec, true, deep));
    leave_scratch(rec);
    return sent ? AP_COUNTER_SENT : AP_COUNTER_RING_FULL;
}

static __always_inline int sample(struct bpf_perf_event_data *ctx, const bool deep)
{
    __u64 start = bpf_ktime_get_ns();

    counter_add(AP_COUNTER_FIRED, 1);
    counter_add(take_sample(ctx, start, deep), 1);
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
