/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "agent/process.h"

#include "agent/procfs.h"
#include "core/clock.h"
#include "core/map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CGROUP_TEXT_SZ  8192
#define CONTAINER_ID_SZ 65            /* 64 hexadecimal digits */
#define MAPS_LINE_SZ    4352          /* PATH_MAX and the numbers before it */
#define RESCAN_PAUSE_NS AP_NS_PER_SEC /* between two looks at the same process's maps */
#define IMAGE_GROW      16
#define VARIABLE_TRIES  8 /* code mappings below a variable that are tried for its file */

struct mapping {
    uint64_t start, end, file_off;
    uint32_t module;
};

/* What a process runs. Shared after fork until one side maps something or calls exec. The modules count the mappings of
 * all images. */
struct image {
    struct ap_modules *modules;
    uint32_t refs, cnt, cap;
    char *exe;
    struct mapping *maps; /* by start, disjoint */
};

struct ap_process {
    uint32_t pid, ns_pid;
    struct root *root; /* counted there; NULL = the same as ours */
    bool known;        /* the image is complete */
    bool detailed;     /* root and container were read since the last fork or exec */
    uint64_t exit_ns;  /* 0 = running */
    uint64_t scan_ns;  /* last look at /proc/PID/maps */
    struct image *image;
    char container[CONTAINER_ID_SZ];
};

/* A root directory, held open as long as a process has it. */
struct root {
    ino_t mount_ns, inode;
    dev_t dev;
    int fd;
    uint32_t refs;
};

struct ap_processes {
    struct ap_modules *modules;
    struct ap_map table; /* pid -> struct ap_process */
    struct root *roots[AP_ROOTS_MAX];
    size_t root_cnt;
    struct root own;
    uint64_t roots_refused;
    size_t ended; /* processes with exit_ns set */
};

static struct image *image_new(struct ap_modules *modules)
{
    struct image *image = calloc(1, sizeof(*image));

    if (!image)
        return NULL;
    image->modules = modules;
    image->refs = 1;
    return image;
}

static void image_unref(struct image *image)
{
    uint32_t i;

    if (!image || --image->refs)
        return;
    for (i = 0; i < image->cnt; i++)
        ap_modules_unmapped(image->modules, image->maps[i].module);
    free(image->exe);
    free(image->maps);
    free(image);
}

static struct image *image_copy(const struct image *from)
{
    struct image *image = image_new(from->modules);
    uint32_t i;

    if (!image)
        return NULL;
    image->exe = from->exe ? strdup(from->exe) : NULL;
    image->maps = from->cnt ? malloc(from->cnt * sizeof(*image->maps)) : NULL;
    if ((from->exe && !image->exe) || (from->cnt && !image->maps)) {
        image_unref(image);
        return NULL;
    }
    if (from->cnt)
        memcpy(image->maps, from->maps, from->cnt * sizeof(*image->maps));
    for (i = 0; i < from->cnt; i++)
        ap_modules_mapped(from->modules, from->maps[i].module);
    image->cnt = image->cap = from->cnt;
    return image;
}

