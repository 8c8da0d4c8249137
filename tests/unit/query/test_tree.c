/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../storage/fixture.h"

#include "query/tree.h"

#include <errno.h>

/* Checks everything that every answer promises, against the full tree. */
static void check(const struct ap_tree *tree, const struct ap_tree_answer *answer, size_t max_nodes)
{
    uint64_t *sums = calloc(answer->node_cnt, sizeof(*sums)), *counts = calloc(answer->node_cnt, sizeof(*counts));
    uint64_t *before = malloc(answer->node_cnt * sizeof(*before));
    size_t kept = 0;

    assert_non_null(sums);
    assert_non_null(counts);
    assert_non_null(before);
    memset(before, 0xff, answer->node_cnt * sizeof(*before));
    assert_true(answer->node_cnt >= 1 && answer->node_cnt <= max_nodes);
    for (size_t i = 0; i < answer->node_cnt; i++) {
        const struct ap_answer_node *node = &answer->nodes[i];

        assert_true(node->name < answer->string_cnt && node->module < answer->string_cnt &&
                    node->file < answer->string_cnt);
        if (i == 0)
            continue;
        assert_true(node->parent < i);
        assert_false(answer->nodes[node->parent].truncated);
        sums[node->parent] += node->value;
        counts[node->parent] += node->count;
        assert_true(node->value <= before[node->parent]); /* siblings by value */
        before[node->parent] = node->value;
        if (node->truncated) {
            assert_string_equal(answer->strings[node->name], "[truncated]");
            assert_int_equal(node->kind, AP_FRAME_MARK);
            assert_int_equal(node->self, node->value);
        } else {
            kept++;
        }
    }
    for (size_t i = 0; i < answer->node_cnt; i++) {
        unsigned cuts = 0;

        assert_int_equal(answer->nodes[i].value, answer->nodes[i].self + (answer->nodes[i].truncated ? 0 : sums[i]));
        assert_true(answer->nodes[i].truncated || answer->nodes[i].count >= counts[i]);
        for (size_t c = i + 1; c < answer->node_cnt; c++)
            cuts += answer->nodes[c].parent == i && answer->nodes[c].truncated;
        assert_true(cuts <= 1);
    }
    assert_true(kept + 1 <= tree->node_cnt);
    free(sums);
    free(counts);
    free(before);
}

static struct ap_profile *random_profile(uint64_t seed, unsigned samples, unsigned breadth)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;

    for (unsigned i = 0; i < samples; i++) {
        char stack[256] = "main";
        uint32_t depth = 1 + fx_below(&state, 12);

        for (uint32_t d = 0; d < depth; d++)
            (void)snprintf(stack + strlen(stack), sizeof(stack) - strlen(stack), ";f%u", fx_below(&state, breadth));
        fx_sample(profile, fx_below(&state, 2) == 0 ? "a" : "b", stack, 0, 1 + fx_below(&state, 3),
                  fx_below(&state, 1000));
    }
    return profile;
}

static void test_cut(void **state)
{
    static const size_t maxima[] = {1, 2, 3, 4, 5, 10, 50, 200, 1000, 100000};

    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct ap_profile *profile = random_profile(seed, 1 + (unsigned)seed * 10, 2 + (unsigned)seed % 7);
        struct ap_tree *tree = ap_tree_new(profile);

        for (size_t m = 0; m < sizeof(maxima) / sizeof(maxima[0]); m++) {
            struct ap_tree_answer answer = {0};

            assert_int_equal(ap_tree_cut(tree, NULL, 0, maxima[m], &answer, NULL), 0);
            check(tree, &answer, maxima[m] < 2 ? 2 : maxima[m]);
            assert_int_equal(answer.nodes[0].value, tree->nodes[0].value);
            assert_int_equal(answer.nodes[0].count, tree->nodes[0].count);
            if (maxima[m] >= tree->node_cnt) { /* nothing needs to be cut */
                assert_int_equal(answer.node_cnt, tree->node_cnt);
                for (size_t i = 0; i < answer.node_cnt; i++)
                    assert_false(answer.nodes[i].truncated);
            } else { /* and nearly all places are used */
                assert_true(answer.node_cnt + 1 >= maxima[m]);
            }
            ap_tree_answer_done(&answer);
        }
        ap_tree_free(tree);
        ap_profile_free(profile);
    }
}

