/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Pieces of JSON that the codecs and the API share. */
#ifndef APERTURE_FORMAT_JSON_H
#define APERTURE_FORMAT_JSON_H

#include "format/format.h"

/* "key":"value" and "key":value; the key is written as it is. */
void ap_json_key_str(struct ap_out *out, const char *key, const char *value);
void ap_json_key_u64(struct ap_out *out, const char *key, uint64_t value);
/* The same after a comma. */
void ap_json_next_str(struct ap_out *out, const char *key, const char *value);
void ap_json_next_u64(struct ap_out *out, const char *key, uint64_t value);

/* The account as an object, with the sum of what is missing as "lost". */
void ap_json_account(const struct ap_account *account, struct ap_out *out);

/* ,"syscalls":[...] and ,"locks":[...] of a profile that has them, at most `max` rows; nothing for others. */
void ap_json_syscalls(const struct ap_profile *profile, size_t max, struct ap_out *out);
void ap_json_locks(const struct ap_profile *profile, size_t max, struct ap_out *out);

#endif
