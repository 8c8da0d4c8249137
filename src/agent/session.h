/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* One capture from start to finish: sets the parts up, moves records between them, ends in time, names and
 * counts. */
#ifndef APERTURE_AGENT_SESSION_H
#define APERTURE_AGENT_SESSION_H

#include "agent/config.h"
#include "core/error.h"
#include "core/out.h"
#include "model/capture.h"

/* Who takes the parts of a recording as they come. */
struct ap_session_sink {
    /* Called before anything is recorded, when the session has forked what it has to: may start threads. 0, or negative
     * with words. */
    int (*open)(void *ctx, struct ap_error *err);
    /* Takes over the capture of a span of config->push_interval_ns, the last one shorter. */
    void (*take)(void *ctx, struct ap_capture *capture);
    void *ctx;
};

/* Records as `config` says. Without a sink the whole recording is one capture in `ret_capture` (free it with
 * ap_capture_free); with one, `ret_capture` is not used. SIGINT and SIGTERM must be blocked: the first one ends the
 * recording early, with results. 0, or negative errno with words. */
int ap_session_run(const struct ap_agent_config *config, const struct ap_session_sink *sink,
                   struct ap_capture **ret_capture, struct ap_error *err);

/* Loads every BPF program in each variant, with and without filters, and writes a line for each. Number of failed ones,
 * or negative errno with words. */
int ap_session_self_test(struct ap_out *out, struct ap_error *err);

#endif
