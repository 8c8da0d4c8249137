/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What strangers send to a server of src/rpc, as far as it is read here: a health request, a compressed message; and
 * addresses. The first byte chooses. */
#include "rpc/address.h"
#include "rpc/internal.h"

#include <grpc/byte_buffer.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX (1u << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    ap_rpc_core_begin();
    return 0;
}

static void read_health(const uint8_t *data, size_t size)
{
    const char *service;
    size_t len;

    if (ap_rpc_health_parse(data, size, &service, &len) == 0 && len > size)
        abort();
}

static void read_message(const uint8_t *data, size_t size, grpc_compression_algorithm compression)
{
    grpc_slice halves[2] = {grpc_slice_from_copied_buffer((const char *)data, size / 2),
                            grpc_slice_from_copied_buffer((const char *)data + size / 2, size - size / 2)};
    grpc_byte_buffer *buffer = grpc_raw_compressed_byte_buffer_create(halves, 2, compression);
    grpc_slice slice;

    if (ap_rpc_message_read(buffer, MESSAGE_MAX, &slice) == 0) {
        if (GRPC_SLICE_LENGTH(slice) > MESSAGE_MAX)
            abort();
        grpc_slice_unref(slice);
    }
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(halves[0]);
    grpc_slice_unref(halves[1]);
}

/* Whatever is accepted can be written as a target. */
static void read_address(const uint8_t *data, size_t size)
{
    char *text = (char *)malloc(size + 1), target[AP_RPC_TARGET_SZ];
    struct ap_rpc_address address;
    struct ap_error err;

    if (!text)
        return;
    memcpy(text, data, size);
    text[size] = '\0';
    if (ap_rpc_parse_listen(text, &address, &err) == 0)
        ap_rpc_target(&address, target);
    if (ap_rpc_parse_endpoint(text, &address, &err) == 0)
        ap_rpc_target(&address, target);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0:
        read_health(data + 1, size - 1);
        break;
    case 1:
        read_message(data + 1, size - 1, GRPC_COMPRESS_GZIP);
        break;
    case 2:
        read_message(data + 1, size - 1, GRPC_COMPRESS_NONE);
        break;
    default:
        read_address(data + 1, size - 1);
        break;
    }
    return 0;
}
