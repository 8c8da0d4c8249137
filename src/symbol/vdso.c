/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/vdso.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

/* Size of the mapping that starts at `start`, 0 when it is not found. */
static size_t mapping_size(uintptr_t start)
{
    unsigned long long from, to;
    char line[512];
    size_t size = 0;
    FILE *maps;

    maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return 0;
    while (!size && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%llx-%llx", &from, &to) == 2 && from == start)
            size = (size_t)(to - from);
    fclose(maps);
    return size;
}

int ap_vdso_open(void)
{
    uintptr_t start = getauxval(AT_SYSINFO_EHDR);
    size_t size = start ? mapping_size(start) : 0;
    int fd;

    if (!size || size > AP_VDSO_SZ_MAX)
        return -ENOENT;
    fd = memfd_create("vdso", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, (const void *)start, size) != (ssize_t)size) {
        close(fd);
        return -EIO;
    }
    return fd;
}
