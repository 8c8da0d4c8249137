/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/journal.h"

#include "core/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The file: a header, then for each batch a head and its payload. */
#define MAGIC   0x314c4e4a50415041ull /* "APAPJNL1" */
#define PENDING 1u
#define RETIRED 0u

struct header {
    uint64_t magic, id, body_sz, body_hash;
    uint32_t batch_cnt, state;
    uint64_t hash; /* of what is above, with the state as PENDING */
};

struct batch_head {
    char agent_id[AP_PUSH_AGENT_ID_SZ + 7];
    uint64_t epoch, sequence, received_ns, payload_sz;
};
_Static_assert(sizeof(struct batch_head) == 168, "the journal's layout");

struct ap_journal {
    int fd;
    struct header header;
};

static uint64_t header_hash(const struct header *header)
{
    struct header copy = *header;

    copy.state = PENDING;
    return XXH3_64bits(&copy, offsetof(struct header, hash));
}

static bool header_valid(const struct header *header)
{
    return header->magic == MAGIC && header->hash == header_hash(header) && header->body_sz <= AP_JOURNAL_SZ;
}

/* Reads exactly `len` bytes. 0 or negative errno; -EIO when there are fewer. */
static int read_all(int fd, void *data, size_t len, off_t at)
{
    char *p = data;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const void *data, size_t len, off_t at)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static bool body_valid(int fd, const struct header *header)
{
    char *body = malloc(header->body_sz + 1);
    bool valid = body != NULL && read_all(fd, body, header->body_sz, sizeof(*header)) == 0 &&
                 XXH3_64bits(body, header->body_sz) == header->body_hash;

    free(body);
    return valid;
}

/* The folder's entry for the file is on the disk too. */
static int sync_folder(const char *data_dir)
{
    int fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    int r = fsync(fd) == 0 ? 0 : -errno;
    close(fd);
    return r;
}

struct ap_journal *ap_journal_open(const char *data_dir, struct ap_error *err)
{
    struct ap_journal *journal = calloc(1, sizeof(*journal));
    char path[PATH_MAX];

    if (journal == NULL) {
        ap_error_errno(err, -ENOMEM, "journal");
        return NULL;
    }
    if (snprintf(path, sizeof(path), "%s/journal", data_dir) >= (int)sizeof(path)) {
        ap_error_set(err, -ENAMETOOLONG, "the data folder's name is too long");
        free(journal);
        return NULL;
    }
    journal->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (journal->fd < 0) {
        ap_error_errno(err, -errno, "cannot open %s", path);
        return ap_journal_free(journal);
    }
    if (flock(journal->fd, LOCK_EX | LOCK_NB) != 0) {
        ap_error_set(err, -EBUSY, "%s is in use by another aggregator", data_dir);
        return ap_journal_free(journal);
    }
    int r = sync_folder(data_dir);
    if (r != 0) {
        ap_error_errno(err, r, "cannot write to %s", data_dir);
        return ap_journal_free(journal);
    }
    /* A group that was not written to its end was not inserted either. */
    if (read_all(journal->fd, &journal->header, sizeof(journal->header), 0) != 0 || !header_valid(&journal->header) ||
        !body_valid(journal->fd, &journal->header))
        journal->header = (struct header){0};
    return journal;
}

struct ap_journal *ap_journal_free(struct ap_journal *journal)
{
    if (journal == NULL)
        return NULL;
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal);
    return NULL;
}

bool ap_journal_pending(const struct ap_journal *journal)
{
    return journal->header.state == PENDING;
}

static int put_body(struct ap_buf *body, struct ap_rows *const *rows, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        struct batch_head head = {
            .epoch = rows[i]->push->epoch,
            .sequence = rows[i]->push->sequence,
            .received_ns = rows[i]->received_ns,
            .payload_sz = rows[i]->payload_sz,
        };

        memcpy(head.agent_id, rows[i]->push->agent_id, AP_PUSH_AGENT_ID_SZ);
        ap_buf_append(body, &head, sizeof(head));
        if (rows[i]->payload_sz > 0)
            ap_buf_append(body, rows[i]->payload, rows[i]->payload_sz);
    }
    return body->error;
}

