/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>

static char *table(struct ap_capture *capture, unsigned rows, bool colour)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, 16u << 20);
    out = ap_out_new_buf(&buf);
    assert_int_equal(ap_text_write(capture, capture->profiles[0], rows, colour, out), 0);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    return buf.data;
}

static char *account(struct ap_capture *capture, bool colour)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, 16u << 20);
    out = ap_out_new_buf(&buf);
    assert_int_equal(ap_text_account(capture, colour, out), 0);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    return buf.data;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in:\n%s", part, text);
}

static void test_heading_and_rows(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text = table(capture, 0, false);

    (void)state;
    assert_has(text, "CPU time on host-7, ");
    assert_has(text, "99 Hz x 2 CPUs (cpu-clock), 16 samples");
    assert_has(text, "2026-09-21");
    assert_has(text, " UTC, Linux 6.18.0 x86_64\n");
    assert_has(text, "SELF   SELF%       TOTAL  TOTAL%  FUNCTION          MODULE\n");
    assert_lacks(text, "\033");
    assert_lacks(text, "more function");
    /* add: 70707070 of 151515649 ns self and total; fib: recursion counted once. */
    assert_has(text, "  46.67%  add               app\n");
    assert_has(text, "  0.00%  ");
    assert_has(text, " 46.67%  fib               app\n");
    assert_has(text, "  libc.so.6+0x1600  libc.so.6\n");
    assert_has(text, "  ksys_write        [kernel]\n");
    free(text);
    ap_capture_free(capture);
}

/* FUNCTION starts in the same column on every row, and the SELF% column sums to 100. */
static void test_columns_line_up(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text = table(capture, 0, false);
    char *head = strstr(text, "      SELF "), *line;
    double sum = 0;
    unsigned rows = 0;

    (void)state;
    assert_non_null(head);
    size_t column = (size_t)(strstr(head, "FUNCTION") - head);
    size_t module = (size_t)(strstr(head, "MODULE") - head);
    for (line = strtok(strchr(head, '\n') + 1, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) > module);
        assert_memory_equal(line + column - 3, "%  ", 3);
        assert_memory_equal(line + module - 2, "  ", 2);
        assert_true(line[column] != ' ' && line[module] != ' ');
        sum += strtod(strchr(line, '%') - 6, NULL);
        rows++;
    }
    assert_int_equal(rows, 8);
    assert_true(sum > 99.9 && sum < 100.1);
    free(text);
    ap_capture_free(capture);
}

static void test_row_limit_names_the_rest(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text = table(capture, 2, false);

    (void)state;
    assert_has(text, "  add ");
    assert_has(text, "  Foo::bar");
    assert_lacks(text, "  ksys_write");
    assert_has(text, " 26.67%  in 6 more functions\n");
    free(text);
    text = table(capture, 7, false);
    assert_has(text, "in 1 more function\n");
    free(text);
    ap_capture_free(capture);
}

static void test_colour(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text = table(capture, 0, true);

    (void)state;
    assert_has(text, "\033[33mksys_write");       /* kernel */
    assert_has(text, "\033[31mlibc.so.6+0x1600"); /* unknown */
    assert_has(text, "\033[33m  kernel\033[0m");  /* legend */
    assert_lacks(text, "interpreted");            /* not used, not in the legend */
    free(text);
    ap_capture_free(capture);
}

static void test_hostile_names_cannot_steer_the_terminal(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 7, 100);
    char *text;

    (void)state;
    snprintf(capture->agent.host, sizeof(capture->agent.host), "h\033]0;x\007");
    snprintf(capture->agent.kernel, sizeof(capture->agent.kernel), "k\n");
    for (unsigned i = 0; i < FIXTURE_HOSTILE_CNT; i++)
        ap_capture_unresolved(capture, fixture_hostile[i], AP_UNRESOLVED_JIT, 1, i + 1);
    ap_capture_unresolved_sort(capture);
    text = fixture_render(AP_FORMAT_TEXT, capture, NULL);
    for (const char *s = text; *s != '\0'; s++)
        assert_true((unsigned char)*s >= 0x20 || *s == '\n');
    assert_lacks(text, "\xff");
    assert_lacks(text, "\xc2\x9b");
    assert_lacks(text, "\xe2\x80\xae");
    assert_has(text, "h?]0;x?");
    assert_has(text, "?[31mred?[0m");
    assert_has(text, "caf\xc3\xa9");
    free(text);
    ap_capture_free(capture);
}

