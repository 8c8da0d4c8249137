/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* One capture from start to finish: sets the parts up, moves records between them, ends in time, names and
 * counts. */
#ifndef APERTURE_AGENT_SESSION_H
#define APERTURE_AGENT_SESSION_H

#include "agent/config.h"
#include "core/error.h"
#include "core/out.h"
#include "model/capture.h"

/* Records as `config` says and returns the finished capture (free it with ap_capture_free), or NULL with
 * words. SIGINT and SIGTERM must be blocked: the first one ends the recording early, with results. */
struct ap_capture *ap_session_run(const struct ap_agent_config *config, struct ap_error *err);

/* Loads every BPF program in each variant, with and without filters, and writes a line for each. Number of failed ones,
 * or negative errno with words. */
int ap_session_self_test(struct ap_out *out, struct ap_error *err);

#endif
