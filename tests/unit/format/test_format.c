/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>
#include <jansson.h>

static void test_endings(void **state)
{
    static const struct {
        const char *path;
        enum ap_format format;
    } known[] = {
        {"flamegraph.svg", AP_FORMAT_SVG},    {"/tmp/a.b/X.JSON", AP_FORMAT_JSON},
        {"x.Collapsed", AP_FORMAT_COLLAPSED}, {"cpu.pb.gz", AP_FORMAT_PPROF},
        {"/tmp/top.txt", AP_FORMAT_TEXT},     {"-", AP_FORMAT_COLLAPSED},
        {"a.svg.txt", AP_FORMAT_TEXT},        {"a.speedscope.json", AP_FORMAT_SPEEDSCOPE},
        {"speedscope.json", AP_FORMAT_JSON},
    };
    static const char *const unknown[] = {"", "x", "svg", "x.gz", "x.pb", "x.svg ", "x.jso", "txt", "--", "%s%n"};
    struct ap_error err;

    (void)state;
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        enum ap_format format = (enum ap_format)99;

        assert_int_equal(ap_format_from_path(known[i].path, &format, &err), 0);
        assert_int_equal(format, known[i].format);
    }
    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        enum ap_format format = (enum ap_format)99;

        memset(&err, 0, sizeof(err));
        assert_int_equal(ap_format_from_path(unknown[i], &format, &err), -EINVAL);
        assert_int_equal(err.code, -EINVAL);
        for (unsigned j = 0; j < 5; j++)
            assert_non_null(
                strstr(err.text, (const char *const[]){".svg", ".json", ".collapsed", ".pb.gz", ".txt"}[j]));
        assert_non_null(strstr(err.text, unknown[i]));
        assert_int_equal(ap_format_from_path(unknown[i], &format, NULL), -EINVAL);
    }
}

static uint64_t collapsed_total(const char *text)
{
    uint64_t total = 0;

    for (const char *line = text; *line != '\0';) {
        const char *end = strchr(line, '\n');

        assert_non_null(end);
        const char *space = memrchr(line, ' ', (size_t)(end - line));
        assert_non_null(space);
        assert_true(space > line);
        char *stop;
        total += strtoull(space + 1, &stop, 10);
        assert_ptr_equal(stop, end);
        line = end + 1;
    }
    return total;
}

/* No line occurs twice. */
static void assert_lines_unique(char *text)
{
    char *lines[8192];
    unsigned cnt = 0;

    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        *strrchr(line, ' ') = '\0';
        assert_true(cnt < 8192);
        lines[cnt++] = line;
    }
    for (unsigned i = 0; i < cnt; i++)
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(lines[i], lines[j]);
}

/* Whatever the way out, the same sums arrive. */
static void assert_same_sums(struct ap_capture *capture)
{
    const struct ap_profile *profile = capture->profiles[0];
    uint64_t count = ap_profile_total_count(profile), value = ap_profile_total_value(profile);
    struct ap_tree *tree = ap_tree_new(profile);
    struct ap_top *top = ap_top_new(profile);
    uint64_t self = 0, self_count = 0, pp_count = 0, pp_value = 0;
    struct pp pp;
    size_t len;
    char *text;
    json_t *root, *json;

    assert_int_equal(tree->nodes[0].count, count);
    assert_int_equal(tree->nodes[0].value, value);
    for (uint32_t i = 0; i < top->row_cnt; i++) {
        self += top->rows[i].self;
        self_count += top->rows[i].self_count;
        assert_true(top->rows[i].total >= top->rows[i].self && top->rows[i].total <= value);
    }
    assert_int_equal(self, value);
    assert_int_equal(self_count, count);
    ap_top_free(top);
    ap_tree_free(tree);

    text = fixture_render(AP_FORMAT_COLLAPSED, capture, NULL);
    if (profile->kind == AP_KIND_CPU) {
        assert_int_equal(collapsed_total(text), count);
    } else {
        uint64_t us = collapsed_total(text), lines = 0;

        for (const char *s = text; *s != '\0'; s++)
            lines += *s == '\n';
        /* Each line is rounded by itself: by half a microsecond at most. */
        assert_true(us * 1000 <= value + lines * 500 && value <= us * 1000 + lines * 500);
    }
    assert_lines_unique(text);
    free(text);

    text = fixture_render(AP_FORMAT_JSON, capture, &len);
    root = json_loadb(text, len, 0, NULL);
    assert_non_null(root);
    json = json_array_get(json_object_get(root, "profiles"), 0);
    assert_int_equal(json_integer_value(json_object_get(json, "samples")), count);
    json = json_object_get(json, "root");
    assert_int_equal(json_integer_value(json_object_get(json, "samples")), count);
    assert_int_equal(json_integer_value(json_object_get(json, "value")), value);
    json_decref(root);
    free(text);

    text = fixture_render(AP_FORMAT_PPROF, capture, &len);
    pp_read(&pp, text, len);
    for (unsigned i = 0; i < pp.sample_cnt; i++) {
        pp_count += pp.samples[i].values[0];
        pp_value += pp.samples[i].values[1];
    }
    assert_int_equal(pp_count, count);
    assert_int_equal(pp_value, value);
    pp_done(&pp);
    free(text);
}

