/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The kernel's own symbols, /proc/kallsyms: where a function lies, which variable holds an address. (Names of code on
 * stacks come from the symbolizer.) */
#ifndef APERTURE_SYMBOL_KALLSYMS_H
#define APERTURE_SYMBOL_KALLSYMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most symbols and bytes of names kept; what is past them is not found. */
#define AP_KALLSYMS_MAX      (2u << 20)
#define AP_KALLSYMS_NAMES_SZ (128u << 20)
/* An address farther behind the start of a variable than this is taken for memory that no variable names. */
#define AP_KALLSYMS_VARIABLE_SZ_MAX 65536

struct ap_kallsyms; /* opaque; read-only after it is made, any thread */

/* Reads the file at `path`, NULL for the kernel's own. 0 with *ret_kallsyms owned by the caller; -EPERM when all
 * addresses are hidden (kptr_restrict); -ENOMEM; or the read's negative errno. */
int ap_kallsyms_new(const char *path, struct ap_kallsyms **ret_kallsyms);
/* Accepts NULL. Returns NULL. */
struct ap_kallsyms *ap_kallsyms_free(struct ap_kallsyms *kallsyms);

/* Where the function of this name begins, and where the next symbol does. False when there is none. */
bool ap_kallsyms_function(const struct ap_kallsyms *kallsyms, const char *name, uint64_t *ret_start, uint64_t *ret_end);

/* Name of the variable that holds `addr`, with its offset there; NULL when none does. Valid as long as `kallsyms`. */
const char *ap_kallsyms_variable(const struct ap_kallsyms *kallsyms, uint64_t addr, uint64_t *ret_off);

#endif
