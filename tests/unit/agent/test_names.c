/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/names.h"

#include "core/clock.h"
#include "maps.h"
#include "model/capture.h"
#include "symbol/kallsyms.h"
#include "tests/unit/symbol/fake_worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>

#define NOINLINE __attribute__((noinline))
#define GONE     0x7ffffffe /* no process has this number */

/* Functions and a variable to be found. */
NOINLINE int names_first(int x);
NOINLINE int names_second(int x);
NOINLINE uintptr_t names_caller(void);
NOINLINE uintptr_t names_outside(void);

int names_first(int x)
{
    return x * 3 + 1;
}

int names_second(int x)
{
    return x ^ 0x55;
}

uintptr_t names_caller(void)
{
    return (uintptr_t)__builtin_return_address(0) - 1;
}

static inline __attribute__((always_inline)) uintptr_t names_inside(void)
{
    volatile uintptr_t addr = names_caller();

    return addr;
}

uintptr_t names_outside(void)
{
    volatile uintptr_t addr = names_inside();

    return addr;
}

int names_variable[4] = {1, 2, 3, 4};

static struct ap_symbolizer *symbolizer;
static struct ap_modules *modules;
static struct ap_names *names;
static uint32_t exe; /* module of this program */
static struct ap_names_answer answer;

static uint32_t module_at(const void *addr, uint64_t *ret_offset)
{
    const struct ap_mapped_file file = maps_find(addr);

    *ret_offset = (uintptr_t)addr - file.start + file.file_off;
    return ap_modules_file(modules, (uint32_t)getpid(), (uint32_t)getpid(), -1, &file);
}

static uint64_t offset_of(uintptr_t addr)
{
    uint64_t offset;

    module_at((const void *)addr, &offset); // NOLINT(performance-no-int-to-ptr)
    return offset;
}

static int begin(void **state)
{
    struct ap_error err;
    uint64_t offset;

    (void)state;
    symbolizer = ap_symbolizer_new(&err);
    modules = ap_modules_new();
    names = modules && symbolizer ? ap_names_new(modules, symbolizer) : NULL;
    if (!names)
        return -1;
    exe = module_at((const void *)(uintptr_t)names_first, &offset);
    return 0;
}

static int end(void **state)
{
    (void)state;
    names = ap_names_free(names);
    ap_modules_free(modules);
    ap_symbolizer_free(symbolizer);
    return names ? -1 : 0;
}

static void want(uint64_t offset)
{
    ap_names_want(names, AP_NAME_CODE, exe, offset);
}

static void pump(void)
{
    ap_names_pump(names, ap_clock_monotonic_ns());
}

static const char *function_at(uint32_t module, uint64_t offset)
{
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, module, offset, &answer), 0);
    assert_true(answer.cnt > 0 && !answer.reason);
    return answer.frames[answer.cnt - 1].function;
}

static uint8_t reason_at(uint32_t module, uint64_t offset)
{
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, module, offset, &answer), 0);
    assert_int_equal(answer.cnt, 0);
    return answer.reason;
}

static void names_of_places(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first), outside = offset_of(names_outside());

    (void)state;
    want(outside);
    want(first);
    want(first);
    assert_int_equal(ap_names_cnt(names), 2);
    assert_int_equal(ap_names_pending(names, exe), 2);
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, first, &answer), -EAGAIN);
    ap_names_settle(names);
    assert_int_equal(ap_names_pending(names, exe), 0);
    assert_string_equal(function_at(exe, first), "names_first");
    assert_int_equal(answer.cnt, 1);
    assert_non_null(strstr(answer.frames[0].file, "test_names.c"));
    assert_true(answer.frames[0].line > 0);
    assert_false(answer.frames[0].inlined);
    assert_string_equal(answer.frames[0].module, "");
    assert_string_equal(function_at(exe, outside), "names_outside");
    assert_int_equal(answer.cnt, 2);
    assert_string_equal(answer.frames[0].function, "names_inside");
    assert_true(answer.frames[0].inlined);
    want(first); /* known */
    assert_int_equal(ap_names_pending(names, exe), 0);
    assert_int_equal(ap_names_cnt(names), 2);
    assert_int_equal(ap_names_refused(names), 0);
    ap_names_settle(names); /* nothing to wait for */
    assert_null(ap_names_free(NULL));
}

