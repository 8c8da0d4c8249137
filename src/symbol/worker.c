/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/worker.h"

#include "core/buf.h"
#include "model/capture.h"
#include "symbol/symbolizer.h"
#include "symbol/variables.h"

#include "blazesym.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct worker {
    int sock;
    int file_fd;              /* the current file, -1 = none */
    blaze_symbolizer *file;   /* made anew for each file, which bounds the cache to one; NULL until needed */
    blaze_symbolizer *kernel; /* kept: kallsyms is parsed once */
    struct ap_buf reply;
    uint64_t addrs[AP_SYMBOL_CHUNK];
};

int ap_worker_read(int sock, void *data, size_t len)
{
    char *pos = data;
    ssize_t n;

    while (len) {
        n = recv(sock, pos, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        pos += n;
        len -= (size_t)n;
    }
    return 0;
}

int ap_worker_write(int sock, const void *data, size_t len)
{
    const char *pos = data;
    ssize_t n;

    while (len) {
        n = send(sock, pos, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        pos += n;
        len -= (size_t)n;
    }
    return 0;
}

static blaze_symbolizer *new_symbolizer(void)
{
    const blaze_symbolizer_opts opts = {
        .type_size = sizeof(opts),
        .code_info = true,
        .inlined_fns = true,
        .demangle = true,
    };

    return blaze_symbolizer_new_opts(&opts);
}

static uint8_t reason_of(blaze_symbolize_reason reason)
{
    switch (reason) {
    case BLAZE_SYMBOLIZE_REASON_MISSING_SYMS:
    case BLAZE_SYMBOLIZE_REASON_UNKNOWN_ADDR:
        return AP_UNRESOLVED_STRIPPED;
    default: /* also a file whose headers leave out code that was mapped from it */
        return AP_UNRESOLVED_BAD_FILE;
    }
}

static uint16_t bounded_len(const char *text)
{
    return text ? (uint16_t)strnlen(text, AP_SYMBOL_NAME_MAX) : 0;
}

static void put_text(struct ap_buf *reply, const char *text, size_t len)
{
    ap_buf_append(reply, text, len);
    ap_buf_append(reply, "", 1);
}

static void put_frame(struct ap_buf *reply, const char *function, const blaze_symbolize_code_info *code,
                      const char *module, bool inlined)
{
    struct ap_worker_frame frame = {
        .line = code->line,
        .function_len = bounded_len(function),
        .module_len = bounded_len(module),
        .inlined = inlined,
    };
    char path[AP_SYMBOL_NAME_MAX];
    int len = 0;

    if (code->file && code->dir && code->dir[0] && code->file[0] != '/')
        len = snprintf(path, sizeof(path), "%s/%s", code->dir, code->file);
    else if (code->file)
        len = snprintf(path, sizeof(path), "%s", code->file);
    frame.file_len = (uint16_t)(len < (int)sizeof(path) ? len : (int)sizeof(path) - 1);
    ap_buf_append(reply, &frame, sizeof(frame));
    put_text(reply, function, frame.function_len);
    put_text(reply, path, frame.file_len);
    put_text(reply, module, frame.module_len);
}

/* blazesym lists inlined calls from the outermost inwards; we send the innermost first. Where code is
 * inlined, the position belongs to the callee listed with it. */
static void put_symbol(struct ap_buf *reply, const struct blaze_sym *sym, bool is_kernel)
{
    struct ap_worker_names head = {0};
    size_t inlined = sym->name ? sym->inlined_cnt : 0, i;
    const char *module = is_kernel && sym->module ? sym->module : "";

    if (inlined > AP_SYMBOL_INLINE_MAX - 1)
        inlined = AP_SYMBOL_INLINE_MAX - 1;
    head.frame_cnt = sym->name ? (uint8_t)(inlined + 1) : 0;
    head.reason = sym->name ? AP_UNRESOLVED_NONE : reason_of(sym->reason);
    if (!sym->name && is_kernel)
        head.reason = AP_UNRESOLVED_KERNEL_SYMBOL;
    ap_buf_append(reply, &head, sizeof(head));
    if (!sym->name)
        return;
    for (i = inlined; i > 0; i--)
        put_frame(reply, sym->inlined[i - 1].name, &sym->inlined[i - 1].code_info, module, true);
    put_frame(reply, sym->name, &sym->code_info, module, false);
}

static const struct blaze_syms *symbolize_file(struct worker *worker, uint32_t cnt)
{
    char path[64];
    blaze_symbolize_src_elf src = {.type_size = sizeof(src), .path = path, .debug_syms = true};
    const struct blaze_syms *syms;

    if (!worker->file)
        worker->file = new_symbolizer();
    if (!worker->file)
        return NULL;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", worker->file_fd);
    syms = blaze_symbolize_elf_file_offsets(worker->file, &src, worker->addrs, cnt);
    if (syms)
        return syms;
    src.debug_syms = false; /* broken debug information does not spoil the symbol table */
    return blaze_symbolize_elf_file_offsets(worker->file, &src, worker->addrs, cnt);
}

static const struct blaze_syms *symbolize_kernel(struct worker *worker, uint32_t cnt)
{
    const blaze_symbolize_src_kernel src = {.type_size = sizeof(src), .vmlinux = ""};

    if (!worker->kernel)
        worker->kernel = new_symbolizer();
    return worker->kernel ? blaze_symbolize_kernel_abs_addrs(worker->kernel, &src, worker->addrs, cnt) : NULL;
}

static void put_code(struct worker *worker, const struct ap_worker_request *request)
{
    bool is_kernel = request->kind == AP_WORKER_KERNEL;
    struct ap_worker_names failed = {.reason = is_kernel ? AP_UNRESOLVED_KERNEL_SYMBOL : AP_UNRESOLVED_BAD_FILE};
    const struct blaze_syms *syms;
    size_t i;

    syms = is_kernel ? symbolize_kernel(worker, request->cnt) : symbolize_file(worker, request->cnt);
    for (i = 0; i < request->cnt; i++) {
        if (syms && i < syms->cnt)
            put_symbol(&worker->reply, &syms->syms[i], is_kernel);
        else
            ap_buf_append(&worker->reply, &failed, sizeof(failed));
    }
    blaze_syms_free(syms);
}

static void put_variables(struct worker *worker, const struct ap_worker_request *request)
{
    static struct ap_variable variables[AP_SYMBOL_CHUNK];
    const struct ap_worker_names found = {.frame_cnt = 1}, none = {.reason = AP_UNRESOLVED_STRIPPED};
    const blaze_symbolize_code_info nowhere = {0};
    char text[AP_VARIABLE_NAME_SZ + 24];
    size_t i;
    int cnt;

    cnt = ap_variables_find(worker->file_fd, worker->addrs, request->cnt, variables);
    for (i = 0; i < request->cnt; i++) {
        if (cnt <= 0 || !variables[i].name[0]) {
            ap_buf_append(&worker->reply, &none, sizeof(none));
            continue;
        }
        snprintf(text, sizeof(text), variables[i].off ? "%s+0x%llx" : "%s", variables[i].name,
                 (unsigned long long)variables[i].off);
        ap_buf_append(&worker->reply, &found, sizeof(found));
        put_frame(&worker->reply, text, &nowhere, "", false);
    }
}

static int answer(struct worker *worker, const struct ap_worker_request *request)
{
    struct ap_buf *reply = &worker->reply;
    struct ap_worker_reply head = {0};

    ap_buf_reset(reply);
    ap_buf_append(reply, &head, sizeof(head));
    if (request->kind == AP_WORKER_VARIABLE)
        put_variables(worker, request);
    else
        put_code(worker, request);
    if (reply->error)
        return reply->error;
    head.sz = (uint32_t)(reply->len - sizeof(head));
    memcpy(reply->data, &head, sizeof(head));
    return ap_worker_write(worker->sock, reply->data, reply->len);
}

static void forget_file(struct worker *worker)
{
    if (worker->file_fd >= 0)
        close(worker->file_fd);
    worker->file_fd = -1;
    blaze_symbolizer_free(worker->file);
    worker->file = NULL;
}

/* Reads a request head with the descriptor that may come with it. */
static int read_request(struct worker *worker, struct ap_worker_request *ret_request)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {ret_request, sizeof(*ret_request)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *head;
    ssize_t n;

    do {
        n = recvmsg(worker->sock, &msg, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(*ret_request))
        return n < 0 ? -errno : -EPIPE;
    if (ret_request->cnt > AP_SYMBOL_CHUNK)
        return -EINVAL;
    head = CMSG_FIRSTHDR(&msg);
    if (head && head->cmsg_type == SCM_RIGHTS) {
        forget_file(worker);
        memcpy(&worker->file_fd, CMSG_DATA(head), sizeof(int));
    }
    if ((ret_request->kind == AP_WORKER_CODE || ret_request->kind == AP_WORKER_VARIABLE) && worker->file_fd < 0)
        return -EINVAL;
    return ap_worker_read(worker->sock, worker->addrs, ret_request->cnt * sizeof(worker->addrs[0]));
}

int ap_worker_run(int sock)
{
    static struct worker worker; /* too large for a stack; the process has only one */
    struct ap_worker_request request;
    int rc = 0;

    worker.sock = sock;
    worker.file_fd = -1;
    ap_buf_init(&worker.reply, AP_WORKER_REPLY_SZ_MAX);
    while (!rc) {
        rc = read_request(&worker, &request);
        if (rc)
            break;
        if (request.kind != AP_WORKER_FORGET) {
            rc = answer(&worker, &request);
            continue;
        }
        forget_file(&worker);
        malloc_trim(0); /* what a large file took may not be needed for long */
    }
    forget_file(&worker);
    blaze_symbolizer_free(worker.kernel);
    ap_buf_done(&worker.reply);
    return rc == -EPIPE ? 0 : 1;
}
