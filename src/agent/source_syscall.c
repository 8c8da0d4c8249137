/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* System calls: empties the tables that bpf/syscall.bpf.c fills. */
#include "abi/tables.h"
#include "agent/resolve.h"
#include "agent/source.h"
#include "agent/tables.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "model/syscalls.h"

#include "bpf/syscall.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tables are emptied when half full, and at least this often. */
#define DRAIN_EVERY_NS 10000000000ULL
/* Processes remembered of one emptying. */
#define BEARERS_MAX (AP_SYSCALL_TABLE_ROWS + AP_SYSCALL_OWN_ROWS_ALL)
/* Name of what did not fit the kernel's tables. */
#define OTHER_COMM "(other)"

/* The process behind a number when a table was emptied: rows of errors know no more than the number. */
struct bearer {
    uint32_t host_pid, pid;
    uint64_t process;
    char comm[AP_COMM_SZ];
};

/* Errors of a call, kept until its row comes. */
struct failures {
    struct ap_syscall_error_key call; /* with error zero */
    uint32_t error;
    uint64_t count;
    struct failures *next;
};

struct syscalls {
    struct syscall_bpf *skel;
    struct bpf_link *enter_link, *exit_link, *forget_link;
    struct ap_syscalls *table; /* owned by the profile */
    struct ap_table_reader *rows, *errors;
    struct ap_map bearers, bearers_before; /* of this emptying and of the one before */
    struct ap_map failures;                /* of this emptying: by call, the first of a list */
    struct ap_buf in_flight;
    uint64_t drained_ns;
    uint64_t taken, no_memory; /* calls */
    uint64_t errors_lost;
    struct ap_syscall_other *others_told[AP_SYSCALL_OTHER_ROWS]; /* owned: counts of the spans before */
    uint64_t other_errors_told[AP_ERRNO_ROWS];                   /* likewise */
    bool deep;
};

/* Rows that each CPU gets to itself. */
static uint32_t own_rows(void)
{
    uint32_t rows = AP_SYSCALL_OWN_ROWS_MAX;

    while (rows > AP_SYSCALL_OWN_ROWS_MIN && rows * ap_programs_cpus() > AP_SYSCALL_OWN_ROWS_ALL)
        rows /= 2;
    return rows;
}

static void *load_skeleton(const struct ap_source_env *env, bool deep, int *ret_rc)
{
    struct syscall_bpf *skel = syscall_bpf__open();
    struct ap_syscall_config opts = {
        .min_ns = env->config->min_latency_ns, .own_rows = own_rows(), .stacks = env->config->stacks};

    if (!skel) {
        *ret_rc = -errno;
        return NULL;
    }
    memcpy((void *)&skel->rodata->syscalls, &opts, sizeof(opts));
    bpf_program__set_autoload(skel->progs.syscall_enter, deep);
    bpf_program__set_autoload(skel->progs.syscall_exit, deep);
    bpf_program__set_autoload(skel->progs.syscall_in_flight, deep && env->kernel->iter);
    bpf_program__set_autoload(skel->progs.syscall_enter_plain, !deep);
    bpf_program__set_autoload(skel->progs.syscall_exit_plain, !deep);
    bpf_program__set_autoload(skel->progs.syscall_forget, !deep);
    bpf_program__set_autoload(skel->progs.syscall_in_flight_plain, !deep && env->kernel->iter);
    bpf_map__set_autocreate(skel->maps.calls, deep);
    *ret_rc = ap_scope_adopt(env->scope, skel->obj, &skel->rodata->config);
    if (!*ret_rc)
        *ret_rc = bpf_map__set_max_entries(skel->maps.own_0, opts.own_rows);
    if (!*ret_rc)
        *ret_rc = bpf_map__set_max_entries(skel->maps.own_1, opts.own_rows);
    if (!*ret_rc && !deep)
        *ret_rc = bpf_map__set_max_entries(skel->maps.calls_by_tid, ap_programs_thread_slots());
    if (!*ret_rc)
        *ret_rc = syscall_bpf__load(skel);
    if (*ret_rc) {
        syscall_bpf__destroy(skel);
        return NULL;
    }
    return skel;
}

