/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/leaf.h"

#include "agent/programs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

struct record {
    struct ap_record head;
    uint64_t addrs[AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX];
};

static struct ap_modules *modules;
static struct ap_processes *processes;
static struct ap_process *process;

static int begin(void **state)
{
    (void)state;
    modules = ap_modules_new();
    processes = ap_processes_new(modules);
    process = ap_processes_sampled(processes, (uint32_t)getpid(), 0);
    return modules && processes && process ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ap_processes_free(processes);
    ap_modules_free(modules);
    return 0;
}

static struct ap_unwind_cache rules;
static bool was_cut; /* by the last repair */

static uint32_t repair(const struct record *record, uint64_t *ret_addrs)
{
    uint32_t cnt;

    assert_int_equal(ap_record_check(record, sizeof(*record)), 0);
    cnt = ap_leaf_repair(processes, process, &rules, &record->head, ret_addrs, &was_cut);
    assert_true(cnt <= AP_LEAF_FRAMES_MAX);
    return cnt;
}

static void expect_unchanged(const struct record *record)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX];
    uint32_t cnt = repair(record, addrs);

    assert_int_equal(cnt, record->head.user_cnt);
    assert_memory_equal(addrs, record->addrs + record->head.kernel_cnt, cnt * sizeof(addrs[0]));
}

static void nothing_to_go_by(void **state)
{
    struct record record = {.head = {.version = AP_RECORD_VERSION, .type = AP_RECORD_CPU}};
    uint32_t i;

    (void)state;
    expect_unchanged(&record); /* no frame at all */
    record.head.word_cnt = AP_STACK_WORDS_MAX;
    expect_unchanged(&record); /* words, but no frame */
    record.head.user_cnt = AP_USER_FRAMES_MAX;
    record.head.word_cnt = 0;
    for (i = 0; i < AP_USER_FRAMES_MAX; i++)
        record.addrs[i] = 0x1000 + i;
    expect_unchanged(&record); /* frames, but no words */
    record.head.word_cnt = AP_STACK_WORDS_MAX;
    expect_unchanged(&record); /* code of no file */
}

#ifdef __x86_64__

/* Functions in sections of their own, so that their ends are known. They keep frame pointers, as the whole build does.
 */
#define STEP(name) __attribute__((noinline, section("leaf_" #name)))
#define ENDS(name) extern const char __start_leaf_##name[], __stop_leaf_##name[]
#define INSIDE(name, addr)                                                                                             \
    ((addr) > (uintptr_t)__start_leaf_##name && (addr) <= (uintptr_t)__stop_leaf_##name) /* a return address */

ENDS(outer);
ENDS(middle);
ENDS(inner);
ENDS(compare);

/* What the handler of SIGUSR1 and SIGALRM saw of the code that it interrupted, in the way that BPF programs see it. */
static struct record seen;
static volatile sig_atomic_t taken;

/* Words of this process's memory that may not be there. */
static bool read_words(uint64_t from, void *to, size_t cnt)
{
    const struct iovec here = {to, cnt * sizeof(uint64_t)};
    const struct iovec there = {(void *)from, cnt * sizeof(uint64_t)}; // NOLINT(performance-no-int-to-ptr)

    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)here.iov_len;
}

/* The same as in bpf/stack.bpf.h. */
static bool begins_chain(uint64_t fp, uint64_t at)
{
    const uint64_t far = 256 << 10;
    uint64_t frame[2], outer[2];

    if (fp <= at || fp - at > far || fp & 7 || !read_words(fp, frame, 2) || frame[0] <= fp || frame[0] - fp > far ||
        frame[0] & 7 || frame[1] < 4096 || !read_words(frame[0], outer, 2))
        return false;
    return !outer[0] || (outer[0] > frame[0] && outer[0] - frame[0] <= far && outer[1] >= 4096);
}

static uint16_t walk_chain(uint64_t ip, uint64_t fp, uint64_t *ret_addrs)
{
    uint64_t frame[2];
    uint16_t cnt = 0;

    for (ret_addrs[cnt++] = ip; cnt < AP_USER_FRAMES_MAX && read_words(fp, frame, 2) && frame[1]; fp = frame[0]) {
        ret_addrs[cnt++] = frame[1];
        if (frame[0] <= fp)
            break;
    }
    return cnt;
}

