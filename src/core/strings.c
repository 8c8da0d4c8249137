/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/strings.h"

#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Texts lie one behind the other in chunks of this size, so that they never move. */
#define CHUNK_SZ ((size_t)64 * 1024)

#define FIRST_ENTRIES 64

struct chunk {
    struct chunk *next;
    size_t cap;
    size_t len;
    char data[];
};

/* Lies in a chunk; the map's value, with the text as its key. */
struct entry {
    uint32_t id;
    char text[];
};

struct ap_strings {
    struct ap_map ids;
    struct chunk *chunks;   /* the first is the one being filled */
    struct entry **entries; /* by id - 1: the id 0 has none */
    size_t entry_cnt;
    size_t entry_cap;
    size_t bytes;
    size_t max_bytes;
    uint64_t refused;
};

struct ap_strings *ap_strings_new(size_t max_bytes)
{
    struct ap_strings *strings = (struct ap_strings *)calloc(1, sizeof(*strings));

    if (!strings)
        return NULL;
    ap_map_init(&strings->ids, UINT32_MAX - 1); /* every id fits 32 bits */
    strings->max_bytes = max_bytes;
    return strings;
}

struct ap_strings *ap_strings_free(struct ap_strings *strings)
{
    if (!strings)
        return NULL;
    while (strings->chunks) {
        struct chunk *next = strings->chunks->next;

        free(strings->chunks);
        strings->chunks = next;
    }
    ap_map_done(&strings->ids);
    free((void *)strings->entries);
    free(strings);
    return NULL;
}

/* Room for `size` bytes in the current chunk or in a new one. Nothing is taken yet: see chunk->len. */
static struct chunk *get_chunk(struct ap_strings *strings, size_t size)
{
    struct chunk *chunk = strings->chunks;

    if (chunk && size <= chunk->cap - chunk->len)
        return chunk;

    size_t cap = size > CHUNK_SZ ? size : CHUNK_SZ;
    chunk = (struct chunk *)malloc(sizeof(*chunk) + cap);
    if (!chunk)
        return NULL;
    *chunk = (struct chunk){.next = strings->chunks, .cap = cap};
    strings->chunks = chunk;
    return chunk;
}

static int grow_entries(struct ap_strings *strings)
{
    if (strings->entry_cnt < strings->entry_cap)
        return 0;

    size_t cap = strings->entry_cap ? strings->entry_cap * 2 : FIRST_ENTRIES;
    struct entry **entries = (struct entry **)reallocarray((void *)strings->entries, cap, sizeof(struct entry *));
    if (!entries)
        return -ENOMEM;
    strings->entries = entries;
    strings->entry_cap = cap;
    return 0;
}

static int add_new(struct ap_strings *strings, const char *str, size_t len, uint32_t *ret_id)
{
    /* Compared as room left, so that no sum can wrap. The size check below keeps the rounding from wrapping
     * too. */
    if (len >= strings->max_bytes - strings->bytes || len > SIZE_MAX / 2)
        return -ENOSPC;

    size_t align = _Alignof(struct entry);
    size_t size = (sizeof(struct entry) + len + 1 + align - 1) / align * align;
    struct chunk *chunk = get_chunk(strings, size);
    if (!chunk || grow_entries(strings))
        return -ENOMEM;

    struct entry *entry = (struct entry *)(void *)(chunk->data + chunk->len);
    entry->id = (uint32_t)strings->entry_cnt + 1;
    memcpy(entry->text, str, len);
    entry->text[len] = '\0';

    int rc = ap_map_put(&strings->ids, entry->text, len, entry);
    if (rc)
        return rc;
    chunk->len += size;
    strings->entries[strings->entry_cnt++] = entry;
    strings->bytes += len + 1;
    *ret_id = entry->id;
    return 0;
}

int ap_strings_add(struct ap_strings *strings, const char *str, size_t len, uint32_t *ret_id)
{
    len = len > 0 ? strnlen(str, len) : 0;
    if (len == 0) {
        *ret_id = 0;
        return 0;
    }

    const struct entry *entry = (const struct entry *)ap_map_get(&strings->ids, str, len);
    if (entry) {
        *ret_id = entry->id;
        return 0;
    }

    int rc = add_new(strings, str, len, ret_id);
    if (rc)
        strings->refused++;
    return rc;
}

uint32_t ap_strings_id(struct ap_strings *strings, const char *str)
{
    uint32_t id = 0;

    if (!str || ap_strings_add(strings, str, strlen(str), &id))
        return 0;
    return id;
}

const char *ap_strings_get(const struct ap_strings *strings, uint32_t id)
{
    if (id == 0 || id > strings->entry_cnt)
        return "";
    return strings->entries[id - 1]->text;
}

size_t ap_strings_count(const struct ap_strings *strings)
{
    return strings->entry_cnt + 1;
}

uint64_t ap_strings_refused(const struct ap_strings *strings)
{
    return strings->refused;
}
