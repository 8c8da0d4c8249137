/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Aggregates samples while the capture runs: equal stacks of equal series become one trace with a count.
 * Addresses are turned into locations (module and offset) at once, into names later (names.h). */
#ifndef APERTURE_AGENT_COLLECT_H
#define APERTURE_AGENT_COLLECT_H

#include "abi/record.h"
#include "agent/process.h"
#include "model/capture.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds; a sample that does not fit counts as lost (table_full). */
#define AP_LOCATIONS_MAX (2u << 20)
#define AP_TRACES_MAX    AP_PROFILE_STACKS_MAX

/* Modules that are none: what such a location's offset means. */
#define AP_PSEUDO_FIRST   (UINT32_MAX - 3)
#define AP_PSEUDO_MARK    (UINT32_MAX - 3) /* enum ap_mark */
#define AP_PSEUDO_SYSCALL (UINT32_MAX - 2) /* enum ap_syscall_abi << 32 | number */
#define AP_PSEUDO_THREAD  (UINT32_MAX - 1) /* a waker's thread name: string id of the registry */
#define AP_PSEUDO_NONE    UINT32_MAX

enum ap_mark {
    AP_MARK_INTERRUPTIBLE = 0, /* the first three: enum ap_task_state */
    AP_MARK_UNINTERRUPTIBLE = 1,
    AP_MARK_PREEMPTED = 2,
    AP_MARK_BEFORE = 3,   /* began before the recording: its user half is not known */
    AP_MARK_WOKEN_BY = 4, /* between a wait and its waker */
    AP_MARK_CNT = 5,
};

/* Location 0 stands for a sample without any frame. */
#define AP_LOCATION_NO_STACK 0

struct ap_location {
    uint32_t module; /* id in ap_modules, or AP_PSEUDO_* */
    bool waker;      /* on the stack of who ended a wait, which is kept the other way round */
    uint32_t id;
    uint32_t next;    /* location of the same module, AP_LOCATION_NO_STACK = the last one */
    uint64_t offset;  /* in the module's file, or the address; moved back into the call for return addresses */
    uint64_t samples; /* occurrences over all samples */
};

/* The part of a recording that one profile is of: all of it, or a few seconds of one that is sent on. */
struct ap_span {
    uint64_t start_ns; /* CLOCK_MONOTONIC */
    bool final;        /* the recording has ended: everything on its way must come in */
};

/* What a trace had in one slot of time. */
struct ap_trace_slot {
    uint32_t slot, count; /* CLOCK_MONOTONIC in units of ap_collect.slot_ns; raw events */
    uint64_t value;
};

struct ap_trace {
    uint64_t count, value;       /* of this span: raw events; ns, scaled */
    struct ap_trace_slot *slots; /* owned: the same by time, when the collect has slots */
    uint32_t slot_cnt;
    uint32_t idle;           /* spans since it last had something */
    bool wanted;             /* the owner of a collect with stacks_only needs it in this span */
    bool held;               /* not in the last profile: a name was still waited for; goes into the next one */
    uint32_t stack;          /* index in the profile once resolved, UINT32_MAX when it is not in there */
    uint32_t profile_series; /* likewise */
    uint32_t series;         /* index in the registry */
    uint32_t flags;          /* enum ap_record_flags: truncation */
    uint32_t cnt;            /* locations, leaf first */
    uint32_t locations[];
};

struct ap_collect {
    struct ap_profile *profile;  /* owned: of this span, filled when it is resolved */
    struct ap_profile *registry; /* owned: series and strings, which last over spans */
    struct ap_location **locations;
    size_t location_cnt, asked; /* asked: those before this one are on the list of names, see ap_resolve_want() */
    struct ap_trace **traces;
    size_t trace_cnt;
    uint64_t samples; /* taken in */
    uint64_t held;    /* of these, in traces that were held when the last span was resolved */
    uint64_t losses[AP_LOSS_REASON_CNT];
    bool stacks_only;               /* traces become stacks, those that are wanted; the owner adds the samples */
    uint64_t slot_ns;               /* keep apart what happened in slots of this length; 0 = do not */
    struct ap_collect_index *index; /* private */
};

/* For events of one kind (enum ap_event_kind). The tables are borrowed and must outlive it. NULL when out of memory. */
struct ap_collect *ap_collect_new(struct ap_processes *processes, uint8_t kind);
/* Accepts NULL. Returns NULL. */
struct ap_collect *ap_collect_free(struct ap_collect *collect);

/* Kernel frames up to and with one in [start, end) are the tracepoint's own, through which our program was called: left
 * out. At most AP_COLLECT_SKIPS_MAX such places; more are ignored. */
#define AP_COLLECT_SKIPS_MAX 8
void ap_collect_skip(struct ap_collect *collect, uint64_t start, uint64_t end);

/* A trace is put together from the leaf outwards by the next calls between begin and end. Records are checked ones
 * (ap_record_check). None fails: what cannot be kept is counted in `losses` at the end. */

/* Begins a trace of the thread that `record` is of. */
void ap_collect_begin(struct ap_collect *collect, const struct ap_record *record);
/* What ended the wait: thread name, its stack the other way round, and the mark AP_MARK_WOKEN_BY. Comes first. */
void ap_collect_waker(struct ap_collect *collect, const struct ap_record *waker);
/* The frames of the record that the trace was begun with. */
void ap_collect_frames(struct ap_collect *collect);
/* One frame of a pseudo module. */
void ap_collect_pseudo(struct ap_collect *collect, uint32_t module, uint64_t offset);
/* Adds `count` events of `value` (both may be 0) to the trace, made when it is new. The trace, which lives as long as
 * `collect`; NULL past a bound, then `count` is added to the losses. */
struct ap_trace *ap_collect_end(struct ap_collect *collect, uint64_t count, uint64_t value);

/* Calls `fn` for each location of a module. */
typedef void (*ap_collect_location_fn)(void *ctx, const struct ap_location *location);
void ap_collect_each(const struct ap_collect *collect, uint32_t module, ap_collect_location_fn fn, void *ctx);

/* Adds to a trace that is there already. */
void ap_collect_credit(struct ap_collect *collect, struct ap_trace *trace, uint64_t count, uint64_t value);

/* After the profile of a span was taken (ap_resolve): begins the next one, with `profile` (taken over) for its results.
 * Traces that were held go on; the others begin at zero and are forgotten when there are many and they stay idle. */
void ap_collect_next(struct ap_collect *collect, struct ap_profile *profile);

/* Traces and series from which on idle ones are forgotten at the end of a span. */
#define AP_COLLECT_KEEP 32768

/* All of it for a record whose stack is the whole trace. */
struct ap_trace *ap_collect_sample(struct ap_collect *collect, const struct ap_record *record, uint64_t count,
                                   uint64_t value);

#endif
