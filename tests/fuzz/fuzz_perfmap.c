/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Perf maps, which anybody may write. */
#include "symbol/perfmap.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

/* A name is text of one line, with something in it. */
static void check_name(const char *name, const char *text, size_t size)
{
    size_t len;

    if (!name)
        return;
    len = strlen(name);
    check(len <= AP_PERFMAP_NAME_MAX && !strchr(name, '\n'));
    check(!len || memmem(text, size, name, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct ap_perfmap *map = NULL;

    check(ap_perfmap_parse(text, size, &map) == 0 && map);
    check_name(ap_perfmap_find(map, 0), text, size);
    check_name(ap_perfmap_find(map, UINT64_MAX), text, size);
    /* around every number that stands in it */
    for (size_t i = 0; i < size; i++) {
        char number[20] = "";
        uint64_t addr;

        if (!isxdigit(data[i]) || (i > 0 && isxdigit(data[i - 1])))
            continue;
        memcpy(number, text + i, size - i < 16 ? size - i : 16);
        addr = strtoull(number, NULL, 16);
        check_name(ap_perfmap_find(map, addr - 1), text, size);
        check_name(ap_perfmap_find(map, addr), text, size);
        check_name(ap_perfmap_find(map, addr + 1), text, size);
    }
    check(!ap_perfmap_free(map));
    return 0;
}
