/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "query/regex.h"

#include "core/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Parentheses within parentheses: the compiler recurses. */
#define NEST_MAX 100
/* Matches between two looks at the clock. */
#define CLOCK_EVERY 64

struct ap_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    char *pattern;
    uint64_t spent_ns, begun_ns;
    unsigned since; /* matches since begun_ns */
};

static pcre2_code *compile(const char *pattern, bool anchored, struct ap_error *err)
{
    /* \C would match half a character. */
    uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    PCRE2_UCHAR words[256] = "";
    PCRE2_SIZE place = 0;
    pcre2_code *code;
    int r = 0;

    if (context == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    if (anchored)
        options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
    pcre2_set_parens_nest_limit(context, NEST_MAX);
    code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &r, &place, context);
    pcre2_compile_context_free(context);
    if (code == NULL) {
        if (pcre2_get_error_message(r, words, sizeof(words)) < 0)
            words[0] = '\0';
        ap_error_set(err, r == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EINVAL,
                     "regular expression \"%s\": %s, at character %zu", pattern, (const char *)words, place + 1);
    }
    return code;
}

struct ap_regex *ap_regex_new(const char *pattern, bool anchored, struct ap_error *err)
{
    struct ap_regex *regex = calloc(1, sizeof(*regex));

    if (regex == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    regex->code = compile(pattern, anchored, err);
    if (regex->code == NULL)
        return ap_regex_free(regex);
    regex->pattern = strdup(pattern);
    regex->data = pcre2_match_data_create(1, NULL);
    regex->context = pcre2_match_context_create(NULL);
    if (regex->pattern == NULL || regex->data == NULL || regex->context == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return ap_regex_free(regex);
    }
    pcre2_set_match_limit(regex->context, AP_REGEX_STEPS_MAX);
    pcre2_set_depth_limit(regex->context, AP_REGEX_DEPTH_MAX);
    pcre2_set_heap_limit(regex->context, AP_REGEX_HEAP_KIB);
    return regex;
}

struct ap_regex *ap_regex_free(struct ap_regex *regex)
{
    if (regex == NULL)
        return NULL;
    pcre2_match_context_free(regex->context);
    pcre2_match_data_free(regex->data);
    pcre2_code_free(regex->code);
    free(regex->pattern);
    free(regex);
    return NULL;
}

/* Looks at the clock now and then. -EINVAL when all matches together have taken too long. */
static int account(struct ap_regex *regex, bool begins, struct ap_error *err)
{
    if (begins) {
        if (regex->since++ == 0)
            regex->begun_ns = ap_clock_monotonic_ns();
        return 0;
    }
    if (regex->since < CLOCK_EVERY)
        return 0;
    regex->spent_ns += ap_clock_monotonic_ns() - regex->begun_ns;
    regex->since = 0;
    if (regex->spent_ns <= AP_REGEX_BUDGET_NS)
        return 0;
    return ap_error_set(err, -EINVAL,
                        "regular expression \"%s\" takes too long over all names: make it simpler, or narrow the "
                        "question with other labels",
                        regex->pattern);
}

int ap_regex_match(struct ap_regex *regex, const char *text, struct ap_error *err)
{
    int r;

    (void)account(regex, true, NULL);
    r = pcre2_match(regex->code, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, regex->data, regex->context);
    switch (r) {
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
        return ap_error_set(err, -EINVAL,
                            "regular expression \"%s\" is too expensive: it tries too many ways to match \"%.100s\"; "
                            "avoid repetitions within repetitions",
                            regex->pattern, text);
    case PCRE2_ERROR_NOMEMORY:
        return ap_error_set(err, -ENOMEM, "out of memory");
    default:
        break;
    }
    if (r < 0 && r != PCRE2_ERROR_NOMATCH) /* recursion without end, and the like */
        return ap_error_set(err, -EINVAL, "regular expression \"%s\" cannot be applied (PCRE2 error %d)",
                            regex->pattern, r);
    int late = account(regex, false, err);
    return late != 0 ? late : r >= 0;
}
