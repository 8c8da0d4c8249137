/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/api: requests, endpoints, jobs.
 *
 * libmicrohttpd's threads take requests and send answers; they never wait. Whatever asks something becomes a job: its
 * connection is suspended, a worker runs the endpoint's handler and resumes the connection. A request belongs to its
 * connection and, while it is a job, to the job as well: the last of both frees it. */
#ifndef APERTURE_API_INTERNAL_H
#define APERTURE_API_INTERNAL_H

#include "api/api.h"
#include "api/http.h"
#include "api/params.h"
#include "api/sink.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

/* Seconds after which a refused client should come again. */
#define AP_API_RETRY_S 1
/* "ADDRESS:PORT" */
#define AP_API_PEER_SZ (INET6_ADDRSTRLEN + 16)
/* "POST /api/import": longer paths are cut */
#define AP_API_WHAT_SZ 256

struct ap_api_request;

/* What runs a handler. */
enum ap_api_lane {
    AP_API_LANE_NOW = 0,    /* the connection's thread: must not wait */
    AP_API_LANE_QUICK = 1,  /* a worker that no query blocks */
    AP_API_LANE_QUERY = 2,  /* workers for questions */
    AP_API_LANE_IMPORT = 3, /* workers for imports, whose memory is large */
    AP_API_LANE_CNT = 4,
};

enum {
    AP_API_GET = 1, /* and HEAD */
    AP_API_POST = 2,
};

struct ap_api_route {
    const char *path; /* '*' stands for one part of a path */
    unsigned method;  /* AP_API_GET or AP_API_POST */
    enum ap_api_lane lane;
    bool open;       /* needs no token */
    bool write;      /* needs the write scope, and is audited */
    uint32_t params; /* AP_API_* of params.h */
    size_t body_max;
    const char *types; /* of answers, with commas between; the first is used unless the handler says otherwise */
    /* Writes the answer to request->out. 0, or negative errno with words, which become an error answer. */
    int (*handle)(struct ap_api_request *request, struct ap_error *err);
};

extern const struct ap_api_route ap_api_routes[];
extern const size_t ap_api_route_cnt;

enum ap_api_phase {
    AP_API_NEW = 0,      /* its first line was read */
    AP_API_BODY = 1,     /* its body is being received */
    AP_API_QUEUED = 2,   /* it is a job, its connection is suspended */
    AP_API_ANSWERED = 3, /* its answer is being sent */
};

struct ap_api_request {
    struct ap_api *api;
    struct MHD_Connection *connection;
    struct ap_api_connection *peer_connection;
    const struct ap_api_route *route;
    enum ap_api_phase phase;
    atomic_int refs;
    struct ap_api_request *next, *prev; /* of those in progress; under api->lock */

    char *uri;      /* owned, as it came */
    char *path;     /* owned, decoded */
    char *wildcard; /* owned; what '*' stands for */
    struct ap_api_pairs pairs;
    char what[AP_API_WHAT_SZ], peer[AP_API_PEER_SZ];
    bool head;
    char *accept, *accept_encoding, *content_type; /* owned; headers, NULL = not there */
    struct ap_buf body;
    size_t body_counted; /* in api->bodies */
    bool discard;        /* the body is not kept: its answer is known */
    size_t discarded;    /* bytes */

    struct ap_api_params params;

    /* The answer. */
    struct ap_api_sink *sink;
    struct ap_out *out;
    int status;            /* 0 = none yet */
    const char *type;      /* static */
    char disposition[256]; /* of a file to be saved; "" = none */
    bool active_content;   /* it runs scripts of its own: it may not touch what is ours */
    char *data;            /* owned until it is handed over for sending */
    size_t len, held;      /* held: counted in api->answers */
    enum ap_api_encoding encoding;
    bool retry, close;
    unsigned allow;             /* AP_API_GET | AP_API_POST for 405 */
    struct MHD_Response *ready; /* owned; an answer that is none of the above: a file */

    /* Under api->lock: */
    bool queued;    /* it is a job */
    bool done;      /* by its job */
    bool abandoned; /* the server stopped waiting for its job */
};

/* ---- Jobs ---------------------------------------------------------------------------------------------------------
 */

struct ap_api_jobs; /* opaque: a bounded queue and its threads */

/* `run` is called on a thread of the queue. NULL with words. */
struct ap_api_jobs *ap_api_jobs_new(unsigned threads, size_t max, void (*run)(struct ap_api_request *request),
                                    struct ap_error *err);
/* Takes one more: 0, -EAGAIN (full), or -EBUSY (too many of this peer). */
int ap_api_jobs_push(struct ap_api_jobs *jobs, struct ap_api_request *request);
/* Takes out what has not begun: NULL when there is none (any more). */
struct ap_api_request *ap_api_jobs_take(struct ap_api_jobs *jobs);
/* Finishes what has begun and ends the threads. Accepts NULL. Returns NULL. */
struct ap_api_jobs *ap_api_jobs_free(struct ap_api_jobs *jobs);

