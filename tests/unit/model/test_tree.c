/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct spec { /* of a frame */
    const char *name, *module, *file;
    uint8_t kind;
    bool inlined;
    uint32_t line;
};

static uint32_t add_frame(struct ap_profile *profile, const struct spec *spec)
{
    struct ap_mapping mapping = {.path = ap_strings_id(profile->strings, spec->module)};
    struct ap_frame row = {
        .kind = spec->kind,
        .inlined = spec->inlined,
        .function = ap_strings_id(profile->strings, spec->name),
        .file = ap_strings_id(profile->strings, spec->file),
        .line = spec->line,
    };
    uint32_t index;

    assert_int_equal(ap_profile_add_mapping(profile, &mapping, &row.mapping), 0);
    assert_int_equal(ap_profile_add_frame(profile, &row, &index), 0);
    return index;
}

static uint32_t simple(struct ap_profile *profile, const char *name)
{
    return add_frame(profile, &(struct spec){.name = name, .module = "/bin/app", .kind = AP_FRAME_NATIVE});
}

/* One sample of `count` events, worth 10 each, of frames leaf first. */
static void sample(struct ap_profile *profile, const char *comm, uint32_t pid, const uint32_t *frames, uint32_t cnt,
                   bool truncated, uint64_t count)
{
    const struct ap_series row = {.pid = pid, .comm = ap_strings_id(profile->strings, comm)};
    uint32_t series, stack;

    assert_int_equal(ap_profile_add_series(profile, &row, &series), 0);
    assert_int_equal(ap_profile_add_stack(profile, frames, cnt, truncated, &stack), 0);
    assert_int_equal(ap_profile_add_sample(profile, series, stack, count, 10 * count), 0);
}

/* "all:6(a:4(main:4*1) ...)": name, count, children in order, "*self". Also checks every link and sum. */
static void describe_node(const struct ap_tree *tree, uint32_t i, char *dst, size_t dst_sz)
{
    const struct ap_tree_node *node = &tree->nodes[i];
    uint64_t value = node->self, count = node->self_count;
    size_t len = strlen(dst);

    len +=
        (size_t)snprintf(dst + len, dst_sz - len, "%s:%d", ap_profile_str(tree->profile, node->name), (int)node->count);
    if (node->self_count > 0)
        len += (size_t)snprintf(dst + len, dst_sz - len, "*%d", (int)node->self_count);
    if (node->first_child != 0)
        len += (size_t)snprintf(dst + len, dst_sz - len, "(");
    for (uint32_t c = node->first_child; c != 0; c = tree->nodes[c].next_sibling) {
        assert_int_equal(tree->nodes[c].parent, i);
        assert_int_equal(tree->nodes[c].depth, node->depth + 1);
        value += tree->nodes[c].value;
        count += tree->nodes[c].count;
        describe_node(tree, c, dst, dst_sz);
        len = strlen(dst);
        if (tree->nodes[c].next_sibling != 0)
            len += (size_t)snprintf(dst + len, dst_sz - len, " ");
    }
    if (node->first_child != 0)
        snprintf(dst + len, dst_sz - len, ")");
    assert_int_equal(value, node->value);
    assert_int_equal(count, node->count);
}

static void assert_tree(const struct ap_profile *profile, const char *expected)
{
    struct ap_tree *tree = ap_tree_new(profile);
    char text[4096] = "";

    assert_non_null(tree);
    describe_node(tree, 0, text, sizeof(text));
    assert_string_equal(text, expected);
    assert_int_equal(tree->nodes[0].value, ap_profile_total_value(profile));
    assert_int_equal(tree->nodes[0].count, ap_profile_total_count(profile));
    assert_null(ap_tree_free(tree));
}

static void test_empty(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    struct ap_tree *tree = ap_tree_new(profile);

    (void)state;
    assert_int_equal(tree->node_cnt, 1);
    assert_int_equal(tree->max_depth, 0);
    assert_int_equal(tree->nodes[0].kind, AP_FRAME_MARK);
    assert_int_equal(tree->nodes[0].first_child, 0);
    assert_string_equal(ap_profile_str(profile, tree->nodes[0].name), "all");
    ap_tree_free(tree);
    assert_null(ap_tree_free(NULL));
    ap_profile_free(profile);
}

