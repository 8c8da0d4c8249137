/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "fixture.h"

#include "model/locks.h"
#include "model/syscalls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static const struct ap_storage_scope everything = {.from_ns = 0, .to_ns = UINT64_MAX};

/* ---- Against plain arithmetic on random data ---- */

#define RECORDS_MAX 4000

struct record {
    uint8_t kind;
    const char *host, *service, *agent, *comm, *exe, *container;
    uint32_t pid;
    uint64_t t_ns, count, value;
    char stack[64], path[80], pid_text[16]; /* path: with thread name */
};

struct world {
    struct ap_storage *storage;
    struct record records[RECORDS_MAX];
    size_t cnt;
    uint64_t seed;
};

static const char *const hosts[] = {"alpha", "beta", "gamma"};
static const char *const services[] = {"", "web", "db"};
static const char *const comms[] = {"nginx", "worker", "postgres", ""};
static const char *const exes[] = {"", "/usr/bin/a", "/usr/bin/b"};
static const char *const containers[] = {"", "c0ffee"};

#define PICK(seed, array) (array)[fx_below(seed, sizeof(array) / sizeof((array)[0]))]

static void add_batch(struct world *w, unsigned agent, uint64_t sequence)
{
    uint64_t *seed = &w->seed, start = FX_START + sequence * 5 * FX_SEC + fx_below(seed, 1000) * 1000;
    const char *host = hosts[agent], *service = PICK(seed, services);
    struct ap_push *push = fx_push(host, sequence, start, host);
    uint32_t samples = fx_below(seed, 60);

    if (service[0] != '\0')
        assert_int_equal(ap_push_label(push, "service", service, NULL), 0);
    for (uint32_t i = 0; i < samples && w->cnt < RECORDS_MAX; i++) {
        struct record *r = &w->records[w->cnt++];
        uint32_t slot = fx_below(seed, 250);

        *r = (struct record){
            .kind = (uint8_t)(AP_KIND_CPU + fx_below(seed, 2)),
            .host = host,
            .service = service,
            .agent = host,
            .comm = PICK(seed, comms),
            .exe = PICK(seed, exes),
            .container = PICK(seed, containers),
            .pid = fx_below(seed, 3),
            .t_ns = (start + slot * AP_PUSH_SLOT_NS) / AP_PUSH_SLOT_NS * AP_PUSH_SLOT_NS,
            .count = 1 + fx_below(seed, 3),
            .value = fx_below(seed, 1000000),
        };
        uint32_t f = fx_below(seed, 4), g = fx_below(seed, 6);
        (void)snprintf(r->stack, sizeof(r->stack), "main;f%u;g%u", f, g);
        (void)snprintf(r->path, sizeof(r->path), "%s|main;f%u;g%u", r->comm, f, g);
        if (r->pid != 0)
            (void)snprintf(r->pid_text, sizeof(r->pid_text), "%u", r->pid);
        struct ap_profile *profile = fx_profile(push, r->kind);
        assert_int_equal(ap_profile_add_sample_at(profile, fx_series(profile, r->comm, r->pid, r->exe, r->container),
                                                  fx_stack(profile, r->stack), slot, r->count, r->value),
                         0);
    }
    assert_false(fx_commit(w->storage, push));
}

static struct world *random_world(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->seed = seed * 0x9e3779b97f4a7c15ULL + 1;
    w->storage = fx_open(0);
    for (uint64_t sequence = 1; sequence <= 20; sequence++)
        for (unsigned agent = 0; agent < 3; agent++)
            add_batch(w, agent, sequence);
    return w;
}

static void world_free(struct world *w)
{
    ap_storage_free(w->storage);
    free(w);
}

static const char *value_of(const struct record *r, const char *label)
{
    return strcmp(label, "host") == 0        ? r->host
           : strcmp(label, "agent") == 0     ? r->agent
           : strcmp(label, "service") == 0   ? r->service
           : strcmp(label, "comm") == 0      ? r->comm
           : strcmp(label, "exe") == 0       ? r->exe
           : strcmp(label, "container") == 0 ? r->container
           : strcmp(label, "pid") == 0       ? r->pid_text
                                             : "";
}

