/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Regular expressions of whoever asks: Perl's syntax (PCRE2), with bounds on what a pattern may cost. */
#ifndef APERTURE_QUERY_REGEX_H
#define APERTURE_QUERY_REGEX_H

#include "core/error.h"

#include <stdbool.h>

/* Steps and nesting of one match, and its memory (KiB). 100,000 steps take about 2 ms; an innocent pattern needs some
 * hundred on a long C++ name. */
#define AP_REGEX_STEPS_MAX 100000
#define AP_REGEX_DEPTH_MAX 1000
#define AP_REGEX_HEAP_KIB  1024
/* Time that one pattern may take over all texts of a question. */
#define AP_REGEX_BUDGET_NS 2000000000ULL

struct ap_regex; /* opaque */

/* `anchored`: at both ends, else found anywhere. NULL with words: -EINVAL (what is wrong, and where), -ENOMEM. One
 * thread at a time. */
struct ap_regex *ap_regex_new(const char *pattern, bool anchored, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_regex *ap_regex_free(struct ap_regex *regex);

/* 1 when it matches, 0 when not, -EINVAL (too expensive a pattern), -ENOMEM; with words. Bytes that are not UTF-8 match
 * nothing but do no harm. */
int ap_regex_match(struct ap_regex *regex, const char *text, struct ap_error *err);

#endif
