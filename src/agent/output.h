/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Result files: proved writable before the capture, written beside their name and moved into place, so that a
 * failure leaves nothing half-written. */
#ifndef APERTURE_AGENT_OUTPUT_H
#define APERTURE_AGENT_OUTPUT_H

#include "core/error.h"
#include "format/format.h"
#include "model/capture.h"

/* Tries whether `path` could be written: a new file in its directory, or the pipe or device that it is. "-"
 * always is. 0 or negative errno with words. */
int ap_output_check(const char *path, struct ap_error *err);

/* Writes the capture's profile. 0 or negative errno with words; then `path` is as it was before. */
int ap_output_write(const char *path, enum ap_format format, struct ap_capture *capture, unsigned profile,
                    struct ap_error *err);

#endif
