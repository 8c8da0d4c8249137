/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* profile.proto. Messages may come in any order: one pass counts and checks them, one fills tables, and samples are
 * read last. */
#include "format/import_internal.h"

#include "model/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Field numbers of Profile. */
enum {
    SAMPLE_TYPE = 1,
    SAMPLE = 2,
    MAPPING = 3,
    LOCATION = 4,
    FUNCTION = 5,
    STRING = 6,
    TIME_NANOS = 9,
    DURATION_NANOS = 10,
    PERIOD_TYPE = 11,
    PERIOD = 12,
    COMMENT = 13,
    FIELD_CNT = 16,
};

#define TYPES_MAX 64 /* sample types */

/* Bytes of a message that are still to be read. */
struct bytes {
    const unsigned char *p, *end;
};

struct field {
    uint32_t number;
    uint64_t value;    /* of a number */
    struct bytes data; /* of anything else; p NULL for a number */
};

struct span {
    uint32_t pos, len; /* in the document */
};

struct function_row {
    uint64_t id;
    uint32_t name, file; /* strings */
};

struct mapping_row {
    uint64_t id, start, limit, offset;
    uint32_t file, build_id; /* strings */
    uint32_t index;          /* in the profile, UINT32_MAX = not added yet */
};

struct location_row {
    uint64_t id, mapping, address;
    struct span message;
    uint32_t first, frame_cnt; /* in reader.frames, once `known` */
    bool known;
};

struct reader {
    const unsigned char *data;
    size_t len;
    const struct ap_import_opts *opts;
    struct ap_capture *capture;
    struct ap_profile *profile;
    struct ap_error *err;

    uint32_t counts[FIELD_CNT];
    struct span *strings;
    struct function_row *functions;
    struct mapping_row *mappings;
    struct location_row *locations;
    uint32_t string_cnt, function_cnt, mapping_cnt, location_cnt;
    struct ap_table function_ids, mapping_ids, location_ids;
    uint32_t *frames; /* of locations, leaf first */
    uint32_t frame_cnt, frame_cap;

    struct span types[TYPES_MAX];
    uint32_t type_cnt;
    struct span period_type;
    uint64_t time_ns, duration_ns, period;

    unsigned count_column, value_column; /* TYPES_MAX = none */
    uint64_t value_scale;                /* ns in one of the column's unit */
    uint32_t main_comm;                  /* thread name of samples that have none */
    struct ap_buf text;                  /* scratch */
    struct ap_import_stack stack;
};

static int bad(const struct reader *reader, const char *what)
{
    return ap_error_set(reader->err, -EINVAL, "pprof: %s", what);
}

static int no_memory(const struct reader *reader)
{
    return ap_error_set(reader->err, -ENOMEM, "out of memory");
}

