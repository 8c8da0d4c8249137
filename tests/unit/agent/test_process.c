/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/process.h"

#include "agent/procfs.h"
#include "core/clock.h"
#include "maps.h"
#include "model/capture.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* Numbers that no process has: the kernel's end below 2^22 (PID_MAX_LIMIT, include/linux/threads.h). */
#define PID(n) (0x10000000u + (n))

/* Pages of the model that random mappings are compared with. */
#define PAGES   64
#define PAGE_SZ 4096ULL

struct table {
    struct ap_modules *modules;
    struct ap_processes *processes;
};

static void table_begin(struct table *t)
{
    t->modules = ap_modules_new();
    assert_non_null(t->modules);
    t->processes = ap_processes_new(t->modules);
    assert_non_null(t->processes);
}

static void table_end(struct table *t)
{
    uint32_t i;

    assert_null(ap_processes_free(t->processes));
    for (i = 0; i < ap_modules_cnt(t->modules); i++) /* nobody is left who maps it */
        assert_int_equal(ap_modules_get(t->modules, i)->mapped, 0);
    assert_null(ap_modules_free(t->modules));
}

static void take_fork(struct table *t, uint32_t pid, uint32_t ppid)
{
    const struct ap_process_event event = {.type = AP_PROCESS_FORK, .pid = pid, .ppid = ppid};

    ap_processes_event(t->processes, &event);
}

static void take_exec(struct table *t, uint32_t pid)
{
    const struct ap_process_event event = {.type = AP_PROCESS_EXEC, .pid = pid};

    ap_processes_event(t->processes, &event);
}

static void take_exit(struct table *t, uint32_t pid, uint64_t time_ns)
{
    const struct ap_process_event event = {.type = AP_PROCESS_EXIT, .pid = pid, .time_ns = time_ns};

    ap_processes_event(t->processes, &event);
}

/* Files are known by their number: 3 is "/file/3" with inode 3, 0 is anonymous memory. */
static void take_mmap(struct table *t, uint32_t pid, uint64_t start, uint64_t end, uint64_t off, uint32_t file)
{
    struct ap_process_event event = {
        .type = AP_PROCESS_MMAP, .pid = pid, .start = start, .end = end, .file_off = off, .inode = file};
    char path[32];

    (void)snprintf(path, sizeof(path), "/file/%u", file);
    event.path = file ? path : "//anon";
    event.dev_major = 0xfff; /* of no file */
    ap_processes_event(t->processes, &event);
}

static uint32_t locate(struct table *t, uint32_t pid, uint64_t addr, uint64_t *ret_offset)
{
    struct ap_process *process = ap_processes_sampled(t->processes, pid, 0);

    assert_non_null(process);
    return ap_process_locate(t->processes, process, addr, ret_offset);
}

static void expect_file(struct table *t, uint32_t pid, uint64_t addr, uint32_t file, uint64_t offset)
{
    uint64_t got;
    uint32_t id = locate(t, pid, addr, &got);
    char path[32];

    (void)snprintf(path, sizeof(path), "/file/%u", file);
    assert_string_equal(ap_modules_get(t->modules, id)->path, path);
    assert_int_equal(got, offset);
}

static void expect_fixed(struct table *t, uint32_t pid, uint64_t addr, uint32_t module)
{
    uint64_t got;

    assert_int_equal(locate(t, pid, addr, &got), module);
    assert_int_equal(got, addr);
}

static void mappings_after_exec(void **state)
{
    struct table t;
    uint64_t offset;
    uint32_t id;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x5000, 0x7000, 0x1000, 1);
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 2);
    take_mmap(&t, PID(1), 0x9000, 0xa000, 0x77, 0);
    expect_fixed(&t, PID(1), 0xfff, AP_MODULE_ID_NO_MAPPING);
    expect_file(&t, PID(1), 0x1000, 2, 0);
    expect_file(&t, PID(1), 0x1fff, 2, 0xfff);
    expect_fixed(&t, PID(1), 0x2000, AP_MODULE_ID_NO_MAPPING);
    expect_file(&t, PID(1), 0x5000, 1, 0x1000);
    expect_file(&t, PID(1), 0x6fff, 1, 0x2fff);
    expect_fixed(&t, PID(1), 0x7000, AP_MODULE_ID_NO_MAPPING);
    expect_fixed(&t, PID(1), UINT64_MAX, AP_MODULE_ID_NO_MAPPING);
    id = locate(&t, PID(1), 0x9010, &offset);
    assert_int_equal(ap_modules_get(t.modules, id)->kind, AP_MODULE_JIT);
    assert_int_equal(offset, 0x9010); /* no file: the address itself */
    assert_int_equal(ap_processes_cnt(t.processes), 1);
    table_end(&t);
}

