/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/config.h"

#include "abi/record.h"
#include "agent/pusher.h"
#include "core/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FIELD(member) offsetof(struct ap_agent_config, member)

static const char *const events[] = {"cpu-clock", "cycles", NULL};
static const char *const formats[] = {"auto", "svg", "json", "collapsed", "pprof", "text", "speedscope", NULL};
static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

static const struct ap_option options[] = {
    {.type = AP_OPTION_GROUP, .help = "What to measure"},
    {.name = "mode",
     .short_name = 'm',
     .type = AP_OPTION_STRING,
     .offset = FIELD(mode),
     .def = "cpu",
     .metavar = "LIST",
     .help = "What to record, one or several with commas between, or all: cpu samples the stacks of what runs, offcpu "
             "times what waits, lock waits for locks, syscall the latency of system calls."},
    {.name = "event",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(event),
     .def = "cpu-clock",
     .choices = events,
     .metavar = "EVENT",
     .help = "What triggers a sample: cpu-clock (a timer, on every machine) or cycles (the hardware counter)."},
    {.name = "frequency",
     .short_name = 'F',
     .type = AP_OPTION_U64,
     .offset = FIELD(frequency),
     .def = "99",
     .min = 1,
     .max = AP_FREQUENCY_MAX,
     .metavar = "HZ",
     .env = "APERTURE_FREQUENCY",
     .help = "Samples per second and CPU."},
    {.name = "duration",
     .short_name = 'd',
     .type = AP_OPTION_DURATION,
     .offset = FIELD(duration_ns),
     .min = 1000000,
     .max = AP_DURATION_MAX_NS,
     .metavar = "TIME",
     .help = "How long to record, as 30s, 5m or 1h. Without it: until Ctrl-C, or until every --pid has ended."},
    {.name = "min-block",
     .type = AP_OPTION_DURATION,
     .offset = FIELD(min_block_ns),
     .def = "1ms",
     .max = AP_DURATION_MAX_NS,
     .metavar = "TIME",
     .help = "offcpu: record waits from this length on; shorter ones are counted and summed."},
    {.name = "waker",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(waker),
     .help = "offcpu: add the stack of whoever ended the wait."},
    {.name = "sample-every",
     .type = AP_OPTION_U64,
     .offset = FIELD(sample_every),
     .def = "1",
     .min = 1,
     .max = 1000000,
     .metavar = "N",
     .help = "offcpu: take one wait in N, chosen at random, and let it stand for N: costs less where tasks switch very "
             "often."},
    {.name = "stacks",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(stacks),
     .help = "syscall: record the stacks of slow calls, for a flamegraph."},
    {.name = "min-latency",
     .type = AP_OPTION_DURATION,
     .offset = FIELD(min_latency_ns),
     .def = "1ms",
     .max = AP_DURATION_MAX_NS,
     .metavar = "TIME",
     .help = "syscall: with --stacks, calls count as slow from this length on."},
    {.type = AP_OPTION_GROUP, .help = "Whom to measure (several filters must all match)"},
    {.name = "pid",
     .short_name = 'p',
     .type = AP_OPTION_LIST,
     .offset = FIELD(pids),
     .metavar = "PID",
     .help = "Only this process, with all its threads."},
    {.name = "children",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(children),
     .help = "With --pid: also the processes that it starts while recording, and theirs."},
    {.name = "cgroup",
     .type = AP_OPTION_STRING,
     .offset = FIELD(cgroup),
     .metavar = "DIRECTORY",
     .help = "Only tasks in this cgroup (v2) and those below it."},
    {.name = "comm",
     .type = AP_OPTION_LIST,
     .offset = FIELD(comms),
     .metavar = "NAME",
     .help = "Only threads with this name, or of a process with this name (exact, at most 15 bytes)."},
    {.type = AP_OPTION_GROUP, .help = "Results"},
    {.name = "output",
     .short_name = 'o',
     .type = AP_OPTION_PATHS,
     .offset = FIELD(outputs),
     .metavar = "FILE",
     .help =
         "Write the profile here; the ending says how: .svg .json .collapsed .pb.gz .txt .speedscope.json, or - for "
         "standard output. With several modes each has its own file: NAME.MODE.svg (JSON holds them all). Without it "
         "tables are printed."},
    {.name = "format",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(format),
     .def = "auto",
     .choices = formats,
     .metavar = "FORMAT",
     .help = "Format of every output, whatever its name."},
    {.name = "top",
     .type = AP_OPTION_U64,
     .offset = FIELD(top),
     .def = "20",
     .min = 1,
     .max = 10000,
     .metavar = "N",
     .help = "Rows of each table on the terminal."},
    {.name = "quiet",
     .short_name = 'q',
     .type = AP_OPTION_BOOL,
     .offset = FIELD(quiet),
     .help = "No progress line, and no table when --output is given."},
    {.type = AP_OPTION_GROUP, .help = "Sending to an aggregator"},
    {.name = "aggregator",
     .type = AP_OPTION_STRING,
     .offset = FIELD(aggregator),
     .metavar = "URL",
     .env = "APERTURE_AGGREGATOR",
     .help = "Send what is recorded there every few seconds, as http://HOST:50051 or https://HOST:50051."},
    {.name = "label",
     .type = AP_OPTION_PATHS,
     .offset = FIELD(labels),
     .metavar = "NAME=VALUE",
     .help = "Label of everything that is sent, as service=web or zone=eu-1. The label host is there already."},
    {.name = "agent-id",
     .type = AP_OPTION_STRING,
     .offset = FIELD(agent_id),
     .metavar = "ID",
     .env = "APERTURE_AGENT_ID",
     .help =
         "Name of this agent, of letters, digits and . _ : -. Without it one that stays the same for this machine."},
    {.name = "push-interval",
     .type = AP_OPTION_DURATION,
     .offset = FIELD(push_interval_ns),
     .def = "5s",
     .min = 1000000000,
     .max = 300000000000,
     .metavar = "TIME",
     .help = "How often to send."},
    {.name = "spool-dir",
     .type = AP_OPTION_STRING,
     .offset = FIELD(spool_dir),
     .def = "/var/lib/aperture/spool",
     .metavar = "DIRECTORY",
     .env = "APERTURE_SPOOL_DIR",
     .help = "Where batches wait until the aggregator has acknowledged them."},
    {.name = "spool-size",
     .type = AP_OPTION_SIZE,
     .offset = FIELD(spool_sz),
     .def = "256M",
     .min = 1048576,
     .metavar = "SIZE",
     .env = "APERTURE_SPOOL_SIZE",
     .help = "Most bytes that wait there; beyond it the oldest batches go, which is counted and shown."},
    {.name = "auth-token",
     .type = AP_OPTION_STRING,
     .offset = FIELD(auth_token),
     .metavar = "TOKEN",
     .env = "APERTURE_AUTH_TOKEN",
     .help = "Token that the aggregator asks for. Rather set it in the environment: arguments are visible to others."},
    {.name = "tls-ca",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls_ca),
     .metavar = "FILE",
     .env = "APERTURE_TLS_CA",
     .help = "Certificates (PEM) of who may sign the aggregator's; without it those that the system trusts."},
    {.name = "tls-cert",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls_cert),
     .metavar = "FILE",
     .env = "APERTURE_TLS_CERT",
     .help = "Own certificate (PEM), for an aggregator that asks for one."},
    {.name = "tls-key",
     .type = AP_OPTION_STRING,
     .offset = FIELD(tls_key),
     .metavar = "FILE",
     .env = "APERTURE_TLS_KEY",
     .help = "Its private key (PEM)."},
    {.type = AP_OPTION_GROUP, .help = "Diagnosis"},
    {.name = "self-test",
     .type = AP_OPTION_BOOL,
     .offset = FIELD(self_test),
     .help = "Load every BPF program in each variant, say what this kernel can run, and exit."},
    {.name = "ready-fd",
     .type = AP_OPTION_U64,
     .offset = FIELD(ready_fd),
     .min = 3,
     .max = 1048576,
     .metavar = "FD",
     .help = "Write one byte to this descriptor when recording has begun (for programs that start the agent)."},
    {.name = "log-level",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(log_level),
     .def = "warn",
     .choices = log_levels,
     .metavar = "LEVEL",
     .env = "APERTURE_LOG_LEVEL",
     .help = "Least important message shown on standard error."},
    {.name = "log-format",
     .type = AP_OPTION_CHOICE,
     .offset = FIELD(log_format),
     .def = "text",
     .choices = log_formats,
     .metavar = "FORMAT",
     .env = "APERTURE_LOG_FORMAT",
     .help = "Messages as text, or as one JSON object a line."},
    {0},
};

