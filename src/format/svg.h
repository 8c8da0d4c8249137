/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the SVG codec: what layout, picture and document share. */
#ifndef APERTURE_FORMAT_SVG_H
#define APERTURE_FORMAT_SVG_H

#include "core/parse.h"
#include "format/format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AP_SVG_WIDTH      1200
#define AP_SVG_MARGIN     16
#define AP_SVG_CHART      (AP_SVG_WIDTH - 2 * AP_SVG_MARGIN)
#define AP_SVG_ROW        18
#define AP_SVG_CHART_TOP  128
#define AP_SVG_FOOT       44
#define AP_SVG_SHADES     7
#define AP_SVG_CODE_KINDS 6 /* frame kinds that are code: 0 .. AP_FRAME_GPU */
#define AP_SVG_WAKER      8 /* what the picture takes a waker's frames for, beside enum ap_frame_kind */
#define AP_SVG_KINDS      9
#define AP_SVG_TEXT_SZ    4096 /* bytes of a name, its end included */

/* What the viewer needs to know of a frame; nodes that agree in all of it share one. No padding: it is a map
 * key. */
struct ap_svg_frame {
    uint32_t name, module, file, line; /* string ids */
    uint32_t kind, flags;              /* AP_SVG_INLINED and AP_SVG_OF_WAKER */
};

enum { AP_SVG_INLINED = 1, AP_SVG_OF_WAKER = 2 };

/* A file in work. What is borrowed must outlive it. */
struct ap_svg_writer {
    const struct ap_capture *capture;
    const struct ap_account *account; /* of the profile */
    const struct ap_tree *tree;
    const struct ap_profile *profile;
    struct ap_out *out;

    struct ap_buf json_buf; /* one JSON string on its way to the XML escape */
    struct ap_out *json;

    bool by_count;      /* no values: widths are samples */
    double scale;       /* px per unit of weight */
    double *start;      /* per node: weight left of it */
    uint32_t *frame_of; /* per node: index into `frames` */
    struct ap_svg_frame *frames;
    uint32_t frame_cnt;
    uint32_t *string_of; /* per string id: index in the data block + 1, 0 = not used */
    uint32_t *strings;   /* string ids in data block order */
    uint32_t string_cnt, string_ids;
    uint64_t kind_self[AP_SVG_KINDS]; /* weight by frame kind */
    bool has_kind[AP_SVG_KINDS], has_inlined;
};

/* Layout: what is known of each node before anything is written
 * -------------------------------------------------------------------------------------------------------- */

/* Fills in a writer of `tree` into `out`; both, and `capture`, are borrowed. 0 or -ENOMEM; ap_svg_done() in either
 * case. */
int ap_svg_init(struct ap_svg_writer *w, const struct ap_capture *capture, const struct ap_tree *tree,
                struct ap_out *out);
/* Frees what it holds. */
void ap_svg_done(struct ap_svg_writer *w);

/* Value of node `i`, or its count where there are no values; and the same as a width in pixels. */
uint64_t ap_svg_weight(const struct ap_svg_writer *w, uint32_t i);
double ap_svg_px(const struct ap_svg_writer *w, uint32_t i);
/* Preorder successor, 0 at the end; `enter` = false passes over what hangs below. */
uint32_t ap_svg_next(const struct ap_tree *tree, uint32_t i, bool enter);
/* Text of a string id of the profile. */
const char *ap_svg_str(const struct ap_svg_writer *w, uint32_t id);
/* What a raw event of the profile is called. */
const char *ap_svg_unit(const struct ap_svg_writer *w);
/* The kind as the picture has it, below AP_SVG_KINDS: wakers are one, whatever their code is; a mark stays a mark. */
unsigned ap_svg_kind(const struct ap_tree_node *node);
/* Whether such a kind is code. */
bool ap_svg_is_code(unsigned kind);
/* Shade of a module (string id), below AP_SVG_SHADES: neighbouring modules of one kind should differ a little, and
 * always in the same way. */
unsigned ap_svg_shade(const struct ap_svg_writer *w, uint32_t module);
/* Place of a string id in the data block. */
uint32_t ap_svg_string_index(const struct ap_svg_writer *w, uint32_t id);

/* Text: the only two ways in which a name enters the file, and numbers
 * -------------------------------------------------------------------------------------------------------- */

/* Writes at most `cells` columns of a name as XML text. */
void ap_svg_text(struct ap_svg_writer *w, const char *str, size_t cells);
/* Writes it as a JSON string inside XML text: '<' becomes \u003c, then & > " ' become entities. */
void ap_svg_json_str(struct ap_svg_writer *w, const char *str);
/* "12,345". Returns a place in `buf`. */
const char *ap_svg_count(char buf[AP_FORMAT_SZ], uint64_t n);
/* "1.25 %", or "<0.01 %"; of nothing it is 0. Returns `buf`. */
const char *ap_svg_percent(char buf[AP_FORMAT_SZ], uint64_t part, uint64_t whole);

/* Picture: what a renderer shows without scripts
 * -------------------------------------------------------------------------------------------------------- */

/* Heading of a kind of event, "CPU time". */
const char *ap_svg_title(uint8_t kind);
/* Writes the style sheet and the pattern of marks. */
void ap_svg_style(struct ap_svg_writer *w);
/* Rows that the chart shows. */
int ap_svg_rows(const struct ap_svg_writer *w);
/* Writes the picture, `height` pixels high. */
void ap_svg_picture(struct ap_svg_writer *w, int height);

#endif
