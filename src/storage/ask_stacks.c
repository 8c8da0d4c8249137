/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Sums by stack, and the stacks themselves. */
#include "model/table.h"
#include "storage/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* ---- Sums ---- */

/* "FROM ..." of all pieces added up, as columns stack, c, v. */
static void put_sums(struct ap_buf *sql, const struct ap_store *store, const struct ap_storage_scope *scope,
                     const struct ap_sql_plan *plan)
{
    ap_buf_str(sql, "SELECT stack, sum(c), sum(v) FROM (");
    for (unsigned i = 0; i < plan->cnt; i++) {
        ap_buf_printf(sql, "%sSELECT stack, sum(count) AS c, sum(value) AS v", i > 0 ? " UNION ALL " : "");
        ap_sql_piece(sql, store->database, scope, &plan->pieces[i]);
        ap_buf_str(sql, " GROUP BY stack");
    }
    ap_buf_printf(sql, ") GROUP BY stack ORDER BY stack LIMIT %u", AP_STACK_SUMS_MAX + 1);
}

static int read_sums(struct ap_rowbin *in, struct ap_stack_sums *sums, struct ap_error *err)
{
    size_t cnt = (size_t)(in->end - in->at) / (3 * sizeof(uint64_t));

    if (cnt > AP_STACK_SUMS_MAX)
        return ap_ask_too_many(err, "stacks", AP_STACK_SUMS_MAX);
    sums->stacks = malloc((cnt + 1) * sizeof(*sums->stacks));
    sums->counts = malloc((cnt + 1) * sizeof(*sums->counts));
    sums->values = malloc((cnt + 1) * sizeof(*sums->values));
    if (sums->stacks == NULL || sums->counts == NULL || sums->values == NULL)
        return ap_error_errno(err, -ENOMEM, "sums by stack");
    for (; ap_rowbin_more(in) && sums->cnt < cnt; sums->cnt++) {
        sums->stacks[sums->cnt] = ap_rowbin_u64(in);
        sums->counts[sums->cnt] = ap_rowbin_u64(in);
        sums->values[sums->cnt] = ap_rowbin_u64(in);
    }
    return in->bad || in->at != in->end ? ap_store_bad_answer(err) : 0;
}

int ap_ask_stacks(void *engine, const struct ap_storage_scope *scope, struct ap_stack_sums *ret_sums,
                  struct ap_error *err)
{
    struct ap_store *store = engine;
    struct ap_stack_sums sums = {0};
    struct ap_sql_result result = {0};
    struct ap_buf sql;
    int r = ap_store_ensure(store, err);

    if (r != 0)
        return r;
    const struct ap_sql_plan plan = ap_store_plan(store, scope, 0, NULL);
    sums.source = plan.source;
    if (plan.cnt == 0) { /* not even one slot */
        *ret_sums = sums;
        return 0;
    }
    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    put_sums(&sql, store, scope, &plan);
    r = ap_store_query(store, &sql, &result, err);
    ap_buf_done(&sql);
    if (r == 0)
        r = read_sums(&result.in, &sums, err);
    ap_sql_result_done(&result);
    if (r != 0) {
        ap_stack_sums_done(&sums);
        return r;
    }
    *ret_sums = sums;
    return 0;
}

/* ---- Stacks ---- */

/* Numbers by identity. */
struct hashes {
    struct ap_table table;
    uint64_t *keys;
    uint32_t *values;
    size_t cnt, cap;
};

static void hashes_done(struct hashes *hashes)
{
    ap_table_done(&hashes->table);
    free(hashes->keys);
    free(hashes->values);
}

/* Index of the key, AP_TABLE_NONE when it is not there. */
static uint32_t hashes_find(const struct hashes *hashes, uint64_t key)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    if (hashes->keys == NULL)
        return AP_TABLE_NONE;
    while ((i = ap_table_next(&hashes->table, key, &pos)) != AP_TABLE_NONE) {
        if (hashes->keys[i] == key)
            return i;
    }
    return AP_TABLE_NONE;
}

static int hashes_add(struct hashes *hashes, uint64_t key, uint32_t value)
{
    if (hashes_find(hashes, key) != AP_TABLE_NONE)
        return 0;
    if (hashes->cnt == hashes->cap) {
        size_t cap = hashes->cap == 0 ? 256 : hashes->cap * 2;
        uint64_t *keys = reallocarray(hashes->keys, cap, sizeof(*keys));

        if (keys == NULL)
            return -ENOMEM;
        hashes->keys = keys;
        uint32_t *values = reallocarray(hashes->values, cap, sizeof(*values));
        if (values == NULL)
            return -ENOMEM;
        hashes->values = values;
        hashes->cap = cap;
    }
    if (ap_table_reserve(&hashes->table) != 0)
        return -ENOMEM;
    ap_table_put(&hashes->table, key, (uint32_t)hashes->cnt);
    hashes->keys[hashes->cnt] = key;
    hashes->values[hashes->cnt++] = value;
    return 0;
}

