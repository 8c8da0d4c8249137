/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/syscalls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STRINGS_SZ (16u << 20)

static struct ap_syscall_row *get(struct ap_syscalls *syscalls, uint64_t process, const char *comm, uint32_t number)
{
    struct ap_syscall_row *row = ap_syscalls_row(syscalls, process, (uint32_t)process, comm, AP_SYSCALL_NATIVE, number);

    assert_non_null(row);
    return row;
}

static void test_rows(void **state)
{
    struct ap_strings *strings = ap_strings_new(STRINGS_SZ);
    struct ap_syscalls *syscalls = ap_syscalls_new(strings);
    struct ap_syscall_row *row, *other;

    (void)state;
    assert_non_null(syscalls);
    assert_int_equal(syscalls->row_cnt, 0);
    row = get(syscalls, 10, "sh", 1);
    assert_int_equal(row->process, 10);
    assert_int_equal(row->pid, 10);
    assert_int_equal(row->number, 1);
    assert_int_equal(row->abi, AP_SYSCALL_NATIVE);
    assert_string_equal(ap_strings_get(strings, row->comm), "sh");
    assert_ptr_equal(get(syscalls, 10, "sh", 1), row);
    other = get(syscalls, 10, "sh", 2);
    assert_ptr_not_equal(other, row);
    assert_ptr_not_equal(get(syscalls, 11, "sh", 1), row);
    assert_ptr_not_equal(ap_syscalls_row(syscalls, 10, 10, "sh", AP_SYSCALL_COMPAT, 1), row);
    assert_int_equal(syscalls->row_cnt, 4);

    /* exec gives all rows of the process another name, those of others not. */
    assert_ptr_equal(get(syscalls, 10, "ls", 2), other);
    assert_string_equal(ap_strings_get(strings, row->comm), "ls");
    assert_string_equal(ap_strings_get(strings, get(syscalls, 11, "sh", 1)->comm), "sh");
    assert_int_equal(syscalls->row_cnt, 4);
    assert_int_equal(syscalls->folded, 0);

    row->count = 5;
    row->total_ns = 100;
    other->count = 7;
    other->total_ns = 1000;
    assert_int_equal(ap_syscalls_count(syscalls), 12);
    assert_int_equal(ap_syscalls_total_ns(syscalls), 1100);
    assert_null(ap_syscalls_free(syscalls));
    assert_null(ap_syscalls_free(NULL));
    ap_strings_free(strings);
}

static void test_errors(void **state)
{
    struct ap_syscall_row row = {0};

    (void)state;
    assert_int_equal(ap_syscall_row_failed(&row), 0);
    assert_int_equal(ap_syscall_row_error(&row, EAGAIN, 3), 0);
    assert_int_equal(ap_syscall_row_error(&row, ENOENT, 2), 0);
    assert_int_equal(ap_syscall_row_error(&row, AP_ERRNO_MAX, 1), 0);
    assert_int_equal(ap_syscall_row_error(&row, EAGAIN, 4), 0);
    assert_int_equal(ap_syscall_row_error(&row, EPIPE, 1), 0);
    assert_int_equal(ap_syscall_row_error(&row, 0, 1), -EINVAL);
    assert_int_equal(ap_syscall_row_error(&row, AP_ERRNO_MAX + 1, 1), -EINVAL);
    assert_int_equal(row.error_cnt, 4);
    for (uint32_t i = 1; i < row.error_cnt; i++)
        assert_true(row.errors[i - 1].error < row.errors[i].error);
    assert_int_equal(row.errors[1].error, EAGAIN);
    assert_int_equal(row.errors[1].count, 7);
    assert_int_equal(ap_syscall_row_failed(&row), 11);
    free(row.errors);
}

