/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void test_split(void **state)
{
    struct ap_api_pairs pairs = {0};
    char *path = NULL;

    (void)state;
    assert_int_equal(ap_api_split_uri("/a%20b/+?x=1&y=a%2Bb+c&&z&=q&u=a=b%3D", &path, &pairs, NULL), 0);
    assert_string_equal(path, "/a b/+");
    assert_int_equal(pairs.cnt, 5);
    assert_string_equal(pairs.rows[0].name, "x");
    assert_string_equal(pairs.rows[0].value, "1");
    assert_string_equal(pairs.rows[1].value, "a+b c");
    assert_string_equal(pairs.rows[2].name, "z");
    assert_string_equal(pairs.rows[2].value, "");
    assert_string_equal(pairs.rows[3].name, "");
    assert_string_equal(pairs.rows[4].value, "a=b=");
    free(path);
    ap_api_pairs_done(&pairs);
    assert_int_equal(ap_api_split_uri("/#x?y=1", &path, &pairs, NULL), 0);
    assert_string_equal(path, "/");
    assert_int_equal(pairs.cnt, 0);
    free(path);
}

static void test_split_refuses(void **state)
{
    static const char *const wrong[] = {"", "x", "*", "http://x/", "/%", "/%4", "/%zz", "/a%00", "/?x=%0", "/?%00=1"};
    struct ap_api_pairs pairs = {.cnt = 7};
    struct ap_error err;
    char *path = NULL, many[2000] = "/?";

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(ap_api_split_uri(wrong[i], &path, &pairs, &err), -EINVAL);
        assert_true(err.text[0] != '\0');
        assert_int_equal(ap_api_split_uri(wrong[i], &path, &pairs, NULL), -EINVAL);
    }
    for (int i = 0; i < AP_API_PAIRS_MAX + 1; i++)
        strcat(many, "a&");
    assert_int_equal(ap_api_split_uri(many, &path, &pairs, &err), -E2BIG);
    assert_null(path);
    assert_int_equal(pairs.cnt, 7);
}

static void test_accept(void **state)
{
    (void)state;
    assert_int_equal(ap_api_accept_weight(NULL, "application/json"), 1000);
    assert_int_equal(ap_api_accept_weight("", "application/json"), 1000);
    assert_int_equal(ap_api_accept_weight("text/html, */*;q=0.8", "application/json"), 800);
    assert_int_equal(ap_api_accept_weight("application/*;q=0.5,text/*", "application/json"), 500);
    assert_int_equal(ap_api_accept_weight("APPLICATION/JSON;charset=x ; q=0.25", "application/json"), 250);
    assert_int_equal(ap_api_accept_weight("*/*, application/json;q=0", "application/json"), 0);
    assert_int_equal(ap_api_accept_weight("application/jsonx", "application/json"), 0);
    assert_int_equal(ap_api_accept_weight("application/json;q=7", "application/json"), 1000);
    assert_int_equal(ap_api_accept_weight("application/json;q=-1", "application/json"), 0);
    assert_int_equal(ap_api_accept_weight(",,;;q=,", "application/json"), 0);
}

static void test_encodings(void **state)
{
    (void)state;
    assert_int_equal(ap_api_choose_encoding(NULL), AP_API_IDENTITY);
    assert_int_equal(ap_api_choose_encoding(""), AP_API_IDENTITY);
    assert_int_equal(ap_api_choose_encoding("br"), AP_API_IDENTITY);
    assert_int_equal(ap_api_choose_encoding("gzip, deflate, br, zstd"), AP_API_ZSTD);
    assert_int_equal(ap_api_choose_encoding("gzip, deflate, br"), AP_API_GZIP);
    assert_int_equal(ap_api_choose_encoding("gzip;q=0.5, deflate"), AP_API_DEFLATE);
    assert_int_equal(ap_api_choose_encoding("*"), AP_API_ZSTD);
    assert_int_equal(ap_api_choose_encoding("zstd;q=0, *"), AP_API_GZIP);
    assert_int_equal(ap_api_choose_encoding("gzip;q=0"), AP_API_IDENTITY);
    assert_true(ap_api_accepts_encoding("br;q=1.0", "br"));
    assert_false(ap_api_accepts_encoding("br;q=0", "br"));
    assert_string_equal(ap_api_encoding_name(AP_API_GZIP), "gzip");
    assert_null(ap_api_encoding_name(AP_API_IDENTITY));
}

static void test_types(void **state)
{
    (void)state;
    assert_true(ap_api_is_type("application/json", "application/json"));
    assert_true(ap_api_is_type("Application/JSON; charset=utf-8", "application/json"));
    assert_false(ap_api_is_type("application/jsonl", "application/json"));
    assert_false(ap_api_is_type(NULL, "application/json"));
}

static void test_nearest(void **state)
{
    static const char *const names[] = {"limit", "kind", "max_nodes", "function"};
    char huge[5000];

    (void)state;
    assert_string_equal(ap_api_nearest("limt", names, 4), "limit");
    assert_string_equal(ap_api_nearest("maxnodes", names, 4), "max_nodes");
    assert_string_equal(ap_api_nearest("fnuction", names, 4), "function");
    assert_string_equal(ap_api_nearest("kind", names, 4), "kind");
    assert_null(ap_api_nearest("zzzzzzzz", names, 4));
    assert_null(ap_api_nearest("kind", names, 0));
    memset(huge, 'k', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    assert_null(ap_api_nearest(huge, names, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),     cmocka_unit_test(test_split_refuses), cmocka_unit_test(test_accept),
        cmocka_unit_test(test_encodings), cmocka_unit_test(test_types),         cmocka_unit_test(test_nearest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
