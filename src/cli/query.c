/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/answers.h"
#include "cli/ask.h"
#include "cli/commands.h"
#include "core/clock.h"
#include "model/window.h"
#include "rpc/rpc.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Longest answer that is taken. */
#define ANSWER_SZ AP_RPC_MESSAGE_SZ

/* One question: what to send, how to show what comes back. */
struct question {
    const struct ap_cli_ask *ask;
    const char *method;
    struct ap_buf request;
    uint8_t kind;
    bool functions_only;
    int (*show)(const struct question *question, const struct ap_buf *answer, struct ap_out *out, struct ap_error *err);
};

static int run(struct question *question, struct ap_error *err)
{
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    struct ap_buf answer;
    int rc;

    ap_buf_init(&answer, ANSWER_SZ);
    rc = out ? ap_cli_call(question->ask, question->method, &question->request, &answer, err)
             : ap_error_set(err, -ENOMEM, "out of memory");
    if (!rc)
        rc = question->show(question, &answer, out, err);
    if (!rc) {
        rc = ap_out_flush(out);
        if (rc)
            ap_error_errno(err, rc, "cannot write the answer");
    }
    ap_buf_done(&answer);
    ap_out_free(out);
    return rc ? AP_CLI_FAILED : AP_CLI_OK;
}

static int shown(int rc, struct ap_error *err)
{
    return rc ? ap_error_errno(err, rc, "cannot write the answer") : 0;
}

static int show_batches(const struct question *question, const struct ap_buf *data, struct ap_out *out,
                        struct ap_error *err)
{
    struct ap_batches_answer answer = {0};
    int rc = ap_wire_batches_decode(data->data, data->len, &answer, err);

    if (rc)
        return rc;
    rc = ap_cli_show_batches(&answer, question->ask->format, out);
    ap_batches_answer_done(&answer);
    return shown(rc, err);
}

static int show_stacks(const struct question *question, const struct ap_buf *data, struct ap_out *out,
                       struct ap_error *err)
{
    struct ap_stacks_answer answer = {0};
    int rc = ap_wire_stacks_decode(data->data, data->len, &answer, err);

    if (rc)
        return rc;
    rc = ap_cli_show_stacks(&answer, question->ask->format, out);
    ap_stacks_answer_done(&answer);
    return shown(rc, err);
}

static int show_aggregate(const struct question *question, const struct ap_buf *data, struct ap_out *out,
                          struct ap_error *err)
{
    struct ap_aggregate_answer answer = {0};
    int rc = ap_wire_aggregate_decode(data->data, data->len, &answer, err);

    if (rc)
        return rc;
    rc = ap_cli_show_aggregate(&answer, question->kind, question->functions_only, question->ask->format, out);
    ap_aggregate_answer_done(&answer);
    return shown(rc, err);
}

static int show_diff(const struct question *question, const struct ap_buf *data, struct ap_out *out,
                     struct ap_error *err)
{
    struct ap_diff_answer answer = {0};
    int rc = ap_wire_diff_decode(data->data, data->len, &answer, err);

    if (rc)
        return rc;
    rc = ap_cli_show_diff(&answer, question->ask->format, out);
    ap_diff_answer_done(&answer);
    return shown(rc, err);
}

/* Asks once with the selector of the options. The exit status. */
static int ask_once(struct question *question, uint8_t default_kind, uint64_t default_ns, struct ap_error *err)
{
    struct ap_ask ask = {.limit = (uint32_t)question->ask->limit};
    int rc = ap_cli_selector(question->ask, default_kind, ap_clock_realtime_ns(), default_ns, &ask.selector, err);

    if (rc)
        return AP_CLI_USAGE;
    question->kind = ask.selector.kind;
    ap_buf_init(&question->request, ANSWER_SZ);
    rc = ap_wire_ask_encode(&ask, &question->request);
    rc = rc ? (ap_error_set(err, rc, "out of memory"), AP_CLI_FAILED) : run(question, err);
    ap_buf_done(&question->request);
    ap_ask_done(&ask);
    return rc;
}

static const struct ap_option query_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "The question"},
    AP_CLI_OPTIONS_KIND("every kind; with --stored cpu"),
    AP_CLI_OPTIONS_TIME("everything that is there"),
    {.name = "stored",
     .type = AP_OPTION_BOOL,
     .offset = AP_CLI_FIELD(stored),
     .help = "Ask the storage for stacks, heaviest first, rather than the memory for the newest batches."},
    AP_CLI_OPTIONS_SCOPE,
    AP_CLI_OPTIONS_ANSWER("batches, or stacks"),
    {0},
};

