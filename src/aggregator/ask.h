/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Questions over gRPC: Query, QueryStorage, Aggregate, Diff. They wait for a few threads of their own, never on the
 * threads of the server. */
#ifndef APERTURE_AGGREGATOR_ASK_H
#define APERTURE_AGGREGATOR_ASK_H

#include "aggregator/ingest.h"
#include "aggregator/metrics.h"
#include "aggregator/ring.h"
#include "query/query.h"
#include "rpc/server.h"

/* Most questions that wait for a thread; those past it are refused and counted. */
#define AP_ASK_QUEUE_MAX 256
/* Threads: one per CPU, within these. */
#define AP_ASK_THREADS_MIN 2
#define AP_ASK_THREADS_MAX 16

struct ap_askers; /* opaque; any thread */

struct ap_askers_opts {
    struct ap_query *query; /* all borrowed */
    struct ap_ring *ring;
    struct ap_ingest *ingest;
    struct ap_metrics *metrics;
};

/* Starts the threads. NULL with words. */
struct ap_askers *ap_askers_new(const struct ap_askers_opts *opts, struct ap_error *err);
/* Answers what waits with UNAVAILABLE, and waits for what is being answered. Accepts NULL. Returns NULL. */
struct ap_askers *ap_askers_free(struct ap_askers *askers);
/* Takes no more; what waits is refused. Does not wait. */
void ap_askers_stop(struct ap_askers *askers);

/* Answers the call, now or later. */
void ap_askers_serve(struct ap_askers *askers, enum ap_ask_method method, struct ap_rpc_call *call);

/* Waiting for a thread now. */
size_t ap_askers_waiting(struct ap_askers *askers);

/* The status that belongs to an error of a question. */
int ap_ask_rpc_status(int rc);

#endif
