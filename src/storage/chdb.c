/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* chDB: ClickHouse in this process. Its library is 566 MB and loaded when asked for; the prototypes used are declared
 * here, because its package brings no header (programs/local/chdb.h in its sources). */
#include "storage/backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef void *chdb_connection; /* what chdb_connect() answers points to one */

/* The functions used, by name: X(result, name, arguments). */
#define CHDB_FUNCTIONS(X)                                                                                              \
    X(void, chdb_set_signal_handlers_enabled, (int))                                                                   \
    X(chdb_connection *, chdb_connect, (int, char **))                                                                 \
    X(void, chdb_close_conn, (chdb_connection *))                                                                      \
    X(void *, chdb_query_n, (chdb_connection, const char *, size_t, const char *, size_t))                             \
    X(void, chdb_destroy_query_result, (void *))                                                                       \
    X(char *, chdb_result_buffer, (void *))                                                                            \
    X(size_t, chdb_result_length, (void *))                                                                            \
    X(const char *, chdb_result_error, (void *))                                                                       \
    X(int, chdb_arrow_array_scan, (chdb_connection, const char *, void *, void *))                                     \
    X(int, chdb_arrow_unregister_table, (chdb_connection, const char *))

/* NOLINTBEGIN(bugprone-macro-parentheses): types and lists of arguments take none */
struct library {
    void *handle;
/* NOLINTBEGIN(bugprone-macro-parentheses): types and members */
#define MEMBER(result, name, args) result(*name) args;
    CHDB_FUNCTIONS(MEMBER)
#undef MEMBER
    /* NOLINTEND(bugprone-macro-parentheses) */
};

struct chdb {
    struct library lib;
    struct ap_turns turns;
    chdb_connection *conns[AP_SQL_PARALLEL];
};

/* ---- Loading ---- */

static int load_from(struct library *lib, const char *path, struct ap_error *err)
{
    lib->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib->handle == NULL)
        return ap_error_set(err, -ENOENT, "the embedded store's library cannot be loaded: %s", dlerror());
