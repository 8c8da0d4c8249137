/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <jansson.h>

static json_t *document(struct ap_capture *capture)
{
    json_error_t error;
    size_t len;
    char *text = fixture_render(AP_FORMAT_JSON, capture, &len);
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL)
        fail_msg("%s at %d", error.text, error.position);
    free(text);
    return root;
}

static json_t *first_profile(const json_t *root)
{
    return json_array_get(json_object_get(root, "profiles"), 0);
}

static json_int_t num(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value != NULL ? value : "(absent)";
}

static json_t *by(json_t *array, const char *key, const char *value)
{
    size_t i;
    json_t *row;

    json_array_foreach(array, i, row) if (strcmp(text_of(row, key), value) == 0) return row;
    fail_msg("no row has %s %s", key, value);
    return NULL;
}

/* Buckets ascend, hold something, and sum up to the count. */
static void assert_histogram(const json_t *row, json_int_t count)
{
    json_t *array = json_object_get(row, "histogram"), *bucket;
    json_int_t sum = 0, last = -1;
    size_t i;

    json_array_foreach(array, i, bucket)
    {
        assert_true(num(bucket, "le_ns") > last);
        assert_true(num(bucket, "count") > 0);
        last = num(bucket, "le_ns");
        sum += num(bucket, "count");
        assert_int_equal(ap_histogram_upper(ap_histogram_bucket((uint64_t)last)), last);
    }
    assert_int_equal(sum, count);
    assert_true(num(row, "p50_ns") <= num(row, "p95_ns") && num(row, "p95_ns") <= num(row, "p99_ns"));
    assert_true(num(row, "p99_ns") <= num(row, "max_ns"));
}

static void test_syscalls(void **state)
{
    struct ap_capture *capture = fixture_syscalls();
    json_t *root = document(capture), *rows = json_object_get(first_profile(root), "syscalls"), *row;

    (void)state;
    assert_int_equal(json_array_size(rows), 9);
    assert_null(json_object_get(first_profile(root), "locks"));
    row = json_array_get(rows, 0); /* by time */
    assert_string_equal(text_of(row, "name"), "cachestat");
    assert_string_equal(text_of(row, "comm"), "nginx");
    assert_string_equal(text_of(row, "abi"), "native");
    assert_int_equal(num(row, "pid"), 812);
    assert_int_equal(num(row, "number"), 451);
    assert_int_equal(num(row, "count"), 5120);
    assert_int_equal(num(row, "failed"), 0);
    assert_int_equal(json_object_size(json_object_get(row, "errors")), 0);
    assert_int_equal(num(row, "max_ns"), 210000000);
    assert_int_equal(num(row, "in_flight"), 4);
    assert_int_equal(num(row, "in_flight_max_ns"), 2710000000);
    assert_int_equal(num(row, "total_ns"), capture->profiles[0]->syscalls->rows[0]->total_ns);
    assert_histogram(row, 5120);
    row = by(rows, "comm", "cc1");
    assert_string_equal(text_of(row, "name"), "openat2");
    assert_int_equal(num(row, "failed"), 1923);
    assert_int_equal(json_object_size(json_object_get(row, "errors")), 5);
    assert_int_equal(num(json_object_get(row, "errors"), "ENOENT"), 1912);
    assert_int_equal(num(json_object_get(row, "errors"), "ERESTARTSYS"), 1);
    assert_int_equal(num(json_object_get(row, "errors"), "E4000"), 1);
    row = by(rows, "abi", "compat");
    assert_int_equal(num(row, "count"), 1);
    assert_histogram(row, 0);
    assert_string_equal(text_of(by(rows, "name", "syscall_100000"), "comm"), "bash");
    json_decref(root);
    ap_capture_free(capture);
}

