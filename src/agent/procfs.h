/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Small readers for /proc and /sys. */
#ifndef APERTURE_AGENT_PROCFS_H
#define APERTURE_AGENT_PROCFS_H

#include <stddef.h>
#include <stdint.h>

/* Reads a whole small file and ends it with a NUL. Bytes read, or negative errno; -EFBIG when it does not
 * fit. */
int ap_procfs_read(const char *path, char *buf, size_t buf_sz);

/* One unsigned number from a file (a sysctl). 0 or negative errno. */
int ap_procfs_read_u64(const char *path, uint64_t *ret_value);

/* Value of a "Key:  123 ..." line of a status file's text; -ENOENT when the key is not there. */
int ap_procfs_field(const char *text, const char *key, uint64_t *ret_value);

/* Peak resident set of this process, bytes; 0 when unknown. */
uint64_t ap_procfs_rss_peak(void);

/* Process id in its innermost pid namespace (last number of NSpid in /proc/PID/status). 0 or negative errno.
 */
int ap_procfs_ns_pid(uint32_t pid, uint32_t *ret_ns_pid);

/* Container id in a cgroup file's text (/proc/PID/cgroup): the last 64 (or 32) hexadecimal digits that stand
 * as, or end, a path part, as docker, containerd, cri-o and podman write them. Length written to `buf` (at
 * least 65 bytes), 0 when there is none. */
size_t ap_procfs_container_id(const char *cgroup_text, char *buf);

/* Name of a process (of its first thread); `fallback` when it cannot be read. `ret_comm`: AP_COMM_SZ bytes. */
void ap_procfs_comm(uint32_t pid, const char *fallback, char *ret_comm);

#endif
