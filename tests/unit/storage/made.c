/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "made.h"

#include "model/locks.h"
#include "model/syscalls.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC 0x6d616465u

/* xorshift64* */
static uint64_t next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

static uint32_t below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(next(state) >> 33) % limit;
}

/* Text that breaks what is put together carelessly. */
static const char *hostile(unsigned i)
{
    static char big[1001];
    static const char *const texts[] = {
        "plain",       "it's", "back\\slash", "tab\tand\nline", "\"quoted\"", "') OR 1=1 --",
        "caf\xc3\xa9", "%s%n", "a,b;c",       "{curly} [x]",    big,
    };
    size_t cnt = sizeof(texts) / sizeof(texts[0]);

    if (big[0] == '\0')
        memset(big, 'x', sizeof(big) - 1);
    return texts[i % cnt];
}

static uint32_t id(struct ap_profile *profile, const char *text)
{
    return ap_strings_id(profile->strings, text);
}

static void put_names(struct ap_profile *profile)
{
    char name[64];

    for (unsigned i = 0; i < 40; i++) {
        struct ap_mapping mapping = {.path = id(profile, i % 3 == 0 ? "[kernel]" : "/usr/lib/li'b.so")};
        struct ap_frame frame = {0};
        uint32_t index;

        mapping.build_id_len = i % 3 == 0 ? 0 : 20;
        for (unsigned b = 0; b < mapping.build_id_len; b++)
            mapping.build_id[b] = (uint8_t)(b * i); /* with zeros */
        MADE_CHECK(ap_profile_add_mapping(profile, &mapping, &frame.mapping) == 0, "mapping");
        snprintf(name, sizeof(name), "f%u%s", i, i % 7 == 0 ? hostile(i / 7 % 11) : "");
        frame.kind = i % 3 == 0 ? AP_FRAME_KERNEL : AP_FRAME_NATIVE;
        frame.inlined = i % 5 == 1;
        frame.waker = i % 11 == 1;
        frame.function = id(profile, name);
        frame.file = i % 2 == 0 ? id(profile, "src/a.c") : 0;
        frame.line = i;
        frame.offset = 0xffffffff00000000ULL + i;
        MADE_CHECK(ap_profile_add_frame(profile, &frame, &index) == 0, "frame");
    }
    /* A thread name inside a stack, as the waker's. */
    struct ap_frame process = {.kind = AP_FRAME_PROCESS, .waker = true, .function = id(profile, "waker thread")};
    uint32_t index;
    MADE_CHECK(ap_profile_add_frame(profile, &process, &index) == 0, "frame");
}

static void put_stacks(struct ap_profile *profile)
{
    for (uint32_t i = 0; i < 30; i++) {
        uint32_t frames[12], cnt = 1 + i % 12, index;

        for (uint32_t f = 0; f < cnt; f++)
            frames[f] = 1 + (i * 7 + f * 3) % (profile->frame_cnt - 1);
        MADE_CHECK(ap_profile_add_stack(profile, frames, cnt, i % 9 == 0, &index) == 0, "stack");
    }
}

static void put_series(struct ap_profile *profile, uint32_t agent)
{
    for (uint32_t i = 0; i < 6; i++) {
        struct ap_series series = {
            .pid = i == 0 ? 0 : agent * 100 + i / 2,
            .comm = id(profile, i % 2 == 0 ? "worker" : hostile(agent + i)),
            .exe = i == 0 ? 0 : id(profile, "/usr/bin/it's"),
            .container = i == 3 ? id(profile, "c0ffee") : 0,
        };
        uint32_t index;

        MADE_CHECK(ap_profile_add_series(profile, &series, &index) == 0, "series");
    }
}

static void put_samples(struct ap_profile *profile, const struct made_spec *spec, uint64_t *state)
{
    uint32_t slots = (uint32_t)(spec->duration_ns / AP_PUSH_SLOT_NS);

    profile->slot_ns = AP_PUSH_SLOT_NS;
    profile->period_ns = 10101010;
    for (uint32_t i = 0; i < spec->samples; i++) {
        uint64_t count = 1 + (below(state, 20) == 0 ? UINT32_MAX + 7ull : 0);

        MADE_CHECK(ap_profile_add_sample_at(profile, below(state, profile->series_cnt),
                                            below(state, 1 + below(state, profile->stack_cnt)),
                                            below(state, slots > 0 ? slots : 1), count, count * 10101010) == 0,
                   "sample");
    }
}

