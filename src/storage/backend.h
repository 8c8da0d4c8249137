/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: something that runs ClickHouse's SQL: the library in this process, or a server. Statements
 * are made by this folder's own code; nothing that came from outside stands in them but as numbers and hex digits
 * (sql.h).
 *
 * Failures, with words: -EAGAIN (cannot be reached, or too busy), -ETIMEDOUT, -ENOSPC, -E2BIG (a limit on memory or
 * results), -EACCES, -EIO. Any thread. */
#ifndef APERTURE_STORAGE_BACKEND_H
#define APERTURE_STORAGE_BACKEND_H

#include "storage/block.h"
#include "storage/rowbin.h"
#include "storage/schema.h"

#include <pthread.h>

/* Most bytes of one statement, and of one answer. */
#define AP_SQL_TEXT_SZ   (64u << 20)
#define AP_SQL_RESULT_SZ (1u << 30)
/* Longest that one statement may take before it is given up with -ETIMEDOUT or -EAGAIN. */
#define AP_SQL_QUERY_S   60
#define AP_SQL_INSERT_S  30
#define AP_SQL_CONNECT_S 5
#define AP_SQL_READY_S   3
/* Statements at a time; more wait for one to end. */
#define AP_SQL_PARALLEL 4

/* What a query answered, as RowBinary. */
struct ap_sql_result {
    struct ap_rowbin in;
    void *owner;
    void (*release)(void *owner);
};
/* Accepts a zeroed struct. */
static inline void ap_sql_result_done(struct ap_sql_result *result)
{
    if (result->release != NULL)
        result->release(result->owner);
    memset(result, 0, sizeof(*result));
}

struct ap_backend_ops {
    /* Does not need to reach anything. */
    int (*open)(const struct ap_storage_opts *opts, void **ret_backend, struct ap_error *err);
    void (*close)(void *backend);
    /* Runs a statement that answers nothing. */
    int (*exec)(void *backend, const char *sql, struct ap_error *err);
    /* Runs a query. `timeout_s` as above. */
    int (*query)(void *backend, const char *sql, unsigned timeout_s, struct ap_sql_result *ret_result,
                 struct ap_error *err);
    /* Inserts the block as one part: all of it or nothing, as far as it lies in one partition. Inserted again with the
     * same token into the same table it is left out (`features->full`). */
    int (*insert)(void *backend, const char *table, const struct ap_block *block, const char *token,
                  const struct ap_sql_features *features, struct ap_error *err);
};

/* Which of AP_SQL_PARALLEL connections is free; who finds none waits. */
struct ap_turns {
    pthread_mutex_t lock;
    pthread_cond_t freed;
    bool busy[AP_SQL_PARALLEL];
};
void ap_turns_init(struct ap_turns *turns);
void ap_turns_done(struct ap_turns *turns);
unsigned ap_turns_take(struct ap_turns *turns);
void ap_turns_give(struct ap_turns *turns, unsigned turn);

/* First words of a statement, for messages. */
#define AP_SQL_HEAD_SZ 80
void ap_sql_head(const char *sql, char ret[AP_SQL_HEAD_SZ]);

extern const struct ap_backend_ops ap_backend_chdb;
extern const struct ap_backend_ops ap_backend_clickhouse;

/* "Code: 241. DB::Exception: ..." as an error, with the server's words. `doing`: "insert into samples". */
int ap_sql_exception(struct ap_error *err, const char *doing, const char *text, size_t len);

#endif
