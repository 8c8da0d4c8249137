/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Gives names to what was collected and completes the profile; what has none is kept and accounted for. */
#ifndef APERTURE_AGENT_RESOLVE_H
#define APERTURE_AGENT_RESOLVE_H

#include "agent/collect.h"
#include "agent/names.h"

/* Puts every place of `collect` on the list of `names`: several collects are best listed before one is resolved, so
 * that each file is read once. */
void ap_resolve_want(struct ap_collect *collect, struct ap_names *names);

/* Turns the traces of a span into stacks and samples of collect->profile, whose start_ns is set; those with a count, or
 * wanted ones where the owner adds the samples. Names on the list are waited for at the end of the recording; else
 * traces with such names are held for the next span. Adds to the capture's counts of frames and its diagnosis, and to
 * the account what was delivered and what hit a bound of the profile. 0 or -ENOMEM. */
int ap_resolve(struct ap_collect *collect, struct ap_modules *modules, struct ap_names *names,
               const struct ap_span *span, struct ap_capture *capture, struct ap_account *account);

#endif
