/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Spends nearly all of its time in the kernel, called from one known function.
 * usage: load-kernel SECONDS */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char block[1 << 20];

/* read(2) without the C library, whose own read() has no frame pointer and would hide its caller. */
__attribute__((noinline, noclone)) int read_zeros(int fd)
{
    /* gcc leaves the frame pointer out of leaf functions that use no stack, whatever its flags say */
    __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)));
#if defined(__x86_64__)
    long rc = SYS_read;

    __asm__ volatile("syscall" : "+a"(rc) : "D"(fd), "S"(block), "d"(sizeof(block)) : "rcx", "r11", "memory");
    return rc == (long)sizeof(block);
#elif defined(__aarch64__)
    register long rc __asm__("x0") = fd;
    register char *to __asm__("x1") = block;
    register long len __asm__("x2") = sizeof(block);
    register long number __asm__("x8") = SYS_read;

    __asm__ volatile("svc 0" : "+r"(rc) : "r"(to), "r"(len), "r"(number) : "memory");
    return rc == (long)sizeof(block);
#endif
}

int main(int argc, char **argv)
{
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
    int fd = open("/dev/zero", O_RDONLY);

    if (fd < 0)
        return 1;
    while (time(NULL) < end)
        if (!read_zeros(fd))
            return 1;
    return 0;
}
