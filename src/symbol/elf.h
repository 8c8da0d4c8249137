/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What we must know of an ELF file before anything else reads it. The file belongs to a profiled process:
 * nothing in it is believed, every offset is checked against the file's size. */
#ifndef APERTURE_SYMBOL_ELF_H
#define APERTURE_SYMBOL_ELF_H

#include "model/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ap_elf_info {
    uint8_t build_id[AP_BUILD_ID_MAX];
    uint8_t build_id_len; /* 0 = none */
    bool has_symbols;     /* a .symtab or .dynsym section with entries */
};

/* Most program or section headers looked at (PN_XNUM, elf.h: larger numbers mean an extension we refuse), and
 * the longest note segment read. */
#define AP_ELF_HEADERS_MAX 65535
#define AP_ELF_NOTE_SZ_MAX 65536

/* Checks the file at `fd` (position untouched) and fills in *ret_info. 0; -ENOEXEC when it is no ELF file at
 * all; -EBADMSG when it claims to be one but its tables lie outside the file; -EOPNOTSUPP for a byte order
 * that is not ours; or the read's negative errno. Any thread. */
int ap_elf_inspect(int fd, struct ap_elf_info *ret_info);

#endif