/* No node that was cut is heavier than one that was kept for its weight: parents are kept for their children, a single
 * leaf because cutting it saves nothing. */
static void test_heaviest(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_tree_answer answer = {0};

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        char stack[64];

        (void)snprintf(stack, sizeof(stack), "main;f%03u", i);
        fx_sample(profile, "app", stack, 0, 1, 1000 - i);
    }
    struct ap_tree *tree = ap_tree_new(profile);
    assert_int_equal(ap_tree_cut(tree, NULL, 0, 13, &answer, NULL), 0);
    /* all, app, main, f000 .. f008, [truncated] */
    assert_int_equal(answer.node_cnt, 13);
    assert_true(answer.nodes[3].truncated); /* the heaviest of its siblings */
    assert_int_equal(answer.nodes[3].count, 91);
    assert_string_equal(answer.strings[answer.nodes[4].name], "f000");
    assert_string_equal(answer.strings[answer.nodes[12].name], "f008");
    ap_tree_answer_done(&answer);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

static uint32_t find(const struct ap_tree_answer *answer, uint32_t parent, const char *name)
{
    for (uint32_t i = 1; i < answer->node_cnt; i++)
        if (answer->nodes[i].parent == parent && strcmp(answer->strings[answer->nodes[i].name], name) == 0)
            return i;
    return 0;
}

