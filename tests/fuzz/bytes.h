/* SPDX-License-Identifier: BSD-3-Clause */
/* The fuzzer's bytes, consumed from the front; zeroes when they are used up. */
#ifndef VIO_TESTS_FUZZ_BYTES_H
#define VIO_TESTS_FUZZ_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vio/types.h"

struct bytes {
	const uint8_t *p;
	size_t n;
};

static inline void take(struct bytes *b, void *dst, size_t n)
{
	size_t k = n < b->n ? n : b->n;

	memset(dst, 0, n);
	if (k)
		memcpy(dst, b->p, k);
	b->p += k;
	b->n -= k;
}

static inline uint8_t take8(struct bytes *b)
{
	uint8_t v;

	take(b, &v, 1);
	return v;
}

static inline uint16_t take16(struct bytes *b)
{
	uint16_t v;

	take(b, &v, 2);
	return vio_le16(v);
}

#endif