const struct ap_options_spec ap_agent_options = {
    .program = "aperture-agent",
    .version = APERTURE_VERSION,
    .synopsis = "[--mode LIST] [--duration TIME] [--output FILE] [OPTION...]",
    .summary = "Profiles this machine, or some of its processes, with eBPF.",
    .epilog = "Examples:\n"
              "  aperture-agent --mode cpu --duration 30s --output flamegraph.svg\n"
              "  aperture-agent --mode cpu --pid 1234 --frequency 999 --duration 10s\n"
              "  aperture-agent --mode offcpu --waker --pid 1234 --duration 10s --output waits.svg\n"
              "  aperture-agent --mode lock,syscall --duration 10s\n"
              "  aperture-agent --mode cpu --duration 1m --output profile.pb.gz --output profile.json\n"
              "  aperture-agent --mode all --aggregator http://127.0.0.1:50051 --label service=web\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = options,
};

static int parse_pids(struct ap_agent_config *config, struct ap_error *err)
{
    uint64_t value;
    size_t i;
    int rc;

    for (i = 0; i < config->pids.cnt; i++) {
        rc = ap_parse_u64(config->pids.items[i], &value, err);
        if (!rc && (!value || value > INT32_MAX))
            rc = ap_error_set(err, -EINVAL, "\"%s\" is no process id", config->pids.items[i]);
        if (rc) {
            ap_error_prefix(err, "--pid");
            return rc;
        }
        config->pid_values[i] = (uint32_t)value;
    }
    return 0;
}

