/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* One capture: the profiles of a run, what was lost, what could not be named, and what the agent itself cost. */
#ifndef APERTURE_MODEL_CAPTURE_H
#define APERTURE_MODEL_CAPTURE_H

#include "model/profile.h"

#include <stdint.h>

/* Why events that belong to the capture are not in it. Stored: values explicit, never reused. */
enum ap_loss_reason {
    AP_LOSS_RING_FULL = 0,  /* the ring buffer had no room: the agent was too slow */
    AP_LOSS_MISSED = 1,     /* the kernel's sampling timer did not fire in time (throttled, or the host was paused) */
    AP_LOSS_NO_STACK = 2,   /* sample without any frame: delivered as "[no stack]", so not a missing sample */
    AP_LOSS_TABLE_FULL = 3, /* a bound of the profile (stacks, strings, series) was reached */
    AP_LOSS_BAD_RECORD = 4, /* a record from the kernel failed validation */
    AP_LOSS_SIDEBAND = 5,   /* process events lost: some frames may be unresolved; no samples are missing */
    AP_LOSS_NO_SCRATCH = 6, /* two samplers met on one CPU (nested interrupt) and the second had no buffer */
    AP_LOSS_MAP_FULL = 7,   /* a table in the kernel was full */
    AP_LOSS_REASON_CNT = 8,
};

/* "ring_full", "missed" ...: the key in JSON and in metrics. */
const char *ap_loss_name(unsigned reason);
/* One line for people: what it means and what helps. */
const char *ap_loss_help(unsigned reason);
/* True when each count of this reason is one expected sample that was not delivered. */
bool ap_loss_is_sample(unsigned reason);

/* Why frames have no function name. Stored likewise. */
enum ap_unresolved_reason {
    AP_UNRESOLVED_NONE = 0,
    AP_UNRESOLVED_STRIPPED = 1,       /* the file has no symbols for this address */
    AP_UNRESOLVED_FILE_GONE = 2,      /* the file could not be opened any more (deleted, or process and mount gone) */
    AP_UNRESOLVED_PERMISSION = 3,     /* opening the file was refused */
    AP_UNRESOLVED_KPTR = 4,           /* kernel addresses are hidden by kptr_restrict */
    AP_UNRESOLVED_NO_MAPPING = 5,     /* no known mapping contains the address */
    AP_UNRESOLVED_JIT = 6,            /* anonymous executable memory without a perf map entry */
    AP_UNRESOLVED_BAD_FILE = 7,       /* not a valid ELF file, or the symbolizer failed on it */
    AP_UNRESOLVED_PROCESS_GONE = 8,   /* the process ended before its mappings were known */
    AP_UNRESOLVED_NAMESPACE = 9,      /* the process is not visible in the agent's pid namespace */
    AP_UNRESOLVED_BUDGET = 10,        /* a bound of the symbolizer (open files, time, memory) was reached */
    AP_UNRESOLVED_KERNEL_SYMBOL = 11, /* kernel address that /proc/kallsyms does not name */
    AP_UNRESOLVED_REASON_CNT = 12,
};

const char *ap_unresolved_name(unsigned reason); /* "stripped", "file_gone" ... */
const char *ap_unresolved_help(unsigned reason); /* what to do about it, one line */

struct ap_unresolved_row {
    char *module;     /* owned: path, "[kernel]", "//anon" */
    uint8_t reason;   /* enum ap_unresolved_reason */
    uint64_t frames;  /* distinct addresses */
    uint64_t samples; /* samples that contain at least one of them, counted once per frame occurrence */
};

struct ap_agent_info {
    char version[32], host[256], kernel[128], arch[16];
    char event[32];            /* "cpu-clock" or "cycles" */
    uint32_t cpus_online;      /* sampled CPUs */
    uint64_t frequency;        /* samples per second and CPU asked for */
    uint64_t cpu_ns;           /* CPU time of the agent and its symbolizer while it recorded */
    uint64_t other_cpu_ns;     /* CPU time before and after: loading programs, finding names at the end */
    uint64_t bpf_run_ns;       /* time inside its BPF programs, by the kernel's statistics; 0 = not measured */
    uint64_t bpf_run_cnt;      /* program runs behind bpf_run_ns */
    uint64_t rss_peak_bytes;   /* agent, peak */
    uint64_t bpf_memory_bytes; /* maps and programs */
};

#define AP_CAPTURE_PROFILES_MAX   8   /* one per event kind */
#define AP_CAPTURE_UNRESOLVED_MAX 512 /* rows of the diagnosis; what does not fit is summed in the last row */

/* What became of the events of one profile (samples, waits, calls): expected = delivered + sum of losses for which
 * ap_loss_is_sample(). */
struct ap_account {
    uint64_t expected, delivered;
    uint64_t losses[AP_LOSS_REASON_CNT];
    uint64_t idle;         /* cpu: timer periods in which the CPU was idle: neither expected nor lost */
    uint64_t out_of_scope; /* events that --pid, --cgroup or --comm excluded, where they are counted: likewise */
    uint64_t below_min, below_min_ns; /* offcpu: waits under --min-block and their time; likewise */
    uint64_t folded;                  /* delivered, but summed under "other": a bound of a table */
    uint64_t unmatched;               /* begun before the recording: their length is not known; likewise */
};

/* A kind that was asked for and could not be recorded. */
struct ap_left_out {
    uint8_t kind; /* enum ap_event_kind */
    char reason[512];
};

struct ap_capture {
    struct ap_agent_info agent;
    struct ap_profile *profiles[AP_CAPTURE_PROFILES_MAX]; /* owned */
    struct ap_account accounts[AP_CAPTURE_PROFILES_MAX];  /* of the profile of the same index */
    unsigned profile_cnt;
    struct ap_left_out left_out[AP_CAPTURE_PROFILES_MAX];
    unsigned left_out_cnt;
    struct ap_unresolved_row *unresolved; /* owned; by samples, largest first */
    unsigned unresolved_cnt;
    uint64_t frames_total, frames_unresolved; /* frame occurrences over all samples, and those without a name */
};

/* Empty capture. NULL when out of memory. */
struct ap_capture *ap_capture_new(void);
/* Frees with its profiles. Accepts NULL. Returns NULL. */
struct ap_capture *ap_capture_free(struct ap_capture *capture);

/* The account that belongs to `profile` of this capture; NULL when it is none of its profiles. */
const struct ap_account *ap_capture_account(const struct ap_capture *capture, const struct ap_profile *profile);

/* The accounts of all profiles added up. */
struct ap_account ap_capture_total(const struct ap_capture *capture);

/* Sum of the losses that are missing samples. */
uint64_t ap_account_lost(const struct ap_account *account);
/* Adds every number of `from`. */
void ap_account_add(struct ap_account *account, const struct ap_account *from);

/* Counts unresolved frames under (module, reason). Never fails: past the bound or without memory it goes to the row
 * of module "(other)". */
void ap_capture_unresolved(struct ap_capture *capture, const char *module, uint8_t reason, uint64_t frames,
                           uint64_t samples);
/* Orders the rows; call once when all are in. */
void ap_capture_unresolved_sort(struct ap_capture *capture);

#endif
