/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/json_read.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum expect {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_NAME,
    EXPECT_NAME_OR_END, /* after '{' */
    EXPECT_COLON,
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING,
};

struct parser {
    struct ap_json_doc *doc;
    const char *text, *p, *end;
    uint32_t cap;
    uint32_t stack[AP_JSON_DEPTH_MAX]; /* tokens that are open */
    unsigned depth;
    enum expect expect;
    struct ap_error *err;
};

static int bad(const struct parser *parser, const char *what)
{
    return ap_error_set(parser->err, -EINVAL, "not JSON: %s at byte %zu", what, (size_t)(parser->p - parser->text));
}

static int add(struct parser *parser)
{
    struct ap_json_doc *doc = parser->doc;

    if (doc->token_cnt == parser->cap) {
        uint32_t cap = parser->cap == 0 ? 256 : parser->cap * 2;
        struct ap_json_token *tokens;

        if (cap > AP_JSON_TOKENS_MAX)
            return ap_error_set(parser->err, -E2BIG, "JSON of more than %u values", AP_JSON_TOKENS_MAX);
        tokens = reallocarray(doc->tokens, cap, sizeof(*tokens));
        if (tokens == NULL)
            return ap_error_set(parser->err, -ENOMEM, "out of memory");
        doc->tokens = tokens;
        parser->cap = cap;
    }
    doc->tokens[doc->token_cnt] = (struct ap_json_token){
        .pos = (uint32_t)(parser->p - parser->text),
        .next = doc->token_cnt + 1,
    };
    doc->token_cnt++;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_escape(char c)
{
    return c != '\0' && strchr("\"\\/bfnrtu", c) != NULL;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* From the opening quote past the closing one. */
static int scan_string(struct parser *parser)
{
    for (parser->p++; parser->p < parser->end; parser->p++) {
        unsigned char c = (unsigned char)*parser->p;

        if (c == '"') {
            parser->p++;
            return 0;
        }
        if (c < 0x20)
            return bad(parser, "a control character in a string");
        if (c != '\\')
            continue;
        parser->p++;
        if (parser->p == parser->end || !is_escape(*parser->p))
            return bad(parser, "an unknown escape");
        if (*parser->p != 'u')
            continue;
        for (int i = 0; i < 4; i++) {
            parser->p++;
            if (parser->p == parser->end || !is_hex(*parser->p))
                return bad(parser, "an escape without four hexadecimal digits");
        }
    }
    return bad(parser, "a string without an end");
}

static bool scan_digits(struct parser *parser)
{
    const char *start = parser->p;

    while (parser->p < parser->end && *parser->p >= '0' && *parser->p <= '9')
        parser->p++;
    return parser->p > start;
}

static int scan_number(struct parser *parser)
{
    const char *start;
    bool fine;

    if (*parser->p == '-')
        parser->p++;
    start = parser->p;
    fine = scan_digits(parser) && (*start != '0' || parser->p == start + 1);
    if (fine && parser->p < parser->end && *parser->p == '.') {
        parser->p++;
        fine = scan_digits(parser);
    }
    if (fine && parser->p < parser->end && (*parser->p == 'e' || *parser->p == 'E')) {
        parser->p++;
        if (parser->p < parser->end && (*parser->p == '+' || *parser->p == '-'))
            parser->p++;
        fine = scan_digits(parser);
    }
    return fine ? 0 : bad(parser, "a malformed number");
}

static int scan_word(struct parser *parser)
{
    static const char *const words[] = {"true", "false", "null"};

    for (unsigned i = 0; i < 3; i++) {
        size_t len = strlen(words[i]);

        if ((size_t)(parser->end - parser->p) >= len && memcmp(parser->p, words[i], len) == 0) {
            parser->p += len;
            return 0;
        }
    }
    return bad(parser, "an unexpected character");
}

/* What may come after a value that has just ended. */
static void value_ended(struct parser *parser)
{
    parser->expect = parser->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

static int open_value(struct parser *parser, char c)
{
    if (parser->depth == AP_JSON_DEPTH_MAX)
        return ap_error_set(parser->err, -E2BIG, "JSON nested deeper than %d", AP_JSON_DEPTH_MAX);
    parser->stack[parser->depth++] = parser->doc->token_cnt - 1;
    parser->expect = c == '{' ? EXPECT_NAME_OR_END : EXPECT_VALUE_OR_END;
    parser->p++;
    return 0;
}

static int close_value(struct parser *parser)
{
    uint32_t token = parser->stack[parser->depth - 1];

    assert(token < parser->doc->token_cnt && parser->doc->tokens != NULL);
    if (parser->text[parser->doc->tokens[token].pos] != (*parser->p == '}' ? '{' : '['))
        return bad(parser, "the wrong closing bracket");
    parser->doc->tokens[token].next = parser->doc->token_cnt;
    parser->depth--;
    parser->p++;
    value_ended(parser);
    return 0;
}

static int value(struct parser *parser)
{
    char c = *parser->p;
    int r;

    if (c == ']' && parser->expect == EXPECT_VALUE_OR_END)
        return close_value(parser);
    r = add(parser);
    if (r != 0)
        return r;
    if (c == '{' || c == '[')
        return open_value(parser, c);
    if (c == '"')
        r = scan_string(parser);
    else if (c == '-' || (c >= '0' && c <= '9'))
        r = scan_number(parser);
    else
        r = scan_word(parser);
    value_ended(parser);
    return r;
}

static int member_name(struct parser *parser)
{
    int r;

    if (*parser->p == '}' && parser->expect == EXPECT_NAME_OR_END)
        return close_value(parser);
    if (*parser->p != '"')
        return bad(parser, "something other than a member's name");
    r = add(parser);
    parser->expect = EXPECT_COLON;
    return r != 0 ? r : scan_string(parser);
}

static int step(struct parser *parser)
{
    switch (parser->expect) {
    case EXPECT_VALUE:
    case EXPECT_VALUE_OR_END:
        return value(parser);
    case EXPECT_NAME:
    case EXPECT_NAME_OR_END:
        return member_name(parser);
    case EXPECT_COLON:
        if (*parser->p != ':')
            return bad(parser, "no colon after a member's name");
        parser->p++;
        parser->expect = EXPECT_VALUE;
        return 0;
    case EXPECT_COMMA_OR_END:
        if (*parser->p == '}' || *parser->p == ']')
            return close_value(parser);
        if (*parser->p != ',')
            return bad(parser, "neither a comma nor a closing bracket");
        parser->p++;
        parser->expect =
            parser->text[parser->doc->tokens[parser->stack[parser->depth - 1]].pos] == '{' ? EXPECT_NAME : EXPECT_VALUE;
        return 0;
    case EXPECT_NOTHING:
        break;
    }
    return bad(parser, "text after the end");
}

int ap_json_doc_init(struct ap_json_doc *ret, const char *text, size_t len, struct ap_error *err)
{
    struct ap_json_doc doc = {.text = text, .len = len};
    struct parser *parser;
    int r = 0;

    if (len > UINT32_MAX)
        return ap_error_set(err, -E2BIG, "JSON of more than 4 GiB");
    parser = malloc(sizeof(*parser));
    if (parser == NULL)
        return ap_error_set(err, -ENOMEM, "out of memory");
    *parser = (struct parser){.doc = &doc, .text = text, .p = text, .end = text + len, .err = err};
    while (r == 0 && parser->p < parser->end) {
        if (is_blank(*parser->p))
            parser->p++;
        else
            r = step(parser);
    }
    if (r == 0 && parser->expect != EXPECT_NOTHING)
        r = bad(parser, "it ends too early");
    free(parser);
    if (r == 0)
        *ret = doc;
    else
        ap_json_doc_done(&doc);
    return r;
}

void ap_json_doc_done(struct ap_json_doc *doc)
{
    free(doc->tokens);
    *doc = (struct ap_json_doc){0};
}

char ap_json_type(const struct ap_json_doc *doc, uint32_t token)
{
    char c;

    if (token >= doc->token_cnt)
        return '\0';
    c = doc->text[doc->tokens[token].pos];
    return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

uint32_t ap_json_member(const struct ap_json_doc *doc, uint32_t object, const char *name)
{
    size_t len = strlen(name);

    for (uint32_t i = AP_JSON_NONE; (i = ap_json_next_name(doc, object, i)) != AP_JSON_NONE;) {
        uint32_t pos = doc->tokens[i].pos;

        if (doc->len - pos > len + 1 && memcmp(doc->text + pos + 1, name, len) == 0 && doc->text[pos + 1 + len] == '"')
            return i + 1;
    }
    return AP_JSON_NONE;
}

uint32_t ap_json_next_item(const struct ap_json_doc *doc, uint32_t array, uint32_t item)
{
    uint32_t next;

    if (ap_json_type(doc, array) != '[')
        return AP_JSON_NONE;
    next = item == AP_JSON_NONE ? array + 1 : doc->tokens[item].next;
    return next < doc->tokens[array].next ? next : AP_JSON_NONE;
}

uint32_t ap_json_next_name(const struct ap_json_doc *doc, uint32_t object, uint32_t name)
{
    uint32_t next;

    if (ap_json_type(doc, object) != '{')
        return AP_JSON_NONE;
    next = name == AP_JSON_NONE ? object + 1 : doc->tokens[name + 1].next;
    return next < doc->tokens[object].next ? next : AP_JSON_NONE;
}

static uint32_t hex4(const char *p)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = p[i];

        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static void put_code_point(struct ap_buf *buf, uint32_t cp)
{
    if (cp == 0 || (cp >= 0xd800 && cp < 0xe000))
        cp = 0xfffd;
    if (cp < 0x80) {
        ap_buf_char(buf, (char)cp);
    } else if (cp < 0x800) {
        ap_buf_char(buf, (char)(0xc0 | cp >> 6));
        ap_buf_char(buf, (char)(0x80 | (cp & 0x3f)));
    } else if (cp < 0x10000) {
        ap_buf_char(buf, (char)(0xe0 | cp >> 12));
        ap_buf_char(buf, (char)(0x80 | (cp >> 6 & 0x3f)));
        ap_buf_char(buf, (char)(0x80 | (cp & 0x3f)));
    } else {
        ap_buf_char(buf, (char)(0xf0 | cp >> 18));
        ap_buf_char(buf, (char)(0x80 | (cp >> 12 & 0x3f)));
        ap_buf_char(buf, (char)(0x80 | (cp >> 6 & 0x3f)));
        ap_buf_char(buf, (char)(0x80 | (cp & 0x3f)));
    }
}

/* The escape behind the backslash at p - 1; returns the place after it. The parser has checked its form. */
static const char *put_escape(struct ap_buf *buf, const char *p)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *found = strchr(from, *p);
    uint32_t cp;

    if (*p != 'u') {
        ap_buf_char(buf, found != NULL ? to[found - from] : *p);
        return p + 1;
    }
    cp = hex4(p + 1);
    p += 5;
    if (cp >= 0xd800 && cp < 0xdc00 && p[0] == '\\' && p[1] == 'u') {
        uint32_t low = hex4(p + 2);

        if (low >= 0xdc00 && low < 0xe000) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }
    }
    put_code_point(buf, cp);
    return p;
}

int ap_json_text(const struct ap_json_doc *doc, uint32_t token, struct ap_buf *ret)
{
    const char *p;

    ap_buf_reset(ret);
    if (ap_json_type(doc, token) != '"')
        return -EINVAL;
    ap_buf_str(ret, "");
    for (p = doc->text + doc->tokens[token].pos + 1; *p != '"' && ret->error == 0;) {
        const char *plain = p;

        while (*p != '"' && *p != '\\')
            p++;
        ap_buf_append(ret, plain, (size_t)(p - plain));
        if (*p == '\\')
            p = put_escape(ret, p + 1);
    }
    return ret->error;
}

int ap_json_u64(const struct ap_json_doc *doc, uint32_t token, uint64_t *ret)
{
    const char *p, *end = doc->text + doc->len;
    uint64_t number = 0;

    if (ap_json_type(doc, token) != '0')
        return -EINVAL;
    for (p = doc->text + doc->tokens[token].pos; p < end && *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            return -ERANGE;
    if (p < end && (*p == '-' || *p == '.' || *p == 'e' || *p == 'E'))
        return -EINVAL;
    *ret = number;
    return 0;
}
