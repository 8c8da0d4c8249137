/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The process table: which process has which code mapped where, kept by process events and read from /proc
 * only for processes that are older than the capture. */
#ifndef APERTURE_AGENT_PROCESS_H
#define APERTURE_AGENT_PROCESS_H

#include "agent/modules.h"
#include "agent/sideband.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds; what does not fit is counted (ap_processes_refused) and resolves to "process gone"; perf maps and deleted
 * files below a root directory too many are not found. */
#define AP_PROCESSES_MAX 131072
#define AP_MAPS_MAX      16384 /* executable mappings of one process */
#define AP_ROOTS_MAX     1024 /* distinct root directories (mount namespaces, chroots) held open for living processes */

/* How long an ended process is remembered for its last samples. */
#define AP_PROCESS_GRACE_NS 2000000000ULL

struct ap_processes; /* opaque; not thread-safe */

/* `modules` is borrowed and must outlive the table. NULL when out of memory. */
struct ap_processes *ap_processes_new(struct ap_modules *modules);
/* Accepts NULL. Returns NULL. */
struct ap_processes *ap_processes_free(struct ap_processes *processes);

/* Takes an event in. Events of one process must come in time order, and before the samples they precede. */
void ap_processes_event(struct ap_processes *processes, const struct ap_process_event *event);

/* A process of whom a sample came. Made and read from /proc when it was unknown. NULL when the table is full.
 * `ns_pid`: its number in its own namespace. */
struct ap_process *ap_processes_sampled(struct ap_processes *processes, uint32_t pid, uint32_t ns_pid);

/* Module and offset (in its file, or the address itself) of a user address; always something. */
uint32_t ap_process_locate(struct ap_processes *processes, struct ap_process *process, uint64_t addr,
                           uint64_t *ret_offset);

/* Unwind information of the file that is mapped at a code address, and the address as an offset in that file; NULL when
 * there is none. Valid as long as the process is. */
const struct ap_unwind_table *ap_process_unwind(struct ap_processes *processes, struct ap_process *process,
                                                uint64_t addr, uint64_t *ret_file_off);

/* Module and address (as its ELF file numbers them) of a variable of process `pid` that lies in the data of a mapped
 * file; AP_MODULE_ID_NO_MAPPING when it is elsewhere (heap, stack, shared memory) or the process is not known. */
uint32_t ap_process_variable(struct ap_processes *processes, uint32_t pid, uint64_t addr, uint64_t *ret_vaddr);

/* Path of the executable, "" when unknown; container id, "" when it is in none. Valid while the process is.
 */
const char *ap_process_exe(const struct ap_process *process);
const char *ap_process_container(const struct ap_process *process);

/* Forgets processes that ended longer ago than the grace, at monotonic time `now_ns`. */
void ap_processes_sweep(struct ap_processes *processes, uint64_t now_ns);

size_t ap_processes_cnt(const struct ap_processes *processes);
/* Root directories held open. */
size_t ap_processes_roots(const struct ap_processes *processes);
/* Processes, and root directories, that a bound turned away. */
uint64_t ap_processes_refused(const struct ap_processes *processes);

#endif
