/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/query.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "model/tree.h"
#include "query/answers.h"
#include "query/cache.h"
#include "query/diff.h"
#include "query/gather.h"
#include "query/scope.h"
#include "query/span.h"
#include "query/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

struct ap_query *ap_query_new(struct ap_storage *storage)
{
    struct ap_query *query = calloc(1, sizeof(*query));

    if (query == NULL)
        return NULL;
    query->storage = storage;
    query->cache = ap_cache_new(storage, AP_CACHE_SZ);
    return query->cache != NULL ? query : ap_query_free(query);
}

struct ap_query *ap_query_free(struct ap_query *query)
{
    if (query == NULL)
        return NULL;
    ap_cache_free(query->cache);
    free(query);
    return NULL;
}

/* ---- What is asked ---- */

/* Values of different kinds do not add up. */
static int need_kind(const struct ap_selector *selector, struct ap_error *err)
{
    if (selector->kind != 0)
        return 0;
    return ap_error_set(err, -EINVAL, "say which kind of events: cpu, offcpu, lock, syscall or gpu");
}

/* 0 becomes the default. */
static int check_limit(size_t *limit, size_t standard, size_t max, const char *what, struct ap_error *err)
{
    if (*limit == 0)
        *limit = standard;
    if (*limit <= max)
        return 0;
    return ap_error_set(err, -EINVAL, "%zu %s are too many to ask for: at most %zu", *limit, what, max);
}

/* Accounts of the batches in the range; what an answer adds is set by whoever counts it. */
static int account(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_provenance *ret_provenance,
                   struct ap_error *err)
{
    struct ap_provenance provenance = {0};
    int r = ap_storage_account(query->storage, scope, &provenance, err);

    if (r == 0)
        *ret_provenance = provenance;
    return r;
}

/* ---- Profiles ---- */

/* An empty profile, or one with the table of its kind. */
static int start_profile(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
                         struct ap_profile **ret_profile, struct ap_error *err)
{
    struct ap_profile *profile = NULL;
    int r = 0;

    if (scope->kind == AP_KIND_LOCK)
        r = ap_storage_locks(query->storage, scope, &profile, err);
    else if (scope->kind == AP_KIND_SYSCALL)
        r = ap_storage_syscalls(query->storage, scope, &profile, err);
    else
        profile = ap_profile_new(scope->kind);
    if (r != 0)
        return r;
    if (profile == NULL)
        return no_memory(err);
    r = ap_answer_filter_tables(profile, filter, err);
    if (r != 0) {
        ap_profile_free(profile);
        return r;
    }
    *ret_profile = profile;
    return 0;
}

/* The CPU time that every sample stands for, 0 when it is not the same for all. */
static uint64_t common_period(const struct ap_profile *profile)
{
    uint64_t count = ap_profile_total_count(profile), period;

    if (profile->kind != AP_KIND_CPU || count == 0)
        return 0;
    period = ap_profile_total_value(profile) / count;
    for (uint32_t i = 0; i < profile->sample_cnt; i++) {
        uint64_t value;

        if (__builtin_mul_overflow(profile->samples[i].count, period, &value) || value != profile->samples[i].value)
            return 0;
    }
    return period;
}

/* Events and time that the profile's answer rests on: system calls are counted without stacks. */
static void count_events(const struct ap_profile *profile, struct ap_provenance *provenance)
{
    provenance->samples = ap_profile_total_count(profile);
    provenance->value = ap_profile_total_value(profile);
    if (profile->syscalls != NULL && profile->syscalls->row_cnt > 0) {
        provenance->samples = ap_syscalls_count(profile->syscalls);
        provenance->value = ap_syscalls_total_ns(profile->syscalls);
    }
}

/* When the profile was taken, for its readers. */
static int set_time(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_profile *profile,
                    struct ap_error *err)
{
    uint64_t from = scope->from_ns, to = scope->to_ns;
    int r = from == 0 ? ap_span_narrow(query->storage, scope, &from, &to, err) : 0;

    profile->start_ns = from;
    profile->duration_ns = to - from;
    return r;
}

