/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* svg-sample KIND FILE: writes the flamegraph of a synthetic capture, the same bytes on every run.
 * Kinds: tiny, demo, hostile, empty, big (100,000 nodes), deep (512 frames), offcpu. */
#include "format/format.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PERIOD_NS 10101010ULL

struct sample {
    struct ap_capture *capture;
    struct ap_profile *profile;
    uint32_t series;
    uint32_t random;
};

static uint32_t next_random(struct sample *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 17;
    s->random ^= s->random << 5;
    return s->random;
}

static void check(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "svg-sample: %s: %s\n", what, strerror(-r));
        exit(1);
    }
}

static uint32_t add_frame(struct sample *s, uint8_t kind, bool inlined, const char *name, const char *module,
                          const char *file, uint32_t line)
{
    struct ap_mapping mapping = {.path = ap_strings_id(s->profile->strings, module)};
    struct ap_frame frame = {.kind = kind, .inlined = inlined, .line = line};
    uint32_t index;

    if (module[0])
        check(ap_profile_add_mapping(s->profile, &mapping, &frame.mapping), "mapping");
    frame.function = ap_strings_id(s->profile->strings, name);
    frame.file = ap_strings_id(s->profile->strings, file);
    check(ap_profile_add_frame(s->profile, &frame, &index), "frame");
    return index;
}

static void set_comm(struct sample *s, uint32_t pid, const char *comm)
{
    struct ap_series series = {.pid = pid, .comm = ap_strings_id(s->profile->strings, comm)};

    check(ap_profile_add_series(s->profile, &series, &s->series), "series");
}

static void add_stack(struct sample *s, const uint32_t *frames, uint32_t cnt, bool truncated, uint64_t count)
{
    uint32_t stack;

    check(ap_profile_add_stack(s->profile, frames, cnt, truncated, &stack), "stack");
    check(ap_profile_add_sample(s->profile, s->series, stack, count, count * PERIOD_NS), "sample");
    s->capture->accounts[0].delivered += count;
    s->capture->frames_total += count * cnt;
}

/* Adds "outer;inner;leaf". Before a name: "k:" kernel, "j:" jit, "p:" interpreted, "g:" gpu, "u:" unknown,
 * "i:" inlined; after it "@module". */
static void add_path(struct sample *s, const char *path, bool truncated, uint64_t count)
{
    static const char tags[] = "unkjpg"; /* by enum ap_frame_kind */
    char text[4096], *save = NULL;
    uint32_t frames[64], cnt = 0;

    snprintf(text, sizeof(text), "%s", path);
    for (char *name = strtok_r(text, ";", &save); name && cnt < 64; name = strtok_r(NULL, ";", &save)) {
        uint8_t kind = AP_FRAME_NATIVE;
        bool inlined = false;
        char *module = strchr(name, '@'), file[64] = "";
        uint32_t line = 0;

        if (name[0] && name[1] == ':' && name[2] != ':') {
            const char *tag = strchr(tags, name[0]);

            inlined = name[0] == 'i';
            kind = tag && !inlined ? (uint8_t)(tag - tags) : AP_FRAME_NATIVE;
            name += 2;
        }
        if (module)
            *module++ = '\0';
        if (kind == AP_FRAME_NATIVE) {
            snprintf(file, sizeof(file), "src/%.40s.c", name);
            line = 10 + (uint32_t)strlen(name) * 7;
        }
        if (kind == AP_FRAME_UNKNOWN)
            s->capture->frames_unresolved += count;
        frames[63 - cnt++] = add_frame(s, kind, inlined, name,
                                       module                    ? module
                                       : kind == AP_FRAME_KERNEL ? "[kernel]"
                                                                 : "",
                                       file, line);
    }
    add_stack(s, frames + 64 - cnt, cnt, truncated, count);
}

