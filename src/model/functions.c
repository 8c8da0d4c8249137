/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/functions.h"

#include "model/table.h"

#include <string.h>

static bool function_equal(const struct ap_profile *profile, const struct ap_frame *a, const struct ap_frame *b,
                           bool by_flags)
{
    return a->function == b->function && a->kind == b->kind &&
           ap_functions_module(profile, a) == ap_functions_module(profile, b) &&
           (!by_flags || (a->inlined == b->inlined && a->waker == b->waker));
}

int ap_functions_init(struct ap_functions *functions, const struct ap_profile *profile, bool by_flags)
{
    struct ap_table table = {0};

    *functions = (struct ap_functions){0};
    functions->of_frame = calloc(profile->frame_cnt, sizeof(*functions->of_frame));
    functions->frame = calloc(profile->frame_cnt, sizeof(*functions->frame));
    if (functions->of_frame == NULL || functions->frame == NULL)
        goto no_memory;
    for (uint32_t i = 0; i < profile->frame_cnt; i++) {
        const struct ap_frame *frame = &profile->frames[i];
        uint64_t hash = ap_table_mix((uint64_t)frame->function << 32 | ap_functions_module(profile, frame));
        size_t pos = SIZE_MAX;
        uint32_t function;

        hash ^= (uint64_t)frame->kind << 2;
        if (by_flags)
            hash ^= (uint64_t)frame->waker << 1 | frame->inlined;
        hash = ap_table_mix(hash);
        while ((function = ap_table_next(&table, hash, &pos)) != AP_TABLE_NONE)
            if (function_equal(profile, &profile->frames[functions->frame[function]], frame, by_flags))
                break;
        if (function == AP_TABLE_NONE) {
            if (ap_table_reserve(&table) != 0)
                goto no_memory;
            function = functions->cnt++;
            functions->frame[function] = i;
            ap_table_put(&table, hash, function);
        }
        functions->of_frame[i] = function;
    }
    ap_table_done(&table);
    return 0;

no_memory:
    ap_table_done(&table);
    ap_functions_done(functions);
    return -ENOMEM;
}

void ap_functions_done(struct ap_functions *functions)
{
    free(functions->of_frame);
    free(functions->frame);
    *functions = (struct ap_functions){0};
}