/* Everything that the selector matches, as one profile with what stands behind it. */
static int match(struct ap_query *query, const struct ap_selector *selector, struct ap_profile **ret_profile,
                 struct ap_provenance *ret_provenance, struct ap_error *err)
{
    struct ap_provenance provenance = {0};
    struct ap_profile *profile = NULL;
    struct ap_filter *filter = NULL;
    struct ap_scope scope = {0};
    const char *source = NULL;
    int r = need_kind(selector, err);

    if (r == 0)
        r = ap_filter_new(selector, &filter, err);
    if (r == 0)
        r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r == 0)
        r = start_profile(query, &scope.scope, filter, &profile, err);
    if (r == 0)
        r = ap_gather(query, &scope.scope, filter, profile, &source, err);
    if (r == 0)
        r = account(query, &scope.scope, &provenance, err);
    if (r == 0)
        r = set_time(query, &scope.scope, profile, err);
    ap_filter_free(filter);
    ap_scope_done(&scope);
    if (r != 0) {
        ap_profile_free(profile);
        return r;
    }
    profile->period_ns = common_period(profile);
    provenance.source = source;
    count_events(profile, &provenance);
    *ret_profile = profile;
    *ret_provenance = provenance;
    return 0;
}

int ap_query_capture(struct ap_query *query, const struct ap_selector *selector, struct ap_capture **ret_capture,
                     struct ap_provenance *ret_provenance, struct ap_error *err)
{
    struct ap_capture *capture = ap_capture_new();
    struct ap_profile *profile;
    int r;

    if (capture == NULL)
        return no_memory(err);
    r = match(query, selector, &profile, ret_provenance, err);
    if (r != 0) {
        ap_capture_free(capture);
        return r;
    }
    (void)snprintf(capture->agent.version, sizeof(capture->agent.version), "%s", APERTURE_VERSION);
    capture->profiles[0] = profile;
    capture->accounts[0] = ret_provenance->account;
    capture->profile_cnt = 1;
    *ret_capture = capture;
    return 0;
}

static int cut_tree(const struct ap_profile *profile, const char *const *path, size_t path_cnt, size_t max_nodes,
                    struct ap_tree_answer *ret_answer, struct ap_error *err)
{
    struct ap_tree *tree = ap_tree_new(profile);
    int r;

    if (tree == NULL)
        return no_memory(err);
    r = ap_tree_cut(tree, path, path_cnt, max_nodes, ret_answer, err);
    ap_tree_free(tree);
    return r;
}

int ap_query_tree(struct ap_query *query, const struct ap_selector *selector, const char *const *path, size_t path_cnt,
                  size_t max_nodes, struct ap_tree_answer *ret_answer, struct ap_error *err)
{
    struct ap_tree_answer answer = {0};
    struct ap_profile *profile;
    int r = check_limit(&max_nodes, AP_QUERY_NODES_DEFAULT, AP_QUERY_NODES_MAX, "nodes", err);

    if (r == 0)
        r = match(query, selector, &profile, &answer.provenance, err);
    if (r != 0)
        return r;
    r = cut_tree(profile, path, path_cnt, max_nodes, &answer, err);
    ap_profile_free(profile);
    if (r != 0)
        return r;
    if (path_cnt > 0) { /* what the answer rests on is the subtree */
        answer.provenance.samples = answer.nodes[0].count;
        answer.provenance.value = answer.nodes[0].value;
    }
    *ret_answer = answer;
    return 0;
}

int ap_query_functions(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                       struct ap_functions_answer *ret_answer, struct ap_error *err)
{
    struct ap_functions_answer answer = {0};
    struct ap_profile *profile;
    int r = check_limit(&limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "functions", err);

    if (r == 0)
        r = match(query, selector, &profile, &answer.provenance, err);
    if (r != 0)
        return r;
    r = ap_answer_functions(profile, limit, &answer, err);
    ap_profile_free(profile);
    if (r == 0)
        *ret_answer = answer;
    return r;
}

int ap_query_stacks(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                    struct ap_stacks_answer *ret_answer, struct ap_error *err)
{
    struct ap_stacks_answer answer = {0};
    struct ap_profile *profile;
    int r = check_limit(&limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "stacks", err);

    if (r == 0)
        r = match(query, selector, &profile, &answer.provenance, err);
    if (r != 0)
        return r;
    r = ap_answer_stacks(profile, limit, &answer, err);
    ap_profile_free(profile);
    if (r == 0)
        *ret_answer = answer;
    return r;
}

