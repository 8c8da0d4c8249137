/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/unwind.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#ifdef __x86_64__

#include "elf_image.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unwind.h>

#define WORDS     64
#define ADDRS     128
#define MAPS_MAX  512
#define FILES_MAX 64

/* Under a sanitizer calls into libc go through its code, which needs more stack than is copied. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* A process that is unwound --------------------------------------------------------------------------------------- */

struct map {
    uint64_t start, end, off;
    struct ap_unwind_table *table;
};

struct process {
    pid_t pid;
    struct map maps[MAPS_MAX];
    size_t map_cnt;
    struct {
        char path[256];
        struct ap_unwind_table *table;
    } files[FILES_MAX];
    size_t file_cnt;
};

static struct ap_unwind_table *table_of(struct process *process, const char *path)
{
    struct ap_unwind_table *table = NULL;
    size_t i;
    int fd;

    for (i = 0; i < process->file_cnt; i++)
        if (!strcmp(process->files[i].path, path))
            return process->files[i].table;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && process->file_cnt < FILES_MAX);
    assert_int_equal(ap_unwind_table_new(fd, &table), 0);
    close(fd);
    snprintf(process->files[i].path, sizeof(process->files[i].path), "%s", path);
    process->files[i].table = table;
    process->file_cnt++;
    return table;
}

static void process_begin(struct process *process, pid_t pid)
{
    unsigned long start, end, off;
    char line[512], path[256], modes[8];
    FILE *file;

    memset(process, 0, sizeof(*process));
    process->pid = pid;
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &start, &end, modes, &off, path) != 5 || modes[2] != 'x' ||
            path[0] != '/')
            continue;
        assert_true(process->map_cnt < MAPS_MAX);
        process->maps[process->map_cnt++] = (struct map){start, end, off, table_of(process, path)};
    }
    fclose(file);
    assert_true(process->map_cnt > 1);
}

static void process_end(struct process *process)
{
    size_t i;

    for (i = 0; i < process->file_cnt; i++)
        ap_unwind_table_free(process->files[i].table);
}

static const struct ap_unwind_table *lookup(void *ctx, uint64_t addr, uint64_t *ret_file_off)
{
    const struct process *process = ctx;
    size_t i;

    for (i = 0; i < process->map_cnt; i++) {
        if (addr < process->maps[i].start || addr >= process->maps[i].end)
            continue;
        *ret_file_off = addr - process->maps[i].start + process->maps[i].off;
        return process->maps[i].table;
    }
    return NULL;
}

/* Words of the process's memory; fewer at the end of what is mapped. */
static uint32_t peek(pid_t pid, uint64_t addr, uint64_t *ret_words, uint32_t cnt)
{
    struct iovec local = {ret_words, cnt * sizeof(*ret_words)};
    struct iovec remote = {(void *)addr, cnt * sizeof(*ret_words)};
    ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);

    return n < 0 ? 0 : (uint32_t)((size_t)n / sizeof(*ret_words));
}

/* The whole stack as the agent would see it: the leaf by rules, the rest by frame pointers. */
static uint32_t unwind(struct process *process, uint64_t ip, uint64_t sp, uint64_t bp, uint64_t until_bp,
                       uint64_t *ret_addrs, struct ap_unwind_result *ret_result)
{
    uint64_t words[WORDS], frame[2];
    struct ap_unwind_leaf leaf = {ip, sp, bp, words, peek(process->pid, sp, words, WORDS), until_bp, NULL};
    uint32_t cnt;

    ap_unwind_leaf(&leaf, lookup, process, ret_addrs, ADDRS, ret_result);
    cnt = ret_result->cnt;
    assert_true(cnt >= 1 && cnt <= ADDRS && ret_addrs[0] == ip);
    if (ret_result->end != AP_UNWIND_AT_FRAME)
        return cnt;
    assert_true(ret_result->bp_known && ret_result->bp >= sp);
    bp = ret_result->bp;
    while (cnt < ADDRS && peek(process->pid, bp, frame, 2) == 2 && frame[1]) {
        ret_addrs[cnt++] = frame[1];
        if (frame[0] <= bp)
            break;
        bp = frame[0];
    }
    return cnt;
}

