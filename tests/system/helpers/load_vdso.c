/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Spends its time in the vdso, asking for the time.
 * usage: load-vdso SECONDS */
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    struct timespec now = {0};
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);

    while (now.tv_sec < end)
        clock_gettime(CLOCK_REALTIME, &now);
    return 0;
}
