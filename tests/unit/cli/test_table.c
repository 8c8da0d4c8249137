/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

static const struct ap_column columns[] = {
    {"name", "NAME", AP_CELL_TEXT},     {"count", "COUNT", AP_CELL_COUNT}, {"time_ns", "TIME", AP_CELL_NS},
    {"bytes", "BYTES", AP_CELL_BYTES},  {"at_ns", "AT", AP_CELL_TIME},     {"share", "SHARE", AP_CELL_SHARE},
    {"p", "P", AP_CELL_NUMBER},         {"sure", "SURE", AP_CELL_BOOL},    {"address", "ADDRESS", AP_CELL_HEX},
    {"module", "MODULE", AP_CELL_TEXT},
};
#define COLUMN_CNT (sizeof(columns) / sizeof(columns[0]))

static void add_row(struct ap_table *table, const char *name, const char *module)
{
    ap_table_text(table, name);
    ap_table_u64(table, 12);
    ap_table_u64(table, 1500000);
    ap_table_u64(table, 2048);
    ap_table_u64(table, 1700000000123000000);
    ap_table_double(table, 0.125);
    ap_table_double(table, 0.5);
    ap_table_u64(table, 1);
    ap_table_u64(table, 255);
    ap_table_text(table, module);
}

static char text[65536];

/* The table in one format, in `text`. */
static const char *written(struct ap_table *table, enum ap_cli_format format)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, sizeof(text));
    out = ap_out_new_buf(&buf);
    assert_non_null(out);
    assert_int_equal(ap_table_write(table, format, "rows", out), 0);
    assert_int_equal(ap_out_flush(out), 0);
    assert_true(buf.len < sizeof(text));
    memcpy(text, buf.data, buf.len);
    text[buf.len] = '\0';
    ap_out_free(out);
    ap_buf_done(&buf);
    return text;
}

static void test_table(void **state)
{
    struct ap_table *table = ap_table_new(columns, COLUMN_CNT);

    (void)state;
    add_row(table, "one", "/bin/x");
    add_row(table, "eleven", "/bin/y");
    assert_string_equal(
        written(table, AP_CLI_TABLE),
        "NAME    COUNT     TIME     BYTES  AT                         SHARE    P  SURE  ADDRESS  MODULE\n"
        "one        12  1.50 ms  2.00 KiB  2023-11-14T22:13:20.123Z  12.50%  0.5   yes     0xff  /bin/x\n"
        "eleven     12  1.50 ms  2.00 KiB  2023-11-14T22:13:20.123Z  12.50%  0.5   yes     0xff  /bin/y\n");
    ap_table_free(table);
}

static void test_csv(void **state)
{
    struct ap_table *table = ap_table_new(columns, COLUMN_CNT);

    (void)state;
    add_row(table, "a,\"b\"", "line\nbreak");
    assert_string_equal(
        written(table, AP_CLI_CSV),
        "name,count,time_ns,bytes,at_ns,share,p,sure,address,module\r\n"
        "\"a,\"\"b\"\"\",12,1500000,2048,2023-11-14T22:13:20.123Z,0.125,0.5,true,0xff,\"line\nbreak\"\r\n");
    ap_table_free(table);
}

static void test_json(void **state)
{
    struct ap_table *table = ap_table_new(columns, COLUMN_CNT);

    (void)state;
    assert_string_equal(written(table, AP_CLI_JSON), "\"rows\":[]");
    add_row(table, "a\"b\\", "\x01\xff");
    add_row(table, NULL, "");
    assert_string_equal(
        written(table, AP_CLI_JSON),
        "\"rows\":[\n"
        "{\"name\":\"a\\\"b\\\\\",\"count\":12,\"time_ns\":1500000,\"bytes\":2048,\"at_ns\":1700000000123000000,"
        "\"share\":0.125,\"p\":0.5,\"sure\":true,\"address\":\"0xff\",\"module\":\"\\u0001\xef\xbf\xbd\"},\n"
        "{\"name\":\"\",\"count\":12,\"time_ns\":1500000,\"bytes\":2048,\"at_ns\":1700000000123000000,"
        "\"share\":0.125,\"p\":0.5,\"sure\":true,\"address\":\"0xff\",\"module\":\"\"}]");
    ap_table_free(table);
}

static void test_no_number_is_null(void **state)
{
    static const struct ap_column one[] = {{"p", "P", AP_CELL_NUMBER}};
    struct ap_table *table = ap_table_new(one, 1);

    (void)state;
    ap_table_double(table, NAN);
    assert_string_equal(written(table, AP_CLI_JSON), "\"rows\":[\n{\"p\":null}]");
    ap_table_free(table);
}

/* What a terminal would act on is not passed through, and long names do not push the other columns away. */
static void test_strange_text(void **state)
{
    static const struct ap_column two[] = {{"a", "A", AP_CELL_TEXT}, {"b", "B", AP_CELL_TEXT}};
    struct ap_table *table = ap_table_new(two, 2);
    char name[200];

    (void)state;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ap_table_text(table, "\033[2J\xff\xc3\xa4");
    ap_table_text(table, "end");
    ap_table_text(table, name);
    ap_table_text(table, name);
    written(table, AP_CLI_TABLE);
    assert_non_null(strstr(text, "?[2J?\xc3\xa4 "));
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "x\xe2\x80\xa6  xxx")); /* cut, but the last column is whole */
    assert_non_null(strstr(text, name));
    ap_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_json),         cmocka_unit_test(test_no_number_is_null),
        cmocka_unit_test(test_strange_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
