/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "aggregator/aggregator.h"
#include "aggregator/config.h"
#include "core/clock.h"
#include "core/log.h"
#include "storage/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXIT_FAILED 1
#define EXIT_USAGE  2

/* From the first signal to the end of the process, whatever still runs. */
#define STOP_NS    4500000000ULL
#define STOP_ALARM 4700000000ULL

static const char program[] = "aperture-aggregator";

/* A standard descriptor that is closed would become the first file that we open, and our messages would go there. */
static void fill_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDONLY); /* writing to it fails, as it should */
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Blocked in all threads, which are started later: main() waits for them. */
static sigset_t block_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed connection is an error of write(), with words */
    return signals;
}

/* From here on a second Ctrl-C ends the program at once. */
static void unblock_signals(void)
{
    sigset_t signals;

    signal(SIGHUP, SIG_IGN);
    sigemptyset(&signals);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

/* Every connection is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        ap_log_debug("cannot raise the number of open files to %llu: %s", (unsigned long long)limit.rlim_max,
                     strerror(errno));
}

static int print_schema(const struct ap_aggregator_config *config)
{
    struct ap_storage_opts opts = ap_aggregator_storage_opts(config, AP_STORAGE_CLICKHOUSE);
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    int rc;

    if (!out)
        return EXIT_FAILED;
    if (config->storage == AP_STORAGE_CHOICE_CHDB)
        opts.kind = AP_STORAGE_CHDB;
    rc = ap_storage_print_schema(&opts, config->cluster, out);
    if (!rc)
        rc = ap_out_flush(out);
    ap_out_free(out);
    if (rc)
        ap_log_error("cannot print the schema: %s", strerror(-rc));
    return rc ? EXIT_FAILED : 0;
}

static void tell_ready(const struct ap_aggregator_config *config, struct ap_aggregator *aggregator)
{
    char line[AP_AGGREGATOR_LINE_SZ];

    ap_aggregator_describe(aggregator, line);
    if (config->log_format == AP_LOG_JSON || config->log_level < AP_LOG_INFO)
        ap_log_info("%s", line);
    else
        fprintf(stderr, "%s: %s\n", program, line);
    if (config->ready_fd) {
        if (write((int)config->ready_fd, "\n", 1) != 1)
            ap_log_warn("--ready-fd %llu: %s", (unsigned long long)config->ready_fd, strerror(errno));
        close((int)config->ready_fd);
    }
}

/* Ends the process when stopping takes too long: what was acknowledged is stored, the rest was not acknowledged. */
static _Noreturn void give_up(void)
{
    ap_log_warn("not everything that was in progress ended in time; what was acknowledged is stored");
    _exit(0);
}

static void *watch_stop(void *arg)
{
    const struct timespec wait = {.tv_sec = STOP_ALARM / AP_NS_PER_SEC, .tv_nsec = STOP_ALARM % AP_NS_PER_SEC};

    (void)arg;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL))
        ;
    give_up();
}

static void stop(struct ap_aggregator *aggregator, int signum)
{
    uint64_t deadline_ns = ap_clock_monotonic_ns() + STOP_NS;
    pthread_t watch;

    ap_log_info("signal %d: stopping", signum);
    unblock_signals();
    if (!pthread_create(&watch, NULL, watch_stop, NULL))
        pthread_detach(watch);
    if (!ap_aggregator_stop(aggregator, deadline_ns))
        give_up();
    ap_aggregator_free(aggregator);
    ap_log_info("stopped");
}

static int run(const struct ap_aggregator_config *config)
{
    sigset_t signals = block_signals();
    struct ap_aggregator *aggregator;
    struct ap_error err = {0};
    int signum = 0;

    raise_descriptor_limit();
    aggregator = ap_aggregator_start(config, &err);
    if (!aggregator) {
        ap_log_error("%s", err.text);
        return EXIT_FAILED;
    }
    tell_ready(config, aggregator);
    for (;;) {
        if (sigwait(&signals, &signum))
            continue;
        if (signum != SIGHUP)
            break;
        ap_aggregator_reload(aggregator);
    }
    stop(aggregator, signum);
    return 0;
}

int main(int argc, char **argv)
{
    static struct ap_aggregator_config config;
    struct ap_error err = {0};
    int rc;

    fill_standard_descriptors();
    ap_log_setup(program, AP_LOG_INFO, AP_LOG_TEXT);
    rc = ap_aggregator_config_parse(&config, argc, argv, &err);
    if (rc < 0) {
        ap_log_error("%s (see %s --help)", err.text, program);
        return EXIT_USAGE;
    }
    if (rc == AP_OPTIONS_EXIT)
        return 0;
    ap_log_setup(program, (enum ap_log_level)config.log_level, (enum ap_log_format)config.log_format);
    rc = config.print_schema ? print_schema(&config) : run(&config);
    ap_aggregator_config_done(&config);
    return rc;
}
