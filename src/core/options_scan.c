/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Walks the command line before argp does: argp can neither take '_' for '-' nor say which option was wrong.
 */
#include "core/options_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Longer names are not compared: nobody mistypes that much. */
#define NAME_SZ 64

const struct ap_option ap_option_builtins[] = {
    {.name = "help", .short_name = 'h', .type = AP_OPTION_BOOL, .help = "Print this help and exit."},
    {.name = "version", .short_name = 'V', .type = AP_OPTION_BOOL, .help = "Print the version and exit."},
    {0},
};

bool ap_option_is_end(const struct ap_option *opt)
{
    return !opt->name && opt->type == AP_OPTION_GROUP && !opt->help;
}

static const struct ap_option *find_name(const struct ap_option *opt, const char *name)
{
    for (; !ap_option_is_end(opt); opt++) {
        if (opt->type != AP_OPTION_GROUP && strcmp(opt->name, name) == 0)
            return opt;
    }
    return NULL;
}

static const struct ap_option *find_short(const struct ap_option *opt, char c)
{
    for (; !ap_option_is_end(opt); opt++) {
        if (opt->type != AP_OPTION_GROUP && opt->short_name == c)
            return opt;
    }
    return NULL;
}

const struct ap_option *ap_option_by_name(const struct ap_options_spec *spec, const char *name)
{
    const struct ap_option *opt = find_name(spec->options, name);

    return opt ? opt : find_name(ap_option_builtins, name);
}

const struct ap_option *ap_option_by_short(const struct ap_options_spec *spec, char c)
{
    const struct ap_option *opt = find_short(spec->options, c);

    return opt ? opt : find_short(ap_option_builtins, c);
}

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein distance. Names of NAME_SZ and more are infinitely far. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_SZ];
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);

    if (a_len >= NAME_SZ || b_len >= NAME_SZ)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;

            row[j] = min_of(min_of(above, row[j - 1]) + 1, diagonal + cost);
            diagonal = above;
        }
    }
    return row[b_len];
}

/* Takes the table's best match when it is better than *best. */
static void look_near(const struct ap_option *opt, const char *name, size_t *best, const char **ret)
{
    for (; !ap_option_is_end(opt); opt++) {
        if (opt->type == AP_OPTION_GROUP)
            continue;
        /* An abbreviation is as good as one mistyped letter. */
        bool prefix = name[0] && name[1] && strncmp(opt->name, name, strlen(name)) == 0;
        size_t far = prefix ? 1 : distance(opt->name, name);
        if (far < *best) {
            *best = far;
            *ret = opt->name;
        }
    }
}

const char *ap_option_nearest(const struct ap_options_spec *spec, const char *name)
{
    size_t best = strlen(name) / 3 + 2; /* one past the farthest that still looks like a typing error */
    const char *nearest = NULL;

    look_near(spec->options, name, &best, &nearest);
    look_near(ap_option_builtins, name, &best, &nearest);
    return nearest;
}

struct walk {
    struct ap_option_scan *scan;
    const struct ap_options_spec *spec;
    struct ap_error *err;
    int argc;
    char **argv;
    int pos;     /* token being read */
    char *names; /* next free byte of scan->names */
};

static void push(struct ap_option_scan *scan, char *token)
{
    scan->argv[scan->argc++] = token;
}

/* Passes the token after the current one on as the option's value. */
static int push_value(struct walk *walk, const char *shown)
{
    if (walk->pos + 1 >= walk->argc)
        return ap_error_set(walk->err, -EINVAL, "option '%s' needs a value", shown);
    push(walk->scan, walk->argv[++walk->pos]);
    return 0;
}

static int unknown_option(struct walk *walk, const char *shown, const char *name)
{
    const char *nearest = ap_option_nearest(walk->spec, name);

    if (nearest)
        return ap_error_set(walk->err, -EINVAL, "unknown option '%s': did you mean '--%s'?", shown, nearest);
    return ap_error_set(walk->err, -EINVAL, "unknown option '%s': '%s --help' lists the known ones", shown,
                        walk->spec->program);
}

