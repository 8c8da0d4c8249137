/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* System calls as text: by name over all processes, by process, and how long they took. */
#include "format/names.h"
#include "format/text.h"
#include "model/syscalls.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Widest columns, in characters. */
#define NAME_WIDTH_MAX 32
#define COMM_WIDTH_MAX 16
#define HOST_WIDTH_MAX 24
/* Calls that have a histogram of their own. */
#define HISTOGRAMS 5
/* Errors of a row that are named; the JSON document has all. */
#define ERRORS_SHOWN 3
/* Calls in flight that are listed. */
#define IN_FLIGHT_ROWS 10
/* From this share of the total on a row stands out. */
#define HOT_PERCENT 5.0
/* A name with what tells its ABI. */
#define CALL_NAME_SZ (AP_SYSCALL_NAME_SZ + 16)

/* One system call over all processes. */
struct call {
    uint8_t abi;
    uint32_t number, name; /* as of a row */
    uint64_t count, failed, total_ns, max_ns;
    struct ap_histogram histogram;
};

struct calls {
    struct call *rows;
    size_t cnt;
    struct call all; /* their sum */
};

/* "read", "read (compat)"; what another machine calls it comes with the row. */
static const char *call_name(const struct ap_profile *profile, uint8_t abi, uint32_t number, uint32_t name_id,
                             char buf[CALL_NAME_SZ])
{
    char plain[AP_SYSCALL_NAME_SZ];
    const char *name = name_id != 0 ? ap_profile_str(profile, name_id) : ap_syscall_name(abi, number, plain);

    if (abi == AP_SYSCALL_NATIVE)
        (void)snprintf(buf, CALL_NAME_SZ, "%s", name);
    else
        (void)snprintf(buf, CALL_NAME_SZ, "%s (%s)", name, ap_syscall_abi_name(abi));
    return buf;
}

static const char *row_name(const struct ap_profile *profile, const struct ap_syscall_row *row, char buf[CALL_NAME_SZ])
{
    return call_name(profile, row->abi, row->number, row->name, buf);
}

static int compare_numbers(const void *pa, const void *pb)
{
    const struct ap_syscall_row *a = *(const struct ap_syscall_row *const *)pa;
    const struct ap_syscall_row *b = *(const struct ap_syscall_row *const *)pb;

    if (a->abi != b->abi)
        return a->abi < b->abi ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->name < b->name ? -1 : a->name > b->name;
}

static int compare_calls(const void *pa, const void *pb)
{
    const struct call *a = pa, *b = pb;

    if (a->total_ns != b->total_ns)
        return a->total_ns > b->total_ns ? -1 : 1;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    if (a->abi != b->abi)
        return a->abi < b->abi ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return a->name < b->name ? -1 : a->name > b->name;
}

static int add_row(struct call *call, const struct ap_syscall_row *row)
{
    call->count += row->count;
    call->failed += ap_syscall_row_failed(row);
    call->total_ns += row->total_ns;
    if (row->max_ns > call->max_ns)
        call->max_ns = row->max_ns;
    return ap_histogram_merge(&call->histogram, &row->histogram);
}

static void calls_done(struct calls *calls)
{
    for (size_t i = 0; i < calls->cnt; i++)
        ap_histogram_done(&calls->rows[i].histogram);
    free(calls->rows);
    ap_histogram_done(&calls->all.histogram);
}

/* Sums the rows of each call. 0 or -ENOMEM; calls_done() in either case. */
static int calls_init(struct calls *calls, const struct ap_syscalls *syscalls)
{
    const struct ap_syscall_row **rows = calloc(syscalls->row_cnt + 1, sizeof(const struct ap_syscall_row *));
    int r = 0;

    *calls = (struct calls){.rows = calloc(syscalls->row_cnt + 1, sizeof(struct call))};
    if (rows == NULL || calls->rows == NULL) {
        free(rows);
        return -ENOMEM;
    }
    for (size_t i = 0; i < syscalls->row_cnt; i++)
        rows[i] = syscalls->rows[i];
    qsort(rows, syscalls->row_cnt, sizeof(const struct ap_syscall_row *), compare_numbers);
    for (size_t i = 0; r == 0 && i < syscalls->row_cnt; i++) {
        if (i == 0 || compare_numbers(&rows[i - 1], &rows[i]) != 0)
            calls->rows[calls->cnt++] =
                (struct call){.abi = rows[i]->abi, .number = rows[i]->number, .name = rows[i]->name};
        r = add_row(&calls->rows[calls->cnt - 1], rows[i]);
        if (r == 0)
            r = add_row(&calls->all, rows[i]);
    }
    free(rows);
    if (r == 0)
        qsort(calls->rows, calls->cnt, sizeof(struct call), compare_calls);
    return r;
}

