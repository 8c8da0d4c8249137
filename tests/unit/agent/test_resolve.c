/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/resolve.h"

#include "agent/programs.h"
#include "model/syscalls.h"
#include "symbol/kallsyms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GONE     0x10000001u /* a number that no process has */
#define NOINLINE __attribute__((noinline))
#define TEXT_SZ  65536

/* Functions to be found. */
NOINLINE int resolve_first(int x);
NOINLINE int resolve_second(int x);
NOINLINE uintptr_t resolve_caller(void);
NOINLINE uintptr_t resolve_outside(void);

int resolve_first(int x)
{
    return x * 3 + 1;
}

int resolve_second(int x)
{
    return x ^ 0x55;
}

uintptr_t resolve_caller(void)
{
    return (uintptr_t)__builtin_return_address(0);
}

static inline __attribute__((always_inline)) uintptr_t resolve_inside(void)
{
    volatile uintptr_t addr = resolve_caller();

    return addr;
}

static inline __attribute__((always_inline)) uintptr_t resolve_between(void)
{
    volatile uintptr_t addr = resolve_inside();

    return addr;
}

uintptr_t resolve_outside(void)
{
    volatile uintptr_t addr = resolve_between();

    return addr;
}

/* Addresses as stacks have them: the leaf's own, and one that a call returns to. */
#define AT(function)      ((uintptr_t)(function))
#define BACK_TO(function) ((uintptr_t)(function) + 1)

struct record {
    struct ap_record head;
    uint64_t addrs[AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX];
};

static struct ap_symbolizer *symbolizer;
static struct ap_modules *modules;
static struct ap_names *table;
static struct ap_processes *processes;
static struct ap_collect *collect;
static struct ap_capture *capture;
static struct ap_account account;

static int start_symbolizer(void **state)
{
    struct ap_error err;

    (void)state;
    symbolizer = ap_symbolizer_new(&err);
    return symbolizer ? 0 : -1;
}

static int end_symbolizer(void **state)
{
    (void)state;
    symbolizer = ap_symbolizer_free(symbolizer);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    modules = ap_modules_new();
    table = ap_names_new(modules, symbolizer);
    processes = ap_processes_new(modules);
    collect = ap_collect_new(processes, AP_KIND_OFFCPU);
    capture = ap_capture_new();
    memset(&account, 0, sizeof(account));
    return modules && table && processes && collect && capture ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ap_capture_free(capture);
    ap_collect_free(collect);
    ap_processes_free(processes);
    ap_names_free(table);
    ap_modules_free(modules);
    return 0;
}

static struct record make(uint16_t type, const char *comm)
{
    const uint32_t pid = (uint32_t)getpid();
    struct record record = {
        .head = {.version = AP_RECORD_VERSION, .type = type, .pid = pid, .tid = pid, .ns_pid = pid}};

    (void)snprintf(record.head.comm, sizeof(record.head.comm), "%s", comm);
    return record;
}

static void add_kernel(struct record *record, uint64_t addr)
{
    assert_int_equal(record->head.user_cnt, 0);
    record->addrs[record->head.kernel_cnt++] = addr;
}

static void add_user(struct record *record, uint64_t addr)
{
    record->addrs[record->head.kernel_cnt + record->head.user_cnt++] = addr;
}

static struct ap_trace *take_wait(const struct record *wait, const struct record *waker, uint64_t mark)
{
    assert_int_equal(ap_record_check(wait, ap_record_size(&wait->head)), 0);
    ap_collect_begin(collect, &wait->head);
    if (waker)
        ap_collect_waker(collect, &waker->head);
    ap_collect_frames(collect);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, mark);
    return ap_collect_end(collect, 1, 100);
}

static const struct ap_span span = {.final = true};

static void resolve(void)
{
    assert_int_equal(ap_resolve(collect, modules, table, &span, capture, &account), 0);
}

static const struct ap_frame *frame_of(uint32_t stack, uint32_t i)
{
    const struct ap_profile *profile = collect->profile;

    assert_true(stack < profile->stack_cnt && i < profile->stacks[stack].frame_cnt);
    return &profile->frames[profile->stack_frames[profile->stacks[stack].first + i]];
}

