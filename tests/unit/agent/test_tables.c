/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/tables.h"

#include "abi/tables.h"
#include "agent/programs.h"
#include "bpf/syscall.skel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* More than the reader fetches at once, several times over. */
#define ROWS 5000

/* A pair of tables whose key is a number of a row and a zero, and whose value is a function of the number. */
static struct syscall_bpf *skel;

static struct bpf_map *map_of(uint32_t generation)
{
    return generation ? skel->maps.errors_1 : skel->maps.errors_0;
}

/* Makes maps of a type, and nothing of the object's programs. False when this process may not. */
static bool make_maps(enum bpf_map_type type, uint32_t flags)
{
    struct bpf_program *program;
    struct bpf_map *map;
    int rc;

    skel = syscall_bpf__open();
    assert_non_null(skel);
    bpf_object__for_each_program(program, skel->obj) bpf_program__set_autoload(program, false);
    bpf_object__for_each_map(map, skel->obj) bpf_map__set_autocreate(
        map, map == map_of(0) || map == map_of(1) || map == skel->maps.own_0 || bpf_map__is_internal(map));
    for (uint32_t i = 0; i < AP_GENERATIONS; i++) {
        assert_int_equal(bpf_map__set_type(map_of(i), type), 0);
        assert_int_equal(bpf_map__set_map_flags(map_of(i), flags), 0);
        assert_int_equal(bpf_map__set_max_entries(map_of(i), ROWS), 0);
    }
    rc = syscall_bpf__load(skel);
    if (rc == -EPERM || rc == -EACCES) {
        syscall_bpf__destroy(skel);
        print_message("needs CAP_BPF\n");
        return false;
    }
    assert_int_equal(rc, 0);
    return true;
}

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    (void)level;
    (void)format;
    (void)args;
    return 0;
}

static uint64_t value_of(uint32_t row)
{
    return row * 1000003ULL + 7;
}

static struct ap_syscall_error_key key_of(uint32_t row)
{
    /* as a trie takes it: all bits behind the first word count */
    return (struct ap_syscall_error_key){.host_pid = 64, .error = row};
}

static void put(uint32_t generation, uint32_t first, uint32_t cnt)
{
    uint32_t i;

    for (i = first; i < first + cnt; i++) {
        const struct ap_syscall_error_key key = key_of(i);
        const uint64_t value = value_of(i);

        assert_int_equal(
            bpf_map__update_elem(map_of(generation), &key, sizeof(key), &value, sizeof(value), BPF_NOEXIST), 0);
    }
}

struct seen {
    uint8_t rows[ROWS];
    uint32_t cnt;
};

static void on_row(void *ctx, const void *key, const void *value)
{
    struct ap_syscall_error_key row, wanted;
    struct seen *seen = ctx;
    uint64_t got;

    memcpy(&row, key, sizeof(row));
    memcpy(&got, value, sizeof(got));
    assert_true(row.error < ROWS);
    wanted = key_of(row.error);
    assert_memory_equal(&row, &wanted, sizeof(row));
    assert_int_equal(got, value_of(row.error));
    seen->rows[row.error]++;
    seen->cnt++;
}

/* Rows [first, first + cnt) are there, each once, and are gone afterwards. */
static void expect_rows(struct ap_table_reader *reader, uint32_t generation, uint32_t first, uint32_t cnt)
{
    static struct seen seen;
    struct ap_syscall_error_key key;
    uint32_t i;

    memset(&seen, 0, sizeof(seen));
    assert_int_equal(ap_table_reader_drain(reader, generation, on_row, &seen), 0);
    assert_int_equal(seen.cnt, cnt);
    for (i = first; i < first + cnt; i++)
        assert_int_equal(seen.rows[i], 1);
    assert_int_equal(bpf_map__get_next_key(map_of(generation), NULL, &key, sizeof(key)), -ENOENT);
}

static void generations_and_batches(void)
{
    struct ap_table_reader *reader = ap_table_reader_new(map_of(0), map_of(1));

    assert_non_null(reader);
    expect_rows(reader, 0, 0, 0);
    put(0, 17, 1);
    put(1, 18, 2);
    expect_rows(reader, 1, 18, 2);
    expect_rows(reader, 1, 18, 0);
    expect_rows(reader, 0, 17, 1);
    put(0, 0, ROWS); /* full */
    put(1, 0, 512);  /* as many as are fetched at once */
    expect_rows(reader, 0, 0, ROWS);
    expect_rows(reader, 0, 0, 0);
    expect_rows(reader, 1, 0, 512);
    put(0, 3, 513);
    expect_rows(reader, 2, 3, 513); /* generations are told apart by their lowest bit */
    put(0, 0, ROWS);                /* it can be filled again */
    expect_rows(reader, 0, 0, ROWS);
    assert_null(ap_table_reader_free(reader));
    assert_null(ap_table_reader_free(NULL));
}

