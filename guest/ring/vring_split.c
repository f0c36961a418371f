/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a split virtqueue (VIRTIO 1.2, section 2.7).
 *
 * What costs here is the transfer of cache lines between two cores, so the driver keeps a private
 * copy of everything that it has written (indices, descriptors, available entries) and stores only
 * what differs. A request that looks like the one that last used its group (same header, buffer and
 * status: the rule with a pool) then leaves the descriptor line and the available ring's line where
 * the device already has them, and one line less moves for each. Nothing that the driver wrote is
 * ever read back from shared memory.
 */
#include "guest/ring/vring_order.h"
#include "vio/notify.h"

#include <string.h>

static inline void desc_put(struct vio_vring *vr, unsigned i, uint64_t addr, uint64_t tail)
{
	struct desc_words *s = &vr->shadow[i];

	addr = vio_le64(addr);
	if (s->w[0] != addr) {
		s->w[0] = addr;
		desc_store(&vr->desc[i], 0, addr);
	}
	if (s->w[1] != tail) {
		s->w[1] = tail;
		desc_store(&vr->desc[i], 1, tail);
	}
}
static void split_vring_start(struct vio_vring *vr)
{
	memset(vr->avail, 0, vio_vring_avail_bytes(vr->size));
	memset(vr->used, 0, vio_vring_used_bytes(vr->size));
	vr->avail_event = (uint16_t *)(void *)&vr->used->ring[vr->size];
	vr->used_event = &vr->avail->ring[vr->size];
}

/* Segments that fit a group: written over its own descriptors, whose order never changes. */
static inline void put_short(struct vio_vring *vr, unsigned first, const struct vio_dma_seg *seg,
			     unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		desc_put(vr, first + i, seg[i].at.v,
			 tail_word(seg[i].len, seg_flags(&seg[i], i + 1 == n),
				   (uint16_t)(first + i + 1)));
}

/* A chain over several groups; takes those after the first. */
static void put_long(struct vio_vring *vr, uint16_t head, const struct vio_dma_seg *seg, unsigned n)
{
	const unsigned last = (1u << vr->shift) - 1;
	uint16_t g = head, next;
	unsigned at;

	for (unsigned i = 0; i < n; i++) {
		at = (unsigned)(g << vr->shift) + (i & last);
		next = (uint16_t)(at + 1);
		if ((i & last) == last && i + 1 < n) {
			vr->group[g].next = group_get(vr);
			g = vr->group[g].next;
			next = (uint16_t)(g << vr->shift);
		}
		desc_put(vr, at, seg[i].at.v,
			 tail_word(seg[i].len, seg_flags(&seg[i], i + 1 == n), next));
	}
}

/* Table g, by descriptor `at`. */
static void put_indirect(struct vio_vring *vr, uint16_t g, unsigned at,
			 const struct vio_dma_seg *seg, unsigned n)
{
	const size_t first = (size_t)g * VIO_DMA_MAX_SEG;
	struct vring_desc *t = &vr->tables[first];

	for (unsigned i = 0; i < n; i++) {
		desc_store(&t[i], 0, vio_le64(seg[i].at.v));
		desc_store(
			&t[i], 1,
			tail_word(seg[i].len, seg_flags(&seg[i], i + 1 == n), (uint16_t)(i + 1)));
	}
	desc_put(vr, at, vr->tables_at.v + first * sizeof(t[0]),
		 tail_word((uint32_t)(n * sizeof(t[0])), VRING_DESC_F_INDIRECT, 0));
}

/* Groups that a chain of n takes. */
static inline unsigned groups_of(const struct vio_vring *vr, unsigned n)
{
	const unsigned last = (1u << vr->shift) - 1;

	return n <= last + 1 || vr->indirect ? 1 : (n + last) >> vr->shift;
}

