/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of an open disk. Carved and mapped once; after a restart the same memory is announced again.
 *
 *   rings   of all queues: descriptor table, available ring, indirect tables    device reads
 *   used    of all queues: used rings                                           device reads and writes
 *   area    wire parts | bounce buffers | buffers for the application           device reads and writes
 *
 * One piece each, because a grant is made of whole backing pages (2 MiB where there are some): a piece a
 * queue would waste most of them. In arms with ring access in place the first two are windows; in arms with
 * payload in place and the pool, the area is (one window for each LMB that it touches, at contiguous IOBAs).
 * Else they are only TCE-mapped, the area by the mapping level. Buffers of the bounce arm are the guest's
 * alone and outside the area.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "guest/blk_priv.h"
#include "vio/cycles.h"

/* Parts of different queues never share a line, nor a pair of lines that is prefetched together. */
#define PART_ALIGN 128u
#define PAGE       4096u
#define DEFER      64u /* vio_dma_cfg's defaults, to size slices by */
#define QUOTA      4096u

static bool has(const struct vio_blk_info *i, unsigned bit)
{
	return i->features >> bit & 1;
}

/* ----------------------------------------------------------------------- geometry ---- */

/* Data segments that one request can have. */
static uint32_t max_segs(const struct vio_blk_info *i, const struct virtio_blk_config *c)
{
	uint32_t n = VIO_DMA_MAX_SEG - 2, seg_max = vio_le32(c->seg_max);

	if (has(i, VIRTIO_BLK_F_SEG_MAX) && seg_max < n)
		n = seg_max ? seg_max : 1;
	/* Without indirect tables the whole chain lies in the descriptor table, in groups of four. */
	if (!has(i, VIRTIO_RING_F_INDIRECT_DESC) && n + 2u > i->queue_size)
		n = i->queue_size - 2u;
	return n;
}

int blk_read_config(struct vio_blk *b, struct vio_blk_info *info, uint32_t *size_max, struct vio_err *err)
{
	const struct vio_transport_info *ti = vio_transport_get_info(b->t);
	const uint32_t want = b->cfg.max_len ? b->cfg.max_len : BLK_DEFAULT_LEN;
	struct virtio_blk_config c = {0};
	uint64_t most;

	memcpy(&c, ti->config, ti->config_len < sizeof(c) ? ti->config_len : sizeof(c));
	info->features = ti->features;
	info->version = ti->version;
	info->arm = ti->arm;
	info->queue_size = ti->queue_size;
	info->num_queues = 1;
	if (has(info, VIRTIO_BLK_F_MQ)) {
		uint16_t n = vio_le16(c.num_queues);

		info->num_queues = n < ti->num_queues ? n : ti->num_queues;
	}
	info->sectors = vio_le64(c.capacity);
	info->block_size = has(info, VIRTIO_BLK_F_BLK_SIZE) ? vio_le32(c.blk_size) : VIO_SECTOR;
	*size_max = has(info, VIRTIO_BLK_F_SIZE_MAX) ? vio_le32(c.size_max) : UINT32_MAX;
	if (info->num_queues == 0 || info->block_size < VIO_SECTOR || info->block_size > 1u << 20 ||
	    (info->block_size & (info->block_size - 1)) || info->sectors > UINT64_MAX / VIO_SECTOR ||
	    *size_max < VIO_SECTOR)
		return vio_err_set(err, -EPROTO,
				   "the disk's configuration makes no sense: %" PRIu64
				   " sectors, blocks of %u bytes, %u queues, segments of at most %u bytes",
				   info->sectors, info->block_size, info->num_queues, *size_max);
	most = (uint64_t)max_segs(info, &c) * *size_max;
	info->max_len = (uint32_t)((want < most ? want : most) & ~((uint64_t)info->block_size - 1));
	if (info->max_len == 0)
		return vio_err_set(err, -EINVAL, "requests of at most %u bytes: the disk's blocks have %u",
				   want, info->block_size);
	info->read_only = has(info, VIRTIO_BLK_F_RO);
	info->can_flush = has(info, VIRTIO_BLK_F_FLUSH);
	info->can_discard = has(info, VIRTIO_BLK_F_DISCARD) && !info->read_only;
	info->can_zero = has(info, VIRTIO_BLK_F_WRITE_ZEROES) && !info->read_only;
	info->max_discard_sectors = info->can_discard ? vio_le32(c.max_discard_sectors) : 0;
	info->max_zero_sectors = info->can_zero ? vio_le32(c.max_write_zeroes_sectors) : 0;
	return 0;
}

