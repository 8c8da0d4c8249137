/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Private to the wire codecs: what the coder and the decoder of questions and answers agree on. */
#ifndef APERTURE_WIRE_ASK_LIMITS_H
#define APERTURE_WIRE_ASK_LIMITS_H

#include <stddef.h>

/* Most memory that a question, and an answer, takes as messages. */
#define AP_ASK_SZ    ((size_t)1 << 20)
#define AP_ANSWER_SZ ((size_t)256 << 20)

/* Flags of a tree's nodes, as the .proto file has them. */
#define AP_NODE_INLINED   1u
#define AP_NODE_WAKER     2u
#define AP_NODE_TRUNCATED 4u

#endif
