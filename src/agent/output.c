/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_MODE 0644

/* Length of the ending that names the format, 0 when there is none that is known. */
static size_t ending_len(const char *path, enum ap_format format)
{
    enum ap_format named;

    return ap_format_from_path(path, &named, NULL) || named != format || !strcmp(path, "-")
               ? 0
               : strlen(ap_format_ending(format));
}

int ap_output_path(const char *path, uint8_t kind, bool several, bool stacks, enum ap_format *format, char *ret_path)
{
    size_t ending = ending_len(path, *format), stem = strlen(path) - ending;
    bool as_text = !stacks && *format != AP_FORMAT_JSON && *format != AP_FORMAT_TEXT;
    int len;

    if (*format == AP_FORMAT_JSON || !several || !strcmp(path, "-")) {
        len = snprintf(ret_path, PATH_MAX, "%s", path);
    } else {
        len = snprintf(ret_path, PATH_MAX, "%.*s.%s%s", (int)stem, path, ap_event_kind_name(kind),
                       as_text ? ".txt" : path + stem);
        if (as_text)
            *format = AP_FORMAT_TEXT;
    }
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* True for pipes, terminals and devices, which are written in place. */
static bool is_special(const char *path)
{
    struct stat st;

    return !stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

/* Creates "DIRECTORY/.NAME.XXXXXX". Descriptor or negative errno. */
static int create_beside(const char *path, char *ret_temp)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    int fd;

    if (snprintf(ret_temp, PATH_MAX, "%.*s.%s.XXXXXX", (int)(name - path), path, name) >= PATH_MAX)
        return -ENAMETOOLONG;
    fd = mkostemp(ret_temp, O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int explain(const char *path, int rc, struct ap_error *err)
{
    switch (rc) {
    case -ENOENT:
    case -ENOTDIR:
        return ap_error_set(err, rc, "cannot write \"%s\": its directory does not exist", path);
    case -ENOSPC:
    case -EDQUOT:
        return ap_error_set(err, rc, "cannot write \"%s\": no space left there", path);
    case -EISDIR:
        return ap_error_set(err, rc, "cannot write \"%s\": it is a directory; give a file name", path);
    default:
        return ap_error_errno(err, rc, "cannot write \"%s\"", path);
    }
}

int ap_output_check(const char *path, struct ap_error *err)
{
    char temp[PATH_MAX], target[PATH_MAX];
    struct stat st;
    int fd;

    if (!strcmp(path, "-"))
        return 0;
    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        return explain(path, -EISDIR, err);
    if (is_special(path))
        return access(path, W_OK) ? explain(path, -errno, err) : 0;
    fd = create_beside(realpath(path, target) ? target : path, temp);
    if (fd < 0)
        return explain(path, fd, err);
    close(fd);
    unlink(temp);
    return 0;
}

static int write_to(int fd, enum ap_format format, struct ap_capture *capture, unsigned profile)
{
    struct ap_out *out = ap_out_new_fd(fd);
    int rc;

    if (!out)
        return -ENOMEM;
    rc = ap_format_write(format, capture, profile, out);
    ap_out_free(out);
    return rc;
}

static int write_in_place(const char *path, enum ap_format format, struct ap_capture *capture, unsigned profile)
{
    int fd, rc;

    if (!strcmp(path, "-"))
        return write_to(STDOUT_FILENO, format, capture, profile);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = write_to(fd, format, capture, profile);
    return close(fd) && !rc ? -errno : rc;
}

static int write_beside(const char *path, enum ap_format format, struct ap_capture *capture, unsigned profile)
{
    char temp[PATH_MAX];
    mode_t mask;
    int fd, rc;

    fd = create_beside(path, temp);
    if (fd < 0)
        return fd;
    rc = write_to(fd, format, capture, profile);
    mask = umask(0);
    umask(mask);
    if (fchmod(fd, OUTPUT_MODE & ~mask) && !rc)
        rc = -errno;
    if (close(fd) && !rc)
        rc = -errno; /* network file systems tell of a full disk only here */
    if (!rc && rename(temp, path))
        rc = -errno;
    if (rc)
        unlink(temp);
    return rc;
}

int ap_output_write(const char *path, enum ap_format format, struct ap_capture *capture, unsigned profile,
                    struct ap_error *err)
{
    char target[PATH_MAX];
    int rc;

    if (!strcmp(path, "-") || is_special(path))
        rc = write_in_place(path, format, capture, profile);
    else
        rc = write_beside(realpath(path, target) ? target : path, format, capture, profile); /* links stay links */
    return rc ? explain(path, rc, err) : 0;
}