int ap_query_aggregate(struct ap_query *query, const struct ap_selector *selector, size_t limit, size_t max_nodes,
                       struct ap_aggregate_answer *ret_answer, struct ap_error *err)
{
    struct ap_aggregate_answer answer = {0};
    struct ap_profile *profile;
    int r = check_limit(&limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "rows", err);

    if (r == 0 && max_nodes > 0)
        r = check_limit(&max_nodes, AP_QUERY_NODES_DEFAULT, AP_QUERY_NODES_MAX, "nodes", err);
    if (r == 0)
        r = match(query, selector, &profile, &answer.functions.provenance, err);
    if (r != 0)
        return r;
    answer.tree.provenance = answer.functions.provenance;
    r = ap_answer_functions(profile, limit, &answer.functions, err);
    if (r == 0 && max_nodes > 0)
        r = cut_tree(profile, NULL, 0, max_nodes, &answer.tree, err);
    if (r == 0)
        r = ap_answer_locks(profile, limit, &answer.locks, &answer.lock_cnt, err);
    if (r == 0)
        r = ap_answer_syscalls(profile, limit, &answer.syscalls, &answer.syscall_cnt, err);
    ap_profile_free(profile);
    if (r != 0)
        ap_aggregate_answer_done(&answer);
    else
        *ret_answer = answer;
    return r;
}

/* ---- Changes ---- */

static int account_of(struct ap_query *query, const struct ap_selector *selector, struct ap_provenance *provenance,
                      struct ap_error *err)
{
    struct ap_provenance sums;
    struct ap_scope scope;
    int r = ap_scope_resolve(query->storage, selector, &scope, err);

    if (r != 0)
        return r;
    r = account(query, &scope.scope, &sums, err);
    ap_scope_done(&scope);
    if (r != 0)
        return r;
    provenance->account = sums.account;
    provenance->batches = sums.batches;
    provenance->newest_ns = sums.newest_ns;
    return 0;
}

int ap_query_diff(struct ap_query *query, const struct ap_selector *before, const struct ap_selector *after,
                  size_t limit, struct ap_diff_answer *ret_answer, struct ap_error *err)
{
    struct ap_diff_answer answer;
    int r = check_limit(&limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "functions", err);

    if (r == 0)
        r = need_kind(before, err);
    if (r == 0)
        r = need_kind(after, err);
    if (r == 0 && before->kind != after->kind)
        r = ap_error_set(err, -EINVAL, "%s cannot be compared with %s: both sides must be of one kind",
                         ap_event_kind_name(before->kind), ap_event_kind_name(after->kind));
    if (r == 0)
        r = ap_diff(query, before, after, limit, &answer, err);
    if (r != 0)
        return r;
    r = account_of(query, before, &answer.before, err);
    if (r == 0)
        r = account_of(query, after, &answer.after, err);
    if (r != 0)
        ap_diff_answer_done(&answer);
    else
        *ret_answer = answer;
    return r;
}

/* ---- Lists ---- */

int ap_query_batches(struct ap_query *query, const struct ap_selector *selector, size_t limit,
                     struct ap_batches_answer *ret_answer, struct ap_error *err)
{
    struct ap_scope scope;
    int r = check_limit(&limit, AP_QUERY_LIMIT_DEFAULT, AP_QUERY_LIMIT_MAX, "batches", err);

    if (r == 0)
        r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r != 0)
        return r;
    r = ap_storage_batches(query->storage, &scope.scope, limit, ret_answer, err);
    ap_scope_done(&scope);
    return r;
}

int ap_query_agents(struct ap_query *query, const struct ap_selector *selector, struct ap_agents_answer *ret_answer,
                    struct ap_error *err)
{
    struct ap_scope scope;
    int r = ap_scope_resolve(query->storage, selector, &scope, err);

    if (r != 0)
        return r;
    r = ap_storage_agents(query->storage, &scope.scope, ret_answer, err);
    ap_scope_done(&scope);
    return r;
}

int ap_query_labels(struct ap_query *query, const struct ap_selector *selector, struct ap_texts *ret_names,
                    struct ap_error *err)
{
    struct ap_scope scope;
    int r = ap_scope_resolve(query->storage, selector, &scope, err);

