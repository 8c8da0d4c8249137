/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/text.h"

#include "core/clock.h"
#include "format/names.h"
#include "model/locks.h"
#include "model/syscalls.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Widest column of names, in characters; longer ones push the rest of their row on, or are cut on a terminal.
 */
#define NAME_WIDTH_MAX 56
/* From this share of the total on a row stands out. */
#define HOT_PERCENT 5.0

static const char *kind_colour(const struct ap_text_style *style, uint8_t kind)
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

/* What the kind's own table counts, else the samples. */
static void totals(const struct ap_profile *profile, uint64_t *ret_count, uint64_t *ret_value)
{
    *ret_count = ap_profile_total_count(profile);
    *ret_value = ap_profile_total_value(profile);
    if (profile->syscalls != NULL) {
        *ret_count = ap_syscalls_count(profile->syscalls);
        *ret_value = ap_syscalls_total_ns(profile->syscalls);
    } else if (profile->locks != NULL && profile->sample_cnt == 0) {
        for (size_t i = 0; i < profile->locks->row_cnt; i++) {
            *ret_count += profile->locks->rows[i]->waits;
            *ret_value += profile->locks->rows[i]->total_ns;
        }
    }
}

static void write_heading(const struct ap_capture *capture, const struct ap_profile *profile,
                          const struct ap_text_style *style, struct ap_out *out)
{
    const struct ap_agent_info *agent = &capture->agent;
    time_t seconds = (time_t)(profile->start_ns / AP_NS_PER_SEC);
    char span[AP_FORMAT_SZ], when[32] = "";
    uint64_t count, value;
    struct tm tm;

    ap_out_printf(out, "%s%s", style->bold, kind_title(profile->kind));
    if (agent->host[0] != '\0') {
        ap_out_str(out, " on ");
        ap_text_name(out, agent->host, SIZE_MAX, 0);
    }
    ap_out_printf(out, ", %s%s: ", ap_format_duration(span, profile->duration_ns), style->reset);
    if (profile->kind == AP_KIND_CPU && agent->frequency != 0) {
        ap_out_printf(out, "%" PRIu64 " Hz", agent->frequency);
        if (agent->cpus_online != 0)
            ap_out_printf(out, " x %" PRIu32 " CPU%s", agent->cpus_online, agent->cpus_online == 1 ? "" : "s");
        if (agent->event[0] != '\0') {
            ap_out_str(out, " (");
            ap_text_name(out, agent->event, SIZE_MAX, 0);
            ap_out_char(out, ')');
        }
        ap_out_str(out, ", ");
    }
    totals(profile, &count, &value);
    ap_out_printf(out, "%s%" PRIu64 " %s%s%s, %s in total\n", style->bold, count, ap_event_word(profile->kind),
                  count == 1 ? "" : "s", style->reset, ap_format_duration(span, value));
    ap_out_str(out, style->dim);
    if (profile->start_ns != 0 && gmtime_r(&seconds, &tm) != NULL &&
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm) > 0)
        ap_out_str(out, when);
    if (agent->kernel[0] != '\0') {
        ap_out_printf(out, "%sLinux ", when[0] != '\0' ? ", " : "");
        ap_text_name(out, agent->kernel, SIZE_MAX, 0);
        ap_out_char(out, ' ');
        ap_text_name(out, agent->arch, SIZE_MAX, 0);
    }
    ap_out_printf(out, "%s%s\n", when[0] != '\0' || agent->kernel[0] != '\0' ? "\n" : "", style->reset);
}

/* Functions
 * ------------------------------------------------------------------------------------------------------- */

struct table {
    const struct ap_profile *profile;
    const struct ap_text_style *style;
    uint64_t whole; /* what 100 % is */
    bool by_count;  /* no row has a value: show raw events */
    size_t width;   /* of the column FUNCTION */
};

static void write_amount(const struct table *table, uint64_t value, uint64_t count, struct ap_out *out)
{
    uint64_t amount = table->by_count ? count : value;
    double percent = ap_text_percent(amount, table->whole);
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
    const struct ap_text_style *style = table->style;
    const char *module = ap_text_base_name(ap_profile_str(table->profile, row->module));

    write_amount(table, row->self, row->self_count, out);
    write_amount(table, row->total, row->total_count, out);
    ap_out_str(out, kind_colour(style, row->kind));
    ap_text_name(out, row_name(table->profile, row), style->colour ? table->width : SIZE_MAX, table->width);
    ap_out_printf(out, "%s  %s", style->reset, style->dim);
    ap_text_name(out, module[0] != '\0' ? module : "-", SIZE_MAX, 0);
    ap_out_printf(out, "%s\n", style->reset);
}

