/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "proto/aperture/v1/aggregator.pb-c.h"
#include "tests/unit/wire/answers.h"
#include "wire/arena.h"
#include "wire/ask.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define BUF_SZ ((size_t)64 << 20)

static void test_asks(void **state)
{
    struct ap_ask ask = {.limit = 10, .max_nodes = 500}, back = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    answers_selector(&ask.selector);
    assert_int_equal(ap_wire_ask_encode(&ask, &buf), 0);
    assert_int_equal(ap_wire_ask_decode(buf.data, buf.len, &back, NULL), 0);
    assert_int_equal(back.limit, 10);
    assert_int_equal(back.max_nodes, 500);
    assert_true(answers_same_selector(&ask.selector, &back.selector));
    ap_ask_done(&back);
    assert_int_equal(back.selector.matcher_cnt, 0);
    ap_ask_done(&ask);
    /* Nothing at all asks for everything. */
    assert_int_equal(ap_wire_ask_decode(NULL, 0, &back, NULL), 0);
    assert_int_equal(back.limit + back.max_nodes + back.selector.kind, 0);
    ap_ask_done(&back);
    ap_buf_done(&buf);
}

static void test_diffs(void **state)
{
    struct ap_ask_diff ask = {.limit = 10}, back = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    answers_selector(&ask.before);
    ask.after.kind = AP_KIND_CPU;
    assert_int_equal(ap_wire_ask_diff_encode(&ask, &buf), 0);
    assert_int_equal(ap_wire_ask_diff_decode(buf.data, buf.len, &back, NULL), 0);
    assert_int_equal(back.limit, 10);
    assert_true(answers_same_selector(&ask.before, &back.before));
    assert_true(answers_same_selector(&ask.after, &back.after));
    ap_ask_diff_done(&back);
    ap_ask_diff_done(&ask);
    ap_buf_done(&buf);
}

/* The three requests have the same fields. */
static void test_requests_share_their_fields(void **state)
{
    struct ap_ask ask = {.limit = 10, .max_nodes = 7};
    Aperture__V1__QueryRequest *query;
    Aperture__V1__QueryStorageRequest *storage;
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    answers_selector(&ask.selector);
    assert_int_equal(ap_wire_ask_encode(&ask, &buf), 0);
    query = aperture__v1__query_request__unpack(NULL, buf.len, (const uint8_t *)buf.data);
    storage = aperture__v1__query_storage_request__unpack(NULL, buf.len, (const uint8_t *)buf.data);
    assert_true(query != NULL && storage != NULL);
    assert_int_equal(query->limit, 10);
    assert_int_equal(storage->limit, 10);
    assert_int_equal(query->selector->n_matchers, ask.selector.matcher_cnt);
    assert_int_equal(storage->selector->n_matchers, ask.selector.matcher_cnt);
    aperture__v1__query_request__free_unpacked(query, NULL);
    aperture__v1__query_storage_request__free_unpacked(storage, NULL);
    ap_ask_done(&ask);
    ap_buf_done(&buf);
}

struct bad_ask {
    const char *words;
    int code;
    void (*change)(Aperture__V1__AggregateRequest *ask);
};

#define CHANGE(name, statement)                                                                                        \
    static void name(Aperture__V1__AggregateRequest *ask)                                                              \
    {                                                                                                                  \
        statement;                                                                                                     \
    }

static char long_text[1100], not_utf8[] = "a\xff", dashed[] = "a-b";

CHANGE(kind, ask->selector->kind = (Aperture__V1__Kind)6)
CHANGE(kind_below, ask->selector->kind = (Aperture__V1__Kind)-1)
CHANGE(times, ask->selector->to_unix_ns = 1)
CHANGE(op, ask->selector->matchers[0]->op = (Aperture__V1__Matcher__Op)4)
CHANGE(label, ask->selector->matchers[0]->label = dashed)
CHANGE(no_label, ask->selector->matchers[0]->label = NULL)
CHANGE(value, ask->selector->matchers[0]->value = long_text)
CHANGE(utf8, ask->selector->matchers[0]->value = not_utf8)
CHANGE(function, ask->selector->function = long_text)