/* A frame of the answers; in the profile once a stack has it. */
struct loaded {
    struct ap_frame frame;
    uint32_t index; /* in the profile, UINT32_MAX = not yet */
    bool stored;    /* it was found */
};

struct loading {
    struct ap_store *store;
    struct ap_profile *profile;
    struct hashes frames;  /* identity; the order is that of `loaded` */
    struct loaded *loaded; /* as many as `frames` once they are asked for */
    struct hashes wanted;  /* stack to index in the caller's arrays */
    uint32_t *stack, *series;
};

/* "SELECT columns FROM table WHERE hash IN (hashes)", each once. */
static int ask_hashes(struct ap_store *store, const char *columns, enum ap_store_table table, const uint64_t *hashes,
                      size_t cnt, struct ap_sql_result *ret_result, struct ap_error *err)
{
    struct ap_buf sql;

    ap_buf_init(&sql, AP_SQL_TEXT_SZ);
    ap_buf_printf(&sql, "SELECT %s FROM %s.%s WHERE hash IN (", columns, store->database, ap_table_def(table)->name);
    for (size_t i = 0; i < cnt; i++)
        ap_buf_printf(&sql, "%s%" PRIu64, i > 0 ? "," : "", hashes[i]);
    ap_buf_str(&sql, ") LIMIT 1 BY hash");
    int r = ap_store_query(store, &sql, ret_result, err);
    ap_buf_done(&sql);
    return r;
}

static uint32_t intern(struct ap_profile *profile, struct ap_rowbin *in)
{
    size_t len;
    const char *text = ap_rowbin_text(in, &len);
    uint32_t id = 0;

    if (text != NULL && len > 0)
        ap_strings_add(profile->strings, text, len, &id);
    return id;
}

static int read_frame(struct loading *loading, struct ap_rowbin *in)
{
    struct ap_profile *profile = loading->profile;
    struct ap_mapping mapping = {0};
    uint64_t hash = ap_rowbin_u64(in);
    struct ap_frame frame = {.kind = ap_rowbin_u8(in)};
    uint8_t flags = ap_rowbin_u8(in);
    size_t build_id_len;

    frame.inlined = (flags & AP_ROW_INLINED) != 0;
    frame.waker = (flags & AP_ROW_WAKER) != 0;
    frame.line = ap_rowbin_u32(in);
    frame.offset = ap_rowbin_u64(in);
    frame.function = intern(profile, in);
    frame.file = intern(profile, in);
    mapping.path = intern(profile, in);
    const char *build_id = ap_rowbin_text(in, &build_id_len);
    if (in->bad)
        return -EIO;
    mapping.build_id_len = build_id_len < AP_BUILD_ID_MAX ? (uint8_t)build_id_len : AP_BUILD_ID_MAX;
    memcpy(mapping.build_id, build_id, mapping.build_id_len);
    int r = ap_profile_add_mapping(profile, &mapping, &frame.mapping);
    uint32_t at = hashes_find(&loading->frames, hash);
    if (r == 0 && at != AP_TABLE_NONE)
        loading->loaded[at] = (struct loaded){.frame = frame, .index = UINT32_MAX, .stored = true};
    return r;
}

/* Loads the frames that were added since `first`. */
static int load_frames(struct loading *loading, size_t first, struct ap_error *err)
{
    struct loaded *loaded = reallocarray(loading->loaded, loading->frames.cnt + 1, sizeof(*loaded));

    if (loaded == NULL) {
        ap_error_errno(err, -ENOMEM, "frames");
        return -ENOMEM;
    }
    loading->loaded = loaded;
    memset(loaded + first, 0, (loading->frames.cnt - first) * sizeof(*loaded));
    for (size_t at = first; at < loading->frames.cnt;) {
        struct ap_sql_result result = {0};
        size_t cnt = loading->frames.cnt - at < AP_ASK_HASHES_MAX ? loading->frames.cnt - at : AP_ASK_HASHES_MAX;
        int r = ask_hashes(loading->store, "hash, kind, flags, line, offset, function, file, module, build_id",
                           AP_TABLE_FRAMES, loading->frames.keys + at, cnt, &result, err);

        if (r != 0)
            return r;
        while (ap_rowbin_more(&result.in) && r == 0)
            r = read_frame(loading, &result.in);
        if (r != 0 || result.in.bad)
            r = result.in.bad ? ap_store_bad_answer(err) : ap_error_errno(err, r, "frames");
        ap_sql_result_done(&result);
        if (r != 0)
            return r;
        at += cnt;
    }
    return 0;
}

