/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Three threads that spend their time in three functions as 50 : 30 : 20 by construction: all three run the same
 * instructions, that many times. Prints its own CPU time (ns) when it ends.
 * usage: load-shares SECONDS [THREADS] */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define UNIT 40000 /* rounds per share point and turn: a turn takes some milliseconds */

static volatile int stop;

static inline __attribute__((always_inline)) unsigned long spin(unsigned long rounds, unsigned long x)
{
    /* gcc leaves the frame pointer out of leaf functions that use no stack, whatever its flags say */
    __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)));
    for (unsigned long i = 0; i < rounds; i++) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

__attribute__((noinline, noclone)) unsigned long share_fifty(unsigned long x)
{
    return spin(50UL * UNIT / 100, x);
}

__attribute__((noinline, noclone)) unsigned long share_thirty(unsigned long x)
{
    return spin(30UL * UNIT / 100, x);
}

__attribute__((noinline, noclone)) unsigned long share_twenty(unsigned long x)
{
    return spin(20UL * UNIT / 100, x);
}

static void *work(void *arg)
{
    unsigned long x = (unsigned long)arg;

    while (!stop) {
        x = share_fifty(x);
        x = share_thirty(x);
        x = share_twenty(x);
    }
    return (void *)x;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 5;
    int threads = argc > 2 ? atoi(argv[2]) : 3;
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)}, cpu;
    pthread_t ids[64];

    if (threads < 1 || threads > 64)
        return 2;
    for (int i = 0; i < threads; i++) {
        char name[16];

        if (pthread_create(&ids[i], NULL, work, (void *)(unsigned long)(i + 1)))
            return 1;
        snprintf(name, sizeof(name), "worker-%d", i);
        pthread_setname_np(ids[i], name);
    }
    nanosleep(&pause, NULL);
    stop = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("%lld\n", (long long)cpu.tv_sec * 1000000000LL + cpu.tv_nsec);
    return 0;
}
