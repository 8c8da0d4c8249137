/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The line on a terminal that tells how a recording goes. */
#ifndef APERTURE_AGENT_PROGRESS_H
#define APERTURE_AGENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct ap_progress {
    bool on; /* standard error is a terminal and nobody asked for silence */
    uint64_t shown_ns;
};

void ap_progress_init(struct ap_progress *progress, bool quiet);

/* Redraws the line, at most five times a second. `duration_ns` 0 = open-ended. */
void ap_progress_update(struct ap_progress *progress, uint64_t now_ns, uint64_t elapsed_ns, uint64_t duration_ns,
                        uint64_t samples, uint64_t lost);

/* Replaces the line by what is being done now. */
void ap_progress_note(const struct ap_progress *progress, const char *what);

/* Takes the line away. */
void ap_progress_clear(const struct ap_progress *progress);

#endif
