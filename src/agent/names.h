/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Names of places in modules, asked for while the recording goes on or at its end, and kept: what one kind of recording
 * has asked for no other one asks for again, and a file can be let go once its places have names. */
#ifndef APERTURE_AGENT_NAMES_H
#define APERTURE_AGENT_NAMES_H

#include "agent/modules.h"
#include "symbol/symbolizer.h"

#include <stddef.h>
#include <stdint.h>

/* Bounds: places known or waited for, functions at them with what is inlined, and bytes of their texts. What does not
 * fit has no name (reason "budget") and is counted. */
#define AP_NAMES_MAX         (4u << 20)
#define AP_NAMES_FRAMES_MAX  (8u << 20)
#define AP_NAMES_TEXT_SZ_MAX (256u << 20)

/* Places from which on those that nobody has looked up for so many spans are forgotten (ap_names_next). */
#define AP_NAMES_KEEP       (128u << 10)
#define AP_NAMES_IDLE_SPANS 120

/* Requests about one module that may fail in a row; after that it is not asked about any more. */
#define AP_NAMES_TRIES 2

enum ap_name_kind {
    AP_NAME_CODE = 0,     /* offsets as collect.h has them */
    AP_NAME_VARIABLE = 1, /* addresses as the file numbers them */
    AP_NAME_KIND_CNT = 2,
};

struct ap_names; /* opaque; not thread-safe */

/* What is known of a place. */
struct ap_names_answer {
    const struct ap_symbol_frame *frames; /* innermost first; valid until the next call with the same table */
    size_t cnt;
    uint8_t reason; /* enum ap_unresolved_reason: why there are no frames; 0 when there are */
};

/* Both are borrowed and must outlive the table. NULL when out of memory. */
struct ap_names *ap_names_new(struct ap_modules *modules, struct ap_symbolizer *symbolizer);
/* Drops what is under way. Accepts NULL. Returns NULL. */
struct ap_names *ap_names_free(struct ap_names *names);

/* Puts a place on the list of those to be asked about, unless it is known or on the list. What needs no asking (memory
 * without a file, files that cannot be read) is not listed. Never fails: see the bounds. */
void ap_names_want(struct ap_names *names, enum ap_name_kind kind, uint32_t module, uint64_t offset);

/* Takes in what the symbolizer has answered and asks on, without blocking. Call it after ap_names_want, when
 * ap_symbolizer_fd is readable, and every now and then for requests that take too long. `now_ns`: CLOCK_MONOTONIC. */
void ap_names_pump(struct ap_names *names, uint64_t now_ns);

/* Blocks until everything on the list has been answered; AP_SYMBOL_TIMEOUT_NS bound each request. */
void ap_names_settle(struct ap_names *names);

/* Places of a module on the list or under way. */
size_t ap_names_pending(const struct ap_names *names, uint32_t module);

/* What is known of a place. 0, or -EAGAIN while it is waited for: also a place that was never wanted or is forgotten,
 * which is put on the list. One past the bounds has reason "budget"; one of a module that has names of no kind, that
 * module's reason. JIT modules are answered from their perf map, read now if it was not before. */
int ap_names_find(struct ap_names *names, enum ap_name_kind kind, uint32_t module, uint64_t offset,
                  struct ap_names_answer *ret_answer);

/* A span of a recording that is sent on has ended. Forgets idle places when there are many. */
void ap_names_next(struct ap_names *names);

/* Places, and calls of ap_names_want or answers that a bound or the lack of memory turned away. */
size_t ap_names_cnt(const struct ap_names *names);
uint64_t ap_names_refused(const struct ap_names *names);

#endif
