/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/probe.h"

#include "core/clock.h"
#include "rpc/tls.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes moved at a time. */
#define CHUNK_SZ 16384
/* How long a server may take to object to our certificate after it has shaken hands (TLS 1.3). */
#define OBJECTION_NS (300 * 1000000ULL)

/* What a client of HTTP/2 says first (RFC 9113, 3.4), with an empty SETTINGS frame (6.5), and that frame's header. */
#define PREFACE         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define FRAME_HEADER_SZ 9
#define FRAME_SETTINGS  4

struct probe {
    const struct ap_rpc_address *address;
    int fd;
    uint64_t end_ns;
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out; /* of ssl: bytes from and for the socket */
    bool asked;    /* the server asked for our certificate */
};

/* Waits for the socket. 0 or -ETIMEDOUT. */
static int wait_fd(const struct probe *probe, short events, uint64_t end_ns)
{
    struct pollfd pfd = {.fd = probe->fd, .events = events};
    uint64_t now = ap_clock_monotonic_ns();

    while (now < end_ns) {
        if (poll(&pfd, 1, (int)((end_ns - now) / 1000000) + 1) > 0)
            return 0;
        now = ap_clock_monotonic_ns();
    }
    return -ETIMEDOUT;
}

static int connect_to(struct probe *probe, const struct sockaddr *name, socklen_t len)
{
    int failed = 0;
    socklen_t failed_len = sizeof(failed);

    probe->fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe->fd < 0)
        return -errno;
    if (connect(probe->fd, name, len) == 0)
        return 0;
    int rc = -errno;
    if (rc == -EINPROGRESS)
        rc = wait_fd(probe, POLLOUT, probe->end_ns);
    if (rc == 0 && getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &failed, &failed_len) == 0)
        rc = -failed;
    if (rc < 0) {
        (void)close(probe->fd);
        probe->fd = -1;
    }
    return rc;
}

static int connect_words(int rc, const struct ap_rpc_address *address, struct ap_error *err)
{
    switch (-rc) {
    case ECONNREFUSED:
        return ap_error_set(err, rc, "connection refused; is aperture-aggregator running there?");
    case ENOENT:
        return ap_error_set(err, rc, "there is no such socket; is aperture-aggregator running?");
    case EACCES:
        return ap_error_set(err, rc, "permission denied%s", address->local ? " to use that socket" : "");
    case ETIMEDOUT:
        return ap_error_set(err, rc, "nobody answers; does a firewall stand between?");
    default:
        return ap_error_errno(err, rc, "connecting failed");
    }
}

static int connect_local(struct probe *probe)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    memcpy(name.sun_path, probe->address->path, strlen(probe->address->path) + 1);
    return connect_to(probe, (const struct sockaddr *)&name, sizeof(name));
}

static int open_socket(struct probe *probe, struct ap_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *infos = NULL;
    char port[8];
    int rc = -EADDRNOTAVAIL;

    if (probe->address->local) {
        rc = connect_local(probe);
        return rc < 0 ? connect_words(rc, probe->address, err) : 0;
    }
    (void)snprintf(port, sizeof(port), "%u", probe->address->port);
    int gai = getaddrinfo(probe->address->host, port, &hints, &infos);
    if (gai != 0)
        return ap_error_set(err, -EADDRNOTAVAIL, "the host \"%s\" cannot be found: %s", probe->address->host,
                            gai_strerror(gai));
    for (struct addrinfo *info = infos; info && rc < 0; info = info->ai_next)
        rc = connect_to(probe, info->ai_addr, info->ai_addrlen);
    freeaddrinfo(infos);
    return rc < 0 ? connect_words(rc, probe->address, err) : 0;
}

static void close_all(struct probe *probe)
{
    SSL_free(probe->ssl); /* with both BIOs */
    SSL_CTX_free(probe->ctx);
    if (probe->fd >= 0)
        (void)close(probe->fd);
    probe->ssl = NULL;
    probe->ctx = NULL;
    probe->fd = -1;
    ERR_clear_error();
}

