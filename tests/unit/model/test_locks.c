/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/locks.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct ap_lock_row *get(struct ap_locks *locks, uint64_t process, uint64_t address)
{
    struct ap_lock_row *row = ap_locks_row(locks, process, address, false);

    assert_non_null(row);
    return row;
}

static void test_rows(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row = get(locks, 7, 0x1000), *kernel;

    (void)state;
    assert_int_equal(row->process, 7);
    assert_int_equal(row->address, 0x1000);
    assert_false(row->kernel);
    assert_ptr_equal(get(locks, 7, 0x1000), row);
    assert_ptr_not_equal(get(locks, 8, 0x1000), row);
    assert_ptr_not_equal(get(locks, 7, 0x1008), row);
    kernel = ap_locks_row(locks, 7, 0x1000, true);
    assert_ptr_not_equal(kernel, row);
    assert_true(kernel->kernel);
    assert_int_equal(locks->row_cnt, 4);
    assert_int_equal(locks->folded, 0);
    assert_null(ap_locks_free(locks));
    assert_null(ap_locks_free(NULL));
}

static void test_folding(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row;
    uint64_t asked = 0, waits = 0;

    (void)state;
    for (uint64_t i = 1; i <= AP_LOCK_ROWS_MAX; i++, asked++)
        get(locks, 1 + i % 3, i * 64)->waits++;
    assert_int_equal(locks->folded, 0);
    for (uint64_t i = 0; i < AP_LOCK_PROCESS_ROWS_MAX; i++, asked++) {
        row = get(locks, 100 + i, 0x7000);
        row->waits++;
        assert_int_equal(row->process, 100 + i);
        assert_int_equal(row->address, 0);
    }
    assert_ptr_equal(get(locks, 100, 0x8000), get(locks, 100, 0x7000));
    for (uint64_t i = 0; i < 1000; i++, asked++) {
        row = get(locks, 9000000 + i, i);
        row->waits++;
        assert_int_equal(row->process, 0);
        assert_int_equal(row->address, 0);
    }
    assert_int_equal(locks->row_cnt, AP_LOCK_ROWS_MAX + AP_LOCK_PROCESS_ROWS_MAX + 1);
    assert_int_equal(locks->folded, AP_LOCK_PROCESS_ROWS_MAX + 1000 + 2);
    assert_int_equal(get(locks, 2, 64)->waits, 1); /* known rows stay */
    for (size_t i = 0; i < locks->row_cnt; i++)
        waits += locks->rows[i]->waits;
    assert_int_equal(waits, asked);
    ap_locks_sort(locks);
    assert_ptr_equal(get(locks, 9000005, 5), row);
    ap_locks_free(locks);
}

static const struct ap_lock_side *find_side(const struct ap_lock_side *sides, uint32_t cnt, uint32_t series,
                                            uint32_t stack)
{
    for (uint32_t i = 0; i < cnt; i++)
        if (sides[i].series == series && sides[i].stack == stack)
            return &sides[i];
    return NULL;
}

static void test_sides_and_pairs(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row = get(locks, 7, 0x1000);
    const struct ap_lock_side *side;

    (void)state;
    assert_int_equal(ap_lock_row_add(row, 1, 10, 2, 20, 3, 300, 200), 0);
    assert_int_equal(ap_lock_row_add(row, 1, 10, 2, 20, 1, 50, 50), 0);
    assert_int_equal(ap_lock_row_add(row, 1, 11, 2, 20, 1, 900, 900), 0);
    assert_int_equal(ap_lock_row_add(row, 1, 10, 5, AP_LOCK_NO_STACK, 2, 30, 20), 0);
    assert_int_equal(ap_lock_row_add(row, 1, 10, 6, AP_LOCK_NO_STACK, 2, 30, 25), 0);
    assert_int_equal(row->waiter_cnt, 2);
    assert_int_equal(row->waker_cnt, 2);
    assert_int_equal(row->pair_cnt, 3);
    side = find_side(row->waiters, row->waiter_cnt, 1, 10);
    assert_int_equal(side->count, 8);
    assert_int_equal(side->total_ns, 410);
    assert_int_equal(side->max_ns, 200);
    side = find_side(row->wakers, row->waker_cnt, AP_LOCK_UNKNOWN, AP_LOCK_NO_STACK);
    assert_int_equal(side->count, 4);
    assert_int_equal(side->total_ns, 60);
    assert_int_equal(side->max_ns, 25);

    ap_locks_sort(locks);
    assert_int_equal(row->waiters[0].stack, 11);
    assert_int_equal(row->wakers[0].stack, 20);
    assert_int_equal(row->pairs[0].waiter, 0);
    assert_int_equal(row->pairs[0].waker, 0);
    assert_int_equal(row->pairs[0].total_ns, 900);
    assert_int_equal(row->pairs[1].waiter, 1);
    assert_int_equal(row->pairs[1].waker, 0);
    assert_int_equal(row->pairs[1].total_ns, 350);
    assert_int_equal(row->pairs[1].max_ns, 200);
    assert_int_equal(row->pairs[2].waker, 1);
    ap_locks_free(locks);
}

