/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/collect.h"

#include "agent/leaf.h"
#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Both halves, those of a waker, and marks. */
#define TRACE_FRAMES_MAX (2 * (AP_KERNEL_FRAMES_MAX + AP_LEAF_FRAMES_MAX) + 8)

/* Frames among which the tracepoint's own are looked for: our program, bpf_trace_runN, __bpf_trace_X, __traceiter_X. */
#define SKIP_DEPTH 6

/* The part of a trace that makes it the same as another. */
#define TRACE_KEY(trace)     (&(trace)->series)
#define TRACE_KEY_SZ(frames) (3 * sizeof(uint32_t) + (frames) * sizeof(uint32_t))

struct location_key {
    uint32_t module, waker;
    uint64_t offset;
};

struct location_entry {
    struct ap_location location;
    struct location_key key;
};

/* Places among which a location is looked for first, by module and offset; a power of two. */
#define RECENT_LOCATIONS 1024

struct ap_collect_index {
    struct ap_processes *processes;
    struct location_entry *recent[RECENT_LOCATIONS];
    struct ap_unwind_cache rules;
    struct ap_map locations, traces;
    size_t location_cap, trace_cap;
    uint32_t *of_module; /* the newest location of each; AP_LOCATION_NO_STACK = none */
    size_t of_module_cap;
    struct {
        uint64_t start, end;
    } skips[AP_COLLECT_SKIPS_MAX];
    uint32_t skip_cnt;
    /* the trace in work */
    const struct ap_record *record;
    struct ap_process *process; /* its process; NULL for kernel threads and what is not visible */
    uint64_t time_ns;           /* when it happened, CLOCK_MONOTONIC */
    bool failed;
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

static struct location_entry **recent_place(struct ap_collect_index *index, const struct location_key *key)
{
    uint64_t hash = (key->offset + ((uint64_t)key->module << 33 | (uint64_t)key->waker << 32)) * 0x9e3779b97f4a7c15ULL;

    return &index->recent[hash >> 32 & (RECENT_LOCATIONS - 1)];
}

/* Puts a location on the list of its module. */
static int list_location(struct ap_collect_index *index, struct ap_location *location)
{
    size_t cap = (size_t)location->module * 2 + 64;
    uint32_t *of_module;

    if (location->module >= AP_PSEUDO_FIRST)
        return 0;
    if (location->module >= index->of_module_cap) {
        of_module = realloc(index->of_module, cap * sizeof(*of_module));
        if (!of_module)
            return -ENOMEM;
        memset(of_module + index->of_module_cap, 0, (cap - index->of_module_cap) * sizeof(*of_module));
        index->of_module = of_module;
        index->of_module_cap = cap;
    }
    location->next = index->of_module[location->module];
    index->of_module[location->module] = location->id;
    return 0;
}

static int intern_location(struct ap_collect *collect, uint32_t module, uint64_t offset, bool waker, uint32_t *ret_id)
{
    struct location_key key = {.module = module, .waker = waker, .offset = offset};
    struct ap_collect_index *index = collect->index;
    struct location_entry **recent = recent_place(index, &key), *entry = *recent;
    struct ap_location **locations;

    if (entry && !memcmp(&entry->key, &key, sizeof(key))) {
        *ret_id = entry->location.id;
        return 0;
    }
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
        entry->location = (struct ap_location){
            .module = module, .waker = waker, .id = (uint32_t)collect->location_cnt, .offset = offset};
        if (ap_map_put(&index->locations, &entry->key, sizeof(entry->key), entry)) {
            free(entry);
            return -ENOSPC;
        }
        if (list_location(index, &entry->location)) {
            ap_map_remove(&index->locations, &entry->key, sizeof(entry->key));
            free(entry);
            return -ENOMEM;
        }
        locations[collect->location_cnt++] = &entry->location;
    }
    *recent = entry;
    *ret_id = entry->location.id;
    return 0;
}

static void free_trace(struct ap_trace *trace)
{
    free(trace->slots);
    free(trace);
}

struct ap_collect *ap_collect_new(struct ap_processes *processes, uint8_t kind)
{
    struct ap_collect *collect = calloc(1, sizeof(*collect));
    uint32_t id;

    if (!collect)
        return NULL;
    collect->index = calloc(1, sizeof(*collect->index));
    collect->profile = ap_profile_new(kind);
    collect->registry = ap_profile_new(kind);
    if (!collect->index || !collect->profile || !collect->registry)
        return ap_collect_free(collect);
    collect->index->processes = processes;
    ap_map_init(&collect->index->locations, AP_LOCATIONS_MAX);
    ap_map_init(&collect->index->traces, AP_TRACES_MAX);
    if (intern_location(collect, AP_PSEUDO_NONE, 0, false, &id)) /* AP_LOCATION_NO_STACK */
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
        free_trace(collect->traces[i]);
    free(collect->locations);
    free(collect->traces);
    if (collect->index) {
        ap_map_done(&collect->index->locations);
        ap_map_done(&collect->index->traces);
        free(collect->index->of_module);
        free(collect->index);
    }
    ap_profile_free(collect->profile);
    ap_profile_free(collect->registry);
    free(collect);
    return NULL;
}

