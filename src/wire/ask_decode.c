/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/ask.h"
#include "wire/ask_limits.h"
#include "wire/batch.h"
#include "wire/message.h"

#include "proto/aperture/v1/aggregator.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ap_ask_done(struct ap_ask *ask)
{
    ap_selector_done(&ask->selector);
    *ask = (struct ap_ask){0};
}

void ap_ask_diff_done(struct ap_ask_diff *ask)
{
    ap_selector_done(&ask->before);
    ap_selector_done(&ask->after);
    *ask = (struct ap_ask_diff){0};
}

/* Text for whoever owns an answer. False without memory. */
static bool get_text(const char *from, char **ret)
{
    *ret = strdup(from);
    return *ret != NULL;
}

static int no_memory(struct ap_error *err)
{
    return ap_error_errno(err, -ENOMEM, "an answer");
}

/* `cnt` zeroed rows; NULL for none and without memory. */
static void *new_rows(size_t cnt, size_t size)
{
    return cnt != 0 ? calloc(cnt, size) : NULL;
}

static bool get_kind(int kind, uint8_t *ret, struct ap_error *err)
{
    if (kind < 0 || kind > (int)AP_KIND_GPU) {
        ap_error_set(err, -EINVAL, "there is no kind %d", kind);
        return false;
    }
    *ret = (uint8_t)kind;
    return true;
}

static bool get_frame_kind(int kind, uint8_t *ret, struct ap_error *err)
{
    if (kind < 0 || kind > (int)AP_FRAME_MARK) {
        ap_error_set(err, -EINVAL, "there is no kind of frame %d", kind);
        return false;
    }
    *ret = (uint8_t)kind;
    return true;
}

/* NULL selects all. `ret` is zeroed, and the caller's to free also on failure. */
static int get_selector(const Aperture__V1__Selector *from, struct ap_selector *ret, struct ap_error *err)
{
    if (from == NULL)
        return 0;
    if (!get_kind((int)from->kind, &ret->kind, err))
        return -EINVAL;
    if (from->to_unix_ns != 0 && from->to_unix_ns < from->from_unix_ns)
        return ap_error_set(err, -EINVAL, "the time asked for ends before it begins");
    ret->from_ns = from->from_unix_ns;
    ret->to_ns = from->to_unix_ns;
    for (size_t i = 0; i < from->n_matchers; i++) {
        const Aperture__V1__Matcher *matcher = from->matchers[i];
        int r;

        if ((int)matcher->op < 0 || (int)matcher->op > AP_MATCH_NOT_REGEX)
            return ap_error_set(err, -EINVAL, "label %s: there is no comparison %d", matcher->label, (int)matcher->op);
        r = ap_selector_match(ret, matcher->label, (uint8_t)matcher->op, matcher->value, err);
        if (r != 0)
            return r;
    }
    return ap_selector_function(ret, from->function, from->function_regex, err);
}

int ap_wire_ask_decode(const void *data, size_t len, struct ap_ask *ret, struct ap_error *err)
{
    const Aperture__V1__AggregateRequest *message;
    struct ap_error unread;
    struct ap_ask ask = {0};
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ASK_SZ);
    message = ap_message_unpack(&aperture__v1__aggregate_request__descriptor, data, len, "the question", &arena, err);
    r = message != NULL ? get_selector(message->selector, &ask.selector, err) : err->code;
    if (r == 0 && message != NULL) {
        ask.limit = message->limit;
        ask.max_nodes = message->max_nodes;
        *ret = ask;
    } else {
        ap_ask_done(&ask);
    }
    ap_arena_done(&arena);
    return r;
}

int ap_wire_ask_diff_decode(const void *data, size_t len, struct ap_ask_diff *ret, struct ap_error *err)
{
    const Aperture__V1__DiffRequest *message;
    struct ap_ask_diff ask = {0};
    struct ap_error unread;
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ASK_SZ);
    message = ap_message_unpack(&aperture__v1__diff_request__descriptor, data, len, "the question", &arena, err);
    r = message != NULL ? get_selector(message->before, &ask.before, err) : err->code;
    if (r == 0 && message != NULL)
        r = get_selector(message->after, &ask.after, err);
    if (r == 0 && message != NULL) {
        ask.limit = message->limit;
        *ret = ask;
    } else {
        ap_ask_diff_done(&ask);
    }
    ap_arena_done(&arena);
    return r;
}