/* Adds by chance until every bound is passed; then all sums must agree, in any order. */
static void test_sides_overflow(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row = get(locks, 7, 0x1000);
    uint64_t total = 0, count = 0, seed = 1;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t waiter = (uint32_t)(seed >> 33) % 50, waker = (uint32_t)(seed >> 43) % 40;
        uint64_t ns = (seed >> 20) % 1000;

        assert_int_equal(
            ap_lock_row_add(row, waiter, waiter, waker, waker == 7 ? AP_LOCK_NO_STACK : waker, 2, 2 * ns, ns), 0);
        count += 2;
        total += 2 * ns;
    }
    for (unsigned round = 0; round < 2; round++) {
        uint64_t waiters = 0, wakers = 0, pairs = 0, pair_counts = 0;

        assert_int_equal(row->waiter_cnt, AP_LOCK_SIDES_MAX - 1); /* all waiters were known */
        assert_in_range(row->waker_cnt, AP_LOCK_SIDES_MAX - 1, AP_LOCK_SIDES_MAX);
        assert_int_equal(row->pair_cnt, AP_LOCK_PAIRS_MAX);
        assert_non_null(find_side(row->waiters, row->waiter_cnt, AP_LOCK_OTHERS, AP_LOCK_NO_STACK));
        assert_non_null(find_side(row->wakers, row->waker_cnt, AP_LOCK_OTHERS, AP_LOCK_NO_STACK));
        assert_non_null(find_side(row->wakers, row->waker_cnt, AP_LOCK_UNKNOWN, AP_LOCK_NO_STACK));
        for (uint32_t i = 0; i < row->waiter_cnt; i++)
            waiters += row->waiters[i].total_ns;
        for (uint32_t i = 0; i < row->waker_cnt; i++)
            wakers += row->wakers[i].total_ns;
        for (uint32_t i = 0; i < row->pair_cnt; i++) {
            const struct ap_lock_pair *pair = &row->pairs[i];

            pairs += pair->total_ns;
            pair_counts += pair->count;
            assert_int_equal(pair->waiter == AP_LOCK_REST, pair->waker == AP_LOCK_REST);
            if (pair->waiter == AP_LOCK_REST)
                continue;
            assert_true(pair->waiter < row->waiter_cnt && pair->waker < row->waker_cnt);
            assert_true(pair->total_ns <= row->waiters[pair->waiter].total_ns);
            assert_true(pair->total_ns <= row->wakers[pair->waker].total_ns);
        }
        assert_int_equal(waiters, total);
        assert_int_equal(wakers, total);
        assert_int_equal(pairs, total);
        assert_int_equal(pair_counts, count);
        ap_locks_sort(locks);
    }
    for (uint32_t i = 1; i < row->waiter_cnt; i++)
        assert_true(row->waiters[i - 1].total_ns >= row->waiters[i].total_ns);
    for (uint32_t i = 1; i < row->pair_cnt; i++)
        assert_true(row->pairs[i - 1].total_ns >= row->pairs[i].total_ns);
    ap_locks_free(locks);
}

