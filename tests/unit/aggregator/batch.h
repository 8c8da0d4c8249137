/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Batches for the tests of the aggregator. */
#ifndef APERTURE_TESTS_AGGREGATOR_BATCH_H
#define APERTURE_TESTS_AGGREGATOR_BATCH_H

#include "core/clock.h"
#include "model/push.h"

#include <string.h>

/* A CPU profile of one process: `samples` different stacks, each with the count 1 and the value `value`. */
static inline struct ap_push *make_push(const char *agent, uint64_t sequence, uint64_t start_ns, unsigned samples,
                                        uint64_t value)
{
    struct ap_push *push = ap_push_new();
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t series, frames[2], stack;
    char name[32];

    assert_non_null(push);
    assert_non_null(profile);
    strcpy(push->agent_id, agent);
    push->epoch = 7;
    push->sequence = sequence;
    push->start_ns = profile->start_ns = start_ns;
    push->duration_ns = profile->duration_ns = AP_NS_PER_SEC;
    profile->period_ns = value;
    profile->slot_ns = AP_PUSH_SLOT_NS;
    assert_int_equal(ap_push_label(push, "host", "h1", NULL), 0);
    assert_int_equal(ap_push_label(push, "service", agent, NULL), 0);
    struct ap_series one = {.pid = 1, .comm = ap_strings_id(profile->strings, "work")};
    assert_int_equal(ap_profile_add_series(profile, &one, &series), 0);
    struct ap_frame frame = {.kind = AP_FRAME_NATIVE, .function = ap_strings_id(profile->strings, "main")};
    assert_int_equal(ap_profile_add_frame(profile, &frame, &frames[1]), 0);
    for (unsigned i = 0; i < samples; i++) {
        (void)snprintf(name, sizeof(name), "f%u", i);
        frame.function = ap_strings_id(profile->strings, name);
        assert_int_equal(ap_profile_add_frame(profile, &frame, &frames[0]), 0);
        assert_int_equal(ap_profile_add_stack(profile, frames, 2, false, &stack), 0);
        assert_int_equal(ap_profile_add_sample_at(profile, series, stack, i % 50, 1, value), 0);
    }
    push->capture->profiles[0] = profile;
    push->capture->accounts[0] = (struct ap_account){.expected = samples + 3, .delivered = samples, .losses = {3}};
    push->capture->profile_cnt = 1;
    return push;
}

#endif
