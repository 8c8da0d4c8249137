/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>

static void read_capture(struct pp *pp, struct ap_capture *capture)
{
    size_t len;
    char *data = fixture_render(AP_FORMAT_PPROF, capture, &len);

    pp_read(pp, data, len);
    free(data);
}

/* What the format demands of any profile. */
static void assert_valid(const struct pp *pp)
{
    assert_int_equal(pp->type_cnt, 2);
    assert_string_equal(pp_str(pp, 0), "");
    for (unsigned i = 0; i < pp->mapping_cnt; i++) {
        pp_by_id(pp->mappings, pp->mapping_cnt, pp->mappings[i].f[1]);
        pp_str(pp, pp->mappings[i].f[5]);
        pp_str(pp, pp->mappings[i].f[6]);
    }
    for (unsigned i = 0; i < pp->function_cnt; i++) {
        const struct pp_row *function = &pp->functions[i];

        pp_by_id(pp->functions, pp->function_cnt, function->f[1]);
        assert_string_not_equal(pp_str(pp, function->f[2]), "");
        assert_int_equal(function->f[2], function->f[3]);
        pp_str(pp, function->f[4]);
    }
    for (unsigned i = 0; i < pp->location_cnt; i++) {
        const struct pp_row *location = &pp->locations[i];

        pp_by_id(pp->locations, pp->location_cnt, location->f[1]);
        if (location->f[2] != 0)
            pp_by_id(pp->mappings, pp->mapping_cnt, location->f[2]);
        assert_true(location->sub_cnt > 0);
        for (unsigned j = 0; j < location->sub_cnt; j++)
            pp_by_id(pp->functions, pp->function_cnt, location->sub[j][1]);
    }
    for (unsigned i = 0; i < pp->sample_cnt; i++) {
        assert_int_equal(pp->samples[i].value_cnt, 2);
        assert_true(pp->samples[i].location_cnt > 0);
        for (unsigned j = 0; j < pp->samples[i].location_cnt; j++)
            pp_by_id(pp->locations, pp->location_cnt, pp->samples[i].locations[j]);
    }
    for (unsigned i = 0; i < pp->string_cnt; i++) {
        for (const char *s = pp->strings[i]; *s != '\0'; s++) {
            assert_true((unsigned char)*s >= 0x20 && *s != 0x7f);
            assert_true((unsigned char)*s < 0xf8); /* never a byte that UTF-8 does not have */
        }
    }
}

static void test_types(void **state)
{
    static const struct {
        uint8_t kind;
        const char *count, *value;
    } kinds[] = {{AP_KIND_CPU, "samples", "cpu"},
                 {AP_KIND_LOCK, "contentions", "delay"},
                 {AP_KIND_OFFCPU, "samples", "off_cpu"},
                 {AP_KIND_SYSCALL, "calls", "latency"},
                 {AP_KIND_GPU, "launches", "gpu"}};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct ap_capture *capture = fixture_rich(kinds[i].kind);
        struct pp pp;

        read_capture(&pp, capture);
        assert_valid(&pp);
        assert_string_equal(pp_str(&pp, pp.types[0][1]), kinds[i].count);
        assert_string_equal(pp_str(&pp, pp.types[0][0]), "count");
        assert_string_equal(pp_str(&pp, pp.types[1][1]), kinds[i].value);
        assert_string_equal(pp_str(&pp, pp.types[1][0]), "nanoseconds");
        assert_string_equal(pp_str(&pp, pp.period_type[1]), kinds[i].value);
        assert_string_equal(pp_str(&pp, pp.period_type[0]), "nanoseconds");
        assert_string_equal(pp_str(&pp, pp.default_type), kinds[i].value);
        assert_int_equal(pp.period, kinds[i].kind == AP_KIND_CPU ? 10101010 : 1);
        assert_int_equal(pp.time, 1790000000123456789);
        assert_int_equal(pp.duration, 10000000000);
        pp_done(&pp);
        ap_capture_free(capture);
    }
}