static void test_sort(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    static const struct {
        uint64_t process, address, total, flight, timeout, waits;
        uint8_t type;
    } wanted[] = {
        {1, 1, 5, 1000, 0, 0, AP_LOCK_FUTEX}, {2, 1, 700, 0, 200, 1, AP_LOCK_MUTEX},
        {2, 2, 900, 0, 0, 1, AP_LOCK_SPIN},   {2, 3, 1, 0, 0, 9, AP_LOCK_RWLOCK},
        {3, 1, 1, 0, 0, 8, AP_LOCK_MUTEX},    {1, 9, 5000, 0, 0, 1, AP_LOCK_CONDVAR},
        {1, 8, 10, 0, 0, 1, AP_LOCK_JOIN},
    };
    const size_t cnt = sizeof(wanted) / sizeof(wanted[0]);

    (void)state;
    ap_locks_sort(locks);
    for (size_t i = cnt; i-- > 0;) {
        struct ap_lock_row *row = get(locks, wanted[i].process, wanted[i].address);

        row->total_ns = wanted[i].total;
        row->in_flight_ns = wanted[i].flight;
        row->timeout_ns = wanted[i].timeout;
        row->waits = wanted[i].waits;
        row->type = wanted[i].type;
    }
    ap_locks_sort(locks);
    for (size_t i = 0; i < cnt; i++) {
        assert_int_equal(locks->rows[i]->process, wanted[i].process);
        assert_int_equal(locks->rows[i]->address, wanted[i].address);
    }
    assert_int_equal(ap_lock_row_waited_ns(locks->rows[1]), 900);
    ap_locks_free(locks);
}

static void test_type_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= AP_LOCK_PARK; i++) {
        bool known = i <= AP_LOCK_PERCPU_RW || i >= AP_LOCK_CONDVAR;

        assert_int_equal(strcmp(ap_lock_type_name((uint8_t)i), "unknown") != 0, known);
        if (known)
            assert_int_equal(ap_lock_type_is_contention((uint8_t)i), i <= AP_LOCK_PERCPU_RW);
        for (unsigned j = 0; known && j < i; j++)
            assert_string_not_equal(ap_lock_type_name((uint8_t)i), ap_lock_type_name((uint8_t)j));
    }
    assert_string_equal(ap_lock_type_name(AP_LOCK_MUTEX), "mutex");
    assert_string_equal(ap_lock_type_name(AP_LOCK_CONDVAR), "condvar");
}

/* Stacks, leaf first: "k:" kernel, "?:" unnamed, "w:" waker, "m:" mark, "i:" inlined, "NAME#MODULE" for another module
 * than the program. */
static uint32_t stack_of(struct ap_profile *profile, const char *text)
{
    uint32_t frames[64], cnt = 0, stack;

    while (*text != '\0') {
        size_t len = strcspn(text, "|");
        struct ap_frame row = {.kind = AP_FRAME_NATIVE, .offset = cnt};
        const char *module = "/usr/bin/app";
        char name[200];

        assert_true(len < sizeof(name) && cnt < 64);
        memcpy(name, text, len);
        name[len] = '\0';
        text += len + (text[len] == '|');
        for (char *p = name; p[0] != '\0' && p[1] == ':' && p[2] != ':'; memmove(p, p + 2, strlen(p + 2) + 1)) {
            row.kind = *p == 'k'   ? AP_FRAME_KERNEL
                       : *p == '?' ? AP_FRAME_UNKNOWN
                       : *p == 'm' ? AP_FRAME_MARK
                                   : row.kind;
            row.waker |= *p == 'w';
            row.inlined |= *p == 'i';
        }
        char *in = strrchr(name, '#');
        if (in != NULL) {
            *in = '\0';
            module = in + 1;
        }
        row.function = ap_strings_id(profile->strings, name);
        assert_int_equal(ap_profile_add_mapping(profile,
                                                &(struct ap_mapping){.path = ap_strings_id(profile->strings, module)},
                                                &row.mapping),
                         0);
        assert_int_equal(ap_profile_add_frame(profile, &row, &frames[cnt++]), 0);
    }
    assert_int_equal(ap_profile_add_stack(profile, frames, cnt, false, &stack), 0);
    return stack;
}