/* ------------------------------------------------------------------------- windows ---- */

static uint64_t tce_page(const struct vio_blk *b)
{
	return 1ull << phyp_unit(b->part, b->cfg.transport.unit)->page_shift;
}

/* What a piece is aligned to and made of. */
static uint64_t grain(const struct vio_blk *b, bool granted)
{
	uint64_t g = tce_page(b) > PAGE ? tce_page(b) : PAGE, backing = phyp_backing_page(b->part);

	return granted && backing > g ? backing : g;
}

static int add_window(struct vio_blk *b, const struct vio_mem_piece *mem, uint64_t perm, uint8_t role,
		      bool grant, struct ioba *at, struct vio_err *err)
{
	struct vio_gwindow *w = &b->win[b->n_win];
	int rc = vio_transport_window(b->t, mem, (uint8_t)perm, role, grant, w, err);

	if (rc)
		return rc;
	b->n_win++;
	*at = w->at;
	b->info.window_bytes += mem->len;
	b->info.granted_bytes += grant ? mem->len : 0;
	return 0;
}

/* The area: one window for each LMB; their IOBAs follow each other because nothing is asked for in between.
 */
static int add_area(struct vio_blk *b, bool grant, struct vio_err *err)
{
	uint64_t lmb = phyp_lmb_size(b->part), done = 0;
	struct ioba at;

	while (done < b->area.len) {
		uint64_t from = b->area.at.v + done, left = b->area.len - done, len = lmb - from % lmb;
		struct vio_mem_piece piece = {gla_add(b->area.at, done), b->area.va + done,
					      len < left ? len : left};
		int rc = add_window(b, &piece, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS, grant, &at, err);

		if (rc)
			return rc;
		if (done == 0)
			b->area_at = at;
		else if (at.v != b->area_at.v + done)
			return vio_err_set(err, -ENOSPC, "the pool's I/O bus addresses are not contiguous");
		done += piece.len;
	}
	return 0;
}

/* --------------------------------------------------------------------------- rings ---- */

/* The next `len` bytes of a piece. */
static struct vio_mem_piece cut(const struct vio_mem_piece *from, uint64_t *off, uint64_t len)
{
	struct vio_mem_piece p = {gla_add(from->at, *off), from->va + *off, len};

	*off += VIO_ALIGN_UP(len, PART_ALIGN);
	return p;
}

static uint64_t tables_bytes(const struct vio_blk *b)
{
	return has(&b->info, VIRTIO_RING_F_INDIRECT_DESC)
		       ? b->info.queue_size / 4ull * VIO_DMA_MAX_SEG * sizeof(struct vring_desc)
		       : 0;
}

