/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* From a handler's result to an answer, without a connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static struct ap_api api;
static int result;
static const char *words;

static int handle(struct ap_api_request *request, struct ap_error *err)
{
    ap_out_str(request->out, "{\"half\":");
    if (result != 0)
        return words != NULL ? ap_error_set(err, result, "%s", words) : result;
    ap_out_printf(request->out, "%d}", (int)request->params.limit);
    return 0;
}

static const struct ap_api_route route = {
    .path = "/x", .method = AP_API_GET, .params = AP_API_LIMIT, .types = "application/json", .handle = handle};

static struct ap_api_request *request_new(const char *uri, const char *accept)
{
    struct ap_api_request *request = calloc(1, sizeof(*request));

    assert_non_null(request);
    request->api = &api;
    request->route = &route;
    atomic_init(&request->refs, 1);
    assert_int_equal(ap_api_split_uri(uri, &request->path, &request->pairs, NULL), 0);
    request->accept = accept != NULL ? strdup(accept) : NULL;
    return request;
}

static void assert_error(const struct ap_api_request *request, int status, const char *code, const char *message)
{
    json_t *root = json_loadb(request->data, request->len, 0, NULL), *error;

    assert_int_equal(request->status, status);
    assert_non_null(root);
    error = json_object_get(root, "error");
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    if (strstr(json_string_value(json_object_get(error, "message")), message) == NULL)
        fail_msg("no '%s' in '%s'", message, json_string_value(json_object_get(error, "message")));
    json_decref(root);
}

static void test_answer(void **state)
{
    struct ap_api_request *request = request_new("/x?limit=7", "text/html,*/*;q=0.1");

    (void)state;
    result = 0;
    ap_api_request_run(request);
    assert_int_equal(request->status, 200);
    assert_int_equal(request->len, 10);
    assert_memory_equal(request->data, "{\"half\":7}", 10);
    assert_int_equal(atomic_load(&api.answers), 10);
    ap_api_request_unref(request);
    assert_int_equal(atomic_load(&api.answers), 0);
}

static void test_failures(void **state)
{
    static const struct {
        int result, status;
        const char *code;
    } cases[] = {
        {-EINVAL, 400, "invalid_argument"}, {-E2BIG, 400, "too_large"},     {-ENOENT, 404, "not_found"},
        {-EAGAIN, 503, "unavailable"},      {-ENOSPC, 503, "storage_full"}, {-ENOMEM, 503, "out_of_memory"},
        {-ETIMEDOUT, 504, "timeout"},       {-EIO, 500, "internal"},        {-EPROTO, 500, "internal"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ap_api_request *request = request_new("/x", NULL);

        result = cases[i].result;
        words = "what \"helps\"\n";
        ap_api_request_run(request);
        assert_error(request, cases[i].status, cases[i].code, words);
        assert_int_equal(request->retry, cases[i].status == 503);
        ap_api_request_unref(request);

        request = request_new("/x", NULL);
        words = NULL;
        ap_api_request_run(request);
        assert_error(request, cases[i].status, cases[i].code, strerror(-result));
        ap_api_request_unref(request);
    }
    result = 0;
    struct ap_api_request *request = request_new("/x?limits=7", NULL);
    ap_api_request_run(request);
    assert_error(request, 400, "invalid_argument", "did you mean limit?");
    ap_api_request_unref(request);
    request = request_new("/x", "image/png");
    ap_api_request_run(request);
    assert_error(request, 406, "not_acceptable", "application/json");
    ap_api_request_unref(request);
    assert_int_equal(atomic_load(&api.answers), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
