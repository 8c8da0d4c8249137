/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The arithmetic of docs/accounting.md: which sampling ticks did not come although something in scope was running. */
#ifndef APERTURE_AGENT_ACCOUNT_H
#define APERTURE_AGENT_ACCOUNT_H

#include <stddef.h>
#include <stdint.h>

/* One CPU over the whole recording. */
struct ap_cpu_ticks {
    uint64_t periods;      /* whole periods that passed on the event's clock */
    uint64_t fired;        /* runs of the sampler */
    uint64_t idle;         /* of those: found the CPU idle */
    uint64_t out_of_scope; /* of those: met a task that is excluded */
    uint64_t idle_ns;      /* idle time by the kernel's own statistics, a multiple of `resolution_ns` */
};

/* Ticks that were missed while the CPUs ran something in scope, summed. A CPU that sleeps may get no ticks at all: of
 * the periods without a tick, those that fit into the CPU's idle time are no loss. What is left cannot tell whether it
 * was in scope, so it counts by the share of the busy ticks that came (all CPUs together when this one had none). */
uint64_t ap_account_missed(const struct ap_cpu_ticks *cpus, size_t cnt, uint64_t period_ns, uint64_t resolution_ns);

#endif