static void test_long_names(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    struct ap_profile *p = capture->profiles[0];
    char name[301];
    char *text;
    uint32_t f;

    (void)state;
    memset(name, 'x', 300);
    name[300] = '\0';
    f = fixture_frame(p, name, AP_FRAME_NATIVE, 0, 0, false, "", 0);
    fixture_sample(p, &(struct ap_series){0}, &f, 1, false, 1, 1);
    text = table(capture, 0, false);
    assert_has(text, name); /* a file keeps it whole */
    free(text);
    text = table(capture, 0, true);
    assert_lacks(text, name);
    assert_has(text, "xxx...\033[0m");
    free(text);
    ap_capture_free(capture);
}

static void test_without_values_events_count(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL);
    struct ap_profile *p = capture->profiles[0];
    uint32_t f = fixture_frame(p, "read", AP_FRAME_KERNEL, 0, 0, false, "", 0);
    char *text = table(capture, 0, false);

    (void)state;
    assert_has(text, "No calls:");
    assert_lacks(text, "SELF%");
    free(text);
    fixture_sample(p, &(struct ap_series){0}, &f, 1, false, 42, 0);
    text = table(capture, 0, false);
    assert_has(text, "        42 100.00%          42 100.00%  read      -\n");
    free(text);
    ap_capture_free(capture);
}

static void test_account(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text;

    (void)state;
    capture->accounts[0].losses[AP_LOSS_SIDEBAND] = 5;
    capture->accounts[0].idle = 321;
    capture->agent.cpu_ns = 42000000;
    capture->agent.rss_peak_bytes = 20 << 20;
    capture->agent.bpf_memory_bytes = 8 << 20;
    text = account(capture, false);
    assert_has(text, "Samples   expected 20 = delivered 16 + lost 4 (20.00%)\n");
    assert_has(text, " 3  ring_full   the agent fell behind");
    assert_has(text, " 1  missed      ");
    assert_has(text, " 5  sideband    ");
    assert_lacks(text, "bad_record");
    assert_lacks(text, "add up");
    assert_has(text, " 321  ticks found the CPU idle: not expected\n");
    assert_lacks(text, "--cgroup or --comm exclude");
    assert_has(text, "Names     1 of 80 frames (1.2%) have no function name\n");
    assert_has(text, " 1  /usr/lib/libc.so.6  stripped\n");
    assert_has(text, ap_unresolved_help(AP_UNRESOLVED_STRIPPED));
    assert_has(text, "Agent     0.42% of one CPU, ");
    assert_has(text, "20.0 MiB peak memory, 8.00 MiB of BPF memory\n");
    assert_lacks(text, "\033");
    free(text);

    capture->agent.bpf_run_ns = 30000;
    capture->agent.bpf_run_cnt = 20;
    capture->accounts[0].delivered--; /* one sample unaccounted for: said aloud */
    text = account(capture, true);
    assert_has(text, "missing");
    assert_has(text, "does not add up");
    assert_has(text, ", 1500 ns per BPF run (20 runs)\n");
    assert_has(text, "\033[1;31mlost 4\033[0m");
    free(text);
    ap_capture_free(capture);
}