    if (r != 0)
        return r;
    r = ap_storage_labels(query->storage, &scope.scope, AP_QUERY_LABELS_MAX, ret_names, err);
    ap_scope_done(&scope);
    return r;
}

int ap_query_label_values(struct ap_query *query, const struct ap_selector *selector, const char *label,
                          struct ap_texts *ret_values, struct ap_error *err)
{
    struct ap_scope scope;
    int r;

    if (!ap_label_name_valid(label))
        return ap_error_set(err, -EINVAL, "\"%.200s\" is not the name of a label", label);
    r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r != 0)
        return r;
    r = ap_storage_label_values(query->storage, &scope.scope, label, AP_QUERY_LIMIT_MAX, ret_values, err);
    ap_scope_done(&scope);
    return r;
}

int ap_query_series(struct ap_query *query, const struct ap_selector *selector, size_t max,
                    struct ap_series_rows *ret_rows, struct ap_error *err)
{
    struct ap_scope scope;
    int r = check_limit(&max, AP_QUERY_LIMIT_MAX, AP_QUERY_LIMIT_MAX, "series", err);

    if (r == 0)
        r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r != 0)
        return r;
    r = ap_storage_series(query->storage, &scope.scope, max, ret_rows, err);
    ap_scope_done(&scope);
    return r;
}

/* ---- Time ---- */

static int account_points(struct ap_query *query, const struct ap_storage_scope *scope, const struct ap_points *points,
                          struct ap_provenance *ret_provenance, struct ap_error *err)
{
    struct ap_provenance provenance;
    int r = account(query, scope, &provenance, err);

    if (r != 0)
        return r;
    provenance.samples = provenance.value = 0;
    for (size_t i = 0; i < points->point_cnt; i++) {
        provenance.samples += points->points[i].count;
        provenance.value += points->points[i].value;
    }
    *ret_provenance = provenance;
    return 0;
}

/* One bucket at a time: storage sums by function only by way of stacks. */
static int function_points(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
                           uint64_t step_ns, struct ap_points *ret_points, struct ap_error *err)
{
    uint64_t first = scope->from_ns / step_ns, end = (scope->to_ns - 1) / step_ns + 1;
    struct ap_points points = {.points = calloc(end - first, sizeof(*points.points)),
                               .groups = calloc(1, sizeof(char *))};
    struct ap_profile *scratch = ap_profile_new(scope->kind);
    int r = 0;

    if (points.groups != NULL)
        points.groups[0] = strdup("");
    if (points.points == NULL || points.groups == NULL || points.groups[0] == NULL || scratch == NULL)
        r = no_memory(err);
    points.group_cnt = points.groups != NULL;
    for (uint64_t i = first; r == 0 && i < end; i++) {
        struct ap_storage_scope bucket = *scope;
        struct ap_point *point = &points.points[points.point_cnt];

        point->t_ns = i * step_ns;
        if (point->t_ns > bucket.from_ns)
            bucket.from_ns = point->t_ns;
        if (scope->to_ns - point->t_ns > step_ns)
            bucket.to_ns = point->t_ns + step_ns;
        r = ap_gather_sums(query, &bucket, filter, scratch, &point->count, &point->value, err);
        points.point_cnt += r == 0 && (point->count > 0 || point->value > 0);
    }
    ap_profile_free(scratch);
    if (r != 0) {
        ap_points_done(&points);
        return r;
    }
    if (points.point_cnt == 0) {
        free(points.groups[0]);
        points.group_cnt = 0;
    }
    *ret_points = points;
    return 0;
}

/* The step: asked for, or chosen for the time in which there is something. */
static int choose_step(struct ap_query *query, struct ap_storage_scope *scope, uint64_t buckets, uint64_t *step_ns,
                       struct ap_error *err)
{
    int r = 0;

    if (*step_ns % AP_PUSH_SLOT_NS != 0)
        return ap_error_set(err, -EINVAL, "the step must be a multiple of %llu ms",
                            (unsigned long long)(AP_PUSH_SLOT_NS / 1000000));
    if (scope->from_ns == 0)
        r = ap_span_narrow(query->storage, scope, &scope->from_ns, &scope->to_ns, err);
    if (r == 0 && *step_ns == 0)
        *step_ns = ap_span_step(scope->to_ns - scope->from_ns, buckets);
    return r;
}

