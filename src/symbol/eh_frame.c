/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/eh_frame.h"

#include "symbol/unwind.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Linux Standard Base, "DWARF Exception Header Encoding". */
enum {
    PE_ABSPTR = 0x00,
    PE_ULEB128 = 0x01,
    PE_UDATA2 = 0x02,
    PE_UDATA4 = 0x03,
    PE_UDATA8 = 0x04,
    PE_SLEB128 = 0x09,
    PE_SDATA2 = 0x0a,
    PE_SDATA4 = 0x0b,
    PE_SDATA8 = 0x0c,
    PE_FORMAT = 0x0f,
    PE_PCREL = 0x10,
    PE_DATAREL = 0x30,
    PE_RELATION = 0xf0, /* with the bit for indirect ones */
    PE_OMIT = 0xff,
};

/* DWARF 4, figure 40. */
enum {
    CFA_ADVANCE_LOC = 0x40, /* the low 6 bits are an operand */
    CFA_OFFSET = 0x80,
    CFA_RESTORE = 0xc0,
    CFA_NOP = 0x00,
    CFA_SET_LOC = 0x01,
    CFA_ADVANCE_LOC1 = 0x02,
    CFA_ADVANCE_LOC2 = 0x03,
    CFA_ADVANCE_LOC4 = 0x04,
    CFA_OFFSET_EXTENDED = 0x05,
    CFA_RESTORE_EXTENDED = 0x06,
    CFA_UNDEFINED = 0x07,
    CFA_SAME_VALUE = 0x08,
    CFA_REGISTER = 0x09,
    CFA_REMEMBER_STATE = 0x0a,
    CFA_RESTORE_STATE = 0x0b,
    CFA_DEF_CFA = 0x0c,
    CFA_DEF_CFA_REGISTER = 0x0d,
    CFA_DEF_CFA_OFFSET = 0x0e,
    CFA_DEF_CFA_EXPRESSION = 0x0f,
    CFA_EXPRESSION = 0x10,
    CFA_OFFSET_EXTENDED_SF = 0x11,
    CFA_DEF_CFA_SF = 0x12,
    CFA_DEF_CFA_OFFSET_SF = 0x13,
    CFA_VAL_OFFSET = 0x14,
    CFA_VAL_OFFSET_SF = 0x15,
    CFA_VAL_EXPRESSION = 0x16,
    CFA_GNU_ARGS_SIZE = 0x2e,
    CFA_GNU_NEGATIVE_OFFSET_EXTENDED = 0x2f,
};

/* What differs between machines. */
struct arch {
    uint16_t machine;   /* EM_x */
    uint8_t sp, bp, ra; /* DWARF numbers */
    int8_t ra_off;      /* where the return address is, from the CFA */
    /* CFA expression of the linkers' PLT, but for its 2 numbers. */
    uint8_t plt[11], plt_off_at, plt_from_at;
    uint8_t frame_bp[2]; /* expression of the saved bp where it is at bp */
};

static const struct arch archs[] = {
    {
        .machine = EM_X86_64,
        .sp = 7,
        .bp = 6,
        .ra = 16,
        .ra_off = -8,
        /* DW_OP_breg7 N, breg16 0, lit15, and, litM, ge, lit3, shl, plus: rsp + N + ((rip & 15) >= M) * 8 */
        .plt = {0x77, 0, 0x80, 0, 0x3f, 0x1a, 0x30, 0x2a, 0x33, 0x24, 0x22},
        .plt_off_at = 1,
        .plt_from_at = 6,
        /* DW_OP_breg6 0: gcc's frames with a realigned stack, where it copies the return address behind the rbp */
        .frame_bp = {0x76, 0},
    },
};

/* Where a register's value in the caller is. */
enum place_kind { PLACE_SAME, PLACE_UNDEFINED, PLACE_AT_CFA, PLACE_AT_BP, PLACE_ELSEWHERE };

