/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/push.h"

#include "proto/aperture/v1/aggregator.pb-c.h"
#include "wire/message.h"

#include <errno.h>
#include <string.h>

/* Most that is made of a request or an answer beside the batch's bytes: these messages have a few small fields. */
#define MESSAGE_SZ ((size_t)1 << 20)

/* Field numbers and wire types: the request is read and written by hand, so that the batch is not copied twice. */
enum {
    REQUEST_AGENT_ID = 1,
    REQUEST_EPOCH = 2,
    REQUEST_SEQUENCE = 3,
    REQUEST_BATCH = 4,
};
enum {
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_BYTES = 2,
    WIRE_32 = 5,
};
#define VARINT_SZ 10

static size_t put_varint(uint8_t to[VARINT_SZ], uint64_t value)
{
    size_t len = 0;

    for (; value >= 0x80; value >>= 7)
        to[len++] = (uint8_t)(value | 0x80);
    to[len++] = (uint8_t)value;
    return len;
}

static void put_number(struct ap_buf *ret, unsigned field, uint64_t value)
{
    uint8_t bytes[1 + VARINT_SZ] = {(uint8_t)(field << 3 | WIRE_VARINT)};

    if (value != 0)
        (void)ap_buf_append(ret, bytes, 1 + put_varint(bytes + 1, value));
}

static void put_bytes(struct ap_buf *ret, unsigned field, const void *data, size_t len)
{
    uint8_t bytes[1 + VARINT_SZ] = {(uint8_t)(field << 3 | WIRE_BYTES)};

    if (len == 0)
        return;
    (void)ap_buf_append(ret, bytes, 1 + put_varint(bytes + 1, len));
    (void)ap_buf_append(ret, data, len);
}

int ap_wire_push_request_encode(const char *agent_id, uint64_t epoch, uint64_t sequence, const void *batch,
                                size_t batch_len, struct ap_buf *ret)
{
    put_bytes(ret, REQUEST_AGENT_ID, agent_id, strlen(agent_id));
    put_number(ret, REQUEST_EPOCH, epoch);
    put_number(ret, REQUEST_SEQUENCE, sequence);
    put_bytes(ret, REQUEST_BATCH, batch, batch_len);
    return ret->error;
}

struct reader {
    const uint8_t *p, *end;
};

static bool get_varint(struct reader *in, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && in->p < in->end; shift += 7) {
        uint8_t byte = *in->p++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* Reads a field: a number into *ret_value, or bytes into *ret_data with their length in *ret_value. */
static bool get_field(struct reader *in, uint64_t *ret_key, uint64_t *ret_value, const uint8_t **ret_data)
{
    size_t left;

    if (!get_varint(in, ret_key) || *ret_key >> 3 == 0)
        return false;
    switch (*ret_key & 7) {
    case WIRE_VARINT:
        return get_varint(in, ret_value);
    case WIRE_64:
        *ret_value = 8;
        break;
    case WIRE_32:
        *ret_value = 4;
        break;
    case WIRE_BYTES:
        if (!get_varint(in, ret_value))
            return false;
        break;
    default:
        return false;
    }
    left = (size_t)(in->end - in->p);
    if (*ret_value > left)
        return false;
    *ret_data = in->p;
    in->p += *ret_value;
    return true;
}

static int get_request(struct reader *in, struct ap_wire_push_request *ret, struct ap_error *err)
{
    while (in->p < in->end) {
        const uint8_t *data = NULL;
        uint64_t key = 0, value = 0;

        if (!get_field(in, &key, &value, &data))
            return ap_error_set(err, -EINVAL, "the push request is malformed");
        switch (key) {
        case REQUEST_AGENT_ID << 3 | WIRE_BYTES:
            if (value >= sizeof(ret->agent_id))
                return ap_error_set(err, -EINVAL, "an agent id of %zu bytes: at most %zu are taken", (size_t)value,
                                    sizeof(ret->agent_id) - 1);
            if (value != 0)
                memcpy(ret->agent_id, data, value);
            ret->agent_id[value] = '\0';
            if (strlen(ret->agent_id) != value)
                return ap_error_set(err, -EINVAL, "an agent id that holds a zero byte");
            break;
        case REQUEST_EPOCH << 3 | WIRE_VARINT:
            ret->epoch = value;
            break;
        case REQUEST_SEQUENCE << 3 | WIRE_VARINT:
            ret->sequence = value;
            break;
        case REQUEST_BATCH << 3 | WIRE_BYTES:
            ret->batch = data;
            ret->batch_len = value;
            break;
        default: /* a field of a later version */
            break;
        }
    }
    return 0;
}

int ap_wire_push_request_decode(const void *data, size_t len, struct ap_wire_push_request *ret, struct ap_error *err)
{
    struct ap_wire_push_request request = {0};
    struct reader in = {.p = data, .end = len != 0 ? (const uint8_t *)data + len : data};
    int r = get_request(&in, &request, err);

    if (r != 0)
        return r;
    if (!ap_push_agent_id_valid(request.agent_id))
        return ap_error_set(err, -EINVAL, "the agent id is not 1 to %d bytes of [A-Za-z0-9._:-]",
                            AP_PUSH_AGENT_ID_SZ - 1);
    if (request.sequence == 0)
        return ap_error_set(err, -EINVAL, "agent %s: a batch without a sequence number (they begin with 1)",
                            request.agent_id);
    if (request.batch_len == 0)
        return ap_error_set(err, -EINVAL, "agent %s: a push without a batch", request.agent_id);
    *ret = request;
    return 0;
}

int ap_wire_push_response_encode(const struct ap_wire_push_response *response, struct ap_buf *ret)
{
    Aperture__V1__PushResponse message = APERTURE__V1__PUSH_RESPONSE__INIT;

    message.duplicate = response->duplicate;
    message.pause_ms = response->pause_ms;
    return ap_message_pack(&message.base, ret);
}

int ap_wire_push_response_decode(const void *data, size_t len, struct ap_wire_push_response *ret, struct ap_error *err)
{
    const Aperture__V1__PushResponse *message;
    struct ap_error unread;
    struct ap_arena arena;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, MESSAGE_SZ);
    message =
        ap_message_unpack(&aperture__v1__push_response__descriptor, data, len, "the answer to a push", &arena, err);
    if (message != NULL)
        *ret = (struct ap_wire_push_response){.duplicate = message->duplicate, .pause_ms = message->pause_ms};
    ap_arena_done(&arena);
    return message != NULL ? 0 : err->code;
}
