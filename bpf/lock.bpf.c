/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0 OR MIT) */
/* Waits for locks: futex calls of user space, contention inside the kernel. Aggregated here by waiter's stack, lock and
 * the stack of who ended the wait; each stack is sent once. Locks that nobody waits for never come here. */
#include "abi/tables.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"
#include "stack.bpf.h"
#include "syscall.bpf.h"

/* Frames that a stack's hash is made of; those further out are the same for all practical purposes. */
#define HASH_FRAMES 128
/* Locks of the kernel that one CPU can wait for at once: spinning in a task, a softirq, a hardirq, an NMI. */
#define SPIN_LEVELS 4

/* include/uapi/linux/futex.h */
#define FUTEX_CMD_MASK       127
#define FUTEX_WAIT           0
#define FUTEX_WAKE           1
#define FUTEX_REQUEUE        3
#define FUTEX_CMP_REQUEUE    4
#define FUTEX_WAKE_OP        5
#define FUTEX_UNLOCK_PI      7
#define FUTEX_WAIT_BITSET    9
#define FUTEX_WAKE_BITSET    10
#define FUTEX_CMP_REQUEUE_PI 12

/* Same numbers on all architectures */
#define NR_FUTEX_WAITV   449
#define NR_FUTEX_WAKE    454
#define NR_FUTEX_WAIT    455
#define NR_FUTEX_REQUEUE 456

#if defined(__TARGET_ARCH_x86)
#define NR_FUTEX               202
#define NR_FUTEX_COMPAT        240
#define NR_FUTEX_COMPAT_TIME64 422
#elif defined(__TARGET_ARCH_arm64)
#define NR_FUTEX               98
#define NR_FUTEX_COMPAT        240
#define NR_FUTEX_COMPAT_TIME64 422
#endif

enum futex_side { FUTEX_NEITHER, FUTEX_WAITS, FUTEX_WAKES };

/* A thread in a futex call or in a kernel lock's slow path. */
struct thread {
    __u64 start_ns; /* 0 = it waits for no futex */
    __u64 address;
    __u64 waiter, waker; /* keys of stacks */
    __u32 operation;
    __u32 wakes;       /* it is inside a call that may wake others */
    __u64 kernel_lock; /* 0 = it waits for no lock of the kernel */
    __u64 kernel_start_ns;
    __u32 kernel_flags;
    __u32 reserved;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct thread);
} threads SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct thread);
} threads_by_tid SEC(".maps");

struct spin {
    __u64 lock, start_ns;
    __u32 flags;
    __u32 reserved;
};

struct spins {
    __u64 depth;
    struct spin levels[SPIN_LEVELS];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct spins);
} spinning SEC(".maps");

struct table {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, AP_LOCK_TABLE_ROWS);
    __type(key, struct ap_lock_key);
    __type(value, struct ap_lock_stats);
} table_0 SEC(".maps"), table_1 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, AP_LOCK_SEEN_STACKS);
    __type(key, __u64);
    __type(value, __u8);
} seen SEC(".maps");

/* Written by the agent, and read. */
__u32 generation = 0;
__u64 rows_made[AP_GENERATIONS] = {};

static struct ap_lock_stats empty_stats;
static struct thread empty_thread;

static __always_inline struct thread *thread_of(struct task_struct *task, bool make, const bool storage)
{
    struct thread *thread;
    __u32 tid;

    if (storage)
        return bpf_task_storage_get(&threads, task, NULL, make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
    tid = BPF_CORE_READ(task, pid);
    thread = bpf_map_lookup_elem(&threads_by_tid, &tid);
    if (thread || !make)
        return thread;
    guarded_update(&threads_by_tid, &tid, &empty_thread, BPF_NOEXIST);
    return bpf_map_lookup_elem(&threads_by_tid, &tid);
}

static __always_inline struct task_struct *current_task(const bool storage)
{
    return storage ? bpf_get_current_task_btf() : (struct task_struct *)bpf_get_current_task();
}

/* Stacks
 * -------------------------------------------------------------------------------------------------------- */

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL; /* 2^64 by the golden ratio */
    return hash ^ (hash >> 29);
}

/* Hash of the addresses, the process and its name. Where code without frame pointers hides its caller, return addresses
 * of the program itself among the stack's first words, and the distance to the frame, keep callers apart. */
