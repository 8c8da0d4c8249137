/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Spends nearly all of its time in the kernel, called from one known function.
 * usage: load-kernel SECONDS */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char block[1 << 20];

__attribute__((noinline, noclone)) int read_zeros(int fd)
{
    return read(fd, block, sizeof(block)) == (ssize_t)sizeof(block);
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
