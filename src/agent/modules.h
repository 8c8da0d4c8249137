/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Where code comes from: executable files, each pinned by a descriptor at first sight (so that deleting,
 * replacing or unmounting it later costs no names) until no process maps it any more, and memory that no file stands
 * behind. */
#ifndef APERTURE_AGENT_MODULES_H
#define APERTURE_AGENT_MODULES_H

#include "core/error.h"
#include "symbol/elf.h"
#include "symbol/perfmap.h"
#include "symbol/unwind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ap_module_kind {
    AP_MODULE_KERNEL = 0,   /* the kernel and what it loaded; offsets are addresses */
    AP_MODULE_FILE = 1,     /* ELF file; offsets are file offsets */
    AP_MODULE_JIT = 2,      /* anonymous executable memory of one process; offsets are addresses */
    AP_MODULE_UNMAPPED = 3, /* no mapping known; offsets are addresses */
};

struct ap_module {
    uint8_t kind;   /* enum ap_module_kind */
    uint8_t reason; /* enum ap_unresolved_reason: why its frames will have no names; 0 = they may */
    char *path;     /* as the process saw it; "[kernel]", "[vdso]", "[anon]" */
    int fd;         /* pinned file, -1 = none */
    struct ap_elf_info elf;
    uint64_t start, limit, file_off;      /* one place where it was mapped */
    uint32_t pid, ns_pid;                 /* JIT: whose memory, and its number in its own namespace */
    int root_fd;                          /* JIT: its root directory (borrowed while the process lives), -1 = our own */
    bool ended;                           /* JIT: the process has ended, its map is not looked for any more */
    struct ap_perfmap *perfmap;           /* JIT: names written by the runtime, NULL until read */
    uint64_t perfmap_ns, perfmap_took_ns; /* JIT: when it was read last, and how long that took */
    struct ap_unwind_table *unwind;       /* FILE: owned, NULL until asked for and when there is none */
    struct ap_elf_loads *loads;           /* FILE: likewise */
    bool unwind_tried, loads_tried;
    uint32_t mapped;  /* FILE: mappings of it in the process table */
    uint64_t idle_ns; /* FILE: since when there are none (CLOCK_MONOTONIC) */
    uint64_t file_sz; /* FILE: with the time of its last change and its build id, what it is known by when it comes */
    uint64_t file_ns; /* back after it was let go; time in ns */
};

/* Most modules, and most descriptors held for them; past either the frames count as unresolved (reason
 * "budget"), until a process maps the file when there is room again. */
#define AP_MODULES_MAX     65536
#define AP_MODULE_PINS_MAX 8192

/* How long no process maps a file before it is let go, and how many are looked at in one turn. */
#define AP_MODULE_IDLE_NS     5000000000ULL
#define AP_MODULES_IDLE_CHUNK 64

/* Indices of the modules that always exist. */
#define AP_MODULE_ID_KERNEL       0
#define AP_MODULE_ID_VDSO         1
#define AP_MODULE_ID_NO_MAPPING   2 /* no mapping contains the address */
#define AP_MODULE_ID_PROCESS_GONE 3 /* the process ended before its mappings could be read */
#define AP_MODULE_ID_NAMESPACE    4 /* process of another pid namespace */
#define AP_MODULE_ID_BUDGET       5 /* AP_MODULES_MAX was reached */

/* A mapped file as an event or /proc/PID/maps describes it. */
struct ap_mapped_file {
    uint64_t start, end, file_off;
    uint32_t dev_major, dev_minor;
    uint64_t inode; /* 0 = anonymous */
    const char *path;
};

struct ap_modules; /* opaque; not thread-safe */

/* NULL when out of memory. */
struct ap_modules *ap_modules_new(void);
/* Closes all pins. Accepts NULL. Returns NULL. */
struct ap_modules *ap_modules_free(struct ap_modules *modules);

size_t ap_modules_cnt(const struct ap_modules *modules);
/* Owned by the table; stable. `id` < cnt. */
struct ap_module *ap_modules_get(const struct ap_modules *modules, uint32_t id);

/* Module of a file that process `pid` maps, made and pinned on first sight: through /proc/PID/map_files (the
 * very file, even deleted), else by its path below `root_fd` (-1 = our own root) when device and inode agree.
 * A file that is not ELF, and anonymous memory, become the JIT module of the process. One that was let go is pinned
 * again when it is still the same by its build id (without one, by size and time of change); what else has got its
 * inode is a new module. Never fails: past the bounds the id of "budget". */
uint32_t ap_modules_file(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd,
                         const struct ap_mapped_file *file);

/* Counts the mappings of a module in the process table: one more, one less. */
void ap_modules_mapped(struct ap_modules *modules, uint32_t id);
void ap_modules_unmapped(struct ap_modules *modules, uint32_t id);

/* The next pinned file that no process has mapped for AP_MODULE_IDLE_NS at monotonic time `now_ns`, from *pos (0 at
 * first) on, which advances. False at the end. The vDSO, which is no file, is left out. */
bool ap_modules_next_idle(const struct ap_modules *modules, uint64_t now_ns, uint32_t *pos, uint32_t *ret_id);

/* Lets a pinned file go: descriptor, unwind table and segments. Its places have the names that were found before, those
 * of later ones the reason "file_gone". */
void ap_modules_release(struct ap_modules *modules, uint32_t id);

/* Files pinned now, the vDSO not included. */
size_t ap_modules_pins(const struct ap_modules *modules);

/* The JIT module of a process, made on first use. */
uint32_t ap_modules_jit(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd);

/* Number and root of a process, should it have a JIT module: a process may map memory before a sample tells them. */
void ap_modules_know_jit(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd);

/* The process ended: reads its perf map while it can be found, and starts a new module should the number
 * return. Nothing of the process is held after that. */
void ap_modules_end_jit(struct ap_modules *modules, uint32_t pid);

/* Reads /tmp/perf-PID.map of a JIT module's process (inside its own mount namespace, with its own number, as
 * the runtime wrote it) unless that was done before. */
void ap_module_read_perfmap(struct ap_module *module);

/* Reads it again, for code that was made since, unless that was done lately: reading takes at most a hundredth of the
 * time. True when it was read. */
#define AP_PERFMAP_PAUSE_NS 10000000000ULL
bool ap_module_refresh_perfmap(struct ap_module *module);

/* Memory of all unwind tables together; files met past it have none until others are let go. */
#define AP_MODULES_UNWIND_SZ_MAX (64u << 20)

/* Unwind information of a module, read on first use; NULL when it has none. Valid until the module is let go. */
const struct ap_unwind_table *ap_module_unwind(struct ap_modules *modules, struct ap_module *module);

/* Time that reading unwind information takes in one drain of the ring buffers, which fill meanwhile. Stacks of files
 * that it was too short for are as the kernel walked them until the next drain. */
#define AP_MODULES_UNWIND_DRAIN_NS 20000000ULL
/* A drain begins. */
void ap_modules_begin_drain(struct ap_modules *modules);

/* Segments of a module's file, read on first use; NULL when it is no sound ELF file. Likewise. */
const struct ap_elf_loads *ap_module_loads(struct ap_module *module);

/* Opens a file below a directory without leaving it (openat2 RESOLVE_IN_ROOT); `root_fd` -1 = our own root.
 * Regular files only. Descriptor or negative errno. */
int ap_open_in_root(int root_fd, const char *path);

#endif
