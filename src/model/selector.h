/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What a question is about: kind, time, labels, functions. The same for gRPC, REST and the command line. */
#ifndef APERTURE_MODEL_SELECTOR_H
#define APERTURE_MODEL_SELECTOR_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AP_SELECTOR_MATCHERS_MAX 32
#define AP_SELECTOR_TEXT_SZ      1025 /* of a value, a function or a regular expression, with terminator */

/* Sent: values are explicit and never reused. */
enum ap_match_op {
    AP_MATCH_EQUAL = 0,
    AP_MATCH_NOT_EQUAL = 1,
    AP_MATCH_REGEX = 2, /* anchored at both ends */
    AP_MATCH_NOT_REGEX = 3,
};

struct ap_matcher {
    uint8_t op;  /* enum ap_match_op */
    char *label; /* owned: host, service, comm, pid, exe, container, agent, or a label of the agent's */
    char *value; /* owned; a label that a series lacks has the value "" */
};

struct ap_selector {
    uint8_t kind;            /* enum ap_event_kind; 0 = every kind, where an answer can hold several */
    uint64_t from_ns, to_ns; /* since the epoch, [from, to); to 0 = now */
    struct ap_matcher matchers[AP_SELECTOR_MATCHERS_MAX]; /* all must hold */
    size_t matcher_cnt;
    char *function;      /* owned; only stacks with a function whose name contains this; NULL = all */
    bool function_regex; /* it is a regular expression, found anywhere in the name */
};

/* Frees the contents. Accepts a zeroed struct. */
void ap_selector_done(struct ap_selector *selector);
/* 0 or -ENOMEM; `ret_to` is zeroed on failure. */
int ap_selector_copy(const struct ap_selector *from, struct ap_selector *ret_to);

/* Adds a matcher. 0, -EINVAL (label name), -E2BIG (too many, too long), -ENOMEM; with words. */
int ap_selector_match(struct ap_selector *selector, const char *label, uint8_t op, const char *value,
                      struct ap_error *err);
/* Adds matchers from text as Prometheus writes them, braces optional: host="a",comm!="x",service=~"web.*". Likewise,
 * -EINVAL with the place that is not understood. */
int ap_selector_parse(struct ap_selector *selector, const char *text, struct ap_error *err);
/* Sets the function filter. 0, -E2BIG, -ENOMEM; with words. */
int ap_selector_function(struct ap_selector *selector, const char *text, bool regex, struct ap_error *err);

/* "cpu", "offcpu" ... to enum ap_event_kind. 0 or -EINVAL with the names there are. */
int ap_selector_kind(const char *name, uint8_t *ret_kind, struct ap_error *err);

/* A moment as commands and REST write it: RFC 3339 ("2026-11-21T10:00:00Z", fractions, offsets), seconds since the
 * epoch (fractions allowed), a duration before `now_ns` ("15m", "2h ago"), or "now". 0, -EINVAL or -ERANGE; with words.
 */
int ap_selector_time(const char *text, uint64_t now_ns, uint64_t *ret_ns, struct ap_error *err);

#endif
