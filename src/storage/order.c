/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/order.h"

#include <string.h>

/* A byte at a time from the lowest; bytes that are the same everywhere cost nothing. */
void ap_order(struct ap_order *items, struct ap_order *scratch, size_t cnt)
{
    uint64_t differ = 0;
    struct ap_order *from = items, *to = scratch;

    for (size_t i = 1; i < cnt; i++)
        differ |= items[i].key ^ items[0].key;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t starts[256] = {0}, sum = 0;

        if ((differ >> shift & 0xff) == 0)
            continue;
        for (size_t i = 0; i < cnt; i++)
            starts[from[i].key >> shift & 0xff]++;
        for (unsigned b = 0; b < 256; b++) {
            size_t here = starts[b];

            starts[b] = sum;
            sum += here;
        }
        for (size_t i = 0; i < cnt; i++)
            to[starts[from[i].key >> shift & 0xff]++] = from[i];
        struct ap_order *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, cnt * sizeof(*items));
}
