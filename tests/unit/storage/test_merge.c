/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "storage/merge.h"

#include <errno.h>

/* Stacks 100 and up are stored but for those that end in 7. */
static int load(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile, uint32_t *ret_stack,
                uint32_t *ret_series, struct ap_error *err)
{
    (void)err;
    ++*(unsigned *)engine;
    for (size_t i = 0; i < cnt; i++) {
        char name[32];

        ret_stack[i] = ret_series[i] = UINT32_MAX;
        if (stacks[i] % 10 == 7)
            continue;
        (void)snprintf(name, sizeof(name), "f%u", (unsigned)stacks[i]);
        ret_stack[i] = fx_stack(profile, name);
        ret_series[i] = fx_series(profile, "app", 0, "", "");
    }
    return 0;
}

static struct ap_profile *finish(struct ap_merge *merge)
{
    struct ap_profile *profile;
    unsigned calls = 0;

    assert_int_equal(ap_merge_finish(merge, load, &calls, &profile, NULL), 0);
    assert_true(calls <= 1);
    assert_null(ap_merge_free(merge));
    return profile;
}

static const char *function(const struct ap_profile *profile, uint32_t stack)
{
    return ap_profile_str(profile, profile->frames[profile->stack_frames[profile->stacks[stack].first]].function);
}

/* More sides and pairs than a row keeps: the longest stay, sums stay exact, and the order of batches does not matter.
 */
static void test_sides(void **state)
{
    struct ap_profile *profiles[2];

    (void)state;
    for (unsigned turn = 0; turn < 2; turn++) {
        struct ap_merge *merge = ap_merge_new(AP_KIND_LOCK);

        assert_non_null(merge);
        for (unsigned i = 0; i < 100; i++) {
            unsigned n = turn == 0 ? i : 99 - i;
            uint64_t stack = 100 + n, ns = 1000 + n;
            struct ap_merge_side waiter = {stack, 1, ns, ns},
                                 waker = {n % 3 == 0 ? AP_MERGE_UNKNOWN : 500 + n % 5, 1, ns, ns};
            struct ap_merge_pair pair = {stack, waker.stack, 1, ns, ns};
            struct ap_merge_lock lock = {
                .host = "h",
                .comm = "app",
                .symbol = "",
                .address = 0x10,
                .pid = 1,
                .start_ns = 5,
                .waits = 1,
                .total_ns = ns,
                .max_ns = ns,
                .in_flight = 1,
                .waiters = &waiter,
                .wakers = &waker,
                .pairs = &pair,
                .waiter_cnt = 1,
                .waker_cnt = 1,
                .pair_cnt = 1,
            };

            if (n == 50)
                pair.waiter = pair.waker = AP_MERGE_REST;
            if (n == 51)
                waiter.stack = pair.waiter = AP_MERGE_OTHERS;
            assert_int_equal(ap_merge_lock(merge, &lock), 0);
        }
        profiles[turn] = finish(merge);
        const struct ap_lock_row *row = profiles[turn]->locks->rows[0];
        uint64_t sums[3] = {0}, counts[3] = {0};

        assert_int_equal(profiles[turn]->locks->row_cnt, 1);
        assert_int_equal(row->waits, 100);
        assert_int_equal(row->total_ns, 104950);
        assert_int_equal(row->in_flight, 100);                    /* all of one moment */
        assert_int_equal(row->waiter_cnt, AP_LOCK_SIDES_MAX - 1); /* nobody unknown */
        for (uint32_t i = 0; i < row->waiter_cnt; i++) {
            sums[0] += row->waiters[i].total_ns;
            counts[0] += row->waiters[i].count;
            if (row->waiters[i].stack != AP_LOCK_NO_STACK) /* 198 and down, without those that are not stored */
                assert_string_not_equal(function(profiles[turn], row->waiters[i].stack), "f197");
        }
        for (uint32_t i = 0; i < row->waker_cnt; i++) {
            sums[1] += row->wakers[i].total_ns;
            counts[1] += row->wakers[i].count;
        }
        for (uint32_t i = 0; i < row->pair_cnt; i++) {
            sums[2] += row->pairs[i].total_ns;
            counts[2] += row->pairs[i].count;
        }
        assert_true(row->pair_cnt <= AP_LOCK_PAIRS_MAX);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(sums[k], 104950);
            assert_int_equal(counts[k], 100);
        }
    }
    const struct ap_lock_row *a = profiles[0]->locks->rows[0], *b = profiles[1]->locks->rows[0];
    assert_int_equal(a->waiter_cnt, b->waiter_cnt);
    assert_int_equal(a->pair_cnt, b->pair_cnt);
    for (uint32_t i = 0; i < a->waiter_cnt; i++) {
        assert_int_equal(a->waiters[i].total_ns, b->waiters[i].total_ns);
        if (a->waiters[i].stack != AP_LOCK_NO_STACK)
            assert_string_equal(function(profiles[0], a->waiters[i].stack), function(profiles[1], b->waiters[i].stack));
    }
    for (uint32_t i = 0; i < a->pair_cnt; i++) {
        assert_int_equal(a->pairs[i].waiter, b->pairs[i].waiter);
        assert_int_equal(a->pairs[i].waker, b->pairs[i].waker);
        assert_int_equal(a->pairs[i].total_ns, b->pairs[i].total_ns);
    }
    ap_profile_free(profiles[0]);
    ap_profile_free(profiles[1]);
}

