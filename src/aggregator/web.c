/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the HTTP side asks of the aggregator. */
#include "aggregator/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void remember_writer(struct ap_aggregator *aggregator, const char *peer, const char *name)
{
    struct ap_writer *writer;
    unsigned i;

    pthread_mutex_lock(&aggregator->lock);
    for (i = 0; i < AP_WRITERS_MAX && strcmp(aggregator->writers[i].peer, peer) != 0; i++)
        ;
    writer = &aggregator->writers[i < AP_WRITERS_MAX ? i : aggregator->writer_next++ % AP_WRITERS_MAX];
    snprintf(writer->peer, sizeof(writer->peer), "%s", peer);
    snprintf(writer->name, sizeof(writer->name), "%s", name);
    pthread_mutex_unlock(&aggregator->lock);
}

static void writer_name(struct ap_aggregator *aggregator, const char *peer, char ret_name[AP_AUTH_NAME_SZ])
{
    snprintf(ret_name, AP_AUTH_NAME_SZ, "-");
    pthread_mutex_lock(&aggregator->lock);
    for (unsigned i = 0; i < AP_WRITERS_MAX; i++)
        if (!strcmp(aggregator->writers[i].peer, peer))
            memcpy(ret_name, aggregator->writers[i].name, AP_AUTH_NAME_SZ);
    pthread_mutex_unlock(&aggregator->lock);
}

static int web_authorize(void *ctx, const char *authorization, bool write, const char *what, const char *peer)
{
    struct ap_aggregator *aggregator = ctx;
    char name[AP_AUTH_NAME_SZ];
    enum ap_auth_result result = ap_auth_check(aggregator->auth, authorization, write, name);

    if (result == AP_AUTH_OK) {
        if (write)
            remember_writer(aggregator, peer, name);
        return 200;
    }
    ap_audit_refused(aggregator->audit, name, peer, what, ap_auth_result_text(result));
    return result == AP_AUTH_SCOPE ? 403 : 401;
}

static void web_audit(void *ctx, const char *what, const char *peer, const char *detail)
{
    struct ap_aggregator *aggregator = ctx;
    char name[AP_AUTH_NAME_SZ];

    writer_name(aggregator, peer, name);
    ap_audit_change(aggregator->audit, name, peer, what, detail);
}

static void web_metrics(void *ctx, struct ap_out *out)
{
    ap_aggregator_write_metrics(ctx, out);
}

static int web_ready(void *ctx, struct ap_error *err)
{
    struct ap_aggregator *aggregator = ctx;

    return ap_ingest_ready(aggregator->ingest, err);
}

static int web_import(void *ctx, struct ap_push *push, struct ap_error *err)
{
    struct ap_aggregator *aggregator = ctx;

    return ap_push_import(&aggregator->intake, push, err);
}

static int web_recent(void *ctx, const struct ap_selector *selector, size_t limit, struct ap_batches_answer *ret,
                      struct ap_error *err)
{
    struct ap_aggregator *aggregator = ctx;

    return ap_ring_query(aggregator->ring, selector, limit, ret, err);
}

static void web_health(void *ctx, struct ap_out *out)
{
    struct ap_aggregator *aggregator = ctx;
    struct ap_storage_stats storage;
    struct ap_ingest_stats ingest;
    struct ap_ring_stats ring;
    struct ap_error err = {0};
    int rc = ap_ingest_ready(aggregator->ingest, &err);

    ap_storage_stats(aggregator->storage, &storage);
    ap_ingest_stats(aggregator->ingest, &ingest);
    ap_ring_stats(aggregator->ring, &ring);
    ap_out_printf(out, ",\"storage\":{\"kind\":\"%s\",\"ready\":%s", ap_storage_name(aggregator->storage),
                  rc ? "false" : "true");
    if (rc) {
        ap_out_str(out, ",\"problem\":");
        ap_out_json_str(out, err.text, false);
    }
    ap_out_printf(out, ",\"disk_bytes\":%" PRIu64 ",\"sample_rows\":%" PRIu64 ",\"dropped_batches\":%" PRIu64 "}",
                  storage.disk_bytes, storage.sample_rows, storage.dropped_batches);
    ap_out_printf(out, ",\"queue\":{\"batches\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"max_bytes\":%" PRIu64 "}",
                  ingest.batches, ingest.bytes, ingest.max_bytes);
    ap_out_printf(out,
                  ",\"buffer\":{\"batches\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"max_bytes\":%" PRIu64
                  ",\"dropped\":%" PRIu64 "}",
                  ring.batches, ring.bytes, ring.max_bytes, ring.dropped);
}