static void test_mappings(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    assert_int_equal(pp.mapping_cnt, 4);
    /* The main binary comes first although it was added third. */
    assert_string_equal(pp_str(&pp, pp.mappings[0].f[5]), "/usr/bin/app");
    assert_string_equal(pp_str(&pp, pp.mappings[0].f[6]), "dead0bef");
    assert_int_equal(pp.mappings[0].f[2], 0x400000);
    assert_int_equal(pp.mappings[0].f[3], 0x410000);
    assert_int_equal(pp.mappings[0].f[4], 0x2000);
    assert_int_equal(pp.mappings[0].f[7], 1);  /* every frame has a function */
    assert_int_equal(pp.mappings[0].f[8], 0);  /* _start has no file */
    assert_int_equal(pp.mappings[0].f[10], 1); /* add is inlined */
    assert_string_equal(pp_str(&pp, pp.mappings[1].f[5]), "/usr/lib/libc.so.6");
    assert_int_equal(pp.mappings[1].f[7], 0); /* one frame has no name */
    assert_string_equal(pp_str(&pp, pp.mappings[2].f[5]), "[kernel]");
    assert_int_equal(pp.mappings[2].f[6], 0);
    pp_done(&pp);
    ap_capture_free(capture);
}

static const char *line_name(const struct pp *pp, const struct pp_row *location, unsigned line)
{
    assert_true(line < location->sub_cnt);
    return pp_str(pp, pp_by_id(pp->functions, pp->function_cnt, location->sub[line][1])->f[2]);
}

