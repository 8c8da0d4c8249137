/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/collect.h"

#include "agent/leaf.h"
#include "agent/programs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APP 0x10000001u /* a number that no process has; 0x1000..0x3000 is "/app" from 0x500 on */
#define ANY 0x10000002u /* gone */

struct record {
    struct ap_record head;
    uint64_t addrs[AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX];
};

static struct ap_modules *modules;
static struct ap_processes *processes;
static struct ap_collect *collect;

static int begin(void **state)
{
    const struct ap_process_event exec = {.type = AP_PROCESS_EXEC, .pid = APP};
    const struct ap_process_event map = {.type = AP_PROCESS_MMAP,
                                         .pid = APP,
                                         .start = 0x1000,
                                         .end = 0x3000,
                                         .file_off = 0x500,
                                         .dev_major = 0xfff,
                                         .inode = 1,
                                         .path = "/app"};

    (void)state;
    modules = ap_modules_new();
    processes = ap_processes_new(modules);
    collect = ap_collect_new(processes, AP_KIND_CPU);
    if (!modules || !processes || !collect)
        return -1;
    ap_processes_event(processes, &exec);
    ap_processes_event(processes, &map);
    return 0;
}

static int end(void **state)
{
    (void)state;
    collect = ap_collect_free(collect);
    processes = ap_processes_free(processes);
    modules = ap_modules_free(modules);
    return 0;
}

