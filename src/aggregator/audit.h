/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The audit log: a line for every refused call and every change. A peer that floods it gets a line a second; what is
 * left out is counted. */
#ifndef APERTURE_AGGREGATOR_AUDIT_H
#define APERTURE_AGGREGATOR_AUDIT_H

#include <stdint.h>

#define AP_AUDIT_PEERS_MAX                                                                                             \
    1024 /* pairs of address and token whose lines are counted at once; two that share a place share its lines */
#define AP_AUDIT_BURST   10  /* lines that a peer may cause at once with one token, or none; then one a second */
#define AP_AUDIT_TOTAL   200 /* likewise of all peers together, then as many a second: the disk does not fill */
#define AP_AUDIT_PEER_SZ 96  /* of a peer's address without its port, with terminator; cut */

struct ap_audit; /* opaque; any thread */

/* NULL when out of memory. */
struct ap_audit *ap_audit_new(void);
/* Accepts NULL. Returns NULL. */
struct ap_audit *ap_audit_free(struct ap_audit *audit);

/* A call that was refused: by whom it was made (token's name or "-"), from where, what, and why. */
void ap_audit_refused(struct ap_audit *audit, const char *who, const char *peer, const char *what, const char *reason);
/* A change that was made; never left out. */
void ap_audit_change(struct ap_audit *audit, const char *who, const char *peer, const char *what, const char *detail);

struct ap_audit_stats {
    uint64_t refused, changes, suppressed; /* suppressed: refused calls without a line */
};
void ap_audit_stats(struct ap_audit *audit, struct ap_audit_stats *ret_stats);

/* The peer's address without its port ("ipv4:127.0.0.1:40000" -> "127.0.0.1"). Returns `buf`. */
char *ap_audit_peer(const char *peer, char buf[AP_AUDIT_PEER_SZ]);

#endif
