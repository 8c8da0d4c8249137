/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Requests to the aggregator's REST endpoints, by libcurl. */
#ifndef APERTURE_CLI_HTTP_H
#define APERTURE_CLI_HTTP_H

#include "cli/ask.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/out.h"

#include <stdio.h>

/* Longest address with its question. */
#define AP_CLI_URL_SZ (1u << 20)

/* Appends "?kind=...&from=..." for a selector, each value encoded. 0 or -ENOMEM. */
int ap_cli_http_question(const struct ap_selector *selector, struct ap_buf *ret_text);
/* Appends "NAME=VALUE" to a question, encoded; `first`: with '?' before it, else '&'. */
int ap_cli_http_param(struct ap_buf *text, bool first, const char *name, const char *value);
/* The same for a moment (ns since the epoch), as seconds. */
int ap_cli_http_time(struct ap_buf *text, bool first, const char *name, uint64_t ns);

/* GETs `path` ("/api/agents?...") and streams the answer into `out`; with `upload` it is a POST of that file. 0, or
 * negative with words: those of the server when it answered with an error. Nothing is written to `out` then. */
int ap_cli_http(const struct ap_cli_ask *ask, const char *path, FILE *upload, const char *content_type,
                struct ap_out *out, struct ap_error *err);

#endif
