/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/internal.h"

#include <errno.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <string.h>
#include <zlib.h>

/* 32: zlib finds out itself whether gzip or zlib data follow. Both of gRPC's compressions are one of them. */
#define WINDOW_BITS (MAX_WBITS + 32)

/* First guess of what compressed data become. */
#define INFLATE_RATIO 4
#define INFLATE_MIN   4096

grpc_byte_buffer *ap_rpc_message_new(const void *data, size_t len)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)data, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}

/* Doubles the slice, up to `max` + 1 bytes: the one more tells that the data are too long. 0 or -EMSGSIZE. */
static int grow(grpc_slice *out, size_t max)
{
    size_t len = GRPC_SLICE_LENGTH(*out);

    if (len > max)
        return -EMSGSIZE;
    size_t cap = len > (max + 1) / 2 ? max + 1 : len * 2;
    grpc_slice bigger = grpc_slice_malloc(cap);
    memcpy(GRPC_SLICE_START_PTR(bigger), GRPC_SLICE_START_PTR(*out), len);
    grpc_slice_unref(*out);
    *out = bigger;
    return 0;
}

static int inflate_slice(grpc_slice in, size_t max, grpc_slice *ret_slice)
{
    size_t in_len = GRPC_SLICE_LENGTH(in);
    size_t guess = in_len > max / INFLATE_RATIO ? max : in_len * INFLATE_RATIO;
    z_stream stream = {.next_in = GRPC_SLICE_START_PTR(in), .avail_in = (uInt)in_len};
    size_t done = 0;
    int rc = 0;

    if (in_len > UINT32_MAX || inflateInit2(&stream, WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    grpc_slice out = grpc_slice_malloc((guess > INFLATE_MIN ? guess : INFLATE_MIN) + 1);
    while (rc == 0) {
        stream.next_out = GRPC_SLICE_START_PTR(out) + done;
        stream.avail_out = (uInt)(GRPC_SLICE_LENGTH(out) - done);
        int state = inflate(&stream, Z_NO_FLUSH);
        done = GRPC_SLICE_LENGTH(out) - stream.avail_out;
        if (state == Z_STREAM_END)
            break;
        if (state != Z_OK || stream.avail_out > 0)
            rc = -EBADMSG; /* damaged, or it ends too early */
        else
            rc = grow(&out, max);
    }
    /* One stream is one message: nothing may follow it. */
    if (rc == 0 && stream.avail_in > 0)
        rc = -EBADMSG;
    (void)inflateEnd(&stream);
    if (rc == 0 && done > max)
        rc = -EMSGSIZE;
    if (rc < 0) {
        grpc_slice_unref(out);
        return rc;
    }
    *ret_slice = grpc_slice_sub(out, 0, done);
    grpc_slice_unref(out);
    return 0;
}

int ap_rpc_message_read(grpc_byte_buffer *buffer, size_t max, grpc_slice *ret_slice)
{
    grpc_compression_algorithm compression = buffer->data.raw.compression;
    grpc_byte_buffer_reader reader;

    if (grpc_byte_buffer_length(buffer) > max)
        return -EMSGSIZE;
    if (compression != GRPC_COMPRESS_NONE && compression != GRPC_COMPRESS_GZIP && compression != GRPC_COMPRESS_DEFLATE)
        return -ENOTSUP;
    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return -EBADMSG;
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    if (compression == GRPC_COMPRESS_NONE) {
        *ret_slice = slice;
        return 0;
    }
    int rc = inflate_slice(slice, max, ret_slice);
    grpc_slice_unref(slice);
    return rc;
}
