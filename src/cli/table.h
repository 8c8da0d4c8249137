/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Rows as a table for people, as JSON, or as CSV (RFC 4180). */
#ifndef APERTURE_CLI_TABLE_H
#define APERTURE_CLI_TABLE_H

#include "cli/ask.h"
#include "core/out.h"

#include <stdint.h>

enum ap_cell {
    AP_CELL_TEXT = 0,
    AP_CELL_COUNT = 1,  /* u64 */
    AP_CELL_NS = 2,     /* u64; a readable duration in tables */
    AP_CELL_BYTES = 3,  /* u64; a readable size in tables */
    AP_CELL_TIME = 4,   /* u64 ns since the epoch; RFC 3339 in tables and CSV */
    AP_CELL_SHARE = 5,  /* double; per cent in tables */
    AP_CELL_NUMBER = 6, /* double */
    AP_CELL_BOOL = 7,   /* u64 */
    AP_CELL_HEX = 8,    /* u64; "0x..." also in JSON and CSV */
};

struct ap_column {
    const char *name;  /* of the JSON member and the CSV column: "self_count" */
    const char *title; /* of the table: "SELF" */
    enum ap_cell type;
};

struct ap_table; /* opaque */

/* `columns` is borrowed. NULL when out of memory. */
struct ap_table *ap_table_new(const struct ap_column *columns, size_t cnt);
/* Accepts NULL. Returns NULL. */
struct ap_table *ap_table_free(struct ap_table *table);
/* Appends cells, row by row; texts are copied (NULL = ""). Without memory the table is marked and writing fails. */
void ap_table_text(struct ap_table *table, const char *text);
void ap_table_u64(struct ap_table *table, uint64_t value);
void ap_table_double(struct ap_table *table, double value);

/* Writes all rows: `name` is that of the array in JSON, which is written as `"name":[...]` for the caller to put into
 * an object. 0 or -ENOMEM. */
int ap_table_write(const struct ap_table *table, enum ap_cli_format format, const char *name, struct ap_out *out);

#endif
