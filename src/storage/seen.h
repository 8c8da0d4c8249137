/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: which batches are stored, so that one sent again is known. For each (agent, epoch) the
 * sequences that were seen, as ranges; what this cannot tell is looked up in the table `batches`. Not thread-safe. */
#ifndef APERTURE_STORAGE_SEEN_H
#define APERTURE_STORAGE_SEEN_H

#include "core/map.h"

#include <stdbool.h>
#include <stdint.h>

/* Bounds. An epoch past the first is forgotten (the one that was used longest ago), as are the lowest ranges past the
 * second: both are looked up from then on. */
#define AP_SEEN_EPOCHS_MAX 65536
#define AP_SEEN_RANGES_MAX 32

struct ap_seen {
    struct ap_map epochs;
    uint64_t clock;
    uint64_t forgotten; /* epochs and ranges, since the start */
};

enum ap_seen_answer {
    AP_SEEN_NO = 0,
    AP_SEEN_YES = 1,
    AP_SEEN_UNKNOWN = 2, /* the table knows */
};

void ap_seen_init(struct ap_seen *seen);
void ap_seen_done(struct ap_seen *seen);

/* `number`: of the epoch. True when it is here: then what the table holds of it was told, or that it holds nothing. */
bool ap_seen_has(struct ap_seen *seen, const char *agent, uint64_t number);
enum ap_seen_answer ap_seen_ask(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t sequence);
/* It is stored. 0 or -ENOMEM (then the table is asked again). */
int ap_seen_add(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t sequence);
/* What the table holds of an epoch that is not here: `cnt` distinct sequences from `min` to `max`. 0 or -ENOMEM. */
int ap_seen_load(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t min, uint64_t max, uint64_t cnt);

#endif
