/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/tables.h"

#include "abi/tables.h"
#include "agent/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Rows fetched by one call into the kernel; it needs room for the fullest bucket of the hash. */
#define BATCH_ROWS 512

struct ap_table_reader {
    int fds[AP_GENERATIONS];
    uint32_t key_sz, value_sz;
    char *keys, *values; /* BATCH_ROWS of each */
};

struct ap_table_reader *ap_table_reader_new(const struct bpf_map *first, const struct bpf_map *second)
{
    struct ap_table_reader *reader = calloc(1, sizeof(*reader));

    if (!reader)
        return NULL;
    reader->fds[0] = bpf_map__fd(first);
    reader->fds[1] = bpf_map__fd(second);
    reader->key_sz = bpf_map__key_size(first);
    reader->value_sz = bpf_map__value_size(first);
    reader->keys = calloc(BATCH_ROWS, reader->key_sz);
    reader->values = calloc(BATCH_ROWS, reader->value_sz);
    return reader->keys && reader->values ? reader : ap_table_reader_free(reader);
}

struct ap_table_reader *ap_table_reader_free(struct ap_table_reader *reader)
{
    if (!reader)
        return NULL;
    free(reader->keys);
    free(reader->values);
    free(reader);
    return NULL;
}

/* One row at a time, for what a batch could not hold. */
static int drain_slowly(struct ap_table_reader *reader, int fd, ap_table_row_fn fn, void *ctx)
{
    int rc;

    for (;;) {
        rc = bpf_map_get_next_key(fd, NULL, reader->keys);
        if (rc)
            return rc == -ENOENT ? 0 : rc;
        rc = bpf_map_lookup_elem(fd, reader->keys, reader->values);
        if (rc)
            return rc;
        fn(ctx, reader->keys, reader->values);
        rc = bpf_map_delete_elem(fd, reader->keys);
        if (rc)
            return rc;
    }
}

int ap_table_reader_drain(struct ap_table_reader *reader, uint32_t generation, ap_table_row_fn fn, void *ctx)
{
    int fd = reader->fds[generation % AP_GENERATIONS], rc;
    uint32_t cnt, i;
    uint64_t at = 0; /* where the kernel goes on: a bucket's number */
    bool more = false;

    for (;;) {
        cnt = BATCH_ROWS;
        rc = bpf_map_lookup_and_delete_batch(fd, more ? &at : NULL, &at, reader->keys, reader->values, &cnt, NULL);
        if (rc && rc != -ENOENT)
            return drain_slowly(reader, fd, fn, ctx);
        for (i = 0; i < cnt; i++)
            fn(ctx, reader->keys + (size_t)i * reader->key_sz, reader->values + (size_t)i * reader->value_sz);
        if (rc)
            return 0;
        more = true;
    }
}

static bool is_zero(const char *data, size_t sz)
{
    return !data[0] && !memcmp(data, data + 1, sz - 1);
}

int ap_table_drain_own(const struct bpf_map *map, size_t key_sz, ap_table_row_fn fn, void *ctx)
{
    size_t value_sz = (bpf_map__value_size(map) + 7) / 8 * 8, sz = ap_programs_cpus() * value_sz, at;
    char *values = malloc(sz), *zeros = calloc(1, sz);
    uint32_t i, cnt = bpf_map__max_entries(map);
    int rc = values && zeros ? 0 : -ENOMEM;

    for (i = 0; !rc && i < cnt; i++) {
        rc = bpf_map__lookup_elem(map, &i, sizeof(i), values, sz, 0);
        if (rc || is_zero(values, sz))
            continue;
        rc = bpf_map__update_elem(map, &i, sizeof(i), zeros, sz, 0);
        for (at = 0; !rc && at < sz; at += value_sz)
            if (!is_zero(values + at, key_sz))
                fn(ctx, values + at, values + at + key_sz);
    }
    free(values);
    free(zeros);
    return rc;
}