/* Past each bound rows are shared one level further, and nothing is lost. */
static void test_folding(void **state)
{
    struct ap_strings *strings = ap_strings_new(STRINGS_SZ);
    struct ap_syscalls *syscalls = ap_syscalls_new(strings);
    struct ap_syscall_row *row;
    const uint64_t extra = 100000;
    uint64_t asked = 0;
    char comm[32];

    (void)state;
    for (uint64_t i = 1; i <= AP_SYSCALL_ROWS_MAX; i++, asked++)
        get(syscalls, i, "many", 3)->count++;
    assert_int_equal(syscalls->row_cnt, AP_SYSCALL_ROWS_MAX);
    assert_int_equal(syscalls->folded, 0);
    /* By name: the processes share one row for each number. */
    for (uint64_t i = 1; i <= extra; i++, asked++) {
        row = get(syscalls, AP_SYSCALL_ROWS_MAX + i, "more", (uint32_t)(i % 2));
        row->count++;
        assert_int_equal(row->process, 0);
        assert_int_equal(row->pid, 0);
        assert_string_equal(ap_strings_get(strings, row->comm), "more");
    }
    assert_int_equal(syscalls->row_cnt, AP_SYSCALL_ROWS_MAX + 2);
    assert_int_equal(syscalls->folded, extra);
    assert_int_equal(get(syscalls, 77, "many", 3)->process, 77); /* known rows stay */
    assert_int_equal(get(syscalls, 77, "many", 4)->process, 0);
    /* "(other)". */
    for (unsigned i = 0; i < AP_SYSCALL_COMM_ROWS_MAX + 50; i++, asked++) {
        snprintf(comm, sizeof(comm), "comm%u", i);
        get(syscalls, extra * 10 + i, comm, 5)->count++;
    }
    row = get(syscalls, extra * 20, "no room", 5);
    assert_string_equal(ap_strings_get(strings, row->comm), "(other)");
    assert_int_equal(row->count, 53); /* "more" and "many" have three of the rows */
    /* Numbers without end. */
    for (unsigned i = 0; i < AP_SYSCALL_OTHER_ROWS_MAX + 100; i++, asked++)
        get(syscalls, extra * 30 + i, "strange", 1000 + i)->count++;
    assert_int_equal(syscalls->row_cnt, AP_SYSCALL_ROWS_MAX + AP_SYSCALL_COMM_ROWS_MAX + AP_SYSCALL_OTHER_ROWS_MAX);
    row = get(syscalls, extra * 40, "strange", 123456789);
    assert_int_equal(row->number, AP_SYSCALL_NUMBER_OTHER);
    assert_int_equal(row->count, 102); /* one row had number 5, one is this */
    assert_int_equal(ap_syscalls_count(syscalls), asked);

    ap_syscalls_sort(syscalls); /* rows are found after it, and are the same */
    assert_ptr_equal(get(syscalls, extra * 40, "strange", 123456789), row);
    assert_int_equal(get(syscalls, 77, "many", 3)->process, 77);
    ap_syscalls_free(syscalls);
    ap_strings_free(strings);
}

static void test_sort(void **state)
{
    struct ap_strings *strings = ap_strings_new(STRINGS_SZ);
    struct ap_syscalls *syscalls = ap_syscalls_new(strings);
    static const struct {
        uint64_t process, count, total;
        uint32_t number;
    } wanted[] = {{1, 1, 900, 0}, {2, 9, 500, 1}, {3, 2, 500, 0}, {4, 2, 500, 0}, {4, 2, 500, 7}, {5, 0, 0, 0}};

    (void)state;
    ap_syscalls_sort(syscalls);
    for (unsigned i = 6; i-- > 0;) {
        struct ap_syscall_row *row = get(syscalls, wanted[i].process, "x", wanted[i].number);

        row->count = wanted[i].count;
        row->total_ns = wanted[i].total;
    }
    for (unsigned round = 0; round < 2; round++) {
        ap_syscalls_sort(syscalls);
        for (unsigned i = 0; i < 6; i++) {
            assert_int_equal(syscalls->rows[i]->process, wanted[i].process);
            assert_int_equal(syscalls->rows[i]->number, wanted[i].number);
            assert_ptr_equal(get(syscalls, wanted[i].process, "x", wanted[i].number), syscalls->rows[i]);
        }
    }
    assert_int_equal(syscalls->row_cnt, 6);
    ap_syscalls_free(syscalls);
    ap_strings_free(strings);
}

