/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/answers.h"

#include "model/locks.h"
#include "model/syscalls.h"
#include "model/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return -ENOMEM;
}

static char *copy(const struct ap_profile *profile, uint32_t id)
{
    return strdup(ap_profile_str(profile, id));
}

int ap_answer_functions(const struct ap_profile *profile, size_t limit, struct ap_functions_answer *ret_answer,
                        struct ap_error *err)
{
    struct ap_functions_answer answer = {.provenance = ret_answer->provenance};
    struct ap_top *top = ap_top_new(profile);
    size_t cnt;

    if (top == NULL)
        return no_memory(err);
    answer.function_total = top->row_cnt;
    cnt = top->row_cnt < limit ? top->row_cnt : limit;
    answer.rows = calloc(cnt + 1, sizeof(*answer.rows));
    for (size_t i = 0; answer.rows != NULL && i < cnt; i++) {
        const struct ap_top_row *from = &top->rows[i];
        struct ap_function_row *row = &answer.rows[answer.row_cnt++];

        *row = (struct ap_function_row){
            .function = copy(profile, from->name),
            .module = copy(profile, from->module),
            .kind = from->kind,
            .self = from->self,
            .total = from->total,
            .self_count = from->self_count,
            .total_count = from->total_count,
        };
        if (row->function == NULL || row->module == NULL)
            break;
    }
    ap_top_free(top);
    if (answer.rows == NULL || (cnt > 0 && (answer.row_cnt < cnt || answer.rows[cnt - 1].function == NULL ||
                                            answer.rows[cnt - 1].module == NULL))) {
        ap_functions_answer_done(&answer);
        return no_memory(err);
    }
    *ret_answer = answer;
    return 0;
}

/* ---- Stacks ---- */

static int compare_leaves(const void *pa, const void *pb, void *ctx)
{
    const struct ap_tree *tree = ctx;
    uint32_t ia = *(const uint32_t *)pa, ib = *(const uint32_t *)pb;
    const struct ap_tree_node *a = &tree->nodes[ia], *b = &tree->nodes[ib];

    if (a->self != b->self)
        return a->self > b->self ? -1 : 1;
    if (a->self_count != b->self_count)
        return a->self_count > b->self_count ? -1 : 1;
    return ia < ib ? -1 : ia > ib;
}

/* Writes the path from below the root down to `node`. */
static int write_stack(const struct ap_tree *tree, uint32_t node, struct ap_stack_row *row)
{
    size_t depth = tree->nodes[node].depth;

    row->count = tree->nodes[node].self_count;
    row->value = tree->nodes[node].self;
    row->functions = calloc(depth + 1, sizeof(*row->functions));
    if (row->functions == NULL)
        return -ENOMEM;
    row->function_cnt = depth;
    for (size_t i = depth; i-- > 0; node = tree->nodes[node].parent) {
        row->functions[i] = copy(tree->profile, tree->nodes[node].name);
        if (row->functions[i] == NULL)
            return -ENOMEM;
    }
    return 0;
}

static int write_stacks(const struct ap_tree *tree, const uint32_t *leaves, size_t cnt, struct ap_stacks_answer *answer,
                        struct ap_error *err)
{
    size_t names = 0;

    answer->rows = calloc(cnt + 1, sizeof(*answer->rows));
    if (answer->rows == NULL)
        return no_memory(err);
    for (size_t i = 0; i < cnt; i++) {
        names += tree->nodes[leaves[i]].depth;
        if (names > AP_ANSWER_NAMES_MAX)
            return ap_error_set(err, -E2BIG, "%zu stacks have more than %u functions: ask for fewer", cnt,
                                AP_ANSWER_NAMES_MAX);
        answer->row_cnt++;
        if (write_stack(tree, leaves[i], &answer->rows[i]) != 0)
            return no_memory(err);
    }
    return 0;
}

int ap_answer_stacks(const struct ap_profile *profile, size_t limit, struct ap_stacks_answer *ret_answer,
                     struct ap_error *err)
{
    struct ap_stacks_answer answer = {.provenance = ret_answer->provenance};
    struct ap_tree *tree = ap_tree_new(profile);
    uint32_t *leaves = tree != NULL ? calloc(tree->node_cnt, sizeof(*leaves)) : NULL;
    uint32_t cnt = 0;
    int r;

