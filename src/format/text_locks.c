/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Locks as text: those that are contended, those that are waited on for an event, and who waited for whom. */
#include "format/names.h"
#include "format/text.h"
#include "model/locks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Widest columns, in characters. The JSON document has the names in full. */
#define LOCK_WIDTH_MAX    24
#define PROCESS_WIDTH_MAX 18
#define SITE_WIDTH_MAX    24
/* Locks of either sort that are told about in sentences, and combinations of waiter and waker of each. */
#define DETAIL_LOCKS 5
#define DETAIL_PAIRS 3
/* A cell that is put together here: names are cut to their column, so that it need not hold more. */
#define CELL_SZ 512

struct lock_table {
    const struct ap_profile *profile;
    const struct ap_text_style *style;
    struct ap_lock_row *const *rows; /* contention or events */
    size_t cnt;                      /* of the rows shown */
    size_t lock_width, process_width, type_width, site_width;
    bool contention, has_open;
};

static const char *str(const struct ap_profile *profile, uint32_t id)
{
    return ap_profile_str(profile, id);
}

static const char *lock_name(const struct ap_profile *profile, const struct ap_lock_row *row, char buf[CELL_SZ])
{
    const char *symbol = str(profile, row->symbol);

    if (symbol[0] != '\0')
        return symbol;
    if (row->address == 0)
        return "(other locks)";
    (void)snprintf(buf, CELL_SZ, "0x%" PRIx64, row->address);
    return buf;
}

static const char *process_name(const struct ap_profile *profile, const struct ap_lock_row *row, char buf[CELL_SZ])
{
    if (row->kernel)
        return "[kernel]";
    if (row->process == 0 && row->pid == 0 && row->comm == 0)
        return "(several)";
    if (row->pid == 0)
        return ap_name_or_unknown(str(profile, row->comm));
    (void)snprintf(buf, CELL_SZ, "%.400s/%" PRIu32, ap_name_or_unknown(str(profile, row->comm)), row->pid);
    return buf;
}

/* The place that most of the time is owed to. */
static const char *top_site(const struct ap_profile *profile, const struct ap_lock_side *sides, uint32_t cnt)
{
    uint32_t frame;

    if (cnt == 0)
        return "-";
    if (sides[0].stack == AP_LOCK_NO_STACK)
        return sides[0].series == AP_LOCK_OTHERS ? "(others)" : "-";
    frame = ap_lock_site(profile, sides[0].stack);
    return frame != 0 ? ap_name_or_unknown(str(profile, profile->frames[frame].function)) : "(no stack)";
}

static void widen(size_t *width, const char *text, size_t max)
{
    size_t len = ap_text_width(text);

    if (len > max)
        len = max;
    if (len > *width)
        *width = len;
}

static void measure(struct lock_table *table)
{
    char buf[CELL_SZ];

    table->lock_width = strlen("LOCK");
    table->process_width = strlen("PROCESS");
    table->type_width = strlen("TYPE");
    table->site_width = strlen("WAITS IN");
    for (size_t i = 0; i < table->cnt; i++) {
        const struct ap_lock_row *row = table->rows[i];

        widen(&table->lock_width, lock_name(table->profile, row, buf), LOCK_WIDTH_MAX);
        widen(&table->process_width, process_name(table->profile, row, buf), PROCESS_WIDTH_MAX);
        widen(&table->type_width, ap_lock_type_name(row->type), SIZE_MAX);
        widen(&table->site_width, top_site(table->profile, row->waiters, row->waiter_cnt), SITE_WIDTH_MAX);
        table->has_open |= row->in_flight != 0;
    }
}

static void write_name_cell(struct ap_out *out, const char *text, size_t width)
{
    ap_text_name(out, text, width, width);
    ap_out_str(out, "  ");
}

static void write_head(const struct lock_table *table, struct ap_out *out)
{
    ap_out_printf(out, "%s%-*s  %-*s  %-*s %7s %7s %7s %7s %7s %7s", table->style->bold, (int)table->lock_width, "LOCK",
                  (int)table->type_width, "TYPE", (int)table->process_width, "PROCESS", "WAITS", "TOTAL", "P50", "P95",
                  "P99", "MAX");
    if (table->has_open)
        ap_out_printf(out, " %5s", "OPEN");
    ap_out_printf(out, "  %-*s  %s%s\n", (int)table->site_width, "WAITS IN",
                  table->contention ? "RELEASED IN" : "WOKEN IN", table->style->reset);
}

