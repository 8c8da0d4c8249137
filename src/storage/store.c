/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/store.h"

#include "core/clock.h"
#include "storage/group.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Inserts at a time besides the one at hand, and rows that are worth a thread. */
#define JOBS_MAX         (AP_SQL_PARALLEL - 2)
#define JOB_ROWS_MIN     20000
#define DATABASE_DEFAULT "aperture"
#define DAY_NS           (24 * 3600 * AP_NS_PER_SEC)

/* ---- Asking ---- */

int ap_store_bad_answer(struct ap_error *err)
{
    return ap_error_set(err, -EIO, "the store's answer cannot be read");
}

static int query(struct ap_store *store, const struct ap_buf *sql, unsigned timeout_s, struct ap_sql_result *ret_result,
                 struct ap_error *err)
{
    if (sql->error != 0)
        return ap_error_errno(err, sql->error == -ENOSPC ? -E2BIG : sql->error, "statement");
    return store->ops->query(store->backend, sql->data, timeout_s, ret_result, err);
}

int ap_store_query(struct ap_store *store, const struct ap_buf *sql, struct ap_sql_result *ret_result,
                   struct ap_error *err)
{
    int r = ap_store_ensure(store, err);

    return r != 0 ? r : query(store, sql, AP_SQL_QUERY_S, ret_result, err);
}

struct ap_sql_plan ap_store_plan(const struct ap_store *store, const struct ap_storage_scope *scope, uint64_t step_ns,
                                 const char *label)
{
    uint64_t now_s = ap_clock_realtime_ns() / AP_NS_PER_SEC,
             kept_s = ap_schema_raw_retention_s(&store->opts, scope->kind);
    const struct ap_sql_wish wish = {
        .step_ns = step_ns,
        .label = label,
        .raw_since = now_s > kept_s ? (now_s - kept_s) * (AP_NS_PER_SEC / AP_PUSH_SLOT_NS) : 0,
    };

    return ap_sql_plan(scope, &store->features, &wish);
}

/* ---- Opening ---- */

/* "26.7.2.1" as 2607. */
static int find_version(struct ap_store *store, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    unsigned major = 0, minor = 0;
    char text[32] = "";
    size_t len = 0;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT version()");
    int r = query(store, &sql, AP_SQL_READY_S, &result, err);
    ap_buf_done(&sql);
    if (r != 0)
        return r;
    const char *version = ap_rowbin_text(&result.in, &len);
    if (version != NULL && len < sizeof(text))
        memcpy(text, version, len);
    ap_sql_result_done(&result);
    if (sscanf(text, "%u.%u", &major, &minor) != 2)
        return ap_error_set(err, -EIO, "the store tells no version that is known: \"%s\"", text);
    store->features.version = major * 100 + minor;
    store->features.full = store->features.version >= AP_SQL_FULL;
    return 0;
}

/* 0 when there is none. */
static int schema_version(struct ap_store *store, uint32_t *ret_version, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT max(version) FROM %s.schema_versions", store->database);
    int r = query(store, &sql, AP_SQL_QUERY_S, &result, err);
    ap_buf_done(&sql);
    if (r != 0)
        return r;
    uint32_t version = ap_rowbin_u32(&result.in);
    r = result.in.bad ? ap_store_bad_answer(err) : 0;
    ap_sql_result_done(&result);
    if (r == 0)
        *ret_version = version;
    return r;
}

static int exec_buf(struct ap_store *store, const struct ap_buf *sql, struct ap_error *err)
{
    if (sql->error != 0)
        return ap_error_errno(err, sql->error, "statement");
    return store->ops->exec(store->backend, sql->data, err);
}

