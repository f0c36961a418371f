/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench/peers/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned slots_of(unsigned size)
{
	return size / RING_SPACING;
}

static size_t in_pages(size_t n)
{
	return (n + 4095) & ~(size_t)4095;
}

size_t ring_bytes(const struct ring_ops *ops, unsigned size)
{
	return in_pages(ops->bytes(size)) + in_pages(slots_of(size) * sizeof(struct ring_line));
}

int ring_init(struct ring *r, const struct ring_ops *ops, unsigned size, void *mem)
{
	memset(r, 0, sizeof(*r));
	r->ops = ops;
	r->size = size;
	r->slots = r->n_free = slots_of(size);
	r->io = calloc(r->slots, sizeof(struct ring_io *));
	r->free = calloc(r->slots, sizeof(*r->free));
	if (!r->io || !r->free) {
		ring_free(r);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < r->slots; i++)
		r->free[i] = (uint16_t)i;
	r->line = (void *)((uint8_t *)mem + in_pages(ops->bytes(size)));
	ops->place(r, mem);
	return 0;
}

void ring_free(struct ring *r)
{
	free(r->io);
	free(r->free);
	r->io = NULL;
	r->free = NULL;
}

unsigned ring_slot_get(struct ring *r, struct ring_io *io)
{
	const unsigned slot = r->free[r->free_first];
	struct virtio_blk_outhdr *h = &r->line[slot].hdr;

	r->free_first = r->free_first + 1 == r->slots ? 0 : r->free_first + 1;
	r->n_free--;
	r->io[slot] = io;
	h->type = io->type;
	h->sector = io->sector;
	r->line[slot].status =
		0xff; /* no status of the specification: a device that writes none is found */
	return slot;
}

struct ring_io *ring_slot_put(struct ring *r, unsigned slot)
{
	struct ring_io *io = slot < r->slots ? r->io[slot] : NULL;
	unsigned at = r->free_first + r->n_free;

	if (!io)
		return NULL;
	io->status = r->line[slot].status;
	r->io[slot] = NULL;
	r->free[at >= r->slots ? at - r->slots : at] = (uint16_t)slot;
	r->n_free++;
	return io;
}
