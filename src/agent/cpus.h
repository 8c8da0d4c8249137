/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The machine's CPUs as the kernel lists them. */
#ifndef APERTURE_AGENT_CPUS_H
#define APERTURE_AGENT_CPUS_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Highest CPU number handled, plus one: CONFIG_NR_CPUS is at most 8192 on the architectures we build for. */
#define AP_CPUS_MAX 8192

struct ap_cpus {
    size_t cnt; /* CPUs in the set */
    size_t end; /* highest number in it, plus one */
    bool has[AP_CPUS_MAX];
};

/* Parses a kernel CPU list ("0-3,8,10-11\n"). 0, or -EINVAL for anything else. */
int ap_cpus_parse(const char *list, struct ap_cpus *ret_cpus);

/* CPUs online right now (/sys/devices/system/cpu/online). 0 or negative errno with words. */
int ap_cpus_online(struct ap_cpus *ret_cpus, struct ap_error *err);

/* Idle time of each CPU since boot as /proc/stat has it (idle and iowait), in ns. */
struct ap_cpus_idle {
    bool has[AP_CPUS_MAX];
    uint64_t idle_ns[AP_CPUS_MAX];
};

/* Resolution of those times: USER_HZ is 100 on every architecture we build for (include/asm-generic/param.h). */
#define AP_CPUS_IDLE_RESOLUTION_NS 10000000ULL

/* Parses one line of /proc/stat. True when it was one CPU's. */
bool ap_cpus_idle_line(const char *line, struct ap_cpus_idle *idle);

/* Reads all of them; CPUs that are offline have no entry. 0 or negative errno. */
int ap_cpus_idle(struct ap_cpus_idle *ret_idle);

#endif
