/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/symbolizer.h"

#include "core/clock.h"
#include "core/log.h"
#include "model/capture.h"
#include "symbol/confine.h"
#include "symbol/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Descriptor number of the socket in the worker; everything above is closed. */
#define WORKER_SOCK 3

struct ap_symbolizer {
    pid_t worker; /* 0 = none */
    int sock;
    uint64_t cpu_ns, failures;
    bool kernel_hidden;    /* kptr_restrict: /proc/kallsyms shows zeros */
    size_t in_pos, in_len; /* unread part of `in` */
    char in[65536];
    /* names of one address, as received */
    char text[AP_SYMBOL_INLINE_MAX][3][AP_SYMBOL_NAME_MAX + 1];
};

/* Runs in the child between fork and the worker's loop. */
static void become_worker(int sock)
{
    struct rlimit memory = {AP_SYMBOL_MEMORY_SZ, AP_SYMBOL_MEMORY_SZ};
    sigset_t none;

    ap_confine();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user would clear it */
    prctl(PR_SET_NAME, "aperture-symbol");
    signal(SIGINT, SIG_IGN); /* Ctrl-C is for the agent, which still wants names */
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
#ifndef __SANITIZE_ADDRESS__ /* its shadow memory is private data too */
    setrlimit(RLIMIT_DATA, &memory);
#else
    (void)memory;
#endif
    if (sock != WORKER_SOCK) {
        dup2(sock, WORKER_SOCK);
        close(sock);
    }
    syscall(SYS_close_range, WORKER_SOCK + 1, ~0U, 0);
}

static int start(struct ap_symbolizer *symbolizer)
{
    int pair[2];
    pid_t pid;

    if (symbolizer->worker)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    pid = fork();
    if (pid < 0) {
        close(pair[0]);
        close(pair[1]);
        return -errno;
    }
    if (pid == 0) {
        become_worker(pair[1]);
        _exit(ap_worker_run(WORKER_SOCK));
    }
    close(pair[1]);
    symbolizer->worker = pid;
    symbolizer->in_pos = symbolizer->in_len = 0;
    symbolizer->sock = pair[0];
    return 0;
}

void ap_symbolizer_stop(struct ap_symbolizer *symbolizer)
{
    struct rusage usage = {0};

    if (!symbolizer->worker)
        return;
    close(symbolizer->sock);
    kill(symbolizer->worker, SIGKILL); /* it holds nothing that wants saving */
    while (wait4(symbolizer->worker, NULL, 0, &usage) < 0 && errno == EINTR)
        ;
    symbolizer->cpu_ns += (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * AP_NS_PER_SEC +
                          (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
    symbolizer->worker = 0;
    symbolizer->sock = -1;
}

/* True when /proc/kallsyms hides addresses from us: all of them are 0. The first ones may be 0 anyway, per-CPU symbols
 * stand there on many kernels. */
static bool kernel_hidden(void)
{
    bool hidden = true;
    char line[1024];
    FILE *symbols;

    symbols = fopen("/proc/kallsyms", "re");
    if (!symbols)
        return true;
    while (hidden && fgets(line, sizeof(line), symbols))
        hidden = !strtoull(line, NULL, 16);
    fclose(symbols);
    return hidden;
}

struct ap_symbolizer *ap_symbolizer_new(struct ap_error *err)
{
    struct ap_symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));
    int rc;

    if (!symbolizer) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    symbolizer->sock = -1;
    symbolizer->kernel_hidden = kernel_hidden();
    rc = start(symbolizer);
    if (rc) {
        ap_error_errno(err, rc, "cannot start the symbolizer's process");
        return ap_symbolizer_free(symbolizer);
    }
    return symbolizer;
}

struct ap_symbolizer *ap_symbolizer_free(struct ap_symbolizer *symbolizer)
{
    if (!symbolizer)
        return NULL;
    ap_symbolizer_stop(symbolizer);
    free(symbolizer);
    return NULL;
}

static int send_request(struct ap_symbolizer *symbolizer, uint32_t kind, int fd, const uint64_t *addrs, size_t cnt)
{
    struct ap_worker_request request = {.kind = kind, .cnt = (uint32_t)cnt};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&request, sizeof(request)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1};
    struct cmsghdr *head;
    ssize_t n;

    if (kind == AP_WORKER_FILE) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd, sizeof(int));
    }
    do {
        n = sendmsg(symbolizer->sock, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(request))
        return n < 0 ? -errno : -EPIPE;
    return ap_worker_write(symbolizer->sock, addrs, cnt * sizeof(*addrs));
}