static struct record make(uint32_t pid, const char *comm)
{
    struct record record = {
        .head = {.version = AP_RECORD_VERSION, .type = AP_RECORD_CPU, .pid = pid, .tid = pid, .ns_pid = pid}};

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

static void take(const struct record *record)
{
    assert_int_equal(ap_record_check(record, ap_record_size(&record->head)), 0);
    ap_collect_sample(collect, &record->head, 1, 10);
}

static void expect_location(const struct ap_trace *trace, uint32_t i, uint32_t module, uint64_t offset)
{
    const struct ap_location *location;

    assert_true(i < trace->cnt);
    location = collect->locations[trace->locations[i]];
    assert_int_equal(location->id, trace->locations[i]);
    assert_int_equal(location->module, module);
    assert_int_equal(location->offset, offset);
}

static uint32_t app_module(void)
{
    struct ap_process *process = ap_processes_sampled(processes, APP, 0);
    uint64_t offset;

    return ap_process_locate(processes, process, 0x1000, &offset);
}

static void equal_stacks_merge(void **state)
{
    struct record a = make(APP, "app"), b = make(APP, "app");

    (void)state;
    add_user(&a, 0x1100);
    add_user(&a, 0x1200);
    add_user(&b, 0x1100);
    add_user(&b, 0x1201);
    take(&a);
    take(&b);
    take(&a);
    a.head.tid = 77; /* not told apart */
    a.head.cpu = 3;
    a.head.time_ns = 99;
    take(&a);
    assert_int_equal(collect->samples, 4);
    assert_int_equal(collect->trace_cnt, 2);
    assert_int_equal(collect->traces[0]->count, 3);
    assert_int_equal(collect->traces[1]->count, 1);
    assert_int_equal(collect->location_cnt, 4); /* the one for no stack, 1100, 11ff+100, 1200 */
    assert_int_equal(collect->locations[collect->traces[0]->locations[0]]->samples, 4);
    assert_int_equal(collect->locations[collect->traces[0]->locations[1]]->samples, 3);
}

static void what_tells_traces_apart(void **state)
{
    struct record record = make(APP, "app");

    (void)state;
    add_user(&record, 0x1100);
    take(&record);
    (void)snprintf(record.head.comm, sizeof(record.head.comm), "worker");
    take(&record);
    record.head.flags = AP_RECORD_USER_TRUNCATED;
    take(&record);
    record.head.flags = AP_RECORD_KERNEL_TRUNCATED;
    take(&record);
    add_user(&record, 0x1200);
    take(&record);
    record.head.pid = ANY;
    take(&record);
    assert_int_equal(collect->trace_cnt, 6);
    assert_int_equal(collect->registry->series_cnt, 3);
    assert_int_equal(collect->samples, 6);
}

static void series_of_a_sample(void **state)
{
    struct record record = make(APP, "fifteen bytes!!");
    const struct ap_profile *profile = collect->registry;
    const struct ap_series *series;

    (void)state;
    add_user(&record, 0x1100);
    take(&record);
    series = &profile->series[collect->traces[0]->series];
    assert_int_equal(series->pid, APP);
    assert_string_equal(ap_profile_str(profile, series->comm), "fifteen bytes!!");
    assert_string_equal(ap_profile_str(profile, series->exe), "/app");
    assert_string_equal(ap_profile_str(profile, series->container), "");
}

/* A return address points behind the call: only the innermost frame of each half is where the code was. */
static void return_addresses(void **state)
{
    struct record record = make(APP, "app");
    const struct ap_trace *trace;
    uint32_t app = app_module();

    (void)state;
    add_kernel(&record, 0xffffffff81000010);
    add_kernel(&record, 0xffffffff81000020);
    add_kernel(&record, 0xffffffff81000030);
    add_user(&record, 0x1100);
    add_user(&record, 0x1200);
    add_user(&record, 0x3000); /* the call is the last instruction of the mapping */
    take(&record);
    trace = collect->traces[0];
    assert_int_equal(trace->cnt, 6);
    expect_location(trace, 0, AP_MODULE_ID_KERNEL, 0xffffffff81000010);
    expect_location(trace, 1, AP_MODULE_ID_KERNEL, 0xffffffff8100001f);
    expect_location(trace, 2, AP_MODULE_ID_KERNEL, 0xffffffff8100002f);
    expect_location(trace, 3, app, 0x1100 - 0x1000 + 0x500);
    expect_location(trace, 4, app, 0x11ff - 0x1000 + 0x500);
    expect_location(trace, 5, app, 0x2fff - 0x1000 + 0x500);
    assert_int_equal(trace->flags, 0);
}

static void recursion(void **state)
{
    struct record record = make(APP, "app");

    (void)state;
    add_user(&record, 0x11ff);
    add_user(&record, 0x1200);
    add_user(&record, 0x1200);
    take(&record);
    assert_int_equal(collect->traces[0]->cnt, 3);
    assert_int_equal(collect->locations[collect->traces[0]->locations[0]]->samples, 3);
}

static void no_stack(void **state)
{
    struct record record = make(APP, "app");

    (void)state;
    take(&record);
    take(&record);
    assert_int_equal(collect->trace_cnt, 1);
    assert_int_equal(collect->traces[0]->count, 2);
    assert_int_equal(collect->traces[0]->cnt, 1);
    assert_int_equal(collect->traces[0]->locations[0], AP_LOCATION_NO_STACK);
    assert_int_equal(collect->losses[AP_LOSS_NO_STACK], 2);
    assert_int_equal(collect->samples, 2); /* delivered all the same */
    assert_int_equal(collect->losses[AP_LOSS_TABLE_FULL], 0);
}

static void walks_astray_are_cut(void **state)
{
    struct record record = make(APP, "app");
    const struct ap_trace *trace;

    (void)state;
    add_user(&record, 0x1100);
    add_user(&record, 0xdead0000);
    add_user(&record, 0x1200);
    take(&record);
    trace = collect->traces[0];
    assert_int_equal(trace->cnt, 2);
    expect_location(trace, 1, AP_MODULE_ID_NO_MAPPING, 0); /* whatever the address was: noise */
    assert_int_equal(trace->flags, AP_RECORD_USER_TRUNCATED);
    record.addrs[1] = 0xbeef0000;
    take(&record);
    assert_int_equal(collect->trace_cnt, 1);
    assert_int_equal(trace->count, 2);
    /* where the code was is no noise, mapped or not */
    record.addrs[0] = 0xdead0000;
    record.addrs[1] = 0x1200;
    take(&record);
    trace = collect->traces[1];
    assert_int_equal(trace->cnt, 3);
    expect_location(trace, 0, AP_MODULE_ID_NO_MAPPING, 0xdead0000);
    assert_int_equal(trace->flags, 0);
}

static void processes_out_of_sight(void **state)
{
    struct record record = make(0, "other ns");

    (void)state;
    add_user(&record, 0x1100);
    add_user(&record, 0x1200);
    take(&record);
    expect_location(collect->traces[0], 0, AP_MODULE_ID_NAMESPACE, 0x1100);
    expect_location(collect->traces[0], 1, AP_MODULE_ID_NAMESPACE, 0x11ff);
    record.head.pid = ANY;
    take(&record);
    expect_location(collect->traces[1], 0, AP_MODULE_ID_PROCESS_GONE, 0x1100);
    expect_location(collect->traces[1], 1, AP_MODULE_ID_PROCESS_GONE, 0x11ff);
    assert_int_equal(collect->samples, 2);
}

static void kernel_threads(void **state)
{
    struct record record = make(ANY, "kworker/0:1");

    (void)state;
    record.head.flags = AP_RECORD_KERNEL_THREAD;
    add_kernel(&record, 0xffffffff81000010);
    take(&record);
    assert_int_equal(ap_processes_cnt(processes), 1); /* only the app: nothing is looked up for them */
    assert_int_equal(collect->traces[0]->cnt, 1);
    assert_int_equal(collect->traces[0]->flags, 0);
    assert_int_equal(collect->registry->series[0].exe, 0);
}

static void longest_stack(void **state)
{
    struct record record = make(APP, "app");
    uint32_t i;

    (void)state;
    for (i = 0; i < AP_KERNEL_FRAMES_MAX; i++)
        add_kernel(&record, 0xffffffff81000000 + i * 16);
    for (i = 0; i < AP_USER_FRAMES_MAX; i++)
        add_user(&record, 0x1001 + i * 4);
    take(&record);
    assert_int_equal(collect->traces[0]->cnt, AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX);
    expect_location(collect->traces[0], AP_KERNEL_FRAMES_MAX - 1, AP_MODULE_ID_KERNEL,
                    0xffffffff81000000 + (AP_KERNEL_FRAMES_MAX - 1) * 16 - 1);
    expect_location(collect->traces[0], AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX - 1, app_module(),
                    (AP_USER_FRAMES_MAX - 1) * 4 + 0x500);
}

static void most_locations(void **state)
{
    struct record record = make(0, "app");
    uint64_t addr = 16, samples;
    uint32_t i;

    (void)state;
    record.head.kernel_cnt = AP_KERNEL_FRAMES_MAX;
    while (!collect->losses[AP_LOSS_TABLE_FULL]) {
        for (i = 0; i < AP_KERNEL_FRAMES_MAX; i++, addr += 16)
            record.addrs[i] = addr;
        take(&record);
        assert_true(addr / 16 < AP_LOCATIONS_MAX + 2 * AP_KERNEL_FRAMES_MAX);
    }
    assert_int_equal(collect->location_cnt, AP_LOCATIONS_MAX);
    assert_int_equal(collect->samples, (AP_LOCATIONS_MAX - 1) / AP_KERNEL_FRAMES_MAX);
    samples = collect->samples;
    record.head.kernel_cnt = 1; /* what is known already still counts */
    record.addrs[0] = 16;
    take(&record);
    assert_int_equal(collect->samples, samples + 1);
    assert_int_equal(collect->losses[AP_LOSS_TABLE_FULL], 1);
}

/* Kinds and values ------------------------------------------------------------------------------------------------- */

static void counts_and_values(void **state)
{
    struct record record = make(APP, "app");
    struct ap_trace *trace;

    (void)state;
    add_user(&record, 0x1100);
    add_user(&record, 0x1200);
    trace = ap_collect_sample(collect, &record.head, 3, 70);
    assert_non_null(trace);
    assert_ptr_equal(trace, collect->traces[0]);
    assert_ptr_equal(ap_collect_sample(collect, &record.head, 0, 0), trace); /* known, but nothing happened */
    assert_ptr_equal(ap_collect_sample(collect, &record.head, 1, UINT32_MAX), trace);
    assert_int_equal(trace->count, 4);
    assert_int_equal(trace->value, 70 + (uint64_t)UINT32_MAX);
    assert_int_equal(trace->stack, UINT32_MAX);
    assert_int_equal(collect->samples, 4);
    assert_int_equal(collect->locations[trace->locations[1]]->samples, 4);

    ap_collect_credit(collect, trace, 6, 30);
    assert_int_equal(trace->count, 10);
    assert_int_equal(trace->value, 100 + (uint64_t)UINT32_MAX);
    assert_int_equal(collect->locations[trace->locations[0]]->samples, 10);
    assert_int_equal(collect->locations[trace->locations[1]]->samples, 10);
    assert_int_equal(collect->samples, 4); /* whoever credits has taken its events in elsewhere */
}

/* A trace that is only known so far has its stack counted when it is credited. */
static void made_first_credited_later(void **state)
{
    struct record record = make(APP, "app");
    struct ap_trace *trace;

    (void)state;
    add_user(&record, 0x1100);
    trace = ap_collect_sample(collect, &record.head, 0, 0);
    assert_non_null(trace);
    assert_int_equal(trace->count, 0);
    assert_int_equal(collect->samples, 0);
    ap_collect_credit(collect, trace, 2, 20);
    assert_int_equal(trace->count, 2);
    assert_int_equal(trace->value, 20);

    record = make(APP, "app"); /* without a stack: no loss either until something happens there */
    assert_non_null(ap_collect_sample(collect, &record.head, 0, 0));
    assert_int_equal(collect->losses[AP_LOSS_NO_STACK], 0);
}

static void pseudo_frames(void **state)
{
    struct record record = make(APP, "app");
    const struct ap_trace *trace;

    (void)state;
    add_user(&record, 0x1100);
    ap_collect_begin(collect, &record.head);
    ap_collect_pseudo(collect, AP_PSEUDO_SYSCALL, 1ULL << 32 | 7);
    ap_collect_frames(collect);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_BEFORE);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_PREEMPTED);
    trace = ap_collect_end(collect, 1, 5);
    assert_int_equal(trace->cnt, 4);
    expect_location(trace, 0, AP_PSEUDO_SYSCALL, 1ULL << 32 | 7);
    expect_location(trace, 1, app_module(), 0x600);
    expect_location(trace, 2, AP_PSEUDO_MARK, AP_MARK_BEFORE);
    expect_location(trace, 3, AP_PSEUDO_MARK, AP_MARK_PREEMPTED);

    /* marks alone are a stack */
    record = make(APP, "app");
    ap_collect_begin(collect, &record.head);
    ap_collect_frames(collect);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_PREEMPTED);
    trace = ap_collect_end(collect, 1, 5);
    assert_int_equal(trace->cnt, 1);
    assert_int_equal(collect->losses[AP_LOSS_NO_STACK], 0);

    /* nothing at all is not */
    ap_collect_begin(collect, &record.head);
    trace = ap_collect_end(collect, 2, 5);
    assert_int_equal(trace->locations[0], AP_LOCATION_NO_STACK);
    assert_int_equal(collect->losses[AP_LOSS_NO_STACK], 2);
}

