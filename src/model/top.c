/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/functions.h"
#include "model/tree.h"

#include <stdlib.h>
#include <string.h>

/* Credits one sample: its leaf with self, every function on the stack once with total. Frames of the waker stand before
 * the leaf of the wait and are passed over. `seen` holds, by function, the stamp of the last sample that met it. */
static void add_sample(struct ap_top_row *rows, const struct ap_functions *functions, uint32_t *seen, uint32_t stamp,
                       const struct ap_profile *profile, const struct ap_sample *sample)
{
    const struct ap_stack *stack = &profile->stacks[sample->stack];
    const uint32_t *frames = &profile->stack_frames[stack->first];
    uint32_t first = 0;

    while (first < stack->frame_cnt && profile->frames[frames[first]].waker)
        first++;
    if (first == stack->frame_cnt) /* nothing but a waker: no wait to credit instead */
        first = 0;
    rows[functions->of_frame[frames[first]]].self += sample->value;
    rows[functions->of_frame[frames[first]]].self_count += sample->count;
    for (uint32_t i = first; i < stack->frame_cnt; i++) {
        uint32_t function = functions->of_frame[frames[i]];

        if (seen[function] == stamp)
            continue;
        seen[function] = stamp;
        rows[function].total += sample->value;
        rows[function].total_count += sample->count;
    }
}

static int compare_rows(const void *pa, const void *pb, void *ctx)
{
    const struct ap_profile *profile = *(const struct ap_profile *const *)ctx;
    const struct ap_top_row *a = pa, *b = pb;
    int order;

    if (a->self != b->self)
        return a->self > b->self ? -1 : 1;
    if (a->total != b->total)
        return a->total > b->total ? -1 : 1;
    if (a->self_count != b->self_count)
        return a->self_count > b->self_count ? -1 : 1;
    if (a->total_count != b->total_count)
        return a->total_count > b->total_count ? -1 : 1;
    order = strcmp(ap_profile_str(profile, a->name), ap_profile_str(profile, b->name));
    if (order == 0)
        order = strcmp(ap_profile_str(profile, a->module), ap_profile_str(profile, b->module));
    return order != 0 ? order : (int)a->kind - (int)b->kind;
}

struct ap_top *ap_top_new(const struct ap_profile *profile)
{
    struct ap_functions functions;
    struct ap_top *top = calloc(1, sizeof(*top));
    uint32_t *seen = NULL;

    if (top == NULL || ap_functions_init(&functions, profile, false) != 0)
        return ap_top_free(top);
    top->rows = calloc(functions.cnt, sizeof(*top->rows));
    seen = calloc(functions.cnt, sizeof(*seen));
    if (top->rows == NULL || seen == NULL) {
        ap_functions_done(&functions);
        free(seen);
        return ap_top_free(top);
    }
    for (uint32_t i = 0; i < functions.cnt; i++) {
        const struct ap_frame *frame = &profile->frames[functions.frame[i]];

        top->rows[i].name = frame->function;
        top->rows[i].module = ap_functions_module(profile, frame);
        top->rows[i].kind = frame->kind;
    }
    for (uint32_t i = 0; i < profile->sample_cnt; i++)
        add_sample(top->rows, &functions, seen, i + 1, profile, &profile->samples[i]);
    /* Functions of frames that no sample uses, such as the zero row, are no rows. */
    for (uint32_t i = 0; i < functions.cnt; i++)
        if (seen[i] != 0)
            top->rows[top->row_cnt++] = top->rows[i];
    ap_functions_done(&functions);
    free(seen);
    qsort_r(top->rows, top->row_cnt, sizeof(*top->rows), compare_rows, &profile);
    return top;
}

struct ap_top *ap_top_free(struct ap_top *top)
{
    if (top != NULL)
        free(top->rows);
    free(top);
    return NULL;
}
