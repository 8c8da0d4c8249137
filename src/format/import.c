/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#define ZLIB_CONST /* input pointers are const */

#include "format/import_internal.h"

#include "core/buf.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

/* How many bytes tell text from binary. */
#define SNIFF_SZ 512

static const char *const names[] = {
    [AP_IMPORT_ANY] = "any",
    [AP_IMPORT_JSON] = "json",
    [AP_IMPORT_PPROF] = "pprof",
    [AP_IMPORT_COLLAPSED] = "collapsed",
};

int ap_import_format_from_name(const char *name, enum ap_import_format *ret_format, struct ap_error *err)
{
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret_format = (enum ap_import_format)i;
            return 0;
        }
    }
    return ap_error_set(err, -EINVAL, "'%.64s' cannot be imported: use json, pprof, collapsed or any", name);
}

struct ap_profile *ap_import_profile(struct ap_capture *capture, uint8_t kind, struct ap_error *err)
{
    struct ap_profile *profile;

    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        if (capture->profiles[i]->kind == kind) {
            ap_error_set(err, -EINVAL, "two profiles of kind %s", ap_event_kind_name(kind));
            return NULL;
        }
    }
    profile = capture->profile_cnt < AP_CAPTURE_PROFILES_MAX ? ap_profile_new(kind) : NULL;
    if (profile == NULL)
        ap_error_set(err, -ENOMEM, "out of memory");
    else
        capture->profiles[capture->profile_cnt++] = profile;
    return profile;
}

int ap_import_refused(int rc, struct ap_error *err)
{
    if (rc == -ENOSPC)
        return ap_error_set(err, -E2BIG, "more stacks, names or samples than one profile may have");
    if (rc == -ENOMEM)
        return ap_error_set(err, rc, "out of memory");
    return ap_error_set(err, rc, "a row of the profile cannot be");
}

/* 0, -EINVAL, -E2BIG or -ENOMEM; with words. */
static int unzip(const void *data, size_t len, struct ap_buf *ret, struct ap_error *err)
{
    z_stream zip = {.next_in = data, .avail_in = (uInt)len};
    unsigned char part[65536];
    int r = inflateInit2(&zip, 15 + 16) == Z_OK ? Z_OK : Z_MEM_ERROR;

    while (r == Z_OK) {
        zip.next_out = part;
        zip.avail_out = sizeof(part);
        r = inflate(&zip, Z_NO_FLUSH);
        if (r != Z_OK && r != Z_STREAM_END)
            break;
        if (ap_buf_append(ret, part, sizeof(part) - zip.avail_out) != 0)
            r = Z_MEM_ERROR;
        if (r == Z_STREAM_END && zip.avail_in > 0) /* files may be put one behind the other */
            r = inflateReset(&zip);
    }
    inflateEnd(&zip);
    if (ret->error == -ENOSPC)
        return ap_error_set(err, -E2BIG, "gzip: more than %u MiB unpacked", AP_IMPORT_UNPACKED_SZ >> 20);
    if (r == Z_MEM_ERROR)
        return ap_error_set(err, -ENOMEM, "out of memory");
    return r == Z_STREAM_END ? 0 : ap_error_set(err, -EINVAL, "gzip: the data is damaged or cut off");
}

static enum ap_import_format sniff(const unsigned char *data, size_t len)
{
    size_t i = 0;

    while (i < len && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t'))
        i++;
    for (size_t j = 0; j < len && j < SNIFF_SZ; j++)
        if (data[j] < 0x20 && data[j] != '\n' && data[j] != '\r' && data[j] != '\t')
            return AP_IMPORT_PPROF;
    return i < len && data[i] == '{' ? AP_IMPORT_JSON : AP_IMPORT_COLLAPSED;
}

/* What the document does not say of itself. */
static void complete(struct ap_capture *capture, const struct ap_import_opts *opts)
{
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        struct ap_profile *profile = capture->profiles[i];

        if (profile->start_ns == 0)
            profile->start_ns = opts->start_ns;
        if (profile->duration_ns == 0)
            profile->duration_ns = opts->duration_ns;
    }
}

static int decode(struct ap_capture *capture, enum ap_import_format format, const void *data, size_t len,
                  const struct ap_import_opts *opts, struct ap_error *err)
{
    int r = -EINVAL;

    if (format == AP_IMPORT_ANY)
        format = sniff(data, len);
    switch (format) {
    case AP_IMPORT_JSON:
        r = ap_import_json(capture, data, len, opts, err);
        break;
    case AP_IMPORT_PPROF:
        r = ap_import_pprof(capture, data, len, opts, err);
        break;
    case AP_IMPORT_COLLAPSED:
    case AP_IMPORT_ANY:
        r = ap_import_collapsed(capture, data, len, opts, err);
        break;
    }
    if (r == 0)
        complete(capture, opts);
    return r;
}

struct ap_capture *ap_import(enum ap_import_format format, const void *data, size_t len,
                             const struct ap_import_opts *opts, struct ap_error *err)
{
    const unsigned char *bytes = data;
    struct ap_capture *capture;
    struct ap_buf unpacked;
    int r = 0;

    if (len == 0 || len > AP_IMPORT_SZ) {
        ap_error_set(err, len == 0 ? -EINVAL : -E2BIG, len == 0 ? "nothing to import: no bytes" : "more than %u MiB",
                     AP_IMPORT_SZ >> 20);
        return NULL;
    }
    capture = ap_capture_new();
    if (capture == NULL) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    ap_buf_init(&unpacked, AP_IMPORT_UNPACKED_SZ);
    if (len >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b) {
        r = unzip(data, len, &unpacked, err);
        data = unpacked.data;
        len = unpacked.len;
        if (r == 0 && len == 0)
            r = ap_error_set(err, -EINVAL, "nothing to import: no bytes in the gzip file");
    }
    if (r == 0)
        r = decode(capture, format, data, len, opts, err);
    ap_buf_done(&unpacked);
    return r == 0 ? capture : ap_capture_free(capture);
}
