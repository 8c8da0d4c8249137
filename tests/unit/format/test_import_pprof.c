/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Profiles put together by hand, as other programs write them. */
#include "fixture.h"

#include "format/import.h"

#include <errno.h>

static void put_varint(struct ap_buf *buf, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        ap_buf_char(buf, (char)(value | 0x80));
    ap_buf_char(buf, (char)value);
}

static void put_number(struct ap_buf *buf, unsigned field, uint64_t value)
{
    put_varint(buf, (uint64_t)field << 3);
    put_varint(buf, value);
}

static void put_bytes(struct ap_buf *buf, unsigned field, const void *data, size_t len)
{
    put_varint(buf, (uint64_t)field << 3 | 2);
    put_varint(buf, len);
    ap_buf_append(buf, data, len);
}

/* A message of numbers: field, value, ..., 0. */
static void put_message(struct ap_buf *buf, unsigned field, ...)
{
    struct ap_buf message;
    unsigned number;
    va_list args;

    ap_buf_init(&message, 1000);
    ap_buf_str(&message, "");
    va_start(args, field);
    while ((number = va_arg(args, unsigned)) != 0)
        put_number(&message, number, va_arg(args, unsigned));
    va_end(args);
    put_bytes(buf, field, message.data, message.len);
    ap_buf_done(&message);
}

/* A location with its lines' functions. */
static void put_location(struct ap_buf *buf, unsigned id, unsigned mapping, unsigned address, unsigned lines,
                         const unsigned *functions)
{
    struct ap_buf message;

    ap_buf_init(&message, 100000);
    put_number(&message, 1, id);
    put_number(&message, 2, mapping);
    put_number(&message, 3, address);
    for (unsigned i = 0; i < lines; i++)
        put_message(&message, 4, 1, functions[i], 2, 10 + i, 0);
    put_bytes(buf, 4, message.data, message.len);
    ap_buf_done(&message);
}

static const char *const strings[] = {"",    "cpu",      "nanoseconds", "samples", "count",  "main", "leaf",
                                      "inl", "/bin/app", "a1b2",        "wall",    "thread", "io",   "seconds"};

