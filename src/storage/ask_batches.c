/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Accounts, batches and agents. */
#include "storage/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* Most agents in one answer, and most batches. */
#define AGENTS_MAX  65536
#define BATCHES_MAX 100000

/* Appends " FROM batches clause WHERE scope". */
static void put_from(struct ap_buf *sql, const struct ap_store *store, const struct ap_storage_scope *scope,
                     const char *clause)
{
    ap_buf_printf(sql, " FROM %s.batches %s WHERE 1", store->database, clause);
    ap_sql_starts(sql, scope);
    ap_sql_series(sql, store->database, scope, true);
}

static void put_has_kind(struct ap_buf *sql, const struct ap_storage_scope *scope)
{
    if (scope->kind != 0)
        ap_buf_printf(sql, " AND has(kinds, %u)", scope->kind);
}

/* Appends sums of an account's numbers, in the order in which read_account() reads them. `i` is the kind's index. */
static void put_account(struct ap_buf *sql)
{
    static const char *const names[] = {"expected",  "delivered",    "idle",   "out_of_scope",
                                        "below_min", "below_min_ns", "folded", "unmatched"};

    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
        ap_buf_printf(sql, ", sum(%s[i])", names[n]);
    /* How many reasons a row has is what its program knew. */
    for (unsigned reason = 0; reason < AP_LOSS_REASON_CNT; reason++)
        ap_buf_printf(sql, ", sum(losses[(i - 1) * intDiv(length(losses), length(kinds)) + %u])", reason + 1);
}

static void read_account(struct ap_rowbin *in, struct ap_account *account)
{
    account->expected = ap_rowbin_u64(in);
    account->delivered = ap_rowbin_u64(in);
    account->idle = ap_rowbin_u64(in);
    account->out_of_scope = ap_rowbin_u64(in);
    account->below_min = ap_rowbin_u64(in);
    account->below_min_ns = ap_rowbin_u64(in);
    account->folded = ap_rowbin_u64(in);
    account->unmatched = ap_rowbin_u64(in);
    for (unsigned reason = 0; reason < AP_LOSS_REASON_CNT; reason++)
        account->losses[reason] = ap_rowbin_u64(in);
}

/* ---- Account ---- */

static int ask_sums(struct ap_store *store, const struct ap_storage_scope *scope, struct ap_provenance *sums,
                    struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT sum(events[i]), sum(totals[i])");
    put_account(&sql);
    put_from(&sql, store, scope, "ARRAY JOIN arrayEnumerate(kinds) AS i");
    if (scope->kind != 0)
        ap_buf_printf(&sql, " AND kinds[i] = %u", scope->kind);
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    /* Nothing at all is no row on some servers. */
    if (r == 0 && ap_rowbin_more(&result.in)) {
        sums->samples = ap_rowbin_u64(&result.in);
        sums->value = ap_rowbin_u64(&result.in);
        read_account(&result.in, &sums->account);
        r = result.in.bad ? ap_store_bad_answer(err) : 0;
    }
    ap_sql_result_done(&result);
    return r;
}

int ap_ask_account(void *engine, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                   struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_provenance sums = {.source = "raw"};
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT count(), max(start_ns + duration_ns)");
    /* The name is known once the store is open. */
    put_from(&sql, store, scope, "");
    put_has_kind(&sql, scope);
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    if (r == 0 && ap_rowbin_more(&result.in)) {
        sums.batches = ap_rowbin_u64(&result.in);
        sums.newest_ns = ap_rowbin_u64(&result.in);
        r = result.in.bad ? ap_store_bad_answer(err) : 0;
    }
    ap_sql_result_done(&result);
    if (r == 0)
        r = ask_sums(store, scope, &sums, err);
    if (r == 0)
        *ret_sums = sums;
    return r;
}

/* ---- Kinds of one batch ---- */

