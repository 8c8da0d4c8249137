/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Questions and answers to encode, and their comparison: for unit tests, fuzz targets and helpers of system tests. */
#ifndef APERTURE_TESTS_WIRE_ANSWERS_H
#define APERTURE_TESTS_WIRE_ANSWERS_H

#include "model/answer.h"
#include "model/selector.h"

#include <stdlib.h>
#include <string.h>

#define ANSWERS static inline __attribute__((unused))

ANSWERS void *answers_rows(size_t cnt, size_t size)
{
    void *rows = calloc(cnt, size);

    if (rows == NULL)
        abort();
    return rows;
}

ANSWERS char *answers_text(const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL)
        abort();
    return copy;
}

ANSWERS void answers_selector(struct ap_selector *selector)
{
    selector->kind = AP_KIND_LOCK;
    selector->from_ns = 1789999000000000000;
    selector->to_ns = 1790000000000000000;
    if (ap_selector_parse(selector, "host=\"a\",comm!=\"caf\xc3\xa9\",service=~\"web.*\",pid!~\"1|2\"", NULL) != 0 ||
        ap_selector_function(selector, "run.*", true, NULL) != 0)
        abort();
}

ANSWERS bool answers_same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

ANSWERS bool answers_same_selector(const struct ap_selector *a, const struct ap_selector *b)
{
    if (a->kind != b->kind || a->from_ns != b->from_ns || a->to_ns != b->to_ns || a->matcher_cnt != b->matcher_cnt ||
        a->function_regex != b->function_regex || !answers_same_text(a->function, b->function))
        return false;
    for (size_t i = 0; i < a->matcher_cnt; i++)
        if (a->matchers[i].op != b->matchers[i].op || strcmp(a->matchers[i].label, b->matchers[i].label) != 0 ||
            strcmp(a->matchers[i].value, b->matchers[i].value) != 0)
            return false;
    return true;
}

ANSWERS struct ap_provenance answers_provenance(const char *source)
{
    return (struct ap_provenance){
        .samples = 1000,
        .value = 10101010000,
        .account = {.expected = 1010, .delivered = 1000, .losses = {7, 3}, .idle = 5, .below_min_ns = 6},
        .batches = 12,
        .newest_ns = 1790000000000000001,
        .source = source,
    };
}

ANSWERS bool answers_same_provenance(const struct ap_provenance *a, const struct ap_provenance *b)
{
    return a->samples == b->samples && a->value == b->value && a->batches == b->batches &&
           a->newest_ns == b->newest_ns && memcmp(&a->account, &b->account, sizeof(a->account)) == 0 &&
           answers_same_text(a->source, b->source);
}

ANSWERS void answers_batches(struct ap_batches_answer *answer)
{
    answer->rows = answers_rows(2, sizeof(*answer->rows));
    answer->row_cnt = 2;
    answer->dropped = 9;
    for (unsigned i = 0; i < 2; i++) {
        struct ap_batch_row *row = &answer->rows[i];

        row->agent_id = answers_text(i == 0 ? "host-1" : "host-2");
        row->epoch = UINT64_MAX - i;
        row->sequence = 100 + i;
        row->start_ns = 1790000000000000000 + i;
        row->duration_ns = 5000000000;
        row->received_ns = row->start_ns + row->duration_ns;
        row->bytes = 4096;
        row->label_cnt = i;
        row->labels = answers_rows(1, sizeof(*row->labels));
        if (i != 0)
            row->labels[0] = (struct ap_label){.name = answers_text("host"), .value = answers_text("h")};
        row->kind_cnt = 2 * i;
        for (unsigned j = 0; j < row->kind_cnt; j++)
            row->kinds[j] = (struct ap_kind_count){.kind = (uint8_t)(1 + j), .events = 5, .value = 6, .lost = j};
    }
}

ANSWERS bool answers_same_batches(const struct ap_batches_answer *a, const struct ap_batches_answer *b)
{
    if (a->row_cnt != b->row_cnt || a->dropped != b->dropped)
        return false;
    for (size_t i = 0; i < a->row_cnt; i++) {
        const struct ap_batch_row *x = &a->rows[i], *y = &b->rows[i];

        if (!answers_same_text(x->agent_id, y->agent_id) || x->epoch != y->epoch || x->sequence != y->sequence ||
            x->start_ns != y->start_ns || x->duration_ns != y->duration_ns || x->received_ns != y->received_ns ||
            x->bytes != y->bytes || x->label_cnt != y->label_cnt || x->kind_cnt != y->kind_cnt)
            return false;
        for (size_t j = 0; j < x->label_cnt; j++)
            if (!answers_same_text(x->labels[j].name, y->labels[j].name) ||
                !answers_same_text(x->labels[j].value, y->labels[j].value))
                return false;
        for (unsigned j = 0; j < x->kind_cnt; j++)
            if (x->kinds[j].kind != y->kinds[j].kind || x->kinds[j].events != y->kinds[j].events ||
                x->kinds[j].value != y->kinds[j].value || x->kinds[j].lost != y->kinds[j].lost)
                return false;
    }
    return true;
}

