/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/resolve.h"

#include "model/syscalls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for "module+0xoffset". */
#define UNKNOWN_NAME_SZ 4200

/* Frames of one location: `cnt` consecutive entries of the pool, innermost first. */
struct place {
    uint32_t first, cnt;
    bool used;    /* on a trace of this span */
    bool waiting; /* its name was asked for and has not come */
};

struct resolver {
    struct ap_collect *collect;
    struct ap_modules *modules;
    struct ap_names *names;
    struct ap_capture *capture;
    struct ap_profile *profile;
    struct place *places; /* by location id */
    uint32_t *pool;       /* frame indices of the profile */
    size_t pool_cnt, pool_cap;
    uint32_t *mappings; /* by module id; 0 = not made yet */
    uint32_t *series;   /* of the profile, by that of the registry; UINT32_MAX = not made yet */
    uint32_t base_slot;
    bool final;
    int rc; /* first failure */
    struct {
        uint64_t frames, samples;
    } unresolved[AP_UNRESOLVED_REASON_CNT]; /* of the module in work */
};

static uint32_t mapping_of(struct resolver *r, uint32_t module_id)
{
    const struct ap_module *module = ap_modules_get(r->modules, module_id);
    struct ap_mapping mapping = {0};

    if (r->mappings[module_id])
        return r->mappings[module_id];
    mapping.path = ap_strings_id(r->profile->strings, module->path);
    memcpy(mapping.build_id, module->elf.build_id, module->elf.build_id_len);
    mapping.build_id_len = module->elf.build_id_len;
    mapping.start = module->start;
    mapping.limit = module->limit;
    mapping.file_off = module->file_off;
    ap_profile_add_mapping(r->profile, &mapping, &r->mappings[module_id]); /* past a bound: no mapping */
    return r->mappings[module_id];
}

/* Loadable kernel modules are mappings of their own: "[nf_nat]". */
static uint32_t kernel_mapping(struct resolver *r, const char *name)
{
    struct ap_mapping mapping = {0};
    uint32_t index = 0;
    char path[128];

    if (!*name || *name == '/' || !strcmp(name, "[kernel]"))
        return mapping_of(r, AP_MODULE_ID_KERNEL);
    snprintf(path, sizeof(path), *name == '[' ? "%s" : "[%s]", name);
    mapping.path = ap_strings_id(r->profile->strings, path);
    ap_profile_add_mapping(r->profile, &mapping, &index);
    return index;
}

