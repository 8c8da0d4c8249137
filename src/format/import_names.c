/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the decoders share: names, stacks, modules. */
#include "format/import_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const marks[] = {
    "[no stack]",
    "[interrupt]",
    "[woken by]",
    "[preempted]",
    "[interruptible]",
    "[uninterruptible]",
    "[blocked before the recording]",
    "[waiting for an event]",
};

bool ap_import_is_truncation(const char *name)
{
    return strcmp(name, "[truncated]") == 0;
}

static bool is_mark(const char *name)
{
    for (unsigned i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (strcmp(name, marks[i]) == 0)
            return true;
    return false;
}

static bool ends_with(const char *text, const char *ending)
{
    size_t len = strlen(text), ending_len = strlen(ending);

    return len >= ending_len && strcmp(text + len - ending_len, ending) == 0;
}

static bool is_kernel(const char *module)
{
    return strncmp(module, "[kernel", 7) == 0 || strncmp(module, "[guest.kernel", 13) == 0 ||
           ends_with(module, ".ko") || ends_with(module, ".ko.xz") || ends_with(module, ".ko.zst");
}

/* "module+0x1f0" or "0x7f12": a place, not a name. */
static bool read_offset(const char *name, uint64_t *ret_offset)
{
    const char *plus = strrchr(name, '+');
    const char *digits = plus != NULL ? plus + 1 : name;
    unsigned long long offset;
    char *end;

    if (strncmp(digits, "0x", 2) != 0 || digits[2] == '\0' || strspn(digits + 2, "0123456789abcdefABCDEF") > 16)
        return false;
    offset = strtoull(digits, &end, 16);
    if (*end != '\0')
        return false;
    *ret_offset = offset;
    return true;
}

void ap_import_classify(const char *name, const char *module, struct ap_frame *frame)
{
    if (is_mark(name))
        frame->kind = AP_FRAME_MARK;
    else if (read_offset(name, &frame->offset))
        frame->kind = AP_FRAME_UNKNOWN;
    else if (is_kernel(module))
        frame->kind = AP_FRAME_KERNEL;
    else if (strncmp(module, "//anon", 6) == 0 || strncmp(module, "[anon", 5) == 0)
        frame->kind = AP_FRAME_JIT;
    else
        frame->kind = AP_FRAME_NATIVE;
}

void ap_import_stack_push(struct ap_import_stack *stack, uint32_t frame)
{
    if (stack->cnt >= AP_STACK_FRAMES_MAX)
        stack->truncated = true;
    stack->frames[stack->cnt % AP_STACK_FRAMES_MAX] = frame;
    stack->cnt++;
}

static int add_no_stack(struct ap_profile *profile, uint32_t *ret_frame)
{
    const struct ap_frame frame = {.kind = AP_FRAME_MARK, .function = ap_strings_id(profile->strings, "[no stack]")};

    return ap_profile_add_frame(profile, &frame, ret_frame);
}

int ap_import_stack_add(const struct ap_import_stack *stack, struct ap_profile *profile, uint32_t series,
                        uint64_t count, uint64_t value)
{
    uint32_t frames[AP_STACK_FRAMES_MAX], index;
    uint32_t cnt = stack->cnt < AP_STACK_FRAMES_MAX ? stack->cnt : AP_STACK_FRAMES_MAX;
    int r = 0;

    for (uint32_t i = 0; i < cnt; i++)
        frames[i] = stack->frames[(stack->cnt - 1 - i) % AP_STACK_FRAMES_MAX];
    if (profile->stack_frame_cnt > AP_IMPORT_STACK_FRAMES_MAX)
        return -ENOSPC;
    if (cnt == 0) {
        r = add_no_stack(profile, &frames[0]);
        cnt = 1;
    }
    if (r == 0)
        r = ap_profile_add_stack(profile, frames, cnt, stack->truncated, &index);
    return r != 0 ? r : ap_profile_add_sample(profile, series, index, count, value);
}

int ap_import_module(struct ap_profile *profile, const char *path, uint32_t *ret_mapping)
{
    struct ap_mapping mapping = {0};
    int r;

    if (path[0] == '\0') {
        *ret_mapping = 0;
        return 0;
    }
    r = ap_strings_add(profile->strings, path, strlen(path), &mapping.path);
    return r != 0 ? r : ap_profile_add_mapping(profile, &mapping, ret_mapping);
}

unsigned ap_import_lookup(const char *name, const char *(*name_of)(unsigned value), unsigned cnt, unsigned def)
{
    for (unsigned i = 0; i < cnt; i++) {
        const char *known = name_of(i);

        if (known != NULL && strcmp(name, known) == 0)
            return i;
    }
    return def;
}
