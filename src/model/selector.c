/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/selector.h"

#include "core/clock.h"
#include "core/parse.h"
#include "model/profile.h"
#include "model/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ap_selector_done(struct ap_selector *selector)
{
    for (size_t i = 0; i < selector->matcher_cnt; i++) {
        free(selector->matchers[i].label);
        free(selector->matchers[i].value);
    }
    free(selector->function);
    *selector = (struct ap_selector){0};
}

int ap_selector_copy(const struct ap_selector *from, struct ap_selector *ret_to)
{
    int r = 0;

    *ret_to = (struct ap_selector){
        .kind = from->kind,
        .from_ns = from->from_ns,
        .to_ns = from->to_ns,
    };
    for (size_t i = 0; r == 0 && i < from->matcher_cnt; i++)
        r = ap_selector_match(ret_to, from->matchers[i].label, from->matchers[i].op, from->matchers[i].value, NULL);
    if (r == 0)
        r = ap_selector_function(ret_to, from->function, from->function_regex, NULL);
    if (r != 0)
        ap_selector_done(ret_to);
    return r;
}

int ap_selector_match(struct ap_selector *selector, const char *label, uint8_t op, const char *value,
                      struct ap_error *err)
{
    struct ap_matcher *matcher = &selector->matchers[selector->matcher_cnt];

    if (!ap_label_name_valid(label))
        return ap_error_set(err, -EINVAL,
                            "'%.*s' is not a label: use host, service, comm, pid, exe, container, agent or a label of "
                            "your own (letters, digits and _)",
                            AP_PUSH_LABEL_NAME_SZ, label);
    if (op > AP_MATCH_NOT_REGEX)
        return ap_error_set(err, -EINVAL, "label %s: there is no comparison %u", label, op);
    if (strlen(value) >= AP_SELECTOR_TEXT_SZ)
        return ap_error_set(err, -E2BIG, "label %s: a value of %zu bytes, the longest is %d", label, strlen(value),
                            AP_SELECTOR_TEXT_SZ - 1);
    if (selector->matcher_cnt >= AP_SELECTOR_MATCHERS_MAX)
        return ap_error_set(err, -E2BIG, "label %s: more than %d conditions", label, AP_SELECTOR_MATCHERS_MAX);
    *matcher = (struct ap_matcher){.op = op, .label = strdup(label), .value = strdup(value)};
    if (matcher->label == NULL || matcher->value == NULL) {
        free(matcher->label);
        free(matcher->value);
        return ap_error_errno(err, -ENOMEM, "label %s", label);
    }
    selector->matcher_cnt++;
    return 0;
}

/* What is being read, with the place that an error is about. */
struct reader {
    const char *text, *pos;
    struct ap_error *err;
};

static int expected(const struct reader *in, const char *what)
{
    if (*in->pos == '\0')
        return ap_error_set(in->err, -EINVAL, "selector '%.512s': %s is missing at its end", in->text, what);
    return ap_error_set(in->err, -EINVAL, "selector '%.512s', character %zu: %s expected, not '%.32s'", in->text,
                        (size_t)(in->pos - in->text) + 1, what, in->pos);
}

static void skip_blanks(struct reader *in)
{
    while (*in->pos == ' ' || *in->pos == '\t' || *in->pos == '\n' || *in->pos == '\r')
        in->pos++;
}

static int read_label(struct reader *in, char label[AP_PUSH_LABEL_NAME_SZ])
{
    size_t len = strcspn(in->pos, " \t\n\r=!~,{}\"'`");

    if (len == 0 || len >= AP_PUSH_LABEL_NAME_SZ)
        return expected(in, "a label's name");
    memcpy(label, in->pos, len);
    label[len] = '\0';
    if (!ap_label_name_valid(label))
        return expected(in, "a label's name");
    in->pos += len;
    return 0;
}

static int read_op(struct reader *in, uint8_t *ret_op)
{
    static const struct {
        const char *text;
        uint8_t op;
    } ops[] = {{"=~", AP_MATCH_REGEX}, {"!~", AP_MATCH_NOT_REGEX}, {"!=", AP_MATCH_NOT_EQUAL}, {"=", AP_MATCH_EQUAL}};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strncmp(in->pos, ops[i].text, strlen(ops[i].text)) == 0) {
            in->pos += strlen(ops[i].text);
            *ret_op = ops[i].op;
            return 0;
        }
    }
    return expected(in, "one of = != =~ !~");
}

/* What stands for an escaped character, 0 when none does. */
static char unescape(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '\\':
    case '"':
    case '\'':
        return c;
    default:
        return '\0';
    }
}