/* Functions that keep no frame pointer, written by hand ------------------------------------------------------------ */

struct capture {
    uint64_t ip, sp, bp;
    uint64_t frame; /* of the function that calls the first of them */
};

/* Pushes, an overwritten rbp, a call; there: a frame of rsp alone, registers stored, another call. */
__asm__(".pushsection .text\n"
        ".type unwind_outer, @function\n"
        "unwind_outer:\n"
        "    .cfi_startproc\n"
        "    push %rbp\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset %rbp, -16\n"
        "    push %rbx\n"
        "    .cfi_def_cfa_offset 24\n"
        "    .cfi_offset %rbx, -24\n"
        "    sub $40, %rsp\n"
        "    .cfi_def_cfa_offset 64\n"
        "    mov $0x5555, %ebp\n"
        "    call unwind_inner\n"
        "    add $40, %rsp\n"
        "    .cfi_def_cfa_offset 24\n"
        "    pop %rbx\n"
        "    .cfi_restore %rbx\n"
        "    .cfi_def_cfa_offset 16\n"
        "    pop %rbp\n"
        "    .cfi_restore %rbp\n"
        "    .cfi_def_cfa_offset 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size unwind_outer, . - unwind_outer\n"
        ".type unwind_inner, @function\n"
        "unwind_inner:\n"
        "    .cfi_startproc\n"
        "    sub $24, %rsp\n"
        "    .cfi_def_cfa_offset 32\n"
        "    lea 0f(%rip), %rax\n"
        "    mov %rax, 0(%rdi)\n"
        "    mov %rsp, 8(%rdi)\n"
        "    mov %rbp, 16(%rdi)\n"
        "0:  call unwind_captured\n"
        "    add $24, %rsp\n"
        "    .cfi_def_cfa_offset 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size unwind_inner, . - unwind_inner\n"
        ".popsection\n");

void unwind_outer(struct capture *capture);
void unwind_captured(const struct capture *capture);

struct backtrace {
    uint64_t addrs[ADDRS];
    uint32_t cnt;
};

static _Unwind_Reason_Code add_address(struct _Unwind_Context *context, void *ctx)
{
    struct backtrace *backtrace = ctx;

    if (backtrace->cnt == ADDRS)
        return _URC_END_OF_STACK;
    backtrace->addrs[backtrace->cnt++] = _Unwind_GetIP(context);
    return _URC_NO_REASON;
}

/* With the two functions' frames below: what libgcc's unwinder says, and what ours does. */
__attribute__((used)) void unwind_captured(const struct capture *capture)
{
    struct ap_unwind_result result;
    struct backtrace theirs = {0};
    uint64_t ours[ADDRS];
    struct process process;
    uint32_t i, cnt;

    _Unwind_Backtrace(add_address, &theirs);
    for (i = 0; i < theirs.cnt && theirs.addrs[i] - capture->ip > 16; i++)
        ;
    assert_true(i + 3 < theirs.cnt);
    process_begin(&process, getpid());
    cnt = unwind(&process, capture->ip, capture->sp, capture->bp, 0, ours, &result);
    /* inner, outer, and the function that keeps a frame pointer; behind it frame pointers */
    assert_int_equal(result.end, AP_UNWIND_AT_FRAME);
    assert_int_equal(result.cnt, 3);
    assert_int_equal(result.bp, capture->frame);
    assert_int_equal(result.sp, capture->sp + 32 + 64);
    assert_true(cnt >= 4);
    assert_memory_equal(ours + 1, theirs.addrs + i + 1, 3 * sizeof(*ours));
    /* by rules as far as the words go */
    cnt = unwind(&process, capture->ip, capture->sp, capture->bp, UINT64_MAX, ours, &result);
    assert_true(result.cnt > 3 && cnt <= theirs.cnt - i);
    assert_memory_equal(ours + 1, theirs.addrs + i + 1, (result.cnt - 1) * sizeof(*ours));
    cnt = unwind(&process, capture->ip, capture->sp, capture->bp, capture->frame, ours, &result);
    assert_true(cnt >= 4 && result.cnt == 3 && result.end == AP_UNWIND_AT_FRAME);
    process_end(&process);
}

