/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* CPU samples: a perf event on every CPU whose BPF program takes the stack. */
#include "agent/account.h"
#include "agent/cpus.h"
#include "agent/perf.h"
#include "agent/procfs.h"
#include "agent/resolve.h"
#include "agent/source.h"
#include "core/clock.h"
#include "core/log.h"

#include "bpf/cpu.skel.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How often CPUs are looked at that came or went. */
#define REFRESH_NS 1000000000ULL

struct sampler {
    const struct ap_agent_config *config;
    struct cpu_bpf *skel;
    struct ap_perf_cpus events; /* one per online CPU */
    struct ap_cpus_idle idle_now, idle_last;
    uint64_t idle_sum[AP_CPUS_MAX]; /* idle time while recording, ns */
    uint64_t refreshed_ns;
    bool deep; /* which of the two sampling programs is loaded */
    bool running;
};

static void *load_skeleton(const struct ap_source_env *env, bool deep, int *ret_rc)
{
    struct cpu_bpf *skel = cpu_bpf__open();

    if (!skel) {
        *ret_rc = -errno;
        return NULL;
    }
    bpf_program__set_autoload(skel->progs.cpu_sample, !deep);
    bpf_program__set_autoload(skel->progs.cpu_sample_deep, deep);
    *ret_rc = ap_scope_adopt(env->scope, skel->obj, &skel->rodata->config);
    if (!*ret_rc)
        *ret_rc = cpu_bpf__load(skel);
    if (*ret_rc) {
        cpu_bpf__destroy(skel);
        return NULL;
    }
    return skel;
}

static void free_skeleton(void *skel)
{
    cpu_bpf__destroy(skel);
}

static const struct ap_source_programs programs = {
    .words = "the BPF sampler",
    .plain_name = "cpu",
    .deep_name = "cpu, deep and repaired user stacks",
    .load = load_skeleton,
    .free = free_skeleton,
};

/* perf_event_attr of the sampling event. In frequency mode the kernel holds the rate: exactly for the clock
 * event (period = 1 s / frequency), by adapting the period for hardware counters. */
static void sampling_attr(const struct ap_agent_config *config, struct perf_event_attr *ret_attr)
{
    memset(ret_attr, 0, sizeof(*ret_attr));
    ret_attr->size = sizeof(*ret_attr);
    ret_attr->type = config->event == AP_EVENT_CYCLES ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE;
    ret_attr->config = config->event == AP_EVENT_CYCLES ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK;
    ret_attr->freq = 1;
    ret_attr->sample_freq = config->frequency;
    ret_attr->disabled = 1;
}

static int sampling_fd(const struct sampler *sampler)
{
    return bpf_program__fd(sampler->deep ? sampler->skel->progs.cpu_sample_deep : sampler->skel->progs.cpu_sample);
}

static int open_error(const struct ap_agent_config *config, int rc, struct ap_error *err)
{
    uint64_t limit = 0;

    ap_procfs_read_u64("/proc/sys/kernel/perf_event_max_sample_rate", &limit);
    if (rc == -EINVAL && limit && config->frequency > limit)
        return ap_error_set(err, rc,
                            "the kernel allows at most %llu samples per second (it lowers this limit by itself when "
                            "sampling was slow): use --frequency %llu, or raise it with "
                            "sysctl kernel.perf_event_max_sample_rate=%llu",
                            (unsigned long long)limit, (unsigned long long)limit,
                            (unsigned long long)config->frequency);
    if (config->event == AP_EVENT_CYCLES && (rc == -ENOENT || rc == -EOPNOTSUPP || rc == -ENODEV))
        return ap_error_set(err, rc,
                            "this machine has no hardware cycle counter to sample (usual in virtual machines): "
                            "use --event cpu-clock");
    if (rc == -EACCES || rc == -EPERM)
        return ap_error_set(err, rc,
                            "the kernel refused system-wide sampling: run as root, or give the agent CAP_PERFMON "
                            "(and CAP_BPF); in a container also check its seccomp profile");
    if (rc == -EMFILE)
        return ap_error_set(err, rc, "too few file descriptors for one event per CPU: raise the limit (ulimit -n)");
    return ap_error_errno(err, rc, "cannot open the sampling event");
}

