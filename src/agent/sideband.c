/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/sideband.h"

#include "agent/perf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* Bodies of the records, include/uapi/linux/perf_event.h. Each ends with the sample_id: with PERF_SAMPLE_TIME
 * alone that is one u64. */
struct task_body { /* PERF_RECORD_FORK and PERF_RECORD_EXIT */
    uint32_t pid, ppid, tid, ptid;
    uint64_t time;
};

struct comm_body { /* PERF_RECORD_COMM; the name follows */
    uint32_t pid, tid;
};

struct mmap2_body { /* PERF_RECORD_MMAP2; the path follows */
    uint32_t pid, tid;
    uint64_t addr, len, pgoff;
    uint32_t maj, min;
    uint64_t ino, ino_generation;
    uint32_t prot, flags;
};

struct lost_body {
    uint64_t id, lost;
};

#define SAMPLE_ID_SZ sizeof(uint64_t)
#define RECORD_MAX   65536 /* perf_event_header.size has 16 bits */

struct ap_sideband {
    struct ap_perf_cpus events;
    uint64_t lost;
    char record[RECORD_MAX]; /* a record that wraps around the ring's end is put together here */
};

static void sideband_attr(struct perf_event_attr *ret_attr)
{
    memset(ret_attr, 0, sizeof(*ret_attr));
    ret_attr->size = sizeof(*ret_attr);
    ret_attr->type = PERF_TYPE_SOFTWARE;
    ret_attr->config = PERF_COUNT_SW_DUMMY;
    ret_attr->sample_type = PERF_SAMPLE_TIME;
    ret_attr->sample_id_all = 1;
    ret_attr->mmap = 1;
    ret_attr->mmap2 = 1;
    ret_attr->comm = 1;
    ret_attr->comm_exec = 1;
    ret_attr->task = 1;
    ret_attr->use_clockid = 1;
    ret_attr->clockid = CLOCK_MONOTONIC;
    ret_attr->watermark = 1;
}

static size_t ring_pages(size_t cpu_cnt)
{
    size_t pages = AP_SIDEBAND_PAGES_MAX;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    while (pages > AP_SIDEBAND_PAGES_MIN && pages * page * cpu_cnt > AP_SIDEBAND_RINGS_SZ)
        pages /= 2;
    return pages;
}

struct ap_sideband *ap_sideband_new(struct ap_error *err)
{
    struct ap_sideband *sideband = calloc(1, sizeof(*sideband));
    struct ap_cpus *cpus = calloc(1, sizeof(*cpus));
    struct perf_event_attr attr;
    size_t pages;
    int rc;

    if (!sideband || !cpus) {
        ap_error_set(err, -ENOMEM, "out of memory");
        goto fail;
    }
    if (ap_cpus_online(cpus, err))
        goto fail;
    pages = ring_pages(cpus->cnt);
    ap_perf_cpus_init(&sideband->events, pages);
    sideband_attr(&attr);
    attr.wakeup_watermark = (uint32_t)(pages * (size_t)sysconf(_SC_PAGESIZE) / 2);
    rc = ap_perf_cpus_open(&sideband->events, &attr, cpus, -1);
    if (rc < 0) {
        ap_error_errno(err, rc,
                       "cannot follow process events (perf side-band, %zu pages per CPU); with EPERM check "
                       "CAP_PERFMON, or kernel.perf_event_mlock_kb when not root",
                       pages);
        goto fail;
    }
    free(cpus);
    return sideband;
fail:
    free(cpus);
    return ap_sideband_free(sideband);
}

struct ap_sideband *ap_sideband_free(struct ap_sideband *sideband)
{
    if (!sideband)
        return NULL;
    ap_perf_cpus_done(&sideband->events);
    free(sideband);
    return NULL;
}

static int decode_task(const char *body, size_t len, bool is_fork, struct ap_process_event *ret_event)
{
    struct task_body task;

    if (len < sizeof(task))
        return -EINVAL;
    memcpy(&task, body, sizeof(task));
    if (is_fork ? task.pid == task.ppid : task.pid != task.tid)
        return 0; /* a thread */
    ret_event->type = is_fork ? AP_PROCESS_FORK : AP_PROCESS_EXIT;
    ret_event->pid = task.pid;
    ret_event->ppid = task.ppid;
    return 1;
}

