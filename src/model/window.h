/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The times of a question that names none: the same for gRPC, REST and the command line. */
#ifndef APERTURE_MODEL_WINDOW_H
#define APERTURE_MODEL_WINDOW_H

#include "model/selector.h"

#include <stdint.h>

#define AP_WINDOW_NS      (3600ULL * 1000000000ULL) /* of sums: the newest hour */
#define AP_WINDOW_DIFF_NS (1800ULL * 1000000000ULL) /* of a comparison: the newest half hour with the one before */

/* Fills in what is missing of [from, to): the end is `now_ns`, the beginning an hour before the end. */
void ap_window_default(struct ap_selector *selector, uint64_t now_ns);

/* The same for a comparison: `after` ends at `now_ns` and is half an hour long, `before` is as long as `after` and ends
 * where that begins. Two selectors that differ in labels and name no times for `before` compare the same time. A kind
 * that one of them lacks is the other's. */
void ap_window_default_diff(struct ap_selector *before, struct ap_selector *after, uint64_t now_ns);

#endif