static bool matches(const struct record *r, const struct ap_storage_scope *scope)
{

    if ((scope->kind != 0 && r->kind != scope->kind) || r->t_ns < scope->from_ns || r->t_ns >= scope->to_ns)
        return false;
    for (size_t i = 0; i < scope->set_cnt; i++) {
        const struct ap_value_set *set = &scope->sets[i];
        bool found = false;

        for (size_t v = 0; v < set->value_cnt; v++)
            found |= strcmp(set->values[v], value_of(r, set->label)) == 0;
        if (found == set->negative)
            return false;
    }
    return true;
}

/* A scope with up to three sets of up to three values. */
struct random_scope {
    struct ap_storage_scope scope;
    struct ap_value_set sets[3];
    const char *values[3][3];
};

static void random_scope(uint64_t *seed, struct random_scope *rs)
{
    static const char *const labels[] = {"host", "service", "comm", "pid", "exe", "container", "agent", "nothing"};
    static const char *const values[] = {"",  "alpha", "beta", "web",    "db",         "nginx", "worker",
                                         "1", "2",     "0",    "c0ffee", "/usr/bin/a", "x"};
    uint64_t span = 22 * 5 * FX_SEC, from = fx_random(seed) % span;

    *rs = (struct random_scope){0};
    rs->scope = (struct ap_storage_scope){
        .kind = (uint8_t)fx_below(seed, 3),
        .from_ns = fx_below(seed, 3) == 0 ? 0 : FX_START + from,
        .to_ns = FX_START + from + 1 + fx_random(seed) % span,
        .sets = rs->sets,
        .set_cnt = fx_below(seed, 4),
    };
    for (size_t i = 0; i < rs->scope.set_cnt; i++) {
        rs->sets[i] = (struct ap_value_set){.label = PICK(seed, labels),
                                            .negative = fx_below(seed, 2) == 0,
                                            .values = rs->values[i],
                                            .value_cnt = 1 + fx_below(seed, 3)};
        for (size_t v = 0; v < rs->sets[i].value_cnt; v++)
            rs->values[i][v] = PICK(seed, values);
    }
}

/* "comm|main;f1;g2" of a row of a profile. */
static void path_of(const struct ap_profile *profile, uint32_t series, uint32_t stack, char *buf, size_t sz)
{
    const struct ap_stack *row = &profile->stacks[stack];
    size_t len = (size_t)snprintf(buf, sz, "%s|", ap_profile_str(profile, profile->series[series].comm));

    for (uint32_t i = row->frame_cnt; i-- > 0;)
        len += (size_t)snprintf(
            buf + len, sz - len, "%s%s",
            ap_profile_str(profile, profile->frames[profile->stack_frames[row->first + i]].function), i > 0 ? ";" : "");
}

static void check_stacks(const struct world *w, const struct ap_storage_scope *scope)
{
    struct ap_stack_sums sums;
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    uint32_t stack[1024], series[1024];
    uint64_t count = 0, value = 0;

    assert_int_equal(ap_storage_stacks(w->storage, scope, &sums, NULL), 0);
    assert_true(sums.cnt <= 1024);
    assert_string_equal(sums.source, "memory");
    assert_int_equal(ap_storage_load_stacks(w->storage, sums.stacks, sums.cnt, profile, stack, series, NULL), 0);
    for (size_t i = 0; i < sums.cnt; i++) {
        char path[128];
        uint64_t c = 0, v = 0;

        assert_true(i == 0 || sums.stacks[i - 1] < sums.stacks[i]);
        path_of(profile, series[i], stack[i], path, sizeof(path));
        for (size_t k = 0; k < w->cnt; k++) {
            if (strcmp(path, w->records[k].path) != 0 || !matches(&w->records[k], scope))
                continue;
            c += w->records[k].count;
            v += w->records[k].value;
        }
        assert_int_equal(sums.counts[i], c);
        assert_int_equal(sums.values[i], v);
        count += c;
        value += v;
    }
    for (size_t k = 0; k < w->cnt; k++) {
        if (!matches(&w->records[k], scope))
            continue;
        count -= w->records[k].count;
        value -= w->records[k].value;
    }
    assert_int_equal(count, 0);
    assert_int_equal(value, 0);
    ap_stack_sums_done(&sums);
    ap_profile_free(profile);
}

