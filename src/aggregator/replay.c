/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/replay.h"

#include "wire/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* What the ring holds was read before: it fails only without memory. */
static struct ap_rows *unpack(const struct ap_ring_batch *batch, struct ap_error *err)
{
    const struct ap_batch_row *row = ap_ring_batch_row(batch);
    struct ap_rows *rows;
    struct ap_push *push;
    const void *payload;
    size_t sz;

    payload = ap_ring_batch_payload(batch, &sz);
    push = ap_wire_batch_decode(payload, sz, err);
    if (!push)
        return NULL;
    snprintf(push->agent_id, sizeof(push->agent_id), "%s", row->agent_id);
    push->epoch = row->epoch;
    push->sequence = row->sequence;
    rows = ap_rows_new(push, payload, sz, row->received_ns, err);
    if (!rows)
        ap_push_free(push);
    return rows;
}

static int store(struct ap_storage *storage, const struct ap_ring_batch *batch, uint64_t *sz, struct ap_error *err)
{
    struct ap_rows *rows = unpack(batch, err);
    bool duplicate;
    int rc;

    if (!rows)
        return err->code;
    *sz += ap_rows_sz(rows);
    rc = ap_storage_commit(storage, &rows, 1, &duplicate, err);
    ap_rows_free(rows);
    return rc;
}

struct ap_storage *ap_replay(struct ap_ring *ring, uint8_t kind, uint64_t from_ns, uint64_t to_ns, struct ap_error *err)
{
    const struct ap_storage_opts opts = {.kind = AP_STORAGE_MEMORY, .memory_sz = 2 * AP_REPLAY_SZ};
    struct ap_ring_batch **batches;
    struct ap_storage *storage = NULL;
    uint64_t sz = 0;
    size_t cnt, i;
    int rc;

    *err = (struct ap_error){0};
    rc = ap_ring_batches(ring, kind, from_ns, to_ns, AP_RING_BATCHES_MAX, &batches, &cnt);
    if (rc) {
        ap_error_set(err, rc, "out of memory");
        return NULL;
    }
    if (cnt)
        storage = ap_storage_open(&opts, err);
    for (i = 0; storage && i < cnt && sz < AP_REPLAY_SZ; i++)
        if (store(storage, batches[i], &sz, err))
            storage = ap_storage_free(storage);
    for (i = 0; i < cnt; i++)
        ap_ring_batch_unref(batches[i]);
    free((void *)batches);
    return storage;
}