static int carve_rings(struct vio_blk *b, struct vio_err *err)
{
	const uint16_t n = b->info.queue_size;
	bool grant = b->info.arm.ring == VIO_RING_DIRECT;
	uint64_t g = grain(b, grant), off = 0, uoff = 0;
	uint64_t read = VIO_ALIGN_UP(vio_vring_desc_bytes(n), PART_ALIGN) +
			VIO_ALIGN_UP(vio_vring_avail_bytes(n), PART_ALIGN) +
			VIO_ALIGN_UP(tables_bytes(b), PART_ALIGN);
	uint64_t used = VIO_ALIGN_UP(vio_vring_used_bytes(n), PART_ALIGN);
	struct ioba at, uat;
	int rc;

	rc = vio_mem_carve(b->mem, VIO_ALIGN_UP(read * b->info.num_queues, g), g, grant,
			   "descriptor tables and available rings", &b->rings, err);
	if (rc == 0)
		rc = vio_mem_carve(b->mem, VIO_ALIGN_UP(used * b->info.num_queues, g), g, grant, "used rings",
				   &b->used, err);
	if (rc == 0)
		rc = add_window(b, &b->rings, TCE_READ, VIO_WINDOW_RINGS, grant, &at, err);
	if (rc == 0)
		rc = add_window(b, &b->used, TCE_READ | TCE_WRITE, VIO_WINDOW_RINGS, grant, &uat, err);
	for (unsigned i = 0; rc == 0 && i < b->info.num_queues; i++) {
		struct blk_queue *q = &b->q[i];

		q->desc_at = ioba_add(at, off);
		q->desc = cut(&b->rings, &off, vio_vring_desc_bytes(n));
		q->avail_at = ioba_add(at, off);
		q->avail = cut(&b->rings, &off, vio_vring_avail_bytes(n));
		q->tables_at = ioba_add(at, off);
		q->tables = cut(&b->rings, &off, tables_bytes(b));
		q->used_at = ioba_add(uat, uoff);
		q->used = cut(&b->used, &uoff, vio_vring_used_bytes(n));
	}
	return rc;
}

static int new_vring(struct vio_blk *b, struct blk_queue *q, struct vio_err *err)
{
	const struct vio_vring_cfg c = {
		.size = b->info.queue_size,
		.event_idx = has(&b->info, VIRTIO_RING_F_EVENT_IDX),
		.indirect = has(&b->info, VIRTIO_RING_F_INDIRECT_DESC),
		.desc = (struct vring_desc *)(void *)q->desc.va,
		.avail = (struct vring_avail *)(void *)q->avail.va,
		.used = (struct vring_used *)(void *)q->used.va,
		.tables = (struct vring_desc *)(void *)q->tables.va,
		.tables_at = q->tables_at,
	};

	return vio_vring_new(&c, &q->vr, err);
}

/* -------------------------------------------------------------- area, payload, mapping ---- */

static int carve_area(struct vio_blk *b, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(b->info.arm.payload);
	bool pool = b->info.arm.mapping == VIO_MAP_POOL,
	     bounce_only = b->info.arm.payload == VIO_PAYLOAD_BOUNCE;
	bool grant = pool && vio_payload_in_place(b->info.arm.payload);
	uint64_t g = grain(b, grant), slots = (uint64_t)b->info.num_queues * b->info.depth, len;
	/* vio_blk_alloc() aligns: room for one small and one large piece that are not multiples. */
	uint64_t buffers = VIO_ALIGN_UP(b->cfg.buffers_len, PAGE) + 2 * PAGE;
	int rc;

	b->bounce_off = VIO_ALIGN_UP(slots * sizeof(struct blk_wire), PAGE);
	/* Shorter than max_len + 1 is everything. */
	b->copybreak = b->cfg.copybreak ? b->cfg.copybreak : PAGE;
	b->copybreak = b->copybreak > b->info.max_len ? b->info.max_len + 1 : b->copybreak;
	if (ops->needs_bounce) {
		uint32_t most =
			bounce_only || b->copybreak > b->info.max_len ? b->info.max_len : b->copybreak;

		b->bounce_slot_len = VIO_ALIGN_UP((uint64_t)most, most < PAGE ? VIO_CACHE_LINE : PAGE);
	}
	len = b->bounce_off + VIO_ALIGN_UP(slots * b->bounce_slot_len, PAGE);
	rc = vio_mem_carve(b->mem, VIO_ALIGN_UP(len + (bounce_only ? 0 : buffers), g), g, false,
			   "request headers, bounce buffers and I/O buffers", &b->area, err);
	if (rc)
		return rc;
	if (bounce_only)
		rc = vio_mem_carve(b->mem, buffers, PAGE, false, "I/O buffers", &b->buffers, err);
	else
		b->buffers = (struct vio_mem_piece){gla_add(b->area.at, len), b->area.va + len, buffers};
	return rc || !pool ? rc : add_area(b, grant, err);
}