static void hand_written(void **state)
{
    struct capture capture = {.frame = (uint64_t)__builtin_frame_address(0)};

    (void)state;
    unwind_outer(&capture);
    assert_true(capture.ip != 0); /* keeps the call from being the last thing done here */
}

/* Other processes ---------------------------------------------------------------------------------------------------
 */

/* What the child runs; its addresses are between these. */
extern const char __start_unwind_marker[], __stop_unwind_marker[];
#define MARKED __attribute__((noinline, used, section("unwind_marker")))

static bool has_marker(const uint64_t *addrs, uint32_t cnt)
{
    uint32_t i;

    for (i = 0; i < cnt; i++)
        if (addrs[i] >= (uint64_t)__start_unwind_marker && addrs[i] < (uint64_t)__stop_unwind_marker)
            return true;
    return false;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;
static int ready[2], never[2];

MARKED static void in_mutex_lock(void)
{
    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&mutex);
    _exit(1);
}

MARKED static void in_cond_wait(void)
{
    pthread_mutex_lock(&mutex);
    pthread_cond_wait(&cond, &mutex);
    _exit(1);
}

MARKED static void in_cond_timedwait(void)
{
    struct timespec until = {.tv_sec = time(NULL) + 1000};

    pthread_mutex_lock(&mutex);
    pthread_cond_timedwait(&cond, &mutex, &until);
    _exit(1);
}

MARKED static void in_rwlock_wrlock(void)
{
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_wrlock(&rwlock);
    _exit(1);
}

MARKED static void in_rwlock_rdlock(void)
{
    pthread_rwlock_wrlock(&rwlock);
    pthread_rwlock_rdlock(&rwlock); /* EDEADLK where the library knows itself */
    for (;;)
        pause();
}

MARKED static void in_sem_wait(void)
{
    sem_wait(&sem);
    _exit(1);
}

MARKED static void in_read(void)
{
    char byte;

    if (read(never[0], &byte, 1) <= 1)
        _exit(1);
}

MARKED static void in_nanosleep(void)
{
    struct timespec time = {.tv_sec = 1000};

    nanosleep(&time, NULL);
    _exit(1);
}

/* Waits until the only thread of the process sleeps. */
static void wait_until_asleep(pid_t pid)
{
    char path[64], text[512], *end;
    int tries, fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    for (tries = 0; tries < 10000; tries++) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        assert_true(n > 0);
        text[n] = '\0';
        end = strrchr(text, ')');
        assert_non_null(end);
        if (end[2] == 'S')
            return;
        usleep(1000);
    }
    fail_msg("the child did not block");
}

static void blocked_in(void (*function)(void), const char *name)
{
    struct ap_unwind_result result;
    struct user_regs_struct regs;
    static struct process process;
    uint64_t addrs[ADDRS];
    uint32_t cnt;
    int status;
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(never), 0);
    assert_int_equal(sem_init(&sem, 0, 0), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves it behind */
        if (write(ready[1], "", 1) == 1)
            function();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    wait_until_asleep(pid);
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
    process_begin(&process, pid);
    cnt = unwind(&process, regs.rip, regs.rsp, regs.rbp, 0, addrs, &result);
    if (!has_marker(addrs, cnt) && !(SANITIZED && result.end == AP_UNWIND_EXHAUSTED))
        fail_msg("%s: caller is missing, end %d after %u addresses", name, result.end, result.cnt);
    if (!SANITIZED)
        assert_int_equal(result.end, AP_UNWIND_AT_FRAME);
    cnt = unwind(&process, regs.rip, regs.rsp, regs.rbp, UINT64_MAX, addrs, &result);
    assert_true(SANITIZED || has_marker(addrs, cnt));
    process_end(&process);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    close(ready[0]);
    close(ready[1]);
    close(never[0]);
    close(never[1]);
}