ANSWERS void answers_stacks(struct ap_stacks_answer *answer)
{
    answer->rows = answers_rows(2, sizeof(*answer->rows));
    answer->row_cnt = 2;
    answer->rows[0].functions = answers_rows(3, sizeof(char *));
    answer->rows[0].functions[0] = answers_text("app");
    answer->rows[0].functions[1] = answers_text("main");
    answer->rows[0].functions[2] = answers_text("");
    answer->rows[0].function_cnt = 3;
    answer->rows[0].count = 7;
    answer->rows[0].value = 70;
    answer->rows[1].count = 1;
    answer->stack_total = 500;
    answer->provenance = answers_provenance("raw");
}

ANSWERS bool answers_same_stacks(const struct ap_stacks_answer *a, const struct ap_stacks_answer *b)
{
    if (a->row_cnt != b->row_cnt || a->stack_total != b->stack_total)
        return false;
    for (size_t i = 0; i < a->row_cnt; i++) {
        if (a->rows[i].function_cnt != b->rows[i].function_cnt || a->rows[i].count != b->rows[i].count ||
            a->rows[i].value != b->rows[i].value)
            return false;
        for (size_t j = 0; j < a->rows[i].function_cnt; j++)
            if (!answers_same_text(a->rows[i].functions[j], b->rows[i].functions[j]))
                return false;
    }
    return answers_same_provenance(&a->provenance, &b->provenance);
}

ANSWERS void answers_diff(struct ap_diff_answer *answer)
{
    answer->rows = answers_rows(1, sizeof(*answer->rows));
    answer->row_cnt = 1;
    answer->rows[0] = (struct ap_function_change){
        .function = answers_text("run"),
        .module = answers_text("/usr/bin/app"),
        .kind = AP_FRAME_NATIVE,
        .self_before = 1,
        .self_after = 2,
        .total_before = 3,
        .total_after = 4,
        .self_change = -0.25,
        .total_change = 0.5,
        .p_value = 0.001,
        .significant = true,
    };
    answer->before = answers_provenance("1h");
    answer->after = answers_provenance("1m");
}

ANSWERS bool answers_same_diff(const struct ap_diff_answer *a, const struct ap_diff_answer *b)
{
    if (a->row_cnt != b->row_cnt)
        return false;
    for (size_t i = 0; i < a->row_cnt; i++) {
        const struct ap_function_change *x = &a->rows[i], *y = &b->rows[i];

        if (!answers_same_text(x->function, y->function) || !answers_same_text(x->module, y->module) ||
            x->kind != y->kind || x->self_before != y->self_before || x->self_after != y->self_after ||
            x->total_before != y->total_before || x->total_after != y->total_after ||
            x->self_change != y->self_change || x->total_change != y->total_change || x->p_value != y->p_value ||
            x->significant != y->significant)
            return false;
    }
    return answers_same_provenance(&a->before, &b->before) && answers_same_provenance(&a->after, &b->after);
}

ANSWERS void answers_tree(struct ap_tree_answer *tree)
{
    static const char *const names[] = {"", "all", "app", "main", "/usr/bin/app", "/src/app.c"};

    tree->string_cnt = sizeof(names) / sizeof(names[0]);
    tree->strings = answers_rows(tree->string_cnt, sizeof(char *));
    for (size_t i = 0; i < tree->string_cnt; i++)
        tree->strings[i] = answers_text(names[i]);
    tree->node_cnt = 4;
    tree->nodes = answers_rows(tree->node_cnt, sizeof(*tree->nodes));
    tree->nodes[0] = (struct ap_answer_node){.name = 1, .kind = AP_FRAME_MARK, .value = 100, .count = 10};
    tree->nodes[1] = (struct ap_answer_node){.name = 2, .kind = AP_FRAME_PROCESS, .value = 90, .count = 9};
    tree->nodes[2] = (struct ap_answer_node){
        .parent = 1, .name = 3, .module = 4, .file = 5, .line = 20, .kind = 1, .inlined = true, .value = 80, .self = 8};
    tree->nodes[3] =
        (struct ap_answer_node){.parent = 1, .kind = AP_FRAME_MARK, .waker = true, .truncated = true, .value = 10};
}

