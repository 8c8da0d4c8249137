/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/format.h"

#include "core/clock.h"
#include "core/parse.h"
#include "format/names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Widest column of names, in characters; longer ones push the rest of their row on, or are cut on a terminal.
 */
#define NAME_WIDTH_MAX 56
/* Rows of the diagnosis shown; the JSON document has them all. */
#define UNRESOLVED_ROWS 8
/* From this share of the total on a row stands out. */
#define HOT_PERCENT 5.0

/* Terminal sequences, all empty without colour. */
struct style {
    bool colour;
    const char *bold, *dim, *good, *bad, *reset;
};

static struct style style_of(bool colour)
{
    if (!colour)
        return (struct style){false, "", "", "", "", ""};
    return (struct style){true, "\033[1m", "\033[2m", "\033[32m", "\033[1;31m", "\033[0m"};
}

static const char *kind_colour(const struct style *style, uint8_t kind)
{
    if (!style->colour)
        return "";
    switch (kind) {
    case AP_FRAME_NATIVE:
        return "\033[32m";
    case AP_FRAME_KERNEL:
        return "\033[33m";
    case AP_FRAME_JIT:
    case AP_FRAME_INTERPRETED:
        return "\033[36m";
    case AP_FRAME_GPU:
        return "\033[35m";
    case AP_FRAME_UNKNOWN:
        return "\033[31m";
    default:
        return "\033[2m";
    }
}

static double percent_of(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : 100.0 * (double)part / (double)whole;
}

/* Characters of `str` as write_name() writes it. */
static size_t name_width(const char *str)
{
    size_t width = 0;
    uint32_t cp;

    for (; *str != '\0'; width++)
        str += ap_utf8_next(str, &cp);
    return width;
}

/* Writes a name that may hold anything, at most `max` characters of it, and blanks up to `pad` characters.
 * What could steer a terminal becomes '?'. */
static void write_name(struct ap_out *out, const char *str, size_t max, size_t pad)
{
    size_t width = name_width(str), keep = width > max ? max - 3 : width;
    uint32_t cp;

    for (size_t i = 0; i < keep; i++) {
        size_t len = ap_utf8_next(str, &cp);

        if (ap_utf8_is_unsafe(cp))
            ap_out_char(out, '?');
        else
            ap_out_write(out, str, len);
        str += len;
    }
    if (keep < width) {
        ap_out_str(out, "...");
        width = max;
    }
    for (; width < pad; width++)
        ap_out_char(out, ' ');
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (path[0] == '/' && path[1] == '/') /* "//anon" is no file */
        return path;
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

/* Heading
 * -------------------------------------------------------------------------------------------------------- */

static const char *kind_title(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "CPU time";
    case AP_KIND_OFFCPU:
        return "Time off CPU";
    case AP_KIND_LOCK:
        return "Time waiting for locks";
    case AP_KIND_SYSCALL:
        return "Time in system calls";
    case AP_KIND_GPU:
        return "Time on the GPU";
    default:
        return "Time";
    }
}

static void write_heading(const struct ap_capture *capture, const struct ap_profile *profile, const struct style *style,
                          struct ap_out *out)
{
    const struct ap_agent_info *agent = &capture->agent;
    time_t seconds = (time_t)(profile->start_ns / AP_NS_PER_SEC);
    char span[AP_FORMAT_SZ], when[32] = "";
    struct tm tm;

    ap_out_printf(out, "%s%s", style->bold, kind_title(profile->kind));
    if (agent->host[0] != '\0') {
        ap_out_str(out, " on ");
        write_name(out, agent->host, SIZE_MAX, 0);
    }
    ap_out_printf(out, ", %s%s: ", ap_format_duration(span, profile->duration_ns), style->reset);
    if (profile->kind == AP_KIND_CPU && agent->frequency != 0) {
        ap_out_printf(out, "%" PRIu64 " Hz", agent->frequency);
        if (agent->cpus_online != 0)
            ap_out_printf(out, " x %" PRIu32 " CPU%s", agent->cpus_online, agent->cpus_online == 1 ? "" : "s");
        if (agent->event[0] != '\0') {
            ap_out_str(out, " (");
            write_name(out, agent->event, SIZE_MAX, 0);
            ap_out_char(out, ')');
        }
        ap_out_str(out, ", ");
    }
    ap_out_printf(out, "%s%" PRIu64 " %s%s, %s in total\n", style->bold, ap_profile_total_count(profile),
                  profile->kind == AP_KIND_CPU ? "samples" : "events", style->reset,
                  ap_format_duration(span, ap_profile_total_value(profile)));
    ap_out_str(out, style->dim);
    if (profile->start_ns != 0 && gmtime_r(&seconds, &tm) != NULL &&
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm) > 0)
        ap_out_str(out, when);
    if (agent->kernel[0] != '\0') {
        ap_out_printf(out, "%sLinux ", when[0] != '\0' ? ", " : "");
        write_name(out, agent->kernel, SIZE_MAX, 0);
        ap_out_char(out, ' ');
        write_name(out, agent->arch, SIZE_MAX, 0);
    }
    ap_out_printf(out, "%s%s\n", when[0] != '\0' || agent->kernel[0] != '\0' ? "\n" : "", style->reset);
}

