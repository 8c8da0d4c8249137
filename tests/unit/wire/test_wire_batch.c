/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "proto/aperture/v1/batch.pb-c.h"
#include "tests/unit/format/fixture.h"
#include "tests/unit/wire/sample.h"
#include "wire/arena.h"
#include "wire/frame.h"
#include "wire/push.h"

#include <errno.h>
#include <zstd.h>

typedef Aperture__V1__Batch batch_t;

static struct ap_push *decode(const struct ap_buf *buf)
{
    struct ap_error err = {0};
    struct ap_push *push = ap_wire_batch_decode(buf->data, buf->len, &err);

    if (push == NULL)
        fail_msg("%s", err.text);
    return push;
}

static void assert_round_trip(const struct ap_push *push)
{
    struct ap_error err = {0};
    struct ap_push *once, *twice;
    struct ap_buf buf;

    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    if (ap_wire_batch_encode(push, &buf, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(ZSTD_findFrameCompressedSize(buf.data, buf.len), buf.len);
    assert_true(ZSTD_getFrameContentSize(buf.data, buf.len) < ZSTD_CONTENTSIZE_ERROR);
    once = decode(&buf);
    assert_true(same_push(push, once));
    ap_buf_reset(&buf);
    assert_int_equal(ap_wire_batch_encode(once, &buf, NULL), 0);
    twice = decode(&buf);
    assert_true(same_push(once, twice));
    ap_push_free(once);
    ap_push_free(twice);
    ap_buf_done(&buf);
}

static void test_everything_comes_back(void **state)
{
    struct ap_push *push = sample_push();

    (void)state;
    assert_round_trip(push);
    ap_push_free(push);
    push = sample_empty();
    assert_round_trip(push);
    ap_push_free(push);
    push = sample_large(3000, 500);
    assert_round_trip(push);
    ap_push_free(push);
}

/* The captures that the codecs are tested with: what is written of them is the same bytes before and after. */
static void test_captures_are_written_the_same(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        struct ap_push *push = sample_empty(), *decoded;
        struct ap_capture *own = push->capture;
        struct ap_buf buf;

        switch (i) {
        case 0:
            push->capture = fixture_rich(AP_KIND_CPU);
            break;
        case 1:
            push->capture = fixture_rich(AP_KIND_OFFCPU);
            break;
        case 2:
            push->capture = fixture_wakers(AP_KIND_OFFCPU);
            break;
        case 3:
            push->capture = fixture_locks();
            break;
        case 4:
            push->capture = fixture_syscalls();
            break;
        default:
            push->capture = fixture_random(AP_KIND_CPU, i, 50 * i);
            break;
        }
        ap_capture_free(own);
        push->start_ns = push->capture->profiles[0]->start_ns;
        push->duration_ns = push->capture->profiles[0]->duration_ns;
        assert_round_trip(push);
        ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
        assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
        decoded = decode(&buf);
        for (unsigned format = AP_FORMAT_SVG; format <= AP_FORMAT_TEXT; format++) {
            size_t before_len, after_len;

            /* pprof has all strings, with the names of the calls that came with the batch. */
            if (format == AP_FORMAT_PPROF && push->capture->profiles[0]->kind == AP_KIND_SYSCALL)
                continue;
            char *before = fixture_render((enum ap_format)format, push->capture, &before_len);
            char *after = fixture_render((enum ap_format)format, decoded->capture, &after_len);

            assert_int_equal(before_len, after_len);
            assert_memory_equal(before, after, before_len);
            free(before);
            free(after);
        }
        ap_buf_done(&buf);
        ap_push_free(push);
        ap_push_free(decoded);
    }
}

/* Calls have other numbers elsewhere: their names travel with them. */
static void test_names_of_calls_travel(void **state)
{
    struct ap_push *push = sample_push(), *decoded;
    struct ap_profile *profile;
    struct ap_buf buf;

    (void)state;
    push->capture->profiles[3]->syscalls->rows[0]->name =
        ap_strings_id(push->capture->profiles[3]->strings, "another_call");
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
    decoded = decode(&buf);
    profile = decoded->capture->profiles[3];
    assert_string_equal(ap_profile_str(profile, profile->syscalls->rows[0]->name), "another_call");
    for (size_t i = 1; i < profile->syscalls->row_cnt; i++)
        assert_true(profile->syscalls->rows[i]->name != 0);
    ap_buf_done(&buf);
    ap_push_free(push);
    ap_push_free(decoded);
}

/* What is decoded may be added to: equal rows are found. */
static void test_decoded_profiles_grow(void **state)
{
    struct ap_push *push = sample_push(), *decoded;
    struct ap_profile *p;
    struct ap_buf buf;
    uint32_t samples;

    (void)state;
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
    decoded = decode(&buf);
    p = decoded->capture->profiles[0];
    samples = p->sample_cnt;
    sample_samples(p, 60);
    assert_int_equal(p->sample_cnt, samples);
    assert_int_equal(ap_profile_total_count(p), 2 * ap_profile_total_count(push->capture->profiles[0]));
    ap_buf_done(&buf);
    ap_push_free(push);
    ap_push_free(decoded);
}

static void test_encoding_is_checked(void **state)
{
    struct ap_push *push = sample_push();
    struct ap_error err = {0};
    struct ap_buf buf;

    (void)state;
    ap_buf_init(&buf, 100);
    assert_int_equal(ap_wire_batch_encode(push, &buf, &err), -E2BIG);
    ap_buf_done(&buf);
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    push->duration_ns = AP_PUSH_DURATION_MAX + 1;
    assert_int_equal(ap_wire_batch_encode(push, &buf, &err), -E2BIG);
    push->duration_ns = AP_PUSH_DURATION_MAX;
    push->start_ns++;
    assert_int_equal(ap_wire_batch_encode(push, &buf, &err), -EINVAL);
    push->start_ns--;
    assert_int_equal(ap_wire_batch_encode(push, &buf, &err), 0);
    assert_int_equal(ap_push_label(push, "host", "", NULL), 0);
    assert_int_equal(ap_wire_batch_encode(push, &buf, &err), -EINVAL);
    ap_buf_done(&buf);
    ap_push_free(push);
}

/* Text that is not UTF-8 would make the batch unreadable for others. */
static void test_text_is_made_utf8(void **state)
{
    struct ap_push *push = sample_empty(), *decoded;
    struct ap_buf buf;

    (void)state;
    strcpy(push->capture->agent.kernel, "6.1\xff");
    ap_capture_unresolved(push->capture, "/a\xc3", AP_UNRESOLVED_STRIPPED, 1, 1);
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
    decoded = decode(&buf);
    assert_string_equal(decoded->capture->agent.kernel, "6.1\xEF\xBF\xBD");
    assert_string_equal(decoded->capture->unresolved[0].module, "/a\xEF\xBF\xBD");
    ap_buf_done(&buf);
    ap_push_free(push);
    ap_push_free(decoded);
}

/* A batch changed by hand, in the place of an agent that is broken or hostile. */
struct forged {
    struct ap_arena arena;
    batch_t *batch;
};

static void forge(struct forged *forged, const struct ap_push *push)
{
    struct ap_buf buf;
    void *data = NULL;
    size_t len = 0;

    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
    assert_int_equal(ap_frame_unpack(buf.data, buf.len, AP_WIRE_UNPACKED_SZ, &data, &len, NULL), 0);
    ap_arena_init(&forged->arena, 64 << 20);
    forged->batch = aperture__v1__batch__unpack(&forged->arena.allocator, len, data);
    assert_non_null(forged->batch);
    free(data);
    ap_buf_done(&buf);
}

static struct ap_push *send_data(const void *data, size_t len, struct ap_error *err)
{
    struct ap_push *push;
    struct ap_buf buf;

    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_frame_pack(data, len, AP_WIRE_BATCH_SZ, &buf, NULL), 0);
    push = ap_wire_batch_decode(buf.data, buf.len, err);
    ap_buf_done(&buf);
    return push;
}

