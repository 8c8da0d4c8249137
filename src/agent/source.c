/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/source.h"

#include "symbol/kallsyms.h"

#include <stdio.h>
#include <string.h>

/* Room for "__bpf_trace_NAME". */
#define FUNCTION_NAME_SZ 64

void ap_source_skip_tracepoint(struct ap_source *source, const char *name, unsigned arg_cnt)
{
    char functions[3][FUNCTION_NAME_SZ];
    struct ap_kallsyms *kallsyms;
    uint64_t start, end;
    size_t i;

    if (ap_kallsyms_new(NULL, &kallsyms))
        return;
    /* which of them are on the stack depends on the kernel, and on who else listens */
    snprintf(functions[0], FUNCTION_NAME_SZ, "__traceiter_%s", name);
    snprintf(functions[1], FUNCTION_NAME_SZ, "__bpf_trace_%s", name);
    snprintf(functions[2], FUNCTION_NAME_SZ, "bpf_trace_run%u", arg_cnt);
    for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
        if (ap_kallsyms_function(kallsyms, functions[i], &start, &end))
            ap_collect_skip(source->collect, start, end);
    ap_kallsyms_free(kallsyms);
}

int ap_source_tell(const struct ap_source_env *env, struct ap_out *out, const char *name, bool failed, int rc)
{
    if (failed)
        ap_out_printf(out, "failed %s%s: %s\n", name, env->variant, strerror(-rc));
    else
        ap_out_printf(out, "ok %s%s\n", name, env->variant);
    return failed;
}
