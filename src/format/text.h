/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the text codec: what its tables share. */
#ifndef APERTURE_FORMAT_TEXT_H
#define APERTURE_FORMAT_TEXT_H

#include "core/parse.h"
#include "format/format.h"
#include "model/histogram.h"

/* Terminal sequences, all empty without colour. */
struct ap_text_style {
    bool colour;
    const char *bold, *dim, *good, *bad, *reset;
};

struct ap_text_style ap_text_style(bool colour);

double ap_text_percent(uint64_t part, uint64_t whole);

/* Characters of `str` as ap_text_name() writes it. */
size_t ap_text_width(const char *str);

/* Writes a name that may hold anything, at most `max` characters of it (at least 4), and blanks up to `pad`
 * characters. What could steer a terminal becomes '?'. */
void ap_text_name(struct ap_out *out, const char *str, size_t max, size_t pad);

/* The file name of a path; "//anon" is no path. */
const char *ap_text_base_name(const char *path);

/* "3.20 ms", or "-" for 0. `buf`: AP_FORMAT_SZ bytes. Returns `buf`. */
char *ap_text_duration(char *buf, uint64_t ns);

/* A latency histogram as bcc's tools draw it: a row for each power of two. */
void ap_text_histogram(const struct ap_histogram *histogram, struct ap_out *out);

/* The tables of a profile of locks: at most `rows` locks of either sort, 0 = all. */
void ap_text_locks(const struct ap_profile *profile, unsigned rows, const struct ap_text_style *style,
                   struct ap_out *out);

/* The tables of a profile of system calls, likewise. 0 or -ENOMEM. */
int ap_text_syscalls(const struct ap_profile *profile, unsigned rows, const struct ap_text_style *style,
                     struct ap_out *out);

#endif
