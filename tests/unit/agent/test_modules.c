/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/modules.h"

#include "core/clock.h"
#include "maps.h"
#include "model/capture.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#define NOBODY 0x7ffffffe /* no process has this number */

static uint32_t self_pid(void)
{
    return (uint32_t)getpid();
}

static void fixed_modules(void **state)
{
    static const uint8_t reasons[] = {
        AP_UNRESOLVED_NONE,         AP_UNRESOLVED_NONE,      AP_UNRESOLVED_NO_MAPPING,
        AP_UNRESOLVED_PROCESS_GONE, AP_UNRESOLVED_NAMESPACE, AP_UNRESOLVED_BUDGET,
    };
    struct ap_modules *modules = ap_modules_new();
    uint32_t i;

    (void)state;
    assert_non_null(modules);
    assert_int_equal(ap_modules_cnt(modules), 6);
    for (i = 0; i < 6; i++)
        assert_int_equal(ap_modules_get(modules, i)->reason, reasons[i]);
    assert_int_equal(ap_modules_get(modules, AP_MODULE_ID_KERNEL)->kind, AP_MODULE_KERNEL);
    assert_int_equal(ap_modules_get(modules, AP_MODULE_ID_VDSO)->kind, AP_MODULE_FILE);
    assert_true(ap_modules_get(modules, AP_MODULE_ID_VDSO)->fd >= 0);
    assert_true(ap_modules_get(modules, AP_MODULE_ID_VDSO)->elf.has_symbols);
    assert_null(ap_modules_free(modules));
    assert_null(ap_modules_free(NULL));
}

static void vdso_and_anonymous(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    const struct ap_mapped_file vdso = {.start = 1, .end = 2, .path = "[vdso]"};
    const struct ap_mapped_file anon = {.start = 1, .end = 2, .path = "//anon"};
    uint32_t id;

    (void)state;
    assert_int_equal(ap_modules_file(modules, 7, 7, -1, &vdso), AP_MODULE_ID_VDSO);
    id = ap_modules_file(modules, 7, 3, -1, &anon);
    assert_int_equal(ap_modules_get(modules, id)->kind, AP_MODULE_JIT);
    assert_int_equal(ap_modules_get(modules, id)->pid, 7);
    assert_int_equal(ap_modules_get(modules, id)->ns_pid, 3);
    assert_int_equal(ap_modules_jit(modules, 7, 3, -1), id); /* one per process */
    assert_int_not_equal(ap_modules_jit(modules, 8, 8, -1), id);
    ap_modules_free(modules);
}

static void same_file_same_module(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file;
    struct files files;
    struct ap_module *module;
    void *page;
    uint32_t id;

    (void)state;
    files_begin(&files);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    page = maps_exec(files.path);
    file = maps_find(page);
    assert_int_equal(file.start, (uintptr_t)page);
    id = ap_modules_file(modules, self_pid(), self_pid(), -1, &file);
    module = ap_modules_get(modules, id);
    assert_int_equal(module->kind, AP_MODULE_FILE);
    assert_int_equal(module->reason, 0);
    assert_true(module->fd >= 0);
    assert_string_equal(module->path, files.path);
    assert_int_equal(module->start, file.start);
    assert_int_equal(module->limit, file.end);
    assert_int_equal(module->file_off, 0);
    assert_int_equal(module->elf.build_id_len, 20);
    /* mapped by another process, elsewhere, under another name (a bind mount) */
    file.start += 0x10000;
    file.end += 0x10000;
    file.path = "/elsewhere";
    assert_int_equal(ap_modules_file(modules, NOBODY, 1, -1, &file), id);
    assert_int_equal(ap_modules_cnt(modules), id + 1);
    munmap(page, 4096);
    files_end(&files);
    ap_modules_free(modules);
}

