/* SPDX-License-Identifier: BSD-3-Clause */
/* One descriptor, loaded once. Private to server/ring/. */
#ifndef VIO_SERVER_RING_DESC_H
#define VIO_SERVER_RING_DESC_H

#include <linux/virtio_ring.h>

#include "server/payload/snapshot.h"
#include "vio/atomics.h"
#include "vio/types.h"

/* Descriptors in a cache line, and the number that drivers like ours hand out together (guest/ring/vring.h). */
#define VIO_DESC_PER_LINE (VIO_CACHE_LINE / sizeof(struct vring_desc))

/* A descriptor in host order. */
struct vio_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/*
 * Two untorn 64-bit loads of a 16-byte aligned descriptor; its fields can't be looked at twice
 * afterwards. (Tearing between the two is possible when the guest writes it meanwhile, and
 * harmless: any combination is judged alike.)
 */
static inline struct vio_desc vio_desc_load(const struct vring_desc *p)
{
	uint64_t lo = vio_load_relaxed((const uint64_t *)(const void *)&p->addr);
	uint64_t hi = vio_le64(vio_load_relaxed((const uint64_t *)(const void *)&p->len));

	return (struct vio_desc){
		.addr = vio_le64(lo),
		.len = (uint32_t)hi,
		.flags = (uint16_t)(hi >> 32),
		.next = (uint16_t)(hi >> 48),
	};
}

#endif
