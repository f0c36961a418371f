/* SPDX-License-Identifier: BSD-3-Clause */
/* Driver side of virtqueues: what all layouts share, and which one a queue has. */
#include "guest/ring/vring_priv.h"

#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>

/* The last row is what is left when nothing else was agreed on. */
static const struct {
	uint64_t features; /* that agree on it */
	const struct vring_layout *layout;
} layouts[] = {
	{1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_IN_ORDER, &vring_packed_in_order},
	{1ull << VIRTIO_F_RING_PACKED, &vring_packed},
	{1ull << VIRTIO_F_IN_ORDER, &vring_split_in_order},
	{0, &vring_split},
};

static const struct vring_layout *vring_layout_of(uint64_t features)
{
	unsigned i = 0;

	while (layouts[i].features & ~features)
		i++;
	return layouts[i].layout;
}

bool vio_vring_desc_written(uint64_t features)
{
	return vring_layout_of(features)->desc_written;
}

static void *lines(size_t n, size_t each)
{
	size_t bytes = VIO_ALIGN_UP(n * each, (size_t)VIO_CACHE_LINE);
	void *p = aligned_alloc(VIO_CACHE_LINE, bytes);

	if (p)
		memset(p, 0, bytes);
	return p;
}

/* Everything private and shared as it is before the first request. */
static void start(struct vio_vring *vr)
{
	const unsigned groups = (unsigned)vr->size >> vr->shift;

	memset(vr->desc, 0, vio_vring_desc_bytes(vr->size));
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
	vr->first = 0;
	vr->ready = 0;
	vr->next_desc = 0;
	vr->n_desc = vr->size;
	vr->layout->start(vr);
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
	vr->layout = vring_layout_of(cfg->features);
	vr->desc = cfg->desc;
	vr->avail = cfg->avail;
	vr->used = cfg->used;
	vr->tables = cfg->tables;
	vr->tables_at = cfg->tables_at;
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

/* ---- the layout that the queue has ---- */

int vio_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n, void *token)
{
	return vr->layout->add(vr, seg, n, token);
}

bool vio_vring_publish(struct vio_vring *vr)
{
	return vr->layout->publish(vr);
}

bool vio_vring_publish_always(struct vio_vring *vr)
{
	return vr->layout->publish_always(vr);
}

void vio_vring_park(struct vio_vring *vr)
{
	vr->layout->park(vr);
}

int vio_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max)
{
	return vr->layout->take(vr, out, max);
}

bool vio_vring_arm(struct vio_vring *vr)
{
	return vr->layout->arm(vr);
}

bool vio_vring_has_used(const struct vio_vring *vr)
{
	return vr->layout->has_used(vr);
}

void vio_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[], unsigned n,
			bool dev_writes)
{
	vr->layout->add_ones(vr, one, n, dev_writes);
}

unsigned vio_vring_outstanding(const struct vio_vring *vr)
{
	return vr->layout->outstanding(vr);
}

unsigned vio_vring_room(const struct vio_vring *vr, unsigned n_seg)
{
	if (n_seg == 0 || n_seg > VIO_DMA_MAX_SEG)
		return 0;
	return vr->layout->room(vr, n_seg);
}