static struct ap_profile *add_profile(struct ap_push *push, uint8_t kind, const struct made_spec *spec, uint64_t *state)
{
    struct ap_capture *capture = push->capture;
    struct ap_account *account = &capture->accounts[capture->profile_cnt];
    struct ap_profile *profile = ap_profile_new(kind);

    MADE_CHECK(profile != NULL, "profile");
    capture->profiles[capture->profile_cnt++] = profile;
    profile->start_ns = spec->start_ns;
    profile->duration_ns = spec->duration_ns;
    if (kind != AP_KIND_SYSCALL) {
        put_names(profile);
        put_stacks(profile);
        put_series(profile, spec->agent);
        put_samples(profile, spec, state);
    }
    account->expected = 1000 + below(state, 100);
    account->delivered = 900;
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        account->losses[i] = below(state, 10);
    account->idle = below(state, 1000);
    account->out_of_scope = 1;
    account->below_min = 2;
    account->below_min_ns = 3;
    account->folded = 4;
    account->unmatched = 5;
    return profile;
}

static void put_histogram(struct ap_histogram *histogram, uint64_t *state)
{
    for (unsigned i = 0; i < 5; i++)
        MADE_CHECK(ap_histogram_add(histogram, below(state, AP_HISTOGRAM_BUCKETS), 1 + below(state, 9)) == 0, "bucket");
}

static void put_locks(struct ap_profile *profile, const struct made_spec *spec, uint64_t *state)
{
    profile->locks = ap_locks_new();
    MADE_CHECK(profile->locks != NULL, "locks");
    for (uint32_t i = 0; i < 8; i++) {
        bool kernel = i % 4 == 0;
        struct ap_lock_row *row =
            ap_locks_row(profile->locks, kernel ? 0 : spec->agent * 10 + i % 3 + 1, 0x1000 + i * 8, kernel);

        MADE_CHECK(row != NULL, "lock");
        row->pid = kernel ? 0 : spec->agent * 100 + i % 3;
        row->comm = id(profile, kernel ? "" : "worker");
        row->symbol = i % 3 == 0 ? id(profile, hostile(i)) : 0;
        row->type = kernel ? AP_LOCK_SPIN : AP_LOCK_MUTEX;
        row->waits = 10 + below(state, 10);
        row->total_ns = 100000 + below(state, 100000);
        row->max_ns = 5000 + below(state, 5000);
        row->timeouts = i;
        row->interrupted = 2;
        row->retried = 3;
        row->timeout_ns = 4;
        row->interrupted_ns = 5;
        row->in_flight = below(state, 3);
        row->in_flight_ns = row->in_flight * 7;
        put_histogram(&row->histogram, state);
        for (unsigned n = 0; n < 5; n++)
            MADE_CHECK(ap_lock_row_add(row, below(state, profile->series_cnt), below(state, profile->stack_cnt),
                                       below(state, profile->series_cnt),
                                       n == 0 ? AP_LOCK_NO_STACK : below(state, profile->stack_cnt), 1 + n,
                                       1000 + below(state, 100000), 500 + n) == 0,
                       "side");
    }
}

static void put_syscalls(struct ap_profile *profile, const struct made_spec *spec, uint64_t *state)
{
    profile->syscalls = ap_syscalls_new(profile->strings);
    MADE_CHECK(profile->syscalls != NULL, "system calls");
    for (uint32_t i = 0; i < 10; i++) {
        struct ap_syscall_row *row = ap_syscalls_row(profile->syscalls, 1 + i % 3, spec->agent * 100 + i % 3,
                                                     i % 3 == 0 ? "worker" : "it's", AP_SYSCALL_NATIVE, i);

        MADE_CHECK(row != NULL, "system call");
        row->count += 5 + below(state, 5);
        row->total_ns += 1000 + below(state, 1000);
        row->max_ns = 700 + below(state, 100);
        row->in_flight = below(state, 2);
        row->in_flight_max_ns = row->in_flight * 99;
        if (i == 9)
            row->name = id(profile, "of_another_machine");
        put_histogram(&row->histogram, state);
        for (unsigned e = 0; e < i % 4; e++)
            MADE_CHECK(ap_syscall_row_error(row, 1 + below(state, 5), 2) == 0, "error");
    }
}