static int decode_mmap(const char *body, size_t len, struct ap_process_event *ret_event)
{
    struct mmap2_body map;

    if (len < sizeof(map) + 1 || !memchr(body + sizeof(map), '\0', len - sizeof(map)))
        return -EINVAL;
    memcpy(&map, body, sizeof(map));
    if (!map.len || map.addr + map.len < map.addr)
        return -EINVAL;
    ret_event->type = AP_PROCESS_MMAP;
    ret_event->pid = map.pid;
    ret_event->start = map.addr;
    ret_event->end = map.addr + map.len;
    ret_event->file_off = map.pgoff;
    ret_event->dev_major = map.maj;
    ret_event->dev_minor = map.min;
    ret_event->inode = map.ino;
    ret_event->path = body + sizeof(map);
    return 1;
}

int ap_sideband_decode(const void *record, size_t len, struct ap_process_event *ret_event, uint64_t *ret_lost)
{
    struct perf_event_header header;
    const char *body = (const char *)record + sizeof(header);
    struct comm_body comm;
    struct lost_body lost;

    if (len < sizeof(header))
        return -EINVAL;
    memcpy(&header, record, sizeof(header));
    if (header.size != len || len < sizeof(header) + SAMPLE_ID_SZ)
        return -EINVAL;
    len -= sizeof(header) + SAMPLE_ID_SZ;
    memset(ret_event, 0, sizeof(*ret_event));
    memcpy(&ret_event->time_ns, body + len, sizeof(uint64_t));
    switch (header.type) {
    case PERF_RECORD_FORK:
    case PERF_RECORD_EXIT:
        return decode_task(body, len, header.type == PERF_RECORD_FORK, ret_event);
    case PERF_RECORD_COMM:
        if (len < sizeof(comm))
            return -EINVAL;
        memcpy(&comm, body, sizeof(comm));
        ret_event->type = AP_PROCESS_EXEC;
        ret_event->pid = comm.pid;
        return header.misc & PERF_RECORD_MISC_COMM_EXEC ? 1 : 0;
    case PERF_RECORD_MMAP2:
        return decode_mmap(body, len, ret_event);
    case PERF_RECORD_LOST:
        if (len < sizeof(lost))
            return -EINVAL;
        memcpy(&lost, body, sizeof(lost));
        *ret_lost += lost.lost;
        return 0;
    default:
        return 0;
    }
}

/* Copies a record out of the ring when it wraps around the end. */
static const char *whole_record(struct ap_sideband *sideband, const char *data, uint64_t data_sz, uint64_t tail,
                                size_t len)
{
    uint64_t off = tail & (data_sz - 1);
    size_t first;

    if (off + len <= data_sz)
        return data + off;
    first = (size_t)(data_sz - off);
    memcpy(sideband->record, data + off, first);
    memcpy(sideband->record + first, data, len - first);
    return sideband->record;
}

static void drain_ring(struct ap_sideband *sideband, struct perf_event_mmap_page *page, ap_sideband_fn fn, void *ctx)
{
    const char *data = (const char *)page + page->data_offset;
    uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE); /* pairs with the kernel's store */
    uint64_t tail = page->data_tail, data_sz = page->data_size;
    struct perf_event_header header;
    struct ap_process_event event;

    while (tail < head) {
        memcpy(&header, whole_record(sideband, data, data_sz, tail, sizeof(header)), sizeof(header));
        if (header.size < sizeof(header) || header.size > head - tail) {
            sideband->lost++; /* cannot be resynchronised: skip what is there */
            tail = head;
            break;
        }
        switch (ap_sideband_decode(whole_record(sideband, data, data_sz, tail, header.size), header.size, &event,
                                   &sideband->lost)) {
        case 1:
            fn(ctx, &event);
            break;
        case 0:
            break;
        default:
            sideband->lost++;
        }
        tail += header.size;
    }
    __atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE); /* the kernel may overwrite it from here on */
}

void ap_sideband_drain(struct ap_sideband *sideband, ap_sideband_fn fn, void *ctx)
{
    size_t cpu;

    for (cpu = 0; cpu < sideband->events.end; cpu++)
        if (sideband->events.cpus[cpu].ring)
            drain_ring(sideband, sideband->events.cpus[cpu].ring, fn, ctx);
}

void ap_sideband_refresh_cpus(struct ap_sideband *sideband)
{
    struct perf_event_attr attr;

    sideband_attr(&attr);
    attr.wakeup_watermark = (uint32_t)(sideband->events.ring_sz / 2);
    ap_perf_cpus_refresh(&sideband->events, &attr, -1);
}

int ap_sideband_watch(const struct ap_sideband *sideband, int epoll_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    size_t cpu;

    for (cpu = 0; cpu < sideband->events.end; cpu++) {
        if (sideband->events.cpus[cpu].fd < 0)
            continue;
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sideband->events.cpus[cpu].fd, &event) && errno != EEXIST)
            return -errno;
    }
    return 0;
}

uint64_t ap_sideband_lost(const struct ap_sideband *sideband)
{
    return sideband->lost;
}
