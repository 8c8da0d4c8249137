/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/unwind.h"

#include "symbol/eh_frame.h"
#include "symbol/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SZ sizeof(uint64_t)
#define READ_SZ ((size_t)1 << 20)

/* A standard frame: the caller's bp and the return address are the two words at bp. */
#define FRAME_CFA_OFF ((int32_t)(2 * WORD_SZ))
#define FRAME_BP_OFF  (-(int32_t)(2 * WORD_SZ))

#define SECTION_NAME ".eh_frame"

struct ap_unwind_table {
    struct ap_elf_loads loads;
    struct ap_eh_rows rows;
};

/* Where .eh_frame is in the file. `len` may be too large. */
struct place {
    uint64_t vaddr, off, len;
};

/* Through the header that the loader sees (Linux Standard Base, "The .eh_frame_hdr section"): a version, the encodings
 * of three things, and the first of them, .eh_frame's address. -ENODATA when there is none. */
static int find_by_header(const struct ap_elf *elf, const struct ap_elf_loads *loads, struct place *ret_place)
{
    struct ap_elf_block block = {0};
    struct ap_elf_segment segment;
    struct ap_eh_section head;
    struct place place;
    uint8_t data[12];
    size_t pos = 4;
    uint32_t i;
    int rc;

    for (i = 0; i < elf->ph_cnt; i++) {
        rc = ap_elf_segment(elf, &block, i, &segment);
        if (rc)
            return rc;
        if (segment.type == PT_GNU_EH_FRAME)
            break;
    }
    if (i == elf->ph_cnt || segment.file_sz < sizeof(data) || !ap_elf_inside(elf, segment.off, sizeof(data)))
        return -ENODATA;
    rc = ap_elf_read(elf->fd, data, sizeof(data), segment.off);
    if (rc)
        return rc;
    head = (struct ap_eh_section){data, sizeof(data), segment.vaddr};
    if (data[0] != 1 || ap_eh_pointer(&head, &pos, data[1], segment.vaddr, &place.vaddr) ||
        ap_elf_file_off(loads, place.vaddr, &place.off, &place.len))
        return -ENODATA;
    *ret_place = place;
    return 0;
}

/* By the section headers, which a file can do without: the section at `vaddr`, or with the name if that is 0. */
static int find_by_section(const struct ap_elf *elf, uint64_t vaddr, struct place *ret_place)
{
    struct ap_elf_section names = {0}, section;
    struct ap_elf_block block = {0};
    char name[sizeof(SECTION_NAME)];
    uint32_t i;
    int rc;

    if (elf->names < elf->sh_cnt) {
        rc = ap_elf_section(elf, &block, elf->names, &names);
        if (rc)
            return rc;
    }
    for (i = 0; i < elf->sh_cnt; i++) {
        rc = ap_elf_section(elf, &block, i, &section);
        if (rc)
            return rc;
        if (section.type == SHT_NOBITS || !(section.flags & SHF_ALLOC) || !section.sz ||
            !ap_elf_inside(elf, section.off, section.sz))
            continue;
        if (vaddr ? section.addr != vaddr
                  : section.name >= names.sz || names.sz - section.name < sizeof(name) ||
                        ap_elf_read(elf->fd, name, sizeof(name), names.off + section.name) ||
                        memcmp(name, SECTION_NAME, sizeof(name)))
            continue;
        *ret_place = (struct place){section.addr, section.off, section.sz};
        return 0;
    }
    return -ENODATA;
}

static int find_place(const struct ap_elf *elf, const struct ap_elf_loads *loads, struct place *ret_place)
{
    struct place section;
    int rc;

    rc = find_by_header(elf, loads, ret_place);
    if (rc == -ENODATA)
        return find_by_section(elf, 0, ret_place);
    /* The header knows no length. Without sections the entry of length 0 ends it. */
    if (!rc && !find_by_section(elf, ret_place->vaddr, &section) && section.len < ret_place->len)
        ret_place->len = section.len;
    return rc;
}

/* Moves *pos from entry to entry. True: the last one has been met, or the rest makes no sense; false: more is needed.
 * An entry starts with its length: 4 bytes, or 8 more behind UINT32_MAX. */
static bool at_last_entry(const uint8_t *data, size_t sz, uint64_t *pos)
{
    uint32_t len;
    uint64_t long_len;

    while (*pos <= sz && sz - *pos >= sizeof(len)) {
        memcpy(&len, data + *pos, sizeof(len));
        if (!len)
            return true;
        if (len != UINT32_MAX) {
            *pos += sizeof(len) + len;
            continue;
        }
        if (sz - *pos < sizeof(len) + sizeof(long_len))
            return false;
        memcpy(&long_len, data + *pos + sizeof(len), sizeof(long_len));
        if (long_len > AP_UNWIND_SECTION_SZ_MAX)
            return true;
        *pos += sizeof(len) + sizeof(long_len) + long_len;
    }
    return false;
}

