/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void *zeroed(size_t cnt, size_t size)
{
    void *rows = calloc(cnt, size);

    assert_non_null(rows);
    return rows;
}

static struct ap_label *one_label(void)
{
    struct ap_label *label = zeroed(1, sizeof(*label));

    label->name = strdup("host");
    label->value = strdup("a");
    return label;
}

/* The leak checker of the sanitizer build tells what stays behind. */
static void test_everything_is_freed(void **state)
{
    struct ap_batches_answer batches = {.rows = zeroed(2, sizeof(*batches.rows)), .row_cnt = 2};
    struct ap_agents_answer agents = {.rows = zeroed(1, sizeof(*agents.rows)), .row_cnt = 1};
    struct ap_stacks_answer stacks = {.rows = zeroed(2, sizeof(*stacks.rows)), .row_cnt = 2};
    struct ap_diff_answer diff = {.rows = zeroed(1, sizeof(*diff.rows)), .row_cnt = 1};
    struct ap_aggregate_answer all = {.lock_cnt = 1, .syscall_cnt = 1};

    (void)state;
    batches.rows[0].agent_id = strdup("a");
    batches.rows[0].labels = one_label();
    batches.rows[0].label_cnt = 1;
    ap_batches_answer_done(&batches);
    assert_null(batches.rows);
    agents.rows[0].agent_id = strdup("a");
    agents.rows[0].labels = one_label();
    agents.rows[0].label_cnt = 1;
    ap_agents_answer_done(&agents);
    assert_int_equal(agents.row_cnt, 0);
    stacks.rows[0].functions = zeroed(2, sizeof(char *));
    stacks.rows[0].functions[0] = strdup("main");
    stacks.rows[0].function_cnt = 2;
    ap_stacks_answer_done(&stacks);
    assert_null(stacks.rows);
    diff.rows[0].function = strdup("f");
    diff.rows[0].module = strdup("m");
    ap_diff_answer_done(&diff);
    assert_null(diff.rows);
    all.functions.rows = zeroed(1, sizeof(*all.functions.rows));
    all.functions.row_cnt = 1;
    all.functions.rows[0].function = strdup("f");
    all.tree.strings = zeroed(1, sizeof(char *));
    all.tree.strings[0] = strdup("all");
    all.tree.string_cnt = 1;
    all.tree.nodes = zeroed(1, sizeof(*all.tree.nodes));
    all.tree.node_cnt = 1;
    all.locks = zeroed(1, sizeof(*all.locks));
    all.locks[0] = (struct ap_lock_answer_row){.host = strdup("h"), .top_waker = strdup("w"), .symbol = strdup("s")};
    all.syscalls = zeroed(1, sizeof(*all.syscalls));
    all.syscalls[0] = (struct ap_syscall_answer_row){.host = strdup("h"), .name = strdup("read")};
    ap_aggregate_answer_done(&all);
    assert_null(all.tree.nodes);
    assert_int_equal(all.lock_cnt + all.syscall_cnt + all.functions.row_cnt + all.tree.string_cnt, 0);
}

static void test_empty_ones(void **state)
{
    struct ap_batches_answer batches = {0};
    struct ap_agents_answer agents = {0};
    struct ap_functions_answer functions = {0};
    struct ap_stacks_answer stacks = {0};
    struct ap_diff_answer diff = {0};
    struct ap_tree_answer tree = {0};
    struct ap_aggregate_answer all = {0};

    (void)state;
    ap_batches_answer_done(&batches);
    ap_agents_answer_done(&agents);
    ap_functions_answer_done(&functions);
    ap_stacks_answer_done(&stacks);
    ap_diff_answer_done(&diff);
    ap_tree_answer_done(&tree);
    ap_aggregate_answer_done(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_freed),
        cmocka_unit_test(test_empty_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