const struct ap_options_spec ap_cli_query_options = {
    .program = "aperture-cli query",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Lists the newest batches that the aggregator received, or the heaviest stored stacks.",
    .epilog = "Examples:\n  aperture-cli query --endpoint http://127.0.0.1:50051 --limit 10\n"
              "  aperture-cli query --stored --kind cpu --since 15m --comm nginx\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = query_options,
};

int ap_cli_query(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    struct question question = {.ask = &ask, .method = "Query", .show = show_batches};
    int rc = ap_cli_options(&ap_cli_query_options, &ask, argc, argv, NULL, err);

    if (rc < 0) {
        if (ask.stored) {
            question.method = "QueryStorage";
            question.show = show_stacks;
        }
        rc = ask_once(&question, ask.stored ? AP_KIND_CPU : 0, ask.stored ? AP_WINDOW_NS : 0, err);
    }
    ap_options_done(&ap_cli_query_options, &ask);
    return rc;
}

static const struct ap_option aggregate_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "The question"},
    AP_CLI_OPTIONS_KIND("cpu"),
    AP_CLI_OPTIONS_TIME("the newest hour"),
    AP_CLI_OPTIONS_SCOPE,
    AP_CLI_OPTIONS_ANSWER("rows"),
    {0},
};

const struct ap_options_spec ap_cli_aggregate_options = {
    .program = "aperture-cli aggregate",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Adds up everything in a range: functions, or for locks and system calls their tables.",
    .epilog = "Examples:\n  aperture-cli aggregate --event-type cpu --limit 100\n"
              "  aperture-cli aggregate --kind lock --since 15m --host web-1 --format csv\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = aggregate_options,
};

int ap_cli_aggregate(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    struct question question = {.ask = &ask, .method = "Aggregate", .show = show_aggregate};
    int rc = ap_cli_options(&ap_cli_aggregate_options, &ask, argc, argv, NULL, err);

    if (rc < 0)
        rc = ask_once(&question, AP_KIND_CPU, AP_WINDOW_NS, err);
    ap_options_done(&ap_cli_aggregate_options, &ask);
    return rc;
}

static const struct ap_option top_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "The question"},
    AP_CLI_OPTIONS_KIND("cpu"),
    AP_CLI_OPTIONS_TIME("the newest 5 minutes"),
    {.name = "watch",
     .short_name = 'w',
     .type = AP_OPTION_DURATION,
     .offset = AP_CLI_FIELD(watch_ns),
     .min = 100000000,
     .metavar = "TIME",
     .help = "Ask again and again with this pause, until Ctrl-C."},
    AP_CLI_OPTIONS_SCOPE,
    AP_CLI_OPTIONS_ANSWER("functions"),
    {0},
};

const struct ap_options_spec ap_cli_top_options = {
    .program = "aperture-cli top",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Shows the functions in which time goes, by their own share.",
    .epilog =
        "Examples:\n  aperture-cli top --watch 2s\n  aperture-cli top --kind offcpu --since 1m --comm postgres\n\n"
        "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = top_options,
};

int ap_cli_top(int argc, char **argv, struct ap_error *err)
{
    static const char clear_screen[] = "\033[H\033[2J";
    struct ap_cli_ask ask;
    struct question question = {.ask = &ask, .method = "Aggregate", .functions_only = true, .show = show_aggregate};
    int rc = ap_cli_options(&ap_cli_top_options, &ask, argc, argv, NULL, err);
    struct timespec pause;

    while (rc < 0) {
        if (ask.watch_ns && isatty(STDOUT_FILENO) && write(STDOUT_FILENO, clear_screen, strlen(clear_screen)) < 0)
            break;
        rc = ask_once(&question, AP_KIND_CPU, 300 * AP_NS_PER_SEC, err);
        if (rc || !ask.watch_ns)
            break;
        pause = (struct timespec){(time_t)(ask.watch_ns / AP_NS_PER_SEC), (long)(ask.watch_ns % AP_NS_PER_SEC)};
        nanosleep(&pause, NULL);
        rc = -1;
    }
    ap_options_done(&ap_cli_top_options, &ask);
    return rc;
}

