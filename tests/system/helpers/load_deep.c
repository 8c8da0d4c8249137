/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Burns CPU at the end of a recursion, also through an inlined function and functions with C++ and Rust names.
 * usage: load-deep SECONDS DEPTH */
#include <stdlib.h>
#include <time.h>

static time_t end;

/* As compilers mangle outer::Worker::run(int), core::fmt::write and the v0 form of demo::spin. */
unsigned long cpp_run(unsigned long x) __asm__("_ZN5outer6Worker3runEi");
unsigned long rust_write(unsigned long x) __asm__("_ZN4core3fmt5write17h0123456789abcdefE");
unsigned long rust_spin(unsigned long x) __asm__("_RNvCs1234_4demo4spin");

static inline __attribute__((always_inline)) unsigned long inlined_spin(unsigned long x)
{
    /* gcc leaves the frame pointer out of leaf functions that use no stack, whatever its flags say */
    __asm__ volatile("" : : "m"(*(volatile char *)__builtin_alloca(16)));
    for (int i = 0; i < 200000; i++) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

__attribute__((noinline, noclone)) unsigned long rust_spin(unsigned long x)
{
    return inlined_spin(x) + 1;
}

__attribute__((noinline, noclone)) unsigned long rust_write(unsigned long x)
{
    return rust_spin(x) + 1;
}

__attribute__((noinline, noclone)) unsigned long cpp_run(unsigned long x)
{
    return rust_write(x) + 1;
}

__attribute__((noinline, noclone)) unsigned long recurse(unsigned long depth, unsigned long x)
{
    volatile unsigned long kept = x;

    if (!depth) {
        while (time(NULL) < end)
            kept += cpp_run(kept);
        return kept;
    }
    return recurse(depth - 1, kept) + 1;
}

int main(int argc, char **argv)
{
    end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
    return recurse(argc > 2 ? strtoul(argv[2], NULL, 10) : 0, 1) == 42;
}
