/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/address.h"
#include "aggregator/internal.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Commits to files begin at least so far apart: each makes a part of a table, which is merged later. */
#define COMMIT_INTERVAL_NS 50000000ULL
/* Of the time that stopping has, kept for committing what was taken after the last call was answered. */
#define COMMIT_RESERVE_NS 1000000000ULL

#define METHOD(name) "/aperture.v1.Aggregator/" name

static void on_push(void *ctx, struct ap_rpc_call *call)
{
    struct ap_aggregator *aggregator = ctx;

    ap_push_serve(&aggregator->intake, call);
}

static void on_query(void *ctx, struct ap_rpc_call *call)
{
    struct ap_aggregator *aggregator = ctx;

    ap_askers_serve(aggregator->askers, AP_ASK_QUERY, call);
}

static void on_query_storage(void *ctx, struct ap_rpc_call *call)
{
    struct ap_aggregator *aggregator = ctx;

    ap_askers_serve(aggregator->askers, AP_ASK_QUERY_STORAGE, call);
}

static void on_aggregate(void *ctx, struct ap_rpc_call *call)
{
    struct ap_aggregator *aggregator = ctx;

    ap_askers_serve(aggregator->askers, AP_ASK_AGGREGATE, call);
}

static void on_diff(void *ctx, struct ap_rpc_call *call)
{
    struct ap_aggregator *aggregator = ctx;

    ap_askers_serve(aggregator->askers, AP_ASK_DIFF, call);
}

static const struct ap_rpc_method methods[] = {
    {.path = METHOD("Push"), .handler = on_push, .write = true},
    {.path = METHOD("Query"), .handler = on_query},
    {.path = METHOD("QueryStorage"), .handler = on_query_storage},
    {.path = METHOD("Aggregate"), .handler = on_aggregate},
    {.path = METHOD("Diff"), .handler = on_diff},
};

static int authorize(void *ctx, const char *authorization, bool write, const char *method, const char *peer)
{
    struct ap_aggregator *aggregator = ctx;
    char name[AP_AUTH_NAME_SZ];
    enum ap_auth_result result = ap_auth_check(aggregator->auth, authorization, write, name);

    if (result == AP_AUTH_OK)
        return AP_RPC_OK;
    ap_audit_refused(aggregator->audit, name, peer, method, ap_auth_result_text(result));
    return result == AP_AUTH_SCOPE ? AP_RPC_PERMISSION_DENIED : AP_RPC_UNAUTHENTICATED;
}

/* Storage went away or came back: gRPC health says the same as /readyz. */
static void on_ready(void *ctx, bool ready)
{
    struct ap_aggregator *aggregator = ctx;

    pthread_mutex_lock(&aggregator->lock);
    aggregator->serving_known = true;
    aggregator->serving = ready;
    if (aggregator->rpc)
        ap_rpc_server_set_serving(aggregator->rpc, ready);
    pthread_mutex_unlock(&aggregator->lock);
}

/* ---- Start ---- */

/* Makes the folder and those above it. The last one is for this user only: it holds what programs do. */
static int make_data_dir(const char *path, struct ap_error *err)
{
    char part[PATH_MAX];
    char *slash = part;

    snprintf(part, sizeof(part), "%s", path);
    while ((slash = strchr(slash + 1, '/'))) {
        *slash = '\0';
        if (mkdir(part, 0755) && errno != EEXIST)
            return ap_error_errno(err, -errno, "cannot make %s (see --data-dir)", part);
        *slash = '/';
    }
    if (mkdir(part, 0700) && errno != EEXIST)
        return ap_error_errno(err, -errno, "cannot make %s (see --data-dir)", part);
    return 0;
}

static struct ap_storage *open_kind(const struct ap_aggregator_config *config, enum ap_storage_kind kind,
                                    struct ap_error *err)
{
    struct ap_storage_opts opts = ap_aggregator_storage_opts(config, kind);

    if (kind != AP_STORAGE_MEMORY && make_data_dir(config->data_dir, err))
        return NULL;
    return ap_storage_open(&opts, err);
}

static struct ap_storage *open_storage(const struct ap_aggregator_config *config, struct ap_error *err)
{
    struct ap_storage *storage;

    switch ((enum ap_storage_choice)config->storage) {
    case AP_STORAGE_CHOICE_MEMORY:
        return open_kind(config, AP_STORAGE_MEMORY, err);
    case AP_STORAGE_CHOICE_CHDB:
        return open_kind(config, AP_STORAGE_CHDB, err);
    case AP_STORAGE_CHOICE_CLICKHOUSE:
        return open_kind(config, AP_STORAGE_CLICKHOUSE, err);
    case AP_STORAGE_CHOICE_AUTO:
        break;
    }
    if (config->clickhouse_endpoint)
        return open_kind(config, AP_STORAGE_CLICKHOUSE, err);
    storage = open_kind(config, AP_STORAGE_CHDB, err);
    /* Without the library, or a place for its files. What is there but does not open (another program has it, a newer
     * schema) must not be passed over. */
    if (storage || (err->code != -ENOENT && err->code != -EACCES && err->code != -EPERM && err->code != -EROFS))
        return storage;
    ap_log_warn("storing in memory only, what is stored is gone when this program ends: %s", err->text);
    return open_kind(config, AP_STORAGE_MEMORY, err);
}