/* Statements first .. last of the schema. */
static int make_schema(struct ap_store *store, unsigned first, unsigned last, struct ap_error *err)
{
    const struct ap_schema_place place = {.database = store->database};
    struct ap_buf sql;
    int r = 0;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    for (unsigned i = first; i <= last && r == 0; i++) {
        ap_buf_reset(&sql);
        if (!ap_schema_statement(&place, &store->features, &store->opts, i, &sql))
            break;
        if (sql.len > 0)
            r = exec_buf(store, &sql, err);
    }
    ap_buf_done(&sql);
    return r;
}

static int write_version(struct ap_store *store, struct ap_error *err)
{
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "INSERT INTO %s.schema_versions (version, program, applied) SELECT %d, '%s', now()",
                  store->database, AP_SCHEMA_VERSION, APERTURE_VERSION);
    int r = exec_buf(store, &sql, err);
    ap_buf_done(&sql);
    return r;
}

/* True when the table's definition holds the expression of its TTL as it is wanted. */
static int ttl_is(struct ap_store *store, enum ap_store_table table, bool *ret_same, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT toUInt8(position(replaceAll(create_table_query, ' ', ''), replaceAll('");
    ap_schema_ttl_text(&store->opts, table, &sql);
    ap_buf_printf(&sql, "', ' ', '')) > 0) FROM system.tables WHERE database = '%s' AND name = '%s'", store->database,
                  ap_table_def(table)->name);
    int r = query(store, &sql, AP_SQL_QUERY_S, &result, err);
    ap_buf_done(&sql);
    if (r == 0) {
        *ret_same = ap_rowbin_u8(&result.in) != 0;
        ap_sql_result_done(&result);
    }
    return r;
}

/* Retention as the options say, where a table was made with another. */
static int apply_retention(struct ap_store *store, struct ap_error *err)
{
    struct ap_buf sql;
    int r = 0;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    for (enum ap_store_table table = 0; table < AP_TABLE_CNT && r == 0 && store->features.full; table++) {
        bool same = false;

        r = ttl_is(store, table, &same, err);
        if (r != 0 || same)
            continue;
        ap_buf_reset(&sql);
        ap_buf_printf(&sql, "ALTER TABLE %s.%s MODIFY TTL ", store->database, ap_table_def(table)->name);
        ap_schema_ttl_text(&store->opts, table, &sql);
        /* Old parts follow as they are merged. */
        ap_buf_str(&sql, " SETTINGS materialize_ttl_after_modify = 0");
        r = exec_buf(store, &sql, err);
    }
    ap_buf_done(&sql);
    return r;
}

static int migrate(struct ap_store *store, struct ap_error *err)
{
    uint32_t version = 0;
    int r = make_schema(store, 0, 1, err); /* the database and its versions */

    if (r == 0)
        r = schema_version(store, &version, err);
    if (r != 0)
        return r;
    if (version > AP_SCHEMA_VERSION)
        return ap_error_set(err, -EPROTO,
                            "the database \"%s\" has schema version %" PRIu32 ", newer than the %d of this program: "
                            "use the newer program, or another database",
                            store->database, version, AP_SCHEMA_VERSION);
    if (version < AP_SCHEMA_VERSION) {
        r = make_schema(store, 2, UINT_MAX, err);
        if (r == 0)
            r = write_version(store, err);
    }
    return r == 0 ? apply_retention(store, err) : r;
}

/* The lock is held. */
static int ensure(struct ap_store *store, struct ap_error *err)
{
    if (store->opened)
        return 0;
    int r = find_version(store, err);
    if (r == 0)
        r = migrate(store, err);
    if (r == 0)
        store->opened = true;
    return r;
}

int ap_store_ensure(struct ap_store *store, struct ap_error *err)
{
    if (store->opened)
        return 0;
    pthread_mutex_lock(&store->lock);
    int r = ensure(store, err);
    pthread_mutex_unlock(&store->lock);
    return r;
}

/* ---- Inserting ---- */

static void crash_here(struct ap_store *store, enum ap_store_step step)
{
    if (store->crash_step == step && (step != AP_STEP_INSERT || store->insert_nth == store->crash_nth))
        _exit(99);
}

void ap_store_set_crash(struct ap_store *store, enum ap_store_step step, unsigned nth)
{
    store->crash_step = step;
    store->crash_nth = nth;
    store->insert_nth = 0;
}

/* A chunk that a thread of its own inserts while the next one is made. */
struct job {
    struct inserting *inserting;
    pthread_t thread;
    enum ap_store_table table;
    struct ap_block block;
    uint32_t day;
    uint64_t key;
    int r;
    struct ap_error err;
};

/* One group on its way in. */
struct inserting {
    struct ap_store *store;
    bool again; /* it may be there in part */
    struct job jobs[JOBS_MAX];
    unsigned job_cnt;
};

/* Old servers: whether the chunk is there. */
static int chunk_is_there(struct ap_store *store, enum ap_store_table table, uint32_t day, uint64_t key,
                          bool *ret_there, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql,
                  "SELECT count() FROM %s.%s WHERE t >= toDateTime(%" PRIu32 ") AND t < toDateTime(%" PRIu32
                  ") AND grp = %" PRIu64,
                  store->database, ap_table_def(table)->name, day * 86400, (day + 1) * 86400, key);
    int r = query(store, &sql, AP_SQL_QUERY_S, &result, err);
    ap_buf_done(&sql);
    if (r == 0) {
        *ret_there = ap_rowbin_u64(&result.in) > 0;
        ap_sql_result_done(&result);
    }
    return r;
}

static int insert_block(const struct inserting *inserting, enum ap_store_table table, const struct ap_block *block,
                        uint32_t day, uint64_t key, struct ap_error *err)
{
    struct ap_store *store = inserting->store;
    char name[96], token[40];
    bool there = false;

    if (key != 0 && inserting->again && !store->features.full) {
        int r = chunk_is_there(store, table, day, key, &there, err);

        if (r != 0)
            return r;
    }
    snprintf(name, sizeof(name), "%s.%s", store->database, ap_table_def(table)->name);
    snprintf(token, sizeof(token), "aperture-%016" PRIx64, key);
    return there ? 0 : store->ops->insert(store->backend, name, block, key != 0 ? token : NULL, &store->features, err);
}

static void *run_job(void *ctx)
{
    struct job *job = ctx;

    job->r = insert_block(job->inserting, job->table, &job->block, job->day, job->key, &job->err);
    return NULL;
}

/* Waits for all; the first failure, with its words. */
static int join_jobs(struct inserting *inserting, struct ap_error *err)
{
    int r = 0;

    for (unsigned i = 0; i < inserting->job_cnt; i++) {
        struct job *job = &inserting->jobs[i];

        pthread_join(job->thread, NULL);
        ap_block_done(&job->block);
        if (job->r != 0 && r == 0)
            r = ap_error_set(err, job->r, "%s", job->err.text);
    }
    inserting->job_cnt = 0;
    return r;
}

/* True when a thread took the rows away. */
static bool start_job(struct inserting *inserting, enum ap_store_table table, struct ap_block *block, uint32_t day,
                      uint64_t key)
{
    struct job *job = &inserting->jobs[inserting->job_cnt];

    *job = (struct job){.inserting = inserting, .table = table, .block = *block, .day = day, .key = key};
    if (pthread_create(&job->thread, NULL, run_job, job) != 0)
        return false;
    inserting->job_cnt++;
    ap_table_block_init(block, table, &inserting->store->features);
    return true;
}

static int insert_chunk(void *ctx, enum ap_store_table table, struct ap_block *block, uint32_t day, uint64_t key,
                        struct ap_error *err)
{
    struct inserting *inserting = ctx;
    struct ap_store *store = inserting->store;
    int r = 0;

    /* What says that a batch is stored comes after all that it consists of. */
    if (table == AP_TABLE_BATCHES || inserting->job_cnt == JOBS_MAX)
        r = join_jobs(inserting, err);
    if (r == 0 && (block->row_cnt < JOB_ROWS_MIN || !start_job(inserting, table, block, day, key)))
        r = insert_block(inserting, table, block, day, key, err);
    store->insert_nth++;
    crash_here(store, AP_STEP_INSERT);
    return r;
}

/* What was sent may not be there: it is sent again. */
static void forget_known(struct ap_store *store)
{
    ap_known_reset(&store->stacks);
    ap_known_reset(&store->frames);
    ap_known_reset(&store->series);
    ap_known_reset(&store->hours);
}

static int insert_group(struct ap_store *store, uint64_t id, struct ap_rows *const *rows, size_t cnt, bool again,
                        struct ap_error *err)
{
    struct inserting inserting = {.store = store, .again = again};
    uint16_t today = (uint16_t)(ap_clock_realtime_ns() / DAY_NS);

    if (today != store->today)
        forget_known(store);
    store->today = today;
    const struct ap_group group = {
        .id = id,
        .rows = rows,
        .cnt = cnt,
        .features = &store->features,
        .today = today,
        .stacks = &store->stacks,
        .frames = &store->frames,
        .series = &store->series,
        .hours = &store->hours,
    };
    int r = ap_group_chunks(&group, insert_chunk, &inserting, err);
    int late = join_jobs(&inserting, r == 0 ? err : NULL);
    r = r == 0 ? late : r;
    if (r != 0) {
        forget_known(store);
        return r;
    }
    crash_here(store, AP_STEP_INSERTED);
    ap_journal_retire(store->journal);
    crash_here(store, AP_STEP_RETIRED);
    for (size_t i = 0; i < cnt; i++)
        ap_seen_add(&store->seen, rows[i]->push->agent_id, rows[i]->push->epoch, rows[i]->push->sequence);
    return 0;
}

/* ---- Recovery ---- */

static struct ap_rows *rows_of(struct ap_store *store, const struct ap_journal_batch *batch, struct ap_error *err)
{
    struct ap_push *push = store->opts.decode(batch->payload, batch->payload_sz, err);

    if (push == NULL)
        return NULL;
    memcpy(push->agent_id, batch->agent_id, sizeof(push->agent_id));
    push->epoch = batch->epoch;
    push->sequence = batch->sequence;
    struct ap_rows *rows = ap_rows_new(push, batch->payload, batch->payload_sz, batch->received_ns, err);
    if (rows == NULL)
        ap_push_free(push);
    return rows;
}

/* Inserts the group of the journal once more, as the very same group. */
static int finish_pending(struct ap_store *store, struct ap_error *err)
{
    struct ap_journal_group group = {0};
    int r = ap_journal_read(store->journal, &group, err);

    if (r != 0)
        return r;
    struct ap_rows **rows = calloc(group.batch_cnt + 1, sizeof(struct ap_rows *));
    if (rows == NULL) {
        ap_journal_group_done(&group);
        return ap_error_errno(err, -ENOMEM, "journal");
    }
    for (size_t i = 0; i < group.batch_cnt && r == 0; i++) {
        rows[i] = rows_of(store, &group.batches[i], err);
        if (rows[i] == NULL)
            r = ap_error_prefix(err,
                                "a batch in %s/journal cannot be read (without that file the store opens, and the "
                                "agents' newest batches may be there in part)",
                                store->data_dir);
    }
    if (r == 0)
        r = insert_group(store, group.id, rows, group.batch_cnt, true, err);
    for (size_t i = 0; i < group.batch_cnt; i++)
        ap_rows_free(rows[i]);
    free(rows);
    ap_journal_group_done(&group);
    return r;
}

/* ---- Duplicates ---- */

/* The batches of one commit by name. */
struct name {
    uint64_t epoch, sequence;
    char agent[AP_PUSH_AGENT_ID_SZ];
};

struct finding {
    struct ap_store *store;
    struct ap_rows *const *rows;
    size_t cnt;
    bool *duplicate;
    struct name *names; /* of each batch */
    struct ap_map map;  /* name to its place in `names`; of equal ones the first */
};

static size_t put_name(struct name *name, const char *agent, size_t len, uint64_t epoch, uint64_t sequence)
{
    name->epoch = epoch;
    name->sequence = sequence;
    memcpy(name->agent, agent, len);
    return offsetof(struct name, agent) + len;
}

/* Whether a batch has to be looked up: at a server that others commit to as well, each. */
static bool is_unknown(struct finding *finding, size_t i)
{
    const struct ap_push *push = finding->rows[i]->push;

    if (finding->duplicate[i])
        return false;
    if (!finding->store->features.embedded)
        return true;
    return ap_seen_ask(&finding->store->seen, push->agent_id, push->epoch, push->sequence) == AP_SEEN_UNKNOWN;
}

static bool is_new_epoch(struct finding *finding, size_t i)
{
    const struct ap_push *push = finding->rows[i]->push;

    return finding->store->features.embedded && !ap_seen_has(&finding->store->seen, push->agent_id, push->epoch);
}

/* Appends "(hex(agent), epoch) IN (...)" for those batches; false when there are none. */
static bool put_epochs(struct finding *finding, bool (*which)(struct finding *, size_t), struct ap_buf *sql)
{
    bool any = false;

    ap_buf_str(sql, "(hex(agent), epoch) IN (");
    for (size_t i = 0; i < finding->cnt; i++) {
        const struct ap_push *push = finding->rows[i]->push;

        if (!which(finding, i))
            continue;
        ap_buf_str(sql, any ? ", (" : "(");
        ap_sql_hex(sql, push->agent_id, strlen(push->agent_id));
        ap_buf_printf(sql, ", %" PRIu64 ")", push->epoch);
        any = true;
    }
    ap_buf_char(sql, ')');
    return any;
}

/* Learns what the table holds of the epochs that are not known. */
static int load_epochs(struct finding *finding, struct ap_error *err)
{
    struct ap_seen *seen = &finding->store->seen;
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT agent, epoch, min(sequence), max(sequence), uniqExact(sequence) FROM %s.batches WHERE ",
                  finding->store->database);
    bool any = put_epochs(finding, is_new_epoch, &sql);
    ap_buf_str(&sql, " GROUP BY agent, epoch");
    int r = any ? query(finding->store, &sql, AP_SQL_INSERT_S, &result, err) : 0;
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        char agent[AP_PUSH_AGENT_ID_SZ] = "";
        size_t len;
        const char *text = ap_rowbin_text(&result.in, &len);
        uint64_t epoch = ap_rowbin_u64(&result.in), min = ap_rowbin_u64(&result.in);
        uint64_t max = ap_rowbin_u64(&result.in), distinct = ap_rowbin_u64(&result.in);

        if (result.in.bad || len >= sizeof(agent))
            break;
        memcpy(agent, text, len);
        ap_seen_load(seen, agent, epoch, min, max, distinct);
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    /* The table has nothing of the others. */
    for (size_t i = 0; r == 0 && any && i < finding->cnt; i++) {
        const struct ap_push *push = finding->rows[i]->push;

        ap_seen_load(seen, push->agent_id, push->epoch, 0, 0, 0);
    }
    return r;
}

/* Looks up single batches. */
static int load_batches(struct finding *finding, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT agent, epoch, sequence FROM %s.batches WHERE ", finding->store->database);
    bool any = put_epochs(finding, is_unknown, &sql);
    ap_buf_str(&sql, " AND sequence IN (0");
    for (size_t i = 0; i < finding->cnt; i++) {
        if (is_unknown(finding, i))
            ap_buf_printf(&sql, ", %" PRIu64, finding->rows[i]->push->sequence);
    }
    ap_buf_char(&sql, ')');
    int r = any ? query(finding->store, &sql, AP_SQL_INSERT_S, &result, err) : 0;
    ap_buf_done(&sql);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        struct name name;
        size_t len;
        const char *agent = ap_rowbin_text(&result.in, &len);
        uint64_t epoch = ap_rowbin_u64(&result.in), sequence = ap_rowbin_u64(&result.in);

        if (result.in.bad || len > sizeof(name.agent))
            break;
        const struct name *found = ap_map_get(&finding->map, &name, put_name(&name, agent, len, epoch, sequence));
        if (found != NULL)
            finding->duplicate[found - finding->names] = true;
    }
    if (r == 0 && result.in.bad)
        r = ap_store_bad_answer(err);
    ap_sql_result_done(&result);
    return r;
}