static void push(struct resolver *r, struct place *place, const struct ap_frame *frame)
{
    uint32_t *pool, index;
    size_t cap;
    int rc;

    if (r->pool_cnt == r->pool_cap) {
        cap = r->pool_cap ? r->pool_cap * 2 : 4096;
        pool = realloc(r->pool, cap * sizeof(*pool));
        if (!pool) {
            r->rc = -ENOMEM;
            return;
        }
        r->pool = pool;
        r->pool_cap = cap;
    }
    rc = ap_profile_add_frame(r->profile, frame, &index);
    if (rc == -ENOMEM)
        r->rc = rc;
    if (rc)
        return; /* past the bound the location stays without names, and its samples count as table_full */
    if (!place->cnt)
        place->first = (uint32_t)r->pool_cnt;
    r->pool[r->pool_cnt++] = index;
    place->cnt++;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static void name_unknown(struct resolver *r, const struct ap_location *location, uint8_t reason)
{
    const struct ap_module *module = ap_modules_get(r->modules, location->module);
    struct ap_frame frame = {.kind = AP_FRAME_UNKNOWN, .waker = location->waker, .offset = location->offset};
    char name[UNKNOWN_NAME_SZ];

    if (location->module == AP_MODULE_ID_NO_MAPPING && !location->offset) /* see add_user_frames() */
        snprintf(name, sizeof(name), "%s", module->path);
    else
        snprintf(name, sizeof(name), "%.4096s+0x%llx", base_name(module->path), (unsigned long long)location->offset);
    frame.function = ap_strings_id(r->profile->strings, name);
    frame.mapping = mapping_of(r, location->module);
    push(r, &r->places[location->id], &frame);
    r->unresolved[reason].frames++;
    r->unresolved[reason].samples += location->samples;
}

static void name_known(struct resolver *r, const struct ap_location *location, const struct ap_symbol_frame *frames,
                       size_t cnt)
{
    static const uint8_t kinds[] = {
        [AP_MODULE_KERNEL] = AP_FRAME_KERNEL, [AP_MODULE_FILE] = AP_FRAME_NATIVE, [AP_MODULE_JIT] = AP_FRAME_JIT};
    uint8_t kind = kinds[ap_modules_get(r->modules, location->module)->kind];
    struct ap_frame frame;
    size_t i;

    for (i = 0; i < cnt; i++) {
        frame = (struct ap_frame){
            .kind = kind,
            .inlined = frames[i].inlined,
            .waker = location->waker,
            .function = ap_strings_id(r->profile->strings, frames[i].function),
            .file = ap_strings_id(r->profile->strings, frames[i].file),
            .line = frames[i].line,
            .mapping = kind == AP_FRAME_KERNEL ? kernel_mapping(r, frames[i].module) : mapping_of(r, location->module),
            .offset = location->offset,
        };
        push(r, &r->places[location->id], &frame);
    }
}

/* Names the locations sorted[0 .. cnt), all of one module. */
static void resolve_module(struct resolver *r, struct ap_location **sorted, size_t cnt)
{
    const struct ap_module *module = ap_modules_get(r->modules, sorted[0]->module);
    struct ap_names_answer answer;
    uint8_t reason;
    size_t i;

    memset(r->unresolved, 0, sizeof(r->unresolved));
    for (i = 0; i < cnt; i++) {
        if (ap_names_find(r->names, AP_NAME_CODE, sorted[i]->module, sorted[i]->offset, &answer)) {
            r->places[sorted[i]->id].waiting = !r->final;
            if (!r->final)
                continue;
            answer = (struct ap_names_answer){.reason = AP_UNRESOLVED_BUDGET}; /* settled: nothing is waited for */
        }
        if (answer.cnt)
            name_known(r, sorted[i], answer.frames, answer.cnt);
        else
            name_unknown(r, sorted[i], answer.reason);
    }
    for (reason = 1; reason < AP_UNRESOLVED_REASON_CNT; reason++) {
        if (!r->unresolved[reason].frames)
            continue;
        ap_capture_unresolved(r->capture, module->path, reason, r->unresolved[reason].frames,
                              r->unresolved[reason].samples);
        r->capture->frames_unresolved += r->unresolved[reason].samples;
    }
}

static const char *const mark_names[AP_MARK_CNT] = {
    [AP_MARK_INTERRUPTIBLE] = "[interruptible]", [AP_MARK_UNINTERRUPTIBLE] = "[uninterruptible]",
    [AP_MARK_PREEMPTED] = "[preempted]",         [AP_MARK_BEFORE] = "[blocked before the recording]",
    [AP_MARK_WOKEN_BY] = "[woken by]",
};

static void name_pseudo(struct resolver *r, const struct ap_location *location)
{
    struct ap_frame frame = {.kind = AP_FRAME_MARK, .waker = location->waker};
    char text[AP_SYSCALL_NAME_SZ];

    switch (location->module) {
    case AP_PSEUDO_MARK:
        frame.function = ap_strings_id(r->profile->strings, mark_names[location->offset]);
        break;
    case AP_PSEUDO_SYSCALL:
        frame.kind = AP_FRAME_KERNEL;
        frame.mapping = mapping_of(r, AP_MODULE_ID_KERNEL);
        frame.function = ap_strings_id(
            r->profile->strings, ap_syscall_name((uint8_t)(location->offset >> 32), (uint32_t)location->offset, text));
        break;
    case AP_PSEUDO_THREAD:
        frame.kind = AP_FRAME_PROCESS;
        frame.function =
            ap_strings_id(r->profile->strings, ap_profile_str(r->collect->registry, (uint32_t)location->offset));
        break;
    default:
        frame.function = ap_strings_id(r->profile->strings, "[no stack]");
        break;
    }
    push(r, &r->places[location->id], &frame);
}

static int by_module(const void *a, const void *b)
{
    const struct ap_location *x = *(struct ap_location *const *)a, *y = *(struct ap_location *const *)b;

    if (x->module != y->module)
        return x->module < y->module ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* `sorted`: by module. The pseudo modules come last. */
static void resolve_locations(struct resolver *r, struct ap_location **sorted, size_t cnt)
{
    size_t first = 0, last;

    while (first < cnt && !r->rc && sorted[first]->module < AP_PSEUDO_FIRST) {
        for (last = first; last < cnt && sorted[last]->module == sorted[first]->module; last++)
            r->capture->frames_total += sorted[last]->samples;
        resolve_module(r, sorted + first, last - first);
        first = last;
    }
    for (; first < cnt && !r->rc; first++)
        name_pseudo(r, sorted[first]);
}

/* Functions through which an interrupt enters the kernel: what they interrupted has no part in what they do. x86-64,
 * then arm64. */
static bool is_interrupt_entry(const char *name)
{
    static const char *const prefixes[] = {"asm_sysvec_", "asm_common_interrupt", "common_interrupt", "el1h_64_irq",
                                           "el0t_64_irq", "el1_interrupt",        "el0_interrupt"};
    size_t i;

    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

/* Number of leading locations of a waker (its thread name, then its stack from the outside in) to leave out because an
 * interrupt, not the thread, ended the wait; 0 = none. */
static uint32_t interrupted_part(const struct resolver *r, const struct ap_trace *trace)
{
    const struct ap_location *location;
    const struct place *place;
    uint32_t i;

    for (i = 0; i < trace->cnt; i++) {
        location = r->collect->locations[trace->locations[i]];
        if (!location->waker)
            return 0;
        place = &r->places[location->id];
        if (location->module == AP_MODULE_ID_KERNEL && place->cnt &&
            is_interrupt_entry(ap_profile_str(r->profile, r->profile->frames[r->pool[place->first]].function)))
            return i;
    }
    return 0;
}

struct frames {
    uint32_t frames[AP_STACK_FRAMES_MAX];
    uint32_t cnt;
    bool full;
};

static void add_frame(struct frames *frames, uint32_t frame)
{
    if (frames->cnt == AP_STACK_FRAMES_MAX)
        frames->full = true;
    else
        frames->frames[frames->cnt++] = frame;
}

static int add_interrupt_mark(struct resolver *r, struct frames *frames)
{
    struct ap_frame frame = {.kind = AP_FRAME_PROCESS, .waker = true};
    uint32_t index;
    int rc;

    frame.function = ap_strings_id(r->profile->strings, "[interrupt]");
    rc = ap_profile_add_frame(r->profile, &frame, &index);
    if (!rc)
        add_frame(frames, index);
    return rc;
}

/* Frames by which wait and waker are longer than a stack may be, as far as the waker's, from `first` on, can give them:
 * its thread name and the mark stay. */
static uint32_t waker_excess(const struct resolver *r, const struct ap_trace *trace, uint32_t first)
{
    uint32_t all = first > 0, of_waker = all, i, cnt;
    const struct ap_location *location;

    for (i = first; i < trace->cnt; i++) {
        location = r->collect->locations[trace->locations[i]];
        cnt = r->places[location->id].cnt;
        all += cnt;
        of_waker += location->waker ? cnt : 0;
    }
    if (all <= AP_STACK_FRAMES_MAX || of_waker <= 2)
        return 0;
    return all - AP_STACK_FRAMES_MAX < of_waker - 2 ? all - AP_STACK_FRAMES_MAX : of_waker - 2;
}

/* The row of a series in the profile, made on first use. */
static int series_of(struct resolver *r, uint32_t id, uint32_t *ret_series)
{
    const struct ap_profile *registry = r->collect->registry;
    struct ap_strings *strings = r->profile->strings;
    struct ap_series series = registry->series[id];
    int rc = 0;

    if (r->series[id] == UINT32_MAX) {
        series.comm = ap_strings_id(strings, ap_profile_str(registry, series.comm));
        series.exe = ap_strings_id(strings, ap_profile_str(registry, series.exe));
        series.container = ap_strings_id(strings, ap_profile_str(registry, series.container));
        rc = ap_profile_add_series(r->profile, &series, &r->series[id]);
    }
    *ret_series = r->series[id];
    return rc;
}

/* One trace becomes a stack with inlined functions spread out. -ENOSPC past a bound of the profile. */
static int add_trace(struct resolver *r, struct ap_trace *trace)
{
    struct frames frames = {.cnt = 0};
    uint32_t first = interrupted_part(r, trace), excess = waker_excess(r, trace, first), i, j;
    int rc = first ? add_interrupt_mark(r, &frames) : 0;

    for (i = first; !rc && i < trace->cnt; i++) {
        const struct ap_location *location = r->collect->locations[trace->locations[i]];
        const struct place *place = &r->places[location->id];

        if (!place->cnt)
            return -ENOSPC;
        if (excess && frames.cnt) { /* the outermost of the waker, functions with what is inlined in them */
            excess -= place->cnt < excess ? place->cnt : excess;
            continue;
        }
        for (j = 0; j < place->cnt; j++) /* a waker's stack is kept the other way round */
            add_frame(&frames, r->pool[place->first + (location->waker ? place->cnt - 1 - j : j)]);
    }
    if (!rc)
        rc = ap_profile_add_stack(r->profile, frames.frames, frames.cnt, frames.full || trace->flags, &trace->stack);
    if (!rc)
        rc = series_of(r, trace->series, &trace->profile_series);
    if (rc)
        trace->stack = UINT32_MAX;
    return rc;
}

/* The samples of a trace, in their slots where it has such. -ENOSPC past a bound of the profile. */
static int add_samples(struct resolver *r, const struct ap_trace *trace)
{
    uint32_t slot, i;
    int rc = 0;

    if (!trace->slot_cnt)
        return ap_profile_add_sample(r->profile, trace->profile_series, trace->stack, trace->count, trace->value);
    for (i = 0; !rc && i < trace->slot_cnt; i++) { /* what was held before this span counts at its beginning */
        slot = trace->slots[i].slot > r->base_slot ? trace->slots[i].slot - r->base_slot : 0;
        rc = ap_profile_add_sample_at(r->profile, trace->profile_series, trace->stack, slot, trace->slots[i].count,
                                      trace->slots[i].value);
    }
    return rc;
}

static bool in_span(const struct ap_collect *collect, const struct ap_trace *trace)
{
    return collect->stacks_only ? trace->wanted : trace->count > 0;
}

static bool is_waiting(const struct resolver *r, const struct ap_trace *trace)
{
    uint32_t i;

    for (i = 0; i < trace->cnt; i++)
        if (r->places[trace->locations[i]].waiting)
            return true;
    return false;
}

static int add_traces(struct resolver *r, struct ap_account *account)
{
    struct ap_trace *trace;
    size_t i;
    int rc;

    r->collect->held = 0;
    for (i = 0; i < r->collect->trace_cnt; i++) {
        trace = r->collect->traces[i];
        if (!in_span(r->collect, trace))
            continue;
        trace->held = is_waiting(r, trace);
        if (trace->held) {
            r->collect->held += trace->count;
            continue;
        }
        rc = add_trace(r, trace);
        if (!rc && !r->collect->stacks_only)
            rc = add_samples(r, trace);
        if (rc == -ENOSPC)
            account->losses[AP_LOSS_TABLE_FULL] += trace->count;
        else if (rc)
            return rc;
        else
            account->delivered += trace->count;
    }
    return 0;
}

void ap_resolve_want(struct ap_collect *collect, struct ap_names *names)
{
    const struct ap_location *location;

    for (; collect->asked < collect->location_cnt; collect->asked++) {
        location = collect->locations[collect->asked];
        if (location->module < AP_PSEUDO_FIRST)
            ap_names_want(names, AP_NAME_CODE, location->module, location->offset);
    }
}

/* The locations on traces of this span, by module. Their number. */
static size_t list_used(struct resolver *r, struct ap_location **ret_sorted)
{
    const struct ap_collect *collect = r->collect;
    size_t cnt = 0, i;
    uint32_t j;

    for (i = 0; i < collect->trace_cnt; i++)
        for (j = 0; in_span(collect, collect->traces[i]) && j < collect->traces[i]->cnt; j++)
            r->places[collect->traces[i]->locations[j]].used = true;
    for (i = 0; i < collect->location_cnt; i++)
        if (r->places[i].used)
            ret_sorted[cnt++] = collect->locations[i];
    if (cnt)
        qsort(ret_sorted, cnt, sizeof(*ret_sorted), by_module);
    return cnt;
}

int ap_resolve(struct ap_collect *collect, struct ap_modules *modules, struct ap_names *names,
               const struct ap_span *span, struct ap_capture *capture, struct ap_account *account)
{
    struct resolver r = {.collect = collect,
                         .modules = modules,
                         .names = names,
                         .capture = capture,
                         .profile = collect->profile,
                         .final = span->final,
                         .base_slot = collect->slot_ns ? (uint32_t)(span->start_ns / collect->slot_ns) : 0};
    struct ap_location **sorted = malloc((collect->location_cnt + 1) * sizeof(struct ap_location *));
    size_t series_cnt = collect->registry->series_cnt, cnt, i;

    r.places = calloc(collect->location_cnt, sizeof(*r.places));
    r.mappings = calloc(ap_modules_cnt(modules), sizeof(*r.mappings));
    r.series = malloc((series_cnt + 1) * sizeof(*r.series));
    if (!sorted || !r.places || !r.mappings || !r.series) {
        r.rc = -ENOMEM;
    } else {
        memset(r.series, 0xff, (series_cnt + 1) * sizeof(*r.series));
        cnt = list_used(&r, sorted);
        for (i = 0; i < cnt; i++) /* also what was forgotten since */
            if (sorted[i]->module < AP_PSEUDO_FIRST)
                ap_names_want(names, AP_NAME_CODE, sorted[i]->module, sorted[i]->offset);
        if (span->final)
            ap_names_settle(names);
        resolve_locations(&r, sorted, cnt);
        capture->frames_total += collect->locations[AP_LOCATION_NO_STACK]->samples;
    }
    if (!r.rc)
        r.rc = add_traces(&r, account);
    free(sorted);
    free(r.places);
    free(r.mappings);
    free(r.series);
    free(r.pool);
    return r.rc;
}
