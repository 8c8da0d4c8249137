/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/log.h"

#include "core/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* One escaped message and what stands around it. */
#define LINE_SZ (AP_LOG_MESSAGE_SZ * AP_JSON_CHAR_SZ + 1024)

/* Written by ap_log_setup() before threads start, only read afterwards. */
static struct {
    const char *program;
    enum ap_log_level level;
    enum ap_log_format format;
} log_state = {.program = "aperture", .level = AP_LOG_INFO, .format = AP_LOG_TEXT};

struct line {
    size_t len;
    char data[LINE_SZ];
};

void ap_log_setup(const char *program, enum ap_log_level level, enum ap_log_format format)
{
    log_state.program = program;
    log_state.level = level;
    log_state.format = format;
}

enum ap_log_level ap_log_get_level(void)
{
    return log_state.level;
}

static const char *level_name(enum ap_log_level level)
{
    switch (level) {
    case AP_LOG_ERROR:
        return "error";
    case AP_LOG_WARN:
        return "warning";
    case AP_LOG_INFO:
        return "info";
    case AP_LOG_DEBUG:
        break;
    }
    return "debug";
}

/* Appends while a newline still fits behind. */
static void put(struct line *line, const char *data, size_t len)
{
    if (len > sizeof(line->data) - 1 - line->len)
        return;
    memcpy(line->data + line->len, data, len);
    line->len += len;
}

static void put_str(struct line *line, const char *str)
{
    put(line, str, strlen(str));
}

static void put_json(struct line *line, const char *str)
{
    char step[AP_JSON_CHAR_SZ + 1];

    put_str(line, "\"");
    while (*str)
        put(line, step, ap_json_step(&str, false, step));
    put_str(line, "\"");
}

/* Control characters are shown as \xNN: names of processes and files must not drive the reader's terminal. */
static void put_plain(struct line *line, const char *str)
{
    while (*str) {
        unsigned char c = (unsigned char)*str;
        size_t len = ap_utf8_len(str);
        bool c1 = len == 2 && c == 0xC2 && (unsigned char)str[1] < 0xA0;
        char hex[8];

        if ((c < 0x20 && c != '\t') || c == 0x7F || c1 || len == 0) {
            put(line, hex, (size_t)snprintf(hex, sizeof(hex), "\\x%02x", c1 ? (unsigned char)str[1] : c));
            len = len > 0 ? len : 1;
        } else {
            put(line, str, len);
        }
        str += len;
    }
}

static void put_time(struct line *line)
{
    struct timespec now = {0};
    struct tm tm = {0};
    char text[64];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text + len, sizeof(text) - len, ".%03ldZ", now.tv_nsec / 1000000);
    put_json(line, text);
}

static void write_line(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t cnt = write(STDERR_FILENO, data, len);

        if (cnt < 0 && errno == EINTR)
            continue;
        if (cnt < 0)
            return; /* nowhere left to say so */
        data += cnt;
        len -= (size_t)cnt;
    }
}

/* Ends a cut message in "...", without leaving half a character before it. */
static void mark_cut(char *message, size_t size)
{
    size_t cut = size - sizeof("...");

    while (cut > 0 && ((unsigned char)message[cut] & 0xC0) == 0x80)
        cut--;
    memcpy(message + cut, "...", sizeof("..."));
}

static void log_line(enum ap_log_level level, const char *message)
{
    struct line line;

    line.len = 0;
    if (log_state.format == AP_LOG_JSON) {
        put_str(&line, "{\"time\":");
        put_time(&line);
        put_str(&line, ",\"level\":");
        put_json(&line, level_name(level));
        put_str(&line, ",\"program\":");
        put_json(&line, log_state.program);
        put_str(&line, ",\"message\":");
        put_json(&line, message);
        put_str(&line, "}");
    } else {
        put_plain(&line, log_state.program);
        put_str(&line, ": ");
        put_str(&line, level_name(level));
        put_str(&line, ": ");
        put_plain(&line, message);
    }
    line.data[line.len++] = '\n';
    write_line(line.data, line.len);
}

void ap_log(enum ap_log_level level, const char *fmt, ...)
{
    if (level > log_state.level)
        return;

    int saved = errno; /* logging must not disturb the caller's error handling */
    char message[AP_LOG_MESSAGE_SZ];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);

    if (len < 0)
        message[0] = '\0';
    else if ((size_t)len >= sizeof(message))
        mark_cut(message, sizeof(message));
    log_line(level, message);
    errno = saved;
}