static int open_source(struct ap_source *source, struct ap_error *err)
{
    struct sampler *sampler = calloc(1, sizeof(*sampler));
    struct ap_cpus *cpus = calloc(1, sizeof(*cpus));
    struct perf_event_attr attr;
    int rc = -ENOMEM;
    void *skel;

    source->state = sampler;
    if (!sampler || !cpus) {
        ap_error_set(err, -ENOMEM, "out of memory");
        goto out;
    }
    sampler->config = source->env->config;
    ap_perf_cpus_init(&sampler->events, 0);
    rc = ap_cpus_online(cpus, err);
    if (!rc)
        rc = ap_source_load(source->env, &programs, &skel, &sampler->deep, err);
    if (rc)
        goto out;
    sampler->skel = skel;
    sampling_attr(sampler->config, &attr);
    rc = ap_perf_cpus_open(&sampler->events, &attr, cpus, sampling_fd(sampler));
    rc = rc < 0 ? open_error(sampler->config, rc, err) : 0;
out:
    free(cpus);
    return rc;
}

static void close_source(struct ap_source *source)
{
    struct sampler *sampler = source->state;

    if (!sampler)
        return;
    ap_perf_cpus_done(&sampler->events);
    cpu_bpf__destroy(sampler->skel);
    free(sampler);
}

/* Adds up what each CPU was idle since the last look; a CPU that was away in between starts anew. */
static void add_idle(struct sampler *sampler)
{
    struct ap_cpus_idle *now = &sampler->idle_now, *last = &sampler->idle_last;
    size_t cpu;

    if (ap_cpus_idle(now))
        return;
    for (cpu = 0; cpu < AP_CPUS_MAX; cpu++)
        if (now->has[cpu] && last->has[cpu] && now->idle_ns[cpu] > last->idle_ns[cpu])
            sampler->idle_sum[cpu] += now->idle_ns[cpu] - last->idle_ns[cpu];
    *last = *now;
}

static int start(struct ap_source *source, struct ap_error *err)
{
    struct sampler *sampler = source->state;
    int rc;

    add_idle(sampler);
    memset(sampler->idle_sum, 0, sizeof(sampler->idle_sum));
    rc = ap_perf_cpus_enable(&sampler->events);
    if (rc)
        return ap_error_errno(err, rc, "cannot switch the sampling event on");
    sampler->running = true;
    sampler->refreshed_ns = ap_clock_monotonic_ns();
    return 0;
}

static void stop(struct ap_source *source)
{
    struct sampler *sampler = source->state;

    ap_perf_cpus_disable(&sampler->events);
    add_idle(sampler);
    sampler->running = false;
}

/* Takes CPUs that came online since into the capture. */
static void tick(struct ap_source *source, uint64_t now_ns)
{
    struct sampler *sampler = source->state;
    struct perf_event_attr attr;

    if (now_ns - sampler->refreshed_ns < REFRESH_NS)
        return;
    sampler->refreshed_ns = now_ns;
    add_idle(sampler);
    sampling_attr(sampler->config, &attr);
    attr.disabled = !sampler->running;
    if (ap_perf_cpus_refresh(&sampler->events, &attr, sampling_fd(sampler)))
        ap_log_info("CPUs changed: now sampling %u", ap_perf_cpus_cnt(&sampler->events));
}

static void take_record(struct ap_source *source, const struct ap_record *record)
{
    ap_collect_sample(source->collect, record, 1, AP_NS_PER_SEC / source->env->config->frequency);
}

