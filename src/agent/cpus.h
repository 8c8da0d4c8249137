/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The machine's CPUs as the kernel lists them. */
#ifndef APERTURE_AGENT_CPUS_H
#define APERTURE_AGENT_CPUS_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

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

#endif
