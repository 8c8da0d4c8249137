/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Rows of answers from a profile that is complete. All: 0, -E2BIG (a bound) or -ENOMEM, with words; rows are the
 * answer's. Provenance is left alone. */
#ifndef APERTURE_QUERY_ANSWERS_H
#define APERTURE_QUERY_ANSWERS_H

#include "core/error.h"
#include "model/answer.h"
#include "model/profile.h"
#include "query/gather.h"

#include <stddef.h>

/* Function names in all rows of one answer with stacks. */
#define AP_ANSWER_NAMES_MAX (4u << 20)

int ap_answer_functions(const struct ap_profile *profile, size_t limit, struct ap_functions_answer *ret_answer,
                        struct ap_error *err);
/* Stacks that differ in nothing but lines and addresses are one row. */
int ap_answer_stacks(const struct ap_profile *profile, size_t limit, struct ap_stacks_answer *ret_answer,
                     struct ap_error *err);
/* The profile's table; nothing when it has none. */
int ap_answer_locks(const struct ap_profile *profile, size_t limit, struct ap_lock_answer_row **ret_rows,
                    size_t *ret_cnt, struct ap_error *err);
int ap_answer_syscalls(const struct ap_profile *profile, size_t limit, struct ap_syscall_answer_row **ret_rows,
                       size_t *ret_cnt, struct ap_error *err);

/* Leaves out of the profile's tables what does not fit the filter: locks by the functions that waited for them or ended
 * the wait, system calls by their name. */
int ap_answer_filter_tables(struct ap_profile *profile, struct ap_filter *filter, struct ap_error *err);

#endif
