/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "cli/commands.h"
#include "cli/profile.h"
#include "core/log.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define EXIT_USAGE 2

static const char program[] = "aperture-cli";

static const struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv, struct ap_error *err);
} commands[] = {
    {"profile", "start a command and profile it", ap_cli_profile},
    {"top", "functions in which time goes, over all agents", ap_cli_top},
    {"aggregate", "functions, locks or system calls of a range", ap_cli_aggregate},
    {"diff", "what changed between two ranges", ap_cli_diff},
    {"query", "the newest batches, or the heaviest stacks", ap_cli_query},
    {"agents", "who sends, and how they do", ap_cli_agents},
    {"export", "write what is stored to a file", ap_cli_export},
    {"import", "store profiles from files", ap_cli_import},
};

#define COMMAND_CNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
    size_t i;

    fprintf(out, "Usage: %s COMMAND [OPTION...]\n\n", program);
    for (i = 0; i < COMMAND_CNT; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n\"%s COMMAND --help\" tells more.\n", program);
}

int main(int argc, char **argv)
{
    struct ap_error err = {0};
    size_t i;
    int status;

    ap_log_setup(program, AP_LOG_WARN, AP_LOG_TEXT);
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("%s %s\n", program, APERTURE_VERSION);
        return 0;
    }
    for (i = 0; i < COMMAND_CNT; i++) {
        if (strcmp(argv[1], commands[i].name))
            continue;
        status = commands[i].run(argc - 1, argv + 1, &err);
        if (err.code)
            ap_log_error("%s", err.text);
        return status;
    }
    ap_log_error("unknown command \"%s\" (see %s --help)", argv[1], program);
    return EXIT_USAGE;
}