static void free_skeleton(void *skel)
{
    syscall_bpf__destroy(skel);
}

static const struct ap_source_programs programs = {
    .words = "the system call programs",
    .plain_name = "syscall",
    .deep_name = "syscall, by task storage",
    .load = load_skeleton,
    .free = free_skeleton,
};

static int open_source(struct ap_source *source, struct ap_error *err)
{
    const struct ap_source_env *env = source->env;
    struct syscalls *syscalls = calloc(1, sizeof(*syscalls));
    struct syscall_bpf *loaded;
    void *skel;
    int rc;

    source->state = syscalls;
    if (!syscalls)
        return ap_error_set(err, -ENOMEM, "out of memory");
    ap_buf_init(&syscalls->in_flight, AP_ITERATOR_SZ_MAX);
    ap_map_init(&syscalls->bearers, BEARERS_MAX);
    ap_map_init(&syscalls->bearers_before, BEARERS_MAX);
    ap_map_init(&syscalls->failures, AP_SYSCALL_ERROR_ROWS);
    rc = ap_source_load(env, &programs, &skel, &syscalls->deep, err);
    if (rc)
        return rc;
    syscalls->skel = loaded = skel;
    if (!env->kernel->iter)
        ap_log_warn("this kernel has no task iterators (Linux 5.8): calls that go on at the end are not reported");
    syscalls->rows = ap_table_reader_new(loaded->maps.table_0, loaded->maps.table_1);
    syscalls->errors = ap_table_reader_new(loaded->maps.errors_0, loaded->maps.errors_1);
    if (!syscalls->rows || !syscalls->errors)
        return ap_error_set(err, -ENOMEM, "out of memory");
    return 0;
}

static int begin(struct ap_source *source)
{
    struct ap_profile *profile = source->collect->profile;
    struct syscalls *syscalls = source->state;

    profile->syscalls = syscalls->table = ap_syscalls_new(profile->strings);
    return syscalls->table ? 0 : -ENOMEM;
}

static void free_failures(struct ap_map *failures)
{
    struct failures *one, *next;
    size_t pos = 0;

    while ((one = ap_map_next(failures, &pos))) {
        for (; one; one = next) {
            next = one->next;
            free(one);
        }
    }
    ap_map_done(failures);
}

static void close_source(struct ap_source *source)
{
    struct syscalls *syscalls = source->state;
    uint32_t i;

    if (!syscalls)
        return;
    bpf_link__destroy(syscalls->enter_link);
    bpf_link__destroy(syscalls->exit_link);
    bpf_link__destroy(syscalls->forget_link);
    ap_table_reader_free(syscalls->rows);
    ap_table_reader_free(syscalls->errors);
    syscall_bpf__destroy(syscalls->skel);
    ap_map_done_values(&syscalls->bearers);
    ap_map_done_values(&syscalls->bearers_before);
    free_failures(&syscalls->failures);
    for (i = 0; i < AP_SYSCALL_OTHER_ROWS; i++)
        free(syscalls->others_told[i]);
    ap_buf_done(&syscalls->in_flight);
    free(syscalls);
}

static int start(struct ap_source *source, struct ap_error *err)
{
    struct syscalls *syscalls = source->state;
    struct syscall_bpf *skel = syscalls->skel;
    bool deep = syscalls->deep;

    if (!deep) {
        syscalls->forget_link = bpf_program__attach(skel->progs.syscall_forget);
        if (!syscalls->forget_link)
            return ap_error_errno(err, -errno, "cannot attach to the raw tracepoint sched_process_exit");
    }
    syscalls->drained_ns = skel->bss->begin_ns = ap_clock_monotonic_ns();
    syscalls->exit_link = bpf_program__attach(deep ? skel->progs.syscall_exit : skel->progs.syscall_exit_plain);
    syscalls->enter_link = bpf_program__attach(deep ? skel->progs.syscall_enter : skel->progs.syscall_enter_plain);
    if (!syscalls->enter_link || !syscalls->exit_link)
        return ap_error_errno(err, -errno,
                              "cannot attach to the raw tracepoints sys_enter and sys_exit (the kernel needs "
                              "CONFIG_HAVE_SYSCALL_TRACEPOINTS and CONFIG_FTRACE_SYSCALLS)");
    return 0;
}

