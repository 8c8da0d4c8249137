/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Process-bound load: one thread per CPU starts this program as a child that ends at once, and waits for it.
 * usage: load-fork [UNITS]   (see load.h) */
#include "load.h"

#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

static void *worker(void *arg)
{
    static char name[] = "load-fork", child[] = "child";
    char *const argv[] = {name, child, NULL};
    char *const envp[] = {NULL};
    uint64_t i;
    pid_t pid;

    (void)arg;
    for (i = 0; !load_units || i < load_units; i++) {
        if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, envp) || waitpid(pid, NULL, 0) != pid) {
            perror("load-fork");
            exit(1);
        }
        atomic_fetch_add_explicit(&load_done, 1, memory_order_relaxed);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "child"))
        return 0;
    return load_main(argc, argv, worker);
}
