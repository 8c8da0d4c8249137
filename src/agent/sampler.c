/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/sampler.h"

#include "agent/account.h"
#include "agent/cpus.h"
#include "agent/perf.h"
#include "agent/procfs.h"
#include "core/clock.h"
#include "core/log.h"

#include "bpf/cpu.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ring buffer: room for a quarter of a second of 600-byte samples of one CPU at 999 Hz per CPU, in a power of
 * two. */
#define RING_SZ_PER_CPU (256u << 10)
#define RING_SZ_MIN     (1u << 20)
#define RING_SZ_MAX     (32u << 20)

/* The initial pid namespace's inode: PROC_PID_INIT_INO, include/linux/proc_ns.h. */
#define INIT_PID_NS_INUM 0xEFFFFFFCu

#define MAX_STACK_PATH "/proc/sys/kernel/perf_event_max_stack"

struct ap_sampler {
    struct cpu_bpf *skel;
    struct ring_buffer *ring;
    struct ap_sampler_opts opts;
    struct ap_perf_cpus events; /* one per online CPU */
    uint64_t *counter_values;   /* scratch: AP_COUNTER_CNT rows of one value per possible CPU */
    int possible_cpus;
    struct ap_cpus_idle idle_now, idle_last;
    uint64_t idle_sum[AP_CPUS_MAX]; /* idle time while recording, ns */
    bool deep;                      /* which of the two sampling programs is loaded */
    bool running;
    ap_sampler_fn fn; /* consumer of the drain in progress */
    void *fn_ctx;
};

static int on_record(void *ctx, void *data, size_t size)
{
    struct ap_sampler *sampler = ctx;

    return sampler->fn ? sampler->fn(sampler->fn_ctx, data, size) : 0;
}

/* 0 for the initial namespace, whose numbers the helpers give for nothing. */
static uint32_t own_pid_ns_inum(void)
{
    struct stat st;

    if (stat("/proc/self/ns/pid", &st) || st.st_ino == INIT_PID_NS_INUM)
        return 0;
    return (uint32_t)st.st_ino;
}

static uint32_t ring_size(size_t cpu_cnt)
{
    uint32_t size = RING_SZ_MIN;

    while (size < RING_SZ_MAX && size < cpu_cnt * RING_SZ_PER_CPU)
        size *= 2;
    return size;
}

static void fill_config(struct cpu_bpf *skel, const struct ap_sampler_opts *opts, bool deep)
{
    struct ap_bpf_config config = {.pid_ns_inum = own_pid_ns_inum()};
    uint64_t max_stack = 0;
    size_t i;

    if (ap_procfs_read_u64(MAX_STACK_PATH, &max_stack) || !max_stack || max_stack > AP_USER_FRAMES_MAX)
        max_stack = max_stack > AP_USER_FRAMES_MAX ? AP_USER_FRAMES_MAX : AP_KERNEL_FRAMES_MAX;
    config.max_stack = (uint32_t)max_stack;
    config.filter_pid = opts->pid_cnt > 0;
    config.filter_cgroup = opts->cgroup != NULL;
    config.comm_cnt = (uint32_t)opts->comm_cnt;
    for (i = 0; i < opts->comm_cnt; i++)
        snprintf(config.comms[i], AP_COMM_SZ, "%s", opts->comms[i]);
    memcpy((void *)&skel->rodata->config, &config, sizeof(config));
    bpf_program__set_autoload(skel->progs.cpu_sample, !deep);
    bpf_program__set_autoload(skel->progs.cpu_sample_deep, deep);
    bpf_program__set_autoload(skel->progs.scope_fork, opts->pid_cnt > 0);
    bpf_program__set_autoload(skel->progs.scope_exit, opts->pid_cnt > 0);
}

static int load_error(int rc, struct ap_error *err)
{
    if (rc == -EPERM || rc == -EACCES)
        return ap_error_set(err, rc,
                            "the kernel refused to load the BPF sampler (%s): run as root, or give the agent "
                            "CAP_BPF and CAP_PERFMON; in a container also check its seccomp profile, and on kernels "
                            "before 5.11 raise the locked-memory limit (ulimit -l)",
                            strerror(-rc));
    return ap_error_errno(err, rc,
                          "the BPF sampler does not load on this kernel (run with --log-level debug for the kernel's "
                          "own words)");
}

