/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/ask.h"
#include "wire/ask_limits.h"
#include "wire/batch.h"
#include "wire/message.h"

#include "proto/aperture/v1/aggregator.pb-c.h"

#include <errno.h>
#include <string.h>

/* Makes row `i` of a list of messages, initialised; NULL when the arena refuses. */
#define NEW_ROW(arena, list, i, init)                                                                                  \
    __extension__({                                                                                                    \
        (list)[i] = ap_arena_alloc(arena, sizeof(*(list)[i]));                                                         \
        if ((list)[i] != NULL)                                                                                         \
            init((list)[i]);                                                                                           \
        (list)[i];                                                                                                     \
    })

/* Packs what was made in the arena, unless that refused something. */
static int finish(struct ap_arena *arena, const ProtobufCMessage *message, struct ap_buf *ret)
{
    int r = ap_arena_error(arena);

    if (r == 0)
        r = ap_message_pack(message, ret);
    ap_arena_done(arena);
    return r == -E2BIG || r == -ENOSPC ? -ENOMEM : r;
}

static Aperture__V1__Selector *put_selector(struct ap_arena *arena, const struct ap_selector *selector)
{
    Aperture__V1__Selector *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__selector__init(ret);
    ret->kind = (Aperture__V1__Kind)selector->kind;
    ret->from_unix_ns = selector->from_ns;
    ret->to_unix_ns = selector->to_ns;
    AP_COLUMN(arena, ret, matchers, selector->matcher_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < selector->matcher_cnt; i++) {
        Aperture__V1__Matcher *row = NEW_ROW(arena, ret->matchers, i, aperture__v1__matcher__init);

        if (row == NULL)
            return NULL;
        row->label = ap_message_text(arena, selector->matchers[i].label);
        row->op = (Aperture__V1__Matcher__Op)selector->matchers[i].op;
        row->value = ap_message_text(arena, selector->matchers[i].value);
    }
    ret->function = ap_message_text(arena, selector->function);
    ret->function_regex = selector->function != NULL && selector->function_regex;
    return ret;
}

int ap_wire_ask_encode(const struct ap_ask *ask, struct ap_buf *ret)
{
    Aperture__V1__AggregateRequest message = APERTURE__V1__AGGREGATE_REQUEST__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ASK_SZ);
    message.selector = put_selector(&arena, &ask->selector);
    message.limit = ask->limit;
    message.max_nodes = ask->max_nodes;
    return finish(&arena, &message.base, ret);
}

int ap_wire_ask_diff_encode(const struct ap_ask_diff *ask, struct ap_buf *ret)
{
    Aperture__V1__DiffRequest message = APERTURE__V1__DIFF_REQUEST__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ASK_SZ);
    message.before = put_selector(&arena, &ask->before);
    message.after = put_selector(&arena, &ask->after);
    message.limit = ask->limit;
    return finish(&arena, &message.base, ret);
}

static Aperture__V1__Provenance *put_provenance(struct ap_arena *arena, const struct ap_provenance *provenance)
{
    Aperture__V1__Provenance *ret = ap_arena_alloc(arena, sizeof(*ret));

    if (ret == NULL)
        return NULL;
    aperture__v1__provenance__init(ret);
    ret->samples = provenance->samples;
    ret->value = provenance->value;
    ret->account = ap_batch_put_account(arena, &provenance->account);
    ret->newest_unix_ns = provenance->newest_ns;
    ret->batches = provenance->batches;
    ret->source = ap_message_text(arena, provenance->source);
    return ret;
}

static void put_batch(struct ap_arena *arena, const struct ap_batch_row *row, Aperture__V1__BatchRow *ret)
{
    ret->agent_id = ap_message_text(arena, row->agent_id);
    ret->epoch = row->epoch;
    ret->sequence = row->sequence;
    ret->start_unix_ns = row->start_ns;
    ret->duration_ns = row->duration_ns;
    ret->received_unix_ns = row->received_ns;
    ret->bytes = row->bytes;
    AP_COLUMN(arena, ret, labels, row->label_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < row->label_cnt; i++) {
        Aperture__V1__Label *label = NEW_ROW(arena, ret->labels, i, aperture__v1__label__init);

        if (label == NULL)
            return;
        label->name = ap_message_text(arena, row->labels[i].name);
        label->value = ap_message_text(arena, row->labels[i].value);
    }
    AP_COLUMN(arena, ret, kinds, row->kind_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < row->kind_cnt; i++) {
        Aperture__V1__KindCount *kind = NEW_ROW(arena, ret->kinds, i, aperture__v1__kind_count__init);

        if (kind == NULL)
            return;
        kind->kind = (Aperture__V1__Kind)row->kinds[i].kind;
        kind->events = row->kinds[i].events;
        kind->value = row->kinds[i].value;
        kind->lost = row->kinds[i].lost;
    }
}

