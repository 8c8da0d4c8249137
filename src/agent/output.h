/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Result files: proved writable before the capture, written beside their name and moved into place, so that a
 * failure leaves nothing half-written. */
#ifndef APERTURE_AGENT_OUTPUT_H
#define APERTURE_AGENT_OUTPUT_H

#include "core/error.h"
#include "format/format.h"
#include "model/capture.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the profile of one kind goes when `path` was asked for in *format: the path itself for JSON and for standard
 * output; "NAME.KIND.svg" for "NAME.svg" when there are `several` kinds. A kind without stacks (`stacks` false) is
 * written as text, "NAME.KIND.txt", where *format would need them. 0, or -ENAMETOOLONG. `ret_path`: PATH_MAX bytes. */
int ap_output_path(const char *path, uint8_t kind, bool several, bool stacks, enum ap_format *format, char *ret_path);

/* Tries whether `path` could be written: a new file in its directory, or the pipe or device that it is. "-"
 * always is. 0 or negative errno with words. */
int ap_output_check(const char *path, struct ap_error *err);

/* Writes the capture's profile. 0 or negative errno with words; then `path` is as it was before. */
int ap_output_write(const char *path, enum ap_format format, struct ap_capture *capture, unsigned profile,
                    struct ap_error *err);

#endif
