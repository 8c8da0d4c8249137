/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The few kernel structures that our programs read. Only the members used are declared: CO-RE finds them by
 * name in the running kernel's BTF, so the build needs no vmlinux.h of any machine. */
#ifndef APERTURE_BPF_KERNEL_H
#define APERTURE_BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <linux/types.h>

#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
    unsigned int inum;
};

struct pid_namespace {
    struct ns_common ns;
};

struct upid {
    int nr;
    struct pid_namespace *ns;
};

struct pid {
    unsigned int level;
    struct upid numbers[1];
};

typedef struct {
    int counter;
} atomic_t;

struct signal_struct {
    atomic_t live;
};

struct mm_struct;

struct task_struct {
    unsigned int flags;
    int pid;
    int tgid;
    struct task_struct *group_leader;
    struct pid *thread_pid;
    struct signal_struct *signal;
    struct mm_struct *mm;
    char comm[16];
};

#pragma clang attribute pop

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */

#endif
