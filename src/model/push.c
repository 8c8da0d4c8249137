/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/push.h"

#include "core/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ap_push *ap_push_new(void)
{
    struct ap_push *push = calloc(1, sizeof(*push));

    if (push == NULL)
        return NULL;
    push->capture = ap_capture_new();
    return push->capture != NULL ? push : ap_push_free(push);
}

void ap_labels_free(struct ap_label *labels, size_t cnt)
{
    for (size_t i = 0; labels != NULL && i < cnt; i++) {
        free(labels[i].name);
        free(labels[i].value);
    }
    free(labels);
}

struct ap_push *ap_push_free(struct ap_push *push)
{
    if (push == NULL)
        return NULL;
    ap_labels_free(push->labels, push->label_cnt);
    ap_capture_free(push->capture);
    free(push);
    return NULL;
}

/* Not isalpha(): that one follows the locale. */
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool ap_label_name_valid(const char *name)
{
    size_t len = 0;

    if (!is_letter(name[0]) && name[0] != '_')
        return false;
    while (is_letter(name[len]) || is_digit(name[len]) || name[len] == '_')
        len++;
    return len < AP_PUSH_LABEL_NAME_SZ && name[len] == '\0';
}

/* Names that each series, or the batch, has by itself. */
static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"pid", "comm", "exe", "container", "agent", "kind"};

    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static bool is_utf8(const char *text)
{
    size_t len;

    for (; *text != '\0'; text += len) {
        len = ap_utf8_len(text);
        if (len == 0)
            return false;
    }
    return true;
}

static int check_label(const char *name, const char *value, struct ap_error *err)
{
    if (strlen(name) >= AP_PUSH_LABEL_NAME_SZ)
        return ap_error_set(err, -E2BIG, "label name of %zu bytes: the longest is %d", strlen(name),
                            AP_PUSH_LABEL_NAME_SZ - 1);
    if (!ap_label_name_valid(name))
        return ap_error_set(err, -EINVAL, "'%s' is not a label name: letters, digits and _, no digit first", name);
    if (is_reserved(name))
        return ap_error_set(err, -EINVAL, "label '%s' is reserved: Aperture sets it itself", name);
    if (strlen(value) >= AP_PUSH_LABEL_VALUE_SZ)
        return ap_error_set(err, -E2BIG, "label %s has a value of %zu bytes: the longest is %d", name, strlen(value),
                            AP_PUSH_LABEL_VALUE_SZ - 1);
    if (!is_utf8(value))
        return ap_error_set(err, -EINVAL, "the value of label %s is not UTF-8", name);
    return 0;
}

/* Where the name is, or would stand. */
static size_t label_place(const struct ap_push *push, const char *name)
{
    size_t i = 0;

    while (i < push->label_cnt && strcmp(push->labels[i].name, name) < 0)
        i++;
    return i;
}

int ap_push_label(struct ap_push *push, const char *name, const char *value, struct ap_error *err)
{
    int r = check_label(name, value, err);
    struct ap_label *labels;
    char *copy, *name_copy;
    size_t place;

    if (r != 0)
        return r;
    place = label_place(push, name);
    copy = strdup(value);
    if (copy == NULL)
        return ap_error_errno(err, -ENOMEM, "label %s", name);
    if (place < push->label_cnt && strcmp(push->labels[place].name, name) == 0) {
        free(push->labels[place].value);
        push->labels[place].value = copy;
        return 0;
    }
    if (push->label_cnt >= AP_PUSH_LABELS_MAX) {
        free(copy);
        return ap_error_set(err, -E2BIG, "label %s: there are %d already, no more are taken", name, AP_PUSH_LABELS_MAX);
    }
    name_copy = strdup(name);
    labels = name_copy != NULL ? reallocarray(push->labels, push->label_cnt + 1, sizeof(*labels)) : NULL;
    if (labels == NULL) {
        free(copy);
        free(name_copy);
        return ap_error_errno(err, -ENOMEM, "label %s", name);
    }
    push->labels = labels;
    memmove(&labels[place + 1], &labels[place], (push->label_cnt - place) * sizeof(*labels));
    labels[place] = (struct ap_label){.name = name_copy, .value = copy};
    push->label_cnt++;
    return 0;
}

const char *ap_push_label_value(const struct ap_push *push, const char *name)
{
    size_t place = label_place(push, name);

    if (place == push->label_cnt || strcmp(push->labels[place].name, name) != 0)
        return NULL;
    return push->labels[place].value;
}

bool ap_push_agent_id_valid(const char *id)
{
    size_t len = 0;

    while (is_letter(id[len]) || is_digit(id[len]) || (id[len] != '\0' && strchr("._:-", id[len]) != NULL))
        len++;
    return len > 0 && len < AP_PUSH_AGENT_ID_SZ && id[len] == '\0';
}
