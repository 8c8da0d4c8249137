/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: the group of batches that is being inserted, on disk before the first insert and until the
 * last one. One group at a time: the next one is written only when this one is known to be stored, so that after a
 * crash there is at most one whose state is unknown. One process at a time (the file is locked). Not thread-safe. */
#ifndef APERTURE_STORAGE_JOURNAL_H
#define APERTURE_STORAGE_JOURNAL_H

#include "core/error.h"
#include "storage/rows.h"

/* Most bytes of one group: its payloads. What is more is refused (-E2BIG). */
#define AP_JOURNAL_SZ (1ull << 30)

struct ap_journal; /* opaque */

/* One batch of the pending group. */
struct ap_journal_batch {
    char agent_id[AP_PUSH_AGENT_ID_SZ];
    uint64_t epoch, sequence, received_ns;
    const void *payload; /* within the group */
    size_t payload_sz;
};
struct ap_journal_group {
    uint64_t id;
    struct ap_journal_batch *batches; /* owned */
    size_t batch_cnt;
    void *data; /* owned: the payloads */
};
void ap_journal_group_done(struct ap_journal_group *group);

/* Opens or makes DATA_DIR/journal. NULL with words: -EBUSY (another process has it), -EACCES, -ENOSPC ... */
struct ap_journal *ap_journal_open(const char *data_dir, struct ap_error *err);
/* Accepts NULL. Returns NULL. */
struct ap_journal *ap_journal_free(struct ap_journal *journal);

/* Writes the group and waits until it is on the disk. 0, -ENOSPC, -E2BIG, -EIO ...: then nothing is pending. There must
 * be none pending before. */
int ap_journal_write(struct ap_journal *journal, uint64_t id, struct ap_rows *const *rows, size_t cnt,
                     struct ap_error *err);
/* True when a group is pending: written, not retired; also one of an earlier process. */
bool ap_journal_pending(const struct ap_journal *journal);
/* Reads the pending group back. 0, -EIO, -ENOMEM, with words. */
int ap_journal_read(struct ap_journal *journal, struct ap_journal_group *ret_group, struct ap_error *err);
/* The pending group is stored. What a crash undoes here does no harm: the group is inserted once more, with the same
 * tokens. */
void ap_journal_retire(struct ap_journal *journal);

#endif
