/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/clock.h"
#include "storage/schema.h"
#include "storage/storage.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void print(struct ap_buf *buf, const struct ap_storage_opts *opts, const char *cluster, int expected)
{
    ap_buf_init(buf, 1 << 20);
    struct ap_out *out = ap_out_new_buf(buf);
    assert_non_null(out);
    assert_int_equal(ap_storage_print_schema(opts, cluster, out), expected);
    ap_out_flush(out);
    ap_out_free(out);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *at = strstr(text, what); at != NULL; at = strstr(at + 1, what))
        n++;
    return n;
}

static void test_one_server(void **state)
{
    (void)state;
    const struct ap_storage_opts opts = {.kind = AP_STORAGE_CLICKHOUSE};
    struct ap_buf buf;

    print(&buf, &opts, NULL, 0);
    assert_int_equal(count(buf.data, "CREATE DATABASE"), 1);
    assert_int_equal(count(buf.data, "CREATE TABLE"), AP_TABLE_CNT + 1);
    assert_int_equal(count(buf.data, "\nTTL "), AP_TABLE_CNT);
    assert_int_equal(count(buf.data, "Replicated"), 0);
    /* Ordinary tables need a window for tokens: all but the three of names, the hours and the versions. */
    assert_int_equal(count(buf.data, "non_replicated_deduplication_window"), AP_TABLE_CNT - 4);
    assert_int_equal(count(buf.data, "grp"), 0);
    ap_buf_done(&buf);
}

static void test_cluster(void **state)
{
    (void)state;
    const struct ap_storage_opts opts = {.kind = AP_STORAGE_CLICKHOUSE, .database = "profiles"};
    struct ap_buf buf;

    print(&buf, &opts, "main", 0);
    assert_int_equal(count(buf.data, "ON CLUSTER main"), 1 + 2 * (AP_TABLE_CNT + 1));
    assert_int_equal(count(buf.data, "ENGINE = Replicated"), AP_TABLE_CNT + 1);
    assert_int_equal(count(buf.data, "ENGINE = Distributed('main', 'profiles', "), AP_TABLE_CNT + 1);
    assert_non_null(strstr(buf.data,
                           "ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/profiles/samples_1m_local', "
                           "'{replica}', (count, value))"));
    assert_non_null(strstr(buf.data, "ReplicatedMergeTree('/clickhouse/tables/{shard}/profiles/samples_local', "
                                     "'{replica}')"));
    ap_buf_done(&buf);
    print(&buf, &opts, "x; DROP", -EINVAL);
    ap_buf_done(&buf);
    print(&buf, &(struct ap_storage_opts){.kind = AP_STORAGE_MEMORY}, NULL, -EINVAL);
    ap_buf_done(&buf);
}

static void test_retention(void **state)
{
    (void)state;
    struct ap_storage_opts opts = {0};
    const uint64_t day = 86400;
    struct ap_buf buf;

    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_SAMPLES), 7 * day);
    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_SAMPLES_1M), 30 * day);
    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_SAMPLES_1H), 400 * day);
    opts.retention_ns[AP_KIND_LOCK] = 30 * day * AP_NS_PER_SEC;
    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_LOCKS), 30 * day);
    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_SYSCALLS), 7 * day);
    assert_int_equal(ap_schema_retention_s(&opts, AP_TABLE_BATCHES), 30 * day);
    assert_true(ap_schema_retention_s(&opts, AP_TABLE_STACKS) > 400 * day);
    ap_buf_init(&buf, 1 << 16);
    ap_schema_ttl_text(&opts, AP_TABLE_SAMPLES, &buf);
    assert_string_equal(buf.data, "t + toIntervalSecond(multiIf(kind = 1, 604800, kind = 2, 604800, kind = 3, 2592000, "
                                  "kind = 4, 604800, kind = 5, 604800, 2592000))");
    ap_buf_done(&buf);
    /* Never so long that the tables' clock runs over. */
    opts.retention_1h_ns = UINT64_MAX;
    assert_true(ap_schema_retention_s(&opts, AP_TABLE_SAMPLES_1H) < 60 * 366 * day);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(ap_sql_name_valid("aperture"));
    assert_true(ap_sql_name_valid("_x9"));
    assert_false(ap_sql_name_valid(""));
    assert_false(ap_sql_name_valid("9x"));
    assert_false(ap_sql_name_valid("a-b"));
    assert_false(ap_sql_name_valid("a'b"));
    assert_false(ap_sql_name_valid("a23456789a123456789a123456789a123456789a123456789a123456789a12345"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_server),
        cmocka_unit_test(test_cluster),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
