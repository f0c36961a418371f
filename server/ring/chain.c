/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a chain head to a private list of segments. Bounded by the queue size, which no chain may
 * exceed, so a loop ends as "too long" without being looked for. A chain of more segments than a
 * request has room for is walked to its end all the same: its last byte is where a device puts the
 * status with which it refuses. Source: VIRTIO 1.2, sections 2.7.4, 2.7.5.
 */
#include "server/core/device.h"
#include "server/payload/payload.h"
#include "server/ring/desc.h"
#include "server/ring/ring.h"

/* A segment that the request has no room for; `first`: so is the one that has its last place. False: nor is here. */
static bool add_tail(struct vio_squeue *q, const struct vio_req *r, bool first,
		     const struct vio_seg *s)
{
	if (first) {
		q->tail[0] = r->seg[VIO_MAX_SEGS - 1];
		q->n_tail = 1;
	}
	if (q->n_tail >= q->tail_room)
		return false;
	q->tail[q->n_tail++] = *s;
	return true;
}

/* Add one buffer descriptor to the request. One without bytes is allowed and says nothing. */
static inline uint8_t add_seg(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d)
{
	const struct vio_seg s = {
		.at = {d->addr}, .len = d->len, .dev_writes = (d->flags & VRING_DESC_F_WRITE) != 0};
	unsigned at = r->n_seg;

	if (vio_unlikely(!s.dev_writes && r->n_readable != r->n_seg))
		return VIO_ST_DESC_ORDER;
	if (vio_unlikely(d->len == 0))
		return VIO_ST_OK;
	if (vio_unlikely(at >= VIO_MAX_SEGS)) {
		/* VIO_SEGS_MORE of them, of which the last place has the last. */
		if (q->tail && !add_tail(q, r, at == VIO_MAX_SEGS, &s))
			return VIO_ST_DESC_CHAIN;
		at = VIO_MAX_SEGS - 1;
		r->n_seg = VIO_MAX_SEGS;
		if (r->n_readable > at)
			r->n_readable = (uint8_t)(s.dev_writes ? at : VIO_MAX_SEGS);
	}
	if (!s.dev_writes)
		r->n_readable++;
	r->n_seg++;
	r->seg[at] = s;
	return VIO_ST_OK;
}

void vio_chain_again(struct vio_req *r, const struct vio_desc *d)
{
	if (r->n_seg == 0 || r->n_seg > VIO_MAX_SEGS)
		return;
	r->seg[r->n_seg - 1].at.v = d->addr;
	r->seg[r->n_seg - 1].len = d->len;
}

/* Part of an indirect table, private. */
struct table {
	struct vring_desc desc[VIO_MAX_SEGS];
	uint32_t first, n; /* what is here */
};

/* Entry i of the table that `d` points to, of `n` entries; the usual table comes in one piece. */
static uint8_t table_entry(struct vio_squeue *q, const struct vio_desc *d, uint32_t n,
			   struct table *t, uint32_t i, struct vio_desc *out)
{
	if (i - t->first >= t->n) {
		uint8_t why;

		t->first = n > VIO_MAX_SEGS ? i : 0;
		t->n = n - t->first < VIO_MAX_SEGS ? n - t->first : VIO_MAX_SEGS;
		why = q->payload->read(q, (struct ioba){d->addr + t->first * sizeof(t->desc[0])},
				       t->desc, t->n * (uint32_t)sizeof(t->desc[0]));
		if (why != VIO_ST_OK)
			return why;
	}
	*out = vio_desc_load(&t->desc[i - t->first]);
	return VIO_ST_OK;
}

/* Without snapshots: address and length of entry i as they are by now. */
static uint8_t table_again(struct vio_squeue *q, const struct vio_desc *d, uint32_t i,
			   struct vio_desc *e)
{
	struct vring_desc again = {0};
	uint8_t why = q->payload->read(q, (struct ioba){d->addr + i * sizeof(again)}, &again,
				       sizeof(again));

	e->addr = vio_le64(again.addr);
	e->len = vio_le32(again.len);
	return why;
}