static void exec_starts_from_nothing(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    take_exec(&t, PID(1));
    expect_fixed(&t, PID(1), 0x1000, AP_MODULE_ID_NO_MAPPING);
    assert_string_equal(ap_process_exe(ap_processes_sampled(t.processes, PID(1), 0)), "");
    take_mmap(&t, PID(1), 0x4000, 0x5000, 0, 2);
    take_mmap(&t, PID(1), 0x8000, 0x9000, 0, 3);
    expect_file(&t, PID(1), 0x4000, 2, 0);
    assert_string_equal(ap_process_exe(ap_processes_sampled(t.processes, PID(1), 0)), "/file/2");
    table_end(&t);
}

static void fork_shares(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x3000, 0, 1);
    take_fork(&t, PID(2), PID(1));
    take_fork(&t, PID(3), PID(2));
    expect_file(&t, PID(2), 0x1000, 1, 0);
    expect_file(&t, PID(3), 0x2000, 1, 0x1000);
    assert_string_equal(ap_process_exe(ap_processes_sampled(t.processes, PID(3), 0)), "/file/1");
    /* from here on each has its own */
    take_mmap(&t, PID(2), 0x2000, 0x3000, 0x8000, 2);
    expect_file(&t, PID(1), 0x2000, 1, 0x1000);
    expect_file(&t, PID(2), 0x2000, 2, 0x8000);
    expect_file(&t, PID(3), 0x2000, 1, 0x1000);
    take_mmap(&t, PID(1), 0x5000, 0x6000, 0, 3);
    expect_file(&t, PID(1), 0x5000, 3, 0);
    expect_fixed(&t, PID(2), 0x5000, AP_MODULE_ID_NO_MAPPING);
    expect_fixed(&t, PID(3), 0x5000, AP_MODULE_ID_NO_MAPPING);
    take_exec(&t, PID(2));
    expect_fixed(&t, PID(2), 0x1000, AP_MODULE_ID_NO_MAPPING);
    expect_file(&t, PID(1), 0x1000, 1, 0);
    expect_file(&t, PID(3), 0x1000, 1, 0);
    take_exit(&t, PID(1), 1);
    ap_processes_sweep(t.processes, AP_PROCESS_GRACE_NS * 2);
    assert_int_equal(ap_processes_cnt(t.processes), 2);
    expect_file(&t, PID(3), 0x1000, 1, 0);
    table_end(&t);
}

static void mapping_over_mappings(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x10000, 0x20000, 0x100000, 1);
    take_mmap(&t, PID(1), 0x14000, 0x15000, 0x7000, 2); /* in the middle: three parts */
    expect_file(&t, PID(1), 0x10000, 1, 0x100000);
    expect_file(&t, PID(1), 0x13fff, 1, 0x103fff);
    expect_file(&t, PID(1), 0x14000, 2, 0x7000);
    expect_file(&t, PID(1), 0x14fff, 2, 0x7fff);
    expect_file(&t, PID(1), 0x15000, 1, 0x105000);
    expect_file(&t, PID(1), 0x1ffff, 1, 0x10ffff);
    take_mmap(&t, PID(1), 0xf000, 0x11000, 0, 3); /* over the beginning */
    expect_file(&t, PID(1), 0xf000, 3, 0);
    expect_file(&t, PID(1), 0x11000, 1, 0x101000);
    take_mmap(&t, PID(1), 0x1f000, 0x21000, 0, 4); /* over the end */
    expect_file(&t, PID(1), 0x1efff, 1, 0x10efff);
    expect_file(&t, PID(1), 0x20fff, 4, 0x1fff);
    take_mmap(&t, PID(1), 0x14000, 0x15000, 0x9000, 5); /* exactly over one */
    expect_file(&t, PID(1), 0x14800, 5, 0x9800);
    take_mmap(&t, PID(1), 0x13000, 0x1f800, 0, 6); /* over several, cutting both ends */
    expect_file(&t, PID(1), 0x12fff, 1, 0x102fff);
    expect_file(&t, PID(1), 0x13000, 6, 0);
    expect_file(&t, PID(1), 0x1f7ff, 6, 0xc7ff);
    expect_file(&t, PID(1), 0x1f800, 4, 0x800);
    take_mmap(&t, PID(1), 0, 0x100000, 0, 7); /* over all */
    expect_file(&t, PID(1), 0x14800, 7, 0x14800);
    table_end(&t);
}

