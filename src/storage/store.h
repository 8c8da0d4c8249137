/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: the implementation of storage.h over SQL, for both backends. store.c opens, migrates and
 * commits; ask_*.c ask. */
#ifndef APERTURE_STORAGE_STORE_H
#define APERTURE_STORAGE_STORE_H

#include "storage/backend.h"
#include "storage/engine.h"
#include "storage/journal.h"
#include "storage/known.h"
#include "storage/schema.h"
#include "storage/seen.h"
#include "storage/sql.h"

#include <pthread.h>
#include <stdatomic.h>

/* Where a test lets a commit end as if the process died: see ap_store_set_crash(). */
enum ap_store_step {
    AP_STEP_NONE = 0,
    AP_STEP_JOURNAL = 1,  /* the journal is written, nothing inserted */
    AP_STEP_INSERT = 2,   /* after the `nth` insert */
    AP_STEP_INSERTED = 3, /* all is inserted, the journal not yet retired */
    AP_STEP_RETIRED = 4,
};

struct ap_store {
    const struct ap_backend_ops *ops;
    void *backend;
    struct ap_storage_opts opts; /* with copies of its text, below */
    char *data_dir, *chdb_library, *endpoint, *user, *password;
    char database[65];

    pthread_mutex_t lock; /* of what follows: opening and commits */
    _Atomic bool opened;  /* version known, schema there */
    struct ap_sql_features features;
    struct ap_journal *journal;
    struct ap_seen seen;
    struct ap_known stacks, frames, series, hours;
    uint16_t today;

    /* of tests */
    enum ap_store_step crash_step;
    unsigned crash_nth, insert_nth;
};

/* Connects, migrates and finishes what an earlier process began, when that has not been done. 0 or as the backend. */
int ap_store_ensure(struct ap_store *store, struct ap_error *err);
/* Ensures, then asks. The statement is `sql`, whose error is reported too. */
int ap_store_query(struct ap_store *store, const struct ap_buf *sql, struct ap_sql_result *ret_result,
                   struct ap_error *err);
/* Where to read samples from, as things are now; see struct ap_sql_wish. The store is open. */
struct ap_sql_plan ap_store_plan(const struct ap_store *store, const struct ap_storage_scope *scope, uint64_t step_ns,
                                 const char *label);
/* The words for an answer that cannot be read: -EIO. */
int ap_store_bad_answer(struct ap_error *err);

int ap_store_open(const struct ap_storage_opts *opts, const struct ap_backend_ops *ops, void **ret_engine,
                  struct ap_error *err);
void ap_store_close(void *engine);
int ap_store_ready(void *engine, struct ap_error *err);
int ap_store_commit(void *engine, struct ap_rows *const *rows, size_t cnt, bool *ret_duplicate, struct ap_error *err);
void ap_store_stats(void *engine, struct ap_storage_stats *stats);
int ap_store_print_schema(const struct ap_storage_opts *opts, const char *cluster, struct ap_out *out);

/* Ends the process in the middle of a commit, as a power failure would: for tests of recovery alone. */
void ap_store_set_crash(struct ap_store *store, enum ap_store_step step, unsigned nth);

/* ask_*.c, as in engine.h */
int ap_ask_stacks(void *engine, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                  struct ap_error *err);
int ap_ask_load_stacks(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                       uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err);
int ap_ask_timeline(void *engine, const struct ap_storage_scope *scope, uint64_t step_ns, const char *label,
                    size_t group_max, struct ap_points *ret_points, struct ap_error *err);
int ap_ask_labels(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_texts *ret_names,
                  struct ap_error *err);
int ap_ask_label_values(void *engine, const struct ap_storage_scope *scope, const char *label, size_t max,
                        struct ap_texts *ret_values, struct ap_error *err);
int ap_ask_series(void *engine, const struct ap_storage_scope *scope, size_t max, struct ap_series_rows *ret_rows,
                  struct ap_error *err);
int ap_ask_locks(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                 struct ap_error *err);
int ap_ask_syscalls(void *engine, const struct ap_storage_scope *scope, struct ap_profile **ret_profile,
                    struct ap_error *err);
int ap_ask_account(void *engine, const struct ap_storage_scope *scope, struct ap_provenance *ret_sums,
                   struct ap_error *err);
int ap_ask_batches(void *engine, const struct ap_storage_scope *scope, size_t limit,
                   struct ap_batches_answer *ret_answer, struct ap_error *err);
int ap_ask_agents(void *engine, const struct ap_storage_scope *scope, struct ap_agents_answer *ret_answer,
                  struct ap_error *err);

#endif
