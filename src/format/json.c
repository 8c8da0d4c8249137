/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/json.h"

#include "format/names.h"

#include <errno.h>
#include <inttypes.h>

void ap_json_key_str(struct ap_out *out, const char *key, const char *value)
{
    ap_out_char(out, '"');
    ap_out_str(out, key);
    ap_out_str(out, "\":");
    ap_out_json_str(out, value, false);
}

void ap_json_key_u64(struct ap_out *out, const char *key, uint64_t value)
{
    ap_out_printf(out, "\"%s\":%" PRIu64, key, value);
}

void ap_json_next_str(struct ap_out *out, const char *key, const char *value)
{
    ap_out_char(out, ',');
    ap_json_key_str(out, key, value);
}

void ap_json_next_u64(struct ap_out *out, const char *key, uint64_t value)
{
    ap_out_char(out, ',');
    ap_json_key_u64(out, key, value);
}

static void write_agent(const struct ap_agent_info *agent, struct ap_out *out)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"frequency_hz", agent->frequency},
        {"cpus", agent->cpus_online},
        {"cpu_ns", agent->cpu_ns},
        {"other_cpu_ns", agent->other_cpu_ns},
        {"bpf_run_ns", agent->bpf_run_ns},
        {"bpf_run_count", agent->bpf_run_cnt},
        {"rss_peak_bytes", agent->rss_peak_bytes},
        {"bpf_memory_bytes", agent->bpf_memory_bytes},
    };

    ap_out_str(out, "\"agent\":{");
    ap_json_key_str(out, "version", agent->version);
    ap_json_next_str(out, "host", agent->host);
    ap_json_next_str(out, "kernel", agent->kernel);
    ap_json_next_str(out, "arch", agent->arch);
    ap_json_next_str(out, "event", agent->event);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        ap_json_next_u64(out, numbers[i].key, numbers[i].value);
    ap_out_char(out, '}');
}

/* Writes a node up to and with the bracket that opens its children. */
static void open_node(const struct ap_profile *profile, const struct ap_tree_node *node, struct ap_out *out)
{
    ap_out_char(out, '{');
    ap_json_key_str(out, "name", ap_name_or_unknown(ap_profile_str(profile, node->name)));
    ap_json_next_str(out, "kind", ap_frame_kind_name(node->kind));
    if (node->module != 0) {
        ap_json_next_str(out, "module", ap_profile_str(profile, node->module));
    }
    if (node->file != 0) {
        ap_json_next_str(out, "file", ap_profile_str(profile, node->file));
    }
    if (node->line != 0)
        ap_out_printf(out, ",\"line\":%" PRIu32, node->line);
    ap_out_printf(out, ",\"value\":%" PRIu64 ",\"self\":%" PRIu64 ",\"samples\":%" PRIu64, node->value, node->self,
                  node->count);
    if (node->inlined)
        ap_out_str(out, ",\"inlined\":true");
    if (node->waker)
        ap_out_str(out, ",\"waker\":true");
    ap_out_str(out, ",\"children\":[");
}

/* Depth first along the links: the nodes themselves are the stack. */
static void write_tree(const struct ap_tree *tree, struct ap_out *out)
{
    const struct ap_tree_node *nodes = tree->nodes;
    uint32_t i = 0;

    open_node(tree->profile, &nodes[0], out);
    while (ap_out_error(out) == 0) {
        if (nodes[i].first_child != 0) {
            i = nodes[i].first_child;
            open_node(tree->profile, &nodes[i], out);
            continue;
        }
        while (i != 0 && nodes[i].next_sibling == 0) {
            ap_out_str(out, "]}");
            i = nodes[i].parent;
        }
        ap_out_str(out, "]}");
        if (i == 0)
            return;
        i = nodes[i].next_sibling;
        ap_out_char(out, ',');
        open_node(tree->profile, &nodes[i], out);
    }
}

