/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The tables of system calls and of locks in the JSON document. */
#include "format/json.h"

#include "format/names.h"
#include "model/locks.h"
#include "model/syscalls.h"

#include <inttypes.h>

/* ,"max_ns":..,"p50_ns":..,"p95_ns":..,"p99_ns":.. */
static void write_quantiles(const struct ap_histogram *histogram, uint64_t max_ns, struct ap_out *out)
{
    ap_json_next_u64(out, "max_ns", max_ns);
    ap_json_next_u64(out, "p50_ns", ap_histogram_quantile(histogram, 0.5, max_ns));
    ap_json_next_u64(out, "p95_ns", ap_histogram_quantile(histogram, 0.95, max_ns));
    ap_json_next_u64(out, "p99_ns", ap_histogram_quantile(histogram, 0.99, max_ns));
}

/* Only buckets that hold something; le_ns is the largest value that falls into one. */
static void write_histogram(const struct ap_histogram *histogram, struct ap_out *out)
{
    const char *sep = "";

    ap_out_str(out, ",\"histogram\":[");
    for (uint32_t i = 0; i < histogram->cnt; i++) {
        if (histogram->counts[i] == 0)
            continue;
        ap_out_printf(out, "%s{\"le_ns\":%" PRIu64 ",\"count\":%" PRIu64 "}", sep,
                      (uint64_t)ap_histogram_upper(histogram->first + i), histogram->counts[i]);
        sep = ",";
    }
    ap_out_char(out, ']');
}

static void write_syscall(const struct ap_profile *profile, const struct ap_syscall_row *row, struct ap_out *out)
{
    char buf[AP_SYSCALL_NAME_SZ];
    const char *name =
        row->name != 0 ? ap_profile_str(profile, row->name) : ap_syscall_name(row->abi, row->number, buf);

    ap_out_char(out, '{');
    ap_json_key_u64(out, "pid", row->pid);
    if (row->host != 0)
        ap_json_next_str(out, "host", ap_profile_str(profile, row->host));
    ap_json_next_str(out, "comm", ap_profile_str(profile, row->comm));
    ap_json_next_str(out, "name", name);
    ap_json_next_u64(out, "number", row->number);
    ap_json_next_str(out, "abi", ap_syscall_abi_name(row->abi));
    ap_json_next_u64(out, "count", row->count);
    ap_json_next_u64(out, "failed", ap_syscall_row_failed(row));
    ap_out_str(out, ",\"errors\":{");
    for (uint32_t i = 0; i < row->error_cnt; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        ap_json_key_u64(out, ap_errno_name(row->errors[i].error, buf), row->errors[i].count);
    }
    ap_out_char(out, '}');
    ap_json_next_u64(out, "total_ns", row->total_ns);
    write_quantiles(&row->histogram, row->max_ns, out);
    ap_json_next_u64(out, "in_flight", row->in_flight);
    ap_json_next_u64(out, "in_flight_max_ns", row->in_flight_max_ns);
    write_histogram(&row->histogram, out);
    ap_out_char(out, '}');
}

void ap_json_syscalls(const struct ap_profile *profile, size_t max, struct ap_out *out)
{
    const struct ap_syscalls *syscalls = profile->syscalls;

    if (syscalls == NULL)
        return;
    ap_out_str(out, ",\"syscalls\":[");
    for (size_t i = 0; i < syscalls->row_cnt && i < max && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_syscall(profile, syscalls->rows[i], out);
    }
    ap_out_char(out, ']');
}

static void write_frame(const struct ap_profile *profile, const struct ap_frame *frame, struct ap_out *out)
{
    const char *module = ap_profile_str(profile, profile->mappings[frame->mapping].path);

    ap_out_char(out, '{');
    ap_json_key_str(out, "name", ap_name_or_unknown(ap_profile_str(profile, frame->function)));
    ap_json_next_str(out, "kind", ap_frame_kind_name(frame->kind));
    if (module[0] != '\0')
        ap_json_next_str(out, "module", module);
    if (frame->file != 0)
        ap_json_next_str(out, "file", ap_profile_str(profile, frame->file));
    if (frame->line != 0)
        ap_json_next_u64(out, "line", frame->line);
    if (frame->inlined)
        ap_out_str(out, ",\"inlined\":true");
    if (frame->waker)
        ap_out_str(out, ",\"waker\":true");
    ap_out_char(out, '}');
}

