/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Demo load of `make run`: three named threads that share the CPU in known proportions, mostly in user code,
 * partly in the kernel. Function names tell in a flamegraph what each does. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE  __attribute__((noinline))
#define BLOCK_SZ  4096
#define THREADS   3
#define UNIT_STEP 4000 /* rounds of the inner loops: one unit of work, some 10 us */

static atomic_bool stop;
static _Atomic uint64_t sink; /* results go here, so that the compiler keeps the work */

static void keep(uint64_t value)
{
    atomic_fetch_xor_explicit(&sink, value, memory_order_relaxed);
}

/* Units of work; `salt` keeps the loops apart for the optimizer. A macro, so that the time is that of the function it
 * stands in. gcc leaves the frame pointer out of leaf functions that use no stack, hence the asm. */
#define BURN(units, salt)                                                                                              \
    ({                                                                                                                 \
        uint64_t x_ = (salt);                                                                                          \
                                                                                                                       \
        __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)));                                          \
        for (unsigned i_ = 0; i_ < (units)*UNIT_STEP; i_++) {                                                          \
            x_ ^= x_ << 13;                                                                                            \
            x_ ^= x_ >> 7;                                                                                             \
            x_ ^= x_ << 17;                                                                                            \
        }                                                                                                              \
        x_;                                                                                                            \
    })

/* web: 60 % parse_request (two thirds of it parse_headers), 40 % render_report */
NOINLINE static void parse_headers(void)
{
    keep(BURN(4, 0x9e3779b97f4a7c15));
}

NOINLINE static void parse_request(void)
{
    keep(BURN(2, 0xbf58476d1ce4e5b9));
    parse_headers();
    keep(1);
}

NOINLINE static void format_rows(void)
{
    keep(BURN(3, 0x94d049bb133111eb));
}

NOINLINE static void render_report(void)
{
    format_rows();
    keep(BURN(1, 0x2545f4914f6cdd1d));
}

NOINLINE static void serve_requests(void)
{
    parse_request();
    render_report();
    keep(2);
}

/* store: 75 % compress_block (recursion to a depth of four inside), 25 % hash_blocks */
NOINLINE static void split_block(unsigned depth)
{
    keep(BURN(1, depth + 0x1234567));
    if (depth > 1)
        split_block(depth - 1);
    keep(depth);
}

NOINLINE static void compress_block(void)
{
    keep(BURN(2, 0xd6e8feb86659fd93));
    split_block(4);
    keep(3);
}

NOINLINE static void hash_blocks(void)
{
    keep(BURN(2, 0xff51afd7ed558ccd));
}

NOINLINE static void write_store(void)
{
    compress_block();
    hash_blocks();
    keep(4);
}

/* io: kernel time */
NOINLINE static void fill_buffers(int fd)
{
    static char block[64 * BLOCK_SZ];

    if (read(fd, block, sizeof(block)) > 0)
        keep((uint64_t)block[0]);
}

NOINLINE static void append_journal(int fd)
{
    char line[64];

    for (unsigned i = 0; i < 32; i++) {
        int len = snprintf(line, sizeof(line), "entry %u of the journal\n", i);

        if (write(fd, line, (size_t)len) < 0)
            keep(5);
    }
}

NOINLINE static void check_owner(void)
{
    for (unsigned i = 0; i < 32; i++)
        keep((uint64_t)syscall(SYS_getpid)); /* the plain function may be answered without the kernel */
}

static void *thread_web(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        serve_requests();
    return NULL;
}

static void *thread_store(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        write_store();
    return NULL;
}

static void *thread_io(void *arg)
{
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    (void)arg;
    if (zero < 0 || null < 0)
        perror("aperture-demo: /dev/zero, /dev/null");
    else
        while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
            fill_buffers(zero);
            append_journal(null);
            check_owner();
        }
    if (zero >= 0)
        close(zero);
    if (null >= 0)
        close(null);
    return NULL;
}

/* "17", "17s" or "2m"; 0 = not a duration. */
static unsigned seconds(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || value > 86400)
        return 0;
    if (strcmp(end, "m") == 0)
        return (unsigned)value * 60;
    return *end == '\0' || strcmp(end, "s") == 0 ? (unsigned)value : 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    unsigned *duration = state->input;

    switch (key) {
    case 'd':
        *duration = seconds(arg);
        if (*duration == 0)
            argp_error(state, "--duration %s: a number of seconds like 17s, or of minutes like 2m", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument: %s", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"duration", 'd', "TIME", 0, "End after this time, 17s or 2m (default: run until SIGTERM)", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "A load to profile: the threads web, store and io, busy in functions with telling names.",
    };
    static const struct {
        const char *name;
        void *(*fn)(void *);
    } table[THREADS] = {{"web", thread_web}, {"store", thread_store}, {"io", thread_io}};
    pthread_t threads[THREADS];
    unsigned duration = 0;
    sigset_t signals;
    int r;

    argp_parse(&argp, argc, argv, 0, NULL, &duration);

    /* Blocked in all threads and taken below. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    for (unsigned i = 0; i < THREADS; i++) {
        r = pthread_create(&threads[i], NULL, table[i].fn, NULL);
        if (r != 0) {
            fprintf(stderr, "aperture-demo: pthread_create: %s\n", strerror(r));
            return 1;
        }
        pthread_setname_np(threads[i], table[i].name);
    }
    if (duration > 0) {
        struct timespec left = {.tv_sec = duration};

        while (sigtimedwait(&signals, NULL, &left) < 0 && errno == EINTR)
            ;
    } else {
        sigwait(&signals, &r);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
