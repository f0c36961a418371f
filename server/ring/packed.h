/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's side of a packed virtqueue (VIRTIO 1.2, section 2.8), over q->desc, which is the ring: the guest's in place, or a
 * shadow of it. q->last_avail and q->used_idx are free-running indices of descriptors (vq/packed.h). q->taken[id]: descriptors of the
 * chain that has this buffer id and is in flight. Every word is loaded once. Private to server/ring/.
 */
#ifndef VIO_SERVER_RING_PACKED_H
#define VIO_SERVER_RING_PACKED_H

#include <string.h>

#include "server/core/device.h"
#include "server/payload/payload.h"
#include "server/ring/desc.h"
#include "server/ring/order.h"
#include "server/ring/ring.h"
#include "vq/packed.h"

static inline struct vio_packed_desc *packed_at(const struct vio_squeue *q, uint16_t idx)
{
	return (struct vio_packed_desc *)(uintptr_t)q->desc + (idx & (q->size - 1));
}

/* Is there something at `idx`? */
static inline bool packed_there(const struct vio_squeue *q, uint16_t idx)
{
	return vio_packed_is_avail(vio_load_acquire(&packed_at(q, idx)->tail), idx,
				   q->size); /* pair A */
}

/* The descriptor at `idx`, if it is available; d->next is its buffer id. */
static inline bool packed_load(const struct vio_squeue *q, uint16_t idx, struct vio_desc *d)
{
	const struct vio_packed_desc *p = packed_at(q, idx);
	const uint64_t tail = vio_load_acquire(&p->tail); /* pair A */

	if (!vio_packed_is_avail(tail, idx, q->size))
		return false;
	*d = (struct vio_desc){
		.addr = vio_le64(vio_load_relaxed(&p->addr)),
		.len = vio_packed_len(tail),
		.flags = (uint16_t)(vio_packed_flags(tail) & ~(VIO_PACKED_AVAIL | VIO_PACKED_USED)),
		.next = vio_packed_id(tail),
	};
	return true;
}

/* Without snapshots: address and length as they are by now. */
static inline void packed_again(const struct vio_squeue *q, uint16_t idx, struct vio_desc *d)
{
	const struct vio_packed_desc *p = packed_at(q, idx);

	d->addr = vio_le64(vio_load_relaxed(&p->addr));
	d->len = vio_packed_len(vio_load_relaxed(&p->tail));
}

/* May chains that end before `idx` be in flight together with those that are? Else the guest made more available than there is. */
static inline bool packed_fits(const struct vio_squeue *q, uint16_t idx)
{
	return (uint16_t)(idx - q->used_idx) <= q->size;
}

/* vio_ring_ops.pop_plain, within the next `limit` descriptors. */
static inline unsigned packed_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
					unsigned limit, bool *rest)
{
	const struct vio_dev_ops *dev = q->dev;
	unsigned n = 0, done;
	struct vio_desc d;

	*rest = false;
	if (max > limit)
		max = limit;
	for (; n < max && packed_load(q, (uint16_t)(q->last_avail + n), &d); n++) {
		if (vio_unlikely(d.flags != dev->plain_flags || d.len < dev->plain_min ||
				 d.len > dev->plain_max || d.next >= q->size || q->taken[d.next] ||
				 !packed_fits(q, (uint16_t)(q->last_avail + n + 1)))) {
			*rest = true;
			break;
		}
		if (!VIO_SNAPSHOTS)
			packed_again(q, (uint16_t)(q->last_avail + n), &d);
		q->taken[d.next] = 1;
		out[n] = (struct vio_plain){.at = {d.addr}, .len = d.len, .head = d.next};
	}
	if (n == 0)
		return 0;
	q->windows = vio_load_acquire(
		q->windows_src); /* pair R; after the ring, see server/core/req.h */
	done = q->payload->plain(q, out, n,
				 dev->plain_flags & VRING_DESC_F_WRITE ? TCE_WRITE : TCE_READ);
	for (unsigned i = done; i < n; i++)
		q->taken[out[i].head] = 0;
	*rest = *rest || done < n;
	if (q->order)
		vio_order_popped_plain(q, out, done, dev->plain_flags & VRING_DESC_F_WRITE);
	q->last_avail = (uint16_t)(q->last_avail + done);
	return done;
}

struct packed_chain {
	unsigned n;  /* descriptors that were looked at */
	uint16_t id; /* of the last one: the chain's */
	bool whole;
	uint8_t why; /* not VIO_ST_OK: what is wrong in it */
};

/*
 * The chain at `idx`, of which `limit` descriptors may be looked at. Whose request it is shows only at its end: until then its
 * segments are kept in r.
 */
static inline struct packed_chain packed_chain(struct vio_squeue *q, uint16_t idx, unsigned limit,
					       struct vio_req *r)
{
	struct packed_chain c = {.why = VIO_ST_OK};
	struct vio_desc d;

	r->n_seg = r->n_readable = 0;
	do {
		if (c.n == limit || !packed_load(q, (uint16_t)(idx + c.n), &d))
			return c;
		if (c.n++ == 0)
			q->windows = vio_load_acquire(
				q->windows_src); /* pair R; after the head, see server/core/req.h */
		c.id = d.next;
		if (vio_likely(c.why == VIO_ST_OK))
			c.why = vio_chain_add(q, r, &d);
		if (!VIO_SNAPSHOTS && c.why == VIO_ST_OK && !(d.flags & VRING_DESC_F_INDIRECT)) {
			packed_again(q, (uint16_t)(idx + c.n - 1), &d);
			vio_chain_again(r, &d);
		}
	} while (d.flags & VRING_DESC_F_NEXT);
	c.whole = true;
	return c;
}