/* Opens, configures and loads; tried again without what this kernel lacks. NULL with *ret_rc set on failure.
 */
static struct cpu_bpf *load_skeleton(const struct ap_sampler_opts *opts, uint32_t ring_sz, bool deep, int *ret_rc)
{
    struct cpu_bpf *skel = cpu_bpf__open();

    if (!skel) {
        *ret_rc = -errno;
        return NULL;
    }
    fill_config(skel, opts, deep);
    skel->rodata->wakeup_bytes = ring_sz / 4;
    *ret_rc = bpf_map__set_max_entries(skel->maps.records, ring_sz);
    if (!*ret_rc && !opts->pid_cnt)
        *ret_rc = bpf_map__set_max_entries(skel->maps.targets, 1);
    if (!*ret_rc)
        *ret_rc = cpu_bpf__load(skel);
    if (*ret_rc) {
        cpu_bpf__destroy(skel);
        return NULL;
    }
    return skel;
}

static int add_cgroup(struct ap_sampler *sampler, const char *path, struct ap_error *err)
{
    uint32_t zero = 0;
    int fd, rc;

    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ap_error_errno(err, -errno, "cannot open the cgroup \"%s\"", path);
    rc = bpf_map__update_elem(sampler->skel->maps.cgroups, &zero, sizeof(zero), &fd, sizeof(fd), BPF_ANY);
    close(fd);
    if (rc)
        return ap_error_set(err, rc,
                            "\"%s\" is not a directory of the cgroup v2 hierarchy (look for one under the mount that "
                            "\"mount -t cgroup2\" shows, often /sys/fs/cgroup)",
                            path);
    return 0;
}

static int add_targets(struct ap_sampler *sampler, const struct ap_sampler_opts *opts, struct ap_error *err)
{
    uint8_t one = 1;
    size_t i;
    int rc;

    for (i = 0; i < opts->pid_cnt; i++) {
        rc = bpf_map__update_elem(sampler->skel->maps.targets, &opts->pids[i], sizeof(opts->pids[i]), &one, sizeof(one),
                                  BPF_ANY);
        if (rc)
            return ap_error_errno(err, rc, "cannot take process %u into the capture", opts->pids[i]);
    }
    return 0;
}

/* bpf_loop (5.17), with which user stacks beyond the kernel's limit are walked. */
static bool has_loop(void)
{
    return libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_loop, NULL) == 1;
}

static int load(struct ap_sampler *sampler, size_t cpu_cnt, struct ap_error *err)
{
    const struct ap_sampler_opts *opts = &sampler->opts;
    uint32_t ring_sz = ring_size(cpu_cnt);
    bool deep = has_loop();
    int rc;

    sampler->deep = deep;
    sampler->skel = load_skeleton(opts, ring_sz, deep, &rc);
    if (!sampler->skel && deep) {
        ap_log_warn("this kernel refuses the program for deep stacks: user stacks end at kernel.perf_event_max_stack");
        sampler->deep = false;
        sampler->skel = load_skeleton(opts, ring_sz, false, &rc);
    }
    if (!sampler->skel)
        return load_error(rc, err);
    if (opts->pid_cnt) {
        rc = cpu_bpf__attach(sampler->skel); /* scope_fork and scope_exit; the sampler has no automatic attachment */
        if (rc)
            return ap_error_errno(err, rc, "cannot follow child processes (raw tracepoints sched_process_fork, exit)");
        rc = add_targets(sampler, opts, err);
        if (rc)
            return rc;
    }
    if (opts->cgroup) {
        rc = add_cgroup(sampler, opts->cgroup, err);
        if (rc)
            return rc;
    }
    sampler->ring = ring_buffer__new(bpf_map__fd(sampler->skel->maps.records), on_record, sampler, NULL);
    if (!sampler->ring)
        return ap_error_errno(err, -errno, "cannot map the ring buffer (%u bytes)", ring_sz);
    return 0;
}

/* perf_event_attr of the sampling event. In frequency mode the kernel holds the rate: exactly for the clock
 * event (period = 1 s / frequency), by adapting the period for hardware counters. */
