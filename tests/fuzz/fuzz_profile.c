/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Builds a capture from random bytes through the public API, as a hostile host could make the agent do, and
 * writes it in every format. Checks what must hold for any content: sums agree, JSON parses, nothing steers a
 * terminal. */
#include "format/format.h"
#include "model/locks.h"
#include "model/syscalls.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

/* Output of one format; far above what inputs of libFuzzer's default size make. */
#define OUTPUT_SZ_MAX (1u << 30)

struct input {
    const uint8_t *p, *end;
};

static uint8_t byte(struct input *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static uint64_t number(struct input *in)
{
    static const uint64_t large[] = {UINT32_MAX, INT64_MAX, UINT64_MAX, (uint64_t)INT64_MAX - 1};
    uint8_t b = byte(in);

    if (b >= 252)
        return large[b - 252];
    return b < 128 ? b : (uint64_t)byte(in) << (b & 63);
}

/* A name of up to 63 bytes of the input, seldom a very long one. */
static uint32_t name(struct input *in, struct ap_profile *profile)
{
    uint8_t b = byte(in);
    size_t len = b & 63, left = (size_t)(in->end - in->p);
    uint32_t id = 0;

    if (b == 255) {
        char text[70000];

        memset(text, byte(in), sizeof(text));
        ap_strings_add(profile->strings, text, sizeof(text), &id);
        return id;
    }
    if (len > left)
        len = left;
    ap_strings_add(profile->strings, (const char *)in->p, len, &id);
    in->p += len;
    return id;
}

static void add_mapping(struct input *in, struct ap_profile *profile)
{
    struct ap_mapping row = {.path = name(in, profile)};
    uint32_t index;

    row.build_id_len = byte(in) % (AP_BUILD_ID_MAX + 2); /* one too many now and then */
    memset(row.build_id, byte(in), sizeof(row.build_id));
    row.start = number(in);
    row.limit = number(in);
    row.file_off = number(in);
    ap_profile_add_mapping(profile, &row, &index);
}

static void add_frame(struct input *in, struct ap_profile *profile)
{
    struct ap_frame row = {.kind = byte(in), .inlined = byte(in) & 1, .function = name(in, profile)};
    uint8_t flags = byte(in);
    uint32_t index;

    row.waker = flags & 2;
    row.file = (flags & 1) ? name(in, profile) : 0;
    row.line = (uint32_t)number(in);
    row.mapping = byte(in) % (profile->mapping_cnt + 1); /* likewise */
    row.offset = number(in);
    ap_profile_add_frame(profile, &row, &index);
}

static void add_sample(struct input *in, struct ap_profile *profile)
{
    struct ap_series row = {.pid = (uint32_t)number(in), .comm = name(in, profile)};
    uint32_t frames[AP_STACK_FRAMES_MAX + 1], series, stack;
    uint8_t shape = byte(in);
    uint32_t cnt = (shape & 3) == 3 ? byte(in) * 3u : shape >> 2;

    if (cnt > AP_STACK_FRAMES_MAX + 1)
        cnt = AP_STACK_FRAMES_MAX + 1;
    row.exe = (shape & 1) ? name(in, profile) : profile->mappings[byte(in) % profile->mapping_cnt].path;
    row.container = (shape & 2) ? name(in, profile) : 0;
    /* Long stacks repeat what the input has left, so that few bytes make deep recursion. */
    for (uint32_t i = 0; i < cnt; i++)
        frames[i] = i < 64 ? byte(in) % (profile->frame_cnt + (shape == 255)) : frames[i % 64];
    if (ap_profile_add_series(profile, &row, &series) == 0 &&
        ap_profile_add_stack(profile, frames, cnt, byte(in) & 1, &stack) == 0)
        ap_profile_add_sample(profile, series, stack, number(in), number(in));
}

static void add_latencies(struct input *in, struct ap_histogram *histogram)
{
    for (unsigned i = byte(in) & 3; i > 0; i--)
        ap_histogram_add(histogram, byte(in), number(in)); /* some buckets do not exist */
}

/* Sums that do not agree with each other: nobody may depend on it. */
static void add_syscall(struct input *in, struct ap_profile *profile)
{
    struct ap_syscall_row *row;

    if (profile->syscalls == NULL)
        profile->syscalls = ap_syscalls_new(profile->strings);
    CHECK(profile->syscalls != NULL);
    row = ap_syscalls_row(profile->syscalls, byte(in) & 7, (uint32_t)number(in),
                          ap_profile_str(profile, name(in, profile)), byte(in) & 3, (uint32_t)number(in));
    CHECK(row != NULL);
    row->count += number(in);
    row->total_ns += number(in);
    row->max_ns = number(in);
    row->in_flight += byte(in) & 1;
    row->in_flight_max_ns = number(in);
    add_latencies(in, &row->histogram);
    ap_syscall_row_error(row, (uint32_t)number(in), number(in));
}

static uint32_t any_of(struct input *in, uint32_t cnt)
{
    return cnt == 0 || byte(in) > 250 ? AP_LOCK_NO_STACK : byte(in) % cnt;
}

static void add_lock(struct input *in, struct ap_profile *profile)
{
    struct ap_lock_row *row;

    if (profile->locks == NULL)
        profile->locks = ap_locks_new();
    CHECK(profile->locks != NULL);
    row = ap_locks_row(profile->locks, byte(in) & 3, number(in), byte(in) & 1);
    CHECK(row != NULL);
    row->pid = (uint32_t)number(in);
    row->comm = name(in, profile);
    row->symbol = name(in, profile);
    row->type = byte(in);
    row->waits += number(in);
    row->total_ns += number(in);
    row->max_ns = number(in);
    row->timeouts = number(in);
    row->timeout_ns = number(in);
    row->in_flight = byte(in) & 1;
    row->in_flight_ns = number(in);
    add_latencies(in, &row->histogram);
    for (unsigned i = byte(in) & 15; i > 0; i--) {
        uint32_t waiter = any_of(in, profile->stack_cnt), waker = any_of(in, profile->stack_cnt);

        ap_lock_row_add(row, any_of(in, profile->series_cnt), waiter, any_of(in, profile->series_cnt), waker,
                        number(in), number(in), number(in));
        if (waiter != AP_LOCK_NO_STACK) {
            ap_lock_type_of_stack(profile, waiter);
            CHECK(ap_lock_site(profile, waiter) < profile->frame_cnt);
        }
    }
}

static struct ap_profile *build_profile(struct input *in)
{
    struct ap_profile *profile = ap_profile_new(byte(in) % 7);

    CHECK(profile != NULL);
    profile->start_ns = number(in);
    profile->duration_ns = number(in);
    profile->period_ns = number(in);
    while (in->p < in->end) {
        switch (byte(in) % 10) {
        case 0:
            add_mapping(in, profile);
            break;
        case 1:
        case 2:
        case 3:
            add_frame(in, profile);
            break;
        case 4:
            goto done;
        case 5:
            add_syscall(in, profile);
            break;
        case 6:
            add_lock(in, profile);
            break;
        default:
            add_sample(in, profile);
            break;
        }
    }
done:
    if (profile->syscalls != NULL)
        ap_syscalls_sort(profile->syscalls);
    if (profile->locks != NULL)
        ap_locks_sort(profile->locks);
    return profile;
}

static void fill_capture(struct input *in, struct ap_capture *capture)
{
    size_t left = (size_t)(in->end - in->p), len = left < 40 ? left : 40;

    if (len == 0)
        return;
    memcpy(capture->agent.host, in->p, len);
    memcpy(capture->agent.kernel, in->p, len);
    memcpy(capture->agent.event, in->p, len < 31 ? len : 31);
    in->p += byte(in) % (len + 1);
    capture->agent.frequency = number(in);
    capture->agent.cpus_online = (uint32_t)number(in);
    capture->agent.cpu_ns = number(in);
    capture->agent.bpf_run_ns = number(in);
    capture->agent.bpf_run_cnt = number(in);
    capture->agent.rss_peak_bytes = number(in);
    capture->accounts[0].expected = number(in);
    capture->accounts[0].delivered = number(in);
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        capture->accounts[0].losses[i] = number(in);
    capture->accounts[0].below_min = number(in);
    capture->accounts[0].below_min_ns = number(in);
    capture->accounts[0].folded = number(in);
    capture->accounts[0].unmatched = number(in);
    capture->left_out_cnt = byte(in) & 1;
    capture->left_out[0].kind = byte(in);
    memcpy(capture->left_out[0].reason, capture->agent.host, 40);
    capture->frames_total = number(in);
    capture->frames_unresolved = number(in);
    capture->profiles[capture->profile_cnt++] = build_profile(in);
    if (byte(in) & 1)
        capture->profiles[capture->profile_cnt++] = build_profile(in);
    for (unsigned i = 0; in->p < in->end && i < 600; i++) {
        char module[8] = {0};

        for (unsigned j = 0; j < 4; j++)
            module[j] = (char)byte(in);
        ap_capture_unresolved(capture, module, byte(in), number(in), number(in));
    }
    ap_capture_unresolved_sort(capture);
}

static void check_sums(const struct ap_profile *profile)
{
    struct ap_tree *tree = ap_tree_new(profile);
    struct ap_top *top = ap_top_new(profile);
    uint64_t self = 0;

    CHECK(tree != NULL && top != NULL);
    CHECK(tree->nodes[0].value == ap_profile_total_value(profile));
    CHECK(tree->nodes[0].count == ap_profile_total_count(profile));
    for (uint32_t i = 0; i < top->row_cnt; i++) {
        self += top->rows[i].self;
        CHECK(top->rows[i].total <= ap_profile_total_value(profile));
    }
    CHECK(self == ap_profile_total_value(profile));
    ap_top_free(top);
    ap_tree_free(tree);
}

static void check_output(enum ap_format format, const struct ap_buf *buf)
{
    if (format == AP_FORMAT_JSON) {
        json_t *root = json_loadb(buf->data, buf->len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);

        CHECK(root != NULL);
        json_decref(root);
    }
    for (size_t i = 0; (format == AP_FORMAT_TEXT || format == AP_FORMAT_COLLAPSED) && i < buf->len; i++)
        CHECK((unsigned char)buf->data[i] >= 0x20 || buf->data[i] == '\n');
}

/* libFuzzer calls it by name; it declares it nowhere. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct ap_capture *capture = ap_capture_new();
    struct ap_buf buf;

    CHECK(capture != NULL);
    fill_capture(&in, capture);
    ap_buf_init(&buf, OUTPUT_SZ_MAX);
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        check_sums(capture->profiles[i]);
        for (unsigned format = AP_FORMAT_SVG; format <= AP_FORMAT_TEXT; format++) {
            struct ap_out *out = ap_out_new_buf(&buf);

            CHECK(out != NULL);
            ap_buf_reset(&buf);
            CHECK(ap_format_write((enum ap_format)format, capture, i, out) == 0);
            CHECK(ap_out_total(out) == buf.len);
            check_output((enum ap_format)format, &buf);
            ap_out_free(out);
        }
    }
    ap_buf_done(&buf);
    ap_capture_free(capture);
    return 0;
}