/* Of equal batches in the commit itself the first is stored. */
static int name_batches(struct finding *finding, struct ap_error *err)
{
    for (size_t i = 0; i < finding->cnt; i++) {
        const struct ap_push *push = finding->rows[i]->push;
        struct name *name = &finding->names[i];
        size_t len = put_name(name, push->agent_id, strlen(push->agent_id), push->epoch, push->sequence);

        finding->duplicate[i] = ap_map_get(&finding->map, name, len) != NULL;
        int r = finding->duplicate[i] ? 0 : ap_map_put(&finding->map, name, len, name);
        if (r != 0)
            return ap_error_errno(err, r, "names of batches");
    }
    return 0;
}

static int find_duplicates(struct ap_store *store, struct ap_rows *const *rows, size_t cnt, bool *duplicate,
                           struct ap_error *err)
{
    struct finding finding = {.store = store, .rows = rows, .cnt = cnt, .duplicate = duplicate};

    ap_map_init(&finding.map, AP_COMMIT_BATCHES_MAX);
    finding.names = calloc(cnt + 1, sizeof(*finding.names));
    if (finding.names == NULL)
        return ap_error_errno(err, -ENOMEM, "names of batches");
    int r = name_batches(&finding, err);
    if (r == 0)
        r = load_epochs(&finding, err);
    if (r == 0)
        r = load_batches(&finding, err);
    for (size_t i = 0; i < cnt && r == 0 && store->features.embedded; i++) {
        const struct ap_push *push = rows[i]->push;

        if (ap_seen_ask(&store->seen, push->agent_id, push->epoch, push->sequence) == AP_SEEN_YES)
            duplicate[i] = true;
    }
    ap_map_done(&finding.map);
    free(finding.names);
    return r;
}

