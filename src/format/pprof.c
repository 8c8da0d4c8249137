/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* profile.proto, written as it is walked: only the numbering of functions and locations is kept, and messages
 * of a kind may stand between those of another, as protobuf allows. */
#define ZLIB_CONST /* input pointers are const */

#include "format/format.h"

#include "format/names.h"
#include "model/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zlib.h>

/* Field numbers of profile.proto. */
enum {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_TIME_NANOS = 9,
    PROFILE_DURATION_NANOS = 10,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_COMMENT = 13,
    PROFILE_DEFAULT_SAMPLE_TYPE = 14,

    VALUE_TYPE_TYPE = 1,
    VALUE_TYPE_UNIT = 2,

    SAMPLE_LOCATION = 1,
    SAMPLE_VALUE = 2,
    SAMPLE_LABEL = 3,

    LABEL_KEY = 1,
    LABEL_STR = 2,
    LABEL_NUM = 3,

    MAPPING_ID = 1,
    MAPPING_START = 2,
    MAPPING_LIMIT = 3,
    MAPPING_OFFSET = 4,
    MAPPING_FILENAME = 5,
    MAPPING_BUILD_ID = 6,
    MAPPING_HAS_FUNCTIONS = 7,
    MAPPING_HAS_FILENAMES = 8,
    MAPPING_HAS_LINES = 9,
    MAPPING_HAS_INLINED = 10,

    LOCATION_ID = 1,
    LOCATION_MAPPING = 2,
    LOCATION_ADDRESS = 3,
    LOCATION_LINE = 4,

    LINE_FUNCTION = 1,
    LINE_LINE = 2,

    FUNCTION_ID = 1,
    FUNCTION_NAME = 2,
    FUNCTION_SYSTEM_NAME = 3,
    FUNCTION_FILENAME = 4,
};

/* Location and function 1 stand for callers that were cut off; the others count up from here. */
#define TRUNCATED_ID 1
#define FIRST_ID     2

/* Largest message: a location of AP_STACK_FRAMES_MAX lines of at most 16 bytes. */
#define MESSAGE_SZ_MAX (64u << 10)
/* Text that is not the profile's own: types, comments, build ids, names of wakers. */
#define EXTRA_STRINGS_SZ (2 * (size_t)AP_PROFILE_STRINGS_SZ + (32u << 20))
/* One name while it is put together. */
#define LABEL_SZ_MAX ((size_t)AP_PROFILE_STRINGS_SZ + 16)

struct function_row {
    uint32_t name, file; /* string ids */
    bool waker;
};

/* An address with the functions inlined there: frames of one stack, in their order. */
struct location_row {
    uint32_t first; /* index into stack_frames */
    uint32_t cnt;
};

struct writer {
    const struct ap_profile *profile;
    struct ap_out *out;
    z_stream zip;
    bool zip_open;
    int error;                   /* first failure that is not the sink's */
    struct ap_buf msg, sub, ids; /* scratch: a message, one inside it, a sample's locations */
    struct ap_buf label;         /* scratch: a name */
    struct ap_strings *extra;    /* strings after the profile's own, which keep their ids */
    uint32_t extra_base;
    uint32_t key_comm, key_pid, key_container, unknown;
    struct ap_table function_index, location_index;
    struct function_row *functions;
    struct location_row *locations;
    uint32_t function_cnt, function_cap, location_cnt, location_cap;
    bool truncated_written;
    unsigned char zipped[16384];
};

static void fail(struct writer *w, int error)
{
    if (w->error == 0)
        w->error = error;
}

static bool failed(const struct writer *w)
{
    return w->error != 0 || ap_out_error(w->out) != 0;
}

/* Sends bytes through gzip; `flush` is Z_NO_FLUSH, or Z_FINISH for the end. */
static void zip_write(struct writer *w, const void *data, size_t len, int flush)
{
    const unsigned char *next = data;
    int r = Z_OK;

    if (failed(w) || (len == 0 && flush == Z_NO_FLUSH))
        return;
    do {
        uInt part = len > (1u << 30) ? (1u << 30) : (uInt)len;

        w->zip.next_in = next;
        w->zip.avail_in = part;
        next += part;
        len -= part;
        do {
            w->zip.next_out = w->zipped;
            w->zip.avail_out = sizeof(w->zipped);
            r = deflate(&w->zip, len == 0 ? flush : Z_NO_FLUSH);
            if (r == Z_STREAM_ERROR) {
                fail(w, -EIO);
                return;
            }
            ap_out_write(w->out, w->zipped, sizeof(w->zipped) - w->zip.avail_out);
        } while (w->zip.avail_out == 0);
    } while (len > 0);
}

