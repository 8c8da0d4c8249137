/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/histogram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ap_histogram_done(struct ap_histogram *histogram)
{
    free(histogram->counts);
    *histogram = (struct ap_histogram){0};
}

/* Widens the span so that it holds buckets `first` to `last`. 0 or -ENOMEM. */
static int cover(struct ap_histogram *histogram, uint32_t first, uint32_t last)
{
    uint32_t old_first = histogram->first, old_last = histogram->first + (uint32_t)histogram->cnt - 1;
    uint64_t *counts;

    if (histogram->cnt != 0) {
        if (first >= old_first && last <= old_last)
            return 0;
        first = first < old_first ? first : old_first;
        last = last > old_last ? last : old_last;
    }
    counts = calloc((size_t)last - first + 1, sizeof(*counts));
    if (counts == NULL)
        return -ENOMEM;
    if (histogram->cnt != 0)
        memcpy(counts + (old_first - first), histogram->counts, histogram->cnt * sizeof(*counts));
    free(histogram->counts);
    *histogram = (struct ap_histogram){.counts = counts, .first = (uint16_t)first, .cnt = (uint16_t)(last - first + 1)};
    return 0;
}

int ap_histogram_add(struct ap_histogram *histogram, uint32_t bucket, uint64_t n)
{
    int r;

    if (bucket >= AP_HISTOGRAM_BUCKETS)
        return -EINVAL;
    if (n == 0)
        return 0;
    r = cover(histogram, bucket, bucket);
    if (r == 0)
        histogram->counts[bucket - histogram->first] += n;
    return r;
}

int ap_histogram_merge(struct ap_histogram *histogram, const struct ap_histogram *from)
{
    int r;

    if (from->cnt == 0)
        return 0;
    r = cover(histogram, from->first, from->first + (uint32_t)from->cnt - 1);
    if (r != 0)
        return r;
    for (uint32_t i = 0; i < from->cnt; i++)
        histogram->counts[from->first + i - histogram->first] += from->counts[i];
    return 0;
}

uint64_t ap_histogram_count(const struct ap_histogram *histogram, uint32_t bucket)
{
    if (bucket < histogram->first || bucket - histogram->first >= histogram->cnt)
        return 0;
    return histogram->counts[bucket - histogram->first];
}

uint64_t ap_histogram_total(const struct ap_histogram *histogram)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < histogram->cnt; i++)
        total += histogram->counts[i];
    return total;
}

/* What a value of the bucket is taken for. The last bucket has no end of its own: `max` is one. */
static uint64_t middle(uint32_t bucket, uint64_t max)
{
    uint64_t lower = ap_histogram_lower(bucket), upper = ap_histogram_upper(bucket);

    if (bucket == AP_HISTOGRAM_BUCKETS - 1 && max > upper)
        upper = max;
    return lower + (upper - lower) / 2;
}

uint64_t ap_histogram_quantile(const struct ap_histogram *histogram, double q, uint64_t max)
{
    uint64_t total = ap_histogram_total(histogram), seen = 0, rank, value;
    double wanted;

    if (total == 0)
        return 0;
    /* The smallest rank whose values are at least the share; the comparison is false for what is no number. */
    wanted = q > 0.0 ? (q < 1.0 ? q : 1.0) * (double)total : 0.0;
    rank = wanted >= (double)total ? total : (uint64_t)wanted;
    if ((double)rank < wanted || rank == 0)
        rank++;
    if (rank >= total) /* the largest value of all is known exactly */
        return max;
    for (uint32_t i = 0; i < histogram->cnt; i++) {
        seen += histogram->counts[i];
        if (seen >= rank) {
            value = middle(histogram->first + i, max);
            return value < max ? value : max;
        }
    }
    return max;
}
