/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Prints docs/options.md from the option tables; a test compares it with the file (make docs writes it anew). */
#include "agent/config.h"
#include "aggregator/config.h"
#include "cli/commands.h"

#include <unistd.h>

int main(void)
{
    const struct ap_options_spec *const specs[] = {
        &ap_agent_options,         &ap_aggregator_options, &ap_cli_top_options,
        &ap_cli_aggregate_options, &ap_cli_diff_options,   &ap_cli_query_options,
        &ap_cli_agents_options,    &ap_cli_export_options, &ap_cli_import_options,
    };
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    size_t i;
    int rc;

    if (!out)
        return 1;
    ap_out_str(out, "<!-- Made from the option tables: change them in src/agent, src/aggregator or src/cli, then run "
                    "\"make docs\". "
                    "-->\n\n");
    for (i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        if (i)
            ap_out_char(out, '\n');
        ap_options_markdown(specs[i], out);
    }
    rc = ap_out_flush(out);
    ap_out_free(out);
    return rc != 0;
}
