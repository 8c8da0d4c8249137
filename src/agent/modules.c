/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/modules.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"
#include "model/capture.h"
#include "symbol/vdso.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct file_key {
    uint32_t dev_major, dev_minor;
    uint64_t inode;
};

struct entry {
    struct ap_module module;
    uint32_t id;
    union {
        struct file_key file;
        uint32_t pid;
    } key;
};

struct ap_modules {
    struct entry **entries;
    size_t cnt, cap, pins;
    size_t unwind_sz;    /* memory of all unwind tables */
    uint64_t unwind_ns;  /* spent on reading them in this drain */
    struct ap_map files; /* struct file_key -> entry */
    struct ap_map jits;  /* pid -> entry */
};

/* Looks first and opens then: opening a device or a pipe has effects of its own. */
int ap_open_in_root(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    char link[64];
    struct stat st;
    int place, fd;

    if (root_fd < 0)
        place = open(path, O_PATH | O_CLOEXEC);
    else
        place = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    if (place < 0)
        return -errno;
    if (fstat(place, &st) || !S_ISREG(st.st_mode)) {
        close(place);
        return -EACCES;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", place);
    fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        fd = -errno;
    close(place);
    return fd;
}

static struct entry *add(struct ap_modules *modules, uint8_t kind, const char *path, uint8_t reason)
{
    struct entry **entries, *entry;
    size_t cap;

    if (modules->cnt == AP_MODULES_MAX)
        return NULL;
    if (modules->cnt == modules->cap) {
        cap = modules->cap ? modules->cap * 2 : 256;
        entries = realloc(modules->entries, cap * sizeof(*entries));
        if (!entries)
            return NULL;
        modules->entries = entries;
        modules->cap = cap;
    }
    entry = calloc(1, sizeof(*entry));
    if (!entry)
        return NULL;
    entry->module.path = strdup(path);
    if (!entry->module.path) {
        free(entry);
        return NULL;
    }
    entry->module.kind = kind;
    entry->module.reason = reason;
    entry->module.fd = -1;
    entry->module.root_fd = -1;
    entry->id = (uint32_t)modules->cnt;
    modules->entries[modules->cnt++] = entry;
    return entry;
}

struct ap_modules *ap_modules_new(void)
{
    static const struct {
        uint8_t kind, reason;
        const char *path;
    } fixed[] = {
        [AP_MODULE_ID_KERNEL] = {AP_MODULE_KERNEL, AP_UNRESOLVED_NONE, "[kernel]"},
        [AP_MODULE_ID_VDSO] = {AP_MODULE_FILE, AP_UNRESOLVED_NONE, "[vdso]"},
        [AP_MODULE_ID_NO_MAPPING] = {AP_MODULE_UNMAPPED, AP_UNRESOLVED_NO_MAPPING, "[unmapped]"},
        [AP_MODULE_ID_PROCESS_GONE] = {AP_MODULE_UNMAPPED, AP_UNRESOLVED_PROCESS_GONE, "[process gone]"},
        [AP_MODULE_ID_NAMESPACE] = {AP_MODULE_UNMAPPED, AP_UNRESOLVED_NAMESPACE, "[other pid namespace]"},
        [AP_MODULE_ID_BUDGET] = {AP_MODULE_UNMAPPED, AP_UNRESOLVED_BUDGET, "[too many modules]"},
    };
    struct ap_modules *modules = calloc(1, sizeof(*modules));
    struct entry *entry;
    size_t i;

    if (!modules)
        return NULL;
    ap_map_init(&modules->files, AP_MODULES_MAX);
    ap_map_init(&modules->jits, AP_MODULES_MAX);
    for (i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        entry = add(modules, fixed[i].kind, fixed[i].path, fixed[i].reason);
        if (!entry)
            return ap_modules_free(modules);
        if (i != AP_MODULE_ID_VDSO)
            continue;
        entry->module.fd = ap_vdso_open(); /* every 64-bit process has the same one */
        if (entry->module.fd < 0 || ap_elf_inspect(entry->module.fd, &entry->module.elf))
            entry->module.reason = AP_UNRESOLVED_FILE_GONE;
    }
    return modules;
}

struct ap_modules *ap_modules_free(struct ap_modules *modules)
{
    size_t i;

    if (!modules)
        return NULL;
    for (i = 0; i < modules->cnt; i++) {
        if (modules->entries[i]->module.fd >= 0)
            close(modules->entries[i]->module.fd);
        ap_perfmap_free(modules->entries[i]->module.perfmap);
        ap_unwind_table_free(modules->entries[i]->module.unwind);
        free(modules->entries[i]->module.loads);
        free(modules->entries[i]->module.path);
        free(modules->entries[i]);
    }
    free(modules->entries);
    ap_map_done(&modules->files);
    ap_map_done(&modules->jits);
    free(modules);
    return NULL;
}

size_t ap_modules_cnt(const struct ap_modules *modules)
{
    return modules->cnt;
}

struct ap_module *ap_modules_get(const struct ap_modules *modules, uint32_t id)
{
    return &modules->entries[id]->module;
}

/* "/usr/bin/x (deleted)" -> "/usr/bin/x": the kernel's mark is not part of the name. */
static void strip_deleted(char *path)
{
    static const char mark[] = " (deleted)";
    size_t len = strlen(path);

    if (len > sizeof(mark) - 1 && !strcmp(path + len - (sizeof(mark) - 1), mark))
        path[len - (sizeof(mark) - 1)] = '\0';
}

/* The very file the process runs, or negative errno. */
static int open_mapped(uint32_t pid, int root_fd, const struct ap_mapped_file *file, const char *path)
{
    char link[96];
    struct stat st;
    int fd, rc;

    snprintf(link, sizeof(link), "/proc/%u/map_files/%llx-%llx", pid, (unsigned long long)file->start,
             (unsigned long long)file->end);
    fd = ap_open_in_root(-1, link);
    if (fd >= 0)
        return fd;
    rc = fd;
    fd = ap_open_in_root(root_fd, path);
    if (fd < 0)
        return rc == -EACCES || rc == -EPERM ? rc : fd;
    if (!fstat(fd, &st) && st.st_ino == file->inode && major(st.st_dev) == file->dev_major &&
        minor(st.st_dev) == file->dev_minor)
        return fd;
    close(fd); /* another file of that name */
    return -ENOENT;
}

/* A file looked at: whether and how it can be used. */
struct pin {
    int fd; /* -1 = none, for `reason` */
    bool is_elf;
    uint8_t reason;
    struct ap_elf_info elf;
    uint64_t file_sz, file_ns;
};

/* Opens and inspects. The caller owns ret_pin->fd. */
static void look_at(uint32_t pid, int root_fd, const struct ap_mapped_file *file, struct pin *ret_pin)
{
    char path[PATH_MAX];
    struct stat st;
    int rc;

    snprintf(path, sizeof(path), "%s", file->path);
    strip_deleted(path);
    *ret_pin = (struct pin){.fd = open_mapped(pid, root_fd, file, path), .is_elf = true};
    if (ret_pin->fd < 0) {
        ret_pin->reason =
            ret_pin->fd == -EACCES || ret_pin->fd == -EPERM ? AP_UNRESOLVED_PERMISSION : AP_UNRESOLVED_FILE_GONE;
        ap_log_debug("cannot open %s of process %u: %s", path, pid, strerror(-ret_pin->fd));
        ret_pin->fd = -1;
        return;
    }
    rc = ap_elf_inspect(ret_pin->fd, &ret_pin->elf);
    ret_pin->is_elf = rc != -ENOEXEC;
    if (rc && ret_pin->is_elf)
        ret_pin->reason = AP_UNRESOLVED_BAD_FILE;
    if (!fstat(ret_pin->fd, &st)) {
        ret_pin->file_sz = (uint64_t)st.st_size;
        ret_pin->file_ns = (uint64_t)st.st_mtim.tv_sec * AP_NS_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
    }
}

static void close_pin(struct pin *pin)
{
    if (pin->fd >= 0)
        close(pin->fd);
    pin->fd = -1;
}

/* Gives the module what was found, its descriptor included. A file that holds no ELF code is treated like anonymous
 * memory. */
static void settle_pin(struct ap_modules *modules, struct ap_module *module, struct pin *pin)
{
    if (!pin->is_elf)
        module->kind = AP_MODULE_JIT; /* mark only: the process's own module is used */
    module->reason = pin->reason;
    module->elf = pin->elf;
    module->file_sz = pin->file_sz;
    module->file_ns = pin->file_ns;
    module->idle_ns = ap_clock_monotonic_ns();
    if (pin->fd < 0 || !pin->is_elf) {
        close_pin(pin);
    } else if (modules->pins >= AP_MODULE_PINS_MAX) {
        close_pin(pin);
        if (!module->reason)
            module->reason = AP_UNRESOLVED_BUDGET;
    } else {
        modules->pins++;
        module->fd = pin->fd;
    }
}

/* New module of a file; NULL past the bounds. It takes the key over from an older one. */
static struct entry *add_file(struct ap_modules *modules, const struct file_key *key, const struct ap_mapped_file *file,
                              struct pin *pin)
{
    struct entry *entry = add(modules, AP_MODULE_FILE, file->path, AP_UNRESOLVED_NONE);

    if (!entry) {
        close_pin(pin);
        return NULL;
    }
    entry->key.file = *key;
    entry->module.start = file->start;
    entry->module.limit = file->end;
    entry->module.file_off = file->file_off;
    strip_deleted(entry->module.path);
    settle_pin(modules, &entry->module, pin);
    return ap_map_put(&modules->files, &entry->key.file, sizeof(entry->key.file), entry) ? NULL : entry;
}

/* Not pinned although it could be: it was let go, or there was no room. */
static bool wants_pin(const struct ap_modules *modules, const struct ap_module *module)
{
    return module->kind == AP_MODULE_FILE && module->fd < 0 && modules->pins < AP_MODULE_PINS_MAX &&
           (!module->reason || module->reason == AP_UNRESOLVED_BUDGET || module->reason == AP_UNRESOLVED_BAD_FILE);
}

/* An inode number is used again once its file is deleted and nobody has it open. */
static bool is_same_file(const struct ap_module *module, const struct pin *pin)
{
    if (!pin->is_elf || (pin->reason != AP_UNRESOLVED_NONE) != (module->reason == AP_UNRESOLVED_BAD_FILE))
        return false;
    if (module->elf.build_id_len || pin->elf.build_id_len)
        return module->elf.build_id_len == pin->elf.build_id_len &&
               !memcmp(module->elf.build_id, pin->elf.build_id, pin->elf.build_id_len);
    return module->file_sz == pin->file_sz && module->file_ns == pin->file_ns;
}

/* Pins the file of a module again; the module that stands for what is there now, NULL past the bounds. */
static struct entry *pin_again(struct ap_modules *modules, struct entry *entry, uint32_t pid, int root_fd,
                               const struct ap_mapped_file *file)
{
    struct pin pin;

    look_at(pid, root_fd, file, &pin);
    if (pin.fd < 0)
        return entry; /* what has names keeps them; others can be told no more of */
    if (!is_same_file(&entry->module, &pin))
        return add_file(modules, &entry->key.file, file, &pin);
    settle_pin(modules, &entry->module, &pin);
    return entry;
}

uint32_t ap_modules_file(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd,
                         const struct ap_mapped_file *file)
{
    struct file_key key = {file->dev_major, file->dev_minor, file->inode};
    struct entry *entry;
    struct pin pin;

    if (!strcmp(file->path, "[vdso]"))
        return AP_MODULE_ID_VDSO;
    if (!file->inode)
        return ap_modules_jit(modules, pid, ns_pid, root_fd);
    entry = ap_map_get(&modules->files, &key, sizeof(key));
    if (!entry && modules->cnt == AP_MODULES_MAX)
        return AP_MODULE_ID_BUDGET;
    if (!entry) {
        look_at(pid, root_fd, file, &pin);
        entry = add_file(modules, &key, file, &pin);
    } else if (wants_pin(modules, &entry->module)) {
        entry = pin_again(modules, entry, pid, root_fd, file);
    }
    if (!entry)
        return AP_MODULE_ID_BUDGET;
    return entry->module.kind == AP_MODULE_JIT ? ap_modules_jit(modules, pid, ns_pid, root_fd) : entry->id;
}

void ap_modules_mapped(struct ap_modules *modules, uint32_t id)
{
    modules->entries[id]->module.mapped++;
}

void ap_modules_unmapped(struct ap_modules *modules, uint32_t id)
{
    struct ap_module *module = &modules->entries[id]->module;

    assert(module->mapped);
    if (!--module->mapped)
        module->idle_ns = ap_clock_monotonic_ns();
}

bool ap_modules_next_idle(const struct ap_modules *modules, uint64_t now_ns, uint32_t *pos, uint32_t *ret_id)
{
    const struct ap_module *module;

    while (*pos < modules->cnt) {
        *ret_id = (*pos)++;
        module = &modules->entries[*ret_id]->module;
        if (module->kind == AP_MODULE_FILE && module->fd >= 0 && !module->mapped && *ret_id != AP_MODULE_ID_VDSO &&
            module->idle_ns + AP_MODULE_IDLE_NS <= now_ns)
            return true;
    }
    return false;
}

void ap_modules_release(struct ap_modules *modules, uint32_t id)
{
    struct ap_module *module = &modules->entries[id]->module;

    assert(module->kind == AP_MODULE_FILE && module->fd >= 0 && id != AP_MODULE_ID_VDSO);
    ap_log_debug("letting go of %s", module->path);
    close(module->fd);
    module->fd = -1;
    modules->pins--;
    if (module->unwind)
        modules->unwind_sz -= ap_unwind_table_memory(module->unwind);
    module->unwind = ap_unwind_table_free(module->unwind);
    free(module->loads);
    module->loads = NULL;
    module->unwind_tried = module->loads_tried = false;
}

size_t ap_modules_pins(const struct ap_modules *modules)
{
    return modules->pins;
}

uint32_t ap_modules_jit(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd)
{
    struct entry *entry = ap_map_get(&modules->jits, &pid, sizeof(pid));

    if (entry)
        return entry->id;
    entry = add(modules, AP_MODULE_JIT, "[anon]", AP_UNRESOLVED_NONE);
    if (!entry)
        return AP_MODULE_ID_BUDGET;
    entry->key.pid = pid;
    entry->module.pid = pid;
    entry->module.ns_pid = ns_pid;
    entry->module.root_fd = root_fd;
    if (ap_map_put(&modules->jits, &entry->key.pid, sizeof(entry->key.pid), entry))
        return AP_MODULE_ID_BUDGET;
    return entry->id;
}

void ap_modules_know_jit(struct ap_modules *modules, uint32_t pid, uint32_t ns_pid, int root_fd)
{
    struct entry *entry = ap_map_get(&modules->jits, &pid, sizeof(pid));

    if (!entry)
        return;
    entry->module.ns_pid = ns_pid;
    entry->module.root_fd = root_fd;
}

void ap_modules_end_jit(struct ap_modules *modules, uint32_t pid)
{
    struct entry *entry = ap_map_remove(&modules->jits, &pid, sizeof(pid));

    if (!entry)
        return;
    ap_module_read_perfmap(&entry->module);
    entry->module.ended = true;
    entry->module.root_fd = -1;
}

/* The map below a root directory; its own symbolic links cannot lead out of there. */
static int open_perfmap(int root_fd, uint32_t ns_pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/perf-%u.map", ns_pid);
    return ap_open_in_root(root_fd, path);
}

/* The perf map as it is now, NULL when there is none that can be used. */
static struct ap_perfmap *load_perfmap(const struct ap_module *module)
{
    struct ap_perfmap *perfmap = NULL;
    char path[64];
    int root, fd = -ENOENT;

    snprintf(path, sizeof(path), "/proc/%u/root", module->pid);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0) {
        fd = open_perfmap(root, module->ns_pid);
        close(root);
    }
    if (fd < 0)
        fd = open_perfmap(module->root_fd, module->ns_pid);
    if (fd < 0)
        return NULL;
    if (ap_perfmap_read(fd, &perfmap))
        ap_log_debug("cannot use the perf map of process %u", module->pid);
    close(fd);
    return perfmap;
}

