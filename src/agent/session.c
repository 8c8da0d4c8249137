/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/session.h"

#include "agent/batch.h"
#include "agent/collect.h"
#include "agent/preflight.h"
#include "agent/procfs.h"
#include "agent/progress.h"
#include "agent/resolve.h"
#include "agent/source.h"
#include "core/clock.h"
#include "core/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <unistd.h>

/* How often the rings are emptied when they do not ask for it, and how often CPUs and ended processes are
 * looked at. */
#define DRAIN_EVERY_NS   100000000ULL
#define HOUSEKEEPING_NS  1000000000ULL
#define EPOLL_EVENTS_MAX 16
/* The reader must come to the CPU before its ring buffers are full, on hosts with too little of it above all. */
#define AGENT_NICE (-5)

/* What an epoll event is about; pidfds carry their index on top. */
enum watch { WATCH_RINGS = 0, WATCH_TIMER = 1, WATCH_SIGNAL = 2, WATCH_NAMES = 3, WATCH_PID = 4 };

struct session {
    const struct ap_agent_config *config;
    const struct ap_session_sink *sink; /* NULL = one span, handed back */
    struct ap_symbolizer *symbolizer;
    struct ap_modules *modules;
    struct ap_names *names;
    struct ap_processes *processes;
    struct ap_sideband *sideband;
    struct ap_scope *scope;
    struct ap_kernel kernel;
    struct ap_source_env env;
    struct ap_source sources[AP_CAPTURE_PROFILES_MAX];
    unsigned source_cnt;
    struct ap_source *by_record[AP_RECORD_TYPE_CNT]; /* who takes records of a type; NULL = nobody */
    struct ap_left_out left_out[AP_CAPTURE_PROFILES_MAX];
    unsigned left_out_cnt;
    struct ap_batch *batch;
    struct ap_progress progress;
    int epoll_fd, timer_fd, signal_fd;
    int pid_fds[AP_OPTION_LIST_MAX];
    size_t pid_cnt, pids_alive;
    uint64_t start_ns, end_ns, housekeeping_ns;      /* monotonic */
    uint64_t span_ns;                                /* likewise: beginning of the span in work */
    struct ap_account told[AP_CAPTURE_PROFILES_MAX]; /* by source: what earlier spans had of count_events() */
    uint64_t ahead[AP_CAPTURE_PROFILES_MAX];         /* by source: events delivered before they were expected */
    uint64_t cpu_start_ns, cpu_ns;
    uint64_t bad_records, lost_events;
    bool done;
};

static const struct ap_source_ops *const all_sources[] = {&ap_source_cpu, &ap_source_offcpu, &ap_source_lock,
                                                          &ap_source_syscall};
#define ALL_SOURCES_CNT (sizeof(all_sources) / sizeof(all_sources[0]))

