/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/ask.h"
#include "cli/commands.h"
#include "cli/http.h"
#include "cli/table.h"
#include "core/clock.h"
#include "model/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_SZ (64u << 20)

static int out_of_memory(struct ap_error *err)
{
    ap_error_set(err, -ENOMEM, "out of memory");
    return AP_CLI_FAILED;
}

/* Agents
 * ----------------------------------------------------------------------------------------------------------------------
 */

static const struct ap_option agents_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "The question"},
    AP_CLI_OPTIONS_TIME("the newest hour"),
    AP_CLI_OPTIONS_SCOPE,
    AP_CLI_OPTIONS_ANSWER("agents"),
    {0},
};

const struct ap_options_spec ap_cli_agents_options = {
    .program = "aperture-cli agents",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...]",
    .summary = "Lists the agents that have sent something, and how they do.",
    .epilog = "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = agents_options,
};

static uint64_t number(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));

    return value > 0 ? (uint64_t)value : 0;
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value ? value : "";
}

/* "cpu=120 lock=3" of the kinds, and what they lost. */
static void add_kinds(struct ap_table *table, const json_t *kinds)
{
    struct ap_buf words;
    uint64_t lost = 0;
    const json_t *kind;
    size_t i;

    ap_buf_init(&words, AP_CLI_URL_SZ);
    json_array_foreach(kinds, i, kind)
    {
        ap_buf_printf(&words, "%s%s=%" PRIu64, i ? " " : "", text(kind, "kind"), number(kind, "events"));
        lost += number(kind, "lost");
    }
    ap_table_text(table, words.data ? words.data : "");
    ap_table_u64(table, lost);
    ap_buf_done(&words);
}

static struct ap_table *agents_table(const json_t *agents, size_t limit)
{
    static const struct ap_column columns[] = {
        {"agent_id", "AGENT", AP_CELL_TEXT},         {"host", "HOST", AP_CELL_TEXT},
        {"version", "VERSION", AP_CELL_TEXT},        {"kernel", "KERNEL", AP_CELL_TEXT},
        {"last_ns", "NEWEST", AP_CELL_TIME},         {"batches", "BATCHES", AP_CELL_COUNT},
        {"events", "EVENTS", AP_CELL_TEXT},          {"lost", "LOST", AP_CELL_COUNT},
        {"spool_bytes", "SPOOL", AP_CELL_BYTES},     {"spool_dropped_batches", "DROPPED", AP_CELL_COUNT},
        {"rss_peak_bytes", "MEMORY", AP_CELL_BYTES},
    };
    struct ap_table *table = ap_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    const json_t *agent;
    size_t i;

    if (!table)
        return NULL;
    json_array_foreach(agents, i, agent)
    {
        if (i == limit)
            break;
        ap_table_text(table, text(agent, "agent_id"));
        ap_table_text(table, text(agent, "host"));
        ap_table_text(table, text(agent, "version"));
        ap_table_text(table, text(agent, "kernel"));
        ap_table_u64(table, number(agent, "last_ns"));
        ap_table_u64(table, number(agent, "batches"));
        add_kinds(table, json_object_get(agent, "kinds"));
        ap_table_u64(table, number(agent, "spool_bytes"));
        ap_table_u64(table, number(agent, "spool_dropped_batches"));
        ap_table_u64(table, number(agent, "rss_peak_bytes"));
    }
    return table;
}