/* The chain's request. 0 or an enum vio_status. */
static inline uint8_t packed_request(struct vio_squeue *q, const struct packed_chain *c,
				     const struct vio_req *from, struct vio_req **out)
{
	const unsigned n = from->n_seg < VIO_MAX_SEGS ? from->n_seg : VIO_MAX_SEGS;
	struct vio_req *r;
	uint8_t why = c->why;

	if (vio_unlikely(c->id >= q->size || q->taken[c->id] ||
			 q->req[c->id].state != VIO_REQ_FREE))
		return VIO_ST_DESC_HEAD;
	if (vio_likely(why == VIO_ST_OK))
		why = packed_fits(q, (uint16_t)(q->last_avail + c->n)) ? vio_chain_judge(q, from)
								       : VIO_ST_AVAIL_IDX;
	if (vio_unlikely(why != VIO_ST_OK))
		return why;
	r = &q->req[c->id];
	r->q = q;
	r->head = c->id;
	r->n_seg = from->n_seg;
	r->n_readable = from->n_readable;
	r->fault = VIO_ST_OK;
	memcpy(r->seg, from->seg, n * sizeof(r->seg[0]));
	q->taken[c->id] = (uint16_t)c->n;
	r->state = VIO_REQ_POPPED;
	*out = r;
	return VIO_ST_OK;
}

/*
 * vio_ring_ops.pop, within the next `limit` descriptors. A chain becomes visible with its head, so one that is not whole is the
 * guest's fault; but in a shadow only the one at `whole` is known to have been copied after its head was seen (NULL: all are), and
 * another is left for the next look.
 */
static inline unsigned packed_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max,
				  unsigned limit, const uint16_t *whole)
{
	struct vio_req r; /* its segments only */
	unsigned done = 0;

	while (done < max) {
		const struct packed_chain c = packed_chain(q, q->last_avail, limit, &r);
		uint8_t why = VIO_ST_DESC_CHAIN;

		if (c.n == 0 || (!c.whole && whole && *whole != q->last_avail))
			break;
		if (c.whole)
			why = packed_request(q, &c, &r, &out[done]);
		if (vio_unlikely(why != VIO_ST_OK)) {
			vio_sq_fault(q, why, c.id);
			break;
		}
		q->last_avail = (uint16_t)(q->last_avail + c.n);
		limit -= c.n;
		done++;
	}
	if (q->order)
		vio_order_popped(q, out, done);
	return done;
}

/* Used descriptors to be: of those that a push fills only the first makes them the guest's, and it comes last. */
struct packed_given {
	uint16_t from, last; /* indices of the first and the last */
	uint64_t tail;       /* of the first */
	unsigned n;
};

static inline void packed_given_back(struct vio_squeue *q, uint16_t id)
{
	q->used_idx = (uint16_t)(q->used_idx + q->taken[id]);
	q->taken[id] = 0;
}

static inline void packed_give(struct vio_squeue *q, struct packed_given *g, uint16_t id,
			       uint32_t len)
{
	const uint16_t at = q->used_idx;
	const uint64_t tail = vio_packed_tail(
		len, id,
		(uint16_t)(vio_packed_used_bits(at, q->size) | (len ? VRING_DESC_F_WRITE : 0)));

	if (g->n++ == 0) {
		g->from = at;
		g->tail = tail;
	} else {
		vio_store_relaxed(&packed_at(q, at)->tail, tail);
	}
	g->last = at;
	packed_given_back(q, id);
}

/* In order: used descriptors of whatever may go back now. */
static inline struct packed_given packed_in_order(struct vio_squeue *q)
{
	struct packed_given g = {0};
	uint16_t first = 0, id = 0;
	uint32_t len = 0;
	unsigned n;

	while ((n = vio_order_batch(q->order, &first, &id, &len)) > 0) {
		const uint16_t *head = q->order->head, mask = q->order->mask;

		packed_give(q, &g, id, len);
		for (unsigned i = 0; i + 1 < n; i++)
			packed_given_back(q, head[(uint16_t)(first + i) & mask]);
	}
	return g;
}

static inline struct packed_given packed_push(struct vio_squeue *q, struct vio_req *const r[],
					      unsigned n)
{
	struct packed_given g = {0};

	if (q->order) {
		for (unsigned i = 0; i < n; i++) {
			vio_order_done(q->order, r[i]->head, r[i]->used_len);
			r[i]->state = VIO_REQ_FREE;
		}
		return packed_in_order(q);
	}
	for (unsigned i = 0; i < n; i++) {
		packed_give(q, &g, r[i]->head, r[i]->used_len);
		r[i]->state = VIO_REQ_FREE;
	}
	return g;
}

static inline struct packed_given packed_push_plain(struct vio_squeue *q,
						    const struct vio_plain v[],
						    const uint32_t used_len[], unsigned n)
{
	struct packed_given g = {0};

	if (q->order) {
		for (unsigned i = 0; i < n; i++)
			vio_order_done(q->order, v[i].head, used_len ? used_len[i] : 0);
		return packed_in_order(q);
	}
	for (unsigned i = 0; i < n; i++)
		packed_give(q, &g, v[i].head, used_len ? used_len[i] : 0);
	return g;
}

#endif
