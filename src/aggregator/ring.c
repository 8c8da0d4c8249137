/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/ring.h"

#include "core/clock.h"
#include "core/map.h"
#include "model/locks.h"
#include "model/syscalls.h"
#include "query/regex.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What names a batch for ever. */
struct key {
    uint64_t epoch, sequence;
    char agent_id[AP_PUSH_AGENT_ID_SZ]; /* zeros after its end */
};

struct ap_ring_batch {
    atomic_uint refs;
    struct key key;
    struct ap_batch_row row;
    void *payload;
    size_t payload_sz, sz; /* sz: with everything that it takes in memory */
};

struct ap_ring {
    pthread_mutex_t lock;
    struct ap_ring_batch **slots; /* a ring: oldest at `first` */
    size_t cap, first, cnt;       /* cap: a power of two, or 0 */
    struct ap_map by_key;
    struct ap_ring_stats stats;
};

/* ---- One batch ---- */

/* Sum of a profile's values. Lock and system call tables hold all of it, samples only what has a stack. */
static uint64_t profile_value(const struct ap_profile *profile)
{
    uint64_t sum = 0;

    if (profile->syscalls)
        return ap_syscalls_total_ns(profile->syscalls);
    if (!profile->locks)
        return ap_profile_total_value(profile);
    for (size_t i = 0; i < profile->locks->row_cnt; i++)
        sum += profile->locks->rows[i]->total_ns;
    return sum;
}

static int copy_labels(const struct ap_label *labels, size_t cnt, struct ap_label **ret_labels)
{
    struct ap_label *copy = calloc(cnt + 1, sizeof(*copy));

    if (!copy)
        return -ENOMEM;
    for (size_t i = 0; i < cnt; i++) {
        copy[i].name = strdup(labels[i].name);
        copy[i].value = strdup(labels[i].value);
        if (!copy[i].name || !copy[i].value) {
            ap_labels_free(copy, i + 1);
            return -ENOMEM;
        }
    }
    *ret_labels = copy;
    return 0;
}

static void fill_row(struct ap_batch_row *row, const struct ap_push *push, size_t payload_sz, uint64_t received_ns)
{
    row->epoch = push->epoch;
    row->sequence = push->sequence;
    row->start_ns = push->start_ns;
    row->duration_ns = push->duration_ns;
    row->received_ns = received_ns;
    row->bytes = payload_sz;
    row->kind_cnt = push->capture->profile_cnt;
    for (unsigned i = 0; i < row->kind_cnt; i++) {
        const struct ap_profile *profile = push->capture->profiles[i];
        const struct ap_account *account = &push->capture->accounts[i];

        row->kinds[i] = (struct ap_kind_count){
            .kind = profile->kind,
            .events = account->delivered,
            .value = profile_value(profile),
            .lost = ap_account_lost(account),
        };
    }
}

static struct key make_key(const char *agent_id, uint64_t epoch, uint64_t sequence)
{
    struct key key;

    memset(&key, 0, sizeof(key)); /* with what lies between the fields: keys are compared as bytes */
    key.epoch = epoch;
    key.sequence = sequence;
    memcpy(key.agent_id, agent_id, strnlen(agent_id, sizeof(key.agent_id) - 1));
    return key;
}

struct ap_ring_batch *ap_ring_batch_new(const struct ap_push *push, const void *payload, size_t payload_sz,
                                        uint64_t received_ns)
{
    struct ap_ring_batch *batch = calloc(1, sizeof(*batch));

    if (!batch)
        return NULL;
    atomic_init(&batch->refs, 1);
    batch->row.agent_id = strdup(push->agent_id);
    batch->payload = malloc(payload_sz + 1);
    if (!batch->row.agent_id || !batch->payload || copy_labels(push->labels, push->label_cnt, &batch->row.labels))
        return ap_ring_batch_unref(batch);
    batch->row.label_cnt = push->label_cnt;
    memcpy(batch->payload, payload, payload_sz);
    batch->payload_sz = payload_sz;
    batch->key = make_key(push->agent_id, push->epoch, push->sequence);
    fill_row(&batch->row, push, payload_sz, received_ns);

    batch->sz = sizeof(*batch) + payload_sz;
    for (size_t i = 0; i < push->label_cnt; i++)
        batch->sz += sizeof(struct ap_label) + strlen(push->labels[i].name) + strlen(push->labels[i].value) + 2;
    return batch;
}

