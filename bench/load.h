/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the loads of the benchmark share: worker threads that count their work, and the answers about it. */
#ifndef APERTURE_BENCH_LOAD_H
#define APERTURE_BENCH_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef LOAD_THREADS
#define LOAD_THREADS sysconf(_SC_NPROCESSORS_ONLN)
#endif

static _Atomic uint64_t load_done;
static uint64_t load_units; /* of each thread; 0 = until standard input ends */

static inline uint64_t load_wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

/* CPU time of all threads, and of the children that were waited for. */
static inline uint64_t load_cpu_ns(void)
{
    struct rusage usage;
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    getrusage(RUSAGE_CHILDREN, &usage);
    return (uint64_t)(now.tv_sec + usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ULL +
           (uint64_t)now.tv_nsec + (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ULL;
}

/* Runs `worker` on LOAD_THREADS threads, one per CPU unless told otherwise. With a number as argument each does so many
 * units of work; the rate is printed. Without, each line on standard input is answered by "UNITS WALL_NS CPU_NS", all
 * since the start. */
static inline int load_main(int argc, char **argv, void *(*worker)(void *))
{
    long threads = LOAD_THREADS, i;
    pthread_t *ids = calloc((size_t)threads, sizeof(*ids));
    uint64_t start = load_wall_ns(), wall;
    char line[64];

    load_units = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    for (i = 0; ids && i < threads; i++)
        if (pthread_create(&ids[i], NULL, worker, NULL))
            return 1;
    if (!ids)
        return 1;
    if (!load_units) {
        while (fgets(line, sizeof(line), stdin)) {
            printf("%llu %llu %llu\n", (unsigned long long)load_done, (unsigned long long)load_wall_ns(),
                   (unsigned long long)load_cpu_ns());
            fflush(stdout);
        }
        _exit(0);
    }
    for (i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    free(ids);
    wall = load_wall_ns() - start;
    printf("%llu units in %.3f s: %.1f/s\n", (unsigned long long)load_done, (double)wall / 1e9,
           (double)load_done * 1e9 / (double)wall);
    return 0;
}

#endif
