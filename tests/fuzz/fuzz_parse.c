/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Values from the command line, and names from anywhere on their way into JSON and XML. */
#include "core/out.h"
#include "core/parse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Escaping makes a byte into six at most. */
#define OUT_MAX ((size_t)16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_parse(const char *text)
{
    char readable[AP_FORMAT_SZ];
    struct ap_error err = {0};
    uint64_t value = 0;

    if (ap_parse_duration(text, &value, &err) == 0)
        check(strlen(ap_format_duration(readable, value)) < AP_FORMAT_SZ);
    else
        check(err.code < 0 && err.text[0]);
    if (ap_parse_size(text, &value, NULL) == 0)
        check(strlen(ap_format_size(readable, value)) < AP_FORMAT_SZ);
    if (ap_parse_u64(text, &value, NULL) == 0) { /* a whole number is a size in bytes too */
        uint64_t bytes = 0;
        check(ap_parse_size(text, &bytes, NULL) == 0 && bytes == value);
    }
}

/* What must not stand in the output, whatever the input was. */
static void check_escaped(const struct ap_buf *buf, const char *forbidden)
{
    for (size_t i = 0; i < buf->len; i++) {
        unsigned char c = (unsigned char)buf->data[i];
        check(c >= 0x20 && !strchr(forbidden, c));
    }
}

static void check_escapes(const char *text)
{
    struct ap_buf buf;

    ap_buf_init(&buf, OUT_MAX);
    struct ap_out *out = ap_out_new_buf(&buf);
    if (!out)
        return;
    ap_out_json_str(out, text, true);
    if (ap_out_flush(out) == 0) {
        check(buf.len >= 2 && buf.data[0] == '"' && buf.data[buf.len - 1] == '"');
        check_escaped(&buf, "<");
    }
    ap_buf_reset(&buf);
    ap_out_xml_str(out, text);
    if (ap_out_flush(out) == 0 && buf.len > 0)
        check_escaped(&buf, "<>\"'");
    ap_out_free(out);
    ap_buf_done(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = (char *)malloc(size + 1);

    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_parse(text);
    check_escapes(text);
    free(text);
    return 0;
}
