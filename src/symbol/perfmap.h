/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Perf maps: what runtimes with a just-in-time compiler write to /tmp/perf-PID.map, a line "START SIZE NAME"
 * in hexadecimal per compiled function (linux/tools/perf/Documentation/jit-interface.txt). */
#ifndef APERTURE_SYMBOL_PERFMAP_H
#define APERTURE_SYMBOL_PERFMAP_H

#include <stddef.h>
#include <stdint.h>

/* Bounds of what is read; the file is under a stranger's control. */
#define AP_PERFMAP_SZ_MAX      (256u << 20)
#define AP_PERFMAP_ENTRIES_MAX (4u << 20)
#define AP_PERFMAP_NAME_MAX    4096 /* bytes of a name kept */

struct ap_perfmap; /* opaque; read-only after it is made, any thread */

/* Reads the file at `fd` from its beginning. Lines that make no sense are skipped; where entries overlap the
 * later line wins, since memory is reused. 0 with *ret_map owned by the caller; -EFBIG past the bounds,
 * -ENOMEM, or the read's negative errno. */
int ap_perfmap_read(int fd, struct ap_perfmap **ret_map);

/* The same from memory; `text` need not end in NUL. 0 or -EFBIG, -ENOMEM. */
int ap_perfmap_parse(const char *text, size_t len, struct ap_perfmap **ret_map);

/* Accepts NULL. Returns NULL. */
struct ap_perfmap *ap_perfmap_free(struct ap_perfmap *map);

/* Name of the function that contains the address, owned by the map, or NULL. `map` may be NULL. */
const char *ap_perfmap_find(const struct ap_perfmap *map, uint64_t addr);

#endif
