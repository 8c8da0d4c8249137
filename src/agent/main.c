/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/config.h"
#include "agent/output.h"
#include "agent/preflight.h"
#include "agent/push.h"
#include "agent/session.h"
#include "core/log.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_FAILED 1
#define EXIT_USAGE  2

static const char program[] = "aperture-agent";

/* libbpf's own words, which matter when a program does not load, go to the debug log line by line. */
static __attribute__((format(printf, 2, 0))) int log_libbpf(enum libbpf_print_level level, const char *fmt,
                                                            va_list args)
{
    char *text, *line, *rest;

    if (level == LIBBPF_DEBUG || ap_log_get_level() < AP_LOG_DEBUG || vasprintf(&text, fmt, args) < 0)
        return 0;
    rest = text;
    while ((line = strsep(&rest, "\n")))
        if (*line)
            ap_log_debug("%s", line);
    free(text);
    return 0;
}

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

static void block_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write(), with words */
}

/* From here on a second Ctrl-C ends the program at once. */
static void unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int self_test(struct ap_error *err)
{
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    int rc;

    if (!out)
        return EXIT_FAILED;
    rc = ap_session_self_test(out, err);
    if (rc < 0)
        ap_log_error("%s", err->text);
    rc = ap_out_flush(out) || rc;
    ap_out_free(out);
    return rc ? EXIT_FAILED : 0;
}

static bool writes_stdout(const struct ap_agent_config *config)
{
    size_t i;

    for (i = 0; i < config->outputs.cnt; i++)
        if (!strcmp(config->outputs.items[i], "-"))
            return true;
    return false;
}

/* The table and the closing account: on stdout, or on stderr when a profile goes to stdout. */
static int print_summary(const struct ap_agent_config *config, struct ap_capture *capture)
{
    bool to_stderr = writes_stdout(config);
    int fd = to_stderr ? STDERR_FILENO : STDOUT_FILENO;
    bool colour = isatty(fd) == 1;
    struct ap_out *out;
    unsigned i;
    int rc = 0;

    if (config->quiet && config->outputs.cnt)
        return 0;
    out = ap_out_new_fd(fd);
    if (!out)
        return -ENOMEM;
    for (i = 0; !rc && !to_stderr && i < capture->profile_cnt; i++) {
        if (i)
            ap_out_char(out, '\n');
        rc = ap_text_write(capture, capture->profiles[i], (unsigned)config->top, colour, out);
    }
    if (!rc)
        rc = ap_text_account(capture, colour, out);
    if (!rc)
        rc = ap_out_flush(out);
    ap_out_free(out);
    return rc;
}

static bool has_stacks(const struct ap_agent_config *config, uint8_t kind)
{
    return kind != AP_KIND_SYSCALL || config->stacks;
}

static int write_one(const struct ap_agent_config *config, size_t output, struct ap_capture *capture, unsigned profile,
                     struct ap_error *err)
{
    uint8_t kind = capture->profiles[profile]->kind;
    enum ap_format format = config->output_formats[output];
    const char *path = config->outputs.items[output];
    char name[PATH_MAX];
    int rc;

    rc = ap_output_path(path, kind, config->modes != AP_MODE(kind), has_stacks(config, kind), &format, name);
    if (rc)
        ap_error_errno(err, rc, "cannot write \"%s\"", path);
    else
        rc = ap_output_write(name, format, capture, profile, err);
    if (rc)
        ap_log_error("%s", err->text);
    else if (!config->quiet && strcmp(name, "-"))
        fprintf(stderr, "%s: wrote %s\n", program, name);
    return rc;
}

static int write_results(const struct ap_agent_config *config, struct ap_capture *capture, struct ap_error *err)
{
    unsigned profile, cnt;
    int rc = 0, one;
    size_t i;

    for (i = 0; i < config->outputs.cnt; i++) {
        cnt = config->output_formats[i] == AP_FORMAT_JSON ? 1 : capture->profile_cnt; /* JSON holds them all */
        for (profile = 0; profile < cnt; profile++) {
            one = write_one(config, i, capture, profile, err);
            rc = rc ? rc : one;
        }
    }
    return rc;
}

