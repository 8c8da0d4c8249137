/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the codec tests share: captures to write, and a reader of profile.proto that knows nothing of the
 * writer. */
#ifndef APERTURE_TESTS_FORMAT_FIXTURE_H
#define APERTURE_TESTS_FORMAT_FIXTURE_H

#include "format/format.h"
#include "model/locks.h"
#include "model/syscalls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#define FIXTURE static inline __attribute__((unused))

/* Names that try to break a format: separators, quotes, controls, terminal sequences, bytes that are not
 * UTF-8. */
static const char *const fixture_hostile[] = {
    "a;b c 7",
    "line\nbreak\r\t",
    "\"quoted\\\"",
    "</script><script>&'",
    "\033[31mred\033[0m",
    "bad\xff\xfeutf\xc3",
    "\xed\xa0\x80surrogate",
    "caf\xc3\xa9 \xe2\x80\xae"
    "evil",
    "\xc2\x9b"
    "0mcsi",
    " ",
    "%s%n",
    "operator<<(std::ostream&, char)",
};
#define FIXTURE_HOSTILE_CNT (sizeof(fixture_hostile) / sizeof(fixture_hostile[0]))

FIXTURE struct ap_capture *fixture_capture(uint8_t kind)
{
    struct ap_capture *capture = ap_capture_new();

    assert_non_null(capture);
    snprintf(capture->agent.version, sizeof(capture->agent.version), "0.1.0");
    snprintf(capture->agent.host, sizeof(capture->agent.host), "host-7");
    snprintf(capture->agent.kernel, sizeof(capture->agent.kernel), "6.18.0");
    snprintf(capture->agent.arch, sizeof(capture->agent.arch), "x86_64");
    snprintf(capture->agent.event, sizeof(capture->agent.event), "cpu-clock");
    capture->agent.frequency = 99;
    capture->agent.cpus_online = 2;
    capture->profiles[0] = ap_profile_new(kind);
    assert_non_null(capture->profiles[0]);
    capture->profile_cnt = 1;
    capture->profiles[0]->start_ns = 1790000000123456789;
    capture->profiles[0]->duration_ns = 10000000000;
    capture->profiles[0]->period_ns = kind == AP_KIND_CPU ? 10101010 : 0;
    return capture;
}

FIXTURE uint32_t fixture_mapping(struct ap_profile *profile, const char *path, uint64_t start, uint64_t file_off)
{
    struct ap_mapping row = {.path = ap_strings_id(profile->strings, path), .start = start, .file_off = file_off};
    uint32_t index;

    if (start != 0) {
        row.limit = start + 0x10000;
        row.build_id_len = 4;
        memcpy(row.build_id, "\xde\xad\x0b\xef", 4);
    }
    assert_int_equal(ap_profile_add_mapping(profile, &row, &index), 0);
    return index;
}

FIXTURE uint32_t fixture_frame(struct ap_profile *profile, const char *name, uint8_t kind, uint32_t mapping,
                               uint64_t offset, bool inlined, const char *file, uint32_t line)
{
    const struct ap_frame row = {
        .kind = kind,
        .inlined = inlined,
        .function = ap_strings_id(profile->strings, name),
        .file = ap_strings_id(profile->strings, file),
        .line = line,
        .mapping = mapping,
        .offset = offset,
    };
    uint32_t index;

    assert_int_equal(ap_profile_add_frame(profile, &row, &index), 0);
    return index;
}

FIXTURE void fixture_sample(struct ap_profile *profile, const struct ap_series *row, const uint32_t *frames,
                            uint32_t cnt, bool truncated, uint64_t count, uint64_t value)
{
    uint32_t series, stack;

    assert_int_equal(ap_profile_add_series(profile, row, &series), 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, cnt, truncated, &stack), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, count, value), 0);
}

FIXTURE struct ap_series fixture_series(struct ap_profile *profile, uint32_t pid, const char *comm, const char *exe,
                                        const char *container)
{
    return (struct ap_series){
        .pid = pid,
        .comm = ap_strings_id(profile->strings, comm),
        .exe = ap_strings_id(profile->strings, exe),
        .container = ap_strings_id(profile->strings, container),
    };
}