static void write_row(const struct lock_table *table, const struct ap_lock_row *row, struct ap_out *out)
{
    const struct ap_histogram *h = &row->histogram;
    const uint64_t times[] = {row->total_ns, ap_histogram_quantile(h, 0.5, row->max_ns),
                              ap_histogram_quantile(h, 0.95, row->max_ns), ap_histogram_quantile(h, 0.99, row->max_ns),
                              row->max_ns};
    char buf[CELL_SZ], span[AP_FORMAT_SZ];

    ap_out_str(out, table->style->bold);
    write_name_cell(out, lock_name(table->profile, row, buf), table->lock_width);
    ap_out_printf(out, "%s%-*s  ", table->style->reset, (int)table->type_width, ap_lock_type_name(row->type));
    ap_text_name(out, process_name(table->profile, row, buf), table->process_width, table->process_width);
    ap_out_printf(out, " %7" PRIu64, row->waits);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        ap_out_printf(out, " %7s", ap_text_duration(span, times[i]));
    if (table->has_open && row->in_flight != 0)
        ap_out_printf(out, " %s%5" PRIu64 "%s", table->style->bad, row->in_flight, table->style->reset);
    else if (table->has_open)
        ap_out_printf(out, " %5s", "-");
    ap_out_str(out, "  ");
    write_name_cell(out, top_site(table->profile, row->waiters, row->waiter_cnt), table->site_width);
    ap_text_name(out, top_site(table->profile, row->wakers, row->waker_cnt), SITE_WIDTH_MAX, 0);
    ap_out_char(out, '\n');
}

/* "worker-3 (1234)" */
static void write_thread(const struct ap_profile *profile, const struct ap_lock_side *side, struct ap_out *out)
{
    const struct ap_series *series;

    if (side->stack == AP_LOCK_NO_STACK || side->series >= profile->series_cnt) {
        ap_out_str(out, side->series == AP_LOCK_OTHERS ? "others" : "somebody not known");
        return;
    }
    series = &profile->series[side->series];
    ap_text_name(out, ap_name_or_unknown(str(profile, series->comm)), SIZE_MAX, 0);
    if (series->pid != 0)
        ap_out_printf(out, " (%" PRIu32 ")", series->pid);
}

/* " in do_work (app.c:33)" */
static void write_place(const struct ap_profile *profile, const struct ap_lock_side *side, struct ap_out *out)
{
    uint32_t index = side->stack == AP_LOCK_NO_STACK ? 0 : ap_lock_site(profile, side->stack);
    const struct ap_frame *frame = &profile->frames[index];
    const char *file = str(profile, frame->file);

    if (index == 0)
        return;
    ap_out_str(out, " in ");
    ap_text_name(out, ap_name_or_unknown(str(profile, frame->function)), SIZE_MAX, 0);
    if (file[0] == '\0')
        return;
    ap_out_str(out, " (");
    ap_text_name(out, ap_text_base_name(file), SIZE_MAX, 0);
    if (frame->line != 0)
        ap_out_printf(out, ":%" PRIu32, frame->line);
    ap_out_char(out, ')');
}

static void write_pair(const struct ap_profile *profile, const struct ap_lock_row *row, const struct ap_lock_pair *pair,
                       struct ap_out *out)
{
    const struct ap_lock_side *waiter = &row->waiters[pair->waiter], *waker = &row->wakers[pair->waker];
    char span[AP_FORMAT_SZ];

    ap_out_str(out, "    ");
    write_thread(profile, waiter, out);
    ap_out_printf(out, " waited %s", ap_format_duration(span, pair->total_ns));
    if (pair->count == 1)
        ap_out_str(out, " once");
    else
        ap_out_printf(out, " in %" PRIu64 " waits", pair->count);
    write_place(profile, waiter, out);
    /* Who releases a lock of the kernel is not recorded. */
    if (!row->kernel || waker->stack != AP_LOCK_NO_STACK) {
        ap_out_str(out, ap_lock_type_is_contention(row->type) ? ", released by " : ", woken by ");
        write_thread(profile, waker, out);
        write_place(profile, waker, out);
    }
    ap_out_char(out, '\n');
}

