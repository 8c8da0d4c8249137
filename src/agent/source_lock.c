/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Waits for locks: empties the table that bpf/lock.bpf.c fills, and joins its rows with the stacks that it sent. */
#include "abi/tables.h"
#include "agent/procfs.h"
#include "agent/resolve.h"
#include "agent/source.h"
#include "agent/tables.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "model/locks.h"
#include "symbol/kallsyms.h"

#include "bpf/lock.skel.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The table is emptied when half full, and at least this often: a lock is looked up while its process lives. */
#define DRAIN_EVERY_NS 1000000000ULL
/* Combinations of lock, waiter's and waker's stack; what does not fit counts as lost (table_full). */
#define SUMS_MAX 262144
/* Stacks, and processes, remembered. */
#define STACKS_MAX    262144
#define PROCESSES_MAX 65536

struct stack {
    uint64_t key;
    struct ap_trace *trace;
};

struct process {
    uint32_t host_pid, pid;
    char comm[AP_COMM_SZ];
};

/* A row of the kernel's table, added up over all emptyings. */
struct sum {
    struct ap_lock_key key;
    uint64_t count[AP_LOCK_OUTCOMES], total_ns[AP_LOCK_OUTCOMES], max_ns;
    uint64_t in_flight, in_flight_ns;
    bool held; /* stays for the next span */
    struct ap_histogram histogram;
    uint32_t module;  /* file that the lock's variable lies in, AP_MODULE_ID_NO_MAPPING = none */
    uint64_t vaddr;   /* its address there */
    struct sum *next; /* with a variable of the same module, or of a process not known yet */
};

struct locks {
    struct lock_bpf *skel;
    struct bpf_link *links[6];
    unsigned link_cnt;
    struct ap_table_reader *rows;
    struct ap_map stacks, processes, sums;
    struct sum **of_module; /* those with a variable, by module */
    size_t of_module_cap;
    struct sum *early; /* those whose process is not known yet */
    struct ap_trace *no_stack;
    struct ap_kallsyms *kallsyms; /* NULL until a lock of the kernel wants a name */
    struct ap_buf in_flight;
    uint64_t drained_ns, without_stack, folded;
    uint64_t taken, in_flight_cnt; /* waits */
    uint64_t refused, dropped;     /* waits past a bound: of the sums, and of the profile */
    bool deep;
};

/* Programs
 * -------------------------------------------------------------------------------------------------------- */

static void *load_skeleton(const struct ap_source_env *env, bool deep, int *ret_rc)
{
    struct lock_bpf *skel = lock_bpf__open();
    bool contention = deep && env->kernel->contention;

    if (!skel) {
        *ret_rc = -errno;
        return NULL;
    }
    bpf_program__set_autoload(skel->progs.lock_enter, deep);
    bpf_program__set_autoload(skel->progs.lock_exit, deep);
    bpf_program__set_autoload(skel->progs.lock_waking, deep);
    bpf_program__set_autoload(skel->progs.lock_contention, contention);
    bpf_program__set_autoload(skel->progs.lock_contention_end, contention);
    bpf_program__set_autoload(skel->progs.lock_in_flight, deep && env->kernel->iter);
    bpf_program__set_autoload(skel->progs.lock_enter_plain, !deep);
    bpf_program__set_autoload(skel->progs.lock_exit_plain, !deep);
    bpf_program__set_autoload(skel->progs.lock_waking_plain, !deep);
    bpf_program__set_autoload(skel->progs.lock_forget, !deep);
    bpf_program__set_autoload(skel->progs.lock_in_flight_plain, !deep && env->kernel->iter);
    bpf_map__set_autocreate(skel->maps.threads, deep);
    *ret_rc = ap_scope_adopt(env->scope, skel->obj, &skel->rodata->config);
    if (!*ret_rc && !deep)
        *ret_rc = bpf_map__set_max_entries(skel->maps.threads_by_tid, AP_LOCK_THREADS_MAX);
    if (!*ret_rc)
        *ret_rc = lock_bpf__load(skel);
    if (*ret_rc) {
        lock_bpf__destroy(skel);
        return NULL;
    }
    return skel;
}

