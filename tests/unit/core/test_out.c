/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/out.h"
#include "exhaust.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BIG 300000

static char big[BIG + 1];

struct sink {
    int calls;
    int rc;
    size_t bytes;
};

static int take(void *ctx, const void *data, size_t len)
{
    struct sink *sink = (struct sink *)ctx;

    assert_non_null(data);
    assert_true(len > 0);
    sink->calls++;
    sink->bytes += len;
    return sink->rc;
}

static void test_buf_sink(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 1000);
    struct ap_out *out = ap_out_new_buf(&buf);
    ap_out_write(out, "ab\0c", 4);
    ap_out_str(out, "de");
    ap_out_char(out, 'f');
    ap_out_printf(out, "%03d", 7);
    ap_out_printf(out, "%s", "");
    assert_int_equal(ap_out_total(out), 10);
    assert_int_equal(buf.len, 0); /* nothing before the flush */
    assert_int_equal(ap_out_flush(out), 0);
    assert_int_equal(buf.len, 10);
    assert_memory_equal(buf.data, "ab\0cdef007", 11);
    assert_int_equal(ap_out_flush(out), 0);
    assert_int_equal(buf.len, 10);
    assert_null(ap_out_free(out));
    assert_null(ap_out_free(NULL));
    ap_buf_done(&buf);
}

static void test_free_does_not_flush(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct ap_out *out = ap_out_new(take, &sink);

    ap_out_str(out, "lost");
    ap_out_free(out);
    assert_int_equal(sink.calls, 0);
}

static void test_all_sizes_arrive_in_order(void **state)
{
    (void)state;
    struct ap_buf buf;
    struct ap_buf wanted;

    memset(big, 'x', BIG);
    ap_buf_init(&buf, 4 << 20);
    ap_buf_init(&wanted, 4 << 20);
    struct ap_out *out = ap_out_new_buf(&buf);
    static const size_t sizes[] = {1, 32767, 1, 32768, 32769, 5, BIG, 3, 32768, 0, 32766};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        memset(big, (int)('a' + i), BIG);
        ap_out_write(out, big, sizes[i]);
        assert_int_equal(ap_buf_append(&wanted, big, sizes[i]), 0);
        ap_out_printf(out, "%.*s", (int)sizes[i], big);
        assert_int_equal(ap_buf_append(&wanted, big, sizes[i]), 0);
    }
    assert_int_equal(ap_out_flush(out), 0);
    assert_int_equal(ap_out_total(out), wanted.len);
    assert_int_equal(buf.len, wanted.len);
    assert_memory_equal(buf.data, wanted.data, wanted.len);
    ap_out_free(out);
    ap_buf_done(&buf);
    ap_buf_done(&wanted);
}

static void test_small_writes_are_collected(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct ap_out *out = ap_out_new(take, &sink);

    for (int i = 0; i < 100000; i++)
        ap_out_char(out, 'x');
    assert_int_equal(ap_out_flush(out), 0);
    assert_int_equal(sink.bytes, 100000);
    assert_in_range(sink.calls, 1, 10);
    ap_out_free(out);
}

static void test_error_is_sticky(void **state)
{
    (void)state;
    struct sink sink = {.rc = -EPIPE};
    struct ap_out *out = ap_out_new(take, &sink);

    ap_out_str(out, "abc");
    assert_int_equal(ap_out_error(out), 0);
    assert_int_equal(ap_out_flush(out), -EPIPE);
    assert_int_equal(ap_out_error(out), -EPIPE);
    sink.rc = 0;
    ap_out_str(out, "more");
    ap_out_char(out, 'x');
    ap_out_printf(out, "%d", 1);
    ap_out_json_str(out, "x", false);
    ap_out_xml_str(out, "x");
    assert_int_equal(ap_out_flush(out), -EPIPE);
    assert_int_equal(sink.calls, 1);
    assert_int_equal(ap_out_total(out), 3);
    ap_out_free(out);
}

static void test_error_on_the_way(void **state)
{
    (void)state;
    struct sink sink = {.rc = -ENOSPC};
    struct ap_out *out = ap_out_new(take, &sink);

    memset(big, 'x', BIG);
    ap_out_write(out, big, BIG); /* straight to the sink */
    assert_int_equal(ap_out_error(out), -ENOSPC);
    assert_int_equal(ap_out_total(out), 0);
    ap_out_free(out);

    out = ap_out_new(take, &sink);
    ap_out_char(out, 'a');
    ap_out_printf(out, "%s", big);
    assert_int_equal(ap_out_error(out), -ENOSPC);
    ap_out_free(out);

    sink.rc = 5; /* no errno: still an error */
    out = ap_out_new(take, &sink);
    ap_out_char(out, 'a');
    assert_int_equal(ap_out_flush(out), -EIO);
    ap_out_free(out);
}

static void test_buf_bound_becomes_the_error(void **state)
{
    (void)state;
    struct ap_buf buf;

    ap_buf_init(&buf, 3);
    struct ap_out *out = ap_out_new_buf(&buf);
    ap_out_str(out, "abcd");
    assert_int_equal(ap_out_flush(out), -ENOSPC);
    ap_out_free(out);
    ap_buf_done(&buf);
}