static int no_memory(struct ap_error *err)
{
    return ap_error_set(err, -ENOMEM, "out of memory");
}

static int start_parts(struct ap_aggregator *aggregator, struct ap_error *err)
{
    const struct ap_aggregator_config *config = aggregator->config;
    struct ap_ingest_opts ingest = {
        .metrics = &aggregator->metrics, .queue_sz = config->queue_sz, .on_ready = on_ready, .ctx = aggregator};
    struct ap_askers_opts askers = {.metrics = &aggregator->metrics};

    aggregator->auth = ap_auth_new(config->auth_token, config->token_file, err);
    if (!aggregator->auth)
        return err->code;
    aggregator->audit = ap_audit_new();
    aggregator->ring = ap_ring_new(config->buffer_sz);
    if (!aggregator->audit || !aggregator->ring)
        return no_memory(err);
    aggregator->storage = open_storage(config, err);
    if (!aggregator->storage)
        return err->code;
    aggregator->query = ap_query_new(aggregator->storage);
    if (!aggregator->query)
        return no_memory(err);

    ingest.storage = aggregator->storage;
    ingest.ring = aggregator->ring;
    if (strcmp(ap_storage_name(aggregator->storage), "memory") != 0) {
        ingest.interval_ns = COMMIT_INTERVAL_NS;
        ingest.disk = config->data_dir;
    }
    aggregator->ingest = ap_ingest_new(&ingest, err);
    if (!aggregator->ingest)
        return err->code;
    aggregator->intake.ingest = aggregator->ingest;
    aggregator->intake.ring = aggregator->ring;
    aggregator->intake.metrics = &aggregator->metrics;

    askers.query = aggregator->query;
    askers.ring = aggregator->ring;
    askers.ingest = aggregator->ingest;
    aggregator->askers = ap_askers_new(&askers, err);
    return aggregator->askers ? 0 : err->code;
}

static int start_servers(struct ap_aggregator *aggregator, struct ap_error *err)
{
    const struct ap_aggregator_config *config = aggregator->config;
    const struct ap_rpc_server_opts rpc_opts = {
        .listen = config->listen,
        .tls = config->tls,
        .methods = methods,
        .method_cnt = sizeof(methods) / sizeof(methods[0]),
        .ctx = aggregator,
        .authorize = ap_auth_is_open(aggregator->auth) ? NULL : authorize,
    };
    const struct ap_api_opts api_opts = {
        .listen = config->admin_listen,
        .tls_cert = config->tls.cert,
        .tls_key = config->tls.key,
        .tls_ca = config->tls.ca,
        .ui_dir = config->ui_dir,
        .query = aggregator->query,
        .ops = &ap_aggregator_api_ops,
        .ctx = aggregator,
    };
    struct ap_rpc_server *rpc;
    struct ap_api *api;

    api = ap_api_new(&api_opts, err);
    pthread_mutex_lock(&aggregator->lock);
    aggregator->api = api;
    pthread_mutex_unlock(&aggregator->lock);
    if (!api) {
        ap_error_prefix(err, "HTTP on %s", config->admin_listen);
        return err->code;
    }
    rpc = ap_rpc_server_new(&rpc_opts, err);
    if (!rpc) {
        ap_error_prefix(err, "gRPC on %s", config->listen);
        return err->code;
    }
    pthread_mutex_lock(&aggregator->lock);
    aggregator->rpc = rpc;
    if (aggregator->serving_known)
        ap_rpc_server_set_serving(rpc, aggregator->serving);
    pthread_mutex_unlock(&aggregator->lock);
    return 0;
}

static void warn_of_tokens(struct ap_aggregator *aggregator)
{
    const struct ap_aggregator_config *config = aggregator->config;
    size_t brief, cnt = ap_auth_cnt(aggregator->auth, &brief);

    if (brief)
        ap_log_warn("%zu of %zu tokens are shorter than %d characters and can be guessed: make one with "
                    "\"openssl rand -hex 24\"",
                    brief, cnt, AP_AUTH_TOKEN_SHORT);
    if (cnt && !config->tls.cert && strncmp(config->listen, "127.", 4) != 0)
        ap_log_warn("tokens cross the network in plain text: give --tls-cert and --tls-key");
    if (!cnt && config->insecure)
        ap_log_warn("--insecure: everybody who can connect may read and write");
    if (config->loopback_only)
        ap_log_info("no token: answering on this machine only; give --auth-token or --token-file to listen on the "
                    "network");
}