static void check_timeline(const struct world *w, const struct ap_storage_scope *scope, uint64_t *seed)
{
    static const char *const labels[] = {NULL, "host", "service", "comm", "pid"};
    static const uint64_t steps[] = {AP_PUSH_SLOT_NS, 3 * AP_PUSH_SLOT_NS, FX_SEC, 7 * FX_SEC, 3600 * FX_SEC};
    const char *label = PICK(seed, labels);
    uint64_t step = PICK(seed, steps), total = 0;
    size_t group_max = 1 + fx_below(seed, 4);
    struct ap_points points;

    assert_int_equal(ap_storage_timeline(w->storage, scope, step, label, group_max, &points, NULL), 0);
    assert_true(points.group_cnt <= group_max + 1);
    for (size_t i = 0; i < points.point_cnt; i++) {
        const struct ap_point *point = &points.points[i];
        uint64_t c = 0, v = 0;

        assert_int_equal(point->t_ns % step, 0);
        assert_true(i == 0 || point[-1].group < point->group ||
                    (point[-1].group == point->group && point[-1].t_ns < point->t_ns));
        for (size_t k = 0; k < w->cnt; k++) {
            const struct record *r = &w->records[k];
            const char *name = label != NULL ? value_of(r, label) : "";
            uint32_t group = (uint32_t)group_max;

            if (r->t_ns / step != point->t_ns / step || !matches(r, scope))
                continue;
            for (uint32_t g = 0; g < points.group_cnt && g < group_max; g++)
                if (strcmp(points.groups[g], name) == 0)
                    group = g;
            if (group != point->group)
                continue;
            c += r->count;
            v += r->value;
        }
        assert_int_equal(point->count, c);
        assert_int_equal(point->value, v);
        total += point->count;
    }
    for (size_t k = 0; k < w->cnt; k++)
        if (matches(&w->records[k], scope))
            total -= w->records[k].count;
    assert_int_equal(total, 0);
    if (points.group_cnt > group_max)
        assert_string_equal(points.groups[group_max], "(other)");
    ap_points_done(&points);
}

/* Values of the labels of processes come from samples alone. */
static void check_values(const struct world *w, const struct ap_storage_scope *scope)
{
    static const char *const labels[] = {"comm", "pid", "exe", "container"};

    for (size_t l = 0; l < 4; l++) {
        struct ap_texts texts;
        size_t seen = 0;

        assert_int_equal(ap_storage_label_values(w->storage, scope, labels[l], 100, &texts, NULL), 0);
        for (size_t i = 0; i < texts.cnt; i++) {
            bool found = false;

            assert_true(i == 0 || strcmp(texts.items[i - 1], texts.items[i]) < 0);
            for (size_t k = 0; k < w->cnt && !found; k++)
                found =
                    matches(&w->records[k], scope) && strcmp(value_of(&w->records[k], labels[l]), texts.items[i]) == 0;
            assert_true(found);
        }
        for (size_t k = 0; k < w->cnt; k++) {
            const char *value = value_of(&w->records[k], labels[l]);
            bool found = value[0] == '\0' || !matches(&w->records[k], scope);

            for (size_t i = 0; i < texts.cnt && !found; i++)
                found = strcmp(texts.items[i], value) == 0;
            assert_true(found);
            seen += found;
        }
        assert_int_equal(seen, w->cnt);
        ap_texts_done(&texts);
    }
}

