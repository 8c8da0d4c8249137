/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/config.h"

#include "model/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DAY_NS (86400ULL * 1000000000ULL)

static char program[] = "aperture-aggregator";
static struct ap_aggregator_config config;
static struct ap_error err;

/* Parses "aperture-aggregator ARGUMENT...", the arguments separated by blanks. */
static int parse(const char *line)
{
    static char text[4096]; /* strings of the configuration point into it */
    char *argv[64] = {program}, *part, *rest = text;
    int argc = 1;

    ap_aggregator_config_done(&config);
    memset(&err, 0, sizeof(err));
    assert_true(strlen(line) < sizeof(text));
    memcpy(text, line, strlen(line) + 1);
    while ((part = strsep(&rest, " ")) && argc < 63)
        if (*part)
            argv[argc++] = part;
    return ap_aggregator_config_parse(&config, argc, argv, &err);
}

/* A refusal is a usage error whose words contain `words`. */
static void expect_refused(const char *line, const char *words)
{
    int rc = parse(line);

    if (rc >= 0 || rc != err.code || !strstr(err.text, words))
        fail_msg("\"%s\": rc %d, \"%s\" (wanted: %s)", line, rc, err.text, words);
}

static int clean(void **state)
{
    static const char *const names[] = {
        "AGGREGATOR_LISTEN", "ADMIN_LISTEN", "AUTH_TOKEN",          "TOKEN_FILE",          "INSECURE",
        "DATA_DIR",          "STORAGE",      "CLICKHOUSE_ENDPOINT", "CLICKHOUSE_DATABASE", "CLICKHOUSE_USER",
        "RETENTION",         "LOG_LEVEL",    "CLICKHOUSE_PASSWORD", "LOG_FORMAT",
    };
    char name[64] = "APERTURE_";

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        strcpy(name + 9, names[i]);
        unsetenv(name);
    }
    ap_aggregator_config_done(&config);
    return 0;
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_string_equal(config.listen, "127.0.0.1:50051");
    assert_string_equal(config.admin_listen, "127.0.0.1:9090");
    assert_true(config.loopback_only);
    assert_int_equal(config.storage, AP_STORAGE_CHOICE_AUTO);
    assert_string_equal(config.clickhouse_database, "aperture");
    assert_null(config.clickhouse_endpoint);
    assert_int_equal(config.buffer_sz, 64 << 20);
    assert_int_equal(config.memory_sz, 512 << 20);
    assert_int_equal(config.retention_ns[AP_KIND_CPU], 0);
    assert_int_equal(config.ready_fd, 0);
}

static void environment(void **state)
{
    struct ap_storage_opts opts;

    (void)state;
    setenv("APERTURE_AUTH_TOKEN", "0123456789abcdef", 1);
    setenv("APERTURE_AGGREGATOR_LISTEN", "0.0.0.0:1", 1);
    setenv("APERTURE_ADMIN_LISTEN", "[::]:2", 1);
    setenv("APERTURE_DATA_DIR", "/data", 1);
    setenv("APERTURE_CLICKHOUSE_ENDPOINT", "http://127.0.0.1:8123", 1);
    setenv("APERTURE_CLICKHOUSE_DATABASE", "db", 1);
    setenv("APERTURE_CLICKHOUSE_USER", "u", 1);
    setenv("APERTURE_CLICKHOUSE_PASSWORD", "p", 1);
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_string_equal(config.listen, "0.0.0.0:1");
    assert_string_equal(config.admin_listen, "[::]:2");
    assert_false(config.loopback_only);
    opts = ap_aggregator_storage_opts(&config, AP_STORAGE_CLICKHOUSE);
    assert_int_equal(opts.kind, AP_STORAGE_CLICKHOUSE);
    assert_string_equal(opts.data_dir, "/data");
    assert_string_equal(opts.endpoint, "http://127.0.0.1:8123");
    assert_string_equal(opts.database, "db");
    assert_string_equal(opts.user, "u");
    assert_string_equal(opts.password, "p");
    assert_int_equal(parse("--listen 127.0.0.1:3"), AP_OPTIONS_RUN); /* the command line wins */
    assert_string_equal(config.listen, "127.0.0.1:3");
    setenv("APERTURE_CLICKHOUSE_ENDPOINT", "", 1); /* as unset */
    assert_int_equal(parse(""), AP_OPTIONS_RUN);
    assert_null(config.clickhouse_endpoint);
}

