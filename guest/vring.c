/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a split virtqueue.
 *
 * What costs here is the transfer of cache lines between two cores, so the driver keeps a private
 * copy of everything that it has written (indices, descriptors, available entries) and stores only
 * what differs. A request that looks like the one that last used its group (same header, buffer and
 * status: the rule with a pool) then leaves the descriptor line and the available ring's line where
 * the device already has them, and one line less moves for each. Nothing that the driver wrote is
 * ever read back from shared memory.
 */
#include "guest/vring_priv.h"

#include <stdlib.h>
#include <string.h>

#include "vio/notify.h"

static void *lines(size_t n, size_t each)
{
	size_t bytes = VIO_ALIGN_UP(n * each, (size_t)VIO_CACHE_LINE);
	void *p = aligned_alloc(VIO_CACHE_LINE, bytes);

	if (p)
		memset(p, 0, bytes);
	return p;
}

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

/* Everything private and shared as it is before the first request. */
static void start(struct vio_vring *vr)
{
	const unsigned groups = (unsigned)vr->size >> vr->shift;

	memset(vr->desc, 0, vio_vring_desc_bytes(vr->size));
	memset(vr->avail, 0, vr->packed ? sizeof(uint32_t) : vio_vring_avail_bytes(vr->size));
	memset(vr->used, 0, vr->packed ? sizeof(uint32_t) : vio_vring_used_bytes(vr->size));
	memset(vr->shadow, 0, sizeof(vr->shadow[0]) * vr->size);
	memset(vr->avail_shadow, 0, sizeof(vr->avail_shadow[0]) * vr->size);
	memset(vr->group, 0, sizeof(vr->group[0]) * groups);
	for (unsigned g = 0; g < groups; g++)
		vr->free[g] = (uint16_t)(vr->shift ? groups - 1 - g : g); /* group 0 comes first */
	vr->n_free = (uint16_t)groups;
	vr->first_free = 0;
	vr->avail_idx = 0;
	vr->published = 0;
	vr->last_used = 0;
	vr->parked_at = 0;
	vr->parked = false;
	vr->broken = false;
	vr->n_chains = 0;
}

static int check(const struct vio_vring_cfg *cfg, struct vio_err *err)
{
	const uintptr_t mask = VIO_CACHE_LINE - 1;

	if (cfg->size < LINE_DESCS || cfg->size > 32768 || (cfg->size & (cfg->size - 1)) != 0)
		return vio_err_set(err, -EINVAL,
				   "queue size %u is not a power of two from 4 to 32768",
				   cfg->size);
	if (cfg->group != 0 && cfg->group != 1 && cfg->group != LINE_DESCS)
		return vio_err_set(err, -EINVAL, "groups of %u descriptors: 1 or %u", cfg->group,
				   LINE_DESCS);
	if (!cfg->desc || !cfg->avail || !cfg->used || ((uintptr_t)cfg->desc & mask) ||
	    ((uintptr_t)cfg->avail & mask) || ((uintptr_t)cfg->used & mask))
		return vio_err_set(err, -EINVAL,
				   "the rings' memory is missing or not aligned to %u bytes",
				   VIO_CACHE_LINE);
	if (cfg->indirect &&
	    (!cfg->tables || ((uintptr_t)cfg->tables & 15) || (cfg->tables_at.v & 15)))
		return vio_err_set(
			err, -EINVAL,
			"indirect descriptors: the tables are missing or not aligned to 16 bytes");
	return 0;
}

int vio_vring_new(const struct vio_vring_cfg *cfg, struct vio_vring **out, struct vio_err *err)
{
	struct vio_vring *vr;
	int rc = check(cfg, err);

	if (rc)
		return rc;
	vr = lines(1, sizeof(*vr));
	if (!vr)
		return vio_err_set(err, -ENOMEM, "no memory for a queue of %u", cfg->size);
	vr->size = cfg->size;
	vr->mask = (uint16_t)(cfg->size - 1);
	vr->shift = cfg->group == 1 ? 0 : 2;
	vr->event_idx = cfg->event_idx;
	vr->indirect = cfg->indirect;
	vr->packed = cfg->packed;
	vr->desc = cfg->desc;
	vr->avail = cfg->avail;
	vr->used = cfg->used;
	vr->tables = cfg->tables;
	vr->tables_at = cfg->tables_at;
	if (!vr->packed) {
		vr->avail_event = (uint16_t *)(void *)&cfg->used->ring[cfg->size];
		vr->used_event = &cfg->avail->ring[cfg->size];
	}
	vr->shadow = lines(cfg->size, sizeof(vr->shadow[0]));
	vr->avail_shadow = lines(cfg->size, sizeof(vr->avail_shadow[0]));
	vr->group = lines((size_t)cfg->size >> vr->shift, sizeof(vr->group[0]));
	vr->free = lines((size_t)cfg->size >> vr->shift, sizeof(vr->free[0]));
	if (!vr->shadow || !vr->avail_shadow || !vr->group || !vr->free) {
		vio_vring_free(vr);
		return vio_err_set(err, -ENOMEM, "no memory for a queue of %u", cfg->size);
	}
	start(vr);
	*out = vr;
	return 0;
}

