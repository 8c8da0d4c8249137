/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What this process has mapped where, by /proc/self/maps. */
#ifndef APERTURE_TESTS_AGENT_MAPS_H
#define APERTURE_TESTS_AGENT_MAPS_H

#include "agent/modules.h"
#include "files.h"

#include <sys/mman.h>

/* The mapping that contains `addr`; the path is kept until the next call. */
FILES struct ap_mapped_file maps_find(const void *addr)
{
    static char line[PATH_MAX + 256];
    unsigned long long start, end, off, inode;
    struct ap_mapped_file file = {0};
    unsigned maj, min;
    FILE *maps = fopen("/proc/self/maps", "re");
    int at;

    assert_non_null(maps);
    while (!file.path && fgets(line, sizeof(line), maps)) {
        line[strcspn(line, "\n")] = '\0';
        at = 0;
        assert_true(sscanf(line, "%llx-%llx %*s %llx %x:%x %llu %n", &start, &end, &off, &maj, &min, &inode, &at) >= 6);
        if ((uintptr_t)addr >= start && (uintptr_t)addr < end)
            file = (struct ap_mapped_file){start, end, off, maj, min, inode, line + at};
    }
    (void)fclose(maps);
    assert_non_null(file.path);
    return file;
}

/* Maps the first page of a file for execution. */
FILES void *maps_exec(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *page;

    assert_true(fd >= 0);
    page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    assert_true(page != MAP_FAILED);
    assert_int_equal(close(fd), 0);
    return page;
}

/* Opening what /proc/PID/map_files names takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. */
FILES bool maps_may_open(const struct ap_mapped_file *file)
{
    char link[96];
    int fd;

    (void)snprintf(link, sizeof(link), "/proc/self/map_files/%llx-%llx", (unsigned long long)file->start,
                   (unsigned long long)file->end);
    fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

#endif