static void check_series(const struct world *w, const struct ap_storage_scope *scope)
{
    static const char *const labels[] = {"agent", "comm", "container", "exe", "host", "pid", "service"};
    struct ap_series_rows rows;

    assert_int_equal(ap_storage_series(w->storage, scope, 100000, &rows, NULL), 0);
    for (size_t k = 0; k < w->cnt; k++) {
        bool found = !matches(&w->records[k], scope);

        for (size_t i = 0; i < rows.cnt && !found; i++) {
            size_t at = 0;
            bool same = true;

            for (size_t l = 0; l < 7 && same; l++) {
                const char *value = value_of(&w->records[k], labels[l]);

                if (value[0] == '\0')
                    continue;
                same = at < rows.rows[i].label_cnt && strcmp(rows.rows[i].labels[at].name, labels[l]) == 0 &&
                       strcmp(rows.rows[i].labels[at].value, value) == 0;
                at++;
            }
            found = same && at == rows.rows[i].label_cnt;
        }
        assert_true(found);
    }
    ap_series_rows_done(&rows);
}

static void test_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct world *w = random_world(seed);

        check_stacks(w, &everything);
        for (unsigned i = 0; i < 25; i++) {
            struct random_scope rs;

            random_scope(&w->seed, &rs);
            check_stacks(w, &rs.scope);
            check_timeline(w, &rs.scope, &w->seed);
            check_values(w, &rs.scope);
            check_series(w, &rs.scope);
        }
        world_free(w);
    }
}

/* ---- Life of batches ---- */

static struct ap_push *simple(uint64_t sequence, const char *stack)
{
    struct ap_push *push = fx_push("a", sequence, FX_START + sequence * 5 * FX_SEC, "h");

    fx_sample(fx_profile(push, AP_KIND_CPU), "app", stack, 0, 1, 10);
    return push;
}

static uint64_t total_count(struct ap_storage *storage)
{
    struct ap_stack_sums sums;
    uint64_t count = 0;

    assert_int_equal(ap_storage_stacks(storage, &everything, &sums, NULL), 0);
    for (size_t i = 0; i < sums.cnt; i++)
        count += sums.counts[i];
    ap_stack_sums_done(&sums);
    return count;
}

static void test_duplicates(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_storage_stats stats;
    struct ap_push *push = simple(1, "main");
    struct ap_rows *rows[3];
    bool duplicate[3];

    (void)state;
    push->epoch = 2;
    assert_false(fx_commit(storage, simple(1, "main")));
    assert_true(fx_commit(storage, simple(1, "other")));
    assert_false(fx_commit(storage, push)); /* another epoch */
    for (unsigned i = 0; i < 3; i++) {      /* and within one group */
        rows[i] = ap_rows_new(simple(7 + i / 2, "main"), NULL, 0, 0, NULL);
        assert_non_null(rows[i]);
    }
    assert_int_equal(ap_storage_commit(storage, rows, 3, duplicate, NULL), 0);
    assert_false(duplicate[0]);
    assert_true(duplicate[1]);
    assert_false(duplicate[2]);
    for (unsigned i = 0; i < 3; i++)
        ap_rows_free(rows[i]);
    assert_int_equal(total_count(storage), 4);
    ap_storage_stats(storage, &stats);
    assert_int_equal(stats.duplicates, 2);
    assert_int_equal(stats.sample_rows, 4);
    assert_int_equal(stats.dropped_batches, 0);
    assert_string_equal(ap_storage_name(storage), "memory");
    assert_int_equal(ap_storage_ready(storage, NULL), 0);
    ap_storage_free(storage);
}

