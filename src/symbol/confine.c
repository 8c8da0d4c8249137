/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "symbol/confine.h"

#include <grp.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* "nobody" and "nogroup" by number: the kernel's own overflow ids (include/linux/highuid.h), owners of nothing. */
#define NOBODY 65534

/* Keeps of the permitted capabilities only `wanted`, and makes them effective. */
static void keep_capabilities(uint64_t wanted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    unsigned i;

    if (syscall(SYS_capget, &header, data))
        return;
    for (i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].permitted &= (uint32_t)(wanted >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    (void)syscall(SYS_capset, &header, data);
}

void ap_confine(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!geteuid() && !prctl(PR_SET_KEEPCAPS, 1)) {
        (void)!setgroups(0, NULL);
        (void)!setresgid(NOBODY, NOBODY, NOBODY);
        (void)!setresuid(NOBODY, NOBODY, NOBODY);
    }
    keep_capabilities(1ULL << CAP_DAC_READ_SEARCH | 1ULL << CAP_SYSLOG);
}
