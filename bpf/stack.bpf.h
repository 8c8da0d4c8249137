/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Stack capture: kernel and user half of the current task in one go. The one place that another unwinder
 * replaces: capture_stack() is all that programs call. */
#ifndef APERTURE_BPF_STACK_H
#define APERTURE_BPF_STACK_H

#include "abi/record.h"
#include "kernel.bpf.h"
#include "record.bpf.h"

#if defined(__TARGET_ARCH_x86)
#define REGS_IN_USER_MODE(regs) ((regs)->cs & 3)
#elif defined(__TARGET_ARCH_arm64)
#define REGS_IN_USER_MODE(regs) (((regs)->pstate & 0xf) == 0)
#else
#error "stack walking: unknown architecture"
#endif

/* Farthest that a frame lies from the next one out: larger ones are taken for noise. */
#define FP_DISTANCE_MAX (256u << 10)

struct fp_frame {
    __u64 next, ret;
};

struct fp_walk {
    __u64 fp;
    __u64 *addrs;
    __u32 cnt;
    bool cut; /* the chain went on past the room */
};

/* One frame; 1 ends the walk. Same rules as perf_callchain_user(): aligned, strictly growing frames. */
static __always_inline long walk_frame(__u64 index, struct fp_walk *walk, const __u64 max)
{
    __u64 at = index + 1; /* [0] is the instruction itself */
    struct fp_frame frame;

    barrier_var(at); /* one register, so that the verifier sees what was checked */

    if (!walk->fp || (walk->fp & 7) || bpf_probe_read_user(&frame, sizeof(frame), (void *)walk->fp) || !frame.ret)
        return 1;
    if (at >= max) {
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

static long walk_frame_long(__u64 index, struct fp_walk *walk)
{
    return walk_frame(index, walk, AP_USER_FRAMES_MAX);
}

static long walk_frame_short(__u64 index, struct fp_walk *walk)
{
    return walk_frame(index, walk, AP_BLOCKED_FRAMES_MAX);
}

/* Walks frame pointers from the interrupted user instruction, for stacks that the kernel's own walk does not give.
 * Returns bytes written. */
static __always_inline __u32 walk_frame_pointers(__u64 ip, __u64 fp, __u64 *addrs, const __u32 max, bool *cut)
{
    struct fp_walk walk = {.fp = fp, .addrs = addrs, .cnt = 1};

    addrs[0] = ip;
    if (max == AP_BLOCKED_FRAMES_MAX)
        bpf_loop(max, walk_frame_short, &walk, 0);
    else
        bpf_loop(AP_USER_FRAMES_MAX, walk_frame_long, &walk, 0);
    *cut = walk.cut;
    return walk.cnt * 8;
}

/* Stacks of so few frames may well be wrong: the register was no frame pointer but pointed to something. */
#define DUBIOUS_FRAMES 4

/* User registers of the current task, NULL regs = it is in the kernel by itself. Only where `deep` is said. */
struct user_regs {
    __u64 ip, sp, bp;
};

static __always_inline bool read_user_regs(bpf_user_pt_regs_t *regs, struct user_regs *user)
{
    struct pt_regs saved;

    if (regs && REGS_IN_USER_MODE(regs)) {
        *user = (struct user_regs){PT_REGS_IP(regs), PT_REGS_SP(regs), PT_REGS_FP(regs)};
        barrier_var(user->ip); /* or the compiler makes one load of this one and the next, which the verifier refuses */
        barrier_var(user->sp);
        barrier_var(user->bp);
        return true;
    }
    if (bpf_probe_read_kernel(&saved, sizeof(saved), (void *)bpf_task_pt_regs(bpf_get_current_task_btf())))
        return false;
    *user = (struct user_regs){PT_REGS_IP(&saved), PT_REGS_SP(&saved), PT_REGS_FP(&saved)};
    return true;
}

/* True when a chain of frames may begin at `fp`, for a stack pointer or place on the stack `at`. Looks at two frames:
 * structures on the stack that point to each other, and to code nearby, pass for one. */
static __always_inline bool begins_chain(__u64 fp, __u64 at)
{
    struct fp_frame frame, outer;

    if (fp <= at || fp - at > FP_DISTANCE_MAX || (fp & 7))
        return false;
    if (bpf_probe_read_user(&frame, sizeof(frame), (void *)fp) || frame.next <= fp ||
        frame.next - fp > FP_DISTANCE_MAX || (frame.next & 7) || frame.ret < 4096)
        return false;
    if (bpf_probe_read_user(&outer, sizeof(outer), (void *)frame.next))
        return false;
    return !outer.next || (outer.next > frame.next && outer.next - frame.next <= FP_DISTANCE_MAX && outer.ret >= 4096);
}

struct fp_search {
    const __u64 *words;
    __u64 sp, found;
};

/* Words looked at in one call of bpf_loop, which costs as much as looking at several. */
#define SEARCH_WORDS 8
_Static_assert(AP_STACK_WORDS_MAX % SEARCH_WORDS == 0, "all words are looked at");

/* Takes a word of the stack for a saved frame pointer when a chain of frames begins there; 1 ends the search. */
static long try_saved_fps(__u64 index, struct fp_search *search)
{
    __u64 first = index * SEARCH_WORDS, word, at;
    __u32 i;

    barrier_var(first); /* one register, so that the verifier sees what was checked */
    if (first > AP_STACK_WORDS_MAX - SEARCH_WORDS)
        return 1;
#pragma unroll
    for (i = 0; i < SEARCH_WORDS; i++) {
        word = search->words[first + i];
        at = search->sp + (first + i) * 8;
        if (word - at > FP_DISTANCE_MAX || !begins_chain(word, at))
            continue;
        search->found = word;
        return 1;
    }
    return 0;
}

/* A C library without frame pointers may have used the register for something else: looks for the place on the stack
 * where it saved it. The agent believes it only when unwind information leads to the same value. 0 = none. */
static __always_inline __u64 find_saved_fp(const __u64 *words, __u64 sp)
{
    struct fp_search search = {.words = words, .sp = sp};

    bpf_loop(AP_STACK_WORDS_MAX / SEARCH_WORDS, try_saved_fps, &search, 0);
    return search.found;
}

/* The user half of the current task, at most `max` frames, with what the agent needs to repair its leaf part: registers
 * and AP_STACK_WORDS_MAX words. Returns bytes of addresses. */
static __always_inline __u64 capture_user_deep(void *ctx, bpf_user_pt_regs_t *regs, struct ap_record *head,
                                               __u64 *words, __u64 *addrs, const __u32 max)
{
    struct user_regs user;
    bool cut = false;
    __u64 fp = 0;
    long size, walked;

    size = bpf_get_stack(ctx, addrs, max * 8, BPF_F_USER_STACK);
    if (size < 0)
        size = 0;
    if (!read_user_regs(regs, &user))
        return size;
    head->sp = user.sp;
    head->bp = head->fp = user.bp;
    if (!bpf_probe_read_user(words, AP_STACK_WORDS_MAX * 8, (void *)user.sp))
        head->word_cnt = AP_STACK_WORDS_MAX;
    if (size >= (long)config.max_stack * 8 && max > config.max_stack)
        fp = user.bp;
    else if (size <= DUBIOUS_FRAMES * 8 && head->word_cnt && !begins_chain(user.bp, user.sp - 8))
        fp = find_saved_fp(words, user.sp);
    if (fp) {
        walked = walk_frame_pointers(user.ip, fp, addrs, max, &cut);
        head->fp = fp;
        size = walked;
    }
    if (cut || size >= (long)max * 8 || (!fp && size >= (long)config.max_stack * 8))
        head->flags |= AP_RECORD_USER_TRUNCATED;
    return size;
}

/* The same as far as older kernels can. */
static __always_inline __u64 capture_user_plain(void *ctx, struct ap_record *head, __u64 *addrs, const __u32 max)
{
    long size = bpf_get_stack(ctx, addrs, max * 8, BPF_F_USER_STACK);

    if (size < 0)
        return 0;
    if (size >= (long)config.max_stack * 8 || size >= (long)max * 8)
        head->flags |= AP_RECORD_USER_TRUNCATED;
    return size;
}

/* Puts the stack words behind `addrs_sz` bytes of addresses. Returns the size of the whole record in bytes. */
static __always_inline __u64 finish_record(struct record_scratch *rec, __u64 addrs_sz, const __u64 *words)
{
    barrier_var(addrs_sz);
    if (addrs_sz > SCRATCH_ADDRS_SZ)
        return 0; /* cannot happen; bounds it for the verifier */
    if (rec->head.word_cnt)
        bpf_probe_read_kernel((char *)rec->addrs + addrs_sz, sizeof(rec->words), words);
    return AP_RECORD_HEAD_SZ + addrs_sz + (rec->head.word_cnt ? sizeof(rec->words) : 0);
}

/* Fills in the frames of the current task behind a complete head: their numbers, the truncation flags, and the words
 * of the user stack. `regs`: what was interrupted, NULL in tracepoints. `kernel`: with the kernel half. `deep`: this
 * kernel has bpf_loop (5.17), so user stacks longer than max_stack are walked to AP_USER_FRAMES_MAX and words are
 * there. Returns the size of the whole record in bytes. */
static __always_inline __u64 capture_stack(void *ctx, bpf_user_pt_regs_t *regs, struct record_scratch *rec,
                                           const bool kernel, const bool deep)
{
    long kernel_sz = 0;
    __u64 user_sz = 0;
    __u64 *user;

    if (kernel)
        kernel_sz = bpf_get_stack(ctx, rec->addrs, AP_KERNEL_FRAMES_MAX * 8, 0);
    if (kernel_sz < 0)
        kernel_sz = 0; /* interrupted in user mode */
    kernel_sz &= KERNEL_ADDRS_MASK;
    user = (__u64 *)((char *)rec->addrs + kernel_sz);
    if (!(rec->head.flags & AP_RECORD_KERNEL_THREAD))
        user_sz = deep ? capture_user_deep(ctx, regs, &rec->head, rec->words, user, AP_USER_FRAMES_MAX)
                       : capture_user_plain(ctx, &rec->head, user, AP_USER_FRAMES_MAX);
    rec->head.kernel_cnt = kernel_sz / 8;
    rec->head.user_cnt = user_sz / 8;
    if (kernel_sz >= (long)config.max_stack * 8)
        rec->head.flags |= AP_RECORD_KERNEL_TRUNCATED;
    return finish_record(rec, kernel_sz + user_sz, rec->words);
}

#endif
