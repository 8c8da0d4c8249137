/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Threads that wait for each other in known functions, and what these waits took by their own clock. The one side holds
 * back until the other one sleeps, so that every wait is one; all else that they tell each other goes through pipes.
 * The C library has no frame pointers and hides its caller, hence a call_x() between it and the named functions.
 * usage: load-locks KIND ROUNDS      (KIND: a name in the table at the end) */
#include "load_util.h"

#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

pthread_mutex_t shared_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t shared_pi_mutex;
pthread_rwlock_t shared_rwlock = PTHREAD_RWLOCK_INITIALIZER;
pthread_mutex_t condvar_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t shared_condvar = PTHREAD_COND_INITIALIZER;
sem_t shared_sem;
pthread_barrier_t shared_barrier;

static pthread_mutex_t *mutex = &shared_mutex; /* what the kinds with mutexes use */
static volatile int condition;

/* What both sides know; in shared memory for the kind with two processes. */
struct common {
    volatile int waiting;  /* the waiter is about to wait */
    volatile pid_t waiter; /* its thread id */
    uint64_t waits, total_ns, max_ns;
    uint64_t timeouts, timeout_ns, signals;
    struct line held, released, done;
};

static struct common *common;
static int rounds;

static uint64_t hold_ns(int round)
{
    return (20 + (uint64_t)(round * 7) % 21) * MS;
}

static void waited(uint64_t begin)
{
    uint64_t ns = now_ns() - begin;

    common->waits++;
    common->total_ns += ns;
    if (ns > common->max_ns)
        common->max_ns = ns;
}

/* The calls, each below a function whose name is looked for. */

#define CALL(name, parameter, call)                                                                                    \
    NOINLINE int name(parameter)                                                                                       \
    {                                                                                                                  \
        int rc;                                                                                                        \
        NEEDS_FRAME();                                                                                                 \
        rc = call;                                                                                                     \
        __asm__ volatile("" : "+r"(rc));                                                                               \
        return rc;                                                                                                     \
    }

CALL(call_lock, pthread_mutex_t *lock, pthread_mutex_lock(lock))
CALL(call_unlock, pthread_mutex_t *lock, pthread_mutex_unlock(lock))
CALL(call_timedlock, const struct timespec *until, pthread_mutex_timedlock(mutex, until))
CALL(call_rdlock, void, pthread_rwlock_rdlock(&shared_rwlock))
CALL(call_wrlock, void, pthread_rwlock_wrlock(&shared_rwlock))
CALL(call_rwunlock, void, pthread_rwlock_unlock(&shared_rwlock))
CALL(call_cond_wait, void, pthread_cond_wait(&shared_condvar, &condvar_mutex))
CALL(call_cond_signal, void, pthread_cond_signal(&shared_condvar))
CALL(call_sem_wait, void, sem_wait(&shared_sem))
CALL(call_sem_post, void, sem_post(&shared_sem))
CALL(call_barrier_wait, void, pthread_barrier_wait(&shared_barrier))
CALL(call_join, pthread_t *id, pthread_join(*id, NULL))

NOINLINE void wait_for_mutex(void)
{
    if (call_lock(mutex))
        die("lock");
}

NOINLINE void release_mutex_here(void)
{
    if (call_unlock(mutex))
        die("unlock");
}

NOINLINE void hold_mutex(int round)
{
    if (pthread_mutex_lock(mutex))
        die("lock");
    line_tell(&common->held);
    await_sleep(&common->waiting, &common->waiter);
    sleep_ns(hold_ns(round));
    release_mutex_here();
}

NOINLINE int wait_timed(uint64_t ns)
{
    struct timespec until = to_timespec(clock_ns(CLOCK_REALTIME) + ns);

    return call_timedlock(&until);
}

NOINLINE void wait_for_reading(void)
{
    if (call_rdlock())
        die("rdlock");
}

NOINLINE void wait_for_writing(void)
{
    if (call_wrlock())
        die("wrlock");
}