/* "   TOTAL     AVG     P50     P95     P99     MAX" and what stands below it. */
static void write_times_head(struct ap_out *out)
{
    ap_out_printf(out, " %7s %7s %7s %7s %7s %7s", "TOTAL", "AVG", "P50", "P95", "P99", "MAX");
}

static void write_times(const struct ap_histogram *h, uint64_t count, uint64_t total_ns, uint64_t max_ns,
                        struct ap_out *out)
{
    const uint64_t times[] = {total_ns,
                              count != 0 ? total_ns / count : 0,
                              ap_histogram_quantile(h, 0.5, max_ns),
                              ap_histogram_quantile(h, 0.95, max_ns),
                              ap_histogram_quantile(h, 0.99, max_ns),
                              max_ns};
    char span[AP_FORMAT_SZ];

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        ap_out_printf(out, " %7s", ap_text_duration(span, times[i]));
}

static void write_amount(uint64_t n, int width, struct ap_out *out)
{
    if (n == 0)
        ap_out_printf(out, " %*s", width, "-");
    else
        ap_out_printf(out, " %*" PRIu64, width, n);
}

static const char *name_of(const struct ap_profile *profile, const struct call *call, char buf[CALL_NAME_SZ])
{
    return call_name(profile, call->abi, call->number, call->name, buf);
}

static size_t name_column(const struct ap_profile *profile, const struct calls *calls, size_t cnt)
{
    char buf[CALL_NAME_SZ];
    size_t width = strlen("CALL");

    for (size_t i = 0; i < cnt; i++) {
        size_t len = strlen(name_of(profile, &calls->rows[i], buf));

        if (len > width)
            width = len;
    }
    return width < NAME_WIDTH_MAX ? width : NAME_WIDTH_MAX;
}

static void write_calls(const struct ap_profile *profile, const struct calls *calls, unsigned rows,
                        const struct ap_text_style *style, struct ap_out *out)
{
    size_t shown = rows != 0 && rows < calls->cnt ? rows : calls->cnt, width = name_column(profile, calls, shown);
    uint64_t count = 0, total = 0;
    char buf[CALL_NAME_SZ], span[AP_FORMAT_SZ];

    ap_out_printf(out, "%s%-*s %9s %8s", style->bold, (int)width, "CALL", "CALLS", "ERRORS");
    write_times_head(out);
    ap_out_printf(out, " %7s%s\n", "TOTAL%", style->reset);
    for (size_t i = 0; i < shown; i++) {
        const struct call *call = &calls->rows[i];
        double percent = ap_text_percent(call->total_ns, calls->all.total_ns);
        const char *strong = percent >= HOT_PERCENT ? style->bold : "";

        ap_text_name(out, name_of(profile, call, buf), width, width);
        write_amount(call->count, 9, out);
        write_amount(call->failed, 8, out);
        write_times(&call->histogram, call->count, call->total_ns, call->max_ns, out);
        ap_out_printf(out, " %s%6.2f%%%s\n", strong, percent, strong[0] != '\0' ? style->reset : "");
    }
    for (size_t i = shown; i < calls->cnt; i++) {
        count += calls->rows[i].count;
        total += calls->rows[i].total_ns;
    }
    if (shown < calls->cnt)
        ap_out_printf(out, "%s... and %zu more, with %" PRIu64 " calls of %s together%s\n", style->dim,
                      calls->cnt - shown, count, ap_format_duration(span, total), style->reset);
}

static int compare_errors(const void *pa, const void *pb)
{
    const struct ap_syscall_error *a = pa, *b = pb;

    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    return a->error < b->error ? -1 : a->error > b->error;
}

