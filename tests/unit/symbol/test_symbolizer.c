/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/symbolizer.h"

#include "core/clock.h"
#include "model/capture.h"
#include "symbol/vdso.h"
#include "tests/unit/symbol/fake_worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ANSWERS_MAX AP_SYMBOL_CHUNK
#define NOINLINE    __attribute__((noinline))

/* Functions to be found. */
NOINLINE int find_me_first(int x);
NOINLINE int find_me_second(int x);
NOINLINE uintptr_t find_my_caller(void);
NOINLINE uintptr_t find_me_outside(void);

int find_me_first(int x)
{
    return x * 3 + 1;
}

int find_me_second(int x)
{
    return x ^ 0x55;
}

uintptr_t find_my_caller(void)
{
    return (uintptr_t)__builtin_return_address(0) - 1;
}

static inline __attribute__((always_inline)) uintptr_t find_me_inside(void)
{
    volatile uintptr_t addr = find_my_caller();

    return addr;
}

static inline __attribute__((always_inline)) uintptr_t find_me_between(void)
{
    volatile uintptr_t addr = find_me_inside();

    return addr;
}

uintptr_t find_me_outside(void)
{
    volatile uintptr_t addr = find_me_between();

    return addr;
}

#define FRAMES_MAX 3

/* Answers to one request, the first frames of each. */
struct answer {
    unsigned calls;
    size_t cnt;
    uint8_t reason;
    struct {
        char function[128], file[128], module[64];
        uint32_t line;
        bool inlined;
    } frames[FRAMES_MAX];
};

static struct answer answers[ANSWERS_MAX];
static struct ap_symbolizer *symbolizer;
static int exe_fd;

static int begin(void **state)
{
    struct ap_error err;

    (void)state;
    exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    symbolizer = ap_symbolizer_new(&err);
    return exe_fd >= 0 && symbolizer ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    close(exe_fd);
    symbolizer = ap_symbolizer_free(symbolizer);
    return symbolizer ? -1 : 0;
}

static void on_symbol(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason)
{
    struct answer *answer = &answers[index];
    size_t i;

    assert_true(index < *(size_t *)ctx);
    answer->calls++;
    answer->cnt = cnt;
    answer->reason = reason;
    assert_int_equal(!cnt, reason != AP_UNRESOLVED_NONE); /* a name, or a reason why not */
    assert_true(reason < AP_UNRESOLVED_REASON_CNT);
    for (i = 0; i < cnt && i < FRAMES_MAX; i++) {
        (void)snprintf(answer->frames[i].function, sizeof(answer->frames[i].function), "%s", frames[i].function);
        (void)snprintf(answer->frames[i].file, sizeof(answer->frames[i].file), "%s", frames[i].file);
        (void)snprintf(answer->frames[i].module, sizeof(answer->frames[i].module), "%s", frames[i].module);
        answer->frames[i].line = frames[i].line;
        answer->frames[i].inlined = frames[i].inlined;
    }
}

/* Waits for the end of a request; what take returned. */
static int wait_for_end(void)
{
    int rc = 0;

    assert_true(ap_symbolizer_busy(symbolizer));
    while (!rc) {
        ap_symbolizer_wait(symbolizer);
        rc = ap_symbolizer_take(symbolizer, ap_clock_monotonic_ns());
    }
    assert_false(ap_symbolizer_busy(symbolizer));
    return rc;
}

static size_t asked;

static void submit(enum ap_symbol_what what, int fd, bool same_file, const uint64_t *addrs, size_t cnt)
{
    asked = cnt;
    memset(answers, 0, sizeof(answers));
    ap_symbolizer_submit(symbolizer, &(struct ap_symbol_request){.what = what,
                                                                 .fd = fd,
                                                                 .same_file = same_file,
                                                                 .addrs = addrs,
                                                                 .cnt = cnt,
                                                                 .fn = on_symbol,
                                                                 .ctx = &asked});
}

