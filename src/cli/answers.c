/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/answers.h"

#include "cli/table.h"
#include "core/buf.h"
#include "core/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Longest text that one cell is made of: a stack of names, a list of labels. */
#define CELL_TEXT_SZ (1u << 20)

static double share(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : 0;
}

static void put_account(const struct ap_account *account, struct ap_out *out)
{
    const char *comma = "";
    unsigned reason;

    ap_out_printf(out, "\"expected\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"losses\":{", account->expected,
                  account->delivered);
    for (reason = 0; reason < AP_LOSS_REASON_CNT; reason++) {
        if (!account->losses[reason])
            continue;
        ap_out_printf(out, "%s\"%s\":%" PRIu64, comma, ap_loss_name(reason), account->losses[reason]);
        comma = ",";
    }
    ap_out_char(out, '}');
}

static void put_provenance(const char *name, const struct ap_provenance *provenance, struct ap_out *out)
{
    ap_out_printf(out, ",\n\"%s\":{\"samples\":%" PRIu64 ",\"value\":%" PRIu64 ",", name, provenance->samples,
                  provenance->value);
    put_account(&provenance->account, out);
    ap_out_printf(out, ",\"batches\":%" PRIu64 ",\"newest_ns\":%" PRIu64 ",\"source\":\"%s\"}", provenance->batches,
                  provenance->newest_ns, provenance->source ? provenance->source : "");
}

/* One line below a table: what is behind it, and what is missing. */
static void say_provenance(const char *what, const struct ap_provenance *provenance, struct ap_out *out)
{
    uint64_t lost = ap_account_lost(&provenance->account);
    unsigned reason;

    ap_out_printf(out, "%s%" PRIu64 " events in %" PRIu64 " batches", what, provenance->samples, provenance->batches);
    if (provenance->source && *provenance->source)
        ap_out_printf(out, " (%s)", provenance->source);
    if (lost) {
        ap_out_printf(out, "; %" PRIu64 " of %" PRIu64 " lost:", lost, provenance->account.expected);
        for (reason = 0; reason < AP_LOSS_REASON_CNT; reason++)
            if (ap_loss_is_sample(reason) && provenance->account.losses[reason])
                ap_out_printf(out, " %s %" PRIu64, ap_loss_name(reason), provenance->account.losses[reason]);
    } else {
        ap_out_str(out, "; none lost");
    }
    ap_out_char(out, '\n');
}

/* Writes the rows, and in JSON the object around them up to where more members may follow. */
static int begin(struct ap_table *table, enum ap_cli_format format, const char *name, struct ap_out *out)
{
    int rc;

    if (!table)
        return -ENOMEM;
    if (format == AP_CLI_JSON)
        ap_out_char(out, '{');
    rc = ap_table_write(table, format, name, out);
    ap_table_free(table);
    return rc;
}

static int end(enum ap_cli_format format, struct ap_out *out)
{
    if (format == AP_CLI_JSON)
        ap_out_str(out, "}\n");
    return ap_out_error(out);
}

static int end_with(const struct ap_provenance *provenance, enum ap_cli_format format, struct ap_out *out)
{
    if (format == AP_CLI_JSON)
        put_provenance("provenance", provenance, out);
    if (format == AP_CLI_TABLE) {
        ap_out_char(out, '\n');
        say_provenance("", provenance, out);
    }
    return end(format, out);
}

static void add_labels(struct ap_table *table, const struct ap_label *labels, size_t cnt)
{
    struct ap_buf text;
    size_t i;

    ap_buf_init(&text, CELL_TEXT_SZ);
    for (i = 0; i < cnt; i++)
        ap_buf_printf(&text, "%s%s=%s", i ? " " : "", labels[i].name, labels[i].value);
    ap_table_text(table, text.data ? text.data : "");
    ap_buf_done(&text);
}

static void add_kinds(struct ap_table *table, const struct ap_batch_row *row)
{
    struct ap_buf text;
    uint64_t lost = 0;
    unsigned i;

    ap_buf_init(&text, CELL_TEXT_SZ);
    for (i = 0; i < row->kind_cnt; i++) {
        ap_buf_printf(&text, "%s%s=%" PRIu64, i ? " " : "", ap_event_kind_name(row->kinds[i].kind),
                      row->kinds[i].events);
        lost += row->kinds[i].lost;
    }
    ap_table_text(table, text.data ? text.data : "");
    ap_table_u64(table, lost);
    ap_buf_done(&text);
}