struct place {
    enum place_kind kind;
    int64_t off; /* of PLACE_AT_CFA */
};

enum cfa_kind { CFA_IS_REGISTER, CFA_IS_PLT, CFA_IS_UNKNOWN };

struct state {
    enum cfa_kind cfa;
    uint64_t cfa_reg;
    int64_t cfa_off;
    uint8_t plt_from;
    struct place bp, ra;
    bool sp_moved; /* the caller's sp is not the CFA: another stack */
};

struct cursor {
    const uint8_t *pos, *end;
    bool bad; /* read past the end, or a number that is none; stays set */
};

struct cie {
    size_t off;
    bool set; /* in the cache: this slot is in use */
    bool usable, signal, augmented;
    uint8_t encoding;
    uint64_t code_align;
    int64_t data_align;
    struct state initial;
};

#define CIE_SLOTS 64 /* files have one to a few */

struct fde {
    uint32_t start; /* from base */
    uint32_t off;   /* of the entry */
};

struct compiler {
    const struct ap_eh_section *section;
    const struct ap_elf_loads *loads;
    const struct arch *arch;
    uint64_t work; /* steps done */
    int error;     /* stays set */
    struct cie cies[CIE_SLOTS];
    struct fde *fdes;
    size_t fde_cnt, fde_cap;
    struct ap_eh_rows rows;
    uint64_t done; /* rows are there up to this address from base */
};

/* One program: a CIE's, without rows, or an FDE's. */
struct run {
    struct compiler *compiler;
    const struct cie *cie;
    struct state state, remembered[AP_EH_STATES_MAX];
    uint32_t remembered_cnt;
    bool emits;
    uint64_t loc, end; /* from base */
};

static uint64_t get_uint(struct cursor *cursor, size_t size)
{
    uint64_t value = 0;

    if ((size_t)(cursor->end - cursor->pos) < size) {
        cursor->bad = true;
        cursor->pos = cursor->end;
        return 0;
    }
    memcpy(&value, cursor->pos, size); /* the machines that are supported are little-endian */
    cursor->pos += size;
    return value;
}

static uint64_t get_leb(struct cursor *cursor, bool is_signed)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;

    do {
        byte = (uint8_t)get_uint(cursor, 1);
        if (shift >= 64) /* more than 10 bytes */
            cursor->bad = true;
        if (cursor->bad)
            return 0;
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (is_signed && (byte & 0x40) && shift < 64)
        value |= UINT64_MAX << shift;
    return value;
}

static uint64_t get_uleb(struct cursor *cursor)
{
    return get_leb(cursor, false);
}

static int64_t get_sleb(struct cursor *cursor)
{
    return (int64_t)get_leb(cursor, true);
}

/* Product of two numbers from the file; a nonsensical one is remembered in the cursor. */
static int64_t scaled(struct cursor *cursor, int64_t value, int64_t factor)
{
    int64_t product;

    if (__builtin_mul_overflow(value, factor, &product)) {
        cursor->bad = true;
        return 0;
    }
    return product;
}

/* An unsigned number where a signed one is kept. */
static int64_t get_offset(struct cursor *cursor)
{
    uint64_t value = get_uleb(cursor);

    if (value > INT64_MAX)
        cursor->bad = true;
    return cursor->bad ? 0 : (int64_t)value;
}

static const uint8_t *get_block(struct cursor *cursor, uint64_t len)
{
    const uint8_t *block = cursor->pos;

    if (len > (uint64_t)(cursor->end - cursor->pos)) {
        cursor->bad = true;
        cursor->pos = cursor->end;
    } else {
        cursor->pos += len;
    }
    return block;
}