static int show_agents(const struct ap_cli_ask *ask, const struct ap_buf *data, struct ap_error *err)
{
    json_t *document = json_loadb(data->data ? data->data : "", data->len, 0, NULL);
    const json_t *agents = json_object_get(document, "agents");
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    struct ap_table *table = agents_table(agents, (size_t)ask->limit);
    int rc = -ENOMEM;

    if (!json_is_array(agents)) {
        rc = ap_error_set(err, -EBADMSG, "the answer is not understood: is that an aggregator of this version?");
    } else if (out && table) {
        if (ask->format == AP_CLI_JSON)
            ap_out_char(out, '{');
        rc = ap_table_write(table, ask->format, "agents", out);
        if (ask->format == AP_CLI_JSON)
            ap_out_str(out, "}\n");
        rc = rc ? rc : ap_out_flush(out);
        if (rc)
            ap_error_errno(err, rc, "cannot write the answer");
    }
    ap_table_free(table);
    ap_out_free(out);
    json_decref(document);
    return rc ? AP_CLI_FAILED : AP_CLI_OK;
}

/* "PATH?question" for the selector of the options. The exit status when it fails, else negative. */
static int make_path(const struct ap_cli_ask *ask, uint8_t default_kind, const char *path, struct ap_buf *ret_url,
                     struct ap_error *err)
{
    struct ap_selector selector;
    int rc = ap_cli_selector(ask, default_kind, ap_clock_realtime_ns(), AP_WINDOW_NS, &selector, err);

    if (rc)
        return AP_CLI_USAGE;
    ap_buf_str(ret_url, path);
    rc = ap_cli_http_question(&selector, ret_url);
    ap_selector_done(&selector);
    return rc ? out_of_memory(err) : -1;
}

int ap_cli_agents(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    struct ap_buf url, answer;
    struct ap_out *out;
    int rc = ap_cli_options(&ap_cli_agents_options, &ask, argc, argv, NULL, err);

    ap_buf_init(&url, AP_CLI_URL_SZ);
    ap_buf_init(&answer, ANSWER_SZ);
    out = ap_out_new_buf(&answer);
    if (rc < 0)
        rc = make_path(&ask, 0, "/api/agents", &url, err);
    if (rc < 0 && !out)
        rc = out_of_memory(err);
    if (rc < 0)
        rc = ap_cli_http(&ask, url.data, NULL, NULL, out, err) || ap_out_flush(out) ? AP_CLI_FAILED
                                                                                    : show_agents(&ask, &answer, err);
    ap_out_free(out);
    ap_buf_done(&url);
    ap_buf_done(&answer);
    ap_options_done(&ap_cli_agents_options, &ask);
    return rc;
}

/* Export
 * ----------------------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *ending, *name;
} exports[] = {{".speedscope.json", "speedscope"}, {".json", "json"},   {".collapsed", "collapsed"},
               {".folded", "collapsed"},           {".pb.gz", "pprof"}, {".svg", "svg"}};

static const struct ap_option export_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "What"},
    AP_CLI_OPTIONS_KIND("cpu"),
    AP_CLI_OPTIONS_TIME("the newest hour"),
    AP_CLI_OPTIONS_SCOPE,
    {.type = AP_OPTION_GROUP, .help = "Result"},
    {.name = "output",
     .short_name = 'o',
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(output),
     .def = "-",
     .metavar = "FILE",
     .help =
         "Write it here; the ending says how: .svg .json .collapsed .pb.gz .speedscope.json. - is standard output."},
    {.name = "as",
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(as),
     .metavar = "FORMAT",
     .help = "Format whatever the ending: json, collapsed, pprof, speedscope or svg."},
    {0},
};

const struct ap_options_spec ap_cli_export_options = {
    .program = "aperture-cli export",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...] --output FILE",
    .summary = "Writes what is stored as a file that other tools read.",
    .epilog = "Examples:\n  aperture-cli export --since 10m --output flamegraph.svg\n"
              "  aperture-cli export --kind lock --host web-1 --as pprof --output - | pprof -top -\n\n"
              "Exit status: 0 done, 1 failed, 2 wrong usage.",
    .options = export_options,
};

static bool ends_with(const char *name, const char *ending)
{
    size_t len = strlen(name), ending_len = strlen(ending);

    return len >= ending_len && !strcmp(name + len - ending_len, ending);
}

/* The name of the export endpoint. NULL with words. */
static const char *export_format(const struct ap_cli_ask *ask, struct ap_error *err)
{
    size_t i;

    for (i = 0; i < sizeof(exports) / sizeof(exports[0]); i++)
        if (ask->as ? !strcmp(ask->as, exports[i].name) : ends_with(ask->output, exports[i].ending))
            return exports[i].name;
    if (ask->as)
        ap_error_set(err, -EINVAL, "--as: \"%s\" is no format: use json, collapsed, pprof, speedscope or svg", ask->as);
    else if (!strcmp(ask->output, "-"))
        return "collapsed";
    else
        ap_error_set(err, -EINVAL,
                     "--output: the ending of \"%s\" names no format: use .svg .json .collapsed .pb.gz or "
                     ".speedscope.json, or say --as",
                     ask->output);
    return NULL;
}

