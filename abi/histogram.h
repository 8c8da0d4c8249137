/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Buckets of the log-linear latency histogram (DESIGN 5), the same in BPF programs and in user space: values 0..3
 * have a bucket each, every octave above is cut into four equal parts. A bucket is at most a quarter of its lower
 * bound wide, so that its middle is at most 12.5 % away from any value in it. */
#ifndef APERTURE_ABI_HISTOGRAM_H
#define APERTURE_ABI_HISTOGRAM_H

#include <linux/types.h>

#define AP_HISTOGRAM_BUCKETS 160
/* From here on everything falls into the last bucket: 2^41 ns, over half an hour. */
#define AP_HISTOGRAM_LIMIT (1ULL << 41)

/* Bucket of a value (ns), 0..AP_HISTOGRAM_BUCKETS-1. BPF has no instruction for the highest bit, hence by halves. */
static inline __attribute__((always_inline)) __u32 ap_histogram_bucket(__u64 value)
{
    __u32 octave = 0;
    __u64 rest = value;

    if (value < 4)
        return (__u32)value;
    if (value >= AP_HISTOGRAM_LIMIT)
        return AP_HISTOGRAM_BUCKETS - 1;
    if (rest >> 32) {
        octave += 32;
        rest >>= 32;
    }
    if (rest >> 16) {
        octave += 16;
        rest >>= 16;
    }
    if (rest >> 8) {
        octave += 8;
        rest >>= 8;
    }
    if (rest >> 4) {
        octave += 4;
        rest >>= 4;
    }
    if (rest >> 2) {
        octave += 2;
        rest >>= 2;
    }
    octave += rest >> 1;
    return 4 + (octave - 2) * 4 + (__u32)((value >> (octave - 2)) & 3);
}

/* Smallest value of a bucket. */
static inline __u64 ap_histogram_lower(__u32 bucket)
{
    return bucket < 4 ? bucket : (4ULL + (bucket & 3)) << (bucket / 4 - 1);
}

/* Largest value of a bucket; the last one has no end, its nominal one is given. */
static inline __u64 ap_histogram_upper(__u32 bucket)
{
    return ap_histogram_lower(bucket + 1) - 1;
}

#endif