    if (leaves == NULL) {
        ap_tree_free(tree);
        return no_memory(err);
    }
    /* A node is its path: where something stopped is where a stack ends. */
    for (uint32_t i = 1; i < tree->node_cnt; i++)
        if (tree->nodes[i].self_count > 0 || tree->nodes[i].self > 0)
            leaves[cnt++] = i;
    if (cnt > 1)
        qsort_r(leaves, cnt, sizeof(*leaves), compare_leaves, tree);
    answer.stack_total = cnt;
    r = write_stacks(tree, leaves, cnt < limit ? cnt : limit, &answer, err);
    free(leaves);
    ap_tree_free(tree);
    if (r != 0) {
        ap_stacks_answer_done(&answer);
        return r;
    }
    *ret_answer = answer;
    return 0;
}

/* ---- Locks ---- */

static int compare_locks(const void *pa, const void *pb, void *ctx)
{
    struct ap_lock_row *const *rows = ctx;
    size_t ia = *(const size_t *)pa, ib = *(const size_t *)pb;
    const struct ap_lock_row *a = rows[ia], *b = rows[ib];

    if (a->total_ns != b->total_ns)
        return a->total_ns > b->total_ns ? -1 : 1;
    return ia < ib ? -1 : ia > ib;
}

/* Places of the first `cnt` rows, in order. The caller's; NULL when out of memory. */
static size_t *order_of(size_t cnt, int (*compare)(const void *, const void *, void *), void *rows)
{
    size_t *order = calloc(cnt + 1, sizeof(*order));

    if (order == NULL)
        return NULL;
    for (size_t i = 0; i < cnt; i++)
        order[i] = i;
    if (cnt > 1)
        qsort_r(order, cnt, sizeof(*order), compare, rows);
    return order;
}

/* The function that most of the time is owed to, of those whose stack is known; "" when none is. */
static const char *top_function(const struct ap_profile *profile, const struct ap_lock_side *sides, uint32_t cnt)
{
    const struct ap_lock_side *top = NULL;
    uint32_t frame;

    for (uint32_t i = 0; i < cnt; i++)
        if (sides[i].stack != AP_LOCK_NO_STACK && (top == NULL || sides[i].total_ns > top->total_ns))
            top = &sides[i];
    frame = top != NULL ? ap_lock_site(profile, top->stack) : 0;
    return ap_profile_str(profile, profile->frames[frame].function);
}

static int write_lock(const struct ap_profile *profile, const struct ap_lock_row *from, struct ap_lock_answer_row *row)
{
    *row = (struct ap_lock_answer_row){
        .host = copy(profile, from->host),
        .comm = copy(profile, from->comm),
        .symbol = copy(profile, from->symbol),
        .type = strdup(ap_lock_type_name(from->type)),
        .top_waiter = strdup(top_function(profile, from->waiters, from->waiter_cnt)),
        .top_waker = strdup(top_function(profile, from->wakers, from->waker_cnt)),
        .pid = from->pid,
        .address = from->address,
        .kernel = from->kernel,
        .waits = from->waits,
        .total_ns = from->total_ns,
        .max_ns = from->max_ns,
        .p50_ns = ap_histogram_quantile(&from->histogram, 0.50, from->max_ns),
        .p95_ns = ap_histogram_quantile(&from->histogram, 0.95, from->max_ns),
        .p99_ns = ap_histogram_quantile(&from->histogram, 0.99, from->max_ns),
        .timeouts = from->timeouts,
    };
    return row->host != NULL && row->comm != NULL && row->symbol != NULL && row->type != NULL &&
                   row->top_waiter != NULL && row->top_waker != NULL
               ? 0
               : -ENOMEM;
}

int ap_answer_locks(const struct ap_profile *profile, size_t limit, struct ap_lock_answer_row **ret_rows,
                    size_t *ret_cnt, struct ap_error *err)
{
    const struct ap_locks *locks = profile->locks;
    struct ap_aggregate_answer answer = {0}; /* knows how to free rows */
    size_t cnt = locks != NULL ? locks->row_cnt : 0;
    size_t *order = cnt > 0 ? order_of(cnt, compare_locks, (void *)locks->rows) : NULL;

    if (cnt > 0 && order == NULL)
        return no_memory(err);
    if (cnt > limit)
        cnt = limit;
    answer.locks = calloc(cnt + 1, sizeof(*answer.locks));
    for (size_t i = 0; answer.locks != NULL && i < cnt; i++) {
        answer.lock_cnt++;
        if (write_lock(profile, locks->rows[order[i]], &answer.locks[i]) != 0) {
            ap_aggregate_answer_done(&answer);
            break;
        }
    }
    free(order);
    if (answer.locks == NULL)
        return no_memory(err);
    *ret_rows = answer.locks;
    *ret_cnt = answer.lock_cnt;
    return 0;
}

/* ---- System calls ---- */

