/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/svg.h"

#include <stdio.h>
#include <string.h>

#define SVG_NAME_CELLS 3000 /* longest name that the data block keeps */

/* Bytes of the well-formed UTF-8 sequence at `s`, 1 for a byte that starts none; *ret_cells is its width on
 * screen. */
static size_t utf8_step(const unsigned char *s, unsigned *ret_cells)
{
    size_t len = s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC2 ? 2 : 1;
    uint32_t cp = s[0];

    *ret_cells = 1;
    if (s[0] < 0x80 || s[0] >= 0xF5)
        return 1;
    cp &= len == 2 ? 0x1F : len == 3 ? 0x0F : 0x07;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 1;
        cp = cp << 6 | (s[i] & 0x3F);
    }
    if ((cp >= 0x1100 && cp < 0x1160) || (cp >= 0x2E80 && cp < 0xA4D0) || (cp >= 0xAC00 && cp < 0xD7A4) ||
        (cp >= 0xF900 && cp < 0xFB00) || (cp >= 0xFE30 && cp < 0xFE70) || (cp >= 0xFF00 && cp < 0xFF61) ||
        (cp >= 0x1F300 && cp < 0x1FA00) || cp >= 0x20000)
        *ret_cells = 2;
    return len;
}

/* Controls that reorder the text around them, so that a name could pose as another: U+202A..E and U+2066..9.
 */
static bool is_bidi_control(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;

    return u[0] == 0xE2 &&
           ((u[1] == 0x80 && u[2] >= 0xAA && u[2] <= 0xAE) || (u[1] == 0x81 && u[2] >= 0xA6 && u[2] <= 0xA9));
}

/* Copies at most `cells` columns of `str`, between characters, with an ellipsis when something was cut. */
static const char *cut_text(char buf[AP_SVG_TEXT_SZ], const char *str, size_t cells)
{
    size_t used = 0, len = 0, fit = 0;

    while (str[len]) {
        unsigned width;
        size_t step = utf8_step((const unsigned char *)str + len, &width);

        if (used + width > cells || len + step > AP_SVG_TEXT_SZ - 4) {
            memcpy(buf + fit, "\xE2\x80\xA6", 4);
            return buf;
        }
        memcpy(buf + len, is_bidi_control(str + len) ? "\xEF\xBF\xBD" : str + len, step);
        used += width;
        len += step;
        if (used < cells) /* leaves the last column to the ellipsis */
            fit = len;
    }
    buf[len] = '\0';
    return buf;
}

void ap_svg_text(struct ap_svg_writer *w, const char *str, size_t cells)
{
    char buf[AP_SVG_TEXT_SZ];

    ap_out_xml_str(w->out, cut_text(buf, str, cells));
}

void ap_svg_json_str(struct ap_svg_writer *w, const char *str)
{
    char buf[AP_SVG_TEXT_SZ];

    ap_buf_reset(&w->json_buf);
    ap_out_json_str(w->json, cut_text(buf, str, SVG_NAME_CELLS), true);
    if (ap_out_flush(w->json) == 0 && w->json_buf.data)
        ap_out_xml_str(w->out, w->json_buf.data);
}

const char *ap_svg_count(char buf[AP_FORMAT_SZ], uint64_t n)
{
    char *p = buf + AP_FORMAT_SZ - 1;
    int digits = 0;

    *p = '\0';
    do {
        if (digits && digits % 3 == 0)
            *--p = ',';
        *--p = (char)('0' + n % 10);
        n /= 10;
        digits++;
    } while (n);
    return p;
}

const char *ap_svg_percent(char buf[AP_FORMAT_SZ], uint64_t part, uint64_t whole)
{
    double percent = whole ? 100.0 * (double)part / (double)whole : 0.0;

    if (part && percent < 0.01)
        snprintf(buf, AP_FORMAT_SZ, "<0.01 %%");
    else
        snprintf(buf, AP_FORMAT_SZ, "%.*f %%", percent < 10.0 && part ? 2 : 1, percent);
    return buf;
}
