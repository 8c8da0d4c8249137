/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/ingest.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "core/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

/* The same trouble is logged again after this. */
#define LOG_AGAIN_NS (60 * AP_NS_PER_SEC)

struct entry {
    struct entry *next;
    struct ap_ingest_item item;
    size_t sz, row_cnt;
};

struct list {
    struct entry *first, **end;
    size_t cnt, sz, row_cnt;
};

struct ap_ingest {
    struct ap_ingest_opts opts;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake;   /* the thread: something came, or stop */
    pthread_cond_t exited; /* whoever stops it */

    /* under the lock */
    struct list queue;
    struct ap_ingest_stats stats; /* of queue and group together */
    struct ap_error away;         /* code 0 while storage answers */
    bool stopping, finished;

    /* of the thread alone */
    struct entry *group[AP_COMMIT_BATCHES_MAX];
    struct ap_rows *rows[AP_COMMIT_BATCHES_MAX];
    bool duplicate[AP_COMMIT_BATCHES_MAX];
    size_t group_cnt;
    uint64_t committed_ns; /* when the last commit began, */
    uint64_t commit_ns;    /* and how long it took */
    uint64_t backoff_ns, logged_ns;
    int logged_code; /* what the log said last; 0 = that storage answers */
};

static void list_init(struct list *list)
{
    *list = (struct list){.end = &list->first};
}

static void list_add(struct list *list, struct entry *entry)
{
    entry->next = NULL;
    *list->end = entry;
    list->end = &entry->next;
    list->cnt++;
    list->sz += entry->sz;
    list->row_cnt += entry->row_cnt;
}

static struct entry *list_take(struct list *list)
{
    struct entry *entry = list->first;

    if (!entry)
        return NULL;
    list->first = entry->next;
    if (!list->first)
        list->end = &list->first;
    list->cnt--;
    list->sz -= entry->sz;
    list->row_cnt -= entry->row_cnt;
    return entry;
}

/* Answers whoever waits and gives the entry up. */
static void finish(struct ap_ingest *ingest, struct entry *entry, int rc, bool duplicate, const char *words)
{
    pthread_mutex_lock(&ingest->lock);
    ingest->stats.batches--;
    ingest->stats.bytes -= entry->sz;
    ingest->stats.rows -= entry->row_cnt;
    if (!rc && !duplicate)
        ingest->stats.stored_batches++;
    pthread_mutex_unlock(&ingest->lock);
    entry->item.done(entry->item.ctx, rc, duplicate, words);
    ap_rows_free(entry->item.rows);
    ap_ring_batch_unref(entry->item.batch);
    free(entry);
}

/* ---- Storage goes away and comes back ---- */

static void log_away(struct ap_ingest *ingest, const struct ap_error *err)
{
    uint64_t now_ns = ap_clock_monotonic_ns();

    if (err->code == ingest->logged_code && now_ns - ingest->logged_ns < LOG_AGAIN_NS)
        return;
    ap_log_error("storage failed, nothing is acknowledged until it answers again: %s", err->text);
    ingest->logged_code = err->code;
    ingest->logged_ns = now_ns;
}

static void set_away(struct ap_ingest *ingest, const struct ap_error *err)
{
    bool changed;

    pthread_mutex_lock(&ingest->lock);
    changed = !ingest->away.code;
    ingest->away = *err;
    ingest->stats.away_cnt += changed;
    pthread_mutex_unlock(&ingest->lock);
    log_away(ingest, err);
    if (changed && ingest->opts.on_ready)
        ingest->opts.on_ready(ingest->opts.ctx, false);
}

/* It answers: batches are taken again. Only a commit shows that it stores, and makes the next failure a new one. */
static void set_back(struct ap_ingest *ingest)
{
    bool changed;

    pthread_mutex_lock(&ingest->lock);
    changed = ingest->away.code != 0;
    ingest->away = (struct ap_error){0};
    pthread_mutex_unlock(&ingest->lock);
    if (changed && ingest->opts.on_ready)
        ingest->opts.on_ready(ingest->opts.ctx, true);
}

static void note_stored(struct ap_ingest *ingest)
{
    ingest->backoff_ns = 0;
    if (ingest->logged_code)
        ap_log_info("storage answers again");
    ingest->logged_code = 0;
    set_back(ingest);
}

static int check_disk(const struct ap_ingest *ingest, struct ap_error *err)
{
    char size[AP_FORMAT_SZ];
    struct statvfs fs;
    uint64_t room;

    if (!ingest->opts.disk || statvfs(ingest->opts.disk, &fs))
        return 0;
    room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room >= AP_INGEST_DISK_FREE_MIN)
        return 0;
    return ap_error_set(err, -ENOSPC, "the disk is full: %s has %s left", ingest->opts.disk,
                        ap_format_size(size, room));
}

