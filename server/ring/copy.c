/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ring access of the 2010 design: each kick copies the whole descriptor table and the whole
 * available ring in, each completion writes the whole used ring back. For N entries a kick moves
 *
 *	avail flags, idx		4	H_READ_RDMA, first: what it covers is published when the
 *						rest is copied
 *	avail ring, used_event		2N + 2	H_COPY_RDMA
 *	descriptor table		16N	H_COPY_RDMA
 *	used ring, avail_event		8N + 2	H_COPY_RDMA
 *	used flags, idx			4	H_WRITE_RDMA, last: it publishes the elements
 *
 * in all 16N + (2N + 6) + (8N + 6) = 26N + 12 bytes in 5 calls. An index that has not moved costs
 * its 4 bytes only. One copy serves all the entries that its index covers, in bursts; each burst is
 * given back with a write-back of its own.
 */
#include "server/core/rdma.h"
#include "server/ring/shadow.h"
#include "server/ring/split.h"

/* Copy both rings in. False with the queue's fault set. */
static bool copy_in(struct vio_squeue *q, struct vio_shadow *s)
{
	struct ioba ring = vio_avail_entry_at(q, 0);
	uint8_t why = vio_rdma_copy(q, ring, ioba_add(s->avail_at, 4), 2ull * q->size + 2, true);

	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, ring);
		return false;
	}
	why = vio_rdma_copy(q, q->place.desc, s->desc_at, 16ull * q->size, true);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.desc);
		return false;
	}
	s->copied = s->idx;
	return true;
}

/* Entries that are in the shadow and were not taken, at most `max`; copied in when there are none. */
static unsigned copy_pull(struct vio_squeue *q, unsigned max)
{
	struct vio_shadow *s = q->ring_priv;
	unsigned n;

	if (s->copied == q->last_avail && (vio_shadow_look(q) == 0 || !copy_in(q, s)))
		return 0;
	n = (uint16_t)(s->copied - q->last_avail);
	return n < max ? n : max;
}

/* After a pop. */
static void copy_left(struct vio_squeue *q)
{
	const struct vio_shadow *s = q->ring_priv;

	q->more = s->copied != q->last_avail;
}

static unsigned copy_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
			       bool *rest)
{
	unsigned n = copy_pull(q, max);

	*rest = false;
	if (n > 0)
		n = split_pop_plain(q, out, n, rest, NULL);
	copy_left(q);
	return n;
}

static unsigned copy_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	unsigned n = copy_pull(q, max);

	if (n > 0)
		n = split_pop(q, out, n, NULL);
	copy_left(q);
	return n;
}

/* The elements from index span.old on are in the shadow: the whole ring goes back, then the index. */
static bool copy_back(struct vio_squeue *q, struct split_span span)
{
	struct vio_shadow *s = q->ring_priv;
	struct ioba ring = vio_used_entry_at(q, 0);
	uint8_t why;

	if (span.n == 0)
		return false;
	why = vio_rdma_copy(q, ring, ioba_add(s->used_at, 4), 8ull * q->size + 2, false);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, ring);
		return false;
	}
	return vio_shadow_publish(q, span.old);
}

static bool copy_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	return copy_back(q, split_push(q, r, n));
}

static bool copy_push_plain(struct vio_squeue *q, const struct vio_plain v[],
			    const uint32_t used_len[], unsigned n)
{
	return copy_back(q, split_push_plain(q, v, used_len, n));
}

const struct vio_ring_ops vio_ring_copy = {
	.name = "copy",
	.attach = vio_shadow_attach,
	.detach = vio_shadow_detach,
	.pop = copy_pop,
	.pop_plain = copy_pop_plain,
	.push_plain = copy_push_plain,
	.push = copy_push,
	.arm = vio_shadow_arm,
	.park = vio_shadow_park,
};
