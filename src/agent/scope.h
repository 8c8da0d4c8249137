/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What all BPF programs of a capture share: which tasks it is about, and the ring buffers that records come through. */
#ifndef APERTURE_AGENT_SCOPE_H
#define APERTURE_AGENT_SCOPE_H

#include "abi/record.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ap_scope_opts {
    const uint32_t *pids; /* processes in scope, as the agent numbers them; borrowed */
    size_t pid_cnt;       /* 0 = all */
    bool children;        /* also the processes that they start */
    const char *cgroup;   /* directory of a v2 cgroup, or NULL */
    const char *const *comms;
    size_t comm_cnt; /* at most AP_COMM_FILTERS_MAX, 0 = all */
};

struct bpf_object;
struct ap_scope; /* opaque */

/* Makes the ring buffers and loads the programs that follow processes. `opts` is copied, what it points to borrowed. On
 * failure NULL with words that say what to do: missing capability, no such cgroup. */
struct ap_scope *ap_scope_new(const struct ap_scope_opts *opts, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_scope *ap_scope_free(struct ap_scope *scope);

/* Prepares an object that is opened but not loaded: shares the maps, and fills in `config`, its read-only data. 0 or
 * negative errno. */
int ap_scope_adopt(const struct ap_scope *scope, struct bpf_object *object, struct ap_bpf_config *config);

/* Becomes readable when a ring buffer wants to be drained. */
int ap_scope_fd(const struct ap_scope *scope);

/* Called per record; `len` bytes are valid during the call only. */
typedef void (*ap_scope_record_fn)(void *ctx, const void *record, size_t len);

/* Hands every waiting record to `fn`. */
void ap_scope_drain(struct ap_scope *scope, ap_scope_record_fn fn, void *ctx);

/* Child processes of --pid that did not fit the table. */
uint64_t ap_scope_targets_lost(const struct ap_scope *scope);

/* Memory of its maps and programs as the kernel accounts it, bytes. */
uint64_t ap_scope_memory(const struct ap_scope *scope);

#endif