/* "12 ENOENT, 3 EAGAIN, 2 others": the most frequent ones. */
static void write_errors(const struct ap_syscall_row *row, struct ap_out *out)
{
    struct ap_syscall_error top[ERRORS_SHOWN + 1];
    uint64_t failed = ap_syscall_row_failed(row);
    size_t cnt = 0;
    char buf[AP_SYSCALL_NAME_SZ];

    if (row->error_cnt == 0)
        ap_out_char(out, '-');
    for (uint32_t i = 0; i < row->error_cnt; i++) {
        top[cnt++] = row->errors[i];
        qsort(top, cnt, sizeof(top[0]), compare_errors);
        if (cnt > ERRORS_SHOWN)
            cnt = ERRORS_SHOWN;
    }
    for (size_t i = 0; i < cnt; i++) {
        failed -= top[i].count;
        ap_out_printf(out, "%s%" PRIu64 " %s", i > 0 ? ", " : "", top[i].count, ap_errno_name(top[i].error, buf));
    }
    if (failed != 0)
        ap_out_printf(out, ", %" PRIu64 " others", failed);
}

static const char *comm_name(const struct ap_profile *profile, const struct ap_syscall_row *row)
{
    return ap_name_or_unknown(ap_profile_str(profile, row->comm));
}

static void write_pid(uint32_t pid, struct ap_out *out)
{
    if (pid != 0)
        ap_out_printf(out, "%8" PRIu32, pid);
    else
        ap_out_printf(out, "%8s", "-");
}

/* Width of the column of hosts, 0 when all rows are of this machine. */
static size_t host_column(const struct ap_profile *profile, size_t cnt)
{
    const struct ap_syscalls *syscalls = profile->syscalls;
    size_t width = 0;

    for (size_t i = 0; i < cnt; i++) {
        size_t len = syscalls->rows[i]->host != 0 ? ap_text_width(ap_profile_str(profile, syscalls->rows[i]->host)) : 0;

        if (len > width)
            width = len;
    }
    if (width != 0 && width < strlen("HOST"))
        width = strlen("HOST");
    return width < HOST_WIDTH_MAX ? width : HOST_WIDTH_MAX;
}

static void write_processes(const struct ap_profile *profile, unsigned rows, const struct ap_text_style *style,
                            struct ap_out *out)
{
    const struct ap_syscalls *syscalls = profile->syscalls;
    size_t shown = rows != 0 && rows < syscalls->row_cnt ? rows : syscalls->row_cnt, comm_width = strlen("PROCESS");
    size_t name_width = strlen("CALL"), host_width = host_column(profile, shown);
    bool in_flight = false;
    char buf[CALL_NAME_SZ];

    for (size_t i = 0; i < shown; i++) {
        size_t width = ap_text_width(comm_name(profile, syscalls->rows[i]));
        size_t len = strlen(row_name(profile, syscalls->rows[i], buf));

        if (width > comm_width)
            comm_width = width;
        if (len > name_width)
            name_width = len;
        in_flight |= syscalls->rows[i]->in_flight != 0;
    }
    if (comm_width > COMM_WIDTH_MAX)
        comm_width = COMM_WIDTH_MAX;
    if (name_width > NAME_WIDTH_MAX)
        name_width = NAME_WIDTH_MAX;
    ap_out_printf(out, "\n%s", style->bold);
    if (host_width != 0)
        ap_out_printf(out, "%-*s ", (int)host_width, "HOST");
    ap_out_printf(out, "%-*s %8s %-*s %9s", (int)comm_width, "PROCESS", "PID", (int)name_width, "CALL", "CALLS");
    write_times_head(out);
    if (in_flight)
        ap_out_printf(out, " %6s", "INSIDE");
    ap_out_printf(out, "  %s%s\n", "ERRORS", style->reset);
    for (size_t i = 0; i < shown && ap_out_error(out) == 0; i++) {
        const struct ap_syscall_row *row = syscalls->rows[i];

        if (host_width != 0) {
            ap_text_name(out, ap_profile_str(profile, row->host), host_width, host_width);
            ap_out_char(out, ' ');
        }
        ap_text_name(out, comm_name(profile, row), comm_width, comm_width);
        ap_out_char(out, ' ');
        write_pid(row->pid, out);
        ap_out_char(out, ' ');
        ap_text_name(out, row_name(profile, row, buf), name_width, name_width);
        write_amount(row->count, 9, out);
        write_times(&row->histogram, row->count, row->total_ns, row->max_ns, out);
        if (in_flight)
            write_amount(row->in_flight, 6, out);
        ap_out_str(out, "  ");
        write_errors(row, out);
        ap_out_char(out, '\n');
    }
    if (shown < syscalls->row_cnt)
        ap_out_printf(out, "%s... and %zu more rows%s\n", style->dim, syscalls->row_cnt - shown, style->reset);
}