static void deleted_file(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file;
    struct ap_module *module;
    char name[PATH_MAX], magic[4];
    struct files files;
    struct stat st;
    void *page;

    (void)state;
    files_begin(&files);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    (void)snprintf(name, sizeof(name), "%s", files.path);
    page = maps_exec(files.path);
    file = maps_find(page);
    if (!maps_may_open(&file)) {
        munmap(page, 4096);
        files_end(&files);
        ap_modules_free(modules);
        skip();
    }
    assert_int_equal(unlink(files.path), 0);
    files_write(files.path, "another file under that name", 28);
    file = maps_find(page);
    assert_non_null(strstr(file.path, " (deleted)"));
    module = ap_modules_get(modules, ap_modules_file(modules, self_pid(), self_pid(), -1, &file));
    assert_int_equal(module->kind, AP_MODULE_FILE);
    assert_int_equal(module->reason, 0);
    assert_string_equal(module->path, name); /* without the kernel's mark */
    munmap(page, 4096);
    /* the pin outlives both the mapping and the name */
    assert_int_equal(fstat(module->fd, &st), 0);
    assert_int_equal(st.st_ino, file.inode);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(pread(module->fd, magic, 4, 0), 4);
    assert_memory_equal(magic, "\177ELF", 4);
    files_end(&files);
    ap_modules_free(modules);
}

/* The process is gone, so only the path is left to go by. */
static void path_must_lead_to_the_same_file(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file, other;
    struct ap_module *module;
    struct files files;
    struct stat st;
    void *page;

    (void)state;
    files_begin(&files);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    page = maps_exec(files.path);
    file = maps_find(page);
    assert_int_equal(stat(files.path, &st), 0);

    other = file;
    other.inode++;
    module = ap_modules_get(modules, ap_modules_file(modules, NOBODY, 1, -1, &other));
    assert_int_equal(module->kind, AP_MODULE_FILE);
    assert_int_equal(module->reason, AP_UNRESOLVED_FILE_GONE);
    assert_int_equal(module->fd, -1);
    other = file;
    other.dev_minor++;
    module = ap_modules_get(modules, ap_modules_file(modules, NOBODY, 1, -1, &other));
    assert_int_equal(module->reason, AP_UNRESOLVED_FILE_GONE);
    other = file;
    other.path = "/nonexistent/program";
    other.inode += 2;
    module = ap_modules_get(modules, ap_modules_file(modules, NOBODY, 1, -1, &other));
    assert_int_equal(module->reason, AP_UNRESOLVED_FILE_GONE);

    module = ap_modules_get(modules, ap_modules_file(modules, NOBODY, 1, -1, &file));
    /* some file systems show another device in maps */
    if (file.inode == st.st_ino && file.dev_major == major(st.st_dev) && file.dev_minor == minor(st.st_dev)) {
        assert_int_equal(module->reason, 0);
        assert_true(module->fd >= 0);
    }
    munmap(page, 4096);
    files_end(&files);
    ap_modules_free(modules);
}

static void not_elf_is_like_anonymous(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file;
    struct files files;
    uint32_t mine, other;
    void *page;

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "code"), "compiled by a runtime into a file of its own, for later", 55);
    page = maps_exec(files.path);
    file = maps_find(page);
    mine = ap_modules_file(modules, self_pid(), self_pid(), -1, &file);
    other = ap_modules_file(modules, NOBODY, 1, -1, &file);
    assert_int_equal(mine, ap_modules_jit(modules, self_pid(), self_pid(), -1));
    assert_int_equal(other, ap_modules_jit(modules, NOBODY, 1, -1));
    assert_int_not_equal(mine, other);
    assert_int_equal(ap_modules_get(modules, mine)->kind, AP_MODULE_JIT);
    assert_int_equal(ap_modules_get(modules, mine)->reason, 0);
    munmap(page, 4096);
    files_end(&files);
    ap_modules_free(modules);
}

static void broken_elf(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file;
    struct ap_module *module;
    struct files files;
    void *page;

    (void)state;
    files_begin(&files);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    assert_int_equal(truncate(files.path, 4096), 0);
    page = maps_exec(files.path);
    file = maps_find(page);
    module = ap_modules_get(modules, ap_modules_file(modules, self_pid(), self_pid(), -1, &file));
    assert_int_equal(module->kind, AP_MODULE_FILE);
    assert_int_equal(module->reason, AP_UNRESOLVED_BAD_FILE);
    munmap(page, 4096);
    files_end(&files);
    ap_modules_free(modules);
}