/* The numbers that make up expected = delivered + losses, as members of the object that is open. */
static void write_sums(const struct ap_account *account, struct ap_out *out)
{
    ap_json_key_u64(out, "expected", account->expected);
    ap_json_next_u64(out, "delivered", account->delivered);
    ap_json_next_u64(out, "idle", account->idle);
    ap_json_next_u64(out, "out_of_scope", account->out_of_scope);
    ap_out_str(out, ",\"losses\":{");
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        ap_json_key_u64(out, ap_loss_name(i), account->losses[i]);
    }
    ap_out_char(out, '}');
}

void ap_json_account(const struct ap_account *account, struct ap_out *out)
{
    ap_out_char(out, '{');
    write_sums(account, out);
    ap_json_next_u64(out, "lost", ap_account_lost(account));
    ap_json_next_u64(out, "below_min", account->below_min);
    ap_json_next_u64(out, "below_min_ns", account->below_min_ns);
    ap_json_next_u64(out, "folded", account->folded);
    ap_json_next_u64(out, "unmatched", account->unmatched);
    ap_out_char(out, '}');
}

static int write_profile(const struct ap_profile *profile, const struct ap_account *account, struct ap_out *out)
{
    struct ap_tree *tree = ap_tree_new(profile);

    if (tree == NULL)
        return -ENOMEM;
    ap_out_char(out, '{');
    ap_json_key_str(out, "kind", ap_event_kind_name(profile->kind));
    ap_out_str(out, ",\"unit\":\"nanoseconds\"");
    ap_json_next_u64(out, "start_ns", profile->start_ns);
    ap_json_next_u64(out, "duration_ns", profile->duration_ns);
    ap_json_next_u64(out, "period_ns", profile->period_ns);
    ap_json_next_u64(out, "samples", ap_profile_total_count(profile));
    ap_out_str(out, ",\"account\":");
    ap_json_account(account, out);
    ap_json_syscalls(profile, SIZE_MAX, out);
    ap_json_locks(profile, SIZE_MAX, out);
    ap_out_str(out, ",\"root\":");
    write_tree(tree, out);
    ap_out_char(out, '}');
    ap_tree_free(tree);
    return ap_out_error(out);
}

static void write_unresolved(const struct ap_capture *capture, struct ap_out *out)
{
    ap_out_str(out, ",\"unresolved\":[");
    for (unsigned i = 0; i < capture->unresolved_cnt; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "module", row->module);
        ap_json_next_str(out, "reason", ap_unresolved_name(row->reason));
        ap_json_next_u64(out, "frames", row->frames);
        ap_json_next_u64(out, "samples", row->samples);
        ap_json_next_str(out, "help", ap_unresolved_help(row->reason));
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
    ap_json_next_u64(out, "frames_total", capture->frames_total);
    ap_json_next_u64(out, "frames_unresolved", capture->frames_unresolved);
}

static void write_left_out(const struct ap_capture *capture, struct ap_out *out)
{
    ap_out_str(out, ",\"left_out\":[");
    for (unsigned i = 0; i < capture->left_out_cnt; i++) {
        ap_out_str(out, i > 0 ? ",{" : "{");
        ap_json_key_str(out, "kind", ap_event_kind_name(capture->left_out[i].kind));
        ap_json_next_str(out, "reason", capture->left_out[i].reason);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

int ap_json_write(struct ap_capture *capture, struct ap_out *out)
{
    const struct ap_account total = ap_capture_total(capture);

    ap_out_str(out, "{\"schema\":1,");
    write_agent(&capture->agent, out);
    ap_out_str(out, ",\"profiles\":[");
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        int r;

        if (i > 0)
            ap_out_char(out, ',');
        r = write_profile(capture->profiles[i], &capture->accounts[i], out);
        if (r != 0)
            return r;
    }
    ap_out_str(out, "],");
    write_sums(&total, out);
    write_left_out(capture, out);
    write_unresolved(capture, out);
    ap_out_str(out, "}\n");
    return ap_out_error(out);
}