int ap_wire_batches_encode(const struct ap_batches_answer *answer, struct ap_buf *ret)
{
    Aperture__V1__QueryResponse message = APERTURE__V1__QUERY_RESPONSE__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ANSWER_SZ);
    AP_COLUMN(&arena, &message, batches, answer->row_cnt);
    for (size_t i = 0; ap_arena_error(&arena) == 0 && i < answer->row_cnt; i++) {
        Aperture__V1__BatchRow *row = NEW_ROW(&arena, message.batches, i, aperture__v1__batch_row__init);

        if (row != NULL)
            put_batch(&arena, &answer->rows[i], row);
    }
    message.dropped = answer->dropped;
    return finish(&arena, &message.base, ret);
}

static void put_stack(struct ap_arena *arena, const struct ap_stack_row *row, Aperture__V1__StackRow *ret)
{
    AP_COLUMN(arena, ret, functions, row->function_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < row->function_cnt; i++)
        ret->functions[i] = ap_message_text(arena, row->functions[i]);
    ret->count = row->count;
    ret->value = row->value;
}

int ap_wire_stacks_encode(const struct ap_stacks_answer *answer, struct ap_buf *ret)
{
    Aperture__V1__QueryStorageResponse message = APERTURE__V1__QUERY_STORAGE_RESPONSE__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ANSWER_SZ);
    AP_COLUMN(&arena, &message, stacks, answer->row_cnt);
    for (size_t i = 0; ap_arena_error(&arena) == 0 && i < answer->row_cnt; i++) {
        Aperture__V1__StackRow *row = NEW_ROW(&arena, message.stacks, i, aperture__v1__stack_row__init);

        if (row != NULL)
            put_stack(&arena, &answer->rows[i], row);
    }
    message.stack_total = answer->stack_total;
    message.provenance = put_provenance(&arena, &answer->provenance);
    return finish(&arena, &message.base, ret);
}

static void put_functions(struct ap_arena *arena, const struct ap_functions_answer *answer,
                          Aperture__V1__AggregateResponse *ret)
{
    AP_COLUMN(arena, ret, functions, answer->row_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < answer->row_cnt; i++) {
        const struct ap_function_row *from = &answer->rows[i];
        Aperture__V1__FunctionRow *row = NEW_ROW(arena, ret->functions, i, aperture__v1__function_row__init);

        if (row == NULL)
            return;
        row->function = ap_message_text(arena, from->function);
        row->module = ap_message_text(arena, from->module);
        row->kind = (Aperture__V1__FrameKind)from->kind;
        row->self = from->self;
        row->total = from->total;
        row->self_count = from->self_count;
        row->total_count = from->total_count;
    }
    ret->function_total = answer->function_total;
}

static Aperture__V1__Tree *put_tree(struct ap_arena *arena, const struct ap_tree_answer *tree)
{
    Aperture__V1__Tree *ret = ap_arena_alloc(arena, sizeof(*ret));
    size_t cnt = tree->node_cnt;

    if (ret == NULL)
        return NULL;
    aperture__v1__tree__init(ret);
    AP_COLUMN(arena, ret, strings, tree->string_cnt);
    AP_COLUMN(arena, ret, parent, cnt);
    AP_COLUMN(arena, ret, name, cnt);
    AP_COLUMN(arena, ret, module, cnt);
    AP_COLUMN(arena, ret, file, cnt);
    AP_COLUMN(arena, ret, line, cnt);
    AP_COLUMN(arena, ret, kind, cnt);
    AP_COLUMN(arena, ret, flags, cnt);
    AP_COLUMN(arena, ret, value, cnt);
    AP_COLUMN(arena, ret, self, cnt);
    AP_COLUMN(arena, ret, count, cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < tree->string_cnt; i++)
        ret->strings[i] = ap_message_text(arena, tree->strings[i]);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < cnt; i++) {
        const struct ap_answer_node *node = &tree->nodes[i];

        ret->parent[i] = node->parent;
        ret->name[i] = node->name;
        ret->module[i] = node->module;
        ret->file[i] = node->file;
        ret->line[i] = node->line;
        ret->kind[i] = node->kind;
        ret->flags[i] = (node->inlined ? AP_NODE_INLINED : 0) | (node->waker ? AP_NODE_WAKER : 0) |
                        (node->truncated ? AP_NODE_TRUNCATED : 0);
        ret->value[i] = node->value;
        ret->self[i] = node->self;
        ret->count[i] = node->count;
    }
    return ret;
}