static int split_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n,
			   void *token)
{
	const unsigned groups = groups_of(vr, n), slot = vr->avail_idx & vr->mask;
	struct group *gr;
	uint16_t g, head;

	if (vio_unlikely(n == 0 || n > VIO_DMA_MAX_SEG || !token))
		return -EINVAL;
	if (groups > vr->n_free)
		return -ENOSPC;
	g = group_get(vr);
	head = (uint16_t)(g << vr->shift);
	gr = &vr->group[g];
	gr->token = token;
	gr->n_groups = (uint16_t)groups;
	if (vio_likely(n <= 1u << vr->shift))
		put_short(vr, head, seg, n);
	else if (vr->indirect)
		put_indirect(vr, g, head, seg, n);
	else
		put_long(vr, g, seg, n);
	if (vr->avail_shadow[slot] != head) {
		vr->avail_shadow[slot] = head;
		vio_store_relaxed(&vr->avail->ring[slot], vio_le16(head));
	}
	vr->avail_idx++;
	return 0;
}

static void split_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[], unsigned n,
				 bool dev_writes)
{
	const uint16_t flags = dev_writes ? VRING_DESC_F_WRITE : 0;
	uint16_t avail = vr->avail_idx;

	for (unsigned i = 0; i < n; i++) {
		const unsigned slot = avail++ & vr->mask;
		const uint16_t g = group_get(vr), head = (uint16_t)(g << vr->shift);

		vr->group[g].token = one[i].token;
		vr->group[g].n_groups = 1;
		desc_put(vr, head, one[i].at.v, tail_word(one[i].len, flags, (uint16_t)(head + 1)));
		if (vr->avail_shadow[slot] != head) {
			vr->avail_shadow[slot] = head;
			vio_store_relaxed(&vr->avail->ring[slot], vio_le16(head));
		}
	}
	vr->avail_idx = avail;
}

static bool split_vring_publish(struct vio_vring *vr)
{
	const uint16_t old = vr->published;

	if (vr->avail_idx == old)
		return false;
	vr->published = vr->avail_idx;
	return vio_publish_and_check(&vr->avail->idx, vr->published, old, vr->avail_event,
				     &vr->used->flags, VRING_USED_F_NO_NOTIFY,
				     vr->event_idx); /* pairs A, N */
}

static bool split_vring_publish_always(struct vio_vring *vr)
{
	if (vr->avail_idx == vr->published)
		return false;
	vr->published = vr->avail_idx;
	vio_store_release(&vr->avail->idx, vio_le16(vr->published)); /* pair A */
	return true;
}

/* Was this head added but not made available yet? Then the device can't know it. */
static bool unpublished(const struct vio_vring *vr, uint16_t head)
{
	for (uint16_t i = vr->published; i != vr->avail_idx; i++)
		if (vr->avail_shadow[i & vr->mask] == head)
			return true;
	return false;
}

/*
 * The chain's groups go back so that the next chain of this length gets them in the same order,
 * links and all.
 */
static inline void split_vring_release(struct vio_vring *vr, uint16_t g)
{
	const unsigned n = vr->group[g].n_groups, top = vr->n_free;

	vr->group[g].token = NULL;
	if (vio_likely(n == 1)) {
		group_put(vr, g);
		return;
	}
	if (!vr->shift) {
		for (unsigned i = 0; i < n; i++, g = vr->group[g].next)
			group_put(vr, g);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		vr->free[top + n - 1 - i] = g;
		g = vr->group[g].next;
	}
	vr->n_free = (uint16_t)(top + n);
}

static void split_vring_park_now(struct vio_vring *vr)
{
	vio_park(vr->event_idx ? vr->used_event : NULL, &vr->avail->flags,
		 VRING_AVAIL_F_NO_INTERRUPT, vr->last_used);
	vr->parked = true;
	vr->parked_at = vr->last_used;
}

static void split_vring_park(struct vio_vring *vr)
{
	if (!vr->parked ||
	    (vr->event_idx && (uint16_t)(vr->last_used - vr->parked_at) >= VIO_EVENT_REPARK))
		split_vring_park_now(vr);
}