static __always_inline __u64 hash_stack(const struct record_scratch *rec, struct task_struct *task)
{
    const __u64 *comm = (const __u64 *)rec->head.comm;
    __u32 cnt = rec->head.kernel_cnt + rec->head.user_cnt, i;
    __u64 hash = mix(mix(rec->head.host_pid, comm[0]), comm[1]), start, end;
    struct mm_struct *mm;

    for (i = 0; i < HASH_FRAMES; i++) {
        if (i >= cnt)
            break;
        hash = mix(hash, rec->addrs[i]);
    }
    if (!rec->head.word_cnt)
        return hash;
    hash = mix(hash, rec->head.fp - rec->head.sp);
    mm = BPF_CORE_READ(task, mm);
    start = BPF_CORE_READ(mm, start_code);
    end = BPF_CORE_READ(mm, end_code);
    for (i = 0; i < AP_STACK_WORDS_MAX; i++)
        if (rec->words[i] >= start && rec->words[i] < end)
            hash = mix(hash, rec->words[i]);
    return hash;
}

/* Stack of the current task: sends it unless the agent has it. Its key, 0 when there is no room to take it. `kernel`:
 * the kernel's half too. */
static __always_inline __u64 stack_key(void *ctx, struct task_struct *task, __u16 type, const bool kernel,
                                       const bool deep)
{
    struct record_scratch *rec = enter_scratch();
    __u64 size, key;
    __u8 one = 1;

    if (!rec) {
        counter_add(AP_COUNTER_NO_SCRATCH, 1);
        return 0;
    }
    fill_head(&rec->head, task, type, bpf_ktime_get_ns());
    size = capture_stack(ctx, NULL, rec, kernel, deep);
    key = hash_stack(rec, task);
    key = mix(key, type);
    if (!bpf_map_lookup_elem(&seen, &key)) {
        rec->head.key = key;
        if (send_record(rec, size))
            guarded_update(&seen, &key, &one, BPF_ANY);
        else
            counter_add(AP_COUNTER_RING_FULL, 1);
    }
    leave_scratch(rec);
    return key;
}

/* Rows
 * -------------------------------------------------------------------------------------------------------- */

static __always_inline struct ap_lock_stats *find_row(void *table, const struct ap_lock_key *key, __u64 *made)
{
    struct ap_lock_stats *stats = bpf_map_lookup_elem(table, key);

    if (stats)
        return stats;
    if (!guarded_update(table, key, &empty_stats, BPF_NOEXIST))
        __sync_fetch_and_add(made, 1);
    return bpf_map_lookup_elem(table, key);
}

/* A wait that no place can be found for. */
static __always_inline void count_lost(void)
{
    counter_add(AP_COUNTER_FIRED, 1);
    counter_add(AP_COUNTER_MAP_FULL, 1);
}

static __always_inline void count_wait(const struct ap_lock_key *key, __u64 outcome, __u64 duration)
{
    struct ap_lock_stats *stats;
    __u64 bucket;

    counter_add(AP_COUNTER_FIRED, 1);
    stats = generation ? find_row(&table_1, key, &rows_made[1]) : find_row(&table_0, key, &rows_made[0]);
    if (!stats) {
        counter_add(AP_COUNTER_MAP_FULL, 1);
        return;
    }
    counter_add(AP_COUNTER_SENT, 1);
    barrier_var(outcome); /* one register, so that the verifier sees what was checked; and behind the calls */
    if (outcome >= AP_LOCK_OUTCOMES)
        return; /* cannot happen */
    __sync_fetch_and_add(&stats->count[outcome], 1);
    __sync_fetch_and_add(&stats->total_ns[outcome], duration);
    if (outcome != AP_LOCK_ACQUIRED)
        return;
    bucket = ap_histogram_bucket(duration);
    barrier_var(bucket);
    if (bucket >= AP_HISTOGRAM_BUCKETS)
        return; /* cannot happen */
    __sync_fetch_and_add(&stats->buckets[bucket], 1);
    if (duration > stats->max_ns)
        stats->max_ns = duration;
}

/* Futexes
 * -------------------------------------------------------------------------------------------------------- */

static __always_inline enum futex_side side_of_operation(__u32 operation)
{
    switch (operation) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case AP_FUTEX_LOCK_PI:
    case AP_FUTEX_LOCK_PI2:
    case AP_FUTEX_WAIT_REQUEUE_PI:
        return FUTEX_WAITS;
    case FUTEX_WAKE:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
    case FUTEX_UNLOCK_PI:
    case FUTEX_WAKE_BITSET:
    case FUTEX_CMP_REQUEUE_PI:
        return FUTEX_WAKES;
    default:
        return FUTEX_NEITHER;
    }
}