static size_t encode_varint(unsigned char *dst, uint64_t value)
{
    size_t len = 0;

    while (value >= 0x80) {
        dst[len++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    dst[len++] = (unsigned char)value;
    return len;
}

static void put_varint(struct ap_buf *buf, uint64_t value)
{
    unsigned char bytes[10];

    ap_buf_append(buf, bytes, encode_varint(bytes, value));
}

/* A number; 0 is what its absence means, so it is not written. */
static void put_number(struct ap_buf *buf, unsigned field, uint64_t value)
{
    if (value == 0)
        return;
    put_varint(buf, (uint64_t)field << 3);
    put_varint(buf, value);
}

static void put_bytes(struct ap_buf *buf, unsigned field, const struct ap_buf *data)
{
    put_varint(buf, (uint64_t)field << 3 | 2);
    put_varint(buf, data->len);
    if (data->len > 0)
        ap_buf_append(buf, data->data, data->len);
    if (data->error != 0)
        buf->error = data->error;
}

/* Writes a finished message as a field of Profile. */
static void emit(struct writer *w, unsigned field, const struct ap_buf *msg)
{
    unsigned char head[20];
    size_t len = encode_varint(head, (uint64_t)field << 3 | 2);

    if (msg->error != 0) {
        fail(w, msg->error);
        return;
    }
    len += encode_varint(head + len, msg->len);
    zip_write(w, head, len, Z_NO_FLUSH);
    zip_write(w, msg->data, msg->len, Z_NO_FLUSH);
}

static void emit_number(struct writer *w, unsigned field, uint64_t value)
{
    unsigned char bytes[20];
    size_t len = encode_varint(bytes, (uint64_t)field << 3);

    len += encode_varint(bytes + len, value);
    zip_write(w, bytes, len, Z_NO_FLUSH);
}

/* Writes one entry of the string table. Readers in other languages refuse what is not UTF-8, and terminals
 * obey control characters: both become U+FFFD. Two passes, because the length comes first. */
static void emit_string(struct writer *w, const char *str)
{
    unsigned char head[20];
    size_t len = encode_varint(head, PROFILE_STRING << 3 | 2), total = 0, plain = 0;
    uint32_t cp;

    for (const char *s = str; *s != '\0';) {
        size_t step = ap_utf8_next(s, &cp);

        total += ap_utf8_is_unsafe(cp) ? 3 : step;
        s += step;
    }
    len += encode_varint(head + len, total);
    zip_write(w, head, len, Z_NO_FLUSH);
    for (const char *s = str; *s != '\0';) {
        size_t step = ap_utf8_next(s, &cp);

        s += step;
        if (!ap_utf8_is_unsafe(cp)) {
            plain += step;
            continue;
        }
        zip_write(w, s - step - plain, plain, Z_NO_FLUSH);
        zip_write(w, "\xef\xbf\xbd", 3, Z_NO_FLUSH);
        plain = 0;
    }
    zip_write(w, str + strlen(str) - plain, plain, Z_NO_FLUSH);
}

/* String table index of text that may not be in the profile. */
static uint32_t extra(struct writer *w, const char *text)
{
    uint32_t id = 0;
    int r = ap_strings_add(w->extra, text, strlen(text), &id);

    if (r != 0)
        fail(w, r);
    return id == 0 ? 0 : w->extra_base + id - 1;
}

/* The array with room for one more row; NULL when out of memory, and the array stays as it was. */
static void *grow(void *rows, uint32_t cnt, uint32_t *cap, size_t row_sz)
{
    uint64_t want = *cap == 0 ? 64 : (uint64_t)*cap * 2;

    if (rows != NULL && cnt < *cap)
        return rows;
    void *grown = want > UINT32_MAX ? NULL : reallocarray(rows, want, row_sz);
    if (grown != NULL)
        *cap = (uint32_t)want;
    return grown;
}

static void emit_function(struct writer *w, uint64_t id, uint32_t name, uint32_t file)
{
    ap_buf_reset(&w->sub);
    put_number(&w->sub, FUNCTION_ID, id);
    put_number(&w->sub, FUNCTION_NAME, name);
    put_number(&w->sub, FUNCTION_SYSTEM_NAME, name);
    put_number(&w->sub, FUNCTION_FILENAME, file);
    emit(w, PROFILE_FUNCTION, &w->sub);
}

/* String table index of a function's name. A waker's must not merge with a call of the same function, and readers
 * merge by name. */
static uint32_t function_name(struct writer *w, const struct ap_frame *frame)
{
    const char *name = ap_name_or_unknown(ap_profile_str(w->profile, frame->function));

    if (!frame->waker || frame->kind == AP_FRAME_MARK)
        return frame->function != 0 ? frame->function : w->unknown;
    ap_buf_reset(&w->label);
    ap_buf_str(&w->label, name);
    ap_buf_str(&w->label, " [waker]");
    if (w->label.error != 0) {
        fail(w, w->label.error);
        return 0;
    }
    return extra(w, w->label.data);
}

/* Id of the function (name, file, waker), written when new; 0 on failure. */
static uint64_t function_id(struct writer *w, const struct ap_frame *frame)
{
    const struct function_row row = {frame->function, frame->file, frame->waker};
    uint64_t hash = ap_table_mix(ap_table_mix((uint64_t)row.name << 32 | row.file) ^ row.waker);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&w->function_index, hash, &pos)) != AP_TABLE_NONE)
        if (w->functions[i].name == row.name && w->functions[i].file == row.file && w->functions[i].waker == row.waker)
            return (uint64_t)i + FIRST_ID;
    void *rows = grow(w->functions, w->function_cnt, &w->function_cap, sizeof(*w->functions));
    if (rows != NULL)
        w->functions = rows;
    if (rows == NULL || ap_table_reserve(&w->function_index) != 0) {
        fail(w, -ENOMEM);
        return 0;
    }
    i = w->function_cnt++;
    w->functions[i] = row;
    ap_table_put(&w->function_index, hash, i);
    emit_function(w, (uint64_t)i + FIRST_ID, function_name(w, frame), row.file);
    return (uint64_t)i + FIRST_ID;
}