static int new_payload(struct vio_blk *b, struct blk_queue *q, struct vio_err *err)
{
	const struct vio_gpayload_ops *ops = vio_gpayload_level(b->info.arm.payload);
	const struct vio_gpayload_cfg c = {
		.part = b->part,
		.counters = q->cnt,
		.bounce = gla_add(b->area.at,
				  b->bounce_off + (uint64_t)q->index * b->info.depth * b->bounce_slot_len),
		.slot_len = (uint32_t)b->bounce_slot_len,
		.n_slots = ops->needs_bounce ? b->info.depth : 0,
		.copybreak = b->copybreak,
	};

	return ops->create(&c, &q->payload, err);
}

/*
 * DMA window for one queue's mapping level: for everything in flight, what it keeps, and as much again
 * against holes. With exposures every segment takes whole backing pages.
 */
static uint64_t slice_len(const struct vio_blk *b)
{
	uint64_t page = tce_page(b), room = vio_transport_room(b->t) / b->info.num_queues & ~(page - 1);
	uint64_t unit = grain(b, vio_payload_in_place(b->info.arm.payload));
	uint64_t units = (b->info.max_len + unit - 1) / unit + 1 + 2; /* unaligned data, header, status */
	uint64_t requests = b->info.depth, kept = 0;

	if (b->size_max < b->info.max_len)
		units += b->info.max_len / b->size_max + 1; /* segments that share a page */
	if (b->info.arm.mapping == VIO_MAP_DEFERRED)
		requests += b->cfg.defer_batch ? b->cfg.defer_batch : DEFER;
	else if (b->info.arm.mapping == VIO_MAP_CACHED)
		kept = (b->cfg.quota_pages ? b->cfg.quota_pages : QUOTA) * page;
	kept = 2 * (requests * units * unit + kept);
	return kept < room ? kept : room;
}

static int new_dma(struct vio_blk *b, struct blk_queue *q, uint64_t slice, struct vio_err *err)
{
	const struct phyp_unit_info *u = phyp_unit(b->part, b->cfg.transport.unit);
	struct vio_dma_cfg c = {
		.vcpu = q->vcpu,
		.liobn = u->liobn,
		.page_shift = u->page_shift,
		.list = q->list,
		.defer_batch = b->cfg.defer_batch,
		.quota_pages = b->cfg.quota_pages,
	};
	int rc = 0;

	if (b->info.arm.mapping == VIO_MAP_POOL) {
		c.pool_addr = b->area.at;
		c.pool_len = b->area.len;
		c.pool_at = b->area_at;
	} else {
		c.slice_len = slice;
		rc = vio_transport_slice(b->t, slice, &c.slice, err);
		if (rc == 0 && vio_payload_in_place(b->info.arm.payload) &&
		    vio_transport_expose(b->t, q->vcpu, &c.expose))
			rc = vio_err_set(err, -ENOSPC, "queue %u: no room for its exposures", q->index);
	}
	return rc ? rc : vio_dma_level(b->info.arm.mapping)->create(&c, &q->dma, err);
}

/* -------------------------------------------------------------------------- queues ---- */

static int new_slots(struct vio_blk *b, struct blk_queue *q, struct vio_err *err)
{
	const uint32_t depth = b->info.depth;
	uint64_t first = (uint64_t)q->index * depth * sizeof(struct blk_wire);

	q->slot = aligned_alloc(VIO_CACHE_LINE, depth * sizeof(*q->slot));
	q->free = calloc(depth, sizeof(*q->free));
	q->redo = calloc(depth, sizeof(*q->redo));
	q->ret = calloc(2ull * depth, sizeof(struct vio_blk_req *));
	if (!q->slot || !q->free || !q->redo || !q->ret)
		return vio_err_set(err, -ENOMEM, "queue %u: no memory for %u requests", q->index, depth);
	memset(q->slot, 0, depth * sizeof(*q->slot));
	for (uint32_t i = depth; i-- > 0;) { /* slot 0 on top */
		uint64_t off = first + i * sizeof(struct blk_wire);

		q->slot[i].wire = (struct blk_wire *)(void *)(b->area.va + off);
		q->slot[i].wire_at = gla_add(b->area.at, off);
		q->free[q->n_free++] = (uint16_t)i;
	}
	return 0;
}