const struct ap_api_ops ap_aggregator_api_ops = {
    .authorize = web_authorize,
    .audit = web_audit,
    .metrics = web_metrics,
    .ready = web_ready,
    .import = web_import,
    .recent = web_recent,
    .health = web_health,
};

/* ---- /metrics ---- */

static void write_intake(struct ap_aggregator *aggregator, struct ap_out *out)
{
    struct ap_ingest_stats ingest;
    struct ap_ring_stats ring;

    ap_ingest_stats(aggregator->ingest, &ingest);
    ap_prom_gauge(out, "aperture_ready", "1 while storage takes batches.", ingest.ready);
    ap_prom_counter(out, "aperture_storage_away_total", "Times that storage went away.", ingest.away_cnt);
    ap_prom_gauge(out, "aperture_storage_pending_rows", "Sample rows that wait to be stored.", ingest.rows);
    ap_prom_gauge(out, "aperture_storage_pending_batches", "Batches that wait to be stored.", ingest.batches);
    ap_prom_gauge(out, "aperture_storage_pending_bytes", "Memory of the batches that wait.", ingest.bytes);
    ap_prom_gauge(out, "aperture_storage_pending_max_bytes", "Most of it (--queue-size).", ingest.max_bytes);

    ap_ring_stats(aggregator->ring, &ring);
    ap_prom_gauge(out, "aperture_buffer_batches", "Batches in the ring buffer.", ring.batches);
    ap_prom_gauge(out, "aperture_buffer_bytes", "Memory of the ring buffer.", ring.bytes);
    ap_prom_gauge(out, "aperture_buffer_max_bytes", "Most of it (--buffer-size).", ring.max_bytes);
    ap_prom_counter(out, "aperture_buffer_drops_total", "Batches that left the ring buffer to make room.",
                    ring.dropped);
}

static void write_storage(struct ap_aggregator *aggregator, struct ap_out *out)
{
    struct ap_storage_stats stats;
    char label[64];

    ap_storage_stats(aggregator->storage, &stats);
    snprintf(label, sizeof(label), "kind=\"%s\"", ap_storage_name(aggregator->storage));
    ap_prom_family(out, "aperture_storage_info", "gauge", "Always 1; the kind of storage is in the label.");
    ap_prom_u64(out, "aperture_storage_info", label, 1);
    ap_prom_gauge(out, "aperture_storage_disk_bytes", "Bytes of the tables; 0 = not known.", stats.disk_bytes);
    ap_prom_gauge(out, "aperture_storage_sample_rows", "Sample rows in the tables; 0 = not known.", stats.sample_rows);
    ap_prom_counter(out, "aperture_storage_dropped_batches_total",
                    "Batches that the memory store gave up to make room.", stats.dropped_batches);
}