NOINLINE void release_rwlock_here(void)
{
    if (call_rwunlock())
        die("unlock");
}

NOINLINE void wait_for_condvar(void)
{
    while (!condition)
        call_cond_wait();
}

NOINLINE void signal_condvar_here(void)
{
    call_cond_signal();
}

NOINLINE void wait_for_sem(void)
{
    while (call_sem_wait())
        if (errno != EINTR)
            die("sem_wait");
}

NOINLINE void post_sem_here(void)
{
    call_sem_post();
}

NOINLINE void wait_at_barrier(void)
{
    call_barrier_wait();
}

NOINLINE void come_to_barrier_late(void)
{
    call_barrier_wait();
}

NOINLINE void wait_for_join(pthread_t id)
{
    call_join(&id);
}

/* Bodies of the thread "waiter"; each round begins when the other side says so, and is told about at its end. */

static void *mutex_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        begin = now_ns();
        common->waiting = 1;
        wait_for_mutex();
        waited(begin);
        common->waiting = 0;
        pthread_mutex_unlock(mutex);
        line_tell(&common->released);
    }
    return NULL;
}

static void run_mutex(void)
{
    start_thread(mutex_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        hold_mutex(i);
        line_hear(&common->released);
    }
}

static void run_pi(void)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    if (pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT) || pthread_mutex_init(&shared_pi_mutex, &attr))
        die("mutex with priority inheritance");
    mutex = &shared_pi_mutex;
    run_mutex();
}

static void run_heap(void)
{
    mutex = malloc(sizeof(*mutex));
    if (!mutex || pthread_mutex_init(mutex, NULL))
        die("mutex");
    run_mutex();
}

/* The holder is another process, which has the mutex at another address. */
static void run_shared(void)
{
    int fd = memfd_create("load-locks", MFD_CLOEXEC);
    pthread_mutexattr_t attr;
    void *both, *other;
    pid_t child;

    if (fd < 0 || ftruncate(fd, 4096))
        die("memfd");
    both = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (both == MAP_FAILED || other == MAP_FAILED)
        die("mmap");
    mutex = both;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(mutex, &attr);
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        name_thread("holder");
        mutex = other;
        for (int i = 0; i < rounds; i++) {
            hold_mutex(i);
            line_hear(&common->released);
        }
        _exit(0);
    }
    mutex_waiter(NULL);
    waitpid(child, NULL, 0);
}

/* Each round one wait that times out and one that gets the mutex. */
static void *timed_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        begin = now_ns();
        if (wait_timed(25 * MS) != ETIMEDOUT)
            die("no timeout");
        common->timeout_ns += now_ns() - begin;
        common->timeouts++;
        begin = now_ns();
        common->waiting = 1;
        if (wait_timed(60000 * MS))
            die("timeout");
        waited(begin);
        common->waiting = 0;
        pthread_mutex_unlock(mutex);
        line_tell(&common->released);
    }
    return NULL;
}

static void run_timed(void)
{
    start_thread(timed_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        hold_mutex(i);
        line_hear(&common->released);
    }
}

static void on_signal(int signum)
{
    (void)signum;
    common->signals++;
}

/* Three signals hit each wait; the C library then waits again. */
static void run_interrupted(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t id;

    sigaction(SIGUSR1, &action, NULL);
    id = start_thread(mutex_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        pthread_mutex_lock(mutex);
        line_tell(&common->held);
        for (int k = 0; k < 3; k++) {
            uint64_t before = common->signals;

            await_sleep(&common->waiting, &common->waiter);
            sleep_ns(8 * MS);
            pthread_kill(id, SIGUSR1);
            while (*(volatile uint64_t *)&common->signals == before)
                sleep_ns(100000);
        }
        await_sleep(&common->waiting, &common->waiter);
        sleep_ns(8 * MS);
        release_mutex_here();
        line_hear(&common->released);
    }
}

