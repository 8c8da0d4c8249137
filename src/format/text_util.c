/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/text.h"

#include "format/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BAR_WIDTH 40
#define OCTAVES   (AP_HISTOGRAM_BUCKETS / 4 + 1)

struct ap_text_style ap_text_style(bool colour)
{
    if (!colour)
        return (struct ap_text_style){false, "", "", "", "", ""};
    return (struct ap_text_style){true, "\033[1m", "\033[2m", "\033[32m", "\033[1;31m", "\033[0m"};
}

double ap_text_percent(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : 100.0 * (double)part / (double)whole;
}

size_t ap_text_width(const char *str)
{
    size_t width = 0;
    uint32_t cp;

    for (; *str != '\0'; width++)
        str += ap_utf8_next(str, &cp);
    return width;
}

void ap_text_name(struct ap_out *out, const char *str, size_t max, size_t pad)
{
    size_t width = ap_text_width(str), keep = width > max ? max - 3 : width;
    uint32_t cp;

    for (size_t i = 0; i < keep; i++) {
        size_t len = ap_utf8_next(str, &cp);

        if (ap_utf8_is_unsafe(cp))
            ap_out_char(out, '?');
        else
            ap_out_write(out, str, len);
        str += len;
    }
    if (keep < width) {
        ap_out_str(out, "...");
        width = max;
    }
    for (; width < pad; width++)
        ap_out_char(out, ' ');
}

const char *ap_text_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (path[0] == '/' && path[1] == '/') /* "//anon" is no file */
        return path;
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

char *ap_text_duration(char *buf, uint64_t ns)
{
    if (ns == 0) {
        (void)snprintf(buf, AP_FORMAT_SZ, "-");
        return buf;
    }
    return ap_format_duration(buf, ns);
}

/* Octave 0 holds 0 and 1, octave n the values from 2^n on. */
static unsigned octave_of(uint32_t bucket)
{
    return bucket < 2 ? 0 : bucket < 4 ? 1 : bucket / 4 + 1;
}

void ap_text_histogram(const struct ap_histogram *histogram, struct ap_out *out)
{
    uint64_t counts[OCTAVES] = {0}, most = 0;
    unsigned first = OCTAVES, last = 0;
    char text[AP_FORMAT_SZ];

    for (uint32_t i = 0; i < histogram->cnt; i++)
        counts[octave_of(histogram->first + i)] += histogram->counts[i];
    for (unsigned i = 0; i < OCTAVES; i++) {
        if (counts[i] == 0)
            continue;
        if (first == OCTAVES)
            first = i;
        last = i;
        if (counts[i] > most)
            most = counts[i];
    }
    if (most == 0)
        return;
    ap_out_printf(out, "%15s%-15s : %-10s distribution\n", "nsecs", "", "count");
    for (unsigned i = first; i <= last; i++) {
        uint64_t low = i == 0 ? 0 : 1ULL << i, high = (2ULL << i) - 1;
        /* A bar of at least one star for what there is. */
        unsigned stars = (unsigned)((double)counts[i] / (double)most * BAR_WIDTH);

        if (stars == 0 && counts[i] != 0)
            stars = 1;
        ap_out_printf(out, "%13" PRIu64 " -> %-13" PRIu64 " : %-10" PRIu64 "|", low, high, counts[i]);
        for (unsigned j = 0; j < BAR_WIDTH; j++)
            ap_out_char(out, j < stars ? '*' : ' ');
        ap_out_printf(out, "| >= %s\n", ap_format_duration(text, low));
    }
}
