/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static atomic_size_t held;

/* Numbers, so that it compresses like answers do. */
static void write_some(struct ap_out *out, unsigned cnt)
{
    for (unsigned i = 0; i < cnt; i++)
        ap_out_printf(out, "{\"value\":%u},", i);
}

static size_t unpack(enum ap_api_encoding encoding, const char *data, size_t len, char *ret, size_t room)
{
    z_stream zip = {.next_in = (unsigned char *)(uintptr_t)data,
                    .avail_in = (unsigned)len,
                    .next_out = (unsigned char *)ret,
                    .avail_out = (unsigned)room};

    if (encoding == AP_API_IDENTITY) {
        memcpy(ret, data, len);
        return len;
    }
    if (encoding == AP_API_ZSTD) {
        size_t r = ZSTD_decompress(ret, room, data, len);

        assert_false(ZSTD_isError(r));
        return r;
    }
    assert_int_equal(inflateInit2(&zip, encoding == AP_API_GZIP ? 31 : 15), Z_OK);
    assert_int_equal(inflate(&zip, Z_FINISH), Z_STREAM_END);
    inflateEnd(&zip);
    return zip.total_out;
}

static void test_encodings(void **state)
{
    static char plain[1 << 20], back[1 << 20];
    size_t plain_len = 0;

    (void)state;
    for (unsigned e = AP_API_IDENTITY; e <= AP_API_DEFLATE; e++) {
        struct ap_api_sink *sink = ap_api_sink_new((enum ap_api_encoding)e, 1 << 20, &held, 1 << 21);
        enum ap_api_encoding encoding;
        size_t len, back_len;
        char *data;

        write_some(ap_api_sink_out(sink), 20000);
        assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), 0);
        assert_int_equal(encoding, e);
        assert_int_equal(atomic_load(&held), len);
        back_len = unpack(encoding, data, len, back, sizeof(back));
        if (e == AP_API_IDENTITY) {
            memcpy(plain, back, back_len);
            plain_len = back_len;
        } else {
            assert_true(len < plain_len / 3);
        }
        assert_int_equal(back_len, plain_len);
        assert_memory_equal(back, plain, plain_len);
        free(data);
        ap_api_sink_free(sink);
        assert_int_equal(atomic_load(&held), len); /* the owner of the data counts it down */
        atomic_fetch_sub(&held, len);
    }
}

static void test_short_answers_stay_plain(void **state)
{
    struct ap_api_sink *sink = ap_api_sink_new(AP_API_GZIP, 1 << 20, &held, 1 << 21);
    enum ap_api_encoding encoding;
    size_t len;
    char *data;

    (void)state;
    ap_out_str(ap_api_sink_out(sink), "ok\n");
    assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), 0);
    assert_int_equal(encoding, AP_API_IDENTITY);
    assert_int_equal(len, 3);
    assert_memory_equal(data, "ok\n", 3);
    free(data);
    ap_api_sink_free(sink);
    atomic_fetch_sub(&held, len);

    sink = ap_api_sink_new(AP_API_ZSTD, 1 << 20, &held, 1 << 21);
    assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), 0);
    assert_int_equal(len, 0);
    free(data);
    ap_api_sink_free(sink);
}

static void test_bounds(void **state)
{
    (void)state;
    for (unsigned e = AP_API_IDENTITY; e <= AP_API_DEFLATE; e++) {
        struct ap_api_sink *sink = ap_api_sink_new((enum ap_api_encoding)e, 5000, &held, 1 << 21);
        enum ap_api_encoding encoding;
        char *data = NULL;
        size_t len;

        write_some(ap_api_sink_out(sink), 200000);
        assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), -E2BIG);
        assert_null(data);
        ap_api_sink_free(sink);
        assert_int_equal(atomic_load(&held), 0);

        sink = ap_api_sink_new((enum ap_api_encoding)e, 1 << 24, &held, 5000);
        write_some(ap_api_sink_out(sink), 200000);
        assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), -EAGAIN);
        ap_api_sink_free(sink);
        assert_int_equal(atomic_load(&held), 0);
    }
}

static void test_reset(void **state)
{
    struct ap_api_sink *sink = ap_api_sink_new(AP_API_ZSTD, 5000, &held, 1 << 21);
    enum ap_api_encoding encoding;
    size_t len;
    char *data;

    (void)state;
    write_some(ap_api_sink_out(sink), 200000);
    ap_api_sink_reset(sink);
    assert_int_equal(atomic_load(&held), 0);
    ap_out_str(ap_api_sink_out(sink), "sorry");
    assert_int_equal(ap_api_sink_take(sink, &data, &len, &encoding), 0);
    assert_int_equal(len, 5);
    free(data);
    ap_api_sink_free(sink);
    atomic_fetch_sub(&held, len);
    assert_null(ap_api_sink_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_short_answers_stay_plain),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