static void *rwlock_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        begin = now_ns();
        common->waiting = 1;
        if (i % 2)
            wait_for_writing();
        else
            wait_for_reading();
        waited(begin);
        common->waiting = 0;
        pthread_rwlock_unlock(&shared_rwlock);
        line_tell(&common->released);
    }
    return NULL;
}

static void run_rwlock(void)
{
    start_thread(rwlock_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        if (i % 2)
            pthread_rwlock_rdlock(&shared_rwlock);
        else
            pthread_rwlock_wrlock(&shared_rwlock);
        line_tell(&common->held);
        await_sleep(&common->waiting, &common->waiter);
        sleep_ns(hold_ns(i));
        release_rwlock_here();
        line_hear(&common->released);
    }
}

static void *condvar_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        pthread_mutex_lock(&condvar_mutex);
        begin = now_ns();
        common->waiting = 1;
        wait_for_condvar();
        waited(begin);
        common->waiting = 0;
        condition = 0;
        pthread_mutex_unlock(&condvar_mutex);
        line_tell(&common->released);
    }
    return NULL;
}

static void run_condvar(void)
{
    start_thread(condvar_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        line_tell(&common->held);
        await_sleep(&common->waiting, &common->waiter);
        sleep_ns(hold_ns(i));
        pthread_mutex_lock(&condvar_mutex);
        condition = 1;
        pthread_mutex_unlock(&condvar_mutex);
        signal_condvar_here(); /* without the mutex, which the waiter takes at once */
        line_hear(&common->released);
    }
}

static void *sem_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        begin = now_ns();
        common->waiting = 1;
        wait_for_sem();
        waited(begin);
        common->waiting = 0;
        line_tell(&common->released);
    }
    return NULL;
}

static void run_sem(void)
{
    sem_init(&shared_sem, 0, 0);
    start_thread(sem_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        line_tell(&common->held);
        await_sleep(&common->waiting, &common->waiter);
        sleep_ns(hold_ns(i));
        post_sem_here();
        line_hear(&common->released);
    }
}

static void *barrier_waiter(void *arg)
{
    (void)arg;
    name_thread("waiter");
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;

        line_hear(&common->held);
        begin = now_ns();
        common->waiting = 1;
        wait_at_barrier();
        waited(begin);
        common->waiting = 0;
        line_tell(&common->released);
    }
    return NULL;
}

static void run_barrier(void)
{
    pthread_barrier_init(&shared_barrier, NULL, 2);
    start_thread(barrier_waiter, NULL);
    for (int i = 0; i < rounds; i++) {
        line_tell(&common->held);
        await_sleep(&common->waiting, &common->waiter);
        sleep_ns(hold_ns(i));
        come_to_barrier_late();
        line_hear(&common->released);
    }
}

static void *sleeper(void *arg)
{
    name_thread("sleeper");
    await_sleep(&common->waiting, &common->waiter);
    sleep_ns(hold_ns((int)(intptr_t)arg));
    return NULL;
}

static void run_join(void)
{
    common->waiter = own_tid();
    for (int i = 0; i < rounds; i++) {
        uint64_t begin;
        pthread_t id = start_thread(sleeper, (void *)(intptr_t)i);

        begin = now_ns();
        common->waiting = 1;
        wait_for_join(id);
        waited(begin);
        common->waiting = 0;
    }
}

/* Two threads lock and unlock a mutex each, for ROUNDS seconds. */
static void *lonely(void *arg)
{
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    uint64_t end = now_ns() + (uint64_t)rounds * 1000 * MS, n = 0;

    name_thread(arg ? "lonely-1" : "lonely-0");
    while (now_ns() < end)
        for (int i = 0; i < 1000; i++, n++) {
            pthread_mutex_lock(&own);
            pthread_mutex_unlock(&own);
        }
    __atomic_add_fetch(&common->signals, n, __ATOMIC_RELAXED);
    line_tell(&common->done);
    return NULL;
}

