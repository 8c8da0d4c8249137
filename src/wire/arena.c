/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "wire/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Small things share chunks of this size; what is larger than a quarter of one gets a chunk of its own. */
#define CHUNK_SZ ((size_t)64 << 10)
#define ALIGN    _Alignof(max_align_t)

struct ap_arena_chunk {
    struct ap_arena_chunk *next;
    size_t len, cap;
    max_align_t data[];
};

static void *protobuf_alloc(void *arena, size_t size)
{
    return ap_arena_alloc(arena, size);
}

static void protobuf_free(void *arena, void *data)
{
    (void)arena;
    (void)data;
}

void ap_arena_init(struct ap_arena *arena, size_t max)
{
    *arena = (struct ap_arena){
        .max = max,
        .allocator = {.alloc = protobuf_alloc, .free = protobuf_free, .allocator_data = arena},
    };
}

void ap_arena_done(struct ap_arena *arena)
{
    while (arena->chunks != NULL) {
        struct ap_arena_chunk *next = arena->chunks->next;

        free(arena->chunks);
        arena->chunks = next;
    }
    arena->used = 0;
}

/* A chunk with room for `size` bytes; a large one goes behind the one being filled. */
static struct ap_arena_chunk *new_chunk(struct ap_arena *arena, size_t size)
{
    bool large = size > CHUNK_SZ / 4 && arena->chunks != NULL;
    size_t cap = size > CHUNK_SZ / 4 ? size : CHUNK_SZ;
    struct ap_arena_chunk *chunk;

    if (cap > arena->max - arena->used) {
        arena->full = true;
        return NULL;
    }
    chunk = malloc(sizeof(*chunk) + cap);
    if (chunk == NULL) {
        arena->no_memory = true;
        return NULL;
    }
    arena->used += cap;
    chunk->len = 0;
    chunk->cap = cap;
    chunk->next = large ? arena->chunks->next : arena->chunks;
    if (large)
        arena->chunks->next = chunk;
    else
        arena->chunks = chunk;
    return chunk;
}

void *ap_arena_alloc(struct ap_arena *arena, size_t size)
{
    struct ap_arena_chunk *chunk = arena->chunks;
    void *data;

    if (size > SIZE_MAX - ALIGN) {
        arena->full = true;
        return NULL;
    }
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (chunk == NULL || size > chunk->cap - chunk->len)
        chunk = new_chunk(arena, size);
    if (chunk == NULL)
        return NULL;
    data = (char *)chunk->data + chunk->len;
    chunk->len += size;
    return data;
}

void *ap_arena_rows(struct ap_arena *arena, size_t cnt, size_t size)
{
    size_t bytes;
    void *rows;

    if (__builtin_mul_overflow(cnt, size, &bytes)) {
        arena->full = true;
        return NULL;
    }
    rows = ap_arena_alloc(arena, bytes);
    if (rows != NULL)
        memset(rows, 0, bytes);
    return rows;
}

int ap_arena_error(const struct ap_arena *arena)
{
    if (arena->no_memory)
        return -ENOMEM;
    return arena->full ? -E2BIG : 0;
}
