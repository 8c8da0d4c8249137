/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/collect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APP 0x10000001u /* a number that no process has; 0x1000..0x3000 is "/app" from 0x500 on */
#define ANY 0x10000002u /* gone */

struct record {
    struct ap_cpu_record head;
    uint64_t addrs[AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX];
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
    collect = ap_collect_new(processes);
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
    size_t len = sizeof(record->head) + (record->head.kernel_cnt + (size_t)record->head.user_cnt) * sizeof(uint64_t);

    assert_int_equal(ap_record_check(record, len), 0);
    ap_collect_sample(collect, &record->head);
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
    assert_int_equal(collect->profile->series_cnt, 3);
    assert_int_equal(collect->samples, 6);
}

static void series_of_a_sample(void **state)
{
    struct record record = make(APP, "fifteen bytes!!");
    const struct ap_profile *profile = collect->profile;
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
    assert_int_equal(collect->profile->series[0].exe, 0);
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

/* A copy of exactly `len` bytes, so that the sanitizer sees what is read past it. */
static int check(const struct record *record, size_t len)
{
    char *copy = malloc(len ? len : 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy, record, len);
    rc = ap_record_check(copy, len);
    free(copy);
    return rc;
}

static void records_are_checked(void **state)
{
    const size_t whole = AP_CPU_RECORD_HEAD_SZ + 5 * sizeof(uint64_t);
    const struct record good = {
        .head = {.version = AP_RECORD_VERSION, .type = AP_RECORD_CPU, .kernel_cnt = 2, .user_cnt = 3}};
    struct record bad = good;
    size_t len;

    (void)state;
    assert_int_equal(check(&good, whole), 0);
    assert_int_equal(check(&good, whole + 7), 0);
    for (len = 0; len < whole; len++)
        assert_int_equal(check(&good, len), -EINVAL);
    bad.head.version++;
    assert_int_equal(check(&bad, whole), -EINVAL);
    bad = good;
    bad.head.type = 0;
    assert_int_equal(check(&bad, whole), -EINVAL);
    bad = good;
    bad.head.type = AP_RECORD_CPU + 1000;
    assert_int_equal(check(&bad, whole), -EINVAL);
    bad = good;
    bad.head.kernel_cnt = AP_KERNEL_FRAMES_MAX + 1;
    assert_int_equal(check(&bad, sizeof(bad)), -EINVAL);
    bad.head.kernel_cnt = UINT16_MAX;
    bad.head.user_cnt = UINT16_MAX;
    assert_int_equal(check(&bad, sizeof(bad)), -EINVAL);
    bad = good;
    bad.head.user_cnt = AP_USER_FRAMES_MAX + 1;
    assert_int_equal(check(&bad, sizeof(bad)), -EINVAL);
    bad = good;
    memset(bad.head.comm, 'c', sizeof(bad.head.comm));
    assert_int_equal(check(&bad, whole), -EINVAL);
    bad.head.comm[AP_COMM_SZ - 1] = '\0';
    assert_int_equal(check(&bad, whole), 0);
    bad.head.kernel_cnt = AP_KERNEL_FRAMES_MAX;
    bad.head.user_cnt = AP_USER_FRAMES_MAX;
    assert_int_equal(check(&bad, sizeof(bad)), 0);
    assert_int_equal(check(&bad, sizeof(bad) - 1), -EINVAL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        cmocka_unit_test(records_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
