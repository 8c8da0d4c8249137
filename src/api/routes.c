/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "api/internal.h"

#include <stdlib.h>
#include <string.h>

#define JSON "application/json"

const struct ap_api_route ap_api_routes[] = {
    {"/healthz", AP_API_GET, AP_API_LANE_NOW, true, false, 0, 0, "text/plain", ap_api_get_healthz},
    {"/readyz", AP_API_GET, AP_API_LANE_QUICK, true, false, 0, 0, "text/plain", ap_api_get_readyz},
    {"/metrics", AP_API_GET, AP_API_LANE_QUICK, false, false, 0, 0, "text/plain; version=0.0.4", ap_api_get_metrics},
    {"/api/health", AP_API_GET, AP_API_LANE_QUICK, false, false, 0, 0, JSON, ap_api_get_health},
    {"/api/aggregate", AP_API_POST, AP_API_LANE_QUERY, false, false, AP_API_SELECTOR | AP_API_LIMIT | AP_API_NODES,
     AP_API_QUERY_BODY_SZ, JSON, ap_api_post_aggregate},
    {"/api/diff", AP_API_POST, AP_API_LANE_QUERY, false, false, AP_API_SELECTOR | AP_API_LIMIT | AP_API_BASELINE,
     AP_API_QUERY_BODY_SZ, JSON, ap_api_post_diff},
    {"/api/batches", AP_API_GET, AP_API_LANE_QUERY, false, false,
     AP_API_KIND | AP_API_FILTERS | AP_API_LIMIT | AP_API_SOURCE, 0, JSON, ap_api_get_batches},
    {"/api/flamegraph", AP_API_GET, AP_API_LANE_QUERY, false, false,
     AP_API_SELECTOR | AP_API_NODES | AP_API_PATH | AP_API_FORMAT, 0, JSON "," AP_API_COLUMNS_TYPE,
     ap_api_get_flamegraph},
    {"/api/top", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_SELECTOR | AP_API_LIMIT, 0, JSON, ap_api_get_top},
    {"/api/timeline", AP_API_GET, AP_API_LANE_QUERY, false, false,
     AP_API_SELECTOR | AP_API_STEP | AP_API_BY | AP_API_LIMIT, 0, JSON, ap_api_get_timeline},
    {"/api/heatmap", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_KIND | AP_API_FILTERS, 0, JSON,
     ap_api_get_heatmap},
    {"/api/locks", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_FILTERS | AP_API_LIMIT, 0, JSON,
     ap_api_get_locks},
    {"/api/syscalls", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_FILTERS | AP_API_LIMIT, 0, JSON,
     ap_api_get_syscalls},
    {"/api/series", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_KIND | AP_API_FILTERS | AP_API_LIMIT, 0, JSON,
     ap_api_get_series},
    {"/api/labels", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_KIND | AP_API_FILTERS, 0, JSON,
     ap_api_get_labels},
    {"/api/labels/*/values", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_KIND | AP_API_FILTERS, 0, JSON,
     ap_api_get_label_values},
    {"/api/agents", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_FILTERS, 0, JSON, ap_api_get_agents},
    {"/api/export/*", AP_API_GET, AP_API_LANE_QUERY, false, false, AP_API_SELECTOR, 0,
     JSON ",text/plain,application/vnd.google.protobuf+gzip,image/svg+xml", ap_api_get_export},
    {"/api/import", AP_API_POST, AP_API_LANE_IMPORT, false, true,
     AP_API_KIND | AP_API_LABELS | AP_API_FORMAT | AP_API_IMPORT, AP_API_BODY_SZ, JSON, ap_api_post_import},
};
const size_t ap_api_route_cnt = sizeof(ap_api_routes) / sizeof(ap_api_routes[0]);

/* Compares a path with a pattern; *ret_part: what '*' stands for. */
static bool matches(const char *pattern, const char *path, const char **ret_part, size_t *ret_len)
{
    *ret_part = NULL;
    while (*pattern != '\0') {
        if (*pattern == '*') {
            *ret_part = path;
            *ret_len = strcspn(path, "/");
            if (*ret_len == 0)
                return false;
            path += *ret_len;
            pattern++;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

const struct ap_api_route *ap_api_find_route(const char *path, unsigned method, char **ret_wildcard,
                                             unsigned *ret_allow)
{
    const struct ap_api_route *found = NULL;

    *ret_wildcard = NULL;
    *ret_allow = 0;
    for (size_t i = 0; i < ap_api_route_cnt; i++) {
        const char *part;
        size_t len;

        if (!matches(ap_api_routes[i].path, path, &part, &len))
            continue;
        *ret_allow |= ap_api_routes[i].method;
        if (ap_api_routes[i].method != method || found != NULL)
            continue;
        found = &ap_api_routes[i];
        if (part != NULL)
            *ret_wildcard = strndup(part, len);
    }
    return found;
}