static struct ap_push *send_forged(struct forged *forged, struct ap_error *err)
{
    size_t len = aperture__v1__batch__get_packed_size(forged->batch);
    uint8_t *data = malloc(len + 1);
    struct ap_push *push;

    assert_non_null(data);
    aperture__v1__batch__pack(forged->batch, data);
    push = send_data(data, len, err);
    free(data);
    ap_arena_done(&forged->arena);
    return push;
}

static Aperture__V1__Profile *cpu(batch_t *b)
{
    return b->profiles[0];
}

static Aperture__V1__Lock *lock(batch_t *b)
{
    return b->profiles[2]->locks[1];
}

static Aperture__V1__Syscall *call(batch_t *b)
{
    return b->profiles[3]->syscalls[0];
}

static char *text(size_t len)
{
    static char chars[2048];

    memset(chars, 'x', sizeof(chars));
    chars[len] = '\0';
    return chars;
}

struct refusal {
    const char *words; /* of the error */
    int code;
    void (*change)(batch_t *b);
};

#define CHANGE(name, statement)                                                                                        \
    static void name(batch_t *b)                                                                                       \
    {                                                                                                                  \
        statement;                                                                                                     \
    }

CHANGE(schema, b->schema = 2)
CHANGE(no_start, b->start_unix_ns = 0)
CHANGE(late_start, b->start_unix_ns = INT64_MAX - AP_PUSH_DURATION_MAX)
CHANGE(long_duration, b->duration_ns = AP_PUSH_DURATION_MAX + 1)
CHANGE(no_agent, b->agent = NULL)
CHANGE(long_version, b->agent->version = text(32))
CHANGE(long_kernel, b->agent->kernel = text(128))
CHANGE(no_host, b->labels[0]->name = text(4))
CHANGE(empty_host, b->labels[0]->value = NULL)
CHANGE(label_twice, b->labels[1]->name = b->labels[0]->name)
CHANGE(label_name, b->labels[1]->name[0] = '-')
CHANGE(label_value, b->labels[1]->value = text(1025))
CHANGE(left_out_kind, b->left_out[0]->kind = 0)
CHANGE(left_out_reason, b->left_out[0]->reason = text(512))
CHANGE(unresolved_reason, b->unresolved[0]->reason = 256)
CHANGE(no_kind, cpu(b)->kind = 0)
CHANGE(high_kind, cpu(b)->kind = 6)
CHANGE(negative_kind, cpu(b)->kind = -1)
CHANGE(kind_twice, cpu(b)->kind = APERTURE__V1__KIND__KIND_LOCK)
CHANGE(first_string, cpu(b)->strings[0] = cpu(b)->strings[1])
CHANGE(mapping_path, cpu(b)->mappings->path[1] = (uint32_t)cpu(b)->n_strings)
CHANGE(mapping_zero, cpu(b)->mappings->start[0] = 1)
CHANGE(mapping_build_id, (cpu(b)->mappings->build_id[1] = cpu(b)->strings[1], cpu(b)->mappings->build_id[1].len = 21,
                          cpu(b)->mappings->build_id[1].data = (uint8_t *)text(30)))
