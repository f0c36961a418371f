/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NBD counts bytes, a disk blocks. What is no whole block is read, changed and written back under
 * the disk's lock; most requests are whole blocks and share it.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/nbdkit/disk.h"

/* A request, cut at blocks: `head` bytes that end with their block, whole blocks, `tail` bytes that begin one. */
struct exact_cut {
	uint32_t head, middle, tail;
};

uint32_t vdisk_block(const struct vdisk *d)
{
	uint32_t block = vio_blk_get_info(d->blk)->block_size;

	return block < VIO_SECTOR ? VIO_SECTOR : block; /* short requests: at whole sectors still */
}

static struct exact_cut exact_cut(uint32_t block, uint32_t count, uint64_t offset)
{
	struct exact_cut c = {0, 0, 0};
	uint32_t into = (uint32_t)(offset % block);

	if (into > 0)
		c.head = block - into < count ? block - into : count;
	c.middle = (count - c.head) / block * block;
	c.tail = count - c.head - c.middle;
	return c;
}

static bool whole(const struct exact_cut *c)
{
	return c->head == 0 && c->tail == 0;
}

/* A block for what is less than one. NULL: nbdkit's error is set. */
static uint8_t *block_buffer(uint32_t block)
{
	uint8_t *p = malloc(block);

	if (!p) {
		nbdkit_set_error(ENOMEM);
		nbdkit_error("no memory for a block of %u bytes", block);
	}
	return p;
}

/* `n` bytes at `offset`, inside of one block. */
static int exact_read_part(struct vdisk *d, uint8_t *tmp, void *buf, uint32_t n, uint64_t offset)
{
	uint32_t block = vdisk_block(d), into = (uint32_t)(offset % block);

	if (vdisk_transfer(d, VIRTIO_BLK_T_IN, tmp, NULL, block, offset - into))
		return -1;
	memcpy(buf, tmp + into, n);
	return 0;
}

/* The same for a write; buf NULL: zeroes. With the lock. */
static int write_part(struct vdisk *d, uint8_t *tmp, const void *buf, uint32_t n, uint64_t offset)
{
	uint32_t block = vdisk_block(d), into = (uint32_t)(offset % block);

	if (vdisk_transfer(d, VIRTIO_BLK_T_IN, tmp, NULL, block, offset - into))
		return -1;
	if (buf)
		memcpy(tmp + into, buf, n);
	else
		memset(tmp + into, 0, n);
	return vdisk_transfer(d, VIRTIO_BLK_T_OUT, NULL, tmp, block, offset - into);
}

int vdisk_read(struct vdisk *d, void *buf, uint32_t count, uint64_t offset)
{
	struct exact_cut c = exact_cut(vdisk_block(d), count, offset);
	uint8_t *at = buf, *tmp;
	int rc = 0;

	if (whole(&c))
		return vdisk_transfer(d, VIRTIO_BLK_T_IN, buf, NULL, count, offset);
	tmp = block_buffer(vdisk_block(d));
	if (!tmp)
		return -1;
	if (c.head)
		rc = exact_read_part(d, tmp, at, c.head, offset);
	if (rc == 0 && c.middle)
		rc = vdisk_transfer(d, VIRTIO_BLK_T_IN, at + c.head, NULL, c.middle,
				    offset + c.head);
	if (rc == 0 && c.tail)
		rc = exact_read_part(d, tmp, at + c.head + c.middle, c.tail,
				     offset + c.head + c.middle);
	free(tmp);
	return rc;
}

/* Whole blocks of a write; buf NULL: of a zero. */
static int write_whole(struct vdisk *d, const void *buf, uint32_t count, uint64_t offset,
		       bool unmap)
{
	if (count == 0)
		return 0;
	return buf ? vdisk_transfer(d, VIRTIO_BLK_T_OUT, NULL, buf, count, offset)
		   : vdisk_range(d, VIRTIO_BLK_T_WRITE_ZEROES, unmap, count, offset);
}

static int write_cut(struct vdisk *d, const uint8_t *buf, const struct exact_cut *c,
		     uint64_t offset, bool unmap)
{
	uint64_t tail_at = offset + c->head + c->middle;
	uint8_t *tmp = block_buffer(vdisk_block(d));
	int rc = tmp ? 0 : -1;

	if (rc == 0 && c->head)
		rc = write_part(d, tmp, buf, c->head, offset);
	if (rc == 0)
		rc = write_whole(d, buf ? buf + c->head : NULL, c->middle, offset + c->head, unmap);
	if (rc == 0 && c->tail)
		rc = write_part(d, tmp, buf ? buf + c->head + c->middle : NULL, c->tail, tail_at);
	free(tmp);
	return rc;
}

static int write_any(struct vdisk *d, const void *buf, uint32_t count, uint64_t offset, bool unmap)
{
	struct exact_cut c = exact_cut(vdisk_block(d), count, offset);
	int rc;

	if (vdisk_lock(d, !whole(&c)))
		return -1;
	if (whole(&c))
		rc = write_whole(d, buf, count, offset, unmap);
	else
		rc = write_cut(d, buf, &c, offset, unmap);
	vdisk_unlock(d);
	return rc;
}

int vdisk_write(struct vdisk *d, const void *buf, uint32_t count, uint64_t offset)
{
	return write_any(d, buf, count, offset, false);
}

int vdisk_zero(struct vdisk *d, uint32_t count, uint64_t offset, bool unmap)
{
	return write_any(d, NULL, count, offset, unmap);
}

int vdisk_trim(struct vdisk *d, uint32_t count, uint64_t offset)
{
	struct exact_cut c = exact_cut(vdisk_block(d), count, offset);
	int rc = 0;

	if (vdisk_lock(d, false))
		return -1;
	if (c.middle)
		rc = vdisk_range(d, VIRTIO_BLK_T_DISCARD, false, c.middle, offset + c.head);
	vdisk_unlock(d);
	return rc;
}