static void free_skeleton(void *skel)
{
    lock_bpf__destroy(skel);
}

static const struct ap_source_programs programs = {
    .words = "the lock programs",
    .plain_name = "lock",
    .deep_name = "lock, by task storage",
    .load = load_skeleton,
    .free = free_skeleton,
};

static int open_source(struct ap_source *source, struct ap_error *err)
{
    const struct ap_source_env *env = source->env;
    struct locks *locks = calloc(1, sizeof(*locks));
    void *skel;
    int rc;

    source->state = locks;
    if (!locks)
        return ap_error_set(err, -ENOMEM, "out of memory");
    ap_map_init(&locks->stacks, STACKS_MAX);
    ap_map_init(&locks->processes, PROCESSES_MAX);
    ap_map_init(&locks->sums, SUMS_MAX);
    ap_buf_init(&locks->in_flight, AP_ITERATOR_SZ_MAX);
    rc = ap_source_load(env, &programs, &skel, &locks->deep, err);
    if (rc)
        return rc;
    locks->skel = skel;
    ap_source_skip_tracepoint(source, "contention_end", 2);
    if (!locks->deep || !env->kernel->contention)
        ap_log_info("this kernel does not tell of its own locks (Linux 5.19): only those of user space are recorded");
    locks->rows = ap_table_reader_new(locks->skel->maps.table_0, locks->skel->maps.table_1);
    source->collect->stacks_only = true;
    return locks->rows ? 0 : ap_error_set(err, -ENOMEM, "out of memory");
}

static int begin(struct ap_source *source)
{
    source->collect->profile->locks = ap_locks_new();
    return source->collect->profile->locks ? 0 : -ENOMEM;
}

static void detach(struct locks *locks)
{
    while (locks->link_cnt)
        bpf_link__destroy(locks->links[--locks->link_cnt]);
}

static void close_source(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct sum *sum;
    size_t pos = 0;

    if (!locks)
        return;
    detach(locks);
    ap_table_reader_free(locks->rows);
    lock_bpf__destroy(locks->skel);
    while ((sum = ap_map_next(&locks->sums, &pos)))
        ap_histogram_done(&sum->histogram);
    ap_map_done_values(&locks->sums);
    ap_map_done_values(&locks->stacks);
    ap_map_done_values(&locks->processes);
    ap_kallsyms_free(locks->kallsyms);
    free(locks->of_module);
    ap_buf_done(&locks->in_flight);
    free(locks);
}

/* Ends of waits before their beginnings, so that none comes in that was never begun. */
static int start(struct ap_source *source, struct ap_error *err)
{
    struct locks *locks = source->state;
    struct lock_bpf *skel = locks->skel;
    bool deep = locks->deep, contention = deep && source->env->kernel->contention;
    struct bpf_program *const order[] = {
        deep ? NULL : skel->progs.lock_forget,
        deep ? skel->progs.lock_waking : skel->progs.lock_waking_plain,
        deep ? skel->progs.lock_exit : skel->progs.lock_exit_plain,
        deep ? skel->progs.lock_enter : skel->progs.lock_enter_plain,
        contention ? skel->progs.lock_contention_end : NULL,
        contention ? skel->progs.lock_contention : NULL,
    };
    struct bpf_link *link;
    size_t i;

    locks->drained_ns = ap_clock_monotonic_ns();
    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (!order[i])
            continue;
        link = bpf_program__attach(order[i]);
        if (!link)
            return ap_error_errno(err, -errno, "cannot attach the program %s", bpf_program__name(order[i]));
        locks->links[locks->link_cnt++] = link;
    }
    return 0;
}

/* While it records
 * -------------------------------------------------------------------------------------------------------- */

