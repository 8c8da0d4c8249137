/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/account.h"

/* Periods without a tick on a busy CPU. */
static uint64_t missed_busy(const struct ap_cpu_ticks *cpu, uint64_t period_ns, uint64_t resolution_ns)
{
    uint64_t missed = cpu->periods > cpu->fired ? cpu->periods - cpu->fired : 0, idle_periods, asleep;

    if (!cpu->idle_ns)
        return missed;
    /* each end of the recording cuts up to one unit off the idle time */
    idle_periods = (cpu->idle_ns + 2 * resolution_ns + period_ns - 1) / period_ns;
    asleep = idle_periods > cpu->idle ? idle_periods - cpu->idle : 0;
    return asleep < missed ? missed - asleep : 0;
}

uint64_t ap_account_missed(const struct ap_cpu_ticks *cpus, size_t cnt, uint64_t period_ns, uint64_t resolution_ns)
{
    uint64_t all_busy = 0, all_in_scope = 0, busy, in_scope;
    double missed = 0;
    size_t i;

    for (i = 0; i < cnt; i++) {
        all_busy += cpus[i].fired - cpus[i].idle;
        all_in_scope += cpus[i].fired - cpus[i].idle - cpus[i].out_of_scope;
    }
    for (i = 0; i < cnt; i++) {
        busy = cpus[i].fired - cpus[i].idle;
        in_scope = busy - cpus[i].out_of_scope;
        if (!busy) {
            busy = all_busy ? all_busy : 1;
            in_scope = all_busy ? all_in_scope : 1;
        }
        missed += (double)missed_busy(&cpus[i], period_ns, resolution_ns) * (double)in_scope / (double)busy;
    }
    return (uint64_t)(missed + 0.5);
}
