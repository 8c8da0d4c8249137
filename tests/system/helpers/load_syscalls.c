/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* System calls in known numbers and with known results, and how long they took by their own clock.
 * usage: load-syscalls KIND [N]
 *   nothing      only starts and ends: what must be taken off the counts of the others
 *   fixed        many different calls, failing ones too, a child, and an exec; nothing in it depends on time
 *   ladder N     sleeps of 1 us .. 100 ms, N of each
 *   signals      reads and sleeps that signals interrupt, with and without SA_RESTART, and one sleep that is stopped
 *   many N       N children one after another, each with a few calls
 *   blocked      a read that never returns; ends with SIGTERM
 *   compat N     N 32-bit getpid() calls (x86-64), and as many native getppid()
 *   getppid S    as many getppid() as fit into S seconds */
#include "load_util.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#define GETPPIDS 10000
#define NULLS    500
#define LADDER   11

static struct line data, done;

/* Once, at the very end and in one write, so that all kinds have the same calls around what they do. */
__attribute__((format(printf, 1, 2))) static void finish(const char *format, ...)
{
    char text[4096];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text) || write(1, text, (size_t)n) != n)
        _exit(1);
    _exit(0);
}

static void expect(long rc, long wanted, const char *what)
{
    if (rc != wanted)
        die("%s returned %ld instead of %ld", what, rc, wanted);
}

static void wait_for(pid_t pid)
{
    int status;

    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        die("child");
}

/* The calls of `fixed`. Each appears with the count that is printed. */
static void run_fixed(const char *self)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), ends[2], word = 1;
    struct stat st;
    char c = 'x';
    pid_t pid;

    for (int i = 0; i < GETPPIDS; i++)
        syscall(SYS_getppid);
    for (int i = 0; i < NULLS; i++)
        expect(syscall(SYS_write, null, &c, 1), 1, "write");
    for (int i = 0; i < 37; i++)
        expect(open("/nonexistent/file", O_RDONLY), -1, "open of nothing");
    for (int i = 0; i < 11; i++)
        expect(open("/dev/null/below", O_RDONLY), -1, "open below a file");
    for (int i = 0; i < 23; i++)
        expect(read(-1, &c, 1), -1, "read of nothing");
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
        die("pipe2");
    for (int i = 0; i < 19; i++)
        expect(read(ends[0], &c, 1), -1, "read of an empty pipe");
    for (int i = 0; i < 17; i++)
        expect(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), -1, "futex");
    for (int i = 0; i < 7; i++)
        expect(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0, "futex");
    for (int i = 0; i < 13; i++)
        expect(fstat(null, &st), 0, "fstat");
    for (int i = 0; i < 9; i++)
        expect(lseek(ends[0], 0, SEEK_SET), -1, "lseek of a pipe");
    for (int i = 0; i < 5; i++)
        expect(kill(-0x7fffffff, 0), -1, "kill of nobody");
    for (int i = 0; i < 3; i++)
        expect(syscall(4000), -1, "a call that does not exist"); /* past every table */
    for (int i = 0; i < 29; i++)
        syscall(SYS_sched_yield);
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 41; i++)
            syscall(SYS_getpgid, 0);
        _exit(0);
    }
    wait_for(pid);
    pid = fork();
    if (pid == 0) {
        execl("/nonexistent/program", "program", (char *)NULL);
        execl(self, "load-syscalls", "child", (char *)NULL);
        _exit(127);
    }
    wait_for(pid);
    finish("{\"kind\":\"fixed\",\"counts\":{\"getppid\":%d,\"write\":%d,\"futex\":24,\"lseek\":9,\"kill\":5,"
           "\"sched_yield\":29,\"getpgid\":41,\"getsid\":31,\"pipe2\":1,\"wait4\":2},"
           "\"errors\":{\"openat\":{\"ENOENT\":37,\"ENOTDIR\":11},\"read\":{\"EBADF\":23,\"EAGAIN\":19},"
           "\"futex\":{\"EAGAIN\":17},\"lseek\":{\"ESPIPE\":9},\"kill\":{\"ESRCH\":5},\"execve\":{\"ENOENT\":1}}}\n",
           GETPPIDS, NULLS);
}

static void run_child(void)
{
    for (int i = 0; i < 31; i++)
        syscall(SYS_getsid, 0);
    _exit(0);
}

NOINLINE void sleep_in_ladder(uint64_t ns)
{
    struct timespec ts = to_timespec(ns);

    NEEDS_FRAME();
    raw_call(SYS_nanosleep, (long)&ts, 0, 0, 0, 0, 0);
}

static void run_ladder(int n)
{
    static const uint64_t steps_us[LADDER] = {1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000};
    size_t sz = (size_t)n * LADDER * 24 + 256, at;
    char *text = malloc(sz);
    uint64_t *took = malloc(sizeof(*took) * (size_t)n * LADDER);

    if (!text || !took)
        die("malloc");
    for (int i = 0; i < n * LADDER; i++) {
        uint64_t begin = now_ns();

        sleep_in_ladder(steps_us[i % LADDER] * 1000);
        took[i] = now_ns() - begin;
    }
    at = (size_t)snprintf(text, sz, "{\"kind\":\"ladder\",\"asked_us\":[");
    for (int i = 0; i < LADDER; i++)
        at += (size_t)snprintf(text + at, sz - at, "%s%llu", i ? "," : "", (unsigned long long)steps_us[i]);
    at += (size_t)snprintf(text + at, sz - at, "],\"took_ns\":[");
    for (int i = 0; i < n * LADDER; i++)
        at += (size_t)snprintf(text + at, sz - at, "%s%llu", i ? "," : "", (unsigned long long)took[i]);
    snprintf(text + at, sz - at, "]}\n");
    fputs(text, stdout);
    fflush(stdout);
    _exit(0);
}

