/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/address.h"

#include "core/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Longest host: a DNS name. */
#define HOST_SZ 256

static enum ap_address_scope host_scope(const char *host)
{
    struct in6_addr six;
    struct in_addr four;

    if (!strcasecmp(host, "localhost"))
        return AP_ADDRESS_LOCAL;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127 ? AP_ADDRESS_LOCAL : AP_ADDRESS_NETWORK;
    if (inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six))
        return AP_ADDRESS_LOCAL;
    return AP_ADDRESS_NETWORK;
}

int ap_address_scope(const char *text, enum ap_address_scope *ret_scope, struct ap_error *err)
{
    const char *colon = strrchr(text, ':'), *host = text, *end = colon;
    char copy[HOST_SZ];
    uint64_t port;

    if (!strncmp(text, "unix:", 5) && text[5]) {
        *ret_scope = AP_ADDRESS_LOCAL;
        return 0;
    }
    if (colon && text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        host = text + 1;
        end = colon - 1;
    } else if (colon && memchr(text, ':', (size_t)(colon - text))) {
        return ap_error_set(err, -EINVAL, "\"%s\": write an IPv6 address in brackets, as [::1]:50051", text);
    }
    if (!colon || end == host || (size_t)(end - host) >= sizeof(copy) || ap_parse_u64(colon + 1, &port, NULL) ||
        port > 65535)
        return ap_error_set(err, -EINVAL, "\"%s\" is no address: write HOST:PORT, as 127.0.0.1:50051 or [::1]:50051",
                            text);
    memcpy(copy, host, (size_t)(end - host));
    copy[end - host] = '\0';
    *ret_scope = host_scope(copy);
    return 0;
}

const char *ap_address_with_port(const char *text, unsigned port, char *buf, size_t buf_sz)
{
    const char *colon = strrchr(text, ':');

    if (!strncmp(text, "unix:", 5) || !colon)
        snprintf(buf, buf_sz, "%s", text);
    else
        snprintf(buf, buf_sz, "%.*s:%u", (int)(colon - text), text, port);
    return buf;
}