static uint64_t get_formatted(struct cursor *cursor, uint8_t format)
{
    switch (format) {
    case PE_ABSPTR: /* the files are of 64 bits */
    case PE_UDATA8:
    case PE_SDATA8:
        return get_uint(cursor, 8);
    case PE_ULEB128:
        return get_uleb(cursor);
    case PE_SLEB128:
        return (uint64_t)get_sleb(cursor);
    case PE_UDATA2:
        return get_uint(cursor, 2);
    case PE_SDATA2:
        return (uint64_t)(int16_t)get_uint(cursor, 2);
    case PE_UDATA4:
        return get_uint(cursor, 4);
    case PE_SDATA4:
        return (uint64_t)(int32_t)get_uint(cursor, 4);
    default:
        cursor->bad = true;
        return 0;
    }
}

int ap_eh_pointer(const struct ap_eh_section *section, size_t *pos, uint8_t encoding, uint64_t base,
                  uint64_t *ret_value)
{
    struct cursor cursor = {section->data + *pos, section->data + section->sz, false};
    uint64_t value;

    switch (encoding & PE_RELATION) {
    case PE_ABSPTR:
        base = 0;
        break;
    case PE_PCREL:
        base = section->vaddr + *pos;
        break;
    case PE_DATAREL:
        if (!base)
            return -EOPNOTSUPP;
        break;
    default:
        return -EOPNOTSUPP;
    }
    value = get_formatted(&cursor, encoding & PE_FORMAT);
    if (cursor.bad)
        return -EBADMSG;
    *pos = (size_t)(cursor.pos - section->data);
    *ret_value = base + value;
    return 0;
}

/* A code address, read with the cursor. */
static uint64_t get_pointer(struct cursor *cursor, const struct ap_eh_section *section, uint8_t encoding)
{
    struct ap_eh_section entry = *section;
    size_t pos = (size_t)(cursor->pos - section->data);
    uint64_t value = 0;

    entry.sz = (size_t)(cursor->end - section->data);
    if (ap_eh_pointer(&entry, &pos, encoding, 0, &value))
        cursor->bad = true;
    cursor->pos = section->data + pos;
    return value;
}

/* Rows --------------------------------------------------------------------------------------------------------------*/

static bool in_words(int64_t off, int64_t min_words, int64_t max_words)
{
    return off % 8 == 0 && off / 8 >= min_words && off / 8 <= max_words;
}

/* Row for a state; what does not fit is not supported. */
static struct ap_eh_row row_of(const struct arch *arch, const struct cie *cie, const struct state *state)
{
    struct ap_eh_row row = {.kind = AP_EH_UNSUPPORTED};

    if (cie->signal)
        return row;
    if (state->ra.kind == PLACE_UNDEFINED) {
        row.kind = AP_EH_OUTERMOST;
        return row;
    }
    if (state->ra.kind != PLACE_AT_CFA || state->ra.off != arch->ra_off || state->sp_moved)
        return row;
    if (state->bp.kind == PLACE_AT_BP && state->cfa == CFA_IS_UNKNOWN) {
        row.kind = AP_EH_FRAME;
        return row;
    }
    if (state->cfa == CFA_IS_UNKNOWN || !in_words(state->cfa_off, 0, (1 << 19) - 1))
        return row;
    if (state->cfa == CFA_IS_PLT && state->bp.kind == PLACE_SAME) {
        row.kind = AP_EH_PLT;
        row.bp_words = (int32_t)(state->plt_from & 15);
    } else if (state->cfa == CFA_IS_REGISTER && state->cfa_reg == arch->sp) {
        row.kind = AP_EH_SP;
    } else if (state->cfa == CFA_IS_REGISTER && state->cfa_reg == arch->bp) {
        row.kind = AP_EH_BP;
    } else {
        return row;
    }
    row.cfa_words = (uint32_t)(state->cfa_off / 8) & ((1u << 19) - 1);
    if (state->bp.kind == PLACE_AT_CFA && in_words(state->bp.off, INT8_MIN, INT8_MAX)) {
        row.bp = AP_UNWIND_BP_SAVED;
        row.bp_words = (int32_t)(state->bp.off / 8);
    } else if (state->bp.kind != PLACE_SAME) {
        row.bp = AP_UNWIND_BP_UNKNOWN;
    }
    return row;
}

