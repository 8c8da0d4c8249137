/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Besides the arithmetic: how often the comparison of two halves of a steady run names a function that did not change,
 * and how well it finds one that did, on generated loads. */
#include "query/stat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * fabs(b);
}

/* Two-sided probabilities from tables of Student's t, and by R's 2 * pt(-t, df). */
static void test_student(void **state)
{
    (void)state;
    assert_true(near(ap_stat_student(12.7062, 1), 0.05, 1e-4));
    assert_true(near(ap_stat_student(2.2281, 10), 0.05, 1e-4));
    assert_true(near(ap_stat_student(-2.2281, 10), 0.05, 1e-4));
    assert_true(near(ap_stat_student(2.7500, 30), 0.01, 1e-3));
    assert_true(near(ap_stat_student(3.6460, 30), 0.001, 1e-3));
    assert_true(near(ap_stat_student(1.9600, 1e7), 0.05, 1e-3));
    assert_true(near(ap_stat_student(6, 1e7), 1.973e-9, 1e-2)); /* the normal distribution */
    assert_true(near(ap_stat_student(0, 5), 1, 1e-12));
    assert_true(ap_stat_student(1, 0) == 1.0);
    assert_true(ap_stat_student(NAN, 5) == 1.0);
    assert_true(ap_stat_student(INFINITY, 5) == 0.0);
    assert_true(ap_stat_student(1e6, 30) < 1e-100);
}

static void test_threshold(void **state)
{
    double p[] = {0.5, 0.01, 0.02, 0.003, 0.9};

    (void)state;
    /* 0.003 <= 0.05 / 5, 0.01 <= 0.1 / 5, 0.02 <= 0.15 / 5, 0.5 > 0.2 / 5 */
    assert_true(ap_stat_threshold(p, 5, 0.05) == 0.02);
    assert_true(ap_stat_threshold(p, 5, 0.01) == -1.0);
    assert_true(ap_stat_threshold(NULL, 0, 0.05) == -1.0);
    assert_true(ap_stat_threshold((double[]){0.04}, 1, 0.05) == 0.04);
}

/* What cannot be told is no change. */
static void test_unknown(void **state)
{
    double part[16], whole[16], none[16] = {0}, lumps[16] = {0};
    struct ap_stat_side a = {part, whole, 16, 1600, 16000}, b = {none, whole, 16, 0, 16000};

    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        part[i] = 100;
        whole[i] = 1000;
    }
    assert_true(ap_stat_compare(&a, &a) == 1.0);
    assert_true(ap_stat_compare(&a, &b) < 1e-9);
    assert_true(ap_stat_compare(&b, &a) < 1e-9);
    assert_true(ap_stat_compare(&b, &b) == 1.0);
    a.cnt = AP_STAT_PARTS_MIN;
    assert_true(ap_stat_compare(&a, &b) < 1e-6);
    a.cnt = AP_STAT_PARTS_MIN - 1; /* too few parts */
    assert_true(ap_stat_compare(&a, &b) == 1.0);
    a.cnt = 0;
    assert_true(ap_stat_compare(&a, &b) == 1.0);
    a.cnt = 16;
    a.whole = none; /* nothing at all */
    assert_true(ap_stat_compare(&a, &b) == 1.0);
    /* nearly everything in one part: that is one observation, however many samples it has */
    lumps[3] = 1e6;
    for (unsigned i = 0; i < 16; i++)
        lumps[i] += 1;
    part[3] = 5e5;
    a = (struct ap_stat_side){part, lumps, 16, 500000, 1000016};
    assert_true(ap_stat_compare(&a, &b) > 0.01);
}

/* ---- Generated loads ---- */

#define FUNCTIONS 300

struct load {
    const char *name;
    double seconds[2]; /* lengths of the two sides */
    double burst_s;    /* mean time that one function runs at a stretch; 0 = each sample by itself */
    bool heavy;        /* lengths of bursts by Pareto (1.5) instead of exponential */
    double hz;         /* samples a second */
    double idle;       /* share of time in which nothing runs */
    enum { CONSTANT, LOGNORMAL, PARETO } value;
    double boost; /* of function 3 on the second side */
};

