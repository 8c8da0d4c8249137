/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/kallsyms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KERNEL 0xffffffff81000000ULL

static char path[] = "/tmp/aperture-kallsyms.XXXXXX";
static struct ap_kallsyms *kallsyms;

/* Result of reading a file of this text. */
static int read_text(const char *text, size_t len)
{
    int fd = mkstemp(path), rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    assert_int_equal(close(fd), 0);
    kallsyms = NULL;
    rc = ap_kallsyms_new(path, &kallsyms);
    assert_int_equal(unlink(path), 0);
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    return rc;
}

static void expect_function(const char *name, uint64_t start, uint64_t end)
{
    uint64_t got_start = 0, got_end = 0;

    if (!ap_kallsyms_function(kallsyms, name, &got_start, &got_end))
        fail_msg("no function %s", name);
    assert_int_equal(got_start, start);
    assert_int_equal(got_end, end);
}

static void expect_no_function(const char *name)
{
    uint64_t start = 1, end = 2;

    assert_false(ap_kallsyms_function(kallsyms, name, &start, &end));
    assert_int_equal(start, 1);
    assert_int_equal(end, 2);
}

static void expect_variable(uint64_t addr, const char *name, uint64_t off)
{
    uint64_t got = UINT64_MAX;
    const char *found = ap_kallsyms_variable(kallsyms, addr, &got);

    assert_non_null(found);
    assert_string_equal(found, name);
    assert_int_equal(got, off);
}

static void expect_no_variable(uint64_t addr)
{
    uint64_t off;

    assert_null(ap_kallsyms_variable(kallsyms, addr, &off));
}

/* As the kernel writes it: its own symbols by address, then those of modules, which lie below. */
static const char sound[] = "ffffffff81000000 T _text\n"
                            "ffffffff81000100 t do_one\n"
                            "ffffffff81000100 T do_one_too\n"
                            "ffffffff81000180 W weak_one\n"
                            "ffffffff81000200 t do_two\n"
                            "ffffffff81000200 t do_two.cold\n"
                            "ffffffff81000300 T _etext\n"
                            "ffffffff82000000 R some_table\n"
                            "ffffffff82001000 D a_mutex\n"
                            "ffffffff82001020 d another_mutex\n"
                            "ffffffff82001040 B a_lock\n"
                            "ffffffff82101040 b far_away\n"
                            "ffffffff82101048 T code_behind\n"
                            "ffffffff82101050 b last\n"
                            "ffffffffc0002000 d module_lock\t[some_module]\n"
                            "ffffffffc0001000 t module_function\t[some_module]\n"
                            "ffffffffc0001080 t do_one\t[some_module]\n"
                            "ffffffffc0003000 T module_end\t[some_module]\n";

static void functions(void **state)
{
    (void)state;
    assert_int_equal(read_text(sound, strlen(sound)), 0);
    expect_function("_text", KERNEL, KERNEL + 0x100);
    expect_function("do_one", KERNEL + 0x100, KERNEL + 0x180); /* not the one of the module */
    expect_function("do_one_too", KERNEL + 0x100, KERNEL + 0x180);
    expect_function("do_two", KERNEL + 0x200, KERNEL + 0x300); /* the next one is not at the same address */
    expect_function("module_function", 0xffffffffc0001000, 0xffffffffc0001080); /* names end before the tab */
    expect_no_function("module_end");                                           /* none knows where it ends */
    expect_no_function("a_mutex");                                              /* no function */
    expect_no_function("do_");
    expect_no_function("do_one_to");
    expect_no_function("");
    assert_null(ap_kallsyms_free(kallsyms));
    assert_null(ap_kallsyms_free(NULL));
}

static void variables(void **state)
{
    (void)state;
    assert_int_equal(read_text(sound, strlen(sound)), 0);
    expect_variable(0xffffffff82001000, "a_mutex", 0);
    expect_variable(0xffffffff8200101f, "a_mutex", 0x1f);
    expect_variable(0xffffffff82001020, "another_mutex", 0);
    expect_variable(0xffffffff82001040, "a_lock", 0);
    expect_variable(0xffffffff82001040 + AP_KALLSYMS_VARIABLE_SZ_MAX, "a_lock", AP_KALLSYMS_VARIABLE_SZ_MAX);
    expect_variable(0xffffffff82000007, "some_table", 7);
    expect_variable(0xffffffffc0002010, "module_lock", 0x10);
    expect_no_variable(0xffffffff82001041 + AP_KALLSYMS_VARIABLE_SZ_MAX); /* memory that is none's */
    expect_no_variable(0);
    expect_no_variable(KERNEL - 1);         /* before the first */
    expect_no_variable(KERNEL + 0x100);     /* code */
    expect_no_variable(0xffffffff8210104c); /* code between variables */
    expect_no_variable(0xffffffffc0003000); /* the last symbol of all */
    expect_no_variable(0xffff888000000000); /* allocated */
    expect_no_variable(UINT64_MAX);
    ap_kallsyms_free(kallsyms);
}

static void any_order(void **state)
{
    static const char text[] = "ffffffff81000300 T c\n"
                               "ffffffff81000100 T a\n"
                               "ffffffff81000500 D v\n"
                               "ffffffff81000400 T d\n"
                               "ffffffff81000600 B w\n"
                               "ffffffff81000200 T b\n";

    (void)state;
    assert_int_equal(read_text(text, strlen(text)), 0);
    expect_function("a", KERNEL + 0x100, KERNEL + 0x200);
    expect_function("b", KERNEL + 0x200, KERNEL + 0x300);
    expect_function("c", KERNEL + 0x300, KERNEL + 0x400);
    expect_function("d", KERNEL + 0x400, KERNEL + 0x500);
    expect_variable(KERNEL + 0x5ff, "v", 0xff);
    expect_no_variable(KERNEL + 0x600);
    ap_kallsyms_free(kallsyms);
}

