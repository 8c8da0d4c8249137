/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/push.h"

#include "proto/aperture/v1/aggregator.pb-c.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_request(void **state)
{
    struct ap_wire_push_request request = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, 1 << 20);
    assert_int_equal(ap_wire_push_request_encode("host-1:a", UINT64_MAX, 300, "bat\0ch", 6, &buf), 0);
    assert_int_equal(ap_wire_push_request_decode(buf.data, buf.len, &request, NULL), 0);
    assert_string_equal(request.agent_id, "host-1:a");
    assert_true(request.epoch == UINT64_MAX);
    assert_int_equal(request.sequence, 300);
    assert_int_equal(request.batch_len, 6);
    assert_memory_equal(request.batch, "bat\0ch", 6);
    ap_buf_done(&buf);
    ap_buf_init(&buf, 10);
    assert_int_equal(ap_wire_push_request_encode("host-1:a", 1, 1, "batch", 5, &buf), -ENOSPC);
    ap_buf_done(&buf);
}

/* What is written by hand is what protobuf-c reads and writes. */
static void test_request_is_protobuf(void **state)
{
    Aperture__V1__PushRequest message, *read;
    struct ap_wire_push_request request = {0};
    char id[] = "h";
    uint8_t batch[300] = {1, 2, 3}, packed[400];
    struct ap_buf buf;
    size_t len;

    (void)state;
    aperture__v1__push_request__init(&message);
    message.agent_id = id;
    message.epoch = 1ULL << 63;
    message.sequence = 1;
    message.batch.data = batch;
    message.batch.len = sizeof(batch);
    len = aperture__v1__push_request__pack(&message, packed);
    ap_buf_init(&buf, 1 << 20);
    assert_int_equal(ap_wire_push_request_encode("h", 1ULL << 63, 1, batch, sizeof(batch), &buf), 0);
    assert_int_equal(buf.len, len);
    assert_memory_equal(buf.data, packed, len);
    read = aperture__v1__push_request__unpack(NULL, buf.len, (const uint8_t *)buf.data);
    assert_non_null(read);
    assert_string_equal(read->agent_id, "h");
    aperture__v1__push_request__free_unpacked(read, NULL);
    /* Fields of later versions, of every wire type, are passed over. */
    assert_int_equal(ap_buf_append(&buf, "\x28\x05\x31zzzzzzzz\x3a\x02xx\x45yyyy", 20), 0);
    assert_int_equal(ap_wire_push_request_decode(buf.data, buf.len, &request, NULL), 0);
    assert_int_equal(request.batch_len, 300);
    ap_buf_done(&buf);
}

static int decode(const char *agent_id, uint64_t sequence, size_t batch_len)
{
    struct ap_wire_push_request request = {.sequence = 77};
    struct ap_error err = {0};
    struct ap_buf buf;
    int r;

    ap_buf_init(&buf, 1 << 20);
    assert_int_equal(ap_wire_push_request_encode(agent_id, 1, sequence, "batch", batch_len, &buf), 0);
    r = ap_wire_push_request_decode(buf.data, buf.len, &request, &err);
    assert_true(r == 0 || (request.sequence == 77 && err.code == r && err.text[0] != '\0'));
    ap_buf_done(&buf);
    return r;
}

static void test_requests_that_are_refused(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } rows[] = {
        {"", 0},
        {"\x0a", 1},                                          /* no length */
        {"\x0a\x05xy", 4},                                    /* cut */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* a length of 64 bits */
        {"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
        {"\x00\x01", 2}, /* field 0 */
        {"\x0b\x0c", 2}, /* groups */
        {"\x31zzz", 4},  /* cut */
        {"\x35zzz", 4},  /* cut */
        {"\x0a\x03"
         "a\0b\x18\x01\x22\x01x",
         10},                             /* zero byte */
        {"\x0a\x01h\x18\x01\x20\x01", 7}, /* the batch as a number */
    };
    char text[AP_PUSH_AGENT_ID_SZ + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ap_wire_push_request request = {.sequence = 77};
        struct ap_error err = {0};

        assert_int_equal(ap_wire_push_request_decode(rows[i].data, rows[i].len, &request, &err), -EINVAL);
        assert_int_equal(request.sequence, 77);
        assert_true(err.text[0] != '\0');
    }
    assert_int_equal(ap_wire_push_request_decode(NULL, 0, &(struct ap_wire_push_request){0}, NULL), -EINVAL);
    assert_int_equal(decode("h", 1, 1), 0);
    assert_int_equal(decode("", 1, 1), -EINVAL);
    assert_int_equal(decode("a b", 1, 1), -EINVAL);
    assert_int_equal(decode("h", 0, 1), -EINVAL);
    assert_int_equal(decode("h", 1, 0), -EINVAL);
    memset(text, 'x', sizeof(text));
    text[AP_PUSH_AGENT_ID_SZ] = '\0';
    assert_int_equal(decode(text, 1, 1), -EINVAL);
    text[AP_PUSH_AGENT_ID_SZ - 1] = '\0';
    assert_int_equal(decode(text, 1, 1), 0);
}

static void test_response(void **state)
{
    struct ap_wire_push_response response = {0};
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, 1 << 20);
    assert_int_equal(
        ap_wire_push_response_encode(&(struct ap_wire_push_response){.duplicate = true, .pause_ms = 1500}, &buf), 0);
    assert_int_equal(ap_wire_push_response_decode(buf.data, buf.len, &response, NULL), 0);
    assert_true(response.duplicate);
    assert_int_equal(response.pause_ms, 1500);
    assert_int_equal(ap_wire_push_response_decode("\x10", 1, &response, &err), -EINVAL);
    assert_int_equal(ap_wire_push_response_decode("\x10", 1, &response, NULL), -EINVAL);
    assert_int_equal(response.pause_ms, 1500);
    /* All zero is no bytes at all. */
    ap_buf_reset(&buf);
    assert_int_equal(ap_wire_push_response_encode(&(struct ap_wire_push_response){0}, &buf), 0);
    assert_int_equal(buf.len, 0);
    assert_int_equal(ap_wire_push_response_decode(buf.data, buf.len, &response, NULL), 0);
    assert_int_equal(response.pause_ms, 0);
    ap_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_request_is_protobuf),
        cmocka_unit_test(test_requests_that_are_refused),
        cmocka_unit_test(test_response),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