static bool read_varint(struct bytes *bytes, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && bytes->p < bytes->end; shift += 7) {
        unsigned char byte = *bytes->p++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* 1 with the next field, 0 at the end, -EINVAL. */
static int next_field(struct bytes *bytes, struct field *ret)
{
    uint64_t key, value = 0;

    if (bytes->p == bytes->end)
        return 0;
    if (!read_varint(bytes, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return -EINVAL;
    *ret = (struct field){.number = (uint32_t)(key >> 3)};
    switch (key & 7) {
    case 0:
        return read_varint(bytes, &ret->value) ? 1 : -EINVAL;
    case 1:
        value = 8;
        break;
    case 2:
        if (!read_varint(bytes, &value))
            return -EINVAL;
        break;
    case 5:
        value = 4;
        break;
    default:
        return -EINVAL;
    }
    if (value > (uint64_t)(bytes->end - bytes->p))
        return -EINVAL;
    ret->data = (struct bytes){bytes->p, bytes->p + value};
    bytes->p += value;
    return 1;
}

static struct bytes bytes_of(const struct reader *reader, struct span span)
{
    return (struct bytes){reader->data + span.pos, reader->data + span.pos + span.len};
}

static struct span span_of(const struct reader *reader, struct bytes bytes)
{
    return (struct span){(uint32_t)(bytes.p - reader->data), (uint32_t)(bytes.end - bytes.p)};
}

/* The next number of a repeated field that may be packed: `*field` is the field as it was read. */
static bool next_number(struct field *field, uint64_t *ret)
{
    if (field->data.p == NULL) {
        if (field->data.end != NULL)
            return false;
        *ret = field->value;
        field->data.end = (const unsigned char *)"";
        return true;
    }
    return field->data.p < field->data.end && read_varint(&field->data, ret);
}

static int count_fields(struct reader *reader)
{
    struct bytes bytes = {reader->data, reader->data + reader->len};
    struct field field;
    int r;

    while ((r = next_field(&bytes, &field)) > 0)
        if (field.number < FIELD_CNT && ++reader->counts[field.number] > AP_IMPORT_ROWS_MAX)
            return ap_error_set(reader->err, -E2BIG, "pprof: more than %u messages of one kind", AP_IMPORT_ROWS_MAX);
    if (r < 0)
        return bad(reader, "the bytes are no protobuf message, or cut off");
    if (reader->counts[SAMPLE] == 0 || reader->counts[SAMPLE_TYPE] == 0)
        return bad(reader, "there are no samples");
    if (reader->counts[SAMPLE_TYPE] > TYPES_MAX)
        return ap_error_set(reader->err, -E2BIG, "pprof: more than %d sample types", TYPES_MAX);
    reader->strings = calloc((size_t)reader->counts[STRING] + 1, sizeof(*reader->strings));
    reader->functions = calloc((size_t)reader->counts[FUNCTION] + 1, sizeof(*reader->functions));
    reader->mappings = calloc((size_t)reader->counts[MAPPING] + 1, sizeof(*reader->mappings));
    reader->locations = calloc((size_t)reader->counts[LOCATION] + 1, sizeof(*reader->locations));
    return reader->strings != NULL && reader->functions != NULL && reader->mappings != NULL && reader->locations != NULL
               ? 0
               : no_memory(reader);
}

/* Index of the row of an id; AP_TABLE_NONE when there is none. The id is the first member of every row. */
static uint32_t find_id(const struct ap_table *table, const void *rows, size_t row_sz, uint64_t id)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(table, ap_table_mix(id), &pos)) != AP_TABLE_NONE) {
        uint64_t other;

        memcpy(&other, (const char *)rows + i * row_sz, sizeof(other));
        if (other == id)
            break;
    }
    return i;
}

static int put_id(const struct reader *reader, struct ap_table *table, const void *rows, size_t row_sz, uint64_t id,
                  uint32_t index)
{
    if (id == 0 || find_id(table, rows, row_sz, id) != AP_TABLE_NONE)
        return bad(reader, "an id is 0 or was given twice");
    if (ap_table_reserve(table) != 0)
        return no_memory(reader);
    ap_table_put(table, ap_table_mix(id), index);
    return 0;
}

static bool read_string(const struct reader *reader, uint64_t index, uint32_t *ret)
{
    if (index >= reader->counts[STRING])
        return false;
    *ret = (uint32_t)index;
    return true;
}

static int add_function(struct reader *reader, struct bytes bytes)
{
    struct function_row row = {0};
    struct field field;
    bool fine = true;
    int r;

    while (fine && (r = next_field(&bytes, &field)) != 0) {
        fine = r > 0;
        if (field.number == 1)
            row.id = field.value;
        else if (field.number == 2)
            fine = read_string(reader, field.value, &row.name);
        else if (field.number == 4)
            fine = read_string(reader, field.value, &row.file);
    }
    if (!fine)
        return bad(reader, "a function that cannot be");
    reader->functions[reader->function_cnt] = row;
    return put_id(reader, &reader->function_ids, reader->functions, sizeof(row), row.id, reader->function_cnt++);
}

static int add_mapping(struct reader *reader, struct bytes bytes)
{
    struct mapping_row row = {.index = UINT32_MAX};
    struct field field;
    bool fine = true;
    int r;

    while (fine && (r = next_field(&bytes, &field)) != 0) {
        fine = r > 0;
        switch (field.number) {
        case 1:
            row.id = field.value;
            break;
        case 2:
            row.start = field.value;
            break;
        case 3:
            row.limit = field.value;
            break;
        case 4:
            row.offset = field.value;
            break;
        case 5:
            fine = fine && read_string(reader, field.value, &row.file);
            break;
        case 6:
            fine = fine && read_string(reader, field.value, &row.build_id);
            break;
        default:
            break;
        }
    }
    if (!fine)
        return bad(reader, "a mapping that cannot be");
    reader->mappings[reader->mapping_cnt] = row;
    return put_id(reader, &reader->mapping_ids, reader->mappings, sizeof(row), row.id, reader->mapping_cnt++);
}

