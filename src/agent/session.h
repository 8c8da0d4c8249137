/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* One capture from start to finish: sets the parts up, moves records between them, ends in time, names and
 * counts. */
#ifndef APERTURE_AGENT_SESSION_H
#define APERTURE_AGENT_SESSION_H

#include "agent/config.h"
#include "core/error.h"
#include "model/capture.h"

/* Records as `config` says and returns the finished capture (free it with ap_capture_free), or NULL with
 * words. SIGINT and SIGTERM must be blocked: the first one ends the recording early, with results. */
struct ap_capture *ap_session_run(const struct ap_agent_config *config, struct ap_error *err);

#endif
