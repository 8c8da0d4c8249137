/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* From the text of an option's value to its field. */
#include "core/options_internal.h"

#include "core/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Writes a bound exactly and in a form that can be typed back: the largest unit that divides it. */
static void format_bound(const struct ap_option *opt, uint64_t value, char *ret, size_t ret_sz)
{
    static const struct {
        uint64_t factor;
        const char *name;
    } units[] = {
        {86400000000000ULL, "d"}, {3600000000000ULL, "h"}, {60000000000ULL, "m"}, {1000000000ULL, "s"},
        {1000000ULL, "ms"},       {1000ULL, "us"},         {1ULL, "ns"},
    };

    if (opt->type == AP_OPTION_DURATION && value > 0) {
        size_t i = 0;
        while (value % units[i].factor != 0)
            i++;
        (void)snprintf(ret, ret_sz, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
        return;
    }

    size_t power = 0;
    if (opt->type == AP_OPTION_SIZE && value > 0) {
        for (; power < 4 && value % 1024 == 0; power++)
            value /= 1024;
    }
    (void)snprintf(ret, ret_sz, "%" PRIu64 "%.1s", value, &"\0KMGT"[power]);
}

void ap_option_range(const struct ap_option *opt, char ret[AP_OPTION_RANGE_SZ])
{
    char min[48];
    char max[48];
    bool bounded = opt->type == AP_OPTION_U64 || opt->type == AP_OPTION_DURATION || opt->type == AP_OPTION_SIZE;

    ret[0] = '\0';
    if (!bounded || (opt->min == 0 && opt->max == 0))
        return;
    format_bound(opt, opt->min, min, sizeof(min));
    format_bound(opt, opt->max, max, sizeof(max));
    if (opt->max == 0)
        (void)snprintf(ret, AP_OPTION_RANGE_SZ, "at least %s", min);
    else
        (void)snprintf(ret, AP_OPTION_RANGE_SZ, "%s to %s", min, max);
}

static int set_number(const struct ap_option *opt, uint64_t *field, const char *text, struct ap_error *err)
{
    char range[AP_OPTION_RANGE_SZ];
    uint64_t value = 0;
    int rc;

    ap_option_range(opt, range);
    if (opt->type == AP_OPTION_DURATION)
        rc = ap_parse_duration(text, &value, err);
    else if (opt->type == AP_OPTION_SIZE)
        rc = ap_parse_size(text, &value, err);
    else
        rc = ap_parse_u64(text, &value, err);

    if (rc && (rc != -ERANGE || !range[0]))
        return rc;
    if (rc || value < opt->min || (opt->max && value > opt->max))
        return ap_error_set(err, -ERANGE, "'%s' is out of range: accepted is %s", text, range);
    *field = value;
    return 0;
}

static int set_bool(bool *field, const char *text, struct ap_error *err)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes"};

    for (size_t i = 0; text && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *field = i % 2 == 1;
            return 0;
        }
    }
    if (text)
        return ap_error_set(err, -EINVAL, "'%s' is neither yes nor no: use 0, 1, false, true, no or yes", text);
    *field = true;
    return 0;
}

static int set_choice(const struct ap_option *opt, uint32_t *field, const char *text, struct ap_error *err)
{
    char known[512] = "";

    for (uint32_t i = 0; opt->choices[i]; i++) {
        if (strcmp(opt->choices[i], text) == 0) {
            *field = i;
            return 0;
        }
        size_t len = strlen(known);
        (void)snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "", opt->choices[i]);
    }
    return ap_error_set(err, -EINVAL, "'%s' is not one of: %s", text, known);
}

static int add_item(struct ap_option_list *list, const char *text, size_t len, struct ap_error *err)
{
    if (len == 0)
        return ap_error_set(err, -EINVAL, "an item of the list is empty");
    if (list->cnt >= AP_OPTION_LIST_MAX)
        return ap_error_set(err, -ERANGE, "'%.*s' is one too many: accepted are at most %d values", (int)len, text,
                            AP_OPTION_LIST_MAX);
    char *item = strndup(text, len);
    if (!item)
        return ap_error_set(err, -ENOMEM, "out of memory");
    list->items[list->cnt++] = item;
    return 0;
}

static int add_items(struct ap_option_list *list, const char *text, struct ap_error *err)
{
    for (const char *pos = text;; pos++) {
        size_t len = strcspn(pos, ",");
        int rc = add_item(list, pos, len, err);

        if (rc == -EINVAL)
            return ap_error_set(err, rc, "'%s' has an empty item: use one or more values with commas between", text);
        if (rc || pos[len] == '\0')
            return rc;
        pos += len;
    }
}

static int add_path(struct ap_option_list *list, const char *text, struct ap_error *err)
{
    int rc = add_item(list, text, strlen(text), err);

    return rc == -EINVAL ? ap_error_set(err, rc, "'' is not a path") : rc;
}

int ap_option_set(const struct ap_option *opt, void *config, const char *text, const char *source, struct ap_error *err)
{
    void *field = (char *)config + opt->offset;
    int rc = 0;

    switch (opt->type) {
    case AP_OPTION_BOOL:
        rc = set_bool((bool *)field, text, err);
        break;
    case AP_OPTION_U64:
    case AP_OPTION_DURATION:
    case AP_OPTION_SIZE:
        rc = set_number(opt, (uint64_t *)field, text, err);
        break;
    case AP_OPTION_STRING:
        *(const char **)field = text;
        break;
    case AP_OPTION_CHOICE:
        rc = set_choice(opt, (uint32_t *)field, text, err);
        break;
    case AP_OPTION_LIST:
        rc = add_items((struct ap_option_list *)field, text, err);
        break;
    case AP_OPTION_PATHS:
        rc = add_path((struct ap_option_list *)field, text, err);
        break;
    case AP_OPTION_GROUP:
        break;
    }
    if (rc)
        (void)ap_error_prefix(err, "%s", source);
    return rc;
}

void ap_option_clear(const struct ap_option *opt, void *config)
{
    if (opt->type != AP_OPTION_LIST && opt->type != AP_OPTION_PATHS)
        return;

    struct ap_option_list *list = (struct ap_option_list *)(void *)((char *)config + opt->offset);
    for (size_t i = 0; i < list->cnt; i++)
        free(list->items[i]);
    *list = (struct ap_option_list){0};
}
