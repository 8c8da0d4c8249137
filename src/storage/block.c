/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/block.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_array(enum ap_col_type type)
{
    return type >= AP_COL_U8S;
}

/* Bytes of a number, or of an array's number; 0 for texts. */
static size_t width(enum ap_col_type type)
{
    static const uint8_t widths[] = {1, 2, 4, 8, 0, 1, 2, 4, 8, 0};

    return widths[type];
}

void ap_block_init(struct ap_block *block, const struct ap_col_def *defs, size_t col_cnt)
{
    assert(col_cnt <= AP_BLOCK_COLS_MAX);
    memset(block, 0, sizeof(*block));
    block->defs = defs;
    block->col_cnt = col_cnt;
    for (size_t c = 0; c < col_cnt; c++) {
        ap_buf_init(&block->cols[c].data, AP_BLOCK_COL_SZ);
        ap_buf_init(&block->cols[c].ends, AP_BLOCK_COL_SZ);
        ap_buf_init(&block->cols[c].item_ends, AP_BLOCK_COL_SZ);
    }
    ap_block_reset(block);
}

void ap_block_done(struct ap_block *block)
{
    for (size_t c = 0; c < block->col_cnt; c++) {
        ap_buf_done(&block->cols[c].data);
        ap_buf_done(&block->cols[c].ends);
        ap_buf_done(&block->cols[c].item_ends);
    }
    memset(block, 0, sizeof(*block));
}

static void check(struct ap_block *block, const struct ap_buf *buf)
{
    if (buf->error != 0 && block->error == 0)
        block->error = buf->error;
}

static void append(struct ap_block *block, struct ap_buf *buf, const void *data, size_t len)
{
    ap_buf_append(buf, data, len);
    check(block, buf);
}

void ap_block_reset(struct ap_block *block)
{
    const uint32_t zero = 0;

    block->row_cnt = 0;
    block->error = 0;
    for (size_t c = 0; c < block->col_cnt; c++) {
        struct ap_block_col *col = &block->cols[c];
        enum ap_col_type type = block->defs[c].type;

        ap_buf_reset(&col->data);
        ap_buf_reset(&col->ends);
        ap_buf_reset(&col->item_ends);
        if (type == AP_COL_TEXT || is_array(type))
            append(block, &col->ends, &zero, sizeof(zero));
        if (type == AP_COL_TEXTS)
            append(block, &col->item_ends, &zero, sizeof(zero));
    }
}

/* Little endian: the low bytes come first. */
static void number(struct ap_block *block, size_t col, uint64_t value)
{
    append(block, &block->cols[col].data, &value, width(block->defs[col].type));
}

static void end(struct ap_block *block, struct ap_buf *ends, size_t at)
{
    const uint32_t value = (uint32_t)at;

    append(block, ends, &value, sizeof(value));
}

void ap_block_number(struct ap_block *block, size_t col, uint64_t value)
{
    number(block, col, value);
}

void ap_block_text(struct ap_block *block, size_t col, const void *text, size_t len)
{
    if (len > 0)
        append(block, &block->cols[col].data, text, len);
    end(block, &block->cols[col].ends, block->cols[col].data.len);
}

void ap_block_item(struct ap_block *block, size_t col, uint64_t value)
{
    number(block, col, value);
}

void ap_block_item_text(struct ap_block *block, size_t col, const void *text, size_t len)
{
    if (len > 0)
        append(block, &block->cols[col].data, text, len);
    end(block, &block->cols[col].item_ends, block->cols[col].data.len);
}

void ap_block_array_end(struct ap_block *block, size_t col)
{
    struct ap_block_col *c = &block->cols[col];
    size_t size = width(block->defs[col].type);

    end(block, &c->ends, size > 0 ? c->data.len / size : c->item_ends.len / sizeof(uint32_t) - 1);
}

void ap_block_row_end(struct ap_block *block)
{
    if (block->error == 0)
        block->row_cnt++;
}

void *ap_block_numbers(struct ap_block *block, size_t col, size_t rows)
{
    struct ap_buf *buf = &block->cols[col].data;
    size_t sz = rows * width(block->defs[col].type);
    void *room = ap_buf_reserve(buf, sz);

    check(block, buf);
    if (room != NULL)
        buf->len += sz;
    return room;
}

size_t ap_block_sz(const struct ap_block *block)
{
    size_t sz = 0;

    for (size_t c = 0; c < block->col_cnt; c++)
        sz += block->cols[c].data.len + block->cols[c].ends.len + block->cols[c].item_ends.len;
    return sz;
}

/* ---- Native ---- */

const char *ap_col_sql_type(const struct ap_col_def *def)
{
    static const char *const names[] = {"UInt8",         "UInt16",       "UInt32",        "UInt64",
                                        "String",        "Array(UInt8)", "Array(UInt16)", "Array(UInt32)",
                                        "Array(UInt64)", "Array(String)"};

    return def->sql != NULL ? def->sql : names[def->type];
}

static void varuint(struct ap_buf *ret, uint64_t value)
{
    uint8_t bytes[10];
    size_t len = 0;

    do {
        bytes[len] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
        len++;
    } while (value != 0);
    ap_buf_append(ret, bytes, len);
}

static void native_str(struct ap_buf *ret, const char *text, size_t len)
{
    varuint(ret, len);
    if (len > 0)
        ap_buf_append(ret, text, len);
}

/* Texts one after another: `ends` as in a block's column. */
static void native_texts(struct ap_buf *ret, const struct ap_buf *data, const struct ap_buf *ends_buf)
{
    const uint32_t *ends = (const uint32_t *)(const void *)ends_buf->data;
    size_t cnt = ends_buf->len / sizeof(*ends);

    for (size_t i = 1; i < cnt; i++)
        native_str(ret, data->data + ends[i - 1], ends[i] - ends[i - 1]);
}

