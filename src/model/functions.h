/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the model: numbers the functions behind a profile's frames, so that trees and tables compare one
 * u32. */
#ifndef APERTURE_MODEL_FUNCTIONS_H
#define APERTURE_MODEL_FUNCTIONS_H

#include "model/profile.h"

struct ap_functions {
    uint32_t *of_frame; /* frame index to function number */
    uint32_t *frame;    /* function number to one frame of it */
    uint32_t cnt;
};

/* Functions by (kind, name, module), and by the flags inlined and waker too when `by_flags`. 0 or -ENOMEM. */
int ap_functions_init(struct ap_functions *functions, const struct ap_profile *profile, bool by_flags);
/* Accepts a zeroed struct. */
void ap_functions_done(struct ap_functions *functions);

/* String id of the path of the frame's module, 0 = none. */
static inline uint32_t ap_functions_module(const struct ap_profile *profile, const struct ap_frame *frame)
{
    return profile->mappings[frame->mapping].path;
}

#endif