static void test_locations(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    const struct pp_row *location;
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    assert_int_equal(pp.sample_cnt, 6);
    /* add was inlined into the innermost fib: one address, two lines, and fib by itself is another location.
     */
    assert_int_equal(pp.samples[0].location_cnt, 5);
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[0].locations[0]);
    assert_int_equal(location->sub_cnt, 2);
    assert_string_equal(line_name(&pp, location, 0), "add");
    assert_int_equal(location->sub[0][2], 9);
    assert_string_equal(line_name(&pp, location, 1), "fib");
    assert_int_equal(location->sub[1][2], 3);
    assert_int_equal(location->f[3], 0x400000 + 0x2200 - 0x2000);
    assert_int_equal(pp.samples[0].locations[1], pp.samples[0].locations[2]);
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[0].locations[1]);
    assert_int_equal(location->sub_cnt, 1);
    assert_string_equal(line_name(&pp, location, 0), "fib");
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[2].locations[0]);
    assert_string_equal(line_name(&pp, location, 0), "ksys_write");
    assert_int_equal(location->f[3], 0xffffffff81000010);
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[2].locations[1]);
    assert_int_equal(location->f[3], 0x7f0000000000 + 0x500);
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[4].locations[0]);
    assert_string_equal(line_name(&pp, location, 0), "Foo::bar");
    assert_int_equal(location->f[3], 0x900040); /* anonymous: the offset is the address */
    /* Truncated: the outermost location says so. */
    assert_int_equal(pp.samples[3].location_cnt, 2);
    location = pp_by_id(pp.locations, pp.location_cnt, pp.samples[3].locations[1]);
    assert_string_equal(line_name(&pp, location, 0), "[truncated]");
    assert_int_equal(pp.samples[5].locations[1], pp.samples[3].locations[1]);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_truncated_inside_marks(void **state)
{
    static const char *const names[] = {"f", "[truncated]", "[preempted]"};
    struct ap_capture *capture = fixture_capture(AP_KIND_OFFCPU);
    struct ap_profile *p = capture->profiles[0];
    struct ap_series series = fixture_series(p, 1, "t", "", "");
    uint32_t f = fixture_frame(p, "f", AP_FRAME_NATIVE, 0, 1, false, "", 0);
    uint32_t mark = fixture_frame(p, "[preempted]", AP_FRAME_MARK, 0, 0, false, "", 0);
    struct pp pp;

    (void)state;
    fixture_sample(p, &series, (const uint32_t[]){f, mark}, 2, true, 1, 1);
    read_capture(&pp, capture);
    assert_int_equal(pp.samples[0].location_cnt, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(line_name(&pp, pp_by_id(pp.locations, pp.location_cnt, pp.samples[0].locations[i]), 0),
                            names[i]);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_values_and_labels(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    const struct pp_row *sample;
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    sample = &pp.samples[0];
    assert_int_equal(sample->values[0], 5);
    assert_int_equal(sample->values[1], 50505050);
    assert_int_equal(sample->sub_cnt, 3);
    assert_string_equal(pp_str(&pp, sample->sub[0][1]), "comm");
    assert_string_equal(pp_str(&pp, sample->sub[0][2]), "app");
    assert_string_equal(pp_str(&pp, sample->sub[1][1]), "pid");
    assert_int_equal(sample->sub[1][3], 10);
    assert_string_equal(pp_str(&pp, sample->sub[2][1]), "container");
    assert_string_equal(pp_str(&pp, sample->sub[2][2]), "c0ffee");
    assert_int_equal(pp.samples[1].sub_cnt, 2); /* no container */
    assert_int_equal(pp.samples[4].sub_cnt, 1); /* pid not visible */
    assert_string_equal(pp_str(&pp, pp.samples[4].sub[0][2]), "vm thread");
    pp_done(&pp);
    ap_capture_free(capture);
}

/* Readers merge functions by name: a waker's must have another than the wait's. */
static void test_wakers_are_functions_of_their_own(void **state)
{
    struct ap_capture *capture = fixture_wakers(AP_KIND_OFFCPU);
    unsigned work = 0, waker = 0, process = 0, mark = 0;
    bool below_min = false, unmatched = false;
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    assert_valid(&pp);
    assert_int_equal(pp.sample_cnt, 2);
    assert_int_equal(pp.function_cnt, 7);
    for (unsigned i = 0; i < pp.function_cnt; i++) {
        const char *name = pp_str(&pp, pp.functions[i].f[2]);

        work += strcmp(name, "work") == 0;
        waker += strcmp(name, "work [waker]") == 0;
        process += strcmp(name, "waker [waker]") == 0;
        mark += strcmp(name, "[woken by]") == 0;
    }
    assert_int_equal(work, 1);
    assert_int_equal(waker, 1);
    assert_int_equal(process, 1);
    assert_int_equal(mark, 1);
    for (unsigned i = 0; i < pp.comment_cnt; i++) {
        below_min |= strcmp(pp_str(&pp, pp.comments[i]), "aperture: below_min=12") == 0;
        unmatched |= strcmp(pp_str(&pp, pp.comments[i]), "aperture: unmatched=2") == 0;
    }
    assert_true(below_min && unmatched);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_comments_carry_losses(void **state)
{
    static const char *const expected[] = {"aperture: agent version 0.1.0", "aperture: expected=20 delivered=16",
                                           "aperture: lost ring_full=3", "aperture: lost missed=1"};
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    assert_int_equal(pp.comment_cnt, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_string_equal(pp_str(&pp, pp.comments[i]), expected[i]);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_hostile_names(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 5; seed++) {
        struct ap_capture *capture = fixture_random(AP_KIND_CPU, seed, 60);
        struct pp pp;

        read_capture(&pp, capture);
        assert_int_equal(pp.sample_cnt, capture->profiles[0]->sample_cnt);
        assert_valid(&pp);
        pp_done(&pp);
        ap_capture_free(capture);
    }
}

static void test_deepest_stack(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    uint32_t frames[AP_STACK_FRAMES_MAX];
    struct pp pp;

    (void)state;
    for (unsigned i = 0; i < AP_STACK_FRAMES_MAX; i++)
        frames[i] = fixture_frame(p, "f", AP_FRAME_NATIVE, 0, i, false, "", 0);
    fixture_sample(p, &(struct ap_series){0}, frames, AP_STACK_FRAMES_MAX, true, 1, 1);
    read_capture(&pp, capture);
    assert_valid(&pp);
    assert_int_equal(pp.samples[0].location_cnt, AP_STACK_FRAMES_MAX + 1);
    assert_int_equal(pp.function_cnt, 2);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_empty(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct pp pp;

    (void)state;
    read_capture(&pp, capture);
    assert_valid(&pp);
    assert_int_equal(pp.sample_cnt + pp.mapping_cnt + pp.location_cnt + pp.function_cnt, 0);
    pp_done(&pp);
    ap_capture_free(capture);
}

static void test_same_bytes_each_time_and_sink_error(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 3, 1000);
    size_t len, again, room = 100;
    char *one = fixture_render(AP_FORMAT_PPROF, capture, &len);
    char *two = fixture_render(AP_FORMAT_PPROF, capture, &again);
    struct ap_out *out = ap_out_new(fixture_full_disk, &room);

    (void)state;
    assert_int_equal(len, again);
    assert_memory_equal(one, two, len);
    assert_int_equal(ap_format_write(AP_FORMAT_PPROF, capture, 0, out), -ENOSPC);
    ap_out_free(out);
    free(one);
    free(two);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_mappings),
        cmocka_unit_test(test_locations),
        cmocka_unit_test(test_truncated_inside_marks),
        cmocka_unit_test(test_values_and_labels),
        cmocka_unit_test(test_wakers_are_functions_of_their_own),
        cmocka_unit_test(test_comments_carry_losses),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_deepest_stack),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_same_bytes_each_time_and_sink_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
