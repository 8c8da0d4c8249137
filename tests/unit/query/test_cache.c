/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../storage/fixture.h"

#include "query/cache.h"

#include <pthread.h>

static const struct ap_storage_scope everything = {.from_ns = 0, .to_ns = UINT64_MAX};

static struct ap_storage *filled(unsigned stacks, struct ap_stack_sums *ret_sums)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_push *push = fx_push("a", 1, FX_START, "h");

    for (unsigned i = 0; i < stacks; i++) {
        char text[64];

        (void)snprintf(text, sizeof(text), "main;f%u;g%u", i % 7, i);
        fx_sample(fx_profile(push, AP_KIND_CPU), i % 2 == 0 ? "even" : "odd", text, 0, i + 1, 1);
    }
    assert_false(fx_commit(storage, push));
    assert_int_equal(ap_storage_stacks(storage, &everything, ret_sums, NULL), 0);
    assert_int_equal(ret_sums->cnt, stacks);
    return storage;
}

/* Loads and checks that each stack is the right one: its last function is numbered by its count. */
static void load_and_check(struct ap_cache *cache, const struct ap_stack_sums *sums, size_t first, size_t cnt)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t *stack = calloc(cnt, sizeof(*stack)), *series = calloc(cnt, sizeof(*series));

    assert_int_equal(ap_cache_load(cache, sums->stacks + first, cnt, profile, stack, series, NULL), 0);
    for (size_t i = 0; i < cnt; i++) {
        const struct ap_stack *row = &profile->stacks[stack[i]];
        char name[32];

        assert_int_equal(stack[i], i); /* in the order that was asked for */
        (void)snprintf(name, sizeof(name), "g%u", (unsigned)sums->counts[first + i] - 1);
        assert_int_equal(row->frame_cnt, 3);
        const struct ap_frame *leaf = &profile->frames[profile->stack_frames[row->first]];
        assert_string_equal(ap_profile_str(profile, leaf->function), name);
        assert_string_equal(ap_profile_str(profile, profile->mappings[leaf->mapping].path), "/app");
        assert_int_equal(leaf->offset, strlen(name));
        assert_string_equal(ap_profile_str(profile, profile->series[series[i]].comm),
                            sums->counts[first + i] % 2 == 1 ? "even" : "odd");
    }
    free(stack);
    free(series);
    ap_profile_free(profile);
}

static void test_hits(void **state)
{
    struct ap_stack_sums sums;
    struct ap_storage *storage = filled(100, &sums);
    struct ap_cache *cache = ap_cache_new(storage, AP_CACHE_SZ);
    struct ap_cache_stats stats;

    (void)state;
    load_and_check(cache, &sums, 20, 40);
    ap_cache_stats(cache, &stats);
    assert_int_equal(stats.hits, 0);
    assert_int_equal(stats.misses, 40);
    assert_int_equal(stats.stacks, 40);
    assert_true(stats.sz > 0);
    load_and_check(cache, &sums, 0, 100); /* what is known and what is not, mixed */
    load_and_check(cache, &sums, 0, 100);
    ap_cache_stats(cache, &stats);
    assert_int_equal(stats.hits, 140);
    assert_int_equal(stats.misses, 100);
    assert_int_equal(stats.not_stored, 0);
    assert_int_equal(stats.evicted, 0);
    assert_int_equal(ap_cache_load(cache, NULL, 0, NULL, NULL, NULL, NULL), 0);
    ap_cache_free(cache);
    assert_null(ap_cache_free(NULL));
    ap_stack_sums_done(&sums);
    ap_storage_free(storage);
}

static void test_not_stored(void **state)
{
    struct ap_stack_sums sums;
    struct ap_storage *storage = filled(3, &sums);
    struct ap_cache *cache = ap_cache_new(storage, AP_CACHE_SZ);
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint64_t stacks[4] = {1, sums.stacks[0], sums.stacks[2], UINT64_MAX};
    uint32_t stack[4], series[4];
    struct ap_cache_stats stats;

    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(ap_cache_load(cache, stacks, 4, profile, stack, series, NULL), 0);
        assert_int_equal(stack[0], UINT32_MAX);
        assert_int_equal(stack[1], 0);
        assert_int_equal(stack[2], 1);
        assert_int_equal(stack[3], UINT32_MAX);
    }
    ap_cache_stats(cache, &stats);
    assert_int_equal(stats.not_stored, 4); /* asked for every time: they may come */
    assert_int_equal(stats.hits, 2);
    ap_profile_free(profile);
    ap_cache_free(cache);
    ap_stack_sums_done(&sums);
    ap_storage_free(storage);
}

static void test_bound(void **state)
{
    struct ap_stack_sums sums;
    struct ap_storage *storage = filled(5000, &sums);
    struct ap_cache *cache = ap_cache_new(storage, 200000);
    struct ap_cache_stats stats;

    (void)state;
    for (unsigned round = 0; round < 30; round++) {
        load_and_check(cache, &sums, 0, 50); /* used all the time: these stay */
        load_and_check(cache, &sums, 100 + round * 150, 150);
        ap_cache_stats(cache, &stats);
        assert_true(stats.sz < 250000);
    }
    assert_true(stats.evicted > 1000);
    assert_true(stats.hits >= 29 * 50);
    load_and_check(cache, &sums, 0, 5000); /* more than fits */
    load_and_check(cache, &sums, 0, 5000);
    ap_cache_stats(cache, &stats);
    assert_true(stats.sz < 250000);
    ap_cache_free(cache);
    ap_stack_sums_done(&sums);
    ap_storage_free(storage);
}

struct shared {
    struct ap_cache *cache;
    struct ap_stack_sums *sums;
    uint64_t seed;
};

static void *load_some(void *arg)
{
    struct shared shared = *(struct shared *)arg;

    for (unsigned i = 0; i < 200; i++)
        load_and_check(shared.cache, shared.sums, fx_below(&shared.seed, 1800), 1 + fx_below(&shared.seed, 200));
    return NULL;
}

static void test_threads(void **state)
{
    struct ap_stack_sums sums;
    struct ap_storage *storage = filled(2000, &sums);
    struct ap_cache *cache = ap_cache_new(storage, 300000); /* too small on purpose */
    struct shared shared[3];
    pthread_t threads[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        shared[i] = (struct shared){cache, &sums, i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, load_some, &shared[i]), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    ap_cache_free(cache);
    ap_stack_sums_done(&sums);
    ap_storage_free(storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits),
        cmocka_unit_test(test_not_stored),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
