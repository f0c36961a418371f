/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a packed virtqueue (VIRTIO 1.2, section 2.8). The device looks at the ring in order, so of all chains that are added
 * between two publishes only the first is held back: its head is stored last, and makes the others visible too. A chain of up to
 * LINE_DESCS descriptors mostly lies in one line, and comes back by a store into its first descriptor.
 */
#include "guest/ring/vring_order.h"
#include "vq/packed.h"

#include <string.h>

static void packed_vring_start(struct vio_vring *vr)
{
	memset(vr->avail, 0, sizeof(uint32_t));
	memset(vr->used, 0, sizeof(uint32_t));
}

static inline struct vio_packed_desc *packed_vring_at(const struct vio_vring *vr, uint16_t idx)
{
	return (struct vio_packed_desc *)(void *)vr->desc + (idx & vr->mask);
}

static inline unsigned packed_vring_left(const struct vio_vring *vr)
{
	return (unsigned)vr->size - (uint16_t)(vr->avail_idx - vr->last_used);
}

/* Through a table: what does not fit a group, as with the other layout. */
static inline bool packed_vring_by_table(const struct vio_vring *vr, unsigned n)
{
	return vr->indirect && n > 1u << vr->shift;
}

/* The next descriptor. */
static inline void packed_vring_put(struct vio_vring *vr, uint64_t addr, uint32_t len, uint16_t id,
				    uint16_t flags)
{
	const uint16_t idx = vr->avail_idx++;
	struct vio_packed_desc *d = packed_vring_at(vr, idx);
	const uint64_t tail =
		vio_packed_tail(len, id, (uint16_t)(flags | vio_packed_avail_bits(idx, vr->size)));

	vio_store_relaxed(&d->addr, vio_le64(addr));
	if (idx == vr->published)
		vr->first_tail = tail;
	else
		vio_store_relaxed(&d->tail, tail);
}

static void packed_vring_put_table(struct vio_vring *vr, uint16_t id, const struct vio_dma_seg *seg,
				   unsigned n)
{
	const size_t first = (size_t)id * VIO_DMA_MAX_SEG;
	struct vio_packed_desc *t = (struct vio_packed_desc *)(void *)&vr->tables[first];

	for (unsigned i = 0; i < n; i++) {
		vio_store_relaxed(&t[i].addr, vio_le64(seg[i].at.v));
		vio_store_relaxed(
			&t[i].tail,
			vio_packed_tail(seg[i].len, 0, seg[i].dev_writes ? VRING_DESC_F_WRITE : 0));
	}
	packed_vring_put(vr, vr->tables_at.v + first * sizeof(t[0]), (uint32_t)(n * sizeof(t[0])),
			 id, VRING_DESC_F_INDIRECT);
}

/* A chain's descriptors, or the one that has its table. */
static inline void packed_vring_put_chain(struct vio_vring *vr, uint16_t id, bool table,
					  const struct vio_dma_seg *seg, unsigned n)
{
	if (vio_unlikely(table)) {
		packed_vring_put_table(vr, id, seg, n);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		packed_vring_put(vr, seg[i].at.v, seg[i].len, id, seg_flags(&seg[i], i + 1 == n));
}

static int packed_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n,
			    void *token)
{
	const bool table = packed_vring_by_table(vr, n);
	const unsigned descs = table ? 1 : n;
	struct group *gr;
	uint16_t id;

	if (vio_unlikely(n == 0 || n > VIO_DMA_MAX_SEG || !token))
		return -EINVAL;
	if (vr->n_free == 0 || descs > packed_vring_left(vr))
		return -ENOSPC;
	id = group_get(vr);
	gr = &vr->group[id];
	gr->token = token;
	gr->n_groups = (uint16_t)descs;
	gr->next = vr->avail_idx;
	vr->n_chains++;
	packed_vring_put_chain(vr, id, table, seg, n);
	return 0;
}

