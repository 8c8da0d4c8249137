/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches to encode, the same on every run, and a comparison of two of them by content. For unit tests, fuzz targets
 * and helpers of system tests: depends on the model only, and ends the program when memory is short. */
#ifndef APERTURE_TESTS_WIRE_SAMPLE_H
#define APERTURE_TESTS_WIRE_SAMPLE_H

#include "model/locks.h"
#include "model/push.h"
#include "model/syscalls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE static inline __attribute__((unused))

#define SAMPLE_START_NS 1790000000123456789ULL

SAMPLE void sample_check(bool condition)
{
    if (!condition)
        abort();
}

SAMPLE struct ap_profile *sample_profile(struct ap_push *push, uint8_t kind)
{
    struct ap_profile *profile = ap_profile_new(kind);

    sample_check(profile != NULL && push->capture->profile_cnt < AP_CAPTURE_PROFILES_MAX);
    profile->start_ns = push->start_ns;
    profile->duration_ns = push->duration_ns;
    push->capture->profiles[push->capture->profile_cnt++] = profile;
    return profile;
}

SAMPLE uint32_t sample_frame(struct ap_profile *p, const char *name, uint8_t kind, const char *path, uint64_t offset)
{
    struct ap_mapping mapping = {.path = ap_strings_id(p->strings, path), .start = 0x400000, .limit = 0x480000};
    struct ap_frame frame = {.kind = kind, .function = ap_strings_id(p->strings, name), .offset = offset};

    mapping.file_off = 0x1000;
    mapping.build_id_len = (uint8_t)(strlen(path) % (AP_BUILD_ID_MAX + 1));
    memset(mapping.build_id, 0xb1, mapping.build_id_len);
    frame.inlined = offset % 3 == 1;
    frame.waker = offset % 5 == 1;
    frame.line = (uint32_t)offset & 0xff;
    frame.file = frame.line != 0 ? ap_strings_id(p->strings, "/src/app.c") : 0;
    uint32_t index = 0;
    sample_check(ap_profile_add_mapping(p, &mapping, &frame.mapping) == 0);
    sample_check(ap_profile_add_frame(p, &frame, &index) == 0);
    return index;
}

SAMPLE uint32_t sample_stack(struct ap_profile *p, unsigned which)
{
    const uint32_t frames[] = {
        sample_frame(p, which % 2 != 0 ? "ksys_read" : "bad\xff\xfeutf", AP_FRAME_KERNEL, "[kernel]",
                     0xffffffff81000010),
        sample_frame(p, "caf\xc3\xa9::run(int, char)", AP_FRAME_NATIVE, "/usr/bin/app", 0x2200 + which),
        sample_frame(p, "libc.so.6+0x1600", AP_FRAME_UNKNOWN, "/usr/lib/libc.so.6", 0x1600),
        sample_frame(p, "Foo::bar", AP_FRAME_JIT, "//anon", 0x900040 + which),
    };
    uint32_t stack = 0;

    sample_check(ap_profile_add_stack(p, frames, 1 + which % 4, which % 3 == 0, &stack) == 0);
    return stack;
}

SAMPLE uint32_t sample_series(struct ap_profile *p, uint32_t pid, const char *comm)
{
    const struct ap_series row = {
        .pid = pid,
        .comm = ap_strings_id(p->strings, comm),
        .exe = pid % 2 != 0 ? ap_strings_id(p->strings, "/usr/bin/app") : 0,
        .container = pid % 3 == 0 ? ap_strings_id(p->strings, "c0ffee") : 0,
    };
    uint32_t series = 0;

    sample_check(ap_profile_add_series(p, &row, &series) == 0);
    return series;
}

SAMPLE void sample_histogram(struct ap_histogram *histogram, unsigned seed)
{
    for (unsigned i = 0; i < 3 + seed % 5; i++)
        sample_check(ap_histogram_add(histogram, (seed * 7 + i * i) % AP_HISTOGRAM_BUCKETS, 1 + i) == 0);
}

SAMPLE void sample_samples(struct ap_profile *p, unsigned cnt)
{
    static const char *const comms[] = {"app", "worker-1", "", "a;b \"c\"\n"};

    for (unsigned i = 0; i < cnt; i++)
        sample_check(ap_profile_add_sample_at(p, sample_series(p, 10 + i % 5, comms[i % 4]), sample_stack(p, i % 9),
                                              p->slot_ns != 0 ? i * i % 50 : 0, 1 + i % 3, 10101010 + i) == 0);
}

