/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packed ring that is copied. A ring without an index has to be looked at where the next chain would begin, and there is nothing
 * that covers what was copied: a chain is known to be whole in memory once its head was seen available, so what was seen is copied
 * once more. Of N entries, with E descriptors found and D from the first used descriptor that is given back to the last, level copy
 * moves for a kick
 *
 *	length, id, flags of the next head	8	H_READ_RDMA: is it available?
 *	descriptor ring				16N	H_COPY_RDMA
 *	what was found available there		16E	again, if it is more than one chain
 *	used descriptors but the first		16(D-1)	H_COPY_RDMA, if there are more than one
 *	length, id, flags of the first		8	H_WRITE_RDMA, last: it publishes the others
 *
 * in all 16N + 16E + 16D bytes; 16N + 16 for a lone chain. Level copy-delta fetches four descriptors by registers in place of the
 * ring, and when these are all available up to FAR of them. Copies wrap: two calls.
 */
#include <stdlib.h>

#include "server/core/rdma.h"
#include "server/ring/packed.h"
#include "server/ring/shadow.h"

#define NEAR 4u /* descriptors in one H_READ_RDMA */
#define FAR                                                                                        \
	64u /* some twenty usual chains; what is longer than that is fetched with the whole ring */

struct packed_shadow {
	struct ioba ring_at;
	uint16_t copied; /* descriptors before this index are in the shadow, and stable */
	uint16_t whole;  /* where the last fetch began: the chain there was seen before it */
	bool seen;       /* arm has just seen the next head available */
	bool full;       /* the last fetch ended in the middle: what is behind it is not known */
};

static struct ioba packed_copy_place(const struct vio_squeue *q, uint16_t idx)
{
	return ioba_add(q->place.desc, 16ull * (idx & (q->size - 1)));
}

/* `n` (<= size) descriptors from `idx` on into the shadow (in) or back. False with the queue's fault set. */
static bool packed_copy_span(struct vio_squeue *q, uint16_t idx, unsigned n, bool in)
{
	const struct packed_shadow *s = q->ring_priv;

	while (n > 0) {
		unsigned slot = idx & (q->size - 1u), left = q->size - slot,
			 part = n < left ? n : left;
		struct ioba at = packed_copy_place(q, idx);
		uint8_t why;

		if (in && part <= NEAR) {
			uint64_t buf[PHYP_REGS];

			static_assert(NEAR * sizeof(struct vio_packed_desc) <= H_READ_RDMA_MAX,
				      "they fit the registers");
			why = vio_rdma_read(q, at, part * 16u, buf);
			memcpy(packed_at(q, idx), buf, part * 16u);
		} else {
			why = vio_rdma_copy(q, at, ioba_add(s->ring_at, 16ull * slot), 16ull * part,
					    in);
		}
		if (why != VIO_ST_OK) {
			vio_shadow_fault(q, why, at);
			return false;
		}
		idx = (uint16_t)(idx + part);
		n -= part;
	}
	return true;
}

/* Is the next chain's head available in the guest's ring? */
static bool packed_copy_look(struct vio_squeue *q)
{
	struct packed_shadow *s = q->ring_priv;
	struct ioba at = ioba_add(packed_copy_place(q, q->last_avail),
				  offsetof(struct vio_packed_desc, tail));
	uint64_t buf[PHYP_REGS];
	uint8_t why;

	if (s->seen) {
		s->seen = false;
		return true;
	}
	why = vio_rdma_read(q, at, 8, buf);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, at);
		return false;
	}
	vio_fence_acquire(); /* pair D, for A: the head before what it covers, which later calls copy */
	return vio_packed_is_avail(buf[0], q->last_avail, q->size);
}

/* How many of the next `n` descriptors are available in the shadow. */
static unsigned packed_copy_extent(const struct vio_squeue *q, unsigned n)
{
	unsigned e = 0;

	while (e < n && packed_there(q, (uint16_t)(q->last_avail + e)))
		e++;
	return e;
}

/* Descriptors of the first chain, of which `n` are available in the shadow; more than n: it is not whole. */
static unsigned packed_copy_first(const struct vio_squeue *q, unsigned n)
{
	unsigned k = 0;

	while (k < n && vio_packed_flags(packed_at(q, (uint16_t)(q->last_avail + k))->tail) &
				VRING_DESC_F_NEXT)
		k++;
	return k + 1;
}

