/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver side of a virtqueue, split or packed (VIRTIO 1.2, sections 2.7 and 2.8): event index, indirect descriptors,
 * and publishing in batches. One thread owns a queue. Indices are kept privately; of what the
 * device writes, each field is read once and checked.
 *
 * Descriptors are handed out in groups of four (one 64-byte line), not from a free list of single
 * ones: a block request of three descriptors then always lies in one line, and the device needs one
 * line transfer for a chain instead of up to three. The last freed group is used again first,
 * because its line is still in this core's cache. A longer chain takes several groups, linked. The
 * number of requests outstanding is therefore at most size/4 (without indirect).
 *
 * A network queue's chains are of one descriptor: there a group is one descriptor, so that a line
 * holds four chains and size of them can be outstanding. Descriptors are then handed out in a
 * circle instead: with a device that completes in order the available ring's entries never change,
 * and their lines stay where the device has them.
 */
#ifndef VIO_GUEST_VRING_H
#define VIO_GUEST_VRING_H

#include <linux/virtio_ring.h>

#include "guest/dma/dma.h"
#include "vio/err.h"

struct vio_vring_cfg {
	uint16_t size; /* power of two, 4..32768 */
	uint8_t group; /* descriptors a group: 4 (0 is 4 too) or 1 */
	bool event_idx;
	bool indirect;
	/*
	 * Those agreed on that choose the layout. VIRTIO_F_RING_PACKED (VIRTIO 1.2, section 2.8): desc is the ring, avail and used are the
	 * event suppression of driver and device. VIRTIO_F_IN_ORDER (2.7.9, 2.8.9): descriptors are taken in the order of the ring and come back
	 * in it. Others are not looked at.
	 */
	uint64_t features;
	/* Ring memory, zeroed by init; aligned to VIO_CACHE_LINE. */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	/* indirect: vio_vring_tables_bytes(), size/group tables of VIO_DMA_MAX_SEG descriptors; their IOBA */
	struct vring_desc *tables;
	struct ioba tables_at;
};

struct vio_vring;

/* With these features, does the device write the memory at desc? */
bool vio_vring_desc_written(uint64_t features);
/* -EINVAL (size, alignment), -ENOMEM. Owned by the caller until vio_vring_free(). */
int vio_vring_new(const struct vio_vring_cfg *cfg, struct vio_vring **out, struct vio_err *err);
void vio_vring_free(struct vio_vring *vr);
/* Bytes and alignments of the three parts for `size` entries (VIRTIO 1.2 2.7: 16N, 6+2N, 6+8N). */
static inline uint64_t vio_vring_desc_bytes(uint16_t size)
{
	return 16ull * size;
}
static inline uint64_t vio_vring_avail_bytes(uint16_t size)
{
	return 6ull + 2ull * size;
}
static inline uint64_t vio_vring_used_bytes(uint16_t size)
{
	return 6ull + 8ull * size;
}

static inline uint64_t vio_vring_tables_bytes(uint16_t size, uint8_t group)
{
	return size / (group == 1 ? 1u : 4u) * (uint64_t)VIO_DMA_MAX_SEG *
	       sizeof(struct vring_desc);
}

/*
 * Make a chain of the mapped segments (device-readable ones first) and put it into the available
 * ring; not visible to the device before publish. `token` comes back with the used element, never
 * NULL. -ENOSPC: no descriptors now.
 */
int vio_vring_add(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n, void *token);
/*
 * Chains of one segment each: what vio_vring_add() would do for each of them. There is room for all
 * (counted with vio_vring_room()), no length is 0, no token NULL.
 */
struct vio_vring_one {
	struct ioba at;
	uint32_t len;
	void *token;
};
void vio_vring_add_ones(struct vio_vring *vr, const struct vio_vring_one one[], unsigned n,
			bool dev_writes);
/*
 * Make everything added since the last publish visible. Returns whether the device wants a kick
 * (always false when nothing was added).
 */
bool vio_vring_publish(struct vio_vring *vr);

/*
 * The same for a caller that kicks whatever the device wishes (level crq): no fence and no look at
 * its wish. Returns whether there was anything.
 */
bool vio_vring_publish_always(struct vio_vring *vr);

struct vio_used {
	void *token;
	uint32_t len;
};
/*
 * Take used elements, at most max. -EPROTO: the device returned an id that is not outstanding or an
 * index out of bounds; the queue is unusable then.
 */
int vio_vring_take(struct vio_vring *vr, struct vio_used *out, unsigned max);
/* Ask for used-buffer notifications, then look once more: true = there is something, don't sleep. */
bool vio_vring_arm(struct vio_vring *vr);
/* Stop asking (polling); call now and then while polling, it also keeps a parked event index ahead. Cheap. */
void vio_vring_park(struct vio_vring *vr);
unsigned vio_vring_outstanding(const struct vio_vring *vr);
/* Something used and not yet taken? One load. */
bool vio_vring_has_used(const struct vio_vring *vr);
/* Chains that fit now, of up to `n_seg` segments. */
unsigned vio_vring_room(const struct vio_vring *vr, unsigned n_seg);
/* Forget everything outstanding and zero the ring memory (after a device reset). */
void vio_vring_reset(struct vio_vring *vr);

#endif