/* ---- Commit ---- */

static uint64_t new_group_id(void)
{
    uint64_t id;

    if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
        id = ap_clock_realtime_ns() ^ ap_clock_monotonic_ns() << 20;
    return id;
}

/* The lock is held. */
static int commit(struct ap_store *store, struct ap_rows *const *rows, size_t cnt, bool *duplicate,
                  struct ap_rows **news, struct ap_error *err)
{
    size_t new_cnt = 0;
    int r = ensure(store, err);

    /* First what was left in an unknown state; its batches are duplicates then. */
    if (r == 0 && ap_journal_pending(store->journal))
        r = finish_pending(store, err);
    if (r == 0)
        r = find_duplicates(store, rows, cnt, duplicate, err);
    if (r != 0)
        return r;
    for (size_t i = 0; i < cnt; i++) {
        if (!duplicate[i])
            news[new_cnt++] = rows[i];
    }
    if (new_cnt == 0)
        return 0;
    uint64_t id = new_group_id();
    r = ap_journal_write(store->journal, id, news, new_cnt, err);
    if (r != 0)
        return r;
    crash_here(store, AP_STEP_JOURNAL);
    return insert_group(store, id, news, new_cnt, false, err);
}

int ap_store_commit(void *engine, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate, struct ap_error *err)
{
    struct ap_store *store = engine;
    bool *duplicate = calloc(cnt + 1, sizeof(*duplicate));
    struct ap_rows **news = calloc(cnt + 1, sizeof(struct ap_rows *));
    struct ap_error none;

    err = err != NULL ? err : &none;
    if (duplicate == NULL || news == NULL) {
        free(duplicate);
        free(news);
        return ap_error_errno(err, -ENOMEM, "commit");
    }
    pthread_mutex_lock(&store->lock);
    int r = commit(store, rows, cnt, duplicate, news, err);
    pthread_mutex_unlock(&store->lock);
    if (r == 0)
        memcpy(ret_duplicate, duplicate, cnt * sizeof(*duplicate));
    /* -ETIMEDOUT and the like are for those who ask; who commits comes again. */
    else if (r == -ETIMEDOUT || r == -E2BIG)
        r = -EAGAIN;
    free(duplicate);
    free(news);
    return r;
}