#define LIBC   "#/usr/lib/x86_64-linux-gnu/libc.so.6"
#define KERNEL "k:futex_wait_queue|k:futex_wait|k:do_futex|k:__x64_sys_futex|"

static void test_type_of_stack(void **state)
{
    static const struct {
        const char *stack;
        uint8_t type;
    } cases[] = {
        /* glibc, with symbols, stripped, static, with versions */
        {KERNEL "__lll_lock_wait" LIBC "|pthread_mutex_lock" LIBC "|work|main", AP_LOCK_MUTEX},
        {KERNEL "?:libc.so.6+0x8842c" LIBC "|pthread_mutex_lock@@GLIBC_2.2.5" LIBC "|work", AP_LOCK_MUTEX},
        {"__lll_lock_wait|___pthread_mutex_lock|work", AP_LOCK_MUTEX},
        {"__GI___lll_lock_wait|__GI___pthread_mutex_lock|work", AP_LOCK_MUTEX},
        {"__lll_lock_wait_private|_IO_puts" LIBC "|work", AP_LOCK_MUTEX},
        {"futex_wait|__pthread_mutex_lock_full.part.0|work", AP_LOCK_MUTEX},
        {"pthread_mutex_timedlock|work", AP_LOCK_MUTEX},
        {"?:libc.so.6+0x1" LIBC "|pthread_mutex_clocklock@GLIBC_2.30" LIBC "|work", AP_LOCK_MUTEX},
        {"__futex_abstimed_wait_common64|__pthread_rwlock_rdlock|work", AP_LOCK_RWLOCK},
        {"?:libc.so.6+0x1" LIBC "|pthread_rwlock_wrlock" LIBC "|work", AP_LOCK_RWLOCK},
        {"__futex_abstimed_wait_common|__pthread_cond_wait_common|pthread_cond_wait@@GLIBC_2.3.2|work",
         AP_LOCK_CONDVAR},
        {"?:libc.so.6+0x1" LIBC "|pthread_cond_timedwait" LIBC "|work", AP_LOCK_CONDVAR},
        {"__lll_lock_wait|pthread_cond_wait|work", AP_LOCK_CONDVAR},
        {"__lll_lock_wait|__pthread_mutex_cond_lock|pthread_cond_wait|work", AP_LOCK_MUTEX},
        {"__futex_abstimed_wait_common|__new_sem_wait_slow64.constprop.0|sem_wait|work", AP_LOCK_SEMAPHORE},
        {"?:libc.so.6+0x1" LIBC "|sem_timedwait" LIBC "|work", AP_LOCK_SEMAPHORE},
        {"futex_wait|pthread_barrier_wait|work", AP_LOCK_BARRIER},
        {"?:libc.so.6+0x1" LIBC "|__pthread_clockjoin_ex" LIBC "|main", AP_LOCK_JOIN},
        {"?:x+1" LIBC "|pthread_join@@GLIBC_2.34" LIBC "|main", AP_LOCK_JOIN},
        {"futex_wait|__pthread_once_slow|work", AP_LOCK_ONCE},
        {"?:x" LIBC "|__cxa_guard_acquire#/usr/lib/libstdc++.so.6|work", AP_LOCK_ONCE},
        {"futex_wait|call_once|work", AP_LOCK_ONCE},
        /* the once's routine waits for something else */
        {"__lll_lock_wait|pthread_mutex_lock|routine|pthread_once|work", AP_LOCK_MUTEX},
        {"__timedwait_cp|pthread_cond_timedwait|work", AP_LOCK_CONDVAR}, /* musl */
        {"cnd_wait|work", AP_LOCK_CONDVAR},
        {"thrd_join|work", AP_LOCK_JOIN},
        {"mtx_lock|work", AP_LOCK_MUTEX},
        /* C++ */
        {"__lll_lock_wait|pthread_mutex_lock|i:__gthread_mutex_lock|i:std::mutex::lock|i:std::lock_guard<std::mutex>::"
         "lock_guard|work()|main",
         AP_LOCK_MUTEX},
        {"?:x" LIBC "|pthread_rwlock_wrlock" LIBC
         "|i:std::__glibcxx_rwlock_wrlock|i:std::__shared_mutex_pthread::lock|i:"
         "std::shared_mutex::lock|i:std::unique_lock<std::shared_mutex>::lock|work()",
         AP_LOCK_RWLOCK},
        {"?:x" LIBC "|pthread_cond_wait" LIBC "|std::condition_variable::wait(std::unique_lock<std::mutex>&)#/usr/lib/"
         "libstdc++.so.6|work()",
         AP_LOCK_CONDVAR},
        {"pthread_cond_wait|std::__1::condition_variable::wait(std::__1::unique_lock<std::__1::mutex>&)|work()",
         AP_LOCK_CONDVAR},
        {"futex_wait|std::__1::mutex::lock()|work()", AP_LOCK_MUTEX},
        {"?:x" LIBC "|pthread_join" LIBC "|std::thread::join()#/usr/lib/libstdc++.so.6|main", AP_LOCK_JOIN},
        /* Rust */
        {"syscall" LIBC
         "|std::sys::pal::unix::futex::futex_wait|std::sys::sync::mutex::futex::Mutex::lock_contended|app::"
         "work",
         AP_LOCK_MUTEX},
        {"syscall" LIBC "|std::sys::unix::locks::futex_rwlock::RwLock::read_contended|app::work", AP_LOCK_RWLOCK},
        {"syscall" LIBC "|<std::sys::sync::condvar::futex::Condvar>::wait_optional_timeout|app::work", AP_LOCK_CONDVAR},
        {"syscall" LIBC "|std::sys::sync::once::futex::Once::call|std::sync::once::Once::call_once|app::work",
         AP_LOCK_ONCE},
        {"syscall" LIBC "|std::sys::sync::thread_parking::futex::Parker::park|std::thread::park|app::work",
         AP_LOCK_PARK},
        {"?:x" LIBC "|pthread_join" LIBC "|std::sys::pal::unix::thread::Thread::join|std::thread::JoinInner<T>::join|"
         "app::main",
         AP_LOCK_JOIN},
        /* Go, Java, Python */
        {"runtime.futex|runtime.futexsleep|work.Wait", AP_LOCK_FUTEX},
        {"runtime.futex|runtime.futexsleep|runtime.lock2|runtime.schedule", AP_LOCK_MUTEX},
        {"runtime.futex|runtime.futexsleep|runtime.notesleep|runtime.stopm", AP_LOCK_PARK},
        {"?:x" LIBC "|pthread_cond_wait" LIBC "|os::PlatformEvent::park()|ObjectMonitor::EnterI(JavaThread*)|"
         "ObjectMonitor::enter(JavaThread*)",
         AP_LOCK_MUTEX},
        {"pthread_cond_timedwait|Parker::park(bool, long)|Unsafe_Park|java.lang.Thread.run", AP_LOCK_PARK},
        {"?:x" LIBC "|pthread_cond_timedwait" LIBC "|take_gil|PyEval_RestoreThread", AP_LOCK_MUTEX},
        {"?:x" LIBC "|sem_clockwait" LIBC "|PyThread_acquire_lock_timed|lock_acquire", AP_LOCK_SEMAPHORE},
        /* nothing tells */
        {KERNEL "syscall" LIBC "|my_lock|pthread_mutex_lock|main", AP_LOCK_FUTEX},
        {KERNEL "?:app+0x1|?:app+0x2|?:app+0x3", AP_LOCK_FUTEX},
        {"my_wait|std::call_once<f>|work", AP_LOCK_FUTEX},
        {"syscall_user_lock|pthread_join", AP_LOCK_FUTEX},
        {"main", AP_LOCK_FUTEX},
        {"k:schedule", AP_LOCK_FUTEX},
        /* too far out, and of the waker only */
        {"?:1|?:2|?:3|?:4|?:5|?:6|?:7|?:8|?:9|?:10|?:11|?:12|pthread_mutex_lock", AP_LOCK_FUTEX},
        {"?:1|?:2|?:3|?:4|?:5|?:6|?:7|?:8|?:9|?:10|?:11|pthread_mutex_lock", AP_LOCK_MUTEX},
        {"w:unlocker|w:pthread_mutex_unlock|m:w:[woken by]|?:x" LIBC "|sem_wait|work", AP_LOCK_SEMAPHORE},
    };
    struct ap_profile *profile = ap_profile_new(AP_KIND_LOCK);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t type = ap_lock_type_of_stack(profile, stack_of(profile, cases[i].stack));

        if (type != cases[i].type)
            fail_msg("%s: %s, not %s", cases[i].stack, ap_lock_type_name(type), ap_lock_type_name(cases[i].type));
    }
    assert_int_equal(ap_lock_type_of_stack(profile, AP_LOCK_NO_STACK), AP_LOCK_FUTEX);
    ap_profile_free(profile);
}