/* Names the colours, those that the table used. */
static void write_legend(const struct ap_top *top, uint32_t rows, const struct ap_text_style *style, struct ap_out *out)
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
                        const struct ap_text_style *style, struct ap_out *out)
{
    struct table table = {.profile = profile, .style = style, .whole = ap_profile_total_value(profile)};
    bool waits = profile->kind == AP_KIND_OFFCPU || profile->kind == AP_KIND_LOCK;
    const char *heading = waits ? "WAITED IN" : "FUNCTION";
    uint64_t rest = 0;

    if (table.whole == 0) {
        table.by_count = true;
        table.whole = ap_profile_total_count(profile);
    }
    table.width = strlen(heading);
    for (uint32_t i = 0; i < rows; i++) {
        size_t width = ap_text_width(row_name(profile, &top->rows[i]));

        if (width > table.width)
            table.width = width;
    }
    if (table.width > NAME_WIDTH_MAX)
        table.width = NAME_WIDTH_MAX;
    ap_out_printf(out, "%s%10s %7s  %10s %7s  %-*s  %s%s\n", style->bold, "SELF", "SELF%", "TOTAL", "TOTAL%",
                  (int)table.width, heading, "MODULE", style->reset);
    for (uint32_t i = 0; i < rows && ap_out_error(out) == 0; i++)
        write_row(&table, &top->rows[i], out);
    for (uint32_t i = rows; i < top->row_cnt; i++)
        rest += table.by_count ? top->rows[i].self_count : top->rows[i].self;
    if (rows < top->row_cnt)
        ap_out_printf(out, "%s%10s %6.2f%%  in %" PRIu32 " more function%s%s\n", style->dim, "...",
                      ap_text_percent(rest, table.whole), top->row_cnt - rows, top->row_cnt - rows == 1 ? "" : "s",
                      style->reset);
    if (style->colour)
        write_legend(top, rows, style, out);
}

static const char *empty_text(uint8_t kind)
{
    switch (kind) {
    case AP_KIND_CPU:
        return "No samples: the CPUs were idle, or what was selected did not run.\n";
    case AP_KIND_OFFCPU:
        return "No waits: nothing that was selected was off the CPU for long enough to be recorded.\n";
    case AP_KIND_LOCK:
        return "No waits: nothing that was selected waited for a lock.\n";
    case AP_KIND_SYSCALL:
        return "No calls: nothing that was selected made a system call.\n";
    default:
        return "No events: nothing that was selected lasted long enough to be recorded.\n";
    }
}

int ap_text_write(const struct ap_capture *capture, const struct ap_profile *profile, unsigned rows, bool colour,
                  struct ap_out *out)
{
    struct ap_text_style style = ap_text_style(colour);
    bool tables = (profile->syscalls != NULL && profile->syscalls->row_cnt != 0) ||
                  (profile->locks != NULL && profile->locks->row_cnt != 0);
    struct ap_top *top = ap_top_new(profile);
    int r = 0;

    if (top == NULL)
        return -ENOMEM;
    write_heading(capture, profile, &style, out);
    if (top->row_cnt == 0 && !tables)
        ap_out_str(out, empty_text(profile->kind));
    if (profile->locks != NULL)
        ap_text_locks(profile, rows, &style, out);
    if (profile->syscalls != NULL)
        r = ap_text_syscalls(profile, rows, &style, out);
    if (top->row_cnt != 0) {
        if (tables)
            ap_out_printf(out, "\n%s%s%s\n\n", style.bold,
                          profile->kind == AP_KIND_SYSCALL ? "Slow calls by function" : "All waits by function",
                          style.reset);
        write_table(profile, top, rows == 0 || rows > top->row_cnt ? top->row_cnt : rows, &style, out);
    }
    ap_top_free(top);
    return r != 0 ? r : ap_out_error(out);
}