/* Waits for the worker and refills the input buffer. */
static int refill(struct ap_symbolizer *symbolizer, uint64_t deadline)
{
    struct pollfd wait = {.fd = symbolizer->sock, .events = POLLIN};
    uint64_t now;
    ssize_t n;

    do {
        now = ap_clock_monotonic_ns();
        if (now >= deadline)
            return -ETIMEDOUT;
    } while (poll(&wait, 1, (int)((deadline - now) / 1000000 + 1)) <= 0);
    do {
        n = recv(symbolizer->sock, symbolizer->in, sizeof(symbolizer->in), 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n < 0 ? -errno : -EPIPE;
    symbolizer->in_pos = 0;
    symbolizer->in_len = (size_t)n;
    return 0;
}

static int receive(struct ap_symbolizer *symbolizer, void *data, size_t len, uint64_t deadline)
{
    char *pos = data;
    size_t part;
    int rc;

    while (len) {
        if (symbolizer->in_pos == symbolizer->in_len) {
            rc = refill(symbolizer, deadline);
            if (rc)
                return rc;
        }
        part = symbolizer->in_len - symbolizer->in_pos;
        part = part < len ? part : len;
        memcpy(pos, symbolizer->in + symbolizer->in_pos, part);
        symbolizer->in_pos += part;
        pos += part;
        len -= part;
    }
    return 0;
}

static int receive_text(struct ap_symbolizer *symbolizer, char *text, uint16_t len, uint64_t deadline)
{
    if (len > AP_SYMBOL_NAME_MAX)
        return -EBADMSG;
    text[len] = '\0';
    return receive(symbolizer, text, len, deadline);
}

/* Receives one address's names. 0 or negative errno: the worker is dead, hung or talks nonsense. */
static int receive_one(struct ap_symbolizer *symbolizer, size_t index, uint64_t deadline, ap_symbol_fn fn, void *ctx)
{
    struct ap_symbol_frame frames[AP_SYMBOL_INLINE_MAX];
    struct ap_worker_reply reply;
    struct ap_worker_frame frame;
    size_t i;
    int rc;

    rc = receive(symbolizer, &reply, sizeof(reply), deadline);
    if (!rc && (reply.frame_cnt > AP_SYMBOL_INLINE_MAX || reply.reason >= AP_UNRESOLVED_REASON_CNT))
        rc = -EBADMSG;
    for (i = 0; !rc && i < reply.frame_cnt; i++) {
        char(*text)[AP_SYMBOL_NAME_MAX + 1] = symbolizer->text[i];

        rc = receive(symbolizer, &frame, sizeof(frame), deadline);
        rc = rc ? rc : receive_text(symbolizer, text[0], frame.function_len, deadline);
        rc = rc ? rc : receive_text(symbolizer, text[1], frame.file_len, deadline);
        rc = rc ? rc : receive_text(symbolizer, text[2], frame.module_len, deadline);
        if (!rc)
            frames[i] = (struct ap_symbol_frame){text[0], text[1], text[2], frame.line, frame.inlined};
    }
    if (!rc)
        fn(ctx, index, frames, reply.frame_cnt, reply.reason);
    return rc;
}

static void report_all(size_t first, size_t cnt, uint8_t reason, ap_symbol_fn fn, void *ctx)
{
    for (; first < cnt; first++)
        fn(ctx, first, NULL, 0, reason);
}

static uint8_t failure_reason(uint32_t kind, int rc)
{
    if (rc == -ETIMEDOUT)
        return AP_UNRESOLVED_BUDGET;
    return kind == AP_WORKER_KERNEL ? AP_UNRESOLVED_KERNEL_SYMBOL : AP_UNRESOLVED_BAD_FILE;
}

static int request_all(struct ap_symbolizer *symbolizer, uint32_t kind, int fd, const uint64_t *addrs, size_t cnt,
                       ap_symbol_fn fn, void *ctx)
{
    size_t done = 0, chunk, end;
    uint64_t deadline;
    int rc;

    while (done < cnt) {
        rc = start(symbolizer);
        if (rc) {
            report_all(done, cnt, AP_UNRESOLVED_BUDGET, fn, ctx);
            return rc;
        }
        chunk = cnt - done < AP_SYMBOL_CHUNK ? cnt - done : AP_SYMBOL_CHUNK;
        deadline = ap_clock_monotonic_ns() + AP_SYMBOL_TIMEOUT_NS;
        rc = send_request(symbolizer, kind, fd, addrs + done, chunk);
        for (end = done + chunk; !rc && done < end; done++) {
            rc = receive_one(symbolizer, done, deadline, fn, ctx);
            if (rc)
                break;
        }
        if (rc) {
            ap_log_debug("the symbolizer failed on a file (%s); its process is started anew", strerror(-rc));
            symbolizer->failures++;
            ap_symbolizer_stop(symbolizer);
            report_all(done, cnt, failure_reason(kind, rc), fn, ctx);
            return 0;
        }
        if (kind == AP_WORKER_FILE)
            kind = AP_WORKER_MORE;
    }
    return 0;
}

int ap_symbolizer_file(struct ap_symbolizer *symbolizer, int fd, const uint64_t *offsets, size_t cnt, ap_symbol_fn fn,
                       void *ctx)
{
    return request_all(symbolizer, AP_WORKER_FILE, fd, offsets, cnt, fn, ctx);
}

int ap_symbolizer_kernel(struct ap_symbolizer *symbolizer, const uint64_t *addrs, size_t cnt, ap_symbol_fn fn,
                         void *ctx)
{
    if (symbolizer->kernel_hidden) {
        report_all(0, cnt, AP_UNRESOLVED_KPTR, fn, ctx);
        return 0;
    }
    return request_all(symbolizer, AP_WORKER_KERNEL, -1, addrs, cnt, fn, ctx);
}

uint64_t ap_symbolizer_cpu_ns(const struct ap_symbolizer *symbolizer)
{
    return symbolizer->cpu_ns;
}

uint64_t ap_symbolizer_failures(const struct ap_symbolizer *symbolizer)
{
    return symbolizer->failures;
}