static void test_site(void **state)
{
    static const struct {
        const char *stack, *site;
    } cases[] = {
        {KERNEL "?:libc.so.6+0x1" LIBC "|pthread_mutex_lock" LIBC "|do_work|main", "do_work"},
        {"__lll_lock_wait|pthread_mutex_lock|do_work|main", "do_work"}, /* static */
        {"pthread_mutex_lock" LIBC "|i:std::mutex::lock|i:std::lock_guard<std::mutex>::lock_guard|push|main", "push"},
        {"pthread_mutex_unlock" LIBC "|std::mutex::unlock|publish|main", "publish"},
        {"pthread_cond_signal#/lib/libpthread-2.31.so|signal_all|main", "signal_all"},
        {"syscall#/lib/ld-musl-x86_64.so.1|?:app+0x44|main", "app+0x44"},
        {"sem_post" LIBC "|curl_multi_poll#/usr/lib/libcurl.so.4|main", "curl_multi_poll"},
        {"write" LIBC "|_start", "_start"},
        {"?:libc.so.6+0x1" LIBC "|start_thread" LIBC, "libc.so.6+0x1"},
        {"k:rwsem_down_write_slowpath|k:down_write|k:vm_mmap_pgoff|mmap" LIBC "|grow|main", "vm_mmap_pgoff"},
        {"k:mutex_lock|k:kworker_thread|k:ret_from_fork", "kworker_thread"},
        {"k:vfs_read|read" LIBC "|load|main", "load"}, /* no lock of the kernel */
        {"m:[preempted]|k:schedule", "schedule"},
        {"m:[no stack]", ""},
        {"w:unlock_all|m:w:[woken by]|?:libc.so.6+0x1" LIBC "|take|main", "take"},
        {"w:pthread_mutex_unlock" LIBC "|w:unlock_all|w:main", "unlock_all"}, /* a waker's own stack */
        {"std::sys::sync::mutex::futex::Mutex::lock_contended|i:lock_api::mutex::Mutex<R,T>::lock|app::work",
         "app::work"},
        {"parking_lot::raw_mutex::RawMutex::lock_slow|app::work", "app::work"},
    };
    struct ap_profile *profile = ap_profile_new(AP_KIND_LOCK);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t site = ap_lock_site(profile, stack_of(profile, cases[i].stack));
        const char *name = ap_profile_str(profile, profile->frames[site].function);

        if (strcmp(name, cases[i].site) != 0)
            fail_msg("%s: %s, not %s", cases[i].stack, name, cases[i].site);
    }
    assert_int_equal(ap_lock_site(profile, AP_LOCK_NO_STACK), 0);
    ap_profile_free(profile);
}