static void test_bound(void **state)
{
    struct ap_storage *storage = fx_open(200000);
    struct ap_storage_stats stats;
    struct ap_batches_answer batches;

    (void)state;
    for (uint64_t i = 1; i <= 500; i++) {
        char stack[64];

        (void)snprintf(stack, sizeof(stack), "main;unique%u", (unsigned)i);
        assert_false(fx_commit(storage, simple(i, stack)));
    }
    ap_storage_stats(storage, &stats);
    assert_true(stats.dropped_batches > 0 && stats.dropped_batches < 500);
    assert_int_equal(stats.sample_rows, 500 - stats.dropped_batches);
    assert_int_equal(total_count(storage), stats.sample_rows);
    assert_int_equal(ap_storage_batches(storage, &everything, 1000, &batches, NULL), 0);
    assert_int_equal(batches.dropped, stats.dropped_batches);
    assert_int_equal(batches.row_cnt, stats.sample_rows);
    for (size_t i = 0; i < batches.row_cnt; i++) /* the newest are there */
        assert_int_equal(batches.rows[i].sequence, 500 - i);
    ap_batches_answer_done(&batches);
    ap_storage_free(storage);

    storage = fx_open(100); /* not even one fits */
    assert_false(fx_commit(storage, simple(1, "main")));
    ap_storage_stats(storage, &stats);
    assert_int_equal(stats.dropped_batches, 1);
    assert_int_equal(total_count(storage), 0);
    ap_storage_free(storage);
}

/* What dropped batches used of the dictionary is freed, what others use stays. */
static void test_dictionary(void **state)
{
    struct ap_storage *storage = fx_open(20000);
    struct ap_stack_sums sums;
    uint32_t stack[64], series[64];

    (void)state;
    for (uint64_t i = 1; i <= 2000; i++) {
        struct ap_push *push = simple(i, "main;shared");
        char text[64];

        (void)snprintf(text, sizeof(text), "main;only%u", (unsigned)i);
        fx_sample(fx_profile(push, AP_KIND_CPU), "app", text, 0, 1, 10);
        assert_false(fx_commit(storage, push));
    }
    assert_int_equal(ap_storage_stacks(storage, &everything, &sums, NULL), 0);
    assert_true(sums.cnt > 1 && sums.cnt < 60);
    struct ap_profile *profile = ap_profile_new(AP_KIND_CPU);
    sums.stacks[0] ^= 1; /* and one that nobody has */
    assert_int_equal(ap_storage_load_stacks(storage, sums.stacks, sums.cnt, profile, stack, series, NULL), 0);
    for (size_t i = 0; i < sums.cnt; i++)
        assert_true((stack[i] == UINT32_MAX) == (i == 0));
    ap_profile_free(profile);
    ap_stack_sums_done(&sums);
    ap_storage_free(storage);
}

/* ---- Lists ---- */