static void sample_tiny(struct sample *s)
{
    set_comm(s, 10, "tiny");
    add_path(s, "main@/bin/tiny;alpha@/bin/tiny;beta@/bin/tiny", false, 500);
    add_path(s, "main@/bin/tiny;alpha@/bin/tiny;beta@/bin/tiny;alpha@/bin/tiny", false, 250);
    add_path(s, "main@/bin/tiny;alpha@/bin/tiny;i:beta_fast@/bin/tiny", false, 50);
    add_path(s, "main@/bin/tiny;gamma@/bin/tiny;k:do_syscall_64;k:vfs_read", false, 150);
    add_path(s, "main@/bin/tiny;u:libz.so+0x1f00@/usr/lib/libz.so", false, 40);
    set_comm(s, 11, "other");
    add_path(s, "j:Lcom/acme/Alpha;::run@//anon", true, 10);
}

static void demo_web(struct sample *s)
{
    static const char ngx[] = "_start@/usr/sbin/nginx;main@/usr/sbin/nginx;ngx_worker_process_cycle@/usr/sbin/nginx;"
                              "ngx_process_events_and_timers@/usr/sbin/nginx;ngx_epoll_process_events@/usr/sbin/nginx";
    static const struct {
        const char *tail;
        unsigned count;
    } rows[] = {
        {";ngx_http_wait_request_handler;ngx_http_process_request_line;ngx_http_process_request;"
         "ngx_http_core_run_phases;ngx_http_core_content_phase;ngx_http_static_handler;ngx_open_cached_file;"
         "open64@/usr/lib/libc.so.6;k:entry_SYSCALL_64;k:do_syscall_64;k:__x64_sys_openat;k:do_filp_open;"
         "k:path_openat;k:link_path_walk;k:walk_component;k:lookup_fast",
         310},
        {";ngx_http_wait_request_handler;ngx_http_process_request_line;ngx_http_process_request;"
         "ngx_http_core_run_phases;ngx_http_core_content_phase;ngx_http_gzip_body_filter;i:ngx_http_gzip_"
         "filter_deflate;"
         "deflate@/usr/lib/libz.so.1;deflate_slow@/usr/lib/libz.so.1;longest_match@/usr/lib/libz.so.1",
         920},
        {";ngx_http_wait_request_handler;ngx_http_process_request_line;ngx_http_process_request;"
         "ngx_http_core_run_phases;ngx_http_core_content_phase;ngx_http_gzip_body_filter;i:ngx_http_gzip_"
         "filter_deflate;"
         "deflate@/usr/lib/libz.so.1;fill_window@/usr/lib/libz.so.1;memcpy@/usr/lib/libc.so.6",
         260},
        {";ngx_http_wait_request_handler;ngx_http_process_request_line;ngx_http_process_request_headers;"
         "ngx_http_parse_header_line",
         180},
        {";ngx_ssl_handshake_handler;ngx_ssl_handshake;SSL_do_handshake@/usr/lib/libssl.so.3;"
         "u:libssl.so.3+0x4d1c0@/usr/lib/libssl.so.3;u:libcrypto.so.3+0x18a220@/usr/lib/libcrypto.so.3",
         240},
        {";epoll_wait@/usr/lib/"
         "libc.so.6;k:entry_SYSCALL_64;k:do_syscall_64;k:__x64_sys_epoll_wait;k:do_epoll_wait;"
         "k:ep_poll;k:schedule_hrtimeout_range;k:schedule;k:__schedule;k:finish_task_switch",
         210},
        {";ngx_http_wait_request_handler;recv@/usr/lib/"
         "libc.so.6;k:entry_SYSCALL_64;k:do_syscall_64;k:__sys_recvfrom;"
         "k:sock_recvmsg;k:tcp_recvmsg;k:tcp_recvmsg_locked;k:skb_copy_datagram_iter;k:copy_user_generic",
         330},
    };
    char path[4096];

    set_comm(s, 100, "nginx");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", ngx, rows[i].tail);
        add_path(s, path, false, rows[i].count);
    }
}

