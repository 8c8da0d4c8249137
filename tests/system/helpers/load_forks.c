/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Starts short-lived processes one after another: each executes this program again and burns CPU in short_lived() for
 * some milliseconds. Prints how many and the children's CPU time (ns).
 * usage: load-forks COUNT MILLISECONDS   (0 ms: the child ends at once)
 *        load-forks child MILLISECONDS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

__attribute__((noinline, noclone)) unsigned long short_lived(double ms)
{
    unsigned long x = 1;

    while (cpu_ms() < ms)
        for (int i = 0; i < 20000; i++) {
            x = x * 6364136223846793005UL + 1442695040888963407UL;
            __asm__ volatile("" : "+r"(x));
        }
    return x;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int status;
    volatile int failed = 0; /* kept across vfork */

    if (argc < 3)
        return 2;
    if (!strcmp(argv[1], "child")) {
        short_lived(atof(argv[2]));
        return 0;
    }
    for (int i = 0; i < atoi(argv[1]); i++) {
        pid_t pid = vfork();

        if (pid == 0) {
            execl("/proc/self/exe", "load-forks", "child", argv[2], (char *)NULL);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            failed = failed + 1;
    }
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("%s %lld\n", argv[1],
           (long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
               (long long)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL);
    return failed != 0;
}