static void packed_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[],
				  unsigned n, bool dev_writes)
{
	const uint16_t flags = dev_writes ? VRING_DESC_F_WRITE : 0;

	for (unsigned i = 0; i < n; i++) {
		const uint16_t id = group_get(vr);
		struct group *gr = &vr->group[id];

		gr->token = one[i].token;
		gr->n_groups = 1;
		gr->next = vr->avail_idx;
		packed_vring_put(vr, one[i].at.v, one[i].len, id, flags);
	}
	vr->n_chains = (uint16_t)(vr->n_chains + n);
}

static bool packed_vring_publish_always(struct vio_vring *vr)
{
	if (vr->avail_idx == vr->published)
		return false;
	vio_store_release(&packed_vring_at(vr, vr->published)->tail, vr->first_tail); /* pair A */
	vr->published = vr->avail_idx;
	return true;
}

static bool packed_vring_publish(struct vio_vring *vr)
{
	const uint16_t old = vr->published;

	if (!packed_vring_publish_always(vr))
		return false;
	vio_fence_full(); /* pair N: the ring before the load of the device's wish */
	return vio_packed_wants(vio_load_relaxed((const uint32_t *)(const void *)vr->used),
				vr->published, old, vr->size, vr->event_idx);
}

static inline uint64_t packed_vring_next(const struct vio_vring *vr)
{
	return vio_load_acquire(&packed_vring_at(vr, vr->last_used)->tail); /* pair B */
}

static int packed_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	unsigned n = 0;

	if (vio_unlikely(vr->broken))
		return -EPROTO;
	for (; n < max; n++) {
		const uint64_t tail = packed_vring_next(vr);
		const uint16_t id = vio_packed_id(tail);
		struct group *gr;

		if (!vio_packed_is_used(tail, vr->last_used, vr->size))
			break;
		gr = &vr->group[id];
		/* Known, outstanding, and not one that was added since the last publish. */
		if (vio_unlikely(id >= vr->size >> vr->shift || !gr->token ||
				 (uint16_t)(gr->next - vr->published) <
					 (uint16_t)(vr->avail_idx - vr->published))) {
			int rc = vring_give_up(vr);

			return n > 0 ? (int)n : rc; /* what came before the lie was right */
		}
		out[n].token = gr->token;
		out[n].len = vio_packed_len(tail);
		gr->token = NULL;
		vr->last_used = (uint16_t)(vr->last_used + gr->n_groups);
		group_put(vr, id);
	}
	vr->n_chains = (uint16_t)(vr->n_chains - n);
	return (int)n;
}

static bool packed_vring_arm(struct vio_vring *vr)
{
	if (vr->broken)
		return true;
	vr->parked = false;
	vio_store_relaxed((uint32_t *)(void *)vr->avail,
			  vr->event_idx ? vio_packed_ask_at(vr->last_used, vr->size)
					: vio_packed_ask());
	vio_fence_full(); /* pair N: our wish before the load of the ring */
	return vio_packed_is_used(packed_vring_next(vr), vr->last_used, vr->size);
}

static void packed_vring_park(struct vio_vring *vr)
{
	if (vr->parked)
		return;
	vio_store_relaxed((uint32_t *)(void *)vr->avail, vio_packed_silence());
	vr->parked = true;
}

static bool packed_vring_has_used(const struct vio_vring *vr)
{
	return vr->broken || vio_packed_is_used(packed_vring_next(vr), vr->last_used, vr->size);
}

static unsigned packed_vring_room(const struct vio_vring *vr, unsigned n_seg)
{
	const unsigned fit = packed_vring_left(vr) / (packed_vring_by_table(vr, n_seg) ? 1 : n_seg);

	return fit < vr->n_free ? fit : vr->n_free;
}

static unsigned packed_vring_outstanding(const struct vio_vring *vr)
{
	return vr->n_chains;
}