static void look(int signal, siginfo_t *info, void *context)
{
    const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t words[AP_STACK_WORDS_MAX];
    struct ap_record *head = &seen.head;
    size_t i;

    (void)signal;
    (void)info;
    memset(&seen, 0, sizeof(seen));
    head->version = AP_RECORD_VERSION;
    head->type = AP_RECORD_CPU;
    head->sp = (uint64_t)regs[REG_RSP];
    head->bp = head->fp = (uint64_t)regs[REG_RBP];
    if (!read_words(head->sp, words, AP_STACK_WORDS_MAX))
        return;
    if (!begins_chain(head->fp, head->sp - 8)) {
        head->fp = 0;
        for (i = 0; i < AP_STACK_WORDS_MAX && !head->fp; i++)
            if (begins_chain(words[i], head->sp + i * 8))
                head->fp = words[i];
    }
    head->user_cnt = walk_chain((uint64_t)regs[REG_RIP], head->fp, seen.addrs);
    head->word_cnt = AP_STACK_WORDS_MAX;
    memcpy(seen.addrs + head->user_cnt, words, sizeof(words));
    taken = 1;
}

static void (*volatile action)(void);

STEP(inner) static void inner(void)
{
    action();
    __asm__ volatile("" ::: "memory"); /* what comes before is no tail call */
}

STEP(middle) static void middle(void)
{
    inner();
    __asm__ volatile("" ::: "memory");
}

STEP(outer) static void outer(void)
{
    middle();
    __asm__ volatile("" ::: "memory");
}

/* Runs a function below inner(), middle() and outer(); a signal handler looks at it. */
static void look_at(void (*fn)(void))
{
    struct sigaction handler = {.sa_sigaction = look, .sa_flags = SA_SIGINFO};

    assert_int_equal(sigaction(SIGUSR1, &handler, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &handler, NULL), 0);
    taken = 0;
    action = fn;
    outer();
    assert_true(taken);
}

/* Index of the first address inside inner() that has middle() and outer() behind it; UINT32_MAX when there is none. */
static uint32_t find_steps(const uint64_t *addrs, uint32_t cnt)
{
    uint32_t i;

    for (i = 0; i + 2 < cnt; i++)
        if (INSIDE(inner, addrs[i]) && INSIDE(middle, addrs[i + 1]) && INSIDE(outer, addrs[i + 2]))
            return i;
    return UINT32_MAX;
}

static void show(const char *what, const uint64_t *addrs, uint32_t cnt)
{
    uint32_t i;

    for (i = 0; i < cnt; i++)
        print_message("%s %u: %#llx\n", what, i, (unsigned long long)addrs[i]);
}

static uint32_t expect_steps(const struct record *record)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX];
    uint32_t cnt = repair(record, addrs), at = find_steps(addrs, cnt);

    if (at == UINT32_MAX) {
        show("chain", record->addrs, record->head.user_cnt);
        show("repaired", addrs, cnt);
        fail();
    }
    assert_int_equal(addrs[0], record->addrs[0]);
    return at;
}

/* libc's own functions lie between, which the sanitizers' may do too. */
static void raise_it(void)
{
    (void)raise(SIGUSR1);
    __asm__ volatile("" ::: "memory");
}

static void sleep_on(void)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    const struct timespec time = {.tv_sec = 20};

    (void)setitimer(ITIMER_REAL, &soon, NULL);
    (void)nanosleep(&time, NULL);
    __asm__ volatile("" ::: "memory");
}

static void pause_here(void)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 20000}};

    (void)setitimer(ITIMER_REAL, &soon, NULL);
    (void)pause();
    __asm__ volatile("" ::: "memory");
}

STEP(compare) static int compare(const void *a, const void *b)
{
    raise_it();
    __asm__ volatile("" ::: "memory");
    return (a > b) - (a < b);
}

static void search(void)
{
    static char key, other;
    void *root = NULL;

    (void)tsearch(&key, &root, compare);
    (void)tfind(&other, &root, compare);
    (void)tdelete(&key, &root, compare);
}

static void inside_of_libc(void **state)
{
    static void (*const actions[])(void) = {raise_it, sleep_on, pause_here};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        look_at(actions[i]);
        assert_true(expect_steps(&seen) >= 2); /* behind the leaf, and the action */
    }
}

/* A function of this program that libc calls, and that calls libc. */
static void called_back(void **state)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX];
    uint32_t cnt, i;

    (void)state;
    look_at(search);
    cnt = repair(&seen, addrs);
    for (i = 0; i < cnt && !INSIDE(compare, addrs[i]); i++)
        ;
    if (i == cnt)
        show("repaired", addrs, cnt);
    assert_in_range(i, 2, cnt - 1);
}