/* Reads as much as it takes to get to the end of it. */
static int read_section(const struct ap_elf *elf, const struct place *place, struct ap_eh_section *ret_section)
{
    uint8_t *data = NULL, *more;
    size_t sz = 0, want;
    uint64_t pos = 0;
    int rc;

    do {
        if (sz == AP_UNWIND_SECTION_SZ_MAX) {
            free(data);
            return -EFBIG;
        }
        want = sz ? sz * 2 : READ_SZ;
        want = want < place->len ? want : (size_t)place->len;
        more = realloc(data, want);
        rc = more ? ap_elf_read(elf->fd, more + sz, want - sz, place->off + sz) : -ENOMEM;
        data = more ? more : data;
        if (rc) {
            free(data);
            return rc;
        }
        sz = want;
    } while (!at_last_entry(data, sz, &pos) && sz < place->len);
    *ret_section = (struct ap_eh_section){data, sz, place->vaddr};
    return 0;
}

int ap_unwind_table_new(int fd, struct ap_unwind_table **ret_table)
{
    struct ap_eh_section section = {0};
    struct ap_unwind_table *table;
    struct place place;
    struct ap_elf elf;
    int rc;

    rc = ap_elf_begin(fd, &elf);
    if (rc)
        return rc;
    if (!elf.is64)
        return -EOPNOTSUPP; /* so much for machines with 32 bits; others are told below */
    table = calloc(1, sizeof(*table));
    if (!table)
        return -ENOMEM;
    rc = ap_elf_loads_of(&elf, &table->loads);
    if (!rc)
        rc = find_place(&elf, &table->loads, &place);
    if (!rc)
        rc = read_section(&elf, &place, &section);
    if (!rc)
        rc = ap_eh_compile(&section, &table->loads, elf.machine, &table->rows);
    free((void *)(uintptr_t)section.data);
    if (rc) {
        ap_unwind_table_free(table);
        return rc;
    }
    *ret_table = table;
    return 0;
}

struct ap_unwind_table *ap_unwind_table_free(struct ap_unwind_table *table)
{
    if (table)
        free(table->rows.items);
    free(table);
    return NULL;
}

size_t ap_unwind_table_memory(const struct ap_unwind_table *table)
{
    return sizeof(*table) + table->rows.cap * sizeof(*table->rows.items);
}

size_t ap_unwind_table_rows(const struct ap_unwind_table *table)
{
    return table->rows.cnt;
}

