/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Records on their way to the agent: the scratch one that they are put together in, their head, and the ring buffers.
 */
#ifndef APERTURE_BPF_RECORD_H
#define APERTURE_BPF_RECORD_H

#include "abi/record.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"

/* Bytes for the kernel half, rounded up to a power of two so that a mask bounds it for the verifier. */
#define KERNEL_ADDRS_MASK 1023
_Static_assert(AP_KERNEL_FRAMES_MAX * 8 <= KERNEL_ADDRS_MASK, "kernel half must fit its mask");

#define SCRATCH_ADDRS_SZ (KERNEL_ADDRS_MASK + 1 + AP_USER_FRAMES_MAX * 8)

/* A record with room for everything. */
struct record_scratch {
    struct ap_record head;
    __u64 addrs[SCRATCH_ADDRS_SZ / 8 + AP_STACK_WORDS_MAX];
    __u64 words[AP_STACK_WORDS_MAX]; /* before they move behind the addresses */
    __u64 users;                     /* of this scratch record: more than one must not */
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct record_scratch);
} scratch SEC(".maps");

/* This CPU's scratch record, NULL when another program is in the middle of using it (nested interrupt, or a preempted
 * tracepoint program). Give it back with leave_scratch(). */
static __always_inline struct record_scratch *enter_scratch(void)
{
    struct record_scratch *rec;
    __u32 zero = 0;

    rec = bpf_map_lookup_elem(&scratch, &zero);
    if (!rec)
        return NULL;
    __sync_fetch_and_add(&rec->users, 1);
    if (*(volatile __u64 *)&rec->users == 1)
        return rec;
    __sync_fetch_and_add(&rec->users, -1);
    return NULL;
}

static __always_inline void leave_scratch(struct record_scratch *rec)
{
    __sync_fetch_and_add(&rec->users, -1);
}

/* Ids and name of `task`; the rest of the head becomes zero. */
static __always_inline void fill_head(struct ap_record *head, struct task_struct *task, __u16 type, __u64 now)
{
    struct pid *leader = BPF_CORE_READ(task, group_leader, thread_pid);
    __u32 level = BPF_CORE_READ(leader, level), tid = BPF_CORE_READ(task, pid);

    __builtin_memset(head, 0, sizeof(*head));
    head->version = AP_RECORD_VERSION;
    head->type = type;
    head->flags = BPF_CORE_READ(task, flags) & PF_KTHREAD ? AP_RECORD_KERNEL_THREAD : 0;
    head->time_ns = now;
    head->pid = process_id(task);
    head->host_tid = tid;
    head->tid = head->pid ? pid_in_agent_ns(BPF_CORE_READ(task, thread_pid), tid) : 0;
    head->host_pid = BPF_CORE_READ(task, tgid);
    head->ns_pid = level ? pid_number_at(leader, level, NULL) : head->host_pid;
    head->cpu = bpf_get_smp_processor_id();
    bpf_probe_read_kernel_str(head->comm, sizeof(head->comm), &task->comm);
}

/* Puts `size` bytes of the record into the ring buffer of this CPU's group. False when there was no room. */
static __always_inline bool send_record(struct record_scratch *rec, __u64 size)
{
    __u32 group = bpf_get_smp_processor_id() / AP_RING_GROUP_CPUS;
    void *ring = bpf_map_lookup_elem(&rings, &group);
    __u64 flags;
    long rc;

    if (!ring)
        return false;
    barrier_var(size); /* one register, so that the verifier sees what was checked */
    if (size > sizeof(*rec))
        return false; /* cannot happen; bounds the size for the verifier */
    flags = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= config.wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
    guard_add(1);
    rc = bpf_ringbuf_output(ring, rec, size, flags);
    guard_add(-1);
    return !rc;
}

#endif
