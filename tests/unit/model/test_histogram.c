/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/histogram.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Every bucket begins where the one before ends, and its ends fall into it. */
static void test_bucket_boundaries(void **state)
{
    (void)state;
    assert_int_equal(ap_histogram_lower(0), 0);
    for (uint32_t i = 0; i < AP_HISTOGRAM_BUCKETS; i++) {
        uint64_t lower = ap_histogram_lower(i), upper = ap_histogram_upper(i);

        assert_int_equal(ap_histogram_bucket(lower), i);
        assert_int_equal(ap_histogram_bucket(upper), i);
        assert_int_equal(ap_histogram_bucket(lower + (upper - lower) / 2), i);
        if (i > 0) {
            assert_int_equal(ap_histogram_upper(i - 1) + 1, lower);
            assert_int_equal(ap_histogram_bucket(lower - 1), i - 1);
        }
        /* An octave has four buckets. */
        if (i >= 4)
            assert_int_equal(upper - lower + 1, 1ULL << (61 - __builtin_clzll(lower)));
    }
    assert_int_equal(ap_histogram_lower(AP_HISTOGRAM_BUCKETS), AP_HISTOGRAM_LIMIT);
    assert_int_equal(ap_histogram_bucket(AP_HISTOGRAM_LIMIT - 1), AP_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(ap_histogram_bucket(AP_HISTOGRAM_LIMIT), AP_HISTOGRAM_BUCKETS - 1);
    assert_int_equal(ap_histogram_bucket(UINT64_MAX), AP_HISTOGRAM_BUCKETS - 1);
}

static void test_any_value_lies_in_its_bucket(void **state)
{
    uint64_t seed = 42;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t value = next_random(&seed) >> (23 + i % 41);
        uint32_t bucket = ap_histogram_bucket(value);

        assert_true(bucket < AP_HISTOGRAM_BUCKETS);
        assert_true(value >= ap_histogram_lower(bucket));
        assert_true(value <= ap_histogram_upper(bucket) || value >= AP_HISTOGRAM_LIMIT);
    }
}

static void test_add_and_count(void **state)
{
    struct ap_histogram h = {0};

    (void)state;
    assert_int_equal(ap_histogram_total(&h), 0);
    assert_int_equal(ap_histogram_quantile(&h, 0.5, 100), 0);
    assert_int_equal(ap_histogram_add(&h, 50, 0), 0);
    assert_null(h.counts); /* nothing to keep */
    assert_int_equal(ap_histogram_add(&h, AP_HISTOGRAM_BUCKETS, 1), -EINVAL);
    assert_int_equal(ap_histogram_add(&h, 50, 3), 0);
    assert_int_equal(h.cnt, 1);
    assert_int_equal(ap_histogram_add(&h, 53, 4), 0); /* to the right */
    assert_int_equal(ap_histogram_add(&h, 48, 5), 0); /* to the left */
    assert_int_equal(ap_histogram_add(&h, 50, 1), 0);
    assert_int_equal(h.first, 48);
    assert_int_equal(h.cnt, 6);
    for (uint32_t i = 0; i < AP_HISTOGRAM_BUCKETS + 5; i++)
        assert_int_equal(ap_histogram_count(&h, i), i == 48 ? 5 : i == 50 ? 4 : i == 53 ? 4 : 0);
    assert_int_equal(ap_histogram_total(&h), 13);
    assert_int_equal(ap_histogram_add(&h, 0, 1), 0);
    assert_int_equal(ap_histogram_add(&h, AP_HISTOGRAM_BUCKETS - 1, 1), 0);
    assert_int_equal(h.cnt, AP_HISTOGRAM_BUCKETS);
    assert_int_equal(ap_histogram_total(&h), 15);
    ap_histogram_done(&h);
    assert_int_equal(ap_histogram_total(&h), 0);
    ap_histogram_done(&h);
}

