/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Copies rows of one profile into another. What was copied once is not looked up again: a graft is made for a pair of
 * profiles and used for as many rows as there are to copy. */
#ifndef APERTURE_MODEL_GRAFT_H
#define APERTURE_MODEL_GRAFT_H

#include "model/profile.h"

struct ap_graft {
    const struct ap_profile *from;         /* borrowed; may not grow meanwhile */
    struct ap_profile *to;                 /* borrowed */
    uint32_t *strings, *mappings, *frames; /* row there plus one, 0 = not copied yet */
    uint32_t string_cnt;
};

/* 0 or -ENOMEM. */
int ap_graft_init(struct ap_graft *graft, const struct ap_profile *from, struct ap_profile *to);
/* Accepts a zeroed struct. */
void ap_graft_done(struct ap_graft *graft);

/* Each finds or appends the equal row in `to`. 0, -EINVAL (no such row), -ENOSPC (a bound of `to`) or -ENOMEM. */
int ap_graft_string(struct ap_graft *graft, uint32_t string, uint32_t *ret_string);
int ap_graft_frame(struct ap_graft *graft, uint32_t frame, uint32_t *ret_frame);
int ap_graft_stack(struct ap_graft *graft, uint32_t stack, uint32_t *ret_stack);
int ap_graft_series(struct ap_graft *graft, uint32_t series, uint32_t *ret_series);

#endif