/* A stack that rows will refer to. */
static void take_record(struct ap_source *source, const struct ap_record *record)
{
    struct locks *locks = source->state;
    struct process *process;
    struct stack *stack;

    if (!ap_map_get(&locks->stacks, &record->key, sizeof(record->key))) {
        stack = calloc(1, sizeof(*stack));
        if (!stack)
            return;
        stack->key = record->key;
        stack->trace = ap_collect_sample(source->collect, record, 0, 0);
        if (!stack->trace || ap_map_put(&locks->stacks, &stack->key, sizeof(stack->key), stack))
            free(stack);
    }
    if (ap_map_get(&locks->processes, &record->host_pid, sizeof(record->host_pid)))
        return;
    process = calloc(1, sizeof(*process));
    if (!process)
        return;
    process->host_pid = record->host_pid;
    process->pid = record->pid;
    ap_procfs_comm(record->pid, record->comm, process->comm);
    if (ap_map_put(&locks->processes, &process->host_pid, sizeof(process->host_pid), process))
        free(process);
}

/* Puts a sum on the list of its variable's module; without memory the variable stays without name. */
static void list_variable(struct locks *locks, struct sum *sum)
{
    size_t cap = (size_t)sum->module * 2 + 64;
    struct sum **of_module;

    if (sum->module >= locks->of_module_cap) {
        of_module = realloc(locks->of_module, cap * sizeof(struct sum *));
        if (!of_module) {
            sum->module = AP_MODULE_ID_NO_MAPPING;
            return;
        }
        memset(of_module + locks->of_module_cap, 0, (cap - locks->of_module_cap) * sizeof(struct sum *));
        locks->of_module = of_module;
        locks->of_module_cap = cap;
    }
    sum->next = locks->of_module[sum->module];
    locks->of_module[sum->module] = sum;
}

/* Finds out which file's variable the lock is, while its process is known. */
static void locate(struct ap_source *source, struct sum *sum)
{
    struct locks *locks = source->state;
    const struct process *process = ap_map_get(&locks->processes, &sum->key.host_pid, sizeof(sum->key.host_pid));

    if (process && process->pid)
        sum->module = ap_process_variable(source->env->processes, process->pid, sum->key.address, &sum->vaddr);
    if (sum->module != AP_MODULE_ID_NO_MAPPING)
        list_variable(locks, sum);
}

/* Rows that were faster than the records that tell of their processes: those are there after the
 * next look at the ring buffers. */
static void locate_early(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct sum *sum;

    while ((sum = locks->early)) {
        locks->early = sum->next;
        locate(source, sum);
    }
}

/* The sum of a key, made on first use; NULL past the bound. */
static struct sum *sum_of(struct ap_source *source, const struct ap_lock_key *key)
{
    struct locks *locks = source->state;
    struct sum *sum = ap_map_get(&locks->sums, key, sizeof(*key));

    if (sum)
        return sum;
    sum = calloc(1, sizeof(*sum));
    if (!sum)
        return NULL;
    sum->key = *key;
    sum->module = AP_MODULE_ID_NO_MAPPING;
    if (ap_map_put(&locks->sums, &sum->key, sizeof(sum->key), sum)) {
        free(sum);
        return NULL;
    }
    if (ap_map_get(&locks->processes, &key->host_pid, sizeof(key->host_pid))) {
        locate(source, sum);
    } else if (key->host_pid) {
        sum->next = locks->early;
        locks->early = sum;
    }
    return sum;
}

static void take_row(void *ctx, const void *key, const void *value)
{
    struct ap_source *source = ctx;
    struct locks *locks = source->state;
    const struct ap_lock_stats *stats = value;
    struct sum *sum = sum_of(source, key);
    uint64_t cnt = 0;
    uint32_t i;

    for (i = 0; i < AP_LOCK_OUTCOMES; i++)
        cnt += stats->count[i];
    if (!sum) {
        locks->refused += cnt;
        return;
    }
    locks->taken += cnt;
    source->collect->samples += cnt;
    for (i = 0; i < AP_LOCK_OUTCOMES; i++) {
        sum->count[i] += stats->count[i];
        sum->total_ns[i] += stats->total_ns[i];
    }
    if (stats->max_ns > sum->max_ns)
        sum->max_ns = stats->max_ns;
    for (i = 0; i < AP_HISTOGRAM_BUCKETS; i++)
        if (stats->buckets[i])
            ap_histogram_add(&sum->histogram, i, stats->buckets[i]);
}

