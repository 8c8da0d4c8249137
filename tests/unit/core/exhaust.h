/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Makes malloc() fail, to test what happens then. The sanitizers' allocator ends the program instead: with
 * them these tests are skipped. */
#ifndef APERTURE_TESTS_EXHAUST_H
#define APERTURE_TESTS_EXHAUST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define EXHAUST_SKIP true
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define EXHAUST_SKIP true
#endif
#ifndef EXHAUST_SKIP
#define EXHAUST_SKIP false
#endif

struct exhaust {
    struct rlimit limit;
    void **blocks; /* each holds the address of the next */
};

/* From here to exhaust_end() no memory is to be had, but for `spare` bytes of address space. */
static inline void exhaust_begin(struct exhaust *exhaust, size_t spare)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");

    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%lu", &pages), 1);
    (void)fclose(statm);
    assert_int_equal(getrlimit(RLIMIT_AS, &exhaust->limit), 0);

    struct rlimit low = exhaust->limit;
    low.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + spare;
    assert_int_equal(setrlimit(RLIMIT_AS, &low), 0);
    exhaust->blocks = NULL;
    if (spare > 0)
        return;
    for (size_t size = 1 << 20; size >= sizeof(void *); size = size > 8192 ? size / 2 : size - 8) {
        void **block;

        while ((block = (void **)malloc(size)) != NULL) {
            *block = (void *)exhaust->blocks;
            exhaust->blocks = block;
        }
    }
}

static inline void exhaust_end(struct exhaust *exhaust)
{
    while (exhaust->blocks) {
        void **next = (void **)*exhaust->blocks;

        free((void *)exhaust->blocks);
        exhaust->blocks = next;
    }
    assert_int_equal(setrlimit(RLIMIT_AS, &exhaust->limit), 0);
}

#endif