/* Each address is answered exactly once. */
static int finish(void)
{
    int rc = wait_for_end();
    size_t i;

    for (i = 0; i < asked; i++)
        assert_int_equal(answers[i].calls, 1);
    return rc;
}

/* Asks for `cnt` names. `fd` -1 = kernel addresses. */
static int ask(int fd, const uint64_t *addrs, size_t cnt)
{
    submit(fd < 0 ? AP_SYMBOL_KERNEL : AP_SYMBOL_CODE, fd, false, addrs, cnt);
    return finish();
}

/* Offset in this program's file, by what /proc/self/maps says of the address: right for PIE and for fixed addresses. */
static uint64_t offset_of(uintptr_t addr)
{
    unsigned long long start, last, off;
    uint64_t found = 0;
    char line[4352];
    FILE *maps = fopen("/proc/self/maps", "re");

    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps))
        if (sscanf(line, "%llx-%llx %*s %llx", &start, &last, &off) == 3 && addr >= start && addr < last)
            found = addr - start + off;
    (void)fclose(maps);
    assert_true(found);
    return found;
}

static void expect_first(void)
{
    const uint64_t offset = offset_of((uintptr_t)find_me_first) + 1;

    ask(exe_fd, &offset, 1);
    assert_int_equal(answers[0].cnt, 1);
    assert_string_equal(answers[0].frames[0].function, "find_me_first");
}

static void functions_of_this_program(void **state)
{
    const uint64_t offsets[] = {
        offset_of((uintptr_t)find_me_second),
        offset_of((uintptr_t)find_me_first) + 2,
        offset_of((uintptr_t)find_me_second) + 1,
    };
    static const char *const wanted[] = {"find_me_second", "find_me_first", "find_me_second"};
    size_t i;

    (void)state;
    ask(exe_fd, offsets, 3);
    for (i = 0; i < 3; i++) {
        assert_int_equal(answers[i].cnt, 1);
        assert_string_equal(answers[i].frames[0].function, wanted[i]);
        assert_false(answers[i].frames[0].inlined);
        assert_string_equal(answers[i].frames[0].module, "");
        /* the tests are built with debug information */
        assert_non_null(strstr(answers[i].frames[0].file, "test_symbolizer.c"));
        assert_true(answers[i].frames[0].line > 0);
    }
    assert_true(answers[1].frames[0].line < answers[0].frames[0].line);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 0);
}

static void inlined_functions(void **state)
{
    const uint64_t offset = offset_of(find_me_outside());

    (void)state;
    ask(exe_fd, &offset, 1);
    assert_int_equal(answers[0].cnt, 3);
    assert_string_equal(answers[0].frames[0].function, "find_me_inside");
    assert_string_equal(answers[0].frames[1].function, "find_me_between");
    assert_string_equal(answers[0].frames[2].function, "find_me_outside");
    assert_true(answers[0].frames[0].inlined);
    assert_true(answers[0].frames[1].inlined);
    assert_false(answers[0].frames[2].inlined);
    /* each has the line of its own call */
    assert_true(answers[0].frames[0].line < answers[0].frames[1].line);
    assert_true(answers[0].frames[1].line < answers[0].frames[2].line);
}

static void offsets_without_a_function(void **state)
{
    const uint64_t offsets[] = {0, 1ULL << 40, UINT64_MAX};

    (void)state;
    ask(exe_fd, offsets, 3);
    assert_int_equal(answers[1].cnt, 0);
    assert_int_equal(answers[2].cnt, 0);
    expect_first();
}

static void more_than_one_chunk(void **state)
{
    uint64_t offsets[ANSWERS_MAX];
    size_t i, round;

    (void)state;
    for (i = 0; i < ANSWERS_MAX; i++)
        offsets[i] = offset_of(i % 3 ? (uintptr_t)find_me_first : (uintptr_t)find_me_second);
    for (round = 0; round < 3; round++) {
        submit(AP_SYMBOL_CODE, exe_fd, round > 0, offsets, ANSWERS_MAX);
        assert_int_equal(finish(), 1);
        for (i = 0; i < ANSWERS_MAX; i++)
            assert_string_equal(answers[i].frames[0].function, i % 3 ? "find_me_first" : "find_me_second");
    }
}