int ap_journal_write(struct ap_journal *journal, uint64_t id, struct ap_rows *const *rows, size_t cnt,
                     struct ap_error *err)
{
    struct header header = {.magic = MAGIC, .id = id, .batch_cnt = (uint32_t)cnt, .state = PENDING};
    struct ap_buf body;

    ap_buf_init(&body, AP_JOURNAL_SZ);
    int r = put_body(&body, rows, cnt);
    if (r != 0) {
        ap_buf_done(&body);
        return ap_error_errno(err, r == -ENOSPC ? -E2BIG : r, "journal of %zu batches", cnt);
    }
    header.body_sz = body.len;
    header.body_hash = XXH3_64bits(body.data, body.len);
    header.hash = header_hash(&header);
    /* Body first: until the header is there the file says what it said before, or nothing. */
    r = write_all(journal->fd, body.data, body.len, sizeof(header));
    if (r == 0)
        r = write_all(journal->fd, &header, sizeof(header), 0);
    if (r == 0 && fdatasync(journal->fd) != 0)
        r = -errno;
    ap_buf_done(&body);
    if (r != 0) {
        /* Nothing was inserted: what stands there must not be taken for a group later. */
        const struct header none = {0};

        if (write_all(journal->fd, &none, sizeof(none), 0) == 0)
            fdatasync(journal->fd);
        return ap_error_errno(err, r, "cannot write the journal");
    }
    journal->header = header;
    return 0;
}

static int parse_body(struct ap_journal_group *group, const char *body, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < group->batch_cnt; i++) {
        struct ap_journal_batch *batch = &group->batches[i];
        struct batch_head head;

        if (len - at < sizeof(head))
            return -EIO;
        memcpy(&head, body + at, sizeof(head));
        at += sizeof(head);
        if (len - at < head.payload_sz || memchr(head.agent_id, '\0', AP_PUSH_AGENT_ID_SZ) == NULL)
            return -EIO;
        memcpy(batch->agent_id, head.agent_id, sizeof(batch->agent_id));
        batch->epoch = head.epoch;
        batch->sequence = head.sequence;
        batch->received_ns = head.received_ns;
        batch->payload = body + at;
        batch->payload_sz = head.payload_sz;
        at += head.payload_sz;
    }
    return at == len ? 0 : -EIO;
}

int ap_journal_read(struct ap_journal *journal, struct ap_journal_group *ret_group, struct ap_error *err)
{
    struct ap_journal_group group = {.id = journal->header.id, .batch_cnt = journal->header.batch_cnt};

    group.batches = calloc(group.batch_cnt + 1, sizeof(*group.batches));
    group.data = malloc(journal->header.body_sz + 1);
    int r = group.batches != NULL && group.data != NULL ? 0 : -ENOMEM;
    if (r == 0)
        r = read_all(journal->fd, group.data, journal->header.body_sz, sizeof(journal->header));
    if (r == 0 && XXH3_64bits(group.data, journal->header.body_sz) != journal->header.body_hash)
        r = -EIO;
    if (r == 0)
        r = parse_body(&group, group.data, journal->header.body_sz);
    if (r != 0) {
        ap_journal_group_done(&group);
        return ap_error_errno(err, r, "cannot read the journal");
    }
    *ret_group = group;
    return 0;
}

void ap_journal_group_done(struct ap_journal_group *group)
{
    free(group->batches);
    free(group->data);
    *group = (struct ap_journal_group){0};
}

void ap_journal_retire(struct ap_journal *journal)
{
    journal->header.state = RETIRED;
    /* Not waited for, see the header. A failure leaves the group pending for the next process, which is as good. */
    (void)!write_all(journal->fd, &journal->header, sizeof(journal->header), 0);
}