static void put_labels(struct ap_push *push, uint32_t agent)
{
    char host[32];

    snprintf(host, sizeof(host), "host-%u", agent % 3);
    MADE_CHECK(ap_push_label(push, "host", host, NULL) == 0, "label");
    MADE_CHECK(ap_push_label(push, "service", hostile(agent), NULL) == 0, "label");
    if (agent % 2 == 0)
        MADE_CHECK(ap_push_label(push, "zone", hostile(agent + 5), NULL) == 0, "label");
}

struct ap_push *made_push(const struct made_spec *spec)
{
    struct ap_push *push = ap_push_new();
    uint64_t state = 88172645463325252ULL ^ spec->agent * 7919ULL ^ spec->sequence * 104729ULL;

    MADE_CHECK(push != NULL, "push");
    snprintf(push->agent_id, sizeof(push->agent_id), "agent-%u", spec->agent);
    push->epoch = spec->epoch;
    push->sequence = spec->sequence;
    push->start_ns = spec->start_ns;
    push->duration_ns = spec->duration_ns;
    push->spool_bytes = spec->sequence * 10;
    push->spool_dropped_batches = 1;
    push->spool_dropped_events = 2;
    put_labels(push, spec->agent);
    struct ap_agent_info *info = &push->capture->agent;
    snprintf(info->version, sizeof(info->version), "1.2.%" PRIu64, spec->sequence);
    snprintf(info->host, sizeof(info->host), "it's %u", spec->agent);
    snprintf(info->kernel, sizeof(info->kernel), "6.1");
    snprintf(info->arch, sizeof(info->arch), "x86_64");
    snprintf(info->event, sizeof(info->event), "cpu-clock");
    info->cpus_online = 4;
    info->frequency = 99;
    info->cpu_ns = spec->sequence * 1000;
    info->rss_peak_bytes = 1 << 20;
    add_profile(push, AP_KIND_CPU, spec, &state);
    put_locks(add_profile(push, AP_KIND_LOCK, spec, &state), spec, &state);
    put_syscalls(add_profile(push, AP_KIND_SYSCALL, spec, &state), spec, &state);
    if (spec->agent % 2 == 1) {
        push->capture->left_out[0].kind = AP_KIND_OFFCPU;
        snprintf(push->capture->left_out[0].reason, sizeof(push->capture->left_out[0].reason), "it's not there");
        push->capture->left_out_cnt = 1;
    }
    return push;
}

struct ap_push *made_decode(const void *payload, size_t payload_sz, struct ap_error *err)
{
    struct made_spec spec;

    if (payload_sz != sizeof(spec)) {
        ap_error_set(err, -22, "not a batch");
        return NULL;
    }
    memcpy(&spec, payload, sizeof(spec));
    return made_push(&spec);
}

struct ap_rows *made_rows(const struct made_spec *spec)
{
    struct made_spec copy = *spec;
    struct ap_error err = {0};

    copy.magic = MAGIC;
    struct ap_rows *rows = ap_rows_new(made_push(&copy), &copy, sizeof(copy), spec->start_ns + spec->duration_ns, &err);
    MADE_CHECK(rows != NULL, "%s", err.text);
    return rows;
}

