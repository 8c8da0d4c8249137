/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Numbers and arguments of system calls by architecture. */
#ifndef APERTURE_BPF_SYSCALL_H
#define APERTURE_BPF_SYSCALL_H

#include "kernel.bpf.h"

/* enum ap_syscall_abi of the model */
#define ABI_NATIVE 0
#define ABI_COMPAT 1
#define ABI_X32    2

#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT             0x0002     /* arch/x86/include/asm/thread_info.h */
#define X32_BIT               0x40000000 /* __X32_SYSCALL_BIT, asm/unistd.h */
#define SYSCALL_OF_REGS(regs) ((long)(regs)->orig_rax)
#elif defined(__TARGET_ARCH_arm64)
#define TIF_32BIT             22 /* arch/arm64/include/asm/thread_info.h */
/* not part of the registers that user space sees: x8 holds the number until the call returns */
#define SYSCALL_OF_REGS(regs) ((long)((struct user_pt_regs *)(regs))->regs[8])
#else
#error "system calls: unknown architecture"
#endif

/* Which table the number is from; takes a marker out of it. `direct`: `task` may be read without a helper. */
static __always_inline __u32 syscall_abi(struct task_struct *task, __u32 *number, const bool direct)
{
#if defined(__TARGET_ARCH_x86)
    if ((direct ? task->thread_info.status : BPF_CORE_READ(task, thread_info.status)) & TS_COMPAT)
        return ABI_COMPAT;
    if (*number & X32_BIT && (int)*number > 0) {
        *number &= ~X32_BIT;
        return ABI_X32;
    }
    return ABI_NATIVE;
#else
    return (direct ? task->thread_info.flags : BPF_CORE_READ(task, thread_info.flags)) >> TIF_32BIT & 1;
#endif
}

/* The first (0) or second (1) argument. */
static __always_inline __u64 syscall_argument(struct pt_regs *regs, const int index, __u32 abi)
{
    __u64 value = 0;

    /* the layout is that of the UAPI header on every kernel: no relocation */
#if defined(__TARGET_ARCH_x86)
    if (abi == ABI_COMPAT)
        bpf_probe_read_kernel(&value, sizeof(value), index ? &regs->rcx : &regs->rbx);
    else
        bpf_probe_read_kernel(&value, sizeof(value), index ? &regs->rsi : &regs->rdi);
#else
    bpf_probe_read_kernel(&value, sizeof(value), &((struct user_pt_regs *)regs)->regs[index]);
#endif
    return abi == ABI_COMPAT ? (__u32)value : value;
}

/* exit and exit_group */
static __always_inline bool never_returns(__u32 abi, __u32 number)
{
#if defined(__TARGET_ARCH_x86)
    if (abi == ABI_COMPAT)
        return number == 1 || number == 252;
    return number == 60 || number == 231;
#else
    if (abi == ABI_COMPAT)
        return number == 1 || number == 248;
    return number == 93 || number == 94;
#endif
}

#endif
