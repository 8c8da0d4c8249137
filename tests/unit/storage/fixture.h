/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches made by code, and a memory store to put them into. */
#ifndef APERTURE_TESTS_STORAGE_FIXTURE_H
#define APERTURE_TESTS_STORAGE_FIXTURE_H

#include "core/clock.h"
#include "model/push.h"
#include "storage/storage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FX_START (1700000000ULL * AP_NS_PER_SEC)
#define FX_SEC   AP_NS_PER_SEC

static inline struct ap_storage *fx_open(uint64_t memory_sz)
{
    struct ap_error err = {0};
    struct ap_storage *storage =
        ap_storage_open(&(struct ap_storage_opts){.kind = AP_STORAGE_MEMORY, .memory_sz = memory_sz}, &err);

    assert_non_null(storage);
    return storage;
}

static inline struct ap_push *fx_push(const char *agent, uint64_t sequence, uint64_t start_ns, const char *host)
{
    struct ap_push *push = ap_push_new();

    assert_non_null(push);
    (void)snprintf(push->agent_id, sizeof(push->agent_id), "%s", agent);
    push->epoch = 1;
    push->sequence = sequence;
    push->start_ns = start_ns;
    push->duration_ns = 5 * FX_SEC;
    assert_int_equal(ap_push_label(push, "host", host, NULL), 0);
    return push;
}

/* The push's profile of this kind, made on first use. */
static inline struct ap_profile *fx_profile(struct ap_push *push, uint8_t kind)
{
    struct ap_capture *capture = push->capture;

    for (unsigned i = 0; i < capture->profile_cnt; i++)
        if (capture->profiles[i]->kind == kind)
            return capture->profiles[i];
    struct ap_profile *profile = ap_profile_new(kind);
    assert_non_null(profile);
    profile->slot_ns = AP_PUSH_SLOT_NS;
    capture->profiles[capture->profile_cnt++] = profile;
    return profile;
}

static inline uint32_t fx_frame(struct ap_profile *profile, const char *name, uint8_t kind)
{
    struct ap_mapping mapping = {.path =
                                     ap_strings_id(profile->strings, kind == AP_FRAME_KERNEL ? "[kernel]" : "/app")};
    struct ap_frame frame = {.kind = kind, .function = ap_strings_id(profile->strings, name), .offset = strlen(name)};
    uint32_t index;

    assert_int_equal(ap_profile_add_mapping(profile, &mapping, &frame.mapping), 0);
    assert_int_equal(ap_profile_add_frame(profile, &frame, &index), 0);
    return index;
}

/* A stack from text, outermost first: "main;work;leaf"; "k:" before a name makes a kernel frame. */
static inline uint32_t fx_stack(struct ap_profile *profile, const char *text)
{
    uint32_t frames[AP_STACK_FRAMES_MAX], cnt = 0, stack;
    char buf[1024], *save = NULL;

    (void)snprintf(buf, sizeof(buf), "%s", text);
    for (char *name = strtok_r(buf, ";", &save); name != NULL; name = strtok_r(NULL, ";", &save)) {
        bool kernel = strncmp(name, "k:", 2) == 0;

        memmove(&frames[1], &frames[0], cnt * sizeof(frames[0]));
        frames[0] = fx_frame(profile, kernel ? name + 2 : name, kernel ? AP_FRAME_KERNEL : AP_FRAME_NATIVE);
        cnt++;
    }
    assert_int_equal(ap_profile_add_stack(profile, frames, cnt, false, &stack), 0);
    return stack;
}

static inline uint32_t fx_series(struct ap_profile *profile, const char *comm, uint32_t pid, const char *exe,
                                 const char *container)
{
    struct ap_series row = {
        .pid = pid,
        .comm = ap_strings_id(profile->strings, comm),
        .exe = ap_strings_id(profile->strings, exe),
        .container = ap_strings_id(profile->strings, container),
    };
    uint32_t series;

    assert_int_equal(ap_profile_add_series(profile, &row, &series), 0);
    return series;
}

/* A sample of process 1. */
static inline void fx_sample(struct ap_profile *profile, const char *comm, const char *stack, uint32_t slot,
                             uint64_t count, uint64_t value)
{
    assert_int_equal(ap_profile_add_sample_at(profile, fx_series(profile, comm, 1, "", ""), fx_stack(profile, stack),
                                              slot, count, value),
                     0);
}

/* Commits and frees the push. True when it was there before. */
static inline bool fx_commit(struct ap_storage *storage, struct ap_push *push)
{
    struct ap_error err = {0};
    struct ap_rows *rows = ap_rows_new(push, "payload", 7, push->start_ns + push->duration_ns, &err);
    bool duplicate = false;

    if (rows == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(ap_storage_commit(storage, &rows, 1, &duplicate, &err), 0);
    ap_rows_free(rows);
    return duplicate;
}

/* Reproducible numbers. */
static inline uint64_t fx_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1dULL >> 16;
}

static inline uint32_t fx_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(fx_random(state) % n);
}

#endif
