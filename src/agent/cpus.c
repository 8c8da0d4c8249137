/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/cpus.h"

#include "agent/procfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_LIST_SZ   (AP_CPUS_MAX * 6) /* every second CPU listed alone, five digits and a comma */
#define CPU_LIST_PATH "/sys/devices/system/cpu/online"

static int parse_number(const char **pos, unsigned long *ret_value)
{
    char *end;

    if (**pos < '0' || **pos > '9')
        return -EINVAL;
    errno = 0;
    *ret_value = strtoul(*pos, &end, 10);
    if (errno || *ret_value >= AP_CPUS_MAX)
        return -EINVAL;
    *pos = end;
    return 0;
}

int ap_cpus_parse(const char *list, struct ap_cpus *ret_cpus)
{
    unsigned long first, last;
    const char *pos = list;

    memset(ret_cpus, 0, sizeof(*ret_cpus));
    while (*pos && *pos != '\n') {
        if (parse_number(&pos, &first))
            return -EINVAL;
        last = first;
        if (*pos == '-') {
            pos++;
            if (parse_number(&pos, &last) || last < first)
                return -EINVAL;
        }
        for (; first <= last; first++) {
            ret_cpus->cnt += !ret_cpus->has[first];
            ret_cpus->has[first] = true;
        }
        if (last + 1 > ret_cpus->end)
            ret_cpus->end = last + 1;
        if (*pos != ',')
            break;
        pos++;
        if (*pos < '0' || *pos > '9')
            return -EINVAL;
    }
    pos += *pos == '\n';
    return ret_cpus->cnt && !*pos ? 0 : -EINVAL;
}

int ap_cpus_online(struct ap_cpus *ret_cpus, struct ap_error *err)
{
    char list[CPU_LIST_SZ];
    int rc;

    rc = ap_procfs_read(CPU_LIST_PATH, list, sizeof(list));
    if (rc < 0)
        return ap_error_errno(err, rc,
                              "cannot read the list of CPUs from " CPU_LIST_PATH " (is sysfs mounted on /sys?)");
    rc = ap_cpus_parse(list, ret_cpus);
    if (rc)
        return ap_error_set(err, rc, "cannot understand the list of CPUs in " CPU_LIST_PATH ": \"%.64s\"", list);
    return 0;
}

bool ap_cpus_idle_line(const char *line, struct ap_cpus_idle *idle)
{
    uint64_t idle_ticks, iowait_ticks;
    unsigned cpu;

    /* user, nice, system, idle, iowait: proc_stat(5); without a number after "cpu" it is the sum of all */
    if (strncmp(line, "cpu", 3) != 0 || line[3] < '0' || line[3] > '9' ||
        sscanf(line, "cpu%u %*u %*u %*u %" SCNu64 " %" SCNu64, &cpu, &idle_ticks, &iowait_ticks) != 3 ||
        cpu >= AP_CPUS_MAX)
        return false;
    idle->has[cpu] = true;
    idle->idle_ns[cpu] = (idle_ticks + iowait_ticks) * AP_CPUS_IDLE_RESOLUTION_NS;
    return true;
}

int ap_cpus_idle(struct ap_cpus_idle *ret_idle)
{
    FILE *stat = fopen("/proc/stat", "re");
    char line[256];

    if (!stat)
        return -errno;
    memset(ret_idle, 0, sizeof(*ret_idle));
    while (fgets(line, sizeof(line), stat) && !strncmp(line, "cpu", 3))
        ap_cpus_idle_line(line, ret_idle);
    fclose(stat);
    return 0;
}
