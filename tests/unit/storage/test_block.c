/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/block.h"
#include "storage/rowbin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct ap_col_def cols[] = {
    {"n", AP_COL_U32, NULL, NULL},
    {"s", AP_COL_TEXT, NULL, NULL},
    {"a", AP_COL_U16S, NULL, NULL},
    {"t", AP_COL_TEXTS, NULL, NULL},
};

static void fill(struct ap_block *block)
{
    ap_block_init(block, cols, 4);
    ap_block_number(block, 0, 7);
    ap_block_text(block, 1, "it's", 4);
    ap_block_item(block, 2, 1);
    ap_block_item(block, 2, 515);
    ap_block_array_end(block, 2);
    ap_block_array_end(block, 3);
    ap_block_row_end(block);
    ap_block_number(block, 0, 0xfffffffe);
    ap_block_text(block, 1, NULL, 0);
    ap_block_array_end(block, 2);
    ap_block_item_text(block, 3, "x\0y", 3);
    ap_block_item_text(block, 3, "", 0);
    ap_block_array_end(block, 3);
    ap_block_row_end(block);
    assert_int_equal(block->error, 0);
}

/* https://clickhouse.com/docs/interfaces/formats/Native: columns one after another. */
static void test_native(void **state)
{
    (void)state;
    static const char expected[] = "\x04\x02"
                                   "\x01n\x06UInt32\x07\0\0\0\xfe\xff\xff\xff"
                                   "\x01s\x06String\x04it's\0"
                                   "\x01\x61\x0d"
                                   "Array(UInt16)\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x03\x02"
                                   "\x01t\x0d"
                                   "Array(String)\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03x\0y\0";
    static const struct ap_col_def grp = {"grp", AP_COL_U64, NULL, NULL};
    struct ap_block block;
    struct ap_buf out;

    fill(&block);
    ap_buf_init(&out, 1 << 20);
    assert_int_equal(ap_block_native(&block, &out), 0);
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.data, expected, out.len);
    /* One more column with the same number in each row. */
    block.grp = &grp;
    block.grp_value = 0x0102030405060708;
    ap_buf_reset(&out);
    assert_int_equal(ap_block_native(&block, &out), 0);
    assert_int_equal(out.len, sizeof(expected) - 1 + 4 + 7 + 16);
    assert_int_equal(out.data[0], 5);
    assert_memory_equal(out.data + out.len - 8, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    ap_buf_done(&out);
    ap_block_done(&block);
}

static void test_arrow(void **state)
{
    (void)state;
    struct ap_block block;

    fill(&block);
    struct ap_arrow *arrow = ap_arrow_new(&block);
    assert_non_null(arrow);
    const struct ap_arrow_schema *schema = ap_arrow_schema(arrow);
    const struct ap_arrow_array *array = ap_arrow_array(arrow);
    assert_string_equal(schema->format, "+s");
    assert_int_equal(schema->n_children, 4);
    assert_int_equal(array->length, 2);
    assert_string_equal(schema->children[0]->format, "I");
    assert_string_equal(schema->children[1]->format, "z");
    assert_string_equal(schema->children[2]->format, "+l");
    assert_string_equal(schema->children[2]->children[0]->format, "S");
    assert_string_equal(schema->children[3]->children[0]->format, "z");
    const int32_t *ends = array->children[1]->buffers[1];
    assert_int_equal(ends[1], 4);
    assert_int_equal(ends[2], 4);
    assert_memory_equal(array->children[1]->buffers[2], "it's", 4);
    assert_int_equal(array->children[2]->children[0]->length, 2);
    assert_int_equal(array->children[3]->children[0]->length, 2);
    ap_arrow_free(arrow);
    ap_block_done(&block);
}

static void test_reset(void **state)
{
    (void)state;
    struct ap_block block;
    struct ap_buf out;

    fill(&block);
    ap_block_reset(&block);
    assert_int_equal(block.row_cnt, 0);
    uint32_t *numbers = ap_block_numbers(&block, 0, 3);
    assert_non_null(numbers);
    memset(numbers, 0, 3 * sizeof(*numbers));
    assert_int_equal(block.cols[0].data.len, 12);
    ap_buf_init(&out, 4); /* full at once */
    assert_int_not_equal(ap_block_native(&block, &out), 0);
    ap_buf_done(&out);
    ap_block_done(&block);
}

static void test_rowbin(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0xac, 0x02, 3, 'a', 'b', 'c', 1, 2, 0, 0xff, 0xff, 0xff, 0xff, 0x7f};
    struct ap_rowbin in = {.at = bytes, .end = bytes + sizeof(bytes)};
    size_t len;

    assert_int_equal(ap_rowbin_varuint(&in), 300);
    assert_memory_equal(ap_rowbin_text(&in, &len), "abc", 3);
    assert_int_equal(len, 3);
    assert_int_equal(ap_rowbin_u8(&in), 1);
    assert_int_equal(ap_rowbin_u16(&in), 2);
    assert_true(ap_rowbin_more(&in));
    /* A count that the answer cannot hold; then nothing can be read any more. */
    assert_int_equal(ap_rowbin_array(&in, 8), 0);
    assert_true(in.bad);
    assert_int_equal(ap_rowbin_u64(&in), 0);
    assert_null(ap_rowbin_text(&in, &len));
    assert_false(ap_rowbin_more(&in));
    /* Numbers that never end. */
    static const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
    in = (struct ap_rowbin){.at = endless, .end = endless + sizeof(endless)};
    ap_rowbin_varuint(&in);
    assert_true(in.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_native),
        cmocka_unit_test(test_arrow),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_rowbin),
    };

    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
