/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: reads RowBinary, the form in which queries are answered. What runs past the end sets `bad`
 * and reads as zero, so that a caller checks once a row. */
#ifndef APERTURE_STORAGE_ROWBIN_H
#define APERTURE_STORAGE_ROWBIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ap_rowbin {
    const uint8_t *at, *end;
    bool bad;
};

/* True while there is another row. */
static inline bool ap_rowbin_more(const struct ap_rowbin *in)
{
    return !in->bad && in->at < in->end;
}

static inline const void *ap_rowbin_take(struct ap_rowbin *in, uint64_t len)
{
    const uint8_t *here = in->at;

    if (in->bad || len > (uint64_t)(in->end - in->at)) {
        in->bad = true;
        return NULL;
    }
    in->at += len;
    return here;
}

static inline uint64_t ap_rowbin_number(struct ap_rowbin *in, size_t width)
{
    uint64_t value = 0;
    const void *bytes = ap_rowbin_take(in, width);

    if (bytes != NULL)
        memcpy(&value, bytes, width);
    return value;
}

static inline uint8_t ap_rowbin_u8(struct ap_rowbin *in)
{
    return (uint8_t)ap_rowbin_number(in, 1);
}

static inline uint16_t ap_rowbin_u16(struct ap_rowbin *in)
{
    return (uint16_t)ap_rowbin_number(in, 2);
}

static inline uint32_t ap_rowbin_u32(struct ap_rowbin *in)
{
    return (uint32_t)ap_rowbin_number(in, 4);
}

static inline uint64_t ap_rowbin_u64(struct ap_rowbin *in)
{
    return ap_rowbin_number(in, 8);
}

static inline uint64_t ap_rowbin_varuint(struct ap_rowbin *in)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = ap_rowbin_u8(in);

        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    in->bad = true;
    return 0;
}

/* Bytes of a text, not terminated, within the answer; NULL when bad. */
static inline const char *ap_rowbin_text(struct ap_rowbin *in, size_t *ret_len)
{
    uint64_t len = ap_rowbin_varuint(in);
    const char *text = ap_rowbin_take(in, len);

    *ret_len = text != NULL ? (size_t)len : 0;
    return text;
}

/* Items of an array that are at least `width` bytes each: a count that the answer cannot hold is bad. */
static inline size_t ap_rowbin_array(struct ap_rowbin *in, size_t width)
{
    uint64_t cnt = ap_rowbin_varuint(in);

    if (in->bad || cnt > (uint64_t)(in->end - in->at) / (width > 0 ? width : 1)) {
        in->bad = true;
        return 0;
    }
    return (size_t)cnt;
}

#endif
