/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that every front end needs. Carved and mapped once; after a restart the same memory is
 * announced again.
 *
 *   rings   of all queues: descriptor table, available ring, indirect tables    device reads
 *   used    of all queues: used rings; the rings of packed queues               device reads and writes
 *
 * One piece each, because a grant is made of whole backing pages (2 MiB where there are some): a
 * piece a queue would waste most of them. With ring access in place they are windows, else only
 * TCE-mapped.
 */
#include <linux/virtio_config.h>
#include <stdlib.h>

#include "guest/front/front.h"

/* Parts of different queues never share a line, nor a pair of lines that is prefetched together. */
#define PART_ALIGN 128u
#define PAGE       4096u

uint64_t vio_front_tce_page(const struct vio_front *f)
{
	return 1ull << phyp_unit(f->part, f->unit)->page_shift;
}

uint64_t vio_front_grain(const struct vio_front *f, bool granted)
{
	uint64_t tce = vio_front_tce_page(f), g = tce > PAGE ? tce : PAGE,
		 backing = phyp_backing_page(f->part);

	return granted && backing > g ? backing : g;
}

int vio_front_window(struct vio_front *f, const struct vio_mem_piece *mem, uint64_t perm,
		     uint8_t role, bool grant, struct ioba *at, struct vio_err *err)
{
	struct vio_gwindow *w;
	int rc;

	if (!f->win)
		f->win = calloc(PHYP_MAX_LMBS + 3, sizeof(*f->win));
	if (!f->win)
		return vio_err_set(err, -ENOMEM, "no memory for windows");
	w = &f->win[f->n_win];
	rc = vio_transport_window(f->t, mem, (uint8_t)perm, role, grant, w, err);
	if (rc)
		return rc;
	f->n_win++;
	*at = w->at;
	f->window_bytes += mem->len;
	f->granted_bytes += grant ? mem->len : 0;
	return 0;
}

/* Their IOBAs follow each other because nothing is asked for in between. */
int vio_front_area(struct vio_front *f, const struct vio_mem_piece *area, bool grant,
		   struct ioba *first, struct vio_err *err)
{
	uint64_t lmb = f->lmb_size, done = 0;
	struct ioba at;

	while (done < area->len) {
		uint64_t from = area->at.v + done, left = area->len - done, len = lmb - from % lmb;
		struct vio_mem_piece piece = {gla_add(area->at, done), area->va + done,
					      len < left ? len : left};
		int rc = vio_front_window(f, &piece, TCE_READ | TCE_WRITE, VIO_WINDOW_BUFFERS,
					  grant, &at, err);

		if (rc)
			return rc;
		if (done == 0)
			*first = at;
		else if (at.v != first->v + done)
			return vio_err_set(err, -ENOSPC,
					   "the pool's I/O bus addresses are not contiguous");
		done += piece.len;
	}
	return 0;
}

bool vio_front_grants(const struct vio_arm *arm)
{
	const unsigned traits = vio_arm_traits(arm);

	return traits & VIO_ARM_POOL && traits & VIO_ARM_DATA_IN_PLACE;
}

int vio_front_carve(struct vio_front *f, const struct vio_arm *arm, uint64_t shared,
		    uint64_t buffers, uint64_t grain, uint64_t align, const char *what,
		    struct vio_front_area *out, struct vio_err *err)
{
	const unsigned traits = vio_arm_traits(arm);
	const bool apart = traits & VIO_ARM_BOUNCES;
	int rc = vio_mem_carve(f->mem, VIO_ALIGN_UP(shared + (apart ? 0 : buffers), grain),
			       align > grain ? align : grain, false, what, &out->area, err);

	if (rc)
		return rc;
	if (apart)
		rc = vio_mem_carve(f->mem, buffers, align, false, what, &out->buffers, err);
	else
		out->buffers = (struct vio_mem_piece){gla_add(out->area.at, shared),
						      out->area.va + shared, buffers};
	return rc || !(traits & VIO_ARM_POOL)
		       ? rc
		       : vio_front_area(f, &out->area, vio_front_grants(arm), &out->at, err);
}

/* The next `len` bytes of a piece. */
static struct vio_mem_piece cut(const struct vio_mem_piece *from, uint64_t *off, uint64_t len)
{
	struct vio_mem_piece p = {gla_add(from->at, *off), from->va + *off, len};

	*off += VIO_ALIGN_UP(len, PART_ALIGN);
	return p;
}

static int new_vring(const struct vio_front *f, struct vio_fq *q, uint64_t features, uint8_t group,
		     struct vio_err *err)
{
	const struct vio_vring_cfg c = {
		.size = f->queue_size,
		.group = group,
		.event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1,
		.features = features,
		.desc = (struct vring_desc *)(void *)q->desc.va,
		.avail = (struct vring_avail *)(void *)q->avail.va,
		.used = (struct vring_used *)(void *)q->used.va,
		.tables = (struct vring_desc *)(void *)q->tables.va,
		.tables_at = q->tables_at,
	};
	int rc = vio_vring_new(&c, &q->vr, err);

	vio_notify_init(&q->notify, f->notify, c.event_idx);
	if (rc == 0 && f->notify->looks)
		vio_fq_park(q);
	q->pending = 1;
	return rc;
}

