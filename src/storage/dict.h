/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to src/storage: what batches in memory share: text, frames, stacks and label sets, each once, with a count of
 * who uses it. What nobody uses any more is freed. No locking of its own. */
#ifndef APERTURE_STORAGE_DICT_H
#define APERTURE_STORAGE_DICT_H

#include "core/map.h"
#include "storage/rows.h"

#include <stddef.h>
#include <stdint.h>

struct ap_dict_text {
    uint64_t users;
    size_t len;
    char text[];
};

struct ap_dict_frame {
    uint64_t users;
    struct ap_row_frame row;
    struct ap_dict_text *function, *file, *module; /* what row's text points into */
};

struct ap_dict_stack {
    uint64_t hash, users;
    bool truncated;
    uint32_t cnt;
    struct ap_dict_frame *frames[]; /* leaf first, thread name last */
};

struct ap_dict_series {
    uint64_t hash, users;
    uint32_t cnt;
    struct ap_row_label *labels; /* into the same block; text is of `texts` */
    struct ap_dict_text **texts; /* name, value, name, value ... */
};

struct ap_dict {
    struct ap_map texts, frames, stacks, series;
    size_t sz; /* bytes, with those of the maps about */
};

void ap_dict_init(struct ap_dict *dict);
/* Frees everything, used or not. */
void ap_dict_done(struct ap_dict *dict);

/* Each finds or adds, and counts one user more. NULL when out of memory. Stacks: of `rows`, with all frames. */
struct ap_dict_text *ap_dict_text(struct ap_dict *dict, const char *str);
struct ap_dict_stack *ap_dict_stack(struct ap_dict *dict, const struct ap_rows *rows, const struct ap_row_stack *row);
struct ap_dict_series *ap_dict_series(struct ap_dict *dict, const struct ap_rows *rows,
                                      const struct ap_row_series *row);

/* One user less. Accept NULL. */
void ap_dict_text_unref(struct ap_dict *dict, struct ap_dict_text *text);
void ap_dict_stack_unref(struct ap_dict *dict, struct ap_dict_stack *stack);
void ap_dict_series_unref(struct ap_dict *dict, struct ap_dict_series *series);

/* By identity; NULL when there is none. */
const struct ap_dict_stack *ap_dict_find_stack(const struct ap_dict *dict, uint64_t hash);

#endif
