/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: identities of the stacks, frames or series that were stored today, so that they are not sent
 * again with every batch. Forgetting them costs an insert that changes nothing. Not thread-safe. */
#ifndef APERTURE_STORAGE_KNOWN_H
#define APERTURE_STORAGE_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most identities; past it all are forgotten. 64 MiB at most. */
#define AP_KNOWN_MAX (4u << 20)

struct ap_known {
    uint64_t *hashes; /* owned: open addressing, 0 = free */
    size_t cap, cnt;
    uint64_t forgotten; /* times that the bound emptied it */
};

void ap_known_done(struct ap_known *known);
/* Forgets all. */
void ap_known_reset(struct ap_known *known);
/* Adds it; true when it was not there. Without memory everything is new. */
bool ap_known_add(struct ap_known *known, uint64_t hash);

#endif