static void test_restored_rows(void **state)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row = NULL;
    uint64_t i;

    (void)state;
    for (i = 1; i <= AP_LOCK_ROWS_MAX + AP_LOCK_PROCESS_ROWS_MAX + 2; i++)
        assert_int_equal(ap_locks_restore(locks, i, 0x1000, false, &row), 0);
    assert_int_equal(row->process, i - 1);
    assert_int_equal(ap_locks_restore(locks, 1, 0x1000, false, &row), -EEXIST);
    assert_int_equal(ap_locks_restore(locks, i, 0x1000, false, &row), -ENOSPC);
    assert_ptr_equal(get(locks, i - 1, 0x1000), row);
    assert_int_equal(get(locks, i, 0x1000)->process, 0);
    assert_int_equal(locks->folded, 1);
    ap_locks_free(locks);
}

static int restore(uint32_t series, uint32_t stack, uint32_t cnt, uint32_t waiter, uint32_t waker, uint32_t pair_cnt)
{
    struct ap_locks *locks = ap_locks_new();
    struct ap_lock_row *row = get(locks, 1, 1);
    struct ap_lock_side sides[64];
    struct ap_lock_pair pairs[128];
    int r;

    for (uint32_t i = 0; i < 64; i++)
        sides[i] = (struct ap_lock_side){.series = series, .stack = stack, .total_ns = i};
    for (uint32_t i = 0; i < 128; i++)
        pairs[i] = (struct ap_lock_pair){.waiter = waiter, .waker = waker, .count = i};
    r = ap_lock_row_restore(row, sides, cnt, sides, cnt, pairs, pair_cnt);
    if (r == 0) {
        assert_int_equal(row->waiter_cnt, cnt);
        assert_int_equal(row->pair_cnt, pair_cnt);
        /* More may be added, and sorted, as if the row had been made here. */
        for (uint32_t i = 0; i < 200; i++)
            assert_int_equal(ap_lock_row_add(row, i, i, i % 7, i % 5 == 0 ? AP_LOCK_NO_STACK : i, 1, 1, 1), 0);
        assert_true(row->waiter_cnt <= AP_LOCK_SIDES_MAX && row->waker_cnt <= AP_LOCK_SIDES_MAX);
        assert_true(row->pair_cnt <= AP_LOCK_PAIRS_MAX);
        ap_locks_sort(locks);
    } else {
        assert_null(row->waiters);
        assert_int_equal(row->waiter_cnt + row->waker_cnt + row->pair_cnt, 0);
    }
    ap_locks_free(locks);
    return r;
}