/* Raw bytes. Writing never raises SIGPIPE. */
static int send_all(const struct probe *probe, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t cnt = send(probe->fd, data, len, MSG_NOSIGNAL);

        if (cnt < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (cnt < 0) {
            if (errno == EAGAIN && wait_fd(probe, POLLOUT, probe->end_ns) < 0)
                return -ETIMEDOUT;
            continue;
        }
        data += cnt;
        len -= (size_t)cnt;
    }
    return 0;
}

/* Bytes received, 0 at the end of the stream, or a negative errno. */
static ssize_t receive(const struct probe *probe, char *data, size_t len, uint64_t end_ns)
{
    for (;;) {
        ssize_t cnt = recv(probe->fd, data, len, 0);

        if (cnt >= 0)
            return cnt;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (errno == EAGAIN && wait_fd(probe, POLLIN, end_ns) < 0)
            return -ETIMEDOUT;
    }
}

/* TLS -------------------------------------------------------------------------------------------------------------- */

static int asked_cert(SSL *ssl, void *ctx)
{
    struct probe *probe = (struct probe *)ctx;

    (void)ssl;
    probe->asked = true;
    return 1; /* go on with what there is */
}

static int begin_tls(struct probe *probe, const struct ap_rpc_tls *tls)
{
    const struct ap_rpc_address *address = probe->address;

    ERR_clear_error();
    probe->ctx = SSL_CTX_new(TLS_client_method());
    if (!probe->ctx)
        return -ENOMEM;
    SSL_CTX_set_cert_cb(probe->ctx, asked_cert, probe);
    if (tls) {
        SSL_CTX_set_verify(probe->ctx, SSL_VERIFY_PEER, NULL);
        (void)SSL_CTX_load_verify_locations(probe->ctx, tls->ca ? tls->ca : AP_RPC_SYSTEM_CA, NULL);
        if (tls->cert && (SSL_CTX_use_certificate_chain_file(probe->ctx, tls->cert) != 1 ||
                          SSL_CTX_use_PrivateKey_file(probe->ctx, tls->key, SSL_FILETYPE_PEM) != 1))
            return -EINVAL;
    }
    probe->ssl = SSL_new(probe->ctx);
    probe->in = BIO_new(BIO_s_mem());
    probe->out = BIO_new(BIO_s_mem());
    if (!probe->ssl || !probe->in || !probe->out) {
        BIO_free(probe->in);
        BIO_free(probe->out);
        return -ENOMEM;
    }
    SSL_set_bio(probe->ssl, probe->in, probe->out);
    SSL_set_connect_state(probe->ssl);
    (void)SSL_set_alpn_protos(probe->ssl, (const unsigned char *)"\2h2", 3);
    if (address->literal) {
        (void)X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(probe->ssl), address->host);
    } else {
        (void)SSL_ctrl(probe->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                       (char *)(uintptr_t)address->host);
        (void)SSL_set1_host(probe->ssl, address->host);
    }
    return 0;
}

/* Sends what TLS wants to send, and hands it what comes. 0, -EPIPE at the end of the stream, or another errno. */
static int pump(struct probe *probe, uint64_t end_ns)
{
    char chunk[CHUNK_SZ];
    int cnt;

    while ((cnt = BIO_read(probe->out, chunk, sizeof(chunk))) > 0) {
        int rc = send_all(probe, chunk, (size_t)cnt);
        if (rc < 0)
            return rc;
    }
    ssize_t got = receive(probe, chunk, sizeof(chunk), end_ns);
    if (got > 0)
        (void)BIO_write(probe->in, chunk, (int)got);
    return got > 0 ? 0 : got == 0 ? -EPIPE : (int)got;
}

