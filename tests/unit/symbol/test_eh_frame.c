/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/eh_frame.h"

#include "symbol/unwind.h"

#include "elf_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static int table_of(const struct image *image, struct ap_unwind_table **ret_table)
{
    int fd = image_fd(image->data, sizeof(image->data)), rc;

    rc = ap_unwind_table_new(fd, ret_table);
    assert_int_equal(lseek(fd, 0, SEEK_CUR), sizeof(image->data)); /* the position is the caller's */
    close(fd);
    return rc;
}

/* Table of one function of 64 bytes with the usual CIE and this program. */
static struct ap_unwind_table *program_table(const void *program, size_t len)
{
    struct ap_unwind_table *table = NULL;
    struct image image;

    image_begin(&image);
    image_fde(&image, image_usual_cie(&image), IMAGE_CODE, 64, program, len);
    assert_int_equal(table_of(&image, &table), 0);
    return table;
}

static void expect(const struct ap_unwind_table *table, uint32_t off, enum ap_unwind_cfa cfa, int32_t cfa_off,
                   enum ap_unwind_bp bp, int32_t bp_off)
{
    struct ap_unwind_rule rule;

    assert_int_equal(ap_unwind_find(table, IMAGE_CODE + off, &rule), 0);
    assert_false(rule.outermost);
    assert_int_equal(rule.cfa, cfa);
    assert_int_equal(rule.cfa_off, cfa_off);
    assert_int_equal(rule.bp, bp);
    assert_int_equal(rule.bp_off, bp_off);
}

static void expect_none(const struct ap_unwind_table *table, uint32_t off, int rc)
{
    struct ap_unwind_rule rule, untouched;

    memset(&rule, 0x5a, sizeof(rule));
    untouched = rule;
    assert_int_equal(ap_unwind_find(table, IMAGE_CODE + off, &rule), rc);
    assert_memory_equal(&rule, &untouched, sizeof(rule));
}

/* The rule behind a program that advances by 4 last, or -ENOTSUP. */
static void expect_program(const void *program, size_t len, int rc, enum ap_unwind_cfa cfa, int32_t cfa_off,
                           enum ap_unwind_bp bp, int32_t bp_off)
{
    struct ap_unwind_table *table = program_table(program, len);

    if (rc)
        expect_none(table, 32, rc);
    else
        expect(table, 32, cfa, cfa_off, bp, bp_off);
    expect_none(table, 64, -ENOENT);
    ap_unwind_table_free(table);
}

