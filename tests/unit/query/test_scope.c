/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "../storage/fixture.h"

#include "query/scope.h"

#include <errno.h>

static struct ap_storage *filled(void)
{
    struct ap_storage *storage = fx_open(0);
    static const char *const hosts[] = {"web-1", "web-2", "db-1", "odd\xc3\xa4"};

    for (unsigned i = 0; i < 4; i++) {
        struct ap_push *push = fx_push(hosts[i][0] == 'o' ? "odd" : hosts[i], 1, FX_START, hosts[i]);

        if (i < 2)
            assert_int_equal(ap_push_label(push, "service", i == 0 ? "front" : "back", NULL), 0);
        fx_sample(fx_profile(push, AP_KIND_CPU), "app", "main", 0, 1u << i, 1);
        assert_false(fx_commit(storage, push));
    }
    return storage;
}

static struct ap_selector selector(const char *text)
{
    struct ap_selector s = {.kind = AP_KIND_CPU, .from_ns = FX_START, .to_ns = FX_START + FX_SEC};
    struct ap_error err;

    if (ap_selector_parse(&s, text, &err) != 0)
        fail_msg("%s", err.text);
    return s;
}

/* Which of the hosts match, as bits. */
static uint64_t ask(struct ap_storage *storage, const char *text)
{
    struct ap_selector s = selector(text);
    struct ap_scope scope;
    struct ap_stack_sums sums;
    struct ap_error err;
    uint64_t hosts = 0;

    if (ap_scope_resolve(storage, &s, &scope, &err) != 0)
        fail_msg("%s: %s", text, err.text);
    for (size_t i = 0; i < scope.scope.set_cnt; i++)
        assert_true(scope.scope.sets[i].value_cnt > 0 && scope.scope.sets[i].value_cnt <= AP_VALUE_SET_MAX);
    assert_int_equal(ap_storage_stacks(storage, &scope.scope, &sums, NULL), 0);
    for (size_t i = 0; i < sums.cnt; i++)
        hosts += sums.counts[i];
    ap_stack_sums_done(&sums);
    ap_scope_done(&scope);
    ap_scope_done(&scope); /* twice is harmless */
    ap_selector_done(&s);
    return hosts;
}