/* The last row at or before the address, or NULL. */
static const struct ap_eh_row *find_row(const struct ap_eh_rows *rows, uint64_t vaddr)
{
    size_t low = 0, high = rows->cnt, mid;

    if (vaddr < rows->base || vaddr - rows->base > UINT32_MAX)
        return NULL;
    vaddr -= rows->base;
    while (low < high) {
        mid = low + (high - low) / 2;
        if (rows->items[mid].addr <= vaddr)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? &rows->items[low - 1] : NULL;
}

int ap_unwind_find(const struct ap_unwind_table *table, uint64_t file_off, struct ap_unwind_rule *ret_rule)
{
    struct ap_unwind_rule rule = {.bp = AP_UNWIND_BP_UNKNOWN};
    const struct ap_eh_row *row;
    uint64_t vaddr;

    if (ap_elf_code_vaddr(&table->loads, file_off, &vaddr))
        return -ENOENT;
    row = find_row(&table->rows, vaddr);
    if (!row || row->kind == AP_EH_NONE)
        return -ENOENT;
    switch (row->kind) {
    case AP_EH_SP:
    case AP_EH_BP:
        rule.cfa = row->kind == AP_EH_SP ? AP_UNWIND_CFA_SP : AP_UNWIND_CFA_BP;
        rule.bp = (enum ap_unwind_bp)row->bp;
        rule.bp_off = rule.bp == AP_UNWIND_BP_SAVED ? row->bp_words * (int32_t)WORD_SZ : 0;
        break;
    case AP_EH_PLT:
        rule.cfa = AP_UNWIND_CFA_PLT;
        rule.bp = AP_UNWIND_BP_SAME;
        rule.plt_from = (uint8_t)row->bp_words;
        break;
    case AP_EH_FRAME:
        rule.cfa = AP_UNWIND_CFA_FRAME;
        break;
    case AP_EH_OUTERMOST:
        rule.outermost = true;
        break;
    default:
        return -ENOTSUP;
    }
    rule.cfa_off = (int32_t)(row->cfa_words * WORD_SZ);
    *ret_rule = rule;
    return 0;
}

/* Stepping ----------------------------------------------------------------------------------------------------------*/

/* A function on the way out. */
struct frame {
    uint64_t ip, sp, bp;
    bool bp_known;
};

static bool read_word(const struct ap_unwind_leaf *leaf, uint64_t addr, uint64_t *ret_word)
{
    uint64_t off = addr - leaf->sp;

    if (addr < leaf->sp || off % WORD_SZ || off / WORD_SZ >= leaf->word_cnt)
        return false;
    *ret_word = leaf->words[off / WORD_SZ];
    return true;
}

/* Whether bp points to a frame as compilers make it when they keep frame pointers. */
static bool keeps_frame(const struct ap_unwind_rule *rule)
{
    return rule->cfa == AP_UNWIND_CFA_FRAME || (rule->cfa == AP_UNWIND_CFA_BP && rule->cfa_off == FRAME_CFA_OFF &&
                                                rule->bp == AP_UNWIND_BP_SAVED && rule->bp_off == FRAME_BP_OFF);
}

/* From a function to its caller. AP_UNWIND_LIMIT, or why there is none. */
static enum ap_unwind_end step(const struct ap_unwind_leaf *leaf, const struct ap_unwind_rule *rule,
                               struct frame *frame)
{
    uint64_t cfa = (uint64_t)(int64_t)rule->cfa_off, ra, slot;

    if (rule->cfa == AP_UNWIND_CFA_BP && !frame->bp_known)
        return AP_UNWIND_NO_RULE;
    cfa += rule->cfa == AP_UNWIND_CFA_BP ? frame->bp : frame->sp;
    if (rule->cfa == AP_UNWIND_CFA_PLT && (frame->ip & 15) >= rule->plt_from)
        cfa += WORD_SZ;
    if (cfa <= frame->sp || (cfa - leaf->sp) % WORD_SZ)
        return AP_UNWIND_BROKEN;
    if (!read_word(leaf, cfa - WORD_SZ, &ra))
        return AP_UNWIND_EXHAUSTED;
    if (!ra)
        return AP_UNWIND_OUTERMOST;
    slot = cfa + (uint64_t)(int64_t)rule->bp_off;
    /* In epilogues compilers leave the rule as it is when they pop bp: then the slot is below the stack already. */
    if (rule->bp == AP_UNWIND_BP_SAVED && slot >= frame->sp)
        frame->bp_known = read_word(leaf, slot, &frame->bp);
    else if (rule->bp == AP_UNWIND_BP_UNKNOWN)
        frame->bp_known = false;
    frame->ip = ra;
    frame->sp = cfa;
    return AP_UNWIND_LIMIT;
}

/* ap_unwind_find(), with what was found lately. */
static int find_rule(struct ap_unwind_cache *cache, const struct ap_unwind_table *table, uint64_t file_off,
                     struct ap_unwind_rule *ret_rule)
{
    uint64_t hash = (file_off ^ (uint64_t)(uintptr_t)table << 16) * 0x9e3779b97f4a7c15ULL;
    struct ap_unwind_cached *cached;

    if (!cache)
        return ap_unwind_find(table, file_off, ret_rule);
    cached = &cache->rules[hash >> 32 & (AP_UNWIND_CACHE_RULES - 1)];
    if (cached->table != table || cached->file_off != file_off) {
        cached->table = table;
        cached->file_off = file_off;
        cached->rc = ap_unwind_find(table, file_off, &cached->rule);
    }
    *ret_rule = cached->rule;
    return cached->rc;
}

/* A step from a function that keeps a frame pointer, or the end there. */
static enum ap_unwind_end step_from_frame(const struct ap_unwind_leaf *leaf, const struct ap_unwind_rule *rule,
                                          struct frame *frame)
{
    enum ap_unwind_end end;

    if (!frame->bp_known)
        return AP_UNWIND_NO_RULE;
    if (frame->bp < frame->sp || frame->bp % WORD_SZ)
        return AP_UNWIND_BROKEN;
    if (rule->cfa == AP_UNWIND_CFA_FRAME || !leaf->until_bp || leaf->until_bp == frame->bp)
        return AP_UNWIND_AT_FRAME;
    end = step(leaf, rule, frame);
    return end == AP_UNWIND_EXHAUSTED ? AP_UNWIND_AT_FRAME : end;
}

void ap_unwind_leaf(const struct ap_unwind_leaf *leaf, ap_unwind_lookup_fn lookup, void *ctx, uint64_t *ret_addrs,
                    uint32_t max, struct ap_unwind_result *ret_result)
{
    struct frame frame = {leaf->ip, leaf->sp, leaf->bp, true}, next = frame;
    enum ap_unwind_end end = AP_UNWIND_LIMIT;
    const struct ap_unwind_table *table;
    struct ap_unwind_rule rule;
    uint32_t cnt = 0;
    uint64_t off;

    while (cnt < max && end == AP_UNWIND_LIMIT) {
        frame = next;
        ret_addrs[cnt++] = frame.ip;
        /* A return address is behind the call, which may be a function's last instruction. */
        table = lookup(ctx, frame.ip - (cnt > 1), &off);
        if (!table || find_rule(leaf->cache, table, off, &rule))
            end = AP_UNWIND_NO_RULE;
        else if (rule.outermost)
            end = AP_UNWIND_OUTERMOST;
        else if (keeps_frame(&rule))
            end = step_from_frame(leaf, &rule, &next);
        else
            end = step(leaf, &rule, &next);
    }
    *ret_result = (struct ap_unwind_result){cnt, frame.sp, frame.bp, frame.bp_known, end};
}