/* One of everything: inlining, kernel, JIT, unknown, recursion, truncation, two lines of one function. */
FIXTURE struct ap_capture *fixture_rich(uint8_t kind)
{
    struct ap_capture *capture = fixture_capture(kind);
    struct ap_profile *p = capture->profiles[0];
    uint32_t libc = fixture_mapping(p, "/usr/lib/libc.so.6", 0x7f0000000000, 0x1000);
    uint32_t kernel = fixture_mapping(p, "[kernel]", 0, 0);
    uint32_t app = fixture_mapping(p, "/usr/bin/app", 0x400000, 0x2000);
    uint32_t anon = fixture_mapping(p, "//anon", 0x900000, 0);
    uint32_t start = fixture_frame(p, "_start", AP_FRAME_NATIVE, app, 0x2010, false, "", 0);
    uint32_t m1 = fixture_frame(p, "main", AP_FRAME_NATIVE, app, 0x2100, false, "/src/app.c", 20);
    uint32_t m2 = fixture_frame(p, "main", AP_FRAME_NATIVE, app, 0x2110, false, "/src/app.c", 22);
    uint32_t fib = fixture_frame(p, "fib", AP_FRAME_NATIVE, app, 0x2200, false, "/src/fib.c", 3);
    uint32_t add = fixture_frame(p, "add", AP_FRAME_NATIVE, app, 0x2200, true, "/src/add.h", 9);
    uint32_t wr = fixture_frame(p, "write", AP_FRAME_NATIVE, libc, 0x1500, false, "", 0);
    uint32_t sys = fixture_frame(p, "ksys_write", AP_FRAME_KERNEL, kernel, 0xffffffff81000010, false, "", 0);
    uint32_t jit = fixture_frame(p, "Foo::bar", AP_FRAME_JIT, anon, 0x900040, false, "", 0);
    uint32_t unk = fixture_frame(p, "libc.so.6+0x1600", AP_FRAME_UNKNOWN, libc, 0x1600, false, "", 0);
    struct ap_series app1 = fixture_series(p, 10, "app", "/usr/bin/app", "c0ffee");
    struct ap_series app2 = fixture_series(p, 11, "app", "/usr/bin/app", "");
    struct ap_series vm = fixture_series(p, 0, "vm thread", "", "");

    fixture_sample(p, &app1, (const uint32_t[]){add, fib, fib, fib, m1, start}, 6, false, 5, 50505050);
    fixture_sample(p, &app2, (const uint32_t[]){add, fib, fib, fib, m2, start}, 6, false, 2, 20202020);
    fixture_sample(p, &app1, (const uint32_t[]){sys, wr, m2, start}, 4, false, 3, 30303030);
    fixture_sample(p, &app1, (const uint32_t[]){unk}, 1, true, 1, 10101010);
    fixture_sample(p, &vm, (const uint32_t[]){jit}, 1, false, 4, 40404040);
    fixture_sample(p, &vm, (const uint32_t[]){fib}, 1, true, 1, 499);
    capture->accounts[0].expected = 20;
    capture->accounts[0].delivered = 16;
    capture->accounts[0].losses[AP_LOSS_RING_FULL] = 3;
    capture->accounts[0].losses[AP_LOSS_MISSED] = 1;
    capture->frames_total = 80;
    capture->frames_unresolved = 1;
    ap_capture_unresolved(capture, "/usr/lib/libc.so.6", AP_UNRESOLVED_STRIPPED, 1, 1);
    return capture;
}