/* "..." or '...' with escapes, `...` without. */
static int read_value(struct reader *in, char value[AP_SELECTOR_TEXT_SZ])
{
    const struct reader start = *in;
    char quote = *in->pos;
    size_t len = 0;

    if (quote != '"' && quote != '\'' && quote != '`')
        return expected(in, "a value in quotes");
    for (in->pos++; *in->pos != quote; in->pos++) {
        char c = *in->pos;

        if (c == '\0')
            return expected(in, "the closing quote");
        if (c == '\\' && quote != '`') {
            c = unescape(in->pos[1]);
            if (c == '\0')
                return expected(in, "one of \\\\ \\\" \\' \\n \\r \\t (a backslash of a regular expression is \\\\)");
            in->pos++;
        }
        if (len + 1 >= AP_SELECTOR_TEXT_SZ)
            return ap_error_set(in->err, -E2BIG, "selector: a value of more than %d bytes at character %zu",
                                AP_SELECTOR_TEXT_SZ - 1, (size_t)(start.pos - in->text) + 1);
        value[len++] = c;
    }
    value[len] = '\0';
    in->pos++;
    return 0;
}

static int read_matcher(struct reader *in, struct ap_selector *selector)
{
    char label[AP_PUSH_LABEL_NAME_SZ], value[AP_SELECTOR_TEXT_SZ];
    uint8_t op = 0;
    int r;

    r = read_label(in, label);
    if (r != 0)
        return r;
    skip_blanks(in);
    r = read_op(in, &op);
    if (r != 0)
        return r;
    skip_blanks(in);
    r = read_value(in, value);
    if (r != 0)
        return r;
    skip_blanks(in);
    return ap_selector_match(selector, label, op, value, in->err);
}

static int read_matchers(struct reader *in, struct ap_selector *selector)
{
    bool braces;
    int r;

    skip_blanks(in);
    braces = *in->pos == '{';
    in->pos += braces;
    skip_blanks(in);
    while (*in->pos != '\0' && !(braces && *in->pos == '}')) {
        r = read_matcher(in, selector);
        if (r != 0)
            return r;
        if (*in->pos != ',')
            break;
        in->pos++; /* the last one may be followed by a comma, as Prometheus takes it */
        skip_blanks(in);
    }
    if (braces) {
        if (*in->pos != '}')
            return expected(in, ", or }");
        in->pos++;
        skip_blanks(in);
    }
    return *in->pos == '\0' ? 0 : expected(in, braces ? "the end" : "a comma");
}

int ap_selector_parse(struct ap_selector *selector, const char *text, struct ap_error *err)
{
    struct reader in = {.text = text, .pos = text, .err = err};
    size_t before = selector->matcher_cnt;
    int r = read_matchers(&in, selector);

    while (r != 0 && selector->matcher_cnt > before) {
        struct ap_matcher *matcher = &selector->matchers[--selector->matcher_cnt];

        free(matcher->label);
        free(matcher->value);
        *matcher = (struct ap_matcher){0};
    }
    return r;
}

int ap_selector_function(struct ap_selector *selector, const char *text, bool regex, struct ap_error *err)
{
    char *copy = NULL;

    if (text != NULL && strlen(text) >= AP_SELECTOR_TEXT_SZ)
        return ap_error_set(err, -E2BIG, "a function of %zu bytes: the longest is %d", strlen(text),
                            AP_SELECTOR_TEXT_SZ - 1);
    if (text != NULL && text[0] != '\0') {
        copy = strdup(text);
        if (copy == NULL)
            return ap_error_errno(err, -ENOMEM, "function");
    }
    free(selector->function);
    selector->function = copy;
    selector->function_regex = copy != NULL && regex;
    return 0;
}

int ap_selector_kind(const char *name, uint8_t *ret_kind, struct ap_error *err)
{
    for (uint8_t kind = AP_KIND_CPU; kind <= AP_KIND_GPU; kind++) {
        if (strcmp(name, ap_event_kind_name(kind)) == 0) {
            *ret_kind = kind;
            return 0;
        }
    }
    return ap_error_set(err, -EINVAL, "'%.64s' is not a kind: there are cpu, offcpu, lock, syscall and gpu", name);
}

/* Reads exactly `digits` digits. */
static bool read_digits(const char **text, int digits, int *ret)
{
    int value = 0;

    for (int i = 0; i < digits; i++, ++*text) {
        if (**text < '0' || **text > '9')
            return false;
        value = value * 10 + (**text - '0');
    }
    *ret = value;
    return true;
}

static bool read_char(const char **text, const char *set)
{
    if (**text == '\0' || strchr(set, **text) == NULL)
        return false;
    ++*text;
    return true;
}

