/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening, closing and asking the block front end. The data path is in blk_path.c. */
#include <inttypes.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "guest/dev/blk/blk_priv.h"

/*
 * SIZE_MAX is taken only when the caller asks for it (cfg.transport.features): a device must then
 * be given data in segments of at most size_max, while without it any buffer is one segment, one
 * descriptor, and one RDMA call for each 128 KiB.
 */
#define FEATURES                                                                                   \
	(1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_RO |  \
	 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD |                               \
	 1ull << VIRTIO_BLK_F_CONFIG_WCE | 1ull << VIRTIO_BLK_F_WRITE_ZEROES |                     \
	 1ull << VIRTIO_BLK_F_MQ)

static void blk_config_changed(void *ctx)
{
	blk_take_size(ctx);
}

static int blk_start(struct vio_blk *b, struct vio_err *err)
{
	struct vio_transport_cfg *tc = &b->cfg.transport;
	int rc = phyp_vcpu_create(b->f.part, &b->q[0].v.vcpu, err);

	tc->type = VIRTIO_ID_BLOCK;
	tc->features |= FEATURES;
	tc->config_changed = blk_config_changed;
	tc->config_ctx = b;
	if (rc == 0)
		rc = vio_transport_open(b->q[0].v.vcpu, b->f.mem, tc, &b->f.t, err);
	if (rc == 0)
		rc = vio_transport_start(b->f.t, err);
	if (rc == 0)
		rc = blk_read_config(b, &b->info, &b->size_max, err);
	if (rc == 0)
		memcpy(b->identity, vio_transport_get_info(b->f.t)->identity, sizeof(b->identity));
	if (rc == 0)
		rc = blk_tell_cache(b, err);
	if (rc == 0)
		rc = blk_setup(b, err);
	if (rc == 0)
		blk_take_size(b); /* it may have grown since config space was read */
	return rc ? rc : vio_front_go(&b->f, err);
}

bool vio_blk_one_core(void)
{
	return vio_front_one_core();
}

int vio_blk_open(struct phyp_part *part, struct vio_mem *mem, const struct vio_blk_cfg *cfg,
		 struct vio_blk **out, struct vio_err *err)
{
	struct vio_blk *b;
	int rc;

	if (cfg->max_len % VIO_SECTOR)
		return vio_err_set(err, -EINVAL,
				   "largest request of %u bytes: must be a multiple of %u",
				   cfg->max_len, VIO_SECTOR);
	b = aligned_alloc(VIO_CACHE_LINE, VIO_ALIGN_UP(sizeof(*b), VIO_CACHE_LINE));
	if (!b)
		return vio_err_set(err, -ENOMEM, "no memory for the disk");
	memset(b, 0, sizeof(*b));
	b->q = aligned_alloc(VIO_CACHE_LINE, VIO_MAX_QUEUES * sizeof(*b->q));
	if (!b->q) {
		free(b);
		return vio_err_set(err, -ENOMEM, "no memory for the disk's queues");
	}
	memset(b->q, 0, VIO_MAX_QUEUES * sizeof(*b->q));
	b->cfg = *cfg;
	vio_front_init(&b->f, &blk_front_ops, part, mem, &cfg->transport);
	rc = blk_start(b, err);
	if (rc) {
		vio_blk_close(b);
		return rc;
	}
	*out = b;
	return 0;
}

void vio_blk_close(struct vio_blk *b)
{
	if (!b)
		return;
	/*
	 * First of all the server must not touch what is about to be unmapped; no answer is no
	 * reason to stay.
	 */
	if (b->f.t && phyp_alive(b->f.part))
		vio_transport_quiesce(b->f.t);
	blk_teardown(b);
	vio_transport_close(b->f.t);
	for (unsigned i = 0; i < VIO_MAX_QUEUES; i++)
		if (b->q[i].v.vcpu)
			phyp_vcpu_destroy(b->q[i].v.vcpu);
	free(b->q);
	free(b);
}

int vio_blk_set_cache(struct vio_blk *b, enum vio_blk_cache cache, struct vio_err *err)
{
	const enum vio_blk_cache before = b->cfg.cache;
	int rc;

	b->cfg.cache = cache;
	rc = blk_tell_cache(b, err);
	if (rc)
		b->cfg.cache = before;
	return rc;
}

const struct vio_blk_info *vio_blk_get_info(const struct vio_blk *b)
{
	return &b->info;
}

uint64_t vio_blk_sectors(const struct vio_blk *b)
{
	return vio_load_relaxed(&b->info.sectors);
}

struct phyp_counters *vio_blk_counters(struct vio_blk *b, unsigned q)
{
	return b->q[q].v.cnt;
}

int vio_blk_alloc(struct vio_blk *b, uint32_t len, struct gla *at, struct vio_err *err)
{
	/* As a page cache or O_DIRECT would place it: a disk that reads into it needs sectors aligned. */
	uint64_t align = len >= 4096 ? 4096 : len >= VIO_SECTOR ? VIO_SECTOR : VIO_CACHE_LINE;
	uint64_t off = VIO_ALIGN_UP(b->buffers.at.v + b->buffers_next, align) - b->buffers.at.v;

	if (len == 0 || !vio_range_ok(off, len, b->buffers.len))
		return vio_err_set(err, -ENOMEM,
				   "no room for an I/O buffer of %u bytes: %" PRIu64 " of %" PRIu64
				   " bytes are taken; ask for more with buffers_len",
				   len, b->buffers_next, b->buffers.len);
	*at = gla_add(b->buffers.at, off);
	b->buffers_next = off + len;
	return 0;
}
