/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First allocation: small enough for many short-lived buffers, large enough to spare most of them a second
 * one. */
#define FIRST_CAP 256

void ap_buf_init(struct ap_buf *buf, size_t max)
{
    *buf = (struct ap_buf){.max = max};
}

void ap_buf_done(struct ap_buf *buf)
{
    if (!buf)
        return;
    free(buf->data);
    *buf = (struct ap_buf){.max = buf->max};
}

void ap_buf_reset(struct ap_buf *buf)
{
    buf->len = 0;
    buf->error = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

/* Makes room for `len` more bytes and a terminator. */
static int grow(struct ap_buf *buf, size_t len)
{
    if (buf->error)
        return buf->error;
    if (buf->len > buf->max || len > buf->max - buf->len)
        return buf->error = -ENOSPC;

    size_t need = buf->len + len;
    if (need < buf->cap)
        return 0;
    if (need == SIZE_MAX)
        return buf->error = -ENOMEM;

    size_t cap = buf->cap < FIRST_CAP / 2 ? FIRST_CAP : buf->cap;
    cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
    if (cap > buf->max)
        cap = buf->max;
    if (cap < need + 1)
        cap = need + 1;

    char *data = (char *)realloc(buf->data, cap);
    if (!data)
        return buf->error = -ENOMEM;
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int ap_buf_append(struct ap_buf *buf, const void *data, size_t len)
{
    int rc = grow(buf, len);

    if (rc)
        return rc;
    if (len > 0)
        memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int ap_buf_str(struct ap_buf *buf, const char *str)
{
    return ap_buf_append(buf, str, strlen(str));
}

int ap_buf_char(struct ap_buf *buf, char c)
{
    return ap_buf_append(buf, &c, 1);
}

int ap_buf_printf(struct ap_buf *buf, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0 && !buf->error) /* longer than INT_MAX, or not a text in this locale */
        buf->error = -ENOSPC;

    int rc = grow(buf, len < 0 ? 0 : (size_t)len);
    if (rc)
        return rc;

    va_start(args, fmt);
    (void)vsnprintf(buf->data + buf->len, (size_t)len + 1, fmt, args);
    va_end(args);
    buf->len += (size_t)len;
    return 0;
}

void *ap_buf_reserve(struct ap_buf *buf, size_t len)
{
    if (grow(buf, len))
        return NULL;
    buf->data[buf->len] = '\0';
    buf->data[buf->len + len] = '\0'; /* stays the terminator when all of it is used */
    return buf->data + buf->len;
}