/* Mappings by chance, compared with an array that holds a file and an offset for each page. */
static void any_mappings(void **state)
{
    uint64_t seed = 1, offs[PAGES] = {0};
    uint32_t files[PAGES] = {0};
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    for (uint32_t round = 0; round < 2000; round++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t first = (uint32_t)(seed >> 33) % PAGES, cnt = 1 + (uint32_t)(seed >> 50) % 12, file = 1 + round % 5;

        cnt = cnt < PAGES - first ? cnt : PAGES - first;
        take_mmap(&t, PID(1), first * PAGE_SZ, (first + cnt) * PAGE_SZ, round * PAGE_SZ, file);
        for (uint32_t i = 0; i < cnt; i++) {
            files[first + i] = file;
            offs[first + i] = (round + i) * PAGE_SZ;
        }
        bool there[6] = {false};
        for (uint32_t i = 0; i < PAGES; i++) {
            if (files[i])
                expect_file(&t, PID(1), i * PAGE_SZ + 5, files[i], offs[i] + 5);
            else
                expect_fixed(&t, PID(1), i * PAGE_SZ + 5, AP_MODULE_ID_NO_MAPPING);
            there[files[i]] = true;
        }
        for (uint32_t i = AP_MODULE_ID_BUDGET + 1; i < ap_modules_cnt(t.modules); i++) {
            const struct ap_module *module = ap_modules_get(t.modules, i);

            assert_int_equal(module->mapped > 0, there[atoi(module->path + strlen("/file/"))]);
        }
    }
    table_end(&t);
}

static uint32_t mapped(struct table *t, uint32_t pid, uint64_t addr)
{
    uint64_t offset;

    return ap_modules_get(t->modules, locate(t, pid, addr, &offset))->mapped;
}

/* Images are counted, not processes; those of ended processes until they are forgotten. */
static void who_maps_it(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    take_mmap(&t, PID(1), 0x5000, 0x9000, 0, 1);
    assert_int_equal(mapped(&t, PID(1), 0x1000), 2);
    take_mmap(&t, PID(1), 0x6000, 0x7000, 0, 2); /* in the middle */
    assert_int_equal(mapped(&t, PID(1), 0x1000), 3);
    take_fork(&t, PID(2), PID(1));
    assert_int_equal(mapped(&t, PID(1), 0x1000), 3); /* shared */
    take_mmap(&t, PID(2), 0xa000, 0xb000, 0, 3);
    assert_int_equal(mapped(&t, PID(1), 0x1000), 6);
    assert_int_equal(mapped(&t, PID(2), 0xa000), 1);
    take_exec(&t, PID(1));
    assert_int_equal(mapped(&t, PID(2), 0x1000), 3);
    take_exit(&t, PID(2), 1000);
    ap_processes_sweep(t.processes, 1000 + AP_PROCESS_GRACE_NS);
    assert_int_equal(mapped(&t, PID(2), 0x1000), 3); /* remembered; asking makes it longer */
    ap_processes_sweep(t.processes, UINT64_MAX);
    assert_int_equal(ap_processes_cnt(t.processes), 1);
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    assert_int_equal(mapped(&t, PID(1), 0x1000), 1);
    table_end(&t);
}