static int check_comms(const struct ap_agent_config *config, struct ap_error *err)
{
    size_t i;

    if (config->comms.cnt > AP_COMM_FILTERS_MAX)
        return ap_error_set(err, -EINVAL, "--comm: at most %d names", AP_COMM_FILTERS_MAX);
    for (i = 0; i < config->comms.cnt; i++)
        if (!config->comms.items[i][0] || strlen(config->comms.items[i]) >= AP_COMM_SZ)
            return ap_error_set(err, -EINVAL,
                                "--comm: \"%s\" cannot match: the kernel keeps 1 to %d bytes of a thread's name "
                                "(see /proc/PID/comm)",
                                config->comms.items[i], AP_COMM_SZ - 1);
    return 0;
}

static const struct {
    const char *name;
    uint8_t kind;
} modes[] = {{"cpu", AP_KIND_CPU}, {"offcpu", AP_KIND_OFFCPU}, {"lock", AP_KIND_LOCK}, {"syscall", AP_KIND_SYSCALL}};
#define MODE_CNT (sizeof(modes) / sizeof(modes[0]))

/* Takes one name of the list, `len` bytes of it. */
static int add_mode(struct ap_agent_config *config, const char *name, size_t len, struct ap_error *err)
{
    size_t i;

    for (i = 0; i < MODE_CNT; i++) {
        if (strlen(modes[i].name) == len && !memcmp(modes[i].name, name, len)) {
            config->modes |= AP_MODE(modes[i].kind);
            return 0;
        }
    }
    if (len == 3 && !memcmp(name, "all", 3)) {
        for (i = 0; i < MODE_CNT; i++)
            config->modes |= AP_MODE(modes[i].kind);
        return 0;
    }
    return ap_error_set(err, -EINVAL,
                        "--mode: \"%.*s\" is no mode: use cpu, offcpu, lock, syscall, several of them with "
                        "commas between, or all",
                        (int)(len < 64 ? len : 64), name);
}

static int parse_modes(struct ap_agent_config *config, struct ap_error *err)
{
    const char *name = config->mode, *end;
    int rc;

    for (;; name = end + 1) {
        end = strchrnul(name, ',');
        rc = add_mode(config, name, (size_t)(end - name), err);
        if (rc || !*end)
            return rc;
    }
}

static bool has_stacks(const struct ap_agent_config *config)
{
    return config->modes != AP_MODE(AP_KIND_SYSCALL) || config->stacks;
}

