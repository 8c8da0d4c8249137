/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Latency histogram: log-linear buckets (abi/histogram.h), only the span that is used kept in memory. */
#ifndef APERTURE_MODEL_HISTOGRAM_H
#define APERTURE_MODEL_HISTOGRAM_H

#include "abi/histogram.h"

#include <stdint.h>

/* Zero-initialised is empty. */
struct ap_histogram {
    uint64_t *counts; /* owned: of buckets first .. first + cnt - 1 */
    uint16_t first, cnt;
};

void ap_histogram_done(struct ap_histogram *histogram);

/* Adds `n` values of `bucket` (at most AP_HISTOGRAM_BUCKETS - 1). 0, -EINVAL or -ENOMEM (nothing is added then). */
int ap_histogram_add(struct ap_histogram *histogram, uint32_t bucket, uint64_t n);

/* Adds all of `from`. 0 or -ENOMEM (nothing is added then). */
int ap_histogram_merge(struct ap_histogram *histogram, const struct ap_histogram *from);

/* Values in the bucket. */
uint64_t ap_histogram_count(const struct ap_histogram *histogram, uint32_t bucket);
uint64_t ap_histogram_total(const struct ap_histogram *histogram);

/* The value that a share `q` (0..1) of all values does not exceed, ns: the middle of its bucket and so at most 12.5 %
 * of it away (below AP_HISTOGRAM_LIMIT), never above `max`, the largest value of all, which is answered for q = 1. 0
 * when empty. */
uint64_t ap_histogram_quantile(const struct ap_histogram *histogram, double q, uint64_t max);

#endif