/* Every file that the capture will be written to. */
static int check_outputs(const struct ap_agent_config *config, struct ap_error *err)
{
    enum ap_format format;
    char name[PATH_MAX];
    uint8_t kind;
    size_t i;
    int rc = 0;

    for (i = 0; i < config->outputs.cnt; i++) {
        for (kind = AP_KIND_CPU; !rc && kind <= AP_KIND_GPU; kind++) {
            if (!(config->modes & AP_MODE(kind)))
                continue;
            format = config->output_formats[i];
            rc = ap_output_path(config->outputs.items[i], kind, config->modes != AP_MODE(kind),
                                has_stacks(config, kind), &format, name);
            rc = rc ? ap_error_errno(err, rc, "cannot write \"%s\"", config->outputs.items[i])
                    : ap_output_check(name, err);
        }
    }
    return rc;
}

static void warn_when_empty(const struct ap_capture *capture)
{
    unsigned i;

    for (i = 0; i < capture->profile_cnt; i++) {
        if (capture->accounts[i].delivered)
            continue;
        if (capture->profiles[i]->kind == AP_KIND_CPU)
            ap_log_warn("no samples: nothing in scope used a CPU during the recording");
        else
            ap_log_warn("no %s events: nothing in scope %s during the recording",
                        ap_event_kind_name(capture->profiles[i]->kind),
                        capture->profiles[i]->kind == AP_KIND_SYSCALL ? "made a system call" : "waited long enough");
    }
}

/* Records and sends; the exit status. */
static int run_push(const struct ap_agent_config *config, struct ap_error *err)
{
    struct ap_push_result result = {0};
    int rc;

    block_signals();
    rc = ap_push_run(config, &result, err);
    unblock_signals();
    if (rc)
        ap_log_error("%s", err->text);
    if (result.batches && !config->quiet)
        fprintf(stderr,
                "%s: %" PRIu64 " events in %" PRIu64 " batches for %s; %" PRIu64 " events lost, %" PRIu64
                " batches dropped, %" PRIu64 " batches wait in the spool\n",
                program, result.events, result.batches, config->aggregator, result.lost, result.dropped, result.unsent);
    return rc ? EXIT_FAILED : 0;
}

static int run(const struct ap_agent_config *config, struct ap_error *err)
{
    struct ap_capture *capture = NULL;
    int rc;

    if (check_outputs(config, err) || ap_preflight_system(err)) {
        ap_log_error("%s", err->text);
        return EXIT_FAILED;
    }
    if (config->self_test)
        return self_test(err);
    if (config->aggregator)
        return run_push(config, err);
    block_signals();
    rc = ap_session_run(config, NULL, &capture, err);
    unblock_signals();
    if (rc) {
        ap_log_error("%s", err->text);
        return EXIT_FAILED;
    }
    warn_when_empty(capture);
    rc = print_summary(config, capture);
    if (rc)
        ap_log_error("cannot print the table: %s", strerror(-rc));
    rc = write_results(config, capture, err) ? -EIO : rc;
    ap_capture_free(capture);
    return rc ? EXIT_FAILED : 0;
}

int main(int argc, char **argv)
{
    struct ap_agent_config config;
    struct ap_error err = {0};
    int rc;

    fill_standard_descriptors();
    ap_log_setup(program, AP_LOG_WARN, AP_LOG_TEXT);
    rc = ap_agent_config_parse(&config, argc, argv, &err);
    if (rc < 0) {
        ap_log_error("%s (see %s --help)", err.text, program);
        ap_agent_config_done(&config);
        return EXIT_USAGE;
    }
    if (rc == AP_OPTIONS_EXIT) {
        ap_agent_config_done(&config);
        return 0;
    }
    ap_log_setup(program, (enum ap_log_level)config.log_level, (enum ap_log_format)config.log_format);
    libbpf_set_print(log_libbpf);
    rc = run(&config, &err);
    ap_agent_config_done(&config);
    return rc;
}