/* "leaf;caller;...", what belongs to a waker as "~name", inlined functions as "name()". */
static const char *text_of(uint32_t stack)
{
    const struct ap_profile *profile = collect->profile;
    static char text[TEXT_SZ];
    size_t at = 0;
    uint32_t i;

    text[0] = '\0';
    assert_true(stack < profile->stack_cnt);
    for (i = 0; i < profile->stacks[stack].frame_cnt; i++) {
        const struct ap_frame *frame = frame_of(stack, i);

        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s%s%s", i ? ";" : "", frame->waker ? "~" : "",
                               ap_profile_str(profile, frame->function), frame->inlined ? "()" : "");
        assert_true(at < sizeof(text));
    }
    return text;
}

static void expect_stack(const struct ap_trace *trace, const char *wanted)
{
    assert_non_null(trace);
    assert_string_equal(text_of(trace->stack), wanted);
}

static void names_and_samples(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app");
    const struct ap_profile *profile = collect->profile;
    const struct ap_frame *frame;
    struct ap_trace *trace;

    (void)state;
    add_user(&record, AT(resolve_first));
    add_user(&record, BACK_TO(resolve_second));
    trace = ap_collect_sample(collect, &record.head, 3, 300);
    resolve();
    expect_stack(trace, "resolve_first;resolve_second");
    frame = frame_of(trace->stack, 0);
    assert_int_equal(frame->kind, AP_FRAME_NATIVE);
    assert_non_null(strstr(ap_profile_str(profile, frame->file), "test_resolve.c"));
    assert_true(frame->line > 0);
    assert_non_null(strstr(ap_profile_str(profile, profile->mappings[frame->mapping].path), "test_resolve"));
    assert_int_equal(profile->sample_cnt, 1);
    assert_int_equal(profile->samples[0].count, 3);
    assert_int_equal(profile->samples[0].value, 300);
    assert_int_equal(profile->samples[0].stack, trace->stack);
    assert_int_equal(profile->samples[0].series, trace->profile_series);
    assert_int_equal(account.delivered, 3);
    assert_int_equal(capture->frames_total, 6);
    assert_int_equal(capture->frames_unresolved, 0);
    assert_false(profile->stacks[trace->stack].truncated);
}

static void inlined_functions(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app");
    struct ap_trace *trace;

    (void)state;
    add_user(&record, AT(resolve_first));
    add_user(&record, resolve_outside());
    trace = ap_collect_sample(collect, &record.head, 1, 1);
    resolve();
    expect_stack(trace, "resolve_first;resolve_inside();resolve_between();resolve_outside");
}

static void marks(void **state)
{
    static const char *const names[AP_MARK_CNT] = {
        [AP_MARK_INTERRUPTIBLE] = "[interruptible]", [AP_MARK_UNINTERRUPTIBLE] = "[uninterruptible]",
        [AP_MARK_PREEMPTED] = "[preempted]",         [AP_MARK_BEFORE] = "[blocked before the recording]",
        [AP_MARK_WOKEN_BY] = "[woken by]",
    };
    struct record record = make(AP_RECORD_OFFCPU, "app");
    struct ap_trace *traces[AP_MARK_CNT];
    char wanted[64];
    uint32_t i;

    (void)state;
    add_user(&record, AT(resolve_first));
    for (i = 0; i < AP_MARK_CNT; i++)
        traces[i] = take_wait(&record, NULL, i);
    resolve();
    for (i = 0; i < AP_MARK_CNT; i++) {
        (void)snprintf(wanted, sizeof(wanted), "resolve_first;%s", names[i]);
        expect_stack(traces[i], wanted);
        assert_int_equal(frame_of(traces[i]->stack, 1)->kind, AP_FRAME_MARK);
    }
    assert_int_equal(collect->profile->sample_cnt, AP_MARK_CNT);
    assert_int_equal(capture->frames_total, AP_MARK_CNT); /* marks are no code that could have a name */
    assert_int_equal(AP_MARK_INTERRUPTIBLE, AP_STATE_INTERRUPTIBLE);
    assert_int_equal(AP_MARK_UNINTERRUPTIBLE, AP_STATE_UNINTERRUPTIBLE);
    assert_int_equal(AP_MARK_PREEMPTED, AP_STATE_PREEMPTED);
}

static struct ap_trace *take_call(uint64_t abi, uint32_t number)
{
    struct record record = make(AP_RECORD_SYSCALL, "app");

    add_user(&record, AT(resolve_first));
    ap_collect_begin(collect, &record.head);
    ap_collect_pseudo(collect, AP_PSEUDO_SYSCALL, abi << 32 | number);
    ap_collect_frames(collect);
    return ap_collect_end(collect, 1, 1);
}

