/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the files ask_*.c: what they share. */
#ifndef APERTURE_STORAGE_ASK_H
#define APERTURE_STORAGE_ASK_H

#include "core/map.h"
#include "storage/store.h"

/* A copy of a text in an answer, terminated; NULL without memory. */
char *ap_ask_text(struct ap_rowbin *in);
/* Skips a text. */
void ap_ask_skip_text(struct ap_rowbin *in);

/* The error of a query that was cut at `max`. */
int ap_ask_too_many(struct ap_error *err, const char *what, size_t max);

/* Numbers of an array into `ret`, at most `max`; what is more is read past. Returns how many there were. */
size_t ap_ask_array(struct ap_rowbin *in, size_t width, uint64_t *ret, size_t max);

/* Appends "(SELECT series FROM ...)": identities of the series that have something in the scope: samples, and rows of
 * locks and system calls; `with_batches`: and those of the batches themselves. */
void ap_ask_put_series(struct ap_buf *sql, const struct ap_store *store, const struct ap_storage_scope *scope,
                       bool with_batches);

/* Labels of label sets, by identity. */
struct ap_ask_labels {
    uint64_t hash;
    struct ap_label *labels; /* owned; by name */
    size_t cnt;
};
struct ap_ask_label_sets {
    struct ap_map by_hash; /* of struct ap_ask_labels, owned */
};
/* 0 or as ap_store_query(). */
int ap_ask_load_labels(struct ap_store *store, const uint64_t *hashes, size_t cnt, struct ap_ask_label_sets *ret_sets,
                       struct ap_error *err);
void ap_ask_label_sets_done(struct ap_ask_label_sets *sets);
/* Copies the set without the label "agent". Nothing when it is not stored. 0 or -ENOMEM. */
int ap_ask_copy_labels(const struct ap_ask_label_sets *sets, uint64_t hash, struct ap_label **ret_labels,
                       size_t *ret_cnt);
void ap_ask_free_labels(struct ap_label *labels, size_t cnt);

/* Identities in one statement. */
#define AP_ASK_HASHES_MAX 20000

#endif