static void test_paths_merge(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t a = simple(profile, "a"), b = simple(profile, "b"), m = simple(profile, "main");

    (void)state;
    sample(profile, "app", 1, (const uint32_t[]){a, m}, 2, false, 1);
    sample(profile, "app", 2, (const uint32_t[]){a, m}, 2, false, 2); /* another process, same thread name */
    sample(profile, "app", 1, (const uint32_t[]){b, m}, 2, false, 5);
    sample(profile, "app", 1, (const uint32_t[]){m}, 1, false, 4);
    sample(profile, "zzz", 1, (const uint32_t[]){b, a, m}, 3, false, 20);
    sample(profile, "app", 1, (const uint32_t[]){a, m}, 2, true, 7);
    assert_tree(profile, "all:39(zzz:20(main:20(a:20(b:20*20))) "
                         "app:19(main:12*4(b:5*5 a:3*3) [truncated]:7(main:7(a:7*7))))");
    ap_profile_free(profile);
}

static void test_truncated_inside_marks(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_OFFCPU);
    uint32_t a = simple(profile, "a");
    uint32_t before = add_frame(profile, &(struct spec){.name = "[before]", .module = "", .kind = AP_FRAME_MARK});
    uint32_t preempted = add_frame(profile, &(struct spec){.name = "[preempted]", .module = "", .kind = AP_FRAME_MARK});

    (void)state;
    sample(profile, "app", 1, (const uint32_t[]){a, preempted}, 2, false, 4);
    sample(profile, "app", 1, (const uint32_t[]){a, preempted}, 2, true, 3);
    sample(profile, "app", 1, (const uint32_t[]){a, before, preempted}, 3, true, 2);
    sample(profile, "app", 1, (const uint32_t[]){preempted}, 1, true, 1); /* the leaf is a frame, whatever it is */
    assert_tree(profile, "all:10(app:10([preempted]:9(a:4*4 [truncated]:3(a:3*3) [before]:2([truncated]:2(a:2*2))) "
                         "[truncated]:1([preempted]:1*1)))");
    ap_profile_free(profile);
}

static void test_order_of_arrival_does_not_show(void **state)
{
    const char *const names[] = {"c", "a", "b", "d"};

    (void)state;
    for (unsigned shift = 0; shift < 4; shift++) {
        struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);

        for (unsigned i = 0; i < 4; i++) {
            const char *name = names[(i + shift) % 4];
            uint32_t f = simple(profile, name);

            sample(profile, "app", 1, &f, 1, false, name[0] == 'd' ? 3 : 1);
        }
        assert_tree(profile, "all:6(app:6(d:3*3 a:1*1 b:1*1 c:1*1))");
        ap_profile_free(profile);
    }
}

static void test_what_tells_siblings_apart(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    const struct spec specs[] = {
        {"f", "/bin/app", "f.c", AP_FRAME_NATIVE, false, 10},  {"f", "/bin/app", "f.c", AP_FRAME_NATIVE, true, 10},
        {"f", "/lib/x.so", "f.c", AP_FRAME_NATIVE, false, 10}, {"f", "/bin/app", "f.c", AP_FRAME_JIT, false, 10},
        {"g", "/bin/app", "f.c", AP_FRAME_NATIVE, false, 10},
    };

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        uint32_t f = add_frame(profile, &specs[i]);

        sample(profile, "app", 1, &f, 1, false, 1);
    }
    struct ap_tree *tree = ap_tree_new(profile);
    assert_int_equal(tree->node_cnt, 2 + 5);
    ap_tree_free(tree);

    /* Lines do not tell apart: the node keeps what all samples agree on. */
    struct spec spec = specs[0];
    uint32_t f;
    spec.line = 11;
    f = add_frame(profile, &spec);
    sample(profile, "app", 1, &f, 1, false, 5);
    spec = specs[4];
    spec.file = "other.c";
    f = add_frame(profile, &spec);
    sample(profile, "app", 1, &f, 1, false, 1);
    tree = ap_tree_new(profile);
    assert_int_equal(tree->node_cnt, 2 + 5);
    const struct ap_tree_node *node = &tree->nodes[tree->nodes[tree->nodes[0].first_child].first_child];
    assert_int_equal(node->count, 6);
    assert_int_equal(node->line, 0);
    assert_string_equal(ap_profile_str(profile, node->file), "f.c");
    assert_string_equal(ap_profile_str(profile, node->module), "/bin/app");
    node = &tree->nodes[node->next_sibling];
    assert_string_equal(ap_profile_str(profile, node->name), "g");
    assert_int_equal(node->file, 0);
    assert_int_equal(node->line, 0);
    node = &tree->nodes[node->next_sibling];
    assert_int_equal(node->line, 10);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