/* Table
 * ----------------------------------------------------------------------------------------------------------
 */

struct table {
    const struct ap_profile *profile;
    const struct style *style;
    uint64_t whole; /* what 100 % is */
    bool by_count;  /* no row has a value: show raw events */
    size_t width;   /* of the column FUNCTION */
};

static void write_amount(const struct table *table, uint64_t value, uint64_t count, struct ap_out *out)
{
    uint64_t amount = table->by_count ? count : value;
    double percent = percent_of(amount, table->whole);
    const char *strong = percent >= HOT_PERCENT ? table->style->bold : "";
    char text[AP_FORMAT_SZ];

    if (amount == 0)
        snprintf(text, sizeof(text), "-");
    else if (table->by_count)
        snprintf(text, sizeof(text), "%" PRIu64, amount);
    else
        ap_format_duration(text, amount);
    ap_out_printf(out, "%10s %s%6.2f%%%s  ", text, strong, percent, strong[0] != '\0' ? table->style->reset : "");
}

static const char *row_name(const struct ap_profile *profile, const struct ap_top_row *row)
{
    return ap_name_or_unknown(ap_profile_str(profile, row->name));
}

static void write_row(const struct table *table, const struct ap_top_row *row, struct ap_out *out)
{
    const struct style *style = table->style;
    const char *module = base_name(ap_profile_str(table->profile, row->module));

    write_amount(table, row->self, row->self_count, out);
    write_amount(table, row->total, row->total_count, out);
    ap_out_str(out, kind_colour(style, row->kind));
    write_name(out, row_name(table->profile, row), style->colour ? table->width : SIZE_MAX, table->width);
    ap_out_printf(out, "%s  %s", style->reset, style->dim);
    write_name(out, module[0] != '\0' ? module : "-", SIZE_MAX, 0);
    ap_out_printf(out, "%s\n", style->reset);
}

/* Names the colours, those that the table used. */
static void write_legend(const struct ap_top *top, uint32_t rows, const struct style *style, struct ap_out *out)
{
    bool used[AP_FRAME_MARK + 1] = {false};

    for (uint32_t i = 0; i < rows; i++)
        if (top->rows[i].kind <= AP_FRAME_MARK)
            used[top->rows[i].kind] = true;
    ap_out_str(out, "\n          ");
    for (unsigned kind = 0; kind < AP_FRAME_PROCESS; kind++)
        if (used[kind])
            ap_out_printf(out, "%s  %s%s", kind_colour(style, (uint8_t)kind), ap_frame_kind_name((uint8_t)kind),
                          style->reset);
    ap_out_char(out, '\n');
}

static void write_table(const struct ap_profile *profile, const struct ap_top *top, uint32_t rows,
                        const struct style *style, struct ap_out *out)
{
    struct table table = {.profile = profile, .style = style, .whole = ap_profile_total_value(profile)};
    uint64_t rest = 0;

    if (table.whole == 0) {
        table.by_count = true;
        table.whole = ap_profile_total_count(profile);
    }
    table.width = strlen("FUNCTION");
    for (uint32_t i = 0; i < rows; i++) {
        size_t width = name_width(row_name(profile, &top->rows[i]));

        if (width > table.width)
            table.width = width;
    }
    if (table.width > NAME_WIDTH_MAX)
        table.width = NAME_WIDTH_MAX;
    ap_out_printf(out, "%s%10s %7s  %10s %7s  %-*s  %s%s\n", style->bold, "SELF", "SELF%", "TOTAL", "TOTAL%",
                  (int)table.width, "FUNCTION", "MODULE", style->reset);
    for (uint32_t i = 0; i < rows && ap_out_error(out) == 0; i++)
        write_row(&table, &top->rows[i], out);
    for (uint32_t i = rows; i < top->row_cnt; i++)
        rest += table.by_count ? top->rows[i].self_count : top->rows[i].self;
    if (rows < top->row_cnt)
        ap_out_printf(out, "%s%10s %6.2f%%  in %" PRIu32 " more function%s%s\n", style->dim, "...",
                      percent_of(rest, table.whole), top->row_cnt - rows, top->row_cnt - rows == 1 ? "" : "s",
                      style->reset);
    if (style->colour)
        write_legend(top, rows, style, out);
}

int ap_text_write(const struct ap_capture *capture, const struct ap_profile *profile, unsigned rows, bool colour,
                  struct ap_out *out)
{
    struct style style = style_of(colour);
    struct ap_top *top = ap_top_new(profile);