static void system_calls(void **state)
{
    struct ap_trace *native = take_call(AP_SYSCALL_NATIVE, SYS_openat), *odd = take_call(AP_SYSCALL_NATIVE, 99999);
    struct ap_trace *compat = take_call(AP_SYSCALL_COMPAT, SYS_openat);
    struct ap_trace *other = take_call(AP_SYSCALL_NATIVE, AP_SYSCALL_NUMBER_OTHER);
    const struct ap_profile *profile = collect->profile;
    char name[AP_SYSCALL_NAME_SZ], wanted[128];
    const struct ap_frame *frame;

    (void)state;
    resolve();
    expect_stack(native, "openat;resolve_first");
    expect_stack(odd, "syscall_99999;resolve_first");
    expect_stack(other, "(other);resolve_first");
    (void)snprintf(wanted, sizeof(wanted), "%s;resolve_first", ap_syscall_name(AP_SYSCALL_COMPAT, SYS_openat, name));
    expect_stack(compat, wanted);
    assert_int_not_equal(native->stack, compat->stack);
    frame = frame_of(native->stack, 0);
    assert_int_equal(frame->kind, AP_FRAME_KERNEL);
    assert_string_equal(ap_profile_str(profile, profile->mappings[frame->mapping].path), "[kernel]");
    assert_int_equal(capture->frames_unresolved, 0);
}

/* Kept from the outside in, inlined functions too. */
static void wakers(void **state)
{
    struct record wait = make(AP_RECORD_OFFCPU, "waiter"), waker = make(AP_RECORD_WAKER, "waker");
    struct ap_trace *trace, *alone;

    (void)state;
    add_user(&wait, AT(resolve_first));
    add_user(&wait, resolve_outside());
    add_user(&waker, AT(resolve_second));
    add_user(&waker, resolve_outside());
    add_user(&waker, BACK_TO(resolve_first));
    trace = take_wait(&wait, &waker, AP_MARK_INTERRUPTIBLE);
    alone = take_wait(&wait, NULL, AP_MARK_INTERRUPTIBLE);
    resolve();
    expect_stack(trace, "~waker;~resolve_first;~resolve_outside;~resolve_between();~resolve_inside();~resolve_second;"
                        "~[woken by];"
                        "resolve_first;resolve_inside();resolve_between();resolve_outside;[interruptible]");
    expect_stack(alone, "resolve_first;resolve_inside();resolve_between();resolve_outside;[interruptible]");
    assert_int_equal(frame_of(trace->stack, 0)->kind, AP_FRAME_PROCESS);
    assert_int_equal(frame_of(trace->stack, 6)->kind, AP_FRAME_MARK);
    assert_int_equal(collect->profile->series_cnt, 1);
    assert_int_equal(collect->profile->sample_cnt, 2);
}

/* Addresses in kernel functions; false when they are hidden, or some are not there. */
static bool find_kernel(const char *const *names, size_t cnt, uint64_t *ret_addrs)
{
    struct ap_kallsyms *kallsyms;
    uint64_t end_addr;
    size_t i;

    if (ap_kallsyms_new(NULL, &kallsyms))
        return false;
    for (i = 0; i < cnt && ap_kallsyms_function(kallsyms, names[i], &ret_addrs[i], &end_addr); i++)
        ret_addrs[i] += 4;
    ap_kallsyms_free(kallsyms);
    return i == cnt;
}

