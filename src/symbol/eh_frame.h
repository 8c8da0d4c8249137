/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Compiles .eh_frame (System V ABI and Linux Standard Base, "Exception Frames"; DWARF 4, section 6.4) into rows by
 * address. For unwind.c. */
#ifndef APERTURE_SYMBOL_EH_FRAME_H
#define APERTURE_SYMBOL_EH_FRAME_H

#include "symbol/elf.h"

#include <stddef.h>
#include <stdint.h>

/* Bounds against hostile sections: states remembered at a time (compilers need one or two), functions, and steps of
 * interpretation (about one per byte in honest sections), at some nanoseconds each. */
#define AP_EH_STATES_MAX 16
#define AP_EH_FDES_MAX   (4u << 20)
#define AP_EH_WORK_MAX   (128u << 20)

struct ap_eh_section {
    const uint8_t *data;
    size_t sz;      /* at most UINT32_MAX */
    uint64_t vaddr; /* of data[0] */
};

enum ap_eh_kind {
    AP_EH_NONE = 0, /* no function */
    AP_EH_SP = 1,   /* AP_UNWIND_CFA_x */
    AP_EH_BP = 2,
    AP_EH_PLT = 3,
    AP_EH_FRAME = 4,
    AP_EH_OUTERMOST = 5,
    AP_EH_UNSUPPORTED = 6,
};

/* Holds for addresses from this row's to the next one's. Offsets are in words of 8 bytes. */
struct ap_eh_row {
    uint32_t addr; /* from the table's base */
    uint32_t kind : 3;
    uint32_t bp : 2; /* AP_UNWIND_BP_x */
    int32_t bp_words : 8;
    uint32_t cfa_words : 19;
};

struct ap_eh_rows {
    struct ap_eh_row *items; /* by address */
    size_t cnt, cap;
    uint64_t base;
};

/* An encoded pointer (DW_EH_PE_x) at data[*pos], which moves behind it. `base` is what DW_EH_PE_datarel counts from, 0
 * when there is nothing. 0; -EBADMSG at the end of the data, -EOPNOTSUPP for encodings that code addresses do not
 * have. */
int ap_eh_pointer(const struct ap_eh_section *section, size_t *pos, uint8_t encoding, uint64_t base,
                  uint64_t *ret_value);

/* Rows of all functions that lie in executable segments of `loads`; of functions that overlap, the first holds. 0 with
 * ret_rows->items owned by the caller (free()); -ENODATA when there are none; -EOPNOTSUPP for any machine (EM_x) but
 * x86-64; -EFBIG past the bounds; -ENOMEM. */
int ap_eh_compile(const struct ap_eh_section *section, const struct ap_elf_loads *loads, uint16_t machine,
                  struct ap_eh_rows *ret_rows);

#endif