static void test_lists(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_batches_answer batches;
    struct ap_agents_answer agents;
    struct ap_provenance sums;
    struct ap_texts texts;
    struct ap_error err;
    struct ap_series_rows series;
    const char *const alpha[] = {"alpha"};
    struct ap_value_set set = {.label = "host", .values = alpha, .value_cnt = 1};
    struct ap_storage_scope scope = {.to_ns = UINT64_MAX, .sets = &set, .set_cnt = 1};

    (void)state;
    for (uint64_t i = 1; i <= 3; i++) {
        for (unsigned h = 0; h < 2; h++) {
            struct ap_push *push = fx_push(h == 0 ? "a1" : "b1", i, FX_START + i * 5 * FX_SEC, hosts[h]);
            struct ap_profile *profile = fx_profile(push, AP_KIND_CPU);

            fx_sample(profile, "app", "main", 0, 3, 30);
            push->capture->accounts[0] =
                (struct ap_account){.expected = 5, .delivered = 3, .losses = {[AP_LOSS_MISSED] = 2}};
            push->capture->left_out_cnt = 1;
            push->capture->left_out[0] = (struct ap_left_out){.kind = AP_KIND_LOCK, .reason = "old kernel"};
            (void)snprintf(push->capture->agent.version, sizeof(push->capture->agent.version), "v%u", (unsigned)i);
            push->spool_bytes = 100 * i;
            assert_false(fx_commit(storage, push));
        }
    }
    /* an agent that cannot record anything is one all the same */
    assert_false(fx_commit(storage, fx_push("idle", 1, FX_START, "gamma")));

    assert_int_equal(ap_storage_batches(storage, &scope, 2, &batches, NULL), 0);
    assert_int_equal(batches.row_cnt, 2);
    assert_int_equal(batches.rows[0].sequence, 3);
    assert_int_equal(batches.rows[1].sequence, 2);
    assert_int_equal(batches.rows[0].bytes, 7);
    assert_int_equal(batches.rows[0].label_cnt, 1);
    assert_string_equal(batches.rows[0].labels[0].value, "alpha");
    assert_int_equal(batches.rows[0].kind_cnt, 1);
    assert_int_equal(batches.rows[0].kinds[0].events, 3);
    assert_int_equal(batches.rows[0].kinds[0].lost, 2);
    ap_batches_answer_done(&batches);

    assert_int_equal(ap_storage_agents(storage, &everything, &agents, NULL), 0);
    assert_int_equal(agents.row_cnt, 3);
    assert_string_equal(agents.rows[0].agent_id, "a1");
    assert_string_equal(agents.rows[0].info.version, "v3");
    assert_int_equal(agents.rows[0].sequence, 3);
    assert_int_equal(agents.rows[0].batches, 3);
    assert_int_equal(agents.rows[0].first_ns, FX_START + 5 * FX_SEC);
    assert_int_equal(agents.rows[0].last_ns, FX_START + 20 * FX_SEC);
    assert_int_equal(agents.rows[0].spool_bytes, 300);
    assert_int_equal(agents.rows[0].kinds[0].events, 9);
    assert_int_equal(agents.rows[0].kinds[0].lost, 6);
    assert_string_equal(agents.rows[0].left_out[0].reason, "old kernel");
    assert_string_equal(agents.rows[2].agent_id, "idle");
    assert_int_equal(agents.rows[2].kind_cnt, 0);
    ap_agents_answer_done(&agents);

    scope.kind = AP_KIND_CPU;
    scope.from_ns = FX_START + 10 * FX_SEC;
    assert_int_equal(ap_storage_account(storage, &scope, &sums, NULL), 0);
    assert_int_equal(sums.batches, 2);
    assert_int_equal(sums.account.expected, 10);
    assert_int_equal(sums.account.losses[AP_LOSS_MISSED], 4);
    assert_int_equal(sums.newest_ns, FX_START + 20 * FX_SEC);
    scope.kind = AP_KIND_LOCK;
    assert_int_equal(ap_storage_account(storage, &scope, &sums, NULL), 0);
    assert_int_equal(sums.batches, 0);
    assert_int_equal(sums.newest_ns, 0);

    assert_int_equal(ap_storage_labels(storage, &everything, 10, &texts, NULL), 0);
    assert_int_equal(texts.cnt, 4);
    assert_string_equal(texts.items[0], "agent");
    assert_string_equal(texts.items[3], "pid");
    ap_texts_done(&texts);
    assert_int_equal(ap_storage_label_values(storage, &everything, "host", 10, &texts, NULL), 0);
    assert_int_equal(texts.cnt, 3); /* the idle one's too */
    ap_texts_done(&texts);
    assert_int_equal(ap_storage_labels(storage, &everything, 3, &texts, &err), -E2BIG);
    assert_int_equal(ap_storage_label_values(storage, &everything, "host", 1, &texts, &err), -E2BIG);
    assert_non_null(strstr(err.text, "values of host"));
    assert_int_equal(ap_storage_series(storage, &everything, 1, &series, &err), -E2BIG);
    assert_int_equal(ap_storage_series(storage, &everything, 2, &series, NULL), 0);
    assert_int_equal(series.cnt, 2);
    ap_series_rows_done(&series);
    ap_storage_free(storage);
}

/* ---- Tables ---- */

