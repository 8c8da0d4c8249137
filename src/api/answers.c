/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* JSON of answers; members are called as in the agent's document (docs/formats.md) and in proto/. */
#include "api/internal.h"

#include "format/json.h"
#include "format/names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static void write_bool(const char *key, bool value, struct ap_out *out)
{
    ap_out_printf(out, ",\"%s\":%s", key, value ? "true" : "false");
}

void ap_api_write_provenance(const struct ap_provenance *provenance, struct ap_out *out)
{
    ap_out_char(out, '{');
    ap_json_key_u64(out, "samples", provenance->samples);
    ap_json_next_u64(out, "value", provenance->value);
    ap_out_str(out, ",\"account\":");
    ap_json_account(&provenance->account, out);
    ap_json_next_u64(out, "batches", provenance->batches);
    ap_json_next_u64(out, "newest_ns", provenance->newest_ns);
    ap_json_next_str(out, "source", provenance->source);
    ap_out_char(out, '}');
}

void ap_api_write_labels(const struct ap_label *labels, size_t cnt, struct ap_out *out)
{
    ap_out_char(out, '{');
    for (size_t i = 0; i < cnt; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        ap_out_json_str(out, labels[i].name, false);
        ap_out_char(out, ':');
        ap_out_json_str(out, labels[i].value, false);
    }
    ap_out_char(out, '}');
}

void ap_api_write_selector(const struct ap_selector *selector, uint64_t now_ns, struct ap_out *out)
{
    ap_json_key_str(out, "kind", selector->kind != 0 ? ap_event_kind_name(selector->kind) : "all");
    ap_json_next_str(out, "unit", "nanoseconds");
    ap_json_next_u64(out, "from_ns", selector->from_ns);
    ap_json_next_u64(out, "to_ns", selector->to_ns != 0 ? selector->to_ns : now_ns);
}