/* Appends a location to the trace in work. False when it failed. */
static bool push(struct ap_collect *collect, uint32_t module, uint64_t offset, bool waker)
{
    struct ap_collect_index *index = collect->index;
    struct ap_trace *trace = &index->scratch.trace;

    if (index->failed || trace->cnt == TRACE_FRAMES_MAX ||
        intern_location(collect, module, offset, waker, &trace->locations[trace->cnt]))
        index->failed = true;
    else
        trace->cnt++;
    return !index->failed;
}

/* A stack that leaves all mappings is cut there and marked as truncated. */
static void push_user_frames(struct ap_collect *collect, const struct ap_record *record, struct ap_process *process,
                             bool waker)
{
    uint64_t addrs[AP_LEAF_FRAMES_MAX], offset;
    uint32_t cnt, module, i;
    bool cut;

    cnt = ap_leaf_repair(collect->index->processes, process, &collect->index->rules, record, addrs, &cut);
    if (cut)
        collect->index->scratch.trace.flags |= AP_RECORD_USER_TRUNCATED;
    for (i = 0; i < cnt; i++) {
        /* callers are found by the call instruction, which lies before the address it returns to */
        uint64_t addr = addrs[i] - (i > 0);

        offset = addr;
        if (!record->pid)
            module = AP_MODULE_ID_NAMESPACE;
        else if (!process)
            module = AP_MODULE_ID_PROCESS_GONE;
        else
            module = ap_process_locate(collect->index->processes, process, addr, &offset);
        if (module == AP_MODULE_ID_NO_MAPPING && i > 0) {
            /* no code returns there: a function without frame pointer led the walk astray, what follows is noise */
            collect->index->scratch.trace.flags |= AP_RECORD_USER_TRUNCATED;
            push(collect, module, 0, waker);
            return;
        }
        if (!push(collect, module, offset, waker))
            return;
    }
}

/* The first kernel frame that is not our own way in. */
static uint32_t skipped(const struct ap_collect_index *index, const uint64_t *addrs, uint32_t cnt)
{
    uint32_t first = 0, i, j;

    for (i = 0; i < cnt && i < SKIP_DEPTH; i++)
        for (j = 0; j < index->skip_cnt; j++)
            if (addrs[i] >= index->skips[j].start && addrs[i] < index->skips[j].end)
                first = i + 1;
    return first;
}

static void push_frames(struct ap_collect *collect, const struct ap_record *record, struct ap_process *process,
                        bool waker)
{
    const uint64_t *addrs = (const uint64_t *)(record + 1);
    uint32_t i;

    i = skipped(collect->index, addrs, record->kernel_cnt);
    for (; i < record->kernel_cnt; i++) /* of a task that does not run all are return addresses */
        if (!push(collect, AP_MODULE_ID_KERNEL, addrs[i] - (i > 0 || record->type == AP_RECORD_OFFCPU), waker))
            return;
    push_user_frames(collect, record, process, waker);
}

static struct ap_process *process_of(struct ap_collect *collect, const struct ap_record *record)
{
    if (!record->pid || record->flags & AP_RECORD_KERNEL_THREAD)
        return NULL;
    return ap_processes_sampled(collect->index->processes, record->pid, record->ns_pid);
}

static int add_series(struct ap_collect *collect, const struct ap_record *record, const struct ap_process *process,
                      uint32_t *ret_series)
{
    struct ap_strings *strings = collect->registry->strings;
    struct ap_series series = {.pid = record->pid, .comm = ap_strings_id(strings, record->comm)};

    if (process) {
        series.exe = ap_strings_id(strings, ap_process_exe(process));
        series.container = ap_strings_id(strings, ap_process_container(process));
    }
    return ap_profile_add_series(collect->registry, &series, ret_series);
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
    trace->count = trace->value = 0;
    trace->slots = NULL;
    trace->slot_cnt = trace->idle = 0;
    trace->wanted = trace->held = false;
    trace->stack = trace->profile_series = UINT32_MAX;
    if (ap_map_put(&index->traces, TRACE_KEY(trace), key_sz, trace)) {
        free(trace);
        return NULL;
    }
    traces[collect->trace_cnt++] = trace;
    return trace;
}

