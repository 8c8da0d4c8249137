/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Names of variables by address: which global or static object of a file holds a lock. */
#ifndef APERTURE_SYMBOL_VARIABLES_H
#define APERTURE_SYMBOL_VARIABLES_H

#include <stdint.h>

/* Most addresses of one call, most symbols looked at (per table), bytes of a name kept with its NUL, and bound against
 * files whose objects all overlap: how often in all an address may be found in an object. */
#define AP_VARIABLE_ADDRS_MAX   65536u
#define AP_VARIABLE_SYMBOLS_MAX (8u << 20)
#define AP_VARIABLE_NAME_SZ     256
#define AP_VARIABLE_HITS_MAX    (16u << 20)

struct ap_variable {
    char name[AP_VARIABLE_NAME_SZ]; /* as the linker knows it, without a version ("@..."); "" = not found; longer names
                                       are cut */
    uint64_t off;                   /* of the address in the object, bytes */
};

/* Finds the objects (not functions, not thread-local ones) at `cnt` addresses of the ELF file at `fd` (position
 * untouched), in .symtab, and what is not there in .dynsym. Addresses are the file's own: see ap_elf_bias(). Objects
 * of size 0 hold their own address only; where objects overlap, the smallest wins, then the more visible, then the
 * first. Returns the number found, with all `cnt` of ret_variables written; -ENOEXEC, -EBADMSG, -EOPNOTSUPP as
 * ap_elf_inspect(); -ENODATA: the file has no symbols; -EFBIG: past the bounds; -ENOMEM; or the read's negative errno.
 * Any thread. */
int ap_variables_find(int fd, const uint64_t *vaddrs, uint32_t cnt, struct ap_variable *ret_variables);

#endif
