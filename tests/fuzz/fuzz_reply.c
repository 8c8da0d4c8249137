/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Replies of a symbolizer's process that an attacker has taken over: number of addresses (one byte), then the reply. */
#include "symbol/reply.h"

#include "model/capture.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

struct reply {
    const char *data;
    size_t len, answered;
};

static void check_text(const struct reply *reply, const char *text)
{
    check(text >= reply->data && text + strlen(text) < reply->data + reply->len && strlen(text) <= AP_SYMBOL_NAME_MAX);
}

static void take(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason)
{
    struct reply *reply = ctx;
    size_t i;

    check(index == reply->answered++);
    check(cnt <= AP_SYMBOL_INLINE_MAX && reason < AP_UNRESOLVED_REASON_CNT && !cnt == (reason != 0));
    for (i = 0; i < cnt; i++) {
        check_text(reply, frames[i].function);
        check_text(reply, frames[i].file);
        check_text(reply, frames[i].module);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reply reply = {.len = size ? size - 1 : 0};
    size_t cnt = size ? data[0] : 0;
    char *copy = malloc(reply.len ? reply.len : 1); /* of exactly this size */
    int rc;

    check(copy != NULL);
    if (reply.len)
        memcpy(copy, data + 1, reply.len);
    reply.data = copy;
    rc = ap_reply_read(copy, reply.len, cnt, NULL, NULL);
    check(rc == ap_reply_read(copy, reply.len, cnt, take, &reply));
    check(reply.answered <= cnt && (rc || reply.answered == cnt));
    free(copy);
    return 0;
}