/* ---- Whole ---- */

static int copy_text(const char *text, char **ret_copy)
{
    *ret_copy = text != NULL ? strdup(text) : NULL;
    return text == NULL || *ret_copy != NULL ? 0 : -ENOMEM;
}

static int copy_opts(struct ap_store *store, const struct ap_storage_opts *opts, struct ap_error *err)
{
    const char *database = opts->database != NULL ? opts->database : DATABASE_DEFAULT;

    if (!ap_sql_name_valid(database))
        return ap_error_set(err, -EINVAL, "\"%s\" cannot name a database: letters, digits and _ only", database);
    if (opts->data_dir == NULL)
        return ap_error_set(err, -EINVAL, "a data folder is needed");
    if (opts->decode == NULL)
        return ap_error_set(err, -EINVAL, "what decodes batches is needed");
    snprintf(store->database, sizeof(store->database), "%s", database);
    store->opts = *opts;
    if (copy_text(opts->data_dir, &store->data_dir) != 0 || copy_text(opts->chdb_library, &store->chdb_library) != 0 ||
        copy_text(opts->endpoint, &store->endpoint) != 0 || copy_text(opts->user, &store->user) != 0 ||
        copy_text(opts->password, &store->password) != 0)
        return ap_error_errno(err, -ENOMEM, "storage");
    store->opts.data_dir = store->data_dir;
    store->opts.chdb_library = store->chdb_library;
    store->opts.endpoint = store->endpoint;
    store->opts.user = store->user;
    store->opts.password = store->password;
    store->opts.database = store->database;
    return 0;
}