static void numbers_are_used_again(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    take_exec(&t, PID(2));
    take_mmap(&t, PID(2), 0x1000, 0x2000, 0, 2);
    take_exit(&t, PID(1), 1000);
    take_fork(&t, PID(1), PID(2));
    expect_file(&t, PID(1), 0x1000, 2, 0);
    ap_processes_sweep(t.processes, 1000 + 2 * AP_PROCESS_GRACE_NS); /* the new one lives */
    assert_int_equal(ap_processes_cnt(t.processes), 2);
    /* also when the end of the old one was lost */
    take_fork(&t, PID(3), PID(2));
    take_mmap(&t, PID(3), 0x1000, 0x2000, 0, 3);
    take_fork(&t, PID(3), PID(1));
    expect_file(&t, PID(3), 0x1000, 2, 0);
    assert_int_equal(ap_processes_cnt(t.processes), 3);
    table_end(&t);
}

static void grace(void **state)
{
    const uint64_t end_ns = 5000000000ULL;
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    take_exec(&t, PID(2));
    take_exit(&t, PID(1), end_ns);
    take_exit(&t, PID(9), end_ns); /* never seen */
    expect_file(&t, PID(1), 0x1000, 1, 0);
    ap_processes_sweep(t.processes, end_ns + AP_PROCESS_GRACE_NS);
    assert_int_equal(ap_processes_cnt(t.processes), 2);
    expect_file(&t, PID(1), 0x1000, 1, 0); /* its last samples may still come */
    ap_processes_sweep(t.processes, end_ns + AP_PROCESS_GRACE_NS + 1);
    assert_int_equal(ap_processes_cnt(t.processes), 2); /* sampled since: threads but the first may live on */
    expect_file(&t, PID(1), 0x1000, 1, 0);
    ap_processes_sweep(t.processes, ap_clock_monotonic_ns() + AP_PROCESS_GRACE_NS + 1);
    assert_int_equal(ap_processes_cnt(t.processes), 1);
    expect_fixed(&t, PID(1), 0x1000, AP_MODULE_ID_PROCESS_GONE);
    table_end(&t);
}

/* exec by another thread: the kernel reports the end of the first one, whose number the new program has. */
static void exec_by_a_thread(void **state)
{
    struct table t;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 1);
    take_exit(&t, PID(1), 1000);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 2);
    ap_processes_sweep(t.processes, 1001 + AP_PROCESS_GRACE_NS);
    expect_file(&t, PID(1), 0x1000, 2, 0);
    take_exit(&t, PID(1), 2000);
    ap_processes_sweep(t.processes, 2001 + AP_PROCESS_GRACE_NS);
    assert_int_equal(ap_processes_cnt(t.processes), 0);
    table_end(&t);
}

/* More ended ones than are taken away in one go. */
static void many_end(void **state)
{
    struct table t;
    uint32_t i;

    (void)state;
    table_begin(&t);
    for (i = 0; i < 2000; i++)
        take_exec(&t, PID(i));
    for (i = 0; i < 2000; i += 2)
        take_exit(&t, PID(i), 1000);
    ap_processes_sweep(t.processes, 1001 + AP_PROCESS_GRACE_NS);
    assert_int_equal(ap_processes_cnt(t.processes), 1000);
    for (i = 1; i < 2000; i += 2)
        take_exit(&t, PID(i), 1000);
    ap_processes_sweep(t.processes, 1001 + AP_PROCESS_GRACE_NS);
    assert_int_equal(ap_processes_cnt(t.processes), 0);
    table_end(&t);
}

static void gone_before_it_was_seen(void **state)
{
    struct table t;
    pid_t child;
    int status;

    (void)state;
    table_begin(&t);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    expect_fixed(&t, (uint32_t)child, (uintptr_t)gone_before_it_was_seen, AP_MODULE_ID_PROCESS_GONE);
    assert_string_equal(ap_process_exe(ap_processes_sampled(t.processes, (uint32_t)child, 0)), "");
    assert_int_equal(ap_processes_cnt(t.processes), 1);
    ap_processes_sweep(t.processes, ap_clock_monotonic_ns() + AP_PROCESS_GRACE_NS + 1); /* no event will end it */
    assert_int_equal(ap_processes_cnt(t.processes), 0);
    /* the child of one that is gone, gone too */
    take_fork(&t, PID(2), PID(1));
    expect_fixed(&t, PID(2), 0x1000, AP_MODULE_ID_PROCESS_GONE);
    /* what it maps alone does not make it known */
    take_mmap(&t, PID(2), 0x1000, 0x2000, 0, 1);
    expect_fixed(&t, PID(2), 0x1000, AP_MODULE_ID_PROCESS_GONE);
    table_end(&t);
}

