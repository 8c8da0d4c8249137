/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define ZLIB_CONST /* input pointers are const */

#include "api/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* Answers are made once and read once: what a level more saves on the wire is not worth its time. */
#define ZLIB_LEVEL 4
#define ZSTD_LEVEL 3
#define PART_SZ    (64u << 10)

struct ap_api_sink {
    enum ap_api_encoding wanted, encoding; /* encoding: once begun */
    struct ap_out *out;
    struct ap_buf data;
    atomic_size_t *held;
    size_t held_max, counted;
    z_stream zip;
    ZSTD_CCtx *zstd;
    bool zip_open;
};

/* Keeps bytes that are ready to be sent. */
static int keep(struct ap_api_sink *sink, const void *data, size_t len)
{
    int r;

    if (len == 0)
        return 0;
    if (atomic_fetch_add(sink->held, len) + len > sink->held_max) {
        atomic_fetch_sub(sink->held, len);
        return -EAGAIN;
    }
    sink->counted += len;
    r = ap_buf_append(&sink->data, data, len);
    return r == -ENOSPC ? -E2BIG : r;
}

static int deflate_part(struct ap_api_sink *sink, const void *data, size_t len, bool end)
{
    unsigned char part[PART_SZ];
    int r;

    sink->zip.next_in = data;
    sink->zip.avail_in = (uInt)len; /* at most what ap_out or a name holds: far below 4 GiB */
    do {
        sink->zip.next_out = part;
        sink->zip.avail_out = sizeof(part);
        if (deflate(&sink->zip, end ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_ERROR)
            return -EIO;
        r = keep(sink, part, sizeof(part) - sink->zip.avail_out);
    } while (r == 0 && sink->zip.avail_out == 0);
    return r;
}

static int zstd_part(struct ap_api_sink *sink, const void *data, size_t len, bool end)
{
    ZSTD_inBuffer in = {data, len, 0};
    unsigned char part[PART_SZ];
    size_t left;

    do {
        ZSTD_outBuffer out = {part, sizeof(part), 0};
        int r;

        left = ZSTD_compressStream2(sink->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return -ENOMEM;
        r = keep(sink, part, out.pos);
        if (r != 0)
            return r;
    } while (in.pos < in.size || (end && left > 0));
    return 0;
}

static int encode(struct ap_api_sink *sink, const void *data, size_t len, bool end)
{
    switch (sink->encoding) {
    case AP_API_ZSTD:
        return zstd_part(sink, data, len, end);
    case AP_API_GZIP:
    case AP_API_DEFLATE:
        return deflate_part(sink, data, len, end);
    case AP_API_IDENTITY:
        break;
    }
    return keep(sink, data, len);
}

/* Begins to compress what was kept as it came. */
static int begin(struct ap_api_sink *sink)
{
    struct ap_buf plain = sink->data;
    int r;

    if (sink->wanted == AP_API_ZSTD) {
        sink->zstd = ZSTD_createCCtx();
        if (sink->zstd == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)))
            return -ENOMEM;
    } else {
        /* 15: the largest window; 16 more: in a gzip wrapper instead of zlib's, which HTTP calls "deflate". */
        if (deflateInit2(&sink->zip, ZLIB_LEVEL, Z_DEFLATED, sink->wanted == AP_API_GZIP ? 15 + 16 : 15, 8,
                         Z_DEFAULT_STRATEGY) != Z_OK)
            return -ENOMEM;
        sink->zip_open = true;
    }
    sink->encoding = sink->wanted;
    ap_buf_init(&sink->data, plain.max);
    atomic_fetch_sub(sink->held, sink->counted);
    sink->counted = 0;
    r = encode(sink, plain.data, plain.len, false);
    ap_buf_done(&plain);
    return r;
}

static int write_part(void *ctx, const void *data, size_t len)
{
    struct ap_api_sink *sink = ctx;

    if (sink->wanted != AP_API_IDENTITY && sink->encoding == AP_API_IDENTITY &&
        sink->data.len + len >= AP_API_COMPRESS_SZ) {
        int r = begin(sink);

        if (r != 0)
            return r;
    }
    return encode(sink, data, len, false);
}

struct ap_api_sink *ap_api_sink_new(enum ap_api_encoding encoding, size_t max, atomic_size_t *held, size_t held_max)
{
    struct ap_api_sink *sink = calloc(1, sizeof(*sink));

    if (sink == NULL)
        return NULL;
    sink->wanted = encoding;
    sink->held = held;
    sink->held_max = held_max;
    ap_buf_init(&sink->data, max);
    sink->out = ap_out_new(write_part, sink);
    return sink->out != NULL ? sink : ap_api_sink_free(sink);
}

static void forget(struct ap_api_sink *sink)
{
    if (sink->zip_open)
        deflateEnd(&sink->zip);
    sink->zip_open = false;
    sink->zip = (z_stream){0};
    ZSTD_freeCCtx(sink->zstd);
    sink->zstd = NULL;
    ap_buf_done(&sink->data);
    atomic_fetch_sub(sink->held, sink->counted);
    sink->counted = 0;
}

struct ap_api_sink *ap_api_sink_free(struct ap_api_sink *sink)
{
    if (sink == NULL)
        return NULL;
    forget(sink);
    ap_out_free(sink->out);
    free(sink);
    return NULL;
}

struct ap_out *ap_api_sink_out(struct ap_api_sink *sink)
{
    return sink->out;
}

void ap_api_sink_reset(struct ap_api_sink *sink)
{
    size_t max = sink->data.max;
    struct ap_out *out = ap_out_new(write_part, sink);

    forget(sink);
    ap_buf_init(&sink->data, max);
    sink->wanted = sink->encoding = AP_API_IDENTITY;
    if (out == NULL)
        return; /* the old one keeps its error: the answer fails */
    ap_out_free(sink->out);
    sink->out = out;
}

int ap_api_sink_take(struct ap_api_sink *sink, char **ret_data, size_t *ret_len, enum ap_api_encoding *ret_encoding)
{
    int r = ap_out_flush(sink->out);

    if (r == 0 && sink->encoding != AP_API_IDENTITY)
        r = encode(sink, "", 0, true);
    if (r != 0)
        return r;
    *ret_data = sink->data.data;
    *ret_len = sink->data.len;
    *ret_encoding = sink->encoding;
    sink->data.data = NULL;
    sink->data.len = 0;
    sink->counted = 0; /* the caller's now */
    return 0;
}