static void test_merge(void **state)
{
    struct ap_histogram a = {0}, b = {0}, both = {0};
    uint64_t seed = 7;

    (void)state;
    assert_int_equal(ap_histogram_merge(&a, &b), 0);
    assert_int_equal(a.cnt, 0);
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t bucket = (uint32_t)(next_random(&seed) % 60) + (i % 2 == 0 ? 20 : 90);

        assert_int_equal(ap_histogram_add(i % 2 == 0 ? &a : &b, bucket, i), 0);
        assert_int_equal(ap_histogram_add(&both, bucket, i), 0);
    }
    assert_int_equal(ap_histogram_merge(&a, &b), 0);
    for (uint32_t i = 0; i < AP_HISTOGRAM_BUCKETS; i++)
        assert_int_equal(ap_histogram_count(&a, i), ap_histogram_count(&both, i));
    ap_histogram_done(&b);
    assert_int_equal(ap_histogram_merge(&b, &a), 0); /* into an empty one */
    assert_int_equal(ap_histogram_total(&b), ap_histogram_total(&both));
    ap_histogram_done(&a);
    ap_histogram_done(&b);
    ap_histogram_done(&both);
}

static int compare_values(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return *a < *b ? -1 : *a > *b;
}

/* The exact quantile by nearest rank. */
static uint64_t exact(const uint64_t *sorted, size_t cnt, double q)
{
    size_t rank = (size_t)(q * (double)cnt);

    if ((double)rank < q * (double)cnt || rank == 0)
        rank++;
    return sorted[rank - 1];
}

static void test_quantiles_on_random_data(void **state)
{
    static const double quantiles[] = {0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0};
    static uint64_t values[20000];
    uint64_t seed = 99;

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct ap_histogram h = {0};
        size_t cnt = round < 20 ? round + 1 : next_random(&seed) % 20000 + 1;

        for (size_t i = 0; i < cnt; i++) {
            values[i] = next_random(&seed) >> 23;                                          /* below the limit */
            values[i] = values[i] >> (round % 3 == 0 ? 0 : next_random(&seed) % 41);       /* of all magnitudes */
            values[i] = round % 3 == 1 ? 1000 + values[i] % (round * 100 + 1) : values[i]; /* or of one */
            assert_int_equal(ap_histogram_add(&h, ap_histogram_bucket(values[i]), 1), 0);
        }
        qsort(values, cnt, sizeof(values[0]), compare_values);
        for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
            uint64_t want = exact(values, cnt, quantiles[i]);
            uint64_t have = ap_histogram_quantile(&h, quantiles[i], values[cnt - 1]);
            double error = (double)have - (double)want;

            assert_true(have <= values[cnt - 1]);
            assert_true((error < 0 ? -error : error) <= 0.125 * (double)want);
        }
        assert_int_equal(ap_histogram_quantile(&h, 1.0, values[cnt - 1]), values[cnt - 1]);
        ap_histogram_done(&h);
    }
}

static void test_quantile_corners(void **state)
{
    struct ap_histogram h = {0};
    uint64_t hour = 3600000000000;

    (void)state;
    assert_int_equal(ap_histogram_add(&h, ap_histogram_bucket(1000), 1), 0);
    assert_int_equal(ap_histogram_quantile(&h, 0.5, 1000), 1000); /* one value is its own maximum */
    assert_int_equal(ap_histogram_quantile(&h, -1.0, 1000), 1000);
    assert_int_equal(ap_histogram_quantile(&h, __builtin_nan(""), 1000), 1000);
    assert_int_equal(ap_histogram_add(&h, ap_histogram_bucket(1000), 99), 0);
    assert_int_equal(ap_histogram_quantile(&h, 0.5, 900), 900); /* never above the maximum */
    assert_in_range(ap_histogram_quantile(&h, 0.5, 1023), 896, 1023);
    ap_histogram_done(&h);

    /* The last bucket has no end: its middle lies below the maximum. */
    assert_int_equal(ap_histogram_add(&h, ap_histogram_bucket(hour), 10), 0);
    assert_in_range(ap_histogram_quantile(&h, 0.5, hour), ap_histogram_lower(AP_HISTOGRAM_BUCKETS - 1), hour);
    assert_int_equal(ap_histogram_quantile(&h, 2.0, hour), hour);
    assert_in_range(ap_histogram_quantile(&h, 0.5, UINT64_MAX), hour, UINT64_MAX);
    ap_histogram_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_boundaries),
        cmocka_unit_test(test_any_value_lies_in_its_bucket),
        cmocka_unit_test(test_add_and_count),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_quantiles_on_random_data),
        cmocka_unit_test(test_quantile_corners),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