static volatile int signals;

static void on_signal(int signum)
{
    (void)signum;
    signals = signals + 1;
}

static void handle(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

    sigaction(SIGALRM, &action, NULL);
}

static void alarm_in(uint64_t ns)
{
    struct itimerval timer = {.it_value = {(time_t)(ns / 1000000000ULL), (suseconds_t)(ns % 1000000000ULL / 1000)}};

    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Another process writes to our pipe, or stops and continues us: as often as it is told to. */
static void helper(pid_t parent, struct line *orders)
{
    char order;

    while (read(orders->fd[0], &order, 1) == 1) {
        sleep_ns(20 * MS);
        while (thread_state(parent) != 'S')
            sleep_ns(MS);
        if (order == 'w') {
            line_tell(&data);
            continue;
        }
        kill(parent, SIGSTOP);
        while (thread_state(parent) != 'T')
            sleep_ns(MS);
        kill(parent, SIGCONT);
    }
    _exit(0);
}

static void order(struct line *orders, char what)
{
    if (write(orders->fd[1], &what, 1) != 1)
        die("write");
}

static void run_signals(void)
{
    struct timespec ts = to_timespec(100 * MS);
    int eintr = 0, restarted = 0, slept = 0;
    pid_t parent = getpid(), child;
    struct line orders;
    uint64_t begin, stopped_ns;
    char c;

    line_open(&orders);
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "helper");
        close(orders.fd[1]);
        helper(parent, &orders);
    }
    handle(0);
    for (int i = 0; i < 10; i++) { /* read, interrupted */
        alarm_in(10 * MS);
        expect(read(data.fd[0], &c, 1), -1, "read");
        eintr += errno == EINTR;
    }
    handle(SA_RESTART);
    for (int i = 0; i < 5; i++) { /* read, restarted by the kernel: two calls with one result */
        alarm_in(10 * MS);
        order(&orders, 'w');
        expect(read(data.fd[0], &c, 1), 1, "read");
        restarted++;
    }
    for (int i = 0; i < 7; i++) { /* sleep, interrupted whatever the flags say */
        alarm_in(10 * MS);
        expect(syscall(SYS_nanosleep, &ts, NULL), -1, "nanosleep");
        slept += errno == EINTR;
    }
    order(&orders, 's');
    begin = now_ns();
    expect(syscall(SYS_nanosleep, &ts, NULL), 0, "nanosleep"); /* goes on as restart_syscall */
    stopped_ns = now_ns() - begin;
    close(orders.fd[1]);
    wait_for(child);
    finish("{\"kind\":\"signals\",\"signals\":%d,\"read_eintr\":%d,\"read_restarted\":%d,\"nanosleep_eintr\":%d,"
           "\"restart_syscall\":1,\"stopped_ns\":%llu}\n",
           signals, eintr, restarted, slept, (unsigned long long)stopped_ns);
}

static void run_many(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            for (int k = 0; k < 3; k++)
                syscall(SYS_getppid);
            syscall(SYS_close, -1);
            _exit(0);
        }
        wait_for(pid);
    }
    finish("{\"kind\":\"many\",\"getppid\":%d,\"close_failed\":%d,\"children\":%d}\n", 3 * n, n, n);
}

static void run_blocked(void)
{
    char c;

    printf("{\"kind\":\"blocked\",\"began_ns\":%llu}\n", (unsigned long long)now_ns());
    fflush(stdout);
    expect(read(data.fd[0], &c, 1), 1, "read");
}

static void run_compat(int n)
{
#if defined(__x86_64__)
    long pid = getpid();

    for (int i = 0; i < n; i++) {
        long rc = 20; /* __NR_getpid of i386; natively writev */

        __asm__ volatile("int $0x80" : "+a"(rc) : : "memory", "r8", "r9", "r10", "r11");
        expect(rc, pid, "32-bit getpid");
        syscall(SYS_getppid);
    }
    finish("{\"kind\":\"compat\",\"count\":%d,\"number\":20}\n", n);
#else
    finish("{\"kind\":\"compat\",\"count\":%d}\n", n * 0);
#endif
}

static void run_getppid(int seconds)
{
    uint64_t begin = now_ns(), end = begin + (uint64_t)seconds * 1000 * MS, n = 0;

    while (now_ns() < end)
        for (int i = 0; i < 1000; i++, n++)
            raw_call(SYS_getppid, 0, 0, 0, 0, 0, 0);
    finish("{\"kind\":\"getppid\",\"count\":%llu,\"ns_per_call\":%.1f}\n", (unsigned long long)n,
           (double)(now_ns() - begin) / (double)n);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 1;

    if (!strcmp(kind, "child"))
        run_child();
    line_open(&data);
    line_open(&done);
    gate();
    if (!strcmp(kind, "fixed"))
        run_fixed(argv[0]);
    else if (!strcmp(kind, "ladder"))
        run_ladder(n);
    else if (!strcmp(kind, "signals"))
        run_signals();
    else if (!strcmp(kind, "many"))
        run_many(n);
    else if (!strcmp(kind, "blocked"))
        run_blocked();
    else if (!strcmp(kind, "compat"))
        run_compat(n);
    else if (!strcmp(kind, "getppid"))
        run_getppid(n);
    else if (!strcmp(kind, "nothing"))
        finish("{\"kind\":\"nothing\"}\n");
    return 2;
}
