/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Executable files of profiled processes. */
#include "symbol/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ap_elf_info info, untouched;
    static int fd = -1; /* one file for all inputs: making one is slow */
    int rc;

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, 0) == 0);
    check(pwrite(fd, data, size, 0) == (ssize_t)size);
    memset(&info, 0x5a, sizeof(info));
    memset(&untouched, 0x5a, sizeof(untouched));
    rc = ap_elf_inspect(fd, &info);
    if (rc) {
        check(rc == -ENOEXEC || rc == -EBADMSG || rc == -EOPNOTSUPP);
        check(!memcmp(&info, &untouched, sizeof(info)));
        check(rc == -ENOEXEC || (size >= 52 && !memcmp(data, "\177ELF", 4)));
    } else {
        check(size >= 52 && info.build_id_len <= AP_BUILD_ID_MAX);
        /* an id is in the file, as it stands there */
        check(!info.build_id_len || memmem(data, size, info.build_id, info.build_id_len));
    }
    return 0;
}
