/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The SVG codec: well-formed for any names, totals exact, the same bytes every time. */
#include "format/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PERIOD 1000000u

struct fixture {
    struct ap_capture *capture;
    struct ap_profile *profile;
    uint32_t series;
};

static void setup(struct fixture *f, uint8_t kind)
{
    struct ap_series series = {.pid = 1};

    f->capture = ap_capture_new();
    f->profile = ap_profile_new(kind);
    assert_non_null(f->capture);
    assert_non_null(f->profile);
    f->capture->profiles[f->capture->profile_cnt++] = f->profile;
    f->profile->period_ns = PERIOD;
    f->profile->start_ns = 1795264200ULL * 1000000000;
    f->profile->duration_ns = 1000000000;
    series.comm = ap_strings_id(f->profile->strings, "thread");
    assert_int_equal(ap_profile_add_series(f->profile, &series, &f->series), 0);
}

static uint32_t add_frame(struct fixture *f, uint8_t kind, const char *name)
{
    struct ap_frame frame = {.kind = kind, .function = ap_strings_id(f->profile->strings, name)};
    uint32_t index;

    assert_int_equal(ap_profile_add_frame(f->profile, &frame, &index), 0);
    return index;
}

static void add_stack(struct fixture *f, const uint32_t *frames, uint32_t cnt, uint64_t count, uint64_t value)
{
    uint32_t stack;

    assert_int_equal(ap_profile_add_stack(f->profile, frames, cnt, false, &stack), 0);
    assert_int_equal(ap_profile_add_sample(f->profile, f->series, stack, count, value), 0);
    f->capture->accounts[0].delivered += count;
}

/* Writes the SVG into `buf`. */
static void write_svg(struct fixture *f, struct ap_buf *buf)
{
    struct ap_tree *tree = ap_tree_new(f->profile);
    struct ap_out *out;

    ap_buf_init(buf, 64u << 20);
    out = ap_out_new_buf(buf);
    assert_non_null(tree);
    assert_non_null(out);
    assert_int_equal(ap_svg_write(f->capture, tree, out), 0);
    ap_out_free(out);
    ap_tree_free(tree);
}

static void teardown(struct fixture *f, struct ap_buf *buf)
{
    ap_buf_done(buf);
    ap_capture_free(f->capture);
}

/* Checks an entity at `p` ("&...;") and returns its end. */
static const char *check_entity(const char *p)
{
    const char *end = strchr(p, ';');
    size_t len;

    assert_non_null(end);
    len = (size_t)(end - p) + 1;
    assert_true(len <= 8);
    if (p[1] != '#')
        assert_true((len == 4 && (!memcmp(p, "&lt;", 4) || !memcmp(p, "&gt;", 4))) ||
                    (len == 5 && !memcmp(p, "&amp;", 5)) ||
                    (len == 6 && (!memcmp(p, "&quot;", 6) || !memcmp(p, "&apos;", 6))));
    return end;
}

/* End of the tag at `p`: quoted attributes, '<' nowhere inside; keeps the stack of open elements. */
static const char *check_tag(const char *p, char open[32][32], unsigned *depth)
{
    bool closing = p[1] == '/', quoted = false;
    const char *name = p + 1 + closing;
    size_t len = strcspn(name, " \n/>");
    const char *end = name;

    assert_in_range(len, 1, 31);
    for (; *end && (quoted || *end != '>'); end++) {
        assert_int_not_equal(*end, '<');
        if (*end == '"')
            quoted = !quoted;
        else if (*end == '&')
            end = check_entity(end);
    }
    assert_int_equal(*end, '>');
    if (closing) {
        assert_true(*depth > 0);
        (*depth)--;
        assert_int_equal(strlen(open[*depth]), len);
        assert_memory_equal(open[*depth], name, len);
    } else if (end[-1] != '/') {
        assert_true(*depth < 32);
        memcpy(open[*depth], name, len);
        open[(*depth)++][len] = '\0';
    }
    return end + 1;
}