/* Shakes hands; when `read_some`, goes on until the server says something in it. 0, -EPROTO (TLS itself failed: the
 * reason is in OpenSSL's queue) or what pump() says. */
static int speak_tls(struct probe *probe, bool read_some, uint64_t end_ns)
{
    char byte;

    for (;;) {
        int done = SSL_is_init_finished(probe->ssl) && read_some ? SSL_read(probe->ssl, &byte, 1)
                                                                 : SSL_do_handshake(probe->ssl);
        if (done > 0 && (!read_some || SSL_in_init(probe->ssl) == 0)) {
            char chunk[CHUNK_SZ];
            int cnt = BIO_read(probe->out, chunk, sizeof(chunk)); /* the last flight */

            return cnt > 0 ? send_all(probe, chunk, (size_t)cnt) : 0;
        }
        if (done <= 0 && SSL_get_error(probe->ssl, done) != SSL_ERROR_WANT_READ)
            return -EPROTO;
        int rc = pump(probe, end_ns);
        if (rc < 0)
            return rc;
    }
}

static int verify_words(struct probe *probe, long verify, const struct ap_rpc_tls *tls, struct ap_error *err)
{
    if (verify == X509_V_ERR_HOSTNAME_MISMATCH || verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
        return ap_error_set(err, -EPROTO, "the server's certificate is not for \"%s\"", probe->address->host);
    return ap_error_set(err, -EPROTO, "the server's certificate is not trusted (%s); authorities are taken from %s",
                        X509_verify_cert_error_string(verify), tls->ca ? tls->ca : AP_RPC_SYSTEM_CA);
}

/* Alerts that are about our own certificate (RFC 8446, 6.2). */
static bool objects_to_us(int reason)
{
    return reason == SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED || reason == SSL_R_TLSV1_ALERT_UNKNOWN_CA ||
           reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE || reason == SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN ||
           reason == SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED || reason == SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE;
}

static int cert_words(const struct ap_rpc_tls *tls, const char *reason, struct ap_error *err)
{
    if (!tls->cert)
        return ap_error_set(err, -EPROTO, "the server wants a certificate of the client (mutual TLS)");
    return ap_error_set(err, -EPROTO, "the server does not accept the certificate %s (%s)", tls->cert, reason);
}

static int tls_words(struct probe *probe, int rc, const struct ap_rpc_tls *tls, struct ap_error *err)
{
    unsigned long code = ERR_peek_error();
    long verify = SSL_get_verify_result(probe->ssl);
    int reason = ERR_GET_REASON(code);

    if (rc == -EPROTO && verify != X509_V_OK)
        return verify_words(probe, verify, tls, err);
    if (rc == -EPROTO && objects_to_us(reason))
        return cert_words(tls, ERR_reason_error_string(code), err);
    if (rc == -EPROTO && (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
                          reason == SSL_R_PACKET_LENGTH_TOO_LONG || reason == SSL_R_RECORD_TOO_SMALL))
        return ap_error_set(err, -EPROTO, "the server does not speak TLS; try http:// in place of https://");
    if (rc == -EPROTO)
        return ap_error_set(err, -EPROTO, "TLS failed: %s", code ? ERR_reason_error_string(code) : "unknown reason");
    if (rc == -EPIPE || rc == -ECONNRESET)
        return ap_error_set(err, -EPROTO,
                            "the server hangs up when it is spoken to in TLS; try http:// in place of "
                            "https://");
    if (rc == -ETIMEDOUT)
        return ap_error_set(err, rc, "the server does not answer in TLS; try http:// in place of https://");
    return ap_error_errno(err, rc, "TLS failed");
}

static int probe_tls(struct probe *probe, const struct ap_rpc_tls *tls, struct ap_error *err)
{
    int rc = begin_tls(probe, tls);

    if (rc < 0)
        return ap_error_errno(err, rc, "TLS cannot begin");
    rc = speak_tls(probe, false, probe->end_ns);
    if (rc < 0)
        return tls_words(probe, rc, tls, err);
    /* In TLS 1.3 the server looks at our certificate last. */
    uint64_t end = ap_clock_monotonic_ns() + OBJECTION_NS;
    rc = speak_tls(probe, true, end < probe->end_ns ? end : probe->end_ns);
    if (rc == -EPROTO && objects_to_us(ERR_GET_REASON(ERR_peek_error())))
        return tls_words(probe, rc, tls, err);
    /* Servers on gRPC hang up without a word. */
    if ((rc == -EPIPE || rc == -ECONNRESET) && probe->asked)
        return cert_words(tls, "it hangs up", err);
    return 0;
}

/* Plain text ------------------------------------------------------------------------------------------------------- */

/* Whether a TLS handshake gets an answer in TLS, be it a refusal. Opens a connection of its own. */
static bool answers_tls(const struct ap_rpc_address *address, uint64_t end_ns)
{
    struct probe probe = {.address = address, .fd = -1, .end_ns = end_ns};
    bool tls = false;

    if (open_socket(&probe, NULL) == 0 && begin_tls(&probe, NULL) == 0) {
        int rc = speak_tls(&probe, false, end_ns);
        int reason = ERR_GET_REASON(ERR_peek_error());

        /* Reasons past 1000 are alerts that came from the other side. */
        tls = rc == 0 || (rc == -EPROTO && reason > SSL_AD_REASON_OFFSET);
    }
    close_all(&probe);
    return tls;
}

static int probe_plain(struct probe *probe, struct ap_error *err)
{
    char answer[FRAME_HEADER_SZ];
    size_t len = 0;
    ssize_t cnt = send_all(probe, PREFACE, sizeof(PREFACE) - 1);

    while (cnt >= 0 && len < sizeof(answer)) {
        cnt = receive(probe, answer + len, sizeof(answer) - len, probe->end_ns);
        if (cnt <= 0)
            break;
        len += (size_t)cnt;
    }
    if (len == sizeof(answer) && answer[3] == FRAME_SETTINGS && answer[0] == 0)
        return 0;
    if (len >= 5 && memcmp(answer, "HTTP/", 5) == 0)
        return ap_error_set(err, -EPROTO, "a server of HTTP/1 answers, not one of gRPC; is it another port?");
    if (!probe->address->local && answers_tls(probe->address, ap_clock_monotonic_ns() + AP_RPC_PROBE_NS / 2))
        return ap_error_set(err, -EPROTO, "the server speaks TLS; try https:// in place of http://");
    if (len > 0)
        return ap_error_set(err, -EPROTO, "somebody answers, but not in gRPC; is it another port?");
    if (cnt == -ETIMEDOUT)
        return ap_error_set(err, -ETIMEDOUT, "the connection is taken, but nobody says anything there");
    return ap_error_set(err, -ECONNRESET, "the server hangs up at once");
}

int ap_rpc_probe(const struct ap_rpc_address *address, const struct ap_rpc_tls *tls, struct ap_error *err)
{
    struct probe probe = {.address = address, .fd = -1, .end_ns = ap_clock_monotonic_ns() + AP_RPC_PROBE_NS};
    int rc = open_socket(&probe, err);

    if (rc == 0)
        rc = address->tls ? probe_tls(&probe, tls, err) : probe_plain(&probe, err);
    close_all(&probe);
    return rc;
}

bool ap_rpc_probe_loopback(const char *literal, uint16_t port)
{
    struct ap_rpc_address address = {.port = port, .literal = true};
    struct probe probe = {.address = &address, .fd = -1, .end_ns = ap_clock_monotonic_ns() + AP_RPC_PROBE_NS};

    (void)snprintf(address.host, sizeof(address.host), "%s", literal);
    int rc = open_socket(&probe, NULL);
    close_all(&probe);
    return rc == 0;
}
