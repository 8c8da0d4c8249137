/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Prints docs/options.md from the option tables; a test compares it with the file (make docs writes it anew). */
#include "agent/config.h"

#include <unistd.h>

int main(void)
{
    struct ap_out *out = ap_out_new_fd(STDOUT_FILENO);
    int rc;

    if (!out)
        return 1;
    ap_out_str(out, "<!-- Made from the option tables: change src/agent/config.c, then run \"make docs\". -->\n\n");
    ap_options_markdown(&ap_agent_options, out);
    rc = ap_out_flush(out);
    ap_out_free(out);
    return rc != 0;
}
