/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Command-line options as tables: one row gives type, default, bounds, environment variable and help, and everything
 * (parsing, --help, docs/options.md) is derived from it. Parsing is done by glibc's argp underneath. */
#ifndef APERTURE_CORE_OPTIONS_H
#define APERTURE_CORE_OPTIONS_H

#include "core/error.h"
#include "core/out.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ap_option_type {
    AP_OPTION_GROUP = 0,    /* heading in --help; only `help` is used */
    AP_OPTION_BOOL = 1,     /* field: bool; no argument on the command line, 0/1/true/false/yes/no in the environment */
    AP_OPTION_U64 = 2,      /* field: uint64_t */
    AP_OPTION_DURATION = 3, /* field: uint64_t, ns */
    AP_OPTION_SIZE = 4,     /* field: uint64_t, bytes */
    AP_OPTION_STRING = 5,   /* field: const char *, borrowed from argv or the environment */
    AP_OPTION_CHOICE = 6,   /* field: uint32_t, index into `choices` */
    AP_OPTION_LIST = 7,     /* field: struct ap_option_list; repeatable, commas separate too */
    AP_OPTION_PATHS = 8,    /* field: struct ap_option_list; repeatable, commas belong to the name */
};

/* Most values one repeatable option takes. */
#define AP_OPTION_LIST_MAX 64

struct ap_option_list {
    size_t cnt;
    char *items[AP_OPTION_LIST_MAX]; /* owned; freed by ap_options_done */
};

struct ap_option {
    const char *name; /* long name without dashes; '_' in the user's spelling is taken as '-' */
    char short_name;  /* 0 = none */
    enum ap_option_type type;
    size_t offset;              /* of the field in the configuration struct */
    const char *def;            /* default, in the form a user would type; NULL = zeroed field */
    uint64_t min, max;          /* bounds for U64, DURATION, SIZE; max 0 = no upper bound */
    const char *const *choices; /* NULL-terminated, for CHOICE */
    const char *metavar;        /* "N", "FILE" ... in --help */
    const char *env;            /* environment variable that sets it when the flag is absent; NULL = none */
    const char *help;           /* one or two sentences, no trailing newline */
};

struct ap_options_spec {
    const char *program;             /* "aperture-agent" */
    const char *version;             /* printed by --version as "program version" */
    const char *synopsis;            /* after the program name in the usage line: "--mode cpu [OPTION...]" */
    const char *summary;             /* sentence(s) before the options in --help */
    const char *epilog;              /* examples after the options; may be NULL */
    const struct ap_option *options; /* ends with a row whose name is NULL and type is GROUP and help is NULL */
    bool allow_args;                 /* positional arguments accepted (parsing stops at the first one or at "--") */
};

enum ap_options_result {
    AP_OPTIONS_RUN = 0,  /* go on */
    AP_OPTIONS_EXIT = 1, /* --help or --version was asked for and printed to stdout: exit 0 */
};

/* Fills `config` (zeroed first up to `config_sz`): defaults, then environment, then the command line.
 * `ret_first_arg` (may be NULL) gets the index of the first positional argument in argv.
 * AP_OPTIONS_RUN, AP_OPTIONS_EXIT, or -EINVAL / -ERANGE / -ENOMEM with `err` naming the option, the value, and what is
 * accepted (an unknown option is answered with the nearest known name). Never prints errors, never exits. */
int ap_options_parse(const struct ap_options_spec *spec, void *config, size_t config_sz, int argc, char **argv,
                     int *ret_first_arg, struct ap_error *err);

/* Frees what parsing allocated inside `config` (lists). */
void ap_options_done(const struct ap_options_spec *spec, void *config);

/* Writes the --help text, or the same table as Markdown for the docs. */
void ap_options_help(const struct ap_options_spec *spec, struct ap_out *out);
void ap_options_markdown(const struct ap_options_spec *spec, struct ap_out *out);

#endif