static void names_in_the_vdso(void **state)
{
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR); // NOLINT(performance-no-int-to-ptr)
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)image;
    const ElfW(Shdr) * sections;
    const ElfW(Sym) * symbols;
    uint64_t offset = 0;
    int fd = ap_vdso_open();
    size_t i, j;

    (void)state;
    if (fd < 0)
        skip();
    sections = (const ElfW(Shdr) *)(image + head->e_shoff);
    for (i = 0; i < head->e_shnum; i++) {
        symbols = (const ElfW(Sym) *)(image + sections[i].sh_offset);
        for (j = 0; sections[i].sh_type == SHT_DYNSYM && j < sections[i].sh_size / sizeof(*symbols); j++)
            if (ELF64_ST_TYPE(symbols[j].st_info) == STT_FUNC && symbols[j].st_size)
                offset = symbols[j].st_value; /* linked at 0: the address is the offset */
    }
    assert_true(offset);
    ask(fd, &offset, 1);
    assert_int_equal(answers[0].cnt, 1);
    assert_true(answers[0].frames[0].function[0]);
    close(fd);
}

/* Address of a kernel function by /proc/kallsyms; 0 when it is hidden. */
static uint64_t kernel_address(const char *wanted)
{
    char line[1024], type, name[512];
    uint64_t addr, found = 0;
    FILE *symbols = fopen("/proc/kallsyms", "re");

    while (symbols && !found && fgets(line, sizeof(line), symbols))
        if (sscanf(line, "%" SCNx64 " %c %511s", &addr, &type, name) == 3 && !strcmp(name, wanted))
            found = addr;
    if (symbols)
        (void)fclose(symbols);
    return found;
}

static void kernel_functions(void **state)
{
    const uint64_t addrs[] = {kernel_address("schedule") + 1, 4096, kernel_address("vfs_read")};

    (void)state;
    if (addrs[0] == 1 || !addrs[2]) {
        /* not root: the reason says what hides them */
        ask(-1, addrs, 3);
        assert_int_equal(answers[0].reason, AP_UNRESOLVED_KPTR);
        skip();
    }
    ask(-1, addrs, 3);
    assert_string_equal(answers[0].frames[0].function, "schedule");
    assert_string_equal(answers[2].frames[0].function, "vfs_read");
    assert_int_equal(answers[0].cnt, 1);
    assert_int_equal(answers[1].cnt, 0);
    assert_int_equal(answers[1].reason, AP_UNRESOLVED_KERNEL_SYMBOL);
    expect_first(); /* files and kernel by turns */
    ask(-1, addrs, 1);
    assert_string_equal(answers[0].frames[0].function, "schedule");
}

/* A copy of this program in memory. */
static int copy_exe(size_t *ret_len)
{
    int fd = memfd_create("copy", MFD_CLOEXEC);
    struct stat st;
    char *data;

    assert_true(fd >= 0 && !fstat(exe_fd, &st));
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, exe_fd, 0);
    assert_true(data != MAP_FAILED);
    assert_int_equal(write(fd, data, (size_t)st.st_size), st.st_size);
    munmap(data, (size_t)st.st_size);
    *ret_len = (size_t)st.st_size;
    return fd;
}

static void overwrite(int fd, uint64_t off, size_t len, int byte)
{
    char *junk = malloc(len);

    assert_non_null(junk);
    memset(junk, byte, len);
    assert_int_equal(pwrite(fd, junk, len, (off_t)off), len);
    free(junk);
}

static void expect_no_names(int fd)
{
    const uint64_t offsets[] = {offset_of((uintptr_t)find_me_first), offset_of((uintptr_t)find_me_second)};

    ask(fd, offsets, 2); /* checks that there is a reason */
    assert_int_equal(answers[0].cnt, 0);
    assert_int_equal(answers[1].cnt, 0);
}

