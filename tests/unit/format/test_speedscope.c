/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include <errno.h>
#include <jansson.h>

static json_t *render(struct ap_capture *capture)
{
    size_t len;
    char *text = fixture_render(AP_FORMAT_SPEEDSCOPE, capture, &len);
    json_error_t error;
    json_t *root = json_loadb(text, len, 0, &error);

    if (root == NULL)
        fail_msg("%s at %d", error.text, error.position);
    free(text);
    return root;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* What the schema demands, and sums. */
static void assert_valid(const json_t *root, const struct ap_profile *profile)
{
    const json_t *frames = json_object_get(json_object_get(root, "shared"), "frames");
    const json_t *one = json_array_get(json_object_get(root, "profiles"), 0);
    const json_t *samples = json_object_get(one, "samples"), *weights = json_object_get(one, "weights");
    uint64_t sum = 0;
    size_t i, j;
    json_t *stack, *index;

    assert_string_equal(text_of(root, "$schema"), "https://www.speedscope.app/file-format-schema.json");
    assert_string_equal(text_of(one, "type"), "sampled");
    assert_string_equal(text_of(one, "unit"), "nanoseconds");
    assert_int_equal(json_array_size(samples), profile->sample_cnt);
    assert_int_equal(json_array_size(weights), profile->sample_cnt);
    json_array_foreach(samples, i, stack)
    {
        assert_true(json_array_size(stack) > 1);
        json_array_foreach(stack, j, index)
        {
            const json_t *frame = json_array_get(frames, (size_t)json_integer_value(index));

            assert_non_null(text_of(frame, "name"));
            assert_true(text_of(frame, "name")[0] != '\0');
        }
        sum += (uint64_t)json_integer_value(json_array_get(weights, i));
    }
    assert_int_equal(sum, ap_profile_total_value(profile));
    assert_int_equal(json_integer_value(json_object_get(one, "endValue")), sum);
}

static void test_rich(void **state)
{
    struct ap_capture *capture = fixture_rich(AP_KIND_CPU);
    const struct ap_profile *profile = capture->profiles[0];
    json_t *root = render(capture), *frames, *stack, *frame;
    size_t i, mains = 0, truncated = 0;

    (void)state;
    assert_valid(root, profile);
    frames = json_object_get(json_object_get(root, "shared"), "frames");
    json_array_foreach(frames, i, frame)
    {
        if (strcmp(text_of(frame, "name"), "main") == 0) {
            mains++;
            assert_string_equal(text_of(frame, "file"), "/src/app.c");
            assert_null(json_object_get(frame, "line")); /* two of them */
        }
        if (strcmp(text_of(frame, "name"), "add") == 0)
            assert_int_equal(json_integer_value(json_object_get(frame, "line")), 9);
        truncated += strcmp(text_of(frame, "name"), "[truncated]") == 0;
    }
    assert_int_equal(mains, 1); /* one function, whatever its lines */
    assert_int_equal(truncated, 1);
    /* Outermost first: the thread's name, then its entry. */
    stack = json_array_get(json_object_get(json_array_get(json_object_get(root, "profiles"), 0), "samples"), 0);
    frame = json_array_get(frames, (size_t)json_integer_value(json_array_get(stack, 0)));
    assert_string_equal(text_of(frame, "name"), "app");
    assert_string_equal(text_of(frame, "kind"), "process");
    frame = json_array_get(frames, (size_t)json_integer_value(json_array_get(stack, 1)));
    assert_string_equal(text_of(frame, "name"), "_start");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "aperture"), "expected")),
                     capture->accounts[0].expected);
    json_decref(root);
    ap_capture_free(capture);
}

static void test_anything(void **state)
{
    static const uint8_t kinds[] = {AP_KIND_CPU, AP_KIND_OFFCPU, AP_KIND_LOCK, AP_KIND_SYSCALL, AP_KIND_GPU};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct ap_capture *capture = fixture_random(kinds[i], i + 1, 200);
        json_t *root = render(capture);

        assert_valid(root, capture->profiles[0]);
        json_decref(root);
        ap_capture_free(capture);
    }
    struct ap_capture *empty = fixture_capture(AP_KIND_CPU);
    json_t *root = render(empty);
    assert_valid(root, empty->profiles[0]);
    json_decref(root);
    ap_capture_free(empty);
}

static void test_full_disk(void **state)
{
    struct ap_capture *capture = fixture_random(AP_KIND_CPU, 3, 5000);
    size_t room = 40000;
    struct ap_out *out = ap_out_new(fixture_full_disk, &room);

    (void)state;
    assert_int_equal(ap_format_write(AP_FORMAT_SPEEDSCOPE, capture, 0, out), -ENOSPC);
    ap_out_free(out);
    ap_capture_free(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rich),
        cmocka_unit_test(test_anything),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
