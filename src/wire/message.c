/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/message.h"

#include "core/text.h"

#include <errno.h>
#include <string.h>

bool ap_message_is_utf8(const char *text)
{
    size_t len;

    for (; *text != '\0'; text += len) {
        /* Most text is ASCII. */
        len = (unsigned char)*text < 0x80 ? 1 : ap_utf8_len(text);
        if (len == 0)
            return false;
    }
    return true;
}

static bool field_valid(const ProtobufCFieldDescriptor *field, const void *message);

/* The name of a field that holds text which is not UTF-8, NULL when there is none. Messages do not contain themselves:
 * the depth is that of the .proto file. */
static const char *bad_text(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++)
        if (!field_valid(&message->descriptor->fields[i], message))
            return message->descriptor->fields[i].name;
    return NULL;
}

static bool value_valid(const ProtobufCFieldDescriptor *field, const void *value)
{
    if (value == NULL)
        return true;
    return field->type == PROTOBUF_C_TYPE_STRING ? ap_message_is_utf8(value) : bad_text(value) == NULL;
}

static bool field_valid(const ProtobufCFieldDescriptor *field, const void *message)
{
    const char *at = (const char *)message + field->offset;
    size_t cnt;

    if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
        return true;
    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return value_valid(field, *(const void *const *)(const void *)at);
    memcpy(&cnt, (const char *)message + field->quantifier_offset, sizeof(cnt));
    if (cnt == 0)
        return true;
    const void *const *values = *(const void *const *const *)(const void *)at;
    for (size_t i = 0; i < cnt; i++)
        if (!value_valid(field, values[i]))
            return false;
    return true;
}

void *ap_message_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len, const char *what,
                        struct ap_arena *arena, struct ap_error *err)
{
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &arena->allocator, len, data);
    int r = ap_arena_error(arena);

    if (message == NULL && r == -E2BIG)
        ap_error_set(err, r, "%s needs more than %zu MiB unpacked", what, arena->max >> 20);
    else if (message == NULL && r != 0)
        ap_error_errno(err, r, "%s of %zu bytes", what, len);
    else if (message == NULL)
        ap_error_set(err, -EINVAL, "%s is malformed: %zu bytes are not a message of type %s", what, len,
                     descriptor->name);
    if (message == NULL)
        return NULL;
    const char *field = bad_text(message);
    if (field != NULL) {
        ap_error_set(err, -EINVAL, "%s is malformed: text in %s is not UTF-8", what, field);
        return NULL;
    }
    return message;
}

int ap_message_pack(const ProtobufCMessage *message, struct ap_buf *ret)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    void *data = ap_buf_reserve(ret, len);

    if (data == NULL)
        return ret->error;
    ret->len += protobuf_c_message_pack(message, data);
    return 0;
}

char *ap_message_text(struct ap_arena *arena, const char *text)
{
    size_t len, out = 0;
    char *copy;

    if (text == NULL)
        text = "";
    /* Each byte becomes three at most. */
    copy = ap_arena_alloc(arena, strlen(text) * (ap_message_is_utf8(text) ? 1 : strlen(AP_UTF8_REPLACEMENT)) + 1);
    if (copy == NULL)
        return NULL;
    for (; *text != '\0'; text += len != 0 ? len : 1) {
        len = ap_utf8_len(text);
        memcpy(copy + out, len != 0 ? text : AP_UTF8_REPLACEMENT, len != 0 ? len : strlen(AP_UTF8_REPLACEMENT));
        out += len != 0 ? len : strlen(AP_UTF8_REPLACEMENT);
    }
    copy[out] = '\0';
    return copy;
}
