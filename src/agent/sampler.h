/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The CPU sampler: its BPF object, one perf event per online CPU, and the ring buffer they fill. */
#ifndef APERTURE_AGENT_SAMPLER_H
#define APERTURE_AGENT_SAMPLER_H

#include "abi/record.h"
#include "core/error.h"
#include "core/out.h"

#include <stddef.h>
#include <stdint.h>

enum ap_sampler_event {
    AP_EVENT_CPU_CLOCK = 0, /* software timer: everywhere */
    AP_EVENT_CYCLES = 1,    /* hardware counter */
};

struct ap_sampler_opts {
    enum ap_sampler_event event;
    uint64_t frequency;   /* samples per second and CPU */
    const uint32_t *pids; /* processes in scope with their descendants, as the agent numbers them */
    size_t pid_cnt;       /* 0 = all */
    const char *cgroup;   /* directory of a v2 cgroup, or NULL */
    const char *const *comms;
    size_t comm_cnt; /* at most AP_COMM_FILTERS_MAX, 0 = all */
};

struct ap_sampler_counts {
    uint64_t counters[AP_COUNTER_CNT]; /* summed over CPUs */
    uint64_t missed;                   /* ticks in scope that did not come (account.h); exact once stopped */
};

struct ap_sampler; /* opaque */

/* Loads the BPF object and opens the events, switched off. On failure NULL with words that say what to do:
 * missing capability, no BTF, rate over the kernel's limit, no such cgroup, no hardware counter. */
struct ap_sampler *ap_sampler_new(const struct ap_sampler_opts *opts, struct ap_error *err);

/* Accepts NULL. Returns NULL. */
struct ap_sampler *ap_sampler_free(struct ap_sampler *sampler);

/* Switches sampling on or off on all CPUs. 0 or negative errno. */
int ap_sampler_start(struct ap_sampler *sampler, struct ap_error *err);
void ap_sampler_stop(struct ap_sampler *sampler);

/* Takes CPUs that came online since into the capture. Number of CPUs that changed. */
int ap_sampler_refresh_cpus(struct ap_sampler *sampler);

/* CPUs sampled at this moment. */
uint32_t ap_sampler_cpu_cnt(const struct ap_sampler *sampler);

/* Becomes readable when the ring buffer wants to be drained. */
int ap_sampler_fd(const struct ap_sampler *sampler);

/* Called per record; `len` bytes are valid during the call only. Negative stops the drain (the record is
 * consumed). */
typedef int (*ap_sampler_fn)(void *ctx, const void *record, size_t len);

/* Hands every waiting record to `fn`. 0, or what `fn` returned. */
int ap_sampler_drain(struct ap_sampler *sampler, ap_sampler_fn fn, void *ctx);

/* Reads all counters. Exact once stopped. */
void ap_sampler_counts(struct ap_sampler *sampler, struct ap_sampler_counts *ret_counts);

/* Memory of maps and programs as the kernel accounts it, bytes. */
uint64_t ap_sampler_memory(const struct ap_sampler *sampler);

/* Loads every program in each variant and writes a line for each: "ok NAME", "unavailable NAME: needs ... (Linux X.Y)"
 * when this kernel is too old for it, or "failed NAME: reason". Number of failed ones. */
int ap_sampler_self_test(struct ap_out *out);

#endif
