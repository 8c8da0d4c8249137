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

struct mm_struct {
    unsigned long start_code, end_code;
};

struct thread_info {
    unsigned long flags;
    __u32 status; /* x86 */
};

struct sched_entity {
    __u64 sum_exec_runtime; /* ns on a CPU, up to date when the task is switched out */
};

struct task_struct {
    struct thread_info thread_info;
    struct sched_entity se;
    unsigned int __state; /* from 5.14 on */
    unsigned int flags;
    int pid;
    int tgid;
    unsigned long nvcsw, nivcsw;
    __u64 start_time; /* CLOCK_MONOTONIC */
    struct task_struct *group_leader;
    struct pid *thread_pid;
    struct signal_struct *signal;
    struct mm_struct *mm;
    char comm[16];
};

/* Up to 5.13 the member had another name and type. */
struct task_struct___old {
    volatile long state;
};

struct bpf_iter_meta {
    struct seq_file *seq;
};

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};

#pragma clang attribute pop

/* include/linux/sched.h */
#define PF_EXITING           0x00000004
#define PF_KTHREAD           0x00200000
#define TASK_INTERRUPTIBLE   0x0001
#define TASK_UNINTERRUPTIBLE 0x0002
#define TASK_REPORT_DEAD     0x0080 /* TASK_DEAD */

#endif