static void probe(struct ap_ingest *ingest)
{
    struct ap_error err = {0};
    int rc = ap_storage_ready(ingest->opts.storage, &err);

    if (!rc)
        rc = check_disk(ingest, &err);
    if (!rc) {
        if (ingest->logged_code == -EAGAIN || ingest->logged_code == -ENOSPC) { /* for others only a commit tells */
            ap_log_info("storage answers again");
            ingest->logged_code = 0;
        }
        set_back(ingest);
        return;
    }
    err.code = rc;
    set_away(ingest, &err);
}

/* ---- Commit ---- */

/* Moves a group from the queue: as much as one commit holds, each batch once; those that nobody waits for any more are
 * left out. Called with the lock held; it is given up meanwhile for those. */
static void take_group(struct ap_ingest *ingest)
{
    struct entry *entry;
    struct ap_map keys;
    size_t row_cnt = 0, len;
    const void *key;

    ap_map_init(&keys, AP_COMMIT_BATCHES_MAX);
    ingest->group_cnt = 0;
    while ((entry = ingest->queue.first) && ingest->group_cnt < AP_COMMIT_BATCHES_MAX) {
        if (ingest->group_cnt && row_cnt + entry->row_cnt > AP_COMMIT_ROWS_MAX)
            break; /* one batch alone may have more */
        key = ap_ring_batch_key(entry->item.batch, &len);
        if (ap_map_get(&keys, key, len)) /* sent twice: the second one is a duplicate in the next group */
            break;
        list_take(&ingest->queue);
        if (entry->item.cancelled && entry->item.cancelled(entry->item.ctx)) {
            pthread_mutex_unlock(&ingest->lock);
            finish(ingest, entry, -ECANCELED, false, "the call was cancelled before the batch was stored");
            pthread_mutex_lock(&ingest->lock);
            continue;
        }
        (void)ap_map_put(&keys, key, len, entry); /* without memory a duplicate may come into this group */
        ingest->rows[ingest->group_cnt] = entry->item.rows;
        ingest->group[ingest->group_cnt++] = entry;
        row_cnt += entry->row_cnt;
    }
    ap_map_done(&keys);
}

static void count_stored(struct ap_metrics *metrics, const struct ap_ingest_item *item)
{
    const struct ap_batch_row *row = ap_ring_batch_row(item->batch);

    ap_count(&metrics->push_bytes, row->bytes);
    for (unsigned i = 0; i < row->kind_cnt; i++)
        ap_count(&metrics->push_events, row->kinds[i].events);
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        ap_count(&metrics->losses[i], item->account.losses[i]);
}

/* Everything that waits gets the same answer: to wait for storage one by one would take its timeout each. */
static void fail_queue(struct ap_ingest *ingest, const struct ap_error *err)
{
    struct entry *entry;
    struct list list;

    pthread_mutex_lock(&ingest->lock);
    list = ingest->queue;
    list_init(&ingest->queue);
    pthread_mutex_unlock(&ingest->lock);
    while ((entry = list.first)) {
        list.first = entry->next;
        if (ingest->opts.ring)
            ap_ring_add(ingest->opts.ring, entry->item.batch);
        finish(ingest, entry, err->code, false, err->text);
    }
}

static void commit_group(struct ap_ingest *ingest)
{
    struct ap_metrics *metrics = ingest->opts.metrics;
    struct ap_error err = {0};
    uint64_t begin_ns = ap_clock_monotonic_ns(), rows = 0;
    size_t i;
    int rc;

    if (!ingest->group_cnt)
        return;
    ingest->committed_ns = begin_ns;
    memset(ingest->duplicate, 0, ingest->group_cnt * sizeof(ingest->duplicate[0]));
    rc = ap_storage_commit(ingest->opts.storage, ingest->rows, ingest->group_cnt, ingest->duplicate, &err);
    err.code = rc;
    ingest->commit_ns = ap_clock_monotonic_ns() - begin_ns;
    ap_duration_add(&metrics->flush_duration, ingest->commit_ns);
    ap_count(rc ? &metrics->flushes_failed : &metrics->flushes_ok, 1);
    if (rc) /* known and said before the senders are answered */
        set_away(ingest, &err);

    for (i = 0; i < ingest->group_cnt; i++) {
        struct entry *entry = ingest->group[i];
        bool duplicate = !rc && ingest->duplicate[i];

        if (!rc && !duplicate) {
            rows += entry->row_cnt;
            count_stored(metrics, &entry->item);
        }
        if (ingest->opts.ring && !duplicate)
            ap_ring_add(ingest->opts.ring, entry->item.batch);
        finish(ingest, entry, rc, duplicate, rc ? err.text : NULL);
    }
    ingest->group_cnt = 0;
    ap_count(&metrics->flush_rows, rows);
    if (rc)
        fail_queue(ingest, &err);
    else
        note_stored(ingest);
}