static void broken_files(void **state)
{
    int text = memfd_create("text", MFD_CLOEXEC), empty = memfd_create("empty", MFD_CLOEXEC), copy;
    ElfW(Ehdr) head;
    size_t len;

    (void)state;
    assert_int_equal(write(text, "no ELF file", 11), 11);
    expect_no_names(text);
    expect_no_names(empty);
    copy = copy_exe(&len);
    assert_int_equal(pread(copy, &head, sizeof(head), 0), sizeof(head));
    overwrite(copy, head.e_phoff, head.e_phnum * sizeof(ElfW(Phdr)), 0xff);
    overwrite(copy, head.e_shoff, head.e_shnum * sizeof(ElfW(Shdr)), 0xff);
    expect_no_names(copy);
    assert_int_equal(ftruncate(copy, 200), 0);
    expect_no_names(copy);
    close(text);
    close(empty);
    close(copy);
    expect_first();
}

/* Damage by chance to what blazesym reads: whatever it makes of it, each address is answered and the next file is
 * read as ever. */
static void damaged_files(void **state)
{
    const uint64_t offsets[] = {offset_of((uintptr_t)find_me_first), offset_of(find_me_outside())};
    uint64_t seed = 1;
    ElfW(Ehdr) head;
    ElfW(Shdr) section;
    size_t len;

    (void)state;
    assert_int_equal(pread(exe_fd, &head, sizeof(head), 0), sizeof(head));
    for (int round = 0; round < 60; round++) {
        int copy = copy_exe(&len);

        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t i = (seed >> 33) % head.e_shnum;
        assert_int_equal(pread(copy, &section, sizeof(section), (off_t)(head.e_shoff + i * sizeof(section))),
                         sizeof(section));
        if (section.sh_type != SHT_NULL && section.sh_type != SHT_NOBITS && section.sh_size > 64)
            overwrite(copy, section.sh_offset + (seed >> 20) % (section.sh_size - 64), 64, (int)(seed >> 56));
        overwrite(copy, head.e_shoff + i * sizeof(section) + (seed >> 40) % 56, 8, round % 2 ? 0xff : 0);
        ask(copy, offsets, 2);
        close(copy);
    }
    expect_first();
}

static void killed_worker(void **state)
{
    static const uint64_t addrs[ANSWERS_MAX];
    pid_t pid = worker_pid();

    (void)state;
    if (!pid)
        skip();
    expect_first();
    assert_int_equal(worker_pid(), pid); /* one for all requests */
    assert_int_equal(kill(pid, SIGSTOP), 0);
    submit(AP_SYMBOL_CODE, exe_fd, false, addrs, ANSWERS_MAX);
    assert_int_equal(ap_symbolizer_take(symbolizer, ap_clock_monotonic_ns()), 0);
    kill_worker(pid);
    assert_true(finish() < 0); /* this file has bad luck */
    for (size_t i = 0; i < ANSWERS_MAX; i++)
        assert_int_equal(answers[i].reason, AP_UNRESOLVED_BAD_FILE);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 1);
    expect_first();
    assert_int_equal(ap_symbolizer_failures(symbolizer), 1);
    assert_int_not_equal(worker_pid(), pid);
    assert_int_not_equal(worker_pid(), 0);
}

static bool is_readable(void)
{
    struct pollfd look = {.fd = ap_symbolizer_fd(symbolizer), .events = POLLIN};

    return poll(&look, 1, 0) == 1;
}

/* Between requests it costs nothing, and does not keep who waits for its descriptor busy. */
static void killed_idle_worker(void **state)
{
    pid_t pid = worker_pid();

    (void)state;
    if (!pid)
        skip();
    expect_first();
    kill_worker(pid);
    expect_first();
    assert_int_not_equal(worker_pid(), pid);
    kill_worker(worker_pid());
    assert_true(is_readable());
    assert_int_equal(ap_symbolizer_take(symbolizer, ap_clock_monotonic_ns()), 0);
    assert_false(is_readable());
    assert_int_equal(worker_pid(), 0);
    expect_first();
    assert_int_equal(ap_symbolizer_failures(symbolizer), 0);
}

