/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* System calls: counts, errors and latency by process and number, aggregated here. */
#include "syscall.bpf.h"
#include "abi/tables.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"
#include "stack.bpf.h"

/* A thread's system call; start_ns 0 = it is in user space. */
struct call {
    __u64 start_ns;
    __u32 number;
    __u32 abi;
};

/* Put together in a register, compared by one instruction. */
union call_key {
    struct ap_syscall_key fields; /* little-endian, as all machines that we build for */
    __u64 word;
};
_Static_assert(sizeof(union call_key) == sizeof(__u64) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "key as a word");

/* One of the two, see `call_of`. */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct call);
} calls SEC(".maps");

/* Kernels before 5.12 have no task storage: by thread id. The agent sets the size by the number of threads. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct call);
} calls_by_tid SEC(".maps");

struct table {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, AP_SYSCALL_TABLE_ROWS);
    __type(key, struct ap_syscall_key);
    __type(value, struct ap_syscall_stats);
} table_0 SEC(".maps"), table_1 SEC(".maps");

/* The agent sets the size. */
struct own_rows {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, AP_SYSCALL_OWN_ROWS_MAX);
    __type(key, __u32);
    __type(value, struct ap_syscall_own_row);
} own_0 SEC(".maps"), own_1 SEC(".maps");

struct error_table {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, AP_SYSCALL_ERROR_ROWS);
    __type(key, struct ap_syscall_error_key);
    __type(value, __u64);
} errors_0 SEC(".maps"), errors_1 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, AP_SYSCALL_OTHER_ROWS);
    __type(key, __u32);
    __type(value, struct ap_syscall_other);
} others SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, AP_ERRNO_ROWS);
    __type(key, __u32);
    __type(value, __u64);
} other_errors SEC(".maps");

const volatile struct ap_syscall_config syscalls = {};

/* Written by the agent, and read. */
__u32 generation = 0;
__u64 rows_made[AP_GENERATIONS] = {};
__u64 errors_made[AP_GENERATIONS] = {};
__u64 begin_ns = 0; /* start of the recording */

static struct ap_syscall_stats empty_stats;
static struct call empty_call;

