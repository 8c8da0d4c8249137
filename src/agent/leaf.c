/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/leaf.h"

#include <string.h>

struct lookup {
    struct ap_processes *processes;
    struct ap_process *process;
};

static const struct ap_unwind_table *table_at(void *ctx, uint64_t addr, uint64_t *ret_file_off)
{
    struct lookup *lookup = ctx;

    return ap_process_unwind(lookup->processes, lookup->process, addr, ret_file_off);
}

/* How many of the chain's addresses the walk found too. Frame pointers only leave callers out, so those that both know
 * come in the same order. */
static uint32_t common(const uint64_t *walked, uint32_t walked_cnt, const uint64_t *chain, uint32_t chain_cnt)
{
    uint32_t matched = 0, i;

    for (i = 0; i < walked_cnt && matched < chain_cnt; i++)
        matched += walked[i] == chain[matched];
    return matched;
}

uint32_t ap_leaf_repair(struct ap_processes *processes, struct ap_process *process, struct ap_unwind_cache *cache,
                        const struct ap_record *record, uint64_t *ret_addrs, bool *ret_cut)
{
    const uint64_t *chain = (const uint64_t *)(record + 1) + record->kernel_cnt, *words = chain + record->user_cnt;
    struct lookup lookup = {processes, process};
    struct ap_unwind_result walk = {0};
    uint32_t cnt = record->user_cnt, known = 0;

    *ret_cut = false;
    if (process && record->word_cnt && cnt) {
        const struct ap_unwind_leaf leaf = {.ip = chain[0],
                                            .sp = record->sp,
                                            .bp = record->bp,
                                            .words = words,
                                            .word_cnt = record->word_cnt,
                                            .until_bp = UINT64_MAX,
                                            .cache = cache};

        ap_unwind_leaf(&leaf, table_at, &lookup, ret_addrs, AP_STACK_WORDS_MAX, &walk);
        known = common(ret_addrs, walk.cnt, chain, cnt);
    }
    if (walk.cnt <= 1) {
        memcpy(ret_addrs, chain, cnt * sizeof(*chain));
        return cnt;
    }
    if (walk.end == AP_UNWIND_OUTERMOST)
        return walk.cnt;
    /* what is left of the chain lies further out, unless it never was one: then the walk met nothing of it */
    if (known <= 1 && !(walk.bp_known && walk.bp == record->fp)) {
        *ret_cut = true;
        return walk.cnt;
    }
    memcpy(ret_addrs + walk.cnt, chain + known, (cnt - known) * sizeof(*chain));
    return walk.cnt + cnt - known;
}