/* Tells processes apart whose number was used twice. */
static uint64_t identity(uint32_t host_pid, uint64_t start_time)
{
    uint64_t id = (start_time ^ (uint64_t)host_pid << 40) * 0x9e3779b97f4a7c15ULL;

    return id ? id : 1;
}

/* False without memory for it. */
static bool add_latency(struct ap_syscall_row *row, uint32_t bucket, uint64_t n)
{
    if (!n)
        return true;
    if (ap_histogram_add(&row->histogram, bucket, n))
        return false;
    row->count += n;
    return true;
}

static void remember(struct syscalls *syscalls, const struct ap_syscall_key *key, const struct ap_syscall_stats *stats)
{
    struct bearer *bearer = ap_map_get(&syscalls->bearers, &key->host_pid, sizeof(key->host_pid));

    if (!bearer) {
        bearer = calloc(1, sizeof(*bearer));
        if (!bearer)
            return;
        bearer->host_pid = key->host_pid;
        if (ap_map_put(&syscalls->bearers, &bearer->host_pid, sizeof(bearer->host_pid), bearer)) {
            free(bearer);
            return;
        }
    }
    bearer->pid = stats->pid;
    bearer->process = identity(key->host_pid, stats->start_time);
    memcpy(bearer->comm, stats->comm, sizeof(bearer->comm));
}

/* Keeps the errors of a call for its row. */
static void take_error(void *ctx, const void *key, const void *value)
{
    struct syscalls *syscalls = ctx;
    struct failures *one = calloc(1, sizeof(*one)), *first;
    uint64_t count;

    memcpy(&count, value, sizeof(count));
    if (!one) {
        syscalls->errors_lost += count;
        return;
    }
    memcpy(&one->call, key, sizeof(one->call));
    one->count = count;
    one->error = one->call.error;
    one->call.error = 0;
    first = ap_map_get(&syscalls->failures, &one->call, sizeof(one->call));
    if (first) {
        one->next = first->next;
        first->next = one;
    } else if (ap_map_put(&syscalls->failures, &one->call, sizeof(one->call), one)) {
        syscalls->errors_lost += one->count;
        free(one);
    }
}

/* Hands the list over to the row and frees it. */
static void add_failures(struct syscalls *syscalls, struct failures *one, struct ap_syscall_row *row)
{
    struct failures *next;

    for (; one; one = next) {
        next = one->next;
        if (!row || ap_syscall_row_error(row, one->error, one->count))
            syscalls->errors_lost += one->count;
        free(one);
    }
}

/* Those whose row came with the other pair of tables, or found no room. */
static void add_failures_left(struct syscalls *syscalls)
{
    static const struct bearer nobody = {.comm = OTHER_COMM};
    const struct bearer *bearer;
    struct failures *one;
    size_t pos = 0;

    while ((one = ap_map_next(&syscalls->failures, &pos))) {
        bearer = ap_map_get(&syscalls->bearers, &one->call.host_pid, sizeof(one->call.host_pid));
        if (!bearer)
            bearer = ap_map_get(&syscalls->bearers_before, &one->call.host_pid, sizeof(one->call.host_pid));
        if (!bearer)
            bearer = &nobody;
        add_failures(syscalls, one,
                     ap_syscalls_row(syscalls->table, bearer->process, bearer->pid, bearer->comm, one->call.abi,
                                     one->call.number));
    }
    ap_map_done(&syscalls->failures); /* of which every entry is freed */
    ap_map_init(&syscalls->failures, AP_SYSCALL_ERROR_ROWS);
}