/* An interrupt ended the wait: whatever it interrupted has no part in that. */
static void interrupts(void **state)
{
    static const char *const names[] = {"try_to_wake_up", "asm_sysvec_apic_timer_interrupt", "schedule", "vfs_read"};
    struct record wait = make(AP_RECORD_OFFCPU, "waiter"), waker = make(AP_RECORD_WAKER, "one");
    struct record own = make(AP_RECORD_WAKER, "one");
    struct ap_trace *first, *second, *by_itself;
    uint64_t addrs[4];

    (void)state;
    if (!find_kernel(names, 4, addrs)) {
        print_message("this kernel does not tell where its functions are\n");
        skip();
    }
    add_kernel(&wait, addrs[2]);
    add_user(&wait, AT(resolve_first));
    add_kernel(&waker, addrs[0]);
    add_kernel(&waker, addrs[1]);
    add_kernel(&waker, addrs[2]);
    add_user(&waker, AT(resolve_second));
    first = take_wait(&wait, &waker, AP_MARK_INTERRUPTIBLE);
    (void)snprintf(waker.head.comm, sizeof(waker.head.comm), "another");
    waker.addrs[3] = AT(resolve_first);
    second = take_wait(&wait, &waker, AP_MARK_INTERRUPTIBLE);
    add_kernel(&own, addrs[0]);
    add_kernel(&own, addrs[3]);
    add_user(&own, AT(resolve_second));
    by_itself = take_wait(&wait, &own, AP_MARK_INTERRUPTIBLE);
    assert_ptr_not_equal(first, second);
    resolve();
    expect_stack(first, "~[interrupt];~asm_sysvec_apic_timer_interrupt;~try_to_wake_up;~[woken by];"
                        "schedule;resolve_first;[interruptible]");
    assert_int_equal(first->stack, second->stack); /* whoever was interrupted */
    expect_stack(by_itself, "~one;~resolve_second;~vfs_read;~try_to_wake_up;~[woken by];"
                            "schedule;resolve_first;[interruptible]");
    assert_int_equal(frame_of(first->stack, 0)->kind, AP_FRAME_PROCESS);
    assert_int_equal(frame_of(first->stack, 1)->kind, AP_FRAME_KERNEL);
    assert_int_equal(collect->profile->sample_cnt, 2);
    assert_int_equal(collect->profile->samples[0].count, 2);
    assert_int_equal(collect->profile->samples[0].value, 200);
    assert_int_equal(account.delivered, 3);
}

/* Only a waker's stack is cut: a wait inside of an interrupt's way out is the thread's own (preemption). */
static void preempted_in_an_interrupt(void **state)
{
    static const char *const names[] = {"schedule", "asm_sysvec_apic_timer_interrupt"};
    struct record wait = make(AP_RECORD_OFFCPU, "waiter");
    struct ap_trace *trace;
    uint64_t addrs[2];

    (void)state;
    if (!find_kernel(names, 2, addrs)) {
        print_message("this kernel does not tell where its functions are\n");
        skip();
    }
    add_kernel(&wait, addrs[0]);
    add_kernel(&wait, addrs[1]);
    add_user(&wait, AT(resolve_first));
    trace = take_wait(&wait, NULL, AP_MARK_PREEMPTED);
    resolve();
    expect_stack(trace, "schedule;asm_sysvec_apic_timer_interrupt;resolve_first;[preempted]");
}

static void without_names(void **state)
{
    struct record astray = make(AP_RECORD_CPU, "app"), gone = make(AP_RECORD_CPU, "gone");
    struct record none = make(AP_RECORD_CPU, "none");
    struct ap_trace *traces[3];

    (void)state;
    add_user(&astray, AT(resolve_first));
    add_user(&astray, 0x10);
    gone.head.pid = gone.head.ns_pid = GONE;
    add_user(&gone, 0x1234);
    traces[0] = ap_collect_sample(collect, &astray.head, 1, 1);
    traces[1] = ap_collect_sample(collect, &gone.head, 2, 2);
    traces[2] = ap_collect_sample(collect, &none.head, 3, 3);
    resolve();
    expect_stack(traces[0], "resolve_first;[unmapped]");
    expect_stack(traces[1], "[process gone]+0x1234");
    expect_stack(traces[2], "[no stack]");
    assert_true(collect->profile->stacks[traces[0]->stack].truncated);
    assert_int_equal(frame_of(traces[1]->stack, 0)->kind, AP_FRAME_UNKNOWN);
    assert_int_equal(frame_of(traces[2]->stack, 0)->kind, AP_FRAME_MARK);
    assert_int_equal(account.delivered, 6);
    assert_int_equal(capture->frames_total, 2 + 2 + 3);
    assert_int_equal(capture->frames_unresolved, 1 + 2);
    assert_int_equal(capture->unresolved_cnt, 2);
}

/* The owner adds the samples; traces without an event have none in any case. */
static void stacks_only(void **state)
{
    struct record record = make(AP_RECORD_LOCK, "app");
    struct ap_trace *known, *credited, *unwanted;

    (void)state;
    add_user(&record, AT(resolve_first));
    known = ap_collect_sample(collect, &record.head, 0, 0);
    add_user(&record, BACK_TO(resolve_second));
    credited = ap_collect_sample(collect, &record.head, 0, 0);
    ap_collect_credit(collect, credited, 5, 50);
    add_user(&record, BACK_TO(resolve_second));
    unwanted = ap_collect_sample(collect, &record.head, 0, 0);
    collect->stacks_only = known->wanted = credited->wanted = true;
    resolve();
    assert_int_equal(unwanted->stack, UINT32_MAX);
    expect_stack(known, "resolve_first");
    expect_stack(credited, "resolve_first;resolve_second");
    assert_int_equal(collect->profile->sample_cnt, 0);
    assert_int_equal(account.delivered, 5);
    assert_int_equal(capture->frames_total, 10);
}

