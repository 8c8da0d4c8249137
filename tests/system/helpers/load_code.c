/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Runs code that no ordinary executable holds.
 * usage: load-code jit SECONDS             anonymous memory, named "jit_compiled_function" in /tmp/perf-PID.map
 *        load-code unnamed SECONDS         anonymous memory without a map
 *        load-code FILE SECONDS            a copy of the code mapped from FILE at its second page; FILE's first page
 *                                          is left as it is */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

#if defined(__x86_64__)
/* push rbp; mov rbp,rsp; mov ecx,10000000; 1: dec ecx; jnz 1b; pop rbp; ret */
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xb9, 0x80, 0x96, 0x98,
                                     0x00, 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3};
#elif defined(__aarch64__)
/* stp x29,x30,[sp,#-16]!; mov x29,sp; mov w1,#0x989680; 1: subs w1,w1,#1; b.ne 1b; ldp x29,x30,[sp],#16; ret */
static const unsigned int code[] = {0xa9bf7bfd, 0x910003fd, 0x5292d001, 0x72a01301,
                                    0x71000421, 0x54ffffe1, 0xa8c17bfd, 0xd65f03c0};
#endif

static void *anonymous_code(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    memcpy(page, code, sizeof(code));
    return mprotect(page, PAGE, PROT_READ | PROT_EXEC) ? NULL : page;
}

static void *file_code(const char *path)
{
    int fd = open(path, O_RDWR);
    void *page;

    if (fd < 0 || pwrite(fd, code, sizeof(code), PAGE) != (ssize_t)sizeof(code))
        return NULL;
    page = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, PAGE);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

static int write_map(const void *start)
{
    char path[64];
    FILE *map;

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    map = fopen(path, "w");
    if (!map)
        return 1;
    fprintf(map, "not a line of a map\n%lx %zx jit_compiled_function\n", (unsigned long)start, sizeof(code));
    return fclose(map);
}

int main(int argc, char **argv)
{
    time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 5);
    int anonymous;
    void *page;

    if (argc < 2)
        return 2;
    anonymous = !strcmp(argv[1], "jit") || !strcmp(argv[1], "unnamed");
    page = anonymous ? anonymous_code() : file_code(argv[1]);
    if (!page || (!strcmp(argv[1], "jit") && write_map(page)))
        return 1;
    __builtin___clear_cache((char *)page, (char *)page + PAGE);
    while (time(NULL) < end)
        ((void (*)(void))page)();
    return 0;
}
