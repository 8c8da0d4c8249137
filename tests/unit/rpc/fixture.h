/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A server of small methods, calls to it, and certificates, for the tests of this folder. */
#ifndef APERTURE_TESTS_RPC_FIXTURE_H
#define APERTURE_TESTS_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/clock.h"
#include "rpc/client.h"
#include "rpc/server.h"

#include <dirent.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ECHO     "/test.Echo/Echo"
#define FAIL     "/test.Echo/Fail"
#define HANG     "/test.Echo/Hang"
#define LATER    "/test.Echo/Later"
#define OPEN     "/test.Echo/Open"
#define WRITE    "/test.Echo/Write"
#define HEALTH   "/grpc.health.v1.Health/Check"
#define LONG_NS  (30 * AP_NS_PER_SEC)
#define SHORT_NS (AP_NS_PER_SEC / 10)
#define HANGING  2048

/* What the methods share. */
struct site {
    struct ap_rpc_server *server;
    pthread_mutex_t lock;
    struct ap_rpc_call *hanging[HANGING]; /* calls that nobody answers yet */
    unsigned hanging_cnt;
    unsigned peers_seen;
    char dir[64]; /* for files; "" = none */
};

struct later {
    struct ap_rpc_call *call;
};

static inline void site_echo(void *ctx, struct ap_rpc_call *call)
{
    size_t len;
    const void *data = ap_rpc_request(call, &len);
    struct site *site = (struct site *)ctx;

    (void)pthread_mutex_lock(&site->lock);
    site->peers_seen += ap_rpc_peer(call) != NULL && *ap_rpc_peer(call) != '\0';
    (void)pthread_mutex_unlock(&site->lock);
    ap_rpc_reply(call, AP_RPC_OK, NULL, data, len);
}

/* The request is the number of a status, and words. */
static inline void site_fail(void *ctx, struct ap_rpc_call *call)
{
    size_t len;
    const char *data = (const char *)ap_rpc_request(call, &len);

    (void)ctx;
    ap_rpc_reply(call, len > 0 ? data[0] : AP_RPC_UNKNOWN, "as you wish", "data", 4);
}

static inline void site_hang(void *ctx, struct ap_rpc_call *call)
{
    struct site *site = (struct site *)ctx;

    (void)pthread_mutex_lock(&site->lock);
    assert_true(site->hanging_cnt < HANGING);
    site->hanging[site->hanging_cnt++] = call;
    (void)pthread_mutex_unlock(&site->lock);
}

static inline void *later_run(void *arg)
{
    struct ap_rpc_call *call = (struct ap_rpc_call *)arg;
    size_t len;
    const void *data = ap_rpc_request(call, &len);

    (void)usleep(1000);
    ap_rpc_reply(call, AP_RPC_OK, NULL, data, len);
    return NULL;
}

static inline void site_later(void *ctx, struct ap_rpc_call *call)
{
    pthread_t thread;

    (void)ctx;
    assert_int_equal(pthread_create(&thread, NULL, later_run, call), 0);
    (void)pthread_detach(thread);
}

static inline unsigned site_hanging(struct site *site)
{
    (void)pthread_mutex_lock(&site->lock);
    unsigned cnt = site->hanging_cnt;
    (void)pthread_mutex_unlock(&site->lock);
    return cnt;
}

/* Answers what hangs; those only that were cancelled when `cancelled_only`. Returns how many it answered. */
static inline unsigned site_release(struct site *site, bool cancelled_only)
{
    unsigned cnt = 0, kept = 0;

    (void)pthread_mutex_lock(&site->lock);
    for (unsigned i = 0; i < site->hanging_cnt; i++) {
        struct ap_rpc_call *call = site->hanging[i];

        if (cancelled_only && !ap_rpc_cancelled(call)) {
            site->hanging[kept++] = call;
            continue;
        }
        ap_rpc_reply(call, AP_RPC_OK, NULL, "late", 4);
        cnt++;
    }
    site->hanging_cnt = kept;
    (void)pthread_mutex_unlock(&site->lock);
    return cnt;
}

