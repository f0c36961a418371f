/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's chains of a queue in order (VIRTIO 1.2, sections 2.7.9 and 2.8.9), for both layouts: vr->group is a circle of them in the
 * order in which they were added, `first` is the oldest, and descriptors are taken in the order of the ring. So there is no free list,
 * and what the device gives back is the oldest: its used element says only how far. Private to the guest's vring files.
 */
#ifndef VIO_GUEST_VRING_ORDER_H
#define VIO_GUEST_VRING_ORDER_H

#include "guest/ring/vring_priv.h"

static inline unsigned order_mask(const struct vio_vring *vr)
{
	return ((unsigned)vr->size >> vr->shift) - 1;
}

/* Through a table: what does not fit a group, as with chains that come back in any order. */
static inline bool order_by_table(const struct vio_vring *vr, unsigned n)
{
	return vr->indirect && n > 1u << vr->shift;
}

/* Chains of `n` descriptors that can be added now, if `left` descriptors are free. */
static inline unsigned order_room(const struct vio_vring *vr, unsigned n, unsigned left)
{
	const unsigned fit = left / (order_by_table(vr, n) ? 1 : n),
		       free = order_mask(vr) + 1 - vr->n_chains;

	if (vr->broken)
		return 0;
	return fit < free ? fit : free;
}

/* Where the next chain is kept; its number within the circle is a name that the device may know it by. */
static inline uint16_t order_next(const struct vio_vring *vr)
{
	return (uint16_t)((vr->first + vr->n_chains) & order_mask(vr));
}

/* What the device may write into it: the used length of a chain that it gives back without an element. */
static inline uint32_t order_may(const struct vio_dma_seg *seg, unsigned n)
{
	uint32_t may = 0;

	for (unsigned i = n; i-- > 0 && seg[i].dev_writes;)
		may += seg[i].len;
	return may;
}

/* Put the chain there. at: its first descriptor, or that one's index; descs: how many it takes in the ring. */
static inline void order_add(struct vio_vring *vr, uint16_t at, unsigned descs, uint32_t may,
			     void *token)
{
	vr->group[order_next(vr)] =
		(struct group){.token = token, .n_groups = (uint16_t)descs, .next = at, .may = may};
	vr->n_chains++;
}

/* The oldest chain, of those `ready`: used, and not taken yet. Its descriptors' number. */
static inline unsigned order_take(struct vio_vring *vr, struct vio_used *out)
{
	struct group *gr = &vr->group[vr->first++ & order_mask(vr)];

	out->token = gr->token;
	out->len = --vr->ready ? gr->may : vr->ready_len;
	vr->n_chains--;
	return gr->n_groups;
}

#endif