static void sampling_attr(const struct ap_sampler_opts *opts, struct perf_event_attr *ret_attr)
{
    memset(ret_attr, 0, sizeof(*ret_attr));
    ret_attr->size = sizeof(*ret_attr);
    ret_attr->type = opts->event == AP_EVENT_CYCLES ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE;
    ret_attr->config = opts->event == AP_EVENT_CYCLES ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK;
    ret_attr->freq = 1;
    ret_attr->sample_freq = opts->frequency;
    ret_attr->disabled = 1;
}

static int sampling_fd(const struct ap_sampler *sampler)
{
    return bpf_program__fd(sampler->deep ? sampler->skel->progs.cpu_sample_deep : sampler->skel->progs.cpu_sample);
}

static int open_error(const struct ap_sampler_opts *opts, int rc, struct ap_error *err)
{
    uint64_t limit = 0;

    ap_procfs_read_u64("/proc/sys/kernel/perf_event_max_sample_rate", &limit);
    if (rc == -EINVAL && limit && opts->frequency > limit)
        return ap_error_set(err, rc,
                            "the kernel allows at most %llu samples per second (it lowers this limit by itself when "
                            "sampling was slow): use --frequency %llu, or raise it with "
                            "sysctl kernel.perf_event_max_sample_rate=%llu",
                            (unsigned long long)limit, (unsigned long long)limit, (unsigned long long)opts->frequency);
    if (opts->event == AP_EVENT_CYCLES && (rc == -ENOENT || rc == -EOPNOTSUPP || rc == -ENODEV))
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

struct ap_sampler *ap_sampler_new(const struct ap_sampler_opts *opts, struct ap_error *err)
{
    struct ap_sampler *sampler = calloc(1, sizeof(*sampler));
    struct perf_event_attr attr;
    struct ap_cpus *cpus = calloc(1, sizeof(*cpus));
    int rc = -ENOMEM;

    if (!sampler || !cpus) {
        ap_error_set(err, -ENOMEM, "out of memory");
        goto fail;
    }
    ap_perf_cpus_init(&sampler->events, 0);
    sampler->opts = *opts;
    rc = ap_cpus_online(cpus, err);
    if (rc)
        goto fail;
    rc = load(sampler, cpus->cnt, err);
    if (rc)
        goto fail;
    sampler->possible_cpus = libbpf_num_possible_cpus();
    if (sampler->possible_cpus > 0)
        sampler->counter_values = calloc((size_t)sampler->possible_cpus * AP_COUNTER_CNT, sizeof(uint64_t));
    if (!sampler->counter_values) {
        ap_error_set(err, -ENOMEM, "cannot count the machine's possible CPUs");
        goto fail;
    }
    sampling_attr(opts, &attr);
    rc = ap_perf_cpus_open(&sampler->events, &attr, cpus, sampling_fd(sampler));
    if (rc < 0) {
        open_error(opts, rc, err);
        goto fail;
    }
    free(cpus);
    return sampler;
fail:
    free(cpus);
    return ap_sampler_free(sampler);
}

struct ap_sampler *ap_sampler_free(struct ap_sampler *sampler)
{
    if (!sampler)
        return NULL;
    ap_perf_cpus_done(&sampler->events);
    ring_buffer__free(sampler->ring);
    cpu_bpf__destroy(sampler->skel);
    free(sampler->counter_values);
    free(sampler);
    return NULL;
}

/* Adds up what each CPU was idle since the last look; a CPU that was away in between starts anew. */
static void add_idle(struct ap_sampler *sampler)
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

int ap_sampler_start(struct ap_sampler *sampler, struct ap_error *err)
{
    int rc;

    add_idle(sampler);
    memset(sampler->idle_sum, 0, sizeof(sampler->idle_sum));
    rc = ap_perf_cpus_enable(&sampler->events);
    if (rc)
        return ap_error_errno(err, rc, "cannot switch the sampling event on");
    sampler->running = true;
    return 0;
}

void ap_sampler_stop(struct ap_sampler *sampler)
{
    ap_perf_cpus_disable(&sampler->events);
    add_idle(sampler);
    sampler->running = false;
}

int ap_sampler_refresh_cpus(struct ap_sampler *sampler)
{
    struct perf_event_attr attr;

    add_idle(sampler);
    sampling_attr(&sampler->opts, &attr);
    attr.disabled = !sampler->running;
    return ap_perf_cpus_refresh(&sampler->events, &attr, sampling_fd(sampler));
}

uint32_t ap_sampler_cpu_cnt(const struct ap_sampler *sampler)
{
    return ap_perf_cpus_cnt(&sampler->events);
}

int ap_sampler_fd(const struct ap_sampler *sampler)
{
    return ring_buffer__epoll_fd(sampler->ring);
}

int ap_sampler_drain(struct ap_sampler *sampler, ap_sampler_fn fn, void *ctx)
{
    int rc;

    sampler->fn = fn;
    sampler->fn_ctx = ctx;
    rc = ring_buffer__consume(sampler->ring);
    return rc < 0 ? rc : 0;
}

static uint64_t missed_ticks(const struct ap_sampler *sampler)
{
    size_t cnt = (size_t)sampler->possible_cpus, cpu;
    struct ap_cpu_ticks *ticks = calloc(cnt, sizeof(*ticks));
    const uint64_t *values = sampler->counter_values;
    uint64_t period_ns = AP_NS_PER_SEC / sampler->opts.frequency, missed;

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

void ap_sampler_counts(struct ap_sampler *sampler, struct ap_sampler_counts *ret_counts)
{
    size_t cnt = (size_t)sampler->possible_cpus, cpu;
    uint64_t *row;
    uint32_t index;

    memset(ret_counts, 0, sizeof(*ret_counts));
    for (index = 0; index < AP_COUNTER_CNT; index++) {
        row = sampler->counter_values + index * cnt;
        if (bpf_map__lookup_elem(sampler->skel->maps.counters, &index, sizeof(index), row, cnt * sizeof(*row), 0))
            continue;
        for (cpu = 0; cpu < cnt; cpu++)
            ret_counts->counters[index] += row[cpu];
    }
    /* only the clock tells how often it should have fired: hardware counters adapt their period */
    if (!sampler->running && sampler->opts.event == AP_EVENT_CPU_CLOCK)
        ret_counts->missed = missed_ticks(sampler);
}

/* "memlock:" of an object's fdinfo is what the kernel charges for it. */
static uint64_t object_memory(int fd)
{
    char path[64], text[2048];
    uint64_t bytes;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    if (fd < 0 || ap_procfs_read(path, text, sizeof(text)) < 0 || ap_procfs_field(text, "memlock", &bytes))
        return 0;
    return bytes;
}

uint64_t ap_sampler_memory(const struct ap_sampler *sampler)
{
    struct bpf_program *prog;
    struct bpf_map *map;
    uint64_t sum = 0;

    bpf_object__for_each_map(map, sampler->skel->obj) sum += object_memory(bpf_map__fd(map));
    bpf_object__for_each_program(prog, sampler->skel->obj) sum += object_memory(bpf_program__fd(prog));
    return sum;
}

int ap_sampler_self_test(struct ap_out *out)
{
    static const uint32_t pid = 1;
    static const char *const comms[] = {"self-test"};
    static const struct {
        const char *name;
        struct ap_sampler_opts opts;
        bool deep;
    } variants[] = {
        {"cpu: whole system", {.frequency = 99}, false},
        {"cpu: whole system, user stacks over the kernel's limit", {.frequency = 99}, true},
        {"cpu: --pid, --cgroup and --comm",
         {.frequency = 99, .pids = &pid, .pid_cnt = 1, .cgroup = "", .comms = comms, .comm_cnt = 1},
         false},
    };
    bool loop = has_loop();
    struct cpu_bpf *skel;
    int failed = 0, rc;
    size_t i;

    for (i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        if (variants[i].deep && !loop) {
            ap_out_printf(out, "unavailable %s: needs the helper bpf_loop (Linux 5.17)\n", variants[i].name);
            continue;
        }
        skel = load_skeleton(&variants[i].opts, RING_SZ_MIN, variants[i].deep, &rc);
        if (!skel)
            failed++;
        if (skel)
            ap_out_printf(out, "ok %s\n", variants[i].name);
        else
            ap_out_printf(out, "failed %s: %s\n", variants[i].name, strerror(-rc));
        cpu_bpf__destroy(skel);
    }
    return failed;
}
