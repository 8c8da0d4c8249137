/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "format/format.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *ending;
    enum ap_format format;
} endings[] = {
    {".svg", AP_FORMAT_SVG},     {".speedscope.json", AP_FORMAT_SPEEDSCOPE}, /* before .json */
    {".json", AP_FORMAT_JSON},   {".collapsed", AP_FORMAT_COLLAPSED},
    {".pb.gz", AP_FORMAT_PPROF}, {".txt", AP_FORMAT_TEXT},
};

int ap_format_from_path(const char *path, enum ap_format *ret_format, struct ap_error *err)
{
    size_t len = strlen(path);

    if (strcmp(path, "-") == 0) {
        *ret_format = AP_FORMAT_COLLAPSED;
        return 0;
    }
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        size_t ending_len = strlen(endings[i].ending);

        if (len >= ending_len && strcasecmp(path + len - ending_len, endings[i].ending) == 0) {
            *ret_format = endings[i].format;
            return 0;
        }
    }
    return ap_error_set(err, -EINVAL,
                        "cannot tell the format of output file \"%s\": its name must end in .svg (flamegraph), "
                        ".json, .speedscope.json, .collapsed, .pb.gz (pprof) or .txt (table)",
                        path);
}

const char *ap_format_ending(enum ap_format format)
{
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
        if (endings[i].format == format)
            return endings[i].ending;
    return "";
}

bool ap_format_supports(enum ap_format format, const struct ap_profile *profile)
{
    bool stacks = format != AP_FORMAT_JSON && format != AP_FORMAT_TEXT;

    return !stacks || profile->kind != AP_KIND_SYSCALL || profile->sample_cnt != 0;
}

static int write_svg(const struct ap_capture *capture, const struct ap_profile *profile, struct ap_out *out)
{
    struct ap_tree *tree = ap_tree_new(profile);
    int r;

    if (tree == NULL)
        return -ENOMEM;
    r = ap_svg_write(capture, tree, out);
    ap_tree_free(tree);
    return r;
}

int ap_format_write(enum ap_format format, struct ap_capture *capture, unsigned profile, struct ap_out *out)
{
    const struct ap_profile *selected = NULL;
    int r = -EINVAL;

    if (format != AP_FORMAT_JSON) {
        if (profile >= capture->profile_cnt)
            return -EINVAL;
        selected = capture->profiles[profile];
    }
    switch (format) {
    case AP_FORMAT_SVG:
        r = write_svg(capture, selected, out);
        break;
    case AP_FORMAT_JSON:
        r = ap_json_write(capture, out);
        break;
    case AP_FORMAT_COLLAPSED:
        r = ap_collapsed_write(selected, out);
        break;
    case AP_FORMAT_PPROF:
        r = ap_pprof_write(capture, selected, out);
        break;
    case AP_FORMAT_SPEEDSCOPE:
        r = ap_speedscope_write(capture, selected, out);
        break;
    case AP_FORMAT_TEXT:
        r = ap_text_write(capture, selected, 0, false, out);
        if (r == 0)
            r = ap_text_account(capture, false, out);
        break;
    }
    return r != 0 ? r : ap_out_flush(out);
}