SAMPLE void sample_locks(struct ap_profile *p)
{
    p->locks = ap_locks_new();
    sample_check(p->locks != NULL);
    for (unsigned i = 0; i < 4; i++) {
        struct ap_lock_row *row = ap_locks_row(p->locks, i % 3, i == 3 ? 0 : 0x1000 + i, i % 3 == 0);

        sample_check(row != NULL);
        row->pid = 100 + i;
        row->comm = ap_strings_id(p->strings, "app");
        row->symbol = i % 2 != 0 ? ap_strings_id(p->strings, "queue+0x8") : 0;
        row->type = i % 2 != 0 ? AP_LOCK_MUTEX : AP_LOCK_CONDVAR;
        row->waits = 10 + i;
        row->total_ns = 1000000 * i;
        row->max_ns = 5000 + i;
        row->timeouts = i;
        row->interrupted = 2 * i;
        row->retried = 3 * i;
        row->timeout_ns = 40 * i;
        row->interrupted_ns = 50 * i;
        row->in_flight = i % 2;
        row->in_flight_ns = 60 * i;
        sample_histogram(&row->histogram, i);
        /* The first one has more waiters and wakers than there are places. */
        for (unsigned j = 0; j < (i == 0 ? 50 : i); j++)
            sample_check(ap_lock_row_add(row, sample_series(p, 10 + j % 40, "app"), sample_stack(p, j),
                                         sample_series(p, 11 + j % 40, "app"),
                                         j % 4 == 3 ? AP_LOCK_NO_STACK : sample_stack(p, j + 1), 1 + j, 100 * j,
                                         10 * j) == 0);
    }
    p->locks->folded = 3;
    ap_locks_sort(p->locks);
}

SAMPLE void sample_syscalls(struct ap_profile *p)
{
    p->syscalls = ap_syscalls_new(p->strings);
    sample_check(p->syscalls != NULL);
    for (unsigned i = 0; i < 6; i++) {
        struct ap_syscall_row *row =
            ap_syscalls_row(p->syscalls, i / 2, i / 2 != 0 ? 100 + i / 2 : 0, i / 2 == 2 ? "cc1" : "nginx",
                            i == 5 ? AP_SYSCALL_COMPAT : AP_SYSCALL_NATIVE, i == 4 ? 100000 : 424 + i);

        sample_check(row != NULL);
        row->count = 100 + i;
        row->total_ns = 1000 * i;
        row->max_ns = 500 + i;
        row->in_flight = i % 2;
        row->in_flight_max_ns = 7000 * (i % 2);
        sample_histogram(&row->histogram, i);
        for (unsigned j = 0; j < i; j++)
            sample_check(ap_syscall_row_error(row, 1 + j * 40, 1 + j) == 0);
    }
    ap_syscalls_sort(p->syscalls);
}

SAMPLE void sample_account(struct ap_account *account, unsigned seed)
{
    account->expected = 1000 + seed;
    account->delivered = 900 + seed;
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        account->losses[i] = seed * i;
    account->idle = 5 + seed;
    account->out_of_scope = 6 + seed;
    account->below_min = 7 + seed;
    account->below_min_ns = 8 + seed;
    account->folded = 9 + seed;
    account->unmatched = 10 + seed;
}

SAMPLE void sample_agent(struct ap_push *push)
{
    struct ap_agent_info *agent = &push->capture->agent;

    snprintf(agent->version, sizeof(agent->version), "0.1.0");
    snprintf(agent->host, sizeof(agent->host), "host-7");
    snprintf(agent->kernel, sizeof(agent->kernel), "6.18.0");
    snprintf(agent->arch, sizeof(agent->arch), "x86_64");
    snprintf(agent->event, sizeof(agent->event), "cpu-clock");
    agent->cpus_online = 2;
    agent->frequency = 99;
    agent->cpu_ns = 101;
    agent->other_cpu_ns = 102;
    agent->bpf_run_ns = 103;
    agent->bpf_run_cnt = 104;
    agent->rss_peak_bytes = 105;
    agent->bpf_memory_bytes = 106;
    push->spool_bytes = 107;
    push->spool_dropped_batches = 108;
    push->spool_dropped_events = 109;
}

/* One without profiles. */
SAMPLE struct ap_push *sample_empty(void)
{
    struct ap_push *push = ap_push_new();

    sample_check(push != NULL);
    push->start_ns = SAMPLE_START_NS;
    push->duration_ns = 5000000000;
    sample_check(ap_push_label(push, "host", "host-7", NULL) == 0);
    sample_agent(push);
    return push;
}