void ap_collect_skip(struct ap_collect *collect, uint64_t start, uint64_t end)
{
    struct ap_collect_index *index = collect->index;

    if (index->skip_cnt == AP_COLLECT_SKIPS_MAX)
        return;
    index->skips[index->skip_cnt].start = start;
    index->skips[index->skip_cnt++].end = end;
}

void ap_collect_begin(struct ap_collect *collect, const struct ap_record *record)
{
    struct ap_collect_index *index = collect->index;

    index->record = record;
    index->process = process_of(collect, record);
    index->failed = false;
    index->time_ns = record->time_ns;
    index->scratch.trace.cnt = 0;
    index->scratch.trace.flags = record->flags & (AP_RECORD_KERNEL_TRUNCATED | AP_RECORD_USER_TRUNCATED);
    if (add_series(collect, record, index->process, &index->scratch.trace.series))
        index->failed = true;
}

void ap_collect_waker(struct ap_collect *collect, const struct ap_record *waker)
{
    struct ap_trace *trace = &collect->index->scratch.trace;
    uint32_t flags = trace->flags, first, i, id;

    push(collect, AP_PSEUDO_THREAD, ap_strings_id(collect->registry->strings, waker->comm), true);
    first = trace->cnt;
    push_frames(collect, waker, process_of(collect, waker), true);
    trace->flags = flags; /* of the wait itself */
    for (i = 0; i < (trace->cnt - first) / 2; i++) {
        id = trace->locations[first + i];
        trace->locations[first + i] = trace->locations[trace->cnt - 1 - i];
        trace->locations[trace->cnt - 1 - i] = id;
    }
    push(collect, AP_PSEUDO_MARK, AP_MARK_WOKEN_BY, true);
}

void ap_collect_frames(struct ap_collect *collect)
{
    push_frames(collect, collect->index->record, collect->index->process, false);
}

void ap_collect_pseudo(struct ap_collect *collect, uint32_t module, uint64_t offset)
{
    push(collect, module, offset, false);
}

struct ap_trace *ap_collect_end(struct ap_collect *collect, uint64_t count, uint64_t value)
{
    struct ap_collect_index *index = collect->index;
    struct ap_trace *trace = NULL, *scratch = &index->scratch.trace;

    if (!index->failed && !scratch->cnt)
        scratch->locations[scratch->cnt++] = AP_LOCATION_NO_STACK;
    if (!index->failed)
        trace = intern_trace(collect);
    if (!trace) {
        collect->losses[AP_LOSS_TABLE_FULL] += count;
        return NULL;
    }
    if (trace->cnt && trace->locations[0] == AP_LOCATION_NO_STACK)
        collect->losses[AP_LOSS_NO_STACK] += count;
    collect->samples += count;
    ap_collect_credit(collect, trace, count, value);
    return trace;
}

void ap_collect_each(const struct ap_collect *collect, uint32_t module, ap_collect_location_fn fn, void *ctx)
{
    const struct ap_collect_index *index = collect->index;
    uint32_t id = module < index->of_module_cap ? index->of_module[module] : AP_LOCATION_NO_STACK;

    for (; id != AP_LOCATION_NO_STACK; id = collect->locations[id]->next)
        fn(ctx, collect->locations[id]);
}

/* The slot at `slot`, made when it is not the newest; the one before without memory (NULL when there is none). */
static struct ap_trace_slot *slot_at(struct ap_trace *trace, uint32_t slot)
{
    struct ap_trace_slot *slots, *last = trace->slot_cnt ? &trace->slots[trace->slot_cnt - 1] : NULL;

    if (last && last->slot == slot)
        return last;
    if (!(trace->slot_cnt & (trace->slot_cnt - 1))) { /* full: there is room for a power of two */
        slots = realloc(trace->slots, (trace->slot_cnt ? trace->slot_cnt * 2 : 1) * sizeof(*slots));
        if (!slots)
            return last;
        trace->slots = slots;
    }
    if (!trace->slots)
        return NULL;
    trace->slots[trace->slot_cnt] = (struct ap_trace_slot){.slot = slot};
    return &trace->slots[trace->slot_cnt++];
}

void ap_collect_credit(struct ap_collect *collect, struct ap_trace *trace, uint64_t count, uint64_t value)
{
    struct ap_trace_slot *slot;
    uint32_t i;

    trace->count += count;
    trace->value += value;
    slot = collect->slot_ns && count ? slot_at(trace, (uint32_t)(collect->index->time_ns / collect->slot_ns)) : NULL;
    if (slot) {
        slot->count += (uint32_t)count;
        slot->value += value;
    }
    for (i = 0; i < trace->cnt; i++)
        collect->locations[trace->locations[i]]->samples += count;
}

struct ap_trace *ap_collect_sample(struct ap_collect *collect, const struct ap_record *record, uint64_t count,
                                   uint64_t value)
{
    ap_collect_begin(collect, record);
    ap_collect_frames(collect);
    return ap_collect_end(collect, count, value);
}

