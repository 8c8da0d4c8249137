/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Off-CPU time: waits as bpf/offcpu.bpf.c reports them, joined with who ended them. */
#include "agent/resolve.h"
#include "agent/source.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"

#include "bpf/offcpu.skel.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Wakers whose wait has not come yet; each is a record of up to 6 KB. */
#define WAKERS_MAX 4096

/* Not yet joined: the key is the thread that was woken. */
struct waker {
    uint32_t host_tid;
    struct ap_record record; /* with all that follows it */
};

struct offcpu {
    struct offcpu_bpf *skel;
    struct bpf_link *switch_link, *waking_link, *forget_link;
    struct ap_map wakers;
    struct ap_buf in_flight; /* records of waits that had not ended */
    uint64_t wakers_lost;
    bool deep;
};

static void *load_skeleton(const struct ap_source_env *env, bool deep, int *ret_rc)
{
    struct offcpu_bpf *skel = offcpu_bpf__open();
    const struct ap_agent_config *config = env->config;
    struct ap_offcpu_config opts = {
        .min_ns = config->min_block_ns,
        .sample_every = (uint32_t)config->sample_every,
        .has_state = env->kernel->switch_state,
        .report_unseen = config->pids.cnt > 0 || config->comms.cnt > 0,
    };

    if (!skel) {
        *ret_rc = -errno;
        return NULL;
    }
    memcpy((void *)&skel->rodata->offcpu, &opts, sizeof(opts));
    bpf_program__set_autoload(skel->progs.offcpu_switch, !deep);
    bpf_program__set_autoload(skel->progs.offcpu_switch_deep, deep);
    bpf_program__set_autoload(skel->progs.offcpu_waking, config->waker && !deep);
    bpf_program__set_autoload(skel->progs.offcpu_waking_deep, config->waker && deep);
    bpf_program__set_autoload(skel->progs.offcpu_in_flight, env->kernel->iter);
    *ret_rc = ap_scope_adopt(env->scope, skel->obj, &skel->rodata->config);
    if (!*ret_rc)
        *ret_rc = bpf_map__set_max_entries(skel->maps.tasks, ap_programs_thread_slots());
    if (!*ret_rc)
        *ret_rc = offcpu_bpf__load(skel);
    if (*ret_rc) {
        offcpu_bpf__destroy(skel);
        return NULL;
    }
    return skel;
}

static void free_skeleton(void *skel)
{
    offcpu_bpf__destroy(skel);
}

static const struct ap_source_programs programs = {
    .words = "the off-CPU programs",
    .plain_name = "offcpu",
    .deep_name = "offcpu, repaired user stacks",
    .load = load_skeleton,
    .free = free_skeleton,
};

static int open_source(struct ap_source *source, struct ap_error *err)
{
    const struct ap_source_env *env = source->env;
    struct offcpu *offcpu = calloc(1, sizeof(*offcpu));
    void *skel;
    int rc;

    source->state = offcpu;
    if (!offcpu)
        return ap_error_set(err, -ENOMEM, "out of memory");
    ap_map_init(&offcpu->wakers, WAKERS_MAX);
    ap_buf_init(&offcpu->in_flight, AP_ITERATOR_SZ_MAX);
    rc = ap_source_load(env, &programs, &skel, &offcpu->deep, err);
    if (rc)
        return rc;
    offcpu->skel = skel;
    if (env->config->waker)
        ap_source_skip_tracepoint(source, "sched_waking", 1);
    if (!env->kernel->iter)
        ap_log_warn("this kernel has no task iterators (Linux 5.8): waits that go on at the end are not reported");
    return 0;
}

static void close_source(struct ap_source *source)
{
    struct offcpu *offcpu = source->state;

    if (!offcpu)
        return;
    bpf_link__destroy(offcpu->switch_link);
    bpf_link__destroy(offcpu->waking_link);
    bpf_link__destroy(offcpu->forget_link);
    offcpu_bpf__destroy(offcpu->skel);
    ap_map_done_values(&offcpu->wakers);
    ap_buf_done(&offcpu->in_flight);
    free(offcpu);
}

static int start(struct ap_source *source, struct ap_error *err)
{
    struct offcpu *offcpu = source->state;
    struct offcpu_bpf *skel = offcpu->skel;

    skel->bss->begin_ns = ap_clock_monotonic_ns();
    offcpu->forget_link = bpf_program__attach(skel->progs.offcpu_forget);
    if (!offcpu->forget_link)
        return ap_error_errno(err, -errno, "cannot attach to the raw tracepoint sched_process_free");
    if (source->env->config->waker) {
        offcpu->waking_link =
            bpf_program__attach(offcpu->deep ? skel->progs.offcpu_waking_deep : skel->progs.offcpu_waking);
        if (!offcpu->waking_link)
            return ap_error_errno(err, -errno, "cannot attach to the tracepoint sched_waking");
    }
    offcpu->switch_link =
        bpf_program__attach(offcpu->deep ? skel->progs.offcpu_switch_deep : skel->progs.offcpu_switch);
    return offcpu->switch_link ? 0 : ap_error_errno(err, -errno, "cannot attach to the tracepoint sched_switch");
}