/* The bytes at the file offset found are the bytes at the address. */
static void expect_own_code(struct table *t, const void *code, const char *path_part)
{
    const struct ap_module *module;
    char bytes[16];
    uint64_t offset;
    int fd;

    module = ap_modules_get(t->modules, locate(t, (uint32_t)getpid(), (uintptr_t)code, &offset));
    assert_int_equal(module->kind, AP_MODULE_FILE);
    assert_int_equal(module->reason, 0);
    assert_non_null(strstr(module->path, path_part));
    fd = open(module->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), (off_t)offset), sizeof(bytes));
    assert_memory_equal(bytes, code, sizeof(bytes));
    close(fd);
}

static void this_process(void **state)
{
    char exe[PATH_MAX] = "", container[65] = "", text[8192];
    struct ap_process *self;
    struct table t;
    uint64_t offset;

    (void)state;
    table_begin(&t);
    assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
    expect_own_code(&t, (const void *)(uintptr_t)this_process, exe);
    expect_own_code(&t, dlsym(RTLD_DEFAULT, "getppid"), "libc");
    self = ap_processes_sampled(t.processes, (uint32_t)getpid(), 0);
    assert_string_equal(ap_process_exe(self), exe);
    assert_true(ap_procfs_read("/proc/self/cgroup", text, sizeof(text)) > 0);
    if (!ap_procfs_container_id(text, container))
        container[0] = '\0';
    assert_string_equal(ap_process_container(self), container);
    assert_int_equal(ap_process_locate(t.processes, self, (uintptr_t)&t, &offset), AP_MODULE_ID_NO_MAPPING);
    assert_int_equal(ap_processes_cnt(t.processes), 1);
    table_end(&t);
}

/* A child of this process inherits what was read from /proc. */
static void child_of_this_process(void **state)
{
    struct ap_mapped_file file = maps_find((const void *)(uintptr_t)child_of_this_process);
    struct table t;
    uint64_t offset;

    (void)state;
    table_begin(&t);
    take_fork(&t, PID(1), (uint32_t)getpid());
    assert_string_equal(ap_modules_get(t.modules, locate(&t, PID(1), (uintptr_t)child_of_this_process, &offset))->path,
                        file.path);
    assert_int_equal(offset, (uintptr_t)child_of_this_process - file.start + file.file_off);
    table_end(&t);
}

/* Mappings whose events were lost are found by a second look, though not by one for each sample. */
static void second_look(void **state)
{
    struct table t;
    struct files files;
    uint64_t offset;
    uint32_t id;
    char *page;

    (void)state;
    files_begin(&files);
    table_begin(&t);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    expect_fixed(&t, (uint32_t)getpid(), (uintptr_t)&files, AP_MODULE_ID_NO_MAPPING);
    page = maps_exec(files.path);
    expect_fixed(&t, (uint32_t)getpid(), (uintptr_t)page + 5, AP_MODULE_ID_NO_MAPPING);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 50000000}, NULL);
    id = locate(&t, (uint32_t)getpid(), (uintptr_t)page + 5, &offset);
    assert_string_equal(ap_modules_get(t.modules, id)->path, files.path);
    assert_int_equal(offset, 5);
    munmap(page, 4096);
    table_end(&t);
    files_end(&files);
}

/* A file name with line feeds fills the line of /proc/PID/maps, where each takes four bytes, beyond any buffer. What
 * follows in the name looks like a line of its own. */
