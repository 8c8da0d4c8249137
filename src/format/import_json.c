/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The JSON document of the agent (docs/formats.md), members in any order. The tree becomes stacks again. */
#include "format/import_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longest name or path. */
#define TEXT_SZ (1u << 20)
/* The root, its thread names, "[truncated]", and frames. */
#define TREE_DEPTH_MAX (AP_STACK_FRAMES_MAX + 3)

static int wrong(struct ap_import_reader *reader, const char *name, int rc, const char *what)
{
    if (rc == -ENOMEM)
        return ap_error_set(reader->err, rc, "out of memory");
    return ap_error_set(reader->err, rc == -ENOSPC ? -E2BIG : -EINVAL, "JSON document: \"%s\" is not %s", name, what);
}

int ap_import_u64(struct ap_import_reader *reader, uint32_t object, const char *name, uint64_t *ret)
{
    uint32_t token = ap_json_member(&reader->doc, object, name);
    int r = token == AP_JSON_NONE ? 0 : ap_json_u64(&reader->doc, token, ret);

    return r == 0 ? 0 : wrong(reader, name, r, "a whole number of at most 64 bits");
}

int ap_import_u32(struct ap_import_reader *reader, uint32_t object, const char *name, uint32_t *ret)
{
    uint64_t wide = *ret;
    int r = ap_import_u64(reader, object, name, &wide);

    if (r != 0)
        return r;
    if (wide > UINT32_MAX)
        return wrong(reader, name, -EINVAL, "a whole number of at most 32 bits");
    *ret = (uint32_t)wide;
    return 0;
}

int ap_import_bool(struct ap_import_reader *reader, uint32_t object, const char *name, bool *ret)
{
    uint32_t token = ap_json_member(&reader->doc, object, name);
    char type = ap_json_type(&reader->doc, token);

    if (token == AP_JSON_NONE)
        return 0;
    if (type != 't' && type != 'f')
        return wrong(reader, name, -EINVAL, "true or false");
    *ret = type == 't';
    return 0;
}

int ap_import_text(struct ap_import_reader *reader, uint32_t object, const char *name, const char **ret)
{
    uint32_t token = ap_json_member(&reader->doc, object, name);
    int r = token == AP_JSON_NONE ? 0 : ap_json_text(&reader->doc, token, &reader->text);

    if (r != 0)
        return wrong(reader, name, r, "a text of at most 1 MiB");
    *ret = token == AP_JSON_NONE ? "" : reader->text.data;
    return 0;
}

