/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/audit.h"

#include "core/clock.h"
#include "core/log.h"

#include <ctype.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lines that may still be written: filled at a steady rate up to a burst. */
struct bucket {
    uint64_t filled_ns; /* when it was last filled; 0 = never */
    uint64_t level;     /* whole lines */
};

struct place {
    struct bucket bucket;
    uint64_t suppressed; /* since its last line */
};

struct ap_audit {
    pthread_mutex_t lock;
    struct place places[AP_AUDIT_PEERS_MAX];
    struct bucket all;
    struct ap_audit_stats stats;
};

struct ap_audit *ap_audit_new(void)
{
    struct ap_audit *audit = (struct ap_audit *)calloc(1, sizeof(*audit));

    if (audit && pthread_mutex_init(&audit->lock, NULL)) {
        free(audit);
        audit = NULL;
    }
    return audit;
}

struct ap_audit *ap_audit_free(struct ap_audit *audit)
{
    if (!audit)
        return NULL;
    pthread_mutex_destroy(&audit->lock);
    free(audit);
    return NULL;
}

static bool bucket_take(struct bucket *bucket, uint64_t now_ns, uint64_t burst, uint64_t per_second)
{
    uint64_t add;

    if (!bucket->filled_ns) {
        bucket->filled_ns = now_ns;
        bucket->level = burst;
    }
    add = (now_ns - bucket->filled_ns) / (AP_NS_PER_SEC / per_second);
    if (add) {
        bucket->filled_ns = now_ns;
        bucket->level = add > burst - bucket->level ? burst : bucket->level + add;
    }
    if (!bucket->level)
        return false;
    bucket->level--;
    return true;
}

char *ap_audit_peer(const char *peer, char buf[AP_AUDIT_PEER_SZ])
{
    const char *end, *colon;

    if (!strncmp(peer, "ipv4:", 5) || !strncmp(peer, "ipv6:", 5))
        peer += 5;
    end = peer + strlen(peer);
    colon = strrchr(peer, ':');
    if (colon && isdigit((unsigned char)colon[1]) &&
        (strchr(peer, ':') == colon || colon[-1] == ']' || (colon - peer > 3 && !strncmp(colon - 3, "%5D", 3))))
        end = colon;
    snprintf(buf, AP_AUDIT_PEER_SZ, "%.*s", (int)(end - peer), peer);
    return buf;
}

/* FNV-1a */
static uint32_t hash_text(uint32_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash * 16777619u;
}

/* By token too: guesses do not hide what somebody with a token tried from the same address. */
static struct place *place_of(struct ap_audit *audit, const char *peer, const char *who)
{
    return &audit->places[hash_text(hash_text(2166136261u, peer), who) % AP_AUDIT_PEERS_MAX];
}

void ap_audit_refused(struct ap_audit *audit, const char *who, const char *peer, const char *what, const char *reason)
{
    uint64_t now_ns = ap_clock_monotonic_ns(), left_out = 0;
    char name[AP_AUDIT_PEER_SZ], more[64] = "";
    struct place *place;
    bool write;

    ap_audit_peer(peer, name);
    pthread_mutex_lock(&audit->lock);
    place = place_of(audit, name, who);
    audit->stats.refused++;
    write = bucket_take(&place->bucket, now_ns, AP_AUDIT_BURST, 1) &&
            bucket_take(&audit->all, now_ns, AP_AUDIT_TOTAL, AP_AUDIT_TOTAL);
    if (write) {
        left_out = place->suppressed;
        place->suppressed = 0;
    } else {
        place->suppressed++;
        audit->stats.suppressed++;
    }
    pthread_mutex_unlock(&audit->lock);

    if (!write)
        return;
    if (left_out)
        snprintf(more, sizeof(more), " (and %" PRIu64 " more that were not logged)", left_out);
    ap_log_warn("audit: refused %s from %s, token %s: %s%s", what, peer, who, reason, more);
}

void ap_audit_change(struct ap_audit *audit, const char *who, const char *peer, const char *what, const char *detail)
{
    pthread_mutex_lock(&audit->lock);
    audit->stats.changes++;
    pthread_mutex_unlock(&audit->lock);
    ap_log_info("audit: %s from %s, token %s%s%s", what, peer, who, detail && *detail ? ": " : "",
                detail ? detail : "");
}

void ap_audit_stats(struct ap_audit *audit, struct ap_audit_stats *ret_stats)
{
    pthread_mutex_lock(&audit->lock);
    *ret_stats = audit->stats;
    pthread_mutex_unlock(&audit->lock);
}
