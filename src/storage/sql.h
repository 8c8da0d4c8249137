/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: pieces of queries. Text from outside stands in them as hex digits only, numbers are formatted
 * here. */
#ifndef APERTURE_STORAGE_SQL_H
#define APERTURE_STORAGE_SQL_H

#include "storage/schema.h"

/* Appends '0A0b...': hex digits of a text, to be compared with hex(column). */
void ap_sql_hex(struct ap_buf *sql, const char *text, size_t len);
/* Appends unhex('...'): the text itself. */
void ap_sql_text(struct ap_buf *sql, const char *text);

/* Appends the value that the label has in a row of `series`. */
void ap_sql_label(struct ap_buf *sql, const char *label);

/* Appends " AND series IN (SELECT ...)" when the scope has sets; nothing otherwise. `batch_only`: labels of processes
 * are left out (storage.h: accounts). */
void ap_sql_series(struct ap_buf *sql, const char *database, const struct ap_storage_scope *scope, bool batch_only);
/* Appends the conditions of the sets on a row of `series`: " AND ..." each. */
void ap_sql_sets(struct ap_buf *sql, const struct ap_storage_scope *scope, bool batch_only);

/* Range of slots since the epoch, [from, to): what of the range of ns begins in it. */
struct ap_slots {
    uint64_t from, to;
};
struct ap_slots ap_slots_of(uint64_t from_ns, uint64_t to_ns);

/* Appends conditions on `t` and `slot` of samples. */
void ap_sql_slots(struct ap_buf *sql, const struct ap_slots *slots);
/* Appends conditions on `t` and `start_ns` of locks, syscalls, batches. */
void ap_sql_starts(struct ap_buf *sql, const struct ap_storage_scope *scope);

/* Where samples of a range are read from: whole hours and minutes from roll-ups, edges from samples. */
struct ap_sql_piece {
    enum ap_store_table table;
    struct ap_slots slots;
};
#define AP_SQL_PIECES_MAX 5
struct ap_sql_plan {
    struct ap_sql_piece pieces[AP_SQL_PIECES_MAX];
    unsigned cnt;
    const char *source; /* "raw", "1m", "1h": the coarsest */
};
/* What decides about a plan besides the scope. */
struct ap_sql_wish {
    uint64_t step_ns;   /* roll-ups coarser than this are not of use; 0 = any */
    const char *label;  /* asked for besides the scope's, or NULL: what roll-ups do not have (pid) is in samples only */
    uint64_t raw_since; /* slot before which samples may have been removed */
};
struct ap_sql_plan ap_sql_plan(const struct ap_storage_scope *scope, const struct ap_sql_features *features,
                               const struct ap_sql_wish *wish);
/* Where the series of a range are read from: series_1h and samples. */
struct ap_sql_plan ap_sql_plan_series(const struct ap_storage_scope *scope);
/* Appends "FROM TABLE WHERE conditions" of a piece: kind, time, series. */
void ap_sql_piece(struct ap_buf *sql, const char *database, const struct ap_storage_scope *scope,
                  const struct ap_sql_piece *piece);

#endif