/* A strict reader for the subset of XML that the codec writes. Fails on anything that is not well-formed. */
static void check_xml(const struct ap_buf *buf)
{
    char open[32][32];
    unsigned depth = 0;
    const char *p = buf->data;

    assert_int_equal(strlen(p), buf->len); /* no NUL inside */
    assert_memory_equal(p, "<?xml", 5);
    p = strstr(p, "?>") + 2;
    while (*p) {
        if (!strncmp(p, "<![CDATA[", 9)) {
            p = strstr(p, "]]>");
            assert_non_null(p);
            p += 3;
        } else if (*p == '<') {
            p = check_tag(p, open, &depth);
        } else {
            assert_true((unsigned char)*p >= 0x20 || *p == '\n' || *p == '\t' || *p == '\r');
            assert_int_not_equal(strncmp(p, "]]>", 3), 0);
            p = *p == '&' ? check_entity(p) + 1 : p + 1;
        }
    }
    assert_int_equal(depth, 0);
}

static void assert_has(const struct ap_buf *buf, const char *text)
{
    if (!strstr(buf->data, text))
        fail_msg("missing in the SVG: %s", text);
}

static void assert_lacks(const struct ap_buf *buf, const char *text)
{
    if (strstr(buf->data, text))
        fail_msg("must not be in the SVG: %s", text);
}

static void fill_small(struct fixture *f)
{
    uint32_t a = add_frame(f, AP_FRAME_NATIVE, "alpha"), b = add_frame(f, AP_FRAME_KERNEL, "beta");
    uint32_t both[] = {b, a};

    add_stack(f, both, 2, 700, 700ULL * PERIOD);
    add_stack(f, &a, 1, 300, 300ULL * PERIOD);
    f->capture->accounts[0].losses[AP_LOSS_RING_FULL] = 40;
    f->capture->accounts[0].losses[AP_LOSS_SIDEBAND] = 2;
    f->capture->accounts[0].expected = f->capture->accounts[0].delivered + 40;
    f->capture->frames_total = 1700;
    f->capture->frames_unresolved = 17;
}

static void test_totals(void **state)
{
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_CPU);
    fill_small(&f);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, "\"total_samples\":1000,\"total_value\":1000000000,");
    assert_has(&buf, "\"expected\":1040,\"delivered\":1000,\"lost\":40,");
    assert_has(&buf, "\"ring_full\":40");
    assert_has(&buf, "expected 1,040 = delivered 1,000 + lost 40 (3.85 %)");
    assert_has(&buf, "ring_full 40");
    assert_has(&buf, "also noted: sideband 2");
    assert_lacks(&buf, "account is off by");
    teardown(&f, &buf);
}

static void test_data_block(void **state)
{
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_CPU);
    fill_small(&f);
    write_svg(&f, &buf);
    /* all, thread, alpha, beta: depth and self counts in preorder; values follow from the period */
    assert_has(&buf, "id=\"ap-depth\">[0,1,2,3]<");
    assert_has(&buf, "id=\"ap-count\">[0,0,300,700]<");
    assert_has(&buf, "\"period\":1000000,");
    assert_lacks(&buf, "id=\"ap-value\"");
    assert_has(&buf, "width=\"1167.20\""); /* the root spans the chart */
    teardown(&f, &buf);
}

/* Values that are no multiple of the period are written out. */
static void test_weighted(void **state)
{
    struct fixture f;
    struct ap_buf buf;
    uint32_t frame;

    (void)state;
    setup(&f, AP_KIND_OFFCPU);
    frame = add_frame(&f, AP_FRAME_NATIVE, "waiter");
    add_stack(&f, &frame, 1, 3, 1234567);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, "id=\"ap-value\">[0,0,1234567]<");
    assert_has(&buf, "id=\"ap-count\">[0,0,3]<");
    assert_has(&buf, "Off-CPU time flamegraph");
    teardown(&f, &buf);
}

/* Without values the widths are samples. */
static void test_counts_only(void **state)
{
    struct fixture f;
    struct ap_buf buf;
    uint32_t frame;

    (void)state;
    setup(&f, AP_KIND_CPU);
    f.profile->period_ns = 0;
    frame = add_frame(&f, AP_FRAME_NATIVE, "counted");
    add_stack(&f, &frame, 1, 3, 0);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, "\"by_count\":1");
    assert_has(&buf, "counted — 3 samples, 100.0 %");
    teardown(&f, &buf);
}

static void test_mismatch_is_said(void **state)
{
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_CPU);
    fill_small(&f);
    f.capture->accounts[0].expected += 5;
    write_svg(&f, &buf);
    assert_has(&buf, "the account is off by 5");
    teardown(&f, &buf);
}

