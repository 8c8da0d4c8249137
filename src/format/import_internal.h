/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the decoders: what they share. */
#ifndef APERTURE_FORMAT_IMPORT_INTERNAL_H
#define APERTURE_FORMAT_IMPORT_INTERNAL_H

#include "format/import.h"
#include "format/json_read.h"

#include <stdbool.h>

/* The decoders: unpacked bytes into an empty capture. 0, -EINVAL, -E2BIG or -ENOMEM; with words. */
int ap_import_json(struct ap_capture *capture, const char *data, size_t len, const struct ap_import_opts *opts,
                   struct ap_error *err);
int ap_import_pprof(struct ap_capture *capture, const unsigned char *data, size_t len,
                    const struct ap_import_opts *opts, struct ap_error *err);
int ap_import_collapsed(struct ap_capture *capture, const char *data, size_t len, const struct ap_import_opts *opts,
                        struct ap_error *err);

/* Adds an empty profile of the kind. NULL with words: -ENOMEM, or -EINVAL when there is one. */
struct ap_profile *ap_import_profile(struct ap_capture *capture, uint8_t kind, struct ap_error *err);
/* Words for what ap_profile_add_*() answered. Returns `rc` (-ENOSPC becomes -E2BIG). */
int ap_import_refused(int rc, struct ap_error *err);

/* A stack being put together, outermost frame first. */
struct ap_import_stack {
    uint32_t frames[AP_STACK_FRAMES_MAX]; /* a ring: the innermost ones */
    uint32_t cnt;                         /* of all, also those that no longer fit */
    bool truncated;
};
/* Adds a frame (index in the profile) inside of those before. */
void ap_import_stack_push(struct ap_import_stack *stack, uint32_t frame);
/* Adds the sample of that stack; one without frames has the frame "[no stack]". 0, -ENOSPC or -ENOMEM. */
int ap_import_stack_add(const struct ap_import_stack *stack, struct ap_profile *profile, uint32_t series,
                        uint64_t count, uint64_t value);

/* What a name says of a frame, for formats that say nothing else of it: kind, and the offset when it ends in one. */
void ap_import_classify(const char *name, const char *module, struct ap_frame *frame);
/* True for "[truncated]". */
bool ap_import_is_truncation(const char *name);

/* Adds a mapping without addresses. 0, -ENOSPC or -ENOMEM. */
int ap_import_module(struct ap_profile *profile, const char *path, uint32_t *ret_mapping);

/* Value of a name in a list of names 0 .. cnt - 1 (NULL ends gaps are skipped); `def` when there is none. */
unsigned ap_import_lookup(const char *name, const char *(*name_of)(unsigned value), unsigned cnt, unsigned def);

/* ---- The JSON document --------------------------------------------------------------------------------------------
 */

struct ap_import_reader {
    struct ap_json_doc doc;
    struct ap_buf text; /* scratch */
    struct ap_error *err;
};

/* Members of an object. Each leaves `ret` alone when there is none, and fails with words when it is of another type:
 * -EINVAL, -E2BIG, -ENOMEM. */
int ap_import_u64(struct ap_import_reader *reader, uint32_t object, const char *name, uint64_t *ret);
int ap_import_u32(struct ap_import_reader *reader, uint32_t object, const char *name, uint32_t *ret);
int ap_import_bool(struct ap_import_reader *reader, uint32_t object, const char *name, bool *ret);
/* The text stays in `reader->text` until the next call. `ret` is set to "" when there is none. */
int ap_import_text(struct ap_import_reader *reader, uint32_t object, const char *name, const char **ret);
/* The same as a string of the profile. */
int ap_import_string(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object, const char *name,
                     uint32_t *ret);
/* A frame: "name", "kind", "module", "file", "line", "inlined", "waker". */
int ap_import_frame(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object,
                    struct ap_frame *ret_frame);

/* "syscalls" and "locks" of a profile's object. */
int ap_import_syscalls(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t array);
int ap_import_locks(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t array);

#endif
