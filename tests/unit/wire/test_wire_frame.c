/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

#define MAX ((size_t)8 << 20)

static char *zeros(size_t len)
{
    char *data = calloc(1, len + 1);

    assert_non_null(data);
    return data;
}

/* A frame that does not state its size. */
static size_t pack_unstated(const void *data, size_t len, void *to, size_t cap)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t size;

    assert_non_null(context);
    assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0)));
    size = ZSTD_compress2(context, to, cap, data, len);
    assert_false(ZSTD_isError(size));
    assert_true(ZSTD_getFrameContentSize(to, size) == ZSTD_CONTENTSIZE_UNKNOWN);
    ZSTD_freeCCtx(context);
    return size;
}

static int unpack(const void *data, size_t len, size_t want_len)
{
    struct ap_error err = {0};
    size_t got_len = 7;
    void *got = NULL;
    int r = ap_frame_unpack(data, len, MAX, &got, &got_len, &err);

    if (r == 0) {
        assert_int_equal(got_len, want_len);
        for (size_t i = 0; i < got_len; i++)
            assert_int_equal(((const char *)got)[i], 0);
    } else {
        assert_null(got);
        assert_int_equal(err.code, r);
    }
    free(got);
    return r;
}

static void test_sizes(void **state)
{
    const size_t sizes[] = {0, 1, 1000, (size_t)1 << 20, ((size_t)1 << 20) + 1, MAX - 1, MAX};
    char *data = zeros(MAX), *frame = zeros(MAX);

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct ap_buf buf;

        ap_buf_init(&buf, MAX);
        assert_int_equal(ap_buf_str(&buf, "ahead"), 0);
        assert_int_equal(ap_frame_pack(data, sizes[i], MAX, &buf, NULL), 0);
        assert_int_equal(ZSTD_getFrameContentSize(buf.data + 5, buf.len - 5), sizes[i]);
        assert_int_equal(unpack(buf.data + 5, buf.len - 5, sizes[i]), 0);
        ap_buf_done(&buf);
        assert_int_equal(unpack(frame, pack_unstated(data, sizes[i], frame, MAX), sizes[i]), 0);
    }
    free(data);
    free(frame);
}

static void test_bombs(void **state)
{
    size_t big = MAX + 1, len;
    char *data = zeros(4 * MAX), *frame = zeros(MAX);

    (void)state;
    len = ZSTD_compress(frame, MAX, data, big, 1);
    assert_true(len < 10000);
    assert_int_equal(unpack(frame, len, 0), -E2BIG);
    assert_int_equal(unpack(frame, pack_unstated(data, big, frame, MAX), 0), -E2BIG);
    assert_int_equal(unpack(frame, pack_unstated(data, 4 * MAX, frame, MAX), 0), -E2BIG);
    free(data);
    free(frame);
}

/* The size of a frame with a header of 4 bytes for it. */
static void state_size(char *frame, uint32_t size)
{
    assert_int_equal((unsigned char)frame[4] >> 6, 2);
    memcpy(frame + ((frame[4] & 0x20) != 0 ? 5 : 6), &size, sizeof(size));
}

static void test_lies(void **state)
{
    char *data = zeros(1 << 20), *frame = zeros(1 << 20);
    size_t len = ZSTD_compress(frame, 1 << 20, data, 1 << 20, 1);

    (void)state;
    assert_int_equal(unpack(frame, len, 1 << 20), 0);
    state_size(frame, (1 << 20) - 1);
    assert_int_equal(unpack(frame, len, 0), -EINVAL);
    state_size(frame, (1 << 20) + 1);
    assert_int_equal(unpack(frame, len, 0), -EINVAL);
    state_size(frame, MAX);
    assert_int_equal(unpack(frame, len, 0), -EINVAL);
    state_size(frame, UINT32_MAX);
    assert_int_equal(unpack(frame, len, 0), -E2BIG);
    free(data);
    free(frame);
}

static void test_damage(void **state)
{
    char text[3000], frame[4000];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i * i >> 3);
    len = ZSTD_compress(frame, sizeof(frame) - 100, text, sizeof(text), 1);
    for (int unstated = 0; unstated < 2; unstated++) {
        if (unstated != 0)
            len = pack_unstated(text, sizeof(text), frame, sizeof(frame) - 100);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(unpack(frame, cut, 0), -EINVAL);
        frame[len] = 0;
        assert_int_equal(unpack(frame, len + 1, 0), -EINVAL);
        memmove(frame + len, frame, 50); /* another one behind it */
        assert_int_equal(unpack(frame, len + 50, 0), -EINVAL);
        for (size_t i = 0; i < len; i++) {
            struct ap_error err = {0};
            size_t got_len = 0;
            void *got = NULL;

            frame[i] ^= (char)(1 << i % 8);
            (void)ap_frame_unpack(frame, len, MAX, &got, &got_len, &err); /* some bits do not matter */
            assert_true(got_len <= MAX);
            free(got);
            frame[i] ^= (char)(1 << i % 8);
        }
    }
}

static void test_too_big_to_pack(void **state)
{
    struct ap_error err = {0};
    struct ap_buf buf;
    char noise[5000];
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)((random = random * 1664525 + 1013904223) >> 24);
    ap_buf_init(&buf, 100000);
    assert_int_equal(ap_frame_pack(noise, sizeof(noise), 4000, &buf, &err), -E2BIG);
    assert_int_equal(buf.len, 0);
    assert_int_equal(ap_frame_pack(noise, sizeof(noise), 6000, &buf, &err), 0);
    ap_buf_done(&buf);
    ap_buf_init(&buf, 1000);
    assert_int_equal(ap_frame_pack(noise, sizeof(noise), 6000, &buf, &err), -E2BIG);
    ap_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),  cmocka_unit_test(test_bombs),           cmocka_unit_test(test_lies),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_too_big_to_pack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
