/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the files group*.c. */
#ifndef APERTURE_STORAGE_GROUP_TABLES_H
#define APERTURE_STORAGE_GROUP_TABLES_H

#include "storage/group.h"

/* Gathers rows of one table and hands them out by day. */
struct ap_chunks {
    const struct ap_group *group;
    enum ap_store_table table;
    ap_chunk_fn fn;
    void *ctx;
    struct ap_block block;
    uint32_t day, number;
};

void ap_chunks_init(struct ap_chunks *chunks, const struct ap_group *group, enum ap_store_table table, ap_chunk_fn fn,
                    void *ctx);
void ap_chunks_done(struct ap_chunks *chunks);
/* Call before a row is put: hands out what is of another day, or enough. */
int ap_chunks_day(struct ap_chunks *chunks, uint32_t day, struct ap_error *err);
/* Hands out what there is. */
int ap_chunks_flush(struct ap_chunks *chunks, struct ap_error *err);

/* Samples, their roll-ups, and which series they are of. */
int ap_group_sample_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err);
/* Rows of these tables, by batch. */
int ap_group_lock_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err);
int ap_group_syscall_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err);
int ap_group_batch_chunks(const struct ap_group *group, ap_chunk_fn fn, void *ctx, struct ap_error *err);

#endif