static int open_root(const char *path)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* A directory stands for a container's root. */
static void root_confines(void **state)
{
    char text[16] = "", target[PATH_MAX];
    struct files files;
    int root, fd;

    (void)state;
    files_begin(&files);
    files_write(files_path(&files, "secret"), "outside", 7);
    (void)snprintf(target, sizeof(target), "%s", files.path);
    assert_int_equal(mkdir(files_path(&files, "root"), 0755), 0);
    root = open_root(files.path);
    files_write(files_path(&files, "root/secret"), "inside", 6);
    assert_int_equal(symlink("../../secret", files_path(&files, "root/up")), 0);
    assert_int_equal(symlink("/secret", files_path(&files, "root/absolute")), 0);
    assert_int_equal(symlink(target, files_path(&files, "root/outside")), 0);
    assert_int_equal(symlink("/proc/self/root", files_path(&files, "root/magic")), 0);
    assert_int_equal(symlink("loop", files_path(&files, "root/loop")), 0);

    static const char *const inside[] = {"/secret", "secret", "/up", "/absolute", "/../../../secret", "../secret"};
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        fd = ap_open_in_root(root, inside[i]);
        assert_true(fd >= 0);
        assert_int_equal(read(fd, text, sizeof(text)), 6);
        assert_memory_equal(text, "inside", 6);
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        close(fd);
    }
    assert_int_equal(ap_open_in_root(root, "/outside"), -ENOENT);
    assert_int_equal(ap_open_in_root(root, "/magic/etc/passwd"), -ENOENT);
    assert_int_equal(ap_open_in_root(root, "/loop"), -ELOOP);
    assert_int_equal(ap_open_in_root(root, "/none"), -ENOENT);
    assert_int_equal(ap_open_in_root(-1, "/nonexistent/x"), -ENOENT);
    close(root);
    root = open_root("/proc");
    assert_int_equal(ap_open_in_root(root, "/self/exe"), -ELOOP); /* a magic link leads anywhere */
    close(root);
    files_end(&files);
}

static void only_regular_files(void **state)
{
    struct files files;
    int root;

    (void)state;
    files_begin(&files);
    root = open_root(files.dir);
    assert_int_equal(mkdir(files_path(&files, "dir"), 0755), 0);
    assert_int_equal(ap_open_in_root(root, "/dir"), -EACCES);
    assert_int_equal(ap_open_in_root(-1, files.path), -EACCES);
    assert_int_equal(mkfifo(files_path(&files, "fifo"), 0600), 0);
    assert_int_equal(ap_open_in_root(root, "/fifo"), -EACCES);
    assert_int_equal(ap_open_in_root(-1, files.path), -EACCES);
    assert_int_equal(symlink("/dev/null", files_path(&files, "device")), 0);
    assert_int_equal(ap_open_in_root(-1, files.path), -EACCES);
    close(root);
    files_end(&files);
}

/* Opening a pipe, if only to look at it, would let its writer go on. */
static void pipes_are_not_touched(void **state)
{
    struct files files;
    int i, status;
    pid_t writer;

    (void)state;
    files_begin(&files);
    assert_int_equal(mkfifo(files_path(&files, "fifo"), 0600), 0);
    writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        (void)open(files.path, O_WRONLY | O_CLOEXEC); /* waits for a reader */
        _exit(0);
    }
    for (i = 0; i < 50; i++) {
        assert_int_equal(ap_open_in_root(-1, files.path), -EACCES);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    assert_int_equal(waitpid(writer, &status, WNOHANG), 0);
    assert_int_equal(kill(writer, SIGKILL), 0);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    files_end(&files);
}

static void perf_map_at_the_end(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    char path[64];
    uint32_t id;

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/perf-%u.map", self_pid());
    files_write(path, "1000 100 compiled\n", 18);
    id = ap_modules_jit(modules, self_pid(), self_pid(), -1);
    assert_null(ap_modules_get(modules, id)->perfmap);
    ap_modules_end_jit(modules, self_pid());
    assert_string_equal(ap_perfmap_find(ap_modules_get(modules, id)->perfmap, 0x10ff), "compiled");
    /* the number is used again */
    files_write(path, "2000 100 newer\n", 15);
    assert_int_not_equal(ap_modules_jit(modules, self_pid(), self_pid(), -1), id);
    id = ap_modules_jit(modules, self_pid(), self_pid(), -1);
    ap_module_read_perfmap(ap_modules_get(modules, id));
    assert_null(ap_perfmap_find(ap_modules_get(modules, id)->perfmap, 0x10ff));
    assert_string_equal(ap_perfmap_find(ap_modules_get(modules, id)->perfmap, 0x2000), "newer");
    /* read once: what is written later does not count */
    files_write(path, "", 0);
    ap_module_read_perfmap(ap_modules_get(modules, id));
    assert_string_equal(ap_perfmap_find(ap_modules_get(modules, id)->perfmap, 0x2000), "newer");
    unlink(path);
    ap_modules_end_jit(modules, NOBODY); /* has none */
    /* it had no map when it ended: that of the number's next owner is not its own */
    ap_modules_end_jit(modules, self_pid());
    id = ap_modules_jit(modules, self_pid(), self_pid(), -1);
    ap_modules_end_jit(modules, self_pid());
    files_write(path, "3000 100 stranger\n", 18);
    ap_module_read_perfmap(ap_modules_get(modules, id));
    assert_null(ap_modules_get(modules, id)->perfmap);
    unlink(path);
    ap_modules_free(modules);
}