/* Copies "--name" of the token, '_' turned into '-'. */
static char *copy_name(struct walk *walk, const char *token)
{
    char *name = walk->names;
    size_t len = strcspn(token, "=");

    for (size_t i = 0; i < len; i++)
        name[i] = (char)(token[i] == '_' ? '-' : token[i]);
    name[len] = '\0';
    walk->names += len + 1;
    return name;
}

static int scan_long(struct walk *walk)
{
    char *token = walk->argv[walk->pos];
    char *value = strchr(token, '=');
    char *name = copy_name(walk, token);
    const struct ap_option *opt = ap_option_by_name(walk->spec, name + 2);

    if (!opt)
        return unknown_option(walk, name, name + 2);
    if (opt->type == AP_OPTION_BOOL && value)
        return ap_error_set(walk->err, -EINVAL, "option '%s' takes no value, but was given '%s'", name, value + 1);

    push(walk->scan, name);
    if (opt == &ap_option_builtins[0] || opt == &ap_option_builtins[1])
        walk->scan->builtin = opt;
    else if (value)
        push(walk->scan, value + 1); /* a token of its own, so that it keeps pointing into argv */
    else if (opt->type != AP_OPTION_BOOL)
        return push_value(walk, name);
    return 0;
}

static int scan_short(struct walk *walk)
{
    char *token = walk->argv[walk->pos];

    push(walk->scan, token);
    for (const char *c = token + 1; *c; c++) {
        const struct ap_option *opt = ap_option_by_short(walk->spec, *c);
        char shown[] = {'-', *c, '\0'};

        if (!opt) /* "-name" may have been meant as "--name" */
            return unknown_option(walk, token[2] ? token : shown, token + 1);
        if (opt == &ap_option_builtins[0] || opt == &ap_option_builtins[1]) {
            walk->scan->builtin = opt;
            return 0;
        }
        if (opt->type != AP_OPTION_BOOL)
            return c[1] ? 0 : push_value(walk, shown);
    }
    return 0;
}

static int walk_tokens(struct walk *walk)
{
    for (walk->pos = 1; walk->pos < walk->argc; walk->pos++) {
        const char *token = walk->argv[walk->pos];
        bool dashes = strcmp(token, "--") == 0;

        if (dashes || token[0] != '-' || token[1] == '\0') {
            walk->pos += dashes;
            break;
        }
        int rc = token[1] == '-' ? scan_long(walk) : scan_short(walk);
        if (rc || walk->scan->builtin)
            return rc;
    }
    if (walk->pos < walk->argc && !walk->spec->allow_args)
        return ap_error_set(walk->err, -EINVAL, "unexpected argument '%s': '%s' takes options only",
                            walk->argv[walk->pos], walk->spec->program);
    walk->scan->first_arg = walk->pos < walk->argc ? walk->pos : walk->argc;
    return 0;
}

int ap_option_scan(struct ap_option_scan *scan, const struct ap_options_spec *spec, int argc, char **argv,
                   struct ap_error *err)
{
    size_t names_sz = 1;

    *scan = (struct ap_option_scan){.first_arg = argc};
    for (int i = 1; i < argc; i++)
        names_sz += strlen(argv[i]) + 1;
    scan->names = (char *)calloc(names_sz, 1);
    /* "--name=value" becomes two tokens; one more each for the program and the end. */
    scan->argv = (char **)calloc((size_t)(argc > 0 ? argc : 0) * 2 + 2, sizeof(char *));
    if (!scan->names || !scan->argv)
        return ap_error_set(err, -ENOMEM, "out of memory while reading the command line");

    push(scan, argc > 0 ? argv[0] : scan->names);
    struct walk walk = {.scan = scan, .spec = spec, .err = err, .argc = argc, .argv = argv};
    walk.names = scan->names + 1;
    return walk_tokens(&walk);
}

void ap_option_scan_done(struct ap_option_scan *scan)
{
    free((void *)scan->argv);
    free(scan->names);
    *scan = (struct ap_option_scan){0};
}
