/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What happens to processes (fork, exec, exit, new executable mappings), from the kernel's perf side-band
 * records: the same on every kernel we support, written by the task itself before it runs what it mapped. */
#ifndef APERTURE_AGENT_SIDEBAND_H
#define APERTURE_AGENT_SIDEBAND_H

#include "core/error.h"

#include <linux/perf_event.h>
#include <stddef.h>
#include <stdint.h>

enum ap_process_event_type {
    AP_PROCESS_FORK = 1, /* new process `pid`, child of `ppid` (threads are not reported) */
    AP_PROCESS_EXEC = 2, /* new program: mappings start from nothing */
    AP_PROCESS_EXIT = 3, /* the process's first thread ended */
    AP_PROCESS_MMAP = 4, /* new executable mapping */
};

struct ap_process_event {
    uint64_t time_ns;              /* CLOCK_MONOTONIC */
    uint8_t type;                  /* enum ap_process_event_type */
    uint32_t pid, ppid;            /* in the agent's pid namespace */
    uint64_t start, end;           /* MMAP: addresses */
    uint64_t file_off;             /* MMAP: offset in the file */
    uint32_t dev_major, dev_minor; /* MMAP: of the file; with `inode` 0 the memory is anonymous */
    uint64_t inode;
    const char *path; /* MMAP: as the process sees it; "[vdso]", "//anon"; valid during the call */
};

struct ap_sideband; /* opaque */

/* Most memory for all rings together, and the least and most per CPU (data pages of 4 KiB). */
#define AP_SIDEBAND_RINGS_SZ  (16u << 20)
#define AP_SIDEBAND_PAGES_MIN 4
#define AP_SIDEBAND_PAGES_MAX 128

/* Opens and starts the records on every online CPU. NULL with words on failure. */
struct ap_sideband *ap_sideband_new(struct ap_error *err);

/* Accepts NULL. Returns NULL. */
struct ap_sideband *ap_sideband_free(struct ap_sideband *sideband);

typedef void (*ap_sideband_fn)(void *ctx, const struct ap_process_event *event);

/* Hands over every waiting record, CPU after CPU (in time order within one CPU only). */
void ap_sideband_drain(struct ap_sideband *sideband, ap_sideband_fn fn, void *ctx);

/* Follows CPUs that come and go; call after a drain. */
void ap_sideband_refresh_cpus(struct ap_sideband *sideband);

/* Adds every ring's descriptor to an epoll set: readable when a ring is half full. 0 or negative errno. */
int ap_sideband_watch(const struct ap_sideband *sideband, int epoll_fd);

/* Records that the kernel could not write, and records that made no sense. */
uint64_t ap_sideband_lost(const struct ap_sideband *sideband);

/* Decodes one perf record of `len` bytes (header included). 1 with *ret_event set, 0 for a record of no
 * interest, -EINVAL when its sizes do not fit; *ret_lost grows by what a LOST record names. Strings point
 * into `record`. */
int ap_sideband_decode(const void *record, size_t len, struct ap_process_event *ret_event, uint64_t *ret_lost);

#endif
