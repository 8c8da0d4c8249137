/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/kallsyms.h"

#include "core/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KALLSYMS_PATH "/proc/kallsyms"

struct symbol {
    uint64_t addr;
    uint32_t name; /* offset in the names */
    char type;     /* as nm(1) has it, lower case */
};

struct ap_kallsyms {
    struct symbol *symbols; /* by address */
    size_t cnt, cap;
    struct ap_buf names;
};

static int add(struct ap_kallsyms *kallsyms, uint64_t addr, char type, const char *name, size_t name_len)
{
    struct symbol *symbols;
    size_t cap;

    if (kallsyms->cnt == kallsyms->cap) {
        cap = kallsyms->cap ? kallsyms->cap * 2 : 65536;
        symbols = cap > AP_KALLSYMS_MAX ? NULL : reallocarray(kallsyms->symbols, cap, sizeof(*symbols));
        if (!symbols)
            return cap > AP_KALLSYMS_MAX ? -ENOSPC : -ENOMEM;
        kallsyms->symbols = symbols;
        kallsyms->cap = cap;
    }
    kallsyms->symbols[kallsyms->cnt++] = (struct symbol){addr, (uint32_t)kallsyms->names.len, type};
    ap_buf_append(&kallsyms->names, name, name_len);
    return ap_buf_append(&kallsyms->names, "", 1);
}

/* "ffffffff81000000 T name" and, of modules, "\t[module]" behind. Lines of another form are skipped. */
static int add_line(struct ap_kallsyms *kallsyms, const char *line)
{
    uint64_t addr;
    char *end;

    addr = strtoull(line, &end, 16);
    if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ' || !addr)
        return 0;
    return add(kallsyms, addr, (char)(end[1] | 0x20), end + 3, strcspn(end + 3, "\t\n"));
}

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    if (x->addr != y->addr)
        return x->addr < y->addr ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name; /* as they came */
}

int ap_kallsyms_new(const char *path, struct ap_kallsyms **ret_kallsyms)
{
    struct ap_kallsyms *kallsyms = calloc(1, sizeof(*kallsyms));
    FILE *file = fopen(path ? path : KALLSYMS_PATH, "re");
    size_t line_sz = 0;
    char *line = NULL;
    int rc = 0;

    if (!kallsyms || !file) {
        rc = kallsyms ? -errno : -ENOMEM;
        if (file)
            fclose(file);
        free(kallsyms);
        return rc;
    }
    ap_buf_init(&kallsyms->names, AP_KALLSYMS_NAMES_SZ);
    while (!rc && getline(&line, &line_sz, file) > 0)
        rc = add_line(kallsyms, line);
    if (rc == -ENOSPC)
        rc = 0; /* what is past the bound is not found */
    if (!rc && ferror(file))
        rc = -EIO;
    if (!rc && !kallsyms->cnt)
        rc = -EPERM;
    free(line);
    fclose(file);
    if (rc) {
        ap_kallsyms_free(kallsyms);
        return rc;
    }
    qsort(kallsyms->symbols, kallsyms->cnt, sizeof(*kallsyms->symbols), by_address);
    *ret_kallsyms = kallsyms;
    return 0;
}

struct ap_kallsyms *ap_kallsyms_free(struct ap_kallsyms *kallsyms)
{
    if (!kallsyms)
        return NULL;
    free(kallsyms->symbols);
    ap_buf_done(&kallsyms->names);
    free(kallsyms);
    return NULL;
}

static const char *name_of(const struct ap_kallsyms *kallsyms, size_t i)
{
    return kallsyms->names.data + kallsyms->symbols[i].name;
}

bool ap_kallsyms_function(const struct ap_kallsyms *kallsyms, const char *name, uint64_t *ret_start, uint64_t *ret_end)
{
    size_t i, next;

    for (i = 0; i < kallsyms->cnt; i++) {
        if (kallsyms->symbols[i].type != 't' || strcmp(name_of(kallsyms, i), name))
            continue;
        for (next = i + 1; next < kallsyms->cnt; next++) {
            if (kallsyms->symbols[next].addr > kallsyms->symbols[i].addr) {
                *ret_start = kallsyms->symbols[i].addr;
                *ret_end = kallsyms->symbols[next].addr;
                return true;
            }
        }
    }
    return false;
}

const char *ap_kallsyms_variable(const struct ap_kallsyms *kallsyms, uint64_t addr, uint64_t *ret_off)
{
    size_t low = 0, high = kallsyms->cnt, mid;
    const struct symbol *symbol;

    while (low < high) { /* first symbol behind `addr` */
        mid = low + (high - low) / 2;
        if (kallsyms->symbols[mid].addr <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low)
        return NULL;
    symbol = &kallsyms->symbols[low - 1];
    /* data, bss, read-only data; in the last interval of the image there is no telling where a variable ends */
    if (low == kallsyms->cnt || !strchr("dbrg", symbol->type) || addr - symbol->addr > AP_KALLSYMS_VARIABLE_SZ_MAX)
        return NULL;
    *ret_off = addr - symbol->addr;
    return name_of(kallsyms, low - 1);
}
