/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The tables of system calls and of locks in the JSON document. */
#include "format/import_internal.h"

#include "model/locks.h"
#include "model/syscalls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int read_histogram(struct ap_import_reader *reader, uint32_t row, struct ap_histogram *histogram)
{
    uint32_t array = ap_json_member(&reader->doc, row, "histogram"), item = AP_JSON_NONE;
    int r = 0;

    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE) {
        uint64_t le_ns = 0, count = 0;

        r = ap_import_u64(reader, item, "le_ns", &le_ns);
        if (r == 0)
            r = ap_import_u64(reader, item, "count", &count);
        if (r == 0 && ap_histogram_add(histogram, ap_histogram_bucket(le_ns), count) != 0)
            r = ap_error_set(reader->err, -ENOMEM, "out of memory");
    }
    return r;
}

/* Of one of several hosts' processes, for rows to be told apart. Not 0. */
static uint64_t process_of(uint32_t pid, uint32_t comm, uint32_t host)
{
    const uint32_t key[] = {pid, comm, host};

    return XXH3_64bits(key, sizeof(key)) | 1;
}

/* Names of all errnos, sorted: documents may have millions of them. */
struct errno_name {
    char name[AP_SYSCALL_NAME_SZ];
    uint32_t error;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct errno_name *)a)->name, ((const struct errno_name *)b)->name);
}

/* AP_ERRNO_MAX rows, the caller's; NULL when out of memory. */
static struct errno_name *errno_names(void)
{
    struct errno_name *names = calloc(AP_ERRNO_MAX, sizeof(*names));

    for (uint32_t i = 0; names != NULL && i < AP_ERRNO_MAX; i++) {
        char buf[AP_SYSCALL_NAME_SZ];

        names[i].error = i + 1;
        (void)snprintf(names[i].name, sizeof(names[i].name), "%s", ap_errno_name(i + 1, buf));
    }
    if (names != NULL)
        qsort(names, AP_ERRNO_MAX, sizeof(*names), compare_names);
    return names;
}

/* The number of an errno's name; 0 when there is none. */
static uint32_t errno_of(const struct errno_name *names, const char *name)
{
    struct errno_name key;
    const struct errno_name *found;

    if (strlen(name) >= sizeof(key.name))
        return 0;
    memcpy(key.name, name, strlen(name) + 1);
    found = bsearch(&key, names, AP_ERRNO_MAX, sizeof(*names), compare_names);
    return found != NULL ? found->error : 0;
}

static int read_errors(struct ap_import_reader *reader, const struct errno_name *names, uint32_t row,
                       struct ap_syscall_row *syscall)
{
    uint32_t object = ap_json_member(&reader->doc, row, "errors"), name = AP_JSON_NONE;

    while ((name = ap_json_next_name(&reader->doc, object, name)) != AP_JSON_NONE) {
        uint32_t error;
        uint64_t count;
        int r = ap_json_text(&reader->doc, name, &reader->text);

        if (r != 0)
            return ap_error_set(reader->err, r == -ENOSPC ? -E2BIG : r, "JSON document: the name of an error");
        error = errno_of(names, reader->text.data);
        if (error == 0 || ap_json_u64(&reader->doc, name + 1, &count) != 0)
            return ap_error_set(reader->err, -EINVAL, "JSON document: error \"%.64s\" of a system call",
                                reader->text.data);
        if (ap_syscall_row_error(syscall, error, count) != 0)
            return ap_error_set(reader->err, -ENOMEM, "out of memory");
    }
    return 0;
}

static const char *abi_name(unsigned value)
{
    return ap_syscall_abi_name((uint8_t)value);
}

static int read_syscall(struct ap_import_reader *reader, const struct errno_name *names, struct ap_profile *profile,
                        uint32_t object)
{
    struct ap_syscall_row read = {0}, *row;
    char buf[AP_SYSCALL_NAME_SZ];
    const char *text = "";
    int r = ap_import_u32(reader, object, "pid", &read.pid);

    if (r == 0)
        r = ap_import_string(reader, profile, object, "comm", &read.comm);
    if (r == 0)
        r = ap_import_string(reader, profile, object, "host", &read.host);
    if (r == 0)
        r = ap_import_string(reader, profile, object, "name", &read.name);
    if (r == 0)
        r = ap_import_u32(reader, object, "number", &read.number);
    if (r == 0)
        r = ap_import_text(reader, object, "abi", &text);
    if (r == 0)
        read.abi = (uint8_t)ap_import_lookup(text, abi_name, AP_SYSCALL_X32 + 1, AP_SYSCALL_NATIVE);
    if (r == 0)
        r = ap_import_u64(reader, object, "count", &read.count);
    if (r == 0)
        r = ap_import_u64(reader, object, "total_ns", &read.total_ns);
    if (r == 0)
        r = ap_import_u64(reader, object, "max_ns", &read.max_ns);
    if (r == 0)
        r = ap_import_u64(reader, object, "in_flight", &read.in_flight);
    if (r == 0)
        r = ap_import_u64(reader, object, "in_flight_max_ns", &read.in_flight_max_ns);
    if (r != 0)
        return r;
    row = ap_syscalls_row(profile->syscalls, read.pid != 0 ? process_of(read.pid, read.comm, read.host) : 0, read.pid,
                          ap_profile_str(profile, read.comm), read.abi, read.number);
    if (row == NULL)
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    row->host = read.host;
    if (strcmp(ap_syscall_name(read.abi, read.number, buf), ap_profile_str(profile, read.name)) != 0)
        row->name = read.name;
    row->count += read.count;
    row->total_ns += read.total_ns;
    row->max_ns = read.max_ns > row->max_ns ? read.max_ns : row->max_ns;
    row->in_flight += read.in_flight;
    row->in_flight_max_ns = read.in_flight_max_ns;
    r = read_histogram(reader, object, &row->histogram);
    return r == 0 ? read_errors(reader, names, object, row) : r;
}

