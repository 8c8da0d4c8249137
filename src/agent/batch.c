/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/batch.h"

#include "core/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Where something lies in one of the two buffers. */
struct item {
    uint64_t time_ns;
    uint32_t off;
    uint32_t is_sample;
    uint64_t order; /* as they came: keeps equal times apart */
};

struct ap_batch {
    struct ap_buf samples, events, items;
};

struct ap_batch *ap_batch_new(void)
{
    struct ap_batch *batch = calloc(1, sizeof(*batch));

    if (!batch)
        return NULL;
    ap_buf_init(&batch->samples, AP_BATCH_SAMPLES_SZ);
    ap_buf_init(&batch->events, AP_BATCH_EVENTS_SZ);
    /* the smallest sample and event are larger than an item */
    ap_buf_init(&batch->items, AP_BATCH_SAMPLES_SZ + AP_BATCH_EVENTS_SZ);
    return batch;
}

struct ap_batch *ap_batch_free(struct ap_batch *batch)
{
    if (!batch)
        return NULL;
    ap_buf_done(&batch->samples);
    ap_buf_done(&batch->events);
    ap_buf_done(&batch->items);
    free(batch);
    return NULL;
}

static int add_item(struct ap_batch *batch, struct ap_buf *buf, uint64_t time_ns, uint32_t is_sample, size_t off)
{
    struct item item = {time_ns, (uint32_t)off, is_sample, batch->items.len};
    int rc = ap_buf_append(&batch->items, &item, sizeof(item));

    if (rc)
        buf->len = off;
    return rc;
}

/* Appends and keeps the next entry aligned. */
static int append_aligned(struct ap_buf *buf, const void *data, size_t len)
{
    static const char zeros[8];
    int rc = ap_buf_append(buf, data, len);

    if (!rc)
        rc = ap_buf_append(buf, zeros, -len & 7);
    buf->error = 0; /* full is not broken: playing makes room again */
    return rc;
}

int ap_batch_add_sample(struct ap_batch *batch, const void *record, size_t len)
{
    struct ap_record head;
    size_t off = batch->samples.len;

    if (batch->samples.max - off < len + 8 || append_aligned(&batch->samples, record, len))
        return -ENOSPC;
    memcpy(&head, record, sizeof(head));
    return add_item(batch, &batch->samples, head.time_ns, 1, off);
}

int ap_batch_add_event(struct ap_batch *batch, const struct ap_process_event *event)
{
    const char *path = event->path ? event->path : "";
    size_t off = batch->events.len, path_sz = strlen(path) + 1;
    int rc;

    if (batch->events.max - off < sizeof(*event) + path_sz + 8)
        return -ENOSPC;
    rc = ap_buf_append(&batch->events, event, sizeof(*event));
    if (!rc)
        rc = append_aligned(&batch->events, path, path_sz);
    batch->events.error = 0;
    if (rc) {
        batch->events.len = off;
        return rc;
    }
    return add_item(batch, &batch->events, event->time_ns, 0, off);
}

static int by_time(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->time_ns != y->time_ns)
        return x->time_ns < y->time_ns ? -1 : 1;
    if (x->is_sample != y->is_sample)
        return x->is_sample ? 1 : -1;
    return x->order < y->order ? -1 : x->order > y->order;
}

void ap_batch_play(struct ap_batch *batch, ap_batch_sample_fn on_sample, ap_batch_event_fn on_event, void *ctx)
{
    struct item *items = (struct item *)batch->items.data;
    size_t cnt = batch->items.len / sizeof(*items), i;
    struct ap_process_event event;

    if (cnt)
        qsort(items, cnt, sizeof(*items), by_time);
    for (i = 0; i < cnt; i++) {
        if (items[i].is_sample) {
            on_sample(ctx, (const struct ap_record *)(batch->samples.data + items[i].off));
            continue;
        }
        memcpy(&event, batch->events.data + items[i].off, sizeof(event));
        event.path = batch->events.data + items[i].off + sizeof(event);
        on_event(ctx, &event);
    }
    ap_buf_reset(&batch->samples);
    ap_buf_reset(&batch->events);
    ap_buf_reset(&batch->items);
}
