/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/scope.h"

#include "agent/cpus.h"
#include "agent/procfs.h"
#include "agent/programs.h"

#include "bpf/scope.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ring buffer: room for half a second of 1,000-byte samples of one CPU at 999 Hz per CPU, in a power of two. */
#define RING_SZ_PER_CPU (512u << 10)
#define RING_SZ_MIN     (4u << 20)

/* The initial pid namespace's inode: PROC_PID_INIT_INO, include/linux/proc_ns.h. */
#define INIT_PID_NS_INUM 0xEFFFFFFCu

#define MAX_STACK_PATH "/proc/sys/kernel/perf_event_max_stack"

struct ap_scope {
    struct ap_scope_opts opts;
    struct scope_bpf *skel;
    struct ap_bpf_config config;
    struct ring_buffer *ring;
    int ring_fds[AP_RINGS_MAX];
    uint32_t ring_cnt, ring_sz;
    ap_scope_record_fn fn; /* consumer of the drain in progress */
    void *fn_ctx;
};

static int on_record(void *ctx, void *data, size_t size)
{
    struct ap_scope *scope = ctx;

    if (scope->fn)
        scope->fn(scope->fn_ctx, data, size);
    return 0;
}

/* 0 for the initial namespace, whose numbers the helpers give for nothing. */
static uint32_t own_pid_ns_inum(void)
{
    struct stat st;

    if (stat("/proc/self/ns/pid", &st) || st.st_ino == INIT_PID_NS_INUM)
        return 0;
    return (uint32_t)st.st_ino;
}

static void fill_config(struct ap_scope *scope)
{
    const struct ap_scope_opts *opts = &scope->opts;
    struct ap_bpf_config *config = &scope->config;
    uint64_t max_stack = 0;
    size_t i;

    if (ap_procfs_read_u64(MAX_STACK_PATH, &max_stack) || !max_stack || max_stack > AP_USER_FRAMES_MAX)
        max_stack = max_stack > AP_USER_FRAMES_MAX ? AP_USER_FRAMES_MAX : AP_KERNEL_FRAMES_MAX;
    config->pid_ns_inum = own_pid_ns_inum();
    config->max_stack = (uint32_t)max_stack;
    config->filter_pid = opts->pid_cnt > 0;
    config->filter_cgroup = opts->cgroup != NULL;
    config->comm_cnt = (uint32_t)opts->comm_cnt;
    for (i = 0; i < opts->comm_cnt; i++)
        snprintf(config->comms[i], AP_COMM_SZ, "%s", opts->comms[i]);
}

static int ring_error(int rc, uint32_t size, struct ap_error *err)
{
    if (rc == -EPERM || rc == -EACCES)
        return ap_programs_load_error(rc, "the ring buffers", err);
    return ap_error_errno(err, rc, "cannot make a ring buffer of %u bytes", size);
}

/* One ring buffer per group of CPUs, put into the map of maps and read by one reader. */
static int make_rings(struct ap_scope *scope, struct ap_error *err)
{
    int possible = libbpf_num_possible_cpus(), fd, rc;
    uint32_t i, cnt, cpus;

    cnt = possible > 0 ? ((uint32_t)possible + AP_RING_GROUP_CPUS - 1) / AP_RING_GROUP_CPUS : 1;
    if (cnt > AP_RINGS_MAX)
        return ap_error_set(err, -E2BIG, "this machine may have %d CPUs, more than the %d that are supported", possible,
                            AP_RINGS_MAX * AP_RING_GROUP_CPUS);
    cpus = possible > 0 && possible < AP_RING_GROUP_CPUS ? (uint32_t)possible : AP_RING_GROUP_CPUS;
    for (scope->ring_sz = RING_SZ_MIN; scope->ring_sz < cpus * RING_SZ_PER_CPU; scope->ring_sz *= 2)
        ;
    scope->config.wakeup_bytes = scope->ring_sz / 4;
    for (i = 0; i < cnt; i++) {
        fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "records", 0, 0, scope->ring_sz, NULL);
        if (fd < 0)
            return ring_error(fd, scope->ring_sz, err);
        scope->ring_fds[scope->ring_cnt++] = fd;
        rc = bpf_map__update_elem(scope->skel->maps.rings, &i, sizeof(i), &fd, sizeof(fd), BPF_ANY);
        if (rc)
            return ring_error(rc, scope->ring_sz, err);
        if (!scope->ring)
            scope->ring = ring_buffer__new(fd, on_record, scope, NULL);
        else if (ring_buffer__add(scope->ring, fd, on_record, scope))
            return ring_error(-errno, scope->ring_sz, err);
        if (!scope->ring)
            return ap_error_errno(err, -errno, "cannot map a ring buffer of %u bytes", scope->ring_sz);
    }
    return 0;
}