/* One of everything. */
SAMPLE struct ap_push *sample_push(void)
{
    struct ap_push *push = sample_empty();
    struct ap_profile *p;

    sample_check(ap_push_label(push, "service", "caf\xc3\xa9", NULL) == 0);
    sample_check(ap_push_label(push, "zone", "", NULL) == 0);
    p = sample_profile(push, AP_KIND_CPU);
    p->period_ns = 10101010;
    p->slot_ns = AP_PUSH_SLOT_NS;
    sample_samples(p, 60);
    sample_samples(sample_profile(push, AP_KIND_OFFCPU), 20);
    p = sample_profile(push, AP_KIND_LOCK);
    sample_samples(p, 10);
    sample_locks(p);
    p = sample_profile(push, AP_KIND_SYSCALL);
    sample_samples(p, 10);
    sample_syscalls(p);
    sample_profile(push, AP_KIND_GPU);
    for (unsigned i = 0; i < push->capture->profile_cnt; i++)
        sample_account(&push->capture->accounts[i], i);
    push->capture->left_out_cnt = 1;
    push->capture->left_out[0].kind = AP_KIND_GPU;
    snprintf(push->capture->left_out[0].reason, sizeof(push->capture->left_out[0].reason), "no device");
    ap_capture_unresolved(push->capture, "/usr/lib/libc.so.6", AP_UNRESOLVED_STRIPPED, 3, 30);
    ap_capture_unresolved(push->capture, "[kernel]", AP_UNRESOLVED_KPTR, 2, 20);
    push->capture->frames_total = 2048;
    push->capture->frames_unresolved = 50;
    return push;
}

/* A CPU profile of `samples` rows over `stacks` stacks of 8 to 39 frames, with slots. */
SAMPLE struct ap_push *sample_large(unsigned samples, unsigned stacks)
{
    struct ap_push *push = sample_empty();
    struct ap_profile *p = sample_profile(push, AP_KIND_CPU);
    uint32_t frames[3000], stack_ids[4096], series[100], random = 1;
    char text[128];

    sample_check(stacks <= 4096);
    p->period_ns = 10101010;
    p->slot_ns = AP_PUSH_SLOT_NS;
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "acme::orders::Pipeline<Stage%u>::advance(Context const&, unsigned)", i / 2);
        frames[i] =
            sample_frame(p, text, AP_FRAME_NATIVE, i % 3 != 0 ? "/usr/bin/app" : "/usr/lib/libc.so.6", 0x1000 + i * 16);
    }
    for (unsigned i = 0; i < stacks; i++) {
        uint32_t stack[40], depth = 8 + i % 32;

        for (unsigned j = 0; j < depth; j++) {
            random = random * 1664525 + 1013904223;
            /* Callers are shared more than leaves. */
            stack[depth - 1 - j] = frames[(random >> 8) % (1 + 75 * j)];
        }
        sample_check(ap_profile_add_stack(p, stack, depth, false, &stack_ids[i]) == 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "worker-%u", i);
        series[i] = sample_series(p, 1000 + i / 4, text);
    }
    while (p->sample_cnt < samples) {
        random = random * 1664525 + 1013904223;
        sample_check(ap_profile_add_sample_at(p, series[(random >> 8) % 100], stack_ids[(random >> 12) % stacks],
                                              p->sample_cnt * 250 / samples, 1, 10101010) == 0);
    }
    return push;
}

SAMPLE bool same_text(const struct ap_profile *a, uint32_t a_id, const struct ap_profile *b, uint32_t b_id)
{
    return strcmp(ap_profile_str(a, a_id), ap_profile_str(b, b_id)) == 0;
}

SAMPLE bool same_frames(const struct ap_profile *a, const struct ap_profile *b)
{
    if (a->mapping_cnt != b->mapping_cnt || a->frame_cnt != b->frame_cnt)
        return false;
    for (uint32_t i = 0; i < a->mapping_cnt; i++) {
        const struct ap_mapping *x = &a->mappings[i], *y = &b->mappings[i];

        if (!same_text(a, x->path, b, y->path) || x->build_id_len != y->build_id_len || x->start != y->start ||
            x->limit != y->limit || x->file_off != y->file_off ||
            memcmp(x->build_id, y->build_id, x->build_id_len) != 0)
            return false;
    }
    for (uint32_t i = 0; i < a->frame_cnt; i++) {
        const struct ap_frame *x = &a->frames[i], *y = &b->frames[i];

        if (!same_text(a, x->function, b, y->function) || !same_text(a, x->file, b, y->file) || x->kind != y->kind ||
            x->inlined != y->inlined || x->waker != y->waker || x->line != y->line || x->mapping != y->mapping ||
            x->offset != y->offset)
            return false;
    }
    return true;
}