/* Of a task that does not run even the leaf is an address that it will return to. */
static void kernel_leaf_of_a_wait(void **state)
{
    static const uint16_t types[] = {AP_RECORD_CPU,     AP_RECORD_OFFCPU, AP_RECORD_WAKER,
                                     AP_RECORD_SYSCALL, AP_RECORD_LOCK,   AP_RECORD_RELEASE};
    struct record record = make(APP, "app");
    size_t i;

    (void)state;
    add_kernel(&record, 0xffffffff81000010);
    add_kernel(&record, 0xffffffff81000020);
    add_user(&record, 0x1100);
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const struct ap_trace *trace;

        record.head.type = types[i];
        trace = ap_collect_sample(collect, &record.head, 1, 1);
        expect_location(trace, 0, AP_MODULE_ID_KERNEL, 0xffffffff81000010 - (types[i] == AP_RECORD_OFFCPU));
        expect_location(trace, 1, AP_MODULE_ID_KERNEL, 0xffffffff8100001f);
        expect_location(trace, 2, app_module(), 0x600); /* where it entered the kernel */
    }
    assert_int_equal(collect->trace_cnt, 2);
}

/* Wakers ----------------------------------------------------------------------------------------------------------- */

static struct record make_waker(void)
{
    struct record waker = make(APP, "waker");