static const struct ap_option diff_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "The question"},
    AP_CLI_OPTIONS_KIND("cpu"),
    AP_CLI_OPTIONS_TIME("the newest half hour"),
    {.name = "baseline-from",
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(baseline_from),
     .metavar = "TIME",
     .help = "Compare with the range from then. Without it: as long as the other one and just before it."},
    {.name = "baseline-to",
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(baseline_to),
     .metavar = "TIME",
     .help = "... until then. Without it: until --from."},
    {.name = "baseline-match",
     .type = AP_OPTION_PATHS,
     .offset = AP_CLI_FIELD(baseline_matches),
     .metavar = "SELECTOR",
     .help =
         "Compare with others rather than with another time: conditions as in --match, in place of those of --match."},
    AP_CLI_OPTIONS_SCOPE,
    AP_CLI_OPTIONS_ANSWER("functions"),
    {0},
};

const struct ap_options_spec ap_cli_diff_options = {
    .program = "aperture-cli diff",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Compares two ranges, or two label sets: functions by how their share of all time changed.",
    .epilog = "Examples:\n  aperture-cli diff --event-type cpu --limit 100\n"
              "  aperture-cli diff --since 10m --baseline-from '1d10m ago' --baseline-to '1d ago'\n"
              "  aperture-cli diff --since 1h --match version=\\\"2\\\" --baseline-match version=\\\"1\\\"\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = diff_options,
};

/* The range to compare with. 0, or negative with words. */
static int baseline(const struct ap_cli_ask *ask, uint64_t now_ns, const struct ap_selector *after,
                    struct ap_selector *ret_before, struct ap_error *err)
{
    bool other_time = ask->baseline_from || ask->baseline_to || !ask->baseline_matches.cnt;
    uint64_t span = after->to_ns - after->from_ns;
    struct ap_cli_ask changed = *ask;
    int rc;

    if (ask->baseline_matches.cnt)
        changed.matches = ask->baseline_matches;
    rc = ap_cli_selector(&changed, AP_KIND_CPU, now_ns, AP_WINDOW_DIFF_NS, ret_before, err);
    if (rc)
        return rc;
    if (!other_time) {
        ret_before->from_ns = after->from_ns;
        ret_before->to_ns = after->to_ns;
        return 0;
    }
    ret_before->to_ns = after->from_ns;
    if (ask->baseline_to)
        rc = ap_selector_time(ask->baseline_to, now_ns, &ret_before->to_ns, err);
    ret_before->from_ns = ret_before->to_ns > span ? ret_before->to_ns - span : 0;
    if (!rc && ask->baseline_from)
        rc = ap_selector_time(ask->baseline_from, now_ns, &ret_before->from_ns, err);
    if (!rc && ret_before->from_ns >= ret_before->to_ns)
        rc = ap_error_set(err, -EINVAL, "the baseline ends before it begins: see --baseline-from and --baseline-to");
    if (rc)
        ap_selector_done(ret_before);
    return rc;
}

static int ask_diff(struct question *question, struct ap_error *err)
{
    struct ap_ask_diff diff = {.limit = (uint32_t)question->ask->limit};
    uint64_t now_ns = ap_clock_realtime_ns();
    int rc = ap_cli_selector(question->ask, AP_KIND_CPU, now_ns, AP_WINDOW_DIFF_NS, &diff.after, err);

    rc = rc ? rc : baseline(question->ask, now_ns, &diff.after, &diff.before, err);
    if (rc) {
        ap_ask_diff_done(&diff);
        return AP_CLI_USAGE;
    }
    ap_buf_init(&question->request, ANSWER_SZ);
    rc = ap_wire_ask_diff_encode(&diff, &question->request);
    rc = rc ? (ap_error_set(err, rc, "out of memory"), AP_CLI_FAILED) : run(question, err);
    ap_buf_done(&question->request);
    ap_ask_diff_done(&diff);
    return rc;
}

int ap_cli_diff(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    struct question question = {.ask = &ask, .method = "Diff", .show = show_diff};
    int rc = ap_cli_options(&ap_cli_diff_options, &ask, argc, argv, NULL, err);

    if (rc < 0)
        rc = ask_diff(&question, err);
    ap_options_done(&ap_cli_diff_options, &ask);
    return rc;
}
