/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the memory engine: one batch as it is kept, packed, with text, stacks and label sets in a dictionary that
 * all batches share. */
#ifndef APERTURE_STORAGE_MEMORY_BATCH_H
#define APERTURE_STORAGE_MEMORY_BATCH_H

#include "model/answer.h"
#include "storage/dict.h"
#include "storage/merge.h"
#include "storage/rows.h"

struct ap_mem_sample {
    const struct ap_dict_series *series;
    uint64_t stack, count, value;
    uint64_t t_ns; /* beginning of its slot */
    uint8_t kind;
};

struct ap_mem_lock {
    struct ap_merge_lock row; /* text, histogram and arrays are owned by the batch */
    const struct ap_dict_series *series;
};

struct ap_mem_syscall {
    struct ap_merge_syscall row;
    const struct ap_dict_series *series;
};

/* What a batch has of one kind. */
struct ap_mem_kind {
    struct ap_kind_count sums;
    struct ap_account account;
};

struct ap_mem_batch {
    char agent_id[AP_PUSH_AGENT_ID_SZ];
    uint64_t epoch, sequence, start_ns, duration_ns, received_ns, bytes;
    uint64_t spool_bytes, spool_dropped_batches, spool_dropped_events;
    struct ap_agent_info info;
    struct ap_left_out *left_out; /* owned */
    unsigned left_out_cnt;
    struct ap_mem_kind kinds[AP_CAPTURE_PROFILES_MAX];
    unsigned kind_cnt;
    const struct ap_dict_series *series; /* its own labels and agent */

    struct ap_mem_sample *samples; /* by kind, series, time, stack */
    size_t sample_cnt;
    uint64_t first_ns, last_ns; /* of the samples */
    struct ap_mem_lock *locks;
    size_t lock_cnt;
    struct ap_mem_syscall *syscalls;
    size_t syscall_cnt;

    /* What it uses of the dictionary. */
    struct ap_dict_stack **stacks;
    struct ap_dict_series **all_series;
    struct ap_dict_text **texts;
    size_t stack_cnt, series_cnt, text_cnt, text_cap;

    size_t sz;    /* bytes, without what is in the dictionary */
    uint8_t *key; /* owned: names the batch, see ap_mem_key() */
    size_t key_len;
};

/* Longest key of a batch: epoch, sequence, agent. */
#define AP_MEM_KEY_SZ (2 * sizeof(uint64_t) + AP_PUSH_AGENT_ID_SZ)
/* Writes the bytes that tell batches apart; returns how many. */
size_t ap_mem_key(const struct ap_push *push, uint8_t key[AP_MEM_KEY_SZ]);

/* Copies what is kept of a batch. NULL when out of memory. */
struct ap_mem_batch *ap_mem_batch_new(struct ap_dict *dict, const struct ap_rows *rows);
/* Accepts NULL and a half-built batch. Returns NULL. */
struct ap_mem_batch *ap_mem_batch_free(struct ap_dict *dict, struct ap_mem_batch *batch);

/* Whether it has a profile of the kind; 0: of any, or none. */
bool ap_mem_batch_has(const struct ap_mem_batch *batch, uint8_t kind);

#endif
