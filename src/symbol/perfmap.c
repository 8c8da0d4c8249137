/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/perfmap.h"

#include "core/buf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SZ 65536

struct entry {
    uint64_t start, end;
    uint32_t order; /* line number: later lines win */
    uint32_t name_len;
    size_t name_off;
};

struct ap_perfmap {
    struct entry *entries; /* by start; no two overlap once settled */
    size_t cnt, cap;
    char *names; /* NUL-terminated */
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One hexadecimal number and the blanks after it; false when there is none or it does not fit. */
static bool parse_hex(const char **pos, const char *end, uint64_t *ret_value)
{
    const char *p = *pos;
    uint64_t value = 0;
    size_t digits = 0;

    if (end - p > 2 && p[0] == '0' && (p[1] | 0x20) == 'x')
        p += 2;
    for (; p < end && hex_digit(*p) >= 0; p++, digits++)
        value = value << 4 | (uint64_t)hex_digit(*p);
    if (!digits || digits > 16 || p == end || (*p != ' ' && *p != '\t'))
        return false;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    *pos = p;
    *ret_value = value;
    return true;
}

static int add_line(struct ap_perfmap *map, const char *text, const char *line, const char *end)
{
    struct entry entry = {.order = (uint32_t)map->cnt}, *entries;
    uint64_t size;
    size_t cap;

    if (!parse_hex(&line, end, &entry.start) || !parse_hex(&line, end, &size))
        return 0;
    while (end > line && (end[-1] == '\r' || end[-1] == ' '))
        end--;
    if (line == end || !size || entry.start + size < entry.start)
        return 0;
    entry.end = entry.start + size;
    entry.name_off = (size_t)(line - text);
    entry.name_len = (uint32_t)(end - line < AP_PERFMAP_NAME_MAX ? end - line : AP_PERFMAP_NAME_MAX);
    if (map->cnt == AP_PERFMAP_ENTRIES_MAX)
        return -EFBIG;
    if (map->cnt == map->cap) {
        cap = map->cap ? map->cap * 2 : 1024;
        entries = realloc(map->entries, cap * sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        map->entries = entries;
        map->cap = cap;
    }
    map->entries[map->cnt++] = entry;
    return 0;
}

static int by_start(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Makes overlapping entries disjoint: an older one ends where a later line's range begins, or is dropped. */
static void settle(struct ap_perfmap *map)
{
    struct entry *e = map->entries, *last;
    size_t i, cnt = 0;

    qsort(e, map->cnt, sizeof(*e), by_start);
    for (i = 0; i < map->cnt; i++) {
        bool keep = true;

        while (cnt) {
            last = &e[cnt - 1];
            if (last->end <= e[i].start)
                break;
            if (last->order > e[i].order) { /* the newer one began earlier: only what sticks out is left */
                e[i].start = last->end;
                keep = e[i].start < e[i].end;
                break;
            }
            last->end = e[i].start;
            if (last->start < last->end)
                break;
            cnt--;
        }
        if (keep)
            e[cnt++] = e[i];
    }
    map->cnt = cnt;
}

int ap_perfmap_parse(const char *text, size_t len, struct ap_perfmap **ret_map)
{
    const char *line = text, *end = text + len, *eol;
    struct ap_perfmap *map;
    int rc = 0;
    size_t i;

    if (len > AP_PERFMAP_SZ_MAX)
        return -EFBIG;
    map = calloc(1, sizeof(*map));
    if (!map)
        return -ENOMEM;
    while (line < end && !rc) {
        eol = memchr(line, '\n', (size_t)(end - line));
        eol = eol ? eol : end;
        rc = add_line(map, text, line, eol);
        line = eol + 1;
    }
    map->names = rc ? NULL : malloc(len + 1);
    if (!map->names) {
        ap_perfmap_free(map);
        return rc ? rc : -ENOMEM;
    }
    memcpy(map->names, text, len);
    map->names[len] = '\0';
    /* the line's end becomes the name's terminator; names never touch the next line's text */
    for (i = 0; i < map->cnt; i++)
        map->names[map->entries[i].name_off + map->entries[i].name_len] = '\0';
    if (map->cnt)
        settle(map);
    *ret_map = map;
    return 0;
}

int ap_perfmap_read(int fd, struct ap_perfmap **ret_map)
{
    struct ap_buf text;
    off_t off = 0;
    ssize_t n;
    void *room;
    int rc = 0;

    ap_buf_init(&text, AP_PERFMAP_SZ_MAX);
    for (;;) {
        room = ap_buf_reserve(&text, READ_SZ);
        if (!room) {
            rc = text.error == -ENOSPC ? -EFBIG : text.error;
            break;
        }
        n = pread(fd, room, READ_SZ, off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = -errno;
        if (n <= 0)
            break;
        text.len += (size_t)n;
        off += n;
    }
    if (!rc)
        rc = ap_perfmap_parse(text.data ? text.data : "", text.len, ret_map);
    ap_buf_done(&text);
    return rc;
}

struct ap_perfmap *ap_perfmap_free(struct ap_perfmap *map)
{
    if (!map)
        return NULL;
    free(map->entries);
    free(map->names);
    free(map);
    return NULL;
}

const char *ap_perfmap_find(const struct ap_perfmap *map, uint64_t addr)
{
    size_t low = 0, high = map ? map->cnt : 0, mid;

    while (low < high) {
        mid = low + (high - low) / 2;
        if (map->entries[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (!map || low == map->cnt || map->entries[low].start > addr)
        return NULL;
    return map->names + map->entries[low].name_off;
}