static void take_row(void *ctx, const void *key_data, const void *value)
{
    struct syscalls *syscalls = ctx;
    struct ap_syscall_stats stats = *(const struct ap_syscall_stats *)value;
    const struct ap_syscall_key *key = key_data;
    const struct ap_syscall_error_key call = {
        .host_pid = key->host_pid, .number = key->number, .abi = key->abi, .shard = key->shard};
    struct ap_syscall_row *row;
    uint32_t i;

    stats.comm[sizeof(stats.comm) - 1] = '\0';
    remember(syscalls, key, &stats);
    row = ap_syscalls_row(syscalls->table, identity(key->host_pid, stats.start_time), stats.pid, stats.comm, key->abi,
                          key->number);
    for (i = 0; i < AP_HISTOGRAM_BUCKETS; i++) {
        syscalls->taken += stats.buckets[i];
        if (!row || !add_latency(row, i, stats.buckets[i]))
            syscalls->no_memory += stats.buckets[i];
    }
    add_failures(syscalls, ap_map_remove(&syscalls->failures, &call, sizeof(call)), row);
    if (!row)
        return;
    row->total_ns += stats.total_ns;
    if (stats.max_ns > row->max_ns)
        row->max_ns = stats.max_ns;
}

/* Switches programs over to the other pair of tables and empties this one. */
static void empty_tables(struct syscalls *syscalls, uint64_t now_ns)
{
    struct syscall_bpf *skel = syscalls->skel;
    uint32_t old = skel->bss->generation;
    int rc;

    skel->bss->rows_made[!old] = skel->bss->errors_made[!old] = 0;
    __atomic_store_n(&skel->bss->generation, !old, __ATOMIC_SEQ_CST);
    ap_programs_wait();
    ap_map_done_values(&syscalls->bearers_before);
    syscalls->bearers_before = syscalls->bearers;
    ap_map_init(&syscalls->bearers, BEARERS_MAX);
    rc = ap_table_reader_drain(syscalls->errors, old, take_error, syscalls);
    rc = rc ? rc : ap_table_reader_drain(syscalls->rows, old, take_row, syscalls);
    rc = rc ? rc
            : ap_table_drain_own(old ? skel->maps.own_1 : skel->maps.own_0, sizeof(struct ap_syscall_key), take_row,
                                 syscalls);
    add_failures_left(syscalls);
    if (rc)
        ap_log_warn("cannot read the table of system calls: %s", strerror(-rc));
    syscalls->drained_ns = now_ns;
}

static void tick(struct ap_source *source, uint64_t now_ns)
{
    struct syscalls *syscalls = source->state;
    const struct syscall_bpf *skel = syscalls->skel;
    uint32_t generation = skel->bss->generation;

    if (skel->bss->rows_made[generation] >= AP_SYSCALL_TABLE_ROWS / 2 ||
        skel->bss->errors_made[generation] >= AP_SYSCALL_ERROR_ROWS / 2 ||
        now_ns - syscalls->drained_ns >= DRAIN_EVERY_NS)
        empty_tables(syscalls, now_ns);
}

static void stop(struct ap_source *source)
{
    struct syscalls *syscalls = source->state;
    struct syscall_bpf *skel = syscalls->skel;
    int rc;

    bpf_link__destroy(syscalls->enter_link);
    bpf_link__destroy(syscalls->exit_link);
    syscalls->enter_link = syscalls->exit_link = NULL;
    if (source->env->kernel->iter) {
        ap_programs_wait();
        rc = ap_programs_iterate(syscalls->deep ? skel->progs.syscall_in_flight : skel->progs.syscall_in_flight_plain,
                                 &syscalls->in_flight);
        if (rc)
            ap_log_warn("cannot list the system calls that go on: %s", strerror(-rc));
    }
    empty_tables(syscalls, ap_clock_monotonic_ns());
}

