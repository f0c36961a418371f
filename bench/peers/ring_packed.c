/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <linux/virtio_ring.h>

#include "bench/peers/ring.h"
#include "vio/atomics.h"

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1u << VRING_PACKED_DESC_F_USED)

static size_t packed_bytes(unsigned size)
{
	/* Descriptors; the driver's and the device's event words on a line each. */
	return 16u * size + 2u * RING_LINE;
}

static void packed_place(struct ring *r, void *mem)
{
	struct vring_packed_desc_event *driver;

	r->desc = mem;
	r->driver = driver = (void *)((uint8_t *)mem + 16u * r->size);
	r->device = (uint8_t *)r->driver + RING_LINE;
	r->wrap = r->used_wrap = true;
	driver->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
}

/* A descriptor at the next place; its flags, so that the head's can be written last. */
static uint16_t peer_put(struct ring *r, uint64_t addr, uint32_t len, unsigned slot, unsigned flags,
			 bool store_flags)
{
	struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->next;
	const uint16_t all = (uint16_t)(flags | (r->wrap ? AVAIL : USED));

	d->addr = addr;
	d->len = len;
	d->id = (uint16_t)slot;
	if (store_flags)
		vio_store_relaxed(&d->flags, all);
	if (++r->next == r->size) {
		r->next = 0;
		r->wrap = !r->wrap;
	}
	return all;
}

static void packed_add(struct ring *r, struct ring_io *io)
{
	const unsigned slot = ring_slot_get(r, io);
	const bool first = !r->unpublished;
	const uint16_t head = r->next;
	struct ring_line *l = &r->line[slot];
	uint16_t flags =
		peer_put(r, (uintptr_t)&l->hdr, sizeof(l->hdr), slot, VRING_DESC_F_NEXT, !first);

	peer_put(r, (uintptr_t)io->data, io->len, slot,
		 VRING_DESC_F_NEXT | (io->type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0u), true);
	peer_put(r, (uintptr_t)&l->status, 1, slot, VRING_DESC_F_WRITE, true);
	if (first) {
		r->head = head;
		r->head_flags = flags;
		r->unpublished = true;
	}
}

static void packed_publish(struct ring *r)
{
	struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->head;

	if (r->unpublished)
		vio_store_release(&d->flags, r->head_flags);
	r->unpublished = false;
}

static bool packed_wants_kick(const struct ring *r)
{
	const struct vring_packed_desc_event *e = r->device;

	vio_fence_full();
	return vio_load_relaxed(&e->flags) != VRING_PACKED_EVENT_FLAG_DISABLE;
}

static int packed_take(struct ring *r, struct ring_io *out[], unsigned max)
{
	unsigned n = 0;

	for (; n < max && r->n_free < r->slots; n++) {
		const struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->used;
		const uint16_t flags = vio_load_acquire(&d->flags);

		if (!!(flags & AVAIL) != r->used_wrap || !!(flags & USED) != r->used_wrap)
			break;
		out[n] = ring_slot_put(r, d->id);
		if (!out[n])
			return -EPROTO;
		r->used = (uint16_t)(r->used + RING_CHAIN);
		if (r->used >= r->size) {
			r->used = (uint16_t)(r->used - r->size);
			r->used_wrap = !r->used_wrap;
		}
	}
	return (int)n;
}

const struct ring_ops ring_packed = {
	.name = "packed",
	.packed = true,
	.bytes = packed_bytes,
	.place = packed_place,
	.add = packed_add,
	.publish = packed_publish,
	.wants_kick = packed_wants_kick,
	.take = packed_take,
};