int ap_store_open(const struct ap_storage_opts *opts, const struct ap_backend_ops *ops, void **ret_engine,
                  struct ap_error *err)
{
    struct ap_store *store = calloc(1, sizeof(*store));
    struct ap_error words = {0};

    if (store == NULL)
        return ap_error_errno(err, -ENOMEM, "storage");
    pthread_mutex_init(&store->lock, NULL);
    ap_seen_init(&store->seen);
    store->ops = ops;
    store->features.embedded = ops == &ap_backend_chdb;
    int r = copy_opts(store, opts, &words);
    if (r == 0 && mkdir(store->data_dir, 0700) != 0 && errno != EEXIST)
        r = ap_error_errno(&words, -errno, "cannot make the folder %s", store->data_dir);
    if (r == 0) {
        store->journal = ap_journal_open(store->data_dir, &words);
        r = store->journal != NULL ? 0 : words.code;
    }
    if (r == 0)
        r = ops->open(&store->opts, &store->backend, &words);
    if (r == 0)
        r = ap_store_ensure(store, &words);
    if (r == 0 && ap_journal_pending(store->journal)) {
        pthread_mutex_lock(&store->lock);
        r = finish_pending(store, &words);
        pthread_mutex_unlock(&store->lock);
    }
    /* A server that is away, or a disk that is full, is waited for by whoever asks. */
    if (r == -EAGAIN || r == -ETIMEDOUT || r == -ENOSPC)
        r = 0;
    if (r != 0) {
        ap_store_close(store);
        return ap_error_set(err, r, "%s", words.text);
    }
    *ret_engine = store;
    return 0;
}

