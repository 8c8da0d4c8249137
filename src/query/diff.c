/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/diff.h"

#include "model/functions.h"
#include "query/scope.h"
#include "query/span.h"
#include "query/stat.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE = 0, AFTER = 1, SIDES = 2 };

/* One of the two sides. */
struct side {
    struct ap_scope scope;
    struct ap_filter *filter;
    struct ap_span_parts parts;
    struct ap_stack_sums sums[AP_STAT_PARTS];
    double whole[AP_STAT_PARTS]; /* value of each part */
    uint64_t value, events;      /* of all parts */
    uint32_t *stack, *series;    /* by place in diff.hashes: stack of the profile, UINT32_MAX = does not match */
};

/* A function on one side. */
struct share {
    double self[AP_STAT_PARTS], total[AP_STAT_PARTS];
    uint64_t self_value, total_value, self_events, total_events;
};

struct diff {
    struct ap_query *query;
    struct side sides[SIDES];
    uint64_t *hashes; /* of all stacks of both sides, ascending, each once */
    size_t hash_cnt;
    struct ap_profile *profile;
    struct ap_functions functions;
    struct share *shares; /* by function and side */
    uint32_t *seen;       /* by function: the stamp of the last sum that met it */
    uint32_t stamp;
};

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

/* ---- Sums ---- */

static int load_side(struct diff *diff, struct side *side, const struct ap_selector *selector, size_t *sum_cnt,
                     struct ap_error *err)
{
    struct ap_storage *storage = diff->query->storage;
    int r = ap_filter_new(selector, &side->filter, err);

    if (r == 0)
        r = ap_scope_resolve(storage, selector, &side->scope, err);
    if (r == 0)
        r = ap_span_parts(storage, &side->scope.scope, &side->parts, err);
    for (unsigned i = 0; r == 0 && i < side->parts.cnt; i++) {
        struct ap_storage_scope part = side->scope.scope;

        part.from_ns = side->parts.at[i];
        part.to_ns = side->parts.at[i + 1];
        r = ap_storage_stacks(storage, &part, &side->sums[i], err);
        if (r == 0) {
            *sum_cnt += side->sums[i].cnt;
            if (*sum_cnt > AP_DIFF_SUMS_MAX)
                r = ap_error_set(err, -E2BIG, "too many stacks to compare: narrow the time or the labels");
        }
    }
    return r;
}

static int compare_hashes(const void *pa, const void *pb)
{
    uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

    return a < b ? -1 : a > b;
}

/* Gathers the stacks of all sums, each once. */
static int unite(struct diff *diff, size_t sum_cnt, struct ap_error *err)
{
    uint64_t *hashes = calloc(sum_cnt + 1, sizeof(*hashes));
    size_t cnt = 0, kept = 0;

    if (hashes == NULL)
        return no_memory(err);
    for (unsigned s = 0; s < SIDES; s++) {
        for (unsigned i = 0; i < diff->sides[s].parts.cnt; i++) {
            const struct ap_stack_sums *sums = &diff->sides[s].sums[i];

            if (sums->cnt > 0)
                memcpy(hashes + cnt, sums->stacks, sums->cnt * sizeof(*hashes));
            cnt += sums->cnt;
        }
    }
    if (cnt > 1)
        qsort(hashes, cnt, sizeof(*hashes), compare_hashes);
    for (size_t i = 0; i < cnt; i++)
        if (i == 0 || hashes[i] != hashes[i - 1])
            hashes[kept++] = hashes[i];
    diff->hashes = hashes;
    diff->hash_cnt = kept;
    return 0;
}

/* Loads the stacks, and tells for each side which of them match. */
static int load_stacks(struct diff *diff, uint8_t kind, struct ap_error *err)
{
    int r = 0;

    diff->profile = ap_profile_new(kind);
    if (diff->profile == NULL)
        return no_memory(err);
    for (unsigned s = 0; s < SIDES && r == 0; s++) {
        struct side *side = &diff->sides[s];

        side->stack = calloc(diff->hash_cnt + 1, sizeof(*side->stack));
        side->series = calloc(diff->hash_cnt + 1, sizeof(*side->series));
        if (side->stack == NULL || side->series == NULL)
            return no_memory(err);
        r = ap_gather_stacks(diff->query, diff->hashes, diff->hash_cnt, side->filter, diff->profile, side->stack,
                             side->series, err);
    }
    if (r != 0)
        return r;
    if (ap_functions_init(&diff->functions, diff->profile, false) != 0)
        return no_memory(err);
    if (diff->functions.cnt > AP_DIFF_FUNCTIONS_MAX)
        return ap_error_set(err, -E2BIG, "too many functions to compare: narrow the time or the labels");
    diff->shares = calloc((size_t)diff->functions.cnt * SIDES, sizeof(*diff->shares));
    diff->seen = calloc(diff->functions.cnt, sizeof(*diff->seen));
    return diff->shares != NULL && diff->seen != NULL ? 0 : no_memory(err);
}

/* Credits a sum as ap_top_new() does: the leaf with self, each function on the stack once with total; frames of wakers
 * are passed over. */
