/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Decoders from foreign bytes to a capture. The bytes are hostile: everything in them is checked, and what they may
 * cost is bounded. */
#ifndef APERTURE_FORMAT_IMPORT_H
#define APERTURE_FORMAT_IMPORT_H

#include "core/error.h"
#include "model/capture.h"

#include <stddef.h>
#include <stdint.h>

/* Bounds; what is past them is refused with -E2BIG. Tables are bound by model/profile.h. */
#define AP_IMPORT_SZ          (64u << 20)  /* as it comes */
#define AP_IMPORT_UNPACKED_SZ (128u << 20) /* out of gzip */
/* Frame indices of all stacks: short trees can stand for very many. */
#define AP_IMPORT_STACK_FRAMES_MAX (32u << 20)
/* Strings, functions, locations, lines, mappings of a pprof, each. */
#define AP_IMPORT_ROWS_MAX (8u << 20)

enum ap_import_format {
    AP_IMPORT_ANY = 0,       /* told by its first bytes */
    AP_IMPORT_JSON = 1,      /* the document that the agent writes */
    AP_IMPORT_PPROF = 2,     /* profile.proto */
    AP_IMPORT_COLLAPSED = 3, /* "thread;outermost;...;leaf N" */
};

struct ap_import_opts {
    uint8_t kind;         /* enum ap_event_kind; 0 = as the document says (collapsed: cpu) */
    uint64_t start_ns;    /* since the epoch, for documents that do not say when; others keep their own */
    uint64_t duration_ns; /* likewise */
    uint64_t period_ns;   /* collapsed, kind cpu: CPU time that one sample stands for; 0 = 1/99 s */
};

/* "json", "pprof", "collapsed", "any" to the format. 0, or -EINVAL with the names there are. */
int ap_import_format_from_name(const char *name, enum ap_import_format *ret_format, struct ap_error *err);

/* Decodes `len` bytes, in gzip or not. Stacks longer than AP_STACK_FRAMES_MAX lose their outermost frames and are
 * marked as truncated. Collapsed stacks have the thread name as their first name. The capture's account is the
 * document's own, or says that everything was delivered. The caller's capture; NULL with words: -EINVAL (malformed:
 * what and where; or no kind of ours), -E2BIG (a bound), -ENOMEM. Any thread. */
struct ap_capture *ap_import(enum ap_import_format format, const void *data, size_t len,
                             const struct ap_import_opts *opts, struct ap_error *err);

#endif