static void demo_rest(struct sample *s)
{
    set_comm(s, 200, "java");
    add_path(s,
             "start_thread@/usr/lib/libc.so.6;JavaThread::run()@/usr/lib/jvm/libjvm.so;j:Lio/netty/"
             "EventLoop.run@//anon;"
             "j:Lcom/acme/shop/Cart.price@//anon;j:Lcom/acme/shop/Tax.lookup@//anon;j:Ljava/util/"
             "HashMap.get@//anon",
             false, 640);
    add_path(s,
             "start_thread@/usr/lib/libc.so.6;JavaThread::run()@/usr/lib/jvm/libjvm.so;j:Lio/netty/"
             "EventLoop.run@//anon;"
             "j:Lcom/acme/shop/Cart.price@//anon;p:Lcom/acme/shop/Rule.eval@//anon;p:Lcom/acme/shop/"
             "Rule.match@//anon",
             false, 280);
    add_path(s,
             "start_thread@/usr/lib/libc.so.6;GCTaskThread::run()@/usr/lib/jvm/libjvm.so;"
             "G1ParEvacuateFollowersClosure::do_void()@/usr/lib/jvm/libjvm.so;"
             "i:G1ParScanThreadState::trim_queue()@/usr/lib/jvm/libjvm.so;"
             "void OopOopIterateDispatch<G1ScanEvacuatedObjClosure>::Table::oop_oop_iterate<InstanceKlass, "
             "narrowOop>(G1ScanEvacuatedObjClosure*, oopDesc*, Klass*)@/usr/lib/jvm/libjvm.so",
             false, 410);
    set_comm(s, 300, "python3");
    add_path(s,
             "main@/usr/bin/python3.11;Py_RunMain@/usr/bin/python3.11;_PyEval_EvalFrameDefault@/usr/bin/"
             "python3.11;"
             "p:train.py:<module>;p:train.py:step;p:model.py:forward;cudaLaunchKernel@/usr/lib/libcudart.so;"
             "g:ampere_sgemm_128x64_tn",
             false, 380);
    add_path(s,
             "main@/usr/bin/python3.11;Py_RunMain@/usr/bin/python3.11;_PyEval_EvalFrameDefault@/usr/bin/"
             "python3.11;"
             "p:train.py:<module>;p:data.py:load;p:json.loads;scan_once@/usr/lib/_json.so",
             false, 300);
    add_path(s,
             "main@/usr/bin/python3.11;Py_RunMain@/usr/bin/python3.11;_PyEval_EvalFrameDefault@/usr/bin/"
             "python3.11;"
             "gc_collect_main@/usr/bin/python3.11",
             false, 95);
    add_path(s, "p:data.py:parse_tree;p:data.py:parse_tree;p:data.py:parse_tree;p:data.py:tokens", true, 120);
    set_comm(s, 400, "kworker/1:2");
    add_path(s, "k:ret_from_fork;k:kthread;k:worker_thread;k:process_one_work;k:blk_mq_run_work_fn", false, 150);
    add_path(s,
             "k:ret_from_fork;k:kthread;k:worker_thread;k:process_one_work;k:wb_workfn;k:wb_writeback;"
             "k:ext4_writepages;k:jbd2_journal_start",
             false, 130);
}

/* Random walks with skewed choices: many narrow branches under a few wide ones. */
static void random_walks(struct sample *s, unsigned walks, unsigned depth, unsigned names)
{
    char name[64], module[48];

    for (unsigned i = 0; i < walks; i++) {
        uint32_t frames[AP_STACK_FRAMES_MAX], cnt = 3 + next_random(s) % depth, at = 1;

        for (uint32_t k = 0; k < cnt; k++) {
            uint32_t roll = next_random(s) % 100;
            uint32_t id;

            at = at * 7 + (roll < 55 ? 0 : roll < 75 ? 1 : roll < 90 ? 2 : next_random(s) % 40);
            id = at % names;
            snprintf(name, sizeof(name), "ns%u::worker_%u::handle", id % 17, id);
            snprintf(module, sizeof(module), "/opt/app/lib/libmod%u.so", id % 11);
            frames[cnt - 1 - k] =
                add_frame(s, id % 5 == 4 && k > 4 ? AP_FRAME_KERNEL : AP_FRAME_NATIVE, id % 13 == 3, name,
                          id % 5 == 4 && k > 4 ? "[kernel]" : module, "src/worker.cpp", id % 900 + 1);
        }
        add_stack(s, frames, cnt, false, 1 + next_random(s) % 3);
    }
}