static void empty_table(struct ap_source *source, uint64_t now_ns)
{
    struct locks *locks = source->state;
    struct lock_bpf *skel = locks->skel;
    uint32_t old = skel->bss->generation;
    int rc;

    skel->bss->rows_made[!old] = 0;
    __atomic_store_n(&skel->bss->generation, !old, __ATOMIC_SEQ_CST);
    ap_programs_wait();
    rc = ap_table_reader_drain(locks->rows, old, take_row, source);
    if (rc)
        ap_log_warn("cannot read the table of locks: %s", strerror(-rc));
    locks->drained_ns = now_ns;
}

static void tick(struct ap_source *source, uint64_t now_ns)
{
    struct locks *locks = source->state;
    uint64_t made = locks->skel->bss->rows_made[locks->skel->bss->generation];

    locate_early(source);
    if (made >= AP_LOCK_TABLE_ROWS / 2 || (made && now_ns - locks->drained_ns >= DRAIN_EVERY_NS))
        empty_table(source, now_ns);
}

static void stop(struct ap_source *source)
{
    struct locks *locks = source->state;
    int rc;

    detach(locks);
    ap_programs_wait();
    if (!source->env->kernel->iter)
        return;
    rc = ap_programs_iterate(locks->deep ? locks->skel->progs.lock_in_flight : locks->skel->progs.lock_in_flight_plain,
                             &locks->in_flight);
    if (rc)
        ap_log_warn("cannot list the waits that go on: %s", strerror(-rc));
}

/* At the end
 * -------------------------------------------------------------------------------------------------------- */

static void add_in_flight(struct ap_source *source)
{
    struct locks *locks = source->state;
    const struct ap_record *record;
    struct sum *sum;
    size_t at = 0;

    while ((record = ap_record_next(&locks->in_flight, &at))) {
        locks->in_flight_cnt++;
        sum = sum_of(source, &(struct ap_lock_key){.waiter = record->key,
                                                   .address = record->object,
                                                   .host_pid = record->host_pid,
                                                   .operation = record->number});
        if (!sum) {
            locks->refused++;
            continue;
        }
        locks->taken++;
        sum->in_flight++;
        sum->in_flight_ns += record->duration_ns;
    }
}

/* Trace of a stack's key; that of "[no stack]" when its record was lost. */
static struct ap_trace *trace_of(struct ap_source *source, uint64_t key)
{
    const struct ap_record nobody = {.version = AP_RECORD_VERSION, .type = AP_RECORD_LOCK, .comm = "[unknown]"};
    struct locks *locks = source->state;
    const struct stack *stack = ap_map_get(&locks->stacks, &key, sizeof(key));

    if (!stack && !locks->no_stack)
        locks->no_stack = ap_collect_sample(source->collect, &nobody, 0, 0);
    return stack ? stack->trace : locks->no_stack;
}

static uint64_t waited_ns(const struct sum *sum)
{
    return sum->total_ns[AP_LOCK_ACQUIRED] + sum->total_ns[AP_LOCK_TIMED_OUT] + sum->total_ns[AP_LOCK_INTERRUPTED] +
           sum->in_flight_ns;
}

static uint64_t waited_cnt(const struct sum *sum)
{
    return sum->count[AP_LOCK_ACQUIRED] + sum->count[AP_LOCK_TIMED_OUT] + sum->count[AP_LOCK_INTERRUPTED] +
           sum->in_flight;
}

/* Counts on the waiters' stacks what they waited, before names are looked for. */
static void credit_traces(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct ap_trace *trace;
    struct sum *sum;
    size_t pos = 0;

    while ((sum = ap_map_next(&locks->sums, &pos))) {
        trace = trace_of(source, sum->key.waiter);
        if (!trace || trace->locations[0] == AP_LOCATION_NO_STACK)
            locks->without_stack += waited_cnt(sum);
        if (trace) {
            ap_collect_credit(source->collect, trace, waited_cnt(sum), waited_ns(sum));
            trace->wanted = true;
        }
        trace = sum->key.waker ? trace_of(source, sum->key.waker) : NULL;
        if (trace)
            trace->wanted = true;
    }
}

