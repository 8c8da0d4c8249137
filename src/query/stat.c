/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/stat.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* Shares closer than this are equal: rounding. */
#define SHARE_EPSILON 1e-12

/* Continued fraction of the incomplete beta function by Lentz's method (Press et al., Numerical Recipes, 6.4). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0), h;

    if (fabs(d) < DBL_MIN)
        d = DBL_MIN;
    h = d = 1.0 / d;
    for (int m = 1; m <= 300; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step;

        for (int half = 0; half < 2; half++) {
            double term = half == 0 ? even : odd;

            d = 1.0 + term * d;
            c = 1.0 + term / c;
            if (fabs(d) < DBL_MIN)
                d = DBL_MIN;
            if (fabs(c) < DBL_MIN)
                c = DBL_MIN;
            d = 1.0 / d;
            step = d * c;
            h *= step;
        }
        if (fabs(step - 1.0) < 1e-14)
            break;
    }
    return h;
}

/* Regularised incomplete beta function I_x(a, b). */
static double incomplete_beta(double a, double b, double x)
{
    if (!(x > 0.0))
        return 0.0;
    if (x >= 1.0)
        return 1.0;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    /* The fraction converges quickly on one side of the mean only. */
    if (x < (a + 1.0) / (a + b + 2.0))
        return front * beta_fraction(a, b, x) / a;
    return 1.0 - front * beta_fraction(b, a, 1.0 - x) / b;
}

double ap_stat_student(double t, double df)
{
    if (!(df > 0.0) || isnan(t))
        return 1.0;
    if (isinf(t))
        return 0.0;
    return incomplete_beta(df / 2.0, 0.5, df / (df + t * t));
}

struct sums {
    double part, whole;
};

static struct sums sum(const struct ap_stat_side *side)
{
    struct sums s = {0};

    for (unsigned i = 0; i < side->cnt; i++) {
        s.part += side->part[i];
        s.whole += side->whole[i];
    }
    return s;
}

/* Variance of the share by what it did from part to part, `merge` of which are taken as one: the ratio estimator for
 * clusters (Cochran, Sampling Techniques, 3rd ed., 6.3), each residual freed of what its own part did to the share
 * (MacKinnon and White's HC2), so that parts may differ in size. */
static double observed_variance(const struct ap_stat_side *side, struct sums s, unsigned merge)
{
    double share = s.part / s.whole, squares = 0.0;

    for (unsigned i = 0; i < side->cnt; i += merge) {
        double residual = 0.0, weight = 0.0;

        for (unsigned j = i; j < i + merge && j < side->cnt; j++) {
            residual += side->part[j] - share * side->whole[j];
            weight += side->whole[j] / s.whole;
        }
        if (weight < 1.0)
            squares += residual * residual / (1.0 - weight);
    }
    return squares / (s.whole * s.whole);
}

/* Degrees of freedom of that: one less than the number of parts, and fewer when some outweigh the others. */
static double freedom(const struct ap_stat_side *side, struct sums s)
{
    double squares = 0.0;

    for (unsigned i = 0; i < side->cnt; i++)
        squares += side->whole[i] / s.whole * (side->whole[i] / s.whole);
    return 1.0 / squares - 1.0;
}

/* Variance that the share has at least, by the number of events: that of independent events, each with the mean value
 * of its group. With equal values it is p (1 - p) / n. Taken from both sides together, as if nothing had changed. */
static double least_variance(const struct ap_stat_side *side, struct sums s, const struct ap_stat_side *other,
                             struct sums t)
{
    double events = side->whole_events + other->whole_events, part_events = side->part_events + other->part_events;
    double rest_events = events - part_events;
    double value = s.whole + t.whole, part = s.part + t.part, share = part / value;
    double inside = part_events > 0.0 ? part / part_events : 0.0;
    double outside = rest_events > 0.0 ? (value - part) / rest_events : 0.0;
    double here = side->whole_events / events;

    return here *
           (part_events * inside * inside * (1.0 - share) * (1.0 - share) +
            rest_events * outside * outside * share * share) /
           (s.whole * s.whole);
}

/* The largest of the variances that parts show, and parts two and four times as long: bursts that reach over boundaries
 * make neighbours alike, and single parts steadier than they are. */
static double side_variance(const struct ap_stat_side *side, struct sums s)
{
    return fmax(fmax(observed_variance(side, s, 1), observed_variance(side, s, 2)), observed_variance(side, s, 4));
}

double ap_stat_compare(const struct ap_stat_side *before, const struct ap_stat_side *after)
{
    struct sums b = sum(before), a = sum(after);
    double least_b, least_a, vb, va, db, da, change, dispersion;

    if (before->cnt < AP_STAT_PARTS_MIN || after->cnt < AP_STAT_PARTS_MIN || !(b.whole > 0.0) || !(a.whole > 0.0) ||
        !(before->whole_events > 0.0) || !(after->whole_events > 0.0))
        return 1.0;
    least_b = least_variance(before, b, after, a);
    least_a = least_variance(after, a, before, b);
    change = a.part / a.whole - b.part / b.whole;
    if (fabs(change) < SHARE_EPSILON || !(least_b > 0.0) || !(least_a > 0.0))
        return 1.0;
    db = freedom(before, b);
    da = freedom(after, a);
    if (!(db > 0.0) || !(da > 0.0))
        return 1.0;
    vb = side_variance(before, b);
    va = side_variance(after, a);
    /* How much less steady it is than independent events, by both sides together: a side in which a rare burst did not
     * come would take itself for steady. */
    dispersion = (vb / least_b * before->whole_events + va / least_a * after->whole_events) /
                 (before->whole_events + after->whole_events);
    dispersion = fmax(dispersion, 1.0);
    vb = fmax(vb, dispersion * least_b);
    va = fmax(va, dispersion * least_a);
    /* Welch, with Satterthwaite's degrees of freedom */
    return ap_stat_student(change / sqrt(va + vb), (va + vb) * (va + vb) / (vb * vb / db + va * va / da));
}

static int compare_doubles(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;

    return a < b ? -1 : a > b;
}

double ap_stat_threshold(double *p_values, size_t cnt, double level)
{
    double threshold = -1.0;

    if (cnt > 1)
        qsort(p_values, cnt, sizeof(*p_values), compare_doubles);
    for (size_t i = 0; i < cnt; i++)
        if (p_values[i] <= level * (double)(i + 1) / (double)cnt)
            threshold = p_values[i];
    return threshold;
}
