/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/audit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char log_path[] = "/tmp/test_audit.XXXXXX";
static int saved_stderr;

/* Lines of the log that contain `words`. */
static unsigned lines(const char *words)
{
    FILE *file = fopen(log_path, "r");
    char line[8192];
    unsigned cnt = 0;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        cnt += strstr(line, words) != NULL;
    (void)fclose(file);
    return cnt;
}

static void peers(void **state)
{
    static const char *const cases[][2] = {
        {"ipv4:127.0.0.1:40000", "127.0.0.1"},
        {"ipv6:%5B::1%5D:40000", "%5B::1%5D"},
        {"ipv6:[::1]:40000", "[::1]"},
        {"unix:/run/x", "unix:/run/x"},
        {"127.0.0.1:5", "127.0.0.1"},
        {"[::1]:5", "[::1]"},
        {"unix:", "unix:"},
        {"", ""},
        {"::1", "::1"},
    };
    char buf[AP_AUDIT_PEER_SZ];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(ap_audit_peer(cases[i][0], buf), cases[i][1]);
}

/* One peer's flood neither fills the log nor hides another peer. */
static void floods(void **state)
{
    struct ap_audit *audit = ap_audit_new();
    struct ap_audit_stats stats;
    char peer[64];

    (void)state;
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(peer, sizeof(peer), "ipv4:10.0.0.1:%d", 1024 + i);
        ap_audit_refused(audit, "-", peer, "/x/Push", "unknown token");
    }
    ap_audit_refused(audit, "team", "ipv4:10.0.0.2:7", "GET /api/top", "the token may only read");
    ap_audit_change(audit, "team", "10.0.0.3:7", "POST /api/import", "3 profiles");
    ap_audit_stats(audit, &stats);
    assert_int_equal(stats.refused, 5001);
    assert_int_equal(stats.changes, 1);
    assert_in_range(lines("10.0.0.1:"), AP_AUDIT_BURST, AP_AUDIT_BURST + 5);
    assert_int_equal(stats.suppressed, 5000 - lines("10.0.0.1:"));
    assert_int_equal(lines("refused GET /api/top from ipv4:10.0.0.2:7, token team: the token may only read"), 1);
    assert_int_equal(lines("POST /api/import from 10.0.0.3:7, token team: 3 profiles"), 1);
    ap_audit_free(audit);
    ap_audit_free(NULL);
}

static int redirect(void **state)
{
    int fd = mkstemp(log_path);

    (void)state;
    saved_stderr = dup(STDERR_FILENO);
    return fd < 0 || dup2(fd, STDERR_FILENO) < 0 || close(fd);
}

static int restore(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    return unlink(log_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers),
        cmocka_unit_test_setup_teardown(floods, redirect, restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
