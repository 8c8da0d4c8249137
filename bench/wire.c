/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* bench-wire [SAMPLES [STACKS]]: what it costs to encode and to decode a batch. */
#include "core/clock.h"
#include "tests/unit/wire/sample.h"
#include "wire/push.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 50

int main(int argc, char **argv)
{
    unsigned samples = argc > 1 ? (unsigned)atoi(argv[1]) : 20000, stacks = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;
    struct ap_push *push = sample_large(samples, stacks);
    uint64_t encode_ns = 0, decode_ns = 0;
    struct ap_buf buf;

    ap_buf_init(&buf, AP_WIRE_BATCH_SZ);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = ap_clock_cpu_ns();
        struct ap_push *decoded;

        ap_buf_reset(&buf);
        sample_check(ap_wire_batch_encode(push, &buf, NULL) == 0);
        encode_ns += ap_clock_cpu_ns() - start;
        start = ap_clock_cpu_ns();
        decoded = ap_wire_batch_decode(buf.data, buf.len, NULL);
        sample_check(decoded != NULL);
        if (i == 0)
            sample_check(same_push(push, decoded));
        ap_push_free(decoded);
        decode_ns += ap_clock_cpu_ns() - start;
    }
    printf("%u samples, %u stacks, %zu bytes (%.2f a sample)\n", samples, stacks, buf.len,
           (double)buf.len / (double)samples);
    printf("encode %8.3f ms  %6.2f M samples/s of one core\n", (double)encode_ns / ROUNDS / 1e6,
           (double)samples * ROUNDS * 1e3 / (double)encode_ns);
    printf("decode %8.3f ms  %6.2f M samples/s of one core\n", (double)decode_ns / ROUNDS / 1e6,
           (double)samples * ROUNDS * 1e3 / (double)decode_ns);
    ap_buf_done(&buf);
    ap_push_free(push);
    return 0;
}
