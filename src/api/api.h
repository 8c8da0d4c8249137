/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The HTTP side of the aggregator: the REST endpoints of DESIGN 7 over src/query, /healthz, /readyz, /metrics, and
 * static files. libmicrohttpd is used in this folder alone. The OpenAPI file docs/openapi.yaml describes every
 * endpoint. */
#ifndef APERTURE_API_API_H
#define APERTURE_API_API_H

#include "core/error.h"
#include "core/out.h"
#include "model/answer.h"
#include "model/capture.h"
#include "model/push.h"
#include "model/selector.h"
#include "query/query.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds; what is past them is refused with the status in brackets and counted. */
#define AP_API_CONNECTIONS_MAX 16384        /* open at once (more wait in the backlog of the listening socket) */
#define AP_API_HEADER_SZ       (16u << 10)  /* request line and headers (431) */
#define AP_API_BODY_SZ         (64u << 20)  /* of an import (413) */
#define AP_API_QUERY_BODY_SZ   (1u << 20)   /* of any other request (413) */
#define AP_API_BODIES_SZ       (512u << 20) /* of all requests together (503) */
#define AP_API_JOBS_MAX        256          /* requests waiting for a worker (503 with Retry-After) */
#define AP_API_JOBS_PEER_MAX   64           /* of those, from one address (429 with Retry-After) */
#define AP_API_ANSWER_SZ       (256u << 20) /* of an answer, as it is sent (500 with words that say how to narrow) */
#define AP_API_ANSWERS_SZ      (1u << 30)   /* of all answers being sent together (503) */
#define AP_API_TIMEOUT_S       30           /* idle connections; a request's headers (connection closed) */
#define AP_API_RATE_MIN        (32u << 10)  /* bytes a second, of bodies and answers beyond that time (closed) */

/* What the API asks its owner; called on worker threads, but for authorize, and from the moment it listens: before
 * ap_api_new() has returned. */
struct ap_api_ops {
    /* HTTP status 200, 401 or 403 for the value of the Authorization header (NULL = none). `write`: changes something.
     * `what`: "GET /api/top" and `peer`: for the audit log. Called on the thread that serves connections, before a
     * body is taken: must not wait. */
    int (*authorize)(void *ctx, const char *authorization, bool write, const char *what, const char *peer);
    /* A change was made through the API, for the audit log. */
    void (*audit)(void *ctx, const char *what, const char *peer, const char *detail);
    /* Writes the page of /metrics (Prometheus text). */
    void (*metrics)(void *ctx, struct ap_out *out);
    /* 0 when ready, else negative errno with words for /readyz. */
    int (*ready)(void *ctx, struct ap_error *err);
    /* Stores what was imported and waits until it is committed. `push` is taken over. 0, -EINVAL, -EAGAIN, -ENOSPC ...;
     * with words. */
    int (*import)(void *ctx, struct ap_push *push, struct ap_error *err);
    /* The newest batches, from memory. 0, -EINVAL or -ENOMEM; with words. */
    int (*recent)(void *ctx, const struct ap_selector *selector, size_t limit, struct ap_batches_answer *ret,
                  struct ap_error *err);
    /* Writes further members of the object of /api/health ("storage":{...}, ...), each with a comma before it. */
    void (*health)(void *ctx, struct ap_out *out);
};

struct ap_api_opts {
    const char *listen;   /* "127.0.0.1:9090", "[::]:0" */
    const char *tls_cert; /* PEM files; NULL = plain HTTP */
    const char *tls_key;
    const char *tls_ca;     /* clients must have a certificate from here; NULL = they need none */
    const char *ui_dir;     /* folder of static files for "/", NULL = none */
    unsigned workers;       /* threads that run queries; 0 = twice the CPUs, at most 16 */
    struct ap_query *query; /* borrowed */
    const struct ap_api_ops *ops;
    void *ctx;
};

struct ap_api; /* opaque; functions may be called from any thread */

/* Listens and serves. NULL with words. */
struct ap_api *ap_api_new(const struct ap_api_opts *opts, struct ap_error *err);
/* The port that it got, when port 0 was asked for. */
unsigned ap_api_port(const struct ap_api *api);
/* Takes no new connections, finishes requests in progress, at most `grace_ns`, then answers what is left with 503 and
 * closes. */
void ap_api_stop(struct ap_api *api, uint64_t grace_ns);
/* Stops at once when that was not done, and waits for the questions that storage is still working on. Accepts NULL.
 * Returns NULL. */
struct ap_api *ap_api_free(struct ap_api *api);

struct ap_api_stats {
    uint64_t requests, errors_4xx, errors_5xx; /* since the start; answers */
    uint64_t refused_auth, refused_busy, refused_size, refused_slow;
    uint64_t connections; /* now */
};
void ap_api_stats(struct ap_api *api, struct ap_api_stats *ret_stats);

#endif
