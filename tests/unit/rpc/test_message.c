/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/internal.h"

#include <errno.h>
#include <grpc/byte_buffer.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX 100000

/* `data` in pieces of `piece` bytes, marked as compressed that way. */
static grpc_byte_buffer *pieces(const void *data, size_t len, size_t piece, grpc_compression_algorithm compression)
{
    grpc_slice slices[64];
    size_t cnt = 0;

    for (size_t at = 0; at < len; at += piece)
        slices[cnt++] = grpc_slice_from_copied_buffer((const char *)data + at, len - at < piece ? len - at : piece);
    grpc_byte_buffer *buffer = grpc_raw_compressed_byte_buffer_create(slices, cnt, compression);
    while (cnt > 0)
        grpc_slice_unref(slices[--cnt]);
    return buffer;
}

/* What zlib makes of it; bits 15 = deflate as gRPC means it, 31 = gzip. */
static size_t compress_it(const void *data, size_t len, int bits, uint8_t *out, size_t out_sz)
{
    z_stream stream = {
        .next_in = (const Bytef *)data, .avail_in = (uInt)len, .next_out = out, .avail_out = (uInt)out_sz};

    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    (void)deflateEnd(&stream);
    return out_sz - stream.avail_out;
}

static void check(grpc_byte_buffer *buffer, size_t max, int wanted, const void *data, size_t len)
{
    grpc_slice slice;
    int rc = ap_rpc_message_read(buffer, max, &slice);

    assert_int_equal(rc, wanted);
    if (rc == 0) {
        assert_int_equal(GRPC_SLICE_LENGTH(slice), len);
        if (len > 0)
            assert_memory_equal(GRPC_SLICE_START_PTR(slice), data, len);
        grpc_slice_unref(slice);
    }
    grpc_byte_buffer_destroy(buffer);
}

static void test_plain(void **state)
{
    (void)state;
    check(ap_rpc_message_new("abc", 3), MAX, 0, "abc", 3);
    check(ap_rpc_message_new(NULL, 0), MAX, 0, "", 0);
    check(pieces("abcdefgh", 8, 3, GRPC_COMPRESS_NONE), MAX, 0, "abcdefgh", 8);
    check(pieces("abcdefgh", 8, 3, GRPC_COMPRESS_NONE), 8, 0, "abcdefgh", 8);
    check(pieces("abcdefgh", 8, 3, GRPC_COMPRESS_NONE), 7, -EMSGSIZE, NULL, 0);
}

static void test_compressed(void **state)
{
    static const int bits[] = {15, 31};
    static const grpc_compression_algorithm names[] = {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP};
    uint8_t *data = (uint8_t *)malloc(MAX);
    uint8_t packed[MAX / 4];

    (void)state;
    for (size_t i = 0; i < MAX; i++)
        data[i] = (uint8_t)(i / 100);
    for (int i = 0; i < 2; i++) {
        size_t len = compress_it(data, MAX, bits[i], packed, sizeof(packed));

        check(pieces(packed, len, 100, names[i]), MAX, 0, data, MAX);
        check(pieces(packed, len, 100, names[i]), MAX - 1, -EMSGSIZE, NULL, 0);
        check(pieces(packed, len, 100, names[i]), 5000, -EMSGSIZE, NULL, 0);
        check(pieces(packed, len - 1, 100, names[i]), MAX, -EBADMSG, NULL, 0);
        packed[len] = 0;
        check(pieces(packed, len + 1, 100, names[i]), MAX, -EBADMSG, NULL, 0);
        packed[len / 2] ^= 0x55;
        check(pieces(packed, len, 100, names[i]), MAX, -EBADMSG, NULL, 0);
        len = compress_it("", 0, bits[i], packed, sizeof(packed));
        check(pieces(packed, len, 100, names[i]), MAX, 0, "", 0);
    }
    check(pieces("abc", 3, 3, GRPC_COMPRESS_GZIP), MAX, -EBADMSG, NULL, 0);
    check(pieces("", 0, 3, GRPC_COMPRESS_GZIP), MAX, -EBADMSG, NULL, 0);
    check(pieces("abc", 3, 3, (grpc_compression_algorithm)77), MAX, -ENOTSUP, NULL, 0);
    free(data);
}

static void test_bomb(void **state)
{
    size_t len = 32u << 20;
    uint8_t *zeros = (uint8_t *)calloc(1, len), *packed = (uint8_t *)malloc(len / 100);

    (void)state;
    size_t packed_len = compress_it(zeros, len, 31, packed, len / 100);
    assert_true(packed_len < 64 * 1024);
    check(pieces(packed, packed_len, 4096, GRPC_COMPRESS_GZIP), 1u << 20, -EMSGSIZE, NULL, 0);
    check(pieces(packed, packed_len, 4096, GRPC_COMPRESS_GZIP), len, 0, zeros, len);
    free(zeros);
    free(packed);
}

static int begin(void **state)
{
    (void)state;
    ap_rpc_core_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    ap_rpc_core_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_bomb),
    };

    return cmocka_run_group_tests_name("message", tests, begin, end);
}
