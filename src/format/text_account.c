/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The account that closes a text: what was expected, delivered and lost, what has no name, what the agent cost. */
#include "format/names.h"
#include "format/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Widest column of names, in characters; longer ones push the rest of their row on, or are cut on a terminal. */
#define NAME_WIDTH_MAX 56
/* Rows of the diagnosis shown; the JSON document has them all. */
#define UNRESOLVED_ROWS 8
/* Columns of the lines' headings, for one profile and for several. */
#define LABEL_WIDTH      10
#define LABEL_WIDTH_MANY 17

/* A line's heading: "Samples   ", or "Waits (lock)    " when there are several profiles. */
static void write_label(const struct ap_capture *capture, const char *label, const char *kind,
                        const struct ap_text_style *style, struct ap_out *out)
{
    char text[64];

    if (kind != NULL && capture->profile_cnt > 1)
        (void)snprintf(text, sizeof(text), "%s (%s)", label, kind);
    else
        (void)snprintf(text, sizeof(text), "%s", label);
    ap_out_printf(out, "%s%s%s%*s", style->bold, text, style->reset,
                  (capture->profile_cnt > 1 ? LABEL_WIDTH_MANY : LABEL_WIDTH) - (int)strlen(text), "");
}

static void write_losses(const struct ap_account *account, const struct ap_text_style *style, struct ap_out *out)
{
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        const char *colour = ap_loss_is_sample(i) ? style->bad : style->bold;

        if (account->losses[i] != 0)
            ap_out_printf(out, "%s%14" PRIu64 "  %-10s%s  %s\n", colour, account->losses[i], ap_loss_name(i),
                          style->reset, ap_loss_help(i));
    }
}

static void write_beside_line(uint64_t n, const char *event, const char *what, struct ap_out *out)
{
    if (n != 0)
        ap_out_printf(out, "%14" PRIu64 "  %s%s %s\n", n, event, n == 1 ? "" : "s", what);
}

/* What is no part of expected = delivered + lost, and why. */
static void write_beside(const struct ap_account *account, uint8_t kind, const struct ap_text_style *style,
                         struct ap_out *out)
{
    const char *event = ap_event_word(kind);
    char span[AP_FORMAT_SZ], text[AP_FORMAT_SZ + 64];

    ap_out_str(out, style->dim);
    write_beside_line(account->idle, "tick", "found the CPU idle: not expected", out);
    if (kind == AP_KIND_CPU)
        write_beside_line(account->out_of_scope, "tick", "met what --pid, --cgroup or --comm exclude: not expected",
                          out);
    else
        write_beside_line(account->out_of_scope, event, "of what --pid, --cgroup or --comm exclude: not expected", out);
    (void)snprintf(text, sizeof(text), "shorter than --min-block, %s together: not expected",
                   ap_format_duration(span, account->below_min_ns));
    write_beside_line(account->below_min, event, text, out);
    write_beside_line(account->unmatched, event, "begun before the recording, so of unknown length: not expected", out);
    write_beside_line(account->folded, event, "summed under \"other\": a bound of a table was reached", out);
    ap_out_str(out, style->reset);
}

static void write_account(const struct ap_capture *capture, unsigned i, const struct ap_text_style *style,
                          struct ap_out *out)
{
    const struct ap_account *account = &capture->accounts[i];
    uint8_t kind = capture->profiles[i]->kind;
    uint64_t lost = ap_account_lost(account), accounted = account->delivered + lost;

    write_label(capture, ap_event_heading(kind), ap_event_kind_name(kind), style, out);
    ap_out_printf(out, "expected %" PRIu64 " = %sdelivered %" PRIu64 "%s + %slost %" PRIu64 "%s", account->expected,
                  style->good, account->delivered, style->reset, lost == 0 ? style->good : style->bad, lost,
                  style->reset);
    if (lost != 0)
        ap_out_printf(out, " (%.2f%%)", ap_text_percent(lost, account->expected));
    ap_out_char(out, '\n');
    write_losses(account, style, out);
    /* The rule is that the sum holds; where it does not, the reader must know. */
    if (accounted != account->expected)
        ap_out_printf(out, "%s%14" PRIu64 "  %s%s  please report this: the account does not add up\n", style->bad,
                      accounted > account->expected ? accounted - account->expected : account->expected - accounted,
                      accounted > account->expected ? "too many" : "missing", style->reset);
    write_beside(account, kind, style, out);
}