/* The process is gone: its map is looked for in the root it had, under the number it had there. */
static void perf_map_in_a_container(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct files files;
    uint32_t with, without, astray;
    int root;

    (void)state;
    files_begin(&files);
    root = open_root(files.dir);
    assert_int_equal(mkdir(files_path(&files, "tmp"), 0755), 0);
    files_write(files_path(&files, "tmp/perf-1.map"), "1000 100 inside\n", 16);
    files_write(files_path(&files, "target"), "1000 100 astray\n", 16);
    assert_int_equal(symlink("../../../../etc/passwd", files_path(&files, "tmp/perf-2.map")), 0);
    with = ap_modules_jit(modules, NOBODY, 1, root);
    without = ap_modules_jit(modules, NOBODY - 1, 77, root);
    astray = ap_modules_jit(modules, NOBODY - 2, 2, root);
    ap_modules_end_jit(modules, NOBODY);
    ap_modules_end_jit(modules, NOBODY - 1);
    ap_modules_end_jit(modules, NOBODY - 2);
    assert_string_equal(ap_perfmap_find(ap_modules_get(modules, with)->perfmap, 0x1000), "inside");
    assert_null(ap_modules_get(modules, without)->perfmap);
    assert_null(ap_modules_get(modules, astray)->perfmap);
    close(root);
    files_end(&files);
    ap_modules_free(modules);
}

static void most_modules(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    uint32_t pid;

    (void)state;
    for (pid = 1; ap_modules_cnt(modules) < AP_MODULES_MAX; pid++)
        assert_int_not_equal(ap_modules_jit(modules, pid, pid, -1), AP_MODULE_ID_BUDGET);
    assert_int_equal(ap_modules_jit(modules, pid, pid, -1), AP_MODULE_ID_BUDGET);
    assert_int_equal(ap_modules_cnt(modules), AP_MODULES_MAX);
    assert_int_not_equal(ap_modules_jit(modules, 1, 1, -1), AP_MODULE_ID_BUDGET); /* known before */
    const struct ap_mapped_file file = {.start = 1, .end = 2, .inode = 3, .path = "/x"};
    assert_int_equal(ap_modules_file(modules, 1, 1, -1, &file), AP_MODULE_ID_BUDGET);
    ap_modules_free(modules);
}

/* One file under many numbers takes a descriptor each, until there are enough. */
static void most_pins(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file = maps_find((const void *)(uintptr_t)most_pins);
    struct rlimit limit, high;
    uint32_t i, id = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    high = limit;
    high.rlim_cur = high.rlim_max;
    if (!maps_may_open(&file) || limit.rlim_max < AP_MODULE_PINS_MAX + 64) {
        ap_modules_free(modules);
        skip();
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &high), 0);
    for (i = 0; i < AP_MODULE_PINS_MAX; i++) {
        file.inode++;
        id = ap_modules_file(modules, self_pid(), self_pid(), -1, &file);
        assert_int_equal(ap_modules_get(modules, id)->reason, 0);
    }
    file.inode++;
    id = ap_modules_file(modules, self_pid(), self_pid(), -1, &file);
    assert_int_equal(ap_modules_get(modules, id)->kind, AP_MODULE_FILE);
    assert_int_equal(ap_modules_get(modules, id)->reason, AP_UNRESOLVED_BUDGET);
    assert_int_equal(ap_modules_get(modules, id)->fd, -1);
    assert_int_equal(ap_modules_get(modules, id)->elf.build_id_len, 20); /* known all the same */
    assert_int_equal(ap_modules_file(modules, self_pid(), self_pid(), -1, &file), id);
    assert_int_equal(ap_modules_get(modules, id)->fd, -1);
    ap_modules_release(modules, id - 1); /* makes room for the next that asks */
    assert_int_equal(ap_modules_file(modules, self_pid(), self_pid(), -1, &file), id);
    assert_true(ap_modules_get(modules, id)->fd >= 0);
    assert_int_equal(ap_modules_get(modules, id)->reason, 0);
    assert_int_equal(ap_modules_pins(modules), AP_MODULE_PINS_MAX);
    ap_modules_free(modules);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Letting go ------------------------------------------------------------------------------------------------------- */