/* Spans
 * ----------------------------------------------------------------------------------------------------------------------
 */

static void begin_span(struct ap_collect *collect, struct ap_trace *trace)
{
    uint32_t i;

    trace->wanted = false;
    trace->stack = trace->profile_series = UINT32_MAX;
    if (trace->held && !collect->stacks_only) { /* its counts go on */
        trace->held = false;
        for (i = 0; i < trace->cnt; i++)
            collect->locations[trace->locations[i]]->samples += trace->count;
        return;
    }
    trace->idle = trace->count ? 0 : trace->idle + 1;
    trace->count = trace->value = 0;
    free(trace->slots);
    trace->slots = NULL;
    trace->slot_cnt = 0;
}

/* The location in another collect; the thread names of wakers are numbered anew. */
static int move_location(struct ap_collect *to, const struct ap_collect *from, uint32_t id, uint32_t *ret_id)
{
    const struct ap_location *location = from->locations[id];
    uint64_t offset = location->offset;
    int rc;

    if (location->module == AP_PSEUDO_THREAD)
        offset = ap_strings_id(to->registry->strings, ap_profile_str(from->registry, (uint32_t)offset));
    rc = intern_location(to, location->module, offset, location->waker, ret_id);
    return rc;
}

static int move_trace(struct ap_collect *to, const struct ap_collect *from, struct ap_trace *trace)
{
    struct ap_strings *strings = to->registry->strings;
    struct ap_series series = from->registry->series[trace->series];
    struct ap_trace **traces;
    uint32_t i;
    int rc = 0;

    series.comm = ap_strings_id(strings, ap_profile_str(from->registry, series.comm));
    series.exe = ap_strings_id(strings, ap_profile_str(from->registry, series.exe));
    series.container = ap_strings_id(strings, ap_profile_str(from->registry, series.container));
    rc = ap_profile_add_series(to->registry, &series, &trace->series);
    for (i = 0; !rc && i < trace->cnt; i++)
        rc = move_location(to, from, trace->locations[i], &trace->locations[i]);
    traces = rc ? NULL : grow(to->traces, to->trace_cnt, &to->index->trace_cap);
    if (!traces)
        return rc ? rc : -ENOMEM;
    to->traces = traces;
    rc = ap_map_put(&to->index->traces, TRACE_KEY(trace), TRACE_KEY_SZ(trace->cnt), trace);
    if (rc)
        return rc;
    to->traces[to->trace_cnt++] = trace;
    for (i = 0; to->locations && i < trace->cnt; i++)
        to->locations[trace->locations[i]]->samples += trace->count;
    return 0;
}

/* Keeps what the last span had or held, in tables made anew; the rest is forgotten. Without memory all stays. */
static void forget_idle(struct ap_collect *collect)
{
    struct ap_collect *fresh = ap_collect_new(collect->index->processes, collect->registry->kind), old;
    struct ap_collect_index *index;
    size_t i;

    if (!fresh)
        return;
    for (i = 0; i < collect->trace_cnt; i++) {
        if (!collect->traces[i]->idle && !move_trace(fresh, collect, collect->traces[i]))
            continue;
        collect->losses[AP_LOSS_TABLE_FULL] += collect->traces[i]->count; /* held, and no memory to keep it */
        free_trace(collect->traces[i]);
    }
    /* the two change places, but for what belongs to the whole recording */
    old = *collect;
    collect->registry = fresh->registry;
    collect->locations = fresh->locations;
    collect->location_cnt = fresh->location_cnt;
    collect->asked = 0;
    collect->traces = fresh->traces;
    collect->trace_cnt = fresh->trace_cnt;
    index = fresh->index;
    memcpy(index->skips, old.index->skips, sizeof(index->skips));
    index->skip_cnt = old.index->skip_cnt;
    index->time_ns = old.index->time_ns;
    collect->index = index;
    old.profile = fresh->profile;
    old.trace_cnt = 0;
    *fresh = old;
    ap_collect_free(fresh);
}

void ap_collect_next(struct ap_collect *collect, struct ap_profile *profile)
{
    size_t i;

    ap_profile_free(collect->profile);
    collect->profile = profile;
    for (i = 0; i < collect->location_cnt; i++)
        collect->locations[i]->samples = 0;
    for (i = 0; i < collect->trace_cnt; i++)
        begin_span(collect, collect->traces[i]);
    memset(collect->losses, 0, sizeof(collect->losses));
    if (!collect->stacks_only &&
        (collect->trace_cnt > AP_COLLECT_KEEP || collect->registry->series_cnt > AP_COLLECT_KEEP))
        forget_idle(collect);
}
