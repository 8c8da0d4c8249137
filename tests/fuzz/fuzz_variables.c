/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Symbols of variables, in executable files of profiled processes. */
#include "symbol/elf.h"
#include "symbol/variables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDRS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_variable variables[ADDRS];
    uint64_t vaddrs[ADDRS] = {0}, bias = 0, off, len;
    struct ap_elf_loads loads;
    static int fd = -1; /* one file for all inputs: making one is slow */
    int i, rc, found = 0;

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, 0) == 0);
    check(pwrite(fd, data, size, 0) == (ssize_t)size);
    /* addresses from the end of the input, small ones, and a large one */
    for (i = 0; i < ADDRS - 2; i++)
        if (size >= (size_t)(i + 1) * sizeof(*vaddrs))
            memcpy(&vaddrs[i], data + size - (size_t)(i + 1) * sizeof(*vaddrs), sizeof(*vaddrs));
    for (i = 0; i < ADDRS / 2; i++)
        vaddrs[i] %= 0x20000;
    vaddrs[ADDRS - 2] = 0x4000;
    vaddrs[ADDRS - 1] = UINT64_MAX;
    rc = ap_variables_find(fd, vaddrs, ADDRS, variables);
    check(rc <= ADDRS);
    if (rc < 0)
        check(rc == -ENOEXEC || rc == -EBADMSG || rc == -EOPNOTSUPP || rc == -ENODATA || rc == -EFBIG);
    for (i = 0; i < ADDRS && rc >= 0; i++) {
        check(memchr(variables[i].name, '\0', sizeof(variables[i].name)) != NULL);
        check(variables[i].name[0] || !variables[i].off);
        check(!variables[i].name[0] || memmem(data, size, variables[i].name, strlen(variables[i].name)));
        found += variables[i].name[0] != '\0';
    }
    check(rc < 0 || rc == found);
    if (ap_elf_loads(fd, &loads))
        return 0;
    for (i = 0; i < ADDRS; i++) {
        if (!ap_elf_bias(&loads, vaddrs[i] & ~(uint64_t)4095, vaddrs[(i + 1) % ADDRS] & ~(uint64_t)4095, &bias))
            check(bias % 4096 == 0);
        if (!ap_elf_file_off(&loads, vaddrs[i], &off, &len))
            check(len && off < size && len <= size - off && ap_elf_covers(&loads, vaddrs[i]));
        if (!ap_elf_code_vaddr(&loads, vaddrs[i], &off))
            check(vaddrs[i] < size && ap_elf_covers(&loads, off));
    }
    return 0;
}