SAMPLE bool same_samples(const struct ap_profile *a, const struct ap_profile *b)
{
    if (a->stack_cnt != b->stack_cnt || a->series_cnt != b->series_cnt || a->sample_cnt != b->sample_cnt)
        return false;
    for (uint32_t i = 0; i < a->stack_cnt; i++) {
        const struct ap_stack *x = &a->stacks[i], *y = &b->stacks[i];

        if (x->frame_cnt != y->frame_cnt || x->truncated != y->truncated ||
            memcmp(&a->stack_frames[x->first], &b->stack_frames[y->first], x->frame_cnt * sizeof(uint32_t)) != 0)
            return false;
    }
    for (uint32_t i = 0; i < a->series_cnt; i++) {
        const struct ap_series *x = &a->series[i], *y = &b->series[i];

        if (x->pid != y->pid || !same_text(a, x->comm, b, y->comm) || !same_text(a, x->exe, b, y->exe) ||
            !same_text(a, x->container, b, y->container))
            return false;
    }
    for (uint32_t i = 0; i < a->sample_cnt; i++) {
        const struct ap_sample *x = &a->samples[i], *y = &b->samples[i];

        if (x->series != y->series || x->stack != y->stack || x->slot != y->slot || x->count != y->count ||
            x->value != y->value)
            return false;
    }
    return ap_profile_total_count(a) == ap_profile_total_count(b) &&
           ap_profile_total_value(a) == ap_profile_total_value(b);
}

SAMPLE bool same_histogram(const struct ap_histogram *a, const struct ap_histogram *b)
{
    return a->cnt == b->cnt && a->first == b->first &&
           (a->cnt == 0 || memcmp(a->counts, b->counts, a->cnt * sizeof(*a->counts)) == 0);
}

SAMPLE bool same_sides(const struct ap_lock_side *a, const struct ap_lock_side *b, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt; i++)
        if (a[i].series != b[i].series || a[i].stack != b[i].stack || a[i].count != b[i].count ||
            a[i].total_ns != b[i].total_ns || a[i].max_ns != b[i].max_ns)
            return false;
    return true;
}

SAMPLE bool same_lock(const struct ap_profile *a, const struct ap_lock_row *x, const struct ap_profile *b,
                      const struct ap_lock_row *y)
{
    if (x->process != y->process || x->pid != y->pid || x->address != y->address || x->type != y->type ||
        x->kernel != y->kernel || x->waits != y->waits || x->total_ns != y->total_ns || x->max_ns != y->max_ns ||
        x->timeouts != y->timeouts || x->interrupted != y->interrupted || x->retried != y->retried ||
        x->timeout_ns != y->timeout_ns || x->interrupted_ns != y->interrupted_ns || x->in_flight != y->in_flight ||
        x->in_flight_ns != y->in_flight_ns || x->waiter_cnt != y->waiter_cnt || x->waker_cnt != y->waker_cnt ||
        x->pair_cnt != y->pair_cnt || !same_text(a, x->comm, b, y->comm) || !same_text(a, x->symbol, b, y->symbol))
        return false;
    for (uint32_t i = 0; i < x->pair_cnt; i++)
        if (x->pairs[i].waiter != y->pairs[i].waiter || x->pairs[i].waker != y->pairs[i].waker ||
            x->pairs[i].count != y->pairs[i].count || x->pairs[i].total_ns != y->pairs[i].total_ns ||
            x->pairs[i].max_ns != y->pairs[i].max_ns)
            return false;
    return same_histogram(&x->histogram, &y->histogram) && same_sides(x->waiters, y->waiters, x->waiter_cnt) &&
           same_sides(x->wakers, y->wakers, x->waker_cnt);
}

SAMPLE const char *syscall_name_of(const struct ap_profile *profile, const struct ap_syscall_row *row, char *buf)
{
    return row->name != 0 ? ap_profile_str(profile, row->name) : ap_syscall_name(row->abi, row->number, buf);
}

SAMPLE bool same_syscall(const struct ap_profile *a, const struct ap_syscall_row *x, const struct ap_profile *b,
                         const struct ap_syscall_row *y)
{
    char x_name[AP_SYSCALL_NAME_SZ], y_name[AP_SYSCALL_NAME_SZ];

    if (x->process != y->process || x->pid != y->pid || x->number != y->number || x->abi != y->abi ||
        x->count != y->count || x->total_ns != y->total_ns || x->max_ns != y->max_ns || x->in_flight != y->in_flight ||
        x->in_flight_max_ns != y->in_flight_max_ns || x->error_cnt != y->error_cnt ||
        !same_text(a, x->comm, b, y->comm) || strcmp(syscall_name_of(a, x, x_name), syscall_name_of(b, y, y_name)) != 0)
        return false;
    for (uint32_t i = 0; i < x->error_cnt; i++)
        if (x->errors[i].error != y->errors[i].error || x->errors[i].count != y->errors[i].count)
            return false;
    return same_histogram(&x->histogram, &y->histogram);
}