/* A wait of `waiter` that `waker` ended, and one whose waker is not known; both in the same function. */
FIXTURE struct ap_capture *fixture_wakers(uint8_t kind)
{
    struct ap_capture *capture = fixture_capture(kind);
    struct ap_profile *p = capture->profiles[0];
    uint32_t app = fixture_mapping(p, "/usr/bin/app", 0x400000, 0x2000);
    uint32_t kernel = fixture_mapping(p, "[kernel]", 0, 0);
    struct ap_series series = fixture_series(p, 10, "waiter", "/usr/bin/app", "");
    struct ap_frame row;
    uint32_t f[7];

    /* Leaf first: the waker's thread and function, the mark, then the wait and the mark of its state. */
    f[3] = fixture_frame(p, "schedule", AP_FRAME_KERNEL, kernel, 0xffffffff81000010, false, "", 0);
    f[4] = fixture_frame(p, "work", AP_FRAME_NATIVE, app, 0x2100, false, "/src/app.c", 20);
    f[5] = fixture_frame(p, "main", AP_FRAME_NATIVE, app, 0x2200, false, "/src/app.c", 40);
    f[6] = fixture_frame(p, "[interruptible]", AP_FRAME_MARK, 0, 0, false, "", 0);
    row = p->frames[f[4]];
    row.waker = true;
    assert_int_equal(ap_profile_add_frame(p, &row, &f[1]), 0);
    row = (struct ap_frame){.kind = AP_FRAME_PROCESS, .waker = true, .function = ap_strings_id(p->strings, "waker")};
    assert_int_equal(ap_profile_add_frame(p, &row, &f[0]), 0);
    row = (struct ap_frame){.kind = AP_FRAME_MARK, .waker = true, .function = ap_strings_id(p->strings, "[woken by]")};
    assert_int_equal(ap_profile_add_frame(p, &row, &f[2]), 0);
    fixture_sample(p, &series, f, 7, false, 3, 30000000);
    fixture_sample(p, &series, f + 3, 4, false, 1, 5000000);
    capture->accounts[0] =
        (struct ap_account){.expected = 4, .delivered = 4, .below_min = 12, .below_min_ns = 3000000, .unmatched = 2};
    return capture;
}

FIXTURE void fixture_latencies(struct ap_histogram *histogram, uint64_t *total, uint64_t *max, uint64_t cnt,
                               uint64_t low, uint64_t high)
{
    for (uint64_t i = 0; i < cnt; i++) {
        /* Few are long: the place on the way from low to high goes with the fourth power. */
        double place = (double)(i + 1) / (double)cnt;
        uint64_t ns = low + (uint64_t)((double)(high - low) * place * place * place * place);

        assert_int_equal(ap_histogram_add(histogram, ap_histogram_bucket(ns), 1), 0);
        *total += ns;
        if (ns > *max)
            *max = ns;
    }
}

/* Index of a stack of functions of the program, leaf first, below what every lock wait has. */
FIXTURE uint32_t fixture_lock_stack(struct ap_profile *p, const char *leaf, const char *function, uint32_t line)
{
    uint32_t app = fixture_mapping(p, "/usr/bin/app", 0x400000, 0x2000);
    uint32_t libc = fixture_mapping(p, "/usr/lib/x86_64-linux-gnu/libc.so.6", 0x7f0000000000, 0x1000);
    uint32_t kernel = fixture_mapping(p, "[kernel]", 0, 0);
    const uint32_t frames[] = {
        fixture_frame(p, "futex_wait_queue", AP_FRAME_KERNEL, kernel, 0xffffffff81000020, false, "", 0),
        fixture_frame(p, leaf, AP_FRAME_NATIVE, libc, 0x1700, false, "", 0),
        fixture_frame(p, function, AP_FRAME_NATIVE, app, 0x2000 + line, false, "/src/app.c", line),
        fixture_frame(p, "main", AP_FRAME_NATIVE, app, 0x2110, false, "/src/app.c", 22),
    };
    uint32_t stack;

    assert_int_equal(ap_profile_add_stack(p, frames, 4, false, &stack), 0);
    return stack;
}

FIXTURE uint32_t fixture_thread(struct ap_profile *p, uint32_t pid, const char *comm)
{
    struct ap_series row = fixture_series(p, pid, comm, "/usr/bin/app", "");
    uint32_t series;

    assert_int_equal(ap_profile_add_series(p, &row, &series), 0);
    return series;
}

