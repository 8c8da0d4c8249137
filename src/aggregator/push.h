/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches come in: from agents (gRPC Push), and from people (REST import). */
#ifndef APERTURE_AGGREGATOR_PUSH_H
#define APERTURE_AGGREGATOR_PUSH_H

#include "aggregator/ingest.h"
#include "aggregator/metrics.h"
#include "core/error.h"
#include "model/push.h"
#include "rpc/server.h"

struct ap_push_intake {
    struct ap_ingest *ingest;   /* borrowed */
    struct ap_ring *ring;       /* borrowed */
    struct ap_metrics *metrics; /* borrowed */
};

/* Answers the call now or when its batch is stored. Decodes on the calling thread. */
void ap_push_serve(struct ap_push_intake *intake, struct ap_rpc_call *call);

/* Stores `push` (taken over in any case, with its numbers) and waits until it is committed. 0 or a negative errno with
 * words, as ap_ingest_submit() and ap_ingest_item.done() have them. Not on a thread of the gRPC server. */
int ap_push_import(struct ap_push_intake *intake, struct ap_push *push, struct ap_error *err);

/* What the outcome of a push is called in metrics, and its gRPC status. */
enum ap_push_status ap_push_outcome(int rc, bool duplicate);
int ap_push_rpc_status(int rc);

#endif
