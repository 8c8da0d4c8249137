/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the aggregator counts about itself, and how that reads as Prometheus text. */
#ifndef APERTURE_AGGREGATOR_METRICS_H
#define APERTURE_AGGREGATOR_METRICS_H

#include "core/out.h"
#include "model/capture.h"

#include <stdatomic.h>
#include <stdint.h>

/* What became of a push. */
enum ap_push_status {
    AP_PUSH_OK = 0,
    AP_PUSH_DUPLICATE = 1,
    AP_PUSH_BAD_REQUEST = 2, /* refused for ever: the request around the batch, */
    AP_PUSH_BAD_BATCH = 3,   /* the batch, */
    AP_PUSH_TOO_LARGE = 4,   /* its size */
    AP_PUSH_QUEUE_FULL = 5,  /* refused for now */
    AP_PUSH_AWAY = 6,        /* storage does not answer */
    AP_PUSH_DISK_FULL = 7,
    AP_PUSH_NO_MEMORY = 8,
    AP_PUSH_STOPPING = 9,
    AP_PUSH_CANCELLED = 10, /* the sender went away before it was stored */
    AP_PUSH_FAILED = 11,    /* storage failed otherwise */
};
#define AP_PUSH_STATUS_CNT 12
/* "ok", "duplicate", "bad_request" ... */
const char *ap_push_status_name(enum ap_push_status status);

/* Methods whose duration is measured. */
enum ap_ask_method {
    AP_ASK_QUERY = 0,
    AP_ASK_QUERY_STORAGE = 1,
    AP_ASK_AGGREGATE = 2,
    AP_ASK_DIFF = 3,
};
#define AP_ASK_METHOD_CNT 4
const char *ap_ask_method_name(enum ap_ask_method method);

/* A histogram of durations: buckets from 1 ms to 30 s and one for all beyond. */
#define AP_DURATION_BUCKETS 14
struct ap_duration {
    atomic_uint_least64_t counts[AP_DURATION_BUCKETS + 1], sum_ns;
};
void ap_duration_add(struct ap_duration *duration, uint64_t ns);

/* Counters since the start; written from any thread. Zero-initialised. */
struct ap_metrics {
    atomic_uint_least64_t pushes[AP_PUSH_STATUS_CNT];
    atomic_uint_least64_t push_events, push_bytes, losses[AP_LOSS_REASON_CNT];
    struct ap_duration push_duration;
    atomic_uint_least64_t flushes_ok, flushes_failed, flush_rows;
    struct ap_duration flush_duration;
    struct ap_duration asks[AP_ASK_METHOD_CNT];
    atomic_uint_least64_t ask_errors[AP_ASK_METHOD_CNT], ask_refused;
    atomic_uint_least64_t imports_ok, imports_failed, reloads_ok, reloads_failed;
};

static inline void ap_count(atomic_uint_least64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
static inline uint64_t ap_counted(atomic_uint_least64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Writes families of the text format (HELP, TYPE, samples). `labels` is what stands between the braces, NULL = none. */
void ap_prom_family(struct ap_out *out, const char *name, const char *type, const char *help);
void ap_prom_u64(struct ap_out *out, const char *name, const char *labels, uint64_t value);
void ap_prom_double(struct ap_out *out, const char *name, const char *labels, double value);
/* One family of one sample. */
void ap_prom_counter(struct ap_out *out, const char *name, const char *help, uint64_t value);
void ap_prom_gauge(struct ap_out *out, const char *name, const char *help, uint64_t value);
/* The samples of one histogram, in seconds. */
void ap_prom_duration(struct ap_out *out, const char *name, const char *labels, struct ap_duration *duration);

/* Everything in `metrics`. */
void ap_metrics_write(struct ap_metrics *metrics, struct ap_out *out);
/* This process: CPU time, memory, descriptors, start; and its version. */
void ap_metrics_write_process(struct ap_out *out);

#endif