/* What the modes and an output's format have to say to each other. */
static int check_output(const struct ap_agent_config *config, const char *path, enum ap_format format,
                        struct ap_error *err)
{
    bool needs_stacks = format != AP_FORMAT_JSON && format != AP_FORMAT_TEXT;

    if (needs_stacks && !has_stacks(config))
        return ap_error_set(err, -EINVAL,
                            "--output %s: system calls are counted, not sampled, so there are no stacks to "
                            "show; use %s, or add --stacks for those of slow calls",
                            path, strcmp(path, "-") ? ".txt or .json" : "--format text or json");
    if (needs_stacks && !strcmp(path, "-") && config->modes & (config->modes - 1))
        return ap_error_set(err, -EINVAL,
                            "--output -: several modes do not fit into one stream of this format; use "
                            "--format json or text, one mode, or a file name");
    return 0;
}

static int choose_formats(struct ap_agent_config *config, struct ap_error *err)
{
    size_t i;
    int rc;

    for (i = 0; i < config->outputs.cnt; i++) {
        if (config->format != AP_FORMAT_CHOICE_AUTO) {
            config->output_formats[i] = (enum ap_format)(config->format - 1);
        } else {
            rc = ap_format_from_path(config->outputs.items[i], &config->output_formats[i], err);
            if (rc) {
                ap_error_prefix(err, "--output");
                return rc;
            }
        }
        rc = check_output(config, config->outputs.items[i], config->output_formats[i], err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Tries each label on a batch: it knows what labels may be. */
static int check_labels(const struct ap_agent_config *config, struct ap_error *err)
{
    struct ap_push *push = config->labels.cnt ? ap_push_new() : NULL;
    int rc = config->labels.cnt && !push ? ap_error_set(err, -ENOMEM, "out of memory") : 0;
    char *equals;
    size_t i;

    for (i = 0; !rc && i < config->labels.cnt; i++) {
        equals = strchr(config->labels.items[i], '=');
        if (!equals) {
            rc = ap_error_set(err, -EINVAL, "\"%s\" has no value: write NAME=VALUE", config->labels.items[i]);
            break;
        }
        *equals = '\0';
        rc = ap_push_label(push, config->labels.items[i], equals + 1, err);
        *equals = '=';
    }
    ap_push_free(push);
    return rc ? ap_error_prefix(err, "--label") : 0;
}

static int check_push(struct ap_agent_config *config, struct ap_error *err)
{
    if (!config->aggregator)
        return config->labels.cnt ? ap_error_set(err, -EINVAL, "--label needs --aggregator") : 0;
    if (config->outputs.cnt)
        return ap_error_set(err, -EINVAL,
                            "--output and --aggregator exclude each other: the aggregator keeps the profile, "
                            "\"aperture-cli export\" writes it to a file");
    if (!config->tls_cert != !config->tls_key)
        return ap_error_set(err, -EINVAL, "--tls-cert and --tls-key need each other");
    if (config->agent_id && !ap_push_agent_id_valid(config->agent_id))
        return ap_error_set(err, -EINVAL, "--agent-id: \"%s\" is not 1 to 128 letters, digits and . _ : -",
                            config->agent_id);
    if (config->agent_id)
        snprintf(config->agent_id_text, sizeof(config->agent_id_text), "%s", config->agent_id);
    else
        ap_pusher_default_id(config->agent_id_text);
    return check_labels(config, err);
}

int ap_agent_config_parse(struct ap_agent_config *config, int argc, char **argv, struct ap_error *err)
{
    int rc;

    rc = ap_options_parse(&ap_agent_options, config, sizeof(*config), argc, argv, NULL, err);
    if (rc)
        return rc;
    rc = parse_modes(config, err);
    if (!rc)
        rc = parse_pids(config, err);
    if (!rc && config->children && !config->pids.cnt)
        rc = ap_error_set(err, -EINVAL, "--children needs --pid: without it all processes are recorded anyway");
    if (!rc)
        rc = check_comms(config, err);
    if (!rc)
        rc = choose_formats(config, err);
    if (!rc)
        rc = check_push(config, err);
    return rc ? rc : AP_OPTIONS_RUN;
}

void ap_agent_config_done(struct ap_agent_config *config)
{
    ap_options_done(&ap_agent_options, config);
}
