/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Protocol between the symbolizer and its worker, over a stream socket; and the worker's loop. Private to
 * src/symbol. Both ends are the same program, so the structs travel as they are. */
#ifndef APERTURE_SYMBOL_WORKER_H
#define APERTURE_SYMBOL_WORKER_H

#include <stddef.h>
#include <stdint.h>

enum ap_worker_request_kind {
    AP_WORKER_FILE = 1,   /* a new file: its descriptor comes with the request */
    AP_WORKER_MORE = 2,   /* more offsets of the same file */
    AP_WORKER_KERNEL = 3, /* kernel addresses */
};

struct ap_worker_request {
    uint32_t kind, cnt; /* `cnt` addresses (u64) follow */
};

/* One reply per address, in order; `frame_cnt` frames follow. */
struct ap_worker_reply {
    uint8_t reason;
    uint8_t frame_cnt;
};

/* `function_len`, `file_len` and `module_len` bytes follow, without terminators. */
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