CHANGE(mapping_column, cpu(b)->mappings->n_limit--)
CHANGE(frame_kind, cpu(b)->frames->kind[1] = 8)
CHANGE(frame_flags, cpu(b)->frames->flags[1] = 4)
CHANGE(frame_function, cpu(b)->frames->function[1] = UINT32_MAX)
CHANGE(frame_file, cpu(b)->frames->file[1] = (uint32_t)cpu(b)->n_strings)
CHANGE(frame_mapping, cpu(b)->frames->mapping[1] = (uint32_t)cpu(b)->mappings->n_path)
CHANGE(frame_zero, cpu(b)->frames->line[0] = 1)
CHANGE(frame_column, cpu(b)->frames->n_offset--)
CHANGE(no_frames, cpu(b)->frames = NULL)
CHANGE(stack_empty, (cpu(b)->stacks->length[0] += cpu(b)->stacks->length[1], cpu(b)->stacks->length[1] = 0))
CHANGE(stack_short, cpu(b)->stacks->length[1]--)
CHANGE(stack_long, cpu(b)->stacks->length[1]++)
CHANGE(stack_wraps, cpu(b)->stacks->length[1] = UINT32_MAX)
CHANGE(stack_flag, cpu(b)->stacks->truncated[1] = 2)
CHANGE(stack_frame, cpu(b)->stacks->frames[0] = (uint32_t)cpu(b)->frames->n_kind)
CHANGE(stack_column, cpu(b)->stacks->n_truncated--)
CHANGE(series_comm, cpu(b)->series->comm[1] = (uint32_t)cpu(b)->n_strings)
CHANGE(series_exe, cpu(b)->series->exe[1] = UINT32_MAX)
CHANGE(series_container, cpu(b)->series->container[1] = UINT32_MAX)
CHANGE(series_column, cpu(b)->series->n_exe--)
CHANGE(row_series, cpu(b)->samples->series[1] = (uint32_t)cpu(b)->series->n_pid)
CHANGE(row_stack, cpu(b)->samples->stack[1] = (uint32_t)cpu(b)->stacks->n_length)
CHANGE(sample_slot, cpu(b)->samples->slot[1] = 180001)
CHANGE(sample_no_slots, cpu(b)->samples->n_slot = 0)
CHANGE(sample_column, cpu(b)->samples->n_value--)
CHANGE(sample_count, cpu(b)->samples->count[1] = INT64_MAX)
CHANGE(sample_value, (cpu(b)->samples->value[1] = UINT64_MAX, cpu(b)->samples->value[2] = UINT64_MAX))
CHANGE(slot_length, cpu(b)->slot_ns = AP_PUSH_DURATION_MAX + 1)
CHANGE(slot_none, cpu(b)->slot_ns = 0)
CHANGE(account_sum, cpu(b)->account->expected = INT64_MAX)
CHANGE(account_loss, cpu(b)->account->losses[2] = UINT64_MAX)
CHANGE(locks_elsewhere, (cpu(b)->locks = b->profiles[2]->locks, cpu(b)->n_locks = 1))
CHANGE(calls_elsewhere, (cpu(b)->syscalls = b->profiles[3]->syscalls, cpu(b)->n_syscalls = 1))
CHANGE(lock_twice, b->profiles[2]->locks[0] = lock(b))
CHANGE(lock_comm, lock(b)->comm = UINT32_MAX)
CHANGE(lock_symbol, lock(b)->symbol = (uint32_t)b->profiles[2]->n_strings)
CHANGE(lock_type, lock(b)->type = 256)
CHANGE(lock_sum, lock(b)->waits = UINT64_MAX)
CHANGE(lock_time, (lock(b)->timeout_ns = INT64_MAX, lock(b)->in_flight_ns = INT64_MAX))
CHANGE(lock_histogram, lock(b)->histogram->first = 159)
CHANGE(lock_histogram_far, lock(b)->histogram->first = UINT32_MAX)
CHANGE(lock_histogram_sum, lock(b)->histogram->counts[0] = UINT64_MAX)
CHANGE(lock_side_series, lock(b)->waiters[0]->series = (uint32_t)b->profiles[2]->series->n_pid)
CHANGE(lock_side_stack, lock(b)->waiters[0]->stack = (uint32_t)b->profiles[2]->stacks->n_length)
CHANGE(lock_side_half, lock(b)->wakers[0]->stack = AP_LOCK_NO_STACK)
CHANGE(lock_side_sum, lock(b)->wakers[0]->total_ns = UINT64_MAX)
CHANGE(lock_pair, lock(b)->pairs[0]->waiter = (uint32_t)lock(b)->n_waiters)
CHANGE(lock_pair_half, lock(b)->pairs[0]->waker = AP_LOCK_REST)
CHANGE(lock_pair_sum, lock(b)->pairs[0]->count = UINT64_MAX)
CHANGE(call_twice, b->profiles[3]->syscalls[1] = call(b))
CHANGE(call_comm, call(b)->comm = UINT32_MAX)
CHANGE(call_abi, call(b)->abi = 3)
CHANGE(call_sum, call(b)->count = UINT64_MAX)
CHANGE(call_histogram, call(b)->histogram->first = 160)
CHANGE(call_error_zero, call(b)->errors[0] = 0)
CHANGE(call_error_high, call(b)->errors[call(b)->n_errors - 1] = 4096)
CHANGE(call_error_order, call(b)->errors[1] = call(b)->errors[0])
CHANGE(call_error_column, call(b)->n_error_counts--)
CHANGE(call_error_sum, (call(b)->error_counts[0] = INT64_MAX, call(b)->error_counts[1] = 1))
CHANGE(call_name, call(b)->name = text(32))