static bool same_rule(const struct ap_eh_row *a, const struct ap_eh_row *b)
{
    return a->kind == b->kind && a->bp == b->bp && a->bp_words == b->bp_words && a->cfa_words == b->cfa_words;
}

static void put_row(struct compiler *compiler, uint64_t addr, struct ap_eh_row row)
{
    struct ap_eh_rows *rows = &compiler->rows;
    struct ap_eh_row *items;
    size_t cap;

    if (compiler->error)
        return;
    row.addr = (uint32_t)addr;
    if (rows->cnt && rows->items[rows->cnt - 1].addr == row.addr)
        rows->cnt--; /* nothing is between the two */
    if (rows->cnt && same_rule(&rows->items[rows->cnt - 1], &row))
        return;
    if (rows->cnt == rows->cap) {
        cap = rows->cap ? rows->cap * 2 : 4096;
        if (cap > AP_UNWIND_ROWS_MAX) {
            compiler->error = -EFBIG;
            return;
        }
        items = realloc(rows->items, cap * sizeof(*items));
        if (!items) {
            compiler->error = -ENOMEM;
            return;
        }
        rows->items = items;
        rows->cap = cap;
    }
    rows->items[rows->cnt++] = row;
}

/* Programs ----------------------------------------------------------------------------------------------------------*/

static bool may_work(struct compiler *compiler)
{
    if (!compiler->error && ++compiler->work > AP_EH_WORK_MAX)
        compiler->error = -EFBIG;
    return !compiler->error;
}

static void advance(struct run *run, struct cursor *cursor, uint64_t delta)
{
    uint64_t by;

    if (__builtin_mul_overflow(delta, run->cie->code_align, &by) || __builtin_add_overflow(run->loc, by, &by)) {
        cursor->bad = true;
        return;
    }
    if (run->emits && by > run->loc && run->loc < run->end)
        put_row(run->compiler, run->loc, row_of(run->compiler->arch, run->cie, &run->state));
    run->loc = by;
}

static void set_place(struct run *run, uint64_t reg, enum place_kind kind, int64_t off)
{
    const struct arch *arch = run->compiler->arch;

    if (reg == arch->bp)
        run->state.bp = (struct place){kind, off};
    else if (reg == arch->ra)
        run->state.ra = (struct place){kind, off};
    else if (reg == arch->sp)
        run->state.sp_moved = kind != PLACE_SAME;
}

static void restore_place(struct run *run, uint64_t reg)
{
    const struct arch *arch = run->compiler->arch;

    if (reg == arch->bp)
        run->state.bp = run->cie->initial.bp;
    else if (reg == arch->ra)
        run->state.ra = run->cie->initial.ra;
    else if (reg == arch->sp)
        run->state.sp_moved = run->cie->initial.sp_moved;
}

static void set_cfa(struct run *run, uint64_t reg, int64_t off)
{
    run->state.cfa = CFA_IS_REGISTER;
    run->state.cfa_reg = reg;
    run->state.cfa_off = off;
}

static void set_cfa_expression(struct run *run, struct cursor *cursor)
{
    const struct arch *arch = run->compiler->arch;
    uint64_t len = get_uleb(cursor);
    const uint8_t *block = get_block(cursor, len);
    size_t i;

    run->state.cfa = CFA_IS_UNKNOWN;
    if (cursor->bad || len != sizeof(arch->plt))
        return;
    for (i = 0; i < sizeof(arch->plt); i++)
        if (i != arch->plt_off_at && i != arch->plt_from_at && block[i] != arch->plt[i])
            return;
    if (block[arch->plt_off_at] >= 0x40 || (block[arch->plt_from_at] & 0xf0) != arch->plt[arch->plt_from_at])
        return; /* negative, or no literal */
    run->state.cfa = CFA_IS_PLT;
    run->state.cfa_off = block[arch->plt_off_at];
    run->state.plt_from = block[arch->plt_from_at] & 15;
}