static void put_locks(struct ap_arena *arena, const struct ap_aggregate_answer *answer,
                      Aperture__V1__AggregateResponse *ret)
{
    AP_COLUMN(arena, ret, locks, answer->lock_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < answer->lock_cnt; i++) {
        const struct ap_lock_answer_row *from = &answer->locks[i];
        Aperture__V1__LockRow *row = NEW_ROW(arena, ret->locks, i, aperture__v1__lock_row__init);

        if (row == NULL)
            return;
        row->host = ap_message_text(arena, from->host);
        row->pid = from->pid;
        row->comm = ap_message_text(arena, from->comm);
        row->address = from->address;
        row->symbol = ap_message_text(arena, from->symbol);
        row->type = ap_message_text(arena, from->type);
        row->kernel = from->kernel;
        row->waits = from->waits;
        row->total_ns = from->total_ns;
        row->max_ns = from->max_ns;
        row->p50_ns = from->p50_ns;
        row->p95_ns = from->p95_ns;
        row->p99_ns = from->p99_ns;
        row->timeouts = from->timeouts;
        row->top_waiter = ap_message_text(arena, from->top_waiter);
        row->top_waker = ap_message_text(arena, from->top_waker);
    }
}

static void put_syscalls(struct ap_arena *arena, const struct ap_aggregate_answer *answer,
                         Aperture__V1__AggregateResponse *ret)
{
    AP_COLUMN(arena, ret, syscalls, answer->syscall_cnt);
    for (size_t i = 0; ap_arena_error(arena) == 0 && i < answer->syscall_cnt; i++) {
        const struct ap_syscall_answer_row *from = &answer->syscalls[i];
        Aperture__V1__SyscallRow *row = NEW_ROW(arena, ret->syscalls, i, aperture__v1__syscall_row__init);

        if (row == NULL)
            return;
        row->host = ap_message_text(arena, from->host);
        row->pid = from->pid;
        row->comm = ap_message_text(arena, from->comm);
        row->name = ap_message_text(arena, from->name);
        row->number = from->number;
        row->count = from->count;
        row->errors = from->errors;
        row->total_ns = from->total_ns;
        row->max_ns = from->max_ns;
        row->p50_ns = from->p50_ns;
        row->p95_ns = from->p95_ns;
        row->p99_ns = from->p99_ns;
    }
}

int ap_wire_aggregate_encode(const struct ap_aggregate_answer *answer, struct ap_buf *ret)
{
    Aperture__V1__AggregateResponse message = APERTURE__V1__AGGREGATE_RESPONSE__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ANSWER_SZ);
    put_functions(&arena, &answer->functions, &message);
    if (answer->tree.node_cnt != 0)
        message.tree = put_tree(&arena, &answer->tree);
    put_locks(&arena, answer, &message);
    put_syscalls(&arena, answer, &message);
    message.provenance = put_provenance(&arena, &answer->functions.provenance);
    return finish(&arena, &message.base, ret);
}

int ap_wire_diff_encode(const struct ap_diff_answer *answer, struct ap_buf *ret)
{
    Aperture__V1__DiffResponse message = APERTURE__V1__DIFF_RESPONSE__INIT;
    struct ap_arena arena;

    ap_arena_init(&arena, AP_ANSWER_SZ);
    AP_COLUMN(&arena, &message, functions, answer->row_cnt);
    for (size_t i = 0; ap_arena_error(&arena) == 0 && i < answer->row_cnt; i++) {
        const struct ap_function_change *from = &answer->rows[i];
        Aperture__V1__FunctionChange *row = NEW_ROW(&arena, message.functions, i, aperture__v1__function_change__init);

        if (row == NULL)
            break;
        row->function = ap_message_text(&arena, from->function);
        row->module = ap_message_text(&arena, from->module);
        row->kind = (Aperture__V1__FrameKind)from->kind;
        row->self_before = from->self_before;
        row->self_after = from->self_after;
        row->total_before = from->total_before;
        row->total_after = from->total_after;
        row->self_change = from->self_change;
        row->total_change = from->total_change;
        row->p_value = from->p_value;
        row->significant = from->significant;
    }
    message.before = put_provenance(&arena, &answer->before);
    message.after = put_provenance(&arena, &answer->after);
    return finish(&arena, &message.base, ret);
}