/* Reads kinds, events, totals and losses of one batch or agent. 0. */
static unsigned read_kinds(struct ap_rowbin *in, struct ap_kind_count kinds[AP_CAPTURE_PROFILES_MAX])
{
    uint64_t numbers[AP_CAPTURE_PROFILES_MAX] = {0}, losses[AP_CAPTURE_PROFILES_MAX * 64] = {0};
    size_t cnt = ap_ask_array(in, 1, numbers, AP_CAPTURE_PROFILES_MAX);

    cnt = cnt < AP_CAPTURE_PROFILES_MAX ? cnt : AP_CAPTURE_PROFILES_MAX;
    for (size_t i = 0; i < cnt; i++)
        kinds[i].kind = (uint8_t)numbers[i];
    ap_ask_array(in, sizeof(uint64_t), numbers, AP_CAPTURE_PROFILES_MAX);
    for (size_t i = 0; i < cnt; i++)
        kinds[i].events = numbers[i];
    ap_ask_array(in, sizeof(uint64_t), numbers, AP_CAPTURE_PROFILES_MAX);
    for (size_t i = 0; i < cnt; i++)
        kinds[i].value = numbers[i];
    size_t loss_cnt = ap_ask_array(in, sizeof(uint64_t), losses, sizeof(losses) / sizeof(losses[0]));
    for (size_t i = 0; i < cnt; i++) {
        size_t stride = loss_cnt / cnt;

        for (size_t reason = 0; reason < stride && reason < AP_LOSS_REASON_CNT && i * stride + reason < 512; reason++)
            kinds[i].lost += ap_loss_is_sample((unsigned)reason) ? losses[i * stride + reason] : 0;
    }
    return (unsigned)cnt;
}

/* ---- Batches ---- */

static int read_batch(struct ap_rowbin *in, struct ap_batch_row *row, uint64_t *ret_series)
{
    row->agent_id = ap_ask_text(in);
    row->epoch = ap_rowbin_u64(in);
    row->sequence = ap_rowbin_u64(in);
    row->start_ns = ap_rowbin_u64(in);
    row->duration_ns = ap_rowbin_u64(in);
    row->received_ns = ap_rowbin_u64(in);
    row->bytes = ap_rowbin_u64(in);
    *ret_series = ap_rowbin_u64(in);
    row->kind_cnt = read_kinds(in, row->kinds);
    if (row->agent_id == NULL)
        return -ENOMEM;
    return in->bad ? -EIO : 0;
}

static int read_batches(struct ap_store *store, struct ap_rowbin *in, size_t max, struct ap_batches_answer *answer,
                        struct ap_error *err)
{
    struct ap_ask_label_sets sets = {0};
    uint64_t *series = calloc(max + 1, sizeof(*series));
    int r = 0;

    answer->rows = calloc(max + 1, sizeof(*answer->rows));
    if (series == NULL || answer->rows == NULL)
        r = -ENOMEM;
    while (r == 0 && ap_rowbin_more(in) && answer->row_cnt < max) {
        r = read_batch(in, &answer->rows[answer->row_cnt], &series[answer->row_cnt]);
        answer->row_cnt++;
    }
    if (r != 0) {
        free(series);
        return r == -EIO ? ap_store_bad_answer(err) : ap_error_errno(err, r, "batches");
    }
    r = ap_ask_load_labels(store, series, answer->row_cnt, &sets, err);
    for (size_t i = 0; i < answer->row_cnt && r == 0; i++) {
        r = ap_ask_copy_labels(&sets, series[i], &answer->rows[i].labels, &answer->rows[i].label_cnt);
        if (r != 0)
            ap_error_errno(err, r, "batches");
    }
    ap_ask_label_sets_done(&sets);
    free(series);
    return r;
}

int ap_ask_batches(void *engine, const struct ap_storage_scope *scope, size_t limit,
                   struct ap_batches_answer *ret_answer, struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_batches_answer answer = {0};
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    limit = limit < BATCHES_MAX ? limit : BATCHES_MAX;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT agent, epoch, sequence, start_ns, duration_ns, received_ns, bytes, series, kinds, events, "
                     "totals, losses");
    put_from(&sql, store, scope, "");
    put_has_kind(&sql, scope);
    ap_buf_printf(&sql, " ORDER BY start_ns DESC, agent, epoch DESC, sequence DESC LIMIT %zu", limit);
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    if (r == 0)
        r = read_batches(store, &result.in, limit, &answer, err);
    ap_sql_result_done(&result);
    if (r != 0)
        ap_batches_answer_done(&answer);
    else
        *ret_answer = answer;
    return r;
}