    waker.head.type = AP_RECORD_WAKER;
    add_kernel(&waker, 0xffffffff81000110);
    add_kernel(&waker, 0xffffffff81000120);
    add_user(&waker, 0x2100);
    add_user(&waker, 0x2200);
    return waker;
}

static struct record make_wait(void)
{
    struct record wait = make(APP, "waiter");

    wait.head.type = AP_RECORD_OFFCPU;
    add_kernel(&wait, 0xffffffff81000010);
    add_user(&wait, 0x1100);
    add_user(&wait, 0x1200);
    return wait;
}

static struct ap_trace *take_wait(const struct record *wait, const struct record *waker)
{
    ap_collect_begin(collect, &wait->head);
    if (waker)
        ap_collect_waker(collect, &waker->head);
    ap_collect_frames(collect);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_INTERRUPTIBLE);
    return ap_collect_end(collect, 1, 100);
}

static void expect_side(const struct ap_trace *trace, uint32_t first, uint32_t end, bool waker)
{
    for (; first < end; first++)
        assert_int_equal(collect->locations[trace->locations[first]]->waker, waker);
}

static void wakers(void **state)
{
    struct record wait = make_wait(), waker = make_waker();
    const struct ap_trace *trace = take_wait(&wait, &waker);
    const struct ap_profile *profile = collect->registry;
    const struct ap_location *thread;
    uint32_t app = app_module();

    (void)state;
    assert_int_equal(trace->cnt, 1 + 4 + 1 + 3 + 1);
    thread = collect->locations[trace->locations[0]];
    assert_int_equal(thread->module, AP_PSEUDO_THREAD);
    assert_string_equal(ap_profile_str(profile, (uint32_t)thread->offset), "waker");
    expect_location(trace, 1, app, 0x21ff - 0x1000 + 0x500); /* from the outside in */
    expect_location(trace, 2, app, 0x2100 - 0x1000 + 0x500);
    expect_location(trace, 3, AP_MODULE_ID_KERNEL, 0xffffffff8100011f);
    expect_location(trace, 4, AP_MODULE_ID_KERNEL, 0xffffffff81000110);
    expect_location(trace, 5, AP_PSEUDO_MARK, AP_MARK_WOKEN_BY);
    expect_location(trace, 6, AP_MODULE_ID_KERNEL, 0xffffffff8100000f); /* from the inside out */
    expect_location(trace, 7, app, 0x1100 - 0x1000 + 0x500);
    expect_location(trace, 8, app, 0x11ff - 0x1000 + 0x500);
    expect_location(trace, 9, AP_PSEUDO_MARK, AP_MARK_INTERRUPTIBLE);
    expect_side(trace, 0, 6, true);
    expect_side(trace, 6, 10, false);
    assert_string_equal(ap_profile_str(profile, profile->series[trace->series].comm), "waiter");
    assert_int_equal(profile->series_cnt, 1); /* the waker has no row of its own */
}

