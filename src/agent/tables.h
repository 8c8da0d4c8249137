/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Empties the pair of tables that BPF programs aggregate in (abi/tables.h). */
#ifndef APERTURE_AGENT_TABLES_H
#define APERTURE_AGENT_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct bpf_map;
struct ap_table_reader; /* opaque; not thread-safe */

/* The maps (hashes of the same shape) are borrowed. NULL when out of memory. */
struct ap_table_reader *ap_table_reader_new(const struct bpf_map *first, const struct bpf_map *second);
/* Accepts NULL. Returns NULL. */
struct ap_table_reader *ap_table_reader_free(struct ap_table_reader *reader);

/* `key` and `value` are valid during the call only. */
typedef void (*ap_table_row_fn)(void *ctx, const void *key, const void *value);

/* Hands every row of one generation's map to `fn` and removes it. No program may write to that map meanwhile: switch
 * the generation, then ap_programs_wait(). 0 or negative errno; what was not read stays. */
int ap_table_reader_drain(struct ap_table_reader *reader, uint32_t generation, ap_table_row_fn fn, void *ctx);

/* The same for rows that each CPU has to itself: `map` is a per-CPU array of values that begin with a key of `key_sz`
 * bytes, all zero where there is no row, and go on with the row. */
int ap_table_drain_own(const struct bpf_map *map, size_t key_sz, ap_table_row_fn fn, void *ctx);

#endif