/* Writes beside the file and moves it into place, so that a failure leaves nothing half-written. */
static int fetch_file(const struct ap_cli_ask *ask, const char *url, struct ap_error *err)
{
    bool to_stdout = !strcmp(ask->output, "-");
    struct ap_out *out = NULL;
    char *temp = NULL;
    int fd = STDOUT_FILENO, rc = 0;

    if (!to_stdout) {
        fd = asprintf(&temp, "%s.XXXXXX", ask->output) < 0 ? -1 : mkostemp(temp, O_CLOEXEC);
        if (fd < 0) {
            ap_error_errno(err, -errno, "cannot write \"%s\"", ask->output);
            free(temp);
            return AP_CLI_FAILED;
        }
    }
    out = ap_out_new_fd(fd);
    rc = out ? ap_cli_http(ask, url, NULL, NULL, out, err) : ap_error_set(err, -ENOMEM, "out of memory");
    if (!rc && (rc = ap_out_flush(out)))
        ap_error_errno(err, rc, "cannot write \"%s\"", ask->output);
    ap_out_free(out);
    if (!to_stdout) {
        fchmod(fd, 0644);
        if (close(fd) && !rc)
            rc = ap_error_errno(err, -errno, "cannot write \"%s\"", ask->output);
        if (!rc && rename(temp, ask->output))
            rc = ap_error_errno(err, -errno, "cannot write \"%s\"", ask->output);
        if (rc)
            unlink(temp);
        free(temp);
    }
    return rc ? AP_CLI_FAILED : AP_CLI_OK;
}

int ap_cli_export(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    const char *format = NULL;
    char path[64];
    struct ap_buf url;
    int rc = ap_cli_options(&ap_cli_export_options, &ask, argc, argv, NULL, err);

    ap_buf_init(&url, AP_CLI_URL_SZ);
    if (rc < 0) {
        format = export_format(&ask, err);
        rc = format ? -1 : AP_CLI_USAGE;
    }
    if (rc < 0) {
        snprintf(path, sizeof(path), "/api/export/%s", format);
        rc = make_path(&ask, AP_KIND_CPU, path, &url, err);
    }
    if (rc < 0)
        rc = fetch_file(&ask, url.data, err);
    ap_buf_done(&url);
    ap_options_done(&ap_cli_export_options, &ask);
    return rc;
}

/* Import
 * ----------------------------------------------------------------------------------------------------------------------
 */

static const struct ap_option import_options[] = {
    AP_CLI_OPTIONS_SERVER,
    {.type = AP_OPTION_GROUP, .help = "What it is"},
    {.name = "kind",
     .short_name = 'k',
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(kind),
     .metavar = "KIND",
     .help = "What was recorded, where the file does not say: cpu, offcpu, lock, syscall or gpu."},
    {.name = "label",
     .type = AP_OPTION_PATHS,
     .offset = AP_CLI_FIELD(labels),
     .metavar = "NAME=VALUE",
     .help = "Label of everything in it, as host=build-1 or service=web."},
    {.name = "start",
     .type = AP_OPTION_STRING,
     .offset = AP_CLI_FIELD(start),
     .metavar = "TIME",
     .help = "When it was recorded, where the file does not say. Without it: now."},
    {0},
};