void ap_store_close(void *engine)
{
    struct ap_store *store = engine;

    if (store == NULL)
        return;
    if (store->backend != NULL)
        store->ops->close(store->backend);
    ap_journal_free(store->journal);
    ap_seen_done(&store->seen);
    ap_known_done(&store->stacks);
    ap_known_done(&store->frames);
    ap_known_done(&store->series);
    ap_known_done(&store->hours);
    free(store->data_dir);
    free(store->chdb_library);
    free(store->endpoint);
    free(store->user);
    free(store->password);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

int ap_store_ready(void *engine, struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_str(&sql, "SELECT toUInt8(1)");
    int r = ap_store_ensure(store, err);
    if (r == 0)
        r = query(store, &sql, AP_SQL_READY_S, &result, err);
    ap_buf_done(&sql);
    ap_sql_result_done(&result);
    return r;
}

void ap_store_stats(void *engine, struct ap_storage_stats *stats)
{
    struct ap_store *store = engine;
    struct ap_sql_result result = {0};
    struct ap_buf sql;

    if (!store->opened)
        return;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql,
                  "SELECT toUInt64(sum(%s)), toUInt64(sumIf(rows, table = 'samples')) FROM system.parts WHERE active "
                  "AND database = '%s'",
                  store->features.full ? "bytes_on_disk" : "bytes", store->database);
    if (query(store, &sql, AP_SQL_READY_S, &result, NULL) == 0) {
        stats->disk_bytes = ap_rowbin_u64(&result.in);
        stats->sample_rows = ap_rowbin_u64(&result.in);
    }
    ap_buf_done(&sql);
    ap_sql_result_done(&result);
}

