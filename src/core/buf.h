/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Growable byte buffer with a declared maximum and a sticky error. Not thread-safe. */
#ifndef APERTURE_CORE_BUF_H
#define APERTURE_CORE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct ap_buf {
    char *data; /* owned; NUL-terminated past `len` once anything was appended */
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
    size_t max; /* `len` never exceeds this */
    int error;  /* first failure: -ENOSPC (max reached) or -ENOMEM; 0 while all is well */
};

/* Makes an empty buffer that holds at most `max` bytes; allocates nothing yet. */
void ap_buf_init(struct ap_buf *buf, size_t max);

/* Frees the contents; the struct may be initialised again. Accepts NULL and a zeroed struct. */
void ap_buf_done(struct ap_buf *buf);

/* Forgets contents and error, keeps the memory. */
void ap_buf_reset(struct ap_buf *buf);

/* Appends. After the first failure these append nothing more and return the sticky error, so a caller may check once
 * at the end. A failed append leaves what was there before untouched. 0, -ENOSPC or -ENOMEM. */
int ap_buf_append(struct ap_buf *buf, const void *data, size_t len);
int ap_buf_str(struct ap_buf *buf, const char *str);
int ap_buf_char(struct ap_buf *buf, char c);
int ap_buf_printf(struct ap_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes room for `len` more bytes and returns where they go (add to buf->len yourself), or NULL with buf->error set. */
void *ap_buf_reserve(struct ap_buf *buf, size_t len);

#endif
