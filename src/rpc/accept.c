/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "rpc/accept.h"

#include "core/clock.h"
#include "rpc/server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_MS 1000
/* How long to leave connections waiting in the kernel when there is no descriptor or memory for them. */
#define PAUSE_MS 100
/* Connections taken in a row before looking at the clock and the wish to stop. */
#define BURST_MAX 256
/* Part of the process's descriptors that connections leave to everything else, and its bounds. */
#define RESERVE_PART 8
#define RESERVE_MIN  32
#define RESERVE_MAX  1024

struct ap_rpc_acceptor {
    struct ap_rpc_address address;
    int listeners[AP_RPC_LISTENERS_MAX];
    unsigned listener_cnt;
    int wake;   /* eventfd: stop */
    int fd_max; /* connections have smaller descriptors than this */
    unsigned port;
    dev_t dev; /* of the socket file */
    ino_t ino;
    bool started;
    pthread_t thread;
    ap_rpc_accepted accepted;
    ap_rpc_tick tick;
    void *ctx;
    atomic_uint_fast64_t refused;
};

/* The kernel hands out the lowest free descriptor: one this large says how many are in use, without counting. */
static int find_fd_max(void)
{
    struct rlimit limit = {.rlim_cur = RESERVE_MAX};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    rlim_t reserve = limit.rlim_cur / RESERVE_PART;
    reserve = reserve < RESERVE_MIN ? RESERVE_MIN : reserve > RESERVE_MAX ? RESERVE_MAX : reserve;
    rlim_t max = limit.rlim_cur > reserve ? limit.rlim_cur - reserve : 1;
    return max > AP_RPC_CONNECTIONS_MAX ? AP_RPC_CONNECTIONS_MAX : (int)max;
}