static struct ap_ring_batch *batch_ref(struct ap_ring_batch *batch)
{
    atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
    return batch;
}

struct ap_ring_batch *ap_ring_batch_unref(struct ap_ring_batch *batch)
{
    if (!batch || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    free(batch->row.agent_id);
    ap_labels_free(batch->row.labels, batch->row.label_cnt);
    free(batch->payload);
    free(batch);
    return NULL;
}

const struct ap_batch_row *ap_ring_batch_row(const struct ap_ring_batch *batch)
{
    return &batch->row;
}

const void *ap_ring_batch_payload(const struct ap_ring_batch *batch, size_t *ret_sz)
{
    *ret_sz = batch->payload_sz;
    return batch->payload;
}

const void *ap_ring_batch_key(const struct ap_ring_batch *batch, size_t *ret_len)
{
    *ret_len = sizeof(batch->key);
    return &batch->key;
}

/* ---- The ring ---- */

struct ap_ring *ap_ring_new(uint64_t max_sz)
{
    struct ap_ring *ring = calloc(1, sizeof(*ring));

    if (ring && pthread_mutex_init(&ring->lock, NULL)) {
        free(ring);
        ring = NULL;
    }
    if (!ring)
        return NULL;
    ring->stats.max_bytes = max_sz;
    ap_map_init(&ring->by_key, AP_RING_BATCHES_MAX);
    return ring;
}

static struct ap_ring_batch *at(const struct ap_ring *ring, size_t i)
{
    return ring->slots[(ring->first + i) & (ring->cap - 1)];
}

static void drop_oldest(struct ap_ring *ring)
{
    struct ap_ring_batch *batch = at(ring, 0);

    ap_map_remove(&ring->by_key, &batch->key, sizeof(batch->key));
    ring->first = (ring->first + 1) & (ring->cap - 1);
    ring->cnt--;
    ring->stats.bytes -= batch->sz;
    ring->stats.dropped++;
    ap_ring_batch_unref(batch);
}

struct ap_ring *ap_ring_free(struct ap_ring *ring)
{
    if (!ring)
        return NULL;
    while (ring->cnt)
        drop_oldest(ring);
    ap_map_done(&ring->by_key);
    free((void *)ring->slots);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
    return NULL;
}

/* Makes room for one more slot. */
static int grow(struct ap_ring *ring)
{
    size_t cap = ring->cap ? ring->cap * 2 : 64;
    struct ap_ring_batch **slots;

    if (ring->cnt < ring->cap)
        return 0;
    slots = calloc(cap, sizeof(struct ap_ring_batch *));
    if (!slots)
        return -ENOMEM;
    for (size_t i = 0; i < ring->cnt; i++)
        slots[i] = at(ring, i);
    free((void *)ring->slots);
    ring->slots = slots;
    ring->cap = cap;
    ring->first = 0;
    return 0;
}

bool ap_ring_add(struct ap_ring *ring, struct ap_ring_batch *batch)
{
    bool added = false;

    pthread_mutex_lock(&ring->lock);
    if (ap_map_get(&ring->by_key, &batch->key, sizeof(batch->key)))
        goto out;
    if (batch->sz > ring->stats.max_bytes) {
        ring->stats.dropped++;
        goto out;
    }
    while (ring->cnt && (ring->stats.bytes + batch->sz > ring->stats.max_bytes || ring->cnt >= AP_RING_BATCHES_MAX))
        drop_oldest(ring);
    if (grow(ring) || ap_map_put(&ring->by_key, &batch->key, sizeof(batch->key), batch)) {
        ring->stats.dropped++;
        goto out;
    }
    ring->slots[(ring->first + ring->cnt++) & (ring->cap - 1)] = batch_ref(batch);
    ring->stats.bytes += batch->sz;
    ring->stats.added++;
    added = true;
out:
    pthread_mutex_unlock(&ring->lock);
    return added;
}

bool ap_ring_has(struct ap_ring *ring, const char *agent_id, uint64_t epoch, uint64_t sequence)
{
    struct key key = make_key(agent_id, epoch, sequence);
    bool found;

    pthread_mutex_lock(&ring->lock);
    found = ap_map_get(&ring->by_key, &key, sizeof(key)) != NULL;
    pthread_mutex_unlock(&ring->lock);
    return found;
}

void ap_ring_stats(struct ap_ring *ring, struct ap_ring_stats *ret_stats)
{
    pthread_mutex_lock(&ring->lock);
    *ret_stats = ring->stats;
    ret_stats->batches = ring->cnt;
    pthread_mutex_unlock(&ring->lock);
}

static bool overlaps(const struct ap_batch_row *row, uint8_t kind, uint64_t from_ns, uint64_t to_ns)
{
    bool found = !kind;

    for (unsigned i = 0; i < row->kind_cnt; i++)
        found |= row->kinds[i].kind == kind;
    /* a batch that covers no time still is at its start */
    return found && row->start_ns < to_ns && (row->start_ns >= from_ns || row->start_ns + row->duration_ns > from_ns);
}

int ap_ring_batches(struct ap_ring *ring, uint8_t kind, uint64_t from_ns, uint64_t to_ns, size_t max,
                    struct ap_ring_batch ***ret_batches, size_t *ret_cnt)
{
    struct ap_ring_batch **found;
    size_t cnt = 0;

