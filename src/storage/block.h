/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: rows for one table as columns, and the two forms in which they are inserted: Arrow's C data
 * interface (chDB) and ClickHouse's Native format (HTTP). Not thread-safe. */
#ifndef APERTURE_STORAGE_BLOCK_H
#define APERTURE_STORAGE_BLOCK_H

#include "core/buf.h"

#include <stddef.h>
#include <stdint.h>

enum ap_col_type {
    AP_COL_U8 = 0,
    AP_COL_U16 = 1,
    AP_COL_U32 = 2,
    AP_COL_U64 = 3,
    AP_COL_TEXT = 4,
    AP_COL_U8S = 5, /* arrays */
    AP_COL_U16S = 6,
    AP_COL_U32S = 7,
    AP_COL_U64S = 8,
    AP_COL_TEXTS = 9,
};

struct ap_col_def {
    const char *name;
    enum ap_col_type type;
    const char *sql;   /* ClickHouse's type where it is not the plain one of `type`; NULL */
    const char *codec; /* NULL = the server's default */
};

#define AP_BLOCK_COLS_MAX 64
/* Most bytes of one column: offsets are 32 bits wide in Arrow. */
#define AP_BLOCK_COL_SZ (1u << 30)

struct ap_block_col {
    struct ap_buf data;      /* numbers, or the bytes of all texts */
    struct ap_buf ends;      /* uint32_t: 0, then the end of each row, in items of data or texts */
    struct ap_buf item_ends; /* likewise of each text in arrays of texts */
};

struct ap_block {
    const struct ap_col_def *defs; /* borrowed */
    const struct ap_col_def *grp;  /* borrowed: a last column that has `grp_value` in each row; NULL = none */
    uint64_t grp_value;
    size_t col_cnt, row_cnt; /* without `grp` */
    struct ap_block_col cols[AP_BLOCK_COLS_MAX];
    int error; /* first failure: -ENOSPC (a column is full) or -ENOMEM; then nothing more is added */
};

void ap_block_init(struct ap_block *block, const struct ap_col_def *defs, size_t col_cnt);
/* Accepts a zeroed struct. */
void ap_block_done(struct ap_block *block);
/* Forgets the rows, keeps the memory. */
void ap_block_reset(struct ap_block *block);

/* One value for the row at hand: a number of any width, a text, or one more item of an array, which
 * ap_block_array_end() finishes. When every column has its value, ap_block_row_end(). */
void ap_block_number(struct ap_block *block, size_t col, uint64_t value);
void ap_block_text(struct ap_block *block, size_t col, const void *text, size_t len);
void ap_block_item(struct ap_block *block, size_t col, uint64_t value);
void ap_block_item_text(struct ap_block *block, size_t col, const void *text, size_t len);
void ap_block_array_end(struct ap_block *block, size_t col);
void ap_block_row_end(struct ap_block *block);
/* Room for `rows` numbers of the column, to be filled by the caller, who adds to row_cnt once all columns have theirs.
 * NULL with block->error set. */
void *ap_block_numbers(struct ap_block *block, size_t col, size_t rows);
/* Bytes in all columns. */
size_t ap_block_sz(const struct ap_block *block);

/* ClickHouse's name of a column's type. */
const char *ap_col_sql_type(const struct ap_col_def *def);
/* Appends the block in Native format. 0, -ENOSPC or -ENOMEM. */
int ap_block_native(const struct ap_block *block, struct ap_buf *ret);

/* https://arrow.apache.org/docs/format/CDataInterface.html */
struct ap_arrow_schema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct ap_arrow_schema **children, *dictionary;
    void (*release)(struct ap_arrow_schema *);
    void *private_data;
};
struct ap_arrow_array {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct ap_arrow_array **children, *dictionary;
    void (*release)(struct ap_arrow_array *);
    void *private_data;
};
struct ap_arrow; /* opaque: both, with what they point to */
/* The block as a record batch; its memory stays the block's, which must not change while this lives. NULL when out of
 * memory. */
struct ap_arrow *ap_arrow_new(const struct ap_block *block);
/* Accepts NULL. Returns NULL. */
struct ap_arrow *ap_arrow_free(struct ap_arrow *arrow);
struct ap_arrow_schema *ap_arrow_schema(struct ap_arrow *arrow);
struct ap_arrow_array *ap_arrow_array(struct ap_arrow *arrow);

#endif