struct ap_aggregator *ap_aggregator_start(const struct ap_aggregator_config *config, struct ap_error *err)
{
    struct ap_aggregator *aggregator = calloc(1, sizeof(*aggregator));
    uint64_t now_ns = ap_clock_monotonic_ns();

    if (!aggregator || pthread_mutex_init(&aggregator->lock, NULL)) {
        free(aggregator);
        no_memory(err);
        return NULL;
    }
    aggregator->config = config;
    if (start_parts(aggregator, err) || start_servers(aggregator, err)) {
        ap_aggregator_stop(aggregator, now_ns);
        return ap_aggregator_free(aggregator);
    }
    warn_of_tokens(aggregator);
    return aggregator;
}

static void describe_storage(struct ap_aggregator *aggregator, char *text, size_t text_sz)
{
    const struct ap_aggregator_config *config = aggregator->config;
    const char *name = ap_storage_name(aggregator->storage);
    char size[AP_FORMAT_SZ];

    if (!strcmp(name, "memory"))
        snprintf(text, text_sz, "memory (at most %s)", ap_format_size(size, config->memory_sz));
    else if (!strcmp(name, "clickhouse"))
        snprintf(text, text_sz, "%s/%s (clickhouse)", config->clickhouse_endpoint, config->clickhouse_database);
    else
        snprintf(text, text_sz, "%s (%s)", config->data_dir, name);
}

void ap_aggregator_describe(struct ap_aggregator *aggregator, char line[AP_AGGREGATOR_LINE_SZ])
{
    const struct ap_aggregator_config *config = aggregator->config;
    char grpc[AP_LISTEN_SZ], http[AP_LISTEN_SZ], storage[PATH_MAX + 256];

    describe_storage(aggregator, storage, sizeof(storage));
    snprintf(line, AP_AGGREGATOR_LINE_SZ, "gRPC on %s, HTTP on %s://%s, storing in %s",
             ap_address_with_port(config->listen, ap_rpc_server_port(aggregator->rpc), grpc, sizeof(grpc)),
             config->tls.cert ? "https" : "http",
             ap_address_with_port(config->admin_listen, ap_api_port(aggregator->api), http, sizeof(http)), storage);
}

void ap_aggregator_reload(struct ap_aggregator *aggregator)
{
    struct ap_error err = {0};
    size_t brief;
    int rc = ap_auth_reload(aggregator->auth, &err);

    ap_count(rc ? &aggregator->metrics.reloads_failed : &aggregator->metrics.reloads_ok, 1);
    if (rc)
        ap_log_error("the tokens from before stay: %s", err.text);
    else
        ap_log_info("audit: tokens were read again, there are %zu", ap_auth_cnt(aggregator->auth, &brief));
}

/* ---- Stop ---- */

struct api_stop {
    struct ap_api *api;
    uint64_t grace_ns;
};

static void *stop_api(void *arg)
{
    const struct api_stop *stop = arg;

    ap_api_stop(stop->api, stop->grace_ns);
    return NULL;
}

bool ap_aggregator_stop(struct ap_aggregator *aggregator, uint64_t deadline_ns)
{
    uint64_t now_ns = ap_clock_monotonic_ns(), grace_ns;
    struct api_stop stop;
    pthread_t thread;
    bool apart = false;

    grace_ns = deadline_ns > now_ns + COMMIT_RESERVE_NS ? deadline_ns - now_ns - COMMIT_RESERVE_NS : 0;
    if (aggregator->rpc)
        ap_rpc_server_set_serving(aggregator->rpc, false);
    if (aggregator->askers)
        ap_askers_stop(aggregator->askers);
    if (aggregator->api) { /* beside gRPC: both have the same time */
        stop = (struct api_stop){.api = aggregator->api, .grace_ns = grace_ns};
        apart = aggregator->rpc && !pthread_create(&thread, NULL, stop_api, &stop);
        if (!apart)
            stop_api(&stop);
    }
    if (aggregator->rpc)
        ap_rpc_server_stop(aggregator->rpc, grace_ns);
    if (apart)
        pthread_join(thread, NULL);
    return !aggregator->ingest || ap_ingest_stop(aggregator->ingest, deadline_ns);
}

struct ap_aggregator *ap_aggregator_free(struct ap_aggregator *aggregator)
{
    if (!aggregator)
        return NULL;
    ap_api_free(aggregator->api);
    aggregator->askers = ap_askers_free(aggregator->askers);
    aggregator->ingest = ap_ingest_free(aggregator->ingest);
    ap_rpc_server_free(aggregator->rpc);
    ap_query_free(aggregator->query);
    ap_storage_free(aggregator->storage);
    ap_ring_free(aggregator->ring);
    ap_audit_free(aggregator->audit);
    ap_auth_free(aggregator->auth);
    pthread_mutex_destroy(&aggregator->lock);
    free(aggregator);
    return NULL;
}
