/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/window.h"

#include <stdbool.h>
#include <string.h>

static void fill(struct ap_selector *selector, uint64_t end_ns, uint64_t length_ns)
{
    if (!selector->to_ns)
        selector->to_ns = end_ns;
    if (!selector->from_ns && selector->to_ns > length_ns)
        selector->from_ns = selector->to_ns - length_ns;
}

void ap_window_default(struct ap_selector *selector, uint64_t now_ns)
{
    fill(selector, now_ns, AP_WINDOW_NS);
}

static bool same_text(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static bool same_choice(const struct ap_selector *a, const struct ap_selector *b)
{
    if (a->matcher_cnt != b->matcher_cnt || !same_text(a->function, b->function))
        return false;
    for (size_t i = 0; i < a->matcher_cnt; i++)
        if (a->matchers[i].op != b->matchers[i].op || strcmp(a->matchers[i].label, b->matchers[i].label) != 0 ||
            strcmp(a->matchers[i].value, b->matchers[i].value) != 0)
            return false;
    return true;
}

void ap_window_default_diff(struct ap_selector *before, struct ap_selector *after, uint64_t now_ns)
{
    if (!before->kind)
        before->kind = after->kind;
    if (!after->kind)
        after->kind = before->kind;
    fill(after, now_ns, AP_WINDOW_DIFF_NS);
    if (!before->from_ns && !before->to_ns && !same_choice(before, after)) {
        before->from_ns = after->from_ns;
        before->to_ns = after->to_ns;
        return;
    }
    fill(before, after->from_ns, after->to_ns > after->from_ns ? after->to_ns - after->from_ns : AP_WINDOW_DIFF_NS);
}
