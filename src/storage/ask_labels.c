/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Label names, values and sets. */
#include "storage/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* ---- Shared ---- */

char *ap_ask_text(struct ap_rowbin *in)
{
    size_t len;
    const char *text = ap_rowbin_text(in, &len);

    return strndup(text != NULL ? text : "", len);
}

void ap_ask_skip_text(struct ap_rowbin *in)
{
    size_t len;

    ap_rowbin_text(in, &len);
}

int ap_ask_too_many(struct ap_error *err, const char *what, size_t max)
{
    return ap_error_set(err, -E2BIG, "there are more than %zu %s: narrow the time range or the labels", max, what);
}

size_t ap_ask_array(struct ap_rowbin *in, size_t width, uint64_t *ret, size_t max)
{
    size_t cnt = ap_rowbin_array(in, width);

    for (size_t i = 0; i < cnt; i++) {
        uint64_t value = ap_rowbin_number(in, width);

        if (i < max)
            ret[i] = value;
    }
    return cnt;
}

/* "SELECT series FROM table WHERE ..." of a table with starts. */
static void put_table_series(struct ap_buf *sql, const struct ap_store *store, const struct ap_storage_scope *scope,
                             enum ap_store_table table, const char *before)
{
    ap_buf_printf(sql, "%sSELECT series FROM %s.%s WHERE 1", before, store->database, ap_table_def(table)->name);
    if (table == AP_TABLE_BATCHES && scope->kind != 0)
        ap_buf_printf(sql, " AND has(kinds, %u)", scope->kind);
    ap_sql_starts(sql, scope);
    ap_sql_series(sql, store->database, scope, false);
    ap_buf_str(sql, " GROUP BY series");
}

void ap_ask_put_series(struct ap_buf *sql, const struct ap_store *store, const struct ap_storage_scope *scope,
                       bool with_batches)
{
    const struct ap_sql_plan plan = ap_sql_plan_series(scope);
    const char *before = "";

    ap_buf_str(sql, "(SELECT series FROM (");
    for (unsigned i = 0; i < plan.cnt; i++) {
        ap_buf_printf(sql, "%sSELECT series", before);
        ap_sql_piece(sql, store->database, scope, &plan.pieces[i]);
        ap_buf_str(sql, " GROUP BY series");
        before = " UNION ALL ";
    }
    if (plan.cnt == 0) { /* not even one slot */
        ap_buf_str(sql, "SELECT toUInt64(0) AS series");
        before = " UNION ALL ";
    }
    if (scope->kind == 0 || scope->kind == AP_KIND_LOCK) {
        put_table_series(sql, store, scope, AP_TABLE_LOCKS, before);
        before = " UNION ALL ";
    }
    if (scope->kind == 0 || scope->kind == AP_KIND_SYSCALL) {
        put_table_series(sql, store, scope, AP_TABLE_SYSCALLS, before);
        before = " UNION ALL ";
    }
    if (with_batches)
        put_table_series(sql, store, scope, AP_TABLE_BATCHES, before);
    ap_buf_str(sql, "))");
}

void ap_ask_free_labels(struct ap_label *labels, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        free(labels[i].name);
        free(labels[i].value);
    }
    free(labels);
}

/* Names and texts of one label set. 0, -ENOMEM or -EIO. */
static int read_labels(struct ap_rowbin *in, struct ap_label **ret_labels, size_t *ret_cnt)
{
    size_t cnt = ap_rowbin_array(in, 1);
    struct ap_label *labels = calloc(cnt + 1, sizeof(*labels));

    if (labels == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < cnt; i++)
        labels[i].name = ap_ask_text(in);
    size_t text_cnt = ap_rowbin_array(in, 1);
    for (size_t i = 0; i < text_cnt && i < cnt; i++)
        labels[i].value = ap_ask_text(in);
    int r = in->bad || text_cnt != cnt ? -EIO : 0;
    for (size_t i = 0; i < cnt && r == 0; i++)
        r = labels[i].name != NULL && labels[i].value != NULL ? 0 : -ENOMEM;
    if (r != 0) {
        ap_ask_free_labels(labels, cnt);
        return r;
    }
    *ret_labels = labels;
    *ret_cnt = cnt;
    return 0;
}

static int failed(int r, struct ap_error *err)
{
    return r == -EIO ? ap_store_bad_answer(err) : ap_error_errno(err, r, "labels");
}

/* ---- Label sets by identity ---- */

void ap_ask_label_sets_done(struct ap_ask_label_sets *sets)
{
    struct ap_ask_labels *set;
    size_t pos = 0;

    while ((set = ap_map_next(&sets->by_hash, &pos)) != NULL)
        ap_ask_free_labels(set->labels, set->cnt);
    ap_map_done_values(&sets->by_hash);
}

static int read_set(struct ap_rowbin *in, struct ap_ask_label_sets *sets)
{
    struct ap_ask_labels *set = calloc(1, sizeof(*set));

    if (set == NULL)
        return -ENOMEM;
    set->hash = ap_rowbin_u64(in);
    int r = read_labels(in, &set->labels, &set->cnt);
    if (r == 0)
        r = ap_map_put(&sets->by_hash, &set->hash, sizeof(set->hash), set);
    if (r != 0) {
        ap_ask_free_labels(set->labels, set->cnt);
        free(set);
    }
    return r;
}

static int load_some(struct ap_store *store, const uint64_t *hashes, size_t cnt, struct ap_ask_label_sets *sets,
                     struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT hash, names, texts FROM %s.series WHERE hash IN (", store->database);
    for (size_t i = 0; i < cnt; i++)
        ap_buf_printf(&sql, "%s%" PRIu64, i > 0 ? "," : "", hashes[i]);
    ap_buf_str(&sql, ") LIMIT 1 BY hash");
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        r = read_set(&result.in, sets);
        if (r != 0)
            failed(r, err);
    }
    ap_sql_result_done(&result);
    return r;
}