static void test_same_sums_everywhere(void **state)
{
    (void)state;
    for (unsigned i = AP_KIND_CPU; i <= AP_KIND_GPU; i++) {
        uint8_t kind = (uint8_t)i;
        struct ap_capture *capture = fixture_rich(kind);

        assert_same_sums(capture);
        ap_capture_free(capture);
        capture = fixture_random(kind, kind, 300);
        assert_same_sums(capture);
        ap_capture_free(capture);
        capture = fixture_capture(kind);
        assert_same_sums(capture);
        ap_capture_free(capture);
    }
}

static void test_dispatch(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text = fixture_render(AP_FORMAT_TEXT, capture, NULL);
    struct ap_buf buf;
    struct ap_out *out;

    (void)state;
    /* The table, then the account. */
    assert_non_null(strstr(text, "FUNCTION"));
    assert_non_null(strstr(strstr(text, "FUNCTION"), "expected 20 = delivered 16 + lost 4"));
    free(text);
    text = fixture_render(AP_FORMAT_SVG, capture, NULL);
    assert_non_null(strstr(text, "<svg"));
    free(text);

    ap_buf_init(&buf, 1u << 20);
    out = ap_out_new_buf(&buf);
    assert_int_equal(ap_format_write(AP_FORMAT_COLLAPSED, capture, 1, out), -EINVAL);
    assert_int_equal(ap_format_write(AP_FORMAT_SVG, capture, 7, out), -EINVAL);
    assert_int_equal(ap_format_write((enum ap_format)99, capture, 0, out), -EINVAL);
    assert_int_equal(buf.len, 0);
    assert_int_equal(ap_format_write(AP_FORMAT_JSON, capture, 7, out), 0); /* takes all profiles */
    ap_out_free(out);
    ap_buf_done(&buf);
    ap_capture_free(capture);
}

static void test_supports(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL), *rich = fixture_rich(AP_KIND_SYSCALL);

    (void)state;
    for (unsigned f = AP_FORMAT_SVG; f <= AP_FORMAT_TEXT; f++) {
        enum ap_format format = (enum ap_format)f;
        bool tables = format == AP_FORMAT_JSON || format == AP_FORMAT_TEXT;

        assert_int_equal(ap_format_supports(format, capture->profiles[0]), tables);
        assert_true(ap_format_supports(format, rich->profiles[0])); /* slow calls have stacks */
        capture->profiles[0]->kind = AP_KIND_OFFCPU;
        assert_true(ap_format_supports(format, capture->profiles[0])); /* empty, but of stacks */
        capture->profiles[0]->kind = AP_KIND_SYSCALL;
    }
    ap_capture_free(capture);
    ap_capture_free(rich);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_same_sums_everywhere),
        cmocka_unit_test(test_dispatch),
        cmocka_unit_test(test_supports),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
