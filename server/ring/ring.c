/* SPDX-License-Identifier: BSD-3-Clause */
/* The levels of ring access. */
#include "server/ring/ring.h"
#include "server/ring/shadow.h"

static const struct vio_ring_ops *const levels[VIO_N_RING] = {
	[VIO_RING_COPY] = &vio_ring_copy,
	[VIO_RING_COPY_DELTA] = &vio_ring_copy_delta,
	[VIO_RING_DIRECT] = &vio_ring_direct,
};

const struct vio_ring_ops *vio_ring_level(enum vio_ring_access access)
{
	return (unsigned)access < VIO_N_RING ? levels[access] : NULL;
}

uint64_t vio_ring_local_bytes(enum vio_ring_access access, uint16_t size)
{
	return access == VIO_RING_COPY || access == VIO_RING_COPY_DELTA ? vio_shadow_bytes(size)
									: 0;
}
