/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/session.h"

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/preflight.h"
#include "agent/procfs.h"
#include "agent/progress.h"
#include "agent/resolve.h"
#include "agent/sampler.h"
#include "core/clock.h"
#include "core/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

/* How often the rings are emptied when they do not ask for it, and how often CPUs and ended processes are
 * looked at. */
#define DRAIN_EVERY_NS   100000000ULL
#define HOUSEKEEPING_NS  1000000000ULL
#define EPOLL_EVENTS_MAX 16

/* What an epoll event is about; pidfds carry their index on top. */
enum watch { WATCH_RINGS = 0, WATCH_TIMER = 1, WATCH_SIGNAL = 2, WATCH_PID = 3 };

struct session {
    const struct ap_agent_config *config;
    struct ap_symbolizer *symbolizer;
    struct ap_modules *modules;
    struct ap_processes *processes;
    struct ap_sideband *sideband;
    struct ap_sampler *sampler;
    struct ap_collect *collect;
    struct ap_batch *batch;
    struct ap_progress progress;
    int epoll_fd, timer_fd, signal_fd;
    int pid_fds[AP_OPTION_LIST_MAX];
    size_t pid_cnt, pids_alive;
    uint64_t start_ns, end_ns, housekeeping_ns; /* monotonic */
    uint64_t start_epoch_ns, cpu_start_ns, cpu_ns;
    uint64_t bad_records, lost_events;
    bool done;
};

static void play_sample(void *ctx, const struct ap_cpu_record *record)
{
    struct session *s = ctx;

    ap_collect_sample(s->collect, record);
}

static void play_event(void *ctx, const struct ap_process_event *event)
{
    struct session *s = ctx;

    ap_processes_event(s->processes, event);
}

static void take_event(void *ctx, const struct ap_process_event *event)
{
    struct session *s = ctx;

    if (ap_batch_add_event(s->batch, event))
        s->lost_events++;
}

/* Process events are read after the samples they explain: whatever a task had mapped when it was sampled is
 * in their rings by then. */
static void play(struct session *s)
{
    ap_sideband_drain(s->sideband, take_event, s);
    ap_batch_play(s->batch, play_sample, play_event, s);
}

static int take_record(void *ctx, const void *record, size_t len)
{
    struct session *s = ctx;

    if (ap_record_check(record, len)) {
        s->bad_records++;
        return 0;
    }
    if (ap_batch_add_sample(s->batch, record, len)) {
        play(s);
        if (ap_batch_add_sample(s->batch, record, len))
            s->bad_records++; /* an empty batch takes any record, unless memory is out */
    }
    return 0;
}

static void drain(struct session *s)
{
    ap_sampler_drain(s->sampler, take_record, s);
    play(s);
}

static int watch(struct session *s, int fd, uint64_t what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = what};

    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int set_up_loop(struct session *s, struct ap_error *err)
{
    const struct itimerspec every = {{0, DRAIN_EVERY_NS}, {0, DRAIN_EVERY_NS}};
    sigset_t signals;
    size_t i;
    int rc;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->timer_fd < 0 || s->signal_fd < 0 || timerfd_settime(s->timer_fd, 0, &every, NULL))
        return ap_error_errno(err, -errno, "cannot set up the event loop");
    rc = watch(s, ap_sampler_fd(s->sampler), WATCH_RINGS);
    rc = rc ? rc : watch(s, s->timer_fd, WATCH_TIMER);
    rc = rc ? rc : watch(s, s->signal_fd, WATCH_SIGNAL);
    rc = rc ? rc : ap_sideband_watch(s->sideband, s->epoll_fd);
    for (i = 0; !rc && i < s->pid_cnt; i++)
        rc = watch(s, s->pid_fds[i], WATCH_PID + i);
    return rc ? ap_error_errno(err, rc, "cannot set up the event loop") : 0;
}

static int set_up(struct session *s, struct ap_error *err)
{
    const struct ap_agent_config *config = s->config;
    struct ap_sampler_opts opts = {
        .event = (enum ap_sampler_event)config->event,
        .frequency = config->frequency,
        .pids = config->pid_values,
        .pid_cnt = config->pids.cnt,
        .cgroup = config->cgroup,
        .comms = (const char *const *)config->comms.items,
        .comm_cnt = config->comms.cnt,
    };
    size_t i;
    int rc;

    ap_preflight_raise_files();
    rc = ap_preflight_pids(config->pid_values, config->pids.cnt, s->pid_fds, err);
    if (rc)
        return rc;
    s->pid_cnt = s->pids_alive = config->pids.cnt;
    s->symbolizer = ap_symbolizer_new(err); /* forks: before anything that a copy of us should not hold */
    if (!s->symbolizer)
        return -ECHILD;
    s->modules = ap_modules_new();
    s->processes = s->modules ? ap_processes_new(s->modules) : NULL;
    s->collect = s->processes ? ap_collect_new(s->processes) : NULL;
    s->batch = ap_batch_new();
    if (!s->collect || !s->batch)
        return ap_error_set(err, -ENOMEM, "out of memory");
    s->sideband = ap_sideband_new(err);
    if (!s->sideband)
        return err->code;
    s->sampler = ap_sampler_new(&opts, err);
    if (!s->sampler)
        return err->code;
    for (i = 0; i < s->pid_cnt; i++) /* while they are alive for sure */
        ap_processes_sampled(s->processes, config->pid_values[i], 0);
    return set_up_loop(s, err);
}