static void test_locks(void **state)
{
    struct ap_capture *capture = fixture_locks();
    json_t *root = document(capture), *rows = json_object_get(first_profile(root), "locks"), *row, *side, *pair, *frame;

    (void)state;
    assert_int_equal(json_array_size(rows), 4);
    assert_null(json_object_get(first_profile(root), "syscalls"));
    row = json_array_get(rows, 0);
    assert_string_equal(text_of(row, "comm"), "app");
    assert_string_equal(text_of(row, "address"), "0x55d1c0de4040");
    assert_string_equal(text_of(row, "symbol"), "queue+0x8");
    assert_string_equal(text_of(row, "type"), "mutex");
    assert_true(json_is_false(json_object_get(row, "kernel")));
    assert_int_equal(num(row, "pid"), 1230);
    assert_int_equal(num(row, "waits"), 412);
    assert_int_equal(num(row, "timeouts"), 3);
    assert_int_equal(num(row, "timeout_ns"), 3000000000);
    assert_int_equal(num(row, "interrupted"), 1);
    assert_int_equal(num(row, "interrupted_ns"), 1200000);
    assert_int_equal(num(row, "retried"), 17);
    assert_int_equal(num(row, "in_flight"), 2);
    assert_int_equal(num(row, "in_flight_ns"), 9000000000);
    assert_int_equal(num(row, "total_ns"), capture->profiles[0]->locks->rows[0]->total_ns);
    assert_histogram(row, 412);

    assert_int_equal(json_array_size(json_object_get(row, "waiters")), 2);
    side = json_array_get(json_object_get(row, "waiters"), 0);
    assert_string_equal(text_of(side, "comm"), "worker-3");
    assert_string_equal(text_of(side, "site"), "queue_push");
    assert_int_equal(num(side, "pid"), 1230);
    assert_int_equal(num(side, "count"), 410);
    assert_int_equal(json_array_size(json_object_get(side, "stack")), 4);
    frame = json_array_get(json_object_get(side, "stack"), 0);
    assert_string_equal(text_of(frame, "name"), "futex_wait_queue");
    assert_string_equal(text_of(frame, "kind"), "kernel");
    assert_string_equal(text_of(frame, "module"), "[kernel]");
    assert_string_equal(text_of(frame, "file"), "(absent)");
    frame = json_array_get(json_object_get(side, "stack"), 2);
    assert_string_equal(text_of(frame, "file"), "/src/app.c");
    assert_int_equal(num(frame, "line"), 33);

    assert_int_equal(json_array_size(json_object_get(row, "wakers")), 3);
    side = json_array_get(json_object_get(row, "wakers"), 2);
    assert_true(json_is_true(json_object_get(side, "unknown")));
    assert_null(json_object_get(side, "comm"));
    assert_null(json_object_get(side, "site"));
    assert_int_equal(json_array_size(json_object_get(side, "stack")), 0);
    pair = json_array_get(json_object_get(row, "pairs"), 0);
    assert_int_equal(num(pair, "waiter"), 0);
    assert_int_equal(num(pair, "waker"), 0);
    assert_int_equal(num(pair, "count"), 400);

    row = by(rows, "address", "0xffff888103a4c0a8");
    assert_true(json_is_true(json_object_get(row, "kernel")));
    row = by(rows, "comm", "postgres");
    assert_null(json_object_get(row, "symbol"));
    assert_string_equal(text_of(json_array_get(rows, 3), "type"), "condvar"); /* events come last */
    json_decref(root);
    ap_capture_free(capture);
}

static void test_what_did_not_fit(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_LOCK);
    struct ap_profile *p = capture->profiles[0];
    struct ap_lock_row *row;
    json_t *root, *lock, *sides, *pairs, *item;
    json_int_t sum = 0;
    size_t i;
    bool others = false;

    (void)state;
    p->locks = ap_locks_new();
    row = ap_locks_row(p->locks, 1, 64, false);
    for (uint32_t n = 0; n < 300; n++)
        assert_int_equal(ap_lock_row_add(row, fixture_thread(p, 1, "a"),
                                         fixture_lock_stack(p, "x", "f", n < 200 ? n % 9 : n),
                                         fixture_thread(p, 2, "b"), fixture_lock_stack(p, "x", "g", n / 9), 1, n, n),
                         0);
    ap_locks_sort(p->locks);
    root = document(capture);
    lock = json_array_get(json_object_get(first_profile(root), "locks"), 0);
    sides = json_object_get(lock, "waiters");
    json_array_foreach(sides, i, item)
    {
        sum += num(item, "count");
        others |= json_is_true(json_object_get(item, "others"));
    }
    assert_int_equal(sum, 300);
    assert_true(others);
    pairs = json_object_get(lock, "pairs");
    assert_int_equal(json_array_size(pairs), AP_LOCK_PAIRS_MAX);
    sum = 0;
    json_array_foreach(pairs, i, item)
    {
        sum += num(item, "count");
        if (json_is_true(json_object_get(item, "others"))) {
            assert_null(json_object_get(item, "waiter"));
            continue;
        }
        assert_true(num(item, "waiter") < (json_int_t)json_array_size(sides));
        assert_true(num(item, "waker") < (json_int_t)json_array_size(json_object_get(lock, "wakers")));
    }
    assert_int_equal(sum, 300);
    json_decref(root);
    ap_capture_free(capture);
}

static void test_hostile_names(void **state)
{
    struct ap_capture *locks = fixture_locks(), *syscalls = fixture_syscalls();
    json_t *root;

    (void)state;
    for (unsigned i = 0; i < FIXTURE_HOSTILE_CNT; i++) {
        struct ap_profile *p = locks->profiles[0];
        struct ap_lock_row *row = ap_locks_row(p->locks, 9, i * 8, i % 2 == 1);
        uint32_t thread = fixture_thread(p, 3, fixture_hostile[i]);
        uint32_t stack = fixture_lock_stack(p, fixture_hostile[i], fixture_hostile[i], 5);

        row->comm = row->symbol = ap_strings_id(p->strings, fixture_hostile[i]);
        assert_int_equal(ap_lock_row_add(row, thread, stack, thread, stack, 1, 1, 1), 0);
        fixture_syscall(syscalls, 100 + i, fixture_hostile[i], 1, 1, 1, 1);
    }
    root = document(locks);
    json_decref(root);
    root = document(syscalls);
    json_decref(root);
    ap_capture_free(locks);
    ap_capture_free(syscalls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syscalls),
        cmocka_unit_test(test_locks),
        cmocka_unit_test(test_what_did_not_fit),
        cmocka_unit_test(test_hostile_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