size_t made_commit(struct ap_storage *storage, const struct made_spec *specs, size_t cnt)
{
    struct ap_rows **rows = calloc(cnt, sizeof(struct ap_rows *));
    bool *duplicate = calloc(cnt, sizeof(*duplicate));
    struct ap_error err = {0};
    size_t duplicates = 0;

    for (size_t i = 0; i < cnt; i++)
        rows[i] = made_rows(&specs[i]);
    MADE_CHECK(ap_storage_commit(storage, rows, cnt, duplicate, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < cnt; i++) {
        duplicates += duplicate[i];
        ap_rows_free(rows[i]);
    }
    free(rows);
    free(duplicate);
    return duplicates;
}

/* ---- Answers as text ---- */

static void put_text(struct ap_buf *ret, const char *text)
{
    ap_buf_char(ret, '<');
    for (; *text != '\0'; text++) {
        if (*text >= ' ' && *text < 127 && *text != '\\')
            ap_buf_char(ret, *text);
        else
            ap_buf_printf(ret, "\\%02x", (unsigned char)*text);
    }
    ap_buf_char(ret, '>');
}

static void put_frame(struct ap_buf *ret, const struct ap_profile *profile, uint32_t index)
{
    const struct ap_frame *frame = &profile->frames[index];
    const struct ap_mapping *mapping = &profile->mappings[frame->mapping];

    ap_buf_printf(ret, " %u/%d/%d ", frame->kind, frame->inlined, frame->waker);
    put_text(ret, ap_profile_str(profile, frame->function));
    put_text(ret, ap_profile_str(profile, frame->file));
    put_text(ret, ap_profile_str(profile, mapping->path));
    ap_buf_printf(ret, ":%u+%" PRIx64 ":", frame->line, frame->offset);
    for (unsigned i = 0; i < mapping->build_id_len; i++)
        ap_buf_printf(ret, "%02x", mapping->build_id[i]);
}

static void put_stack(struct ap_buf *ret, const struct ap_profile *profile, uint32_t stack, uint32_t series)
{
    if (stack == UINT32_MAX) {
        ap_buf_str(ret, " (not stored)");
        return;
    }
    put_text(ret, ap_profile_str(profile, profile->series[series].comm));
    ap_buf_printf(ret, "%d", profile->stacks[stack].truncated);
    for (uint32_t i = 0; i < profile->stacks[stack].frame_cnt; i++)
        put_frame(ret, profile, profile->stack_frames[profile->stacks[stack].first + i]);
}

static void dump_stacks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_profile *profile = ap_profile_new(scope->kind);
    struct ap_stack_sums sums = {0};
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_stacks(storage, scope, &sums, &err) == 0, "%s", err.text);
    uint32_t *stacks = calloc(sums.cnt + 1, sizeof(*stacks)), *series = calloc(sums.cnt + 1, sizeof(*series));
    MADE_CHECK(ap_storage_load_stacks(storage, sums.stacks, sums.cnt, profile, stacks, series, &err) == 0, "%s",
               err.text);
    for (size_t i = 0; i < sums.cnt; i++) {
        ap_buf_printf(ret, "stack %" PRIx64 " %" PRIu64 " %" PRIu64 " ", sums.stacks[i], sums.counts[i],
                      sums.values[i]);
        put_stack(ret, profile, stacks[i], series[i]);
        ap_buf_char(ret, '\n');
    }
    free(stacks);
    free(series);
    ap_stack_sums_done(&sums);
    ap_profile_free(profile);
}

static void dump_timeline(struct ap_storage *storage, const struct ap_storage_scope *scope, uint64_t step_ns,
                          const char *label, size_t groups, struct ap_buf *ret)
{
    struct ap_points points = {0};
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_timeline(storage, scope, step_ns, label, groups, &points, &err) == 0, "%s", err.text);
    ap_buf_printf(ret, "timeline %" PRIu64 " by %s\n", step_ns, label != NULL ? label : "-");
    for (size_t i = 0; i < points.point_cnt; i++) {
        const struct ap_point *point = &points.points[i];

        MADE_CHECK(point->group < points.group_cnt, "group %u of %zu", point->group, points.group_cnt);
        put_text(ret, points.groups[point->group]);
        ap_buf_printf(ret, " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", point->t_ns, point->count, point->value);
    }
    ap_points_done(&points);
}

static void put_labels_text(struct ap_buf *ret, const struct ap_label *labels, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        ap_buf_printf(ret, " %s=", labels[i].name);
        put_text(ret, labels[i].value);
    }
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Appends the lines of `text` in their order by text: where no order is promised. */
static void put_sorted(struct ap_buf *ret, char *text)
{
    char *lines[100000], *save = NULL;
    size_t cnt = 0;

    for (char *line = strtok_r(text, "\n", &save); line != NULL && cnt < 100000; line = strtok_r(NULL, "\n", &save))
        lines[cnt++] = line;
    qsort(lines, cnt, sizeof(lines[0]), compare_lines);
    for (size_t i = 0; i < cnt; i++) {
        ap_buf_str(ret, lines[i]);
        ap_buf_char(ret, '\n');
    }
}

