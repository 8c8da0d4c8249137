/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "model/syscalls.h"

#include "model/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OTHER_COMM "(other)"

/* A row with what only this file needs. */
struct own_row {
    struct ap_syscall_row row; /* first: the public pointer is this one */
    struct own_row *next;      /* of the same process */
};

struct process {
    uint64_t id;
    struct own_row *rows;
};

enum level { LEVEL_OWN = 0, LEVEL_COMM = 1, LEVEL_OTHER = 2, LEVEL_CNT = 3 };

struct ap_syscalls_index {
    struct ap_table rows;      /* row to its place in `rows` of ap_syscalls */
    struct ap_table processes; /* likewise, in `process` */
    struct process *process;
    size_t row_cap, process_cnt, process_cap;
    size_t level_cnt[LEVEL_CNT]; /* rows of each level */
    uint32_t other;              /* string id */
};

struct ap_syscalls *ap_syscalls_new(struct ap_strings *strings)
{
    struct ap_syscalls *syscalls = calloc(1, sizeof(*syscalls));

    if (syscalls == NULL)
        return NULL;
    syscalls->strings = strings;
    syscalls->index = calloc(1, sizeof(*syscalls->index));
    if (syscalls->index == NULL)
        return ap_syscalls_free(syscalls);
    syscalls->index->other = ap_strings_id(strings, OTHER_COMM);
    return syscalls;
}

static void row_free(struct ap_syscall_row *row)
{
    ap_histogram_done(&row->histogram);
    free(row->errors);
    free(row); /* the first member of its struct own_row */
}

struct ap_syscalls *ap_syscalls_free(struct ap_syscalls *syscalls)
{
    if (syscalls == NULL)
        return NULL;
    for (size_t i = 0; i < syscalls->row_cnt; i++)
        row_free(syscalls->rows[i]);
    free(syscalls->rows);
    if (syscalls->index != NULL) {
        ap_table_done(&syscalls->index->rows);
        ap_table_done(&syscalls->index->processes);
        free(syscalls->index->process);
    }
    free(syscalls->index);
    free(syscalls);
    return NULL;
}

/* Own rows are told apart by process, shared ones (process 0) by name. */
static uint64_t row_hash(uint64_t process, uint32_t comm, uint8_t abi, uint32_t number)
{
    uint64_t who = process != 0 ? process : ~(uint64_t)comm;

    return ap_table_mix(ap_table_mix(who) ^ ((uint64_t)abi << 32 | number));
}

static struct ap_syscall_row *find(const struct ap_syscalls *syscalls, uint64_t process, uint32_t comm, uint8_t abi,
                                   uint32_t number)
{
    uint64_t hash = row_hash(process, comm, abi, number);
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&syscalls->index->rows, hash, &pos)) != AP_TABLE_NONE) {
        struct ap_syscall_row *row = syscalls->rows[i];

        if (row->process == process && row->abi == abi && row->number == number && (process != 0 || row->comm == comm))
            return row;
    }
    return NULL;
}

static struct own_row *append(struct ap_syscalls *syscalls, const struct ap_syscall_row *model)
{
    struct ap_syscalls_index *index = syscalls->index;
    struct own_row *own;

    if (syscalls->row_cnt == index->row_cap) {
        size_t cap = index->row_cap == 0 ? 64 : index->row_cap * 2;
        struct ap_syscall_row **rows = reallocarray(syscalls->rows, cap, sizeof(struct ap_syscall_row *));

        if (rows == NULL)
            return NULL;
        syscalls->rows = rows;
        index->row_cap = cap;
    }
    if (ap_table_reserve(&index->rows) != 0)
        return NULL;
    own = calloc(1, sizeof(*own));
    if (own == NULL)
        return NULL;
    own->row = *model;
    ap_table_put(&index->rows, row_hash(model->process, model->comm, model->abi, model->number),
                 (uint32_t)syscalls->row_cnt);
    syscalls->rows[syscalls->row_cnt++] = &own->row;
    return own;
}

static struct process *find_process(struct ap_syscalls_index *index, uint64_t id)
{
    size_t pos = SIZE_MAX;
    uint32_t i;

    while ((i = ap_table_next(&index->processes, ap_table_mix(id), &pos)) != AP_TABLE_NONE)
        if (index->process[i].id == id)
            return &index->process[i];
    return NULL;
}