static void wakers_tell_traces_apart(void **state)
{
    struct record wait = make_wait(), waker = make_waker(), other = make_waker();
    struct ap_trace *alone, *woken, *woken_by_other;

    (void)state;
    (void)snprintf(other.head.comm, sizeof(other.head.comm), "other");
    alone = take_wait(&wait, NULL);
    woken = take_wait(&wait, &waker);
    woken_by_other = take_wait(&wait, &other);
    assert_int_equal(collect->trace_cnt, 3);
    assert_ptr_equal(take_wait(&wait, NULL), alone);
    assert_ptr_equal(take_wait(&wait, &waker), woken);
    assert_ptr_equal(take_wait(&wait, &other), woken_by_other);
    assert_int_equal(woken->count, 2);
    assert_int_equal(woken->value, 200);
    assert_int_equal(alone->cnt, 4);
}

/* The same code on both sides is two locations: they are named in another order. */
static void same_code_on_both_sides(void **state)
{
    struct record wait = make_wait(), waker = make_wait();
    const struct ap_trace *trace;

    (void)state;
    waker.head.type = AP_RECORD_WAKER;
    trace = take_wait(&wait, &waker);
    assert_int_equal(trace->cnt, 1 + 3 + 1 + 3 + 1);
    expect_location(trace, 2, app_module(), 0x600);
    expect_location(trace, 6, app_module(), 0x600);
    assert_int_not_equal(trace->locations[2], trace->locations[6]);
}

static void truncation_is_the_wait_s(void **state)
{
    struct record wait = make_wait(), waker = make_waker();
    const struct ap_trace *trace;

    (void)state;
    waker.head.flags = AP_RECORD_USER_TRUNCATED | AP_RECORD_KERNEL_TRUNCATED;
    waker.addrs[3] = 0xdead0000; /* and its walk goes astray */
    trace = take_wait(&wait, &waker);
    assert_int_equal(trace->flags, 0);
    expect_location(trace, 1, AP_MODULE_ID_NO_MAPPING, 0);
    wait.head.flags = AP_RECORD_USER_TRUNCATED | AP_RECORD_IN_FLIGHT | AP_RECORD_BEFORE;
    trace = take_wait(&wait, &waker);
    assert_int_equal(trace->flags, AP_RECORD_USER_TRUNCATED); /* other flags tell no traces apart */
}

