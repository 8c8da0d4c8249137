/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/programs.h"

#include "agent/procfs.h"
#include "core/buf.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Instead of a grace period where the kernel offers none to user space: far longer than a program runs. */
#define NO_MEMBARRIER_WAIT_NS 50000000L

/* Arguments of a tracepoint's typed form without its first; -1 when this kernel does not have it. */
static int tracepoint_args(const struct btf *btf, const char *name)
{
    char text[64];
    const struct btf_type *type;
    int id;

    snprintf(text, sizeof(text), "btf_trace_%s", name);
    id = btf__find_by_name_kind(btf, text, BTF_KIND_TYPEDEF);
    type = id > 0 ? btf__type_by_id(btf, (uint32_t)id) : NULL;
    type = type ? btf__type_by_id(btf, type->type) : NULL; /* pointer to */
    type = type && btf_is_ptr(type) ? btf__type_by_id(btf, type->type) : NULL;
    return type && btf_is_func_proto(type) ? btf_vlen(type) - 1 : -1;
}

void ap_kernel_probe(struct ap_kernel *ret_kernel)
{
    struct btf *btf = btf__load_vmlinux_btf();

    memset(ret_kernel, 0, sizeof(*ret_kernel));
    ret_kernel->deep = libbpf_probe_bpf_helper(BPF_PROG_TYPE_PERF_EVENT, BPF_FUNC_loop, NULL) == 1;
    if (btf) {
        ret_kernel->switch_state = tracepoint_args(btf, "sched_switch") >= 4;
        ret_kernel->contention = tracepoint_args(btf, "contention_begin") >= 2;
        ret_kernel->iter = btf__find_by_name_kind(btf, "bpf_iter__task", BTF_KIND_STRUCT) > 0;
    }
    btf__free(btf);
}

int ap_programs_load_error(int rc, const char *what, struct ap_error *err)
{
    if (rc == -EPERM || rc == -EACCES)
        return ap_error_set(
            err, rc,
            "the kernel refused to load %s (%s): run as root, or give the agent CAP_BPF and CAP_PERFMON; "
            "in a container also check its seccomp profile, and on kernels before 5.11 raise the "
            "locked-memory limit (ulimit -l)",
            what, strerror(-rc));
    if (rc == -ENOMEM)
        return ap_error_set(err, rc, "no memory to load %s: check the memory limit of the agent's cgroup", what);
    return ap_error_errno(
        err, rc, "%s cannot be loaded on this kernel (run with --log-level debug for the kernel's own words)", what);
}

size_t ap_programs_cpus(void)
{
    int cnt = libbpf_num_possible_cpus();

    return cnt > 0 ? (size_t)cnt : 1;
}

void ap_programs_counters(const struct bpf_map *map, uint64_t *ret_counters, uint64_t *ret_rows)
{
    size_t cpus = ap_programs_cpus(), cpu;
    uint64_t *row = calloc(cpus, sizeof(*row));
    uint32_t index;

    memset(ret_counters, 0, AP_COUNTER_CNT * sizeof(*ret_counters));
    for (index = 0; row && index < AP_COUNTER_CNT; index++) {
        if (bpf_map__lookup_elem(map, &index, sizeof(index), row, cpus * sizeof(*row), 0))
            continue;
        for (cpu = 0; cpu < cpus; cpu++)
            ret_counters[index] += row[cpu];
        if (ret_rows)
            memcpy(ret_rows + index * cpus, row, cpus * sizeof(*row));
    }
    free(row);
}

/* "memlock:" of an object's fdinfo is what the kernel charges for it. */
uint64_t ap_programs_fd_memory(int fd)
{
    char path[64], text[2048];
    uint64_t bytes;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    if (fd < 0 || ap_procfs_read(path, text, sizeof(text)) < 0 || ap_procfs_field(text, "memlock", &bytes))
        return 0;
    return bytes;
}

static bool is_shared(const char *name)
{
    return !strcmp(name, "targets") || !strcmp(name, "cgroups") || !strcmp(name, "rings") || !strcmp(name, "guard");
}

uint64_t ap_programs_memory(const struct bpf_object *object)
{
    struct bpf_program *program;
    struct bpf_map *map;
    uint64_t sum = 0;

    bpf_object__for_each_map(map, object)
    {
        if (!is_shared(bpf_map__name(map)))
            sum += ap_programs_fd_memory(bpf_map__fd(map));
    }
    bpf_object__for_each_program(program, object) sum += ap_programs_fd_memory(bpf_program__fd(program));
    return sum;
}

int ap_record_check(const void *record, size_t len)
{
    struct ap_record head;

    if (len < AP_RECORD_HEAD_SZ)
        return -EINVAL;
    memcpy(&head, record, sizeof(head));
    if (head.version != AP_RECORD_VERSION || head.type < AP_RECORD_CPU || head.type >= AP_RECORD_TYPE_CNT ||
        head.kernel_cnt > AP_KERNEL_FRAMES_MAX || head.user_cnt > AP_USER_FRAMES_MAX ||
        head.word_cnt > AP_STACK_WORDS_MAX || !memchr(head.comm, '\0', sizeof(head.comm)))
        return -EINVAL;
    /* the ring buffer rounds lengths up to 8 */
    return len < ap_record_size(&head) ? -EINVAL : 0;
}

size_t ap_record_size(const struct ap_record *record)
{
    return AP_RECORD_HEAD_SZ + ((size_t)record->kernel_cnt + record->user_cnt + record->word_cnt) * sizeof(uint64_t);
}

static int read_iterator(int fd, struct ap_buf *buf)
{
    char chunk[65536];
    ssize_t got;

    for (;;) {
        got = read(fd, chunk, sizeof(chunk));
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        if (ap_buf_append(buf, chunk, (size_t)got))
            return -ENOMEM;
    }
}

int ap_programs_iterate(const struct bpf_program *program, struct ap_buf *records)
{
    struct bpf_link *link = bpf_program__attach_iter(program, NULL);
    size_t at = 0;
    int fd, rc;

    if (!link)
        return -errno;
    fd = bpf_iter_create(bpf_link__fd(link));
    rc = fd < 0 ? fd : read_iterator(fd, records);
    if (fd >= 0)
        close(fd);
    bpf_link__destroy(link);
    while (at < records->len && !ap_record_check(records->data + at, records->len - at))
        at += ap_record_size((const struct ap_record *)(records->data + at)); /* all sizes are multiples of 8 */
    if (!rc && at < records->len)
        rc = -EBADMSG;
    records->len = at;
    return rc;
}

const struct ap_record *ap_record_next(const struct ap_buf *records, size_t *at)
{
    const struct ap_record *record;

    if (*at >= records->len)
        return NULL;
    record = (const struct ap_record *)(records->data + *at);
    *at += ap_record_size(record);
    return record;
}

void ap_programs_wait(void)
{
    const struct timespec wait = {0, NO_MEMBARRIER_WAIT_NS};

    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
        nanosleep(&wait, NULL);
}

uint32_t ap_programs_thread_slots(void)
{
    uint64_t wanted = 0;
    uint32_t slots = AP_THREAD_SLOTS_MIN;
    const char *slash;
    char text[128];

    if (ap_procfs_read("/proc/loadavg", text, sizeof(text)) >= 0 && (slash = strchr(text, '/')))
        wanted = 2 * strtoull(slash + 1, NULL, 10);
    while (slots < wanted && slots < AP_THREAD_SLOTS_MAX)
        slots *= 2;
    return slots;
}