/* What a system call means, with its address and futex command. */
static __always_inline enum futex_side side_of_call(struct task_struct *task, struct pt_regs *regs, __u32 number,
                                                    __u64 *ret_address, __u32 *ret_operation, const bool storage)
{
    __u32 abi = syscall_abi(task, &number, storage);
    bool futex = abi == ABI_COMPAT ? number == NR_FUTEX_COMPAT || number == NR_FUTEX_COMPAT_TIME64 : number == NR_FUTEX;
    __u64 first, second;

    if (!futex && number != NR_FUTEX_WAITV && (number < NR_FUTEX_WAKE || number > NR_FUTEX_REQUEUE))
        return FUTEX_NEITHER;
    *ret_operation = FUTEX_WAIT;
    if (number == NR_FUTEX_WAKE || number == NR_FUTEX_REQUEUE)
        return FUTEX_WAKES;
    first = syscall_argument(regs, 0, abi);
    second = syscall_argument(regs, 1, abi);
    *ret_address = first;
    if (number == NR_FUTEX_WAIT)
        return FUTEX_WAITS;
    if (number == NR_FUTEX_WAITV) { /* the first of several: struct futex_waitv { __u64 val, uaddr; ... } */
        bpf_probe_read_user(ret_address, sizeof(*ret_address), (void *)(first + 8));
        return FUTEX_WAITS;
    }
    *ret_operation = second & FUTEX_CMD_MASK;
    return side_of_operation(*ret_operation);
}

static __always_inline int on_enter(struct bpf_raw_tracepoint_args *ctx, const bool storage)
{
    struct task_struct *task = current_task(storage);
    enum futex_side side;
    struct thread *thread;
    __u64 address = 0;
    __u32 operation;

    side = side_of_call(task, (struct pt_regs *)ctx->args[0], (__u32)ctx->args[1], &address, &operation, storage);
    if (side == FUTEX_NEITHER || !in_scope(task))
        return 0;
    thread = thread_of(task, true, storage);
    if (!thread) {
        count_lost();
        return 0;
    }
    if (side == FUTEX_WAKES) {
        thread->wakes = 1;
        return 0;
    }
    thread->address = address;
    thread->operation = operation;
    thread->waker = 0;
    thread->waiter = stack_key(ctx, task, AP_RECORD_LOCK, false, storage);
    thread->start_ns = bpf_ktime_get_ns();
    return 0;
}

static __always_inline __u32 outcome_of(long ret)
{
    if (ret >= 0)
        return AP_LOCK_ACQUIRED;
    if (ret == -110) /* ETIMEDOUT */
        return AP_LOCK_TIMED_OUT;
    if (ret == -4 || (ret <= -512 && ret >= -516)) /* EINTR, ERESTARTSYS .. ERESTART_RESTARTBLOCK */
        return AP_LOCK_INTERRUPTED;
    return AP_LOCK_RETRY;
}

static __always_inline int on_exit(struct bpf_raw_tracepoint_args *ctx, const bool storage)
{
    struct thread *thread = thread_of(current_task(storage), false, storage);
    struct ap_lock_key key = {};
    __u32 outcome;

    if (!thread)
        return 0;
    thread->wakes = 0;
    if (!thread->start_ns)
        return 0;
    outcome = outcome_of((long)ctx->args[1]);
    key.waiter = thread->waiter;
    key.waker = outcome == AP_LOCK_ACQUIRED ? thread->waker : 0;
    key.address = thread->address;
    key.host_pid = bpf_get_current_pid_tgid() >> 32;
    key.operation = thread->operation;
    count_wait(&key, outcome, bpf_ktime_get_ns() - thread->start_ns);
    thread->start_ns = 0;
    return 0;
}

/* `task` is woken by the current one: when it waits for a futex and the current one is inside a call that wakes, or
 * ends (which wakes those who join it, and who wait for its robust locks), that is who released it. */
static __always_inline int on_waking(__u64 *ctx, const bool storage)
{
    struct task_struct *task = (struct task_struct *)ctx[0], *waker;
    struct thread *waiting = thread_of(task, false, storage), *thread;

    if (!waiting || !waiting->start_ns || waiting->waker)
        return 0;
    waker = current_task(storage);
    thread = thread_of(waker, false, storage);
    if (!(thread && thread->wakes) && !(BPF_CORE_READ(waker, flags) & PF_EXITING))
        return 0;
    waiting->waker = stack_key(ctx, waker, AP_RECORD_RELEASE, false, storage);
    return 0;
}

/* Locks of the kernel
 * -------------------------------------------------------------------------------------------------------- */

