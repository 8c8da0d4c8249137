/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/parse.h"

#include "core/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Digits after the point that count: 10^18 units of the last one still fit in 64 bits. More are read and
 * ignored. */
#define FRACTION_DIGITS 18

#define NS_PER_MIN  (60 * AP_NS_PER_SEC)
#define NS_PER_HOUR (60 * NS_PER_MIN)
#define NS_PER_DAY  (24 * NS_PER_HOUR)

#define MAX_DURATION "213503d"
#define MAX_SIZE     "16777215T"

typedef unsigned __int128 wide;

struct unit {
    const char *name;
    uint64_t factor;
};

struct number {
    uint64_t whole;
    uint64_t fraction; /* over fraction_scale */
    uint64_t fraction_scale;
};

static const struct unit duration_units[] = {
    {"ns", 1},         {"us", 1000},       {"ms", 1000000},   {"s", AP_NS_PER_SEC},
    {"m", NS_PER_MIN}, {"h", NS_PER_HOUR}, {"d", NS_PER_DAY},
};

static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1ULL << 10},
    {"KB", 1ULL << 10},
    {"KiB", 1ULL << 10},
    {"M", 1ULL << 20},
    {"MB", 1ULL << 20},
    {"MiB", 1ULL << 20},
    {"G", 1ULL << 30},
    {"GB", 1ULL << 30},
    {"GiB", 1ULL << 30},
    {"T", 1ULL << 40},
    {"TB", 1ULL << 40},
    {"TiB", 1ULL << 40},
};

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Not isdigit(): that one follows the locale and is undefined for negative chars. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits at *text and steps past them, all of them even when the value is past UINT64_MAX (-ERANGE). */
static int read_whole(const char **text, uint64_t *ret)
{
    bool overflow = false;
    uint64_t value = 0;

    if (!is_digit(**text))
        return -EINVAL;
    for (; is_digit(**text); ++*text)
        overflow |= __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(**text - '0'), &value);
    *ret = value;
    return overflow ? -ERANGE : 0;
}

/* DIGITS ["." DIGITS]. No sign, no exponent, no blanks: what strtod() takes beyond that is a typing error
 * here. */
static int read_number(const char **text, struct number *ret)
{
    int rc = read_whole(text, &ret->whole);

    ret->fraction = 0;
    ret->fraction_scale = 1;
    if (rc == -EINVAL || **text != '.')
        return rc;
    ++*text;
    if (!is_digit(**text))
        return -EINVAL;
    for (int i = 0; is_digit(**text); i++, ++*text) {
        if (i >= FRACTION_DIGITS)
            continue;
        ret->fraction = ret->fraction * 10 + (uint64_t)(**text - '0');
        ret->fraction_scale *= 10;
    }
    return rc;
}

/* Adds number * factor to *sum; what is left below 1 is cut. */
static int add_scaled(uint64_t *sum, const struct number *number, uint64_t factor)
{
    wide value = (wide)number->whole * factor + (wide)number->fraction * factor / number->fraction_scale + *sum;

    if (value > UINT64_MAX)
        return -ERANGE;
    *sum = (uint64_t)value;
    return 0;
}

/* Unit spelt by exactly `len` characters, or NULL. */
static const struct unit *find_duration_unit(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
        if (strlen(duration_units[i].name) == len && memcmp(duration_units[i].name, name, len) == 0)
            return &duration_units[i];
    }
    return NULL;
}

/* One or more NUMBER UNIT, or a bare number of seconds. Syntax errors win over overflow anywhere in the text.
 */
static int read_duration(const char *text, uint64_t *ret_ns)
{
    const char *pos = text;
    bool overflow = false;
    uint64_t sum = 0;

    do {
        const char *start = pos;
        struct number number;
        int rc = read_number(&pos, &number);
        if (rc == -EINVAL)
            return rc;

        size_t len = strcspn(pos, "0123456789.");
        bool bare = start == text && *pos == '\0';
        const struct unit *unit = find_duration_unit(bare ? "s" : pos, bare ? 1 : len);
        if (!unit)
            return -EINVAL;
        overflow |= rc || add_scaled(&sum, &number, unit->factor);
        pos += len;
    } while (*pos);

    *ret_ns = sum;
    return overflow ? -ERANGE : 0;
}

int ap_parse_duration(const char *text, uint64_t *ret_ns, struct ap_error *err)
{
    uint64_t ns = 0;
    int rc = text ? read_duration(text, &ns) : -EINVAL;

    if (rc == -ERANGE)
        return ap_error_set(err, rc, "duration '%s' is too long: the longest is about " MAX_DURATION, text);
    if (rc)
        return ap_error_set(err, rc,
                            "'%s' is not a duration: use numbers with ns, us, ms, s, m, h or d, such as 1h30m, "
                            "1.5s or 250ms; a bare number is seconds",
                            text ? text : "");
    *ret_ns = ns;
    return 0;
}

