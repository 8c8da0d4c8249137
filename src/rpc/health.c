/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The two messages of grpc.health.v1, small enough to be read and written by hand.
 * HealthCheckRequest { string service = 1; }   HealthCheckResponse { ServingStatus status = 1; } */
#include "rpc/internal.h"

#include <errno.h>

/* Tags: field number << 3 | wire type (protobuf's encoding guide). */
#define TAG_SERVICE 0x0A
#define TAG_STATUS  0x08

enum wire { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };
enum serving { SERVING = 1, NOT_SERVING = 2 };

struct reader {
    const uint8_t *at, *end;
};

static int read_varint(struct reader *reader, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->at == reader->end)
            return -EBADMSG;
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return -EBADMSG;
}

/* Length of the field's contents, which begin at reader->at; a number has none left. */
static int read_field(struct reader *reader, unsigned wire, uint64_t *ret_len)
{
    uint64_t len = 0;

    switch (wire) {
    case WIRE_VARINT:
        if (read_varint(reader, &len) < 0)
            return -EBADMSG;
        len = 0;
        break;
    case WIRE_I64:
        len = 8;
        break;
    case WIRE_LEN:
        if (read_varint(reader, &len) < 0)
            return -EBADMSG;
        break;
    case WIRE_I32:
        len = 4;
        break;
    default:
        return -EBADMSG;
    }
    if (len > (uint64_t)(reader->end - reader->at))
        return -EBADMSG;
    *ret_len = len;
    return 0;
}

int ap_rpc_health_parse(const void *data, size_t len, const char **ret_service, size_t *ret_len)
{
    struct reader reader = {.at = (const uint8_t *)data};
    const char *service = "";
    size_t service_len = 0;

    reader.end = len > 0 ? reader.at + len : reader.at;
    while (reader.at != reader.end) {
        uint64_t tag, field_len;

        if (read_varint(&reader, &tag) < 0 || read_field(&reader, tag & 7, &field_len) < 0)
            return -EBADMSG;
        if (tag == TAG_SERVICE) {
            service = (const char *)reader.at;
            service_len = (size_t)field_len;
        }
        reader.at += field_len;
    }
    *ret_service = service;
    *ret_len = service_len;
    return 0;
}

void ap_rpc_health_write(bool serving, uint8_t ret_data[AP_RPC_HEALTH_SZ])
{
    ret_data[0] = TAG_STATUS;
    ret_data[1] = serving ? SERVING : NOT_SERVING;
}
