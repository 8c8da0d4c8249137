/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: puts rows in order by numbers. */
#ifndef APERTURE_STORAGE_ORDER_H
#define APERTURE_STORAGE_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* A key that orders rows, and the row. */
struct ap_order {
    uint64_t key;
    uint32_t index;
};

/* Orders `items` by key, ascending; equal ones stay in their order. `scratch`: room for `cnt` more. */
void ap_order(struct ap_order *items, struct ap_order *scratch, size_t cnt);

#endif