/* Compares a table with a kernel header: "#define __NR_read 0", "(__X32_SYSCALL_BIT + 512)". False without it. */
static bool compare_header(const char *path, uint8_t abi)
{
    FILE *file = fopen(path, "re");
    char line[256], name[64], buf[AP_SYSCALL_NAME_SZ];
    bool in_header[1024] = {false};
    uint32_t number, last = 0, cnt = 0;

    if (file == NULL)
        return false;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "#define __NR_%63[a-z0-9_] (__X32_SYSCALL_BIT + %u)", name, &number) != 2 &&
            sscanf(line, "#define __NR_%63[A-Za-z0-9_] %u", name, &number) != 2)
            continue;
        /* asm-generic: its own names, and calls of 32-bit machines only. */
        if (strcmp(name, "syscalls") == 0 || strcmp(name, "arch_specific_syscall") == 0)
            continue;
        if (strstr(path, "asm-generic") != NULL && number >= 403 && number < 424)
            continue;
        assert_true(number < 1024);
        assert_string_equal(ap_syscall_name(abi, number, buf), name);
        in_header[number] = true;
        last = number;
        cnt++;
    }
    (void)fclose(file);
    for (uint32_t i = abi == AP_SYSCALL_X32 ? 512 : 0; i <= last; i++) {
        snprintf(name, sizeof(name), "syscall_%u", i);
        if (!in_header[i] && i != 335 && i != 336 && strstr(path, "asm-generic") == NULL) /* newer than the header */
            assert_string_equal(ap_syscall_name(abi, i, buf), name);
    }
    assert_true(cnt > 30);
    return true;
}

static void test_names_are_those_of_the_headers(void **state)
{
    (void)state;
#if defined(__x86_64__)
    bool found = compare_header("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", AP_SYSCALL_NATIVE) ||
                 compare_header("/usr/include/asm/unistd_64.h", AP_SYSCALL_NATIVE);

    found &= compare_header("/usr/include/x86_64-linux-gnu/asm/unistd_32.h", AP_SYSCALL_COMPAT) ||
             compare_header("/usr/include/asm/unistd_32.h", AP_SYSCALL_COMPAT);
    found &= compare_header("/usr/include/x86_64-linux-gnu/asm/unistd_x32.h", AP_SYSCALL_X32) ||
             compare_header("/usr/include/asm/unistd_x32.h", AP_SYSCALL_X32);
    if (!found)
        skip();
#elif defined(__aarch64__)
    if (!compare_header("/usr/include/asm-generic/unistd.h", AP_SYSCALL_NATIVE))
        skip();
#else
    skip();
#endif
}

static void test_names(void **state)
{
    char buf[AP_SYSCALL_NAME_SZ];

    (void)state;
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, AP_SYSCALL_NUMBER_OTHER, buf), "(other)");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 4000000000, buf), "syscall_4000000000");
    assert_string_equal(ap_syscall_name(200, 0, buf), "syscall_0");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 469, buf), "file_setattr");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 451, buf), "cachestat");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 400, buf), "syscall_400");
#if defined(__x86_64__)
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 0, buf), "read");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 257, buf), "openat");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_NATIVE, 512, buf), "syscall_512");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_COMPAT, 295, buf), "openat");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_COMPAT, 3, buf), "read");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_COMPAT, 222, buf), "syscall_222");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_X32, 0, buf), "read");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_X32, 512, buf), "rt_sigaction");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_X32, 547, buf), "pwritev2");
    assert_string_equal(ap_syscall_name(AP_SYSCALL_X32, 548, buf), "syscall_548");
