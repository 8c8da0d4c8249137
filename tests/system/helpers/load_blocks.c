/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Threads that wait off the CPU in known functions, and what these waits took by their own clock.
 * The C library has no frame pointers and hides its caller, hence a call_x() between it and the named functions.
 * usage: load-blocks KIND ROUNDS [PATH]
 *   sleep        20 ms each
 *   short        sleeps of 100 us and of 5 ms, in turn
 *   pipe         reads that another thread answers after 15 ms
 *   lock         waits for a mutex that another thread holds
 *   fsync        of 32 MiB written to PATH each
 *   migrate      20 ms sleeps of a thread that changes its CPU between them, and is moved during them
 *   preempt      three threads on one CPU for ROUNDS seconds: two that only compute, one that also sleeps
 *   crowd        16 threads, each with ROUNDS sleeps of 2 ms
 *   forever      a read that nobody answers; ends with SIGTERM */
#include "load_util.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

pthread_mutex_t shared_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct line data, turn, done;
static volatile int waiting;
static volatile pid_t waiter;
static int rounds;
static uint64_t waits, total_ns, cpu_ns, max_ns;

static void waited(uint64_t begin, uint64_t cpu)
{
    uint64_t ns = now_ns() - begin;

    waits++;
    total_ns += ns;
    cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    if (ns > max_ns)
        max_ns = ns;
}

NOINLINE void call_nanosleep(uint64_t ns)
{
    struct timespec ts = to_timespec(ns);

    NEEDS_FRAME();
    if (nanosleep(&ts, NULL))
        die("nanosleep");
    __asm__ volatile("");
}

NOINLINE void block_in_sleep(uint64_t ns)
{
    call_nanosleep(ns);
    __asm__ volatile("");
}

NOINLINE ssize_t call_read(int fd)
{
    ssize_t rc;
    char c;

    rc = read(fd, &c, 1);
    __asm__ volatile("" : "+r"(rc));
    return rc;
}

NOINLINE void block_in_read(int fd)
{
    if (call_read(fd) != 1)
        die("read");
}

NOINLINE ssize_t call_write(int fd)
{
    ssize_t rc;
    char c = 'x';

    rc = write(fd, &c, 1);
    __asm__ volatile("" : "+r"(rc));
    return rc;
}

NOINLINE void write_to_pipe(int fd)
{
    if (call_write(fd) != 1)
        die("write");
}

NOINLINE int call_lock(void)
{
    int rc;

    NEEDS_FRAME();
    rc = pthread_mutex_lock(&shared_mutex);
    __asm__ volatile("" : "+r"(rc));
    return rc;
}

NOINLINE void block_in_lock(void)
{
    if (call_lock())
        die("lock");
}

NOINLINE int call_fsync(int fd)
{
    int rc;

    NEEDS_FRAME();
    rc = fsync(fd);
    __asm__ volatile("" : "+r"(rc));
    return rc;
}

NOINLINE void block_in_fsync(int fd)
{
    if (call_fsync(fd))
        die("fsync");
}

NOINLINE uint64_t compute(uint64_t x)
{
    NEEDS_FRAME();
    for (int i = 0; i < 20000; i++) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

static void timed_sleep(uint64_t ns)
{
    uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), begin = now_ns();

    block_in_sleep(ns);
    waited(begin, cpu);
}

static void run_sleep(void)
{
    for (int i = 0; i < rounds; i++)
        timed_sleep(20 * MS);
}