static void variables(void **state)
{
    struct link_map *map = NULL;
    uint64_t vaddr;
    Dl_info info;

    (void)state;
    assert_true(dladdr1(names_variable, &info, (void **)&map, RTLD_DL_LINKMAP));
    vaddr = (uintptr_t)names_variable - map->l_addr;
    ap_names_want(names, AP_NAME_VARIABLE, exe, vaddr + 8);
    want(vaddr + 8); /* an offset is no address */
    ap_names_want(names, AP_NAME_VARIABLE, exe, 1);
    assert_int_equal(ap_names_cnt(names), 3);
    assert_int_equal(ap_names_pending(names, exe), 3);
    ap_names_settle(names);
    assert_int_equal(ap_names_find(names, AP_NAME_VARIABLE, exe, vaddr + 8, &answer), 0);
    assert_int_equal(answer.cnt, 1);
    assert_string_equal(answer.frames[0].function, "names_variable+0x8");
    assert_int_equal(ap_names_find(names, AP_NAME_VARIABLE, exe, 1, &answer), 0);
    assert_int_equal(answer.cnt, 0);
    assert_int_equal(answer.reason, AP_UNRESOLVED_STRIPPED);
}

/* What needs no asking is answered without. */
static void without_asking(void **state)
{
    const uint32_t jit = ap_modules_jit(modules, (uint32_t)getpid(), (uint32_t)getpid(), -1);
    const struct ap_mapped_file gone = {.start = 1, .end = 2, .dev_major = 0xfff, .inode = 1, .path = "/none/such"};
    const uint32_t file = ap_modules_file(modules, GONE, GONE, -1, &gone);
    char path[64];

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
    files_write(path, "1000 100 compiled\n", 18);
    ap_names_want(names, AP_NAME_CODE, jit, 0x1010);
    ap_names_want(names, AP_NAME_CODE, AP_MODULE_ID_NO_MAPPING, 0x1010);
    ap_names_want(names, AP_NAME_CODE, file, 0x1010);
    assert_int_equal(ap_names_cnt(names), 0);
    assert_string_equal(function_at(jit, 0x1010), "compiled");
    assert_string_equal(answer.frames[0].file, "");
    assert_int_equal(reason_at(jit, 0x10), AP_UNRESOLVED_JIT);
    assert_int_equal(reason_at(AP_MODULE_ID_NO_MAPPING, 0x1010), AP_UNRESOLVED_NO_MAPPING);
    assert_int_equal(reason_at(AP_MODULE_ID_NAMESPACE, 0x1010), AP_UNRESOLVED_NAMESPACE);
    assert_int_equal(reason_at(file, 0x1010), AP_UNRESOLVED_FILE_GONE);
    /* nobody wanted it so far */
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, offset_of((uintptr_t)names_first), &answer), -EAGAIN);
    assert_int_equal(ap_names_pending(names, exe), 1);
    unlink(path);
}

/* More than one chunk of each of several files, and of the kernel. */
static void many_at_once(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first);
    struct ap_kallsyms *kallsyms = NULL;
    uint64_t libc_offset, start = 0, stop;
    uint32_t libc = module_at((const void *)(uintptr_t)qsort, &libc_offset), i;
    bool hidden;

    (void)state;
    hidden = ap_kallsyms_new(NULL, &kallsyms) || !ap_kallsyms_function(kallsyms, "schedule", &start, &stop);
    ap_kallsyms_free(kallsyms);
    for (i = 0; i < 2 * AP_SYMBOL_CHUNK + 10; i++) {
        want(first + i);
        ap_names_want(names, AP_NAME_CODE, libc, libc_offset + i);
        ap_names_want(names, AP_NAME_CODE, AP_MODULE_ID_KERNEL, start + i);
    }
    ap_names_settle(names);
    assert_int_equal(ap_names_cnt(names), 3 * i);
    assert_string_equal(function_at(exe, first), "names_first");
    assert_non_null(strstr(function_at(libc, libc_offset), "qsort"));
    if (hidden)
        assert_int_equal(reason_at(AP_MODULE_ID_KERNEL, start), AP_UNRESOLVED_KPTR);
    else
        assert_string_equal(function_at(AP_MODULE_ID_KERNEL, start + 4), "schedule");
    for (; i > 0; i--)
        assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, first + i - 1, &answer), 0);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 0);
}

/* Nothing waits for the symbolizer but who settles; its descriptor tells when to pump. */
static void a_slow_worker(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first);
    struct pollfd wait = {.fd = ap_symbolizer_fd(symbolizer), .events = POLLIN};
    pid_t worker = worker_pid();

    (void)state;
    if (!worker)
        skip();
    assert_int_equal(kill(worker, SIGSTOP), 0);
    want(first);
    pump();
    want(first + 1);
    pump();
    assert_int_equal(poll(&wait, 1, 20), 0);
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, first, &answer), -EAGAIN);
    assert_int_equal(ap_names_pending(names, exe), 2);
    assert_int_equal(kill(worker, SIGCONT), 0);
    while (ap_names_pending(names, exe)) {
        assert_int_equal(poll(&wait, 1, 60000), 1);
        pump();
    }
    assert_string_equal(function_at(exe, first), "names_first");
    assert_string_equal(function_at(exe, first + 1), "names_first");
}

