/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The aggregator as one object: storage, intake, questions and both servers, from start to stop. */
#ifndef APERTURE_AGGREGATOR_AGGREGATOR_H
#define APERTURE_AGGREGATOR_AGGREGATOR_H

#include "aggregator/config.h"
#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ap_aggregator; /* opaque */

/* Opens the storage, listens on both ports, serves. `config` is borrowed and must outlive it. NULL with words that say
 * what to do; nothing is left running then. */
struct ap_aggregator *ap_aggregator_start(const struct ap_aggregator_config *config, struct ap_error *err);

/* One line for people: where it listens and stores. */
#define AP_AGGREGATOR_LINE_SZ 8192
void ap_aggregator_describe(struct ap_aggregator *aggregator, char line[AP_AGGREGATOR_LINE_SZ]);

/* Reads the token file again; logs what came of it. */
void ap_aggregator_reload(struct ap_aggregator *aggregator);

/* Takes no new calls, answers those in progress and commits what was taken, until `deadline_ns` (monotonic). True when
 * all of that was done; then the object may be freed. False: something still runs, and the process can only exit. */
bool ap_aggregator_stop(struct ap_aggregator *aggregator, uint64_t deadline_ns);

/* Frees what was stopped, or never ran. Accepts NULL. Returns NULL. */
struct ap_aggregator *ap_aggregator_free(struct ap_aggregator *aggregator);

#endif
