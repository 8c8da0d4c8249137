/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/symbolizer.h"

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "model/capture.h"
#include "symbol/confine.h"
#include "symbol/reply.h"
#include "symbol/worker.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Descriptor number of the socket in the worker; everything above is closed. */
#define WORKER_SOCK 3
/* Names can wait for what is profiled. */
#define WORKER_NICE 5

/* Bytes read at a time, and in one call: what is left keeps the descriptor readable. */
#define READ_SZ     65536
#define TAKE_SZ_MAX (1u << 20)
/* A reply's memory is kept for the next one up to here. */
#define KEEP_SZ (1u << 20)

struct ap_symbolizer {
    pid_t worker; /* 0 = none */
    int sock;
    int epoll_fd; /* holds `sock`, which changes with the worker */
    uint64_t cpu_ns, failures;
    bool kernel_hidden; /* kptr_restrict: /proc/kallsyms shows zeros */
    bool has_file;      /* the worker holds the file of the last request that had one */
    struct {
        uint8_t what, reason; /* `reason`: answered so without the worker; 0 = it was asked */
        size_t cnt;           /* 0 = no request under way */
        int rc;               /* failed before it was sent */
        uint64_t deadline_ns;
        ap_symbol_fn fn;
        void *ctx;
    } request;
    struct ap_buf reply; /* struct ap_worker_reply and what follows, as far as received */
};

/* Runs in the child between fork and the worker's loop. */
static void become_worker(int sock)
{
    struct rlimit memory = {AP_SYMBOL_MEMORY_SZ, AP_SYMBOL_MEMORY_SZ};
    sigset_t none;

    setpriority(PRIO_PROCESS, 0, WORKER_NICE);
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
    struct epoll_event event = {.events = EPOLLIN};
    int pair[2], rc;
    pid_t pid;

    if (symbolizer->worker)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    rc = epoll_ctl(symbolizer->epoll_fd, EPOLL_CTL_ADD, pair[0], &event);
    pid = rc ? -1 : fork();
    if (pid < 0) {
        rc = -errno;
        close(pair[0]);
        close(pair[1]);
        return rc;
    }
    if (pid == 0) {
        become_worker(pair[1]);
        _exit(ap_worker_run(WORKER_SOCK));
    }
    close(pair[1]);
    symbolizer->worker = pid;
    symbolizer->has_file = false;
    symbolizer->sock = pair[0];
    return 0;
}

static void end_request(struct ap_symbolizer *symbolizer)
{
    symbolizer->request.cnt = 0;
    if (symbolizer->reply.cap > KEEP_SZ) {
        ap_buf_done(&symbolizer->reply);
        ap_buf_init(&symbolizer->reply, AP_WORKER_REPLY_SZ_MAX);
    }
    ap_buf_reset(&symbolizer->reply);
}

static void end_worker(struct ap_symbolizer *symbolizer)
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

void ap_symbolizer_stop(struct ap_symbolizer *symbolizer)
{
    end_worker(symbolizer);
    end_request(symbolizer);
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
    ap_buf_init(&symbolizer->reply, AP_WORKER_REPLY_SZ_MAX);
    symbolizer->kernel_hidden = kernel_hidden();
    symbolizer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    rc = symbolizer->epoll_fd < 0 ? -errno : start(symbolizer);
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
    if (symbolizer->epoll_fd >= 0)
        close(symbolizer->epoll_fd);
    ap_buf_done(&symbolizer->reply);
    free(symbolizer);
    return NULL;
}