/* ".5" to ns; what is below a ns is cut. True without one as well. */
static bool read_fraction(const char **text, uint64_t *ret_ns)
{
    uint64_t scale = AP_NS_PER_SEC, ns = 0;

    *ret_ns = 0;
    if (**text != '.')
        return true;
    ++*text;
    if (**text < '0' || **text > '9')
        return false;
    for (; **text >= '0' && **text <= '9'; ++*text) {
        scale /= 10;
        ns += scale * (uint64_t)(**text - '0');
    }
    *ret_ns = ns;
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

/* Days since 1970-01-01 in the Gregorian calendar: years are counted from March, so that the leap day is the last. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;

    return y * 365 + y / 4 - y / 100 + y / 400 + of_year - 719468;
}

/* Z, or +HH:MM and -HH:MM: seconds that the time is ahead of UTC. */
static bool read_offset(const char **text, int64_t *ret_seconds)
{
    int hours, minutes;
    bool west = **text == '-';

    *ret_seconds = 0;
    if (read_char(text, "Zz"))
        return true;
    if (!read_char(text, "+-") || !read_digits(text, 2, &hours) || !read_char(text, ":") ||
        !read_digits(text, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = ((int64_t)hours * 60 + minutes) * 60 * (west ? -1 : 1);
    return true;
}

/* RFC 3339, section 5.6. 0, -EINVAL or -ERANGE (before the epoch, or past 64 bits). */
static int read_rfc3339(const char *text, uint64_t *ret_ns)
{
    int year, month, day, hour, minute, second;
    int64_t seconds, offset;
    uint64_t fraction, ns;

    if (!read_digits(&text, 4, &year) || !read_char(&text, "-") || !read_digits(&text, 2, &month) ||
        !read_char(&text, "-") || !read_digits(&text, 2, &day) || !read_char(&text, "Tt ") ||
        !read_digits(&text, 2, &hour) || !read_char(&text, ":") || !read_digits(&text, 2, &minute) ||
        !read_char(&text, ":") || !read_digits(&text, 2, &second) || !read_fraction(&text, &fraction) ||
        !read_offset(&text, &offset) || *text != '\0')
        return -EINVAL;
    /* 60 is a leap second, which the epoch does not count: it falls on the next one. */
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return -EINVAL;
    seconds = days_since_epoch(year, month, day) * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 + second;
    seconds -= offset;
    if (seconds < 0 || __builtin_mul_overflow((uint64_t)seconds, AP_NS_PER_SEC, &ns) ||
        __builtin_add_overflow(ns, fraction, &ns))
        return -ERANGE;
    *ret_ns = ns;
    return 0;
}

/* Seconds since the epoch. */
static int read_epoch(const char *text, uint64_t *ret_ns)
{
    uint64_t seconds = 0, fraction, ns;
    bool overflow = false;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    for (; *text >= '0' && *text <= '9'; text++)
        overflow |= __builtin_mul_overflow(seconds, 10, &seconds) ||
                    __builtin_add_overflow(seconds, (uint64_t)(*text - '0'), &seconds);
    if (!read_fraction(&text, &fraction) || *text != '\0')
        return -EINVAL;
    if (overflow || __builtin_mul_overflow(seconds, AP_NS_PER_SEC, &ns) || __builtin_add_overflow(ns, fraction, &ns))
        return -ERANGE;
    *ret_ns = ns;
    return 0;
}

/* "15m", "2h ago" */
static int read_ago(const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
    static const char ago[] = "ago";
    size_t len = strlen(text);
    char duration[64];
    uint64_t ns = 0;
    int r;

    if (len > strlen(ago) && strcmp(text + len - strlen(ago), ago) == 0 && text[len - strlen(ago) - 1] == ' ')
        len -= strlen(ago);
    while (len > 0 && text[len - 1] == ' ')
        len--;
    if (len >= sizeof(duration))
        return -EINVAL;
    memcpy(duration, text, len);
    duration[len] = '\0';
    r = ap_parse_duration(duration, &ns, NULL);
    if (r == 0 && ns > now_ns)
        r = -ERANGE;
    if (r == 0)
        *ret_ns = now_ns - ns;
    return r;
}

int ap_selector_time(const char *text, uint64_t now_ns, uint64_t *ret_ns, struct ap_error *err)
{
    uint64_t ns = now_ns;
    int r = strcmp(text, "now") == 0 ? 0 : read_rfc3339(text, &ns);

    if (r == -EINVAL)
        r = read_epoch(text, &ns);
    if (r == -EINVAL)
        r = read_ago(text, now_ns, &ns);
    if (r == -ERANGE)
        return ap_error_set(err, r, "time '%.64s' is before 1970 or too far ahead (plain numbers are seconds)", text);
    if (r != 0)
        return ap_error_set(err, r,
                            "'%.64s' is not a time: use 2026-11-21T10:00:00Z, seconds since 1970, a duration back from "
                            "now such as 15m or \"2h ago\", or now",
                            text);
    *ret_ns = ns;
    return 0;
}