static void stop(struct ap_source *source)
{
    struct offcpu *offcpu = source->state;
    int rc;

    bpf_link__destroy(offcpu->switch_link);
    bpf_link__destroy(offcpu->waking_link);
    offcpu->switch_link = offcpu->waking_link = NULL;
    ap_programs_wait();
    if (!source->env->kernel->iter)
        return;
    rc = ap_programs_iterate(offcpu->skel->progs.offcpu_in_flight, &offcpu->in_flight);
    if (rc)
        ap_log_warn("cannot list the waits that go on: %s", strerror(-rc));
}

static void keep_waker(struct offcpu *offcpu, const struct ap_record *record)
{
    uint32_t tid = record->number;
    struct waker *waker = ap_map_get(&offcpu->wakers, &tid, sizeof(tid));

    if (waker)
        free(ap_map_remove(&offcpu->wakers, &tid, sizeof(tid)));
    waker = malloc(offsetof(struct waker, record) + ap_record_size(record));
    if (!waker) {
        offcpu->wakers_lost++;
        return;
    }
    waker->host_tid = tid;
    memcpy(&waker->record, record, ap_record_size(record));
    if (ap_map_put(&offcpu->wakers, &waker->host_tid, sizeof(waker->host_tid), waker)) {
        offcpu->wakers_lost++;
        free(waker);
    }
}

static void take_wait(struct ap_source *source, const struct ap_record *record)
{
    struct offcpu *offcpu = source->state;
    struct ap_collect *collect = source->collect;
    uint32_t tid = record->host_tid;
    struct waker *waker = ap_map_get(&offcpu->wakers, &tid, sizeof(tid));

    ap_collect_begin(collect, record);
    if (waker) {
        if (waker->record.key == record->key)
            ap_collect_waker(collect, &waker->record);
        free(ap_map_remove(&offcpu->wakers, &tid, sizeof(tid)));
    }
    ap_collect_frames(collect);
    if (record->flags & AP_RECORD_BEFORE)
        ap_collect_pseudo(collect, AP_PSEUDO_MARK, AP_MARK_BEFORE);
    ap_collect_pseudo(collect, AP_PSEUDO_MARK, record->number < AP_STATE_CNT ? record->number : 0);
    ap_collect_end(collect, 1, record->duration_ns * source->env->config->sample_every);
}

static void take_record(struct ap_source *source, const struct ap_record *record)
{
    if (record->type == AP_RECORD_WAKER)
        keep_waker(source->state, record);
    else
        take_wait(source, record);
}

static void count(struct ap_source *source, struct ap_account *total)
{
    const struct offcpu *offcpu = source->state;
    uint64_t c[AP_COUNTER_CNT], every = source->env->config->sample_every;

    ap_programs_counters(offcpu->skel->maps.counters, c, NULL);
    total->expected = c[AP_COUNTER_FIRED] - c[AP_COUNTER_BELOW_MIN];
    total->below_min = c[AP_COUNTER_BELOW_MIN] * every;
    total->below_min_ns = c[AP_COUNTER_BELOW_MIN_NS] * every;
    total->losses[AP_LOSS_RING_FULL] = c[AP_COUNTER_RING_FULL];
    total->losses[AP_LOSS_NO_SCRATCH] = c[AP_COUNTER_NO_SCRATCH];
    total->losses[AP_LOSS_MAP_FULL] = c[AP_COUNTER_MAP_FULL];
    total->unmatched = c[AP_COUNTER_UNMATCHED];
}

static void warn_of_lost_wakers(const struct offcpu *offcpu)
{
    uint64_t c[AP_COUNTER_CNT];

    ap_programs_counters(offcpu->skel->maps.counters, c, NULL);
    if (c[AP_COUNTER_WAKER_LOST] + offcpu->wakers_lost)
        ap_log_warn("who ended a wait is missing for %llu waits: the agent fell behind, use a longer --min-block",
                    (unsigned long long)(c[AP_COUNTER_WAKER_LOST] + offcpu->wakers_lost));
}

static int finish(struct ap_source *source, const struct ap_span *span, struct ap_capture *capture,
                  struct ap_account *account)
{
    const struct ap_source_env *env = source->env;
    struct offcpu *offcpu = source->state;
    const struct ap_record *record;
    size_t at = 0;

    while ((record = ap_record_next(&offcpu->in_flight, &at))) {
        take_wait(source, record);
        account->expected++;
    }
    if (span->final)
        warn_of_lost_wakers(offcpu);
    return ap_resolve(source->collect, env->modules, env->names, span, capture, account);
}

static void describe(const struct ap_source *source, struct ap_agent_info *agent)
{
    const struct offcpu *offcpu = source->state;

    agent->bpf_memory_bytes += ap_programs_memory(offcpu->skel->obj);
}

static uint64_t lost(const struct ap_source *source)
{
    const struct offcpu *offcpu = source->state;
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(offcpu->skel->maps.counters, counters, NULL);
    return counters[AP_COUNTER_RING_FULL] + counters[AP_COUNTER_MAP_FULL];
}

static int self_test(struct ap_source_env *env, struct ap_out *out)
{
    return ap_source_test(env, &programs, out);
}

const struct ap_source_ops ap_source_offcpu = {
    .kind = AP_KIND_OFFCPU,
    .record_types = 1u << AP_RECORD_OFFCPU | 1u << AP_RECORD_WAKER,
    .open = open_source,
    .start = start,
    .record = take_record,
    .stop = stop,
    .count = count,
    .finish = finish,
    .describe = describe,
    .lost = lost,
    .close = close_source,
    .self_test = self_test,
};
