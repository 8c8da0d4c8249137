/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the loads share that wait and call: clocks, the gate at their start, threads that tell each other things without
 * futexes, system calls without the C library. */
#ifndef APERTURE_TESTS_LOAD_UTIL_H
#define APERTURE_TESTS_LOAD_UTIL_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
/* gcc leaves the frame pointer out of leaf functions that use no stack, whatever its flags say */
#define NEEDS_FRAME() __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)))

#define MS 1000000ULL

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (errno %d)\n", errno);
    va_end(args);
    _exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static inline uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static inline struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000ULL), .tv_nsec = (long)(ns % 1000000000ULL)};
}

static inline void sleep_ns(uint64_t ns)
{
    struct timespec ts = to_timespec(ns);

    while (nanosleep(&ts, &ts) && errno == EINTR)
        ;
}

/* Returns when standard input has a byte or ends: a test holds the load back with a pipe, /dev/null lets it go. */
static inline void gate(void)
{
    char c;

    while (read(0, &c, 1) < 0 && errno == EINTR)
        ;
}

static inline pid_t own_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* A pipe of one thread or process to another: waits on it are no futex waits. */
struct line {
    int fd[2];
};

static inline void line_open(struct line *line)
{
    if (pipe(line->fd))
        die("pipe");
}

static inline void line_tell(struct line *line)
{
    while (write(line->fd[1], "x", 1) != 1)
        if (errno != EINTR)
            die("write to a pipe");
}

static inline void line_hear(struct line *line)
{
    char c;

    while (read(line->fd[0], &c, 1) != 1)
        if (errno != EINTR)
            die("read from a pipe");
}

/* 'R', 'S', 'D' ... of a thread; 0 when it is gone. */
static inline char thread_state(pid_t tid)
{
    char path[64], text[512], *after;
    FILE *file;
    size_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    after = strrchr(text, ')');
    return after && after[1] ? after[2] : 0;
}

/* Returns when `flag` is set and the thread sleeps: it is then inside the call that it announced by the flag. */
static inline void await_sleep(volatile int *flag, volatile pid_t *tid)
{
    while (!*flag || thread_state(*tid) != 'S')
        sleep_ns(200000);
}

static inline pthread_t start_thread(void *(*body)(void *), void *arg)
{
    pthread_t id;

    if (pthread_create(&id, NULL, body, arg))
        die("pthread_create");
    return id;
}

static inline void name_thread(const char *name)
{
    prctl(PR_SET_NAME, name);
}

/* ns on a CPU and ns runnable without one, of the calling thread. */
static inline void own_schedstat(uint64_t *run, uint64_t *delay)
{
    FILE *file = fopen("/proc/thread-self/schedstat", "re");
    unsigned long long a = 0, b = 0;

    if (!file || fscanf(file, "%llu %llu", &a, &b) != 2)
        die("schedstat");
    fclose(file);
    *run = a;
    *delay = b;
}

/* A system call of the function that this is in: the C library's functions have no frame pointers and would hide it. */
static inline __attribute__((always_inline)) long raw_call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long rc = number;

    __asm__ volatile("syscall"
                     : "+a"(rc)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return rc;
#elif defined(__aarch64__)
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    register long x8 __asm__("x8") = number;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x8) : "memory");
    return x0;
#endif
}

#endif
