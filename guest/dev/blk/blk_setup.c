/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of an open disk. Carved and mapped once; after a restart the same memory is announced
 * again. Besides the rings (front_mem.c):
 *
 *   area    wire parts | bounce buffers | buffers for the application           device reads and writes
 *
 * In arms with payload in place and the pool, the area is a window (one for each LMB that it
 * touches, at contiguous IOBAs). Else it is only TCE-mapped, by the mapping level. Buffers of the
 * bounce arm are the guest's alone and outside the area.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/blk/blk_priv.h"
#include "vio/cycles.h"

#define PAGE 4096u

static bool blk_has(const struct vio_blk_info *i, unsigned bit)
{
	return i->features >> bit & 1;
}

/* ----------------------------------------------------------------------- geometry ---- */

/* Data segments that one request can have. */
static uint32_t max_segs(const struct vio_blk_info *i, const struct virtio_blk_config *c)
{
	uint32_t n = VIO_DMA_MAX_SEG - 2, seg_max = vio_le32(c->seg_max);

	if (blk_has(i, VIRTIO_BLK_F_SEG_MAX) && seg_max < n)
		n = seg_max ? seg_max : 1;
	/* Without indirect tables the whole chain lies in the descriptor table, in groups of four. */
	if (!blk_has(i, VIRTIO_RING_F_INDIRECT_DESC) && n + 2u > i->queue_size)
		n = i->queue_size - 2u;
	return n;
}

int blk_read_config(struct vio_blk *b, struct vio_blk_info *info, uint32_t *size_max,
		    struct vio_err *err)
{
	const struct vio_transport_info *ti = vio_transport_get_info(b->f.t);
	const uint32_t want = b->cfg.max_len ? b->cfg.max_len : BLK_DEFAULT_LEN;
	struct virtio_blk_config c = {0};
	uint64_t most;

	memcpy(&c, ti->config, ti->config_len < sizeof(c) ? ti->config_len : sizeof(c));
	info->features = ti->features;
	info->version = ti->version;
	info->arm = ti->arm;
	info->queue_size = ti->queue_size;
	info->num_queues = 1;
	if (blk_has(info, VIRTIO_BLK_F_MQ)) {
		uint16_t n = vio_le16(c.num_queues);

		info->num_queues = n < ti->num_queues ? n : ti->num_queues;
	}
	info->sectors = vio_le64(c.capacity);
	info->block_size = blk_has(info, VIRTIO_BLK_F_BLK_SIZE) ? vio_le32(c.blk_size) : VIO_SECTOR;
	*size_max = blk_has(info, VIRTIO_BLK_F_SIZE_MAX) ? vio_le32(c.size_max) : UINT32_MAX;
	if (info->num_queues == 0 || info->block_size < VIO_BLK_SHORTEST ||
	    info->block_size > 1u << 20 || (info->block_size & (info->block_size - 1)) ||
	    info->sectors > UINT64_MAX / VIO_SECTOR || *size_max < VIO_SECTOR)
		return vio_err_set(
			err, -EPROTO,
			"the disk's configuration makes no sense: %" PRIu64
			" sectors, blocks of %u bytes, %u queues, segments of at most %u bytes",
			info->sectors, info->block_size, info->num_queues, *size_max);
	most = (uint64_t)max_segs(info, &c) * *size_max;
	info->max_len = (uint32_t)((want < most ? want : most) & ~((uint64_t)info->block_size - 1));
	if (info->max_len == 0)
		return vio_err_set(err, -EINVAL,
				   "requests of at most %u bytes: the disk's blocks have %u", want,
				   info->block_size);
	info->read_only = blk_has(info, VIRTIO_BLK_F_RO);
	info->can_flush = blk_has(info, VIRTIO_BLK_F_FLUSH);
	info->can_discard = blk_has(info, VIRTIO_BLK_F_DISCARD) && !info->read_only;
	info->can_zero = blk_has(info, VIRTIO_BLK_F_WRITE_ZEROES) && !info->read_only;
	info->max_discard_sectors = info->can_discard ? vio_le32(c.max_discard_sectors) : 0;
	info->max_zero_sectors = info->can_zero ? vio_le32(c.max_write_zeroes_sectors) : 0;
	return 0;
}

void blk_take_size(struct vio_blk *b)
{
	struct virtio_blk_config c = {0};
	uint64_t sectors;

	vio_transport_config(b->f.t, &c, sizeof(c));
	sectors = vio_le64(c.capacity);
	/* Nobody's disk becomes smaller: should it, the server answers with errors, and nothing is refused here. */
	if (sectors > 0 && sectors <= UINT64_MAX / VIO_SECTOR)
		vio_store_relaxed(&b->info.sectors, sectors);
}

