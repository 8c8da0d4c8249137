/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Records from the kernel: process events and samples. The input is a row of entries, each one byte of kind (0 = perf
 * record, 1 = sample), two of length, and that many bytes. */
#include "agent/collect.h"
#include "agent/sideband.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRY_KINDS   2
#define ENTRY_HEAD_SZ 3
#define ENTRIES_MAX   256

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

static void take_sample(struct ap_collect *collect, char *bytes, size_t len)
{
    struct ap_cpu_record head;
    uint64_t samples = collect->samples;

    if (ap_record_check(bytes, len))
        return;
    memcpy(&head, bytes, sizeof(head));
    head.pid = few(head.pid);
    memcpy(bytes, &head, sizeof(head));
    ap_collect_sample(collect, (const struct ap_cpu_record *)bytes);
    check(collect->samples == samples + 1);
}

/* Every sample is in one trace, every frame of it in one location. */
static void check_sums(const struct ap_collect *collect)
{
    uint64_t samples = 0, frames = 0, occurrences = 0;
    size_t i, j;

    for (i = 0; i < collect->trace_cnt; i++) {
        const struct ap_trace *trace = collect->traces[i];

        check(trace->cnt > 0 && trace->cnt <= AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX);
        check(trace->series < collect->profile->series_cnt);
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
    struct ap_collect *collect = ap_collect_new(processes);
    unsigned cnt;

    check(modules && processes && collect);
    for (cnt = 0; size >= ENTRY_HEAD_SZ && cnt < ENTRIES_MAX; cnt++) {
        size_t len = data[1] | (size_t)data[2] << 8;
        bool is_sample = data[0] % ENTRY_KINDS;
        char *bytes;

        data += ENTRY_HEAD_SZ;
        size -= ENTRY_HEAD_SZ;
        len = len < size ? len : size;
        bytes = malloc(len ? len : 1); /* of exactly this size, aligned as in the rings */
        check(bytes != NULL);
        memcpy(bytes, data, len);
        if (is_sample)
            take_sample(collect, bytes, len);
        else
            take_event(processes, bytes, len);
        free(bytes);
        data += len;
        size -= len;
    }
    check_sums(collect);
    ap_collect_free(collect);
    ap_processes_free(processes);
    ap_modules_free(modules);
    return 0;
}
