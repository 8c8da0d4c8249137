/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches made from a few numbers, always the same ones: a payload that holds the numbers can be decoded again. And
 * what a store answers, as text. */
#ifndef APERTURE_TESTS_STORAGE_MADE_H
#define APERTURE_TESTS_STORAGE_MADE_H

#include "core/buf.h"
#include "storage/storage.h"

#include <stdio.h>
#include <stdlib.h>

/* Ends the process, which is a child of the test. */
#define MADE_CHECK(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                            \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            _Exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

struct made_spec {
    uint64_t magic;
    uint32_t agent; /* its number: id, host and labels follow */
    uint32_t samples;
    uint64_t epoch, sequence, start_ns, duration_ns;
};

#define MADE_START 1700000000000000000ULL /* 2023-11-14 22:13:20 UTC */
#define MADE_SEC   1000000000ULL

/* The batch of a specification. */
struct ap_push *made_push(const struct made_spec *spec);
/* For ap_storage_opts.decode. */
struct ap_push *made_decode(const void *payload, size_t payload_sz, struct ap_error *err);
/* Its rows, with the specification as payload. */
struct ap_rows *made_rows(const struct made_spec *spec);
/* Commits the batches at once; how many were duplicates. Ends the process on failure. */
size_t made_commit(struct ap_storage *storage, const struct made_spec *specs, size_t cnt);

/* Appends everything that the store answers about the scope. Ends the process on failure. */
void made_dump(struct ap_storage *storage, const struct ap_storage_scope *scope, struct ap_buf *ret);

#endif
