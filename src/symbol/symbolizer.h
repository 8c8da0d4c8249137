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

struct ap_symbolizer; /* opaque; not thread-safe */

/* Called once per address, in any order: `frames` innermost function first, the last one not inlined; `cnt` 0
 * when the address has no name, then `reason` is an enum ap_unresolved_reason. Valid during the call. */
typedef void (*ap_symbol_fn)(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason);

/* Starts the worker. Call before there are threads. NULL with words on failure. */
struct ap_symbolizer *ap_symbolizer_new(struct ap_error *err);

/* Ends the worker. Accepts NULL. Returns NULL. */
struct ap_symbolizer *ap_symbolizer_free(struct ap_symbolizer *symbolizer);

/* Names `cnt` file offsets of the ELF file at `fd` (borrowed). `fn` is called for each one, whatever happens.
 * 0, or negative errno when no worker could be started (then each address was reported with reason "budget").
 */
int ap_symbolizer_file(struct ap_symbolizer *symbolizer, int fd, const uint64_t *offsets, size_t cnt, ap_symbol_fn fn,
                       void *ctx);

/* Names `cnt` kernel addresses; likewise. */
int ap_symbolizer_kernel(struct ap_symbolizer *symbolizer, const uint64_t *addrs, size_t cnt, ap_symbol_fn fn,
                         void *ctx);

/* CPU time used by workers that have ended, ns: add it after ap_symbolizer_stop. */
uint64_t ap_symbolizer_cpu_ns(const struct ap_symbolizer *symbolizer);
/* Ends the worker now; it starts again when it is needed. */
void ap_symbolizer_stop(struct ap_symbolizer *symbolizer);
/* Requests that ended in a crash or a timeout. */
uint64_t ap_symbolizer_failures(const struct ap_symbolizer *symbolizer);

#endif