/* ---- Agents ---- */

/* Copies a text into a field of `sz` bytes; what does not fit is cut. */
static void read_field(struct ap_rowbin *in, char *field, size_t sz)
{
    size_t len;
    const char *text = ap_rowbin_text(in, &len);

    if (text == NULL)
        return;
    len = len < sz ? len : sz - 1;
    memcpy(field, text, len);
    field[len] = '\0';
}

static void read_info(struct ap_rowbin *in, struct ap_agent_info *info)
{
    read_field(in, info->version, sizeof(info->version));
    read_field(in, info->host, sizeof(info->host));
    read_field(in, info->kernel, sizeof(info->kernel));
    read_field(in, info->arch, sizeof(info->arch));
    read_field(in, info->event, sizeof(info->event));
    info->cpus_online = ap_rowbin_u32(in);
    info->frequency = ap_rowbin_u64(in);
    info->cpu_ns = ap_rowbin_u64(in);
    info->other_cpu_ns = ap_rowbin_u64(in);
    info->bpf_run_ns = ap_rowbin_u64(in);
    info->bpf_run_cnt = ap_rowbin_u64(in);
    info->rss_peak_bytes = ap_rowbin_u64(in);
    info->bpf_memory_bytes = ap_rowbin_u64(in);
}

static void read_left_out(struct ap_rowbin *in, struct ap_agent_row *row)
{
    uint64_t kinds[AP_CAPTURE_PROFILES_MAX] = {0};
    size_t cnt = ap_ask_array(in, 1, kinds, AP_CAPTURE_PROFILES_MAX), text_cnt = ap_rowbin_array(in, 1);

    row->left_out_cnt = (unsigned)(cnt < AP_CAPTURE_PROFILES_MAX ? cnt : AP_CAPTURE_PROFILES_MAX);
    for (size_t i = 0; i < text_cnt; i++) {
        if (i < row->left_out_cnt)
            read_field(in, row->left_out[i].reason, sizeof(row->left_out[i].reason));
        else
            ap_ask_skip_text(in);
    }
    for (unsigned i = 0; i < row->left_out_cnt; i++)
        row->left_out[i].kind = (uint8_t)kinds[i];
}

static int read_agent(struct ap_rowbin *in, struct ap_agent_row *row, uint64_t *ret_series)
{
    row->agent_id = ap_ask_text(in);
    row->epoch = ap_rowbin_u64(in);
    row->sequence = ap_rowbin_u64(in);
    *ret_series = ap_rowbin_u64(in);
    row->spool_bytes = ap_rowbin_u64(in);
    row->spool_dropped_batches = ap_rowbin_u64(in);
    row->spool_dropped_events = ap_rowbin_u64(in);
    read_info(in, &row->info);
    read_left_out(in, row);
    if (row->agent_id == NULL)
        return -ENOMEM;
    return in->bad ? -EIO : 0;
}

/* The newest batch of each agent, by id. */
static int ask_newest(struct ap_store *store, const struct ap_storage_scope *scope, struct ap_agents_answer *answer,
                      uint64_t **ret_series, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    uint64_t *series = NULL;
    struct ap_buf sql;
    size_t cap = 0;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT agent, epoch, sequence, series, spool_bytes, spool_dropped_batches, spool_dropped_events, "
                     "version, host, kernel, arch, event, cpus_online, frequency, cpu_ns, other_cpu_ns, bpf_run_ns, "
                     "bpf_run_cnt, rss_peak_bytes, bpf_memory_bytes, left_kinds, left_reasons");
    put_from(&sql, store, scope, "");
    put_has_kind(&sql, scope);
    ap_buf_str(&sql, " AND (agent, start_ns) IN (SELECT agent, max(start_ns)");
    put_from(&sql, store, scope, "");
    put_has_kind(&sql, scope);
    ap_buf_printf(&sql, " GROUP BY agent) ORDER BY agent, epoch DESC, sequence DESC LIMIT 1 BY agent LIMIT %d",
                  AGENTS_MAX + 1);
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        if (answer->row_cnt == AGENTS_MAX) {
            r = ap_ask_too_many(err, "agents", AGENTS_MAX);
            break;
        }
        if (answer->row_cnt == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            struct ap_agent_row *rows = reallocarray(answer->rows, cap, sizeof(*rows));
            uint64_t *hashes = reallocarray(series, cap, sizeof(*hashes));

            answer->rows = rows != NULL ? rows : answer->rows;
            series = hashes != NULL ? hashes : series;
            if (rows == NULL || hashes == NULL) {
                r = ap_error_errno(err, -ENOMEM, "agents");
                break;
            }
        }
        answer->rows[answer->row_cnt] = (struct ap_agent_row){0};
        r = read_agent(&result.in, &answer->rows[answer->row_cnt], &series[answer->row_cnt]);
        answer->row_cnt++;
        if (r != 0)
            r = r == -EIO ? ap_store_bad_answer(err) : ap_error_errno(err, r, "agents");
    }
    ap_sql_result_done(&result);
    *ret_series = series;
    return r;
}