static void test_path(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_tree_answer answer = {0};
    struct ap_error err;

    (void)state;
    fx_sample(profile, "app", "main;run;a;x", 0, 1, 10);
    fx_sample(profile, "app", "main;run;a;y", 0, 1, 20);
    fx_sample(profile, "app", "main;run;k:a;z", 0, 2, 40); /* of the same name, but another function */
    fx_sample(profile, "app", "main;run", 0, 4, 80);
    fx_sample(profile, "other", "main;run;a", 0, 8, 160);
    struct ap_tree *tree = ap_tree_new(profile);

    assert_int_equal(ap_tree_cut(tree, (const char *const[]){"app", "main", "run"}, 3, 100, &answer, NULL), 0);
    assert_int_equal(answer.node_cnt, 6);
    assert_string_equal(answer.strings[answer.nodes[0].name], "run");
    assert_int_equal(answer.nodes[0].value, 150);
    assert_int_equal(answer.nodes[0].self, 80);
    assert_int_equal(answer.nodes[0].count, 8);
    ap_tree_answer_done(&answer);

    /* both of the name, as one root */
    assert_int_equal(ap_tree_cut(tree, (const char *const[]){"app", "main", "run", "a"}, 4, 100, &answer, NULL), 0);
    check(tree, &answer, 100);
    assert_int_equal(answer.node_cnt, 4);
    assert_int_equal(answer.nodes[0].value, 70);
    assert_int_equal(answer.nodes[0].count, 4);
    assert_int_equal(answer.nodes[find(&answer, 0, "z")].value, 40);
    assert_int_equal(answer.nodes[find(&answer, 0, "y")].value, 20);
    assert_int_equal(answer.nodes[find(&answer, 0, "x")].value, 10);
    ap_tree_answer_done(&answer);
    for (size_t max = 1; max < 6; max++) {
        assert_int_equal(ap_tree_cut(tree, (const char *const[]){"app", "main", "run", "a"}, 4, max, &answer, NULL), 0);
        check(tree, &answer, max < 2 ? 2 : max);
        assert_int_equal(answer.nodes[0].value, 70);
        ap_tree_answer_done(&answer);
    }

    assert_int_equal(ap_tree_cut(tree, (const char *const[]){"app", "nowhere"}, 2, 100, &answer, &err), -ENOENT);
    assert_non_null(strstr(err.text, "\"nowhere\" at place 2"));
    assert_int_equal(ap_tree_cut(tree, (const char *const[]){""}, 1, 100, &answer, NULL), -ENOENT);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

/* What was cut can be asked for, again and again until it is all there. */
static void test_what_was_cut(void **state)
{
    struct ap_profile *profile = random_profile(99, 300, 3);
    struct ap_tree *tree = ap_tree_new(profile);
    struct ap_tree_answer whole = {0};

    (void)state;
    assert_int_equal(ap_tree_cut(tree, NULL, 0, 50, &whole, NULL), 0);
    for (size_t i = 0; i < whole.node_cnt; i++) {
        const char *path[32];
        size_t depth = 0;
        struct ap_tree_answer part = {0};
        uint64_t shown = 0;
        uint32_t parent = whole.nodes[i].parent;

        if (!whole.nodes[i].truncated)
            continue;
        for (uint32_t n = parent; n != 0; n = whole.nodes[n].parent)
            depth++;
        for (uint32_t n = parent, d = (uint32_t)depth; n != 0; n = whole.nodes[n].parent)
            path[--d] = whole.strings[whole.nodes[n].name];
        assert_int_equal(ap_tree_cut(tree, path, depth, 1 << 20, &part, NULL), 0);
        check(tree, &part, 1 << 20);
        assert_int_equal(part.nodes[0].value, whole.nodes[parent].value);
        for (size_t k = 1; k < whole.node_cnt; k++)
            if (whole.nodes[k].parent == parent && !whole.nodes[k].truncated)
                shown += whole.nodes[k].value;
        assert_int_equal(part.nodes[0].value - part.nodes[0].self - shown, whole.nodes[i].value);
        ap_tree_answer_done(&part);
    }
    ap_tree_answer_done(&whole);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

static void test_empty(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_tree *tree = ap_tree_new(profile);
    struct ap_tree_answer answer = {0};

    (void)state;
    assert_int_equal(ap_tree_cut(tree, NULL, 0, 10, &answer, NULL), 0);
    assert_int_equal(answer.node_cnt, 1);
    assert_string_equal(answer.strings[answer.nodes[0].name], "all");
    ap_tree_answer_done(&answer);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

/* A million nodes: the time is printed, for the bound is generous. */
static void test_large(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t frames[256], stack, series = fx_series(profile, "app", 1, "", "");
    uint64_t seed = 7, begin, built, cut;
    struct ap_tree_answer answer = {0};

    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "f%u", i);
        frames[i] = fx_frame(profile, name, AP_FRAME_NATIVE);
    }
    for (unsigned i = 0; i < 70000; i++) {
        uint32_t picked[20];

        for (unsigned d = 0; d < 20; d++)
            picked[d] = frames[fx_below(&seed, d < 16 ? 256 : 8)];
        assert_int_equal(ap_profile_add_stack(profile, picked, 20, false, &stack), 0);
        assert_int_equal(ap_profile_add_sample(profile, series, stack, 1, 1 + fx_below(&seed, 1000)), 0);
    }
    begin = ap_clock_monotonic_ns();
    struct ap_tree *tree = ap_tree_new(profile);
    assert_non_null(tree);
    assert_true(tree->node_cnt > 1000000);
    built = ap_clock_monotonic_ns();
    assert_int_equal(ap_tree_cut(tree, NULL, 0, 16384, &answer, NULL), 0);
    cut = ap_clock_monotonic_ns();
    assert_true(answer.node_cnt >= 16383 && answer.node_cnt <= 16384);
    ap_tree_answer_done(&answer);
    printf("  %u nodes: built in %.0f ms, cut to 16384 in %.1f ms", tree->node_cnt, (double)(built - begin) / 1e6,
           (double)(cut - built) / 1e6);
    begin = ap_clock_monotonic_ns();
    assert_int_equal(ap_tree_cut(tree, NULL, 0, 1 << 20, &answer, NULL), 0);
    printf(", to %zu in %.0f ms\n", answer.node_cnt, (double)(ap_clock_monotonic_ns() - begin) / 1e6);
    assert_true(cut - built < 5 * AP_NS_PER_SEC);
    ap_tree_answer_done(&answer);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),          cmocka_unit_test(test_heaviest), cmocka_unit_test(test_path),
        cmocka_unit_test(test_what_was_cut), cmocka_unit_test(test_empty),    cmocka_unit_test(test_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