static void test_asks_that_are_refused(void **state)
{
    static const struct bad_ask rows[] = {
        {"there is no kind 6", -EINVAL, kind},          {"there is no kind -1", -EINVAL, kind_below},
        {"ends before it begins", -EINVAL, times},      {"there is no comparison 4", -EINVAL, op},
        {"'a-b' is not a label", -EINVAL, label},       {"is not a label", -EINVAL, no_label},
        {"a value of 1099 bytes", -E2BIG, value},       {"not UTF-8", -EINVAL, utf8},
        {"a function of 1099 bytes", -E2BIG, function},
    };
    struct ap_ask ask = {0}, back = {.limit = 77};
    struct ap_buf buf;

    (void)state;
    memset(long_text, 'x', sizeof(long_text) - 1);
    answers_selector(&ask.selector);
    ap_buf_init(&buf, BUF_SZ);
    assert_int_equal(ap_wire_ask_encode(&ask, &buf), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        Aperture__V1__AggregateRequest *message;
        struct ap_error err = {0};
        struct ap_arena arena;
        uint8_t packed[4096];

        ap_arena_init(&arena, 1 << 20);
        message = aperture__v1__aggregate_request__unpack(&arena.allocator, buf.len, (const uint8_t *)buf.data);
        assert_non_null(message);
        rows[i].change(message);
        assert_int_equal(
            ap_wire_ask_decode(packed, aperture__v1__aggregate_request__pack(message, packed), &back, &err),
            rows[i].code);
        if (err.code != rows[i].code || strstr(err.text, rows[i].words) == NULL)
            fail_msg("row %zu, '%s': %s", i, rows[i].words, err.text);
        assert_int_equal(back.limit, 77);
        ap_arena_done(&arena);
    }
    ap_buf_done(&buf);
    ap_ask_done(&ask);
    assert_int_equal(ap_wire_ask_decode("\x0a\x05", 2, &back, NULL), -EINVAL);
}

static void test_too_many_matchers(void **state)
{
    struct ap_ask back = {0};
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    assert_int_equal(ap_buf_append(&buf, "\x0a\xa5\x01", 3), 0); /* 165 bytes of selector */
    for (int i = 0; i < 33; i++)
        assert_int_equal(ap_buf_append(&buf, "\x22\x03\x0a\x01x", 5), 0);
    assert_int_equal(ap_wire_ask_decode(buf.data, buf.len, &back, &err), -E2BIG);
    ap_buf_done(&buf);
    /* A question of megabytes is none. */
    ap_buf_init(&buf, BUF_SZ);
    assert_int_equal(ap_buf_append(&buf, "\x0a\x80\x80\x40", 4), 0);
    for (int i = 0; i < 1 << 19; i++)
        assert_int_equal(ap_buf_append(&buf, "\x22", 2), 0);
    assert_int_equal(ap_wire_ask_decode(buf.data, buf.len, &back, &err), -E2BIG);
    ap_buf_done(&buf);
}

static void test_answers(void **state)
{
    struct ap_batches_answer batches = {0}, batches_back = {0};
    struct ap_stacks_answer stacks = {0}, stacks_back = {0};
    struct ap_diff_answer diff = {0}, diff_back = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    answers_batches(&batches);
    assert_int_equal(ap_wire_batches_encode(&batches, &buf), 0);
    assert_int_equal(ap_wire_batches_decode(buf.data, buf.len, &batches_back, NULL), 0);
    assert_true(answers_same_batches(&batches, &batches_back));
    ap_buf_reset(&buf);
    answers_stacks(&stacks);
    assert_int_equal(ap_wire_stacks_encode(&stacks, &buf), 0);
    assert_int_equal(ap_wire_stacks_decode(buf.data, buf.len, &stacks_back, NULL), 0);
    assert_true(answers_same_stacks(&stacks, &stacks_back));
    ap_buf_reset(&buf);
    answers_diff(&diff);
    assert_int_equal(ap_wire_diff_encode(&diff, &buf), 0);
    assert_int_equal(ap_wire_diff_decode(buf.data, buf.len, &diff_back, NULL), 0);
    assert_true(answers_same_diff(&diff, &diff_back));
    ap_buf_done(&buf);
    ap_batches_answer_done(&batches);
    ap_batches_answer_done(&batches_back);
    ap_stacks_answer_done(&stacks);
    ap_stacks_answer_done(&stacks_back);
    ap_diff_answer_done(&diff);
    ap_diff_answer_done(&diff_back);
}

static void test_aggregates(void **state)
{
    struct ap_aggregate_answer answer = {0}, back = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, BUF_SZ);
    answers_aggregate(&answer);
    assert_int_equal(ap_wire_aggregate_encode(&answer, &buf), 0);
    assert_int_equal(ap_wire_aggregate_decode(buf.data, buf.len, &back, NULL), 0);
    assert_true(answers_same_aggregate(&answer, &back));
    ap_aggregate_answer_done(&back);
    ap_aggregate_answer_done(&answer);
    /* Empty ones, and names that are not UTF-8. */
    ap_buf_reset(&buf);
    answer.functions.rows = calloc(1, sizeof(*answer.functions.rows));
    assert_non_null(answer.functions.rows);
    answer.functions.row_cnt = 1;
    answer.functions.rows[0].function = strdup("f\xff");
    assert_int_equal(ap_wire_aggregate_encode(&answer, &buf), 0);
    assert_int_equal(ap_wire_aggregate_decode(buf.data, buf.len, &back, NULL), 0);
    assert_string_equal(back.functions.rows[0].function, "f\xEF\xBF\xBD");
    assert_string_equal(back.functions.rows[0].module, "");
    assert_string_equal(back.functions.provenance.source, "");
    assert_int_equal(back.tree.node_cnt + back.lock_cnt + back.syscall_cnt, 0);
    ap_aggregate_answer_done(&back);
    ap_aggregate_answer_done(&answer);
    ap_buf_done(&buf);
}