    pthread_mutex_lock(&ring->lock);
    found = calloc((ring->cnt < max ? ring->cnt : max) + 1, sizeof(struct ap_ring_batch *));
    for (size_t i = ring->cnt; found && i > 0 && cnt < max; i--)
        if (overlaps(&at(ring, i - 1)->row, kind, from_ns, to_ns))
            found[cnt++] = batch_ref(at(ring, i - 1));
    pthread_mutex_unlock(&ring->lock);
    if (!found)
        return -ENOMEM;
    *ret_batches = found;
    *ret_cnt = cnt;
    return 0;
}

/* ---- Questions ---- */

struct filter {
    const struct ap_selector *selector;
    struct ap_regex *regex[AP_SELECTOR_MATCHERS_MAX]; /* owned; NULL for plain comparisons */
};

static void filter_done(struct filter *filter)
{
    for (size_t i = 0; i < AP_SELECTOR_MATCHERS_MAX; i++)
        ap_regex_free(filter->regex[i]);
}

static int filter_init(struct filter *filter, const struct ap_selector *selector, struct ap_error *err)
{
    static const char *const of_series[] = {"pid", "comm", "exe", "container"};

    *filter = (struct filter){.selector = selector};
    if (selector->function && *selector->function)
        return ap_error_set(err, -EINVAL, "batches cannot be chosen by function: ask the storage");
    for (size_t i = 0; i < selector->matcher_cnt; i++) {
        const struct ap_matcher *matcher = &selector->matchers[i];

        for (size_t j = 0; j < sizeof(of_series) / sizeof(of_series[0]); j++)
            if (!strcmp(matcher->label, of_series[j]))
                return ap_error_set(err, -EINVAL,
                                    "batches cannot be chosen by %s, each holds many: use host, service, agent or "
                                    "a label of the agent's, or ask the storage",
                                    matcher->label);
        if (matcher->op != AP_MATCH_REGEX && matcher->op != AP_MATCH_NOT_REGEX)
            continue;
        filter->regex[i] = ap_regex_new(matcher->value, true, err);
        if (!filter->regex[i]) {
            filter_done(filter);
            return err->code;
        }
    }
    return 0;
}

static const char *label_value(const struct ap_batch_row *row, const char *name)
{
    if (!strcmp(name, "agent"))
        return row->agent_id;
    for (size_t i = 0; i < row->label_cnt; i++)
        if (!strcmp(row->labels[i].name, name))
            return row->labels[i].value;
    return ""; /* as selectors have it */
}

/* 1, 0, or a negative errno with words. */
static int matches(const struct filter *filter, const struct ap_batch_row *row, struct ap_error *err)
{
    for (size_t i = 0; i < filter->selector->matcher_cnt; i++) {
        const struct ap_matcher *matcher = &filter->selector->matchers[i];
        const char *value = label_value(row, matcher->label);
        bool negative = matcher->op == AP_MATCH_NOT_EQUAL || matcher->op == AP_MATCH_NOT_REGEX;
        int fits = filter->regex[i] ? ap_regex_match(filter->regex[i], value, err) : !strcmp(value, matcher->value);

        if (fits < 0)
            return fits;
        if (!fits != negative)
            return 0;
    }
    return 1;
}

static int copy_row(const struct ap_batch_row *from, struct ap_batch_row *ret_row)
{
    struct ap_batch_row row = *from;

    row.agent_id = strdup(from->agent_id);
    if (!row.agent_id || copy_labels(from->labels, from->label_cnt, &row.labels)) {
        free(row.agent_id);
        return -ENOMEM;
    }
    *ret_row = row;
    return 0;
}

static int fill_answer(const struct filter *filter, struct ap_ring_batch *const *batches, size_t cnt, size_t limit,
                       struct ap_batches_answer *answer, struct ap_error *err)
{
    int rc;