static void add_lock(struct ap_push *push, uint32_t pid, uint64_t address, const char *symbol, const char *waiter,
                     uint64_t waits, uint64_t ns)
{
    struct ap_profile *profile = fx_profile(push, AP_KIND_LOCK);
    struct ap_lock_row *row;
    uint32_t series = fx_series(profile, "worker", pid, "/bin/server", "");

    if (profile->locks == NULL)
        profile->locks = ap_locks_new();
    row = ap_locks_row(profile->locks, pid, address, false);
    assert_non_null(row);
    row->pid = pid;
    row->comm = ap_strings_id(profile->strings, "server");
    row->symbol = ap_strings_id(profile->strings, symbol);
    row->type = AP_LOCK_MUTEX;
    row->waits += waits;
    row->total_ns += ns;
    row->max_ns = ns;
    row->in_flight = push->sequence;
    assert_int_equal(ap_histogram_add(&row->histogram, ap_histogram_bucket(ns / waits), waits), 0);
    assert_int_equal(ap_lock_row_add(row, series, fx_stack(profile, waiter), series, fx_stack(profile, "main;release"),
                                     waits, ns, ns),
                     0);
    assert_int_equal(ap_profile_add_sample(profile, series, fx_stack(profile, waiter), waits, ns), 0);
}

static void test_locks(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_profile *profile;
    const char *const server[] = {"server"};
    struct ap_value_set set = {.label = "comm", .negative = true, .values = server, .value_cnt = 1};
    struct ap_storage_scope scope = {.from_ns = FX_START, .to_ns = UINT64_MAX, .sets = &set, .set_cnt = 1};

    (void)state;
    for (uint64_t i = 1; i <= 4; i++) {
        struct ap_push *push = fx_push("a", i, FX_START + i * FX_SEC, "h");

        add_lock(push, 1, 0x1000 + i * 8, "table_lock", i % 2 == 0 ? "main;reader" : "main;writer", 2, 100 * i);
        add_lock(push, 1, 0x5000, "", "main;other", 1, 5);
        add_lock(push, 2, 0x5000, "", "main;other", 1, 4);
        assert_false(fx_commit(storage, push));
    }
    assert_int_equal(ap_storage_locks(storage, &everything, &profile, NULL), 0);
    assert_int_equal(profile->kind, AP_KIND_LOCK);
    assert_int_equal(profile->locks->row_cnt, 3); /* one that moves, by its name; two of the same address */
    const struct ap_lock_row *row = profile->locks->rows[0];
    assert_string_equal(ap_profile_str(profile, row->symbol), "table_lock");
    assert_string_equal(ap_profile_str(profile, row->host), "h");
    assert_string_equal(ap_profile_str(profile, row->comm), "server");
    assert_int_equal(row->address, 0);
    assert_int_equal(row->waits, 8);
    assert_int_equal(row->total_ns, 1000);
    assert_int_equal(row->max_ns, 400);
    assert_int_equal(row->in_flight, 4); /* of the newest batch alone */
    assert_int_equal(ap_histogram_total(&row->histogram), 8);
    assert_int_equal(row->waiter_cnt, 2);
    assert_int_equal(row->waiters[0].total_ns, 600);
    assert_int_equal(row->waiters[1].total_ns, 400);
    uint32_t site = ap_lock_site(profile, row->waiters[0].stack);
    assert_string_equal(ap_profile_str(profile, profile->frames[site].function), "reader");
    assert_string_equal(ap_profile_str(profile, profile->series[row->waiters[0].series].comm), "worker");
    assert_int_equal(row->waker_cnt, 1);
    assert_int_equal(row->wakers[0].count, 8);
    assert_int_equal(row->pair_cnt, 2);
    assert_int_equal(row->pairs[0].waiter, 0);
    assert_int_equal(row->pairs[0].total_ns, 600);
    assert_int_equal(profile->locks->rows[1]->pid, 1);
    assert_int_equal(profile->locks->rows[1]->address, 0x5000);
    assert_int_equal(profile->locks->rows[2]->pid, 2);
    ap_profile_free(profile);
    assert_int_equal(ap_storage_locks(storage, &scope, &profile, NULL), 0);
    assert_int_equal(profile->locks->row_cnt, 0);
    ap_profile_free(profile);
    ap_storage_free(storage);
}