/* Makes an entry for a process that has none. NULL when out of memory. */
static struct process *add_process(struct ap_syscalls_index *index, uint64_t id)
{
    if (index->process_cnt == index->process_cap) {
        size_t cap = index->process_cap == 0 ? 64 : index->process_cap * 2;
        struct process *process = reallocarray(index->process, cap, sizeof(*process));

        if (process == NULL)
            return NULL;
        index->process = process;
        index->process_cap = cap;
    }
    if (ap_table_reserve(&index->processes) != 0)
        return NULL;
    ap_table_put(&index->processes, ap_table_mix(id), (uint32_t)index->process_cnt);
    index->process[index->process_cnt] = (struct process){.id = id};
    return &index->process[index->process_cnt++];
}

static struct ap_syscall_row *own_row(struct ap_syscalls *syscalls, struct process *process,
                                      const struct ap_syscall_row *model)
{
    struct own_row *own;

    if (process == NULL)
        process = add_process(syscalls->index, model->process);
    if (process == NULL)
        return NULL;
    own = append(syscalls, model);
    if (own == NULL)
        return NULL;
    own->next = process->rows;
    process->rows = own;
    syscalls->index->level_cnt[LEVEL_OWN]++;
    return &own->row;
}

/* The row that stands in for several processes. */
static struct ap_syscall_row *shared_row(struct ap_syscalls *syscalls, uint32_t comm, uint8_t abi, uint32_t number)
{
    static const size_t max[LEVEL_CNT] = {0, AP_SYSCALL_COMM_ROWS_MAX, AP_SYSCALL_OTHER_ROWS_MAX};
    struct ap_syscalls_index *index = syscalls->index;
    struct ap_syscall_row *row;

    for (unsigned level = LEVEL_COMM; level < LEVEL_CNT; level++) {
        if (level == LEVEL_OTHER)
            comm = index->other;
        row = find(syscalls, 0, comm, abi, number);
        /* The last place is for the numbers that found none. */
        if (row == NULL && level == LEVEL_OTHER && index->level_cnt[level] >= max[level] - 1) {
            abi = AP_SYSCALL_NATIVE;
            number = AP_SYSCALL_NUMBER_OTHER;
            row = find(syscalls, 0, comm, abi, number);
        }
        if (row == NULL && index->level_cnt[level] < max[level]) {
            struct own_row *own =
                append(syscalls, &(struct ap_syscall_row){.comm = comm, .number = number, .abi = abi});

            if (own == NULL)
                return NULL;
            index->level_cnt[level]++;
            row = &own->row;
        }
        if (row != NULL)
            break;
    }
    syscalls->folded += row != NULL;
    return row;
}

struct ap_syscall_row *ap_syscalls_row(struct ap_syscalls *syscalls, uint64_t process, uint32_t pid, const char *comm,
                                       uint8_t abi, uint32_t number)
{
    struct ap_syscalls_index *index = syscalls->index;
    struct process *known = find_process(index, process);
    const struct ap_syscall_row model = {
        .process = process,
        .pid = pid,
        .comm = ap_strings_id(syscalls->strings, comm),
        .number = number,
        .abi = abi,
    };
    struct ap_syscall_row *row;

    if (known != NULL && known->rows != NULL && (known->rows->row.comm != model.comm || known->rows->row.pid != pid)) {
        for (struct own_row *own = known->rows; own != NULL; own = own->next) {
            own->row.comm = model.comm;
            own->row.pid = pid;
        }
    }
    row = known != NULL ? find(syscalls, process, 0, abi, number) : NULL;
    if (row != NULL)
        return row;
    if (process != 0 && index->level_cnt[LEVEL_OWN] < AP_SYSCALL_ROWS_MAX)
        return own_row(syscalls, known, &model);
    return shared_row(syscalls, model.comm, abi, number);
}

int ap_syscalls_restore(struct ap_syscalls *syscalls, const struct ap_syscall_row *like,
                        struct ap_syscall_row **ret_row)
{
    static const size_t max[LEVEL_CNT] = {AP_SYSCALL_ROWS_MAX, AP_SYSCALL_COMM_ROWS_MAX, AP_SYSCALL_OTHER_ROWS_MAX};
    struct ap_syscalls_index *index = syscalls->index;
    const struct ap_syscall_row model = {
        .process = like->process, .pid = like->pid, .comm = like->comm, .number = like->number, .abi = like->abi};
    enum level level = LEVEL_OWN;
    struct ap_syscall_row *row;