static int compare_syscalls(const void *pa, const void *pb, void *ctx)
{
    struct ap_syscall_row *const *rows = ctx;
    size_t ia = *(const size_t *)pa, ib = *(const size_t *)pb;
    const struct ap_syscall_row *a = rows[ia], *b = rows[ib];

    if (a->total_ns != b->total_ns)
        return a->total_ns > b->total_ns ? -1 : 1;
    return ia < ib ? -1 : ia > ib;
}

/* `buf`: AP_SYSCALL_NAME_SZ bytes. */
static const char *syscall_name(const struct ap_profile *profile, const struct ap_syscall_row *row, char *buf)
{
    return row->name != 0 ? ap_profile_str(profile, row->name) : ap_syscall_name(row->abi, row->number, buf);
}

static int write_syscall(const struct ap_profile *profile, const struct ap_syscall_row *from,
                         struct ap_syscall_answer_row *row)
{
    char buf[AP_SYSCALL_NAME_SZ];

    *row = (struct ap_syscall_answer_row){
        .host = copy(profile, from->host),
        .comm = copy(profile, from->comm),
        .name = strdup(syscall_name(profile, from, buf)),
        .pid = from->pid,
        .number = from->number,
        .count = from->count,
        .errors = ap_syscall_row_failed(from),
        .total_ns = from->total_ns,
        .max_ns = from->max_ns,
        .p50_ns = ap_histogram_quantile(&from->histogram, 0.50, from->max_ns),
        .p95_ns = ap_histogram_quantile(&from->histogram, 0.95, from->max_ns),
        .p99_ns = ap_histogram_quantile(&from->histogram, 0.99, from->max_ns),
    };
    return row->host != NULL && row->comm != NULL && row->name != NULL ? 0 : -ENOMEM;
}

int ap_answer_syscalls(const struct ap_profile *profile, size_t limit, struct ap_syscall_answer_row **ret_rows,
                       size_t *ret_cnt, struct ap_error *err)
{
    const struct ap_syscalls *syscalls = profile->syscalls;
    struct ap_aggregate_answer answer = {0};
    size_t cnt = syscalls != NULL ? syscalls->row_cnt : 0;
    size_t *order = cnt > 0 ? order_of(cnt, compare_syscalls, (void *)syscalls->rows) : NULL;

    if (cnt > 0 && order == NULL)
        return no_memory(err);
    if (cnt > limit)
        cnt = limit;
    answer.syscalls = calloc(cnt + 1, sizeof(*answer.syscalls));
    for (size_t i = 0; answer.syscalls != NULL && i < cnt; i++) {
        answer.syscall_cnt++;
        if (write_syscall(profile, syscalls->rows[order[i]], &answer.syscalls[i]) != 0) {
            ap_aggregate_answer_done(&answer);
            break;
        }
    }
    free(order);
    if (answer.syscalls == NULL)
        return no_memory(err);
    *ret_rows = answer.syscalls;
    *ret_cnt = answer.syscall_cnt;
    return 0;
}

/* ---- Filter ---- */

/* What the model asks back about each row. */
struct asked {
    const struct ap_profile *profile;
    struct ap_filter *filter;
    struct ap_error *err;
    int error; /* first failure; everything stays from then on */
};

static bool sides_fit(struct asked *asked, const struct ap_lock_side *sides, uint32_t cnt)
{
    for (uint32_t i = 0; i < cnt && asked->error == 0; i++) {
        int r = sides[i].stack != AP_LOCK_NO_STACK
                    ? ap_filter_stack(asked->filter, asked->profile, sides[i].stack, asked->err)
                    : 0;

        if (r < 0)
            asked->error = r;
        if (r != 0)
            return true;
    }
    return asked->error != 0;
}

static bool lock_fits(void *ctx, const struct ap_lock_row *row)
{
    return sides_fit(ctx, row->waiters, row->waiter_cnt) || sides_fit(ctx, row->wakers, row->waker_cnt);
}

static bool syscall_fits(void *ctx, const struct ap_syscall_row *row)
{
    struct asked *asked = ctx;
    char buf[AP_SYSCALL_NAME_SZ];
    int r;

    if (asked->error != 0)
        return true;
    r = ap_filter_text(asked->filter, syscall_name(asked->profile, row, buf), asked->err);
    if (r < 0)
        asked->error = r;
    return r != 0;
}

int ap_answer_filter_tables(struct ap_profile *profile, struct ap_filter *filter, struct ap_error *err)
{
    struct asked asked = {.profile = profile, .filter = filter, .err = err};

    if (filter == NULL)
        return 0;
    if (profile->locks != NULL)
        ap_locks_keep(profile->locks, lock_fits, &asked);
    if (profile->syscalls != NULL)
        ap_syscalls_keep(profile->syscalls, syscall_fits, &asked);
    return asked.error;
}