static void write_pairs(const struct ap_profile *profile, const struct ap_lock_row *row,
                        const struct ap_text_style *style, struct ap_out *out)
{
    uint64_t count = 0, total = 0;
    uint32_t shown = 0, rest = 0;
    char span[AP_FORMAT_SZ];

    for (uint32_t i = 0; i < row->pair_cnt; i++) {
        const struct ap_lock_pair *pair = &row->pairs[i];

        if (shown < DETAIL_PAIRS && pair->waiter != AP_LOCK_REST) {
            write_pair(profile, row, pair, out);
            shown++;
            continue;
        }
        rest++;
        count += pair->count;
        total += pair->total_ns;
    }
    if (rest != 0)
        ap_out_printf(out, "    %s%s in %" PRIu64 " wait%s between others%s\n", style->dim,
                      ap_format_duration(span, total), count, count == 1 ? "" : "s", style->reset);
}

static void write_ending(uint64_t cnt, const char *how, const char *span_word, uint64_t ns, struct ap_out *out)
{
    char span[AP_FORMAT_SZ];

    if (cnt == 0)
        return;
    ap_out_printf(out, "    %" PRIu64 " wait%s %s", cnt, cnt == 1 ? "" : "s", how);
    if (ns != 0)
        ap_out_printf(out, " %s %s%s", span_word, ap_format_duration(span, ns), cnt == 1 ? "" : " together");
    ap_out_char(out, '\n');
}

static void write_detail(const struct lock_table *table, const struct ap_lock_row *row, struct ap_out *out)
{
    const struct ap_profile *profile = table->profile;
    char buf[CELL_SZ];

    ap_out_str(out, "  ");
    ap_out_str(out, table->style->bold);
    ap_text_name(out, lock_name(profile, row, buf), SIZE_MAX, 0);
    ap_out_printf(out, "%s: %s of ", table->style->reset, ap_lock_type_name(row->type));
    ap_text_name(out, process_name(profile, row, buf), SIZE_MAX, 0);
    ap_out_char(out, '\n');
    write_pairs(profile, row, table->style, out);
    write_ending(row->timeouts, "timed out", "after", row->timeout_ns, out);
    write_ending(row->interrupted, "ended by a signal", "after", row->interrupted_ns, out);
    write_ending(row->retried, "not begun: the lock had changed by then", "", 0, out);
    write_ending(row->in_flight, "still going on when the recording ended,", "for", row->in_flight_ns, out);
}

static void write_rest(const struct ap_lock_row *const *rows, size_t cnt, const struct ap_text_style *style,
                       struct ap_out *out)
{
    uint64_t waits = 0, total = 0;
    char span[AP_FORMAT_SZ];

    for (size_t i = 0; i < cnt; i++) {
        waits += rows[i]->waits;
        total += rows[i]->total_ns;
    }
    if (cnt != 0)
        ap_out_printf(out, "%s... and %zu more, with %" PRIu64 " wait%s of %s together%s\n", style->dim, cnt, waits,
                      waits == 1 ? "" : "s", ap_format_duration(span, total), style->reset);
}

/* One table with the sentences about its first rows. */
static void write_table(const struct ap_profile *profile, struct ap_lock_row *const *all, size_t cnt, unsigned rows,
                        bool contention, const struct ap_text_style *style, struct ap_out *out)
{
    struct lock_table table = {.profile = profile,
                               .style = style,
                               .rows = all,
                               .cnt = rows != 0 && rows < cnt ? rows : cnt,
                               .contention = contention};

    ap_out_printf(out, "%s%s%s\n\n", style->bold,
                  contention ? "Contended locks"
                             : "Waits for events: condition variables, semaphores, joins and the like",
                  style->reset);
    measure(&table);
    write_head(&table, out);
    for (size_t i = 0; i < table.cnt && ap_out_error(out) == 0; i++)
        write_row(&table, all[i], out);
    write_rest((const struct ap_lock_row *const *)all + table.cnt, cnt - table.cnt, style, out);
    ap_out_char(out, '\n');
    for (size_t i = 0; i < table.cnt && i < DETAIL_LOCKS; i++)
        write_detail(&table, all[i], out);
}

void ap_text_locks(const struct ap_profile *profile, unsigned rows, const struct ap_text_style *style,
                   struct ap_out *out)
{
    const struct ap_locks *locks = profile->locks;
    size_t contended = 0;

    /* Rows stand in the order of ap_locks_sort(): contention first. */
    while (contended < locks->row_cnt && ap_lock_type_is_contention(locks->rows[contended]->type))
        contended++;
    if (contended != 0)
        write_table(profile, locks->rows, contended, rows, true, style, out);
    if (contended < locks->row_cnt) {
        if (contended != 0)
            ap_out_char(out, '\n');
        write_table(profile, locks->rows + contended, locks->row_cnt - contended, rows, false, style, out);
    }
}