/* A contended mutex, a kernel lock, a lock without a symbol, and a condition variable. */
FIXTURE struct ap_capture *fixture_locks(void)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_LOCK);
    struct ap_profile *p = capture->profiles[0];
    uint32_t worker = fixture_thread(p, 1230, "worker-3"), main_thread = fixture_thread(p, 1230, "main");
    uint32_t push = fixture_lock_stack(p, "pthread_mutex_lock", "queue_push", 33);
    uint32_t drain = fixture_lock_stack(p, "pthread_mutex_unlock", "queue_drain", 71);
    uint32_t idle = fixture_lock_stack(p, "pthread_cond_wait", "wait_for_work", 104);
    struct ap_lock_row *row;

    p->locks = ap_locks_new();
    assert_non_null(p->locks);
    row = ap_locks_row(p->locks, 1, 0x55d1c0de4040, false);
    row->pid = 1230;
    row->comm = ap_strings_id(p->strings, "app");
    row->symbol = ap_strings_id(p->strings, "queue+0x8");
    row->type = AP_LOCK_MUTEX;
    row->waits = 412;
    fixture_latencies(&row->histogram, &row->total_ns, &row->max_ns, 412, 4000, 12000000);
    row->timeouts = 3;
    row->timeout_ns = 3000000000;
    row->interrupted = 1;
    row->interrupted_ns = 1200000;
    row->retried = 17;
    row->in_flight = 2;
    row->in_flight_ns = 9000000000;
    assert_int_equal(ap_lock_row_add(row, worker, push, main_thread, drain, 400, row->total_ns - 9000000, row->max_ns),
                     0);
    assert_int_equal(ap_lock_row_add(row, worker, push, worker, push, 10, 8000000, 2000000), 0);
    assert_int_equal(ap_lock_row_add(row, main_thread, drain, 0, AP_LOCK_NO_STACK, 2, 1000000, 900000), 0);

    row = ap_locks_row(p->locks, 0, 0xffff888103a4c0a8, true);
    row->type = AP_LOCK_RT_MUTEX;
    row->symbol = ap_strings_id(p->strings, "rwsem_down_write_slowpath");
    row->waits = 5;
    fixture_latencies(&row->histogram, &row->total_ns, &row->max_ns, 5, 20000, 90000);
    assert_int_equal(ap_lock_row_add(row, worker, push, 0, AP_LOCK_NO_STACK, 5, row->total_ns, row->max_ns), 0);

    row = ap_locks_row(p->locks, 2, 0x7f12a8000b60, false);
    row->pid = 20471;
    row->comm = ap_strings_id(p->strings, "postgres");
    row->waits = 1;
    fixture_latencies(&row->histogram, &row->total_ns, &row->max_ns, 1, 700, 1500);
    assert_int_equal(ap_lock_row_add(row, worker, idle, main_thread, drain, 1, row->total_ns, row->max_ns), 0);

    row = ap_locks_row(p->locks, 1, 0x55d1c0de4080, false);
    row->pid = 1230;
    row->comm = ap_strings_id(p->strings, "app");
    row->symbol = ap_strings_id(p->strings, "work_available");
    row->type = AP_LOCK_CONDVAR;
    row->waits = 96;
    fixture_latencies(&row->histogram, &row->total_ns, &row->max_ns, 96, 10000, 900000000);
    assert_int_equal(ap_lock_row_add(row, worker, idle, main_thread, drain, 96, row->total_ns, row->max_ns), 0);
    ap_locks_sort(p->locks);

    assert_int_equal(ap_profile_add_sample(p, worker, push, 415, 1000000000), 0);
    assert_int_equal(ap_profile_add_sample(p, worker, idle, 97, 17000000000), 0);
    capture->accounts[0] = (struct ap_account){.expected = 514, .delivered = 514, .folded = 1, .unmatched = 2};
    capture->frames_total = 2048;
    return capture;
}

FIXTURE struct ap_syscall_row *fixture_syscall(struct ap_capture *capture, uint32_t pid, const char *comm,
                                               uint32_t number, uint64_t cnt, uint64_t low, uint64_t high)
{
    struct ap_syscalls *syscalls = capture->profiles[0]->syscalls;
    struct ap_syscall_row *row = ap_syscalls_row(syscalls, pid, pid, comm, AP_SYSCALL_NATIVE, number);

    assert_non_null(row);
    row->count += cnt;
    fixture_latencies(&row->histogram, &row->total_ns, &row->max_ns, cnt, low, high);
    capture->accounts[0].expected += cnt;
    capture->accounts[0].delivered += cnt;
    return row;
}

