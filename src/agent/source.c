/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/source.h"

#include "core/log.h"
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

int ap_source_load(const struct ap_source_env *env, const struct ap_source_programs *programs, void **ret_skel,
                   bool *ret_deep, struct ap_error *err)
{
    bool deep = env->kernel->deep;
    int rc = 0, refused;
    void *skel;

    skel = programs->load(env, deep, &rc);
    if (!skel && deep) {
        refused = rc;
        deep = false;
        skel = programs->load(env, deep, &rc);
        if (skel)
            ap_log_warn("this kernel refuses %s for recent kernels (%s): user stacks end at "
                        "kernel.perf_event_max_stack and are not repaired",
                        programs->words, strerror(-refused));
    }
    if (!skel)
        return ap_programs_load_error(rc, programs->words, err);
    *ret_skel = skel;
    *ret_deep = deep;
    return 0;
}

int ap_source_test(const struct ap_source_env *env, const struct ap_source_programs *programs, struct ap_out *out)
{
    int failed = 0, rc, deep;
    const char *name;
    void *skel;

    for (deep = 0; deep <= 1; deep++) {
        name = deep ? programs->deep_name : programs->plain_name;
        if (deep && !env->kernel->deep) {
            ap_out_printf(out, "unavailable %s: needs the helper bpf_loop (Linux 5.17)\n", name);
            break;
        }
        skel = programs->load(env, deep, &rc);
        if (skel)
            ap_out_printf(out, "ok %s%s\n", name, env->variant);
        else
            ap_out_printf(out, "failed %s%s: %s\n", name, env->variant, strerror(-rc));
        failed += !skel;
        programs->free(skel);
    }
    return failed;
}