struct result {
    double tests, low, diffs, alarmed, found; /* low: p < 0.01; alarmed: diffs that name a function without change */
};

static uint64_t random_state;

static double uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state * 0x2545f4914f6cdd1dULL >> 11) / 9007199254740992.0;
}

static double exponential(double mean)
{
    return -mean * log(1 - uniform());
}

static double value_of(const struct load *load)
{
    if (load->value == LOGNORMAL) /* sigma 2: the largest of a thousand is half of them all */
        return exp(2 * sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()));
    return load->value == PARETO ? pow(1 - uniform(), -1 / 1.3) : 1; /* 1.3: without variance */
}

struct half {
    double part[FUNCTIONS][AP_STAT_PARTS], whole[AP_STAT_PARTS], events[FUNCTIONS], all;
};

/* One CPU that runs one function after another, of shares 1, 1/2, 1/3 ..., and is sampled. */
static void generate(const struct load *load, unsigned side, struct half *half)
{
    double shares[FUNCTIONS], sum = 0, seconds = load->seconds[side], sample = uniform() / load->hz;

    memset(half, 0, sizeof(*half));
    for (unsigned f = 0; f < FUNCTIONS; f++)
        shares[f] = sum += 1.0 / (f + 1) * (f == 3 && side == 1 ? 1 + load->boost : 1);
    for (double t = 0; t < seconds;) {
        double length = load->burst_s == 0 ? 1 / load->hz
                        : load->heavy      ? load->burst_s / 3 * pow(1 - uniform(), -1 / 1.5)
                                           : exponential(load->burst_s);
        double at = uniform() * sum;
        bool idle = uniform() < load->idle;
        unsigned f = 0;

        for (unsigned high = FUNCTIONS - 1; f < high;) {
            unsigned middle = (f + high) / 2;

            if (shares[middle] < at)
                f = middle + 1;
            else
                high = middle;
        }
        for (; sample < t + length && sample < seconds;
             sample += load->value == CONSTANT ? 1 / load->hz : exponential(1 / load->hz)) {
            unsigned part = (unsigned)(sample / seconds * AP_STAT_PARTS);
            double value = value_of(load);

            if (idle)
                continue;
            half->part[f][part] += value;
            half->whole[part] += value;
            half->events[f]++;
            half->all++;
        }
        t += length;
    }
}

static struct result run(const struct load *load, unsigned runs, uint64_t seed)
{
    struct half *halves = calloc(2, sizeof(*halves));
    struct result result = {.diffs = runs};

    assert_non_null(halves);
    random_state = seed * 0x9e3779b97f4a7c15ULL + 1;
    for (unsigned i = 0; i < runs; i++) {
        double p[FUNCTIONS], sorted[FUNCTIONS], threshold;
        unsigned id[FUNCTIONS], cnt = 0;
        bool alarmed = false;

        generate(load, 0, &halves[0]);
        generate(load, 1, &halves[1]);
        for (unsigned f = 0; f < FUNCTIONS; f++) {
            struct ap_stat_side sides[2];

            if (halves[0].events[f] + halves[1].events[f] < 12)
                continue;
            for (unsigned s = 0; s < 2; s++)
                sides[s] = (struct ap_stat_side){halves[s].part[f], halves[s].whole, AP_STAT_PARTS, halves[s].events[f],
                                                 halves[s].all};
            id[cnt] = f;
            sorted[cnt] = p[cnt] = ap_stat_compare(&sides[0], &sides[1]);
            result.low += p[cnt++] < 0.01;
        }
        result.tests += cnt;
        threshold = ap_stat_threshold(sorted, cnt, 0.01);
        for (unsigned f = 0; f < cnt; f++) {
            if (p[f] > threshold)
                continue;
            if (load->boost > 0 && id[f] == 3)
                result.found++;
            else
                alarmed = true;
        }
        result.alarmed += alarmed;
    }
    free(halves);
    printf("  %-44s %5.0f diffs: p < 0.01 in %.3f %% of %.0f tests, %.2f %% of diffs alarmed, found %.1f %%\n",
           load->name, result.diffs, 100 * result.low / result.tests, result.tests, 100 * result.alarmed / result.diffs,
           100 * result.found / result.diffs);
    return result;
}