static void known_traces_without_events(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app");
    struct ap_trace *trace;

    (void)state;
    add_user(&record, AT(resolve_first));
    trace = ap_collect_sample(collect, &record.head, 0, 0);
    resolve();
    assert_int_equal(trace->stack, UINT32_MAX);
    assert_int_equal(collect->profile->stack_cnt, 0);
    assert_int_equal(collect->profile->sample_cnt, 0);
}

/* Resolves a span that goes on, and begins the next one; its profile. */
static struct ap_profile *resolve_span(uint64_t start_ns)
{
    const struct ap_span part = {.start_ns = start_ns};
    struct ap_profile *profile = collect->profile;

    memset(&account, 0, sizeof(account));
    assert_int_equal(ap_resolve(collect, modules, table, &part, capture, &account), 0);
    collect->profile = NULL;
    ap_collect_next(collect, ap_profile_new(profile->kind));
    assert_non_null(collect->profile);
    return profile;
}

static void wait_for_names(void)
{
    ap_resolve_want(collect, table);
    ap_names_settle(table);
}

static void spans_begin_at_zero(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app");
    struct ap_trace *trace;
    struct ap_profile *profile;

    (void)state;
    collect->slot_ns = 1000;
    record.head.time_ns = 10500;
    add_user(&record, AT(resolve_first));
    trace = ap_collect_sample(collect, &record.head, 1, 10);
    record.head.time_ns = 10900;
    ap_collect_sample(collect, &record.head, 2, 20);
    record.head.time_ns = 13000;
    ap_collect_sample(collect, &record.head, 4, 40);
    wait_for_names();
    profile = resolve_span(10000);
    assert_int_equal(account.delivered, 7);
    assert_int_equal(profile->sample_cnt, 2);
    assert_int_equal(profile->samples[0].slot, 0);
    assert_int_equal(profile->samples[0].count, 3);
    assert_int_equal(profile->samples[0].value, 30);
    assert_int_equal(profile->samples[1].slot, 3);
    assert_int_equal(profile->samples[1].count, 4);
    assert_string_equal(ap_profile_str(profile, profile->series[profile->samples[0].series].comm), "app");
    ap_profile_free(profile);

    profile = resolve_span(15000);
    assert_int_equal(profile->sample_cnt + profile->stack_cnt + profile->series_cnt, 0);
    ap_profile_free(profile);

    record.head.time_ns = 17000;
    assert_ptr_equal(ap_collect_sample(collect, &record.head, 1, 10), trace);
    profile = resolve_span(16000);
    assert_int_equal(profile->sample_cnt, 1);
    assert_int_equal(profile->samples[0].count, 1);
    assert_int_equal(profile->samples[0].slot, 1);
    ap_profile_free(profile);
}

/* A name that has not come holds the trace back, not the others; what it had comes with the next span. */
static void traces_wait_for_names(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app"), other = make(AP_RECORD_CPU, "app");
    struct ap_profile *profile;

    (void)state;
    collect->slot_ns = 1000;
    record.head.time_ns = other.head.time_ns = 5000;
    add_user(&record, AT(resolve_first));
    ap_collect_sample(collect, &record.head, 1, 10);
    wait_for_names();
    add_user(&other, AT(resolve_second));
    ap_collect_sample(collect, &other.head, 2, 20);
    profile = resolve_span(0);
    assert_int_equal(account.delivered, 1);
    assert_int_equal(collect->held, 2);
    assert_int_equal(profile->sample_cnt, 1);
    ap_profile_free(profile);

    other.head.time_ns = 12000;
    ap_collect_sample(collect, &other.head, 4, 40);
    wait_for_names();
    profile = resolve_span(10000);
    assert_int_equal(account.delivered, 6);
    assert_int_equal(collect->held, 0);
    assert_int_equal(profile->sample_cnt, 2);
    assert_int_equal(profile->samples[0].count, 2); /* of before: at the beginning */
    assert_int_equal(profile->samples[0].slot, 0);
    assert_int_equal(profile->samples[1].count, 4);
    assert_int_equal(profile->samples[1].slot, 2);
    assert_string_equal(
        ap_profile_str(profile, profile->frames[profile->stack_frames[profile->stacks[0].first]].function),
        "resolve_second");
    ap_profile_free(profile);
}