int ap_cli_show_batches(const struct ap_batches_answer *answer, enum ap_cli_format format, struct ap_out *out)
{
    static const struct ap_column columns[] = {
        {"start_ns", "START", AP_CELL_TIME}, {"duration_ns", "SPAN", AP_CELL_NS}, {"agent_id", "AGENT", AP_CELL_TEXT},
        {"epoch", "EPOCH", AP_CELL_COUNT},   {"sequence", "SEQ", AP_CELL_COUNT},  {"bytes", "BYTES", AP_CELL_BYTES},
        {"events", "EVENTS", AP_CELL_TEXT},  {"lost", "LOST", AP_CELL_COUNT},     {"labels", "LABELS", AP_CELL_TEXT},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_batch_row *row;
    size_t i;
    int rc;

    for (i = 0; table && i < answer->row_cnt; i++) {
        row = &answer->rows[i];
        ap_table_u64(table, row->start_ns);
        ap_table_u64(table, row->duration_ns);
        ap_table_text(table, row->agent_id);
        ap_table_u64(table, row->epoch);
        ap_table_u64(table, row->sequence);
        ap_table_u64(table, row->bytes);
        add_kinds(table, row);
        add_labels(table, row->labels, row->label_cnt);
    }
    rc = begin(table, format, "batches", out);
    if (rc)
        return rc;
    if (format == AP_CLI_JSON)
        ap_out_printf(out, ",\n\"dropped\":%" PRIu64, answer->dropped);
    else if (format == AP_CLI_TABLE && answer->dropped)
        ap_out_printf(out, "\n%" PRIu64 " older batches have left the memory\n", answer->dropped);
    return end(format, out);
}

int ap_cli_show_stacks(const struct ap_stacks_answer *answer, enum ap_cli_format format, struct ap_out *out)
{
    static const struct ap_column columns[] = {
        {"value", "TIME", AP_CELL_NS}, {"count", "EVENTS", AP_CELL_COUNT}, {"stack", "STACK", AP_CELL_TEXT}};
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_stack_row *row;
    struct ap_buf text;
    size_t i, j;
    int rc;

    ap_buf_init(&text, CELL_TEXT_SZ);
    for (i = 0; table && i < answer->row_cnt; i++) {
        row = &answer->rows[i];
        ap_buf_reset(&text);
        for (j = 0; j < row->function_cnt; j++)
            ap_buf_printf(&text, "%s%s", j ? ";" : "", row->functions[j]);
        ap_table_u64(table, row->value);
        ap_table_u64(table, row->count);
        ap_table_text(table, text.data ? text.data : "");
    }
    ap_buf_done(&text);
    rc = begin(table, format, "stacks", out);
    if (rc)
        return rc;
    if (format == AP_CLI_JSON)
        ap_out_printf(out, ",\n\"stack_total\":%" PRIu64, answer->stack_total);
    else if (format == AP_CLI_TABLE && answer->stack_total > answer->row_cnt)
        ap_out_printf(out, "\n%zu of %" PRIu64 " stacks; --limit shows more\n", answer->row_cnt, answer->stack_total);
    return end_with(&answer->provenance, format, out);
}

static struct ap_table *functions_table(const struct ap_functions_answer *answer)
{
    static const struct ap_column columns[] = {
        {"self_share", "SELF", AP_CELL_SHARE},   {"total_share", "TOTAL", AP_CELL_SHARE},
        {"self", "SELF TIME", AP_CELL_NS},       {"total", "TOTAL TIME", AP_CELL_NS},
        {"self_count", "EVENTS", AP_CELL_COUNT}, {"total_count", "WITH CALLEES", AP_CELL_COUNT},
        {"kind", "KIND", AP_CELL_TEXT},          {"function", "FUNCTION", AP_CELL_TEXT},
        {"module", "MODULE", AP_CELL_TEXT},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_function_row *row;
    size_t i;

    for (i = 0; table && i < answer->row_cnt; i++) {
        row = &answer->rows[i];
        ap_table_double(table, share(row->self, answer->provenance.value));
        ap_table_double(table, share(row->total, answer->provenance.value));
        ap_table_u64(table, row->self);
        ap_table_u64(table, row->total);
        ap_table_u64(table, row->self_count);
        ap_table_u64(table, row->total_count);
        ap_table_text(table, ap_frame_kind_name(row->kind));
        ap_table_text(table, row->function);
        ap_table_text(table, row->module);
    }
    return table;
}

static struct ap_table *locks_table(const struct ap_aggregate_answer *answer)
{
    static const struct ap_column columns[] = {
        {"total_ns", "WAITED", AP_CELL_NS},
        {"waits", "WAITS", AP_CELL_COUNT},
        {"p50_ns", "P50", AP_CELL_NS},
        {"p95_ns", "P95", AP_CELL_NS},
        {"p99_ns", "P99", AP_CELL_NS},
        {"max_ns", "MAX", AP_CELL_NS},
        {"timeouts", "TIMEOUTS", AP_CELL_COUNT},
        {"type", "TYPE", AP_CELL_TEXT},
        {"host", "HOST", AP_CELL_TEXT},
        {"pid", "PID", AP_CELL_COUNT},
        {"comm", "COMM", AP_CELL_TEXT},
        {"address", "ADDRESS", AP_CELL_HEX},
        {"symbol", "LOCK", AP_CELL_TEXT},
        {"top_waiter", "WAITED IN", AP_CELL_TEXT},
        {"top_waker", "RELEASED BY", AP_CELL_TEXT},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_lock_answer_row *row;
    size_t i;

    for (i = 0; table && i < answer->lock_cnt; i++) {
        row = &answer->locks[i];
        ap_table_u64(table, row->total_ns);
        ap_table_u64(table, row->waits);
        ap_table_u64(table, row->p50_ns);
        ap_table_u64(table, row->p95_ns);
        ap_table_u64(table, row->p99_ns);
        ap_table_u64(table, row->max_ns);
        ap_table_u64(table, row->timeouts);
        ap_table_text(table, row->type);
        ap_table_text(table, row->host);
        ap_table_u64(table, row->pid);
        ap_table_text(table, row->comm);
        ap_table_u64(table, row->address);
        ap_table_text(table, row->symbol);
        ap_table_text(table, row->top_waiter);
        ap_table_text(table, row->top_waker);
    }
    return table;
}

static struct ap_table *syscalls_table(const struct ap_aggregate_answer *answer)
{
    static const struct ap_column columns[] = {
        {"total_ns", "TOTAL", AP_CELL_NS}, {"count", "CALLS", AP_CELL_COUNT}, {"errors", "ERRORS", AP_CELL_COUNT},
        {"p50_ns", "P50", AP_CELL_NS},     {"p95_ns", "P95", AP_CELL_NS},     {"p99_ns", "P99", AP_CELL_NS},
        {"max_ns", "MAX", AP_CELL_NS},     {"host", "HOST", AP_CELL_TEXT},    {"pid", "PID", AP_CELL_COUNT},
        {"comm", "COMM", AP_CELL_TEXT},    {"name", "CALL", AP_CELL_TEXT},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_syscall_answer_row *row;
    size_t i;

    for (i = 0; table && i < answer->syscall_cnt; i++) {
        row = &answer->syscalls[i];
        ap_table_u64(table, row->total_ns);
        ap_table_u64(table, row->count);
        ap_table_u64(table, row->errors);
        ap_table_u64(table, row->p50_ns);
        ap_table_u64(table, row->p95_ns);
        ap_table_u64(table, row->p99_ns);
        ap_table_u64(table, row->max_ns);
        ap_table_text(table, row->host);
        ap_table_u64(table, row->pid);
        ap_table_text(table, row->comm);
        ap_table_text(table, row->name);
    }
    return table;
}

int ap_cli_show_aggregate(const struct ap_aggregate_answer *answer, uint8_t kind, bool functions_only,
                          enum ap_cli_format format, struct ap_out *out)
{
    const struct ap_functions_answer *functions = &answer->functions;
    int rc;

    if (kind == AP_KIND_LOCK && !functions_only)
        rc = begin(locks_table(answer), format, "locks", out);
    else if (kind == AP_KIND_SYSCALL && !functions_only)
        rc = begin(syscalls_table(answer), format, "syscalls", out);
    else
        rc = begin(functions_table(functions), format, "functions", out);
    if (rc)
        return rc;
    return end_with(&functions->provenance, format, out);
}

int ap_cli_show_diff(const struct ap_diff_answer *answer, enum ap_cli_format format, struct ap_out *out)
{
    static const struct ap_column columns[] = {
        {"self_change", "SELF CHANGE", AP_CELL_SHARE},
        {"total_change", "TOTAL CHANGE", AP_CELL_SHARE},
        {"significant", "SIGNIFICANT", AP_CELL_BOOL},
        {"p_value", "P", AP_CELL_NUMBER},
        {"self_before", "SELF BEFORE", AP_CELL_NS},
        {"self_after", "SELF AFTER", AP_CELL_NS},
        {"total_before", "TOTAL BEFORE", AP_CELL_NS},
        {"total_after", "TOTAL AFTER", AP_CELL_NS},
        {"kind", "KIND", AP_CELL_TEXT},
        {"function", "FUNCTION", AP_CELL_TEXT},
        {"module", "MODULE", AP_CELL_TEXT},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const struct ap_function_change *row;
    size_t i;
    int rc;

    for (i = 0; table && i < answer->row_cnt; i++) {
        row = &answer->rows[i];
        ap_table_double(table, row->self_change);
        ap_table_double(table, row->total_change);
        ap_table_u64(table, row->significant);
        ap_table_double(table, row->p_value);
        ap_table_u64(table, row->self_before);
        ap_table_u64(table, row->self_after);
        ap_table_u64(table, row->total_before);
        ap_table_u64(table, row->total_after);
        ap_table_text(table, ap_frame_kind_name(row->kind));
        ap_table_text(table, row->function);
        ap_table_text(table, row->module);
    }
    rc = begin(table, format, "functions", out);
    if (rc)
        return rc;
    if (format == AP_CLI_JSON) {
        put_provenance("before", &answer->before, out);
        put_provenance("after", &answer->after, out);
    } else if (format == AP_CLI_TABLE) {
        ap_out_char(out, '\n');
        say_provenance("before: ", &answer->before, out);
        say_provenance("after:  ", &answer->after, out);
    }
    return end(format, out);
}
