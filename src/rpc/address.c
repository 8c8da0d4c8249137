/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/address.h"

#include "core/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define UNIX_PREFIX  "unix:"
#define HTTP_PREFIX  "http://"
#define HTTPS_PREFIX "https://"

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int parse_path(const char *text, struct ap_rpc_address *address, struct ap_error *err)
{
    const char *path = text + strlen(UNIX_PREFIX);
    size_t len = strlen(path);

    if (len >= 3 && starts_with(path, "///")) /* unix:///path, as gRPC spells it too */
        path += 2, len -= 2;
    if (len == 0)
        return ap_error_set(err, -EINVAL, "%s: the path of a socket is missing: unix:/PATH", text);
    if (len >= sizeof(address->path))
        return ap_error_set(err, -EINVAL, "%s: the path of a socket has at most %zu bytes", text,
                            sizeof(address->path) - 1);
    memcpy(address->path, path, len + 1);
    address->local = true;
    return 0;
}

static void find_literal(struct ap_rpc_address *address)
{
    uint8_t bytes[16];

    if (inet_pton(AF_INET, address->host, bytes) == 1)
        address->literal = true;
    else if (inet_pton(AF_INET6, address->host, bytes) == 1)
        address->literal = address->ipv6 = true;
}

/* An address, or what names consist of. */
static bool valid_host(const struct ap_rpc_address *address)
{
    if (address->literal)
        return true;
    for (const char *at = address->host; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("-._", *at))
            return false;
    return address->host[0] != '\0';
}

/* HOST:PORT, [HOST]:PORT; without a port only when `port` says which one it is (not 0). `text` is for the words. */
static int parse_host(const char *text, const char *rest, size_t len, unsigned port, struct ap_rpc_address *address,
                      struct ap_error *err)
{
    const char *end = rest + len;
    const char *host = rest, *host_end = memchr(rest, ':', len), *port_at;
    bool brackets = len > 0 && *rest == '[';
    char digits[8] = "";
    uint64_t value = port;

    if (brackets) {
        host++;
        host_end = memchr(rest, ']', len);
        if (!host_end)
            return ap_error_set(err, -EINVAL, "%s: the bracket of the address is not closed", text);
        port_at = host_end + 1;
    } else {
        host_end = host_end ? host_end : end;
        port_at = host_end;
    }
    if ((size_t)(host_end - host) >= sizeof(address->host))
        return ap_error_set(err, -EINVAL, "%s: the name of the host is too long", text);
    memcpy(address->host, host, (size_t)(host_end - host));
    address->host[host_end - host] = '\0';

    if (port_at < end && (*port_at != ':' || (!brackets && memchr(port_at + 1, ':', (size_t)(end - port_at - 1)))))
        return ap_error_set(err, -EINVAL, "%s: not HOST:PORT (an IPv6 address stands in brackets: [::1]:%d)", text,
                            AP_RPC_PORT);
    if (port_at < end && (size_t)(end - port_at - 1) < sizeof(digits)) {
        memcpy(digits, port_at + 1, (size_t)(end - port_at - 1));
        if (ap_parse_u64(digits, &value, NULL) < 0)
            value = UINT64_MAX;
    } else if (port_at < end || port == 0) {
        value = UINT64_MAX;
    }
    if (value > UINT16_MAX)
        return ap_error_set(err, -EINVAL, "%s: a port is a number up to %d: HOST:PORT", text, UINT16_MAX);
    address->port = (uint16_t)value;
    find_literal(address);
    if (!valid_host(address) || brackets != address->ipv6)
        return ap_error_set(err, -EINVAL, "%s: \"%s\" is neither the name of a host nor an address", text,
                            address->host);
    return 0;
}

int ap_rpc_parse_listen(const char *text, struct ap_rpc_address *ret_address, struct ap_error *err)
{
    struct ap_rpc_address address = {0};
    int rc;

    if (starts_with(text, UNIX_PREFIX))
        rc = parse_path(text, &address, err);
    else
        rc = parse_host(text, text, strlen(text), 0, &address, err);
    if (rc == 0)
        *ret_address = address;
    return rc;
}

int ap_rpc_parse_endpoint(const char *text, struct ap_rpc_address *ret_address, struct ap_error *err)
{
    struct ap_rpc_address address = {0};
    const char *rest = NULL;
    int rc;

    if (starts_with(text, UNIX_PREFIX)) {
        rc = parse_path(text, &address, err);
    } else {
        if (starts_with(text, HTTP_PREFIX))
            rest = text + strlen(HTTP_PREFIX);
        else if (starts_with(text, HTTPS_PREFIX))
            rest = text + strlen(HTTPS_PREFIX), address.tls = true;
        if (!rest)
            return ap_error_set(err, -EINVAL, "%s: an endpoint begins with http://, https:// or unix:", text);
        size_t len = strcspn(rest, "/?#");
        if (rest[len] && strcmp(rest + len, "/") != 0)
            return ap_error_set(err, -EINVAL, "%s: an endpoint ends after HOST:PORT", text);
        rc = parse_host(text, rest, len, AP_RPC_PORT, &address, err);
        if (rc == 0 && address.port == 0)
            rc = ap_error_set(err, -EINVAL, "%s: port 0 cannot be connected to", text);
    }
    if (rc == 0)
        *ret_address = address;
    return rc;
}

void ap_rpc_target(const struct ap_rpc_address *address, char ret_target[AP_RPC_TARGET_SZ])
{
    if (!address->local) {
        const char *scheme = address->ipv6 ? "ipv6:" : address->literal ? "ipv4:" : "dns:///";

        (void)snprintf(ret_target, AP_RPC_TARGET_SZ, address->ipv6 ? "%s[%s]:%u" : "%s%s:%u", scheme, address->host,
                       address->port);
        return;
    }
    size_t len = strlen(UNIX_PREFIX);
    memcpy(ret_target, UNIX_PREFIX, len);
    for (const char *at = address->path; *at; at++) {
        unsigned char c = (unsigned char)*at;

        if (isalnum(c) || strchr("/-._~", c))
            ret_target[len++] = (char)c;
        else
            len += (size_t)snprintf(ret_target + len, 4, "%%%02X", c);
    }
    ret_target[len] = '\0';
}