/* `values`: the counters by CPU. */
static uint64_t missed_ticks(const struct sampler *sampler, const uint64_t *values)
{
    size_t cnt = ap_programs_cpus(), cpu;
    struct ap_cpu_ticks *ticks = calloc(cnt, sizeof(*ticks));
    uint64_t period_ns = AP_NS_PER_SEC / sampler->config->frequency, missed;

    if (!ticks)
        return 0;
    for (cpu = 0; cpu < cnt; cpu++)
        ticks[cpu] = (struct ap_cpu_ticks){
            .periods = ap_perf_cpus_periods(&sampler->events, cpu, period_ns),
            .fired = values[AP_COUNTER_FIRED * cnt + cpu],
            .idle = values[AP_COUNTER_IDLE * cnt + cpu],
            .out_of_scope = values[AP_COUNTER_OUT_OF_SCOPE * cnt + cpu],
            .idle_ns = cpu < AP_CPUS_MAX ? sampler->idle_sum[cpu] : 0,
        };
    missed = ap_account_missed(ticks, cnt, period_ns, AP_CPUS_IDLE_RESOLUTION_NS);
    free(ticks);
    return missed;
}

/* expected = delivered + lost, as docs/accounting.md defines it. */
static void count(struct ap_source *source, struct ap_account *total)
{
    struct sampler *sampler = source->state;
    uint64_t *values = calloc(AP_COUNTER_CNT * ap_programs_cpus(), sizeof(*values));
    uint64_t c[AP_COUNTER_CNT];

    if (sampler->running) /* else stop() did; what a CPU idled since the last look is not missed */
        add_idle(sampler);
    ap_programs_counters(sampler->skel->maps.counters, c, values);
    /* only the clock tells how often it should have fired: hardware counters adapt their period */
    if (values && sampler->config->event == AP_EVENT_CPU_CLOCK)
        total->losses[AP_LOSS_MISSED] = missed_ticks(sampler, values);
    free(values);
    total->expected =
        c[AP_COUNTER_FIRED] - c[AP_COUNTER_IDLE] - c[AP_COUNTER_OUT_OF_SCOPE] + total->losses[AP_LOSS_MISSED];
    total->idle = c[AP_COUNTER_IDLE];
    total->out_of_scope = c[AP_COUNTER_OUT_OF_SCOPE];
    total->losses[AP_LOSS_RING_FULL] = c[AP_COUNTER_RING_FULL];
    total->losses[AP_LOSS_NO_SCRATCH] = c[AP_COUNTER_NO_SCRATCH];
}

static int finish(struct ap_source *source, const struct ap_span *span, struct ap_capture *capture,
                  struct ap_account *account)
{
    const struct ap_source_env *env = source->env;

    source->collect->profile->period_ns = AP_NS_PER_SEC / env->config->frequency;
    return ap_resolve(source->collect, env->modules, env->names, span, capture, account);
}

static void describe(const struct ap_source *source, struct ap_agent_info *agent)
{
    const struct sampler *sampler = source->state;
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(sampler->skel->maps.counters, counters, NULL);
    agent->bpf_run_ns += counters[AP_COUNTER_RUN_NS];
    agent->bpf_run_cnt += counters[AP_COUNTER_FIRED];
    agent->bpf_memory_bytes += ap_programs_memory(sampler->skel->obj);
    agent->cpus_online = ap_perf_cpus_cnt(&sampler->events);
}

static uint64_t lost(const struct ap_source *source)
{
    const struct sampler *sampler = source->state;
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(sampler->skel->maps.counters, counters, NULL);
    return counters[AP_COUNTER_RING_FULL];
}

static int self_test(struct ap_source_env *env, struct ap_out *out)
{
    return ap_source_test(env, &programs, out);
}

const struct ap_source_ops ap_source_cpu = {
    .kind = AP_KIND_CPU,
    .record_types = 1u << AP_RECORD_CPU,
    .open = open_source,
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
