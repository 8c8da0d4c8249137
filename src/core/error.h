/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Errors: a negative errno travels as the return value, the words travel beside it in a struct ap_error. */
#ifndef APERTURE_CORE_ERROR_H
#define APERTURE_CORE_ERROR_H

/* Longest message, in bytes with its terminator; longer ones are cut. Fits two paths of PATH_MAX/4 and a hint. */
#define AP_ERROR_TEXT_SZ 2048

struct ap_error {
    int code;                    /* negative errno, 0 while nothing failed */
    char text[AP_ERROR_TEXT_SZ]; /* what failed and what to do about it */
};

/* Records a failure. `err` may be NULL (then only the code is passed on); `code` is a negative errno.
 * Overwrites what was recorded before. Returns `code`, so that callers write `return ap_error_set(...)`. */
int ap_error_set(struct ap_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like ap_error_set, with ": " and the system's text for `code` appended. */
int ap_error_errno(struct ap_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "words: " before the text recorded so far. Does nothing on NULL. Returns the recorded code. */
int ap_error_prefix(struct ap_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
