/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Formats into a copy first: the arguments may point into err->text. */
__attribute__((format(printf, 3, 0))) static void set_text(struct ap_error *err, int code, const char *fmt,
                                                           va_list args)
{
    char text[AP_ERROR_TEXT_SZ];

    if (vsnprintf(text, sizeof(text), fmt, args) < 0)
        text[0] = '\0';
    memcpy(err->text, text, strlen(text) + 1);
    err->code = code;
}

/* Appends what fits. */
static void add_text(struct ap_error *err, const char *text)
{
    size_t len = strlen(err->text);
    size_t cnt = strnlen(text, sizeof(err->text) - 1 - len);

    memcpy(err->text + len, text, cnt);
    err->text[len + cnt] = '\0';
}

int ap_error_set(struct ap_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;

    va_list args;
    va_start(args, fmt);
    set_text(err, code, fmt, args);
    va_end(args);
    return code;
}

int ap_error_errno(struct ap_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;

    va_list args;
    va_start(args, fmt);
    set_text(err, code, fmt, args);
    va_end(args);

    size_t len = strlen(err->text);
    int saved = errno;
    errno = -code; /* for %m, which unlike strerror() is safe in threads */
    (void)snprintf(err->text + len, sizeof(err->text) - len, ": %m");
    errno = saved;
    return code;
}

int ap_error_prefix(struct ap_error *err, const char *fmt, ...)
{
    if (!err)
        return 0;

    char rest[AP_ERROR_TEXT_SZ];
    memcpy(rest, err->text, strnlen(err->text, sizeof(rest) - 1) + 1);
    rest[sizeof(rest) - 1] = '\0';

    va_list args;
    va_start(args, fmt);
    set_text(err, err->code, fmt, args);
    va_end(args);

    add_text(err, ": ");
    add_text(err, rest);
    return err->code;
}