static void test_trees_that_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct ap_aggregate_answer answer = {0}, back = {.lock_cnt = 77};
        struct ap_error err = {0};
        struct ap_buf buf;

        answers_aggregate(&answer);
        switch (i) {
        case 0:
            answer.tree.nodes[2].parent = 2;
            break;
        case 1:
            answer.tree.nodes[1].parent = UINT32_MAX;
            break;
        case 2:
            answer.tree.nodes[1].name = (uint32_t)answer.tree.string_cnt;
            break;
        case 3:
            answer.tree.nodes[1].module = UINT32_MAX;
            break;
        case 4:
            answer.tree.nodes[1].file = UINT32_MAX;
            break;
        case 5:
            answer.tree.nodes[1].kind = 8;
            break;
        case 6:
            answer.functions.rows[0].kind = 8;
            break;
        default:
            answer.functions.provenance.account.expected = UINT64_MAX;
            break;
        }
        ap_buf_init(&buf, BUF_SZ);
        assert_int_equal(ap_wire_aggregate_encode(&answer, &buf), 0);
        assert_int_equal(ap_wire_aggregate_decode(buf.data, buf.len, &back, &err), -EINVAL);
        assert_true(err.text[0] != '\0');
        assert_int_equal(back.lock_cnt, 77);
        ap_aggregate_answer_done(&answer);
        ap_buf_done(&buf);
    }
}

static void test_diffs_that_are_refused(void **state)
{
    const double bad[] = {2, -1.5, NAN, INFINITY};

    (void)state;
    for (size_t i = 0; i < 3 * sizeof(bad) / sizeof(bad[0]); i++) {
        struct ap_diff_answer answer = {0}, back = {0};
        struct ap_buf buf;
        double *field;

        answers_diff(&answer);
        field = i % 3 == 0   ? &answer.rows[0].self_change
                : i % 3 == 1 ? &answer.rows[0].total_change
                             : &answer.rows[0].p_value;
        *field = bad[i / 3];
        ap_buf_init(&buf, BUF_SZ);
        assert_int_equal(ap_wire_diff_encode(&answer, &buf), 0);
        assert_int_equal(ap_wire_diff_decode(buf.data, buf.len, &back, NULL), -EINVAL);
        ap_diff_answer_done(&answer);
        ap_buf_done(&buf);
    }
}

/* Any bytes, as every message. */
static void decode_all(const void *data, size_t len)
{
    struct ap_ask ask = {0};
    struct ap_ask_diff ask_diff = {0};
    struct ap_batches_answer batches = {0};
    struct ap_stacks_answer stacks = {0};
    struct ap_diff_answer diff = {0};
    struct ap_aggregate_answer aggregate = {0};

    (void)ap_wire_ask_decode(data, len, &ask, NULL);
    (void)ap_wire_ask_diff_decode(data, len, &ask_diff, NULL);
    (void)ap_wire_batches_decode(data, len, &batches, NULL);
    (void)ap_wire_stacks_decode(data, len, &stacks, NULL);
    (void)ap_wire_diff_decode(data, len, &diff, NULL);
    (void)ap_wire_aggregate_decode(data, len, &aggregate, NULL);
    ap_ask_done(&ask);
    ap_ask_diff_done(&ask_diff);
    ap_batches_answer_done(&batches);
    ap_stacks_answer_done(&stacks);
    ap_diff_answer_done(&diff);
    ap_aggregate_answer_done(&aggregate);
}

static void test_cut_and_flipped(void **state)
{
    struct ap_aggregate_answer aggregate = {0};
    struct ap_batches_answer batches = {0};
    struct ap_buf buf;

    (void)state;
    answers_aggregate(&aggregate);
    answers_batches(&batches);
    for (int which = 0; which < 2; which++) {
        ap_buf_init(&buf, BUF_SZ);
        assert_int_equal(
            which == 0 ? ap_wire_aggregate_encode(&aggregate, &buf) : ap_wire_batches_encode(&batches, &buf), 0);
        for (size_t i = 0; i < buf.len; i++) {
            decode_all(buf.data, i);
            for (int bit = 0; bit < 8; bit++) {
                buf.data[i] ^= (char)(1 << bit);
                decode_all(buf.data, buf.len);
                buf.data[i] ^= (char)(1 << bit);
            }
        }
        ap_buf_done(&buf);
    }
    ap_aggregate_answer_done(&aggregate);
    ap_batches_answer_done(&batches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks),
        cmocka_unit_test(test_diffs),
        cmocka_unit_test(test_requests_share_their_fields),
        cmocka_unit_test(test_asks_that_are_refused),
        cmocka_unit_test(test_too_many_matchers),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_aggregates),
        cmocka_unit_test(test_trees_that_are_refused),
        cmocka_unit_test(test_diffs_that_are_refused),
        cmocka_unit_test(test_cut_and_flipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
