/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/map.h"
#include "exhaust.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MANY 100000

static void test_empty(void **state)
{
    (void)state;
    struct ap_map map;
    size_t pos = 0;

    ap_map_init(&map, 10);
    assert_null(ap_map_get(&map, "a", 1));
    assert_null(ap_map_remove(&map, "a", 1));
    assert_null(ap_map_next(&map, &pos));
    assert_int_equal(map.cap, 0);
    ap_map_done(&map);
    ap_map_done(NULL);

    struct ap_map zeroed = {0};
    ap_map_done(&zeroed);
}

static void test_put_get_replace_remove(void **state)
{
    (void)state;
    char first[] = "key";
    char second[] = "key";
    struct ap_map map;
    int a = 0;
    int b = 0;

    ap_map_init(&map, 10);
    assert_int_equal(ap_map_put(&map, first, 3, &a), 0);
    assert_ptr_equal(ap_map_get(&map, "key", 3), &a);
    assert_null(ap_map_get(&map, "key", 2));
    assert_null(ap_map_get(&map, "kex", 3));

    assert_int_equal(ap_map_put(&map, second, 3, &b), 0);
    assert_int_equal(map.cnt, 1);
    memset(first, '#', 3); /* the new key pointer counts now */
    assert_ptr_equal(ap_map_get(&map, "key", 3), &b);

    assert_ptr_equal(ap_map_remove(&map, "key", 3), &b);
    assert_int_equal(map.cnt, 0);
    assert_null(ap_map_get(&map, "key", 3));
    assert_null(ap_map_remove(&map, "key", 3));
    ap_map_done(&map);
}

static void test_empty_and_binary_keys(void **state)
{
    (void)state;
    struct ap_map map;
    int values[3];

    ap_map_init(&map, 10);
    assert_int_equal(ap_map_put(&map, NULL, 0, &values[0]), 0);
    assert_int_equal(ap_map_put(&map, "\0", 1, &values[1]), 0);
    assert_int_equal(ap_map_put(&map, "\0\0", 2, &values[2]), 0);
    assert_int_equal(map.cnt, 3);
    assert_ptr_equal(ap_map_get(&map, "", 0), &values[0]);
    assert_ptr_equal(ap_map_get(&map, "\0", 1), &values[1]);
    assert_ptr_equal(ap_map_get(&map, "\0\0", 2), &values[2]);
    ap_map_done(&map);
}

static void test_max(void **state)
{
    (void)state;
    static const char keys[] = "abcdefgh";
    struct ap_map map;
    int value;

    ap_map_init(&map, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ap_map_put(&map, &keys[i], 1, &value), 0);
    assert_int_equal(map.fulls, 0);
    assert_int_equal(ap_map_put(&map, "x", 1, &value), -ENOSPC);
    assert_int_equal(ap_map_put(&map, "y", 1, &value), -ENOSPC);
    assert_int_equal(map.fulls, 2);
    assert_int_equal(map.cnt, 3);
    assert_null(ap_map_get(&map, "x", 1));
    assert_int_equal(ap_map_put(&map, "a", 1, &value), 0); /* replacing is no growth */
    assert_ptr_equal(ap_map_remove(&map, "b", 1), &value);
    assert_int_equal(ap_map_put(&map, "x", 1, &value), 0);
    ap_map_done(&map);

    ap_map_init(&map, 0);
    assert_int_equal(ap_map_put(&map, "a", 1, &value), -ENOSPC);
    assert_int_equal(map.fulls, 1);
    ap_map_done(&map);
}

