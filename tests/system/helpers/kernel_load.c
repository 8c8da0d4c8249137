/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Load with a known shape for tests/system and tools/test-kernels. Each thread spends 3/4 of its chunks in
 * kload_hot() and 1/4 in kload_warm(), chunk by chunk in random order so that no sampling rate can lock onto
 * the pattern; in between it makes system calls. The main thread forks children that burn in kload_child()
 * and exit. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

#define THREADS_MAX       16
#define CHUNK_ITERATIONS  20000       /* well under a sampling period, also when emulated */
#define READ_SZ           (256 << 10) /* one read() of this many zeroes: time that belongs to the kernel */
#define CHUNKS_PER_READ   32
#define CHILD_CPU_NS      10000000ULL /* a child burns this much: two periods of 199 Hz */
#define CHILD_INTERVAL_NS 100000000ULL

struct options {
    double seconds;
    unsigned threads;
    int nice;
    const char *name; /* thread names are NAME-0, NAME-1 ...; the main thread and the children are NAME */
};

struct worker {
    pthread_t thread;
    unsigned index;
    const char *name;
    uint64_t hot, warm;     /* chunks done */
    volatile uint32_t sink; /* takes the results, so that the work is not optimised away */
    char *buf;
};

static atomic_bool stopping;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* Both do the same work; other constants keep the compiler from making them one function. */
static NOINLINE uint32_t kload_hot(uint32_t x)
{
    for (unsigned i = 0; i < CHUNK_ITERATIONS; i++) {
        x = x * 1664525U + 1013904223U;
        x ^= x >> 13;
    }
    return x;
}

static NOINLINE uint32_t kload_warm(uint32_t x)
{
    for (unsigned i = 0; i < CHUNK_ITERATIONS; i++) {
        x = x * 22695477U + 12345U;
        x ^= x >> 11;
    }
    return x;
}

static NOINLINE void kload_child(void)
{
    uint64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + CHILD_CPU_NS;
    volatile uint32_t sink = 1;
    uint32_t x = sink;

    do {
        for (unsigned i = 0; i < CHUNK_ITERATIONS; i++)
            x = x * 69069U + 7U;
    } while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end);
    sink = x;
}

static NOINLINE void kload_syscalls(struct worker *worker)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (read(fd, worker->buf, READ_SZ) > 0)
        worker->sink ^= (uint32_t)worker->buf[0];
    close(fd);
    syscall(SYS_getppid);
}

static NOINLINE void kload_round(struct worker *worker, uint32_t *random)
{
    for (unsigned i = 0; i < CHUNKS_PER_READ; i++) {
        *random = *random * 1103515245U + 12345U;
        if (*random >> 30) { /* 3 of 4 */
            worker->sink ^= kload_hot(*random);
            worker->hot++;
        } else {
            worker->sink ^= kload_warm(*random);
            worker->warm++;
        }
    }
    kload_syscalls(worker);
}

static void *kload_thread(void *arg)
{
    struct worker *worker = arg;
    uint32_t random = 88172645U + worker->index;
    char name[16];

    snprintf(name, sizeof(name), "%.12s-%u", worker->name, worker->index);
    prctl(PR_SET_NAME, name);
    while (!atomic_load(&stopping))
        kload_round(worker, &random);
    return NULL;
}

/* Forks one child and waits for it. 0 or a negative errno. */
static int run_child(void)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return -errno;
    if (pid == 0) {
        kload_child();
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static void usage(FILE *file)
{
    fputs("Usage: kernel-load [--seconds N] [--threads N] [--nice N] [--name NAME]\n"
          "Burns CPU: 3/4 in kload_hot, 1/4 in kload_warm, some in the kernel and in short-lived children.\n"
          "Prints its process id at the start and what it did at the end.\n",
          file);
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    int i;

    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--seconds"))
            options->seconds = strtod(argv[i + 1], NULL);
        else if (!strcmp(argv[i], "--threads"))
            options->threads = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--nice"))
            options->nice = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--name"))
            options->name = argv[i + 1];
        else
            return false;
    }
    return i == argc && options->seconds > 0 && options->threads > 0 && options->threads <= THREADS_MAX;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000ULL), .tv_nsec = (long)(ns % 1000000000ULL)};

    nanosleep(&ts, NULL);
}

int main(int argc, char **argv)
{
    struct options options = {.seconds = 5, .threads = 2, .name = "kload"};
    struct worker workers[THREADS_MAX] = {0};
    uint64_t end, hot = 0, warm = 0, children = 0;
    unsigned started = 0;
    int err = 0;

    if (!parse_options(argc, argv, &options)) {
        usage(stderr);
        return 2;
    }
    prctl(PR_SET_NAME, options.name);
    if (setpriority(PRIO_PROCESS, 0, options.nice)) {
        perror("kernel-load: --nice");
        return 1;
    }
    printf("%d\n", (int)getpid());
    fflush(stdout);
    end = now_ns(CLOCK_MONOTONIC) + (uint64_t)(options.seconds * 1e9);

    for (; started < options.threads && !err; started++) {
        struct worker *worker = &workers[started];

        worker->index = started;
        worker->name = options.name;
        worker->buf = malloc(READ_SZ);
        if (!worker->buf)
            err = -ENOMEM;
        else
            err = -pthread_create(&worker->thread, NULL, kload_thread, worker);
        if (err) {
            free(worker->buf);
            break;
        }
    }
    while (!err && now_ns(CLOCK_MONOTONIC) < end) {
        err = run_child();
        children += !err;
        sleep_ns(CHILD_INTERVAL_NS);
    }
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        hot += workers[i].hot;
        warm += workers[i].warm;
        free(workers[i].buf);
    }
    if (err) {
        fprintf(stderr, "kernel-load: %s\n", strerror(-err));
        return 1;
    }
    printf("hot %llu warm %llu children %llu\n", (unsigned long long)hot, (unsigned long long)warm,
           (unsigned long long)children);
    return 0;
}
