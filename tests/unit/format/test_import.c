/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include "format/import.h"

#include <errno.h>

static const struct ap_import_opts plain = {.start_ns = 1000, .duration_ns = 2000};

static struct ap_capture *import_text(const char *text, enum ap_import_format format, const struct ap_import_opts *opts,
                                      struct ap_error *err)
{
    size_t len = strlen(text);
    char *exact = malloc(len + 1); /* so that reading on is seen */
    struct ap_capture *capture;

    assert_non_null(exact);
    memcpy(exact, text, len);
    memset(err, 0, sizeof(*err));
    capture = ap_import(format, exact, len, opts, err);
    free(exact);
    return capture;
}

static void assert_refused(const char *text, enum ap_import_format format, int code, const char *word)
{
    struct ap_error err;
    struct ap_capture *capture = import_text(text, format, &plain, &err);

    if (capture != NULL)
        fail_msg("taken: %.100s", text);
    assert_int_equal(err.code, code);
    if (strstr(err.text, word) == NULL)
        fail_msg("\"%s\" says nothing of %s", err.text, word);
}

static struct ap_capture *around(enum ap_format format, struct ap_capture *capture, uint64_t period_ns)
{
    const struct ap_import_opts opts = {
        .kind = format == AP_FORMAT_COLLAPSED ? capture->profiles[0]->kind : 0,
        .start_ns = 1000,
        .period_ns = period_ns,
    };
    struct ap_capture *back;
    struct ap_error err = {0};
    size_t len;
    char *data = fixture_render(format, capture, &len);

    back = ap_import(AP_IMPORT_ANY, data, len, &opts, &err);
    if (back == NULL)
        fail_msg("format %d: %s", format, err.text);
    free(data);
    assert_int_equal(back->profile_cnt, 1);
    assert_int_equal(back->profiles[0]->kind, capture->profiles[0]->kind);
    return back;
}

static const uint8_t kinds[] = {AP_KIND_CPU, AP_KIND_OFFCPU, AP_KIND_LOCK, AP_KIND_SYSCALL, AP_KIND_GPU};

static void assert_sums(const struct ap_capture *a, const struct ap_capture *b)
{
    assert_int_equal(ap_profile_total_count(a->profiles[0]), ap_profile_total_count(b->profiles[0]));
    assert_int_equal(ap_profile_total_value(a->profiles[0]), ap_profile_total_value(b->profiles[0]));
}

static void test_json_and_pprof_keep_the_sums(void **state)
{
    static const enum ap_format formats[] = {AP_FORMAT_JSON, AP_FORMAT_PPROF};

    (void)state;
    for (unsigned f = 0; f < 2; f++) {
        for (unsigned i = 0; i < 10; i++) {
            struct ap_capture *capture = i < 5 ? fixture_rich(kinds[i]) : fixture_random(kinds[i - 5], i, 300), *back;

            back = around(formats[f], capture, 0);
            assert_sums(capture, back);
            assert_int_equal(back->profiles[0]->start_ns, capture->profiles[0]->start_ns);
            assert_int_equal(back->profiles[0]->duration_ns, capture->profiles[0]->duration_ns);
            assert_int_equal(back->profiles[0]->period_ns, capture->profiles[0]->period_ns);
            if (capture->accounts[0].expected != 0)
                assert_memory_equal(&back->accounts[0].losses, &capture->accounts[0].losses,
                                    sizeof(back->accounts[0].losses));
            ap_capture_free(back);
            ap_capture_free(capture);
        }
    }
}

static void test_json_keeps_everything(void **state)
{
    struct ap_capture *captures[] = {fixture_rich(AP_KIND_CPU), fixture_rich(AP_KIND_OFFCPU), fixture_locks(),
                                     fixture_syscalls()};

    (void)state;
    for (unsigned i = 0; i < sizeof(captures) / sizeof(captures[0]); i++) {
        struct ap_capture *back = around(AP_FORMAT_JSON, captures[i], 0);
        char *was = fixture_render(AP_FORMAT_JSON, captures[i], NULL);
        char *is = fixture_render(AP_FORMAT_JSON, back, NULL);

        assert_string_equal(is, was);
        free(is);
        free(was);
        ap_capture_free(back);
        ap_capture_free(captures[i]);
    }
}