    answer->rows = calloc((limit < cnt ? limit : cnt) + 1, sizeof(*answer->rows));
    if (!answer->rows)
        return ap_error_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < cnt && answer->row_cnt < limit; i++) {
        rc = matches(filter, &batches[i]->row, err);
        if (rc < 0)
            return rc;
        if (rc && copy_row(&batches[i]->row, &answer->rows[answer->row_cnt]))
            return ap_error_set(err, -ENOMEM, "out of memory");
        answer->row_cnt += (size_t)rc;
    }
    return 0;
}

int ap_ring_query(struct ap_ring *ring, const struct ap_selector *selector, size_t limit,
                  struct ap_batches_answer *ret_answer, struct ap_error *err)
{
    uint64_t to_ns = selector->to_ns ? selector->to_ns : UINT64_MAX;
    struct ap_batches_answer answer = {0};
    struct ap_ring_batch **batches;
    struct ap_ring_stats stats;
    struct ap_error own = {0};
    struct filter filter;
    size_t cnt, i;
    int rc;

    err = err ? err : &own;
    limit = limit ? limit : AP_RING_LIMIT;
    if (limit > AP_RING_LIMIT_MAX)
        return ap_error_set(err, -E2BIG, "limit %zu: at most %d batches", limit, AP_RING_LIMIT_MAX);
    rc = filter_init(&filter, selector, err);
    if (rc)
        return rc;
    rc = ap_ring_batches(ring, selector->kind, selector->from_ns, to_ns, AP_RING_BATCHES_MAX, &batches, &cnt);
    if (rc) {
        ap_error_set(err, rc, "out of memory");
    } else {
        rc = fill_answer(&filter, batches, cnt, limit, &answer, err); /* without the lock: expressions take time */
        for (i = 0; i < cnt; i++)
            ap_ring_batch_unref(batches[i]);
        free((void *)batches);
    }
    filter_done(&filter);
    if (rc) {
        ap_batches_answer_done(&answer);
        return rc;
    }
    ap_ring_stats(ring, &stats);
    answer.dropped = stats.dropped;
    *ret_answer = answer;
    return 0;
}