static void test_matchers(void **state)
{
    struct ap_storage *storage = filled();
    static const struct {
        const char *text;
        uint64_t hosts;
    } cases[] = {
        {"", 15},
        {"host=\"web-1\"", 1},
        {"host!=\"web-1\"", 14},
        {"host=~\"web-.\"", 3},
        {"host!~\"web-.\"", 12},
        {"host=~\"eb-1\"", 0},
        {"host=~\".*-1\"", 5},
        {"host=~\".*\"", 15},
        {"host!~\".*\"", 0},
        {"host=~\"odd\xc3\xa4|db.*\"", 12},
        {"host=~\"nobody\"", 0},
        {"host!~\"nobody\"", 15},
        {"host=~\"web-.\",host!~\".*2\"", 1},
        {"host=\"web-1\",host=\"web-2\"", 0},
        /* labels that some lack have the value "" there */
        {"service=~\"front\"", 1},
        {"service!~\"front\"", 14},
        {"service=~\"front|\"", 13},
        {"service=~\".*\"", 15},
        {"service=~\".+\"", 3},
        {"service!~\".+\"", 12},
        {"service!~\"\"", 3},
        {"service=~\"\"", 12},
        {"service=\"\"", 12},
        {"service!=\"\"", 3},
        {"absent=~\".+\"", 0},
        {"absent=~\"\"", 15},
        {"absent!~\"x\"", 15},
        {"absent=~\"x?\"", 15},
        {"host=~\"web-.\",service=~\"b.*\"", 2},
        {"host=~\"web-.\",service=~\"b.*\",comm=~\"a..\",pid=~\"[0-9]\",agent=~\"web.*\"", 2},
        {"host=~\"w.*\",comm!~\"app\"", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t hosts = ask(storage, cases[i].text);

        if (hosts != cases[i].hosts)
            fail_msg("%s: %u instead of %u", cases[i].text, (unsigned)hosts, (unsigned)cases[i].hosts);
    }
    ap_storage_free(storage);
}

static void assert_refused(struct ap_storage *storage, const struct ap_selector *s, int code, const char *words)
{
    struct ap_scope scope;
    struct ap_error err;

    assert_int_equal(ap_scope_resolve(storage, s, &scope, &err), code);
    assert_int_equal(err.code, code);
    if (strstr(err.text, words) == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(ap_scope_resolve(storage, s, &scope, NULL), code);
}

static void test_refused(void **state)
{
    struct ap_storage *storage = filled();
    struct ap_selector s = {.kind = 77};

    (void)state;
    assert_refused(storage, &s, -EINVAL, "no event kind 77");
    s = (struct ap_selector){.from_ns = 5, .to_ns = 5};
    assert_refused(storage, &s, -EINVAL, "range of time is empty");
    s = (struct ap_selector){.from_ns = UINT64_MAX}; /* after now */
    assert_refused(storage, &s, -EINVAL, "range of time is empty");
    s = selector("host=~\"(\"");
    assert_refused(storage, &s, -EINVAL, "missing closing parenthesis");
    ap_selector_done(&s);
    s = (struct ap_selector){.matchers = {{.op = 9, .label = strdup("host"), .value = strdup("")}}, .matcher_cnt = 1};
    assert_refused(storage, &s, -EINVAL, "no way 9 to match label host");
    ap_selector_done(&s);
    ap_storage_free(storage);
}

static void test_catastrophic(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_push *push = fx_push("a", 1, FX_START, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!");
    struct ap_selector s = selector("host=~\"(a|aa|a{3})+(a+)+[bc]\"");

    (void)state;
    fx_sample(fx_profile(push, AP_KIND_CPU), "app", "main", 0, 1, 1);
    assert_false(fx_commit(storage, push));
    assert_refused(storage, &s, -EINVAL, "too expensive");
    ap_selector_done(&s);
    ap_storage_free(storage);
}

/* Sets are chosen the smaller way round; a large one is refused either way. */
static void test_many_values(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_push *push = fx_push("a", 1, FX_START, "h");
    struct ap_profile *profile = fx_profile(push, AP_KIND_CPU);
    uint32_t stack = fx_stack(profile, "main");
    struct ap_scope scope;
    struct ap_selector s;

    (void)state;
    for (uint32_t pid = 1; pid <= 25000; pid++)
        assert_int_equal(ap_profile_add_sample(profile, fx_series(profile, "app", pid, "", ""), stack, 1, 1), 0);
    assert_false(fx_commit(storage, push));
    assert_int_equal(ask(storage, "pid=~\"1\"") + ask(storage, "pid!~\"1\""), 25000);
    assert_int_equal(ask(storage, "pid=~\"[12]....|....\"") + ask(storage, "pid!~\"[12]....|....\""), 25000);
    s = selector("pid!~\"1\"");
    assert_int_equal(ap_scope_resolve(storage, &s, &scope, NULL), 0);
    assert_true(scope.scope.sets[0].negative);
    assert_int_equal(scope.scope.sets[0].value_cnt, 1);
    ap_scope_done(&scope);
    ap_selector_done(&s);
    s = selector("pid=~\".*[02468]\"");
    assert_refused(storage, &s, -E2BIG, "values of pid, more than 10000");
    ap_selector_done(&s);
    ap_storage_free(storage);
}

static void test_now(void **state)
{
    struct ap_selector s = {.kind = AP_KIND_CPU};
    struct ap_storage_scope scope;
    uint64_t before = ap_clock_realtime_ns();

    (void)state;
    assert_int_equal(ap_scope_plain(&s, &scope, NULL), 0);
    assert_int_equal(scope.from_ns, 0);
    assert_true(scope.to_ns >= before && scope.to_ns <= ap_clock_realtime_ns());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matchers),    cmocka_unit_test(test_refused), cmocka_unit_test(test_catastrophic),
        cmocka_unit_test(test_many_values), cmocka_unit_test(test_now),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