static int add_location(struct reader *reader, struct bytes bytes)
{
    struct location_row row = {.message = span_of(reader, bytes)};
    struct field field;
    int r;

    while ((r = next_field(&bytes, &field)) != 0) {
        if (r < 0)
            return bad(reader, "a location that cannot be");
        if (field.number == 1)
            row.id = field.value;
        else if (field.number == 2)
            row.mapping = field.value;
        else if (field.number == 3)
            row.address = field.value;
    }
    reader->locations[reader->location_cnt] = row;
    return put_id(reader, &reader->location_ids, reader->locations, sizeof(row), row.id, reader->location_cnt++);
}

static int fill_field(struct reader *reader, const struct field *field)
{
    bool number = field->number == TIME_NANOS || field->number == DURATION_NANOS || field->number == PERIOD;

    if (field->number >= SAMPLE_TYPE && field->number <= PERIOD && field->number != COMMENT && field->number != 7 &&
        field->number != 8 && number != (field->data.p == NULL))
        return bad(reader, "a field of the wrong type");
    switch (field->number) {
    case SAMPLE_TYPE:
        reader->types[reader->type_cnt++] = span_of(reader, field->data);
        return 0;
    case MAPPING:
        return add_mapping(reader, field->data);
    case LOCATION:
        return add_location(reader, field->data);
    case FUNCTION:
        return add_function(reader, field->data);
    case STRING:
        reader->strings[reader->string_cnt++] = span_of(reader, field->data);
        return 0;
    case TIME_NANOS:
        reader->time_ns = field->value;
        return 0;
    case DURATION_NANOS:
        reader->duration_ns = field->value;
        return 0;
    case PERIOD_TYPE:
        reader->period_type = span_of(reader, field->data);
        return 0;
    case PERIOD:
        reader->period = field->value;
        return 0;
    default:
        return 0;
    }
}

static int fill(struct reader *reader)
{
    struct bytes bytes = {reader->data, reader->data + reader->len};
    struct field field;
    int r = 0;

    while (r == 0 && next_field(&bytes, &field) > 0)
        r = fill_field(reader, &field);
    return r;
}

/* Text of a string, in reader->text; names end at a NUL. */
static const char *text_of(struct reader *reader, uint64_t index)
{
    ap_buf_reset(&reader->text);
    if (index < reader->string_cnt)
        ap_buf_append(&reader->text, reader->data + reader->strings[index].pos, reader->strings[index].len);
    else
        ap_buf_str(&reader->text, "");
    return reader->text.error == 0 ? reader->text.data : "";
}

static int profile_string(struct reader *reader, uint32_t index, uint32_t *ret)
{
    int r = ap_strings_add(reader->profile->strings, (const char *)reader->data + reader->strings[index].pos,
                           index < reader->string_cnt ? reader->strings[index].len : 0, ret);

    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

/* ---- What the columns are -----------------------------------------------------------------------------------------
 */

struct type {
    char type[32], unit[32];
};

static void read_type(struct reader *reader, struct span span, struct type *ret)
{
    struct bytes bytes = bytes_of(reader, span);
    struct field field;

    *ret = (struct type){0};
    while (next_field(&bytes, &field) > 0) {
        if (field.number == 1)
            (void)snprintf(ret->type, sizeof(ret->type), "%s", text_of(reader, field.value));
        else if (field.number == 2)
            (void)snprintf(ret->unit, sizeof(ret->unit), "%s", text_of(reader, field.value));
    }
}

/* ns in a unit of time; 0 for other units. */
static uint64_t unit_ns(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"nanoseconds", 1}, {"ns", 1},         {"microseconds", 1000},  {"us", 1000},      {"milliseconds", 1000000},
        {"ms", 1000000},    {"nanosecond", 1}, {"seconds", 1000000000}, {"s", 1000000000},
    };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(unit, units[i].name) == 0)
            return units[i].ns;
    return 0;
}

/* What a time is that is called so; 0 = not known. */
static uint8_t kind_of(const char *type)
{
    static const struct {
        const char *name;
        uint8_t kind;
    } types[] = {
        {"cpu", AP_KIND_CPU},         {"off_cpu", AP_KIND_OFFCPU}, {"offcpu", AP_KIND_OFFCPU},  {"delay", AP_KIND_LOCK},
        {"latency", AP_KIND_SYSCALL}, {"gpu", AP_KIND_GPU},        {"off-cpu", AP_KIND_OFFCPU},
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(type, types[i].name) == 0)
            return types[i].kind;
    return 0;
}

