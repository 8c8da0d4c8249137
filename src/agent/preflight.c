/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/preflight.h"

#include "agent/procfs.h"
#include "core/log.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define STATUS_SZ 8192
#define BTF_PATH  "/sys/kernel/btf/vmlinux"

/* Effective capabilities as a bit mask; all when they cannot be read, the kernel will then say no itself. */
static uint64_t capabilities(void)
{
    char text[STATUS_SZ], *line;

    if (ap_procfs_read("/proc/self/status", text, sizeof(text)) < 0)
        return UINT64_MAX;
    line = strstr(text, "\nCapEff:");
    return line ? strtoull(line + strlen("\nCapEff:"), NULL, 16) : UINT64_MAX;
}

static bool has(uint64_t caps, unsigned cap)
{
    return caps >> cap & 1;
}

static int check_capabilities(struct ap_error *err)
{
    uint64_t caps = capabilities();
    bool admin = has(caps, CAP_SYS_ADMIN);
    bool bpf = admin || has(caps, CAP_BPF), perfmon = admin || has(caps, CAP_PERFMON);

    if (!bpf || !perfmon)
        return ap_error_set(err, -EPERM,
                            "missing %s%s%s: run as root (sudo aperture-agent ...), or grant them with "
                            "setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_syslog,"
                            "cap_checkpoint_restore+ep "
                            "aperture-agent",
                            bpf ? "" : "CAP_BPF (loading programs)", !bpf && !perfmon ? " and " : "",
                            perfmon ? "" : "CAP_PERFMON (sampling all CPUs)");
    if (!has(caps, CAP_SYS_PTRACE))
        ap_log_warn("without CAP_SYS_PTRACE the mappings of other users' processes cannot be read: their functions "
                    "will have no names");
    if (!admin && !has(caps, CAP_CHECKPOINT_RESTORE))
        ap_log_warn("without CAP_CHECKPOINT_RESTORE deleted or replaced executables cannot be read: their functions "
                    "will have no names");
    if (!has(caps, CAP_DAC_READ_SEARCH) && geteuid() != 0)
        ap_log_warn("without CAP_DAC_READ_SEARCH executables that only their owner may read have no names");
    return 0;
}

/* /proc must number processes as we do, or every look into it would be at a stranger. */
static int check_proc(struct ap_error *err)
{
    char target[32] = "";

    if (readlink("/proc/self", target, sizeof(target) - 1) < 0)
        return ap_error_set(err, -EOPNOTSUPP, "/proc is not mounted: mount -t proc proc /proc");
    if (strtol(target, NULL, 10) != (long)getpid())
        return ap_error_set(err, -EOPNOTSUPP,
                            "/proc belongs to another pid namespace (it knows this process as %s, not %d): mount one "
                            "for this namespace, as unshare --mount-proc and container runtimes do",
                            target, (int)getpid());
    return 0;
}

int ap_preflight_system(struct ap_error *err)
{
    struct utsname uts = {0};
    int rc;

    rc = check_proc(err);
    if (!rc)
        rc = check_capabilities(err);
    if (rc)
        return rc;
    uname(&uts);
    if (access("/proc/sys/kernel/perf_event_paranoid", F_OK))
        return ap_error_set(err, -EOPNOTSUPP,
                            "this kernel (%s) has no perf events, or /proc is not mounted: it needs "
                            "CONFIG_PERF_EVENTS=y",
                            uts.release);
    if (access(BTF_PATH, R_OK))
        return ap_error_set(err, -EOPNOTSUPP,
                            "this kernel (%s) gives no type information in " BTF_PATH
                            ": it needs CONFIG_DEBUG_INFO_BTF=y (every larger distribution's kernel since 2020 has "
                            "it), and sysfs must be mounted on /sys",
                            uts.release);
    if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 0)
        return ap_error_set(err, -EOPNOTSUPP,
                            "this kernel (%s) has no BPF ring buffer: Linux 5.8 or later is needed, 5.10 or later is "
                            "tested",
                            uts.release);
    return 0;
}

int ap_preflight_pids(const uint32_t *pids, size_t cnt, int *ret_fds, struct ap_error *err)
{
    size_t i;
    long fd;

    for (i = 0; i < cnt; i++) {
        fd = syscall(SYS_pidfd_open, (pid_t)pids[i], 0);
        if (fd >= 0) {
            ret_fds[i] = (int)fd;
            continue;
        }
        fd = -errno;
        while (i > 0)
            close(ret_fds[--i]);
        if (fd == -ESRCH)
            return ap_error_set(err, (int)fd, "--pid %u: there is no such process", pids[i]);
        if (fd == -EINVAL || fd == -ENOENT) /* which of the two depends on the kernel */
            return ap_error_set(err, (int)fd,
                                "--pid %u: this is a thread; give the process it belongs to (Tgid in "
                                "/proc/%u/status)",
                                pids[i], pids[i]);
        return ap_error_errno(err, (int)fd, "--pid %u", pids[i]);
    }
    return 0;
}

void ap_preflight_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}
