/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/spool.h"

#include "core/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FILE_MAGIC  0x31535041u /* "APS1", little-endian */
#define NAME_SZ     64
#define SYNC_CHUNK  64
#define LOCK_NAME   "lock"
#define SUFFIX      ".batch"
#define TEMP_SUFFIX ".tmp"

/* Every file begins with it. */
struct file_head {
    uint32_t magic, reserved;
    uint64_t epoch, sequence, events, len, hash; /* of the payload that follows */
};

struct entry {
    struct ap_spool_id id;
    uint64_t events, sz; /* sz: payload */
    bool synced;
};

struct ap_spool {
    pthread_mutex_t lock;
    char *dir;
    int dir_fd, lock_fd;
    uint64_t max_sz, epoch, next_sequence;
    struct entry *entries; /* a ring of AP_SPOOL_BATCHES_MAX, oldest first */
    size_t first, cnt;
    bool all_synced;
    struct ap_spool_stats stats;
};

enum drop_reason { DROP_FULL, DROP_REFUSED, DROP_DAMAGED };

static struct entry *entry_at(struct ap_spool *spool, size_t i)
{
    return &spool->entries[(spool->first + i) % AP_SPOOL_BATCHES_MAX];
}

/* Names sort as the batches do. */
static void file_name(const struct ap_spool_id *id, const char *suffix, char name[NAME_SZ])
{
    snprintf(name, NAME_SZ, "%020" PRIu64 "-%020" PRIu64 "%s", id->epoch, id->sequence, suffix);
}

static bool parse_name(const char *name, struct ap_spool_id *ret_id)
{
    char expected[NAME_SZ];

    if (sscanf(name, "%20" SCNu64 "-%20" SCNu64, &ret_id->epoch, &ret_id->sequence) != 2)
        return false;
    file_name(ret_id, SUFFIX, expected);
    return !strcmp(name, expected);
}

static void count_drop(struct ap_spool *spool, enum drop_reason reason, uint64_t events)
{
    spool->stats.dropped_batches++;
    spool->stats.dropped_events += events;
    spool->stats.dropped_full += reason == DROP_FULL;
    spool->stats.dropped_refused += reason == DROP_REFUSED;
    spool->stats.dropped_damaged += reason == DROP_DAMAGED;
}

static void unlink_batch(struct ap_spool *spool, const struct ap_spool_id *id)
{
    char name[NAME_SZ];

    file_name(id, SUFFIX, name);
    if (unlinkat(spool->dir_fd, name, 0) && errno != ENOENT)
        ap_log_warn("cannot remove %s/%s: %s", spool->dir, name, strerror(errno));
}

/* Takes entry `i` out; those before it move up, which are few: batches are removed from the front. */
static void remove_entry(struct ap_spool *spool, size_t i)
{
    struct entry *entry = entry_at(spool, i);

    unlink_batch(spool, &entry->id);
    spool->stats.batches--;
    spool->stats.bytes -= entry->sz;
    for (; i > 0; i--)
        *entry_at(spool, i) = *entry_at(spool, i - 1);
    spool->first = (spool->first + 1) % AP_SPOOL_BATCHES_MAX;
    spool->cnt--;
}

static void push_entry(struct ap_spool *spool, const struct entry *entry)
{
    *entry_at(spool, spool->cnt++) = *entry;
    spool->stats.batches++;
    spool->stats.bytes += entry->sz;
    spool->all_synced = spool->all_synced && entry->synced;
}

/* Makes room for `sz` more bytes. */
static void make_room(struct ap_spool *spool, uint64_t sz)
{
    while (spool->cnt && (spool->cnt == AP_SPOOL_BATCHES_MAX || spool->stats.bytes + sz > spool->max_sz)) {
        count_drop(spool, DROP_FULL, entry_at(spool, 0)->events);
        remove_entry(spool, 0);
    }
}

