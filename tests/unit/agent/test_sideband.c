/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/sideband.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TIME     0x1122334455667788ULL
#define MMAP2_SZ 64 /* body before the path */

/* A record as the kernel writes it. */
struct record {
    size_t len;
    char bytes[512];
};

static void put(struct record *record, const void *data, size_t len)
{
    assert_true(record->len + len <= sizeof(record->bytes));
    memcpy(record->bytes + record->len, data, len);
    record->len += len;
}

static void put32(struct record *record, uint32_t value)
{
    put(record, &value, sizeof(value));
}

static void put64(struct record *record, uint64_t value)
{
    put(record, &value, sizeof(value));
}

static void set_size(struct record *record)
{
    struct perf_event_header header;

    memcpy(&header, record->bytes, sizeof(header));
    header.size = (uint16_t)record->len;
    memcpy(record->bytes, &header, sizeof(header));
}

static void begin(struct record *record, uint32_t type, uint16_t misc)
{
    struct perf_event_header header = {.type = type, .misc = misc};

    memset(record, 0, sizeof(*record));
    put(record, &header, sizeof(header));
}

static void finish(struct record *record)
{
    put64(record, TIME);
    set_size(record);
}

static void make_task(struct record *record, uint32_t type, uint32_t pid, uint32_t ppid, uint32_t tid, uint32_t ptid)
{
    begin(record, type, 0);
    put32(record, pid);
    put32(record, ppid);
    put32(record, tid);
    put32(record, ptid);
    put64(record, TIME - 5);
    finish(record);
}

static void make_comm(struct record *record, uint16_t misc)
{
    begin(record, PERF_RECORD_COMM, misc);
    put32(record, 70);
    put32(record, 71);
    put(record, "worker\0", 8);
    finish(record);
}

static void make_mmap(struct record *record, uint64_t addr, uint64_t len, const char *path, size_t path_sz)
{
    begin(record, PERF_RECORD_MMAP2, PERF_RECORD_MISC_USER);
    put32(record, 80);
    put32(record, 81);
    put64(record, addr);
    put64(record, len);
    put64(record, 0x3000);
    put32(record, 8);
    put32(record, 17);
    put64(record, 4711);
    put64(record, 99);
    put32(record, 5);
    put32(record, 2);
    put(record, path, path_sz);
    finish(record);
}

/* Decodes a copy of exactly the record's size, so that the sanitizer sees what is read past it. */
static int decode(const struct record *record, struct ap_process_event *ret_event, char **ret_copy)
{
    char *copy = malloc(record->len ? record->len : 1);
    uint64_t lost = 0;
    int rc;

    assert_non_null(copy);
    memcpy(copy, record->bytes, record->len);
    rc = ap_sideband_decode(copy, record->len, ret_event, &lost);
    assert_int_equal(lost, 0);
    if (ret_copy)
        *ret_copy = copy;
    else
        free(copy);
    return rc;
}

static void forks(void **state)
{
    struct ap_process_event event;
    struct record record;

    (void)state;
    make_task(&record, PERF_RECORD_FORK, 501, 500, 501, 500);
    assert_int_equal(decode(&record, &event, NULL), 1);
    assert_int_equal(event.type, AP_PROCESS_FORK);
    assert_int_equal(event.pid, 501);
    assert_int_equal(event.ppid, 500);
    assert_int_equal(event.time_ns, TIME);
    /* by a second thread of the parent */
    make_task(&record, PERF_RECORD_FORK, 501, 500, 501, 507);
    assert_int_equal(decode(&record, &event, NULL), 1);
    assert_int_equal(event.ppid, 500);
    /* a new thread */
    make_task(&record, PERF_RECORD_FORK, 500, 500, 502, 500);
    assert_int_equal(decode(&record, &event, NULL), 0);
}

static void exits(void **state)
{
    struct ap_process_event event;
    struct record record;

    (void)state;
    make_task(&record, PERF_RECORD_EXIT, 501, 500, 501, 500);
    assert_int_equal(decode(&record, &event, NULL), 1);
    assert_int_equal(event.type, AP_PROCESS_EXIT);
    assert_int_equal(event.pid, 501);
    assert_int_equal(event.time_ns, TIME);
    make_task(&record, PERF_RECORD_EXIT, 501, 500, 502, 500);
    assert_int_equal(decode(&record, &event, NULL), 0);
}

static void execs(void **state)
{
    struct ap_process_event event;
    struct record record;

    (void)state;
    make_comm(&record, PERF_RECORD_MISC_COMM_EXEC | PERF_RECORD_MISC_USER);
    assert_int_equal(decode(&record, &event, NULL), 1);
    assert_int_equal(event.type, AP_PROCESS_EXEC);
    assert_int_equal(event.pid, 70);
    assert_int_equal(event.time_ns, TIME);
    /* a thread that named itself */
    make_comm(&record, PERF_RECORD_MISC_USER);
    assert_int_equal(decode(&record, &event, NULL), 0);
}