/*
 * Descriptors that are in the shadow and were not taken; fetched when there are none. first: how many to fetch at first, and then, if
 * all of them are available, up to `most`.
 */
static unsigned packed_copy_pull(struct vio_squeue *q, unsigned first, unsigned most)
{
	struct packed_shadow *s = q->ring_priv;
	unsigned n = (uint16_t)(s->copied - q->last_avail);

	if (n > 0)
		return n;
	if (!packed_copy_look(q) || !packed_copy_span(q, q->last_avail, first, true))
		return 0;
	n = packed_copy_extent(q, first);
	if (n == first && first < most) {
		if (!packed_copy_span(q, q->last_avail, most, true))
			return 0;
		n = packed_copy_extent(q, most);
	}
	if (n == most && most < q->size && packed_copy_first(q, n) > n) {
		if (!packed_copy_span(q, q->last_avail, most = q->size, true))
			return 0;
		n = packed_copy_extent(q, most);
	}
	vio_fence_acquire(); /* pair D, for A: as above, for the heads that this copy has seen */
	if (packed_copy_first(q, n) != n && !packed_copy_span(q, q->last_avail, n, true))
		return 0;
	s->copied = (uint16_t)(q->last_avail + n);
	s->whole = q->last_avail;
	s->full = n == most && most < q->size;
	return n;
}

/* After a pop of `n`. What the shadow has and could not be taken, as it was not whole yet, is fetched anew by the next look. */
static unsigned packed_copy_left(struct vio_squeue *q, unsigned n, unsigned max, bool rest)
{
	struct packed_shadow *s = q->ring_priv;

	q->more = s->copied != q->last_avail || s->full;
	if (n < max && !rest) {
		s->copied = q->last_avail;
		s->full = false;
	}
	return n;
}

static unsigned packed_copy_whole(struct vio_squeue *q)
{
	return packed_copy_pull(q, q->size, q->size);
}

static unsigned packed_copy_new(struct vio_squeue *q)
{
	return packed_copy_pull(q, q->size < NEAR ? q->size : NEAR, q->size < FAR ? q->size : FAR);
}

static unsigned packed_copy_take(struct vio_squeue *q, struct vio_req *out[], unsigned max,
				 unsigned limit)
{
	return packed_copy_left(q,
				limit ? packed_pop(q, out, max, limit,
						   &((struct packed_shadow *)q->ring_priv)->whole)
				      : 0,
				max, false);
}

static unsigned packed_copy_take_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
				       unsigned limit, bool *rest)
{
	*rest = false;
	return packed_copy_left(q, limit ? packed_pop_plain(q, out, max, limit, rest) : 0, max,
				*rest);
}

static unsigned packed_copy_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	return packed_copy_take(q, out, max, packed_copy_whole(q));
}
static unsigned packed_copy_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
				      bool *rest)
{
	return packed_copy_take_plain(q, out, max, packed_copy_whole(q), rest);
}
static unsigned packed_delta_pop(struct vio_squeue *q, struct vio_req *out[], unsigned max)
{
	return packed_copy_take(q, out, max, packed_copy_new(q));
}
static unsigned packed_delta_pop_plain(struct vio_squeue *q, struct vio_plain out[], unsigned max,
				       bool *rest)
{
	return packed_copy_take_plain(q, out, max, packed_copy_new(q), rest);
}

/* Used descriptors are in the shadow, but for the first: they go back, then the first. Does the guest want to be told? */
static bool packed_copy_publish(struct vio_squeue *q, const struct packed_given *g)
{
	const struct ioba first =
		ioba_add(packed_copy_place(q, g->from), offsetof(struct vio_packed_desc, tail));
	uint64_t buf[PHYP_REGS];
	uint32_t wish;
	uint8_t why;

	if (g->n == 0)
		return false;
	if (g->n > 1) {
		uint16_t next = (uint16_t)(g->from + 1);

		if (!packed_copy_span(q, next, (uint16_t)(g->last - g->from), false))
			return false;
	}
	vio_store_relaxed(&packed_at(q, g->from)->tail, g->tail);
	vio_fence_release(); /* pair D, for B: the others, written by earlier calls, before the first */
	why = vio_rdma_write(q, first, 8, &g->tail);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, first);
		return false;
	}
	if (vio_notify_row(&q->notify)->always)
		return true; /* the guest is always told: its wish is not worth a call */
	vio_fence_full();    /* pair N: the ring before the load of the guest's wish */
	why = vio_rdma_read(q, q->place.avail, 4, buf);
	if (why != VIO_ST_OK) {
		vio_shadow_fault(q, why, q->place.avail);
		return false;
	}
	memcpy(&wish, buf, sizeof(wish));
	return vio_packed_wants(wish, q->used_idx, g->from, q->size, q->event_idx);
}