static void sample_demo(struct sample *s)
{
    demo_web(s);
    demo_rest(s);
    set_comm(s, 500, "app-server");
    random_walks(s, 900, 26, 400);
    set_comm(s, 600, "sshd");
    add_path(s, "main@/usr/sbin/sshd;k:do_syscall_64;k:__x64_sys_poll", false, 2);
    s->capture->accounts[0].losses[AP_LOSS_RING_FULL] = 30;
    s->capture->accounts[0].losses[AP_LOSS_MISSED] = 15;
    s->capture->accounts[0].losses[AP_LOSS_SIDEBAND] = 3;
    ap_capture_unresolved(s->capture, "/usr/lib/libcrypto.so.3", AP_UNRESOLVED_STRIPPED, 14, 240);
    ap_capture_unresolved(s->capture, "/usr/lib/libssl.so.3", AP_UNRESOLVED_STRIPPED, 9, 240);
    ap_capture_unresolved_sort(s->capture);
}

/* Frames of the thread that ended a wait, as they follow a wait's own towards the leaf. */
static uint32_t waker_frame(struct sample *s, uint8_t kind, const char *name)
{
    struct ap_frame frame = {.kind = kind, .waker = true, .function = ap_strings_id(s->profile->strings, name)};
    uint32_t index;

    check(ap_profile_add_frame(s->profile, &frame, &index), "frame");
    return index;
}

static void sample_offcpu(struct sample *s)
{
    uint32_t frames[8];

    sample_demo(s);
    set_comm(s, 700, "waiter");
    frames[0] = waker_frame(s, AP_FRAME_PROCESS, "publisher");
    frames[1] = waker_frame(s, AP_FRAME_NATIVE, "main");
    frames[2] = waker_frame(s, AP_FRAME_NATIVE, "publish");
    frames[3] = waker_frame(s, AP_FRAME_MARK, "[woken by]");
    frames[4] = add_frame(s, AP_FRAME_KERNEL, false, "futex_wait_queue", "[kernel]", "", 0);
    frames[5] = add_frame(s, AP_FRAME_NATIVE, false, "take", "/usr/bin/app", "app.c", 33);
    frames[6] = add_frame(s, AP_FRAME_NATIVE, false, "main", "/usr/bin/app", "app.c", 90);
    frames[7] = add_frame(s, AP_FRAME_MARK, false, "[interruptible]", "", "", 0);
    add_stack(s, frames, 8, false, 600);
    add_stack(s, frames + 4, 4, false, 200);
}

static void sample_hostile(struct sample *s)
{
    static const char *const names[] = {
        "</script><script>alert(1)</script>",
        "\"&<>'",
        "]]><svg onload=alert(2)>",
        "<img src=x onerror=alert(3)>",
        "ctl\001\002\037\177\tend\n",
        "bad\xff\xfe\xc3(\xed\xa0\x80\xf5utf8",
        "\xe2\x80\xae over \xf0\x9f\x94\xa5 \xe4\xb8\xad\xe6\x96\x87\xe5\x87\xbd\xe6\x95\xb0",
        "\\u003cscript>\\",
        "__proto__",
        "javascript:alert(4)//%s%n${x}{{y}}",
    };
    size_t big_len = 1 << 20;
    char *big = malloc(big_len + 1);
    uint32_t frame;

    set_comm(s, 1, "<b>&\"'");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        frame = add_frame(s, (uint8_t)(i % 6), i % 3 == 0, names[i], names[(i + 1) % 8], names[(i + 2) % 8], 7);
        add_stack(s, &frame, 1, false, 100);
    }
    if (!big)
        exit(1);
    for (size_t i = 0; i < big_len; i++)
        big[i] = "<A&\xc3"[i % 4];
    big[big_len] = '\0';
    frame = add_frame(s, AP_FRAME_NATIVE, false, big, "/bin/big", "", 0);
    free(big);
    add_stack(s, &frame, 1, false, 100);
    snprintf(s->capture->agent.host, sizeof(s->capture->agent.host), "<i>host</i>&\"");
    snprintf(s->capture->agent.kernel, sizeof(s->capture->agent.kernel), "]]></script>");
    ap_capture_unresolved(s->capture, names[0], AP_UNRESOLVED_STRIPPED, 1, 100);
}