static struct ap_agent_row *find_agent(struct ap_agents_answer *answer, const char *id, size_t len)
{
    size_t low = 0, high = answer->row_cnt;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct ap_agent_row *row = &answer->rows[middle];
        int order = strncmp(row->agent_id, id, len);

        if (order == 0 && row->agent_id[len] != '\0')
            order = 1;
        if (order == 0)
            return row;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int ask_agent_sums(struct ap_store *store, const struct ap_storage_scope *scope, struct ap_agents_answer *answer,
                          struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    size_t len;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT agent, count(), min(start_ns), max(start_ns + duration_ns)");
    put_from(&sql, store, scope, "");
    put_has_kind(&sql, scope);
    ap_buf_str(&sql, " GROUP BY agent");
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        const char *id = ap_rowbin_text(&result.in, &len);
        struct ap_agent_row none, *row = id != NULL ? find_agent(answer, id, len) : NULL;

        row = row != NULL ? row : &none;
        row->batches = ap_rowbin_u64(&result.in);
        row->first_ns = ap_rowbin_u64(&result.in);
        row->last_ns = ap_rowbin_u64(&result.in);
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    return r;
}

static int ask_agent_kinds(struct ap_store *store, const struct ap_storage_scope *scope,
                           struct ap_agents_answer *answer, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    size_t len;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT agent, kinds[i] AS kind, sum(events[i]), sum(totals[i])");
    put_account(&sql);
    put_from(&sql, store, scope, "ARRAY JOIN arrayEnumerate(kinds) AS i");
    put_has_kind(&sql, scope);
    ap_buf_str(&sql, " GROUP BY agent, kind ORDER BY agent, kind");
    int r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        const char *id = ap_rowbin_text(&result.in, &len);
        struct ap_agent_row *row = id != NULL ? find_agent(answer, id, len) : NULL;
        struct ap_kind_count count = {.kind = ap_rowbin_u8(&result.in)};
        struct ap_account account = {0};

        count.events = ap_rowbin_u64(&result.in);
        count.value = ap_rowbin_u64(&result.in);
        read_account(&result.in, &account);
        count.lost = ap_account_lost(&account);
        if (row != NULL && row->kind_cnt < AP_CAPTURE_PROFILES_MAX)
            row->kinds[row->kind_cnt++] = count;
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    return r;
}

int ap_ask_agents(void *engine, const struct ap_storage_scope *scope, struct ap_agents_answer *ret_answer,
                  struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_agents_answer answer = {0};
    struct ap_ask_label_sets sets = {0};
    uint64_t *series = NULL;
    int r = ask_newest(store, scope, &answer, &series, err);

    if (r == 0)
        r = ask_agent_sums(store, scope, &answer, err);
    if (r == 0)
        r = ask_agent_kinds(store, scope, &answer, err);
    if (r == 0)
        r = ap_ask_load_labels(store, series, answer.row_cnt, &sets, err);
    for (size_t i = 0; i < answer.row_cnt && r == 0; i++) {
        r = ap_ask_copy_labels(&sets, series[i], &answer.rows[i].labels, &answer.rows[i].label_cnt);
        if (r != 0)
            ap_error_errno(err, r, "agents");
    }
    ap_ask_label_sets_done(&sets);
    free(series);
    if (r != 0)
        ap_agents_answer_done(&answer);
    else
        *ret_answer = answer;
    return r;
}