/* One of the sources there are: the text is static. */
static const char *source_name(const char *name)
{
    static const char *const names[] = {"", "raw", "1m", "1h", "memory"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return names[i];
    return "unknown";
}

static int get_provenance(const Aperture__V1__Provenance *from, struct ap_provenance *ret, struct ap_error *err)
{
    ret->source = "";
    if (from == NULL)
        return 0;
    ret->samples = from->samples;
    ret->value = from->value;
    ret->newest_ns = from->newest_unix_ns;
    ret->batches = from->batches;
    ret->source = source_name(from->source);
    return ap_batch_get_account(from->account, &ret->account, err);
}

static int get_batch_row(const Aperture__V1__BatchRow *from, struct ap_batch_row *ret, struct ap_error *err)
{
    ret->epoch = from->epoch;
    ret->sequence = from->sequence;
    ret->start_ns = from->start_unix_ns;
    ret->duration_ns = from->duration_ns;
    ret->received_ns = from->received_unix_ns;
    ret->bytes = from->bytes;
    if (from->n_labels > AP_PUSH_LABELS_MAX || from->n_kinds > AP_CAPTURE_PROFILES_MAX)
        return ap_error_set(err, -E2BIG, "a batch with %zu labels and %zu kinds", from->n_labels, from->n_kinds);
    ret->labels = new_rows(from->n_labels, sizeof(*ret->labels));
    if (!get_text(from->agent_id, &ret->agent_id) || (from->n_labels != 0 && ret->labels == NULL))
        return no_memory(err);
    for (size_t i = 0; i < from->n_labels; i++) {
        ret->label_cnt++;
        if (!get_text(from->labels[i]->name, &ret->labels[i].name) ||
            !get_text(from->labels[i]->value, &ret->labels[i].value))
            return no_memory(err);
    }
    for (size_t i = 0; i < from->n_kinds; i++) {
        struct ap_kind_count *kind = &ret->kinds[i];

        if (!get_kind((int)from->kinds[i]->kind, &kind->kind, err))
            return -EINVAL;
        kind->events = from->kinds[i]->events;
        kind->value = from->kinds[i]->value;
        kind->lost = from->kinds[i]->lost;
        ret->kind_cnt++;
    }
    return 0;
}

static int get_batches(const Aperture__V1__QueryResponse *from, struct ap_batches_answer *ret, struct ap_error *err)
{
    int r = 0;

    ret->dropped = from->dropped;
    ret->rows = new_rows(from->n_batches, sizeof(*ret->rows));
    if (from->n_batches != 0 && ret->rows == NULL)
        return no_memory(err);
    for (size_t i = 0; r == 0 && i < from->n_batches; i++) {
        ret->row_cnt++;
        r = get_batch_row(from->batches[i], &ret->rows[i], err);
    }
    return r;
}

int ap_wire_batches_decode(const void *data, size_t len, struct ap_batches_answer *ret, struct ap_error *err)
{
    const Aperture__V1__QueryResponse *message;
    struct ap_batches_answer answer = {0};
    struct ap_error unread;
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ANSWER_SZ);
    message = ap_message_unpack(&aperture__v1__query_response__descriptor, data, len, "the answer", &arena, err);
    r = message != NULL ? get_batches(message, &answer, err) : err->code;
    if (r == 0)
        *ret = answer;
    else
        ap_batches_answer_done(&answer);
    ap_arena_done(&arena);
    return r;
}

static int get_texts(char *const *from, size_t cnt, char ***ret, size_t *ret_cnt)
{
    char **texts = new_rows(cnt, sizeof(char *));

    if (cnt != 0 && texts == NULL)
        return -ENOMEM;
    *ret = texts;
    for (size_t i = 0; i < cnt; i++) {
        ++*ret_cnt;
        if (!get_text(from[i], &texts[i]))
            return -ENOMEM;
    }
    return 0;
}

static int get_stacks(const Aperture__V1__QueryStorageResponse *from, struct ap_stacks_answer *ret,
                      struct ap_error *err)
{
    ret->stack_total = from->stack_total;
    ret->rows = new_rows(from->n_stacks, sizeof(*ret->rows));
    if (from->n_stacks != 0 && ret->rows == NULL)
        return no_memory(err);
    for (size_t i = 0; i < from->n_stacks; i++) {
        const Aperture__V1__StackRow *row = from->stacks[i];

        ret->row_cnt++;
        ret->rows[i].count = row->count;
        ret->rows[i].value = row->value;
        if (get_texts(row->functions, row->n_functions, &ret->rows[i].functions, &ret->rows[i].function_cnt) != 0)
            return no_memory(err);
    }
    return get_provenance(from->provenance, &ret->provenance, err);
}

int ap_wire_stacks_decode(const void *data, size_t len, struct ap_stacks_answer *ret, struct ap_error *err)
{
    const Aperture__V1__QueryStorageResponse *message;
    struct ap_stacks_answer answer = {0};
    struct ap_error unread;
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ANSWER_SZ);
    message =
        ap_message_unpack(&aperture__v1__query_storage_response__descriptor, data, len, "the answer", &arena, err);
    r = message != NULL ? get_stacks(message, &answer, err) : err->code;
    if (r == 0)
        *ret = answer;
    else
        ap_stacks_answer_done(&answer);
    ap_arena_done(&arena);
    return r;
}