const struct vring_layout vring_packed = {
	.desc_written = true,
	.start = packed_vring_start,
	.add = packed_vring_add,
	.add_ones = packed_vring_add_ones,
	.publish = packed_vring_publish,
	.publish_always = packed_vring_publish_always,
	.take = packed_vring_take,
	.arm = packed_vring_arm,
	.park = packed_vring_park,
	.has_used = packed_vring_has_used,
	.outstanding = packed_vring_outstanding,
	.room = packed_vring_room,
};

/* ---- in order ---- */

static unsigned packed_in_order_room(const struct vio_vring *vr, unsigned n_seg)
{
	return order_room(vr, n_seg, packed_vring_left(vr));
}

/* Its id is its place in the circle, so that an id says how far the device has come. */
static int packed_in_order_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n,
			       void *token)
{
	const bool table = order_by_table(vr, n);
	const uint16_t id = order_next(vr), at = vr->avail_idx;

	if (vio_unlikely(n == 0 || n > VIO_DMA_MAX_SEG || !token))
		return -EINVAL;
	if (packed_in_order_room(vr, n) == 0)
		return -ENOSPC;
	packed_vring_put_chain(vr, id, table, seg, n);
	order_add(vr, at, table ? 1 : n, order_may(seg, n), token);
	return 0;
}

static void packed_in_order_add_ones(struct vio_vring *vr, const struct vio_vring_one one[],
				     unsigned n, bool dev_writes)
{
	const uint16_t flags = dev_writes ? VRING_DESC_F_WRITE : 0;

	for (unsigned i = 0; i < n; i++) {
		const uint16_t at = vr->avail_idx;

		packed_vring_put(vr, one[i].at.v, one[i].len, order_next(vr), flags);
		order_add(vr, at, 1, dev_writes ? one[i].len : 0, one[i].token);
	}
}

/* The next used descriptor: up to which chain? False: there is none. *lie: it can't be. */
static bool packed_in_order_batch(struct vio_vring *vr, bool *lie)
{
	const uint64_t tail = packed_vring_next(vr);
	const unsigned id = vio_packed_id(tail), n = ((id - vr->first) & order_mask(vr)) + 1;
	const struct group *gr;

	if (!vio_packed_is_used(tail, vr->last_used, vr->size))
		return false;
	gr = &vr->group[id & order_mask(vr)];
	/* Known, outstanding, and not one that was added since the last publish. */
	if (vio_unlikely(id > order_mask(vr) || n > vr->n_chains ||
			 (uint16_t)(gr->next - vr->published) <
				 (uint16_t)(vr->avail_idx - vr->published))) {
		*lie = true;
		return false;
	}
	vr->ready = (uint16_t)n;
	vr->ready_len = vio_packed_len(tail);
	vr->last_used = (uint16_t)(gr->next + gr->n_groups);
	return true;
}

static int packed_in_order_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	bool lie = false;
	unsigned n = 0;

	if (vio_unlikely(vr->broken))
		return -EPROTO;
	while (n < max && (vr->ready || packed_in_order_batch(vr, &lie)))
		order_take(vr, &out[n++]);
	if (vio_unlikely(lie)) {
		int rc = vring_give_up(vr);

		return n > 0 ? (int)n : rc; /* what came before the lie was right */
	}
	return (int)n;
}

static bool packed_in_order_has_used(const struct vio_vring *vr)
{
	return vr->ready || packed_vring_has_used(vr);
}

static bool packed_in_order_arm(struct vio_vring *vr)
{
	return packed_vring_arm(vr) || vr->ready;
}

const struct vring_layout vring_packed_in_order = {
	.desc_written = true,
	.start = packed_vring_start,
	.add = packed_in_order_add,
	.add_ones = packed_in_order_add_ones,
	.publish = packed_vring_publish,
	.publish_always = packed_vring_publish_always,
	.take = packed_in_order_take,
	.arm = packed_in_order_arm,
	.park = packed_vring_park,
	.has_used = packed_in_order_has_used,
	.outstanding = packed_vring_outstanding,
	.room = packed_in_order_room,
};
