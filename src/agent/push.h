/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A recording that is sent to an aggregator while it goes on: each span of it becomes a batch. */
#ifndef APERTURE_AGENT_PUSH_H
#define APERTURE_AGENT_PUSH_H

#include "agent/config.h"
#include "core/error.h"

#include <stdint.h>

/* How long the end of a recording waits for the last batches to be acknowledged; what is not stays in the spool. */
#define AP_PUSH_FLUSH_NS 5000000000ULL

struct ap_push_result {
    uint64_t batches, events, lost; /* recorded; events that are missing, by the accounts */
    uint64_t unsent;                /* batches that wait in the spool, also of earlier runs */
    uint64_t dropped;               /* batches that were given up */
};

/* Records as `config` says (its aggregator is set) and sends. 0, -ETIMEDOUT when something was not sent in time (with
 * words: it waits in the spool), or another negative errno with words. Signals as for ap_session_run(). */
int ap_push_run(const struct ap_agent_config *config, struct ap_push_result *ret_result, struct ap_error *err);

#endif