static int read_size(const char *text, uint64_t *ret_bytes)
{
    struct number number;
    int rc = read_number(&text, &number);

    if (rc == -EINVAL)
        return rc;
    for (size_t i = 0; i < ARRAY_LEN(size_units); i++) {
        if (strcasecmp(size_units[i].name, text) != 0)
            continue;
        return rc ? rc : add_scaled(ret_bytes, &number, size_units[i].factor);
    }
    return -EINVAL;
}

int ap_parse_size(const char *text, uint64_t *ret_bytes, struct ap_error *err)
{
    uint64_t bytes = 0;
    int rc = text ? read_size(text, &bytes) : -EINVAL;

    if (rc == -ERANGE)
        return ap_error_set(err, rc, "size '%s' is too large: the largest is about " MAX_SIZE, text);
    if (rc)
        return ap_error_set(err, rc, "'%s' is not a size: use a number with B, K, M, G or T, such as 64M or 1.5G",
                            text ? text : "");
    *ret_bytes = bytes;
    return 0;
}

int ap_parse_u64(const char *text, uint64_t *ret_value, struct ap_error *err)
{
    const char *pos = text;
    uint64_t value = 0;
    int rc = text ? read_whole(&pos, &value) : -EINVAL;

    if (rc == -EINVAL || *pos != '\0')
        return ap_error_set(err, -EINVAL, "'%s' is not a whole number: use decimal digits only", text ? text : "");
    if (rc)
        return ap_error_set(err, rc, "number '%s' is too large: the largest is %" PRIu64, text, UINT64_MAX);
    *ret_value = value;
    return 0;
}

/* Writes value / unit with three significant digits. False when that reaches `limit`: the next unit reads
 * better. */
static bool format_scaled(char *buf, uint64_t value, const struct unit *unit, uint64_t limit)
{
    uint64_t scale = unit->factor == 1 ? 1 : 100;

    for (; scale >= 1; scale /= 10) {
        uint64_t scaled = (uint64_t)(((wide)value * scale + unit->factor / 2) / unit->factor);

        if (scaled >= limit * scale)
            return false;
        if (scaled >= 1000 && scale > 1)
            continue;
        int digits = scale == 100 ? 2 : 1;
        if (scale == 1)
            (void)snprintf(buf, AP_FORMAT_SZ, "%" PRIu64 " %s", scaled, unit->name);
        else
            (void)snprintf(buf, AP_FORMAT_SZ, "%u.%0*u %s", (unsigned int)(scaled / scale), digits,
                           (unsigned int)(scaled % scale), unit->name);
        return true;
    }
    return false;
}

static uint64_t round_to(uint64_t ns, uint64_t unit)
{
    return ns / unit + (ns % unit >= unit / 2);
}

char *ap_format_duration(char *buf, uint64_t ns)
{
    for (size_t i = 0; i < 4; i++) {
        if (format_scaled(buf, ns, &duration_units[i], i < 3 ? 1000 : 60))
            return buf;
    }

    uint64_t seconds = round_to(ns, AP_NS_PER_SEC);
    uint64_t minutes = round_to(ns, NS_PER_MIN);
    uint64_t hours = round_to(ns, NS_PER_HOUR);
    if (seconds < 3600)
        (void)snprintf(buf, AP_FORMAT_SZ, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
    else if (minutes < UINT64_C(24) * 60)
        (void)snprintf(buf, AP_FORMAT_SZ, "%" PRIu64 "h%02" PRIu64 "m", minutes / 60, minutes % 60);
    else
        (void)snprintf(buf, AP_FORMAT_SZ, "%" PRIu64 "d%02" PRIu64 "h", hours / 24, hours % 24);
    return buf;
}

char *ap_format_size(char *buf, uint64_t bytes)
{
    static const struct unit units[] = {
        {"B", 1},
        {"KiB", 1ULL << 10},
        {"MiB", 1ULL << 20},
        {"GiB", 1ULL << 30},
        {"TiB", 1ULL << 40},
        {"PiB", 1ULL << 50},
        {"EiB", 1ULL << 60},
    };
    size_t i = 0;

    while (i + 1 < ARRAY_LEN(units) && !format_scaled(buf, bytes, &units[i], 1024))
        i++;
    if (i + 1 == ARRAY_LEN(units))
        (void)format_scaled(buf, bytes, &units[i], 1024);
    return buf;
}