/* The calls that have lasted longest without returning. */
static void write_in_flight(const struct ap_profile *profile, const struct ap_text_style *style, struct ap_out *out)
{
    const struct ap_syscalls *syscalls = profile->syscalls;
    const struct ap_syscall_row *top[IN_FLIGHT_ROWS + 1];
    size_t cnt = 0, rows = 0;
    uint64_t calls = 0;
    char buf[CALL_NAME_SZ], span[AP_FORMAT_SZ];

    for (size_t i = 0; i < syscalls->row_cnt; i++) {
        const struct ap_syscall_row *row = syscalls->rows[i];
        size_t place = cnt;

        if (row->in_flight == 0)
            continue;
        rows++;
        calls += row->in_flight;
        while (place > 0 && top[place - 1]->in_flight_max_ns < row->in_flight_max_ns)
            place--;
        if (place == IN_FLIGHT_ROWS)
            continue;
        if (cnt == IN_FLIGHT_ROWS)
            cnt--;
        memmove(&top[place + 1], &top[place], (cnt - place) * sizeof(top[0]));
        top[place] = row;
        cnt++;
    }
    if (cnt == 0)
        return;
    ap_out_printf(out, "\n%sNot returned when the recording ended%s: %" PRIu64 " call%s\n", style->bold, style->reset,
                  calls, calls == 1 ? "" : "s");
    for (size_t i = 0; i < cnt; i++) {
        ap_out_printf(out, "%14" PRIu64 "  %s of ", top[i]->in_flight, row_name(profile, top[i], buf));
        ap_text_name(out, comm_name(profile, top[i]), SIZE_MAX, 0);
        if (top[i]->pid != 0)
            ap_out_printf(out, " (%" PRIu32 ")", top[i]->pid);
        if (top[i]->in_flight_max_ns != 0)
            ap_out_printf(out, ", for %s%s so far", top[i]->in_flight == 1 ? "" : "up to ",
                          ap_format_duration(span, top[i]->in_flight_max_ns));
        ap_out_char(out, '\n');
    }
    if (rows > cnt)
        ap_out_printf(out, "%s%14s  and %zu more rows%s\n", style->dim, "...", rows - cnt, style->reset);
}

static void write_histogram(const struct call *call, const char *name, const struct ap_text_style *style,
                            struct ap_out *out)
{
    if (call->histogram.cnt == 0)
        return;
    ap_out_printf(out, "\n%s%s%s: %" PRIu64 "\n\n", style->bold, name, style->reset, call->count);
    ap_text_histogram(&call->histogram, out);
}

int ap_text_syscalls(const struct ap_profile *profile, unsigned rows, const struct ap_text_style *style,
                     struct ap_out *out)
{
    struct calls calls;
    char buf[CALL_NAME_SZ];
    int r;

    if (profile->syscalls->row_cnt == 0)
        return 0;
    r = calls_init(&calls, profile->syscalls);
    if (r == 0) {
        write_calls(profile, &calls, rows, style, out);
        write_processes(profile, rows, style, out);
        write_in_flight(profile, style, out);
        write_histogram(&calls.all, "All calls", style, out);
        for (size_t i = 0; i < calls.cnt && i < HISTOGRAMS && calls.cnt > 1; i++)
            write_histogram(&calls.rows[i], name_of(profile, &calls.rows[i], buf), style, out);
    }
    calls_done(&calls);
    return r;
}