static void play_sample(void *ctx, const struct ap_record *record)
{
    struct session *s = ctx;
    struct ap_source *source = s->by_record[record->type];

    source->ops->record(source, record);
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

static void take_record(void *ctx, const void *record, size_t len)
{
    const struct ap_record *head = record;
    struct session *s = ctx;

    if (ap_record_check(record, len) || !s->by_record[head->type]) {
        s->bad_records++;
        return;
    }
    if (ap_batch_add_sample(s->batch, record, len)) {
        play(s);
        if (ap_batch_add_sample(s->batch, record, len))
            s->bad_records++; /* an empty batch takes any record, unless memory is out */
    }
}

static void drain(struct session *s)
{
    ap_modules_begin_drain(s->modules);
    ap_scope_drain(s->scope, take_record, s);
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
    rc = watch(s, ap_scope_fd(s->scope), WATCH_RINGS);
    rc = rc ? rc : watch(s, s->timer_fd, WATCH_TIMER);
    rc = rc ? rc : watch(s, s->signal_fd, WATCH_SIGNAL);
    rc = rc ? rc : watch(s, ap_symbolizer_fd(s->symbolizer), WATCH_NAMES);
    rc = rc ? rc : ap_sideband_watch(s->sideband, s->epoll_fd);
    for (i = 0; !rc && i < s->pid_cnt; i++)
        rc = watch(s, s->pid_fds[i], WATCH_PID + i);
    return rc ? ap_error_errno(err, rc, "cannot set up the event loop") : 0;
}

static void close_source(struct ap_source *source)
{
    source->ops->close(source);
    ap_collect_free(source->collect);
    memset(source, 0, sizeof(*source));
}

/* 0, or negative errno with words; then nothing of it is left. */
static int open_source(struct session *s, const struct ap_source_ops *ops, struct ap_error *err)
{
    struct ap_source *source = &s->sources[s->source_cnt];
    unsigned type;
    int rc;

    *source = (struct ap_source){.ops = ops, .env = &s->env};
    source->collect = ap_collect_new(s->processes, ops->kind);
    if (!source->collect)
        return ap_error_set(err, -ENOMEM, "out of memory");
    if (s->sink)
        source->collect->slot_ns = AP_PUSH_SLOT_NS;
    rc = ops->open(source, err);
    if (!rc && ops->begin && ops->begin(source))
        rc = ap_error_set(err, -ENOMEM, "out of memory");
    if (rc) {
        close_source(source);
        return rc;
    }
    for (type = 0; type < AP_RECORD_TYPE_CNT; type++)
        if (ops->record_types >> type & 1)
            s->by_record[type] = source;
    s->source_cnt++;
    return 0;
}

/* With several modes, one that this kernel cannot run is left out. */
static int open_sources(struct session *s, struct ap_error *err)
{
    struct ap_left_out *left;
    size_t i;
    int rc = 0;

    for (i = 0; i < ALL_SOURCES_CNT; i++) {
        if (!(s->config->modes & AP_MODE(all_sources[i]->kind)))
            continue;
        rc = open_source(s, all_sources[i], err);
        if (!rc)
            continue;
        if (s->config->modes == AP_MODE(all_sources[i]->kind))
            return rc;
        left = &s->left_out[s->left_out_cnt++];
        left->kind = all_sources[i]->kind;
        snprintf(left->reason, sizeof(left->reason), "%.511s", err->text);
        ap_log_warn("%s is left out: %s", ap_event_kind_name(left->kind), err->text);
    }
    return s->source_cnt ? 0 : rc;
}

static int open_tables(struct session *s, struct ap_error *err)
{
    const struct ap_agent_config *config = s->config;
    struct ap_scope_opts opts = {
        .pids = config->pid_values,
        .pid_cnt = config->pids.cnt,
        .children = config->children,
        .cgroup = config->cgroup,
        .comms = (const char *const *)config->comms.items,
        .comm_cnt = config->comms.cnt,
    };

    s->modules = ap_modules_new();
    s->names = s->modules ? ap_names_new(s->modules, s->symbolizer) : NULL;
    s->processes = s->modules ? ap_processes_new(s->modules) : NULL;
    s->batch = ap_batch_new();
    if (!s->names || !s->processes || !s->batch)
        return ap_error_set(err, -ENOMEM, "out of memory");
    s->sideband = ap_sideband_new(err);
    if (!s->sideband)
        return err->code;
    ap_kernel_probe(&s->kernel);
    s->scope = ap_scope_new(&opts, err);
    return s->scope ? 0 : err->code;
}

static int set_up(struct session *s, struct ap_error *err)
{
    const struct ap_agent_config *config = s->config;
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
    if (setpriority(PRIO_PROCESS, 0, AGENT_NICE)) /* not everywhere may we */
        ap_log_debug("cannot run at nice %d: %s", AGENT_NICE, strerror(errno));
    rc = open_tables(s, err);
    if (rc)
        return rc;
    s->env = (struct ap_source_env){config, &s->kernel, s->scope, s->processes, s->modules, s->names, ""};
    rc = open_sources(s, err);
    if (rc)
        return rc;
    for (i = 0; i < s->pid_cnt; i++) /* while they are alive for sure */
        ap_processes_sampled(s->processes, config->pid_values[i], 0);
    return set_up_loop(s, err);
}

static void tear_down(struct session *s)
{
    size_t i;

    while (s->source_cnt)
        close_source(&s->sources[--s->source_cnt]);
    ap_scope_free(s->scope);
    ap_sideband_free(s->sideband);
    ap_batch_free(s->batch);
    ap_processes_free(s->processes);
    ap_names_free(s->names);
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

static int start_sources(struct session *s, struct ap_error *err)
{
    unsigned i;
    int rc = 0;

    for (i = 0; !rc && i < s->source_cnt; i++)
        rc = s->sources[i].ops->start(&s->sources[i], err);
    return rc;
}

static void stop_sources(struct session *s)
{
    unsigned i;

    for (i = 0; i < s->source_cnt; i++)
        s->sources[i].ops->stop(&s->sources[i]);
}

static void tick_sources(struct session *s, uint64_t now_ns)
{
    unsigned i;

    for (i = 0; i < s->source_cnt; i++)
        if (s->sources[i].ops->tick)
            s->sources[i].ops->tick(&s->sources[i], now_ns);
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

static void show_progress(struct session *s, uint64_t now)
{
    uint64_t taken = 0, lost = 0;
    unsigned i;

    for (i = 0; i < s->source_cnt; i++) {
        taken += s->sources[i].collect->samples;
        lost += s->sources[i].ops->lost(&s->sources[i]);
    }
    ap_progress_update(&s->progress, now, now - s->start_ns, s->config->duration_ns, taken, lost);
}

static void want_location(void *ctx, const struct ap_location *location)
{
    struct session *s = ctx;

    ap_names_want(s->names, AP_NAME_CODE, location->module, location->offset);
}

/* What is asked for early has its name when the span ends. */
static void want_names(struct session *s)
{
    unsigned i;

    for (i = 0; i < s->source_cnt; i++)
        ap_resolve_want(s->sources[i].collect, s->names);
}

/* Files of programs that have ended are let go as soon as every place that is known in them has a name. One that is
 * mapped again in the meantime is not idle any more. */
static void release_files(struct session *s, uint64_t now)
{
    uint32_t pos = 0, id, cnt;
    unsigned i;

    for (cnt = 0; cnt < AP_MODULES_IDLE_CHUNK && ap_modules_next_idle(s->modules, now, &pos, &id); cnt++) {
        if (ap_names_pending(s->names, id))
            continue;
        for (i = 0; i < s->source_cnt; i++) {
            ap_collect_each(s->sources[i].collect, id, want_location, s);
            if (s->sources[i].ops->want)
                s->sources[i].ops->want(&s->sources[i], id);
        }
        if (!ap_names_pending(s->names, id))
            ap_modules_release(s->modules, id);
    }
}

static struct ap_capture *finish_span(struct session *s, bool final, struct ap_error *err);
static uint64_t used_cpu_ns(const struct session *s);

/* Hands the span on. Without memory for it parts of it are gone, so the recording ends with an error. */
static int end_span(struct session *s, struct ap_error *err)
{
    struct ap_capture *capture;

    s->cpu_ns = used_cpu_ns(s) - s->cpu_start_ns;
    capture = finish_span(s, false, err);
    if (!capture)
        return err->code;
    s->sink->take(s->sink->ctx, capture);
    return 0;
}

static int take_tick(struct session *s, struct ap_error *err)
{
    uint64_t expirations, now = ap_clock_monotonic_ns();
    int rc = 0;

    while (read(s->timer_fd, &expirations, sizeof(expirations)) > 0)
        ;
    if (s->config->duration_ns && now - s->start_ns >= s->config->duration_ns)
        s->done = true;
    tick_sources(s, now);
    if (now - s->housekeeping_ns >= HOUSEKEEPING_NS) {
        s->housekeeping_ns = now;
        ap_sideband_refresh_cpus(s->sideband);
        ap_sideband_watch(s->sideband, s->epoll_fd);
        ap_processes_sweep(s->processes, now);
        release_files(s, now);
        if (s->sink)
            want_names(s);
        ap_names_pump(s->names, now);
    }
    if (s->sink && !s->done && now - s->span_ns >= s->config->push_interval_ns)
        rc = end_span(s, err);
    if (s->progress.on)
        show_progress(s, now);
    return rc;
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
    int cnt, i, rc = 0;

    while (!s->done && !rc) {
        cnt = epoll_wait(s->epoll_fd, events, EPOLL_EVENTS_MAX, wait_ms(s));
        if (cnt < 0 && errno != EINTR)
            return ap_error_errno(err, -errno, "cannot wait for samples");
        drain(s);
        for (i = 0; i < cnt; i++) {
            if (events[i].data.u64 == WATCH_SIGNAL)
                take_signal(s);
            else if (events[i].data.u64 == WATCH_NAMES)
                ap_names_pump(s->names, ap_clock_monotonic_ns());
            else if (events[i].data.u64 >= WATCH_PID)
                take_pid_end(s, events[i].data.u64 - WATCH_PID);
        }
        rc = take_tick(s, err);
    }
    return rc;
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

/* CPU time of the agent's two processes. */
static uint64_t used_cpu_ns(const struct session *s)
{
    return ap_clock_cpu_ns() + ap_symbolizer_cpu_ns(s->symbolizer);
}

static void describe_agent(const struct session *s, struct ap_agent_info *agent)
{
    struct utsname uts = {0};
    unsigned i;

    uname(&uts);
    snprintf(agent->version, sizeof(agent->version), "%s", APERTURE_VERSION);
    snprintf(agent->host, sizeof(agent->host), "%s", uts.nodename);
    snprintf(agent->kernel, sizeof(agent->kernel), "%s", uts.release);
    snprintf(agent->arch, sizeof(agent->arch), "%.15s", uts.machine);
    snprintf(agent->event, sizeof(agent->event), "%s", s->config->event == AP_EVENT_CYCLES ? "cycles" : "cpu-clock");
    agent->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    agent->frequency = s->config->frequency;
    agent->bpf_memory_bytes = ap_scope_memory(s->scope);
    for (i = 0; i < s->source_cnt; i++)
        s->sources[i].ops->describe(&s->sources[i], agent);
    agent->cpu_ns = s->cpu_ns;
    agent->other_cpu_ns = used_cpu_ns(s) - s->cpu_ns;
    agent->rss_peak_bytes = ap_procfs_rss_peak();
}

/* What has been counted since the start, by source; what the session itself knows of stands with the first. Malformed
 * records cannot tell whose they were. */
static void count_events(struct session *s, struct ap_account *ret_totals)
{
    unsigned i;

    memset(ret_totals, 0, AP_CAPTURE_PROFILES_MAX * sizeof(*ret_totals));
    for (i = 0; i < s->source_cnt; i++)
        s->sources[i].ops->count(&s->sources[i], &ret_totals[i]);
    ret_totals[0].losses[AP_LOSS_BAD_RECORD] = s->bad_records;
    ret_totals[0].losses[AP_LOSS_SIDEBAND] = ap_sideband_lost(s->sideband) + s->lost_events +
                                             ap_processes_refused(s->processes) + ap_scope_targets_lost(s->scope);
}

/* What came since the last look; a number that went back (an estimate that was too high) waits until it is made up for.
 */
static uint64_t news(uint64_t now, uint64_t *told)
{
    uint64_t before = *told;

    if (now <= before)
        return 0;
    *told = now;
    return now - before;
}

static void add_news(const struct ap_account *total, struct ap_account *told, struct ap_account *ret_account)
{
    unsigned reason;

    ret_account->expected = news(total->expected, &told->expected);
    ret_account->idle = news(total->idle, &told->idle);
    ret_account->out_of_scope = news(total->out_of_scope, &told->out_of_scope);
    ret_account->below_min = news(total->below_min, &told->below_min);
    ret_account->below_min_ns = news(total->below_min_ns, &told->below_min_ns);
    ret_account->unmatched = news(total->unmatched, &told->unmatched);
    for (reason = 0; reason < AP_LOSS_REASON_CNT; reason++)
        ret_account->losses[reason] = news(total->losses[reason], &told->losses[reason]);
}

/* Events are counted before the rings are emptied, so none is missing; those that came in between were not expected yet
 * and are taken off the next span. Held ones are expected when they are delivered. */
static void settle_account(struct session *s, unsigned index, uint64_t held_before, struct ap_account *account)
{
    const struct ap_collect *collect = s->sources[index].collect;
    uint64_t had, off;
    unsigned reason;

    for (reason = 0; reason < AP_LOSS_REASON_CNT; reason++)
        account->losses[reason] += collect->losses[reason];
    account->expected += held_before;
    off = s->ahead[index] + collect->held;
    if (off > account->expected)
        off = account->expected;
    account->expected -= off;
    s->ahead[index] -= off > collect->held ? off - collect->held : 0;
    had = account->delivered + ap_account_lost(account);
    if (had > account->expected) {
        s->ahead[index] += had - account->expected;
        account->expected = had;
    }
}

/* Completes the profile of one source's span, which began `start_ns` after the epoch, and moves it to the capture. 0 or
 * -ENOMEM. */
static int finish_source(struct session *s, unsigned index, const struct ap_span *span, uint64_t start_ns,
                         const struct ap_account *total, struct ap_capture *capture)
{
    struct ap_source *source = &s->sources[index];
    struct ap_account *account = &capture->accounts[capture->profile_cnt];
    struct ap_profile *profile = source->collect->profile, *next;
    uint64_t held = source->collect->held;

    profile->start_ns = start_ns;
    profile->duration_ns = s->end_ns - span->start_ns;
    profile->slot_ns = source->collect->slot_ns;
    add_news(total, &s->told[index], account);
    if (source->ops->finish(source, span, capture, account))
        return -ENOMEM;
    settle_account(s, index, held, account);
    capture->profiles[capture->profile_cnt++] = profile;
    source->collect->profile = NULL;
    if (span->final)
        return 0;
    next = ap_profile_new(source->ops->kind);
    if (!next)
        return -ENOMEM;
    ap_collect_next(source->collect, next);
    return source->ops->begin ? source->ops->begin(source) : 0;
}

static void warn_at_end(const struct session *s)
{
    uint64_t lost = ap_scope_targets_lost(s->scope);

    if (lost)
        ap_log_warn("%llu child processes were left out: --pid follows at most %d processes at once; use --cgroup for "
                    "larger families",
                    (unsigned long long)lost, AP_TARGETS_MAX);
    if (ap_names_refused(s->names))
        ap_log_warn("%llu places in programs have no name: the table of names is full",
                    (unsigned long long)ap_names_refused(s->names));
}

/* The capture of everything since the last one. NULL with words. */
static struct ap_capture *finish_span(struct session *s, bool final, struct ap_error *err)
{
    const struct ap_span span = {s->span_ns, final};
    const uint64_t slot_ns = s->sink ? AP_PUSH_SLOT_NS : 1; /* the first slot begins with the span */
    const uint64_t start_ns = (uint64_t)((int64_t)(s->span_ns / slot_ns * slot_ns) + ap_clock_realtime_offset_ns());
    struct ap_account totals[AP_CAPTURE_PROFILES_MAX];
    struct ap_capture *capture = ap_capture_new();
    unsigned i;
    int rc = capture ? 0 : -ENOMEM;

    count_events(s, totals);
    if (!final) {
        s->end_ns = ap_clock_monotonic_ns();
        drain(s);
    }
    want_names(s);
    for (i = 0; !rc && i < s->source_cnt; i++)
        rc = finish_source(s, i, &span, start_ns, &totals[i], capture);
    if (rc) {
        ap_error_set(err, rc, "out of memory while resolving symbols");
        return ap_capture_free(capture);
    }
    s->span_ns = s->end_ns;
    ap_names_next(s->names);
    ap_capture_unresolved_sort(capture);
    memcpy(capture->left_out, s->left_out, sizeof(capture->left_out));
    capture->left_out_cnt = s->left_out_cnt;
    if (final) {
        warn_at_end(s);
        ap_symbolizer_stop(s->symbolizer);
    }
    describe_agent(s, &capture->agent);
    return capture;
}

/* From the first event to the last. */
static int record_and_finish(struct session *s, struct ap_capture **ret_capture, struct ap_error *err)
{
    struct ap_capture *capture;
    int rc;

    s->start_ns = s->span_ns = s->housekeeping_ns = ap_clock_monotonic_ns();
    s->cpu_start_ns = used_cpu_ns(s);
    rc = tell_ready(s, err);
    if (!rc)
        rc = record(s, err);
    stop_sources(s);
    s->end_ns = ap_clock_monotonic_ns();
    drain(s);
    tick_sources(s, s->end_ns);
    s->cpu_ns = used_cpu_ns(s) - s->cpu_start_ns;
    if (rc)
        return rc;
    ap_progress_note(&s->progress, "resolving symbols");
    capture = finish_span(s, true, err);
    ap_progress_clear(&s->progress);
    if (!capture)
        return err->code;
    if (s->sink)
        s->sink->take(s->sink->ctx, capture);
    else
        *ret_capture = capture;
    return 0;
}

int ap_session_run(const struct ap_agent_config *config, const struct ap_session_sink *sink,
                   struct ap_capture **ret_capture, struct ap_error *err)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return ap_error_set(err, -ENOMEM, "out of memory");
    s->config = config;
    s->sink = sink;
    s->epoll_fd = s->timer_fd = s->signal_fd = -1;
    ap_progress_init(&s->progress, config->quiet);
    rc = set_up(s, err);
    if (!rc && sink)
        rc = sink->open(sink->ctx, err);
    if (!rc)
        rc = start_sources(s, err);
    if (!rc)
        rc = record_and_finish(s, ret_capture, err);
    ap_progress_clear(&s->progress);
    tear_down(s);
    free(s);
    return rc;
}

int ap_session_self_test(struct ap_out *out, struct ap_error *err)
{
    static const uint32_t pid = 1;
    static const char *const comms[] = {"self-test"};
    const struct ap_scope_opts scopes[] = {
        {.pid_cnt = 0},
        {.pids = &pid, .pid_cnt = 1, .children = true, .comms = comms, .comm_cnt = 1},
    };
    const struct ap_agent_config config = {.frequency = 99, .sample_every = 2, .stacks = true, .waker = true};
    struct ap_kernel kernel;
    struct ap_source_env env = {.config = &config, .kernel = &kernel};
    int failed = 0;
    size_t i, j;

    ap_kernel_probe(&kernel);
    for (i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
        env.variant = i ? ", with filters" : "";
        env.scope = ap_scope_new(&scopes[i], err);
        if (!env.scope)
            return err->code;
        for (j = 0; j < ALL_SOURCES_CNT; j++)
            failed += all_sources[j]->self_test(&env, out);
        ap_scope_free(env.scope);
    }
    return failed;
}