/* A copy of this program, mapped and known as a module. */
struct copy {
    struct files files;
    struct ap_mapped_file file;
    char name[PATH_MAX];
    void *page;
    uint32_t id;
};

static void copy_begin(struct copy *copy, struct ap_modules *modules)
{
    files_begin(&copy->files);
    (void)snprintf(copy->name, sizeof(copy->name), "%s", files_path(&copy->files, "program"));
    files_copy("/proc/self/exe", copy->name);
    copy->page = maps_exec(copy->name);
    copy->file = maps_find(copy->page);
    copy->file.path = copy->name;
    copy->id = ap_modules_file(modules, self_pid(), self_pid(), -1, &copy->file);
}

static void copy_end(struct copy *copy)
{
    munmap(copy->page, 4096);
    files_end(&copy->files);
}

/* What another process that maps the file gets. */
static uint32_t again(const struct copy *copy, struct ap_modules *modules)
{
    return ap_modules_file(modules, self_pid(), self_pid(), -1, &copy->file);
}

static bool is_idle(const struct ap_modules *modules, uint32_t wanted, uint64_t now_ns)
{
    uint32_t pos = 0, id;
    bool found = false;

    while (ap_modules_next_idle(modules, now_ns, &pos, &id)) {
        assert_int_not_equal(id, AP_MODULE_ID_VDSO);
        found |= id == wanted;
    }
    return found;
}

static void idle_files(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    uint64_t before = ap_clock_monotonic_ns(), after;
    struct copy copy;

    (void)state;
    copy_begin(&copy, modules);
    after = ap_clock_monotonic_ns();
    assert_int_equal(ap_modules_pins(modules), 1);
    assert_false(is_idle(modules, copy.id, before + AP_MODULE_IDLE_NS - 1));
    assert_true(is_idle(modules, copy.id, after + AP_MODULE_IDLE_NS)); /* met, but never mapped */
    ap_modules_mapped(modules, copy.id);
    ap_modules_mapped(modules, copy.id);
    assert_false(is_idle(modules, copy.id, UINT64_MAX));
    ap_modules_unmapped(modules, copy.id);
    assert_false(is_idle(modules, copy.id, UINT64_MAX));
    before = ap_clock_monotonic_ns();
    ap_modules_unmapped(modules, copy.id);
    assert_false(is_idle(modules, copy.id, before + AP_MODULE_IDLE_NS - 1));
    assert_true(is_idle(modules, copy.id, UINT64_MAX));
    ap_modules_mapped(modules, copy.id); /* in time */
    ap_modules_unmapped(modules, copy.id);
    assert_false(is_idle(modules, copy.id, ap_clock_monotonic_ns() + AP_MODULE_IDLE_NS - AP_NS_PER_SEC));
    copy_end(&copy);
    ap_modules_free(modules);
}

static void let_go_and_back(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_module *module;
    struct copy copy;
    int fd;

    (void)state;
    copy_begin(&copy, modules);
    module = ap_modules_get(modules, copy.id);
    fd = module->fd;
    assert_non_null(ap_module_loads(module));
    (void)ap_module_unwind(modules, module);
    ap_modules_release(modules, copy.id);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(module->fd, -1);
    assert_int_equal(module->reason, 0); /* its names stay */
    assert_int_equal(ap_modules_pins(modules), 0);
    assert_null(ap_module_loads(module));
    assert_null(ap_module_unwind(modules, module));
    assert_false(is_idle(modules, copy.id, UINT64_MAX));
    assert_int_equal(again(&copy, modules), copy.id);
    assert_true(module->fd >= 0);
    assert_int_equal(ap_modules_pins(modules), 1);
    assert_non_null(ap_module_loads(module));
#ifdef __x86_64__
    assert_non_null(ap_module_unwind(modules, module));
#endif
    assert_false(is_idle(modules, copy.id, ap_clock_monotonic_ns()));
    copy_end(&copy);
    ap_modules_free(modules);
}