/* A waker's frames hang below the wait's, and never merge with a call of the same function. */
static void test_wakers_stand_apart(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_OFFCPU);
    uint32_t m = simple(profile, "main"), waker, stack[2];
    struct ap_frame row = profile->frames[m];

    (void)state;
    row.waker = true;
    assert_int_equal(ap_profile_add_frame(profile, &row, &waker), 0);
    assert_int_not_equal(waker, m);
    stack[0] = waker;
    stack[1] = m;
    sample(profile, "app", 1, stack, 2, false, 2);
    stack[0] = m;
    sample(profile, "app", 1, stack, 2, false, 2);
    struct ap_tree *tree = ap_tree_new(profile);
    assert_int_equal(tree->node_cnt, 2 + 3);
    const struct ap_tree_node *node = &tree->nodes[tree->nodes[tree->nodes[0].first_child].first_child];
    assert_false(node->waker);
    node = &tree->nodes[node->first_child]; /* of equals the call comes first */
    assert_false(node->waker);
    node = &tree->nodes[node->next_sibling];
    assert_true(node->waker);
    assert_int_equal(node->self, 20);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

static void test_deep_and_recursive(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t frames[AP_STACK_FRAMES_MAX];
    struct ap_tree *tree;

    (void)state;
    for (unsigned i = 0; i < AP_STACK_FRAMES_MAX; i++)
        frames[i] = simple(profile, "again");
    sample(profile, "app", 1, frames, AP_STACK_FRAMES_MAX, true, 3);
    tree = ap_tree_new(profile);
    assert_int_equal(tree->node_cnt, 3 + AP_STACK_FRAMES_MAX);
    assert_int_equal(tree->max_depth, 2 + AP_STACK_FRAMES_MAX);
    for (uint32_t i = 0; i < tree->node_cnt; i++) {
        assert_int_equal(tree->nodes[i].value, 30);
        assert_int_equal(tree->nodes[i].self, i + 1 == tree->node_cnt ? 30 : 0);
    }
    ap_tree_free(tree);
    ap_profile_free(profile);
}

/* 100,000 different stacks: a quadratic step anywhere takes minutes here. */
static void test_many_stacks_are_fast(void **state)
{
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t names[1000], wide = 0;
    uint64_t seed = 1;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        char name[32];

        snprintf(name, sizeof(name), "function_%u", i);
        names[i] = simple(profile, name);
    }
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t frames[24];

        for (unsigned j = 0; j < 24; j++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            frames[j] = names[j > 12 ? j : (seed >> 33) % 1000];
        }
        sample(profile, "app", 1, frames, 24, false, 1);
        frames[0] = add_frame(profile, &(struct spec){.name = "wide", .kind = AP_FRAME_NATIVE, .line = i});
        sample(profile, "app", 1, frames, 1, false, 1);
    }
    clock_t start = clock();
    struct ap_tree *tree = ap_tree_new(profile);
    struct ap_top *top = ap_top_new(profile);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;

    print_message("tree of %u nodes and table of %u rows in %.3f s\n", tree->node_cnt, top->row_cnt, seconds);
    assert_true(seconds < 20);
    assert_int_equal(tree->nodes[0].count, 200000);
    for (uint32_t c = tree->nodes[tree->nodes[0].first_child].first_child; c != 0; c = tree->nodes[c].next_sibling)
        wide++;
    assert_int_equal(wide, 2);
    ap_top_free(top);
    ap_tree_free(tree);
    ap_profile_free(profile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_paths_merge),
        cmocka_unit_test(test_truncated_inside_marks),
        cmocka_unit_test(test_order_of_arrival_does_not_show),
        cmocka_unit_test(test_what_tells_siblings_apart),
        cmocka_unit_test(test_wakers_stand_apart),
        cmocka_unit_test(test_deep_and_recursive),
        cmocka_unit_test(test_many_stacks_are_fast),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