/* The kind that was asked for, or the first column of time that has one of ours. */
static int choose_columns(struct reader *reader, uint8_t *ret_kind)
{
    uint8_t kind = reader->opts->kind;
    struct type type;

    reader->count_column = reader->value_column = TYPES_MAX;
    for (unsigned i = 0; i < reader->type_cnt; i++) {
        uint8_t own;

        read_type(reader, reader->types[i], &type);
        own = kind_of(type.type);
        if (strcmp(type.unit, "count") == 0 && reader->count_column == TYPES_MAX)
            reader->count_column = i;
        if (unit_ns(type.unit) == 0 || (kind == 0 && own == 0))
            continue;
        if (reader->value_column == TYPES_MAX || (own != 0 && own == reader->opts->kind)) {
            reader->value_column = i;
            reader->value_scale = unit_ns(type.unit);
            kind = kind != 0 ? kind : own;
        }
    }
    read_type(reader, reader->period_type, &type);
    if (reader->value_column == TYPES_MAX && reader->count_column != TYPES_MAX && unit_ns(type.unit) != 0 &&
        reader->period > 0 && reader->period < UINT32_MAX) {
        /* Samples of a clock: each stands for a period. */
        kind = kind != 0 ? kind : kind_of(type.type);
        reader->value_column = reader->count_column;
        reader->value_scale = unit_ns(type.unit) * reader->period;
    }
    if (kind == 0 || reader->value_column == TYPES_MAX) {
        read_type(reader, reader->types[0], &type);
        return ap_error_set(reader->err, -EINVAL,
                            "pprof: no kind of ours can be told from its sample types (the first is %s/%s): a type in "
                            "nanoseconds is needed, and the kind",
                            type.type, type.unit);
    }
    *ret_kind = kind;
    return 0;
}

/* ---- Rows ----------------------------------------------------------------------------------------------------------
 */