static void test_collapsed_keeps_the_sums(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU), *back;
    struct ap_profile *profile = capture->profiles[0];
    char *was, *is;

    (void)state;
    for (unsigned i = 1; i <= 50; i++) {
        struct ap_series series = fixture_series(profile, i % 3, i % 2 ? "a b" : "worker", "", "");
        uint32_t frames[] = {
            fixture_frame(profile, i % 5 ? "leaf" : "ksys", i % 5 ? AP_FRAME_NATIVE : AP_FRAME_KERNEL, 0, i, false, "",
                          0),
            fixture_frame(profile, "in;line", AP_FRAME_NATIVE, 0, 0, true, "", 0),
            fixture_frame(profile, "Foo::bar", AP_FRAME_JIT, 0, 0, false, "", 0),
            fixture_frame(profile, "libc.so+0x10", AP_FRAME_UNKNOWN, 0, 16, false, "", 0),
        };

        fixture_sample(profile, &series, frames, 4, i % 7 == 0, i, i * 10000000);
    }
    back = around(AP_FORMAT_COLLAPSED, capture, 10000000);
    assert_sums(capture, back);
    was = fixture_render(AP_FORMAT_COLLAPSED, capture, NULL);
    is = fixture_render(AP_FORMAT_COLLAPSED, back, NULL);
    assert_string_equal(is, was);
    free(is);
    free(was);
    assert_int_equal(back->profiles[0]->start_ns, 1000);
    ap_capture_free(back);
    ap_capture_free(capture);

    for (unsigned i = 1; i < 5; i++) { /* microseconds: rounded line by line */
        capture = fixture_random(kinds[i], i, 100);
        back = around(AP_FORMAT_COLLAPSED, capture, 0);
        uint64_t was_ns = ap_profile_total_value(capture->profiles[0]);
        uint64_t is_ns = ap_profile_total_value(back->profiles[0]);
        assert_true((was_ns > is_ns ? was_ns - is_ns : is_ns - was_ns) <= 100 * 500);
        ap_capture_free(back);
        ap_capture_free(capture);
    }
}

static void test_collapsed_lines(void **state)
{
    const struct ap_import_opts offcpu = {.kind = AP_KIND_OFFCPU, .start_ns = 5, .duration_ns = 6};
    struct ap_capture *capture;
    const struct ap_profile *profile;
    struct ap_error err;

    (void)state;
    capture = import_text("# comment\r\n\na;b c;d 3\r\nlone 4\na;[truncated];x_[k] 5\nw;f;[woken by]_[w];g_[w] 1",
                          AP_IMPORT_ANY, &plain, &err);
    assert_non_null(capture);
    profile = capture->profiles[0];
    assert_int_equal(ap_profile_total_count(profile), 13);
    assert_int_equal(ap_profile_total_value(profile), UINT64_C(13) * 10101010);
    assert_int_equal(profile->sample_cnt, 4);
    assert_string_equal(ap_profile_str(profile, profile->series[1].comm), "[unknown]");
    assert_true(profile->stacks[2].truncated && profile->stacks[2].frame_cnt == 1);
    assert_int_equal(profile->frames[profile->stack_frames[profile->stacks[2].first]].kind, AP_FRAME_KERNEL);
    const uint32_t *waker = &profile->stack_frames[profile->stacks[3].first];
    assert_true(profile->frames[waker[0]].waker && profile->frames[waker[1]].kind == AP_FRAME_MARK);
    assert_int_equal(capture->accounts[0].delivered, 13);
    ap_capture_free(capture);

    capture = import_text("a;b 7", AP_IMPORT_COLLAPSED, &offcpu, &err);
    assert_int_equal(ap_profile_total_value(capture->profiles[0]), 7000);
    assert_int_equal(capture->profiles[0]->duration_ns, 6);
    ap_capture_free(capture);

    assert_refused("", AP_IMPORT_ANY, -EINVAL, "no bytes");
    assert_refused("\n\n", AP_IMPORT_ANY, -EINVAL, "not one line");
    assert_refused("a;b", AP_IMPORT_ANY, -EINVAL, "line 1");
    assert_refused("a;b 1\nc;d -1\n", AP_IMPORT_ANY, -EINVAL, "line 2");
    assert_refused("a;b 1.5\n", AP_IMPORT_ANY, -EINVAL, "line 1");
    assert_refused(" 7\n7\n", AP_IMPORT_COLLAPSED, -EINVAL, "line 2");
    assert_refused("a;b 18446744073709551616\n", AP_IMPORT_ANY, -EINVAL, "too large");
    assert_refused("a;b 9223372036854775807\n", AP_IMPORT_ANY, -EINVAL, "too large");
    assert_refused("a;b 900000000000\na;b 900000000000\n", AP_IMPORT_ANY, -E2BIG, "more");
}