static void test_syscalls(void **state)
{
    struct ap_storage *storage = fx_open(0);
    struct ap_profile *profile;
    const char *const two[] = {"2"};
    struct ap_value_set set = {.label = "pid", .values = two, .value_cnt = 1};
    struct ap_storage_scope scope = {.to_ns = UINT64_MAX, .sets = &set, .set_cnt = 1};

    (void)state;
    for (uint64_t i = 1; i <= 3; i++) {
        struct ap_push *push = fx_push("a", i, FX_START + i * FX_SEC, "h");
        struct ap_profile *from = fx_profile(push, AP_KIND_SYSCALL);

        from->syscalls = ap_syscalls_new(from->strings);
        for (uint32_t pid = 1; pid <= 2; pid++) {
            struct ap_syscall_row *row = ap_syscalls_row(from->syscalls, pid, pid, "app", AP_SYSCALL_NATIVE, 257);

            row->count = 10 * pid;
            row->total_ns = 1000 * i;
            row->max_ns = 100 * i;
            row->in_flight = i;
            row->name = ap_strings_id(from->strings, "openat");
            assert_int_equal(ap_histogram_add(&row->histogram, 12, 10 * pid), 0);
            assert_int_equal(ap_syscall_row_error(row, ENOENT, i), 0);
            assert_int_equal(ap_syscall_row_error(row, EACCES, 1), 0);
        }
        assert_false(fx_commit(storage, push));
    }
    assert_int_equal(ap_storage_syscalls(storage, &scope, &profile, NULL), 0);
    assert_int_equal(profile->syscalls->row_cnt, 1);
    const struct ap_syscall_row *row = profile->syscalls->rows[0];
    assert_int_equal(row->pid, 2);
    assert_int_equal(row->count, 60);
    assert_int_equal(row->total_ns, 6000);
    assert_int_equal(row->max_ns, 300);
    assert_int_equal(row->in_flight, 3);
    assert_int_equal(row->error_cnt, 2);
    assert_int_equal(ap_syscall_row_failed(row), 9);
    assert_int_equal(ap_histogram_total(&row->histogram), 60);
    assert_string_equal(ap_profile_str(profile, row->name), "openat");
    assert_string_equal(ap_profile_str(profile, row->host), "h");
    ap_profile_free(profile);
    ap_storage_free(storage);
}

/* ---- Threads ---- */

struct shared {
    struct ap_storage *storage;
    atomic_bool over;
};

static void *ask(void *arg)
{
    struct shared *shared = arg;

    while (!atomic_load(&shared->over)) {
        struct ap_stack_sums sums;
        struct ap_batches_answer batches;
        struct ap_texts texts;

        if (ap_storage_stacks(shared->storage, &everything, &sums, NULL) == 0)
            ap_stack_sums_done(&sums);
        if (ap_storage_batches(shared->storage, &everything, 10, &batches, NULL) == 0)
            ap_batches_answer_done(&batches);
        if (ap_storage_labels(shared->storage, &everything, 100, &texts, NULL) == 0)
            ap_texts_done(&texts);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct shared shared = {.storage = fx_open(50000)};
    pthread_t threads[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &shared), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        char stack[32];

        (void)snprintf(stack, sizeof(stack), "main;f%u", (unsigned)(i % 50));
        assert_false(fx_commit(shared.storage, simple(i, stack)));
    }
    atomic_store(&shared.over, true);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    ap_storage_free(shared.storage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),     cmocka_unit_test(test_duplicates), cmocka_unit_test(test_bound),
        cmocka_unit_test(test_dictionary), cmocka_unit_test(test_lists),      cmocka_unit_test(test_locks),
        cmocka_unit_test(test_syscalls),   cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
