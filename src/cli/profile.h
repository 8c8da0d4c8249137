/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* "aperture-cli profile -- COMMAND ARGS...": starts a command and has the agent profile exactly it. */
#ifndef APERTURE_CLI_PROFILE_H
#define APERTURE_CLI_PROFILE_H

#include "core/error.h"

/* `argv[0]` is the word "profile". Exit status for the program: the command's own (128 + N when signal N
 * ended it), 127 when it cannot be started, 1 with `err` set when the profile failed although the command did
 * not, 2 with `err` set for wrong usage. */
int ap_cli_profile(int argc, char **argv, struct ap_error *err);

#endif