static void slow_worker(void **state)
{
    const uint64_t offset = offset_of((uintptr_t)find_me_first);
    const uint64_t now = ap_clock_monotonic_ns();
    pid_t pid = worker_pid();

    (void)state;
    if (!pid)
        skip();
    assert_int_equal(kill(pid, SIGSTOP), 0);
    submit(AP_SYMBOL_CODE, exe_fd, false, &offset, 1);
    assert_int_equal(ap_symbolizer_take(symbolizer, now + AP_SYMBOL_TIMEOUT_NS - 1000000000), 0);
    assert_false(is_readable());
    assert_int_equal(ap_symbolizer_take(symbolizer, now + AP_SYMBOL_TIMEOUT_NS + 1000000000), -ETIMEDOUT);
    assert_false(ap_symbolizer_busy(symbolizer));
    assert_int_equal(answers[0].calls, 1);
    assert_int_equal(answers[0].reason, AP_UNRESOLVED_BUDGET);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 1);
    expect_first();
}

/* The answer shows at the descriptor, and nothing is called before it is taken. */
static void no_waiting(void **state)
{
    const uint64_t offset = offset_of((uintptr_t)find_me_first);
    struct pollfd wait = {.fd = ap_symbolizer_fd(symbolizer), .events = POLLIN};

    (void)state;
    assert_int_equal(ap_symbolizer_take(symbolizer, ap_clock_monotonic_ns()), 0);
    ap_symbolizer_wait(symbolizer); /* nothing to wait for */
    submit(AP_SYMBOL_CODE, exe_fd, false, &offset, 1);
    assert_int_equal(answers[0].calls, 0);
    assert_int_equal(poll(&wait, 1, 60000), 1);
    assert_int_equal(answers[0].calls, 0);
    assert_int_equal(finish(), 1);
    assert_string_equal(answers[0].frames[0].function, "find_me_first");
    assert_false(is_readable());
    ap_symbolizer_stop(symbolizer);
    assert_int_equal(wait.fd, ap_symbolizer_fd(symbolizer));
    submit(AP_SYMBOL_CODE, exe_fd, true, &offset, 1); /* the new worker has no file */
    assert_int_equal(poll(&wait, 1, 60000), 1);
    assert_int_equal(finish(), 1);
    assert_string_equal(answers[0].frames[0].function, "find_me_first");
    submit(AP_SYMBOL_CODE, exe_fd, true, &offset, 1);
    ap_symbolizer_stop(symbolizer); /* drops it */
    assert_false(ap_symbolizer_busy(symbolizer));
    assert_int_equal(answers[0].calls, 0);
    expect_first();
}

int find_my_variable[4] = {1, 2, 3, 4};

static void variables(void **state)
{
    uint64_t addrs[3], base = 0;
    struct link_map *map = NULL;
    Dl_info info;

    (void)state;
    assert_true(dladdr1(find_my_variable, &info, (void **)&map, RTLD_DL_LINKMAP));
    base = map->l_addr;
    addrs[0] = (uintptr_t)find_my_variable - base;
    addrs[1] = addrs[0] + 4;
    addrs[2] = 1;
    submit(AP_SYMBOL_VARIABLE, exe_fd, false, addrs, 3);
    assert_int_equal(finish(), 1);
    assert_string_equal(answers[0].frames[0].function, "find_my_variable");
    assert_string_equal(answers[1].frames[0].function, "find_my_variable+0x4");
    assert_int_equal(answers[0].cnt, 1);
    assert_int_equal(answers[2].cnt, 0);
    assert_int_equal(answers[2].reason, AP_UNRESOLVED_STRIPPED);
    expect_first();
}

/* True when the worker has a file of that inode open or mapped. */
static bool worker_holds(pid_t pid, ino_t inode)
{
    char path[64], line[4352], *end;
    bool found = false;
    struct stat st;
    FILE *maps;
    int fd;

    for (fd = 0; fd < 64 && !found; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
        found = !stat(path, &st) && st.st_ino == inode;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps)) {
        end = strchr(line, ':');
        found = end && strtoull(end + 3, NULL, 10) == inode;
    }
    (void)fclose(maps);
    return found;
}