static int new_queues(struct vio_blk *b, struct vio_err *err)
{
	struct vio_mem_piece lists;
	uint64_t slice = 0;
	int rc = vio_mem_carve(b->mem, (uint64_t)b->info.num_queues * PAGE, PAGE, false, "multi-TCE lists",
			       &lists, err);

	if (rc == 0 && b->info.arm.mapping != VIO_MAP_POOL)
		slice = slice_len(b);
	for (unsigned i = 0; rc == 0 && i < b->info.num_queues; i++) {
		struct blk_queue *q = &b->q[i];

		q->list = gla_add(lists.at, (uint64_t)i * PAGE);
		rc = new_slots(b, q, err);
		if (rc == 0)
			rc = new_vring(b, q, err);
		if (rc == 0)
			rc = new_payload(b, q, err);
		if (rc == 0)
			rc = new_dma(b, q, slice, err);
		if (rc == 0 && b->notify == VIO_NOTIFY_POLL)
			vio_vring_park(q->vr);
		q->pending = 1;
	}
	return rc;
}

static int new_vcpus(struct vio_blk *b, struct vio_err *err)
{
	for (unsigned i = 0; i < b->info.num_queues; i++) {
		struct blk_queue *q = &b->q[i];

		q->b = b;
		q->index = (uint16_t)i;
		if (!q->vcpu) { /* queue 0's came first, for the transport */
			int rc = phyp_vcpu_create(b->part, &q->vcpu, err);

			if (rc)
				return rc;
		}
		q->cnt = phyp_vcpu_counters(q->vcpu);
	}
	return 0;
}

int blk_setup(struct vio_blk *b, struct vio_err *err)
{
	uint32_t depth = b->cfg.depth ? b->cfg.depth : BLK_DEFAULT_DEPTH;
	int rc;

	b->info.depth = depth < b->info.queue_size / 4u ? depth : b->info.queue_size / 4u;
	b->notify = b->info.arm.notify;
	b->mem_size = phyp_mem_size(b->part);
	b->lmb_size = phyp_lmb_size(b->part);
	b->idle_ticks = vio_muldiv(b->cfg.idle_ns, phyp_tick_hz(b->part), 1000000000ull);
	b->win = calloc(PHYP_MAX_LMBS + 3, sizeof(*b->win));
	rc = b->win ? new_vcpus(b, err) : vio_err_set(err, -ENOMEM, "no memory for windows");
	if (rc == 0)
		rc = carve_rings(b, err);
	if (rc == 0)
		rc = carve_area(b, err);
	return rc ? rc : new_queues(b, err);
}

void blk_teardown(struct vio_blk *b)
{
	for (unsigned i = 0; i < VIO_MAX_QUEUES; i++) {
		struct blk_queue *q = &b->q[i];

		if (q->dma)
			q->dma->ops->destroy(q->dma);
		if (q->payload)
			q->payload->ops->destroy(q->payload);
		vio_vring_free(q->vr);
		free(q->slot);
		free(q->free);
		free(q->redo);
		free(q->ret);
	}
	while (b->n_win > 0)
		vio_transport_window_del(b->t, &b->win[--b->n_win], NULL);
	free(b->win);
}

int blk_go(struct vio_blk *b, struct vio_err *err)
{
	int rc = 0;

	for (uint16_t i = 0; rc == 0 && i < b->info.num_queues; i++) {
		const struct blk_queue *q = &b->q[i];

		rc = vio_transport_queue(b->t, i, b->info.queue_size, q->desc_at, q->avail_at, q->used_at,
					 err);
	}
	return rc ? rc : vio_transport_driver_ok(b->t, err);
}