static void names_are_no_mappings(void **state)
{
    static const char fake[] = "deadbeef0000-deadbeef1000 r-xp 00000000 08:01 7 fake";
    char name[PATH_MAX], part[256];
    struct files files;
    struct table t;
    void *page;

    (void)state;
    files_begin(&files);
    memset(part, '\n', 255);
    part[255] = '\0';
    (void)snprintf(name, sizeof(name), "%s", files.dir);
    for (int i = 0; i < 4; i++) {
        (void)snprintf(name + strlen(name), sizeof(name) - strlen(name), "/%s", part);
        assert_int_equal(mkdir(name, 0755), 0);
    }
    (void)snprintf(name + strlen(name), sizeof(name) - strlen(name), "/%200s%s", "", fake);
    files_copy("/proc/self/exe", name);
    page = maps_exec(name);
    table_begin(&t);
    expect_fixed(&t, (uint32_t)getpid(), 0xdeadbeef0010, AP_MODULE_ID_NO_MAPPING);
    expect_own_code(&t, (const void *)(uintptr_t)names_are_no_mappings, "");
    munmap(page, 4096);
    table_end(&t);
    files_end(&files);
}

/* A process mapped memory for code before its first sample told its number in its container. */
static void number_of_a_container(void **state)
{
    struct ap_process *process;
    struct table t;
    uint64_t offset;
    uint32_t id;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    take_mmap(&t, PID(1), 0x1000, 0x2000, 0, 0);
    process = ap_processes_sampled(t.processes, PID(1), 5);
    id = ap_process_locate(t.processes, process, 0x1000, &offset);
    assert_int_equal(ap_modules_get(t.modules, id)->kind, AP_MODULE_JIT);
    assert_int_equal(ap_modules_get(t.modules, id)->pid, PID(1));
    assert_int_equal(ap_modules_get(t.modules, id)->ns_pid, 5);
    table_end(&t);
}

/* Waits below another root directory, with anonymous memory for code. */
static void wait_below(const char *root, int ready)
{
    if (chroot(root) || chdir("/"))
        _exit(77);
    if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        _exit(77);
    if (write(ready, "x", 1) == 1)
        pause();
    _exit(0);
}

/* True when a descriptor of ours leads to the path. */
static bool holds(const char *path)
{
    char link[64], target[PATH_MAX];
    ssize_t len;
    int fd;

    for (fd = 0; fd < 256; fd++) {
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        len = readlink(link, target, sizeof(target) - 1);
        target[len > 0 ? len : 0] = '\0';
        if (!strcmp(target, path))
            return true;
    }
    return false;
}