/* A slow call: its stack with the call as the leaf. */
static void take_record(struct ap_source *source, const struct ap_record *record)
{
    struct ap_collect *collect = source->collect;
    uint64_t abi = record->flags & AP_RECORD_COMPAT ? AP_SYSCALL_COMPAT : AP_SYSCALL_NATIVE;

    ap_collect_begin(collect, record);
    ap_collect_pseudo(collect, AP_PSEUDO_SYSCALL, abi << 32 | record->number);
    ap_collect_frames(collect);
    ap_collect_end(collect, 1, record->duration_ns);
}

static void add_in_flight(struct syscalls *syscalls)
{
    const struct ap_record *record;
    struct ap_syscall_row *row;
    size_t at = 0;

    while ((record = ap_record_next(&syscalls->in_flight, &at))) {
        row = ap_syscalls_row(syscalls->table, identity(record->host_pid, record->key), record->pid, record->comm,
                              record->flags & AP_RECORD_COMPAT ? AP_SYSCALL_COMPAT : AP_SYSCALL_NATIVE, record->number);
        if (!row)
            continue;
        row->in_flight++;
        if (record->duration_ns > row->in_flight_max_ns)
            row->in_flight_max_ns = record->duration_ns;
    }
}

/* What has come to a row of `others` since the last span; the kernel's row goes on. False when nothing has. */
static bool take_other(struct syscalls *syscalls, uint32_t number, struct ap_syscall_other *ret_news)
{
    struct ap_syscall_other now, *told = syscalls->others_told[number];
    uint32_t i, highest = 0;

    if (bpf_map__lookup_elem(syscalls->skel->maps.others, &number, sizeof(number), &now, sizeof(now), 0) ||
        !now.total_ns)
        return false;
    if (!told)
        told = syscalls->others_told[number] = calloc(1, sizeof(*told));
    if (!told || now.total_ns == told->total_ns)
        return false; /* without memory it comes with a later span */
    *ret_news = now;
    ret_news->total_ns -= told->total_ns;
    for (i = 0; i < AP_HISTOGRAM_BUCKETS; i++) {
        ret_news->buckets[i] -= told->buckets[i];
        highest = ret_news->buckets[i] ? i : highest;
    }
    if (now.max_ns == told->max_ns && ap_histogram_upper(highest) < now.max_ns) /* of a span before */
        ret_news->max_ns = ap_histogram_upper(highest);
    *told = now;
    return true;
}

/* What found no room in the kernel's tables. */
static void add_others(struct syscalls *syscalls)
{
    struct ap_syscall_other other;
    struct ap_syscall_row *row;
    uint32_t i, j;

    for (i = 0; i < AP_SYSCALL_OTHER_ROWS; i++) {
        if (!take_other(syscalls, i, &other))
            continue;
        /* the last row is that of all numbers behind it */
        row = ap_syscalls_row(syscalls->table, 0, 0, OTHER_COMM, AP_SYSCALL_NATIVE,
                              i < AP_SYSCALL_OTHER_ROWS - 1 ? i : AP_SYSCALL_NUMBER_OTHER);
        for (j = 0; j < AP_HISTOGRAM_BUCKETS; j++) {
            syscalls->taken += other.buckets[j];
            if (!row || !add_latency(row, j, other.buckets[j]))
                syscalls->no_memory += other.buckets[j];
        }
        if (!row)
            continue;
        row->total_ns += other.total_ns;
        if (other.max_ns > row->max_ns)
            row->max_ns = other.max_ns;
    }
}

/* Errors that found no room: of which call is not known. */
static void add_other_errors(struct syscalls *syscalls)
{
    uint64_t count, *told = syscalls->other_errors_told;
    struct ap_syscall_row *row;
    uint32_t i;

    for (i = 1; i < AP_ERRNO_ROWS; i++) {
        if (bpf_map__lookup_elem(syscalls->skel->maps.other_errors, &i, sizeof(i), &count, sizeof(count), 0) ||
            count == told[i])
            continue;
        row = ap_syscalls_row(syscalls->table, 0, 0, OTHER_COMM, AP_SYSCALL_NATIVE, AP_SYSCALL_NUMBER_OTHER);
        if (!row || ap_syscall_row_error(row, i, count - told[i]))
            syscalls->errors_lost += count - told[i];
        told[i] = count;
    }
}

