/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Turns a selector into what storage understands: regular expressions on labels become sets of values. */
#ifndef APERTURE_QUERY_SCOPE_H
#define APERTURE_QUERY_SCOPE_H

#include "core/error.h"
#include "model/selector.h"
#include "storage/storage.h"

/* Most values of a label that a regular expression is tried on; a set of those that fit is bound by AP_VALUE_SET_MAX.
 */
#define AP_SCOPE_VALUES_MAX (1u << 20)

struct ap_scope {
    struct ap_storage_scope scope; /* what storage is asked for; points into the members below and the selector */
    struct ap_value_set sets[2 * AP_SELECTOR_MATCHERS_MAX];
    const char **values[AP_SELECTOR_MATCHERS_MAX];   /* owned arrays behind sets */
    struct ap_texts texts[AP_SELECTOR_MATCHERS_MAX]; /* owned text behind values */
    size_t owned_cnt;
};

/* `selector` is borrowed and must outlive the scope, which may not be moved. to_ns 0 becomes now. 0, -EINVAL (an empty
 * range, a kind that does not exist, a regular expression that is wrong or too expensive), -E2BIG (too many values), or
 * what storage says; with words. Nothing is to be freed after a failure. */
int ap_scope_resolve(struct ap_storage *storage, const struct ap_selector *selector, struct ap_scope *ret_scope,
                     struct ap_error *err);
/* The same without labels: kind and time only. */
int ap_scope_plain(const struct ap_selector *selector, struct ap_storage_scope *ret_scope, struct ap_error *err);
/* Frees the contents. Accepts a zeroed struct. */
void ap_scope_done(struct ap_scope *scope);

#endif