/* Without a token only this machine may come. */
static void loopback_rule(void **state)
{
    static const char *const local[] = {"127.0.0.1:0", "127.9.9.9:1", "[::1]:5", "localhost:50051", "unix:/run/x"};
    static const char *const far[] = {"0.0.0.0:0", "[::]:0", "10.0.0.1:50051", "example.org:1", "[2001:db8::1]:1"};
    char line[128];

    (void)state;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
        strcpy(stpcpy(line, "--listen "), local[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
        assert_string_equal(config.listen, local[i]);
    }
    for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
        strcpy(stpcpy(line, "--listen "), far[i]);
        expect_refused(line, "without a token");
        strcpy(stpcpy(line, "--admin-listen "), far[i]);
        expect_refused(line, "--insecure");
        strcpy(stpcpy(line, "--insecure --listen "), far[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
        strcpy(stpcpy(line, "--auth-token x --listen "), far[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
        strcpy(stpcpy(line, "--token-file /f --admin-listen "), far[i]);
        assert_int_equal(parse(line), AP_OPTIONS_RUN);
    }
    assert_int_equal(parse("--insecure"), AP_OPTIONS_RUN);
    assert_string_equal(config.listen, "0.0.0.0:50051");
    assert_int_equal(parse("--auth-token x"), AP_OPTIONS_RUN);
    assert_string_equal(config.admin_listen, "0.0.0.0:9090");
    assert_int_equal(parse("--auth-token="), AP_OPTIONS_RUN); /* an empty one is none */
    assert_true(config.loopback_only);
}

static void addresses(void **state)
{
    static const char *const bad[] = {"50051", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                      "::1:1", "[]:1",   "a:b",       "[::1]1",     "unix:"};
    char line[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        strcpy(stpcpy(line, "--insecure --listen "), bad[i]);
        expect_refused(line, "--listen");
    }
    expect_refused("--admin-listen unix:/x", "HTTP listens on HOST:PORT");
}

static void tls(void **state)
{
    (void)state;
    assert_int_equal(parse("--tls-cert a --tls-key b --tls-ca c"), AP_OPTIONS_RUN);
    assert_string_equal(config.tls.cert, "a");
    assert_string_equal(config.tls.key, "b");
    assert_string_equal(config.tls.ca, "c");
    expect_refused("--tls-cert a", "--tls-key is missing");
    expect_refused("--tls-key a", "--tls-cert is missing");
    expect_refused("--tls-ca a", "--tls-ca needs");
}

static void retention(void **state)
{
    struct ap_storage_opts opts;

    (void)state;
    assert_int_equal(parse("--retention cpu=14d,lock=30d --retention 1m=60d,1h=1000d,offcpu=1h"), AP_OPTIONS_RUN);
    opts = ap_aggregator_storage_opts(&config, AP_STORAGE_CHDB);
    assert_int_equal(opts.retention_ns[AP_KIND_CPU], 14 * DAY_NS);
    assert_int_equal(opts.retention_ns[AP_KIND_LOCK], 30 * DAY_NS);
    assert_int_equal(opts.retention_ns[AP_KIND_OFFCPU], DAY_NS / 24);
    assert_int_equal(opts.retention_ns[AP_KIND_SYSCALL], 0);
    assert_int_equal(opts.retention_1m_ns, 60 * DAY_NS);
    assert_int_equal(opts.retention_1h_ns, 1000 * DAY_NS);
    expect_refused("--retention cpu", "KIND=TIME");
    expect_refused("--retention =7d", "KIND=TIME");
    expect_refused("--retention disk=7d", "is no kind");
    expect_refused("--retention cpu=", "--retention");
    expect_refused("--retention cpu=59m", "1h to 3650d");
    expect_refused("--retention cpu=9999d", "1h to 3650d");
    expect_refused("--retention averyverylongname=1d", "KIND=TIME");
}

static void storages(void **state)
{
    (void)state;
    assert_int_equal(parse("--storage memory --memory-size 1G"), AP_OPTIONS_RUN);
    assert_int_equal(config.memory_sz, 1 << 30);
    assert_int_equal(parse("--storage chdb --chdb-library /x.so"), AP_OPTIONS_RUN);
    assert_int_equal(parse("--storage clickhouse --clickhouse-endpoint https://h:8443"), AP_OPTIONS_RUN);
    expect_refused("--storage clickhouse", "--clickhouse-endpoint");
    expect_refused("--clickhouse-endpoint h:8123", "http://");
    expect_refused("--storage disk", "disk");
    expect_refused("--cluster main", "--print-schema");
    assert_int_equal(parse("--print-schema --cluster main"), AP_OPTIONS_RUN);
    expect_refused("--memory-size 1K", "--memory-size");
    expect_refused("--buffer-size 0", "--buffer-size");
    expect_refused("--ready-fd 2", "--ready-fd");
}

static void data_dir(void **state)
{
    (void)state;
    assert_int_equal(parse("--data-dir /x/y"), AP_OPTIONS_RUN);
    assert_string_equal(config.data_dir, "/x/y");
    if (geteuid() == 0) {
        assert_int_equal(parse(""), AP_OPTIONS_RUN);
        assert_string_equal(config.data_dir, "/var/lib/aperture");
        assert_int_equal(seteuid(65534), 0);
        setenv("XDG_DATA_HOME", "/h/data", 1);
        assert_int_equal(parse(""), AP_OPTIONS_RUN);
        assert_string_equal(config.data_dir, "/h/data/aperture");
        unsetenv("XDG_DATA_HOME");
        setenv("HOME", "/h", 1);
        assert_int_equal(parse(""), AP_OPTIONS_RUN);
        assert_int_equal(seteuid(0), 0);
        prctl(PR_SET_DUMPABLE, 1); /* the leak checker looks into this process */
        assert_string_equal(config.data_dir, "/h/.local/share/aperture");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults, clean, clean),
        cmocka_unit_test_setup_teardown(environment, clean, clean),
        cmocka_unit_test_setup_teardown(loopback_rule, clean, clean),
        cmocka_unit_test_setup_teardown(addresses, clean, clean),
        cmocka_unit_test_setup_teardown(tls, clean, clean),
        cmocka_unit_test_setup_teardown(retention, clean, clean),
        cmocka_unit_test_setup_teardown(storages, clean, clean),
        cmocka_unit_test_setup_teardown(data_dir, clean, clean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