void ap_api_write_functions(const struct ap_functions_answer *answer, struct ap_out *out)
{
    ap_out_str(out, "\"functions\":[");
    for (size_t i = 0; i < answer->row_cnt && ap_out_error(out) == 0; i++) {
        const struct ap_function_row *row = &answer->rows[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "function", ap_name_or_unknown(row->function));
        ap_json_next_str(out, "module", row->module);
        ap_json_next_str(out, "kind", ap_frame_kind_name(row->kind));
        ap_json_next_u64(out, "self", row->self);
        ap_json_next_u64(out, "total", row->total);
        ap_json_next_u64(out, "self_count", row->self_count);
        ap_json_next_u64(out, "total_count", row->total_count);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
    ap_json_next_u64(out, "function_total", answer->function_total);
}

/* ---- Trees ---------------------------------------------------------------------------------------------------------
 */

struct links {
    uint32_t first_child, last_child, next_sibling; /* 0 = none */
};

/* Writes a node up to and with the bracket that opens its children. */
static void open_node(const struct ap_tree_answer *tree, const struct ap_answer_node *node, struct ap_out *out)
{
    const char *module = tree->strings[node->module], *file = tree->strings[node->file];

    ap_out_char(out, '{');
    ap_json_key_str(out, "name", ap_name_or_unknown(tree->strings[node->name]));
    ap_json_next_str(out, "kind", ap_frame_kind_name(node->kind));
    if (module[0] != '\0')
        ap_json_next_str(out, "module", module);
    if (file[0] != '\0')
        ap_json_next_str(out, "file", file);
    if (node->line != 0)
        ap_json_next_u64(out, "line", node->line);
    ap_json_next_u64(out, "value", node->value);
    ap_json_next_u64(out, "self", node->self);
    ap_json_next_u64(out, "samples", node->count);
    if (node->inlined)
        write_bool("inlined", true, out);
    if (node->waker)
        write_bool("waker", true, out);
    if (node->truncated)
        write_bool("truncated", true, out);
    ap_out_str(out, ",\"children\":[");
}

int ap_api_write_tree(const struct ap_tree_answer *tree, struct ap_out *out)
{
    struct links *links;
    size_t i = 0;

    if (tree->node_cnt == 0) {
        ap_out_str(out, "null");
        return 0;
    }
    links = calloc(tree->node_cnt, sizeof(*links));
    if (links == NULL)
        return -ENOMEM;
    for (size_t j = 1; j < tree->node_cnt; j++) {
        struct links *parent = &links[tree->nodes[j].parent];

        if (parent->first_child == 0)
            parent->first_child = (uint32_t)j;
        else
            links[parent->last_child].next_sibling = (uint32_t)j;
        parent->last_child = (uint32_t)j;
    }
    open_node(tree, &tree->nodes[0], out);
    while (ap_out_error(out) == 0) {
        if (links[i].first_child != 0) {
            i = links[i].first_child;
            open_node(tree, &tree->nodes[i], out);
            continue;
        }
        while (i != 0 && links[i].next_sibling == 0) {
            ap_out_str(out, "]}");
            i = tree->nodes[i].parent;
        }
        ap_out_str(out, "]}");
        if (i == 0)
            break;
        i = links[i].next_sibling;
        ap_out_char(out, ',');
        open_node(tree, &tree->nodes[i], out);
    }
    free(links);
    return 0;
}

/* ---- Tables --------------------------------------------------------------------------------------------------------
 */

static void write_change(const struct ap_function_change *row, struct ap_out *out)
{
    ap_out_char(out, '{');
    ap_json_key_str(out, "function", ap_name_or_unknown(row->function));
    ap_json_next_str(out, "module", row->module);
    ap_json_next_str(out, "kind", ap_frame_kind_name(row->kind));
    ap_json_next_u64(out, "self_before", row->self_before);
    ap_json_next_u64(out, "self_after", row->self_after);
    ap_json_next_u64(out, "total_before", row->total_before);
    ap_json_next_u64(out, "total_after", row->total_after);
    ap_out_printf(out, ",\"self_change\":%.9g,\"total_change\":%.9g,\"p_value\":%.6g", row->self_change,
                  row->total_change, row->p_value);
    write_bool("significant", row->significant, out);
    ap_out_char(out, '}');
}

void ap_api_write_diff(const struct ap_diff_answer *answer, struct ap_out *out)
{
    ap_out_str(out, "{\"functions\":[");
    for (size_t i = 0; i < answer->row_cnt && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_change(&answer->rows[i], out);
    }
    ap_out_str(out, "],\"before\":");
    ap_api_write_provenance(&answer->before, out);
    ap_out_str(out, ",\"after\":");
    ap_api_write_provenance(&answer->after, out);
    ap_out_str(out, "}\n");
}

static void write_kinds(const struct ap_kind_count *kinds, unsigned cnt, struct ap_out *out)
{
    ap_out_str(out, ",\"kinds\":[");
    for (unsigned i = 0; i < cnt; i++) {
        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "kind", ap_event_kind_name(kinds[i].kind));
        ap_json_next_u64(out, "events", kinds[i].events);
        ap_json_next_u64(out, "value", kinds[i].value);
        ap_json_next_u64(out, "lost", kinds[i].lost);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

void ap_api_write_batches(const struct ap_batches_answer *answer, struct ap_out *out)
{
    ap_out_str(out, "{\"batches\":[");
    for (size_t i = 0; i < answer->row_cnt && ap_out_error(out) == 0; i++) {
        const struct ap_batch_row *row = &answer->rows[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "agent_id", row->agent_id);
        /* Chosen by chance from 64 bits: as a number many readers would round it. */
        ap_out_printf(out, ",\"epoch\":\"%" PRIu64 "\"", row->epoch);
        ap_json_next_u64(out, "sequence", row->sequence);
        ap_json_next_u64(out, "start_ns", row->start_ns);
        ap_json_next_u64(out, "duration_ns", row->duration_ns);
        ap_json_next_u64(out, "received_ns", row->received_ns);
        ap_json_next_u64(out, "bytes", row->bytes);
        ap_out_str(out, ",\"labels\":");
        ap_api_write_labels(row->labels, row->label_cnt, out);
        write_kinds(row->kinds, row->kind_cnt, out);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
    ap_json_next_u64(out, "dropped", answer->dropped);
    ap_out_str(out, "}\n");
}

static void write_info(const struct ap_agent_info *info, struct ap_out *out)
{
    ap_json_next_str(out, "version", info->version);
    ap_json_next_str(out, "host", info->host);
    ap_json_next_str(out, "kernel", info->kernel);
    ap_json_next_str(out, "arch", info->arch);
    ap_json_next_str(out, "event", info->event);
    ap_json_next_u64(out, "frequency_hz", info->frequency);
    ap_json_next_u64(out, "cpus", info->cpus_online);
    ap_json_next_u64(out, "cpu_ns", info->cpu_ns);
    ap_json_next_u64(out, "other_cpu_ns", info->other_cpu_ns);
    ap_json_next_u64(out, "bpf_run_ns", info->bpf_run_ns);
    ap_json_next_u64(out, "bpf_run_count", info->bpf_run_cnt);
    ap_json_next_u64(out, "rss_peak_bytes", info->rss_peak_bytes);
    ap_json_next_u64(out, "bpf_memory_bytes", info->bpf_memory_bytes);
}

static void write_agent(const struct ap_agent_row *row, uint64_t now_ns, struct ap_out *out)
{
    ap_out_char(out, '{');
    ap_json_key_str(out, "agent_id", row->agent_id);
    write_info(&row->info, out);
    ap_out_printf(out, ",\"epoch\":\"%" PRIu64 "\"", row->epoch);
    ap_json_next_u64(out, "sequence", row->sequence);
    ap_json_next_u64(out, "first_ns", row->first_ns);
    ap_json_next_u64(out, "last_ns", row->last_ns);
    ap_json_next_u64(out, "silent_ns", now_ns > row->last_ns ? now_ns - row->last_ns : 0);
    ap_json_next_u64(out, "batches", row->batches);
    ap_json_next_u64(out, "spool_bytes", row->spool_bytes);
    ap_json_next_u64(out, "spool_dropped_batches", row->spool_dropped_batches);
    ap_json_next_u64(out, "spool_dropped_events", row->spool_dropped_events);
    ap_out_str(out, ",\"labels\":");
    ap_api_write_labels(row->labels, row->label_cnt, out);
    write_kinds(row->kinds, row->kind_cnt, out);
    ap_out_str(out, ",\"left_out\":[");
    for (unsigned i = 0; i < row->left_out_cnt; i++) {
        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "kind", ap_event_kind_name(row->left_out[i].kind));
        ap_json_next_str(out, "reason", row->left_out[i].reason);
        ap_out_char(out, '}');
    }
    ap_out_str(out, "]}");
}

void ap_api_write_agents(const struct ap_agents_answer *answer, uint64_t now_ns, struct ap_out *out)
{
    ap_out_str(out, "{\"agents\":[");
    for (size_t i = 0; i < answer->row_cnt && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_agent(&answer->rows[i], now_ns, out);
    }
    ap_out_str(out, "]}\n");
}

void ap_api_write_lock_rows(const struct ap_aggregate_answer *answer, struct ap_out *out)
{
    ap_out_str(out, ",\"locks\":[");
    for (size_t i = 0; i < answer->lock_cnt && ap_out_error(out) == 0; i++) {
        const struct ap_lock_answer_row *row = &answer->locks[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "host", row->host);
        ap_json_next_u64(out, "pid", row->pid);
        ap_json_next_str(out, "comm", row->comm);
        ap_out_printf(out, ",\"address\":\"0x%" PRIx64 "\"", row->address);
        ap_json_next_str(out, "symbol", row->symbol);
        ap_json_next_str(out, "type", row->type);
        write_bool("kernel", row->kernel, out);
        ap_json_next_u64(out, "waits", row->waits);
        ap_json_next_u64(out, "total_ns", row->total_ns);
        ap_json_next_u64(out, "max_ns", row->max_ns);
        ap_json_next_u64(out, "p50_ns", row->p50_ns);
        ap_json_next_u64(out, "p95_ns", row->p95_ns);
        ap_json_next_u64(out, "p99_ns", row->p99_ns);
        ap_json_next_u64(out, "timeouts", row->timeouts);
        ap_json_next_str(out, "top_waiter", row->top_waiter);
        ap_json_next_str(out, "top_waker", row->top_waker);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

void ap_api_write_syscall_rows(const struct ap_aggregate_answer *answer, struct ap_out *out)
{
    ap_out_str(out, ",\"syscalls\":[");
    for (size_t i = 0; i < answer->syscall_cnt && ap_out_error(out) == 0; i++) {
        const struct ap_syscall_answer_row *row = &answer->syscalls[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "host", row->host);
        ap_json_next_u64(out, "pid", row->pid);
        ap_json_next_str(out, "comm", row->comm);
        ap_json_next_str(out, "name", row->name);
        ap_json_next_u64(out, "number", row->number);
        ap_json_next_u64(out, "count", row->count);
        ap_json_next_u64(out, "failed", row->errors);
        ap_json_next_u64(out, "total_ns", row->total_ns);
        ap_json_next_u64(out, "max_ns", row->max_ns);
        ap_json_next_u64(out, "p50_ns", row->p50_ns);
        ap_json_next_u64(out, "p95_ns", row->p95_ns);
        ap_json_next_u64(out, "p99_ns", row->p99_ns);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

void ap_api_write_texts(const char *name, const struct ap_texts *texts, struct ap_out *out)
{
    ap_out_printf(out, "{\"%s\":[", name);
    for (size_t i = 0; i < texts->cnt; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        ap_out_json_str(out, texts->items[i], false);
    }
    ap_out_str(out, "]}\n");
}
