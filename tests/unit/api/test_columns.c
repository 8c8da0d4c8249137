/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/internal.h"

#include <errno.h>
#include <string.h>

static struct ap_buf render(const struct ap_tree_answer *tree, const char *meta)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, 1 << 20);
    out = ap_out_new_buf(&buf);
    assert_int_equal(ap_api_columns_write(tree, meta, strlen(meta), out), 0);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    return buf;
}

/* Byte by byte as docs/flamegraph-binary.md has it. */
static void test_bytes(void **state)
{
    char empty[] = "", all[] = "all", main_name[] = "main", path[] = "/bin/x";
    char *strings[] = {empty, all, main_name, path};
    struct ap_answer_node nodes[] = {
        {.name = 1, .kind = AP_FRAME_MARK, .value = 300, .count = 3},
        {.name = 2,
         .module = 3,
         .line = 200,
         .kind = AP_FRAME_NATIVE,
         .inlined = true,
         .value = 300,
         .self = 1,
         .count = 3},
        {.parent = 0, .name = 2, .kind = AP_FRAME_KERNEL, .waker = true, .truncated = true},
    };
    const struct ap_tree_answer tree = {.strings = strings, .string_cnt = 4, .nodes = nodes, .node_cnt = 3};
    static const char wanted[] = "APFG\x01"
                                 "\x02{}"
                                 "\x04"                 /* strings */
                                 "\x04\x00\x03\x04\x06" /* their lengths */
                                 "allmain/bin/x"
                                 "\x03"                     /* nodes */
                                 "\x07\x01\x02"             /* kinds */
                                 "\x00\x01\x06"             /* flags */
                                 "\x03\x00\x01\x02"         /* parents */
                                 "\x03\x01\x02\x02"         /* names */
                                 "\x03\x00\x03\x00"         /* modules */
                                 "\x03\x00\x00\x00"         /* files */
                                 "\x04\x00\xc8\x01\x00"     /* lines */
                                 "\x05\xac\x02\xac\x02\x00" /* values */
                                 "\x03\x00\x01\x00"         /* self */
                                 "\x03\x03\x03\x00";        /* counts */
    struct ap_buf buf = render(&tree, "{}");

    (void)state;
    assert_int_equal(buf.len, sizeof(wanted) - 1);
    assert_memory_equal(buf.data, wanted, buf.len);
    ap_buf_done(&buf);
}

static void test_extremes(void **state)
{
    const struct ap_tree_answer empty = {0};
    char text[] = "", *strings[] = {text};
    struct ap_answer_node node = {.value = UINT64_MAX, .self = UINT64_MAX, .count = UINT64_MAX, .line = UINT32_MAX};
    const struct ap_tree_answer one = {.strings = strings, .string_cnt = 1, .nodes = &node, .node_cnt = 1};
    struct ap_buf buf = render(&empty, "");

    (void)state;
    assert_memory_equal(buf.data, "APFG\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", buf.len);
    ap_buf_done(&buf);
    buf = render(&one, "{\"a\":1}");
    assert_memory_equal(buf.data + buf.len - 11, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    ap_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_extremes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