int vio_front_rings(struct vio_front *f, uint64_t features, bool direct, uint8_t group,
		    struct vio_err *err)
{
	const uint16_t n = f->queue_size;
	uint64_t g = vio_front_grain(f, direct), off = 0, uoff = 0, queues = 0;
	uint64_t tables =
		features >> VIRTIO_RING_F_INDIRECT_DESC & 1 ? vio_vring_tables_bytes(n, group) : 0;
	const bool written = vio_vring_desc_written(features);
	uint64_t desc = VIO_ALIGN_UP(vio_vring_desc_bytes(n), PART_ALIGN);
	uint64_t read = VIO_ALIGN_UP(vio_vring_avail_bytes(n), PART_ALIGN) +
			VIO_ALIGN_UP(tables, PART_ALIGN) + (written ? 0 : desc);
	uint64_t used = VIO_ALIGN_UP(vio_vring_used_bytes(n), PART_ALIGN) + (written ? desc : 0);
	struct ioba at, uat;
	int rc;

	for (unsigned i = 0; i < f->n_queues; i++)
		queues += f->q[i] != NULL;
	rc = vio_mem_carve(f->mem, VIO_ALIGN_UP(read * queues, g), g, direct,
			   "descriptor tables and available rings", &f->rings, err);
	if (rc == 0)
		rc = vio_mem_carve(f->mem, VIO_ALIGN_UP(used * queues, g), g, direct, "used rings",
				   &f->used, err);
	if (rc == 0)
		rc = vio_front_window(f, &f->rings, TCE_READ, VIO_WINDOW_RINGS, direct, &at, err);
	if (rc == 0)
		rc = vio_front_window(f, &f->used, TCE_READ | TCE_WRITE, VIO_WINDOW_RINGS, direct,
				      &uat, err);
	for (unsigned i = 0; rc == 0 && i < f->n_queues; i++) {
		struct vio_fq *q = f->q[i];

		if (!q)
			continue;
		if (written) {
			q->desc_at = ioba_add(uat, uoff);
			q->desc = cut(&f->used, &uoff, vio_vring_desc_bytes(n));
		} else {
			q->desc_at = ioba_add(at, off);
			q->desc = cut(&f->rings, &off, vio_vring_desc_bytes(n));
		}
		q->avail_at = ioba_add(at, off);
		q->avail = cut(&f->rings, &off, vio_vring_avail_bytes(n));
		q->tables_at = ioba_add(at, off);
		q->tables = cut(&f->rings, &off, tables);
		q->used_at = ioba_add(uat, uoff);
		q->used = cut(&f->used, &uoff, vio_vring_used_bytes(n));
		rc = new_vring(f, q, features, group, err);
	}
	return rc;
}

int vio_front_lists(struct vio_front *f, struct vio_err *err)
{
	struct vio_mem_piece lists;
	int rc = vio_mem_carve(f->mem, (uint64_t)f->n_queues * PAGE, PAGE, false, "multi-TCE lists",
			       &lists, err);

	for (unsigned i = 0; rc == 0 && i < f->n_queues; i++)
		if (f->q[i])
			f->q[i]->list = gla_add(lists.at, (uint64_t)i * PAGE);
	return rc;
}

uint64_t vio_front_unit(const struct vio_front *f, const struct vio_arm *arm)
{
	return vio_front_grain(f, vio_payload_in_place(arm->payload));
}

uint64_t vio_front_slice(const struct vio_front *f, const struct vio_arm *arm,
			 const struct vio_dma_cfg *c, uint64_t requests, uint64_t units,
			 uint64_t queues)
{
	const struct vio_dma_ops *ops = vio_dma_level(arm->mapping);
	uint64_t page = vio_front_tce_page(f), waiting = 0, pages = 0, len,
		 room = vio_transport_room(f->t) / queues & ~(page - 1);

	if (vio_arm_traits(arm) & VIO_ARM_POOL)
		return 0;
	if (ops->keeps)
		ops->keeps(c, &waiting, &pages);
	len = 2 * ((requests + waiting) * units * vio_front_unit(f, arm) + pages * page);
	return len < room ? len : room;
}

int vio_front_dma(struct vio_front *f, struct vio_fq *q, const struct vio_arm *arm,
		  const struct vio_mem_piece *area, struct ioba area_at, struct vio_dma_cfg *c,
		  struct vio_err *err)
{
	const struct phyp_unit_info *u = phyp_unit(f->part, f->unit);
	int rc = 0;

	c->vcpu = q->vcpu;
	c->liobn = u->liobn;
	c->page_shift = u->page_shift;
	c->list = q->list;
	if (vio_arm_traits(arm) & VIO_ARM_POOL) {
		c->pool_addr = area->at;
		c->pool_len = area->len;
		c->pool_at = area_at;
	} else {
		rc = vio_transport_slice(f->t, c->slice_len, &c->slice, err);
		if (rc == 0 && vio_payload_in_place(arm->payload) &&
		    vio_transport_expose(f->t, q->vcpu, &c->expose))
			rc = vio_err_set(err, -ENOSPC, "queue %u: no room for its exposures",
					 q->index);
	}
	return rc ? rc : vio_dma_level(arm->mapping)->create(c, &q->dma, err);
}

int vio_front_go(struct vio_front *f, struct vio_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < f->n_queues; i++) {
		const struct vio_fq *q = f->q[i];

		if (q)
			rc = vio_transport_queue(f->t, q->index, f->queue_size, q->desc_at,
						 q->avail_at, q->used_at, err);
	}
	return rc ? rc : vio_transport_driver_ok(f->t, err);
}

void vio_fq_fini(struct vio_fq *q)
{
	if (q->dma)
		q->dma->ops->destroy(q->dma);
	if (q->payload)
		q->payload->ops->destroy(q->payload);
	vio_vring_free(q->vr);
}

void vio_front_fini(struct vio_front *f)
{
	while (f->n_win > 0)
		vio_transport_window_del(f->t, &f->win[--f->n_win], NULL);
	free(f->win);
}