/* True when its name, or one on its stacks, is still waited for: it goes into the next span. */
static bool is_held(struct ap_source *source, const struct sum *sum)
{
    const struct ap_trace *waiter = trace_of(source, sum->key.waiter);
    const struct ap_trace *waker = sum->key.waker ? trace_of(source, sum->key.waker) : NULL;
    struct ap_names_answer answer;

    if ((waiter && waiter->held) || (waker && waker->held))
        return true;
    return sum->module != AP_MODULE_ID_NO_MAPPING &&
           ap_names_find(source->env->names, AP_NAME_VARIABLE, sum->module, sum->vaddr, &answer) == -EAGAIN;
}

static uint8_t type_of(const struct ap_profile *profile, const struct sum *sum, uint32_t stack)
{
    uint32_t operation = sum->key.operation;

    if (sum->key.host_pid) {
        if (operation == AP_FUTEX_LOCK_PI || operation == AP_FUTEX_LOCK_PI2 || operation == AP_FUTEX_WAIT_REQUEUE_PI)
            return AP_LOCK_PI_MUTEX;
        return stack == UINT32_MAX ? AP_LOCK_FUTEX : ap_lock_type_of_stack(profile, stack);
    }
    if (operation & AP_LCB_PERCPU)
        return AP_LOCK_PERCPU_RW;
    if (operation & AP_LCB_RT)
        return AP_LOCK_RT_MUTEX;
    if (operation & (AP_LCB_READ | AP_LCB_WRITE))
        return AP_LOCK_RWLOCK;
    return operation & AP_LCB_MUTEX ? AP_LOCK_MUTEX : AP_LOCK_SPIN;
}

/* The stack once more with a mark outermost that sets waits for an event apart from contention. */
static int mark_event_wait(struct ap_profile *profile, uint32_t *stack)
{
    struct ap_frame frame = {.kind = AP_FRAME_MARK};
    const struct ap_stack *from = &profile->stacks[*stack];
    uint32_t frames[AP_STACK_FRAMES_MAX], cnt = from->frame_cnt;
    bool truncated = from->truncated;
    int rc;

    if (cnt == AP_STACK_FRAMES_MAX) {
        cnt--;
        truncated = true;
    }
    memcpy(frames, profile->stack_frames + from->first, cnt * sizeof(frames[0]));
    frame.function = ap_strings_id(profile->strings, "[waiting for an event]");
    rc = ap_profile_add_frame(profile, &frame, &frames[cnt]);
    return rc ? rc : ap_profile_add_stack(profile, frames, cnt + 1, truncated, stack);
}

static void describe_row(const struct ap_source *source, const struct sum *sum, struct ap_lock_row *row)
{
    struct locks *locks = source->state;
    struct ap_strings *strings = source->collect->profile->strings;
    const struct process *process = ap_map_get(&locks->processes, &sum->key.host_pid, sizeof(sum->key.host_pid));

    row->comm = ap_strings_id(strings, sum->key.host_pid ? process ? process->comm : "[unknown]" : "[kernel]");
    row->pid = process ? process->pid : 0;
}

static int add_sum(struct ap_source *source, const struct sum *sum)
{
    struct locks *locks = source->state;
    struct ap_profile *profile = source->collect->profile;
    const struct ap_trace *waiter = trace_of(source, sum->key.waiter);
    const struct ap_trace *waker = sum->key.waker ? trace_of(source, sum->key.waker) : NULL;
    struct ap_lock_row *row = ap_locks_row(profile->locks, sum->key.host_pid, sum->key.address, !sum->key.host_pid);
    uint32_t stack = waiter ? waiter->stack : UINT32_MAX;
    uint8_t type = type_of(profile, sum, stack);
    int rc;

    if (!row)
        return -ENOMEM;
    if (!row->comm)
        describe_row(source, sum, row);
    if (row->address != sum->key.address)
        locks->folded += waited_cnt(sum);
    if (!row->type)
        row->type = type;
    row->waits += sum->count[AP_LOCK_ACQUIRED];
    row->total_ns += sum->total_ns[AP_LOCK_ACQUIRED];
    row->timeouts += sum->count[AP_LOCK_TIMED_OUT];
    row->timeout_ns += sum->total_ns[AP_LOCK_TIMED_OUT];
    row->interrupted += sum->count[AP_LOCK_INTERRUPTED];
    row->interrupted_ns += sum->total_ns[AP_LOCK_INTERRUPTED];
    row->retried += sum->count[AP_LOCK_RETRY];
    row->in_flight += sum->in_flight;
    row->in_flight_ns += sum->in_flight_ns;
    if (sum->max_ns > row->max_ns)
        row->max_ns = sum->max_ns;
    rc = ap_histogram_merge(&row->histogram, &sum->histogram);
    if (!rc && waited_cnt(sum))
        rc = ap_lock_row_add(row, stack != UINT32_MAX ? waiter->profile_series : AP_LOCK_UNKNOWN, stack,
                             waker && waker->stack != UINT32_MAX ? waker->profile_series : AP_LOCK_UNKNOWN,
                             waker ? waker->stack : AP_LOCK_NO_STACK, waited_cnt(sum), waited_ns(sum), sum->max_ns);
    if (rc || stack == UINT32_MAX || !waited_cnt(sum))
        return rc;
    if (!ap_lock_type_is_contention(type))
        rc = mark_event_wait(profile, &stack);
    return rc ? rc : ap_profile_add_sample(profile, waiter->profile_series, stack, waited_cnt(sum), waited_ns(sum));
}

