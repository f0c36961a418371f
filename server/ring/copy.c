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
#include "server/rdma.h"
#include "server/ring/shadow.h"

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

static unsigned pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	struct vio_shadow *s = q->ring_priv;
	const struct vio_desc_src src = {.table = s->desc, .n = q->size};
	const uint16_t mask = (uint16_t)(q->size - 1);
	unsigned n, done;

	if (s->copied == q->last_avail && (vio_shadow_look(q) == 0 || !copy_in(q, s)))
		return 0;
	q->windows = vio_load_acquire(q->windows_src); /* pair R; after the index */
	n = (uint16_t)(s->copied - q->last_avail);
	if (n > max)
		n = max;
	for (done = 0; done < n; done++) {
		uint16_t head = vio_le16(s->avail->ring[(uint16_t)(q->last_avail + done) & mask]);
		uint8_t why = vio_chain_walk(q, &src, head, &out[done]);

		if (vio_unlikely(why != VIO_ST_OK)) {
			vio_sq_fault(q, why, head);
			break;
		}
	}
	q->last_avail = (uint16_t)(q->last_avail + done);
	q->more = s->copied != q->last_avail;
	return done;
}

static bool push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	struct vio_shadow *s = q->ring_priv;
	uint16_t old = vio_shadow_fill_used(q, r, n);
	struct ioba ring = vio_used_entry_at(q, 0);
	uint8_t why = vio_rdma_copy(q, ring, ioba_add(s->used_at, 4), 8ull * q->size + 2, false);

	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, ring);
		return false;
	}
	return vio_shadow_publish(q, old);
}

const struct vio_ring_ops vio_ring_copy = {
	.name = "copy",
	.attach = vio_shadow_attach,
	.detach = vio_shadow_detach,
	.pop = pop,
	.push = push,
	.arm = vio_shadow_arm,
	.park = vio_shadow_park,
};