/* Kernel and anonymous code carry their address as offset already. */
static uint64_t address_of(const struct ap_profile *profile, const struct ap_frame *frame)
{
    const struct ap_mapping *mapping = &profile->mappings[frame->mapping];
    const char *path = ap_profile_str(profile, mapping->path);

    if (mapping->start == 0 || frame->kind == AP_FRAME_KERNEL || strncmp(path, "//", 2) == 0)
        return frame->offset;
    return mapping->start + frame->offset - mapping->file_off;
}

/* Writes a location and the functions that it names first. `sub` serves functions, then lines. */
static void emit_location(struct writer *w, uint64_t id, const struct location_row *row)
{
    const struct ap_profile *profile = w->profile;
    const uint32_t *frames = &profile->stack_frames[row->first];
    const struct ap_frame *leaf = &profile->frames[frames[0]];

    ap_buf_reset(&w->msg);
    put_number(&w->msg, LOCATION_ID, id);
    put_number(&w->msg, LOCATION_MAPPING, leaf->mapping);
    put_number(&w->msg, LOCATION_ADDRESS, address_of(profile, leaf));
    for (uint32_t i = 0; i < row->cnt; i++) {
        const struct ap_frame *frame = &profile->frames[frames[i]];
        uint64_t function = function_id(w, frame);

        ap_buf_reset(&w->sub);
        put_number(&w->sub, LINE_FUNCTION, function);
        put_number(&w->sub, LINE_LINE, frame->line);
        put_bytes(&w->msg, LOCATION_LINE, &w->sub);
    }
    emit(w, PROFILE_LOCATION, &w->msg);
}

