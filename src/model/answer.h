/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Answers to questions about what is stored, as plain data: made by src/query, carried by gRPC and REST, shown by the
 * command line. Text in them is owned by the answer it is part of. */
#ifndef APERTURE_MODEL_ANSWER_H
#define APERTURE_MODEL_ANSWER_H

#include "model/capture.h"
#include "model/push.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far an answer can be trusted; shown beside every one. */
struct ap_provenance {
    uint64_t samples, value;   /* raw events behind the answer, and their sum in the kind's unit */
    struct ap_account account; /* of the batches in the range, before labels and functions are matched */
    uint64_t batches;
    uint64_t newest_ns; /* end of the newest batch in the range, since the epoch; 0 = none */
    const char *source; /* static: "raw", "1m", "1h" (roll-ups) or "memory" */
};

struct ap_kind_count {
    uint8_t kind; /* enum ap_event_kind */
    uint64_t events, value, lost;
};

struct ap_batch_row {
    char *agent_id;
    uint64_t epoch, sequence, start_ns, duration_ns, received_ns;
    uint64_t bytes; /* compressed */
    struct ap_label *labels;
    size_t label_cnt;
    struct ap_kind_count kinds[AP_CAPTURE_PROFILES_MAX];
    unsigned kind_cnt;
};

struct ap_batches_answer {
    struct ap_batch_row *rows; /* newest first */
    size_t row_cnt;
    uint64_t dropped; /* batches that left the memory to make room, since the start */
};

struct ap_agent_row {
    char *agent_id;
    struct ap_label *labels;
    size_t label_cnt;
    struct ap_agent_info info;                   /* as of its newest batch */
    uint64_t epoch, sequence, first_ns, last_ns; /* of its batches in the range */
    uint64_t batches, spool_bytes, spool_dropped_batches, spool_dropped_events;
    struct ap_kind_count kinds[AP_CAPTURE_PROFILES_MAX];
    unsigned kind_cnt;
    struct ap_left_out left_out[AP_CAPTURE_PROFILES_MAX]; /* what it cannot record, and why */
    unsigned left_out_cnt;
};

struct ap_agents_answer {
    struct ap_agent_row *rows; /* by id */
    size_t row_cnt;
};

struct ap_function_row {
    char *function, *module;
    uint8_t kind; /* enum ap_frame_kind */
    uint64_t self, total, self_count, total_count;
};

struct ap_functions_answer {
    struct ap_function_row *rows; /* by self, largest first */
    size_t row_cnt;
    uint64_t function_total; /* distinct functions, with those past the limit */
    struct ap_provenance provenance;
};

struct ap_stack_row {
    char **functions; /* thread name first, then outermost to leaf */
    size_t function_cnt;
    uint64_t count, value;
};

struct ap_stacks_answer {
    struct ap_stack_row *rows; /* by value, largest first */
    size_t row_cnt;
    uint64_t stack_total;
    struct ap_provenance provenance;
};

struct ap_function_change {
    char *function, *module;
    uint8_t kind;
    uint64_t self_before, self_after, total_before, total_after;
    double self_change, total_change; /* differences of the shares of all time, -1..1 */
    double p_value;                   /* how likely noise alone makes either change */
    bool significant;                 /* at the 1 % level, see query/diff.h */
};

struct ap_diff_answer {
    struct ap_function_change *rows; /* significant ones first, then by size of change */
    size_t row_cnt;
    struct ap_provenance before, after;
};

struct ap_lock_answer_row {
    char *host, *comm, *symbol, *type, *top_waiter, *top_waker;
    uint32_t pid;
    uint64_t address;
    bool kernel;
    uint64_t waits, total_ns, max_ns, p50_ns, p95_ns, p99_ns, timeouts;
};

struct ap_syscall_answer_row {
    char *host, *comm, *name;
    uint32_t pid, number;
    uint64_t count, errors, total_ns, max_ns, p50_ns, p95_ns, p99_ns;
};

/* One node of a call tree; parents come before children, siblings by value. */
struct ap_answer_node {
    uint32_t parent, name, module, file; /* index of a node; indices of strings */
    uint32_t line;
    uint8_t kind; /* enum ap_frame_kind */
    bool inlined, waker;
    bool truncated; /* stands for everything that max_nodes cut below its parent */
    uint64_t value, self, count;
};

struct ap_tree_answer {
    char **strings;
    size_t string_cnt;
    struct ap_answer_node *nodes; /* [0] is the root */
    size_t node_cnt;
    struct ap_provenance provenance;
};

struct ap_aggregate_answer {
    struct ap_functions_answer functions; /* its provenance is that of all */
    struct ap_tree_answer tree;           /* node_cnt 0 when not asked for */
    struct ap_lock_answer_row *locks;     /* of kind lock, by total_ns */
    size_t lock_cnt;
    struct ap_syscall_answer_row *syscalls; /* of kind syscall, by total_ns */
    size_t syscall_cnt;
};

/* Free the contents. Accept zeroed structs. */
void ap_batches_answer_done(struct ap_batches_answer *answer);
void ap_agents_answer_done(struct ap_agents_answer *answer);
void ap_functions_answer_done(struct ap_functions_answer *answer);
void ap_stacks_answer_done(struct ap_stacks_answer *answer);
void ap_diff_answer_done(struct ap_diff_answer *answer);
void ap_tree_answer_done(struct ap_tree_answer *answer);
void ap_aggregate_answer_done(struct ap_aggregate_answer *answer);

#endif