static void wakers_without_frames(void **state)
{
    struct record wait = make_wait(), waker = make(0, "swapper/0");
    const struct ap_trace *trace;

    (void)state;
    waker.head.type = AP_RECORD_WAKER;
    waker.head.flags = AP_RECORD_KERNEL_THREAD;
    trace = take_wait(&wait, &waker);
    assert_int_equal(trace->cnt, 1 + 1 + 4);
    expect_location(trace, 1, AP_PSEUDO_MARK, AP_MARK_WOKEN_BY);
}

/* Both halves of both stacks as long as they come. */
static void longest_trace(void **state)
{
    struct record wait = make(APP, "waiter"), waker;
    const uint32_t both = AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX;
    const struct ap_trace *trace;
    uint32_t i;

    (void)state;
    wait.head.type = AP_RECORD_OFFCPU;
    for (i = 0; i < AP_KERNEL_FRAMES_MAX; i++)
        add_kernel(&wait, 0xffffffff81000000 + i * 16);
    for (i = 0; i < AP_USER_FRAMES_MAX; i++)
        add_user(&wait, 0x1001 + i * 4);
    waker = wait;
    waker.head.type = AP_RECORD_WAKER;
    trace = take_wait(&wait, &waker);
    assert_non_null(trace);
    assert_int_equal(trace->cnt, 1 + both + 1 + both + 1);
    expect_location(trace, both, AP_MODULE_ID_KERNEL, 0xffffffff81000000);
    expect_location(trace, 1, app_module(), (AP_USER_FRAMES_MAX - 1) * 4 + 0x500);
    assert_int_equal(collect->losses[AP_LOSS_TABLE_FULL], 0);
}

/* No caller asks for that many, but none of them may write past the trace in work. */
static void too_long_traces_are_lost(void **state)
{
    struct record record = make(APP, "app");
    uint32_t i;

    (void)state;
    add_user(&record, 0x1100);
    ap_collect_begin(collect, &record.head);
    for (i = 0; i < 3 * (AP_KERNEL_FRAMES_MAX + AP_LEAF_FRAMES_MAX); i++)
        ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_BEFORE);
    assert_null(ap_collect_end(collect, 4, 1));
    assert_int_equal(collect->losses[AP_LOSS_TABLE_FULL], 4);
    assert_int_equal(collect->samples, 0);
    assert_int_equal(collect->trace_cnt, 0);
    take(&record); /* the next one is not */
    assert_int_equal(collect->trace_cnt, 1);
    assert_int_equal(collect->samples, 1);
}

/* Tracepoints ------------------------------------------------------------------------------------------------------ */

static void frames_of_a_tracepoint(void **state)
{
    struct record record = make(APP, "app");
    const struct ap_trace *trace;

    (void)state;
    ap_collect_skip(collect, 0xffffffff81000100, 0xffffffff81000200);
    add_kernel(&record, 0xffffffffc0000010); /* our program */
    add_kernel(&record, 0xffffffff81000050);
    add_kernel(&record, 0xffffffff81000150); /* the tracepoint's */
    add_kernel(&record, 0xffffffff81000300);
    add_kernel(&record, 0xffffffff81000260);
    add_user(&record, 0x1100);
    take(&record);
    trace = collect->traces[0];
    assert_int_equal(trace->cnt, 3);
    expect_location(trace, 0, AP_MODULE_ID_KERNEL, 0xffffffff810002ff); /* it calls the tracepoint */
    expect_location(trace, 1, AP_MODULE_ID_KERNEL, 0xffffffff8100025f);
    expect_location(trace, 2, app_module(), 0x600);

    record.addrs[2] = 0xffffffff81000200; /* the end does not belong to it */
    record.addrs[4] = 0xffffffff810000ff;
    take(&record);
    assert_int_equal(collect->traces[1]->cnt, 6);
    record.addrs[2] = 0xffffffff81000100;
    take(&record);
    assert_int_equal(collect->traces[2]->cnt, 3);
    record.addrs[3] = 0xffffffff81000180; /* several of its functions: the outermost counts */
    take(&record);
    assert_int_equal(collect->traces[3]->cnt, 2);
}