static void credit(struct diff *diff, unsigned s, unsigned part, uint32_t stack, uint64_t count, uint64_t value)
{
    const struct ap_profile *profile = diff->profile;
    const struct ap_stack *row = &profile->stacks[stack];
    const uint32_t *frames = &profile->stack_frames[row->first];
    uint32_t first = 0;
    struct share *share;

    while (first < row->frame_cnt && profile->frames[frames[first]].waker)
        first++;
    if (first == row->frame_cnt)
        first = 0;
    share = &diff->shares[(size_t)diff->functions.of_frame[frames[first]] * SIDES + s];
    share->self[part] += (double)value;
    share->self_value += value;
    share->self_events += count;
    diff->stamp++;
    for (uint32_t i = first; i < row->frame_cnt; i++) {
        uint32_t function = diff->functions.of_frame[frames[i]];

        if (diff->seen[function] == diff->stamp)
            continue;
        diff->seen[function] = diff->stamp;
        share = &diff->shares[(size_t)function * SIDES + s];
        share->total[part] += (double)value;
        share->total_value += value;
        share->total_events += count;
    }
}

static void credit_all(struct diff *diff)
{
    for (unsigned s = 0; s < SIDES; s++) {
        struct side *side = &diff->sides[s];

        for (unsigned p = 0; p < side->parts.cnt; p++) {
            const struct ap_stack_sums *sums = &side->sums[p];

            for (size_t i = 0; i < sums->cnt; i++) {
                const uint64_t *place =
                    bsearch(&sums->stacks[i], diff->hashes, diff->hash_cnt, sizeof(*place), compare_hashes);
                uint32_t stack = side->stack[place - diff->hashes];

                if (stack == UINT32_MAX)
                    continue;
                side->whole[p] += (double)sums->values[i];
                side->value += sums->values[i];
                side->events += sums->counts[i];
                credit(diff, s, p, stack, sums->counts[i], sums->values[i]);
            }
        }
    }
}

/* ---- Tests ---- */

/* Parts without any value say nothing: they are left out. */
static double test(const struct diff *diff, const struct share *shares, bool total)
{
    double part[SIDES][AP_STAT_PARTS], whole[SIDES][AP_STAT_PARTS];
    struct ap_stat_side stat[SIDES];

    for (unsigned s = 0; s < SIDES; s++) {
        const struct side *side = &diff->sides[s];
        unsigned cnt = 0;

        for (unsigned p = 0; p < side->parts.cnt; p++) {
            if (!(side->whole[p] > 0))
                continue;
            part[s][cnt] = total ? shares[s].total[p] : shares[s].self[p];
            whole[s][cnt++] = side->whole[p];
        }
        stat[s] = (struct ap_stat_side){
            .part = part[s],
            .whole = whole[s],
            .cnt = cnt,
            .part_events = (double)(total ? shares[s].total_events : shares[s].self_events),
            .whole_events = (double)side->events,
        };
    }
    return ap_stat_compare(&stat[BEFORE], &stat[AFTER]);
}

/* A function with what came of the comparison. */
struct change {
    uint32_t function;
    double self, total, p_value, size;
    bool tested, significant;
};

static double share_of(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0.0;
}

static void compare(const struct diff *diff, uint32_t function, struct change *ret_change)
{
    const struct share *b = &diff->shares[(size_t)function * SIDES + BEFORE];
    const struct share *a = &diff->shares[(size_t)function * SIDES + AFTER];
    uint64_t before = diff->sides[BEFORE].value, after = diff->sides[AFTER].value;
    struct change change = {.function = function, .p_value = 1.0};
    uint64_t self_events = b->self_events + a->self_events, total_events = b->total_events + a->total_events;

    change.self = share_of(a->self_value, after) - share_of(b->self_value, before);
    change.total = share_of(a->total_value, after) - share_of(b->total_value, before);
    change.size = fmax(fabs(change.self), fabs(change.total));
    change.tested = total_events >= AP_DIFF_EVENTS_MIN;
    if (change.tested) {
        change.p_value = test(diff, b, true);
        /* A function that calls nothing, or never is the leaf, is asked one question only. */
        if (self_events >= AP_DIFF_EVENTS_MIN && self_events < total_events)
            change.p_value = fmin(1.0, 2 * fmin(change.p_value, test(diff, b, false)));
    }
    *ret_change = change;
}

struct order {
    const struct diff *diff;
};

static int compare_changes(const void *pa, const void *pb, void *ctx)
{
    const struct diff *diff = ((const struct order *)ctx)->diff;
    const struct change *a = pa, *b = pb;
    const struct ap_frame *fa = &diff->profile->frames[diff->functions.frame[a->function]];
    const struct ap_frame *fb = &diff->profile->frames[diff->functions.frame[b->function]];
    int order;

    if (a->significant != b->significant)
        return a->significant ? -1 : 1;
    if (a->size != b->size)
        return a->size > b->size ? -1 : 1;
    order = strcmp(ap_profile_str(diff->profile, fa->function), ap_profile_str(diff->profile, fb->function));
    if (order == 0)
        order = strcmp(ap_profile_str(diff->profile, ap_functions_module(diff->profile, fa)),
                       ap_profile_str(diff->profile, ap_functions_module(diff->profile, fb)));
    return order != 0 ? order : (int)fa->kind - (int)fb->kind;
}

