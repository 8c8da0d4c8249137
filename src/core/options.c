/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "core/options_internal.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* argp keys: the row's number past every character, so that rows without a short name have one too. */
#define KEY_BASE 0x100

struct parse {
    const struct ap_options_spec *spec;
    void *config;
    struct ap_error *err;
    struct argp_option *rows; /* what argp reads */
    bool *seen;               /* by row: set on the command line */
};

static size_t count_rows(const struct ap_option *opt)
{
    size_t cnt = 0;

    while (!ap_option_is_end(&opt[cnt]))
        cnt++;
    return cnt;
}

static error_t on_option(int key, char *arg, struct argp_state *state)
{
    const struct parse *parse = (const struct parse *)state->input;
    char source[128];

    for (size_t i = 0; !ap_option_is_end(&parse->spec->options[i]); i++) {
        const struct ap_option *opt = &parse->spec->options[i];

        if (opt->type == AP_OPTION_GROUP || (key != (int)i + KEY_BASE && key != opt->short_name) || key == 0)
            continue;
        parse->seen[i] = true;
        (void)snprintf(source, sizeof(source), "--%s", opt->name);
        return -ap_option_set(opt, parse->config, arg, source, parse->err);
    }
    return ARGP_ERR_UNKNOWN;
}

/* Two rows an option: argp has the short name in the key, so the long one gets a row of its own. */
static void fill_rows(const struct ap_options_spec *spec, struct argp_option *row)
{
    for (size_t i = 0; !ap_option_is_end(&spec->options[i]); i++) {
        const struct ap_option *opt = &spec->options[i];

        if (opt->type == AP_OPTION_GROUP)
            continue;
        const char *arg = opt->type == AP_OPTION_BOOL ? NULL : "VALUE";
        *row++ = (struct argp_option){.name = opt->name, .key = (int)i + KEY_BASE, .arg = arg};
        if (opt->short_name)
            *row++ = (struct argp_option){.key = opt->short_name, .arg = arg, .doc = ""};
    }
}

static int read_argv(struct parse *parse, struct ap_option_scan *scan)
{
    const struct argp argp = {.options = parse->rows, .parser = on_option};

    fill_rows(parse->spec, parse->rows);
    error_t code = argp_parse(&argp, scan->argc, scan->argv, ARGP_SILENT | ARGP_IN_ORDER, NULL, parse);
    if (code && parse->err->code == 0)
        return ap_error_errno(parse->err, -code, "cannot read the command line");
    return -code;
}

/* Gives an option that the command line left out its value from the environment, or else its default. */
static int set_absent(const struct ap_option *opt, void *config, struct ap_error *err)
{
    char source[256];
    const char *text = opt->env ? getenv(opt->env) : NULL;

    if (text && *text) { /* an empty variable is an unset one */
        (void)snprintf(source, sizeof(source), "%s (environment, for --%s)", opt->env, opt->name);
        return ap_option_set(opt, config, text, source, err);
    }
    bool list = opt->type == AP_OPTION_LIST || opt->type == AP_OPTION_PATHS;
    if (!opt->def || (list && !*opt->def))
        return 0;
    (void)snprintf(source, sizeof(source), "default of --%s", opt->name);
    return ap_option_set(opt, config, opt->def, source, err);
}

static int fill_config(struct parse *parse, struct ap_option_scan *scan)
{
    int rc = read_argv(parse, scan);

    for (size_t i = 0; !rc && !ap_option_is_end(&parse->spec->options[i]); i++) {
        if (!parse->seen[i])
            rc = set_absent(&parse->spec->options[i], parse->config, parse->err);
    }
    if (rc)
        ap_options_done(parse->spec, parse->config);
    return rc;
}

static int print_builtin(const struct ap_options_spec *spec, const struct ap_option *opt, struct ap_error *err)
{
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);

    if (!out)
        return ap_error_set(err, -ENOMEM, "out of memory");
    (void)fflush(stdout); /* what the caller printed before comes before */
    if (opt == &ap_option_builtins[0])
        ap_options_help(spec, out);
    else
        ap_out_printf(out, "%s %s\n", spec->program, spec->version);

    int rc = ap_out_flush(out);
    ap_out_free(out);
    if (rc)
        return ap_error_errno(err, rc, "cannot write to the standard output");
    return AP_OPTIONS_EXIT;
}

static int parse_scanned(const struct ap_options_spec *spec, void *config, struct ap_option_scan *scan,
                         struct ap_error *err)
{
    size_t cnt = count_rows(spec->options);
    struct parse parse = {.spec = spec, .config = config, .err = err};
    int rc;

    parse.rows = (struct argp_option *)calloc(cnt * 2 + 1, sizeof(*parse.rows));
    parse.seen = (bool *)calloc(cnt + 1, sizeof(*parse.seen));
    if (parse.rows && parse.seen)
        rc = fill_config(&parse, scan);
    else
        rc = ap_error_set(err, -ENOMEM, "out of memory while reading the command line");
    free(parse.rows);
    free(parse.seen);
    return rc;
}

int ap_options_parse(const struct ap_options_spec *spec, void *config, size_t config_sz, int argc, char **argv,
                     int *ret_first_arg, struct ap_error *err)
{
    struct ap_error own_err = {0};
    struct ap_option_scan scan;

    err = err ? err : &own_err;
    *err = (struct ap_error){0};
    memset(config, 0, config_sz);

    int rc = ap_option_scan(&scan, spec, argc, argv, err);
    if (rc == 0 && scan.builtin)
        rc = print_builtin(spec, scan.builtin, err);
    else if (rc == 0)
        rc = parse_scanned(spec, config, &scan, err);
    if (rc == AP_OPTIONS_RUN && ret_first_arg)
        *ret_first_arg = scan.first_arg;
    ap_option_scan_done(&scan);
    return rc;
}

void ap_options_done(const struct ap_options_spec *spec, void *config)
{
    if (!config)
        return;
    for (const struct ap_option *opt = spec->options; !ap_option_is_end(opt); opt++)
        ap_option_clear(opt, config);
}