static unsigned hex(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

static int mapping_index(struct reader *reader, uint64_t id, uint32_t *ret)
{
    uint32_t i = find_id(&reader->mapping_ids, reader->mappings, sizeof(*reader->mappings), id);
    struct ap_mapping mapping = {0};
    const char *text;
    int r;

    if (id == 0 || i == AP_TABLE_NONE) {
        *ret = 0;
        return id == 0 ? 0 : bad(reader, "a location names a mapping that is not there");
    }
    struct mapping_row *row = &reader->mappings[i];
    if (row->index == UINT32_MAX) {
        mapping.start = row->start;
        mapping.limit = row->limit;
        mapping.file_off = row->offset;
        text = text_of(reader, row->build_id);
        for (; mapping.build_id_len < AP_BUILD_ID_MAX && hex(text[0]) < 16 && hex(text[1]) < 16; text += 2)
            mapping.build_id[mapping.build_id_len++] = (uint8_t)(hex(text[0]) << 4 | hex(text[1]));
        r = profile_string(reader, row->file, &mapping.path);
        if (r != 0)
            return r;
        r = ap_profile_add_mapping(reader->profile, &mapping, &row->index);
        if (r != 0)
            return ap_import_refused(r, reader->err);
    }
    *ret = row->index;
    return 0;
}

/* Cuts " [waker]" off the name in reader->text. */
static bool cut_waker(struct reader *reader)
{
    static const char ending[] = " [waker]";
    size_t len = strlen(reader->text.data), ending_len = sizeof(ending) - 1;

    if (strcmp(reader->text.data, "[woken by]") == 0)
        return true;
    if (len <= ending_len || strcmp(reader->text.data + len - ending_len, ending) != 0)
        return false;
    reader->text.data[len - ending_len] = '\0';
    return true;
}

static int add_location_frame(struct reader *reader, const struct ap_frame *frame)
{
    int r;

    if (reader->frame_cnt == reader->frame_cap) {
        uint32_t cap = reader->frame_cap == 0 ? 1024 : reader->frame_cap * 2;
        uint32_t *frames = cap > 2 * AP_IMPORT_ROWS_MAX ? NULL : reallocarray(reader->frames, cap, sizeof(*frames));

        if (frames == NULL)
            return no_memory(reader);
        reader->frames = frames;
        reader->frame_cap = cap;
    }
    r = ap_profile_add_frame(reader->profile, frame, &reader->frames[reader->frame_cnt]);
    if (r != 0)
        return ap_import_refused(r, reader->err);
    reader->frame_cnt++;
    return 0;
}

/* A line of a location: one function. */
static int add_line(struct reader *reader, struct bytes bytes, struct ap_frame frame)
{
    const char *module = ap_profile_str(reader->profile, reader->profile->mappings[frame.mapping].path);
    struct field field;
    uint64_t id = 0, line = 0, address = frame.offset;
    uint32_t i;
    int r;

    while ((r = next_field(&bytes, &field)) > 0) {
        if (field.number == 1)
            id = field.value;
        else if (field.number == 2)
            line = field.value;
    }
    i = find_id(&reader->function_ids, reader->functions, sizeof(*reader->functions), id);
    if (r < 0 || i == AP_TABLE_NONE)
        return bad(reader, "a line names a function that is not there");
    text_of(reader, reader->functions[i].name);
    if (reader->text.error != 0)
        return no_memory(reader);
    frame.waker = cut_waker(reader);
    ap_import_classify(reader->text.data, module, &frame);
    if (frame.kind != AP_FRAME_UNKNOWN || frame.mapping != 0)
        frame.offset = address;
    frame.line = line > UINT32_MAX ? 0 : (uint32_t)line;
    r = ap_strings_add(reader->profile->strings, reader->text.data, strlen(reader->text.data), &frame.function);
    if (r != 0)
        return ap_import_refused(r, reader->err);
    r = profile_string(reader, reader->functions[i].file, &frame.file);
    return r == 0 ? add_location_frame(reader, &frame) : r;
}

/* A location without lines: what our own agent would call it. */
static int add_bare(struct reader *reader, const struct location_row *row, struct ap_frame frame)
{
    const char *path = ap_profile_str(reader->profile, reader->profile->mappings[frame.mapping].path);
    const char *slash = strrchr(path, '/');
    int r;

    ap_buf_reset(&reader->text);
    if (path[0] != '\0')
        ap_buf_printf(&reader->text, "%s+0x%" PRIx64, slash != NULL ? slash + 1 : path, frame.offset);
    else
        ap_buf_printf(&reader->text, "0x%" PRIx64, row->address);
    if (reader->text.error != 0)
        return no_memory(reader);
    frame.kind = AP_FRAME_UNKNOWN;
    frame.inlined = false;
    r = ap_strings_add(reader->profile->strings, reader->text.data, reader->text.len, &frame.function);
    return r == 0 ? add_location_frame(reader, &frame) : ap_import_refused(r, reader->err);
}

/* Makes the frames of a location. */
static int resolve(struct reader *reader, struct location_row *row)
{
    struct bytes bytes = bytes_of(reader, row->message);
    struct ap_frame frame = {.offset = row->address};
    uint32_t lines = 0;
    struct field field;
    int r = mapping_index(reader, row->mapping, &frame.mapping);

    if (r != 0)
        return r;
    const struct ap_mapping *mapping = &reader->profile->mappings[frame.mapping];
    if (mapping->start != 0 && row->address >= mapping->start)
        frame.offset = row->address - mapping->start + mapping->file_off;
    row->first = reader->frame_cnt;
    for (struct bytes count = bytes; next_field(&count, &field) > 0;)
        lines += field.number == 4 && field.data.p != NULL;
    if (lines > AP_STACK_FRAMES_MAX)
        return bad(reader, "a location of more than 512 lines");
    if (lines == 0)
        r = add_bare(reader, row, frame);
    while (r == 0 && next_field(&bytes, &field) > 0) {
        if (field.number != 4 || field.data.p == NULL)
            continue;
        frame.inlined = --lines > 0; /* the last line is the function that is really there */
        r = add_line(reader, field.data, frame);
    }
    row->frame_cnt = reader->frame_cnt - row->first;
    row->known = r == 0;
    return r;
}

/* ---- Samples -------------------------------------------------------------------------------------------------------
 */

struct sample {
    uint32_t frames[AP_STACK_FRAMES_MAX]; /* leaf first */
    uint32_t frame_cnt;
    bool truncated;
    uint64_t values[TYPES_MAX];
    unsigned value_cnt;
    struct ap_series series;
};

static int add_frames(struct reader *reader, struct sample *sample, struct field field)
{
    uint64_t id;

    while (!sample->truncated && next_number(&field, &id)) {
        uint32_t i = find_id(&reader->location_ids, reader->locations, sizeof(*reader->locations), id);
        struct location_row *row;
        int r;

        if (i == AP_TABLE_NONE)
            return bad(reader, "a sample names a location that is not there");
        row = &reader->locations[i];
        r = row->known ? 0 : resolve(reader, row);
        if (r != 0)
            return r;
        for (uint32_t j = 0; j < row->frame_cnt && !sample->truncated; j++) {
            uint32_t frame = reader->frames[row->first + j];
            const char *name = ap_profile_str(reader->profile, reader->profile->frames[frame].function);

            if (sample->frame_cnt == AP_STACK_FRAMES_MAX || ap_import_is_truncation(name))
                sample->truncated = true;
            else
                sample->frames[sample->frame_cnt++] = frame;
        }
    }
    return 0;
}

static int add_label(struct reader *reader, struct sample *sample, struct bytes bytes)
{
    uint64_t key = 0, str = 0, num = 0;
    struct field field;
    const char *name;
    int r;

    while ((r = next_field(&bytes, &field)) > 0) {
        if (field.number == 1)
            key = field.value;
        else if (field.number == 2)
            str = field.value;
        else if (field.number == 3)
            num = field.value;
    }
    if (r < 0 || key >= reader->string_cnt || str >= reader->string_cnt)
        return bad(reader, "a label that cannot be");
    name = text_of(reader, key);
    if (strcmp(name, "pid") == 0 || strcmp(name, "process_id") == 0)
        sample->series.pid = num > UINT32_MAX ? 0 : (uint32_t)num;
    else if (str != 0 && (strcmp(name, "comm") == 0 || strcmp(name, "thread") == 0 || strcmp(name, "thread_name") == 0))
        return profile_string(reader, (uint32_t)str, &sample->series.comm);
    else if (str != 0 && strcmp(name, "container") == 0)
        return profile_string(reader, (uint32_t)str, &sample->series.container);
    return 0;
}

static int read_sample(struct reader *reader, struct bytes bytes, struct sample *sample)
{
    struct field field;
    int r;

    sample->frame_cnt = sample->value_cnt = 0;
    sample->truncated = false;
    sample->series = (struct ap_series){.comm = reader->main_comm};
    while ((r = next_field(&bytes, &field)) > 0) {
        uint64_t value;

        r = 0;
        if (field.number == 1) {
            r = add_frames(reader, sample, field);
        } else if (field.number == 2) {
            while (next_number(&field, &value)) {
                if (sample->value_cnt == TYPES_MAX)
                    return bad(reader, "a sample has more values than there are sample types");
                sample->values[sample->value_cnt++] = value;
            }
        } else if (field.number == 3 && field.data.p != NULL) {
            r = add_label(reader, sample, field.data);
        }
        if (r != 0)
            return r;
    }
    if (r < 0 || sample->value_cnt != reader->type_cnt)
        return bad(reader, "a sample is cut off, or has not one value for each sample type");
    return 0;
}

static int add_sample(struct reader *reader, struct sample *sample)
{
    uint64_t count = 1, value = sample->values[reader->value_column];
    uint32_t series;
    int r;

    if (reader->count_column != TYPES_MAX)
        count = sample->values[reader->count_column];
    if (count > INT64_MAX || value > INT64_MAX || __builtin_mul_overflow(value, reader->value_scale, &value))
        return bad(reader, "a value is negative or too large");
    reader->stack.cnt = 0;
    reader->stack.truncated = sample->truncated;
    while (sample->frame_cnt > 0)
        ap_import_stack_push(&reader->stack, sample->frames[--sample->frame_cnt]);
    r = ap_profile_add_series(reader->profile, &sample->series, &series);
    if (r == 0)
        r = ap_import_stack_add(&reader->stack, reader->profile, series, count, value);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

/* Samples without a thread name are called after the main binary. */
static int name_main(struct reader *reader)
{
    const char *path = reader->mapping_cnt > 0 ? text_of(reader, reader->mappings[0].file) : "";
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    int r;

    if (name[0] == '\0' || name[0] == '[')
        name = "[unknown]";
    r = ap_strings_add(reader->profile->strings, name, strlen(name), &reader->main_comm);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

static int read_samples(struct reader *reader)
{
    struct bytes bytes = {reader->data, reader->data + reader->len};
    struct sample *sample = malloc(sizeof(*sample));
    struct field field;
    int r;

    if (sample == NULL)
        return no_memory(reader);
    r = name_main(reader);

    while (r == 0 && next_field(&bytes, &field) > 0) {
        if (field.number != SAMPLE)
            continue;
        r = read_sample(reader, field.data, sample);
        if (r == 0)
            r = add_sample(reader, sample);
    }
    free(sample);
    return r;
}

/* ---- The account, which our own writer puts into comments ---------------------------------------------------------
 */

static void read_comment(const char *text, struct ap_account *account, struct ap_agent_info *agent)
{
    static const char prefix[] = "aperture: ";
    const struct {
        const char *name;
        uint64_t *ret;
    } sums[] = {
        {"below_min", &account->below_min},
        {"below_min_ns", &account->below_min_ns},
        {"folded", &account->folded},
        {"unmatched", &account->unmatched},
    };
    char name[64];
    uint64_t value;

    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
        return;
    text += sizeof(prefix) - 1;
    if (strncmp(text, "agent version ", 14) == 0)
        (void)snprintf(agent->version, sizeof(agent->version), "%s", text + 14);
    if (sscanf(text, "expected=%" SCNu64, &value) == 1) {
        const char *delivered = strstr(text, "delivered=");

        account->expected = value;
        if (delivered != NULL)
            account->delivered = strtoull(delivered + 10, NULL, 10);
    }
    if (sscanf(text, "lost %63[a-z_]=%" SCNu64, name, &value) == 2)
        for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
            if (strcmp(name, ap_loss_name(i)) == 0)
                account->losses[i] = value;
    if (sscanf(text, "%63[a-z_]=%" SCNu64, name, &value) == 2)
        for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++)
            if (strcmp(name, sums[i].name) == 0)
                *sums[i].ret = value;
}

static void read_comments(struct reader *reader)
{
    struct bytes bytes = {reader->data, reader->data + reader->len};
    struct ap_account *account = &reader->capture->accounts[0];
    struct field field;

    while (next_field(&bytes, &field) > 0) {
        uint64_t index;

        while (field.number == COMMENT && next_number(&field, &index))
            if (index < reader->string_cnt && reader->strings[index].len < 256)
                read_comment(text_of(reader, index), account, &reader->capture->agent);
    }
    if (account->expected == 0 && account->delivered == 0)
        account->expected = account->delivered = ap_profile_total_count(reader->profile);
}

static int read_profile(struct reader *reader)
{
    uint8_t kind = 0;
    int r = count_fields(reader);

    if (r == 0)
        r = fill(reader);
    if (r == 0)
        r = choose_columns(reader, &kind);
    if (r != 0)
        return r;
    reader->profile = ap_import_profile(reader->capture, kind, reader->err);
    if (reader->profile == NULL)
        return -ENOMEM;
    if (reader->time_ns <= INT64_MAX)
        reader->profile->start_ns = reader->time_ns;
    if (reader->duration_ns <= INT64_MAX)
        reader->profile->duration_ns = reader->duration_ns;
    if (kind == AP_KIND_CPU && reader->period <= INT64_MAX)
        reader->profile->period_ns = reader->period;
    r = read_samples(reader);
    if (r == 0)
        read_comments(reader);
    return r;
}

int ap_import_pprof(struct ap_capture *capture, const unsigned char *data, size_t len,
                    const struct ap_import_opts *opts, struct ap_error *err)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    int r;

    if (reader == NULL)
        return ap_error_set(err, -ENOMEM, "out of memory");
    reader->data = data;
    reader->len = len;
    reader->opts = opts;
    reader->capture = capture;
    reader->err = err;
    ap_buf_init(&reader->text, AP_IMPORT_UNPACKED_SZ);
    r = read_profile(reader);
    ap_buf_done(&reader->text);
    ap_table_done(&reader->function_ids);
    ap_table_done(&reader->mapping_ids);
    ap_table_done(&reader->location_ids);
    free(reader->strings);
    free(reader->functions);
    free(reader->mappings);
    free(reader->locations);
    free(reader->frames);
    free(reader);
    return r;
}