/* What a web server, a shell and a compiler do. */
FIXTURE struct ap_capture *fixture_syscalls(void)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL);
    struct ap_profile *p = capture->profiles[0];
    struct ap_syscall_row *row;

    p->syscalls = ap_syscalls_new(p->strings);
    assert_non_null(p->syscalls);
    row = fixture_syscall(capture, 812, "nginx", 451, 5120, 900, 210000000); /* the newer calls are equal everywhere */
    row->in_flight = 4;
    row->in_flight_max_ns = 2710000000;
    fixture_syscall(capture, 812, "nginx", 424, 20480, 350, 90000);
    row = fixture_syscall(capture, 812, "nginx", 425, 10240, 300, 40000);
    assert_int_equal(ap_syscall_row_error(row, 11, 5100), 0);
    assert_int_equal(ap_syscall_row_error(row, 104, 3), 0);
    row = fixture_syscall(capture, 4021, "cc1", 437, 3100, 700, 2400000);
    assert_int_equal(ap_syscall_row_error(row, 2, 1912), 0);
    assert_int_equal(ap_syscall_row_error(row, 13, 2), 0);
    assert_int_equal(ap_syscall_row_error(row, 20, 7), 0);
    assert_int_equal(ap_syscall_row_error(row, 512, 1), 0);
    assert_int_equal(ap_syscall_row_error(row, 4000, 1), 0);
    fixture_syscall(capture, 4021, "cc1", 449, 900, 150, 8000);
    fixture_syscall(capture, 977, "bash", 437, 12, 900, 45000);
    row = fixture_syscall(capture, 977, "bash", 434, 40, 30000, 900000000);
    row->in_flight = 1;
    row->in_flight_max_ns = 4200000000;
    row = ap_syscalls_row(p->syscalls, 977, 977, "bash", AP_SYSCALL_COMPAT, 450);
    row->count = 1; /* nothing measured */
    row = ap_syscalls_row(p->syscalls, 977, 977, "bash", AP_SYSCALL_NATIVE, 100000);
    row->in_flight = 1;
    ap_syscalls_sort(p->syscalls);
    capture->accounts[0].unmatched = 6;
    return capture;
}

FIXTURE uint32_t fixture_chance(uint64_t *seed, uint32_t below)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(*seed >> 33) % below;
}

FIXTURE const char *fixture_any_name(uint64_t *seed)
{
    uint32_t i = fixture_chance(seed, FIXTURE_HOSTILE_CNT + 1);

    return i == FIXTURE_HOSTILE_CNT ? "" : fixture_hostile[i];
}

/* Stacks, names and weights by chance, the hostile ones among them. */
FIXTURE struct ap_capture *fixture_random(uint8_t kind, uint64_t seed, unsigned samples)
{
    struct ap_capture *capture = fixture_capture(kind);
    struct ap_profile *p = capture->profiles[0];

    for (unsigned i = 0; i < samples; i++) {
        uint32_t frames[40], cnt = 1 + fixture_chance(&seed, 40), pid = fixture_chance(&seed, 5);
        const char *comm = fixture_any_name(&seed), *exe = fixture_any_name(&seed);
        struct ap_series series = fixture_series(p, pid, comm, exe, "");

        for (uint32_t j = 0; j < cnt; j++) {
            const char *path = fixture_any_name(&seed), *file = fixture_any_name(&seed);
            uint32_t mapping = fixture_mapping(p, path, fixture_chance(&seed, 2) * 4096, 0);
            uint8_t frame_kind = (uint8_t)fixture_chance(&seed, 7);
            uint64_t offset = fixture_chance(&seed, 3);
            bool inlined = fixture_chance(&seed, 2) == 1;

            frames[j] =
                fixture_frame(p, fixture_any_name(&seed), frame_kind, mapping, offset, inlined, file, (uint32_t)offset);
        }
        bool truncated = fixture_chance(&seed, 5) == 0;
        uint64_t count = fixture_chance(&seed, 100), value = fixture_chance(&seed, 1000000);
        fixture_sample(p, &series, frames, cnt, truncated, count, value);
    }
    return capture;
}

