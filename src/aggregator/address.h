/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Addresses to listen on, as text: who can reach them, and with the port that the kernel chose. */
#ifndef APERTURE_AGGREGATOR_ADDRESS_H
#define APERTURE_AGGREGATOR_ADDRESS_H

#include "core/error.h"

#include <stddef.h>

enum ap_address_scope {
    AP_ADDRESS_LOCAL = 0,   /* this machine only: 127.0.0.0/8, [::1], localhost, unix:/path */
    AP_ADDRESS_NETWORK = 1, /* anything else */
};

/* Reads "HOST:PORT", "[HOST]:PORT" or "unix:/PATH". 0, or -EINVAL with words that say what is accepted. */
int ap_address_scope(const char *text, enum ap_address_scope *ret_scope, struct ap_error *err);

/* Writes the address with `port` in place of its own into `buf`; unix addresses stay as they are. Returns `buf`. */
const char *ap_address_with_port(const char *text, unsigned port, char *buf, size_t buf_sz);

#endif
