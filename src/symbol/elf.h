/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What we must know of an ELF file before anything else reads it, and its tables for those who read them themselves.
 * The file belongs to a profiled process: nothing in it is believed, every offset is checked against the file's size,
 * and it may be cut or rewritten at any moment: reads copy, nothing is mapped. */
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

/* Most program or section headers looked at (PN_XNUM, elf.h: larger numbers mean an extension we refuse), the
 * longest note segment read, and the most PT_LOAD segments kept (linkers make 2 to 6). */
#define AP_ELF_HEADERS_MAX 65535
#define AP_ELF_NOTE_SZ_MAX 65536
#define AP_ELF_LOADS_MAX   64

/* Checks the file at `fd` (position untouched) and fills in *ret_info. 0; -ENOEXEC when it is no ELF file at
 * all; -EBADMSG when it claims to be one but its tables lie outside the file; -EOPNOTSUPP for a byte order
 * that is not ours; or the read's negative errno. Any thread. */
int ap_elf_inspect(int fd, struct ap_elf_info *ret_info);

/* An ELF file that is being read; the same for both classes. The tables lie inside the file, or did. */
struct ap_elf {
    int fd; /* borrowed */
    uint64_t sz;
    uint64_t ph_off, sh_off;
    uint32_t ph_cnt, sh_cnt;
    uint32_t names;         /* index of the section with the sections' names */
    uint16_t type, machine; /* ET_x, EM_x */
    bool is64;
};

struct ap_elf_segment {
    uint32_t type, flags; /* PT_x, PF_x */
    uint64_t off, vaddr, file_sz, mem_sz;
};

struct ap_elf_section {
    uint32_t name, type, link; /* `name` is an offset in the names' section; SHT_x */
    uint64_t flags, addr, off, sz;
};

/* Headers read together, for walks by index; starts zeroed, one for each table. */
struct ap_elf_block {
    bool valid;
    uint32_t first; /* index of the first one in `data` */
    char data[4096];
};

/* Reads `len` bytes at `off`. 0; -EBADMSG when the file ends before; or the read's negative errno. Any thread. */
int ap_elf_read(int fd, void *ret_data, size_t len, uint64_t off);

/* Reads the header of the file at `fd`, which must stay open meanwhile. Errors as ap_elf_inspect(). Any thread. */
int ap_elf_begin(int fd, struct ap_elf *ret_elf);

/* Program header `i` (< ph_cnt) and section header `i` (< sh_cnt). What they name may lie outside the file, see
 * ap_elf_inside(). 0, or ap_elf_read()'s errors. */
int ap_elf_segment(const struct ap_elf *elf, struct ap_elf_block *block, uint32_t i,
                   struct ap_elf_segment *ret_segment);
int ap_elf_section(const struct ap_elf *elf, struct ap_elf_block *block, uint32_t i,
                   struct ap_elf_section *ret_section);

/* Whether [off, off + len) lies inside the file. */
bool ap_elf_inside(const struct ap_elf *elf, uint64_t off, uint64_t len);

/* A part of the file that is mapped when it runs. */
struct ap_elf_load {
    uint64_t vaddr, off;      /* where it lies in the program, and in the file */
    uint64_t file_sz, mem_sz; /* bytes; what is past file_sz is zero (.bss) */
    uint32_t flags;           /* PF_R, PF_W, PF_X */
};

struct ap_elf_loads {
    uint32_t cnt;
    struct ap_elf_load items[AP_ELF_LOADS_MAX];
};

/* PT_LOAD segments in the order of the file, each checked: inside the file, and no address wraps. 0; -EFBIG for more
 * than AP_ELF_LOADS_MAX; otherwise as ap_elf_inspect(). ap_elf_loads_of() continues from ap_elf_begin(). Any thread. */
int ap_elf_loads(int fd, struct ap_elf_loads *ret_loads);
int ap_elf_loads_of(const struct ap_elf *elf, struct ap_elf_loads *ret_loads);

/* How far a process moved the file: run-time address minus the file's own (modulo 2^64), told from one executable
 * mapping of it at `map_start` of the file from `map_off` on. 0, or -ENOENT when no segment would be mapped so. */
int ap_elf_bias(const struct ap_elf_loads *loads, uint64_t map_start, uint64_t map_off, uint64_t *ret_bias);

/* Whether the address (the file's own) lies in a segment, .bss included. */
bool ap_elf_covers(const struct ap_elf_loads *loads, uint64_t vaddr);

/* Address of the byte at file offset `off` in an executable segment. 0 or -ENOENT. */
int ap_elf_code_vaddr(const struct ap_elf_loads *loads, uint64_t off, uint64_t *ret_vaddr);

/* Where the bytes at `vaddr` lie in the file, and how many follow there up to the segment's end. 0 or -ENOENT. */
int ap_elf_file_off(const struct ap_elf_loads *loads, uint64_t vaddr, uint64_t *ret_off, uint64_t *ret_len);

#endif
