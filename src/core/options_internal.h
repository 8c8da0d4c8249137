/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What options.c, options_scan.c, options_value.c and options_help.c share. */
#ifndef APERTURE_CORE_OPTIONS_INTERNAL_H
#define APERTURE_CORE_OPTIONS_INTERNAL_H

#include "core/options.h"

/* Longest text of ap_option_range(). */
#define AP_OPTION_RANGE_SZ 128

/* --help and --version, which every program has; ends like any table. */
extern const struct ap_option ap_option_builtins[];

bool ap_option_is_end(const struct ap_option *opt);

/* Known option (of the table or built in), or NULL. */
const struct ap_option *ap_option_by_name(const struct ap_options_spec *spec, const char *name);
const struct ap_option *ap_option_by_short(const struct ap_options_spec *spec, char c);

/* Known long name most like `name`, or NULL when none is close. */
const char *ap_option_nearest(const struct ap_options_spec *spec, const char *name);

/* What the bounds allow, "1 to 10000" or "at least 10ms"; "" when there are none. */
void ap_option_range(const struct ap_option *opt, char ret[AP_OPTION_RANGE_SZ]);

/* A command line cut into what argp reads and what it never sees. */
struct ap_option_scan {
    int argc;
    char **argv;                     /* options in canonical spelling; values point into the caller's argv */
    char *names;                     /* where the canonical names lie */
    int first_arg;                   /* index in the caller's argv, its argc when there is none */
    const struct ap_option *builtin; /* --help or --version, whichever was met first */
};

/* Walks the command line up to the first positional argument or built-in option. 0, -EINVAL or -ENOMEM. Call
 * ap_option_scan_done() in any case. */
int ap_option_scan(struct ap_option_scan *scan, const struct ap_options_spec *spec, int argc, char **argv,
                   struct ap_error *err);
void ap_option_scan_done(struct ap_option_scan *scan);

/* Reads `text` into the option's field. `text` NULL stands for a flag given. 0, -EINVAL, -ERANGE or -ENOMEM,
 * the error beginning with `source`. */
int ap_option_set(const struct ap_option *opt, void *config, const char *text, const char *source,
                  struct ap_error *err);

/* Frees the field if it is a list. */
void ap_option_clear(const struct ap_option *opt, void *config);

#endif
