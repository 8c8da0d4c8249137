/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/* Levels 1 to 6 differ by a hundredth on columns of small numbers (bench/wire.c): the one that costs an agent least. */
#define LEVEL 1

/* First guess for a frame that does not state its size. */
#define FIRST_SZ ((size_t)1 << 20)

int ap_frame_pack(const void *data, size_t len, size_t max, struct ap_buf *ret, struct ap_error *err)
{
    size_t room = ret->max > ret->len ? ret->max - ret->len : 0, cap = ZSTD_compressBound(len), size;
    void *to;

    if (room > max)
        room = max;
    if (cap > room)
        cap = room;
    to = ap_buf_reserve(ret, cap);
    if (to == NULL)
        return ap_error_errno(err, ret->error, "compressing %zu bytes", len);
    size = ZSTD_compress(to, cap, data, len, LEVEL);
    if (ZSTD_isError(size) && ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall)
        return ap_error_set(err, -E2BIG, "%zu bytes, compressed more than the %zu that are taken", len, cap);
    if (ZSTD_isError(size))
        return ap_error_set(err, -ENOMEM, "compressing %zu bytes: %s", len, ZSTD_getErrorName(size));
    ret->len += size;
    return 0;
}

static int damaged(size_t code, struct ap_error *err)
{
    if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
        return ap_error_errno(err, -ENOMEM, "unpacking a zstd frame");
    return ap_error_set(err, -EINVAL, "the zstd frame is damaged: %s", ZSTD_getErrorName(code));
}

static int too_big(size_t max, struct ap_error *err)
{
    return ap_error_set(err, -E2BIG, "the zstd frame holds more than %zu MiB", max >> 20);
}

/* A frame that states its size is held to it. */
static int unpack_stated(const void *data, size_t len, size_t size, void **ret_data, size_t *ret_len,
                         struct ap_error *err)
{
    void *to = malloc(size + 1);
    size_t done;

    if (to == NULL)
        return ap_error_errno(err, -ENOMEM, "unpacking %zu bytes", size);
    done = ZSTD_decompress(to, size, data, len);
    if (ZSTD_isError(done) || done != size) {
        free(to);
        return ZSTD_isError(done)
                   ? damaged(done, err)
                   : ap_error_set(err, -EINVAL, "the zstd frame states %zu bytes and holds %zu", size, done);
    }
    *ret_data = to;
    *ret_len = size;
    return 0;
}

static int unpack_stream(ZSTD_DCtx *context, const void *data, size_t len, size_t max, ZSTD_outBuffer *out,
                         struct ap_error *err)
{
    ZSTD_inBuffer in = {.src = data, .size = len};
    size_t left = 1;

    while (left != 0) {
        size_t in_pos = in.pos, out_pos = out->pos;

        if (out->pos == out->size) {
            size_t size = out->size == 0 ? FIRST_SZ : out->size * 2;

            /* One byte past the bound tells a frame that is full from one that goes on. */
            if (size > max + 1)
                size = max + 1;
            if (out->pos > max)
                return too_big(max, err);
            void *grown = realloc(out->dst, size);
            if (grown == NULL)
                return ap_error_errno(err, -ENOMEM, "unpacking more than %zu bytes", out->size);
            out->dst = grown;
            out->size = size;
        }
        left = ZSTD_decompressStream(context, out, &in);
        if (ZSTD_isError(left))
            return damaged(left, err);
        if (left != 0 && in.pos == in_pos && out->pos == out_pos)
            return ap_error_set(err, -EINVAL, "the zstd frame is cut short");
    }
    return out->pos <= max ? 0 : too_big(max, err);
}

/* One that does not may grow as far as allowed. */
static int unpack_unstated(const void *data, size_t len, size_t max, void **ret_data, size_t *ret_len,
                           struct ap_error *err)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_outBuffer out = {0};
    int r;

    if (context == NULL)
        return ap_error_errno(err, -ENOMEM, "unpacking a zstd frame");
    r = unpack_stream(context, data, len, max, &out, err);
    ZSTD_freeDCtx(context);
    if (r != 0) {
        free(out.dst);
        return r;
    }
    *ret_data = out.dst;
    *ret_len = out.pos;
    return 0;
}

int ap_frame_unpack(const void *data, size_t len, size_t max, void **ret_data, size_t *ret_len, struct ap_error *err)
{
    size_t frame = ZSTD_findFrameCompressedSize(data, len);
    unsigned long long size = ZSTD_getFrameContentSize(data, len);

    if (ZSTD_isError(frame) || size == ZSTD_CONTENTSIZE_ERROR)
        return ap_error_set(err, -EINVAL, "%zu bytes are not a whole zstd frame", len);
    if (frame != len)
        return ap_error_set(err, -EINVAL, "%zu bytes follow the zstd frame", len - frame);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN)
        return unpack_unstated(data, len, max, ret_data, ret_len, err);
    if (size > max)
        return too_big(max, err);
    return unpack_stated(data, len, (size_t)size, ret_data, ret_len, err);
}
