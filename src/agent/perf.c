/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/perf.h"

#include "core/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int ap_perf_open(struct perf_event_attr *attr, int pid, int cpu)
{
    long fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

    return fd < 0 ? -errno : (int)fd;
}

void ap_perf_cpus_init(struct ap_perf_cpus *set, size_t ring_pages)
{
    memset(set, 0, sizeof(*set));
    if (ring_pages)
        set->ring_sz = (ring_pages + 1) * (size_t)sysconf(_SC_PAGESIZE);
}

static void close_one(struct ap_perf_cpus *set, struct ap_perf_cpu *cpu)
{
    if (cpu->ring)
        munmap(cpu->ring, set->ring_sz);
    if (cpu->fd >= 0)
        close(cpu->fd);
    *cpu = (struct ap_perf_cpu){.fd = -1, .closed_value = cpu->closed_value};
}

void ap_perf_cpus_done(struct ap_perf_cpus *set)
{
    size_t cpu;

    for (cpu = 0; cpu < set->end; cpu++)
        close_one(set, &set->cpus[cpu]);
    free(set->cpus);
    memset(set, 0, sizeof(*set));
}

static int grow(struct ap_perf_cpus *set, size_t end)
{
    struct ap_perf_cpu *cpus;

    if (end <= set->end)
        return 0;
    cpus = realloc(set->cpus, end * sizeof(*cpus));
    if (!cpus)
        return -ENOMEM;
    set->cpus = cpus;
    for (; set->end < end; set->end++)
        set->cpus[set->end] = (struct ap_perf_cpu){.fd = -1};
    return 0;
}

static int open_one(struct ap_perf_cpus *set, const struct perf_event_attr *attr, size_t cpu, int prog_fd)
{
    struct perf_event_attr copy = *attr;
    struct ap_perf_cpu opened = {.fd = -1, .closed_value = set->cpus[cpu].closed_value};
    int rc = 0;

    copy.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED;
    opened.fd = ap_perf_open(&copy, -1, (int)cpu);
    if (opened.fd < 0)
        return opened.fd;
    if (prog_fd >= 0 && ioctl(opened.fd, PERF_EVENT_IOC_SET_BPF, prog_fd))
        rc = -errno;
    if (!rc && set->ring_sz) {
        opened.ring = mmap(NULL, set->ring_sz, PROT_READ | PROT_WRITE, MAP_SHARED, opened.fd, 0);
        if (opened.ring == MAP_FAILED) {
            opened.ring = NULL;
            rc = -errno;
        }
    }
    if (rc)
        close_one(set, &opened);
    else
        set->cpus[cpu] = opened;
    return rc;
}

int ap_perf_cpus_open(struct ap_perf_cpus *set, const struct perf_event_attr *attr, const struct ap_cpus *cpus,
                      int prog_fd)
{
    int opened = 0, rc;
    size_t cpu;

    rc = grow(set, cpus->end);
    if (rc)
        return rc;
    for (cpu = 0; cpu < cpus->end; cpu++) {
        if (!cpus->has[cpu] || set->cpus[cpu].fd >= 0)
            continue;
        rc = open_one(set, attr, cpu, prog_fd);
        if (rc == -ENODEV)
            continue; /* went offline since the list was read */
        if (rc)
            return rc;
        opened++;
    }
    return opened ? opened : -ENODEV;
}

struct reading {
    uint64_t value, enabled; /* layout of PERF_FORMAT_TOTAL_TIME_ENABLED */
};

static struct reading read_event(const struct ap_perf_cpu *cpu)
{
    struct reading reading = {0};

    if (cpu->fd < 0 || read(cpu->fd, &reading, sizeof(reading)) != sizeof(reading))
        return (struct reading){0};
    return reading;
}

/* True when the event counts no more although it should: its CPU is offline, or was in between. */
static bool is_dead(struct ap_perf_cpu *cpu, bool online, bool enabled)
{
    struct reading now = read_event(cpu);
    bool stands = enabled && cpu->enabled && now.enabled == cpu->enabled;

    cpu->value = now.value;
    cpu->enabled = now.enabled;
    return !online || stands;
}

int ap_perf_cpus_refresh(struct ap_perf_cpus *set, const struct perf_event_attr *attr, int prog_fd)
{
    struct ap_cpus *cpus = malloc(sizeof(*cpus));
    int changes = 0, rc;
    size_t i;

    if (!cpus || ap_cpus_online(cpus, NULL)) {
        free(cpus);
        return 0;
    }
    for (i = 0; i < set->end; i++) {
        struct ap_perf_cpu *cpu = &set->cpus[i];

        if (cpu->fd < 0 || !is_dead(cpu, i < cpus->end && cpus->has[i], !attr->disabled))
            continue;
        cpu->closed_value += cpu->value;
        close_one(set, cpu);
        changes++;
    }
    rc = ap_perf_cpus_open(set, attr, cpus, prog_fd);
    if (rc > 0)
        changes += rc;
    else if (rc != -ENODEV)
        ap_log_warn("cannot open the events of a CPU that came online: %s", strerror(-rc));
    free(cpus);
    return changes;
}

int ap_perf_cpus_enable(const struct ap_perf_cpus *set)
{
    int rc = 0;
    size_t cpu;

    for (cpu = 0; cpu < set->end; cpu++)
        if (set->cpus[cpu].fd >= 0 && ioctl(set->cpus[cpu].fd, PERF_EVENT_IOC_ENABLE, 0) && !rc)
            rc = -errno;
    return rc;
}

void ap_perf_cpus_disable(const struct ap_perf_cpus *set)
{
    size_t cpu;

    for (cpu = 0; cpu < set->end; cpu++)
        if (set->cpus[cpu].fd >= 0)
            ioctl(set->cpus[cpu].fd, PERF_EVENT_IOC_DISABLE, 0);
}

uint32_t ap_perf_cpus_cnt(const struct ap_perf_cpus *set)
{
    uint32_t cnt = 0;
    size_t cpu;

    for (cpu = 0; cpu < set->end; cpu++)
        cnt += set->cpus[cpu].fd >= 0;
    return cnt;
}

uint64_t ap_perf_cpus_periods(const struct ap_perf_cpus *set, size_t cpu, uint64_t period)
{
    if (cpu >= set->end)
        return 0;
    return set->cpus[cpu].closed_value / period + read_event(&set->cpus[cpu]).value / period;
}