static void test_false_alarms(void **state)
{
    static const struct load loads[] = {
        {.name = "independent samples, 5 min", .seconds = {300, 300}, .hz = 99},
        {.name = "bursts of 50 ms, 2 min, 30 % idle", .seconds = {120, 120}, .burst_s = 0.05, .hz = 198, .idle = 0.3},
        {.name = "bursts of 200 ms, 10 min", .seconds = {600, 600}, .burst_s = 0.2, .hz = 99},
        {.name = "bursts of 2 s, 5 min", .seconds = {300, 300}, .burst_s = 2, .hz = 99},
        {.name = "bursts of 20 s, 30 min", .seconds = {1800, 1800}, .burst_s = 20, .hz = 20},
        {.name = "heavy-tailed bursts, 10 min, half idle",
         .seconds = {600, 600},
         .burst_s = 0.2,
         .heavy = true,
         .hz = 99,
         .idle = 0.5},
        {.name = "bursts of 200 ms, 10 min to 2 min", .seconds = {600, 120}, .burst_s = 0.2, .hz = 99},
        {.name = "bursts of 2 s, 2 min to 30 min", .seconds = {120, 1800}, .burst_s = 2, .hz = 20},
        {.name = "lognormal waits, 5 min", .seconds = {300, 300}, .hz = 50, .value = LOGNORMAL},
        {.name = "Pareto waits, 5 min", .seconds = {300, 300}, .hz = 50, .value = PARETO},
        {.name = "Pareto waits in bursts, 20 min to 2 min",
         .seconds = {1200, 120},
         .burst_s = 0.2,
         .hz = 50,
         .value = PARETO},
    };
    double tests = 0, low = 0, diffs = 0, alarmed = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        struct result result = run(&loads[i], 100, i + 1);

        assert_true(result.low / result.tests < 0.01);
        assert_true(result.alarmed / result.diffs <= 0.02); /* of 100; the rate over all is what counts */
        tests += result.tests;
        low += result.low;
        diffs += result.diffs;
        alarmed += result.alarmed;
    }
    printf("  together: p < 0.01 in %.3f %% of %.0f tests, %.2f %% of %.0f diffs alarmed\n", 100 * low / tests, tests,
           100 * alarmed / diffs, diffs);
    assert_true(low / tests < 0.01);
    assert_true(alarmed / diffs < 0.01);
}

/* Function 3 has 4 % of all time: boosts of 25 % and 12 % move one point, and half of one. */
static void test_power(void **state)
{
    static const struct load loads[] = {
        {.name = "4 % to 5 %, independent, 10 min", .seconds = {600, 600}, .hz = 99, .boost = 0.27},
        {.name = "4 % to 4.5 %, independent, 30 min", .seconds = {1800, 1800}, .hz = 99, .boost = 0.13},
        {.name = "4 % to 8 %, bursts of 50 ms, 10 min", .seconds = {600, 600}, .burst_s = 0.05, .hz = 99, .boost = 1.0},
        {.name = "4 % to 8 %, lognormal waits, 30 min",
         .seconds = {1800, 1800},
         .hz = 99,
         .value = LOGNORMAL,
         .boost = 1.0},
    };
    static const double least[] = {0.9, 0.75, 0.9, 0.5};

    (void)state;
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        struct result result = run(&loads[i], 50, 100 + i);

        assert_true(result.found / result.diffs >= least[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_student),      cmocka_unit_test(test_threshold), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_false_alarms), cmocka_unit_test(test_power),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
