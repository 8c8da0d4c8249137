/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storage/seen.h"

#include "model/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct range {
    uint64_t first, last;
};

struct epoch {
    struct key {
        uint64_t epoch;
        char agent[AP_PUSH_AGENT_ID_SZ];
    } key;
    size_t key_len;
    uint64_t used;        /* reading of the clock */
    uint64_t unknown_to;  /* sequences up to here that no range holds are not known */
    struct range *ranges; /* owned; ascending, apart */
    size_t range_cnt;
};

void ap_seen_init(struct ap_seen *seen)
{
    *seen = (struct ap_seen){0};
    ap_map_init(&seen->epochs, AP_SEEN_EPOCHS_MAX);
}

static void epoch_free(struct epoch *epoch)
{
    free(epoch->ranges);
    free(epoch);
}

void ap_seen_done(struct ap_seen *seen)
{
    struct epoch *epoch;
    size_t pos = 0;

    while ((epoch = ap_map_next(&seen->epochs, &pos)) != NULL)
        epoch_free(epoch);
    ap_map_done(&seen->epochs);
}

static size_t make_key(struct key *key, const char *agent, uint64_t epoch)
{
    size_t len = strnlen(agent, sizeof(key->agent) - 1);

    key->epoch = epoch;
    memcpy(key->agent, agent, len);
    return sizeof(key->epoch) + len;
}

static struct epoch *find(struct ap_seen *seen, const char *agent, uint64_t epoch)
{
    struct key key;
    size_t len = make_key(&key, agent, epoch);
    struct epoch *found = ap_map_get(&seen->epochs, &key, len);

    if (found != NULL)
        found->used = ++seen->clock;
    return found;
}

static void forget_oldest(struct ap_seen *seen)
{
    struct epoch *epoch, *oldest = NULL;
    size_t pos = 0;

    while ((epoch = ap_map_next(&seen->epochs, &pos)) != NULL) {
        if (oldest == NULL || epoch->used < oldest->used)
            oldest = epoch;
    }
    if (oldest == NULL)
        return;
    ap_map_remove(&seen->epochs, &oldest->key, oldest->key_len);
    epoch_free(oldest);
    seen->forgotten++;
}

/* NULL without memory. */
static struct epoch *make(struct ap_seen *seen, const char *agent, uint64_t number)
{
    struct epoch *epoch = calloc(1, sizeof(*epoch));

    if (epoch == NULL)
        return NULL;
    epoch->key_len = make_key(&epoch->key, agent, number);
    epoch->used = ++seen->clock;
    epoch->unknown_to = UINT64_MAX; /* until the table was asked */
    epoch->ranges = calloc(AP_SEEN_RANGES_MAX, sizeof(*epoch->ranges));
    if (seen->epochs.cnt == AP_SEEN_EPOCHS_MAX)
        forget_oldest(seen);
    if (epoch->ranges == NULL || ap_map_put(&seen->epochs, &epoch->key, epoch->key_len, epoch) != 0) {
        epoch_free(epoch);
        return NULL;
    }
    return epoch;
}

bool ap_seen_has(struct ap_seen *seen, const char *agent, uint64_t number)
{
    return find(seen, agent, number) != NULL;
}

enum ap_seen_answer ap_seen_ask(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t sequence)
{
    const struct epoch *epoch = find(seen, agent, number);

    if (epoch == NULL)
        return AP_SEEN_UNKNOWN;
    for (size_t i = epoch->range_cnt; i-- > 0;) {
        if (sequence >= epoch->ranges[i].first && sequence <= epoch->ranges[i].last)
            return AP_SEEN_YES;
    }
    return sequence <= epoch->unknown_to ? AP_SEEN_UNKNOWN : AP_SEEN_NO;
}

static void remove_range(struct epoch *epoch, size_t i)
{
    epoch->range_cnt--;
    memmove(epoch->ranges + i, epoch->ranges + i + 1, (epoch->range_cnt - i) * sizeof(*epoch->ranges));
}

/* Ranges that meet or overlap with their successor become one. */
static void join(struct epoch *epoch)
{
    for (size_t i = epoch->range_cnt; i-- > 1;) {
        struct range *below = &epoch->ranges[i - 1];

        if (epoch->ranges[i].first > below->last && epoch->ranges[i].first - below->last > 1)
            continue;
        if (epoch->ranges[i].last > below->last)
            below->last = epoch->ranges[i].last;
        remove_range(epoch, i);
    }
}

static void add_range(struct ap_seen *seen, struct epoch *epoch, uint64_t first, uint64_t last)
{
    size_t i = epoch->range_cnt;

    /* Most come in order. */
    if (i > 0 && first > 0 && epoch->ranges[i - 1].last == first - 1) {
        epoch->ranges[i - 1].last = last;
        return;
    }
    if (epoch->range_cnt == AP_SEEN_RANGES_MAX) {
        if (epoch->unknown_to < epoch->ranges[0].last)
            epoch->unknown_to = epoch->ranges[0].last;
        remove_range(epoch, 0);
        seen->forgotten++;
    }
    for (i = epoch->range_cnt; i > 0 && epoch->ranges[i - 1].first > first; i--)
        ;
    memmove(epoch->ranges + i + 1, epoch->ranges + i, (epoch->range_cnt - i) * sizeof(*epoch->ranges));
    epoch->ranges[i] = (struct range){first, last};
    epoch->range_cnt++;
    join(epoch);
}

int ap_seen_add(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t sequence)
{
    struct epoch *epoch = find(seen, agent, number);

    if (epoch == NULL)
        epoch = make(seen, agent, number);
    if (epoch == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < epoch->range_cnt; i++) {
        if (sequence >= epoch->ranges[i].first && sequence <= epoch->ranges[i].last)
            return 0;
    }
    add_range(seen, epoch, sequence, sequence);
    return 0;
}

int ap_seen_load(struct ap_seen *seen, const char *agent, uint64_t number, uint64_t min, uint64_t max, uint64_t cnt)
{
    struct epoch *epoch = find(seen, agent, number);

    if (epoch != NULL) /* it knows more */
        return 0;
    epoch = make(seen, agent, number);
    if (epoch == NULL)
        return -ENOMEM;
    epoch->unknown_to = 0;
    if (cnt > 0 && max - min == cnt - 1) /* no gaps */
        add_range(seen, epoch, min, max);
    else if (cnt > 0)
        epoch->unknown_to = max;
    return 0;
}
