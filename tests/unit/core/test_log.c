/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char got[1 << 16];

/* Packets keep writes apart: each recv() answers one write(). */
static int socks[2];
static int saved_stderr;

static void capture_begin(void)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_int_equal(dup2(socks[1], STDERR_FILENO), STDERR_FILENO);
}

/* Ends the capture; returns how many writes there were, the last one in `got`. */
static int capture_end(void)
{
    int cnt = 0;

    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    close(saved_stderr);
    close(socks[1]);
    for (;; cnt++) {
        ssize_t len = recv(socks[0], got, sizeof(got) - 1, 0);
        if (len <= 0)
            break;
        got[len] = '\0';
    }
    close(socks[0]);
    return cnt;
}

static void test_levels(void **state)
{
    (void)state;
    ap_log_setup("prog", AP_LOG_WARN, AP_LOG_TEXT);
    assert_int_equal(ap_log_get_level(), AP_LOG_WARN);
    capture_begin();
    ap_log_info("not this");
    ap_log_debug("nor this");
    assert_int_equal(capture_end(), 0);

    capture_begin();
    ap_log_error("disk %d", 1);
    assert_int_equal(capture_end(), 1);
    assert_string_equal(got, "prog: error: disk 1\n");

    capture_begin();
    ap_log_warn("slow");
    assert_int_equal(capture_end(), 1);
    assert_string_equal(got, "prog: warning: slow\n");

    ap_log_setup("prog", AP_LOG_DEBUG, AP_LOG_TEXT);
    capture_begin();
    ap_log_info("a");
    ap_log_debug("b");
    assert_int_equal(capture_end(), 2);
    assert_string_equal(got, "prog: debug: b\n");
}

static void test_text_shows_controls(void **state)
{
    (void)state;
    ap_log_setup("prog", AP_LOG_INFO, AP_LOG_TEXT);
    capture_begin();
    ap_log_info("a\nb\x1B[31m\x7F\tc \xC3\xA9 \xC2\x9B \xFF");
    assert_int_equal(capture_end(), 1);
    assert_string_equal(got, "prog: info: a\\x0ab\\x1b[31m\\x7f\tc \xC3\xA9 \\x9b \\xff\n");
}

static void test_json(void **state)
{
    (void)state;
    int year;
    int month;
    int day;
    int hour;
    int minute;
    int second;
    int ms;
    int at = 0;

    ap_log_setup("pr\"og", AP_LOG_INFO, AP_LOG_JSON);
    capture_begin();
    ap_log_warn("a\n\"b\" \xFF <x> \x01");
    assert_int_equal(capture_end(), 1);
    int fields = sscanf(got, "{\"time\":\"%4d-%2d-%2dT%2d:%2d:%2d.%3dZ\",%n", &year, &month, &day, &hour, &minute,
                        &second, &ms, &at);
    assert_int_equal(fields, 7);
    assert_int_equal(at, strlen("{\"time\":\"2024-01-01T00:00:00.000Z\","));
    assert_true(year >= 2024 && month >= 1 && month <= 12 && hour < 24);
    assert_string_equal(got + at, "\"level\":\"warning\",\"program\":\"pr\\\"og\","
                                  "\"message\":\"a\\n\\\"b\\\" \xEF\xBF\xBD <x> \\u0001\"}\n");
}

static void check_cut(enum ap_log_format format, const char *unit, const char *wanted_end)
{
    static char text[AP_LOG_MESSAGE_SZ * 2];
    size_t len = strlen(unit);

    text[0] = 'z'; /* so that the cut falls inside a character */
    for (size_t at = 1; at + len < sizeof(text); at += len)
        memcpy(text + at, unit, len + 1);
    ap_log_setup("p", AP_LOG_INFO, format);
    capture_begin();
    ap_log_error("%s", text);
    assert_int_equal(capture_end(), 1);
    size_t end = strlen(wanted_end);
    assert_true(strlen(got) > end);
    assert_string_equal(got + strlen(got) - end, wanted_end);
}

static void test_long_messages_are_cut(void **state)
{
    (void)state;
    check_cut(AP_LOG_TEXT, "x", "xxx...\n");
    assert_int_equal(strlen(got), strlen("p: error: ") + AP_LOG_MESSAGE_SZ - 1 + 1);
    check_cut(AP_LOG_TEXT, "\xE2\x82\xAC", "\xE2\x82\xAC...\n");
    check_cut(AP_LOG_TEXT, "\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80...\n");
    check_cut(AP_LOG_JSON, "\xC3\xA9", "\xC3\xA9...\"}\n");
    check_cut(AP_LOG_JSON, "\x01", "\\u0001...\"}\n"); /* six times as long, still one write */

    static char fits[AP_LOG_MESSAGE_SZ];
    memset(fits, 'y', sizeof(fits) - 1);
    ap_log_setup("p", AP_LOG_INFO, AP_LOG_TEXT);
    capture_begin();
    ap_log_error("%s", fits);
    assert_int_equal(capture_end(), 1);
    assert_string_equal(got + strlen(got) - 4, "yyy\n");
}

static void test_errno_survives(void **state)
{
    (void)state;
    ap_log_setup("p", AP_LOG_INFO, AP_LOG_TEXT);
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = ENOTTY;
    ap_log_error("to nobody");
    int after = errno;
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
    assert_int_equal(after, ENOTTY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),         cmocka_unit_test(test_text_shows_controls),
        cmocka_unit_test(test_json),           cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_errno_survives),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