/* Chain and walk are joined: nothing that either knows is left out, unless the chain was none. */
static void chains(void **state)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX], whole[AP_LEAF_FRAMES_MAX];
    struct record record;
    uint32_t walked, cnt, i, matched = 0;

    (void)state;
    look_at(raise_it);
    cnt = repair(&seen, whole);
    for (i = 0; i < cnt && matched < seen.head.user_cnt; i++)
        matched += whole[i] == seen.addrs[matched];
    assert_int_equal(matched, seen.head.user_cnt);
    assert_true(cnt > seen.head.user_cnt); /* and what the chain leaves out */

    record = seen; /* there is no chain */
    memmove(record.addrs + 1, record.addrs + record.head.user_cnt, AP_STACK_WORDS_MAX * sizeof(record.addrs[0]));
    record.head.user_cnt = 1;
    record.head.fp = 0;
    walked = repair(&record, addrs);
    assert_in_range(walked, 2, cnt);
    assert_memory_equal(addrs, whole, walked * sizeof(addrs[0]));
    assert_int_equal(was_cut, walked < cnt);

    /* one that leads somewhere else, as long as it can be */
    memmove(record.addrs + AP_USER_FRAMES_MAX, record.addrs + 1, AP_STACK_WORDS_MAX * sizeof(record.addrs[0]));
    for (i = 1; i < AP_USER_FRAMES_MAX; i++)
        record.addrs[i] = i;
    record.head.user_cnt = AP_USER_FRAMES_MAX;
    assert_int_equal(repair(&record, addrs), walked);
    assert_memory_equal(addrs, whole, walked * sizeof(addrs[0]));
}

static void without_words(void **state)
{
    struct ap_process *known = process;
    struct record record;

    (void)state;
    look_at(raise_it);
    record = seen;
    record.head.word_cnt = 0;
    expect_unchanged(&record);
    record = seen;
    process = NULL; /* a process that is not visible */
    expect_unchanged(&record);
    process = known;
    expect_steps(&record);
}

/* The kernel half stands before. */
static void behind_kernel_frames(void **state)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX], wanted[AP_LEAF_FRAMES_MAX];
    struct record record;
    uint32_t cnt;

    (void)state;
    look_at(raise_it);
    cnt = repair(&seen, wanted);
    record = seen;
    assert_true(seen.head.user_cnt + 3 <= AP_USER_FRAMES_MAX);
    memmove(record.addrs + 3, record.addrs, (seen.head.user_cnt + AP_STACK_WORDS_MAX) * sizeof(record.addrs[0]));
    record.addrs[0] = record.addrs[1] = record.addrs[2] = 0xffffffff81000000;
    record.head.kernel_cnt = 3;
    assert_int_equal(repair(&record, addrs), cnt);
    assert_memory_equal(addrs, wanted, cnt * sizeof(addrs[0]));
}

/* Whatever the words, the registers and the chain are: something comes out, and it fits. */
static void anything(void **state)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX];
    struct record record;
    unsigned seed = 1, i, j;

    (void)state;
    look_at(sleep_on);
    for (i = 0; i < 20000; i++) {
        record = seen;
        for (j = 0; j < 4; j++) {
            uint64_t *word = &record.addrs[(unsigned)rand_r(&seed) % (record.head.user_cnt + AP_STACK_WORDS_MAX)];

            switch (rand_r(&seed) % 4) {
            case 0:
                *word = seen.addrs[(unsigned)rand_r(&seed) % (seen.head.user_cnt + AP_STACK_WORDS_MAX)];
                break;
            case 1:
                *word = seen.head.sp + (unsigned)rand_r(&seed) % 1024;
                break;
            case 2:
                *word = (uint64_t)rand_r(&seed) << 33 ^ (uint64_t)rand_r(&seed);
                break;
            default:
                record.head.bp = seen.head.sp + (unsigned)rand_r(&seed) % 1024;
                record.head.sp = seen.head.sp + (unsigned)rand_r(&seed) % 64;
                break;
            }
        }
        record.head.word_cnt = (unsigned)rand_r(&seed) % (AP_STACK_WORDS_MAX + 1);
        assert_true(repair(&record, addrs) >= 1);
        assert_int_equal(addrs[0], record.addrs[0]);
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_go_by),
#ifdef __x86_64__
        cmocka_unit_test(inside_of_libc),   cmocka_unit_test(called_back),          cmocka_unit_test(chains),
        cmocka_unit_test(without_words),    cmocka_unit_test(behind_kernel_frames), cmocka_unit_test(anything),
#endif
    };

    return cmocka_run_group_tests(tests, begin, end);
}
