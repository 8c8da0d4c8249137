/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Certificates and keys, read from files and checked before gRPC sees them: what it says about bad ones helps nobody.
 */
#ifndef APERTURE_RPC_TLS_H
#define APERTURE_RPC_TLS_H

#include "core/error.h"
#include "rpc/rpc.h"

#include <stdbool.h>

/* Authorities that the system trusts (package ca-certificates). */
#define AP_RPC_SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

/* Largest file of certificates; the system's own has a quarter of a megabyte. */
#define AP_RPC_PEM_SZ (4u << 20)

/* Texts in PEM form, NULL where there was no file. */
struct ap_rpc_pem {
    char *ca, *cert, *key;
};

/* Reads and checks the files that are named: each can be read and holds what it should, certificate and key come
 * together and match. 0, or a negative errno with words that name the file: of open(2), -EINVAL, -EFBIG, -ENOMEM. */
int ap_rpc_pem_load(const struct ap_rpc_tls *files, struct ap_rpc_pem *ret_pem, struct ap_error *err);

/* Frees the texts and wipes the key. */
void ap_rpc_pem_done(struct ap_rpc_pem *pem);

#endif