static void tear_down(struct session *s)
{
    size_t i;

    ap_sampler_free(s->sampler);
    ap_sideband_free(s->sideband);
    ap_collect_free(s->collect);
    ap_batch_free(s->batch);
    ap_processes_free(s->processes);
    ap_modules_free(s->modules);
    ap_symbolizer_free(s->symbolizer);
    for (i = 0; i < s->pid_cnt; i++)
        if (s->pid_fds[i] >= 0)
            close(s->pid_fds[i]);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    if (s->timer_fd >= 0)
        close(s->timer_fd);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
}

static void take_pid_end(struct session *s, size_t index)
{
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->pid_fds[index], NULL);
    close(s->pid_fds[index]);
    s->pid_fds[index] = -1;
    ap_log_info("process %u has ended", s->config->pid_values[index]);
    if (!--s->pids_alive)
        s->done = true;
}

static void take_signal(struct session *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        s->done = true;
}

static void take_tick(struct session *s)
{
    struct ap_sampler_counts counts;
    uint64_t expirations, now = ap_clock_monotonic_ns();

    while (read(s->timer_fd, &expirations, sizeof(expirations)) > 0)
        ;
    if (s->config->duration_ns && now - s->start_ns >= s->config->duration_ns)
        s->done = true;
    if (now - s->housekeeping_ns >= HOUSEKEEPING_NS) {
        s->housekeeping_ns = now;
        if (ap_sampler_refresh_cpus(s->sampler))
            ap_log_info("CPUs changed: now sampling %u", ap_sampler_cpu_cnt(s->sampler));
        ap_sideband_refresh_cpus(s->sideband);
        ap_sideband_watch(s->sideband, s->epoll_fd);
        ap_processes_sweep(s->processes, now);
    }
    if (s->progress.on) {
        ap_sampler_counts(s->sampler, &counts);
        ap_progress_update(&s->progress, now, now - s->start_ns, s->config->duration_ns, s->collect->samples,
                           counts.counters[AP_COUNTER_RING_FULL]);
    }
}

/* Milliseconds until the end of the recording, for a wait that does not overshoot it; -1 = open-ended. */
static int wait_ms(const struct session *s)
{
    uint64_t now = ap_clock_monotonic_ns(), end = s->start_ns + s->config->duration_ns;

    if (!s->config->duration_ns)
        return -1;
    return now >= end ? 0 : (int)((end - now) / 1000000 < 1000 ? (end - now) / 1000000 + 1 : 1000);
}

static int record(struct session *s, struct ap_error *err)
{
    struct epoll_event events[EPOLL_EVENTS_MAX];
    int cnt, i;

    while (!s->done) {
        cnt = epoll_wait(s->epoll_fd, events, EPOLL_EVENTS_MAX, wait_ms(s));
        if (cnt < 0 && errno != EINTR)
            return ap_error_errno(err, -errno, "cannot wait for samples");
        drain(s);
        for (i = 0; i < cnt; i++) {
            if (events[i].data.u64 == WATCH_SIGNAL)
                take_signal(s);
            else if (events[i].data.u64 >= WATCH_PID)
                take_pid_end(s, events[i].data.u64 - WATCH_PID);
        }
        take_tick(s);
    }
    return 0;
}

static int tell_ready(const struct session *s, struct ap_error *err)
{
    int fd = (int)s->config->ready_fd;

    if (!fd)
        return 0;
    if (write(fd, "1", 1) != 1)
        return ap_error_errno(err, -errno, "--ready-fd %d", fd);
    close(fd);
    return 0;
}

