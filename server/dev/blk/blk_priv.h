/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio-blk, inside: blk_kind.c has its life, blk_config.c what it offers, blk_parse.c makes requests of chains, blk.c is their way. */
#ifndef VIO_SERVER_BLK_PRIV_H
#define VIO_SERVER_BLK_PRIV_H

#include <linux/virtio_blk.h>

#include "server/dev/blk/blk.h"

#define VIO_BLK_SECTOR 512u
/* Ranges in one DISCARD or WRITE_ZEROES: they are kept where r->iov is, which these don't use. */
#define VIO_BLK_MAX_RANGES 32u
static_assert(VIO_BLK_MAX_RANGES * sizeof(struct virtio_blk_discard_write_zeroes) <=
		      sizeof(((struct vio_req *)0)->iov),
	      "the ranges have room");

static_assert(sizeof(struct virtio_blk_outhdr) <= VIO_REQ_HDR, "a header has room");

/* vio_req.kind */
enum vio_blk_kind { VIO_BLK_RW, VIO_BLK_FLUSH, VIO_BLK_GET_ID, VIO_BLK_RANGES };

static inline struct vio_disk_queue *vio_disk_queue_of(const struct vio_squeue *q)
{
	return vio_container_of(q->dq, struct vio_disk_queue, dq);
}

/* How often the disk was resumed. */
static inline uint8_t vio_blk_epoch(const struct vio_squeue *q)
{
	return vio_load_relaxed(&vio_container_of(q->dq->dev, struct vio_disk, dev)->epoch);
}

/* The kind's slots of these names (server/core/device.h), of a struct vio_disk. */
uint64_t vio_blk_features(const struct vio_device *dev);
uint16_t vio_blk_config(const struct vio_device *dev, uint16_t num_queues, uint8_t *out);
void vio_blk_negotiated(struct vio_device *dev, uint64_t features);
bool vio_blk_config_set(struct vio_device *dev, uint64_t features, uint16_t off, uint8_t len,
			uint64_t value);
uint8_t vio_blk_start(struct vio_device *dev, uint64_t features, uint64_t queues);
/* Sectors in one range, and ranges in one request, that this disk takes. */
uint32_t vio_blk_max_range(const struct vio_backend *be);
uint32_t vio_blk_max_ranges(const struct vio_backend *be);
/*
 * True: a request for the disk (GET_ID: for its data to be mapped). False: it is finished, with
 * r->io.result, or it has a fault. Owning lcore.
 */
bool vio_blk_parse(struct vio_squeue *q, struct vio_req *r, const struct vio_backend *be);
/* A store that can't now (the disk is stopped, or requests wait for room): they wait, in order. False: it can. */
bool vio_blk_wait(struct vio_squeue *q, struct vio_req *const r[], unsigned n);
/* May those that wait be begun? Says in q->parked how many must not. */
bool vio_blk_may_begin(struct vio_squeue *q);
/*
 * The store has failed r, and its queue does not end. True: the disk stops at that, and r waits to be done again; false: it
 * is answered.
 */
bool vio_blk_hold(struct vio_squeue *q, struct vio_req *r);
/* Any thread. Into text: "running", or "stopped: ERRNO OPERATION SECTOR" and true. */
bool vio_blk_stopped(const struct vio_disk *d, char *text, size_t len);
/* Any thread. The disk runs again, and its queues are to be woken; false: it was not stopped. */
bool vio_blk_resume(struct vio_disk *d);
/* Range r->range of the request into r->io. It was judged before. */
void vio_blk_load_range(struct vio_req *r);

#endif
