/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef APERTURE_SYMBOL_CONFINE_H
#define APERTURE_SYMBOL_CONFINE_H

/* Takes from this process what reading symbols does not need: the root user, and every capability but
 * CAP_DAC_READ_SEARCH (executables that only their owner may read) and CAP_SYSLOG (kernel addresses), as far as they
 * were there; none comes back by exec. What cannot be given up is kept. For single-threaded processes. */
void ap_confine(void);

#endif