static void test_keys(void **state)
{
    struct ap_merge *merge = ap_merge_new(AP_KIND_LOCK);
    const struct ap_merge_lock lock = {.host = "h",
                                       .comm = "app",
                                       .symbol = "",
                                       .address = 0x10,
                                       .pid = 1,
                                       .start_ns = 7,
                                       .waits = 1,
                                       .total_ns = 10,
                                       .in_flight = 5};
    struct ap_merge_lock other;

    (void)state;
    assert_int_equal(ap_merge_lock(merge, &lock), 0);
    assert_int_equal(ap_merge_lock(merge, &lock), 0);
#define OTHER(member, what)                                                                                            \
    other = lock;                                                                                                      \
    other.member = what;                                                                                               \
    assert_int_equal(ap_merge_lock(merge, &other), 0)
    OTHER(host, "i");
    OTHER(comm, "b");
    OTHER(pid, 2);
    OTHER(address, 0x11);
    OTHER(kernel, true);
    OTHER(symbol, "s"); /* twice with other addresses: one row */
    other.address = 0x99;
    assert_int_equal(ap_merge_lock(merge, &other), 0);
    OTHER(start_ns, 6); /* older: what was in flight then is not any more */
    OTHER(type, AP_LOCK_MUTEX);
    struct ap_profile *profile = finish(merge);
    assert_int_equal(profile->locks->row_cnt, 7);
    assert_int_equal(profile->locks->rows[0]->waits, 4);
    assert_int_equal(profile->locks->rows[0]->in_flight, 15);
    assert_int_equal(profile->locks->rows[0]->type, AP_LOCK_MUTEX);
    assert_string_equal(ap_profile_str(profile, profile->locks->rows[1]->symbol), "s");
    assert_int_equal(profile->locks->rows[1]->waits, 2);
    assert_int_equal(profile->locks->rows[1]->address, 0);
    ap_profile_free(profile);
}

static void test_syscalls(void **state)
{
    struct ap_merge *merge = ap_merge_new(AP_KIND_SYSCALL);
    const struct ap_merge_error errors[] = {{2, 3}, {13, 1}};
    const struct ap_merge_syscall call = {.host = "h",
                                          .comm = "app",
                                          .name = "openat",
                                          .pid = 1,
                                          .number = 257,
                                          .start_ns = 9,
                                          .count = 10,
                                          .total_ns = 100,
                                          .max_ns = 20,
                                          .in_flight = 2,
                                          .in_flight_max_ns = 7,
                                          .errors = errors,
                                          .error_cnt = 2};
    struct ap_merge_syscall other = call;

    (void)state;
    assert_int_equal(ap_merge_syscall(merge, &call), 0);
    other.start_ns = 10;
    other.in_flight = 1;
    other.in_flight_max_ns = 3;
    other.max_ns = 30;
    assert_int_equal(ap_merge_syscall(merge, &other), 0);
    other.abi = AP_SYSCALL_COMPAT;
    other.name = "";
    assert_int_equal(ap_merge_syscall(merge, &other), 0);
    struct ap_profile *profile = finish(merge);
    assert_int_equal(profile->syscalls->row_cnt, 2);
    const struct ap_syscall_row *row = profile->syscalls->rows[0];
    assert_int_equal(row->count, 20);
    assert_int_equal(row->max_ns, 30);
    assert_int_equal(row->in_flight, 1);
    assert_int_equal(row->in_flight_max_ns, 3);
    assert_int_equal(ap_syscall_row_failed(row), 8);
    assert_string_equal(ap_profile_str(profile, row->name), "openat");
    ap_profile_free(profile);
}

static int fail_to_load(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                        uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    (void)engine;
    (void)stacks;
    (void)cnt;
    (void)profile;
    (void)ret_stack;
    (void)ret_series;
    return ap_error_set(err, -EAGAIN, "gone");
}

static void test_failure(void **state)
{
    struct ap_merge *merge = ap_merge_new(AP_KIND_LOCK);
    const struct ap_merge_side side = {100, 1, 1, 1};
    const struct ap_merge_lock lock = {
        .host = "h", .comm = "app", .symbol = "", .waiters = &side, .waiter_cnt = 1, .wakers = &side, .waker_cnt = 1};
    struct ap_profile *profile = NULL;
    struct ap_error err;

    (void)state;
    assert_int_equal(ap_merge_lock(merge, &lock), 0);
    assert_int_equal(ap_merge_finish(merge, fail_to_load, NULL, &profile, &err), -EAGAIN);
    assert_string_equal(err.text, "gone");
    assert_null(profile);
    ap_merge_free(merge);
    assert_null(ap_merge_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sides),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_syscalls),
        cmocka_unit_test(test_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
