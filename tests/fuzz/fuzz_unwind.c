/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Rules for unwinding, in executable files of profiled processes; the end of the input is also the stack. */
#include "symbol/elf.h"
#include "symbol/unwind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS 64
#define ADDRS 16
#define BASE  0x7f0000000000u /* where the file would be mapped */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static const struct ap_unwind_table *lookup(void *ctx, uint64_t addr, uint64_t *ret_file_off)
{
    *ret_file_off = addr - BASE;
    return addr >= BASE ? ctx : NULL;
}

static void check_rule(const struct ap_unwind_table *table, uint64_t off)
{
    struct ap_unwind_rule rule;
    int rc = ap_unwind_find(table, off, &rule);

    check(rc == 0 || rc == -ENOENT || rc == -ENOTSUP);
    if (rc)
        return;
    check(rule.cfa <= AP_UNWIND_CFA_FRAME && rule.bp <= AP_UNWIND_BP_UNKNOWN && rule.plt_from < 16);
    check(rule.cfa_off >= 0 && rule.cfa_off % 8 == 0 && rule.bp_off % 8 == 0);
}

/* A walk from code at `off` of the file, with the end of the input as stack. */
static void check_walk(struct ap_unwind_table *table, const uint8_t *data, size_t size, uint64_t off, uint64_t until_bp)
{
    uint64_t words[WORDS], addrs[ADDRS];
    struct ap_unwind_leaf leaf = {BASE + off, 4096, 4096 + size % 512, words, 0, until_bp, NULL};
    struct ap_unwind_result result;

    leaf.word_cnt = (uint32_t)(size / sizeof(*words) < WORDS ? size / sizeof(*words) : WORDS);
    memcpy(words, data + size - leaf.word_cnt * sizeof(*words), leaf.word_cnt * sizeof(*words));
    for (uint32_t i = 0; i < leaf.word_cnt; i += 2) /* half of them are code, others may be frames */
        words[i] = BASE + words[i] % (size + 1);
    ap_unwind_leaf(&leaf, lookup, table, addrs, ADDRS, &result);
    check(result.cnt >= 1 && result.cnt <= ADDRS && addrs[0] == leaf.ip);
    check(result.sp >= leaf.sp && result.sp - leaf.sp <= leaf.word_cnt * sizeof(*words));
    check(result.end != AP_UNWIND_AT_FRAME || (result.bp_known && result.bp >= result.sp));
    check(result.end != AP_UNWIND_LIMIT || result.cnt == ADDRS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_unwind_table *table = NULL;
    struct ap_elf_loads loads;
    static int fd = -1; /* one file for all inputs: making one is slow */
    int rc;

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, 0) == 0);
    check(pwrite(fd, data, size, 0) == (ssize_t)size);
    rc = ap_unwind_table_new(fd, &table);
    if (rc) {
        check(rc == -ENOEXEC || rc == -EBADMSG || rc == -EOPNOTSUPP || rc == -ENODATA || rc == -EFBIG);
        check(!table);
        return 0;
    }
    check(ap_unwind_table_rows(table) > 0 && ap_unwind_table_rows(table) <= AP_UNWIND_ROWS_MAX);
    check(ap_unwind_table_memory(table) >= ap_unwind_table_rows(table) * 8);
    check(ap_elf_loads(fd, &loads) == 0);
    for (uint64_t off = 0; off <= size; off += 1 + size / 64) {
        check_rule(table, off);
        check_walk(table, data, size, off, off % 2 ? UINT64_MAX : 0);
    }
    check_rule(table, UINT64_MAX);
    check(!ap_unwind_table_free(table));
    return 0;
}
