/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Unwinding without frame pointers, for the leaf part of a user stack: from the registers and a copy of the top of the
 * stack through functions that keep no frame pointer (Debian's glibc), by the rules in .eh_frame, up to the first
 * function that keeps one. x86-64 only; another architecture needs its registers in eh_frame.c, and a step here. */
#ifndef APERTURE_SYMBOL_UNWIND_H
#define APERTURE_SYMBOL_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds of what is read of one file; see also eh_frame.h. For scale: libLLVM-14, a library of 100 MiB, has 5 MiB of
 * .eh_frame, which become 0.9 million rows. */
#define AP_UNWIND_SECTION_SZ_MAX (64u << 20)
#define AP_UNWIND_ROWS_MAX       (8u << 20)

/* How to find a function's canonical frame address (CFA: where its caller's stack pointer is after the call). */
enum ap_unwind_cfa {
    AP_UNWIND_CFA_SP,    /* sp + cfa_off */
    AP_UNWIND_CFA_BP,    /* bp + cfa_off */
    AP_UNWIND_CFA_PLT,   /* sp + cfa_off, and 8 more from byte `plt_from` of each 16 bytes of code on */
    AP_UNWIND_CFA_FRAME, /* not told here, but bp points to a saved bp with the return address behind it */
};

enum ap_unwind_bp {
    AP_UNWIND_BP_SAME,    /* the caller's is still in the register */
    AP_UNWIND_BP_SAVED,   /* at CFA + bp_off */
    AP_UNWIND_BP_UNKNOWN, /* overwritten, or saved in a way that is not followed */
};

/* The return address is at CFA - 8 in all of them. */
struct ap_unwind_rule {
    enum ap_unwind_cfa cfa;
    enum ap_unwind_bp bp;
    int32_t cfa_off, bp_off; /* bytes */
    uint8_t plt_from;        /* 0-15 */
    bool outermost;          /* no caller: the rest says nothing */
};

struct ap_unwind_table; /* opaque: the rules of one file by address; read-only after it is made, any thread */

/* Reads the rules of the ELF file at `fd` (position untouched; not needed afterwards). What makes no sense or is not
 * supported there has no rule in the table. 0 with *ret_table owned by the caller; -ENOEXEC, -EBADMSG: no, or no sound
 * ELF file; -ENODATA: it has no rules; -EOPNOTSUPP: not x86-64; -EFBIG: past the bounds; -ENOMEM; or the read's
 * negative errno. */
int ap_unwind_table_new(int fd, struct ap_unwind_table **ret_table);

/* Accepts NULL. Returns NULL. */
struct ap_unwind_table *ap_unwind_table_free(struct ap_unwind_table *table);

/* Memory that the table holds, in bytes, and its rows. */
size_t ap_unwind_table_memory(const struct ap_unwind_table *table);
size_t ap_unwind_table_rows(const struct ap_unwind_table *table);

/* Rule for the instruction at offset `file_off` of the file. 0; -ENOENT when no function with rules is there; -ENOTSUP
 * when its rule is none of the above (signal frames, stack switches). */
int ap_unwind_find(const struct ap_unwind_table *table, uint64_t file_off, struct ap_unwind_rule *ret_rule);

/* Rules found lately, each in the one place that its table and offset have: the same code is met again and again.
 * All zero to begin with; not longer than the tables. */
#define AP_UNWIND_CACHE_RULES 1024 /* a power of two */
struct ap_unwind_cache {
    struct ap_unwind_cached {
        const struct ap_unwind_table *table;
        uint64_t file_off;
        struct ap_unwind_rule rule;
        int rc; /* of ap_unwind_find */
    } rules[AP_UNWIND_CACHE_RULES];
};

/* A thread when it was looked at. */
struct ap_unwind_leaf {
    uint64_t ip, sp, bp;
    const uint64_t *words; /* what lay at sp and above */
    uint32_t word_cnt;
    /* Where the walk should hand over: to the frame pointers at the first function that keeps one (0), at the one whose
     * frame is at this address, or as late as the words allow (UINT64_MAX), which also gets right what the frame
     * pointers would miss further out: the caller of a function without one that calls one with. */
    uint64_t until_bp;
    struct ap_unwind_cache *cache; /* NULL = none; of one thread at a time */
};

/* Table of the file that is mapped at a run-time address, and the address as an offset in that file; NULL when there
 * is none. */
typedef const struct ap_unwind_table *(*ap_unwind_lookup_fn)(void *ctx, uint64_t addr, uint64_t *ret_file_off);

/* Why the walk ended; "the function" is that of the last address written. */
enum ap_unwind_end {
    AP_UNWIND_AT_FRAME,  /* the function keeps a frame pointer: its frame is at `bp`, walk frame pointers from there */
    AP_UNWIND_EXHAUSTED, /* the function's return address lies outside the words */
    AP_UNWIND_NO_RULE,   /* there is no table for the function, no rule in it, or bp is needed and not known */
    AP_UNWIND_OUTERMOST, /* the function has no caller */
    AP_UNWIND_LIMIT,     /* no room for more addresses */
    AP_UNWIND_BROKEN,    /* rule and stack contradict each other */
};

struct ap_unwind_result {
    uint32_t cnt;    /* addresses written: ip, then return addresses from the inside out */
    uint64_t sp, bp; /* of the function of the last address */
    bool bp_known;   /* false: that function's bp was lost on the way; always true at AP_UNWIND_AT_FRAME */
    enum ap_unwind_end end;
};

/* Walks from the leaf outwards, into `ret_addrs` with room for `max`. Any thread, as far as `lookup` is. */
void ap_unwind_leaf(const struct ap_unwind_leaf *leaf, ap_unwind_lookup_fn lookup, void *ctx, uint64_t *ret_addrs,
                    uint32_t max, struct ap_unwind_result *ret_result);

#endif
