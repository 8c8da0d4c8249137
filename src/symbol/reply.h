/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Replies of the symbolizer's worker, which may be in the hands of whoever made the file that it reads. */
#ifndef APERTURE_SYMBOL_REPLY_H
#define APERTURE_SYMBOL_REPLY_H

#include "symbol/symbolizer.h"

/* Goes through the `len` bytes behind the head of a reply about `cnt` addresses, and calls `fn` for each one up to the
 * first that makes no sense; the texts lie in `data`. `fn` NULL: only to see whether all of it is sound. 0, or -EBADMSG
 * when it is not, or when bytes are left over. Any thread. */
int ap_reply_read(const char *data, size_t len, size_t cnt, ap_symbol_fn fn, void *ctx);

#endif
