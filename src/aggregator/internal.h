/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What aggregator.c and web.c share. */
#ifndef APERTURE_AGGREGATOR_INTERNAL_H
#define APERTURE_AGGREGATOR_INTERNAL_H

#include "aggregator/aggregator.h"
#include "aggregator/ask.h"
#include "aggregator/audit.h"
#include "aggregator/auth.h"
#include "aggregator/ingest.h"
#include "aggregator/metrics.h"
#include "aggregator/push.h"
#include "aggregator/ring.h"
#include "api/api.h"
#include "query/query.h"
#include "rpc/server.h"
#include "storage/storage.h"

#include <pthread.h>

/* Connections that changed something lately, so that the audit log can say with which token. */
#define AP_WRITERS_MAX 256
struct ap_writer {
    char peer[128], name[AP_AUTH_NAME_SZ];
};

struct ap_aggregator {
    const struct ap_aggregator_config *config;
    struct ap_auth *auth;
    struct ap_audit *audit;
    struct ap_storage *storage;
    struct ap_ring *ring;
    struct ap_query *query;
    struct ap_ingest *ingest;
    struct ap_askers *askers;
    struct ap_rpc_server *rpc;
    struct ap_api *api;
    struct ap_push_intake intake;
    struct ap_metrics metrics;

    pthread_mutex_t lock; /* of what follows */
    struct ap_writer writers[AP_WRITERS_MAX];
    unsigned writer_next;
    bool serving_known, serving; /* what storage said before the gRPC server was there to be told */
};

/* What the HTTP side asks; the context is the aggregator. */
extern const struct ap_api_ops ap_aggregator_api_ops;

/* The page of /metrics. */
void ap_aggregator_write_metrics(struct ap_aggregator *aggregator, struct ap_out *out);

#endif
