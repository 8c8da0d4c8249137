/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/collect.h"

#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_FRAMES_MAX (AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX)

/* The part of a trace that makes it the same as another. */
#define TRACE_KEY(trace)     (&(trace)->series)
#define TRACE_KEY_SZ(frames) (3 * sizeof(uint32_t) + (frames) * sizeof(uint32_t))

struct location_key {
    uint32_t module, zero;
    uint64_t offset;
};

struct location_entry {
    struct ap_location location;
    struct location_key key;
};

struct ap_collect_index {
    struct ap_processes *processes;
    struct ap_map locations, traces;
    size_t location_cap, trace_cap;
    union {
        struct ap_trace trace;
        char room[sizeof(struct ap_trace) + TRACE_FRAMES_MAX * sizeof(uint32_t)];
    } scratch;
};

/* The array of pointers with room for one more, moved when it had to grow; NULL without memory (it is kept then). */
static void *grow(void *array, size_t cnt, size_t *cap)
{
    size_t wanted = *cap ? *cap * 2 : 1024;
    void *bigger;

    if (cnt < *cap)
        return array;
    bigger = realloc(array, wanted * sizeof(void *));
    if (bigger)
        *cap = wanted;
    return bigger;
}

static int add_location(struct ap_collect *collect, uint32_t module, uint64_t offset, uint32_t *ret_id)
{
    struct location_key key = {.module = module, .offset = offset};
    struct ap_collect_index *index = collect->index;
    struct ap_location **locations;
    struct location_entry *entry;

    entry = ap_map_get(&index->locations, &key, sizeof(key));
    if (!entry) {
        locations = grow(collect->locations, collect->location_cnt, &index->location_cap);
        if (!locations)
            return -ENOMEM;
        collect->locations = locations;
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return -ENOMEM;
        entry->key = key;
        entry->location = (struct ap_location){module, (uint32_t)collect->location_cnt, offset, 0};
        if (ap_map_put(&index->locations, &entry->key, sizeof(entry->key), entry)) {
            free(entry);
            return -ENOSPC;
        }
        locations[collect->location_cnt++] = &entry->location;
    }
    *ret_id = entry->location.id;
    return 0;
}

struct ap_collect *ap_collect_new(struct ap_processes *processes)
{
    struct ap_collect *collect = calloc(1, sizeof(*collect));
    uint32_t id;

    if (!collect)
        return NULL;
    collect->index = calloc(1, sizeof(*collect->index));
    collect->profile = ap_profile_new(AP_KIND_CPU);
    if (!collect->index || !collect->profile)
        return ap_collect_free(collect);
    collect->index->processes = processes;
    ap_map_init(&collect->index->locations, AP_LOCATIONS_MAX);
    ap_map_init(&collect->index->traces, AP_TRACES_MAX);
    if (add_location(collect, UINT32_MAX, 0, &id)) /* AP_LOCATION_NO_STACK */
        return ap_collect_free(collect);
    return collect;
}

struct ap_collect *ap_collect_free(struct ap_collect *collect)
{
    size_t i;

    if (!collect)
        return NULL;
    for (i = 0; i < collect->location_cnt; i++)
        free(collect->locations[i]); /* the first member of its entry */
    for (i = 0; i < collect->trace_cnt; i++)
        free(collect->traces[i]);
    free(collect->locations);
    free(collect->traces);
    if (collect->index) {
        ap_map_done(&collect->index->locations);
        ap_map_done(&collect->index->traces);
        free(collect->index);
    }
    ap_profile_free(collect->profile);
    free(collect);
    return NULL;
}

int ap_record_check(const void *record, size_t len)
{
    struct ap_cpu_record head;

    if (len < AP_CPU_RECORD_HEAD_SZ)
        return -EINVAL;
    memcpy(&head, record, sizeof(head));
    if (head.version != AP_RECORD_VERSION || head.type != AP_RECORD_CPU || head.kernel_cnt > AP_KERNEL_FRAMES_MAX ||
        head.user_cnt > AP_USER_FRAMES_MAX || !memchr(head.comm, '\0', sizeof(head.comm)))
        return -EINVAL;
    /* the ring buffer rounds lengths up to 8 */
    return len < AP_CPU_RECORD_HEAD_SZ + (head.kernel_cnt + (size_t)head.user_cnt) * sizeof(uint64_t) ? -EINVAL : 0;
}

/* Appends the user half. A stack that leaves all mappings is cut there and marked as truncated. */
static int add_user_frames(struct ap_collect *collect, const struct ap_cpu_record *record, const uint64_t *addrs,
                           struct ap_process *process, struct ap_trace *trace)
{
    uint32_t module, i;
    uint64_t offset;
    int rc;