static const struct ap_rpc_method site_methods[] = {
    {.path = ECHO, .handler = site_echo},
    {.path = FAIL, .handler = site_fail},
    {.path = HANG, .handler = site_hang},
    {.path = LATER, .handler = site_later},
    {.path = OPEN, .handler = site_echo, .open = true},
    {.path = WRITE, .handler = site_echo, .write = true},
};

/* Waits for what another thread brings about: `condition` is evaluated again and again, for 30 s at most. */
#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        uint64_t end_ = ap_clock_monotonic_ns() + LONG_NS;                                                             \
        while (!(condition)) {                                                                                         \
            assert_true(ap_clock_monotonic_ns() < end_);                                                               \
            (void)usleep(1000);                                                                                        \
        }                                                                                                              \
    } while (0)

static inline struct ap_rpc_server_opts site_opts(struct site *site)
{
    return (struct ap_rpc_server_opts){
        .listen = "127.0.0.1:0",
        .methods = site_methods,
        .method_cnt = sizeof(site_methods) / sizeof(site_methods[0]),
        .threads = 2,
        .ctx = site,
    };
}

static inline void site_start_with(struct site *site, const struct ap_rpc_server_opts *opts)
{
    struct ap_error err = {0};

    (void)pthread_mutex_init(&site->lock, NULL);
    site->server = ap_rpc_server_new(opts, &err);
    if (!site->server)
        fail_msg("%s", err.text);
}

static inline void site_start(struct site *site)
{
    struct ap_rpc_server_opts opts = site_opts(site);

    *site = (struct site){0};
    site_start_with(site, &opts);
}

static inline void site_end(struct site *site)
{
    site->server = ap_rpc_server_free(site->server);
    (void)pthread_mutex_destroy(&site->lock);
}

static inline struct ap_rpc_client *site_client_with(const struct site *site, const char *scheme,
                                                     const struct ap_rpc_tls *tls, const char *token)
{
    struct ap_error err = {0};
    char endpoint[64];

    (void)snprintf(endpoint, sizeof(endpoint), "%s:%u", scheme, ap_rpc_server_port(site->server));
    struct ap_rpc_client_opts opts = {.endpoint = endpoint, .tls = tls ? *tls : (struct ap_rpc_tls){0}, .token = token};
    struct ap_rpc_client *client = ap_rpc_client_new(&opts, &err);
    if (!client)
        fail_msg("%s", err.text);
    return client;
}

static inline struct ap_rpc_client *site_client(const struct site *site)
{
    return site_client_with(site, "http://127.0.0.1", NULL, NULL);
}

/* Calls with a text; the answer (of at most 255 bytes) in `ret_answer`, which may be NULL. */
static inline int call_text(struct ap_rpc_client *client, const char *method, const char *text, char *ret_answer,
                            struct ap_error *err)
{
    struct ap_buf buf;

    ap_buf_init(&buf, 255);
    int status = ap_rpc_client_call(client, method, text, strlen(text), LONG_NS, &buf, err);
    if (status == AP_RPC_OK && ret_answer)
        memcpy(ret_answer, buf.len > 0 ? buf.data : "", buf.len + 1);
    ap_buf_done(&buf);
    return status;
}

/* Says what is wrong when it is not what should be. */
#define ASSERT_STATUS(status, wanted, err)                                                                             \
    do {                                                                                                               \
        int status_ = (status);                                                                                        \
        if (status_ != (wanted))                                                                                       \
            fail_msg("%s: %s", ap_rpc_status_name(status_), (err).text);                                               \
    } while (0)
#define ASSERT_SAYS(err, words)                                                                                        \
    do {                                                                                                               \
        if (!strstr((err).text, words))                                                                                \
            fail_msg("\"%s\" is not in \"%s\"", words, (err).text);                                                    \
    } while (0)

/* Files ------------------------------------------------------------------------------------------------------------ */

