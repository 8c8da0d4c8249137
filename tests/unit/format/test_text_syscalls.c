/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

static char *table(struct ap_capture *capture, unsigned rows, bool colour)
{
    struct ap_buf buf;
    struct ap_out *out;

    ap_buf_init(&buf, 64u << 20);
    out = ap_out_new_buf(&buf);
    assert_int_equal(ap_text_write(capture, capture->profiles[0], rows, colour, out), 0);
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

static void test_tables(void **state)
{
    struct ap_capture *capture = fixture_syscalls();
    char *text = table(capture, 0, false), *processes;

    (void)state;
    assert_has(text, "Time in system calls on host-7, 10.0 s: 39893 calls, ");
    processes = strstr(text, "\nPROCESS ");
    assert_non_null(processes);
    /* openat2 of two processes is one row above, and two below. */
    assert_true(strstr(text, "openat2 ") < processes);
    assert_has(text, "openat2                               3112     1923 ");
    assert_has(processes, " 4021 openat2                               3100 ");
    assert_has(processes, " 977 openat2                                 12 ");
    assert_has(processes, "  1912 ENOENT, 7 ENOTDIR, 2 EACCES, 2 others\n");
    assert_has(processes, "  5100 EAGAIN, 3 ECONNRESET\n");
    assert_has(processes, " set_mempolicy_home_node (compat)");
    assert_has(processes, "syscall_100000");
    assert_has(text, "\nNot returned when the recording ended: 6 calls\n"
                     "             1  pidfd_open of bash (977), for 4.20 s so far\n"
                     "             4  cachestat of nginx (812), for up to 2.71 s so far\n"
                     "             1  syscall_100000 of bash (977)\n");
    assert_has(text, "\nAll calls: 39893\n\n          nsecs                : count      distribution\n");
    assert_has(text, "\ncachestat: 5120\n");
    assert_lacks(text, "\nfutex_waitv: 900\n"); /* the sixth by time */
    assert_lacks(text, "Slow calls");
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 160);
    free(text);
    ap_capture_free(capture);
}

static void test_row_limit(void **state)
{
    struct ap_capture *capture = fixture_syscalls();
    char *text = table(capture, 2, false);

    (void)state;
    assert_has(text, "... and 6 more, with 34733 calls of ");
    assert_has(text, "... and 7 more rows\n");
    free(text);
    ap_capture_free(capture);
}

/* Sums of the rows' counts are those of the histogram, and the longest bar belongs to the largest. */
static void test_histogram_rows(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL);
    struct ap_syscall_row *row;
    char *text, *head, *line;
    uint64_t sum = 0;
    unsigned rows = 0;

    (void)state;
    capture->profiles[0]->syscalls = ap_syscalls_new(capture->profiles[0]->strings);
    row = fixture_syscall(capture, 1, "sh", 451, 1, 0, 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(1), 2), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(2), 4), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(3), 8), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(4), 16), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(7), 32), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(8), 64000), 0);
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(UINT64_MAX), 5), 0);
    text = table(capture, 0, false);
    assert_has(text, "            0 -> 1             : 3         |*");
    assert_has(text, "            2 -> 3             : 12        |*");
    assert_has(text, "            4 -> 7             : 48        |*  ");
    assert_has(text, "            8 -> 15            : 64000     |****************************************| >= 8 ns\n");
    assert_has(text,
               "           16 -> 31            : 0         |                                        | >= 16 ns\n");
    assert_has(text, "1099511627776 -> 2199023255551 : 5         |*   ");
    head = strstr(text, "nsecs");
    for (line = strchr(head, '\n') + 1; strstr(line, " -> ") != NULL; line = strchr(line, '\n') + 1) {
        sum += strtoull(strstr(line, " : ") + 3, NULL, 10);
        rows++;
    }
    assert_int_equal(sum, 64068);
    assert_int_equal(rows, 41);
    assert_null(strstr(head + 1, "nsecs")); /* one call: its histogram is that of all */
    free(text);
    ap_capture_free(capture);
}

