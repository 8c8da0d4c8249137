/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/procfs.h"

#include "abi/record.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATUS_SZ 8192 /* /proc/PID/status is about 1.5 KB */

int ap_procfs_read(const char *path, char *buf, size_t buf_sz)
{
    size_t len = 0;
    ssize_t n;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    while (len < buf_sz) {
        n = read(fd, buf + len, buf_sz - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            n = -errno;
            close(fd);
            return (int)n;
        }
        if (n == 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    if (len == buf_sz)
        return -EFBIG;
    buf[len] = '\0';
    return (int)len;
}

int ap_procfs_read_u64(const char *path, uint64_t *ret_value)
{
    char text[64], *end;
    uint64_t value;
    int rc;

    rc = ap_procfs_read(path, text, sizeof(text));
    if (rc < 0)
        return rc;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || end == text)
        return -EINVAL;
    *ret_value = value;
    return 0;
}

/* Start of the text after "Key:" at a line's beginning, or NULL. */
static const char *field_text(const char *text, const char *key)
{
    size_t key_len = strlen(key);
    const char *line;

    for (line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, key_len) && line[key_len] == ':')
            return line + key_len + 1;
        if (!*line)
            break;
    }
    return NULL;
}

int ap_procfs_field(const char *text, const char *key, uint64_t *ret_value)
{
    const char *value = field_text(text, key);

    if (!value)
        return -ENOENT;
    *ret_value = strtoull(value, NULL, 10);
    return 0;
}

uint64_t ap_procfs_rss_peak(void)
{
    char text[STATUS_SZ] = "";
    uint64_t kib;

    if (ap_procfs_read("/proc/self/status", text, sizeof(text)) < 0 || ap_procfs_field(text, "VmHWM", &kib))
        return 0;
    return kib * 1024;
}

int ap_procfs_ns_pid(uint32_t pid, uint32_t *ret_ns_pid)
{
    char path[64], text[STATUS_SZ] = "";
    const char *value;
    char *end;
    uint64_t nr = 0;
    int rc;

    snprintf(path, sizeof(path), "/proc/%u/status", pid);
    rc = ap_procfs_read(path, text, sizeof(text));
    if (rc < 0)
        return rc;
    value = field_text(text, "NSpid");
    if (!value)
        return -ENOENT;
    while (*value && *value != '\n') {
        nr = strtoull(value, &end, 10);
        if (end == value)
            break;
        value = end;
        while (*value == '\t' || *value == ' ')
            value++;
    }
    *ret_ns_pid = (uint32_t)nr;
    return nr ? 0 : -EINVAL;
}

size_t ap_procfs_container_id(const char *cgroup_text, char *buf)
{
    const char *pos, *start = NULL, *at = NULL;
    size_t run, best = 0;

    for (pos = cgroup_text;; pos++) {
        if (isxdigit((unsigned char)*pos)) {
            start = start ? start : pos;
            continue;
        }
        run = start ? (size_t)(pos - start) : 0;
        /* "/ID", "-ID.scope" and ":ID" are ids; 32 digits (containerd's pods) yield to 64 */
        if ((run == 64 || (run == 32 && best != 64)) && start > cgroup_text && strchr("/-:", start[-1]) &&
            (!*pos || strchr("/.\n", *pos))) {
            best = run;
            at = start;
        }
        start = NULL;
        if (!*pos)
            break;
    }
    if (!at)
        return 0;
    memcpy(buf, at, best);
    buf[best] = '\0';
    return best;
}

void ap_procfs_comm(uint32_t pid, const char *fallback, char *ret_comm)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/proc/%u/comm", pid);
    if (!pid || ap_procfs_read(path, text, sizeof(text)) <= 0)
        snprintf(text, sizeof(text), "%s", fallback);
    text[strcspn(text, "\n")] = '\0';
    snprintf(ret_comm, AP_COMM_SZ, "%.*s", AP_COMM_SZ - 1, text);
}
