/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The commands that ask an aggregator. `argv[0]` is the command's own name. Each returns the exit status, with `err`
 * set when it is not 0. */
#ifndef APERTURE_CLI_COMMANDS_H
#define APERTURE_CLI_COMMANDS_H

#include "core/error.h"
#include "core/options.h"

/* By gRPC. */
int ap_cli_query(int argc, char **argv, struct ap_error *err);
int ap_cli_aggregate(int argc, char **argv, struct ap_error *err);
int ap_cli_top(int argc, char **argv, struct ap_error *err);
int ap_cli_diff(int argc, char **argv, struct ap_error *err);

/* By HTTP. */
int ap_cli_agents(int argc, char **argv, struct ap_error *err);
int ap_cli_export(int argc, char **argv, struct ap_error *err);
int ap_cli_import(int argc, char **argv, struct ap_error *err);

/* Their options, for the docs. */
extern const struct ap_options_spec ap_cli_query_options, ap_cli_aggregate_options, ap_cli_top_options,
    ap_cli_diff_options, ap_cli_agents_options, ap_cli_export_options, ap_cli_import_options;

#endif