/* Writes into memory. The text is NUL-terminated; the caller frees it. */
FIXTURE char *fixture_render(enum ap_format format, struct ap_capture *capture, size_t *ret_len)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, 256u << 20);
    out = ap_out_new_buf(&buf);
    assert_non_null(out);
    assert_int_equal(ap_format_write(format, capture, 0, out), 0);
    assert_int_equal(ap_out_total(out), buf.len);
    ap_out_free(out);
    if (ret_len != NULL)
        *ret_len = buf.len;
    return buf.data != NULL ? buf.data : calloc(1, 1);
}

/* A sink that breaks after some bytes, as a full disk does. */
FIXTURE int fixture_full_disk(void *ctx, const void *data, size_t len)
{
    size_t *room = ctx;

    (void)data;
    if (len > *room)
        return -28; /* ENOSPC */
    *room -= len;
    return 0;
}

/* profile.proto
 * --------------------------------------------------------------------------------------------------- */

struct pb { /* bytes still to read */
    const unsigned char *p, *end;
};

FIXTURE uint64_t pb_varint(struct pb *pb)
{
    uint64_t value = 0;

    for (unsigned shift = 0;; shift += 7) {
        assert_true(pb->p < pb->end && shift < 70);
        value |= (uint64_t)(*pb->p & 0x7f) << shift;
        if (*pb->p++ < 0x80)
            return value;
    }
}

/* Next field: its number, with *ret_value (varint) or *ret_sub (bytes). 0 at the end. */
FIXTURE unsigned pb_field(struct pb *pb, uint64_t *ret_value, struct pb *ret_sub)
{
    uint64_t tag;

    if (pb->p == pb->end)
        return 0;
    tag = pb_varint(pb);
    *ret_value = 0;
    *ret_sub = (struct pb){NULL, NULL};
    if ((tag & 7) == 0) {
        *ret_value = pb_varint(pb);
    } else {
        uint64_t len;

        assert_int_equal(tag & 7, 2);
        len = pb_varint(pb);
        assert_true(len <= (uint64_t)(pb->end - pb->p));
        *ret_sub = (struct pb){pb->p, pb->p + len};
        pb->p += len;
    }
    return (unsigned)(tag >> 3);
}

#define PP_MAX (1u << 16)

struct pp_row { /* a mapping, location, function or sample, by field number (up to 10) */
    uint64_t f[11];
    unsigned sub_cnt; /* lines or labels */
    uint64_t sub[32][4];
    unsigned location_cnt, value_cnt;
    uint64_t locations[AP_STACK_FRAMES_MAX + 1], values[4];
};

struct pp {
    char *raw;
    char **strings;
    struct pp_row *mappings, *locations, *functions, *samples;
    unsigned string_cnt, mapping_cnt, location_cnt, function_cnt, sample_cnt, type_cnt, comment_cnt;
    uint64_t types[4][3], period_type[3], comments[16];
    uint64_t time, duration, period, default_type;
};

FIXTURE char *pp_gunzip(const char *data, size_t len, size_t *ret_len)
{
    size_t cap = 64u << 20;
    char *raw = malloc(cap);
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)data, .avail_in = (uInt)len};

    assert_non_null(raw);
    z.next_out = (unsigned char *)raw;
    z.avail_out = (uInt)cap;
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    *ret_len = cap - z.avail_out;
    inflateEnd(&z);
    return raw;
}

