/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading what a guest may be writing at this moment. */
#ifndef VIO_SERVER_PAYLOAD_SNAPSHOT_H
#define VIO_SERVER_PAYLOAD_SNAPSHOT_H

#include <stdint.h>
#include <string.h>

#include "vio/atomics.h"

/*
 * 1: what a guest wrote is loaded once, and what was judged is what is used. 0 (meson -Dsnapshots=false): it is loaded again where it
 * is used, as code does that does not think of it. For two purposes: tests/hostile must break such a server, and what the rule
 * costs can be measured. Never a product.
 */
#ifndef VIO_SNAPSHOTS
#define VIO_SNAPSHOTS 1
#endif

/*
 * Copy `len` bytes. What is used afterwards is the copy: where the loads can't be spelt one by one
 * (the address is not aligned), a barrier keeps the compiler from looking at the original again.
 */
static inline void vio_snapshot(void *dst, const void *src, uint32_t len)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	if (((uintptr_t)s & 7) != 0) {
		memcpy(dst, src, len);
		__asm__ volatile("" : : "r"(dst) : "memory");
		return;
	}
	for (; len >= 8; len -= 8, d += 8, s += 8) {
		uint64_t word = vio_load_relaxed((const uint64_t *)(const void *)s);

		memcpy(d, &word, 8);
	}
	if (len >= 4) {
		uint32_t half = vio_load_relaxed((const uint32_t *)(const void *)s);

		memcpy(d, &half, 4);
		len -= 4;
		d += 4;
		s += 4;
	}
	if (len >= 2) {
		uint16_t quarter = vio_load_relaxed((const uint16_t *)(const void *)s);

		memcpy(d, &quarter, 2);
		len -= 2;
		d += 2;
		s += 2;
	}
	if (len > 0)
		*d = vio_load_relaxed(s);
}

#endif