/* First mapping that ends after `addr`. */
static uint32_t image_search(const struct image *image, uint64_t addr)
{
    uint32_t low = 0, high = image->cnt, mid;

    while (low < high) {
        mid = low + (high - low) / 2;
        if (image->maps[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int image_reserve(struct image *image, uint32_t more)
{
    struct mapping *maps;
    uint32_t cap;

    if (image->cnt + more > AP_MAPS_MAX)
        return -ENOSPC;
    if (image->cnt + more <= image->cap)
        return 0;
    cap = image->cap + image->cap / 2 + IMAGE_GROW;
    maps = realloc(image->maps, cap * sizeof(*maps));
    if (!maps)
        return -ENOMEM;
    image->maps = maps;
    image->cap = cap;
    return 0;
}

/* Puts a mapping in; whatever it covers of older ones is gone, as with mmap(MAP_FIXED). */
static int image_insert(struct image *image, const struct mapping *new)
{
    uint32_t first = image_search(image, new->start), last = first;
    struct mapping left, right;
    struct mapping put[3];
    uint32_t put_cnt = 0, i;
    int rc;

    rc = image_reserve(image, 2);
    if (rc)
        return rc;
    while (last < image->cnt && image->maps[last].start < new->end)
        last++;
    if (last > first) {
        left = image->maps[first];
        right = image->maps[last - 1];
        if (left.start < new->start) {
            left.end = new->start;
            put[put_cnt++] = left;
        }
    }
    put[put_cnt++] = *new;
    if (last > first && right.end > new->end) {
        right.file_off += new->end - right.start;
        right.start = new->end;
        put[put_cnt++] = right;
    }
    for (i = 0; i < put_cnt; i++)
        ap_modules_mapped(image->modules, put[i].module);
    for (i = first; i < last; i++)
        ap_modules_unmapped(image->modules, image->maps[i].module);
    memmove(image->maps + first + put_cnt, image->maps + last, (image->cnt - last) * sizeof(*image->maps));
    memcpy(image->maps + first, put, put_cnt * sizeof(*put));
    image->cnt = image->cnt - (last - first) + put_cnt;
    return 0;
}

static void root_identity(const char *proc_dir, struct root *ret_root)
{
    char path[96];
    struct stat st;

    memset(ret_root, 0, sizeof(*ret_root));
    ret_root->fd = -1;
    snprintf(path, sizeof(path), "%s/ns/mnt", proc_dir);
    if (!stat(path, &st))
        ret_root->mount_ns = st.st_ino;
    snprintf(path, sizeof(path), "%s/root", proc_dir);
    if (stat(path, &st))
        return;
    ret_root->dev = st.st_dev;
    ret_root->inode = st.st_ino;
}

static bool same_root(const struct root *a, const struct root *b)
{
    return a->mount_ns == b->mount_ns && a->dev == b->dev && a->inode == b->inode;
}

static int root_fd(const struct ap_process *process)
{
    return process->root ? process->root->fd : -1;
}

static void root_unref(struct ap_processes *processes, struct root *root)
{
    size_t i;

    if (!root || --root->refs)
        return;
    for (i = 0; processes->roots[i] != root; i++)
        ;
    processes->roots[i] = processes->roots[--processes->root_cnt];
    close(root->fd);
    free(root);
}

/* Opens a root directory that is not in the table; NULL when it cannot be kept. */
static struct root *add_root(struct ap_processes *processes, uint32_t pid, const struct root *wanted)
{
    struct root *root;
    char path[64];

    if (processes->root_cnt == AP_ROOTS_MAX) {
        processes->roots_refused++;
        return NULL;
    }
    root = malloc(sizeof(*root));
    if (!root)
        return NULL;
    *root = *wanted;
    snprintf(path, sizeof(path), "/proc/%u/root", pid);
    root->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root->fd < 0) {
        free(root);
        return NULL;
    }
    root->refs = 0;
    processes->roots[processes->root_cnt++] = root;
    return root;
}

/* The process's root as it is now, NULL when it is ours; *ret_known false when it cannot be told any more. */
static struct root *find_root(struct ap_processes *processes, uint32_t pid, bool *ret_known)
{
    struct root root;
    char path[64];
    size_t i;

    snprintf(path, sizeof(path), "/proc/%u", pid);
    root_identity(path, &root);
    *ret_known = root.inode != 0;
    if (!root.inode || same_root(&root, &processes->own))
        return NULL;
    for (i = 0; i < processes->root_cnt; i++)
        if (same_root(&root, processes->roots[i]))
            return processes->roots[i];
    return add_root(processes, pid, &root);
}

static void set_root(struct ap_processes *processes, struct ap_process *process, struct root *root)
{
    struct root *old = process->root;

    if (root)
        root->refs++;
    process->root = root;
    ap_modules_know_jit(processes->modules, process->pid, process->ns_pid, root_fd(process));
    root_unref(processes, old);
}

/* Root and container id, once per fork and exec; what cannot be read any more stays as inherited. */
static void read_details(struct ap_processes *processes, struct ap_process *process)
{
    char path[64], text[CGROUP_TEXT_SZ], container[CONTAINER_ID_SZ];
    struct root *root;
    bool known;

    if (process->detailed || process->exit_ns)
        return;
    process->detailed = true;
    root = find_root(processes, process->pid, &known);
    if (known)
        set_root(processes, process, root);
    snprintf(path, sizeof(path), "/proc/%u/cgroup", process->pid);
    if (ap_procfs_read(path, text, sizeof(text)) < 0)
        return;
    if (ap_procfs_container_id(text, container))
        memcpy(process->container, container, sizeof(container));
    else
        process->container[0] = '\0';
}

static void process_free(struct ap_processes *processes, struct ap_process *process)
{
    root_unref(processes, process->root);
    image_unref(process->image);
    free(process);
}

struct ap_processes *ap_processes_new(struct ap_modules *modules)
{
    struct ap_processes *processes = calloc(1, sizeof(*processes));

    if (!processes)
        return NULL;
    processes->modules = modules;
    ap_map_init(&processes->table, AP_PROCESSES_MAX);
    root_identity("/proc/self", &processes->own);
    return processes;
}

struct ap_processes *ap_processes_free(struct ap_processes *processes)
{
    struct ap_process *process;
    size_t pos = 0;

    if (!processes)
        return NULL;
    while ((process = ap_map_next(&processes->table, &pos)))
        process_free(processes, process);
    ap_map_done(&processes->table);
    free(processes);
    return NULL;
}

static struct ap_process *find(const struct ap_processes *processes, uint32_t pid)
{
    return ap_map_get(&processes->table, &pid, sizeof(pid));
}

static void drop(struct ap_processes *processes, struct ap_process *process)
{
    ap_map_remove(&processes->table, &process->pid, sizeof(process->pid));
    ap_modules_end_jit(processes->modules, process->pid); /* it borrows the root */
    processes->ended -= process->exit_ns != 0;
    process_free(processes, process);
}

/* New entry with `image` (the reference is taken over, also on failure); NULL when the table is full. */
static struct ap_process *add(struct ap_processes *processes, uint32_t pid, struct image *image)
{
    struct ap_process *process = image ? calloc(1, sizeof(*process)) : NULL;

    if (!process) {
        image_unref(image);
        return NULL;
    }
    process->pid = process->ns_pid = pid;
    process->image = image;
    if (ap_map_put(&processes->table, &process->pid, sizeof(process->pid), process)) {
        process_free(processes, process);
        return NULL;
    }
    return process;
}

/* Makes the image writable: a private copy when it is shared. */
static struct image *own_image(struct ap_process *process)
{
    struct image *copy;

    if (process->image->refs == 1)
        return process->image;
    copy = image_copy(process->image);
    if (!copy)
        return NULL;
    image_unref(process->image);
    process->image = copy;
    return copy;
}

static void map_file(struct ap_processes *processes, struct ap_process *process, const struct ap_mapped_file *file)
{
    struct image *image = own_image(process);
    struct mapping mapping = {file->start, file->end, file->file_off, 0};

    if (!image)
        return;
    mapping.module = ap_modules_file(processes->modules, process->pid, process->ns_pid, root_fd(process), file);
    if (image_insert(image, &mapping))
        return; /* bound of one process: the address will count as unmapped */
    if (!image->exe && file->inode)
        image->exe = strdup(file->path);
}

/* One line of /proc/PID/maps; false when it is no executable mapping. */
static bool parse_maps_line(char *line, struct ap_mapped_file *ret_file)
{
    char perms[8];
    int path_at = 0;
    size_t len = strlen(line);

    if (len && line[len - 1] == '\n')
        line[len - 1] = '\0';
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64 " %n", &ret_file->start, &ret_file->end,
               perms, &ret_file->file_off, &ret_file->dev_major, &ret_file->dev_minor, &ret_file->inode,
               &path_at) < 7 ||
        perms[2] != 'x')
        return false;
    ret_file->path = path_at ? line + path_at : "";
    return true;
}

/* Reads the mappings of a process that is older than the capture, or whose events were lost. */
static void scan(struct ap_processes *processes, struct ap_process *process)
{
    char path[64], line[MAPS_LINE_SZ], exe[MAPS_LINE_SZ];
    struct ap_mapped_file file;
    bool from_middle = false;
    ssize_t len;
    FILE *maps;

    process->scan_ns = ap_clock_monotonic_ns();
    snprintf(path, sizeof(path), "/proc/%u/maps", process->pid);
    maps = fopen(path, "re");
    if (!maps)
        return;
    if (!own_image(process)) {
        fclose(maps);
        return;
    }
    snprintf(path, sizeof(path), "/proc/%u/exe", process->pid);
    len = readlink(path, exe, sizeof(exe) - 1);
    if (len > 0 && !process->image->exe) {
        exe[len] = '\0';
        process->image->exe = strdup(exe);
    }
    while (fgets(line, sizeof(line), maps)) {
        /* the rest of a line that is too long is part of a name, not a mapping */
        bool rest = from_middle;

        from_middle = !strchr(line, '\n');
        if (rest || !parse_maps_line(line, &file))
            continue;
        map_file(processes, process, &file);
        process->known = true;
    }
    fclose(maps);
}

/* Entry of a process of which no event told; read from /proc. NULL when the table is full. */
static struct ap_process *discover(struct ap_processes *processes, uint32_t pid, uint32_t ns_pid)
{
    struct ap_process *process = add(processes, pid, image_new(processes->modules));

    if (!process)
        return NULL;
    if (ns_pid)
        process->ns_pid = ns_pid;
    else
        ap_procfs_ns_pid(pid, &process->ns_pid);
    read_details(processes, process);
    scan(processes, process);
    if (!process->known) { /* gone already, so no exit event will come */
        process->exit_ns = process->scan_ns;
        processes->ended++;
    }
    return process;
}

static void take_fork(struct ap_processes *processes, const struct ap_process_event *event)
{
    struct ap_process *parent, *child;

    child = find(processes, event->pid);
    if (child) /* the number is used again */
        drop(processes, child);
    parent = find(processes, event->ppid);
    if (!parent)
        parent = discover(processes, event->ppid, 0);
    if (!parent)
        return;
    parent->image->refs++;
    child = add(processes, event->pid, parent->image);
    if (!child)
        return;
    child->known = parent->known;
    set_root(processes, child, parent->root);
    memcpy(child->container, parent->container, sizeof(child->container));
}

static void take_exec(struct ap_processes *processes, const struct ap_process_event *event)
{
    struct ap_process *process = find(processes, event->pid);
    struct image *image = image_new(processes->modules);

    if (!process) {
        process = add(processes, event->pid, image);
        if (!process)
            return;
    } else if (image) {
        image_unref(process->image);
        process->image = image;
    } else {
        return;
    }
    process->known = true; /* every mapping of the new program comes as an event */
    process->detailed = false;
    processes->ended -= process->exit_ns != 0; /* exec by another thread ends the first one */
    process->exit_ns = 0;
    ap_modules_end_jit(processes->modules, process->pid);
}

static void take_mmap(struct ap_processes *processes, const struct ap_process_event *event)
{
    const struct ap_mapped_file file = {event->start,     event->end,   event->file_off, event->dev_major,
                                        event->dev_minor, event->inode, event->path};
    struct ap_process *process = find(processes, event->pid);

    if (process && process->known) /* others are read whole when they are first sampled */
        map_file(processes, process, &file);
}

static void take_exit(struct ap_processes *processes, const struct ap_process_event *event)
{
    struct ap_process *process = find(processes, event->pid);

    if (!process || process->exit_ns)
        return;
    process->exit_ns = event->time_ns ? event->time_ns : 1;
    processes->ended++;
    ap_modules_end_jit(processes->modules, process->pid);
}

void ap_processes_event(struct ap_processes *processes, const struct ap_process_event *event)
{
    switch ((enum ap_process_event_type)event->type) {
    case AP_PROCESS_FORK:
        take_fork(processes, event);
        break;
    case AP_PROCESS_EXEC:
        take_exec(processes, event);
        break;
    case AP_PROCESS_EXIT:
        take_exit(processes, event);
        break;
    case AP_PROCESS_MMAP:
        take_mmap(processes, event);
        break;
    }
}

struct ap_process *ap_processes_sampled(struct ap_processes *processes, uint32_t pid, uint32_t ns_pid)
{
    struct ap_process *process = find(processes, pid);
    bool news;

    if (!process)
        process = discover(processes, pid, ns_pid);
    if (!process)
        return NULL;
    if (process->exit_ns) /* only its first thread ended, or the sample is late: it is remembered a while longer */
        process->exit_ns = ap_clock_monotonic_ns();
    news = !process->detailed || (ns_pid && ns_pid != process->ns_pid);
    process->ns_pid = ns_pid ? ns_pid : process->ns_pid;
    read_details(processes, process);
    if (news)
        ap_modules_know_jit(processes->modules, pid, process->ns_pid, root_fd(process));
    return process;
}

uint32_t ap_process_locate(struct ap_processes *processes, struct ap_process *process, uint64_t addr,
                           uint64_t *ret_offset)
{
    const struct mapping *mapping;
    uint64_t now;
    uint32_t i;

    i = image_search(process->image, addr);
    if (i >= process->image->cnt || process->image->maps[i].start > addr) {
        now = ap_clock_monotonic_ns();
        if (!process->exit_ns && now - process->scan_ns > RESCAN_PAUSE_NS)
            scan(processes, process);
        i = image_search(process->image, addr);
    }
    *ret_offset = addr;
    if (i >= process->image->cnt || process->image->maps[i].start > addr)
        return process->known ? AP_MODULE_ID_NO_MAPPING : AP_MODULE_ID_PROCESS_GONE;
    mapping = &process->image->maps[i];
    if (ap_modules_get(processes->modules, mapping->module)->kind == AP_MODULE_FILE)
        *ret_offset = addr - mapping->start + mapping->file_off;
    return mapping->module;
}

const struct ap_unwind_table *ap_process_unwind(struct ap_processes *processes, struct ap_process *process,
                                                uint64_t addr, uint64_t *ret_file_off)
{
    uint32_t module = ap_process_locate(processes, process, addr, ret_file_off);

    return ap_module_unwind(processes->modules, ap_modules_get(processes->modules, module));
}

uint32_t ap_process_variable(struct ap_processes *processes, uint32_t pid, uint64_t addr, uint64_t *ret_vaddr)
{
    const struct ap_process *process = find(processes, pid);
    const struct ap_elf_loads *loads;
    const struct mapping *map;
    uint64_t bias;
    uint32_t i, tries;

    if (!process || !process->image)
        return AP_MODULE_ID_NO_MAPPING;
    /* data lies behind its file's code: the nearest code below it, or one of the next few with other files between */
    i = image_search(process->image, addr);
    i += i < process->image->cnt && process->image->maps[i].start <= addr; /* code and data in one */
    for (tries = 0; i > 0 && tries < VARIABLE_TRIES; tries++) {
        map = &process->image->maps[--i];
        loads = ap_module_loads(ap_modules_get(processes->modules, map->module));
        if (!loads || ap_elf_bias(loads, map->start, map->file_off, &bias) || !ap_elf_covers(loads, addr - bias))
            continue;
        *ret_vaddr = addr - bias;
        return map->module;
    }
    return AP_MODULE_ID_NO_MAPPING;
}

const char *ap_process_exe(const struct ap_process *process)
{
    return process->image->exe ? process->image->exe : "";
}

const char *ap_process_container(const struct ap_process *process)
{
    return process->container;
}

void ap_processes_sweep(struct ap_processes *processes, uint64_t now_ns)
{
    struct ap_process *process;
    uint32_t old[256];
    size_t pos, cnt;

    /* entries cannot be removed during a walk, so they are collected a few hundred at a time */
    do {
        pos = cnt = 0;
        while (processes->ended && cnt < 256 && (process = ap_map_next(&processes->table, &pos)))
            if (process->exit_ns && process->exit_ns + AP_PROCESS_GRACE_NS < now_ns)
                old[cnt++] = process->pid;
        for (pos = 0; pos < cnt; pos++)
            drop(processes, find(processes, old[pos]));
    } while (cnt == 256);
}

size_t ap_processes_cnt(const struct ap_processes *processes)
{
    return processes->table.cnt;
}

size_t ap_processes_roots(const struct ap_processes *processes)
{
    return processes->root_cnt;
}

uint64_t ap_processes_refused(const struct ap_processes *processes)
{
    return processes->table.fulls + processes->roots_refused;
}
