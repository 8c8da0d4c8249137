/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A source is what records one kind of event: its BPF programs, its tables, its account. The session runs any number of
 * them over one scope, one set of ring buffers, one process table and one table of names. */
#ifndef APERTURE_AGENT_SOURCE_H
#define APERTURE_AGENT_SOURCE_H

#include "agent/collect.h"
#include "agent/config.h"
#include "agent/names.h"
#include "agent/programs.h"
#include "agent/scope.h"
#include "core/error.h"
#include "core/out.h"
#include "model/capture.h"

/* What sources are given; borrowed, outlives them. */
struct ap_source_env {
    const struct ap_agent_config *config;
    const struct ap_kernel *kernel;
    struct ap_scope *scope;
    struct ap_processes *processes;
    struct ap_modules *modules;
    struct ap_names *names;
    const char *variant; /* of a self-test: what is said behind each name */
};

struct ap_source;

struct ap_source_ops {
    uint8_t kind;          /* enum ap_event_kind */
    uint32_t record_types; /* 1 << enum ap_record_type, of what comes through the ring buffers */

    /* Loads the programs; nothing is recorded yet. 0, or negative errno with words that say what to do. */
    int (*open)(struct ap_source *source, struct ap_error *err);
    /* Makes what it fills besides stacks in source->collect->profile, which is new: called before start and for every
     * span. 0 or -ENOMEM. May be NULL. */
    int (*begin)(struct ap_source *source);
    /* Begins to record. 0, or negative errno with words. */
    int (*start)(struct ap_source *source, struct ap_error *err);
    /* Takes a checked record of its types. */
    void (*record)(struct ap_source *source, const struct ap_record *record);
    /* Called after each drain; may be NULL. */
    void (*tick)(struct ap_source *source, uint64_t now_ns);
    /* Asks for the names (env->names) of what it keeps of a module besides its collect's locations, while the module's
     * file is still there; called again when these have come. May be NULL. */
    void (*want)(struct ap_source *source, uint32_t module);
    /* Ends the recording; what is on its way to the ring buffers or in tables still counts. */
    void (*stop)(struct ap_source *source);
    /* Adds what the kernel has counted since the start to `total`: events expected, lost, left out. */
    void (*count)(struct ap_source *source, struct ap_account *total);
    /* After a drain: completes the profile (of source->collect) of a span; adds to the account what became of its
     * events here. Called again after the session has begun the next span (ap_collect_next). 0 or -ENOMEM. */
    int (*finish)(struct ap_source *source, const struct ap_span *span, struct ap_capture *capture,
                  struct ap_account *account);
    /* Fills in what it knows of the agent's cost: adds to the BPF figures. */
    void (*describe)(const struct ap_source *source, struct ap_agent_info *agent);
    /* Events lost so far, for the progress line. */
    uint64_t (*lost)(const struct ap_source *source);
    /* Frees source->state; accepts half-opened ones. */
    void (*close)(struct ap_source *source);
    /* Loads every program in each variant and writes a line for each: "ok NAME", "unavailable NAME: needs ... (Linux
     * X.Y)" when this kernel is too old for it, or "failed NAME: reason". Number of failed ones. */
    int (*self_test)(struct ap_source_env *env, struct ap_out *out);
};

struct ap_source {
    const struct ap_source_ops *ops;
    const struct ap_source_env *env;
    struct ap_collect *collect; /* owned by the session */
    void *state;                /* private to the source */
};

/* The programs of a source, which come in two variants: `deep` for kernels that have bpf_loop (5.17) and what that
 * brings (struct ap_kernel), plain for older ones. */
struct ap_source_programs {
    const char *words;                  /* what they are called in a sentence: "the lock programs" */
    const char *plain_name, *deep_name; /* in a self-test */
    /* Opens, configures and loads the skeleton in one variant; owned by the caller. NULL with a negative errno in
     * *ret_rc. */
    void *(*load)(const struct ap_source_env *env, bool deep, int *ret_rc);
    /* Frees a skeleton. Accepts NULL. */
    void (*free)(void *skel);
};

/* Loads the deep variant on a kernel that has what it needs, the plain one on others, and when the deep one is refused.
 * 0 with the skeleton, owned by the caller, in *ret_skel and its variant in *ret_deep; or negative errno with words
 * that say what to do. */
int ap_source_load(const struct ap_source_env *env, const struct ap_source_programs *programs, void **ret_skel,
                   bool *ret_deep, struct ap_error *err);

/* Loads both and frees them again: what ap_source_ops.self_test does. */
int ap_source_test(const struct ap_source_env *env, const struct ap_source_programs *programs, struct ap_out *out);

/* Leaves the frames of a tracepoint's own functions (it has `arg_cnt` arguments) out of kernel stacks that its program
 * took. Without the kernel's symbols they stay. */
void ap_source_skip_tracepoint(struct ap_source *source, const char *name, unsigned arg_cnt);

extern const struct ap_source_ops ap_source_cpu, ap_source_offcpu, ap_source_lock, ap_source_syscall;

#endif