static int split_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	const uint16_t idx = vio_le16(vio_load_acquire(&vr->used->idx)); /* pair B */
	const uint16_t fresh = (uint16_t)(idx - vr->last_used);
	const unsigned n = fresh < max ? fresh : max;
	unsigned i;

	if (vio_unlikely(vr->broken))
		return -EPROTO;
	if (n == 0)
		return 0;
	if (vio_unlikely(fresh > (uint16_t)(vr->published - vr->last_used)))
		return vring_give_up(vr);
	/*
	 * A burst's elements lie in one to a few lines, all of them in the device's cache: ask for
	 * all at once.
	 */
	for (i = 8; i < n + 7; i += 8)
		__builtin_prefetch(&vr->used->ring[(vr->last_used + i) & vr->mask], 0);
	for (i = 0; i < n; i++) {
		const struct vring_used_elem *e = &vr->used->ring[vr->last_used & vr->mask];
		const uint32_t id = vio_le32(vio_load_relaxed(&e->id));
		const uint16_t g = (uint16_t)(id >> vr->shift);

		if (vio_unlikely(id >= vr->size || (id & ((1u << vr->shift) - 1)) != 0 ||
				 !vr->group[g].token))
			break;
		if (vio_unlikely(vr->published != vr->avail_idx) && unpublished(vr, (uint16_t)id))
			break;
		out[i].token = vr->group[g].token;
		out[i].len = vio_le32(vio_load_relaxed(&e->len));
		split_vring_release(vr, g);
		vr->last_used++;
	}
	if (vio_unlikely(i < n)) {
		int rc = vring_give_up(vr);

		return i > 0 ? (int)i
			     : rc; /* what came before the lie was right; the next call says it */
	}
	if (vr->parked)
		split_vring_park(vr);
	return (int)n;
}

static bool split_vring_arm(struct vio_vring *vr)
{
	if (vr->broken)
		return true;
	vr->parked = false;
	return vio_arm_and_recheck(vr->event_idx ? vr->used_event : NULL, &vr->avail->flags,
				   VRING_AVAIL_F_NO_INTERRUPT, &vr->used->idx,
				   vr->last_used); /* pairs N, B */
}

static bool split_vring_has_used(const struct vio_vring *vr)
{
	return vio_le16(vio_load_relaxed(&vr->used->idx)) != vr->last_used || vr->broken;
}

static unsigned split_vring_outstanding(const struct vio_vring *vr)
{
	return (uint16_t)(vr->avail_idx - vr->last_used);
}

static unsigned split_vring_room(const struct vio_vring *vr, unsigned n_seg)
{
	return vr->n_free / groups_of(vr, n_seg);
}

const struct vring_layout vring_split = {
	.start = split_vring_start,
	.add = split_vring_add,
	.add_ones = split_vring_add_ones,
	.publish = split_vring_publish,
	.publish_always = split_vring_publish_always,
	.take = split_vring_take,
	.arm = split_vring_arm,
	.park = split_vring_park,
	.has_used = split_vring_has_used,
	.outstanding = split_vring_outstanding,
	.room = split_vring_room,
};

/* ---- in order ---- */

/*
 * The next chain's descriptors, in the order of the table and around its end (VIRTIO 1.2, 2.7.5.2). A chain of three then often lies in
 * two lines; of a burst of them fewer lines move in all.
 */
static void split_in_order_put(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n)
{
	const uint16_t head = vr->next_desc;

	for (unsigned i = 0; i < n; i++) {
		const unsigned at = (head + i) & vr->mask;

		desc_put(vr, at, seg[i].at.v,
			 tail_word(seg[i].len, seg_flags(&seg[i], i + 1 == n),
				   (uint16_t)((at + 1) & vr->mask)));
	}
}

/* It is in the table: make it the next entry. */
static inline void split_in_order_enter(struct vio_vring *vr, uint16_t head, unsigned descs,
					uint32_t may, void *token)
{
	const unsigned slot = vr->avail_idx & vr->mask;

	order_add(vr, head, descs, may, token);
	vr->next_desc = (uint16_t)((head + descs) & vr->mask);
	vr->n_desc = (uint16_t)(vr->n_desc - descs);
	if (vr->avail_shadow[slot] != head) {
		vr->avail_shadow[slot] = head;
		vio_store_relaxed(&vr->avail->ring[slot], vio_le16(head));
	}
	vr->avail_idx++;
}