/* ---- The thread ---- */

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / AP_NS_PER_SEC), .tv_nsec = (long)(ns % AP_NS_PER_SEC)};
}

/* When the next commit may begin; 0 = now. */
static uint64_t commit_at(const struct ap_ingest *ingest)
{
    uint64_t interval_ns;

    if (ingest->stopping || ingest->queue.row_cnt >= AP_INGEST_EAGER_ROWS || !ingest->committed_ns ||
        !ingest->opts.interval_ns)
        return 0;
    /* Half of the time is left to merges: what gathers meanwhile makes fewer and larger parts. */
    interval_ns = 2 * ingest->commit_ns;
    if (interval_ns > AP_INGEST_INTERVAL_MAX_NS)
        interval_ns = AP_INGEST_INTERVAL_MAX_NS;
    if (interval_ns < ingest->opts.interval_ns)
        interval_ns = ingest->opts.interval_ns;
    return ingest->committed_ns + interval_ns;
}

/* Waits for something to commit. False when it is time to ask storage whether it is there. Called with the lock. */
static bool wait_for_work(struct ap_ingest *ingest)
{
    uint64_t now_ns = ap_clock_monotonic_ns(), probe_ns, until_ns;
    struct timespec until;

    if (ingest->away.code) {
        ingest->backoff_ns = ingest->backoff_ns ? ingest->backoff_ns * 2 : AP_INGEST_BACKOFF_MIN_NS;
        if (ingest->backoff_ns > AP_INGEST_BACKOFF_MAX_NS)
            ingest->backoff_ns = AP_INGEST_BACKOFF_MAX_NS;
    }
    probe_ns = now_ns + (ingest->away.code ? ingest->backoff_ns : AP_INGEST_PROBE_NS);
    for (;;) {
        now_ns = ap_clock_monotonic_ns();
        until_ns = probe_ns;
        if (ingest->queue.cnt || ingest->stopping) {
            until_ns = commit_at(ingest);
            if (until_ns <= now_ns)
                return true;
        } else if (probe_ns <= now_ns) {
            return false;
        }
        until = to_timespec(until_ns);
        pthread_cond_timedwait(&ingest->wake, &ingest->lock, &until);
    }
}

static void *run(void *arg)
{
    struct ap_ingest *ingest = arg;
    bool work;

    pthread_mutex_lock(&ingest->lock);
    while (!ingest->stopping || ingest->queue.cnt) {
        work = wait_for_work(ingest);
        if (work)
            take_group(ingest);
        pthread_mutex_unlock(&ingest->lock);
        if (work)
            commit_group(ingest);
        else
            probe(ingest);
        pthread_mutex_lock(&ingest->lock);
    }
    ingest->finished = true;
    pthread_cond_broadcast(&ingest->exited);
    pthread_mutex_unlock(&ingest->lock);
    return NULL;
}

static int init_sync(struct ap_ingest *ingest)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc)
        return -rc;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_mutex_init(&ingest->lock, NULL);
    if (!rc)
        rc = pthread_cond_init(&ingest->wake, &attr);
    if (!rc)
        rc = pthread_cond_init(&ingest->exited, &attr);
    pthread_condattr_destroy(&attr);
    return -rc;
}

struct ap_ingest *ap_ingest_new(const struct ap_ingest_opts *opts, struct ap_error *err)
{
    struct ap_ingest *ingest = calloc(1, sizeof(*ingest));
    int rc = ingest ? init_sync(ingest) : -ENOMEM;

    if (rc) {
        ap_error_errno(err, rc, "cannot start the committing thread");
        free(ingest);
        return NULL;
    }
    ingest->opts = *opts;
    ingest->stats.max_batches = AP_INGEST_BATCHES_MAX;
    ingest->stats.max_bytes = opts->queue_sz;
    list_init(&ingest->queue);
    probe(ingest);
    rc = pthread_create(&ingest->thread, NULL, run, ingest);
    if (rc) {
        ap_error_errno(err, -rc, "cannot start the committing thread");
        return ap_ingest_free(ingest);
    }
    ingest->started = true;
    return ingest;
}

bool ap_ingest_stop(struct ap_ingest *ingest, uint64_t deadline_ns)
{
    struct timespec until = to_timespec(deadline_ns);
    bool finished;

    if (!ingest->started)
        return true;
    pthread_mutex_lock(&ingest->lock);
    ingest->stopping = true;
    pthread_cond_signal(&ingest->wake);
    while (!ingest->finished && !pthread_cond_timedwait(&ingest->exited, &ingest->lock, &until))
        ;
    finished = ingest->finished;
    pthread_mutex_unlock(&ingest->lock);
    if (!finished)
        return false;
    pthread_join(ingest->thread, NULL);
    ingest->started = false;
    return true;
}