static const struct refusal refusals[] = {
    {"schema 2", -EINVAL, schema},
    {"begins at no time", -EINVAL, no_start},
    {"begins at no time", -EINVAL, late_start},
    {"more than an hour", -EINVAL, long_duration},
    {"what it is", -EINVAL, no_agent},
    {"version has 32 bytes", -E2BIG, long_version},
    {"kernel has 128 bytes", -E2BIG, long_kernel},
    {"no label host", -EINVAL, no_host},
    {"no label host", -EINVAL, empty_host},
    {"label host is there twice", -EINVAL, label_twice},
    {"is not a label name", -EINVAL, label_name},
    {"1025 bytes", -E2BIG, label_value},
    {"there is no kind 0", -EINVAL, left_out_kind},
    {"512 bytes", -E2BIG, left_out_reason},
    {"no reason 256", -EINVAL, unresolved_reason},
    {"profile 0: there is no kind 0", -EINVAL, no_kind},
    {"profile 0: there is no kind 6", -EINVAL, high_kind},
    {"profile 0: there is no kind -1", -EINVAL, negative_kind},
    {"profile 0: locks in a profile", -EINVAL, locks_elsewhere},
    {"profile 0: system calls in a profile", -EINVAL, calls_elsewhere},
    {"profile 2: there are two of kind lock", -EINVAL, kind_twice},
    {"string 0 is not empty", -EINVAL, first_string},
    {"mapping 1: there is no string", -EINVAL, mapping_path},
    {"mapping 0", -EINVAL, mapping_zero},
    {"a build id of 21 bytes", -EINVAL, mapping_build_id},
    {"mappings: columns of", -EINVAL, mapping_column},
    {"frame 1: kind 8", -EINVAL, frame_kind},
    {"flags 4", -EINVAL, frame_flags},
    {"function of frame 1: there is no string 4294967295", -EINVAL, frame_function},
    {"file of frame 1", -EINVAL, frame_file},
    {"frame 1: there is no mapping", -EINVAL, frame_mapping},
    {"frame 0", -EINVAL, frame_zero},
    {"frames: columns of", -EINVAL, frame_column},
    {"there is no frame", -EINVAL, no_frames},
    {"stack 1: 0 frames", -EINVAL, stack_empty},
    {"belong to none", -EINVAL, stack_short},
    {"stack", -EINVAL, stack_long},
    {"stack 1: 4294967295 frames", -EINVAL, stack_wraps},
    {"stack 1", -EINVAL, stack_flag},
    {"there is no frame", -EINVAL, stack_frame},
    {"stacks: columns of", -EINVAL, stack_column},
    {"comm of series 1", -EINVAL, series_comm},
    {"exe of series 1", -EINVAL, series_exe},
    {"container of series 1", -EINVAL, series_container},
    {"series: columns of", -EINVAL, series_column},
    {"sample 1: there is no series", -EINVAL, row_series},
    {"sample 1: there is no stack", -EINVAL, row_stack},
    {"slot 180001", -EINVAL, sample_slot},
    {"samples: columns of", -EINVAL, sample_no_slots},
    {"samples: columns of", -EINVAL, sample_column},
    {"count is past 63 bits", -E2BIG, sample_count},
    {"value is past 63 bits", -E2BIG, sample_value},
    {"slots of more than an hour", -EINVAL, slot_length},
    {"slots without a length", -EINVAL, slot_none},
    {"an account of sums", -EINVAL, account_sum},
    {"an account of sums", -EINVAL, account_loss},
    {"lock 1: it is there twice", -EINVAL, lock_twice},
    {"lock 1: there is no such string", -EINVAL, lock_comm},
    {"lock 1: there is no such string", -EINVAL, lock_symbol},
    {"lock 1: there is no type 256", -EINVAL, lock_type},
    {"lock 1: sums", -EINVAL, lock_sum},
    {"lock 1: sums", -EINVAL, lock_time},
    {"lock 1: its histogram", -EINVAL, lock_histogram},
    {"lock 1: its histogram", -EINVAL, lock_histogram_far},
    {"lock 1: its histogram", -EINVAL, lock_histogram_sum},
    {"lock 1: waiters and wakers", -EINVAL, lock_side_series},
    {"lock 1: waiters and wakers", -EINVAL, lock_side_stack},
    {"lock 1: waiters and wakers", -EINVAL, lock_side_half},
    {"lock 1: waiters and wakers", -EINVAL, lock_side_sum},
    {"lock 1: waiters and wakers", -EINVAL, lock_pair},
    {"lock 1: waiters and wakers", -EINVAL, lock_pair_half},
    {"lock 1: waiters and wakers", -EINVAL, lock_pair_sum},
    {"system call 1: it is there twice", -EINVAL, call_twice},
    {"system call 0: there is no string", -EINVAL, call_comm},
    {"system call 0: there is no ABI 3", -EINVAL, call_abi},
    {"system call 0: sums", -EINVAL, call_sum},
    {"system call 0: its histogram", -EINVAL, call_histogram},
    {"system call 0: errors", -EINVAL, call_error_zero},
    {"system call 0: errors", -EINVAL, call_error_high},
    {"system call 0: errors", -EINVAL, call_error_order},
    {"system call 0: errors", -EINVAL, call_error_column},
    {"system call 0: errors", -EINVAL, call_error_sum},
    {"system call 0: a name of 32 bytes", -EINVAL, call_name},
};

