/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Sums over time, by the values of a label. */
#include "storage/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define SLOTS_PER_SEC 50
#define OTHERS        "(other)"

struct timeline {
    struct ap_store *store;
    const struct ap_storage_scope *scope;
    struct ap_sql_plan plan;
    uint64_t step_ns;
    const char *label; /* NULL = all in one */
    char **top;        /* owned until they are the answer's: names of the largest groups */
    size_t top_cnt;
};

/* "(SELECT series, b, sum(count) AS c, ...)", added up by the series (`by_series`) and the bucket (`by_time`). */
static void put_sums(struct ap_buf *sql, const struct timeline *line, bool by_series, bool by_time)
{
    ap_buf_char(sql, '(');
    for (unsigned i = 0; i < line->plan.cnt; i++) {
        const struct ap_sql_piece *piece = &line->plan.pieces[i];

        ap_buf_printf(sql, "%sSELECT ", i > 0 ? " UNION ALL " : "");
        if (by_series)
            ap_buf_str(sql, "series, ");
        if (by_time)
            ap_buf_printf(sql, "intDiv(toUInt64(toUInt32(t)) * %d%s, %" PRIu64 ") AS b, ", SLOTS_PER_SEC,
                          piece->table == AP_TABLE_SAMPLES ? " + slot" : "",
                          (uint64_t)(line->step_ns / AP_PUSH_SLOT_NS));
        ap_buf_str(sql, "sum(count) AS c, sum(value) AS v");
        ap_sql_piece(sql, line->store->database, line->scope, piece);
        if (by_series || by_time)
            ap_buf_printf(sql, " GROUP BY %s%s%s", by_series ? "series" : "", by_series && by_time ? ", " : "",
                          by_time ? "b" : "");
    }
    ap_buf_char(sql, ')');
}

/* The same with the label's value as `g` beside each row. */
static void put_grouped(struct ap_buf *sql, const struct timeline *line, bool by_time)
{
    put_sums(sql, line, true, by_time);
    ap_buf_str(sql, " AS sums ALL LEFT JOIN (SELECT hash AS series, any(");
    ap_sql_label(sql, line->label);
    ap_buf_printf(sql, ") AS g FROM %s.series GROUP BY hash) AS named USING series", line->store->database);
}