static __always_inline int on_contention(__u64 *ctx, const bool storage)
{
    struct task_struct *task = current_task(storage);
    __u64 lock = ctx[0], now, depth;
    __u32 flags = (__u32)ctx[1], zero = 0;
    struct thread *thread;
    struct spins *spins;

    if (guard_held() || !in_scope(task))
        return 0;
    now = bpf_ktime_get_ns();
    if (flags & AP_LCB_SPIN) {
        spins = bpf_map_lookup_elem(&spinning, &zero);
        depth = spins ? spins->depth : SPIN_LEVELS;
        if (depth >= SPIN_LEVELS) {
            count_lost();
            return 0;
        }
        spins->levels[depth] = (struct spin){.lock = lock, .start_ns = now, .flags = flags};
        spins->depth = depth + 1;
        return 0;
    }
    thread = thread_of(task, true, storage);
    if (!thread)
        count_lost();
    if (!thread || thread->kernel_lock)
        return 0; /* a mutex that spins tells it twice: the first one counts */
    thread->kernel_lock = lock;
    thread->kernel_start_ns = now;
    thread->kernel_flags = flags;
    return 0;
}

static __always_inline int on_contention_end(__u64 *ctx, const bool storage)
{
    struct task_struct *task = current_task(storage);
    struct ap_lock_key key = {.address = ctx[0]};
    struct thread *thread;
    struct spins *spins;
    __u64 start = 0, depth;
    __u32 zero = 0;

    spins = bpf_map_lookup_elem(&spinning, &zero);
    depth = spins ? spins->depth - 1 : SPIN_LEVELS;
    if (spins && depth < SPIN_LEVELS && spins->levels[depth].lock == key.address) {
        start = spins->levels[depth].start_ns;
        key.operation = spins->levels[depth].flags;
        spins->depth = depth;
    } else {
        thread = thread_of(task, false, storage);
        if (!thread || thread->kernel_lock != key.address)
            return 0;
        start = thread->kernel_start_ns;
        key.operation = thread->kernel_flags;
        thread->kernel_lock = 0;
    }
    key.waiter = stack_key(ctx, task, AP_RECORD_LOCK, true, storage);
    count_wait(&key, ctx[1] ? AP_LOCK_INTERRUPTED : AP_LOCK_ACQUIRED, bpf_ktime_get_ns() - start);
    return 0;
}

/* Programs: with task storage and deep stacks, or plain.
 * -------------------------------------------------------------------------------------------------------- */

SEC("raw_tp/sys_enter")
int lock_enter(struct bpf_raw_tracepoint_args *ctx)
{
    return on_enter(ctx, true);
}

SEC("raw_tp/sys_exit")
int lock_exit(struct bpf_raw_tracepoint_args *ctx)
{
    return on_exit(ctx, true);
}

SEC("tp_btf/sched_waking")
int lock_waking(__u64 *ctx)
{
    return on_waking(ctx, true);
}

SEC("tp_btf/contention_begin")
int lock_contention(__u64 *ctx)
{
    return on_contention(ctx, true);
}

SEC("tp_btf/contention_end")
int lock_contention_end(__u64 *ctx)
{
    return on_contention_end(ctx, true);
}

SEC("raw_tp/sys_enter")
int lock_enter_plain(struct bpf_raw_tracepoint_args *ctx)
{
    return on_enter(ctx, false);
}

SEC("raw_tp/sys_exit")
int lock_exit_plain(struct bpf_raw_tracepoint_args *ctx)
{
    return on_exit(ctx, false);
}

SEC("tp_btf/sched_waking")
int lock_waking_plain(__u64 *ctx)
{
    return on_waking(ctx, false);
}

/* Without task storage: forgets threads. */
SEC("raw_tp/sched_process_exit")
int lock_forget(struct bpf_raw_tracepoint_args *ctx)
{
    __u32 tid = (__u32)bpf_get_current_pid_tgid();

    guarded_delete(&threads_by_tid, &tid);
    return 0;
}

/* End of the recording: waits that go on. */
static __always_inline int write_in_flight(struct bpf_iter__task *ctx, const bool storage)
{
    struct task_struct *task = ctx->task;
    struct record_scratch *rec;
    struct thread *thread;
    __u64 now = bpf_ktime_get_ns();

    if (!task)
        return 0;
    thread = thread_of(task, false, storage);
    if (!thread || !thread->start_ns)
        return 0;
    rec = enter_scratch();
    if (!rec) {
        count_lost();
        return 0;
    }
    fill_head(&rec->head, task, AP_RECORD_LOCK, now);
    rec->head.flags |= AP_RECORD_IN_FLIGHT;
    rec->head.key = thread->waiter;
    rec->head.object = thread->address;
    rec->head.number = thread->operation;
    rec->head.duration_ns = now - thread->start_ns;
    bpf_seq_write(ctx->meta->seq, &rec->head, sizeof(rec->head));
    leave_scratch(rec);
    return 0;
}

SEC("iter/task")
int lock_in_flight(struct bpf_iter__task *ctx)
{
    return write_in_flight(ctx, true);
}

SEC("iter/task")
int lock_in_flight_plain(struct bpf_iter__task *ctx)
{
    return write_in_flight(ctx, false);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