static void blocked_threads(void **state)
{
    (void)state;
    blocked_in(in_mutex_lock, "pthread_mutex_lock");
    blocked_in(in_cond_wait, "pthread_cond_wait");
    blocked_in(in_cond_timedwait, "pthread_cond_timedwait");
    blocked_in(in_rwlock_wrlock, "pthread_rwlock_wrlock");
    blocked_in(in_rwlock_rdlock, "pthread_rwlock_rdlock");
    blocked_in(in_sem_wait, "sem_wait");
    blocked_in(in_read, "read");
    blocked_in(in_nanosleep, "nanosleep");
}

/* Every single instruction of some library calls: prologues, epilogues, the PLT. */

static volatile int sink;

static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

MARKED static void calls(void)
{
    int numbers[] = {5, 3, 9, 1, 7, 2, 8};
    char text[64], *end;
    void *memory;

    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    pthread_rwlock_rdlock(&rwlock);
    pthread_rwlock_unlock(&rwlock);
    sem_post(&sem);
    sem_wait(&sem);
    qsort(numbers, sizeof(numbers) / sizeof(numbers[0]), sizeof(numbers[0]), by_value);
    snprintf(text, sizeof(text), "%d %s %g", numbers[0], "text", 0.5);
    sink = (int)strtol(text, &end, 10) + (int)strtod(text, NULL);
    memory = malloc(100);
    sink = sink + (memory != NULL);
    memory = realloc(memory, 5000);
    free(memory);
    sink = sink + (int)strlen(text) + getpid() + (int)time(NULL);
    raise(SIGUSR1); /* ends the walk */
}