/* The short ones are told apart in what is printed: "below" those that took less than a millisecond in the end. */
static void run_short(void)
{
    uint64_t short_ns = 0, long_ns = 0, below_ns = 0, begin, ns;
    struct rusage usage;
    long switches;
    int below = 0;

    getrusage(RUSAGE_THREAD, &usage);
    switches = usage.ru_nvcsw + usage.ru_nivcsw;
    for (int i = 0; i < rounds; i++) {
        begin = now_ns();
        block_in_sleep(MS / 10);
        ns = now_ns() - begin;
        short_ns += ns;
        if (ns < MS) {
            below++;
            below_ns += ns;
        }
        begin = now_ns();
        block_in_sleep(5 * MS);
        long_ns += now_ns() - begin;
    }
    getrusage(RUSAGE_THREAD, &usage);
    printf("{\"kind\":\"short\",\"below\":%d,\"below_ns\":%llu,\"short_ns\":%llu,\"long_ns\":%llu,\"switches\":%ld}\n",
           below, (unsigned long long)below_ns, (unsigned long long)short_ns, (unsigned long long)long_ns,
           usage.ru_nvcsw + usage.ru_nivcsw - switches);
    fflush(stdout);
    _exit(0);
}

static void *sleeper(void *arg)
{
    uint64_t *own = arg, begin = now_ns();

    name_thread("crowd");
    for (int i = 0; i < rounds; i++)
        block_in_sleep(2 * MS);
    *own = now_ns() - begin;
    line_tell(&done);
    return NULL;
}

static void run_crowd(void)
{
    static uint64_t took[16];

    for (int i = 0; i < 16; i++)
        start_thread(sleeper, &took[i]);
    for (int i = 0; i < 16; i++)
        line_hear(&done);
    for (int i = 0; i < 16; i++)
        total_ns += took[i];
    waits = 16 * (uint64_t)rounds;
}

static void *writer(void *arg)
{
    (void)arg;
    name_thread("writer");
    for (int i = 0; i < rounds; i++) {
        line_hear(&turn);
        await_sleep(&waiting, &waiter);
        sleep_ns(15 * MS);
        write_to_pipe(data.fd[1]);
    }
    return NULL;
}

static void run_pipe(void)
{
    waiter = own_tid();
    start_thread(writer, NULL);
    for (int i = 0; i < rounds; i++) {
        uint64_t begin, cpu;

        line_tell(&turn);
        cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        begin = now_ns();
        waiting = 1;
        block_in_read(data.fd[0]);
        waited(begin, cpu);
        waiting = 0;
    }
}

static void *holder(void *arg)
{
    (void)arg;
    name_thread("holder");
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(&shared_mutex);
        line_tell(&turn);
        await_sleep(&waiting, &waiter);
        sleep_ns(15 * MS);
        pthread_mutex_unlock(&shared_mutex);
        line_hear(&data);
    }
    return NULL;
}

static void run_lock(void)
{
    waiter = own_tid();
    start_thread(holder, NULL);
    for (int i = 0; i < rounds; i++) {
        uint64_t begin, cpu;

        line_hear(&turn);
        cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        begin = now_ns();
        waiting = 1;
        block_in_lock();
        waited(begin, cpu);
        waiting = 0;
        pthread_mutex_unlock(&shared_mutex);
        line_tell(&data);
    }
}

static void run_fsync(const char *path)
{
    static char block[1 << 20];
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0)
        die("%s", path);
    memset(block, 'x', sizeof(block));
    for (int i = 0; i < rounds; i++) {
        uint64_t begin, cpu;

        block[0] = (char)i;
        for (int k = 0; k < 32; k++)
            if (pwrite(fd, block, sizeof(block), k * (off_t)sizeof(block)) != sizeof(block))
                die("write");
        cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        begin = now_ns();
        block_in_fsync(fd);
        waited(begin, cpu);
    }
    close(fd);
    unlink(path);
}

NOINLINE void pin(pid_t tid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(tid, sizeof(set), &set))
        die("sched_setaffinity to %d", cpu);
}

static int cpus[1024], cpu_cnt;

static void find_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set))
        die("sched_getaffinity");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            cpus[cpu_cnt++] = i;
}

static void *mover(void *arg)
{
    (void)arg;
    name_thread("mover");
    for (int i = 0; i < rounds; i++) {
        line_hear(&turn);
        await_sleep(&waiting, &waiter);
        sleep_ns(5 * MS);
        pin(waiter, cpus[(i / 2) % cpu_cnt]);
        line_tell(&data);
    }
    return NULL;
}