void vio_vring_free(struct vio_vring *vr)
{
	if (!vr)
		return;
	free(vr->shadow);
	free(vr->avail_shadow);
	free(vr->group);
	free(vr->free);
	free(vr);
}

void vio_vring_reset(struct vio_vring *vr)
{
	start(vr);
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

static void put_indirect(struct vio_vring *vr, uint16_t g, const struct vio_dma_seg *seg,
			 unsigned n)
{
	const size_t first = (size_t)g * VIO_DMA_MAX_SEG;
	struct vring_desc *t = &vr->tables[first];

	for (unsigned i = 0; i < n; i++) {
		desc_store(&t[i], 0, vio_le64(seg[i].at.v));
		desc_store(
			&t[i], 1,
			tail_word(seg[i].len, seg_flags(&seg[i], i + 1 == n), (uint16_t)(i + 1)));
	}
	desc_put(vr, (unsigned)(g << vr->shift), vr->tables_at.v + first * sizeof(t[0]),
		 tail_word((uint32_t)(n * sizeof(t[0])), VRING_DESC_F_INDIRECT, 0));
}

/* Groups that a chain of n takes. */
static inline unsigned groups_of(const struct vio_vring *vr, unsigned n)
{
	const unsigned last = (1u << vr->shift) - 1;

	return n <= last + 1 || vr->indirect ? 1 : (n + last) >> vr->shift;
}

static inline int split_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n,
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
		put_indirect(vr, g, seg, n);
	else
		put_long(vr, g, seg, n);
	if (vr->avail_shadow[slot] != head) {
		vr->avail_shadow[slot] = head;
		vio_store_relaxed(&vr->avail->ring[slot], vio_le16(head));
	}
	vr->avail_idx++;
	return 0;
}

static inline void split_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[],
					unsigned n, bool dev_writes)
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

static inline bool split_vring_publish(struct vio_vring *vr)
{
	const uint16_t old = vr->published;

	if (vr->avail_idx == old)
		return false;
	vr->published = vr->avail_idx;
	return vio_publish_and_check(&vr->avail->idx, vr->published, old, vr->avail_event,
				     &vr->used->flags, VRING_USED_F_NO_NOTIFY,
				     vr->event_idx); /* pairs A, N */
}

static inline bool split_vring_publish_always(struct vio_vring *vr)
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
static inline void release(struct vio_vring *vr, uint16_t g)
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

static void park(struct vio_vring *vr)
{
	vio_park(vr->event_idx ? vr->used_event : NULL, &vr->avail->flags,
		 VRING_AVAIL_F_NO_INTERRUPT, vr->last_used);
	vr->parked = true;
	vr->parked_at = vr->last_used;
}

static inline void split_vring_park(struct vio_vring *vr)
{
	if (!vr->parked ||
	    (vr->event_idx && (uint16_t)(vr->last_used - vr->parked_at) >= VIO_EVENT_REPARK))
		park(vr);
}

static inline int split_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
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
		release(vr, g);
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

static inline bool split_vring_arm(struct vio_vring *vr)
{
	if (vr->broken)
		return true;
	vr->parked = false;
	return vio_arm_and_recheck(vr->event_idx ? vr->used_event : NULL, &vr->avail->flags,
				   VRING_AVAIL_F_NO_INTERRUPT, &vr->used->idx,
				   vr->last_used); /* pairs N, B */
}

static inline bool split_vring_has_used(const struct vio_vring *vr)
{
	return vio_le16(vio_load_relaxed(&vr->used->idx)) != vr->last_used || vr->broken;
}

/* ---- the layout that the queue has ---- */

int vio_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n, void *token)
{
	return vr->packed ? packed_add(vr, seg, n, token) : split_vring_add(vr, seg, n, token);
}

bool vio_vring_publish(struct vio_vring *vr)
{
	return vr->packed ? packed_publish(vr) : split_vring_publish(vr);
}

bool vio_vring_publish_always(struct vio_vring *vr)
{
	return vr->packed ? packed_publish_always(vr) : split_vring_publish_always(vr);
}

void vio_vring_park(struct vio_vring *vr)
{
	if (vr->packed)
		packed_park(vr);
	else
		split_vring_park(vr);
}

int vio_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	return vr->packed ? packed_take(vr, out, max) : split_vring_take(vr, out, max);
}

bool vio_vring_arm(struct vio_vring *vr)
{
	return vr->packed ? packed_arm(vr) : split_vring_arm(vr);
}

bool vio_vring_has_used(const struct vio_vring *vr)
{
	return vr->packed ? packed_has_used(vr) : split_vring_has_used(vr);
}

void vio_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[], unsigned n,
			bool dev_writes)
{
	if (vr->packed)
		packed_add_ones(vr, one, n, dev_writes);
	else
		split_vring_add_ones(vr, one, n, dev_writes);
}

unsigned vio_vring_outstanding(const struct vio_vring *vr)
{
	return vr->packed ? vr->n_chains : (uint16_t)(vr->avail_idx - vr->last_used);
}

unsigned vio_vring_room(const struct vio_vring *vr, unsigned n_seg)
{
	if (n_seg == 0 || n_seg > VIO_DMA_MAX_SEG)
		return 0;
	return vr->packed ? packed_room(vr, n_seg) : vr->n_free / groups_of(vr, n_seg);
}
