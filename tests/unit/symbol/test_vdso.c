/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/vdso.h"

#include "symbol/elf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static void the_image_that_is_mapped(void **state)
{
    const char *mapped = (const char *)getauxval(AT_SYSINFO_EHDR); // NOLINT(performance-no-int-to-ptr)
    struct ap_elf_info info;
    static char image[AP_VDSO_SZ_MAX];
    struct stat st;
    int fd = ap_vdso_open();

    (void)state;
    if (!mapped) {
        assert_int_equal(fd, -ENOENT);
        skip();
    }
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size >= (off_t)sizeof(Elf64_Ehdr) && st.st_size <= AP_VDSO_SZ_MAX);
    assert_int_equal(pread(fd, image, sizeof(image), 0), st.st_size);
    assert_memory_equal(image, mapped, (size_t)st.st_size);
    /* sections and all: it can be read like a file */
    assert_int_equal(ap_elf_inspect(fd, &info), 0);
    assert_true(info.has_symbols);
    assert_true(info.build_id_len > 0);
    close(fd);
}

static void each_caller_has_its_own(void **state)
{
    int a = ap_vdso_open(), b = ap_vdso_open();
    char byte;

    (void)state;
    if (a == -ENOENT)
        skip();
    assert_true(a >= 0 && b >= 0 && a != b);
    close(a);
    assert_int_equal(pread(b, &byte, 1, 0), 1);
    close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_image_that_is_mapped),
        cmocka_unit_test(each_caller_has_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