static void dump_labels(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_series_rows rows = {0};
    struct ap_texts names = {0};
    struct ap_error err = {0};
    struct ap_buf lines;

    MADE_CHECK(ap_storage_labels(storage, scope, 1000, &names, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < names.cnt; i++) {
        struct ap_texts values = {0};

        ap_buf_printf(ret, "label %s:", names.items[i]);
        MADE_CHECK(ap_storage_label_values(storage, scope, names.items[i], 1000, &values, &err) == 0, "%s", err.text);
        for (size_t v = 0; v < values.cnt; v++)
            put_text(ret, values.items[v]);
        ap_buf_char(ret, '\n');
        ap_texts_done(&values);
    }
    ap_texts_done(&names);
    MADE_CHECK(ap_storage_series(storage, scope, 10000, &rows, &err) == 0, "%s", err.text);
    ap_buf_init(&lines, 1 << 28);
    for (size_t i = 0; i < rows.cnt; i++) {
        ap_buf_str(&lines, "series");
        put_labels_text(&lines, rows.rows[i].labels, rows.rows[i].label_cnt);
        ap_buf_char(&lines, '\n');
    }
    if (lines.len > 0)
        put_sorted(ret, lines.data);
    ap_buf_done(&lines);
    ap_series_rows_done(&rows);
}

static void put_histogram_text(struct ap_buf *ret, const struct ap_histogram *histogram)
{
    for (uint32_t b = 0; b < AP_HISTOGRAM_BUCKETS; b++) {
        if (ap_histogram_count(histogram, b) > 0)
            ap_buf_printf(ret, " %u:%" PRIu64, b, ap_histogram_count(histogram, b));
    }
}

static void put_side(struct ap_buf *ret, const char *what, const struct ap_profile *profile,
                     const struct ap_lock_side *side)
{
    ap_buf_printf(ret, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " ", what, side->count, side->total_ns, side->max_ns);
    if (side->stack == AP_LOCK_NO_STACK)
        ap_buf_printf(ret, "%x", side->series);
    else
        put_stack(ret, profile, side->stack, side->series);
    ap_buf_char(ret, '|');
}

static void put_lock(struct ap_buf *ret, const struct ap_profile *profile, const struct ap_lock_row *row)
{
    ap_buf_printf(ret, "lock %s %u ", ap_profile_str(profile, row->host), row->pid);
    put_text(ret, ap_profile_str(profile, row->comm));
    put_text(ret, ap_profile_str(profile, row->symbol));
    ap_buf_printf(ret,
                  " %" PRIx64 " %d %u: %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
                  " %" PRIu64 " %" PRIu64 " %" PRIu64,
                  row->address, row->kernel, row->type, row->waits, row->total_ns, row->max_ns, row->timeouts,
                  row->interrupted, row->retried, row->timeout_ns, row->interrupted_ns, row->in_flight,
                  row->in_flight_ns);
    put_histogram_text(ret, &row->histogram);
    for (uint32_t i = 0; i < row->waiter_cnt; i++)
        put_side(ret, "waiter", profile, &row->waiters[i]);
    for (uint32_t i = 0; i < row->waker_cnt; i++)
        put_side(ret, "waker", profile, &row->wakers[i]);
    for (uint32_t i = 0; i < row->pair_cnt; i++)
        ap_buf_printf(ret, "pair %u %u %" PRIu64 " %" PRIu64 " %" PRIu64 "|", row->pairs[i].waiter, row->pairs[i].waker,
                      row->pairs[i].count, row->pairs[i].total_ns, row->pairs[i].max_ns);
    ap_buf_char(ret, '\n');
}

static void dump_locks(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_profile *profile = NULL;
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_locks(storage, scope, &profile, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < profile->locks->row_cnt; i++)
        put_lock(ret, profile, profile->locks->rows[i]);
    ap_profile_free(profile);
}

static void dump_syscalls(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_profile *profile = NULL;
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_syscalls(storage, scope, &profile, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < profile->syscalls->row_cnt; i++) {
        const struct ap_syscall_row *row = profile->syscalls->rows[i];

        ap_buf_printf(ret, "call %s %u ", ap_profile_str(profile, row->host), row->pid);
        put_text(ret, ap_profile_str(profile, row->comm));
        put_text(ret, ap_profile_str(profile, row->name));
        ap_buf_printf(ret, "%u %u: %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, row->abi, row->number,
                      row->count, row->total_ns, row->max_ns, row->in_flight, row->in_flight_max_ns);
        put_histogram_text(ret, &row->histogram);
        for (uint32_t e = 0; e < row->error_cnt; e++)
            ap_buf_printf(ret, " E%u=%" PRIu64, row->errors[e].error, row->errors[e].count);
        ap_buf_char(ret, '\n');
    }
    ap_profile_free(profile);
}

static void put_account(struct ap_buf *ret, const struct ap_account *account)
{
    ap_buf_printf(ret, " %" PRIu64 " %" PRIu64, account->expected, account->delivered);
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        ap_buf_printf(ret, " %" PRIu64, account->losses[i]);
    ap_buf_printf(ret, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", account->idle,
                  account->out_of_scope, account->below_min, account->below_min_ns, account->folded,
                  account->unmatched);
}

static void put_kinds(struct ap_buf *ret, const struct ap_kind_count *kinds, unsigned cnt)
{
    for (unsigned i = 0; i < cnt; i++)
        ap_buf_printf(ret, " %u:%" PRIu64 "/%" PRIu64 "/%" PRIu64, kinds[i].kind, kinds[i].events, kinds[i].value,
                      kinds[i].lost);
}

static void dump_batches(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_batches_answer answer = {0};
    struct ap_provenance sums = {0};
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_account(storage, scope, &sums, &err) == 0, "%s", err.text);
    ap_buf_printf(ret, "account %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, sums.samples, sums.value, sums.batches,
                  sums.newest_ns);
    put_account(ret, &sums.account);
    MADE_CHECK(ap_storage_batches(storage, scope, 1000, &answer, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < answer.row_cnt; i++) {
        const struct ap_batch_row *row = &answer.rows[i];

        ap_buf_printf(ret, "batch %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                      row->agent_id, row->epoch, row->sequence, row->start_ns, row->duration_ns, row->received_ns,
                      row->bytes);
        put_labels_text(ret, row->labels, row->label_cnt);
        put_kinds(ret, row->kinds, row->kind_cnt);
        ap_buf_char(ret, '\n');
    }
    ap_batches_answer_done(&answer);
}

static void dump_agents(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_agents_answer answer = {0};
    struct ap_error err = {0};

    MADE_CHECK(ap_storage_agents(storage, scope, &answer, &err) == 0, "%s", err.text);
    for (size_t i = 0; i < answer.row_cnt; i++) {
        const struct ap_agent_row *row = &answer.rows[i];

        ap_buf_printf(ret, "agent %s %s %s %s %s %s %u %" PRIu64 " %" PRIu64 " %" PRIu64, row->agent_id,
                      row->info.version, row->info.host, row->info.kernel, row->info.arch, row->info.event,
                      row->info.cpus_online, row->info.frequency, row->info.cpu_ns, row->info.rss_peak_bytes);
        ap_buf_printf(ret,
                      " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                      row->epoch, row->sequence, row->first_ns, row->last_ns, row->batches, row->spool_bytes,
                      row->spool_dropped_batches, row->spool_dropped_events);
        put_labels_text(ret, row->labels, row->label_cnt);
        put_kinds(ret, row->kinds, row->kind_cnt);
        for (unsigned l = 0; l < row->left_out_cnt; l++)
            ap_buf_printf(ret, " left %u <%s>", row->left_out[l].kind, row->left_out[l].reason);
        ap_buf_char(ret, '\n');
    }
    ap_agents_answer_done(&answer);
}

void made_dump(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret)
{
    struct ap_storage_scope cpu = *scope;

    if (cpu.kind == 0)
        cpu.kind = AP_KIND_CPU;
    dump_stacks(storage, &cpu, ret);
    dump_timeline(storage, &cpu, AP_PUSH_SLOT_NS, NULL, 10, ret);
    dump_timeline(storage, &cpu, 60 * MADE_SEC, "service", 3, ret);
    dump_timeline(storage, &cpu, 3600 * MADE_SEC, "zone", 100, ret);
    dump_timeline(storage, &cpu, 7 * MADE_SEC, "nothing", 100, ret);
    dump_labels(storage, scope, ret);
    dump_locks(storage, scope, ret);
    dump_syscalls(storage, scope, ret);
    dump_batches(storage, scope, ret);
    dump_agents(storage, scope, ret);
    MADE_CHECK(ret->error == 0, "dump too large");
}
