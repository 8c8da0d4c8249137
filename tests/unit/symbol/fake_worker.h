/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The symbolizer's process as tests see it, and what takes its place to answer as it pleases. */
#ifndef APERTURE_TESTS_SYMBOL_FAKE_WORKER_H
#define APERTURE_TESTS_SYMBOL_FAKE_WORKER_H

#include "symbol/symbolizer.h"
#include "symbol/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HELPER static inline __attribute__((unused))

/* The worker: our only child. 0 when the kernel does not list children. */
HELPER pid_t worker_pid(void)
{
    char path[64];
    int pid = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%d", &pid) != 1)
        pid = 0;
    (void)fclose(file);
    return pid;
}

/* Kills it and waits until it is a zombie: it is the symbolizer's to reap. */
HELPER void kill_worker(pid_t pid)
{
    char path[64], line[256] = "";

    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    while (!strstr(line, ") Z ")) {
        FILE *file = fopen(path, "re");

        assert_non_null(file);
        assert_non_null(fgets(line, sizeof(line), file));
        (void)fclose(file);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* The other end of the symbolizer's socket, which is known by its place in the epoll instance: ours now. The worker
 * must have been started. */
HELPER int become_the_worker(const struct ap_symbolizer *symbolizer)
{
    char path[64], line[256];
    int ends[2], sock = -1;
    FILE *info;

    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ap_symbolizer_fd(symbolizer));
    info = fopen(path, "re");
    assert_non_null(info);
    while (sock < 0 && fgets(line, sizeof(line), info))
        (void)sscanf(line, "tfd: %d", &sock);
    (void)fclose(info);
    assert_true(sock >= 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(dup2(ends[0], sock), sock);
    close(ends[0]);
    return ends[1];
}

#define HOSTILE_MAX 4096

struct hostile {
    char data[HOSTILE_MAX];
    size_t len;
};

HELPER void put(struct hostile *reply, const void *data, size_t len)
{
    assert_true(reply->len + len <= HOSTILE_MAX);
    memcpy(reply->data + reply->len, data, len);
    reply->len += len;
}

/* One address with `frames` frames named "ok". */
HELPER void put_names(struct hostile *reply, uint8_t reason, uint8_t frames)
{
    const struct ap_worker_names names = {.reason = reason, .frame_cnt = frames};
    const struct ap_worker_frame frame = {.line = 7, .function_len = 2};
    unsigned i;

    put(reply, &names, sizeof(names));
    for (i = 0; i < frames; i++) {
        put(reply, &frame, sizeof(frame));
        put(reply, "ok\0\0", 5);
    }
}

#endif