static void test_many_in_flight(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL);
    struct ap_profile *p = capture->profiles[0];
    char *text, *line;

    (void)state;
    p->syscalls = ap_syscalls_new(p->strings);
    for (uint32_t i = 1; i <= 40; i++) {
        struct ap_syscall_row *row = ap_syscalls_row(p->syscalls, i, i, "sh", AP_SYSCALL_NATIVE, 451);

        row->in_flight = 1;
        row->in_flight_max_ns = (i * 7 % 41) * 1000000000ull;
    }
    text = table(capture, 0, false);
    line = strstr(text, "Not returned when the recording ended: 40 calls\n");
    assert_non_null(line);
    for (unsigned i = 0; i < 10; i++) { /* the ten longest, longest first */
        char want[32];

        line = strchr(line, '\n') + 1;
        snprintf(want, sizeof(want), "for %u.0 s so far\n", 40 - i);
        assert_true(strstr(line, want) < strchr(line, '\n'));
        assert_non_null(strstr(line, want));
    }
    assert_has(text, "...  and 30 more rows\n");
    free(text);
    ap_capture_free(capture);
}

static void test_slow_calls_follow(void **state)
{
    struct ap_capture *capture = fixture_syscalls();
    struct ap_profile *p = capture->profiles[0];
    uint32_t f = fixture_frame(p, "vfs_read", AP_FRAME_KERNEL, 0, 0, false, "", 0);
    char *text;

    (void)state;
    fixture_sample(p, &(struct ap_series){0}, &f, 1, false, 4, 5000000);
    text = table(capture, 0, true);
    assert_has(text, "Slow calls by function");
    assert_has(text, "\033[33mvfs_read");
    assert_has(text, "\033[1mAll calls\033[0m: ");
    free(text);
    ap_capture_free(capture);
}

/* What other machines recorded: their numbers mean other calls, and rows say where they are from. */
static void test_rows_of_other_machines(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_SYSCALL);
    struct ap_profile *p = capture->profiles[0];
    struct ap_syscall_row *row;
    size_t len;
    char *text;

    (void)state;
    p->syscalls = ap_syscalls_new(p->strings);
    assert_non_null(p->syscalls);
    row = ap_syscalls_row(p->syscalls, 1, 10, "app", AP_SYSCALL_NATIVE, 63);
    row->count = 70;
    row->total_ns = 7000;
    row->name = ap_strings_id(p->strings, "read");
    row->host = ap_strings_id(p->strings, "arm-1");
    row = ap_syscalls_row(p->syscalls, 2, 10, "app", AP_SYSCALL_NATIVE, 63);
    row->count = 50;
    row->total_ns = 5000;
    row->name = ap_strings_id(p->strings, "uname");
    row->host = ap_strings_id(p->strings, "a-host-with-a-rather-long-name.example.org");
    text = fixture_render(AP_FORMAT_TEXT, capture, &len);
    assert_non_null(strstr(text, "\nread "));
    assert_non_null(strstr(text, "\nuname "));
    assert_non_null(strstr(text, "\nHOST                     PROCESS "));
    assert_non_null(strstr(text, "\narm-1                    app "));
    assert_null(strstr(text, "example.org"));
    free(text);
    text = fixture_render(AP_FORMAT_JSON, capture, &len);
    assert_non_null(strstr(text, "\"pid\":10,\"host\":\"arm-1\",\"comm\":\"app\",\"name\":\"read\""));
    free(text);
    ap_capture_free(capture);
}

static void test_hostile_names(void **state)
{
    struct ap_capture *capture = fixture_syscalls();
    char *text;

    (void)state;
    for (unsigned i = 0; i < FIXTURE_HOSTILE_CNT; i++)
        fixture_syscall(capture, 100 + i, fixture_hostile[i], 451 + i, 3, 1, 1000000000)->in_flight = i;
    ap_syscalls_sort(capture->profiles[0]->syscalls);
    text = fixture_render(AP_FORMAT_TEXT, capture, NULL);
    for (const char *s = text; *s != '\0'; s++)
        assert_true((unsigned char)*s >= 0x20 || *s == '\n');
    assert_lacks(text, "\xff");
    assert_lacks(text, "\xe2\x80\xae");
    free(text);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_row_limit),
        cmocka_unit_test(test_histogram_rows),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_slow_calls_follow),
        cmocka_unit_test(test_rows_of_other_machines),
        cmocka_unit_test(test_hostile_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
