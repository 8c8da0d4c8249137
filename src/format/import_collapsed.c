/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Collapsed stacks: "thread;outermost;...;leaf WEIGHT", as ap_collapsed_write() and the flamegraph tools write them. */
#include "format/import_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What a sample stands for at the usual 99 a second. */
#define PERIOD_NS 10101010
/* Longest name; longer ones are refused. */
#define NAME_SZ (64u << 10)

struct reader {
    struct ap_profile *profile;
    const struct ap_import_opts *opts;
    uint64_t period_ns;
    size_t line; /* from 1, for words */
    struct ap_import_stack stack;
    char name[NAME_SZ];
    struct ap_error *err;
};

static int bad(const struct reader *reader, const char *what)
{
    return ap_error_set(reader->err, -EINVAL, "collapsed stacks, line %zu: %s", reader->line, what);
}

/* The endings that say what a frame is; cut off. */
static void cut_suffix(char *name, size_t len, struct ap_frame *frame)
{
    if (len <= 4 || name[len - 4] != '_' || name[len - 3] != '[' || name[len - 1] != ']')
        return;
    switch (name[len - 2]) {
    case 'k':
        frame->kind = AP_FRAME_KERNEL;
        break;
    case 'i':
        frame->kind = AP_FRAME_NATIVE;
        frame->inlined = true;
        break;
    case 'j':
        frame->kind = AP_FRAME_JIT;
        break;
    case 'w':
        frame->kind = AP_FRAME_NATIVE;
        frame->waker = true;
        break;
    default:
        return;
    }
    name[len - 4] = '\0';
}

static int add_frame(struct reader *reader, const char *text, size_t len)
{
    struct ap_frame frame = {.kind = UINT8_MAX};
    uint32_t index;
    int r;

    if (len >= NAME_SZ)
        return bad(reader, "a name of more than 64 KiB");
    memcpy(reader->name, text, len);
    reader->name[len] = '\0';
    if (ap_import_is_truncation(reader->name)) {
        reader->stack.truncated = true;
        return 0;
    }
    cut_suffix(reader->name, len, &frame);
    if (frame.kind == UINT8_MAX || frame.waker)
        ap_import_classify(reader->name, "", &frame);
    r = ap_strings_add(reader->profile->strings, reader->name, strlen(reader->name), &frame.function);
    if (r == 0)
        r = ap_profile_add_frame(reader->profile, &frame, &index);
    if (r != 0)
        return ap_import_refused(r, reader->err);
    ap_import_stack_push(&reader->stack, index);
    return 0;
}

static int add_series(struct reader *reader, const char *text, size_t len, uint32_t *ret_series)
{
    struct ap_series series = {0};
    int r = ap_strings_add(reader->profile->strings, text, len, &series.comm);

    if (r == 0)
        r = ap_profile_add_series(reader->profile, &series, ret_series);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

static int add_weight(struct reader *reader, uint32_t series, uint64_t weight)
{
    uint64_t count = 1, value, scale = 1000; /* microseconds */
    int r;

    if (reader->profile->kind == AP_KIND_CPU) {
        count = weight;
        scale = reader->period_ns;
    }
    if (__builtin_mul_overflow(weight, scale, &value))
        return bad(reader, "the weight is too large");
    r = ap_import_stack_add(&reader->stack, reader->profile, series, count, value);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

/* The number behind the last blank; `*len` becomes the length of what stands before it. */
static int read_weight(const struct reader *reader, const char *line, size_t *len, uint64_t *ret_weight)
{
    size_t digits = *len;
    uint64_t weight = 0;

    while (digits > 0 && line[digits - 1] >= '0' && line[digits - 1] <= '9')
        digits--;
    if (digits == *len || digits == 0 || (line[digits - 1] != ' ' && line[digits - 1] != '\t'))
        return bad(reader, "it does not end in a blank and a whole number");
    for (size_t i = digits; i < *len; i++)
        if (__builtin_mul_overflow(weight, 10, &weight) ||
            __builtin_add_overflow(weight, (uint64_t)(line[i] - '0'), &weight))
            return bad(reader, "the weight is too large");
    *len = digits - 1;
    *ret_weight = weight;
    return 0;
}

static int add_line(struct reader *reader, const char *line, size_t len)
{
    const char *end, *name = line;
    uint64_t weight = 0;
    uint32_t series = 0;
    int r = read_weight(reader, line, &len, &weight);

    if (r != 0)
        return r;
    end = line + len;
    reader->stack.cnt = 0;
    reader->stack.truncated = false;
    name = memchr(line, ';', len);
    if (name == NULL) { /* no thread name, just a function */
        r = add_series(reader, "[unknown]", 9, &series);
        name = line - 1;
    } else {
        r = add_series(reader, line, (size_t)(name - line), &series);
    }
    while (r == 0 && name != NULL) {
        const char *start = name + 1;

        name = memchr(start, ';', (size_t)(end - start));
        r = add_frame(reader, start, (size_t)((name != NULL ? name : end) - start));
    }
    return r == 0 ? add_weight(reader, series, weight) : r;
}

static int read_lines(struct reader *reader, const char *data, size_t len)
{
    const char *end = data + len;

    while (data < end) {
        const char *eol = memchr(data, '\n', (size_t)(end - data));
        const char *next = eol != NULL ? eol + 1 : end;
        size_t line_len = (size_t)((eol != NULL ? eol : end) - data);
        int r;

        reader->line++;
        while (line_len > 0 && (data[line_len - 1] == '\r' || data[line_len - 1] == ' '))
            line_len--;
        if (memchr(data, '\0', line_len) != NULL)
            return bad(reader, "a NUL byte");
        r = line_len > 0 && data[0] != '#' ? add_line(reader, data, line_len) : 0;
        if (r != 0)
            return r;
        data = next;
    }
    return 0;
}

int ap_import_collapsed(struct ap_capture *capture, const char *data, size_t len, const struct ap_import_opts *opts,
                        struct ap_error *err)
{
    struct ap_profile *profile = ap_import_profile(capture, opts->kind != 0 ? opts->kind : AP_KIND_CPU, err);
    struct reader *reader;
    uint64_t count;
    int r;

    if (profile == NULL)
        return -ENOMEM;
    reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return ap_error_set(err, -ENOMEM, "out of memory");
    reader->profile = profile;
    reader->opts = opts;
    reader->err = err;
    reader->period_ns = opts->period_ns != 0 ? opts->period_ns : PERIOD_NS;
    if (profile->kind == AP_KIND_CPU)
        profile->period_ns = reader->period_ns;
    r = read_lines(reader, data, len);
    free(reader);
    if (r == 0 && profile->sample_cnt == 0)
        r = ap_error_set(err, -EINVAL, "collapsed stacks: there is not one line");
    count = ap_profile_total_count(profile);
    capture->accounts[0] = (struct ap_account){.expected = count, .delivered = count};
    return r;
}
