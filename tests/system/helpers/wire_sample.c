/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* wire-sample WHAT: writes and reads our messages, for a client that knows nothing of this code.
 *
 * push, push-empty      writes a PushRequest with a batch of one of everything, or without profiles
 * read-push             reads a PushRequest from stdin, writes what is in it as JSON
 * ask, ask-diff, batches, stacks, aggregate, diff, response
 *                       write that message
 * read-ask              reads a question, writes what is in it as JSON
 * again-WHAT            reads a batches, stacks, aggregate or diff message and writes it again
 *
 * Ends with 1 and the words when a message is refused. */
#include "format/format.h"
#include "tests/unit/wire/answers.h"
#include "tests/unit/wire/sample.h"
#include "wire/ask.h"
#include "wire/push.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_SZ (64u << 20)

static int refused(const struct ap_error *err)
{
    fprintf(stderr, "wire-sample: %s\n", err->text);
    return 1;
}

static void read_all(struct ap_buf *buf)
{
    for (;;) {
        void *to = ap_buf_reserve(buf, 65536);
        ssize_t len;

        sample_check(to != NULL);
        len = read(STDIN_FILENO, to, 65536);
        sample_check(len >= 0);
        if (len == 0)
            return;
        buf->len += (size_t)len;
    }
}

static int write_push(struct ap_push *push, struct ap_buf *buf)
{
    struct ap_error err = {0};
    struct ap_buf batch;
    int r;

    ap_buf_init(&batch, AP_WIRE_BATCH_SZ);
    r = ap_wire_batch_encode(push, &batch, &err);
    if (r == 0)
        r = ap_wire_push_request_encode("host-7:sample", 1ULL << 63, 42, batch.data, batch.len, buf);
    ap_buf_done(&batch);
    ap_push_free(push);
    return r == 0 ? 0 : refused(&err);
}

/* The document of the capture has everything but what is written around it. */
static int read_push(const struct ap_buf *in, struct ap_buf *buf)
{
    struct ap_wire_push_request request;
    struct ap_error err = {0};
    struct ap_push *push;
    struct ap_out *out;

    if (ap_wire_push_request_decode(in->data, in->len, &request, &err) != 0)
        return refused(&err);
    push = ap_wire_batch_decode(request.batch, request.batch_len, &err);
    if (push == NULL)
        return refused(&err);
    out = ap_out_new_buf(buf);
    sample_check(out != NULL);
    ap_out_printf(out, "{\"agent_id\":\"%s\",\"epoch\":%" PRIu64 ",\"sequence\":%" PRIu64 ",\"start_ns\":%" PRIu64,
                  request.agent_id, request.epoch, request.sequence, push->start_ns);
    ap_out_printf(out, ",\"duration_ns\":%" PRIu64 ",\"spool_bytes\":%" PRIu64 ",\"labels\":{", push->duration_ns,
                  push->spool_bytes);
    for (size_t i = 0; i < push->label_cnt; i++) {
        ap_out_str(out, i > 0 ? "," : "");
        ap_out_json_str(out, push->labels[i].name, false);
        ap_out_char(out, ':');
        ap_out_json_str(out, push->labels[i].value, false);
    }
    ap_out_str(out, "},\"slots\":[");
    for (uint32_t i = 0; push->capture->profile_cnt > 0 && i < push->capture->profiles[0]->sample_cnt; i++)
        ap_out_printf(out, "%s%" PRIu32, i > 0 ? "," : "", push->capture->profiles[0]->samples[i].slot);
    ap_out_str(out, "],\"document\":");
    if (push->capture->profile_cnt > 0)
        sample_check(ap_format_write(AP_FORMAT_JSON, push->capture, 0, out) == 0);
    else
        ap_out_str(out, "null");
    ap_out_char(out, '}');
    sample_check(ap_out_flush(out) == 0);
    ap_out_free(out);
    ap_push_free(push);
    return 0;
}

