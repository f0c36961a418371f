/* SPDX-License-Identifier: BSD-3-Clause */
/* The levels of ring access, for each layout. */
#include <linux/virtio_config.h>

#include "server/ring/ring.h"
#include "vq/packed.h"

static const struct layout {
	uint64_t feature; /* that agrees on it */
	/* Bytes of the parts: so many, and so many for each entry. */
	uint8_t bytes[3], each[3];
	bool has_base; /* an index says how far a queue has come, and nothing else does */
	const struct vio_ring_ops *access[VIO_N_RING];
} layouts[] = {
	{.feature = 1ull << VIRTIO_F_RING_PACKED,
	 .bytes = {0, 4, 4},
	 .each = {sizeof(struct vio_packed_desc), 0, 0},
	 .access = {[VIO_RING_COPY] = &vio_ring_packed_copy,
		    [VIO_RING_COPY_DELTA] = &vio_ring_packed_copy_delta,
		    [VIO_RING_DIRECT] = &vio_ring_packed_direct}},
	{.bytes = {0, 6, 6},
	 .each = {sizeof(struct vring_desc), sizeof(uint16_t), sizeof(struct vring_used_elem)},
	 .has_base = true,
	 .access = {[VIO_RING_COPY] = &vio_ring_copy,
		    [VIO_RING_COPY_DELTA] = &vio_ring_copy_delta,
		    [VIO_RING_DIRECT] = &vio_ring_direct}},
};

/* The last row is what is left when nothing else was agreed on. */
static const struct layout *layout_of(uint64_t features)
{
	const struct layout *l = layouts;

	while (l->feature && !(features & l->feature))
		l++;
	return l;
}

const struct vio_ring_ops *vio_ring_level(enum vio_ring_access access, uint64_t features)
{
	return (unsigned)access < VIO_N_RING ? layout_of(features)->access[access] : NULL;
}

void vio_ring_parts(uint64_t features, uint16_t size, uint64_t len[3])
{
	const struct layout *l = layout_of(features);

	for (unsigned i = 0; i < 3; i++)
		len[i] = l->bytes[i] + (uint64_t)l->each[i] * size;
}

/* In order, used elements do not say which chains of a batch are in flight. */
bool vio_ring_has_base(uint64_t features)
{
	return layout_of(features)->has_base && !(features >> VIRTIO_F_IN_ORDER & 1);
}