static int get_functions(const Aperture__V1__AggregateResponse *from, struct ap_functions_answer *ret,
                         struct ap_error *err)
{
    ret->function_total = from->function_total;
    ret->rows = new_rows(from->n_functions, sizeof(*ret->rows));
    if (from->n_functions != 0 && ret->rows == NULL)
        return no_memory(err);
    for (size_t i = 0; i < from->n_functions; i++) {
        const Aperture__V1__FunctionRow *row = from->functions[i];
        struct ap_function_row *to = &ret->rows[i];

        ret->row_cnt++;
        if (!get_frame_kind((int)row->kind, &to->kind, err))
            return -EINVAL;
        to->self = row->self;
        to->total = row->total;
        to->self_count = row->self_count;
        to->total_count = row->total_count;
        if (!get_text(row->function, &to->function) || !get_text(row->module, &to->module))
            return no_memory(err);
    }
    return get_provenance(from->provenance, &ret->provenance, err);
}

static int get_node(const Aperture__V1__Tree *from, size_t i, struct ap_answer_node *ret, struct ap_error *err)
{
    if (from->name[i] >= from->n_strings || from->module[i] >= from->n_strings || from->file[i] >= from->n_strings)
        return ap_error_set(err, -EINVAL, "node %zu: there is no such string", i);
    if (i != 0 && from->parent[i] >= i)
        return ap_error_set(err, -EINVAL, "node %zu: its parent %u does not come before it", i, from->parent[i]);
    if (from->flags[i] > (AP_NODE_INLINED | AP_NODE_WAKER | AP_NODE_TRUNCATED) || from->kind[i] > AP_FRAME_MARK)
        return ap_error_set(err, -EINVAL, "node %zu: kind %u and flags %u are unknown", i, from->kind[i],
                            from->flags[i]);
    *ret = (struct ap_answer_node){
        .parent = i != 0 ? from->parent[i] : 0,
        .name = from->name[i],
        .module = from->module[i],
        .file = from->file[i],
        .line = from->line[i],
        .kind = (uint8_t)from->kind[i],
        .inlined = (from->flags[i] & AP_NODE_INLINED) != 0,
        .waker = (from->flags[i] & AP_NODE_WAKER) != 0,
        .truncated = (from->flags[i] & AP_NODE_TRUNCATED) != 0,
        .value = from->value[i],
        .self = from->self[i],
        .count = from->count[i],
    };
    return 0;
}

static int get_tree(const Aperture__V1__Tree *from, struct ap_tree_answer *ret, struct ap_error *err)
{
    size_t cnt = from != NULL ? from->n_parent : 0;
    int r = 0;

    if (from == NULL)
        return 0;
    if (from->n_name != cnt || from->n_module != cnt || from->n_file != cnt || from->n_line != cnt ||
        from->n_kind != cnt || from->n_flags != cnt || from->n_value != cnt || from->n_self != cnt ||
        from->n_count != cnt)
        return ap_error_set(err, -EINVAL, "the tree has columns of different length");
    if (cnt > UINT32_MAX)
        return ap_error_set(err, -E2BIG, "a tree of %zu nodes", cnt);
    ret->nodes = new_rows(cnt, sizeof(*ret->nodes));
    if ((cnt != 0 && ret->nodes == NULL) ||
        get_texts(from->strings, from->n_strings, &ret->strings, &ret->string_cnt) != 0)
        return no_memory(err);
    for (size_t i = 0; r == 0 && i < cnt; i++)
        r = get_node(from, i, &ret->nodes[i], err);
    ret->node_cnt = cnt;
    return r;
}

static int get_locks(const Aperture__V1__AggregateResponse *from, struct ap_aggregate_answer *ret, struct ap_error *err)
{
    ret->locks = new_rows(from->n_locks, sizeof(*ret->locks));
    if (from->n_locks != 0 && ret->locks == NULL)
        return no_memory(err);
    for (size_t i = 0; i < from->n_locks; i++) {
        const Aperture__V1__LockRow *row = from->locks[i];
        struct ap_lock_answer_row *to = &ret->locks[i];

        ret->lock_cnt++;
        to->pid = row->pid;
        to->address = row->address;
        to->kernel = row->kernel;
        to->waits = row->waits;
        to->total_ns = row->total_ns;
        to->max_ns = row->max_ns;
        to->p50_ns = row->p50_ns;
        to->p95_ns = row->p95_ns;
        to->p99_ns = row->p99_ns;
        to->timeouts = row->timeouts;
        if (!get_text(row->host, &to->host) || !get_text(row->comm, &to->comm) || !get_text(row->symbol, &to->symbol) ||
            !get_text(row->type, &to->type) || !get_text(row->top_waiter, &to->top_waiter) ||
            !get_text(row->top_waker, &to->top_waker))
            return no_memory(err);
    }
    return 0;
}