static void skips_are_looked_for_at_the_leaf_only(void **state)
{
    struct record record = make(APP, "app");
    uint32_t i;

    (void)state;
    ap_collect_skip(collect, 0xffffffff81000100, 0xffffffff81000200);
    for (i = 0; i < 40; i++)
        add_kernel(&record, 0xffffffff82000000 + i * 16);
    record.addrs[39] = 0xffffffff81000150;
    take(&record);
    assert_int_equal(collect->traces[0]->cnt, 40);
    record.head.kernel_cnt = 1; /* the tracepoint's frame is all there is */
    record.addrs[0] = 0xffffffff81000150;
    take(&record);
    assert_int_equal(collect->traces[1]->cnt, 1);
    assert_int_equal(collect->traces[1]->locations[0], AP_LOCATION_NO_STACK);
}

static void most_skips(void **state)
{
    struct record record = make(APP, "app");
    uint32_t i;

    (void)state;
    for (i = 0; i <= AP_COLLECT_SKIPS_MAX; i++)
        ap_collect_skip(collect, 0xffffffff81000000 + i * 0x1000ULL, 0xffffffff81001000 + i * 0x1000ULL);
    add_kernel(&record, 0);
    add_kernel(&record, 0xffffffff82000000);
    for (i = 0; i <= AP_COLLECT_SKIPS_MAX; i++) {
        record.addrs[0] = 0xffffffff81000800 + i * 0x1000ULL;
        assert_int_equal(ap_collect_sample(collect, &record.head, 1, 1)->cnt, i < AP_COLLECT_SKIPS_MAX ? 1 : 2);
    }
}

/* A waker's stack comes through a tracepoint too. */
static void skips_hold_for_wakers(void **state)
{
    struct record wait = make_wait(), waker = make_waker();
    const struct ap_trace *trace;

    (void)state;
    ap_collect_skip(collect, 0xffffffff81000100, 0xffffffff81000118);
    trace = take_wait(&wait, &waker);
    assert_int_equal(trace->cnt, 1 + 3 + 1 + 3 + 1);
    expect_location(trace, 3, AP_MODULE_ID_KERNEL, 0xffffffff8100011f);
    expect_location(trace, 4, AP_PSEUDO_MARK, AP_MARK_WOKEN_BY);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

static void add_up(void *ctx, const struct ap_location *location)
{
    uint64_t *sum = ctx;

    *sum += location->offset + (location->waker ? 1000000 : 0);
}

static uint64_t sum_of_module(uint32_t module)
{
    uint64_t sum = 0;

    ap_collect_each(collect, module, add_up, &sum);
    return sum;
}

static void locations_by_module(void **state)
{
    struct record a = make(APP, "app"), b = make(APP, "app");

    (void)state;
    assert_int_equal(sum_of_module(app_module()), 0);
    add_kernel(&a, 100);
    add_user(&a, 0x1010);
    add_user(&a, 0x1021);
    take(&a);
    add_user(&b, 0x1010);
    add_user(&b, 0x1031);
    take(&b);
    assert_int_equal(sum_of_module(app_module()), 0x510 + 0x520 + 0x530);
    assert_int_equal(sum_of_module(AP_MODULE_ID_KERNEL), 100);
    assert_int_equal(sum_of_module(AP_MODULE_ID_VDSO), 0);
    assert_int_equal(sum_of_module(AP_PSEUDO_NONE), 0);
    assert_int_equal(sum_of_module(100000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(locations_by_module),
        TEST(equal_stacks_merge),
        TEST(what_tells_traces_apart),
        TEST(series_of_a_sample),
        TEST(return_addresses),
        TEST(recursion),
        TEST(no_stack),
        TEST(walks_astray_are_cut),
        TEST(processes_out_of_sight),
        TEST(kernel_threads),
        TEST(longest_stack),
        TEST(most_locations),
        TEST(counts_and_values),
        TEST(made_first_credited_later),
        TEST(pseudo_frames),
        TEST(kernel_leaf_of_a_wait),
        TEST(wakers),
        TEST(wakers_tell_traces_apart),
        TEST(same_code_on_both_sides),
        TEST(truncation_is_the_wait_s),
        TEST(wakers_without_frames),
        TEST(longest_trace),
        TEST(too_long_traces_are_lost),
        TEST(frames_of_a_tracepoint),
        TEST(skips_are_looked_for_at_the_leaf_only),
        TEST(most_skips),
        TEST(skips_hold_for_wakers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