static void timed_out(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first), now = ap_clock_monotonic_ns();
    uint64_t libc_offset;
    uint32_t libc = module_at((const void *)(uintptr_t)qsort, &libc_offset);
    pid_t worker = worker_pid();

    (void)state;
    if (!worker)
        skip();
    assert_int_equal(kill(worker, SIGSTOP), 0);
    want(first);
    pump();
    want(first + 1); /* waits behind it */
    ap_names_pump(names, now + AP_SYMBOL_TIMEOUT_NS + AP_NS_PER_SEC);
    assert_int_equal(reason_at(exe, first), AP_UNRESOLVED_BUDGET);
    assert_int_equal(reason_at(exe, first + 1), AP_UNRESOLVED_BUDGET);
    ap_names_want(names, AP_NAME_CODE, libc, libc_offset);
    ap_names_settle(names);
    assert_non_null(strstr(function_at(libc, libc_offset), "qsort"));
    assert_int_equal(ap_symbolizer_failures(symbolizer), 1);
}

/* What kills the worker costs the names that were waited for in that file; what it always kills, all of them. */
static void killed_in_the_middle(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first), second = offset_of((uintptr_t)names_second);
    const uint64_t later = (first > second ? first : second) + 2;
    uint64_t libc_offset;
    uint32_t libc = module_at((const void *)(uintptr_t)qsort, &libc_offset), i;
    unsigned round;

    (void)state;
    if (!worker_pid())
        skip();
    want(second);
    ap_names_settle(names);
    for (round = 0; round < AP_NAMES_TRIES; round++) {
        assert_int_equal(kill(worker_pid(), SIGSTOP), 0);
        for (i = 0; i < 2 * AP_SYMBOL_CHUNK; i++)
            want(later + 2 * AP_SYMBOL_CHUNK * round + i);
        pump();
        ap_names_want(names, AP_NAME_CODE, libc, libc_offset + round);
        kill_worker(worker_pid());
        ap_names_settle(names);
        assert_int_equal(ap_names_pending(names, exe), 0);
        for (i = 0; i < 2 * AP_SYMBOL_CHUNK; i++)
            assert_int_equal(reason_at(exe, later + 2 * AP_SYMBOL_CHUNK * round + i), AP_UNRESOLVED_BAD_FILE);
        assert_non_null(strstr(function_at(libc, libc_offset + round), "qsort"));
        assert_int_equal(ap_symbolizer_failures(symbolizer), round + 1);
        assert_int_not_equal(worker_pid(), 0);
    }
    want(first);
    ap_names_settle(names);
    assert_int_equal(reason_at(exe, first), AP_UNRESOLVED_BAD_FILE);
    assert_string_equal(function_at(exe, second), "names_second"); /* found before */
    assert_int_equal(ap_symbolizer_failures(symbolizer), AP_NAMES_TRIES);
}

static void answer_as_worker(int worker, const struct hostile *reply)
{
    const struct ap_worker_reply head = {.sz = (uint32_t)reply->len};

    assert_int_equal(write(worker, &head, sizeof(head)), sizeof(head));
    assert_int_equal(write(worker, reply->data, reply->len), reply->len);
}

/* Nonsense counts as a failure, once; then the true worker's names are taken again. */
static void hostile_reply(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first);
    struct hostile reply = {.len = 0};
    int worker = become_the_worker(symbolizer);

    (void)state;
    want(first);
    want(first + 1);
    pump();
    put_names(&reply, AP_UNRESOLVED_NONE, 1);
    put_names(&reply, AP_UNRESOLVED_NONE, 0);
    answer_as_worker(worker, &reply);
    ap_names_settle(names);
    close(worker);
    assert_int_equal(reason_at(exe, first), AP_UNRESOLVED_BAD_FILE);
    assert_int_equal(reason_at(exe, first + 1), AP_UNRESOLVED_BAD_FILE);
    want(first + 2);
    ap_names_settle(names);
    assert_string_equal(function_at(exe, first + 2), "names_first");
    assert_int_equal(ap_symbolizer_failures(symbolizer), 1);
}