static void every_instruction(void **state)
{
    uint32_t right = 0, exhausted = 0, no_rule = 0, wrong = 0, cnt;
    struct ap_unwind_result result;
    struct user_regs_struct regs;
    static struct process process;
    uint64_t addrs[ADDRS];
    bool inside = false;
    int status;
    pid_t pid;

    (void)state;
    assert_int_equal(sem_init(&sem, 0, 0), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        calls();
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    process_begin(&process, pid);
    while (right + exhausted + no_rule + wrong < 100000) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        if (WSTOPSIG(status) != SIGTRAP)
            break;
        assert_int_equal(ptrace(PTRACE_GETREGS, pid, 0, &regs), 0);
        inside = inside || has_marker((uint64_t[]){regs.rip}, 1);
        if (!inside)
            continue;
        cnt = unwind(&process, regs.rip, regs.rsp, regs.rbp, UINT64_MAX, addrs, &result);
        if (has_marker(addrs, cnt))
            right++;
        else if (result.end == AP_UNWIND_EXHAUSTED ||
                 (result.end == AP_UNWIND_AT_FRAME && result.bp + 16 > regs.rsp + WORDS * sizeof(uint64_t)))
            exhausted++; /* frame pointers from there on get only as far as they are kept */
        else if (result.end == AP_UNWIND_NO_RULE)
            no_rule++;
        else
            wrong++;
        if (result.end == AP_UNWIND_BROKEN || (!SANITIZED && result.end == AP_UNWIND_NO_RULE && no_rule < 10))
            print_message("end %d at %llx\n", result.end, regs.rip);
    }
    assert_int_equal(WSTOPSIG(status), SIGUSR1);
    print_message("%u right, %u exhausted, %u without rule, %u wrong\n", right, exhausted, no_rule, wrong);
    assert_true(right > 1000);
    if (!SANITIZED) {
        assert_int_equal(wrong, 0);
        assert_true(no_rule * 20 < right); /* the vDSO, which is no file */
    }
    process_end(&process);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

/* Steps that go wrong ---------------------------------------------------------------------------------------------- */

/* Three functions of 64 bytes: rsp + 16 with rbp saved at CFA - 16; a standard frame; and the outermost. */
static struct ap_unwind_table *small_table(void)
{
    struct ap_unwind_table *table = NULL;
    struct image image;
    size_t cie;
    int fd;

    image_begin(&image);
    cie = image_usual_cie(&image);
    image_fde(&image, cie, IMAGE_CODE, 64, (const uint8_t[]){0x0e, 16, 0x86, 2}, 4);
    image_fde(&image, cie, IMAGE_CODE + 64, 64, (const uint8_t[]){0x0c, 6, 16, 0x86, 2}, 5);
    image_fde(&image, cie, IMAGE_CODE + 128, 64, (const uint8_t[]){0x07, 16}, 2);
    image_fde(&image, cie, IMAGE_CODE + 192, 64, (const uint8_t[]){0x07, 6}, 2);     /* rbp lost */
    image_fde(&image, cie, IMAGE_CODE + 256, 64, (const uint8_t[]){0x0c, 6, 32}, 3); /* CFA rbp + 32 */
    image_fde(&image, cie, IMAGE_CODE + 320, 64,
              (const uint8_t[]){0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}, 13);
    image_fde(&image, cie, IMAGE_CODE + 384, 64, (const uint8_t[]){0x86, 2}, 2); /* rbp popped */
    fd = image_fd(image.data, sizeof(image.data));
    assert_int_equal(ap_unwind_table_new(fd, &table), 0);
    close(fd);
    return table;
}

#define CODE(off) (0x7f0000000000u + IMAGE_CODE + (off))
#define STACK     0x7ffc00001000u

static const struct ap_unwind_table *small_lookup(void *ctx, uint64_t addr, uint64_t *ret_file_off)
{
    if (addr < CODE(0) || addr >= CODE(4096))
        return NULL;
    *ret_file_off = addr - CODE(0) + IMAGE_CODE;
    return ctx;
}

static struct ap_unwind_result walk(struct ap_unwind_table *table, struct ap_unwind_leaf leaf, uint64_t *ret_addrs,
                                    uint32_t max)
{
    struct ap_unwind_cache *cache = calloc(1, sizeof(*cache));
    struct ap_unwind_result result, again;
    uint64_t addrs[8];

    ap_unwind_leaf(&leaf, small_lookup, table, ret_addrs, max, &result);
    /* the same with a cache, empty and full */
    assert_non_null(cache);
    leaf.cache = cache;
    for (int i = 0; i < 2; i++) {
        assert_true(max <= sizeof(addrs) / sizeof(addrs[0]));
        ap_unwind_leaf(&leaf, small_lookup, table, addrs, max, &again);
        assert_int_equal(again.end, result.end);
        assert_int_equal(again.cnt, result.cnt);
        assert_memory_equal(addrs, ret_addrs, result.cnt * sizeof(addrs[0]));
        assert_int_equal(again.sp, result.sp);
        assert_int_equal(again.bp, result.bp);
        assert_int_equal(again.bp_known, result.bp_known);
    }
    free(cache);
    return result;
}

static void ends(void **state)
{
    struct ap_unwind_table *table = small_table();
    uint64_t words[8] = {0}, addrs[8];
    struct ap_unwind_leaf leaf = {CODE(8), STACK, STACK + 32, words, 8, 0, NULL};
    struct ap_unwind_result result;

    (void)state;
    /* to a function with a frame; the address is behind its last instruction */
    words[0] = STACK + 48;
    words[1] = CODE(128);
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_AT_FRAME);
    assert_int_equal(result.cnt, 2);
    assert_int_equal(addrs[1], CODE(128));
    assert_int_equal(result.bp, STACK + 48);
    assert_int_equal(result.sp, STACK + 16);
    /* on from there to the outermost, unless that is where to stop, or it is past the words */
    words[6] = 0;
    words[7] = CODE(136);
    leaf.until_bp = UINT64_MAX;
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_OUTERMOST);
    assert_int_equal(result.cnt, 3);
    assert_int_equal(addrs[2], CODE(136));
    assert_int_equal(result.sp, STACK + 64);
    leaf.until_bp = STACK + 48;
    assert_int_equal(walk(table, leaf, addrs, 8).cnt, 2);
    leaf.until_bp = UINT64_MAX;
    leaf.word_cnt = 7;
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_AT_FRAME);
    assert_int_equal(result.cnt, 2);
    leaf.word_cnt = 8;
    /* room */
    assert_int_equal(walk(table, leaf, addrs, 0).cnt, 0);
    assert_int_equal(walk(table, leaf, addrs, 0).end, AP_UNWIND_LIMIT);
    result = walk(table, leaf, addrs, 1);
    assert_int_equal(result.end, AP_UNWIND_LIMIT);
    assert_int_equal(result.cnt, 1);
    assert_int_equal(result.sp, STACK);
    assert_int_equal(result.bp, STACK + 32);
    /* words */
    leaf.word_cnt = 1;
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_EXHAUSTED);
    assert_int_equal(result.cnt, 1);
    leaf.word_cnt = 0;
    leaf.words = NULL;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_EXHAUSTED);
    leaf.word_cnt = 8;
    leaf.words = words;
    /* code without a table, and a return address of none */
    words[1] = CODE(5000);
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_NO_RULE);
    assert_int_equal(result.cnt, 2);
    assert_int_equal(result.bp, STACK + 48);
    words[1] = 0;
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_OUTERMOST);
    assert_int_equal(result.cnt, 1);
    /* a frame below the stack pointer, or between words */
    leaf.ip = CODE(64);
    leaf.until_bp = 0;
    leaf.bp = STACK - 8;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf.bp = STACK + 4;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf.bp = STACK;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_AT_FRAME);
    ap_unwind_table_free(table);
}

