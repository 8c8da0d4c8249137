/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the wire codecs: protobuf messages to bytes and back, and the text in them. */
#ifndef APERTURE_WIRE_MESSAGE_H
#define APERTURE_WIRE_MESSAGE_H

#include "core/buf.h"
#include "core/error.h"
#include "wire/arena.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes the column `field` of a message, zeroed: `cnt` elements. */
#define AP_COLUMN(arena, message, field, cnt)                                                                          \
    ((message)->n_##field = (cnt), (message)->field = ap_arena_rows(arena, cnt, sizeof(*(message)->field)))

/* Unpacks into the arena, and holds all text to be UTF-8. NULL with words: -EINVAL (`what` is malformed), -E2BIG (past
 * the arena's bound), -ENOMEM. */
void *ap_message_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len, const char *what,
                        struct ap_arena *arena, struct ap_error *err);
/* Appends the message to `ret`: 0, -ENOSPC (its maximum) or -ENOMEM. */
int ap_message_pack(const ProtobufCMessage *message, struct ap_buf *ret);

bool ap_message_is_utf8(const char *text);
/* Text as protobuf takes it: a copy in the arena, "" for NULL, in which U+FFFD stands for what is not UTF-8. NULL when
 * the arena refuses. */
char *ap_message_text(struct ap_arena *arena, const char *text);

#endif
