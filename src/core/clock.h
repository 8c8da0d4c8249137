/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Clocks, all in ns. */
#ifndef APERTURE_CORE_CLOCK_H
#define APERTURE_CORE_CLOCK_H

#include <stdint.h>

#define AP_NS_PER_SEC 1000000000ULL

uint64_t ap_clock_monotonic_ns(void); /* CLOCK_MONOTONIC: the clock of bpf_ktime_get_ns() */
uint64_t ap_clock_realtime_ns(void);  /* CLOCK_REALTIME: ns since the epoch */
uint64_t ap_clock_cpu_ns(void);       /* CPU time of this process, children not included */

/* CLOCK_REALTIME minus CLOCK_MONOTONIC, measured as the tightest of several readings. */
int64_t ap_clock_realtime_offset_ns(void);

#endif