/* Adds the frames of a stack (of which the last is the thread name), the stack and its series to the profile. */
static int put_stack(struct loading *loading, const uint32_t *places, size_t cnt, bool truncated, uint32_t *ret_stack,
                     uint32_t *ret_series)
{
    const struct ap_series series = {.comm = loading->loaded[places[cnt - 1]].frame.function};
    uint32_t frames[AP_STACK_FRAMES_MAX];
    int r = 0;

    for (size_t i = 0; i < cnt - 1 && r == 0; i++) {
        struct loaded *loaded = &loading->loaded[places[i]];

        if (loaded->index == UINT32_MAX)
            r = ap_profile_add_frame(loading->profile, &loaded->frame, &loaded->index);
        frames[i] = loaded->index;
    }
    if (r == 0)
        r = ap_profile_add_series(loading->profile, &series, ret_series);
    if (r == 0)
        r = ap_profile_add_stack(loading->profile, frames, (uint32_t)cnt - 1, truncated, ret_stack);
    return r;
}

/* One stack of the answer, whose frames are loaded. What lacks a frame is not stored. */
static int add_stack(struct loading *loading, struct ap_rowbin *in)
{
    uint32_t places[AP_STACK_FRAMES_MAX + 1];
    uint64_t hash = ap_rowbin_u64(in);
    bool truncated = ap_rowbin_u8(in) != 0, complete = true;
    size_t cnt = ap_rowbin_array(in, sizeof(uint64_t));
    uint32_t wanted = hashes_find(&loading->wanted, hash), stack, series;

    for (size_t i = 0; i < cnt; i++) {
        uint32_t at = hashes_find(&loading->frames, ap_rowbin_u64(in));

        if (at == AP_TABLE_NONE || !loading->loaded[at].stored || i > AP_STACK_FRAMES_MAX)
            complete = false;
        else
            places[i] = at;
    }
    if (in->bad || !complete || cnt < 2 || wanted == AP_TABLE_NONE)
        return 0;
    int r = put_stack(loading, places, cnt, truncated, &stack, &series);
    if (r == 0) {
        loading->stack[loading->wanted.values[wanted]] = stack;
        loading->series[loading->wanted.values[wanted]] = series;
    }
    return r;
}

static int want_frames(struct loading *loading, struct ap_rowbin in)
{
    while (ap_rowbin_more(&in)) {
        ap_rowbin_u64(&in);
        ap_rowbin_u8(&in);
        size_t cnt = ap_rowbin_array(&in, sizeof(uint64_t));

        for (size_t i = 0; i < cnt; i++) {
            int r = hashes_add(&loading->frames, ap_rowbin_u64(&in), 0);

            if (r != 0)
                return r;
        }
    }
    return in.bad ? -EIO : 0;
}

static int load_some(struct loading *loading, const uint64_t *stacks, size_t cnt, struct ap_error *err)
{
    struct ap_sql_result result = {0};
    size_t known = loading->frames.cnt;
    int r = ask_hashes(loading->store, "hash, truncated, frames", AP_TABLE_STACKS, stacks, cnt, &result, err);

    if (r != 0)
        return r;
    r = want_frames(loading, result.in);
    if (r != 0)
        r = r == -EIO ? ap_store_bad_answer(err) : ap_error_errno(err, r, "stacks");
    if (r == 0)
        r = load_frames(loading, known, err);
    while (r == 0 && ap_rowbin_more(&result.in)) {
        r = add_stack(loading, &result.in);
        if (r != 0)
            ap_error_errno(err, r, "stacks");
    }
    ap_sql_result_done(&result);
    return r;
}

int ap_ask_load_stacks(void *engine, const uint64_t *stacks, size_t cnt, struct ap_profile *profile,
                       uint32_t *ret_stack, uint32_t *ret_series, struct ap_error *err)
{
    struct loading loading = {.store = engine, .profile = profile};
    int r = 0;

    loading.stack = malloc((cnt + 1) * sizeof(*loading.stack));
    loading.series = malloc((cnt + 1) * sizeof(*loading.series));
    if (loading.stack == NULL || loading.series == NULL)
        r = -ENOMEM;
    for (size_t i = 0; i < cnt && r == 0; i++) {
        loading.stack[i] = loading.series[i] = UINT32_MAX;
        r = hashes_add(&loading.wanted, stacks[i], (uint32_t)i);
    }
    if (r != 0)
        ap_error_errno(err, r, "stacks");
    for (size_t at = 0; at < loading.wanted.cnt && r == 0; at += AP_ASK_HASHES_MAX) {
        size_t some = loading.wanted.cnt - at < AP_ASK_HASHES_MAX ? loading.wanted.cnt - at : AP_ASK_HASHES_MAX;

        r = load_some(&loading, loading.wanted.keys + at, some, err);
    }
    for (size_t i = 0; i < cnt && r == 0; i++) {
        /* The same stack asked for twice is loaded once. */
        uint32_t first = loading.wanted.values[hashes_find(&loading.wanted, stacks[i])];

        ret_stack[i] = loading.stack[first];
        ret_series[i] = loading.series[first];
    }
    hashes_done(&loading.frames);
    hashes_done(&loading.wanted);
    free(loading.loaded);
    free(loading.stack);
    free(loading.series);
    return r;
}