/* expected = delivered + lost, as docs/accounting.md defines it. */
static void account(const struct session *s, const struct ap_sampler_counts *counts, struct ap_capture *capture)
{
    const uint64_t *c = counts->counters;
    uint64_t fired = c[AP_COUNTER_FIRED];
    uint64_t in_scope = fired - c[AP_COUNTER_IDLE] - c[AP_COUNTER_OUT_OF_SCOPE];

    capture->expected = in_scope + counts->missed;
    capture->idle = c[AP_COUNTER_IDLE];
    capture->out_of_scope = c[AP_COUNTER_OUT_OF_SCOPE];
    capture->losses[AP_LOSS_MISSED] = counts->missed;
    capture->losses[AP_LOSS_RING_FULL] = c[AP_COUNTER_RING_FULL];
    capture->losses[AP_LOSS_NO_SCRATCH] = c[AP_COUNTER_NO_SCRATCH];
    capture->losses[AP_LOSS_NO_STACK] = s->collect->losses[AP_LOSS_NO_STACK];
    capture->losses[AP_LOSS_TABLE_FULL] += s->collect->losses[AP_LOSS_TABLE_FULL];
    capture->losses[AP_LOSS_BAD_RECORD] = s->bad_records;
    capture->losses[AP_LOSS_SIDEBAND] = ap_sideband_lost(s->sideband) + s->lost_events +
                                        ap_processes_refused(s->processes) + c[AP_COUNTER_TARGETS_FULL];
}

static void describe_agent(const struct session *s, const struct ap_sampler_counts *counts, struct ap_agent_info *agent)
{
    struct utsname uts = {0};

    uname(&uts);
    snprintf(agent->version, sizeof(agent->version), "%s", APERTURE_VERSION);
    snprintf(agent->host, sizeof(agent->host), "%s", uts.nodename);
    snprintf(agent->kernel, sizeof(agent->kernel), "%s", uts.release);
    snprintf(agent->arch, sizeof(agent->arch), "%.15s", uts.machine);
    snprintf(agent->event, sizeof(agent->event), "%s", s->config->event == AP_EVENT_CYCLES ? "cycles" : "cpu-clock");
    agent->cpus_online = ap_sampler_cpu_cnt(s->sampler);
    agent->frequency = s->config->frequency;
    agent->bpf_run_ns = counts->counters[AP_COUNTER_RUN_NS];
    agent->bpf_run_cnt = counts->counters[AP_COUNTER_FIRED];
    agent->bpf_memory_bytes = ap_sampler_memory(s->sampler);
    agent->cpu_ns = s->cpu_ns;
    agent->other_cpu_ns = ap_clock_cpu_ns() - s->cpu_ns + ap_symbolizer_cpu_ns(s->symbolizer);
    agent->rss_peak_bytes = ap_procfs_rss_peak();
}

static struct ap_capture *finish(struct session *s, struct ap_error *err)
{
    struct ap_capture *capture = ap_capture_new();
    struct ap_profile *profile = s->collect->profile;
    uint64_t period_ns = AP_NS_PER_SEC / s->config->frequency;
    struct ap_sampler_counts counts;

    if (!capture) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    ap_progress_note(&s->progress, "resolving symbols");
    ap_sampler_counts(s->sampler, &counts);
    if (counts.counters[AP_COUNTER_TARGETS_FULL])
        ap_log_warn("%llu child processes were left out: --pid follows at most %d processes at once; use --cgroup for "
                    "larger families",
                    (unsigned long long)counts.counters[AP_COUNTER_TARGETS_FULL], AP_TARGETS_MAX);
    profile->start_ns = s->start_epoch_ns;
    profile->duration_ns = s->end_ns - s->start_ns;
    profile->period_ns = period_ns;
    if (ap_resolve(s->collect, s->modules, s->symbolizer, period_ns, capture)) {
        ap_error_set(err, -ENOMEM, "out of memory while resolving symbols");
        return ap_capture_free(capture);
    }
    ap_symbolizer_stop(s->symbolizer);
    account(s, &counts, capture);
    describe_agent(s, &counts, &capture->agent);
    ap_progress_clear(&s->progress);
    return capture;
}

struct ap_capture *ap_session_run(const struct ap_agent_config *config, struct ap_error *err)
{
    struct session s = {.config = config, .epoll_fd = -1, .timer_fd = -1, .signal_fd = -1};
    struct ap_capture *capture = NULL;
    int rc;

    ap_progress_init(&s.progress, config->quiet);
    rc = set_up(&s, err);
    if (!rc)
        rc = ap_sampler_start(s.sampler, err);
    if (!rc) {
        s.start_ns = s.housekeeping_ns = ap_clock_monotonic_ns();
        s.cpu_start_ns = ap_clock_cpu_ns();
        s.start_epoch_ns = (uint64_t)((int64_t)s.start_ns + ap_clock_realtime_offset_ns());
        rc = tell_ready(&s, err);
        if (!rc)
            rc = record(&s, err);
        ap_sampler_stop(s.sampler);
        s.end_ns = ap_clock_monotonic_ns();
        drain(&s);
        s.cpu_ns = ap_clock_cpu_ns() - s.cpu_start_ns;
        if (!rc)
            capture = finish(&s, err);
    }
    ap_progress_clear(&s.progress);
    tear_down(&s);
    return capture;
}
