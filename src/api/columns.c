/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Flamegraphs as columns: docs/flamegraph-binary.md describes every byte. */
#include "api/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1

enum flags {
    FLAG_INLINED = 1,
    FLAG_WAKER = 2,
    FLAG_TRUNCATED = 4,
};

static void put_varint(struct ap_buf *buf, uint64_t value)
{
    unsigned char bytes[10];
    size_t len = 0;

    while (value >= 0x80) {
        bytes[len++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    bytes[len++] = (unsigned char)value;
    ap_buf_append(buf, bytes, len);
}

static void out_varint(struct ap_out *out, uint64_t value)
{
    while (value >= 0x80) {
        ap_out_char(out, (char)(value | 0x80));
        value >>= 7;
    }
    ap_out_char(out, (char)value);
}

/* A column with its length before it; emptied. */
static int emit(struct ap_buf *column, struct ap_out *out)
{
    int r = column->error;

    if (r == 0) {
        out_varint(out, column->len);
        ap_out_write(out, column->data, column->len);
    }
    ap_buf_reset(column);
    return r;
}

static int write_strings(const struct ap_tree_answer *tree, struct ap_buf *column, struct ap_out *out)
{
    int r;

    out_varint(out, tree->string_cnt);
    for (size_t i = 0; i < tree->string_cnt; i++)
        put_varint(column, strlen(tree->strings[i]));
    r = emit(column, out);
    for (size_t i = 0; i < tree->string_cnt; i++)
        ap_out_str(out, tree->strings[i]);
    return r;
}

static uint64_t number_of(const struct ap_tree_answer *tree, size_t i, unsigned column)
{
    const struct ap_answer_node *node = &tree->nodes[i];

    switch (column) {
    case 0:
        return i - node->parent;
    case 1:
        return node->name;
    case 2:
        return node->module;
    case 3:
        return node->file;
    case 4:
        return node->line;
    case 5:
        return node->value;
    case 6:
        return node->self;
    default:
        return node->count;
    }
}

int ap_api_columns_write(const struct ap_tree_answer *tree, const char *meta, size_t meta_len, struct ap_out *out)
{
    struct ap_buf column;
    int r;

    /* Ten bytes are the longest varint. */
    ap_buf_init(&column, 10 * (tree->node_cnt + tree->string_cnt) + 16);
    ap_out_write(out, "APFG", 4);
    ap_out_char(out, VERSION);
    out_varint(out, meta_len);
    ap_out_write(out, meta, meta_len);
    r = write_strings(tree, &column, out);
    out_varint(out, tree->node_cnt);
    for (size_t i = 0; r == 0 && i < tree->node_cnt; i++)
        ap_buf_char(&column, (char)tree->nodes[i].kind);
    for (size_t i = 0; r == 0 && i < tree->node_cnt; i++)
        ap_buf_char(&column,
                    (char)((tree->nodes[i].inlined ? FLAG_INLINED : 0) | (tree->nodes[i].waker ? FLAG_WAKER : 0) |
                           (tree->nodes[i].truncated ? FLAG_TRUNCATED : 0)));
    if (r == 0)
        r = column.error;
    ap_out_write(out, column.data, r == 0 ? column.len : 0);
    ap_buf_reset(&column);
    for (unsigned c = 0; r == 0 && c < 8; c++) {
        for (size_t i = 0; i < tree->node_cnt; i++)
            put_varint(&column, number_of(tree, i, c));
        r = emit(&column, out);
    }
    ap_buf_done(&column);
    return r;
}