static void set_expression(struct run *run, struct cursor *cursor, bool is_value)
{
    const struct arch *arch = run->compiler->arch;
    uint64_t reg = get_uleb(cursor), len = get_uleb(cursor);
    const uint8_t *block = get_block(cursor, len);
    bool at_bp = !cursor->bad && !is_value && reg == arch->bp && len == sizeof(arch->frame_bp) &&
                 !memcmp(block, arch->frame_bp, sizeof(arch->frame_bp));

    set_place(run, reg, at_bp ? PLACE_AT_BP : PLACE_ELSEWHERE, 0);
}

/* Instructions about where registers are saved. False: it is none of them. */
static bool step_register(struct run *run, struct cursor *cursor, uint8_t op)
{
    int64_t align = run->cie->data_align;
    uint64_t reg;

    switch (op) {
    case CFA_OFFSET_EXTENDED:
        reg = get_uleb(cursor);
        set_place(run, reg, PLACE_AT_CFA, scaled(cursor, get_offset(cursor), align));
        return true;
    case CFA_OFFSET_EXTENDED_SF:
        reg = get_uleb(cursor);
        set_place(run, reg, PLACE_AT_CFA, scaled(cursor, get_sleb(cursor), align));
        return true;
    case CFA_GNU_NEGATIVE_OFFSET_EXTENDED:
        reg = get_uleb(cursor);
        set_place(run, reg, PLACE_AT_CFA, scaled(cursor, scaled(cursor, get_offset(cursor), align), -1));
        return true;
    case CFA_RESTORE_EXTENDED:
        restore_place(run, get_uleb(cursor));
        return true;
    case CFA_UNDEFINED:
        set_place(run, get_uleb(cursor), PLACE_UNDEFINED, 0);
        return true;
    case CFA_SAME_VALUE:
        set_place(run, get_uleb(cursor), PLACE_SAME, 0);
        return true;
    case CFA_REGISTER:
    case CFA_VAL_OFFSET:
    case CFA_VAL_OFFSET_SF: /* a second number follows in each, of a length that does not depend on its sign */
        reg = get_uleb(cursor);
        get_uleb(cursor);
        set_place(run, reg, PLACE_ELSEWHERE, 0);
        return true;
    case CFA_EXPRESSION:
    case CFA_VAL_EXPRESSION:
        set_expression(run, cursor, op == CFA_VAL_EXPRESSION);
        return true;
    default:
        return false;
    }
}

/* Instructions about the CFA. False: it is none of them. */
static bool step_cfa(struct run *run, struct cursor *cursor, uint8_t op)
{
    int64_t align = run->cie->data_align;
    uint64_t reg;

    switch (op) {
    case CFA_DEF_CFA:
        reg = get_uleb(cursor);
        set_cfa(run, reg, get_offset(cursor));
        return true;
    case CFA_DEF_CFA_SF:
        reg = get_uleb(cursor);
        set_cfa(run, reg, scaled(cursor, get_sleb(cursor), align));
        return true;
    case CFA_DEF_CFA_REGISTER: /* this and the next two are for a CFA that is a register */
        reg = get_uleb(cursor);
        run->state.cfa_reg = reg;
        return true;
    case CFA_DEF_CFA_OFFSET:
        run->state.cfa_off = get_offset(cursor);
        return true;
    case CFA_DEF_CFA_OFFSET_SF:
        run->state.cfa_off = scaled(cursor, get_sleb(cursor), align);
        return true;
    case CFA_DEF_CFA_EXPRESSION:
        set_cfa_expression(run, cursor);
        return true;
    default:
        return false;
    }
}

