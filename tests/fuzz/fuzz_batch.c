/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Decodes a batch from anywhere. What is taken must come back the same when it is encoded and decoded again, may be
 * added to, and can be shown. Input: a zstd frame, or the message in one. */
#include "model/tree.h"
#include "tests/unit/wire/sample.h"
#include "wire/push.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static struct ap_push *decode(const uint8_t *data, size_t size)
{
    size_t cap = ZSTD_compressBound(size), len;
    struct ap_push *push;
    void *frame;

    if (size >= 4 && memcmp(data, "\x28\xb5\x2f\xfd", 4) == 0)
        return ap_wire_batch_decode(data, size, NULL);
    frame = malloc(cap);
    sample_check(frame != NULL);
    len = ZSTD_compress(frame, cap, data, size, 1);
    sample_check(!ZSTD_isError(len));
    push = ap_wire_batch_decode(frame, len, NULL);
    free(frame);
    return push;
}

/* As storage and queries do. */
static void use(struct ap_profile *profile)
{
    uint64_t count = ap_profile_total_count(profile);
    struct ap_tree *tree = ap_tree_new(profile);
    uint32_t index;

    sample_check(tree != NULL && tree->nodes[0].value == ap_profile_total_value(profile));
    ap_tree_free(tree);
    for (uint32_t i = 0; i < profile->sample_cnt && i < 16; i++) {
        const struct ap_sample row = profile->samples[i];

        sample_check(ap_profile_add_sample_at(profile, row.series, row.stack, row.slot, 0, 0) == 0);
    }
    sample_check(ap_profile_total_count(profile) == count);
    for (uint32_t i = 0; i < profile->frame_cnt && i < 16; i++)
        sample_check(ap_profile_add_frame(profile, &profile->frames[i], &index) == 0 && index <= i);
    if (profile->locks != NULL)
        ap_locks_sort(profile->locks);
    for (size_t i = 0; profile->locks != NULL && i < profile->locks->row_cnt; i++)
        sample_check(ap_lock_row_add(profile->locks->rows[i], 0, 0, 0, 0, 1, 1, 1) == 0);
    if (profile->syscalls != NULL)
        ap_syscalls_sort(profile->syscalls);
}

/* libFuzzer calls it by name; it declares it nowhere. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_push *push = decode(data, size), *again;
    struct ap_buf buf;

    if (push == NULL)
        return 0;
    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    sample_check(ap_wire_batch_encode(push, &buf, NULL) == 0);
    again = ap_wire_batch_decode(buf.data, buf.len, NULL);
    sample_check(again != NULL && same_push(push, again));
    for (unsigned i = 0; i < again->capture->profile_cnt; i++)
        use(again->capture->profiles[i]);
    ap_buf_done(&buf);
    ap_push_free(push);
    ap_push_free(again);
    return 0;
}
