/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the wire codecs: what the files of the batch codec share. */
#ifndef APERTURE_WIRE_BATCH_H
#define APERTURE_WIRE_BATCH_H

#include "core/error.h"
#include "model/capture.h"
#include "proto/aperture/v1/batch.pb-c.h"
#include "wire/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most memory that one batch takes as messages, beside its bytes and its tables. */
#define AP_BATCH_MESSAGES_SZ ((size_t)256 << 20)

/* Fill in the tables of a profile's locks and system calls. Failures are the arena's. */
void ap_batch_put_locks(struct ap_arena *arena, const struct ap_profile *profile, Aperture__V1__Profile *ret);
void ap_batch_put_syscalls(struct ap_arena *arena, const struct ap_profile *profile, Aperture__V1__Profile *ret);
/* NULL when the arena refuses. */
Aperture__V1__Account *ap_batch_put_account(struct ap_arena *arena, const struct ap_account *account);

/* What stands for each string of a message in the profile that is made from it. */
struct ap_batch_strings {
    const uint32_t *ids;
    size_t cnt;
};

/* Make the tables of a profile of that kind, whose rows are there. 0, -EINVAL, -E2BIG or -ENOMEM; with words. */
int ap_batch_get_locks(const Aperture__V1__Profile *from, const struct ap_batch_strings *strings,
                       struct ap_profile *profile, struct ap_error *err);
int ap_batch_get_syscalls(const Aperture__V1__Profile *from, const struct ap_batch_strings *strings,
                          struct ap_profile *profile, struct ap_error *err);
/* `from` may be NULL: all zero. 0 or -EINVAL. */
int ap_batch_get_account(const Aperture__V1__Account *from, struct ap_account *ret, struct ap_error *err);

#endif