/* The largest groups, and whether there are more. */
static int ask_top(struct timeline *line, size_t group_max, bool *ret_more, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    bool more = false;

    line->top = calloc(group_max + 2, sizeof(char *)); /* and one for what is not among them */
    if (line->top == NULL)
        return ap_error_errno(err, -ENOMEM, "timeline");
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT g, sum(v) AS total FROM ");
    put_grouped(&sql, line, false);
    ap_buf_printf(&sql, " GROUP BY g ORDER BY total DESC, sum(c) DESC, g LIMIT %zu", group_max + 1);
    int r = ap_store_query(line->store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        char *name = ap_ask_text(&result.in);

        ap_rowbin_u64(&result.in);
        if (name == NULL) {
            r = ap_error_errno(err, -ENOMEM, "timeline");
        } else if (line->top_cnt == group_max) {
            more = true;
            free(name);
            break;
        } else {
            line->top[line->top_cnt++] = name;
        }
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    if (r == 0)
        *ret_more = more;
    return r;
}

static void put_points(struct ap_buf *sql, const struct timeline *line)
{
    if (line->label == NULL) {
        ap_buf_str(sql, "SELECT toUInt8(1) AS known, '' AS name, b, sum(c), sum(v) FROM ");
        put_sums(sql, line, false, true);
        ap_buf_str(sql, " AS sums");
    } else {
        ap_buf_str(sql, "SELECT toUInt8(hex(g) IN (''");
        /* '' stands for the empty value, whose digits are none; it is only listed when it is among the largest. */
        sql->len -= 2;
        for (size_t i = 0; i < line->top_cnt; i++) {
            ap_buf_str(sql, i > 0 ? ", " : "");
            ap_sql_hex(sql, line->top[i], strlen(line->top[i]));
        }
        if (line->top_cnt == 0)
            ap_buf_str(sql, "'-'"); /* no digits: nothing */
        ap_buf_str(sql, ")) AS known, if(known = 1, g, '') AS name, b, sum(c), sum(v) FROM ");
        put_grouped(sql, line, true);
    }
    ap_buf_printf(sql, " GROUP BY known, name, b ORDER BY known DESC, name, b LIMIT %u", AP_POINTS_MAX + 1);
}

static int compare_points(const void *pa, const void *pb)
{
    const struct ap_point *a = pa, *b = pb;

    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    return a->t_ns < b->t_ns ? -1 : a->t_ns > b->t_ns;
}

/* Index of the group that the row's name says; `others` when it is none of the largest. */
static uint32_t group_of(const struct timeline *line, bool known, const char *name, size_t len, uint32_t *last)
{
    if (!known)
        return (uint32_t)line->top_cnt;
    /* Rows come by name: mostly it is the one before. */
    if (*last < line->top_cnt && strlen(line->top[*last]) == len && memcmp(line->top[*last], name, len) == 0)
        return *last;
    for (uint32_t i = 0; i < line->top_cnt; i++) {
        if (strlen(line->top[i]) == len && memcmp(line->top[i], name, len) == 0)
            return *last = i;
    }
    return (uint32_t)line->top_cnt;
}

static int read_points(const struct timeline *line, struct ap_rowbin *in, struct ap_points *points,
                       struct ap_error *err)
{
    size_t cap = 0;
    uint32_t last = 0;

    while (ap_rowbin_more(in)) {
        struct ap_point point;
        size_t len;

        if (points->point_cnt == AP_POINTS_MAX)
            return ap_ask_too_many(err, "points in the timeline", AP_POINTS_MAX);
        if (points->point_cnt == cap) {
            cap = cap == 0 ? 256 : cap * 2;
            struct ap_point *grown = reallocarray(points->points, cap, sizeof(*grown));

            if (grown == NULL)
                return ap_error_errno(err, -ENOMEM, "timeline");
            points->points = grown;
        }
        bool known = ap_rowbin_u8(in) != 0;
        const char *name = ap_rowbin_text(in, &len);
        if (name == NULL)
            break;
        point.group = line->label == NULL ? 0 : group_of(line, known, name, len, &last);
        point.t_ns = ap_rowbin_u64(in) * line->step_ns;
        point.count = ap_rowbin_u64(in);
        point.value = ap_rowbin_u64(in);
        points->points[points->point_cnt++] = point;
    }
    if (in->bad)
        return ap_store_bad_answer(err);
    if (points->point_cnt > 1)
        qsort(points->points, points->point_cnt, sizeof(*points->points), compare_points);
    return 0;
}

static int ask_points(struct timeline *line, struct ap_points *points, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    put_points(&sql, line);
    int r = ap_store_query(line->store, &sql, &result, err);
    ap_buf_done(&sql);
    if (r == 0)
        r = read_points(line, &result.in, points, err);
    ap_sql_result_done(&result);
    return r;
}

/* The names of the groups become the answer's. */
static int name_groups(struct timeline *line, bool more, struct ap_points *points, struct ap_error *err)
{
    if (line->label == NULL) {
        line->top = calloc(1, sizeof(char *));
        if (line->top != NULL && points->point_cnt > 0)
            line->top[line->top_cnt++] = strdup("");
    } else if (more) {
        line->top[line->top_cnt++] = strdup(OTHERS);
    }
    if (line->top == NULL || (line->top_cnt > 0 && line->top[line->top_cnt - 1] == NULL))
        return ap_error_errno(err, -ENOMEM, "timeline");
    points->groups = line->top;
    points->group_cnt = line->top_cnt;
    line->top = NULL;
    line->top_cnt = 0;
    return 0;
}

int ap_ask_timeline(void *engine, const struct ap_storage_scope *scope, uint64_t step_ns, const char *label,
                    size_t group_max, struct ap_points *ret_points, struct ap_error *err)
{
    struct timeline line = {.store = engine, .scope = scope, .step_ns = step_ns, .label = label};
    struct ap_points points = {0};
    bool more = false;
    int r = ap_store_ensure(line.store, err);

    group_max = group_max > 0 ? group_max : 1;

    if (r != 0)
        return r;
    line.plan = ap_store_plan(line.store, scope, step_ns, label);
    if (line.plan.cnt > 0 && label != NULL)
        r = ask_top(&line, group_max, &more, err);
    if (r == 0 && line.plan.cnt > 0)
        r = ask_points(&line, &points, err);
    if (r == 0 && line.plan.cnt > 0)
        r = name_groups(&line, more, &points, err);
    for (size_t i = 0; i < line.top_cnt; i++)
        free(line.top[i]);
    free(line.top);
    if (r != 0)
        ap_points_done(&points);
    else
        *ret_points = points;
    return r;
}