static __always_inline struct call *call_of(struct task_struct *task, bool make, const bool storage)
{
    struct call *call;
    __u32 tid;

    if (storage)
        return bpf_task_storage_get(&calls, task, NULL, make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
    tid = (__u32)bpf_get_current_pid_tgid();
    call = bpf_map_lookup_elem(&calls_by_tid, &tid);
    if (call || !make)
        return call;
    guarded_update(&calls_by_tid, &tid, &empty_call, BPF_NOEXIST);
    return bpf_map_lookup_elem(&calls_by_tid, &tid);
}

static __always_inline struct task_struct *current_task(const bool storage)
{
    return storage ? bpf_get_current_task_btf() : (struct task_struct *)bpf_get_current_task();
}

static __always_inline int on_enter(struct bpf_raw_tracepoint_args *ctx, const bool storage)
{
    struct task_struct *task = current_task(storage);
    __u32 number = (__u32)ctx->args[1], abi = syscall_abi(task, &number, storage);
    struct call *call;

    if (!in_scope(task))
        return 0;
    call = call_of(task, true, storage);
    if (!call) {
        counter_add(AP_COUNTER_MAP_FULL, 1);
        return 0;
    }
    call->number = number;
    call->abi = abi;
    call->start_ns = never_returns(abi, number) ? 0 : bpf_ktime_get_ns();
    return 0;
}

/* Says whose row it is. */
static __always_inline void begin_row(struct ap_syscall_stats *stats, struct task_struct *task)
{
    struct task_struct *leader = BPF_CORE_READ(task, group_leader);

    stats->start_time = BPF_CORE_READ(leader, start_time);
    stats->pid = process_id(task);
    bpf_probe_read_kernel_str(stats->comm, sizeof(stats->comm), &leader->comm);
}

/* The CPU's own row of a key at one place, made on first use; NULL when another key has it. */
static __always_inline struct ap_syscall_stats *own_row_at(void *rows, __u32 index, __u64 key, struct task_struct *task)
{
    struct ap_syscall_own_row *row = bpf_map_lookup_elem(rows, &index);
    __u64 have;

    if (!row)
        return NULL;
    have = *(__u64 *)&row->key;
    if (have == key)
        return &row->stats;
    if (have)
        return NULL;
    *(__u64 *)&row->key = key;
    begin_row(&row->stats, task);
    return &row->stats;
}

/* The CPU's own row of a key, NULL when others have both its places. Nobody else writes to it: the kernel does not run
 * a program twice at a time on one CPU. */
static __always_inline struct ap_syscall_stats *own_row(void *rows, __u64 key, struct task_struct *task)
{
    __u32 index = (__u32)(key ^ key >> 32) & (syscalls.own_rows - 1);
    struct ap_syscall_stats *stats = own_row_at(rows, index, key, task);

    return stats ? stats : own_row_at(rows, index ^ 1, key, task);
}

/* The row of a key in one table, made on first use; NULL when the table is full. */
static __always_inline struct ap_syscall_stats *find_row(void *table, const struct ap_syscall_key *key,
                                                         struct task_struct *task, __u64 *made)
{
    struct ap_syscall_stats *stats = bpf_map_lookup_elem(table, key);

    if (stats)
        return stats;
    if (!guarded_update(table, key, &empty_stats, BPF_NOEXIST))
        __sync_fetch_and_add(made, 1);
    stats = bpf_map_lookup_elem(table, key);
    if (stats)
        begin_row(stats, task);
    return stats;
}

static __always_inline void count_other(__u32 number, __u64 duration)
{
    __u64 bucket = ap_histogram_bucket(duration);
    __u32 index = number < AP_SYSCALL_OTHER_ROWS ? number : AP_SYSCALL_OTHER_ROWS - 1;
    struct ap_syscall_other *other = bpf_map_lookup_elem(&others, &index);

    barrier_var(bucket); /* one register, so that the verifier sees what was checked; and behind the call */
    if (!other || bucket >= AP_HISTOGRAM_BUCKETS)
        return;
    __sync_fetch_and_add(&other->total_ns, duration);
    __sync_fetch_and_add(&other->buckets[bucket], 1);
    if (duration > other->max_ns)
        other->max_ns = duration;
}

static __always_inline void count_call(const union call_key *key, struct task_struct *task, __u64 duration)
{
    struct ap_syscall_stats *stats;
    __u64 bucket;

    stats = generation ? own_row(&own_1, key->word, task) : own_row(&own_0, key->word, task);
    if (stats) {
        bucket = ap_histogram_bucket(duration);
        barrier_var(bucket); /* one register, so that the verifier sees what was checked */
        if (bucket >= AP_HISTOGRAM_BUCKETS)
            return; /* cannot happen; bounds it for the verifier */
        stats->total_ns += duration;
        stats->buckets[bucket]++;
        if (duration > stats->max_ns)
            stats->max_ns = duration;
        return;
    }
    stats = generation ? find_row(&table_1, &key->fields, task, &rows_made[1])
                       : find_row(&table_0, &key->fields, task, &rows_made[0]);
    if (!stats) {
        count_other(key->fields.number, duration);
        return;
    }
    bucket = ap_histogram_bucket(duration);
    barrier_var(bucket);
    if (bucket >= AP_HISTOGRAM_BUCKETS)
        return; /* cannot happen; bounds it for the verifier */
    __sync_fetch_and_add(&stats->total_ns, duration);
    __sync_fetch_and_add(&stats->buckets[bucket], 1);
    if (duration > stats->max_ns) {
        stats->max_ns = duration;
        if (duration > *(volatile __u64 *)&stats->max_ns) /* another CPU of the shard wrote a smaller one meanwhile */
            stats->max_ns = duration;
    }
}

static __always_inline __u64 *find_error(void *table, const struct ap_syscall_error_key *key, __u64 *made)
{
    __u64 *count = bpf_map_lookup_elem(table, key), zero = 0;

    if (count)
        return count;
    if (!guarded_update(table, key, &zero, BPF_NOEXIST))
        __sync_fetch_and_add(made, 1);
    return bpf_map_lookup_elem(table, key);
}

static __always_inline void count_error(const struct ap_syscall_key *call, __u32 error)
{
    struct ap_syscall_error_key key = {
        .host_pid = call->host_pid, .number = call->number, .abi = call->abi, .shard = call->shard, .error = error};
    __u64 *count;

    count = generation ? find_error(&errors_1, &key, &errors_made[1]) : find_error(&errors_0, &key, &errors_made[0]);
    if (!count)
        count = bpf_map_lookup_elem(&other_errors, &error);
    if (count)
        __sync_fetch_and_add(count, 1);
}

static __always_inline void send_stack(void *ctx, struct task_struct *task, const struct call *call, __u64 duration,
                                       long ret, const bool deep)
{
    struct record_scratch *rec = enter_scratch();

    counter_add(AP_COUNTER_FIRED, 1);
    if (!rec) {
        counter_add(AP_COUNTER_NO_SCRATCH, 1);
        return;
    }
    fill_head(&rec->head, task, AP_RECORD_SYSCALL, bpf_ktime_get_ns());
    rec->head.duration_ns = duration;
    rec->head.object = ret;
    rec->head.number = call->number;
    if (call->abi)
        rec->head.flags |= AP_RECORD_COMPAT;
    counter_add(send_record(rec, capture_stack(ctx, NULL, rec, false, deep)) ? AP_COUNTER_SENT : AP_COUNTER_RING_FULL,
                1);
    leave_scratch(rec);
}

static __always_inline int on_exit(struct bpf_raw_tracepoint_args *ctx, const bool storage)
{
    struct task_struct *task = current_task(storage);
    struct call *call = call_of(task, false, storage);
    long ret = (long)ctx->args[1];
    union call_key key;
    __u64 duration;

    if (!call) {
        /* the other end of fork(), or it began before the recording */
        if (BPF_CORE_READ(task, start_time) < begin_ns && in_scope(task))
            counter_add(AP_COUNTER_UNMATCHED, 1);
        return 0;
    }
    if (!call->start_ns)
        return 0;
    duration = bpf_ktime_get_ns() - call->start_ns;
    key.word = storage ? (__u32)task->tgid : bpf_get_current_pid_tgid() >> 32;
    key.word |= (__u64)(__u16)call->number << 32 | (__u64)call->abi << 48 |
                (__u64)(bpf_get_smp_processor_id() % AP_SYSCALL_SHARDS) << 56;
    count_call(&key, task, duration);
    if (ret < 0 && ret > -AP_ERRNO_ROWS)
        count_error(&key.fields, -ret);
    if (syscalls.stacks && duration >= syscalls.min_ns)
        send_stack(ctx, task, call, duration, ret, storage);
    call->start_ns = 0;
    return 0;
}

/* Task storage (5.12), with which come bpf_loop and the rest of `deep` where the agent finds them all; or neither. */
SEC("raw_tp/sys_enter")
int syscall_enter(struct bpf_raw_tracepoint_args *ctx)
{
    return on_enter(ctx, true);
}

SEC("raw_tp/sys_exit")
int syscall_exit(struct bpf_raw_tracepoint_args *ctx)
{
    return on_exit(ctx, true);
}

SEC("raw_tp/sys_enter")
int syscall_enter_plain(struct bpf_raw_tracepoint_args *ctx)
{
    return on_enter(ctx, false);
}

SEC("raw_tp/sys_exit")
int syscall_exit_plain(struct bpf_raw_tracepoint_args *ctx)
{
    return on_exit(ctx, false);
}

/* Without task storage: forgets threads. */
SEC("raw_tp/sched_process_exit")
int syscall_forget(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 tid = (__u32)bpf_get_current_pid_tgid();

    guarded_delete(&calls_by_tid, &tid);
    return 0;
}

static __always_inline void write_in_flight(struct bpf_iter__task *ctx, struct task_struct *task, __u32 number,
                                            __u32 abi, __u64 start, __u32 flags)
{
    struct record_scratch *rec = enter_scratch();
    __u64 now = bpf_ktime_get_ns();

    if (!rec)
        return;
    fill_head(&rec->head, task, AP_RECORD_SYSCALL, now);
    rec->head.flags |= AP_RECORD_IN_FLIGHT | flags | (abi ? AP_RECORD_COMPAT : 0);
    rec->head.number = number;
    rec->head.duration_ns = now - start;
    rec->head.key = BPF_CORE_READ(task, group_leader, start_time);
    bpf_probe_read_kernel_str(rec->head.comm, sizeof(rec->head.comm), &BPF_CORE_READ(task, group_leader)->comm);
    bpf_seq_write(ctx->meta->seq, &rec->head, sizeof(rec->head));
    leave_scratch(rec);
}

/* End of the recording: calls that have not returned. With task storage also those that began before it. */
SEC("iter/task")
int syscall_in_flight(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    struct pt_regs regs;
    struct call *call;
    __u32 number, abi;

    if (!task || BPF_CORE_READ(task, flags) & PF_KTHREAD)
        return 0;
    call = bpf_task_storage_get(&calls, task, NULL, 0);
    if (call) {
        if (call->start_ns)
            write_in_flight(ctx, task, call->number, call->abi, call->start_ns, 0);
        return 0;
    }
    if (BPF_CORE_READ(task, start_time) >= begin_ns || config.filter_cgroup || !task->__state ||
        !in_scope_by_name(task) || bpf_probe_read_kernel(&regs, sizeof(regs), (void *)bpf_task_pt_regs(task)) ||
        SYSCALL_OF_REGS(&regs) < 0)
        return 0;
    number = SYSCALL_OF_REGS(&regs);
    abi = syscall_abi(task, &number, false);
    write_in_flight(ctx, task, number, abi, begin_ns, AP_RECORD_BEFORE);
    return 0;
}

SEC("iter/task")
int syscall_in_flight_plain(struct bpf_iter__task *ctx)
{
    struct task_struct *task = ctx->task;
    struct call *call;
    __u32 tid;

    if (!task)
        return 0;
    tid = BPF_CORE_READ(task, pid);
    call = bpf_map_lookup_elem(&calls_by_tid, &tid);
    if (call && call->start_ns)
        write_in_flight(ctx, task, call->number, call->abi, call->start_ns, 0);
    return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