/* A worker that fills the table with text. */
static void most_text(void **state)
{
    enum { LEN = AP_SYMBOL_NAME_MAX, CNT = 900 }; /* a reply of 3 texts for each */
    const struct ap_worker_names one = {.frame_cnt = 1};
    const struct ap_worker_frame frame = {.function_len = LEN, .file_len = LEN, .module_len = LEN};
    const uint32_t rounds = AP_NAMES_TEXT_SZ_MAX / (3 * CNT * LEN) + 1;
    const size_t part_sz = sizeof(one) + sizeof(frame) + 3 * (LEN + 1);
    struct ap_worker_reply head = {.sz = (uint32_t)(CNT * part_sz)};
    int worker = become_the_worker(symbolizer);
    char *part = malloc(part_sz);
    uint32_t round, i, named = 0;
    pid_t child;

    (void)state;
    assert_non_null(part);
    for (round = 0; round < rounds; round++) {
        for (i = 0; i < CNT; i++)
            want(round * CNT + i);
        pump();
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            ap_worker_write(worker, &head, sizeof(head));
            for (i = 0; i < 3 * CNT; i++) {
                if (i % 3 == 0) {
                    memset(part, 'x', part_sz);
                    memcpy(part, &one, sizeof(one));
                    memcpy(part + sizeof(one), &frame, sizeof(frame));
                }
                char *text = part + sizeof(one) + sizeof(frame) + (i % 3) * (LEN + 1);
                int len = snprintf(text, LEN, "%u-%u", round, i);
                text[len] = 'x';
                text[LEN] = '\0';
                if (i % 3 == 2)
                    ap_worker_write(worker, part, part_sz);
            }
            _exit(0);
        }
        ap_names_settle(names);
        waitpid(child, NULL, 0);
    }
    for (i = 0; i < rounds * CNT; i++) {
        assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, i, &answer), 0);
        named += answer.cnt > 0;
        assert_int_equal(answer.reason, answer.cnt ? AP_UNRESOLVED_NONE : AP_UNRESOLVED_BUDGET);
    }
    assert_in_range(named, AP_NAMES_TEXT_SZ_MAX / (3 * (LEN + 1)) - 1, AP_NAMES_TEXT_SZ_MAX / (3 * (LEN + 1)));
    assert_int_equal(ap_names_refused(names), rounds * CNT - named);
    assert_int_equal(ap_symbolizer_failures(symbolizer), 0);
    close(worker);
    free(part);
}

static void most_places(void **state)
{
    uint64_t i;

    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* takes a gigabyte there */
#endif
    for (i = 0; i < AP_NAMES_MAX + 10; i++)
        want(i);
    assert_int_equal(ap_names_cnt(names), AP_NAMES_MAX);
    assert_int_equal(ap_names_pending(names, exe), AP_NAMES_MAX);
    assert_int_equal(ap_names_refused(names), 10);
    assert_int_equal(reason_at(exe, AP_NAMES_MAX), AP_UNRESOLVED_BUDGET);
}

/* With many places those that nobody looks up any more are forgotten; the others keep their names, and what is asked
 * for again is found again. */
static void idle_places_are_forgotten(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first);
    uint32_t i;

    (void)state;
    for (i = 0; i < AP_NAMES_KEEP + 10; i++)
        want(first + i);
    ap_names_settle(names);
    for (i = 0; i <= AP_NAMES_IDLE_SPANS * 2; i++) {
        assert_string_equal(function_at(exe, first), "names_first");
        ap_names_next(names);
    }
    assert_int_equal(ap_names_cnt(names), 1);
    assert_string_equal(function_at(exe, first), "names_first");
    assert_int_equal(ap_names_find(names, AP_NAME_CODE, exe, first + 1, &answer), -EAGAIN);
    ap_names_settle(names);
    assert_string_equal(function_at(exe, first + 1), "names_first");
    assert_int_equal(ap_names_refused(names), 0);
}

/* Names outlive the file; what is met afterwards has none until the file is back. */
static void after_the_release(void **state)
{
    const uint64_t first = offset_of((uintptr_t)names_first), second = offset_of((uintptr_t)names_second);

    (void)state;
    want(first);
    ap_names_settle(names);
    ap_modules_release(modules, exe);
    want(second);
    assert_int_equal(ap_names_pending(names, exe), 0);
    assert_string_equal(function_at(exe, first), "names_first");
    ap_names_settle(names);
    assert_int_equal(reason_at(exe, second), AP_UNRESOLVED_FILE_GONE);
    assert_int_equal(offset_of((uintptr_t)names_first), first); /* maps it again */
    want(second);
    ap_names_settle(names);
    assert_string_equal(function_at(exe, second), "names_second");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_of_places),
        TEST(variables),
        TEST(without_asking),
        TEST(many_at_once),
        TEST(a_slow_worker),
        TEST(timed_out),
        TEST(killed_in_the_middle),
        TEST(hostile_reply),
        TEST(most_text),
        TEST(most_places),
        TEST(idle_places_are_forgotten),
        TEST(after_the_release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