static void standard_function(void **state)
{
    /* push %rbp; mov %rsp,%rbp; ...; leave; ret */
    struct ap_unwind_table *table =
        program_table(BYTES(0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x40 | 0x20, 0x0c, 7, 8, 0xc6, 0x02, 3, 0x0e, 8));

    (void)state;
    expect(table, 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect(table, 1, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAVED, -16);
    expect(table, 3, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAVED, -16);
    expect(table, 4, AP_UNWIND_CFA_BP, 16, AP_UNWIND_BP_SAVED, -16);
    expect(table, 35, AP_UNWIND_CFA_BP, 16, AP_UNWIND_BP_SAVED, -16);
    expect(table, 36, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect(table, 63, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect_none(table, 64, -ENOENT);
    expect_none(table, (uint32_t)-1, -ENOENT);
    expect_none(table, IMAGE_SZ - IMAGE_CODE, -ENOENT);
    assert_int_equal(ap_unwind_table_rows(table), 5); /* what does not change the rule makes no row */
    assert_true(ap_unwind_table_memory(table) >= 5 * sizeof(struct ap_eh_row));
    assert_null(ap_unwind_table_free(table));
    assert_null(ap_unwind_table_free(NULL));
}

static void instructions(void **state)
{
    (void)state;
    /* advance_loc2, advance_loc4, args_size, nop */
    expect_program(BYTES(0x03, 4, 0, 0x04, 4, 0, 0, 0, 0x2e, 0x80, 1, 0, 0x0e, 24), 0, AP_UNWIND_CFA_SP, 24,
                   AP_UNWIND_BP_SAME, 0);
    /* set_loc: pcrel like all pointers; the program of the only FDE starts at IMAGE_EH + 0x18 + 17 */
    uint32_t here = IMAGE_EH + 0x18 + 17 + 1, there = IMAGE_CODE + 8 - here;
    uint8_t set_loc[] = {
        0x01, (uint8_t)there, (uint8_t)(there >> 8), (uint8_t)(there >> 16), (uint8_t)(there >> 24), 0x0e, 32};
    struct ap_unwind_table *table = program_table(set_loc, sizeof(set_loc));

    expect(table, 7, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect(table, 8, AP_UNWIND_CFA_SP, 32, AP_UNWIND_BP_SAME, 0);
    ap_unwind_table_free(table);
    /* def_cfa rbp 32; def_cfa_sf rsp -5 * -8; def_cfa_offset_sf */
    expect_program(BYTES(0x44, 0x0c, 6, 32), 0, AP_UNWIND_CFA_BP, 32, AP_UNWIND_BP_SAME, 0);
    expect_program(BYTES(0x44, 0x12, 7, 0x7b), 0, AP_UNWIND_CFA_SP, 40, AP_UNWIND_BP_SAME, 0);
    expect_program(BYTES(0x44, 0x13, 0x7a), 0, AP_UNWIND_CFA_SP, 48, AP_UNWIND_BP_SAME, 0);
    /* a number of 3 bytes: 80,000 */
    expect_program(BYTES(0x44, 0x0e, 0x80, 0xf1, 0x04), 0, AP_UNWIND_CFA_SP, 80000, AP_UNWIND_BP_SAME, 0);
    /* offset_extended, _sf and GNU_negative_offset_extended of rbp */
    expect_program(BYTES(0x44, 0x05, 6, 3), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAVED, -24);
    expect_program(BYTES(0x44, 0x11, 6, 4), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAVED, -32);
    expect_program(BYTES(0x44, 0x2f, 6, 4), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAVED, 32);
    /* saved, then restored in both ways, same_value, undefined */
    expect_program(BYTES(0x44, 0x86, 2, 0x44, 0xc6), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect_program(BYTES(0x44, 0x86, 2, 0x44, 0x06, 6), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect_program(BYTES(0x44, 0x86, 2, 0x44, 0x08, 6), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect_program(BYTES(0x44, 0x07, 6), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    /* register, val_offset, val_offset_sf, expression (rsp + 8), val_expression: rbp is elsewhere */
    expect_program(BYTES(0x44, 0x09, 6, 1), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    expect_program(BYTES(0x44, 0x14, 6, 1), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    expect_program(BYTES(0x44, 0x15, 6, 0x7f), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    expect_program(BYTES(0x44, 0x10, 6, 2, 0x77, 8), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    expect_program(BYTES(0x44, 0x16, 6, 2, 0x76, 0), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    /* the same of other registers is of no interest */
    expect_program(BYTES(0x44, 0x83, 2, 0x05, 14, 3, 0x09, 13, 1, 0x10, 12, 2, 0x77, 8, 0x07, 11, 0xcf), 0,
                   AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    /* rbp farther away than a row can say, or not aligned */
    expect_program(BYTES(0x44, 0x86, 0x81, 1), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    expect_program(BYTES(0x44, 0x86, 0x80, 1), 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAVED, -1024);
}

static void remembered_states(void **state)
{
    uint8_t deep[3 * AP_EH_STATES_MAX + 8];
    struct ap_unwind_table *table;
    size_t i, len = 0;

    (void)state;
    /* the state is all of it: CFA and registers */
    table = program_table(BYTES(0x44, 0x0a, 0x0c, 6, 24, 0x86, 2, 0x44, 0x0b, 0x44, 0x0e, 16));
    expect(table, 3, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect(table, 7, AP_UNWIND_CFA_BP, 24, AP_UNWIND_BP_SAVED, -16);
    expect(table, 11, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect(table, 12, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    ap_unwind_table_free(table);
    /* as many as can be, and one too many */
    deep[len++] = 0x44;
    for (i = 0; i < AP_EH_STATES_MAX; i++)
        deep[len++] = 0x0a;
    deep[len++] = 0x0e;
    deep[len++] = 16;
    expect_program(deep, len, 0, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    deep[len - 2] = 0x0a;
    deep[len - 1] = 0;
    expect_program(deep, len, -ENOTSUP, 0, 0, 0, 0);
    expect_program(BYTES(0x44, 0x0b), -ENOTSUP, 0, 0, 0, 0);
}

/* Rules there are, but none that a step can follow. */
static void unsupported_rules(void **state)
{
    struct ap_unwind_table *table;
    struct ap_unwind_rule rule;

    (void)state;
    expect_program(BYTES(0x44, 0x0c, 10, 0), -ENOTSUP, 0, 0, 0, 0);               /* CFA is r10 */
    expect_program(BYTES(0x44, 0x0f, 3, 0x77, 8, 0x06), -ENOTSUP, 0, 0, 0, 0);    /* CFA is *(rsp + 8) */
    expect_program(BYTES(0x44, 0x0e, 12), -ENOTSUP, 0, 0, 0, 0);                  /* not aligned */
    expect_program(BYTES(0x44, 0x0e, 0x80, 0x80, 0x80, 2), -ENOTSUP, 0, 0, 0, 0); /* 4 MiB */
    expect_program(BYTES(0x44, 0x0e, 0xf8, 0xff, 0xff, 1), 0, 0, 0x3ffff8, 0, 0); /* just less */
    expect_program(BYTES(0x44, 0x13, 1), -ENOTSUP, 0, 0, 0, 0);                   /* rsp - 8 */
    expect_program(BYTES(0x44, 0x90, 2), -ENOTSUP, 0, 0, 0, 0);                   /* return address at CFA - 16 */
    expect_program(BYTES(0x44, 0x09, 16, 5), -ENOTSUP, 0, 0, 0, 0);               /* in rdi */
    expect_program(BYTES(0x44, 0x09, 7, 8), -ENOTSUP, 0, 0, 0, 0);                /* rsp of another stack */
    expect_program(BYTES(0x44, 0x2d), -ENOTSUP, 0, 0, 0, 0);                      /* another machine's */
    expect_program(BYTES(0x44, 0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1), -ENOTSUP, 0, 0, 0,
                   0);                                                  /* 11 bytes for a number */
    expect_program(BYTES(0x44, 0x0f, 100, 0x77), -ENOTSUP, 0, 0, 0, 0); /* longer than the entry */
    expect_program(BYTES(0x44, 0x10, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), -ENOTSUP, 0, 0, 0, 0);
    expect_program(BYTES(0x44, 0x05, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), -ENOTSUP, 0, 0, 0, 0);
    /* past the end of the function: what is behind belongs to nobody */
    expect_program(BYTES(0x0e, 16, 0x04, 0xff, 0xff, 0xff, 0xff, 0x0e, 24), 0, 0, 16, 0, 0);
    /* the return address undefined: the first function of a thread */
    table = program_table(BYTES(0x07, 16));
    assert_int_equal(ap_unwind_find(table, IMAGE_CODE, &rule), 0);
    assert_true(rule.outermost);
    ap_unwind_table_free(table);
    /* a program that breaks is good up to there */
    table = program_table(BYTES(0x44, 0x0e, 16, 0x44, 0x0b));
    expect(table, 4, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    expect_none(table, 8, -ENOTSUP);
    expect_none(table, 63, -ENOTSUP);
    expect_none(table, 64, -ENOENT);
    ap_unwind_table_free(table);
}

static void expressions(void **state)
{
    struct ap_unwind_table *table;
    struct ap_unwind_rule rule;

    (void)state;
    /* the PLT's: rsp + 8 + ((rip & 15) >= 11) * 8 */
    table = program_table(BYTES(0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22));
    expect(table, 0, AP_UNWIND_CFA_PLT, 8, AP_UNWIND_BP_SAME, 0);
    assert_int_equal(ap_unwind_find(table, IMAGE_CODE, &rule), 0);
    assert_int_equal(rule.plt_from, 11);
    ap_unwind_table_free(table);
    /* nearly so */
    expect_program(BYTES(0x44, 0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x32, 0x24, 0x22), -ENOTSUP, 0, 0, 0,
                   0);
    expect_program(BYTES(0x44, 0x0f, 11, 0x77, 0x78, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22), -ENOTSUP, 0, 0,
                   0, 0);
    /* gcc's realigned stack: rbp at rbp, the CFA wherever; and after the epilogue's leave */
    table = program_table(BYTES(0x44, 0x10, 6, 2, 0x76, 0, 0x0f, 3, 0x76, 0x78, 0x06, 0x44, 0x0c, 7, 8));
    expect(table, 4, AP_UNWIND_CFA_FRAME, 0, AP_UNWIND_BP_UNKNOWN, 0);
    expect(table, 8, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_UNKNOWN, 0);
    ap_unwind_table_free(table);
}

/* Writes `value` as the address or length of an FDE in the given format. */
static size_t put_encoded(uint8_t *to, uint8_t format, uint64_t value)
{
    size_t len = 0;

    switch (format) {
    case 0x01: /* uleb128 */
    case 0x09: /* sleb128 */
        for (; len < 9; len++, value >>= 7)
            to[len] = (uint8_t)((value & 0x7f) | 0x80);
        to[len++] = (uint8_t)(value & (format == 0x01 ? 0x01 : 0x7f));
        return len;
    case 0x02:
    case 0x0a:
        len = 2;
        break;
    case 0x03:
    case 0x0b:
        len = 4;
        break;
    default:
        len = 8;
    }
    memcpy(to, &value, len);
    return len;
}

static void pointer_encodings(void **state)
{
    static const uint8_t formats[] = {0x00, 0x01, 0x03, 0x04, 0x09, 0x0b, 0x0c, 0x10, 0x11, 0x13, 0x14, 0x19,
                                      0x1a, 0x1b, 0x1c, 0x30, 0x3b, 0x40, 0x50, 0x80, 0x9b, 0x05, 0x0d, 0xff};
    size_t i, cie, start, len;

    (void)state;
    for (i = 0; i < sizeof(formats); i++) {
        uint8_t enc = formats[i], bytes[] = {1, 'z', 'R', 0, 1, 0x78, 16, 1, enc, 0x0c, 7, 8, 0x90, 1}, pointers[32];
        bool good = (enc & 0xf0) <= 0x10 && (enc & 0x0f) != 0x05 && (enc & 0x0f) != 0x0d;
        struct ap_unwind_table *table = NULL;
        struct image image;
        uint64_t value;

        image_begin(&image);
        cie = image_cie(&image, bytes, sizeof(bytes));
        start = image.pos;
        image_put32(&image, 0);
        image_put32(&image, (uint32_t)(image.pos - cie));
        value = IMAGE_VADDR + IMAGE_CODE - ((enc & 0xf0) == 0x10 ? IMAGE_VADDR + image.pos : 0);
        len = put_encoded(pointers, enc & 0x0f, value);
        len += put_encoded(pointers + len, enc & 0x0f, 64);
        image_put(&image, pointers, len);
        image_put(&image, BYTES(0, 0x0e, 16));
        image_end_entry(&image, start);
        assert_int_equal(table_of(&image, &table), good ? 0 : -ENODATA);
        if (good)
            expect(table, 0, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
        ap_unwind_table_free(table);
    }
}

static void expect_cie(const void *bytes, size_t len, int rc, bool has_rule)
{
    struct ap_unwind_table *table = NULL;
    struct image image;

    image_begin(&image);
    image_fde(&image, image_cie(&image, bytes, len), IMAGE_CODE, 64, "", 0);
    assert_int_equal(table_of(&image, &table), rc);
    if (!rc && has_rule)
        expect(table, 0, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    else if (!rc)
        expect_none(table, 0, -ENOTSUP);
    ap_unwind_table_free(table);
}

static void common_entries(void **state)
{
    (void)state;
    /* version 3; with a personality routine of any encoding, and data for it */
    expect_cie(BYTES(3, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), 0, true);
    expect_cie(BYTES(1, 'z', 'P', 'L', 'R', 0, 1, 0x78, 16, 7, 0x9b, 1, 2, 3, 4, 0x1b, 0x1b, 0x0c, 7, 8, 0x90, 1), 0,
               true);
    expect_cie(
        BYTES(1, 'z', 'P', 'L', 'R', 0, 1, 0x78, 16, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x1b, 0x1b, 0x0c, 7, 8, 0x90, 1), 0,
        true);
    /* signal frame */
    expect_cie(BYTES(1, 'z', 'R', 'S', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), 0, false);
    /* nothing known about the return address, or the CFA */
    expect_cie(BYTES(1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8), 0, false);
    expect_cie(BYTES(1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x90, 1), 0, false);
    /* other versions, augmentations and return address registers; a program that makes no sense */
    expect_cie(BYTES(2, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), -ENODATA, false);
    expect_cie(BYTES(1, 'e', 'h', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), -ENODATA, false);
    expect_cie(BYTES(1, 'z', 'X', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), -ENODATA, false);
    expect_cie(BYTES(1, 'z', 'R', 0, 1, 0x78, 30, 1, 0x1b, 0x0c, 7, 8, 0x90, 1), -ENODATA, false);
    expect_cie(BYTES(1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0x0b), -ENODATA, false);
    expect_cie(BYTES(1, 'z', 'R', 0, 1, 0x78, 16, 100, 0x1b, 0x0c, 7, 8, 0x90, 1), -ENODATA, false);
    expect_cie(BYTES(1, 'z', 'R', 'z', 'z', 'z', 'z', 'z'), -ENODATA, false);
}

/* Several CIEs; functions out of order, side by side, apart, on top of each other, and outside the code. */
static void several_functions(void **state)
{
    static const uint8_t deeper[] = {1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 40, 0x90, 1};
    struct ap_unwind_table *table = NULL;
    size_t usual, other;
    struct image image;

    (void)state;
    image_begin(&image);
    usual = image_usual_cie(&image);
    image_fde(&image, usual, IMAGE_CODE + 128, 64, BYTES(0x0e, 16));
    other = image_cie(&image, deeper, sizeof(deeper));
    image_fde(&image, other, IMAGE_CODE, 32, "", 0);
    image_fde(&image, usual, IMAGE_CODE + 32, 32, "", 0);
    image_fde(&image, usual, IMAGE_CODE + 130, 8, BYTES(0x0e, 24));      /* inside another */
    image_fde(&image, usual, IMAGE_CODE + 128, 96, BYTES(0x0e, 24));     /* the same start, but later */
    image_fde(&image, usual, IMAGE_SZ - 8, 16, BYTES(0x0e, 24));         /* sticks out of the segment */
    image_fde(&image, usual, 0u - IMAGE_VADDR - 16, 8, BYTES(0x0e, 24)); /* before it */
    image_fde(&image, usual, IMAGE_CODE + 256, 0, BYTES(0x0e, 24));      /* empty */
    image_fde(&image, usual, IMAGE_CODE + 512, UINT32_MAX, BYTES(0x0e, 24));
    image_fde(&image, IMAGE_EH + 4, IMAGE_CODE + 512, 8, BYTES(0x0e, 24)); /* its CIE is none */
    image_fde(&image, 0, IMAGE_CODE + 512, 8, BYTES(0x0e, 24));
    image_fde(&image, other, IMAGE_SZ - 8, 8, "", 0);
    assert_int_equal(table_of(&image, &table), 0);
    expect(table, 0, AP_UNWIND_CFA_SP, 40, AP_UNWIND_BP_SAME, 0);
    expect(table, 31, AP_UNWIND_CFA_SP, 40, AP_UNWIND_BP_SAME, 0);
    expect(table, 32, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    expect_none(table, 64, -ENOENT);
    expect_none(table, 127, -ENOENT);
    expect(table, 128, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    expect(table, 131, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    expect(table, 191, AP_UNWIND_CFA_SP, 16, AP_UNWIND_BP_SAME, 0);
    expect_none(table, 192, -ENOENT);
    expect_none(table, 256, -ENOENT);
    expect_none(table, 512, -ENOENT);
    expect(table, IMAGE_SZ - IMAGE_CODE - 1, AP_UNWIND_CFA_SP, 40, AP_UNWIND_BP_SAME, 0);
    ap_unwind_table_free(table);
    /* an entry that is longer than what there is ends the walk */
    image_put32(&image, 0x7fffffff);
    image_fde(&image, usual, IMAGE_CODE + 512, 8, BYTES(0x0e, 24));
    assert_int_equal(table_of(&image, &table), 0);
    expect_none(table, 512, -ENOENT);
    ap_unwind_table_free(table);
}

static void other_files(void **state)
{
    static const char text[] = "#!/bin/sh\n# long enough for a header of either class, which it is not\nexit 0\n";
    struct ap_unwind_table *table = NULL;
    struct image image, changed;
    Elf64_Ehdr *head = (Elf64_Ehdr *)changed.data;
    Elf64_Phdr *segments = (Elf64_Phdr *)(changed.data + sizeof(*head));
    int fd = image_fd(text, sizeof(text));

    (void)state;
    assert_int_equal(ap_unwind_table_new(fd, &table), -ENOEXEC);
    close(fd);
    assert_int_equal(ap_unwind_table_new(-1, &table), -EBADF);
    image_begin(&image);
    image_fde(&image, image_usual_cie(&image), IMAGE_CODE, 64, "", 0);
    changed = image;
    head->e_machine = EM_AARCH64;
    assert_int_equal(table_of(&changed, &table), -EOPNOTSUPP);
    changed = image;
    head->e_ident[EI_CLASS] = ELFCLASS32;
    assert_int_equal(table_of(&changed, &table), -EOPNOTSUPP);
    changed = image;
    head->e_phoff = UINT64_MAX;
    assert_int_equal(table_of(&changed, &table), -EBADMSG);
    changed = image;
    segments[0].p_filesz = IMAGE_SZ + 1;
    assert_int_equal(table_of(&changed, &table), -EBADMSG);
    changed = image;
    segments[0].p_flags = PF_R; /* no code */
    assert_int_equal(table_of(&changed, &table), -ENODATA);
    changed = image;
    segments[1].p_type = PT_NULL; /* and no sections either */
    assert_int_equal(table_of(&changed, &table), -ENODATA);
    changed = image;
    segments[1].p_offset = UINT64_MAX - 4;
    assert_int_equal(table_of(&changed, &table), -ENODATA);
    changed = image;
    changed.data[IMAGE_HDR] = 2; /* version */
    assert_int_equal(table_of(&changed, &table), -ENODATA);
    changed = image;
    changed.data[IMAGE_HDR + 7] = 0x7f; /* far away */
    assert_int_equal(table_of(&changed, &table), -ENODATA);
    assert_null(table);
}

/* Without the loader's header: by the name of the section. */
static void by_section(void **state)
{
    static const char names[] = "\0.eh_frame\0.shstrtab";
    struct ap_unwind_table *table = NULL;
    struct image image;
    Elf64_Ehdr *head = (Elf64_Ehdr *)image.data;
    Elf64_Phdr *segments = (Elf64_Phdr *)(image.data + sizeof(*head));
    Elf64_Shdr *sections = (Elf64_Shdr *)(image.data + IMAGE_SZ - 3 * sizeof(*sections));

    (void)state;
    image_begin(&image);
    image_fde(&image, image_usual_cie(&image), IMAGE_CODE, 64, "", 0);
    segments[1].p_type = PT_NULL;
    head->e_shoff = IMAGE_SZ - 3 * sizeof(*sections);
    head->e_shnum = 3;
    head->e_shstrndx = 2;
    sections[1] = (Elf64_Shdr){.sh_name = 1,
                               .sh_type = SHT_PROGBITS,
                               .sh_flags = SHF_ALLOC,
                               .sh_addr = IMAGE_VADDR + IMAGE_EH,
                               .sh_offset = IMAGE_EH,
                               .sh_size = image.pos - IMAGE_EH};
    sections[2] = (Elf64_Shdr){.sh_name = 11, .sh_type = SHT_STRTAB, .sh_offset = 0x1800, .sh_size = sizeof(names)};
    memcpy(image.data + 0x1800, names, sizeof(names));
    assert_int_equal(table_of(&image, &table), 0);
    expect(table, 63, AP_UNWIND_CFA_SP, 8, AP_UNWIND_BP_SAME, 0);
    table = ap_unwind_table_free(table);
    sections[1].sh_size = UINT64_MAX;
    assert_int_equal(table_of(&image, &table), -ENODATA);
    sections[1].sh_size = 64;
    sections[1].sh_name = 2;
    assert_int_equal(table_of(&image, &table), -ENODATA);
    sections[1].sh_name = UINT32_MAX;
    assert_int_equal(table_of(&image, &table), -ENODATA);
    head->e_shstrndx = 3;
    assert_int_equal(table_of(&image, &table), -ENODATA);
}

/* The table may say anything, but nothing may be read or written that is not ours, and it must come to an end. */
static void look_around(const struct ap_unwind_table *table, uint64_t file_sz)
{
    struct ap_unwind_rule rule;
    uint64_t off;
    int rc;

    for (off = 0; off < file_sz; off += 1 + file_sz / 97) {
        rc = ap_unwind_find(table, off, &rule);
        assert_true(rc == 0 || rc == -ENOENT || rc == -ENOTSUP);
    }
    assert_int_equal(ap_unwind_find(table, UINT64_MAX, &rule), -ENOENT);
}

/* A real file, cut anywhere and with bits flipped. */
static void hostile_files(void **state)
{
    int in = open("/bin/true", O_RDONLY | O_CLOEXEC), fd, rc;
    struct ap_unwind_table *table = NULL;
    uint64_t random = 88172645463325252u;
    size_t sz, i, at, good = 0;
    struct stat st;
    uint8_t *data;

    (void)state;
    assert_true(in >= 0 && !fstat(in, &st));
    sz = (size_t)st.st_size;
    data = malloc(sz);
    assert_non_null(data);
    assert_int_equal(pread(in, data, sz, 0), sz);
    close(in);
    fd = image_fd(data, sz);
    rc = ap_unwind_table_new(fd, &table);
    if (rc == -EOPNOTSUPP) { /* another machine's */
        close(fd);
        free(data);
        skip();
    }
    assert_int_equal(rc, 0);
    assert_true(ap_unwind_table_rows(table) > 100);
    look_around(table, sz);
    table = ap_unwind_table_free(table);
    for (i = 0; i < sz; i += i < 4096 ? 61 : 257) {
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        rc = ap_unwind_table_new(fd, &table);
        assert_true(rc == -ENOEXEC || rc == -EBADMSG);
        assert_int_equal(pwrite(fd, data + i, sz - i, (off_t)i), sz - i);
    }
    for (i = 0; i < 2000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        at = i < 500 ? random % 1024 : random % sz; /* headers first */
        data[at] ^= (uint8_t)(1u << (random >> 60 & 7));
        assert_int_equal(pwrite(fd, data + at, 1, (off_t)at), 1);
        if (!ap_unwind_table_new(fd, &table)) {
            look_around(table, sz);
            table = ap_unwind_table_free(table);
            good++;
        }
        if (i < 500) { /* one at a time; further in they add up */
            data[at] ^= (uint8_t)(1u << (random >> 60 & 7));
            assert_int_equal(pwrite(fd, data + at, 1, (off_t)at), 1);
        }
    }
    assert_true(good > 100);
    close(fd);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(standard_function), cmocka_unit_test(instructions),      cmocka_unit_test(remembered_states),
        cmocka_unit_test(unsupported_rules), cmocka_unit_test(expressions),       cmocka_unit_test(pointer_encodings),
        cmocka_unit_test(common_entries),    cmocka_unit_test(several_functions), cmocka_unit_test(other_files),
        cmocka_unit_test(by_section),        cmocka_unit_test(hostile_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