int ap_block_native(const struct ap_block *block, struct ap_buf *ret)
{
    varuint(ret, block->col_cnt + (block->grp != NULL));
    varuint(ret, block->row_cnt);
    for (size_t c = 0; c < block->col_cnt; c++) {
        const struct ap_col_def *def = &block->defs[c];
        const struct ap_block_col *col = &block->cols[c];
        const uint32_t *ends = (const uint32_t *)(const void *)col->ends.data;

        native_str(ret, def->name, strlen(def->name));
        native_str(ret, ap_col_sql_type(def), strlen(ap_col_sql_type(def)));
        for (size_t i = 0; is_array(def->type) && i < block->row_cnt; i++) {
            const uint64_t at = ends[i + 1];

            ap_buf_append(ret, &at, sizeof(at));
        }
        if (def->type == AP_COL_TEXT)
            native_texts(ret, &col->data, &col->ends);
        else if (def->type == AP_COL_TEXTS)
            native_texts(ret, &col->data, &col->item_ends);
        else if (col->data.len > 0)
            ap_buf_append(ret, col->data.data, col->data.len);
    }
    if (block->grp != NULL) {
        native_str(ret, block->grp->name, strlen(block->grp->name));
        native_str(ret, ap_col_sql_type(block->grp), strlen(ap_col_sql_type(block->grp)));
        for (size_t i = 0; i < block->row_cnt; i++)
            ap_buf_append(ret, &block->grp_value, sizeof(block->grp_value));
    }
    return ret->error;
}

/* ---- Arrow ---- */

/* A column, the items of its array. */
struct node {
    struct ap_arrow_schema schema, *schema_child;
    struct ap_arrow_array array, *array_child;
    const void *buffers[3];
};

struct ap_arrow {
    struct node root;
    struct node cols[AP_BLOCK_COLS_MAX], items[AP_BLOCK_COLS_MAX];
    struct ap_arrow_schema *schemas[AP_BLOCK_COLS_MAX];
    struct ap_arrow_array *arrays[AP_BLOCK_COLS_MAX];
};

/* Everything is freed at once by ap_arrow_free(). */
static void release_schema(struct ap_arrow_schema *schema)
{
    schema->release = NULL;
}

static void release_array(struct ap_arrow_array *array)
{
    array->release = NULL;
}

static const char *arrow_format(enum ap_col_type type)
{
    static const char *const formats[] = {"C", "S", "I", "L", "z", "C", "S", "I", "L", "z"};

    return formats[type];
}

static const void *bytes_of(const struct ap_buf *buf)
{
    return buf->data != NULL ? buf->data : "";
}

static void fill(struct node *node, const char *name, const char *format, size_t length, int64_t buffers)
{
    node->schema = (struct ap_arrow_schema){.format = format, .name = name, .release = release_schema};
    node->array = (struct ap_arrow_array){
        .length = (int64_t)length, .n_buffers = buffers, .buffers = node->buffers, .release = release_array};
}

/* The numbers or texts of a column or of its arrays' items. */
static void fill_values(struct node *node, const char *name, enum ap_col_type type, size_t length,
                        const struct ap_block_col *col, const struct ap_buf *ends)
{
    bool text = type == AP_COL_TEXT || type == AP_COL_TEXTS;

    fill(node, name, arrow_format(type), length, text ? 3 : 2);
    node->buffers[1] = text ? bytes_of(ends) : bytes_of(&col->data);
    node->buffers[2] = text ? bytes_of(&col->data) : NULL;
}

static void fill_array(struct node *node, struct node *item, const struct ap_col_def *def, size_t length,
                       const struct ap_block_col *col)
{
    const uint32_t *ends = (const uint32_t *)(const void *)col->ends.data;

    fill(node, def->name, "+l", length, 2);
    node->buffers[1] = bytes_of(&col->ends);
    fill_values(item, "item", def->type, ends[length], col, &col->item_ends);
    node->schema_child = &item->schema;
    node->schema.children = &node->schema_child;
    node->schema.n_children = 1;
    node->array_child = &item->array;
    node->array.children = &node->array_child;
    node->array.n_children = 1;
}

struct ap_arrow *ap_arrow_new(const struct ap_block *block)
{
    struct ap_arrow *arrow = calloc(1, sizeof(*arrow));

    if (arrow == NULL)
        return NULL;
    for (size_t c = 0; c < block->col_cnt; c++) {
        const struct ap_col_def *def = &block->defs[c];
        const struct ap_block_col *col = &block->cols[c];

        if (is_array(def->type))
            fill_array(&arrow->cols[c], &arrow->items[c], def, block->row_cnt, col);
        else
            fill_values(&arrow->cols[c], def->name, def->type, block->row_cnt, col, &col->ends);
        arrow->schemas[c] = &arrow->cols[c].schema;
        arrow->arrays[c] = &arrow->cols[c].array;
    }
    fill(&arrow->root, "", "+s", block->row_cnt, 1);
    arrow->root.schema.children = arrow->schemas;
    arrow->root.schema.n_children = (int64_t)block->col_cnt;
    arrow->root.array.children = arrow->arrays;
    arrow->root.array.n_children = (int64_t)block->col_cnt;
    return arrow;
}

struct ap_arrow *ap_arrow_free(struct ap_arrow *arrow)
{
    free(arrow);
    return NULL;
}

struct ap_arrow_schema *ap_arrow_schema(struct ap_arrow *arrow)
{
    return &arrow->root.schema;
}

struct ap_arrow_array *ap_arrow_array(struct ap_arrow *arrow)
{
    return &arrow->root.array;
}