/* Sends all or nothing of a request: with one under way at most, the socket has room for it. `fd` -1 = none. */
static int send_request(struct ap_symbolizer *symbolizer, uint32_t kind, int fd, const uint64_t *addrs, size_t cnt)
{
    struct ap_worker_request request = {.kind = kind, .cnt = (uint32_t)cnt};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec parts[] = {{&request, sizeof(request)}, {(void *)(uintptr_t)addrs, cnt * sizeof(*addrs)}};
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = cnt ? 2 : 1};
    struct cmsghdr *head;
    ssize_t n;

    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd, sizeof(int));
    }
    do {
        n = sendmsg(symbolizer->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == sizeof(request) + cnt * sizeof(*addrs) ? 0 : -EPIPE;
}

/* Ends a worker that died between requests, or speaks without being asked. */
static void replace_idle(struct ap_symbolizer *symbolizer)
{
    struct pollfd look = {.fd = symbolizer->sock, .events = POLLIN};

    if (symbolizer->worker && poll(&look, 1, 0) > 0) {
        ap_log_debug("the symbolizer's process ended by itself");
        end_worker(symbolizer);
    }
}

void ap_symbolizer_submit(struct ap_symbolizer *symbolizer, const struct ap_symbol_request *request)
{
    static const uint32_t kinds[] = {
        [AP_SYMBOL_CODE] = AP_WORKER_CODE,
        [AP_SYMBOL_VARIABLE] = AP_WORKER_VARIABLE,
        [AP_SYMBOL_KERNEL] = AP_WORKER_KERNEL,
    };
    bool is_kernel = request->what == AP_SYMBOL_KERNEL, send_file;

    assert(!symbolizer->request.cnt && request->cnt && request->cnt <= AP_SYMBOL_CHUNK);
    symbolizer->request.what = request->what;
    symbolizer->request.reason = is_kernel && symbolizer->kernel_hidden ? AP_UNRESOLVED_KPTR : AP_UNRESOLVED_NONE;
    symbolizer->request.cnt = request->cnt;
    symbolizer->request.rc = 0;
    symbolizer->request.deadline_ns = ap_clock_monotonic_ns() + AP_SYMBOL_TIMEOUT_NS;
    symbolizer->request.fn = request->fn;
    symbolizer->request.ctx = request->ctx;
    if (symbolizer->request.reason)
        return;
    replace_idle(symbolizer);
    if (start(symbolizer)) {
        symbolizer->request.rc = -EAGAIN;
        return;
    }
    send_file = !is_kernel && !(request->same_file && symbolizer->has_file);
    symbolizer->request.rc =
        send_request(symbolizer, kinds[request->what], send_file ? request->fd : -1, request->addrs, request->cnt);
    symbolizer->has_file |= send_file;
}

void ap_symbolizer_forget(struct ap_symbolizer *symbolizer)
{
    assert(!symbolizer->request.cnt);
    if (!symbolizer->worker || !symbolizer->has_file)
        return;
    symbolizer->has_file = false;
    if (send_request(symbolizer, AP_WORKER_FORGET, -1, NULL, 0))
        end_worker(symbolizer); /* which closes it too */
}

/* Bytes that are still missing of a reply; *ret_cnt is written only on success, of which 0 = complete. */
static int missing(const struct ap_buf *reply, size_t *ret_cnt)
{
    struct ap_worker_reply head;

    if (reply->len < sizeof(head)) {
        *ret_cnt = sizeof(head) - reply->len;
        return 0;
    }
    memcpy(&head, reply->data, sizeof(head));
    if (head.sz > AP_WORKER_REPLY_SZ_MAX - sizeof(head))
        return -EBADMSG;
    *ret_cnt = sizeof(head) + head.sz - reply->len;
    return 0;
}

/* 1 when the reply is complete, 0 when more is to come; negative errno: the worker is dead or talks nonsense. */
static int receive(struct ap_symbolizer *symbolizer)
{
    struct ap_buf *reply = &symbolizer->reply;
    size_t taken = 0, wanted;
    void *room;
    ssize_t n;
    int rc;

    while (taken < TAKE_SZ_MAX) {
        rc = missing(reply, &wanted);
        if (rc || !wanted)
            return rc ? rc : 1;
        wanted = wanted < READ_SZ ? wanted : READ_SZ;
        room = ap_buf_reserve(reply, wanted);
        if (!room)
            return reply->error;
        n = recv(symbolizer->sock, room, wanted, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        reply->len += (size_t)n;
        taken += (size_t)n;
    }
    return 0;
}

/* Goes through a complete reply; `fn` NULL = only to see whether it is sound. */
static int give_reply(const struct ap_symbolizer *symbolizer, ap_symbol_fn fn)
{
    const size_t head_sz = sizeof(struct ap_worker_reply);

    return ap_reply_read(symbolizer->reply.data + head_sz, symbolizer->reply.len - head_sz, symbolizer->request.cnt, fn,
                         symbolizer->request.ctx);
}

static void report_all(const struct ap_symbolizer *symbolizer, uint8_t reason)
{
    size_t i;

    for (i = 0; i < symbolizer->request.cnt; i++)
        symbolizer->request.fn(symbolizer->request.ctx, i, NULL, 0, reason);
}

static uint8_t failure_reason(uint8_t what, int rc)
{
    if (rc == -ETIMEDOUT || rc == -EAGAIN)
        return AP_UNRESOLVED_BUDGET;
    return what == AP_SYMBOL_KERNEL ? AP_UNRESOLVED_KERNEL_SYMBOL : AP_UNRESOLVED_BAD_FILE;
}

/* How the request stands, as ap_symbolizer_take returns it, but without its consequences. */
static int progress(struct ap_symbolizer *symbolizer, uint64_t now_ns)
{
    int rc = symbolizer->request.rc;

    if (rc)
        return rc;
    if (symbolizer->request.reason)
        return 1;
    rc = receive(symbolizer);
    if (rc > 0)
        rc = give_reply(symbolizer, NULL) ? -EBADMSG : 1;
    return rc || now_ns < symbolizer->request.deadline_ns ? rc : -ETIMEDOUT;
}

int ap_symbolizer_take(struct ap_symbolizer *symbolizer, uint64_t now_ns)
{
    int rc;

    if (!symbolizer->request.cnt) {
        replace_idle(symbolizer);
        return 0;
    }
    rc = progress(symbolizer, now_ns);
    if (!rc)
        return 0;
    if (rc > 0 && symbolizer->request.reason) {
        report_all(symbolizer, symbolizer->request.reason);
    } else if (rc > 0) {
        give_reply(symbolizer, symbolizer->request.fn);
    } else {
        ap_log_debug("the symbolizer failed on a file (%s); its process is started anew", strerror(-rc));
        symbolizer->failures++;
        end_worker(symbolizer);
        report_all(symbolizer, failure_reason(symbolizer->request.what, rc));
    }
    end_request(symbolizer);
    return rc;
}

void ap_symbolizer_wait(const struct ap_symbolizer *symbolizer)
{
    struct pollfd wait = {.fd = symbolizer->sock, .events = POLLIN};
    uint64_t now = ap_clock_monotonic_ns(), deadline = symbolizer->request.deadline_ns;

    if (symbolizer->request.cnt && !symbolizer->request.rc && !symbolizer->request.reason && now < deadline)
        poll(&wait, 1, (int)((deadline - now) / 1000000 + 1));
}

bool ap_symbolizer_busy(const struct ap_symbolizer *symbolizer)
{
    return symbolizer->request.cnt > 0;
}

int ap_symbolizer_fd(const struct ap_symbolizer *symbolizer)
{
    return symbolizer->epoll_fd;
}

uint64_t ap_symbolizer_cpu_ns(const struct ap_symbolizer *symbolizer)
{
    struct timespec used = {0};
    clockid_t clock;

    if (symbolizer->worker && !clock_getcpuclockid(symbolizer->worker, &clock))
        clock_gettime(clock, &used);
    return symbolizer->cpu_ns + (uint64_t)used.tv_sec * AP_NS_PER_SEC + (uint64_t)used.tv_nsec;
}

uint64_t ap_symbolizer_failures(const struct ap_symbolizer *symbolizer)
{
    return symbolizer->failures;
}
