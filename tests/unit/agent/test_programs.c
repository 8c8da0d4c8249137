/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/programs.h"
#include "core/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOLLOWING_MAX (AP_KERNEL_FRAMES_MAX + AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX)

struct record {
    struct ap_record head;
    uint64_t following[FOLLOWING_MAX];
};

/* A copy of exactly `len` bytes, so that the sanitizer sees what is read past it. */
static int check(const struct record *record, size_t len)
{
    char *copy = malloc(len ? len : 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy, record, len);
    rc = ap_record_check(copy, len);
    free(copy);
    return rc;
}

static const struct record good = {
    .head = {.version = AP_RECORD_VERSION, .type = AP_RECORD_CPU, .kernel_cnt = 2, .user_cnt = 3, .word_cnt = 4}};

static void lengths(void **state)
{
    const size_t whole = AP_RECORD_HEAD_SZ + 9 * sizeof(uint64_t);
    size_t len;

    (void)state;
    assert_int_equal(ap_record_size(&good.head), whole);
    assert_int_equal(check(&good, whole), 0);
    assert_int_equal(check(&good, whole + 7), 0); /* as the ring buffer rounds it up */
    for (len = 0; len < whole; len++)
        assert_int_equal(check(&good, len), -EINVAL);
}

static void types_and_versions(void **state)
{
    struct record record = good;
    uint16_t type;

    (void)state;
    for (type = AP_RECORD_CPU; type < AP_RECORD_TYPE_CNT; type++) {
        record.head.type = type;
        assert_int_equal(check(&record, sizeof(record)), 0);
    }
    for (type = AP_RECORD_TYPE_CNT; type; type++) { /* and all others, up to 65535 and then 0 */
        record.head.type = type;
        assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    }
    record.head.type = 0;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    record = good;
    record.head.version = AP_RECORD_VERSION - 1;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    record.head.version = AP_RECORD_VERSION + 1;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
}

static void counts(void **state)
{
    struct record record = good;

    (void)state;
    record.head.kernel_cnt = AP_KERNEL_FRAMES_MAX;
    record.head.user_cnt = AP_USER_FRAMES_MAX;
    record.head.word_cnt = AP_STACK_WORDS_MAX;
    assert_int_equal(ap_record_size(&record.head), sizeof(record));
    assert_int_equal(check(&record, sizeof(record)), 0);
    assert_int_equal(check(&record, sizeof(record) - 1), -EINVAL);

    record = good;
    record.head.kernel_cnt = AP_KERNEL_FRAMES_MAX + 1;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    record = good;
    record.head.user_cnt = AP_USER_FRAMES_MAX + 1;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    record = good;
    record.head.word_cnt = AP_STACK_WORDS_MAX + 1;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);

    /* no sum of them wraps */
    record.head.kernel_cnt = UINT16_MAX;
    record.head.user_cnt = UINT16_MAX;
    record.head.word_cnt = UINT32_MAX;
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    assert_true(ap_record_size(&record.head) > UINT32_MAX);
    record = good;
    record.head.word_cnt = 1u << 29; /* times 8: 0 in 32 bits */
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
}

static void names_end(void **state)
{
    struct record record = good;

    (void)state;
    memset(record.head.comm, 'c', sizeof(record.head.comm));
    assert_int_equal(check(&record, sizeof(record)), -EINVAL);
    record.head.comm[AP_COMM_SZ - 1] = '\0';
    assert_int_equal(check(&record, sizeof(record)), 0);
}

/* A head with nothing behind it is whole: kernel threads in user space's own time, or no stack. */
static void empty(void **state)
{
    struct record record = good;

    (void)state;
    record.head.kernel_cnt = record.head.user_cnt = 0;
    record.head.word_cnt = 0;
    assert_int_equal(check(&record, AP_RECORD_HEAD_SZ), 0);
    assert_int_equal(check(&record, AP_RECORD_HEAD_SZ - 1), -EINVAL);
}

static void one_behind_the_other(void **state)
{
    struct record second = good;
    const struct ap_record *record;
    struct ap_buf records;
    size_t at = 0;

    (void)state;
    ap_buf_init(&records, 4096);
    assert_null(ap_record_next(&records, &at));
    second.head.user_cnt = 0;
    second.head.host_pid = 2;
    ap_buf_append(&records, &good, ap_record_size(&good.head));
    ap_buf_append(&records, &second, ap_record_size(&second.head));
    record = ap_record_next(&records, &at);
    assert_int_equal(record->user_cnt, 3);
    record = ap_record_next(&records, &at);
    assert_int_equal(record->host_pid, 2);
    assert_null(ap_record_next(&records, &at));
    assert_int_equal(at, records.len);
    ap_buf_done(&records);
}

static void the_machine(void **state)
{
    (void)state;
    assert_true(ap_programs_cpus() >= 1);
    assert_in_range(ap_programs_thread_slots(), AP_THREAD_SLOTS_MIN, AP_THREAD_SLOTS_MAX);
    assert_int_equal(ap_programs_thread_slots() & (ap_programs_thread_slots() - 1), 0);
    ap_programs_wait();
    assert_int_equal(ap_programs_fd_memory(-1), 0);
    assert_int_equal(ap_programs_fd_memory(0), 0); /* not a BPF object */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),
        cmocka_unit_test(types_and_versions),
        cmocka_unit_test(counts),
        cmocka_unit_test(names_end),
        cmocka_unit_test(empty),
        cmocka_unit_test(the_machine),
        cmocka_unit_test(one_behind_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
