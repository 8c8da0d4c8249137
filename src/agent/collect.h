/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Aggregates samples while the capture runs: equal stacks of equal series become one trace with a count.
 * Addresses are turned into locations (module and offset) at once, into names only at the end. */
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

/* Location 0 stands for a sample without any frame. */
#define AP_LOCATION_NO_STACK 0

struct ap_location {
    uint32_t module; /* id in ap_modules */
    uint32_t id;
    uint64_t offset;  /* in the module's file, or the address; moved back into the call for return addresses */
    uint64_t samples; /* occurrences over all samples */
};

struct ap_trace {
    uint64_t count;
    uint32_t series; /* index in the profile */
    uint32_t flags;  /* enum ap_record_flags: truncation */
    uint32_t cnt;    /* locations, leaf first */
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
    struct ap_collect_index *index; /* private */
};

/* NULL when out of memory. The first two are borrowed and must outlive it. */
struct ap_collect *ap_collect_new(struct ap_processes *processes);
/* Accepts NULL. Returns NULL. */
struct ap_collect *ap_collect_free(struct ap_collect *collect);

/* Checks a record's version, type and sizes against its length. 0 or -EINVAL. */
int ap_record_check(const void *record, size_t len);

/* Takes in a checked record of the CPU sampler. Never fails: what cannot be kept is counted in `losses`. */
void ap_collect_sample(struct ap_collect *collect, const struct ap_cpu_record *record);

#endif