static void test_hostile_names(void **state)
{
    static const char *const names[] = {
        "</script><script>alert(1)</script>",
        "\"&<>'",
        "]]><svg onload=alert(2)>",
        "\001\002\033[31m\177\n\t",
        "\xff\xfe\xc3(\xed\xa0\x80\xf5",
        "\xf0\x9f\x94",
        "<!--",
        "<?x",
        "&lt;b&gt;",
        "\xef\xbf\xbf",
        "",
    };
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_CPU);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint32_t frame = add_frame(&f, (uint8_t)(i % 6), names[i]);

        add_stack(&f, &frame, 1, 10, 10 * PERIOD);
        ap_capture_unresolved(f.capture, names[i], AP_UNRESOLVED_STRIPPED, 1, 1);
    }
    snprintf(f.capture->agent.host, sizeof(f.capture->agent.host), "%s", names[0]);
    snprintf(f.capture->agent.kernel, sizeof(f.capture->agent.kernel), "%s", names[2]);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_lacks(&buf, "<script>alert");
    assert_lacks(&buf, "<svg onload");
    assert_has(&buf, "\\u003c/script");
    teardown(&f, &buf);
}

static void test_long_name(void **state)
{
    size_t len = 1 << 20;
    char *name = malloc(len + 1);
    struct fixture f;
    struct ap_buf buf;
    uint32_t frame;

    (void)state;
    assert_non_null(name);
    memset(name, '<', len);
    name[len] = '\0';
    setup(&f, AP_KIND_CPU);
    frame = add_frame(&f, AP_FRAME_NATIVE, name);
    add_stack(&f, &frame, 1, 10, 10 * PERIOD);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_true(buf.len < 256 * 1024);
    assert_has(&buf, "\xE2\x80\xA6");
    free(name);
    teardown(&f, &buf);
}

static void test_empty(void **state)
{
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_CPU);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, ">No samples<");
    assert_has(&buf, "\"total_samples\":0,");
    assert_lacks(&buf, "nan");
    assert_lacks(&buf, "inf\"");
    teardown(&f, &buf);
}

/* Each kind has its words. */
static void test_words_of_kinds(void **state)
{
    static const struct {
        uint8_t kind;
        const char *none, *why, *tip, *account;
    } kinds[] = {
        {AP_KIND_CPU, ">No samples<", "Nothing ran on a CPU", "f — 2 samples, 5.00 ms, ", ">Samples: expected 2 = "},
        {AP_KIND_OFFCPU, ">No waits<", "--min-block", "f — 2 waits, 5.00 ms, ", ">Waits: expected 2 = "},
        {AP_KIND_LOCK, ">No waits<", "Nothing waited for a lock", "f — 2 waits, 5.00 ms, ", ">Waits: expected 2 = "},
        {AP_KIND_SYSCALL, ">No calls<", "slow enough", "f — 2 calls, 5.00 ms, ", ">Calls: expected 2 = "},
        {AP_KIND_GPU, ">No events<", "lower threshold", "f — 2 events, 5.00 ms, ", ">Events: expected 2 = "},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct fixture f;
        struct ap_buf buf;
        uint32_t frame;

        setup(&f, kinds[i].kind);
        write_svg(&f, &buf);
        check_xml(&buf);
        assert_has(&buf, kinds[i].none);
        assert_has(&buf, kinds[i].why);
        ap_buf_done(&buf);
        frame = add_frame(&f, AP_FRAME_NATIVE, "f");
        add_stack(&f, &frame, 1, 2, 5000000);
        f.capture->accounts[0].expected = 2;
        write_svg(&f, &buf);
        check_xml(&buf);
        assert_has(&buf, kinds[i].tip);
        assert_has(&buf, kinds[i].account);
        teardown(&f, &buf);
    }
}

/* The account is that of the profile, not of its neighbours. */
static void test_account_of_its_own(void **state)
{
    struct fixture f;
    struct ap_buf buf;

    (void)state;
    setup(&f, AP_KIND_OFFCPU);
    f.capture->profiles[1] = f.profile;
    f.capture->profiles[0] = ap_profile_new(AP_KIND_CPU);
    f.capture->profile_cnt = 2;
    f.capture->accounts[0] = (struct ap_account){.expected = 77, .losses = {[AP_LOSS_MISSED] = 77}};
    f.capture->accounts[1] =
        (struct ap_account){.expected = 5, .delivered = 5, .below_min = 1234, .below_min_ns = 6000000, .unmatched = 3};
    write_svg(&f, &buf);
    assert_has(&buf, "expected 5 = delivered 5 + lost 0 · 1,234 shorter than --min-block left out, 6.00 ms together");
    assert_has(&buf, "\"below_min\":1234,\"below_min_ns\":6000000,\"folded\":0,\"unmatched\":3");
    assert_lacks(&buf, "missed 77");
    teardown(&f, &buf);
}