static void run_none(void)
{
    start_thread(lonely, NULL);
    start_thread(lonely, common);
    line_hear(&common->done);
    line_hear(&common->done);
}

/* Four threads want one mutex all the time, which each holds for a millisecond; who gets it is chance. */
static void *herd_member(void *arg)
{
    (void)arg;
    name_thread("herd");
    for (int i = 0; i < rounds; i++) {
        uint64_t begin = now_ns(), ns;

        wait_for_mutex();
        ns = now_ns() - begin; /* counted under the mutex */
        common->waits += ns > MS / 4;
        common->total_ns += ns;
        common->max_ns = ns > common->max_ns ? ns : common->max_ns;
        sleep_ns(MS);
        release_mutex_here();
    }
    line_tell(&common->done);
    return NULL;
}

static void run_herd(void)
{
    for (int i = 0; i < 4; i++)
        start_thread(herd_member, NULL);
    for (int i = 0; i < 4; i++)
        line_hear(&common->done);
}

/* Threads that change the memory map together: contention in the kernel. ROUNDS is seconds. */
static void *mapper(void *arg)
{
    uint64_t end = now_ns() + (uint64_t)rounds * 1000 * MS;

    (void)arg;
    name_thread("mapper");
    while (now_ns() < end)
        for (int i = 0; i < 20; i++) {
            char *block = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

            if (block == MAP_FAILED)
                die("mmap");
            for (int k = 0; k < 16; k++)
                block[k << 12] = 1;
            munmap(block, 1 << 16);
        }
    line_tell(&common->done);
    return NULL;
}

static void run_kernel(void)
{
    for (int i = 0; i < 4; i++)
        start_thread(mapper, NULL);
    for (int i = 0; i < 4; i++)
        line_hear(&common->done);
}

/* Never released. Tells when the wait began, and ends with SIGTERM. */
static void run_stuck(void)
{
    pthread_mutex_lock(mutex);
    start_thread(mutex_waiter, NULL);
    line_tell(&common->held);
    await_sleep(&common->waiting, &common->waiter);
    printf("{\"kind\":\"stuck\",\"began_ns\":%llu,\"address\":\"%p\"}\n", (unsigned long long)now_ns(), (void *)mutex);
    fflush(stdout);
    for (;;)
        pause();
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {
    {"mutex", run_mutex}, {"rwlock", run_rwlock}, {"condvar", run_condvar}, {"sem", run_sem},
    {"pi", run_pi},       {"timed", run_timed},   {"barrier", run_barrier}, {"join", run_join},
    {"heap", run_heap},   {"shared", run_shared}, {"none", run_none},       {"interrupted", run_interrupted},
    {"herd", run_herd},   {"stuck", run_stuck},   {"kernel", run_kernel},
};

static const void *address(const char *kind)
{
    if (!strcmp(kind, "rwlock"))
        return &shared_rwlock;
    if (!strcmp(kind, "condvar"))
        return &shared_condvar;
    if (!strcmp(kind, "sem"))
        return &shared_sem;
    if (!strcmp(kind, "barrier"))
        return &shared_barrier;
    return mutex;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    rounds = atoi(argv[2]);
    common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (common == MAP_FAILED)
        die("mmap");
    line_open(&common->held);
    line_open(&common->released);
    line_open(&common->done);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (strcmp(kinds[i].name, argv[1]))
            continue;
        gate();
        kinds[i].run();
        printf(
            "{\"kind\":\"%s\",\"waits\":%llu,\"total_ns\":%llu,\"max_ns\":%llu,\"timeouts\":%llu,\"timeout_ns\":%llu,"
            "\"signals\":%llu,\"address\":\"%p\"}\n",
            argv[1], (unsigned long long)common->waits, (unsigned long long)common->total_ns,
            (unsigned long long)common->max_ns, (unsigned long long)common->timeouts,
            (unsigned long long)common->timeout_ns, (unsigned long long)common->signals, address(argv[1]));
        return 0;
    }
    return 2;
}
