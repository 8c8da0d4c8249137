/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/table.h"

#include "core/clock.h"
#include "core/parse.h"
#include "core/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Widest column of a table but the last one; longer texts are cut there (never in JSON and CSV). */
#define WIDTH_MAX 60
#define CELL_SZ   64

struct cell {
    char *text; /* owned, of texts */
    union {
        uint64_t u64;
        double number;
    } value;
};

struct ap_table {
    const struct ap_column *columns;
    size_t column_cnt, cell_cnt, cap;
    struct cell *cells;
    bool failed;
};

struct ap_table *ap_table_new(const struct ap_column *columns, size_t cnt)
{
    struct ap_table *table = calloc(1, sizeof(*table));

    if (!table)
        return NULL;
    table->columns = columns;
    table->column_cnt = cnt;
    return table;
}

struct ap_table *ap_table_free(struct ap_table *table)
{
    size_t i;

    if (!table)
        return NULL;
    for (i = 0; i < table->cell_cnt; i++)
        free(table->cells[i].text);
    free(table->cells);
    free(table);
    return NULL;
}

static struct cell *add_cell(struct ap_table *table)
{
    size_t cap = table->cap ? table->cap * 2 : 256;
    struct cell *cells;

    if (table->cell_cnt == table->cap) {
        cells = realloc(table->cells, cap * sizeof(*cells));
        if (!cells) {
            table->failed = true;
            return NULL;
        }
        table->cells = cells;
        table->cap = cap;
    }
    table->cells[table->cell_cnt] = (struct cell){0};
    return &table->cells[table->cell_cnt++];
}

void ap_table_text(struct ap_table *table, const char *text)
{
    struct cell *cell = add_cell(table);

    if (!cell)
        return;
    cell->text = strdup(text ? text : "");
    table->failed = table->failed || !cell->text;
}

void ap_table_u64(struct ap_table *table, uint64_t value)
{
    struct cell *cell = add_cell(table);

    if (cell)
        cell->value.u64 = value;
}

void ap_table_double(struct ap_table *table, double value)
{
    struct cell *cell = add_cell(table);

    if (cell)
        cell->value.number = value;
}