/* Compares every function that occurs, marks what is significant and puts all in order. The caller's; NULL when out of
 * memory. */
static struct change *compare_all(const struct diff *diff, size_t *ret_cnt)
{
    struct change *changes = calloc((size_t)diff->functions.cnt + 1, sizeof(*changes));
    double *p_values = calloc((size_t)diff->functions.cnt + 1, sizeof(*p_values)), threshold;
    size_t cnt = 0, tested = 0;

    if (changes == NULL || p_values == NULL) {
        free(changes);
        free(p_values);
        return NULL;
    }
    for (uint32_t i = 0; i < diff->functions.cnt; i++) {
        const struct share *share = &diff->shares[(size_t)i * SIDES];

        /* Functions of the other stacks in the profile are no rows. */
        if (share[BEFORE].total_events + share[AFTER].total_events == 0 &&
            share[BEFORE].total_value + share[AFTER].total_value == 0)
            continue;
        compare(diff, i, &changes[cnt]);
        if (changes[cnt].tested)
            p_values[tested++] = changes[cnt].p_value;
        cnt++;
    }
    threshold = ap_stat_threshold(p_values, tested, AP_DIFF_LEVEL);
    for (size_t i = 0; i < cnt; i++)
        changes[i].significant = changes[i].tested && changes[i].p_value <= threshold;
    free(p_values);
    if (cnt > 1)
        qsort_r(changes, cnt, sizeof(*changes), compare_changes, &(struct order){diff});
    *ret_cnt = cnt;
    return changes;
}

/* ---- Answer ---- */

static int write_rows(const struct diff *diff, const struct change *changes, size_t cnt, struct ap_diff_answer *answer)
{
    answer->rows = calloc(cnt + 1, sizeof(*answer->rows));
    if (answer->rows == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < cnt; i++) {
        const struct change *change = &changes[i];
        const struct ap_frame *frame = &diff->profile->frames[diff->functions.frame[change->function]];
        const struct share *share = &diff->shares[(size_t)change->function * SIDES];
        struct ap_function_change *row = &answer->rows[answer->row_cnt++];

        *row = (struct ap_function_change){
            .function = strdup(ap_profile_str(diff->profile, frame->function)),
            .module = strdup(ap_profile_str(diff->profile, ap_functions_module(diff->profile, frame))),
            .kind = frame->kind,
            .self_before = share[BEFORE].self_value,
            .self_after = share[AFTER].self_value,
            .total_before = share[BEFORE].total_value,
            .total_after = share[AFTER].total_value,
            .self_change = change->self,
            .total_change = change->total,
            .p_value = change->p_value,
            .significant = change->significant,
        };
        if (row->function == NULL || row->module == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void write_provenance(const struct side *side, struct ap_provenance *ret_provenance)
{
    ret_provenance->samples = side->events;
    ret_provenance->value = side->value;
    ret_provenance->source = side->sums[0].source;
}

static void diff_done(struct diff *diff)
{
    for (unsigned s = 0; s < SIDES; s++) {
        struct side *side = &diff->sides[s];

        for (unsigned i = 0; i < AP_STAT_PARTS; i++)
            ap_stack_sums_done(&side->sums[i]);
        ap_filter_free(side->filter);
        ap_scope_done(&side->scope);
        free(side->stack);
        free(side->series);
    }
    ap_functions_done(&diff->functions);
    ap_profile_free(diff->profile);
    free(diff->hashes);
    free(diff->shares);
    free(diff->seen);
    free(diff);
}

int ap_diff(struct ap_query *query, const struct ap_selector *before, const struct ap_selector *after, size_t limit,
            struct ap_diff_answer *ret_answer, struct ap_error *err)
{
    struct diff *diff = calloc(1, sizeof(*diff)); /* tens of kB */
    struct ap_diff_answer answer = {0};
    struct change *changes = NULL;
    size_t sum_cnt = 0, cnt = 0;
    int r;

    if (diff == NULL)
        return no_memory(err);
    diff->query = query;
    r = load_side(diff, &diff->sides[BEFORE], before, &sum_cnt, err);
    if (r == 0)
        r = load_side(diff, &diff->sides[AFTER], after, &sum_cnt, err);
    if (r == 0)
        r = unite(diff, sum_cnt, err);
    if (r == 0)
        r = load_stacks(diff, before->kind, err);
    if (r == 0) {
        credit_all(diff);
        changes = compare_all(diff, &cnt);
        r = changes != NULL ? write_rows(diff, changes, cnt < limit ? cnt : limit, &answer) : -ENOMEM;
        if (r != 0)
            no_memory(err);
    }
    if (r == 0) {
        write_provenance(&diff->sides[BEFORE], &answer.before);
        write_provenance(&diff->sides[AFTER], &answer.after);
        *ret_answer = answer;
    } else {
        ap_diff_answer_done(&answer);
    }
    free(changes);
    diff_done(diff);
    return r;
}