/* Calls in rows that several processes share. */
static uint64_t shared_calls(const struct ap_syscalls *table)
{
    uint64_t sum = 0;
    size_t i;

    for (i = 0; i < table->row_cnt; i++)
        if (!table->rows[i]->process)
            sum += table->rows[i]->count;
    return sum;
}

static void count(struct ap_source *source, struct ap_account *total)
{
    const struct syscalls *syscalls = source->state;
    uint64_t c[AP_COUNTER_CNT];

    ap_programs_counters(syscalls->skel->maps.counters, c, NULL);
    total->losses[AP_LOSS_MAP_FULL] = c[AP_COUNTER_MAP_FULL];
    total->expected = c[AP_COUNTER_MAP_FULL];
    total->unmatched = c[AP_COUNTER_UNMATCHED];
}

/* A slow call whose stack was lost is in the table all the same. */
static void warn_of_lost_stacks(const struct syscalls *syscalls)
{
    uint64_t c[AP_COUNTER_CNT];

    ap_programs_counters(syscalls->skel->maps.counters, c, NULL);
    if (c[AP_COUNTER_RING_FULL] + c[AP_COUNTER_NO_SCRATCH])
        ap_log_warn(
            "%llu slow calls have no stack in the flamegraph (they are in the table): use a longer --min-latency",
            (unsigned long long)(c[AP_COUNTER_RING_FULL] + c[AP_COUNTER_NO_SCRATCH]));
}

static int finish(struct ap_source *source, const struct ap_span *span, struct ap_capture *capture,
                  struct ap_account *account)
{
    const struct ap_source_env *env = source->env;
    struct syscalls *syscalls = source->state;
    struct ap_account of_stacks = {0};
    int rc;

    if (!span->final) /* then stop() did it */
        empty_tables(syscalls, ap_clock_monotonic_ns());
    add_others(syscalls);
    add_other_errors(syscalls);
    add_in_flight(syscalls);
    ap_syscalls_sort(syscalls->table);
    rc = ap_resolve(source->collect, env->modules, env->names, span, capture, &of_stacks); /* the account is of calls */
    if (span->final)
        warn_of_lost_stacks(syscalls);
    if (syscalls->errors_lost)
        ap_log_warn("out of memory: the errno of %llu failed calls is not told",
                    (unsigned long long)syscalls->errors_lost);
    memset(source->collect->losses, 0, sizeof(source->collect->losses));
    account->losses[AP_LOSS_TABLE_FULL] += syscalls->no_memory;
    account->delivered += syscalls->taken - syscalls->no_memory;
    account->expected += syscalls->taken;
    account->folded += shared_calls(syscalls->table);
    syscalls->taken = syscalls->no_memory = syscalls->errors_lost = 0;
    return rc;
}

static void describe(const struct ap_source *source, struct ap_agent_info *agent)
{
    const struct syscalls *syscalls = source->state;

    agent->bpf_memory_bytes += ap_programs_memory(syscalls->skel->obj);
}

static uint64_t lost(const struct ap_source *source)
{
    const struct syscalls *syscalls = source->state;
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(syscalls->skel->maps.counters, counters, NULL);
    return counters[AP_COUNTER_MAP_FULL];
}

static int self_test(struct ap_source_env *env, struct ap_out *out)
{
    return ap_source_test(env, &programs, out);
}

const struct ap_source_ops ap_source_syscall = {
    .kind = AP_KIND_SYSCALL,
    .record_types = 1u << AP_RECORD_SYSCALL,
    .open = open_source,
    .begin = begin,
    .start = start,
    .record = take_record,
    .tick = tick,
    .stop = stop,
    .count = count,
    .finish = finish,
    .describe = describe,
    .lost = lost,
    .close = close_source,
    .self_test = self_test,
};
