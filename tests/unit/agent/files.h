/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A directory of its own for each test that touches files, and what such tests do with it. */
#ifndef APERTURE_TESTS_AGENT_FILES_H
#define APERTURE_TESTS_AGENT_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES static inline __attribute__((unused))

struct files {
    char dir[64];
    char path[PATH_MAX]; /* of the last files_path() */
};

FILES void files_begin(struct files *files)
{
    (void)snprintf(files->dir, sizeof(files->dir), "/tmp/aperture-unit.XXXXXX");
    assert_non_null(mkdtemp(files->dir));
}

FILES int files_remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st;
    (void)type;
    (void)place;
    return remove(path);
}

FILES void files_end(struct files *files)
{
    assert_int_equal(nftw(files->dir, files_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* "DIRECTORY/name", valid until the next call. */
FILES const char *files_path(struct files *files, const char *name)
{
    int len = snprintf(files->path, sizeof(files->path), "%s/%s", files->dir, name);

    assert_true(len > 0 && (size_t)len < sizeof(files->path));
    return files->path;
}

FILES void files_write(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(close(fd), 0);
}

/* Copies a file; `from` may be a link of /proc. */
FILES void files_copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    static char block[65536];
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, block, sizeof(block))) > 0)
        assert_int_equal(write(out, block, (size_t)n), n);
    assert_int_equal(n, 0);
    assert_int_equal(close(in), 0);
    assert_int_equal(close(out), 0);
}

/* Entries of a directory but "." and "..". */
FILES int files_count(const char *dir)
{
    struct dirent **names;
    int cnt = scandir(dir, &names, NULL, NULL), i;

    assert_true(cnt >= 2);
    for (i = 0; i < cnt; i++)
        free(names[i]);
    free(names);
    return cnt - 2;
}

#endif