static void *drain(void *arg)
{
    size_t sum = 0;
    char data[1000];
    ssize_t cnt;

    while ((cnt = read(*(const int *)arg, data, sizeof(data))) > 0)
        sum += (size_t)cnt;
    return (void *)sum;
}

static void test_fd_takes_everything(void **state)
{
    (void)state;
    pthread_t thread;
    void *sum = NULL;
    int fds[2];

    memset(big, 'x', BIG);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pthread_create(&thread, NULL, drain, &fds[0]), 0);
    struct ap_out *out = ap_out_new_fd(fds[1]);
    ap_out_str(out, "head");
    ap_out_write(out, big, BIG);
    assert_int_equal(ap_out_flush(out), 0);
    ap_out_free(out);
    close(fds[1]);
    assert_int_equal(pthread_join(thread, &sum), 0);
    close(fds[0]);
    assert_int_equal((size_t)sum, BIG + 4);
}

static void test_fd_errors(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct ap_out *out = ap_out_new_fd(full);

    assert_true(full >= 0);
    ap_out_str(out, "x");
    assert_int_equal(ap_out_flush(out), -ENOSPC);
    ap_out_free(out);
    close(full);

    out = ap_out_new_fd(-1);
    ap_out_str(out, "x");
    assert_int_equal(ap_out_flush(out), -EBADF);
    ap_out_free(out);
}

static void check_str(bool json, const char *str, bool html, const char *wanted)
{
    struct ap_buf buf;

    ap_buf_init(&buf, 1000);
    struct ap_out *out = ap_out_new_buf(&buf);
    if (json)
        ap_out_json_str(out, str, html);
    else
        ap_out_xml_str(out, str);
    ap_out_char(out, '.');
    assert_int_equal(ap_out_flush(out), 0);
    buf.data[buf.len - 1] = '\0';
    assert_string_equal(buf.data, wanted);
    ap_out_free(out);
    ap_buf_done(&buf);
}

static void test_json_strings(void **state)
{
    (void)state;
    check_str(true, NULL, false, "\"\"");
    check_str(true, "", false, "\"\"");
    check_str(true, "plain", false, "\"plain\"");
    check_str(true, "q\"b\\s/", false, "\"q\\\"b\\\\s/\"");
    check_str(true, "\n\r\t\x01\x1F\x7F", false, "\"\\n\\r\\t\\u0001\\u001f\\u007f\"");
    check_str(true, "</script>", false, "\"</script>\"");
    check_str(true, "</script><!--", true, "\"\\u003c/script>\\u003c!--\"");
    check_str(true, "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", true, "\"h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\"");
    check_str(true,
              "a\xFF"
              "b",
              false,
              "\"a\xEF\xBF\xBD"
              "b\"");
    check_str(true, "cut\xE2\x82", false, "\"cut\xEF\xBF\xBD\xEF\xBF\xBD\"");
    check_str(true, "\xC0\x80\xED\xA0\x80", false, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void test_xml_strings(void **state)
{
    (void)state;
    check_str(false, NULL, false, "");
    check_str(false, "plain", false, "plain");
    check_str(false, "a<b>&\"c'", false, "a&lt;b&gt;&amp;&quot;c&#39;");
    check_str(false, "\t\n\r", false, "&#9;&#10;&#13;");
    check_str(false, "\x01\x1F", false, "\xEF\xBF\xBD\xEF\xBF\xBD");
    check_str(false, "\xEF\xBF\xBE\xEF\xBF\xBF\xEF\xBF\xBC", false, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBC");
    check_str(false, "h\xC3\xA9 \xF0\x9F\x98\x80", false, "h\xC3\xA9 \xF0\x9F\x98\x80");
    check_str(false,
              "a\xFF"
              "b\xE2\x82",
              false,
              "a\xEF\xBF\xBD"
              "b\xEF\xBF\xBD\xEF\xBF\xBD");
    check_str(false, "\xED\xA0\x80", false, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct exhaust exhaust;
    struct sink sink = {0};

    if (EXHAUST_SKIP)
        skip();
    memset(big, 'x', BIG);
    struct ap_out *out = ap_out_new(take, &sink);
    exhaust_begin(&exhaust, 0);
    struct ap_out *none = ap_out_new(take, &sink);
    struct ap_out *none_fd = ap_out_new_fd(1);
    ap_out_printf(out, "%s", big);
    exhaust_end(&exhaust);
    assert_null(none);
    assert_null(none_fd);
    assert_int_equal(ap_out_error(out), -ENOMEM);
    ap_out_free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_sink),
        cmocka_unit_test(test_free_does_not_flush),
        cmocka_unit_test(test_all_sizes_arrive_in_order),
        cmocka_unit_test(test_small_writes_are_collected),
        cmocka_unit_test(test_error_is_sticky),
        cmocka_unit_test(test_error_on_the_way),
        cmocka_unit_test(test_buf_bound_becomes_the_error),
        cmocka_unit_test(test_fd_takes_everything),
        cmocka_unit_test(test_fd_errors),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_xml_strings),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("out", tests, NULL, NULL);
}