const struct ap_options_spec ap_cli_import_options = {
    .program = "aperture-cli import",
    .version = APERTURE_VERSION,
    .synopsis = "[OPTION...] FILE...",
    .summary = "Stores profiles from files: an agent's JSON document, pprof, or collapsed stacks.",
    .epilog = "Examples:\n  aperture-cli import profile.json\n"
              "  aperture-cli import --kind cpu --label service=build cpu.pb.gz\n\n"
              "Exit status: 0 all are stored, 1 failed, 2 wrong usage.",
    .options = import_options,
    .allow_args = true,
};

static int import_url(const struct ap_cli_ask *ask, struct ap_buf *url, struct ap_error *err)
{
    char name[256];
    uint64_t start_ns;
    bool first = true;
    char *equals;
    size_t i;

    ap_buf_str(url, "/api/import");
    if (ask->kind) {
        ap_cli_http_param(url, first, "kind", ask->kind);
        first = false;
    }
    if (ask->start) {
        if (ap_selector_time(ask->start, ap_clock_realtime_ns(), &start_ns, err)) {
            ap_error_prefix(err, "--start");
            return AP_CLI_USAGE;
        }
        ap_cli_http_time(url, first, "start", start_ns);
        first = false;
    }
    for (i = 0; i < ask->labels.cnt; i++) {
        equals = strchr(ask->labels.items[i], '=');
        if (!equals || equals - ask->labels.items[i] > 128) {
            ap_error_set(err, -EINVAL, "--label: \"%s\" is not NAME=VALUE", ask->labels.items[i]);
            return AP_CLI_USAGE;
        }
        snprintf(name, sizeof(name), "label.%.*s", (int)(equals - ask->labels.items[i]), ask->labels.items[i]);
        ap_cli_http_param(url, first, name, equals + 1);
        first = false;
    }
    return url->error ? out_of_memory(err) : -1;
}

static int import_file(const struct ap_cli_ask *ask, const char *url, const char *path, struct ap_error *err)
{
    FILE *file = !strcmp(path, "-") ? stdin : fopen(path, "re");
    struct ap_buf answer;
    struct ap_out *out;
    int rc;

    if (!file) {
        ap_error_errno(err, -errno, "cannot read \"%s\"", path);
        return AP_CLI_FAILED;
    }
    ap_buf_init(&answer, ANSWER_SZ);
    out = ap_out_new_buf(&answer);
    rc = out ? ap_cli_http(ask, url, file, "application/octet-stream", out, err)
             : ap_error_set(err, -ENOMEM, "out of memory");
    if (rc)
        ap_error_prefix(err, "%s", path);
    if (file != stdin)
        fclose(file);
    ap_out_free(out);
    ap_buf_done(&answer);
    return rc ? AP_CLI_FAILED : AP_CLI_OK;
}

int ap_cli_import(int argc, char **argv, struct ap_error *err)
{
    struct ap_cli_ask ask;
    struct ap_buf url;
    int first = argc, i, rc = ap_cli_options(&ap_cli_import_options, &ask, argc, argv, &first, err);

    ap_buf_init(&url, AP_CLI_URL_SZ);
    if (rc < 0 && first >= argc) {
        ap_error_set(err, -EINVAL, "which file? aperture-cli import FILE...");
        rc = AP_CLI_USAGE;
    }
    if (rc < 0)
        rc = import_url(&ask, &url, err);
    if (rc < 0) {
        rc = AP_CLI_OK;
        for (i = first; i < argc && !rc; i++) {
            rc = import_file(&ask, url.data, argv[i], err);
            if (!rc)
                fprintf(stderr, "aperture-cli: stored %s\n", argv[i]);
        }
    }
    ap_buf_done(&url);
    ap_options_done(&ap_cli_import_options, &ask);
    return rc;
}