int ap_store_print_schema(const struct ap_storage_opts *opts, const char *cluster, struct ap_out *out)
{
    const struct ap_schema_place place = {
        .database = opts->database != NULL ? opts->database : DATABASE_DEFAULT,
        .cluster = cluster,
    };
    const struct ap_sql_features features = {.version = AP_SQL_FULL, .full = true};
    struct ap_buf sql;
    int r = 0;

    if (!ap_sql_name_valid(place.database) || (cluster != NULL && !ap_sql_name_valid(cluster)))
        return -EINVAL;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    for (unsigned i = 0; r == 0; i++) {
        ap_buf_reset(&sql);
        if (!ap_schema_statement(&place, &features, opts, i, &sql))
            break;
        r = sql.error;
        if (r == 0 && sql.len > 0)
            ap_out_printf(out, "%s;\n\n", sql.data);
    }
    ap_buf_done(&sql);
    return r;
}

/* ---- The two engines ---- */

static int chdb_open(const struct ap_storage_opts *opts, void **ret_engine, struct ap_error *err)
{
    return ap_store_open(opts, &ap_backend_chdb, ret_engine, err);
}

static int clickhouse_open(const struct ap_storage_opts *opts, void **ret_engine, struct ap_error *err)
{
    return ap_store_open(opts, &ap_backend_clickhouse, ret_engine, err);
}

#define SQL_OPS                                                                                                        \
    .close = ap_store_close, .ready = ap_store_ready, .print_schema = ap_store_print_schema,                           \
    .commit = ap_store_commit, .stacks = ap_ask_stacks, .load_stacks = ap_ask_load_stacks,                             \
    .timeline = ap_ask_timeline, .labels = ap_ask_labels, .label_values = ap_ask_label_values,                         \
    .series = ap_ask_series, .locks = ap_ask_locks, .syscalls = ap_ask_syscalls, .account = ap_ask_account,            \
    .batches = ap_ask_batches, .agents = ap_ask_agents, .stats = ap_store_stats

const struct ap_storage_ops ap_storage_chdb_ops = {.name = "chdb", .open = chdb_open, SQL_OPS};
const struct ap_storage_ops ap_storage_clickhouse_ops = {.name = "clickhouse", .open = clickhouse_open, SQL_OPS};
