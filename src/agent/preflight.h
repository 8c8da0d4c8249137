/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What must be there before a capture: privileges, kernel features, the processes asked for. Each missing
 * thing is named with what to do about it. */
#ifndef APERTURE_AGENT_PREFLIGHT_H
#define APERTURE_AGENT_PREFLIGHT_H

#include "core/error.h"

#include <stddef.h>
#include <stdint.h>

/* Checks capabilities, BTF, perf events and the ring buffer map. Warns (log) about capabilities without which
 * names will be missing. 0, -EPERM or -EOPNOTSUPP with words. */
int ap_preflight_system(struct ap_error *err);

/* Opens a pidfd for each process. 0 with `cnt` descriptors in ret_fds for the caller to close, or -ESRCH and
 * others with words (none is left open then). */
int ap_preflight_pids(const uint32_t *pids, size_t cnt, int *ret_fds, struct ap_error *err);

/* Raises the number of open files to what the system allows: each profiled executable is pinned by one. */
void ap_preflight_raise_files(void);

#endif
