/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Aggregates samples while the capture runs: equal stacks of equal series become one trace with a count.
 * Addresses are turned into locations (module and offset) at once, into names later (names.h). */
#ifndef APERTURE_AGENT_COLLECT_H
#define APERTURE_AGENT_COLLECT_H

#include "abi/record.h"
#include "agent/process.h"
#include "model/capture.h"

#include <stddef.h>
#include <stdint.h>

/* Bounds; a sample that does not fit counts as lost (table_full). */
#define AP_LOCATIONS_MAX (2u << 20)
#define AP_TRACES_MAX    AP_PROFILE_STACKS_MAX

/* Modules that are none: what such a location's offset means. */
#define AP_PSEUDO_FIRST   (UINT32_MAX - 3)
#define AP_PSEUDO_MARK    (UINT32_MAX - 3) /* enum ap_mark */
#define AP_PSEUDO_SYSCALL (UINT32_MAX - 2) /* enum ap_syscall_abi << 32 | number */
#define AP_PSEUDO_THREAD  (UINT32_MAX - 1) /* a waker's thread name: string id of the profile */
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

struct ap_trace {
    uint64_t count, value; /* raw events; ns, scaled */
    uint32_t stack;        /* index in the profile once resolved, UINT32_MAX when it hit a bound */
    uint32_t series;       /* index in the profile */
    uint32_t flags;        /* enum ap_record_flags: truncation */
    uint32_t cnt;          /* locations, leaf first */
    uint32_t locations[];
};

struct ap_collect {
    struct ap_profile *profile; /* owned: series and strings fill up as samples come, the rest at the end */
    struct ap_location **locations;
    size_t location_cnt;
    struct ap_trace **traces;
    size_t trace_cnt;
    uint64_t samples; /* taken in */
    uint64_t losses[AP_LOSS_REASON_CNT];
    bool stacks_only;               /* traces become stacks; the owner adds the samples */
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

/* All of it for a record whose stack is the whole trace. */
struct ap_trace *ap_collect_sample(struct ap_collect *collect, const struct ap_record *record, uint64_t count,
                                   uint64_t value);

#endif
