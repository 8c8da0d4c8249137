/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* perf events: one per online CPU, kept in step with CPUs that come and go. */
#ifndef APERTURE_AGENT_PERF_H
#define APERTURE_AGENT_PERF_H

#include "agent/cpus.h"

#include <linux/perf_event.h>
#include <stdint.h>

struct ap_perf_cpu {
    int fd;         /* -1 = none */
    void *ring;     /* mapped control page and data pages, NULL without */
    uint64_t value; /* count and enabled time at the last refresh */
    uint64_t enabled;
    uint64_t closed_value; /* counted by events of this CPU that are closed by now */
};

struct ap_perf_cpus {
    struct ap_perf_cpu *cpus; /* by CPU number */
    size_t end;               /* entries */
    size_t ring_sz;           /* bytes mapped per event, 0 = no ring */
};

/* perf_event_open(2), close-on-exec. File descriptor or negative errno. */
int ap_perf_open(struct perf_event_attr *attr, int pid, int cpu);

/* Empty set. `ring_pages`: data pages (a power of two) of the ring that each event gets, 0 = none. */
void ap_perf_cpus_init(struct ap_perf_cpus *set, size_t ring_pages);
void ap_perf_cpus_done(struct ap_perf_cpus *set);

/* Opens the event on every CPU of `cpus` (one that went offline meanwhile is left out) and, with `prog_fd` >=
 * 0, lets that BPF program handle its overflows. Events opened (at least 1), or negative errno. */
int ap_perf_cpus_open(struct ap_perf_cpus *set, const struct perf_event_attr *attr, const struct ap_cpus *cpus,
                      int prog_fd);

/* Closes events of CPUs that went away (keeping what they counted) and opens new ones; an event whose clock
 * stands still while it is on (its CPU went and came back) is opened anew. Drain the rings first. Changes
 * made. */
int ap_perf_cpus_refresh(struct ap_perf_cpus *set, const struct perf_event_attr *attr, int prog_fd);

/* 0 or the first negative errno. */
int ap_perf_cpus_enable(const struct ap_perf_cpus *set);
void ap_perf_cpus_disable(const struct ap_perf_cpus *set);

/* Open events. */
uint32_t ap_perf_cpus_cnt(const struct ap_perf_cpus *set);

/* Whole periods of `period` that passed on one CPU's event, those before it was opened anew included. */
uint64_t ap_perf_cpus_periods(const struct ap_perf_cpus *set, size_t cpu, uint64_t period);

#endif