    if (top == NULL)
        return -ENOMEM;
    write_heading(capture, profile, &style, out);
    if (top->row_cnt == 0)
        ap_out_str(out, profile->kind == AP_KIND_CPU
                            ? "No samples: the CPUs were idle, or what was selected did not run.\n"
                            : "No events: nothing that was selected waited long enough to be recorded.\n");
    else
        write_table(profile, top, rows == 0 || rows > top->row_cnt ? top->row_cnt : rows, &style, out);
    ap_top_free(top);
    return ap_out_error(out);
}

/* Account
 * -------------------------------------------------------------------------------------------------------- */

static void write_losses(const struct ap_capture *capture, const struct style *style, struct ap_out *out)
{
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++) {
        const char *colour = ap_loss_is_sample(i) ? style->bad : style->bold;

        if (capture->losses[i] != 0)
            ap_out_printf(out, "%s%14" PRIu64 "  %-10s%s  %s\n", colour, capture->losses[i], ap_loss_name(i),
                          style->reset, ap_loss_help(i));
    }
}

static void write_samples(const struct ap_capture *capture, const struct style *style, struct ap_out *out)
{
    uint64_t lost = ap_capture_lost(capture), accounted = capture->delivered + lost;

    ap_out_printf(out, "%sSamples%s   expected %" PRIu64 " = %sdelivered %" PRIu64 "%s + %slost %" PRIu64 "%s",
                  style->bold, style->reset, capture->expected, style->good, capture->delivered, style->reset,
                  lost == 0 ? style->good : style->bad, lost, style->reset);
    if (lost != 0)
        ap_out_printf(out, " (%.2f%%)", percent_of(lost, capture->expected));
    ap_out_char(out, '\n');
    write_losses(capture, style, out);
    /* The rule is that the sum holds; where it does not, the reader must know. */
    if (accounted != capture->expected)
        ap_out_printf(out, "%s%14" PRIu64 "  %s%s  please report this: the account does not add up\n", style->bad,
                      accounted > capture->expected ? accounted - capture->expected : capture->expected - accounted,
                      accounted > capture->expected ? "too many" : "missing", style->reset);
    if (capture->idle != 0)
        ap_out_printf(out, "%s%14" PRIu64 "  ticks found the CPU idle: not expected%s\n", style->dim, capture->idle,
                      style->reset);
    if (capture->out_of_scope != 0)
        ap_out_printf(out, "%s%14" PRIu64 "  ticks met what --pid, --cgroup or --comm exclude: not expected%s\n",
                      style->dim, capture->out_of_scope, style->reset);
}

static void write_unresolved_rows(const struct ap_capture *capture, unsigned rows, const struct style *style,
                                  struct ap_out *out)
{
    bool helped[UINT8_MAX + 1] = {false};
    size_t width = 0;

    for (unsigned i = 0; i < rows; i++) {
        size_t row_width = name_width(ap_name_or_unknown(capture->unresolved[i].module));

        if (row_width > width)
            width = row_width;
    }
    if (width > NAME_WIDTH_MAX)
        width = NAME_WIDTH_MAX;
    for (unsigned i = 0; i < rows; i++) {
        const struct ap_unresolved_row *row = &capture->unresolved[i];

        ap_out_printf(out, "%14" PRIu64 "  ", row->samples);
        write_name(out, ap_name_or_unknown(row->module), style->colour ? width : SIZE_MAX, width);
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

static void write_names(const struct ap_capture *capture, const struct style *style, struct ap_out *out)
{
    unsigned rows = capture->unresolved_cnt < UNRESOLVED_ROWS ? capture->unresolved_cnt : UNRESOLVED_ROWS;

    if (capture->frames_total == 0 && rows == 0)
        return;
    ap_out_printf(out, "%sNames%s     ", style->bold, style->reset);
    if (capture->frames_unresolved == 0)
        ap_out_printf(out, "%sall %" PRIu64 " frames%s have a function name\n", style->good, capture->frames_total,
                      style->reset);
    else
        ap_out_printf(out, "%" PRIu64 " of %" PRIu64 " frames (%.1f%%) have no function name\n",
                      capture->frames_unresolved, capture->frames_total,
                      percent_of(capture->frames_unresolved, capture->frames_total));
    write_unresolved_rows(capture, rows, style, out);
}

static void write_cost(const struct ap_capture *capture, const struct style *style, struct ap_out *out)
{
    const struct ap_agent_info *agent = &capture->agent;
    uint64_t duration = 0;
    char text[AP_FORMAT_SZ];

    for (unsigned i = 0; i < capture->profile_cnt; i++)
        if (capture->profiles[i]->duration_ns > duration)
            duration = capture->profiles[i]->duration_ns;
    ap_out_printf(out, "%sAgent%s     ", style->bold, style->reset);
    if (duration != 0)
        ap_out_printf(out, "%.2f%% of one CPU, ", percent_of(agent->cpu_ns, duration));
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
    struct style style = style_of(colour);

    ap_out_char(out, '\n');
    write_samples(capture, &style, out);
    write_names(capture, &style, out);
    write_cost(capture, &style, out);
    return ap_out_error(out);
}