static void test_restored_sides(void **state)
{
    (void)state;
    for (uint32_t cnt = 1; cnt <= AP_LOCK_SIDES_MAX - 2; cnt++)
        assert_int_equal(restore(3, 4, cnt, 0, cnt - 1, cnt), 0);
    assert_int_equal(restore(3, 4, 0, 0, 0, 0), 0);
    assert_int_equal(restore(AP_LOCK_UNKNOWN, AP_LOCK_NO_STACK, 1, 0, 0, AP_LOCK_PAIRS_MAX - 1), 0);
    assert_int_equal(restore(AP_LOCK_OTHERS, AP_LOCK_NO_STACK, 1, AP_LOCK_REST, AP_LOCK_REST, 1), 0);
    assert_int_equal(restore(3, 4, AP_LOCK_SIDES_MAX - 1, 0, 0, 0), -EINVAL);
    assert_int_equal(restore(3, 4, 1, 0, 0, AP_LOCK_PAIRS_MAX), -EINVAL);
    assert_int_equal(restore(AP_LOCK_UNKNOWN, AP_LOCK_NO_STACK, 2, 0, 0, 0), -EINVAL);
    assert_int_equal(restore(AP_LOCK_OTHERS, AP_LOCK_NO_STACK, 2, 0, 0, 0), -EINVAL);
    assert_int_equal(restore(3, AP_LOCK_NO_STACK, 1, 0, 0, 0), -EINVAL);
    assert_int_equal(restore(AP_LOCK_UNKNOWN, 4, 1, 0, 0, 0), -EINVAL);
    assert_int_equal(restore(3, 4, 1, 1, 0, 1), -EINVAL);
    assert_int_equal(restore(3, 4, 1, 0, 1, 1), -EINVAL);
    assert_int_equal(restore(3, 4, 1, 0, AP_LOCK_REST, 1), -EINVAL);
    assert_int_equal(restore(3, 4, 1, AP_LOCK_REST, AP_LOCK_REST, 2), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_folding), cmocka_unit_test(test_sides_and_pairs),
        cmocka_unit_test(test_sides_overflow), cmocka_unit_test(test_sort),    cmocka_unit_test(test_type_names),
        cmocka_unit_test(test_type_of_stack),  cmocka_unit_test(test_site),    cmocka_unit_test(test_restored_rows),
        cmocka_unit_test(test_restored_sides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
