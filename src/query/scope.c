/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/scope.h"

#include "core/clock.h"
#include "query/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const no_value[] = {""};

/* Text that must be there, however the selector was made. */
static const char *text_of(const char *text)
{
    return text != NULL ? text : "";
}

int ap_scope_plain(const struct ap_selector *selector, struct ap_storage_scope *ret_scope, struct ap_error *err)
{
    struct ap_storage_scope scope = {.kind = selector->kind, .from_ns = selector->from_ns, .to_ns = selector->to_ns};

    if (scope.kind > AP_KIND_GPU)
        return ap_error_set(err, -EINVAL, "there is no event kind %u", scope.kind);
    if (scope.to_ns == 0)
        scope.to_ns = ap_clock_realtime_ns();
    if (scope.from_ns >= scope.to_ns)
        return ap_error_set(err, -EINVAL, "the range of time is empty: its beginning is not before its end");
    *ret_scope = scope;
    return 0;
}

void ap_scope_done(struct ap_scope *scope)
{
    for (size_t i = 0; i < scope->owned_cnt; i++) {
        free((void *)scope->values[i]);
        ap_texts_done(&scope->texts[i]);
    }
    *scope = (struct ap_scope){0};
}

static void add_set(struct ap_scope *scope, const char *label, bool negative, const char *const *values, size_t cnt)
{
    scope->sets[scope->scope.set_cnt++] =
        (struct ap_value_set){.label = label, .negative = negative, .values = values, .value_cnt = cnt};
    scope->scope.sets = scope->sets;
}

/* Nothing matches: said in sets of one value, so that no implementation meets an empty one. */
static void add_nothing(struct ap_scope *scope, const char *label)
{
    add_set(scope, label, false, no_value, 1);
    add_set(scope, label, true, no_value, 1);
}

/* Splits `texts` into the values that the expression takes (first) and those that it does not, in `ret_values`, with ""
 * among them. Sets the number of the first ones. */
static int partition(struct ap_regex *regex, const struct ap_texts *texts, const char **ret_values, size_t *ret_cnt,
                     size_t *ret_taken, struct ap_error *err)
{
    size_t cnt = texts->cnt + 1, front = 0, back = cnt;

    for (size_t i = 0; i < cnt; i++) {
        const char *value = i == 0 ? "" : texts->items[i - 1];
        int r;

        if (i > 0 && value[0] == '\0') /* it stands for all who lack the label, and is there already */
            continue;
        r = ap_regex_match(regex, value, err);
        if (r < 0)
            return r;
        ret_values[r == 1 ? front++ : --back] = value;
    }
    memmove((void *)(ret_values + front), (const void *)(ret_values + back), (cnt - back) * sizeof(*ret_values));
    *ret_taken = front;
    *ret_cnt = front + (cnt - back);
    return 0;
}

/* Adds the set that stands for an expression: of the values that fit or of those that do not, whichever is smaller. */
static int add_regex(struct ap_scope *scope, struct ap_storage *storage, const struct ap_storage_scope *among,
                     const struct ap_matcher *matcher, struct ap_error *err)
{
    const char *label = text_of(matcher->label);
    bool negative = matcher->op == AP_MATCH_NOT_REGEX;
    size_t owned = scope->owned_cnt, cnt = 0, taken = 0;
    struct ap_regex *regex = ap_regex_new(text_of(matcher->value), true, err);
    struct ap_texts *texts = &scope->texts[owned];
    int r;

    if (regex == NULL)
        return err->code;
    r = ap_storage_label_values(storage, among, label, AP_SCOPE_VALUES_MAX, texts, err);
    if (r != 0)
        goto out;
    scope->owned_cnt++;
    scope->values[owned] = calloc(texts->cnt + 1, sizeof(*scope->values[owned]));
    if (scope->values[owned] == NULL) {
        r = ap_error_set(err, -ENOMEM, "out of memory");
        goto out;
    }
    r = partition(regex, texts, scope->values[owned], &cnt, &taken, err);
    if (r != 0)
        goto out;
    if (taken == cnt || taken == 0) { /* every value fits, or none does */
        if ((taken == 0) != negative)
            add_nothing(scope, label);
    } else if (taken <= cnt - taken && taken <= AP_VALUE_SET_MAX) {
        add_set(scope, label, negative, scope->values[owned], taken);
    } else if (cnt - taken <= AP_VALUE_SET_MAX) {
        add_set(scope, label, !negative, scope->values[owned] + taken, cnt - taken);
    } else {
        r = ap_error_set(err, -E2BIG,
                         "\"%s\" matches %zu values of %s, more than %d: narrow the expression or the time",
                         text_of(matcher->value), taken, label, AP_VALUE_SET_MAX);
    }

out:
    ap_regex_free(regex);
    return r;
}

int ap_scope_resolve(struct ap_storage *storage, const struct ap_selector *selector, struct ap_scope *ret_scope,
                     struct ap_error *err)
{
    struct ap_error own;
    struct ap_storage_scope among;
    int r;

    if (err == NULL)
        err = &own;
    *ret_scope = (struct ap_scope){0};
    r = ap_scope_plain(selector, &ret_scope->scope, err);
    if (r != 0)
        return r;
    for (size_t i = 0; i < selector->matcher_cnt && i < AP_SELECTOR_MATCHERS_MAX; i++) {
        const struct ap_matcher *matcher = &selector->matchers[i];

        if (matcher->op > AP_MATCH_NOT_REGEX)
            return ap_error_set(err, -EINVAL, "there is no way %u to match label %s", matcher->op,
                                text_of(matcher->label));
        if (matcher->op == AP_MATCH_EQUAL || matcher->op == AP_MATCH_NOT_EQUAL)
            add_set(ret_scope, text_of(matcher->label), matcher->op == AP_MATCH_NOT_EQUAL,
                    (const char *const *)&matcher->value, 1);
    }
    /* What the plain matchers leave over is all that the expressions need to be tried on. */
    among = ret_scope->scope;
    for (size_t i = 0; r == 0 && i < selector->matcher_cnt && i < AP_SELECTOR_MATCHERS_MAX; i++)
        if (selector->matchers[i].op >= AP_MATCH_REGEX)
            r = add_regex(ret_scope, storage, &among, &selector->matchers[i], err);
    if (r != 0)
        ap_scope_done(ret_scope);
    return r;
}
