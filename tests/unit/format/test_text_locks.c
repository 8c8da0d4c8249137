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
    struct ap_capture *capture = fixture_locks();
    char *text = table(capture, 0, false);
    const char *contended = strstr(text, "Contended locks\n"), *events = strstr(text, "Waits for events: ");

    (void)state;
    assert_has(text, "Time waiting for locks on host-7, 10.0 s: 512 waits, 18.0 s in total\n");
    assert_non_null(contended);
    assert_non_null(events);
    assert_true(contended < events && events < strstr(text, "All waits by function\n"));
    assert_has(contended, "LOCK                      TYPE      PROCESS          WAITS   TOTAL     P50     P95     P99");
    assert_has(contended, "queue+0x8                 mutex     app/1230           412");
    assert_has(contended, " 12.0 ms     2  queue_push     queue_drain\n");
    assert_has(contended, "rwsem_down_write_slow...  rt_mutex  [kernel]");
    assert_has(contended, "0x7f12a8000b60            futex     postgres/20471 ");
    assert_true(strstr(text, "work_available") > events);
    assert_has(events, "WOKEN IN\n");
    /* sentences */
    assert_has(text, "  queue+0x8: mutex of app/1230\n    worker-3 (1230) waited ");
    assert_has(text, " in 400 waits in queue_push (app.c:33), released by main (1230) in queue_drain (app.c:71)\n");
    assert_has(text,
               "    main (1230) waited 1.00 ms in 2 waits in queue_drain (app.c:71), released by somebody not known\n");
    assert_has(text, " in 96 waits in wait_for_work (app.c:104), woken by main (1230) in queue_drain (app.c:71)\n");
    assert_has(text, "    worker-3 (1230) waited 1.50 us once in wait_for_work (app.c:104), released by ");
    assert_has(text, " in 5 waits in queue_push (app.c:33)\n"); /* kernel: nobody is missing */
    assert_has(text, "    3 waits timed out after 3.00 s together\n");
    assert_has(text, "    1 wait ended by a signal after 1.20 ms\n");
    assert_has(text, "    17 waits not begun: the lock had changed by then\n");
    assert_has(text, "    2 waits still going on when the recording ended, for 9.00 s together\n");
    assert_has(text, "WAITED IN  ");
    assert_lacks(text, "FUNCTION");
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 132);
    free(text);
    ap_capture_free(capture);
}

/* Every row of a table has its columns where the heading has them. */
static void test_columns_line_up(void **state)
{
    struct ap_capture *capture = fixture_locks();
    char *text = table(capture, 0, false);
    char *head = strstr(text, "LOCK  "), *line = head;

    (void)state;
    size_t column = (size_t)(strstr(head, "WAITS IN") - head);
    for (unsigned i = 0; i < 3; i++) {
        line = strchr(line, '\n') + 1;
        assert_memory_equal(line + column - 2, "  ", 2);
        assert_true(line[column] != ' ' && line[column - 3] != ' ');
    }
    free(text);
    ap_capture_free(capture);
}

static void test_row_limit(void **state)
{
    struct ap_capture *capture = fixture_locks();
    char *text = table(capture, 1, false);

    (void)state;
    assert_has(text, "queue+0x8");
    assert_lacks(text, "postgres");
    assert_has(text, "... and 2 more, with 6 waits of ");
    assert_has(text, "work_available"); /* each table has its own limit */
    free(text);
    ap_capture_free(capture);
}

static void test_many_sides_are_summed_up(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_LOCK);
    struct ap_profile *p = capture->profiles[0];
    struct ap_lock_row *row;
    char *text;

    (void)state;
    p->locks = ap_locks_new();
    row = ap_locks_row(p->locks, 0, 0, false);
    row->waits = 100;
    for (uint32_t i = 0; i < 100; i++) {
        char comm[16];

        snprintf(comm, sizeof(comm), "t%u", i);
        assert_int_equal(ap_lock_row_add(row, fixture_thread(p, i, comm), fixture_lock_stack(p, "sem_wait", comm, i), 0,
                                         AP_LOCK_NO_STACK, 1, 1000000, 1000000),
                         0);
    }
    ap_locks_sort(p->locks);
    text = table(capture, 0, false);
    assert_has(text, "(other locks)");
    assert_has(text, "(several)");
    assert_has(text, "others waited 70.0 ms in 70 waits"); /* 30 have a side of their own... */
    assert_has(text, "ms in 28 waits between others\n");
    free(text);
    ap_capture_free(capture);
}

static void test_colour_and_hostile_names(void **state)
{
    struct ap_capture *capture = fixture_locks();
    struct ap_profile *p = capture->profiles[0];
    char *text;

    (void)state;
    for (unsigned i = 0; i < FIXTURE_HOSTILE_CNT; i++) {
        struct ap_lock_row *row = ap_locks_row(p->locks, 50, 64 * i, false);
        uint32_t name = ap_strings_id(p->strings, fixture_hostile[i]), frame, stack;
        struct ap_frame f = {.kind = AP_FRAME_NATIVE, .function = name, .file = name, .line = 7};
        struct ap_series s = {.pid = 5, .comm = name};

        row->pid = 7;
        row->comm = row->symbol = name;
        row->type = (uint8_t)(i * 3);
        assert_int_equal(ap_profile_add_frame(p, &f, &frame), 0);
        assert_int_equal(ap_profile_add_stack(p, &frame, 1, false, &stack), 0);
        assert_int_equal(ap_profile_add_series(p, &s, &frame), 0);
        assert_int_equal(ap_lock_row_add(row, frame, stack, frame, stack, 1, 1, 1), 0);
    }
    ap_locks_sort(p->locks);
    text = fixture_render(AP_FORMAT_TEXT, capture, NULL);
    for (const char *s = text; *s != '\0'; s++)
        assert_true((unsigned char)*s >= 0x20 || *s == '\n');
    assert_lacks(text, "\xff");
    assert_lacks(text, "\xc2\x9b");
    assert_lacks(text, "\xe2\x80\xae");
    free(text);
    text = table(capture, 0, true);
    assert_has(text, "\033[1mContended locks\033[0m");
    assert_has(text, "\033[1;31m    2\033[0m"); /* still waiting */
    free(text);
    ap_capture_free(capture);
}

static void test_empty(void **state)
{
    struct ap_capture *capture = fixture_capture(AP_KIND_LOCK);
    char *text;

    (void)state;
    capture->profiles[0]->locks = ap_locks_new();
    text = table(capture, 0, false);
    assert_has(text, "No waits: nothing that was selected waited for a lock.\n");
    assert_lacks(text, "LOCK ");
    free(text);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_columns_line_up),
        cmocka_unit_test(test_row_limit),
        cmocka_unit_test(test_many_sides_are_summed_up),
        cmocka_unit_test(test_colour_and_hostile_names),
        cmocka_unit_test(test_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