static void write_stack(const struct ap_profile *profile, const struct ap_lock_side *side, struct ap_out *out)
{
    const struct ap_stack *stack;
    uint32_t site;

    if (side->stack >= profile->stack_cnt) {
        ap_out_str(out, ",\"stack\":[]");
        return;
    }
    stack = &profile->stacks[side->stack];
    site = ap_lock_site(profile, side->stack);
    if (site != 0)
        ap_json_next_str(out, "site", ap_name_or_unknown(ap_profile_str(profile, profile->frames[site].function)));
    ap_out_str(out, ",\"stack\":[");
    for (uint32_t i = 0; i < stack->frame_cnt; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_frame(profile, &profile->frames[profile->stack_frames[stack->first + i]], out);
    }
    ap_out_char(out, ']');
    if (stack->truncated)
        ap_out_str(out, ",\"truncated\":true");
}

static void write_sides(const struct ap_profile *profile, const char *key, const struct ap_lock_side *sides,
                        uint32_t cnt, struct ap_out *out)
{
    ap_out_printf(out, ",\"%s\":[", key);
    for (uint32_t i = 0; i < cnt; i++) {
        const struct ap_lock_side *side = &sides[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        if (side->stack != AP_LOCK_NO_STACK && side->series < profile->series_cnt) {
            ap_json_key_u64(out, "pid", profile->series[side->series].pid);
            ap_json_next_str(out, "comm", ap_profile_str(profile, profile->series[side->series].comm));
        } else {
            ap_out_printf(out, "\"%s\":true", side->series == AP_LOCK_OTHERS ? "others" : "unknown");
        }
        ap_json_next_u64(out, "count", side->count);
        ap_json_next_u64(out, "total_ns", side->total_ns);
        ap_json_next_u64(out, "max_ns", side->max_ns);
        write_stack(profile, side, out);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

static void write_pairs(const struct ap_lock_row *row, struct ap_out *out)
{
    ap_out_str(out, ",\"pairs\":[");
    for (uint32_t i = 0; i < row->pair_cnt; i++) {
        const struct ap_lock_pair *pair = &row->pairs[i];

        ap_out_str(out, i > 0 ? ",{" : "{");
        if (pair->waiter == AP_LOCK_REST)
            ap_out_str(out, "\"others\":true");
        else
            ap_out_printf(out, "\"waiter\":%" PRIu32 ",\"waker\":%" PRIu32, pair->waiter, pair->waker);
        ap_json_next_u64(out, "count", pair->count);
        ap_json_next_u64(out, "total_ns", pair->total_ns);
        ap_json_next_u64(out, "max_ns", pair->max_ns);
        ap_out_char(out, '}');
    }
    ap_out_char(out, ']');
}

static void write_lock(const struct ap_profile *profile, const struct ap_lock_row *row, struct ap_out *out)
{
    ap_out_char(out, '{');
    ap_json_key_u64(out, "pid", row->pid);
    if (row->host != 0)
        ap_json_next_str(out, "host", ap_profile_str(profile, row->host));
    ap_json_next_str(out, "comm", ap_profile_str(profile, row->comm));
    ap_out_printf(out, ",\"address\":\"0x%" PRIx64 "\"", row->address);
    if (row->symbol != 0)
        ap_json_next_str(out, "symbol", ap_profile_str(profile, row->symbol));
    ap_json_next_str(out, "type", ap_lock_type_name(row->type));
    ap_out_printf(out, ",\"kernel\":%s", row->kernel ? "true" : "false");
    ap_json_next_u64(out, "waits", row->waits);
    ap_json_next_u64(out, "total_ns", row->total_ns);
    write_quantiles(&row->histogram, row->max_ns, out);
    ap_json_next_u64(out, "timeouts", row->timeouts);
    ap_json_next_u64(out, "timeout_ns", row->timeout_ns);
    ap_json_next_u64(out, "interrupted", row->interrupted);
    ap_json_next_u64(out, "interrupted_ns", row->interrupted_ns);
    ap_json_next_u64(out, "retried", row->retried);
    ap_json_next_u64(out, "in_flight", row->in_flight);
    ap_json_next_u64(out, "in_flight_ns", row->in_flight_ns);
    write_histogram(&row->histogram, out);
    write_sides(profile, "waiters", row->waiters, row->waiter_cnt, out);
    write_sides(profile, "wakers", row->wakers, row->waker_cnt, out);
    write_pairs(row, out);
    ap_out_char(out, '}');
}

void ap_json_locks(const struct ap_profile *profile, size_t max, struct ap_out *out)
{
    const struct ap_locks *locks = profile->locks;

    if (locks == NULL)
        return;
    ap_out_str(out, ",\"locks\":[");
    for (size_t i = 0; i < locks->row_cnt && i < max && ap_out_error(out) == 0; i++) {
        if (i > 0)
            ap_out_char(out, ',');
        write_lock(profile, locks->rows[i], out);
    }
    ap_out_char(out, ']');
}