int ap_import_syscalls(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t array)
{
    struct errno_name *names = errno_names();
    uint32_t item = AP_JSON_NONE;
    int r = 0;

    profile->syscalls = ap_syscalls_new(profile->strings);
    if (profile->syscalls == NULL || names == NULL) {
        free(names);
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    }
    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE)
        r = read_syscall(reader, names, profile, item);
    free(names);
    if (r == 0)
        ap_syscalls_sort(profile->syscalls);
    return r;
}

/* Index of a side's stack, leaf first as it is written. */
static int read_stack(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t side, uint32_t *ret_stack)
{
    uint32_t array = ap_json_member(&reader->doc, side, "stack"), item = AP_JSON_NONE;
    uint32_t frames[AP_STACK_FRAMES_MAX], cnt = 0;
    bool truncated = false;
    int r = ap_import_bool(reader, side, "truncated", &truncated);

    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE) {
        struct ap_frame frame;

        if (cnt == AP_STACK_FRAMES_MAX) {
            truncated = true;
            break;
        }
        r = ap_import_frame(reader, profile, item, &frame);
        if (r != 0)
            return r;
        r = ap_profile_add_frame(profile, &frame, &frames[cnt++]);
        if (r != 0)
            return ap_import_refused(r, reader->err);
    }
    *ret_stack = AP_LOCK_NO_STACK;
    if (r != 0 || cnt == 0)
        return r;
    r = ap_profile_add_stack(profile, frames, cnt, truncated, ret_stack);
    return r == 0 ? 0 : ap_import_refused(r, reader->err);
}

static int read_side(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object,
                     struct ap_lock_side *ret_side)
{
    struct ap_lock_side side = {.series = AP_LOCK_UNKNOWN, .stack = AP_LOCK_NO_STACK};
    struct ap_series series = {0};
    bool unknown = false, others = false;
    int r = ap_import_bool(reader, object, "unknown", &unknown);

    if (r == 0)
        r = ap_import_bool(reader, object, "others", &others);
    if (r == 0)
        r = ap_import_u64(reader, object, "count", &side.count);
    if (r == 0)
        r = ap_import_u64(reader, object, "total_ns", &side.total_ns);
    if (r == 0)
        r = ap_import_u64(reader, object, "max_ns", &side.max_ns);
    if (r == 0 && !unknown && !others) {
        r = ap_import_u32(reader, object, "pid", &series.pid);
        if (r == 0)
            r = ap_import_string(reader, profile, object, "comm", &series.comm);
        if (r == 0)
            r = read_stack(reader, profile, object, &side.stack);
        if (r == 0 && side.stack != AP_LOCK_NO_STACK) {
            r = ap_profile_add_series(profile, &series, &side.series);
            r = r == 0 ? 0 : ap_import_refused(r, reader->err);
        }
    }
    if (others)
        side.series = AP_LOCK_OTHERS;
    if (r == 0)
        *ret_side = side;
    return r;
}

/* Rows of `sz` bytes for the array's items; *ret_cnt of them, at most `max`. 0, -E2BIG or -ENOMEM. */
static int make_rows(struct ap_import_reader *reader, uint32_t array, uint32_t max, size_t sz, void **ret_rows,
                     uint32_t *ret_cnt)
{
    uint32_t cnt = 0, cap = 2;
    void *rows;

    for (uint32_t item = AP_JSON_NONE; (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE;)
        cnt++;
    if (cnt > max)
        return ap_error_set(reader->err, -E2BIG, "JSON document: a lock of more than %u sides or pairs", max);
    while (cap < cnt) /* what ap_lock_row_add() takes to be there */
        cap *= 2;
    rows = calloc(cap, sz);
    if (rows == NULL)
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    *ret_rows = rows;
    *ret_cnt = cnt;
    return 0;
}

static int read_sides(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t array,
                      struct ap_lock_side **ret_sides, uint32_t *ret_cnt)
{
    uint32_t item = AP_JSON_NONE, cnt = 0, i = 0;
    void *rows = NULL;
    int r = make_rows(reader, array, AP_LOCK_SIDES_MAX, sizeof(**ret_sides), &rows, &cnt);

    if (r != 0 || rows == NULL)
        return r;
    *ret_sides = rows;
    *ret_cnt = cnt;
    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE)
        r = read_side(reader, profile, item, &(*ret_sides)[i++]);
    return r;
}

