/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Decodes questions, answers and pushes from anywhere: what is taken comes back the same when it is encoded and decoded
 * again. Input: a byte that says which message, and the message. */
#include "tests/unit/wire/answers.h"
#include "wire/ask.h"
#include "wire/push.h"

#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

/* Decodes, encodes and decodes once more. */
#define ROUND_TRIP(type, stem, done, same, bytes, bytes_len, buf)                                                      \
    do {                                                                                                               \
        type once = {0}, twice = {0};                                                                                  \
                                                                                                                       \
        if (stem##_decode(bytes, bytes_len, &once, NULL) != 0)                                                         \
            break;                                                                                                     \
        CHECK(stem##_encode(&once, buf) == 0);                                                                         \
        CHECK(stem##_decode((buf)->data, (buf)->len, &twice, NULL) == 0);                                              \
        CHECK(same(&once, &twice));                                                                                    \
        done(&once);                                                                                                   \
        done(&twice);                                                                                                  \
    } while (0)

static bool same_ask(const struct ap_ask *a, const struct ap_ask *b)
{
    return a->limit == b->limit && a->max_nodes == b->max_nodes && answers_same_selector(&a->selector, &b->selector);
}

static bool same_diff(const struct ap_ask_diff *a, const struct ap_ask_diff *b)
{
    return a->limit == b->limit && answers_same_selector(&a->before, &b->before) &&
           answers_same_selector(&a->after, &b->after);
}

static void push_request(const uint8_t *data, size_t size, struct ap_buf *buf)
{
    struct ap_wire_push_request once, twice;

    if (ap_wire_push_request_decode(data, size, &once, NULL) != 0)
        return;
    CHECK(once.batch_len <= size);
    CHECK(ap_wire_push_request_encode(once.agent_id, once.epoch, once.sequence, once.batch, once.batch_len, buf) == 0);
    CHECK(ap_wire_push_request_decode(buf->data, buf->len, &twice, NULL) == 0);
    CHECK(strcmp(once.agent_id, twice.agent_id) == 0 && once.epoch == twice.epoch && once.sequence == twice.sequence &&
          once.batch_len == twice.batch_len && memcmp(once.batch, twice.batch, once.batch_len) == 0);
}

static void push_response(const uint8_t *data, size_t size, struct ap_buf *buf)
{
    struct ap_wire_push_response once, twice;

    if (ap_wire_push_response_decode(data, size, &once, NULL) != 0)
        return;
    CHECK(ap_wire_push_response_encode(&once, buf) == 0);
    CHECK(ap_wire_push_response_decode(buf->data, buf->len, &twice, NULL) == 0);
    CHECK(once.duplicate == twice.duplicate && once.pause_ms == twice.pause_ms);
}

/* libFuzzer calls it by name; it declares it nowhere. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_buf buf;

    if (size == 0)
        return 0;
    ap_buf_init(&buf, 256u << 20);
    switch (data[0] % 8) {
    case 0:
        ROUND_TRIP(struct ap_ask, ap_wire_ask, ap_ask_done, same_ask, data + 1, size - 1, &buf);
        break;
    case 1:
        ROUND_TRIP(struct ap_ask_diff, ap_wire_ask_diff, ap_ask_diff_done, same_diff, data + 1, size - 1, &buf);
        break;
    case 2:
        ROUND_TRIP(struct ap_batches_answer, ap_wire_batches, ap_batches_answer_done, answers_same_batches, data + 1,
                   size - 1, &buf);
        break;
    case 3:
        ROUND_TRIP(struct ap_stacks_answer, ap_wire_stacks, ap_stacks_answer_done, answers_same_stacks, data + 1,
                   size - 1, &buf);
        break;
    case 4:
        ROUND_TRIP(struct ap_aggregate_answer, ap_wire_aggregate, ap_aggregate_answer_done, answers_same_aggregate,
                   data + 1, size - 1, &buf);
        break;
    case 5:
        ROUND_TRIP(struct ap_diff_answer, ap_wire_diff, ap_diff_answer_done, answers_same_diff, data + 1, size - 1,
                   &buf);
        break;
    case 6:
        push_request(data + 1, size - 1, &buf);
        break;
    default:
        push_response(data + 1, size - 1, &buf);
        break;
    }
    ap_buf_done(&buf);
    return 0;
}