static bool packed_copy_push(struct vio_squeue *q, struct vio_req *const r[], unsigned n)
{
	const struct packed_given g = packed_push(q, r, n);

	return packed_copy_publish(q, &g);
}

static bool packed_copy_push_plain(struct vio_squeue *q, const struct vio_plain v[],
				   const uint32_t used_len[], unsigned n)
{
	const struct packed_given g = packed_push_plain(q, v, used_len, n);

	return packed_copy_publish(q, &g);
}

static bool packed_copy_wish(struct vio_squeue *q, uint32_t word)
{
	uint8_t why = vio_rdma_write(q, q->place.used, 4, &word);

	if (why != VIO_ST_OK)
		vio_shadow_fault(q, why, q->place.used);
	return why == VIO_ST_OK;
}

static bool packed_copy_arm(struct vio_squeue *q)
{
	struct packed_shadow *s = q->ring_priv;

	if (!packed_copy_wish(q, q->event_idx ? vio_packed_ask_at(q->last_avail, q->size)
					      : vio_packed_ask()))
		return false;
	vio_fence_full(); /* pair N: our wish before the load of the ring */
	s->seen = packed_copy_look(q);
	return s->seen;
}

static void packed_copy_park(struct vio_squeue *q)
{
	packed_copy_wish(q, vio_packed_silence());
	q->parked_at = q->last_avail;
	q->notify.ask = VIO_ASK_PARKED;
}

static void packed_copy_detach(struct vio_squeue *q)
{
	free(q->ring_priv);
	q->ring_priv = NULL;
	vio_heads_free(q);
	q->desc = NULL;
}

static int packed_copy_attach(struct vio_squeue *q, struct vio_err *err)
{
	struct packed_shadow *s;

	if (q->place.desc.v % 16 || q->place.avail.v % 4 || q->place.used.v % 4) {
		vio_sq_fault(q, VIO_ST_QUEUE, q->place.desc.v);
		return vio_err_set(
			err, -EFAULT,
			"queue %u: its ring is not aligned as VIRTIO 1.2 section 2.8 wants",
			q->index);
	}
	q->ring_priv = s = calloc(1, sizeof(*s));
	if (vio_heads_new(q, err)) {
		packed_copy_detach(q);
		return -ENOMEM;
	}
	q->desc = s ? vio_sq_carve(q, 16ull * q->size, VIO_CACHE_LINE, &s->ring_at) : NULL;
	if (!q->desc) {
		packed_copy_detach(q);
		return vio_err_set(
			err, -ENOMEM,
			"queue %u: its shadow ring needs %llu bytes of server memory, %llu are there",
			q->index, 16ull * q->size, (unsigned long long)q->local_len);
	}
	s->copied = q->last_avail;
	if (q->notify.looks) {
		packed_copy_park(q);
		if (q->fault != VIO_ST_OK) {
			packed_copy_detach(q);
			return vio_err_set(
				err, -EFAULT,
				"queue %u: its event suppression at 0x%llx can't be written",
				q->index, (unsigned long long)q->place.used.v);
		}
	}
	return 0;
}

#define PACKED_COPY_OPS(pop_fn, pop_plain_fn)                                                      \
	.attach = packed_copy_attach, .detach = packed_copy_detach, .pop = pop_fn,                 \
	.pop_plain = pop_plain_fn, .push_plain = packed_copy_push_plain, .push = packed_copy_push, \
	.arm = packed_copy_arm, .park = packed_copy_park

const struct vio_ring_ops vio_ring_packed_copy = {
	.name = "copy, packed", PACKED_COPY_OPS(packed_copy_pop, packed_copy_pop_plain)};
const struct vio_ring_ops vio_ring_packed_copy_delta = {
	.name = "copy-delta, packed", PACKED_COPY_OPS(packed_delta_pop, packed_delta_pop_plain)};
