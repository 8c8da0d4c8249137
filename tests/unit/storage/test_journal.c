/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define RECEIVED UINT64_C(1700000000000000000)

static char folder[64], path[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/aperture-journal-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/journal", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    rmdir(folder);
    return 0;
}

static struct ap_journal *open_journal(void)
{
    struct ap_error err = {0};
    struct ap_journal *journal = ap_journal_open(folder, &err);

    assert_non_null(journal);
    return journal;
}

static struct ap_rows *make_rows(uint64_t sequence, const char *payload)
{
    struct ap_push *push = ap_push_new();
    struct ap_error err = {0};

    assert_non_null(push);
    snprintf(push->agent_id, sizeof(push->agent_id), "agent");
    push->epoch = 3;
    push->sequence = sequence;
    push->start_ns = RECEIVED - 5;
    struct ap_rows *rows = ap_rows_new(push, payload, strlen(payload), RECEIVED, &err);
    assert_non_null(rows);
    return rows;
}

static void write_group(struct ap_journal *journal, uint64_t id)
{
    struct ap_rows *rows[2] = {make_rows(1, "one"), make_rows(2, "")};
    struct ap_error err = {0};

    assert_int_equal(ap_journal_write(journal, id, rows, 2, &err), 0);
    ap_rows_free(rows[0]);
    ap_rows_free(rows[1]);
}

static void check_group(struct ap_journal *journal, uint64_t id)
{
    struct ap_journal_group group = {0};
    struct ap_error err = {0};

    assert_true(ap_journal_pending(journal));
    assert_int_equal(ap_journal_read(journal, &group, &err), 0);
    assert_int_equal(group.id, id);
    assert_int_equal(group.batch_cnt, 2);
    assert_string_equal(group.batches[0].agent_id, "agent");
    assert_int_equal(group.batches[0].epoch, 3);
    assert_int_equal(group.batches[1].sequence, 2);
    assert_int_equal(group.batches[0].received_ns, RECEIVED);
    assert_int_equal(group.batches[0].payload_sz, 3);
    assert_memory_equal(group.batches[0].payload, "one", 3);
    assert_int_equal(group.batches[1].payload_sz, 0);
    ap_journal_group_done(&group);
}

static void test_write_and_retire(void **state)
{
    (void)state;
    struct ap_journal *journal = open_journal();

    assert_false(ap_journal_pending(journal));
    write_group(journal, 7);
    check_group(journal, 7);
    /* Another process finds it. */
    ap_journal_free(journal);
    journal = open_journal();
    check_group(journal, 7);
    ap_journal_retire(journal);
    assert_false(ap_journal_pending(journal));
    ap_journal_free(journal);
    journal = open_journal();
    assert_false(ap_journal_pending(journal));
    write_group(journal, 8);
    check_group(journal, 8);
    ap_journal_free(journal);
}

/* Whatever part of the file is cut off or wrong: no group, never a false one. */
static void test_torn(void **state)
{
    (void)state;
    struct ap_journal *journal = open_journal();
    struct stat info;
    char bytes[4096];

    write_group(journal, 7);
    ap_journal_free(journal);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size < (off_t)sizeof(bytes));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, bytes, sizeof(bytes)), info.st_size);
    for (off_t at = 0; at < info.st_size; at += at < 64 ? 1 : 7) {
        char wrong = (char)~bytes[at];

        assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
        journal = open_journal();
        assert_false(ap_journal_pending(journal));
        ap_journal_free(journal);
        assert_int_equal(pwrite(fd, &bytes[at], 1, at), 1);
        assert_int_equal(ftruncate(fd, at), 0);
        journal = open_journal();
        assert_false(ap_journal_pending(journal));
        ap_journal_free(journal);
        assert_int_equal(pwrite(fd, bytes, (size_t)info.st_size, 0), info.st_size);
    }
    close(fd);
    journal = open_journal();
    check_group(journal, 7);
    ap_journal_free(journal);
}

static void test_one_process(void **state)
{
    (void)state;
    struct ap_journal *journal = open_journal();
    struct ap_error err = {0};

    assert_null(ap_journal_open(folder, &err));
    assert_int_equal(err.code, -EBUSY);
    ap_journal_free(journal);
    assert_null(ap_journal_open("/nonexistent/folder", &err));
    assert_int_equal(err.code, -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_and_retire, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_torn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_process, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
