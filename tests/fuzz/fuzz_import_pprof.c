/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* profile.proto, from anybody. What is taken must be sound: every format can write it, with the same sums. */
#include "import.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_import(AP_IMPORT_PPROF, data, size);
    return 0;
}