int ap_import_string(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object, const char *name,
                     uint32_t *ret)
{
    const char *text = "";
    int r = ap_import_text(reader, object, name, &text);

    if (r != 0)
        return r;
    r = ap_strings_add(profile->strings, text, strlen(text), ret);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

static const char *frame_kind_name(unsigned value)
{
    return ap_frame_kind_name((uint8_t)value);
}

static const char *event_kind_name(unsigned value)
{
    return ap_event_kind_name((uint8_t)value);
}

int ap_import_frame(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object,
                    struct ap_frame *ret_frame)
{
    struct ap_frame frame = {0}, guess = {0};
    const char *kind = "", *module = "";
    int r = ap_import_text(reader, object, "kind", &kind);

    if (r == 0)
        frame.kind = (uint8_t)ap_import_lookup(kind, frame_kind_name, AP_FRAME_MARK + 1, AP_FRAME_UNKNOWN);
    if (r == 0)
        r = ap_import_text(reader, object, "module", &module);
    if (r == 0) {
        r = ap_import_module(profile, module, &frame.mapping);
        if (r != 0)
            return ap_import_refused(r, reader->err);
    }
    if (r == 0)
        r = ap_import_string(reader, profile, object, "name", &frame.function);
    if (r == 0)
        r = ap_import_string(reader, profile, object, "file", &frame.file);
    if (r == 0)
        r = ap_import_u32(reader, object, "line", &frame.line);
    if (r == 0)
        r = ap_import_bool(reader, object, "inlined", &frame.inlined);
    if (r == 0)
        r = ap_import_bool(reader, object, "waker", &frame.waker);
    if (r != 0)
        return r;
    ap_import_classify(ap_profile_str(profile, frame.function), "", &guess);
    if (frame.kind == AP_FRAME_UNKNOWN)
        frame.offset = guess.offset;
    *ret_frame = frame;
    return 0;
}

/* The way from the root to the node that is being read. */
struct level {
    uint32_t node;  /* its object */
    uint32_t child; /* the last of its children that was begun */
    uint32_t children;
    uint64_t samples, below; /* its own count, and the sum of its children's */
    uint64_t self;
};

struct walk {
    struct ap_import_reader *reader;
    struct ap_profile *profile;
    unsigned depth; /* levels in use */
    struct level levels[TREE_DEPTH_MAX];
    uint32_t frames[TREE_DEPTH_MAX]; /* of the levels from the third on; UINT32_MAX for "[truncated]" */
    uint32_t series;
    struct ap_import_stack stack; /* scratch */
};

static int too_deep(const struct walk *walk)
{
    return ap_error_set(walk->reader->err, -E2BIG, "JSON document: a stack of more than %d frames",
                        AP_STACK_FRAMES_MAX);
}

/* The thread name of what is below, or a frame. */
static int name_level(struct walk *walk, unsigned depth, uint32_t node)
{
    struct ap_import_reader *reader = walk->reader;
    struct ap_frame frame = {0};
    int r;

    if (depth == 0)
        return 0;
    if (depth == 1) {
        struct ap_series series = {0};

        r = ap_import_string(reader, walk->profile, node, "name", &series.comm);
        if (r != 0)
            return r;
        r = ap_profile_add_series(walk->profile, &series, &walk->series);
        return r == 0 ? 0 : ap_import_refused(r, reader->err);
    }
    r = ap_import_frame(reader, walk->profile, node, &frame);
    if (r != 0)
        return r;
    if (frame.kind == AP_FRAME_MARK && ap_import_is_truncation(ap_profile_str(walk->profile, frame.function))) {
        walk->frames[depth] = UINT32_MAX;
        return 0;
    }
    r = ap_profile_add_frame(walk->profile, &frame, &walk->frames[depth]);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

static int open_level(struct walk *walk, uint32_t node)
{
    struct ap_import_reader *reader = walk->reader;
    struct level level = {.node = node, .child = AP_JSON_NONE};
    int r;

    if (walk->depth == TREE_DEPTH_MAX)
        return too_deep(walk);
    if (ap_json_type(&reader->doc, node) != '{')
        return wrong(reader, "children", -EINVAL, "an array of objects");
    level.children = ap_json_member(&reader->doc, node, "children");
    if (level.children != AP_JSON_NONE && ap_json_type(&reader->doc, level.children) != '[')
        return wrong(reader, "children", -EINVAL, "an array of objects");
    r = ap_import_u64(reader, node, "samples", &level.samples);
    if (r == 0)
        r = ap_import_u64(reader, node, "self", &level.self);
    if (r == 0)
        r = name_level(walk, walk->depth, node);
    if (r != 0)
        return r;
    if (walk->depth > 0 && __builtin_add_overflow(walk->levels[walk->depth - 1].below, level.samples,
                                                  &walk->levels[walk->depth - 1].below))
        return wrong(reader, "samples", -EINVAL, "a sum of 64 bits");
    walk->levels[walk->depth++] = level;
    return 0;
}

/* What a node has beyond its children is a stack that ends there. */
static int close_level(struct walk *walk)
{
    const struct level *level = &walk->levels[walk->depth - 1];
    uint32_t unknown = walk->series;
    int r = 0;

    if (level->below > level->samples)
        return ap_error_set(walk->reader->err, -EINVAL,
                            "JSON document: a node of %" PRIu64 " samples has children of %" PRIu64, level->samples,
                            level->below);
    if (level->samples == level->below && level->self == 0) {
        walk->depth--;
        return 0;
    }
    if (walk->depth == 1) {
        const struct ap_series series = {.comm = ap_strings_id(walk->profile->strings, "[unknown]")};

        r = ap_profile_add_series(walk->profile, &series, &unknown);
    }
    walk->stack.cnt = 0;
    walk->stack.truncated = false;
    for (unsigned i = 2; i < walk->depth; i++) {
        if (walk->frames[i] == UINT32_MAX)
            walk->stack.truncated = true;
        else
            ap_import_stack_push(&walk->stack, walk->frames[i]);
    }
    if (r == 0)
        r = ap_import_stack_add(&walk->stack, walk->profile, unknown, level->samples - level->below, level->self);
    walk->depth--;
    return r == 0 ? 0 : ap_import_refused(r, walk->reader->err);
}

static int read_tree(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t root)
{
    struct walk *walk = calloc(1, sizeof(*walk));
    int r;

    if (walk == NULL)
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    walk->reader = reader;
    walk->profile = profile;
    r = open_level(walk, root);
    while (r == 0 && walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];

        level->child = ap_json_next_item(&reader->doc, level->children, level->child);
        r = level->child != AP_JSON_NONE ? open_level(walk, level->child) : close_level(walk);
    }
    free(walk);
    return r;
}

static int read_account(struct ap_import_reader *reader, uint32_t object, const struct ap_profile *profile,
                        struct ap_account *account)
{
    struct ap_account read = {0};
    const struct {
        const char *name;
        uint64_t *ret;
    } members[] = {
        {"expected", &read.expected},   {"delivered", &read.delivered},       {"idle", &read.idle},
        {"folded", &read.folded},       {"out_of_scope", &read.out_of_scope}, {"below_min", &read.below_min},
        {"unmatched", &read.unmatched}, {"below_min_ns", &read.below_min_ns},
    };
    uint32_t losses = ap_json_member(&reader->doc, object, "losses");
    int r = 0;

    if (object == AP_JSON_NONE) {
        read.expected = read.delivered = ap_profile_total_count(profile);
        *account = read;
        return 0;
    }
    for (size_t i = 0; r == 0 && i < sizeof(members) / sizeof(members[0]); i++)
        r = ap_import_u64(reader, object, members[i].name, members[i].ret);
    for (unsigned i = 0; r == 0 && i < AP_LOSS_REASON_CNT; i++)
        r = ap_import_u64(reader, losses, ap_loss_name(i), &read.losses[i]);
    if (r == 0)
        *account = read;
    return r;
}

static int read_profile(struct ap_import_reader *reader, struct ap_capture *capture, uint32_t object,
                        const struct ap_import_opts *opts)
{
    unsigned index = capture->profile_cnt, kind;
    struct ap_profile *profile;
    uint32_t token;
    const char *name = "";
    int r = ap_import_text(reader, object, "kind", &name);

    if (r != 0)
        return r;
    kind = ap_import_lookup(name, event_kind_name, AP_KIND_GPU + 1, 0);
    if (kind < AP_KIND_CPU)
        return ap_error_set(reader->err, -EINVAL, "JSON document: a profile of kind \"%.64s\"", name);
    if (opts->kind != 0 && opts->kind != kind)
        return 0;
    profile = ap_import_profile(capture, (uint8_t)kind, reader->err);
    if (profile == NULL)
        return reader->err != NULL ? reader->err->code : -ENOMEM;
    r = ap_import_u64(reader, object, "start_ns", &profile->start_ns);
    if (r == 0)
        r = ap_import_u64(reader, object, "duration_ns", &profile->duration_ns);
    if (r == 0)
        r = ap_import_u64(reader, object, "period_ns", &profile->period_ns);
    token = ap_json_member(&reader->doc, object, "root");
    if (r == 0 && token != AP_JSON_NONE)
        r = read_tree(reader, profile, token);
    token = ap_json_member(&reader->doc, object, "syscalls");
    if (r == 0 && token != AP_JSON_NONE && kind == AP_KIND_SYSCALL)
        r = ap_import_syscalls(reader, profile, token);
    token = ap_json_member(&reader->doc, object, "locks");
    if (r == 0 && token != AP_JSON_NONE && kind == AP_KIND_LOCK)
        r = ap_import_locks(reader, profile, token);
    if (r == 0)
        r = read_account(reader, ap_json_member(&reader->doc, object, "account"), profile, &capture->accounts[index]);
    return r;
}

static int read_agent(struct ap_import_reader *reader, struct ap_agent_info *agent, uint32_t object)
{
    const struct {
        const char *name;
        char *ret;
        size_t sz;
    } texts[] = {
        {"version", agent->version, sizeof(agent->version)}, {"host", agent->host, sizeof(agent->host)},
        {"kernel", agent->kernel, sizeof(agent->kernel)},    {"arch", agent->arch, sizeof(agent->arch)},
        {"event", agent->event, sizeof(agent->event)},
    };
    const struct {
        const char *name;
        uint64_t *ret;
    } numbers[] = {
        {"frequency_hz", &agent->frequency},
        {"cpu_ns", &agent->cpu_ns},
        {"other_cpu_ns", &agent->other_cpu_ns},
        {"bpf_run_ns", &agent->bpf_run_ns},
        {"bpf_run_count", &agent->bpf_run_cnt},
        {"rss_peak_bytes", &agent->rss_peak_bytes},
        {"bpf_memory_bytes", &agent->bpf_memory_bytes},
    };
    int r = ap_import_u32(reader, object, "cpus", &agent->cpus_online);

    for (size_t i = 0; r == 0 && i < sizeof(texts) / sizeof(texts[0]); i++) {
        const char *text = "";

        r = ap_import_text(reader, object, texts[i].name, &text);
        if (r == 0)
            (void)snprintf(texts[i].ret, texts[i].sz, "%s", text);
    }
    for (size_t i = 0; r == 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++)
        r = ap_import_u64(reader, object, numbers[i].name, numbers[i].ret);
    return r;
}

static const char *unresolved_name(unsigned value)
{
    return ap_unresolved_name(value);
}

static int read_unresolved(struct ap_import_reader *reader, struct ap_capture *capture, uint32_t array)
{
    uint32_t row = AP_JSON_NONE;
    int r = 0;

    while (r == 0 && (row = ap_json_next_item(&reader->doc, array, row)) != AP_JSON_NONE) {
        uint64_t frames = 0, samples = 0;
        unsigned reason = 0;
        const char *text = "";

        r = ap_import_text(reader, row, "reason", &text);
        if (r == 0)
            reason = ap_import_lookup(text, unresolved_name, AP_UNRESOLVED_REASON_CNT, AP_UNRESOLVED_NONE);
        if (r == 0)
            r = ap_import_u64(reader, row, "frames", &frames);
        if (r == 0)
            r = ap_import_u64(reader, row, "samples", &samples);
        if (r == 0)
            r = ap_import_text(reader, row, "module", &text);
        if (r == 0 && reason != AP_UNRESOLVED_NONE)
            ap_capture_unresolved(capture, text, (uint8_t)reason, frames, samples);
    }
    return r;
}

static int read_document(struct ap_import_reader *reader, struct ap_capture *capture, const struct ap_import_opts *opts)
{
    uint32_t profiles = ap_json_member(&reader->doc, 0, "profiles"), item = AP_JSON_NONE;
    uint64_t schema = 0;
    int r = ap_import_u64(reader, 0, "schema", &schema);

    if (r == 0 && (schema != 1 || ap_json_type(&reader->doc, profiles) != '['))
        return ap_error_set(reader->err, -EINVAL,
                            "JSON document: \"schema\" is not 1 or \"profiles\" is missing; only what the agent writes "
                            "as .json can be imported");
    if (r == 0)
        r = read_agent(reader, &capture->agent, ap_json_member(&reader->doc, 0, "agent"));
    while (r == 0 && (item = ap_json_next_item(&reader->doc, profiles, item)) != AP_JSON_NONE)
        r = read_profile(reader, capture, item, opts);
    if (r == 0)
        r = ap_import_u64(reader, 0, "frames_total", &capture->frames_total);
    if (r == 0)
        r = ap_import_u64(reader, 0, "frames_unresolved", &capture->frames_unresolved);
    if (r == 0)
        r = read_unresolved(reader, capture, ap_json_member(&reader->doc, 0, "unresolved"));
    ap_capture_unresolved_sort(capture);
    if (r == 0 && capture->profile_cnt == 0)
        r = ap_error_set(reader->err, -EINVAL, "JSON document: it has no profile%s",
                         opts->kind != 0 ? " of the kind that was asked for" : "");
    return r;
}

int ap_import_json(struct ap_capture *capture, const char *data, size_t len, const struct ap_import_opts *opts,
                   struct ap_error *err)
{
    struct ap_import_reader reader = {.err = err};
    int r = ap_json_doc_init(&reader.doc, data, len, err);

    if (r != 0)
        return r;
    ap_buf_init(&reader.text, TEXT_SZ);
    r = read_document(&reader, capture, opts);
    ap_buf_done(&reader.text);
    ap_json_doc_done(&reader.doc);
    return r;
}