static void test_wakers(void **state)
{
    static const uint8_t kinds[] = {AP_FRAME_PROCESS, AP_FRAME_NATIVE, AP_FRAME_MARK};
    static const char *const names[] = {"waking", "wake_up", "[woken by]"};
    struct fixture f;
    struct ap_buf buf;
    uint32_t frames[4];

    (void)state;
    setup(&f, AP_KIND_OFFCPU);
    for (unsigned i = 0; i < 3; i++) {
        struct ap_frame row = {
            .kind = kinds[i], .waker = true, .function = ap_strings_id(f.profile->strings, names[i])};

        assert_int_equal(ap_profile_add_frame(f.profile, &row, &frames[i]), 0);
    }
    frames[3] = add_frame(&f, AP_FRAME_KERNEL, "schedule");
    write_svg(&f, &buf);
    assert_lacks(&buf, ".k8s0{"); /* no colours for what is not there */
    ap_buf_done(&buf);
    add_stack(&f, frames, 4, 2, 5000000);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, ".k8s0{fill:#");
    assert_has(&buf, "<rect class=\"k8s3\"");
    assert_has(&buf, ">waker</text>");
    assert_has(&buf, ">kernel 100.0 %</text>"); /* the time is the wait's */
    assert_has(&buf, "wake_up — waker of 2 waits, ");
    assert_has(&buf, "[woken by] — 2 waits, ");
    /* kind and flags of frames: all, thread, schedule; the mark; two of the waker */
    assert_has(&buf, ",0,7,2,3]");
    assert_has(&buf, ",0,8,2,3]");
    teardown(&f, &buf);
}

static void test_deterministic(void **state)
{
    struct fixture f, g;
    struct ap_buf first, second;

    (void)state;
    setup(&f, AP_KIND_CPU);
    setup(&g, AP_KIND_CPU);
    fill_small(&f);
    fill_small(&g);
    write_svg(&f, &first);
    write_svg(&g, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
    teardown(&f, &first);
    teardown(&g, &second);
}

/* Frames that are too narrow to draw are still in the data. */
static void test_narrow_frames_kept(void **state)
{
    struct fixture f;
    struct ap_buf buf;
    uint32_t big, small;

    (void)state;
    setup(&f, AP_KIND_CPU);
    big = add_frame(&f, AP_FRAME_NATIVE, "big");
    small = add_frame(&f, AP_FRAME_NATIVE, "needle_in_the_hay");
    add_stack(&f, &big, 1, 10000000, 10000000ULL * PERIOD);
    add_stack(&f, &small, 1, 1, PERIOD);
    write_svg(&f, &buf);
    check_xml(&buf);
    assert_has(&buf, "needle_in_the_hay");
    assert_has(&buf, "id=\"ap-count\">[0,0,10000000,1]<");
    assert_lacks(&buf, "<title>needle");
    teardown(&f, &buf);
}

static int refuse(void *ctx, const void *data, size_t len)
{
    (void)ctx;
    (void)data;
    (void)len;
    return -28; /* ENOSPC: the disk is full */
}

static void test_sink_error(void **state)
{
    struct fixture f;
    struct ap_tree *tree;
    struct ap_out *out = ap_out_new(refuse, NULL);

    (void)state;
    setup(&f, AP_KIND_CPU);
    fill_small(&f);
    tree = ap_tree_new(f.profile);
    assert_non_null(tree);
    assert_non_null(out);
    assert_int_equal(ap_svg_write(f.capture, tree, out), -28);
    ap_out_free(out);
    ap_tree_free(tree);
    ap_capture_free(f.capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_data_block),
        cmocka_unit_test(test_weighted),
        cmocka_unit_test(test_counts_only),
        cmocka_unit_test(test_words_of_kinds),
        cmocka_unit_test(test_account_of_its_own),
        cmocka_unit_test(test_wakers),
        cmocka_unit_test(test_mismatch_is_said),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_narrow_frames_kept),
        cmocka_unit_test(test_sink_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
