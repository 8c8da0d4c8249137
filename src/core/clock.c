/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/clock.h"

#include <time.h>

#define OFFSET_READINGS 8

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts = {0};

    (void)clock_gettime(id, &ts); /* cannot fail for the three clocks used here */
    return (uint64_t)ts.tv_sec * AP_NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t ap_clock_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t ap_clock_realtime_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t ap_clock_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t ap_clock_realtime_offset_ns(void)
{
    uint64_t tightest = UINT64_MAX;
    int64_t offset = 0;

    /* A preemption between two readings widens the gap; the narrowest reading has the least error. */
    for (int i = 0; i < OFFSET_READINGS; i++) {
        uint64_t before = ap_clock_monotonic_ns();
        uint64_t real = ap_clock_realtime_ns();
        uint64_t gap = ap_clock_monotonic_ns() - before;

        if (gap < tightest) {
            tightest = gap;
            offset = (int64_t)(real - (before + gap / 2));
        }
    }
    return offset;
}