    for (i = 0; i < record->user_cnt; i++) {
        /* callers are found by the call instruction, which lies before the address it returns to */
        uint64_t addr = addrs[i] - (i > 0);

        if (!record->pid) {
            module = AP_MODULE_ID_NAMESPACE;
            offset = addr;
        } else if (!process) {
            module = AP_MODULE_ID_PROCESS_GONE;
            offset = addr;
        } else {
            module = ap_process_locate(collect->index->processes, process, addr, &offset);
        }
        if (module == AP_MODULE_ID_NO_MAPPING && i > 0) {
            /* no code returns there: a function without frame pointer led the walk astray, what follows is noise */
            trace->flags |= AP_RECORD_USER_TRUNCATED;
            return add_location(collect, module, 0, &trace->locations[trace->cnt++]);
        }
        rc = add_location(collect, module, offset, &trace->locations[trace->cnt]);
        if (rc)
            return rc;
        trace->cnt++;
    }
    return 0;
}

static int add_frames(struct ap_collect *collect, const struct ap_cpu_record *record, struct ap_process *process,
                      struct ap_trace *trace)
{
    const uint64_t *addrs = (const uint64_t *)(record + 1);
    uint32_t i;
    int rc;

    trace->cnt = 0;
    for (i = 0; i < record->kernel_cnt; i++) {
        rc = add_location(collect, AP_MODULE_ID_KERNEL, addrs[i] - (i > 0), &trace->locations[trace->cnt]);
        if (rc)
            return rc;
        trace->cnt++;
    }
    rc = add_user_frames(collect, record, addrs + record->kernel_cnt, process, trace);
    if (!rc && !trace->cnt) {
        collect->losses[AP_LOSS_NO_STACK]++;
        trace->locations[trace->cnt++] = AP_LOCATION_NO_STACK;
    }
    return rc;
}

static int add_series(struct ap_collect *collect, const struct ap_cpu_record *record, const struct ap_process *process,
                      uint32_t *ret_series)
{
    struct ap_strings *strings = collect->profile->strings;
    struct ap_series series = {.pid = record->pid, .comm = ap_strings_id(strings, record->comm)};

    if (process) {
        series.exe = ap_strings_id(strings, ap_process_exe(process));
        series.container = ap_strings_id(strings, ap_process_container(process));
    }
    return ap_profile_add_series(collect->profile, &series, ret_series);
}

/* Finds or makes the trace that equals the scratch one. NULL past the bound or without memory. */
static struct ap_trace *intern_trace(struct ap_collect *collect)
{
    struct ap_collect_index *index = collect->index;
    const struct ap_trace *wanted = &index->scratch.trace;
    size_t key_sz = TRACE_KEY_SZ(wanted->cnt);
    struct ap_trace *trace = ap_map_get(&index->traces, TRACE_KEY(wanted), key_sz), **traces;

    if (trace)
        return trace;
    traces = grow(collect->traces, collect->trace_cnt, &index->trace_cap);
    if (!traces)
        return NULL;
    collect->traces = traces;
    trace = malloc(sizeof(*trace) + wanted->cnt * sizeof(trace->locations[0]));
    if (!trace)
        return NULL;
    memcpy(trace, wanted, sizeof(*trace) + wanted->cnt * sizeof(trace->locations[0]));
    trace->count = 0;
    if (ap_map_put(&index->traces, TRACE_KEY(trace), key_sz, trace)) {
        free(trace);
        return NULL;
    }
    traces[collect->trace_cnt++] = trace;
    return trace;
}

void ap_collect_sample(struct ap_collect *collect, const struct ap_cpu_record *record)
{
    struct ap_trace *scratch = &collect->index->scratch.trace, *trace = NULL;
    struct ap_process *process = NULL;
    uint32_t i;

    if (record->pid && !(record->flags & AP_RECORD_KERNEL_THREAD))
        process = ap_processes_sampled(collect->index->processes, record->pid, record->ns_pid);
    scratch->flags = record->flags & (AP_RECORD_KERNEL_TRUNCATED | AP_RECORD_USER_TRUNCATED);
    if (!add_series(collect, record, process, &scratch->series) && !add_frames(collect, record, process, scratch))
        trace = intern_trace(collect);
    if (!trace) {
        collect->losses[AP_LOSS_TABLE_FULL]++;
        return;
    }
    trace->count++;
    collect->samples++;
    for (i = 0; i < trace->cnt; i++)
        collect->locations[trace->locations[i]]->samples++;
}