static void hashes(void **state)
{
    (void)state;
    if (!make_maps(BPF_MAP_TYPE_HASH, 0))
        skip();
    generations_and_batches();
    syscall_bpf__destroy(skel);
}

static void hashes_that_grow(void **state)
{
    (void)state;
    if (!make_maps(BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC))
        skip();
    generations_and_batches();
    syscall_bpf__destroy(skel);
}

/* A trie knows no reading in batches with removal, like any map before 5.6. */
static void one_by_one(void **state)
{
    (void)state;
    if (!make_maps(BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC))
        skip();
    generations_and_batches();
    syscall_bpf__destroy(skel);
}

struct own_seen {
    uint32_t rows;
    uint64_t pids, total_ns;
};

static void take_own(void *ctx, const void *key, const void *value)
{
    struct own_seen *seen = ctx;

    seen->rows++;
    seen->pids += ((const struct ap_syscall_key *)key)->host_pid;
    seen->total_ns += ((const struct ap_syscall_stats *)value)->total_ns;
}

/* Rows that each CPU has to itself: those with a key are handed out, then all are free. */
static void own_rows(void **state)
{
    const uint32_t first = 1, last = AP_SYSCALL_OWN_ROWS_MAX - 1;
    size_t cpus = ap_programs_cpus(), i;
    struct ap_syscall_own_row *values = calloc(cpus, sizeof(*values));
    struct own_seen seen = {0};
    const struct bpf_map *map;

    (void)state;
    assert_non_null(values);
    if (!make_maps(BPF_MAP_TYPE_HASH, 0)) {
        free(values);
        skip();
    }
    map = skel->maps.own_0;
    assert_int_equal(ap_table_drain_own(map, sizeof(values[0].key), take_own, &seen), 0);
    assert_int_equal(seen.rows, 0);
    values[cpus - 1] = (struct ap_syscall_own_row){{.host_pid = 7}, {.total_ns = 100}};
    assert_int_equal(bpf_map__update_elem(map, &last, sizeof(last), values, cpus * sizeof(*values), 0), 0);
    for (i = 0; i < cpus; i++)
        values[i] = (struct ap_syscall_own_row){{.shard = 1}, {.total_ns = 1}};
    assert_int_equal(bpf_map__update_elem(map, &first, sizeof(first), values, cpus * sizeof(*values), 0), 0);
    assert_int_equal(ap_table_drain_own(map, sizeof(values[0].key), take_own, &seen), 0);
    assert_int_equal(seen.rows, cpus + 1);
    assert_int_equal(seen.pids, 7);
    assert_int_equal(seen.total_ns, 100 + cpus);
    assert_int_equal(ap_table_drain_own(map, sizeof(values[0].key), take_own, &seen), 0);
    assert_int_equal(seen.rows, cpus + 1);
    assert_int_equal(ap_table_drain_own(map_of(0), sizeof(uint64_t), take_own, &seen), -EINVAL); /* a hash */
    free(values);
    syscall_bpf__destroy(skel);
}

static void never_called(void *ctx, const void *key, const void *value)
{
    (void)ctx;
    (void)key;
    (void)value;
    fail();
}

/* What cannot be read at all is an error, not an empty table. */
static void gone(void **state)
{
    struct ap_table_reader *reader;
    int fd;

    (void)state;
    if (!make_maps(BPF_MAP_TYPE_HASH, 0))
        skip();
    reader = ap_table_reader_new(map_of(0), map_of(1));
    assert_non_null(reader);
    put(0, 0, 1);
    fd = bpf_map__fd(map_of(0));
    syscall_bpf__destroy(skel);
    assert_true(bpf_map_get_next_key(fd, NULL, &(struct ap_syscall_error_key){0}) == -EBADF);
    assert_int_equal(ap_table_reader_drain(reader, 0, never_called, NULL), -EBADF);
    ap_table_reader_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes),     cmocka_unit_test(hashes_that_grow),
        cmocka_unit_test(one_by_one), cmocka_unit_test(own_rows),
        cmocka_unit_test(gone),
    };

    libbpf_set_print(quiet);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
