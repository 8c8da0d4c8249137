/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The option table as --help text and as Markdown. */
#include "core/options_internal.h"

#include <stdio.h>
#include <string.h>

#define WIDTH       79 /* columns of a line */
#define HELP_COLUMN 30 /* where the descriptions start */

struct wrap {
    struct ap_out *out;
    size_t indent;
    size_t column;
    bool blank; /* at the start of a line, or right behind an opening bracket: no space before the next word */
};

static void pad_to(struct wrap *wrap, size_t column)
{
    for (; wrap->column < column; wrap->column++)
        ap_out_char(wrap->out, ' ');
}

static void break_line(struct wrap *wrap)
{
    ap_out_char(wrap->out, '\n');
    wrap->column = 0;
    pad_to(wrap, wrap->indent);
    wrap->blank = true;
}

/* Writes words with line breaks where they no longer fit; '\n' in the text breaks too. */
static void put_words(struct wrap *wrap, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, " \n");

        if (len > 0) {
            if (!wrap->blank && wrap->column + 1 + len > WIDTH)
                break_line(wrap);
            if (!wrap->blank)
                ap_out_char(wrap->out, ' ');
            ap_out_write(wrap->out, text, len);
            wrap->column += len + !wrap->blank;
            wrap->blank = false;
        }
        text += len;
        if (*text == '\n')
            break_line(wrap);
        text += *text != '\0';
    }
}

static const char *metavar(const struct ap_option *opt)
{
    if (opt->metavar)
        return opt->metavar;
    switch (opt->type) {
    case AP_OPTION_U64:
        return "N";
    case AP_OPTION_DURATION:
        return "DURATION";
    case AP_OPTION_SIZE:
        return "SIZE";
    case AP_OPTION_CHOICE:
        return "CHOICE";
    case AP_OPTION_LIST:
        return "LIST";
    case AP_OPTION_PATHS:
        return "FILE";
    default:
        return "TEXT";
    }
}

/* "-f, --frequency=HZ"; `spec` tells whether a built-in's short name was taken over by the table. */
static void format_names(const struct ap_options_spec *spec, const struct ap_option *opt, char *ret, size_t ret_sz)
{
    bool has_value = opt->type != AP_OPTION_BOOL;
    char short_name[8] = "";

    if (opt->short_name && ap_option_by_short(spec, opt->short_name) == opt)
        (void)snprintf(short_name, sizeof(short_name), "-%c, ", opt->short_name);
    (void)snprintf(ret, ret_sz, "%s--%s%s%s", short_name, opt->name, has_value ? "=" : "",
                   has_value ? metavar(opt) : "");
}

static void put_choices(struct wrap *wrap, const struct ap_option *opt)
{
    char word[128];

    put_words(wrap, "One of:");
    for (size_t i = 0; opt->choices[i]; i++) {
        (void)snprintf(word, sizeof(word), "%s%s", opt->choices[i], opt->choices[i + 1] ? "," : ".");
        put_words(wrap, word);
    }
}

/* What the table knows beyond the help text: choices, default, bounds, environment. */
static void put_facts(struct wrap *wrap, const struct ap_option *opt)
{
    char range[AP_OPTION_RANGE_SZ];
    char text[256];

    if (opt->type == AP_OPTION_CHOICE)
        put_choices(wrap, opt);
    if (opt->type == AP_OPTION_LIST)
        put_words(wrap, "May be repeated; commas separate values.");
    if (opt->type == AP_OPTION_PATHS)
        put_words(wrap, "May be repeated.");
    ap_option_range(opt, range);
    if (range[0]) {
        (void)snprintf(text, sizeof(text), "Range: %s.", range);
        put_words(wrap, text);
    }
    if (opt->def && *opt->def) {
        (void)snprintf(text, sizeof(text), "Default: %s.", opt->def);
        put_words(wrap, text);
    }
    if (opt->env) {
        (void)snprintf(text, sizeof(text), "Environment: %s.", opt->env);
        put_words(wrap, text);
    }
}

static void put_option(const struct ap_options_spec *spec, const struct ap_option *opt, struct ap_out *out)
{
    struct wrap wrap = {.out = out, .indent = HELP_COLUMN, .blank = true};
    bool has_short = opt->short_name && ap_option_by_short(spec, opt->short_name) == opt;
    char names[256];

    format_names(spec, opt, names, sizeof(names));
    pad_to(&wrap, has_short ? 2 : 6); /* long names stand below each other */
    ap_out_str(out, names);
    wrap.column += strlen(names);
    if (wrap.column + 2 > HELP_COLUMN)
        break_line(&wrap);
    pad_to(&wrap, HELP_COLUMN);
    put_words(&wrap, opt->help ? opt->help : "");
    put_facts(&wrap, opt);
    ap_out_char(out, '\n');
}