static inline void dir_make(char dir[64])
{
    (void)snprintf(dir, 64, "/tmp/aperture-rpc-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline void dir_remove(const char *dir)
{
    char path[512];
    DIR *open = opendir(dir);
    struct dirent *entry;

    while (open && (entry = readdir(open)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.')
            (void)unlink(path);
    }
    if (open)
        (void)closedir(open);
    (void)rmdir(dir);
}

static inline char *in_dir(char path[128], const char *dir, const char *name)
{
    (void)snprintf(path, 128, "%s/%s", dir, name);
    return path;
}

static inline void write_file(const char *dir, const char *name, const char *text)
{
    char path[128];
    FILE *file = fopen(in_dir(path, dir, name), "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Certificates ----------------------------------------------------------------------------------------------------- */

struct cert {
    EVP_PKEY *key;
    X509 *x509;
};

static inline void cert_extend(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(x509, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* A certificate of `name` for `alt` ("IP:127.0.0.1,DNS:localhost"), or an authority when `alt` is NULL; by `issuer`, or
 * by itself when that is NULL. `days` < 0: it ended then. */
static inline struct cert cert_make(const char *name, const char *alt, const struct cert *issuer, int days)
{
    struct cert cert = {.key = EVP_EC_gen("P-256"), .x509 = X509_new()};
    X509_NAME *subject;

    assert_non_null(cert.key);
    assert_int_equal(X509_set_version(cert.x509, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert.x509), (long)(ap_clock_monotonic_ns() >> 8)), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(cert.x509), -10L * 86400);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert.x509), days * 86400L);
    subject = X509_get_subject_name(cert.x509);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0),
                     1);
    X509 *by = issuer ? issuer->x509 : cert.x509;
    assert_int_equal(X509_set_issuer_name(cert.x509, X509_get_subject_name(by)), 1);
    assert_int_equal(X509_set_pubkey(cert.x509, cert.key), 1);
    cert_extend(cert.x509, by, NID_basic_constraints, alt ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (alt)
        cert_extend(cert.x509, by, NID_subject_alt_name, alt);
    assert_true(X509_sign(cert.x509, issuer ? issuer->key : cert.key, EVP_sha256()) > 0);
    return cert;
}

static inline void cert_free(struct cert *cert)
{
    EVP_PKEY_free(cert->key);
    X509_free(cert->x509);
}

/* Writes NAME.crt and NAME.key; the key encrypted when there is a password. */
static inline void cert_write(const struct cert *cert, const char *dir, const char *name, const char *password)
{
    char file[32], path[128];

    (void)snprintf(file, sizeof(file), "%s.crt", name);
    BIO *bio = BIO_new_file(in_dir(path, dir, file), "w");
    assert_int_equal(PEM_write_bio_X509(bio, cert->x509), 1);
    BIO_free(bio);
    (void)snprintf(file, sizeof(file), "%s.key", name);
    bio = BIO_new_file(in_dir(path, dir, file), "w");
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, cert->key, password ? EVP_aes_128_cbc() : NULL, password,
                                                   password ? (int)strlen(password) : 0, NULL, NULL),
                     1);
    BIO_free(bio);
}

/* ca, server (127.0.0.1, ::1, localhost), elsewhere (another host), old (ended), client; stranger, selfmade: of another
 * authority. */
static inline void certs_write(const char *dir)
{
    struct cert ca = cert_make("Test authority", NULL, NULL, 10);
    struct cert other = cert_make("Another authority", NULL, NULL, 10);
    struct cert server = cert_make("server", "IP:127.0.0.1,IP:::1,DNS:localhost", &ca, 10);
    struct cert elsewhere = cert_make("elsewhere", "DNS:elsewhere.example", &ca, 10);
    struct cert old = cert_make("old", "IP:127.0.0.1", &ca, -1);
    struct cert client = cert_make("client", "DNS:client", &ca, 10);
    struct cert stranger = cert_make("stranger", "DNS:stranger", &other, 10);
    struct {
        const char *name;
        struct cert *cert;
    } all[] = {{"ca", &ca},   {"other", &other},   {"server", &server},    {"elsewhere", &elsewhere},
               {"old", &old}, {"client", &client}, {"stranger", &stranger}};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        cert_write(all[i].cert, dir, all[i].name, NULL);
        if (all[i].cert == &client)
            cert_write(&client, dir, "locked", "secret");
        cert_free(all[i].cert);
    }
}

#endif
