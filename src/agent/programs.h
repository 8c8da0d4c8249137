/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the owners of BPF objects have in common: features of this kernel, errors of loading, counters, memory. */
#ifndef APERTURE_AGENT_PROGRAMS_H
#define APERTURE_AGENT_PROGRAMS_H

#include "abi/record.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ap_buf;
struct bpf_map;
struct bpf_object;
struct bpf_program;

/* What this kernel has, probed once. */
struct ap_kernel {
    bool deep;         /* bpf_loop (5.17), and with it task storage and bpf_task_pt_regs: our own stack walks */
    bool switch_state; /* sched_switch tells the state of the task that leaves (5.18) */
    bool contention;   /* tracepoints lock:contention_begin and contention_end (5.19) */
    bool iter;         /* task iterators (5.8) */
};

void ap_kernel_probe(struct ap_kernel *ret_kernel);

/* Words for an object that did not load: what is missing and what to do. Returns `rc`. */
int ap_programs_load_error(int rc, const char *what, struct ap_error *err);

/* Sums the `counters` map over CPUs. `ret_rows`, when not NULL: AP_COUNTER_CNT rows of ap_programs_cpus() values too.
 */
void ap_programs_counters(const struct bpf_map *map, uint64_t *ret_counters, uint64_t *ret_rows);
/* Number of possible CPUs, at least 1. */
size_t ap_programs_cpus(void);

/* Memory that the kernel charges for an object's maps and programs, or for one of them; bytes. Maps that are shared are
 * left to their owner. */
uint64_t ap_programs_memory(const struct bpf_object *object);
uint64_t ap_programs_fd_memory(int fd);

/* Longest output of an iterator: some 50,000 of the largest records that one writes. */
#define AP_ITERATOR_SZ_MAX (128u << 20)

/* Runs an iterator over all tasks, whose program writes records into its file, and fills `records` (empty, of at most
 * AP_ITERATOR_SZ_MAX) with checked ones, one behind the other. 0 or negative errno, also when some were read. */
int ap_programs_iterate(const struct bpf_program *program, struct ap_buf *records);

/* Walks checked records that lie one behind the other: start with *at = 0; the next one, NULL at the end. */
const struct ap_record *ap_record_next(const struct ap_buf *records, size_t *at);

/* Checks a record's version, type and sizes against its length. 0 or -EINVAL. */
int ap_record_check(const void *record, size_t len);
/* Bytes of a checked record. */
size_t ap_record_size(const struct ap_record *record);

/* Waits until every BPF program that runs now has ended (a grace period of RCU). */
void ap_programs_wait(void);

/* Entries of a table that holds one for each thread: twice those that the machine has now, a power of two within these.
 */
#define AP_THREAD_SLOTS_MIN 4096
#define AP_THREAD_SLOTS_MAX 65536
uint32_t ap_programs_thread_slots(void);

#endif