/* The inode is used again for another program. */
static void another_file_in_its_place(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct copy copy;
    uint32_t id;

    (void)state;
    copy_begin(&copy, modules);
    files_copy("/proc/self/exe", copy.name);
    assert_int_equal(again(&copy, modules), copy.id); /* pinned: no question */
    ap_modules_release(modules, copy.id);
    files_copy("/proc/self/exe", copy.name); /* as it was, but for the time of its change */
    assert_int_equal(again(&copy, modules), copy.id);
    ap_modules_release(modules, copy.id);
    munmap(copy.page, 4096);
    files_copy("/bin/sh", copy.name);
    id = again(&copy, modules);
    assert_int_not_equal(id, copy.id);
    assert_int_equal(ap_modules_get(modules, id)->kind, AP_MODULE_FILE);
    assert_true(ap_modules_get(modules, id)->fd >= 0);
    assert_int_equal(ap_modules_get(modules, copy.id)->fd, -1);
    assert_int_not_equal(
        memcmp(ap_modules_get(modules, id)->elf.build_id, ap_modules_get(modules, copy.id)->elf.build_id, 20), 0);
    assert_int_equal(again(&copy, modules), id);
    assert_int_equal(ap_modules_pins(modules), 1);
    /* no program at all */
    ap_modules_release(modules, id);
    files_write(copy.name, "text", 4);
    assert_int_equal(again(&copy, modules), ap_modules_jit(modules, self_pid(), self_pid(), -1));
    assert_int_equal(ap_modules_pins(modules), 0);
    files_end(&copy.files);
    ap_modules_free(modules);
}

/* Makes a note of another type of the build id. */
static void remove_build_id(const char *path)
{
    static const char head[] = {4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    char *data, *at;

    assert_true(fd >= 0 && !fstat(fd, &st));
    data = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(data != MAP_FAILED);
    at = memmem(data, (size_t)st.st_size, head, sizeof(head));
    assert_non_null(at);
    at[8] = 99;
    munmap(data, (size_t)st.st_size);
    close(fd);
}

static void files_without_build_id(void **state)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
    struct ap_modules *modules = ap_modules_new();
    struct copy copy;
    uint32_t id;

    (void)state;
    files_begin(&copy.files);
    (void)snprintf(copy.name, sizeof(copy.name), "%s", files_path(&copy.files, "program"));
    files_copy("/proc/self/exe", copy.name);
    remove_build_id(copy.name);
    assert_int_equal(utimensat(AT_FDCWD, copy.name, times, 0), 0);
    copy.page = maps_exec(copy.name);
    copy.file = maps_find(copy.page);
    copy.file.path = copy.name;
    id = again(&copy, modules);
    assert_int_equal(ap_modules_get(modules, id)->elf.build_id_len, 0);
    ap_modules_release(modules, id);
    assert_int_equal(again(&copy, modules), id);
    ap_modules_release(modules, id);
    times[1].tv_nsec = 1;
    assert_int_equal(utimensat(AT_FDCWD, copy.name, times, 0), 0);
    assert_int_not_equal(again(&copy, modules), id);
    copy_end(&copy);
    ap_modules_free(modules);
}

/* It cannot be opened any more: the module stays what it was. */
static void gone_when_it_is_back(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct copy copy;

    (void)state;
    copy_begin(&copy, modules);
    ap_modules_release(modules, copy.id);
    munmap(copy.page, 4096);
    assert_int_equal(unlink(copy.name), 0);
    assert_int_equal(ap_modules_file(modules, NOBODY, 1, -1, &copy.file), copy.id);
    assert_int_equal(ap_modules_get(modules, copy.id)->fd, -1);
    assert_int_equal(ap_modules_get(modules, copy.id)->reason, 0);
    files_end(&copy.files);
    ap_modules_free(modules);
}

