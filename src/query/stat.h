/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Whether two shares differ by more than their own unsteadiness. The reasons are in query/diff.h. */
#ifndef APERTURE_QUERY_STAT_H
#define APERTURE_QUERY_STAT_H

#include <stdbool.h>
#include <stddef.h>

/* Parts that a side is cut into, and the fewest from which its unsteadiness can be told. */
#define AP_STAT_PARTS     16
#define AP_STAT_PARTS_MIN 8

/* One side of a comparison: what a function took and what everything took, in each part, and events behind both in all
 * parts together. */
struct ap_stat_side {
    const double *part, *whole; /* `cnt` of each, value */
    unsigned cnt;               /* 0..AP_STAT_PARTS */
    double part_events, whole_events;
};

/* Two-sided probability that shares differ this much, or more, when nothing changed. 1 when a side has fewer than
 * AP_STAT_PARTS_MIN parts or no value. */
double ap_stat_compare(const struct ap_stat_side *before, const struct ap_stat_side *after);

/* Two-sided tail of Student's t distribution: P(|T| >= t) with `df` > 0 degrees of freedom. */
double ap_stat_student(double t, double df);

/* Benjamini and Hochberg: the largest of the p-values (sorted here, ascending) at which all up to it may be called
 * significant at `level`; -1 when none may. `cnt` tests were made in all. */
double ap_stat_threshold(double *p_values, size_t cnt, double level);

#endif
