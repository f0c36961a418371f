/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VIRTIO_F_IN_ORDER (VIRTIO 1.2, sections 2.7.9 and 2.8.9): chains go back in the order in which they came. Backends and ports finish
 * in any order, so what is done too early is held back here, by its head; and of chains that go back together only the last has a used
 * element, where the first one's would be. A chain without an element is taken for used completely, so one of which the device wrote
 * less than it may write is the last of its batch. The bound is the queue's size, the memory is there from attach on; what is held
 * back is not in flight any more and needs nothing of the guest's but its used element. Owning lcore only. Private to server/ring/.
 */
#ifndef VIO_SERVER_RING_ORDER_H
#define VIO_SERVER_RING_ORDER_H

#include "server/core/req.h"

#define VIO_ORDER_NEVER_FULL UINT32_MAX

/* A chain between pop and its used element, by its head. */
struct vio_order_chain {
	uint32_t may; /* bytes that the device may write into it; or VIO_ORDER_NEVER_FULL */
	uint32_t len; /* used length, when it is done */
	bool done;
};

struct vio_order {
	uint16_t in, out; /* free-running: where the next head goes, and the oldest one */
	uint16_t mask;
	uint16_t *head;                /* size, in the order of pop */
	struct vio_order_chain *chain; /* size, by head */
};

/*
 * What every layout needs of private memory for its heads: q->taken, and q->order if the queue is in order (q->in_order). -ENOMEM,
 * nothing is kept then. Freed by vio_heads_free(), which may be called again.
 */
int vio_heads_new(struct vio_squeue *q, struct vio_err *err);
void vio_heads_free(struct vio_squeue *q);

static inline void vio_order_note(struct vio_order *o, uint16_t head, uint64_t may)
{
	o->head[o->in++ & o->mask] = head;
	o->chain[head] = (struct vio_order_chain){
		.may = may < VIO_ORDER_NEVER_FULL ? (uint32_t)may : VIO_ORDER_NEVER_FULL};
}

/* Chains that pop took, in this order. */
static inline void vio_order_popped(const struct vio_squeue *q, struct vio_req *const r[],
				    unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t may = 0;

		for (unsigned k = r[i]->n_readable; k < r[i]->n_seg && k < VIO_MAX_SEGS; k++)
			may += r[i]->seg[k].len;
		vio_order_note(q->order, r[i]->head,
			       r[i]->n_seg > VIO_MAX_SEGS ? VIO_ORDER_NEVER_FULL : may);
	}
}

static inline void vio_order_popped_plain(const struct vio_squeue *q, const struct vio_plain v[],
					  unsigned n, bool writes)
{
	for (unsigned i = 0; i < n; i++)
		vio_order_note(q->order, v[i].head, writes ? v[i].len : 0);
}

static inline void vio_order_done(struct vio_order *o, uint16_t head, uint32_t len)
{
	o->chain[head].len = len;
	o->chain[head].done = true;
}

/*
 * The next chains that go back with one used element: their number, 0 when the oldest is not done. *head, *len: of the last, whose the
 * element is. The chains' heads are q->order->head[first ...], *first free-running.
 */
static inline unsigned vio_order_batch(struct vio_order *o, uint16_t *first, uint16_t *head,
				       uint32_t *len)
{
	unsigned n = 0;

	*first = o->out;
	while (o->out != o->in) {
		struct vio_order_chain *c = &o->chain[o->head[o->out & o->mask]];

		if (!c->done)
			break;
		*head = o->head[o->out++ & o->mask];
		*len = c->len;
		n++;
		if (c->len != c->may)
			break;
	}
	return n;
}

#endif