void ap_options_help(const struct ap_options_spec *spec, struct ap_out *out)
{
    const char *synopsis = spec->synopsis ? spec->synopsis : "[OPTION...]";

    ap_out_printf(out, "Usage: %s %s\n", spec->program, synopsis);
    if (spec->summary) {
        struct wrap wrap = {.out = out, .blank = true};
        put_words(&wrap, spec->summary);
        ap_out_char(out, '\n');
    }
    if (spec->options->type != AP_OPTION_GROUP)
        ap_out_char(out, '\n');
    for (const struct ap_option *opt = spec->options; !ap_option_is_end(opt); opt++) {
        if (opt->type == AP_OPTION_GROUP)
            ap_out_printf(out, "\n%s:\n", opt->help);
        else
            put_option(spec, opt, out);
    }
    ap_out_char(out, '\n');
    for (const struct ap_option *opt = ap_option_builtins; !ap_option_is_end(opt); opt++)
        put_option(spec, opt, out);
    if (spec->epilog)
        ap_out_printf(out, "\n%s\n", spec->epilog);
}

/* Text of a table cell: nothing in it may end the cell or start an HTML element. */
static void put_cell(struct ap_out *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|' || *text == '<')
            ap_out_char(out, '\\');
        ap_out_char(out, (char)(*text == '\n' ? ' ' : *text));
    }
}

/* A code span; backslashes do not escape in there, except before '|' in a table. */
static void put_code(struct ap_out *out, const char *text)
{
    if (!text || !*text)
        return;
    ap_out_char(out, '`');
    for (; *text; text++) {
        if (*text == '|')
            ap_out_char(out, '\\');
        ap_out_char(out, *text);
    }
    ap_out_char(out, '`');
}

static void put_accepted(struct ap_out *out, const struct ap_option *opt)
{
    char range[AP_OPTION_RANGE_SZ];

    ap_option_range(opt, range);
    ap_out_str(out, range);
    if (opt->type == AP_OPTION_LIST)
        ap_out_str(out, "repeatable, commas separate");
    if (opt->type == AP_OPTION_PATHS)
        ap_out_str(out, "repeatable");
    for (size_t i = 0; opt->type == AP_OPTION_CHOICE && opt->choices[i]; i++) {
        ap_out_str(out, i > 0 ? ", " : "");
        put_code(out, opt->choices[i]);
    }
}

static void put_row(const struct ap_options_spec *spec, const struct ap_option *opt, struct ap_out *out)
{
    char names[256];

    format_names(spec, opt, names, sizeof(names));
    ap_out_str(out, "| ");
    put_code(out, names);
    ap_out_str(out, " | ");
    put_code(out, opt->def);
    ap_out_str(out, " | ");
    put_accepted(out, opt);
    ap_out_str(out, " | ");
    put_code(out, opt->env);
    ap_out_str(out, " | ");
    put_cell(out, opt->help ? opt->help : "");
    ap_out_str(out, " |\n");
}

static void put_table_head(struct ap_out *out, const char *heading)
{
    ap_out_printf(out, "\n### %s\n\n| Option | Default | Accepts | Environment | Meaning |\n", heading);
    ap_out_str(out, "| --- | --- | --- | --- | --- |\n");
}

void ap_options_markdown(const struct ap_options_spec *spec, struct ap_out *out)
{
    ap_out_printf(out, "## %s\n", spec->program);
    if (spec->summary)
        ap_out_printf(out, "\n%s\n", spec->summary);
    ap_out_printf(out, "\n    %s %s\n", spec->program, spec->synopsis ? spec->synopsis : "[OPTION...]");
    if (spec->options->type != AP_OPTION_GROUP)
        put_table_head(out, "Options");
    for (const struct ap_option *opt = spec->options; !ap_option_is_end(opt); opt++) {
        if (opt->type == AP_OPTION_GROUP)
            put_table_head(out, opt->help);
        else
            put_row(spec, opt, out);
    }
    put_table_head(out, "General");
    for (const struct ap_option *opt = ap_option_builtins; !ap_option_is_end(opt); opt++)
        put_row(spec, opt, out);
}
