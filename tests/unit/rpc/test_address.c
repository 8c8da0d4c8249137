/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/address.h"

#include <errno.h>
#include <string.h>

static void check(int (*parse)(const char *, struct ap_rpc_address *, struct ap_error *), const char *text,
                  const char *host, unsigned port, const char *target)
{
    struct ap_rpc_address address;
    struct ap_error err = {0};
    char got[AP_RPC_TARGET_SZ];

    if (parse(text, &address, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(address.local ? address.path : address.host, host);
    assert_int_equal(address.port, port);
    ap_rpc_target(&address, got);
    assert_string_equal(got, target);
}

static void test_listen(void **state)
{
    (void)state;
    check(ap_rpc_parse_listen, "127.0.0.1:50051", "127.0.0.1", 50051, "ipv4:127.0.0.1:50051");
    check(ap_rpc_parse_listen, "[::1]:0", "::1", 0, "ipv6:[::1]:0");
    check(ap_rpc_parse_listen, "[::]:65535", "::", 65535, "ipv6:[::]:65535");
    check(ap_rpc_parse_listen, "localhost:1", "localhost", 1, "dns:///localhost:1");
    check(ap_rpc_parse_listen, "unix:/run/a b.sock", "/run/a b.sock", 0, "unix:/run/a%20b.sock");
    check(ap_rpc_parse_listen, "unix:///run/a", "/run/a", 0, "unix:/run/a");
    check(ap_rpc_parse_listen, "unix:relative", "relative", 0, "unix:relative");
}

static void test_endpoint(void **state)
{
    struct ap_rpc_address address;

    (void)state;
    check(ap_rpc_parse_endpoint, "http://127.0.0.1:5", "127.0.0.1", 5, "ipv4:127.0.0.1:5");
    check(ap_rpc_parse_endpoint, "http://node-1.example", "node-1.example", AP_RPC_PORT, "dns:///node-1.example:50051");
    check(ap_rpc_parse_endpoint, "https://[2001:db8::1]/", "2001:db8::1", AP_RPC_PORT, "ipv6:[2001:db8::1]:50051");
    check(ap_rpc_parse_endpoint, "unix:/a#b?c%d", "/a#b?c%d", 0, "unix:/a%23b%3Fc%25d");
    assert_int_equal(ap_rpc_parse_endpoint("https://a:1", &address, NULL), 0);
    assert_true(address.tls);
    assert_int_equal(ap_rpc_parse_endpoint("http://a:1", &address, NULL), 0);
    assert_false(address.tls);
}

static void refuse(int (*parse)(const char *, struct ap_rpc_address *, struct ap_error *), const char *text,
                   const char *words)
{
    struct ap_rpc_address address = {.port = 7};
    struct ap_error err = {0};

    assert_int_equal(parse(text, &address, &err), -EINVAL);
    assert_int_equal(address.port, 7);
    if (!strstr(err.text, words) || !strstr(err.text, text))
        fail_msg("%s", err.text);
}

static void test_refused(void **state)
{
    char path[300] = "unix:/", host[400] = "http://";

    (void)state;
    refuse(ap_rpc_parse_listen, "", "HOST:PORT");
    refuse(ap_rpc_parse_listen, "127.0.0.1", "HOST:PORT");
    refuse(ap_rpc_parse_listen, "127.0.0.1:", "a port is a number");
    refuse(ap_rpc_parse_listen, "127.0.0.1:65536", "a port is a number");
    refuse(ap_rpc_parse_listen, "127.0.0.1:-1", "a port is a number");
    refuse(ap_rpc_parse_listen, "127.0.0.1:123456789012", "a port is a number");
    refuse(ap_rpc_parse_listen, ":5", "neither the name of a host");
    refuse(ap_rpc_parse_listen, "::1:5", "brackets");
    refuse(ap_rpc_parse_listen, "[::1", "not closed");
    refuse(ap_rpc_parse_listen, "[::1]x", "HOST:PORT");
    refuse(ap_rpc_parse_listen, "[host]:5", "neither");
    refuse(ap_rpc_parse_listen, "[]:5", "neither");
    refuse(ap_rpc_parse_listen, "a b:5", "neither");
    refuse(ap_rpc_parse_listen, "unix:", "path of a socket is missing");
    refuse(ap_rpc_parse_endpoint, "127.0.0.1:5", "begins with http://");
    refuse(ap_rpc_parse_endpoint, "ftp://a", "begins with http://");
    refuse(ap_rpc_parse_endpoint, "http://", "neither the name of a host");
    refuse(ap_rpc_parse_endpoint, "http://a:1/path", "ends after HOST:PORT");
    refuse(ap_rpc_parse_endpoint, "http://a:1?x", "ends after HOST:PORT");
    refuse(ap_rpc_parse_endpoint, "http://user@a:1", "neither");
    refuse(ap_rpc_parse_endpoint, "http://a:0", "port 0");
    memset(path + 6, 'x', 200);
    refuse(ap_rpc_parse_endpoint, path, "at most 107 bytes");
    memset(host + 7, 'x', 300);
    refuse(ap_rpc_parse_endpoint, host, "too long");
}

static void test_longest_target(void **state)
{
    struct ap_rpc_address address = {.local = true};
    char target[AP_RPC_TARGET_SZ];

    (void)state;
    memset(address.path, ' ', AP_RPC_PATH_SZ - 1);
    ap_rpc_target(&address, target);
    assert_int_equal(strlen(target), 5 + 3 * (AP_RPC_PATH_SZ - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen),
        cmocka_unit_test(test_endpoint),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_longest_target),
    };

    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