SAMPLE bool same_tables(const struct ap_profile *a, const struct ap_profile *b)
{
    if ((a->locks == NULL) != (b->locks == NULL) || (a->syscalls == NULL) != (b->syscalls == NULL))
        return false;
    if (a->locks != NULL && (a->locks->row_cnt != b->locks->row_cnt || a->locks->folded != b->locks->folded))
        return false;
    for (size_t i = 0; a->locks != NULL && i < a->locks->row_cnt; i++)
        if (!same_lock(a, a->locks->rows[i], b, b->locks->rows[i]))
            return false;
    if (a->syscalls != NULL &&
        (a->syscalls->row_cnt != b->syscalls->row_cnt || a->syscalls->folded != b->syscalls->folded))
        return false;
    for (size_t i = 0; a->syscalls != NULL && i < a->syscalls->row_cnt; i++)
        if (!same_syscall(a, a->syscalls->rows[i], b, b->syscalls->rows[i]))
            return false;
    return true;
}

SAMPLE bool same_capture(const struct ap_capture *a, const struct ap_capture *b)
{
    if (memcmp(&a->agent.cpus_online, &b->agent.cpus_online, sizeof(a->agent.cpus_online)) != 0 ||
        strcmp(a->agent.version, b->agent.version) != 0 || strcmp(a->agent.host, b->agent.host) != 0 ||
        strcmp(a->agent.kernel, b->agent.kernel) != 0 || strcmp(a->agent.arch, b->agent.arch) != 0 ||
        strcmp(a->agent.event, b->agent.event) != 0 || a->agent.frequency != b->agent.frequency ||
        a->agent.cpu_ns != b->agent.cpu_ns || a->agent.other_cpu_ns != b->agent.other_cpu_ns ||
        a->agent.bpf_run_ns != b->agent.bpf_run_ns || a->agent.bpf_run_cnt != b->agent.bpf_run_cnt ||
        a->agent.rss_peak_bytes != b->agent.rss_peak_bytes || a->agent.bpf_memory_bytes != b->agent.bpf_memory_bytes)
        return false;
    if (a->left_out_cnt != b->left_out_cnt || a->unresolved_cnt != b->unresolved_cnt ||
        a->frames_total != b->frames_total || a->frames_unresolved != b->frames_unresolved)
        return false;
    for (unsigned i = 0; i < a->left_out_cnt; i++)
        if (a->left_out[i].kind != b->left_out[i].kind || strcmp(a->left_out[i].reason, b->left_out[i].reason) != 0)
            return false;
    for (unsigned i = 0; i < a->unresolved_cnt; i++)
        if (strcmp(a->unresolved[i].module, b->unresolved[i].module) != 0 ||
            a->unresolved[i].reason != b->unresolved[i].reason || a->unresolved[i].frames != b->unresolved[i].frames ||
            a->unresolved[i].samples != b->unresolved[i].samples)
            return false;
    return true;
}

/* Everything that a batch carries; not the numbers that the request around it has. */
SAMPLE bool same_push(const struct ap_push *a, const struct ap_push *b)
{
    if (a->start_ns != b->start_ns || a->duration_ns != b->duration_ns || a->label_cnt != b->label_cnt ||
        a->spool_bytes != b->spool_bytes || a->spool_dropped_batches != b->spool_dropped_batches ||
        a->spool_dropped_events != b->spool_dropped_events || a->capture->profile_cnt != b->capture->profile_cnt ||
        !same_capture(a->capture, b->capture))
        return false;
    for (size_t i = 0; i < a->label_cnt; i++)
        if (strcmp(a->labels[i].name, b->labels[i].name) != 0 || strcmp(a->labels[i].value, b->labels[i].value) != 0)
            return false;
    for (unsigned i = 0; i < a->capture->profile_cnt; i++) {
        const struct ap_profile *x = a->capture->profiles[i], *y = b->capture->profiles[i];

        if (x->kind != y->kind || x->start_ns != y->start_ns || x->duration_ns != y->duration_ns ||
            x->period_ns != y->period_ns || x->slot_ns != y->slot_ns || !same_frames(x, y) || !same_samples(x, y) ||
            !same_tables(x, y) ||
            memcmp(&a->capture->accounts[i], &b->capture->accounts[i], sizeof(struct ap_account)) != 0)
            return false;
    }
    return true;
}

#endif