struct ap_ingest *ap_ingest_free(struct ap_ingest *ingest)
{
    if (!ingest)
        return NULL;
    if (ingest->started)
        (void)ap_ingest_stop(ingest, INT64_MAX);
    pthread_cond_destroy(&ingest->exited);
    pthread_cond_destroy(&ingest->wake);
    pthread_mutex_destroy(&ingest->lock);
    free(ingest);
    return NULL;
}

/* ---- Its callers ---- */

/* With the lock held. */
static int admit(const struct ap_ingest *ingest, size_t sz, struct ap_error *err)
{
    const struct ap_ingest_stats *stats = &ingest->stats;

    if (ingest->stopping)
        return ap_error_set(err, -ESHUTDOWN, "the aggregator is being stopped");
    if (ingest->away.code)
        return ap_error_set(err, ingest->away.code, "storage does not take anything now: %s", ingest->away.text);
    /* a batch larger than the whole queue is taken when it is alone */
    if (stats->batches && (sz > stats->max_bytes || stats->bytes > stats->max_bytes - sz))
        return ap_error_set(err, -EBUSY, "the queue is full: %" PRIu64 " batches with %" PRIu64 " bytes wait",
                            stats->batches, stats->bytes);
    if (stats->batches >= stats->max_batches)
        return ap_error_set(err, -EBUSY, "the queue is full: %" PRIu64 " batches wait", stats->batches);
    return 0;
}

int ap_ingest_admit(struct ap_ingest *ingest, size_t sz, struct ap_error *err)
{
    int rc;

    pthread_mutex_lock(&ingest->lock);
    rc = admit(ingest, sz, err);
    pthread_mutex_unlock(&ingest->lock);
    return rc;
}

int ap_ingest_submit(struct ap_ingest *ingest, const struct ap_ingest_item *item, struct ap_error *err)
{
    size_t row_cnt = ap_rows_sample_cnt(item->rows);
    struct entry *entry;
    int rc;

    entry = calloc(1, sizeof(*entry));
    if (!entry)
        return ap_error_set(err, -ENOMEM, "out of memory");
    entry->item = *item;
    entry->sz = ap_rows_sz(item->rows) + sizeof(*entry);
    entry->row_cnt = row_cnt;

    pthread_mutex_lock(&ingest->lock);
    rc = admit(ingest, entry->sz, err);
    if (!rc) {
        list_add(&ingest->queue, entry);
        ingest->stats.batches++;
        ingest->stats.bytes += entry->sz;
        ingest->stats.rows += row_cnt;
        pthread_cond_signal(&ingest->wake);
    }
    pthread_mutex_unlock(&ingest->lock);
    if (rc)
        free(entry);
    return rc;
}

uint32_t ap_ingest_pause_ms(struct ap_ingest *ingest)
{
    struct ap_ingest_stats stats;
    double fill, by_cnt;

    ap_ingest_stats(ingest, &stats);
    fill = (double)stats.bytes / (double)stats.max_bytes;
    by_cnt = (double)stats.batches / (double)stats.max_batches;
    fill = fill > by_cnt ? fill : by_cnt;
    if (fill <= 0.5)
        return 0;
    return fill >= 1 ? AP_INGEST_PAUSE_MAX_MS : (uint32_t)((fill - 0.5) * 2 * AP_INGEST_PAUSE_MAX_MS);
}

int ap_ingest_ready(struct ap_ingest *ingest, struct ap_error *err)
{
    int rc = 0;

    pthread_mutex_lock(&ingest->lock);
    if (ingest->stopping)
        rc = ap_error_set(err, -ESHUTDOWN, "the aggregator is being stopped");
    else if (ingest->away.code)
        rc = ap_error_set(err, ingest->away.code, "%s", ingest->away.text);
    pthread_mutex_unlock(&ingest->lock);
    return rc;
}

bool ap_ingest_has_stored(struct ap_ingest *ingest)
{
    struct ap_ingest_stats stats;

    ap_ingest_stats(ingest, &stats);
    return stats.stored_batches > 0;
}

void ap_ingest_stats(struct ap_ingest *ingest, struct ap_ingest_stats *ret_stats)
{
    pthread_mutex_lock(&ingest->lock);
    *ret_stats = ingest->stats;
    ret_stats->ready = !ingest->away.code && !ingest->stopping;
    pthread_mutex_unlock(&ingest->lock);
}