ANSWERS void answers_aggregate(struct ap_aggregate_answer *answer)
{
    answer->functions.rows = answers_rows(1, sizeof(*answer->functions.rows));
    answer->functions.row_cnt = 1;
    answer->functions.rows[0] = (struct ap_function_row){
        .function = answers_text("run"),
        .module = answers_text("/usr/bin/app"),
        .kind = AP_FRAME_JIT,
        .self = 1,
        .total = 2,
        .self_count = 3,
        .total_count = 4,
    };
    answer->functions.function_total = 300;
    answer->functions.provenance = answers_provenance("memory");
    answers_tree(&answer->tree);
    answer->tree.provenance = answer->functions.provenance;
    answer->locks = answers_rows(1, sizeof(*answer->locks));
    answer->lock_cnt = 1;
    answer->locks[0] = (struct ap_lock_answer_row){
        .host = answers_text("h"),
        .comm = answers_text("app"),
        .symbol = answers_text("queue+0x8"),
        .type = answers_text("mutex"),
        .top_waiter = answers_text("push"),
        .top_waker = answers_text("pop"),
        .pid = 10,
        .address = 0xffff888103a4c0a8,
        .kernel = true,
        .waits = 11,
        .total_ns = 12,
        .max_ns = 13,
        .p50_ns = 14,
        .p95_ns = 15,
        .p99_ns = 16,
        .timeouts = 17,
    };
    answer->syscalls = answers_rows(1, sizeof(*answer->syscalls));
    answer->syscall_cnt = 1;
    answer->syscalls[0] = (struct ap_syscall_answer_row){
        .host = answers_text("h"),
        .comm = answers_text("app"),
        .name = answers_text("read"),
        .pid = 10,
        .number = 63,
        .count = 20,
        .errors = 21,
        .total_ns = 22,
        .max_ns = 23,
        .p50_ns = 24,
        .p95_ns = 25,
        .p99_ns = 26,
    };
}

ANSWERS bool answers_same_tree(const struct ap_tree_answer *a, const struct ap_tree_answer *b)
{
    if (a->node_cnt != b->node_cnt || !answers_same_provenance(&a->provenance, &b->provenance))
        return false;
    for (size_t i = 0; i < a->node_cnt; i++) {
        const struct ap_answer_node *x = &a->nodes[i], *y = &b->nodes[i];

        if (x->parent != y->parent || !answers_same_text(a->strings[x->name], b->strings[y->name]) ||
            !answers_same_text(a->strings[x->module], b->strings[y->module]) ||
            !answers_same_text(a->strings[x->file], b->strings[y->file]) || x->line != y->line || x->kind != y->kind ||
            x->inlined != y->inlined || x->waker != y->waker || x->truncated != y->truncated || x->value != y->value ||
            x->self != y->self || x->count != y->count)
            return false;
    }
    return true;
}

ANSWERS bool answers_same_aggregate(const struct ap_aggregate_answer *a, const struct ap_aggregate_answer *b)
{
    if (a->functions.row_cnt != b->functions.row_cnt || a->functions.function_total != b->functions.function_total ||
        a->lock_cnt != b->lock_cnt || a->syscall_cnt != b->syscall_cnt ||
        !answers_same_provenance(&a->functions.provenance, &b->functions.provenance))
        return false;
    for (size_t i = 0; i < a->functions.row_cnt; i++) {
        const struct ap_function_row *x = &a->functions.rows[i], *y = &b->functions.rows[i];

        if (!answers_same_text(x->function, y->function) || !answers_same_text(x->module, y->module) ||
            x->kind != y->kind || x->self != y->self || x->total != y->total || x->self_count != y->self_count ||
            x->total_count != y->total_count)
            return false;
    }
    for (size_t i = 0; i < a->lock_cnt; i++) {
        const struct ap_lock_answer_row *x = &a->locks[i], *y = &b->locks[i];

        if (!answers_same_text(x->host, y->host) || !answers_same_text(x->comm, y->comm) ||
            !answers_same_text(x->symbol, y->symbol) || !answers_same_text(x->type, y->type) ||
            !answers_same_text(x->top_waiter, y->top_waiter) || !answers_same_text(x->top_waker, y->top_waker) ||
            x->pid != y->pid || x->address != y->address || x->kernel != y->kernel || x->waits != y->waits ||
            x->total_ns != y->total_ns || x->max_ns != y->max_ns || x->p50_ns != y->p50_ns || x->p95_ns != y->p95_ns ||
            x->p99_ns != y->p99_ns || x->timeouts != y->timeouts)
            return false;
    }
    for (size_t i = 0; i < a->syscall_cnt; i++) {
        const struct ap_syscall_answer_row *x = &a->syscalls[i], *y = &b->syscalls[i];

        if (!answers_same_text(x->host, y->host) || !answers_same_text(x->comm, y->comm) ||
            !answers_same_text(x->name, y->name) || x->pid != y->pid || x->number != y->number ||
            x->count != y->count || x->errors != y->errors || x->total_ns != y->total_ns || x->max_ns != y->max_ns ||
            x->p50_ns != y->p50_ns || x->p95_ns != y->p95_ns || x->p99_ns != y->p99_ns)
            return false;
    }
    return answers_same_tree(&a->tree, &b->tree);
}

#endif
