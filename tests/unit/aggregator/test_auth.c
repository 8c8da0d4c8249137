/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/test_auth.XXXXXX";
static struct ap_error err;

static void write_file(const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void expect(struct ap_auth *auth, const char *header, bool write, enum ap_auth_result result, const char *name)
{
    char got[AP_AUTH_NAME_SZ];

    assert_int_equal(ap_auth_check(auth, header, write, got), result);
    assert_string_equal(got, name);
}

static void expect_refused(const char *text, mode_t mode, const char *words)
{
    write_file(text, mode);
    err = (struct ap_error){0};
    if (ap_auth_new(NULL, path, &err) || !err.code || !strstr(err.text, words) || !strstr(err.text, path))
        fail_msg("\"%s\": %d, \"%s\" (wanted: %s)", text, err.code, err.text, words);
}

static void without_tokens(void **state)
{
    struct ap_auth *auth = ap_auth_new(NULL, NULL, &err);

    (void)state;
    assert_true(ap_auth_is_open(auth));
    expect(auth, NULL, true, AP_AUTH_OK, "-");
    expect(auth, "Bearer x", true, AP_AUTH_OK, "-");
    ap_auth_free(auth);
    ap_auth_free(NULL);
}

static void one_token(void **state)
{
    struct ap_auth *auth = ap_auth_new("secret", NULL, &err);
    size_t brief;

    (void)state;
    assert_false(ap_auth_is_open(auth));
    assert_int_equal(ap_auth_cnt(auth, &brief), 1);
    assert_int_equal(brief, 1);
    expect(auth, "Bearer secret", true, AP_AUTH_OK, "token");
    expect(auth, "bearer   secret", false, AP_AUTH_OK, "token");
    expect(auth, NULL, false, AP_AUTH_MISSING, "-");
    expect(auth, "", false, AP_AUTH_MISSING, "-");
    expect(auth, "Bearer", false, AP_AUTH_MISSING, "-");
    expect(auth, "Bearer ", false, AP_AUTH_MISSING, "-");
    expect(auth, "Basic secret", false, AP_AUTH_MISSING, "-");
    expect(auth, "secret", false, AP_AUTH_MISSING, "-");
    expect(auth, "Bearer secre", false, AP_AUTH_UNKNOWN, "-");
    expect(auth, "Bearer secret ", false, AP_AUTH_UNKNOWN, "-");
    expect(auth, "Bearer Secret", false, AP_AUTH_UNKNOWN, "-");
    ap_auth_free(auth);
    assert_null(ap_auth_new("with blank", NULL, &err));
    assert_null(ap_auth_new("", NULL, &err));
}

static void scopes_and_reload(void **state)
{
    struct ap_auth *auth;
    size_t brief;

    (void)state;
    write_file("# tokens\n\n  reader-reader-reader read dashboards # of the team\r\nwriter-writer-writer\twrite\n",
               0600);
    auth = ap_auth_new("both-both-both-both", path, &err);
    assert_non_null(auth);
    assert_int_equal(ap_auth_cnt(auth, &brief), 3);
    assert_int_equal(brief, 0);
    expect(auth, "Bearer reader-reader-reader", false, AP_AUTH_OK, "dashboards");
    expect(auth, "Bearer reader-reader-reader", true, AP_AUTH_SCOPE, "dashboards");
    expect(auth, "Bearer writer-writer-writer", true, AP_AUTH_OK, "line-4");
    expect(auth, "Bearer writer-writer-writer", false, AP_AUTH_OK, "line-4");
    expect(auth, "Bearer both-both-both-both", true, AP_AUTH_OK, "token");

    write_file("new read\n", 0640);
    assert_int_equal(ap_auth_reload(auth, &err), 0);
    expect(auth, "Bearer reader-reader-reader", false, AP_AUTH_UNKNOWN, "-");
    expect(auth, "Bearer new", false, AP_AUTH_OK, "line-1");
    expect(auth, "Bearer both-both-both-both", true, AP_AUTH_OK, "token");

    write_file("new maybe\n", 0600); /* the tokens from before stay */
    assert_int_equal(ap_auth_reload(auth, &err), -EINVAL);
    expect(auth, "Bearer new", false, AP_AUTH_OK, "line-1");
    write_file("new read\n", 0604);
    assert_int_equal(ap_auth_reload(auth, &err), -EPERM);
    expect(auth, "Bearer new", false, AP_AUTH_OK, "line-1");
    ap_auth_free(auth);
}

static void refused_files(void **state)
{
    char *text = malloc(AP_AUTH_FILE_SZ + 2);

    (void)state;
    expect_refused("", 0600, "no token");
    expect_refused("# nothing\n", 0600, "no token");
    expect_refused("token\n", 0600, "line 1");
    expect_refused("token admin\n", 0600, "read or write");
    expect_refused("a read\ntoken write name more\n", 0600, "line 2");
    expect_refused("same read a\nother read\nsame write\n", 0600, "there twice");
    expect_refused("t\x01k read\n", 0600, "visible ASCII");
    expect_refused("good read\n", 0644, "chmod 600");
    expect_refused("good read\n", 0660, "chmod 600");
    assert_non_null(text);
    memset(text, 'x', AP_AUTH_FILE_SZ + 1);
    text[AP_AUTH_FILE_SZ + 1] = '\0';
    expect_refused(text, 0600, "longer than");
    text[AP_AUTH_TOKEN_SZ] = '\0';
    strcat(text, " read\n");
    expect_refused(text, 0600, "1 to 512 bytes");
    free(text);
    assert_null(ap_auth_new(NULL, "/does/not/exist", &err));
    assert_int_equal(err.code, -ENOENT);
    assert_null(ap_auth_new(NULL, "/dev/null", &err));
}

static void many_tokens(void **state)
{
    char *text = malloc(AP_AUTH_TOKENS_MAX * 32 + 64);
    struct ap_auth *auth;
    size_t len = 0, brief;

    (void)state;
    assert_non_null(text);
    for (int i = 0; i < AP_AUTH_TOKENS_MAX; i++)
        len += (size_t)sprintf(text + len, "token-%d read\n", i);
    write_file(text, 0600);
    auth = ap_auth_new(NULL, path, &err);
    assert_non_null(auth);
    assert_int_equal(ap_auth_cnt(auth, &brief), AP_AUTH_TOKENS_MAX);
    expect(auth, "Bearer token-0", false, AP_AUTH_OK, "line-1");
    expect(auth, "Bearer token-1023", false, AP_AUTH_OK, "line-1024");
    ap_auth_free(auth);
    strcpy(text + len, "one-more read\n");
    expect_refused(text, 0600, "more than 1024");
    free(text);
}

static int make(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

static int clean(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_tokens), cmocka_unit_test(one_token),   cmocka_unit_test(scopes_and_reload),
        cmocka_unit_test(refused_files),  cmocka_unit_test(many_tokens),
    };

    return cmocka_run_group_tests(tests, make, clean);
}