/* Id of the location of these frames, written when new; 0 on failure. */
static uint64_t location_id(struct writer *w, uint32_t first, uint32_t cnt)
{
    const uint32_t *frames = &w->profile->stack_frames[first];
    uint64_t hash = XXH3_64bits(frames, cnt * sizeof(*frames));
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&w->location_index, hash, &pos)) != AP_TABLE_NONE) {
        const struct location_row *row = &w->locations[i];

        if (row->cnt == cnt && memcmp(&w->profile->stack_frames[row->first], frames, cnt * sizeof(*frames)) == 0)
            return (uint64_t)i + FIRST_ID;
    }
    void *rows = grow(w->locations, w->location_cnt, &w->location_cap, sizeof(*w->locations));
    if (rows != NULL)
        w->locations = rows;
    if (rows == NULL || ap_table_reserve(&w->location_index) != 0) {
        fail(w, -ENOMEM);
        return 0;
    }
    i = w->location_cnt++;
    w->locations[i] = (struct location_row){first, cnt};
    ap_table_put(&w->location_index, hash, i);
    emit_location(w, (uint64_t)i + FIRST_ID, &w->locations[i]);
    return (uint64_t)i + FIRST_ID;
}

/* Location of the callers that a truncated stack lacks. */
static uint64_t truncated_location(struct writer *w)
{
    if (!w->truncated_written) {
        w->truncated_written = true;
        emit_function(w, TRUNCATED_ID, extra(w, "[truncated]"), 0);
        ap_buf_reset(&w->sub);
        put_number(&w->sub, LINE_FUNCTION, TRUNCATED_ID);
        ap_buf_reset(&w->msg);
        put_number(&w->msg, LOCATION_ID, TRUNCATED_ID);
        put_bytes(&w->msg, LOCATION_LINE, &w->sub);
        emit(w, PROFILE_LOCATION, &w->msg);
    }
    return TRUNCATED_ID;
}

static void put_label(struct writer *w, uint32_t key, uint32_t str, uint64_t num)
{
    if (str == 0 && num == 0)
        return;
    ap_buf_reset(&w->sub);
    put_number(&w->sub, LABEL_KEY, key);
    put_number(&w->sub, LABEL_STR, str);
    put_number(&w->sub, LABEL_NUM, num);
    put_bytes(&w->msg, SAMPLE_LABEL, &w->sub);
}

/* Frames from `i` on that share one address: functions inlined there, then the one that contains them. */
static uint32_t inline_run(const struct ap_profile *profile, const struct ap_stack *stack, uint32_t i)
{
    const uint32_t *frames = &profile->stack_frames[stack->first];
    uint32_t end = i;

    while (end + 1 < stack->frame_cnt) {
        const struct ap_frame *frame = &profile->frames[frames[end]];
        const struct ap_frame *next = &profile->frames[frames[end + 1]];

        if (!frame->inlined || frame->mapping != next->mapping || frame->offset != next->offset)
            break;
        end++;
    }
    return end - i + 1;
}

static void emit_sample(struct writer *w, const struct ap_sample *sample)
{
    const struct ap_profile *profile = w->profile;
    const struct ap_stack *stack = &profile->stacks[sample->stack];
    const struct ap_series *series = &profile->series[sample->series];
    uint32_t inside = stack->frame_cnt - ap_stack_marks(profile, stack);

    ap_buf_reset(&w->ids);
    for (uint32_t i = 0; i < stack->frame_cnt;) {
        uint32_t cnt = inline_run(profile, stack, i);

        put_varint(&w->ids, location_id(w, stack->first + i, cnt));
        i += cnt;
        if (i == inside && stack->truncated)
            put_varint(&w->ids, truncated_location(w));
    }
    ap_buf_reset(&w->msg);
    put_bytes(&w->msg, SAMPLE_LOCATION, &w->ids);
    ap_buf_reset(&w->sub);
    put_varint(&w->sub, sample->count);
    put_varint(&w->sub, sample->value);
    put_bytes(&w->msg, SAMPLE_VALUE, &w->sub);
    put_label(w, w->key_comm, series->comm, 0);
    put_label(w, w->key_pid, 0, series->pid);
    put_label(w, w->key_container, series->container, 0);
    emit(w, PROFILE_SAMPLE, &w->msg);
}

/* The main binary: among mappings of their process's own executable the one met in most samples. 0 = none. */
static uint32_t main_mapping(const struct ap_profile *profile, uint64_t *counts)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < profile->sample_cnt; i++) {
        const struct ap_sample *sample = &profile->samples[i];
        const struct ap_stack *stack = &profile->stacks[sample->stack];
        uint32_t exe = profile->series[sample->series].exe;

        for (uint32_t j = 0; exe != 0 && j < stack->frame_cnt; j++) {
            uint32_t mapping = profile->frames[profile->stack_frames[stack->first + j]].mapping;

            if (profile->mappings[mapping].path == exe) {
                counts[mapping] += sample->count;
                break;
            }
        }
    }
    for (uint32_t i = 1; i < profile->mapping_cnt; i++)
        if (counts[i] > counts[best])
            best = i;
    return best;
}