/* With many traces those that stay idle are forgotten, with their series; the others go on. */
static void idle_traces_are_forgotten(void **state)
{
    struct record record = make(AP_RECORD_CPU, "busy");
    struct ap_profile *profile;
    struct ap_trace *trace;
    uint32_t i;

    (void)state;
    add_user(&record, AT(resolve_first));
    for (i = 0; i < AP_COLLECT_KEEP + 10; i++) {
        snprintf(record.head.comm, sizeof(record.head.comm), "task-%u", i);
        ap_collect_sample(collect, &record.head, 1, 1);
    }
    wait_for_names();
    ap_profile_free(resolve_span(0)); /* all of them had something just now */
    assert_int_equal(collect->trace_cnt, AP_COLLECT_KEEP + 10);
    snprintf(record.head.comm, sizeof(record.head.comm), "task-7");
    ap_collect_sample(collect, &record.head, 3, 3);
    ap_profile_free(resolve_span(0));
    assert_int_equal(collect->trace_cnt, 1);
    assert_int_equal(collect->registry->series_cnt, 1);
    trace = ap_collect_sample(collect, &record.head, 2, 2);
    assert_ptr_equal(trace, collect->traces[0]);
    wait_for_names();
    profile = resolve_span(0);
    assert_int_equal(profile->sample_cnt, 1);
    assert_int_equal(profile->samples[0].count, 2);
    assert_string_equal(ap_profile_str(profile, profile->series[0].comm), "task-7");
    ap_profile_free(profile);
}

static void longest_stacks(void **state)
{
    struct record record = make(AP_RECORD_CPU, "app");
    const struct ap_stack *stack;
    struct ap_trace *trace;
    uint32_t i;

    (void)state;
    for (i = 0; i < AP_USER_FRAMES_MAX; i++)
        add_user(&record, i ? resolve_outside() : AT(resolve_first)); /* three functions each */
    trace = ap_collect_sample(collect, &record.head, 1, 1);
    resolve();
    stack = &collect->profile->stacks[trace->stack];
    assert_int_equal(stack->frame_cnt, AP_STACK_FRAMES_MAX);
    assert_true(stack->truncated);
    assert_string_equal(ap_profile_str(collect->profile, frame_of(trace->stack, 0)->function), "resolve_first");
}

/* Where both do not fit, the wait keeps its stack and the waker what is nearest to the mark. */
static void long_wakers(void **state)
{
    struct record wait = make(AP_RECORD_OFFCPU, "waiter"), waker = make(AP_RECORD_WAKER, "waker");
    const struct ap_stack *stack;
    struct ap_trace *trace;
    const char *text;
    uint32_t i;

    (void)state;
    add_user(&wait, AT(resolve_first));
    add_user(&wait, BACK_TO(resolve_first));
    for (i = 0; i < AP_USER_FRAMES_MAX; i++)
        add_user(&waker, i ? resolve_outside() : AT(resolve_second));
    trace = take_wait(&wait, &waker, AP_MARK_INTERRUPTIBLE);
    resolve();
    stack = &collect->profile->stacks[trace->stack];
    assert_in_range(stack->frame_cnt, AP_STACK_FRAMES_MAX - 2, AP_STACK_FRAMES_MAX);
    assert_false(stack->truncated); /* the wait's is not */
    text = text_of(trace->stack);
    assert_memory_equal(text, "~waker;~resolve_outside;",
                        strlen("~waker;~resolve_outside;")); /* no inlined one alone */
    text += strlen(text) - strlen(";~resolve_second;~[woken by];resolve_first;resolve_first;[interruptible]");
    assert_string_equal(text, ";~resolve_second;~[woken by];resolve_first;resolve_first;[interruptible]");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_and_samples),
        TEST(inlined_functions),
        TEST(marks),
        TEST(system_calls),
        TEST(wakers),
        TEST(interrupts),
        TEST(preempted_in_an_interrupt),
        TEST(without_names),
        TEST(stacks_only),
        TEST(known_traces_without_events),
        TEST(spans_begin_at_zero),
        TEST(traces_wait_for_names),
        TEST(idle_traces_are_forgotten),
        TEST(longest_stacks),
        TEST(long_wakers),
    };

    return cmocka_run_group_tests(tests, start_symbolizer, end_symbolizer);
}