/* Several profiles: each has its line, in the words of its kind. */
static void test_account_of_several(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    char *text;

    (void)state;
    capture->profiles[1] = ap_profile_new(AP_KIND_OFFCPU);
    capture->profiles[2] = ap_profile_new(AP_KIND_SYSCALL);
    capture->profile_cnt = 3;
    capture->accounts[0].out_of_scope = 1;
    capture->accounts[1] = (struct ap_account){.expected = 90,
                                               .delivered = 80,
                                               .losses = {[AP_LOSS_MAP_FULL] = 10},
                                               .out_of_scope = 4,
                                               .below_min = 12345,
                                               .below_min_ns = 3200000000};
    capture->accounts[2] = (struct ap_account){.expected = 5, .delivered = 5, .folded = 3, .unmatched = 1};
    capture->left_out_cnt = 1;
    capture->left_out[0].kind = AP_KIND_LOCK;
    snprintf(capture->left_out[0].reason, sizeof(capture->left_out[0].reason), "no\033[2J tracepoint");
    text = account(capture, false);
    assert_has(text, "\nSamples (cpu)    expected 20 = delivered 16 + lost 4 (20.00%)\n");
    assert_has(text, "\nWaits (offcpu)   expected 90 = delivered 80 + lost 10 (11.11%)\n");
    assert_has(text, "\nCalls (syscall)  expected 5 = delivered 5 + lost 0\n");
    assert_has(text, "             1  tick met what --pid, --cgroup or --comm exclude: not expected\n");
    assert_has(text, "             4  waits of what --pid, --cgroup or --comm exclude: not expected\n");
    assert_has(text, "            10  map_full    ");
    assert_has(text, "         12345  waits shorter than --min-block, 3.20 s together: not expected\n");
    assert_has(text, "             3  calls summed under \"other\": a bound of a table was reached\n");
    assert_has(text, "             1  call begun before the recording, so of unknown length: not expected\n");
    assert_has(text, "\nLeft out         lock: no?[2J tracepoint\n");
    assert_has(text, "\nNames            1 of 80 frames");
    assert_lacks(text, "add up");
    free(text);
    ap_capture_free(capture);
}

static void test_waits(void **state)
{
    struct ap_capture *capture = fixture_wakers(AP_KIND_OFFCPU);
    char *text = fixture_render(AP_FORMAT_TEXT, capture, NULL);

    (void)state;
    assert_has(text, "Time off CPU on host-7, 10.0 s: 4 waits, 35.0 ms in total\n");
    assert_has(text, "SELF   SELF%       TOTAL  TOTAL%  WAITED IN ");
    assert_has(text, "   35.0 ms 100.00%     35.0 ms 100.00%  schedule ");
    assert_has(text, "         -   0.00%     35.0 ms 100.00%  work ");
    assert_lacks(text, "waker");
    assert_lacks(text, "[woken by]");
    assert_has(text, "Waits     expected 4 = delivered 4 + lost 0\n");
    free(text);
    ap_capture_free(capture);
    capture = fixture_capture(AP_KIND_OFFCPU);
    text = table(capture, 0, false);
    assert_has(text, ": 0 waits, 0 ns in total");
    assert_has(text, "No waits: nothing that was selected was off the CPU");
    free(text);
    ap_capture_free(capture);
}

static void test_account_when_all_is_well(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    char *text;

    (void)state;
    capture->accounts[0].expected = capture->accounts[0].delivered = 1980;
    capture->frames_total = 5000;
    text = account(capture, false);
    assert_has(text, "Samples   expected 1980 = delivered 1980 + lost 0\nNames     all 5000 frames have");
    assert_lacks(text, "not expected");
    free(text);
    ap_capture_free(capture);
}

static void test_account_sums_up_many_modules(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_CPU);
    const char *help = ap_unresolved_help(AP_UNRESOLVED_STRIPPED), *first;
    char *text;

    (void)state;
    for (unsigned i = 0; i < 11; i++) {
        char module[32];

        snprintf(module, sizeof(module), "lib%u.so", i);
        ap_capture_unresolved(capture, module, AP_UNRESOLVED_STRIPPED, 1, 100 - i);
    }
    ap_capture_unresolved_sort(capture);
    capture->frames_total = 10000;
    capture->frames_unresolved = 1045;
    text = account(capture, false);
    assert_has(text, "lib7.so");
    assert_lacks(text, "lib8.so");
    assert_has(text, " 273  in 3 more rows\n");
    first = strstr(text, help);
    assert_non_null(first);
    assert_null(strstr(first + 1, help)); /* advice once */
    free(text);
    ap_capture_free(capture);
}

static void test_sink_error_comes_back(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 3, 300);
    size_t room = 10;
    struct ap_out *out = ap_out_new(fixture_full_disk, &room);

    (void)state;
    assert_int_equal(ap_format_write(AP_FORMAT_TEXT, capture, 0, out), -ENOSPC);
    ap_out_free(out);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heading_and_rows),
        cmocka_unit_test(test_columns_line_up),
        cmocka_unit_test(test_row_limit_names_the_rest),
        cmocka_unit_test(test_colour),
        cmocka_unit_test(test_hostile_names_cannot_steer_the_terminal),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_without_values_events_count),
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_account_of_several),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_account_when_all_is_well),
        cmocka_unit_test(test_account_sums_up_many_modules),
        cmocka_unit_test(test_sink_error_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