static void run_migrate(void)
{
    waiter = own_tid();
    find_cpus();
    start_thread(mover, NULL);
    for (int i = 0; i < rounds; i++) {
        pin(0, cpus[i % cpu_cnt]);
        line_tell(&turn);
        waiting = 1;
        timed_sleep(20 * MS);
        waiting = 0;
        line_hear(&data);
    }
}

struct worker {
    const char *name;
    int cpu, sleeps;
    uint64_t wall, run, delay, slept;
};

static void *worker(void *arg)
{
    struct worker *own = arg;
    uint64_t begin, end, x = 1, run, delay, slept = 0;

    name_thread(own->name);
    pin(0, own->cpu);
    own_schedstat(&run, &delay);
    begin = now_ns();
    end = begin + (uint64_t)rounds * 1000 * MS;
    while (now_ns() < end) {
        x = compute(x);
        if (own->sleeps) {
            uint64_t before = now_ns();

            block_in_sleep(20 * MS);
            slept += now_ns() - before;
        }
    }
    own->wall = now_ns() - begin;
    own_schedstat(&own->run, &own->delay);
    own->run -= run;
    own->delay -= delay;
    own->slept = slept;
    line_tell(&done);
    return x ? NULL : own;
}

static void run_preempt(void)
{
    static struct worker workers[] = {{.name = "busy-0"}, {.name = "busy-1"}, {.name = "sleeps", .sleeps = 1}};

    find_cpus();
    for (int i = 0; i < 3; i++) {
        workers[i].cpu = cpus[cpu_cnt - 1];
        start_thread(worker, &workers[i]);
    }
    for (int i = 0; i < 3; i++)
        line_hear(&done);
    printf("{\"kind\":\"preempt\"");
    for (int i = 0; i < 3; i++)
        printf(",\"%s\":{\"wall_ns\":%llu,\"run_ns\":%llu,\"run_delay_ns\":%llu,\"slept_ns\":%llu}", workers[i].name,
               (unsigned long long)workers[i].wall, (unsigned long long)workers[i].run,
               (unsigned long long)workers[i].delay, (unsigned long long)workers[i].slept);
    printf("}\n");
    fflush(stdout);
    _exit(0);
}

static void *stuck(void *arg)
{
    (void)arg;
    name_thread("stuck");
    waiter = own_tid();
    waiting = 1;
    block_in_read(data.fd[0]);
    return NULL;
}

static void run_forever(void)
{
    uint64_t began = now_ns();

    start_thread(stuck, NULL);
    await_sleep(&waiting, &waiter);
    printf("{\"kind\":\"forever\",\"began_ns\":%llu}\n", (unsigned long long)began);
    fflush(stdout);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } kinds[] = {
        {"sleep", run_sleep},     {"short", run_short}, {"pipe", run_pipe},       {"lock", run_lock},
        {"migrate", run_migrate}, {"crowd", run_crowd}, {"preempt", run_preempt}, {"forever", run_forever},
    };
    uint64_t begin;

    if (argc < 3)
        return 2;
    rounds = atoi(argv[2]);
    line_open(&data);
    line_open(&turn);
    line_open(&done);
    gate();
    begin = now_ns();
    if (!strcmp(argv[1], "fsync") && argc == 4) {
        run_fsync(argv[3]);
    } else {
        size_t i = 0;

        while (i < sizeof(kinds) / sizeof(*kinds) && strcmp(kinds[i].name, argv[1]) != 0)
            i++;
        if (i == sizeof(kinds) / sizeof(*kinds))
            return 2;
        kinds[i].run();
    }
    printf("{\"kind\":\"%s\",\"waits\":%llu,\"total_ns\":%llu,\"cpu_ns\":%llu,\"max_ns\":%llu,\"wall_ns\":%llu}\n",
           argv[1], (unsigned long long)waits, (unsigned long long)total_ns, (unsigned long long)cpu_ns,
           (unsigned long long)max_ns, (unsigned long long)(now_ns() - begin));
    return 0;
}