/* NOLINTBEGIN(bugprone-macro-parentheses): types and members */
#define LOOK_UP(result, name, args)                                                                                    \
    lib->name = (result(*) args)dlsym(lib->handle, #name);                                                             \
    if (lib->name == NULL)                                                                                             \
        return ap_error_set(err, -ENOENT, "%s lacks the function %s: another version is needed", path, #name);
    CHDB_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
    /* NOLINTEND(bugprone-macro-parentheses) */
    return 0;
}
/* NOLINTEND(bugprone-macro-parentheses) */

/* "libchdb.so" in the folder of this program; false when it is not there. */
static bool beside_program(char path[PATH_MAX])
{
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (len <= 0)
        return false;
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    size_t room = PATH_MAX - (size_t)(slash + 1 - path);
    if ((size_t)snprintf(slash + 1, room, "libchdb.so") >= room)
        return false;
    return access(path, R_OK) == 0;
}

static int load(struct library *lib, const char *path, struct ap_error *err)
{
    char beside[PATH_MAX];

    if (path == NULL)
        path = beside_program(beside) ? beside : "libchdb.so";
    return load_from(lib, path, err);
}

/* ---- Statements ---- */

static int run(struct chdb *chdb, unsigned conn, const char *sql, const char *format, void **ret_result,
               struct ap_error *err)
{
    void *result = chdb->lib.chdb_query_n(*chdb->conns[conn], sql, strlen(sql), format, strlen(format));

    if (result == NULL)
        return ap_error_set(err, -EIO, "the embedded store gave no answer");
    const char *words = chdb->lib.chdb_result_error(result);
    if (words != NULL && words[0] != '\0') {
        char what[AP_SQL_HEAD_SZ];

        ap_sql_head(sql, what);
        int r = ap_sql_exception(err, what, words, strlen(words));
        chdb->lib.chdb_destroy_query_result(result);
        return r;
    }
    *ret_result = result;
    return 0;
}

static int chdb_exec(void *backend, const char *sql, struct ap_error *err)
{
    struct chdb *chdb = backend;
    unsigned conn = ap_turns_take(&chdb->turns);
    void *result = NULL;
    int r = run(chdb, conn, sql, "Null", &result, err);

    if (r == 0)
        chdb->lib.chdb_destroy_query_result(result);
    ap_turns_give(&chdb->turns, conn);
    return r;
}

/* A result and who frees it. */
struct owner {
    struct chdb *chdb;
    void *result;
};

static void release(void *ptr)
{
    struct owner *owner = ptr;

    owner->chdb->lib.chdb_destroy_query_result(owner->result);
    free(owner);
}

static int chdb_query(void *backend, const char *sql, unsigned timeout_s, struct ap_sql_result *ret_result,
                      struct ap_error *err)
{
    struct chdb *chdb = backend;
    struct owner *owner = calloc(1, sizeof(*owner));
    char *text = NULL;

    if (owner == NULL || asprintf(&text, "%s SETTINGS max_execution_time = %u", sql, timeout_s) < 0) {
        free(owner);
        return ap_error_errno(err, -ENOMEM, "query");
    }
    unsigned conn = ap_turns_take(&chdb->turns);
    owner->chdb = chdb;
    int r = run(chdb, conn, text, "RowBinary", &owner->result, err);
    ap_turns_give(&chdb->turns, conn);
    free(text);
    if (r != 0) {
        free(owner);
        return r;
    }
    const uint8_t *data = (const uint8_t *)chdb->lib.chdb_result_buffer(owner->result);
    size_t len = data != NULL ? chdb->lib.chdb_result_length(owner->result) : 0;
    *ret_result = (struct ap_sql_result){
        .in = {.at = data, .end = data + len},
        .owner = owner,
        .release = release,
    };
    return 0;
}

static void put_insert(const char *table, const struct ap_block *block, const char *name, const char *token,
                       struct ap_buf *sql)
{
    ap_buf_printf(sql, "INSERT INTO %s (", table);
    for (size_t c = 0; c < block->col_cnt; c++)
        ap_buf_printf(sql, "%s%s", c > 0 ? ", " : "", block->defs[c].name);
    /* One block, so one part; the token only counts when the server believes the source to be stable. */
    ap_buf_printf(sql,
                  ") SELECT * FROM arrowstream('%s') SETTINGS max_insert_threads = 1, max_threads = 1, "
                  "max_block_size = 16777216, min_insert_block_size_rows = 16777216, "
                  "min_insert_block_size_bytes = 17179869184, max_insert_block_size = 16777216, "
                  "optimize_on_insert = 0, max_execution_time = %d",
                  name, AP_SQL_INSERT_S);
    if (token != NULL)
        ap_buf_printf(sql,
                      ", insert_deduplicate = 1, deduplicate_insert_select = 'enable_even_for_bad_queries', "
                      "insert_deduplication_token = '%s'",
                      token);
}

static int chdb_insert(void *backend, const char *table, const struct ap_block *block, const char *token,
                       const struct ap_sql_features *features, struct ap_error *err)
{
    struct chdb *chdb = backend;
    struct ap_arrow *arrow = ap_arrow_new(block);
    struct ap_buf sql;
    void *result = NULL;
    char name[32];

    (void)features;
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    unsigned conn = ap_turns_take(&chdb->turns);
    snprintf(name, sizeof(name), "aperture_%u", conn);
    put_insert(table, block, name, token, &sql);
    int r = arrow != NULL ? sql.error : -ENOMEM;
    if (r != 0) {
        ap_error_errno(err, r, "insert into %s", table);
    } else if (chdb->lib.chdb_arrow_array_scan(*chdb->conns[conn], name, ap_arrow_schema(arrow),
                                               ap_arrow_array(arrow)) != 0) {
        r = ap_error_set(err, -EIO, "insert into %s: the embedded store did not take the columns", table);
    } else {
        r = run(chdb, conn, sql.data, "Null", &result, err);
        chdb->lib.chdb_arrow_unregister_table(*chdb->conns[conn], name);
    }
    if (r == 0)
        chdb->lib.chdb_destroy_query_result(result);
    ap_turns_give(&chdb->turns, conn);
    ap_arrow_free(arrow);
    ap_buf_done(&sql);
    return r;
}

/* ---- Whole ---- */

static int connect_all(struct chdb *chdb, const char *data_dir, struct ap_error *err)
{
    char path[PATH_MAX], program[] = "aperture";
    char *args[] = {program, path};

    if (snprintf(path, sizeof(path), "--path=%s/chdb", data_dir) >= (int)sizeof(path))
        return ap_error_set(err, -ENAMETOOLONG, "the data folder's name is too long");
    for (unsigned i = 0; i < AP_SQL_PARALLEL; i++) {
        void *result = NULL;

        chdb->conns[i] = chdb->lib.chdb_connect(2, args);
        if (chdb->conns[i] == NULL || *chdb->conns[i] == NULL)
            return ap_error_set(err, -EIO, "the embedded store cannot open %s: is another program using it?", path + 7);
        /* Before it parses the statement that needs it. */
        int r = run(chdb, i,
                    "SET max_query_size = 134217728, max_ast_elements = 10000000, "
                    "max_expanded_ast_elements = 10000000, max_memory_usage = 2147483648",
                    "Null", &result, err);
        if (r != 0)
            return r;
        chdb->lib.chdb_destroy_query_result(result);
    }
    return 0;
}

static void chdb_close(void *backend)
{
    struct chdb *chdb = backend;

    if (chdb == NULL)
        return;
    for (unsigned i = 0; i < AP_SQL_PARALLEL; i++) {
        if (chdb->conns[i] != NULL)
            chdb->lib.chdb_close_conn(chdb->conns[i]);
    }
    /* The library stays loaded: its threads do not all end. */
    ap_turns_done(&chdb->turns);
    free(chdb);
}

static int chdb_open(const struct ap_storage_opts *opts, void **ret_backend, struct ap_error *err)
{
    struct chdb *chdb = calloc(1, sizeof(*chdb));

    if (chdb == NULL)
        return ap_error_errno(err, -ENOMEM, "embedded store");
    ap_turns_init(&chdb->turns);
    int r = load(&chdb->lib, opts->chdb_library, err);
    if (r == 0) {
        /* Its handlers would take the place of ours and of the sanitizers'. */
        chdb->lib.chdb_set_signal_handlers_enabled(0);
        r = connect_all(chdb, opts->data_dir, err);
    }
    if (r != 0) {
        chdb_close(chdb);
        return r;
    }
    *ret_backend = chdb;
    return 0;
}

const struct ap_backend_ops ap_backend_chdb = {
    .open = chdb_open,
    .close = chdb_close,
    .exec = chdb_exec,
    .query = chdb_query,
    .insert = chdb_insert,
};