static int get_syscalls(const Aperture__V1__AggregateResponse *from, struct ap_aggregate_answer *ret,
                        struct ap_error *err)
{
    ret->syscalls = new_rows(from->n_syscalls, sizeof(*ret->syscalls));
    if (from->n_syscalls != 0 && ret->syscalls == NULL)
        return no_memory(err);
    for (size_t i = 0; i < from->n_syscalls; i++) {
        const Aperture__V1__SyscallRow *row = from->syscalls[i];
        struct ap_syscall_answer_row *to = &ret->syscalls[i];

        ret->syscall_cnt++;
        to->pid = row->pid;
        to->number = row->number;
        to->count = row->count;
        to->errors = row->errors;
        to->total_ns = row->total_ns;
        to->max_ns = row->max_ns;
        to->p50_ns = row->p50_ns;
        to->p95_ns = row->p95_ns;
        to->p99_ns = row->p99_ns;
        if (!get_text(row->host, &to->host) || !get_text(row->comm, &to->comm) || !get_text(row->name, &to->name))
            return no_memory(err);
    }
    return 0;
}

static int get_aggregate(const Aperture__V1__AggregateResponse *from, struct ap_aggregate_answer *ret,
                         struct ap_error *err)
{
    int r = get_functions(from, &ret->functions, err);

    if (r == 0)
        r = get_tree(from->tree, &ret->tree, err);
    if (r == 0)
        r = get_locks(from, ret, err);
    if (r == 0)
        r = get_syscalls(from, ret, err);
    ret->tree.provenance = ret->functions.provenance;
    return r;
}

int ap_wire_aggregate_decode(const void *data, size_t len, struct ap_aggregate_answer *ret, struct ap_error *err)
{
    const Aperture__V1__AggregateResponse *message;
    struct ap_aggregate_answer answer = {0};
    struct ap_error unread;
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ANSWER_SZ);
    message = ap_message_unpack(&aperture__v1__aggregate_response__descriptor, data, len, "the answer", &arena, err);
    r = message != NULL ? get_aggregate(message, &answer, err) : err->code;
    if (r == 0)
        *ret = answer;
    else
        ap_aggregate_answer_done(&answer);
    ap_arena_done(&arena);
    return r;
}

/* Shares and chances; what is no number compares false. */
static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static int get_diff(const Aperture__V1__DiffResponse *from, struct ap_diff_answer *ret, struct ap_error *err)
{
    int r;

    ret->rows = new_rows(from->n_functions, sizeof(*ret->rows));
    if (from->n_functions != 0 && ret->rows == NULL)
        return no_memory(err);
    for (size_t i = 0; i < from->n_functions; i++) {
        const Aperture__V1__FunctionChange *row = from->functions[i];
        struct ap_function_change *to = &ret->rows[i];

        ret->row_cnt++;
        if (!get_frame_kind((int)row->kind, &to->kind, err))
            return -EINVAL;
        if (!within(row->self_change, -1, 1) || !within(row->total_change, -1, 1) || !within(row->p_value, 0, 1))
            return ap_error_set(err, -EINVAL, "function %zu: a change or a chance that cannot be", i);
        to->self_before = row->self_before;
        to->self_after = row->self_after;
        to->total_before = row->total_before;
        to->total_after = row->total_after;
        to->self_change = row->self_change;
        to->total_change = row->total_change;
        to->p_value = row->p_value;
        to->significant = row->significant;
        if (!get_text(row->function, &to->function) || !get_text(row->module, &to->module))
            return no_memory(err);
    }
    r = get_provenance(from->before, &ret->before, err);
    return r == 0 ? get_provenance(from->after, &ret->after, err) : r;
}

int ap_wire_diff_decode(const void *data, size_t len, struct ap_diff_answer *ret, struct ap_error *err)
{
    const Aperture__V1__DiffResponse *message;
    struct ap_diff_answer answer = {0};
    struct ap_error unread;
    struct ap_arena arena;
    int r;

    if (err == NULL)
        err = &unread;
    ap_arena_init(&arena, AP_ANSWER_SZ);
    message = ap_message_unpack(&aperture__v1__diff_response__descriptor, data, len, "the answer", &arena, err);
    r = message != NULL ? get_diff(message, &answer, err) : err->code;
    if (r == 0)
        *ret = answer;
    else
        ap_diff_answer_done(&answer);
    ap_arena_done(&arena);
    return r;
}