/* The innermost frames are what one looks for. */
static void test_long_stacks_are_cut(void **state)
{
    static char text[20000];
    struct ap_capture *capture;
    const struct ap_profile *profile;
    struct ap_error err;
    size_t len = 0;

    (void)state;
    len += (size_t)sprintf(text, "t");
    for (unsigned i = 0; i < 600; i++)
        len += (size_t)sprintf(text + len, ";f%u", i);
    sprintf(text + len, " 1\n");
    capture = import_text(text, AP_IMPORT_ANY, &plain, &err);
    assert_non_null(capture);
    profile = capture->profiles[0];
    assert_int_equal(profile->stacks[0].frame_cnt, AP_STACK_FRAMES_MAX);
    assert_true(profile->stacks[0].truncated);
    assert_string_equal(ap_profile_str(profile, profile->frames[profile->stack_frames[0]].function), "f599");
    assert_string_equal(ap_profile_str(profile, profile->frames[profile->stack_frames[511]].function), "f88");
    ap_capture_free(capture);
}

#define DOC(profile) "{\"schema\":1,\"profiles\":[" profile "]}"

static void test_json_documents(void **state)
{
    struct ap_capture *capture;
    struct ap_error err;

    (void)state;
    /* In any order, with members nobody knows. */
    capture =
        import_text("{\"x\":[{}],\"profiles\":[{\"root\":{\"children\":[{\"children\":[],\"samples\":3,\"self\":9,"
                    "\"name\":\"t\"}],\"samples\":3,\"y\":null},\"kind\":\"gpu\"}],\"schema\":1}",
                    AP_IMPORT_ANY, &plain, &err);
    assert_non_null(capture);
    assert_int_equal(ap_profile_total_count(capture->profiles[0]), 3);
    assert_int_equal(ap_profile_total_value(capture->profiles[0]), 9);
    assert_int_equal(capture->profiles[0]->start_ns, 1000);
    assert_int_equal(capture->accounts[0].expected, 3);
    ap_capture_free(capture);

    assert_refused("{}", AP_IMPORT_ANY, -EINVAL, "schema");
    assert_refused("{\"schema\":2,\"profiles\":[]}", AP_IMPORT_ANY, -EINVAL, "schema");
    assert_refused("{\"schema\":1,\"profiles\":{}}", AP_IMPORT_ANY, -EINVAL, "schema");
    assert_refused(DOC(""), AP_IMPORT_ANY, -EINVAL, "no profile");
    assert_refused(DOC("7"), AP_IMPORT_ANY, -EINVAL, "kind");
    assert_refused(DOC("{\"kind\":\"unknown\"}"), AP_IMPORT_ANY, -EINVAL, "kind");
    assert_refused(DOC("{\"kind\":\"cpu\"},{\"kind\":\"cpu\"}"), AP_IMPORT_ANY, -EINVAL, "two profiles");
    assert_refused(DOC("{\"kind\":\"cpu\",\"start_ns\":-1}"), AP_IMPORT_ANY, -EINVAL, "start_ns");
    assert_refused(DOC("{\"kind\":\"cpu\",\"root\":[]}"), AP_IMPORT_ANY, -EINVAL, "children");
    assert_refused(DOC("{\"kind\":\"cpu\",\"root\":{\"children\":{}}}"), AP_IMPORT_ANY, -EINVAL, "children");
    assert_refused(DOC("{\"kind\":\"cpu\",\"root\":{\"samples\":1,\"children\":[{\"samples\":2}]}}"), AP_IMPORT_ANY,
                   -EINVAL, "children of 2");
    assert_refused(DOC("{\"kind\":\"lock\",\"locks\":[{\"address\":\"0x1\"},{\"address\":\"0x1\"}]}"), AP_IMPORT_ANY,
                   -EINVAL, "two rows");
    assert_refused(DOC("{\"kind\":\"lock\",\"locks\":[{\"pairs\":[{\"waiter\":0,\"waker\":0}]}]}"), AP_IMPORT_ANY,
                   -EINVAL, "side");
    assert_refused(DOC("{\"kind\":\"syscall\",\"syscalls\":[{\"errors\":{\"ENOTHING\":1}}]}"), AP_IMPORT_ANY, -EINVAL,
                   "ENOTHING");
    assert_refused(DOC("{\"kind\":\"cpu\"}") "x", AP_IMPORT_ANY, -EINVAL, "not JSON");

    const struct ap_import_opts only = {.kind = AP_KIND_LOCK};
    assert_null(import_text(DOC("{\"kind\":\"cpu\"}"), AP_IMPORT_JSON, &only, &err));
    assert_non_null(strstr(err.text, "kind"));
}

