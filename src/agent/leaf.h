/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Repairs the leaf part of user stacks: code without frame pointers (a C library, most often) hides its callers from a
 * walk along frame pointers; unwind information finds them on the copy of the stack's top that comes with a record. */
#ifndef APERTURE_AGENT_LEAF_H
#define APERTURE_AGENT_LEAF_H

#include "abi/record.h"
#include "agent/process.h"
#include "symbol/unwind.h"

#include <stdbool.h>
#include <stdint.h>

/* Addresses that the top of the stack can add to a user half. */
#define AP_LEAF_FRAMES_MAX (AP_USER_FRAMES_MAX + AP_STACK_WORDS_MAX)

/* Writes the user half of a checked record to `ret_addrs` (room for AP_LEAF_FRAMES_MAX), repaired as far as words and
 * unwind information allow, otherwise as it is. `cache` (NULL = none) goes with the modules of `processes`. *ret_cut:
 * callers further out are missing. Number of addresses. */
uint32_t ap_leaf_repair(struct ap_processes *processes, struct ap_process *process, struct ap_unwind_cache *cache,
                        const struct ap_record *record, uint64_t *ret_addrs, bool *ret_cut);

#endif