static void step_other(struct run *run, struct cursor *cursor, uint8_t op)
{
    uint64_t loc;

    switch (op) {
    case CFA_NOP:
        break;
    case CFA_SET_LOC:
        loc = get_pointer(cursor, run->compiler->section, run->cie->encoding) - run->compiler->rows.base;
        if (loc < run->loc || run->cie->code_align == 0)
            cursor->bad = true;
        else
            advance(run, cursor, (loc - run->loc) / run->cie->code_align);
        break;
    case CFA_ADVANCE_LOC1:
        advance(run, cursor, get_uint(cursor, 1));
        break;
    case CFA_ADVANCE_LOC2:
        advance(run, cursor, get_uint(cursor, 2));
        break;
    case CFA_ADVANCE_LOC4:
        advance(run, cursor, get_uint(cursor, 4));
        break;
    case CFA_REMEMBER_STATE:
        if (run->remembered_cnt == AP_EH_STATES_MAX)
            cursor->bad = true;
        else
            run->remembered[run->remembered_cnt++] = run->state;
        break;
    case CFA_RESTORE_STATE:
        if (!run->remembered_cnt)
            cursor->bad = true;
        else
            run->state = run->remembered[--run->remembered_cnt];
        break;
    case CFA_GNU_ARGS_SIZE:
        get_uleb(cursor);
        break;
    default:
        cursor->bad = true;
    }
}

/* Runs to the end of the program or of the function. False: the program makes no sense from `loc` on. */
static bool execute(struct run *run, struct cursor *cursor)
{
    uint8_t op;

    while (cursor->pos < cursor->end && !cursor->bad && run->loc < run->end && may_work(run->compiler)) {
        op = (uint8_t)get_uint(cursor, 1);
        switch (op & 0xc0) {
        case CFA_ADVANCE_LOC:
            advance(run, cursor, op & 0x3f);
            break;
        case CFA_OFFSET:
            set_place(run, op & 0x3f, PLACE_AT_CFA, scaled(cursor, get_offset(cursor), run->cie->data_align));
            break;
        case CFA_RESTORE:
            restore_place(run, op & 0x3f);
            break;
        default:
            if (!step_register(run, cursor, op) && !step_cfa(run, cursor, op))
                step_other(run, cursor, op);
        }
    }
    return !cursor->bad;
}

/* Entries -----------------------------------------------------------------------------------------------------------*/

/* The entry at `off`: what lies between its length and its end. False: there is none (any more). */
static bool entry_at(const struct ap_eh_section *section, size_t off, struct cursor *ret_body)
{
    struct cursor cursor = {section->data + off, section->data + section->sz, false};
    uint64_t len = get_uint(&cursor, 4);

    if (len == UINT32_MAX)
        len = get_uint(&cursor, 8);
    if (cursor.bad || !len || len > (uint64_t)(cursor.end - cursor.pos))
        return false;
    *ret_body = (struct cursor){cursor.pos, cursor.pos + len, false};
    return true;
}

static void parse_augmentation(struct cursor *cursor, const char *letters, struct cie *cie)
{
    uint64_t len = get_uleb(cursor);
    struct cursor data = {cursor->pos, cursor->pos, false};
    uint8_t encoding;

    get_block(cursor, len);
    data.end = cursor->pos;
    cie->augmented = true;
    for (; *letters && !data.bad; letters++) {
        switch (*letters) {
        case 'L':
            get_uint(&data, 1);
            break;
        case 'P': /* pointers to a personality routine are indirect; only their length matters */
            encoding = (uint8_t)get_uint(&data, 1);
            if (encoding != PE_OMIT)
                get_formatted(&data, encoding & PE_FORMAT);
            break;
        case 'R':
            cie->encoding = (uint8_t)get_uint(&data, 1);
            break;
        case 'S':
            cie->signal = true;
            break;
        default: /* what it means for the rules is not known */
            data.bad = true;
        }
    }
    cursor->bad |= data.bad;
}

