/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/gather.h"

#include "query/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum verdict { UNKNOWN = 0, NO = 1, YES = 2 };

struct ap_filter {
    char *contains;         /* owned; or */
    struct ap_regex *regex; /* owned */
    const struct ap_profile *profile;
    uint8_t *verdicts; /* by string id: enum verdict */
    size_t verdict_cnt;
};

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

int ap_filter_new(const struct ap_selector *selector, struct ap_filter **ret_filter, struct ap_error *err)
{
    struct ap_error own;
    struct ap_filter *filter;

    if (err == NULL)
        err = &own;
    if (selector->function == NULL || selector->function[0] == '\0') {
        *ret_filter = NULL;
        return 0;
    }
    filter = calloc(1, sizeof(*filter));
    if (filter == NULL)
        return no_memory(err);
    if (selector->function_regex) {
        filter->regex = ap_regex_new(selector->function, false, err);
        if (filter->regex == NULL) {
            ap_filter_free(filter);
            return err->code;
        }
    } else {
        filter->contains = strdup(selector->function);
        if (filter->contains == NULL) {
            ap_filter_free(filter);
            return no_memory(err);
        }
    }
    *ret_filter = filter;
    return 0;
}

struct ap_filter *ap_filter_free(struct ap_filter *filter)
{
    if (filter == NULL)
        return NULL;
    free(filter->contains);
    ap_regex_free(filter->regex);
    free(filter->verdicts);
    free(filter);
    return NULL;
}

int ap_filter_text(struct ap_filter *filter, const char *text, struct ap_error *err)
{
    if (filter == NULL)
        return 1;
    if (filter->contains != NULL)
        return strstr(text, filter->contains) != NULL;
    return ap_regex_match(filter->regex, text, err);
}

/* Makes room for a verdict on each string; forgets those of another profile. */
static int follow(struct ap_filter *filter, const struct ap_profile *profile)
{
    size_t cnt = ap_strings_count(profile->strings);

    if (filter->profile == profile && cnt <= filter->verdict_cnt)
        return 0;
    uint8_t *verdicts = realloc(filter->verdicts, cnt);
    if (verdicts == NULL)
        return -ENOMEM;
    if (filter->profile != profile)
        filter->verdict_cnt = 0;
    memset(verdicts + filter->verdict_cnt, UNKNOWN, cnt - filter->verdict_cnt);
    filter->verdicts = verdicts;
    filter->verdict_cnt = cnt;
    filter->profile = profile;
    return 0;
}

int ap_filter_stack(struct ap_filter *filter, const struct ap_profile *profile, uint32_t stack, struct ap_error *err)
{
    const struct ap_stack *row = &profile->stacks[stack];

    if (filter == NULL)
        return 1;
    if (follow(filter, profile) != 0)
        return no_memory(err);
    for (uint32_t i = 0; i < row->frame_cnt; i++) {
        const struct ap_frame *frame = &profile->frames[profile->stack_frames[row->first + i]];
        uint8_t *verdict = &filter->verdicts[frame->function];

        if (frame->kind == AP_FRAME_PROCESS || frame->kind == AP_FRAME_MARK)
            continue;
        if (*verdict == UNKNOWN) {
            int r = ap_filter_text(filter, ap_profile_str(profile, frame->function), err);

            if (r < 0)
                return r;
            *verdict = r == 1 ? YES : NO;
        }
        if (*verdict == YES)
            return 1;
    }
    return 0;
}

/* What stands for stacks that are gone. */
static int not_stored(struct ap_profile *profile, uint32_t *ret_stack, uint32_t *ret_series)
{
    struct ap_frame frame = {.kind = AP_FRAME_MARK, .function = ap_strings_id(profile->strings, AP_NOT_STORED)};
    struct ap_series series = {.comm = ap_strings_id(profile->strings, AP_NOT_STORED_THREAD)};
    uint32_t index;
    int r = ap_profile_add_frame(profile, &frame, &index);

    if (r == 0)
        r = ap_profile_add_stack(profile, &index, 1, false, ret_stack);
    return r != 0 ? r : ap_profile_add_series(profile, &series, ret_series);
}