/* Every beginning of good bytes, and every byte changed: nothing worse than an error. */
static void test_damage(void **state)
{
    static const enum ap_format formats[] = {AP_FORMAT_JSON, AP_FORMAT_PPROF, AP_FORMAT_COLLAPSED};

    (void)state;
    for (unsigned f = 0; f < 3; f++) {
        struct ap_capture *capture = f == 0 ? fixture_locks() : fixture_rich(AP_KIND_CPU);
        struct ap_error err;
        size_t len, step;
        char *data = fixture_render(formats[f], capture, &len);

        step = len / 2000 + 1;
        for (size_t i = 0; i < len; i += step) {
            char *copy = malloc(len);

            memcpy(copy, data, i);
            ap_capture_free(ap_import(AP_IMPORT_ANY, copy, i, &plain, &err));
            memcpy(copy, data, len);
            copy[i] ^= (char)(1 << (i % 8));
            ap_capture_free(ap_import(AP_IMPORT_ANY, copy, len, &plain, &err));
            free(copy);
        }
        free(data);
        ap_capture_free(capture);
    }
}

static void test_names(void **state)
{
    enum ap_import_format format = AP_IMPORT_ANY;
    struct ap_error err;

    (void)state;
    assert_int_equal(ap_import_format_from_name("pprof", &format, &err), 0);
    assert_int_equal(format, AP_IMPORT_PPROF);
    assert_int_equal(ap_import_format_from_name("svg", &format, &err), -EINVAL);
    assert_non_null(strstr(err.text, "collapsed"));
    assert_int_equal(format, AP_IMPORT_PPROF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_and_pprof_keep_the_sums),
        cmocka_unit_test(test_json_keeps_everything),
        cmocka_unit_test(test_collapsed_keeps_the_sums),
        cmocka_unit_test(test_collapsed_lines),
        cmocka_unit_test(test_long_stacks_are_cut),
        cmocka_unit_test(test_json_documents),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
