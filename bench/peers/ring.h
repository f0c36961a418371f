/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a ring, one table a layout: lean, for a driver that polls. A request is always a chain of three: header,
 * data, status. Header and status of a request share a cache line of the driver's. Source: VIRTIO 1.2, 2.7 (split), 2.8 (packed).
 * One thread. No barrier pairs of docs/memory-order.md: the other side is another project's program.
 */
#ifndef VIO_BENCH_PEERS_RING_H
#define VIO_BENCH_PEERS_RING_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_LINE    64u
#define RING_CHAIN   3u
#define RING_SPACING 4u /* descriptors from chain to chain of a split ring: one line each */

struct ring_line {
	struct virtio_blk_outhdr hdr;
	uint8_t status;
	uint8_t padding[47];
};

/* A request as the ring sees it. */
struct ring_io {
	void *data;
	uint64_t sector;
	uint32_t len;
	uint32_t type;  /* VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT */
	uint8_t status; /* when it was taken: VIRTIO_BLK_S_* */
};

struct ring {
	const struct ring_ops *ops;
	unsigned size, slots; /* entries; requests outstanding at most */
	void *desc, *driver, *device;
	struct ring_line *line; /* one a slot */
	struct ring_io **io;    /* of a slot, NULL: free */
	uint16_t *free;         /* slots, a circle of `slots` */
	unsigned free_first, n_free;
	uint16_t next, used; /* split: indices; packed: positions */
	bool wrap, used_wrap;
	uint16_t head, head_flags; /* packed: of the first chain that is not published yet */
	bool unpublished;
};

struct ring_ops {
	const char *name;
	bool packed;
	/* Bytes of the three parts together; where they lie in `mem` (zeroed, page aligned), and what is written once. */
	size_t (*bytes)(unsigned size);
	void (*place)(struct ring *r, void *mem);
	/* One request; the caller has seen that n_free > 0. Not yet seen by the device. */
	void (*add)(struct ring *r, struct ring_io *io);
	void (*publish)(struct ring *r);
	/* Does the device ask to be notified? After publish; costs a full barrier. */
	bool (*wants_kick)(const struct ring *r);
	/* Completed requests, at most max. -EPROTO: the device returned what is not outstanding. */
	int (*take)(struct ring *r, struct ring_io *out[], unsigned max);
};

extern const struct ring_ops ring_split, ring_packed;

/* Bytes of shared memory that a ring and its header lines take. */
size_t ring_bytes(const struct ring_ops *ops, unsigned size);
/* -ENOMEM. mem: zeroed, page aligned, ring_bytes() of it, the caller's. size: a power of two, 4 to 32768. */
int ring_init(struct ring *r, const struct ring_ops *ops, unsigned size, void *mem);
void ring_free(struct ring *r);

/* For the layouts. */
unsigned ring_slot_get(struct ring *r, struct ring_io *io);
struct ring_io *ring_slot_put(struct ring *r, unsigned slot); /* NULL: it is not outstanding */

#endif