/* The table may have more entries than the chain in it, and the chain as many as the queue has. */
static uint8_t walk_indirect(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d)
{
	struct table t = {.n = 0};
	uint32_t n = d->len / (uint32_t)sizeof(t.desc[0]), i = 0;
	uint32_t bound = q->size > VIO_MAX_SEGS ? q->size : VIO_MAX_SEGS;

	if (!q->indirect || (d->flags & VRING_DESC_F_NEXT) || d->len % sizeof(t.desc[0]) || n == 0)
		return VIO_ST_DESC_INDIRECT;
	if (d->addr + d->len < d->addr)
		return VIO_ST_DESC_RANGE;
	for (uint32_t steps = 0; steps < n && steps < bound; steps++) {
		struct vio_desc e = {0};
		uint8_t why = table_entry(q, d, n, &t, i, &e);

		if (why == VIO_ST_OK && (e.flags & VRING_DESC_F_INDIRECT))
			why = VIO_ST_DESC_INDIRECT;
		if (why == VIO_ST_OK)
			why = add_seg(q, r, &e);
		if (!VIO_SNAPSHOTS && why == VIO_ST_OK && table_again(q, d, i, &e) == VIO_ST_OK)
			vio_chain_again(r, &e);
		if (why != VIO_ST_OK || !(e.flags & VRING_DESC_F_NEXT))
			return why;
		i = e.next;
		if (i >= n)
			return VIO_ST_DESC_CHAIN;
	}
	return VIO_ST_DESC_CHAIN;
}

uint8_t vio_chain_judge(const struct vio_squeue *q, const struct vio_req *r)
{
	if (vio_unlikely(r->n_seg == 0))
		return VIO_ST_DESC_CHAIN;
	return vio_unlikely(r->n_seg > VIO_MAX_SEGS) && !q->dev->has_status && !q->dev->long_chains
		       ? VIO_ST_DESC_CHAIN
		       : VIO_ST_OK;
}

uint8_t vio_chain_walk(struct vio_squeue *q, const struct vio_desc_src *src, uint16_t head,
		       struct vio_req **out)
{
	uint32_t i = head;
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
	for (uint32_t steps = 0; steps < src->n; steps++) {
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
			why = add_seg(q, r, &d);
			if (!VIO_SNAPSHOTS && why == VIO_ST_OK) {
				const struct vio_desc again = vio_desc_load(&src->table[i]);

				vio_chain_again(r, &again);
			}
		}
		if (vio_unlikely(why != VIO_ST_OK))
			return why;
		if (!(d.flags & VRING_DESC_F_NEXT)) {
			why = vio_chain_judge(q, r);
			if (vio_unlikely(why != VIO_ST_OK))
				return why;
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

/* As walk_indirect(), but the entries of a packed ring's table follow each other, to its end. */
static uint8_t walk_list(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d)
{
	struct table t = {.n = 0};
	const uint32_t n = d->len / (uint32_t)sizeof(t.desc[0]);
	uint8_t why = VIO_ST_OK;

	if (!q->indirect || (d->flags & VRING_DESC_F_NEXT) || d->len % sizeof(t.desc[0]) || n == 0)
		return VIO_ST_DESC_INDIRECT;
	if (d->addr + d->len < d->addr)
		return VIO_ST_DESC_RANGE;
	if (n > q->size && n > VIO_MAX_SEGS)
		return VIO_ST_DESC_CHAIN;
	for (uint32_t i = 0; i < n && why == VIO_ST_OK; i++) {
		struct vio_desc e = {0};

		why = table_entry(q, d, n, &t, i, &e);
		e.flags = e.next; /* where the other layout has its links */
		if (why == VIO_ST_OK)
			why = e.flags & VRING_DESC_F_INDIRECT ? VIO_ST_DESC_INDIRECT
							      : add_seg(q, r, &e);
		if (!VIO_SNAPSHOTS && why == VIO_ST_OK && table_again(q, d, i, &e) == VIO_ST_OK)
			vio_chain_again(r, &e);
	}
	return why;
}

uint8_t vio_chain_add(struct vio_squeue *q, struct vio_req *r, const struct vio_desc *d)
{
	return vio_unlikely(d->flags & VRING_DESC_F_INDIRECT) ? walk_list(q, r, d)
							      : add_seg(q, r, d);
}
