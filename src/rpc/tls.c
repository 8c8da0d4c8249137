/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/tls.h"

#include "core/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SZ 16384

/* What stands in the file, with a terminator; the caller frees it. */
static int read_text(const char *path, char **ret_text, struct ap_error *err)
{
    struct ap_buf buf;
    ssize_t cnt = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return ap_error_errno(err, -errno, "cannot read %s", path);
    ap_buf_init(&buf, AP_RPC_PEM_SZ);
    do {
        char *room = (char *)ap_buf_reserve(&buf, READ_SZ);

        if (!room)
            break;
        cnt = read(fd, room, READ_SZ);
        if (cnt > 0)
            buf.len += (size_t)cnt;
    } while (cnt > 0 || (cnt < 0 && errno == EINTR));
    int saved = errno;
    (void)close(fd);

    int rc = buf.error ? buf.error : cnt < 0 ? -saved : ap_buf_char(&buf, '\0');
    if (rc == 0) {
        *ret_text = buf.data;
        return 0;
    }
    if (buf.data)
        explicit_bzero(buf.data, buf.len);
    ap_buf_done(&buf);
    if (rc == -ENOSPC)
        return ap_error_set(err, -EFBIG, "%s is no file of certificates: it is larger than %u MiB", path,
                            AP_RPC_PEM_SZ >> 20);
    return ap_error_errno(err, rc, "cannot read %s", path);
}

static BIO *text_bio(const char *text)
{
    return BIO_new_mem_buf(text, (int)strlen(text));
}

/* The first certificate of the text, or NULL; all that follow are read too, so that a damaged one is found. */
static X509 *parse_certs(const char *text)
{
    BIO *bio = text_bio(text);
    X509 *first = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    X509 *next = NULL;

    while (first && (next = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        X509_free(next);
    if (first && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        X509_free(first);
        first = NULL;
    }
    ERR_clear_error();
    BIO_free(bio);
    return first;
}

static int load_certs(const char *path, char **ret_text, X509 **ret_cert, struct ap_error *err)
{
    char *text = NULL;
    int rc = read_text(path, &text, err);

    if (!text)
        return rc;
    X509 *cert = parse_certs(text);
    if (!cert) {
        free(text);
        return ap_error_set(err, -EINVAL, "%s holds no certificate in PEM form, or a damaged one", path);
    }
    *ret_text = text;
    if (ret_cert)
        *ret_cert = cert;
    else
        X509_free(cert);
    return 0;
}

static int load_key(const char *path, const char *cert_path, X509 *cert, char **ret_text, struct ap_error *err)
{
    char *text = NULL, no_password[] = "";
    int rc = read_text(path, &text, err);

    if (!text)
        return rc;
    BIO *bio = text_bio(text);
    /* With a password given, nobody is asked for one at the terminal. */
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, no_password) : NULL;
    if (!key && strstr(text, "ENCRYPTED"))
        rc = ap_error_set(err, -EINVAL, "%s is encrypted; write it without a password: openssl pkey -in %s -out FILE",
                          path, path);
    else if (!key)
        rc = ap_error_set(err, -EINVAL, "%s holds no private key in PEM form", path);
    else if (X509_check_private_key(cert, key) != 1)
        rc =
            ap_error_set(err, -EINVAL, "the key in %s does not belong to the first certificate in %s", path, cert_path);
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    if (rc == 0) {
        *ret_text = text;
    } else {
        explicit_bzero(text, strlen(text));
        free(text);
    }
    return rc;
}

int ap_rpc_pem_load(const struct ap_rpc_tls *files, struct ap_rpc_pem *ret_pem, struct ap_error *err)
{
    struct ap_rpc_pem pem = {0};
    X509 *cert = NULL;
    int rc = 0;

    if (files->cert && !files->key)
        return ap_error_set(err, -EINVAL, "the certificate %s needs its private key too", files->cert);
    if (files->key && !files->cert)
        return ap_error_set(err, -EINVAL, "the private key %s needs its certificate too", files->key);
    if (files->ca)
        rc = load_certs(files->ca, &pem.ca, NULL, err);
    if (rc == 0 && files->cert)
        rc = load_certs(files->cert, &pem.cert, &cert, err);
    if (rc == 0 && files->key)
        rc = load_key(files->key, files->cert, cert, &pem.key, err);
    X509_free(cert);
    if (rc < 0)
        ap_rpc_pem_done(&pem);
    else
        *ret_pem = pem;
    return rc;
}

void ap_rpc_pem_done(struct ap_rpc_pem *pem)
{
    if (pem->key)
        explicit_bzero(pem->key, strlen(pem->key));
    free(pem->ca);
    free(pem->cert);
    free(pem->key);
    *pem = (struct ap_rpc_pem){0};
}
