/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/reply.h"

#include "model/capture.h"
#include "symbol/worker.h"

#include <errno.h>
#include <string.h>

/* What is left to read of a reply. */
struct part {
    const char *pos, *end;
};

static int read_bytes(struct part *part, void *ret_data, size_t len)
{
    if ((size_t)(part->end - part->pos) < len)
        return -EBADMSG;
    memcpy(ret_data, part->pos, len);
    part->pos += len;
    return 0;
}

/* A text of `len` bytes, and the NUL behind it. */
static int read_text(struct part *part, size_t len, const char **ret_text)
{
    if (len > AP_SYMBOL_NAME_MAX || (size_t)(part->end - part->pos) <= len || part->pos[len])
        return -EBADMSG;
    *ret_text = part->pos;
    part->pos += len + 1;
    return 0;
}

/* The names of one address. Their number, or -EBADMSG. */
static int read_names(struct part *part, struct ap_symbol_frame *ret_frames, uint8_t *ret_reason)
{
    struct ap_worker_names names;
    struct ap_worker_frame frame;
    size_t i;
    int rc;

    rc = read_bytes(part, &names, sizeof(names));
    if (!rc && (names.frame_cnt > AP_SYMBOL_INLINE_MAX || names.reason >= AP_UNRESOLVED_REASON_CNT ||
                !names.frame_cnt != (names.reason != AP_UNRESOLVED_NONE)))
        rc = -EBADMSG;
    for (i = 0; !rc && i < names.frame_cnt; i++) {
        rc = read_bytes(part, &frame, sizeof(frame));
        rc = rc ? rc : read_text(part, frame.function_len, &ret_frames[i].function);
        rc = rc ? rc : read_text(part, frame.file_len, &ret_frames[i].file);
        rc = rc ? rc : read_text(part, frame.module_len, &ret_frames[i].module);
        if (!rc) {
            ret_frames[i].line = frame.line;
            ret_frames[i].inlined = frame.inlined != 0;
        }
    }
    if (rc)
        return rc;
    *ret_reason = names.reason;
    return names.frame_cnt;
}

int ap_reply_read(const char *data, size_t len, size_t cnt, ap_symbol_fn fn, void *ctx)
{
    struct ap_symbol_frame frames[AP_SYMBOL_INLINE_MAX];
    struct part part = {data, data + len};
    uint8_t reason;
    int frame_cnt;
    size_t i;

    for (i = 0; i < cnt; i++) {
        frame_cnt = read_names(&part, frames, &reason);
        if (frame_cnt < 0)
            return frame_cnt;
        if (fn)
            fn(ctx, i, frames, (size_t)frame_cnt, reason);
    }
    return part.pos == part.end ? 0 : -EBADMSG;
}