static int read_pairs(struct ap_import_reader *reader, uint32_t array, struct ap_lock_row *row)
{
    uint32_t item = AP_JSON_NONE, cnt = 0, i = 0;
    void *rows = NULL;
    int r = make_rows(reader, array, AP_LOCK_PAIRS_MAX, sizeof(*row->pairs), &rows, &cnt);

    if (r != 0)
        return r;
    row->pairs = rows;
    row->pair_cnt = cnt;
    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE) {
        struct ap_lock_pair *pair = &row->pairs[i++];

        pair->waiter = pair->waker = AP_LOCK_REST;
        r = ap_import_u32(reader, item, "waiter", &pair->waiter);
        if (r == 0)
            r = ap_import_u32(reader, item, "waker", &pair->waker);
        if (r == 0)
            r = ap_import_u64(reader, item, "count", &pair->count);
        if (r == 0)
            r = ap_import_u64(reader, item, "total_ns", &pair->total_ns);
        if (r == 0)
            r = ap_import_u64(reader, item, "max_ns", &pair->max_ns);
        if (r == 0 && (pair->waiter != AP_LOCK_REST || pair->waker != AP_LOCK_REST) &&
            (pair->waiter >= row->waiter_cnt || pair->waker >= row->waker_cnt))
            r = ap_error_set(reader->err, -EINVAL, "JSON document: a pair of a lock names a side that is not there");
    }
    return r;
}

static const char *type_name(unsigned value)
{
    return ap_lock_type_name((uint8_t)value);
}

static int read_lock_sums(struct ap_import_reader *reader, uint32_t object, struct ap_lock_row *row)
{
    const struct {
        const char *name;
        uint64_t *ret;
    } members[] = {
        {"waits", &row->waits},
        {"total_ns", &row->total_ns},
        {"max_ns", &row->max_ns},
        {"timeouts", &row->timeouts},
        {"timeout_ns", &row->timeout_ns},
        {"interrupted", &row->interrupted},
        {"interrupted_ns", &row->interrupted_ns},
        {"retried", &row->retried},
        {"in_flight", &row->in_flight},
        {"in_flight_ns", &row->in_flight_ns},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(members) / sizeof(members[0]); i++)
        r = ap_import_u64(reader, object, members[i].name, members[i].ret);
    return r;
}

static int read_lock(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t object)
{
    struct ap_lock_row read = {0}, *row;
    size_t row_cnt = profile->locks->row_cnt;
    const char *text = "";
    int r = ap_import_u32(reader, object, "pid", &read.pid);

    if (r == 0)
        r = ap_import_string(reader, profile, object, "comm", &read.comm);
    if (r == 0)
        r = ap_import_string(reader, profile, object, "host", &read.host);
    if (r == 0)
        r = ap_import_string(reader, profile, object, "symbol", &read.symbol);
    if (r == 0)
        r = ap_import_bool(reader, object, "kernel", &read.kernel);
    if (r == 0)
        r = ap_import_text(reader, object, "type", &text);
    if (r == 0)
        read.type = (uint8_t)ap_import_lookup(text, type_name, AP_LOCK_PARK + 1, AP_LOCK_FUTEX);
    if (r == 0)
        r = ap_import_text(reader, object, "address", &text);
    if (r != 0)
        return r;
    read.address = strtoull(text, NULL, 0);
    row = ap_locks_row(profile->locks,
                       read.kernel && read.pid == 0 ? read.host : process_of(read.pid, read.comm, read.host),
                       read.address, read.kernel);
    if (row == NULL)
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    if (profile->locks->row_cnt == row_cnt)
        return ap_error_set(reader->err, -EINVAL,
                            "JSON document: two rows of the lock %.32s of one process, or more than %d locks", text,
                            AP_LOCK_ROWS_MAX);
    row->pid = read.pid;
    row->comm = read.comm;
    row->host = read.host;
    row->symbol = read.symbol;
    row->type = read.type;
    r = read_lock_sums(reader, object, row);
    if (r == 0)
        r = read_histogram(reader, object, &row->histogram);
    if (r == 0)
        r = read_sides(reader, profile, ap_json_member(&reader->doc, object, "waiters"), &row->waiters,
                       &row->waiter_cnt);
    if (r == 0)
        r = read_sides(reader, profile, ap_json_member(&reader->doc, object, "wakers"), &row->wakers, &row->waker_cnt);
    return r == 0 ? read_pairs(reader, ap_json_member(&reader->doc, object, "pairs"), row) : r;
}

int ap_import_locks(struct ap_import_reader *reader, struct ap_profile *profile, uint32_t array)
{
    uint32_t item = AP_JSON_NONE;
    int r = 0;

    profile->locks = ap_locks_new();
    if (profile->locks == NULL)
        return ap_error_set(reader->err, -ENOMEM, "out of memory");
    while (r == 0 && (item = ap_json_next_item(&reader->doc, array, item)) != AP_JSON_NONE)
        r = read_lock(reader, profile, item);
    if (r == 0) /* what was read in half has pairs of sides that are not there */
        ap_locks_sort(profile->locks);
    return r;
}
