/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* CPU-bound load: one thread per CPU computes at the end of a call chain of some 15 functions, with frame pointers.
 * usage: load-cpu [UNITS]   (see load.h) */
#include "load.h"

#define NOINLINE __attribute__((noinline, noclone))

static NOINLINE uint64_t leaf(uint64_t x)
{
    /* gcc leaves the frame pointer out of leaf functions that use no stack */
    __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)));
    for (int i = 0; i < 8000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

#define LEVEL(name, next)                                                                                              \
    static NOINLINE uint64_t name(uint64_t x)                                                                          \
    {                                                                                                                  \
        return next(x + 1) + 1;                                                                                        \
    }

LEVEL(level_12, leaf)
LEVEL(level_11, level_12)
LEVEL(level_10, level_11)
LEVEL(level_9, level_10)
LEVEL(level_8, level_9)
LEVEL(level_7, level_8)
LEVEL(level_6, level_7)
LEVEL(level_5, level_6)
LEVEL(level_4, level_5)
LEVEL(level_3, level_4)
LEVEL(level_2, level_3)
LEVEL(level_1, level_2)

static void *worker(void *arg)
{
    uint64_t x = 88172645463325252ULL, i;

    (void)arg;
    for (i = 0; !load_units || i < load_units; i++) {
        x = level_1(x) | 1;
        atomic_fetch_add_explicit(&load_done, 1, memory_order_relaxed);
    }
    return x == 1 ? &load_done : NULL; /* keeps the work */
}

int main(int argc, char **argv)
{
    return load_main(argc, argv, worker);
}
