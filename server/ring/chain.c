/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a chain head to a private list of segments. Bounded by VIO_MAX_SEGS descriptors, so a loop
 * ends as "too long" without being looked for. Source: VIRTIO 1.2, sections 2.7.4, 2.7.5.
 */
#include "server/payload/payload.h"
#include "server/ring/desc.h"
#include "server/ring/ring.h"

/* Add one buffer descriptor to the request. */
static inline uint8_t add_seg(struct vio_req *r, const struct vio_desc *d)
{
	bool writes = (d->flags & VRING_DESC_F_WRITE) != 0;

	if (vio_unlikely(d->len == 0 || r->n_seg == VIO_MAX_SEGS))
		return VIO_ST_DESC_CHAIN;
	if (!writes) {
		if (vio_unlikely(r->n_readable != r->n_seg))
			return VIO_ST_DESC_ORDER;
		r->n_readable++;
	}
	r->seg[r->n_seg++] = (struct vio_seg){.at = {d->addr}, .len = d->len, .dev_writes = writes};
	return VIO_ST_OK;
}

/* The table that `d` points to: fetched whole, once, then walked in private memory. */
static uint8_t walk_indirect(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d)
{
	struct vring_desc table[VIO_MAX_SEGS];
	uint32_t n = d->len / (uint32_t)sizeof(table[0]), i = 0;
	uint8_t why;

	if (!q->indirect || (d->flags & VRING_DESC_F_NEXT) || d->len % sizeof(table[0]) || n == 0 ||
	    n > VIO_MAX_SEGS)
		return VIO_ST_DESC_INDIRECT;
	why = q->payload->read(q, (struct ioba){d->addr}, table, d->len);
	if (why != VIO_ST_OK)
		return why;
	for (uint32_t steps = 0; steps < n; steps++) {
		struct vio_desc e = vio_desc_load(&table[i]);

		if (e.flags & VRING_DESC_F_INDIRECT)
			return VIO_ST_DESC_INDIRECT;
		why = add_seg(r, &e);
		if (why != VIO_ST_OK || !(e.flags & VRING_DESC_F_NEXT))
			return why;
		i = e.next;
		if (i >= n)
			return VIO_ST_DESC_CHAIN;
	}
	return VIO_ST_DESC_CHAIN;
}

uint8_t vio_chain_walk(struct vio_squeue *q, const struct vio_desc_src *src, uint16_t head,
		       struct vio_req **out)
{
	uint32_t i = head, bound = src->n < VIO_MAX_SEGS ? src->n : VIO_MAX_SEGS;
	struct vio_req *r;
	uint8_t why;

	if (vio_unlikely(head >= q->size || head >= src->n))
		return VIO_ST_DESC_HEAD;
	r = &q->req[head];
	if (vio_unlikely(r->state != VIO_REQ_FREE))
		return VIO_ST_DESC_HEAD;
	r->q = q;
	r->head = head;
	r->n_seg = r->n_readable = 0;
	r->fault = VIO_ST_OK;
	for (uint32_t steps = 0; steps < bound; steps++) {
		struct vio_desc d;

		if (src->need) {
			why = src->need(q, i);
			if (vio_unlikely(why != VIO_ST_OK))
				return why;
		}
		d = vio_desc_load(&src->table[i]);
		if (vio_unlikely(d.flags & VRING_DESC_F_INDIRECT)) {
			why = walk_indirect(q, r, &d);
			d.flags = 0; /* an indirect descriptor is the last one */
		} else {
			why = add_seg(r, &d);
		}
		if (vio_unlikely(why != VIO_ST_OK))
			return why;
		if (!(d.flags & VRING_DESC_F_NEXT)) {
			r->state = VIO_REQ_POPPED;
			*out = r;
			return VIO_ST_OK;
		}
		i = d.next;
		if (vio_unlikely(i >= src->n))
			return VIO_ST_DESC_CHAIN;
	}
	return VIO_ST_DESC_CHAIN;
}
