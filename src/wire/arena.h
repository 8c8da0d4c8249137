/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the wire codecs: memory that is bounded and freed all at once. What a message is unpacked into, and what
 * one is packed from, lives here. */
#ifndef APERTURE_WIRE_ARENA_H
#define APERTURE_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct ap_arena_chunk;

struct ap_arena {
    struct ap_arena_chunk *chunks; /* the first is the one being filled */
    size_t used, max;              /* bytes */
    bool full, no_memory;          /* why something was refused */
    ProtobufCAllocator allocator;  /* hands out the arena's memory; freeing does nothing */
};

/* Empty arena of at most `max` bytes. It must not move while `allocator` is used. */
void ap_arena_init(struct ap_arena *arena, size_t max);
void ap_arena_done(struct ap_arena *arena);

/* Memory for any type, not cleared; NULL past the bound or without memory, see `full` and `no_memory`. */
void *ap_arena_alloc(struct ap_arena *arena, size_t size);
/* Zeroed, for `cnt` rows of `size` bytes. */
void *ap_arena_rows(struct ap_arena *arena, size_t cnt, size_t size);

/* 0 while nothing was refused, else -E2BIG or -ENOMEM. */
int ap_arena_error(const struct ap_arena *arena);

#endif