static int add_cgroup(struct ap_scope *scope, const char *path, struct ap_error *err)
{
    uint32_t zero = 0;
    int fd, rc;

    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ap_error_errno(err, -errno, "cannot open the cgroup \"%s\"", path);
    rc = bpf_map__update_elem(scope->skel->maps.cgroups, &zero, sizeof(zero), &fd, sizeof(fd), BPF_ANY);
    close(fd);
    if (rc)
        return ap_error_set(err, rc,
                            "\"%s\" is not a directory of the cgroup v2 hierarchy (look for one under the mount that "
                            "\"mount -t cgroup2\" shows, often /sys/fs/cgroup)",
                            path);
    return 0;
}

static int add_targets(struct ap_scope *scope, struct ap_error *err)
{
    const struct ap_scope_opts *opts = &scope->opts;
    uint8_t one = 1;
    size_t i;
    int rc;

    rc = scope_bpf__attach(scope->skel);
    if (rc)
        return ap_error_errno(err, rc, "cannot follow processes (raw tracepoints sched_process_fork, exit)");
    for (i = 0; i < opts->pid_cnt; i++) {
        rc = bpf_map__update_elem(scope->skel->maps.targets, &opts->pids[i], sizeof(opts->pids[i]), &one, sizeof(one),
                                  BPF_ANY);
        if (rc)
            return ap_error_errno(err, rc, "cannot take process %u into the capture", opts->pids[i]);
    }
    return 0;
}

static int load(struct ap_scope *scope, struct ap_error *err)
{
    int rc;

    scope->skel = scope_bpf__open();
    if (!scope->skel)
        return ap_error_errno(err, -errno, "cannot open the BPF programs");
    memcpy((void *)&scope->skel->rodata->config, &scope->config, sizeof(scope->config));
    bpf_program__set_autoload(scope->skel->progs.scope_fork, scope->opts.children);
    bpf_program__set_autoload(scope->skel->progs.scope_exit, scope->opts.pid_cnt > 0);
    rc = scope->opts.pid_cnt ? 0 : bpf_map__set_max_entries(scope->skel->maps.targets, 1);
    if (!rc)
        rc = scope_bpf__load(scope->skel);
    return rc ? ap_programs_load_error(rc, "the BPF programs that follow processes", err) : 0;
}

struct ap_scope *ap_scope_new(const struct ap_scope_opts *opts, struct ap_error *err)
{
    struct ap_scope *scope = calloc(1, sizeof(*scope));
    int rc;

    if (!scope) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    scope->opts = *opts;
    fill_config(scope);
    rc = load(scope, err);
    if (!rc)
        rc = make_rings(scope, err);
    if (!rc && opts->cgroup)
        rc = add_cgroup(scope, opts->cgroup, err);
    if (!rc && opts->pid_cnt)
        rc = add_targets(scope, err);
    return rc ? ap_scope_free(scope) : scope;
}

struct ap_scope *ap_scope_free(struct ap_scope *scope)
{
    uint32_t i;

    if (!scope)
        return NULL;
    ring_buffer__free(scope->ring);
    for (i = 0; i < scope->ring_cnt; i++)
        close(scope->ring_fds[i]);
    scope_bpf__destroy(scope->skel);
    free(scope);
    return NULL;
}

int ap_scope_adopt(const struct ap_scope *scope, struct bpf_object *object, struct ap_bpf_config *config)
{
    const struct {
        const char *name;
        struct bpf_map *map;
    } shared[] = {
        {"targets", scope->skel->maps.targets},
        {"cgroups", scope->skel->maps.cgroups},
        {"rings", scope->skel->maps.rings},
        {"guard", scope->skel->maps.guard},
    };
    struct bpf_map *map;
    size_t i;
    int rc;

    memcpy(config, &scope->config, sizeof(scope->config));
    for (i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
        map = bpf_object__find_map_by_name(object, shared[i].name);
        rc = map ? bpf_map__reuse_fd(map, bpf_map__fd(shared[i].map)) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

int ap_scope_fd(const struct ap_scope *scope)
{
    return ring_buffer__epoll_fd(scope->ring);
}

void ap_scope_drain(struct ap_scope *scope, ap_scope_record_fn fn, void *ctx)
{
    scope->fn = fn;
    scope->fn_ctx = ctx;
    ring_buffer__consume(scope->ring);
}

uint64_t ap_scope_targets_lost(const struct ap_scope *scope)
{
    uint64_t counters[AP_COUNTER_CNT];

    ap_programs_counters(scope->skel->maps.counters, counters, NULL);
    return counters[AP_COUNTER_TARGETS_FULL];
}

uint64_t ap_scope_memory(const struct ap_scope *scope)
{
    uint64_t sum = ap_programs_memory(scope->skel->obj);
    uint32_t i;

    for (i = 0; i < scope->ring_cnt; i++)
        sum += ap_programs_fd_memory(scope->ring_fds[i]);
    return sum;
}