static void broken_and_let_go(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct copy copy;

    (void)state;
    files_begin(&copy.files);
    (void)snprintf(copy.name, sizeof(copy.name), "%s", files_path(&copy.files, "program"));
    files_copy("/proc/self/exe", copy.name);
    assert_int_equal(truncate(copy.name, 4096), 0);
    copy.page = maps_exec(copy.name);
    copy.file = maps_find(copy.page);
    copy.file.path = copy.name;
    copy.id = again(&copy, modules);
    assert_int_equal(ap_modules_get(modules, copy.id)->reason, AP_UNRESOLVED_BAD_FILE);
    ap_modules_release(modules, copy.id);
    assert_int_equal(again(&copy, modules), copy.id); /* as broken as before */
    assert_int_equal(ap_modules_get(modules, copy.id)->reason, AP_UNRESOLVED_BAD_FILE);
    ap_modules_release(modules, copy.id);
    munmap(copy.page, 4096);
    files_copy("/proc/self/exe", copy.name);
    assert_int_not_equal(again(&copy, modules), copy.id);
    files_end(&copy.files);
    ap_modules_free(modules);
}

/* Segments and unwind rules are read when they are asked for, once, as long as the file is held. */
static void segments_and_rules(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    const struct ap_mapped_file file = maps_find((const void *)(uintptr_t)segments_and_rules);
    uint32_t id = ap_modules_file(modules, self_pid(), self_pid(), -1, &file);
    struct ap_module *module = ap_modules_get(modules, id);
    const struct ap_elf_loads *loads;
    uint64_t bias;
    uint32_t i;

    (void)state;
    assert_null(module->loads);
    assert_null(module->unwind);
    loads = ap_module_loads(module);
    assert_non_null(loads);
    assert_ptr_equal(ap_module_loads(module), loads);
    assert_int_equal(ap_elf_bias(loads, file.start, file.file_off, &bias), 0);
    assert_true(ap_elf_covers(loads, (uintptr_t)&segments_and_rules - bias));
#ifdef __x86_64__
    assert_non_null(ap_module_unwind(modules, module));
    assert_true(ap_unwind_table_rows(module->unwind) > 0);
#endif
    assert_ptr_equal(ap_module_unwind(modules, module), module->unwind);

    for (i = 0; i < ap_modules_cnt(modules); i++) {
        if (i == id || i == AP_MODULE_ID_VDSO)
            continue;
        assert_null(ap_module_loads(ap_modules_get(modules, i)));
        assert_null(ap_module_unwind(modules, ap_modules_get(modules, i)));
    }
    module = ap_modules_get(modules, ap_modules_jit(modules, self_pid(), self_pid(), -1));
    assert_null(ap_module_loads(module));
    assert_null(ap_module_unwind(modules, module));
    ap_modules_free(modules);
}

static void no_segments_of_broken_files(void **state)
{
    struct ap_modules *modules = ap_modules_new();
    struct ap_mapped_file file;
    struct ap_module *module;
    struct files files;
    void *page;

    (void)state;
    files_begin(&files);
    files_copy("/proc/self/exe", files_path(&files, "program"));
    assert_int_equal(truncate(files.path, 4096), 0);
    page = maps_exec(files.path);
    file = maps_find(page);
    module = ap_modules_get(modules, ap_modules_file(modules, self_pid(), self_pid(), -1, &file));
    assert_null(ap_module_loads(module));
    assert_null(ap_module_loads(module));
    assert_null(ap_module_unwind(modules, module));
    munmap(page, 4096);
    files_end(&files);
    ap_modules_free(modules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_modules),
        cmocka_unit_test(vdso_and_anonymous),
        cmocka_unit_test(same_file_same_module),
        cmocka_unit_test(deleted_file),
        cmocka_unit_test(path_must_lead_to_the_same_file),
        cmocka_unit_test(not_elf_is_like_anonymous),
        cmocka_unit_test(broken_elf),
        cmocka_unit_test(root_confines),
        cmocka_unit_test(only_regular_files),
        cmocka_unit_test(pipes_are_not_touched),
        cmocka_unit_test(perf_map_at_the_end),
        cmocka_unit_test(perf_map_in_a_container),
        cmocka_unit_test(idle_files),
        cmocka_unit_test(let_go_and_back),
        cmocka_unit_test(another_file_in_its_place),
        cmocka_unit_test(files_without_build_id),
        cmocka_unit_test(gone_when_it_is_back),
        cmocka_unit_test(broken_and_let_go),
        cmocka_unit_test(segments_and_rules),
        cmocka_unit_test(no_segments_of_broken_files),
        cmocka_unit_test(most_modules),
        cmocka_unit_test(most_pins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