#endif
    assert_string_equal(ap_syscall_abi_name(AP_SYSCALL_NATIVE), "native");
    assert_string_equal(ap_syscall_abi_name(AP_SYSCALL_COMPAT), "compat");
    assert_string_equal(ap_syscall_abi_name(AP_SYSCALL_X32), "x32");
    assert_string_equal(ap_syscall_abi_name(77), "unknown");
}

static void test_errno_names(void **state)
{
    char buf[AP_SYSCALL_NAME_SZ], number[32];

    (void)state;
    for (int i = 1; i < 200; i++) {
        const char *libc = strerrorname_np(i), *own = ap_errno_name((uint32_t)i, buf);

        snprintf(number, sizeof(number), "E%d", i);
        if (libc == NULL)
            assert_string_equal(own, number);
        else if (i != ENOTSUP) /* glibc's other name for EOPNOTSUPP */
            assert_string_equal(own, libc);
    }
    assert_string_equal(ap_errno_name(EOPNOTSUPP, buf), "EOPNOTSUPP");
    assert_string_equal(ap_errno_name(512, buf), "ERESTARTSYS");
    assert_string_equal(ap_errno_name(516, buf), "ERESTART_RESTARTBLOCK");
    assert_string_equal(ap_errno_name(520, buf), "E520");
    assert_string_equal(ap_errno_name(524, buf), "ENOTSUPP");
    assert_string_equal(ap_errno_name(531, buf), "ENOGRACE");
    assert_string_equal(ap_errno_name(532, buf), "E532");
    assert_string_equal(ap_errno_name(4095, buf), "E4095");
    assert_string_equal(ap_errno_name(0, buf), "E0");
}

static void test_restored_rows(void **state)
{
    struct ap_strings *strings = ap_strings_new(1 << 24);
    struct ap_syscalls *syscalls = ap_syscalls_new(strings);
    struct ap_syscall_row *row = NULL, *other = NULL;
    uint32_t comm = ap_strings_id(strings, "app");

    (void)state;
    assert_int_equal(
        ap_syscalls_restore(
            syscalls, &(struct ap_syscall_row){.process = 7, .pid = 70, .comm = comm, .number = 3, .count = 5}, &row),
        0);
    assert_int_equal(row->pid, 70);
    assert_int_equal(row->count, 0); /* only what tells rows apart is taken */
    assert_ptr_equal(ap_syscalls_row(syscalls, 7, 70, "app", AP_SYSCALL_NATIVE, 3), row);
    assert_int_equal(ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.process = 7, .number = 3}, &other),
                     -EEXIST);
    assert_null(other);
    /* Its process is known: exec renames all of its rows. */
    assert_non_null(ap_syscalls_row(syscalls, 7, 70, "sh", AP_SYSCALL_NATIVE, 4));
    assert_string_equal(ap_strings_get(strings, row->comm), "sh");
    for (uint32_t i = 0; i < AP_SYSCALL_COMM_ROWS_MAX; i++)
        assert_int_equal(ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.comm = comm, .number = i}, &other), 0);
    assert_int_equal(
        ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.comm = comm, .number = UINT32_MAX}, &other), -ENOSPC);
    comm = ap_strings_id(strings, "(other)");
    for (uint32_t i = 0; i < AP_SYSCALL_OTHER_ROWS_MAX; i++)
        assert_int_equal(ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.comm = comm, .number = i}, &other), 0);
    assert_int_equal(
        ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.comm = comm, .number = UINT32_MAX}, &other), -ENOSPC);
    for (uint32_t i = 2; i < AP_SYSCALL_ROWS_MAX; i++)
        assert_int_equal(ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.process = 8 + i}, &other), 0);
    assert_int_equal(ap_syscalls_restore(syscalls, &(struct ap_syscall_row){.process = 8}, &other), -ENOSPC);
    ap_syscalls_free(syscalls);
    ap_strings_free(strings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_folding),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_names_are_those_of_the_headers),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_errno_names),
        cmocka_unit_test(test_restored_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