static void test_forged_batches_are_refused(void **state)
{
    struct ap_push *push = sample_push();
    struct forged forged;

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct ap_error err = {0};

        forge(&forged, push);
        refusals[i].change(forged.batch);
        assert_null(send_forged(&forged, &err));
        if (err.code != refusals[i].code || strstr(err.text, refusals[i].words) == NULL)
            fail_msg("row %zu, '%s': %d %s", i, refusals[i].words, err.code, err.text);
    }
    ap_push_free(push);
}

static void test_bad_utf8_is_refused(void **state)
{
    struct ap_push *push = sample_push();
    struct ap_error err = {0};
    struct forged forged;
    char bad[] = "6.1\xff";

    (void)state;
    forge(&forged, push);
    forged.batch->agent->kernel = bad;
    assert_null(send_forged(&forged, &err));
    assert_int_equal(err.code, -EINVAL);
    assert_non_null(strstr(err.text, "UTF-8"));
    ap_push_free(push);
}

/* Tables may be left out where nothing needs them; equal rows stay apart and add up. */
static void test_lax_batches_are_taken(void **state)
{
    struct ap_push *push = sample_push(), *decoded;
    struct ap_error err = {0};
    struct forged forged;
    Aperture__V1__Profile *profile;

    (void)state;
    forge(&forged, push);
    profile = forged.batch->profiles[4];
    profile->n_strings = 0;
    profile->mappings = NULL;
    profile->frames = NULL;
    profile->stacks = NULL;
    profile->series = NULL;
    profile->samples = NULL;
    profile->account = NULL;
    profile = cpu(forged.batch);
    for (size_t i = 0; i < profile->samples->n_stack; i++) {
        profile->samples->stack[i] = 1;
        profile->samples->series[i] = 1;
        profile->samples->slot[i] = 180000;
    }
    profile->strings[3] = profile->strings[4];
    profile->account->n_losses = 3;
    decoded = send_forged(&forged, &err);
    if (decoded == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(decoded->capture->profiles[4]->mapping_cnt, 1);
    assert_int_equal(decoded->capture->profiles[0]->sample_cnt, push->capture->profiles[0]->sample_cnt);
    assert_int_equal(ap_profile_total_value(decoded->capture->profiles[0]),
                     ap_profile_total_value(push->capture->profiles[0]));
    assert_round_trip(decoded);
    ap_push_free(decoded);
    ap_push_free(push);
}

/* Many small messages become much memory: the bound is on that too. */
static void test_message_bomb(void **state)
{
    size_t cnt = 3000000, len = 0;
    struct ap_error err = {0};
    uint8_t *data = malloc(2 * cnt + 16);

    (void)state;
    assert_non_null(data);
    data[len++] = 6 << 3 | 2; /* profiles */
    for (size_t left = 2 * cnt;; left >>= 7) {
        data[len++] = (uint8_t)((left & 0x7f) | (left >= 0x80 ? 0x80 : 0));
        if (left < 0x80)
            break;
    }
    for (size_t i = 0; i < cnt; i++) {
        data[len++] = 11 << 3 | 2; /* locks */
        data[len++] = 0;
    }
    assert_null(send_data(data, len, &err));
    assert_int_equal(err.code, -E2BIG);
    free(data);
}

static void check_any(const void *data, size_t len)
{
    struct ap_error err = {0};
    struct ap_push *push = send_data(data, len, &err);

    if (push == NULL) {
        assert_true(err.code < 0 && err.text[0] != '\0');
        return;
    }
    assert_round_trip(push);
    ap_push_free(push);
}

static void test_cut_and_flipped(void **state)
{
    struct ap_push *push = sample_push();
    struct ap_buf buf;
    uint32_t random = 1;
    void *plain = NULL;
    uint8_t *bytes;
    size_t len = 0;

    (void)state;
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    assert_int_equal(ap_wire_batch_encode(push, &buf, NULL), 0);
    assert_int_equal(ap_frame_unpack(buf.data, buf.len, AP_WIRE_UNPACKED_SZ, &plain, &len, NULL), 0);
    bytes = plain;
    for (size_t i = 0; i < len; i += 1 + len / 1000)
        check_any(bytes, i);
    for (size_t i = 0; i < len; i += 2) {
        uint8_t was = bytes[i];

        random = random * 1664525 + 1013904223;
        bytes[i] ^= (uint8_t)(1u << (random >> 29));
        check_any(bytes, len);
        bytes[i] = was;
    }
    for (size_t i = 0; i < buf.len; i++) {
        struct ap_push *decoded;

        assert_null(ap_wire_batch_decode(buf.data, i, NULL));
        buf.data[i] ^= 0x10;
        decoded = ap_wire_batch_decode(buf.data, buf.len, NULL);
        ap_push_free(decoded);
        buf.data[i] ^= 0x10;
    }
    free(plain);
    ap_buf_done(&buf);
    ap_push_free(push);
}

static void test_bytes_past_the_limit(void **state)
{
    struct ap_error err = {0};
    char *data = calloc(1, AP_WIRE_BATCH_SZ + 1);

    (void)state;
    assert_non_null(data);
    assert_null(ap_wire_batch_decode(data, AP_WIRE_BATCH_SZ + 1, &err));
    assert_int_equal(err.code, -E2BIG);
    assert_null(ap_wire_batch_decode(data, AP_WIRE_BATCH_SZ, &err));
    assert_int_equal(err.code, -EINVAL);
    assert_null(ap_wire_batch_decode(data, 0, NULL));
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_comes_back),
        cmocka_unit_test(test_captures_are_written_the_same),
        cmocka_unit_test(test_names_of_calls_travel),
        cmocka_unit_test(test_decoded_profiles_grow),
        cmocka_unit_test(test_encoding_is_checked),
        cmocka_unit_test(test_text_is_made_utf8),
        cmocka_unit_test(test_forged_batches_are_refused),
        cmocka_unit_test(test_bad_utf8_is_refused),
        cmocka_unit_test(test_lax_batches_are_taken),
        cmocka_unit_test(test_message_bomb),
        cmocka_unit_test(test_cut_and_flipped),
        cmocka_unit_test(test_bytes_past_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
