/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Codecs from a capture to bytes. All write to an ap_out and return its error state; none keeps anything. */
#ifndef APERTURE_FORMAT_FORMAT_H
#define APERTURE_FORMAT_FORMAT_H

#include "core/error.h"
#include "core/out.h"
#include "model/capture.h"
#include "model/tree.h"

enum ap_format {
    AP_FORMAT_SVG = 0,        /* .svg: self-contained interactive flamegraph */
    AP_FORMAT_JSON = 1,       /* .json: the document of DESIGN 7 */
    AP_FORMAT_COLLAPSED = 2,  /* .collapsed: "comm;outer;inner N" */
    AP_FORMAT_PPROF = 3,      /* .pb.gz: gzip'd profile.proto */
    AP_FORMAT_TEXT = 4,       /* .txt: tables and the account */
    AP_FORMAT_SPEEDSCOPE = 5, /* .speedscope.json */
};

/* Format by the file name's ending (case ignored); "-" (standard output) is collapsed text.
 * 0, or -EINVAL with the list of known endings. */
int ap_format_from_path(const char *path, enum ap_format *ret_format, struct ap_error *err);

/* The ending that names it, ".svg". Static. */
const char *ap_format_ending(enum ap_format format);

/* False when `format` has nothing to show of `profile`: the formats of stacks, for a profile of system calls that was
 * recorded without stacks. */
bool ap_format_supports(enum ap_format format, const struct ap_profile *profile);

/* Writes `capture` (one profile for all but JSON, which carries every profile) in `format` and flushes.
 * `profile` selects capture->profiles[profile]. 0 or negative errno of the sink, -ENOMEM. */
int ap_format_write(enum ap_format format, struct ap_capture *capture, unsigned profile, struct ap_out *out);

/* The codecs one by one; same results. */
int ap_svg_write(const struct ap_capture *capture, const struct ap_tree *tree, struct ap_out *out);
int ap_json_write(struct ap_capture *capture, struct ap_out *out);
int ap_collapsed_write(const struct ap_profile *profile, struct ap_out *out);
int ap_pprof_write(const struct ap_capture *capture, const struct ap_profile *profile, struct ap_out *out);
int ap_speedscope_write(const struct ap_capture *capture, const struct ap_profile *profile, struct ap_out *out);

/* The tables of locks or of system calls where the profile has them, then its functions. `rows`: how many rows each
 * table has at most, 0 = all. `colour`: ANSI colours (a terminal). 0, -ENOMEM or negative errno of the sink. */
int ap_text_write(const struct ap_capture *capture, const struct ap_profile *profile, unsigned rows, bool colour,
                  struct ap_out *out);
/* The closing account that follows a table on a terminal and ends the .txt format: expected = delivered + lost with
 * reasons for each profile, kinds that were left out, unresolved frames by module and what to do, and what the agent
 * cost. */
int ap_text_account(const struct ap_capture *capture, bool colour, struct ap_out *out);

#endif
