/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/capture.h"

#include <stdlib.h>
#include <string.h>

#define OTHER_MODULE "(other)"

struct words {
    const char *name, *help;
};

static const struct words *loss_words(unsigned reason)
{
    static const struct words table[AP_LOSS_REASON_CNT] = {
        [AP_LOSS_RING_FULL] = {"ring_full", "the agent fell behind: lower --frequency or give it more CPU"},
        [AP_LOSS_MISSED] = {"missed",
                            "the kernel skipped sampling ticks (throttled, or host paused): lower --frequency"},
        [AP_LOSS_NO_STACK] = {"no_stack", "no stack could be read: delivered as \"[no stack]\", not missing"},
        [AP_LOSS_TABLE_FULL] = {"table_full", "a bound of the profile was reached: capture for a shorter time, "
                                              "or narrow it with --pid"},
        [AP_LOSS_BAD_RECORD] = {"bad_record", "a record from the kernel was malformed: please report it"},
        [AP_LOSS_SIDEBAND] = {"sideband", "exec, mmap or exit events were lost: new processes may lack names; no "
                                          "sample is missing"},
        [AP_LOSS_NO_SCRATCH] = {"no_scratch",
                                "samplers were nested on one CPU: harmless when rare, else lower --frequency"},
        [AP_LOSS_MAP_FULL] = {"map_full", "a table in the kernel was full: narrow the capture with --pid, --cgroup or "
                                          "--comm"},
    };

    return reason < AP_LOSS_REASON_CNT ? &table[reason] : NULL;
}

const char *ap_loss_name(unsigned reason)
{
    const struct words *words = loss_words(reason);

    return words != NULL ? words->name : "unknown";
}

const char *ap_loss_help(unsigned reason)
{
    const struct words *words = loss_words(reason);

    return words != NULL ? words->help : "a reason that this version does not know: update Aperture";
}

bool ap_loss_is_sample(unsigned reason)
{
    return reason < AP_LOSS_REASON_CNT && reason != AP_LOSS_NO_STACK && reason != AP_LOSS_SIDEBAND;
}

static const struct words *unresolved_words(unsigned reason)
{
    static const struct words table[AP_UNRESOLVED_REASON_CNT] = {
        [AP_UNRESOLVED_NONE] = {"none", "rows beyond the bound of the diagnosis, of several reasons"},
        [AP_UNRESOLVED_STRIPPED] = {"stripped", "no symbols in the file: install its debug symbols package "
                                                "(-dbgsym, -debuginfo), or build with -g and do not strip"},
        [AP_UNRESOLVED_FILE_GONE] = {"file_gone", "the file was deleted or replaced while it ran: restart the "
                                                  "process after upgrades, or capture while it lives"},
        [AP_UNRESOLVED_PERMISSION] = {"permission", "the agent may not open the file: run it as root or with "
                                                    "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"},
        [AP_UNRESOLVED_KPTR] = {"kptr", "kernel addresses are hidden: run sysctl kernel.kptr_restrict=0, or "
                                        "give the agent CAP_SYSLOG"},
        [AP_UNRESOLVED_NO_MAPPING] = {"no_mapping", "the address is in no known mapping: usually a stack cut "
                                                    "short; build with -fno-omit-frame-pointer"},
        [AP_UNRESOLVED_JIT] = {"jit", "compiled at run time without a perf map: run java with "
                                      "-XX:+DumpPerfMapAtExit, node with --perf-basic-prof, python with -X perf"},
        [AP_UNRESOLVED_BAD_FILE] = {"bad_file", "not a valid ELF file, or its debug information is broken: "
                                                "check it with readelf -S, then rebuild or reinstall it"},
        [AP_UNRESOLVED_PROCESS_GONE] = {"process_gone", "the process ended before the agent could look: "
                                                        "start the agent first, or capture for longer"},
        [AP_UNRESOLVED_NAMESPACE] = {"namespace", "the process is outside the agent's pid namespace: run the "
                                                  "agent in the host's (--pid=host, hostPID: true)"},
        [AP_UNRESOLVED_BUDGET] = {"budget", "a bound of the symbolizer (files, time, memory) was reached: "
                                            "narrow the capture with --pid, --cgroup or --comm"},
        [AP_UNRESOLVED_KERNEL_SYMBOL] = {"kernel_symbol", "no name in /proc/kallsyms: a module unloaded since, "
                                                          "or BPF code (sysctl net.core.bpf_jit_kallsyms=1)"},
    };

    return reason < AP_UNRESOLVED_REASON_CNT ? &table[reason] : NULL;
}

const char *ap_unresolved_name(unsigned reason)
{
    const struct words *words = unresolved_words(reason);

    return words != NULL ? words->name : "unknown";
}

const char *ap_unresolved_help(unsigned reason)
{
    const struct words *words = unresolved_words(reason);

    return words != NULL ? words->help : "a reason that this version does not know: update Aperture";
}

/* The row behind the last one is a spare that already owns the name "(other)": counting there cannot fail. */
struct ap_capture *ap_capture_new(void)
{
    struct ap_capture *capture = calloc(1, sizeof(*capture));

