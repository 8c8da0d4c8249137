/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What an agent sends at a time: everything it recorded in a few seconds, and what names it for ever. */
#ifndef APERTURE_MODEL_PUSH_H
#define APERTURE_MODEL_PUSH_H

#include "core/error.h"
#include "model/capture.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits on what is sent; what is beyond is refused (-E2BIG, -EINVAL) with words. */
#define AP_PUSH_AGENT_ID_SZ    129 /* with terminator */
#define AP_PUSH_LABELS_MAX     64
#define AP_PUSH_LABEL_NAME_SZ  129
#define AP_PUSH_LABEL_VALUE_SZ 1025
#define AP_PUSH_DURATION_MAX   (3600ULL * 1000000000ULL)
/* Length of the slots in which samples are kept apart when they are sent: 50 a second, the resolution of a subsecond
 * heatmap (Netflix's FlameScope draws 50 rows a second too). */
#define AP_PUSH_SLOT_NS 20000000ULL

struct ap_label {
    char *name, *value; /* owned by whoever holds the array */
};

struct ap_push {
    char agent_id[AP_PUSH_AGENT_ID_SZ];
    uint64_t epoch, sequence;       /* (agent_id, epoch, sequence) names the batch */
    uint64_t start_ns, duration_ns; /* since the epoch */
    struct ap_label *labels;        /* owned; sorted by name, each once; "host" is always there */
    size_t label_cnt;
    struct ap_capture *capture; /* owned */
    uint64_t spool_bytes, spool_dropped_batches, spool_dropped_events;
};

/* Empty, with an empty capture. NULL when out of memory. */
struct ap_push *ap_push_new(void);
/* Accepts NULL. Returns NULL. */
struct ap_push *ap_push_free(struct ap_push *push);

/* Sets a label, or replaces its value. 0, -EINVAL (a name that is not [a-zA-Z_][a-zA-Z0-9_]*, or reserved: pid, comm,
 * exe, container, agent, kind; a value that is not UTF-8), -E2BIG (too long, or too many), -ENOMEM; with words. */
int ap_push_label(struct ap_push *push, const char *name, const char *value, struct ap_error *err);
/* Its value, NULL when there is none. */
const char *ap_push_label_value(const struct ap_push *push, const char *name);
/* True when the name is [a-zA-Z_][a-zA-Z0-9_]* and not too long; reserved names are valid ones. */
bool ap_label_name_valid(const char *name);
/* Frees the array with what it holds. Accepts NULL. */
void ap_labels_free(struct ap_label *labels, size_t cnt);
/* True when the id is 1..128 bytes of [A-Za-z0-9._:-]. */
bool ap_push_agent_id_valid(const char *id);

#endif
