/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/api: what a request asks for. The same names in the query string and in JSON bodies. */
#ifndef APERTURE_API_PARAMS_H
#define APERTURE_API_PARAMS_H

#include "api/http.h"
#include "core/error.h"
#include "model/selector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which parameters an endpoint takes. */
enum {
    AP_API_KIND = 1 << 0,   /* kind, event_type */
    AP_API_TIME = 1 << 1,   /* from, to, since */
    AP_API_LABELS = 1 << 2, /* host, service, comm, pid, exe, container, agent, label.NAME */
    AP_API_MATCH = 1 << 3,
    AP_API_FUNCTION = 1 << 4, /* function, function_regex */
    AP_API_NODES = 1 << 5,    /* max_nodes */
    AP_API_PATH = 1 << 6,
    AP_API_LIMIT = 1 << 7,
    AP_API_STEP = 1 << 8,
    AP_API_BY = 1 << 9,
    AP_API_SOURCE = 1 << 10,
    AP_API_BASELINE = 1 << 11, /* baseline_from, baseline_to */
    AP_API_FORMAT = 1 << 12,
    AP_API_IMPORT = 1 << 13, /* time, duration, period */
    AP_API_FILTERS = AP_API_TIME | AP_API_LABELS | AP_API_MATCH,
    AP_API_SELECTOR = AP_API_KIND | AP_API_FILTERS | AP_API_FUNCTION,
};

#define AP_API_PATH_MAX 1024 /* names of one path */

struct ap_api_params {
    struct ap_selector selector; /* of diff: after */
    uint64_t limit, max_nodes, step_ns;
    char *by, *source, *format; /* owned; NULL = not given */
    char **path;                /* owned */
    size_t path_cnt;
    uint64_t baseline_from_ns, baseline_to_ns, time_ns, duration_ns, period_ns;
    bool has_from, has_to, has_since, has_baseline; /* given */

    uint32_t allowed;  /* AP_API_* */
    uint64_t given[2]; /* private: which were given already */
    uint64_t now_ns;
};

/* `allowed`: AP_API_*. `now_ns`: since the epoch, what durations are counted from. */
void ap_api_params_init(struct ap_api_params *params, uint32_t allowed, uint64_t now_ns);
void ap_api_params_done(struct ap_api_params *params);

/* One parameter. 0, -EINVAL (unknown: with the nearest that is known; given twice; a value that cannot be), -E2BIG or
 * -ENOMEM; with words. */
int ap_api_params_set(struct ap_api_params *params, const char *name, const char *value, struct ap_error *err);
/* All pairs of a query string. */
int ap_api_params_set_all(struct ap_api_params *params, const struct ap_api_pairs *pairs, struct ap_error *err);
/* The members of a JSON object, whose bytes these are: texts, numbers, true and false as the query string has them,
 * "labels" an object, "match" and "path" also arrays. `before`, `after`: objects of those names (for diff) as sets of
 * their own; both NULL = no such members. -EINVAL also for what is no JSON object. */
int ap_api_params_set_json(struct ap_api_params *params, const char *text, size_t len, struct ap_api_params *before,
                           struct ap_api_params *after, struct ap_error *err);

/* Checks what belongs together and fills in what was not given: `kind` (0 = every kind) and the newest `range_ns`
 * before `to` (0 = from the beginning). 0 or -EINVAL with words. */
int ap_api_params_finish(struct ap_api_params *params, uint8_t kind, uint64_t range_ns, struct ap_error *err);

/* Names of all parameters, for the test that holds docs/openapi.yaml to them: those of `allowed` into `ret` (room for
 * AP_API_NAMES_MAX, static text). Returns how many. */
#define AP_API_NAMES_MAX 64
size_t ap_api_params_names(uint32_t allowed, const char *ret[AP_API_NAMES_MAX]);

#endif