static void test_many_entries(void **state)
{
    (void)state;
    static uint32_t keys[MANY];
    static uint8_t met[MANY];
    struct ap_map map;
    size_t pos = 0;
    size_t cnt = 0;

    ap_map_init(&map, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        keys[i] = i;
        assert_int_equal(ap_map_put(&map, &keys[i], sizeof(keys[i]), &keys[i]), 0);
    }
    assert_int_equal(map.cnt, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_ptr_equal(ap_map_get(&map, &i, sizeof(i)), &keys[i]);
    for (uint32_t *value; (value = (uint32_t *)ap_map_next(&map, &pos)) != NULL; cnt++) {
        assert_int_equal(met[*value], 0);
        met[*value] = 1;
    }
    assert_int_equal(cnt, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        assert_ptr_equal(ap_map_remove(&map, &i, sizeof(i)), &keys[i]);
    assert_int_equal(map.cnt, 0);
    pos = 0;
    assert_null(ap_map_next(&map, &pos));
    ap_map_done(&map);
}

/* xorshift64: the same walk on every run */
static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static void check_against(const struct ap_map *map, const uint32_t *keys, int *const *reference, uint32_t cnt)
{
    size_t live = 0;

    for (uint32_t i = 0; i < cnt; i++) {
        assert_ptr_equal(ap_map_get(map, &keys[i], sizeof(keys[i])), reference[i]);
        live += reference[i] != NULL;
    }
    assert_int_equal(map->cnt, live);
}

/* Random puts, replacements and removals against an array; ranges of keys from crowded to sparse. */
static void test_random_against_reference(void **state)
{
    (void)state;
    static const uint32_t ranges[] = {7, 100, 5000};
    static uint32_t keys[5000];
    static int *reference[5000];
    static int values[2];
    uint64_t random = 88172645463325252ULL;

    for (uint32_t i = 0; i < 5000; i++)
        keys[i] = i * 2654435761u;
    for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
        struct ap_map map;

        memset((void *)reference, 0, sizeof(reference));
        ap_map_init(&map, ranges[r]);
        for (int step = 0; step < 200000; step++) {
            uint32_t i = (uint32_t)(next_random(&random) % ranges[r]);
            int *value = &values[next_random(&random) % 2];

            if (next_random(&random) % 2) {
                assert_int_equal(ap_map_put(&map, &keys[i], sizeof(keys[i]), value), 0);
                reference[i] = value;
            } else {
                assert_ptr_equal(ap_map_remove(&map, &keys[i], sizeof(keys[i])), reference[i]);
                reference[i] = NULL;
            }
            if (step % 20000 == 0)
                check_against(&map, keys, reference, ranges[r]);
        }
        check_against(&map, keys, reference, ranges[r]);
        ap_map_done(&map);
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct exhaust exhaust;
    struct ap_map map;
    static uint32_t keys[12];
    uint32_t cnt = 0;

    if (EXHAUST_SKIP)
        skip();
    for (uint32_t i = 0; i < 12; i++)
        keys[i] = i;
    ap_map_init(&map, SIZE_MAX);
    exhaust_begin(&exhaust, 0);
    int first = ap_map_put(&map, &keys[0], sizeof(keys[0]), &keys[0]);
    exhaust_end(&exhaust);
    assert_int_equal(first, -ENOMEM);
    assert_int_equal(map.cnt, 0);

    /* until the table has to grow */
    for (; cnt < 12; cnt++)
        assert_int_equal(ap_map_put(&map, &keys[cnt], sizeof(keys[cnt]), &keys[cnt]), 0);
    exhaust_begin(&exhaust, 0);
    int rc = ap_map_put(&map, "another", 7, &keys[0]);
    exhaust_end(&exhaust);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(map.cnt, 12);
    assert_int_equal(map.fulls, 0);
    for (uint32_t i = 0; i < 12; i++)
        assert_ptr_equal(ap_map_get(&map, &i, sizeof(i)), &keys[i]);
    ap_map_done(&map);
}

/* The sanitizers see what is not freed, and what is freed twice. */
static void test_done_values(void **state)
{
    struct ap_map map;
    uint64_t *value;
    uint64_t i;

    (void)state;
    ap_map_init(&map, 100);
    for (i = 0; i < 50; i++) {
        value = malloc(sizeof(*value));
        assert_non_null(value);
        *value = i;
        assert_int_equal(ap_map_put(&map, value, sizeof(*value), value), 0);
    }
    ap_map_done_values(&map);
    assert_int_equal(map.cnt, 0);
    ap_map_done_values(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_put_get_replace_remove),
        cmocka_unit_test(test_empty_and_binary_keys),
        cmocka_unit_test(test_max),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_random_against_reference),
        cmocka_unit_test(test_done_values),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
