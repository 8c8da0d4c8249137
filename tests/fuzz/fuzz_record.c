/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Records from the kernel: process events and what BPF programs send. The input is a row of entries, each one byte of
 * kind (0 = perf record, 1 = record that is a whole trace, 2 = record of a wait, ended by the task of the record before
 * it), two of length, and that many bytes. */
#include "agent/collect.h"
#include "agent/programs.h"
#include "agent/sideband.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY_KINDS   3
#define ENTRY_HEAD_SZ 3
#define ENTRIES_MAX   256
/* Both halves of a task and its waker, whose thread name and marks come on top. */
#define FRAMES_MAX (2 * (AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX) + 3)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* Few processes, so that events and samples meet: none, this one, and some that no system has. */
static uint32_t few(uint32_t pid)
{
    switch (pid % 8) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)getpid();
    default:
        return 0x10000000u + pid % 8;
    }
}

static void take_event(struct ap_processes *processes, const char *bytes, size_t len)
{
    struct ap_process_event event;
    uint64_t lost = 0;
    int rc = ap_sideband_decode(bytes, len, &event, &lost);

    check(rc == 1 || rc == 0 || rc == -EINVAL);
    if (rc != 1)
        return;
    check(event.type >= AP_PROCESS_FORK && event.type <= AP_PROCESS_MMAP);
    if (event.type == AP_PROCESS_MMAP) {
        check(event.start < event.end);
        check(event.path > bytes && event.path + strlen(event.path) < bytes + len);
        event.path = event.inode ? "/nonexistent" : event.path; /* opens nothing */
    }
    event.pid = few(event.pid);
    event.ppid = few(event.ppid);
    if (event.type != AP_PROCESS_FORK || event.pid != event.ppid) /* what decoding takes for a thread */
        ap_processes_event(processes, &event);
    if (event.type == AP_PROCESS_EXIT)
        ap_processes_sweep(processes, event.time_ns + 1);
}

/* Takes a record of `len` bytes; `waker` may be NULL. False when it is refused. */
static bool take_record(struct ap_collect *collect, char *bytes, size_t len, const struct ap_record *waker)
{
    uint64_t samples = collect->samples, losses = collect->losses[AP_LOSS_TABLE_FULL];
    const struct ap_record *record = (const struct ap_record *)bytes;
    struct ap_trace *trace;
    struct ap_record head;

    if (ap_record_check(bytes, len))
        return false;
    memcpy(&head, bytes, sizeof(head));
    head.pid = few(head.pid);
    memcpy(bytes, &head, sizeof(head));
    if (waker) {
        ap_collect_begin(collect, record);
        ap_collect_waker(collect, waker);
        ap_collect_frames(collect);
        ap_collect_pseudo(collect, AP_PSEUDO_MARK, head.number % AP_MARK_CNT);
        trace = ap_collect_end(collect, 1, head.duration_ns);
    } else {
        trace = ap_collect_sample(collect, record, 1, head.duration_ns);
    }
    check(trace && collect->samples == samples + 1 && collect->losses[AP_LOSS_TABLE_FULL] == losses);
    return true;
}

/* Every sample is in one trace, every frame of it in one location. */
static void check_sums(const struct ap_collect *collect)
{
    uint64_t samples = 0, frames = 0, occurrences = 0;
    size_t i, j;

    for (i = 0; i < collect->trace_cnt; i++) {
        const struct ap_trace *trace = collect->traces[i];

        check(trace->cnt > 0 && trace->cnt <= FRAMES_MAX);
        check(trace->series < collect->registry->series_cnt);
        for (j = 0; j < trace->cnt; j++)
            check(trace->locations[j] < collect->location_cnt);
        samples += trace->count;
        frames += trace->count * trace->cnt;
    }
    for (i = 0; i < collect->location_cnt; i++)
        occurrences += collect->locations[i]->samples;
    check(samples == collect->samples && frames == occurrences);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_processes *processes = ap_processes_new(modules);
    struct ap_collect *collect = ap_collect_new(processes, AP_KIND_OFFCPU);
    char *last = NULL; /* the last record that was taken */
    unsigned cnt;

    check(modules && processes && collect);
    for (cnt = 0; size >= ENTRY_HEAD_SZ && cnt < ENTRIES_MAX; cnt++) {
        size_t len = data[1] | (size_t)data[2] << 8;
        unsigned kind = data[0] % ENTRY_KINDS;
        char *bytes;

        data += ENTRY_HEAD_SZ;
        size -= ENTRY_HEAD_SZ;
        len = len < size ? len : size;
        bytes = malloc(len ? len : 1); /* of exactly this size, aligned as in the rings */
        check(bytes != NULL);
        memcpy(bytes, data, len);
        if (kind == 0)
            take_event(processes, bytes, len);
        if (kind != 0 && take_record(collect, bytes, len, kind == 2 ? (const struct ap_record *)last : NULL)) {
            free(last);
            last = bytes;
            bytes = NULL;
        }
        free(bytes);
        data += len;
        size -= len;
    }
    check_sums(collect);
    free(last);
    ap_collect_free(collect);
    ap_processes_free(processes);
    ap_modules_free(modules);
    return 0;
}
