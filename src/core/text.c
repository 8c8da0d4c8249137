/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/text.h"

#include <stdio.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

size_t ap_utf8_len(const char *str)
{
    const unsigned char *s = (const unsigned char *)str;

    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4 || !is_tail(s[1]))
        return 0;
    if (s[0] < 0xE0)
        return 2;
    if (s[0] < 0xF0) {
        bool overlong = s[0] == 0xE0 && s[1] < 0xA0;
        bool surrogate = s[0] == 0xED && s[1] > 0x9F;
        return !overlong && !surrogate && is_tail(s[2]) ? 3 : 0;
    }
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return is_tail(s[2]) && is_tail(s[3]) ? 4 : 0;
}

static char short_escape(unsigned char c)
{
    switch (c) {
    case '\n':
        return 'n';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    case '"':
    case '\\':
        return (char)c;
    default:
        return '\0';
    }
}

size_t ap_json_step(const char **str, bool html, char ret[AP_JSON_CHAR_SZ + 1])
{
    unsigned char c = (unsigned char)**str;
    size_t len = ap_utf8_len(*str);

    if (len == 0) {
        *str += 1;
        memcpy(ret, AP_UTF8_REPLACEMENT, sizeof(AP_UTF8_REPLACEMENT));
        return sizeof(AP_UTF8_REPLACEMENT) - 1;
    }
    if (short_escape(c)) {
        ret[0] = '\\';
        ret[1] = short_escape(c);
        len = 2;
        *str += 1;
    } else if (c < 0x20 || c == 0x7F || (html && c == '<')) {
        (void)snprintf(ret, AP_JSON_CHAR_SZ + 1, "\\u%04x", c);
        len = 6;
        *str += 1;
    } else {
        memcpy(ret, *str, len);
        *str += len;
    }
    ret[len] = '\0';
    return len;
}
