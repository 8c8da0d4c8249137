/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/known.h"

#include <stdlib.h>
#include <string.h>

void ap_known_done(struct ap_known *known)
{
    free(known->hashes);
    *known = (struct ap_known){0};
}

void ap_known_reset(struct ap_known *known)
{
    if (known->hashes != NULL)
        memset(known->hashes, 0, known->cap * sizeof(*known->hashes));
    known->cnt = 0;
}

/* Puts a hash that is not there. */
static void put(uint64_t *hashes, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);

    while (hashes[i] != 0)
        i = (i + 1) & (cap - 1);
    hashes[i] = hash;
}

static bool grow(struct ap_known *known)
{
    size_t cap = known->cap == 0 ? 1024 : known->cap * 2;
    uint64_t *hashes = calloc(cap, sizeof(*hashes));

    if (hashes == NULL)
        return false;
    for (size_t i = 0; i < known->cap; i++) {
        if (known->hashes[i] != 0)
            put(hashes, cap, known->hashes[i]);
    }
    free(known->hashes);
    known->hashes = hashes;
    known->cap = cap;
    return true;
}

bool ap_known_add(struct ap_known *known, uint64_t hash)
{
    if (hash == 0)
        return true;
    for (size_t i = hash & (known->cap - 1); known->cap > 0 && known->hashes[i] != 0; i = (i + 1) & (known->cap - 1)) {
        if (known->hashes[i] == hash)
            return false;
    }
    if (known->cnt == AP_KNOWN_MAX) {
        ap_known_reset(known);
        known->forgotten++;
    }
    if (known->cnt * 2 >= known->cap && !grow(known))
        return true;
    put(known->hashes, known->cap, hash);
    known->cnt++;
    return true;
}
