/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include "rpc/tls.h"

#include <errno.h>

static char dir[64];

static struct ap_rpc_tls files(char paths[3][128], const char *ca, const char *cert)
{
    struct ap_rpc_tls tls = {0};
    char name[32];

    if (ca) {
        (void)snprintf(name, sizeof(name), "%s.crt", ca);
        tls.ca = in_dir(paths[0], dir, name);
    }
    if (cert) {
        (void)snprintf(name, sizeof(name), "%s.crt", cert);
        tls.cert = in_dir(paths[1], dir, name);
        (void)snprintf(name, sizeof(name), "%s.key", cert);
        tls.key = in_dir(paths[2], dir, name);
    }
    return tls;
}

static void start_tls(struct site *site, const char *ca, const char *cert)
{
    char paths[3][128];
    struct ap_rpc_server_opts opts;

    *site = (struct site){0};
    opts = site_opts(site);
    opts.tls = files(paths, ca, cert);
    site_start_with(site, &opts);
}

static int call_tls(const struct site *site, const char *scheme, const char *ca, const char *cert, struct ap_error *err)
{
    char paths[3][128];
    struct ap_rpc_tls tls = files(paths, ca, cert);
    struct ap_rpc_client *client = site_client_with(site, scheme, &tls, "token");
    int status = call_text(client, ECHO, "x", NULL, err);

    ap_rpc_client_free(client);
    return status;
}

static void test_good(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    start_tls(&site, NULL, "server");
    ASSERT_STATUS(call_tls(&site, "https://127.0.0.1", "ca", NULL, &err), AP_RPC_OK, err);
    ASSERT_STATUS(call_tls(&site, "https://localhost", "ca", NULL, &err), AP_RPC_OK, err);
    ASSERT_STATUS(call_tls(&site, "https://localhost", "ca", "client", &err), AP_RPC_OK, err);
    site_end(&site);
}

static void test_not_trusted(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    start_tls(&site, NULL, "server");
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "other", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server's certificate is not trusted");
    ASSERT_SAYS(err, "other.crt");
    if (access(AP_RPC_SYSTEM_CA, R_OK) == 0) {
        assert_int_equal(call_tls(&site, "https://127.0.0.1", NULL, NULL, &err), AP_RPC_UNAVAILABLE);
        ASSERT_SAYS(err, AP_RPC_SYSTEM_CA);
    }
    site_end(&site);

    start_tls(&site, NULL, "elsewhere");
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "ca", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server's certificate is not for \"127.0.0.1\"");
    assert_int_equal(call_tls(&site, "https://localhost", "ca", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server's certificate is not for \"localhost\"");
    site_end(&site);

    start_tls(&site, NULL, "old");
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "ca", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "certificate has expired");
    site_end(&site);
}

static void test_mutual(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    start_tls(&site, "ca", "server");
    ASSERT_STATUS(call_tls(&site, "https://127.0.0.1", "ca", "client", &err), AP_RPC_OK, err);
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "ca", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server wants a certificate of the client (mutual TLS)");
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "ca", "stranger", &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server does not accept the certificate");
    ASSERT_SAYS(err, "stranger.crt");
    site_end(&site);
}

static void test_one_side_only(void **state)
{
    struct ap_error err = {0};
    struct site site;

    (void)state;
    start_tls(&site, NULL, "server");
    assert_int_equal(call_tls(&site, "http://127.0.0.1", NULL, NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server speaks TLS; try https:// in place of http://");
    site_end(&site);
    start_tls(&site, "ca", "server");
    assert_int_equal(call_tls(&site, "http://127.0.0.1", NULL, NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "the server speaks TLS");
    site_end(&site);
    site_start(&site);
    assert_int_equal(call_tls(&site, "https://127.0.0.1", "ca", NULL, &err), AP_RPC_UNAVAILABLE);
    ASSERT_SAYS(err, "try http:// in place of https://");
    site_end(&site);
}

static void refuse(const struct ap_rpc_tls *tls, int code, const char *words)
{
    struct ap_rpc_pem pem = {0};
    struct ap_error err = {0};
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);

    assert_int_equal(ap_rpc_pem_load(tls, &pem, &err), code);
    ASSERT_SAYS(err, words);
    assert_null(pem.ca);
    opts.tls = *tls;
    assert_null(ap_rpc_server_new(&opts, &err));
}

static void test_files(void **state)
{
    char paths[3][128], other[128];
    struct ap_rpc_tls tls;
    struct ap_rpc_pem pem;
    struct ap_error err = {0};

    (void)state;
    tls = files(paths, "ca", "server");
    assert_int_equal(ap_rpc_pem_load(&tls, &pem, &err), 0);
    assert_non_null(strstr(pem.ca, "BEGIN CERTIFICATE"));
    assert_non_null(strstr(pem.key, "PRIVATE KEY"));
    ap_rpc_pem_done(&pem);
    tls = (struct ap_rpc_tls){0};
    assert_int_equal(ap_rpc_pem_load(&tls, &pem, &err), 0);
    ap_rpc_pem_done(&pem);

    tls = files(paths, NULL, "missing");
    refuse(&tls, -ENOENT, "missing.crt: No such file");
    tls = files(paths, NULL, "server");
    tls.key = NULL;
    refuse(&tls, -EINVAL, "needs its private key too");
    tls = files(paths, NULL, "server");
    tls.cert = NULL;
    refuse(&tls, -EINVAL, "needs its certificate too");
    tls = files(paths, NULL, "server");
    tls.key = in_dir(other, dir, "client.key");
    refuse(&tls, -EINVAL, "does not belong to the first certificate");
    tls.key = tls.cert;
    refuse(&tls, -EINVAL, "holds no private key in PEM form");
    tls = files(paths, NULL, "server");
    tls.cert = tls.key;
    refuse(&tls, -EINVAL, "holds no certificate in PEM form");
    tls = files(paths, NULL, "locked");
    refuse(&tls, -EINVAL, "is encrypted; write it without a password");
    tls = files(paths, "empty", "server");
    refuse(&tls, -EINVAL, "empty.crt holds no certificate");
    tls = files(paths, "damaged", "server");
    refuse(&tls, -EINVAL, "damaged.crt holds no certificate in PEM form, or a damaged one");
    tls = files(paths, "ca", NULL);
    struct site site = {0};
    struct ap_rpc_server_opts opts = site_opts(&site);
    opts.tls = tls;
    assert_null(ap_rpc_server_new(&opts, &err));
    ASSERT_SAYS(err, "TLS needs a certificate and its private key");
}

static int make_files(void **state)
{
    char paths[3][128], *text = NULL;
    struct ap_rpc_tls tls;
    struct ap_rpc_pem pem;

    (void)state;
    dir_make(dir);
    certs_write(dir);
    write_file(dir, "empty.crt", "");
    tls = files(paths, "ca", NULL);
    assert_int_equal(ap_rpc_pem_load(&tls, &pem, NULL), 0);
    assert_true(asprintf(&text, "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pem.ca) > 0);
    write_file(dir, "damaged.crt", text);
    free(text);
    ap_rpc_pem_done(&pem);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    dir_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_good),          cmocka_unit_test(test_not_trusted),
        cmocka_unit_test(test_mutual), cmocka_unit_test(test_one_side_only),
    };

    return cmocka_run_group_tests_name("tls", tests, make_files, remove_files);
}