static void begin(struct ap_buf *buf)
{
    ap_buf_init(buf, 1u << 20);
    for (unsigned i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        put_bytes(buf, 6, strings[i], strlen(strings[i]));
}

/* Two functions, one inlined into the other, in one binary. */
static void put_code(struct ap_buf *buf)
{
    put_message(buf, 3, 1, 7, 2, 0x1000, 3, 0x9000, 4, 0x200, 5, 8, 6, 9, 0);
    put_message(buf, 5, 1, 100, 2, 5, 0);
    put_message(buf, 5, 1, 200, 2, 6, 0);
    put_message(buf, 5, 1, 300, 2, 7, 4, 8, 0);
    put_location(buf, 1, 7, 0x1100, 1, (const unsigned[]){100});
    put_location(buf, 2, 7, 0x1200, 2, (const unsigned[]){300, 200});
    put_location(buf, 3, 7, 0x1300, 0, NULL);
    put_location(buf, 4, 0, 0xabc, 0, NULL);
}

static struct ap_capture *import(struct ap_buf *buf, uint8_t kind, struct ap_error *err)
{
    const struct ap_import_opts opts = {.kind = kind, .start_ns = 5};
    struct ap_capture *capture = ap_import(AP_IMPORT_PPROF, buf->data, buf->len, &opts, err);

    ap_buf_done(buf);
    return capture;
}

static const struct ap_frame *frame_of(const struct ap_profile *profile, uint32_t sample, uint32_t i)
{
    const struct ap_stack *stack = &profile->stacks[profile->samples[sample].stack];

    assert_true(i < stack->frame_cnt);
    return &profile->frames[profile->stack_frames[stack->first + i]];
}

static void test_profile(void **state)
{
    struct ap_capture *capture;
    const struct ap_profile *p;
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    begin(&buf);
    /* Samples first, values unpacked and packed: the order does not matter. */
    put_message(&buf, 2, 1, 2, 1, 1, 2, 3, 2, 30, 0);
    put_bytes(&buf, 2, "\x0a\x03\x03\x04\x01\x12\x02\x04\x28\x1a\x04\x08\x0b\x10\x0c", 15);
    put_message(&buf, 1, 1, 3, 2, 4, 0);
    put_message(&buf, 1, 1, 1, 2, 2, 0);
    put_number(&buf, 9, 1234);
    put_number(&buf, 10, 99);
    put_code(&buf);
    capture = import(&buf, 0, &err);
    if (capture == NULL)
        fail_msg("%s", err.text);
    p = capture->profiles[0];
    assert_int_equal(p->kind, AP_KIND_CPU);
    assert_int_equal(p->start_ns, 1234);
    assert_int_equal(p->duration_ns, 99);
    assert_int_equal(p->sample_cnt, 2);
    assert_int_equal(ap_profile_total_count(p), 7);
    assert_int_equal(ap_profile_total_value(p), 70);
    assert_string_equal(ap_profile_str(p, p->series[p->samples[0].series].comm), "app");
    assert_string_equal(ap_profile_str(p, p->series[p->samples[1].series].comm), "io");
    assert_string_equal(ap_profile_str(p, frame_of(p, 0, 0)->function), "inl");
    assert_true(frame_of(p, 0, 0)->inlined && !frame_of(p, 0, 1)->inlined);
    assert_string_equal(ap_profile_str(p, frame_of(p, 0, 1)->function), "leaf");
    assert_int_equal(frame_of(p, 0, 1)->line, 11);
    assert_int_equal(frame_of(p, 0, 1)->offset, 0x1200 - 0x1000 + 0x200);
    assert_int_equal(frame_of(p, 0, 1)->kind, AP_FRAME_NATIVE);
    assert_string_equal(ap_profile_str(p, frame_of(p, 1, 0)->function), "app+0x500");
    assert_int_equal(frame_of(p, 1, 0)->kind, AP_FRAME_UNKNOWN);
    assert_string_equal(ap_profile_str(p, frame_of(p, 1, 1)->function), "0xabc");
    assert_int_equal(p->mappings[1].build_id_len, 2);
    assert_memory_equal(p->mappings[1].build_id, "\xa1\xb2", 2);
    ap_capture_free(capture);
}

/* Columns of other units, and clocks that count only. */
static void test_columns(void **state)
{
    struct ap_capture *capture;
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    begin(&buf);
    put_message(&buf, 1, 1, 10, 2, 13, 0); /* wall, seconds */
    put_code(&buf);
    put_message(&buf, 2, 1, 1, 2, 3, 0);
    capture = import(&buf, AP_KIND_OFFCPU, &err);
    assert_non_null(capture);
    assert_int_equal(ap_profile_total_value(capture->profiles[0]), UINT64_C(3000000000));
    assert_int_equal(ap_profile_total_count(capture->profiles[0]), 1);
    ap_capture_free(capture);

    begin(&buf);
    put_message(&buf, 1, 1, 10, 2, 13, 0);
    put_code(&buf);
    put_message(&buf, 2, 1, 1, 2, 3, 0);
    assert_null(import(&buf, 0, &err));
    assert_non_null(strstr(err.text, "wall/seconds"));

    begin(&buf);
    put_message(&buf, 1, 1, 3, 2, 4, 0);
    put_message(&buf, 11, 1, 1, 2, 2, 0);
    put_number(&buf, 12, 1000);
    put_code(&buf);
    put_message(&buf, 2, 1, 1, 2, 3, 0);
    capture = import(&buf, 0, &err);
    assert_non_null(capture);
    assert_int_equal(capture->profiles[0]->kind, AP_KIND_CPU);
    assert_int_equal(ap_profile_total_value(capture->profiles[0]), 3000);
    assert_int_equal(ap_profile_total_count(capture->profiles[0]), 3);
    ap_capture_free(capture);
}

static void put_broken(struct ap_buf *buf, unsigned which)
{
    switch (which) {
    case 0:
        put_message(buf, 2, 1, 99, 2, 1, 0); /* no such location */
        break;
    case 1:
        put_message(buf, 2, 1, 1, 0); /* no value */
        break;
    case 2:
        put_message(buf, 2, 1, 1, 2, 1, 2, 2, 0); /* too many */
        break;
    case 3:
        put_message(buf, 5, 1, 100, 0); /* the id once more */
        break;
    case 4:
        put_message(buf, 5, 1, 0, 0);
        break;
    case 5:
        put_message(buf, 5, 1, 400, 2, 99, 0); /* no such string */
        break;
    case 6:
        put_location(buf, 9, 99, 1, 1, (const unsigned[]){100}); /* no such mapping */
        put_message(buf, 2, 1, 9, 2, 1, 0);
        break;
    case 7:
        put_location(buf, 9, 0, 1, 1, (const unsigned[]){999}); /* no such function */
        put_message(buf, 2, 1, 9, 2, 1, 0);
        break;
    case 8:
        put_bytes(buf, 2, "\x0a\x01\x01\x12\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 15); /* -1 */
        break;
    case 9:
        put_bytes(buf, 2, "\x0a\x05\x01", 3); /* longer than the message */
        break;
    case 10:
        ap_buf_append(buf, "\x12\x7f", 2); /* longer than the file */
        break;
    case 11:
        ap_buf_append(buf, "\x13", 1); /* groups are long gone */
        break;
    case 12:
        put_number(buf, 2, 7); /* a sample that is a number */
        break;
    case 13:
        put_message(buf, 2, 1, 1, 2, 1, 0);
        put_bytes(buf, 2, "\x0a\x01\x01\x12\x01\x01\x1a\x02\x08\x63", 10); /* label key out of range */
        break;
    default:
        break;
    }
}

static void test_broken(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= 13; i++) {
        struct ap_error err = {0};
        struct ap_buf buf;

        begin(&buf);
        put_message(&buf, 1, 1, 1, 2, 2, 0);
        put_code(&buf);
        put_message(&buf, 2, 1, 1, 2, 1, 0);
        put_broken(&buf, i);
        struct ap_capture *capture = import(&buf, 0, &err);
        if (capture != NULL)
            fail_msg("case %u was taken", i);
        assert_int_equal(err.code, -EINVAL);
        assert_non_null(strstr(err.text, "pprof"));
    }
}

/* A location of many lines, named very often, costs no more than stacks may be long. */
static void test_bounds(void **state)
{
    unsigned functions[600];
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    for (unsigned i = 0; i < 600; i++)
        functions[i] = 100;
    for (unsigned lines = 512; lines <= 513; lines++) {
        unsigned char sample[1100] = {0x0a, 0x80, 0x08};

        begin(&buf);
        put_message(&buf, 1, 1, 1, 2, 2, 0);
        put_code(&buf);
        put_location(&buf, 9, 7, 0x1400, lines, functions);
        memset(sample + 3, 9, 1024);
        memcpy(sample + 3 + 1024, "\x12\x01\x01", 3);
        put_bytes(&buf, 2, sample, 3 + 1024 + 3);
        struct ap_capture *capture = import(&buf, 0, &err);
        assert_int_equal(capture != NULL, lines == 512);
        if (capture != NULL) {
            assert_int_equal(capture->profiles[0]->stacks[0].frame_cnt, 512);
            assert_true(capture->profiles[0]->stacks[0].truncated);
        }
        ap_capture_free(capture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
