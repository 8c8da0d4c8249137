/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Sends batches to the aggregator: encodes them, spools them, and sends them in order until each is acknowledged. Two
 * threads of its own, so that neither disk nor network ever holds up the recording. */
#ifndef APERTURE_AGENT_PUSHER_H
#define APERTURE_AGENT_PUSHER_H

#include "agent/spool.h"
#include "core/error.h"
#include "model/push.h"
#include "rpc/rpc.h"

#include <stdbool.h>
#include <stdint.h>

/* Batches that wait to be encoded. One past it is dropped and counted: the disk is slower than the agent. */
#define AP_PUSHER_QUEUE_MAX 8
/* How long one call may take, and how long the sender waits after failures: doubled from the first to the second, each
 * time by chance between half and all of it. */
#define AP_PUSHER_TIMEOUT_NS     30000000000ULL
#define AP_PUSHER_BACKOFF_MIN_NS 250000000ULL
#define AP_PUSHER_BACKOFF_MAX_NS 30000000000ULL
/* Longest pause that a server can ask for. */
#define AP_PUSHER_PAUSE_MAX_NS 60000000000ULL

struct ap_pusher_opts {
    const char *endpoint; /* "http://host:50051", "https://..." */
    struct ap_rpc_tls tls;
    const char *token;    /* NULL = none */
    const char *agent_id; /* valid, see ap_push_agent_id_valid() */
    const char *spool_dir;
    uint64_t spool_sz;
};

struct ap_pusher; /* opaque */

/* Opens the spool and starts sending what waits there. Starts threads: call after everything that forks. The strings
 * are borrowed and must outlive it. NULL with words. */
struct ap_pusher *ap_pusher_new(const struct ap_pusher_opts *opts, struct ap_error *err);

/* Hands a batch over (it is freed here in any case); its numbers and spool figures are filled in. Never waits. One
 * thread. */
void ap_pusher_add(struct ap_pusher *pusher, struct ap_push *push);

struct ap_pusher_stats {
    struct ap_spool_stats spool;
    uint64_t sent, duplicates, failures;          /* calls: acknowledged, of these known before, failed */
    uint64_t unencoded_batches, unencoded_events; /* dropped before they reached the spool */
};
/* Any thread. */
void ap_pusher_stats(struct ap_pusher *pusher, struct ap_pusher_stats *ret_stats);

/* Waits until everything is acknowledged, at most `timeout_ns`. 0, or -ETIMEDOUT with words: how much waits, where, and
 * why. */
int ap_pusher_flush(struct ap_pusher *pusher, uint64_t timeout_ns, struct ap_error *err);

/* Ends the threads; what was not acknowledged stays on disk. Accepts NULL. Returns NULL. */
struct ap_pusher *ap_pusher_free(struct ap_pusher *pusher);

/* An id of this machine that stays the same: from /etc/machine-id (hashed: the number itself is not to be told), else
 * the host name. `ret_id`: AP_PUSH_AGENT_ID_SZ bytes. */
void ap_pusher_default_id(char *ret_id);

#endif