FIXTURE void pp_row(struct pp_row *row, struct pb pb, bool sample)
{
    uint64_t value, inner;
    struct pb sub, skip;
    unsigned field, part;

    memset(row, 0, sizeof(*row));
    while ((field = pb_field(&pb, &value, &sub)) != 0) {
        assert_true(field <= 10);
        if (sub.p == NULL) {
            row->f[field] = value;
        } else if (sample && field <= 2) {
            while (sub.p < sub.end) {
                uint64_t v = pb_varint(&sub);

                if (field == 1) {
                    assert_true(row->location_cnt < AP_STACK_FRAMES_MAX + 1);
                    row->locations[row->location_cnt++] = v;
                } else {
                    assert_true(row->value_cnt < 4);
                    row->values[row->value_cnt++] = v;
                }
            }
        } else {
            assert_true(row->sub_cnt < 32);
            while ((part = pb_field(&sub, &inner, &skip)) != 0) {
                assert_true(part < 4);
                row->sub[row->sub_cnt][part] = inner;
            }
            row->sub_cnt++;
        }
    }
}

FIXTURE struct pp_row *pp_append(struct pp_row **rows, unsigned *cnt)
{
    assert_true(*cnt < PP_MAX);
    if ((*cnt & (*cnt - 1)) == 0) {
        *rows = realloc(*rows, (*cnt == 0 ? 1 : 2 * (size_t)*cnt) * sizeof(**rows));
        assert_non_null(*rows);
    }
    return &(*rows)[(*cnt)++];
}

FIXTURE void pp_read(struct pp *pp, const char *data, size_t data_len)
{
    struct pb pb, sub, skip;
    uint64_t value;
    size_t len;
    unsigned field, part;

    memset(pp, 0, sizeof(*pp));
    pp->raw = pp_gunzip(data, data_len, &len);
    pp->strings = calloc(1u << 16, sizeof(*pp->strings));
    pb = (struct pb){(const unsigned char *)pp->raw, (const unsigned char *)pp->raw + len};
    while ((field = pb_field(&pb, &value, &sub)) != 0) {
        uint64_t *type = field == 1 ? pp->types[pp->type_cnt++ & 3] : pp->period_type;

        switch (field) {
        case 1:
        case 11:
            while ((part = pb_field(&sub, &value, &skip)) != 0)
                type[part & 1] = value; /* [1] type, [0] unit */
            break;
        case 2:
            pp_row(pp_append(&pp->samples, &pp->sample_cnt), sub, true);
            break;
        case 3:
            pp_row(pp_append(&pp->mappings, &pp->mapping_cnt), sub, false);
            break;
        case 4:
            pp_row(pp_append(&pp->locations, &pp->location_cnt), sub, false);
            break;
        case 5:
            pp_row(pp_append(&pp->functions, &pp->function_cnt), sub, false);
            break;
        case 6:
            assert_true(pp->string_cnt < 1u << 16);
            pp->strings[pp->string_cnt++] =
                sub.p == NULL ? NULL : strndup((const char *)sub.p, (size_t)(sub.end - sub.p));
            break;
        case 9:
            pp->time = value;
            break;
        case 10:
            pp->duration = value;
            break;
        case 12:
            pp->period = value;
            break;
        case 13:
            assert_true(pp->comment_cnt < 16);
            pp->comments[pp->comment_cnt++] = value;
            break;
        case 14:
            pp->default_type = value;
            break;
        default:
            fail_msg("unknown field %u", field);
        }
    }
}

FIXTURE void pp_done(struct pp *pp)
{
    for (unsigned i = 0; i < pp->string_cnt; i++)
        free(pp->strings[i]);
    free(pp->strings);
    free(pp->mappings);
    free(pp->locations);
    free(pp->functions);
    free(pp->samples);
    free(pp->raw);
}

FIXTURE const char *pp_str(const struct pp *pp, uint64_t id)
{
    assert_true(id < pp->string_cnt);
    return pp->strings[id];
}

/* The row with this id; its id must be the only one. */
FIXTURE const struct pp_row *pp_by_id(const struct pp_row *rows, unsigned cnt, uint64_t id)
{
    const struct pp_row *found = NULL;

    assert_int_not_equal(id, 0);
    for (unsigned i = 0; i < cnt; i++) {
        if (rows[i].f[1] != id)
            continue;
        assert_null(found);
        found = &rows[i];
    }
    assert_non_null(found);
    return found;
}

#endif