int blk_tell_cache(struct vio_blk *b, struct vio_err *err)
{
	const uint64_t has = vio_transport_get_info(b->f.t)->features;
	const bool back = b->cfg.cache == VIO_BLK_CACHE_WRITEBACK;

	if (b->cfg.cache == VIO_BLK_CACHE_AS_IS)
		return 0;
	if (has >> VIRTIO_BLK_F_CONFIG_WCE & 1)
		return vio_transport_config_set(b->f.t, b->q[0].v.vcpu,
						offsetof(struct virtio_blk_config, wce), 1, back,
						err);
	/* 5.2.5.2: who can't flush has no cache to turn off. */
	if (!back && !(has >> VIRTIO_BLK_F_FLUSH & 1))
		return 0;
	return vio_err_set(
		err, -ENOTSUP,
		"this disk's write cache can't be turned %s (no VIRTIO_BLK_F_CONFIG_WCE)",
		back ? "on" : "off");
}

/* -------------------------------------------------------------- area, payload, mapping ---- */

/* Bounce buffers and room for vio_blk_alloc(): as much as the load needs, or what fits into cfg.pool_len. */
static int size_pool(struct vio_blk *b, uint64_t *buffers, struct vio_err *err)
{
	const unsigned traits = vio_arm_traits(&b->info.arm);
	const bool bounce_only = traits & VIO_ARM_BOUNCES, pool = traits & VIO_ARM_POOL;
	const uint64_t queues = b->info.num_queues, len = pool ? b->cfg.pool_len : 0;
	uint64_t share = len / queues, slot = b->bounce_slot_len, room;

	b->bounce_slots = slot ? b->info.depth : 0;
	*buffers = b->cfg.buffers_len;
	if (len > 0) {
		if (slot && !bounce_only)
			share /= 2;
		room = slot ? share / slot : 0;
		if (slot && room < b->bounce_slots)
			b->bounce_slots = (uint32_t)room;
		if (!bounce_only)
			*buffers = b->info.alloc_bytes = share * queues;
		if ((slot && room == 0) || share < VIO_CACHE_LINE)
			return vio_err_set(err, -EINVAL,
					   "a pool of %" PRIu64 " bytes for %" PRIu64
					   " queue(s) has no room for one buffer of %" PRIu64
					   " bytes in each",
					   len, queues, slot ? slot : b->info.max_len);
	}
	if (pool)
		b->info.pool_bytes = queues * b->bounce_slots * slot + (bounce_only ? 0 : *buffers);
	return 0;
}

/*
 * Alignment and unit of the area. One that crosses LMBs is announced in pieces. The server's
 * hypervisor puts what has 2 MiB at such a border of its address space, so pieces of whole 2 MiB
 * follow each other there as they do in the DMA window: payload unchecked, which adds one constant
 * to any address, needs that.
 */
static uint64_t area_grain(const struct vio_blk *b, uint64_t len, bool grant)
{
	uint64_t g = vio_front_grain(&b->f, grant), at = VIO_ALIGN_UP(b->f.mem->next, g);
	bool crosses = at / b->f.lmb_size != (at + len - 1) / b->f.lmb_size;

	return grant && crosses && g < 2u << 20 ? 2u << 20 : g;
}

static int blk_carve_area(struct vio_blk *b, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(b->info.arm.payload);
	const unsigned traits = vio_arm_traits(&b->info.arm);
	const bool bounce_only = traits & VIO_ARM_BOUNCES, grant = vio_front_grants(&b->info.arm);
	uint64_t slots = (uint64_t)b->info.num_queues * b->info.depth, len, all, g;
	struct vio_front_area at = {.at = {0}};
	uint64_t buffers;
	int rc;

	b->bounce_off = VIO_ALIGN_UP(slots * sizeof(struct blk_wire), PAGE);
	/* Shorter than max_len + 1 is everything. */
	b->copybreak = b->cfg.copybreak ? b->cfg.copybreak : PAGE;
	b->copybreak = b->copybreak > b->info.max_len ? b->info.max_len + 1 : b->copybreak;
	if (ops->needs_bounce) {
		uint32_t most = bounce_only || b->copybreak > b->info.max_len ? b->info.max_len
									      : b->copybreak;

		b->bounce_slot_len =
			VIO_ALIGN_UP((uint64_t)most, most < PAGE ? VIO_CACHE_LINE : PAGE);
	}
	rc = size_pool(b, &buffers, err);
	if (rc)
		return rc;
	/* vio_blk_alloc() aligns: room for one small and one large piece that are not multiples. */
	buffers = VIO_ALIGN_UP(buffers, PAGE) + 2 * PAGE;
	len = b->bounce_off +
	      VIO_ALIGN_UP((uint64_t)b->info.num_queues * b->bounce_slots * b->bounce_slot_len,
			   PAGE);
	all = len + (bounce_only ? 0 : buffers);
	g = area_grain(b, all, grant);
	rc = vio_front_carve(&b->f, &b->info.arm, len, buffers, g, PAGE,
			     "request headers, bounce buffers and I/O buffers", &at, err);
	b->area = at.area;
	b->area_at = at.at;
	b->buffers = at.buffers;
	return rc;
}

static int blk_new_payload(struct vio_blk *b, struct blk_queue *q, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(b->info.arm.payload);
	const struct vio_gpayload_cfg c = {
		.part = b->f.part,
		.counters = q->v.cnt,
		.bounce =
			gla_add(b->area.at, b->bounce_off + (uint64_t)q->v.index * b->bounce_slots *
								    b->bounce_slot_len),
		.slot_len = (uint32_t)b->bounce_slot_len,
		.n_slots = b->bounce_slots,
		.copybreak = b->copybreak,
	};

	return ops->create(&c, &q->v.payload, err);
}