static int too_big(struct ap_error *err, int r)
{
    if (r == -ENOSPC)
        return ap_error_set(err, -E2BIG, "too much for one answer: narrow the time or the labels");
    return no_memory(err);
}

int ap_gather_stacks(struct ap_query *query, const uint64_t *stacks, size_t cnt, struct ap_filter *filter,
                     struct ap_profile *profile, uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    uint32_t mark_stack = UINT32_MAX, mark_series = UINT32_MAX;
    int r = ap_cache_load(query->cache, stacks, cnt, profile, ret_stack, ret_series, err);

    if (r != 0)
        return r;
    for (size_t i = 0; i < cnt; i++) {
        if (ret_stack[i] == UINT32_MAX) {
            if (filter != NULL) /* its functions are not known: it has none that fits */
                continue;
            r = mark_stack == UINT32_MAX ? not_stored(profile, &mark_stack, &mark_series) : 0;
            if (r != 0)
                return too_big(err, r);
            ret_stack[i] = mark_stack;
            ret_series[i] = mark_series;
            continue;
        }
        r = ap_filter_stack(filter, profile, ret_stack[i], err);
        if (r < 0)
            return r;
        if (r == 0)
            ret_stack[i] = UINT32_MAX;
    }
    return 0;
}

/* Sums by stack with the places of their stacks in a profile. */
struct gathered {
    struct ap_stack_sums sums;
    uint32_t *stack, *series;
};

static void gathered_done(struct gathered *gathered)
{
    ap_stack_sums_done(&gathered->sums);
    free(gathered->stack);
    free(gathered->series);
}

static int gather(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
                  struct ap_profile *profile, struct gathered *ret_gathered, struct ap_error *err)
{
    struct gathered gathered = {0};
    int r = ap_storage_stacks(query->storage, scope, &gathered.sums, err);

    if (r != 0)
        return r;
    gathered.stack = calloc(gathered.sums.cnt + 1, sizeof(*gathered.stack));
    gathered.series = calloc(gathered.sums.cnt + 1, sizeof(*gathered.series));
    if (gathered.stack == NULL || gathered.series == NULL)
        r = no_memory(err);
    else
        r = ap_gather_stacks(query, gathered.sums.stacks, gathered.sums.cnt, filter, profile, gathered.stack,
                             gathered.series, err);
    if (r != 0) {
        gathered_done(&gathered);
        return r;
    }
    *ret_gathered = gathered;
    return 0;
}

int ap_gather(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
              struct ap_profile *profile, const char **ret_source, struct ap_error *err)
{
    struct gathered gathered;
    int r = gather(query, scope, filter, profile, &gathered, err);

    if (r != 0)
        return r;
    for (size_t i = 0; r == 0 && i < gathered.sums.cnt; i++)
        if (gathered.stack[i] != UINT32_MAX)
            r = ap_profile_add_sample(profile, gathered.series[i], gathered.stack[i], gathered.sums.counts[i],
                                      gathered.sums.values[i]);
    if (r != 0)
        too_big(err, r);
    else
        *ret_source = gathered.sums.source;
    gathered_done(&gathered);
    return r == -ENOSPC ? -E2BIG : r;
}

int ap_gather_sums(struct ap_query *query, const struct ap_storage_scope *scope, struct ap_filter *filter,
                   struct ap_profile *scratch, uint64_t *ret_count, uint64_t *ret_value, struct ap_error *err)
{
    struct gathered gathered;
    uint64_t count = 0, value = 0;
    int r = gather(query, scope, filter, scratch, &gathered, err);

    if (r != 0)
        return r;
    for (size_t i = 0; i < gathered.sums.cnt; i++) {
        if (gathered.stack[i] == UINT32_MAX)
            continue;
        count += gathered.sums.counts[i];
        value += gathered.sums.values[i];
    }
    gathered_done(&gathered);
    *ret_count = count;
    *ret_value = value;
    return 0;
}
