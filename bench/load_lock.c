/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Threads that lock and unlock; a unit is a pair of both. Each thread has a mutex of its own, or (CONTENDED) four share
 * one that they hold for some 20 us, as long as it takes to wake another: three units of four then go into the kernel.
 * usage: load-lock [UNITS], load-contended [UNITS]   (see load.h) */
#ifdef CONTENDED
#define LOAD_THREADS 4
#endif
#include "load.h"

#define TURN 1000 /* units between two looks at the counter that all share */

static inline void compute(int rounds)
{
    for (int i = 0; i < rounds; i++)
        __asm__ volatile("");
}

#ifdef CONTENDED
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
#endif

static void *worker(void *arg)
{
#ifdef CONTENDED
    pthread_mutex_t *mutex = &shared;
#else
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER, *mutex = &own;
#endif
    uint64_t i;

    (void)arg;
    for (i = 1; !load_units || i <= load_units; i++) {
        pthread_mutex_lock(mutex);
#ifdef CONTENDED
        compute(60000);
#endif
        pthread_mutex_unlock(mutex);
#ifdef CONTENDED
        compute(200);
        atomic_fetch_add_explicit(&load_done, 1, memory_order_relaxed);
#else
        if (i % TURN == 0)
            atomic_fetch_add_explicit(&load_done, TURN, memory_order_relaxed);
#endif
    }
    return NULL;
}

int main(int argc, char **argv)
{
    compute(0);
    return load_main(argc, argv, worker);
}
