/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Two threads that answer each other through two pipes, as those of `perf bench sched pipe -T`; a unit is a round trip:
 * two waits, two wake-ups. Both run on one CPU, so that it takes no interrupts of another CPU: these cost ten times a
 * switch on a virtual machine, and vary as much.
 * usage: load-pipe [UNITS]   (see load.h) */
#define LOAD_THREADS 1
#include "load.h"

#include <sched.h>

static int there[2], back[2];

static void *answer(void *arg)
{
    char c;

    (void)arg;
    while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
        ;
    return NULL;
}

static void *worker(void *arg)
{
    pthread_t other;
    cpu_set_t cpu;
    char c = 'x';
    uint64_t i;

    (void)arg;
    CPU_ZERO(&cpu);
    CPU_SET(sched_getcpu(), &cpu); /* the other thread inherits it */
    if (sched_setaffinity(0, sizeof(cpu), &cpu) || pipe(there) || pipe(back) ||
        pthread_create(&other, NULL, answer, NULL))
        exit(1);
    for (i = 0; !load_units || i < load_units; i++) {
        if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
            exit(1);
        atomic_fetch_add_explicit(&load_done, 1, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    return load_main(argc, argv, worker);
}
