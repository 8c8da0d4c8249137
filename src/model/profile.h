/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The profile model: strings, mappings, frames, stacks, series and samples of one event kind over one span of time.
 * Everything is dictionary-coded: a row is added once and named by its index. No I/O, no threads: one owner at a time.
 */
#ifndef APERTURE_MODEL_PROFILE_H
#define APERTURE_MODEL_PROFILE_H

#include "core/error.h"
#include "core/strings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stored and sent: values are explicit and never reused. */
enum ap_event_kind {
    AP_KIND_CPU = 1,     /* value: ns of CPU time */
    AP_KIND_OFFCPU = 2,  /* value: ns blocked */
    AP_KIND_LOCK = 3,    /* value: ns waited */
    AP_KIND_SYSCALL = 4, /* value: ns inside */
    AP_KIND_GPU = 5,     /* value: ns on the device */
};

enum ap_frame_kind {
    AP_FRAME_UNKNOWN = 0,     /* no symbol: the name is module+0xoffset or a bare address */
    AP_FRAME_NATIVE = 1,      /* compiled user code */
    AP_FRAME_KERNEL = 2,      /* kernel and its modules */
    AP_FRAME_JIT = 3,         /* code named by a perf map */
    AP_FRAME_INTERPRETED = 4, /* frame of an interpreter's language */
    AP_FRAME_GPU = 5,
    AP_FRAME_PROCESS = 6, /* not code: the thread name that heads each stack in trees */
    AP_FRAME_MARK = 7,    /* not code: stands for something that was cut, "[truncated]" */
};

/* "native", "kernel", "jit" ... as used in JSON and REST. */
const char *ap_frame_kind_name(uint8_t kind);
/* "cpu", "offcpu" ... as used on the command line and in JSON. */
const char *ap_event_kind_name(uint8_t kind);

/* Longest stack kept, in frames with inlined ones (DESIGN 5). */
#define AP_STACK_FRAMES_MAX 512
/* Bounds of one profile; what does not fit is refused with -ENOSPC and counted by the caller. */
#define AP_PROFILE_STRINGS_SZ       (256u << 20)
#define AP_PROFILE_MAPPINGS_MAX     (256u << 10)
#define AP_PROFILE_FRAMES_MAX       (4u << 20)
#define AP_PROFILE_STACKS_MAX       (4u << 20)
#define AP_PROFILE_STACK_FRAMES_MAX (128u << 20) /* frame indices of all stacks together */
#define AP_PROFILE_SERIES_MAX       (256u << 10)
#define AP_PROFILE_SAMPLES_MAX      (16u << 20)
#define AP_PROFILE_TOTAL_MAX        ((uint64_t)INT64_MAX) /* sum of all counts, and of all values */

#define AP_BUILD_ID_MAX 20 /* bytes: SHA-1, what linkers write by default; longer ids are cut */

struct ap_mapping { /* one file that code came from */
    uint32_t path;  /* string id, as the target saw it; "[kernel]", "[vdso]", "//anon" for no file */
    uint8_t build_id[AP_BUILD_ID_MAX];
    uint8_t build_id_len;            /* bytes used; 0 = none */
    uint64_t start, limit, file_off; /* where it lay in one of the processes, for pprof; 0 when unknown */
};

struct ap_frame {
    uint8_t kind;      /* enum ap_frame_kind */
    bool inlined;      /* the compiler put this function into the next frame (its caller) of the stack */
    bool waker;        /* belongs to the thread that ended the wait, see AP_FRAME_MARK "[woken by]" */
    uint32_t function; /* string id, demangled; "module+0xoffset" for unknown */
    uint32_t file;     /* string id of the source file, 0 = unknown */
    uint32_t line;     /* 0 = unknown */
    uint32_t mapping;  /* index, 0 = none */
    uint64_t offset;   /* offset in the mapping's file; the address for kernel and anonymous code. Return addresses
                          are already moved back into the call instruction. */
};

/* A stack is `frame_cnt` frame indices, leaf first. An inlined frame stands before the frame that contains it and has
 * the same mapping and offset. With the waker known, the wait's frames are followed towards the leaf by the mark
 * "[woken by]" and the waker's frames the other way round: its leaf beside the mark, its thread name (AP_FRAME_PROCESS)
 * as the leaf of all; mark and frames have `waker` set. Marks such as "[preempted]" may be the outermost frames. */
struct ap_stack {
    uint32_t first; /* index into ap_profile.stack_frames */
    uint32_t frame_cnt;
    bool truncated; /* callers are missing: above the last frame, but inside of outer marks (ap_stack_marks) */
};

struct ap_series {
    uint32_t pid;       /* thread group id in the agent's pid namespace; 0 = not visible there */
    uint32_t comm;      /* string id: thread name */
    uint32_t exe;       /* string id: executable path, 0 = unknown */
    uint32_t container; /* string id: container id, 0 = none */
};