static int timeline(struct ap_query *query, struct ap_storage_scope *scope, struct ap_filter *filter, uint64_t *step_ns,
                    const char *label, size_t group_max, struct ap_points *ret_points, struct ap_error *err)
{
    int r = choose_step(query, scope, filter != NULL ? AP_TIMELINE_FUNCTION_BUCKETS / 2 : AP_TIMELINE_BUCKETS, step_ns,
                        err);

    if (r != 0)
        return r;
    if (filter == NULL)
        return ap_storage_timeline(query->storage, scope, *step_ns, label, group_max, ret_points, err);
    if (label != NULL)
        return ap_error_set(err, -EINVAL, "a timeline of functions cannot be split by label as well: match the label");
    if ((scope->to_ns - scope->from_ns) / *step_ns > AP_TIMELINE_FUNCTION_BUCKETS)
        return ap_error_set(err, -E2BIG, "a timeline of functions has at most %d buckets: take longer steps",
                            AP_TIMELINE_FUNCTION_BUCKETS);
    return function_points(query, scope, filter, *step_ns, ret_points, err);
}

/* NOLINTNEXTLINE(readability-function-size): three results */
int ap_query_timeline(struct ap_query *query, const struct ap_selector *selector, uint64_t step_ns, const char *label,
                      size_t group_max, struct ap_points *ret_points, uint64_t *ret_step_ns,
                      struct ap_provenance *ret_provenance, struct ap_error *err)
{
    struct ap_points points = {0};
    struct ap_filter *filter = NULL;
    struct ap_scope scope = {0};
    int r = need_kind(selector, err);

    if (r == 0 && label != NULL && !ap_label_name_valid(label))
        r = ap_error_set(err, -EINVAL, "\"%.200s\" is not the name of a label", label);
    if (r == 0)
        r = check_limit(&group_max, AP_TIMELINE_GROUPS_DEFAULT, AP_TIMELINE_GROUPS_MAX, "groups", err);
    if (r == 0)
        r = ap_filter_new(selector, &filter, err);
    if (r == 0)
        r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r == 0) {
        struct ap_storage_scope narrowed = scope.scope;

        r = timeline(query, &narrowed, filter, &step_ns, label, group_max, &points, err);
    }
    if (r == 0)
        r = account_points(query, &scope.scope, &points, ret_provenance, err);
    ap_filter_free(filter);
    ap_scope_done(&scope);
    if (r != 0) {
        ap_points_done(&points);
        return r;
    }
    *ret_points = points;
    *ret_step_ns = step_ns;
    return 0;
}

int ap_query_heatmap(struct ap_query *query, const struct ap_selector *selector, struct ap_points *ret_points,
                     struct ap_provenance *ret_provenance, struct ap_error *err)
{
    struct ap_points points = {0};
    struct ap_scope scope = {0};
    int r = need_kind(selector, err);

    if (r == 0 && selector->function != NULL && selector->function[0] != '\0')
        r = ap_error_set(err, -EINVAL, "a heatmap shows all functions: leave the function filter out");
    if (r == 0)
        r = ap_scope_resolve(query->storage, selector, &scope, err);
    if (r == 0 && scope.scope.to_ns - scope.scope.from_ns > AP_HEATMAP_RANGE_MAX)
        r = ap_error_set(err, -E2BIG, "a heatmap covers at most an hour: narrow the time");
    if (r == 0)
        r = ap_storage_timeline(query->storage, &scope.scope, AP_PUSH_SLOT_NS, NULL, 1, &points, err);
    if (r == 0)
        r = account_points(query, &scope.scope, &points, ret_provenance, err);
    ap_scope_done(&scope);
    if (r != 0)
        ap_points_done(&points);
    else
        *ret_points = points;
    return r;
}

void ap_query_stats(struct ap_query *query, struct ap_query_stats *ret_stats)
{
    struct ap_cache_stats stats;

    ap_cache_stats(query->cache, &stats);
    *ret_stats = (struct ap_query_stats){
        .cache_hits = stats.hits,
        .cache_misses = stats.misses,
        .cache_evicted = stats.evicted,
        .cached = stats.stacks,
        .cached_bytes = stats.sz,
    };
}
