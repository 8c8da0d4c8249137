/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Stack capture: kernel and user half of the current task in one go. The one place that another unwinder
 * replaces: capture_stack() is all that programs call. */
#ifndef APERTURE_BPF_STACK_H
#define APERTURE_BPF_STACK_H

#include "abi/record.h"
#include "kernel.bpf.h"
#include "scope.bpf.h"

/* Bytes for the kernel half, rounded up to a power of two so that a mask bounds it for the verifier. */
#define KERNEL_ADDRS_MASK 1023
_Static_assert(AP_KERNEL_FRAMES_MAX * 8 <= KERNEL_ADDRS_MASK, "kernel half must fit its mask");

/* A record with room for both halves. */
struct stack_scratch {
    struct ap_cpu_record head;
    __u64 addrs[(KERNEL_ADDRS_MASK + 1) / 8 + AP_USER_FRAMES_MAX];
};

#if defined(__TARGET_ARCH_x86)
#define REGS_IN_USER_MODE(regs) ((regs)->cs & 3)
#elif defined(__TARGET_ARCH_arm64)
#define REGS_IN_USER_MODE(regs) (((regs)->pstate & 0xf) == 0)
#else
#error "stack walking: unknown architecture"
#endif

struct fp_frame {
    __u64 next, ret;
};

struct fp_walk {
    __u64 fp;
    __u64 *addrs;
    __u32 cnt;
    bool cut; /* the chain went on past AP_USER_FRAMES_MAX */
};

/* One frame; 1 ends the walk. Same rules as perf_callchain_user(): aligned, strictly growing frames. */
static long walk_frame(__u32 index, struct fp_walk *walk)
{
    __u32 at = walk->cnt;
    struct fp_frame frame;

    if (!walk->fp || (walk->fp & 7) || bpf_probe_read_user(&frame, sizeof(frame), (void *)walk->fp) || !frame.ret)
        return 1;
    if (at >= AP_USER_FRAMES_MAX) {
        walk->cut = true;
        return 1;
    }
    walk->addrs[at] = frame.ret;
    walk->cnt = at + 1;
    if (frame.next <= walk->fp)
        return 1;
    walk->fp = frame.next;
    return 0;
}

/* Walks frame pointers from the interrupted user instruction, for stacks longer than what the kernel's own walk gives.
 * Returns bytes written. */
static __always_inline __u32 walk_frame_pointers(__u64 ip, __u64 fp, __u64 *addrs, bool *cut)
{
    struct fp_walk walk = {.fp = fp, .addrs = addrs, .cnt = 1};

    addrs[0] = ip;
    bpf_loop(AP_USER_FRAMES_MAX, walk_frame, &walk, 0);
    *cut = walk.cut;
    return walk.cnt * 8;
}

/* User half beyond kernel.perf_event_max_stack. Returns bytes, 0 when the registers are out of reach. */
static __always_inline __u32 walk_deep_user(bpf_user_pt_regs_t *regs, __u64 *addrs, bool *cut)
{
    struct pt_regs *saved;
    struct pt_regs user;

    if (REGS_IN_USER_MODE(regs))
        return walk_frame_pointers(PT_REGS_IP(regs), PT_REGS_FP(regs), addrs, cut);
    saved = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
    if (bpf_probe_read_kernel(&user, sizeof(user), saved))
        return 0;
    return walk_frame_pointers(PT_REGS_IP(&user), PT_REGS_FP(&user), addrs, cut);
}

/* Fills in the frames, their numbers and the truncation flags of a record whose head is otherwise complete. `deep`:
 * this kernel has bpf_loop (5.17), so user stacks longer than max_stack are walked to AP_USER_FRAMES_MAX. Returns the
 * size of the whole record in bytes. */
static __always_inline __u64 capture_stack(struct bpf_perf_event_data *ctx, struct stack_scratch *rec, const bool deep)
{
    long kernel_sz, user_sz = 0, deep_sz;
    bool cut = false;
    __u64 *user;

    kernel_sz = bpf_get_stack(ctx, rec->addrs, AP_KERNEL_FRAMES_MAX * 8, 0);
    if (kernel_sz < 0)
        kernel_sz = 0; /* interrupted in user mode */
    kernel_sz &= KERNEL_ADDRS_MASK;
    user = (__u64 *)((char *)rec->addrs + kernel_sz);
    if (!(rec->head.flags & AP_RECORD_KERNEL_THREAD))
        user_sz = bpf_get_stack(ctx, user, AP_USER_FRAMES_MAX * 8, BPF_F_USER_STACK);
    if (user_sz < 0)
        user_sz = 0;
    if (user_sz >= (long)config.max_stack * 8) {
        cut = true;
        deep_sz = deep ? walk_deep_user(&ctx->regs, user, &cut) : 0;
        if (deep_sz >= user_sz)
            user_sz = deep_sz;
        else
            cut = true;
    }
    rec->head.kernel_cnt = kernel_sz / 8;
    rec->head.user_cnt = user_sz / 8;
    if (kernel_sz >= (long)config.max_stack * 8)
        rec->head.flags |= AP_RECORD_KERNEL_TRUNCATED;
    if (cut)
        rec->head.flags |= AP_RECORD_USER_TRUNCATED;
    return AP_CPU_RECORD_HEAD_SZ + kernel_sz + user_sz;
}

#endif
