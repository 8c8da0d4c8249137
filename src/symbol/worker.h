/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Protocol between the symbolizer and its worker, over a stream socket; and the worker's loop. Private to
 * src/symbol. Both ends are the same program, so the structs travel as they are. */
#ifndef APERTURE_SYMBOL_WORKER_H
#define APERTURE_SYMBOL_WORKER_H

#include <stddef.h>
#include <stdint.h>

enum ap_worker_request_kind {
    AP_WORKER_CODE = 1,     /* offsets in a file */
    AP_WORKER_VARIABLE = 2, /* addresses of variables of a file */
    AP_WORKER_KERNEL = 3,   /* kernel addresses */
    AP_WORKER_FORGET = 4,   /* closes the file; has no addresses and no reply */
};

/* `cnt` addresses (u64) follow. A descriptor that comes along is a new file; without one the last file is meant. */
struct ap_worker_request {
    uint32_t kind, cnt;
};

/* Most bytes of one reply, its head included: a chunk of addresses with all their inlined functions at full length
 * never gets here. */
#define AP_WORKER_REPLY_SZ_MAX (64u << 20)

/* `sz` bytes follow: for each address, in order, its names. */
struct ap_worker_reply {
    uint32_t sz;
};

/* Names of one address; `frame_cnt` frames follow. */
struct ap_worker_names {
    uint8_t reason; /* 0 when there are frames, and only then */
    uint8_t frame_cnt;
};

/* Three texts follow, each with a NUL that its length leaves out. */
struct ap_worker_frame {
    uint32_t line;
    uint16_t function_len, file_len, module_len;
    uint8_t inlined;
};

/* Reads and writes all of `len`; EINTR is handled. 0, -EPIPE when the other side is gone, or negative errno.
 */
int ap_worker_read(int sock, void *data, size_t len);
int ap_worker_write(int sock, const void *data, size_t len);

/* Serves requests until the other side closes. The exit status of the process. */
int ap_worker_run(int sock);

#endif