/* kernel.kptr_restrict: the addresses of all are zero. */
static void hidden(void **state)
{
    static const char all[] = "0000000000000000 T _text\n0000000000000000 D a_mutex\n";
    static const char some[] = "0000000000000000 A fixed_percpu_data\n"
                               "ffffffff81000100 T a\n"
                               "ffffffff81000200 T b\n";

    (void)state;
    assert_int_equal(read_text(all, strlen(all)), -EPERM);
    assert_null(kallsyms);
    assert_int_equal(read_text("", 0), -EPERM);
    assert_int_equal(read_text(some, strlen(some)), 0); /* per-CPU variables start at zero on older kernels */
    expect_function("a", KERNEL + 0x100, KERNEL + 0x200);
    expect_no_variable(0);
    ap_kallsyms_free(kallsyms);
}

static void garbage(void **state)
{
    static const char text[] = "\n"
                               " \n"
                               "T\n"
                               "ffffffff81000100\n"
                               "ffffffff81000100 \n"
                               "ffffffff81000100 T\n"
                               "ffffffff81000100  name\n"
                               "ffffffff81000100 TT name\n"
                               "ffffffff81000100\tT name\n"
                               "no address T name\n"
                               "ffffffff81000200 T good\n"
                               "ffffffff81000280 T \n"
                               "ffffffff81000290 T \t[module]\n"
                               "\377\376\001\002\003\n"
                               "ffffffff81000300 T next\0 hidden part\n"
                               "ffffffffffffffffff T past_all_numbers\n"
                               "ffffffff81000400 T without_an_end";

    (void)state;
    assert_int_equal(read_text(text, sizeof(text) - 1), 0);
    expect_no_function("name");
    expect_function("good", KERNEL + 0x200, KERNEL + 0x280);
    expect_function("next", KERNEL + 0x300, KERNEL + 0x400);
    expect_no_variable(KERNEL + 0x280);
    ap_kallsyms_free(kallsyms);
    assert_int_equal(read_text("nothing\nthat makes sense\n", 25), -EPERM);
}

/* Names are as long as they are (KSYM_NAME_LEN, 512, today). */
static void long_lines(void **state)
{
    const size_t len = 1 << 20;
    char *text = malloc(len + 128), *name = malloc(len + 1);
    int at;

    (void)state;
    assert_true(text && name);
    memset(name, 'n', len);
    name[len] = '\0';
    at = snprintf(text, len + 128, "ffffffff81000100 T a\nffffffff81000200 T %s\nffffffff81000300 T b\n", name);
    assert_int_equal(read_text(text, (size_t)at), 0);
    expect_function("a", KERNEL + 0x100, KERNEL + 0x200);
    expect_function(name, KERNEL + 0x200, KERNEL + 0x300);
    ap_kallsyms_free(kallsyms);
    free(text);
    free(name);
}

/* Past the bound of symbols the file is not read on. */
static void most_symbols(void **state)
{
    const uint32_t cnt = AP_KALLSYMS_MAX + 1000;
    char *text = malloc((size_t)cnt * 32);
    uint32_t i;
    size_t at = 0;

    (void)state;
    assert_non_null(text);
    for (i = 0; i < cnt; i++)
        at += (size_t)snprintf(text + at, 32, "%llx T f%u\n", (unsigned long long)KERNEL + i * 16, i);
    assert_int_equal(read_text(text, at), 0);
    expect_function("f0", KERNEL, KERNEL + 16);
    expect_function("f100000", KERNEL + 1600000, KERNEL + 1600016);
    expect_no_function("f2098000");
    ap_kallsyms_free(kallsyms);
    free(text);
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    kallsyms = NULL;
    assert_int_equal(ap_kallsyms_new("/nonexistent/kallsyms", &kallsyms), -ENOENT);
    assert_int_equal(ap_kallsyms_new("/", &kallsyms), -EIO);
    assert_null(kallsyms);
}

static void the_kernel_s_own(void **state)
{
    uint64_t start, end, off;
    const char *name;
    int rc;

    (void)state;
    kallsyms = NULL;
    rc = ap_kallsyms_new(NULL, &kallsyms);
    if (rc == -EPERM || rc == -ENOENT) {
        print_message("this kernel does not tell its symbols\n");
        skip();
    }
    assert_int_equal(rc, 0);
    assert_true(ap_kallsyms_function(kallsyms, "schedule", &start, &end));
    assert_in_range(end - start, 1, 65536);
    assert_null(ap_kallsyms_variable(kallsyms, start, &off));
    assert_true(ap_kallsyms_function(kallsyms, "vfs_read", &start, &end));
    name = ap_kallsyms_variable(kallsyms, 0xffff888000000000, &off);
    assert_null(name);
    ap_kallsyms_free(kallsyms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions),        cmocka_unit_test(variables),
        cmocka_unit_test(any_order),        cmocka_unit_test(hidden),
        cmocka_unit_test(garbage),          cmocka_unit_test(long_lines),
        cmocka_unit_test(most_symbols),     cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(the_kernel_s_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
