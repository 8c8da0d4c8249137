/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Names random addresses with the agent's symbolizer, in requests of the size that a capture makes, and prints one
 * JSON object: how many, how long. The addresses lie in the file's code, or among the kernel's functions.
 * usage: bench-symbolize FILE|kernel COUNT */
#include "core/clock.h"
#include "symbol/symbolizer.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PHDRS_MAX 64

struct totals {
    uint64_t named, frames, sourced;
};

static uint64_t random_u64(void)
{
    static uint64_t x = 88172645463325252ULL; /* the same addresses in every run */

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static void count(void *ctx, size_t index, const struct ap_symbol_frame *frames, size_t cnt, uint8_t reason)
{
    struct totals *totals = ctx;

    (void)index;
    (void)reason;
    totals->named += cnt > 0;
    totals->frames += cnt;
    totals->sourced += cnt && frames[0].line;
}

/* The largest executable segment. */
static int code_of(int fd, uint64_t *ret_off, uint64_t *ret_sz)
{
    Elf64_Phdr phdrs[PHDRS_MAX];
    Elf64_Ehdr ehdr;
    int i;

    *ret_sz = 0;
    if (pread(fd, &ehdr, sizeof(ehdr), 0) != sizeof(ehdr) || memcmp(ehdr.e_ident, ELFMAG, SELFMAG) ||
        ehdr.e_phnum > PHDRS_MAX ||
        pread(fd, phdrs, ehdr.e_phnum * sizeof(phdrs[0]), (off_t)ehdr.e_phoff) !=
            (ssize_t)(ehdr.e_phnum * sizeof(phdrs[0])))
        return -EINVAL;
    for (i = 0; i < ehdr.e_phnum; i++)
        if (phdrs[i].p_type == PT_LOAD && phdrs[i].p_flags & PF_X && phdrs[i].p_filesz > *ret_sz) {
            *ret_off = phdrs[i].p_offset;
            *ret_sz = phdrs[i].p_filesz;
        }
    return *ret_sz ? 0 : -EINVAL;
}

/* From _stext to _etext. */
static int code_of_kernel(uint64_t *ret_off, uint64_t *ret_sz)
{
    FILE *file = fopen("/proc/kallsyms", "re");
    uint64_t addr, start = 0, end = 0;
    char line[1024];

    while (file && fgets(line, sizeof(line), file)) {
        addr = strtoull(line, NULL, 16);
        line[strcspn(line, "\n")] = '\0';
        if (strlen(line) > 18 && !strcmp(line + 17, "T _stext"))
            start = addr;
        else if (strlen(line) > 18 && !strcmp(line + 17, "T _etext"))
            end = addr;
    }
    if (file)
        fclose(file);
    *ret_off = start;
    *ret_sz = end - start;
    return start && end > start ? 0 : -EINVAL;
}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Names them a chunk at a time. */
static void name_all(struct ap_symbolizer *symbolizer, int fd, const uint64_t *addrs, size_t cnt, struct totals *totals)
{
    struct ap_symbol_request request = {
        .what = fd < 0 ? AP_SYMBOL_KERNEL : AP_SYMBOL_CODE, .fd = fd, .fn = count, .ctx = totals};
    size_t done;

    for (done = 0; done < cnt; done += request.cnt) {
        request.addrs = addrs + done;
        request.cnt = cnt - done < AP_SYMBOL_CHUNK ? cnt - done : AP_SYMBOL_CHUNK;
        ap_symbolizer_submit(symbolizer, &request);
        request.same_file = true;
        while (ap_symbolizer_busy(symbolizer)) {
            ap_symbolizer_wait(symbolizer);
            ap_symbolizer_take(symbolizer, ap_clock_monotonic_ns());
        }
    }
}

static int run(const char *path, size_t cnt, uint64_t *addrs)
{
    struct ap_symbolizer *symbolizer;
    uint64_t start = 0, size = 0;
    struct totals totals = {0};
    struct ap_error err = {0};
    struct rusage worker;
    double wall, cpu;
    int fd = -1;
    size_t i;

    if (strcmp(path, "kernel"))
        fd = open(path, O_RDONLY | O_CLOEXEC);
    if (strcmp(path, "kernel") ? code_of(fd, &start, &size) : code_of_kernel(&start, &size)) {
        fprintf(stderr, "bench-symbolize: no code in %s\n", path);
        return 1;
    }
    for (i = 0; i < cnt; i++)
        addrs[i] = start + random_u64() % size;
    qsort(addrs, cnt, sizeof(*addrs), by_value); /* as the agent does */
    symbolizer = ap_symbolizer_new(&err);
    if (!symbolizer) {
        fprintf(stderr, "bench-symbolize: %s\n", err.text);
        return 1;
    }
    wall = seconds(CLOCK_MONOTONIC);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    name_all(symbolizer, fd, addrs, cnt, &totals);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    ap_symbolizer_stop(symbolizer);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu + (double)ap_symbolizer_cpu_ns(symbolizer) / 1e9;
    getrusage(RUSAGE_CHILDREN, &worker);
    printf("{\"addresses\":%zu,\"named\":%" PRIu64 ",\"frames\":%" PRIu64 ",\"with_source\":%" PRIu64
           ",\"wall_s\":%.6f,\"cpu_s\":%.6f,\"worker_rss_bytes\":%ld,\"failures\":%" PRIu64 "}\n",
           cnt, totals.named, totals.frames, totals.sourced, wall, cpu, worker.ru_maxrss * 1024,
           ap_symbolizer_failures(symbolizer));
    ap_symbolizer_free(symbolizer);
    if (fd >= 0)
        close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    size_t cnt = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t *addrs;
    int rc;

    if (!cnt) {
        fprintf(stderr, "usage: bench-symbolize FILE|kernel COUNT\n");
        return 2;
    }
    addrs = calloc(cnt, sizeof(*addrs));
    rc = addrs ? run(argv[1], cnt, addrs) : 1;
    free(addrs);
    return rc;
}
