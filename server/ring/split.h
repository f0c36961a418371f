/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device's side of a split virtqueue (VIRTIO 1.2, section 2.7), over q->desc, q->avail and q->used, whatever they are: the
 * guest's rings in place, or a shadow of them in the server's memory. Which, is the level's of ring access, into which all of this
 * is compiled: no call by pointer a request. Every field is loaded once. Private to server/ring/.
 */
#ifndef VIO_SERVER_RING_SPLIT_H
#define VIO_SERVER_RING_SPLIT_H

#include "server/core/device.h"
#include "server/payload/payload.h"
#include "server/ring/desc.h"
#include "server/ring/order.h"
#include "server/ring/ring.h"

/*
 * Before descriptor i is looked at: a level that copies may fetch it only now. An enum vio_status. NULL: all of them are there. A
 * constant where this is inlined.
 */
typedef uint8_t split_need(struct vio_squeue *q, uint32_t i);

static inline uint16_t split_slot(const struct vio_squeue *q, uint16_t i)
{
	return (uint16_t)(i & (q->size - 1));
}

/* The head in available entry q->last_avail + i. */
static inline uint16_t split_head(const struct vio_squeue *q, unsigned i)
{
	return vio_le16(
		vio_load_relaxed(&q->avail->ring[split_slot(q, (uint16_t)(q->last_avail + i))]));
}

/* The heads of the next `n` entries; what they lead to is asked for. */
static inline void split_heads(const struct vio_squeue *q, uint16_t head[], unsigned n,
			       bool requests)
{
	const uint16_t *ring = q->avail->ring;
	const uint16_t mask = (uint16_t)(q->size - 1), first = q->last_avail;
	const struct vring_desc *desc = q->desc;
	struct vio_req *req = q->req;

	for (unsigned i = 0; i < n; i++) {
		head[i] = vio_le16(vio_load_relaxed(&ring[(uint16_t)(first + i) & mask]));
		__builtin_prefetch(&desc[head[i] & mask], 0);
		if (requests) {
			__builtin_prefetch(&req[head[i] & mask], 1);
			__builtin_prefetch(&req[head[i] & mask].hdr, 1);
		}
	}
}

/* The descriptor, if it is all of its chain and as the device wants it; its head is taken then. */
static inline bool split_plain_chain(struct vio_squeue *q, const struct vio_dev_ops *dev,
				     uint16_t *taken, uint16_t head, struct vio_plain *v,
				     split_need *need)
{
	struct vio_desc d;

	if (vio_unlikely(head >= q->size || taken[head]))
		return false;
	if (need && vio_unlikely(need(q, head) != VIO_ST_OK))
		return false;
	d = vio_desc_load(&q->desc[head]);
	if (vio_unlikely(d.flags != dev->plain_flags || d.len < dev->plain_min ||
			 d.len > dev->plain_max))
		return false;
	if (!VIO_SNAPSHOTS)
		d = vio_desc_load(&q->desc[head]);
	taken[head] = 1;
	*v = (struct vio_plain){.at = {d.addr}, .len = d.len, .head = head};
	return true;
}

/* vio_ring_ops.pop_plain for the next `n` available entries, which are there. */
static inline unsigned split_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned n,
				       bool *rest, split_need *need)
{
	const struct vio_dev_ops *dev = q->dev;
	uint16_t *const taken = q->taken;
	uint16_t head[VIO_BURST];
	unsigned seen = 0, done;

	q->windows = vio_load_acquire(
		q->windows_src); /* pair R; after the index, see server/core/req.h */
	split_heads(q, head, n, false);
	while (seen < n && split_plain_chain(q, dev, taken, head[seen], &out[seen], need))
		seen++;
	done = q->payload->plain(q, out, seen,
				 dev->plain_flags & VRING_DESC_F_WRITE ? TCE_WRITE : TCE_READ);
	for (unsigned i = done; i < seen; i++)
		taken[head[i]] = 0;
	*rest = done < n;
	if (q->order)
		vio_order_popped_plain(q, out, done, dev->plain_flags & VRING_DESC_F_WRITE);
	q->last_avail = (uint16_t)(q->last_avail + done);
	if (done > 0)
		q->prev_head = head[done - 1];
	return done;
}

