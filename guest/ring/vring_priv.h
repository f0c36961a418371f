/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the driver side of virtqueues: what its layouts share. vring.c has the table of them. A
 * packed ring uses the same struct: desc is its ring, avail and used are the words of driver and device, the indices count
 * descriptors and run free (vq/packed.h), a group is a buffer id with its n_groups descriptors from index `next` on.
 */
#ifndef VIO_GUEST_VRING_PRIV_H
#define VIO_GUEST_VRING_PRIV_H

#include <stddef.h>

#include "guest/ring/vring.h"
#include "vio/atomics.h"

#define LINE_DESCS 4u /* descriptors in one cache line: a group, unless it is a single descriptor */

/* Two doublewords of a descriptor as they lie in memory: the address; length, flags and next. */
struct desc_words {
	uint64_t w[2];
};

/* A group of descriptors; as the head of a chain it holds what the chain is. */
struct group {
	void *token;       /* not NULL: the head of a chain that is outstanding */
	uint16_t n_groups; /* in the chain that begins here */
	uint16_t next;     /* the chain's next group */
	uint32_t may;      /* in order: bytes that the device may write into it */
};

struct vio_vring {
	/* One line with all that each call touches; written by the queue's thread only. */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct group *group;
	uint16_t *free; /* free groups: a stack; or, of single descriptors, a circle */
	uint16_t n_free;
	uint16_t first_free; /* of the circle */
	uint16_t mask;
	uint16_t avail_idx; /* next entry to write */
	uint16_t published; /* avail->idx as the device sees it */
	uint16_t last_used;
	uint16_t parked_at;
	uint16_t size;
	uint8_t shift; /* binary logarithm of a group's descriptors */
	bool event_idx, indirect, parked, broken;
	/* Second line: fixed addresses. */
	const struct vring_layout *layout;
	struct desc_words *shadow; /* what the descriptor table holds */
	uint16_t *avail_shadow;    /* what the available entries hold, host order */
	uint16_t *avail_event, *used_event;
	struct vring_desc *tables;
	struct ioba tables_at;
	/* Packed: the word that makes the first chain since the last publish visible; chains outstanding. */
	uint64_t first_tail;
	uint16_t n_chains;
	/* In order (vring_order.h): the oldest chain; the last used length that was read, and of how many chains; split: descriptors. */
	uint16_t first, ready;
	uint32_t ready_len;
	uint16_t next_desc, n_desc;
} __attribute__((aligned(VIO_CACHE_LINE)));

_Static_assert(offsetof(struct vio_vring, layout) == VIO_CACHE_LINE,
	       "the hot fields fill the first line");
_Static_assert(sizeof(struct vring_desc) * LINE_DESCS == VIO_CACHE_LINE, "a group is a line");

/* A group for a new chain; there is one. The one freed last, or the one freed longest ago. */
static inline uint16_t group_get(struct vio_vring *vr)
{
	if (vr->shift)
		return vr->free[--vr->n_free];
	vr->n_free--;
	return vr->free[vr->first_free++ & vr->mask];
}

static inline void group_put(struct vio_vring *vr, uint16_t g)
{
	const unsigned end = (unsigned)vr->first_free + vr->n_free;

	vr->free[vr->shift ? vr->n_free : end & vr->mask] = g;
	vr->n_free++;
}

/* Length, flags and next are one little-endian doubleword: three fields in one store. */
static inline uint64_t tail_word(uint32_t len, uint16_t flags, uint16_t next)
{
	return vio_le64((uint64_t)len | (uint64_t)flags << 32 | (uint64_t)next << 48);
}

static inline void desc_store(struct vring_desc *d, unsigned word, uint64_t v)
{
	vio_store_relaxed((uint64_t *)(void *)d + word, v);
}

static inline uint16_t seg_flags(const struct vio_dma_seg *s, bool last)
{
	return (uint16_t)((s->dev_writes ? VRING_DESC_F_WRITE : 0) |
			  (last ? 0 : VRING_DESC_F_NEXT));
}

/* From now on nothing is added, and every take says so. */
static inline int vring_give_up(struct vio_vring *vr)
{
	vr->broken = true;
	vr->n_free = 0;
	return -EPROTO;
}

/* A layout: what vring.h says of each function. One call by pointer a burst, but for add. */
struct vring_layout {
	bool desc_written;                   /* the device writes the descriptors' memory too */
	void (*start)(struct vio_vring *vr); /* what the layout has besides what all share */
	int (*add)(struct vio_vring *vr, const struct vio_dma_seg *seg, unsigned n, void *token);
	void (*add_ones)(struct vio_vring *vr, const struct vio_vring_one one[], unsigned n,
			 bool dev_writes);
	bool (*publish)(struct vio_vring *vr);
	bool (*publish_always)(struct vio_vring *vr);
	int (*take)(struct vio_vring *vr, struct vio_used *out, unsigned max);
	bool (*arm)(struct vio_vring *vr);
	void (*park)(struct vio_vring *vr);
	bool (*has_used)(const struct vio_vring *vr);
	unsigned (*outstanding)(const struct vio_vring *vr);
	unsigned (*room)(const struct vio_vring *vr, unsigned n_seg);
};

extern const struct vring_layout vring_split, vring_packed, vring_split_in_order,
	vring_packed_in_order;

#endif
