/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/push.h"

#include "agent/pusher.h"
#include "agent/session.h"
#include "core/log.h"

#include <errno.h>
#include <string.h>

struct sending {
    const struct ap_agent_config *config;
    struct ap_pusher *pusher;
    struct ap_push_result result;
};

static int open_pusher(void *ctx, struct ap_error *err)
{
    struct sending *sending = ctx;
    const struct ap_agent_config *config = sending->config;
    const struct ap_pusher_opts opts = {
        .endpoint = config->aggregator,
        .tls = {config->tls_ca, config->tls_cert, config->tls_key},
        .token = config->auth_token,
        .agent_id = config->agent_id_text,
        .spool_dir = config->spool_dir,
        .spool_sz = config->spool_sz,
    };

    sending->pusher = ap_pusher_new(&opts, err);
    return sending->pusher ? 0 : err->code;
}

/* The labels of every batch: host, and those of --label, which may say otherwise. */
static int add_labels(struct ap_push *push, const struct ap_agent_config *config, struct ap_error *err)
{
    char *equals;
    size_t i;
    int rc;

    rc = ap_push_label(push, "host", push->capture->agent.host, err);
    for (i = 0; !rc && i < config->labels.cnt; i++) {
        equals = strchr(config->labels.items[i], '=');
        *equals = '\0'; /* there is one: the configuration was checked */
        rc = ap_push_label(push, config->labels.items[i], equals + 1, err);
        *equals = '=';
    }
    return rc;
}

static void count(struct sending *sending, const struct ap_capture *capture)
{
    struct ap_account total = ap_capture_total(capture);

    sending->result.batches++;
    sending->result.events += total.delivered;
    sending->result.lost += ap_account_lost(&total);
}

static void take_capture(void *ctx, struct ap_capture *capture)
{
    struct ap_push *push = ap_push_new();
    struct sending *sending = ctx;
    struct ap_error err = {0};

    count(sending, capture);
    if (!push) {
        ap_capture_free(capture);
        ap_log_warn("out of memory: a batch is dropped");
        sending->result.dropped++;
        return;
    }
    ap_capture_free(push->capture);
    push->capture = capture;
    if (capture->profile_cnt) {
        push->start_ns = capture->profiles[0]->start_ns;
        push->duration_ns = capture->profiles[0]->duration_ns;
    }
    if (add_labels(push, sending->config, &err)) {
        ap_log_warn("a batch is dropped: %s", err.text);
        sending->result.dropped++;
        ap_push_free(push);
        return;
    }
    ap_pusher_add(sending->pusher, push);
}

int ap_push_run(const struct ap_agent_config *config, struct ap_push_result *ret_result, struct ap_error *err)
{
    struct sending sending = {.config = config};
    const struct ap_session_sink sink = {.open = open_pusher, .take = take_capture, .ctx = &sending};
    struct ap_pusher_stats stats;
    int rc;

    rc = ap_session_run(config, &sink, NULL, err);
    if (sending.pusher) {
        if (!rc)
            rc = ap_pusher_flush(sending.pusher, AP_PUSH_FLUSH_NS, err);
        ap_pusher_stats(sending.pusher, &stats);
        sending.result.unsent = stats.spool.batches;
        sending.result.dropped += stats.spool.dropped_batches + stats.unencoded_batches;
        ap_pusher_free(sending.pusher);
    }
    *ret_result = sending.result;
    return rc;
}
