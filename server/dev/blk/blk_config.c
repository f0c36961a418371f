/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk (VIRTIO 1.2, section 5.2): what the device offers, and what was agreed. */
#include <endian.h>
#include <string.h>

#include "server/dev/blk/blk_priv.h"

#define BLK_SIZE_MAX (64u << 10)
#define SECTOR       VIO_BLK_SECTOR

static struct vio_backend *store_of(const struct vio_device *dev)
{
	return vio_container_of(dev, struct vio_disk, dev)->be;
}

uint64_t vio_blk_features(const struct vio_device *dev)
{
	const struct vio_backend *be = store_of(dev);
	uint64_t f = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX |
		     1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
		     1ull << VIRTIO_BLK_F_MQ;

	if (be->read_only)
		f |= 1ull << VIRTIO_BLK_F_RO;
	if (be->can_flush)
		f |= 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	if (be->can_discard && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (be->can_zero && !be->read_only)
		f |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return f;
}

/* Bytes that the disk writes or forgets in one piece. Blocks below a sector (vio_spec_short()) have none. */
static uint32_t physical_block(const struct vio_backend *be)
{
	uint32_t least = be->block_size > SECTOR ? be->block_size : SECTOR;

	return be->physical > least ? be->physical : least;
}

uint16_t vio_blk_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out)
{
	const struct vio_backend *be = store_of(dev);
	struct virtio_blk_config c;
	const uint16_t len = offsetof(struct virtio_blk_config, max_secure_erase_sectors);
	const uint32_t blocks = physical_block(be) / be->block_size;

	memset(&c, 0, sizeof(c));
	c.capacity = vio_le64(vio_load_relaxed(&be->size) / SECTOR);
	/*
	 * Their product is what one request may carry, so that a driver that keeps to both never
	 * makes a larger one. Segments of 64 KiB, because a kernel with pages of that size makes none smaller,
	 * whatever size_max says.
	 */
	c.size_max = vio_le32(BLK_SIZE_MAX);
	c.seg_max = vio_le32(VIO_MAX_DATA / BLK_SIZE_MAX);
	c.blk_size = vio_le32(be->block_size);
	c.physical_block_exp = (uint8_t)(31 - __builtin_clz(blocks));
	c.min_io_size = vio_le16((uint16_t)blocks);
	c.wce = be->can_flush && !vio_load_relaxed(&be->write_through);
	c.num_queues = vio_le16(num_queues);
	if (be->can_discard && !be->read_only) {
		c.max_discard_sectors = vio_le32(vio_blk_max_range(be));
		c.max_discard_seg = vio_le32(vio_blk_max_ranges(be));
		c.discard_sector_alignment = vio_le32(physical_block(be) / SECTOR);
	}
	if (be->can_zero && !be->read_only) {
		c.max_write_zeroes_sectors = vio_le32(vio_blk_max_range(be));
		c.max_write_zeroes_seg = vio_le32(vio_blk_max_ranges(be));
		c.write_zeroes_may_unmap = be->can_unmap;
	}
	static_assert(sizeof(c) <= VIO_MAX_CONFIG, "config space fits");
	memcpy(out, &c, len);
	return len;
}

/* 5.2.6.2: who can't flush must find every write that was answered after a loss of power. */
void vio_blk_negotiated(struct vio_device *dev, uint64_t features)
{
	struct vio_backend *be = store_of(dev);

	vio_store_relaxed(&be->write_through,
			  be->can_flush &&
				  (be->cache_off || !(features & 1ull << VIRTIO_BLK_F_FLUSH)));
}

bool vio_blk_config_set(struct vio_device *dev, uint64_t features, uint16_t off, uint8_t len,
			uint64_t value)
{
	struct vio_backend *be = store_of(dev);

	if (!(features & 1ull << VIRTIO_BLK_F_CONFIG_WCE) ||
	    off != offsetof(struct virtio_blk_config, wce) || len != 1 || value > 1)
		return false;
	if (value == 1 && !(features & 1ull << VIRTIO_BLK_F_FLUSH))
		return false; /* nothing that it wrote could ever be made durable */
	vio_store_relaxed(&be->write_through, value == 0);
	return true;
}

uint8_t vio_blk_start(struct vio_device *dev, uint64_t features, uint64_t queues)
{
	/* 5.2.2: without MQ there is one queue. */
	if (!(features & 1ull << VIRTIO_BLK_F_MQ) && queues != 1)
		return VIO_ST_QUEUE;
	/* With CONFIG_WCE the driver may have said more since FEATURES_OK. */
	if (!(features & 1ull << VIRTIO_BLK_F_CONFIG_WCE))
		vio_blk_negotiated(dev, features);
	return VIO_ST_OK;
}
