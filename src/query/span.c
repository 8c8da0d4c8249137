/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/span.h"

#include "core/clock.h"
#include "model/push.h"

#include <string.h>

#define MS  1000000ULL
#define DAY (86400 * AP_NS_PER_SEC)

/* Buckets in which data is looked for, and how many of them should have some before the search is over. */
#define SEARCH_BUCKETS 1024
#define SEARCH_FILLED  128
/* Each round leaves at most a hundredth: this many reach from all time to a slot. */
#define SEARCH_ROUNDS 8

uint64_t ap_span_step(uint64_t range_ns, uint64_t bucket_max)
{
    static const uint64_t steps[] = {
        20 * MS,
        40 * MS,
        100 * MS,
        200 * MS,
        500 * MS,
        AP_NS_PER_SEC,
        2 * AP_NS_PER_SEC,
        5 * AP_NS_PER_SEC,
        10 * AP_NS_PER_SEC,
        15 * AP_NS_PER_SEC,
        30 * AP_NS_PER_SEC,
        DAY / 1440,
        DAY / 720,
        DAY / 288,
        DAY / 144,
        DAY / 96,
        DAY / 48,
        DAY / 24,
        DAY / 12,
        DAY / 8,
        DAY / 4,
        DAY / 2,
        DAY,
    };
    uint64_t want = range_ns / bucket_max + (range_ns % bucket_max != 0);

    _Static_assert(20 * MS % AP_PUSH_SLOT_NS == 0, "steps are multiples of the slot");
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (steps[i] >= want)
            return steps[i];
    return (want / DAY + (want % DAY != 0)) * DAY;
}

/* Events by bucket, over the part of the range where there are some. */
static int search(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_points *ret_points,
                  uint64_t *ret_from_ns, uint64_t *ret_to_ns, uint64_t *ret_step_ns, struct ap_error *err)
{
    struct ap_storage_scope part = *scope;
    uint64_t step = ap_span_step(part.to_ns - part.from_ns, SEARCH_BUCKETS);

    for (unsigned round = 0;; round++) {
        struct ap_points points = {0};
        int r = ap_storage_timeline(storage, &part, step, NULL, 1, &points, err);
        uint64_t first, end, finer;

        if (r != 0)
            return r;
        *ret_from_ns = part.from_ns;
        *ret_to_ns = part.to_ns;
        *ret_step_ns = step;
        if (points.point_cnt > 0) {
            first = points.points[0].t_ns;
            end = points.points[points.point_cnt - 1].t_ns + step;
            *ret_from_ns = first > part.from_ns ? first : part.from_ns;
            *ret_to_ns = end < part.to_ns ? end : part.to_ns;
        }
        finer = ap_span_step(*ret_to_ns - *ret_from_ns, SEARCH_BUCKETS);
        if (points.point_cnt == 0 || points.point_cnt >= SEARCH_FILLED || finer >= step || round == SEARCH_ROUNDS) {
            *ret_points = points;
            return 0;
        }
        ap_points_done(&points);
        part.from_ns = *ret_from_ns;
        part.to_ns = *ret_to_ns;
        step = finer;
    }
}

int ap_span_narrow(struct ap_storage *storage, const struct ap_storage_scope *scope, uint64_t *ret_from_ns,
                   uint64_t *ret_to_ns, struct ap_error *err)
{
    struct ap_points points = {0};
    uint64_t from, to, step;
    int r = search(storage, scope, &points, &from, &to, &step, err);

    ap_points_done(&points);
    if (r != 0)
        return r;
    *ret_from_ns = from;
    *ret_to_ns = to;
    return 0;
}

int ap_span_parts(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_span_parts *ret_parts,
                  struct ap_error *err)
{
    struct ap_span_parts parts = {
        .at = {scope->from_ns},
    };
    struct ap_points points = {0};
    uint64_t from, to, step;
    double total = 0, seen = 0;
    unsigned next = 1;
    int r = search(storage, scope, &points, &from, &to, &step, err);

    if (r != 0)
        return r;
    for (size_t i = 0; i < points.point_cnt; i++)
        total += (double)points.points[i].count;
    if (total <= 0)
        points.point_cnt = 0;
    /* A bucket that holds the events of several parts is one part: fewer come out then. */
    for (size_t i = 0; i + 1 < points.point_cnt && parts.cnt + 1 < AP_STAT_PARTS; i++) {
        seen += (double)points.points[i].count * AP_STAT_PARTS;
        if (seen < total * next)
            continue;
        parts.at[++parts.cnt] = points.points[i].t_ns + step;
        while (total * next <= seen)
            next++;
    }
    parts.at[++parts.cnt] = scope->to_ns;
    ap_points_done(&points);
    *ret_parts = parts;
    return 0;
}