static void forgotten_file(void **state)
{
    const uint64_t offset = offset_of((uintptr_t)find_me_first);
    pid_t pid = worker_pid();
    struct stat st;
    size_t len;
    int copy;

    (void)state;
    if (!pid)
        skip();
    copy = copy_exe(&len);
    assert_int_equal(fstat(copy, &st), 0);
    assert_int_equal(ask(copy, &offset, 1), 1);
    assert_string_equal(answers[0].frames[0].function, "find_me_first");
    if (access("/proc/self/fd", R_OK) || !worker_holds(pid, st.st_ino)) {
        close(copy);
        skip(); /* not root: the worker's files are its own business */
    }
    ap_symbolizer_forget(symbolizer);
    ap_symbolizer_forget(symbolizer); /* twice is once */
    while (worker_holds(pid, st.st_ino))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(worker_pid(), pid);
    submit(AP_SYMBOL_CODE, copy, true, &offset, 1);
    assert_int_equal(finish(), 1);
    assert_string_equal(answers[0].frames[0].function, "find_me_first");
    close(copy);
}

/* Replies of a worker that an attacker has taken over
 * ------------------------------------------------------------------ */

/* What becomes of a request for two addresses when the reply is `reply`, whose head says `sz` bytes. */
static int answer_with(const struct hostile *reply, size_t sz, bool hang_up)
{
    const uint64_t addrs[2] = {1, 2};
    const struct ap_worker_reply head = {.sz = (uint32_t)sz};
    int rc, end;

    expect_first(); /* the true one runs */
    end = become_the_worker(symbolizer);
    submit(AP_SYMBOL_CODE, exe_fd, false, addrs, 2);
    assert_int_equal(write(end, &head, sizeof(head)), sizeof(head));
    assert_int_equal(write(end, reply->data, reply->len), reply->len);
    if (hang_up)
        close(end);
    rc = finish();
    if (!hang_up)
        close(end);
    ap_symbolizer_stop(symbolizer);
    return rc;
}

static void expect_refusal(const struct hostile *reply, size_t sz, bool hang_up)
{
    const uint64_t before = ap_symbolizer_failures(symbolizer);
    size_t i;

    assert_true(answer_with(reply, sz, hang_up) < 0);
    for (i = 0; i < 2; i++)
        assert_int_equal(answers[i].reason, AP_UNRESOLVED_BAD_FILE);
    assert_int_equal(ap_symbolizer_failures(symbolizer), before + 1);
    expect_first();
}

