/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* One thread that makes the cheapest system call there is, getppid; a unit is a call.
 * usage: load-getppid [UNITS]   (see load.h) */
#define LOAD_THREADS 1
#include "load.h"

#include <sys/syscall.h>

#define TURN 1000 /* calls between two looks at the counter */

static void *worker(void *arg)
{
    uint64_t i;

    (void)arg;
    for (i = 1; !load_units || i <= load_units; i++) {
        syscall(SYS_getppid);
        if (i % TURN == 0)
            atomic_fetch_add_explicit(&load_done, TURN, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    return load_main(argc, argv, worker);
}