/* Asks for the names of the variables in a file that are locks. */
static void want(struct ap_source *source, uint32_t module)
{
    const struct locks *locks = source->state;
    const struct sum *sum = module < locks->of_module_cap ? locks->of_module[module] : NULL;

    for (; sum; sum = sum->next)
        ap_names_want(source->env->names, AP_NAME_VARIABLE, module, sum->vaddr);
}

static void want_variables(struct ap_source *source)
{
    const struct locks *locks = source->state;
    uint32_t module;

    for (module = 0; module < locks->of_module_cap; module++)
        want(source, module);
}

static void name_variable(struct ap_source *source, const struct sum *sum)
{
    struct ap_profile *profile = source->collect->profile;
    struct ap_lock_row *row = ap_locks_row(profile->locks, sum->key.host_pid, sum->key.address, false);
    struct ap_names_answer answer;

    if (!row || !row->address || row->symbol ||
        ap_names_find(source->env->names, AP_NAME_VARIABLE, sum->module, sum->vaddr, &answer) || !answer.cnt)
        return;
    row->symbol = ap_strings_id(profile->strings, answer.frames[0].function);
}

static int by_module(const void *a, const void *b)
{
    const struct sum *x = *(struct sum *const *)a, *y = *(struct sum *const *)b;

    return x->module < y->module ? -1 : x->module > y->module;
}

/* Locks that are global variables of a program or a library. */
static int name_user_locks(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct sum **sums = malloc((locks->sums.cnt + 1) * sizeof(*sums)), *sum;
    size_t pos = 0, cnt = 0, i;

    if (!sums)
        return -ENOMEM;
    while ((sum = ap_map_next(&locks->sums, &pos)))
        if (sum->module != AP_MODULE_ID_NO_MAPPING && !sum->held)
            sums[cnt++] = sum;
    qsort(sums, cnt, sizeof(*sums), by_module);
    for (i = 0; i < cnt; i++)
        name_variable(source, sums[i]);
    free(sums);
    return 0;
}

static void name_kernel_locks(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct ap_locks *table = source->collect->profile->locks;
    struct ap_strings *strings = source->collect->profile->strings;
    struct ap_lock_row *row;
    const char *name;
    char text[256];
    uint64_t off;
    size_t i;

    for (i = 0; i < table->row_cnt; i++) {
        row = table->rows[i];
        if (!row->kernel || !row->address)
            continue;
        if (!locks->kallsyms && ap_kallsyms_new(NULL, &locks->kallsyms)) /* kept: it takes long to read */
            return;
        name = ap_kallsyms_variable(locks->kallsyms, row->address, &off);
        if (!name)
            continue;
        snprintf(text, sizeof(text), off ? "%.200s+0x%llx" : "%.200s", name, (unsigned long long)off);
        row->symbol = ap_strings_id(strings, text);
    }
}