static void perf_map_below_another_root(void **state)
{
    struct files files;
    struct table t;
    int ready[2];
    char byte, map[64];
    pid_t child;
    uint32_t id;

    (void)state;
    files_begin(&files);
    assert_int_equal(mkdir(files_path(&files, "tmp"), 0755), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        wait_below(files.dir, ready[1]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
        waitpid(child, NULL, 0);
        files_end(&files);
        skip(); /* needs CAP_SYS_CHROOT */
    }
    (void)snprintf(map, sizeof(map), "tmp/perf-%d.map", child);
    files_write(files_path(&files, map), "1000 1000 compiled\n", 19);
    table_begin(&t);
    assert_non_null(ap_processes_sampled(t.processes, (uint32_t)child, (uint32_t)child));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    id = ap_modules_jit(t.modules, (uint32_t)child, (uint32_t)child, -1); /* it has one already */
    assert_true(ap_modules_get(t.modules, id)->root_fd >= 0);
    take_exit(&t, (uint32_t)child, 1);
    assert_string_equal(ap_perfmap_find(ap_modules_get(t.modules, id)->perfmap, 0x1800), "compiled");
    /* the directory is held as long as the process is remembered */
    assert_int_equal(ap_modules_get(t.modules, id)->root_fd, -1);
    assert_int_equal(ap_processes_roots(t.processes), 1);
    assert_true(holds(files.dir));
    ap_processes_sweep(t.processes, UINT64_MAX);
    assert_int_equal(ap_processes_roots(t.processes), 0);
    assert_false(holds(files.dir));
    assert_int_equal(ap_processes_refused(t.processes), 0);
    close(ready[0]);
    table_end(&t);
    files_end(&files);
}

/* Variables -------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t mutex_in_bss;
static struct {
    int before;
    pthread_mutex_t mutex;
} in_data = {1, PTHREAD_MUTEX_INITIALIZER};

/* A variable of this process: its module's path contains `path_part`, its address is `addr` in a file that the loader
 * put at `base`. */
static void expect_variable(struct table *t, const void *addr, const char *path_part, uint64_t base)
{
    uint64_t vaddr = 0;
    uint32_t id = ap_process_variable(t->processes, (uint32_t)getpid(), (uintptr_t)addr, &vaddr);
    const struct ap_module *module = ap_modules_get(t->modules, id);

    assert_int_equal(module->kind, AP_MODULE_FILE);
    if (!strstr(module->path, path_part))
        fail_msg("%p is in %s", addr, module->path);
    assert_int_equal(vaddr, (uintptr_t)addr - base);
}

static void expect_no_variable(struct table *t, uint32_t pid, const void *addr)
{
    uint64_t vaddr = 77;

    assert_int_equal(ap_process_variable(t->processes, pid, (uintptr_t)addr, &vaddr), AP_MODULE_ID_NO_MAPPING);
    assert_int_equal(vaddr, 77);
}

/* Where the loader put the file that holds `addr`. */
static uint64_t base_of(const void *addr)
{
    struct link_map *map = NULL;
    Dl_info info;

    assert_true(dladdr1(addr, &info, (void **)&map, RTLD_DL_LINKMAP));
    return map->l_addr;
}

static void variables(void **state)
{
    const uint32_t self = (uint32_t)getpid();
    const void *exported = dlsym(RTLD_NEXT, "optarg"); /* of libc, zero at first; not dlsym()'s copy in this program */
    pthread_mutex_t on_stack = PTHREAD_MUTEX_INITIALIZER, *on_heap = malloc(sizeof(*on_heap));
    void *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct table t;

    (void)state;
    assert_true(pages != MAP_FAILED && on_heap && exported);
    table_begin(&t);
    expect_no_variable(&t, self, &mutex_in_bss); /* nobody asked for this process so far */
    assert_non_null(ap_processes_sampled(t.processes, self, 0));
    expect_variable(&t, &mutex_in_bss, "test_process", base_of(&mutex_in_bss));
    expect_variable(&t, &in_data.mutex, "test_process", base_of(&in_data));
    expect_variable(&t, (const char *)&in_data.mutex + 3, "test_process", base_of(&in_data));
    expect_variable(&t, stdout, "libc", base_of(stdout)); /* initialised data */
    expect_variable(&t, exported, "libc", base_of(exported));
    expect_no_variable(&t, self, &on_stack);
    expect_no_variable(&t, self, on_heap);
    expect_no_variable(&t, self, pages);
    expect_no_variable(&t, self, NULL);
    expect_no_variable(&t, self, (const void *)UINTPTR_MAX); // NOLINT(performance-no-int-to-ptr)
    expect_no_variable(&t, PID(1), &mutex_in_bss);
    table_end(&t);
    free(on_heap);
    assert_int_equal(munmap(pages, 1 << 20), 0);
}

/* A child has its parent's variables where the parent has them. */
static void variables_of_a_child(void **state)
{
    struct table t;
    uint64_t vaddr;

    (void)state;
    table_begin(&t);
    assert_non_null(ap_processes_sampled(t.processes, (uint32_t)getpid(), 0));
    take_fork(&t, PID(2), (uint32_t)getpid());
    assert_int_not_equal(ap_process_variable(t.processes, PID(2), (uintptr_t)&mutex_in_bss, &vaddr),
                         AP_MODULE_ID_NO_MAPPING);
    take_exec(&t, PID(2)); /* a new program does not */
    expect_no_variable(&t, PID(2), &mutex_in_bss);
    /* what is no file, and files that cannot be opened, have none */
    take_mmap(&t, PID(2), 0x5000, 0x7000, 0x1000, 1);
    take_mmap(&t, PID(2), 0x9000, 0xa000, 0x77, 0);
    expect_no_variable(&t, PID(2), (const void *)0x7500); // NOLINT(performance-no-int-to-ptr)
    expect_no_variable(&t, PID(2), (const void *)0xa500); // NOLINT(performance-no-int-to-ptr)
    table_end(&t);
}

/* Unwind information: of files only. */
static void unwinding(void **state)
{
    struct ap_process *process;
    struct table t;
    uint64_t off;

    (void)state;
    table_begin(&t);
    process = ap_processes_sampled(t.processes, (uint32_t)getpid(), 0);
#ifdef __x86_64__
    const struct ap_mapped_file own = maps_find((const void *)(uintptr_t)unwinding);
    const struct ap_unwind_table *table = ap_process_unwind(t.processes, process, (uintptr_t)unwinding, &off);

    assert_non_null(table);
    assert_int_equal(off, (uintptr_t)unwinding - own.start + own.file_off);
    assert_ptr_equal(ap_process_unwind(t.processes, process, (uintptr_t)variables, &off), table);
    assert_int_equal(off, (uintptr_t)variables - own.start + own.file_off);
#endif
    assert_null(ap_process_unwind(t.processes, process, 0x10, &off));
    assert_null(ap_process_unwind(t.processes, process, (uintptr_t)&mutex_in_bss, &off));
    table_end(&t);
}

static void most_mappings(void **state)
{
    const uint64_t step = 2 * PAGE_SZ;
    struct table t;
    uint64_t i;

    (void)state;
    table_begin(&t);
    take_exec(&t, PID(1));
    for (i = 1; i <= AP_MAPS_MAX + 100; i++)
        take_mmap(&t, PID(1), i * step, i * step + PAGE_SZ, i * PAGE_SZ, 1);
    for (i = 1; i < AP_MAPS_MAX - 2; i++)
        expect_file(&t, PID(1), i * step, 1, i * PAGE_SZ);
    for (i = AP_MAPS_MAX + 1; i <= AP_MAPS_MAX + 100; i++)
        expect_fixed(&t, PID(1), i * step, AP_MODULE_ID_NO_MAPPING);
    table_end(&t);
}

static void most_processes(void **state)
{
    struct table t;
    uint32_t i;

    (void)state;
    table_begin(&t);
    for (i = 0; i < AP_PROCESSES_MAX; i++)
        take_exec(&t, PID(i));
    assert_int_equal(ap_processes_cnt(t.processes), AP_PROCESSES_MAX);
    assert_int_equal(ap_processes_refused(t.processes), 0);
    assert_null(ap_processes_sampled(t.processes, PID(i), 0));
    take_exec(&t, PID(i));
    take_fork(&t, PID(i), PID(0));
    assert_int_equal(ap_processes_refused(t.processes), 3);
    assert_int_equal(ap_processes_cnt(t.processes), AP_PROCESSES_MAX);
    assert_non_null(ap_processes_sampled(t.processes, PID(7), 0));
    take_exit(&t, PID(7), 1);
    ap_processes_sweep(t.processes, 2 + AP_PROCESS_GRACE_NS);
    take_exec(&t, PID(i)); /* room again */
    assert_int_equal(ap_processes_refused(t.processes), 3);
    table_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mappings_after_exec),
        cmocka_unit_test(exec_starts_from_nothing),
        cmocka_unit_test(fork_shares),
        cmocka_unit_test(mapping_over_mappings),
        cmocka_unit_test(any_mappings),
        cmocka_unit_test(who_maps_it),
        cmocka_unit_test(numbers_are_used_again),
        cmocka_unit_test(grace),
        cmocka_unit_test(exec_by_a_thread),
        cmocka_unit_test(many_end),
        cmocka_unit_test(gone_before_it_was_seen),
        cmocka_unit_test(this_process),
        cmocka_unit_test(child_of_this_process),
        cmocka_unit_test(second_look),
        cmocka_unit_test(names_are_no_mappings),
        cmocka_unit_test(number_of_a_container),
        cmocka_unit_test(perf_map_below_another_root),
        cmocka_unit_test(variables),
        cmocka_unit_test(variables_of_a_child),
        cmocka_unit_test(unwinding),
        cmocka_unit_test(most_mappings),
        cmocka_unit_test(most_processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
