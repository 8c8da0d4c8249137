/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/variables.h"

#include "symbol/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define READ_SZ 65536

/* An address, and the best object for it so far. */
struct query {
    uint64_t vaddr;
    uint32_t index; /* among the caller's */
    bool found;
    uint8_t binding; /* STB_x */
    uint64_t start, sz;
    struct {
        uint64_t off; /* in the file, and how much of the names follows */
        uint64_t len;
    } name;
};

struct symbol {
    uint32_t name;
    uint8_t type, binding; /* STT_x, STB_x */
    uint16_t section;      /* SHN_x */
    uint64_t start, sz;
};

struct search {
    const struct ap_elf *elf;
    struct query *queries; /* by address */
    uint32_t cnt;
    uint64_t hits;
};

static int by_vaddr(const void *a, const void *b)
{
    const struct query *x = a, *y = b;

    return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static struct symbol symbol_at(const struct ap_elf *elf, const char *entry)
{
    Elf32_Sym s32;
    Elf64_Sym s64;

    if (elf->is64) {
        memcpy(&s64, entry, sizeof(s64));
        return (struct symbol){
            s64.st_name, ELF64_ST_TYPE(s64.st_info), ELF64_ST_BIND(s64.st_info), s64.st_shndx, s64.st_value,
            s64.st_size};
    }
    memcpy(&s32, entry, sizeof(s32));
    return (struct symbol){
        s32.st_name, ELF32_ST_TYPE(s32.st_info), ELF32_ST_BIND(s32.st_info), s32.st_shndx, s32.st_value, s32.st_size};
}

/* First query at or above the address. */
static uint32_t first_query(const struct search *search, uint64_t vaddr)
{
    uint32_t low = 0, high = search->cnt, mid;

    while (low < high) {
        mid = low + (high - low) / 2;
        if (search->queries[mid].vaddr < vaddr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int visibility(uint8_t binding)
{
    return binding == STB_GLOBAL ? 2 : binding == STB_WEAK;
}

static bool is_better(const struct symbol *symbol, const struct query *than)
{
    if (!than->found)
        return true;
    if (symbol->sz != than->sz)
        return symbol->sz < than->sz;
    return visibility(symbol->binding) > visibility(than->binding);
}

static int match(struct search *search, const struct symbol *symbol, const struct ap_elf_section *names)
{
    struct query *query;
    uint32_t i;

    if ((symbol->type != STT_OBJECT && symbol->type != STT_COMMON) || symbol->section == SHN_UNDEF || !symbol->name ||
        symbol->name >= names->sz)
        return 0;
    for (i = first_query(search, symbol->start); i < search->cnt; i++) {
        query = &search->queries[i];
        if (query->vaddr - symbol->start >= (symbol->sz ? symbol->sz : 1))
            break;
        if (++search->hits > AP_VARIABLE_HITS_MAX)
            return -EFBIG;
        if (!is_better(symbol, query))
            continue;
        query->found = true;
        query->binding = symbol->binding;
        query->start = symbol->start;
        query->sz = symbol->sz;
        query->name.off = names->off + symbol->name;
        query->name.len = names->sz - symbol->name;
    }
    return 0;
}

static int search_table(struct search *search, const struct ap_elf_section *table, const struct ap_elf_section *names)
{
    size_t entry_sz = search->elf->is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
    uint64_t pos, len = table->sz - table->sz % entry_sz;
    size_t i, part = READ_SZ - READ_SZ % entry_sz;
    struct symbol symbol;
    char *data;
    int rc = 0;

    if (len / entry_sz > AP_VARIABLE_SYMBOLS_MAX)
        return -EFBIG;
    data = malloc(part);
    if (!data)
        return -ENOMEM;
    for (pos = 0; pos < len && !rc; pos += part) {
        part = len - pos < part ? len - pos : part;
        rc = ap_elf_read(search->elf->fd, data, part, table->off + pos);
        for (i = 0; i < part && !rc; i += entry_sz) {
            symbol = symbol_at(search->elf, data + i);
            rc = match(search, &symbol, names);
        }
    }
    free(data);
    return rc;
}

/* All tables of a type, SHT_x, for the addresses that are left (search->cnt). Returns whether there were any. */
static int search_tables(struct search *search, uint32_t type)
{
    struct ap_elf_block block = {0};
    struct ap_elf_section table, names;
    int rc, any = 0;
    uint32_t i;

    for (i = 0; i < search->elf->sh_cnt; i++) {
        rc = ap_elf_section(search->elf, &block, i, &table);
        if (rc)
            return rc;
        if (table.type != type || !table.sz)
            continue;
        if (!ap_elf_inside(search->elf, table.off, table.sz) || table.link >= search->elf->sh_cnt)
            return -EBADMSG;
        rc = ap_elf_section(search->elf, &block, table.link, &names);
        if (rc)
            return rc;
        if (names.type != SHT_STRTAB || !ap_elf_inside(search->elf, names.off, names.sz))
            return -EBADMSG;
        rc = search_table(search, &table, &names);
        if (rc)
            return rc;
        any = 1;
        break; /* the ABI allows one of each */
    }
    return any;
}

static int answer(const struct ap_elf *elf, const struct query *query, struct ap_variable *ret_variable)
{
    size_t len = query->name.len < AP_VARIABLE_NAME_SZ - 1 ? query->name.len : AP_VARIABLE_NAME_SZ - 1;
    char *version;
    int rc;

    memset(ret_variable, 0, sizeof(*ret_variable));
    if (!query->found)
        return 0;
    rc = ap_elf_read(elf->fd, ret_variable->name, len, query->name.off);
    if (rc)
        return rc;
    version = strchr(ret_variable->name, '@');
    if (version)
        *version = '\0';
    memset(ret_variable->name + strlen(ret_variable->name), 0, sizeof(ret_variable->name) - strlen(ret_variable->name));
    if (ret_variable->name[0])
        ret_variable->off = query->vaddr - query->start;
    return ret_variable->name[0] != '\0';
}

/* Moves the queries that found nothing to the front; both parts stay sorted. */
static uint32_t keep_open(struct query *queries, uint32_t cnt, struct query *room)
{
    uint32_t i, open = 0, done = 0;

    for (i = 0; i < cnt; i++) {
        if (queries[i].found)
            room[done++] = queries[i];
        else
            queries[open++] = queries[i];
    }
    memcpy(queries + open, room, done * sizeof(*room));
    return open;
}

int ap_variables_find(int fd, const uint64_t *vaddrs, uint32_t cnt, struct ap_variable *ret_variables)
{
    struct ap_variable *variables = NULL;
    struct search search;
    struct ap_elf elf;
    int rc, any = 0, found = 0;
    uint32_t i;

    rc = ap_elf_begin(fd, &elf);
    if (rc)
        return rc;
    if (cnt > AP_VARIABLE_ADDRS_MAX)
        return -EFBIG;
    if (!cnt)
        return 0;
    search = (struct search){.elf = &elf, .queries = calloc((size_t)cnt * 2, sizeof(*search.queries)), .cnt = cnt};
    variables = calloc(cnt, sizeof(*variables));
    rc = search.queries && variables ? 0 : -ENOMEM;
    if (!rc) {
        for (i = 0; i < cnt; i++)
            search.queries[i] = (struct query){.vaddr = vaddrs[i], .index = i};
        qsort(search.queries, cnt, sizeof(*search.queries), by_vaddr);
        rc = any = search_tables(&search, SHT_SYMTAB);
    }
    if (rc >= 0) {
        search.cnt = keep_open(search.queries, cnt, search.queries + cnt);
        rc = search_tables(&search, SHT_DYNSYM);
        any |= rc;
    }
    if (rc >= 0 && !any)
        rc = -ENODATA;
    for (i = 0; i < cnt && rc >= 0; i++) {
        rc = answer(&elf, &search.queries[i], &variables[search.queries[i].index]);
        found += rc > 0;
    }
    if (rc >= 0)
        memcpy(ret_variables, variables, cnt * sizeof(*variables));
    free(search.queries);
    free(variables);
    return rc < 0 ? rc : found;
}