static void hostile_replies(void **state)
{
    const struct ap_worker_frame far = {.function_len = UINT16_MAX}, long_one = {.function_len = 3};
    const struct ap_worker_names names = {.frame_cnt = 1};
    struct hostile sound = {0}, bad;

    (void)state;
    put_names(&sound, AP_UNRESOLVED_NONE, 2);
    put_names(&sound, AP_UNRESOLVED_STRIPPED, 0);
    assert_int_equal(answer_with(&sound, sound.len, false), 1);
    assert_int_equal(answers[0].cnt, 2);
    assert_string_equal(answers[0].frames[1].function, "ok");
    assert_int_equal(answers[0].frames[1].line, 7);
    assert_int_equal(answers[1].reason, AP_UNRESOLVED_STRIPPED);

    expect_refusal(&sound, sound.len + 1, true); /* less than it said */
    expect_refusal(&sound, sound.len - 1, false);
    expect_refusal(&sound, 0, false);
    expect_refusal(&sound, UINT32_MAX, false);
    expect_refusal(&sound, AP_WORKER_REPLY_SZ_MAX, false);
    bad = sound;
    put(&bad, "x", 1);
    expect_refusal(&bad, bad.len, false); /* more than was asked for */
    bad = (struct hostile){.len = 0};
    put_names(&bad, AP_UNRESOLVED_NONE, 1);
    expect_refusal(&bad, bad.len, false); /* one address of two */
    put_names(&bad, AP_UNRESOLVED_NONE, 0);
    expect_refusal(&bad, bad.len, false); /* neither names nor a reason */
    bad.len -= sizeof(names);
    put_names(&bad, AP_UNRESOLVED_STRIPPED, 1);
    expect_refusal(&bad, bad.len, false); /* both */
    bad = (struct hostile){.len = 0};
    put_names(&bad, AP_UNRESOLVED_NONE, 1);
    put_names(&bad, AP_UNRESOLVED_REASON_CNT, 0);
    expect_refusal(&bad, bad.len, false);
    bad = (struct hostile){.len = 0};
    put_names(&bad, AP_UNRESOLVED_NONE, AP_SYMBOL_INLINE_MAX + 1);
    put_names(&bad, AP_UNRESOLVED_NONE, 1);
    expect_refusal(&bad, bad.len, false);
    bad = (struct hostile){.len = 0};
    put_names(&bad, AP_UNRESOLVED_NONE, 1);
    put(&bad, &names, sizeof(names));
    put(&bad, &far, sizeof(far));
    expect_refusal(&bad, bad.len, false); /* a text beyond the end */
    bad.len -= sizeof(far);
    put(&bad, &long_one, sizeof(long_one));
    put(&bad, "abcd\0\0", 6);
    expect_refusal(&bad, bad.len, false); /* a text without NUL */
}

static void stopped_worker(void **state)
{
    uint64_t cpu_ns;

    (void)state;
    cpu_ns = ap_symbolizer_cpu_ns(symbolizer);
    expect_first();
    assert_true(ap_symbolizer_cpu_ns(symbolizer) > cpu_ns); /* while it runs */
    ap_symbolizer_stop(symbolizer);
    assert_int_equal(worker_pid(), 0);
    cpu_ns = ap_symbolizer_cpu_ns(symbolizer);
    assert_true(cpu_ns > 0 && cpu_ns < 60000000000ULL);
    ap_symbolizer_stop(symbolizer); /* twice is once */
    assert_int_equal(ap_symbolizer_cpu_ns(symbolizer), cpu_ns);
    expect_first(); /* starts it again */
    ap_symbolizer_stop(symbolizer);
    assert_true(ap_symbolizer_cpu_ns(symbolizer) > cpu_ns);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 0);
}

/* The agent's descriptors are none of the worker's business, and it is told apart in ps. */
static void worker_is_alone(void **state)
{
    int high = fcntl(exe_fd, F_DUPFD, 700);
    char path[64], name[32] = "";
    pid_t pid;
    FILE *file;

    (void)state;
    assert_true(high >= 700);
    ap_symbolizer_stop(symbolizer);
    expect_first();
    pid = worker_pid();
    if (!pid)
        skip();
    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, high);
    assert_int_equal(access(path, F_OK), -1);
    close(high);
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(name, sizeof(name), file));
    (void)fclose(file);
    assert_string_equal(name, "aperture-symbol\n");
}

static void the_end_of_the_worker(void **state)
{
    pid_t pid = worker_pid();

    (void)state;
    if (!pid)
        skip();
    symbolizer = ap_symbolizer_free(symbolizer);
    assert_int_equal(kill(pid, 0), -1); /* reaped too */
    assert_int_equal(errno, ESRCH);
    assert_null(ap_symbolizer_free(NULL));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(functions_of_this_program),
        TEST(inlined_functions),
        TEST(offsets_without_a_function),
        TEST(more_than_one_chunk),
        TEST(names_in_the_vdso),
        TEST(kernel_functions),
        TEST(broken_files),
        TEST(damaged_files),
        TEST(killed_worker),
        TEST(killed_idle_worker),
        TEST(slow_worker),
        TEST(no_waiting),
        TEST(variables),
        TEST(forgotten_file),
        TEST(hostile_replies),
        TEST(stopped_worker),
        TEST(worker_is_alone),
        TEST(the_end_of_the_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
