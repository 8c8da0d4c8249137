/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Answers as tables, JSON or CSV. All return 0, -ENOMEM, or the negative errno of the sink. */
#ifndef APERTURE_CLI_ANSWERS_H
#define APERTURE_CLI_ANSWERS_H

#include "cli/ask.h"
#include "core/out.h"
#include "model/answer.h"

int ap_cli_show_batches(const struct ap_batches_answer *answer, enum ap_cli_format format, struct ap_out *out);
int ap_cli_show_stacks(const struct ap_stacks_answer *answer, enum ap_cli_format format, struct ap_out *out);
/* Functions, or the locks or system calls of those kinds. `functions_only`: functions whatever the kind. */
int ap_cli_show_aggregate(const struct ap_aggregate_answer *answer, uint8_t kind, bool functions_only,
                          enum ap_cli_format format, struct ap_out *out);
int ap_cli_show_diff(const struct ap_diff_answer *answer, enum ap_cli_format format, struct ap_out *out);

#endif