static int read_all(int fd, void *data, size_t len)
{
    char *pos = data;
    ssize_t n;

    while (len) {
        n = read(fd, pos, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        pos += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *pos = data;
    ssize_t n;

    while (len) {
        n = write(fd, pos, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        pos += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Head of a spooled file, checked against its name and its length. 0 or negative errno (-EBADMSG: damaged). */
static int read_head(int fd, const struct ap_spool_id *id, struct file_head *ret_head)
{
    struct stat st;
    int rc = read_all(fd, ret_head, sizeof(*ret_head));

    if (rc)
        return rc;
    if (fstat(fd, &st))
        return -errno;
    if (ret_head->magic != FILE_MAGIC || ret_head->epoch != id->epoch || ret_head->sequence != id->sequence ||
        (uint64_t)st.st_size != sizeof(*ret_head) + ret_head->len)
        return -EBADMSG;
    return 0;
}

static int open_batch(const struct ap_spool *spool, const struct ap_spool_id *id)
{
    char name[NAME_SZ];
    int fd;

    file_name(id, SUFFIX, name);
    fd = openat(spool->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

static int compare_ids(const void *a, const void *b)
{
    const struct ap_spool_id *x = a, *y = b;

    if (x->epoch != y->epoch)
        return x->epoch < y->epoch ? -1 : 1;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);

    return len > suffix_len && !strcmp(name + len - suffix_len, suffix);
}

/* The batches that an earlier run left, oldest first; half-written files are removed. Number, or negative errno. */
static ssize_t list(struct ap_spool *spool, struct ap_spool_id **ret_ids)
{
    struct dirent **names = NULL;
    struct ap_spool_id *ids;
    ssize_t cnt = 0;
    int all, i;

    all = scandirat(spool->dir_fd, ".", &names, NULL, NULL);
    if (all < 0)
        return -errno;
    ids = calloc((size_t)all + 1, sizeof(*ids));
    for (i = 0; i < all; i++) {
        if (has_suffix(names[i]->d_name, TEMP_SUFFIX))
            unlinkat(spool->dir_fd, names[i]->d_name, 0);
        if (ids && parse_name(names[i]->d_name, &ids[cnt]))
            cnt++;
        free(names[i]);
    }
    free(names);
    if (!ids)
        return -ENOMEM;
    qsort(ids, (size_t)cnt, sizeof(*ids), compare_ids);
    *ret_ids = ids;
    return cnt;
}

static void adopt(struct ap_spool *spool, const struct ap_spool_id *id)
{
    struct file_head head = {0};
    struct entry entry = {.id = *id, .synced = false};
    int fd = open_batch(spool, id), rc = fd < 0 ? fd : read_head(fd, id, &head);

    if (fd >= 0)
        close(fd);
    if (rc) {
        ap_log_warn("a waiting batch in %s is damaged and dropped (%s)", spool->dir, strerror(-rc));
        count_drop(spool, DROP_DAMAGED, 0);
        unlink_batch(spool, id);
        return;
    }
    entry.events = head.events;
    entry.sz = head.len;
    make_room(spool, entry.sz);
    push_entry(spool, &entry);
}

static int load(struct ap_spool *spool, uint64_t now_ns)
{
    struct ap_spool_id *ids = NULL;
    ssize_t cnt = list(spool, &ids), i;

    if (cnt < 0 || !ids)
        return cnt < 0 ? (int)cnt : -ENOMEM;
    for (i = 0; i < cnt; i++)
        adopt(spool, &ids[i]);
    spool->epoch = now_ns;
    if (cnt && ids[cnt - 1].epoch >= now_ns) /* the clock went back */
        spool->epoch = ids[cnt - 1].epoch + 1;
    spool->next_sequence = 1;
    free(ids);
    return 0;
}

/* mkdir -p, for us alone. */
static int make_dirs(const char *dir)
{
    char path[4096];
    char *slash;

    if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    for (slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

static int open_dir(struct ap_spool *spool, struct ap_error *err)
{
    int rc = make_dirs(spool->dir);

    if (!rc) {
        spool->dir_fd = open(spool->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = spool->dir_fd < 0 ? -errno : 0;
    }
    if (!rc) {
        spool->lock_fd = openat(spool->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        rc = spool->lock_fd < 0 ? -errno : 0;
    }
    if (rc)
        return ap_error_errno(err, rc, "cannot keep batches in \"%s\" (--spool-dir)", spool->dir);
    if (flock(spool->lock_fd, LOCK_EX | LOCK_NB))
        return ap_error_set(err, -EBUSY, "another agent keeps its batches in \"%s\"; give each its own --spool-dir",
                            spool->dir);
    return 0;
}

struct ap_spool *ap_spool_open(const char *dir, uint64_t max_sz, uint64_t now_ns, struct ap_error *err)
{
    struct ap_spool *spool = calloc(1, sizeof(*spool));
    int rc;

    if (!spool) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&spool->lock, NULL);
    spool->dir_fd = spool->lock_fd = -1;
    spool->max_sz = max_sz;
    spool->all_synced = true;
    spool->dir = strdup(dir);
    spool->entries = calloc(AP_SPOOL_BATCHES_MAX, sizeof(*spool->entries));
    rc = spool->dir && spool->entries ? open_dir(spool, err) : ap_error_set(err, -ENOMEM, "out of memory");
    if (!rc) {
        rc = load(spool, now_ns);
        if (rc)
            ap_error_errno(err, rc, "cannot read \"%s\" (--spool-dir)", spool->dir);
    }
    return rc ? ap_spool_close(spool) : spool;
}

struct ap_spool *ap_spool_close(struct ap_spool *spool)
{
    if (!spool)
        return NULL;
    if (spool->dir_fd >= 0)
        ap_spool_sync(spool);
    if (spool->lock_fd >= 0)
        close(spool->lock_fd);
    if (spool->dir_fd >= 0)
        close(spool->dir_fd);
    pthread_mutex_destroy(&spool->lock);
    free(spool->entries);
    free(spool->dir);
    free(spool);
    return NULL;
}

/* Writes beside and moves into place, so that a crash leaves whole files only. */
static int write_batch(struct ap_spool *spool, const struct file_head *head, const void *data)
{
    const struct ap_spool_id id = {head->epoch, head->sequence};
    char name[NAME_SZ], temp[NAME_SZ];
    int fd, rc;

    file_name(&id, SUFFIX, name);
    file_name(&id, TEMP_SUFFIX, temp);
    fd = openat(spool->dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    rc = write_all(fd, head, sizeof(*head));
    rc = rc ? rc : write_all(fd, data, head->len);
    if (close(fd) && !rc)
        rc = -errno;
    if (!rc && renameat(spool->dir_fd, temp, spool->dir_fd, name))
        rc = -errno;
    if (rc)
        unlinkat(spool->dir_fd, temp, 0);
    return rc;
}

static int add(struct ap_spool *spool, const void *data, size_t len, uint64_t events, struct ap_spool_id *ret_id)
{
    struct file_head head = {.magic = FILE_MAGIC,
                             .epoch = spool->epoch,
                             .sequence = spool->next_sequence,
                             .events = events,
                             .len = len,
                             .hash = XXH3_64bits(data, len)};
    struct entry entry = {{head.epoch, head.sequence}, events, len, false};
    int rc;

    if (len > spool->max_sz) {
        count_drop(spool, DROP_FULL, events);
        return -E2BIG;
    }
    make_room(spool, len);
    rc = write_batch(spool, &head, data);
    while (rc == -ENOSPC && spool->cnt) { /* somebody else filled the disk: the newest matter more */
        count_drop(spool, DROP_FULL, entry_at(spool, 0)->events);
        remove_entry(spool, 0);
        rc = write_batch(spool, &head, data);
    }
    if (rc) {
        count_drop(spool, DROP_FULL, events);
        return rc;
    }
    spool->next_sequence++;
    push_entry(spool, &entry);
    *ret_id = entry.id;
    return 0;
}

int ap_spool_add(struct ap_spool *spool, const void *data, size_t len, uint64_t events, struct ap_spool_id *ret_id)
{
    int rc;

    pthread_mutex_lock(&spool->lock);
    rc = add(spool, data, len, events, ret_id);
    pthread_mutex_unlock(&spool->lock);
    return rc;
}

static int read_batch(struct ap_spool *spool, const struct ap_spool_id *id, struct ap_buf *data)
{
    struct file_head head;
    void *room = NULL;
    int fd = open_batch(spool, id), rc = fd < 0 ? fd : read_head(fd, id, &head);

    ap_buf_reset(data);
    if (!rc) {
        room = ap_buf_reserve(data, head.len);
        rc = room ? read_all(fd, room, head.len) : -ENOMEM;
    }
    if (fd >= 0)
        close(fd);
    if (rc)
        return rc;
    data->len += head.len;
    return XXH3_64bits(room, head.len) == head.hash ? 0 : -EBADMSG;
}

int ap_spool_oldest(struct ap_spool *spool, struct ap_spool_id *ret_id, struct ap_buf *ret_data)
{
    struct entry *entry;
    int rc = -ENOENT;

    pthread_mutex_lock(&spool->lock);
    while (spool->cnt) {
        entry = entry_at(spool, 0);
        rc = read_batch(spool, &entry->id, ret_data);
        if (!rc)
            *ret_id = entry->id;
        if (!rc || rc == -ENOMEM)
            break;
        ap_log_warn("a waiting batch in %s is damaged and dropped (%s)", spool->dir, strerror(-rc));
        count_drop(spool, DROP_DAMAGED, entry->events);
        remove_entry(spool, 0);
        rc = -ENOENT;
    }
    pthread_mutex_unlock(&spool->lock);
    return rc;
}

/* Takes the batch out; `refused`: counted as dropped. */
static void take_out(struct ap_spool *spool, const struct ap_spool_id *id, bool refused)
{
    size_t i;

    pthread_mutex_lock(&spool->lock);
    for (i = 0; i < spool->cnt && compare_ids(&entry_at(spool, i)->id, id) < 0; i++)
        ;
    if (i < spool->cnt && !compare_ids(&entry_at(spool, i)->id, id)) {
        if (refused)
            count_drop(spool, DROP_REFUSED, entry_at(spool, i)->events);
        remove_entry(spool, i);
    }
    pthread_mutex_unlock(&spool->lock);
}

void ap_spool_remove(struct ap_spool *spool, const struct ap_spool_id *id)
{
    take_out(spool, id, false);
}

void ap_spool_refuse(struct ap_spool *spool, const struct ap_spool_id *id)
{
    take_out(spool, id, true);
}

/* The next batches that are not known to be on the disk; they may be sent and removed meanwhile. */
static size_t unsynced(struct ap_spool *spool, struct ap_spool_id *ids, size_t max)
{
    size_t cnt = 0, i;

    pthread_mutex_lock(&spool->lock);
    for (i = 0; !spool->all_synced && i < spool->cnt && cnt < max; i++)
        if (!entry_at(spool, i)->synced)
            ids[cnt++] = entry_at(spool, i)->id;
    if (!cnt)
        spool->all_synced = true;
    pthread_mutex_unlock(&spool->lock);
    return cnt;
}

static void mark_synced(struct ap_spool *spool, const struct ap_spool_id *ids, size_t cnt)
{
    size_t i, j = 0;

    pthread_mutex_lock(&spool->lock);
    for (i = 0; i < spool->cnt && j < cnt; i++) {
        while (j < cnt && compare_ids(&ids[j], &entry_at(spool, i)->id) < 0)
            j++;
        if (j < cnt && !compare_ids(&ids[j], &entry_at(spool, i)->id))
            entry_at(spool, i)->synced = true;
    }
    pthread_mutex_unlock(&spool->lock);
}

/* Without the lock while the disk works: a slow one must not hold up who adds. */
void ap_spool_sync(struct ap_spool *spool)
{
    struct ap_spool_id ids[SYNC_CHUNK] = {0};
    bool any = false;
    size_t cnt, i;
    int fd;

    while ((cnt = unsynced(spool, ids, SYNC_CHUNK))) {
        for (i = 0; i < cnt; i++) {
            fd = open_batch(spool, &ids[i]);
            if (fd < 0)
                continue;
            fdatasync(fd);
            close(fd);
        }
        mark_synced(spool, ids, cnt);
        any = true;
    }
    if (any)
        fsync(spool->dir_fd);
}

void ap_spool_stats(struct ap_spool *spool, struct ap_spool_stats *ret_stats)
{
    pthread_mutex_lock(&spool->lock);
    *ret_stats = spool->stats;
    pthread_mutex_unlock(&spool->lock);
}

const char *ap_spool_dir(const struct ap_spool *spool)
{
    return spool->dir;
}
