/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: what a group of batches becomes as blocks of the tables. The same batches in the same order
 * give the same blocks, however often: a group that is inserted again is recognised chunk by chunk. */
#ifndef APERTURE_STORAGE_GROUP_H
#define APERTURE_STORAGE_GROUP_H

#include "storage/known.h"
#include "storage/rows.h"
#include "storage/schema.h"

struct ap_group {
    uint64_t id;
    struct ap_rows *const *rows; /* borrowed */
    size_t cnt;
    const struct ap_sql_features *features;
    uint16_t today;                            /* days since the epoch */
    struct ap_known *stacks, *frames, *series; /* of today; what is handed out is added */
    struct ap_known *hours;                    /* series in hours, likewise */
};

/* Takes one chunk: rows of one table and one day, about AP_COMMIT_ROWS_MAX at most. `key` names the chunk for ever
 * (table, group, day, number); 0 = of a table whose rows replace themselves. The function may take the rows away and
 * leave the block empty. 0 or a negative errno, which ends the walk. */
typedef int (*ap_chunk_fn)(void *ctx, enum ap_store_table table, struct ap_block *block, uint32_t day, uint64_t key,
                           struct ap_error *err);

/* Hands out all chunks: what is named before what names it, the batches themselves last. 0, -ENOMEM, -E2BIG (a column
 * past AP_BLOCK_COL_SZ) or what `fn` returned; with words. */
int ap_group_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err);

/* Events of a profile as batches tell them: samples' counts and values, of system calls their own. */
void ap_group_kind_count(const struct ap_profile *profile, const struct ap_account *account,
                         struct ap_kind_count *ret_count);

#endif
