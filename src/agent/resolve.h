/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Gives names to what was collected and completes the profile; what has none is kept and accounted for. */
#ifndef APERTURE_AGENT_RESOLVE_H
#define APERTURE_AGENT_RESOLVE_H

#include "agent/collect.h"
#include "symbol/symbolizer.h"

/* Turns the traces of `collect` into stacks and samples of its profile, which moves into `capture`. Each
 * sample is worth `period_ns`. Fills capture's counts of frames and its diagnosis, and adds samples that hit
 * a bound of the profile to its losses. 0 or -ENOMEM. */
int ap_resolve(struct ap_collect *collect, struct ap_modules *modules, struct ap_symbolizer *symbolizer,
               uint64_t period_ns, struct ap_capture *capture);

#endif