/* Removes a socket that its server left behind. 0 or -EADDRINUSE. */
static int remove_stale(const struct ap_rpc_address *address, const struct sockaddr_un *name)
{
    struct stat st;

    if (lstat(address->path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -EADDRINUSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool dead = fd >= 0 && connect(fd, (const struct sockaddr *)name, sizeof(*name)) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        (void)close(fd);
    if (!dead)
        return -EADDRINUSE;
    (void)unlink(address->path);
    return 0;
}

static int add_listener(struct ap_rpc_acceptor *acceptor, const struct sockaddr *name, socklen_t len)
{
    int on = 1, off = 0;
    int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    /* Connections of an earlier server in TIME_WAIT must not keep the address; a server that listens still does. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (name->sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, name, len) < 0 || listen(fd, SOMAXCONN) < 0) {
        int saved = errno;

        (void)close(fd);
        return -saved;
    }
    acceptor->listeners[acceptor->listener_cnt++] = fd;
    return 0;
}

static int bind_words(int rc, const struct ap_rpc_address *address, struct ap_error *err)
{
    char where[AP_RPC_HOST_SZ + 16];

    (void)snprintf(where, sizeof(where), address->ipv6 ? "[%s]:%u" : "%s:%u", address->host, address->port);
    const char *name = address->local ? address->path : where;
    switch (-rc) {
    case EADDRINUSE:
        return ap_error_set(err, rc, "cannot listen on %s: the address is in use; does another program run there?",
                            name);
    case EADDRNOTAVAIL:
        return ap_error_set(err, rc, "cannot listen on %s: this host does not have that address", name);
    case EACCES:
        return ap_error_set(err, rc, "cannot listen on %s: permission denied%s", name,
                            address->local ? "" : " (ports below 1024 are privileged)");
    default:
        return ap_error_errno(err, rc, "cannot listen on %s", name);
    }
}

static int listen_local(struct ap_rpc_acceptor *acceptor, struct ap_error *err)
{
    const struct ap_rpc_address *address = &acceptor->address;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat st;

    memcpy(name.sun_path, address->path, strlen(address->path) + 1);
    int rc = remove_stale(address, &name);
    if (rc == 0)
        rc = add_listener(acceptor, (const struct sockaddr *)&name, sizeof(name));
    if (rc < 0)
        return bind_words(rc, address, err);
    if (lstat(address->path, &st) == 0) {
        acceptor->dev = st.st_dev;
        acceptor->ino = st.st_ino;
    }
    return 0;
}

static unsigned socket_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.v6 = {0}};
    socklen_t len = sizeof(name);

    if (getsockname(fd, &name.any, &len) < 0)
        return 0;
    return ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
}

static void set_port(struct sockaddr *name, unsigned port)
{
    if (name->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)name)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)name)->sin_port = htons((uint16_t)port);
}

/* Listens on every address of the host that can be had, all with one port. */
static int listen_host(struct ap_rpc_acceptor *acceptor, struct ap_error *err)
{
    const struct ap_rpc_address *address = &acceptor->address;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *infos = NULL;
    int rc = 0;

    int gai = getaddrinfo(address->host, NULL, &hints, &infos);
    if (gai != 0)
        return ap_error_set(err, -EADDRNOTAVAIL, "cannot listen on %s: %s", address->host, gai_strerror(gai));
    acceptor->port = address->port;
    for (struct addrinfo *info = infos; info && acceptor->listener_cnt < AP_RPC_LISTENERS_MAX; info = info->ai_next) {
        if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
            continue;
        set_port(info->ai_addr, acceptor->port);
        rc = add_listener(acceptor, info->ai_addr, info->ai_addrlen);
        if (rc == -EADDRINUSE)
            break; /* half an address would be a surprise */
        if (rc == 0)
            acceptor->port = socket_port(acceptor->listeners[acceptor->listener_cnt - 1]);
    }
    freeaddrinfo(infos);
    if (rc == -EADDRINUSE || acceptor->listener_cnt == 0)
        return bind_words(rc < 0 ? rc : -EADDRNOTAVAIL, address, err);
    return 0;
}

struct ap_rpc_acceptor *ap_rpc_acceptor_new(const struct ap_rpc_address *address, struct ap_error *err)
{
    struct ap_rpc_acceptor *acceptor = (struct ap_rpc_acceptor *)calloc(1, sizeof(*acceptor));

    if (!acceptor) {
        ap_error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    acceptor->address = *address;
    acceptor->fd_max = find_fd_max();
    acceptor->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (acceptor->wake < 0) {
        ap_error_errno(err, -errno, "cannot make an eventfd");
        return ap_rpc_acceptor_free(acceptor);
    }
    int rc = address->local ? listen_local(acceptor, err) : listen_host(acceptor, err);
    return rc < 0 ? ap_rpc_acceptor_free(acceptor) : acceptor;
}

/* Takes what waits at one socket. False when there is no descriptor or memory for more now. */
static bool take(struct ap_rpc_acceptor *acceptor, int listener)
{
    int on = 1;

    for (int i = 0; i < BURST_MAX; i++) {
        /* cppcheck-suppress nullPointer */
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
            return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
        if (fd >= acceptor->fd_max) {
            (void)close(fd);
            atomic_fetch_add_explicit(&acceptor->refused, 1, memory_order_relaxed);
            continue;
        }
        if (!acceptor->address.local)
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        acceptor->accepted(acceptor->ctx, fd);
    }
    return true;
}

static void *run(void *arg)
{
    struct ap_rpc_acceptor *acceptor = (struct ap_rpc_acceptor *)arg;
    struct pollfd fds[AP_RPC_LISTENERS_MAX + 1];
    uint64_t next_tick = ap_clock_monotonic_ns() + TICK_MS * 1000000ULL;
    bool paused = false;

    fds[0] = (struct pollfd){.fd = acceptor->wake, .events = POLLIN};
    for (unsigned i = 0; i < acceptor->listener_cnt; i++)
        fds[i + 1] = (struct pollfd){.fd = acceptor->listeners[i], .events = POLLIN};
    for (;;) {
        int cnt = poll(fds, paused ? 1 : acceptor->listener_cnt + 1, paused ? PAUSE_MS : TICK_MS);

        if (cnt > 0 && fds[0].revents)
            return NULL;
        bool short_of = false;
        for (unsigned i = 1; !paused && cnt > 0 && i <= acceptor->listener_cnt; i++)
            short_of |= fds[i].revents && !take(acceptor, fds[i].fd);
        paused = short_of;
        if (ap_clock_monotonic_ns() >= next_tick) {
            acceptor->tick(acceptor->ctx);
            next_tick = ap_clock_monotonic_ns() + TICK_MS * 1000000ULL;
        }
    }
}

int ap_rpc_acceptor_start(struct ap_rpc_acceptor *acceptor, ap_rpc_accepted accepted, ap_rpc_tick tick, void *ctx,
                          struct ap_error *err)
{
    acceptor->accepted = accepted;
    acceptor->tick = tick;
    acceptor->ctx = ctx;
    int rc = -pthread_create(&acceptor->thread, NULL, run, acceptor);
    if (rc < 0)
        return ap_error_errno(err, rc, "cannot start a thread");
    (void)pthread_setname_np(acceptor->thread, "rpc-accept");
    acceptor->started = true;
    return 0;
}

/* Removes the socket file, unless it is somebody else's by now. */
static void remove_own(const struct ap_rpc_acceptor *acceptor)
{
    struct stat st;

    if (lstat(acceptor->address.path, &st) == 0 && st.st_dev == acceptor->dev && st.st_ino == acceptor->ino)
        (void)unlink(acceptor->address.path);
}

void ap_rpc_acceptor_stop(struct ap_rpc_acceptor *acceptor)
{
    uint64_t one = 1;

    if (acceptor->started) {
        (void)!write(acceptor->wake, &one, sizeof(one));
        (void)pthread_join(acceptor->thread, NULL);
        acceptor->started = false;
    }
    if (acceptor->listener_cnt > 0 && acceptor->address.local)
        remove_own(acceptor);
    while (acceptor->listener_cnt > 0)
        (void)close(acceptor->listeners[--acceptor->listener_cnt]);
}

struct ap_rpc_acceptor *ap_rpc_acceptor_free(struct ap_rpc_acceptor *acceptor)
{
    if (!acceptor)
        return NULL;
    ap_rpc_acceptor_stop(acceptor);
    if (acceptor->wake >= 0)
        (void)close(acceptor->wake);
    free(acceptor);
    return NULL;
}

unsigned ap_rpc_acceptor_port(const struct ap_rpc_acceptor *acceptor)
{
    return acceptor->port;
}

uint64_t ap_rpc_acceptor_refused(const struct ap_rpc_acceptor *acceptor)
{
    return atomic_load_explicit(&acceptor->refused, memory_order_relaxed);
}