static void sample_deep(struct sample *s)
{
    uint32_t frames[AP_STACK_FRAMES_MAX];
    char name[32];

    set_comm(s, 1, "deep");
    for (uint32_t i = 0; i < AP_STACK_FRAMES_MAX; i++) {
        snprintf(name, sizeof(name), "recurse_%u", i);
        frames[AP_STACK_FRAMES_MAX - 1 - i] = add_frame(s, AP_FRAME_NATIVE, false, name, "/bin/deep", "", 0);
    }
    add_stack(s, frames, AP_STACK_FRAMES_MAX, false, 90);
    add_stack(s, frames + 400, AP_STACK_FRAMES_MAX - 400, true, 10);
}

static void fill(struct sample *s, const char *kind)
{
    if (!strcmp(kind, "tiny"))
        sample_tiny(s);
    else if (!strcmp(kind, "demo"))
        sample_demo(s);
    else if (!strcmp(kind, "offcpu"))
        sample_offcpu(s);
    else if (!strcmp(kind, "hostile"))
        sample_hostile(s);
    else if (!strcmp(kind, "deep"))
        sample_deep(s);
    else if (!strcmp(kind, "big")) {
        set_comm(s, 1, "big");
        random_walks(s, 7600, 30, 3000);
    } else if (strcmp(kind, "empty")) {
        fprintf(stderr, "svg-sample: unknown kind %s\n", kind);
        exit(2);
    }
}

static void describe(struct ap_agent_info *agent)
{
    *agent = (struct ap_agent_info){.cpus_online = 8,
                                    .frequency = 99,
                                    .cpu_ns = 96000000,
                                    .bpf_run_ns = 31000000,
                                    .bpf_run_cnt = 6900,
                                    .rss_peak_bytes = 41u << 20,
                                    .bpf_memory_bytes = 6u << 20};
    snprintf(agent->version, sizeof(agent->version), "1.0.0");
    snprintf(agent->host, sizeof(agent->host), "web-07.eu.example.net");
    snprintf(agent->kernel, sizeof(agent->kernel), "6.18.2");
    snprintf(agent->arch, sizeof(agent->arch), "x86_64");
    snprintf(agent->event, sizeof(agent->event), "cpu-clock");
}

int main(int argc, char **argv)
{
    struct sample s = {.random = 2463534242u};
    struct ap_tree *tree;
    struct ap_out *out;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: svg-sample tiny|demo|hostile|empty|big|deep|offcpu FILE\n");
        return 2;
    }
    s.capture = ap_capture_new();
    s.profile = ap_profile_new(strcmp(argv[1], "offcpu") ? AP_KIND_CPU : AP_KIND_OFFCPU);
    if (!s.capture || !s.profile)
        return 1;
    s.capture->profiles[s.capture->profile_cnt++] = s.profile;
    s.profile->start_ns = 1795264200ULL * 1000000000;
    s.profile->duration_ns = 30000000000ULL;
    s.profile->period_ns = PERIOD_NS;
    describe(&s.capture->agent);
    fill(&s, argv[1]);
    s.capture->accounts[0].expected = s.capture->accounts[0].delivered + ap_account_lost(&s.capture->accounts[0]);
    tree = ap_tree_new(s.profile);
    fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    out = fd < 0 ? NULL : ap_out_new_fd(fd);
    if (!tree || !out)
        return 1;
    check(ap_svg_write(s.capture, tree, out), "write");
    fprintf(stderr, "%s: %u nodes\n", argv[1], tree->node_cnt);
    ap_out_free(out);
    close(fd);
    ap_tree_free(tree);
    ap_capture_free(s.capture);
    return 0;
}