static unsigned split_in_order_room(const struct vio_vring *vr, unsigned n_seg)
{
	return order_room(vr, n_seg, vr->n_desc);
}

static int split_in_order_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n,
			      void *token)
{
	const bool table = order_by_table(vr, n);
	const uint16_t head = vr->next_desc;

	if (vio_unlikely(n == 0 || n > VIO_DMA_MAX_SEG || !token))
		return -EINVAL;
	if (split_in_order_room(vr, n) == 0)
		return -ENOSPC;
	if (vio_unlikely(table))
		put_indirect(vr, order_next(vr), head, seg, n);
	else
		split_in_order_put(vr, seg, n);
	split_in_order_enter(vr, head, table ? 1 : n, order_may(seg, n), token);
	return 0;
}

static void split_in_order_add_ones(struct vio_vring *vr, const struct vio_vring_one one[],
				    unsigned n, bool dev_writes)
{
	const uint16_t flags = dev_writes ? VRING_DESC_F_WRITE : 0;

	for (unsigned i = 0; i < n; i++) {
		const uint16_t head = vr->next_desc;

		desc_put(vr, head, one[i].at.v,
			 tail_word(one[i].len, flags, (uint16_t)((head + 1) & vr->mask)));
		split_in_order_enter(vr, head, 1, dev_writes ? one[i].len : 0, one[i].token);
	}
}

/*
 * The next used element, of `fresh` entries that the device says it filled: up to which chain? Its head is not looked up but met: each
 * chain on the way to it is about to be taken. 0, or -EPROTO.
 */
static int split_in_order_batch(struct vio_vring *vr, uint16_t fresh)
{
	const struct vring_used_elem *e = &vr->used->ring[vr->last_used & vr->mask];
	const uint32_t id = vio_le32(vio_load_relaxed(&e->id));
	unsigned n = 0;

	if (vio_unlikely(fresh > (uint16_t)(vr->published - vr->last_used)))
		return -EPROTO;
	while (vr->group[(vr->first + n++) & order_mask(vr)].next != id)
		if (vio_unlikely(n == fresh))
			return -EPROTO;
	vr->ready = (uint16_t)n;
	vr->ready_len = vio_le32(vio_load_relaxed(&e->len));
	vr->last_used = (uint16_t)(vr->last_used + n);
	return 0;
}

static int split_in_order_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	const uint16_t idx = vio_le16(vio_load_acquire(&vr->used->idx)); /* pair B */
	unsigned n = 0;

	if (vio_unlikely(vr->broken))
		return -EPROTO;
	for (; n < max; n++) {
		if (vr->ready == 0) {
			const uint16_t fresh = (uint16_t)(idx - vr->last_used);

			if (fresh == 0)
				break;
			if (vio_unlikely(split_in_order_batch(vr, fresh))) {
				int rc = vring_give_up(vr);

				return n > 0 ? (int)n : rc; /* what came before the lie was right */
			}
		}
		vr->n_desc = (uint16_t)(vr->n_desc + order_take(vr, &out[n]));
	}
	if (n > 0 && vr->parked)
		split_vring_park(vr);
	return (int)n;
}

static bool split_in_order_has_used(const struct vio_vring *vr)
{
	return vr->ready || split_vring_has_used(vr);
}

static bool split_in_order_arm(struct vio_vring *vr)
{
	return split_vring_arm(vr) || vr->ready;
}

static unsigned split_in_order_outstanding(const struct vio_vring *vr)
{
	return vr->n_chains;
}

const struct vring_layout vring_split_in_order = {
	.start = split_vring_start,
	.add = split_in_order_add,
	.add_ones = split_in_order_add_ones,
	.publish = split_vring_publish,
	.publish_always = split_vring_publish_always,
	.take = split_in_order_take,
	.arm = split_in_order_arm,
	.park = split_vring_park,
	.has_used = split_in_order_has_used,
	.outstanding = split_in_order_outstanding,
	.room = split_in_order_room,
};