/* What the frames of a mapping know and lack. */
enum { HAS_FRAMES = 1, LACKS_FUNCTION = 2, LACKS_FILE = 4, LACKS_LINE = 8, HAS_INLINED = 16 };

static void collect_flags(const struct ap_profile *profile, uint8_t *flags)
{
    for (uint32_t i = 1; i < profile->frame_cnt; i++) {
        const struct ap_frame *frame = &profile->frames[i];
        uint8_t *f = &flags[frame->mapping];

        *f |= HAS_FRAMES;
        if (frame->kind == AP_FRAME_UNKNOWN)
            *f |= LACKS_FUNCTION;
        if (frame->file == 0)
            *f |= LACKS_FILE;
        if (frame->line == 0)
            *f |= LACKS_LINE;
        if (frame->inlined)
            *f |= HAS_INLINED;
    }
}

static void emit_mapping(struct writer *w, uint32_t index, uint8_t flags)
{
    const struct ap_mapping *mapping = &w->profile->mappings[index];
    char hex[2 * AP_BUILD_ID_MAX + 1] = "";
    bool used = flags & HAS_FRAMES;

    for (unsigned i = 0; i < mapping->build_id_len; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", mapping->build_id[i]);
    ap_buf_reset(&w->msg);
    put_number(&w->msg, MAPPING_ID, index);
    put_number(&w->msg, MAPPING_START, mapping->start);
    put_number(&w->msg, MAPPING_LIMIT, mapping->limit);
    put_number(&w->msg, MAPPING_OFFSET, mapping->file_off);
    put_number(&w->msg, MAPPING_FILENAME, mapping->path);
    put_number(&w->msg, MAPPING_BUILD_ID, extra(w, hex));
    put_number(&w->msg, MAPPING_HAS_FUNCTIONS, used && !(flags & LACKS_FUNCTION));
    put_number(&w->msg, MAPPING_HAS_FILENAMES, used && !(flags & LACKS_FILE));
    put_number(&w->msg, MAPPING_HAS_LINES, used && !(flags & LACKS_LINE));
    put_number(&w->msg, MAPPING_HAS_INLINED, (flags & HAS_INLINED) != 0);
    emit(w, PROFILE_MAPPING, &w->msg);
}

static void emit_mappings(struct writer *w)
{
    const struct ap_profile *profile = w->profile;
    uint64_t *counts = calloc(profile->mapping_cnt, sizeof(*counts));
    uint8_t *flags = calloc(profile->mapping_cnt, sizeof(*flags));

    if (counts == NULL || flags == NULL) {
        fail(w, -ENOMEM);
    } else {
        uint32_t first = main_mapping(profile, counts);

        collect_flags(profile, flags);
        if (first != 0)
            emit_mapping(w, first, flags[first]);
        for (uint32_t i = 1; i < profile->mapping_cnt; i++)
            if (i != first)
                emit_mapping(w, i, flags[i]);
    }
    free(counts);
    free(flags);
}

static void emit_type(struct writer *w, unsigned field, const char *type, const char *unit)
{
    ap_buf_reset(&w->msg);
    put_number(&w->msg, VALUE_TYPE_TYPE, extra(w, type));
    put_number(&w->msg, VALUE_TYPE_UNIT, extra(w, unit));
    emit(w, field, &w->msg);
}

static void emit_types(struct writer *w)
{
    static const struct {
        uint8_t kind;
        const char *count, *value;
    } types[] = {
        {AP_KIND_CPU, "samples", "cpu"},        {AP_KIND_OFFCPU, "samples", "off_cpu"},
        {AP_KIND_LOCK, "contentions", "delay"}, {AP_KIND_SYSCALL, "calls", "latency"},
        {AP_KIND_GPU, "launches", "gpu"},
    };
    const struct ap_profile *profile = w->profile;
    const char *count = "events", *value = "time";

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].kind == profile->kind) {
            count = types[i].count;
            value = types[i].value;
        }
    }
    emit_type(w, PROFILE_SAMPLE_TYPE, count, "count");
    emit_type(w, PROFILE_SAMPLE_TYPE, value, "nanoseconds");
    emit_type(w, PROFILE_PERIOD_TYPE, value, "nanoseconds");
    emit_number(w, PROFILE_PERIOD, profile->period_ns != 0 ? profile->period_ns : 1);
    emit_number(w, PROFILE_DEFAULT_SAMPLE_TYPE, extra(w, value));
    emit_number(w, PROFILE_TIME_NANOS, profile->start_ns);
    emit_number(w, PROFILE_DURATION_NANOS, profile->duration_ns);
}

