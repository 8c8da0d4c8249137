/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the targets of the decoders share. */
#ifndef APERTURE_TESTS_FUZZ_IMPORT_H
#define APERTURE_TESTS_FUZZ_IMPORT_H

#include "format/format.h"
#include "format/import.h"

#include <stdint.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

static int discard(void *ctx, const void *data, size_t len)
{
    (void)ctx;
    (void)data;
    (void)len;
    return 0;
}

/* The first byte chooses what is asked for. */
static void fuzz_import(enum ap_import_format format, const uint8_t *data, size_t size)
{
    static const enum ap_format formats[] = {AP_FORMAT_JSON, AP_FORMAT_COLLAPSED,  AP_FORMAT_PPROF,
                                             AP_FORMAT_TEXT, AP_FORMAT_SPEEDSCOPE, AP_FORMAT_SVG};
    const struct ap_import_opts opts = {.kind = size > 0 ? data[0] % (AP_KIND_GPU + 1) : 0, .start_ns = 1};
    struct ap_error err = {0};
    struct ap_capture *capture;

    if (size == 0)
        return;
    capture = ap_import(data[0] & 0x80 ? AP_IMPORT_ANY : format, data + 1, size - 1, &opts, &err);
    if (capture == NULL) {
        CHECK(err.code < 0 && err.text[0] != '\0');
        return;
    }
    CHECK(capture->profile_cnt > 0 && capture->profile_cnt <= AP_CAPTURE_PROFILES_MAX);
    for (unsigned i = 0; i < capture->profile_cnt; i++) {
        struct ap_profile *profile = capture->profiles[i];
        struct ap_tree *tree = ap_tree_new(profile);

        CHECK(tree != NULL && tree->nodes[0].count == ap_profile_total_count(profile));
        CHECK(tree->nodes[0].value == ap_profile_total_value(profile));
        ap_tree_free(tree);
        for (unsigned j = 0; j < sizeof(formats) / sizeof(formats[0]); j++) {
            struct ap_out *out = ap_out_new(discard, NULL);

            if (ap_format_supports(formats[j], profile))
                CHECK(ap_format_write(formats[j], capture, i, out) == 0);
            ap_out_free(out);
        }
    }
    ap_capture_free(capture);
}

#endif