struct ap_sample {
    uint32_t series, stack; /* indices */
    uint32_t slot;          /* when, in slots of ap_profile.slot_ns since its start; 0 without slots */
    uint64_t count;         /* raw events, not scaled */
    uint64_t value;         /* in the kind's unit, scaled to the truth when events were thinned out */
};

struct ap_profile {
    uint8_t kind;         /* enum ap_event_kind */
    uint64_t start_ns;    /* since the epoch */
    uint64_t duration_ns; /* of the measurement */
    uint64_t period_ns;   /* CPU time that one sample stands for; 0 = not sampled by time */
    uint64_t slot_ns;     /* samples are kept apart by slots of this length; 0 = they have no time of their own */

    struct ap_strings *strings;
    struct ap_mapping *mappings; /* [0] is a zero row */
    struct ap_frame *frames;     /* [0] is a zero row */
    struct ap_stack *stacks;
    uint32_t *stack_frames; /* pool of frame indices */
    struct ap_series *series;
    struct ap_sample *samples;
    struct ap_syscalls *syscalls; /* owned; of kind AP_KIND_SYSCALL, else NULL */
    struct ap_locks *locks;       /* owned; of kind AP_KIND_LOCK, else NULL */
    uint32_t mapping_cnt, frame_cnt, stack_cnt, stack_frame_cnt, series_cnt, sample_cnt;

    struct ap_profile_index *index; /* private: hash tables and capacities */
};

/* Empty profile. NULL when out of memory. */
struct ap_profile *ap_profile_new(uint8_t kind);
/* Accepts NULL. Returns NULL. */
struct ap_profile *ap_profile_free(struct ap_profile *profile);

/* Each add finds an equal row or appends one, and sets *ret_index. 0, -ENOSPC (a bound above) or -ENOMEM.
 * Rows are copied; string ids and indices in them must belong to this profile (-EINVAL). */
int ap_profile_add_mapping(struct ap_profile *profile, const struct ap_mapping *mapping, uint32_t *ret_index);
int ap_profile_add_frame(struct ap_profile *profile, const struct ap_frame *frame, uint32_t *ret_index);
/* `frames`: `cnt` (1..AP_STACK_FRAMES_MAX) frame indices, leaf first. -EINVAL when empty or too long. */
int ap_profile_add_stack(struct ap_profile *profile, const uint32_t *frames, uint32_t cnt, bool truncated,
                         uint32_t *ret_index);
int ap_profile_add_series(struct ap_profile *profile, const struct ap_series *series, uint32_t *ret_index);
/* Adds to the sample of (series, stack) in slot 0, made on first use. */
int ap_profile_add_sample(struct ap_profile *profile, uint32_t series, uint32_t stack, uint64_t count, uint64_t value);
/* The same in the slot `slot`. */
int ap_profile_add_sample_at(struct ap_profile *profile, uint32_t series, uint32_t stack, uint32_t slot, uint64_t count,
                             uint64_t value);

/* Outer marks of a stack of this profile: its last frames, none of a waker, that say what became of the thread. What a
 * truncated stack lacks belongs inside of them. The leaf is never one of them. */
uint32_t ap_stack_marks(const struct ap_profile *profile, const struct ap_stack *stack);

/* Whole tables, as they were sent or stored. The arrays come from malloc(); NULL for no rows. */
struct ap_profile_tables {
    struct ap_mapping *mappings; /* [0] is a zero row */
    struct ap_frame *frames;     /* [0] is a zero row */
    struct ap_stack *stacks;
    uint32_t *stack_frames;
    struct ap_series *series;
    struct ap_sample *samples;
    uint32_t mapping_cnt, frame_cnt, stack_cnt, stack_frame_cnt, series_cnt, sample_cnt;
};
/* Frees the arrays. Accepts a zeroed struct. */
void ap_profile_tables_done(struct ap_profile_tables *tables);
/* Gives a profile without rows (strings may be there) all of them at once. They are checked as the adds above do, but
 * equal ones are not looked for: they stay apart, which costs space and nothing else. What the adds need to find rows
 * is made when the first of them is called. 0, with `tables` emptied: the profile owns the arrays; or, with nothing
 * changed: -EINVAL (which row, and why), -ENOSPC (a bound above); with words. */
int ap_profile_adopt(struct ap_profile *profile, struct ap_profile_tables *tables, struct ap_error *err);

/* Text of a string id of this profile. */
const char *ap_profile_str(const struct ap_profile *profile, uint32_t id);
/* Sums over all samples. */
uint64_t ap_profile_total_count(const struct ap_profile *profile);
uint64_t ap_profile_total_value(const struct ap_profile *profile);

#endif