static void odd_rules(void **state)
{
    struct ap_unwind_table *table = small_table();
    uint64_t words[8] = {CODE(128)}, addrs[8];
    struct ap_unwind_leaf leaf = {CODE(200), STACK, STACK + 32, words, 8, 0, NULL};
    struct ap_unwind_result result;

    (void)state;
    /* bp lost, and then needed */
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_NO_RULE);
    assert_int_equal(result.cnt, 2);
    assert_false(result.bp_known);
    words[0] = CODE(264);
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_NO_RULE);
    words[0] = CODE(136);
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_OUTERMOST);
    /* a CFA from bp that is no frame: forwards, backwards, nowhere, far away */
    leaf.ip = CODE(264);
    leaf.bp = STACK;
    words[3] = CODE(136);
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_OUTERMOST);
    assert_int_equal(addrs[1], CODE(136));
    leaf.bp = STACK - 32;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf.bp = STACK + 1;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf.bp = UINT64_MAX - 31;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf.bp = UINT64_MAX - 39;
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_EXHAUSTED);
    /* the PLT, before and behind its push */
    leaf.bp = STACK + 32;
    words[0] = words[1] = CODE(136);
    leaf.ip = CODE(320 + 16);
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.sp, STACK + 8);
    assert_int_equal(result.end, AP_UNWIND_OUTERMOST);
    leaf.ip = CODE(320 + 16 + 11);
    assert_int_equal(walk(table, leaf, addrs, 8).sp, STACK + 16);
    /* rbp saved below the stack pointer: it is back already */
    leaf.ip = CODE(384 + 8);
    leaf.bp = STACK + 48;
    words[0] = CODE(64 + 8);
    result = walk(table, leaf, addrs, 8);
    assert_int_equal(result.end, AP_UNWIND_AT_FRAME);
    assert_int_equal(result.bp, STACK + 48);
    /* a stack at the end of memory, and one between words */
    leaf = (struct ap_unwind_leaf){CODE(8), UINT64_MAX - 7, STACK, words, 8, 0, NULL};
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_BROKEN);
    leaf = (struct ap_unwind_leaf){CODE(8), STACK + 3, STACK, words, 8, 0, NULL};
    assert_int_equal(walk(table, leaf, addrs, 8).end, AP_UNWIND_OUTERMOST);
    ap_unwind_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hand_written), cmocka_unit_test(blocked_threads), cmocka_unit_test(every_instruction),
        cmocka_unit_test(ends),         cmocka_unit_test(odd_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    return 77; /* skipped: no unwinding on this machine */
}

#endif
