/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* System calls by process and number: counts, errors, latency. */
#ifndef APERTURE_MODEL_SYSCALLS_H
#define APERTURE_MODEL_SYSCALLS_H

#include "core/strings.h"
#include "model/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bounds. A row past the first bound is shared by all processes of its name (pid 0); past the second one it joins
 * "(other)"; past the third one the row of AP_SYSCALL_NUMBER_OTHER there. Nothing is dropped. */
#define AP_SYSCALL_ROWS_MAX       65536
#define AP_SYSCALL_COMM_ROWS_MAX  16384 /* more, for rows by name */
#define AP_SYSCALL_OTHER_ROWS_MAX 2048  /* more, for rows of "(other)": one per number */
#define AP_SYSCALL_NUMBER_OTHER   UINT32_MAX
#define AP_ERRNO_MAX              4095 /* MAX_ERRNO, include/linux/err.h */

enum ap_syscall_abi {
    AP_SYSCALL_NATIVE = 0,
    AP_SYSCALL_COMPAT = 1, /* 32-bit: i386 on x86-64, arm on arm64 */
    AP_SYSCALL_X32 = 2,    /* x86-64 with 32-bit pointers; numbers without their marker bit 30 */
};

struct ap_syscall_error {
    uint32_t error; /* errno, positive */
    uint64_t count;
};

struct ap_syscall_row {
    uint64_t process; /* identity that the caller chose; 0 = several processes in one row */
    uint32_t pid;     /* in the agent's pid namespace; 0 = not visible there, or several processes */
    uint32_t comm;    /* string id */
    uint32_t host;    /* string id; 0 = this machine */
    uint32_t name;    /* string id of the call's name, for calls of another machine; 0 = ask ap_syscall_name() */
    uint32_t number;
    uint8_t abi;    /* enum ap_syscall_abi */
    uint64_t count; /* calls that returned */
    uint64_t total_ns, max_ns;
    uint64_t in_flight;        /* calls that had not returned at the end */
    uint64_t in_flight_max_ns; /* how long the longest of them has lasted so far */
    struct ap_histogram histogram;
    struct ap_syscall_error *errors; /* owned; by errno, ascending */
    uint32_t error_cnt;
};

struct ap_syscalls {
    struct ap_strings *strings;   /* borrowed */
    struct ap_syscall_row **rows; /* owned; in order of first use until sorted */
    size_t row_cnt;
    uint64_t folded;                 /* rows that were asked for but joined a shared one */
    struct ap_syscalls_index *index; /* private */
};

/* `strings` is borrowed (the profile's) and must outlive it. NULL when out of memory. */
struct ap_syscalls *ap_syscalls_new(struct ap_strings *strings);
/* Accepts NULL. Returns NULL. */
struct ap_syscalls *ap_syscalls_free(struct ap_syscalls *syscalls);

/* The row of (process, abi, number), made or shared as the bounds say. `process` 0 asks for the row that all
 * processes of this name share. `comm` names all of the
 * process's own rows from now on (exec changes it). The row stays where it is until ap_syscalls_free(). NULL only
 * without memory. */
struct ap_syscall_row *ap_syscalls_row(struct ap_syscalls *syscalls, uint64_t process, uint32_t pid, const char *comm,
                                       uint8_t abi, uint32_t number);

/* A row as it was sent or stored: made where there is none, without folding, with the process, pid, comm (string id),
 * abi and number of `like`. 0 with *ret_row (as of ap_syscalls_row()), -EEXIST, -ENOSPC (more rows than
 * ap_syscalls_row() ever makes) or -ENOMEM. */
int ap_syscalls_restore(struct ap_syscalls *syscalls, const struct ap_syscall_row *like,
                        struct ap_syscall_row **ret_row);

/* Adds `n` failures with `error` (1..AP_ERRNO_MAX). 0, -EINVAL or -ENOMEM. */
int ap_syscall_row_error(struct ap_syscall_row *row, uint32_t error, uint64_t n);
uint64_t ap_syscall_row_failed(const struct ap_syscall_row *row);

/* Sums. */
uint64_t ap_syscalls_count(const struct ap_syscalls *syscalls);
uint64_t ap_syscalls_total_ns(const struct ap_syscalls *syscalls);

/* Orders rows by total time, longest first, then count, pid, abi and number. Rows may still be asked for after it. */
void ap_syscalls_sort(struct ap_syscalls *syscalls);

/* Leaves only the rows that `fits` says yes to. After it no rows may be asked for. */
void ap_syscalls_keep(struct ap_syscalls *syscalls, bool (*fits)(void *ctx, const struct ap_syscall_row *row),
                      void *ctx);

/* Name of a system call of this machine's architecture: "openat", "openat" for compat calls too (their table is
 * another), "(other)" for AP_SYSCALL_NUMBER_OTHER, "syscall_N" written into `buf` when unknown. `buf`: at least
 * AP_SYSCALL_NAME_SZ bytes. */
#define AP_SYSCALL_NAME_SZ 32
const char *ap_syscall_name(uint8_t abi, uint32_t number, char *buf);
/* "native", "compat", "x32", "unknown" */
const char *ap_syscall_abi_name(uint8_t abi);
/* Name of an errno: "ENOENT"; also the kernel's own (ERESTARTSYS ...); "E4000" into `buf` (likewise) when unknown. */
const char *ap_errno_name(uint32_t error, char *buf);

#endif