static const char *time_text(uint64_t ns, char buf[CELL_SZ])
{
    time_t seconds = (time_t)(ns / AP_NS_PER_SEC);
    struct tm parts;
    size_t len;

    if (!gmtime_r(&seconds, &parts))
        return "?";
    len = strftime(buf, CELL_SZ, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(buf + len, CELL_SZ - len, ".%03uZ", (unsigned)(ns % AP_NS_PER_SEC / 1000000));
    return buf;
}

/* A cell as people read it. */
static const char *readable(const struct cell *cell, enum ap_cell type, char buf[CELL_SZ])
{
    switch (type) {
    case AP_CELL_TEXT:
        return cell->text;
    case AP_CELL_NS:
        return ap_format_duration(buf, cell->value.u64);
    case AP_CELL_BYTES:
        return ap_format_size(buf, cell->value.u64);
    case AP_CELL_TIME:
        return cell->value.u64 ? time_text(cell->value.u64, buf) : "-";
    case AP_CELL_SHARE:
        snprintf(buf, CELL_SZ, "%.2f%%", cell->value.number * 100);
        return buf;
    case AP_CELL_NUMBER:
        snprintf(buf, CELL_SZ, "%.3g", cell->value.number);
        return buf;
    case AP_CELL_BOOL:
        return cell->value.u64 ? "yes" : "no";
    case AP_CELL_HEX:
        snprintf(buf, CELL_SZ, "0x%" PRIx64, cell->value.u64);
        return buf;
    default:
        snprintf(buf, CELL_SZ, "%" PRIu64, cell->value.u64);
        return buf;
    }
}

/* A cell as programs read it. */
static const char *exact(const struct cell *cell, enum ap_cell type, char buf[CELL_SZ])
{
    switch (type) {
    case AP_CELL_TEXT:
    case AP_CELL_HEX:
        return readable(cell, type, buf);
    case AP_CELL_SHARE:
    case AP_CELL_NUMBER:
        if (!isfinite(cell->value.number))
            return "null";
        snprintf(buf, CELL_SZ, "%.17g", cell->value.number);
        return buf;
    case AP_CELL_BOOL:
        return cell->value.u64 ? "true" : "false";
    default:
        snprintf(buf, CELL_SZ, "%" PRIu64, cell->value.u64);
        return buf;
    }
}

static bool is_left(enum ap_cell type)
{
    return type == AP_CELL_TEXT || type == AP_CELL_TIME;
}

/* Characters of a text; what a terminal would act on is written as "?". */
static size_t columns_of(const char *text)
{
    size_t cnt = 0, len;

    for (; *text; text += len, cnt++) {
        len = ap_utf8_len(text);
        len = len ? len : 1;
    }
    return cnt;
}

/* Writes at most `max` characters, `width` wide. */
static void write_padded(struct ap_out *out, const char *text, size_t width, size_t max, bool left)
{
    size_t all = columns_of(text), shown = all > max ? max : all, i, len;

    for (i = shown; !left && i < width; i++)
        ap_out_char(out, ' ');
    for (i = 0; i < shown; i++, text += len) {
        len = ap_utf8_len(text);
        if (i + 1 == shown && all > max)
            ap_out_str(out, "…");
        else if (len && (unsigned char)*text >= ' ' && *text != 0x7f)
            ap_out_write(out, text, len);
        else
            ap_out_char(out, '?');
        len = len ? len : 1;
    }
    for (i = shown; left && i < width; i++)
        ap_out_char(out, ' ');
}

static void write_table(const struct ap_table *table, struct ap_out *out)
{
    size_t widths[32] = {0}, rows = table->cell_cnt / table->column_cnt, row, i, width;
    char buf[CELL_SZ];
    bool last;

    for (i = 0; i < table->column_cnt; i++) {
        widths[i] = strlen(table->columns[i].title);
        for (row = 0; row < rows; row++) {
            width = columns_of(readable(&table->cells[row * table->column_cnt + i], table->columns[i].type, buf));
            width = width > WIDTH_MAX ? WIDTH_MAX : width;
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    for (row = 0; row <= rows; row++) {
        for (i = 0; i < table->column_cnt; i++) {
            const struct ap_column *column = &table->columns[i];
            const char *text = column->title;

            last = i + 1 == table->column_cnt;
            if (row)
                text = readable(&table->cells[(row - 1) * table->column_cnt + i], column->type, buf);
            if (i)
                ap_out_str(out, "  ");
            write_padded(out, text, last && is_left(column->type) ? 0 : widths[i], last ? SIZE_MAX : WIDTH_MAX,
                         is_left(column->type));
        }
        ap_out_char(out, '\n');
    }
}

static void write_csv_text(struct ap_out *out, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")]) {
        ap_out_str(out, text);
        return;
    }
    ap_out_char(out, '"');
    for (; *text; text++) {
        if (*text == '"')
            ap_out_char(out, '"');
        ap_out_char(out, *text);
    }
    ap_out_char(out, '"');
}

static void write_csv(const struct ap_table *table, struct ap_out *out)
{
    size_t i, column;
    char buf[CELL_SZ];

    for (i = 0; i < table->column_cnt; i++)
        ap_out_printf(out, "%s%s", i ? "," : "", table->columns[i].name);
    ap_out_str(out, "\r\n");
    for (i = 0; table->column_cnt && i < table->cell_cnt; i++) {
        column = i % table->column_cnt;
        if (column)
            ap_out_char(out, ',');
        if (table->columns[column].type == AP_CELL_TIME)
            ap_out_str(out, readable(&table->cells[i], AP_CELL_TIME, buf));
        else
            write_csv_text(out, exact(&table->cells[i], table->columns[column].type, buf));
        if (column + 1 == table->column_cnt)
            ap_out_str(out, "\r\n");
    }
}

static void write_json(const struct ap_table *table, const char *name, struct ap_out *out)
{
    size_t i, column;
    char buf[CELL_SZ];

    ap_out_printf(out, "\"%s\":[", name);
    for (i = 0; i < table->cell_cnt; i++) {
        const struct ap_column *info = &table->columns[i % table->column_cnt];

        column = i % table->column_cnt;
        if (!column)
            ap_out_str(out, i ? ",\n{" : "\n{");
        ap_out_printf(out, "%s\"%s\":", column ? "," : "", info->name);
        if (info->type == AP_CELL_TEXT || info->type == AP_CELL_HEX)
            ap_out_json_str(out, exact(&table->cells[i], info->type, buf), false);
        else
            ap_out_str(out, exact(&table->cells[i], info->type, buf));
        if (column + 1 == table->column_cnt)
            ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

int ap_table_write(const struct ap_table *table, enum ap_cli_format format, const char *name, struct ap_out *out)
{
    if (table->failed)
        return -ENOMEM;
    if (format == AP_CLI_JSON)
        write_json(table, name, out);
    else if (format == AP_CLI_CSV)
        write_csv(table, out);
    else
        write_table(table, out);
    return 0;
}