static void parse_cie(struct compiler *compiler, size_t off, struct cie *cie)
{
    struct run run = {.compiler = compiler, .cie = cie, .end = UINT64_MAX};
    const char *letters;
    struct cursor body;
    uint64_t version, ra;
    const void *nul;

    *cie = (struct cie){.off = off, .set = true};
    if (!entry_at(compiler->section, off, &body) || get_uint(&body, 4) != 0)
        return;
    version = get_uint(&body, 1);
    letters = (const char *)body.pos;
    nul = memchr(body.pos, '\0', (size_t)(body.end - body.pos));
    if ((version != 1 && version != 3) || !nul)
        return;
    get_block(&body, (uint64_t)((const uint8_t *)nul + 1 - body.pos));
    cie->code_align = get_uleb(&body);
    cie->data_align = get_sleb(&body);
    ra = version == 1 ? get_uint(&body, 1) : get_uleb(&body);
    if (*letters == 'z')
        parse_augmentation(&body, letters + 1, cie);
    else if (*letters)
        return;
    if (body.bad || ra != compiler->arch->ra)
        return;
    run.state.cfa = CFA_IS_UNKNOWN;
    if (execute(&run, &body)) {
        cie->initial = run.state;
        cie->usable = true;
    }
}

/* The CIE at `off`, or NULL when it cannot be used. Valid until the next call. */
static const struct cie *find_cie(struct compiler *compiler, size_t off)
{
    struct cie *cie = &compiler->cies[off / 4 % CIE_SLOTS];

    if (!cie->set || cie->off != off)
        parse_cie(compiler, off, cie);
    return cie->usable ? cie : NULL;
}

/* The FDE's CIE, range, and program (what is left in *body). NULL: it is a CIE, or of no use. */
static const struct cie *parse_fde(struct compiler *compiler, struct cursor *body, uint64_t *ret_start,
                                   uint64_t *ret_len)
{
    const struct ap_eh_section *section = compiler->section;
    size_t off = (size_t)(body->pos - section->data);
    uint64_t back = get_uint(body, 4);
    const struct cie *cie;

    if (body->bad || back == 0 || back > off)
        return NULL;
    cie = find_cie(compiler, off - back);
    if (!cie)
        return NULL;
    *ret_start = get_pointer(body, section, cie->encoding);
    *ret_len = get_formatted(body, cie->encoding & PE_FORMAT);
    if (cie->augmented)
        get_block(body, get_uleb(body));
    return body->bad ? NULL : cie;
}

/* Whether a function may be there: in one executable segment, and not too far from the base. */
static bool is_code(const struct compiler *compiler, uint64_t start, uint64_t len)
{
    const struct ap_elf_load *load;
    uint32_t i;

    if (!len || start < compiler->rows.base || start - compiler->rows.base > UINT32_MAX ||
        len > UINT32_MAX - (start - compiler->rows.base))
        return false;
    for (i = 0; i < compiler->loads->cnt; i++) {
        load = &compiler->loads->items[i];
        if ((load->flags & PF_X) && start >= load->vaddr && start - load->vaddr < load->file_sz &&
            len <= load->file_sz - (start - load->vaddr))
            return true;
    }
    return false;
}

static int add_fde(struct compiler *compiler, struct fde fde)
{
    struct fde *fdes;
    size_t cap;

    if (compiler->fde_cnt == compiler->fde_cap) {
        cap = compiler->fde_cap ? compiler->fde_cap * 2 : 1024;
        if (cap > AP_EH_FDES_MAX)
            return -EFBIG;
        fdes = realloc(compiler->fdes, cap * sizeof(*fdes));
        if (!fdes)
            return -ENOMEM;
        compiler->fdes = fdes;
        compiler->fde_cap = cap;
    }
    compiler->fdes[compiler->fde_cnt++] = fde;
    return 0;
}

