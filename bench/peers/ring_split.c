/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "bench/peers/ring.h"
#include "vio/atomics.h"

static size_t used_at(unsigned size)
{
	/* Desc and avail, then used on a page of its own. */
	return (16u * size + 6u + 2u * size + 4095u) & ~(size_t)4095;
}

static size_t split_bytes(unsigned size)
{
	return used_at(size) + 6u + 8u * size;
}

static void split_place(struct ring *r, void *mem)
{
	struct vring_desc *d = mem;
	struct vring_avail *avail;

	r->desc = d;
	r->driver = avail = (void *)((uint8_t *)mem + 16u * r->size);
	r->device = (uint8_t *)mem + used_at(r->size);
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	for (unsigned s = 0; s < r->slots; s++, d += RING_SPACING) {
		const uint16_t at = (uint16_t)(s * RING_SPACING);

		d[0] = (struct vring_desc){(uintptr_t)&r->line[s].hdr, sizeof(r->line[s].hdr),
					   VRING_DESC_F_NEXT, (uint16_t)(at + 1)};
		d[1] = (struct vring_desc){0, 0, 0, (uint16_t)(at + 2)};
		d[2] = (struct vring_desc){(uintptr_t)&r->line[s].status, 1, VRING_DESC_F_WRITE, 0};
	}
}

static void split_add(struct ring *r, struct ring_io *io)
{
	const unsigned slot = ring_slot_get(r, io);
	struct vring_desc *d = (struct vring_desc *)r->desc + slot * RING_SPACING + 1;
	struct vring_avail *avail = r->driver;
	const uint16_t flags = io->type == VIRTIO_BLK_T_IN ? VRING_DESC_F_NEXT | VRING_DESC_F_WRITE
							   : VRING_DESC_F_NEXT;

	/* Only what differs: a line that is not written stays where the device has read it. */
	if (d->addr != (uintptr_t)io->data)
		d->addr = (uintptr_t)io->data;
	if (d->len != io->len || d->flags != flags) {
		d->len = io->len;
		d->flags = flags;
	}
	avail->ring[r->next++ & (r->size - 1)] = (uint16_t)(slot * RING_SPACING);
}

static void split_publish(struct ring *r)
{
	vio_store_release(&((struct vring_avail *)r->driver)->idx, r->next);
}

static bool split_wants_kick(const struct ring *r)
{
	vio_fence_full();
	return !(vio_load_relaxed(&((struct vring_used *)r->device)->flags) &
		 VRING_USED_F_NO_NOTIFY);
}

static int split_take(struct ring *r, struct ring_io *out[], unsigned max)
{
	struct vring_used *used = r->device;
	const uint16_t idx = vio_load_acquire(&used->idx);
	unsigned n = (uint16_t)(idx - r->used);

	if (n > r->slots - r->n_free)
		return -EPROTO;
	if (n > max)
		n = max;
	for (unsigned i = 0; i < n; i++) {
		const uint32_t id = used->ring[r->used++ & (r->size - 1)].id;

		out[i] = id % RING_SPACING ? NULL : ring_slot_put(r, id / RING_SPACING);
		if (!out[i])
			return -EPROTO;
	}
	return (int)n;
}

const struct ring_ops ring_split = {
	.name = "split",
	.bytes = split_bytes,
	.place = split_place,
	.add = split_add,
	.publish = split_publish,
	.wants_kick = split_wants_kick,
	.take = split_take,
};