/* ---- Connections: clients that are too slow are cut off -----------------------------------------------------------
 */

struct ap_api_connection {
    struct ap_api_connection *next, *prev;
    int fd;
    uint64_t deadline_ns; /* monotonic; 0 = none: it is our turn */
};

/* ---- The server ---------------------------------------------------------------------------------------------------
 */

struct ap_api {
    struct MHD_Daemon *daemon;
    struct ap_query *query;
    const struct ap_api_ops *ops;
    void *ctx;
    char *ui_dir; /* owned, NULL = none */
    int listen_fd;
    unsigned port;
    bool tls, mutual_tls;
    uint64_t started_ns; /* since the epoch */

    struct ap_api_jobs *lanes[AP_API_LANE_CNT]; /* [AP_API_LANE_NOW] is NULL */
    atomic_size_t bodies, answers;              /* bytes held */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock */
    struct ap_api_request *active;
    struct ap_api_connection *connections;
    size_t connection_cnt;
    bool stopping, stopped, end_watch;
    atomic_bool serving; /* libmicrohttpd has started: what it says no longer tells why it does not */
    pthread_t watch;     /* looks for slow clients */
    bool watch_started;
    char mhd_message[256]; /* the last one of libmicrohttpd's */

    atomic_uint_fast64_t import_sequence;
    atomic_uint_fast64_t requests, errors_4xx, errors_5xx, refused_auth, refused_busy, refused_size, refused_slow;
};

/* The endpoint of a path. `ret_wildcard`: the part of the path that '*' stands for, the caller's to free, NULL for
 * none; `ret_allow`: methods of that path. NULL when the path is known with other methods only (*ret_allow != 0), or
 * not at all. */
const struct ap_api_route *ap_api_find_route(const char *path, unsigned method, char **ret_wildcard,
                                             unsigned *ret_allow);

/* ---- Requests (request.c) ------------------------------------------------------------------------------------------
 */

void ap_api_request_unref(struct ap_api_request *request);
/* Runs the handler, on whatever thread, and keeps the answer in the request. */
void ap_api_request_run(struct ap_api_request *request);
/* Makes the answer an error: {"error":{"code","message"}}. */
void ap_api_request_fail(struct ap_api_request *request, int status, const char *code, const char *message);
/* Hands the answer to libmicrohttpd. */
enum MHD_Result ap_api_request_send(struct ap_api_request *request);

/* ---- Static files (files.c) ----------------------------------------------------------------------------------------
 */

/* The file of ui_dir for a path, as request->ready, or an error. */
void ap_api_files_answer(struct ap_api_request *request);

/* ---- Binary columns (columns.c) ------------------------------------------------------------------------------------
 */

#define AP_API_COLUMNS_TYPE "application/vnd.aperture.flamegraph"

/* Writes docs/flamegraph-binary.md. `meta`: JSON text. 0 or -ENOMEM. */
int ap_api_columns_write(const struct ap_tree_answer *tree, const char *meta, size_t meta_len, struct ap_out *out);

/* ---- JSON of answers (answers.c) -----------------------------------------------------------------------------------
 */

void ap_api_write_provenance(const struct ap_provenance *provenance, struct ap_out *out);
void ap_api_write_labels(const struct ap_label *labels, size_t cnt, struct ap_out *out);
/* "kind":..,"unit":..,"from_ns":..,"to_ns":.. without braces. */
void ap_api_write_selector(const struct ap_selector *selector, uint64_t now_ns, struct ap_out *out);
void ap_api_write_functions(const struct ap_functions_answer *answer, struct ap_out *out);
/* The tree as nested objects. 0 or -ENOMEM. */
int ap_api_write_tree(const struct ap_tree_answer *tree, struct ap_out *out);
void ap_api_write_diff(const struct ap_diff_answer *answer, struct ap_out *out);
void ap_api_write_batches(const struct ap_batches_answer *answer, struct ap_out *out);
void ap_api_write_agents(const struct ap_agents_answer *answer, uint64_t now_ns, struct ap_out *out);
void ap_api_write_lock_rows(const struct ap_aggregate_answer *answer, struct ap_out *out);
void ap_api_write_syscall_rows(const struct ap_aggregate_answer *answer, struct ap_out *out);
void ap_api_write_texts(const char *name, const struct ap_texts *texts, struct ap_out *out);

/* ---- Handlers ------------------------------------------------------------------------------------------------------
 */

int ap_api_get_healthz(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_readyz(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_metrics(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_health(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_flamegraph(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_top(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_timeline(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_heatmap(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_locks(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_syscalls(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_series(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_labels(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_label_values(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_agents(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_batches(struct ap_api_request *request, struct ap_error *err);
int ap_api_post_aggregate(struct ap_api_request *request, struct ap_error *err);
int ap_api_post_diff(struct ap_api_request *request, struct ap_error *err);
int ap_api_get_export(struct ap_api_request *request, struct ap_error *err);
int ap_api_post_import(struct ap_api_request *request, struct ap_error *err);

#endif
