/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the virtio-blk front end, shared by blk*.c and nobody else.
 *
 *   blk.c          open, close, information
 *   blk_setup.c    memory: rings, windows, pool; the queues' parts
 *   blk_path.c     submit, poll
 *   blk_recover.c  what becomes of requests when the server goes, comes back, stops the device
 *
 * What it shares with other devices' front ends, the threads and the gate among it, is in front.h.
 */
#ifndef VIO_GUEST_BLK_PRIV_H
#define VIO_GUEST_BLK_PRIV_H

#include <assert.h>

#include "guest/dev/blk/blk.h"
#include "guest/front/front.h"

#define BLK_BURST         32
#define BLK_DEFAULT_DEPTH 32
#define BLK_DEFAULT_LEN   65536u
/* Status before the device has written one: no value of the specification. */
#define BLK_NO_STATUS 0xffu

/*
 * The part of a request that the device sees besides data. Header and status share one cache line
 * on purpose: the line goes to the server's core once, when it reads the header, is still there
 * when it stores the status, and comes back once, when the guest looks at the status. In lines of
 * their own there would be a transfer more each way. Two requests never share a line.
 */
struct blk_wire {
	struct virtio_blk_outhdr hdr;                 /* device reads */
	struct virtio_blk_discard_write_zeroes range; /* device reads; DISCARD and WRITE_ZEROES */
	uint8_t status;                               /* device writes */
	uint8_t pad[VIO_CACHE_LINE - 33];
};
static_assert(sizeof(struct blk_wire) == VIO_CACHE_LINE, "a line a request");
static_assert(sizeof(struct virtio_blk_outhdr) == 16, "VIRTIO 1.2 5.2.6");

/* A place for a request in flight; private memory. The first line is what a completion needs. */
struct blk_slot {
	struct vio_blk_req *req; /* NULL: free */
	struct blk_wire *wire;
	struct gla wire_at;
	uint32_t seq; /* order of submission, to send again in the same */
	bool has_data;
	bool sent; /* recovery: the device had it */
	struct vio_gbuf buf;
	struct vio_dma_map map;
} __attribute__((aligned(VIO_CACHE_LINE)));

struct blk_queue {
	struct vio_fq v;
	/* Touched by its owner on every call. */
	struct vio_blk *b;
	uint16_t *free; /* stack: the last freed slot is the warmest */
	struct blk_slot *slot;
	uint32_t seq;
	uint16_t n_free;
	/* Finished without the device (refused, given up), not yet returned: a ring of 2 * depth. */
	struct vio_blk_req **ret;
	unsigned ret_head, n_ret;
	/* Outstanding when the device was reset, in order, to be sent again: redo[redo_next..n_redo). */
	uint16_t *redo;
	unsigned n_redo, redo_next;
};

struct vio_blk {
	struct vio_front f;
	struct blk_queue *q;
	struct vio_blk_info info;
	uint8_t identity[20]; /* of the disk, as it was opened */
	uint32_t size_max;    /* largest segment; UINT32_MAX without SIZE_MAX */

	/* The rest is for set-up and recovery. */
	struct vio_blk_cfg cfg;
	struct vio_mem_piece
		area; /* wire parts, bounce buffers, and buffers when the device sees them */
	struct ioba area_at;
	struct vio_mem_piece buffers; /* for vio_blk_alloc() */
	uint32_t bounce_slots;        /* a queue's */
	uint64_t bounce_off, bounce_slot_len, buffers_next;
	uint32_t copybreak;
};

static inline void blk_ret_push(struct blk_queue *q, struct vio_blk_req *r, int result)
{
	r->result = result;
	q->ret[(q->ret_head + q->n_ret++) % (2 * q->b->info.depth)] = r;
}

static inline void blk_slot_free(struct blk_queue *q, struct blk_slot *s)
{
	s->req = NULL;
	q->free[q->n_free++] = (uint16_t)(s - q->slot);
}

/* ---- blk_setup.c ---- */
/* Geometry and limits from config space; -EPROTO when they make no sense. */
int blk_read_config(struct vio_blk *b, struct vio_blk_info *info, uint32_t *size_max,
		    struct vio_err *err);
/* Have the write cache as b->cfg.cache says. After vio_transport_start(). */
int blk_tell_cache(struct vio_blk *b, struct vio_err *err);
/*
 * The disk's size out of config space as it is now. A value that the server is just writing is taken as it
 * is: it is announced when it is written, and taken again. Any thread.
 */
void blk_take_size(struct vio_blk *b);
/* Carve and map everything, once. After vio_transport_start(). */
int blk_setup(struct vio_blk *b, struct vio_err *err);
void blk_teardown(struct vio_blk *b);

/* ---- blk_recover.c ---- */
/* The queue's own part of a restart: inside the gate, when its epoch is not the device's. */
void blk_revive(struct blk_queue *q);
/* Take back a request that is not in the ring: it ends with `result`. */
void blk_release(struct blk_queue *q, struct blk_slot *s, int result);
/* The device will not come back: everything outstanding ends with -EIO. By the queue's owner. */
void blk_give_up(struct blk_queue *q);
/* What recovery asks of a disk. */
extern const struct vio_front_ops blk_front_ops;

#endif