static int read_ask(const struct ap_buf *in, struct ap_buf *buf)
{
    struct ap_error err = {0};
    struct ap_ask ask = {0};
    struct ap_out *out;

    if (ap_wire_ask_decode(in->data, in->len, &ask, &err) != 0)
        return refused(&err);
    out = ap_out_new_buf(buf);
    sample_check(out != NULL);
    ap_out_printf(out,
                  "{\"kind\":%u,\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"limit\":%u,\"max_nodes\":%u,\"regex\":%s",
                  ask.selector.kind, ask.selector.from_ns, ask.selector.to_ns, ask.limit, ask.max_nodes,
                  ask.selector.function_regex ? "true" : "false");
    ap_out_str(out, ",\"function\":");
    ap_out_json_str(out, ask.selector.function, false);
    ap_out_str(out, ",\"matchers\":[");
    for (size_t i = 0; i < ask.selector.matcher_cnt; i++) {
        ap_out_str(out, i > 0 ? ",[" : "[");
        ap_out_json_str(out, ask.selector.matchers[i].label, false);
        ap_out_printf(out, ",%u,", ask.selector.matchers[i].op);
        ap_out_json_str(out, ask.selector.matchers[i].value, false);
        ap_out_char(out, ']');
    }
    ap_out_str(out, "]}");
    sample_check(ap_out_flush(out) == 0);
    ap_out_free(out);
    ap_ask_done(&ask);
    return 0;
}

/* Writes the sample of a message, or with `in` what was read. */
#define ANSWER(type, stem, sample, done)                                                                               \
    static int stem(const struct ap_buf *in, struct ap_buf *buf)                                                       \
    {                                                                                                                  \
        struct ap_error err = {0};                                                                                     \
        type answer = {0};                                                                                             \
        int r = 0;                                                                                                     \
                                                                                                                       \
        if (in == NULL)                                                                                                \
            sample(&answer);                                                                                           \
        else if (ap_wire_##stem##_decode(in->data, in->len, &answer, &err) != 0)                                       \
            return refused(&err);                                                                                      \
        r = ap_wire_##stem##_encode(&answer, buf);                                                                     \
        done(&answer);                                                                                                 \
        return r;                                                                                                      \
    }

static void sample_ask(struct ap_ask *ask)
{
    answers_selector(&ask->selector);
    ask->limit = 10;
    ask->max_nodes = 500;
}

static void sample_ask_diff(struct ap_ask_diff *ask)
{
    answers_selector(&ask->before);
    ask->after.kind = AP_KIND_CPU;
    ask->limit = 20;
}

static void sample_response(struct ap_wire_push_response *response)
{
    *response = (struct ap_wire_push_response){.duplicate = true, .pause_ms = 1500};
}

static void nothing(const void *message)
{
    (void)message;
}

ANSWER(struct ap_ask, ask, sample_ask, ap_ask_done)
ANSWER(struct ap_ask_diff, ask_diff, sample_ask_diff, ap_ask_diff_done)
ANSWER(struct ap_batches_answer, batches, answers_batches, ap_batches_answer_done)
ANSWER(struct ap_stacks_answer, stacks, answers_stacks, ap_stacks_answer_done)
ANSWER(struct ap_aggregate_answer, aggregate, answers_aggregate, ap_aggregate_answer_done)
ANSWER(struct ap_diff_answer, diff, answers_diff, ap_diff_answer_done)
ANSWER(struct ap_wire_push_response, push_response, sample_response, nothing)

static int run(const char *what, struct ap_buf *in, struct ap_buf *buf)
{
    static const struct {
        const char *name;
        int (*write)(const struct ap_buf *in, struct ap_buf *buf);
    } messages[] = {
        {"ask", ask},   {"ask-diff", ask_diff},      {"batches", batches}, {"stacks", stacks}, {"aggregate", aggregate},
        {"diff", diff}, {"response", push_response},
    };
    bool again = strncmp(what, "again-", strlen("again-")) == 0;

    if (strcmp(what, "push") == 0)
        return write_push(sample_push(), buf);
    if (strcmp(what, "push-empty") == 0)
        return write_push(sample_empty(), buf);
    if (again || strncmp(what, "read-", strlen("read-")) == 0)
        read_all(in);
    if (strcmp(what, "read-push") == 0)
        return read_push(in, buf);
    if (strcmp(what, "read-ask") == 0)
        return read_ask(in, buf);
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
        if (strcmp(what + (again ? strlen("again-") : 0), messages[i].name) == 0)
            return messages[i].write(again ? in : NULL, buf);
    fprintf(stderr, "wire-sample: what is '%s'?\n", what);
    return 2;
}

int main(int argc, char **argv)
{
    struct ap_buf in, buf;
    int r;

    ap_buf_init(&in, MESSAGE_SZ);
    ap_buf_init(&buf, MESSAGE_SZ);
    r = run(argc > 1 ? argv[1] : "", &in, &buf);
    if (r == 0 && fwrite(buf.data, 1, buf.len, stdout) != buf.len)
        r = 1;
    if (fflush(stdout) != 0)
        r = 1;
    ap_buf_done(&in);
    ap_buf_done(&buf);
    return r;
}
