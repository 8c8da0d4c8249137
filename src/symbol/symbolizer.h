/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Addresses to functions, by blazesym in a process of its own: ELF and DWARF of profiled programs are hostile
 * input, and a file may be cut while it is mapped. Whatever kills or hangs that process costs the names of
 * one file. */
#ifndef APERTURE_SYMBOL_SYMBOLIZER_H
#define APERTURE_SYMBOL_SYMBOLIZER_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds: addresses a request, functions inlined at one address, bytes of one name, time for one request, and
 * private memory of the worker. A file that needs more has no names (reason "budget"). */
#define AP_SYMBOL_CHUNK      1024
#define AP_SYMBOL_INLINE_MAX 64
#define AP_SYMBOL_NAME_MAX   16384
#define AP_SYMBOL_TIMEOUT_NS 60000000000ULL
#define AP_SYMBOL_MEMORY_SZ  (2ULL << 30)

struct ap_symbol_frame {
    const char *function; /* demangled */
    const char *file;     /* source path, "" when unknown */
    const char *module;   /* kernel: name of the module, "" for the kernel itself; "" for files */
    uint32_t line;        /* 0 = unknown */
    bool inlined;
};

/* What the addresses of a request are. */
enum ap_symbol_what {
    AP_SYMBOL_CODE = 0,     /* offsets in an ELF file */
    AP_SYMBOL_VARIABLE = 1, /* addresses as an ELF file numbers them (ap_elf_bias): the objects there */
    AP_SYMBOL_KERNEL = 2,   /* addresses in the kernel */
};

struct ap_symbolizer; /* opaque; not thread-safe */

/* Called once per address, in any order: `frames` innermost function first, the last one not inlined; `cnt` 0
 * when the address has no name, then `reason` is an enum ap_unresolved_reason other than 0. A variable has one frame,
 * whose function is "NAME" or "NAME+0xOFFSET". Valid during the call, which must not use the symbolizer. */
typedef void (*ap_symbol_fn)(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason);

struct ap_symbol_request {
    uint8_t what;          /* enum ap_symbol_what */
    bool same_file;        /* the file of the last request that had one: what was read of it can be used again */
    int fd;                /* the file; borrowed during the call. Not for the kernel */
    const uint64_t *addrs; /* borrowed during the call */
    size_t cnt;            /* 1 .. AP_SYMBOL_CHUNK */
    ap_symbol_fn fn;
    void *ctx;
};

/* Starts the worker. Call before there are threads. NULL with words on failure. */
struct ap_symbolizer *ap_symbolizer_new(struct ap_error *err);

/* Ends the worker; a request under way is dropped. Accepts NULL. Returns NULL. */
struct ap_symbolizer *ap_symbolizer_free(struct ap_symbolizer *symbolizer);

/* Asks for names; one request at a time. The worker is started when it is not there. Never blocks, and never calls
 * `fn`: follow it with ap_symbolizer_take, which may have an answer at once. */
void ap_symbolizer_submit(struct ap_symbolizer *symbolizer, const struct ap_symbol_request *request);

/* True between submit and the take that ends the request. */
bool ap_symbolizer_busy(const struct ap_symbolizer *symbolizer);

/* A descriptor that polls as readable when ap_symbolizer_take has something to do; the same one all the time. A request
 * that takes too long does not show there: call take every now and then. */
int ap_symbolizer_fd(const struct ap_symbolizer *symbolizer);

/* Takes in what the worker has sent, without blocking; `now_ns`: CLOCK_MONOTONIC. When the reply is complete and sound,
 * `fn` is called for each address, and 1 is returned. 0: nothing ended. Negative errno: the request failed, and `fn`
 * was called for each address with one reason: -ETIMEDOUT (AP_SYMBOL_TIMEOUT_NS are over; reason "budget"), -EAGAIN (no
 * worker could be started; likewise), else the worker died or talked nonsense ("bad_file", of the kernel
 * "kernel_symbol"). */
int ap_symbolizer_take(struct ap_symbolizer *symbolizer, uint64_t now_ns);

/* Blocks until ap_symbolizer_take has something to do, a time-out included; returns at once when nothing is asked. */
void ap_symbolizer_wait(const struct ap_symbolizer *symbolizer);

/* Lets the worker close the file it has open. Not while a request is under way. */
void ap_symbolizer_forget(struct ap_symbolizer *symbolizer);

/* CPU time used by workers, ns; by the one that runs, so far. */
uint64_t ap_symbolizer_cpu_ns(const struct ap_symbolizer *symbolizer);
/* Ends the worker now; it starts again when it is needed. A request under way is dropped: `fn` is not called. */
void ap_symbolizer_stop(struct ap_symbolizer *symbolizer);
/* Requests that ended in a crash or a timeout. */
uint64_t ap_symbolizer_failures(const struct ap_symbolizer *symbolizer);

#endif