/* vio_ring_ops.pop for the next `n` available entries, which are there. */
static inline unsigned split_pop(struct vio_squeue *q, struct vio_req *out[], unsigned n,
				 split_need *need)
{
	const struct vio_desc_src src = {.table = q->desc, .n = q->size, .need = need};
	uint16_t *const taken = q->taken;
	uint16_t head[VIO_BURST];
	unsigned done;

	q->windows = vio_load_acquire(
		q->windows_src); /* pair R; after the index, see server/core/req.h */
	split_heads(q, head, n, true);
	for (done = 0; done < n; done++) {
		bool again = head[done] < q->size && taken[head[done]];
		uint8_t why =
			again ? VIO_ST_DESC_HEAD : vio_chain_walk(q, &src, head[done], &out[done]);

		if (vio_unlikely(why != VIO_ST_OK)) {
			vio_sq_fault(q, why, head[done]);
			break;
		}
		taken[head[done]] = 1;
	}
	if (q->order)
		vio_order_popped(q, out, done);
	q->last_avail = (uint16_t)(q->last_avail + done);
	if (done > 0)
		q->prev_head = head[done - 1];
	return done;
}

static inline void split_put_used(struct vring_used_elem *e, uint16_t head, uint32_t len)
{
	vio_store_relaxed(&e->id, vio_le32(head));
	vio_store_relaxed(&e->len, vio_le32(len));
}

/* Used elements to be published: from index `old` on, `n` entries of the ring, of which in-order queues leave some as they were. */
struct split_span {
	uint16_t old, n;
};

/* In order: elements of whatever may go back now. */
static inline struct split_span split_in_order(struct vio_squeue *q)
{
	struct split_span s = {.old = q->used_idx};
	const uint16_t mask = (uint16_t)(q->size - 1);
	uint16_t first = 0, head = 0;
	uint32_t len = 0;
	unsigned n;

	while ((n = vio_order_batch(q->order, &first, &head, &len)) > 0) {
		split_put_used(&q->used->ring[q->used_idx & mask], head, len);
		s.n = (uint16_t)(q->used_idx - s.old + 1);
		for (unsigned i = 0; i < n; i++)
			q->taken[q->order->head[(uint16_t)(first + i) & mask]] = 0;
		q->used_idx = (uint16_t)(q->used_idx + n);
	}
	return s;
}

/* Elements of requests, which are free then. Not published. */
static inline struct split_span split_push(struct vio_squeue *q, struct vio_req *const r[],
					   unsigned n)
{
	const uint16_t old = q->used_idx, mask = (uint16_t)(q->size - 1);
	struct vring_used_elem *ring = q->used->ring;
	uint16_t *const taken = q->taken;

	if (q->order) {
		for (unsigned i = 0; i < n; i++) {
			vio_order_done(q->order, r[i]->head, r[i]->used_len);
			r[i]->state = VIO_REQ_FREE;
		}
		return split_in_order(q);
	}
	for (unsigned i = 0; i < n; i++) {
		split_put_used(&ring[(uint16_t)(old + i) & mask], r[i]->head, r[i]->used_len);
		r[i]->state = VIO_REQ_FREE;
		taken[r[i]->head] = 0;
	}
	q->used_idx = (uint16_t)(old + n);
	return (struct split_span){old, (uint16_t)n};
}

static inline struct split_span split_push_plain(struct vio_squeue *q, const struct vio_plain v[],
						 const uint32_t used_len[], unsigned n)
{
	const uint16_t old = q->used_idx, mask = (uint16_t)(q->size - 1);
	struct vring_used_elem *ring = q->used->ring;
	uint16_t *const taken = q->taken;

	if (q->order) {
		for (unsigned i = 0; i < n; i++)
			vio_order_done(q->order, v[i].head, used_len ? used_len[i] : 0);
		return split_in_order(q);
	}
	for (unsigned i = 0; i < n; i++) {
		split_put_used(&ring[(uint16_t)(old + i) & mask], v[i].head,
			       used_len ? used_len[i] : 0);
		taken[v[i].head] = 0;
	}
	q->used_idx = (uint16_t)(old + n);
	return (struct split_span){old, (uint16_t)n};
}

#endif