int ap_ask_load_labels(struct ap_store *store, const uint64_t *hashes, size_t cnt, struct ap_ask_label_sets *ret_sets,
                       struct ap_error *err)
{
    struct ap_ask_label_sets sets = {0};
    int r = 0;

    ap_map_init(&sets.by_hash, SIZE_MAX); /* as many as were asked for */
    for (size_t at = 0; at < cnt && r == 0; at += AP_ASK_HASHES_MAX)
        r = load_some(store, hashes + at, cnt - at < AP_ASK_HASHES_MAX ? cnt - at : AP_ASK_HASHES_MAX, &sets, err);
    if (r != 0) {
        ap_ask_label_sets_done(&sets);
        return r;
    }
    *ret_sets = sets;
    return 0;
}

int ap_ask_copy_labels(const struct ap_ask_label_sets *sets, uint64_t hash, struct ap_label **ret_labels,
                       size_t *ret_cnt)
{
    const struct ap_ask_labels *set = ap_map_get(&sets->by_hash, &hash, sizeof(hash));
    size_t cnt = set != NULL ? set->cnt : 0, n = 0;
    struct ap_label *labels = calloc(cnt + 1, sizeof(*labels));

    if (labels == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < cnt; i++) {
        if (strcmp(set->labels[i].name, "agent") == 0)
            continue;
        labels[n].name = strdup(set->labels[i].name);
        labels[n].value = strdup(set->labels[i].value);
        n++;
        if (labels[n - 1].name == NULL || labels[n - 1].value == NULL) {
            ap_ask_free_labels(labels, n);
            return -ENOMEM;
        }
    }
    *ret_labels = labels;
    *ret_cnt = n;
    return 0;
}

/* ---- Questions ---- */

/* Reads texts, one a row. */
static int ask_texts(struct ap_store *store, const struct ap_buf *sql, const char *what, size_t max,
                     struct ap_texts *ret_texts, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_texts texts = {0};
    size_t cap = 0;
    int r = ap_store_query(store, sql, &result, err);

    while (r == 0 && ap_rowbin_more(&result.in)) {
        if (texts.cnt == max) {
            r = ap_ask_too_many(err, what, max);
            break;
        }
        if (texts.cnt == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            char **items = reallocarray(texts.items, cap, sizeof(char *));

            if (items == NULL) {
                r = failed(-ENOMEM, err);
                break;
            }
            texts.items = items;
        }
        texts.items[texts.cnt] = ap_ask_text(&result.in);
        if (texts.items[texts.cnt] == NULL)
            r = failed(-ENOMEM, err);
        else
            texts.cnt++;
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    if (r != 0)
        ap_texts_done(&texts);
    else
        *ret_texts = texts;
    return r;
}

int ap_ask_labels(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_texts *ret_names,
                  struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_buf sql;
    int r = ap_store_ensure(store, err);

    if (r != 0)
        return r;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT arrayJoin(names) AS n FROM %s.series WHERE hash IN ", store->database);
    ap_ask_put_series(&sql, store, scope, true);
    ap_buf_printf(&sql, " GROUP BY n ORDER BY n LIMIT %zu", max + 1);
    r = ask_texts(store, &sql, "label names", max, ret_names, err);
    ap_buf_done(&sql);
    return r;
}

int ap_ask_label_values(void *engine, const struct ap_storage_scope *scope, const char *label, size_t max,
                        struct ap_texts *ret_values, struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_buf sql;
    int r = ap_store_ensure(store, err);

    if (r != 0)
        return r;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT ");
    ap_sql_label(&sql, label);
    ap_buf_printf(&sql, " AS v FROM %s.series WHERE v != '' AND hash IN ", store->database);
    ap_ask_put_series(&sql, store, scope, true);
    ap_buf_printf(&sql, " GROUP BY v ORDER BY v LIMIT %zu", max + 1);
    r = ask_texts(store, &sql, "values of the label", max, ret_values, err);
    ap_buf_done(&sql);
    return r;
}

static int read_rows(struct ap_rowbin *in, size_t max, struct ap_series_rows *rows, struct ap_error *err)
{
    size_t cap = 0;

    while (ap_rowbin_more(in)) {
        struct ap_series_row row = {0};

        if (rows->cnt == max)
            return ap_ask_too_many(err, "series", max);
        if (rows->cnt == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            struct ap_series_row *grown = reallocarray(rows->rows, cap, sizeof(*grown));

            if (grown == NULL)
                return failed(-ENOMEM, err);
            rows->rows = grown;
        }
        int r = read_labels(in, &row.labels, &row.label_cnt);
        if (r != 0)
            return failed(r, err);
        rows->rows[rows->cnt++] = row;
    }
    return in->bad ? ap_store_bad_answer(err) : 0;
}

int ap_ask_series(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_series_rows *ret_rows,
                  struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_sql_result result = {0};
    struct ap_series_rows rows = {0};
    struct ap_buf sql;
    int r = ap_store_ensure(store, err);

    if (r != 0)
        return r;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT names, texts FROM %s.series WHERE hash IN ", store->database);
    ap_ask_put_series(&sql, store, scope, false);
    ap_buf_printf(&sql, " GROUP BY names, texts ORDER BY texts, names LIMIT %zu", max + 1);
    r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    if (r == 0)
        r = read_rows(&result.in, max, &rows, err);
    ap_sql_result_done(&result);
    if (r != 0)
        ap_series_rows_done(&rows);
    else
        *ret_rows = rows;
    return r;
}