static int add_sums(struct ap_source *source)
{
    struct locks *locks = source->state;
    struct sum *sum;
    size_t pos = 0;
    int rc;

    source->collect->held = 0;
    while ((sum = ap_map_next(&locks->sums, &pos))) {
        sum->held = is_held(source, sum);
        if (sum->held) {
            source->collect->held += waited_cnt(sum);
            continue;
        }
        rc = add_sum(source, sum);
        if (rc == -ENOMEM)
            return rc;
        if (rc)
            locks->dropped += waited_cnt(sum);
    }
    name_kernel_locks(source);
    rc = name_user_locks(source);
    ap_locks_sort(source->collect->profile->locks);
    return rc;
}

static void count(struct ap_source *source, struct ap_account *total)
{
    const struct locks *locks = source->state;
    uint64_t c[AP_COUNTER_CNT];

    ap_programs_counters(locks->skel->maps.counters, c, NULL);
    total->expected = c[AP_COUNTER_FIRED];
    total->losses[AP_LOSS_MAP_FULL] = c[AP_COUNTER_MAP_FULL];
}

/* The sums of a span are in its profile, but for those that are held; those of the next one begin at zero. */
static void forget_sums(struct locks *locks)
{
    struct ap_map old = locks->sums;
    struct sum *sum;
    size_t pos = 0;

    ap_map_init(&locks->sums, SUMS_MAX);
    if (locks->of_module)
        memset(locks->of_module, 0, locks->of_module_cap * sizeof(struct sum *));
    locks->early = NULL;
    locks->without_stack = locks->folded = locks->taken = locks->refused = locks->dropped = 0;
    while ((sum = ap_map_next(&old, &pos))) {
        if (sum->held && !ap_map_put(&locks->sums, &sum->key, sizeof(sum->key), sum)) {
            locks->taken += waited_cnt(sum);
            if (sum->module != AP_MODULE_ID_NO_MAPPING)
                list_variable(locks, sum);
            continue;
        }
        locks->refused += sum->held ? waited_cnt(sum) : 0;
        ap_histogram_done(&sum->histogram);
        free(sum);
    }
    ap_map_done(&old);
}

static int finish(struct ap_source *source, const struct ap_span *span, struct ap_capture *capture,
                  struct ap_account *account)
{
    const struct ap_source_env *env = source->env;
    struct ap_account of_stacks = {0};
    struct locks *locks = source->state;
    int rc;

    empty_table(source, ap_clock_monotonic_ns());
    add_in_flight(source);
    credit_traces(source);
    want_variables(source);
    rc = ap_resolve(source->collect, env->modules, env->names, span, capture, &of_stacks); /* the account is of waits */
    if (!rc)
        rc = add_sums(source);
    if (rc)
        return rc;
    memset(source->collect->losses, 0, sizeof(source->collect->losses));
    account->expected += locks->in_flight_cnt;
    account->losses[AP_LOSS_TABLE_FULL] += locks->refused + locks->dropped;
    account->losses[AP_LOSS_NO_STACK] += locks->without_stack;
    account->delivered += locks->taken - locks->dropped - source->collect->held;
    account->folded += locks->folded;
    forget_sums(locks);
    return 0;
}

static void describe(const struct ap_source *source, struct ap_agent_info *agent)
{
    const struct locks *locks = source->state;

    agent->bpf_memory_bytes += ap_programs_memory(locks->skel->obj);
}

static uint64_t lost(const struct ap_source *source)
{
    const struct locks *locks = source->state;
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(locks->skel->maps.counters, counters, NULL);
    return counters[AP_COUNTER_MAP_FULL] + locks->refused;
}

static int self_test(struct ap_source_env *env, struct ap_out *out)
{
    return ap_source_test(env, &programs, out);
}

const struct ap_source_ops ap_source_lock = {
    .kind = AP_KIND_LOCK,
    .record_types = 1u << AP_RECORD_LOCK | 1u << AP_RECORD_RELEASE,
    .open = open_source,
    .begin = begin,
    .start = start,
    .record = take_record,
    .tick = tick,
    .want = want,
    .stop = stop,
    .count = count,
    .finish = finish,
    .describe = describe,
    .lost = lost,
    .close = close_source,
    .self_test = self_test,
};