static void emit_comment(struct writer *w, const char *group, const char *what, uint64_t value)
{
    char text[160];

    if (value == 0)
        return;
    (void)snprintf(text, sizeof(text), "aperture: %s%s=%" PRIu64, group, what, value);
    emit_number(w, PROFILE_COMMENT, extra(w, text));
}

/* What was lost travels with the data, also through tools that know nothing of it. */
static void emit_comments(struct writer *w, const struct ap_capture *capture)
{
    static const struct ap_account none;
    const struct ap_account *account = ap_capture_account(capture, w->profile);
    char text[160];

    if (account == NULL)
        account = &none;
    (void)snprintf(text, sizeof(text), "aperture: agent version %s", capture->agent.version);
    emit_number(w, PROFILE_COMMENT, extra(w, text));
    (void)snprintf(text, sizeof(text), "aperture: expected=%" PRIu64 " delivered=%" PRIu64, account->expected,
                   account->delivered);
    emit_number(w, PROFILE_COMMENT, extra(w, text));
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        emit_comment(w, "lost ", ap_loss_name(i), account->losses[i]);
    emit_comment(w, "", "below_min", account->below_min);
    emit_comment(w, "", "below_min_ns", account->below_min_ns);
    emit_comment(w, "", "folded", account->folded);
    emit_comment(w, "", "unmatched", account->unmatched);
}

static int writer_open(struct writer *w, const struct ap_profile *profile, struct ap_out *out)
{
    w->profile = profile;
    w->out = out;
    ap_buf_init(&w->msg, MESSAGE_SZ_MAX);
    ap_buf_init(&w->sub, MESSAGE_SZ_MAX);
    ap_buf_init(&w->ids, MESSAGE_SZ_MAX);
    ap_buf_init(&w->label, LABEL_SZ_MAX);
    w->extra = ap_strings_new(EXTRA_STRINGS_SZ);
    if (w->extra == NULL)
        return -ENOMEM;
    w->extra_base = (uint32_t)ap_strings_count(profile->strings);
    w->key_comm = extra(w, "comm");
    w->key_pid = extra(w, "pid");
    w->key_container = extra(w, "container");
    w->unknown = extra(w, "[unknown]");
    /* 15 + 16: the largest window, in a gzip wrapper. Its header holds no time, so equal input gives equal
     * bytes. */
    if (deflateInit2(&w->zip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    w->zip_open = true;
    return w->error;
}

static void writer_close(struct writer *w)
{
    if (w->zip_open)
        deflateEnd(&w->zip);
    ap_buf_done(&w->msg);
    ap_buf_done(&w->sub);
    ap_buf_done(&w->ids);
    ap_buf_done(&w->label);
    ap_strings_free(w->extra);
    ap_table_done(&w->function_index);
    ap_table_done(&w->location_index);
    free(w->functions);
    free(w->locations);
    free(w);
}

int ap_pprof_write(const struct ap_capture *capture, const struct ap_profile *profile, struct ap_out *out)
{
    struct writer *w = calloc(1, sizeof(*w));
    int r;

    if (w == NULL)
        return -ENOMEM;
    r = writer_open(w, profile, out);
    if (r == 0) {
        emit_types(w);
        emit_mappings(w);
        for (uint32_t i = 0; i < profile->sample_cnt && !failed(w); i++)
            emit_sample(w, &profile->samples[i]);
        emit_comments(w, capture);
        /* An index is a place in this order: the profile's strings under their ids, then the extra ones. */
        for (uint32_t i = 0; i < w->extra_base && !failed(w); i++)
            emit_string(w, ap_profile_str(profile, i));
        for (uint32_t i = 1; i < ap_strings_count(w->extra); i++)
            emit_string(w, ap_strings_get(w->extra, i));
        zip_write(w, "", 0, Z_FINISH);
        r = w->error != 0 ? w->error : ap_out_error(out);
    }
    writer_close(w);
    return r;
}