static int by_start(const void *a, const void *b)
{
    const struct fde *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->off < y->off ? -1 : x->off > y->off;
}

/* All functions by address; linkers leave them in the order of their input. */
static int collect_fdes(struct compiler *compiler)
{
    const struct ap_eh_section *section = compiler->section;
    struct cursor body = {section->data, section->data, false}, next;
    uint64_t start, len;
    bool sorted = true;
    struct fde fde;
    size_t off;
    int rc;

    while (may_work(compiler)) {
        off = (size_t)(body.end - section->data);
        if (!entry_at(section, off, &body))
            break;
        next = body;
        if (!parse_fde(compiler, &next, &start, &len) || !is_code(compiler, start, len))
            continue;
        fde = (struct fde){(uint32_t)(start - compiler->rows.base), (uint32_t)off};
        sorted = sorted && (!compiler->fde_cnt || compiler->fdes[compiler->fde_cnt - 1].start <= fde.start);
        rc = add_fde(compiler, fde);
        if (rc)
            return rc;
    }
    if (!sorted)
        qsort(compiler->fdes, compiler->fde_cnt, sizeof(*compiler->fdes), by_start);
    return compiler->error;
}

static void compile_fde(struct compiler *compiler, size_t off)
{
    struct run run;
    uint64_t start, len;
    struct cursor body;

    if (!entry_at(compiler->section, off, &body))
        return;
    run.cie = parse_fde(compiler, &body, &start, &len);
    if (!run.cie)
        return;
    start -= compiler->rows.base;
    if (start < compiler->done)
        return;
    run.compiler = compiler;
    run.state = run.cie->initial;
    run.remembered_cnt = 0;
    run.emits = true;
    run.loc = start;
    run.end = start + len;
    if (!execute(&run, &body))
        put_row(compiler, run.loc, (struct ap_eh_row){.kind = AP_EH_UNSUPPORTED});
    else if (run.loc < run.end)
        put_row(compiler, run.loc, row_of(compiler->arch, run.cie, &run.state));
    put_row(compiler, run.end, (struct ap_eh_row){.kind = AP_EH_NONE});
    compiler->done = run.end;
}

static const struct arch *arch_of(uint16_t machine)
{
    size_t i;

    for (i = 0; i < sizeof(archs) / sizeof(archs[0]); i++)
        if (archs[i].machine == machine)
            return &archs[i];
    return NULL;
}

int ap_eh_compile(const struct ap_eh_section *section, const struct ap_elf_loads *loads, uint16_t machine,
                  struct ap_eh_rows *ret_rows)
{
    struct compiler *compiler;
    struct ap_eh_row *items;
    size_t i;
    int rc;

    compiler = calloc(1, sizeof(*compiler));
    if (!compiler)
        return -ENOMEM;
    compiler->section = section;
    compiler->loads = loads;
    compiler->arch = arch_of(machine);
    compiler->rows.base = UINT64_MAX;
    for (i = 0; i < loads->cnt; i++)
        if ((loads->items[i].flags & PF_X) && loads->items[i].vaddr < compiler->rows.base)
            compiler->rows.base = loads->items[i].vaddr;
    rc = compiler->arch ? collect_fdes(compiler) : -EOPNOTSUPP;
    for (i = 0; i < compiler->fde_cnt && !rc; i++) {
        compile_fde(compiler, compiler->fdes[i].off);
        rc = compiler->error;
    }
    free(compiler->fdes);
    if (!rc && !compiler->rows.cnt)
        rc = -ENODATA;
    if (rc) {
        free(compiler->rows.items);
    } else {
        items = realloc(compiler->rows.items, compiler->rows.cnt * sizeof(*items));
        if (items) {
            compiler->rows.items = items;
            compiler->rows.cap = compiler->rows.cnt;
        }
        *ret_rows = compiler->rows;
    }
    free(compiler);
    return rc;
}