void ap_module_read_perfmap(struct ap_module *module)
{
    if (module->perfmap || module->ended)
        return;
    module->perfmap_ns = ap_clock_monotonic_ns();
    module->perfmap = load_perfmap(module);
    module->perfmap_took_ns = ap_clock_monotonic_ns() - module->perfmap_ns;
}

bool ap_module_refresh_perfmap(struct ap_module *module)
{
    uint64_t now = ap_clock_monotonic_ns(), pause = module->perfmap_took_ns * 100;
    struct ap_perfmap *perfmap;

    if (pause < AP_PERFMAP_PAUSE_NS)
        pause = AP_PERFMAP_PAUSE_NS;
    if (module->ended || now - module->perfmap_ns < pause)
        return false;
    perfmap = load_perfmap(module);
    module->perfmap_ns = now;
    module->perfmap_took_ns = ap_clock_monotonic_ns() - now;
    if (!perfmap)
        return false;
    ap_perfmap_free(module->perfmap);
    module->perfmap = perfmap;
    return true;
}

const struct ap_unwind_table *ap_module_unwind(struct ap_modules *modules, struct ap_module *module)
{
    uint64_t start_ns;

    if (module->unwind_tried || module->kind != AP_MODULE_FILE || module->fd < 0 || module->reason)
        return module->unwind;
    if (modules->unwind_sz >= AP_MODULES_UNWIND_SZ_MAX)
        return NULL; /* until others are let go */
    if (modules->unwind_ns >= AP_MODULES_UNWIND_DRAIN_NS)
        return NULL; /* in this drain */
    module->unwind_tried = true;
    start_ns = ap_clock_monotonic_ns();
    if (!ap_unwind_table_new(module->fd, &module->unwind))
        modules->unwind_sz += ap_unwind_table_memory(module->unwind);
    modules->unwind_ns += ap_clock_monotonic_ns() - start_ns;
    return module->unwind;
}

void ap_modules_begin_drain(struct ap_modules *modules)
{
    modules->unwind_ns = 0;
}

const struct ap_elf_loads *ap_module_loads(struct ap_module *module)
{
    if (module->loads_tried || module->kind != AP_MODULE_FILE || module->fd < 0)
        return module->loads;
    module->loads_tried = true;
    module->loads = malloc(sizeof(*module->loads));
    if (module->loads && ap_elf_loads(module->fd, module->loads)) {
        free(module->loads);
        module->loads = NULL;
    }
    return module->loads;
}
