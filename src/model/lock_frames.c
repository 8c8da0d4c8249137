/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the names on a stack tell of a wait: its type, and the place in the program that it belongs to. */
#include "model/locks.h"

#include <string.h>

/* A wait's own functions are few; what stands further out is the program. */
#define TYPE_FRAMES_MAX 12

enum role {
    ROLE_NONE = 0,  /* the program's own */
    ROLE_CARRY = 1, /* on the way of every wait: tells nothing, but does not end the search */
    ROLE_WEAK = 2,  /* a mutex: what stands directly outside may use it for something else */
    ROLE_TYPE = 3,
    ROLE_FINAL = 4, /* tells the type whatever stands outside */
};

struct rule {
    const char *prefix, *part; /* how a name begins, and what comes after: NULL anything, "" no more of the name */
    uint8_t role, type;
};

/* The first rule that fits counts. Names without leading underscores, "GI_", "std::__1::" and endings such as
 * "@@GLIBC_2.34" and ".part.0". */
static const struct rule rules[] = {
    /* C libraries: glibc (with its internal functions), musl; C11 threads */
    {"pthread_mutex_cond_lock", NULL, ROLE_FINAL, AP_LOCK_MUTEX},
    {"pthread_mutex_", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"mtx_", "lock", ROLE_WEAK, AP_LOCK_MUTEX},
    {"lll_wait_tid", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"lll_", "lock", ROLE_WEAK, AP_LOCK_MUTEX},
    {"pthread_spin_", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"pthread_rwlock_", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"pthread_cond_", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"cnd_", "wait", ROLE_TYPE, AP_LOCK_CONDVAR},
    {"sem_", "wait", ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"sem_post", "", ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"new_sem_", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"do_new_sem_", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"old_sem_", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"pthread_barrier_", NULL, ROLE_TYPE, AP_LOCK_BARRIER},
    {"pthread_join", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"pthread_timedjoin", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"pthread_clockjoin", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"thrd_join", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"pthread_once", NULL, ROLE_TYPE, AP_LOCK_ONCE},
    {"call_once", NULL, ROLE_TYPE, AP_LOCK_ONCE},
    {"cxa_guard_", NULL, ROLE_TYPE, AP_LOCK_ONCE},
    {"pthread_exit", NULL, ROLE_CARRY, 0}, /* wakes who joins */
    {"futex_", NULL, ROLE_CARRY, 0},
    {"timedwait", "", ROLE_CARRY, 0}, /* musl */
    {"timedwait_cp", "", ROLE_CARRY, 0},
    {"syscall", "", ROLE_CARRY, 0},
    {"gthread_mutex_", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"gthread_cond_", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"gthread_recursive_mutex_", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"gthrw_", NULL, ROLE_CARRY, 0},
    {"gthread_", NULL, ROLE_CARRY, 0},
    /* C++ */
    {"std::condition_variable", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"std::_V2::condition_variable", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"std::shared_mutex::", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::shared_timed_mutex::", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::shared_mutex_", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::__shared_mutex_", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::__glibcxx_rwlock_", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::mutex::", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::timed_mutex::", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::recursive_mutex::", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::recursive_timed_mutex::", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::__timed_mutex_impl<", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::thread::join", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"std::jthread::", NULL, ROLE_TYPE, AP_LOCK_JOIN},
    {"std::counting_semaphore<", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"std::__atomic_semaphore::", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"std::__platform_semaphore::", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    {"std::barrier<", NULL, ROLE_TYPE, AP_LOCK_BARRIER},
    {"std::latch::", NULL, ROLE_TYPE, AP_LOCK_BARRIER},
    {"std::call_once<", NULL, ROLE_TYPE, AP_LOCK_ONCE},
    {"void std::call_once<", NULL, ROLE_TYPE, AP_LOCK_ONCE},
    {"std::lock_guard<", NULL, ROLE_CARRY, 0},
    {"std::unique_lock<", NULL, ROLE_CARRY, 0},
    {"std::scoped_lock<", NULL, ROLE_CARRY, 0},
    {"std::shared_lock<", NULL, ROLE_CARRY, 0},
    {"std::__atomic_futex_unsigned_base::", NULL, ROLE_CARRY, 0},
    {"std::__atomic_wait", NULL, ROLE_CARRY, 0},
    {"absl::Mutex::Await", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"absl::Mutex::", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"absl::CondVar::", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"syscall", "", ROLE_CARRY, 0}, /* the C library's own, linked statically */
    {"uv_mutex_", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"uv_rwlock_", NULL, ROLE_TYPE, AP_LOCK_RWLOCK},
    {"uv_cond_", NULL, ROLE_TYPE, AP_LOCK_CONDVAR},
    {"uv_sem_", NULL, ROLE_TYPE, AP_LOCK_SEMAPHORE},
    /* Rust: std::sys::sync::mutex::futex::Mutex, std::sys::unix::locks::futex_mutex::Mutex ..., parking_lot */
    {"std::sys", "::Condvar", ROLE_TYPE, AP_LOCK_CONDVAR},
    {"std::sys", "::RwLock", ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::sys", "::Mutex", ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::sys", "::Once", ROLE_TYPE, AP_LOCK_ONCE},
    {"std::sys", "::Parker", ROLE_TYPE, AP_LOCK_PARK},
    {"std::sys", "::Thread>::join", ROLE_TYPE, AP_LOCK_JOIN},
    {"std::sys", "::Thread::join", ROLE_TYPE, AP_LOCK_JOIN},
    {"std::sys", "futex", ROLE_CARRY, 0},
    {"std::sync::", "ondvar", ROLE_TYPE, AP_LOCK_CONDVAR},
    {"std::sync::", "::RwLock", ROLE_TYPE, AP_LOCK_RWLOCK},
    {"std::sync::", "::Mutex", ROLE_WEAK, AP_LOCK_MUTEX},
    {"std::sync::", "::Once", ROLE_TYPE, AP_LOCK_ONCE},
    {"std::sync::", "arrier", ROLE_TYPE, AP_LOCK_BARRIER},
    {"std::thread::", "JoinHandle", ROLE_TYPE, AP_LOCK_JOIN},
    {"std::thread::", "JoinInner", ROLE_TYPE, AP_LOCK_JOIN},
    {"std::thread::park", NULL, ROLE_TYPE, AP_LOCK_PARK},
    {"std::thread::thread::Thread", "::park", ROLE_TYPE, AP_LOCK_PARK},
    {"parking_lot::", "ondvar", ROLE_TYPE, AP_LOCK_CONDVAR},
    {"parking_lot::", "raw_rwlock", ROLE_TYPE, AP_LOCK_RWLOCK},
    {"parking_lot::", "raw_mutex", ROLE_WEAK, AP_LOCK_MUTEX},
    {"parking_lot::", "nce", ROLE_TYPE, AP_LOCK_ONCE},
    {"parking_lot_core::", NULL, ROLE_CARRY, 0},
    {"lock_api::", NULL, ROLE_CARRY, 0},
    /* Go's scheduler: its own locks, and threads without work */
    {"runtime.futex", NULL, ROLE_CARRY, 0},
    {"runtime.lock", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"runtime.unlock", NULL, ROLE_WEAK, AP_LOCK_MUTEX},
    {"runtime.note", NULL, ROLE_TYPE, AP_LOCK_PARK},
    /* The JVM, whose monitors wait in a condition variable */
    {"ObjectMonitor::enter", NULL, ROLE_FINAL, AP_LOCK_MUTEX},
    {"ObjectMonitor::EnterI", NULL, ROLE_FINAL, AP_LOCK_MUTEX},
    {"ObjectMonitor::wait", NULL, ROLE_FINAL, AP_LOCK_CONDVAR},
    {"Parker::park", NULL, ROLE_FINAL, AP_LOCK_PARK},
    {"Unsafe_Park", "", ROLE_FINAL, AP_LOCK_PARK},
    {"PlatformEvent::", NULL, ROLE_CARRY, 0},
    {"os::PlatformEvent::", NULL, ROLE_CARRY, 0},
    {"PlatformMonitor::", NULL, ROLE_CARRY, 0},
    {"os::PlatformMonitor::", NULL, ROLE_CARRY, 0},
    /* CPython's global lock, likewise */
    {"take_gil", "", ROLE_FINAL, AP_LOCK_MUTEX},
    {"drop_gil", "", ROLE_FINAL, AP_LOCK_MUTEX},
    {"PyThread_acquire_lock", NULL, ROLE_CARRY, 0},
    {"PyThread_release_lock", NULL, ROLE_CARRY, 0},
};

static bool begins(const char *str, const char *prefix)
{
    return strncmp(str, prefix, strlen(prefix)) == 0;
}

/* Where the name proper begins. */
static const char *bare_name(const char *name)
{
    while (*name == '<') /* Rust: "<std::sys::...::Mutex>::lock" */
        name++;
    while (*name == '_')
        name++;
    if (begins(name, "GI_"))
        for (name += 3; *name == '_';)
            name++;
    return name;
}

static bool fits(const struct rule *rule, const char *name)
{
    const char *rest = name + strlen(rule->prefix);

    if (!begins(name, rule->prefix))
        return false;
    if (rule->part != NULL && rule->part[0] == '\0') /* a version or an ending of the compiler's is no part of it */
        return *rest == '\0' || *rest == '@' || *rest == '.';
    return rule->part == NULL || strstr(rest, rule->part) != NULL;
}

/* The first rule for the name, NULL when there is none. */
static const struct rule *rule_of(const char *name)
{
    char plain[64] = "std::";

    name = bare_name(name);
    if (begins(name, "std::__1::")) { /* libc++ */
        name += strlen("std::__1::");
        strncat(plain, name, sizeof(plain) - 1 - strlen(plain));
        name = plain;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (fits(&rules[i], name))
            return &rules[i];
    return NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* True for modules of which the C library, its loader and the languages' run-time libraries consist. */
static bool is_library(const char *path)
{
    static const char *const stems[] = {"libc", "libpthread", "libstdc++", "libc++", "libc++abi", "libgcc_s", "ld"};
    const char *base = base_name(path);

    if (strcmp(base, "[vdso]") == 0 || begins(base, "ld-linux") || begins(base, "ld-musl") || begins(base, "ld64"))
        return true;
    for (size_t i = 0; i < sizeof(stems) / sizeof(stems[0]); i++) {
        size_t len = strlen(stems[i]);

        /* "libc.so.6", "libc-2.31.so", "libc.musl-x86_64.so.1"; not "libcurl.so.4" or "libc-client.so". */
        if (strncmp(base, stems[i], len) == 0 && (begins(base + len, ".so") || begins(base + len, ".musl") ||
                                                  (base[len] == '-' && base[len + 1] >= '0' && base[len + 1] <= '9')))
            return true;
    }
    return false;
}

static bool is_user(const struct ap_frame *frame)
{
    return frame->kind == AP_FRAME_UNKNOWN || frame->kind == AP_FRAME_NATIVE || frame->kind == AP_FRAME_JIT ||
           frame->kind == AP_FRAME_INTERPRETED;
}

static bool in_library(const struct ap_profile *profile, const struct ap_frame *frame)
{
    return is_library(ap_profile_str(profile, profile->mappings[frame->mapping].path));
}

uint8_t ap_lock_type_of_stack(const struct ap_profile *profile, uint32_t stack)
{
    uint8_t role = ROLE_NONE, type = AP_LOCK_FUTEX;
    unsigned seen = 0;

    if (stack >= profile->stack_cnt)
        return AP_LOCK_FUTEX;
    for (uint32_t i = 0; i < profile->stacks[stack].frame_cnt && seen < TYPE_FRAMES_MAX; i++) {
        const struct ap_frame *frame = &profile->frames[profile->stack_frames[profile->stacks[stack].first + i]];
        const struct rule *rule;

        if (frame->waker || !is_user(frame))
            continue;
        seen++;
        rule = frame->kind == AP_FRAME_UNKNOWN ? NULL : rule_of(ap_profile_str(profile, frame->function));
        if (rule == NULL) {
            /* Before anything is known the C library may have frames of other names, or of none. */
            if (role == ROLE_NONE && (frame->kind == AP_FRAME_UNKNOWN || in_library(profile, frame)))
                continue;
            break;
        }
        if (rule->role == ROLE_CARRY || (rule->role == ROLE_WEAK && role > ROLE_WEAK))
            continue;
        role = rule->role;
        type = rule->type;
        if (role == ROLE_FINAL)
            break;
    }
    return type;
}

/* How well a frame answers "where", 0 = not at all. */
static unsigned site_rank(const struct ap_profile *profile, const struct ap_frame *frame)
{
    if (frame->kind == AP_FRAME_MARK || frame->kind == AP_FRAME_PROCESS)
        return 0;
    if (!is_user(frame))
        return 1;
    if (in_library(profile, frame))
        return 2;
    if (frame->kind == AP_FRAME_UNKNOWN)
        return 3;
    return rule_of(ap_profile_str(profile, frame->function)) != NULL ? 2 : 3;
}

/* Functions that make up a lock of the kernel. */
static bool is_kernel_primitive(const char *name)
{
    static const char *const prefixes[] = {
        "native_queued_", "pv_queued_", "queued_",     "raw_spin_",   "raw_read_", "raw_write_",
        "spin_lock",      "mutex_lock", "mutex_spin",  "rwsem_",      "down_",     "rt_mutex_",
        "rt_spin_",       "rwbase_",    "percpu_down", "osq_",        "ww_mutex_", "rt_read_",
        "rt_write_",      "rtlock_",    "lock_page",   "contention_",
    };

    while (*name == '_')
        name++;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (begins(name, prefixes[i]))
            return true;
    return false;
}

/* Who waited for a lock of the kernel: the function behind those of the lock. 0 when the stack does not begin in one.
 */
static uint32_t kernel_site(const struct ap_profile *profile, const struct ap_stack *stack)
{
    for (uint32_t i = 0; i < stack->frame_cnt; i++) {
        uint32_t index = profile->stack_frames[stack->first + i];
        const struct ap_frame *frame = &profile->frames[index];

        if (frame->kind != AP_FRAME_KERNEL || frame->waker)
            return 0;
        if (!is_kernel_primitive(ap_profile_str(profile, frame->function)))
            return i > 0 ? index : 0;
    }
    return 0;
}

static uint32_t best_site(const struct ap_profile *profile, const struct ap_stack *stack, bool waker)
{
    uint32_t best = 0;
    unsigned best_rank = 0;

    for (uint32_t i = 0; i < stack->frame_cnt && best_rank < 3; i++) {
        uint32_t index = profile->stack_frames[stack->first + i];
        unsigned rank = profile->frames[index].waker == waker ? site_rank(profile, &profile->frames[index]) : 0;

        if (rank > best_rank) {
            best_rank = rank;
            best = index;
        }
    }
    return best;
}

uint32_t ap_lock_site(const struct ap_profile *profile, uint32_t stack)
{
    uint32_t site;

    if (stack >= profile->stack_cnt)
        return 0;
    site = kernel_site(profile, &profile->stacks[stack]);
    if (site != 0)
        return site;
    site = best_site(profile, &profile->stacks[stack], false);
    /* A stack that consists of a waker's frames only is the waker's own. */
    return site != 0 ? site : best_site(profile, &profile->stacks[stack], true);
}