static void write_servers(struct ap_aggregator *aggregator, struct ap_out *out)
{
    struct ap_rpc_server_stats rpc = {0};
    struct ap_api_stats api = {0};

    pthread_mutex_lock(&aggregator->lock); /* a page may be asked for while they are being started */
    if (aggregator->rpc)
        ap_rpc_server_stats(aggregator->rpc, &rpc);
    if (aggregator->api)
        ap_api_stats(aggregator->api, &api);
    pthread_mutex_unlock(&aggregator->lock);
    ap_prom_counter(out, "aperture_grpc_calls_total", "gRPC calls.", rpc.calls);
    ap_prom_gauge(out, "aperture_grpc_calls_in_progress", "gRPC calls in progress.", rpc.in_progress);
    ap_prom_family(out, "aperture_grpc_refused_total", "counter", "gRPC calls that were refused, by reason.");
    ap_prom_u64(out, "aperture_grpc_refused_total", "reason=\"auth\"", rpc.refused_auth);
    ap_prom_u64(out, "aperture_grpc_refused_total", "reason=\"busy\"", rpc.refused_busy);
    ap_prom_u64(out, "aperture_grpc_refused_total", "reason=\"size\"", rpc.refused_size);
    ap_prom_u64(out, "aperture_grpc_refused_total", "reason=\"slow\"", rpc.timed_out);
    ap_prom_u64(out, "aperture_grpc_refused_total", "reason=\"connections\"", rpc.refused_connections);
    ap_prom_counter(out, "aperture_http_requests_total", "HTTP requests.", api.requests);
    ap_prom_gauge(out, "aperture_http_connections", "Open HTTP connections.", api.connections);
    ap_prom_family(out, "aperture_http_errors_total", "counter", "HTTP requests answered by an error, by its class.");
    ap_prom_u64(out, "aperture_http_errors_total", "class=\"4xx\"", api.errors_4xx);
    ap_prom_u64(out, "aperture_http_errors_total", "class=\"5xx\"", api.errors_5xx);
    ap_prom_family(out, "aperture_http_refused_total", "counter", "HTTP requests that were refused, by reason.");
    ap_prom_u64(out, "aperture_http_refused_total", "reason=\"auth\"", api.refused_auth);
    ap_prom_u64(out, "aperture_http_refused_total", "reason=\"busy\"", api.refused_busy);
    ap_prom_u64(out, "aperture_http_refused_total", "reason=\"size\"", api.refused_size);
    ap_prom_u64(out, "aperture_http_refused_total", "reason=\"slow\"", api.refused_slow);
}

static void write_questions(struct ap_aggregator *aggregator, struct ap_out *out)
{
    struct ap_query_stats stats;

    ap_query_stats(aggregator->query, &stats);
    ap_prom_gauge(out, "aperture_query_waiting", "gRPC questions that wait for a thread.",
                  ap_askers_waiting(aggregator->askers));
    ap_prom_counter(out, "aperture_query_cache_hits_total", "Stacks that questions found in the cache.",
                    stats.cache_hits);
    ap_prom_counter(out, "aperture_query_cache_misses_total", "Stacks that questions had to ask storage for.",
                    stats.cache_misses);
    ap_prom_counter(out, "aperture_query_cache_evicted_total", "Stacks that left the cache to make room.",
                    stats.cache_evicted);
    ap_prom_gauge(out, "aperture_query_cache_stacks", "Stacks in the cache.", stats.cached);
    ap_prom_gauge(out, "aperture_query_cache_bytes", "Memory of the cache.", stats.cached_bytes);
}

static void write_access(struct ap_aggregator *aggregator, struct ap_out *out)
{
    struct ap_audit_stats stats;
    size_t brief;

    ap_audit_stats(aggregator->audit, &stats);
    ap_prom_gauge(out, "aperture_auth_tokens", "Tokens that are known; 0 = everybody may do everything.",
                  ap_auth_cnt(aggregator->auth, &brief));
    ap_prom_counter(out, "aperture_audit_refused_total", "Calls refused for want of a token that may.", stats.refused);
    ap_prom_counter(out, "aperture_audit_changes_total", "Changes made by callers.", stats.changes);
    ap_prom_counter(out, "aperture_audit_suppressed_total", "Refused calls that were counted but not logged.",
                    stats.suppressed);
}

void ap_aggregator_write_metrics(struct ap_aggregator *aggregator, struct ap_out *out)
{
    ap_metrics_write(&aggregator->metrics, out);
    write_intake(aggregator, out);
    write_storage(aggregator, out);
    write_servers(aggregator, out);
    write_questions(aggregator, out);
    write_access(aggregator, out);
    ap_metrics_write_process(out);
}