    if (model.process == 0)
        level = model.comm == index->other ? LEVEL_OTHER : LEVEL_COMM;
    if (find(syscalls, model.process, model.comm, model.abi, model.number) != NULL)
        return -EEXIST;
    if (index->level_cnt[level] >= max[level])
        return -ENOSPC;
    if (level == LEVEL_OWN) {
        row = own_row(syscalls, find_process(index, model.process), &model);
    } else {
        struct own_row *own = append(syscalls, &model);

        row = own != NULL ? &own->row : NULL;
        index->level_cnt[level] += own != NULL;
    }
    if (row == NULL)
        return -ENOMEM;
    *ret_row = row;
    return 0;
}

int ap_syscall_row_error(struct ap_syscall_row *row, uint32_t error, uint64_t n)
{
    struct ap_syscall_error *errors;
    uint32_t place = 0;

    if (error == 0 || error > AP_ERRNO_MAX)
        return -EINVAL;
    while (place < row->error_cnt && row->errors[place].error < error)
        place++;
    if (place < row->error_cnt && row->errors[place].error == error) {
        row->errors[place].count += n;
        return 0;
    }
    errors = reallocarray(row->errors, (size_t)row->error_cnt + 1, sizeof(*errors));
    if (errors == NULL)
        return -ENOMEM;
    row->errors = errors;
    memmove(&errors[place + 1], &errors[place], (row->error_cnt - place) * sizeof(*errors));
    errors[place] = (struct ap_syscall_error){.error = error, .count = n};
    row->error_cnt++;
    return 0;
}

uint64_t ap_syscall_row_failed(const struct ap_syscall_row *row)
{
    uint64_t failed = 0;

    for (uint32_t i = 0; i < row->error_cnt; i++)
        failed += row->errors[i].count;
    return failed;
}

uint64_t ap_syscalls_count(const struct ap_syscalls *syscalls)
{
    uint64_t count = 0;

    for (size_t i = 0; i < syscalls->row_cnt; i++)
        count += syscalls->rows[i]->count;
    return count;
}

uint64_t ap_syscalls_total_ns(const struct ap_syscalls *syscalls)
{
    uint64_t total = 0;

    for (size_t i = 0; i < syscalls->row_cnt; i++)
        total += syscalls->rows[i]->total_ns;
    return total;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_rows(const void *pa, const void *pb)
{
    const struct ap_syscall_row *a = *(struct ap_syscall_row *const *)pa, *b = *(struct ap_syscall_row *const *)pb;
    int order = compare_u64(b->total_ns, a->total_ns);

    if (order == 0)
        order = compare_u64(b->count, a->count);
    if (order == 0)
        order = compare_u64(a->pid, b->pid);
    if (order == 0)
        order = compare_u64(a->abi, b->abi);
    if (order == 0)
        order = compare_u64(a->number, b->number);
    if (order == 0)
        order = compare_u64(a->process, b->process);
    return order != 0 ? order : compare_u64(a->comm, b->comm);
}

void ap_syscalls_sort(struct ap_syscalls *syscalls)
{
    struct ap_table *table = &syscalls->index->rows;

    if (syscalls->row_cnt < 2)
        return;
    qsort(syscalls->rows, syscalls->row_cnt, sizeof(struct ap_syscall_row *), compare_rows);
    /* The places have changed; the table keeps its size. */
    memset(table->slots, 0, table->slot_cnt * sizeof(*table->slots));
    table->used = 0;
    for (size_t i = 0; i < syscalls->row_cnt; i++) {
        const struct ap_syscall_row *row = syscalls->rows[i];

        ap_table_put(table, row_hash(row->process, row->comm, row->abi, row->number), (uint32_t)i);
    }
}

void ap_syscalls_keep(struct ap_syscalls *syscalls, bool (*fits)(void *ctx, const struct ap_syscall_row *row),
                      void *ctx)
{
    size_t cnt = 0;

    for (size_t i = 0; i < syscalls->row_cnt; i++) {
        if (fits(ctx, syscalls->rows[i]))
            syscalls->rows[cnt++] = syscalls->rows[i];
        else
            row_free(syscalls->rows[i]);
    }
    syscalls->row_cnt = cnt;
}