/* Pieces of the DMA window that one request takes at most. */
static uint64_t units_of(const struct vio_blk *b)
{
	uint64_t unit = vio_front_unit(&b->f, &b->info.arm);
	uint64_t units =
		(b->info.max_len + unit - 1) / unit + 1 + 2; /* unaligned data, header, status */

	if (b->size_max < b->info.max_len)
		units += b->info.max_len / b->size_max + 1; /* segments that share a page */
	return units;
}

static int blk_new_dma(struct vio_blk *b, struct blk_queue *q, uint64_t slice, struct vio_err *err)
{
	struct vio_dma_cfg c = {.slice_len = slice,
				.defer_batch = b->cfg.defer_batch,
				.quota_pages = b->cfg.quota_pages};

	return vio_front_dma(&b->f, &q->v, &b->info.arm, &b->area, b->area_at, &c, err);
}

/* -------------------------------------------------------------------------- queues ---- */

static int new_slots(struct vio_blk *b, struct blk_queue *q, struct vio_err *err)
{
	const uint32_t depth = b->info.depth;
	uint64_t first = (uint64_t)q->v.index * depth * sizeof(struct blk_wire);

	q->slot = aligned_alloc(VIO_CACHE_LINE, depth * sizeof(*q->slot));
	q->free = calloc(depth, sizeof(*q->free));
	q->redo = calloc(depth, sizeof(*q->redo));
	q->ret = calloc(2ull * depth, sizeof(struct vio_blk_req *));
	if (!q->slot || !q->free || !q->redo || !q->ret)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for %u requests", q->v.index,
				   depth);
	memset(q->slot, 0, depth * sizeof(*q->slot));
	for (uint32_t i = depth; i-- > 0;) { /* slot 0 on top */
		uint64_t off = first + i * sizeof(struct blk_wire);

		q->slot[i].wire = (struct blk_wire *)(void *)(b->area.va + off);
		q->slot[i].wire_at = gla_add(b->area.at, off);
		q->free[q->n_free++] = (uint16_t)i;
	}
	return 0;
}

static int blk_new_queues(struct vio_blk *b, struct vio_err *err)
{
	const struct vio_dma_cfg c = {.defer_batch = b->cfg.defer_batch,
				      .quota_pages = b->cfg.quota_pages};
	int rc = vio_front_lists(&b->f, err);
	/* Once for all: each queue takes its part of what is free now. */
	const uint64_t slice = vio_front_slice(&b->f, &b->info.arm, &c, b->info.depth, units_of(b),
					       b->info.num_queues);

	for (unsigned i = 0; rc == 0 && i < b->info.num_queues; i++) {
		struct blk_queue *q = &b->q[i];

		rc = new_slots(b, q, err);
		if (rc == 0)
			rc = blk_new_payload(b, q, err);
		if (rc == 0)
			rc = blk_new_dma(b, q, slice, err);
	}
	return rc;
}

static int new_vcpus(struct vio_blk *b, struct vio_err *err)
{
	for (unsigned i = 0; i < b->info.num_queues; i++) {
		struct blk_queue *q = &b->q[i];

		q->b = b;
		if (!q->v.vcpu) { /* queue 0's came first, for the transport */
			int rc = phyp_vcpu_create(b->f.part, &q->v.vcpu, err);

			if (rc)
				return rc;
		}
		vio_front_queue(&b->f, &q->v, i, q->v.vcpu);
	}
	return 0;
}

int blk_setup(struct vio_blk *b, struct vio_err *err)
{
	uint32_t depth = b->cfg.depth ? b->cfg.depth : BLK_DEFAULT_DEPTH;
	int rc;

	b->info.depth = depth < b->info.queue_size / 4u ? depth : b->info.queue_size / 4u;
	vio_front_tune(&b->f, &b->info.arm, b->info.queue_size,
		       &(struct vio_front_waits){b->cfg.spin_ns, b->cfg.idle_ns, b->cfg.give_way});
	rc = new_vcpus(b, err);
	if (rc == 0)
		rc = vio_front_rings(&b->f, b->info.features, vio_ring_in_place(b->info.arm.ring),
				     4, err);
	b->info.ring_bytes = vio_transport_control_bytes(b->f.t) + b->f.window_bytes;
	if (rc == 0)
		rc = blk_carve_area(b, err);
	b->info.window_bytes = b->f.window_bytes;
	b->info.granted_bytes = b->f.granted_bytes;
	return rc ? rc : blk_new_queues(b, err);
}

void blk_teardown(struct vio_blk *b)
{
	for (unsigned i = 0; i < VIO_MAX_QUEUES; i++) {
		struct blk_queue *q = &b->q[i];

		vio_fq_fini(&q->v);
		free(q->slot);
		free(q->free);
		free(q->redo);
		free(q->ret);
	}
	vio_front_fini(&b->f);
}
