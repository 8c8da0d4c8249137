/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/out.h"

#include "core/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes collected before the sink is called: few system calls, still within the L1 and L2 caches. */
#define OUT_SZ ((size_t)32 * 1024)

struct ap_out {
    ap_out_fn fn;
    void *ctx;
    int fd;
    int error;
    uint64_t total;
    size_t len;
    char data[OUT_SZ + 1]; /* one more for the terminator that vsnprintf() writes */
};

static int write_fd(void *ctx, const void *data, size_t len)
{
    const struct ap_out *out = (const struct ap_out *)ctx;
    const char *pos = (const char *)data;

    while (len > 0) {
        ssize_t cnt = write(out->fd, pos, len);

        if (cnt < 0 && errno == EINTR)
            continue;
        if (cnt <= 0)
            return cnt < 0 ? -errno : -EIO;
        pos += cnt;
        len -= (size_t)cnt;
    }
    return 0;
}

static int write_buf(void *ctx, const void *data, size_t len)
{
    return ap_buf_append((struct ap_buf *)ctx, data, len);
}

struct ap_out *ap_out_new(ap_out_fn fn, void *ctx)
{
    struct ap_out *out = (struct ap_out *)malloc(sizeof(*out));

    if (!out)
        return NULL;
    out->fn = fn;
    out->ctx = ctx;
    out->fd = -1;
    out->error = 0;
    out->total = 0;
    out->len = 0;
    return out;
}

struct ap_out *ap_out_new_fd(int fd)
{
    struct ap_out *out = ap_out_new(write_fd, NULL);

    if (!out)
        return NULL;
    out->ctx = out;
    out->fd = fd;
    return out;
}

struct ap_out *ap_out_new_buf(struct ap_buf *buf)
{
    return ap_out_new(write_buf, buf);
}

struct ap_out *ap_out_free(struct ap_out *out)
{
    free(out);
    return NULL;
}

static void emit(struct ap_out *out, const void *data, size_t len)
{
    if (out->error || len == 0)
        return;
    int rc = out->fn(out->ctx, data, len);
    if (rc)
        out->error = rc < 0 ? rc : -EIO;
}

int ap_out_flush(struct ap_out *out)
{
    emit(out, out->data, out->len);
    out->len = 0;
    return out->error;
}

int ap_out_error(const struct ap_out *out)
{
    return out->error;
}

uint64_t ap_out_total(const struct ap_out *out)
{
    return out->total;
}

void ap_out_write(struct ap_out *out, const void *data, size_t len)
{
    if (out->error || len == 0)
        return;
    if (len > OUT_SZ - out->len && ap_out_flush(out))
        return;
    if (len > OUT_SZ) {
        emit(out, data, len);
        if (out->error)
            return;
    } else {
        memcpy(out->data + out->len, data, len);
        out->len += len;
    }
    out->total += len;
}

void ap_out_str(struct ap_out *out, const char *str)
{
    ap_out_write(out, str, strlen(str));
}

void ap_out_char(struct ap_out *out, char c)
{
    ap_out_write(out, &c, 1);
}

/* Text that did not fit beside what is buffered; only text longer than the whole buffer is allocated. */
__attribute__((format(printf, 3, 0))) static void write_long(struct ap_out *out, size_t len, const char *fmt,
                                                             va_list args)
{
    if (ap_out_flush(out))
        return;
    if (len <= OUT_SZ) {
        (void)vsnprintf(out->data, sizeof(out->data), fmt, args);
        out->len = len;
        out->total += len;
        return;
    }

    char *text = (char *)malloc(len + 1);
    if (!text) {
        out->error = -ENOMEM;
        return;
    }
    (void)vsnprintf(text, len + 1, fmt, args);
    ap_out_write(out, text, len);
    free(text);
}

void ap_out_printf(struct ap_out *out, const char *fmt, ...)
{
    if (out->error)
        return;

    va_list args;
    size_t room = OUT_SZ - out->len;
    va_start(args, fmt);
    int len = vsnprintf(out->data + out->len, room + 1, fmt, args);
    va_end(args);

    if (len < 0) {
        out->error = -EINVAL;
    } else if ((size_t)len <= room) {
        out->len += (size_t)len;
        out->total += (size_t)len;
    } else {
        va_start(args, fmt);
        write_long(out, (size_t)len, fmt, args);
        va_end(args);
    }
}

/* Bytes at the start of `str` that stand for themselves in JSON. */
static size_t plain_json(const char *str, bool html)
{
    size_t len = 0;

    for (;; len++) {
        unsigned char c = (unsigned char)str[len];

        if (c < 0x20 || c >= 0x7F || c == '"' || c == '\\' || (html && c == '<'))
            return len;
    }
}

void ap_out_json_str(struct ap_out *out, const char *str, bool html)
{
    ap_out_char(out, '"');
    while (str && *str && !out->error) {
        char step[AP_JSON_CHAR_SZ + 1];
        size_t len = plain_json(str, html);

        ap_out_write(out, str, len);
        str += len;
        if (*str)
            ap_out_write(out, step, ap_json_step(&str, html, step));
    }
    ap_out_char(out, '"');
}

/* What a character is written as in XML; NULL for one that stands for itself. Blanks other than the space are
 * written as references because attribute values would lose them. */
static const char *xml_escape(const char *str, size_t len)
{
    switch (*str) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    case '\t':
        return "&#9;";
    case '\n':
        return "&#10;";
    case '\r':
        return "&#13;";
    default:
        break;
    }
    bool forbidden = len == 0 || (unsigned char)*str < 0x20;
    if (len == 3 && (memcmp(str, "\xEF\xBF\xBE", 3) == 0 || memcmp(str, "\xEF\xBF\xBF", 3) == 0))
        forbidden = true; /* U+FFFE, U+FFFF */
    return forbidden ? AP_UTF8_REPLACEMENT : NULL;
}

void ap_out_xml_str(struct ap_out *out, const char *str)
{
    while (str && *str && !out->error) {
        size_t len = ap_utf8_len(str);
        const char *escape = xml_escape(str, len);

        if (escape)
            ap_out_str(out, escape);
        else
            ap_out_write(out, str, len);
        str += len > 0 ? len : 1;
    }
}