static void mappings(void **state)
{
    struct ap_process_event event;
    struct record record;
    char *copy;

    (void)state;
    make_mmap(&record, 0x7f0000001000, 0x2000, "/usr/lib/x.so\0\0\0", 16);
    assert_int_equal(decode(&record, &event, &copy), 1);
    assert_int_equal(event.type, AP_PROCESS_MMAP);
    assert_int_equal(event.pid, 80);
    assert_int_equal(event.start, 0x7f0000001000);
    assert_int_equal(event.end, 0x7f0000003000);
    assert_int_equal(event.file_off, 0x3000);
    assert_int_equal(event.dev_major, 8);
    assert_int_equal(event.dev_minor, 17);
    assert_int_equal(event.inode, 4711);
    assert_string_equal(event.path, "/usr/lib/x.so");
    assert_int_equal(event.time_ns, TIME);
    free(copy);
    make_mmap(&record, 0x1000, 0x1000, "\0\0\0\0\0\0\0", 8); /* a name may be empty */
    assert_int_equal(decode(&record, &event, &copy), 1);
    assert_string_equal(event.path, "");
    free(copy);
}

static void impossible_mappings(void **state)
{
    struct ap_process_event event;
    struct record record;

    (void)state;
    make_mmap(&record, 0x1000, 0, "/x\0\0\0\0\0", 8);
    assert_int_equal(decode(&record, &event, NULL), -EINVAL);
    make_mmap(&record, UINT64_MAX - 0xfff, 0x2000, "/x\0\0\0\0\0", 8);
    assert_int_equal(decode(&record, &event, NULL), -EINVAL);
    make_mmap(&record, 0x1000, 0x1000, "/without", 8); /* the terminator would be the time's */
    assert_int_equal(decode(&record, &event, NULL), -EINVAL);
    make_mmap(&record, 0x1000, 0x1000, "", 0);
    assert_int_equal(decode(&record, &event, NULL), -EINVAL);
}

static void losses(void **state)
{
    struct ap_process_event event;
    uint64_t lost = 5;
    struct record record;

    (void)state;
    begin(&record, PERF_RECORD_LOST, 0);
    put64(&record, 3);
    put64(&record, 37);
    finish(&record);
    assert_int_equal(ap_sideband_decode(record.bytes, record.len, &event, &lost), 0);
    assert_int_equal(lost, 42);
    begin(&record, PERF_RECORD_LOST, 0);
    put64(&record, 3);
    finish(&record);
    assert_int_equal(ap_sideband_decode(record.bytes, record.len, &event, &lost), -EINVAL);
    assert_int_equal(lost, 42);
}

static void other_kinds(void **state)
{
    static const uint32_t types[] = {0, PERF_RECORD_MMAP, PERF_RECORD_THROTTLE, PERF_RECORD_SAMPLE, 0xffffffff};
    struct ap_process_event event;
    struct record record;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        begin(&record, types[i], 0);
        put64(&record, 1);
        finish(&record);
        assert_int_equal(decode(&record, &event, NULL), 0);
    }
}

/* Bytes of the body, the time not included, without which a record of the kind says nothing. */
static size_t least_body(uint32_t type)
{
    switch (type) {
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        return 24;
    case PERF_RECORD_COMM:
        return 8;
    default:
        return MMAP2_SZ + 1;
    }
}

/* Each record cut to each shorter length, once with the size the header had and once with the new one. */
static void cut_anywhere(const struct record *whole)
{
    struct ap_process_event event;
    struct record cut = *whole;
    uint32_t type;
    size_t body;
    int rc;

    memcpy(&type, whole->bytes, sizeof(type));
    for (cut.len = 0; cut.len < whole->len; cut.len++) {
        memcpy(cut.bytes, whole->bytes, whole->len);
        assert_int_equal(decode(&cut, &event, NULL), -EINVAL);
        if (cut.len < sizeof(struct perf_event_header))
            continue;
        set_size(&cut);
        rc = decode(&cut, &event, NULL);
        body = cut.len - sizeof(struct perf_event_header);
        if (body < sizeof(uint64_t) + least_body(type))
            assert_int_equal(rc, -EINVAL);
    }
}

static void odd_sizes(void **state)
{
    struct ap_process_event event;
    struct record record;

    (void)state;
    make_task(&record, PERF_RECORD_FORK, 501, 500, 501, 500);
    cut_anywhere(&record);
    make_task(&record, PERF_RECORD_EXIT, 501, 500, 501, 500);
    cut_anywhere(&record);
    make_comm(&record, PERF_RECORD_MISC_COMM_EXEC);
    cut_anywhere(&record);
    make_mmap(&record, 0x1000, 0x1000, "/x\0\0\0\0\0", 8);
    cut_anywhere(&record);
    /* longer than the header says */
    make_comm(&record, PERF_RECORD_MISC_COMM_EXEC);
    record.len++;
    assert_int_equal(decode(&record, &event, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks),
        cmocka_unit_test(exits),
        cmocka_unit_test(execs),
        cmocka_unit_test(mappings),
        cmocka_unit_test(impossible_mappings),
        cmocka_unit_test(losses),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(odd_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