    if (capture == NULL)
        return NULL;
    capture->unresolved = calloc(AP_CAPTURE_UNRESOLVED_MAX + 1, sizeof(*capture->unresolved));
    if (capture->unresolved == NULL)
        return ap_capture_free(capture);
    capture->unresolved[AP_CAPTURE_UNRESOLVED_MAX].module = strdup(OTHER_MODULE);
    if (capture->unresolved[AP_CAPTURE_UNRESOLVED_MAX].module == NULL)
        return ap_capture_free(capture);
    return capture;
}

struct ap_capture *ap_capture_free(struct ap_capture *capture)
{
    if (capture == NULL)
        return NULL;
    for (unsigned i = 0; i < capture->profile_cnt; i++)
        ap_profile_free(capture->profiles[i]);
    if (capture->unresolved != NULL) {
        for (unsigned i = 0; i <= AP_CAPTURE_UNRESOLVED_MAX; i++)
            free(capture->unresolved[i].module);
        free(capture->unresolved);
    }
    free(capture);
    return NULL;
}

const struct ap_account *ap_capture_account(const struct ap_capture *capture, const struct ap_profile *profile)
{
    for (unsigned i = 0; i < capture->profile_cnt; i++)
        if (capture->profiles[i] == profile)
            return &capture->accounts[i];
    return NULL;
}

struct ap_account ap_capture_total(const struct ap_capture *capture)
{
    struct ap_account total = {0};

    for (unsigned i = 0; i < capture->profile_cnt; i++)
        ap_account_add(&total, &capture->accounts[i]);
    return total;
}

uint64_t ap_account_lost(const struct ap_account *account)
{
    uint64_t lost = 0;

    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        if (ap_loss_is_sample(i))
            lost += account->losses[i];
    return lost;
}

void ap_account_add(struct ap_account *account, const struct ap_account *from)
{
    account->expected += from->expected;
    account->delivered += from->delivered;
    for (unsigned i = 0; i < AP_LOSS_REASON_CNT; i++)
        account->losses[i] += from->losses[i];
    account->idle += from->idle;
    account->out_of_scope += from->out_of_scope;
    account->below_min += from->below_min;
    account->below_min_ns += from->below_min_ns;
    account->folded += from->folded;
    account->unmatched += from->unmatched;
}

static struct ap_unresolved_row *find_row(struct ap_capture *capture, const char *module, uint8_t reason)
{
    for (unsigned i = 0; i < capture->unresolved_cnt; i++) {
        struct ap_unresolved_row *row = &capture->unresolved[i];

        if (row->reason == reason && strcmp(row->module, module) == 0)
            return row;
    }
    return NULL;
}

/* The row for all that has no row of its own. One place is always kept free for it. */
static struct ap_unresolved_row *other_row(struct ap_capture *capture)
{
    struct ap_unresolved_row *spare = &capture->unresolved[AP_CAPTURE_UNRESOLVED_MAX];
    struct ap_unresolved_row *row = find_row(capture, OTHER_MODULE, AP_UNRESOLVED_NONE);

    if (row != NULL)
        return row;
    row = &capture->unresolved[capture->unresolved_cnt++];
    *row = (struct ap_unresolved_row){.module = spare->module, .reason = AP_UNRESOLVED_NONE};
    spare->module = NULL;
    return row;
}

static struct ap_unresolved_row *new_row(struct ap_capture *capture, const char *module, uint8_t reason)
{
    bool other_exists = capture->unresolved[AP_CAPTURE_UNRESOLVED_MAX].module == NULL;
    unsigned max = AP_CAPTURE_UNRESOLVED_MAX - (other_exists ? 0 : 1);
    struct ap_unresolved_row *row;
    char *copy;

    if (capture->unresolved_cnt >= max)
        return other_row(capture);
    copy = strdup(module);
    if (copy == NULL)
        return other_row(capture);
    row = &capture->unresolved[capture->unresolved_cnt++];
    *row = (struct ap_unresolved_row){.module = copy, .reason = reason};
    return row;
}

void ap_capture_unresolved(struct ap_capture *capture, const char *module, uint8_t reason, uint64_t frames,
                           uint64_t samples)
{
    struct ap_unresolved_row *row;

    if (module == NULL)
        module = "";
    /* The caller's own "(other)" without a reason is the row that keeps the rest. */
    if (reason == AP_UNRESOLVED_NONE && strcmp(module, OTHER_MODULE) == 0)
        row = other_row(capture);
    else
        row = find_row(capture, module, reason);
    if (row == NULL)
        row = new_row(capture, module, reason);
    row->frames += frames;
    row->samples += samples;
}

static bool is_other(const struct ap_unresolved_row *row)
{
    return row->reason == AP_UNRESOLVED_NONE && strcmp(row->module, OTHER_MODULE) == 0;
}

static int compare_rows(const void *pa, const void *pb)
{
    const struct ap_unresolved_row *a = pa, *b = pb;
    int order;

    if (is_other(a) != is_other(b))
        return is_other(a) ? 1 : -1;
    if (a->samples != b->samples)
        return a->samples > b->samples ? -1 : 1;
    if (a->frames != b->frames)
        return a->frames > b->frames ? -1 : 1;
    order = strcmp(a->module, b->module);
    return order != 0 ? order : (int)a->reason - (int)b->reason;
}

void ap_capture_unresolved_sort(struct ap_capture *capture)
{
    qsort(capture->unresolved, capture->unresolved_cnt, sizeof(*capture->unresolved), compare_rows);
}