static void write_left_out(const struct ap_capture *capture, const struct ap_text_style *style, struct ap_out *out)
{
    for (unsigned i = 0; i < capture->left_out_cnt; i++) {
        const struct ap_left_out *left_out = &capture->left_out[i];

        write_label(capture, "Left out", NULL, style, out);
        ap_out_printf(out, "%s%s%s: ", style->bad, ap_event_kind_name(left_out->kind), style->reset);
        ap_text_name(out, left_out->reason, SIZE_MAX, 0);
        ap_out_char(out, '\n');
    }
}

static void write_unresolved_rows(const struct ap_capture *capture, unsigned rows, const struct ap_text_style *style,
                                  struct ap_out *out)
{
    bool helped[UINT8_MAX + 1] = {false};
    size_t width = 0;

    for (unsigned i = 0; i < rows; i++) {
        size_t row_width = ap_text_width(ap_name_or_unknown(capture->unresolved[i].module));

        if (row_width > width)
            width = row_width;
    }
    if (width > NAME_WIDTH_MAX)
        width = NAME_WIDTH_MAX;
    for (unsigned i = 0; i < rows; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_printf(out, "%14" PRIu64 "  ", row->samples);
        ap_text_name(out, ap_name_or_unknown(row->module), style->colour ? width : SIZE_MAX, width);
        ap_out_printf(out, "  %s%s%s\n", style->bold, ap_unresolved_name(row->reason), style->reset);
    }
    if (rows < capture->unresolved_cnt) {
        uint64_t rest = 0;

        for (unsigned i = rows; i < capture->unresolved_cnt; i++)
            rest += capture->unresolved[i].samples;
        ap_out_printf(out, "%s%14" PRIu64 "  in %u more rows%s\n", style->dim, rest, capture->unresolved_cnt - rows,
                      style->reset);
    }
    /* One line of advice for each reason, however many modules share it. */
    for (unsigned i = 0; i < rows; i++) {
        uint8_t reason = capture->unresolved[i].reason;

        if (!helped[reason])
            ap_out_printf(out, "          %s%s%s: %s\n", style->bold, ap_unresolved_name(reason), style->reset,
                          ap_unresolved_help(reason));
        helped[reason] = true;
    }
}

static void write_names(const struct ap_capture *capture, const struct ap_text_style *style, struct ap_out *out)
{
    unsigned rows = capture->unresolved_cnt < UNRESOLVED_ROWS ? capture->unresolved_cnt : UNRESOLVED_ROWS;

    if (capture->frames_total == 0 && rows == 0)
        return;
    write_label(capture, "Names", NULL, style, out);
    if (capture->frames_unresolved == 0)
        ap_out_printf(out, "%sall %" PRIu64 " frames%s have a function name\n", style->good, capture->frames_total,
                      style->reset);
    else
        ap_out_printf(out, "%" PRIu64 " of %" PRIu64 " frames (%.1f%%) have no function name\n",
                      capture->frames_unresolved, capture->frames_total,
                      ap_text_percent(capture->frames_unresolved, capture->frames_total));
    write_unresolved_rows(capture, rows, style, out);
}

static void write_cost(const struct ap_capture *capture, const struct ap_text_style *style, struct ap_out *out)
{
    const struct ap_agent_info *agent = &capture->agent;
    uint64_t duration = 0;
    char text[AP_FORMAT_SZ];

    for (unsigned i = 0; i < capture->profile_cnt; i++)
        if (capture->profiles[i]->duration_ns > duration)
            duration = capture->profiles[i]->duration_ns;
    write_label(capture, "Agent", NULL, style, out);
    if (duration != 0)
        ap_out_printf(out, "%.2f%% of one CPU, ", ap_text_percent(agent->cpu_ns, duration));
    else
        ap_out_printf(out, "%s of CPU time, ", ap_format_duration(text, agent->cpu_ns));
    ap_out_printf(out, "%s peak memory, ", ap_format_size(text, agent->rss_peak_bytes));
    ap_out_printf(out, "%s of BPF memory", ap_format_size(text, agent->bpf_memory_bytes));
    if (agent->bpf_run_ns != 0 && agent->bpf_run_cnt != 0)
        ap_out_printf(out, ", %" PRIu64 " ns per BPF run (%" PRIu64 " runs)", agent->bpf_run_ns / agent->bpf_run_cnt,
                      agent->bpf_run_cnt);
    ap_out_char(out, '\n');
}

int ap_text_account(const struct ap_capture *capture, bool colour, struct ap_out *out)
{
    struct ap_text_style style = ap_text_style(colour);

    ap_out_char(out, '\n');
    for (unsigned i = 0; i < capture->profile_cnt; i++)
        write_account(capture, i, &style, out);
    write_left_out(capture, &style, out);
    write_names(capture, &style, out);
    write_cost(capture, &style, out);
    return ap_out_error(out);
}
